package login_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The login page offers what the tenant is connected to, and finds somebody's provider by the domain of their e-mail alone.
func TestLoginPageOffersConnections(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	plain := b.loginPage("acme")
	lacks(t, plain, "Continue with", "Sign in with a local account")
	has(t, plain, `type="password"`)

	off := false
	r.connect(func(n *sso.New) {
		if n.Alias == "cloud" {
			n.Enabled = &off
		}
	})
	p := b.loginPage("acme")
	handle := p.handleOf()
	has(t, p, "Continue with Corp &amp; Sons", `href="/t/acme/sso?idp=corp&amp;login=`+handle+`"`, `type="password"`)
	lacks(t, p, "Continue with Cloud", "http-equiv")
	lacks(t, b.loginPage("other"), "Continue with")

	found := b.post("/t/acme/login", p.form("username", "Anybody@CORP.example", "password", "")).want(200)
	has(t, found, `<meta http-equiv="refresh" content="0;url=/t/acme/sso?idp=corp&amp;login=`+handle+`">`, `href="/t/acme/sso?idp=corp&amp;login=`+handle+`"`)
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := found.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for username, problem := range map[string]string{
		"grace@cloud.example": "no identity provider is connected", // it is disabled
		"ada@acme.example":    "no identity provider is connected",
		"no e-mail":           "The e-mail ",
		"":                    "The e-mail ",
	} {
		has(t, b.post("/t/acme/login", p.form("username", username, "password", "")).want(422), problem, "Continue with Corp")
	}
	// A password is for us, whatever the domain.
	b.post("/t/acme/login", p.form("username", grace, "password", "wrong")).want(403)
	b.post("/t/acme/login", p.form("username", ada, "password", password)).want(303)
}

// Where a provider is asked by a form, the page posts it there, and may lead nowhere that is not https.
func TestDepartureByForm(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.saml.set(func(o *oracle) {
		o.start = func(j sso.Journey) (sso.Departure, error) {
			return sso.Departure{URL: "https://idp.example/sso", Form: map[string]string{"RelayState": j.State, "SAMLRequest": `"><b>`}}, nil
		}
	})
	b := r.browser()
	p := b.get("/t/acme/sso?idp=corp&login=" + b.begin()).want(200)
	has(t, p, `<form method="post" action="https://idp.example/sso">`, `name="SAMLRequest" value="&#34;&gt;&lt;b&gt;"`)
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https: https://idp.example;") || !strings.Contains(csp, "script-src 'sha256-") {
		t.Errorf("the policy is %s", csp)
	}
}

// The whole way, by either kind: the person comes back to the client, signed in, and what was used is used up. Nobody ends it
// in another browser (SAML-125, RP-011).
func TestSignInAtProvider(t *testing.T) {
	for _, alias := range []string{"corp", "cloud"} {
		t.Run(alias, func(t *testing.T) {
			r := newRig(t)
			r.connect()
			r.oidc.set(func(o *oracle) { o.email = "grace@cloud.example" })
			b := r.browser()
			finish := b.arriving(alias)
			r.browser().get(finish).want(404)
			if p := b.get(finish).want(303); !strings.HasPrefix(p.location(), callback+"?code=") {
				t.Fatalf("to %s", p.location())
			}
			if !b.signedIn("acme") || b.signedIn("other") {
				t.Error("not signed in at acme alone")
			}
			has(t, b.get(finish).want(404), "this sign-in is over", `href="/t/acme/login"`)
		})
	}
}

