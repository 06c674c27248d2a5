package firestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fleetpass/fleetpass/core"
)

// Every RPC is made with these. The generated client would repeat it by itself for as long as the context lasts, a Commit
// too, and then nobody could tell a conflict from the second meeting of a commit with itself.
var once = []gax.CallOption{gax.WithRetry(nil), gax.WithTimeout(0)}

// A commit also waits for a connection where there is none: a commit that was never sent need not be wondered about.
var onceConnected = append(once[:len(once):len(once)], gax.WithGRPCOptions(grpc.WaitForReady(true)))

// The pauses between attempts, of which a random half to one and a half is taken.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// attempts counts the tries of one call.
type attempts struct {
	left  int
	pause time.Duration
}

func (db *DB) attempts() attempts { return attempts{left: db.opts.Attempts, pause: firstPause} }

// again waits before the next try. It returns false when there is none: the budget is spent, or the context has ended.
func (a *attempts) again(ctx context.Context) bool {
	if a.left--; a.left <= 0 {
		return false
	}
	pause := a.pause
	a.pause = min(2*a.pause, lastPause)
	return sleep(ctx, pause)
}

// sleep waits for about that long, so that what failed together is not tried together again. It returns false if the context
// ends first.
func sleep(ctx context.Context, about time.Duration) bool {
	timer := time.NewTimer(about/2 + rand.N(about))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errCut is a stream that ended well, and without everything that was asked for.
var errCut = errors.New("the answer was cut short")

// passing says whether an error may be gone at the next try. A status that no server sent, since the connection broke, is
// among them. The others are for a person: a permission or an index is missing, the database does not exist.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown, codes.Aborted, codes.ResourceExhausted, codes.DataLoss:
		return true
	}
	return errors.Is(err, errCut)
}

// overQuota says that Firestore refused an RPC because a quota is used up, before it did anything. The code alone does not say
// so: grpc-go makes the same one of a stream that was reset with ENHANCE_YOUR_CALM, by whatever lies between and perhaps after
// the RPC was carried out, and of an answer that is too long. Only a server sends details.
func overQuota(err error) bool {
	api, ok := errors.AsType[*apierror.APIError](err)
	if !ok || status.Code(err) != codes.ResourceExhausted {
		return false
	}
	return api.Details().QuotaFailure != nil || api.Details().ErrorInfo != nil
}

// ready refuses calls whose context has ended, and all of them after Close.
func (db *DB) ready(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return unavailable(what, context.Cause(ctx))
	}
	if db.closed.Load() {
		return unavailable(what, errors.New("the store was closed"))
	}
	return nil
}

// unavailable says that the store did not answer, with the cause in the chain.
func unavailable(what string, cause error) error {
	return fmt.Errorf("store: %s: %w: %w", what, core.Unavailable, cause)
}

// failed is the error of a call whose last try ended with err.
func failed(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return unavailable(what, context.Cause(ctx))
	case passing(err):
		return unavailable(what, err)
	}
	return fmt.Errorf("store: %s: %w", what, err)
}

// reading runs an RPC that changes nothing, until it succeeds or is given up.
func (db *DB) reading(ctx context.Context, what string, try func(context.Context) error) error {
	if err := db.ready(ctx, what); err != nil {
		return err
	}
	for a := db.attempts(); ; {
		err := db.limited(ctx, try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !passing(err) || !a.again(ctx) {
			return failed(ctx, what, err)
		}
	}
}

// limited runs one RPC under its timeout. Its end also ends a stream that is left early.
func (db *DB) limited(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.opts.Timeout)
	defer cancel()
	return try(ctx)
}
