package bolt

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core"
)

// FeedOptions are the settings of a Feed. The zero value is right for production.
type FeedOptions struct {
	Workers  int                          // how many events are handled at once; default 4
	Timeout  time.Duration                // after which a handler's context ends, and the event has failed; default 1 min
	RetryMin time.Duration                // the pause after an event's first failure, doubled by each further one; default 100 ms
	RetryMax time.Duration                // the longest pause; default 1 min
	Failed   func(attempt int, err error) // is told of every failure, from one goroutine; nil: nobody is

	// Mischief is for tests: a seed other than 0 has every event delivered one to three times, late and out of order, as
	// the change streams of the clouds may do.
	Mischief uint64
}

func (o *FeedOptions) defaults() {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.RetryMin <= 0 {
		o.RetryMin = 100 * time.Millisecond
	}
	if o.RetryMax < o.RetryMin {
		o.RetryMax = max(o.RetryMin, time.Minute)
	}
	if o.Failed == nil {
		o.Failed = func(int, error) {}
	}
}

// Feed carries out events: handle gets the body of every outbox item that a commit put, at least once and in no promised
// order, as soon as the commit is safely in the file. An event is done when handle returned nil; until then it stays in the
// file, over restarts too, and is tried again after growing pauses, while the others go on. handle runs in several
// goroutines.
//
// Feed returns the cause when ctx ends or the store is closed, after the handlers that run have returned. One Feed runs at
// a time: a second one is core.Conflict.
func (db *DB) Feed(ctx context.Context, o FeedOptions, handle func(ctx context.Context, body []byte) error) error {
	if !db.feeding.CompareAndSwap(false, true) {
		return fmt.Errorf("store: a feed of %s runs already: %w", db.file.Path(), core.Conflict)
	}
	defer db.feeding.Store(false)
	o.defaults()
	f := &feed{db: db, opts: o, handle: handle, results: make(chan delivery), open: make(map[uint64]int)}
	if o.Mischief != 0 {
		f.mischief = rand.New(rand.NewPCG(o.Mischief, 0))
	}
	err := f.run(ctx)
	for f.busy > 0 {
		f.finish(<-f.results)
	}
	// An empty request takes the last acknowledgements along, so that the next Feed does not begin with repeats. Should it
	// fail, they are repeated.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = db.submit(flush, "feed", 0, func(*batch) error { return nil })
	return err
}

// feed is a running Feed. All but handle happens in the goroutine that called Feed.
type feed struct {
	db       *DB
	opts     FeedOptions
	handle   func(context.Context, []byte) error
	mischief *rand.Rand // nil in production

	scanned  uint64         // every event up to this number was seen
	fresh    []delivery     // never tried yet
	later    schedule       // to be tried at a time
	open     map[uint64]int // how many deliveries of an event must still succeed; absent: one
	busy     int            // handlers that run
	retrying int            // those of them that came from later
	results  chan delivery  // from them
}

// delivery is one handing of an event to the handler.
type delivery struct {
	event   uint64
	body    []byte    // nil while it waits for a retry: it is read again then
	attempt int       // 1 for the first
	at      time.Time // not before; zero for a fresh one
	err     error     // how it ended
}

// readAhead is how many fresh events are held in memory.
const readAhead = 64

func (f *feed) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if len(f.fresh) < f.opts.Workers {
			if err := f.read(); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.start(ctx)
		var due <-chan time.Time
		if len(f.later) > 0 {
			if wait := time.Until(f.later[0].at); wait > 0 { // else it waits for a worker, not for the time
				timer.Reset(wait)
				due = timer.C
			}
		}
		select {
		case d := <-f.results:
			f.finish(d)
		case <-f.db.wake:
		case <-due:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.db.closing:
			return unavailable("feed", os.ErrClosed)
		}
	}
}

// read takes in events that are new since the last read.
func (f *feed) read() error {
	// Asked before the transaction begins: an event that is committed in between is beyond the bound, not passed over.
	durable := f.db.durable.Load()
	if f.scanned >= durable {
		return nil
	}
	return f.db.view("feed", func(tx *bbolt.Tx) error {
		c := tx.Bucket(feedBucket).Cursor()
		for k, body := c.Seek(feedKey(f.scanned + 1)); k != nil; k, body = c.Next() {
			n := binary.BigEndian.Uint64(k)
			if n > durable {
				break
			}
			if len(f.fresh) >= readAhead {
				return nil
			}
			f.scanned = n
			f.add(delivery{event: n, body: bytes.Clone(body), attempt: 1})
		}
		f.scanned = durable
		return nil
	})
}

// add takes in a new event.
func (f *feed) add(d delivery) {
	if f.mischief == nil {
		f.fresh = append(f.fresh, d)
		return
	}
	times := 1 + f.mischief.IntN(3)
	f.open[d.event] = times
	for range times {
		d.at = time.Now().Add(time.Duration(f.mischief.Int64N(int64(5 * time.Millisecond))))
		heap.Push(&f.later, d)
	}
}

// start gives free workers something to do. What failed before gets at most half of them, so that events which hang or
// fail for ever hold up nobody.
func (f *feed) start(ctx context.Context) {
	for f.busy < f.opts.Workers {
		now := time.Now()
		due := len(f.later) > 0 && !f.later[0].at.After(now) && f.retrying < max(1, f.opts.Workers/2)
		switch {
		case due && (f.opts.Workers > 1 || len(f.fresh) == 0):
			f.retrying++
			f.work(ctx, heap.Pop(&f.later).(delivery))
		case len(f.fresh) > 0:
			d := f.fresh[0]
			f.fresh = f.fresh[1:]
			f.work(ctx, d)
		default:
			return
		}
	}
}

func (f *feed) work(ctx context.Context, d delivery) {
	f.busy++
	go func() {
		ctx, cancel := context.WithTimeout(ctx, f.opts.Timeout)
		defer cancel()
		body := d.body
		if body == nil {
			body, d.err = f.db.event(d.event)
		}
		if d.err == nil {
			d.err = f.handle(ctx, body)
		}
		f.results <- d
	}()
}

// finish takes a handler's result.
func (f *feed) finish(d delivery) {
	f.busy--
	if !d.at.IsZero() {
		f.retrying--
	}
	if d.err == nil {
		if f.open[d.event] > 1 {
			f.open[d.event]--
			return
		}
		delete(f.open, d.event)
		f.db.acks.add(d.event)
		return
	}
	f.opts.Failed(d.attempt, d.err)
	pause := f.opts.RetryMin
	for n := 1; n < d.attempt && pause < f.opts.RetryMax; n++ {
		pause *= 2
	}
	pause = min(pause, f.opts.RetryMax)
	pause = pause/2 + rand.N(pause/2+1) // so that what failed together is not tried together again
	heap.Push(&f.later, delivery{event: d.event, attempt: d.attempt + 1, at: time.Now().Add(pause)})
}

// event reads the body of an event that is not carried out yet.
func (db *DB) event(n uint64) (body []byte, err error) {
	err = db.view("feed", func(tx *bbolt.Tx) error {
		body = append([]byte{}, tx.Bucket(feedBucket).Get(feedKey(n))...)
		return nil
	})
	return body, err
}

// schedule is a heap of deliveries, the earliest first (container/heap).
type schedule []delivery

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(d any)        { *s = append(*s, d.(delivery)) }
func (s *schedule) Pop() any {
	last := len(*s) - 1
	d := (*s)[last]
	*s = (*s)[:last]
	return d
}
