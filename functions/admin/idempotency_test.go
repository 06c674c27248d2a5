package admin

import (
	"net/http"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

// secretsOf is what an answer shows this once.
func secretsOf(t *testing.T, body []byte) (all []string) {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, name := range []string{"tempPassword", "clientSecret", "secret", "welcomeLink"} {
		if v, ok := members[name].(string); ok && v != "" {
			_, token, found := strings.Cut(v, "token=")
			if !found {
				token = v
			}
			all = append(all, token)
		}
	}
	return all
}

// A request to make something that is sent twice with one key makes one thing, and gets one answer, its secret included,
// which nobody finds in the store.
func TestSentTwice(t *testing.T) {
	w := newWorld(t)
	all, n, secrets := samples(), 0, 0
	second := map[core.TenantID]string{}
	for _, id := range []core.TenantID{acme, core.SystemTenant} {
		u := w.user(id, "second@"+string(id)+".test")
		w.grant(id, core.UserSubject(u.Email), policy.SystemAdministrator, core.AccountScope(id))
		second[id] = w.userToken(id, u)
	}
	for _, e := range endpoints() {
		if !e.creates() {
			continue
		}
		n++
		name, key := e.method+" "+e.path, w.name("key")
		s := all[name](w, policy.L1Researcher)
		first := w.under(e, s.path(e), s.body, idempotencyKey, key)
		if first.Code != 201 || first.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %s", name, first.Code, first.Body)
			continue
		}
		before := w.dump()
		again := w.under(e, s.path(e), s.body, idempotencyKey, key)
		if again.Code != 201 || again.Header().Get("Idempotency-Replayed") != "true" || again.Header().Get("Content-Type") != first.Header().Get("Content-Type") ||
			strings.TrimSpace(again.Body.String()) != strings.TrimSpace(first.Body.String()) {
			t.Errorf("%s: again %d %s, at first %s", name, again.Code, again.Body, first.Body)
		}
		if e.in != nil {
			if f := w.under(e, s.path(e), s.body+" ", idempotencyKey, key).want(t, 400).failure(t); f.Details.Field != idempotencyKey {
				t.Errorf("%s: another body: %+v", name, f)
			}
		}
		if f := w.under(e, s.path(e)+"?x=y", s.body, idempotencyKey, key).want(t, 400).failure(t); f.Details.Field == "" {
			t.Errorf("%s: another query: %+v", name, f)
		}
		after := w.dump()
		if diff := changed(before, after); len(diff) > 0 {
			t.Errorf("%s: sent again, it changed %v", name, diff)
		}
		for _, secret := range secretsOf(t, first.Body.Bytes()) {
			secrets++
			for k, v := range after {
				if strings.Contains(v, secret) {
					t.Errorf("%s: the store has the secret of the answer at %s", name, k)
				}
			}
		}
		other := all[name](w, policy.L1Researcher)
		tenant := tenantOf(e)
		if rec := w.call(request{method: e.method, path: "/api/v1" + other.path(e), tenant: tenant, bearer: second[tenant], body: other.body, header: http.Header{idempotencyKey: {key}}}); rec.Code != 201 || rec.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: somebody else, with the same key: %d %s", name, rec.Code, rec.Body)
		}
	}
	if n < 10 || secrets < 3 {
		t.Errorf("%d calls make something, %d of them with a secret", n, secrets)
	}
}

