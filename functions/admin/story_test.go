package admin

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
)

// post sends v and reads the answer.
func post[T any](w *world, bearer, method, path string, v any, status int) T {
	w.Helper()
	body := ""
	if v != nil {
		b, err := json.Marshal(v)
		w.must(err)
		body = string(b)
	}
	return into[T](w, w.as(bearer, method, path, body).want(w, status))
}

// An administrator sets a tenant up and grants; each answer is what the next call needs.
func TestStory(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)

	cluster := post[api.Cluster](w, admin, "POST", "/clusters", api.ClusterRequest{Name: "berlin", Server: "https://api.berlin.test:6443"}, 201)
	want := api.Cluster{UUID: cluster.UUID, Name: "berlin", TenantID: acme, Mode: "issuer", Server: "https://api.berlin.test:6443",
		UserPrefix: "fleetpass:", GroupPrefix: "fleetpass:", Algorithm: "ES256", CreatedAt: w.Now(), CreatedBy: "admin@acme.test", UpdatedAt: w.Now()}
	if diff := cmp.Diff(want, cluster); diff != "" {
		t.Errorf("cluster:\n%s", diff)
	}
	dep := post[api.Department](w, admin, "POST", "/org-unit/departments", api.DepartmentRequest{Name: "research", ClusterID: cluster.UUID}, 201)
	project := post[api.Project](w, admin, "POST", "/org-unit/projects", api.ProjectRequest{Name: "vision", ParentID: dep.ID}, 201)
	if project.RequestedNamespace != "fleetpass-vision" || project.ClusterID != cluster.UUID || project.ParentID != dep.ID {
		t.Errorf("project: %+v", project)
	}
	ada := post[api.NewUser](w, admin, "POST", "/users", api.UserRequest{Email: "Ada@ACME.test"}, 201)
	if ada.Username != "ada@acme.test" || len(ada.TempPassword) < 20 {
		t.Errorf("user: %+v", ada)
	}
	group := post[api.Group](w, admin, "POST", "/groups", api.GroupRequest{Name: "Computer vision"}, 201)
	w.as(admin, "PUT", "/groups/Computer%20vision/members/ada@acme.test", "").want(t, 204)
	if u := post[api.User](w, admin, "GET", "/users/"+string(ada.ID), nil, 200); !slices.Equal(u.Groups, []core.GroupName{group.Name}) || !u.IsLocal || !u.Enabled {
		t.Errorf("user: %+v", u)
	}

	ends := w.Now().Add(48 * time.Hour)
	rule := post[api.AccessRule](w, admin, "POST", "/authorization/access-rules", api.AccessRuleRequest{
		SubjectID: "Computer vision", SubjectType: api.SubjectGroup, RoleID: policy.L1Researcher, ScopeID: project.ID,
		ScopeType: api.ScopeProject, ClusterID: cluster.UUID, ExpiresAt: ends, Reason: "trial",
	}, 201)
	wantRule := api.AccessRule{ID: rule.ID, SubjectID: "Computer vision", SubjectType: "group", RoleID: 5, RoleName: "L1 researcher",
		ScopeID: project.ID, ScopeType: "project", ScopeName: "vision", ScopePath: "ACME/berlin/research/vision", ClusterID: cluster.UUID,
		TenantID: acme, CreatedAt: w.Now(), UpdatedAt: w.Now(), CreatedBy: "admin@acme.test", ExpiresAt: ends, Reason: "trial",
		Status: api.AccessRuleState{Phase: api.PhaseCreating, Message: "on its way to the clusters", Details: "Creating: [" + string(cluster.UUID) + "]"}}
	if diff := cmp.Diff(wantRule, rule); diff != "" {
		t.Errorf("rule:\n%s", diff)
	}
	if got := post[api.AccessRule](w, admin, "GET", "/authorization/access-rules/"+itoa(rule.ID), nil, 200); got != rule {
		t.Errorf("rule read: %+v", got)
	}
	mine := post[api.AccessRuleList](w, w.userToken(acme, w.firstSignIn(acme, "ada@acme.test")), "GET", "/authorization/me/access-rules", nil, 200)
	if mine.TotalRecords != 1 || mine.DisplayRecords != 1 || mine.AccessRules[0].ID != rule.ID {
		t.Errorf("mine: %+v", mine)
	}
	if n := post[api.Count](w, admin, "GET", "/authorization/access-rules/count?subjectType=group", nil, 200); n.Count != 1 {
		t.Errorf("count: %+v", n)
	}

	// The clusters' side.
	w.must(w.Sync.Wanted(t.Context(), acme, []core.ClusterID{cluster.UUID}, core.Revision(rule.ID)))
	st := post[api.ClusterStatus](w, admin, "GET", "/clusters/"+string(cluster.UUID)+"/status", nil, 200)
	if st.Phase != api.PhaseCreating || st.RevisionWanted != core.Revision(rule.ID) || st.RevisionReached != 0 || !st.BehindSince.Equal(w.Now()) {
		t.Errorf("status: %+v", st)
	}
	w.as(admin, "POST", "/clusters/"+string(cluster.UUID)+"/reconcile", "").want(t, 202)
	if len(w.queue.sent) != 1 || !w.queue.sent[0].Full || w.queue.sent[0].Cluster != cluster.UUID || w.queue.sent[0].Tenant != acme {
		t.Errorf("queued: %+v", w.queue.sent)
	}
	doc := w.as(admin, "GET", "/clusters/"+string(cluster.UUID)+"/authentication-configuration", "").want(t, 200)
	if doc.Header().Get("Content-Type") != "application/yaml" || !strings.Contains(doc.Body.String(), base+"/t/acme") || !strings.Contains(doc.Body.String(), string(cluster.UUID)) {
		t.Errorf("authentication configuration: %s", doc.Body)
	}
	if doc := w.as(admin, "GET", "/clusters/"+string(cluster.UUID)+"/bootstrap", "").want(t, 200); !strings.Contains(doc.Body.String(), "kind: ClusterRole") {
		t.Errorf("bootstrap: %s", doc.Body)
	}

	// Taking away.
	w.as(admin, "DELETE", "/authorization/access-rules/"+itoa(rule.ID), "").want(t, 204)
	w.as(admin, "DELETE", "/authorization/access-rules/"+itoa(rule.ID), "").want(t, 404)
	w.as(admin, "DELETE", "/org-unit/departments/"+string(dep.ID), "").want(t, 409)
	w.as(admin, "DELETE", "/org-unit/departments/"+string(dep.ID)+"?cascade=true", "").want(t, 204)
	w.as(admin, "GET", "/org-unit/projects/"+string(project.ID), "").want(t, 404)
	w.as(admin, "DELETE", "/groups/Computer%20vision", "").want(t, 204)
	if u := post[api.User](w, admin, "GET", "/users/"+string(ada.ID), nil, 200); len(u.Groups) != 0 {
		t.Errorf("user is still in %v", u.Groups)
	}
}

