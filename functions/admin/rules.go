package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// ruleFilters are the parameters of the list of access rules. The original has more; they are refused by name until they
// are built.
var ruleFilters = []string{"limit", "offset", "subjectType", "subjectIds", "scopeId", "clusterId"}

// maxSubjectIDs is how many subjects one list may be asked for.
const maxSubjectIDs = 100

func createRule(c *call) (reply, error) {
	req, err := decode[api.AccessRuleRequest](c)
	if err != nil {
		return failed(err)
	}
	kind, known := req.SubjectType.Kind()
	if !known {
		return failed(core.BadField("subjectType", "must be user, group, service-account or app"))
	}
	if req.SubjectID == "" {
		return failed(core.BadField("subjectId", "must name the subject: an e-mail, a group or a client id"))
	}
	scopeKind, known := req.ScopeType.Kind()
	if !known || req.ScopeType == api.ScopeSystem && c.tenant != core.SystemTenant {
		return failed(core.BadField("scopeType", "must be tenant, cluster, department or project"))
	}
	if cluster, _ := req.ScopeID.ClusterOf(); req.ClusterID != "" && req.ClusterID != cluster {
		return failed(core.BadField("clusterId", "must be the cluster that the scope lies in, or be left out"))
	}
	rule, err := c.Access.Create(c.ctx, c.actor, access.NewRule{
		Subject: core.Subject{Kind: kind, ID: req.SubjectID}, Role: req.RoleID,
		Scope: req.ScopeID, ScopeKind: scopeKind, ExpiresAt: req.ExpiresAt, Reason: req.Reason,
	})
	if err != nil {
		return failed(err)
	}
	wire, err := c.oneRule(rule)
	if err != nil {
		return failed(err)
	}
	return created(wire)
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
	if err := c.Access.Delete(c.ctx, c.actor, rule.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

// rule reads the rule {id}, if the caller holds the permission in its scope. Rules are numbered through, so what must not be
// seen looks absent: else anybody could count them.
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
	if err == nil {
		err = c.allowed(policy.AccessRules, a, rule.Scope)
	}
	if errors.Is(err, core.NotFound) {
		err = absent
	}
	return rule, err
}

func listRules(c *call) (reply, error) {
	q, err := c.ruleQuery()
	if err != nil {
		return failed(err)
	}
	found, err := c.Access.List(c.ctx, c.actor, q)
	if err != nil {
		return failed(err)
	}
	return c.ruleList(found.Rules, found.Total)
}

func countRules(c *call) (reply, error) {
	q, err := c.ruleQuery()
	if err != nil {
		return failed(err)
	}
	q.Offset, q.Limit = 0, 1
	found, err := c.Access.List(c.ctx, c.actor, q)
	if err != nil {
		return failed(err)
	}
	return ok(api.Count{Count: found.Total})
}

// ruleQuery reads the filters. A subject's id without a type is looked for among all types.
func (c *call) ruleQuery() (q access.Query, err error) {
	if err := c.holdsSomewhere(policy.AccessRules, policy.View); err != nil {
		return q, err
	}
	if q.Limit, q.Offset, err = c.paging(); err != nil {
		return q, err
	}
	kinds := []core.SubjectKind{core.User, core.Group, core.Application}
	if c.params.Has("subjectType") {
		kind, known := api.SubjectType(c.params.Get("subjectType")).Kind()
		if !known {
			return q, core.BadField("subjectType", "must be user, group, service-account or app")
		}
		q.SubjectKind, kinds = kind, []core.SubjectKind{kind}
	}
	for _, v := range c.params["subjectIds"] {
		for _, id := range subjectIDs(v) {
			if id == "" || len(id) > 256 || len(q.Subjects) >= maxSubjectIDs*len(kinds) {
				return q, core.BadField("subjectIds", fmt.Sprintf("must be 1 to %d ids, none of them empty", maxSubjectIDs))
			}
			for _, k := range kinds {
				q.Subjects = append(q.Subjects, canonical(k, id))
			}
		}
	}
	if q.Scope, err = scopeParam[core.ScopeID](c, "scopeId"); err != nil {
		return q, err
	}
	q.Cluster, err = scopeParam[core.ClusterID](c, "clusterId")
	return q, err
}

// subjectIDs reads a value of subjectIds: one id, or several joined with commas. A group's name may hold a comma, so the
// whole value is looked for too.
func subjectIDs(v string) []string {
	parts := strings.Split(v, ",")
	if len(parts) == 1 {
		return parts
	}
	return append(parts, v)
}

// canonical is the form in which rules keep a subject. What cannot be a name stays as it is, and matches nothing.
func canonical(k core.SubjectKind, id string) core.Subject {
	switch k {
	case core.User:
		if e, err := core.ParseEmail("", id); err == nil {
			return core.UserSubject(e)
		}
	case core.Group:
		if g, err := core.ParseGroupName("", id); err == nil {
			return core.GroupSubject(g)
		}
	}
	return core.Subject{Kind: k, ID: id}
}

// scopeParam is a parameter that is an id; absent, it is empty.
func scopeParam[T ~string](c *call, name string) (T, error) {
	v := c.params.Get(name)
	if c.params.Has(name) && (v == "" || len(v) > 100) {
		return "", core.BadField(name, "must be an id")
	}
	return T(v), nil
}

func myRules(c *call) (reply, error) {
	mine, err := c.Access.Mine(c.ctx, c.actor)
	if err != nil {
		return failed(err)
	}
	part, err := page(c, mine)
	if err != nil {
		return failed(err)
	}
	return c.ruleList(part, len(mine))
}

func (c *call) ruleList(rules []core.Rule, total int) (reply, error) {
	names, err := c.scopeNames(rules)
	if err != nil {
		return failed(err)
	}
	list := api.AccessRuleList{TotalRecords: total, DisplayRecords: len(rules)}
	list.AccessRules = each(rules, func(r core.Rule) api.AccessRule { return c.wireRule(r, names) })
	return reply{status: http.StatusOK, json: list, total: total, list: true}, nil
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
