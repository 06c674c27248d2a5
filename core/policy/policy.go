// Package policy decides. It owns what roles exist and what each permits, how a subject's grants are kept (the body of a
// `grants` item, and its decoded index), and Decide, a pure function from grants and a question to an answer with its
// reason. It reads no store and no clock: core/access gathers what it needs.
package policy

import "github.com/fleetpass/fleetpass/core"

// Request asks one question: may any of these subjects do this, there, now?
type Request struct {
	Subjects []core.Subject // the person or application first, then the person's groups
	Path     core.Path      // the scope asked about with everything above it; empty places are skipped
	Entity   Entity
	Action   Action // exactly one
	Now      int64  // Unix seconds
}

// Scope is the scope asked about: the last of the path.
func (r *Request) Scope() core.ScopeID {
	for i := len(r.Path) - 1; i >= 0; i-- {
		if r.Path[i] != "" {
			return r.Path[i]
		}
	}
	return ""
}

// Decide answers a request from grants. It is pure and allocates nothing. A rule allows if, by itself, it is given to one
// of the subjects, in a scope of the path, for a role that permits the action on the entity, and has not expired. Nothing
// is ever combined across rules, there is no rule that denies, and whatever is not known (a kind, role, entity or action)
// allows nothing. Of several rules that allow, the one with the lowest id is reported, so that the answer is the same
// whatever the order of subjects and items.
func Decide(g *Grants, req *Request) Decision {
	d := Decision{Entity: req.Entity, Action: req.Action, Scope: req.Scope()}
	switch {
	case !req.Entity.Known():
		d.Code = UnknownEntity
		return d
	case !req.Action.Single():
		d.Code = UnknownAction
		return d
	case d.Scope == "":
		d.Code = UnknownScope
		return d
	}
	d.Code = NoRule
	for i := range req.Subjects {
		s := &req.Subjects[i]
		kind := kindOf(s.Kind)
		if kind == 0 {
			continue
		}
		for j := range req.Path {
			if req.Path[j] == "" {
				continue
			}
			r, ok := g.runs[holding{s.ID, req.Path[j], kind}]
			if !ok {
				continue
			}
			for k := r.from; k < r.to; k++ {
				if c := d.judge(&g.list[k], req.Now); d.beats(c, g.list[k].rule) {
					d.Code = c
					d.Rule, d.Role, d.Expires = g.list[k].rule, g.list[k].role, g.list[k].expires
					d.Subject, d.RuleScope = *s, req.Path[j]
				}
			}
		}
	}
	d.Allowed = d.Code == Allowed
	return d
}

// judge says what one rule of the path means for the question.
func (d *Decision) judge(e *entry, now int64) Code {
	permits := permissionsOf(e.role)[d.Entity]&d.Action != 0
	live := e.expires == 0 || now < e.expires
	switch {
	case permits && live:
		return Allowed
	case permits:
		return Expired
	case live:
		return RoleLacks
	}
	return NoRule
}

// beats says whether a rule that was judged c explains the answer better than the one found so far. An allowing rule
// beats all; then, to explain a denial, a rule that would have allowed but has expired, then one whose role lacks the
// permission; among equals, the lower id.
func (d *Decision) beats(c Code, rule core.RuleID) bool {
	if c == NoRule {
		return false
	}
	return c > d.Code || c == d.Code && rule < d.Rule
}

// Held returns everything that the subjects may do in the scope of the path: the union of what each live rule of the path
// permits. The union is sound here, since each of those rules reaches the scope by itself.
func Held(g *Grants, subjects []core.Subject, path core.Path, now int64) Permissions {
	var held Permissions
	for _, s := range subjects {
		kind := kindOf(s.Kind)
		if kind == 0 {
			continue
		}
		for _, scope := range path {
			if scope == "" {
				continue
			}
			r := g.runs[holding{s.ID, scope, kind}]
			for _, e := range g.list[r.from:r.to] {
				if e.expires != 0 && now >= e.expires {
					continue
				}
				for i, a := range permissionsOf(e.role) {
					held[i] |= a
				}
			}
		}
	}
	return held
}
