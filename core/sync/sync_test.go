package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
)

const acme = core.TenantID("acme")

// site is a tenant with one cluster in memory.
type site struct {
	t       *testing.T
	db      store.DB     // what the services see; sync's own may be another, see with
	passed  atomic.Int64 // since the beginning, in nanoseconds; the store's own goroutine reads the clock, too
	org     *org.Service
	access  *access.Service
	people  *directory.Service
	sync    *sync.Service
	cluster *synctest.Memory
	id      core.ClusterID
	root    core.Actor
}

func (s *site) now() time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(s.passed.Load()))
}

func (s *site) pass(d time.Duration) { s.passed.Add(int64(d)) }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, cluster: synctest.New()}
	now := s.now
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: now})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	wrapper, err := localkeys.New([]byte(strings.Repeat("k", localkeys.KeySize)))
	must(t, err)
	ring := keys.NewRing(db, wrapper, now)
	s.db = db
	s.org = &org.Service{DB: db, Ring: ring, Now: now}
	s.access = &access.Service{DB: db, Now: now}
	s.people = &directory.Service{DB: db, Ring: ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	s.sync = &sync.Service{
		DB: db, Org: s.org, Ring: ring, Now: now, Base: "https://fleetpass.test", Log: slog.New(slog.DiscardHandler),
		Dial: func(to sync.Target) (sync.Cluster, error) {
			if to.Server != "https://api.example.com" || to.Tenant != acme {
				t.Errorf("target %+v", to)
			}
			return s.cluster, nil
		},
	}
	system := core.SystemActor(acme)
	_, err = s.org.CreateTenant(t.Context(), system, "acme", "Acme")
	must(t, err)
	_, _, err = s.people.CreateUser(t.Context(), system, acme, directory.NewUser{Email: "root@example.com"})
	must(t, err)
	c, err := s.org.CreateCluster(t.Context(), system, acme, "one", org.Reach{Server: "https://api.example.com"})
	must(t, err)
	s.id = c.Cluster
	_, err = s.access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("root@example.com"), Role: policy.SystemAdministrator, Scope: core.AccountScope(acme)})
	must(t, err)
	s.root = core.Actor{Tenant: acme, Subject: core.UserSubject("root@example.com")}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) project(name string) org.Scope {
	s.t.Helper()
	p, err := s.org.CreateProject(s.t.Context(), s.root, acme, org.NewProject{Name: name, Parent: core.ClusterScope(s.id)})
	must(s.t, err)
	return p
}

func (s *site) grant(who string, role core.RoleID, at core.ScopeID) core.Rule {
	s.t.Helper()
	subject := core.GroupSubject(core.GroupName(who))
	if strings.Contains(who, "@") {
		subject = core.UserSubject(core.Email(who))
	}
	made, err := s.access.Seed(s.t.Context(), acme, access.NewRule{Subject: subject, Role: role, Scope: at})
	must(s.t, err)
	return made[0]
}

func (s *site) revoke(r core.Rule) {
	s.t.Helper()
	must(s.t, s.access.Delete(s.t.Context(), s.root, r.ID))
}

func (s *site) message() sync.Message { return sync.Message{Tenant: acme, Cluster: s.id} }

func (s *site) reconcile() {
	s.t.Helper()
	must(s.t, s.sync.Reconcile(s.t.Context(), s.message()))
}

func (s *site) status() sync.Status {
	s.t.Helper()
	st, err := s.sync.Status(s.t.Context(), acme, s.id)
	must(s.t, err)
	return st
}

func (s *site) revision() core.Revision {
	s.t.Helper()
	meta, err := s.org.Tenant(s.t.Context(), acme)
	must(s.t, err)
	return meta.Value.Revision
}

// holds checks who is bound in projects, the administrator left out.
func (s *site) holds(want ...string) {
	s.t.Helper()
	got := slices.DeleteFunc(s.cluster.Bound(), func(b string) bool { return strings.HasPrefix(b, "/") || strings.Contains(b, "root@example.com") })
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		s.t.Errorf("-want +got:\n%s", d)
	}
}

const (
	adaViews = "fleetpass-vision/fleetpass-viewer-ns: fleetpass:ada@example.com"
	bobViews = "fleetpass-vision/fleetpass-viewer-ns: fleetpass:bob@example.com"
	viewers  = "fleetpass-vision/fleetpass-viewer-ns"
)

