package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
)

// Nothing of another tenant can be read by any id, filter, search, cursor, member or header: who tries gets the very answer
// that something gets which is not there, and no answer holds anything of the other tenant's. (threats §6)
func TestNothingCrossesTenants(t *testing.T) {
	w := newWorld(t)
	victim := w.populate(globex)
	w.idp(acme, "sample") // what every connection to the same provider holds is no secret
	w.trace(acme)
	w.deadLetter(acme)
	mine := w.harvest(acme)
	secrets := victim.without(mine)
	for _, must := range []string{"canary", "@canary.test", string(w.admins[globex].ID)} {
		if !slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(s, must) }) {
			t.Fatalf("nothing to look for holds %q: %q", must, secrets)
		}
	}
	if len(secrets) < 30 {
		t.Fatalf("only %d things to look for: %q", len(secrets), secrets)
	}
	if raceEnabled {
		secrets = secrets[:30]
	}
	a := attacker{world: w, secrets: secrets, sent: map[string]bool{}, bearer: map[core.TenantID]string{acme: w.adminToken(acme), core.SystemTenant: w.adminToken(core.SystemTenant)}}
	before := w.dumpOf(globex)
	rows, all := endpoints(), samples()
	for _, e := range rows { // what changes nothing of the attacker's own comes first, so that all of the victim's is looked for
		if tenantOf(e) == acme {
			a.paths(e)
			a.filters(e)
		}
	}
	for _, cursor := range victim.cursors {
		for _, e := range rows {
			if slices.Contains(e.query, "cursor") && tenantOf(e) == acme {
				a.send("a cursor", e, e.path+"?cursor="+url.QueryEscape(cursor), "", nil, "")
			}
		}
	}
	if diff := changed(before, w.dumpOf(globex)); len(diff) > 0 {
		t.Errorf("the other tenant was changed: %v", diff)
	}
	for _, e := range rows { // samples make things of another tenant, too, so that nothing can be said of those here
		if tenantOf(e) != acme {
			continue
		}
		s := all[e.method+" "+e.path](w, policy.L1Researcher)
		if e.object != nil && e.method != http.MethodGet {
			for _, tag := range victim.tags {
				own := a.tags(e, s)
				if rec := a.send("an ETag", e, s.path(e), s.body, http.Header{"If-Match": {tag}}, ""); rec.Code != http.StatusPreconditionFailed && !own[tag] {
					t.Errorf("%s %s with another tenant's ETag %s: %d", e.method, e.path, tag, rec.Code)
				}
			}
		}
		a.members(e, func() sample { return all[e.method+" "+e.path](w, policy.L1Researcher) })
	}
	if a.tried < 1000 {
		t.Errorf("only %d tries", a.tried)
	}
	t.Logf("%d tries with %d things of the other tenant", a.tried, len(secrets))
}

// An idempotency key is the caller's own: the same key, request and time from another tenant, or from another caller of the
// same, is another request.
func TestIdempotencyKeysDoNotCross(t *testing.T) {
	w := newWorld(t)
	header := http.Header{idempotencyKey: {"the-same-key"}}
	body := `{"name":"the-same-name"}`
	create := func(tenant core.TenantID, bearer string) response {
		return w.call(request{method: "POST", path: "/api/v1/service-accounts", tenant: tenant, bearer: bearer, body: body, header: header})
	}
	first := create(globex, w.adminToken(globex)).want(t, 201).Body.String()
	if again := create(globex, w.adminToken(globex)).want(t, 201); again.Body.String() != first || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("sent again: %s, want %s", again.Body, first) // the positive twin
	}
	other := create(acme, w.adminToken(acme)).want(t, 201)
	if other.Body.String() == first || other.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("another tenant got %s", other.Body)
	}
	colleague := w.appToken(globex, w.caller(globex, policy.SystemAdministrator, core.AccountScope(globex)))
	if rec := create(globex, colleague); rec.Code != http.StatusConflict || rec.Header().Get("Idempotency-Replayed") != "" || strings.Contains(rec.Body.String(), "ecret") {
		t.Errorf("another caller got %d %s", rec.Code, rec.Body)
	}
}

