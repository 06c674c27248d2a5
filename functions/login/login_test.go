package login_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
)

func actor(t core.TenantID) core.Actor { return core.SystemActor(t) }

// A local user signs in for a client, looks at the landing page, and signs out.
func TestSignInAndOut(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	back := b.signIn("acme", ada, password).want(303)
	if !strings.HasPrefix(back.location(), callback+"?code=") {
		t.Fatalf("to %s", back.location())
	}
	home := b.get("/t/acme/").want(200)
	if !strings.Contains(home.body, ada) || !strings.Contains(home.body, "Tenant &lt;b&gt;acme&lt;/b&gt;") {
		t.Errorf("landing page: %s", home.body)
	}
	b.post("/t/acme/logout", home.form()).want(200)
	if b.signedIn("acme") || b.cookie("acme") != "" {
		t.Error("still signed in")
	}
	// Without a client one comes to the landing page.
	next := b.get("/t/acme/").want(303).location()
	if to := b.post("/t/acme/login", b.get(next).want(200).form("username", " Ada@ACME.example ", "password", password)).want(303).location(); to != "/t/acme/" {
		t.Errorf("to %s", to)
	}
	// One browser may be signed in at several tenants, and each is its own.
	if b.signedIn("other") {
		t.Error("signed in at another tenant")
	}
	b.signIn("other", ada, password).want(303)
	if !b.signedIn("other") || !b.signedIn("acme") {
		t.Error("not signed in at both")
	}
}

