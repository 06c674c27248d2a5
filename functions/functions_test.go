package functions_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/functions"
)

const (
	acme   = core.TenantID("acme")
	globex = core.TenantID("globex")
)

// world is the whole table on one mux over a real store, with an administrator in each of two tenants.
type world struct {
	*testing.T
	*functions.System
	db      *storetest.Counter
	handler http.Handler
	log     bytes.Buffer
	bearer  map[core.TenantID]string
}

type noQueue struct{}

func (noQueue) Send(context.Context, ...sync.Message) error { return nil }

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOver(t, boltStore(t))
}

func boltStore(t *testing.T) store.DB {
	t.Helper()
	file, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func newWorldOver(t *testing.T, db store.DB) *world {
	t.Helper()
	w := &world{T: t, bearer: map[core.TenantID]string{}}
	w.db = &storetest.Counter{DB: db}
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	w.must(err)
	w.System, err = functions.New(functions.Config{
		DB: w.db, Wrapper: wrapper, Queue: noQueue{}, Base: "https://fleet.test",
		Providers: map[sso.Kind]sso.Provider{},
		Dial:      func(sync.Target) (sync.Cluster, error) { return nil, core.Unavailable },
		Log:       slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	w.must(err)
	w.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	_, err = w.Org.EnsureSystem(t.Context())
	w.must(err)
	for _, id := range []core.TenantID{acme, globex} {
		welcome, err := w.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(id), "Tenant")
		w.must(err)
		u, err := w.Directory.RedeemWelcome(t.Context(), core.Actor{Tenant: id}, welcome, "admin@"+string(id)+".test", "correct horse battery", w.Access.FirstAdministrator)
		w.must(err)
		w.bearer[id] = w.signIn(id, u)
	}
	w.handler = w.HTTP()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// signIn begins a sign-in and returns its access token.
func (w *world) signIn(id core.TenantID, u directory.User) string {
	w.Helper()
	tenant, err := w.Org.Tenant(w.Context(), id)
	w.must(err)
	f, op, err := w.Sessions.Begin(tenant.Value, session.Family{Client: "fleetpass-cli", Email: u.Email, User: u.ID, Epoch: u.Epoch, AuthTime: w.Now()}, time.Hour)
	w.must(err)
	w.must(w.db.Commit(w.Context(), op))
	now, issuer := w.Now(), w.OAuth.Issuer(id)
	raw, err := token.Mint(w.Context(), w.Ring, id, keys.ES256, token.Access{
		Issuer: issuer, Audience: issuer, Subject: string(u.ID), Email: string(u.Email), Kind: core.User, Client: "fleetpass-cli",
		Family: f.ID, Scope: "openid", IssuedAt: now, Expires: now.Add(10 * time.Minute),
	})
	w.must(err)
	return raw
}

// open is every pattern that answers strangers with something else than a refusal, because that is what it is for. A new
// row that is not named here must refuse them.
var open = map[string]bool{
	"GET /t/{tenant}/jwks": true, "GET /t/{tenant}/.well-known/openid-configuration": true, "GET /t/{tenant}/.well-known/oauth-authorization-server": true,
	"GET /.well-known/openid-configuration/t/{tenant}": true, "GET /.well-known/oauth-authorization-server/t/{tenant}": true,
	"GET /.well-known/authzen-configuration/t/{tenant}": true, "GET /t/{tenant}/.well-known/authzen-configuration": true,
	"GET /t/{tenant}": true, "GET /t/{tenant}/{$}": true, "GET /t/{tenant}/login": true, "GET /t/{tenant}/device": true, "GET /t/{tenant}/welcome": true, "GET /t/{tenant}/logout": true, "GET /t/{tenant}/signed-out": true,
	"POST /t/{tenant}/authorize": true, "POST /t/{tenant}/logout": true, // these become the same request by GET
	"GET /health": true, "GET /healthz": true, "GET /t/{tenant}/api/v1/openapi.json": true,
}

// cacheable is every pattern whose good answer may be kept, since it is public and the same for all.
func cacheable(pattern string) bool {
	return strings.Contains(pattern, "/.well-known/") || strings.HasSuffix(pattern, "/jwks") || strings.HasSuffix(pattern, "/openapi.json") || strings.HasSuffix(pattern, "/saml/{alias}/metadata")
}

// hostile is one request that nobody should get anything for.
type hostile struct {
	what, method, path, body string
	header                   []string // names and values in turn
}

// canary comes with every hostile request, where it can. A page must never show it as it is.
const canary = `"><script>canary()</script>`

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

// at is the path of a pattern, with a tenant and, for every other wildcard, an id.
func at(pattern, tenant, id string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	path = strings.NewReplacer("{tenant}", tenant, "{$}", "").Replace(path)
	return method, wildcard.ReplaceAllLiteralString(path, id)
}

func patterns() (all []string) {
	for _, f := range functions.Table {
		if f.Trigger == functions.HTTP {
			all = append(all, f.Paths...)
		}
	}
	return all
}

// refusable is what every pattern must refuse, however open it is.
func refusable(pattern, bearer string) (all []hostile) {
	method, path := at(pattern, string(acme), "absent")
	auth := []string{"Authorization", "Bearer " + bearer}
	for _, tenant := range []string{
		"nobody", "ACME", "a", "acm%65", "%61cme", "acme%00", "acme%2f", "acme%2Fx", "acme%252f", "..", "%2e%2e", ".", "acme;x", "acme%20", "acmé", "ａcme",
		"tenant%23x", strings.Repeat("a", 5000), "%ff", "acme%0d%0aSet-Cookie:%20x=y",
	} {
		m, p := at(pattern, tenant, "absent")
		if p == path {
			break // it is nobody's
		}
		all = append(all, hostile{"tenant " + tenant, m, p, `{}`, append(auth, "Content-Type", "application/json")})
		all = append(all, hostile{"a form for tenant " + tenant, m, p, `a=b`, append(auth, "Content-Type", "application/x-www-form-urlencoded")})
	}
	for _, p := range []string{"/" + path, strings.Replace(path, "/t/", "//t/", 1), strings.Replace(path, "/t/", "/./t/", 1), strings.Replace(path, "/t/", "/x/../t/", 1),
		path + "/..", strings.TrimSuffix(path, "/") + "//", path + "/absent/absent", path + "%2f", path + "%00"} {
		if p != path {
			all = append(all, hostile{"path " + p, method, p, ``, auth})
		}
	}
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		if !served(m, path) {
			all = append(all, hostile{"method " + m, m, path, ``, auth})
		}
	}
	if method == "GET" {
		return all
	}
	for _, b := range []struct{ what, media, body string }{
		{"broken JSON", "application/json", `{"name":`},
		{"a list", "application/json", `[{"name":"x"}]`},
		{"a number", "application/json", `7`},
		{"a string", "application/json", `"` + strings.ReplaceAll(canary, `"`, `\"`) + `"`},
		{"deep JSON", "application/json", strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)},
		{"JSON that is not UTF-8", "application/json", "{\"name\":\"\xff\xfe\"}"},
		{"an unknown member", "application/json", `{"isAdmin":true,"` + strings.ReplaceAll(canary, `"`, `\"`) + `":1}`},
		{"a member twice", "application/json", `{"name":"x","name":"y"}`},
		{"JSON as text", "text/plain", `{"name":"x"}`},
		{"XML", "application/xml", `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>`},
		{"JSON as a form", "application/x-www-form-urlencoded", `%zz{"name":"x"}`},
		{"a form with a bad escape", "application/x-www-form-urlencoded", `a=%zz`},
		{"a file", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--"},
		{"a large form", "application/x-www-form-urlencoded", "a=" + strings.Repeat("x", 1<<20)},
		{"large JSON", "application/json", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`},
		{"NULs", "application/json", strings.Repeat("\x00", 100)},
		{"no media type", "", `{"name":"x"}`},
		{"a broken media type", `application/json; charset="`, `{}x`},
	} {
		all = append(all, hostile{b.what, method, path, b.body, append(auth, "Content-Type", b.media)})
	}
	for _, media := range []string{"application/json", "application/x-www-form-urlencoded"} {
		all = append(all, hostile{"a packed body", method, path, "\x1f\x8b\x08\x00", append(auth, "Content-Type", media, "Content-Encoding", "gzip")})
	}
	return all
}

// strangers is what a pattern must refuse unless it is open: requests without good credentials of this tenant.
func strangers(pattern, foreign string) (all []hostile) {
	for _, id := range []string{"absent", "globex", "00000000-0000-4000-8000-000000000000"} {
		method, path := at(pattern, string(acme), id)
		for what, auth := range map[string]string{
			"nothing": "", "junk": "Bearer junk", "another tenant's token": "Bearer " + foreign, "a large token": "Bearer " + strings.Repeat("x", 9<<10),
			"an unsigned token": "Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJ4In0.", "another scheme": "Negotiate " + foreign,
			"a client nobody knows": "Basic bm9ib2R5OnNlY3JldA==", "a client that is no client": "Basic !!!", "a NUL": "Basic AAAA",
		} {
			for _, media := range []string{"application/json", "application/x-www-form-urlencoded"} {
				body := "grant_type=client_credentials&token=x&login=x"
				if media == "application/json" {
					body = `{}`
				}
				header := []string{"Content-Type", media, "Cookie", "__Host-fleetpass-acme=" + strings.Repeat("a", 52) + "; __Host-fleetpass-login.acme=junk", "X-User", "admin@acme.test", "X-Forwarded-User", "admin@acme.test", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}
				if auth != "" {
					header = append(header, "Authorization", auth)
				}
				if method == "GET" {
					body = ""
				}
				all = append(all, hostile{what, method, path, body, header})
			}
		}
	}
	return all
}

// served says whether a pattern of the table is for that method and path.
func served(method, path string) bool {
	mux := http.NewServeMux()
	for _, p := range patterns() {
		mux.Handle(p, http.NotFoundHandler())
	}
	r := httptest.NewRequest("GET", "https://fleet.test"+path, nil)
	r.Method = method
	_, pattern := mux.Handler(r)
	return pattern != ""
}

// send makes the request as net/http's server would have it, which takes paths that no client sends.
func (w *world) send(h hostile) (res *httptest.ResponseRecorder) {
	w.Helper()
	r, err := http.NewRequest(h.method, "https://fleet.test/", strings.NewReader(h.body))
	w.must(err)
	path, query, _ := strings.Cut(h.path, "?")
	if r.URL, err = url.ParseRequestURI(path); err != nil {
		return nil // net/http answers 400 before it comes to us
	}
	r.URL.RawQuery = query
	r.RequestURI, r.RemoteAddr = h.path, "192.0.2.1:1234"
	for i := 0; i+1 < len(h.header); i += 2 {
		r.Header.Add(h.header[i], h.header[i+1])
	}
	res = httptest.NewRecorder()
	w.handler.ServeHTTP(res, r)
	return res
}

// check is what holds for every answer.
func (w *world) check(pattern string, h hostile, res *httptest.ResponseRecorder) {
	w.Helper()
	what := fmt.Sprintf("%s, %s (%s %.100s)", pattern, h.what, h.method, h.path)
	head := res.Header()
	if res.Code >= 500 {
		w.Errorf("%s: %d %.300s", what, res.Code, res.Body)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
		if head.Get(name) != want {
			w.Errorf("%s: %d with %s %q", what, res.Code, name, head.Get(name))
		}
	}
	if csp := head.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
		w.Errorf("%s: %d with the policy %q", what, res.Code, csp)
	}
	if c := head.Get("Cache-Control"); c != "no-store" && !(cacheable(pattern) && res.Code < 400) {
		w.Errorf("%s: %d with Cache-Control %q", what, res.Code, c)
	}
	for name := range head {
		if strings.HasPrefix(name, "Access-Control-") || name == "Server" || name == "X-Powered-By" {
			w.Errorf("%s: header %s", what, name)
		}
	}
	for _, c := range res.Result().Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			w.Errorf("%s: cookie %s", what, c.Name)
		}
	}
	if to := head.Get("Location"); to != "" && !strings.HasPrefix(to, "/t/acme/") {
		w.Errorf("%s: sends to %.100s", what, to)
	}
	if res.Code == 401 && head.Get("WWW-Authenticate") == "" {
		w.Errorf("%s: 401 without a challenge", what)
	}
	if strings.Contains(res.Body.String(), "<script") && !strings.Contains(head.Get("Content-Type"), "json") {
		w.Errorf("%s: the answer has a script: %.300s", what, res.Body)
	}
}

