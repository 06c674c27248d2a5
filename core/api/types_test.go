package api

import (
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// Every kind has one spelling that is answered, and it reads back as the same kind.
func TestSpellings(t *testing.T) {
	for kind, want := range map[core.SubjectKind]SubjectType{core.User: "user", core.Group: "group", core.Application: "service-account"} {
		if got := SubjectTypeOf(kind); got != want {
			t.Errorf("%s is spelt %s, want %s", kind, got, want)
		}
		if back, ok := SubjectTypeOf(kind).Kind(); !ok || back != kind {
			t.Errorf("%s reads back as %q", kind, back)
		}
	}
	if back, ok := SubjectApp.Kind(); !ok || back != core.Application {
		t.Errorf("app reads as %q", back)
	}
	for kind, want := range map[core.ScopeKind]ScopeType{core.Account: "tenant", core.Cluster: "cluster", core.Department: "department", core.Project: "project"} {
		if got := ScopeTypeOf("acme", kind); got != want {
			t.Errorf("%s is spelt %s, want %s", kind, got, want)
		}
		if back, ok := ScopeTypeOf("acme", kind).Kind(); !ok || back != kind {
			t.Errorf("%s reads back as %q", kind, back)
		}
	}
	if got := ScopeTypeOf(core.SystemTenant, core.Account); got != ScopeSystem {
		t.Errorf("the operators' account is spelt %s", got)
	}
	for _, s := range []string{"", "User", "account", "USER", "system:masters"} {
		if kind, ok := SubjectType(s).Kind(); ok {
			t.Errorf("subject type %q reads as %s", s, kind)
		}
		if kind, ok := ScopeType(s).Kind(); ok {
			t.Errorf("scope type %q reads as %s", s, kind)
		}
	}
}
