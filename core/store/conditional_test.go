package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// A precondition is part of the commit that it guards: whatever the commit writes, it does not happen once the item is
// another (RFC 9110 §13.1.1).
func TestMatching(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	db := store.Conditional(open(t, func() time.Time { return now }))
	ctx := t.Context()
	guarded, other := store.Group("acme", "guarded"), store.Group("acme", "other")
	commit := func(ctx context.Context, ops ...store.Op) error { return db.Commit(ctx, ops...) }
	version := func(k store.Key) store.Version {
		t.Helper()
		items, err := db.Get(ctx, k)
		if err != nil {
			t.Fatal(err)
		}
		return items[0].Version
	}
	if err := commit(ctx, store.Put(guarded, 0, []byte("1")), store.Put(other, 0, []byte("1"))); err != nil {
		t.Fatal(err)
	}
	seen := version(guarded)

	holds := store.Matching(ctx, guarded, seen)
	if err := commit(holds, store.Put(other, version(other), []byte("2"))); err != nil {
		t.Fatalf("another item, while the condition holds: %v", err)
	}
	if err := commit(holds, store.Check(guarded, seen), store.Put(other, version(other), []byte("3"))); err != nil {
		t.Fatalf("a commit that checks the item itself: %v", err)
	}
	if err := commit(holds, store.Put(guarded, seen, []byte("2"))); err != nil {
		t.Fatalf("the item itself: %v", err)
	}
	if err := commit(holds, store.Put(guarded, version(guarded), []byte("3")), store.Put(other, version(other), []byte("4"))); err != nil {
		t.Fatalf("what follows the change in the same request: %v", err)
	}

	late := store.Matching(ctx, guarded, seen)
	was := version(other)
	for what, ops := range map[string][]store.Op{
		"another item":                   {store.Put(other, was, []byte("x"))},
		"the item, as it is now":         {store.Put(guarded, version(guarded), []byte("x"))},
		"the item, as it was":            {store.Put(guarded, seen, []byte("x"))},
		"both":                           {store.Put(other, was, []byte("x")), store.Delete(guarded, version(guarded))},
		"another item, that changed too": {store.Put(other, was+1_000_000, []byte("x"))},
	} {
		if err := commit(late, ops...); !errors.Is(err, core.Outdated) || errors.Is(err, core.Conflict) {
			t.Errorf("%s, after the guarded item changed: %v", what, err)
		}
	}
	if version(other) != was {
		t.Error("a commit under a condition that does not hold changed something")
	}
	if err := commit(store.Matching(ctx, guarded, version(guarded)), store.Put(other, was+1_000_000, nil)); !errors.Is(err, core.Conflict) {
		t.Errorf("a conflict that the condition has nothing to do with: %v", err)
	}
	if err := commit(store.Matching(ctx, store.Group("acme", "new"), 0), store.Put(store.Group("acme", "new"), 0, nil)); err != nil {
		t.Errorf("on condition that there is none: %v", err)
	}
}

// An act that may happen once puts its mark with its own commit, which is the one with the audit record.
func TestOnlyOnce(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	db := store.Conditional(open(t, func() time.Time { return now }))
	mark := store.Once("acme", "hash")
	once := func() context.Context {
		return store.OnlyOnce(t.Context(), store.Put(mark, 0, nil).Until(now.Add(time.Hour)))
	}
	n := 0
	act := func(ctx context.Context) error {
		n++
		return db.Commit(ctx, store.Put(store.Group("acme", core.GroupName(fmt.Sprint("g", n))), 0, nil), store.Put(store.AuditNew("acme", now, fmt.Sprint(n)), 0, nil))
	}
	there := func(k store.Key) bool {
		items, err := db.Get(t.Context(), k)
		return err == nil && items[0].Version != 0
	}
	ctx := once()
	if err := db.Commit(ctx, store.Put(store.Group("acme", "prepared"), 0, nil)); err != nil || there(mark) {
		t.Fatalf("a commit without a record: %v, marked %v", err, there(mark))
	}
	if err := act(ctx); err != nil || !there(mark) {
		t.Fatalf("the act: %v, marked %v", err, there(mark))
	}
	if err := act(ctx); err != nil {
		t.Errorf("what follows the act in the same request: %v", err)
	}
	if err := act(once()); !errors.Is(err, store.ErrRepeated) || errors.Is(err, core.Conflict) || there(store.Group("acme", core.GroupName(fmt.Sprint("g", n)))) {
		t.Errorf("the act again: %v", err)
	}
	other := store.OnlyOnce(t.Context(), store.Put(store.Once("acme", "other"), 0, nil))
	if err := db.Commit(other, store.Put(store.Group("acme", "g1"), 0, nil), store.Put(store.AuditNew("acme", now, "x"), 0, nil)); !errors.Is(err, core.Conflict) {
		t.Errorf("a conflict that the mark has nothing to do with: %v", err)
	}
	if there(store.Once("acme", "other")) {
		t.Error("an act that failed left its mark, so it could not be tried again")
	}
	now = now.Add(time.Hour)
	if err := act(once()); err != nil {
		t.Errorf("after the mark ran out: %v", err)
	}
}

// Of many at once exactly one goes through, by either kind of condition.
func TestConditionsUnderConcurrency(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	db := store.Conditional(open(t, func() time.Time { return now }))
	k := store.Group("acme", "g")
	if err := db.Commit(t.Context(), store.Put(k, 0, nil)); err != nil {
		t.Fatal(err)
	}
	for what, under := range map[string]func(store.Version) context.Context{
		"matching": func(v store.Version) context.Context { return store.Matching(t.Context(), k, v) },
		"only once": func(store.Version) context.Context {
			return store.OnlyOnce(t.Context(), store.Put(store.Once("acme", "h"), 0, nil))
		},
	} {
		items, err := db.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		results := make([]error, 20)
		for i := range results {
			wait.Go(func() {
				ctx := under(items[0].Version)
				results[i] = store.Retry(ctx, func() error {
					at, err := db.Get(ctx, k)
					if err != nil {
						return err
					}
					return db.Commit(ctx, store.Put(k, at[0].Version, []byte(what)), store.Put(store.AuditNew("acme", now, fmt.Sprint(what, i)), 0, nil))
				})
			})
		}
		wait.Wait()
		won := 0
		for _, err := range results {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, core.Outdated) && !errors.Is(err, store.ErrRepeated):
				t.Errorf("%s: %v", what, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d went through", what, won)
		}
	}
}
