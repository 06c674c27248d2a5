package sync

import (
	"context"
	"errors"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// What went wrong is told in two places: in the log, which is the operator's, in full, and in a cluster's status and dead
// letters, which are the tenant's. The tenant must know what its cluster answered. Of an error on our side, in the store,
// the keys or the queue, whose words may name the account that we run in, it is told that there was one, and the request by
// which the operator finds it in the log. So whatever is not marked as the tenant's stays with us.

// theirs marks what the cluster answered, or what is to be told about it.
type theirs struct{ error }

func (e theirs) Unwrap() error { return e.error }

// ours marks an error of our own that comes out of a call to the cluster.
type ours struct{ error }

func (e ours) Unwrap() error { return e.error }

// told is an error with what the tenant is told of it.
type told struct {
	error
	public string
}

func (e told) Unwrap() error { return e.error }

func isOurs(err error) bool {
	_, our := errors.AsType[ours](err)
	return our
}

// said is what a tenant is told of a message's failure.
func (s *Service) said(ctx context.Context, m Message, err error) string {
	if t, ok := errors.AsType[told](err); ok {
		return t.public
	}
	_, shown := errors.AsType[theirs](err)
	if _, kind := errors.AsType[core.Kind](err); shown && kind && !isOurs(err) {
		return err.Error()
	}
	request := m.Request
	if request == "" {
		request = trace.ActOf(ctx).Request
	}
	return internal(request)
}

// internal is what is told of an error on our side.
func internal(request core.RequestID) string {
	if request == "" {
		return "an internal error"
	}
	return "an internal error (request ID " + strings.TrimSpace(clip(string(request))) + ")"
}
