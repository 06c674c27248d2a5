package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
)

const ruleList = "/authorization/access-rules"

func ruleIDs(rules []api.AccessRule) []core.RuleID {
	ids := []core.RuleID{}
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	return ids
}

// A client that pages by offset until totalRecords, and one that follows the cursor, both come to the end and see every rule
// once, whatever is asked for.
func TestRulePages(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	for i := range 23 {
		w.grant(acme, core.GroupSubject(core.GroupName(fmt.Sprintf("team-%02d", i))), policy.Roles()[i%18].ID, p.ID)
	}
	admin := w.adminToken(acme)
	department := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, p.Parent))
	for _, bearer := range []string{admin, department} {
		for _, query := range []string{"", "scopeId=" + string(p.ID), "clusterId=" + string(p.Cluster), "filterBy=subjectId=^team-0", "filterBy=roleName==Viewer",
			"search=team-1", "sortBy=subjectId&sortOrder=desc", "sortBy=createdAt&sortOrder=desc", "sortOrder=desc", "sortBy=roleName&filterBy=roleId>=4",
			"subjectIds=team-01,team-02&subjectIds[]=team-05", "includeDeleted=true&sortBy=createdAt", "subjectType=group", "filterBy=subjectId==team-03"} {
			get := func(more string) api.AccessRuleList {
				rec := w.as(bearer, "GET", ruleList+"?"+query+more, "").want(t, 200)
				list := into[api.AccessRuleList](t, rec)
				if list.DisplayRecords != len(list.AccessRules) || (list.Next == "") != (rec.Header().Get(api.HeaderNext) == "") ||
					list.Next == "" && rec.Header().Get(api.HeaderTotal) != fmt.Sprint(list.TotalRecords) {
					t.Errorf("%s%s: %+v with %v", query, more, list, rec.Header())
				}
				return list
			}
			whole := get("&limit=500")
			if n := len(whole.AccessRules); whole.TotalRecords != n || n < 1 || whole.Next != "" {
				t.Errorf("%s: %d of %d", query, n, whole.TotalRecords)
			}
			want := ruleIDs(whole.AccessRules)
			var byOffset, byCursor []core.RuleID
			for total := 1; len(byOffset) < total && len(byOffset) < 100; {
				part := get(fmt.Sprintf("&limit=4&offset=%d", len(byOffset)))
				byOffset, total = append(byOffset, ruleIDs(part.AccessRules)...), part.TotalRecords
			}
			more := ""
			for range 100 {
				part := get("&limit=4" + more)
				byCursor = append(byCursor, ruleIDs(part.AccessRules)...)
				if more = "&cursor=" + url.QueryEscape(part.Next); part.Next == "" {
					break
				}
			}
			if !slices.Equal(byOffset, want) || !slices.Equal(byCursor, want) {
				t.Errorf("%s: by offset %v, by cursor %v, want %v", query, byOffset, byCursor, want)
			}
			if !strings.Contains(query, "sort") {
				if n := into[api.Count](t, w.as(bearer, "GET", ruleList+"/count?"+query, "").want(t, 200)); n.Count != len(want) {
					t.Errorf("%s: counted %d, want %d", query, n.Count, len(want))
				}
			}
		}
	}
	for field, query := range map[string]string{
		"limit": "limit=501", "cursor": "cursor=x", "filterBy": "filterBy=colour==red", "sortBy": "sortBy=scopeName", "sortOrder": "sortOrder=up",
		"lastUpdated": "lastUpdated=yesterday", "includeDeleted": "includeDeleted=1", "subjectType": "subjectType=robot", "subjectIds": "subjectIds=", "search": "search=",
	} {
		if f := w.as(admin, "GET", ruleList+"?"+query, "").want(t, 400).failure(t); f.Details.Field != field {
			t.Errorf("%s: %+v", query, f)
		}
	}
	// A cursor of another question, or of another tenant, is garbage.
	cursor := into[api.AccessRuleList](t, w.as(admin, "GET", ruleList+"?limit=1", "").want(t, 200)).Next
	w.as(admin, "GET", ruleList+"?limit=1&search=team&cursor="+cursor, "").want(t, 400)
	w.call(request{method: "GET", path: "/api/v1" + ruleList + "?limit=1&cursor=" + cursor, tenant: globex, bearer: w.adminToken(globex)}).want(t, 400)
	w.as(admin, "GET", ruleList+"?limit=1&cursor="+cursor, "").want(t, 200)
}

