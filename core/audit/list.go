package audit

import (
	"context"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Query asks for a part of a tenant's log, sealed or not.
type Query struct {
	From, Before time.Time // From <= the record's time < Before; zero: no bound
	After        string    // from behind the record of that sort key; empty: from the first
	OldestFirst  bool      // otherwise the newest come first
	Limit        int       // at most so many records; 0: all
}

// List returns a tenant's records from a time on and before another (zero: no bound), sealed or not, in order of time,
// or the newest first. A record made while the list is read may or may not be in it; none is in it twice.
func List(ctx context.Context, db store.DB, t core.TenantID, from, before time.Time, newestFirst bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for rec, err := range (Query{From: from, Before: before, OldestFirst: !newestFirst}).Records(ctx, db, t) {
			if !yield(rec.Value, err) {
				return
			}
		}
	}
}

// bound is the part of a partition of records that is asked for.
func (q Query) bound(r store.Range, t core.TenantID) store.Range {
	if !q.From.IsZero() {
		r.From = store.AuditNew(t, q.From, "").Sort()
	}
	if !q.Before.IsZero() {
		r.To = store.AuditNew(t, q.Before, "").Sort()
	}
	r.Descending, r.Limit = !q.OldestFirst, q.Limit
	if q.After != "" && (r.Descending && (r.To == "" || q.After < r.To) || !r.Descending && q.After >= r.From) {
		r = r.After(q.After)
	}
	return r
}

// Records yields what is asked for, in the order of the sort keys. Each is yielded once, even if it is sealed meanwhile.
func (q Query) Records(ctx context.Context, db store.DB, t core.TenantID) iter.Seq2[store.Record[Record], error] {
	return func(yield func(store.Record[Record], error) bool) {
		left := q.Limit
		enough := func(rec store.Record[Record], err error) bool {
			left--
			return !yield(rec, err) || err != nil || left == 0
		}
		// Records move from the inbox to the log, never back. So the inbox, which holds about a minute's worth, is read
		// first: what moves meanwhile is met twice, and told apart by its key, but never missed.
		var fresh []store.Record[Record]
		for rec, err := range records.List(ctx, db, q.bound(store.AuditsNew(t), t)) {
			if err != nil {
				yield(rec, err)
				return
			}
			fresh = append(fresh, rec)
		}
		for rec, err := range records.List(ctx, db, q.bound(store.Audits(t, time.Time{}), t)) {
			for err == nil && len(fresh) > 0 && q.ahead(fresh[0].Key.Sort(), rec.Key.Sort()) {
				if enough(fresh[0], nil) {
					return
				}
				fresh = fresh[1:]
			}
			if len(fresh) > 0 && fresh[0].Key.Sort() == rec.Key.Sort() {
				fresh = fresh[1:]
			}
			if enough(rec, err) {
				return
			}
		}
		for _, rec := range fresh {
			if enough(rec, nil) {
				return
			}
		}
	}
}

func (q Query) ahead(a, b string) bool {
	if q.OldestFirst {
		return a < b
	}
	return a > b
}
