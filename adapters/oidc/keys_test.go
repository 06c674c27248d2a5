package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

func rawURL(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

// checkAssertion verifies a private_key_jwt as a provider would, by another's library, and returns its jti.
func checkAssertion(t *testing.T, r *rig) string {
	t.Helper()
	parsed, err := jwt.Parse(r.form.Get("client_assertion"), func(*jwt.Token) (any, error) { return &otherRSA().PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(r.issuer()+"/token"), jwt.WithIssuer(clientID), jwt.WithSubject(clientID),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now.Add(59 * time.Second) }))
	if err != nil || parsed.Header["kid"] != "ours" || parsed.Header["x5t#S256"] == nil {
		t.Fatalf("assertion: %v %v", err, parsed)
	}
	claims := parsed.Claims.(jwt.MapClaims)
	if claims["exp"].(float64)-claims["iat"].(float64) != 60 || claims["jti"] == "" {
		t.Errorf("assertion: %v", claims)
	}
	return claims["jti"].(string)
}

// JWK-001: hostile key sets. Each has its twin: the same token, with the key set as it should be.
func TestKeySets(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	with := func(k m, name string, v any) m {
		k[name] = v
		return k
	}
	good := func() m { return rsaJWK("r1", rsaKey()) }
	many := func(n int) []any {
		var keys []any
		for i := range n {
			keys = append(keys, rsaJWK(fmt.Sprintf("k%d", i), rsaKey()))
		}
		return keys
	}
	for _, tt := range []struct {
		name string
		jwks any
		ok   bool
	}{
		{"one key", m{"keys": []any{good()}}, true},
		{"a key without id", m{"keys": []any{with(good(), "kid", nil)}}, false},
		{"two keys of one id", m{"keys": []any{rsaJWK("r1", otherRSA()), good()}}, true},
		{"two types of one id", m{"keys": []any{ecJWK("r1", ecKey()), good()}}, true},
		{"keys nobody knows beside it", m{"keys": []any{m{"kty": "X"}, m{}, 1, nil, "x", []any{}, m{"kty": 7}, good()}, "more": 1}, true},
		{"a symmetric key of that id beside it", m{"keys": []any{m{"kty": "oct", "kid": "r1", "k": "c2VjcmV0"}, good()}}, true},
		{"99 others", m{"keys": append(many(99), good())}, true},
		{"100 others", m{"keys": append(many(100), good())}, false},
		{"10000 keys", m{"keys": many(3000)}, false},
		{"a private key", m{"keys": []any{with(good(), "d", b64(rsaKey().D.Bytes()))}}, false},
		{"for encryption", m{"keys": []any{with(good(), "use", "enc")}}, false},
		{"for another operation", m{"keys": []any{with(good(), "key_ops", []string{"encrypt"})}}, false},
		{"for verifying", m{"keys": []any{with(good(), "key_ops", []string{"verify"})}}, true},
		{"for another algorithm", m{"keys": []any{with(good(), "alg", "PS256")}}, false},
		{"for this algorithm", m{"keys": []any{with(good(), "alg", "RS256")}}, true},
		{"for a shared secret", m{"keys": []any{with(good(), "alg", "HS256")}}, false},
		{"even exponent", m{"keys": []any{with(good(), "e", "BA")}}, false},
		{"exponent one", m{"keys": []any{with(good(), "e", "AQ")}}, false},
		{"huge exponent", m{"keys": []any{with(good(), "e", b64(rsaKey().N.Bytes()))}}, false},
		{"huge modulus", m{"keys": []any{with(good(), "n", b64(bytesOf(0xff, 2048)))}}, false},
		{"not base64url", m{"keys": []any{with(good(), "n", "+/==")}}, false},
		{"no keys", m{"keys": []any{}}, false},
		{"no list", m{"keys": good()}, false},
		{"a list", []any{good()}, false},
		{"a string", "x", false},
		{"too large", m{"keys": []any{good()}, "x": strings.Repeat("x", 2<<20)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.jwks = tt.jwks
			if _, report, err := r.signIn(t); (err == nil) != tt.ok {
				t.Errorf("%v %+v", err, report.Checks)
			} else if c, _ := report.Failure(); err != nil && c.Name != sso.CheckSignature {
				t.Errorf("failed: %+v", c)
			}
		})
	}
	t.Run("taken", func(t *testing.T) { // a key that could not verify anything in these tests is passed over all the same
		r := newRig(t)
		for want, key := range []m{with(good(), "n", b64(bytesOf(0xff, 2048))), good()} {
			if n := r.p.ParseKeys(must(json.Marshal(m{"keys": []any{key}}))); n != want {
				t.Errorf("%d keys, want %d", n, want)
			}
		}
	})
	t.Run("weak", func(t *testing.T) {
		r := newRig(t)
		r.jwks, r.key = m{"keys": []any{rsaJWK("r1", weak), ecJWK("e1", ecKey())}}, weak
		if _, report, err := r.signIn(t); !errors.Is(err, sso.ErrRefused) {
			t.Errorf("%v %+v", err, report.Checks)
		}
	})
	t.Run("HMAC with the public key", func(t *testing.T) { // JWT-003
		r := newRig(t)
		r.doc["id_token_signing_alg_values_supported"] = []string{"HS256"}
		c := sso.Connection{CA: r.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: r.issuer(), ClientID: clientID}}
		if err := r.p.Load(t.Context(), &c, nil); !errors.Is(err, core.Invalid) {
			t.Errorf("a provider that signs with nothing but shared secrets: %v", err)
		}
		r.c.OIDC.Provider.Algorithms = []string{"RS256", "HS256", "none"} // as if it had been stored
		for _, alg := range []string{"HS256", "none"} {
			r.header = func(h m) { h["alg"] = alg }
			if _, report, err := r.signIn(t); !errors.Is(err, sso.ErrRefused) {
				t.Errorf("%s: %v %+v", alg, err, report.Checks)
			}
		}
	})
}

