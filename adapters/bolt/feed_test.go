package bolt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// event is an operation that emits an event with that body.
func event(body string) store.Op {
	return store.Put(store.Outbox(acme, time.Now(), core.NewID()), 0, []byte(body))
}

// waitingEvents returns what the file's feed holds.
func waitingEvents(db *DB) (bodies []string) {
	db.file.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(feedBucket).ForEach(func(_, v []byte) error {
			bodies = append(bodies, string(v))
			return nil
		})
	})
	return bodies
}

// delivered gathers what a handler was given.
type delivered struct {
	mu     sync.Mutex
	bodies []string
}

func (d *delivered) add(body []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies = append(d.bodies, string(body))
}

func (d *delivered) sorted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.bodies))
}

// runFeed runs a feed until the returned function is called, which returns the feed's error.
func runFeed(db *DB, o FeedOptions, handle func(context.Context, []byte) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- db.Feed(ctx, o, handle) }()
	return func() error {
		cancel()
		return <-done
	}
}

// The feed carries out what commits put into the outbox, at the moment of the commit, and nothing else.
func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		var got delivered
		stop := runFeed(db, FeedOptions{}, func(_ context.Context, body []byte) error {
			got.add(body)
			return nil
		})
		begin := time.Now()
		one := event("one")
		commit(t, db, one, event("two"), store.Put(store.Meta(acme), 0, []byte("no event")))
		if err := db.Commit(t.Context(), event("of a conflict"), store.Check(store.Meta(acme), 0)); !errors.Is(err, core.Conflict) {
			t.Fatal(err)
		}
		v := get(t, db, one.Key).Version
		commit(t, db, store.Check(one.Key, v))
		commit(t, db, store.Delete(one.Key, v))
		commit(t, db, event(""))
		synctest.Wait()
		if want := []string{"", "one", "two"}; !slices.Equal(got.sorted(), want) {
			t.Errorf("delivered %q, want %q", got.sorted(), want)
		}
		// The bubble's clock stands still while anything runs: had the feed polled, it would have moved.
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("it took %v", waited)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("the feed ended with %v", err)
		}
		if left := waitingEvents(db); len(left) != 0 {
			t.Errorf("the file still has %q", left)
		}
	})
}

// What was not carried out waits in the file for the next feed, in this process or another; what was, is gone.
func TestFeedResumes(t *testing.T) {
	path := tempFile(t)
	db := open(t, path, Options{})
	for i := range 200 {
		commit(t, db, event(fmt.Sprintf("%03d", i)))
	}
	var first, second, third delivered
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Feed(ctx, FeedOptions{Workers: 1}, func(_ context.Context, body []byte) error {
		if string(body) >= "100" {
			cancel()
			return errors.New("down")
		}
		first.add(body)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(waitingEvents(db)); len(first.bodies) != 100 || n != 100 {
		t.Fatalf("%d of 100 events carried out, and %d wait in the file", len(first.bodies), n)
	}
	half := func(to *delivered) func(context.Context, []byte) error {
		return func(_ context.Context, body []byte) error {
			to.add(body)
			return nil
		}
	}
	stop := runFeed(db, FeedOptions{Workers: 1}, half(&second)) // the same process
	for len(second.sorted()) < 50 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path, Options{})
	stop = runFeed(db, FeedOptions{}, half(&third)) // another one
	commit(t, db, event("last"))
	for len(waitingEvents(db)) > 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	all := slices.Sorted(slices.Values(slices.Concat(first.bodies, second.bodies, third.bodies)))
	if len(all) != 201 || len(slices.Compact(all)) != 201 {
		t.Errorf("%d deliveries of 201 events", len(all))
	}
}

// An event that fails is tried again after growing pauses, and holds up no other.
func TestFeedRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		const attempts = 9
		var mu sync.Mutex
		tries := map[string][]time.Time{}
		failures := 0
		o := FeedOptions{RetryMin: time.Second, RetryMax: time.Minute, Failed: func(attempt int, err error) { failures++ }}
		stop := runFeed(db, o, func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			tries[string(body)] = append(tries[string(body)], time.Now())
			if string(body[:3]) == "bad" && len(tries[string(body)]) < attempts {
				return errors.New("down")
			}
			return nil
		})
		begin := time.Now()
		for i := range 300 { // most of them fail, over and over
			commit(t, db, event(fmt.Sprint("bad", i)))
		}
		commit(t, db, event("good"))
		synctest.Wait()
		mu.Lock()
		if got := tries["good"]; len(got) != 1 || got[0].Sub(begin) > time.Second {
			t.Errorf("the good event waited for the bad ones: %v", got)
		}
		mu.Unlock()
		time.Sleep(time.Hour)
		stop()
		if len(tries) != 301 || failures != 300*(attempts-1) {
			t.Errorf("%d events were tried, with %d failures", len(tries), failures)
		}
		for body, at := range tries {
			if body == "good" {
				continue
			}
			if len(at) != attempts {
				t.Fatalf("%s was tried %d times", body, len(at))
			}
			for n := range attempts - 1 {
				want := min(time.Second<<n, time.Minute)
				if pause := at[n+1].Sub(at[n]); pause < want/2 || pause > want+time.Second {
					t.Errorf("%s: pause %d was %v, want half of %v up to all of it", body, n+1, pause, want)
				}
			}
		}
		if left := waitingEvents(db); len(left) != 0 {
			t.Errorf("the file still has %d events", len(left))
		}
	})
}