// A tenant may have its login page go to a provider by itself. Whoever has a password passes by it at an address of its own,
// which an administrator can hand out: it needs nothing that began before (SAML-159).
func TestAutoRedirect(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.secure(func(s *org.Settings) { s.AutoRedirect = "corp" })
	b := r.browser()
	login := b.get("/t/acme/login").want(303).location()
	to := b.get(login).want(303).location()
	if !strings.HasPrefix(to, "/t/acme/sso?idp=corp&login=") {
		t.Fatalf("to %s", to)
	}
	b.depart(to)

	local := b.get("/t/acme/login?local=1").want(303).location()
	if q, err := url.Parse(local); err != nil || q.Path != "/t/acme/login" || q.Query().Get("local") != "1" || q.Query().Get("login") == "" {
		t.Fatalf("to %s", local)
	}
	p := b.get(local).want(200)
	has(t, p, `type="password"`, "Continue with Corp")
	lacks(t, p, "http-equiv", "Sign in with a local account")
	has(t, b.post("/t/acme/login", p.form("username", ada, "password", "wrong")).want(403), "is wrong", `type="password"`)
	if to := b.post("/t/acme/login", p.form("username", ada, "password", password)).want(303).location(); to != "/t/acme/" || !b.signedIn("acme") {
		t.Errorf("to %s", to)
	}
	for _, not := range []string{"?local=0", "?local=", "?local=true"} {
		if to := b.get("/t/acme/login" + not).want(303).location(); strings.Contains(to, "local") {
			t.Errorf("%s leads to %s", not, to)
		}
	}
}

// Where single sign-on is enforced, the page asks for no password; those who may pass by it find the way. Nobody else's
// password is taken, and the answer does not say why.
func TestEnforcedSSO(t *testing.T) {
	r := newRig(t)
	r.connect()
	b := r.browser()
	b.get(b.arriving("corp")).want(303) // which proves the connection
	r.secure(func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{root} })
	b = r.browser()
	p := b.loginPage("acme")
	local := "/t/acme/login?local=1&login=" + p.handleOf()
	has(t, p, "Continue with Corp", "Your organization signs in at its identity provider.", "Sign in with a local account", `href="`+strings.ReplaceAll(local, "&", "&amp;")+`"`)
	lacks(t, p, `type="password"`)
	has(t, b.post("/t/acme/login", p.form("username", grace)).want(200), `content="0;url=/t/acme/sso?idp=corp&amp;login=`)

	form := b.get(local).want(200)
	has(t, form, `type="password"`)
	refused := b.post("/t/acme/login", form.form("username", ada, "password", password)).want(403)
	wrong := b.post("/t/acme/login", form.form("username", root, "password", "wrong")).want(403)
	has(t, refused, "The e-mail or the password is wrong.")
	has(t, wrong, "The e-mail or the password is wrong.")
	if to := b.post("/t/acme/login", form.form("username", root, "password", password)).want(303).location(); !strings.HasPrefix(to, callback+"?code=") {
		t.Errorf("to %s", to)
	}
}

// Two clicks on a connection's button at once both go to the provider: the one that finds the sign-in counted meanwhile reads
// it again. Whichever comes back first ends the sign-in.
func TestTwoClicks(t *testing.T) {
	r := newRig(t)
	r.connect()
	b := r.browser()
	path := "/t/acme/sso?idp=corp&login=" + b.begin()
	var other string
	r.saml.set(func(o *oracle) {
		o.start = func(j sso.Journey) (sso.Departure, error) {
			o.set(func(o *oracle) { o.start = nil })
			other = b.depart(path) // between the first one's look at the sign-in and its commit
			return sso.Departure{URL: "https://idp.example/?state=" + j.State}, nil
		}
	})
	state := b.depart(path)
	if state == other || other == "" {
		t.Fatalf("states %q and %q", state, other)
	}
	for i, s := range []string{state, other} {
		p := b.get(b.back("corp", s).want(303).location())
		if want := []int{303, 404}[i]; p.status != want {
			t.Errorf("answer %d: %d, want %d", i, p.status, want)
		}
	}
}

// HEAD, by which programs look at links before people do, uses nothing up.
func TestHeadUsesNothingUp(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.oidc.set(func(o *oracle) { o.email = "grace@cloud.example" })
	b := r.browser()
	head := func(path string) string {
		t.Helper()
		commits := r.counter.Counts().Commits
		p := b.do("HEAD", path, nil).want(200)
		if p.header.Get("Location") != "" || p.header.Get("Set-Cookie") != "" || p.header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("HEAD %s: %v", path, p.header)
		}
		if n := r.counter.Counts().Commits - commits; n != 0 {
			t.Errorf("HEAD %s wrote %d times", path, n)
		}
		return path
	}
	link, err := r.sso.StartTest(t.Context(), actor("acme"), "acme", "cloud")
	if err != nil {
		t.Fatal(err)
	}
	b.depart(head(strings.TrimPrefix(link.URL, r.srv.URL)))
	state := b.depart(head("/t/acme/sso?idp=cloud&login=" + b.begin()))
	answer := b.get(head("/t/acme/oidc/cloud/callback?code=c&state=" + state)).want(303).location()
	b.get(head(answer)).want(303)
	b.do("HEAD", "/t/nobody/sso/test?test=x", nil).want(404)
}

