package storequeue_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
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

func count(t *testing.T, db store.DB, dead bool) (n int) {
	t.Helper()
	for _, err := range db.List(context.Background(), store.QueuedAll(dead)) {
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
	if n := count(t, db, false); n != 2 {
		t.Errorf("%d messages wait, want 2", n)
	}
	got := make(chan sync.Message, 9)
	stop := work(t, q, func(_ context.Context, m sync.Message) error { got <- m; return nil })
	first, second := <-got, <-got
	if first.Cluster == second.Cluster {
		t.Errorf("one cluster came twice")
	}
	stop()
	if n := count(t, db, false); n != 0 {
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

func TestWhatKeepsFailingEndsInTheDeadLetters(t *testing.T) {
	db, now := open(t), &clock{}
	q := storequeue.New(db, now.now)
	if err := q.Send(t.Context(), message("bad")); err != nil {
		t.Fatal(err)
	}
	tries := 0
	wake := func() { // a message for another cluster wakes the worker, which then sees the moved clock
		if err := q.Send(t.Context(), message("good")); err != nil {
			t.Error(err)
		}
	}
	failed := make(chan struct{}, 1)
	stop := work(t, q, func(_ context.Context, m sync.Message) error {
		if m.Cluster == "good" {
			return nil
		}
		tries++ // one message is never handled twice at once, which the race detector would see
		failed <- struct{}{}
		return errors.New("the cluster does not answer")
	})
	defer stop()
	deadline := time.After(20 * time.Second)
	for count(t, db, true) == 0 {
		select {
		case <-failed:
		case <-deadline:
			t.Fatalf("not in the dead letters after %d tries", tries)
		case <-time.After(time.Millisecond):
			now.advance(2 * time.Minute) // more than any pause
			wake()
		}
	}
	if tries != 40 {
		t.Errorf("tried %d times, want 40", tries)
	}
}

// A message that fails is counted on and pauses, although it is sent anew all the time, between attempts and during one.
func TestSendingAnewForgivesNothing(t *testing.T) {
	for name, during := range map[string]bool{"between": false, "during": true} {
		t.Run(name, func(t *testing.T) { testSendingAnew(t, during) })
	}
}

func testSendingAnew(t *testing.T, during bool) {
	db, now := open(t), &clock{}
	q := storequeue.New(db, now.now)
	send := func() {
		if err := q.Send(t.Context(), message("bad")); err != nil {
			t.Error(err)
		}
	}
	var tries atomic.Int32
	failed := make(chan struct{}, 1)
	send()
	stop := work(t, q, func(ctx context.Context, _ sync.Message) error {
		tries.Add(1)
		if during {
			send()
		}
		select {
		case failed <- struct{}{}:
		case <-ctx.Done():
		}
		return errors.New(strings.Repeat("é", 2000))
	})
	defer stop()
	<-failed
	for range 50 { // within the pause
		send()
	}
	if n := tries.Load(); n > 2 {
		t.Errorf("tried %d times within a second", n)
	}
	deadline := time.After(20 * time.Second)
	for count(t, db, true) == 0 {
		select {
		case <-failed:
		case <-deadline:
			t.Fatalf("not in the dead letters after %d tries", tries.Load())
		case <-time.After(time.Millisecond):
			now.advance(2 * time.Minute)
			if count(t, db, false) > 0 {
				send()
			}
		}
	}
	if n := tries.Load(); n < 40 || n > 42 {
		t.Errorf("tried %d times, want 40", n)
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
