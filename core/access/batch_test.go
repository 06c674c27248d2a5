package access_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

func groups(n int, role core.RoleID, scope core.ScopeID) (all []access.NewRule) {
	for i := range n {
		all = append(all, access.NewRule{Subject: group(fmt.Sprint("team-", i)), Role: role, Scope: scope})
	}
	return all
}

// Of many rules, each is made that may be, and each other is refused for its own reason; all that may be of one commit are in it.
func TestCreateEach(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	all := groups(40, policy.Viewer, h.ids["quarks"])
	all[3].Scope = h.ids["acids"]
	all[5].Subject.ID = "system:masters"
	all[7].Role = policy.SystemAdministrator
	all[20].Scope = "nowhere"
	all[30] = all[0]
	all[31].ExpiresAt = h.now()
	all[39].ScopeKind = core.Cluster
	wrong := map[int]core.Kind{3: core.Denied, 5: core.Invalid, 7: core.Denied, 20: core.NotFound, 30: core.Exists, 31: core.Invalid, 39: core.Invalid}
	h.db.Reset()
	done, err := h.access.CreateEach(ctx, actor(user("bob")), all)
	h.must(err)
	if c := h.db.Reset(); c.Commits != 3 || len(done) != len(all) {
		t.Errorf("%d outcomes of %d commits, want %d and 3", len(done), c.Commits, len(all))
	}
	for i, d := range done {
		if kind, is := wrong[i]; is != (d.Err != nil) || is && !errors.Is(d.Err, kind) {
			t.Errorf("rule %d: %v, want %q", i, d.Err, kind)
		}
		if got, err := h.access.Get(ctx, acme, d.Rule.ID); d.Err == nil && (err != nil || got != d.Rule || got.Subject != all[i].Subject) {
			t.Errorf("rule %d is %v, %v, want %v", i, got, err, d.Rule)
		}
	}
	if rules, _, _ := h.pages(user("ada"), access.Query{}); len(rules) != 2+40-len(wrong) {
		t.Errorf("%d rules there are", len(rules))
	}
	for _, n := range []int{0, access.MaxEach + 1} {
		if _, err := h.access.CreateEach(ctx, actor(user("ada")), make([]access.NewRule, n)); !errors.Is(err, core.Limit) {
			t.Errorf("%d at once: %v", n, err)
		}
		if _, err := h.access.DeleteEach(ctx, actor(user("ada")), make([]core.RuleID, n), false); !errors.Is(err, core.Limit) {
			t.Errorf("%d at once to delete: %v", n, err)
		}
	}
}

// To ask what a deletion would do says exactly what it does, also where the rules depend on one another, and changes nothing.
func TestDeleteEach(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	bobs := h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	var mine []core.RuleID
	for i := range 45 {
		mine = append(mine, h.seed(group(fmt.Sprint("team-", i)), policy.Viewer, h.ids["quarks"]).ID)
	}
	beside := h.seed(group("x"), policy.Viewer, h.ids["acids"]).ID
	higher := h.seed(group("x"), policy.SystemAdministrator, h.ids["quarks"]).ID
	adas, err := h.access.ForSubjects(ctx, acme, user("ada"))
	h.must(err)
	cyds := h.seed(user("cyd"), policy.SystemAdministrator, h.account)

	for _, tt := range []struct {
		name string
		who  string
		ids  []core.RuleID
		want map[int]core.Kind
	}{
		{"those that bob may", "bob", append([]core.RuleID{beside, higher, 99999}, mine[:10]...), map[int]core.Kind{0: core.Denied, 1: core.Denied, 2: core.NotFound}},
		{"one twice", "ada", []core.RuleID{mine[10], mine[11], mine[10]}, map[int]core.Kind{2: core.NotFound}},
		{"both administrators", "ada", []core.RuleID{cyds.ID, adas[0].ID, mine[12]}, map[int]core.Kind{1: core.Denied}},
		{"the rule that lets bob, and what comes in later commits", "bob", append([]core.RuleID{bobs.ID}, mine[13:]...), func() map[int]core.Kind {
			all := map[int]core.Kind{}
			for i := 19; i < 1+len(mine[13:]); i++ {
				all[i] = core.Denied
			}
			return all
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.revision(acme)
			h.db.Reset()
			would, err := h.access.DeleteEach(ctx, actor(user(tt.who)), tt.ids, true)
			h.must(err)
			if c := h.db.Reset(); c.Commits != 0 || h.revision(acme) != before {
				t.Errorf("to ask made %d commits", c.Commits)
			}
			did, err := h.access.DeleteEach(ctx, actor(user(tt.who)), tt.ids, false)
			h.must(err)
			for i := range tt.ids {
				kind, is := tt.want[i]
				if is != (did[i].Err != nil) || is && !errors.Is(did[i].Err, kind) {
					t.Errorf("rule %d of %d: %v, want %q", i, len(tt.ids), did[i].Err, kind)
				}
				if fmt.Sprint(would[i].Err) != fmt.Sprint(did[i].Err) || would[i].Rule != did[i].Rule {
					t.Errorf("rule %d: it was said %v, and was %v", i, would[i].Err, did[i].Err)
				}
				_, err := h.access.Get(ctx, acme, tt.ids[i])
				if left := err == nil; left != (is && kind != core.NotFound) {
					t.Errorf("rule %d is left: %v", i, left)
				}
			}
		})
	}
}

