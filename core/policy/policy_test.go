package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

const (
	acct = core.ScopeID("acme")
	clus = core.ScopeID("11111111-2222-4333-8444-555555555555")
	dept = clus + ".dept"
	proj = clus + ".proj"
)

var levels = []struct {
	kind core.ScopeKind
	path core.Path
}{
	{core.Account, core.Path{acct}},
	{core.Cluster, core.Path{acct, clus}},
	{core.Department, core.Path{acct, clus, dept}},
	{core.Project, core.Path{acct, clus, dept, proj}},
}

// TestEveryCell compares all 18 roles x 36 entities x 4 actions, for a rule at each level of the tree and a question at
// each level, with the reference.
func TestEveryCell(t *testing.T) {
	ref := readReference(t)
	ada := core.UserSubject("ada@example.com")
	cells := 0
	for _, role := range Roles() {
		for at, rule := range levels {
			scope := rule.path[at]
			rules := []core.Rule{{ID: 7, Subject: ada, Role: role.ID, Scope: scope, ScopeKind: rule.kind}}
			g := BuildGrants(rules)
			for asked, level := range levels {
				for _, e := range Entities() {
					for _, a := range Actions() {
						req := Request{Subjects: []core.Subject{ada}, Path: level.path, Entity: e, Action: a, Now: 1000}
						got := Decide(g, &req)
						want := asked >= at && ref.permits(int(role.ID), e.String(), a.String())
						if got.Allowed != want {
							t.Errorf("%s in a %s, asked %s on %s in a %s: %v (%s), want %v", role.Name, rule.kind, a, e, level.kind, got.Allowed, got, want)
						}
						held := Held(g, req.Subjects, req.Path, req.Now)
						if held.Has(e, a) != want || want && !Permits(role.ID, e, a) {
							t.Errorf("%s in a %s: Held and Permits do not agree with Decide about %s on %s in a %s", role.Name, rule.kind, a, e, level.kind)
						}
						cells++
					}
				}
			}
		}
	}
	if cells != 18*36*4*4*4 {
		t.Errorf("looked at %d cells", cells)
	}
}

// A world is a tree, some rules in and beside it, and some questions.
type world struct {
	rules    []core.Rule
	subjects []core.Subject
	path     core.Path
}

var (
	people = []core.Subject{core.UserSubject("ada@example.com"), core.UserSubject("bob@example.com"), core.UserSubject("eve@example.com")}
	groups = []core.Subject{core.GroupSubject("physics"), core.GroupSubject("chemistry"), core.GroupSubject("ada@example.com"), core.GroupSubject("staff")}
	robots = []core.Subject{core.ApplicationSubject("ci"), core.ApplicationSubject("physics")} // an application called like a group
	odd    = []core.Subject{{Kind: "service-account", ID: "ci"}, {Kind: "", ID: "ada@example.com"}, {Kind: "User", ID: "ada@example.com"}}

	clusters = []core.ScopeID{clus, "99999999-2222-4333-8444-555555555555"}
	tenants  = []core.ScopeID{acct, "acme2", "globex"}
	scopes   = func() (all []core.ScopeID) { // of several tenants and clusters: most lie outside any one path
		all = append(all, tenants...)
		for _, c := range clusters {
			all = append(all, c, c+".d1", c+".d2", c+".p1", c+".p2", c+".p3")
		}
		return all
	}()
	roleIDs = func() (all []core.RoleID) {
		for _, r := range roles {
			all = append(all, r.ID)
		}
		return append(all, 0, 2, 20, 999) // and unknown ones
	}()
)

