package admin

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/policy"
)

// key is the kid of the key of an algorithm that signs for a tenant; it is made if there is none.
func (w *world) key(t core.TenantID, alg keys.Algorithm) string {
	w.Helper()
	w.must(w.Ring.Ensure(w.Context(), t, alg))
	k, err := w.Ring.Signer(w.Context(), t, alg)
	w.must(err)
	return k.ID
}

// What is set is what is read and what holds; a PUT replaces all of it, or nothing.
func TestSettings(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	const path = "/tenant/settings"
	was := api.Settings{IdleTimeout: 3600, AbsoluteLifetime: 43200, AccessTokenLife: 600, ClusterTokenLife: 300}
	if got := post[api.Settings](w, admin, "GET", path, nil, 200); got != was {
		t.Errorf("at first %+v, want %+v", got, was)
	}
	want := api.Settings{IdleTimeout: 900, AbsoluteLifetime: 7200, AccessTokenLife: 120, ClusterTokenLife: 60, PasswordGrant: true}
	if got := post[api.Settings](w, admin, "PUT", path, want, 200); got != want {
		t.Errorf("answered %+v, want %+v", got, want)
	}
	if got := post[api.Settings](w, admin, "GET", path, nil, 200); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	meta, err := w.Org.Tenant(t.Context(), acme)
	w.must(err)
	if s := meta.Value.Settings; !s.PasswordGrant || s.ClusterTokenLife != time.Minute {
		t.Errorf("kept %+v", s)
	}
	for field, spoil := range map[string]func(*api.Settings){
		"idleTimeout":      func(s *api.Settings) { s.IdleTimeout = 59 },
		"absoluteLifetime": func(s *api.Settings) { s.AbsoluteLifetime = 299 },
		"accessTokenLife":  func(s *api.Settings) { s.AccessTokenLife = -120 },
		"clusterTokenLife": func(s *api.Settings) { s.ClusterTokenLife = 1<<61 + 60 }, // a minute, in 64 bits of nanoseconds
	} {
		bad := want
		spoil(&bad)
		rec := w.as(admin, "PUT", path, encode(t, bad)).want(t, 400)
		if f := rec.failure(t); f.Details.Field != field {
			t.Errorf("%s: refused as %+v", field, f)
		}
	}
	if got := post[api.Settings](w, admin, "GET", path, nil, 200); got != want {
		t.Errorf("after what was refused %+v, want %+v", got, want)
	}
	if got := w.call(request{method: "GET", path: "/api/v1" + path, tenant: globex, bearer: w.adminToken(globex)}); into[api.Settings](t, got.want(t, 200)) != was {
		t.Errorf("another tenant's: %s", got.Body)
	}
}

// A key that leaked is revoked by an administrator: what it signed opens nothing, what another signs does, and the log says
// who did it, in the same commit.
func TestRevokeKey(t *testing.T) {
	w := newWorld(t)
	leaked := w.key(acme, keys.ES256)
	stolen := w.adminToken(acme)
	list := func(bearer string) map[string]api.Key {
		all := map[string]api.Key{}
		for _, k := range post[[]api.Key](w, bearer, "GET", "/keys", nil, 200) {
			all[k.ID] = k
		}
		return all
	}
	if k := list(stolen)[leaked]; !k.Signs || k.Algorithm != "ES256" || k.PublishedAt.IsZero() || !k.RevokedAt.IsZero() {
		t.Fatalf("before: %+v", k)
	}
	// Who may change settings may not do this.
	operator := w.appToken(acme, w.caller(acme, policy.CloudOperator, core.AccountScope(acme)))
	w.as(operator, "POST", "/keys/"+leaked+"/revoke", "").want(t, 403)
	w.as(stolen, "GET", "/me", "").want(t, 200)

	w.as(stolen, "POST", "/keys/"+leaked+"/revoke", "").want(t, 204)
	w.as(stolen, "GET", "/me", "").want(t, 401)
	clear(w.tokens)
	fresh := w.adminToken(acme)
	all := list(fresh)
	if k := all[leaked]; k.Signs || k.RevokedAt.IsZero() {
		t.Errorf("revoked: %+v", k)
	}
	if k := all[w.key(acme, keys.ES256)]; !k.Signs || !k.RevokedAt.IsZero() {
		t.Errorf("its successor: %+v", k)
	}
	w.as(fresh, "POST", "/keys/"+leaked+"/revoke", "").want(t, 204) // done already: not done, nor told, twice
	var told []api.AuditRecord
	for _, r := range post[api.AuditLog](w, fresh, "GET", "/audit/log?limit=500", nil, 200).Records {
		if r.EntityType == audit.EntityKey && r.Result != "Failed" {
			told = append(told, r)
		}
	}
	if len(told) != 1 || told[0].EntityID != leaked || told[0].Subject != string(w.admins[acme].Email) || told[0].Action != "delete" || told[0].Result != "Succeeded" || told[0].Request == "" {
		t.Errorf("the log says %+v", told)
	}
	w.as(fresh, "POST", "/keys/"+w.key(globex, keys.ES256)+"/revoke", "").want(t, 404)
}

