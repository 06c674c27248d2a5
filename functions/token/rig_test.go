package token_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/jwks"
	"github.com/fleetpass/fleetpass/functions/login"
	"github.com/fleetpass/fleetpass/functions/token"
)

// The rig is the sign-in part of the system, served over TLS as browsers and clients meet it: the three functions on one
// port, over bolt. Several instances of them may share the store, as functions do.

// cheap makes passwords cost next to nothing. What they cost is core/directory's to test.
var cheap = directory.Cost{Memory: 64, Time: 1, Threads: 1}

// clock is a time that stands still until it is moved.
type clock struct{ ns atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// instance is one warm function instance: what it caches is its own.
type instance struct {
	handler http.Handler
	counter *storetest.Counter
	faulty  *storetest.Faulty
	server  *oauth.Server
	org     *org.Service
	dir     *directory.Service
	access  *access.Service
	ring    *keys.Ring

	sessions *session.Service
	sso      *sso.Service
}

type rig struct {
	t         *testing.T
	db        *bolt.DB
	clock     *clock
	srv       *httptest.Server
	instances []*instance
	next      atomic.Int64
	log       *lockedBuffer
	base      string
	idp       *provider // whatever its kind
}

// lockedBuffer is a sink for logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const (
	admin    = "ada@acme.example"
	password = "correct horse battery"
	callback = "http://127.0.0.1:43121/callback"
)

// newRig serves n instances, with the tenants acme and other, and acme's first administrator.
func newRig(t *testing.T, n int) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{}, log: &lockedBuffer{}, idp: &provider{}}
	r.clock.ns.Store(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).UnixNano())
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: r.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	r.db = db
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	r.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.instances[int(r.next.Add(1))%len(r.instances)].handler.ServeHTTP(w, q)
	}))
	r.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // connections that the end of a test cuts
	r.srv.StartTLS()
	r.base = r.srv.URL
	t.Cleanup(func() { r.srv.Close(); db.Close() })
	for range n {
		r.instances = append(r.instances, r.newInstance(wrapper))
	}
	for _, id := range []string{"acme", "other"} {
		welcome, err := r.instances[0].org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), id, "Tenant "+id)
		if err != nil {
			t.Fatal(err)
		}
		i := r.instances[0]
		if _, err := i.dir.RedeemWelcome(t.Context(), core.Actor{Tenant: core.TenantID(id)}, welcome, admin, password, i.access.FirstAdministrator); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) newInstance(w keys.Wrapper) *instance {
	i := &instance{faulty: &storetest.Faulty{DB: r.db}}
	i.counter = &storetest.Counter{DB: i.faulty}
	now := r.clock.Now
	i.ring = keys.NewRing(i.counter, w, now)
	i.org = &org.Service{DB: i.counter, Ring: i.ring, Now: now}
	i.dir = &directory.Service{DB: i.counter, Ring: i.ring, Now: now, Cost: cheap}
	i.access = &access.Service{DB: i.counter, Now: now}
	i.sessions = &session.Service{DB: i.counter, Ring: i.ring, Now: now}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	i.sso = &sso.Service{
		DB: i.counter, Ring: i.ring, Directory: i.dir, Sessions: i.sessions, Now: now, Log: log, Base: r.base, Administrators: i.access.Administrators,
		Providers: map[sso.Kind]sso.Provider{sso.SAML: r.idp, sso.OIDC: r.idp},
	}
	i.server = &oauth.Server{DB: i.counter, Ring: i.ring, Sessions: i.sessions, Directory: i.dir, Access: i.access, Now: now, Base: r.base, Upstream: i.sso}
	mux := http.NewServeMux()
	add := func(function string, paths []string, h http.Handler) {
		h = web.Edge{Function: function, Log: log}.Wrap(h)
		for _, p := range paths {
			mux.Handle(p, h)
		}
	}
	add("token", token.Paths, token.Handler(token.Deps{OAuth: i.server}))
	add("jwks", jwks.Paths, jwks.Handler(jwks.Deps{OAuth: i.server, Ring: i.ring}))
	add("login", login.Paths, login.Handler(login.Deps{
		OAuth: i.server, Sessions: i.sessions, Directory: i.dir, Ring: i.ring, Appoint: i.access.FirstAdministrator, Base: r.base, SSO: i.sso,
	}))
	i.handler = mux
	return i
}

func (r *rig) first() *instance { return r.instances[0] }

func (r *rig) actor(t core.TenantID) core.Actor {
	return core.Actor{Tenant: t, Subject: core.UserSubject(admin)}
}

func (r *rig) issuer(t string) string { return r.base + "/t/" + t }

