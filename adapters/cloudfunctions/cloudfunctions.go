// Package cloudfunctions registers Fleetpass's handlers with Google Cloud Functions (functions-framework-go). HTTP
// functions are plain handlers there; the store's change feed arrives as CloudEvents, queue messages and schedules as HTTP
// requests of Cloud Tasks and Cloud Scheduler, which the platform authenticates before they come here.
package cloudfunctions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/fleetpass/fleetpass/core"
)

// maxMessage bounds a queue message, in bytes. Ours hold two ids.
const maxMessage = 64 << 10

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
func HTTP(name string, hops int, h http.Handler) {
	functions.HTTP(name, func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, trusted(r, hops)) })
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

// Stream registers a function for the outbox's change feed: a CloudEvent whose data is the event itself.
func Stream(name string, handle func(context.Context, []byte) error) {
	functions.CloudEvent(name, func(ctx context.Context, ev cloudevents.Event) error {
		if len(ev.Data()) == 0 {
			return errors.New("cloudfunctions: change event without data")
		}
		return handle(ctx, ev.Data())
	})
}

// Queue registers a function for queue messages. Any status but 2xx makes the queue retry.
func Queue(name string, handle func(context.Context, []byte) error) {
	functions.HTTP(name, queue(handle))
}

func queue(handle func(context.Context, []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err == nil {
			err = handle(r.Context(), body)
		}
		finish(w, r, err)
	}
}

// Schedule registers a periodic function.
func Schedule(name string, handle func(context.Context, time.Time) error) {
	functions.HTTP(name, schedule(handle))
}

func schedule(handle func(context.Context, time.Time) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, err := time.Parse(time.RFC3339, r.Header.Get("X-CloudScheduler-ScheduleTime"))
		if err != nil {
			http.Error(w, fmt.Sprintf("X-CloudScheduler-ScheduleTime: %v", err), http.StatusBadRequest)
			return
		}
		finish(w, r, handle(r.Context(), at.UTC()))
	}
}

func finish(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		slog.ErrorContext(r.Context(), "message failed", "error", err)
		http.Error(w, "failed; see the log", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