// Every path of the table refuses bad input: never a 5xx, never a 2xx, nothing written, and with the headers that every
// answer has. It walks the table, so a new row is in it.
func TestEveryPathRefuses(t *testing.T) {
	w := newWorld(t)
	n := 0
	for _, pattern := range patterns() {
		all := refusable(pattern, w.bearer[acme])
		if !open[pattern] {
			all = append(all, strangers(pattern, w.bearer[globex])...)
		}
		for _, h := range all {
			w.db.Reset()
			res := w.send(h)
			if res == nil {
				continue
			}
			n++
			if res.Code < 400 {
				t.Errorf("%s, %s: %d %.200s", pattern, h.what, res.Code, res.Body)
			}
			w.check(pattern, h, res)
			if c := w.db.Counts(); c.Commits != 0 {
				t.Errorf("%s, %s: %d, and %d commits", pattern, h.what, res.Code, c.Commits)
			}
		}
	}
	if n < 3000 {
		t.Errorf("only %d hostile requests were made", n)
	}
	if strings.Contains(w.log.String(), "msg=panic") {
		t.Error("a handler panicked")
	}
}

// Links that people open lead to where browsers reach the pages, not to the issuer.
func TestLinksLeadToBrowsers(t *testing.T) {
	w := newWorld(t)
	c := w.Config
	c.BrowserBase = "http://localhost:8080"
	s, err := functions.New(c)
	w.must(err)
	operator, _, err := s.Directory.CreateUser(t.Context(), core.SystemActor(core.SystemTenant), core.SystemTenant, directory.NewUser{Email: "op@fleet.test", Password: "correct horse battery"})
	w.must(err)
	_, err = s.Access.Seed(t.Context(), core.SystemTenant, access.NewRule{Subject: core.UserSubject(operator.Email), Role: policy.SystemAdministrator, Scope: core.AccountScope(core.SystemTenant)})
	w.must(err)
	bearer := w.signIn(core.SystemTenant, operator)
	for _, tt := range []struct {
		handler http.Handler
		want    string
	}{{s.HTTP(), `"http://localhost:8080/t/acme/welcome?token=`}, {w.handler, `"https://fleet.test/t/acme/welcome?token=`}} {
		var b browser
		got := b.do(tt.handler, "POST", "/t/system/api/v1/tenants/acme/welcome-link", "", "Authorization", "Bearer "+bearer)
		if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), tt.want) {
			t.Errorf("%d %s, want a link to %s", got.Code, got.Body, tt.want)
		}
	}
}

