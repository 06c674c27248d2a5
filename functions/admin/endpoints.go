package admin

import "github.com/fleetpass/fleetpass/core/policy"

// endpoint is one row of the API: what is called, what it takes, and what doing it needs.
type endpoint struct {
	method string
	path   string // below /t/{tenant}/api/v1
	need   need
	do     func(*call) (reply, error)
	query  []string // the parameters that it understands; any other is refused by name
}

// need is the permission that a call needs before its handler runs.
type need struct {
	entity policy.Entity
	action policy.Action
	in     place
}

// place says in which scope a permission is needed.
type place uint8

const (
	// byHandler: the handler knows, since the scope is named in the body, or follows from the object. The tests walk every
	// endpoint with every role, so that one that forgot to ask fails there.
	byHandler place = iota
	// inAccount: the object belongs to the account itself, such as a person.
	inAccount
	// inScope: the object is the scope {id}.
	inScope
	// anywhere: some scope of the tenant will do. The object is the same for everyone, and only of use to those who hold
	// the permission.
	anywhere
	// ofOneself: the call concerns the caller alone.
	ofOneself
	// byAdministrator: who may do everything at the account that a System administrator does. No single permission of the
	// matrix is as much as this.
	byAdministrator
	// byOperator: a System administrator of the account of the operators' tenant. No permission of the matrix stands for
	// this, since no role of a customer's tenant may come near it.
	byOperator
)

// root is where the API lies in a tenant.
const root = "/t/{tenant}/api/v1"

func (e endpoint) pattern() string {
	return e.method + " " + root + e.path
}

var paging = []string{"limit", "offset"}

