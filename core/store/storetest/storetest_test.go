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

// The units are those of DynamoDB, whatever the store. adapters/dynamodb compares them with DynamoDB's own.
func TestCounterUnits(t *testing.T) {
	c := &storetest.Counter{DB: open(t), Metered: true}
	ctx := t.Context()
	large, small := store.Meta("acme"), store.User("acme", "small")
	version := func(k store.Key) store.Version {
		items, err := c.DB.Get(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		return items[0].Version
	}
	for _, tt := range []struct {
		what string
		call func() error
		want storetest.Units
	}{
		{"create 5,000 bytes", func() error { return c.Commit(ctx, store.Put(large, 0, make([]byte, 5000))) }, storetest.Units{Write: 5}},
		{"shrink it", func() error { return c.Commit(ctx, store.Put(large, version(large), make([]byte, 4990))) }, storetest.Units{Write: 5}},
		{"a check and a put", func() error { return c.Commit(ctx, store.Check(large, version(large)), store.Put(small, 0, nil)) }, storetest.Units{Write: 2*5 + 2*1}},
		{"checks alone are reads", func() error {
			return c.Commit(ctx, store.Check(large, version(large)), store.Check(small, version(small)))
		}, storetest.Units{Read: 2*2 + 2*1}},
		{"a get", func() error { _, err := c.Get(ctx, large); return err }, storetest.Units{Read: 2}},
		{"a get of several", func() error { _, err := c.Get(ctx, large, small, store.Meta("none")); return err }, storetest.Units{Read: 2*2 + 2 + 2}},
		{"a list of nothing", func() error {
			for range c.List(ctx, store.Groups("acme")) {
			}
			return nil
		}, storetest.Units{Read: 1}},
		{"a delete", func() error { return c.Commit(ctx, store.Delete(large, version(large))) }, storetest.Units{Write: 5}},
	} {
		c.Reset()
		if err := tt.call(); err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		if got := c.Counts().Units; got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
	// A list read to the end, and one that is left at once: both have paid for the first page.
	for i := range 40 {
		if err := c.DB.Commit(ctx, store.Put(store.Group("acme", core.GroupName(rune('A'+i))), 0, make([]byte, store.MaxBody))); err != nil {
			t.Fatal(err)
		}
	}
	for range c.List(ctx, store.Groups("acme")) {
		break
	}
	page := c.Reset().Units.Read
	for range c.List(ctx, store.Groups("acme")) {
	}
	if all := c.Reset().Units.Read; page < 256 || page > 264 || all < 1.2*page {
		t.Errorf("the first page cost %v units, all of it %v", page, all)
	}
}