func TestReconcile(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	must(t, s.sync.Wanted(t.Context(), acme, []core.ClusterID{s.id}, s.revision()))
	if st := s.status(); st.Wanted != s.revision() || st.WantedSince.IsZero() || st.Reached != 0 {
		t.Errorf("before: %+v", st)
	}
	rule := s.grant("ada@example.com", policy.Viewer, p.ID)
	s.reconcile()
	s.holds(adaViews)
	if st := s.status(); st.Reached != s.revision() || st.Wanted != st.Reached || !st.WantedSince.IsZero() || st.LastError != "" || st.Counts.Namespaces != 1 || st.Counts.Bindings != 4 {
		t.Errorf("after: %+v", st)
	}
	s.cluster.Writes()
	s.reconcile()
	if w := s.cluster.Writes(); len(w) != 0 {
		t.Errorf("a second reconcile writes %q", w)
	}
	s.revoke(rule)
	s.reconcile()
	s.holds()
	if w := s.cluster.Writes(); len(w) != 2 {
		t.Errorf("a revocation writes %q", w)
	}
	// An expiry needs no event and no commit: it is seen at the next look.
	made, err := s.access.Seed(t.Context(), acme, access.NewRule{Subject: core.GroupSubject("temps"), Role: policy.Viewer, Scope: p.ID, ExpiresAt: s.now().Add(time.Hour)})
	must(t, err)
	s.reconcile()
	s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:temps")
	s.pass(made[0].ExpiresAt.Sub(s.now()))
	s.reconcile()
	s.holds()
	if st := s.status(); st.Counts.Held != 0 {
		t.Errorf("an expiry is held back: %+v", st)
	}
}

// cut is a store whose lists of rules end early, as if a page had been lost, or fail.
type cut struct {
	store.DB
	kind  string
	after int
	err   error
}

func (c cut) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		n := 0
		for it, err := range c.DB.List(ctx, r) {
			if it.Key.Kind() == c.kind {
				if n++; n > c.after {
					if c.err != nil {
						yield(store.Item{}, c.err)
					}
					return
				}
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// with runs sync over another store.
func (s *site) with(db store.DB) error {
	other := *s.sync
	other.DB = db
	other.Org = &org.Service{DB: db, Now: s.sync.Now}
	return other.Reconcile(s.t.Context(), s.message())
}

// A read that misses something takes nobody's access away; what was really taken away goes all the same (SYN-021).
func TestTruncatedRead(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	for i := range 20 {
		s.grant(fmt.Sprintf("g%02d", i), policy.Viewer, p.ID)
	}
	bob := s.grant("bob@example.com", policy.Viewer, p.ID)
	eve := s.grant("eve@example.com", policy.Editor, p.ID)
	s.reconcile()
	all := s.cluster.Bound()
	if len(all) != 6 {
		t.Fatalf("%q", all)
	}
	for _, c := range []cut{{kind: "cluster"}, {kind: "cluster", after: 3}, {kind: "scope", after: 1}} {
		must(t, s.with(cut{DB: s.db, kind: c.kind, after: c.after}))
		if d := cmp.Diff(all, s.cluster.Bound()); d != "" {
			t.Errorf("%+v: -want +got:\n%s", c, d)
		}
		if st := s.status(); st.Counts.Held == 0 || len(st.Problems) == 0 {
			t.Errorf("%+v: nothing held: %+v", c, st)
		}
	}
	for _, kind := range []string{"cluster", "scope", "recorded"} {
		if err := s.with(cut{DB: s.db, kind: kind, after: 1, err: fmt.Errorf("a page failed: %w", core.Unavailable)}); !errors.Is(err, core.Unavailable) {
			t.Errorf("%s: %v, want it tried again", kind, err)
		}
	}
	if d := cmp.Diff(all, s.cluster.Bound()); d != "" {
		t.Errorf("a failed read: -want +got:\n%s", d)
	}
	s.revoke(bob)
	s.revoke(eve)
	must(t, s.with(cut{DB: s.db, kind: "cluster"})) // reads no rule at all
	for _, b := range s.cluster.Bound() {
		if strings.Contains(b, "bob@") || strings.Contains(b, "eve@") {
			t.Errorf("an explained removal was held back: %s", b)
		}
		if strings.HasPrefix(b, viewers) && strings.Count(b, "fleetpass:g") != 20 {
			t.Errorf("an unexplained one was not: %s", b)
		}
	}
	s.reconcile()
	if st := s.status(); st.Counts.Held != 0 || st.Reached != s.revision() {
		t.Errorf("with a whole read: %+v", st)
	}
}

// moving is a store in which the tenant changes while its rules are listed, some times.
type moving struct {
	store.DB
	times  *int
	change func()
}

func (m moving) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		for it, err := range m.DB.List(ctx, r) {
			if !yield(it, err) || err != nil {
				return
			}
		}
		if r == store.ClusterRules(acme, store.InAccount) && *m.times > 0 {
			*m.times--
			m.change()
		}
	}
}

