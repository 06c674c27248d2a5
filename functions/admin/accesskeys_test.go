package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// keyToken is a token as an access key gets it.
func (w *world) keyToken(t core.TenantID, k directory.AccessKey) string {
	w.Helper()
	return w.mint(t, func(a *token.Access) {
		a.Subject, a.Email, a.Client, a.Family = string(k.Owner), string(k.Email), string(k.ID), k.Family()
	})
}

// A person makes, sees, changes and deletes keys of their own, under both nouns, and the secret is shown when it is made and
// never again.
func TestAccessKeys(t *testing.T) {
	w := newWorld(t)
	eve, mia := w.user(acme, "eve@acme.test"), w.user(acme, "mia@acme.test")
	as := w.userToken(acme, eve)
	for _, noun := range accessKeyPaths {
		name := w.name("laptop")
		made := into[api.AccessKey](t, w.as(as, "POST", noun, `{"name":"`+name+`"}`).want(t, 201))
		if made.Name != name || made.ClientSecret == "" || made.ClientID != made.ID || !made.Enabled || made.Owner != eve.Email ||
			!made.ExpiresAt.Equal(w.Now().Add(90*24*time.Hour)) || !made.LastUsed.IsZero() {
			t.Errorf("made %+v", made)
		}
		path := noun + "/" + string(made.ID)
		shown := made
		shown.ClientSecret = ""
		if got := into[api.AccessKey](t, w.as(as, "GET", path, "").want(t, 200)); got != shown {
			t.Errorf("got %+v, want %+v", got, shown)
		}
		if list := into[[]api.AccessKey](t, w.as(as, "GET", noun, "").want(t, 200)); !slices.Contains(list, shown) {
			t.Errorf("listed %+v", list)
		}
		if got := into[api.AccessKey](t, w.as(as, "PATCH", path, `{"enabled":false}`).want(t, 200)); got.Enabled {
			t.Errorf("disabled: %+v", got)
		}
		rotated := into[api.AccessKey](t, w.as(as, "POST", path+"/secret", `{"gracePeriod":60}`).want(t, 200))
		again := into[api.AccessKey](t, w.as(as, "POST", path+"/secret", "").want(t, 200))
		if rotated.ClientSecret == "" || rotated.ClientSecret == made.ClientSecret || again.ClientSecret == rotated.ClientSecret {
			t.Error("another secret is the same one")
		}
		w.as(as, "POST", path+"/secret", `{"gracePeriod":2592001}`).want(t, 400)
		w.as(as, "PATCH", path, `{}`).want(t, 400)
		w.as(as, "POST", noun, `{"name":"`+name+`"}`).want(t, 409)

		// Somebody else's is not there, for an administrator either: it is not theirs.
		for _, other := range []string{w.userToken(acme, mia), w.adminToken(acme)} {
			absent := w.as(other, "GET", noun+"/ak-nothing", "").want(t, 404).failure(t)
			for _, call := range [][3]string{{"GET", path, ""}, {"PATCH", path, `{"enabled":true}`}, {"POST", path + "/secret", ""}, {"DELETE", path, ""}} {
				if got := w.as(other, call[0], call[1], call[2]).want(t, 404).failure(t); got.Message != absent.Message {
					t.Errorf("somebody else's answers %q, and none %q", got.Message, absent.Message)
				}
			}
			if list := into[[]api.AccessKey](t, w.as(other, "GET", noun, "").want(t, 200)); len(list) != 0 {
				t.Errorf("somebody else lists %+v", list)
			}
		}
		w.as(as, "DELETE", path, "").want(t, 204)
		w.as(as, "GET", path, "").want(t, 404)
	}
	for body, field := range map[string]string{
		`{"name":"a","expiresIn":3600}`: "name", `{"name":"laptop","expiresIn":59}`: "expiresIn", `{"name":"laptop","expiresIn":31622401}`: "expiresIn",
		`{"name":"laptop","expiresIn":-1}`: "expiresIn", `{"name":"laptop","owner":"mia@acme.test"}`: "/owner", `{"name":"laptop","clientSecret":"x"}`: "/clientSecret",
	} {
		if got := w.as(as, "POST", "/access-keys", body).want(t, 400).failure(t); got.Details.Field != field {
			t.Errorf("%s: %+v, want the field %s", body, got, field)
		}
	}
	// An application has none.
	app := w.appToken(acme, w.caller(acme, policy.SystemAdministrator, core.AccountScope(acme)))
	if got := w.as(app, "POST", "/access-keys", `{"name":"laptop"}`).want(t, 403).failure(t); !strings.Contains(got.Message, "needs a person") {
		t.Errorf("an application: %q", got.Message)
	}
}