// The log is read page by page, the newest first, each record once, although many are of one millisecond, some are sealed
// between two pages, and new ones come.
func TestAuditLog(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	act := func(n int) {
		for range n {
			w.group(acme) // all at one time
		}
	}
	act(7)
	w.pass(time.Second)
	act(5)
	whole := post[api.AuditLog](w, admin, "GET", "/audit/log?limit=500", nil, 200)
	if whole.Next != "" || len(whole.Records) < 12 {
		t.Fatalf("the whole: %d records, next %q", len(whole.Records), whole.Next)
	}
	for i := 1; i < len(whole.Records); i++ {
		if whole.Records[i-1].Timestamp.Before(whole.Records[i].Timestamp) {
			t.Fatalf("record %d is newer than the one before", i)
		}
	}
	for limit := 1; limit <= 4; limit++ {
		var paged []api.AuditRecord
		for next, n := "", 0; ; n++ {
			path := "/audit/log?limit=" + itoa(core.RoleID(limit))
			if next != "" {
				path += "&cursor=" + next
			}
			part := post[api.AuditLog](w, admin, "GET", path, nil, 200)
			if len(part.Records) > limit {
				t.Fatalf("a page of %d records, asked for %d", len(part.Records), limit)
			}
			paged = append(paged, part.Records...)
			if n == 1 {
				_, _, err := audit.Seal(t.Context(), w.DB, acme, w.Now())
				w.must(err)
			}
			if next = part.Next; next == "" {
				break
			}
			if n > len(whole.Records) {
				t.Fatal("the pages do not end")
			}
		}
		if diff := cmp.Diff(whole.Records, paged); diff != "" {
			t.Errorf("pages of %d (-whole +paged):\n%s", limit, diff)
		}
	}
	first := post[api.AuditLog](w, admin, "GET", "/audit/log?limit=3", nil, 200)
	w.pass(time.Second)
	act(2)
	second := post[api.AuditLog](w, admin, "GET", "/audit/log?limit=3&cursor="+first.Next, nil, 200)
	if diff := cmp.Diff(whole.Records[3:6], second.Records); diff != "" {
		t.Errorf("the second page, after new acts (-want +got):\n%s", diff)
	}
	rec := w.call(request{method: "GET", path: "/api/v1/audit/log?limit=500", tenant: globex, bearer: w.adminToken(globex)})
	for _, r := range into[api.AuditLog](t, rec.want(t, 200)).Records {
		if r.EntityType == audit.EntityGroup {
			t.Errorf("another tenant sees %+v", r)
		}
	}
}

// A profile is changed member by member; the state of an account and its profile are changes apart.
func TestPatch(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	u := w.user(acme, "ada@acme.test")
	path := "/users/" + string(u.ID)
	patch := func(body string) api.User {
		t.Helper()
		return into[api.User](t, w.as(admin, "PATCH", path, body).want(t, 200))
	}
	got := patch(`{"firstName":"Ada","lastName":"Lovelace","uid":1001,"gid":1002,"supplementaryGroups":[2001,2002]}`)
	if got.FirstName != "Ada" || got.LastName != "Lovelace" || *got.UID != 1001 || *got.GID != 1002 || len(got.GIDs) != 2 {
		t.Errorf("patched: %+v", got)
	}
	got = patch(`{"lastName":"","uid":0,"supplementaryGroups":[]}`)
	if got.FirstName != "Ada" || got.LastName != "" || got.UID != nil || got.GID == nil || len(got.GIDs) != 0 {
		t.Errorf("taken away: %+v", got)
	}
	if got := patch(`{"enabled":false}`); got.Enabled || got.FirstName != "Ada" {
		t.Errorf("disabled: %+v", got)
	}
	for _, body := range []string{`{"enabled":true,"firstName":"X"}`, `{"uid":-1}`, `{"gid":2147483648}`, `{"supplementaryGroups":[0]}`, `{"firstName":null}`} {
		w.as(admin, "PATCH", path, body).want(t, 400)
	}
	// Who edits users, but holds less, does not say who an administrator is.
	boss := w.user(acme, "boss@acme.test")
	w.grant(acme, core.UserSubject(boss.Email), policy.SystemAdministrator, core.AccountScope(acme))
	w.as(admin, "PATCH", "/users/"+string(boss.ID), `{"uid":7}`).want(t, 200)
	for _, role := range policy.Roles() {
		if role.ID == policy.SystemAdministrator || !policy.Permits(role.ID, policy.Users, policy.Edit) {
			continue
		}
		w.as(w.appToken(acme, w.caller(acme, role.ID, core.AccountScope(acme))), "PATCH", "/users/"+string(boss.ID), `{"uid":7}`).want(t, 403)
	}

	app := w.app(acme)
	at := "/service-accounts/" + string(app.ID)
	wired := into[api.Application](t, w.as(admin, "PATCH", at, `{"redirectUris":["https://app.test/cb"],"postLogoutRedirectUris":["https://app.test/bye"]}`).want(t, 200))
	if len(wired.RedirectURIs) != 1 || len(wired.PostLogoutURIs) != 1 {
		t.Errorf("redirects: %+v", wired)
	}
	wired = into[api.Application](t, w.as(admin, "PATCH", at, `{"redirectUris":[]}`).want(t, 200))
	if len(wired.RedirectURIs) != 0 || len(wired.PostLogoutURIs) != 1 {
		t.Errorf("redirects taken away: %+v", wired)
	}
	for _, body := range []string{`{"redirectUris":["http://evil.test/"]}`, `{"redirectUris":["https://a.test/#x"]}`, `{"enabled":true,"redirectUris":[]}`, `{}`} {
		w.as(admin, "PATCH", at, body).want(t, 400)
	}
	// Where an administrator's application sends people, only an administrator says.
	strong := w.caller(acme, policy.SystemAdministrator, core.AccountScope(acme))
	operator := w.appToken(acme, w.caller(acme, policy.CloudOperator, core.AccountScope(acme)))
	w.as(operator, "PATCH", "/apps/"+string(strong.ID), `{"redirectUris":["https://evil.test/"]}`).want(t, 403)
	w.as(operator, "PATCH", at, `{"redirectUris":["https://app.test/cb"]}`).want(t, 200)
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
