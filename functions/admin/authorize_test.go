package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/token"
)

// permitted is what the matrix says of an endpoint and a role at the account.
func permitted(e endpoint, role core.RoleID) bool {
	switch e.need.in {
	case ofOneself:
		return true
	case ofSignedIn:
		return false // the callers here are applications, and only people have access keys
	case byOperator, byAdministrator:
		return role == policy.SystemAdministrator
	}
	return policy.Permits(role, e.need.entity, e.need.action)
}

// Every endpoint, with each of the system roles held at the account, does what the matrix says, and for nobody else.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	callers := map[core.TenantID]map[core.RoleID]directory.Application{acme: {}, core.SystemTenant: {}}
	for tenant, by := range callers {
		for _, role := range policy.Roles() {
			by[role.ID] = w.caller(tenant, role.ID, core.AccountScope(tenant))
		}
	}
	all := samples()
	for _, e := range endpoints() {
		if e.path == "/me/password" {
			continue // for people alone: see TestPasswordOfOnesOwn
		}
		tenant := tenantOf(e)
		for _, role := range policy.Roles() {
			s := all[e.method+" "+e.path](w, role.ID)
			want := http.StatusForbidden
			if permitted(e, role.ID) {
				want = s.status
			}
			rec := w.call(request{method: e.method, path: "/api/v1" + s.path(e), tenant: tenant,
				bearer: w.appToken(tenant, callers[tenant][role.ID]), body: s.body})
			if rec.Code != want {
				t.Errorf("%s %s as %s: status %d, want %d: %s", e.method, e.path, role.Name, rec.Code, want, rec.Body)
			}
			if want == http.StatusForbidden && !strings.Contains(rec.failure(t).Message, "needs") {
				t.Errorf("%s %s as %s: no reason: %s", e.method, e.path, role.Name, rec.Body)
			}
		}
	}
}

// Without a good access token of the tenant, every endpoint answers 401 and does nothing, and the wording does not depend
// on the cause.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	gone, disabled := w.app(acme), w.app(acme)
	w.user(acme, "ada@acme.test")
	w.must(w.Directory.DeleteApplication(t.Context(), core.SystemActor(acme), acme, gone.ID))
	_, err := w.Directory.SetEnabled(t.Context(), core.SystemActor(acme), acme, disabled.ID, false)
	w.must(err)
	admin := w.admins[acme]
	as := w.signIn(acme, admin)
	good := w.adminToken(acme)
	forCluster, err := token.Mint(t.Context(), w.Ring, acme, keys.ES256, token.Cluster{
		Issuer: base + "/t/acme", Subject: string(admin.ID), Audience: string(cluster.Cluster), IssuedAt: w.Now(),
		Expires: w.Now().Add(5 * time.Minute), PreferredUsername: string(admin.Email), Email: string(admin.Email),
	})
	w.must(err)
	id, err := token.Mint(t.Context(), w.Ring, acme, keys.ES256, token.ID{
		Issuer: base + "/t/acme", Subject: string(admin.ID), Audience: base + "/t/acme", IssuedAt: w.Now(), AuthTime: w.Now(),
		Expires: w.Now().Add(5 * time.Minute), Email: string(admin.Email), AccessHash: token.Hash(good),
	})
	w.must(err)
	cookie := http.Header{"Cookie": {"__Host-fleetpass-acme=" + good}}
	bearers := []struct {
		what, bearer string
		header       http.Header
	}{
		{"no token", "", nil},
		{"garbage", "garbage", nil},
		{"cut off", good[:len(good)-4], nil},
		{"expired", w.mint(acme, func(a *token.Access) {
			as(a)
			a.IssuedAt, a.Expires = a.IssuedAt.Add(-time.Hour), a.IssuedAt.Add(-time.Second)
		}), nil},
		{"another tenant's", w.adminToken(globex), nil},
		{"the operators'", w.adminToken(core.SystemTenant), nil},
		{"a cluster's", forCluster, nil},
		{"an ID token", id, nil},
		{"for another audience", w.mint(acme, func(a *token.Access) { as(a); a.Audience = base + "/t/globex" }), nil},
		{"somebody else's id", w.mint(acme, func(a *token.Access) { as(a); a.Subject = string(w.admins[globex].ID) }), nil},
		{"nobody's e-mail", w.mint(acme, func(a *token.Access) { as(a); a.Email = "nobody@acme.test" }), nil},
		{"an application that is gone", w.appToken(acme, gone), nil},
		{"an application that is disabled", w.appToken(acme, disabled), nil},
		{"without a sign-in", w.mint(acme, func(a *token.Access) { as(a); a.Family = "" }), nil},
		{"somebody else's sign-in", w.mint(acme, func(a *token.Access) { as(a); a.Email = "ada@acme.test" }), nil},
		{"a sign-in that is over", w.mint(acme, func(a *token.Access) { as(a); a.Family = core.NewID() }), nil},
		{"a cookie", "", cookie},
		{"in the query", "?access_token=" + good, nil},
		{"headers that name somebody (WEB-019)", "", http.Header{"X-User": {string(admin.Email)}, "X-Forwarded-User": {string(admin.Email)}, "X-Remote-User": {string(admin.Email)}, "X-Auth-Request-Email": {string(admin.Email)}}},
		{"two tokens", "", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}},
		{"basic", "", http.Header{"Authorization": {"Basic " + good}}},
	}
	w.as(good, "GET", "/me", "").want(t, 200)
	all, message := samples(), ""
	for _, e := range endpoints() {
		s := all[e.method+" "+e.path](w, policy.Viewer)
		before := w.dump()
		for _, b := range bearers {
			q := request{method: e.method, path: "/api/v1" + s.path(e), tenant: acme, bearer: b.bearer, body: s.body, header: b.header}
			if rest, ok := strings.CutPrefix(b.bearer, "?"); ok {
				q.bearer, q.path = "", q.path+"?"+rest
			}
			rec := w.call(q)
			if rec.Code != http.StatusUnauthorized || !strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s with %s: status %d: %s", e.method, e.path, b.what, rec.Code, rec.Body)
				continue
			}
			if f := rec.failure(t); message == "" {
				message = f.Message
			} else if f.Message != message {
				t.Errorf("%s %s with %s: says %q", e.method, e.path, b.what, f.Message)
			}
		}
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("%s %s: changed %v", e.method, e.path, diff)
		}
	}
}