// What an access key opens is what its owner may do, but for what would let whoever came by it stay: keys, and passwords.
func TestAccessKeyMakesNoAccess(t *testing.T) {
	w := newWorld(t)
	boss := w.admins[acme]
	eve := w.user(acme, "eve@acme.test")
	k, _ := w.accessKey(acme, boss)
	spare, _ := w.accessKey(acme, boss)
	theirs, _ := w.accessKey(acme, eve)
	by, signedIn := w.keyToken(acme, k), w.userToken(acme, boss)
	plain := w.keyToken(acme, theirs)

	// The owner's rights, and no others.
	if me := into[api.Me](t, w.as(by, "GET", "/me", "").want(t, 200)); me.ID != string(boss.ID) || me.Username != string(boss.Email) {
		t.Errorf("the key is %+v", me)
	}
	w.as(by, "POST", "/users", `{"email":"new@acme.test"}`).want(t, 201)
	w.as(plain, "POST", "/users", `{"email":"newer@acme.test"}`).want(t, 403)

	own := "/access-keys/" + string(spare.ID)
	before := w.dump()
	for _, call := range [][3]string{
		{"POST", "/access-keys", `{"name":"another"}`},
		{"POST", "/user-applications", `{"name":"another"}`},
		{"GET", "/access-keys", ""},
		{"GET", own, ""},
		{"PATCH", own, `{"enabled":false}`},
		{"PATCH", "/access-keys/" + string(k.ID), `{"enabled":true}`},
		{"POST", own + "/secret", ""},
		{"POST", "/access-keys/" + string(k.ID) + "/secret", ""},
		{"DELETE", own, ""},
		{"DELETE", allAccessKeys + "/" + string(theirs.ID), ""},
		{"POST", "/me/password", `{"currentPassword":"correct horse battery","newPassword":"another horse battery"}`},
		{"POST", "/users/" + string(boss.ID) + "/password", ""},
		{"PUT", "/users/" + string(boss.ID) + "/idp", `{"alias":""}`},
	} {
		got := w.as(by, call[0], call[1], call[2]).want(t, 403).failure(t)
		if !strings.Contains(got.Message, "needs a person who is signed in") {
			t.Errorf("%s %s: %q does not name why", call[0], call[1], got.Message)
		}
	}
	if diff := changed(before, w.dump()); len(diff) > 0 {
		t.Errorf("what was refused changed %v", diff)
	}
	denied := 0
	var records store.Table[audit.Record]
	for rec, err := range records.List(t.Context(), w.DB, store.AuditsNew(acme)) {
		w.must(err)
		if r := rec.Value; r.Result == audit.Failed && r.EntityType == audit.EntityAccessKey && r.Subject == core.UserSubject(boss.Email) {
			denied++
		}
	}
	if denied != 8 { // those of the calls that would have changed a key
		t.Errorf("%d records of it, want 8", denied)
	}
	// The twin: the same person, signed in.
	w.as(signedIn, "POST", "/access-keys", `{"name":"another"}`).want(t, 201)
	w.as(signedIn, "POST", own+"/secret", "").want(t, 200)
	w.as(signedIn, "DELETE", own, "").want(t, 204)
	w.as(by, "POST", "/users/"+string(eve.ID)+"/password", "").want(t, 200) // somebody else's, as the owner may

	// Ended at the next call.
	w.as(by, "GET", "/me", "").want(t, 200)
	w.as(signedIn, "PATCH", "/access-keys/"+string(k.ID), `{"enabled":false}`).want(t, 200)
	w.as(by, "GET", "/me", "").want(t, 401)
	w.as(plain, "GET", "/me", "").want(t, 401) // whose owner was given a temporary password just now
}

