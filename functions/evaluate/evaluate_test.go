package evaluate_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/evaluate"
)

const (
	base = "https://fleet.example.com"
	acme = core.TenantID("acme")
)

// rig is the function on a real store: in the tenant acme, ada is System administrator, bob an L1 researcher in the project
// quarks through his group, cyd nothing, and the application robot a Viewer (of no access rules) in the account, and the
// application auditor may view access rules in quarks' cluster.
type rig struct {
	t       testing.TB
	db      *storetest.Counter
	clock   atomic.Int64
	ring    *keys.Ring
	org     *org.Service
	dir     *directory.Service
	access  *access.Service
	handler http.Handler
	cluster core.ScopeID
	quarks  core.ScopeID
	robot   core.ApplicationID
	auditor core.ApplicationID
	ids     map[string]core.UserID
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, ids: map[string]core.UserID{}}
	r.clock.Store(time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).Unix())
	file, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: r.now})
	r.must(err)
	t.Cleanup(func() { r.must(file.Close()) })
	r.db = &storetest.Counter{DB: file}
	wrapper, err := localkeys.New([]byte(strings.Repeat("k", 32)))
	r.must(err)
	r.ring = keys.NewRing(r.db, wrapper, r.now)
	r.org = &org.Service{DB: r.db, Ring: r.ring, Now: r.now}
	r.dir = &directory.Service{DB: r.db, Ring: r.ring, Now: r.now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	r.access = &access.Service{DB: r.db, Now: r.now}
	ctx := t.Context()
	operator := core.SystemActor(core.SystemTenant)
	for _, tenant := range []string{"acme", "globex"} {
		_, err := r.org.CreateTenant(ctx, operator, tenant, tenant)
		r.must(err)
	}
	system := core.SystemActor(acme)
	c, err := r.org.CreateCluster(ctx, system, acme, "north", org.Reach{Server: "https://north.example.com"})
	r.must(err)
	d, err := r.org.CreateDepartment(ctx, system, acme, c.Cluster, "physics")
	r.must(err)
	p, err := r.org.CreateProject(ctx, system, acme, org.NewProject{Name: "quarks", Parent: d.ID})
	r.must(err)
	r.cluster, r.quarks = c.ID, p.ID
	for _, name := range []string{"ada", "bob", "cyd"} {
		u, _, err := r.dir.CreateUser(ctx, system, acme, directory.NewUser{Email: name + "@example.com", Password: "correct horse battery"})
		r.must(err)
		r.ids[name] = u.ID
	}
	_, err = r.dir.CreateGroup(ctx, system, acme, "physicists")
	r.must(err)
	_, err = r.dir.AddMember(ctx, system, acme, "physicists", "bob@example.com")
	r.must(err)
	for name, id := range map[string]*core.ApplicationID{"robot": &r.robot, "auditor": &r.auditor} {
		app, _, err := r.dir.CreateApplication(ctx, system, acme, directory.NewApplication{Name: name})
		r.must(err)
		*id = app.ID
	}
	_, err = r.access.Seed(ctx, acme,
		access.NewRule{Subject: core.UserSubject("ada@example.com"), Role: policy.SystemAdministrator, Scope: "acme"},
		access.NewRule{Subject: core.GroupSubject("physicists"), Role: policy.L1Researcher, Scope: r.quarks},
		access.NewRule{Subject: core.ApplicationSubject(r.robot), Role: policy.Viewer, Scope: "acme"},
		access.NewRule{Subject: core.ApplicationSubject(r.auditor), Role: policy.CloudSupport, Scope: r.cluster})
	r.must(err)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	r.handler = web.Edge{Function: "evaluate", Log: quiet}.Wrap(evaluate.Handler(evaluate.Deps{Access: r.access, Ring: r.ring, Now: r.now, Base: base}))
	return r
}

func (r *rig) now() time.Time { return time.Unix(r.clock.Load(), 0).UTC() }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// token is an access token of a person, by first name, or of an application.
func (r *rig) token(who string) string {
	r.t.Helper()
	a := token.Access{Issuer: base + "/t/acme", Audience: base + "/t/acme", Client: "cli", Kind: core.User,
		Subject: string(r.ids[who]), Email: who + "@example.com", IssuedAt: r.now(), Expires: r.now().Add(10 * time.Minute)}
	if id, ok := map[string]core.ApplicationID{"robot": r.robot, "auditor": r.auditor}[who]; ok {
		a.Subject, a.Client, a.Kind, a.Email = string(id), string(id), core.Application, ""
	}
	if a.Kind == core.User {
		a.Family = r.signIn(core.Email(a.Email))
	}
	raw, err := token.Mint(r.t.Context(), r.ring, acme, keys.ES256, a)
	r.must(err)
	return raw
}

