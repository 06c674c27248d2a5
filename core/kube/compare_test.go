package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

func told(list []Difference) []string {
	out := []string{}
	for _, d := range list {
		s := fmt.Sprintf("%s %s %s", d.Verb, d.Ref, d.Role)
		for _, a := range d.Adds {
			s += " +" + a.Name
		}
		for _, r := range d.Removes {
			s += " -" + r.Name
		}
		out = append(out, fmt.Sprintf("%s =%d", s, d.Left))
	}
	slices.Sort(out)
	return out
}

func TestCompare(t *testing.T) {
	const (
		wide  = "ClusterRoleBinding//fleetpass-viewer"
		inOne = "RoleBinding/ns1/fleetpass-viewer-ns"
		inTwo = "RoleBinding/ns2/fleetpass-viewer-ns"
	)
	adas, teams := rule(1, ada, policy.Viewer, scope("p1")), rule(2, team, policy.Viewer, scope("p1"))
	ended := rule(3, team, policy.Viewer, scope("p1"))
	ended.ExpiresAt = noon.Add(-time.Minute)
	disabled := basic(adas, rule(4, core.UserSubject("eve@example.com"), policy.Viewer, scope("p1")))
	disabled.Disabled = map[core.Subject]bool{core.UserSubject("eve@example.com"): true}
	moved := basic(adas)
	moved.Scopes[1].Namespace = "ns9"
	for _, tt := range []struct {
		name          string
		before, after World
		empty         []Ref
		want          []string
	}{
		{"nothing", basic(adas), basic(adas), nil, []string{}},
		{"a first grant", basic(), basic(adas), nil, []string{
			"create " + wide + " fleetpass-viewer +fleetpass:ada@example.com =1",
			"create " + inOne + " fleetpass-viewer-ns +fleetpass:ada@example.com =1"}},
		{"a first grant where a binding stands empty", basic(), basic(adas), []Ref{{RoleBinding, "ns1", "fleetpass-viewer-ns"}}, []string{
			"create " + wide + " fleetpass-viewer +fleetpass:ada@example.com =1",
			"update " + inOne + " fleetpass-viewer-ns +fleetpass:ada@example.com =1"}},
		{"what stands empty stays", basic(adas), basic(adas), []Ref{{RoleBinding, "ns2", "fleetpass-viewer-ns"}}, []string{}},
		{"another subject", basic(adas), basic(adas, teams), nil, []string{
			"update " + wide + " fleetpass-viewer +fleetpass:team =2",
			"update " + inOne + " fleetpass-viewer-ns +fleetpass:team =2"}},
		{"one for another", basic(adas), basic(teams), nil, []string{
			"update " + wide + " fleetpass-viewer +fleetpass:team -fleetpass:ada@example.com =1",
			"update " + inOne + " fleetpass-viewer-ns +fleetpass:team -fleetpass:ada@example.com =1"}},
		{"the last one", basic(adas), basic(), nil, []string{
			"update " + wide + " fleetpass-viewer -fleetpass:ada@example.com =0",
			"update " + inOne + " fleetpass-viewer-ns -fleetpass:ada@example.com =0"}},
		{"given by another rule", basic(adas), basic(adas, rule(5, ada, policy.Viewer, scope("dep"))), nil, []string{}},
		{"given by another rule in part", basic(adas), basic(adas, rule(5, ada, policy.Viewer, core.ClusterScope(cluster1))), nil, []string{
			"create " + inTwo + " fleetpass-viewer-ns +fleetpass:ada@example.com =1"}},
		{"a rule that has ended", basic(adas, ended), basic(adas), nil, []string{}},
		{"somebody who is disabled", basic(adas), disabled, nil, []string{}},
		{"another namespace", basic(adas), moved, nil, []string{
			"create Namespace//ns9  =0",
			"create RoleBinding/ns9/fleetpass-viewer-ns fleetpass-viewer-ns +fleetpass:ada@example.com =1",
			"update " + inOne + " fleetpass-viewer-ns -fleetpass:ada@example.com =0"}},
	} {
		if d := cmp.Diff(tt.want, told(Compare(Want(tt.before), Want(tt.after), tt.empty...))); d != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, d)
		}
	}
}

// Between any two worlds, Compare says what the sets of subjects say, and between a world and itself nothing.
func TestCompareIsTheDifference(t *testing.T) {
	roles := []core.RoleID{policy.Viewer, policy.Editor, policy.L1Researcher, policy.SystemAdministrator}
	places := []core.ScopeID{scope("p1"), scope("p2"), scope("dep"), core.ClusterScope(cluster1), core.AccountScope(tenant)}
	r := rand.New(rand.NewPCG(1, 2))
	random := func() World {
		var rules []core.Rule
		for i := range r.IntN(8) {
			who := core.GroupSubject(core.GroupName(fmt.Sprintf("g%d", r.IntN(4))))
			rules = append(rules, rule(core.RuleID(i+1), who, roles[r.IntN(len(roles))], places[r.IntN(len(places))]))
		}
		return basic(rules...)
	}
	for range 500 {
		before, after := Want(random()), Want(random())
		var empty []Ref
		for _, ref := range NewIn(after, before) {
			if r.IntN(2) == 0 {
				empty = append(empty, ref)
			}
		}
		is, shall := map[Ref]Object{}, map[Ref]Object{}
		for _, o := range before.Objects {
			is[o.Ref] = o
		}
		for _, o := range after.Objects {
			shall[o.Ref] = o
		}
		var want []Difference
		for ref, o := range shall {
			old, held := is[ref]
			d := Difference{Verb: Update, Ref: ref, Role: o.Role, Left: len(o.Subjects)}
			d.Adds, d.Removes = without(o.Subjects, set(old.Subjects)), without(old.Subjects, set(o.Subjects))
			if !held && !slices.Contains(empty, ref) {
				d.Verb = Create
			}
			if len(d.Adds)+len(d.Removes) > 0 {
				want = append(want, d)
			}
		}
		for ref, o := range is {
			if _, held := shall[ref]; !held {
				want = append(want, Difference{Verb: Update, Ref: ref, Role: o.Role, Removes: o.Subjects})
			}
		}
		if d := cmp.Diff(told(want), told(Compare(before, after, empty...))); d != "" {
			t.Fatalf("-want +got:\n%s", d)
		}
		if same := Compare(after, after); len(same) > 0 {
			t.Fatalf("a state and itself differ in %v", told(same))
		}
	}
}

func TestBootstrapVersion(t *testing.T) {
	for _, p := range []Prefixes{DefaultPrefixes, {User: "corp:", Group: "corp:"}, DefaultPrefixes} {
		_, want, err := Bootstrap(p)
		if got, e := BootstrapVersion(p); err != nil || e != nil || got != want {
			t.Errorf("%+v: %q, want %q (%v, %v)", p, got, want, e, err)
		}
	}
}