// A commit whose answer is lost is told of those rules whose it was, and what was done before stands.
func TestEachFailsApart(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	n := 0
	broken := &access.Service{DB: &storetest.Faulty{DB: h.db, Plan: func(c storetest.Call) storetest.Fault {
		if c.Method == "Commit" {
			if n++; n == 2 {
				return storetest.Refuse
			}
		}
		return storetest.NoFault
	}}, Now: h.now}
	done, err := broken.CreateEach(ctx, actor(user("ada")), groups(access.MaxBatch+2, policy.Viewer, h.ids["quarks"]))
	h.must(err)
	for i, d := range done {
		if late := i >= access.MaxBatch; late != errors.Is(d.Err, core.Unavailable) || !late && d.Err != nil {
			t.Errorf("rule %d: %v", i, d.Err)
		}
	}
	n = 1
	if _, err := broken.CreateEach(ctx, actor(user("ada")), groups(2, policy.Viewer, h.ids["iron"])); !errors.Is(err, core.Unavailable) {
		t.Errorf("the first commit fails: %v", err)
	}
}

// A preview asks what the change asks, says what it would make and take, and writes nothing.
func TestPreview(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	old := h.seed(group("team"), policy.Viewer, h.ids["quarks"])
	adas, err := h.access.ForSubjects(ctx, acme, user("ada"))
	h.must(err)
	same := access.NewRule{Subject: group("team"), Role: policy.Viewer, Scope: h.ids["quarks"]}
	more := access.NewRule{Subject: group("team"), Role: policy.L1Researcher, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Hour), Reason: "a trial"}
	for name, tt := range map[string]struct {
		who    string
		create []access.NewRule
		remove []core.RuleID
		want   core.Kind // "": allowed
	}{
		"one":                    {"bob", []access.NewRule{more}, nil, ""},
		"one in place of itself": {"bob", []access.NewRule{same, more}, []core.RuleID{old.ID}, ""},
		"to take":                {"bob", nil, []core.RuleID{old.ID}, ""},
		"the same again":         {"bob", []access.NewRule{same}, nil, core.Exists},
		"more than bob holds":    {"bob", []access.NewRule{{Subject: group("team"), Role: policy.Editor, Scope: h.ids["quarks"]}}, nil, core.Denied},
		"elsewhere":              {"bob", []access.NewRule{{Subject: group("team"), Role: policy.Viewer, Scope: h.ids["acids"]}}, nil, core.Denied},
		"from higher up":         {"bob", nil, []core.RuleID{adas[0].ID}, core.Denied},
		"the last administrator": {"ada", nil, []core.RuleID{adas[0].ID}, core.Denied},
		"what is not there":      {"ada", nil, []core.RuleID{9999}, core.NotFound},
		"one twice":              {"ada", nil, []core.RuleID{old.ID, old.ID}, core.NotFound},
		"in no scope":            {"ada", []access.NewRule{{Subject: group("team"), Role: policy.Viewer, Scope: "nowhere"}}, nil, core.NotFound},
		"no such role":           {"ada", []access.NewRule{{Subject: group("team"), Role: 2, Scope: h.account}}, nil, core.Invalid},
		"nothing":                {"ada", nil, nil, core.Limit},
		"too much":               {"ada", groups(access.MaxBatch+1, policy.Viewer, h.account), nil, core.Limit},
	} {
		before := h.revision(acme)
		h.db.Reset()
		made, gone, err := h.access.Preview(ctx, actor(user(tt.who)), tt.create, tt.remove)
		if c := h.db.Reset(); c.Commits != 0 || h.revision(acme) != before {
			t.Errorf("%s: %d commits", name, c.Commits)
		}
		if tt.want != "" {
			if !errors.Is(err, tt.want) || made != nil || gone != nil {
				t.Errorf("%s: %v, %v, %v, want %q", name, made, gone, err, tt.want)
			}
			continue
		}
		if err != nil || len(made) != len(tt.create) || len(gone) != len(tt.remove) {
			t.Errorf("%s: %v, %v, %v", name, made, gone, err)
		}
	}
	// What a preview makes is what the change makes.
	want, _, err := h.access.Preview(ctx, actor(user("bob")), []access.NewRule{more}, nil)
	h.must(err)
	got, err := h.access.CreateBatch(ctx, actor(user("bob")), []access.NewRule{more})
	h.must(err)
	if !slices.Equal(got, want) {
		t.Errorf("made %v, foretold %v", got, want)
	}
}

// The largest changes fit a commit, with the conditions of a request on top.
func TestLargestCommitsFit(t *testing.T) {
	h := newHouse(t)
	svc := &access.Service{DB: store.Conditional(h.db), Now: h.now}
	mark := store.Put(store.Once(acme, strings.Repeat("a", 64)), 0, []byte("{}"))
	all := groups(access.MaxBatch, policy.Viewer, h.ids["quarks"])
	for i := range all {
		all[i].ExpiresAt = h.now().Add(time.Hour)
	}
	scope, err := h.org.Scope(t.Context(), acme, h.ids["quarks"])
	h.must(err)
	ctx := store.OnlyOnce(store.Matching(t.Context(), scope.Key, scope.Version), mark)
	made, err := svc.CreateBatch(ctx, actor(user("ada")), all)
	h.must(err)
	mark.Key = store.Once(acme, strings.Repeat("b", 64))
	ctx = store.OnlyOnce(store.Matching(t.Context(), scope.Key, scope.Version), mark)
	h.db.Reset()
	done, err := svc.DeleteEach(ctx, actor(user("ada")), idsOf(made), false)
	h.must(err)
	for _, d := range done {
		h.must(d.Err)
	}
	if c := h.db.Reset(); c.Commits != 1 || c.Ops > store.MaxOps {
		t.Errorf("%d rules went in %d commits of %d operations", len(made), c.Commits, c.Ops)
	}
}
