// Package lambda runs Fleetpass's handlers on AWS Lambda (aws-lambda-go). It turns HTTP events, DynamoDB stream batches, SQS
// batches and schedules into plain calls, and knows nothing of what the handlers do.
//
// A handler that fails logs why, since it knows which request it failed for; here only what never reached a handler is
// logged. Every line has the invocation's id, by which Lambda's own lines know it.
package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/fleetpass/fleetpass/core/trace"
)

// Runtime runs one function. The zero Runtime works.
type Runtime struct {
	// Flush is called at the end of each invocation: Lambda freezes the process until the next, so what waits to be sent
	// would wait with it. The caller of the function waits for it, so it bounds its own time, and it heeds its context's
	// deadline, which is shortly before Lambda's own: Lambda would kill an invocation that has its answer. Optional.
	Flush func(context.Context)

	// Grace is how long before Lambda's own deadline a handler's context ends, so that it fails by itself, and says so,
	// instead of being killed, but at most half of the time that there is. Default 1 second; 3 seconds where there is a Flush,
	// which needs two of them with a collector that hangs.
	Grace time.Duration
}

const (
	defaultGrace = time.Second
	flushGrace   = 3 * time.Second        // the default where there is a Flush; more than it takes at most
	reserve      = 200 * time.Millisecond // between the end of Flush and Lambda's deadline: for the answer to be handed over
)

// invocation surrounds one invocation: its id in the log, the handler's deadline, and the flush at the end.
func invocation[In, Out any](r Runtime, do func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) {
		if lc, ok := lambdacontext.FromContext(ctx); ok {
			ctx = trace.Note(ctx, "invocation", lc.AwsRequestID)
		}
		deadline, limited := ctx.Deadline()
		if r.Flush != nil {
			defer r.flush(ctx)
		}
		if limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(r.grace(), time.Until(deadline)/2)))
			defer cancel()
		}
		return do(ctx, in)
	}
}

func (r Runtime) grace() time.Duration {
	switch {
	case r.Grace > 0:
		return r.Grace
	case r.Flush != nil:
		return flushGrace
	}
	return defaultGrace
}

// flush flushes within the invocation's own time, less what it takes to hand over the answer.
func (r Runtime) flush(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
		defer cancel()
	}
	r.Flush(ctx)
}

// safely makes an error of a panic: aws-lambda-go would end the process, and with it what else is in the batch. The value
// may quote the input, so only its type and the stack are logged.
func safely(ctx context.Context, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log().ErrorContext(ctx, "panic", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("lambda: a handler panicked")
		}
	}()
	return do()
}

func log() *slog.Logger { return slog.New(trace.Handler(slog.Default().Handler())) }
