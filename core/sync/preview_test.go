package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
)

// watched is a cluster in memory that notes what each write did, in the words of a preview.
type watched struct {
	*synctest.Memory
	mu   gosync.Mutex
	done []string
}

func (w *watched) Apply(ctx context.Context, c kube.Change) (kube.Object, error) {
	old, _ := w.Object(c.Object.Ref)
	o, err := w.Memory.Apply(ctx, c)
	if err == nil {
		now := c.Object.Subjects
		if c.Verb == kube.Delete {
			now = nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done = append(w.done, words(kube.Difference{Verb: c.Verb, Ref: c.Object.Ref, Role: c.Object.Role,
			Adds: less(now, old.Subjects), Removes: less(old.Subjects, now), Left: len(now)}))
	}
	return o, err
}

// happened is what was written since the last call.
func (w *watched) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := w.done
	w.done = nil
	slices.Sort(done)
	return done
}

func less(a, b []kube.Subject) (out []kube.Subject) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func words(d kube.Difference) string {
	s := fmt.Sprintf("%s %s %s", d.Verb, d.Ref, d.Role)
	for _, a := range d.Adds {
		s += " +" + a.Name
	}
	for _, r := range d.Removes {
		s += " -" + r.Name
	}
	return s
}

func foretold(c sync.ClusterForecast) []string {
	var out []string
	for _, d := range c.Changes {
		out = append(out, words(d))
	}
	slices.Sort(out)
	return out
}

// fleet is a site with more clusters.
type fleet struct {
	*site
	ids     []core.ClusterID
	watched map[core.ClusterID]*watched
}

func newFleet(t *testing.T, more int) *fleet {
	f := &fleet{site: newSite(t), watched: map[core.ClusterID]*watched{}}
	f.ids = []core.ClusterID{f.id}
	for i := range more {
		c, err := f.org.CreateCluster(t.Context(), f.root, acme, fmt.Sprintf("more-%d", i), org.Reach{Server: "https://api.example.com"})
		must(t, err)
		f.ids = append(f.ids, c.Cluster)
	}
	for _, id := range f.ids {
		f.watched[id] = &watched{Memory: synctest.New()}
	}
	f.sync.Dial = func(to sync.Target) (sync.Cluster, error) { return f.watched[to.Cluster], nil }
	return f
}

func (f *fleet) settle(full bool) {
	f.t.Helper()
	for _, id := range f.ids {
		must(f.t, f.sync.Reconcile(f.t.Context(), sync.Message{Tenant: acme, Cluster: id, Full: full}))
	}
}

func (s *site) preview(create []access.NewRule, remove ...core.RuleID) (sync.Forecast, error) {
	return s.sync.Preview(s.t.Context(), acme, func(ctx context.Context) (sync.RuleChange, error) {
		made, gone, err := s.access.Preview(ctx, s.root, create, remove)
		return sync.RuleChange{Made: made, Gone: gone}, err
	})
}

// readOnly is a store that fails the test if anything is written to it.
type readOnly struct {
	store.DB
	t *testing.T
}

func (r readOnly) Commit(context.Context, ...store.Op) error {
	r.t.Error("a preview writes")
	return core.Unavailable
}

// foresee is a preview by services that cannot write.
func (s *site) foresee(create []access.NewRule, remove ...core.RuleID) sync.Forecast {
	s.t.Helper()
	db := readOnly{s.db, s.t}
	other, rules := *s.sync, &access.Service{DB: db, Now: s.now}
	other.DB, other.Org = db, &org.Service{DB: db, Now: s.now}
	f, err := other.Preview(s.t.Context(), acme, func(ctx context.Context) (sync.RuleChange, error) {
		made, gone, err := rules.Preview(ctx, s.root, create, remove)
		return sync.RuleChange{Made: made, Gone: gone}, err
	})
	must(s.t, err)
	return f
}

