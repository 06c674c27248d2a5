package kubeconfig_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/functions/kubeconfig"
)

const (
	base = "https://fleetpass.test"
	acme = core.TenantID("acme")
)

// world is a tenant with two clusters that trust it, "east" and "west", and one, "far", that an agent serves.
type world struct {
	testing.TB
	kubeconfig.Deps
	Directory       *directory.Service
	now             time.Time
	east, west, far org.Scope
	vision, speech  org.Scope // projects of east
	ada             directory.User
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return w.now }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: clock})
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	w.must(err)
	ring := keys.NewRing(db, wrapper, clock)
	w.Deps = kubeconfig.Deps{
		Ring: ring, Now: clock, Base: base, IssuerCA: "-----BEGIN CERTIFICATE-----\n",
		Org:    &org.Service{DB: db, Ring: ring, Now: clock},
		Access: &access.Service{DB: db, Now: clock},
	}
	w.Directory = &directory.Service{DB: db, Ring: ring, Now: clock, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	ctx, us := t.Context(), core.SystemActor(acme)
	_, err = w.Org.EnsureSystem(ctx)
	w.must(err)
	for _, id := range []core.TenantID{acme, "globex"} {
		_, err = w.Org.CreateTenant(ctx, core.SystemActor(core.SystemTenant), string(id), string(id))
		w.must(err)
	}
	cluster := func(name string, r org.Reach) org.Scope {
		sc, err := w.Org.CreateCluster(ctx, us, acme, name, r)
		w.must(err)
		return sc
	}
	w.west = cluster("west", org.Reach{Server: "https://west.test:6443"})
	w.east = cluster("east", org.Reach{Server: "https://east.test:6443"})
	w.far = cluster("far", org.Reach{Mode: org.Agent})
	project := func(name string) org.Scope {
		sc, err := w.Org.CreateProject(ctx, us, acme, org.NewProject{Name: name, Parent: w.east.ID})
		w.must(err)
		return sc
	}
	w.vision, w.speech = project("vision"), project("speech")
	w.ada, _, err = w.Directory.CreateUser(ctx, us, acme, directory.NewUser{Email: "ada@example.com", Password: "correct horse battery"})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) grant(who core.Subject, scope core.ScopeID, until time.Time) {
	w.Helper()
	_, err := w.Access.Seed(w.Context(), acme, access.NewRule{Subject: who, Role: policy.Viewer, Scope: scope, ExpiresAt: until})
	w.must(err)
}

// token is ada's access token, of a sign-in that begins with it.
func (w *world) token(t core.TenantID) string {
	w.Helper()
	tenant, err := w.Org.Tenant(w.Context(), t)
	w.must(err)
	s := session.Service{DB: w.Directory.DB, Ring: w.Ring, Now: w.Now}
	f, op, err := s.Begin(tenant.Value, session.Family{Client: "cli", Email: w.ada.Email, User: w.ada.ID, Epoch: w.ada.Epoch, AuthTime: w.now}, time.Hour)
	w.must(err)
	w.must(w.Directory.DB.Commit(w.Context(), op))
	return w.mint(t, token.Access{Client: "cli", Kind: core.User, Subject: string(w.ada.ID), Email: string(w.ada.Email), Family: f.ID})
}

func (w *world) mint(t core.TenantID, a token.Access) string {
	w.Helper()
	a.Issuer = base + "/t/" + string(t)
	a.Audience, a.IssuedAt, a.Expires = a.Issuer, w.now, w.now.Add(10*time.Minute)
	raw, err := token.Mint(w.Context(), w.Ring, t, keys.ES256, a)
	w.must(err)
	return raw
}

func (w *world) get(path, bearer string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, base+path, nil)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	rec := httptest.NewRecorder()
	kubeconfig.Handler(w.Deps).ServeHTTP(rec, r)
	return rec
}

const path = "/t/acme/api/v1/kubeconfig"

