package admin

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/web"
)

const (
	base   = "https://fleetpass.test"
	acme   = core.TenantID("acme")
	globex = core.TenantID("globex")
)

// world is a whole Fleetpass behind the admin API: an embedded store, the operators' tenant and two customers, each with an
// administrator who is a person.
type world struct {
	testing.TB
	Deps
	handler  http.Handler
	queue    *queue
	provider *provider // behind every identity provider
	admins   map[core.TenantID]directory.User
	tokens   map[string]string
	n        int

	mu  gosync.Mutex
	now time.Time
}

type queue struct {
	mu   gosync.Mutex
	sent []sync.Message
}

func (q *queue) Send(_ context.Context, m ...sync.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent = append(q.sent, m...)
	return nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, queue: &queue{}, provider: &provider{}, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC), admins: map[core.TenantID]directory.User{}, tokens: map[string]string{}}
	clock := func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	file, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: clock})
	w.must(err)
	t.Cleanup(func() { _ = file.Close() })
	db := store.Conditional(file)
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	w.must(err)
	ring := keys.NewRing(db, wrapper, clock)
	w.Deps = Deps{
		DB: db, Ring: ring, Now: clock, Base: base, Queue: w.queue,
		Org:       &org.Service{DB: db, Ring: ring, Now: clock},
		Directory: &directory.Service{DB: db, Ring: ring, Now: clock, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}},
		Access:    &access.Service{DB: db, Now: clock},
		Sync:      &sync.Service{DB: db, Now: clock},
	}
	w.Sync.Org = w.Org
	w.Directory.Keeps = w.Access.KeepsAdministrator
	w.provider.certificates = [][]byte{certificate(t, w.now.AddDate(5, 0, 0))}
	w.SSO = &sso.Service{
		DB: db, Ring: ring, Directory: w.Directory, Sessions: &session.Service{DB: db, Ring: ring, Now: clock}, Now: clock, Base: base,
		Providers:      map[sso.Kind]sso.Provider{sso.SAML: w.provider, sso.OIDC: w.provider, sso.OpenShift: w.provider},
		Administrators: w.Access.Administrators,
	}
	_, err = w.Org.EnsureSystem(t.Context())
	w.must(err)
	operator := core.SystemActor(core.SystemTenant)
	for _, id := range []core.TenantID{acme, globex} {
		_, err = w.Org.CreateTenant(t.Context(), operator, string(id), strings.ToUpper(string(id)))
		w.must(err)
	}
	for _, id := range []core.TenantID{core.SystemTenant, acme, globex} {
		u := w.user(id, "admin@"+string(id)+".test")
		w.grant(id, core.UserSubject(u.Email), policy.SystemAdministrator, core.AccountScope(id))
		w.admins[id] = u
	}
	w.handler = w.edge(w.Deps)
	return w
}