const worldNow = 1_800_000_000

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomWorld(r *rand.Rand, w *world) {
	w.rules, w.subjects, w.path = w.rules[:0], w.subjects[:0], core.Path{}
	// A path of any depth; a project may lie in a department or in the cluster itself.
	w.path[0] = tenants[0]
	if r.IntN(8) > 0 {
		c := pick(r, clusters)
		w.path[1] = c
		if r.IntN(3) > 0 {
			w.path[2] = c + pick(r, []core.ScopeID{".d1", ".d2"})
		}
		if r.IntN(3) > 0 {
			w.path[3] = c + pick(r, []core.ScopeID{".p1", ".p2", ".p3"})
		}
	}
	switch r.IntN(4) {
	case 0:
		w.subjects = append(w.subjects, pick(r, robots))
	default:
		w.subjects = append(w.subjects, pick(r, people))
	}
	for _, g := range groups {
		if r.IntN(2) == 0 {
			w.subjects = append(w.subjects, g)
		}
	}
	if r.IntN(16) == 0 {
		w.subjects = append(w.subjects, pick(r, odd))
	}
	for i, n := 0, r.IntN(14); i < n; i++ {
		rule := core.Rule{ID: core.RuleID(1 + r.IntN(1000)), Role: pick(r, roleIDs), Scope: pick(r, scopes)}
		if up := w.path[r.IntN(len(w.path))]; up != "" && r.IntN(3) > 0 { // most rules reach the question
			rule.Scope = up
		}
		switch r.IntN(8) {
		case 0, 1, 2:
			rule.Subject = pick(r, people)
		case 3, 4, 5:
			rule.Subject = pick(r, groups)
		case 6:
			rule.Subject = pick(r, robots)
		case 7:
			rule.Subject = pick(r, odd)
		}
		switch r.IntN(4) {
		case 0: // ends around now, often exactly now
			rule.ExpiresAt = time.Unix(worldNow+int64(r.IntN(5))-2, 0)
		case 1:
			rule.ExpiresAt = time.Unix(worldNow+int64(r.IntN(1e6))-5e5, 0)
		}
		if !slices.ContainsFunc(w.rules, func(o core.Rule) bool { return o.ID == rule.ID }) {
			w.rules = append(w.rules, rule)
		}
	}
	r.Shuffle(len(w.rules), func(i, j int) { w.rules[i], w.rules[j] = w.rules[j], w.rules[i] })
}