// Whatever the query, nothing fails, leads away or runs; and what every path is for, an administrator gets.
func TestEveryPathAnswers(t *testing.T) {
	w := newWorld(t)
	auth := []string{"Authorization", "Bearer " + w.bearer[acme]}
	queries := []string{
		"%zz", "a=1&a=2", "a=" + strings.Repeat("x", 100<<10), "limit=-1", "login=" + canary, "token=" + canary, "redirect_uri=https://evil.example&client_id=fleetpass-cli",
		"post_logout_redirect_uri=https://evil.example&client_id=fleetpass-cli&state=" + canary, "id_token_hint=" + canary, "login=%00", "client_id=%ff&redirect_uri=%ff",
		"client_id=fleetpass-cli&redirect_uri=http://127.0.0.1:1/callback%0d%0aSet-Cookie:x=y&response_type=code", "ſ=1", "__proto__=1",
	}
	for _, pattern := range patterns() {
		for _, id := range []string{"absent", "%00", "..%2f..%2f", "%ff", "system:masters", strings.Repeat("x", 4000), "%3Cscript%3E"} {
			method, path := at(pattern, string(acme), id)
			for _, q := range queries {
				h := hostile{"query " + q, method, path + "?" + q, "", auth}
				if res := w.send(h); res != nil {
					w.check(pattern, h, res)
				}
			}
			if !strings.Contains(pattern, "}/") && !strings.HasSuffix(pattern, "}") {
				break
			}
		}
	}
	if strings.Contains(w.log.String(), "msg=panic") {
		t.Error("a handler panicked")
	}
	// The twin: the same administrator and tenant, properly asked for.
	for path, want := range map[string]int{
		"/health": 200, "/healthz": 200, "/t/acme/jwks": 200, "/t/acme/login": 303, "/t/acme/welcome": 200, "/t/acme/userinfo": 200, "/t/acme/api/v1/kubeconfig": 200, "/t/acme/api/v1/users": 200,
		"/t/acme/api/v1/authorization/access-rules": 200, "/.well-known/authzen-configuration/t/acme": 200,
	} {
		h := hostile{"twin", "GET", path, "", auth}
		res := w.send(h)
		if res.Code != want {
			t.Errorf("GET %s: %d, want %d: %s", path, res.Code, want, res.Body)
		}
		w.check("GET "+path, h, res)
	}
}

