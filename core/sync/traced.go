package sync

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Traced is a queue whose messages bear the request and the span that they were sent in, unless they bear those of an
// earlier sending: a message that is sent again is still the same request's.
func Traced(q Queue) Queue { return traced{q} }

type traced struct{ queue Queue }

func (t traced) Send(ctx context.Context, messages ...Message) (err error) {
	ctx, span := trace.Start(ctx, "send sync", oteltrace.SpanKindProducer,
		semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend, semconv.MessagingDestinationName("sync"), semconv.MessagingBatchMessageCount(len(messages)))
	defer func() { trace.End(span, err) }()
	request, parent := trace.ActOf(ctx).Request, trace.Parent(ctx)
	marked := make([]Message, len(messages))
	for i, m := range messages {
		if m.Request == "" && m.Trace == "" {
			m.Request, m.Trace = request, parent
		}
		marked[i] = m
	}
	return t.queue.Send(ctx, marked...)
}

// The outcomes of a run, for its metric and its span.
const (
	outcomeReached  = "reached"  // the cluster holds what it should
	outcomeSkipped  = "skipped"  // there was nothing to look at
	outcomeBusy     = "busy"     // another run has the cluster
	outcomeRetry    = "retry"    // not yet: to be tried again
	outcomeTerminal = "terminal" // somebody must mend something first
	outcomeFailed   = "failed"   // it did not come to a run
)

// observed is what a call of Reconcile came to.
type observed struct {
	began   time.Time
	outcome string // of end; empty if it did not come so far
	lag     time.Duration
}

// tell records it.
func (o *observed) tell(ctx context.Context, now time.Time, err error) {
	switch {
	case o.outcome != "":
	case errors.Is(err, errBusy):
		o.outcome = outcomeBusy
	case err != nil:
		o.outcome = outcomeFailed
	default:
		o.outcome = outcomeSkipped
	}
	trace.From(ctx).Synced(ctx, o.outcome, now.Sub(o.began), o.lag)
	oteltrace.SpanFromContext(ctx).SetAttributes(trace.OutcomeKey.String(o.outcome))
}

// lagOf is for how long a cluster had been wanted to be what it is not, or only now is.
func lagOf(rec record, now time.Time) time.Duration {
	if rec.WantedSince.IsZero() {
		return 0
	}
	return now.Sub(rec.WantedSince)
}

// about names the cluster in the span under way.
func about(ctx context.Context, c core.ClusterID, rev core.Revision, writes int) {
	span := oteltrace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(trace.ClusterKey.String(string(c)), attribute.Int64(string(trace.RevisionKey), int64(rev)), attribute.Int(string(trace.WritesKey), writes))
}
