package storequeue_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

func open(t *testing.T) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "q.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func count(t *testing.T, db store.DB) (n int) {
	t.Helper()
	for _, err := range db.List(context.Background(), store.QueuedAll()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func message(c string) sync.Message {
	return sync.Message{Tenant: "acme", Cluster: core.ClusterID(c)}
}

func utc() time.Time { return time.Now().UTC() }

// work runs a worker until stop is called.
func work(t *testing.T, q *storequeue.Queue, handle func(context.Context, sync.Message) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := q.Work(ctx, handle); !errors.Is(err, context.Canceled) {
			t.Errorf("the worker ended: %v", err)
		}
	}()
	return func() { cancel(); <-ended }
}

func TestMessagesOfOneClusterAreOne(t *testing.T) {
	db := open(t)
	q := storequeue.New(db, utc)
	for range 3 {
		if err := q.Send(t.Context(), message("a"), message("b")); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, db); n != 2 {
		t.Errorf("%d messages wait, want 2", n)
	}
	got := make(chan sync.Message, 9)
	stop := work(t, q, func(_ context.Context, m sync.Message) error { got <- m; return nil })
	first, second := <-got, <-got
	if first.Cluster == second.Cluster {
		t.Errorf("one cluster came twice")
	}
	stop()
	if n := count(t, db); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// A message sent while its cluster is handled is not swallowed by the end of that handling.
func TestSentAnewWhileHandled(t *testing.T) {
	db := open(t)
	q := storequeue.New(db, utc)
	if err := q.Send(t.Context(), message("a")); err != nil {
		t.Fatal(err)
	}
	began, release := make(chan struct{}, 9), make(chan struct{})
	stop := work(t, q, func(context.Context, sync.Message) error { began <- struct{}{}; <-release; return nil })
	<-began
	if err := q.Send(t.Context(), message("a")); err != nil {
		t.Fatal(err)
	}
	close(release)
	<-began // the second time
	stop()
}

func TestAHangingClusterHoldsUpNoOther(t *testing.T) {
	q := storequeue.New(open(t), utc)
	if err := q.Send(t.Context(), message("hangs")); err != nil {
		t.Fatal(err)
	}
	began, others := make(chan struct{}), make(chan string, 9)
	stop := work(t, q, func(ctx context.Context, m sync.Message) error {
		if m.Cluster == "hangs" {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		}
		others <- string(m.Cluster)
		return nil
	})
	<-began
	for i := range 5 {
		if err := q.Send(t.Context(), message(fmt.Sprint("ok", i))); err != nil {
			t.Fatal(err)
		}
		<-others
	}
	stop()
}

// clock is moved by the test.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().UTC().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// What keeps failing comes again with pauses that grow to a minute, for ever, although it is sent anew all the time, and is
// handled in the end. The clock is the bubble's, so the pauses are counted and not waited for.
func TestWhatKeepsFailingPauses(t *testing.T) {
	for name, during := range map[string]bool{"sent anew between tries": false, "sent anew during each": true} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { keepsFailing(t, during) }) })
	}
}

func keepsFailing(t *testing.T, during bool) {
	db := open(t)
	q := storequeue.New(db, utc)
	send := func() {
		if err := q.Send(t.Context(), message("bad")); err != nil {
			t.Error(err)
		}
	}
	const tries = 60
	var at []time.Time
	var failed atomic.Int64
	handled := make(chan struct{})
	send()
	stop := work(t, q, func(context.Context, sync.Message) error {
		at = append(at, time.Now())
		if failed.Add(1) == tries {
			close(handled)
			return nil
		}
		if during {
			send()
		}
		return errors.New("the store does not answer")
	})
	if !during {
		done := make(chan struct{})
		defer func() { close(done); synctest.Wait() }()
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(300 * time.Millisecond):
				}
				if failed.Load() < tries-1 {
					send()
				}
			}
		}()
	}
	<-handled
	synctest.Wait()
	stop()
	for i := 1; i < tries; i++ {
		want := min(time.Second<<min(i-1, 10), time.Minute)
		if got := at[i].Sub(at[i-1]); got < want || got > want+time.Second {
			t.Errorf("pause %d was %s, want %s", i, got, want)
		}
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d messages wait, and the last try succeeded", n)
	}
}

// However many messages wait, only so many are handled at once, and all are in the end.
func TestRunningIsBounded(t *testing.T) {
	q := storequeue.New(open(t), utc)
	var all []sync.Message
	for i := range 150 {
		all = append(all, message(fmt.Sprint("c", i)))
	}
	if err := q.Send(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	began, release := make(chan struct{}, len(all)), make(chan struct{})
	stop := work(t, q, func(context.Context, sync.Message) error { began <- struct{}{}; <-release; return nil })
	defer stop()
	for range 64 {
		<-began
	}
	select {
	case <-began:
		close(release)
		t.Fatal("more than 64 at once")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	for range len(all) - 64 {
		<-began
	}
}

func TestNotBefore(t *testing.T) {
	now := &clock{}
	q := storequeue.New(open(t), now.now)
	later := message("a")
	later.NotBefore = now.now().Add(time.Hour)
	if err := q.Send(t.Context(), later, message("a")); err != nil {
		t.Fatal(err)
	}
	got := make(chan sync.Message, 9)
	stop := work(t, q, func(_ context.Context, m sync.Message) error { got <- m; return nil })
	defer stop()
	if m := <-got; !m.NotBefore.IsZero() {
		t.Errorf("the later message came first")
	}
	now.advance(time.Hour)
	if err := q.Send(t.Context(), message("b")); err != nil { // wakes the worker
		t.Fatal(err)
	}
	for range 2 {
		if m := <-got; m.Cluster == "a" && m.NotBefore.IsZero() {
			t.Errorf("the first message came again")
		}
	}
}