// contexts fetches ada's file and says its contexts as "name namespace".
func (w *world) contexts() []string {
	w.Helper()
	rec := w.get(path, w.token(acme))
	if rec.Code != http.StatusOK {
		w.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	var file struct {
		Contexts []struct {
			Name    string
			Context struct{ Namespace string }
		}
	}
	w.must(yaml.Unmarshal(rec.Body.Bytes(), &file))
	all := []string{}
	for _, c := range file.Contexts {
		all = append(all, strings.TrimSpace(c.Name+" "+c.Context.Namespace))
	}
	return all
}

func (w *world) want(all ...string) {
	w.Helper()
	if d := cmp.Diff(append([]string{}, all...), w.contexts()); d != "" {
		w.Errorf("contexts (-want +got):\n%s", d)
	}
}

func TestWhichClusters(t *testing.T) {
	ada := func(w *world) core.Subject { return core.UserSubject(w.ada.Email) }
	t.Run("no rule", func(t *testing.T) { newWorld(t).want() })
	t.Run("one project begins in its namespace", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.vision.ID, time.Time{})
		w.want("east fleetpass-vision")
	})
	t.Run("two projects of one cluster", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.vision.ID, time.Time{})
		w.grant(ada(w), w.speech.ID, time.Time{})
		w.want("east")
	})
	t.Run("a cluster", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.west.ID, time.Time{})
		w.want("west")
	})
	t.Run("the account is every cluster that trusts us", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), core.AccountScope(acme), time.Time{})
		w.want("east", "west")
	})
	t.Run("an agent's cluster would refuse our tokens", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.far.ID, time.Time{})
		w.want()
	})
	t.Run("through a group", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.Directory.CreateGroup(t.Context(), core.SystemActor(acme), acme, "ops")
		w.must(err)
		w.grant(core.GroupSubject("ops"), w.west.ID, time.Time{})
		w.want()
		_, err = w.Directory.AddMember(t.Context(), core.SystemActor(acme), acme, "ops", w.ada.Email)
		w.must(err)
		w.want("west")
	})
	t.Run("until the rule expires", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.west.ID, w.now.Add(time.Hour))
		w.want("west")
		w.now = w.now.Add(time.Hour)
		w.want()
	})
	t.Run("not of a deleted project", func(t *testing.T) {
		w := newWorld(t)
		w.grant(ada(w), w.vision.ID, time.Time{})
		w.must(w.Org.DeleteScope(t.Context(), core.SystemActor(acme), acme, w.vision.ID, true))
		w.want()
	})
}

func TestNothingSecretAndNobodyInside(t *testing.T) {
	w := newWorld(t)
	w.grant(core.UserSubject(w.ada.Email), core.AccountScope(acme), time.Time{})
	bearer := w.token(acme)
	rec := w.get(path, bearer)
	file := rec.Body.String()
	for _, part := range append(strings.Split(bearer, "."), string(w.ada.Email), string(w.ada.ID), "token:", "client-key", "password") {
		if strings.Contains(file, part) {
			t.Errorf("the file has %q in it:\n%s", part, file)
		}
	}
	for _, part := range []string{base + "/t/acme", string(w.east.Cluster), "https://east.test:6443", "client.authentication.k8s.io/v1"} {
		if !strings.Contains(file, part) {
			t.Errorf("the file lacks %q:\n%s", part, file)
		}
	}
	if got := rec.Header().Get("Content-Type"); got != "application/yaml" {
		t.Errorf("Content-Type is %q", got)
	}
}

// A name stays a name, whatever YAML would make of it (threat WEB-027).
func TestHostileNames(t *testing.T) {
	w := newWorld(t)
	w.grant(core.UserSubject(w.ada.Email), core.AccountScope(acme), time.Time{})
	var names []string
	for _, name := range []string{"x: {exec: {command: sh}}", "*anchor", "&a b", "!!binary x", "- a", "true", `"`, "# no comment"} {
		if _, err := w.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, name, org.Reach{Server: "https://x.test"}); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Skip("no such name can be given to a cluster")
	}
	got := w.contexts()
	for _, name := range names {
		if !slices.Contains(got, name) {
			t.Errorf("the cluster named %q has no context of that name: %q", name, got)
		}
	}
}

