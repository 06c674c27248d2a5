package access_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// A model is what rules mean, said again as plainly as can be: a list of rules, a table of parents and one of groups.
type model struct {
	parent map[core.ScopeID]core.ScopeID
	groups map[core.Subject][]core.Subject
	rules  []core.Rule
}

func (m *model) within(scope, top core.ScopeID) bool {
	for s := scope; s != ""; s = m.parent[s] {
		if s == top {
			return true
		}
	}
	return false
}

// holds says whether a person may do something in a scope at a time.
func (m *model) holds(who core.Subject, e policy.Entity, a policy.Action, scope core.ScopeID, at time.Time) bool {
	for _, r := range m.rules {
		given := r.Subject == who || slices.Contains(m.groups[who], r.Subject)
		if given && m.within(scope, r.Scope) && r.Live(at) && policy.Permits(r.Role, e, a) {
			return true
		}
	}
	return false
}

// covers says whether a person holds every permission of a role in a scope at a time.
func (m *model) covers(who core.Subject, role core.RoleID, scope core.ScopeID, at time.Time) bool {
	for _, e := range policy.Entities() {
		for _, a := range policy.Actions() {
			if policy.Permits(role, e, a) && !m.holds(who, e, a, scope, at) {
				return false
			}
		}
	}
	return true
}

// endOfTime is when only rules without an end still hold.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// creates is the answer to an attempt: nil, or its kind of error.
func (m *model) creates(who core.Subject, n access.NewRule, now time.Time) error {
	if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now) {
		return core.Invalid
	}
	last := endOfTime
	if !n.ExpiresAt.IsZero() {
		last = n.ExpiresAt.Add(-time.Second)
	}
	if !m.holds(who, policy.AccessRules, policy.Create, n.Scope, now) || !m.covers(who, n.Role, n.Scope, now) || !m.covers(who, n.Role, n.Scope, last) {
		return core.Denied
	}
	for _, r := range m.rules {
		if r.Subject == n.Subject && r.Role == n.Role && r.Scope == n.Scope && r.Live(now) && (r.ExpiresAt.IsZero() || !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(r.ExpiresAt)) {
			return core.Exists
		}
	}
	return nil
}

func (m *model) find(id core.RuleID) int {
	return slices.IndexFunc(m.rules, func(r core.Rule) bool { return r.ID == id })
}

func (m *model) deletes(who core.Subject, id core.RuleID, tenant core.TenantID, now time.Time) error {
	i := m.find(id)
	if i < 0 {
		return core.NotFound
	}
	r := m.rules[i]
	if !r.Live(now) {
		return core.NotFound
	}
	if !m.holds(who, policy.AccessRules, policy.Delete, r.Scope, now) || !m.covers(who, r.Role, r.Scope, now) {
		return core.Denied
	}
	admin := func(r core.Rule) bool {
		return r.Role == policy.SystemAdministrator && r.Scope == core.AccountScope(tenant) && r.Subject.Kind == core.User && r.ExpiresAt.IsZero()
	}
	admins := 0
	for _, o := range m.rules {
		if admin(o) {
			admins++
		}
	}
	if admin(r) && admins == 1 {
		return core.Denied
	}
	return nil
}

// step is what one administrator did, and how it ended.
type step struct {
	who        core.Subject
	create     *access.NewRule
	delete     core.RuleID
	expire     core.RuleID   // maintenance's
	from, to   core.Revision // the tenant's revision before and after the call
	begin, end int64         // the time before and after the call
	made       core.Rule
	err        error
	acceptedAt core.Revision // if it succeeded: the revision that it made
}

