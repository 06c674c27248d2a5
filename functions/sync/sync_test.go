package sync

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

type queue struct{ sent []sync.Message }

func (q *queue) Send(_ context.Context, m ...sync.Message) error {
	q.sent = append(q.sent, m...)
	return nil
}

// Queues count in seconds. What ends at a message's time has not ended a moment before, so the message is not handled then.
func TestALittleEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looked time.Time
		clock := func() time.Time { return time.Now().UTC() }
		db := away{func() { looked = time.Now() }}
		d := Deps{Queue: &queue{}, Now: clock, Sync: &sync.Service{DB: db, Now: clock, Log: slog.New(slog.DiscardHandler)}}
		m := sync.Message{Tenant: "acme", Cluster: core.NewClusterID(), NotBefore: clock().Add(900 * time.Millisecond)}
		if err := Handle(t.Context(), d, m); !errors.Is(err, core.Unavailable) || looked.Before(m.NotBefore) {
			t.Errorf("%v, looked %s early", err, m.NotBefore.Sub(looked))
		}
		looked, m.NotBefore = time.Time{}, clock().Add(900*time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := Handle(ctx, d, m); !errors.Is(err, core.Unavailable) || !looked.IsZero() {
			t.Errorf("when the function must end: %v, looked at %s", err, looked)
		}
	})
}

// away is a store that cannot be reached, and says when it is asked.
type away struct{ asked func() }

func (a away) Get(context.Context, ...store.Key) ([]store.Item, error) {
	a.asked()
	return nil, core.Unavailable
}

func (away) List(context.Context, store.Range) iter.Seq2[store.Item, error] { return nil }

func (away) Commit(context.Context, ...store.Op) error { return core.Unavailable }

func TestHandle(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	q := &queue{}
	d := Deps{Queue: q, Now: clock, Sync: &sync.Service{DB: db, Org: &org.Service{DB: db, Now: clock}, Now: clock, Log: slog.New(slog.DiscardHandler)}}

	for _, bad := range []sync.Message{{}, {Tenant: "acme"}, {Cluster: "c"}} {
		if err := Handle(t.Context(), d, bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	// Of a tenant or cluster that is not there, or no more, there is nothing to do, now or later.
	m := sync.Message{Tenant: "acme", Cluster: core.NewClusterID()}
	if err := Handle(t.Context(), d, m); err != nil || len(q.sent) != 0 {
		t.Errorf("%v, sent %v", err, q.sent)
	}
	m.NotBefore = now.Add(time.Hour)
	if err := Handle(t.Context(), d, m); err != nil || len(q.sent) != 1 || !q.sent[0].NotBefore.Equal(m.NotBefore) {
		t.Errorf("before its time: %v, sent %v", err, q.sent)
	}
	now = m.NotBefore
	if err := Handle(t.Context(), d, m); err != nil || len(q.sent) != 1 {
		t.Errorf("at its time: %v, sent %v", err, q.sent)
	}
}