// firstSignIn changes a person's temporary password.
func (w *world) firstSignIn(t core.TenantID, e core.Email) directory.User {
	w.Helper()
	u, err := w.Directory.SetPassword(w.Context(), core.SystemActor(t), t, e, "correct horse battery")
	w.must(err)
	return u
}

// The members of an access rule, a user and a role are spelt as existing clients expect them.
func TestSpelling(t *testing.T) {
	w := newWorld(t)
	rule := w.grant(acme, core.UserSubject("ada@acme.test"), policy.Viewer, core.AccountScope(acme))
	for path, members := range map[string][]string{
		"/authorization/access-rules/" + itoa(rule.ID): {"id", "subjectId", "subjectType", "roleId", "roleName", "scopeId", "scopeType", "scopeName",
			"scopePath", "tenantId", "createdAt", "updatedAt", "deletedAt", "createdBy", "status"},
		"/authorization/access-rules":                 {"totalRecords", "displayRecords", "accessRules"},
		"/authorization/roles/5":                      {"id", "name", "description", "custom", "enabled", "effectiveEnabled", "createdBy", "permissions", "kubernetesPermissions"},
		"/users/" + string(w.admins[acme].ID):         {"id", "username", "createdBy", "createdAt", "updatedAt", "isLocal", "groups"},
		"/service-accounts/" + string(w.app(acme).ID): {"id", "name", "clientId", "enabled"},
		"/org-unit/projects":                          {"projects"},
		"/org-unit/departments":                       {"departments"},
	} {
		var got map[string]any
		w.must(json.Unmarshal(w.as(w.adminToken(acme), "GET", path, "").want(t, 200).Body.Bytes(), &got))
		for _, m := range members {
			if _, ok := got[m]; !ok {
				t.Errorf("%s: no %s in %v", path, m, got)
			}
		}
	}
	got := post[api.AccessRule](w, w.adminToken(acme), "GET", "/authorization/access-rules/"+itoa(rule.ID), nil, 200)
	if got.ScopeType != api.ScopeTenant || got.ScopeID != "acme" || got.ClusterID != "" {
		t.Errorf("a rule at the account: %+v", got)
	}
	list := post[[]api.Permission](w, w.adminToken(acme), "GET", "/authorization/permissions", nil, 200)
	i := slices.IndexFunc(list, func(p api.Permission) bool { return p.ResourceType == "access_rules" })
	want := api.Permission{ResourceType: "access_rules", DisplayName: "Access rules", GroupID: "iam", Actions: []api.Action{"create", "read", "update", "delete"}}
	if diff := cmp.Diff(want, list[i]); diff != "" {
		t.Error(diff)
	}
	scopes := post[api.PermittedScopes](w, w.adminToken(acme), "POST", "/authorization/permitted-scopes", api.PermittedScopesRequest{ResourceType: "project", Action: "read"}, 200)
	if scopes.Create != nil || scopes.Read == nil || scopes.Read.System || !slices.Equal(scopes.Read.Tenants, []core.TenantID{acme}) {
		t.Errorf("permitted scopes: %+v", scopes)
	}
	if roles := post[[]api.Role](w, w.adminToken(acme), "GET", "/authorization/roles", nil, 200); len(roles) != 18 {
		t.Errorf("%d roles", len(roles))
	}
}

