package token_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// 100 refreshes at once on several instances: one successor. A later use of the old token ends the family (OAU-035, 037).
func TestRefreshInParallel(t *testing.T) {
	r := newRig(t, 5)
	got := r.tokens()
	var wg sync.WaitGroup
	var mu sync.Mutex
	successors := map[string]reply{}
	for range 100 {
		wg.Go(func() {
			a := r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token")))
			mu.Lock()
			defer mu.Unlock()
			if a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
				return
			}
			successors[a.str("refresh_token")] = a
		})
	}
	wg.Wait()
	if len(successors) != 1 {
		t.Fatalf("%d successors", len(successors))
	}
	for next, a := range successors {
		r.clock.advance(11 * time.Second)
		r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))).refused(400, oauth.InvalidGrant)
		r.post(r.client(), "/t/acme/token", refreshForm(next)).refused(400, oauth.InvalidGrant)
		r.do(r.client(), withToken(t, r.base+"/t/acme/userinfo", a.str("access_token"))).want(401)
	}
	reasons := 0
	for _, rec := range r.audits("acme", audit.SignOut) {
		if strings.Contains(rec.Reason, "used again") && rec.Request != "" && rec.Subject == core.UserSubject(admin) {
			reasons++
		}
	}
	if reasons != 1 {
		t.Errorf("%d audit records of the reuse, want 1", reasons)
	}
}

func TestRefreshScopeAndClient(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	q := request(set("scope", "openid offline_access email"))
	got := r.post(c, "/t/acme/token", redemption(r.code(c, q))).want(200)
	form := refreshForm(got.str("refresh_token"))
	// OAU-027: less is given, more is not, and what was refused cost nothing.
	for _, more := range []string{"openid groups", "profile", "openid\nemail"} {
		form.Set("scope", more)
		r.post(c, "/t/acme/token", form).refused(400, oauth.InvalidScope)
	}
	form.Set("scope", "openid")
	less := r.post(c, "/t/acme/token", form).want(200)
	if less.str("scope") != "openid" || claims(t, less.str("id_token"))["email"] != nil {
		t.Errorf("asked for less, got %s", less.str("scope"))
	}
	form = refreshForm(less.str("refresh_token"))
	app, secret := r.application("acme", "thief")
	stolen := url.Values{"grant_type": {"refresh_token"}, "refresh_token": form["refresh_token"]}
	r.post(c, "/t/acme/token", stolen, basic(app, secret)).refused(400, oauth.InvalidGrant)
	r.post(c, "/t/acme/token", stolen, basic(app, "wrong")).refused(401, oauth.InvalidClient)
	r.post(c, "/t/other/token", form).refused(400, oauth.InvalidGrant)
	if full := r.post(c, "/t/acme/token", form).want(200); full.str("scope") != "openid offline_access email" {
		t.Errorf("what was granted shrank to %q", full.str("scope"))
	}
	// Without offline_access there is nothing to refresh with.
	none := r.post(c, "/t/acme/token", redemption(r.code(r.client(), request(set("scope", "openid"))))).want(200)
	if none.json()["refresh_token"] != nil {
		t.Error("a refresh token that nobody asked for")
	}
}

// Idle and absolute ends, and everything that ends a person's sign-ins (OAU-039, WEB-013).
func TestRefreshEnds(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *rig) error{
		"idle": func(_ *testing.T, r *rig) error { r.clock.advance(time.Hour); return nil },
		"disabled": func(t *testing.T, r *rig) error {
			_, err := r.first().dir.Disable(t.Context(), r.actor("acme"), "acme", admin)
			return err
		},
		"password": func(t *testing.T, r *rig) error {
			_, err := r.first().dir.SetPassword(t.Context(), r.actor("acme"), "acme", admin, "another battery horse")
			return err
		},
		"suspended": func(t *testing.T, r *rig) error {
			return r.first().org.Suspend(t.Context(), r.actor("acme"), "acme")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			got := r.tokens()
			got = r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
			if err := end(t, r); err != nil {
				t.Fatal(err)
			}
			if a := r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))); a.status != 400 && a.status != 404 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	r := newRig(t, 1)
	got := r.tokens()
	for range 23 {
		r.clock.advance(30 * time.Minute)
		got = r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
	}
	r.clock.advance(25 * time.Minute)
	got = r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
	if got.json()["expires_in"] != 300.0 {
		t.Errorf("an access token outlives its sign-in: %v s", got.json()["expires_in"])
	}
	r.clock.advance(5 * time.Minute)
	r.post(r.client(), "/t/acme/token", refreshForm(got.str("refresh_token"))).refused(400, oauth.InvalidGrant)
}

