package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// FeedOptions are the settings of a Feed. The zero value works.
type FeedOptions struct {
	Since    time.Time                                 // documents that were made earlier are left alone; zero: all that are there are delivered
	Workers  int                                       // how many events are handled at once; default 8
	Timeout  time.Duration                             // after which a handler's context ends, and the event has failed; default 1 min
	RetryMin time.Duration                             // the pause after an event's first failure, and before listening anew; default 100 ms
	RetryMax time.Duration                             // the longest pause; default 1 min
	Failed   func(name string, attempt int, err error) // is told of every failure of a handler, from many goroutines; nil: nobody is
}

func (o *FeedOptions) defaults() {
	if o.Workers <= 0 {
		o.Workers = 8
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
		o.Failed = func(string, int, error) {}
	}
}

// Feed stands for Google's trigger where there is none: on a laptop, beside an emulator. handle gets the name of every new
// document of the outbox and the data of the event that Google would send for it (see EventBody), at least once and in no
// promised order. An event is done when handle returned nil; until then it is tried again after growing pauses, by itself,
// while the others go on. What was not done when Feed ended is delivered by the next one, if its Since reaches back so far,
// beside what was done: handlers are idempotent.
//
// Feed listens to the outbox of all tenants at once. The emulator answers every commit to it with the whole outbox, which is
// for a laptop; in production this has no place. It returns the cause when ctx ends, after the handlers that run have
// returned, and an error at once where it may not listen.
func (db *DB) Feed(ctx context.Context, o FeedOptions, handle func(ctx context.Context, name string, data []byte) error) error {
	o.defaults()
	f := &feed{db: db, opts: o, handle: handle, seen: make(map[string]bool), workers: make(chan struct{}, o.Workers)}
	defer f.running.Wait()
	pause := o.RetryMin
	for {
		n := len(f.seen)
		err := f.listen(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passing(err) && !errors.Is(err, io.EOF) {
			return fmt.Errorf("store: feed: %w", err)
		}
		if len(f.seen) > n { // it worked for a while
			pause = o.RetryMin
		}
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
		pause = min(2*pause, o.RetryMax)
	}
}

// feed is a running Feed.
type feed struct {
	db      *DB
	opts    FeedOptions
	handle  func(context.Context, string, []byte) error
	seen    map[string]bool // the outbox documents there are, by name: each listener begins with all of them
	workers chan struct{}
	running sync.WaitGroup
}

const feedTarget = 1

// listen takes in documents until the stream ends, which it always does with an error.
func (f *feed) listen(ctx context.Context) error {
	// The stream itself names no database, so a header does, as in Google's own client.
	listening, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "google-cloud-resource-prefix", f.db.database))
	defer cancel() // ends the stream; handlers have the context of the Feed
	stream, err := f.db.client.Listen(listening, once...)
	if err != nil {
		return err
	}
	query := &pb.StructuredQuery{
		From:  []*pb.StructuredQuery_CollectionSelector{{CollectionId: Group, AllDescendants: true}},
		Where: and(f.named(pb.StructuredQuery_FieldFilter_GREATER_THAN, "outbox"), f.named(pb.StructuredQuery_FieldFilter_LESS_THAN, "outbox!")),
	}
	if err := stream.Send(&pb.ListenRequest{Database: f.db.database, TargetChange: &pb.ListenRequest_AddTarget{AddTarget: &pb.Target{
		TargetId: feedTarget,
		TargetType: &pb.Target_Query{Query: &pb.Target_QueryTarget{
			Parent:    f.db.database + "/documents",
			QueryType: &pb.Target_QueryTarget_StructuredQuery{StructuredQuery: query},
		}},
	}}}); err != nil && !errors.Is(err, io.EOF) { // io.EOF: Recv says why
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch r := m.ResponseType.(type) {
		case *pb.ListenResponse_TargetChange:
			if r.TargetChange.TargetChangeType == pb.TargetChange_REMOVE {
				return removed(r.TargetChange)
			}
		case *pb.ListenResponse_DocumentChange:
			f.take(ctx, r.DocumentChange.Document)
		case *pb.ListenResponse_DocumentDelete:
			delete(f.seen, r.DocumentDelete.Document)
		}
	}
}

// named compares the name of a document with that of one in a collection that sorts before all others of that name.
func (f *feed) named(op pb.StructuredQuery_FieldFilter_Operator, collection string) *pb.StructuredQuery_Filter {
	return compare("__name__", op, &pb.Value{ValueType: &pb.Value_ReferenceValue{ReferenceValue: f.db.documents + collection + "/!/" + Group + "/!"}})
}

// removed is the error with which the server ends a target.
func removed(c *pb.TargetChange) error {
	if err := status.ErrorProto(c.GetCause()); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "the server ended the listener")
}

// take has a document that is new to us delivered.
func (f *feed) take(ctx context.Context, doc *pb.Document) {
	if !isOutbox(doc.GetName()) || f.seen[doc.Name] || doc.CreateTime.AsTime().Before(f.opts.Since) {
		return
	}
	f.seen[doc.Name] = true
	f.running.Go(func() {
		pause := f.opts.RetryMin
		for attempt := 1; ; attempt++ {
			err := f.deliver(ctx, doc)
			if err == nil || ctx.Err() != nil {
				return
			}
			f.opts.Failed(doc.Name, attempt, err)
			if !sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, f.opts.RetryMax)
		}
	})
}

// deliver hands a document to the handler once, when a worker is free.
func (f *feed) deliver(ctx context.Context, doc *pb.Document) error {
	select {
	case f.workers <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-f.workers }()
	ctx, cancel := context.WithTimeout(ctx, f.opts.Timeout)
	defer cancel()
	data, err := Event(doc)
	if err != nil {
		return err
	}
	return f.handle(ctx, doc.Name, data)
}