// What takes a caller's rights away holds for the very next request, although the token lives on.
func TestTakenAway(t *testing.T) {
	for _, tt := range []struct {
		what string
		do   func(w *world, u directory.User) error
	}{
		{"disabled", func(w *world, u directory.User) error {
			_, err := w.Directory.Disable(w.Context(), core.SystemActor(acme), acme, u.Email)
			return err
		}},
		{"deleted", func(w *world, u directory.User) error {
			return w.Directory.DeleteUser(w.Context(), core.SystemActor(acme), acme, u.Email)
		}},
		{"signed out", func(w *world, u directory.User) error {
			_, err := w.Directory.ForceLogout(w.Context(), core.SystemActor(acme), acme, u.Email)
			return err
		}},
		{"password reset", func(w *world, u directory.User) error {
			_, err := w.Directory.ResetPassword(w.Context(), core.SystemActor(acme), acme, u.Email)
			return err
		}},
		{"tenant suspended", func(w *world, u directory.User) error {
			return w.Org.Suspend(w.Context(), core.SystemActor(core.SystemTenant), acme)
		}},
	} {
		w := newWorld(t)
		u := w.user(acme, "ada@acme.test")
		bearer := w.userToken(acme, u)
		w.as(bearer, "GET", "/me", "").want(t, 200)
		w.must(tt.do(w, u))
		if rec := w.as(bearer, "GET", "/me", ""); rec.Code != 401 && rec.Code != 404 {
			t.Errorf("%s: status %d: %s", tt.what, rec.Code, rec.Body)
		}
	}
}

