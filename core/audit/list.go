package audit

import (
	"context"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// List returns a tenant's records from a time on and before another (zero: no bound), sealed or not, in order of time,
// or the newest first. A record made while the list is read may or may not be in it; none is in it twice.
func List(ctx context.Context, db store.DB, t core.TenantID, from, before time.Time, newestFirst bool) iter.Seq2[Record, error] {
	bound := func(r store.Range) store.Range {
		if !from.IsZero() {
			r.From = store.AuditNew(t, from, "").Sort()
		}
		if !before.IsZero() {
			r.To = store.AuditNew(t, before, "").Sort()
		}
		r.Descending = newestFirst
		return r
	}
	return func(yield func(Record, error) bool) {
		// Records move from the inbox to the log, never back. So the inbox, which holds about a minute's worth, is read
		// first: what moves meanwhile is met twice, and told apart by its key, but never missed.
		type item struct {
			sort string
			rec  Record
		}
		var fresh []item
		for rec, err := range records.List(ctx, db, bound(store.AuditsNew(t))) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			fresh = append(fresh, item{rec.Key.Sort(), rec.Value})
		}
		for rec, err := range records.List(ctx, db, bound(store.Audits(t, time.Time{}))) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			for len(fresh) > 0 && ahead(fresh[0].sort, rec.Key.Sort(), newestFirst) {
				if !yield(fresh[0].rec, nil) {
					return
				}
				fresh = fresh[1:]
			}
			if len(fresh) > 0 && fresh[0].sort == rec.Key.Sort() {
				fresh = fresh[1:]
			}
			if !yield(rec.Value, nil) {
				return
			}
		}
		for _, f := range fresh {
			if !yield(f.rec, nil) {
				return
			}
		}
	}
}

func ahead(a, b string, descending bool) bool {
	if descending {
		return a > b
	}
	return a < b
}
