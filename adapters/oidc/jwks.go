package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// The bounds of what is kept of providers' keys.
const (
	maxKeySets = 256              // sets
	maxKeys    = 100              // keys that one set may list
	keysFresh  = time.Hour        // until a set is read again though nothing misses in it: a withdrawn key must stop counting
	keysUsable = 24 * time.Hour   // how long the last good set serves while the provider does not answer
	keysPause  = 60 * time.Second // between two readings for the sake of a token that no key verifies
)

// publicKey is one key of a provider.
type publicKey struct {
	id         string
	algorithms []string // that it may verify: what it declares, or what its type can
	public     crypto.PublicKey
}

// keyCache keeps the key sets of providers. The zero value lacks only fetch.
type keyCache struct {
	fetch func(ctx context.Context, url, ca string) ([]byte, error)

	mu   sync.Mutex
	sets map[source]*keySet
}

// source is where a set comes from. The certificates belong to it: an answer that one tenant's authority vouches for is
// nothing that another tenant should believe.
type source struct{ url, ca string }

// keySet is the keys of one source. Whoever holds turn reads and writes the rest; it is a channel so that a wait for a slow
// provider ends with the request that waits.
type keySet struct {
	turn  chan struct{}
	used  time.Time // guarded by keyCache.mu
	keys  []publicKey
	read  time.Time // when keys were read
	tried time.Time // the last attempt
}

var (
	errNoKey     = errors.New("none of the keys that the provider publishes verifies it")
	errAlgorithm = errors.New("its algorithm is not one that the provider promises for its keys")
)

// verify checks the signature of a token that core/token.Strict has split, whose header names alg and, mostly, a key. A
// token that no known key verifies has the set read again, at most once in keysPause: providers rotate keys, and strangers
// send junk. errNoKey: the token is bad. core.Unavailable, core.Invalid: the keys cannot be had.
func (k *keyCache) verify(ctx context.Context, at source, raw, alg, id string, now time.Time) error {
	set := k.set(at, now)
	select {
	case set.turn <- struct{}{}:
		defer func() { <-set.turn }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the provider's keys: %w", core.Unavailable)
	}
	if err := k.refresh(ctx, at, set, now, keysFresh); err != nil {
		return err
	}
	err := set.check(ctx, raw, alg, id)
	if err == nil || !set.read.Before(now) {
		return err
	}
	if again := k.refresh(ctx, at, set, now, 0); again != nil {
		return again
	}
	return set.check(ctx, raw, alg, id)
}

// set finds or makes the set of a source, which may cost another one its place.
func (k *keyCache) set(at source, now time.Time) *keySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	set := k.sets[at]
	if set == nil {
		if k.sets == nil {
			k.sets = map[source]*keySet{}
		}
		if len(k.sets) >= maxKeySets {
			var oldest source
			for s, o := range k.sets {
				if old := k.sets[oldest]; old == nil || o.used.Before(old.used) {
					oldest = s
				}
			}
			delete(k.sets, oldest)
		}
		set = &keySet{turn: make(chan struct{}, 1)}
		k.sets[at] = set
	}
	set.used = now
	return set
}

// refresh reads a set that is older than fresh, but not within keysPause of the last attempt. Where that fails, the last
// good set goes on for keysUsable.
func (k *keyCache) refresh(ctx context.Context, at source, set *keySet, now time.Time, fresh time.Duration) error {
	age := now.Sub(set.read)
	if set.keys != nil && (age < fresh || now.Sub(set.tried) < keysPause) {
		return nil
	}
	set.tried = now
	document, err := k.fetch(ctx, at.url, at.ca)
	if err == nil {
		var keys []publicKey
		if keys, err = parseKeys(document); err == nil {
			set.keys, set.read = keys, now
			return nil
		}
	}
	if ctx.Err() != nil {
		set.tried = time.Time{} // the browser went away: that says nothing about the provider
	}
	if set.keys != nil && age < keysUsable {
		return nil
	}
	return err
}

// check tries the keys that a token may be signed with. Several keys may have one id (RFC 7517 §4.5); a token that names no
// key may be any key's. The algorithm is the key's affair: the token can only agree.
func (s *keySet) check(ctx context.Context, raw, alg, id string) error {
	why := errNoKey
	for _, key := range s.keys {
		if id != "" && key.id != id {
			continue
		}
		if !slices.Contains(key.algorithms, alg) {
			why = errAlgorithm
			continue
		}
		one := oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key.public}}
		if _, err := one.VerifySignature(ctx, raw); err == nil {
			return nil
		}
		why = errNoKey
	}
	return why
}

