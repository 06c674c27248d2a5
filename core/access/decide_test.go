package access_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

func TestDecide(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(group("physicists"), policy.L1Researcher, h.ids["physics"])
	h.seed(user("cyd"), policy.Viewer, h.ids["loose"])
	robot := h.application("robot")
	h.seed(robot, policy.Editor, h.ids["north"])
	h.tenant("globex")
	foreign := h.cluster("globex", "foreign")

	h.want(true, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], `L1 researcher in department physics through group "physicists"`)
	h.want(true, core.Subject{Kind: core.User, ID: "BOB@example.com"}, policy.Create, policy.Jobs, h.ids["quarks"], "L1 researcher")
	h.want(false, user("bob"), policy.Create, policy.Jobs, h.ids["acids"], "needs create on jobs in project acids; holds no rule there or above")
	h.want(false, user("cyd"), policy.Create, policy.Jobs, h.ids["loose"], "holds Viewer in project loose")
	h.want(true, user("cyd"), policy.View, policy.Jobs, h.ids["loose"], "Viewer in project loose")
	h.want(true, user("ada"), policy.Create, policy.Cluster, h.account, "System administrator in the account")
	h.want(true, robot, policy.Delete, policy.Project, h.ids["acids"], "Editor in cluster north")
	h.want(false, robot, policy.Delete, policy.Project, h.ids["iron"], "no rule")
	h.want(true, group("physicists"), policy.View, policy.Jobs, h.ids["physics"], "L1 researcher")

	// What is not known, and what looks like it.
	h.want(false, user("nobody"), policy.View, policy.Jobs, h.ids["quarks"], "no such subject")
	h.want(false, core.Subject{Kind: "robot", ID: "x"}, policy.View, policy.Jobs, h.ids["quarks"], "no such subject")
	h.want(false, core.SystemActor(acme).Subject, policy.View, policy.Jobs, h.ids["quarks"], "no such subject")
	h.want(false, group("system:masters"), policy.View, policy.Jobs, h.ids["quarks"], "no such subject")
	h.want(false, user("ada"), policy.View, policy.Jobs, foreign, "no such scope")
	h.want(false, user("ada"), policy.View, policy.Jobs, "globex", "no such scope")
	h.want(false, user("ada"), policy.View, policy.Jobs, "", "no such scope")
	h.want(false, user("ada"), policy.View, policy.Jobs, h.ids["quarks"]+"\x1fx", "no such scope")
	h.want(false, user("ada"), policy.View, 0, h.ids["quarks"], "no such kind of thing")
	h.want(false, user("ada"), policy.View|policy.Edit, policy.Jobs, h.ids["quarks"], "no such action")
	if _, _, err := h.access.Decide(ctx, "nowhere", access.Ask{Subject: user("ada"), Entity: policy.Jobs, Action: policy.View, Scope: "nowhere"}); !errors.Is(err, core.NotFound) {
		t.Errorf("a tenant that there is not: %v", err)
	}

	// A rule may name someone who is not there yet; until then, nobody is allowed anything by it.
	h.seed(user("new"), policy.Viewer, h.ids["quarks"])
	h.want(false, user("new"), policy.View, policy.Jobs, h.ids["quarks"], "no such subject")
	h.person("new")
	h.want(true, user("new"), policy.View, policy.Jobs, h.ids["quarks"], "Viewer")

	// Another person with the e-mail of a deleted one is not that one.
	rec, err := h.dir.User(ctx, acme, email("new"))
	h.must(err)
	ask := access.Ask{Subject: user("new"), UserID: rec.Value.ID, Entity: policy.Jobs, Action: policy.View, Scope: h.ids["quarks"]}
	if d, _, err := h.access.Decide(ctx, acme, ask); err != nil || !d.Allowed {
		t.Errorf("the very person: %v, %v", d, err)
	}
	h.must(h.dir.DeleteUser(ctx, core.SystemActor(acme), acme, email("new")))
	h.person("new")
	if d, _, err := h.access.Decide(ctx, acme, ask); err != nil || d.Code != policy.UnknownSubject {
		t.Errorf("another person of that e-mail: %v, %v", d, err)
	}

	_, err = h.dir.Disable(ctx, core.SystemActor(acme), acme, email("bob"))
	h.must(err)
	h.want(false, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], "disabled")
	_, err = h.dir.Enable(ctx, core.SystemActor(acme), acme, email("bob"))
	h.must(err)
	h.want(true, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], "L1 researcher")
	_, err = h.dir.SetEnabled(ctx, core.SystemActor(acme), acme, core.ApplicationID(robot.ID), false)
	h.must(err)
	h.want(false, robot, policy.Delete, policy.Project, h.ids["acids"], "disabled")

	h.must(h.org.Suspend(ctx, core.SystemActor(core.SystemTenant), acme))
	h.want(false, user("ada"), policy.View, policy.Jobs, h.ids["quarks"], "suspended")
	if err := h.access.Allowed(ctx, actor(user("ada")), policy.Jobs, policy.View, h.account); !errors.Is(err, core.NotFound) {
		t.Errorf("a suspended tenant looks absent: %v", err)
	}
	if _, err := h.access.Create(ctx, actor(user("ada")), access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.account}); !errors.Is(err, core.NotFound) {
		t.Errorf("a rule in a suspended tenant: %v", err)
	}
	h.must(h.org.Resume(ctx, core.SystemActor(core.SystemTenant), acme))
	h.want(true, user("ada"), policy.View, policy.Jobs, h.ids["quarks"], "System administrator")
}