// TestHistories runs ten thousand histories (a fiftieth under the race detector and with -short). In each, several
// administrators of different reach create and delete rules of one tenant at the same time on a real store, while time passes
// and maintenance takes away what has ended. The tenant's revisions put what succeeded into one order; replayed in that order, the model must agree with every success, and for
// every refusal there must be a moment of the call at which the model refuses for the same reason. In the end, what
// decisions say, the three forms of the rules, and what anybody holds at any later time must be as the model says, and
// nobody may hold what no one was given in the beginning.
func TestHistories(t *testing.T) {
	histories := 10_000
	if raceEnabled || testing.Short() {
		histories /= 50
	}
	base := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	log := &ledger{DB: openBolt(t, func() time.Time { return base })}
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	workers := 8 * runtime.GOMAXPROCS(0) // most of them wait: for a commit, or before they try again
	for worker := range workers {
		wg.Go(func() {
			for n := worker; n < histories && !t.Failed(); n += workers {
				h := newHistory(t.Context(), log, n, base)
				if h == nil {
					continue
				}
				h.run(t)
				h.check(t)
				made.Add(int64(h.made))
				refused.Add(int64(h.refused))
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories: %d changes made, %d refused", histories, made.Load(), refused.Load())
	if made.Load() < int64(histories) || refused.Load() < int64(histories)/2 {
		t.Error("the histories are too plain")
	}
}

type history struct {
	n             int
	tenant        core.TenantID
	db            *ledger
	access        *access.Service
	clock         atomic.Int64
	start         time.Time
	initial       model
	people        []core.Subject
	subjects      []core.Subject
	scopes        []core.ScopeID
	steps         []step
	made, refused int
}

var adminRoles = []core.RoleID{policy.SystemAdministrator, policy.Editor, policy.ResearchManager, policy.DepartmentAdministrator, policy.ApplicationAdministrator, policy.DepartmentAdministrator}

// newHistory makes a tenant with a tree, four people and the rules that it begins with.
func newHistory(ctx context.Context, db *ledger, n int, base time.Time) *history {
	h := &history{n: n, tenant: core.TenantID(fmt.Sprintf("t%d", n)), db: &ledger{DB: db.DB}, start: base}
	h.clock.Store(base.Unix())
	h.access = &access.Service{DB: h.db, Now: func() time.Time { return time.Unix(h.clock.Load(), 0).UTC() }}
	r := rand.New(rand.NewPCG(uint64(n), 7))
	h.initial.parent = map[core.ScopeID]core.ScopeID{}
	h.initial.groups = map[core.Subject][]core.Subject{}

	var ops []store.Op
	put := func(op store.Op, err error) {
		if err != nil {
			panic(err)
		}
		ops = append(ops, op)
	}
	account := core.AccountScope(h.tenant)
	put(store.Table[org.Tenant]{}.Put(store.Meta(h.tenant), 0, org.Tenant{ID: h.tenant, Name: "t", State: org.Active, Revision: 1}))
	h.scopes = append(h.scopes, account)
	h.initial.parent[account] = ""
	add := func(sc org.Scope) core.ScopeID {
		sc.Name = string(sc.ID)
		put(store.Table[org.Scope]{}.Put(store.Scope(h.tenant, sc.ID), 0, sc))
		put(store.Table[core.ScopeID]{}.Put(store.ScopeName(h.tenant, sc.Parent, sc.Kind, sc.Name), 0, sc.ID))
		h.scopes = append(h.scopes, sc.ID)
		h.initial.parent[sc.ID] = sc.Parent
		return sc.ID
	}
	for i := range 2 {
		c := core.ClusterID(fmt.Sprintf("%08d-0000-4000-8000-%012d", i, n))
		top := add(org.Scope{ID: core.ClusterScope(c), Kind: core.Cluster, Parent: account, Cluster: c})
		d := add(org.Scope{ID: top + ".d", Kind: core.Department, Parent: top, Cluster: c})
		add(org.Scope{ID: top + ".p", Kind: core.Project, Parent: d, Cluster: c})
		if i == 0 {
			add(org.Scope{ID: top + ".q", Kind: core.Project, Parent: top, Cluster: c})
		}
	}
	for i := range 4 {
		u := directory.User{ID: core.UserID(fmt.Sprint(i)), Email: email(fmt.Sprintf("p%d", i))}
		who := core.UserSubject(u.Email)
		for _, g := range []core.GroupName{"g", "h"} {
			if r.IntN(3) == 0 {
				u.Groups = append(u.Groups, g)
				h.initial.groups[who] = append(h.initial.groups[who], core.GroupSubject(g))
			}
		}
		put(store.Table[directory.User]{}.Put(store.User(h.tenant, u.Email), 0, u))
		h.people = append(h.people, who)
	}
	h.subjects = append(slices.Clone(h.people), group("g"), group("h"))
	if err := h.db.Commit(ctx, ops...); err != nil {
		panic(err)
	}
	var begin []access.NewRule
	for range 1 + r.IntN(4) {
		rule := access.NewRule{Subject: pick(r, h.subjects), Role: pick(r, adminRoles), Scope: pick(r, h.scopes)}
		if r.IntN(3) == 0 {
			rule.ExpiresAt = base.Add(time.Duration(1+r.IntN(4)) * time.Hour)
		}
		begin = append(begin, rule)
	}
	rules, err := h.access.Seed(ctx, h.tenant, begin...)
	if errors.Is(err, core.Exists) {
		return nil // two of them say the same
	}
	if err != nil {
		panic(err)
	}
	h.initial.rules = rules
	return h
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// run lets several administrators act at once.
func (h *history) run(t *testing.T) {
	ctx := t.Context()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 2 + h.n%2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(h.n), uint64(100+g)))
			for range 4 {
				if r.IntN(6) == 0 {
					h.clock.Add(int64(tick / time.Second))
				}
				s := step{who: pick(r, h.people), from: h.revision(ctx), begin: h.clock.Load()}
				a := core.Actor{Tenant: h.tenant, Subject: s.who}
				if what := r.IntN(8); what == 0 {
					s.expire = 2 + core.RuleID(r.IntN(int(s.from)))
					s.err = h.access.Expire(ctx, h.tenant, s.expire)
				} else if what > 2 {
					n := access.NewRule{Subject: pick(r, h.subjects), Role: pick(r, policy.Roles()).ID, Scope: pick(r, h.scopes)}
					if r.IntN(2) == 0 {
						n.Role = pick(r, adminRoles)
					}
					if r.IntN(3) == 0 {
						n.ExpiresAt = h.start.Add(time.Duration(1+r.IntN(5)) * time.Hour)
					}
					if able := h.holders(r); r.IntN(4) > 0 && able != nil { // what is likely to be allowed
						n.Scope = pick(r, h.below(able.scope))
						n.Role = pick(r, []core.RoleID{able.role, policy.Viewer, policy.L2Researcher, policy.ResearchManager})
						if s.who = able.who; !able.until.IsZero() && r.IntN(4) > 0 {
							n.ExpiresAt = able.until.Add(-time.Duration(r.IntN(2)) * time.Minute)
						}
						a.Subject = s.who
					}
					s.create = &n
					s.made, s.err = h.access.Create(ctx, a, n)
					s.acceptedAt = core.Revision(s.made.ID)
				} else {
					s.delete = 2 + core.RuleID(r.IntN(int(s.from)+1))
					s.err = h.access.Delete(ctx, a, s.delete)
				}
				s.to, s.end = h.revision(ctx), h.clock.Load()
				mu.Lock()
				h.steps = append(h.steps, s)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// tick is by how much time passes at once. Rules end on ticks and a minute before.
const tick = time.Hour

// during calls what for every time that the step saw.
func (s *step) during(what func(time.Time) bool) bool {
	for at := s.begin; at <= s.end; at += int64(tick / time.Second) {
		if what(time.Unix(at, 0).UTC()) {
			return true
		}
	}
	return false
}

// able is a person who holds one of the first rules.
type able struct {
	who   core.Subject
	role  core.RoleID
	scope core.ScopeID
	until time.Time
}

func (h *history) holders(r *rand.Rand) *able {
	rule := pick(r, h.initial.rules)
	var who []core.Subject
	for _, p := range h.people {
		if p == rule.Subject || slices.Contains(h.initial.groups[p], rule.Subject) {
			who = append(who, p)
		}
	}
	if len(who) == 0 {
		return nil
	}
	return &able{pick(r, who), rule.Role, rule.Scope, rule.ExpiresAt}
}

func (h *history) below(top core.ScopeID) (all []core.ScopeID) {
	for _, s := range h.scopes {
		if h.initial.within(s, top) {
			all = append(all, s)
		}
	}
	return all
}

var tenantTable store.Table[org.Tenant]

func (h *history) revision(ctx context.Context) core.Revision {
	rec, err := tenantTable.Get(ctx, h.db, store.Meta(h.tenant))
	if err != nil {
		panic(err)
	}
	return rec.Value.Revision
}

// deletedAt finds the revision that took a rule away, in what was committed.
func (h *history) deletedAt(id core.RuleID) core.Revision {
	for _, ops := range h.db.commits {
		at, found := core.Revision(0), false
		for _, op := range ops {
			if op.Key == store.Meta(h.tenant) {
				rec, err := tenantTable.Decode(store.Item{Key: op.Key, Version: 1, Body: op.Body})
				if err != nil {
					panic(err)
				}
				at = rec.Value.Revision
			}
			found = found || op.Verb == store.VerbDelete && op.Key == store.Rule(h.tenant, id)
		}
		if found {
			return at
		}
	}
	return 0
}

func (h *history) check(t *testing.T) {
	t.Helper()
	begin := core.Revision(h.initial.rules[len(h.initial.rules)-1].ID)
	end := h.revision(t.Context())
	byRevision := map[core.Revision]*step{}
	for i := range h.steps {
		s := &h.steps[i]
		if s.err != nil {
			h.refused++
			continue
		}
		switch {
		case s.expire != 0:
			s.acceptedAt = h.deletedAt(s.expire)
			if s.acceptedAt <= s.from || s.acceptedAt > s.to || byRevision[s.acceptedAt] != nil {
				continue // it had nothing to do, or somebody else was first
			}
		case s.create == nil:
			s.acceptedAt = h.deletedAt(s.delete)
		}
		h.made++
		if old := byRevision[s.acceptedAt]; old != nil && old.expire != 0 {
			old = nil // maintenance came too late
			byRevision[s.acceptedAt] = old
		}
		if s.acceptedAt <= s.from || s.acceptedAt > s.to || byRevision[s.acceptedAt] != nil {
			t.Errorf("history %d: a change made revision %d, and lasted from %d to %d", h.n, s.acceptedAt, s.from, s.to)
		}
		byRevision[s.acceptedAt] = s
	}
	// Replay, and keep the model of every revision.
	states := map[core.Revision]*model{begin: &h.initial}
	for rev := begin + 1; rev <= end; rev++ {
		before := states[rev-1]
		after := &model{before.parent, before.groups, slices.Clone(before.rules)}
		s := byRevision[rev]
		switch {
		case s == nil:
			t.Errorf("history %d: nobody made revision %d", h.n, rev)
		case s.create != nil:
			if at := s.made.CreatedAt.Unix(); at < s.begin || at > s.end {
				t.Errorf("history %d: %s was created at %s", h.n, access.Sentence(s.made), s.made.CreatedAt)
			}
			if err := before.creates(s.who, *s.create, s.made.CreatedAt); err != nil {
				t.Errorf("history %d: %s created %s, which the model refuses: %v", h.n, s.who, access.Sentence(s.made), err)
			}
			after.rules = append(after.rules, s.made)
		case s.expire != 0:
			i := after.find(s.expire)
			if i < 0 || after.rules[i].Live(time.Unix(s.end, 0)) {
				t.Fatalf("history %d: maintenance took rule %d away: %v", h.n, s.expire, after.rules)
			}
			after.rules = slices.Delete(after.rules, i, i+1)
		default:
			if !s.during(func(now time.Time) bool { return before.deletes(s.who, s.delete, h.tenant, now) == nil }) {
				t.Errorf("history %d: %s deleted rule %d, which the model refuses", h.n, s.who, s.delete)
			}
			i := after.find(s.delete)
			if i < 0 {
				t.Fatalf("history %d: rule %d is gone twice", h.n, s.delete)
			}
			after.rules = slices.Delete(after.rules, i, i+1)
		}
		states[rev] = after
	}
	for _, s := range h.steps {
		if s.err == nil {
			continue
		}
		explained := false
		for rev := s.from; rev <= s.to && !explained && s.expire == 0; rev++ {
			explained = s.during(func(now time.Time) bool {
				var want error
				if s.create != nil {
					want = states[rev].creates(s.who, *s.create, now)
				} else {
					want = states[rev].deletes(s.who, s.delete, h.tenant, now)
				}
				return want != nil && errors.Is(s.err, want)
			})
		}
		if !explained {
			t.Errorf("history %d: %+v was refused, and at no moment does the model refuse it so", h.n, s)
		}
	}
	h.checkEnd(t, states[end])
}

// checkEnd compares what there is in the end with the model, now and at later times.
func (h *history) checkEnd(t *testing.T, final *model) {
	t.Helper()
	ctx := t.Context()
	r := rand.New(rand.NewPCG(uint64(h.n), 9))
	now := h.clock.Load()
	for hours := range 6 {
		if hours > 0 && r.IntN(3) > 0 {
			continue
		}
		// The last second before a rule may end, and that second itself.
		h.clock.Store(now + int64(hours)*3600 - int64(r.IntN(2)*min(hours, 1)))
		at := time.Unix(h.clock.Load(), 0)
		for _, who := range h.people {
			scope := pick(r, h.scopes)
			held, err := h.access.Permissions(ctx, h.tenant, who, scope)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range policy.Entities() {
				for _, a := range policy.Actions() {
					if held.Has(e, a) != final.holds(who, e, a, scope, at) {
						t.Errorf("history %d, hour %d: %s on %s by %s in %s: %v, the model says otherwise", h.n, hours, a, e, who, scope, held.Has(e, a))
					}
					// Nobody holds what nobody was given at the beginning, for as long.
					if held.Has(e, a) && !h.initial.anyone(e, a, scope, at) {
						t.Errorf("history %d, hour %d: %s holds %s on %s in %s, which nobody held who could have given it", h.n, hours, who, a, e, scope)
					}
				}
			}
		}
	}
	// Whoever may view access rules finds those, and no others, that hold.
	who := pick(r, h.people)
	page, err := h.access.List(ctx, core.Actor{Tenant: h.tenant, Subject: who}, access.Query{Limit: access.MaxPage})
	if err != nil {
		t.Fatal(err)
	}
	seen := idsOf(page.Rules)
	slices.Sort(seen)
	visible := []core.RuleID{}
	for _, rule := range final.rules {
		if at := time.Unix(h.clock.Load(), 0); rule.Live(at) && final.holds(who, policy.AccessRules, policy.View, rule.Scope, at) {
			visible = append(visible, rule.ID)
		}
	}
	if !slices.Equal(seen, visible) {
		t.Errorf("history %d: %s sees %v, want %v", h.n, who, seen, visible)
	}
	// The three forms say the same.
	var want, rules, index, grants []core.RuleID
	for _, rule := range final.rules {
		want = append(want, rule.ID)
	}
	for _, rule := range list[core.Rule](t, h.db, store.Rules(h.tenant)) {
		rules = append(rules, rule.ID)
	}
	for _, in := range h.scopes {
		for _, rule := range list[core.Rule](t, h.db, store.ScopeRules(h.tenant, in)) {
			index = append(index, rule.ID)
		}
	}
	for _, who := range h.subjects {
		for it, err := range h.db.List(ctx, store.GrantsOf(h.tenant, who)) {
			if err != nil {
				t.Fatal(err)
			}
			list, err := policy.DecodeGrants(it.Body)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range list {
				grants = append(grants, g.Rule)
			}
		}
	}
	for _, ids := range [][]core.RuleID{want, rules, index, grants} {
		slices.Sort(ids)
	}
	if !slices.Equal(rules, want) || !slices.Equal(index, want) || !slices.Equal(grants, want) {
		t.Errorf("history %d: the rules are %v, indexed %v, granted %v; want %v", h.n, rules, index, grants, want)
	}
}

// anyone says whether a permission is held by anybody at all.
func (m *model) anyone(e policy.Entity, a policy.Action, scope core.ScopeID, at time.Time) bool {
	for _, r := range m.rules {
		if m.within(scope, r.Scope) && r.Live(at) && policy.Permits(r.Role, e, a) {
			return true
		}
	}
	return false
}