// Applications prove themselves with the secret that was shown, once, and not with an older one.
func TestApplicationSecret(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	proves := func(id core.ApplicationID, secret string) bool {
		rec, err := w.Directory.Application(t.Context(), acme, id)
		w.must(err)
		return w.Directory.CheckSecret(t.Context(), acme, rec.Value, secret) == nil
	}
	for _, noun := range applicationPaths {
		app := post[api.Application](w, admin, "POST", noun, api.ApplicationRequest{Name: w.name("ci")}, 201)
		if app.ID != app.ClientID || !app.Enabled || !proves(app.ClientID, app.ClientSecret) {
			t.Errorf("%s: %+v does not prove itself", noun, app)
		}
		if older := noun == "/apps"; older != (app.Secret == app.ClientSecret) {
			t.Errorf("%s: secret %q", noun, app.Secret)
		}
		if got := w.as(admin, "GET", noun+"/"+string(app.ID), "").want(t, 200); strings.Contains(got.Body.String(), "ecret") {
			t.Errorf("%s: shows a secret again: %s", noun, got.Body)
		}
		next := post[api.Application](w, admin, "POST", noun+"/"+string(app.ID)+"/secret", nil, 200)
		if proves(app.ID, app.ClientSecret) || !proves(app.ID, next.ClientSecret) {
			t.Errorf("%s: after another secret was made, the old one holds or the new one does not", noun)
		}
		post[api.Application](w, admin, "PATCH", noun+"/"+string(app.ID), api.ApplicationPatch{Enabled: new(bool)}, 200)
		if proves(app.ID, next.ClientSecret) {
			t.Errorf("%s: a disabled application proves itself", noun)
		}
	}
	public := post[api.Application](w, admin, "POST", "/apps", api.ApplicationRequest{Name: "tool", Public: true, RedirectURIs: []string{"http://127.0.0.1/cb"}}, 201)
	if public.ClientSecret != "" || !public.Public {
		t.Errorf("public application: %+v", public)
	}
	w.as(admin, "POST", "/apps/"+string(public.ID)+"/secret", "").want(t, 422)
}

