package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The partition of a tenant's keys holds one record per signing key, by its kid, and three more. A kid is 43 characters
// long, so it is never one of these.
const (
	anchorID = "ring" // an anchor: every change of the partition writes it, so changes of one tenant serialize
	macID    = "mac"  // a record without public key: the tenant's MAC secret
	sealID   = "seal" // likewise, in a tenant that keeps secrets of others: its sealing key
)

// anchor orders the changes of a tenant's keys and remembers when Rotate is to run next.
type anchor struct {
	NextAt time.Time `json:"nextAt"`
}

// record is a key at rest.
type record struct {
	Algorithm   Algorithm `json:"algorithm,omitempty"` // empty for the MAC secret and the sealing key
	Public      []byte    `json:"public,omitempty"`    // PKIX, DER
	Wrapped     []byte    `json:"wrapped,omitempty"`   // PKCS#8, DER, or the secret's bytes, wrapped; none once revoked
	PublishedAt time.Time `json:"publishedAt"`
	ActiveAt    time.Time `json:"activeAt"`
	SignsUntil  time.Time `json:"signsUntil,omitzero"` // when its successor takes over; zero: there is none yet
	RetiredAt   time.Time `json:"retiredAt,omitzero"`  // when the last token that it signed has expired everywhere
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
}

var (
	records store.Table[record]
	anchors store.Table[anchor]
)

// until sets when the key stops signing, and with that when it retires. The zero time takes both back.
func (r *record) until(t time.Time) {
	r.SignsUntil, r.RetiredAt = t, time.Time{}
	if !t.IsZero() {
		r.RetiredAt = t.Add(CacheTTL + MaxTokenLife + Skew)
	}
}

// published says whether the key is in the JWKS: verifiers accept what it signed. It is from the moment that the record is
// there, by whatever clock.
func (r *record) published(now time.Time) bool { return r.RevokedAt.IsZero() && !r.retired(now) }

func (r *record) retired(now time.Time) bool {
	return !r.RetiredAt.IsZero() && !now.Before(r.RetiredAt)
}

// key is a record with what was made of it. It is shared between goroutines and never changes, but for secret.
type key struct {
	record
	id      string
	at      store.Key
	version store.Version // 0: not stored yet
	public  crypto.PublicKey
	secret  *secret
}

// secret is the unwrapped part of a key, opened on first use and kept for as long as its record stays in the cache.
type secret struct {
	turn chan struct{} // holds one token: whoever takes it unwraps
	open atomic.Pointer[opened]
}

type opened struct {
	signer crypto.Signer // of a signing key
	macs   sync.Pool     // of the MAC secret: keyed hash.Hash; every request of an application needs one
	box    cipher.AEAD   // of the sealing key; it draws its nonces itself
}

func newSecret() *secret {
	s := &secret{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// unwrap returns the key's secret, asking the Wrapper at most once.
func (k *key) unwrap(ctx context.Context, w Wrapper, purpose string, t core.TenantID) (*opened, error) {
	if o := k.secret.open.Load(); o != nil {
		return o, nil
	}
	select {
	case <-k.secret.turn:
		defer func() { k.secret.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("keys: %w: %w", core.Unavailable, ctx.Err())
	}
	if o := k.secret.open.Load(); o != nil {
		return o, nil
	}
	plain, err := w.Unwrap(ctx, purpose, t, k.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("keys: unwrap %s of tenant %s: %w", k.id, t, err)
	}
	var o *opened
	switch purpose {
	case PurposeSigning:
		o, err = parsePrivate(plain, k.public)
	case PurposeSSO:
		o, err = parseSealing(plain)
	default:
		o = &opened{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, plain) }}}
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %s of tenant %s: %w", k.id, t, err)
	}
	k.secret.open.Store(o)
	return o, nil
}

// parsePrivate reads a private key and proves that it is the public key's: the two lie side by side in the store, and a
// signature that nobody can verify must not leave the house.
func parsePrivate(pkcs8 []byte, public crypto.PublicKey) (*opened, error) {
	private, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, ErrUnwrap // the cause could quote the key
	}
	signer, ok := private.(crypto.Signer)
	if !ok || !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
		return nil, errors.New("the private key is not the public key's")
	}
	return &opened{signer: signer}, nil
}

