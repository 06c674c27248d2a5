package evaluate_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// filler puts items into a store in commits as large as they may be: there are too many of them to be made one by one, as the
// services do. It writes what a decision and a search read.
type filler struct {
	*rig
	tenant core.TenantID
	ops    []store.Op
	rule   core.RuleID
}

func (r *rig) filler(t core.TenantID) *filler { return &filler{rig: r, tenant: t, rule: 1 << 20} }

func (f *filler) put(op store.Op, err error) {
	f.must(err)
	if f.ops = append(f.ops, op); len(f.ops) == store.MaxOps {
		f.flush()
	}
}

func (f *filler) flush() {
	if len(f.ops) > 0 {
		f.must(f.db.Commit(f.t.Context(), f.ops...))
		f.ops = f.ops[:0]
	}
}

// person makes somebody, who is in a group if there is one to be in.
func (f *filler) person(name string, g core.GroupName) core.Subject {
	u := directory.User{ID: core.UserID(name), Email: core.Email(name + "@example.com"), Connection: "c1", Epoch: "e"}
	if g != "" {
		u.IDPGroups = []core.GroupName{g}
		f.put(store.Table[map[string]string]{}.Put(store.Member(f.tenant, g, u.Email), 0, map[string]string{"email": string(u.Email)}))
	}
	f.put(directory.Users.Put(store.User(f.tenant, u.Email), 0, u))
	return core.UserSubject(u.Email)
}

// grant gives a subject a role in scopes that have one place in the grants; indexed where searches are to find it too.
func (f *filler) grant(who core.Subject, role core.RoleID, indexed bool, scopes ...core.ScopeID) {
	var grants []policy.Grant
	for _, sc := range scopes {
		f.rule++
		rule := core.Rule{ID: f.rule, Subject: who, Role: role, Scope: sc}
		grants = append(grants, policy.GrantOf(rule))
		if indexed {
			f.put(store.Table[core.Rule]{}.Put(store.ClusterRule(f.tenant, sc, rule.ID), 0, rule))
		}
	}
	body, err := policy.EncodeGrants(grants)
	f.put(store.Put(store.Grants(f.tenant, who, store.GrantsAt(scopes[0])), 0, body), err)
}

func (f *filler) scope(kind core.ScopeKind, name string, parent core.ScopeID) core.ScopeID {
	c, _ := f.cluster.ClusterOf()
	id := core.ScopeID(string(c) + "." + name)
	f.put(store.Table[org.Scope]{}.Put(store.Scope(f.tenant, id), 0, org.Scope{ID: id, Kind: kind, Name: name, Parent: parent, Cluster: c, Namespace: core.Namespace(name)}))
	f.put(store.Put(store.ScopeName(f.tenant, parent, kind, name), 0, []byte(`"`+string(id)+`"`)), nil)
	return id
}

// asked is a search.
type asked struct {
	path     string
	question object
}

// searches fills a rig with n of everything that a search could come by, each in a part of the tree of its own, and says what to
// ask.
func (r *rig) searches(n int) map[string]asked {
	f := r.filler(acme)
	crowded, named, teams := f.scope(core.Project, "crowded", r.cluster), f.scope(core.Project, "named", r.cluster), f.scope(core.Department, "teams", r.cluster)
	f.grant(core.GroupSubject("crowd"), policy.Viewer, true, crowded)
	for i := range n {
		f.person(fmt.Sprintf("crowd%07d", i), "crowd")
		f.grant(f.person(fmt.Sprintf("alone%07d", i), ""), policy.MLEngineer, true, named)
		f.grant(core.GroupSubject(core.GroupName(fmt.Sprintf("team%07d", i))), policy.Viewer, true, teams)
		f.scope(core.Project, fmt.Sprintf("p%07d", i), teams)
	}
	f.flush()
	who := func(kind, entity, action string, scope core.ScopeID) asked {
		return asked{whoMay, object{"subject": about(kind, ""), "action": object{"name": action}, "resource": about(entity, string(scope))}}
	}
	return map[string]asked{
		"members of one group": who("user", "policies", "view", crowded),
		"people by name":       who("user", "inferences", "create", named),
		"groups":               who("group", "jobs", "view", teams),
		"scopes":               {whereIn, object{"subject": about("user", "ada@example.com"), "action": object{"name": "view"}, "resource": about("jobs", "")}},
		"scopes of another":    {whereIn, object{"subject": about("group", "team0000001"), "action": object{"name": "view"}, "resource": about("jobs", "")}},
		"actions":              {whatMay, object{"subject": about("user", "crowd0000007@example.com"), "resource": about("jobs", string(crowded))}},
	}
}

