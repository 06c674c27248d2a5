package store

import (
	"context"
	"iter"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core/trace"
)

// Traced is db with a span and a measurement of each call that is made in an act that is recorded (see trace.With). Of keys
// it tells the kind of the first, never the key: some are e-mails, others one-time codes. It is put around a store only
// where something is recorded at all.
func Traced(db DB) DB { return traced{db} }

type traced struct{ db DB }

// begin begins a span, and returns what ends it.
func begin(ctx context.Context, operation, kind string, size int) (context.Context, func(error)) {
	ctx, span := trace.Start(ctx, operation+" "+kind, oteltrace.SpanKindClient,
		semconv.DBOperationName(operation), semconv.DBCollectionName(kind), semconv.DBOperationBatchSize(size))
	since := time.Now()
	return ctx, func(err error) {
		trace.End(span, err)
		trace.From(ctx).Stored(ctx, operation, time.Since(since), err)
	}
}

func (t traced) Get(ctx context.Context, keys ...Key) (items []Item, err error) {
	var kind string
	if len(keys) > 0 {
		kind = keys[0].Kind()
	}
	ctx, end := begin(ctx, "get", kind, len(keys))
	defer func() { end(err) }()
	return t.db.Get(ctx, keys...)
}

// List is measured until the caller has seen enough, which may be long after the store answered: nobody but the store sees
// the pages between.
func (t traced) List(ctx context.Context, r Range) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		ctx, end := begin(ctx, "list", r.partition.Kind(), 1)
		var failed error
		defer func() { end(failed) }()
		for item, err := range t.db.List(ctx, r) {
			failed = err
			if !yield(item, err) {
				return
			}
		}
	}
}

func (t traced) Commit(ctx context.Context, ops ...Op) (err error) {
	var kind string
	if len(ops) > 0 {
		kind = ops[0].Key.Kind()
	}
	ctx, end := begin(ctx, "commit", kind, len(ops))
	defer func() { end(err) }()
	if err = t.db.Commit(ctx, ops...); err != nil {
		return err
	}
	for _, op := range ops {
		if op.Verb == VerbPut && op.Key.IsDeadLetter() {
			trace.From(ctx).Buried(ctx)
		}
	}
	return nil
}