// Whoever it is and whatever is wrong, the answer is the same (WEB-005).
func TestNoEnumeration(t *testing.T) {
	r := newRig(t)
	if _, _, err := r.dir.CreateUser(t.Context(), actor("acme"), "acme", directory.NewUser{Email: "off@acme.example", Password: password}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.dir.Disable(t.Context(), actor("acme"), "acme", "off@acme.example"); err != nil {
		t.Fatal(err)
	}
	vary := regexp.MustCompile(`name="(token|login)" value="[^"]*"|id="username"[^>]*| autofocus`)
	var first page
	for i, tt := range [][2]string{
		{ada, "wrong password"}, {"off@acme.example", password}, {"off@acme.example", "wrong password"}, {"nobody@acme.example", password},
		{"no e-mail", password}, {"system:masters", password}, {ada, ""}, {"", ""}, {ada, strings.Repeat("x", 5000)},
	} {
		p := r.browser().signIn("acme", tt[0], tt[1])
		p.header.Del("Date")
		p.header.Del("X-Request-Id")
		p.header.Del("Content-Length")
		p.header.Del("Set-Cookie")
		p.body = vary.ReplaceAllString(p.body, "")
		if i == 0 {
			first = p.want(403)
			if !strings.Contains(p.body, `role="alert"`) || !strings.Contains(p.body, "<title>Error: ") {
				t.Errorf("the problem is not announced: %s", p.body)
			}
			continue
		}
		if p.status != first.status || p.body != first.body || len(p.header) != len(first.header) {
			t.Errorf("%q: %d %v\n%s\nwant %d %v", tt[0], p.status, p.header, p.body, first.status, first.header)
		}
	}
	r.browser().signIn("acme", ada, password).want(303)
}

// The issuer's own address leads to the landing page, in its exact spelling alone (OAU-061).
func TestFront(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	if to := b.get("/t/acme").want(303).location(); to != "/t/acme/" {
		t.Errorf("to %s", to)
	}
	for _, path := range []string{"/t/nosuch", "/t/ACME", "/t/%61cme", "/t/acme%2F", "/t/acme//"} {
		if p := b.get(path); p.status != 404 {
			t.Errorf("%s: %d to %q", path, p.status, p.header.Get("Location"))
		}
	}
	if err := r.org.Suspend(t.Context(), actor("system"), "acme"); err != nil {
		t.Fatal(err)
	}
	b.get("/t/acme").want(404)
}

// What fails is recorded with the request that it came with and from where, as what succeeds is (WEB-005).
func TestAttemptsAreRecorded(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	for _, pass := range []string{"wrong password", password} {
		b.post("/t/acme/login", b.loginPage("acme").form("username", ada, "password", pass), "X-Request-ID", "trace-"+strings.ReplaceAll(pass, " ", "-"))
	}
	got := map[audit.Result]audit.Record{}
	for rec, err := range audit.List(t.Context(), r.counter, "acme", time.Time{}, time.Time{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Action == audit.SignIn {
			got[rec.Result] = rec
		}
	}
	for result, request := range map[audit.Result]core.RequestID{audit.Failed: "trace-wrong-password", audit.Succeeded: "trace-correct-horse-battery"} {
		if rec := got[result]; rec.Request != request || rec.Subject != core.UserSubject(ada) || rec.Address != "127.0.0.1" {
			t.Errorf("%s: %+v", result, rec)
		}
	}
}

// A session that somebody planted is not the one that a person signs in to (WEB-011).
func TestFixation(t *testing.T) {
	r := newRig(t)
	attacker := r.browser()
	attacker.signIn("acme", ada, password)
	planted := attacker.cookie("acme")
	victim := r.browser()
	victim.plant("acme", planted)
	victim.signIn("acme", ada, password).want(303)
	if got := victim.cookie("acme"); got == "" || got == planted {
		t.Error("the planted session was kept")
	}
	if !victim.signedIn("acme") || attacker.signedIn("acme") {
		t.Error("the sessions are not apart")
	}
}

// A sign-in is finished in the browser that began it, with a form of ours, from our own page (WEB-015).
func TestLoginCSRF(t *testing.T) {
	r := newRig(t)
	attacker := r.browser()
	theirs := attacker.loginPage("acme").form("username", ada, "password", password)
	for name, try := range map[string]func(b *browser, own url.Values) page{
		"another browser's form": func(b *browser, _ url.Values) page { return b.post("/t/acme/login", theirs) },
		"another browser's handle": func(b *browser, own url.Values) page {
			own.Set("login", theirs.Get("login"))
			return b.post("/t/acme/login", own)
		},
		"no token": func(b *browser, own url.Values) page { own.Del("token"); return b.post("/t/acme/login", own) },
		"another token": func(b *browser, own url.Values) page {
			own.Set("token", theirs.Get("token"))
			return b.post("/t/acme/login", own)
		},
		"a query": func(b *browser, own url.Values) page { return b.get("/t/acme/login?" + own.Encode()) },
		"another site": func(b *browser, own url.Values) page {
			return b.post("/t/acme/login", own, "Sec-Fetch-Site", "cross-site")
		},
		"a sibling site": func(b *browser, own url.Values) page {
			return b.post("/t/acme/login", own, "Sec-Fetch-Site", "same-site")
		},
		"origin": func(b *browser, own url.Values) page {
			return b.post("/t/acme/login", own, "Origin", "https://evil.example")
		},
		"null origin":    func(b *browser, own url.Values) page { return b.post("/t/acme/login", own, "Origin", "null") },
		"another tenant": func(b *browser, own url.Values) page { return b.post("/t/other/login", own) },
		"plain text": func(b *browser, own url.Values) page {
			return b.post("/t/acme/login", own, "Content-Type", "text/plain")
		},
		"method override": func(b *browser, own url.Values) page {
			return b.get("/t/acme/login?"+own.Encode(), "X-HTTP-Method-Override", "POST")
		},
		"unknown field": func(b *browser, own url.Values) page { own.Set("isAdmin", "1"); return b.post("/t/acme/login", own) },
		"no such handle": func(b *browser, own url.Values) page {
			own.Set("login", core.NewSecret())
			return b.post("/t/acme/login", own)
		},
	} {
		b := r.browser()
		own := b.loginPage("acme").form("username", ada, "password", password)
		again := url.Values{}
		for k, v := range own {
			again[k] = v
		}
		p := try(b, own)
		if p.status == 303 || b.cookie("acme") != "" || b.cookie("other") != "" {
			t.Errorf("%s: %d to %q", name, p.status, p.location())
		}
		// The same browser's own form, as it was, goes through.
		b.post("/t/acme/login", again, "Sec-Fetch-Site", "same-origin").want(303)
		// And once only.
		if p := b.post("/t/acme/login", again); p.status != 404 {
			t.Errorf("%s: the form a second time: %d", name, p.status)
		}
	}
}

// Pages cannot be framed, load and run nothing but their own style, and are kept by nobody (OAU-053, WEB-017).
func TestPageHeaders(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	pages := map[string]page{"login": b.loginPage("acme"), "welcome": b.get("/t/acme/welcome?token=x"), "error": b.get("/t/acme/authorize"), "gone": b.get("/t/acme/login?login=x")}
	pages["refused"] = b.signIn("acme", ada, "wrong")
	b.signIn("acme", ada, password)
	pages["home"], pages["logout"] = b.get("/t/acme/"), b.get("/t/acme/logout")
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`)
	for name, p := range pages {
		csp := p.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: the policy lacks %s: %s", name, part, csp)
			}
		}
		m := style.FindStringSubmatch(p.body)
		if len(m) != 2 {
			t.Fatalf("%s has no style", name)
		}
		sum := sha256.Sum256([]byte(m[1]))
		if !strings.Contains(csp, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: the policy does not allow its style, or more: %s", name, csp)
		}
		for header, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"Content-Type": "text/html; charset=utf-8",
		} {
			if p.header.Get(header) != want {
				t.Errorf("%s: %s is %q", name, header, p.header.Get(header))
			}
		}
		for _, bad := range []string{"<script", "onclick", "style=\"", "javascript:", "http://", "https://"} {
			if strings.Contains(p.body, bad) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
		for _, need := range []string{`<html lang="en">`, "<title>", "<main>", "<h1>", "viewport"} {
			if !strings.Contains(p.body, need) {
				t.Errorf("%s lacks %s", name, need)
			}
		}
	}
	// Every visible field has its label and says to password managers what it is.
	for _, m := range regexp.MustCompile(`<input id="([^"]+)"[^>]*>`).FindAllStringSubmatch(pages["login"].body+pages["welcome"].body, -1) {
		if !strings.Contains(pages["login"].body+pages["welcome"].body, `<label for="`+m[1]+`">`) || !strings.Contains(m[0], "autocomplete=") {
			t.Errorf("%s", m[0])
		}
	}
	// Browsers apply form-action to where the form's answer redirects.
	if csp := pages["login"].header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http://127.0.0.1:43121;") {
		t.Errorf("the way back to the client is closed: %s", csp)
	}
	v6 := b.get(b.get("/t/acme/authorize?" + request("prompt", "login", "redirect_uri", "http://[::1]:43121/callback")).want(303).location())
	if csp := v6.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http:;") {
		t.Errorf("the way back to the client is closed: %s", csp)
	}
}

