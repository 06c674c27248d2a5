// Package sync is the function behind the queue: one message, one cluster. All of its work is core/sync's; what it owns is
// the bound on how long one cluster may take, so that the platform never kills a run in the middle, and that a message which
// fails, whatever the failure, is answered for: it is sent again for later, or ends among the dead letters, and is
// acknowledged. The platform's own retries and dead letters see only what ends the function itself.
package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Deps is what the function needs. All fields but Limit are needed.
type Deps struct {
	Sync  *sync.Service
	Queue sync.Queue
	Now   func() time.Time // UTC

	// Limit is how long one cluster may take. It must be grace below what the platform gives the function, whose own deadline
	// bounds it, too. Default 50 seconds: Terraform gives the function a minute.
	Limit time.Duration
}

const (
	defaultLimit = 50 * time.Second

	// grace is what remains at the end: for the run to write down what it came to, and to send the message again.
	grace = 10 * time.Second
)

// Handle brings the message's cluster to what the store says. What fails is tried again later by another message, with
// growing pauses, and is given up in the end (core/sync's Again); this one is done with then. An error asks the queue to
// deliver the message again: neither the store nor the queue could take down what became of it. A message that comes before
// its time is queued again.
func Handle(ctx context.Context, d Deps, m sync.Message) error {
	if m.Tenant == "" || m.Cluster == "" {
		return fmt.Errorf("sync: message without tenant or cluster: %w", core.Invalid)
	}
	for wait := m.NotBefore.Sub(d.Now()); wait > 0; wait = m.NotBefore.Sub(d.Now()) { // a clock may be set back meanwhile
		if wait > time.Second {
			return d.Queue.Send(ctx, m) // a queue that cannot wait so long
		}
		select { // queues round to seconds; what is to end at that time has not ended yet
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("sync: %w: %w", core.Unavailable, ctx.Err())
		}
	}
	err := reconcile(ctx, d, m)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the process is asked to end, which says nothing about the cluster
		return fmt.Errorf("sync: %w: %w", core.Unavailable, ctx.Err())
	}
	if err := d.Sync.Again(ctx, d.Queue, m, err); err != nil {
		return fmt.Errorf("sync: cluster %s failed, and cannot be put off: %w", m.Cluster, err)
	}
	return nil
}

var errPanic = errors.New("the handler panicked")

// reconcile is one bounded try. A panic is a failure as any other: what a cluster answered would bring the function down
// each time. Its value may quote that answer, so only its type and the stack are logged.
func reconcile(ctx context.Context, d Deps, m sync.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log := d.Sync.Log
			if log == nil {
				log = slog.Default()
			}
			log.ErrorContext(ctx, "panic", "function", "sync", "tenant", m.Tenant, "cluster", m.Cluster, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	limit := d.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		limit = min(limit, left-min(grace, left/2))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.Sync.Reconcile(ctx, m)
}