// What no function serves is answered as every other failure is, by the whole system and by each function alone: with a body
// of ours, a request id and, for a method that a path has not, the methods that it has. Nothing is redirected to it.
func TestMissing(t *testing.T) {
	w := newWorld(t)
	type want struct {
		method, path, allow string
		status              int
	}
	handlers := map[string]http.Handler{"the system": w.handler}
	cases := map[string][]want{"the system": {
		{"GET", "/", "", 404}, {"GET", "/t", "", 404}, {"GET", "/t/", "", 404}, {"GET", "/favicon.ico", "", 404}, {"GET", "/t/acme/nothing", "", 404},
		{"GET", "/t/acme//", "", 404}, {"GET", "/t/../t/acme/", "", 404}, {"POST", "/t/acme/./token", "", 404},
		{"GET", "/t/acme/token", "POST", 405}, {"BREW", "/t/acme/userinfo", "GET, HEAD, POST", 405}, {"POST", "/t/acme/jwks", "GET, HEAD", 405},
		{"DELETE", "/t/acme/api/v1/clusters/x/status", "GET, HEAD", 405}, {"HEAD", "/t/acme/token", "POST", 405},
	}}
	for _, f := range functions.Table {
		if f.Trigger != functions.HTTP {
			continue
		}
		handlers[f.Name] = w.Serve(f)
		cases[f.Name] = []want{{"GET", "/t/acme/nothing", "", 404}, {"GET", "/", "", 404}}
		_, path := at(f.Paths[len(f.Paths)-1], "acme", "x")
		mux := http.NewServeMux()
		for _, p := range f.Paths {
			mux.Handle(p, http.NotFoundHandler())
		}
		plain := httptest.NewRecorder()
		mux.ServeHTTP(plain, httptest.NewRequest("BREW", path, nil))
		cases[f.Name] = append(cases[f.Name], want{"BREW", path, plain.Header().Get("Allow"), 405})
	}
	for name, all := range cases {
		w.handler = handlers[name]
		for _, tt := range all {
			h := hostile{"missing", tt.method, tt.path, "", []string{"X-Request-ID", "trace-missing"}}
			res := w.send(h)
			w.check(tt.path, h, res)
			if res.Code != tt.status || res.Header().Get("Allow") != tt.allow || (tt.status == 405) != (tt.allow != "") {
				t.Errorf("%s: %s %s: %d, Allow %q; want %d, %q", name, tt.method, tt.path, res.Code, res.Header().Get("Allow"), tt.status, tt.allow)
			}
			if body := res.Body.String(); res.Header().Get("Content-Type") != "application/json" || !strings.HasPrefix(body, fmt.Sprintf(`{"code":%d,"message":"`, tt.status)) ||
				!strings.Contains(body, "trace-missing") || res.Header().Get("X-Request-ID") != "trace-missing" {
				t.Errorf("%s: %s %s: %v %s", name, tt.method, tt.path, res.Header(), body)
			}
		}
	}
}