func TestWhoIsRefused(t *testing.T) {
	w := newWorld(t)
	good := w.token(acme)
	if rec := w.get(path, good); rec.Code != http.StatusOK {
		t.Fatalf("the good token gets %d: %s", rec.Code, rec.Body)
	}
	foreign := w.token("globex")
	for name, q := range map[string]struct {
		path, bearer string
		status       int
	}{
		"no token":                  {path, "", 401},
		"nonsense":                  {path, "nonsense", 401},
		"a token of another tenant": {path, foreign, 401},
		"a token for another path":  {"/t/globex/api/v1/kubeconfig", good, 401},
		"a tenant that there isn't": {"/t/nobody/api/v1/kubeconfig", good, 401},
		"an unknown parameter":      {path + "?cluster=x", good, 400},
	} {
		if rec := w.get(q.path, q.bearer); rec.Code != q.status {
			t.Errorf("%s: %d, want %d: %s", name, rec.Code, q.status, rec.Body)
		}
	}
	// The person of that name in the other tenant does not exist, so even its own good token opens nothing.
	if rec := w.get("/t/globex/api/v1/kubeconfig", foreign); rec.Code != http.StatusUnauthorized {
		t.Errorf("a person who does not exist gets %d, want 401", rec.Code)
	}
	if rec := w.get(path, w.mint(acme, token.Access{Client: "cli", Kind: core.User, Subject: string(w.ada.ID), Email: string(w.ada.Email)})); rec.Code != http.StatusUnauthorized {
		t.Errorf("a person's token of no sign-in gets %d, want 401", rec.Code)
	}
	// What was ended, stays ended: signing in again opens the door, and no token of before does.
	var err error
	w.ada, err = w.Directory.ForceLogout(t.Context(), core.SystemActor(acme), acme, w.ada.Email)
	w.must(err)
	if rec := w.get(path, good); rec.Code != http.StatusUnauthorized {
		t.Errorf("a person who was signed out gets %d, want 401: %s", rec.Code, rec.Body)
	}
	good = w.token(acme)
	if rec := w.get(path, good); rec.Code != http.StatusOK {
		t.Errorf("a person who signed in again gets %d: %s", rec.Code, rec.Body)
	}
	// A sign-in by a temporary password opens nothing but the change of it.
	_, err = w.Directory.ResetPassword(t.Context(), core.SystemActor(acme), acme, w.ada.Email)
	w.must(err)
	again := func() string {
		rec, err := w.Directory.User(t.Context(), acme, w.ada.Email)
		w.must(err)
		w.ada = rec.Value
		return w.token(acme)
	}
	if rec := w.get(path, again()); rec.Code != http.StatusUnauthorized {
		t.Errorf("a person with a temporary password gets %d, want 401: %s", rec.Code, rec.Body)
	}
	_, err = w.Directory.SetPassword(t.Context(), core.SystemActor(acme), acme, w.ada.Email, "another horse battery")
	w.must(err)
	good = again()
	if rec := w.get(path, good); rec.Code != http.StatusOK {
		t.Errorf("a person with a password of her own gets %d: %s", rec.Code, rec.Body)
	}
	app, _, err := w.Directory.CreateApplication(t.Context(), core.SystemActor(acme), acme, directory.NewApplication{Name: "robot"})
	w.must(err)
	robots := w.mint(acme, token.Access{Client: string(app.ID), Kind: core.Application, Subject: string(app.ID)})
	if rec := w.get(path, robots); rec.Code != http.StatusOK {
		t.Errorf("an application gets %d: %s", rec.Code, rec.Body)
	}
	_, err = w.Directory.SetEnabled(t.Context(), core.SystemActor(acme), acme, app.ID, false)
	w.must(err)
	if rec := w.get(path, robots); rec.Code != http.StatusUnauthorized {
		t.Errorf("a disabled application gets %d, want 401: %s", rec.Code, rec.Body)
	}
	_, err = w.Directory.Disable(t.Context(), core.SystemActor(acme), acme, w.ada.Email)
	w.must(err)
	if rec := w.get(path, good); rec.Code != http.StatusUnauthorized {
		t.Errorf("a disabled person gets %d, want 401: %s", rec.Code, rec.Body)
	}
	_, err = w.Directory.Enable(t.Context(), core.SystemActor(acme), acme, w.ada.Email)
	w.must(err)
	w.now = w.now.Add(11 * time.Minute)
	if rec := w.get(path, good); rec.Code != http.StatusUnauthorized {
		t.Errorf("an expired token gets %d, want 401", rec.Code)
	}
}