// Who follows the rules hears of what came and of what went, and of nothing else.
func TestRulesSince(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	admin := w.adminToken(acme)
	old := w.grant(acme, core.GroupSubject("old"), policy.Viewer, p.ID)
	kept := w.grant(acme, core.GroupSubject("kept"), policy.Viewer, p.ID)
	w.pass(time.Minute)
	since := "lastUpdated=" + w.Now().Format(time.RFC3339)
	w.as(admin, "DELETE", ruleList+"/"+itoa(old.ID), "").want(t, 204)
	added := w.grant(acme, core.GroupSubject("new"), policy.Viewer, p.ID)
	list := into[api.AccessRuleList](t, w.as(admin, "GET", ruleList+"?includeDeleted=true&"+since, "").want(t, 200))
	if got := ruleIDs(list.AccessRules); !slices.Equal(got, []core.RuleID{added.ID, old.ID}) {
		t.Fatalf("since: %v, want %d and then %d", got, added.ID, old.ID)
	}
	gone := list.AccessRules[1]
	if gone.DeletedAt == nil || !gone.DeletedAt.Equal(w.Now()) || !gone.UpdatedAt.Equal(w.Now()) || gone.DeletedBy != string(w.admins[acme].Email) || gone.Status.Phase != api.PhaseDeleting {
		t.Errorf("what was deleted is %+v", gone)
	}
	if list.AccessRules[0].DeletedAt != nil {
		t.Errorf("what is there is %+v", list.AccessRules[0])
	}
	list = into[api.AccessRuleList](t, w.as(admin, "GET", ruleList+"?"+since, "").want(t, 200))
	if got := ruleIDs(list.AccessRules); !slices.Equal(got, []core.RuleID{added.ID}) {
		t.Errorf("without what was deleted: %v", got)
	}
	list = into[api.AccessRuleList](t, w.as(admin, "GET", ruleList, "").want(t, 200))
	if got := ruleIDs(list.AccessRules); slices.Contains(got, old.ID) || !slices.Contains(got, kept.ID) {
		t.Errorf("all: %v", got)
	}
}