// asItems builds the index the way core/access does: from the bodies of grants items.
func (w *world) asItems(r *rand.Rand) (*Grants, error) {
	type item struct {
		s  core.Subject
		in core.ScopeID
	}
	items := map[item][]Grant{}
	for _, rule := range w.rules {
		in := rule.Scope
		if c, ok := rule.Scope.ClusterOf(); ok {
			in = core.ClusterScope(c)
		}
		items[item{rule.Subject, in}] = append(items[item{rule.Subject, in}], GrantOf(rule))
	}
	g := &Grants{}
	for it, grants := range items {
		r.Shuffle(len(grants), func(i, j int) { grants[i], grants[j] = grants[j], grants[i] })
		body, err := EncodeGrants(grants)
		if err != nil {
			return nil, err
		}
		if err := g.Add(it.s, body); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// TestRandomWorlds compares a million worlds with the reference (a fiftieth of them under the race detector and with
// -short). A failure prints the world's number, which makes it again.
func TestRandomWorlds(t *testing.T) {
	ref := readReference(t)
	worlds := 1_000_000
	if raceEnabled || testing.Short() {
		worlds /= 50
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	var allowed, total [64]int
	for worker := range workers {
		wg.Go(func() {
			var w world
			src := rand.NewPCG(0, 0)
			for n := worker; n < worlds && !t.Failed(); n += workers {
				src.Seed(uint64(n), 42)
				r := rand.New(src)
				randomWorld(r, &w)
				g := BuildGrants(w.rules)
				if n%2 == 0 {
					var err error
					if g, err = w.asItems(r); err != nil {
						t.Errorf("world %d: %v", n, err)
						return
					}
				}
				for range 4 {
					e, a := Entity(1+r.IntN(NumEntities)), pick(r, Actions())
					if r.IntN(16) == 0 { // unknown ones, and several at once
						e, a = Entity(r.IntN(256)), Action(r.IntN(256))
					}
					req := Request{Subjects: w.subjects, Path: w.path, Entity: e, Action: a, Now: worldNow}
					got := Decide(g, &req)
					entity, action := e.String(), a.String()
					subjects := slices.DeleteFunc(slices.Clone(w.subjects), func(s core.Subject) bool { return slices.Contains(odd, s) })
					want := ref.decide(w.rules, subjects, w.path[:], entity, action, worldNow)
					if got.Allowed != (want != 0) || got.Allowed && got.Rule != want || got.Allowed != (got.Code == Allowed) {
						t.Errorf("world %d: %s on %s by %v in %v: got %v by rule %d (%s), want rule %d; rules:\n%s", n, action, entity, w.subjects, w.path, got.Allowed, got.Rule, got, want, describe(w.rules))
						return
					}
					if held := Held(g, req.Subjects, req.Path, req.Now); held.Has(e, a) != got.Allowed {
						t.Errorf("world %d: Held says %v of %s on %s, Decide %v", n, held.Has(e, a), action, entity, got)
						return
					}
					total[worker]++
					if got.Allowed {
						allowed[worker]++
					}
				}
			}
		})
	}
	wg.Wait()
	yes, all := 0, 0
	for i := range total {
		yes, all = yes+allowed[i], all+total[i]
	}
	t.Logf("%d worlds, %d decisions, %d of them allowed", worlds, all, yes)
	if !t.Failed() && (yes < all/8 || yes > all*7/8) {
		t.Errorf("the worlds are too plain: %d of %d decisions allow", yes, all)
	}
}

func describe(rules []core.Rule) (s string) {
	for _, r := range rules {
		s += fmt.Sprintf("  %s until %v\n", r, r.ExpiresAt)
	}
	return s
}

// TestActionAndScopeOfOneRule is the case that such systems got wrong before: create in one scope and view in another
// must not add up to create in both.
func TestActionAndScopeOfOneRule(t *testing.T) {
	ada := core.UserSubject("ada@example.com")
	other := clus + ".other"
	g := BuildGrants([]core.Rule{
		{ID: 1, Subject: ada, Role: ResearchManager, Scope: proj},
		{ID: 2, Subject: ada, Role: Viewer, Scope: other},
	})
	ask := func(scope core.ScopeID) Decision {
		return Decide(g, &Request{Subjects: []core.Subject{ada}, Path: core.Path{acct, clus, dept, scope}, Entity: Project, Action: Create})
	}
	if d := ask(proj); !d.Allowed || d.Rule != 1 {
		t.Errorf("the twin: create where the manager's rule is: %v", d)
	}
	if d := ask(other); d.Allowed {
		t.Errorf("create where only the viewer's rule is: %v", d)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates by itself")
	}
	ada := core.UserSubject("ada@example.com")
	g := BuildGrants([]core.Rule{
		{ID: 1, Subject: ada, Role: Viewer, Scope: acct},
		{ID: 2, Subject: core.GroupSubject("physics"), Role: L1Researcher, Scope: proj},
		{ID: 3, Subject: core.GroupSubject("physics"), Role: Editor, Scope: dept, ExpiresAt: time.Unix(5, 0)},
	})
	for _, a := range []Action{View, Create, Delete, 0} { // allowed by the first, by the second, denied, unknown
		req := Request{Subjects: []core.Subject{ada, core.GroupSubject("physics"), core.GroupSubject("none")},
			Path: core.Path{acct, clus, dept, proj}, Entity: Jobs, Action: a, Now: 10}
		var d Decision
		if n := testing.AllocsPerRun(1000, func() { d = Decide(g, &req) }); n != 0 {
			t.Errorf("a decision (%s) allocates %v times", d, n)
		}
		var held Permissions
		if n := testing.AllocsPerRun(1000, func() { held = Held(g, req.Subjects, req.Path, req.Now) }); n != 0 {
			t.Errorf("Held allocates %v times (%v)", n, held[Jobs])
		}
	}
}
