package login_test

import (
	"bytes"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/login"
	"github.com/fleetpass/fleetpass/functions/oidccallback"
	"github.com/fleetpass/fleetpass/functions/samlacs"
)

const (
	ada      = "ada@acme.example"
	password = "correct horse battery"
	callback = "http://127.0.0.1:43121/callback"
)

// rig serves the pages over TLS, where browsers keep our cookies, with the tenants acme and other, and ada in each.
type rig struct {
	t       testing.TB
	srv     *httptest.Server
	counter *storetest.Counter
	server  *oauth.Server
	dir     *directory.Service
	org     *org.Service
	access  *access.Service
	sso     *sso.Service
	saml    *oracle
	oidc    *oracle
	welcome map[core.TenantID]string // the first administrator's link
	ns      atomic.Int64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, saml: &oracle{}, oidc: &oracle{}, welcome: map[core.TenantID]string{}}
	r.ns.Store(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, r.ns.Load()).UTC() }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	r.counter = &storetest.Counter{DB: db}
	ring := keys.NewRing(r.counter, wrapper, now)
	r.org = &org.Service{DB: r.counter, Ring: ring, Now: now}
	r.dir = &directory.Service{DB: r.counter, Ring: ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	r.access = &access.Service{DB: r.counter, Now: now}
	sessions := &session.Service{DB: r.counter, Ring: ring, Now: now}
	r.srv = httptest.NewUnstartedServer(nil)
	r.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	r.srv.StartTLS()
	r.server = &oauth.Server{DB: r.counter, Ring: ring, Sessions: sessions, Directory: r.dir, Access: r.access, Now: now, Base: r.srv.URL}
	r.sso = &sso.Service{
		DB: r.counter, Ring: ring, Directory: r.dir, Sessions: sessions, Now: now, Log: slog.New(slog.DiscardHandler), Base: r.srv.URL,
		Providers: map[sso.Kind]sso.Provider{sso.SAML: r.saml, sso.OIDC: r.oidc}, Administrators: r.access.Administrators,
	}
	edge := web.Edge{Function: "login", Log: slog.New(slog.DiscardHandler)}
	pages := login.Handler(login.Deps{
		OAuth: r.server, Sessions: sessions, Directory: r.dir, Ring: ring, Appoint: r.access.FirstAdministrator, Base: r.srv.URL, SSO: r.sso,
	})
	acs, oidc := samlacs.Handler(samlacs.Deps{SSO: r.sso}), oidccallback.Handler(oidccallback.Deps{SSO: r.sso})
	r.srv.Config.Handler = edge.Wrap(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.HasPrefix(q.URL.Path, "/t/acme/saml/"):
			acs.ServeHTTP(w, q)
		case strings.HasPrefix(q.URL.Path, "/t/acme/oidc/"):
			oidc.ServeHTTP(w, q)
		default:
			pages.ServeHTTP(w, q)
		}
	}))
	t.Cleanup(func() { r.srv.Close(); db.Close() })
	for _, id := range []core.TenantID{"acme", "other"} {
		welcome, err := r.org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(id), "Tenant <b>"+string(id)+"</b>")
		if err != nil {
			t.Fatal(err)
		}
		r.welcome[id] = welcome
		if _, _, err := r.dir.CreateUser(t.Context(), core.SystemActor(id), id, directory.NewUser{Email: ada, Password: password}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) advance(d time.Duration) { r.ns.Add(int64(d)) }

// browser keeps cookies and follows no redirect.
type browser struct {
	*http.Client
	r *rig
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	c := *r.srv.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{&c, r}
}

// cookie is the browser's cookie of that name, and its value.
func (b *browser) cookie(name string) string {
	home, err := url.Parse(b.r.srv.URL)
	if err != nil {
		b.r.t.Fatal(err)
	}
	for _, c := range b.Jar.Cookies(home) {
		if c.Name == "__Host-fleetpass-"+name {
			return c.Value
		}
	}
	return ""
}

func (b *browser) plant(name, value string) {
	home, err := url.Parse(b.r.srv.URL)
	if err != nil {
		b.r.t.Fatal(err)
	}
	b.Jar.SetCookies(home, []*http.Cookie{{Name: "__Host-fleetpass-" + name, Value: value, Path: "/", Secure: true}})
}

type page struct {
	status int
	header http.Header
	body   string
	t      testing.TB
}

func (b *browser) do(method, path string, form url.Values, headers ...string) page {
	b.r.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	q, err := http.NewRequest(method, b.r.srv.URL+path, body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	if form != nil {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	a, err := b.Do(q)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	return page{a.StatusCode, a.Header, string(text), b.r.t}
}

func (b *browser) get(path string, headers ...string) page {
	b.r.t.Helper()
	return b.do("GET", path, nil, headers...)
}

func (b *browser) post(path string, form url.Values, headers ...string) page {
	b.r.t.Helper()
	return b.do("POST", path, form, headers...)
}

func (p page) want(status int) page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("status %d, want %d, to %q: %s", p.status, status, p.header.Get("Location"), p.body)
	}
	return p
}

func (p page) location() string { return p.header.Get("Location") }

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// form is the page's form, with the hidden fields filled in and more beside.
func (p page) form(more ...string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(p.body, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

func request(more ...string) string {
	q := url.Values{
		"client_id": {"fleetpass-cli"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid"}, "state": {"xyz"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q.Encode()
}

// loginPage begins a sign-in for the command line and returns its page.
func (b *browser) loginPage(tenant string) page {
	b.r.t.Helper()
	return b.get(b.get("/t/" + tenant + "/authorize?" + request("prompt", "login")).want(303).location()).want(200)
}

// signIn signs a person in and returns the redirect back.
func (b *browser) signIn(tenant, email, pass string) page {
	b.r.t.Helper()
	return b.post("/t/"+tenant+"/login", b.loginPage(tenant).form("username", email, "password", pass))
}

// signedIn says whether the browser has a session.
func (b *browser) signedIn(tenant string) bool {
	b.r.t.Helper()
	return strings.Contains(b.get("/t/"+tenant+"/authorize?"+request("prompt", "none")).want(303).location(), "code=")
}
