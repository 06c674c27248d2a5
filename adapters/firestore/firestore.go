// Package firestore keeps a store.DB in Google's Firestore (native mode). It speaks through the generated client, one RPC
// for each Get, each page of a List and each Commit: preconditions on update times say what a Commit expects, so no
// transaction is begun, and nothing is locked between a read and a write.
//
// What belongs to no call is made by infrastructure: the TTL policy on the field ExpiryField of the collection group Group,
// the exemptions from indexing, and the trigger on OutboxPattern whose events EventBody reads.
package firestore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// DefaultDatabase is the name of the database that a project has without having named one.
const DefaultDatabase = "(default)"

// EmulatorVariable names the environment variable that holds HOST:PORT of an emulator to talk to, in the place of Google.
const EmulatorVariable = "FIRESTORE_EMULATOR_HOST"

// Options are the settings of a DB. The zero value is right for production.
type Options struct {
	Now      func() time.Time // by which items expire; default time.Now
	Timeout  time.Duration    // of one RPC; default 10 s
	Attempts int              // at an RPC that fails for a reason which may pass; default 6, over about 2 s of pauses
	Used     func(Usage)      // is told of every RPC, from many goroutines at once; nil: nobody is
}

// Usage is what one RPC used, in the units that Google bills (a document that is absent is read all the same, and a check is
// a write). What a failed RPC used is not known, and counted as nothing.
type Usage struct {
	RPC                    string // "BatchGetDocuments", "RunQuery" or "Commit"
	Reads, Writes, Deletes int    // documents
}

// DB is a store.DB in a Firestore database. Make it with New or Dial.
type DB struct {
	client    *apiv1.Client
	database  string // projects/P/databases/D
	documents string // database + "/documents/"
	opts      Options
	known     expiries
	closed    atomic.Bool
}

var _ store.DB = (*DB)(nil)

// New makes a store of a database, over a client that stays the caller's. The client's own retries and timeouts are not used.
func New(client *apiv1.Client, project, database string, o Options) *DB {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Used == nil {
		o.Used = func(Usage) {}
	}
	name := "projects/" + project + "/databases/" + database
	return &DB{client: client, database: name, documents: name + "/documents/", opts: o}
}

// Dial makes a store of a database ("": the default one), with the credentials of the environment, or of the emulator that
// FIRESTORE_EMULATOR_HOST names. It does not wait for a connection. End it with Close.
func Dial(ctx context.Context, project, database string, o Options) (*DB, error) {
	if project == "" || strings.Contains(project, "/") || strings.Contains(database, "/") {
		return nil, fmt.Errorf("store: project %q, database %q: want the id of a project, and the name of a database in it: %w", project, database, core.Invalid)
	}
	if database == "" {
		database = DefaultDatabase
	}
	var options []option.ClientOption
	if host := os.Getenv(EmulatorVariable); host != "" {
		options = append(options, Emulator(host)...)
	}
	client, err := apiv1.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("store: Firestore of project %s: %w", project, err)
	}
	return New(client, project, database, o), nil
}

// Close ends the client of a store that Dial made. Later calls get core.Unavailable.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	return db.client.Close()
}

// entry is what a document says besides its body.
type entry struct {
	updated int64 // in Unix microseconds; 0: the document is absent
	version store.Version
	expires time.Time
	mark    mark
}

func (e entry) present() bool { return e.updated != 0 }

// live says whether an item is there at a time.
func (e entry) live(now time.Time) bool {
	return e.present() && (e.expires.IsZero() || now.Before(e.expires))
}

// read reads what a document says; nil is an absent one. The error has no kind: whatever it is, no commit of ours wrote it.
func (db *DB) read(k store.Key, doc *pb.Document) (entry, error) {
	if doc == nil {
		return entry{}, nil
	}
	m, ok := parseMark(doc.Fields[MarkField].GetBytesValue())
	if !ok || doc.UpdateTime == nil {
		return entry{}, fmt.Errorf("store: %s: the document is none of ours: its field %q is not the mark of a commit", k, MarkField)
	}
	e := entry{updated: micros(doc.UpdateTime), version: version(doc.UpdateTime, m.expires), mark: m}
	if t := doc.Fields[ExpiryField].GetTimestampValue(); t != nil {
		e.expires = t.AsTime()
	}
	if mayExpire(e.version) {
		db.known.add(k, e.version, e.expires)
	}
	return e, nil
}