func bytesOf(b byte, n int) []byte { return []byte(strings.Repeat(string([]byte{b}), n)) }

// JWT-007: a key that is not known is looked for once, and then not for a minute; a rotated one is found without anybody's
// help; and while the provider is away, the keys that are known serve.
func TestKeyRotation(t *testing.T) {
	r := newRig(t)
	at := func(d time.Duration, wantErr error, reads int) {
		t.Helper()
		a, _ := r.start(t, false)
		a.Now = now.Add(d)
		r.claims = func(c m) { c["iat"], c["exp"] = a.Now.Unix(), a.Now.Add(time.Minute).Unix(); delete(c, "auth_time") }
		_, report, err := r.finish(t, a)
		if !errors.Is(err, wantErr) || r.seen["jwks"] != reads {
			t.Errorf("at %s: %v, %d reads, want %v and %d; %+v", d, err, r.seen["jwks"], wantErr, reads, report.Checks)
		}
	}
	at(0, nil, 1)
	at(time.Second, nil, 1)
	r.header = func(h m) { h["kid"] = "unknown" }
	at(30*time.Second, sso.ErrRefused, 1) // read less than a minute ago
	at(61*time.Second, sso.ErrRefused, 2)
	at(62*time.Second, sso.ErrRefused, 2)
	r.header = nil
	at(63*time.Second, nil, 2)
	r.jwks, r.key = m{"keys": []any{rsaJWK("r2", otherRSA())}}, otherRSA()
	r.header = func(h m) { h["kid"] = "r2" }
	at(150*time.Second, nil, 3) // rotated
	r.header = func(h m) { delete(h, "kid") }
	at(151*time.Second, nil, 3) // a token need not name its key
	r.jwks = "broken"
	at(2*time.Hour, nil, 4) // the last good ones
	at(2*time.Hour+time.Second, nil, 4)
	at(48*time.Hour, core.Unavailable, 5) // not for ever
}

