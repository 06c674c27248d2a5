package trust_test

import (
	"crypto/elliptic"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/trust"
)

// JWK-001, JWK-003: of keys that an administrator gives, which are public, strong, and for signatures, or refused by name.
func TestParseKeys(t *testing.T) {
	m := keys()
	for name, list := range map[string][]object{
		"each kind":                {m.p256.public, m.p384.public, m.rsa.public, m.ed.public},
		"one without an id":        {with(m.p256.public, object{"kid": nil})},
		"as published, with more":  {with(m.rsa.public, object{"alg": "RS256", "key_ops": []string{"verify"}, "x5t": "abc", "x5c": []string{"MII"}, "ext": true})},
		"Ed25519 by its new name":  {with(m.ed.public, object{"alg": "Ed25519"})},
		"the algorithm of its own": {with(m.p384.public, object{"alg": "ES384"})},
	} {
		if got, err := trust.ParseKeys("jwks", set(list...), 5); err != nil || len(got) != len(list) {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak := newRSA(t, "weak", 1024)
	p521 := newEC(t, "p521", elliptic.P521(), "P-521", "ES512")
	for name, tt := range map[string]struct {
		set   []byte
		field string
	}{
		"no set":                {[]byte(`[]`), "jwks"},
		"no keys":               {[]byte(`{}`), "jwks"},
		"an empty set":          {[]byte(`{"keys":[]}`), "jwks"},
		"keys that are none":    {[]byte(`{"keys":{}}`), "jwks"},
		"a duplicate member":    {[]byte(`{"keys":[],"keys":[]}`), "jwks"},
		"too long":              {[]byte(`{"keys":["` + strings.Repeat("x", 25<<10) + `"]}`), "jwks"},
		"one too many":          {set(m.p256.public, m.p384.public, m.rsa.public), "jwks"},
		"a key that is none":    {[]byte(`{"keys":[1]}`), "jwks.keys[0]"},
		"the same id twice":     {set(m.p256.public, with(m.p384.public, object{"kid": "p256"})), "jwks.keys[1].kid"},
		"two, and one nameless": {set(m.p256.public, with(m.p384.public, object{"kid": nil})), "jwks.keys[1].kid"},
		"a private EC key":      {set(with(m.p256.public, object{"d": "AA"})), "jwks.keys[0].d"},
		"a private RSA key":     {set(with(m.rsa.public, object{"p": "AA"})), "jwks.keys[0].p"},
		"a shared key":          {set(object{"kty": "oct", "k": "AA"}), "jwks.keys[0].k"},
		"a key of no type":      {set(with(m.p256.public, object{"kty": nil})), "jwks.keys[0]"},
		"a weak RSA key":        {set(weak.public), "jwks.keys[0]"},
		"an exponent of one":    {set(with(m.rsa.public, object{"e": "AQ"})), "jwks.keys[0]"},
		"an even modulus":       {set(with(m.rsa.public, object{"n": b64(make([]byte, 256))})), "jwks.keys[0]"},
		"P-521":                 {set(p521.public), "jwks.keys[0]"},
		"off the curve":         {set(with(m.p256.public, object{"y": m.other.public["y"]})), "jwks.keys[0]"},
		"another curve's name":  {set(with(m.p256.public, object{"crv": "P-384"})), "jwks.keys[0]"},
		"half a key":            {set(with(m.ed.public, object{"x": b64(make([]byte, 16))})), "jwks.keys[0]"},
		"X25519":                {set(with(m.ed.public, object{"crv": "X25519"})), "jwks.keys[0]"},
		"padding":               {set(with(m.ed.public, object{"x": m.ed.public["x"].(string) + "="})), "jwks.keys[0]"},
		"another type's alg":    {set(with(m.p256.public, object{"alg": "RS256"})), "jwks.keys[0].alg"},
		"HS256":                 {set(with(m.rsa.public, object{"alg": "HS256"})), "jwks.keys[0].alg"},
		"for encryption":        {set(with(m.rsa.public, object{"use": "enc"})), "jwks.keys[0].use"},
		"for wrapping":          {set(with(m.rsa.public, object{"key_ops": []string{"wrapKey"}})), "jwks.keys[0].key_ops"},
		"an id of no text":      {set(with(m.p256.public, object{"kid": 1})), "jwks.keys[0].kid"},
		"an id of control":      {set(with(m.p256.public, object{"kid": "a\nb"})), "jwks.keys[0].kid"},
	} {
		_, err := trust.ParseKeys("jwks", tt.set, 2)
		wantField(t, name, err, tt.field)
	}
	// A key that declares its algorithm verifies no other.
	pss := published(t, key{m.rsa.id, "PS256", m.rsa.private, with(m.rsa.public, object{"alg": "PS256"})})
	good, other := m.rsa.raw(t, "PS256", `{"alg":"PS256"}`, text(proof())), m.rsa.sign(t, proof())
	if _, err := trust.JudgeProof(pss, "robot", []string{ours}, good, now); err != nil {
		t.Error(err)
	}
	_, err := trust.JudgeProof(pss, "robot", []string{ours}, other, now)
	refusedAlike(t, "RS256 with a key for PS256", err)
}