// newKey reads a record, taking over what was made of the same record before.
func newKey(id string, rec store.Record[record], before *key) (*key, error) {
	k := &key{record: rec.Value, id: id, at: rec.Key, version: rec.Version, secret: newSecret()}
	if before != nil && bytes.Equal(before.Public, k.Public) && bytes.Equal(before.Wrapped, k.Wrapped) {
		k.public, k.secret = before.public, before.secret
		return k, nil
	}
	if id == macID || id == sealID {
		return k, nil
	}
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("keys: %s does not parse: %w", rec.Key, err)
	}
	j, err := newJWK(public)
	if err != nil || j.Algorithm != k.Algorithm || j.ID != id {
		return nil, fmt.Errorf("keys: %s does not hold the key that it is named after", rec.Key)
	}
	k.public = public
	return k, nil
}

// generate makes a key pair and wraps its private part.
func generate(ctx context.Context, w Wrapper, t core.TenantID, alg Algorithm) (id string, r record, err error) {
	var signer crypto.Signer
	switch alg {
	case ES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return "", r, fmt.Errorf("keys: algorithm %q: %w", alg, core.Unsupported)
	}
	if err != nil {
		return "", r, fmt.Errorf("keys: generate: %w", err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return "", r, fmt.Errorf("keys: encode: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", r, fmt.Errorf("keys: encode: %w", err)
	}
	j, err := newJWK(signer.Public())
	if err != nil {
		return "", r, err
	}
	wrapped, err := wrap(ctx, w, PurposeSigning, t, plain)
	return j.ID, record{Algorithm: alg, Public: public, Wrapped: wrapped}, err
}

func wrap(ctx context.Context, w Wrapper, purpose string, t core.TenantID, plain []byte) ([]byte, error) {
	wrapped, err := w.Wrap(ctx, purpose, t, plain)
	if err == nil && len(wrapped) > MaxWrapped {
		err = fmt.Errorf("%d bytes, at most %d", len(wrapped), MaxWrapped)
	}
	if err != nil {
		return nil, fmt.Errorf("keys: wrap for tenant %s: %w", t, err)
	}
	return wrapped, nil
}

// jwk is a public key in a JWK set (RFC 7517 §4, RFC 7518 §6). It has no member for anything private.
type jwk struct {
	Type      string    `json:"kty"`
	Use       string    `json:"use"`
	Algorithm Algorithm `json:"alg"`
	ID        string    `json:"kid"`
	Curve     string    `json:"crv,omitempty"`
	X         string    `json:"x,omitempty"`
	Y         string    `json:"y,omitempty"`
	N         string    `json:"n,omitempty"`
	E         string    `json:"e,omitempty"`
}

// newJWK encodes a public key and names it by its thumbprint (RFC 7638), so that a kid can stand for one key only.
func newJWK(public crypto.PublicKey) (jwk, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	var j jwk
	var canonical string
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, then two coordinates of the curve's full size (RFC 7518 §6.2.1.2)
		if err != nil || public.Curve != elliptic.P256() {
			return j, fmt.Errorf("keys: not a key on P-256: %w", core.Unsupported)
		}
		j = jwk{Type: "EC", Algorithm: ES256, Curve: "P-256", X: b64(point[1:33]), Y: b64(point[33:65])}
		canonical = `{"crv":"P-256","kty":"EC","x":"` + j.X + `","y":"` + j.Y + `"}`
	case *rsa.PublicKey:
		if public.N.BitLen() < 2048 {
			return j, fmt.Errorf("keys: an RSA key of %d bits: %w", public.N.BitLen(), core.Unsupported)
		}
		j = jwk{Type: "RSA", Algorithm: RS256, N: b64(public.N.Bytes()), E: b64(big.NewInt(int64(public.E)).Bytes())}
		canonical = `{"e":"` + j.E + `","kty":"RSA","n":"` + j.N + `"}`
	default:
		return j, fmt.Errorf("keys: a key of type %T: %w", public, core.Unsupported)
	}
	sum := sha256.Sum256([]byte(canonical))
	j.Use, j.ID = "sig", b64(sum[:])
	return j, nil
}

// newSet encodes the keys that are published, in the order given.
func newSet(list []*key, now time.Time) (Set, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range list {
		if !k.published(now) {
			continue
		}
		j, err := newJWK(k.public)
		if err != nil {
			return Set{}, err
		}
		set.Keys = append(set.Keys, j)
	}
	body, err := json.Marshal(set)
	if err != nil {
		return Set{}, fmt.Errorf("keys: encode JWKS: %w", err)
	}
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return Set{Body: body, ETag: etag, MaxAge: MaxAge}, nil
}