// HEAD is answered wherever GET is, with the same status and headers and, by a real server, no body (RFC 9110 §9.3.2). Where
// GET uses up what it is given, HEAD looks at none of it, and is always well.
func TestHead(t *testing.T) {
	w := newWorld(t)
	usesUp := map[string]bool{
		"GET /t/{tenant}/sso": true, "GET /t/{tenant}/sso/test": true, "GET /t/{tenant}/sso/finish": true, "GET /t/{tenant}/oidc/{alias}/callback": true,
	}
	srv := httptest.NewServer(w.handler)
	defer srv.Close()
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(method, path string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		w.must(err)
		r.Header.Set("Authorization", "Bearer "+w.bearer[acme])
		res, err := client.Do(r)
		w.must(err)
		body, err := io.ReadAll(res.Body)
		w.must(err)
		w.must(res.Body.Close())
		if method == "HEAD" && len(body) > 0 {
			t.Errorf("HEAD %s: a body of %d bytes", path, len(body))
		}
		return res
	}
	for _, pattern := range patterns() {
		method, path := at(pattern, string(acme), "absent")
		if method != "GET" {
			continue
		}
		get, head := ask("GET", path), ask("HEAD", path)
		if usesUp[pattern] {
			get.StatusCode = http.StatusOK
		}
		if get.StatusCode != head.StatusCode || get.Header.Get("Content-Type") != head.Header.Get("Content-Type") {
			t.Errorf("%s: GET %d %s, HEAD %d %s", path, get.StatusCode, get.Header.Get("Content-Type"), head.StatusCode, head.Header.Get("Content-Type"))
		}
	}
}

