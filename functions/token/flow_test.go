package token_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
)

// The whole way of a person at the command line: sign in with the browser, redeem the code, ask who one is, refresh, and
// get a token for a cluster.
func TestSignInToCluster(t *testing.T) {
	r := newRig(t, 2)
	one, two := r.cluster("acme", "one"), r.cluster("acme", "two")
	i := r.first()
	must(t)(i.dir.CreateGroup(t.Context(), r.actor("acme"), "acme", "research"))
	must(t)(i.dir.CreateGroup(t.Context(), r.actor("acme"), "acme", "chess club"))
	must(t)(i.dir.AddMember(t.Context(), r.actor("acme"), "acme", "research", admin))
	must(t)(i.dir.AddMember(t.Context(), r.actor("acme"), "acme", "chess club", admin))
	must(t)(i.access.Seed(t.Context(), "acme", access.NewRule{
		Subject: core.GroupSubject("research"), Role: policy.SystemAdministrator, Scope: core.ClusterScope(one),
	}))

	c := r.client()
	where, back := r.signIn(c, "acme", admin, password, request()).want(303).location()
	if where != callback || back.Get("state") != "xyz" || back.Get("iss") != r.issuer("acme") {
		t.Fatalf("back to %s with %v", where, back)
	}
	got := r.post(c, "/t/acme/token", redemption(back.Get("code"))).want(200)
	if got.header.Get("Cache-Control") != "no-store" || got.json()["expires_in"] != 600.0 || got.str("token_type") != "Bearer" {
		t.Errorf("answer %v %v", got.header, got.json())
	}
	id := claims(t, got.str("id_token"))
	for name, want := range map[string]any{
		"iss": r.issuer("acme"), "aud": "fleetpass-cli", "nonce": "n-0S6_WzA2Mj", "email": admin, "email_verified": true,
		"preferred_username": admin, "auth_time": float64(r.clock.Now().Unix()),
	} {
		if id[name] != want {
			t.Errorf("ID token: %s = %v, want %v", name, id[name], want)
		}
	}
	info := r.do(c, withToken(t, r.base+"/t/acme/userinfo", got.str("access_token"))).want(200)
	if info.str("sub") != id["sub"] || info.str("email") != admin || len(info.json()["groups"].([]any)) != 2 {
		t.Errorf("userinfo %v", info.json())
	}

	r.clock.advance(5 * time.Minute)
	again := r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
	if again.str("refresh_token") == got.str("refresh_token") || again.str("access_token") == got.str("access_token") {
		t.Error("nothing was renewed")
	}
	if claims(t, again.str("id_token"))["auth_time"] != id["auth_time"] {
		t.Error("auth_time moved at a refresh")
	}

	for _, tt := range []struct {
		cluster core.ClusterID
		groups  []any
	}{{one, []any{"research"}}, {two, nil}} {
		ex := r.post(c, "/t/acme/token", exchangeForm(again.str("access_token"), string(tt.cluster))).want(200)
		if ex.str("issued_token_type") != "urn:ietf:params:oauth:token-type:access_token" || ex.json()["expires_in"] != 300.0 {
			t.Errorf("exchange %v", ex.json())
		}
		k := claims(t, ex.str("access_token"))
		groups, _ := k["groups"].([]any)
		if k["aud"] != string(tt.cluster) || k["preferred_username"] != admin || !slices.Equal(groups, tt.groups) {
			t.Errorf("cluster token %v", k)
		}
	}

	// A second client in the same browser is signed in without a page.
	_, back = r.get(c, "/t/acme/authorize?"+request(set("prompt", "none")).Encode()).want(303).location()
	r.post(c, "/t/acme/token", redemption(back.Get("code"))).want(200)
}

// An application acts for itself, and gets a token for a cluster.
func TestApplicationToCluster(t *testing.T) {
	r := newRig(t, 1)
	one := r.cluster("acme", "one")
	app, secret := r.application("acme", "robot")
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"openid offline_access"}}
	for name, got := range map[string]reply{
		"basic": r.post(r.client(), "/t/acme/token", form, basic(app, secret)),
		"post": r.post(r.client(), "/t/acme/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {string(app)}, "client_secret": {secret}}),
		"v2": r.post(r.client(), "/t/acme/api/v2/token", form, basic(app, secret)),
	} {
		got.want(200)
		k := claims(t, got.str("access_token"))
		if k["sub"] != string(app) || k["kind"] != "application" || k["email"] != nil {
			t.Errorf("%s: %v", name, k)
		}
		// OAU-033
		if got.json()["refresh_token"] != nil || got.json()["id_token"] != nil || got.str("scope") != "" {
			t.Errorf("%s: an application got more than an access token: %v", name, got.json())
		}
		ex := exchangeForm(got.str("access_token"), string(one))
		ex.Del("client_id")
		k = claims(t, r.post(r.client(), "/t/acme/token", ex, basic(app, secret)).want(200).str("access_token"))
		if k["preferred_username"] != "app:"+string(app) || k["groups"] != nil {
			t.Errorf("%s: cluster token %v", name, k)
		}
	}
}