func (w *world) edge(d Deps) http.Handler {
	return web.Edge{Function: "admin", Log: slog.New(slog.DiscardHandler)}.Wrap(Handler(d))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// name is a new name.
func (w *world) name(prefix string) string {
	w.n++
	return fmt.Sprintf("%s-%d", prefix, w.n)
}

func (w *world) user(t core.TenantID, email string) directory.User {
	w.Helper()
	u, _, err := w.Directory.CreateUser(w.Context(), core.SystemActor(t), t, directory.NewUser{Email: email, Password: "correct horse battery"})
	w.must(err)
	return u
}

func (w *world) app(t core.TenantID) directory.Application {
	w.Helper()
	a, _, err := w.Directory.CreateApplication(w.Context(), core.SystemActor(t), t, directory.NewApplication{Name: w.name("app")})
	w.must(err)
	return a
}

func (w *world) group(t core.TenantID) core.GroupName {
	w.Helper()
	g, err := w.Directory.CreateGroup(w.Context(), core.SystemActor(t), t, w.name("Research team"))
	w.must(err)
	return g.Name
}

func (w *world) cluster(t core.TenantID) org.Scope {
	w.Helper()
	sc, err := w.Org.CreateCluster(w.Context(), core.SystemActor(t), t, w.name("cluster"), org.Reach{Server: "https://api.example.test:6443"})
	w.must(err)
	return sc
}

func (w *world) department(t core.TenantID) org.Scope {
	w.Helper()
	return w.departmentIn(t, w.cluster(t))
}

func (w *world) departmentIn(t core.TenantID, cluster org.Scope) org.Scope {
	w.Helper()
	sc, err := w.Org.CreateDepartment(w.Context(), core.SystemActor(t), t, cluster.Cluster, w.name("dep"))
	w.must(err)
	return sc
}

func (w *world) project(t core.TenantID) org.Scope {
	w.Helper()
	return w.projectIn(t, w.department(t))
}

func (w *world) projectIn(t core.TenantID, parent org.Scope) org.Scope {
	w.Helper()
	sc, err := w.Org.CreateProject(w.Context(), core.SystemActor(t), t, org.NewProject{Name: w.name("prj"), Parent: parent.ID})
	w.must(err)
	return sc
}

func (w *world) grant(t core.TenantID, who core.Subject, role core.RoleID, scope core.ScopeID) core.Rule {
	w.Helper()
	made, err := w.Access.Seed(w.Context(), t, access.NewRule{Subject: who, Role: role, Scope: scope})
	w.must(err)
	return made[0]
}

// caller is an application that holds a role in a scope.
func (w *world) caller(t core.TenantID, role core.RoleID, scope core.ScopeID) directory.Application {
	w.Helper()
	a := w.app(t)
	w.grant(t, core.ApplicationSubject(a.ID), role, scope)
	return a
}

// mint makes an access token; change may spoil it.
func (w *world) mint(t core.TenantID, change func(*token.Access)) string {
	w.Helper()
	issuer := base + "/t/" + string(t)
	a := token.Access{
		Issuer: issuer, Audience: issuer, Client: "cli", Kind: core.User,
		IssuedAt: w.Now(), Expires: w.Now().Add(10 * time.Minute),
	}
	change(&a)
	raw, err := token.Mint(w.Context(), w.Ring, t, keys.ES256, a)
	w.must(err)
	return raw
}

// userToken is a token of a person as they are now. It begins a sign-in the first time.
func (w *world) userToken(t core.TenantID, u directory.User) string {
	w.Helper()
	rec, err := w.Directory.User(w.Context(), t, u.Email)
	w.must(err)
	key := string(t) + rec.Value.Epoch
	if w.tokens[key] == "" {
		w.tokens[key] = w.mint(t, w.signIn(t, rec.Value))
	}
	return w.tokens[key]
}

func (w *world) appToken(t core.TenantID, app directory.Application) string {
	w.Helper()
	return w.mint(t, func(a *token.Access) {
		a.Subject, a.Client, a.Kind = string(app.ID), string(app.ID), core.Application
	})
}

func (w *world) adminToken(t core.TenantID) string { return w.userToken(t, w.admins[t]) }

// signIn begins a sign-in of a person, and fills in the claims of a token that descends from it.
func (w *world) signIn(t core.TenantID, u directory.User) func(*token.Access) {
	w.Helper()
	meta, err := w.Org.Tenant(w.Context(), t)
	w.must(err)
	s := &session.Service{DB: w.DB, Ring: w.Ring, Now: w.Now}
	f, op, err := s.Begin(meta.Value, session.Family{Client: "cli", Email: u.Email, User: u.ID, Epoch: u.Epoch, Offline: true, AuthTime: w.Now()}, time.Hour)
	w.must(err)
	w.must(w.DB.Commit(w.Context(), op))
	return func(a *token.Access) { a.Subject, a.Email, a.Family = string(u.ID), string(u.Email), f.ID }
}

// request is one call.
type request struct {
	method, path string // below the tenant: /api/v1/…
	tenant       core.TenantID
	bearer       string
	body         string
	media        string // of the body; "" is JSON
	header       http.Header
}

type response struct {
	*httptest.ResponseRecorder
}

func (w *world) call(q request) response {
	w.Helper()
	r := httptest.NewRequest(q.method, base+"/t/"+string(q.tenant)+q.path, strings.NewReader(q.body))
	if q.body == "" {
		r.Body = http.NoBody
	}
	if q.media == "" {
		q.media = "application/json"
	}
	r.Header.Set("Content-Type", q.media)
	if q.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	maps.Copy(r.Header, q.header)
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return response{rec}
}

// as calls as the bearer of a token of acme.
func (w *world) as(bearer, method, path, body string) response {
	w.Helper()
	return w.call(request{method: method, path: "/api/v1" + path, tenant: acme, bearer: bearer, body: body})
}

// want ends the test unless the answer has the status.
func (r response) want(t testing.TB, status int) response {
	t.Helper()
	if r.Code != status {
		t.Fatalf("status %d, want %d; body %s", r.Code, status, r.Body)
	}
	return r
}

func (r response) failure(t testing.TB) api.Error {
	t.Helper()
	return into[api.Error](t, r)
}

func into[T any](t testing.TB, r response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Body.Bytes(), &v, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("body %s: %v", r.Body, err)
	}
	return v
}

// dump is everything that the store holds, by key.
func (w *world) dump() map[string]string {
	w.Helper()
	all := map[string]string{}
	put := func(it store.Item) { all[it.Key.String()] = fmt.Sprint(it.Version, " ", string(it.Body)) }
	list := func(r store.Range) {
		for it, err := range w.DB.List(w.Context(), r) {
			w.must(err)
			put(it)
		}
	}
	tenants := []core.TenantID{core.SystemTenant, acme, globex}
	for _, t := range tenants {
		items, err := w.DB.Get(w.Context(), store.Meta(t))
		w.must(err)
		put(items[0])
		list(store.ClusterRules(t, store.InAccount))
		for _, r := range store.PartitionsOf(t) {
			list(r)
		}
		scopes, err := w.Org.Scopes(w.Context(), t)
		w.must(err)
		for _, sc := range scopes {
			if sc.Kind == core.Cluster {
				list(store.ClusterRules(t, store.InCluster(sc.Cluster)))
				list(store.RecordedIn(t, sc.Cluster))
			}
		}
	}
	list(store.TenantEntries())
	for shard := range store.DueShards {
		list(store.DueBefore(shard, w.Now().AddDate(100, 0, 0)))
	}
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	all["queue"] = fmt.Sprint(w.queue.sent)
	return all
}

// changed names the keys in which two dumps differ, but for records of what was refused, and how many there were.
func changed(a, b map[string]string) []string {
	var out []string
	maps.DeleteFunc(b, func(k, v string) bool {
		return strings.Contains(k, "/attempts/denied/") || strings.Contains(k, "/audit-new/") && strings.Contains(v, `"result":"Failed"`) && a[k] == ""
	})
	for k, v := range a {
		if b[k] != v && !strings.Contains(k, "/attempts/denied/") {
			out = append(out, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
