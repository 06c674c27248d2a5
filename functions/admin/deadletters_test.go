package admin

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

// deadLetter is a cluster that was given up.
func (w *world) deadLetter(t core.TenantID) (id string) {
	w.Helper()
	return w.deadLetterOf(t, w.cluster(t))
}

func (w *world) deadLetterOf(t core.TenantID, cluster org.Scope) (id string) {
	w.Helper()
	d := sync.DeadLetter{
		ID: string(cluster.Cluster), Kind: "sync", Tenant: t, Message: sync.Message{Tenant: t, Cluster: cluster.Cluster, Revision: 7, Attempt: 39, Request: "r1"},
		Reason: "reading the cluster: no answer: temporarily unavailable", Tries: 40, First: w.Now(), Last: w.Now(), Request: "r1",
	}
	op, err := (store.Table[sync.DeadLetter]{}).Put(store.DeadLetter(t, d.Kind, d.ID), 0, d)
	w.must(err)
	w.must(w.DB.Commit(w.Context(), op))
	return d.ID
}

func (w *world) deadLetters(bearer string) (ids []string) {
	w.Helper()
	for _, d := range into[[]api.DeadLetter](w, w.as(bearer, "GET", "/sync/dead-letters", "").want(w, 200)) {
		ids = append(ids, d.ID)
	}
	return ids
}

// outbox is the events on their way, beside those of making things.
func (w *world) outbox(body string) (n int) {
	w.Helper()
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.DB.List(w.Context(), r) {
			w.must(err)
			if it.Key.IsOutbox() && string(it.Body) == body {
				n++
			}
		}
	}
	return n
}

// A dead letter says what failed and why; a replay queues it as if for the first time, and takes it away; both are on record.
func TestDeadLetters(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	id := w.deadLetter(acme)
	const event = `{"of":"a later version"}`
	w.must(w.Sync.Park(t.Context(), acme, []byte(event), "r2", fmt.Errorf("unknown type")))
	w.must(w.Sync.Park(t.Context(), acme, make([]byte, 30<<10), "", fmt.Errorf("too long")))
	w.deadLetter(globex)

	all := into[[]api.DeadLetter](t, w.as(admin, "GET", "/sync/dead-letters", "").want(t, 200))
	if len(all) != 3 || all[2].ID != id || all[2].Kind != api.DeadSync || string(all[2].ClusterID) != id || all[2].Tries != 40 || all[2].Request != "r1" || all[2].Reason == "" || !all[2].Replayable {
		t.Fatalf("%+v", all)
	}
	rec := w.as(admin, "GET", "/sync/dead-letters?limit=1&offset=2", "").want(t, 200)
	if page := into[[]api.DeadLetter](t, rec); len(page) != 1 || page[0].ID != id || rec.Header().Get(api.HeaderTotal) != "3" {
		t.Errorf("the last page: %+v", page)
	}
	w.as(admin, "POST", "/sync/dead-letters/"+id+"/replay", "").want(t, 202)
	if len(w.queue.sent) != 1 {
		t.Fatalf("sent %+v", w.queue.sent)
	}
	m := w.queue.sent[0]
	if m.Tenant != acme || string(m.Cluster) != id || m.Attempt != 0 || !m.Full || m.Revision != 0 || !m.NotBefore.IsZero() {
		t.Errorf("sent %+v", m)
	}
	w.as(admin, "POST", "/sync/dead-letters/"+id+"/replay", "").want(t, 404)

	done := into[api.DeadLetterReplay](t, w.as(admin, "POST", "/sync/dead-letters/replay", "").want(t, 200))
	if len(done.Replayed) != 1 || done.Left != 0 || w.outbox(event) != 1 {
		t.Errorf("%+v, %d events in the outbox", done, w.outbox(event))
	}
	left := into[[]api.DeadLetter](t, w.as(admin, "GET", "/sync/dead-letters", "").want(t, 200))
	if len(left) != 1 || left[0].Replayable {
		t.Fatalf("left: %+v", left)
	}
	w.as(admin, "POST", "/sync/dead-letters/"+left[0].ID+"/replay", "").want(t, 422)
	w.as(admin, "DELETE", "/sync/dead-letters/"+left[0].ID, "").want(t, 204)
	if ids := w.deadLetters(admin); len(ids) != 0 {
		t.Errorf("left: %v", ids)
	}

	var acts []string
	for it, err := range w.DB.List(t.Context(), store.AuditsNew(acme)) {
		w.must(err)
		rec, err := (store.Table[audit.Record]{}).Decode(it)
		w.must(err)
		if rec.Value.EntityType == audit.EntityDeadLetter {
			acts = append(acts, string(rec.Value.Action)+" "+rec.Value.Name+" by "+rec.Value.Subject.ID)
		}
	}
	slices.Sort(acts)
	if want := []string{"delete event by admin@acme.test", "update event by admin@acme.test", "update sync by admin@acme.test"}; !slices.Equal(acts, want) {
		t.Errorf("on record: %q, want %q", acts, want)
	}
}