// In any world that the clusters have come to, what a preview foretells is exactly what is written once the change is made:
// the objects, the verbs, and who comes and goes.
func TestWhatIsForetoldHappens(t *testing.T) {
	seeds := uint64(5)
	if testing.Short() {
		seeds = 3
	}
	changed, quiet := 0, 0
	for seed := range seeds {
		f, r := newFleet(t, 1), rand.New(rand.NewPCG(seed, 5))
		ctx := t.Context()
		places := []core.ScopeID{core.AccountScope(acme)}
		var projects, departments []org.Scope
		for _, id := range f.ids {
			d, err := f.org.CreateDepartment(ctx, f.root, acme, id, "dep")
			must(t, err)
			for i, parent := range []core.ScopeID{d.ID, core.ClusterScope(id)} {
				p, err := f.org.CreateProject(ctx, f.root, acme, org.NewProject{Name: fmt.Sprintf("p%d", i), Parent: parent})
				must(t, err)
				projects, places = append(projects, p), append(places, p.ID)
			}
			departments, places = append(departments, d), append(places, d.ID, core.ClusterScope(id))
		}
		app, _, err := f.people.CreateApplication(ctx, f.root, acme, directory.NewApplication{Name: "ci"})
		must(t, err)
		subjects := []core.Subject{core.UserSubject("ada@example.com"), core.UserSubject("nobody@example.com"), core.GroupSubject("ops"), core.ApplicationSubject(app.ID)}
		_, _, err = f.people.CreateUser(ctx, f.root, acme, directory.NewUser{Email: "ada@example.com"})
		must(t, err)
		f.settle(false)
		enabled, live := true, []core.Rule{}
		for range 30 {
			// Something happens, and the clusters follow.
			event := r.IntN(6)
			switch event {
			case 0:
				enabled = !enabled
				if enabled {
					_, err = f.people.Enable(ctx, f.root, acme, "ada@example.com")
				} else {
					_, err = f.people.Disable(ctx, f.root, acme, "ada@example.com")
				}
				must(t, err)
			case 1:
				i := r.IntN(len(projects))
				parent := departments[i/2].ID
				if r.IntN(2) == 0 {
					parent = core.ClusterScope(f.ids[i/2])
				}
				_, err = f.org.Move(ctx, f.root, acme, projects[i].ID, parent)
				must(t, err)
			case 2:
				f.pass(time.Duration(r.IntN(40)) * time.Minute) // rules end, and empty bindings may be reaped
			}
			if event <= 2 {
				f.settle(r.IntN(2) == 0)
			}

			// Then somebody asks, and does it.
			var create []access.NewRule
			var remove []core.RuleID
			if len(live) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(live))
				remove = []core.RuleID{live[i].ID}
				live = slices.Delete(live, i, i+1)
			} else {
				n := access.NewRule{Subject: subjects[r.IntN(len(subjects))], Role: []core.RoleID{policy.Viewer, policy.L1Researcher}[r.IntN(2)], Scope: places[r.IntN(len(places))]}
				if r.IntN(3) == 0 {
					n.ExpiresAt = f.now().Add(time.Duration(1+r.IntN(30)) * time.Minute)
				}
				create = []access.NewRule{n}
			}
			if _, err := f.preview(create, remove...); err != nil { // it is there already, or has ended
				var real error
				if len(create) > 0 {
					_, real = f.access.CreateBatch(ctx, f.root, create)
				} else {
					real = f.access.Delete(ctx, f.root, remove[0])
				}
				if real == nil || real.Error() != err.Error() {
					t.Fatalf("seed %d: foretold %v, and it is %v", seed, err, real)
				}
				continue
			}
			for _, w := range f.watched {
				w.happened()
			}
			said := f.foresee(create, remove...)
			if len(remove) > 0 {
				must(t, f.access.Delete(ctx, f.root, remove[0]))
			} else {
				made, err := f.access.CreateBatch(ctx, f.root, create)
				must(t, err)
				if d := cmp.Diff(said.Change.Made, made); d != "" {
					t.Fatalf("seed %d: the rule, -foretold +made:\n%s", seed, d)
				}
				live = append(live, made...)
			}
			f.settle(false)
			for _, id := range f.ids {
				var told []string
				for _, c := range said.Clusters {
					if c.Cluster.Cluster == id {
						told = foretold(c)
					}
				}
				happened := f.watched[id].happened()
				if d := cmp.Diff(told, happened); d != "" {
					t.Fatalf("seed %d: %+v %v: -foretold +happened:\n%s", seed, create, remove, d)
				}
				if len(happened) > 0 {
					changed++
				} else {
					quiet++
				}
			}
		}
	}
	if changed < 20 || quiet < 20 {
		t.Errorf("%d changes, %d times none: too few to tell", changed, quiet)
	}
}

// A subject that makes a binding too large splits it, and the preview says so.
func TestForetoldShards(t *testing.T) {
	f := newFleet(t, 0)
	p := f.project("vision")
	for i := 0; i < kube.MaxSubjects; i += access.MaxBatch {
		var batch []access.NewRule
		for j := i; j < min(i+access.MaxBatch, kube.MaxSubjects); j++ {
			batch = append(batch, access.NewRule{Subject: core.GroupSubject(core.GroupName(fmt.Sprintf("g%d", j))), Role: policy.Viewer, Scope: p.ID})
		}
		_, err := f.access.Seed(t.Context(), acme, batch...)
		must(t, err)
	}
	f.settle(false)
	f.watched[f.id].happened()
	one := []access.NewRule{{Subject: core.GroupSubject("one-more"), Role: policy.Viewer, Scope: p.ID}}
	said := f.foresee(one)
	_, err := f.access.CreateBatch(t.Context(), f.root, one)
	must(t, err)
	f.settle(false)
	happened := f.watched[f.id].happened()
	if d := cmp.Diff(foretold(said.Clusters[0]), happened); d != "" {
		t.Errorf("-foretold +happened:\n%.2000s", d)
	}
	if len(happened) != 4 { // two bindings, each split in two
		t.Errorf("%d writes", len(happened))
	}
}

