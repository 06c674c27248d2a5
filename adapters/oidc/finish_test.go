package oidc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

func TestStart(t *testing.T) {
	r := newRig(t)
	r.c.OIDC.Scopes = []string{"groups", "openid", "offline_access"}
	a, q := r.start(t, false)
	for name, want := range map[string]string{
		"audience":      "x", // of the endpoint itself
		"response_type": "code", "client_id": clientID, "redirect_uri": back, "scope": "openid email profile groups offline_access", "state": state,
		"nonce": a.Pending.Nonce, "code_challenge_method": "S256", "login_hint": "ann@corp.example", "prompt": "consent", "max_age": "",
	} {
		if got := q.Get(name); got != want || len(q[name]) > 1 {
			t.Errorf("%s = %q, want %q", name, q[name], want)
		}
	}
	if len(a.Pending.Nonce) < 43 || len(a.Pending.Verifier) < 43 || a.Pending.Nonce == a.Pending.Verifier || strings.Contains(q.Encode(), a.Pending.Verifier) {
		t.Error("nonce or verifier is short, the same, or on its way through the browser")
	}
	b, q := r.start(t, true)
	if b.Pending.Nonce == a.Pending.Nonce || q.Get("prompt") != "login consent" || q.Get("max_age") != "0" || !b.Pending.Login || !b.Pending.At.Equal(now) {
		t.Errorf("a sign-in anew: %v %+v", q, b.Pending)
	}
	d, err := r.p.Start(t.Context(), r.c, r.s, sso.Journey{Addresses: sso.Addresses{Return: back}, State: state, Now: now})
	if err != nil || strings.Contains(d.Sent, state) || strings.Contains(d.Sent, d.Pending.Nonce) || !strings.Contains(d.Sent, "redirect_uri = "+back) {
		t.Errorf("sent: %s %v", d.Sent, err)
	}
}

func TestFinish(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		alg string
		set func(*op)
	}{
		{"RS256", func(*op) {}}, {"PS256", func(*op) {}},
		{"ES256", func(o *op) { o.key = ecKey() }}, {"EdDSA", func(o *op) { o.key = edKey() }},
	} {
		r.alg, r.key = tt.alg, rsaKey()
		tt.set(r.op)
		said, report, err := r.signIn(t)
		if err != nil {
			t.Fatalf("%s: %v %+v", tt.alg, err, report.Checks)
		}
		if said.Subject != "subject-1" || said.ID != "" || !said.AuthTime.Equal(now.Add(-time.Minute/2)) || !cmp.Equal(said.Methods, []string{"pwd", "otp"}) || said.Partial {
			t.Errorf("%s: %+v", tt.alg, said)
		}
		if got := said.Attributes; got["email"] != "ann@corp.example" || got["UID"] != 15001.0 || !cmp.Equal(got["GROUPS"], []any{"ml", "ops"}) {
			t.Errorf("%s: %v", tt.alg, got)
		}
		if said.Kept.Refresh != "refresh-CANARY" || said.Kept.Subject != "subject-1" || strings.Count(said.Kept.IDToken, ".") != 2 {
			t.Errorf("%s: kept %+v", tt.alg, said.Kept)
		}
		var names []sso.CheckName
		for _, c := range report.Checks {
			names = append(names, c.Name)
		}
		if want := []sso.CheckName{"answer", "audience", "destination", "issuer", "request", "signature", "time", "subject"}; !cmp.Equal(names, want) {
			t.Errorf("%s: checks %v", tt.alg, names)
		}
		var received map[string]m
		if err := json.Unmarshal([]byte(report.Received), &received); err != nil || received["claims"]["sub"] != "subject-1" || received["header"]["alg"] != tt.alg {
			t.Errorf("%s: received %s, %v", tt.alg, report.Received, err)
		}
	}
	// What it costs: the keys are read once for all, the token endpoint asked once each, and userinfo not at all.
	if want := map[string]int{"token": 4, "jwks": 1, ".well-known/openid-configuration": 1}; !cmp.Equal(r.seen, want) {
		t.Errorf("requests: %s", cmp.Diff(want, r.seen))
	}
}

