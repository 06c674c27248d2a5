package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/strict"
)

// PublicKey is a public key that signatures are verified with: a JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) of which
// only what is understood was kept.
type PublicKey struct {
	Type      string `json:"kty"`
	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"alg,omitempty"` // the only one that it verifies; empty: those of its type
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

// Algorithms are those that a key may be used with, in the order in which metadata lists them. None with a shared secret: then
// whoever can verify a token can make one.
var Algorithms = []string{"ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"}

// methods are golang-jwt's implementations. There is no way to another from a token's header.
var methods = map[string]jwt.SigningMethod{
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "EdDSA": jwt.SigningMethodEdDSA,
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": jwt.SigningMethodPS256, "PS384": jwt.SigningMethodPS384, "PS512": jwt.SigningMethodPS512,
}

// algorithms are those that a key of that type and curve can verify.
func algorithms(kty, crv string) []string {
	switch {
	case kty == "EC" && crv == "P-256":
		return Algorithms[:1]
	case kty == "EC" && crv == "P-384":
		return Algorithms[1:2]
	case kty == "RSA":
		return Algorithms[2:8]
	case kty == "OKP" && crv == "Ed25519":
		return Algorithms[8:]
	}
	return nil
}

// The bounds of RSA moduli, in bits: below, they can be factored (NIST SP 800-131A); above, verifying costs too much.
const minRSA, maxRSA = 2048, 8192

const maxKeySet = 24 << 10 // bytes of a set that is given by hand

// ParseKeys reads a JSON Web Key Set (RFC 7517 §5) that an administrator gives: 1 to most public keys, each with another id if
// there are several. A key that must not be published, that is weak, or that is for something else is core.Invalid and
// named: whoever gives one by hand should hear of it. Members that are not understood are left out, as §4 asks.
func ParseKeys(field string, set []byte, most int) ([]PublicKey, error) {
	members, err := strict.Object(set, maxKeySet)
	if err != nil {
		return nil, core.BadField(field, fmt.Sprintf("must be a JSON Web Key Set of at most %d bytes, in which nothing appears twice", maxKeySet))
	}
	var list []jsontext.Value
	if members["keys"].Kind() != '[' || json.Unmarshal(members["keys"], &list) != nil || len(list) == 0 {
		return nil, core.BadField(field, `must be a JSON Web Key Set: {"keys": [...]} with at least one key`)
	}
	if len(list) > most {
		return nil, core.BadField(field, fmt.Sprintf("has more than %d keys", most))
	}
	keys := make([]PublicKey, 0, len(list))
	for i, v := range list {
		at := fmt.Sprintf("%s.keys[%d]", field, i)
		k, err := parseKey(at, v)
		if err != nil {
			return nil, err
		}
		if k.ID == "" && len(list) > 1 {
			return nil, core.BadField(at+".kid", "is missing; where there are several keys each needs an id")
		}
		if slices.ContainsFunc(keys, func(o PublicKey) bool { return o.ID == k.ID }) {
			return nil, core.BadField(at+".kid", "is that of another key in the set")
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// secretMembers are those of private and of symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
var secretMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

func parseKey(at string, v jsontext.Value) (PublicKey, error) {
	bad := func(member, fix string) (PublicKey, error) { return PublicKey{}, core.BadField(at+member, fix) }
	var o map[string]jsontext.Value
	if v.Kind() != '{' || json.Unmarshal(v, &o) != nil {
		return bad("", "must be an object")
	}
	for _, name := range secretMembers {
		if _, ok := o[name]; ok {
			return bad("."+name, "belongs to a private or a shared key; give the public one, and take this one out of use, since it has been shown")
		}
	}
	var k PublicKey
	var use string
	for _, m := range []struct {
		name string
		to   *string
	}{{"kty", &k.Type}, {"kid", &k.ID}, {"alg", &k.Algorithm}, {"use", &use}, {"crv", &k.Curve}, {"x", &k.X}, {"y", &k.Y}, {"n", &k.N}, {"e", &k.E}} {
		raw, ok := o[m.name]
		if !ok {
			continue
		}
		s, ok := text(raw)
		if !ok || len(s) > 2048 {
			return bad("."+m.name, "must be a string, of at most 2048 bytes")
		}
		*m.to = s
	}
	if use != "" && use != "sig" {
		return bad(".use", "must be sig, or left out")
	}
	if ops, ok := o["key_ops"]; ok {
		var list []string
		if json.Unmarshal(ops, &list) != nil || !slices.Contains(list, "verify") {
			return bad(".key_ops", "must hold verify, or be left out")
		}
	}
	if len(k.ID) > maxTokenID || !printable(k.ID) {
		return bad(".kid", fmt.Sprintf("must be text that prints, of at most %d bytes", maxTokenID))
	}
	if k.Algorithm == "Ed25519" { // RFC 9864 §2.2: the name that says which curve
		k.Algorithm = "EdDSA"
	}
	if public, _ := k.public(); public == nil {
		return bad("", fmt.Sprintf("must be a public key of P-256 or P-384, Ed25519, or RSA of %d to %d bits, whole and on its curve", minRSA, maxRSA))
	}
	if k.Algorithm != "" && !slices.Contains(algorithms(k.Type, k.Curve), k.Algorithm) {
		return bad(".alg", "must be one for a key of this type: "+strings.Join(algorithms(k.Type, k.Curve), ", "))
	}
	return k, nil
}

// public is the key, and what it may verify. Of what is no good key, nil.
func (k PublicKey) public() (crypto.PublicKey, []string) {
	algs := algorithms(k.Type, k.Curve)
	if k.Algorithm != "" && slices.Contains(algs, k.Algorithm) {
		algs = []string{k.Algorithm}
	}
	switch {
	case k.Type == "RSA":
		return parseRSA(k.N, k.E), algs
	case k.Type == "EC" && k.Curve == "P-256":
		return parseEC(elliptic.P256(), k.X, k.Y), algs
	case k.Type == "EC" && k.Curve == "P-384":
		return parseEC(elliptic.P384(), k.X, k.Y), algs
	case k.Type == "OKP" && k.Curve == "Ed25519":
		if x := octets(k.X); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x), algs
		}
	}
	return nil, nil
}

// octets reads unpadded base64url in its one canonical spelling.
func octets(s string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil
	}
	return b
}

// The parsers return a nil interface where there is no good key, never a nil pointer in one.

func parseRSA(modulus, exponent string) crypto.PublicKey {
	n, e := new(big.Int).SetBytes(octets(modulus)), new(big.Int).SetBytes(octets(exponent))
	if n.BitLen() < minRSA || n.BitLen() > maxRSA || n.Bit(0) == 0 || e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

func parseEC(curve elliptic.Curve, x, y string) crypto.PublicKey {
	size := (curve.Params().BitSize + 7) / 8
	xs, ys := octets(x), octets(y)
	if len(xs) != size || len(ys) != size {
		return nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, xs, ys))
	if err != nil {
		return nil
	}
	return key
}

// verify checks a signature against the keys that may have made it: the one that the header names, or, if it names none, any.
func verify(keys []PublicKey, alg, kid, signed string, signature []byte) error {
	why := "unknown key"
	for _, k := range keys {
		if kid != "" && k.ID != kid {
			continue
		}
		public, algs := k.public()
		if public == nil || !slices.Contains(algs, alg) {
			why = "not the key's algorithm"
			continue
		}
		if methods[alg].Verify(signed, signature, public) == nil {
			return nil
		}
		why = "signature"
	}
	return refuse(why)
}