// No header says where we are: whatever the Host, every address that is told is of the configured base (OAU-061, NET-009).
func TestForeignHost(t *testing.T) {
	w := newWorld(t)
	for _, pattern := range patterns() {
		method, path := at(pattern, string(acme), "absent")
		if method != "GET" {
			continue
		}
		for _, host := range []string{"evil.example", "fleet.test@evil.example", "evil.example:443"} {
			r := httptest.NewRequest(method, "https://fleet.test"+path, nil)
			r.Host = host
			for _, name := range []string{"X-Forwarded-Host", "X-Host", "Forwarded", "X-Forwarded-Proto", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"} {
				r.Header.Set(name, "evil.example/t/globex/jwks")
			}
			r.Header.Set("Authorization", "Bearer "+w.bearer[acme])
			res := httptest.NewRecorder()
			w.handler.ServeHTTP(res, r)
			if all := fmt.Sprint(res.Header(), res.Body); strings.Contains(all, "evil") || strings.Contains(all, "globex") {
				t.Errorf("%s at %s: %d %.300s", pattern, host, res.Code, all)
			}
		}
	}
	res := w.send(hostile{"twin", "GET", "/t/acme/.well-known/openid-configuration", "", nil})
	if !strings.Contains(res.Body.String(), `"issuer":"https://fleet.test/t/acme"`) {
		t.Errorf("the twin: %s", res.Body)
	}
}