// populate fills a tenant with one of everything, under names that cannot be mistaken, and reads it all.
func (w *world) populate(t core.TenantID) haul {
	w.Helper()
	w.grant(t, core.GroupSubject("Canary group"), policy.Viewer, core.AccountScope(t))
	cluster := w.cluster(t)
	bearer := w.adminToken(t)
	post := func(path, body string) {
		w.call(request{method: "POST", path: "/api/v1" + path, tenant: t, bearer: bearer, body: body, header: http.Header{reasonHeader: {"canary reason"}}}).want(w.TB, 201)
	}
	post("/clusters", `{"name":"canary-cluster","server":"https://canary.example.test:6443"}`)
	post("/org-unit/departments", `{"name":"canary-department","clusterId":"`+string(cluster.Cluster)+`"}`)
	post("/org-unit/projects", `{"name":"canary-project","clusterId":"`+string(cluster.Cluster)+`"}`)
	post("/users", `{"email":"canary.user@canary.test","firstName":"Canary","lastName":"Bird of globex"}`)
	post("/groups", `{"name":"Canary local group"}`)
	post("/service-accounts", `{"name":"canary-application","redirectUris":["https://canary.example.test/cb"]}`)
	post("/authorization/access-rules", `{"subjectId":"canary.user@canary.test","subjectType":"user","roleId":9,"scopeId":"`+string(cluster.Cluster)+`","scopeType":"cluster","reason":"canary rule"}`)
	w.idp(t, "canary-idp")
	w.trace(t)
	w.deadLetter(t)
	return w.harvest(t)
}

// haul is what an administrator can read of a tenant.
type haul struct {
	texts   map[string]bool
	cursors []string
	tags    []string
}

// without is what the other haul does not have: ids, names and e-mails that are the tenant's alone. A word of the API's own
// that only one of them happens to hold is no secret: it is short, and has neither a name that we gave nor a digit.
func (h haul) without(other haul) []string {
	var all []string
	for s := range h.texts {
		_, notTime := time.Parse(time.RFC3339Nano, s)
		ours := strings.Contains(strings.ToLower(s), "canary") || strings.Contains(s, string(globex)) || len(s) >= 20 && strings.ContainsAny(s, "23456789")
		if ours && len(s) >= 8 && len(s) <= 300 && !other.texts[s] && notTime != nil {
			all = append(all, s)
		}
	}
	slices.Sort(all)
	return all
}

// harvest reads every list of a tenant, every object that it tells of, page by page.
func (w *world) harvest(t core.TenantID) haul {
	w.Helper()
	h := haul{texts: map[string]bool{}}
	bearer := w.adminToken(t)
	get := func(path string) []byte {
		rec := w.call(request{method: "GET", path: "/api/v1" + path, tenant: t, bearer: bearer})
		if rec.Code != http.StatusOK {
			return nil
		}
		h.keep(rec.Body.Bytes(), rec.Header())
		return rec.Body.Bytes()
	}
	rows := endpoints()
	for _, e := range rows {
		if e.method == http.MethodGet && !strings.Contains(e.path, "{") && tenantOf(e) == acme {
			get(e.path)
			if slices.Contains(e.query, "limit") {
				get(e.path + "?limit=1")
			}
		}
	}
	for _, e := range rows {
		if e.method != http.MethodGet || !strings.Contains(e.path, "{") || tenantOf(e) != acme {
			continue
		}
		below, _, _ := strings.Cut(e.path, "/{")
		var list any
		if json.Unmarshal(get(below), &list) != nil {
			continue
		}
		for _, id := range idsIn(list) {
			get(parameter.ReplaceAllLiteralString(e.path, url.PathEscape(id)))
		}
	}
	return h
}

func (h *haul) keep(body []byte, header http.Header) {
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	if d.Decode(&v) == nil {
		h.leaves("", v)
	}
	if c := header.Get("X-Next-Cursor"); c != "" {
		h.cursors = append(h.cursors, c)
	}
	if tag := header.Get("ETag"); tag != "" && !slices.Contains(h.tags, tag) && len(h.tags) < 8 {
		h.tags = append(h.tags, tag)
	}
}

func (h *haul) leaves(name string, v any) {
	switch v := v.(type) {
	case string:
		if name == "next" && v != "" {
			h.cursors = append(h.cursors, v)
			return
		}
		h.texts[v] = true
	case []any:
		for _, item := range v {
			h.leaves(name, item)
		}
	case map[string]any:
		for name, item := range v {
			h.leaves(name, item)
		}
	}
}

// idsIn are the ids of what a list tells of.
func idsIn(list any) (ids []string) {
	switch list := list.(type) {
	case []any:
		for _, item := range list {
			ids = append(ids, idsIn(item)...)
		}
	case map[string]any:
		for _, name := range []string{"id", "uuid", "alias", "name"} {
			switch id := list[name].(type) {
			case string:
				return append(ids, id)
			case float64:
				return append(ids, strconv.FormatFloat(id, 'f', 0, 64))
			}
		}
		for _, item := range list {
			if _, ok := item.([]any); ok {
				ids = append(ids, idsIn(item)...)
			}
		}
	}
	return ids
}