// must fails the test on an error: must(t)(f()).
func must(t *testing.T) func(any, error) any {
	return func(v any, err error) any {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// settings changes a tenant's settings in the store.
func (r *rig) settings(id core.TenantID, change func(*org.Tenant)) {
	r.t.Helper()
	var table store.Table[org.Tenant]
	rec, err := table.Get(r.t.Context(), r.db, store.Meta(id))
	if err != nil {
		r.t.Fatal(err)
	}
	change(&rec.Value)
	op, err := table.Put(rec.Key, rec.Version, rec.Value)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.db.Commit(r.t.Context(), op); err != nil {
		r.t.Fatal(err)
	}
}

// client is an HTTP client that follows no redirect, with a browser's cookies.
func (r *rig) client() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	c := *r.srv.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	t      *testing.T
}

func (r *rig) do(c *http.Client, q *http.Request) reply {
	r.t.Helper()
	a, err := c.Do(q)
	if err != nil {
		r.t.Error(err)
		return reply{t: r.t, header: http.Header{}}
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		r.t.Error(err)
	}
	return reply{a.StatusCode, a.Header, string(body), r.t}
}

func (r *rig) get(c *http.Client, path string) reply {
	r.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = r.base + path
	}
	q, err := http.NewRequest("GET", path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(c, q)
}

func (r *rig) post(c *http.Client, path string, form url.Values, edit ...func(*http.Request)) reply {
	r.t.Helper()
	q, err := http.NewRequest("POST", r.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, e := range edit {
		e(q)
	}
	return r.do(c, q)
}

// json reads the body as an object.
func (a reply) json() map[string]any {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		a.t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	return m
}

func (a reply) str(name string) string {
	s, _ := a.json()[name].(string)
	return s
}

// want fails unless the answer has the status.
func (a reply) want(status int) reply {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d; location %q, body %s", a.status, status, a.header.Get("Location"), a.body)
	}
	return a
}

// refused fails unless the answer is that OAuth error.
func (a reply) refused(status int, code oauth.Code) reply {
	a.t.Helper()
	a.want(status)
	if got := a.str("error"); got != string(code) {
		a.t.Fatalf("error %q (%s), want %q", got, a.str("error_description"), code)
	}
	return a
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// fields are the hidden fields of the page's form.
func (a reply) fields() url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(a.body, -1) {
		v.Set(m[1], m[2])
	}
	return v
}

// location is where the answer redirects to, with its parameters.
func (a reply) location() (string, url.Values) {
	a.t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		a.t.Fatalf("status %d, no location: %v; %s", a.status, err, a.body)
	}
	q := u.Query()
	u.RawQuery = ""
	return u.String(), q
}

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B

func challenge(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is an authorization request of the command line's.
func request(edit ...func(url.Values)) url.Values {
	q := url.Values{
		"client_id": {"fleetpass-cli"}, "redirect_uri": {callback}, "response_type": {"code"},
		"scope": {"openid offline_access email profile groups"}, "state": {"xyz"}, "nonce": {"n-0S6_WzA2Mj"},
		"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	for _, e := range edit {
		e(q)
	}
	return q
}

func set(name, value string) func(url.Values) {
	return func(q url.Values) { q.Set(name, value) }
}

// signIn walks a browser through the sign-in that an authorization request leads to, and returns the redirect back.
func (r *rig) signIn(c *http.Client, tenant, email, pass string, q url.Values) reply {
	r.t.Helper()
	start := r.get(c, "/t/"+tenant+"/authorize?"+q.Encode()).want(303)
	page := r.get(c, start.header.Get("Location")).want(200)
	form := page.fields()
	form.Set("username", email)
	form.Set("password", pass)
	return r.post(c, "/t/"+tenant+"/login", form)
}

// code signs in and returns the code.
func (r *rig) code(c *http.Client, q url.Values) string {
	r.t.Helper()
	_, back := r.signIn(c, "acme", admin, password, q).want(303).location()
	if back.Get("code") == "" {
		r.t.Fatalf("no code: %v", back)
	}
	return back.Get("code")
}

// redemption is the token request for a code of the command line's.
func redemption(code string, edit ...func(url.Values)) url.Values {
	q := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"fleetpass-cli"}, "redirect_uri": {callback},
		"code": {code}, "code_verifier": {verifier},
	}
	for _, e := range edit {
		e(q)
	}
	return q
}

// tokens signs in and redeems the code.
func (r *rig) tokens() reply {
	r.t.Helper()
	c := r.client()
	return r.post(c, "/t/acme/token", redemption(r.code(c, request()))).want(200)
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {"fleetpass-cli"}, "refresh_token": {token}}
}

func exchangeForm(access, cluster string) url.Values {
	return url.Values{
		"grant_type": {oauth.GrantExchange}, "client_id": {"fleetpass-cli"}, "subject_token": {access},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {cluster},
	}
}

// application registers a client with a secret.
func (r *rig) application(tenant core.TenantID, name string, redirects ...string) (core.ApplicationID, string) {
	r.t.Helper()
	app, secret, err := r.first().dir.CreateApplication(r.t.Context(), r.actor(tenant), tenant, directory.NewApplication{
		Name: name, RedirectURIs: redirects, PostLogoutURIs: []string{"https://app.example/bye"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return app.ID, secret
}

func (r *rig) cluster(tenant core.TenantID, name string) core.ClusterID {
	r.t.Helper()
	s, err := r.first().org.CreateCluster(r.t.Context(), r.actor(tenant), tenant, name, org.Reach{Server: "https://" + name + ".example:6443"})
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Cluster
}

func basic(id core.ApplicationID, secret string) func(*http.Request) {
	return func(q *http.Request) { q.SetBasicAuth(string(id), secret) }
}

func bearer(token string) func(*http.Request) {
	return func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+token) }
}

// claims are the claims of a token, unverified.
func claims(t *testing.T, raw string) map[string]any {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", raw)
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// audits returns the audit records of a tenant that are of an action.
func (r *rig) audits(t core.TenantID, a audit.Action) (found []audit.Record) {
	r.t.Helper()
	var table store.Table[audit.Record]
	for rec, err := range table.List(context.Background(), r.db, store.AuditsNew(t)) {
		if err != nil {
			r.t.Fatal(err)
		}
		if rec.Value.Action == a {
			found = append(found, rec.Value)
		}
	}
	return found
}

func withToken(t *testing.T, address, token string) *http.Request {
	t.Helper()
	q, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	return q
}

// user makes a local user with the usual password.
func (r *rig) user(tenant core.TenantID, email string) directory.User {
	r.t.Helper()
	u, _, err := r.first().dir.CreateUser(r.t.Context(), r.actor(tenant), tenant, directory.NewUser{Email: email, Password: password})
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func newUser(email string) directory.NewUser { return directory.NewUser{Email: email} }
