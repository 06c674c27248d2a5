// Package cloudfunctions registers Fleetpass's handlers with Google Cloud Functions (functions-framework-go). HTTP
// functions are plain handlers there; the store's change feed arrives as CloudEvents, queue messages and schedules as HTTP
// requests of Cloud Tasks and Cloud Scheduler, which the platform authenticates before they come here.
//
// A handler that fails logs why, since it knows which request it failed for; here only what never reached a handler is
// logged.
package cloudfunctions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

const (
	maxMessage   = 64 << 10 // bytes of a queue message. Ours hold two ids
	maxNote      = 512      // bytes of a platform's name that go into the log
	defaultGrace = time.Second
	flushGrace   = 3 * time.Second        // the default where there is a Flush; more than it takes at most
	reserve      = 200 * time.Millisecond // between the end of Flush and Timeout: for the answer to be handed over
)

// Runtime registers functions. The zero Runtime works.
type Runtime struct {
	// Timeout is the platform's own for one call of the function; a handler's context ends Grace before it, so that it fails by
	// itself and says so. Optional: 0 leaves the handler the request's context, which has no deadline.
	Timeout time.Duration

	// Grace is what a call needs at its end; it takes at most half of Timeout. Default 1 second; 3 seconds where there is a
	// Flush, which needs two of them with a collector that hangs.
	Grace time.Duration

	// Flush is called at the end of each call: between calls the platform gives the process no time to speak of. The caller
	// waits for it, so it bounds its own time, and it heeds its context's deadline, which is shortly before Timeout. Optional.
	Flush func(context.Context)
}

// call surrounds one call, and returns what ends it.
func (r Runtime) call(ctx context.Context) (context.Context, func()) {
	handling, cancel := ctx, context.CancelFunc(func() {})
	flushing, flushed := ctx, context.CancelFunc(func() {})
	if r.Timeout > 0 {
		deadline := time.Now().Add(r.Timeout)
		handling, cancel = context.WithDeadline(ctx, deadline.Add(-min(r.grace(), r.Timeout/2)))
		flushing, flushed = context.WithDeadline(ctx, deadline.Add(-reserve))
	}
	return handling, func() {
		defer flushed()
		cancel()
		if r.Flush != nil {
			r.Flush(flushing)
		}
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

// MaxHops is the most trusted hops that there can be.
const MaxHops = 8

// TrustedHops reads how many hops before the function append the address that they saw to X-Forwarded-For. It is 1 for
// Google's front end alone, which is what "" means; a load balancer before it appends the client's address and its own, so
// with one it is 2. Too few, and everybody has the load balancer's address, and waits for each other's wrong passwords; too
// many, and a client chooses its own. The error is core.Invalid.
func TrustedHops(s string) (int, error) {
	if s == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxHops {
		return 0, core.BadField("FLEETPASS_TRUSTED_HOPS", fmt.Sprintf("must be a number from 1 to %d: how many hops append to X-Forwarded-For", MaxHops))
	}
	return n, nil
}

// HTTP registers an HTTP function. The client's address is the one that the outermost trusted hop appended to
// X-Forwarded-For: see TrustedHops. Whatever stands before it, anybody can have written.
func (r Runtime) HTTP(name string, hops int, h http.Handler) {
	functions.HTTP(name, r.http(hops, h))
}

func (r Runtime) http(hops int, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, done := r.call(req.Context())
		defer done()
		h.ServeHTTP(w, trusted(req.WithContext(ctx), hops))
	}
}

func trusted(r *http.Request, hops int) *http.Request {
	seen := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if len(seen) < hops {
		return r // it did not come by way of them all
	}
	client := strings.TrimSpace(seen[len(seen)-hops])
	if net.ParseIP(client) == nil {
		return r
	}
	r = r.Clone(r.Context())
	r.RemoteAddr = net.JoinHostPort(client, "0")
	return r
}

// The Eventarc event that an item of the outbox causes, and where in the database it must be. Others are passed over: the
// trigger filters them out already, but one that was made too wide must not turn the whole database into events.
const (
	created       = "google.cloud.firestore.document.v1.created"
	outboxSubject = "documents/outbox/"
)

// Stream registers a function for the outbox's change feed. Eventarc sends CloudEvents, whose data is protobuf or JSON by
// their content type; body takes our own event out of it (see the store's adapter). An error of body or handle asks for the
// event again.
func (r Runtime) Stream(name string, body func(contentType string, data []byte) ([]byte, error), handle func(context.Context, []byte) error) {
	functions.CloudEvent(name, r.stream(body, handle))
}

func (r Runtime) stream(body func(string, []byte) ([]byte, error), handle func(context.Context, []byte) error) func(context.Context, cloudevents.Event) error {
	return func(ctx context.Context, ev cloudevents.Event) error {
		ctx, done := r.call(note(ctx, "event", ev.ID()))
		defer done()
		if ev.Type() != created || !strings.HasPrefix(ev.Subject(), outboxSubject) {
			return nil
		}
		event, err := body(ev.DataContentType(), ev.Data())
		if err != nil { // it would be no clearer the next time, so it is for the handler to park
			broken(ctx, fmt.Errorf("cloudfunctions: change event: %w", err))
			event = ev.Data()
		}
		return safely(ctx, func() error { return handle(ctx, event) })
	}
}

// Queue registers a function for queue messages. Any status but 2xx makes the queue retry.
func (r Runtime) Queue(name string, handle func(context.Context, []byte) error) {
	functions.HTTP(name, r.queue(handle))
}

func (r Runtime) queue(handle func(context.Context, []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		ctx := note(note(req.Context(), "task", req.Header.Get("X-CloudTasks-TaskName")), "retries", req.Header.Get("X-CloudTasks-TaskRetryCount"))
		ctx, done := r.call(ctx)
		defer done()
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxMessage))
		if err != nil {
			err = fmt.Errorf("cloudfunctions: a message that does not end within %d bytes", maxMessage)
			broken(ctx, err)
		} else {
			err = safely(ctx, func() error { return handle(ctx, body) })
		}
		finish(w, err)
	}
}