var traceID = regexp.MustCompile(`trace ([0-9A-Za-z.]+-[0-9A-Za-z_-]+)`)

// Whatever is wrong with what a provider says, the person reads the same, and a trace's id that tells an administrator. From
// there they can start again, or use a password.
func TestRefusalPages(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.oidc.set(func(o *oracle) { o.email = "grace@cloud.example" })
	b := r.browser()
	b.get(b.arriving("corp")).want(303) // the twin

	var first string
	for cause, misbehave := range map[sso.CheckName]func(o *oracle){
		sso.CheckSignature: func(o *oracle) {
			o.finish = func(_ sso.Arrival, r *sso.Report) error {
				r.Fail(sso.CheckSignature, "<b>canary</b>", "", "canary")
				return sso.ErrRefused
			}
		},
		sso.CheckAudience: func(o *oracle) {
			o.finish = func(_ sso.Arrival, r *sso.Report) error {
				r.Fail(sso.CheckAudience, "canary", "", "canary")
				return sso.ErrRefused
			}
		},
		sso.CheckDomain:  func(o *oracle) { o.email = "canary@evil.example" },
		sso.CheckAccount: func(o *oracle) { o.email = "local@corp.example" },
	} {
		t.Run(string(cause), func(t *testing.T) {
			if cause == sso.CheckAccount {
				r.local("local@corp.example")
			}
			b := r.browser()
			state := b.to("corp")
			r.saml.set(misbehave)
			defer r.saml.set(func(o *oracle) { o.email, o.finish = grace, nil })
			p := b.back("corp", state)
			if p.status == 303 {
				p = b.get(p.location())
			}
			p.want(403)
			id := traceID.FindStringSubmatch(p.body)
			if id == nil {
				t.Fatalf("no trace in %s", p.body)
			}
			tr, err := r.sso.Trace(t.Context(), "acme", id[1])
			if err != nil {
				t.Fatal(err)
			}
			report := sso.Report{Checks: tr.Checks}
			if failed, ok := report.Failure(); !ok || failed.Name != cause || tr.Outcome != sso.Refused {
				t.Errorf("the trace says %+v", tr)
			}
			has(t, p, `href="/t/acme/login"`, "Start again", `href="/t/acme/login?local=1"`, "Sign in with a local account")
			lacks(t, p, "canary")
			if p.header.Get("Set-Cookie") != "" || b.signedIn("acme") {
				t.Error("it left a session, or a cookie")
			}
			text := strings.ReplaceAll(p.body, id[1], "")
			if first == "" {
				first = text
			}
			if text != first {
				t.Errorf("another wording: %s\n%s", text, first)
			}
			b.get("/t/acme/login?local=1").want(303)
		})
	}
}

func (r *rig) local(email string) {
	r.t.Helper()
	if _, _, err := r.dir.CreateUser(r.t.Context(), actor("acme"), "acme", directory.NewUser{Email: email, Password: password}); err != nil {
		r.t.Fatal(err)
	}
}

