package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Code says why a decision is what it is, to programs.
type Code uint8

// The codes. Decide gives those up to Allowed, each better to know than the one before it; core/access gives the others,
// when there is nothing to decide from.
const (
	NoRule    Code = iota // no rule of the path is given to the subjects
	RoleLacks             // there are such rules, and none of their roles permits it
	Expired               // a rule would have allowed it, and has expired
	Allowed               // a rule allows it
	UnknownEntity
	UnknownAction
	UnknownScope    // absent, deleted, or of another tenant: they look alike
	UnknownSubject  // likewise
	SubjectDisabled // the person or application is disabled
	TenantSuspended // nothing of the tenant is allowed
	numberOfCodes   = iota
)

var codes = [numberOfCodes]string{"no_rule", "role_lacks_permission", "rule_expired", "allowed", "unknown_entity",
	"unknown_action", "unknown_scope", "unknown_subject", "subject_disabled", "tenant_suspended"}

// String is the code as the API spells it: "no_rule".
func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c]
	}
	return "unknown"
}

// Decision is an answer with all that its reason needs. It is a plain value; the sentence is made only when asked for.
type Decision struct {
	Allowed bool
	Code    Code
	Entity  Entity
	Action  Action
	Scope   core.ScopeID // asked about

	// The rule that decided, or, in a denial of code RoleLacks or Expired, the one that came nearest; otherwise 0.
	Rule      core.RuleID
	Role      core.RoleID
	Subject   core.Subject // whom it is given to: the person or application, or one of the groups
	RuleScope core.ScopeID // where it is given
	Expires   int64        // Unix seconds; 0: never
}

// Deny makes a decision that was reached without looking at rules.
func Deny(code Code, e Entity, a Action, scope core.ScopeID) Decision {
	return Decision{Code: code, Entity: e, Action: a, Scope: scope}
}

// Reason says the decision as a sentence. The name function turns a scope's id into words such as "project red"; it may be
// nil.
func (d Decision) Reason(name func(core.ScopeID) string) string {
	return d.reason(name, "holds", "held")
}

// Yours is Reason, said to the very subject that it is about: "needs create on workloads in project red; you hold Viewer in
// department blue".
func (d Decision) Yours(name func(core.ScopeID) string) string {
	return d.reason(name, "you hold", "you held")
}

func (d Decision) reason(name func(core.ScopeID) string, holds, held string) string {
	if name == nil {
		name = func(s core.ScopeID) string { return "scope " + string(s) }
	}
	switch d.Code {
	case UnknownEntity:
		return "there is no such kind of thing; entities are spelt as in the list of roles"
	case UnknownAction:
		return "there is no such action; it is one of view, edit, create, delete"
	case UnknownScope:
		return "there is no such scope"
	case UnknownSubject:
		return "there is no such subject"
	case SubjectDisabled:
		return "the subject is disabled"
	case TenantSuspended:
		return "the tenant is suspended"
	}
	var b strings.Builder
	if d.Code == Allowed {
		fmt.Fprintf(&b, "rule %d: %s", d.Rule, roleName(d.Role))
		d.held(&b, name)
		if d.Expires != 0 {
			fmt.Fprintf(&b, ", until %s", date(d.Expires))
		}
		return b.String()
	}
	fmt.Fprintf(&b, "needs %s on %s in %s; ", d.Action, d.Entity, name(d.Scope))
	switch d.Code {
	case RoleLacks:
		fmt.Fprintf(&b, "%s %s", holds, roleName(d.Role))
		d.held(&b, name)
		fmt.Fprintf(&b, " (rule %d), which does not include it", d.Rule)
	case Expired:
		fmt.Fprintf(&b, "%s %s", held, roleName(d.Role))
		d.held(&b, name)
		fmt.Fprintf(&b, " (rule %d) until %s", d.Rule, date(d.Expires))
	default:
		fmt.Fprintf(&b, "%s no rule there or above", holds)
	}
	return b.String()
}

// held adds where a role is held, and through which group.
func (d Decision) held(b *strings.Builder, name func(core.ScopeID) string) {
	fmt.Fprintf(b, " in %s", name(d.RuleScope))
	if d.Subject.Kind == core.Group {
		fmt.Fprintf(b, " through group %q", d.Subject.ID)
	}
}

func date(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// String is Reason without names for scopes.
func (d Decision) String() string { return d.Reason(nil) }
