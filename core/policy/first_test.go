package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// First finds a rule exactly where Decide allows, and it is the first of all that do, as a look at every rule says.
func TestFirst(t *testing.T) {
	made := makeTenant(3000, 3000)
	for i := range made.rules {
		made.rules[i].ID = core.RuleID(uint64(i*7919)%3001 + 1) // so that their order says nothing
	}
	g := BuildGrants(made.rules)
	allowed := 0
	for _, req := range made.asks {
		place, rule, ok := First(g, &req)
		if d := Decide(g, &req); d.Allowed != ok {
			t.Fatalf("%+v: %v, and First finds %v", req, d, ok)
		}
		if !ok {
			continue
		}
		allowed++
		for _, r := range made.rules {
			at := slices.Index(req.Path[:], r.Scope)
			if at < 0 || !slices.Contains(req.Subjects, r.Subject) || !Permits(r.Role, req.Entity, req.Action) {
				continue
			}
			if at < place || at == place && r.ID < rule {
				t.Fatalf("%+v: rule %d at %d comes before rule %d at %d", req, r.ID, at, rule, place)
			}
		}
	}
	if allowed < 100 {
		t.Fatalf("%d of %d are allowed, too few to tell", allowed, len(made.asks))
	}
	expired := BuildGrants([]core.Rule{
		{ID: 1, Subject: core.GroupSubject("g"), Role: SystemAdministrator, Scope: "acme", ExpiresAt: time.Unix(999, 0)},
		{ID: 2, Subject: core.GroupSubject("g"), Role: SystemAdministrator, Scope: "acme"},
	})
	req := Request{Subjects: []core.Subject{core.UserSubject("a@example.com"), core.GroupSubject("g")}, Path: core.Path{"acme"}, Entity: Jobs, Action: View, Now: 1000}
	if place, rule, ok := First(expired, &req); place != 0 || rule != 2 || !ok {
		t.Errorf("behind one that has expired: %d, %d, %v", place, rule, ok)
	}
	req.Action = View | Edit
	if _, _, ok := First(expired, &req); ok {
		t.Error("two actions at once")
	}
	if n := testing.AllocsPerRun(100, func() { First(g, &made.asks[0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
