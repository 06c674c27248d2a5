package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The bounds of one transaction of the file. While one is being synced the next gathers.
const (
	maxBatch      = 128
	maxBatchBytes = 8 << 20
	ackDelay      = 20 * time.Millisecond // how long an acknowledgement waits for a commit to travel with
)

// request is something to be done in a write transaction: a commit or a sweep.
type request struct {
	run   func(b *batch) error // its error concerns this request alone, and leaves the transaction as it was
	size  int                  // bytes that it writes, about
	state atomic.Int32
	done  chan error // holds one
}

// The states of a request. Who moves it from waiting decides: the writer to do it, or its caller to give up.
const (
	waiting = iota
	taken
	abandoned
)

// batch is one write transaction of the file.
type batch struct {
	items, expiry, feed *bbolt.Bucket
	now                 int64 // Unix seconds
	dirty               bool
	events              bool
}

// Commit hands the operations to the writer and waits for the transaction that they are part of.
func (db *DB) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.CheckCommit(ops); err != nil {
		return err
	}
	writes := make([]write, len(ops))
	size := 0
	for i, op := range ops {
		writes[i] = encode(op)
		size += len(writes[i].key) + len(writes[i].value)
	}
	return db.submit(ctx, "commit", size, func(b *batch) error { return b.commit(writes) })
}

// submit has the writer run a request. Once the writer has begun, an ended context makes the outcome unknown to the caller;
// before, it takes the request back.
func (db *DB) submit(ctx context.Context, what string, size int, run func(*batch) error) error {
	if err := db.ready(ctx, what); err != nil {
		return err
	}
	r := &request{run: run, size: size, done: make(chan error, 1)}
	select {
	case db.pending <- r:
	case <-ctx.Done():
		return unavailable(what, context.Cause(ctx))
	case <-db.closing:
		return unavailable(what, os.ErrClosed)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, abandoned) {
			return unavailable(what, context.Cause(ctx))
		}
		return unavailable(what+" may have happened", context.Cause(ctx))
	case <-db.stopped:
		select {
		case err := <-r.done:
			return err
		default: // it came to the queue as the writer left
			return unavailable(what, os.ErrClosed)
		}
	}
}

// write is the goroutine that alone writes to the file.
func (db *DB) write() {
	defer close(db.stopped)
	for {
		var first *request
		select {
		case first = <-db.pending:
		case <-db.acks.some:
			select {
			case first = <-db.pending:
			case <-time.After(ackDelay):
			case <-db.closing:
			}
		case <-db.closing:
			db.transact(db.gather(nil)) // what was handed over before the end, and the last acknowledgements
			return
		}
		db.transact(db.gather(first))
	}
}

// gather returns what waits, beginning with first if there is one.
func (db *DB) gather(first *request) (requests []*request) {
	size := 0
	if first != nil {
		requests, size = append(requests, first), first.size
	}
	for len(requests) < maxBatch && size < maxBatchBytes {
		select {
		case r := <-db.pending:
			requests, size = append(requests, r), size+r.size
		default:
			return requests
		}
	}
	return requests
}

// transact runs requests and the acknowledgements that wait in one transaction, and then answers each request. Requests
// see what those before them wrote, so if the transaction fails no answer of theirs holds.
func (db *DB) transact(requests []*request) {
	mine := requests[:0]
	for _, r := range requests {
		if r.state.CompareAndSwap(waiting, taken) {
			mine = append(mine, r)
		}
	}
	answers := make([]error, len(mine))
	acks := db.acks.take()
	if len(mine) == 0 && len(acks) == 0 {
		return
	}
	if err := db.update(mine, answers, acks); err != nil {
		for i := range answers {
			answers[i] = unavailable("write", err)
		}
	}
	for i, r := range mine {
		r.done <- answers[i]
	}
}

