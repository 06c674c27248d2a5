package token_test

import (
	"net/url"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/token"
)

// Nobody is asked for consent, so a client that somebody registered must not get the rights of the people who sign in at
// it: a link to its sign-in would be enough to administer a tenant in its administrator's name. Its tokens, refreshed ones
// too, tell it who came, and open nothing of ours. The twins: our own client's token, and an application's own.
func TestForeignClientGetsNoRights(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	cluster := string(r.cluster("acme", "one"))
	web, secret := r.application("acme", "web", "https://app.example/cb")
	q := request(set("client_id", string(web)), set("redirect_uri", "https://app.example/cb"))
	form := redemption(r.code(r.client(), q), set("redirect_uri", "https://app.example/cb"))
	form.Del("client_id")
	theirs := r.post(c, "/t/acme/token", form, basic(web, secret)).want(200)
	refreshed := r.post(c, "/t/acme/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {theirs.str("refresh_token")}}, basic(web, secret)).want(200)
	ours := r.tokens()
	own := r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(web, secret)).want(200)

	// What every API of ours asks first.
	opens := func(raw string) bool {
		t.Helper()
		_, err := token.ParseAccess(t.Context(), r.first().ring, "acme", r.issuer("acme"), raw, r.clock.Now())
		return err == nil
	}
	for name, tt := range map[string]struct {
		answer reply
		aud    string
		opens  bool
	}{
		"theirs":           {theirs, string(web), false},
		"theirs refreshed": {refreshed, string(web), false},
		"ours":             {ours, r.issuer("acme"), true},
		"their own":        {own, r.issuer("acme"), true},
	} {
		raw := tt.answer.str("access_token")
		if aud := claims(t, raw)["aud"]; aud != tt.aud {
			t.Errorf("%s: for %v, want %s", name, aud, tt.aud)
		}
		if opens(raw) != tt.opens {
			t.Errorf("%s: opens our APIs: %v", name, !tt.opens)
		}
	}
	// No exchange, by whomever.
	ex := exchangeForm(refreshed.str("access_token"), cluster)
	r.post(c, "/t/acme/token", ex).refused(400, oauth.InvalidRequest)
	ex.Del("client_id")
	r.post(c, "/t/acme/token", ex, basic(web, secret)).refused(400, oauth.InvalidRequest)
	r.post(c, "/t/acme/token", exchangeForm(ours.str("access_token"), cluster)).want(200)

	// What it is for.
	if info := r.post(c, "/t/acme/userinfo", nil, bearer(refreshed.str("access_token"))).want(200); info.str("email") != admin {
		t.Errorf("userinfo %s", info.body)
	}
	said := r.post(c, "/t/acme/introspect", url.Values{"token": {refreshed.str("access_token")}}, basic(web, secret)).want(200)
	if said.json()["active"] != true || said.str("aud") != string(web) {
		t.Errorf("introspection %s", said.body)
	}
	r.post(c, "/t/acme/revoke", url.Values{"token": {refreshed.str("access_token")}}, basic(web, secret)).want(200)
	r.post(c, "/t/acme/userinfo", nil, bearer(refreshed.str("access_token"))).want(401)

	// The password grant is no way round.
	r.settings("acme", func(x *org.Tenant) { x.Settings.PasswordGrant = true })
	typed := r.post(c, "/t/acme/token", url.Values{"grant_type": {"password"}, "username": {admin}, "password": {password}, "scope": {"openid"}}, basic(web, secret)).want(200)
	if opens(typed.str("access_token")) {
		t.Error("the password grant gives another client the person's rights")
	}
}

// What a person let a client have ends when the client is disabled or deleted: at the next request.
func TestClientGone(t *testing.T) {
	end := map[string]func(*rig, core.ApplicationID) error{
		"disabled": func(r *rig, id core.ApplicationID) error {
			_, err := r.first().dir.SetEnabled(t.Context(), r.actor("acme"), "acme", id, false)
			return err
		},
		"deleted": func(r *rig, id core.ApplicationID) error {
			return r.first().dir.DeleteApplication(t.Context(), r.actor("acme"), "acme", id)
		},
	}
	for name, end := range end {
		r := newRig(t, 2)
		c := r.client()
		server, serverSecret := r.application("acme", "resource-server")
		app, _, err := r.first().dir.CreateApplication(t.Context(), r.actor("acme"), "acme", directory.NewApplication{
			Name: "tool", Public: true, RedirectURIs: []string{"https://app.example/cb"},
		})
		if err != nil {
			t.Fatal(err)
		}
		id := set("client_id", string(app.ID))
		uri := set("redirect_uri", "https://app.example/cb")
		raw := r.post(c, "/t/acme/token", redemption(r.code(r.client(), request(id, uri)), id, uri)).want(200).str("access_token")
		ours := r.tokens().str("access_token")
		active := func(raw string) bool {
			t.Helper()
			return r.post(c, "/t/acme/introspect", url.Values{"token": {raw}}, basic(server, serverSecret)).want(200).json()["active"] == true
		}
		if r.post(c, "/t/acme/userinfo", nil, bearer(raw)).status != 200 || !active(raw) {
			t.Fatalf("%s: does not count to begin with", name)
		}
		if err := end(r, app.ID); err != nil {
			t.Fatal(err)
		}
		for range r.instances {
			if a := r.post(c, "/t/acme/userinfo", nil, bearer(raw)); a.status != 401 || active(raw) {
				t.Errorf("%s: userinfo answers %d, active %v", name, a.status, active(raw))
			}
		}
		r.post(c, "/t/acme/userinfo", nil, bearer(ours)).want(200)
	}
}