// A page of a search costs what it returns, and not what the tenant holds: with a hundred people, rules, groups and projects it
// reads what it reads with ten thousand, on the first page and further on.
func TestSearchCost(t *testing.T) {
	const limit, pages = 20, 3
	counted := map[string][]storetest.Counts{}
	for _, n := range []int{100, 10_000} {
		r := newRig(t)
		ada := r.token("ada")
		for what, tt := range r.searches(n) {
			r.find(tt.path, ada, limit, "", tt.question) // keys
			token := ""
			for i := range pages {
				r.db.Reset()
				var p page
				r.decode(r.find(tt.path, ada, limit, token, tt.question), &p)
				c := r.db.Reset()
				if token = p.Page.Next; token == "" && what != "actions" || what != "actions" && len(p.Results) != limit {
					t.Fatalf("%s, page %d of %d: %d results, next %q", what, i, n, len(p.Results), token)
				}
				counted[what] = append(counted[what], c)
				if c.RoundTrips() > 14 || c.GetItems+c.ListItems > 20*limit {
					t.Errorf("%s, page %d of %d: %d round trips, %+v", what, i, n, c.RoundTrips(), c)
				}
			}
		}
	}
	for what, c := range counted {
		for i := range pages {
			few, many := c[i].GetItems+c[i].ListItems, c[pages+i].GetItems+c[pages+i].ListItems
			if c[i].RoundTrips() != c[pages+i].RoundTrips() || max(few, many)-min(few, many) > 2 { // which department comes first is chance
				t.Errorf("%s, page %d: %+v of a hundred, %+v of ten thousand", what, i, c[i], c[pages+i])
			}
			t.Logf("%-22s page %d: %d round trips, %d items", what, i, c[i].RoundTrips(), c[i].GetItems+c[i].ListItems)
		}
	}
}

// Where there is little to find among much that is not, a page ends after what it may look at and says where to go on, and the
// pages come to all of it.
func TestSearchAmongMany(t *testing.T) {
	r := newRig(t)
	f := r.filler(acme)
	for i := range 2500 {
		f.grant(core.UserSubject(core.Email(fmt.Sprintf("gone%04d@example.com", i))), policy.Viewer, true, "acme") // nobody is there
	}
	f.grant(f.person("zoe", ""), policy.Viewer, true, "acme")
	f.flush()
	ada := r.token("ada")
	question := object{"subject": about("user", ""), "action": object{"name": "view"}, "resource": about("policies", "acme")}
	var all []string
	token := ""
	for n := 1; ; n++ {
		r.db.Reset()
		var p page
		r.decode(r.find(whoMay, ada, 500, token, question), &p)
		if c := r.db.Reset(); c.RoundTrips() > 50 {
			t.Errorf("page %d: %d round trips", n, c.RoundTrips())
		}
		for _, s := range p.Results {
			all = append(all, s.ID)
		}
		if token = p.Page.Next; token == "" {
			if n < 3 {
				t.Errorf("%d pages, which looked at too much each", n)
			}
			break
		}
	}
	if fmt.Sprint(all) != "[ada@example.com zoe@example.com]" {
		t.Errorf("found %v", all)
	}
	// Nor are groups without anybody in them looked into without end.
	for i := range 300 {
		f.grant(core.GroupSubject(core.GroupName(fmt.Sprintf("empty%04d", i))), policy.Viewer, true, r.cluster)
	}
	f.flush()
	question["resource"] = about("policies", string(r.cluster))
	for token, n := "", 1; ; n++ {
		r.db.Reset()
		var p page
		r.decode(r.find(whoMay, ada, 500, token, question), &p)
		if c := r.db.Reset(); c.RoundTrips() > 70 {
			t.Errorf("page %d: %d round trips", n, c.RoundTrips())
		}
		if token = p.Page.Next; token == "" {
			break
		}
	}
}

