package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
)

// provided is a sign-in at an identity provider, which says those groups.
func (w *world) provided(t core.TenantID, e core.Email, groups ...core.GroupName) {
	w.Helper()
	rec, err := w.Directory.User(w.Context(), t, e)
	if err != nil && !errors.Is(err, core.NotFound) {
		w.must(err)
	}
	slices.Sort(groups)
	said := directory.Said{Connection: "c1", Alias: "corp", Email: e, Groups: groups}
	u, ops, err := w.Directory.FromProvider(core.Actor{Tenant: t}, rec, said)
	w.must(err)
	index, err := w.Directory.FollowGroups(w.Context(), t, rec.Value, u, said)
	w.must(err)
	w.must(w.DB.Commit(w.Context(), append(ops, index...)...))
}

func groupSamples() map[string]func(*world, core.RoleID) sample {
	seen := func(status int) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			g := core.GroupName(w.name("Provided team"))
			w.provided(acme, core.Email(w.name("p")+"@acme.test"), g)
			return sample{name: string(g), status: status}
		}
	}
	return map[string]func(*world, core.RoleID) sample{
		"GET /groups/{name}":         seen(200),
		"GET /groups/{name}/members": seen(200),
		"DELETE /groups/{name}":      seen(204),
	}
}

func (w *world) read(method, path, bearer string, status int, into any) http.Header {
	w.Helper()
	rec := w.call(request{method: method, path: "/api/v1" + path, tenant: acme, bearer: bearer})
	if rec.Code != status {
		w.Fatalf("%s %s: %d %s, want %d", method, path, rec.Code, rec.Body, status)
	}
	if into != nil {
		w.must(json.Unmarshal(rec.Body.Bytes(), into))
	}
	return rec.Header()
}