// signIn begins a person's sign-in at the command line and returns its id.
func (r *rig) signIn(e core.Email) string {
	r.t.Helper()
	ctx := r.t.Context()
	tenant, err := r.org.Tenant(ctx, acme)
	r.must(err)
	u, err := r.dir.User(ctx, acme, e)
	r.must(err)
	s := session.Service{DB: r.db, Ring: r.ring, Now: r.now}
	f, op, err := s.Begin(tenant.Value, session.Family{Client: "cli", Email: e, User: u.Value.ID, Epoch: u.Value.Epoch, AuthTime: r.now()}, time.Hour)
	r.must(err)
	r.must(r.db.Commit(ctx, op))
	return f.ID
}

type response struct {
	status int
	header http.Header
	body   string
}

func (r *rig) post(path, bearer, body string, header ...string) response {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), "POST", path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return r.serve(req)
}

func (r *rig) serve(req *http.Request) response {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return response{w.Code, w.Header(), w.Body.String()}
}

type answer struct {
	Decision bool
	Context  struct {
		Code, Reason string
		Rule         core.RuleID
		Revision     core.Revision
		Error        *struct {
			Status  int
			Message string
		}
	}
}

func (r *rig) decode(got response, v any) {
	r.t.Helper()
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		r.t.Fatalf("%d %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
	r.must(json.Unmarshal([]byte(got.body), v, json.MatchCaseInsensitiveNames(true)))
}

const (
	one  = "/t/acme/access/v1/evaluation"
	many = "/t/acme/access/v1/evaluations"
)

// ask fills in the form of AuthZEN §6.1.
func ask(kind, id, action, entity, scope string) string {
	body, _ := json.Marshal(map[string]any{"subject": map[string]any{"type": kind, "id": id},
		"action": map[string]any{"name": action}, "resource": map[string]any{"type": entity, "id": scope}})
	return string(body)
}

func TestEvaluation(t *testing.T) {
	r := newRig(t)
	revision := func() core.Revision {
		rec, err := r.org.Tenant(t.Context(), acme)
		r.must(err)
		return rec.Value.Revision
	}()
	quarks := string(r.quarks)
	for name, tt := range map[string]struct {
		who, body string
		allowed   bool
		code      string
		reason    string
	}{
		"a person about herself":         {"ada", ask("user", "ada@example.com", "create", "cluster", "acme"), true, "allowed", "System administrator in the account"},
		"through a group":                {"bob", ask("user", "bob@example.com", "create", "workloads", quarks), true, "allowed", `L1 researcher in project quarks through group "physicists"`},
		"in other letters":               {"bob", ask("user", "Bob@Example.COM", "create", "workloads", quarks), true, "allowed", "L1"},
		"by the token's sub":             {"bob", ask("user", string(r.ids["bob"]), "create", "workloads", quarks), true, "allowed", "L1"},
		"above his scope":                {"bob", ask("user", "bob@example.com", "create", "workloads", string(r.cluster)), false, "no_rule", "needs create on workloads in cluster north"},
		"his role lacks it":              {"bob", ask("user", "bob@example.com", "edit", "project", quarks), false, "role_lacks_permission", "you hold L1 researcher in project quarks"},
		"holds nothing":                  {"cyd", ask("user", "cyd@example.com", "view", "jobs", quarks), false, "no_rule", "you hold no rule there or above"},
		"an application about itself":    {"robot", ask("application", string(r.robot), "view", "jobs", quarks), true, "allowed", "Viewer in the account"},
		"an administrator about another": {"ada", ask("user", "bob@example.com", "delete", "jobs", quarks), true, "allowed", "L1 researcher"},
		"about a group":                  {"ada", ask("group", "physicists", "delete", "jobs", quarks), true, "allowed", "L1 researcher"},
		"what another lacks":             {"ada", ask("user", "bob@example.com", "edit", "project", quarks), false, "role_lacks_permission", "in project quarks; holds L1 researcher in"},
		"about an application":           {"ada", ask("application", string(r.robot), "delete", "jobs", quarks), false, "role_lacks_permission", "Viewer"},
		"an application about another":   {"auditor", ask("user", "bob@example.com", "create", "jobs", quarks), true, "allowed", "L1 researcher"},
		"about nobody":                   {"ada", ask("user", "nobody@example.com", "view", "jobs", quarks), false, "unknown_subject", "no such subject"},
		"unknown kind of subject":        {"ada", ask("robot", "x", "view", "jobs", quarks), false, "unknown_subject", "no such subject"},
		"unknown entity":                 {"ada", ask("user", "ada@example.com", "view", "rockets", quarks), false, "unknown_entity", "no such kind"},
		"unknown action":                 {"ada", ask("user", "ada@example.com", "read", "jobs", quarks), false, "unknown_action", "no such action"},
		"unknown scope":                  {"ada", ask("user", "ada@example.com", "view", "jobs", "elsewhere"), false, "unknown_scope", "no such scope"},
		"another tenant":                 {"ada", ask("user", "ada@example.com", "view", "jobs", "globex"), false, "unknown_scope", "no such scope"},
		"a thing in a scope": {"bob", `{"subject":{"type":"user","id":"bob@example.com"},"action":{"name":"create"},
			"resource":{"type":"workloads","id":"job-17","properties":{"scope":"` + quarks + `","colour":["red"]}}}`, true, "allowed", "L1"},
		// What the request says of groups or roles is not looked at; nor is a context that is not known.
		"groups of her own": {"cyd", `{"subject":{"type":"user","id":"cyd@example.com","properties":{"groups":["physicists"],"role":1}},
			"action":{"name":"create"},"resource":{"type":"workloads","id":"` + quarks + `"},"context":{"groups":["physicists"],"time":"now"}}`, false, "no_rule", "you hold no rule"},
	} {
		var got answer
		r.decode(r.post(one, r.token(tt.who), tt.body), &got)
		if got.Decision != tt.allowed || got.Context.Code != tt.code || !strings.Contains(got.Context.Reason, tt.reason) || got.Context.Revision != revision || got.Context.Error != nil || (got.Context.Rule != 0) != tt.allowed {
			t.Errorf("%s: %+v; want %v, %s, %q at revision %d", name, got, tt.allowed, tt.code, tt.reason, revision)
		}
	}
}

// Who may ask about whom: an error status, since it is about the request and no decision.
func TestAboutOthers(t *testing.T) {
	r := newRig(t)
	_, err := r.access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("cyd@example.com"), Role: policy.DepartmentAdministrator, Scope: r.quarks})
	r.must(err)
	about := func(scope string) string { return ask("user", "ada@example.com", "view", "jobs", scope) }
	for _, tt := range []struct {
		who, scope string
		status     int
	}{
		{"ada", "acme", 200}, {"cyd", string(r.quarks), 200}, {"auditor", string(r.quarks), 200}, {"auditor", string(r.cluster), 200},
		{"cyd", string(r.cluster), 403}, {"cyd", "acme", 403}, {"bob", string(r.quarks), 403}, {"robot", string(r.quarks), 403}, {"auditor", "acme", 403},
	} {
		got := r.post(one, r.token(tt.who), about(tt.scope))
		if got.status != tt.status || got.status == 403 && !strings.Contains(got.body, "needs view on access_rules") || strings.Contains(got.body, "decision") != (tt.status == 200) {
			t.Errorf("%s about ada in %s: %d %s, want %d", tt.who, tt.scope, got.status, got.body, tt.status)
		}
	}
	// About a scope that there is not, everybody hears just that, whomever they ask about.
	for _, who := range []string{"ada@example.com", "nobody@example.com"} {
		var got answer
		r.decode(r.post(one, r.token("bob"), ask("user", who, "view", "jobs", "elsewhere")), &got)
		if got.Context.Code != "unknown_scope" {
			t.Errorf("about %s elsewhere: %+v", who, got)
		}
	}
	// In a list, one that may not be asked spoils no other.
	var list struct{ Evaluations []answer }
	r.decode(r.post(many, r.token("bob"), `{"action":{"name":"view"},"resource":{"type":"jobs","id":"`+string(r.quarks)+`"},
		"evaluations":[{"subject":{"type":"user","id":"ada@example.com"}},{"subject":{"type":"user","id":"bob@example.com"}}]}`), &list)
	if len(list.Evaluations) != 2 || list.Evaluations[0].Decision || list.Evaluations[0].Context.Error == nil || list.Evaluations[0].Context.Error.Status != 403 ||
		!list.Evaluations[1].Decision || list.Evaluations[1].Context.Error != nil {
		t.Errorf("a list about ada and himself: %+v", list)
	}
	if strings.Contains(list.Evaluations[0].Context.Reason, "administrator") {
		t.Errorf("tells what it may not: %+v", list.Evaluations[0])
	}
}

