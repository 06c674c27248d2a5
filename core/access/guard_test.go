package access_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// Who may grant what, where (TEN-001): each refusal stands beside the nearest grant that is allowed.
func TestDelegation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("cyd"), policy.Viewer, h.account)
	h.seed(user("cyd"), policy.ResearchManager, h.ids["acids"])
	_, err := h.access.Seed(ctx, acme, access.NewRule{Subject: user("eve"), Role: policy.Editor, Scope: h.ids["south"], ExpiresAt: h.now().Add(time.Hour)})
	h.must(err)
	robot := h.application("robot")
	h.seed(robot, policy.DepartmentAdministrator, h.ids["chemistry"])

	for _, tt := range []struct {
		who   core.Subject
		role  core.RoleID
		scope string
		until time.Duration
		want  string // empty: allowed
	}{
		{user("bob"), policy.L1Researcher, "physics", 0, ""},
		{user("bob"), policy.L1Researcher, "quarks", 0, ""},
		{user("bob"), policy.DepartmentAdministrator, "quarks", 0, ""},
		{user("bob"), policy.L1Researcher, "acids", 0, "needs create on access_rules in project acids"},
		{user("bob"), policy.L1Researcher, "chemistry", 0, "needs create on access_rules in department chemistry"},
		{user("bob"), policy.L1Researcher, "north", 0, "needs create on access_rules in cluster north"},
		{user("bob"), policy.L1Researcher, "", 0, "needs create on access_rules in the account"},
		{user("bob"), policy.Editor, "physics", 0, "Editor includes edit on department, which you do not hold in department physics"},
		{user("bob"), policy.SystemAdministrator, "quarks", 0, "which you do not hold in project quarks"},
		{user("bob"), policy.CloudOperator, "physics", 0, "which you do not hold"},
		// cyd may create access rules in acids alone, and holds view everywhere: neither lends itself to the other
		{user("cyd"), policy.L2Researcher, "acids", 0, "L2 researcher includes edit on jobs"},
		{user("cyd"), policy.ResearchManager, "acids", 0, ""},
		{user("cyd"), policy.Viewer, "acids", 0, ""}, // partly by the one rule, partly by the other: both reach acids
		{user("cyd"), policy.Viewer, "loose", 0, "needs create on access_rules in project loose"},
		{user("cyd"), policy.DepartmentViewer, "", 0, "needs create on access_rules in the account"},
		// what eve holds until an hour from now, she cannot give for longer
		{user("eve"), policy.Editor, "iron", time.Hour, ""},
		{user("eve"), policy.Viewer, "iron", time.Minute, ""},
		{user("eve"), policy.MLEngineer, "iron", 0, "needs"},
		{user("eve"), policy.Viewer, "south", time.Hour + time.Second, "not for as long as the rule would last"},
		{user("eve"), policy.Viewer, "south", 0, "not for as long as the rule would last"},
		{robot, policy.Viewer, "acids", 0, ""},
		{robot, policy.Viewer, "quarks", 0, "needs create on access_rules"},
		{user("nobody"), policy.Viewer, "quarks", 0, "no such subject"},
		{core.SystemActor(acme).Subject, policy.Viewer, "quarks", 0, "no such subject"},
		{user("ada"), policy.SystemAdministrator, "", 0, ""},
	} {
		scope := h.ids[tt.scope]
		if tt.scope == "" {
			scope = h.account
		}
		n := access.NewRule{Subject: group("target of " + tt.who.ID), Role: tt.role, Scope: scope}
		if tt.until != 0 {
			n.ExpiresAt = h.now().Add(tt.until)
		}
		before := h.revision(acme)
		_, err := h.access.Create(ctx, actor(tt.who), n)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s gives role %d in %q: %v", tt.who, tt.role, tt.scope, err)
		case tt.want != "" && tt.want != "needs" && (!errors.Is(err, core.Denied) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s gives role %d in %q: %v, want denied: %s", tt.who, tt.role, tt.scope, err, tt.want)
		case tt.want != "" && (!errors.Is(err, core.Denied) || h.revision(acme) != before):
			t.Errorf("%s gives role %d in %q: %v, and the revision went from %d to %d", tt.who, tt.role, tt.scope, err, before, h.revision(acme))
		}
	}
	// A batch is as strict as its strictest rule.
	_, err = h.access.CreateBatch(ctx, actor(user("bob")), []access.NewRule{
		{Subject: group("a"), Role: policy.Viewer, Scope: h.ids["quarks"]},
		{Subject: group("a"), Role: policy.Viewer, Scope: h.ids["acids"]},
	})
	if !errors.Is(err, core.Denied) || !strings.HasPrefix(err.Error(), "rule 1 of the batch") {
		t.Errorf("a batch that leaves the department: %v", err)
	}
	if left, err := h.access.ForSubjects(ctx, acme, group("a")); err != nil || len(left) != 0 {
		t.Errorf("the refused batch left %v, %v", left, err)
	}
}

