package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// deliveries counts what a feed hands over, by body.
type deliveries struct {
	mu   sync.Mutex
	n    map[string]int
	more chan struct{}
}

func newDeliveries() *deliveries {
	return &deliveries{n: map[string]int{}, more: make(chan struct{}, 1000)}
}

func (d *deliveries) handle(fail func(body string, n int) error) func(context.Context, string, []byte) error {
	return func(_ context.Context, _ string, data []byte) error {
		body, err := firestore.EventBody(firestore.ContentType, data)
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.n[string(body)]++
		n := d.n[string(body)]
		d.mu.Unlock()
		if fail != nil {
			if err := fail(string(body), n); err != nil {
				return err
			}
		}
		d.more <- struct{}{}
		return nil
	}
}

// await waits until so many were handed over without an error.
func (d *deliveries) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-d.more:
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing comes any more: %v", d.n)
		}
	}
}

func TestFeed(t *testing.T) {
	p := newPair(t)
	event := func(name string) store.Op {
		return store.Put(store.Outbox(p.tenant, time.Now(), core.NewID()), 0, []byte(name))
	}
	p.commit(event("before"), store.Put(p.key("no event"), 0, []byte("no event")))

	d := newDeliveries()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	failures := make(chan string, 10)
	go func() {
		ended <- p.through.Feed(ctx, firestore.FeedOptions{
			RetryMin: 5 * time.Millisecond,
			Failed:   func(name string, attempt int, err error) { failures <- fmt.Sprint(attempt, " ", err) },
		}, d.handle(func(body string, n int) error {
			if body == "poor" && n < 3 {
				return errors.New("not yet")
			}
			return nil
		}))
	}()
	d.await(t, 1)
	p.commit(event("poor"))
	for i := range 5 {
		p.commit(event(fmt.Sprint(i)), store.Put(p.key(fmt.Sprint("change", i)), 0, nil))
	}
	d.await(t, 6)
	if a, b := <-failures, <-failures; a != "1 not yet" || b != "2 not yet" {
		t.Errorf("failures %q, %q", a, b)
	}
	d.mu.Lock()
	for body, n := range d.n {
		if want := map[bool]int{true: 3, false: 1}[body == "poor"]; n != want {
			t.Errorf("%q came %d times, want %d", body, n, want)
		}
	}
	if len(d.n) != 7 {
		t.Errorf("%d events came: %v", len(d.n), d.n)
	}
	d.mu.Unlock()

	why := errors.New("enough")
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("the feed ended with %v", err)
	}

	// A later one begins where it is told to.
	since := time.Now()
	p.commit(event("after"))
	late := newDeliveries()
	ctx, cancel = context.WithCancelCause(t.Context())
	go func() { ended <- p.through.Feed(ctx, firestore.FeedOptions{Since: since}, late.handle(nil)) }()
	late.await(t, 1)
	cancel(why)
	<-ended
	if len(late.n) != 1 || late.n["after"] != 1 {
		t.Errorf("delivered %v", late.n)
	}
}

// The listener breaks off again and again. Every event is delivered.
func TestFeedSurvivesItsListener(t *testing.T) {
	p := newPair(t)
	p.proxy.set(always("Listen", cut))
	d := newDeliveries()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.through.Feed(ctx, firestore.FeedOptions{RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond}, d.handle(nil))
	}()
	const events = 20
	for i := range events {
		p.commit(store.Put(store.Outbox(p.tenant, time.Now(), core.NewID()), 0, fmt.Append(nil, i)))
		if i == events/2 {
			p.proxy.set(nil) // with the listener cut after a few messages, some of many would never come
		}
	}
	d.await(t, events)
	cancel()
	<-ended
	if p.proxy.did[cut] == 0 {
		t.Error("the listener was never cut")
	}
}
