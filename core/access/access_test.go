package access_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/events"
)

// house is a tenant on a real store:
//
//	account acme
//	  cluster north
//	    department physics
//	      project quarks
//	    department chemistry
//	      project acids
//	    project loose
//	  cluster south
//	    project iron
//
// with ada, its administrator, and bob, cyd and eve, who hold nothing yet; bob is in the group physicists.
type house struct {
	t       testing.TB
	db      *storetest.Counter
	ledger  *ledger
	clock   atomic.Int64 // Unix seconds
	org     *org.Service
	dir     *directory.Service
	access  *access.Service
	account core.ScopeID
	ids     map[string]core.ScopeID // by name
}

const acme = core.TenantID("acme")

func openBolt(t testing.TB, now func() time.Time) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, account: core.AccountScope(acme), ids: map[string]core.ScopeID{}}
	h.clock.Store(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).Unix())
	h.ledger = &ledger{DB: openBolt(t, h.now)}
	h.db = &storetest.Counter{DB: h.ledger}
	wrapper, err := localkeys.New([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewRing(h.db, wrapper, h.now)
	h.org = &org.Service{DB: h.db, Ring: ring, Now: h.now}
	h.dir = &directory.Service{DB: h.db, Ring: ring, Now: h.now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	h.access = &access.Service{DB: h.db, Now: h.now}
	h.dir.Keeps = h.access.KeepsAdministrator
	h.tenant(acme)
	north := h.cluster(acme, "north")
	south := h.cluster(acme, "south")
	physics := h.department(north, "physics")
	chemistry := h.department(north, "chemistry")
	h.project(physics, "quarks")
	h.project(chemistry, "acids")
	h.project(north, "loose")
	h.project(south, "iron")
	for _, name := range []string{"ada", "bob", "cyd", "eve"} {
		h.person(name)
	}
	h.group("physicists", "bob")
	h.seed(user("ada"), policy.SystemAdministrator, h.account)
	return h
}

func (h *house) now() time.Time { return time.Unix(h.clock.Load(), 0).UTC() }

func (h *house) pass(d time.Duration) { h.clock.Add(int64(d / time.Second)) }

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) tenant(t core.TenantID) {
	h.t.Helper()
	_, err := h.org.CreateTenant(h.t.Context(), core.SystemActor(core.SystemTenant), string(t), string(t))
	h.must(err)
}

func (h *house) cluster(t core.TenantID, name string) core.ScopeID {
	h.t.Helper()
	sc, err := h.org.CreateCluster(h.t.Context(), core.SystemActor(t), t, name, org.Reach{Server: "https://" + name + ".example.com"})
	h.must(err)
	h.ids[name] = sc.ID
	return sc.ID
}

func (h *house) department(cluster core.ScopeID, name string) core.ScopeID {
	h.t.Helper()
	c, _ := cluster.ClusterOf()
	sc, err := h.org.CreateDepartment(h.t.Context(), core.SystemActor(acme), acme, c, name)
	h.must(err)
	h.ids[name] = sc.ID
	return sc.ID
}

func (h *house) project(parent core.ScopeID, name string) core.ScopeID {
	h.t.Helper()
	sc, err := h.org.CreateProject(h.t.Context(), core.SystemActor(acme), acme, org.NewProject{Name: name, Parent: parent})
	h.must(err)
	h.ids[name] = sc.ID
	return sc.ID
}

func email(name string) core.Email { return core.Email(name + "@example.com") }

func user(name string) core.Subject { return core.UserSubject(email(name)) }

func group(name string) core.Subject { return core.GroupSubject(core.GroupName(name)) }

func (h *house) person(name string) {
	h.t.Helper()
	_, _, err := h.dir.CreateUser(h.t.Context(), core.SystemActor(acme), acme, directory.NewUser{Email: string(email(name))})
	h.must(err)
}

func (h *house) group(name string, members ...string) {
	h.t.Helper()
	_, err := h.dir.CreateGroup(h.t.Context(), core.SystemActor(acme), acme, name)
	h.must(err)
	for _, m := range members {
		_, err := h.dir.AddMember(h.t.Context(), core.SystemActor(acme), acme, core.GroupName(name), email(m))
		h.must(err)
	}
}

func (h *house) application(name string) core.Subject {
	h.t.Helper()
	app, _, err := h.dir.CreateApplication(h.t.Context(), core.SystemActor(acme), acme, directory.NewApplication{Name: name})
	h.must(err)
	return core.ApplicationSubject(app.ID)
}

func (h *house) seed(who core.Subject, role core.RoleID, scope core.ScopeID) core.Rule {
	h.t.Helper()
	made, err := h.access.Seed(h.t.Context(), acme, access.NewRule{Subject: who, Role: role, Scope: scope})
	h.must(err)
	return made[0]
}

func actor(who core.Subject) core.Actor {
	return core.Actor{Tenant: acme, Subject: who, Request: "req-12345678", Address: "192.0.2.7"}
}

func (h *house) revision(t core.TenantID) core.Revision {
	h.t.Helper()
	rec, err := h.org.Tenant(h.t.Context(), t)
	h.must(err)
	return rec.Value.Revision
}

// may asks one question and returns yes or no with the reason.
func (h *house) may(who core.Subject, a policy.Action, e policy.Entity, scope core.ScopeID) (bool, string) {
	h.t.Helper()
	v, err := h.access.DecideAll(h.t.Context(), acme, access.Ask{Subject: who, Entity: e, Action: a, Scope: scope})
	h.must(err)
	return v[0].Allowed, v[0].Why()
}

func (h *house) want(allowed bool, who core.Subject, a policy.Action, e policy.Entity, scope core.ScopeID, reason string) {
	h.t.Helper()
	got, why := h.may(who, a, e, scope)
	if got != allowed || !strings.Contains(why, reason) {
		h.t.Errorf("%s: %s on %s in %s: %v, %q; want %v, %q", who, a, e, scope, got, why, allowed, reason)
	}
}

func list[T any](t testing.TB, db store.DB, r store.Range) (all []T) {
	t.Helper()
	for rec, err := range (store.Table[T]{}).List(t.Context(), db, r) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec.Value)
	}
	return all
}