// Who could not have given a rule cannot take it away either.
func TestDelegationOfDelete(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("cyd"), policy.Viewer, h.account)
	mine := h.seed(user("eve"), policy.L1Researcher, h.ids["quarks"])
	beside := h.seed(user("eve"), policy.L1Researcher, h.ids["acids"])
	above := h.seed(user("eve"), policy.L1Researcher, h.ids["north"])
	higher := h.seed(user("eve"), policy.SystemAdministrator, h.ids["quarks"])
	for _, tt := range []struct {
		who  string
		rule core.Rule
	}{{"bob", beside}, {"bob", above}, {"bob", higher}, {"cyd", mine}, {"nobody", mine}} {
		if err := h.access.Delete(ctx, actor(user(tt.who)), tt.rule.ID); !errors.Is(err, core.Denied) {
			t.Errorf("%s takes %s: %v, want denied", tt.who, access.Sentence(tt.rule), err)
		}
		if _, err := h.access.Get(ctx, acme, tt.rule.ID); err != nil {
			t.Errorf("it is gone: %v", err)
		}
	}
	if err := h.access.Delete(ctx, actor(user("bob")), mine.ID); err != nil {
		t.Errorf("bob takes what he could give: %v", err)
	}
	if err := h.access.Delete(ctx, actor(user("ada")), higher.ID); err != nil {
		t.Errorf("ada takes what she could give: %v", err)
	}
	h.tenant("globex")
	stranger := core.Actor{Tenant: "globex", Subject: user("ada")}
	if err := h.access.Delete(ctx, stranger, above.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("a rule of another tenant: %v, want core.NotFound", err)
	}
}

// The last administrator cannot be removed (TEN-005).
func TestLastAdministrator(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	admin := func(who core.Subject, until time.Duration) core.Rule {
		n := access.NewRule{Subject: who, Role: policy.SystemAdministrator, Scope: h.account}
		if until != 0 {
			n.ExpiresAt = h.now().Add(until)
		}
		made, err := h.access.Seed(ctx, acme, n)
		h.must(err)
		return made[0]
	}
	adas, err := h.access.ForSubjects(ctx, acme, user("ada"))
	h.must(err)
	// None of these keeps the account from being locked: they may be empty, absent, disabled, over soon, or not enough.
	admin(group("physicists"), 0)
	admin(user("not.there"), 0)
	admin(user("eve"), 0)
	_, err = h.dir.Disable(ctx, core.SystemActor(acme), acme, email("eve"))
	h.must(err)
	admin(user("cyd"), time.Hour)
	admin(h.application("robot"), 0)
	h.seed(user("cyd"), policy.SystemAdministrator, h.ids["north"])
	h.seed(user("cyd"), policy.ApplicationAdministrator, h.account)

	if err := h.access.Delete(ctx, actor(user("ada")), adas[0].ID); !errors.Is(err, access.ErrLastAdministrator) || !errors.Is(err, core.Denied) {
		t.Errorf("the last administrator takes her own rule: %v", err)
	}
	if _, err := h.access.DeleteAllOf(ctx, core.SystemActor(acme), user("ada")); !errors.Is(err, access.ErrLastAdministrator) {
		t.Errorf("all rules of the last administrator: %v", err)
	}
	if err := h.access.KeepsAdministrator(ctx, acme, user("ada")); !errors.Is(err, access.ErrLastAdministrator) {
		t.Errorf("without ada: %v", err)
	}
	if err := h.access.KeepsAdministrator(ctx, acme, user("cyd")); err != nil {
		t.Errorf("without cyd, who keeps nothing: %v", err)
	}
	// The twin: with another administrator, each of them can go, but not both.
	cyds := admin(user("bob"), 0)
	if err := h.access.KeepsAdministrator(ctx, acme, user("ada")); err != nil {
		t.Errorf("without ada, but with bob: %v", err)
	}
	if err := h.access.Delete(ctx, actor(user("ada")), adas[0].ID); err != nil {
		t.Errorf("the last but one: %v", err)
	}
	if err := h.access.Delete(ctx, actor(user("bob")), cyds.ID); !errors.Is(err, access.ErrLastAdministrator) {
		t.Errorf("and then the last: %v", err)
	}
}

// Two administrators who take each other's rule at the same time do not both succeed.
func TestLastTwoAdministrators(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for range 30 {
		bobs := h.seed(user("bob"), policy.SystemAdministrator, h.account)
		adas, err := h.access.ForSubjects(ctx, acme, user("ada"))
		h.must(err)
		errs := make(chan error, 2)
		go func() { errs <- h.access.Delete(ctx, actor(user("bob")), adas[0].ID) }()
		go func() { errs <- h.access.Delete(ctx, actor(user("ada")), bobs.ID) }()
		one, two := <-errs, <-errs
		if (one == nil) == (two == nil) {
			t.Fatalf("%v and %v: exactly one must be taken away", one, two)
		}
		if err := h.access.KeepsAdministrator(ctx, acme, user("nobody")); err != nil {
			t.Fatal(err)
		}
		left, err := h.access.ForSubjects(ctx, acme, user("ada"), user("bob"))
		h.must(err)
		if len(left) != 1 {
			t.Fatalf("left: %v", left)
		}
		if left[0].Subject == user("bob") { // ada again, for the next round
			h.seed(user("ada"), policy.SystemAdministrator, h.account)
			h.must(h.access.Delete(ctx, actor(user("ada")), left[0].ID))
		}
	}
}