// Several lists are no snapshot: what changed between them is read again, and no mixture is ever applied.
func TestChangesWhileReading(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	at := s.grant("ada@example.com", policy.Viewer, p.ID)
	times := 2
	must(t, s.with(moving{s.db, &times, func() { // the grant goes up to the account: two commits
		s.revoke(at)
		at = s.grant("ada@example.com", policy.Viewer, core.AccountScope(acme))
		times = 0
	}}))
	s.holds(adaViews)
	if st := s.status(); st.Reached != s.revision() || st.LastError != "" {
		t.Errorf("%+v at revision %d", st, s.revision())
	}
	times = 1000
	before := s.cluster.Bound()
	err := s.with(moving{s.db, &times, func() { s.revoke(s.grant("bob@example.com", policy.Viewer, p.ID)) }})
	if !errors.Is(err, core.Conflict) || !slices.Equal(before, s.cluster.Bound()) {
		t.Errorf("a tenant that never stands still: %v, want it tried again", err)
	}
}

// A write that was frozen on its way and comes when others have passed changes nothing (SYN-011).
func TestFrozenWrites(t *testing.T) {
	freeze := func(s *site, verb kube.Verb) {
		s.cluster.Fault = func(c kube.Change) synctest.Fault {
			if c.Verb == verb && c.Object.Name == "fleetpass-viewer-ns" {
				return synctest.Freeze
			}
			return synctest.None
		}
		if err := s.sync.Reconcile(s.t.Context(), s.message()); !errors.Is(err, core.Unavailable) {
			s.t.Errorf("%v, want it tried again", err)
		}
		s.cluster.Fault = nil
	}
	t.Run("a grant's POST, revoked meanwhile", func(t *testing.T) {
		s := newSite(t)
		p := s.project("vision")
		rule := s.grant("ada@example.com", policy.Viewer, p.ID)
		freeze(s, kube.Create)
		s.revoke(rule)
		s.reconcile()
		if n := s.cluster.Thaw(); n != 0 {
			t.Errorf("%d late writes accepted", n)
		}
		s.holds()
	})
	t.Run("a grant's PUT, revoked meanwhile, while the binding looks right", func(t *testing.T) {
		s := newSite(t)
		p := s.project("vision")
		s.grant("bob@example.com", policy.Viewer, p.ID)
		s.reconcile()
		rule := s.grant("ada@example.com", policy.Viewer, p.ID)
		freeze(s, kube.Update)
		s.revoke(rule)
		s.reconcile()
		if n := s.cluster.Thaw(); n != 0 {
			t.Errorf("%d late writes accepted", n)
		}
		s.holds(bobViews)
		s.cluster.Writes()
		s.reconcile()
		if w := s.cluster.Writes(); len(w) != 0 {
			t.Errorf("what was in flight is written again and again: %q", w)
		}
	})
	t.Run("a POST whose answer was lost is known again", func(t *testing.T) {
		s := newSite(t)
		p := s.project("vision")
		s.grant("ada@example.com", policy.Viewer, p.ID)
		freeze(s, kube.Create)
		if n := s.cluster.Thaw(); n != 1 {
			t.Errorf("%d writes accepted, want the one", n)
		}
		s.grant("bob@example.com", policy.Viewer, p.ID)
		s.reconcile()
		s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:ada@example.com fleetpass:bob@example.com")
		if st := s.status(); st.Counts.Foreign != 0 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
	})
}

// One run at a time; a lease that ran out is taken over, and its holder can do no more.
func TestLease(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	s.grant("ada@example.com", policy.Viewer, p.ID)
	var inner error
	first := true
	s.cluster.Fault = func(kube.Change) synctest.Fault {
		if first {
			first = false
			inner = s.other().Reconcile(t.Context(), s.message()) // while the first run holds the lease
		}
		return synctest.None
	}
	s.sync.Dial = s.unlocked()
	s.reconcile()
	if !errors.Is(inner, core.Conflict) {
		t.Errorf("a second run beside the first: %v, want a conflict", inner)
	}
	s.holds(adaViews)

	// The first run is frozen before its first write; the second passes; the first thaws and stops.
	bob := s.grant("bob@example.com", policy.Viewer, p.ID)
	first = true
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if first && c.Verb == "" {
			first = false
			s.pass(10 * time.Minute)
			s.revoke(bob)
			inner = s.other().Reconcile(t.Context(), s.message())
		}
		return synctest.None
	}
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Unavailable) && !errors.Is(err, core.Conflict) {
		t.Errorf("a run whose lease ran out: %v, want it tried again", err)
	}
	must(t, inner)
	s.holds(adaViews)
}

