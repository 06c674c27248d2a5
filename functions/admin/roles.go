package admin

import (
	"fmt"
	"strconv"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// actions is how the API spells the policy's actions, in the API's order.
var actions = []struct {
	wire api.Action
	act  policy.Action
}{
	{api.ActionCreate, policy.Create},
	{api.ActionRead, policy.View},
	{api.ActionUpdate, policy.Edit},
	{api.ActionDelete, policy.Delete},
}

func listRoles(c *call) (reply, error) { return ok(each(policy.Roles(), wireRole)) }

func getRole(c *call) (reply, error) {
	id, err := strconv.Atoi(c.r.PathValue("id"))
	role, found := policy.RoleByID(core.RoleID(id))
	if err != nil || !found {
		return failed(fmt.Errorf("role {id}: %w", core.NotFound))
	}
	return ok(wireRole(role))
}

func wireRole(r policy.Role) api.Role {
	return api.Role{
		ID: r.ID, Name: r.Name, Description: r.Description, Enabled: true, EffectiveEnabled: true, CreatedBy: "system",
		Permissions:           wirePermissions(&r.Permissions),
		KubernetesPermissions: api.KubernetesPermissions{PredefinedRole: r.Name},
	}
}

// wirePermissions lists the entities of which anything is permitted.
func wirePermissions(p *policy.Permissions) []api.Permission {
	out := []api.Permission{}
	for _, e := range policy.Entities() {
		if p[e] == 0 {
			continue
		}
		w := api.Permission{ResourceType: e.String(), DisplayName: e.Label(), GroupID: e.Group()}
		for _, a := range actions {
			if p.Has(e, a.act) {
				w.Actions = append(w.Actions, a.wire)
			}
		}
		out = append(out, w)
	}
	return out
}

// myPermissions is what the caller may do in some scope or other: what a user interface shows at all. Where, is
// myPermittedScopes's answer.
func myPermissions(c *call) (reply, error) {
	mine, err := c.Access.Mine(c.ctx, c.actor)
	if err != nil {
		return failed(err)
	}
	var held policy.Permissions
	for _, r := range mine {
		role, _ := policy.RoleByID(r.Role)
		for e, a := range role.Permissions {
			held[e] |= a
		}
	}
	return ok(wirePermissions(&held))
}

func myPermittedScopes(c *call) (reply, error) {
	req, err := decode[api.PermittedScopesRequest](c)
	if err != nil {
		return failed(err)
	}
	entity, known := policy.ParseEntity(req.ResourceType)
	if !known {
		return failed(core.BadField("resourceType", "must be the resourceType of one of your permissions, such as project"))
	}
	var out api.PermittedScopes
	asked := false
	for _, a := range actions {
		if req.Action != "" && req.Action != a.wire {
			continue
		}
		asked = true
		set, err := c.scopeSet(entity, a.act)
		if err != nil {
			return failed(err)
		}
		switch a.act {
		case policy.Create:
			out.Create = set
		case policy.View:
			out.Read = set
		case policy.Edit:
			out.Update = set
		case policy.Delete:
			out.Delete = set
		}
	}
	if !asked {
		return failed(core.BadField("action", "must be create, read, update or delete; or leave it out for all four"))
	}
	return ok(out)
}

func (c *call) scopeSet(e policy.Entity, a policy.Action) (*api.ScopeSet, error) {
	held, err := c.Access.PermittedScopes(c.ctx, c.tenant, c.actor.Subject, e, a)
	if err != nil {
		return nil, err
	}
	set := &api.ScopeSet{Tenants: []core.TenantID{}, Clusters: []core.ClusterID{}, Departments: []core.ScopeID{}, Projects: []core.ScopeID{}}
	for _, sc := range held {
		switch sc.Kind {
		case core.Account:
			set.System = c.tenant == core.SystemTenant
			set.Tenants = append(set.Tenants, c.tenant)
		case core.Cluster:
			set.Clusters = append(set.Clusters, sc.Cluster)
		case core.Department:
			set.Departments = append(set.Departments, sc.ID)
		case core.Project:
			set.Projects = append(set.Projects, sc.ID)
		}
	}
	return set, nil
}
