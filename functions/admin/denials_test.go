package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/policy"
)

// refusals are the records of what acme's callers were refused.
func (w *world) refusals() (all []audit.Record) {
	w.Helper()
	for rec, err := range audit.List(w.Context(), w.DB, acme, w.Now().AddDate(-1, 0, 0), w.Now().AddDate(1, 0, 0), false) {
		w.must(err)
		if rec.Result == audit.Failed {
			all = append(all, rec)
		}
	}
	return all
}

// Whoever may do nothing cannot fill the log that others read: their refusals are recorded, so many in a while, and the last
// one says so. Another caller's are recorded all the same, and their own after that while.
func TestDenialsAreBounded(t *testing.T) {
	w := newWorld(t)
	bearer := w.userToken(acme, w.user(acme, "nobody@acme.test"))
	for range 2 * maxDenials {
		w.as(bearer, "POST", "/groups", `{"name":"g"}`).want(t, 403)
	}
	got, last := w.refusals(), 0
	for _, rec := range got {
		if strings.Contains(rec.Reason, "no more of this caller's refusals") {
			last++
		}
	}
	if len(got) != maxDenials || last != 1 {
		t.Fatalf("%d records, %d of which say that they are the last", len(got), last)
	}
	w.as(w.userToken(acme, w.user(acme, "other@acme.test")), "POST", "/groups", `{"name":"g"}`).want(t, 403)
	if n := len(w.refusals()); n != maxDenials+1 {
		t.Errorf("%d records, want one more for somebody else", n)
	}
	w.pass(denialsFor)
	w.as(w.userToken(acme, w.user(acme, "third@acme.test")), "GET", "/me", "").want(t, 200)
	w.as(w.appToken(acme, w.app(acme)), "POST", "/groups", `{"name":"g"}`).want(t, 403)
	if n := len(w.refusals()); n != maxDenials+2 {
		t.Errorf("%d records after a while", n)
	}
}

// What a batch was refused is recorded as what a single call was, once.
func TestBatchDenialsAreRecorded(t *testing.T) {
	w := newWorld(t)
	mine := w.project(acme)
	app := w.caller(acme, policy.ResearchManager, mine.ID)
	body := fmt.Sprintf(`{"payload":{"roleId":1,"subjects":[{"id":%q,"type":"service-account"},{"id":"g","type":"group"}],"scopes":[{"id":%q,"type":"project"}]}}`, app.ID, mine.ID)
	w.as(w.appToken(acme, app), "POST", "/authorization/access-rules/batch-create", body).want(t, http.StatusOK)
	got := w.refusals()
	if len(got) != 1 || !strings.Contains(got[0].Reason, "2 of 2 were refused") || got[0].Subject != core.ApplicationSubject(app.ID) {
		t.Errorf("recorded: %+v", got)
	}
	w.as(w.appToken(acme, app), "POST", "/authorization/access-rules/batch-create", strings.Replace(body, `"roleId":1`, `"roleId":4`, 1)).want(t, http.StatusOK)
	if n := len(w.refusals()); n != 1 {
		t.Errorf("%d records after a batch that was made", n)
	}
}

// A precondition that would be passed over is refused, since the caller counts on it.
func TestPreconditionsAreNotPassedOver(t *testing.T) {
	w := newWorld(t)
	p := w.project(acme)
	for header, value := range map[string]string{"If-None-Match": "*", "If-Unmodified-Since": "Mon, 04 May 2026 09:00:00 GMT"} {
		rec := w.call(request{method: "PUT", path: "/api/v1/org-unit/projects/" + string(p.ID), tenant: acme, bearer: w.adminToken(acme),
			body: `{"name":"renamed"}`, header: http.Header{header: {value}}})
		if f := rec.want(t, 400).failure(t); f.Details.Field != header {
			t.Errorf("%s: %+v", header, f)
		}
	}
	w.as(w.adminToken(acme), "PUT", "/org-unit/projects/"+string(p.ID), `{"name":"renamed"}`).want(t, 200)
}

// Whoever lost the right to make something is not shown again what they made with it.
func TestNoReplayWithoutTheRight(t *testing.T) {
	w := newWorld(t)
	dep := w.department(acme)
	app := w.app(acme)
	rule := w.grant(acme, core.ApplicationSubject(app.ID), policy.DepartmentAdministrator, dep.ID)
	send := func() response {
		return w.call(request{method: "POST", path: "/api/v1/org-unit/projects", tenant: acme, bearer: w.appToken(acme, app),
			body: `{"name":"vision","parentId":"` + string(dep.ID) + `"}`, header: http.Header{idempotencyKey: {"one"}}})
	}
	first := send().want(t, 201).Body.String()
	if again := send().want(t, 201).Body.String(); again != first {
		t.Errorf("the answer came again as %s", again)
	}
	w.must(w.Access.Delete(w.Context(), core.Actor{Tenant: acme, Subject: core.UserSubject(w.admins[acme].Email), UserID: w.admins[acme].ID}, rule.ID))
	send().want(t, 403)
}