// Administrators see everybody's keys, and take away those of people who hold no more than they do.
func TestAccessKeysOfOthers(t *testing.T) {
	w := newWorld(t)
	eve := w.user(acme, "eve@acme.test")
	mia := w.user(acme, "mia@acme.test")
	lower, _ := w.accessKey(acme, mia)
	high, _ := w.accessKey(acme, w.admins[acme])
	own, _ := w.accessKey(acme, eve)
	foreign, _ := w.accessKey(globex, w.admins[globex])
	if _, err := w.Directory.EnableAccessKey(t.Context(), core.SystemActor(acme), acme, lower.ID, false); err != nil {
		t.Fatal(err)
	}
	admin := w.adminToken(acme)
	ids := func(query string) (got []core.ApplicationID) {
		t.Helper()
		r := w.as(admin, "GET", allAccessKeys+query, "").want(t, 200)
		if strings.Contains(r.Body.String(), "ecret") {
			t.Errorf("a list with secrets: %s", r.Body)
		}
		for _, k := range into[[]api.AccessKey](t, r) {
			got = append(got, k.ID)
		}
		slices.Sort(got)
		return got
	}
	sorted := func(ids ...core.ApplicationID) []core.ApplicationID { slices.Sort(ids); return ids }
	for query, want := range map[string][]core.ApplicationID{
		"":                                          sorted(lower.ID, high.ID, own.ID),
		"?filterBy=owner==mia@acme.test":            {lower.ID},
		"?filterBy=enabled==true":                   sorted(high.ID, own.ID),
		"?filterBy=enabled==false,owner=^mia":       {lower.ID},
		"?filterBy=name==" + own.Name:               {own.ID},
		"?filterBy=id==" + string(own.ID):           {own.ID},
		"?filterBy=owner==admin@globex.test":        nil,
		"?search=eve":                               {own.ID},
		"?filterBy=expiresAt<=2020-01-01T00:00:00Z": nil,
	} {
		if got := ids(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	var paged []core.ApplicationID
	for next := ""; ; {
		r := w.as(admin, "GET", allAccessKeys+"?limit=1"+next, "").want(t, 200)
		for _, k := range into[[]api.AccessKey](t, r) {
			paged = append(paged, k.ID)
		}
		if next = r.Header().Get(api.HeaderNext); next == "" {
			break
		}
		next = "&cursor=" + next
	}
	if want := sorted(lower.ID, high.ID, own.ID); !slices.Equal(paged, want) {
		t.Errorf("page by page %v, want %v", paged, want)
	}
	w.as(w.userToken(acme, eve), "GET", allAccessKeys, "").want(t, 403)

	// Somebody who may edit users, and holds less than the administrator. Any role that may will do.
	role := core.RoleID(0)
	for _, r := range policy.Roles() {
		if r.ID != policy.SystemAdministrator && policy.Permits(r.ID, policy.Users, policy.Edit) {
			role = r.ID
		}
	}
	if role != 0 {
		w.grant(acme, core.UserSubject(eve.Email), role, core.AccountScope(acme))
		w.as(w.userToken(acme, eve), "DELETE", allAccessKeys+"/"+string(high.ID), "").want(t, 403)
	}
	w.as(w.userToken(acme, mia), "DELETE", allAccessKeys+"/"+string(lower.ID), "").want(t, 403)
	absent := w.as(admin, "DELETE", allAccessKeys+"/ak-nothing", "").want(t, 404).failure(t)
	if got := w.as(admin, "DELETE", allAccessKeys+"/"+string(foreign.ID), "").want(t, 404).failure(t); got.Message != absent.Message { // TEN-017
		t.Errorf("another tenant's answers %q, and none %q", got.Message, absent.Message)
	}
	by := w.keyToken(acme, own)
	w.as(by, "GET", "/me", "").want(t, 200)
	w.as(admin, "DELETE", allAccessKeys+"/"+string(own.ID), "").want(t, 204)
	w.as(by, "GET", "/me", "").want(t, 401)
	w.as(admin, "DELETE", allAccessKeys+"/"+string(own.ID), "").want(t, 404)
	if list := into[[]api.AccessKey](t, w.as(w.userToken(acme, eve), "GET", "/access-keys", "").want(t, 200)); len(list) != 0 {
		t.Errorf("a key that was taken away is listed: %+v", list)
	}

	// A token of one tenant's key opens nothing at another, and its e-mail there is somebody else.
	w.user(globex, "mia@acme.test")
	w.call(request{method: "GET", path: "/api/v1/me", tenant: globex, bearer: w.keyToken(acme, high)}).want(t, 401)
	w.call(request{method: "GET", path: "/api/v1/me", tenant: globex, bearer: w.keyToken(globex, foreign)}).want(t, 200)
}

// 40 requests at once make 20 keys. One that is sent twice with one idempotency key makes one, and shows its secret again.
func TestAccessKeysAtOnce(t *testing.T) {
	w := newWorld(t)
	eve := w.user(acme, "eve@acme.test")
	as := w.userToken(acme, eve)
	var wg sync.WaitGroup
	status := make([]int, 40)
	for i := range status {
		wg.Go(func() {
			for status[i] == 0 || status[i] == http.StatusConflict { // a conflict asks to try again
				status[i] = w.as(as, "POST", "/access-keys", fmt.Sprintf(`{"name":"key-%d"}`, i)).Code
			}
		})
	}
	wg.Wait()
	counts := map[int]int{}
	for _, s := range status {
		counts[s]++
	}
	list := into[[]api.AccessKey](t, w.as(as, "GET", "/access-keys?limit=500", "").want(t, 200))
	if counts[201] != directory.MaxAccessKeys || counts[422] != 20 || len(list) != directory.MaxAccessKeys {
		t.Fatalf("answers %v, and %d keys", counts, len(list))
	}
	w.as(as, "DELETE", "/access-keys/"+string(list[0].ID), "").want(t, 204)
	once := request{method: "POST", path: "/api/v1/access-keys", tenant: acme, bearer: as, body: `{"name":"once"}`, header: http.Header{"Idempotency-Key": {"k1"}}}
	first := into[api.AccessKey](t, w.call(once).want(t, 201))
	if again := into[api.AccessKey](t, w.call(once).want(t, 201)); again != first {
		t.Errorf("sent twice: %+v, then %+v", first, again)
	}

	// A precondition holds, and the last use of a key is no news to whoever reads it later.
	path := "/access-keys/" + string(first.ID)
	tag := w.as(as, "GET", path, "").want(t, 200).Header().Get("ETag")
	patch := request{method: "PATCH", path: "/api/v1" + path, tenant: acme, bearer: as, body: `{"enabled":false}`, header: http.Header{"If-Match": {tag}}}
	w.call(patch).want(t, 200)
	w.call(patch).want(t, 412)
}