// Names, paths and triggers are unique, and every row can be found and made.
func TestTable(t *testing.T) {
	w := newWorld(t)
	var names, paths []string
	for _, f := range functions.Table {
		if got, ok := functions.Lookup(f.Name); !ok || got.Name != f.Name {
			t.Errorf("%s is not found", f.Name)
		}
		if slices.Contains(names, f.Name) {
			t.Errorf("two rows are named %s", f.Name)
		}
		names = append(names, f.Name)
		for _, p := range f.Paths {
			if slices.Contains(paths, p) {
				t.Errorf("%s is served twice", p)
			}
			paths = append(paths, p)
		}
		set := 0
		if f.Handler != nil {
			set++
			_ = w.Serve(f)
		}
		if f.Event != nil {
			set++
			if err := f.Event(w.System)(t.Context(), []byte("{")); err == nil && f.Trigger == functions.Queue {
				t.Errorf("%s takes a broken message", f.Name)
			}
		}
		if f.Tick != nil {
			set++
		}
		if set != 1 || (f.Trigger == functions.HTTP) != (len(f.Paths) > 0) || (f.Trigger == functions.HTTP) != (f.Handler != nil) {
			t.Errorf("row %s: trigger %s, %d handlers, %d paths", f.Name, f.Trigger, set, len(f.Paths))
		}
	}
	if _, ok := functions.Lookup("nothing"); ok {
		t.Error("a function that there is not is found")
	}
	for p := range open {
		if !slices.Contains(paths, p) {
			t.Errorf("%s is named as open, and is no path of the table", p)
		}
	}
}

// A panic in what no request calls is a failure of that one call (sync puts the cluster off as after any other), and what it
// quotes stays out of the log (OPS-001).
func TestPanicsAreErrors(t *testing.T) {
	w := newWorld(t)
	w.Sync.Dial = func(sync.Target) (sync.Cluster, error) { panic("CANARY-PANIC") }
	made, err := w.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, "one", org.Reach{Server: "https://one.test"})
	w.must(err)
	m := sync.Message{Tenant: acme, Cluster: made.Cluster}
	err = w.Synchronize(t.Context(), m)
	if st, failed := w.Sync.Status(t.Context(), acme, made.Cluster); err != nil || failed != nil || st.Tries != 1 || st.RetryAt.IsZero() {
		t.Errorf("%v, %+v, %v", err, st, failed)
	}
	if log := w.log.String(); !strings.Contains(log, "msg=panic") || !strings.Contains(log, "function=sync") || strings.Contains(log, "CANARY") {
		t.Errorf("the log: %s", log)
	}
	w.DB = nil // dispatch and maintenance read the store first
	if w.Maintain(t.Context(), w.Now()) == nil {
		t.Error("maintenance without a store succeeds")
	}
}

// Once a cluster holds what we wrote, it keeps its server.
func TestClusterInUseKeepsItsServer(t *testing.T) {
	w := newWorld(t)
	w.Sync.Dial = func(sync.Target) (sync.Cluster, error) { return synctest.New(), nil }
	system := core.SystemActor(acme)
	made, err := w.Org.CreateCluster(t.Context(), system, acme, "one", org.Reach{Server: "https://one.test"})
	w.must(err)
	_, err = w.Org.UpdateCluster(t.Context(), system, acme, made.Cluster, org.Reach{Server: "https://two.test"})
	w.must(err)
	_, err = w.Access.Seed(t.Context(), acme, access.NewRule{Subject: core.GroupSubject("team"), Role: policy.Viewer, Scope: made.ID})
	w.must(err)
	w.must(w.Synchronize(t.Context(), sync.Message{Tenant: acme, Cluster: made.Cluster}))
	if _, err = w.Org.UpdateCluster(t.Context(), system, acme, made.Cluster, org.Reach{Server: "https://three.test"}); !errors.Is(err, core.Invalid) {
		t.Errorf("%v, want it refused", err)
	}
}

// What a system must be told, it asks for by name.
func TestNewRefuses(t *testing.T) {
	good := newWorld(t).Config
	if _, err := functions.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*functions.Config){
		"DB": func(c *functions.Config) { c.DB = nil }, "Wrapper": func(c *functions.Config) { c.Wrapper = nil },
		"Queue": func(c *functions.Config) { c.Queue = nil }, "Dial": func(c *functions.Config) { c.Dial = nil },
		"Base":        func(c *functions.Config) { c.Base = "http://fleet.test" },
		"Base ":       func(c *functions.Config) { c.Base = "https://fleet.test/" },
		"Base  ":      func(c *functions.Config) { c.Base = "https://user@fleet.test" },
		"BrowserBase": func(c *functions.Config) { c.BrowserBase = "http://fleet.test" },
	} {
		c := good
		spoil(&c)
		if _, err := functions.New(c); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