// endpoints is the API.
func endpoints() []endpoint {
	const (
		view, edit, create, del = policy.View, policy.Edit, policy.Create, policy.Delete

		rules      = "/authorization/access-rules"
		clusters   = "/clusters"
		dead       = "/sync/dead-letters"
		idps       = "/idps"
		department = "/org-unit/departments"
		project    = "/org-unit/projects"
	)
	object := func(e policy.Entity, a policy.Action) need { return need{e, a, inScope} }
	account := func(e policy.Entity, a policy.Action) need { return need{e, a, inAccount} }
	scoped := func(e policy.Entity, a policy.Action) need { return need{e, a, byHandler} }

	list := []endpoint{
		{"POST", rules, scoped(policy.AccessRules, create), createRule, nil},
		{"GET", rules, scoped(policy.AccessRules, view), listRules, ruleFilters},
		{"GET", rules + "/count", scoped(policy.AccessRules, view), countRules, ruleFilters},
		{"GET", rules + "/{id}", scoped(policy.AccessRules, view), getRule, nil},
		{"DELETE", rules + "/{id}", scoped(policy.AccessRules, del), deleteRule, nil},
		{"GET", "/authorization/me/access-rules", need{in: ofOneself}, myRules, paging},
		{"GET", "/authorization/roles", need{policy.SystemRoles, view, anywhere}, listRoles, nil},
		{"GET", "/authorization/roles/{id}", need{policy.SystemRoles, view, anywhere}, getRole, nil},
		{"GET", "/authorization/permissions", need{in: ofOneself}, myPermissions, nil},
		{"POST", "/authorization/permitted-scopes", need{in: ofOneself}, myPermittedScopes, nil},

		{"POST", clusters, account(policy.Cluster, create), createCluster, nil},
		{"GET", clusters, scoped(policy.Cluster, view), listClusters, paging},
		{"GET", clusters + "/{id}", object(policy.Cluster, view), getCluster, nil},
		{"PUT", clusters + "/{id}", object(policy.Cluster, edit), putCluster, nil},
		{"DELETE", clusters + "/{id}", object(policy.Cluster, del), deleteCluster, []string{"cascade"}},
		{"GET", clusters + "/{id}/status", object(policy.Cluster, view), clusterStatus, nil},
		{"GET", clusters + "/{id}/bootstrap", object(policy.ClusterConfig, view), clusterBootstrap, nil},
		{"GET", clusters + "/{id}/authentication-configuration", object(policy.ClusterConfig, view), clusterAuthentication, nil},
		{"POST", clusters + "/{id}/reconcile", object(policy.Cluster, edit), reconcileCluster, nil},

		{"GET", dead, scoped(policy.Cluster, view), listDeadLetters, paging},
		{"POST", dead + "/replay", scoped(policy.Cluster, edit), replayDeadLetters, nil},
		{"POST", dead + "/{id}/replay", scoped(policy.Cluster, edit), replayDeadLetter, nil},
		{"DELETE", dead + "/{id}", scoped(policy.Cluster, edit), deleteDeadLetter, nil},

		{"POST", department, scoped(policy.Department, create), createDepartment, nil},
		{"GET", department, scoped(policy.Department, view), listDepartments, scopeFilters},
		{"GET", department + "/{id}", object(policy.Department, view), getDepartment, nil},
		{"PUT", department + "/{id}", object(policy.Department, edit), putDepartment, nil},
		{"DELETE", department + "/{id}", object(policy.Department, del), deleteDepartment, []string{"cascade"}},

		{"POST", project, scoped(policy.Project, create), createProject, nil},
		{"GET", project, scoped(policy.Project, view), listProjects, scopeFilters},
		{"GET", project + "/{id}", object(policy.Project, view), getProject, nil},
		{"PUT", project + "/{id}", object(policy.Project, edit), putProject, nil},
		{"DELETE", project + "/{id}", object(policy.Project, del), deleteProject, []string{"cascade"}},

		{"POST", "/users", account(policy.Users, create), createUser, nil},
		{"GET", "/users", account(policy.Users, view), listUsers, paging},
		{"GET", "/users/{id}", account(policy.Users, view), getUser, nil},
		{"PATCH", "/users/{id}", account(policy.Users, edit), patchUser, nil},
		{"DELETE", "/users/{id}", account(policy.Users, del), deleteUser, nil},
		{"POST", "/users/{id}/password", account(policy.Users, edit), resetPassword, nil},
		{"POST", "/users/{id}/logout", account(policy.Users, edit), forceLogout, nil},
		{"PUT", "/users/{id}/idp", account(policy.Users, edit), putUserIdP, nil},

		{"POST", "/groups", account(policy.Groups, create), createGroup, nil},
		{"GET", "/groups", account(policy.Groups, view), listGroups, paging},
		{"DELETE", "/groups/{name}", account(policy.Groups, del), deleteGroup, nil},
		{"PUT", "/groups/{name}/members/{email}", account(policy.Groups, edit), addMember, nil},
		{"DELETE", "/groups/{name}/members/{email}", account(policy.Groups, edit), removeMember, nil},

		{"GET", "/me", need{in: ofOneself}, getMe, nil},
		{"POST", "/me/password", need{in: ofOneself}, changeMyPassword, nil},

		{"GET", "/tenant/settings", account(policy.Settings, view), getSettings, nil},
		{"PUT", "/tenant/settings", account(policy.Settings, edit), putSettings, nil},
		{"GET", "/security/settings", account(policy.Settings, view), listSecurity, nil},
		{"GET", "/security/settings/{key}", account(policy.Settings, view), getSecurity, nil},
		{"PUT", "/security/settings/{key}", need{in: byAdministrator}, putSecurity, nil},

		{"POST", idps, need{in: byAdministrator}, createIdP, nil},
		{"GET", idps, account(policy.Settings, view), listIdPs, nil},
		{"GET", idps + "/{alias}", account(policy.Settings, view), getIdP, nil},
		{"PUT", idps + "/{alias}", need{in: byAdministrator}, putIdP, nil},
		{"DELETE", idps + "/{alias}", need{in: byAdministrator}, deleteIdP, nil},
		{"GET", idps + "/{alias}/mappers", account(policy.Settings, view), getMappers, nil},
		{"PUT", idps + "/{alias}/mappers", need{in: byAdministrator}, putMappers, nil},
		{"POST", idps + "/{alias}/keys", need{in: byAdministrator}, rotateIdPKeys, nil},
		{"POST", idps + "/{alias}/refresh", need{in: byAdministrator}, refreshIdP, nil},
		{"POST", idps + "/{alias}/test", need{in: byAdministrator}, testIdP, nil},
		{"GET", "/sso/traces", account(policy.Settings, view), listTraces, []string{"limit", "cursor"}},
		{"GET", "/sso/traces/{id}", account(policy.Settings, view), getTrace, nil},

		{"GET", "/keys", need{in: byAdministrator}, listKeys, nil},
		{"POST", "/keys/{id}/revoke", need{in: byAdministrator}, revokeKey, nil},
		{"GET", "/audit/log", account(policy.EventsHistory, view), listAudit, []string{"limit", "cursor"}},

		{"POST", "/tenants", need{in: byOperator}, createTenant, nil},
		{"GET", "/tenants", need{in: byOperator}, listTenants, paging},
		{"GET", "/tenants/{id}", need{in: byOperator}, getTenant, nil},
		{"PATCH", "/tenants/{id}", need{in: byOperator}, patchTenant, nil},
		{"POST", "/tenants/{id}/welcome-link", need{in: byOperator}, welcomeTenant, nil},
		{"DELETE", "/tenants/{id}", need{in: byOperator}, deleteTenant, nil},
	}
	for _, noun := range applicationPaths {
		list = append(list,
			endpoint{"POST", noun, account(policy.Apps, create), createApplication, nil},
			endpoint{"GET", noun, account(policy.Apps, view), listApplications, paging},
			endpoint{"GET", noun + "/{id}", account(policy.Apps, view), getApplication, nil},
			endpoint{"PATCH", noun + "/{id}", account(policy.Apps, edit), patchApplication, nil},
			endpoint{"POST", noun + "/{id}/secret", account(policy.Apps, edit), rotateSecret, nil},
			endpoint{"DELETE", noun + "/{id}", account(policy.Apps, del), deleteApplication, nil},
		)
	}
	return list
}
