package token_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// accessKey makes an access key of a person's.
func (r *rig) accessKey(tenant core.TenantID, e core.Email, life time.Duration) (directory.AccessKey, string) {
	r.t.Helper()
	rec, err := r.first().dir.User(r.t.Context(), tenant, e)
	if err != nil {
		r.t.Fatal(err)
	}
	k, secret, err := r.first().dir.CreateAccessKey(r.t.Context(), r.actor(tenant), tenant, rec.Value, "key-"+strings.ToLower(core.NewID()), life)
	if err != nil {
		r.t.Fatal(err)
	}
	return k, secret
}

var keyForm = url.Values{"grant_type": {"client_credentials"}}

func (r *rig) byKey(id core.ApplicationID, secret string) reply {
	r.t.Helper()
	return r.post(r.client(), "/t/acme/token", keyForm, basic(id, secret))
}

func (r *rig) postJSON(path, body string) reply {
	r.t.Helper()
	q, err := http.NewRequest("POST", r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	return r.do(r.client(), q)
}

// By whichever way a key is presented, its token is the owner's, for our own APIs alone, with nothing beside it (OAU-033).
func TestAccessKeyToken(t *testing.T) {
	r := newRig(t, 1)
	owner := r.user("acme", "eve@acme.example")
	k, secret := r.accessKey("acme", owner.Email, 0)
	id := string(k.ID)
	posted := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}, "scope": {"openid offline_access email"}}
	for way, a := range map[string]reply{
		"basic":                    r.byKey(k.ID, secret),
		"post, asking for a scope": r.post(r.client(), "/t/acme/token", posted),
		"JSON":                     r.postJSON("/t/acme/api/v1/token", `{"grantType":"client_credentials","clientId":"`+id+`","clientSecret":"`+secret+`"}`),
		"JSON, the older name":     r.postJSON("/t/acme/api/v1/token", `{"grantType":"app_token","AppId":"`+id+`","AppSecret":"`+secret+`"}`),
	} {
		raw, got := "", a.want(200).json()
		for name, v := range got {
			switch name {
			case "access_token", "accessToken":
				raw, _ = v.(string)
			case "token_type", "expires_in", "expiresIn":
			default:
				t.Errorf("%s: the answer has %s", way, name)
			}
		}
		c := claims(t, raw)
		for name, want := range map[string]any{
			"sub": string(owner.ID), "email": string(owner.Email), "kind": "user", "client_id": id, "sid": id, "aud": r.issuer("acme"),
			"iss": r.issuer("acme"), "scope": nil, "groups": nil, "auth_time": nil,
		} {
			if c[name] != want {
				t.Errorf("%s: claim %s is %v, want %v", way, name, c[name], want)
			}
		}
		r.do(r.client(), withToken(t, r.base+"/t/acme/userinfo", raw)).refused(403, oauth.InsufficientScope)
	}
	rec, err := r.first().dir.AccessKey(t.Context(), "acme", k.ID)
	if err != nil || !rec.Value.LastUsed.Equal(r.clock.Now()) {
		t.Errorf("last used %v, %v", rec.Value.LastUsed, err)
	}
	r.clock.advance(time.Hour - time.Second)
	r.byKey(k.ID, secret).want(200)
	if again, err := r.first().dir.AccessKey(t.Context(), "acme", k.ID); err != nil || again.Version != rec.Version {
		t.Errorf("used twice in an hour, and written twice: %v", err)
	}

	// Nothing outlives the key.
	soon, soonSecret := r.accessKey("acme", owner.Email, 5*time.Minute)
	if a := r.byKey(soon.ID, soonSecret).want(200); a.json()["expires_in"] != 300.0 {
		t.Errorf("a token of a key with five minutes left lasts %v s", a.json()["expires_in"])
	}
}