func TestAllowed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	if err := h.access.Allowed(ctx, actor(user("ada")), policy.Jobs, policy.Create, h.ids["quarks"]); err != nil {
		t.Error(err)
	}
	err := h.access.Allowed(ctx, actor(user("bob")), policy.Jobs, policy.Create, h.ids["quarks"])
	if !errors.Is(err, core.Denied) || err.Error() != "needs create on jobs in project quarks; holds no rule there or above: denied" {
		t.Errorf("bob: %v", err)
	}
	if err := h.access.Allowed(ctx, actor(user("ada")), policy.Jobs, policy.Create, "elsewhere"); !errors.Is(err, core.NotFound) {
		t.Errorf("an unknown scope: %v", err)
	}
}

// Access follows the tree at once, both ways (TEN-003), and what is deleted above or below is gone at once.
func TestTree(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.L1Researcher, h.ids["physics"])
	h.seed(user("cyd"), policy.L1Researcher, h.ids["chemistry"])
	robot := h.application("robot")
	h.seed(robot, policy.L1Researcher, h.ids["quarks"])
	ask := func(who core.Subject, allowed bool) {
		t.Helper()
		h.want(allowed, who, policy.Create, policy.Jobs, h.ids["quarks"], "")
	}
	for range 2 { // there and back
		ask(user("bob"), true)
		ask(user("cyd"), false)
		ask(robot, true)
		_, err := h.org.Move(ctx, core.SystemActor(acme), acme, h.ids["quarks"], h.ids["chemistry"])
		h.must(err)
		ask(user("bob"), false)
		ask(user("cyd"), true)
		ask(robot, true)
		_, err = h.org.Move(ctx, core.SystemActor(acme), acme, h.ids["quarks"], h.ids["physics"])
		h.must(err)
	}
	h.must(h.org.DeleteScope(ctx, core.SystemActor(acme), acme, h.ids["physics"], true))
	for _, who := range []core.Subject{user("ada"), user("bob"), robot} { // before any sweep
		h.want(false, who, policy.Create, policy.Jobs, h.ids["quarks"], "no such scope")
	}
	h.want(true, user("cyd"), policy.Create, policy.Jobs, h.ids["acids"], "")

	sweep := func(id core.ScopeID) {
		t.Helper()
		h.must(h.org.Sweep(ctx, acme, id, func(ctx context.Context, tenant core.TenantID, sc org.Scope) error {
			_, err := h.access.DeleteAllAt(ctx, core.SystemActor(tenant), sc.ID)
			return err
		}))
	}
	sweep(h.ids["physics"])
	sweep(h.ids["physics"]) // again is nothing
	if left, err := h.access.ForSubjects(ctx, acme, user("bob"), robot); err != nil || len(left) != 0 {
		t.Errorf("the sweep left %v, %v", left, err)
	}
	if left, err := h.access.ForSubjects(ctx, acme, user("cyd"), user("ada")); err != nil || len(left) != 2 {
		t.Errorf("the sweep took rules elsewhere: %v, %v", left, err)
	}
	if _, err := h.access.DeleteAllAt(ctx, core.SystemActor(acme), h.account); !errors.Is(err, core.Unsupported) {
		t.Errorf("a sweep of the account: %v", err)
	}
}