// A batch does what may be done and says what may not, and why; what is not seen looks absent.
func TestRuleBatches(t *testing.T) {
	w := newWorld(t)
	mine, other, foreign := w.project(acme), w.project(acme), w.project(globex)
	bearer := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, mine.Parent))
	own := w.grant(acme, core.GroupSubject("a"), policy.Viewer, mine.ID)
	higher := w.grant(acme, core.GroupSubject("a"), policy.Editor, mine.ID)
	hidden := w.grant(acme, core.GroupSubject("a"), policy.Viewer, other.ID)
	theirs := w.grant(globex, core.GroupSubject("a"), policy.Viewer, foreign.ID)
	for theirs.ID <= hidden.ID+3 { // a number that acme has not reached
		theirs = w.grant(globex, core.GroupSubject(core.GroupName(w.name("g"))), policy.Viewer, foreign.ID)
	}
	body := func(action string) string {
		return fmt.Sprintf(`{"ids":[%d,%d,%d,%d,%d],"action":%q}`, own.ID, higher.ID, hidden.ID, theirs.ID, 1_000_000, action)
	}
	would := into[api.AccessRuleBatchResult](t, w.as(bearer, "POST", ruleList+"/batch", body("validate_delete")).want(t, 200))
	w.as(bearer, "GET", ruleList+"/"+itoa(own.ID), "").want(t, 200)
	did := into[api.AccessRuleBatchResult](t, w.as(bearer, "POST", ruleList+"/batch", body("delete")).want(t, 200))
	w.as(bearer, "GET", ruleList+"/"+itoa(own.ID), "").want(t, 404)
	if !slices.Equal(would.Succeeded, did.Succeeded) || !slices.Equal(would.Failed, did.Failed) {
		t.Errorf("it was said %+v, and was %+v", would, did)
	}
	var codes []int
	for _, f := range did.Failed {
		codes = append(codes, f.Code)
	}
	if !slices.Equal(did.Succeeded, []core.RuleID{own.ID}) || !slices.Equal(codes, []int{403, 404, 404, 404}) || did.ID == "" {
		t.Fatalf("%+v", did)
	}
	if !strings.Contains(did.Failed[0].Message, "Editor includes") || did.Failed[1].Message != did.Failed[2].Message || did.Failed[2].Message != did.Failed[3].Message {
		t.Errorf("%+v", did.Failed)
	}
	w.as(w.adminToken(acme), "GET", ruleList+"/"+itoa(hidden.ID), "").want(t, 200)

	create := func(bearer, subjects, scopes string) api.AccessRuleBatchCreateResult {
		return into[api.AccessRuleBatchCreateResult](t, w.as(bearer, "POST", ruleList+"/batch-create",
			`{"payload":{"roleId":7,"subjects":[`+subjects+`],"scopes":[`+scopes+`],"expiresAt":"2027-01-01T00:00:00Z","reason":"a course"}}`).want(t, 200))
	}
	scope := func(id core.ScopeID, kind api.ScopeType) string { return fmt.Sprintf(`{"id":%q,"type":%q}`, id, kind) }
	made := create(bearer, `{"id":"b","type":"group"},{"subjectId":"c","subjectType":"group"},{"id":"Dan@Acme.test","type":"user"},{"id":"x","type":"robot"}`,
		scope(mine.ID, "project")+`,{"scopeId":"`+string(mine.Parent)+`","scopeType":"department"},`+scope(other.ID, "project")+","+scope(foreign.ID, "project")+","+scope("nowhere", "project"))
	if len(made.Succeeded) != 6 || len(made.Failed) != 14 {
		t.Fatalf("made %d, refused %d: %+v", len(made.Succeeded), len(made.Failed), made)
	}
	for _, r := range made.Succeeded {
		if got := into[api.AccessRule](t, w.as(bearer, "GET", ruleList+"/"+itoa(r.ID), "").want(t, 200)); got.SubjectID != r.SubjectID || got.ScopeID != r.ScopeID || got.Reason != "a course" || got.ExpiresAt.IsZero() {
			t.Errorf("made %+v, said %+v", got, r)
		}
	}
	for _, f := range made.Failed {
		want, says := 404, "scopeId: not found" // for one that is not seen as for one that there is not
		if f.Payload.SubjectType == "robot" {
			want, says = 400, f.Message
		}
		if f.Code != want || f.Message != says {
			t.Errorf("%+v: want %d %s", f, want, says)
		}
		// The same for this rule alone is refused likewise.
		alone, err := json.Marshal(f.Payload)
		w.must(err)
		if rec := w.as(bearer, "POST", ruleList, string(alone)); rec.Code != f.Code || rec.failure(t).Message != f.Message {
			t.Errorf("alone %d %s, in the batch %+v", rec.Code, rec.Body, f)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`{"id":"g","type":"group"},`, 26), ",")
	for field, body := range map[string]string{
		"payload":            `{"payload":{"roleId":7,"subjects":[` + many + `],"scopes":[` + strings.TrimSuffix(strings.Repeat(scope(mine.ID, "project")+",", 4), ",") + `]}}`,
		"payload/subjects":   `{"payload":{"roleId":7,"subjects":[],"scopes":[` + scope(mine.ID, "project") + `]}}`,
		"payload/scopes":     `{"payload":{"roleId":7,"subjects":[{"id":"g","type":"group"}],"scopes":[]}}`,
		"payload/subjects/0": `{"payload":{"roleId":7,"subjects":[{"id":"g","subjectId":"h","type":"group"}],"scopes":[` + scope(mine.ID, "project") + `]}}`,
	} {
		if f := w.as(bearer, "POST", ruleList+"/batch-create", body).want(t, 400).failure(t); f.Details.Field != field {
			t.Errorf("%s: %+v", field, f)
		}
	}
	for field, body := range map[string]string{"action": `{"ids":[1],"action":"drop"}`, "ids": `{"ids":[],"action":"delete"}`} {
		if f := w.as(bearer, "POST", ruleList+"/batch", body).want(t, 400).failure(t); f.Details.Field != field {
			t.Errorf("%s: %+v", field, f)
		}
	}
	nobody := w.appToken(acme, w.app(acme))
	w.as(nobody, "POST", ruleList+"/batch", body("delete")).want(t, http.StatusForbidden)
	w.as(nobody, "POST", ruleList+"/batch-create", `{"payload":{"roleId":7,"subjects":[{"id":"g","type":"group"}],"scopes":[`+scope("nowhere", "project")+`]}}`).want(t, http.StatusForbidden)
}