// A provider that cannot be reached keeps nobody with a password out, and the client that waits is not lost
// (SAML-159).
func TestUnavailableProvider(t *testing.T) {
	r := newRig(t)
	r.connect()
	r.secure(func(s *org.Settings) { s.AutoRedirect = "corp" })
	down := func(sso.Journey) (sso.Departure, error) { return sso.Departure{}, core.Unavailable }
	r.saml.set(func(o *oracle) { o.start = down })
	b := r.browser()
	handle := b.begin()
	p := b.get(b.get("/t/acme/login?login=" + handle).want(303).location()).want(503)
	has(t, p, "Sign in with a local account", `href="/t/acme/login?local=1&amp;login=`+handle+`"`, `href="/t/acme/login"`)
	form := b.get("/t/acme/login?local=1&login=" + handle).want(200)
	if to := b.post("/t/acme/login", form.form("username", ada, "password", password)).want(303).location(); !strings.HasPrefix(to, callback+"?code=") {
		t.Errorf("to %s", to)
	}
	// With its answer, too: the code cannot be redeemed.
	b = r.browser()
	state := b.to("cloud")
	r.oidc.set(func(o *oracle) { o.finish = func(sso.Arrival, *sso.Report) error { return core.Unavailable } })
	has(t, b.back("cloud", state).want(503), `href="/t/acme/login?local=1"`)
	// A sign-in that is over is not gone on with.
	has(t, b.get("/t/acme/sso?idp=corp&login="+handle).want(404), `href="/t/acme/login?local=1"`)
	// A handle that is none does not leave its place.
	evil := b.get("/t/acme/sso/finish?login=" + url.QueryEscape(`"><script>x&y=`) + "&answer=x").want(404)
	lacks(t, evil, "<script")
}

// A test goes all the way, shows what the provider said and what it would mean, and changes nothing: nobody is signed in, and
// nobody is made. It runs once, in the browser that opened it.
func TestTestPage(t *testing.T) {
	r := newRig(t)
	r.connect()
	link := func() string {
		t.Helper()
		l, err := r.sso.StartTest(t.Context(), actor("acme"), "acme", "corp")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(l.URL, r.srv.URL)
	}
	b, first := r.browser(), link()
	finish := b.back("corp", b.depart(first)).want(303).location()
	b.get(first).want(404)
	r.browser().get(finish).want(404)
	p := b.get(finish).want(200)
	has(t, p, "The test succeeded", "Nothing was changed", grace, "team-a", "4321", "signature", "Trace ")
	b.get(finish).want(404)
	if _, err := r.dir.User(t.Context(), "acme", grace); err == nil || b.signedIn("acme") {
		t.Errorf("somebody is signed in, or was made: %v", err)
	}
	// What would refuse the person is shown, with what to do.
	r.saml.set(func(o *oracle) { o.email = "local@corp.example" })
	r.local("local@corp.example")
	p = b.get(b.back("corp", b.depart(link())).want(303).location()).want(200)
	has(t, p, "The test found a fault", "account", "local@corp.example", "✗")
	b.get("/t/acme/sso/test?test=junk").want(404)
	b.get("/t/acme/sso/test").want(404)
}

// What a provider began, the person confirms: in a form of ours, sent from our own page by the browser that saw it, once
// (SAML-125).
func TestProviderBegins(t *testing.T) {
	r := newRig(t)
	r.connect(func(n *sso.New) {
		if n.SAML != nil {
			n.SAML.IdPInitiated = true
		}
	})
	unasked := func(id string) string {
		t.Helper()
		r.saml.set(func(o *oracle) { o.id = id })
		return r.browser().back("corp", "").want(303).location()
	}
	b := r.browser()
	finish := unasked("one")
	p := b.get(finish).want(200)
	has(t, p, "Sign in?", "Corp &amp; Sons sent you here as", grace, "Continue as "+grace, `href="/t/acme/login"`)
	if b.signedIn("acme") {
		t.Fatal("signed in unasked")
	}
	b.post("/t/acme/sso/finish", p.form("token", "forged")).want(403)
	b.post("/t/acme/sso/finish", p.form(), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").want(403)
	b.post("/t/acme/sso/finish", p.form("more", "x")).want(400)
	r.browser().post("/t/acme/sso/finish", p.form()).want(403) // another browser has another token
	other := r.browser()
	other.get(unasked("two")).want(200)
	other.post("/t/acme/sso/finish", p.form()).want(403)
	if b.signedIn("acme") || other.signedIn("acme") {
		t.Fatal("signed in")
	}
	b.get(finish).want(200) // looking uses nothing up
	if to := b.post("/t/acme/sso/finish", p.form()).want(303).location(); to != "/t/acme/" || !b.signedIn("acme") {
		t.Errorf("to %s", to)
	}
	b.post("/t/acme/sso/finish", p.form()).want(404)
	// The very same assertion is not taken again.
	r.saml.set(func(o *oracle) { o.id = "one" })
	has(t, r.browser().back("corp", "").want(403), "This sign-in was refused")
}
