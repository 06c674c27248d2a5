package idp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/localdev/idp"
)

const password = "correct horse battery staple"

func alice() idp.Person {
	return idp.Person{
		Email: "alice@acme.example", Password: password, FirstName: "Alice", LastName: "Liddell",
		Groups: []string{"researchers", "ml & more"}, UID: new(int64(15001)), GID: new(int64(25001)), SupplementaryGroups: []int64{30001, 30002},
	}
}

// serve starts a provider on a port of this machine.
func serve(t *testing.T, o idp.Options) *idp.Provider {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	o.Base = "http://" + s.Listener.Addr().String() + o.Base
	if o.People == nil {
		o.People = []idp.Person{alice()}
	}
	p, err := idp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Handler = p
	s.Start()
	t.Cleanup(s.Close)
	return p
}

// browser is a browser without script. It follows redirects as long as they stay at the provider.
type browser struct {
	t      *testing.T
	client *http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Hostname() != "127.0.0.1" {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

// page is what a browser shows: one form at most.
type page struct {
	t      *testing.T
	status int
	header http.Header
	body   string
	url    *url.URL // where it is
	action string   // of the form
	fields url.Values
	left   *url.URL // where a redirect leads that leaves the provider
}

func (b *browser) get(to string) page {
	b.t.Helper()
	return b.read(b.client.Get(to))
}

func (b *browser) post(to string, fields url.Values) page {
	b.t.Helper()
	return b.read(b.client.PostForm(to, fields))
}

// submit sends the page's form, with more fields: name, value, ...
func (b *browser) submit(p page, more ...string) page {
	b.t.Helper()
	if p.action == "" {
		b.t.Fatalf("no form on the page: %d %s", p.status, p.body)
	}
	fields := url.Values{}
	for name := range p.fields {
		fields.Set(name, p.fields.Get(name))
	}
	for i := 0; i < len(more); i += 2 {
		fields.Set(more[i], more[i+1])
	}
	to, err := p.url.Parse(p.action)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post(to.String(), fields)
}

// signIn fills in the login page.
func (b *browser) signIn(p page, more ...string) page {
	b.t.Helper()
	return b.submit(p, append([]string{"email", "Alice@acme.example", "password", password}, more...)...)
}

func (b *browser) read(res *http.Response, err error) page {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	p := page{t: b.t, status: res.StatusCode, header: res.Header, body: string(body), url: res.Request.URL, fields: url.Values{}}
	if to := res.Header.Get("Location"); to != "" {
		if p.left, err = p.url.Parse(to); err != nil {
			b.t.Fatal(err)
		}
	}
	doc, err := html.Parse(strings.NewReader(p.body))
	if err != nil {
		b.t.Fatal(err)
	}
	for n := range doc.Descendants() {
		a := map[string]string{}
		for _, attr := range n.Attr {
			a[attr.Key] = attr.Val
		}
		switch n.Data {
		case "form":
			p.action = a["action"]
		case "input":
			p.fields.Set(a["name"], a["value"])
		case "option":
			if _, selected := a["selected"]; selected {
				p.fields.Set("misbehave", a["value"])
			}
		}
	}
	return p
}

func (p page) isLogin() bool { return p.status == http.StatusOK && p.fields.Has("password") }

func TestOptionsAreChecked(t *testing.T) {
	for _, base := range []string{"", "idp.test", "ftp://idp.test", "https://idp.test/", "https://idp.test?x", "https://u@idp.test"} {
		if _, err := idp.New(idp.Options{Base: base}); !errors.Is(err, core.Invalid) {
			t.Errorf("Base %q: %v, want Invalid", base, err)
		}
	}
	p := serve(t, idp.Options{})
	for name, err := range map[string]error{
		"no entity ID":  p.AddServiceProvider(idp.ServiceProvider{ACS: []string{"https://sp.example/acs"}}),
		"no ACS":        p.AddServiceProvider(idp.ServiceProvider{EntityID: "sp"}),
		"no key":        p.AddServiceProvider(idp.ServiceProvider{EntityID: "sp", ACS: []string{"https://sp.example/acs"}, Encrypt: true}),
		"cipher":        p.AddServiceProvider(idp.ServiceProvider{EntityID: "sp", ACS: []string{"https://sp.example/acs"}, Cipher: "aes128-cbc"}),
		"no client ID":  p.AddClient(idp.Client{Secret: "s", RedirectURIs: []string{"https://rp.example"}}),
		"no secret":     p.AddClient(idp.Client{ID: "c", RedirectURIs: []string{"https://rp.example"}}),
		"two proofs":    p.AddClient(idp.Client{ID: "c", Secret: "s", Keys: []any{1}, RedirectURIs: []string{"https://rp.example"}}),
		"no redirect":   p.AddClient(idp.Client{ID: "c", Secret: "s"}),
		"algorithm":     p.AddClient(idp.Client{ID: "c", Secret: "s", RedirectURIs: []string{"https://rp.example"}, Algorithm: "HS256"}),
		"nameless":      p.AddPerson(idp.Person{}),
		"not a SP":      second(idp.ParseServiceProvider([]byte("<x/>"))),
		"DOCTYPE":       second(idp.ParseServiceProvider([]byte(`<!DOCTYPE x><EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`))),
		"without an SP": second(idp.ParseServiceProvider([]byte(`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`))),
	} {
		if !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
	for name, err := range map[string]error{"fault": p.SetFault("sloth"), "person": p.SetGroups("nobody@acme.example")} {
		if !errors.Is(err, core.NotFound) {
			t.Errorf("unknown %s: %v, want NotFound", name, err)
		}
	}
	if err := p.UseNext(); !errors.Is(err, core.Conflict) {
		t.Errorf("UseNext before PublishNext: %v, want Conflict", err)
	}
}

func second[T any](_ T, err error) error { return err }

// Each fault is told once a protocol, with words for people.
func TestFaultsAreTold(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range idp.Faults() {
		id := fmt.Sprint(m.Protocol, " ", m.Fault)
		if seen[id] || m.Fault == idp.Behave || m.Fails == "" || !strings.HasSuffix(m.Does, ".") {
			t.Errorf("%+v", m)
		}
		seen[id] = true
	}
	if len(seen) != len(idp.Faults()) || len(seen) < 24 {
		t.Errorf("%d faults", len(seen))
	}
}

// The pages work without script and allow none inline; what is foreign in them is text.
func TestPages(t *testing.T) {
	p := serve(t, idp.Options{Base: "/idp"})
	const nasty = `"><script>alert(1)</script>`
	if err := p.AddServiceProvider(idp.ServiceProvider{EntityID: nasty, ACS: []string{"https://sp.example/acs"}}); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	login := b.get(p.StartURL(nasty, nasty))
	if !login.isLogin() || login.url.Path != "/idp/login" {
		t.Fatalf("%d at %s", login.status, login.url)
	}
	wrong := b.submit(login, "email", nasty, "password", "wrong")
	if wrong.status != http.StatusForbidden || wrong.fields.Get("email") != nasty {
		t.Errorf("wrong password: %d, e-mail %q", wrong.status, wrong.fields.Get("email"))
	}
	answer := b.signIn(wrong)
	if answer.action != "https://sp.example/acs" || answer.fields.Get("RelayState") != nasty || answer.fields.Get("SAMLResponse") == "" {
		t.Errorf("the answer's form: %s %v", answer.action, answer.fields)
	}
	for name, page := range map[string]page{
		"login": login, "wrong password": wrong, "answer": answer, "used": b.signIn(wrong), "home": b.get(p.Issuer() + "/"),
		"unknown service": b.get(p.StartURL("x"+nasty, "")), "unknown client": b.get(p.Issuer() + "/oidc/authorize?client_id=" + url.QueryEscape(nasty)),
	} {
		csp := page.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", name, csp)
		}
		if strings.Contains(page.body, "<script>") || strings.Contains(page.body, "<style") {
			t.Errorf("%s: something inline: %s", name, page.body)
		}
		if page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept", name)
		}
	}
	for _, file := range []string{"/style.css", "/submit.js"} {
		if page := b.get(p.Issuer() + file); page.status != http.StatusOK || page.body == "" {
			t.Errorf("%s: %d", file, page.status)
		}
	}
}

// A session saves the second sign-in its password, until it ends or the person is disabled.
func TestSessions(t *testing.T) {
	p := serve(t, idp.Options{})
	if err := p.AddServiceProvider(idp.ServiceProvider{EntityID: "sp", ACS: []string{"https://sp.example/acs"}}); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	start := p.StartURL("sp", "")
	if first := b.get(start); !first.isLogin() {
		t.Fatal("the first sign-in asks for no password")
	} else if answer := b.signIn(first); answer.fields.Get("SAMLResponse") == "" {
		t.Fatalf("%d %s", answer.status, answer.body)
	} else if again := b.signIn(first); again.status != http.StatusBadRequest {
		t.Errorf("a request was answered twice: %d", again.status)
	}
	signedIn := func() bool { return b.get(start).fields.Get("SAMLResponse") != "" }
	if !signedIn() {
		t.Error("the second sign-in asks for the password")
	}
	if err := p.Disable("ALICE@acme.example"); err != nil {
		t.Fatal(err)
	}
	if signedIn() {
		t.Error("a disabled person is signed in")
	}
	if refused := b.signIn(b.get(start)); refused.status != http.StatusForbidden {
		t.Errorf("a disabled person's password: %d", refused.status)
	}
	if err := p.Enable("alice@acme.example"); err != nil {
		t.Fatal(err)
	}
	if !signedIn() {
		t.Error("an enabled person is not signed in")
	}
	if out := b.submit(b.get(p.Issuer() + "/")); out.status != http.StatusOK {
		t.Errorf("signing out: %d", out.status)
	}
	if signedIn() {
		t.Error("still signed in after signing out")
	}
	if err := p.AddPerson(idp.Person{Email: "empty@acme.example"}); err != nil {
		t.Fatal(err)
	}
	if page := b.submit(b.get(start), "email", "empty@acme.example", "password", ""); page.status != http.StatusForbidden {
		t.Errorf("somebody without a password signs in: %d", page.status)
	}
}

// Everything may change while people sign in; the race detector watches.
func TestAtOnce(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := idp.ServiceProvider{EntityID: "sp", ACS: []string{"https://sp.example/acs"}}
	if err := p.AddServiceProvider(sp); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, change := range []func() error{
		func() error { return p.SetGroups("alice@acme.example", "a", "b") },
		func() error { return p.RemoveGroup("alice@acme.example", "a") },
		func() error { return p.SetFault(idp.WrongAudience) },
		func() error { return p.AddPerson(idp.Person{Email: "bob@acme.example"}) },
		func() error { return p.AddServiceProvider(sp) },
		func() error { p.Certificates(); return nil },
		p.RotateKeys,
	} {
		group.Go(func() {
			for range 3 {
				if err := change(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		b := newBrowser(t)
		if b.signIn(b.get(p.StartURL("sp", ""))).fields.Get("SAMLResponse") == "" {
			t.Error("no response")
		}
		b.get(p.EntityID())
		b.get(p.Issuer() + "/")
	}
	group.Wait()
}
