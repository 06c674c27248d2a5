package admin

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/web"
)

// authenticate finds out who calls: the bearer of an access token of this tenant, who still may. Without a good token, a tenant that is absent, suspended or active gives one and the same answer.
func (c *call) authenticate() error {
	t, err := web.Tenant(c.r)
	if err != nil {
		return err
	}
	raw, err := web.BearerToken(c.r)
	if err != nil {
		return err
	}
	a, err := token.ParseAccess(c.ctx, c.Ring, t, c.Base+"/t/"+string(t), raw, c.now)
	if err != nil {
		return err
	}
	who, err := access.CallerOf(t, a)
	if err != nil {
		return err
	}
	in, err := c.Access.Admit(c.ctx, who)
	if err != nil {
		return err
	}
	c.tenant, c.meta, c.user, c.app, c.key = t, in.Tenant, in.Person, in.Application, in.AccessKey
	c.actor = trace.Actor(c.ctx, in.Actor)
	c.actor.Address = web.Address(c.r)
	return nil
}

// authorize asks for the permission of the call's row in the table.
func (c *call) authorize(n need) error {
	switch n.in {
	case ofOneself, byHandler:
		return nil
	case ofSignedIn:
		if c.actor.Subject.Kind != core.User {
			return fmt.Errorf("needs a person: only people have access keys: %w", core.Denied)
		}
		return c.bySignIn()
	case inAccount:
		return c.Access.Allowed(c.ctx, c.actor, n.entity, n.action, core.AccountScope(c.tenant))
	case inScope:
		return c.authorizeScope(n)
	case anywhere:
		return c.holdsSomewhere(n.entity, n.action)
	case byAdministrator:
		return c.holdsRole(policy.SystemAdministrator, core.AccountScope(c.tenant), access.Now)
	case byOperator:
		return c.authorizeOperator()
	}
	return fmt.Errorf("admin: a call that needs nothing known")
}

// authorizeScope loads the scope {id}, which must be of the kind that the entity is about.
func (c *call) authorizeScope(n need) error {
	kind := core.Cluster
	switch n.entity {
	case policy.Department:
		kind = core.Department
	case policy.Project:
		kind = core.Project
	}
	absent := fmt.Errorf("%s {id}: %w", kind, core.NotFound)
	rec, err := c.Org.Scope(c.ctx, c.tenant, core.ScopeID(c.r.PathValue("id")))
	if errors.Is(err, core.NotFound) || errors.Is(err, core.Limit) || err == nil && rec.Value.Kind != kind {
		return c.unseen(n.entity, n.action, absent)
	}
	if err != nil {
		return err
	}
	c.scope = rec.Value
	if err = c.allowed(n.entity, n.action, rec.Value.ID); errors.Is(err, core.NotFound) {
		err = absent
	}
	return err
}

// allowed asks for a permission in a scope below the account. The reason of a denial names the scope, so it is told only to who may see the
// scope; to anybody else who may see others of the kind, this one is not there.
func (c *call) allowed(e policy.Entity, a policy.Action, scope core.ScopeID) error {
	err := c.Access.Allowed(c.ctx, c.actor, e, a, scope)
	if !errors.Is(err, core.Denied) {
		return err
	}
	if a != policy.View && c.Access.Allowed(c.ctx, c.actor, e, policy.View, scope) == nil {
		return err
	}
	return c.unseen(e, a, fmt.Errorf("%s: %w", e, core.NotFound))
}

// unseen answers about an object that the caller does not see, or that there is not: absent, to who may see others of its
// kind, and to anybody else the same denial either way.
func (c *call) unseen(e policy.Entity, a policy.Action, absent error) error {
	held, err := c.Access.PermittedScopes(c.ctx, c.tenant, c.actor.Subject, e, policy.View)
	switch {
	case err != nil:
		return err
	case len(held) == 0:
		return lacks(e, a)
	}
	return absent
}