// Groups as identity providers send them: seen when, by whom, with which rules; beside those that are given here.
func TestGroups(t *testing.T) {
	w := newWorld(t)
	const odd = core.GroupName(`CN=Köche #1, 50%/"ü"`)
	at := w.Now()
	_, err := w.Directory.CreateGroup(t.Context(), core.SystemActor(acme), acme, "both")
	w.must(err)
	_, err = w.Directory.CreateGroup(t.Context(), core.SystemActor(acme), acme, "alone")
	w.must(err)
	w.provided(acme, "first@corp.test", "both", odd, "staff")
	w.pass(10 * time.Minute)
	w.provided(acme, "second@corp.test", "staff")
	w.pass(2 * time.Hour)
	late := w.Now()
	w.provided(acme, "third@corp.test", "staff")
	w.provided(acme, "first@corp.test", "both", odd, "staff") // again: nothing is new to this person
	local := w.user(acme, "local@acme.test")
	_, err = w.Directory.AddMember(t.Context(), core.SystemActor(acme), acme, "both", local.Email)
	w.must(err)

	admin := w.adminToken(acme)
	var list []api.Group
	head := w.read("GET", "/groups", admin, 200, &list)
	want := []api.Group{
		{Name: odd, Source: "corp", FirstSeen: at, LastSeen: at, SeenBy: "first@corp.test", SeenAt: "corp"},
		{Name: "alone", Source: "local", CreatedAt: at, CreatedBy: "fleetpass"},
		{Name: "both", Source: "local", CreatedAt: at, CreatedBy: "fleetpass", FirstSeen: at, LastSeen: at, SeenBy: "first@corp.test", SeenAt: "corp"},
		{Name: "staff", Source: "corp", FirstSeen: at, LastSeen: late, SeenBy: "first@corp.test", SeenAt: "corp"},
	}
	for i := range list {
		want[min(i, len(want)-1)].CreatedBy = list[i].CreatedBy // whatever the system is called
	}
	if diff := cmp.Diff(want, list); diff != "" || head.Get(api.HeaderTotal) != "4" {
		t.Errorf("the list, of %s: %s", head.Get(api.HeaderTotal), diff)
	}
	for query, names := range map[string]string{
		"sortBy=name&sortOrder=desc":                              fmt.Sprint([]core.GroupName{"staff", "both", "alone", odd}),
		"filterBy=source==corp":                                   fmt.Sprint([]core.GroupName{odd, "staff"}),
		"filterBy=name=^al":                                       "[alone]",
		"filterBy=name==both":                                     "[both]",
		"filterBy=lastSeen>=" + late.Format(time.RFC3339):         "[staff]",
		"search=KÖCHE":                                            fmt.Sprint([]core.GroupName{odd}),
		"sortBy=lastSeen&sortOrder=desc&limit=1":                  "[staff]",
		"filterBy=seenBy==first@corp.test,source==local":          "[both]",
		"filterBy=name==" + url.QueryEscape(strings.ToUpper("x")): "[]",
	} {
		var got []api.Group
		w.read("GET", "/groups?"+strings.ReplaceAll(query, "KÖCHE", url.QueryEscape("KÖCHE")), admin, 200, &got)
		if s := fmt.Sprint(each(got, func(g api.Group) core.GroupName { return g.Name })); s != names {
			t.Errorf("%s: %s, want %s", query, s, names)
		}
	}
	// Page by page, both ways, everything comes once.
	for _, order := range []string{"asc", "desc"} {
		var names []core.GroupName
		for cursor, n := "", 0; n < 10; n++ {
			var got []api.Group
			head := w.read("GET", "/groups?limit=1&sortOrder="+order+cursor, admin, 200, &got)
			for _, g := range got {
				names = append(names, g.Name)
			}
			if cursor = "&cursor=" + head.Get(api.HeaderNext); head.Get(api.HeaderNext) == "" {
				break
			}
		}
		if order == "desc" {
			slices.Reverse(names)
		}
		if diff := cmp.Diff([]core.GroupName{odd, "alone", "both", "staff"}, names); diff != "" {
			t.Errorf("%s, one at a time: %s", order, diff)
		}
	}

	// One of them, by any name, with its rules and who is in it.
	project := w.project(acme)
	rule := w.grant(acme, core.GroupSubject(odd), policy.Viewer, project.ID)
	var one api.GroupDetails
	path := "/groups/" + url.PathEscape(string(odd))
	head = w.read("GET", path, admin, 200, &one)
	if one.Name != odd || one.Source != "corp" || len(one.AccessRules) != 1 || one.AccessRules[0].ID != rule.ID || one.AccessRules[0].ScopeName != project.Name ||
		len(one.Members) != 1 || one.Members[0].Username != "first@corp.test" || !one.Members[0].Told || one.Members[0].Given || one.NextMembers != "" || head.Get("ETag") == "" {
		t.Errorf("%s: %+v", path, one)
	}
	// Who may view groups and no access rules sees none of them.
	blind := w.appToken(acme, w.caller(acme, policy.Viewer, "acme"))
	if rec := w.call(request{method: "GET", path: "/api/v1" + path, tenant: acme, bearer: blind}); rec.Code != 403 {
		t.Errorf("a Viewer, who may not view groups: %d %s", rec.Code, rec.Body)
	}
	w.read("GET", "/groups/both", admin, 200, &one)
	var said []string
	for _, m := range one.Members {
		said = append(said, fmt.Sprintf("%s %v %v", m.Username, m.Given, m.Told))
	}
	if diff := cmp.Diff([]string{"first@corp.test false true", "local@acme.test true false"}, said); diff != "" {
		t.Error(diff)
	}
	w.read("GET", "/groups/nobody", admin, 404, nil)

	// Members come in pages, and a cursor is of one group alone.
	for i := range 60 {
		w.provided(acme, core.Email(fmt.Sprintf("m%02d@corp.test", i)), "crowd", "throng")
	}
	_, err = w.Directory.Disable(t.Context(), core.SystemActor(acme), acme, "m07@corp.test")
	w.must(err)
	w.read("GET", "/groups/crowd", admin, 200, &one)
	if len(one.Members) != 50 || one.NextMembers == "" {
		t.Fatalf("%d members, next %q", len(one.Members), one.NextMembers)
	}
	var rest []api.GroupMember
	w.read("GET", "/groups/crowd/members?cursor="+one.NextMembers, admin, 200, &rest)
	if len(rest) != 10 || rest[0].Username != "m50@corp.test" {
		t.Errorf("%d behind, from %+v", len(rest), rest)
	}
	w.read("GET", "/groups/throng/members?cursor="+one.NextMembers, admin, 400, nil)
	for query, n := range map[string]int{"limit=500": 60, "filterBy=enabled==false": 1, "filterBy=username=^m1": 10, "filterBy=username==M07@corp.test": 1, "search=m5": 10, "filterBy=given==true": 0} {
		if w.read("GET", "/groups/crowd/members?"+query, admin, 200, &rest); len(rest) != n {
			t.Errorf("%s: %d members, want %d", query, len(rest), n)
		}
	}

	// Deleting forgets: the rule stays, and who signs in with it brings it back. What was read must be as it was.
	stale := head.Get("ETag")
	w.provided(acme, "fourth@corp.test", odd)
	if rec := w.call(request{method: "DELETE", path: "/api/v1" + path, tenant: acme, bearer: admin, header: http.Header{"If-Match": {stale}}}); rec.Code != 412 {
		t.Errorf("with the tag from before somebody came in: %d %s", rec.Code, rec.Body)
	}
	w.read("DELETE", path, admin, 204, nil)
	w.read("GET", path, admin, 404, nil)
	w.read("DELETE", path, admin, 404, nil)
	if _, err := w.Access.Get(t.Context(), acme, rule.ID); err != nil {
		t.Errorf("the rule: %v", err)
	}
	w.provided(acme, "fifth@corp.test", odd)
	if w.read("GET", path, admin, 200, &one); one.SeenBy != "fifth@corp.test" || len(one.Members) != 3 || len(one.AccessRules) != 1 {
		t.Errorf("seen again: %+v", one)
	}
	w.read("DELETE", "/groups/both", admin, 204, nil)
	w.read("GET", "/groups/both", admin, 404, nil)
}