// Whatever is wrong with a key, the answer is the same as for one that there never was, and costs one look at the store. No
// other grant takes a key.
func TestAccessKeyRefuses(t *testing.T) {
	r := newRig(t, 1)
	us := r.actor("acme")
	owner := r.user("acme", "eve@acme.example")
	r.user("other", "eve@acme.example")
	twin, twinSecret := r.accessKey("acme", owner.Email, 0)
	app, appSecret := r.application("acme", "robot")
	disabled, disabledSecret := r.accessKey("acme", owner.Email, 0)
	expired, expiredSecret := r.accessKey("acme", owner.Email, time.Minute)
	deleted, deletedSecret := r.accessKey("acme", owner.Email, 0)
	foreign, foreignSecret := r.accessKey("other", owner.Email, 0)
	if _, err := r.first().dir.EnableAccessKey(t.Context(), us, "acme", disabled.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := r.first().dir.DeleteAccessKey(t.Context(), us, "acme", deleted.ID); err != nil {
		t.Fatal(err)
	}
	r.clock.advance(time.Minute)
	r.byKey(twin.ID, twinSecret).want(200)
	unknown := r.byKey("ak-nobody", twinSecret).refused(401, oauth.InvalidClient)
	for name, a := range map[string]reply{
		"no secret":               r.byKey(twin.ID, ""),
		"another's secret":        r.byKey(twin.ID, disabledSecret),
		"an application's secret": r.byKey(twin.ID, appSecret),
		"at an application":       r.byKey(app, twinSecret),
		"disabled":                r.byKey(disabled.ID, disabledSecret),
		"expired":                 r.byKey(expired.ID, expiredSecret),
		"deleted":                 r.byKey(deleted.ID, deletedSecret),
		"of another tenant":       r.byKey(foreign.ID, foreignSecret), // TEN-017; its twin is below
		"the bare prefix":         r.byKey("ak-", twinSecret),
	} {
		if a.status != unknown.status || a.body != unknown.body || a.header.Get("WWW-Authenticate") != unknown.header.Get("WWW-Authenticate") {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, unknown.body)
		}
	}
	theirs := r.post(r.client(), "/t/other/token", keyForm, basic(foreign.ID, foreignSecret)).want(200).str("access_token")
	one := string(r.cluster("acme", "one"))
	r.post(r.client(), "/t/acme/token", exchangeForm(theirs, one)).refused(400, oauth.InvalidRequest) // JWT-017

	counter := r.first().counter
	for name, secret := range map[core.ApplicationID]string{"ak-nobody": twinSecret, twin.ID: "wrong"} {
		counter.Reset()
		r.byKey(name, secret).want(401)
		if n := counter.Counts().RoundTrips(); n != 1 {
			t.Errorf("%s: %d round trips, want 1 whether the key is there or not", name, n)
		}
	}
	r.first().faulty.Plan = func(storetest.Call) storetest.Fault { return storetest.Refuse }
	r.byKey(twin.ID, twinSecret).want(503)
	r.first().faulty.Plan = nil

	// A key is a client for its own tokens alone.
	session := r.tokens()
	raw := r.byKey(twin.ID, twinSecret).str("access_token")
	by := basic(twin.ID, twinSecret)
	for name, form := range map[string]url.Values{
		"refresh":               {"grant_type": {"refresh_token"}, "refresh_token": {session.str("refresh_token")}},
		"its token refreshed":   {"grant_type": {"refresh_token"}, "refresh_token": {raw}},
		"password":              {"grant_type": {"password"}, "username": {"eve@acme.example"}, "password": {password}},
		"code":                  {"grant_type": {"authorization_code"}, "code": {"x"}, "redirect_uri": {callback}, "code_verifier": {verifier}},
		"another's token, here": {"grant_type": {oauth.GrantExchange}, "subject_token": {session.str("access_token")}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {one}},
	} {
		if a := r.post(r.client(), "/t/acme/token", form, by); a.status != 400 && a.status != 401 || a.json()["access_token"] != nil {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.get(r.client(), "/t/acme/authorize?"+request(set("client_id", string(twin.ID))).Encode()); a.status == 303 {
		t.Errorf("people can sign in at an access key: %s", a.header.Get("Location"))
	}
	r.post(r.client(), "/t/acme/introspect", url.Values{"token": {raw}}, by).refused(401, oauth.InvalidClient)

	// The key's token is swapped by the key, and by nobody else.
	swap := func(edit ...func(url.Values)) reply {
		form := exchangeForm(raw, one)
		for _, e := range edit {
			e(form)
		}
		return r.post(r.client(), "/t/acme/token", form)
	}
	own := func(q url.Values) { q.Set("client_id", string(twin.ID)); q.Set("client_secret", twinSecret) }
	got := claims(t, swap(own).want(200).str("access_token"))
	if got["aud"] != one || got["email"] != "eve@acme.example" || got["sub"] != string(owner.ID) {
		t.Errorf("the cluster's token is %v", got)
	}
	swap().refused(400, oauth.InvalidRequest)
	swap(own, set("client_secret", "wrong")).refused(401, oauth.InvalidClient)
	swap(own, set("client_secret", "")).refused(401, oauth.InvalidClient)
	swap(own, set("client_id", string(app)), set("client_secret", appSecret)).refused(400, oauth.InvalidRequest)
	swap(own, set("audience", string(core.NewClusterID()))).refused(400, oauth.InvalidTarget)
}

// A key's tokens can be asked about, and taken back by the key itself, which ends those and nothing of anybody else's
// (RFC 7662, RFC 7009, OAU-041, OAU-043).
func TestAccessKeyTokensRevoked(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	r.user("acme", "eve@acme.example")
	k, secret := r.accessKey("acme", "eve@acme.example", 0)
	other, otherSecret := r.accessKey("acme", "eve@acme.example", 0)
	app, appSecret := r.application("acme", "server")
	session := r.tokens()
	first, second, theirs := r.byKey(k.ID, secret).str("access_token"), r.byKey(k.ID, secret).str("access_token"), r.byKey(other.ID, otherSecret).str("access_token")
	active := func(raw string) bool {
		t.Helper()
		a := r.post(c, "/t/acme/introspect", url.Values{"token": {raw}}, basic(app, appSecret)).want(200)
		if a.json()["active"] == true {
			return true
		}
		if a.body != `{"active":false}` {
			t.Errorf("of a token that does not count: %s", a.body)
		}
		return false
	}
	said := r.post(c, "/t/acme/introspect", url.Values{"token": {first}}, basic(app, appSecret)).want(200).json()
	if said["active"] != true || said["username"] != "eve@acme.example" || said["client_id"] != string(k.ID) || said["scope"] != nil {
		t.Errorf("introspection: %v", said)
	}
	revoke := func(raw string, edit ...func(*http.Request)) reply {
		return r.post(c, "/t/acme/revoke", url.Values{"token": {raw}}, edit...)
	}
	revoke(first, basic(app, appSecret)).refused(400, oauth.UnauthorizedClient)
	revoke(first, basic(other.ID, otherSecret)).refused(400, oauth.UnauthorizedClient)
	revoke(session.str("access_token"), basic(k.ID, secret)).refused(400, oauth.UnauthorizedClient)
	revoke(first, basic(k.ID, "wrong")).refused(401, oauth.InvalidClient)
	revoke("", basic(k.ID, secret)).refused(400, oauth.InvalidRequest)
	for _, junk := range []string{"junk", "fpr_junk", session.str("refresh_token")} {
		revoke(junk, basic(k.ID, secret)).want(200)
	}
	for _, i := range r.instances {
		i.faulty.Plan = func(storetest.Call) storetest.Fault { return storetest.Refuse }
	}
	revoke(first, basic(k.ID, secret)).want(503)
	for _, i := range r.instances {
		i.faulty.Plan = nil
	}
	for name, raw := range map[string]string{"first": first, "second": second, "theirs": theirs, "the session's": session.str("access_token")} {
		if !active(raw) {
			t.Fatalf("%s ended by what was refused", name)
		}
	}
	revoke(first, basic(k.ID, secret)).want(200)
	if active(first) || active(second) {
		t.Error("the key's tokens still count")
	}
	if !active(theirs) || !active(session.str("access_token")) {
		t.Error("what is of others ended, too")
	}
	later := r.byKey(k.ID, secret).want(200).str("access_token")
	revoke(second, basic(k.ID, secret)).want(200) // it had ended: no error, and nothing of what came after ends
	if !active(later) {
		t.Error("the key gives no good token any more, or an old token ends a new one")
	}
	revoke(later, basic(k.ID, secret)).want(200)
	if active(later) {
		t.Error("revoked twice, the later one still counts")
	}
}

// The key of an identity provider's person works for as long as the provider's word is fresh, and while it is connected.
func TestAccessKeyOfProvider(t *testing.T) {
	r := newRig(t, 1)
	r.connect(sso.OIDC)
	_, code := r.arrive(request())
	r.redeem(code).want(200)
	k, secret := r.accessKey("acme", grace, 120*24*time.Hour)
	r.clock.advance(directory.ProviderWord - time.Minute)
	if a := r.byKey(k.ID, secret).want(200); a.json()["expires_in"] != 60.0 {
		t.Errorf("a token outlives the provider's word: %v s", a.json()["expires_in"])
	}
	r.clock.advance(59 * time.Second)
	raw := r.byKey(k.ID, secret).want(200).str("access_token")
	r.clock.advance(time.Second)
	r.byKey(k.ID, secret).refused(401, oauth.InvalidClient)
	form := exchangeForm(raw, string(r.cluster("acme", "one")))
	form.Set("client_id", string(k.ID))
	form.Set("client_secret", secret)
	r.post(r.client(), "/t/acme/token", form).refused(400, oauth.InvalidRequest)

	_, code = r.arrive(request()) // the provider vouches again
	r.redeem(code).want(200)
	r.byKey(k.ID, secret).want(200)
	r.enable(sso.OIDC, false)
	r.byKey(k.ID, secret).refused(401, oauth.InvalidClient)
	r.enable(sso.OIDC, true)
	r.byKey(k.ID, secret).want(200)
	local, localSecret := r.accessKey("acme", admin, 120*24*time.Hour)
	r.clock.advance(directory.ProviderWord + time.Hour)
	r.byKey(k.ID, secret).refused(401, oauth.InvalidClient)
	r.byKey(local.ID, localSecret).want(200) // nobody's word is needed for a local person
}