// TestRoundTrips counts: two for a person, one for an application, whatever the number of rules.
func TestRoundTrips(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	robot := h.application("robot")
	h.seed(robot, policy.Editor, h.ids["north"])
	h.seed(group("physicists"), policy.Viewer, h.ids["physics"])
	for i := range 120 {
		h.seed(user(fmt.Sprintf("other%d", i)), policy.Viewer, h.ids["quarks"])
	}
	ask := func(who core.Subject, scope core.ScopeID) access.Ask {
		return access.Ask{Subject: who, Entity: policy.Jobs, Action: policy.View, Scope: scope}
	}
	if _, _, err := h.access.Decide(ctx, acme, ask(robot, h.ids["quarks"])); err != nil { // learns where quarks lies
		t.Fatal(err)
	}
	for _, scope := range []core.ScopeID{h.account, h.ids["north"], h.ids["physics"], h.ids["quarks"], h.ids["loose"]} {
		for _, tt := range []struct {
			who  core.Subject
			want int
		}{{user("bob"), 2}, {robot, 1}, {group("physicists"), 1}, {user("nobody"), 1}} {
			h.db.Reset()
			_, _, err := h.access.Decide(ctx, acme, ask(tt.who, scope))
			h.must(err)
			if got := h.db.Reset(); got.RoundTrips() != tt.want {
				t.Errorf("%s in %s: %d round trips, want %d", tt.who, scope, got.RoundTrips(), tt.want)
			}
		}
	}
	h.db.Reset()
	_, err := h.access.DecideAll(ctx, acme, ask(user("bob"), h.ids["quarks"]), ask(user("ada"), h.ids["acids"]), ask(robot, h.ids["loose"]), ask(user("bob"), h.account))
	h.must(err)
	if got := h.db.Reset(); got.RoundTrips() > 2 {
		t.Errorf("four questions at once: %d round trips, want 2", got.RoundTrips())
	}
	fresh := &access.Service{DB: h.db, Now: h.now}
	_, _, err = fresh.Decide(ctx, acme, ask(robot, h.ids["quarks"]))
	h.must(err)
	if got := h.db.Reset(); got.RoundTrips() > 2 {
		t.Errorf("an application in a department's project, asked the first time: %d round trips, want at most 2", got.RoundTrips())
	}
}

// Many groups are read in several round trips, at one revision.
func TestManyGroups(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	var names []core.GroupName
	for i := range 130 {
		name := fmt.Sprintf("group-%03d", i)
		h.group(name, "cyd")
		names = append(names, core.GroupName(name))
	}
	h.seed(group("group-129"), policy.L1Researcher, h.ids["quarks"])
	h.db.Reset()
	h.want(true, user("cyd"), policy.Create, policy.Jobs, h.ids["quarks"], `through group "group-129"`)
	if got := h.db.Reset(); got.RoundTrips() != 4 { // 1 + 260 keys
		t.Errorf("%d round trips, want 4", got.RoundTrips())
	}
	h.seed(group("group-007"), policy.Viewer, h.account)
	ends, err := h.access.Seed(ctx, acme, access.NewRule{Subject: group("group-050"), Role: policy.Viewer, Scope: h.ids["physics"], ExpiresAt: h.now().Add(time.Minute)})
	h.must(err)
	h.seed(group("group-100"), policy.Viewer, h.ids["south"])
	north, _ := h.ids["north"].ClusterOf()
	for _, tt := range []struct {
		after time.Duration
		want  []core.GroupName
	}{{0, []core.GroupName{"group-007", "group-050", "group-129"}}, {time.Minute, []core.GroupName{"group-007", "group-129"}}} {
		h.pass(tt.after)
		got, err := h.access.RelevantGroups(ctx, acme, names, north)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("relevant in north after %v (%v): %v, %v; want %v", tt.after, ends, got, err, tt.want)
		}
	}
	h.db.Reset()
	if got, err := h.access.RelevantGroups(ctx, acme, names[:49], north); err != nil || len(got) != 1 || h.db.Reset().RoundTrips() != 1 {
		t.Errorf("49 groups: %v, %v, and not in one round trip", got, err)
	}
}

