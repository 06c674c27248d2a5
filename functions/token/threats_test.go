package token_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/policy"
)

// A cluster's token grows with the groups that matter there and with no others, and one that would not fit a header is an
// error that says so, not a token that the API server drops (K8S-011).
func TestManyGroups(t *testing.T) {
	r := newRig(t, 1)
	one, two := r.cluster("acme", "one"), r.cluster("acme", "two")
	us := r.actor("acme")
	var groups []core.GroupName
	for i := range 100 {
		g := core.GroupName(fmt.Sprintf("%03d-%s", i, strings.Repeat("g", 240)))
		if _, err := r.first().dir.CreateGroup(t.Context(), us, "acme", string(g)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.first().dir.AddMember(t.Context(), us, "acme", g, admin); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	rule := func(g core.GroupName, at core.ClusterID) access.NewRule {
		return access.NewRule{Subject: core.GroupSubject(g), Role: policy.Viewer, Scope: core.ClusterScope(at)}
	}
	for i, g := range groups {
		rules := []access.NewRule{rule(g, one)}
		if i < 3 {
			rules = append(rules, rule(g, two))
		}
		if _, err := r.first().access.Seed(t.Context(), "acme", rules...); err != nil {
			t.Fatal(err)
		}
	}
	got := r.tokens() // the ID token leaves out what does not fit; the sign-in itself goes on
	if len(got.str("id_token")) > 8<<10 {
		t.Errorf("an ID token of %d bytes", len(got.str("id_token")))
	}
	a := r.post(r.client(), "/t/acme/token", exchangeForm(got.str("access_token"), string(one)))
	if a.status < 400 || a.status >= 500 || a.str("access_token") != "" {
		t.Errorf("a token with 100 long groups: %d %.200s", a.status, a.body)
	}
	few := claims(t, r.post(r.client(), "/t/acme/token", exchangeForm(got.str("access_token"), string(two))).want(200).str("access_token"))
	if list, _ := few["groups"].([]any); len(list) != 3 {
		t.Errorf("the twin has %d groups, want the 3 that matter there", len(list))
	}
}

// A secret is compared after it became a MAC, so how much of it is right makes no difference to the time (OAU-029): the log
// shows what is wrong at the beginning and at the end beside each other. What is asserted is that each place counts; a time
// is no assertion.
func TestSecretTiming(t *testing.T) {
	r := newRig(t, 1)
	app, secret := r.application("acme", "robot")
	rec, err := r.first().dir.Application(t.Context(), "acme", app)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) string {
		b := []byte(secret)
		if b[i] == 'a' {
			b[i] = 'b'
		} else {
			b[i] = 'a'
		}
		return string(b)
	}
	tries := []string{flip(0), flip(len(secret) - 1)}
	var best [2]time.Duration
	for round := range 500 {
		for i, s := range tries {
			begun := time.Now()
			if r.first().dir.CheckSecret(t.Context(), "acme", rec.Value, s) == nil {
				t.Fatal("a wrong secret is taken")
			}
			if d := time.Since(begun); round == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	if r.first().dir.CheckSecret(t.Context(), "acme", rec.Value, secret) != nil {
		t.Error("the twin: the right secret is refused")
	}
	t.Logf("the shortest of many: wrong at the beginning %v, at the end %v", best[0], best[1])
	for i := range secret {
		if r.first().dir.CheckSecret(t.Context(), "acme", rec.Value, flip(i)) == nil {
			t.Errorf("a secret that is wrong in place %d is taken", i)
		}
	}
}

// Everything that a token request may go wrong with leaves no family behind (OAU-005, OAU-007, OAU-031): a code that was
// presented wrongly is burned, whatever was wrong with it.
func TestBurnedOnce(t *testing.T) {
	r := newRig(t, 1)
	app, secret := r.application("acme", "web", "https://app.example/cb")
	for name, wrong := range map[string]func(code string) reply{
		"another client": func(code string) reply {
			f := redemption(code)
			f.Del("client_id")
			return r.post(r.client(), "/t/acme/token", f, basic(app, secret))
		},
		"another redirect": func(code string) reply {
			return r.post(r.client(), "/t/acme/token", redemption(code, set("redirect_uri", "http://127.0.0.1:1/other")))
		},
		"another port": func(code string) reply {
			return r.post(r.client(), "/t/acme/token", redemption(code, set("redirect_uri", "http://127.0.0.1:1/callback")))
		},
		"another verifier": func(code string) reply {
			return r.post(r.client(), "/t/acme/token", redemption(code, set("code_verifier", strings.Repeat("v", 43))))
		},
	} {
		code := r.code(r.client(), request())
		wrong(code).refused(400, oauth.InvalidGrant)
		r.post(r.client(), "/t/acme/token", redemption(code)).refused(400, oauth.InvalidGrant)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	// At another tenant a code is unknown, and stays good at its own.
	code := r.code(r.client(), request())
	if a := r.post(r.client(), "/t/other/token", redemption(code)); a.status != 400 {
		t.Errorf("at another tenant: %d", a.status)
	}
	r.post(r.client(), "/t/acme/token", redemption(code)).want(200)
}

// Tokens are not bound to keys here, so a request with a proof of possession is refused and never answered with a token that
// its client takes for a bound one (OAU-057). The same request without the proof is answered.
func TestDPoPIsRefused(t *testing.T) {
	r := newRig(t, 1)
	app, secret := r.application("acme", "robot")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {string(app)}, "client_secret": {secret}}
	for _, proofs := range [][]string{{"eyJhbGciOiJFUzI1NiJ9.e30.c2ln"}, {""}, {"a", "b"}, {"none"}} {
		for _, path := range []string{"/t/acme/token", "/t/acme/api/v2/token"} {
			a := r.post(r.client(), path, form, func(q *http.Request) { q.Header["Dpop"] = proofs })
			if a.status != 400 || a.str("error") != "invalid_dpop_proof" || a.str("access_token") != "" {
				t.Errorf("%s with %q: %d %s", path, proofs, a.status, a.body)
			}
		}
	}
	token := r.post(r.client(), "/t/acme/token", form).want(200).str("access_token")
	q, err := http.NewRequest("GET", r.base+"/t/acme/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "DPoP "+token)
	if a := r.do(r.client(), q); a.status != 401 {
		t.Errorf("a token of ours sent as a bound one: %d", a.status)
	}
}
