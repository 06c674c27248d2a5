package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core/trust"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// object is a JSON object to be encoded.
type object = map[string]any

// key is a private key, which makes what the tests then bend.
type key struct {
	id, alg string
	private crypto.Signer
	public  object // as a JSON Web Key
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newEC(t testing.TB, id string, curve elliptic.Curve, crv, alg string) key {
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := len(point) / 2
	return key{id, alg, private, object{"kty": "EC", "crv": crv, "kid": id, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}}
}

func newRSA(t testing.TB, id string, bits int) key {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key{id, "RS256", private, object{"kty": "RSA", "kid": id, "use": "sig", "n": b64(private.N.Bytes()), "e": b64(big.NewInt(int64(private.E)).Bytes())}}
}

func newEd(t testing.TB, id string) key {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{id, "EdDSA", private, object{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": b64(public)}}
}

// keys are made once: RSA keys cost a second under the race detector.
var keys = sync.OnceValue(func() (k struct{ p256, other, p384, rsa, ed key }) {
	t := &testing.T{}
	k.p256, k.other = newEC(t, "p256", elliptic.P256(), "P-256", "ES256"), newEC(t, "p256", elliptic.P256(), "P-256", "ES256")
	k.p384, k.rsa, k.ed = newEC(t, "p384", elliptic.P384(), "P-384", "ES384"), newRSA(t, "rsa", 2048), newEd(t, "ed")
	return k
})

func set(keys ...object) []byte {
	body, err := json.Marshal(object{"keys": keys})
	if err != nil {
		panic(err)
	}
	return body
}

// published are keys as they are stored.
func published(t testing.TB, list ...key) []trust.PublicKey {
	t.Helper()
	var all []object
	for _, k := range list {
		all = append(all, k.public)
	}
	parsed, err := trust.ParseKeys("jwks", set(all...), trust.MaxIssuerKeys)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// method is golang-jwt's for an algorithm.
func method(alg string) jwt.SigningMethod { return jwt.GetSigningMethod(alg) }

// raw signs any header and payload, well-formed or not.
func (k key) raw(t testing.TB, alg, header, payload string) string {
	t.Helper()
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	signature, err := method(alg).Sign(signed, k.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

func text(v any) string {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return string(body)
}

// sign makes a token.
func (k key) sign(t testing.TB, claims object, header ...object) string {
	t.Helper()
	h := object{"alg": k.alg, "kid": k.id, "typ": "JWT"}
	for _, more := range header {
		maps.Copy(h, more)
	}
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	return k.raw(t, k.alg, text(h), text(claims))
}

// with is claims, changed; nil takes one out.
func with(claims object, more object) object {
	out := maps.Clone(claims)
	maps.Copy(out, more)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}
