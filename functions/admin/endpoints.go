package admin

import (
	"slices"

	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// root is where the API lies in a tenant.
const root = "/t/{tenant}/api/v1"

func (e endpoint) pattern() string {
	return e.method + " " + root + e.path
}

const view, edit, create, del = policy.View, policy.Edit, policy.Create, policy.Delete

func inside(e policy.Entity, a policy.Action) need  { return need{e, a, inScope} }
func account(e policy.Entity, a policy.Action) need { return need{e, a, inAccount} }
func scoped(e policy.Entity, a policy.Action) need  { return need{e, a, byHandler} }

var (
	oneself       = need{in: ofOneself}
	signedIn      = need{in: ofSignedIn}
	administrator = need{in: byAdministrator}
	operators     = need{in: byOperator}
)

// endpoints is the API.
func endpoints() []endpoint {
	return slices.Concat(
		ruleEndpoints(), roleEndpoints(), scopeEndpoints(), syncEndpoints(),
		userEndpoints(), groupEndpoints(), applicationEndpoints(), accessKeyEndpoints(), issuerEndpoints(),
		settingEndpoints(), idpEndpoints(), keyEndpoints(), auditEndpoints(), tenantEndpoints(),
	)
}

func ruleEndpoints() []endpoint {
	const rules = "/authorization/access-rules"
	return []endpoint{
		row("POST", rules, "Create an access rule", scoped(policy.AccessRules, create), createRule).
			takes(api.AccessRuleRequest{}).gives(201, api.AccessRule{}).foretells(api.RulePreview{}),
		row("GET", rules, "List the access rules that the caller may view", scoped(policy.AccessRules, view), listRules).
			with(ruleParams...).gives(200, api.AccessRuleList{}),
		row("GET", rules+"/count", "Count the access rules that the caller may view", scoped(policy.AccessRules, view), countRules).
			with(ruleFilters...).gives(200, api.Count{}),
		row("GET", rules+"/{id}", "Read an access rule", scoped(policy.AccessRules, view), getRule).
			gives(200, api.AccessRule{}).on(ruleObject),
		row("DELETE", rules+"/{id}", "Delete an access rule", scoped(policy.AccessRules, del), deleteRule).
			gives(204, nil).on(ruleObject).foretells(api.RulePreview{}),
		row("POST", rules+"/batch", "Delete access rules, or say what of that would be refused", scoped(policy.AccessRules, del), batchRules).
			takes(api.AccessRuleBatch{}).gives(200, api.AccessRuleBatchResult{}).with(dryRun),
		row("POST", rules+"/batch-create", "Create an access rule for every subject in every scope", scoped(policy.AccessRules, create), batchCreateRules).
			takes(api.AccessRuleBatchCreate{}).gives(200, api.AccessRuleBatchCreateResult{}).with(dryRun),
		row("GET", "/authorization/me/access-rules", "List the access rules that the caller holds", oneself, myRules).
			with(listParams...).gives(200, api.AccessRuleList{}),
		row("GET", "/authorization/me/access-rules/count", "Count the access rules that the caller holds", oneself, countMyRules).gives(200, api.Count{}),
	}
}

func roleEndpoints() []endpoint {
	return []endpoint{
		row("GET", "/authorization/roles", "List the roles", need{policy.SystemRoles, view, anywhere}, listRoles).gives(200, []api.Role{}),
		row("GET", "/authorization/roles/{id}", "Read a role", need{policy.SystemRoles, view, anywhere}, getRole).gives(200, api.Role{}),
		row("GET", "/authorization/permissions", "List what the caller may do in some scope", oneself, myPermissions).gives(200, []api.Permission{}),
		row("POST", "/authorization/permitted-scopes", "List the scopes in which the caller may do something", oneself, myPermittedScopes).
			takes(api.PermittedScopesRequest{}).gives(200, api.PermittedScopes{}),
	}
}

func scopeEndpoints() []endpoint {
	const (
		clusters   = "/clusters"
		department = "/org-unit/departments"
		project    = "/org-unit/projects"
	)
	return []endpoint{
		row("POST", clusters, "Add a cluster", account(policy.Cluster, create), createCluster).takes(api.ClusterRequest{}).gives(201, api.Cluster{}),
		row("GET", clusters, "List the clusters that the caller may view", scoped(policy.Cluster, view), listClusters).with(listParams...).gives(200, []api.Cluster{}),
		row("GET", clusters+"/{id}", "Read a cluster", inside(policy.Cluster, view), getCluster).gives(200, api.Cluster{}).on(scopeObject),
		row("PUT", clusters+"/{id}", "Say anew how a cluster is called and reached", inside(policy.Cluster, edit), putCluster).
			takes(api.ClusterRequest{}).gives(200, api.Cluster{}).on(scopeObject),
		row("DELETE", clusters+"/{id}", "Delete a cluster", inside(policy.Cluster, del), deleteCluster).with("cascade").gives(204, nil).on(scopeObject),
		row("GET", clusters+"/{id}/status", "Read how far a cluster has followed", inside(policy.Cluster, view), clusterStatus).gives(200, api.ClusterStatus{}),
		row("GET", clusters+"/{id}/bootstrap", "Read the manifest to apply to a cluster once", inside(policy.ClusterConfig, view), clusterBootstrap).givesYAML(),
		row("GET", clusters+"/{id}/authentication-configuration", "Read the authentication configuration for a cluster's API server",
			inside(policy.ClusterConfig, view), clusterAuthentication).givesYAML(),
		row("POST", clusters+"/{id}/reconcile", "Have a cluster looked at in full", inside(policy.Cluster, edit), reconcileCluster).gives(202, struct{}{}),

		row("POST", department, "Create a department", scoped(policy.Department, create), createDepartment).takes(api.DepartmentRequest{}).gives(201, api.Department{}),
		row("GET", department, "List the departments that the caller may view", scoped(policy.Department, view), listDepartments).
			with(scopeFilters...).gives(200, api.DepartmentList{}),
		row("GET", department+"/{id}", "Read a department", inside(policy.Department, view), getDepartment).gives(200, api.Department{}).on(scopeObject),
		row("PUT", department+"/{id}", "Rename a department", inside(policy.Department, edit), putDepartment).
			takes(api.DepartmentRequest{}).gives(200, api.Department{}).on(scopeObject),
		row("DELETE", department+"/{id}", "Delete a department", inside(policy.Department, del), deleteDepartment).with("cascade").gives(204, nil).on(scopeObject),

		row("POST", project, "Create a project", scoped(policy.Project, create), createProject).takes(api.ProjectRequest{}).gives(201, api.Project{}),
		row("GET", project, "List the projects that the caller may view", scoped(policy.Project, view), listProjects).
			with(scopeFilters...).gives(200, api.ProjectList{}),
		row("GET", project+"/{id}", "Read a project", inside(policy.Project, view), getProject).gives(200, api.Project{}).on(scopeObject),
		row("PUT", project+"/{id}", "Rename or move a project", inside(policy.Project, edit), putProject).
			takes(api.ProjectRequest{}).gives(200, api.Project{}).on(scopeObject),
		row("DELETE", project+"/{id}", "Delete a project", inside(policy.Project, del), deleteProject).with("cascade").gives(204, nil).on(scopeObject),
	}
}

func syncEndpoints() []endpoint {
	const dead = "/sync/dead-letters"
	return []endpoint{
		row("GET", dead, "List what was given up on", scoped(policy.Cluster, view), listDeadLetters).with(listParams...).gives(200, []api.DeadLetter{}),
		row("POST", dead+"/replay", "Try everything again that was given up on", scoped(policy.Cluster, edit), replayDeadLetters).gives(200, api.DeadLetterReplay{}),
		row("POST", dead+"/{id}/replay", "Try something again that was given up on", scoped(policy.Cluster, edit), replayDeadLetter).gives(202, struct{}{}),
		row("DELETE", dead+"/{id}", "Forget something that was given up on", scoped(policy.Cluster, edit), deleteDeadLetter).gives(204, nil),
	}
}

func userEndpoints() []endpoint {
	return []endpoint{
		row("POST", "/users", "Create a local user, with a temporary password that is shown once", account(policy.Users, create), createUser).
			takes(api.UserRequest{}).gives(201, api.NewUser{}),
		row("GET", "/users", "List the users", account(policy.Users, view), listUsers).with(listParams...).gives(200, []api.User{}),
		row("GET", "/users/{id}", "Read a user", account(policy.Users, view), getUser).gives(200, api.User{}).on(userObject),
		row("PATCH", "/users/{id}", "Enable or disable a user, or change the profile", account(policy.Users, edit), patchUser).
			takes(api.UserPatch{}).gives(200, api.User{}).on(userObject),
		row("DELETE", "/users/{id}", "Delete a user with everything that the user holds", account(policy.Users, del), deleteUser).gives(204, nil).on(userObject),
		row("POST", "/users/{id}/password", "Give a local user a temporary password, which is shown once", account(policy.Users, edit), resetPassword).
			gives(200, api.TempPassword{}).on(userObject),
		row("POST", "/users/{id}/logout", "End every sign-in of a user; access keys go on", account(policy.Users, edit), forceLogout).gives(204, nil).on(userObject),
		row("PUT", "/users/{id}/idp", "Say which identity provider a user belongs to", account(policy.Users, edit), putUserIdP).
			takes(api.UserIdP{}).gives(200, api.LinkedUser{}).on(userObject),

		row("GET", "/me", "Read who the caller is", oneself, getMe).gives(200, api.Me{}),
		row("POST", "/me/password", "Change one's own password", oneself, changeMyPassword).takes(api.PasswordChange{}).gives(204, nil),
	}
}

func groupEndpoints() []endpoint {
	return []endpoint{
		row("POST", "/groups", "Create a group whose members are given here", account(policy.Groups, create), createGroup).takes(api.GroupRequest{}).gives(201, api.Group{}),
		row("GET", "/groups", "List the groups, local ones and those that identity providers told of", account(policy.Groups, view), listGroups).with(listParams...).gives(200, []api.Group{}),
		row("GET", "/groups/{name}", "Read a group, with its access rules and who is in it", account(policy.Groups, view), getGroup).gives(200, api.GroupDetails{}).on(knownObject),
		row("GET", "/groups/{name}/members", "List who is in a group", account(policy.Groups, view), listMembers).with(listParams...).gives(200, []api.GroupMember{}),
		row("DELETE", "/groups/{name}", "Delete a local group, and forget that an identity provider told of it", account(policy.Groups, del), deleteGroup).gives(204, nil).on(knownObject),
		row("PUT", "/groups/{name}/members/{email}", "Put a user into a group", account(policy.Groups, edit), addMember).gives(204, nil),
		row("DELETE", "/groups/{name}/members/{email}", "Take a user out of a group", account(policy.Groups, edit), removeMember).gives(204, nil),
	}
}

// applicationEndpoints serves applications under both of their nouns.
func applicationEndpoints() []endpoint {
	var list []endpoint
	for _, noun := range applicationPaths {
		list = append(list,
			row("POST", noun, "Create an application, with a secret that is shown once", account(policy.Apps, create), createApplication).
				takes(api.ApplicationRequest{}).gives(201, api.Application{}),
			row("GET", noun, "List the applications", account(policy.Apps, view), listApplications).with(listParams...).gives(200, []api.Application{}),
			row("GET", noun+"/{id}", "Read an application", account(policy.Apps, view), getApplication).gives(200, api.Application{}).on(applicationObject),
			row("PATCH", noun+"/{id}", "Enable or disable an application, or change where people are sent back to and what it proves itself with", account(policy.Apps, edit), patchApplication).
				takes(api.ApplicationPatch{}).gives(200, api.Application{}).on(applicationObject),
			row("POST", noun+"/{id}/secret", "Give an application another secret, which is shown once", account(policy.Apps, edit), rotateSecret).
				may(api.SecretRequest{}).gives(200, api.Application{}).on(applicationObject),
			row("DELETE", noun+"/{id}", "Delete an application", account(policy.Apps, del), deleteApplication).gives(204, nil).on(applicationObject),
		)
	}
	return list
}

// accessKeyEndpoints serves a person's own access keys under both of their nouns, and everybody's to administrators.
func accessKeyEndpoints() []endpoint {
	list := []endpoint{
		row("GET", allAccessKeys, "List everybody's access keys", account(policy.Users, view), listAllAccessKeys).with(listParams...).gives(200, []api.AccessKey{}),
		row("DELETE", allAccessKeys+"/{id}", "Delete anybody's access key", account(policy.Users, edit), deleteAnyAccessKey).gives(204, nil).on(accessKeyObject),
	}
	for _, noun := range accessKeyPaths {
		list = append(list,
			row("POST", noun, "Make a personal access key, with a secret that is shown once", signedIn, createAccessKey).
				takes(api.AccessKeyRequest{}).gives(201, api.AccessKey{}),
			row("GET", noun, "List one's own access keys", signedIn, listAccessKeys).with(listParams...).gives(200, []api.AccessKey{}),
			row("GET", noun+"/{id}", "Read one of one's own access keys", signedIn, getAccessKey).gives(200, api.AccessKey{}).on(ownAccessKeyObject),
			row("PATCH", noun+"/{id}", "Enable or disable one of one's own access keys", signedIn, patchAccessKey).
				takes(api.AccessKeyPatch{}).gives(200, api.AccessKey{}).on(ownAccessKeyObject),
			row("POST", noun+"/{id}/secret", "Give one of one's own access keys another secret, which is shown once", signedIn, rotateAccessKey).
				may(api.SecretRequest{}).gives(200, api.AccessKey{}).on(ownAccessKeyObject),
			row("DELETE", noun+"/{id}", "Delete one of one's own access keys", signedIn, deleteAccessKey).gives(204, nil).on(ownAccessKeyObject),
		)
	}
	return list
}

// issuerEndpoints are for administrators alone: who says which issuers are trusted, says in the end who comes in.
func issuerEndpoints() []endpoint {
	return []endpoint{
		row("POST", issuerPath, "Trust an issuer of tokens", administrator, createIssuer).takes(api.TrustedIssuerRequest{}).gives(201, api.TrustedIssuer{}),
		row("GET", issuerPath, "List the trusted issuers", account(policy.Settings, view), listIssuers).with(listParams...).gives(200, []api.TrustedIssuer{}),
		row("GET", issuerPath+"/{name}", "Read a trusted issuer", account(policy.Settings, view), getIssuer).gives(200, api.TrustedIssuer{}).on(issuerObject),
		row("PUT", issuerPath+"/{name}", "Say anew how a trusted issuer's keys are had, and whether it counts", administrator, putIssuer).
			takes(api.TrustedIssuerRequest{}).gives(200, api.TrustedIssuer{}).on(issuerObject),
		row("DELETE", issuerPath+"/{name}", "Trust an issuer no more", administrator, deleteIssuer).gives(204, nil).on(issuerObject),
	}
}

func settingEndpoints() []endpoint {
	return []endpoint{
		row("GET", "/tenant/settings", "Read the tenant's settings", account(policy.Settings, view), getSettings).gives(200, api.Settings{}).on(settingsObject),
		row("PUT", "/tenant/settings", "Replace the tenant's settings", account(policy.Settings, edit), putSettings).
			takes(api.Settings{}).gives(200, api.Settings{}).on(settingsObject),
		row("GET", "/security/settings", "Read the security settings", account(policy.Settings, view), listSecurity).gives(200, api.SecuritySettings{}).on(securityObject),
		row("GET", "/security/settings/{key}", "Read a security setting", account(policy.Settings, view), getSecurity).
			gives(200, anySetting{}).on(securityObject),
		row("PUT", "/security/settings/{key}", "Change a security setting", administrator, putSecurity).
			takes(anySetting{}).gives(200, anySetting{}).on(securityObject),
	}
}

// anySetting stands for one of the security settings, by {key}.
type anySetting struct {
	api.AutoRedirectSSO       `json:"autoRedirectSSO"`
	api.BrowserSessionTimeout `json:"browserSessionTimeout"`
	api.LogoutRedirectURI     `json:"logoutRedirectUri"`
	api.EnforceSSO            `json:"enforceSSO"`
}

func idpEndpoints() []endpoint {
	const idps = "/idps"
	return []endpoint{
		row("POST", idps, "Connect an identity provider", administrator, createIdP).takes(api.IdPRequest{}).gives(201, api.IdP{}).upTo(maxIdPBody),
		row("GET", idps, "List the identity providers", account(policy.Settings, view), listIdPs).gives(200, []api.IdP{}),
		row("GET", idps+"/{alias}", "Read an identity provider", account(policy.Settings, view), getIdP).gives(200, api.IdP{}).on(idpObject),
		row("PUT", idps+"/{alias}", "Replace what is known of an identity provider", administrator, putIdP).
			takes(api.IdPRequest{}).gives(200, api.IdP{}).on(idpObject).upTo(maxIdPBody),
		row("DELETE", idps+"/{alias}", "Disconnect an identity provider", administrator, deleteIdP).gives(204, nil).on(idpObject),
		row("GET", idps+"/{alias}/mappers", "Read how attributes are mapped", account(policy.Settings, view), getMappers).gives(200, api.Mappers{}).on(idpObject),
		row("PUT", idps+"/{alias}/mappers", "Replace how attributes are mapped", administrator, putMappers).takes(api.Mappers{}).gives(202, struct{}{}).on(idpObject),
		row("POST", idps+"/{alias}/keys", "Make new keys to decrypt with and to sign with", administrator, rotateIdPKeys).gives(200, api.IdP{}).on(idpObject),
		row("POST", idps+"/{alias}/refresh", "Read the provider's metadata now", administrator, refreshIdP).gives(200, api.IdP{}),
		row("POST", idps+"/{alias}/test", "Make a link to try signing in by", administrator, testIdP).gives(201, api.IdPTest{}),
		row("GET", "/sso/traces", "List the sign-in traces, the newest first", account(policy.Settings, view), listTraces).
			with("limit", "cursor").gives(200, api.TraceList{}),
		row("GET", "/sso/traces/{id}", "Read a sign-in trace", account(policy.Settings, view), getTrace).gives(200, api.Trace{}),
	}
}

func keyEndpoints() []endpoint {
	return []endpoint{
		row("GET", "/keys", "List the signing keys", administrator, listKeys).gives(200, []api.Key{}),
		row("POST", "/keys/{id}/revoke", "Revoke a signing key that leaked", administrator, revokeKey).gives(204, nil),
	}
}

func auditEndpoints() []endpoint {
	return []endpoint{
		row("GET", "/audit/log", "List the audit log, the newest first", account(policy.EventsHistory, view), listAudit).
			with(auditFilters...).with(listParams...).gives(200, api.AuditLog{}),
		row("GET", "/audit/log/file", "Export the audit log, the oldest record first", account(policy.EventsHistory, view), exportAudit).
			with(auditFilters...).with("format", "cursor", filterBy, "search").givesFile("text/csv", "application/x-ndjson", "application/cloudevents-batch+json"),
		row("GET", "/audit/chain", "Read the hash chain over the audit log as it is stored", account(policy.EventsHistory, view), auditChain).
			with("after", "limit").gives(200, api.AuditChain{}),
		row("GET", "/audit/chain/places", "List the places at which the audit log holds sealed records", account(policy.EventsHistory, view), auditPlaces).
			with("cursor").gives(200, api.AuditPlaces{}),
	}
}

func tenantEndpoints() []endpoint {
	return []endpoint{
		row("POST", "/tenants", "Create a tenant, with a link for its first administrator that is shown once", operators, createTenant).
			takes(api.TenantRequest{}).gives(201, api.Tenant{}),
		row("GET", "/tenants", "List the tenants", operators, listTenants).with(listParams...).gives(200, []api.Tenant{}),
		row("GET", "/tenants/{id}", "Read a tenant", operators, getTenant).gives(200, api.Tenant{}).on(tenantObject),
		row("PATCH", "/tenants/{id}", "Suspend a tenant, or serve it again", operators, patchTenant).takes(api.TenantPatch{}).gives(200, api.Tenant{}).on(tenantObject),
		row("POST", "/tenants/{id}/welcome-link", "Make another link for a tenant's first administrator", operators, welcomeTenant).gives(200, api.Tenant{}),
		row("DELETE", "/tenants/{id}", "Erase a tenant", operators, deleteTenant).gives(204, nil).on(tenantObject),
	}
}
