package token_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// What each request asks of the store, warm: DESIGN's numbers.
func TestRoundTrips(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	app, secret := r.application("acme", "robot")
	one := r.cluster("acme", "one")
	got := r.tokens()
	machine := func() reply {
		return r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(app, secret))
	}
	machine().want(200) // the first in an hour writes down that the application is in use
	for name, tt := range map[string]struct {
		call func() reply
		want int
	}{
		"client_credentials": {machine, 1},
		"refresh": {func() reply {
			got = r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token")))
			return got
		}, 2},
		"exchange": {func() reply { return r.post(c, "/t/acme/token", exchangeForm(got.str("access_token"), string(one))) }, 1},
		"userinfo": {func() reply { return r.do(c, withToken(t, r.base+"/t/acme/userinfo", got.str("access_token"))) }, 1},
		"introspection": {func() reply {
			return r.post(c, "/t/acme/introspect", url.Values{"token": {got.str("access_token")}}, basic(app, secret))
		}, 2},
		"jwks":      {func() reply { return r.get(c, "/t/acme/jwks") }, 0},
		"discovery": {func() reply { return r.get(c, "/t/acme/.well-known/openid-configuration") }, 0},
	} {
		r.first().counter.Reset()
		tt.call().want(200)
		if n := r.first().counter.Reset(); n.RoundTrips() != tt.want {
			t.Errorf("%s: %+v, want %d round trips", name, n, tt.want)
		}
	}
}