// TestOneCommit: a rule comes and goes in all its forms at once, in exactly one commit, with the revision, the record, the
// event and the expiry.
func TestOneCommit(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	before := h.revision(acme)
	ends := h.now().Add(time.Hour)

	h.db.Reset()
	r, err := h.access.Create(ctx, actor(user("ada")), access.NewRule{
		Subject: core.Subject{Kind: core.User, ID: " Bob@Example.com "}, Role: policy.L1Researcher, Scope: h.ids["quarks"],
		ScopeKind: core.Project, ExpiresAt: ends.Add(300 * time.Millisecond), Reason: "the spring term",
	})
	h.must(err)
	if n := h.db.Reset(); n.Commits != 1 {
		t.Errorf("%d commits, want 1", n.Commits)
	}
	if r.ID != core.RuleID(before+1) || h.revision(acme) != before+1 {
		t.Errorf("rule %d at revision %d, want both %d", r.ID, h.revision(acme), before+1)
	}
	want := core.Rule{ID: r.ID, Subject: user("bob"), Role: policy.L1Researcher, Scope: h.ids["quarks"], ScopeKind: core.Project,
		CreatedAt: h.now(), CreatedBy: user("ada"), ExpiresAt: ends, Reason: "the spring term"}
	got, err := h.access.Get(ctx, acme, r.ID)
	h.must(err)
	if got != want || r != want {
		t.Errorf("the rule is %+v and %+v, want %+v", got, r, want)
	}
	c, _ := h.ids["quarks"].ClusterOf()
	if index := list[core.Rule](t, h.db, store.ClusterRules(acme, store.InCluster(c))); len(index) != 1 || index[0] != want {
		t.Errorf("the cluster's index is %v", index)
	}
	items, err := h.db.Get(ctx, store.Grants(acme, user("bob"), store.InCluster(c)))
	h.must(err)
	if grants, err := policy.DecodeGrants(items[0].Body); err != nil || len(grants) != 1 || grants[0] != policy.GrantOf(want) {
		t.Errorf("the grants are %v, %v", grants, err)
	}
	jobs := 0
	for job, err := range due.List(ctx, h.db, ends.Add(time.Second)) {
		h.must(err)
		if job.Value.Kind == due.RuleExpiry && job.Value.Tenant == acme && job.Value.At.Equal(ends) {
			jobs++
		}
	}
	if jobs != 1 {
		t.Errorf("%d expiries are scheduled, want 1", jobs)
	}

	h.must(h.access.Delete(ctx, actor(user("ada")), r.ID))
	if h.revision(acme) != before+2 {
		t.Errorf("revision %d after the delete, want %d", h.revision(acme), before+2)
	}
	if _, err := h.access.Get(ctx, acme, r.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("the deleted rule: %v", err)
	}
	if index := list[core.Rule](t, h.db, store.ClusterRules(acme, store.InCluster(c))); len(index) != 0 {
		t.Errorf("the cluster's index still has %v", index)
	}
	if items, err = h.db.Get(ctx, store.Grants(acme, user("bob"), store.InCluster(c))); err != nil || items[0].Version != 0 {
		t.Errorf("the grants item is still there (%v)", err)
	}
	if err := h.access.Delete(ctx, actor(user("ada")), r.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("deleted again: %v, want core.NotFound", err)
	}

	var acts []string
	for rec, err := range audit.List(ctx, h.db, acme, time.Time{}, h.now().Add(time.Hour), false) {
		h.must(err)
		if rec.EntityType == audit.EntityAccessRule && rec.Subject == user("ada") {
			acts = append(acts, string(rec.Action)+" "+rec.Name+" "+string(rec.Request)+" "+rec.Address)
		}
	}
	sentence := "user:bob@example.com is a L1 researcher in project " + string(h.ids["quarks"]) + " req-12345678 192.0.2.7"
	slices.Sort(acts)
	if !slices.Equal(acts, []string{"create " + sentence, "delete " + sentence}) {
		t.Errorf("the record says %q", acts)
	}
	changes := map[uint64]events.AccessChanged{}
	for _, f := range h.ledger.told(t) {
		if f, ok := f.(events.AccessChanged); ok {
			changes[f.Revision] = f
		}
	}
	for _, rev := range []core.Revision{before + 1, before + 2} {
		f := changes[uint64(rev)]
		if f.All || !slices.Equal(f.Clusters, []string{string(c)}) || !slices.Equal(f.Rules, []uint64{uint64(r.ID)}) {
			t.Errorf("the event of revision %d says %+v", rev, f)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	h := newHouse(t)
	app := h.application("robot")
	h.tenant("globex")
	foreign := h.cluster("globex", "foreign")
	gone := h.project(h.ids["physics"], "gone")
	h.must(h.org.DeleteScope(t.Context(), core.SystemActor(acme), acme, gone, false))
	below := h.project(h.department(h.ids["north"], "doomed"), "below")
	h.must(h.org.DeleteScope(t.Context(), core.SystemActor(acme), acme, h.ids["doomed"], true))
	before := h.revision(acme)
	good := access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.ids["quarks"]}
	for name, tt := range map[string]struct {
		change func(*access.NewRule)
		kind   error
		field  string
	}{
		"no kind":              {func(n *access.NewRule) { n.Subject.Kind = "" }, core.Invalid, "subjectType"},
		"another kind":         {func(n *access.NewRule) { n.Subject.Kind = "service-account" }, core.Invalid, "subjectType"},
		"no name":              {func(n *access.NewRule) { n.Subject.ID = "" }, core.Invalid, "subjectId"},
		"not an e-mail":        {func(n *access.NewRule) { n.Subject.ID = "bob" }, core.Invalid, "subjectId"},
		"reserved e-mail":      {func(n *access.NewRule) { n.Subject.ID = "system:masters" }, core.Invalid, "subjectId"},
		"reserved in disguise": {func(n *access.NewRule) { n.Subject.ID = "ＳＹＳＴＥＭ:admin@example.com" }, core.Invalid, "subjectId"},
		"reserved group":       {func(n *access.NewRule) { n.Subject = core.Subject{Kind: core.Group, ID: "System:Masters"} }, core.Invalid, "subjectId"},
		"key injection":        {func(n *access.NewRule) { n.Subject = core.Subject{Kind: core.Group, ID: "staff\x1faccount"} }, core.Invalid, "subjectId"},
		"every group":          {func(n *access.NewRule) { n.Subject = core.Subject{Kind: core.Group, ID: "*"} }, core.Invalid, "subjectId"},
		"unknown application":  {func(n *access.NewRule) { n.Subject = core.ApplicationSubject("nobody") }, core.Invalid, "subjectId"},
		"ourselves":            {func(n *access.NewRule) { n.Subject = core.SystemActor(acme).Subject }, core.Invalid, "subjectId"},
		"no role":              {func(n *access.NewRule) { n.Role = 0 }, core.Invalid, "roleId"},
		"unknown role":         {func(n *access.NewRule) { n.Role = 2 }, core.Invalid, "roleId"},
		"no scope":             {func(n *access.NewRule) { n.Scope = "" }, core.Invalid, "scopeId"},
		"long scope":           {func(n *access.NewRule) { n.Scope = core.ScopeID(strings.Repeat("x", 1000)) }, core.Invalid, "scopeId"},
		"unknown scope":        {func(n *access.NewRule) { n.Scope += "x" }, core.NotFound, ""},
		"other tenant":         {func(n *access.NewRule) { n.Scope = "globex" }, core.NotFound, ""},
		"other tenant's scope": {func(n *access.NewRule) { n.Scope = foreign }, core.NotFound, ""},
		"deleted scope":        {func(n *access.NewRule) { n.Scope = gone }, core.NotFound, ""},
		"below a deleted one":  {func(n *access.NewRule) { n.Scope = below }, core.NotFound, ""},
		"wrong level":          {func(n *access.NewRule) { n.ScopeKind = core.Department }, core.Invalid, "scopeType"},
		"in the past":          {func(n *access.NewRule) { n.ExpiresAt = h.now().Add(-time.Second) }, core.Invalid, "expiresAt"},
		"now":                  {func(n *access.NewRule) { n.ExpiresAt = h.now() }, core.Invalid, "expiresAt"},
		"within the second":    {func(n *access.NewRule) { n.ExpiresAt = h.now().Add(time.Millisecond) }, core.Invalid, "expiresAt"},
		"after all time":       {func(n *access.NewRule) { n.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, core.Invalid, "expiresAt"},
		"long reason":          {func(n *access.NewRule) { n.Reason = strings.Repeat("x", 501) }, core.Invalid, "reason"},
		"unprintable reason":   {func(n *access.NewRule) { n.Reason = "a\u202eb" }, core.Invalid, "reason"},
	} {
		n := good
		tt.change(&n)
		_, err := h.access.Create(t.Context(), actor(user("ada")), n)
		var field *core.FieldError
		errors.As(err, &field)
		if !errors.Is(err, tt.kind) || tt.field != "" && (field == nil || field.Field != tt.field) {
			t.Errorf("%s: %v, want %v naming %q", name, err, tt.kind, tt.field)
		}
	}
	if h.revision(acme) != before {
		t.Errorf("the refused rules raised the revision from %d to %d", before, h.revision(acme))
	}
	// The twin: the same rule unchanged, and one for each kind of subject and level of scope.
	for _, n := range []access.NewRule{
		good,
		{Subject: group("physicists"), Role: policy.Viewer, Scope: h.account, ScopeKind: core.Account},
		{Subject: group("of an identity provider"), Role: policy.Viewer, Scope: h.ids["north"], ScopeKind: core.Cluster},
		{Subject: user("not.here.yet"), Role: policy.Viewer, Scope: h.ids["physics"], ScopeKind: core.Department},
		{Subject: app, Role: policy.Viewer, Scope: h.ids["loose"], ScopeKind: core.Project, ExpiresAt: h.now().Add(time.Second)},
	} {
		if _, err := h.access.Create(t.Context(), actor(user("ada")), n); err != nil {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

func TestDuplicate(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	n := access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Hour)}
	create := func(n access.NewRule) (core.Rule, error) { return h.access.Create(ctx, actor(user("ada")), n) }
	first, err := create(n)
	h.must(err)
	if _, err := create(n); !errors.Is(err, core.Exists) || !strings.Contains(err.Error(), fmt.Sprintf("rule %d ", first.ID)) {
		t.Errorf("the same again: %v, want core.Exists naming the rule", err)
	}
	sooner := n
	sooner.ExpiresAt = h.now().Add(time.Minute)
	if _, err := create(sooner); !errors.Is(err, core.Exists) {
		t.Errorf("the same for a shorter time: %v, want core.Exists", err)
	}
	later := n
	later.ExpiresAt = h.now().Add(2 * time.Hour)
	if _, err := create(later); err != nil {
		t.Errorf("the same for longer says something new: %v", err)
	}
	h.pass(3 * time.Hour)
	n.ExpiresAt = time.Time{}
	if _, err := create(n); err != nil {
		t.Errorf("after both expired: %v", err)
	}
}

func TestBatch(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	before := h.revision(acme)
	var batch []access.NewRule
	for i := range access.MaxBatch {
		role := policy.Roles()[i%18].ID
		scope := []core.ScopeID{h.account, h.ids["quarks"]}[i/18]
		batch = append(batch, access.NewRule{Subject: group("staff"), Role: role, Scope: scope, ExpiresAt: h.now().Add(time.Hour)})
	}
	h.db.Reset()
	made, err := h.access.CreateBatch(ctx, actor(user("ada")), batch)
	h.must(err)
	if n := h.db.Reset(); n.Commits != 1 || n.Ops > store.MaxOps {
		t.Errorf("%d commits of %d operations", n.Commits, n.Ops)
	}
	for i, r := range made {
		if r.ID != core.RuleID(before)+core.RuleID(i)+1 || r.Role != batch[i].Role {
			t.Errorf("rule %d of the batch is %v", i, r)
		}
	}
	if got := h.revision(acme); got != before+core.Revision(len(batch)) {
		t.Errorf("revision %d, want that of the last rule, %d", got, made[len(made)-1].ID)
	}
	again := []access.NewRule{{Subject: user("bob"), Role: policy.Viewer, Scope: h.account}, batch[3]}
	if _, err := h.access.CreateBatch(ctx, actor(user("ada")), again); !errors.Is(err, core.Exists) || !strings.Contains(err.Error(), "rule 1 of the batch") {
		t.Errorf("a duplicate in a batch: %v", err)
	}
	twice := []access.NewRule{again[0], again[0]}
	if _, err := h.access.CreateBatch(ctx, actor(user("ada")), twice); !errors.Is(err, core.Exists) {
		t.Errorf("the same twice in a batch: %v", err)
	}
	if got := h.revision(acme); got != before+core.Revision(len(batch)) {
		t.Errorf("the refused batches changed something: revision %d", got)
	}
	if _, err := h.access.CreateBatch(ctx, actor(user("ada")), make([]access.NewRule, access.MaxBatch+1)); !errors.Is(err, core.Limit) {
		t.Errorf("too large a batch: %v", err)
	}
}

func TestRulesOfOneSubject(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	scopes := []core.ScopeID{h.ids["north"], h.ids["physics"], h.ids["chemistry"], h.ids["quarks"], h.ids["acids"], h.ids["loose"]}
	for i := range 8 {
		scopes = append(scopes, h.project(h.ids["physics"], "p"+string(rune('a'+i))))
	}
	var all []access.NewRule
	for _, s := range scopes {
		for _, r := range policy.Roles() {
			all = append(all, access.NewRule{Subject: user("eve"), Role: r.ID, Scope: s})
		}
	}
	for batch := range slices.Chunk(all[:policy.MaxGrants], access.MaxBatch) {
		_, err := h.access.Seed(ctx, acme, batch...)
		h.must(err)
	}
	over := all[policy.MaxGrants]
	if _, err := h.access.Create(ctx, actor(user("ada")), over); !errors.Is(err, core.Limit) || !strings.Contains(err.Error(), "200") {
		t.Errorf("rule %d: %v, want the named limit", policy.MaxGrants+1, err)
	}
	over.Scope = h.account
	if _, err := h.access.Create(ctx, actor(user("ada")), over); err != nil {
		t.Errorf("at the account there is room: %v", err)
	}
	n, err := h.access.DeleteAllOf(ctx, core.SystemActor(acme), user("eve"))
	if err != nil || n != policy.MaxGrants+1 {
		t.Errorf("took %d rules of eve, %v; want %d", n, err, policy.MaxGrants+1)
	}
	if left, err := h.access.ForSubjects(ctx, acme, user("eve")); err != nil || len(left) != 0 {
		t.Errorf("%d are left, %v", len(left), err)
	}
}

// A lost or refused commit is an error, never a success (TEN-011), and trying again after a lost answer says so.
func TestFaults(t *testing.T) {
	h := newHouse(t)
	n := access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.ids["quarks"]}
	faulty := func(method string, f storetest.Fault) *access.Service {
		return &access.Service{DB: &storetest.Faulty{DB: h.db, Plan: storetest.FaultOnce(method, f)}, Now: h.now}
	}
	if _, err := faulty("Commit", storetest.Refuse).Create(t.Context(), actor(user("ada")), n); !errors.Is(err, core.Unavailable) {
		t.Errorf("a refused commit: %v", err)
	}
	h.want(false, user("bob"), policy.View, policy.Jobs, h.ids["quarks"], "no rule")
	if _, err := faulty("Commit", storetest.LoseAnswer).Create(t.Context(), actor(user("ada")), n); !errors.Is(err, core.Unavailable) {
		t.Errorf("a lost answer: %v", err)
	}
	h.want(true, user("bob"), policy.View, policy.Jobs, h.ids["quarks"], "Viewer in project quarks")
	if _, err := h.access.Create(t.Context(), actor(user("ada")), n); !errors.Is(err, core.Exists) {
		t.Errorf("again after a lost answer: %v", err)
	}
	ask := access.Ask{Subject: user("bob"), Entity: policy.Jobs, Action: policy.View, Scope: h.ids["quarks"]}
	if d, _, err := faulty("Get", storetest.Refuse).Decide(t.Context(), acme, ask); !errors.Is(err, core.Unavailable) || d.Allowed {
		t.Errorf("a decision without the store: %v, %v", d, err)
	}
	broken := faulty("List", storetest.LoseAnswer)
	if p, err := broken.List(t.Context(), actor(user("ada")), access.Query{}); !errors.Is(err, core.Unavailable) {
		t.Errorf("a list that breaks off looks like %d rules, %v", len(p.Rules), err)
	}
	if _, err := faulty("List", storetest.LoseAnswer).DeleteAllAt(t.Context(), core.SystemActor(acme), h.ids["quarks"]); !errors.Is(err, core.Unavailable) {
		t.Errorf("a sweep that breaks off: %v", err)
	}
}

// ledger remembers what was committed.
type ledger struct {
	store.DB
	mu      sync.Mutex
	commits [][]store.Op
}

func (l *ledger) Commit(ctx context.Context, ops ...store.Op) error {
	err := l.DB.Commit(ctx, ops...)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.commits = append(l.commits, slices.Clone(ops))
	}
	return err
}

// told is every event that was committed.
func (l *ledger) told(t *testing.T) (all []events.Fact) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ops := range l.commits {
		for _, op := range ops {
			if !op.Key.IsOutbox() {
				continue
			}
			_, f, err := events.Decode(op.Body)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, f)
		}
	}
	return all
}
