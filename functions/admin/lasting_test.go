package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// until seeds a rule that ends after a while.
func (w *world) until(t core.TenantID, who core.Subject, role core.RoleID, scope core.ScopeID, after time.Duration) {
	w.Helper()
	_, err := w.Access.Seed(w.Context(), t, access.NewRule{Subject: who, Role: role, Scope: scope, ExpiresAt: w.Now().Add(after)})
	w.must(err)
}

// Who is administrator for an hour may act for those whose rights end by then, and take rights away from anybody, but comes
// by nothing that lasts longer: no password, secret or membership, no cluster under another name, no way into a tenant.
func TestTemporaryAdministratorStaysTemporary(t *testing.T) {
	w := newWorld(t)
	account := core.AccountScope(acme)
	temp := w.app(acme)
	w.until(acme, core.ApplicationSubject(temp.ID), policy.SystemAdministrator, account, time.Hour)
	bearer := w.appToken(acme, temp)
	ada := w.user(acme, "ada@acme.test")
	for _, row := range []struct {
		what     string
		lasts    time.Duration // of the target's rule; 0: for ever
		giving   int
		removing int
	}{
		{"for ever", 0, 403, 200},
		{"for longer", time.Hour + time.Second, 403, 200},
		{"for as long", time.Hour, 200, 200},
		{"for less", time.Minute, 200, 200},
	} {
		group := w.group(acme)
		boss, robot := w.user(acme, w.name("boss")+"@acme.test"), w.app(acme)
		next := core.UserSubject(core.Email(w.name("next") + "@acme.test")) // a rule may come before its person
		for _, who := range []core.Subject{core.GroupSubject(group), core.UserSubject(boss.Email), core.ApplicationSubject(robot.ID), next} {
			if row.lasts == 0 {
				w.grant(acme, who, policy.SystemAdministrator, account)
			} else {
				w.until(acme, who, policy.SystemAdministrator, account, row.lasts)
			}
		}
		user, app := "/users/"+string(boss.ID), "/service-accounts/"+string(robot.ID)
		for _, q := range []struct {
			method, path, body string
			want, good         int
		}{
			{"PUT", "/groups/" + string(group) + "/members/" + string(ada.Email), "", row.giving, 204},
			{"POST", "/users", `{"email":"` + next.ID + `"}`, row.giving, 201},
			{"POST", user + "/password", "", row.giving, 200},
			{"POST", app + "/secret", "", row.giving, 200},
			{"PATCH", user, `{"enabled":false}`, row.removing, 200},
			{"PATCH", app, `{"enabled":false}`, row.removing, 200},
			{"PATCH", user, `{"enabled":true}`, row.giving, 200},
			{"PATCH", app, `{"enabled":true}`, row.giving, 200},
			{"DELETE", user, "", row.removing, 204},
			{"DELETE", app, "", row.removing, 204},
		} {
			if q.want == 200 {
				q.want = q.good
			}
			if rec := w.as(bearer, q.method, w.escape(q.path), q.body); rec.Code != q.want {
				t.Errorf("%s: %s %s: status %d, want %d: %s", row.what, q.method, q.path, rec.Code, q.want, rec.Body)
			}
		}
	}
	cluster := w.cluster(acme)
	repoint := `{"name":"` + cluster.Name + `","server":"https://elsewhere.test"}`
	w.as(bearer, "PUT", "/clusters/"+string(cluster.Cluster), repoint).want(t, 403)
	w.as(w.adminToken(acme), "PUT", "/clusters/"+string(cluster.Cluster), repoint).want(t, 200)

	guest := w.app(core.SystemTenant)
	w.until(core.SystemTenant, core.ApplicationSubject(guest.ID), policy.SystemAdministrator, core.AccountScope(core.SystemTenant), time.Hour)
	as := func(bearer, method, path string) response {
		return w.call(request{method: method, tenant: core.SystemTenant, path: "/api/v1/tenants/acme" + path, bearer: bearer})
	}
	as(w.appToken(core.SystemTenant, guest), "GET", "").want(t, 200)
	as(w.appToken(core.SystemTenant, guest), "POST", "/welcome-link").want(t, 403)
	as(w.adminToken(core.SystemTenant), "POST", "/welcome-link").want(t, 200)
}