// parseKeys reads a JSON Web Key Set (RFC 7517 §5). Keys that are not for verifying signatures, or that nobody should trust
// (symmetric, private, weak), are passed over, as §5 asks for what is not understood. A set with none left, too many, or
// that is malformed is core.Unavailable: the one before stays in force.
func parseKeys(document []byte) ([]publicKey, error) {
	unusable := func(why string) ([]publicKey, error) {
		return nil, fmt.Errorf("the provider's key set (jwks_uri) %s: %w", why, core.Unavailable)
	}
	set, err := read(document)
	if err != nil || set["keys"].Kind() != '[' {
		return unusable("is no JSON Web Key Set")
	}
	var list []jsontext.Value
	if err := json.Unmarshal(set["keys"], &list); err != nil {
		return unusable("is no JSON Web Key Set")
	}
	if len(list) > maxKeys {
		return unusable(fmt.Sprintf("has more than %d keys", maxKeys))
	}
	keys := []publicKey{}
	for _, v := range list {
		if v.Kind() != '{' {
			continue
		}
		if members, err := read(v); err == nil {
			if key, ok := parseKey(members); ok {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return unusable("has no key that signatures can be verified with")
	}
	return keys, nil
}

// The bounds of RSA moduli, in bits: below, they can be factored (NIST SP 800-131A); above, verifying costs too much.
const minRSA, maxRSA = 2048, 8192

func parseKey(o object) (publicKey, bool) {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := o[private]; ok {
			return publicKey{}, false
		}
	}
	id, ok1 := o.str("kid")
	use, ok2 := o.str("use")
	alg, ok3 := o.str("alg")
	kty, ok4 := o.str("kty")
	ops, ok5 := o.strs("key_ops", false)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || use != "" && use != "sig" || ops != nil && !slices.Contains(ops, "verify") {
		return publicKey{}, false
	}
	key := publicKey{id: id}
	switch kty {
	case "RSA":
		key.public, key.algorithms = parseRSA(o), algorithms[:6]
	case "EC":
		var curve string
		if key.public, curve = parseEC(o); curve != "" {
			key.algorithms = []string{curve}
		}
	case "OKP":
		key.public, key.algorithms = parseOKP(o), []string{"EdDSA"}
	}
	if alg == "Ed25519" { // RFC 9864 §2.2: the name that says which curve
		alg = "EdDSA"
	}
	if alg != "" {
		if !slices.Contains(key.algorithms, alg) {
			return publicKey{}, false
		}
		key.algorithms = []string{alg}
	}
	return key, key.public != nil
}

// bytes reads a member of unpadded base64url.
func (o object) bytes(name string) []byte {
	s, ok := o.str(name)
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if !ok || err != nil {
		return nil
	}
	return b
}

func parseRSA(o object) crypto.PublicKey {
	n, e := new(big.Int).SetBytes(o.bytes("n")), new(big.Int).SetBytes(o.bytes("e"))
	if n.BitLen() < minRSA || n.BitLen() > maxRSA || n.Bit(0) == 0 || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

func parseEC(o object) (crypto.PublicKey, string) {
	crv, _ := o.str("crv")
	for _, c := range []struct {
		crv, alg string
		curve    elliptic.Curve
	}{{"P-256", "ES256", elliptic.P256()}, {"P-384", "ES384", elliptic.P384()}, {"P-521", "ES512", elliptic.P521()}} {
		size := (c.curve.Params().BitSize + 7) / 8
		x, y := o.bytes("x"), o.bytes("y")
		if c.crv != crv || len(x) != size || len(y) != size {
			continue
		}
		if key, err := ecdsa.ParseUncompressedPublicKey(c.curve, slices.Concat([]byte{4}, x, y)); err == nil {
			return key, c.alg
		}
	}
	return nil, ""
}

func parseOKP(o object) crypto.PublicKey {
	crv, _ := o.str("crv")
	if x := o.bytes("x"); crv == "Ed25519" && len(x) == ed25519.PublicKeySize {
		return ed25519.PublicKey(x)
	}
	return nil
}