// evaluation makes a request, which must be allowed in two round trips.
func (r *rig) evaluation(b *testing.B, bearer, body string) time.Duration {
	b.Helper()
	before := r.db.Counts().RoundTrips()
	begin := time.Now()
	got := r.post(one, bearer, body)
	took := time.Since(begin)
	if n := r.db.Counts().RoundTrips() - before; got.status != 200 || got.body[:16] != `{"decision":true` || n != 2 {
		b.Fatalf("%d round trips, %d %s", n, got.status, got.body)
	}
	return took
}

// compare prints how much longer the one takes than the other, by turns in one run: the middle one of each, since other
// programs run too.
func compare(b *testing.B, what string, small, large func() time.Duration) {
	b.Helper()
	for range 200 {
		small()
		large()
	}
	var s, l []time.Duration
	for b.Loop() {
		s, l = append(s, small()), append(l, large())
	}
	slices.Sort(s)
	slices.Sort(l)
	b.ReportMetric(float64(l[len(l)/2])/float64(s[len(s)/2]), what)
	b.ReportMetric(0, "ns/op")
}

const rulesEach = 30

// filledWithRules is a rig whose tenant has so many rules, in grants items of thirty as a person might have them; bob has
// thirty of his own, too. What a decision does not read is left out: the rules' own items and the clusters' index.
func filledWithRules(b *testing.B, rules int) (*rig, string, string) {
	r := newRig(b)
	f := r.filler(acme)
	scopes := make([]core.ScopeID, rulesEach)
	c, _ := r.cluster.ClusterOf()
	for i := range scopes {
		scopes[i] = core.ScopeID(fmt.Sprintf("%s.s%07d", c, i))
	}
	f.grant(core.UserSubject("bob@example.com"), policy.Viewer, false, scopes...)
	for i := range rules / rulesEach {
		f.grant(core.UserSubject(core.Email(fmt.Sprintf("u%07d@example.com", i))), policy.Viewer, false, scopes...)
	}
	f.flush()
	return r, r.token("bob"), ask("user", "bob@example.com", "create", "workloads", string(r.quarks))
}

// BenchmarkEvaluationAtRules compares a whole evaluation where the tenant has 3x10^6 rules with one where it has 3x10^4.
func BenchmarkEvaluationAtRules(b *testing.B) {
	small, bob, body := filledWithRules(b, 30_000)
	large, rob, question := filledWithRules(b, 3_000_000)
	compare(b, "x-at-3e6-rules", func() time.Duration { return small.evaluation(b, bob, body) }, func() time.Duration { return large.evaluation(b, rob, question) })
}

// BenchmarkEvaluationAtTenants compares a whole evaluation in a store of 10^4 tenants with one in a store of a few.
func BenchmarkEvaluationAtTenants(b *testing.B) {
	small, bob, body := filledWithRules(b, rulesEach)
	large, rob, question := filledWithRules(b, rulesEach)
	for i := range 10_000 {
		t := core.TenantID(fmt.Sprintf("tenant-%d", i))
		f := large.filler(t)
		f.put(store.Table[org.Tenant]{}.Put(store.Meta(t), 0, org.Tenant{ID: t, Name: string(t), State: org.Active, Revision: 1}))
		for n := range 10 {
			f.grant(f.person(fmt.Sprintf("u%d", n), "staff"), policy.Viewer, true, core.AccountScope(t))
		}
		f.flush()
	}
	compare(b, "x-at-1e4-tenants", func() time.Duration { return small.evaluation(b, bob, body) }, func() time.Duration { return large.evaluation(b, rob, question) })
}

// BenchmarkSearchPage compares a page of twenty results of each search where there are 10^4 to find with one where there are 10^2.
func BenchmarkSearchPage(b *testing.B) {
	small, large := newRig(b), newRig(b)
	few, many := small.searches(100), large.searches(10_000)
	ada, eve := small.token("ada"), large.token("ada")
	for _, what := range []string{"members of one group", "people by name", "groups", "scopes"} {
		page := func(r *rig, bearer string, path string, q object) func() time.Duration {
			return func() time.Duration {
				begin := time.Now()
				got := r.find(path, bearer, 20, "", q)
				took := time.Since(begin)
				if got.status != 200 {
					b.Fatal(got.body)
				}
				return took
			}
		}
		b.Run(what, func(b *testing.B) {
			compare(b, "x-at-1e4", page(small, ada, few[what].path, few[what].question), page(large, eve, many[what].path, many[what].question))
		})
	}
}