// The new enemy (TEN-009): once a rule is taken away, no decision allows by it, and every answer says at which revision it
// is true, never an older one than was acknowledged before.
func TestNewEnemy(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.group("others", "bob")
	ask := access.Ask{Subject: user("bob"), Entity: policy.Jobs, Action: policy.Create, Scope: h.ids["quarks"]}
	for i := range 50 {
		r := h.seed(group([]string{"physicists", "others"}[i%2]), policy.L1Researcher, h.ids["physics"])
		d, rev, err := h.access.Decide(ctx, acme, ask)
		if err != nil || !d.Allowed || rev < core.Revision(r.ID) {
			t.Fatalf("round %d: after the grant of revision %d: %v at %d, %v", i, r.ID, d, rev, err)
		}
		h.must(h.access.Delete(ctx, actor(user("ada")), r.ID))
		gone := h.revision(acme)
		d, rev, err = h.access.Decide(ctx, acme, ask)
		if err != nil || d.Allowed || rev < gone {
			t.Fatalf("round %d: after the removal of revision %d: %v at %d, %v", i, gone, d, rev, err)
		}
	}
}

// between is a DB in which something happens once, right before the nth read.
type between struct {
	store.DB
	n    atomic.Int64
	then func()
}

func (b *between) tick() {
	if b.n.Add(-1) == 0 {
		b.then()
	}
}

func (b *between) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	b.tick()
	return b.DB.Get(ctx, keys...)
}

func (b *between) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	b.tick()
	return b.DB.List(ctx, r)
}

// What is read in several round trips is of one revision. Bob holds a role at all times, first through his group and then
// by name: an answer put together from a look at his name before the change and one at his group after it would find it
// nowhere.
func TestOneRevision(t *testing.T) {
	for n := 1; n <= 4; n++ {
		h := newHouse(t)
		ctx := t.Context()
		first := h.seed(group("physicists"), policy.L1Researcher, h.ids["quarks"])
		db := &between{DB: h.db, then: func() {
			h.seed(user("bob"), policy.L1Researcher, h.ids["quarks"])
			h.must(h.access.Delete(ctx, actor(user("ada")), first.ID))
		}}
		torn := &access.Service{DB: db, Now: h.now}
		ask := access.Ask{Subject: user("bob"), Entity: policy.Jobs, Action: policy.Create, Scope: h.ids["quarks"]}
		db.n.Store(int64(n))
		if d, _, err := torn.Decide(ctx, acme, ask); err != nil || !d.Allowed {
			t.Errorf("a change before read %d of a decision: %v, %v", n, d, err)
		}
	}
	for n := 1; n <= 6; n++ {
		h := newHouse(t)
		ctx := t.Context()
		first := h.seed(group("physicists"), policy.L1Researcher, h.ids["quarks"])
		db := &between{DB: h.db, then: func() {
			h.seed(user("bob"), policy.L1Researcher, h.ids["quarks"])
			h.must(h.access.Delete(ctx, actor(user("ada")), first.ID))
		}}
		torn := &access.Service{DB: db, Now: h.now}
		db.n.Store(int64(n))
		scopes, err := torn.PermittedScopes(ctx, acme, user("bob"), policy.Jobs, policy.Create)
		if err != nil || len(scopes) != 1 || scopes[0].ID != h.ids["quarks"] {
			t.Errorf("a change before read %d of a search: %v, %v", n, scopes, err)
		}
	}
}

// A grant is judged by the access that its giver has when it is written: one who loses the right while the grant is made,
// after it was checked, does not give it (and does, where another rule changes meanwhile).
func TestGrantWhileRevoked(t *testing.T) {
	for n := 2; n <= 5; n++ {
		for _, own := range []bool{true, false} {
			h := newHouse(t)
			ctx := t.Context()
			bobs := h.seed(group("physicists"), policy.DepartmentAdministrator, h.ids["physics"])
			other := h.seed(user("eve"), policy.Viewer, h.ids["loose"])
			db := &between{DB: h.db, then: func() {
				id := other.ID
				if own {
					id = bobs.ID
				}
				h.must(h.access.Delete(ctx, actor(user("ada")), id))
			}}
			db.n.Store(int64(n))
			racing := &access.Service{DB: &commitTicks{between: db}, Now: h.now}
			_, err := racing.Create(ctx, actor(user("bob")), access.NewRule{Subject: user("cyd"), Role: policy.L1Researcher, Scope: h.ids["quarks"]})
			happened := db.n.Load() <= 0
			if own && happened && !errors.Is(err, core.Denied) {
				t.Errorf("his own right is taken before step %d: %v, want denied", n, err)
			}
			if (!own || !happened) && err != nil {
				t.Errorf("another's right is taken before step %d: %v", n, err)
			}
		}
	}
}

// commitTicks lets something happen before commits, too.
type commitTicks struct{ *between }

func (c *commitTicks) Commit(ctx context.Context, ops ...store.Op) error {
	c.tick()
	return c.between.Commit(ctx, ops...)
}
