package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

const rulesPath = "/authorization/access-rules"

// quietly makes a call that must leave the store as it is, but for the record of a refusal.
func (w *world) quietly(bearer, method, path, body string, header http.Header) response {
	w.Helper()
	before := w.dump()
	r := w.call(request{method: method, path: "/api/v1" + path, tenant: acme, bearer: bearer, body: body, header: header})
	if diff := changed(before, w.dump()); len(diff) > 0 {
		w.Errorf("%s %s changed %q", method, path, diff)
	}
	return r
}

func ruleBody(who core.Subject, role core.RoleID, scope core.ScopeID, kind api.ScopeType) string {
	return fmt.Sprintf(`{"subjectId":%q,"subjectType":%q,"roleId":%d,"scopeId":%q,"scopeType":%q}`, who.ID, api.SubjectTypeOf(who.Kind), role, scope, kind)
}

// seen writes the changes of a cluster as "verb Kind namespace/name: + subject - subject".
func seen(c api.ClusterPreview) []string {
	out := []string{}
	for _, ch := range c.Changes {
		s := fmt.Sprintf("%s %s %s/%s:", ch.Verb, ch.Kind, ch.Namespace, ch.Name)
		for _, a := range ch.Adds {
			s += " + " + string(a.SubjectType) + " " + a.SubjectID + " as " + a.Name
		}
		for _, r := range ch.Removes {
			s += " - " + string(r.SubjectType) + " " + r.SubjectID + " as " + r.Name
		}
		if ch.Empties {
			s += ", empty"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func TestPreview(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	p := w.projectIn(acme, w.departmentIn(acme, cluster))
	ns := string(p.Namespace)
	ada := core.UserSubject("ada@acme.test")
	body := ruleBody(ada, policy.Viewer, p.ID, api.ScopeProject)

	got := into[api.RulePreview](t, w.quietly(w.adminToken(acme), "POST", rulesPath+"?dryRun=true", body, nil).want(t, 200))
	if !got.DryRun || len(got.Rules.Create) != 1 || len(got.Rules.Delete) != 0 || len(got.Clusters) != 1 || got.More != 0 {
		t.Fatalf("%+v", got)
	}
	if c := got.Clusters[0]; c.ClusterID != cluster.Cluster || c.ClusterName != cluster.Name || c.Partial || !c.Behind || c.Phase != api.PhaseCreating {
		t.Errorf("%+v", c)
	}
	want := []string{
		"create ClusterRoleBinding /fleetpass-viewer: + user ada@acme.test as fleetpass:ada@acme.test",
		"create RoleBinding " + ns + "/fleetpass-viewer-ns: + user ada@acme.test as fleetpass:ada@acme.test",
	}
	if d := cmp.Diff(want, seen(got.Clusters[0])); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	made := into[api.AccessRule](t, w.as(w.adminToken(acme), "POST", rulesPath+"?dryRun=false", body).want(t, 201))
	if got.Rules.Create[0].ID != made.ID || got.Rules.Create[0].ScopeName != p.Name {
		t.Errorf("foretold %+v, made %+v", got.Rules.Create[0], made)
	}

	// What is given already is given by the department too: nothing changes in the cluster.
	dep := ruleBody(ada, policy.Viewer, p.Parent, api.ScopeDepartment)
	got = into[api.RulePreview](t, w.quietly(w.adminToken(acme), "POST", rulesPath+"?dryRun=true", dep, nil).want(t, 200))
	if len(got.Clusters) != 1 || len(got.Clusters[0].Changes) != 0 {
		t.Errorf("%+v", got.Clusters)
	}

	path := rulesPath + "/" + itoa(made.ID) + "?dryRun=true"
	got = into[api.RulePreview](t, w.quietly(w.adminToken(acme), "DELETE", path, "", nil).want(t, 200))
	want = []string{
		"update ClusterRoleBinding /fleetpass-viewer: - user ada@acme.test as fleetpass:ada@acme.test, empty",
		"update RoleBinding " + ns + "/fleetpass-viewer-ns: - user ada@acme.test as fleetpass:ada@acme.test, empty",
	}
	if d := cmp.Diff(want, seen(got.Clusters[0])); d != "" || len(got.Rules.Delete) != 1 || got.Rules.Delete[0].ID != made.ID {
		t.Errorf("%+v\n%s", got.Rules, d)
	}

	// The rule is there still, and can be asked for with its tag, by the same key as before, and as often as one likes.
	tag := w.as(w.adminToken(acme), "GET", rulesPath+"/"+itoa(made.ID), "").want(t, 200).Header().Get("ETag")
	w.quietly(w.adminToken(acme), "DELETE", path, "", http.Header{"If-Match": {tag}}).want(t, 200)
	w.quietly(w.adminToken(acme), "DELETE", path, "", http.Header{"If-Match": {`"old"`}}).want(t, 412)
	other := ruleBody(core.GroupSubject("ops"), policy.Viewer, p.ID, api.ScopeProject)
	for range 2 {
		w.quietly(w.adminToken(acme), "POST", rulesPath+"?dryRun=true", other, http.Header{"Idempotency-Key": {"k"}}).want(t, 200)
	}
}

// Whoever would be refused is refused when asking, with the same status and words, and the record of it is as of any refusal.
func TestPreviewRefusesAsTheChange(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	viewer := w.appToken(acme, w.caller(acme, policy.Viewer, core.AccountScope(acme)))
	// A department administrator of another department, who may give rules there and not here.
	elsewhere := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, w.department(acme).ID))
	admin := w.adminToken(acme)
	ops := core.GroupSubject("ops")
	there := w.grant(acme, ops, policy.Editor, p.ID)
	first := core.RuleID(0)
	for id := core.RuleID(1); id < there.ID; id++ {
		if r, err := w.Access.Get(t.Context(), acme, id); err == nil && r.Role == policy.SystemAdministrator {
			first = id
		}
	}
	for _, tt := range []struct {
		name, bearer, method, path, body string
		status                           int
	}{
		{"may not give rules", viewer, "POST", rulesPath, ruleBody(ops, policy.Viewer, p.ID, api.ScopeProject), 403},
		{"may give rules elsewhere", elsewhere, "POST", rulesPath, ruleBody(ops, policy.Viewer, p.ID, api.ScopeProject), 404},
		{"may give rules elsewhere, and none in the account", elsewhere, "POST", rulesPath, ruleBody(ops, policy.Viewer, core.AccountScope(acme), api.ScopeTenant), 403},
		{"gives more than is held", elsewhere, "POST", rulesPath, ruleBody(ops, policy.SystemAdministrator, core.AccountScope(acme), api.ScopeTenant), 403},
		{"another tenant's project", admin, "POST", rulesPath, ruleBody(ops, policy.Viewer, w.project(globex).ID, api.ScopeProject), 404},
		{"is there already", admin, "POST", rulesPath, ruleBody(ops, policy.Editor, p.ID, api.ScopeProject), 409},
		{"a scope of another kind", admin, "POST", rulesPath, ruleBody(ops, policy.Viewer, p.ID, api.ScopeCluster), 400},
		{"no such role", admin, "POST", rulesPath, ruleBody(ops, 99, p.ID, api.ScopeProject), 400},
		{"an application that there is not", admin, "POST", rulesPath, ruleBody(core.ApplicationSubject("x"), policy.Viewer, p.ID, api.ScopeProject), 400},
		{"a reserved name", admin, "POST", rulesPath, ruleBody(core.GroupSubject("system:masters"), policy.Viewer, p.ID, api.ScopeProject), 400},
		{"unknown member", admin, "POST", rulesPath, `{"x":1}`, 400},
		{"the last administrator", admin, "DELETE", rulesPath + "/" + itoa(first), "", 403},
		{"may not take rules", viewer, "DELETE", rulesPath + "/" + itoa(there.ID), "", 403},
		{"no such rule", admin, "DELETE", rulesPath + "/9999", "", 404},
	} {
		records := func() (n int) {
			for k, v := range w.dump() {
				if strings.Contains(k, "/audit-new/") && strings.Contains(v, `"result":"Failed"`) {
					n++
				}
			}
			return n
		}
		none := records()
		dry := w.quietly(tt.bearer, tt.method, tt.path+"?dryRun=true", tt.body, nil)
		asked := records()
		real := w.quietly(tt.bearer, tt.method, tt.path, tt.body, nil)
		told, is := dry.failure(t), real.failure(t)
		told.Details.Request, is.Details.Request = "", ""
		if d := cmp.Diff(is, told); d != "" || dry.Code != real.Code || dry.Code != tt.status {
			t.Errorf("%s: status %d, and of the change %d, want %d; -change +preview:\n%s", tt.name, dry.Code, real.Code, tt.status, d)
		}
		if asked-none != records()-asked {
			t.Errorf("%s: %d records of being asked, %d of the change", tt.name, asked-none, records()-asked)
		}
	}
	for _, bad := range []string{"dryRun", "dryRun=", "dryRun=yes", "dryRun=1", "dryRun=true&dryRun=false", "dryrun=true"} {
		w.quietly(admin, "POST", rulesPath+"?"+bad, ruleBody(ops, policy.Viewer, p.ID, api.ScopeProject), nil).want(t, 400)
		w.quietly(admin, "DELETE", rulesPath+"/"+itoa(there.ID)+"?"+bad, "", nil).want(t, 400)
	}
}

// Who gives rules in a part of a cluster is not told what others have in the rest of it.
func TestPreviewIsPartial(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	d := w.departmentIn(acme, cluster)
	p := w.projectIn(acme, d)
	ops := core.GroupSubject("ops")
	body := ruleBody(ops, policy.L1Researcher, p.ID, api.ScopeProject)
	manager := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, d.ID))
	ask := func(bearer string) api.ClusterPreview {
		t.Helper()
		return into[api.RulePreview](t, w.quietly(bearer, "POST", rulesPath+"?dryRun=true", body, nil).want(t, 200)).Clusters[0]
	}
	one := ask(manager)
	if !one.Partial || len(one.Changes) != 1 || one.Changes[0].Kind != "RoleBinding" {
		t.Errorf("to a department's administrator: %+v", one)
	}
	if all := ask(w.adminToken(acme)); all.Partial || len(all.Changes) != 2 {
		t.Errorf("to an administrator: %+v", all)
	}
	// That the group has the role elsewhere in the cluster makes no difference to the answer.
	w.grant(acme, ops, policy.L1Researcher, w.projectIn(acme, cluster).ID)
	if d := cmp.Diff(one, ask(manager)); d != "" {
		t.Errorf("the answer tells of a rule elsewhere: -before +after:\n%s", d)
	}
	if all := ask(w.adminToken(acme)); len(all.Changes) != 1 {
		t.Errorf("to an administrator: %+v", all)
	}
}