// Nobody gives what they do not hold (TEN-001): not in a wider scope, not a stronger role, not for longer.
func TestDelegation(t *testing.T) {
	w := newWorld(t)
	mine, other := w.project(acme), w.project(acme)
	bearer := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, mine.Parent))
	give := func(role core.RoleID, scope core.ScopeID, kind api.ScopeType) int {
		b, err := json.Marshal(api.AccessRuleRequest{SubjectID: w.name("g"), SubjectType: api.SubjectGroup, RoleID: role, ScopeID: scope, ScopeType: kind})
		w.must(err)
		return w.as(bearer, "POST", "/authorization/access-rules", string(b)).Code
	}
	for _, tt := range []struct {
		what string
		got  int
		want int
	}{
		{"a researcher in a project of the department", give(policy.L1Researcher, mine.ID, api.ScopeProject), 201},
		{"a viewer in the department", give(policy.Viewer, mine.Parent, api.ScopeDepartment), 201},
		{"a researcher in another department's project", give(policy.L1Researcher, other.ID, api.ScopeProject), 404},
		{"a researcher in the cluster", give(policy.L1Researcher, core.ClusterScope(mine.Cluster), api.ScopeCluster), 404},
		{"a researcher in the account", give(policy.L1Researcher, core.AccountScope(acme), api.ScopeTenant), 403},
		{"a System administrator in the department", give(policy.SystemAdministrator, mine.Parent, api.ScopeDepartment), 403},
		{"in another tenant's account", give(policy.L1Researcher, core.AccountScope(globex), api.ScopeTenant), 404},
		{"under a wrong kind of scope", give(policy.L1Researcher, mine.ID, api.ScopeDepartment), 400},
		{"as an operator", give(policy.L1Researcher, core.AccountScope(acme), api.ScopeSystem), 400},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.what, tt.got, tt.want)
		}
	}
	rule := w.grant(acme, core.GroupSubject("g"), policy.Editor, mine.ID)
	if got := w.as(bearer, "DELETE", "/authorization/access-rules/"+itoa(rule.ID), "").Code; got != 403 {
		t.Errorf("an Editor's rule, which holds more, is deleted: status %d", got)
	}
}

// Whoever can act for somebody must hold what that one holds: else a new secret, password or member is a way up.
func TestNoWayUp(t *testing.T) {
	w := newWorld(t)
	account := core.AccountScope(acme)
	operator := w.appToken(acme, w.caller(acme, policy.CloudOperator, account))
	strong, weak := w.caller(acme, policy.SystemAdministrator, account), w.app(acme)
	for _, noun := range applicationPaths {
		for _, q := range [][3]string{{"POST", "/secret", ""}, {"PATCH", "", `{"enabled":true}`}, {"DELETE", "", ""}} {
			w.as(operator, q[0], noun+"/"+string(strong.ID)+q[1], q[2]).want(t, 403)
		}
		if rec := w.as(operator, "POST", noun+"/"+string(weak.ID)+"/secret", ""); rec.Code != 200 {
			t.Errorf("an application without rights: %s", rec.Body)
		}
	}
	w.as(w.adminToken(acme), "POST", "/apps/"+string(strong.ID)+"/secret", "").want(t, 200)
}

// The last administrator can be neither disabled nor deleted nor lose the rule (TEN-005); with another one, each goes.
func TestLastAdministrator(t *testing.T) {
	w := newWorld(t)
	admin, bearer := w.admins[acme], w.adminToken(acme)
	other := w.caller(acme, policy.SystemAdministrator, core.AccountScope(acme)) // an application cannot sign in to mend things
	by := w.appToken(acme, other)
	path := "/users/" + string(admin.ID)
	for _, b := range []string{bearer, by} {
		w.as(b, "PATCH", path, `{"enabled":false}`).want(t, 403)
		w.as(b, "DELETE", path, "").want(t, 403)
	}
	rules := post[api.AccessRuleList](w, bearer, "GET", "/authorization/access-rules?subjectIds=admin@acme.test", nil, 200)
	w.as(by, "DELETE", "/authorization/access-rules/"+itoa(rules.AccessRules[0].ID), "").want(t, 403)

	second := w.user(acme, "second@acme.test")
	w.grant(acme, core.UserSubject(second.Email), policy.SystemAdministrator, core.AccountScope(acme))
	w.as(by, "PATCH", path, `{"enabled":false}`).want(t, 200)
	w.as(bearer, "GET", "/me", "").want(t, 401)
	w.as(by, "PATCH", "/users/"+string(second.ID), `{"enabled":false}`).want(t, 403) // the first one is disabled: she is the last
	w.as(by, "PATCH", path, `{"enabled":true}`).want(t, 200)
	w.as(by, "DELETE", path, "").want(t, 204)
	// Who has the e-mail next begins with nothing.
	again := w.user(acme, string(admin.Email))
	if mine := post[api.AccessRuleList](w, w.userToken(acme, again), "GET", "/authorization/me/access-rules", nil, 200); mine.TotalRecords != 0 {
		t.Errorf("inherited %+v", mine)
	}
}

