package login_test

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
)

const bye = "https://app.example/bye"

// leaver is a rig with an application, and grace signed in by OpenID Connect.
func leaver(t *testing.T) (r *rig, app core.ApplicationID, b *browser) {
	t.Helper()
	r = newRig(t)
	r.connect()
	r.oidc.set(func(o *oracle) { o.email, o.kept = "grace@cloud.example", sso.Kept{IDToken: "their&token"} })
	a, _, err := r.dir.CreateApplication(t.Context(), actor("acme"), "acme", directory.NewApplication{
		Name: "web", RedirectURIs: []string{"https://app.example/cb"}, PostLogoutURIs: []string{bye},
	})
	if err != nil {
		t.Fatal(err)
	}
	b = r.browser()
	b.signInAt("cloud")
	return r, a.ID, b
}

func (b *browser) signInAt(alias string) {
	b.r.t.Helper()
	b.get(b.arriving(alias)).want(303)
}

// signOut signs out as a client asks, with the person's word.
func (b *browser) signOut(q url.Values) page {
	b.r.t.Helper()
	p := b.post("/t/acme/logout", b.get("/t/acme/logout?"+q.Encode()).want(200).form())
	if b.signedIn("acme") {
		b.r.t.Error("still signed in here")
	}
	return p
}

var refreshTo = regexp.MustCompile(`<meta http-equiv="refresh" content="0;url=([^"]*)">`)

// onward is where a page sends the browser by itself, and by its link.
func (p page) onward() string {
	p.t.Helper()
	m := refreshTo.FindStringSubmatch(p.want(200).body)
	if m == nil {
		p.t.Fatalf("the browser stays at %s", p.body)
	}
	if !strings.Contains(p.body, `<a class="button" href="`+m[1]+`">`) {
		p.t.Errorf("no link to %s", m[1])
	}
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := p.header.Get(name); got != want {
			p.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	return html.UnescapeString(m[1])
}

// Who signed in at a provider that can be signed out of is taken there, and comes back to where the client wanted.
func TestSignOutAtProvider(t *testing.T) {
	r, app, b := leaver(t)
	ask := url.Values{"client_id": {string(app)}, "post_logout_redirect_uri": {bye}, "state": {"a b&c"}}
	away := b.signOut(ask).onward()
	if want := "https://idp.example/leave?id_token_hint=their%26token&post_logout_redirect_uri=" + url.QueryEscape(r.srv.URL+"/t/acme/signed-out"); away != want {
		t.Fatalf("to %s, want %s", away, want)
	}
	if b.cookie("return.acme") == "" {
		t.Fatal("the way back is forgotten")
	}
	if to := b.get("/t/acme/signed-out").want(303).location(); to != bye+"?state=a+b%26c" {
		t.Errorf("back to %s", to)
	}
	// Once: the cookie is gone, and without it there is nowhere to go.
	if b.cookie("return.acme") != "" {
		t.Error("the way back stays")
	}
	has(t, b.get("/t/acme/signed-out").want(200), "Signed out")

	// Without a client that asks, it ends here; what an earlier sign-out left behind does not count.
	b.signInAt("cloud")
	b.signOut(ask).onward()
	b.signInAt("cloud")
	b.signOut(nil).onward()
	has(t, b.get("/t/acme/signed-out").want(200), "Signed out")

	// A provider that nobody can be signed out of: said so.
	b.signInAt("corp")
	p := b.signOut(nil).want(200)
	has(t, p, "may still know you")
	lacks(t, p, "http-equiv")
	b.signInAt("corp")
	if to := b.signOut(ask).want(303).location(); to != bye+"?state=a+b%26c" {
		t.Errorf("to %s", to)
	}
}

// Signing out at the provider comes first, however long the address is that the browser is to come back to: it is kept up to
// its bound, and else dropped.
func TestSignOutWithLongState(t *testing.T) {
	_, app, b := leaver(t)
	for _, tt := range []struct {
		state int
		kept  bool
	}{{1, true}, {132, true}, {705, true}, {706, false}, {6000, false}} {
		b.signInAt("cloud")
		state := strings.Repeat("s", tt.state)
		b.signOut(url.Values{"client_id": {string(app)}, "post_logout_redirect_uri": {bye}, "state": {state}}).onward()
		p := b.get("/t/acme/signed-out")
		if tt.kept && p.want(303).location() != bye+"?state="+state {
			t.Errorf("%d: back to %.100s", tt.state, p.location())
		}
		if !tt.kept {
			has(t, p.want(200), "Signed out")
		}
	}
}

// The way back is one that we gave, at this tenant: a cookie that somebody else made leads nowhere (OAU-059).
func TestReturnCookieIsOurs(t *testing.T) {
	_, app, b := leaver(t)
	b.signOut(url.Values{"client_id": {string(app)}, "post_logout_redirect_uri": {bye}}).onward()
	good := b.cookie("return.acme")
	tag, address, _ := strings.Cut(good, ".")
	const evil = "aHR0cHM6Ly9ldmlsLmV4YW1wbGUv" // https://evil.example/
	for name, value := range map[string]string{
		"another address": tag + "." + evil, "no tag": "." + evil, "no dot": evil, "only a tag": tag, "no address": tag + ".",
		"no base64": tag + ".%%%", "a cut tag": tag[:20] + "." + address, "twice": good + "." + address, "too long": tag + "." + strings.Repeat(address, 100),
	} {
		b.plant("return.acme", value)
		p := b.get("/t/acme/signed-out")
		if p.status != 200 || p.location() != "" || strings.Contains(p.body, "evil.example") {
			t.Errorf("%s: %d to %q", name, p.status, p.location())
		}
		if b.cookie("return.acme") != "" {
			t.Errorf("%s: the cookie stays", name)
		}
	}
	b.plant("return.other", good)
	if p := b.get("/t/other/signed-out"); p.status != 200 {
		t.Errorf("at another tenant: %d to %q", p.status, p.location())
	}
	b.plant("return.acme", good) // the twin
	if to := b.get("/t/acme/signed-out").want(303).location(); to != bye {
		t.Errorf("to %s", to)
	}
}

// A tenant may have an address of its own where signing out ends. A client's comes before it.
func TestLogoutURI(t *testing.T) {
	r, app, b := leaver(t)
	const there = `https://intranet.example/out?a=1;b='2'&c=%22;url=//evil.example`
	r.secure(func(s *org.Settings) { s.LogoutURI = there })
	b.signOut(nil).onward() // the provider
	if to := b.get("/t/acme/signed-out").onward(); to != there {
		t.Errorf("to %s", to)
	}
	b.signInAt("corp")
	if to := b.signOut(nil).onward(); to != there {
		t.Errorf("to %s", to)
	}
	b.signIn("acme", ada, password).want(303)
	if to := b.signOut(nil).onward(); to != there {
		t.Errorf("to %s", to)
	}
	b.signIn("acme", ada, password).want(303)
	if to := b.signOut(url.Values{"client_id": {string(app)}, "post_logout_redirect_uri": {bye}}).want(303).location(); to != bye {
		t.Errorf("to %s", to)
	}
}