func TestEvaluations(t *testing.T) {
	r := newRig(t)
	body := func(options string, actions ...string) string {
		list := ""
		for _, a := range actions {
			list += `,{"action":{"name":"` + a + `"}}`
		}
		return `{"subject":{"type":"user","id":"bob@example.com"},"resource":{"type":"policies","id":"` + string(r.quarks) + `"},` +
			options + `"evaluations":[` + strings.TrimPrefix(list, ",") + `]}`
	}
	semantic := func(s string) string { return `"options":{"evaluations_semantic":"` + s + `","other":1},` }
	for name, tt := range map[string]struct {
		body string
		want []bool
	}{
		"all by default":        {body("", "view", "edit", "view"), []bool{true, false, true}},
		"execute_all":           {body(semantic("execute_all"), "edit", "view", "edit"), []bool{false, true, false}},
		"deny_on_first_deny":    {body(semantic("deny_on_first_deny"), "view", "edit", "view"), []bool{true, false}},
		"deny, and none denies": {body(semantic("deny_on_first_deny"), "view", "view"), []bool{true, true}},
		"permit_on_first":       {body(semantic("permit_on_first_permit"), "edit", "delete", "view", "view"), []bool{false, false, true}},
		"permit, and none does": {body(semantic("permit_on_first_permit"), "edit", "edit"), []bool{false, false}},
	} {
		var got struct{ Evaluations []answer }
		r.decode(r.post(many, r.token("bob"), tt.body), &got)
		var decisions []bool
		for _, a := range got.Evaluations {
			decisions = append(decisions, a.Decision)
			if a.Context.Revision != got.Evaluations[0].Context.Revision {
				t.Errorf("%s: answers of different revisions", name)
			}
		}
		if diff := cmp.Diff(tt.want, decisions); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What one of them lacks spoils no other, and stops where a no would (AuthZEN §7.2.1).
	for options, want := range map[string]int{"": 3, semantic("deny_on_first_deny"): 2} {
		var got struct{ Evaluations []answer }
		r.decode(r.post(many, r.token("bob"), strings.Replace(body(options, "view", "", "view"), `{"name":""}`, `{}`, 1)), &got)
		if len(got.Evaluations) != want || !got.Evaluations[0].Decision || got.Evaluations[1].Decision || got.Evaluations[1].Context.Error == nil ||
			got.Evaluations[1].Context.Error.Status != 400 || got.Evaluations[1].Context.Error.Message != "/evaluations/1/action/name: is required" {
			t.Errorf("%s: %+v", options, got)
		}
	}
	var none struct{ Evaluations []answer }
	r.decode(r.post(many, r.token("bob"), `{"evaluations":[{}]}`), &none)
	if len(none.Evaluations) != 1 || none.Evaluations[0].Decision || none.Evaluations[0].Context.Error == nil || none.Evaluations[0].Context.Revision == 0 {
		t.Errorf("a list of nothing: %+v", none)
	}
	// What a later version of the standard may add is passed over.
	for _, later := range []string{
		strings.Replace(body("", "view"), `{"subject"`, `{"tenant":"globex","subject"`, 1), strings.Replace(body("", "view"), `"type":"user"`, `"type":"user","groups":["x"]`, 1),
		strings.Replace(body("", "view"), `{"action"`, `{"options":{},"action"`, 1),
	} {
		var got struct{ Evaluations []answer }
		if r.decode(r.post(many, r.token("bob"), later), &got); len(got.Evaluations) != 1 || !got.Evaluations[0].Decision {
			t.Errorf("%s: %+v", later, got)
		}
	}
	// A member that is given replaces the default, but for the name that it may lack; without a list it is a single evaluation (AuthZEN §7.1).
	var got struct{ Evaluations []answer }
	r.decode(r.post(many, r.token("bob"), `{"subject":{"type":"user","id":"bob@example.com"},"action":{"name":"view"},
		"evaluations":[{"resource":{"type":"jobs","id":"`+string(r.quarks)+`"}},{"resource":{"type":"users","id":"`+string(r.quarks)+`"}},
		{"resource":{"type":"jobs","id":"`+string(r.quarks)+`"},"action":{"name":"delete"}}]}`), &got)
	if len(got.Evaluations) != 3 || !got.Evaluations[0].Decision || got.Evaluations[1].Decision || !got.Evaluations[2].Decision {
		t.Errorf("defaults: %+v", got)
	}
	r.decode(r.post(many, r.token("bob"), `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","properties":{"scope":"`+string(r.cluster)+`"}},
		"evaluations":[{"subject":{"id":"bob@example.com"},"resource":{"id":"`+string(r.quarks)+`"}}]}`), &got)
	if len(got.Evaluations) != 1 || !got.Evaluations[0].Decision {
		t.Errorf("the kinds are in the defaults: %+v", got)
	}
	for _, body := range []string{
		ask("user", "bob@example.com", "view", "jobs", string(r.quarks)),
		strings.TrimSuffix(ask("user", "bob@example.com", "view", "jobs", string(r.quarks)), "}") + `,"evaluations":[]}`,
	} {
		var single answer
		r.decode(r.post(many, r.token("bob"), body), &single)
		if !single.Decision {
			t.Errorf("%s: %+v", body, single)
		}
	}
}

func TestMinimumRevision(t *testing.T) {
	r := newRig(t)
	body := func(least string) string {
		return strings.TrimSuffix(ask("user", "bob@example.com", "view", "jobs", string(r.quarks)), "}") + `,"context":{"minimum_revision":` + least + `}}`
	}
	var got answer
	r.decode(r.post(one, r.token("bob"), body("0")), &got)
	now := got.Context.Revision
	r.decode(r.post(one, r.token("bob"), body(strconv.FormatUint(uint64(now), 10))), &got)
	if !got.Decision {
		t.Errorf("at the present revision: %+v", got)
	}
	r.decode(r.post(one, r.token("bob"), body(strconv.FormatUint(uint64(now+1), 10))), &got)
	if got.Decision || got.Context.Code != "revision_not_reached" || got.Context.Error == nil || got.Context.Error.Status != 409 {
		t.Errorf("at the next one: %+v", got)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t)
	good := ask("user", "bob@example.com", "view", "jobs", string(r.quarks))
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	long := make([]string, 51)
	for i := range long {
		long[i] = good
	}
	for name, tt := range map[string]struct {
		path, body string
		status     int
		field      string
	}{
		"no JSON":              {one, "subject=bob", 400, "body"},
		"nothing":              {one, "", 400, "body"},
		"null":                 {one, "null", 400, "body"},
		"a list":               {one, "[" + good + "]", 400, "body"},
		"two values":           {one, good + good, 400, "body"},
		"no subject":           {one, `{"action":{"name":"view"},"resource":{"type":"jobs","id":"x"}}`, 400, "/subject"},
		"no type":              {one, strings.Replace(good, `"type":"user"`, `"type":""`, 1), 400, "/subject/type"},
		"no id":                {one, strings.Replace(good, `"bob@example.com"`, `""`, 1), 400, "/subject/id"},
		"null id":              {one, strings.Replace(good, `"bob@example.com"`, `null`, 1), 400, "/subject/id"},
		"a number":             {one, strings.Replace(good, `"bob@example.com"`, `7`, 1), 400, "/subject/id"},
		"no action":            {one, `{"subject":{"type":"user","id":"x"},"resource":{"type":"jobs","id":"x"}}`, 400, "/action"},
		"no resource":          {one, `{"subject":{"type":"user","id":"x"},"action":{"name":"view"}}`, 400, "/resource"},
		"wrong case":           {one, strings.Replace(good, `"subject"`, `"Subject"`, 1), 400, "/subject"},
		"twice":                {one, strings.Replace(good, `"type":"user"`, `"type":"user","type":"application"`, 1), 400, "/subject/type"},
		"context is text":      {one, strings.TrimSuffix(good, "}") + `,"context":"x"}`, 400, "/context"},
		"too deep":             {one, strings.TrimSuffix(good, "}") + `,"context":` + deep + `}`, 400, ""},
		"too long":             {one, strings.TrimSuffix(good, "}") + `,"context":{"a":"` + strings.Repeat("x", 64<<10) + `"}}`, 413, ""},
		"revision is text":     {one, strings.TrimSuffix(good, "}") + `,"context":{"minimum_revision":"7"}}`, 400, "/context/minimum_revision"},
		"revision is negative": {one, strings.TrimSuffix(good, "}") + `,"context":{"minimum_revision":-7}}`, 400, "/context/minimum_revision"},
		"scope is a number":    {one, strings.Replace(good, `"type":"jobs"`, `"type":"jobs","properties":{"scope":7}`, 1), 400, "/resource/properties/scope"},
		"unknown semantic":     {many, strings.TrimSuffix(good, "}") + `,"evaluations":[{}],"options":{"evaluations_semantic":"any"}}`, 400, "/options/evaluations_semantic"},
		"semantic is a number": {many, strings.TrimSuffix(good, "}") + `,"evaluations":[{}],"options":{"evaluations_semantic":1}}`, 400, "/options/evaluations_semantic"},
		"too many":             {many, `{"evaluations":[` + strings.Join(long, ",") + `]}`, 400, "/evaluations"},
		"an encoded tenant":    {strings.Replace(one, "acme", "%61cme", 1), good, 404, ""},
		"no tenant's name":     {strings.Replace(one, "acme", "Acme!", 1), good, 404, ""},
		"another path":         {one + "s/x", good, 404, ""},
	} {
		got := r.post(tt.path, r.token("bob"), tt.body)
		var e struct {
			Code    int
			Message string
			Details struct{ Field string }
		}
		_ = json.Unmarshal([]byte(got.body), &e, json.MatchCaseInsensitiveNames(true))
		if got.status != tt.status || tt.field != "" && e.Details.Field != tt.field || strings.Contains(got.body, "decision") {
			t.Errorf("%s: %d %s, want %d naming %q", name, got.status, got.body, tt.status, tt.field)
		}
	}
	if got := r.post(one, r.token("bob"), good, "Content-Type", "text/plain"); got.status != 400 || !strings.Contains(got.body, "Content-Type") {
		t.Errorf("another media type: %d %s", got.status, got.body)
	}
	var twin answer
	r.decode(r.post(one, r.token("bob"), good), &twin)
	if !twin.Decision {
		t.Errorf("the twin: %+v", twin)
	}
	r.decode(r.post(many, r.token("bob"), `{"evaluations":[`+strings.Join(long[:50], ",")+`]}`), &struct{}{})
}

// Every caller needs a token of this tenant, and a 401 says the same whatever was wrong with it.
func TestCaller(t *testing.T) {
	r := newRig(t)
	body := ask("user", "bob@example.com", "view", "jobs", string(r.quarks))
	good := r.token("bob")
	elsewhere := token.Access{Issuer: base + "/t/globex", Audience: base + "/t/globex", Client: "cli", Kind: core.User,
		Subject: string(r.ids["bob"]), Email: "bob@example.com", IssuedAt: r.now(), Expires: r.now().Add(10 * time.Minute)}
	foreign, err := token.Mint(t.Context(), r.ring, "globex", keys.ES256, elsewhere)
	r.must(err)
	head, _, _ := strings.Cut(good, ".")
	_, tail, _ := strings.Cut(foreign, ".")
	for name, bad := range map[string]string{
		"none": "", "another tenant's": foreign, "glued": head + "." + tail, "cut": good[:len(good)-2], "text": "x",
	} {
		got := r.post(one, bad, body)
		if got.status != 401 || got.header.Get("WWW-Authenticate") == "" || !strings.Contains(got.body, "Not authenticated. Send a valid, unexpired access token of this tenant.") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := r.post(strings.Replace(one, "acme", "nowhere", 1), good, body); got.status != 401 {
		t.Errorf("a tenant that there is not: %d %s", got.status, got.body)
	}
	if got := r.post(strings.Replace(one, "acme", "globex", 1), good, body); got.status != 401 {
		t.Errorf("at another tenant: %d %s", got.status, got.body)
	}
	if got := r.post(one, good, body); got.status != 200 {
		t.Errorf("the twin: %d %s", got.status, got.body)
	}

	// A token outlives what its person was by minutes; the answers do not.
	fresh := func() (a answer) {
		r.decode(r.post(one, good, body), &a)
		return a
	}
	us := core.SystemActor(acme)
	ended := func(what string) {
		t.Helper()
		for _, path := range []string{one, many} {
			if got := r.post(path, good, body); got.status != 401 {
				t.Errorf("%s: %s answers %d %s", what, path, got.status, got.body)
			}
		}
		if got := r.post(one, good, ask("user", "ada@example.com", "view", "jobs", string(r.quarks))); got.status != 401 {
			t.Errorf("%s, about somebody else: %d %s", what, got.status, got.body)
		}
		if got := r.post(one, good, ask("user", "bob@example.com", "view", "jobs", strings.Repeat("x", 300))); got.status != 401 {
			t.Errorf("%s, about no scope: %d %s", what, got.status, got.body)
		}
	}
	if got := r.post(one, good, ask("user", "bob@example.com", "view", "jobs", strings.Repeat("x", 300))); got.status != 200 {
		t.Errorf("the twin, about no scope: %d %s", got.status, got.body)
	}
	_, err = r.dir.ForceLogout(t.Context(), us, acme, "bob@example.com")
	r.must(err)
	ended("a person who was signed out")
	good = r.token("bob")
	if a := fresh(); !a.Decision {
		t.Errorf("the twin, signed in again: %+v", a)
	}
	_, err = r.dir.Disable(t.Context(), us, acme, "bob@example.com")
	r.must(err)
	ended("a disabled person")
	r.must(r.dir.DeleteUser(t.Context(), us, acme, "bob@example.com"))
	_, _, err = r.dir.CreateUser(t.Context(), us, acme, directory.NewUser{Email: "bob@example.com"})
	r.must(err)
	_, err = r.access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("bob@example.com"), Role: policy.Viewer, Scope: r.quarks})
	r.must(err)
	ended("a deleted person, when there is another of that e-mail")
	// An application that is disabled, and a person who has to change the password, ask nothing at all.
	good, body = r.token("robot"), ask("application", string(r.robot), "view", "jobs", string(r.quarks))
	if a := fresh(); !a.Decision {
		t.Errorf("the twin, an application: %+v", a)
	}
	_, err = r.dir.SetEnabled(t.Context(), us, acme, r.robot, false)
	r.must(err)
	ended("a disabled application")
	body = ask("user", "cyd@example.com", "view", "jobs", string(r.quarks))
	_, err = r.dir.ResetPassword(t.Context(), us, acme, "cyd@example.com")
	r.must(err)
	good = r.token("cyd")
	ended("a person with a temporary password")
	_, err = r.dir.SetPassword(t.Context(), us, acme, "cyd@example.com", "another horse battery")
	r.must(err)
	good = r.token("cyd")
	if a := fresh(); a.Context.Code != "no_rule" {
		t.Errorf("the twin, with a password of her own: %+v", a)
	}
	r.must(r.org.Suspend(t.Context(), core.SystemActor(core.SystemTenant), acme))
	if a := fresh(); a.Decision || a.Context.Code != "tenant_suspended" {
		t.Errorf("a suspended tenant (TEN-017): %+v", a)
	}
	r.clock.Add(11 * 60)
	if got := r.post(one, good, body); got.status != 401 {
		t.Errorf("an expired token: %d %s", got.status, got.body)
	}
}