// Schedule registers a periodic function. It is called with the time that was scheduled, which a late start does not move.
func (r Runtime) Schedule(name string, handle func(context.Context, time.Time) error) {
	functions.HTTP(name, r.schedule(handle))
}

func (r Runtime) schedule(handle func(context.Context, time.Time) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, done := r.call(note(req.Context(), "job", req.Header.Get("X-CloudScheduler-JobName")))
		defer done()
		at, err := time.Parse(time.RFC3339, req.Header.Get("X-CloudScheduler-ScheduleTime"))
		if err != nil {
			broken(ctx, errors.New("cloudfunctions: a tick without X-CloudScheduler-ScheduleTime"))
			http.Error(w, "X-CloudScheduler-ScheduleTime: must be the time that was scheduled", http.StatusBadRequest)
			return
		}
		finish(w, safely(ctx, func() error { return handle(ctx, at.UTC()) }))
	}
}

// note puts into the log what the platform calls a thing.
func note(ctx context.Context, name, value string) context.Context {
	return trace.Note(ctx, name, value[:min(len(value), maxNote)])
}

func finish(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, "failed; see the log", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func log() *slog.Logger { return slog.New(trace.Handler(slog.Default().Handler())) }

// broken logs an error about what never reaches a handler as it should.
func broken(ctx context.Context, err error) {
	log().ErrorContext(ctx, "an event that is none", "error", err)
}

// safely makes an error of a panic. The framework would as well, but it prints the value, which may quote the input.
func safely(ctx context.Context, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log().ErrorContext(ctx, "panic", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("cloudfunctions: a handler panicked")
		}
	}()
	return do()
}
