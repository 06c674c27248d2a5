package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	encodingjson "encoding/json"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// mutations is how many TestRandomMutations makes.
var mutations = 100_000

// A hundred thousand changes to valid tokens: whatever is still accepted says exactly what the token said.
func TestRandomMutations(t *testing.T) {
	es, rs := newForge(t, access()), newForge(t, access())
	rs.raw = mint(t, rs.ring, acme, keys.RS256, access())
	other, err := es.ring.Signer(t.Context(), umbrella, keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	others := []string{
		mint(t, es.ring, umbrella, keys.ES256, access()),
		mint(t, es.ring, acme, keys.ES256, clusterToken()),
		mint(t, es.ring, acme, keys.ES256, idToken()),
		mint(t, es.ring, acme, keys.ES256, edit(access(), func(a *token.Access) { a.Subject = "mallory" })),
	}
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	letters := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00\""
	change := func(s string) string { // one to three bytes changed, put in or taken out
		b := []byte(s)
		for range 1 + random.IntN(3) {
			if len(b) == 0 {
				break
			}
			i, c := random.IntN(len(b)), letters[random.IntN(len(letters))]
			switch random.IntN(4) {
			case 0:
				b[i] = c
			case 1:
				b[i] ^= 1 << random.IntN(8)
			case 2:
				b = append(b[:i], append([]byte{c}, b[i:]...)...)
			case 3:
				b = append(b[:i], b[i+1:]...)
			}
		}
		return string(b)
	}
	kinds := []struct {
		name string
		of   int // so many of a hundred
		make func() string
	}{
		{"bytes of the token", 40, func() string {
			if random.IntN(2) == 0 {
				return change(rs.raw)
			}
			return change(es.raw)
		}},
		{"segments of two tokens", 30, func() string {
			a, b := strings.Split(es.raw, "."), strings.Split(others[random.IntN(len(others))], ".")
			for i := range a {
				if random.IntN(2) == 0 {
					a[i] = b[i]
				}
			}
			random.Shuffle(3, func(i, j int) {
				if random.IntN(4) == 0 {
					a[i], a[j] = a[j], a[i]
				}
			})
			return strings.Join(a, ".")
		}},
		{"header changed, signed with its own key", 15, func() string { return es.resigned(change(es.header), es.payload) }},
		{"header changed, signed with another key", 15, func() string {
			return sign(t, "ES256", other.Signer, change(es.header), es.payload)
		}},
	}
	accepted := make(map[string]int)
	for range mutations {
		n := random.IntN(100)
		for _, k := range kinds {
			if n -= k.of; n >= 0 {
				continue
			}
			raw := k.make()
			if slices.Contains(others, raw) { // put together again, whole
				break
			}
			a, err := es.parse(raw)
			switch {
			case err == nil && a != access():
				t.Fatalf("seed %d: %s: %q is accepted as %+v", seed, k.name, raw, a)
			case err == nil:
				accepted[k.name]++
			case !errors.Is(err, core.Unauthenticated):
				t.Fatalf("seed %d: %s: %q: %v", seed, k.name, raw, err)
			}
			break
		}
	}
	// Changes that cancel out leave the token as it was, and white space in a signed header means nothing. Another key's
	// signature is never accepted.
	if n := accepted[kinds[3].name]; n > 0 {
		t.Errorf("seed %d: %d tokens with another key's signature are accepted", seed, n)
	}
	t.Logf("accepted with the same meaning: %v of %d", accepted, mutations)
}

// A revoked key's tokens are refused here at once (the ring's tests say what holds elsewhere).
func TestRevokedKey(t *testing.T) {
	ring, _ := ownRing(t)
	raw := mint(t, ring, acme, keys.ES256, access())
	if _, err := token.ParseAccess(t.Context(), ring, acme, issuer, raw, now); err != nil {
		t.Fatal(err)
	}
	k, err := ring.Signer(t.Context(), acme, keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Revoke(t.Context(), acme, k.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := token.ParseAccess(t.Context(), ring, acme, issuer, raw, now); token.Reason(err) != "unknown key" {
		t.Errorf("%v, want a rejection", err)
	}
	if _, err := token.ParseAccess(t.Context(), ring, acme, issuer, mint(t, ring, acme, keys.ES256, access()), now); err != nil {
		t.Errorf("with the key that took over: %v", err)
	}
}

// If the keys cannot be read, a token is neither good nor bad: the caller is to come back, not to sign in again.
func TestStoreGone(t *testing.T) {
	ring, db := ownRing(t)
	raw := mint(t, ring, acme, keys.ES256, access())
	cold := keys.NewRing(gone{db}, ring.Wrapper, ring.Now)
	if _, err := token.ParseAccess(t.Context(), cold, acme, issuer, raw, now); !errors.Is(err, core.Unavailable) || errors.Is(err, core.Unauthenticated) {
		t.Errorf("ParseAccess: %v, want core.Unavailable", err)
	}
	if raw, err := token.Mint(t.Context(), cold, acme, keys.ES256, access()); !errors.Is(err, core.Unavailable) || raw != "" {
		t.Errorf("Mint: %q, %v, want core.Unavailable", raw, err)
	}
}

// gone is a store that does not answer.
type gone struct{ store.DB }

func (gone) List(context.Context, store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		yield(store.Item{}, fmt.Errorf("store: %w", core.Unavailable))
	}
}

// ownRing is a ring that a test may spoil.
func ownRing(t testing.TB) (*keys.Ring, store.DB) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{Now: func() time.Time { return now }, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w, err := localkeys.New(make([]byte, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewRing(db, w, func() time.Time { return now })
	ops, err := ring.Init(t.Context(), acme)
	if err == nil {
		err = db.Commit(t.Context(), ops...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ring, db
}

// FuzzStrict: what Strict takes, a lenient parser reads the same way.
func FuzzStrict(f *testing.F) {
	forge := newForge(f, access())
	for _, raw := range []string{
		forge.raw, forge.head(`"alg"`, `"crit":["x"],"alg"`), forge.claims(`"sub"`, `"sub":"x","sub"`), forge.claims(`"sub"`, `"SUB":"x","sub"`),
		forge.raw + ".", "..", "e30.e30.AA", "e30.e30.AB", "bnVsbA.e30.AA", segment(`{"a":[[[]]]}`) + ".e30.AA",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		header, payload, err := token.Strict(raw)
		if err != nil {
			if !errors.Is(err, core.Unauthenticated) || header != nil || payload != nil || token.Reason(err) == "" {
				t.Fatalf("%v, with header %v and payload %v", err, header, payload)
			}
			return
		}
		parts := strings.Split(raw, ".")
		if len(parts) != 3 {
			t.Fatalf("%d segments accepted", len(parts))
		}
		for i, got := range []map[string]string{texts(header), texts(payload)} {
			data, err := base64.RawURLEncoding.DecodeString(parts[i])
			if err != nil || base64.RawURLEncoding.EncodeToString(data) != parts[i] {
				t.Fatalf("segment %d is not canonical: %v", i, err)
			}
			var lenient map[string]encodingjson.RawMessage
			if err := encodingjson.Unmarshal(data, &lenient); err != nil || len(lenient) != len(got) {
				t.Fatalf("segment %d: encoding/json reads %v, %v; Strict %v", i, lenient, err, got)
			}
			for name, value := range lenient {
				if strings.TrimSpace(string(value)) != strings.TrimSpace(got[name]) {
					t.Fatalf("segment %d, %q: encoding/json reads %s, Strict %s", i, name, value, got[name])
				}
			}
		}
	})
}

func texts[V ~[]byte](m map[string]V) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// FuzzParseAccess: nothing but a token that says the same as the one we minted is accepted.
func FuzzParseAccess(f *testing.F) {
	forge := newForge(f, access())
	parts := strings.Split(forge.raw, ".")
	f.Add(forge.header, forge.payload, parts[2])
	f.Add(strings.Replace(forge.header, "ES256", "none", 1), forge.payload, "")
	f.Add(strings.Replace(forge.header, "ES256", "HS256", 1), forge.payload, parts[2])
	f.Add(forge.header, strings.Replace(forge.payload, "ada@", "root@", 1), parts[2])
	f.Add(`{}`, `{}`, "AA")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		for _, raw := range []string{segment(header) + "." + segment(payload) + "." + signature, header, payload} {
			a, err := token.ParseAccess(t.Context(), forge.ring, acme, issuer, raw, now)
			if err == nil && a != access() || err != nil && !errors.Is(err, core.Unauthenticated) {
				t.Fatalf("%q: %+v, %v", raw, a, err)
			}
		}
	})
}

// BenchmarkMint prints what a token costs beside the bare signature of a text of the same length.
func BenchmarkMint(b *testing.B) {
	ring := newRing(b)
	groups := make([]string, 30)
	for i := range groups {
		groups[i] = fmt.Sprintf("ml-research-%02d", i)
	}
	for _, tt := range []struct {
		name   string
		alg    keys.Algorithm
		claims token.Claims
	}{
		{"access/ES256", keys.ES256, access()},
		{"id/ES256", keys.ES256, idToken()},
		{"cluster/ES256", keys.ES256, clusterToken()},
		{"cluster with 30 groups/ES256", keys.ES256, edit(clusterToken(), func(k *token.Cluster) { k.Groups = groups })},
		{"access/RS256", keys.RS256, access()},
	} {
		raw := mint(b, ring, acme, tt.alg, tt.claims)
		signed := []byte(raw[:strings.LastIndex(raw, ".")])
		key, err := ring.Signer(b.Context(), acme, tt.alg)
		if err != nil {
			b.Fatal(err)
		}
		// The two run in turns, so that whatever else the machine does slows both.
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			var bare, minted time.Duration
			for b.Loop() {
				start := time.Now()
				sum := sha256.Sum256(signed)
				if ec, ok := key.Signer.(*ecdsa.PrivateKey); ok {
					_, err = ecdsa.SignASN1(rand.Reader, ec, sum[:])
				} else {
					_, err = rsa.SignPKCS1v15(rand.Reader, key.Signer.(*rsa.PrivateKey), crypto.SHA256, sum[:])
				}
				if err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, err := token.Mint(b.Context(), ring, acme, tt.alg, tt.claims); err != nil {
					b.Fatal(err)
				}
				bare += middle.Sub(start)
				minted += time.Since(middle)
			}
			b.ReportMetric(float64(minted)/float64(bare), "x-bare-signature")
			b.ReportMetric(float64(minted.Nanoseconds())/float64(b.N), "ns/mint")
			b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "ns/signature")
		})
	}
}

func BenchmarkParseAccess(b *testing.B) {
	ring := newRing(b)
	for _, alg := range algorithms {
		raw := mint(b, ring, acme, alg, access())
		at := strings.LastIndex(raw, ".")
		signature, err := base64.RawURLEncoding.DecodeString(raw[at+1:])
		if err != nil {
			b.Fatal(err)
		}
		key, err := ring.Signer(b.Context(), acme, alg)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			var bare, parsed time.Duration
			for b.Loop() {
				start := time.Now()
				if err := jwt.GetSigningMethod(string(alg)).Verify(raw[:at], signature, key.Public()); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, err := token.ParseAccess(b.Context(), ring, acme, issuer, raw, now); err != nil {
					b.Fatal(err)
				}
				bare += middle.Sub(start)
				parsed += time.Since(middle)
			}
			b.ReportMetric(float64(parsed)/float64(bare), "x-bare-verification")
		})
	}
}
