package stack

import (
	"context"
	"net/http"
	"path/filepath"
	gosync "sync"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions"
)

// inProcess runs the functions in this process, over the embedded store, a local master key and a queue in the store.
type inProcess struct {
	dir   string
	store *bolt.DB
	queue *storequeue.Queue
}

func (p *inProcess) open(_ context.Context, c *functions.Config) (err error) {
	if p.store, err = bolt.Open(filepath.Join(p.dir, "fleetpass.db"), bolt.Options{Now: c.Now}); err != nil {
		return err
	}
	if c.Wrapper, err = localkeys.Open(filepath.Join(p.dir, "master.key"), true); err != nil {
		return err
	}
	p.queue = storequeue.New(p.store, c.Now)
	c.DB, c.Queue = p.store, p.queue
	return nil
}

func (p *inProcess) serve(ctx context.Context, s *Stack, running *gosync.WaitGroup) (http.Handler, error) {
	running.Go(func() {
		err := p.store.Feed(ctx, bolt.FeedOptions{Failed: func(attempt int, err error) {
			s.Log.Warn("an event failed and comes again", "attempt", attempt, "error", err)
		}}, s.System.Dispatch)
		if ctx.Err() == nil {
			s.Log.Error("the change feed ended", "error", err)
		}
	})
	running.Go(func() {
		err := p.queue.Work(ctx, func(ctx context.Context, m sync.Message) error {
			ctx, done := context.WithTimeout(ctx, time.Minute) // the cloud's function timeout
			defer done()
			return s.System.Synchronize(ctx, m)
		})
		if ctx.Err() == nil {
			s.Log.Error("the queue's worker ended", "error", err)
		}
	})
	running.Go(func() {
		s.every(ctx, func() {
			if err := s.System.Maintain(ctx, s.Now()); err != nil && ctx.Err() == nil {
				s.Log.Error("maintenance failed; it runs again in a minute", "error", err)
			}
			if _, err := p.store.Sweep(ctx, maxSweep); err != nil && ctx.Err() == nil { // the clouds' stores do this by themselves
				s.Log.Error("expired items were not removed", "error", err)
			}
		})
	})
	return s.System.HTTP(), nil
}

// maxSweep bounds how many expired items one tick removes, so that it never holds up the store's writers for long.
const maxSweep = 10_000

func (p *inProcess) close() {
	if p.store != nil {
		_ = p.store.Close() // every commit is in the file already
	}
}