// Revocation ends the sign-in of the client's own token, and says so only if it is true (RFC 7009, OAU-041).
func TestRevoke(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	form := func(token string) url.Values { return url.Values{"client_id": {"fleetpass-cli"}, "token": {token}} }
	for _, kind := range []string{"refresh_token", "access_token"} {
		got, other := r.tokens(), r.tokens()
		app, secret := r.application("acme", "app-"+strings.ReplaceAll(kind, "_", "-"))
		r.post(c, "/t/acme/revoke", url.Values{"token": {got.str(kind)}}, basic(app, secret)).refused(400, oauth.UnauthorizedClient)
		r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)

		for _, i := range r.instances {
			i.faulty.Plan = func(storetest.Call) storetest.Fault { return storetest.Refuse }
		}
		if a := r.post(c, "/t/acme/revoke", form(got.str(kind))); a.status != 503 || a.str("error") != "temporarily_unavailable" {
			t.Errorf("%s: the store is away: %d %s", kind, a.status, a.body)
		}
		for _, i := range r.instances {
			i.faulty.Plan = nil
		}
		r.post(c, "/t/acme/revoke", form(got.str(kind))).want(200)
		r.post(c, "/t/acme/revoke", form(got.str(kind))).want(200) // it is gone: no error (§2.2)
		r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).refused(400, oauth.InvalidGrant)
		r.do(c, withToken(t, r.base+"/t/acme/userinfo", got.str("access_token"))).want(401)
		r.post(c, "/t/acme/token", refreshForm(other.str("refresh_token"))).want(200)
	}
	for _, junk := range []string{"junk", "fpr_junk", strings.Repeat("a.", 100)} {
		r.post(c, "/t/acme/revoke", form(junk)).want(200)
	}
	r.post(c, "/t/acme/revoke", url.Values{"token": {"x"}}).refused(401, oauth.InvalidClient)
	r.post(c, "/t/acme/revoke", form("")).refused(400, oauth.InvalidRequest)
}

