package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// The example of RFC 7638 §3.1.
func TestThumbprint(t *testing.T) {
	n, err := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs" +
		"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI" +
		"SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	if err != nil {
		t.Fatal(err)
	}
	j, err := newJWK(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; j.ID != want || j.E != "AQAB" {
		t.Errorf("thumbprint %s, want %s; e %s", j.ID, want, j.E)
	}
}

// Coordinates have the curve's full size, leading zeros and all (RFC 7518 §6.2.1.2): one key in 128 has some.
func TestCoordinates(t *testing.T) {
	seen := false
	for range 5000 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		j, err := newJWK(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		x, errX := base64.RawURLEncoding.DecodeString(j.X)
		y, errY := base64.RawURLEncoding.DecodeString(j.Y)
		if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
			t.Fatalf("x has %d bytes, y %d, want 32 each", len(x), len(y))
		}
		back, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil || !back.Equal(&k.PublicKey) {
			t.Fatalf("the JWK is another key: %v", err)
		}
		if x[0] == 0 || y[0] == 0 {
			seen = true
			break
		}
	}
	if !seen {
		t.Error("no key with a leading zero in 5000: the test proves nothing")
	}
}

func TestWeakKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]any{
		"P-384":       &p384.PublicKey,
		"RSA 1024":    &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537},
		"private key": p384,
		"no key":      nil,
		"oct":         []byte("secret"),
	} {
		if _, err := newJWK(public); err == nil {
			t.Errorf("%s was published", name)
		}
	}
}

// A JWK set holds these members and no other: nothing private, whatever the key.
func TestPublicMembersOnly(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list := []*key{{id: "a", public: &k.PublicKey}, {id: "b", public: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}}}
	set, err := newSet(list, list[0].ActiveAt)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(set.Body, &doc, json.RejectUnknownMembers(true)); err != nil || len(doc.Keys) != 2 {
		t.Fatalf("%s: %v", set.Body, err)
	}
	for i, want := range []string{"alg crv kid kty use x y", "alg e kid kty n use"} {
		var got []string
		for _, name := range strings.Fields("alg crv d dp dq e k kid kty n oth p q qi use x x5c y") {
			if _, ok := doc.Keys[i][name]; ok {
				got = append(got, name)
				delete(doc.Keys[i], name)
			}
		}
		if strings.Join(got, " ") != want || len(doc.Keys[i]) != 0 {
			t.Errorf("members %v and %v, want %s", got, doc.Keys[i], want)
		}
	}
	if set.MaxAge != MaxAge || len(set.ETag) < 10 || set.ETag[0] != '"' || set.ETag[len(set.ETag)-1] != '"' {
		t.Errorf("max age %v, ETag %s", set.MaxAge, set.ETag)
	}
	empty, err := newSet(nil, list[0].ActiveAt)
	if err != nil || string(empty.Body) != `{"keys":[]}` || empty.ETag == set.ETag {
		t.Errorf("empty set %s with ETag %s, %v", empty.Body, empty.ETag, err)
	}
}