// Another tenant's objects, and objects in scopes that the caller sees nothing of, look exactly as if they were not there.
func TestForeignLooksAbsent(t *testing.T) {
	w := newWorld(t)
	mine, other := w.project(acme), w.project(acme)
	foreign := w.project(globex)
	bearer := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, mine.Parent))
	hidden := w.grant(acme, core.GroupSubject("g"), policy.Viewer, other.ID)
	seen := w.grant(acme, core.GroupSubject("g"), policy.Viewer, mine.ID)

	w.as(bearer, "GET", "/org-unit/projects/"+string(mine.ID), "").want(t, 200)
	body := func(method, path string) string {
		f := w.as(bearer, method, path, "").want(t, 404).failure(t)
		return fmt.Sprint(f.Message, f.Details.Kind, f.Details.Field)
	}
	const projects = "/org-unit/projects/"
	for _, method := range []string{"GET", "DELETE"} {
		absent := body(method, projects+string(foreign.ID[:40])+"zzzz")
		if got := body(method, projects+string(foreign.ID)); got != absent {
			t.Errorf("%s foreign: %q, absent: %q", method, got, absent)
		}
		if got := body(method, projects+string(other.ID)); got != absent {
			t.Errorf("%s unseen: %q, absent: %q", method, got, absent)
		}
	}
	// Who may see no project at all gets one denial, whether there is such a project or not.
	blind := w.appToken(acme, w.caller(acme, policy.CloudOperator, core.AccountScope(acme)))
	for _, id := range []core.ScopeID{mine.ID, foreign.ID, "absent"} {
		f := w.as(blind, "GET", projects+string(id), "").want(t, 403).failure(t)
		if f.Message != "needs view on project, which you hold nowhere: denied" {
			t.Errorf("project %s: %q", id, f.Message)
		}
	}
	w.as(bearer, "GET", "/authorization/access-rules/"+itoa(seen.ID), "").want(t, 200)
	absent := strings.Replace(body("GET", "/authorization/access-rules/999999"), "999999", "N", 1)
	if got := strings.Replace(body("GET", "/authorization/access-rules/"+itoa(hidden.ID)), itoa(hidden.ID), "N", 1); got != absent {
		t.Errorf("unseen rule: %q, absent: %q", got, absent)
	}
	// A tenant that there is not, one that is erased, and one whose token this is not.
	for _, tenant := range []core.TenantID{"nosuch", globex} {
		w.call(request{method: "GET", path: "/api/v1/me", tenant: tenant, bearer: bearer}).want(t, 401)
	}
}

// Lists hold what the caller may view and nothing else.
func TestListsShowWhatMayBeViewed(t *testing.T) {
	w := newWorld(t)
	mine, sibling, other := w.project(acme), w.project(acme), w.project(acme)
	w.project(globex)
	bearer := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, mine.Parent))
	for _, sc := range []core.ScopeID{mine.ID, sibling.ID, other.ID, core.AccountScope(acme)} {
		w.grant(acme, core.GroupSubject("g"), policy.Viewer, sc)
	}
	for _, tt := range []struct {
		path        string
		mine, admin string
	}{
		{"/org-unit/projects", "1", "3"},
		{"/org-unit/departments", "1", "3"},
		{"/authorization/access-rules", "2", "6"},
		{"/authorization/access-rules?subjectType=group", "1", "4"},
		{"/authorization/access-rules?subjectIds=g", "1", "4"},
		{"/authorization/access-rules?subjectIds=g,nobody&limit=4", "1", "4"},
		{"/authorization/access-rules?subjectIds=ADMIN@acme.test", "0", "1"},
		{"/authorization/access-rules?clusterId=" + string(other.Cluster), "0", "1"},
		{"/authorization/access-rules?scopeId=" + string(mine.ID), "1", "1"},
		{"/org-unit/projects?clusterId=" + string(mine.Cluster), "1", "1"},
		{"/org-unit/projects?clusterId=" + string(other.Cluster), "0", "1"},
	} {
		if got := w.as(bearer, "GET", tt.path, "").want(t, 200).Header().Get("X-Total-Count"); got != tt.mine {
			t.Errorf("%s: department administrator sees %s, want %s", tt.path, got, tt.mine)
		}
		if got := w.as(w.adminToken(acme), "GET", tt.path, "").want(t, 200).Header().Get("X-Total-Count"); got != tt.admin {
			t.Errorf("%s: administrator sees %s, want %s", tt.path, got, tt.admin)
		}
	}
	// A cluster lies above the department: the department's administrator does not see it.
	w.as(bearer, "GET", "/clusters", "").want(t, 200)
}
