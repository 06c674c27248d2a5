package bolt

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

const acme core.TenantID = "acme"

func openBench(b *testing.B, o Options) *DB {
	b.Helper()
	db, err := Open(filepath.Join(b.TempDir(), "store.db"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

// A token request reads about three items: the tenant, who asks, and what stands against it.
func BenchmarkGet3(b *testing.B) {
	db := openBench(b, Options{NoSync: true})
	body := make([]byte, 500)
	for n := 0; n < 10_000; n += 100 {
		var ops []store.Op
		for i := range 100 {
			ops = append(ops, store.Put(store.User(acme, core.Email(fmt.Sprintf("user-%06d@example.com", n+i))), 0, body))
		}
		if err := db.Commit(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Commit(b.Context(), store.Put(store.Meta(acme), 0, body), store.Put(store.Application(acme, "robot"), 0, body)); err != nil {
		b.Fatal(err)
	}
	keys := []store.Key{store.Meta(acme), store.Application(acme, "robot"), store.User(acme, "user-004711@example.com")}
	for name, run := range map[string]func(*testing.B, func()){
		"alone": func(b *testing.B, fn func()) {
			for b.Loop() {
				fn()
			}
		},
		"parallel": func(b *testing.B, fn func()) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					fn()
				}
			})
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, func() {
				items, err := db.Get(b.Context(), keys...)
				if err != nil || items[2].Version == 0 {
					b.Fatal(items, err)
				}
			})
		})
	}
}

// A change of access writes about six items. "gain" is how many times more commits a second 64 writers make than one:
// what sharing an fsync brings.
func BenchmarkCommit6(b *testing.B) {
	for _, sync := range []bool{true, false} {
		name := map[bool]string{true: "sync", false: "nosync"}[sync]
		b.Run(name, func(b *testing.B) {
			var alone float64
			b.Run("alone", func(b *testing.B) {
				w := newWriter(openBench(b, Options{NoSync: !sync}))
				begin := time.Now()
				for b.Loop() {
					w.commit(b)
				}
				alone = float64(b.N) / time.Since(begin).Seconds()
			})
			b.Run("parallel", func(b *testing.B) {
				w := newWriter(openBench(b, Options{NoSync: !sync}))
				b.SetParallelism(32) // times GOMAXPROCS
				begin := time.Now()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						w.commit(b)
					}
				})
				rate := float64(b.N) / time.Since(begin).Seconds()
				b.ReportMetric(rate, "commits/s")
				b.ReportMetric(rate/alone, "gain")
			})
		})
	}
}

type writer struct {
	db   *DB
	n    atomic.Uint64
	body []byte
}

func newWriter(db *DB) *writer { return &writer{db: db, body: make([]byte, 500)} }

func (w *writer) commit(b *testing.B) {
	n := w.n.Add(1)
	id := fmt.Sprintf("%016x", n*0x9e3779b97f4a7c15)
	s := core.ApplicationSubject("robot-" + core.ApplicationID(id))
	now := time.Now()
	err := w.db.Commit(b.Context(),
		store.Put(store.Rule(acme, core.RuleID(n)), 0, w.body),
		store.Put(store.Grants(acme, s, store.InAccount), 0, w.body),
		store.Put(store.ClusterRule(acme, core.AccountScope(acme), core.RuleID(n)), 0, w.body),
		store.Put(store.Application(acme, core.ApplicationID(id)), 0, w.body),
		store.Put(store.Audit(acme, now, id), 0, w.body),
		store.Put(store.Family(acme, id), 0, w.body).Until(now.Add(time.Hour)),
	)
	if err != nil {
		b.Fatal(err)
	}
}