// A rule is there until the second of its end, and in that second it is in no list, count or answer.
func TestExpiredRuleIsAbsent(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	person := w.user(acme, "eve@acme.test")
	made, err := w.Access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject(person.Email), Role: policy.Viewer, Scope: p.ID, ExpiresAt: w.Now().Add(time.Minute)})
	w.must(err)
	eve := w.userToken(acme, person)
	path := ruleList + "/" + itoa(made[0].ID)
	shows := func(status, n int) {
		t.Helper()
		admin := w.adminToken(acme)
		w.as(admin, "GET", path, "").want(t, status)
		for _, of := range []struct{ bearer, path string }{{admin, ruleList + "?scopeId=" + string(p.ID)}, {admin, ruleList + "?subjectIds=eve@acme.test"}, {eve, "/authorization/me/access-rules"}} {
			list := into[api.AccessRuleList](t, w.as(of.bearer, "GET", of.path, "").want(t, 200))
			path, query, _ := strings.Cut(of.path, "?")
			count := into[api.Count](t, w.as(of.bearer, "GET", path+"/count?"+query, "").want(t, 200))
			if len(list.AccessRules) != n || list.TotalRecords != n || count.Count != n {
				t.Errorf("%s: %d of %d, counted %d; want %d", of.path, len(list.AccessRules), list.TotalRecords, count.Count, n)
			}
		}
	}
	w.pass(time.Minute - time.Second)
	shows(200, 1)
	w.pass(time.Second)
	shows(404, 0)
	w.as(w.adminToken(acme), "DELETE", path, "").want(t, 404)
}

// Where somebody sees nothing, a scope is as absent to them as one that there is not, however they ask for a rule there. Who sees
// it is told what is lacking.
func TestUnseenScopesLookAbsent(t *testing.T) {
	w := newWorld(t)
	mine, other := w.project(acme), w.project(acme)
	app := w.caller(acme, policy.DepartmentAdministrator, mine.Parent)
	bearer, nobody := w.appToken(acme, app), w.appToken(acme, w.app(acme))
	answers := func(bearer string, scope core.ScopeID, kind api.ScopeType) (all []string) {
		t.Helper()
		one := ruleBody(core.GroupSubject("g"), policy.Viewer, scope, kind)
		many := fmt.Sprintf(`{"payload":{"roleId":%d,"subjects":[{"id":"g","type":"group"}],"scopes":[{"id":%q,"type":%q}]}}`, policy.Viewer, scope, kind)
		for _, dry := range []string{"", "?dryRun=true"} {
			rec := w.as(bearer, "POST", ruleList+dry, one)
			f := rec.failure(t)
			all = append(all, fmt.Sprint(rec.Code, " ", f.Message, f.Details.Kind, f.Details.Field))
			if rec = w.as(bearer, "POST", ruleList+"/batch-create"+dry, many); rec.Code != 200 {
				f = rec.failure(t)
				all = append(all, fmt.Sprint(rec.Code, " ", f.Message, f.Details.Kind, f.Details.Field))
				continue
			}
			out := into[api.AccessRuleBatchCreateResult](t, rec)
			for _, f := range out.Failed {
				all = append(all, fmt.Sprint(f.Code, " ", f.Message))
			}
		}
		return all
	}
	absent := answers(bearer, other.ID+"x", api.ScopeProject)
	if len(absent) != 4 || !strings.HasPrefix(absent[0], "404 ") {
		t.Fatalf("a scope that there is not: %q", absent)
	}
	for _, sc := range []org.Scope{other, w.mustScope(other.Parent), w.mustScope(core.ClusterScope(other.Cluster)), w.mustScope(core.ClusterScope(mine.Cluster))} {
		for _, kind := range []api.ScopeType{api.ScopeTypeOf(acme, sc.Kind), api.ScopeProject} { // of whichever kind it is said to be
			if got := answers(bearer, sc.ID, kind); !slices.Equal(got, absent) {
				t.Errorf("a %s that is not seen: %q, want %q", sc.Kind, got, absent)
			}
		}
	}
	if got, none := answers(nobody, other.ID, api.ScopeProject), answers(nobody, other.ID+"x", api.ScopeProject); !slices.Equal(got, none) || !strings.HasPrefix(got[0], "403 ") {
		t.Errorf("to who may give rules nowhere: %q, and where there is nothing %q", got, none)
	}
	for _, got := range answers(bearer, core.AccountScope(acme), api.ScopeTenant) {
		if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "in the account") {
			t.Errorf("in the account, which everybody knows: %q", got)
		}
	}
	w.grant(acme, core.ApplicationSubject(app.ID), policy.L1Researcher, other.ID) // which lets it see the project, and no rules there
	w.as(bearer, "GET", "/org-unit/projects/"+string(other.ID), "").want(t, 200)
	for _, got := range answers(bearer, other.ID, api.ScopeProject) {
		if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "in project "+other.Name) {
			t.Errorf("to who sees the project: %q", got)
		}
	}
}