func (w *world) dumpOf(t core.TenantID) map[string]string {
	all := w.dump()
	maps.DeleteFunc(all, func(k, _ string) bool { return !strings.HasPrefix(k, string(t)+"/") })
	return all
}

// attacker is the administrator of another tenant, who knows everything about the victim's.
type attacker struct {
	*world
	secrets []string
	sent    map[string]bool // what the attacker has put into places where it may be kept
	bearer  map[core.TenantID]string
	tried   int
}

// send sends a request that names one of the victim's things, and looks for all the others in the answer.
func (a *attacker) send(what string, e endpoint, path, body string, header http.Header, named string) response {
	a.Helper()
	a.tried++
	rec := a.call(request{method: e.method, path: "/api/v1" + path, tenant: acme, bearer: a.bearer[acme], body: body, header: header})
	if rec.Code >= 500 {
		a.Errorf("%s %s with %s: %d", e.method, path, what, rec.Code)
	}
	answer := rec.Body.String() + fmt.Sprint(rec.Header())
	for _, s := range a.secrets {
		if s != named && !strings.Contains(named, s) && !a.sent[s] && strings.Contains(answer, s) {
			a.Errorf("%s %s with %s: the answer holds %q: %d %s", e.method, path, what, s, rec.Code, rec.Body)
		}
	}
	return rec
}

// absentLike is a thing that there is not, of the same form and length: it differs in the last letter or digit.
func (a *attacker) absentLike(s string) string {
	i := strings.LastIndexFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' })
	for _, c := range "0123456789abcdefxyz" {
		if other := s[:i] + string(c) + s[i+1:]; !slices.Contains(a.secrets, other) && other != s {
			return other
		}
	}
	return s
}

// same sends a request with something of the victim's and with something that is not there, and compares.
func (a *attacker) same(what string, e endpoint, with func(string) (path, body string), secret, absent string) {
	a.Helper()
	answer := func(thing string) string {
		path, body := with(thing)
		rec := a.send(what, e, path, body, nil, secret)
		if rec.Code < 300 && e.method != http.MethodGet {
			a.sent[secret], a.sent[absent] = true, true
			return strconv.Itoa(rec.Code) // what it made has an id and a time of its own
		}
		text := strings.NewReplacer(quoted(thing), "THING", thing, "THING", rec.Header().Get("X-Request-ID"), "REQUEST").Replace(rec.Body.String())
		return fmt.Sprint(rec.Code, " ", text, rec.Header().Get("ETag"), rec.Header().Get("X-Total-Count"), rec.Header().Get("X-Next-Cursor"))
	}
	if foreign, none := answer(secret), answer(absent); foreign != none {
		a.Errorf("%s %s: %s %q is answered\n  %s\nand what is not there, %q,\n  %s", e.method, e.path, what, secret, foreign, absent, none)
	}
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return strings.Trim(string(b), `"`)
}

// paths tries everything in every part of a path.
func (a *attacker) paths(e endpoint) {
	a.Helper()
	if !strings.Contains(e.path, "{") {
		return
	}
	body := ""
	if e.in != nil {
		body = "{}"
	}
	for _, s := range a.secrets {
		a.same("the path part", e, func(id string) (string, string) {
			return parameter.ReplaceAllLiteralString(e.path, url.PathEscape(id)), body
		}, s, a.absentLike(s))
	}
}

// filters tries everything in every parameter that names something.
func (a *attacker) filters(e endpoint) {
	a.Helper()
	for _, p := range e.query {
		switch p {
		case "subjectIds", "scopeId", "clusterId", "search", "cursor", "subject", "entityId", "requestId":
		default:
			continue
		}
		for _, s := range a.secrets {
			a.same("the parameter "+p, e, func(id string) (string, string) {
				return parameter.ReplaceAllLiteralString(e.path, "absent") + "?" + p + "=" + url.QueryEscape(id), ""
			}, s, a.absentLike(s))
		}
	}
}

// members tries things in every member of a body that works, on objects that are made for each request.
func (a *attacker) members(e endpoint, fresh func() sample) {
	a.Helper()
	var body map[string]any
	if s := fresh(); s.body == "" || e.path == "/me/password" || e.path == "/idps" || json.Unmarshal([]byte(s.body), &body) != nil { // a wrong password is throttled, and a tenant has few connections
		return
	}
	for i, name := range slices.Sorted(maps.Keys(body)) {
		if _, isText := body[name].(string); !isText {
			continue
		}
		for n := range 10 { // some of them in each: different ones, so that all are tried
			secret := a.secrets[(i*10+n*7+len(e.path))%len(a.secrets)]
			a.same("the member "+name, e, func(id string) (string, string) {
				s := fresh()
				var spoilt map[string]any
				a.must(json.Unmarshal([]byte(s.body), &spoilt))
				spoilt[name] = id
				data, err := json.Marshal(spoilt)
				a.must(err)
				return s.path(e), string(data)
			}, secret, a.absentLike(secret))
		}
	}
}