// A move changes whose rules hold for a project, so it needs a right at both ends, and is all or nothing (TEN-003).
func TestMove(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	from, to := w.departmentIn(acme, cluster), w.departmentIn(acme, cluster)
	project := w.projectIn(acme, from)
	there := w.projectIn(acme, to)
	path := "/org-unit/projects/" + string(project.ID)
	bearer := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, from.ID))
	w.as(bearer, "PUT", path, `{"name":"renamed"}`).want(t, 200)
	w.as(bearer, "PUT", path, `{"name":"moved","parentId":"`+string(to.ID)+`"}`).want(t, 404)
	admin := w.adminToken(acme)
	elsewhere := w.department(acme)
	for _, tt := range []struct {
		body   string
		status int
	}{
		{`{"name":"moved","parentId":"` + string(elsewhere.ID) + `"}`, 400},
		{`{"name":"moved","parentId":"` + string(there.ID) + `"}`, 404},
		{`{"name":"moved","parentId":"` + string(w.department(globex).ID) + `"}`, 400},
		{`{"name":"moved","parentId":"` + string(to.ID) + `","requestedNamespace":"other"}`, 400},
		{`{"name":"` + there.Name + `","parentId":"` + string(to.ID) + `"}`, 409},
	} {
		before := w.dump()
		w.as(admin, "PUT", path, tt.body).want(t, tt.status)
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("%s: changed %v", tt.body, diff)
		}
	}
	got := post[api.Project](w, admin, "PUT", path, api.ProjectRequest{Name: "moved", ParentID: to.ID}, 200)
	if got.Name != "moved" || got.ParentID != to.ID || got.RequestedNamespace != project.Namespace {
		t.Errorf("moved: %+v", got)
	}
	w.as(bearer, "GET", path, "").want(t, 404) // the old department's administrator sees it no more
	if got := post[api.Project](w, admin, "GET", path, nil, 200); got.ParentID != to.ID {
		t.Errorf("read: %+v", got)
	}
}