// Of many at once one is carried out. The others get its answer, or hear that it is under way, and then get it.
func TestSentAtOnce(t *testing.T) {
	w := newWorld(t)
	all := samples()
	for _, name := range []string{"POST /users", "POST /service-accounts", "POST /authorization/access-rules", "POST /tenants", "POST /org-unit/projects", "POST /idps", "POST /groups"} {
		var e endpoint
		for _, row := range endpoints() {
			if row.method+" "+row.path == name {
				e = row
			}
		}
		s := all[name](w, policy.L1Researcher)
		key := w.name("key")
		w.adminToken(tenantOf(e)) // which is made once, and by one
		before := w.dump()
		answers := make([]response, 20)
		var wait gosync.WaitGroup
		for i := range answers {
			wait.Go(func() { answers[i] = w.under(e, s.path(e), s.body, idempotencyKey, key) })
		}
		wait.Wait()
		last := w.under(e, s.path(e), s.body, idempotencyKey, key).want(t, 201)
		made := 0
		for _, a := range answers {
			switch {
			case a.Code == 201:
				if strings.TrimSpace(a.Body.String()) != strings.TrimSpace(last.Body.String()) {
					t.Errorf("%s: two answers: %s and %s", name, a.Body, last.Body)
				}
				if a.Header().Get("Idempotency-Replayed") == "" {
					made++
				}
			case a.Code != 409 || !strings.Contains(a.failure(t).Message, "under way"):
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
		}
		if made != 1 {
			t.Errorf("%s: %d requests were carried out", name, made)
		}
		records := 0
		for _, k := range changed(before, w.dump()) {
			if strings.Contains(k, "/audit-new/") && strings.HasPrefix(k, string(tenantOf(e))+"/") {
				records++
			}
		}
		if records != 1 {
			t.Errorf("%s: %d acts are in the log", name, records)
		}
	}
}

// A request that failed leaves its key free, and a key is forgotten after an hour.
func TestIdempotencyKeyIsFreeAgain(t *testing.T) {
	w := newWorld(t)
	send := func(body, key string) response {
		return w.call(request{method: "POST", path: "/api/v1/users", tenant: acme, bearer: w.adminToken(acme), body: body, header: http.Header{idempotencyKey: {key}}})
	}
	const ada, alan = `{"email":"ada@acme.test"}`, `{"email":"alan@acme.test"}`
	there := w.user(acme, "ada@acme.test")
	send(ada, "k").want(t, 409)
	send(`{"email":"nobody"}`, "k").want(t, 400)
	w.as(w.adminToken(acme), "DELETE", "/users/"+string(there.ID), "").want(t, 204)
	first := send(ada, "k").want(t, 201)
	if again := send(ada, "k").want(t, 201); again.Body.String() != first.Body.String() {
		t.Errorf("again: %s, at first %s", again.Body, first.Body)
	}
	send(alan, "k").want(t, 400)
	w.pass(time.Hour - time.Second)
	clear(w.tokens)
	send(alan, "k").want(t, 400)
	w.pass(2 * time.Second)
	clear(w.tokens)
	if rec := send(alan, "k").want(t, 201); rec.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("after an hour: %s", rec.Body)
	}
}

// A key that is none is refused by name, and so is one where nothing is made: who sends it counts on what it says.
func TestIdempotencyKeyForm(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	before := w.dump()
	for _, keys := range [][]string{{""}, {strings.Repeat("x", 256)}, {"a", "b"}, {"a\x7f"}, {"ключ"}} {
		rec := w.call(request{method: "POST", path: "/api/v1/users", tenant: acme, bearer: admin, body: `{"email":"ada@acme.test"}`, header: http.Header{idempotencyKey: keys}})
		if f := rec.want(t, 400).failure(t); f.Details.Field != idempotencyKey {
			t.Errorf("%q: %+v", keys, f)
		}
	}
	u := w.admins[acme]
	rec := w.call(request{method: "PATCH", path: "/api/v1/users/" + string(u.ID), tenant: acme, bearer: admin, body: `{"firstName":"X"}`, header: http.Header{idempotencyKey: {"k"}}})
	if f := rec.want(t, 400).failure(t); f.Details.Field != idempotencyKey {
		t.Errorf("where nothing is made: %+v", f)
	}
	if diff := changed(before, w.dump()); len(diff) > 0 {
		t.Errorf("changed %v", diff)
	}
	w.call(request{method: "POST", path: "/api/v1/users", tenant: acme, bearer: admin, body: `{"email":"ada@acme.test"}`, header: http.Header{idempotencyKey: {strings.Repeat("x", 255)}}}).want(t, 201)
}
