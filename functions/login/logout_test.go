package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
)

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // of request's challenge: RFC 7636 appendix B

// idToken signs in at an application and returns its ID token.
func (b *browser) idToken(app directory.Application, secret string) string {
	b.r.t.Helper()
	const cb = "https://app.example/cb"
	start := b.get("/t/acme/authorize?" + request("client_id", string(app.ID), "redirect_uri", cb)).want(303)
	if strings.HasPrefix(start.location(), "/t/acme/login") {
		start = b.post("/t/acme/login", b.get(start.location()).want(200).form("username", ada, "password", password)).want(303)
	}
	back, err := url.Parse(start.location())
	if err != nil {
		b.r.t.Fatal(err)
	}
	tokens, err := b.r.server.Token(b.r.t.Context(), oauth.Call{
		Params: oauth.Params{"grant_type": "authorization_code", "code": back.Query().Get("code"), "redirect_uri": cb, "code_verifier": verifier},
		Client: oauth.Credentials{ID: app.ID, Secret: secret}, Actor: core.Actor{Tenant: "acme"},
	})
	if err != nil {
		b.r.t.Fatal(err)
	}
	return tokens.IDToken
}

// Signing out takes the person's word or an ID token of that very session, and goes back only where it was registered
// (OAU-059).
func TestLogout(t *testing.T) {
	r := newRig(t)
	const bye = "https://app.example/bye"
	app, secret, err := r.dir.CreateApplication(t.Context(), actor("acme"), "acme", directory.NewApplication{
		Name: "web", RedirectURIs: []string{"https://app.example/cb"}, PostLogoutURIs: []string{bye},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, stranger := r.browser(), r.browser()
	old := b.idToken(app, secret)
	theirs := stranger.idToken(app, secret)
	b.signIn("acme", ada, password) // another session of the same person, in the same browser
	fresh := b.idToken(app, secret)
	path := func(more ...string) string {
		q := url.Values{}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return "/t/acme/logout?" + q.Encode()
	}
	flip := func(s string) string {
		i := strings.LastIndex(s, ".") - 5
		c := "A"
		if s[i:i+1] == c {
			c = "B"
		}
		return s[:i] + c + s[i+1:]
	}
	for name, at := range map[string]string{
		"nothing":                  path(),
		"a client's name only":     path("client_id", string(app.ID), "post_logout_redirect_uri", bye),
		"a modified hint":          path("id_token_hint", flip(fresh), "post_logout_redirect_uri", bye),
		"an older session's":       path("id_token_hint", old, "post_logout_redirect_uri", bye),
		"another browser's":        path("id_token_hint", theirs, "post_logout_redirect_uri", bye),
		"the hint of another name": path("id_token_hint", fresh, "client_id", "fleetpass-cli", "post_logout_redirect_uri", bye),
		"junk":                     path("id_token_hint", "junk"),
	} {
		if p := b.get(at); p.status != 200 || !strings.Contains(p.body, "Sign out?") || !b.signedIn("acme") {
			t.Errorf("%s: %d, signed in %v", name, p.status, b.signedIn("acme"))
		}
	}
	// From another site, without our form: asks.
	p := b.post("/t/acme/logout", url.Values{"post_logout_redirect_uri": {bye}}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").want(303)
	if !strings.HasPrefix(p.location(), "/t/acme/logout?") || !b.signedIn("acme") {
		t.Errorf("to %s", p.location())
	}
	b.post("/t/acme/logout", url.Values{"token": {"forged"}}).want(403)

	// With a hint of this session and an address that is not registered: ended, and stays here.
	for _, uri := range []string{"https://evil.example/", bye + "/", bye + "?x=1", "HTTPS://app.example/bye", "javascript:alert(1)", "https://app.example/cb"} {
		b.signIn("acme", ada, password)
		hint := b.idToken(app, secret)
		if p := b.get(path("id_token_hint", hint, "post_logout_redirect_uri", uri)); p.status != 200 || b.signedIn("acme") {
			t.Errorf("%s: %d to %q", uri, p.status, p.location())
		}
	}
	b.signIn("acme", ada, password)
	hint := b.idToken(app, secret)
	p = b.get(path("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "a b&c")).want(303)
	if p.location() != bye+"?state=a+b%26c" || b.signedIn("acme") {
		t.Errorf("to %s", p.location())
	}
	// Confirmed by the person, it goes back, too.
	b.signIn("acme", ada, password)
	p = b.get(path("client_id", string(app.ID), "post_logout_redirect_uri", bye)).want(200)
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.example;") {
		t.Errorf("the way back is closed: %s", csp)
	}
	if to := b.post("/t/acme/logout", p.form()).want(303).location(); to != bye || b.signedIn("acme") {
		t.Errorf("to %s", to)
	}
	if !stranger.signedIn("acme") {
		t.Error("another browser was signed out with it")
	}
}

// However a logout request is put together, and whatever cookie brings a browser back from its provider, it leads to a page of
// ours and never breaks: the client of this rig has registered no address.
func FuzzLogout(f *testing.F) {
	r := newRig(f)
	for _, q := range []string{"", "post_logout_redirect_uri=https://evil.example&client_id=fleetpass-cli", "id_token_hint=a.b.c&state=%00", "client_id=x&client_id=y", "post_logout_redirect_uri=//evil", "%zz"} {
		f.Add(q, "x.aHR0cHM6Ly9ldmlsLmV4YW1wbGU")
	}
	f.Fuzz(func(t *testing.T, query, back string) {
		b := r.browser()
		b.plant("return.acme", back)
		for _, path := range []string{"/t/acme/logout?" + url.PathEscape(query), "/t/acme/signed-out?" + url.PathEscape(query)} {
			q, err := http.NewRequest("GET", r.srv.URL+path, nil)
			if err != nil {
				t.Skip()
			}
			q.URL.RawQuery = query
			a, err := b.Do(q)
			if err != nil {
				t.Skip() // no query that a client could send
			}
			a.Body.Close()
			if to := a.Header.Get("Location"); a.StatusCode >= 500 || to != "" && !strings.HasPrefix(to, "/t/acme/") {
				t.Errorf("%s?%q: %d to %q", q.URL.Path, query, a.StatusCode, to)
			}
		}
	})
}