// update is the transaction. A failed one may be in the file or not, and bbolt's own memory of it may be wrong, so nothing
// is read or written after it: the process must open the file anew.
func (db *DB) update(requests []*request, answers []error, acks []uint64) error {
	if err := db.broken.Load(); err != nil {
		return *err
	}
	tx, err := db.file.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // returns an error after a Commit, and does nothing
	b := &batch{
		items:  tx.Bucket(itemsBucket),
		expiry: tx.Bucket(expiryBucket),
		feed:   tx.Bucket(feedBucket),
		now:    db.now().Unix(),
	}
	for i, r := range requests {
		answers[i] = r.run(b)
	}
	for _, n := range acks {
		b.dirty = true
		must(b.feed.Delete(feedKey(n)))
	}
	if !b.dirty {
		return nil // nothing to sync: only conflicts and checks
	}
	last := b.feed.Sequence()
	if err := tx.Commit(); err != nil {
		err = fmt.Errorf("a write to %s failed, restart to recover: %w", db.file.Path(), err)
		db.broken.Store(&err)
		return err
	}
	if b.events {
		db.durable.Store(last)
		select {
		case db.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// must stops on errors that bbolt returns for misuse only: a closed or read-only transaction, an empty or too long key.
func must(err error) {
	if err != nil {
		panic("bolt: " + err.Error())
	}
}

// write is an operation as it goes into the file.
type write struct {
	op     store.Op // without its body
	key    []byte
	value  []byte // Put only: room for the header, then the body
	expiry int64
}

// encode copies an operation, body included: the caller may go on, and change it, before the writer has come to it.
func encode(op store.Op) write {
	p, s := op.Key.Partition(), op.Key.Sort()
	w := write{op: op, key: appendKey(make([]byte, 0, len(p)+1+len(s)), p, s)}
	w.op.Body = nil
	if op.Verb == store.VerbPut {
		w.expiry = seconds(op.Expires)
		w.value = append(make([]byte, headerSize, headerSize+len(op.Body)), op.Body...)
	}
	return w
}

// commit applies a caller's operations: first every expectation is looked at, then the changes are made.
func (b *batch) commit(writes []write) error {
	olds := make([]header, len(writes))
	changes := false
	for i, w := range writes {
		var old header
		if v := b.items.Get(w.key); v != nil {
			old = parseHeader(v)
		}
		olds[i] = old
		if old.version != 0 && !old.live(b.now) {
			old.version = 0
		}
		if old.version != w.op.Expect {
			return fmt.Errorf("store: %s: %w", w.op.Key, core.Conflict)
		}
		changes = changes || w.op.Verb == store.VerbPut || w.op.Verb == store.VerbDelete && olds[i].version != 0
	}
	if !changes {
		return nil
	}
	b.dirty = true
	version, err := b.items.NextSequence()
	must(err)
	for i, w := range writes {
		if w.op.Verb == store.VerbCheck {
			continue
		}
		if olds[i].expires != 0 {
			must(b.expiry.Delete(expiryKey(olds[i].expires, w.key)))
		}
		if w.op.Verb == store.VerbDelete {
			must(b.items.Delete(w.key))
			continue
		}
		binary.BigEndian.PutUint64(w.value, version)
		binary.BigEndian.PutUint64(w.value[8:], uint64(w.expiry))
		must(b.items.Put(w.key, w.value))
		if w.expiry != 0 {
			must(b.expiry.Put(expiryKey(w.expiry, w.key), nil))
		}
		if w.op.Key.IsOutbox() {
			b.events = true
			n, err := b.feed.NextSequence()
			must(err)
			must(b.feed.Put(feedKey(n), w.value[headerSize:]))
		}
	}
	return nil
}

func expiryKey(expires int64, key []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), uint64(expires))
	return append(b, key...)
}

func feedKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// sweepBatch is how many items a sweep removes in one transaction: commits need not wait long for it.
const sweepBatch = 256

// Sweep removes up to limit items that have expired, and returns how many. It costs nothing where nothing has, and changes
// nothing that anybody sees: an expired item counts as absent already.
func (db *DB) Sweep(ctx context.Context, limit int) (removed int, err error) {
	for removed < limit {
		want, n := min(sweepBatch, limit-removed), 0
		err := db.submit(ctx, "sweep", 0, func(b *batch) error {
			n = b.sweep(want)
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed += n
		if n < want {
			break
		}
	}
	return removed, nil
}

// sweep removes up to limit expired items, and returns how many.
func (b *batch) sweep(limit int) int {
	var gone [][]byte
	c := b.expiry.Cursor()
	for k, _ := c.First(); k != nil && len(gone) < limit && int64(binary.BigEndian.Uint64(k)) <= b.now; k, _ = c.Next() {
		gone = append(gone, append([]byte(nil), k...))
	}
	for _, k := range gone {
		b.dirty = true
		must(b.items.Delete(k[8:]))
		must(b.expiry.Delete(k))
	}
	return len(gone)
}

// ackList gathers the numbers of events that were carried out.
type ackList struct {
	mu   sync.Mutex
	list []uint64
	some chan struct{} // holds one token when the list has something
}

func (a *ackList) add(n uint64) {
	a.mu.Lock()
	a.list = append(a.list, n)
	a.mu.Unlock()
	select {
	case a.some <- struct{}{}:
	default:
	}
}

func (a *ackList) take() []uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}