// Whoever administers one cluster has to do with its dead letter and no other; one may be seen and not replayed; that of a
// deleted cluster, and an event, are the account's.
func TestDeadLettersAreTheirScopes(t *testing.T) {
	w := newWorld(t)
	mine, other := w.cluster(acme), w.cluster(acme)
	a, b := w.deadLetterOf(acme, mine), w.deadLetterOf(acme, other)
	gone := w.deadLetterOf(acme, org.Scope{Cluster: core.NewClusterID()})
	w.must(w.Sync.Park(t.Context(), acme, []byte("{}"), "", fmt.Errorf("unknown type")))
	app := w.caller(acme, policy.SystemAdministrator, core.ClusterScope(mine.Cluster))
	w.grant(acme, core.ApplicationSubject(app.ID), policy.Viewer, core.ClusterScope(other.Cluster))
	bearer := w.appToken(acme, app)

	if !policy.Permits(policy.Viewer, policy.Cluster, policy.View) || policy.Permits(policy.Viewer, policy.Cluster, policy.Edit) {
		t.Fatal("this test needs a role that views clusters and does not edit them")
	}
	got := w.deadLetters(bearer)
	if want := []string{a, b}; len(got) != 2 || !slices.Contains(got, a) || !slices.Contains(got, b) {
		t.Errorf("sees %v, want %v", got, want)
	}
	w.as(bearer, "POST", "/sync/dead-letters/"+b+"/replay", "").want(t, 403)
	w.as(bearer, "DELETE", "/sync/dead-letters/"+b, "").want(t, 403)
	w.as(bearer, "DELETE", "/sync/dead-letters/"+gone, "").want(t, 404)
	done := into[api.DeadLetterReplay](t, w.as(bearer, "POST", "/sync/dead-letters/replay", "").want(t, 200))
	if !slices.Equal(done.Replayed, []string{a}) || done.Left != 0 || len(w.queue.sent) != 1 {
		t.Errorf("%+v, sent %+v", done, w.queue.sent)
	}
	w.as(w.adminToken(acme), "POST", "/sync/dead-letters/"+gone+"/replay", "").want(t, 202)
	if ids := w.deadLetters(w.adminToken(acme)); len(ids) != 2 {
		t.Errorf("left: %v", ids)
	}
}

// One call replays so many and says how many are left.
func TestReplayIsBounded(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	for i := range api.MaxReplay + 7 {
		w.must(w.Sync.Park(t.Context(), acme, fmt.Append(nil, i), "", fmt.Errorf("unknown type")))
	}
	for _, want := range []struct{ replayed, left int }{{api.MaxReplay, 7}, {7, 0}, {0, 0}} {
		done := into[api.DeadLetterReplay](t, w.as(admin, "POST", "/sync/dead-letters/replay", "").want(t, 200))
		if len(done.Replayed) != want.replayed || done.Left != want.left {
			t.Errorf("%d replayed, %d left; want %+v", len(done.Replayed), done.Left, want)
		}
	}
}
