package org_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/events"
)

const acme core.TenantID = "acme"

// world is a store with the tenant acme, at a time that a test moves.
type world struct {
	*org.Service
	db    *storetest.Counter
	admin core.Actor

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w.db = &storetest.Counter{DB: db}
	w.Service = &org.Service{DB: w.db, Ring: keys.NewRing(w.db, wrapper, w.clock), Now: w.clock}
	if _, err := w.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateTenant(t.Context(), operator, "acme", "Acme"); err != nil {
		t.Fatal(err)
	}
	w.admin = core.Actor{Tenant: acme, Subject: core.UserSubject("ada@example.com"), UserID: "u1"}
	return w
}

var operator = core.Actor{Tenant: core.SystemTenant, Subject: core.UserSubject("op@example.com")}

func (w *world) cluster(t *testing.T, name string) org.Scope {
	t.Helper()
	sc, err := w.CreateCluster(t.Context(), w.admin, acme, name, org.Reach{Server: "https://" + name + ".example.com:6443"})
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func (w *world) department(t *testing.T, c org.Scope, name string) org.Scope {
	t.Helper()
	sc, err := w.CreateDepartment(t.Context(), w.admin, acme, c.Cluster, name)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func (w *world) project(t *testing.T, parent org.Scope, name string) org.Scope {
	t.Helper()
	sc, err := w.CreateProject(t.Context(), w.admin, acme, org.NewProject{Name: name, Parent: parent.ID})
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func (w *world) revision(t *testing.T) core.Revision {
	t.Helper()
	rec, err := w.Tenant(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value.Revision
}

// names is the live tree, as "kind name".
func (w *world) names(t *testing.T) []string {
	t.Helper()
	tree, err := w.Scopes(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, sc := range tree {
		out = append(out, string(sc.Kind)+" "+sc.Name)
	}
	slices.Sort(out)
	return out
}

func (w *world) records(t *testing.T, tenant core.TenantID) []string {
	t.Helper()
	var out []string
	for r, err := range audit.List(t.Context(), w.db, tenant, time.Time{}, time.Time{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s %s", r.Action, r.EntityType, r.EntityID))
	}
	slices.Sort(out)
	return out
}

// wantErr fails unless err is of the kind, and, if it is about a field, names it.
func wantErr(t *testing.T, err error, kind core.Kind, field string) {
	t.Helper()
	var f *core.FieldError
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want %q", err, kind)
	} else if field != "" && (!errors.As(err, &f) || f.Field != field) {
		t.Errorf("got error %v, want one about %s", err, field)
	}
}

func TestCreateTenant(t *testing.T) {
	w := newWorld(t)
	rec, err := w.Tenant(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	if ten := rec.Value; ten.State != org.Active || ten.Revision != 1 || ten.Epoch == "" || !reflect.DeepEqual(ten.Settings, org.Defaults()) || ten.Settings.IdleTimeout != time.Hour {
		t.Errorf("got %+v", ten)
	}
	_, err = w.CreateTenant(t.Context(), operator, "acme", "Another")
	wantErr(t, err, core.Exists, "")
	_, err = w.CreateTenant(t.Context(), operator, "system", "S")
	wantErr(t, err, core.Invalid, "id")
	_, err = w.CreateTenant(t.Context(), operator, "Bad Id", "S")
	wantErr(t, err, core.Invalid, "id")
	_, err = w.CreateTenant(t.Context(), operator, "bold", "a\x00b")
	wantErr(t, err, core.Invalid, "name")
	if !slices.Contains(w.records(t, acme), "create tenant acme") || !slices.Contains(w.records(t, core.SystemTenant), "create tenant acme") {
		t.Error("the creation is not in both logs")
	}
	kinds := map[due.Kind]bool{}
	for rec, err := range due.List(t.Context(), w.db, w.now.AddDate(1, 0, 0)) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Value.Tenant == acme {
			kinds[rec.Value.Kind] = true
		}
	}
	if !kinds[due.Seal] || !kinds[due.KeyRotation] {
		t.Errorf("scheduled %v, want seal and key-rotation", kinds)
	}
}

// One commit makes a tenant: if it fails, there is nothing.
func TestCreateTenantIsOneCommit(t *testing.T) {
	w := newWorld(t)
	w.db.Reset()
	if _, err := w.CreateTenant(t.Context(), operator, "bold", "Bold"); err != nil {
		t.Fatal(err)
	}
	if c := w.db.Reset(); c.Commits != 1 || c.RoundTrips() != 2 {
		t.Errorf("creating a tenant took %+v, want one read and one commit", c)
	}
}

func TestEnsureSystemOnce(t *testing.T) {
	w := newWorld(t)
	welcome, err := w.EnsureSystem(t.Context())
	if err != nil || welcome != "" {
		t.Errorf("again: %q, %v; want nothing", welcome, err)
	}
}

// A tenant has one welcome token at a time, kept as a hash: the next one ends it, and so does a day.
func TestOneWelcome(t *testing.T) {
	w := newWorld(t)
	first, err := w.CreateTenant(t.Context(), operator, "bold", "Bold")
	if err != nil {
		t.Fatal(err)
	}
	waits := func(id core.TenantID, token string) bool {
		t.Helper()
		items, err := w.db.Get(t.Context(), org.WelcomeKey(id))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(items[0].Body, []byte(first)) || strings.Contains(items[0].Key.String(), first) {
			t.Error("the token itself is stored")
		}
		ok, err := org.Welcomes(items[0], token)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !waits("bold", first) {
		t.Error("the token does not wait")
	}
	if waits("bold", "") || waits("bold", first[1:]) || waits("acme", first) {
		t.Error("something else serves as the token")
	}
	second, err := w.Welcome(t.Context(), operator, "bold")
	if err != nil {
		t.Fatal(err)
	}
	if waits("bold", first) {
		t.Error("the first token outlives the second one's making")
	}
	if !waits("bold", second) {
		t.Error("the second token does not wait")
	}
	w.pass(org.WelcomeLife)
	if waits("bold", second) {
		t.Error("the token outlives its 24 hours")
	}
	third, err := w.Welcome(t.Context(), operator, "bold")
	if err != nil {
		t.Fatal(err)
	}
	if !waits("bold", third) {
		t.Error("after the second ran out, the third token does not wait")
	}
}

// TEN-017: a tenant that is suspended or erased refuses at once, and looks absent.
func TestStates(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	touch := func() error {
		_, err := w.CreateDepartment(ctx, w.admin, acme, c.Cluster, "d"+strings.ToLower(core.NewID()[:5])+"x")
		return err
	}
	if err := touch(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want core.Kind // of doing it
		then core.Kind // of using the tenant; empty: it is served
	}{
		{"suspend", func() error { return w.Suspend(ctx, operator, acme) }, "", core.NotFound},
		{"suspend again", func() error { return w.Suspend(ctx, operator, acme) }, "", core.NotFound},
		{"resume", func() error { return w.Resume(ctx, operator, acme) }, "", ""},
		{"suspend system", func() error { return w.Suspend(ctx, operator, core.SystemTenant) }, core.Unsupported, ""},
		{"erase system", func() error { return w.Erase(ctx, operator, core.SystemTenant) }, core.Unsupported, ""},
		{"suspend nobody", func() error { return w.Suspend(ctx, operator, "nobody") }, core.NotFound, ""},
		{"erase", func() error { return w.Erase(ctx, operator, acme) }, "", core.NotFound},
		{"resume what is erased", func() error { return w.Resume(ctx, operator, acme) }, core.Unsupported, core.NotFound},
	} {
		if err := step.do(); step.want == "" && err != nil || step.want != "" && !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %q", step.name, err, step.want)
		}
		if err := touch(); step.then == "" && err != nil || step.then != "" && !errors.Is(err, step.then) {
			t.Errorf("after %s: %v, want %q", step.name, err, step.then)
		}
	}
}

func TestEraseData(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.CreateTenant(ctx, operator, "bold", "Bold"); err != nil {
		t.Fatal(err)
	}
	c := w.cluster(t, "one")
	for i := range 60 { // more than one commit's worth
		w.project(t, c, fmt.Sprintf("p%d", i))
	}
	rule := store.ClusterRule(acme, c.ID, 9)
	if err := w.db.Commit(ctx, store.Put(rule, 0, []byte("{}")), store.Put(store.Recorded(acme, c.Cluster, "x"), 0, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	wantErr(t, w.EraseData(ctx, acme), core.Invalid, "") // it is not being erased
	if err := w.Erase(ctx, operator, acme); err != nil {
		t.Fatal(err)
	}
	if err := w.EraseData(ctx, acme); err != nil {
		t.Fatal(err)
	}
	ranges := append(store.PartitionsOf(acme), store.ClusterRules(acme, store.InCluster(c.Cluster)), store.RecordedIn(acme, c.Cluster))
	for _, r := range ranges {
		for it, err := range w.db.List(ctx, r) {
			t.Errorf("left: %s, %v", it.Key, err)
		}
	}
	_, err := w.Tenant(ctx, acme)
	wantErr(t, err, core.NotFound, "")
	if err := w.EraseData(ctx, acme); err != nil {
		t.Errorf("again: %v", err)
	}
	_, err = w.CreateTenant(ctx, operator, "acme", "The next")
	wantErr(t, err, core.Exists, "") // an id is never given to another
	if other, err := w.Tenant(ctx, "bold"); err != nil || other.Value.State != org.Active {
		t.Errorf("the other tenant: %v", err)
	}
	states := map[core.TenantID]org.State{}
	for rec, err := range w.Tenants(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		states[rec.Value.ID] = rec.Value.State
	}
	if states["acme"] != org.Erased || states["bold"] != org.Active || states["system"] != org.Active {
		t.Errorf("registry: %v", states)
	}
}

func TestSettings(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	rev := w.revision(t)
	got, err := w.UpdateSettings(ctx, w.admin, acme, func(name *string, s *org.Settings) {
		*name, s.IdleTimeout, s.PasswordGrant = "Acme Ltd", 30*time.Minute, true
	})
	if err != nil || got.Name != "Acme Ltd" {
		t.Fatalf("%+v, %v", got, err)
	}
	rec, err := w.Tenant(ctx, acme)
	want := org.Defaults()
	want.IdleTimeout, want.PasswordGrant = 30*time.Minute, true
	if err != nil || !reflect.DeepEqual(rec.Value.Settings, want) || rec.Value.Revision != rev {
		t.Errorf("stored %+v at %d, %v; want %+v at %d", rec.Value.Settings, rec.Value.Revision, err, want, rev)
	}
	for field, change := range map[string]func(*org.Settings){
		"idleTimeout":      func(s *org.Settings) { s.IdleTimeout = 59 * time.Second },
		"absoluteLifetime": func(s *org.Settings) { s.AbsoluteLifetime = 31 * 24 * time.Hour },
		"accessTokenLife":  func(s *org.Settings) { s.AccessTokenLife = 0 },
		"clusterTokenLife": func(s *org.Settings) { s.ClusterTokenLife = 90*time.Second + time.Millisecond },
	} {
		_, err := w.UpdateSettings(ctx, w.admin, acme, func(_ *string, s *org.Settings) { change(s) })
		wantErr(t, err, core.Invalid, field)
	}
	_, err = w.UpdateSettings(ctx, w.admin, acme, func(_ *string, s *org.Settings) { s.IdleTimeout, s.AbsoluteLifetime = 2*time.Hour, time.Hour })
	wantErr(t, err, core.Invalid, "idleTimeout")
	if after, _ := w.Tenant(ctx, acme); !reflect.DeepEqual(after.Value.Settings, want) {
		t.Errorf("a refused change left %+v", after.Value.Settings)
	}
}

func TestEveryChangeOfTheTreeIsTold(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var c, d, p org.Scope
	steps := []struct {
		change string
		do     func() error
	}{
		{"created", func() (err error) {
			c, err = w.CreateCluster(ctx, w.admin, acme, "one", org.Reach{Server: "https://one.example.com"})
			return err
		}},
		{"created", func() (err error) { d, err = w.CreateDepartment(ctx, w.admin, acme, c.Cluster, "dep"); return err }},
		{"created", func() (err error) {
			p, err = w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "proj", Parent: d.ID})
			return err
		}},
		{"updated", func() (err error) { p, err = w.Rename(ctx, w.admin, acme, p.ID, "other"); return err }},
		{"moved", func() (err error) { p, err = w.Move(ctx, w.admin, acme, p.ID, c.ID); return err }},
		{"updated", func() (err error) {
			_, err = w.UpdateCluster(ctx, w.admin, acme, c.Cluster, org.Reach{Server: "https://two.example.com"})
			return err
		}},
		{"deleted", func() error { return w.DeleteScope(ctx, w.admin, acme, p.ID, false) }},
	}
	for i, step := range steps {
		w.pass(time.Second)
		rev := w.revision(t)
		records := len(w.records(t, acme))
		w.db.Reset()
		if err := step.do(); err != nil {
			t.Fatalf("step %d, %s: %v", i, step.change, err)
		}
		if n := w.db.Reset().Commits; n != 1 {
			t.Errorf("step %d, %s: %d commits, want 1", i, step.change, n)
		}
		if now := w.revision(t); now != rev+1 {
			t.Errorf("step %d, %s: revision %d after %d", i, step.change, now, rev)
		}
		if n := len(w.records(t, acme)); n != records+1 {
			t.Errorf("step %d, %s: %d audit records, want 1", i, step.change, n-records)
		}
		fact := lastFact(t, w)
		if sc, ok := fact.(events.ScopeChanged); !ok || sc.Change != step.change || core.Revision(sc.Revision) != rev+1 || sc.Cluster != string(c.Cluster) {
			t.Errorf("step %d, %s: told %+v", i, step.change, fact)
		}
	}
}

// lastFact is the event of the newest commit.
func lastFact(t *testing.T, w *world) events.Fact {
	t.Helper()
	var last events.Fact
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.db.List(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			if !it.Key.IsOutbox() {
				break
			}
			_, fact, err := events.Decode(it.Body)
			if err != nil {
				t.Fatal(err)
			}
			last = fact
		}
	}
	return last
}

// How people sign in is stored with the other settings, within its bounds, and changed by core/sso alone.
func TestSecuritySettings(t *testing.T) {
	full := org.Defaults()
	full.Security = org.Security{EnforceSSO: true, BreakGlass: []core.Email{"ada@example.com", "bob@example.com"}, AutoRedirect: "okta", LogoutURI: "https://bye.example/?x=1"}
	if err := full.Check(); err != nil {
		t.Error(err)
	}
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var back org.Settings
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, full) {
		t.Errorf("%s came back as %+v, %v", data, back, err)
	}
	if !full.TakesPassword("ada@example.com") || full.TakesPassword("cyd@example.com") || !org.Defaults().TakesPassword("cyd@example.com") {
		t.Error("passwords are for break glass alone, where single sign-on is enforced")
	}
	for field, bad := range map[string][]func(*org.Security){
		"breakGlass": {
			func(s *org.Security) { s.BreakGlass = []core.Email{"bob@example.com", "ada@example.com"} },
			func(s *org.Security) { s.BreakGlass = []core.Email{"ada@example.com", "ada@example.com"} },
			func(s *org.Security) { s.BreakGlass = []core.Email{"Ada@example.com"} },
			func(s *org.Security) { s.BreakGlass = []core.Email{"system:masters"} },
			func(s *org.Security) {
				s.BreakGlass = nil
				for i := range org.MaxBreakGlass + 1 {
					s.BreakGlass = append(s.BreakGlass, core.Email(fmt.Sprintf("p%02d@example.com", i)))
				}
			},
		},
		"logoutUri": {
			func(s *org.Security) { s.LogoutURI = "http://bye.example" },
			func(s *org.Security) { s.LogoutURI = "javascript:alert(1)" },
			func(s *org.Security) { s.LogoutURI = "https://a@bye.example" },
			func(s *org.Security) { s.LogoutURI = "https://bye.example/#x" },
			func(s *org.Security) { s.LogoutURI = "https:///x" },
		},
	} {
		for _, change := range bad {
			set := full
			change(&set.Security)
			wantErr(t, set.Check(), core.Invalid, field)
		}
	}
	w := newWorld(t)
	_, err = w.UpdateSettings(t.Context(), w.admin, acme, func(_ *string, s *org.Settings) { s.Security = full.Security })
	wantErr(t, err, core.Unsupported, "")
}