// told is what a caller is told of a refusal that is about the access rules of a scope. Its reason names the scope, so it is for
// those who may view or change the rules there. Anybody else is told what would be said if there were no such rule, or no such
// scope (unseen): a rule of the account looks as absent as any other one. Who wants to create a rule has named the scope, not a
// rule, so that the reason is also for those who may view the scope; and that there is an account is no secret.
func (c *call) told(refusal error, a policy.Action, scope core.ScopeID, unseen error) (told, err error) {
	if !errors.Is(refusal, core.Denied) || a == policy.Create && scope == core.AccountScope(c.tenant) {
		return refusal, nil
	}
	ask := access.Ask{Subject: c.actor.Subject, UserID: c.actor.UserID, Entity: policy.AccessRules, Action: a, Scope: scope}
	view := ask
	view.Action = policy.View
	asks := []access.Ask{ask, view}
	if a == policy.Create {
		rec, err := c.Org.Scope(c.ctx, c.tenant, scope)
		if errors.Is(err, core.NotFound) {
			return unseen, nil
		}
		if err != nil {
			return nil, err
		}
		view.Entity = entityOfScope[rec.Value.Kind]
		asks = append(asks, view)
	}
	verdicts, err := c.Access.DecideAll(c.ctx, c.tenant, asks...)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(verdicts, func(v access.Verdict) bool { return v.Allowed }) {
		return refusal, nil
	}
	return unseen, nil
}

// entityOfScope is what the permission to view a scope is about.
var entityOfScope = map[core.ScopeKind]policy.Entity{
	core.Cluster: policy.Cluster, core.Department: policy.Department, core.Project: policy.Project,
}

// holdsSomewhere asks for a permission in any scope.
func (c *call) holdsSomewhere(e policy.Entity, a policy.Action) error {
	held, err := c.Access.PermittedScopes(c.ctx, c.tenant, c.actor.Subject, e, a)
	if err == nil && len(held) == 0 {
		err = lacks(e, a)
	}
	return err
}

func lacks(e policy.Entity, a policy.Action) error {
	return fmt.Errorf("needs %s on %s, which you hold nowhere: %w", a, e, core.Denied)
}

// authorizeOperator asks whether the caller is a System administrator of the whole operators' tenant: whether everything
// that the role permits is held there. In any other tenant there are no tenants to be seen.
func (c *call) authorizeOperator() error {
	if c.tenant != core.SystemTenant {
		return fmt.Errorf("tenants: %w", core.NotFound)
	}
	return c.holdsRole(policy.SystemAdministrator, core.AccountScope(c.tenant), access.Now)
}

// holdsRole asks whether the caller holds every permission of a role in a scope, for the term.
func (c *call) holdsRole(id core.RoleID, scope core.ScopeID, term access.Term) error {
	err := c.Access.Covers(c.ctx, c.actor, term, core.Rule{Role: id, Scope: scope})
	if errors.Is(err, core.Denied) {
		role, _ := policy.RoleByID(id)
		err = fmt.Errorf("needs everything that a %s may do: %w", role.Name, err)
	}
	return err
}

// outranks asks whether the caller holds, in each scope, all that a subject was granted there, for the term. Who may give
// somebody a new password, an application a new secret, or a group a new member, could act with their rights, so it is the
// delegation guard once more: nobody comes by more than what they hold, nor for longer. Oneself one always outranks.
func (c *call) outranks(who core.Subject, term access.Term) error {
	if who == c.actor.Subject {
		return nil
	}
	rules, err := c.Access.ForSubjects(c.ctx, c.tenant, who)
	if err != nil {
		return err
	}
	err = c.Access.Covers(c.ctx, c.actor, term, rules...)
	if errors.Is(err, core.Denied) {
		if term == access.Lasting && c.Access.Covers(c.ctx, c.actor, access.Now, rules...) == nil {
			return fmt.Errorf("%s has rights that you do not hold for as long: %w", who, core.Denied)
		}
		return fmt.Errorf("%s has rights that you do not hold: %w", who, core.Denied)
	}
	return err
}
