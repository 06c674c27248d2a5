package policy

import (
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// What a decision does not know it denies (TEN-007): entities, actions, roles and subjects of a later version, and every
// mixture of actions.
func TestUnknownIsDenied(t *testing.T) {
	ada := core.UserSubject("ada@example.com")
	path := core.Path{acct, clus, dept, proj}
	admin := BuildGrants([]core.Rule{{ID: 1, Subject: ada, Role: SystemAdministrator, Scope: acct}})
	good := Request{Subjects: []core.Subject{ada}, Path: path, Entity: Jobs, Action: View, Now: 1}
	if !Decide(admin, &good).Allowed {
		t.Fatal("the twin is denied")
	}
	for e := range 256 {
		for a := range 256 {
			r := good
			r.Entity, r.Action = Entity(e), Action(a)
			if d := Decide(admin, &r); d.Allowed && (!r.Entity.Known() || !r.Action.Single()) {
				t.Fatalf("entity %d, action %d: %+v", e, a, d)
			}
		}
	}
	for what, spoil := range map[string]func(*Request){
		"no subject":        func(r *Request) { r.Subjects = nil },
		"an empty subject":  func(r *Request) { r.Subjects = []core.Subject{{}} },
		"a kind of subject": func(r *Request) { r.Subjects = []core.Subject{{Kind: "robot", ID: ada.ID}} },
		"a group so named":  func(r *Request) { r.Subjects = []core.Subject{core.GroupSubject(core.GroupName(ada.ID))} },
		"an application":    func(r *Request) { r.Subjects = []core.Subject{core.ApplicationSubject(core.ApplicationID(ada.ID))} },
		"another case":      func(r *Request) { r.Subjects = []core.Subject{core.UserSubject("Ada@example.com")} },
		"no path":           func(r *Request) { r.Path = core.Path{} },
		"another tenant":    func(r *Request) { r.Path = core.Path{"globex"} },
	} {
		r := good
		spoil(&r)
		if d := Decide(admin, &r); d.Allowed {
			t.Errorf("%s: %+v", what, d)
		}
	}
	for _, role := range []core.RoleID{-1, 0, 2, 21, 255, 1 << 20} {
		if _, known := RoleByID(role); known {
			continue
		}
		g := BuildGrants([]core.Rule{{ID: 1, Subject: ada, Role: role, Scope: acct}})
		if d := Decide(g, &good); d.Allowed {
			t.Errorf("role %d: %+v", role, d)
		}
	}
}