// A rule of the account reaches every cluster; beyond MaxForeseen they are counted.
func TestForetoldOfTheAccount(t *testing.T) {
	f := newFleet(t, sync.MaxForeseen+2)
	said := f.foresee([]access.NewRule{{Subject: core.GroupSubject("ops"), Role: policy.Viewer, Scope: core.AccountScope(acme)}})
	if len(said.Clusters) != sync.MaxForeseen || said.More != 3 {
		t.Fatalf("%d clusters and %d more", len(said.Clusters), said.More)
	}
	for i, c := range said.Clusters {
		if d := cmp.Diff([]string{"create ClusterRoleBinding//fleetpass-viewer fleetpass-viewer +fleetpass:ops"}, foretold(c)); d != "" || i > 0 && c.Cluster.ID <= said.Clusters[i-1].Cluster.ID {
			t.Errorf("cluster %d: %s", i, d)
		}
	}
}

// counted counts the reads of a preview.
type counted struct {
	store.DB
	gets, lists, listed int
}

func (c *counted) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	c.gets++
	return c.DB.Get(ctx, keys...)
}

func (c *counted) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	c.lists++
	return func(yield func(store.Item, error) bool) {
		for it, err := range c.DB.List(ctx, r) {
			c.listed++
			if !yield(it, err) {
				return
			}
		}
	}
}

// A preview of a change in one cluster reads that cluster, and its cost does not grow with the others, nor with those who
// have other roles.
func TestPreviewReads(t *testing.T) {
	cost := func(clusters, others int) (c counted) {
		f := newFleet(t, clusters)
		p := f.project("vision")
		for i := range others {
			f.grant(fmt.Sprintf("u%d@example.com", i), policy.Editor, p.ID)
		}
		c.DB = f.db
		f.sync.DB, f.sync.Org = &c, &org.Service{DB: &c, Now: f.now}
		n := []access.NewRule{{Subject: core.UserSubject("ada@example.com"), Role: policy.Viewer, Scope: p.ID}}
		if _, err := f.preview(n); err != nil {
			t.Fatal(err)
		}
		c.DB = nil
		return c
	}
	// Gets: the tenant before and after, the cluster, ada's item, and the two new bindings together. Lists: the account's
	// rules, the scopes and the rules of the cluster.
	few := cost(0, 0)
	if few.gets != 5 || few.lists != 3 {
		t.Errorf("%d gets and %d lists", few.gets, few.lists)
	}
	if many := cost(5, 0); many != few {
		t.Errorf("with more clusters %+v, else %+v", many, few)
	}
	if many := cost(0, 150); many.gets != few.gets || many.lists != few.lists || many.listed != few.listed+150 {
		t.Errorf("with more rules %+v, else %+v", many, few)
	}
}

// All is of one revision: a change that comes in between is in the answer, and a tenant that always changes has none.
func TestPreviewWhileTheTenantChanges(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	n := []access.NewRule{{Subject: core.UserSubject("ada@example.com"), Role: policy.Viewer, Scope: p.ID}}
	tries := 0
	plan := func(always bool) func(context.Context) (sync.RuleChange, error) {
		return func(ctx context.Context) (sync.RuleChange, error) {
			made, _, err := s.access.Preview(ctx, s.root, n, nil)
			if tries++; always || tries == 1 {
				s.grant(fmt.Sprintf("g%d", tries), policy.Viewer, p.ID)
			}
			return sync.RuleChange{Made: made}, err
		}
	}
	f, err := s.sync.Preview(t.Context(), acme, plan(false))
	must(t, err)
	if tries != 2 || f.Revision != s.revision() || core.Revision(f.Change.Made[0].ID) != f.Revision+1 {
		t.Errorf("after %d tries, at revision %d of %d: rule %d", tries, f.Revision, s.revision(), f.Change.Made[0].ID)
	}
	if got := foretold(f.Clusters[0]); len(got) != 2 {
		t.Errorf("foretold %q", got)
	}
	if _, err := s.sync.Preview(t.Context(), acme, plan(true)); !errors.Is(err, core.Unavailable) {
		t.Errorf("a tenant that always changes: %v", err)
	}
	if _, err := s.sync.Preview(t.Context(), acme, func(context.Context) (sync.RuleChange, error) { return sync.RuleChange{}, core.Denied }); !errors.Is(err, core.Denied) {
		t.Errorf("a plan that is refused: %v", err)
	}
}

// A cluster that goes is not told of.
func TestForetoldOfAClusterThatGoes(t *testing.T) {
	s := newSite(t)
	r := s.grant("ops", policy.Viewer, core.ClusterScope(s.id))
	if said := s.foresee(nil, r.ID); len(said.Clusters) != 1 || len(said.Clusters[0].Changes) != 1 {
		t.Fatalf("while it is there: %+v", said)
	}
	must(t, s.org.DeleteScope(t.Context(), s.root, acme, core.ClusterScope(s.id), true))
	f, err := s.sync.Preview(t.Context(), acme, func(context.Context) (sync.RuleChange, error) {
		return sync.RuleChange{Gone: []core.Rule{r}}, nil
	})
	must(t, err)
	if len(f.Clusters) != 0 || f.More != 0 {
		t.Errorf("%+v", f)
	}
}