// A tenant's own authority vouches for its own connection, and for no other tenant's.
func TestKeysByAuthority(t *testing.T) {
	r := newRig(t)
	if _, _, err := r.signIn(t); err != nil {
		t.Fatal(err)
	}
	r.c.CA += "\n"
	if _, _, err := r.signIn(t); err != nil || r.seen["jwks"] != 2 {
		t.Errorf("%v, %d reads", err, r.seen["jwks"])
	}
}

func TestAsk(t *testing.T) {
	r := newRig(t)
	said, _, err := r.signIn(t)
	if err != nil {
		t.Fatal(err)
	}
	k := said.Kept
	fail := func(status int, code string) func() {
		return func() {
			r.token = jsonAnswer(status, m{"error": code, "error_description": "CANARY"})
		}
	}
	for _, tt := range []struct {
		name    string
		set     func()
		want    error
		partial bool
		check   func(sso.Assertion) bool
	}{
		{"all anew", func() { r.answer = func(a m) { a["refresh_token"] = "rotated" } }, nil, false, func(a sso.Assertion) bool {
			return a.Kept.Refresh == "rotated" && a.Kept.Subject == "subject-1" && a.Attributes["UID"] == 15001.0
		}},
		{"not rotated", func() { r.answer = func(a m) { delete(a, "refresh_token") } }, nil, false, func(a sso.Assertion) bool { return a.Kept.Refresh == k.Refresh }},
		{"groups changed", func() { r.claims = func(c m) { c["GROUPS"] = []string{"new"} } }, nil, false, func(a sso.Assertion) bool { return fmt.Sprint(a.Attributes["GROUPS"]) == "[new]" }},
		{"no ID token", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.info = m{"sub": "subject-1", "email": "ann@corp.example", "GROUPS": []string{"x"}}
		}, nil, true, func(a sso.Assertion) bool {
			return a.Kept.IDToken == k.IDToken && fmt.Sprint(a.Attributes["GROUPS"]) == "[x]" && a.Subject == "subject-1"
		}},
		{"no iat", func() { r.claims = func(c m) { delete(c, "iat") } }, sso.ErrRefused, false, nil},
		{"expired", func() { r.claims = func(c m) { c["exp"] = now.Add(-time.Minute).Unix() } }, sso.ErrRefused, false, nil},
		{"about another", func() { r.claims = func(c m) { c["sub"] = "subject-2" } }, sso.ErrRefused, false, nil},
		{"userinfo about another", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.info = m{"sub": "subject-2", "email": "bob@corp.example"}
		}, sso.ErrRefused, false, nil},
		{"of another issuer", func() { r.claims = func(c m) { c["iss"] = "https://evil.example" } }, sso.ErrRefused, false, nil},
		{"badly signed", func() { r.key = otherRSA() }, sso.ErrRefused, false, nil},
		{"unverified now", func() { r.claims = func(c m) { c["email_verified"] = false } }, sso.ErrRefused, false, nil},
		{"invalid_grant", fail(400, "invalid_grant"), sso.ErrRefused, false, nil},
		{"invalid_client", fail(401, "invalid_client"), core.Unavailable, false, nil}, // our secret has expired, not the person
		{"server_error", fail(500, "server_error"), core.Unavailable, false, nil},
		{"busy", fail(429, "slow_down"), core.Unavailable, false, nil},
		{"a page", func() { r.token = jsonAnswer(200, "x") }, core.Unavailable, false, nil},
		{"userinfo broken", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = jsonAnswer(503, "x")
		}, core.Unavailable, false, nil},
		{"userinfo is a page", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }
		}, core.Unavailable, false, nil},
		{"userinfo moved", func() { // which says nothing about the person
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = jsonAnswer(404, "x")
		}, core.Unavailable, false, nil},
		{"userinfo wants something else", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = jsonAnswer(400, "x")
		}, core.Unavailable, false, nil},
		{"userinfo refuses the person", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = jsonAnswer(401, "x")
		}, sso.ErrRefused, false, nil},
		{"userinfo forbids", func() {
			r.answer = func(a m) { delete(a, "id_token") }
			r.userinfo = jsonAnswer(403, "x")
		}, sso.ErrRefused, false, nil},
		{"groups nowhere, as before", func() {
			r.claims = func(c m) { delete(c, "GROUPS") }
			r.userinfo = jsonAnswer(403, "x")
		}, nil, false, func(a sso.Assertion) bool { return a.Attributes["email"] == "ann@corp.example" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.reset()
			tt.set()
			got, err := r.p.Ask(t.Context(), r.c, r.s, k, now.Add(time.Minute))
			if !errors.Is(err, tt.want) || got.Partial != tt.partial || tt.check != nil && !tt.check(got) {
				t.Errorf("%v %+v", err, got)
			}
			if errors.Is(err, sso.ErrRefused) && tt.want == core.Unavailable {
				t.Errorf("%v: the person is refused for what is not about them", err)
			}
			if err != nil && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%v", err)
			}
			if r.form.Get("grant_type") != "refresh_token" || r.form.Get("refresh_token") != k.Refresh {
				t.Errorf("asked with %v", r.form)
			}
		})
	}
	r.Close()
	if _, err := r.p.Ask(t.Context(), r.c, r.s, k, now); !errors.Is(err, core.Unavailable) {
		t.Errorf("a provider that is gone: %v", err)
	}
	if _, err := r.p.Ask(t.Context(), r.c, r.s, sso.Kept{Subject: "s"}, now); !errors.Is(err, core.Unsupported) {
		t.Errorf("nothing to ask with: %v", err)
	}
}