// A token for each row of the table is made by changing a good one, which is accepted first. RP-005, JWT-001, JWT-005,
// JWT-009, JWT-011, JWT-013.
func TestRefused(t *testing.T) {
	r := newRig(t)
	set := func(name string, v any) func(*rig) { return func(r *rig) { r.claims = func(c m) { c[name] = v } } }
	unset := func(name string) func(*rig) { return func(r *rig) { r.claims = func(c m) { delete(c, name) } } }
	header := func(name string, v any) func(*rig) { return func(r *rig) { r.header = func(h m) { h[name] = v } } }
	text := func(old, new string) func(*rig) {
		return func(r *rig) { r.payload = func(p string) string { return strings.Replace(p, old, new, 1) } }
	}
	late := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := []struct {
		name   string
		mutate func(*rig)
		want   sso.CheckName
	}{
		{"another issuer", set("iss", "https://evil.example"), sso.CheckIssuer},
		{"issuer with a slash", func(r *rig) { r.claims = func(c m) { c["iss"] = r.issuer() + "/" } }, sso.CheckIssuer},
		{"no issuer", unset("iss"), sso.CheckIssuer},
		{"another audience", set("aud", "another"), sso.CheckAudience},
		{"audience in another case", set("aud", "Fleetpass"), sso.CheckAudience},
		{"audience with a prefix", set("aud", "fleetpass2"), sso.CheckAudience},
		{"no audience", unset("aud"), sso.CheckAudience},
		{"empty audience", set("aud", []string{}), sso.CheckAudience},
		{"two audiences, no azp", set("aud", []string{clientID, "another"}), sso.CheckAudience},
		{"two audiences, azp of the other", func(r *rig) {
			r.claims = func(c m) { c["aud"], c["azp"] = []string{clientID, "another"}, "another" }
		}, sso.CheckAudience},
		{"azp of another", set("azp", "another"), sso.CheckAudience},
		{"empty azp", set("azp", ""), sso.CheckAudience},
		{"numeric audience", set("aud", 1), sso.CheckAudience},
		{"expired", set("exp", late(-time.Minute)), sso.CheckTime},
		{"no exp", unset("exp"), sso.CheckTime},
		{"exp as text", set("exp", fmt.Sprint(late(time.Hour))), sso.CheckTime},
		{"no iat", unset("iat"), sso.CheckTime},
		{"iat in the future", set("iat", late(2*time.Minute)), sso.CheckTime},
		{"iat in a year", set("iat", late(365*24*time.Hour)), sso.CheckTime},
		{"iat long ago", set("iat", late(-11*time.Minute)), sso.CheckTime},
		{"nbf in the future", set("nbf", late(4*time.Minute)), sso.CheckTime},
		{"auth_time in the future", set("auth_time", late(4*time.Minute)), sso.CheckTime},
		{"negative exp", set("exp", -1), sso.CheckTime},
		{"endless exp", set("exp", 1e300), sso.CheckTime},
		{"no sub", unset("sub"), sso.CheckSubject},
		{"empty sub", set("sub", ""), sso.CheckSubject},
		{"sub is null", set("sub", nil), sso.CheckSubject},
		{"sub is a list", set("sub", []string{"subject-1"}), sso.CheckSubject},
		{"sub is a number", set("sub", 1), sso.CheckSubject},
		{"sub of 300 bytes", set("sub", strings.Repeat("x", 300)), sso.CheckSubject}, // RP-009
		{"sub with a control", set("sub", "a\x1b[2Jb"), sso.CheckSubject},
		{"another nonce", set("nonce", "x"), sso.CheckRequest},
		{"no nonce", unset("nonce"), sso.CheckRequest},
		{"wrong at_hash", set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), sso.CheckRequest},
		{"empty at_hash", set("at_hash", ""), sso.CheckRequest},
		{"at_hash and no access token", func(r *rig) { r.answer = func(a m) { delete(a, "access_token") } }, sso.CheckRequest},
		{"wrong c_hash", set("c_hash", "AAAAAAAAAAAAAAAAAAAAAA"), sso.CheckRequest},
		{"unverified e-mail", set("email_verified", false), sso.CheckEmail},
		{"unverified e-mail, as text", set("email_verified", "false"), sso.CheckEmail},
		{"unverified e-mail, as other text", set("email_verified", "False"), sso.CheckEmail},
		{"e-mail verified in a way that is not known", set("email_verified", "yes"), sso.CheckEmail},
		{"e-mail verified 0", set("email_verified", 0), sso.CheckEmail},
		{"e-mail verified 1", set("email_verified", 1), sso.CheckEmail},
		{"e-mail verified by an empty text", set("email_verified", ""), sso.CheckEmail},
		{"e-mail verified by a list", set("email_verified", []bool{true}), sso.CheckEmail},
		{"e-mail verified by an object", set("email_verified", m{"email": true}), sso.CheckEmail},
		{"exp of 0", set("exp", 0), sso.CheckTime},
		{"iat of 0", set("iat", 0), sso.CheckTime},
		{"negative nbf", set("nbf", -1), sso.CheckTime},

		// JWT-001: there is no token without a signature.
		{"alg none", func(r *rig) { r.header = func(h m) { h["alg"] = "none" } }, sso.CheckSignature},
		{"alg None", header("alg", "None"), sso.CheckSignature},
		{"alg empty", header("alg", ""), sso.CheckSignature},
		{"no alg", func(r *rig) { r.header = func(h m) { delete(h, "alg") } }, sso.CheckSignature},
		{"alg none and no signature", func(r *rig) {
			r.header = func(h m) { h["alg"] = "none" }
			r.raw = func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }
		}, sso.CheckSignature},
		// JWT-003: the key says the algorithm.
		{"alg HS256", header("alg", "HS256"), sso.CheckSignature},
		{"alg of another key", header("alg", "ES256"), sso.CheckSignature},
		{"alg not promised", func(r *rig) {
			r.alg, r.header, r.claims = "RS512", func(h m) { h["kid"] = "r1" }, func(c m) { delete(c, "at_hash") }
		}, sso.CheckSignature},
		{"RS256 under the kid of an EC key", header("kid", "e1"), sso.CheckSignature},
		{"alg swapped for PS256", header("alg", "PS256"), sso.CheckSignature},
		// JWT-005: psychic signatures.
		{"ES256 of zeros", func(r *rig) {
			r.header = func(h m) { h["alg"], h["kid"] = "ES256", "e1" }
			r.raw = func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] + b64(make([]byte, 64)) }
		}, sso.CheckSignature},
		{"another's key", func(r *rig) { r.key = otherRSA() }, sso.CheckSignature},
		{"another's key, with the key in the header", func(r *rig) {
			r.key = otherRSA()
			r.header = func(h m) { h["jwk"] = rsaJWK("r1", otherRSA()) }
		}, sso.CheckSignature},
		{"another's key, with its address in the header", func(r *rig) {
			r.key = otherRSA()
			r.header = func(h m) { h["jku"], h["x5u"] = "https://evil.example/jwks", "https://evil.example/x5" }
		}, sso.CheckSignature},
		{"changed after signing", func(r *rig) {
			r.raw = func(s string) string {
				parts := strings.Split(s, ".")
				parts[1] = b64([]byte(strings.Replace(string(must(rawURL(parts[1]))), "subject-1", "subject-2", 1)))
				return strings.Join(parts, ".")
			}
		}, sso.CheckSignature},
		// JWT-007: an unknown kid is unknown, whatever it looks like.
		{"kid is a path", header("kid", "../../dev/null"), sso.CheckSignature},
		{"kid is SQL", header("kid", "' OR 1=1 --"), sso.CheckSignature},
		{"kid is an object", header("kid", m{"$ne": ""}), sso.CheckSignature},
		{"kid with NUL", header("kid", "r1\x00"), sso.CheckSignature},
		{"another type", header("typ", "at+jwt"), sso.CheckSignature},
		{"a logout token", header("typ", "logout+jwt"), sso.CheckSignature},
		// JWT-009, JWT-011: what parsers disagree about.
		{"two subs", text(`"sub":`, `"sub":"admin","sub":`), sso.CheckAnswer},
		{"two auds", text(`"aud":`, `"aud":"x","aud":`), sso.CheckAnswer},
		{"two exps, escaped", text(`"exp":`, `"\u0065xp":1,"exp":`), sso.CheckAnswer},
		{"two members deep inside", text(`"sub":`, `"x":{"a":1,"a":2},"sub":`), sso.CheckAnswer},
		{"ISS beside iss", text(`"iss":`, `"ISS":"https://evil.example","iss":`), sso.CheckAnswer},
		{"EXP alone", text(`"exp":`, `"EXP":`), sso.CheckAnswer},
		{"a long s for s", text(`"sub":`, `"ſub":`), sso.CheckAnswer},
		{"crit", header("crit", []string{"x"}), sso.CheckAnswer},
		{"b64", header("b64", false), sso.CheckAnswer},
		{"zip", header("zip", "DEF"), sso.CheckAnswer},
		{"payload is a list", func(r *rig) { r.payload = func(string) string { return "[]" } }, sso.CheckAnswer},
		{"payload is no UTF-8", text("subject-1", "subject-\xff"), sso.CheckAnswer},
		{"nested for ever", text(`"sub":`, `"x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`,"sub":`), sso.CheckAnswer},
		{"a JWE", func(r *rig) { r.raw = func(s string) string { return s + ".x.y" } }, sso.CheckAnswer}, // JWT-019
		{"padding", func(r *rig) { r.raw = func(s string) string { return s + "=" } }, sso.CheckAnswer},
		{"no token at all", func(r *rig) { r.raw = func(string) string { return "x" } }, sso.CheckAnswer},
		{"too long", set("x", strings.Repeat("x", 64<<10)), sso.CheckAnswer},
		{"no ID token", func(r *rig) { r.answer = func(a m) { delete(a, "id_token") } }, sso.CheckAnswer},
		{"ID token is a list", func(r *rig) { r.answer = func(a m) { a["id_token"] = []any{a["id_token"]} } }, sso.CheckAnswer},
		{"tokens of another type", func(r *rig) { r.answer = func(a m) { a["token_type"] = "mac" } }, sso.CheckAnswer},
		{"an error beside tokens", func(r *rig) { r.answer = func(a m) { a["error"] = "invalid_grant" } }, sso.CheckAnswer},
		{"another's code", func(r *rig) { r.challenge = "x" }, sso.CheckAnswer}, // PKCE
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.reset()
			a, _ := r.start(t, false)
			if _, report, err := r.finish(t, a); err != nil {
				t.Fatalf("the twin is refused: %v %+v", err, report.Checks)
			}
			a, _ = r.start(t, false)
			tt.mutate(r)
			_, report, err := r.finish(t, a)
			if !errors.Is(err, sso.ErrRefused) {
				t.Fatalf("got %v, want it refused", err)
			}
			var failed []sso.Check
			for _, c := range report.Checks {
				if c.Result == sso.Failed {
					failed = append(failed, c)
				}
			}
			if len(failed) != 1 || failed[0].Name != tt.want { // for that reason, and for no other
				t.Errorf("failed: %+v, want %s alone", failed, tt.want)
			}
		})
	}
	if r.seen["jwks"] > 2 {
		t.Errorf("the keys were read %d times", r.seen["jwks"])
	}
}

// reset makes the provider honest again.
func (o *op) reset() {
	o.claims, o.header, o.payload, o.raw, o.answer, o.token, o.info, o.userinfo, o.alg, o.key = nil, nil, nil, nil, nil, nil, nil, nil, "RS256", rsaKey()
}

// What is odd, and allowed.
func TestAccepted(t *testing.T) {
	r := newRig(t)
	for name, claims := range map[string]func(m){
		"audience in a list":          func(c m) { c["aud"] = []string{clientID} },
		"two audiences with azp":      func(c m) { c["aud"], c["azp"] = []string{"api", clientID}, clientID },
		"times with fractions":        func(c m) { c["iat"], c["exp"] = float64(now.Unix())+0.5, float64(now.Unix())+300.25 },
		"expired within the skew":     func(c m) { c["exp"] = now.Add(-time.Minute + time.Second).Unix() },
		"issued ahead of our clock":   func(c m) { c["iat"], c["nbf"] = now.Add(59*time.Second).Unix(), now.Add(59*time.Second).Unix() },
		"nbf and auth_time of 0":      func(c m) { c["nbf"], c["auth_time"] = 0, 0.0 },
		"email_verified as text":      func(c m) { c["email_verified"] = "True" },
		"email_verified is null":      func(c m) { c["email_verified"] = nil },
		"email_verified not said":     func(c m) { delete(c, "email_verified") },
		"no at_hash, auth_time, amr":  func(c m) { delete(c, "at_hash"); delete(c, "auth_time"); delete(c, "amr") },
		"upper-case mapped names":     func(c m) { c["Email"], c["Groups"] = "x", "y" },
		"nulls":                       func(c m) { c["x"], c["azp"] = nil, nil },
		"sub that looks like another": func(c m) { c["sub"] = "Subject-1" },
	} {
		r.claims = claims
		said, report, err := r.signIn(t)
		if err != nil {
			t.Errorf("%s: %+v", name, report.Checks)
		}
		if _, null := said.Attributes["x"]; null && name == "nulls" {
			t.Errorf("%s: %v", name, said.Attributes)
		}
	}
}

// RP-003, RP-013: what the browser brings by itself. The code is shown to nobody where it is refused.
func TestAnswer(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		name     string
		promised bool
		params   m
		want     sso.CheckName // "": accepted
		found    string
	}{
		{"plain", false, m{}, "", ""},
		{"iss not promised, right", false, m{"iss": r.issuer()}, "", ""},
		{"iss promised, right", true, m{"iss": r.issuer()}, "", ""},
		{"iss promised, absent", true, m{}, sso.CheckIssuer, ""},
		{"iss of another", true, m{"iss": "https://evil.example"}, sso.CheckIssuer, "https://evil.example"},
		{"iss of another, not promised", false, m{"iss": "https://evil.example"}, sso.CheckIssuer, ""},
		{"iss empty", false, m{"iss": ""}, sso.CheckIssuer, ""},
		{"iss with a slash", false, m{"iss": r.issuer() + "/"}, sso.CheckIssuer, ""},
		{"error", false, m{"error": "access_denied", "error_description": "not assigned <script>alert(1)</script>\x1b[31m\n", "code": ""}, sso.CheckAnswer, "access_denied: not assigned <script>alert(1)</script>?[31m?"},
		{"error and code", false, m{"error": "server_error"}, sso.CheckAnswer, "server_error"},
		{"empty error and code", false, m{"error": ""}, sso.CheckAnswer, "error"},
		{"error with iss of another", true, m{"error": "server_error", "iss": "https://evil.example"}, sso.CheckAnswer, ""},
		{"no code", false, m{"code": ""}, sso.CheckAnswer, ""},
		{"endless code", false, m{"code": strings.Repeat("x", 100<<10)}, sso.CheckAnswer, ""},
		{"endless error", false, m{"error": strings.Repeat("ü", 100<<10)}, sso.CheckAnswer, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.c.OIDC.Provider.IssParameter = tt.promised
			a, _ := r.start(t, false)
			for k, v := range tt.params {
				if a.Params[k] = v.(string); v == "" && k == "code" {
					delete(a.Params, k)
				}
			}
			before := r.seen["token"]
			_, report, err := r.finish(t, a)
			failure, _ := report.Failure()
			if (err == nil) != (tt.want == "") || failure.Name != tt.want || err != nil && !errors.Is(err, sso.ErrRefused) {
				t.Errorf("%v, %+v", err, failure)
			}
			if tt.found != "" && failure.Found != tt.found {
				t.Errorf("found %q, want %q", failure.Found, tt.found)
			}
			if tt.want != "" && r.seen["token"] != before {
				t.Error("the token endpoint was asked")
			}
		})
	}
}

// RP-001: an answer that nobody here waits for.
func TestNothingPending(t *testing.T) {
	r := newRig(t)
	report := &sso.Report{}
	_, err := r.p.Finish(t.Context(), r.c, r.s, sso.Arrival{Params: map[string]string{"code": "code-CANARY"}, Now: now}, report)
	if c, _ := report.Failure(); !errors.Is(err, sso.ErrRefused) || c.Name != sso.CheckRequest || r.seen["token"] != 0 {
		t.Errorf("%v %+v", err, report.Checks)
	}
}

// OAU-051 for a relying party: whoever asked for a fresh sign-in gets one, or nothing, where the provider says when it was.
// Some never say (Google, GitLab): then nothing is said here either, and an administrator sees why.
func TestFreshSignIn(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		name   string
		claims func(m)
		ok     bool
		said   bool
	}{
		{"just now", func(m) {}, true, true},
		{"an hour ago", func(c m) { c["auth_time"] = now.Add(-time.Hour).Unix() }, false, true},
		{"not said", func(c m) { delete(c, "auth_time") }, true, false},
		{"said as 0", func(c m) { c["auth_time"] = 0 }, true, false},
	} {
		r.claims = tt.claims
		for _, login := range []bool{true, false} {
			a, _ := r.start(t, login)
			said, report, err := r.finish(t, a)
			if err == nil && said.AuthTime.IsZero() == tt.said {
				t.Errorf("%s, login=%v: signed in at %s", tt.name, login, said.AuthTime)
			}
			if noted := resultOf(report, sso.CheckTime) == sso.Noted; noted != (login && !tt.said) {
				t.Errorf("%s, login=%v: %+v", tt.name, login, report.Checks)
			}
			if c, _ := report.Failure(); (err == nil) != (tt.ok || !login) || err != nil && c.Name != sso.CheckTime {
				t.Errorf("%s, login=%v: %v %+v", tt.name, login, err, c)
			}
		}
	}
}

// RP-007: userinfo counts where it is about the same person, and is asked only for what is missing.
func TestUserInfo(t *testing.T) {
	r := newRig(t)
	lean := func(c m) { delete(c, "email"); delete(c, "email_verified"); delete(c, "GROUPS") }
	full := m{"sub": "subject-1", "email": "ann@corp.example", "GROUPS": []string{"ml"}, "UID": 7, "locale": "de"}
	with := func(name string, v any) m {
		info := m{}
		for k, v := range full {
			info[k] = v
		}
		if info[name] = v; v == nil {
			delete(info, name)
		}
		return info
	}
	raw := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
	}
	status := func(n int) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) } }
	for _, tt := range []struct {
		name   string
		claims func(m)
		info   any
		by     http.HandlerFunc
		asked  int
		want   sso.CheckName
		err    error
	}{
		{"nothing missing", nil, full, nil, 0, "", nil},
		{"e-mail and groups missing", lean, full, nil, 1, "", nil},
		{"groups missing", func(c m) { delete(c, "GROUPS") }, full, nil, 1, "", nil},
		{"about another", lean, with("sub", "subject-2"), nil, 1, sso.CheckSubject, sso.ErrRefused},
		{"about nobody", lean, with("sub", nil), nil, 1, sso.CheckSubject, sso.ErrRefused},
		{"about a list", lean, with("sub", []string{"subject-1"}), nil, 1, sso.CheckSubject, sso.ErrRefused},
		{"about another in another case", lean, with("sub", "Subject-1"), nil, 1, sso.CheckSubject, sso.ErrRefused},
		{"about two", lean, nil, raw(`{"sub":"subject-2","sub":"subject-1","email":"a@b.c"}`), 1, sso.CheckAnswer, sso.ErrRefused},
		{"unverified", lean, with("email_verified", false), nil, 1, sso.CheckEmail, sso.ErrRefused},
		{"unverified there, verified in the ID token", func(c m) { lean(c); c["email_verified"] = true }, with("email_verified", false), nil, 1, sso.CheckEmail, sso.ErrRefused},
		{"a JWT", lean, nil, raw("eyJ.eyJ.x"), 1, sso.CheckAnswer, sso.ErrRefused},
		{"a list", lean, nil, raw("[]"), 1, sso.CheckAnswer, sso.ErrRefused},
		{"forbidden", lean, nil, status(403), 1, sso.CheckAnswer, sso.ErrRefused},
		{"broken", lean, nil, status(502), 1, sso.CheckAnswer, core.Unavailable}, // a failure is not an absence
		{"endless", lean, nil, raw(`{"x":"` + strings.Repeat("x", 2<<20) + `"}`), 1, sso.CheckAnswer, sso.ErrRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.reset()
			r.claims, r.info, r.userinfo = tt.claims, tt.info, tt.by
			before := r.seen["userinfo"]
			said, report, err := r.signIn(t)
			c, _ := report.Failure()
			if !errors.Is(err, tt.err) || c.Name != tt.want {
				t.Fatalf("%v, %+v", err, c)
			}
			if n := r.seen["userinfo"] - before; n != tt.asked {
				t.Errorf("asked %d times", n)
			}
			if err != nil {
				return
			}
			if said.Attributes["email"] != "ann@corp.example" || said.Attributes["UID"] != 15001.0 || said.Subject != "subject-1" {
				t.Errorf("%v: the ID token counts first", said.Attributes)
			}
			if tt.asked == 1 && (said.Attributes["locale"] != "de" || !cmp.Equal(said.Attributes["GROUPS"], []any{"ml"}) || !strings.Contains(report.Received, `"userinfo"`)) {
				t.Errorf("%v %s", said.Attributes, report.Received)
			}
		})
	}
	// A name that somebody chose is looked for; a default that nobody sends is not.
	r.reset()
	r.info = with("badge", "4711")
	r.c.Mappers.GID = "badge"
	if said, _, err := r.signIn(t); err != nil || said.Attributes["badge"] != "4711" {
		t.Errorf("a mapped claim: %v %v", said.Attributes, err)
	}
	// A provider without the endpoint says what it says.
	r.reset()
	r.claims, r.c.OIDC.Provider.UserInfo = lean, ""
	if said, _, err := r.signIn(t); err != nil || said.Attributes["email"] != nil {
		t.Errorf("without userinfo: %v %v", said.Attributes, err)
	}
}

func TestMandatoryClaim(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		claim  string
		values []string
		ok     bool
	}{
		{"GROUPS", []string{"x", "ops"}, true}, {"GROUPS", []string{"op", "OPS", ""}, false}, {"email", []string{"ann@corp.example"}, true},
		{"absent", []string{"", "null"}, false}, {"UID", []string{"15001"}, true}, {"email_verified", []string{"true"}, true}, {"dept", []string{"ml"}, true},
	} {
		r.c.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: tt.claim, Values: tt.values}
		r.info = m{"sub": "subject-1", "dept": "ml"}
		_, report, err := r.signIn(t)
		if c, _ := report.Failure(); (err == nil) != tt.ok || err != nil && c.Name != sso.CheckClaim {
			t.Errorf("%s of %v: %v %+v", tt.claim, tt.values, err, c)
		}
	}
}

func resultOf(r *sso.Report, name sso.CheckName) sso.Result {
	for _, c := range r.Checks {
		if c.Name == name {
			return c.Result
		}
	}
	return ""
}

// The claim email_verified is about the claim email, and counts where that is what is mapped, however it is spelled. RP-007
func TestMappedEmail(t *testing.T) {
	r := newRig(t)
	r.c.Mappers.Email = "upn"
	for _, tt := range []struct {
		upn, email any
		ok         bool
	}{
		{"ann@corp.example", "ann@corp.example", false}, {"ANN@corp.example", "ann@corp.example", false}, {" ann@corp.example\n", "ann@corp.example", false},
		{[]string{"ann@corp.example"}, "ann@corp.example", false}, {[]string{"x", "\tAnn@Corp.example "}, "ann@corp.example", false},
		{[]any{[]string{"ann@corp.example"}}, "ann@corp.example", false}, {m{"a": "ann@corp.example"}, "ann@corp.example", false},
		{"ann@corp.example", []string{"Ann@corp.example "}, false}, {"ann@corp.example", "\u0041nn@corp.example\r", false}, {"\u00e9@corp.example", "e\u0301@corp.example", false},
		{"a.nn@corp.example", "ann@corp.example", true}, {[]string{"a.nn@corp.example"}, []string{"ann@corp.example", "a@b.c"}, true}, {"ann@corp.example", nil, true},
	} {
		for _, verified := range []bool{false, true} {
			r.claims = func(c m) { c["upn"], c["email"], c["email_verified"] = tt.upn, tt.email, verified }
			_, report, err := r.signIn(t)
			if c, _ := report.Failure(); (err == nil) != (tt.ok || verified) || err != nil && c.Name != sso.CheckEmail {
				t.Errorf("%q, %q, verified=%v: %+v", tt.upn, tt.email, verified, report.Checks)
			}
		}
	}
	// What userinfo says about it counts as well.
	r.claims = func(c m) {
		delete(c, "email")
		delete(c, "email_verified")
		delete(c, "GROUPS")
		c["upn"] = []string{"ann@corp.example"}
	}
	for _, verified := range []any{true, "false"} {
		r.info = m{"sub": "subject-1", "email": "Ann@corp.example", "email_verified": verified, "GROUPS": []string{}}
		if _, report, err := r.signIn(t); (err == nil) != (verified == true) {
			t.Errorf("userinfo, verified=%v: %+v", verified, report.Checks)
		}
	}
}

// The token endpoint's refusals are explained, without what was sent there; one that does not answer is not a refusal.
func TestTokenEndpoint(t *testing.T) {
	r := newRig(t)
	echo := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(m{"error": code, "error_description": "you sent " + q.Header.Get("Authorization") + " " + q.PostForm.Encode() + secret})
		}
	}
	raw := func(status int, s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); io.WriteString(w, s) }
	}
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		want error
		fix  string
	}{
		{"invalid_client", echo(401, "invalid_client"), sso.ErrRefused, "client secret"},
		{"invalid_grant", echo(400, "invalid_grant"), sso.ErrRefused, "redirect URI"},
		{"a code that repeats the secret", echo(400, secret), sso.ErrRefused, "log"},
		{"another", echo(400, "x_y"), sso.ErrRefused, "log"},
		{"200 with an error", echo(200, "invalid_grant"), sso.ErrRefused, ""},
		{"a page", raw(200, "<html>"), sso.ErrRefused, ""},
		{"nothing", raw(200, ""), sso.ErrRefused, ""},
		{"two ID tokens", raw(200, `{"id_token":"a.b.c","id_token":"a.b.c"}`), sso.ErrRefused, ""},
		{"an object as token", raw(200, `{"id_token":"a.b.c","access_token":{}}`), sso.ErrRefused, ""},
		{"a token that injects", raw(200, `{"id_token":"a.b.c","access_token":"x\r\nHost: evil"}`), sso.ErrRefused, ""},
		{"404", raw(404, "no"), sso.ErrRefused, ""},
		{"redirect", func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/o/jwks", http.StatusTemporaryRedirect)
		}, core.Unavailable, ""},
		{"502", raw(502, "x"), core.Unavailable, ""},
		{"429", raw(429, "x"), core.Unavailable, ""},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, core.Unavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.token = tt.h
			_, report, err := r.signIn(t)
			if c, _ := report.Failure(); !errors.Is(err, tt.want) || c.Name != sso.CheckAnswer || !strings.Contains(c.Fix, tt.fix) {
				t.Errorf("%v %+v", err, c)
			}
		})
	}
	r.token, r.c.OIDC.Auth = func(w http.ResponseWriter, q *http.Request) { // the secret as it stands in a form
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(m{"error": "invalid_client", "error_description": url.QueryEscape(q.PostForm.Get("client_secret"))})
	}, sso.AuthPost
	if _, _, err := r.signIn(t); !errors.Is(err, sso.ErrRefused) {
		t.Errorf("by post: %v", err)
	}
	// No spelling of a secret is shown, and what repeats none is.
	for name, spell := range map[string]func(string) string{
		"lower-case escapes": func(s string) string { return strings.ToLower(url.QueryEscape(s)) }, "upper case": strings.ToUpper,
		"escaped twice": func(s string) string { return url.PathEscape(url.QueryEscape(s)) },
		"base64url":     func(s string) string { return b64([]byte("client:" + s)) },
	} {
		r.token = func(w http.ResponseWriter, q *http.Request) {
			jsonAnswer(401, m{"error": "invalid_client", "error_description": "wrong: " + spell(q.PostForm.Get("client_secret"))})(w, q)
		}
		_, report, err := r.signIn(t)
		if c, _ := report.Failure(); !errors.Is(err, sso.ErrRefused) || strings.Contains(c.Found, "wrong") || !strings.Contains(c.Found, "invalid_client") {
			t.Errorf("%s: %v %+v", name, err, c)
		}
	}
	r.token = jsonAnswer(401, m{"error": "invalid_client", "error_description": "unknown client"})
	_, report, _ := r.signIn(t)
	if c, _ := report.Failure(); !strings.Contains(c.Found, "unknown client") {
		t.Errorf("a description without a secret: %+v", c)
	}
	r.reset()
	if _, _, err := r.signIn(t); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

// How the client proves itself, in each of the ways.
func TestClientAuthentication(t *testing.T) {
	r := newRig(t)
	r.s.Keys = []sso.Key{{ID: "ours", Certificate: []byte("x"), Private: otherRSA()}}
	r.c.OIDC.Auth = sso.AuthBasic
	if _, _, err := r.signIn(t); err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Header: http.Header{"Authorization": {r.basic}}}
	user, pass, _ := req.BasicAuth()
	if u, _ := url.QueryUnescape(user); u != clientID || must(url.QueryUnescape(pass)) != secret || r.form.Has("client_secret") {
		t.Errorf("basic: %q %q %v", user, pass, r.form)
	}
	r.c.OIDC.Auth = sso.AuthPost
	if _, _, err := r.signIn(t); err != nil || r.basic != "" || r.form.Get("client_secret") != secret || r.form.Get("client_id") != clientID {
		t.Errorf("post: %v %q %v", err, r.basic, r.form)
	}
	r.c.OIDC.Auth = sso.AuthPrivateKey
	if _, _, err := r.signIn(t); err != nil || r.basic != "" || r.form.Has("client_secret") {
		t.Errorf("private key: %v %q %v", err, r.basic, r.form)
	}
	first := checkAssertion(t, r)
	if _, _, err := r.signIn(t); err != nil || checkAssertion(t, r) == first {
		t.Errorf("an assertion was used twice: %v", err)
	}
	r.s.Keys = nil
	a, _ := r.start(t, false)
	if _, err := r.p.Finish(t.Context(), r.c, r.s, a, &sso.Report{}); !errors.Is(err, core.Invalid) {
		t.Errorf("without a key: %v", err)
	}
}