// Whoever runs clusters may rename one, but not lead the token that writes access rules there elsewhere, nor say who is who
// in it. Only who holds everything there anyway may, be it at that cluster alone.
func TestRepointingAClusterIsNoWayUp(t *testing.T) {
	w := newWorld(t)
	cluster, other := w.cluster(acme), w.cluster(acme)
	path := "/clusters/" + string(cluster.Cluster)
	operator := w.appToken(acme, w.caller(acme, policy.CloudOperator, core.AccountScope(acme)))
	there := w.appToken(acme, w.caller(acme, policy.SystemAdministrator, cluster.ID))
	elsewhere := w.app(acme)
	w.grant(acme, core.ApplicationSubject(elsewhere.ID), policy.CloudOperator, cluster.ID)
	w.grant(acme, core.ApplicationSubject(elsewhere.ID), policy.SystemAdministrator, other.ID)
	tls := httptest.NewTLSServer(nil)
	defer tls.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}))
	ca = strings.ReplaceAll(ca, "\n", `\n`)
	for what, reach := range map[string]string{
		"server":        `"server":"https://api.evil.test:6443"`,
		"another port":  `"server":"https://api.example.test"`,
		"ca":            `"server":"https://api.example.test:6443","ca":"` + ca + `"`,
		"user prefix":   `"server":"https://api.example.test:6443","userPrefix":"evil:"`,
		"group prefix":  `"server":"https://api.example.test:6443","groupPrefix":"evil:"`,
		"no prefixes":   `"server":"https://api.example.test:6443","unprefixed":true`,
		"mode":          `"server":"https://api.example.test:6443","mode":"agent"`,
		"algorithm":     `"server":"https://api.example.test:6443","algorithm":"RS256"`,
		"also the name": `"server":"https://api.evil.test:6443","name":"evil"`,
	} {
		body := `{` + reach + `}`
		if !strings.Contains(reach, `"name"`) {
			body = `{"name":"` + cluster.Name + `",` + reach + `}`
		}
		before := w.dump()
		for _, bearer := range []string{operator, w.appToken(acme, elsewhere)} {
			if f := w.as(bearer, "PUT", path, body).want(t, 403).failure(t); !strings.Contains(f.Message, "System administrator") {
				t.Errorf("%s: no reason: %s", what, f.Message)
			}
		}
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("%s: changed %v", what, diff)
		}
		w.as(there, "PUT", path, body).want(t, 200)
		w.as(there, "PUT", path, `{"name":"`+cluster.Name+`","server":"https://api.example.test:6443"}`).want(t, 200)
	}
	// Renaming, and saying what holds already, is to edit it and no more; a rename does not bring back what was before.
	w.as(operator, "PUT", path, `{"name":"renamed","server":"https://api.example.test:6443","mode":"issuer","userPrefix":"fleetpass:"}`).want(t, 200)
	if got := into[api.Cluster](t, w.as(there, "GET", path, "").want(t, 200)); got.Name != "renamed" || got.Server != "https://api.example.test:6443" {
		t.Errorf("%+v", got)
	}
	// A new cluster has an audience of its own, wherever it is said to be: what is minted for it opens no other.
	made := into[api.Cluster](t, w.as(operator, "POST", "/clusters", `{"name":"new","server":"https://api.evil.test:6443"}`).want(t, 201))
	if made.UUID == cluster.Cluster || made.UUID == other.Cluster {
		t.Errorf("a new cluster has another's audience: %+v", made)
	}
	if n := w.as(operator, "GET", "/authorization/me/access-rules", "").want(t, 200).Header().Get("X-Total-Count"); n != "1" {
		t.Errorf("its maker came to hold %s rules", n)
	}
}

// A cluster that verifies RS256 finds a key of it published.
func TestClusterAlgorithm(t *testing.T) {
	w := newWorld(t)
	_, err := w.Ring.Signer(t.Context(), acme, keys.RS256)
	if err == nil || errors.Is(err, core.NotFound) { // that would read as if there were no such tenant
		t.Fatalf("before: %v", err)
	}
	post[api.Cluster](w, w.adminToken(acme), "POST", "/clusters", api.ClusterRequest{Name: "eks", Server: "https://eks.test", Algorithm: "RS256"}, 201)
	w.pass(keys.PublishBefore + time.Minute)
	if _, err := w.Ring.Signer(t.Context(), acme, keys.RS256); err != nil {
		t.Errorf("after: %v", err)
	}
}

// A person's own password needs the present one, and everything that was held ends.
func TestPasswordOfOnesOwn(t *testing.T) {
	w := newWorld(t)
	u := w.user(acme, "ada@acme.test")
	bearer := w.userToken(acme, u)
	change := func(current, next string) response {
		return w.as(bearer, "POST", "/me/password", `{"currentPassword":"`+current+`","newPassword":"`+next+`"}`)
	}
	if f := change("wrong", "another horse battery").want(t, 400).failure(t); f.Details.Field != "currentPassword" {
		t.Errorf("wrong password: %+v", f)
	}
	if f := change("correct horse battery", "short").want(t, 400).failure(t); f.Details.Field != "newPassword" {
		t.Errorf("short password: %+v", f)
	}
	w.as(bearer, "GET", "/me", "").want(t, 200)
	change("correct horse battery", "another horse battery").want(t, 204)
	w.as(bearer, "GET", "/me", "").want(t, 401)
	if _, err := w.Directory.Authenticate(t.Context(), core.Actor{Tenant: acme}, "ada@acme.test", "another horse battery", true); err != nil {
		t.Errorf("the new password: %v", err)
	}
	w.as(w.appToken(acme, w.app(acme)), "POST", "/me/password", `{"currentPassword":"a","newPassword":"another horse battery"}`).want(t, 422)
}

