package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
)

// queue remembers what was sent.
type queue struct {
	sent []sync.Message
	err  error
}

func (q *queue) Send(_ context.Context, m ...sync.Message) error {
	q.sent = append(q.sent, m...)
	return q.err
}

type rig struct {
	Deps
	queue    *queue
	logged   *bytes.Buffer
	clusters []core.ClusterID
	access   *access.Service
	now      time.Time
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ctx, actor := t.Context(), core.SystemActor("acme")
	r := &rig{queue: &queue{}, logged: &bytes.Buffer{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return r.now }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: now})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{1}, localkeys.KeySize))
	must(t, err)
	ring := keys.NewRing(db, wrapper, now)
	tree := &org.Service{DB: db, Ring: ring, Now: now}
	r.access = &access.Service{DB: db, Now: now}
	r.Deps = Deps{
		DB: db, Directory: &directory.Service{DB: db, Ring: ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}},
		Sync: &sync.Service{DB: db, Org: tree, Ring: ring, Now: now}, Queue: r.queue, Log: slog.New(slog.NewTextHandler(r.logged, nil)),
	}
	_, err = tree.CreateTenant(ctx, actor, "acme", "Acme")
	must(t, err)
	for _, name := range []string{"one", "two", "three"} {
		c, err := tree.CreateCluster(ctx, actor, "acme", name, org.Reach{Server: "https://api.example.com"})
		must(t, err)
		r.clusters = append(r.clusters, c.Cluster)
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encode(t testing.TB, f events.Fact) []byte {
	t.Helper()
	body, err := events.Encode(events.Envelope{ID: core.NewID(), Tenant: "acme", Time: time.Now()}, f)
	must(t, err)
	return body
}

// took returns the clusters that were sent messages since the last call, sorted.
func (r *rig) took() []core.ClusterID {
	var out []core.ClusterID
	for _, m := range r.queue.sent {
		out = append(out, m.Cluster)
	}
	r.queue.sent = nil
	slices.Sort(out)
	return out
}

func TestHandle(t *testing.T) {
	r := newRig(t)
	ctx, actor := t.Context(), core.SystemActor("acme")
	bound, _, err := r.Directory.CreateUser(ctx, actor, "acme", directory.NewUser{Email: "ada@example.com"})
	must(t, err)
	everywhere, _, err := r.Directory.CreateUser(ctx, actor, "acme", directory.NewUser{Email: "bob@example.com"})
	must(t, err)
	nowhere, _, err := r.Directory.CreateUser(ctx, actor, "acme", directory.NewUser{Email: "cyd@example.com"})
	must(t, err)
	_, err = r.access.Seed(ctx, "acme",
		access.NewRule{Subject: core.UserSubject("ada@example.com"), Role: policy.Viewer, Scope: core.ClusterScope(r.clusters[1])},
		access.NewRule{Subject: core.UserSubject("bob@example.com"), Role: policy.Viewer, Scope: core.AccountScope("acme")})
	must(t, err)
	all := slices.Sorted(slices.Values(r.clusters))
	one, two := r.clusters[:1], r.clusters[1:2]

	for _, tt := range []struct {
		name string
		fact events.Fact
		want []core.ClusterID
	}{
		{"a rule in a cluster", events.AccessChanged{Revision: 90, Clusters: []string{string(one[0])}}, one},
		{"a rule at the account", events.AccessChanged{Revision: 91, All: true}, all},
		{"a project", events.ScopeChanged{Revision: 92, Scope: string(one[0]) + ".x", Kind: "project", Change: "moved", Cluster: string(one[0])}, one},
		{"the account", events.ScopeChanged{Revision: 92, Scope: "acme", Kind: "account", Change: "updated"}, nil},
		{"a person with a rule in a cluster", events.UserChanged{Revision: 93, User: string(bound.ID), Change: "disabled"}, two},
		{"a person with a rule at the account", events.UserChanged{Revision: 94, User: string(everywhere.ID), Change: "disabled"}, all},
		{"a person without rules", events.UserChanged{Revision: 95, User: string(nowhere.ID), Change: "disabled"}, nil},
		{"a person who is gone", events.UserChanged{Revision: 96, User: "gone", Change: "deleted"}, all},
		{"a change that touches no access", events.UserChanged{User: string(bound.ID), Change: "password"}, nil},
		{"an application without rules", events.ApplicationChanged{Revision: 97, Application: "ci", Change: "disabled"}, nil},
		{"a tenant", events.TenantChanged{Change: "erased"}, all},
		{"keys", events.KeysRotated{Published: []string{"k"}}, nil},
	} {
		for range 2 { // events come at least once
			must(t, Handle(ctx, r.Deps, encode(t, tt.fact)))
			for _, m := range r.queue.sent { // one without a revision is never passed over
				if _, always := tt.fact.(events.TenantChanged); always != (m.Revision == 0) || m.Revision > 97 || m.Revision > 0 && m.Revision < 90 {
					t.Errorf("%s: %+v", tt.name, m)
				}
			}
			if got := r.took(); !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	}
	for i, want := range []core.Revision{96, 96, 96} {
		if st, err := r.Sync.Status(ctx, "acme", r.clusters[i]); err != nil || st.Wanted != want || st.WantedSince.IsZero() {
			t.Errorf("cluster %d: %+v, %v", i, st, err)
		}
	}
	must(t, Handle(ctx, r.Deps, encode(t, events.AccessChanged{Revision: 5, All: true}))) // late: order is not promised
	if st, _ := r.Sync.Status(ctx, "acme", r.clusters[0]); st.Wanted != 96 {
		t.Errorf("a late event takes the wanted revision back to %d", st.Wanted)
	}
}

// What cannot be read is parked, so that nothing behind it waits (SYN-007); what the store or queue refuses comes again.
// A rule that lives so shortly that maintain may miss its end has its cluster looked at when it ends; one that lives
// longer is maintain's.
func TestRulesThatEndSoon(t *testing.T) {
	r := newRig(t)
	made, err := r.access.Seed(t.Context(), "acme",
		access.NewRule{Subject: core.UserSubject("ada@example.com"), Role: policy.Viewer, Scope: core.ClusterScope(r.clusters[1]), ExpiresAt: r.now.Add(20 * time.Second)},
		access.NewRule{Subject: core.UserSubject("bob@example.com"), Role: policy.Viewer, Scope: core.ClusterScope(r.clusters[1]), ExpiresAt: r.now.Add(time.Hour)})
	must(t, err)
	must(t, Handle(t.Context(), r.Deps, encode(t, events.AccessChanged{Revision: uint64(made[1].ID), Clusters: []string{string(r.clusters[1])}, Rules: []uint64{uint64(made[0].ID), uint64(made[1].ID)}})))
	var times []time.Time
	for _, m := range r.queue.sent {
		if m.Cluster != r.clusters[1] {
			t.Errorf("another cluster: %+v", m)
		}
		times = append(times, m.NotBefore)
	}
	if len(times) != 2 || !times[0].IsZero() || !times[1].Equal(r.now.Add(20*time.Second)) {
		t.Errorf("looked at %v", times)
	}
}

func TestHandleParks(t *testing.T) {
	r := newRig(t)
	good := encode(t, events.AccessChanged{Revision: 9, All: true})
	for name, body := range map[string][]byte{
		"an unknown type": bytes.Replace(good, []byte("access.changed.v1"), []byte("access.changed.v9"), 1),
		"no JSON":         []byte("{"), "nothing": nil,
		"no source":        bytes.Replace(good, []byte("/t/acme"), []byte("acme"), 1),
		"an odd tenant":    bytes.Replace(good, []byte("/t/acme"), []byte("/t/ac/me"), 1),
		"an empty cluster": encode(t, events.AccessChanged{Revision: 9, Clusters: []string{""}}),
		"a huge id":        encode(t, events.AccessChanged{Revision: 9, Clusters: []string{strings.Repeat("x", 2000)}}),
		"a wrong payload":  bytes.Replace(good, []byte(`"revision":9`), []byte(`"revision":"x"`), 1),
	} {
		r.logged.Reset()
		for range 2 { // it may come twice
			if err := Handle(t.Context(), r.Deps, body); err != nil || len(r.queue.sent) != 0 || !strings.Contains(r.logged.String(), "parked") {
				t.Errorf("%s: %v, sent %v, logged %q", name, err, r.queue.sent, r.logged)
			}
		}
		tenant := core.TenantID("acme")
		if name == "no JSON" || name == "nothing" || name == "no source" || name == "an odd tenant" {
			tenant = core.SystemTenant
		}
		all := r.take(tenant)
		if len(all) != 1 || !bytes.Equal(all[0].Event, body) || all[0].Reason == "" || all[0].Tries != 2 || len(r.take("acme"))+len(r.take(core.SystemTenant)) != 0 {
			t.Errorf("%s: dead letters %+v", name, all)
		}
	}
	r.queue.err = fmt.Errorf("the queue: %w", core.Unavailable)
	if err := Handle(t.Context(), r.Deps, good); !errors.Is(err, core.Unavailable) {
		t.Errorf("a queue that does not take it: %v", err)
	}
	r.queue.err = nil
	broken := r.Deps
	broken.DB = &storetest.Faulty{DB: r.DB, Plan: storetest.RandomFaults(1, 1)}
	if err := Handle(t.Context(), broken, good); err == nil {
		t.Error("a store that does not answer: acknowledged")
	}
	r.took()
	must(t, Handle(t.Context(), r.Deps, good))
	if got := r.took(); len(got) != 3 {
		t.Errorf("after all that: %v", got)
	}
}

// take returns a tenant's dead letters, and takes them away.
func (r *rig) take(tenant core.TenantID) (all []sync.DeadLetter) {
	for d, err := range r.Sync.DeadLetters(context.Background(), tenant) {
		if err != nil {
			panic(err)
		}
		all = append(all, d)
	}
	for _, d := range all {
		if err := r.Sync.Discard(context.Background(), core.SystemActor(tenant), d); err != nil {
			panic(err)
		}
	}
	return all
}

// An event of a tenant that there is not belongs to nobody; one too large for an item is known by its size; what brings the
// handler down, or meets a record that nobody can read, is parked as well; and a store that does not take the dead letter has
// the event come again.
func TestWhereParkedEventsLie(t *testing.T) {
	r := newRig(t)
	good := encode(t, events.AccessChanged{Revision: 9, All: true})
	unknown := bytes.Replace(good, []byte("access.changed.v1"), []byte("access.changed.v9"), 1)

	must(t, Handle(t.Context(), r.Deps, bytes.Replace(unknown, []byte("/t/acme"), []byte("/t/nobody"), 1)))
	if all := r.take(core.SystemTenant); len(all) != 1 || len(r.take("nobody")) != 0 {
		t.Errorf("of a tenant that there is not: %+v", all)
	}
	must(t, Handle(t.Context(), r.Deps, append(bytes.TrimSuffix(unknown, []byte("}")), []byte(`,"more":"`+strings.Repeat("x", 31<<10)+`"}`)...)))
	if all := r.take("acme"); len(all) != 1 || all[0].Replayable() || all[0].Bytes < 31<<10 {
		t.Errorf("too large: %+v", all)
	}

	broken := r.Deps
	broken.Directory = nil // the handler panics
	must(t, Handle(t.Context(), broken, encode(t, events.UserChanged{Revision: 9, User: "u", Change: "disabled"})))
	if all := r.take("acme"); len(all) != 1 || !all[0].Replayable() || !strings.Contains(r.logged.String(), "msg=panic") {
		t.Errorf("a panic: %+v", all)
	}
	must(t, r.DB.Commit(t.Context(), store.Put(store.Sync("acme", "x"), 0, []byte("{"))))
	must(t, Handle(t.Context(), r.Deps, encode(t, events.AccessChanged{Revision: 9, Clusters: []string{"x"}})))
	if all := r.take("acme"); len(all) != 1 || all[0].Reason != "an internal error" || !strings.Contains(r.logged.String(), "does not decode") {
		t.Errorf("a record that cannot be read: %+v", all)
	}

	service := *r.Sync
	service.DB = &storetest.Faulty{DB: r.DB, Plan: storetest.FaultOnce("Commit", storetest.Refuse)}
	broken = r.Deps
	broken.Sync = &service
	if err := Handle(t.Context(), broken, unknown); !errors.Is(err, core.Unavailable) || len(r.take("acme")) != 0 {
		t.Errorf("a store that does not take the dead letter: %v", err)
	}
	must(t, Handle(t.Context(), broken, unknown))

	// A replay puts the event into the outbox again, as it was.
	all := []sync.DeadLetter{}
	for d, err := range r.Sync.DeadLetters(t.Context(), "acme") {
		must(t, err)
		all = append(all, d)
	}
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	must(t, r.Sync.Replay(t.Context(), r.queue, core.SystemActor("acme"), all[0]))
	found := 0
	for _, part := range store.PartitionsOf("acme") {
		for it, err := range r.DB.List(t.Context(), part) {
			must(t, err)
			if it.Key.IsOutbox() && bytes.Equal(it.Body, unknown) && !it.Expires.IsZero() {
				found++
			}
		}
	}
	if found != 1 || len(r.take("acme")) != 0 {
		t.Errorf("%d in the outbox", found)
	}
	if err := r.Sync.Replay(t.Context(), r.queue, core.SystemActor("acme"), all[0]); !errors.Is(err, core.Conflict) {
		t.Errorf("replayed twice: %v", err)
	}
}

func FuzzHandle(f *testing.F) {
	f.Add(encode(f, events.AccessChanged{Revision: 9, Clusters: []string{"x"}}))
	f.Add(encode(f, events.UserChanged{Revision: 9, User: "u", Change: "disabled"}))
	f.Add([]byte(`{"specversion":"1.0","id":"","source":"/t/","type":"dev.fleetpass.tenant.changed.v1"}`))
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := Handle(context.Background(), r.Deps, body); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// many is the rig with so many clusters in all, and what counts its store's round trips.
func (r *rig) many(t *testing.T, n int) *storetest.Counter {
	t.Helper()
	for i := len(r.clusters); i < n; i++ {
		c, err := r.Sync.Org.CreateCluster(t.Context(), core.SystemActor("acme"), "acme", fmt.Sprint("c", i), org.Reach{Server: "https://api.example.com"})
		must(t, err)
		r.clusters = append(r.clusters, c.Cluster)
	}
	counter := &storetest.Counter{DB: r.DB}
	service := *r.Sync
	service.DB = counter
	r.DB, r.Sync = counter, &service
	return counter
}

// A change at an account of 500 clusters takes the store few round trips, and the last of them is told of no less than the
// first; where the record of one is written at the same time, the others' are as well.
func TestManyClusters(t *testing.T) {
	const n = 500
	r := newRig(t)
	counter := r.many(t, n)
	for rev := core.Revision(2000); rev < 2003; rev++ {
		counter.Reset()
		must(t, Handle(t.Context(), r.Deps, encode(t, events.AccessChanged{Revision: uint64(rev), All: true})))
		if got := counter.Counts().RoundTrips(); got > 30 || len(r.took()) != n {
			t.Errorf("%d round trips for %d clusters: %+v", got, n, counter.Counts())
		}
	}
	conflicts := 0
	service := *r.Sync
	service.DB = beside{r.DB, func(keys []store.Key) {
		if len(keys) > 40 && conflicts < 3 { // between the read and the write
			conflicts++
			must(t, r.Sync.Wanted(t.Context(), "acme", []core.ClusterID{core.ClusterID(keys[7].Sort())}, 3000))
		}
	}}
	deps := r.Deps
	deps.Sync = &service
	must(t, Handle(t.Context(), deps, encode(t, events.AccessChanged{Revision: 2500, All: true})))
	newer := 0
	for _, c := range r.clusters {
		st, err := r.Sync.Status(t.Context(), "acme", c)
		if err != nil || st.Wanted < 2500 || st.WantedSince.IsZero() {
			t.Fatalf("%+v, %v", st, err)
		}
		if st.Wanted == 3000 {
			newer++
		}
	}
	if conflicts == 0 || newer != conflicts {
		t.Errorf("%d records were written meanwhile, and %d kept what they were written with", conflicts, newer)
	}
}

// beside is a store in which others are at work after each Get.
type beside struct {
	store.DB
	work func([]store.Key)
}

func (b beside) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	items, err := b.DB.Get(ctx, keys...)
	mu.Lock()
	defer mu.Unlock()
	b.work(keys)
	return items, err
}

var mu gosync.Mutex

// A cluster that is named twice is no odd event; one that is not there has nothing noted.
func TestOddClusters(t *testing.T) {
	r := newRig(t)
	absent := core.NewClusterID()
	must(t, Handle(t.Context(), r.Deps, encode(t, events.AccessChanged{Revision: 9, Clusters: []string{string(r.clusters[0]), string(absent), string(r.clusters[0])}})))
	if all := r.take("acme"); len(all) != 0 {
		t.Errorf("parked: %+v", all)
	}
	n := 0
	for it, err := range r.DB.List(t.Context(), store.Syncs("acme")) {
		must(t, err)
		if n++; it.Key != store.Sync("acme", r.clusters[0]) {
			t.Errorf("noted: %s", it.Key)
		}
	}
	if n != 1 {
		t.Errorf("%d records", n)
	}
}

// The end of a rule that lives for less than two minutes is asked for here, with no revision: the cluster has come to that
// long before.
func TestEndsAreAskedForWithoutARevision(t *testing.T) {
	r := newRig(t)
	var rules []access.NewRule
	lives := []time.Duration{61 * time.Second, 119 * time.Second, 121 * time.Second}
	for i, life := range lives {
		rules = append(rules, access.NewRule{Subject: core.UserSubject(core.Email(fmt.Sprintf("u%d@example.com", i))), Role: policy.Viewer, Scope: core.ClusterScope(r.clusters[0]), ExpiresAt: r.now.Add(life)})
	}
	made, err := r.access.Seed(t.Context(), "acme", rules...)
	must(t, err)
	fact := events.AccessChanged{Revision: uint64(made[2].ID), Clusters: []string{string(r.clusters[0])}}
	for _, m := range made {
		fact.Rules = append(fact.Rules, uint64(m.ID))
	}
	must(t, Handle(t.Context(), r.Deps, encode(t, fact)))
	var ends []time.Duration
	for _, m := range r.queue.sent {
		if !m.NotBefore.IsZero() {
			if ends = append(ends, m.NotBefore.Sub(r.now)); m.Revision != 0 || m.Full {
				t.Errorf("sent %+v", m)
			}
		}
	}
	if slices.Sort(ends); !slices.Equal(ends, lives[:2]) {
		t.Errorf("asked for at %v, want %v", ends, lives[:2])
	}
}

// Whatever kind of error the queue gives, the event comes again: it is not the event that is odd.
func TestAQueueThatRefuses(t *testing.T) {
	r := newRig(t)
	for _, err := range []error{errors.New("quota"), fmt.Errorf("message: %w", core.Invalid), fmt.Errorf("queue: %w", core.Denied), fmt.Errorf("queue: %w", core.NotFound)} {
		r.queue.err = err
		if got := Handle(t.Context(), r.Deps, encode(t, events.AccessChanged{Revision: 9, All: true})); !errors.Is(got, err) || len(r.take("acme")) != 0 {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// A parked event's request is as long as whoever made the event liked; a dead letter is not.
func TestLongRequestsAreCut(t *testing.T) {
	r := newRig(t)
	body, err := events.Encode(events.Envelope{ID: "e", Tenant: "acme", Time: r.now, Request: strings.Repeat("r", 20_000)}, events.AccessChanged{Revision: 9, Clusters: []string{""}})
	must(t, err)
	must(t, Handle(t.Context(), r.Deps, body))
	if all := r.take("acme"); len(all) != 1 || len(all[0].Request) > 1000 || len(all[0].Reason) > 1000 || all[0].Request == "" {
		t.Errorf("%.2000s", fmt.Sprintf("%+v", all))
	}
}
