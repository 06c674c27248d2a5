// Package storetest holds a store.DB to the promise in its comment: Run has one subtest for each sentence of it. Every
// adapter passes the same suite. Beside it are two wrappers for tests all over the tree: Counter counts round trips, and
// Faulty fails as stores and networks do.
package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Run holds a store to its promise. open returns a store by whose items' expiry now decides. It is called once for each
// subtest, and may return the same store with another clock: every subtest keeps to tenants of its own. With -short, fewer
// histories of concurrent calls are tried.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) store.DB) {
	for _, group := range [][]promise{reads, lists, commits, versions, expiries, limits, isolation, concurrency, faults} {
		for _, p := range group {
			t.Run(strings.ReplaceAll(p.sentence, " ", "_"), func(t *testing.T) {
				c := &clock{t: time.Now().UTC().Truncate(time.Second)}
				p.test(&world{T: t, db: open(t, c.now), clock: c, tenant: newTenant()})
			})
		}
	}
}

// promise is a sentence of the port's comment and what shows that a store keeps it.
type promise struct {
	sentence string
	test     func(*world)
}

// world is what one subtest has: a store, its clock, and a tenant of its own.
type world struct {
	*testing.T
	db     store.DB
	clock  *clock
	tenant core.TenantID
}

func newTenant() core.TenantID { return core.TenantID("t-" + core.NewID()[:16]) }

// clock is the store's, and moves when told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// user is a key of the test's tenant. Its sort key is the name.
func (w *world) user(name string) store.Key { return store.User(w.tenant, core.Email(name)) }

func (w *world) commit(ops ...store.Op) {
	w.Helper()
	if err := w.db.Commit(w.Context(), ops...); err != nil {
		w.Fatalf("commit: %v", err)
	}
}

// put writes a body over whatever is there, and returns the new version.
func (w *world) put(k store.Key, body string) store.Version {
	w.Helper()
	w.commit(store.Put(k, w.get(k).Version, []byte(body)))
	return w.get(k).Version
}

func (w *world) getAll(keys ...store.Key) []store.Item {
	w.Helper()
	items, err := w.db.Get(w.Context(), keys...)
	if err != nil {
		w.Fatalf("get: %v", err)
	}
	if len(items) != len(keys) {
		w.Fatalf("get of %d keys returned %d items", len(keys), len(items))
	}
	return items
}

func (w *world) get(k store.Key) store.Item {
	w.Helper()
	return w.getAll(k)[0]
}

func (w *world) list(r store.Range) (items []store.Item) {
	w.Helper()
	for it, err := range w.db.List(w.Context(), r) {
		if err != nil {
			w.Fatalf("list: %v", err)
		}
		items = append(items, it)
	}
	return items
}

// names lists a range and returns the sort keys.
func (w *world) names(r store.Range) string {
	w.Helper()
	var names []string
	for _, it := range w.list(r) {
		names = append(names, it.Key.Sort())
	}
	return strings.Join(names, " ")
}

// wantBody checks that the key holds exactly that body.
func (w *world) wantBody(k store.Key, body string) {
	w.Helper()
	if it := w.get(k); it.Version == 0 || string(it.Body) != body {
		w.Errorf("%s holds %.40q (version %d), want %.40q", k, it.Body, it.Version, body)
	}
}

// wantAbsent checks that the key holds nothing, and that the item says nothing but the key.
func (w *world) wantAbsent(k store.Key) {
	w.Helper()
	it := w.get(k)
	if it.Version != 0 || it.Body != nil || !it.Expires.IsZero() || it.Key != k {
		w.Errorf("%s holds %+v, want the bare key", k, it)
	}
}

// wantError checks the kind of an error.
func (w *world) wantError(what string, err error, kind core.Kind) {
	w.Helper()
	if !errors.Is(err, kind) {
		w.Errorf("%s: error %v, want %q", what, err, string(kind))
	}
}

// fill puts n items, named so that their order is their number's, and returns the names.
func (w *world) fill(n int) (names []string) {
	w.Helper()
	var ops []store.Op
	for i := range n {
		names = append(names, fmt.Sprintf("u%05d", i))
		ops = append(ops, store.Put(w.user(names[i]), 0, []byte(names[i])))
		if len(ops) == store.MaxOps || i == n-1 {
			w.commit(ops...)
			ops = nil
		}
	}
	return names
}
