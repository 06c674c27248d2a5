// Package bolt keeps a store.DB in one file, with go.etcd.io/bbolt: the embedded default, for a laptop, a test or a small
// server. It needs no service beside it, and one process at a time has the file.
//
// All items lie in one B+tree, under their partition and sort key, so a Get is a look-up for each key in one read
// transaction, and a List is a seek and a walk. Writes pass through one goroutine that gathers what is waiting into one
// transaction of the file, so that many commits share one fsync (commit.go). Events are copied into a feed in the
// transaction of their commit and carried out from there (feed.go).
//
// A read may see a commit a moment before its fsync ends, as always with bbolt; the feed never does.
package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The buckets of the file.
var (
	aboutBucket  = []byte("about")  // "format" -> the layout's number
	itemsBucket  = []byte("items")  // partition, 0, sort key -> header, body; its sequence numbers the commits
	expiryBucket = []byte("expiry") // expiry, key of the item -> nothing; exactly one for each item that expires
	feedBucket   = []byte("feed")   // sequence number -> body of an event that is not carried out yet
)

var formatKey, format = []byte("format"), []byte("1")

// Options are the settings of a DB. The zero value is right for production.
type Options struct {
	Now         func() time.Time // by which items expire; default time.Now
	LockTimeout time.Duration    // how long Open waits for another process to let go of the file; default 1 s
	NoSync      bool             // tests only: do without fsync, so that a power failure may damage the file
}

// DB is a store.DB in a file. Make it with Open and end it with Close.
type DB struct {
	file    *bbolt.DB
	now     func() time.Time
	pending chan *request
	acks    ackList
	closing chan struct{} // closed by Close: take nothing more
	stopped chan struct{} // closed by the writer when it has ended
	close   sync.Once

	durable atomic.Uint64 // the last number of the feed that is safely in the file
	wake    chan struct{} // holds one token when the feed has something new
	feeding atomic.Bool   // a Feed runs
	broken  atomic.Pointer[error]
}

var _ store.DB = (*DB)(nil)

// Open opens the store in the file at path, and makes it, readable by its owner only, where there is none. The folder must
// exist. If another process has the file and keeps it for LockTimeout, the error is core.Unavailable and names the file.
func Open(path string, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = time.Second
	}
	file, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      o.LockTimeout,
		NoSync:       o.NoSync,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
	})
	var pathErr *fs.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("store %s is in use by another process; stop that one, or name another file: %w", path, core.Unavailable)
	case errors.As(err, &pathErr):
		return nil, fmt.Errorf("store: %w", err) // it names the file
	case err != nil:
		return nil, fmt.Errorf("store %s is not a database of ours, or is damaged: %w", path, err)
	}
	db := &DB{
		file:    file,
		now:     o.Now,
		pending: make(chan *request, maxBatch),
		acks:    ackList{some: make(chan struct{}, 1)},
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	known := false
	if err = file.View(func(tx *bbolt.Tx) error { known, err = db.inspect(tx); return err }); err == nil && !known {
		err = file.Update(db.prepare)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	go db.write()
	return db, nil
}

// inspect says whether the file is a store of ours, as opposed to a new one, and refuses a file of something else or of
// another version. It only reads: to write at each start would cost a cold start two waits for the disk.
func (db *DB) inspect(tx *bbolt.Tx) (known bool, err error) {
	about := tx.Bucket(aboutBucket)
	if about == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return false, fmt.Errorf("is a database of something else: %w", core.Unsupported)
		}
		return false, nil
	}
	if got := string(about.Get(formatKey)); got != string(format) {
		return false, fmt.Errorf("has format %q, and this version reads format %q: %w", got, format, core.Unsupported)
	}
	for _, name := range [][]byte{itemsBucket, expiryBucket, feedBucket} {
		if tx.Bucket(name) == nil {
			return false, nil
		}
	}
	db.durable.Store(tx.Bucket(feedBucket).Sequence())
	return true, nil
}

// prepare makes the buckets of a new file.
func (db *DB) prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{aboutBucket, itemsBucket, expiryBucket, feedBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	db.durable.Store(tx.Bucket(feedBucket).Sequence())
	return tx.Bucket(aboutBucket).Put(formatKey, format)
}

// Close ends the store: commits under way are finished, later calls get core.Unavailable. It waits for reads to end.
func (db *DB) Close() error {
	db.close.Do(func() { close(db.closing) })
	<-db.stopped
	return db.file.Close()
}

// Path is the file's.
func (db *DB) Path() string { return db.file.Path() }

// unavailable says that the store did not answer, with the cause in the chain.
func unavailable(what string, cause error) error {
	return fmt.Errorf("store: %s: %w: %w", what, core.Unavailable, cause)
}

// ready refuses calls whose context has ended, and all calls once a write has failed.
func (db *DB) ready(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return unavailable(what, context.Cause(ctx))
	}
	if err := db.broken.Load(); err != nil {
		return unavailable(what, *err)
	}
	return nil
}

// view runs fn in a read transaction.
func (db *DB) view(what string, fn func(tx *bbolt.Tx) error) error {
	if err := db.file.View(fn); err != nil {
		if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			err = os.ErrClosed
		}
		return unavailable(what, err)
	}
	return nil
}

// A stored item is a header, then the body.
const headerSize = 16 // the version, then the expiry in Unix seconds, 0 for never, both big-endian

type header struct {
	version store.Version
	expires int64
}

func parseHeader(value []byte) header {
	return header{
		version: store.Version(binary.BigEndian.Uint64(value)),
		expires: int64(binary.BigEndian.Uint64(value[8:])),
	}
}

// live says whether an item with that header is there at that time, in Unix seconds.
func (h header) live(now int64) bool { return h.expires == 0 || now < h.expires }

func (h header) time() time.Time {
	if h.expires == 0 {
		return time.Time{}
	}
	return time.Unix(h.expires, 0).UTC()
}

// seconds is the expiry of an operation as a header keeps it. Times before 1970 have passed as well as 1970 has.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	s := t.Unix()
	if t.Nanosecond() != 0 {
		s++ // rounded up, as Op.Until does
	}
	return max(s, 1)
}

// appendKey appends the key of an item in the items bucket. A zero byte ends the partition: keys hold none.
func appendKey(b []byte, partition, sort string) []byte {
	b = append(b, partition...)
	b = append(b, 0)
	return append(b, sort...)
}
