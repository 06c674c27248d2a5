package storequeue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/queuetest"
)

// faulty is a store whose commits can fail.
type faulty struct {
	store.DB
	mu    gosync.Mutex
	fault queuetest.Fault
	left  int
}

func (f *faulty) inject(fault queuetest.Fault, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.left = fault, n
}

func (f *faulty) next() queuetest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return queuetest.None
	}
	f.left--
	return f.fault
}

func (f *faulty) Commit(ctx context.Context, ops ...store.Op) error {
	switch f.next() {
	case queuetest.Throttle, queuetest.Fail, queuetest.Lose:
		return fmt.Errorf("the store is away: %w", core.Unavailable)
	case queuetest.Forget:
		_ = f.DB.Commit(ctx, ops...)
		return fmt.Errorf("no answer came: %w", core.Unavailable)
	case queuetest.Partly:
		if strings.Contains(ops[0].Key.String(), "-refused") {
			return fmt.Errorf("the store is away: %w", core.Unavailable)
		}
	case queuetest.Hang:
		<-ctx.Done()
		return fmt.Errorf("no answer came: %w: %w", core.Unavailable, ctx.Err())
	}
	return f.DB.Commit(ctx, ops...)
}

// sender is a process that sends, beside the one that works: the store's faults are its own.
type sender struct{ here, worker *storequeue.Queue }

func (s sender) Send(ctx context.Context, m ...sync.Message) error {
	defer func() { _ = s.worker.Send(context.WithoutCancel(ctx)) }() // nothing: it looks at the store anew
	return s.here.Send(ctx, m...)
}

func TestQueue(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Rig {
		now, db := &clock{}, open(t)
		broken := &faulty{DB: db}
		worker := storequeue.New(db, now.now)
		s := sender{storequeue.New(broken, now.now), worker}
		return queuetest.Rig{
			Queue: s, Now: now.now, Inject: broken.inject, Batch: 1,
			Advance: func(d time.Duration) { now.advance(d); _ = worker.Send(context.Background()) },
			Receive: func(ctx context.Context, handle func(context.Context, sync.Message) error) {
				if err := worker.Work(ctx, handle); !errors.Is(err, context.Canceled) {
					t.Errorf("the worker ended: %v", err)
				}
			},
		}
	})
}
