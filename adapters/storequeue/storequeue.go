// Package storequeue is sync.Queue over any store.DB, with workers in this process. It serves the laptop, where no queue
// product is to be had; in the cloud the platform's own queue calls the sync function.
package storequeue

import (
	"context"
	"fmt"
	"log/slog"
	gosync "sync"
	"time"

	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Queue is a sync.Queue whose messages are items of the store, so that they outlive the process. Messages for one cluster
// and one time become one: a message is only a hint. A worker removes a message only if nobody sent it anew while it was
// handled.
//
// What a message comes to is the handler's business: functions/sync sends anew what failed, and keeps dead letters. A message
// whose handler fails all the same, because the store does not answer, comes again with growing pauses until it is handled.
// It pauses whatever is sent meanwhile.
type Queue struct {
	DB  store.DB
	Now func() time.Time

	wake chan struct{}
}

// New makes the queue over a store.
func New(db store.DB, now func() time.Time) *Queue {
	return &Queue{DB: db, Now: now, wake: make(chan struct{}, 1)}
}

// queued is a message as it waits.
type queued struct {
	Message  sync.Message `json:"message"`
	Due      time.Time    `json:"due"`
	Failures int          `json:"failures,omitempty"` // of its handler, in a row
}

// maxRunning is how many messages are handled side by side; the others wait for one of them to end.
const maxRunning = 64

func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 10), time.Minute)
}

var messages store.Table[queued]

// id names a message: one for each cluster that is to be looked at now, one for each later time.
func id(m sync.Message) string {
	cluster := string(m.Tenant) + "/" + string(m.Cluster)
	if m.NotBefore.IsZero() {
		return cluster
	}
	return cluster + "/" + m.NotBefore.UTC().Format(time.RFC3339Nano)
}

// Send implements sync.Queue.
func (q *Queue) Send(ctx context.Context, all ...sync.Message) error {
	for _, m := range all {
		err := store.Retry(ctx, func() error { return q.put(ctx, m) })
		if err != nil {
			return fmt.Errorf("queue: %s: %w", id(m), err)
		}
	}
	select {
	case q.wake <- struct{}{}:
	default: // a wake-up is waiting already
	}
	return nil
}

func (q *Queue) put(ctx context.Context, m sync.Message) error {
	key := store.Queued(id(m))
	items, err := q.DB.Get(ctx, key)
	if err != nil {
		return err
	}
	waiting, err := messages.Decode(items[0])
	if err != nil {
		return err
	}
	next := waiting.Value
	if waiting.Exists() {
		m = m.And(next.Message)
	}
	next.Message = m
	if next.Failures == 0 { // else it is pausing, a minute at most
		next.Due = m.NotBefore
		if next.Due.IsZero() {
			next.Due = q.Now()
		}
	}
	op, err := messages.Put(key, waiting.Version, next)
	if err != nil {
		return err
	}
	return q.DB.Commit(ctx, op)
}

// Work hands due messages to handle, each in a goroutine of its own, at most maxRunning side by side, until ctx ends. A
// message whose handling fails comes again with growing pauses; one that hangs holds up no other. Work returns when those
// under way have ended.
func (q *Queue) Work(ctx context.Context, handle func(context.Context, sync.Message) error) error {
	busy := map[string]bool{}
	done := make(chan string)
	var running gosync.WaitGroup
	defer running.Wait()
	for {
		next := q.Now().Add(time.Minute)
		for rec, err := range messages.List(ctx, q.DB, store.QueuedAll()) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				slog.ErrorContext(ctx, "the queue cannot be read", "error", err)
				next = q.Now().Add(time.Second)
				break
			}
			if busy[id(rec.Value.Message)] {
				continue
			}
			if rec.Value.Due.After(q.Now()) {
				next = earlier(next, rec.Value.Due)
				continue
			}
			if len(busy) == maxRunning {
				break // looked at again when one of them is done
			}
			busy[id(rec.Value.Message)] = true
			running.Go(func() {
				q.attempt(ctx, rec, handle)
				select {
				case done <- id(rec.Value.Message):
				case <-ctx.Done():
				}
			})
		}
		timer := time.NewTimer(max(0, next.Sub(q.Now())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case cluster := <-done:
			delete(busy, cluster)
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// attempt handles one message once and writes down what came of it.
func (q *Queue) attempt(ctx context.Context, rec store.Record[queued], handle func(context.Context, sync.Message) error) {
	failed := handle(ctx, rec.Value.Message)
	if failed != nil && ctx.Err() != nil {
		return // shutting down, so the failure says nothing: the message stays as it was
	}
	ctx = context.WithoutCancel(ctx)
	if failed != nil {
		slog.WarnContext(ctx, "a queued message comes again", "message", id(rec.Value.Message), "failures", rec.Value.Failures+1, "error", failed)
	}
	if err := store.Retry(ctx, func() error { return q.settle(ctx, rec, failed) }); err != nil {
		slog.ErrorContext(ctx, "the queue cannot be written", "message", id(rec.Value.Message), "error", err)
	}
}

// settle writes down what came of handling rec. If it was sent anew meanwhile, a success leaves it to be handled once more,
// from the beginning; a failure is counted all the same.
func (q *Queue) settle(ctx context.Context, rec store.Record[queued], failed error) error {
	items, err := q.DB.Get(ctx, rec.Key)
	if err != nil {
		return err
	}
	now, err := messages.Decode(items[0])
	if err != nil || !now.Exists() {
		return err
	}
	m := now.Value
	switch {
	case failed == nil && now.Version == rec.Version:
		return q.DB.Commit(ctx, store.Delete(rec.Key, rec.Version))
	case failed == nil:
		m.Failures, m.Due = 0, q.Now()
	default:
		m.Failures++
		m.Due = q.Now().Add(backoff(m.Failures))
	}
	op, err := messages.Put(rec.Key, now.Version, m)
	if err != nil {
		return err
	}
	return q.DB.Commit(ctx, op)
}
