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
		if err := Handle(t.Context(), r.Deps, body); err != nil || len(r.queue.sent) != 0 || !strings.Contains(r.logged.String(), "parked") {
			t.Errorf("%s: %v, sent %v, logged %q", name, err, r.queue.sent, r.logged)
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