// The mandatory claim is judged again at every refresh that says it.
// Groups that came from userinfo are not lost because it stops answering.
func TestAskWhole(t *testing.T) {
	r := newRig(t)
	r.claims = func(c m) { delete(c, "GROUPS") }
	r.info = m{"sub": "subject-1", "GROUPS": []string{"ml"}}
	said, _, err := r.signIn(t)
	if err != nil || !said.Kept.Whole {
		t.Fatalf("%v %+v", err, said.Kept)
	}
	if got, err := r.p.Ask(t.Context(), r.c, r.s, said.Kept, now); err != nil || fmt.Sprint(got.Attributes["GROUPS"]) != "[ml]" {
		t.Errorf("the twin: %v %+v", err, got)
	}
	for status, want := range map[int]error{401: sso.ErrRefused, 403: sso.ErrRefused, 404: core.Unavailable, 406: core.Unavailable, 500: core.Unavailable} {
		r.userinfo = jsonAnswer(status, "x")
		if _, err := r.p.Ask(t.Context(), r.c, r.s, said.Kept, now); !errors.Is(err, want) || errors.Is(err, sso.ErrRefused) != (want == sso.ErrRefused) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestAskMandatory(t *testing.T) {
	r := newRig(t)
	r.c.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: "GROUPS", Values: []string{"ops"}}
	said, _, err := r.signIn(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Ask(t.Context(), r.c, r.s, said.Kept, now); err != nil {
		t.Errorf("the twin: %v", err)
	}
	r.claims = func(c m) { c["GROUPS"] = []string{"ml"} }
	if _, err := r.p.Ask(t.Context(), r.c, r.s, said.Kept, now); !errors.Is(err, sso.ErrRefused) {
		t.Errorf("got %v", err)
	}
	r.reset()
	r.answer = func(a m) { delete(a, "id_token") }
	r.info = m{"sub": "subject-1"}
	if got, err := r.p.Ask(t.Context(), r.c, r.s, said.Kept, now); err != nil || !got.Partial {
		t.Errorf("where nothing is said of it: %v %+v", err, got)
	}
}

func TestLeave(t *testing.T) {
	r := newRig(t)
	to := r.p.Leave(r.c, sso.Kept{IDToken: "a.b.c"}, "https://fleet.example/out")
	if want := r.issuer() + "/logout?client_id=fleetpass&id_token_hint=a.b.c&post_logout_redirect_uri=https%3A%2F%2Ffleet.example%2Fout"; to != want {
		t.Errorf("got %s", to)
	}
	r.c.OIDC.Provider.EndSession = ""
	if to := r.p.Leave(r.c, sso.Kept{IDToken: "a.b.c"}, "x"); to != "" {
		t.Errorf("a provider without one: %s", to)
	}
}

// What is too long to be kept is not kept: the session goes on without it.
func TestKeptBounded(t *testing.T) {
	r := newRig(t)
	r.claims = func(c m) { c["x"] = strings.Repeat("x", 20<<10) }
	r.answer = func(a m) { a["refresh_token"] = strings.Repeat("r", 20<<10) }
	if said, _, err := r.signIn(t); err != nil || said.Kept.IDToken != "" || said.Kept.Refresh != "" {
		t.Errorf("%v, kept %d and %d bytes", err, len(said.Kept.IDToken), len(said.Kept.Refresh))
	}
}

// Whatever stands where an ID token is expected, it is refused, and nothing breaks.
func FuzzIDToken(f *testing.F) {
	r := newRig(f)
	a, _ := r.start(f, false)
	good := r.idToken("authorization_code")
	for _, seed := range []string{
		good, "", "..", "a.b.c", good + ".", strings.Replace(good, ".", "..", 1), b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"sub":"x"}`)) + ".",
		signed(`{"alg":"RS256","alg":"none"}`, `{}`, "RS256", rsaKey()), signed(`{"alg":"RS256","kid":"r1"}`, `{"aud":[[]],"exp":{},"sub":[]}`, "RS256", otherRSA()),
	} {
		f.Add(seed)
	}
	for _, of := range []m{{"scope": "openid"}, {"typ": "Bearer"}, {"token_use": "access"}, {"events": m{}}, {"typ": []any{}}} {
		r.claims = func(c m) { maps.Copy(c, of) }
		f.Add(r.idToken("")) // without the nonce, and so refused in either place
	}
	r.claims = nil
	f.Fuzz(func(t *testing.T, raw string) {
		if said, err := r.p.Take(t.Context(), r.c, raw, now, &sso.Report{}); raw == good && (err != nil || said.Subject != "subject-1") || raw != good && !errors.Is(err, sso.ErrRefused) {
			t.Fatalf("alone, %q: %+v %v", raw, said, err)
		}
		if strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return // does not survive the JSON around it
		}
		r.raw = func(string) string { return raw }
		said, report, err := r.finish(t, a)
		if raw == good {
			if err != nil || said.Subject != "subject-1" {
				t.Fatalf("the good one is refused: %v %+v", err, report.Checks)
			}
		} else if !errors.Is(err, sso.ErrRefused) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// Whatever a provider publishes about itself, and as its keys, nothing breaks.
func FuzzDocuments(f *testing.F) {
	r := newRig(f)
	f.Add(string(must(json.Marshal(r.jwks))))
	f.Add(string(must(json.Marshal(r.doc))))
	f.Add(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""},{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"RSA","n":"","e":""}]}`)
	f.Add(`{"issuer":1,"jwks_uri":[]}`)
	f.Fuzz(func(t *testing.T, document string) {
		c := r.c
		if err := r.p.Load(t.Context(), &c, []byte(document)); err != nil && !errors.Is(err, core.Invalid) {
			t.Fatalf("%q: %v", document, err)
		} else if err == nil && c.OIDC.Provider.Issuer != r.issuer() {
			t.Fatalf("%q: issuer %s", document, c.OIDC.Provider.Issuer)
		}
		r.p.ParseKeys([]byte(document))
	})
}