// unlocked dials a cluster whose Fault may call other runs: it is asked outside of the cluster's own lock.
func (s *site) unlocked() func(sync.Target) (sync.Cluster, error) {
	return func(sync.Target) (sync.Cluster, error) { return reentrant{s.cluster, s.cluster.Fault}, nil }
}

func (s *site) other() *sync.Service {
	o := *s.sync
	o.Dial = func(sync.Target) (sync.Cluster, error) { return s.cluster, nil }
	fault := s.cluster.Fault
	s.cluster.Fault = nil
	s.t.Cleanup(func() { s.cluster.Fault = fault })
	return &o
}

type reentrant struct {
	*synctest.Memory
	before func(kube.Change) synctest.Fault
}

func (r reentrant) Current(ctx context.Context, named ...kube.Ref) (kube.State, error) {
	r.before(kube.Change{})
	return r.Memory.Current(ctx, named...)
}

// Each object fails alone; what cannot be helped by trying again is said once, what can is asked for again (SYN-015, K8S-025).
func TestFailures(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	s.grant("ada@example.com", policy.Viewer, p.ID)
	s.grant("ada@example.com", policy.Editor, p.ID)
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Name == "fleetpass-editor-ns" {
			return synctest.Refuse
		}
		return synctest.None
	}
	for n := 1; n < 6; n++ { // an API server that has just started refuses what it has not loaded yet
		if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Denied) {
			t.Fatalf("refusal %d: %v, want it tried again", n, err)
		}
		s.holds(adaViews)
	}
	s.reconcile() // nil: a refusal that lasts is no reason to try again
	if st := s.status(); !st.Terminal || !strings.Contains(st.LastError, "fleetpass-editor-ns") || st.Reached != 0 || st.Failures != 6 {
		t.Errorf("%+v", st)
	}
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Name == "fleetpass-editor-ns" {
			return synctest.Lose
		}
		return synctest.None
	}
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Unavailable) {
		t.Errorf("%v, want it tried again", err)
	}
	if st := s.status(); st.Terminal || st.Failures != 7 {
		t.Errorf("%+v", st)
	}
	s.cluster.Fault = nil
	s.reconcile()
	if st := s.status(); st.LastError != "" || st.Failures != 0 || st.Reached != s.revision() {
		t.Errorf("%+v", st)
	}
}

