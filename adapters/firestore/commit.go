package firestore

import (
	"context"
	"fmt"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Commit applies the operations with one Commit of Firestore, whose writes bear what they expect as preconditions. Only where
// it is refused, or an item's expiry is not known, documents are read besides.
//
// A try whose answer is lost is made again only if it cannot be applied twice: if it changes a document whose update time it
// names, or changes nothing. Otherwise it is looked for, by its mark, and where that is not found the error is
// core.Unavailable.
func (db *DB) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.CheckCommit(ops); err != nil {
		return err
	}
	if err := db.ready(ctx, "commit"); err != nil {
		return err
	}
	c := &commit{db: db, ops: ops, base: make([]*timestamppb.Timestamp, len(ops)), nonce: newNonce()}
	for i, op := range ops {
		if op.Expect != 0 {
			t, ok := updateTime(op.Expect)
			if !ok {
				return conflict(op.Key)
			}
			c.base[i] = t
		}
		if op.Verb == store.VerbPut && !op.Expires.IsZero() {
			c.expires = true
		}
	}
	if err := c.expired(ctx); err != nil {
		return err
	}
	return c.run(ctx)
}

func conflict(k store.Key) error { return fmt.Errorf("store: %s: %w", k, core.Conflict) }

// commit is a Commit under way.
type commit struct {
	db      *DB
	ops     []store.Op
	base    []*timestamppb.Timestamp // the update time that each document must have; nil: it must be absent
	nonce   [16]byte
	expires bool // it puts something that expires
	lost    bool // a try may have been applied, for all we know
}

