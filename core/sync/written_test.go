package sync_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
)

// applied is the records of what was written to clusters, the oldest first.
func (s *site) applied() (out []audit.Record) {
	s.t.Helper()
	for rec, err := range audit.List(s.t.Context(), s.db, acme, time.Time{}, time.Time{}, false) {
		must(s.t, err)
		if rec.Action == audit.Update && rec.EntityType == audit.EntityCluster {
			out = append(out, rec)
		}
	}
	return out
}

// commits counts a store's commits.
type commits struct {
	store.DB
	n int
}

func (c *commits) Commit(ctx context.Context, ops ...store.Op) error {
	c.n++
	return c.DB.Commit(ctx, ops...)
}

// A run that writes leaves one record, with the ids by which the cluster knows the writes, in a commit that it makes anyway;
// one that writes nothing leaves none.
func TestWritesAreRecorded(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	rule := s.grant("ada@example.com", policy.Viewer, p.ID)
	s.reconcile()
	s.cluster.AuditIDs()
	before := len(s.applied())
	if before != 1 {
		t.Fatalf("%d records of the first run", before)
	}
	if got := s.applied()[0]; got.Reason != fmt.Sprintf("revision %d applied: 1 namespace and 4 bindings written", s.revision()) || len(got.KubernetesAuditIDs) != 5 {
		t.Errorf("the first run: %+v", got)
	}

	s.pass(time.Second)
	s.revoke(rule)
	db := &commits{DB: s.db}
	m := s.message()
	m.Request = "req-1"
	other := *s.sync
	other.DB = db
	must(t, other.Reconcile(t.Context(), m))
	all := s.applied()
	if len(all) != 2 {
		t.Fatalf("%d records", len(all))
	}
	want := audit.Record{
		ID: all[1].ID, At: s.now(), Tenant: acme, Subject: core.SystemActor(acme).Subject, Action: audit.Update,
		EntityType: audit.EntityCluster, EntityID: string(core.ClusterScope(s.id)), Name: "one", Scope: core.ClusterScope(s.id), Cluster: s.id,
		Result: audit.Succeeded, Request: "req-1", Reason: fmt.Sprintf("revision %d applied: 2 bindings written", s.revision()),
		KubernetesAuditIDs: s.cluster.AuditIDs(),
	}
	slices.Sort(want.KubernetesAuditIDs) // side by side
	slices.Sort(all[1].KubernetesAuditIDs)
	if d := cmp.Diff(want, all[1]); d != "" || len(want.KubernetesAuditIDs) != 2 {
		t.Errorf("-want +got:\n%s", d)
	}
	if db.n != 3 { // the lease, what is about to be written, what came of it
		t.Errorf("%d commits", db.n)
	}

	db.n = 0
	must(t, other.Reconcile(t.Context(), m))
	if len(s.applied()) != 2 || db.n != 2 {
		t.Errorf("a run that writes nothing: %d records, %d commits", len(s.applied()), db.n)
	}
}

// What the cluster did not take is not counted, and a round that came only so far says so.
func TestWritesInPartAreRecorded(t *testing.T) {
	s := newSite(t)
	p, q := s.project("vision"), s.project("speech")
	s.reconcile()
	s.cluster.AuditIDs()
	s.pass(time.Second)
	s.grant("ada@example.com", policy.Viewer, p.ID)
	s.grant("ada@example.com", policy.Viewer, q.ID)
	s.cluster.Break(func(c kube.Change) synctest.Fault {
		switch c.Object.Namespace {
		case p.Namespace:
			return synctest.Refuse
		case q.Namespace:
			return synctest.Forget // it happens, and nobody knows
		}
		return synctest.None
	})
	if err := s.sync.Reconcile(t.Context(), s.message()); err == nil {
		t.Fatal("it went well")
	}
	got := s.applied()[1]
	if want := fmt.Sprintf("revision %d applied in part: 1 binding written", s.revision()); got.Reason != want || !slices.Equal(got.KubernetesAuditIDs, s.cluster.AuditIDs()) {
		t.Errorf("%+v, want %s", got, want)
	}
}

// A record names at most 50 writes, and says how many they were.
func TestManyWritesAreRecorded(t *testing.T) {
	s := newSite(t)
	for i := range 30 {
		s.project(fmt.Sprintf("p%d", i))
	}
	s.reconcile()
	all := s.applied()
	if len(all) != 1 || len(all[0].KubernetesAuditIDs) != 50 || !strings.HasSuffix(all[0].Reason, ": 30 namespaces and 31 bindings written") {
		t.Errorf("%d records: %+v", len(all), all)
	}
}

// A run whose lease went to another one cannot write its record any more: it goes to the log.
func TestWritesOfALostRunAreLogged(t *testing.T) {
	s := newSite(t)
	s.project("vision")
	var log bytes.Buffer
	s.sync.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.cluster.Break(func(c kube.Change) synctest.Fault {
		if c.Verb != "" {
			s.pass(time.Hour)
		}
		return synctest.None
	})
	if err := s.sync.Reconcile(t.Context(), s.message()); err == nil {
		t.Fatal("it went well")
	}
	if len(s.applied()) != 0 || !strings.Contains(log.String(), "not in the audit log") || !strings.Contains(log.String(), "audit-1") {
		t.Errorf("%d records; the log: %s", len(s.applied()), log.String())
	}
}
