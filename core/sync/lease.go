package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
)

// lease keeps a second run off a cluster. It is a courtesy: what keeps a late writer from harm is that every write is
// conditional.
type lease struct {
	Holder string    `json:"holder"`
	Until  time.Time `json:"until"`
}

func (s *Service) leaseFor() time.Duration { return or(s.LeaseFor, defaultLease) }

// ahead says whether a time that another process noted, as the end of its lease or of a pause, is still to come. It was
// noted by that process's clock; one that is farther ahead than any lease or pause tells of a clock that is wrong, and must
// not make a cluster deaf until that time.
func (s *Service) ahead(t time.Time) bool {
	now := s.Now()
	return t.After(now) && t.Sub(now) <= longestPause+s.leaseFor()
}

var errBusy error = theirs{fmt.Errorf("another run is at work on the cluster: %w", core.Conflict)}

// begin takes the lease.
func (r *run) begin(ctx context.Context) error {
	busy := false
	err := store.Retry(ctx, func() error {
		rec, err := r.record(ctx, r.message.Tenant, r.message.Cluster)
		if err != nil {
			return err
		}
		now := r.Now()
		if l := rec.Value.Lease; l != nil && r.ahead(l.Until) {
			busy = true
			return nil
		}
		until := now.Add(r.leaseFor())
		rec.Value.Lease = &lease{r.holder, until}
		rec.Value.TriedAt, rec.Value.RetryAt = now, time.Time{} // what is changed from now on, this run may not see
		op, err := records.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			return err
		}
		r.began = rec.Value
		return r.hold(until, r.DB.Commit(ctx, op))
	})
	if err == nil && busy {
		return errBusy
	}
	r.inFlight, r.allInFlight = map[kube.Ref]bool{}, r.began.AllInFlight
	for _, name := range r.began.InFlight {
		if ref, ok := kube.ParseRef(name); ok {
			r.inFlight[ref] = true
		}
	}
	return err
}

// note changes the cluster's record, together with more operations, if the run still has the lease, and renews that. What the
// run has written to the cluster by then goes into the audit log with it.
func (r *run) note(ctx context.Context, change func(*record), more ...store.Op) error {
	acts := r.takeRecords()
	err := store.Retry(ctx, func() error {
		rec, err := r.record(ctx, r.message.Tenant, r.message.Cluster)
		if err != nil {
			return err
		}
		now := r.Now()
		if l := rec.Value.Lease; l == nil || l.Holder != r.holder || !now.Before(l.Until) {
			return errLost
		}
		until := now.Add(r.leaseFor())
		rec.Value.Lease.Until = until
		change(&rec.Value)
		op, err := records.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			return err
		}
		ops, err := r.ops(ctx, acts)
		if err != nil {
			return err
		}
		return r.hold(until, r.DB.Commit(ctx, slices.Concat([]store.Op{op}, more, ops)...))
	})
	if err != nil {
		r.keep(acts)
	}
	return err
}

// errLost says that the lease ran out. It is no core.Conflict, which store.Retry would try again.
var errLost error = theirs{fmt.Errorf("the lease on the cluster ran out: %w", core.Unavailable)}

// hold notes how long the lease holds, if the commit that says so did not fail.
func (r *run) hold(until time.Time, err error) error {
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if until.After(r.held) {
			r.held = until
		}
	}
	return err
}

// left is how long the lease holds, as far as this run knows.
func (r *run) left() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held.Sub(r.Now())
}

// renew keeps the lease while the run waits for the cluster, until what it returns is called. So a lease can be short, and a
// run that was killed holds up the next for no longer; one that is frozen renews nothing, and finds when it thaws that it
// lost the lease, or loses it with its next note.
func (r *run) renew(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(r.leaseFor() * 3 / 10)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if r.left() > r.leaseFor()*3/4 {
				continue // the run's own notes renew it
			}
			if err := r.note(ctx, func(*record) {}); errors.Is(err, errLost) {
				return
			}
		}
	})
	return func() {
		cancel()
		renewing.Wait()
	}
}
