package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

var concurrency = []promise{
	{"No update is lost between writers at once", func(w *world) {
		const writers, rounds = 8, 25
		counter, twin := w.user("counter"), store.Meta(newTenant())
		w.commit(store.Put(counter, 0, []byte("0")), store.Put(twin, 0, []byte("0")))
		w.together(writers, func(ctx context.Context, n int) error {
			for done := 0; done < rounds; {
				items, err := w.db.Get(ctx, counter, twin)
				if err != nil {
					return err
				}
				value, err := strconv.Atoi(string(items[0].Body))
				if err != nil {
					return err
				}
				body := []byte(strconv.Itoa(value + 1))
				switch err := w.db.Commit(ctx, store.Put(counter, items[0].Version, body), store.Put(twin, items[1].Version, body)); {
				case err == nil:
					done++
				case !errors.Is(err, core.Conflict):
					return err
				}
			}
			return nil
		})
		w.wantBody(counter, strconv.Itoa(writers*rounds))
		w.wantBody(twin, strconv.Itoa(writers*rounds))
	}},
	{"One of many creators wins", func(w *world) {
		for round := range 10 {
			k := w.user(fmt.Sprint("code", round))
			var mu sync.Mutex
			var winners []string
			w.together(8, func(ctx context.Context, n int) error {
				err := w.db.Commit(ctx, store.Put(k, 0, []byte(fmt.Sprint(n))), store.Put(w.user(fmt.Sprint("trace", round, n)), 0, nil))
				if err == nil {
					mu.Lock()
					winners = append(winners, fmt.Sprint(n))
					mu.Unlock()
				} else if !errors.Is(err, core.Conflict) {
					return err
				}
				return nil
			})
			if len(winners) != 1 {
				w.Fatalf("%d of 8 creators were told that they made it", len(winners))
			}
			w.wantBody(k, winners[0])
			r := store.Users(w.tenant)
			r.From, r.To = fmt.Sprint("trace", round), fmt.Sprint("trace", round, "~")
			if n := len(w.list(r)); n != 1 {
				w.Errorf("%d creators left a trace", n)
			}
		}
	}},
	{"Get reads one consistent snapshot", func(w *world) {
		// All items hold the same number at any time; every Get must see it so.
		keys := []store.Key{w.user("a"), store.Meta(newTenant()), w.user("z"), store.Group(w.tenant, "g")}
		w.together(6, func(ctx context.Context, n int) error {
			for i := range 60 {
				items, err := w.db.Get(ctx, keys...)
				if err != nil {
					return err
				}
				for _, it := range items[1:] {
					if it.Version != items[0].Version || string(it.Body) != string(items[0].Body) {
						return fmt.Errorf("saw %q (version %d) beside %q (version %d)", items[0].Body, items[0].Version, it.Body, it.Version)
					}
				}
				if n%3 != 0 {
					continue // a reader
				}
				var ops []store.Op
				for _, it := range items {
					ops = append(ops, store.Put(it.Key, it.Version, fmt.Appendf(nil, "%d.%d", n, i)))
				}
				if i%10 == 9 {
					for j, it := range items {
						ops[j] = store.Delete(it.Key, it.Version)
					}
				}
				if err := w.db.Commit(ctx, ops...); err != nil && !errors.Is(err, core.Conflict) {
					return err
				}
			}
			return nil
		})
	}},
	{"A List is never torn by writers at once", func(w *world) {
		// What is there all the time is listed every time, in order, once, while others come and go between.
		w.fill(40)
		w.together(4, func(ctx context.Context, n int) error {
			for i := range 25 {
				if n < 2 {
					k := w.user(fmt.Sprintf("u%05d-%d", rand.IntN(40), n))
					items, err := w.db.Get(ctx, k)
					if err != nil {
						return err
					}
					op := store.Put(k, items[0].Version, []byte("x"))
					if items[0].Version != 0 {
						op = store.Delete(k, items[0].Version)
					}
					if err := w.db.Commit(ctx, op); err != nil {
						return err
					}
					continue
				}
				r := store.Users(w.tenant)
				r.Descending = i%2 == 1
				lasting, last := 0, ""
				for it, err := range w.db.List(ctx, r) {
					if err != nil {
						return err
					}
					if last != "" && (it.Key.Sort() > last) == r.Descending || it.Key.Sort() == last {
						return fmt.Errorf("%q came after %q", it.Key.Sort(), last)
					}
					if last = it.Key.Sort(); len(last) == 6 {
						lasting++
					}
				}
				if lasting != 40 {
					return fmt.Errorf("listed %d items of 40", lasting)
				}
			}
			return nil
		})
	}},
	{"Histories of concurrent calls are linearizable", func(w *world) { w.histories(nil) }},
	{"Histories of concurrent calls with faults are linearizable", func(w *world) {
		w.histories(func(seed uint64) func(Call) Fault { return RandomFaults(seed, 0.08) })
	}},
}

// together runs fn in n goroutines and fails the test with their first error.
func (w *world) together(n int, fn func(ctx context.Context, n int) error) {
	w.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() {
			if err := fn(w.Context(), i); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		w.Fatal(err)
	}
}

// seeds is how many histories are tried. A store that a network lies before stops after a while, but not before it had
// fewSeeds.
func seeds() uint64 {
	if testing.Short() {
		return 8
	}
	return 150
}

const (
	fewSeeds  = 3
	seedsTime = 8 * time.Second
)

// Histories holds what concurrent callers of a store are told, of which some may be that a call failed, to some order of the
// calls. Run does it as well; this is for a store that fails by itself. Since there is time for a few histories only, each run
// tries others: it logs the seed of the first.
func Histories(t *testing.T, db store.DB) {
	first := rand.Uint64()
	t.Logf("histories from seed %d", first)
	(&world{T: t, db: db}).historiesFrom(first, nil)
}

func (w *world) histories(plan func(seed uint64) func(Call) Fault) {
	w.historiesFrom(0, plan)
}

func (w *world) historiesFrom(first uint64, plan func(seed uint64) func(Call) Fault) {
	ok, conflicts, unknown := 0, 0, 0
	begin := time.Now()
	for n := range seeds() {
		if n >= fewSeeds && time.Since(begin) > seedsTime {
			break
		}
		seed, db := first+n, w.db
		if plan != nil {
			db = &Faulty{DB: db, Plan: plan(seed)}
		}
		h := record(w.Context(), db, seed)
		if err := h.check(); err != nil {
			w.Fatalf("seed %d: %v", seed, err)
		}
		ok, conflicts, unknown = ok+h.outcomes[applied], conflicts+h.outcomes[conflict], unknown+h.outcomes[lost]
	}
	w.Logf("commits: %d applied, %d conflicts, %d of unknown outcome", ok, conflicts, unknown)
	if ok == 0 || conflicts == 0 || plan != nil && unknown == 0 {
		w.Error("the histories do not hold every outcome, so they show little")
	}
}
