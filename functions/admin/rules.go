package admin

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

func createRule(c *call) (reply, error) {
	req, err := decode[api.AccessRuleRequest](c)
	if err != nil {
		return failed(err)
	}
	n, err := c.newRule(req)
	if err != nil {
		return failed(err)
	}
	refused := func(err error) (reply, error) {
		// Who may create rules nowhere hears the same whatever the scope is. It is asked only now, since it costs reads.
		if errors.Is(err, core.NotFound) || errors.Is(err, core.Denied) {
			if nowhere := c.holdsSomewhere(policy.AccessRules, policy.Create); nowhere != nil {
				return failed(nowhere)
			}
		}
		told, failure := c.told(err, policy.Create, n.Scope, errUnseenScope)
		return reply{denied: err}, cmp.Or(failure, told) // what looks absent was refused all the same
	}
	if dry, err := c.flag(dryRun); err != nil {
		return failed(err)
	} else if dry {
		rep, err := c.previewRules([]access.NewRule{n}, nil)
		if err != nil {
			return refused(err)
		}
		return rep, nil
	}
	rule, err := c.Access.Create(c.ctx, c.actor, n)
	if err != nil {
		return refused(err)
	}
	wire, err := c.oneRule(rule)
	if err != nil {
		return failed(err)
	}
	return created(wire)
}

// newRule reads what rule is wanted. It asks nothing of the store.
func (c *call) newRule(req api.AccessRuleRequest) (access.NewRule, error) {
	none := access.NewRule{}
	kind, known := req.SubjectType.Kind()
	if !known {
		return none, core.BadField("subjectType", "must be user, group, service-account or app")
	}
	if req.SubjectID == "" {
		return none, core.BadField("subjectId", "must name the subject: an e-mail, a group or a client id")
	}
	scopeKind, known := req.ScopeType.Kind()
	if !known || req.ScopeType == api.ScopeSystem && c.tenant != core.SystemTenant {
		return none, core.BadField("scopeType", "must be tenant, cluster, department or project")
	}
	if cluster, _ := req.ScopeID.ClusterOf(); req.ClusterID != "" && req.ClusterID != cluster {
		return none, core.BadField("clusterId", "must be the cluster that the scope lies in, or be left out")
	}
	return access.NewRule{
		Subject: core.Subject{Kind: kind, ID: req.SubjectID}, Role: req.RoleID,
		Scope: req.ScopeID, ScopeKind: scopeKind, ExpiresAt: req.ExpiresAt, Reason: req.Reason,
	}, nil
}

func getRule(c *call) (reply, error) {
	rule, err := c.rule(policy.View)
	if err != nil {
		return failed(err)
	}
	wire, err := c.oneRule(rule)
	if err != nil {
		return failed(err)
	}
	return ok(wire)
}

func deleteRule(c *call) (reply, error) {
	rule, err := c.rule(policy.Delete)
	if err != nil {
		return failed(err)
	}
	if dry, err := c.flag(dryRun); err != nil {
		return failed(err)
	} else if dry {
		return c.previewRules(nil, []core.RuleID{rule.ID})
	}
	if err := c.Access.Delete(c.ctx, c.actor, rule.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

// rule reads the rule {id}, if the caller holds the permission in its scope. Rules are numbered through, so what must not be
// seen looks absent, wherever it is: else anybody could count them, those of the account's administrators among them.
func (c *call) rule(a policy.Action) (core.Rule, error) {
	none := core.Rule{}
	if err := c.holdsSomewhere(policy.AccessRules, a); err != nil {
		return none, err
	}
	absent := fmt.Errorf("access rule {id}: %w", core.NotFound)
	s := c.r.PathValue("id")
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(id, 10) != s {
		return none, absent
	}
	rule, err := c.Access.Get(c.ctx, c.tenant, core.RuleID(id))
	if err == nil && !rule.Live(c.now) {
		err = absent
	}
	if err == nil {
		var failure error
		err, failure = c.told(c.Access.Allowed(c.ctx, c.actor, policy.AccessRules, a, rule.Scope), a, rule.Scope, absent)
		err = cmp.Or(failure, err)
	}
	if errors.Is(err, core.NotFound) {
		err = absent
	}
	return rule, err
}

func (c *call) wireRule(r core.Rule, names map[core.ScopeID]string) api.AccessRule {
	role, _ := policy.RoleByID(r.Role)
	cluster, _ := r.Scope.ClusterOf()
	return api.AccessRule{
		ID: r.ID, SubjectID: r.Subject.ID, SubjectType: api.SubjectTypeOf(r.Subject.Kind),
		RoleID: r.Role, RoleName: role.Name,
		ScopeID: r.Scope, ScopeType: api.ScopeTypeOf(c.tenant, r.ScopeKind), ScopeName: names[r.Scope],
		ClusterID: cluster, TenantID: c.tenant,
		CreatedAt: r.CreatedAt, UpdatedAt: r.CreatedAt, CreatedBy: by(r.CreatedBy),
		ExpiresAt: r.ExpiresAt, Reason: r.Reason,
	}
}

// oneRule is a rule with its scope's path, and how far the clusters that it concerns have followed.
func (c *call) oneRule(r core.Rule) (api.AccessRule, error) {
	path, err := c.scopePath(r.Scope)
	if err != nil {
		return api.AccessRule{}, err
	}
	wire := c.wireRule(r, map[core.ScopeID]string{r.Scope: path[len(path)-1]})
	wire.ScopePath = strings.Join(path, "/")
	wire.Status, err = c.ruleState(r)
	return wire, err
}