// The token endpoint in the JSON of the original, with the spellings that its clients use.
func TestJSON(t *testing.T) {
	r := newRig(t, 1)
	r.settings("acme", func(x *org.Tenant) { x.Settings.PasswordGrant = true })
	c := r.client()
	app, secret := r.application("acme", "robot")
	post := func(body string) reply {
		t.Helper()
		q, err := http.NewRequest("POST", r.base+"/t/acme/api/v1/token", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		return r.do(c, q)
	}
	for _, body := range []string{
		`{"grantType":"client_credentials","clientId":"%s","clientSecret":"%s"}`,
		`{"grantType":"client_credentials","clientID":"%s","clientSecret":"%s"}`,
		`{"grantType":"app_token","AppId":"%s","AppSecret":"%s"}`,
		`{"GrantType":"app_token","appID":"%s","appSecret":"%s"}`,
	} {
		a := post(fmt.Sprintf(body, app, secret)).want(200)
		if a.str("accessToken") == "" || a.json()["expiresIn"] != 600.0 || a.json()["refreshToken"] != nil || a.json()["idToken"] != nil {
			t.Errorf("%s: %v", body, a.json())
		}
	}
	a := post(fmt.Sprintf(`{"grantType":"password","username":%q,"password":%q}`, admin, password)).want(200)
	if a.str("idToken") == "" {
		t.Errorf("no ID token: %v", a.json())
	}
	post(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q}`, a.str("refreshToken"))).want(200)
	code := r.code(c, request())
	post(fmt.Sprintf(`{"grantType":"exchange_token","code":%q,"redirectUri":%q,"codeVerifier":%q}`, code, callback, verifier)).want(200)

	for _, tt := range []struct {
		body   string
		status int
		names  string
	}{
		{`{"grantType":"client_credentials","clientId":"x","clientSecret":"y"}`, 401, "unknown client"},
		{`{"grantType":"client_credentials","clientId":"x","clientID":"y"}`, 400, "twice"},
		{`{"grantType":"client_credentials","isAdmin":true}`, 400, "isAdmin"},
		{`{"grantType":"client_credentials","clientId":7}`, 400, "clientId"},
		{`{"grantType":"client_credentials","clientId":null}`, 400, "clientId"},
		{`{"grantType":"magic"}`, 400, "grantType"},
		{`{}`, 400, "grantType"},
		{`{"grantType":"password","username":"a"}`, 400, "password"},
		{`{"grantType":"refresh_token","refreshToken":"fpr_x"}`, 401, "refresh token"},
		{`[]`, 400, "object"},
		{`{`, 400, "JSON"},
		{``, 400, "body"},
		{`{"grantType":"` + strings.Repeat("x", 40_000) + `"}`, 413, "32768"},
	} {
		a := post(tt.body)
		if a.status != tt.status || a.json()["code"] != float64(tt.status) || !strings.Contains(a.str("message"), tt.names) {
			t.Errorf("%.60s: %d %s, want %d naming %q", tt.body, a.status, a.body, tt.status, tt.names)
		}
	}
}

// Bad input to every endpoint for clients is a 4xx that names what is wrong, and commits nothing.
func TestBadInput(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	app, secret := r.application("acme", "robot")
	got := r.tokens()
	send := func(path, media, body string, edit ...func(*http.Request)) reply {
		t.Helper()
		q, err := http.NewRequest("POST", r.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", media)
		for _, e := range append(edit, basic(app, secret)) {
			e(q)
		}
		return r.do(c, q)
	}
	const form = "application/x-www-form-urlencoded"
	good := map[string]string{"token": "grant_type=client_credentials", "api/v2/token": "grant_type=client_credentials", "revoke": "token=x", "introspect": "token=x"}
	for endpoint, body := range good {
		path := "/t/acme/" + endpoint
		send(path, form, body).want(200)
		send(path, form, body+"&whatever=1").want(200) // unknown parameters are ignored (RFC 6749 §3.2)
		r.first().counter.Reset()
		for name, a := range map[string]reply{
			"twice":     send(path, form, body+"&"+body),
			"json":      send(path, "application/json", `{"token":"x"}`),
			"no media":  send(path, "", body),
			"escape":    send(path, form, body+"&x=%zz"),
			"not UTF-8": send(path, form, body+"&x=%ff"),
			"query":     send(path+"?client_secret=x", form, body),
			"empty":     send(path, form, ""),
			"large":     send(path, form, body+"&x="+strings.Repeat("x", 40_000)),
			"packed":    send(path, form, body, func(q *http.Request) { q.Header.Set("Content-Encoding", "gzip") }),
		} {
			if a.status != 400 && a.status != 413 || a.str("error") != "invalid_request" || len(a.str("error_description")) < 8 {
				t.Errorf("%s, %s: %d %s", endpoint, name, a.status, a.body)
			}
		}
		if n := r.first().counter.Counts(); n.Commits != 0 {
			t.Errorf("%s: %d commits", endpoint, n.Commits)
		}
		if a := r.get(c, path); a.status != 405 {
			t.Errorf("GET %s: %d", endpoint, a.status)
		}
		if a := send("/t/nobody/"+endpoint, form, body); a.status != 404 && a.status != 401 {
			t.Errorf("%s of no tenant: %d %s", endpoint, a.status, a.body)
		}
	}
	r.post(c, "/t/acme/token", url.Values{"grant_type": {"implicit"}}, basic(app, secret)).refused(400, oauth.UnsupportedGrantType)
	for name, h := range map[string]func(*http.Request){
		"none": func(*http.Request) {}, "junk": bearer("junk"), "a refresh token": bearer(got.str("refresh_token")), "an ID token": bearer(got.str("id_token")),
		"another tenant's": bearer(got.str("access_token")),
	} {
		path := "/t/acme/userinfo"
		if name == "another tenant's" {
			path = "/t/other/userinfo"
		}
		if a := r.post(c, path, nil, h).want(401); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("userinfo, %s: %v", name, a.header)
		}
	}
	machine := r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(app, secret)).want(200)
	r.post(c, "/t/acme/userinfo", nil, bearer(machine.str("access_token"))).refused(403, oauth.InsufficientScope)
}

// A suspended tenant looks like none, and a store that is away like neither.
func TestSuspendedAndAway(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	app, secret := r.application("acme", "robot")
	calls := map[string]func() reply{
		"token": func() reply {
			return r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(app, secret))
		},
		"introspect": func() reply { return r.post(c, "/t/acme/introspect", url.Values{"token": {"x"}}, basic(app, secret)) },
		"authorize":  func() reply { return r.get(r.client(), "/t/acme/authorize?"+request().Encode()) },
	}
	for name, call := range calls {
		if a := call(); a.status >= 400 {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
	}
	r.first().faulty.Plan = func(storetest.Call) storetest.Fault { return storetest.Refuse }
	for name, call := range calls {
		if a := call(); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s, the store away: %d %s", name, a.status, a.body)
		}
	}
	r.first().faulty.Plan = nil
	if err := r.first().org.Suspend(t.Context(), r.actor("acme"), "acme"); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if a := call(); a.status != 404 {
			t.Errorf("%s, suspended: %d %s", name, a.status, a.body)
		}
	}
	r.get(c, "/t/acme/jwks").want(200) // what is out must verify until it ends
}

// No other site's script may read an answer (OAU-055), and no header makes somebody else of a caller (WEB-019).
func TestForeignHeaders(t *testing.T) {
	r := newRig(t, 1)
	got := r.tokens()
	for _, origin := range []string{"null", "https://evil.example"} {
		for _, method := range []string{"GET", "OPTIONS"} {
			q, err := http.NewRequest(method, r.base+"/t/acme/userinfo", nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Origin", origin)
			q.Header.Set("Access-Control-Request-Method", "GET")
			bearer(got.str("access_token"))(q)
			for name := range r.do(r.client(), q).header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s from %s: %s", method, origin, name)
				}
			}
		}
	}
	q, err := http.NewRequest("GET", r.base+"/t/acme/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-User", "X_User", "X-Remote-User", "X-Forwarded-User", "X-Forwarded-Uri", "X-Original-URL", "Remote-User", "X-HTTP-Method-Override"} {
		q.Header.Set(name, admin)
	}
	r.do(r.client(), q).want(401)
}

// Nothing secret that goes through a sign-in and what follows is in the logs, whichever way it goes (WEB-029).
func TestNoSecretsInLogs(t *testing.T) {
	r := newRig(t, 2)
	r.settings("acme", func(x *org.Tenant) { x.Settings.PasswordGrant = true })
	c := r.client()
	app, secret := r.application("acme", "robot")
	one := r.cluster("acme", "one")
	canaries := map[string]string{"password": password, "client secret": secret, "verifier": verifier}
	start := r.get(c, "/t/acme/authorize?"+request(set("state", "CANARY-STATE")).Encode()).want(303)
	canaries["login handle"] = strings.TrimPrefix(start.header.Get("Location"), "/t/acme/login?login=")
	canaries["state"] = "CANARY-STATE"
	_, back := r.signIn(c, "acme", admin, password, request()).want(303).location()
	canaries["code"] = back.Get("code")
	got := r.post(c, "/t/acme/token", redemption(back.Get("code"))).want(200)
	r.post(c, "/t/acme/token", redemption(back.Get("code"), set("code_verifier", "CANARY-VERIFIER")))
	canaries["wrong verifier"] = "CANARY-VERIFIER"
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		canaries[name] = got.str(name)
	}
	got = r.tokens()
	canaries["cluster token"] = r.post(c, "/t/acme/token", exchangeForm(got.str("access_token"), string(one))).want(200).str("access_token")
	r.post(c, "/t/acme/revoke", url.Values{"client_id": {"fleetpass-cli"}, "token": {got.str("refresh_token")}})
	r.post(c, "/t/acme/introspect", url.Values{"token": {got.str("access_token")}}, basic(app, secret))
	r.post(c, "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(app, "CANARY-SECRET"))
	r.post(c, "/t/acme/token", url.Values{"grant_type": {"password"}, "client_id": {"fleetpass-cli"}, "username": {admin}, "password": {"CANARY-PASSWORD"}})
	r.post(c, "/t/acme/token?client_secret=CANARY-QUERY", url.Values{"CANARY-FIELD": {"CANARY-VALUE"}})
	r.get(c, "/t/acme/logout?id_token_hint="+got.str("id_token"))
	r.get(c, "/t/acme/welcome?token=CANARY-WELCOME")
	r.get(c, "/t/acme/CANARY-PATH")
	r.get(c, "/t/CANARY-TENANT/jwks")
	r.signIn(r.client(), "acme", admin, "CANARY-PASSWORD", request())
	home, err := url.Parse(r.base)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.Jar.Cookies(home) {
		canaries["cookie "+k.Name] = k.Value
	}
	log := r.log.String()
	if strings.Count(log, `"msg":"request"`) < 20 || !strings.Contains(log, `"tenant":"acme"`) {
		t.Fatalf("the log does not hold the requests: %d lines", strings.Count(log, "\n"))
	}
	for name, secret := range canaries {
		if len(secret) < 8 || strings.Contains(log, secret) {
			t.Errorf("%s (%d bytes) is in the log", name, len(secret))
		}
	}
	if i := strings.Index(log, "CANARY"); i >= 0 {
		t.Errorf("a canary is in the log: %s", log[max(0, i-200):i+40])
	}
}
