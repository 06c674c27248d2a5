package web

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/fleetpass/fleetpass/core"
)

// Routes serves handlers by their patterns (net/http's), and answers what has none as every other failure is answered: 404,
// or 405 with Allow (RFC 9110 §15.5.6). ServeMux by itself answers these in plain text, and redirects a path that is not
// clean to one that is. The handlers have an Edge of their own; edge surrounds what is answered here.
func Routes(handlers map[string]http.Handler, edge Edge) http.Handler {
	all := http.NewServeMux()
	for pattern, h := range handlers {
		all.Handle(pattern, h)
	}
	// Made when it is first needed: to register a hundred patterns is a good part of a cold start.
	served := sync.OnceValue(func() *http.ServeMux {
		mux := http.NewServeMux()
		for pattern, h := range handlers {
			mux.Handle(pattern, h)
		}
		return mux
	})
	missing := edge.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allow := allowed(served(), r); allow != "" {
			w.Header().Set("Allow", allow)
			message := knownMethod(r.Method) + " is not among the methods of this path, which are: " + allow
			JSON(w, http.StatusMethodNotAllowed, Error{
				Code: http.StatusMethodNotAllowed, Message: message, Details: &Details{Request: RequestID(r.Context())},
			})
			return
		}
		Fail(w, r, fmt.Errorf("path: %w", core.NotFound))
	}))
	all.Handle("/", missing)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !clean(r.URL.EscapedPath()) {
			missing.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}

// allowed is the methods that mux serves the path by, as for Allow; empty if there are none. It lets mux refuse the
// request, which alone knows, and keeps nothing but the header.
func allowed(mux *http.ServeMux, r *http.Request) string {
	if !clean(r.URL.EscapedPath()) {
		return ""
	}
	refuse, pattern := mux.Handler(r)
	if pattern != "" {
		return ""
	}
	seen := discard{}
	refuse.ServeHTTP(seen, r)
	return http.Header(seen).Get("Allow")
}

// discard is a ResponseWriter of which only the header is kept.
type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