// A move brings a project under the rules of its new parent, and takes it away from those of the old one. It needs what
// granting the former and deleting it would.
func TestMoveIsNoWayUp(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	from, to := w.departmentIn(acme, cluster), w.departmentIn(acme, cluster)
	project := w.projectIn(acme, from)
	path := "/org-unit/projects/" + string(project.ID)
	move := func(who directory.Application, to org.Scope) response {
		return w.as(w.appToken(acme, who), "PUT", path, `{"name":"`+project.Name+`","parentId":"`+string(to.ID)+`"}`)
	}
	give := func(role core.RoleID, scope core.ScopeID, more ...core.ScopeID) directory.Application {
		a := w.caller(acme, role, scope)
		for _, sc := range more {
			w.grant(acme, core.ApplicationSubject(a.ID), role, sc)
		}
		return a
	}
	// Edit here and everything there: but not the right to take it away.
	thief := give(policy.DepartmentAdministrator, to.ID)
	w.grant(acme, core.ApplicationSubject(thief.ID), policy.ResearchManager, project.ID)
	move(thief, to).want(t, 403)

	// Everything at both ends, for an hour only on this side: what is moved would be kept.
	guest := give(policy.DepartmentAdministrator, to.ID)
	w.until(acme, core.ApplicationSubject(guest.ID), policy.DepartmentAdministrator, from.ID, time.Hour)
	move(guest, to).want(t, 403)

	// Somebody else holds more there than the mover does here.
	both := give(policy.DepartmentAdministrator, from.ID, to.ID)
	rule := w.grant(acme, core.GroupSubject("others"), policy.Editor, to.ID)
	move(both, to).want(t, 403)
	if got := post[api.Project](w, w.adminToken(acme), "GET", path, nil, 200); got.ParentID != from.ID {
		t.Fatalf("refused, and moved: %+v", got)
	}
	w.must(w.Access.Delete(t.Context(), core.Actor{Tenant: acme, Subject: core.UserSubject(w.admins[acme].Email)}, rule.ID))
	move(both, to).want(t, 200) // the twin
	w.until(acme, core.GroupSubject("others"), policy.Editor, from.ID, time.Hour)
	move(both, from).want(t, 403)
	w.pass(time.Hour) // what is over gives nobody anything
	move(both, from).want(t, 200)
}

// failing is a DB whose commits fail while it is said so.
type failing struct {
	store.DB
	fail func(ops []store.Op) error
}

func (f *failing) Commit(ctx context.Context, ops ...store.Op) error {
	if f.fail != nil {
		if err := f.fail(ops); err != nil {
			return err
		}
	}
	return f.DB.Commit(ctx, ops...)
}

// A cluster that wants RS256 is not made unless there is a key to sign for it; and one that is there without gets it when it
// is saved again.
func TestClusterWaitsForItsKey(t *testing.T) {
	w := newWorld(t)
	db := &failing{DB: w.DB}
	w.Ring.DB = db
	body := `{"name":"eks","server":"https://eks.test","algorithm":"RS256"}`
	bearer := w.adminToken(acme)
	db.fail = func([]store.Op) error { return fmt.Errorf("no key today: %w", core.Unavailable) }
	before := w.dump()
	w.as(bearer, "POST", "/clusters", body).want(t, 503)
	if diff := changed(before, w.dump()); len(diff) > 0 {
		t.Errorf("without a key: changed %v", diff)
	}
	db.fail = nil
	w.as(w.adminToken(acme), "POST", "/clusters", `{"name":"","server":"https://eks.test","algorithm":"ES256"}`).want(t, 400)
	sc, err := w.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, "eks", org.Reach{Server: "https://eks.test", Algorithm: "RS256"})
	w.must(err)
	if _, err := w.Ring.Signer(t.Context(), acme, keys.RS256); !errors.Is(err, core.Unavailable) {
		t.Errorf("a cluster without a key: %v, want %v", err, core.Unavailable)
	}
	w.as(w.adminToken(acme), "PUT", "/clusters/"+string(sc.Cluster), body).want(t, 200)
	if _, err := w.Ring.Signer(t.Context(), acme, keys.RS256); err != nil {
		t.Errorf("saved again: %v", err)
	}
}

// escape is a path whose names may hold spaces.
func (w *world) escape(path string) string { return strings.ReplaceAll(path, " ", "%20") }