// TestRoundTrips counts those of a whole request, with the keys warm: two for a person, one for an application.
func TestRoundTrips(t *testing.T) {
	r := newRig(t)
	about := func(kind, id string) string { return ask(kind, id, "view", "jobs", string(r.quarks)) }
	tokens := map[string]string{}
	for _, who := range []string{"ada", "bob", "robot", "auditor"} {
		tokens[who] = r.token(who)
		r.post(one, tokens[who], about("user", who+"@example.com"))
	}
	list := func(items ...string) string { return `{"evaluations":[` + strings.Join(items, ",") + `]}` }
	for name, tt := range map[string]struct {
		path, who, body string
		want            int
	}{
		"a person about himself":      {one, "bob", about("user", "bob@example.com"), 2},
		"an application about itself": {one, "robot", about("application", string(r.robot)), 1},
		"a person about another":      {one, "ada", about("user", "bob@example.com"), 2},
		"an application about one":    {one, "auditor", about("user", "bob@example.com"), 2},
		"an application, another one": {one, "auditor", about("application", string(r.robot)), 1},
		"a list": {many, "auditor", list(about("user", "bob@example.com"), about("user", "ada@example.com"), about("application", string(r.robot)),
			ask("user", "bob@example.com", "view", "users", string(r.cluster))), 2},
	} {
		r.db.Reset()
		got := r.post(tt.path, tokens[tt.who], tt.body)
		if n := r.db.Reset(); got.status != 200 || n.RoundTrips() != tt.want {
			t.Errorf("%s: %d round trips (%+v), want %d; %s", name, n.RoundTrips(), n, tt.want, got.body)
		}
	}
}