// Introspection is for clients with a secret, says nothing of other tenants, and is never a guess (RFC 7662, OAU-043).
func TestIntrospect(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	app, secret := r.application("acme", "server")
	theirs, theirSecret := r.application("other", "server")
	got := r.tokens()
	ask := func(tenant, token string, id core.ApplicationID, secret string) reply {
		return r.post(c, "/t/"+tenant+"/introspect", url.Values{"token": {token}}, basic(id, secret))
	}
	a := ask("acme", got.str("access_token"), app, secret).want(200).json()
	if a["active"] != true || a["username"] != admin || a["client_id"] != "fleetpass-cli" || a["iss"] != r.issuer("acme") || a["exp"] == nil {
		t.Errorf("introspection %v", a)
	}
	inactive := func(name string, a reply) {
		t.Helper()
		if a.want(200).body != `{"active":false}` {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	inactive("another tenant's", ask("other", got.str("access_token"), theirs, theirSecret))
	inactive("another tenant's refresh token", ask("other", got.str("refresh_token"), theirs, theirSecret))
	inactive("another client's refresh token", ask("acme", got.str("refresh_token"), app, secret))
	inactive("junk", ask("acme", "junk", app, secret))
	inactive("an ID token", ask("acme", got.str("id_token"), app, secret))
	robot := r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(app, secret)).want(200).str("access_token")
	if ask("acme", robot, app, secret).want(200).json()["active"] != true {
		t.Error("an application's token is not active")
	}

	// A client may ask about its own refresh token, and only the newest counts.
	web, webSecret := r.application("acme", "web", "https://app.example/cb")
	q := request(set("client_id", string(web)), set("redirect_uri", "https://app.example/cb"))
	own := redemption(r.code(r.client(), q), set("redirect_uri", "https://app.example/cb"))
	own.Del("client_id")
	theirOwn := r.post(c, "/t/acme/token", own, basic(web, webSecret)).want(200).str("refresh_token")
	if a := ask("acme", theirOwn, web, webSecret).want(200).json(); a["active"] != true || a["token_type"] != "refresh_token" || a["username"] != admin {
		t.Errorf("one's own refresh token: %v", a)
	}
	r.post(c, "/t/acme/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {theirOwn}}, basic(web, webSecret)).want(200)
	inactive("used", ask("acme", theirOwn, web, webSecret))

	r.post(c, "/t/acme/introspect", url.Values{"token": {"x"}}).refused(401, oauth.InvalidClient)
	r.post(c, "/t/acme/introspect", url.Values{"token": {"x"}, "client_id": {"fleetpass-cli"}}).refused(401, oauth.InvalidClient)
	ask("acme", robot, app, "wrong").refused(401, oauth.InvalidClient)
	ask("acme", robot, theirs, theirSecret).refused(401, oauth.InvalidClient)

	n := 0
	for _, i := range r.instances {
		i.faulty.Plan = func(storetest.Call) storetest.Fault {
			if n++; n > 1 { // the client is still found
				return storetest.Refuse
			}
			return storetest.NoFault
		}
	}
	if a := ask("acme", got.str("access_token"), app, secret); a.status != 503 {
		t.Errorf("the store is away: %d %s", a.status, a.body)
	}
	for _, i := range r.instances {
		i.faulty.Plan = nil
	}
	// At once, on every instance: nothing is remembered.
	if _, err := r.first().dir.ForceLogout(t.Context(), r.actor("acme"), "acme", admin); err != nil {
		t.Fatal(err)
	}
	inactive("signed out", ask("acme", got.str("access_token"), app, secret))
	inactive("signed out", ask("acme", got.str("access_token"), app, secret))
	r.clock.advance(10 * time.Minute)
	inactive("expired", ask("acme", robot, app, secret))
}

// An exchange is for a cluster of the tenant that exists, from a token of the client's own that still counts (RFC 8693).
func TestExchangeRefuses(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	one, foreign := string(r.cluster("acme", "one")), string(r.cluster("other", "one"))
	got := r.tokens()
	access := got.str("access_token")
	r.post(c, "/t/acme/token", exchangeForm(access, one)).want(200)
	absent := r.post(c, "/t/acme/token", exchangeForm(access, string(core.NewClusterID()))).refused(400, oauth.InvalidTarget)
	if there := r.post(c, "/t/acme/token", exchangeForm(access, foreign)).refused(400, oauth.InvalidTarget); there.body != absent.body {
		t.Errorf("another tenant's cluster differs from none: %s", there.body)
	}
	clusterToken := r.post(c, "/t/acme/token", exchangeForm(access, one)).str("access_token")
	app, secret := r.application("acme", "thief")
	for name, tt := range map[string]struct {
		edit func(url.Values)
		code oauth.Code
	}{
		"no subject":           {set("subject_token", ""), oauth.InvalidRequest},
		"junk":                 {set("subject_token", "junk"), oauth.InvalidRequest},
		"an ID token":          {set("subject_token", got.str("id_token")), oauth.InvalidRequest},
		"a cluster's token":    {set("subject_token", clusterToken), oauth.InvalidRequest},
		"a refresh token":      {set("subject_token", got.str("refresh_token")), oauth.InvalidRequest},
		"no type":              {set("subject_token_type", ""), oauth.InvalidRequest},
		"another type":         {set("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), oauth.InvalidRequest},
		"an actor":             {set("actor_token", access), oauth.InvalidRequest},
		"a refresh token back": {set("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), oauth.InvalidRequest},
		"no target":            {set("audience", ""), oauth.InvalidTarget},
		"two targets":          {set("resource", "urn:uuid:"+foreign), oauth.InvalidTarget},
		"another's token": {func(q url.Values) {
			q.Set("client_id", string(app))
			q.Set("client_secret", secret)
		}, oauth.InvalidRequest},
	} {
		form := exchangeForm(access, one)
		tt.edit(form)
		if a := r.post(c, "/t/acme/token", form); a.status != 400 || a.str("error") != string(tt.code) {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, tt.code)
		}
	}
	r.post(c, "/t/other/token", exchangeForm(access, foreign)).refused(400, oauth.InvalidRequest)
	if _, err := r.first().dir.Disable(t.Context(), r.actor("acme"), "acme", admin); err != nil {
		t.Fatal(err)
	}
	r.post(c, "/t/acme/token", exchangeForm(access, one)).refused(400, oauth.InvalidRequest)
}

// The password grant is the tenant's to allow, for local users whose password is their own.
func TestPasswordGrant(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	form := url.Values{"grant_type": {"password"}, "client_id": {"fleetpass-cli"}, "username": {admin}, "password": {password}, "scope": {"openid offline_access"}}
	r.post(c, "/t/acme/token", form).refused(400, oauth.UnauthorizedClient)
	r.settings("acme", func(x *org.Tenant) { x.Settings.PasswordGrant = true })
	got := r.post(c, "/t/acme/token", form).want(200)
	r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
	form.Set("password", "wrong")
	wrong := r.post(c, "/t/acme/token", form).refused(400, oauth.InvalidGrant)
	for _, name := range []string{"nobody@acme.example", "no e-mail", "system:masters"} {
		form.Set("username", name)
		if a := r.post(c, "/t/acme/token", form).refused(400, oauth.InvalidGrant); a.body != wrong.body {
			t.Errorf("%s: %s, and for a wrong password %s", name, a.body, wrong.body)
		}
	}
	_, temporary, err := r.first().dir.CreateUser(t.Context(), r.actor("acme"), "acme", newUser("carl@acme.example"))
	if err != nil {
		t.Fatal(err)
	}
	form.Set("username", "carl@acme.example")
	form.Set("password", temporary)
	r.post(c, "/t/acme/token", form).refused(400, oauth.InvalidGrant)
	for range 12 {
		form.Set("username", admin)
		form.Set("password", "wrong")
		if a := r.post(c, "/t/acme/token", form); a.status == 429 {
			if a.header.Get("Retry-After") == "" {
				t.Error("throttled for how long?")
			}
			return
		}
	}
	t.Error("never throttled")
}

// What descends from a browser's session ends with it, however late in it the code was asked for: nobody stays signed in
// for longer than the absolute lifetime after a proof (12 h by default). The twin is a proof of its own, at the same time.
func TestFamilyEndsWithSession(t *testing.T) {
	r := newRig(t, 1)
	b := r.client()
	r.post(b, "/t/acme/token", redemption(r.code(b, request()))).want(200)
	silent := func() url.Values {
		_, back := r.get(b, "/t/acme/authorize?"+request(set("prompt", "none")).Encode()).want(303).location()
		return back
	}
	for range 23 { // the browser is in use all the time
		r.clock.advance(30 * time.Minute)
		if !silent().Has("code") {
			t.Fatal("the session ended early")
		}
	}
	late := r.post(b, "/t/acme/token", redemption(silent().Get("code"))).want(200) // 11.5 h after the proof
	proved := r.post(b, "/t/acme/token", redemption(r.code(r.client(), request()))).want(200)
	r.clock.advance(25 * time.Minute)
	late = r.post(b, "/t/acme/token", refreshForm(late.str("refresh_token"))).want(200)
	if late.json()["expires_in"] != 300.0 {
		t.Errorf("an access token outlives its session: %v s", late.json()["expires_in"])
	}
	r.clock.advance(4*time.Minute + 30*time.Second)
	late = r.post(b, "/t/acme/token", refreshForm(late.str("refresh_token"))).want(200)
	last := silent().Get("code")
	r.clock.advance(30 * time.Second)
	r.post(b, "/t/acme/token", redemption(last)).refused(400, oauth.InvalidGrant) // a code of a session that is over
	r.post(b, "/t/acme/token", refreshForm(late.str("refresh_token"))).refused(400, oauth.InvalidGrant)
	r.post(b, "/t/acme/token", refreshForm(proved.str("refresh_token"))).want(200)
}