// Operators make a tenant, whose first administrator comes by the link, and suspend, resume and erase it. Nobody else sees
// that there are tenants.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	operator := w.adminToken(core.SystemTenant)
	as := func(method, path, body string) response {
		return w.call(request{method: method, tenant: core.SystemTenant, path: "/api/v1/tenants" + path, bearer: operator, body: body})
	}
	made := into[api.Tenant](t, as("POST", "", `{"id":"initech","name":"Initech"}`).want(t, 201))
	_, secret, ok := strings.Cut(made.WelcomeLink, base+"/t/initech/welcome?token=")
	if !ok || made.State != api.TenantActive {
		t.Fatalf("tenant: %+v", made)
	}
	as("POST", "", `{"id":"initech","name":"Initech"}`).want(t, 409)
	first, err := w.Directory.RedeemWelcome(t.Context(), core.Actor{Tenant: "initech"}, secret, "peter@initech.test", "correct horse battery", w.Access.FirstAdministrator)
	w.must(err)
	bearer := w.userToken("initech", first)
	me := request{method: "GET", tenant: "initech", path: "/api/v1/users", bearer: bearer}
	w.call(me).want(t, 200)
	as("PATCH", "/initech", `{"state":"suspended"}`).want(t, 200)
	w.call(me).want(t, 404)
	if got := into[api.Tenant](t, as("GET", "/initech", "").want(t, 200)); got.State != api.TenantSuspended {
		t.Errorf("suspended: %+v", got)
	}
	as("PATCH", "/initech", `{"state":"active"}`).want(t, 200)
	w.call(me).want(t, 200)
	as("PATCH", "/system", `{"state":"suspended"}`).want(t, 422)
	as("DELETE", "/system", "").want(t, 422)
	as("DELETE", "/initech", "").want(t, 204)
	w.call(me).want(t, 404)
	if got := into[api.Tenant](t, as("GET", "/initech", "").want(t, 200)); got.State != api.TenantErasing {
		t.Errorf("erased: %+v", got)
	}
	w.as(w.adminToken(acme), "GET", "/tenants", "").want(t, 404)
	for _, e := range []org.State{org.Active, org.Suspended, org.Erasing} {
		if s := api.TenantState(e); s != api.TenantActive && s != api.TenantSuspended && s != api.TenantErasing {
			t.Errorf("state %s is not the API's", e)
		}
	}
}

// Pages are cut by limit and offset, and say how many there are in all.
func TestPaging(t *testing.T) {
	w := newWorld(t)
	var groups []core.GroupName
	for range 5 {
		groups = append(groups, w.group(acme))
	}
	admin := w.adminToken(acme)
	for _, tt := range []struct {
		query string
		want  []core.GroupName
	}{
		{"", groups}, {"?limit=2", groups[:2]}, {"?limit=2&offset=4", groups[4:]}, {"?offset=9", nil}, {"?limit=500", groups},
	} {
		rec := w.as(admin, "GET", "/groups"+tt.query, "").want(t, 200)
		var got []core.GroupName
		for _, g := range into[[]api.Group](t, rec) {
			got = append(got, g.Name)
		}
		total := "5"
		if tt.query == "?limit=2" { // there is more, and nobody counted it
			total = ""
		}
		if !slices.Equal(got, tt.want) || rec.Header().Get(api.HeaderTotal) != total {
			t.Errorf("%s: %v of %s, want %v", tt.query, got, rec.Header().Get(api.HeaderTotal), tt.want)
		}
	}
	w.project(acme)
	w.project(acme)
	list := into[api.ProjectList](t, w.as(admin, "GET", "/org-unit/projects?limit=1", "").want(t, 200))
	if len(list.Projects) != 1 || list.Next == "" {
		t.Errorf("projects: %+v", list)
	}
	list = into[api.ProjectList](t, w.as(admin, "GET", "/org-unit/projects?limit=1&offset=1", "").want(t, 200))
	if len(list.Projects) != 1 || list.Next != "" {
		t.Errorf("projects: %+v", list)
	}
}