// Nor do two who disable each other, delete each other, or have each other's rules taken, at the same time.
func TestLastTwoAdministratorsByEveryWay(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.SystemAdministrator, h.account)
	system := core.SystemActor(acme)
	for name, take := range map[string]func(who string) error{
		"disable": func(who string) error { _, err := h.dir.Disable(ctx, system, acme, email(who)); return err },
		"delete":  func(who string) error { return h.dir.DeleteUser(ctx, system, acme, email(who)) },
		"rules":   func(who string) error { _, err := h.access.DeleteAllOf(ctx, system, user(who)); return err },
	} {
		for range 10 {
			errs := make(chan error, 2)
			for _, who := range []string{"ada", "bob"} {
				go func() { errs <- take(who) }()
			}
			one, two := <-errs, <-errs
			if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), access.ErrLastAdministrator) {
				t.Fatalf("%s: %v and %v: exactly one must be taken", name, one, two)
			}
			for _, who := range []string{"ada", "bob"} { // both again, for the next round
				if _, err := h.dir.User(ctx, acme, email(who)); errors.Is(err, core.NotFound) {
					h.person(who)
				}
				_, err := h.dir.Enable(ctx, system, acme, email(who))
				h.must(err)
				if left, err := h.access.ForSubjects(ctx, acme, user(who)); err != nil || !slices.ContainsFunc(left, func(r core.Rule) bool { return r.Role == policy.SystemAdministrator }) {
					h.must(err)
					h.seed(user(who), policy.SystemAdministrator, h.account)
				}
			}
		}
	}
}

func TestExpire(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	made, err := h.access.Seed(ctx, acme,
		access.NewRule{Subject: user("bob"), Role: policy.L1Researcher, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Minute)},
		access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.ids["quarks"]})
	h.must(err)
	before := h.revision(acme)
	h.pass(time.Minute - time.Second)
	h.must(h.access.Expire(ctx, acme, made[0].ID)) // early: maintenance's clock is ahead
	h.want(true, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], "until")
	if h.revision(acme) != before {
		t.Error("an early expiry changed something")
	}
	h.pass(time.Second)
	h.want(false, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], "held L1 researcher in project quarks") // by itself, before maintenance came
	for range 2 {                                                                                                   // it comes at least once
		h.must(h.access.Expire(ctx, acme, made[0].ID))
		if h.revision(acme) != before+1 {
			t.Errorf("revision %d, want %d", h.revision(acme), before+1)
		}
	}
	h.must(h.access.Expire(ctx, acme, made[1].ID)) // has no end
	h.must(h.access.Expire(ctx, acme, 999999))
	left, err := h.access.ForSubjects(ctx, acme, user("bob"))
	if err != nil || len(left) != 1 || left[0].ID != made[1].ID {
		t.Errorf("left: %v, %v", left, err)
	}
	h.want(false, user("bob"), policy.Create, policy.Jobs, h.ids["quarks"], "holds Viewer")
}

// A welcome token's redeemer becomes administrator. Whoever is there already does so only where nobody can be asked for
// the role, and without a second rule.
func TestFirstAdministrator(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	redeem := func(name string) error {
		token, err := h.org.Welcome(ctx, core.SystemActor(core.SystemTenant), acme)
		h.must(err)
		_, err = h.dir.RedeemWelcome(ctx, core.Actor{Tenant: acme}, token, string(email(name)), "correct horse battery staple", h.access.FirstAdministrator)
		return err
	}
	h.must(redeem("first"))
	for _, name := range []string{"first", "bob"} {
		var field *core.FieldError
		if err := redeem(name); !errors.As(err, &field) || field.Field != "email" {
			t.Errorf("%s, who is there: %v", name, err)
		}
	}
	h.want(false, user("bob"), policy.Create, policy.Cluster, h.account, "")
	// Nobody is left who could be asked: as after a mishap, which no request can bring about.
	for rec, err := range directory.Users.List(ctx, h.db, store.Users(acme)) {
		h.must(err)
		u := rec.Value
		u.Disabled = true
		op, err := directory.Users.Put(rec.Key, rec.Version, u)
		h.must(err)
		h.must(h.db.Commit(ctx, op))
	}
	for _, name := range []string{"first", "second"} {
		h.must(redeem(name))
		h.want(true, user(name), policy.Create, policy.Cluster, h.account, "System administrator in the account")
		rules, err := h.access.ForSubjects(ctx, acme, user(name))
		if err != nil || len(rules) != 1 {
			t.Errorf("%s has rules %v, %v", name, rules, err)
		}
	}
}