// A tenant that is suspended is left alone; one that is erased, and a cluster that is deleted, are cleaned of our objects
// and of nothing else (TEN-018).
func TestLeaving(t *testing.T) {
	for _, how := range []string{"cluster deleted", "tenant erased"} {
		t.Run(how, func(t *testing.T) {
			s := newSite(t)
			p := s.project("vision")
			s.grant("ada@example.com", policy.Viewer, p.ID)
			s.reconcile()
			theirs := s.cluster.Put(kube.Object{Ref: kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-vision", Name: "theirs"}, Labels: map[string]string{kube.LabelManagedBy: kube.ManagedBy}, Role: "view", Subjects: []kube.Subject{{Kind: kube.UserKind, Name: "x"}}})
			system := core.SystemActor(core.SystemTenant)
			must(t, s.org.Suspend(t.Context(), system, acme))
			before := s.cluster.Bound()
			s.cluster.Writes()
			s.reconcile()
			if w := s.cluster.Writes(); len(w) != 0 || !slices.Equal(before, s.cluster.Bound()) {
				t.Errorf("a suspended tenant's cluster was written: %q", w)
			}
			must(t, s.org.Resume(t.Context(), system, acme))
			if how == "tenant erased" {
				must(t, s.org.Erase(t.Context(), system, acme))
			} else {
				must(t, s.org.DeleteScope(t.Context(), s.root, acme, core.ClusterScope(s.id), true))
			}
			s.reconcile()
			if d := cmp.Diff([]string{"fleetpass-vision/theirs: x"}, s.cluster.Bound()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if o, _ := s.cluster.Object(theirs.Ref); o.ResourceVersion != theirs.ResourceVersion {
				t.Error("a foreign object changed")
			}
			if _, ok := s.cluster.Object(kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-vision", Name: "fleetpass-viewer-ns"}); ok {
				t.Error("an empty binding is left")
			}
		})
	}
}

// Whatever fails and is frozen on the way, once it stops one run makes the cluster hold what the rules say, no late write
// changes that, and nobody is ever bound whom no committed state bound (SYN oracle).
func TestChaos(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		s := newSite(t)
		r := rand.New(rand.NewPCG(seed, 7))
		projects := []org.Scope{s.project("vision"), s.project("speech")}
		places := []core.ScopeID{projects[0].ID, projects[1].ID, core.ClusterScope(s.id), core.AccountScope(acme)}
		foreign := s.cluster.Put(kube.Object{Ref: kube.Ref{Kind: kube.ClusterRoleBinding, Name: "cluster-admin"}, Role: "cluster-admin", Labels: map[string]string{kube.LabelManagedBy: kube.ManagedBy}, Subjects: []kube.Subject{{Kind: kube.GroupKind, Name: "system:masters"}}})
		var live []core.Rule
		ever := map[string]bool{} // who a committed state bound, and to what
		for step := range 25 {
			switch {
			case len(live) > 0 && r.IntN(2) == 0:
				i := r.IntN(len(live))
				s.revoke(live[i])
				live = slices.Delete(live, i, i+1)
			default:
				who, role := fmt.Sprintf("g%d", r.IntN(4)), []core.RoleID{policy.Viewer, policy.Editor, policy.L1Researcher}[r.IntN(3)]
				at := places[r.IntN(len(places))]
				if !slices.ContainsFunc(live, func(l core.Rule) bool { return l.Subject.ID == who && l.Role == role && l.Scope == at }) {
					live = append(live, s.grant(who, role, at))
				}
				name, _ := kube.NamespaceRole(role)
				wide, _ := kube.ClusterWideRole(role)
				ever[name+" fleetpass:"+who], ever[wide+" fleetpass:"+who] = true, true
			}
			s.cluster.Fault = func(kube.Change) synctest.Fault {
				if r.IntN(4) > 0 {
					return synctest.None
				}
				return synctest.Fault(1 + r.IntN(4))
			}
			faulty := &storetest.Faulty{DB: s.db, Plan: storetest.RandomFaults(seed*100+uint64(step), 0.05)}
			_ = s.with(faulty)
			if r.IntN(3) == 0 {
				s.cluster.Thaw()
			}
			s.pass(time.Duration(r.IntN(3)) * time.Minute)
			for _, b := range s.cluster.Bound() {
				name, subjects, _ := strings.Cut(b, ": ")
				_, role, _ := strings.Cut(name, "/")
				for sub := range strings.FieldsSeq(subjects) {
					if !ever[role+" "+sub] && !strings.Contains(b, "system-administrator") && role != "cluster-admin" {
						t.Fatalf("seed %d step %d: %s in %s was never granted", seed, step, sub, name)
					}
				}
			}
		}
		s.cluster.Fault = nil
		s.pass(2 * time.Minute) // leases of killed runs end
		s.reconcile()
		late := s.cluster.Thaw()
		got := s.cluster.Bound()
		s.reconcile()
		if d := cmp.Diff(s.cluster.Bound(), got); d != "" || s.status().Reached != s.revision() {
			t.Fatalf("seed %d: %d late writes were accepted, or one run was not enough: %+v\n%s", seed, late, s.status(), d)
		}
		if d := cmp.Diff(s.expected(projects), got); d != "" {
			t.Fatalf("seed %d: -want +got:\n%s", seed, d)
		}
		if o, _ := s.cluster.Object(foreign.Ref); o.ResourceVersion != foreign.ResourceVersion {
			t.Fatalf("seed %d: a foreign object changed", seed)
		}
	}
}

// expected is what the cluster shall hold, by the rules as they are in the store.
func (s *site) expected(projects []org.Scope) []string {
	s.t.Helper()
	var rules []core.Rule
	for rec, err := range (store.Table[core.Rule]{}).List(s.t.Context(), s.db, store.Rules(acme)) {
		must(s.t, err)
		rules = append(rules, rec.Value)
	}
	w := kube.World{Tenant: acme, Cluster: s.id, Prefixes: kube.DefaultPrefixes, Rules: rules, Now: s.now()}
	for _, p := range projects {
		w.Scopes = append(w.Scopes, kube.Scope{ID: p.ID, Kind: p.Kind, Parent: p.Parent, Namespace: p.Namespace})
	}
	m := synctest.New()
	for _, o := range kube.Want(w).Objects {
		m.Put(o)
	}
	return append([]string{"/cluster-admin: system:masters"}, m.Bound()...)
}