// Rules are numbered through, so one of the account looks as absent as any other that is not seen: else its administrators could
// be counted. (threats §6)
func TestRulesOfTheAccountLookAbsent(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	app := w.caller(acme, policy.ResearchManager, p.ID)
	bearer := w.appToken(acme, app)
	hidden := w.grant(acme, core.GroupSubject("g"), policy.SystemAdministrator, core.AccountScope(acme))
	answers := func(bearer string, id core.RuleID) (all []string) {
		t.Helper()
		path := ruleList + "/" + itoa(id)
		for _, q := range [][2]string{{"GET", path}, {"DELETE", path}, {"DELETE", path + "?dryRun=true"}} {
			rec := w.as(bearer, q[0], q[1], "")
			f := rec.failure(t)
			all = append(all, fmt.Sprint(rec.Code, " ", f.Message, f.Details.Kind, f.Details.Field))
		}
		for _, q := range [][2]string{{"", "delete"}, {"", "validate_delete"}, {"?dryRun=true", "delete"}} {
			rec := w.as(bearer, "POST", ruleList+"/batch"+q[0], fmt.Sprintf(`{"ids":[%d],"action":%q}`, id, q[1]))
			if rec.Code != 200 {
				all = append(all, fmt.Sprint(rec.Code, " ", rec.failure(t).Message))
				continue
			}
			for _, f := range into[api.AccessRuleBatchResult](t, rec).Failed {
				all = append(all, fmt.Sprint(f.Code, " ", f.Message))
			}
		}
		return all
	}
	absent := answers(bearer, 1_000_000)
	if len(absent) != 6 || !strings.HasPrefix(absent[0], "404 ") {
		t.Fatalf("a rule that there is not: %q", absent)
	}
	if got := answers(bearer, hidden.ID); !slices.Equal(got, absent) {
		t.Errorf("a rule of the account: %q, want %q", got, absent)
	}
	nobody := w.appToken(acme, w.app(acme))
	if got, none := answers(nobody, hidden.ID), answers(nobody, 1_000_000); !slices.Equal(got, none) || !strings.HasPrefix(got[0], "403 ") {
		t.Errorf("to who views rules nowhere: %q, and where there is nothing %q", got, none)
	}
	// Who may view the rules of the account is told why this one stays.
	w.grant(acme, core.ApplicationSubject(app.ID), policy.CloudSupport, core.AccountScope(acme))
	w.as(bearer, "GET", ruleList+"/"+itoa(hidden.ID), "").want(t, 200)
	w.as(bearer, "DELETE", ruleList+"/"+itoa(hidden.ID), "").want(t, 403)
}