// tags are the tags of the attacker's own object, which may happen to be the victim's too: they count versions.
func (a *attacker) tags(e endpoint, s sample) map[string]bool {
	tags := map[string]bool{}
	for _, row := range endpoints() {
		if row.method == http.MethodGet && row.path == e.path {
			rec := a.call(request{method: "GET", path: "/api/v1" + s.path(row), tenant: acme, bearer: a.bearer[acme]})
			tags[rec.Header().Get("ETag")] = true
		}
	}
	return tags
}

// A role does what the matrix says in the scope where it is held and below, and nothing beside it, above it, or after its
// end.
func TestMatrixByScope(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	q, r := w.projectIn(acme, w.mustScope(p.Parent)), w.project(acme)
	row := func(method, path string) endpoint {
		i := slices.IndexFunc(endpoints(), func(e endpoint) bool { return e.method == method && e.path == path })
		return endpoints()[i]
	}
	const projects, rules = "/org-unit/projects/{id}", "/authorization/access-rules"
	for _, level := range []struct {
		name   string
		scope  core.ScopeID
		ends   time.Duration
		covers bool
	}{
		{"account", core.AccountScope(acme), 0, true}, {"cluster", core.ClusterScope(p.Cluster), 0, true}, {"department", p.Parent, 0, true}, {"project", p.ID, 0, true},
		{"until later", p.ID, time.Hour, true}, {"until a moment ago", p.ID, time.Second, false},
		{"sibling project", q.ID, 0, false}, {"another cluster", core.ClusterScope(r.Cluster), 0, false}, {"another department", r.Parent, 0, false},
	} {
		for _, role := range policy.Roles() {
			app := w.app(acme)
			grant := access.NewRule{Subject: core.ApplicationSubject(app.ID), Role: role.ID, Scope: level.scope}
			if level.ends > 0 {
				grant.ExpiresAt = w.Now().Add(level.ends)
			}
			_, err := w.Access.Seed(t.Context(), acme, grant)
			w.must(err)
			if level.ends > 0 {
				w.pass(2 * time.Second)
			}
			bearer, until := w.appToken(acme, app), ""
			if level.ends > 0 {
				until = `,"expiresAt":"` + w.Now().Add(time.Minute).Format(time.RFC3339) + `"`
			}
			rule := w.grant(acme, core.GroupSubject(core.GroupName(w.name("g"))), role.ID, p.ID)
			goes := w.projectUnder(level.scope, p)
			for _, c := range []struct {
				e          endpoint
				path, body string
				status     int
			}{
				{row("GET", projects), "/org-unit/projects/" + string(p.ID), "", 200},
				{row("PUT", projects), "/org-unit/projects/" + string(p.ID), `{"name":"` + w.name("renamed") + `"}`, 200},
				{row("GET", rules+"/{id}"), rules + "/" + itoa(rule.ID), "", 200},
				{row("POST", rules), rules, `{"subjectId":"` + w.name("Group") + `","subjectType":"group","roleId":` + itoa(role.ID) + `,"scopeId":"` + string(p.ID) + `","scopeType":"project"` + until + `}`, 201},
				{row("DELETE", rules+"/{id}"), rules + "/" + itoa(rule.ID), "", 204},
				{row("DELETE", projects), "/org-unit/projects/" + string(goes), "", 204},
			} {
				if c.e.path == projects && c.e.method == "DELETE" && goes == p.ID && level.covers {
					continue // it is needed further
				}
				want := level.covers && permitted(c.e, role.ID)
				rec := w.as(bearer, c.e.method, c.path, c.body)
				if refused := rec.Code == 403 || rec.Code == 404; want && rec.Code != c.status || !want && !refused {
					t.Errorf("%s %s as %s, held at %s: %d, want permitted=%v: %s", c.e.method, c.e.path, role.Name, level.name, rec.Code, want, rec.Body)
				}
			}
		}
	}
}

func (w *world) mustScope(id core.ScopeID) (sc org.Scope) {
	w.Helper()
	rec, err := w.Org.Scope(w.Context(), acme, id)
	w.must(err)
	return rec.Value
}

// projectUnder is a project that may be deleted: a new sibling of p where the scope lies above it, else p itself.
func (w *world) projectUnder(scope core.ScopeID, p org.Scope) core.ScopeID {
	w.Helper()
	if scope == core.AccountScope(acme) || scope == core.ClusterScope(p.Cluster) || scope == p.Parent {
		return w.projectIn(acme, w.mustScope(p.Parent)).ID
	}
	return p.ID
}