// Handlers that hang lose their context, and those that have failed before leave workers to the others.
func TestFeedHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		var mu sync.Mutex
		running, most := 0, 0
		seen := map[string]time.Time{}
		stop := runFeed(db, FeedOptions{Workers: 4, Timeout: time.Minute}, func(ctx context.Context, body []byte) error {
			mu.Lock()
			running++
			most = max(most, running)
			seen[string(body)] = time.Now()
			mu.Unlock()
			defer func() {
				mu.Lock()
				running--
				mu.Unlock()
			}()
			if string(body) == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		for range 4 {
			commit(t, db, event("hangs"))
		}
		time.Sleep(90 * time.Second) // each has failed once, and hangs again
		begin := time.Now()
		commit(t, db, event("good"))
		synctest.Wait()
		mu.Lock()
		if at, ok := seen["good"]; !ok || at.Sub(begin) != 0 {
			t.Errorf("the good event waited for hanging ones: %v", at)
		}
		mu.Unlock()
		stop()
		if most != 4 {
			t.Errorf("%d handlers ran at once, want 4", most)
		}
	})
}

// Mischief repeats and reorders, so that tests with it find handlers that cannot bear either.
func TestFeedMischief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{NoSync: true})
		var got delivered
		var want []string
		failed := map[string]bool{}
		stop := runFeed(db, FeedOptions{Mischief: 7}, func(_ context.Context, body []byte) error {
			got.add(body)
			got.mu.Lock()
			defer got.mu.Unlock()
			if string(body) == "050" && !failed["050"] {
				failed["050"] = true
				return errors.New("down")
			}
			return nil
		})
		for i := range 100 {
			want = append(want, fmt.Sprintf("%03d", i))
			commit(t, db, event(want[i]))
		}
		time.Sleep(time.Minute)
		stop()
		all := got.sorted()
		if once := slices.Compact(slices.Clone(all)); !slices.Equal(once, want) {
			t.Errorf("delivered %d different events, want %d", len(once), len(want))
		}
		if len(all) < 150 {
			t.Errorf("only %d deliveries of 100 events: nothing was repeated", len(all))
		}
		if slices.IsSorted(got.bodies) {
			t.Error("nothing was out of order")
		}
		if left := waitingEvents(db); len(left) != 0 {
			t.Errorf("the file still has %q", left)
		}
	})
}

// No event is passed over while writers and the feed run at once.
func TestFeedUnderLoad(t *testing.T) {
	db := open(t, tempFile(t), Options{NoSync: true})
	const writers, each = 8, 250
	var mu sync.Mutex
	got := map[string]int{}
	all := make(chan struct{})
	stop := runFeed(db, FeedOptions{}, func(_ context.Context, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if got[string(body)]++; len(got) == writers*each {
			close(all)
		}
		return nil
	})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := db.Commit(t.Context(), event(fmt.Sprint(w, " ", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-all:
	case <-time.After(20 * time.Second):
	}
	stop()
	if len(got) != writers*each {
		t.Errorf("%d of %d events were delivered", len(got), writers*each)
	}
	if n := slices.Max(slices.Collect(maps.Values(got))); n != 1 {
		t.Errorf("an event was delivered %d times, though nothing failed", n)
	}
	if left := waitingEvents(db); len(left) != 0 {
		t.Errorf("the file still has %d events", len(left))
	}
}

func TestFeedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		nothing := func(context.Context, []byte) error { return nil }
		stop := runFeed(db, FeedOptions{}, nothing)
		synctest.Wait()
		if err := db.Feed(t.Context(), FeedOptions{}, nothing); !errors.Is(err, core.Conflict) {
			t.Errorf("a second feed: %v", err)
		}
		stop()

		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := db.Feed(ctx, FeedOptions{}, nothing); err != cause {
			t.Errorf("with an ended context: %v", err)
		}

		done := make(chan error)
		go func() { done <- db.Feed(t.Context(), FeedOptions{}, nothing) }()
		synctest.Wait()
		db.Close()
		if err := <-done; !errors.Is(err, os.ErrClosed) || !errors.Is(err, core.Unavailable) {
			t.Errorf("with a closed store: %v", err)
		}
	})
}
