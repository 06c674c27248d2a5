// Package due owns the index of everything that falls due: rule expiries, key rotations, reconciles, seals, sweeps, and
// identity providers to be read again. The commit that schedules something writes its job, so no schedule is lost and nothing
// ever scans a tenant to find out what is due. What a job means is its kind's own business; functions/maintain carries jobs
// out.
package due

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Kind says what is to be done when a job falls due.
type Kind string

// The kinds of job, with what Ref names.
const (
	RuleExpiry  Kind = "rule-expiry"  // Ref: the rule's id in decimal. Once
	KeyRotation Kind = "key-rotation" // Ref: empty. keys.Ring.Rotate schedules the next one
	Reconcile   Kind = "reconcile"    // Ref: the cluster's id. Comes back for as long as the cluster exists
	Seal        Kind = "seal"         // Ref: empty. Comes back for as long as the tenant exists
	Sweep       Kind = "sweep"        // Ref: the deleted scope's id. Once
	Erase       Kind = "erase"        // Ref: empty. Once
	Metadata    Kind = "metadata"     // Ref: the ID of a connection to an identity provider. Comes back for as long as it exists
)

// Job is one thing that falls due. Carrying a job out must be idempotent: it happens at least once, after At.
type Job struct {
	Kind   Kind          `json:"kind"`
	Tenant core.TenantID `json:"tenant"`
	Ref    string        `json:"ref,omitempty"`
	At     time.Time     `json:"at"` // to the millisecond, UTC
}

// String is for logs.
func (j Job) String() string {
	return fmt.Sprintf("%s %s of tenant %s at %s", j.Kind, j.Ref, j.Tenant, j.At.Format(time.RFC3339Nano))
}

// jobs are the records of the index.
var jobs store.Table[Job]

// Op makes the operation that schedules a job, for the commit of the act that it follows from. The same kind, reference
// and millisecond is the same job, so scheduling it twice is a core.Conflict: read again, and decide anew.
func Op(j Job) (store.Op, error) {
	if j.Kind == "" || j.Tenant == "" || j.At.IsZero() {
		return store.Op{}, fmt.Errorf("due: incomplete job %s: %w", j, core.Invalid)
	}
	j.At = j.At.UTC().Truncate(time.Millisecond)
	return jobs.Put(Key(j), 0, j)
}

// Key is where a job is kept.
func Key(j Job) store.Key { return store.Due(j.Tenant, j.At, string(j.Kind)+":"+j.Ref) }

// List returns what falls due before a time, earliest first within each shard of the index.
func List(ctx context.Context, db store.DB, before time.Time) iter.Seq2[store.Record[Job], error] {
	return func(yield func(store.Record[Job], error) bool) {
		for shard := range store.DueShards {
			for rec, err := range Shard(ctx, db, shard, before) {
				if !yield(rec, err) || err != nil {
					return
				}
			}
		}
	}
}

// Shard is List for one of the store.DueShards shards, so that a run can work on them side by side.
func Shard(ctx context.Context, db store.DB, shard int, before time.Time) iter.Seq2[store.Record[Job], error] {
	return jobs.List(ctx, db, store.DueBefore(shard, before))
}

// Get reads a job again: a queue may deliver it long after another instance carried it out. A job that is gone is
// core.NotFound.
func Get(ctx context.Context, db store.DB, j Job) (store.Record[Job], error) {
	return jobs.Get(ctx, db, Key(j))
}

// Done makes the operation that takes a job out of the index, after it was carried out. Where two instances carry out
// the same job, the commit of one of them is a core.Conflict, which says that it is done.
func Done(rec store.Record[Job]) store.Op { return store.Delete(rec.Key, rec.Version) }

// Again makes the operations that take a job out and schedule it anew at another time, in one commit, so that a job that
// comes back neither dies out nor multiplies.
func Again(rec store.Record[Job], at time.Time) ([]store.Op, error) {
	next := rec.Value
	next.At = at
	op, err := Op(next)
	if err != nil {
		return nil, err
	}
	if op.Key == rec.Key { // the same millisecond: it simply stays
		return []store.Op{store.Check(rec.Key, rec.Version)}, nil
	}
	return []store.Op{Done(rec), op}, nil
}
