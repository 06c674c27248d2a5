package policy

import (
	"math"

	"github.com/fleetpass/fleetpass/core"
)

// Delegation is a rule that somebody wants to give or to take away.
type Delegation struct {
	Subjects []core.Subject // who: the person or application first, then the person's groups
	Path     core.Path      // the rule's scope with everything above it; empty places are skipped
	Role     core.RoleID    // the rule's
	Action   Action         // Create to give the rule, Delete to take it away
	Until    int64          // Unix seconds, from which on the rule will no longer hold; 0: it has no end. Only for Create
	Now      int64          // Unix seconds
}

// Refusal says why a delegation is refused.
type Refusal struct {
	Decision Decision // about the action on access rules in the scope. If that is allowed, Lack is what is missing
	Lack     Lack
}

// Lack is what somebody does not hold of a role in a scope.
type Lack struct {
	Entity Entity // 0: the role is unknown, and nobody holds it
	Action Action
	Later  bool // it is held now, but not for as long as it must be
}

// Delegate is the delegation guard: it says whether the subjects may give or take away the rule, and if not, why not. They
// may if one of their rules, by itself, lets them create or delete access rules in the rule's scope, and if they hold there
// every permission of the rule's role: to give it, for as long as the rule is to last. So nobody can give, by however many
// steps, what was not held; and who could not give a rule cannot take it from someone higher up. It is pure.
func Delegate(g *Grants, d *Delegation) (Refusal, bool) {
	r := Refusal{Decision: Decide(g, &Request{Subjects: d.Subjects, Path: d.Path, Entity: AccessRules, Action: d.Action, Now: d.Now})}
	if d.Action != Create && d.Action != Delete { // a rule is never edited, and to view one delegates nothing
		r.Decision.Allowed, r.Decision.Code = false, UnknownAction
	}
	if !r.Decision.Allowed {
		return r, false
	}
	var ok bool
	if d.Action == Create {
		r.Lack, ok = CoversUntil(g, d.Subjects, d.Path, d.Role, d.Now, d.Until)
	} else {
		r.Lack, ok = Covers(g, d.Subjects, d.Path, d.Role, d.Now)
	}
	return r, ok
}

// Covers says whether the subjects hold, in the scope of the path, every permission of a role at a time; if not, what of
// it they lack. An unknown role is never held: what it may come to permit, nobody knows.
func Covers(g *Grants, subjects []core.Subject, path core.Path, role core.RoleID, now int64) (Lack, bool) {
	r, known := RoleByID(role)
	if !known {
		return Lack{}, false
	}
	held := Held(g, subjects, path, now)
	e, a, ok := r.Permissions.Within(&held)
	return Lack{Entity: e, Action: a}, ok
}

// CoversUntil says whether the subjects hold all that from now until a time, exclusive; 0: for ever. What is held now and
// in the last second is held all the time between, for of the rules that there are none begins later than now.
func CoversUntil(g *Grants, subjects []core.Subject, path core.Path, role core.RoleID, now, until int64) (Lack, bool) {
	if lack, ok := Covers(g, subjects, path, role, now); !ok {
		return lack, false
	}
	last := int64(math.MaxInt64) // later than any end of a rule
	if until != 0 {
		last = max(now, until-1)
	}
	lack, ok := Covers(g, subjects, path, role, last)
	lack.Later = !ok
	return lack, ok
}