// expired is core.Conflict if an item that is expected has expired. Firestore would not notice.
func (c *commit) expired(ctx context.Context) error {
	now := c.db.opts.Now()
	var unknown []int
	for i, op := range c.ops {
		if !mayExpire(op.Expect) {
			continue
		}
		at, ok := c.db.known.of(op.Key, op.Expect)
		if !ok {
			unknown = append(unknown, i)
		} else if !at.IsZero() && !now.Before(at) {
			return conflict(op.Key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	entries, err := c.entries(ctx, unknown)
	if err != nil {
		return err
	}
	for n, i := range unknown {
		if e := entries[n]; e.version != c.ops[i].Expect || !e.live(now) {
			return conflict(c.ops[i].Key)
		}
	}
	return nil
}

// entries reads what the documents of some operations say besides their bodies.
func (c *commit) entries(ctx context.Context, some []int) ([]entry, error) {
	keys := make([]store.Key, len(some))
	for n, i := range some {
		keys[n] = c.ops[i].Key
	}
	docs, err := c.db.documentsOf(ctx, "commit", keys, []string{ExpiryField, MarkField})
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(some))
	for n := range some {
		if entries[n], err = c.db.read(keys[n], docs[n]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// run tries until the outcome is known, or the budget is spent.
func (c *commit) run(ctx context.Context) error {
	for a := c.db.attempts(); ; {
		err := c.db.limited(ctx, c.send)
		if err == nil {
			return nil
		}
		switch {
		case refused(err):
			done, err := c.look(ctx, err)
			if done || err != nil {
				return err
			}
		case !passing(err):
			return failed(ctx, "commit", err)
		case overQuota(err): // nothing was applied, and nothing will be
		default:
			c.lost = true
			if !c.repeatable() {
				return c.search(ctx, err)
			}
		}
		if !a.again(ctx) {
			if c.lost {
				return failed(ctx, "commit may have happened", err)
			}
			return failed(ctx, "commit", err)
		}
	}
}

// send is one try.
func (c *commit) send(ctx context.Context) error {
	usage := Usage{RPC: "Commit"}
	defer func() { c.db.opts.Used(usage) }()
	req := &pb.CommitRequest{Database: c.db.database, Writes: make([]*pb.Write, len(c.ops))}
	deletes := 0
	for i := range c.ops {
		req.Writes[i] = c.write(i)
		if _, ok := req.Writes[i].Operation.(*pb.Write_Delete); ok {
			deletes++
		}
	}
	_, err := c.db.client.Commit(ctx, req, onceConnected...)
	if err == nil {
		usage.Writes, usage.Deletes = len(c.ops)-deletes, deletes
	}
	return err
}

// write is an operation in Firestore's words. What must be absent and stay so is deleted on the condition that it does not
// exist. A check of what is there is an update of no field, which does not change the document's update time
// (google.firestore.v1 WriteResult.update_time).
func (c *commit) write(i int) *pb.Write {
	op, base := c.ops[i], c.base[i]
	name := c.db.documents + document(op.Key)
	w := &pb.Write{CurrentDocument: &pb.Precondition{ConditionType: &pb.Precondition_Exists{Exists: false}}}
	if base != nil {
		w.CurrentDocument.ConditionType = &pb.Precondition_UpdateTime{UpdateTime: base}
	}
	switch {
	case op.Verb == store.VerbPut:
		doc := &pb.Document{Name: name, Fields: map[string]*pb.Value{
			SortField: bytesValue([]byte(op.Key.Sort())),
			BodyField: bytesValue(op.Body),
			MarkField: bytesValue(mark{nonce: c.nonce, expires: c.expires, follows: micros(base)}.bytes()),
		}}
		if at := expiry(op); !at.IsZero() {
			doc.Fields[ExpiryField] = &pb.Value{ValueType: &pb.Value_TimestampValue{TimestampValue: timestamppb.New(at)}}
		}
		w.Operation = &pb.Write_Update{Update: doc}
	case op.Verb == store.VerbCheck && base != nil:
		w.Operation = &pb.Write_Update{Update: &pb.Document{Name: name}}
		w.UpdateMask = &pb.DocumentMask{}
	default:
		w.Operation = &pb.Write_Delete{Delete: name}
	}
	return w
}

func bytesValue(b []byte) *pb.Value { return &pb.Value{ValueType: &pb.Value_BytesValue{BytesValue: b}} }

// refused says whether Firestore looked at the preconditions and did nothing, or may have: which code stands for a failed
// precondition differs with the kind of it (and an update time that lies in the future is an invalid argument to the
// emulator), and each of these stands for other things, too. So a look at the documents decides.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.AlreadyExists, codes.NotFound, codes.InvalidArgument:
		return true
	}
	return false
}

// changes says whether an operation makes another item, or none, of what is there.
func changes(op store.Op) bool {
	return op.Verb == store.VerbPut || op.Verb == store.VerbDelete && op.Expect != 0
}

// repeatable says that the commit cannot be applied twice: it changes a document whose update time it names, which no document
// has again, or it changes nothing.
func (c *commit) repeatable() bool {
	nothing := true
	for i, op := range c.ops {
		if changes(op) {
			if c.base[i] != nil {
				return true
			}
			nothing = false
		}
	}
	return nothing
}

// search looks for a commit that only makes new items, and whose answer was lost with err. Were it made again where it is not
// found, it might be done twice: somebody may have deleted meanwhile what it made.
func (c *commit) search(ctx context.Context, err error) error {
	entries, look := c.entries(ctx, c.all())
	if look == nil && c.ours(entries) {
		return nil
	}
	return failed(ctx, "commit may have happened", err)
}

func (c *commit) all() []int {
	all := make([]int, len(c.ops))
	for i := range all {
		all[i] = i
	}
	return all
}

// ours says whether this commit was applied, by the mark that it puts.
func (c *commit) ours(entries []entry) bool {
	for i, e := range entries {
		if c.ops[i].Verb == store.VerbPut && e.present() && e.mark.nonce == c.nonce {
			return true
		}
	}
	return false
}

// look finds out why the commit was refused. done: it was this commit itself, applied by a try whose answer was lost. Without
// an error otherwise, it is to be tried again: documents that have expired were in its way, or what was is gone.
func (c *commit) look(ctx context.Context, why error) (done bool, err error) {
	entries, err := c.entries(ctx, c.all())
	if err != nil {
		return false, err
	}
	if c.ours(entries) { // even if no answer was lost: something on the way may have sent the commit twice
		return true, nil
	}
	wrong, moved := -1, false
	now := c.db.opts.Now()
	for i, op := range c.ops {
		switch e := entries[i]; {
		case op.Expect == 0 && e.live(now), op.Expect != 0 && (e.version != op.Expect || !e.live(now)):
			wrong = i
		case op.Expect == 0 && e.present() && (c.base[i] == nil || micros(c.base[i]) != e.updated):
			c.base[i], moved = timestamppb.New(time.UnixMicro(e.updated)), true
		case op.Expect == 0 && !e.present() && c.base[i] != nil: // the TTL policy has got to it
			c.base[i], moved = nil, true
		}
	}
	switch {
	case wrong >= 0 && (!c.lost || c.never(entries)):
		return false, conflict(c.ops[wrong].Key)
	case wrong >= 0:
		return false, unavailable("commit may have happened", why)
	case !moved && !passingRefusal(why):
		return false, failed(ctx, "commit", why)
	}
	return false, nil
}

// passingRefusal says whether a refusal that no document explains may be a precondition that holds by now. An argument that
// is invalid, and a database that does not exist, stay so.
func passingRefusal(err error) bool {
	code := status.Code(err)
	return code == codes.FailedPrecondition || code == codes.AlreadyExists
}

// never says that no lost try of this commit was applied, or can be. That is so if it changes nothing; if a document that it
// changes was changed by another commit from the very state that this one expects; and if one is still in that state, while
// another that it expects no longer is and never will be again.
func (c *commit) never(entries []entry) bool {
	nothing, still, gone := true, false, false
	for i, op := range c.ops {
		e := entries[i]
		nothing = nothing && !changes(op)
		if op.Expect == 0 {
			continue
		}
		if changes(op) && e.present() && e.mark.follows == micros(c.base[i]) {
			return true
		}
		still = still || changes(op) && e.version == op.Expect
		gone = gone || e.version != op.Expect
	}
	return nothing || still && gone
}