// What comes from outside stands in pages as text (WEB-017).
func TestPagesEscape(t *testing.T) {
	r := newRig(t)
	const evil = `"><script>alert(1)</script>`
	b := r.browser()
	p := b.get(b.get("/t/acme/authorize?" + request("login_hint", evil)).want(303).location()).want(200)
	q := b.post("/t/acme/login", p.form("username", evil, "password", "x"))
	w := b.get("/t/acme/welcome?token=" + url.QueryEscape(evil))
	b.signIn("acme", ada, password)
	l := b.get("/t/acme/logout?state=" + url.QueryEscape(evil))
	for name, page := range map[string]page{"hint": p, "name": q, "welcome": w, "logout": l} {
		if strings.Contains(page.body, "<script") || !strings.Contains(page.body, "&lt;script&gt;") {
			t.Errorf("%s: %s", name, page.body)
		}
	}
}

// A temporary password leads to choosing one's own, and to nothing else.
func TestTemporaryPassword(t *testing.T) {
	r := newRig(t)
	_, temporary, err := r.dir.CreateUser(t.Context(), actor("acme"), "acme", directory.NewUser{Email: "carl@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	b := r.browser()
	to := b.signIn("acme", "carl@acme.example", temporary).want(303).location()
	if !strings.HasPrefix(to, "/t/acme/password?login=") || b.signedIn("acme") {
		t.Fatalf("to %s, signed in %v", to, b.signedIn("acme"))
	}
	r.browser().get(to).want(404)
	choose := b.get(to).want(200)
	for name, form := range map[string]url.Values{
		"differ":    choose.form("username", "carl@acme.example", "new", "a brand new thing", "repeat", "another new thing"),
		"short":     choose.form("username", "carl@acme.example", "new", "short", "repeat", "short"),
		"temporary": choose.form("username", "carl@acme.example", "new", temporary, "repeat", temporary),
	} {
		if p := b.post("/t/acme/password", form); p.status != 422 || !strings.Contains(p.body, `role="alert"`) {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
	}
	good := choose.form("username", ada, "new", "a brand new thing", "repeat", "a brand new thing") // the name is only for password managers
	r.browser().post("/t/acme/password", good).want(403)
	if back := b.post("/t/acme/password", good).want(303).location(); !strings.HasPrefix(back, callback+"?code=") {
		t.Errorf("to %s", back)
	}
	if !b.signedIn("acme") {
		t.Error("not signed in")
	}
	r.browser().signIn("acme", "carl@acme.example", temporary).want(403)
	r.browser().signIn("acme", "carl@acme.example", "a brand new thing").want(303)
	r.browser().signIn("acme", ada, password).want(303)
	// A sign-in in which nobody proved anything leads to no new password.
	other := r.browser()
	handle := other.loginPage("acme").form().Get("login")
	other.get("/t/acme/password?login=" + handle).want(404)
}

// Changing the password ends every session of the person, at once and everywhere.
func TestPasswordEndsSessions(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.signIn("acme", ada, password)
	if !b.signedIn("acme") {
		t.Fatal("not signed in")
	}
	if _, err := r.dir.SetPassword(t.Context(), actor("acme"), "acme", ada, "a brand new thing"); err != nil {
		t.Fatal(err)
	}
	if b.signedIn("acme") {
		t.Error("still signed in")
	}
}

// A welcome link makes one administrator, once.
func TestWelcome(t *testing.T) {
	r := newRig(t)
	token, err := r.org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "fresh", "Fresh")
	if err != nil {
		t.Fatal(err)
	}
	path := "/t/fresh/welcome?token=" + token
	b := r.browser()
	b.get(path).want(200)
	p := b.get(path).want(200) // looking uses nothing up
	form := p.form("username", "root@fresh.example", "new", "a brand new thing", "repeat", "a brand new thing")
	r.browser().post("/t/fresh/welcome", form).want(403)
	b.post("/t/fresh/welcome", form, "Sec-Fetch-Site", "cross-site").want(403)
	for field, value := range map[string]string{"username": "system:masters", "new": "short", "repeat": "differs"} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		bad.Set(field, value)
		if field == "new" {
			bad.Set("repeat", value)
		}
		if p := b.post("/t/fresh/welcome", bad); p.status != 422 {
			t.Errorf("%s: %d %s", field, p.status, p.body)
		}
	}
	if to := b.post("/t/fresh/welcome", form).want(303).location(); to != "/t/fresh/" {
		t.Errorf("to %s", to)
	}
	if !b.signedIn("fresh") {
		t.Error("not signed in")
	}
	second := r.browser()
	form = second.get(path).want(200).form("username", "second@fresh.example", "new", "a brand new thing", "repeat", "a brand new thing")
	second.post("/t/fresh/welcome", form).want(403)
	if second.signedIn("fresh") {
		t.Error("the link worked twice")
	}
}

// Who guesses is made to wait, and does not make the person wait on their own device.
func TestThrottle(t *testing.T) {
	r := newRig(t)
	own := r.browser()
	own.signIn("acme", ada, password).want(303)
	var last page
	for range 12 {
		if last = r.browser().signIn("acme", ada, "wrong"); last.status == 429 {
			break
		}
	}
	if last.want(429); last.header.Get("Retry-After") == "" || !strings.Contains(last.body, "Too many attempts") {
		t.Errorf("%v %s", last.header, last.body)
	}
	r.advance(2 * time.Minute)
	own.signIn("acme", ada, password).want(303)
}

// A page that took too long starts again.
func TestStale(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	form := b.loginPage("acme").form("username", ada, "password", password)
	r.advance(10 * time.Minute)
	b.post("/t/acme/login", form).want(404)
	b.get("/t/acme/login?login=" + form.Get("login")).want(404)
}
