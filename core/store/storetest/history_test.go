package storetest

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core/store"
)

// A checker that accepts everything looks like one that works. So it is shown stores that lie, each in one way, and has to
// find every one of them out, beside the same store without the lie.
func TestHistoriesFindLies(t *testing.T) {
	for name, lie := range map[string]func(store.DB) store.DB{
		"commits late": func(db store.DB) store.DB {
			return &liar{DB: db, commit: func(ctx context.Context, n int64, ops []store.Op) error {
				if n%5 != 0 {
					return db.Commit(ctx, ops...)
				}
				go db.Commit(context.WithoutCancel(ctx), ops...)
				return nil
			}}
		},
		"forgets a commit": func(db store.DB) store.DB {
			return &liar{DB: db, commit: func(ctx context.Context, n int64, ops []store.Op) error {
				if n%10 == 0 {
					return nil
				}
				return db.Commit(ctx, ops...)
			}}
		},
		"forgets an operation": func(db store.DB) store.DB {
			return &liar{DB: db, commit: func(ctx context.Context, n int64, ops []store.Op) error {
				if len(ops) > 1 {
					ops = ops[1:]
				}
				return db.Commit(ctx, ops...)
			}}
		},
		"commits in two halves": func(db store.DB) store.DB {
			return &liar{DB: db, commit: func(ctx context.Context, n int64, ops []store.Op) error {
				if len(ops) < 2 {
					return db.Commit(ctx, ops...)
				}
				if err := db.Commit(ctx, ops[:1]...); err != nil {
					return err
				}
				return db.Commit(ctx, ops[1:]...)
			}}
		},
		"looks at no check": func(db store.DB) store.DB {
			return &liar{DB: db, commit: func(ctx context.Context, n int64, ops []store.Op) error {
				var changes []store.Op
				for _, op := range ops {
					if op.Verb != store.VerbCheck {
						changes = append(changes, op)
					}
				}
				if len(changes) == 0 {
					return nil
				}
				return db.Commit(ctx, changes...)
			}}
		},
		"reads the keys one by one": func(db store.DB) store.DB {
			return &liar{DB: db, get: func(ctx context.Context, keys []store.Key) (items []store.Item, err error) {
				for _, k := range keys {
					one, err := db.Get(ctx, k)
					if err != nil {
						return nil, err
					}
					items = append(items, one...)
					if other, err := db.Get(ctx, keys...); err != nil || len(other) == 0 { // takes its time
						return nil, err
					}
				}
				return items, nil
			}}
		},
		"reads from an old copy": func(db store.DB) store.DB {
			var old sync.Map
			return &liar{DB: db, get: func(ctx context.Context, keys []store.Key) ([]store.Item, error) {
				items, err := db.Get(ctx, keys...)
				for i, it := range items {
					if copied, ok := old.Swap(it.Key, it); ok {
						items[i] = copied.(store.Item)
					}
				}
				return items, err
			}}
		},
		"uses a version again": func(db store.DB) store.DB {
			return &liar{DB: db, get: func(ctx context.Context, keys []store.Key) ([]store.Item, error) {
				items, err := db.Get(ctx, keys...)
				for i := range items {
					if items[i].Version > 3 {
						items[i].Version = items[i].Version%3 + 1
					}
				}
				return items, err
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := record(t.Context(), db, 1).check(); err != nil {
				t.Errorf("the honest store: %v", err)
			}
			const tries = 300 // few are needed, by far
			for seed := range uint64(tries) {
				if record(t.Context(), lie(db), seed).check() != nil {
					return
				}
			}
			t.Errorf("%d histories did not show the lie", tries)
		})
	}
}

type liar struct {
	store.DB
	calls  atomic.Int64
	commit func(ctx context.Context, n int64, ops []store.Op) error
	get    func(ctx context.Context, keys []store.Key) ([]store.Item, error)
}

func (l *liar) Commit(ctx context.Context, ops ...store.Op) error {
	if l.commit == nil {
		return l.DB.Commit(ctx, ops...)
	}
	return l.commit(ctx, l.calls.Add(1), ops)
}

func (l *liar) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if l.get == nil {
		return l.DB.Get(ctx, keys...)
	}
	return l.get(ctx, keys)
}
