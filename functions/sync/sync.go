// Package sync is the function behind the queue: one message, one cluster. All of its work is core/sync's; what it owns is
// the bound on how long one cluster may take, so that the platform never kills a run in the middle.
package sync

import (
	"context"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Deps is what the function needs.
type Deps struct {
	Sync  *sync.Service
	Queue sync.Queue
	Now   func() time.Time // UTC
}

// grace is what a run needs at its end to write down what it came to.
const grace = 5 * time.Second

// Handle brings the message's cluster to what the store says. An error asks the queue to deliver the message again, later
// each time; what keeps failing ends among its dead letters. A message that comes before its time is queued again.
func Handle(ctx context.Context, d Deps, m sync.Message) error {
	if m.Tenant == "" || m.Cluster == "" {
		return fmt.Errorf("sync: message without tenant or cluster: %w", core.Invalid)
	}
	switch wait := m.NotBefore.Sub(d.Now()); {
	case wait > time.Second:
		return d.Queue.Send(ctx, m) // a queue that cannot wait so long
	case wait > 0: // queues round to seconds; what is to end at that time has not ended yet
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("sync: %w: %w", core.Unavailable, ctx.Err())
		}
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > 2*grace {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-grace))
		defer cancel()
	}
	return d.Sync.Reconcile(ctx, m)
}
