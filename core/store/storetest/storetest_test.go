package storetest_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

func open(t *testing.T) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestCounter(t *testing.T) {
	c := &storetest.Counter{DB: open(t)}
	ctx := t.Context()
	var ops []store.Op
	for range 100 {
		ops = append(ops, store.Put(store.User("acme", core.Email(core.NewID())), 0, nil))
	}
	if err := c.Commit(ctx, ops...); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, ops[0].Key, ops[1].Key, store.Meta("acme")); err != nil {
		t.Fatal(err)
	}
	list := func(r store.Range) {
		for _, err := range c.List(ctx, r) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	never := c.List(ctx, store.Users("acme"))
	list(store.Groups("acme"))
	list(store.Users("acme"))
	want := storetest.Counts{Gets: 1, Pages: 2, Commits: 1, GetItems: 3, ListItems: 100, Ops: 100}
	if got := c.Counts(); got != want || got.RoundTrips() != 4 {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got := c.Reset(); got != want {
		t.Errorf("Reset returned %+v, want %+v", got, want)
	}
	if err := c.Commit(ctx, store.Put(store.Meta("acme"), 7, nil)); !errors.Is(err, core.Conflict) {
		t.Fatal(err)
	}
	if err := c.Commit(ctx, store.Put(store.User("acme", "one more"), 0, nil)); err != nil {
		t.Fatal(err)
	}
	for range never { // the 101st item is on a second page
	}
	want = storetest.Counts{Pages: 2, ListItems: 101, Commits: 2, Ops: 2}
	if got := c.Counts(); got != want {
		t.Errorf("after Reset: counted %+v, want %+v", got, want)
	}
}

func TestFaulty(t *testing.T) {
	db := open(t)
	k := store.Meta("acme")
	if err := db.Commit(t.Context(), store.Put(k, 0, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	get := func(f *storetest.Faulty, ctx context.Context) error {
		_, err := f.Get(ctx, k)
		return err
	}
	for fault, fails := range map[storetest.Fault]bool{
		storetest.NoFault: false, storetest.Delay: false, storetest.Refuse: true, storetest.LoseAnswer: true,
	} {
		f := &storetest.Faulty{DB: db, Plan: storetest.FaultOnce("Get", fault)}
		if err := get(f, t.Context()); errors.Is(err, core.Unavailable) != fails {
			t.Errorf("%v: error %v, want one: %v", fault, err, fails)
		}
		if err := get(f, t.Context()); err != nil {
			t.Errorf("%v: the second call has error %v", fault, err)
		}
	}
	n := 0
	f := &storetest.Faulty{DB: db, Plan: storetest.RandomFaults(1, 0.5)}
	for range 200 {
		if get(f, t.Context()) != nil {
			n++
		}
	}
	if n < 30 || n > 120 { // half of the calls meet a fault, and of those about half fail
		t.Errorf("%d of 200 calls failed", n)
	}
}
