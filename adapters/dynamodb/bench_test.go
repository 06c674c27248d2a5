package dynamodb_test

import (
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// What the calls take, as multiples of the plainest one against the same DynamoDB in the same run.
func BenchmarkCalls(b *testing.B) {
	config, name := table(b)
	db := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{})
	tenant := core.TenantID("t" + core.NewID()[:16])
	k := store.Meta(tenant)
	put(b, db, k, "x")
	user := func() store.Key { return store.User(tenant, core.Email(core.NewID())) }
	calls := []struct {
		name string
		call func() error
	}{
		{"get", func() error { _, err := db.Get(b.Context(), k); return err }},
		{"get-2", func() error { _, err := db.Get(b.Context(), k, user()); return err }},
		{"put", func() error { return db.Commit(b.Context(), store.Put(user(), 0, []byte("x"))) }},
		{"commit-3", func() error {
			return db.Commit(b.Context(), store.Put(user(), 0, []byte("x")), store.Put(user(), 0, []byte("x")), store.Put(user(), 0, []byte("x")))
		}},
		{"list-10", func() error {
			r := store.Users(tenant)
			r.Limit = 10
			for _, err := range db.List(b.Context(), r) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	}
	took := make([]time.Duration, len(calls))
	for b.Loop() {
		for i, c := range calls {
			begin := time.Now()
			if err := c.call(); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(begin)
		}
	}
	for i, c := range calls[1:] {
		b.ReportMetric(float64(took[i+1])/float64(took[0]), c.name+"/get")
	}
}
