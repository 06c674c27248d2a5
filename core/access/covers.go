package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// Term says for how long rights must be held by whoever deals with those of others.
type Term bool

const (
	// Now is for taking rights away: it is enough to hold them while that is done.
	Now Term = false
	// Lasting is for giving rights, or whatever opens the way to them: a password, a secret, a membership. They must be held
	// until the rule ends that they come from, for ever if it has no end: else a role held until the evening, given on
	// without an end, would be held for ever.
	Lasting Term = true
)

// Covers is nil if the actor holds, in the scope of each rule that lives, every permission of its role, for the term; else
// core.Denied naming what is missing. It is the delegation guard for acts that are not the making of a rule, but by which
// somebody comes by what the rules give. Rules in scopes that are deleted count for nothing.
func (s *Service) Covers(ctx context.Context, actor core.Actor, term Term, rules ...core.Rule) error {
	return s.snapshot(ctx, actor.Tenant, func(v *view) error {
		var live []core.Rule
		var who []standing
		at := map[core.ScopeID]int{}
		for _, r := range rules {
			if !r.Live(v.now) {
				continue
			}
			live = append(live, r)
			if _, ok := at[r.Scope]; !ok {
				at[r.Scope] = len(who)
				who = append(who, standing{subject: actor.Subject, scope: r.Scope, id: actor.UserID})
			}
		}
		if len(live) == 0 {
			return nil
		}
		if err := v.gather(ctx, who); err != nil {
			return err
		}
		if err := v.meta.Value.Serves(); err != nil {
			return err
		}
		for _, r := range live {
			w := &who[at[r.Scope]]
			if w.code == policy.UnknownScope {
				continue
			}
			if err := v.holds(w, r, term); err != nil {
				return err
			}
		}
		return nil
	})
}

// CoversMove is Covers for moving a project below another scope: of every rule that holds there and will hold for the
// project from then on, the actor holds the role at the project already. So nobody brings a project under their own rules,
// or under those of others, who could not have granted the same where it was. What is above both is not asked about.
func (s *Service) CoversMove(ctx context.Context, actor core.Actor, project, parent core.ScopeID) error {
	if c, ok := project.ClusterOf(); ok && parent == core.ClusterScope(c) {
		return nil // the rules of its cluster hold for the project already
	}
	var moved []core.Rule
	for rec, err := range rules.List(ctx, s.DB, store.ScopeRules(actor.Tenant, parent)) {
		if err != nil {
			return err
		}
		r := rec.Value
		r.Scope = project
		moved = append(moved, r)
	}
	err := s.Covers(ctx, actor, Lasting, moved...)
	if errors.Is(err, core.Denied) {
		err = fmt.Errorf("to bring a project under the access rules of another scope: %w", err)
	}
	return err
}

// holds asks whether a subject holds all that a rule's role permits, where the subject stands: now, or if the term is
// lasting, until the rule ends.
func (v *view) holds(who *standing, r core.Rule, term Term) error {
	if !who.stands() {
		d := policy.Deny(who.code, policy.AccessRules, policy.View, r.Scope)
		return fmt.Errorf("%s: %w", d.Reason(v.name), core.Denied)
	}
	var lack policy.Lack
	var ok bool
	if term == Lasting {
		lack, ok = policy.CoversUntil(&v.grants, who.subjects, who.path, r.Role, v.now.Unix(), policy.GrantOf(r).Expires)
	} else {
		lack, ok = policy.Covers(&v.grants, who.subjects, who.path, r.Role, v.now.Unix())
	}
	if ok {
		return nil
	}
	return v.lacks(r, lack)
}

// lacks says in words what is missing of a rule's role.
func (v *view) lacks(r core.Rule, lack policy.Lack) error {
	role, known := policy.RoleByID(r.Role)
	if !known {
		return fmt.Errorf("rule %d: unknown role: %w", r.ID, core.Denied)
	}
	where := v.name(r.Scope)
	if lack.Later {
		return fmt.Errorf("%s includes %s on %s, which you hold in %s, but not for as long as the rule would last: %w", role.Name, lack.Action, lack.Entity, where, core.Denied)
	}
	return fmt.Errorf("%s includes %s on %s, which you do not hold in %s: %w", role.Name, lack.Action, lack.Entity, where, core.Denied)
}