// A rule of the account is foretold for each cluster, and batches say what they would do together.
func TestPreviewOfMany(t *testing.T) {
	w := newWorld(t)
	p, q := w.project(acme), w.project(acme)
	ops := core.GroupSubject("ops")
	got := into[api.RulePreview](t, w.quietly(w.adminToken(acme), "POST", rulesPath+"?dryRun=true", ruleBody(ops, policy.Viewer, core.AccountScope(acme), api.ScopeTenant), nil).want(t, 200))
	if len(got.Clusters) != 2 || len(got.Clusters[0].Changes) != 2 || len(got.Clusters[1].Changes) != 2 {
		t.Errorf("%+v", got.Clusters)
	}

	matrix := fmt.Sprintf(`{"payload":{"roleId":%d,"subjects":[{"id":"ops","type":"group"},{"id":"ops","type":"group"}],"scopes":[{"id":%q,"type":"project"},{"id":%q,"type":"project"}]}}`, policy.Viewer, p.ID, q.ID)
	dry := into[api.AccessRuleBatchCreateResult](t, w.quietly(w.adminToken(acme), "POST", rulesPath+"/batch-create?dryRun=true", matrix, nil).want(t, 200))
	real := into[api.AccessRuleBatchCreateResult](t, w.as(w.adminToken(acme), "POST", rulesPath+"/batch-create", matrix).want(t, 200))
	if pre := dry.Preview; !pre.DryRun || len(pre.Rules.Create) != 2 || len(pre.Clusters) != 2 || len(pre.Clusters[0].Changes) != 2 {
		t.Errorf("%+v", pre)
	}
	dry.Preview = api.RulePreview{}
	if d := cmp.Diff(real, dry); d != "" || len(real.Succeeded) != 2 || len(real.Failed) != 2 {
		t.Errorf("-change +preview:\n%s", d)
	}

	more := w.grant(acme, ops, policy.Viewer, p.Parent) // two rules give the same: only both together take it away
	ids := fmt.Sprintf(`{"action":"delete","ids":[%d,%d,9999]}`, real.Succeeded[0].ID, more.ID)
	gone := into[api.AccessRuleBatchResult](t, w.quietly(w.adminToken(acme), "POST", rulesPath+"/batch?dryRun=true", ids, nil).want(t, 200))
	if len(gone.Succeeded) != 2 || len(gone.Failed) != 1 || len(gone.Preview.Clusters) != 1 || len(gone.Preview.Clusters[0].Changes) != 2 {
		t.Errorf("%+v", gone)
	}
	one := into[api.RulePreview](t, w.quietly(w.adminToken(acme), "DELETE", rulesPath+"/"+itoa(more.ID)+"?dryRun=true", "", nil).want(t, 200))
	if len(one.Clusters) != 1 || len(one.Clusters[0].Changes) != 0 {
		t.Errorf("%+v", one.Clusters)
	}
}