func TestRequestID(t *testing.T) {
	r := newRig(t)
	body := ask("user", "bob@example.com", "view", "jobs", string(r.quarks))
	for _, id := range []string{"bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "7", "any string / at all"} {
		for _, bearer := range []string{r.token("bob"), ""} { // with an answer, and with an error
			if got := r.post(one, bearer, body, "X-Request-ID", id); got.header.Get("X-Request-ID") != id {
				t.Errorf("%q came back as %q", id, got.header.Get("X-Request-ID"))
			}
		}
	}
	if got := r.post(one, r.token("bob"), body, "X-Request-ID", "a\x7fb"); got.header.Get("X-Request-ID") == "a\x7fb" {
		t.Error("an id that does not print came back")
	}
}

func TestMetadata(t *testing.T) {
	r := newRig(t)
	get := func(path string) response {
		return r.serve(httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	}
	got := get("/.well-known/authzen-configuration/t/acme")
	var doc map[string]string
	r.decode(got, &doc)
	want := map[string]string{
		"policy_decision_point":       base + "/t/acme",
		"access_evaluation_endpoint":  base + "/t/acme/access/v1/evaluation",
		"access_evaluations_endpoint": base + "/t/acme/access/v1/evaluations",
		"search_subject_endpoint":     base + "/t/acme/access/v1/search/subject",
		"search_resource_endpoint":    base + "/t/acme/access/v1/search/resource",
		"search_action_endpoint":      base + "/t/acme/access/v1/search/action",
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Error(diff)
	}
	if other := get("/t/acme/.well-known/authzen-configuration"); other.status != 200 || other.body != got.body {
		t.Errorf("below the tenant: %d %s", other.status, other.body)
	}
	for _, path := range []string{"/.well-known/authzen-configuration/t/nowhere", "/t/nowhere/.well-known/authzen-configuration"} {
		if got := get(path); got.status != 404 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// FuzzBody: whatever cyd, who holds nothing, posts is answered with a named refusal or a decision, and never with a yes.
func FuzzBody(f *testing.F) {
	r := newRig(f)
	bearer := r.token("cyd")
	for _, s := range []string{
		ask("user", "cyd@example.com", "view", "jobs", "acme"), ask("user", "ada@example.com", "view", "jobs", "acme"),
		`{"subject":{"type":"user","id":"cyd@example.com"},"evaluations":[{"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"}}],"options":{"evaluations_semantic":"deny_on_first_deny"},"context":{"minimum_revision":1}}`,
		`{"subject":{"type":"user","id":"\u0000"},"action":{"name":"view"},"resource":{"type":"jobs","id":"a\u001fb","properties":{"scope":"x"}}}`,
		`{}`, `[]`, `{"evaluations":[{}]}`,
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, body string, single bool) {
		path := many
		if single {
			path = one
		}
		req := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+bearer)
		got := r.serve(req)
		switch got.status {
		case 200:
			if strings.Contains(got.body, `"decision":true`) {
				t.Fatalf("cyd, who holds nothing, is allowed something: %s", got.body)
			}
		case 400, 403, 413:
			if strings.Contains(got.body, `"decision"`) {
				t.Fatalf("%d with a decision: %s", got.status, got.body)
			}
		default:
			t.Fatalf("%d: %s", got.status, got.body)
		}
	})
}
