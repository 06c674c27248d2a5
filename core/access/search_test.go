package access_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
)

func TestList(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("cyd"), policy.Editor, h.ids["south"])
	h.seed(group("staff"), policy.Viewer, h.ids["north"])
	quarks := h.seed(group("staff"), policy.L1Researcher, h.ids["quarks"])
	h.seed(group("staff"), policy.L1Researcher, h.ids["acids"])
	iron := h.seed(h.application("robot"), policy.Viewer, h.ids["iron"])
	_, err := h.access.Seed(ctx, acme, access.NewRule{Subject: user("eve"), Role: policy.Viewer, Scope: h.account, ExpiresAt: h.now().Add(time.Second)})
	h.must(err)
	h.pass(time.Second)
	north, _ := h.ids["north"].ClusterOf()
	for name, tt := range map[string]struct {
		who   string
		q     access.Query
		first core.RuleID // 0: not looked at
		rules int
	}{
		"all of them":         {"ada", access.Query{}, 0, 7},
		"a page":              {"ada", access.Query{Limit: 2, Offset: 4}, quarks.ID, 2},
		"behind the end":      {"ada", access.Query{Offset: 50}, 0, 0},
		"newest first":        {"ada", access.Query{Order: access.Newest}, iron.ID, 7},
		"of a group":          {"ada", access.Query{Subjects: []core.Subject{group("staff")}}, 0, 3},
		"of two":              {"ada", access.Query{Subjects: []core.Subject{group("staff"), user("bob")}}, 0, 4},
		"of a kind":           {"ada", access.Query{SubjectKind: core.Application}, iron.ID, 1},
		"of a role":           {"ada", access.Query{Role: policy.L1Researcher}, quarks.ID, 2},
		"at a scope":          {"ada", access.Query{Scope: h.ids["quarks"]}, quarks.ID, 1},
		"at the account":      {"ada", access.Query{Scope: h.account}, 0, 1},
		"in a cluster":        {"ada", access.Query{Cluster: north}, 0, 4},
		"a group in a scope":  {"ada", access.Query{Subjects: []core.Subject{group("staff")}, Scope: h.ids["quarks"]}, quarks.ID, 1},
		"what bob may see":    {"bob", access.Query{}, 0, 2}, // his own in physics, and the one in quarks
		"bob asks for others": {"bob", access.Query{Scope: h.ids["acids"]}, 0, 0},
		"what cyd may see":    {"cyd", access.Query{}, 0, 2},
		"what eve may see":    {"eve", access.Query{}, 0, 0},
	} {
		p, err := h.access.List(ctx, actor(user(tt.who)), tt.q)
		if err != nil || len(p.Rules) != tt.rules || tt.first != 0 && (len(p.Rules) == 0 || p.Rules[0].ID != tt.first) {
			t.Errorf("%s: %d, %v, %v", name, len(p.Rules), p.Rules, err)
		}
	}
	for _, q := range []access.Query{{Limit: -1}, {Limit: access.MaxPage + 1}, {Offset: -1}} {
		if _, err := h.access.List(ctx, actor(user("ada")), q); !errors.Is(err, core.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	h.group("staff", "eve")
	mine, err := h.access.Mine(ctx, actor(user("eve")))
	if err != nil || len(mine) != 3 {
		t.Errorf("eve's own: %v, %v", mine, err)
	}
}

func TestPermittedScopes(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.L1Researcher, h.ids["acids"])
	h.seed(group("physicists"), policy.L2Researcher, h.ids["physics"])
	h.seed(user("bob"), policy.Viewer, h.ids["south"])
	h.seed(user("bob"), policy.L1Researcher, h.ids["loose"])
	_, err := h.access.Seed(ctx, acme, access.NewRule{Subject: user("bob"), Role: policy.Editor, Scope: h.ids["iron"], ExpiresAt: h.now().Add(time.Second)})
	h.must(err)
	h.pass(time.Second)
	h.must(h.org.DeleteScope(ctx, core.SystemActor(acme), acme, h.ids["loose"], false))
	names := func(e policy.Entity, a policy.Action, who core.Subject) (out []string) {
		t.Helper()
		scopes, err := h.access.PermittedScopes(ctx, acme, who, e, a)
		h.must(err)
		for _, s := range scopes {
			out = append(out, string(s.Kind)+" "+s.Name)
		}
		return out
	}
	for _, tt := range []struct {
		who  core.Subject
		e    policy.Entity
		a    policy.Action
		want []string
	}{
		{user("bob"), policy.Jobs, policy.Create, []string{"department physics", "project acids"}},
		{user("bob"), policy.Jobs, policy.View, []string{"cluster south", "department physics", "project acids"}},
		{user("bob"), policy.Environments, policy.Create, []string{"project acids"}},
		{user("bob"), policy.Users, policy.View, nil},
		{user("ada"), policy.Users, policy.View, []string{"account acme"}},
		{user("nobody"), policy.Jobs, policy.View, nil},
	} {
		if got := names(tt.e, tt.a, tt.who); !slices.Equal(got, tt.want) {
			t.Errorf("%s may %s %s in %q, want %q", tt.who, tt.a, tt.e, got, tt.want)
		}
	}
	held, err := h.access.Permissions(ctx, acme, user("bob"), h.ids["quarks"])
	h.must(err)
	want, _ := policy.RoleByID(policy.L2Researcher)
	if held != want.Permissions {
		t.Errorf("bob holds %v in quarks, want what an L2 researcher holds", held)
	}
	if _, err := h.access.Permissions(ctx, acme, user("bob"), "elsewhere"); !errors.Is(err, core.NotFound) {
		t.Errorf("permissions in an unknown scope: %v", err)
	}
}
