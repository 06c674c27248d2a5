// Package web is the HTTP edge that every function shares: what surrounds a request (its id, its log line, the net under
// a panic, the security headers), bounded and strict bodies, and the one place where an error's kind becomes a status. It
// knows no function, no store and no platform.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Edge is what surrounds a function's handler.
type Edge struct {
	Function        string           // the name in the table of functions, for the log
	Log             *slog.Logger     // nil: slog.Default()
	StrictTransport bool             // send Strict-Transport-Security; off where plain HTTP is served beside HTTPS, as on a laptop
	Now             func() time.Time // nil: time.Now; only measures durations for the log and the metrics
	Telemetry       *trace.Telemetry // nil: no spans and no metrics
}

// call is what is known of the request under way. It travels in the context, so that Fail, called anywhere below, adds to
// the one line that the log gets for a request.
type call struct {
	id       core.RequestID
	function string
	log      *slog.Logger
	notes    []slog.Attr
	err      error
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Wrap surrounds next with: a request id (the client's X-Request-ID if it is sane, else a new one) that is echoed; the
// security headers of Headers; recovery from panics, answered as an internal error; and one line in the log when the
// request is done. The line has the route's pattern and never the path, query, headers or body: those hold codes, tokens
// and one-time links.
func (e Edge) Wrap(next http.Handler) http.Handler {
	log, now := e.Log, e.Now
	if log == nil {
		log = slog.Default()
	}
	if now == nil {
		now = time.Now
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := now()
		c := &call{id: requestID(r), function: e.Function, log: log}
		ctx := trace.With(r.Context(), e.Telemetry, trace.Act{Function: e.Function, Tenant: tenantForLog(r), Request: c.id})
		ctx, span := e.begin(ctx, r)
		r = r.WithContext(context.WithValue(ctx, callKey{}, c))
		rw := &recorder{ResponseWriter: w}
		w.Header().Set("X-Request-ID", string(c.id))
		Headers(w)
		if e.StrictTransport {
			w.Header().Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
		}
		defer func() {
			p := recover()
			if p == http.ErrAbortHandler {
				panic(p) // net/http's own way to drop a connection
			}
			if p != nil {
				// The value of a panic may quote its input, so only its type and the stack are logged.
				Logger(r.Context()).ErrorContext(r.Context(), "panic", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				if !rw.wrote {
					Fail(rw, r, errPanic)
				}
			}
			took := now().Sub(start)
			e.line(c, r, rw, took)
			e.end(span, c, r, rw, took)
		}()
		next.ServeHTTP(rw, r)
	})
}

func (e Edge) line(c *call, r *http.Request, rw *recorder, took time.Duration) {
	level, status := slog.LevelInfo, rw.code()
	if status >= 500 {
		level = slog.LevelError
	}
	attrs := append(make([]slog.Attr, 0, 16), // room for the notes
		slog.String("request", string(c.id)),
		slog.String("function", c.function),
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", r.Pattern),
		slog.String("tenant", string(tenantForLog(r))),
		slog.Int("status", status),
		slog.Int64("bytes", rw.bytes),
		slog.Duration("took", took),
		slog.String("address", Address(r)),
	)
	attrs = append(attrs, c.notes...)
	if c.err != nil {
		attrs = append(attrs, slog.String("error", c.err.Error()))
	}
	c.log.LogAttrs(r.Context(), level, "request", attrs...)
}

func knownMethod(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// tenantForLog is the tenant of the path, if it could be one: no foreign text enters the log through it.
func tenantForLog(r *http.Request) core.TenantID {
	t, err := core.ParseTenantID("tenant", r.PathValue("tenant"))
	if err != nil {
		return ""
	}
	return t
}

// headers is what every answer begins with. The lists are shared by all answers, and nobody may write into them: Set and
// Add replace them.
var headers = map[string][]string{
	"Content-Security-Policy":      {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	"X-Frame-Options":              {"DENY"},
	"X-Content-Type-Options":       {"nosniff"},
	"Referrer-Policy":              {"no-referrer"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Cache-Control":                {"no-store"},
}

// Headers sets what every answer begins with: nothing may be loaded, framed, sniffed or kept, and no address of ours is
// told to others. A handler that serves a page or something cacheable overwrites what it must.
func Headers(w http.ResponseWriter) { maps.Copy(w.Header(), headers) }

// Logger is the request's logger: it has the request's id and function, and trace.Handler adds the rest where the context is
// given. Never give it a secret, a token or a body.
func Logger(ctx context.Context) *slog.Logger {
	if c := callOf(ctx); c != nil {
		return c.log.With("request", string(c.id), "function", c.function)
	}
	return slog.Default()
}

// Note adds what a handler knows to the request's line in the log. Never give it a secret, a token or a body.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if c := callOf(ctx); c != nil {
		c.notes = append(c.notes, attrs...)
	}
}

// RequestID is the id of the request under way, empty outside of Edge.
func RequestID(ctx context.Context) core.RequestID {
	if c := callOf(ctx); c != nil {
		return c.id
	}
	return ""
}

// requestID takes the client's id if it can stand in a log and a header as it is, so that a call can be followed through
// several systems.
func requestID(r *http.Request) core.RequestID {
	id := r.Header.Get("X-Request-ID")
	if len(id) < 8 || len(id) > 64 {
		return core.RequestID(core.NewID())
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return core.RequestID(core.NewID())
		}
	}
	return core.RequestID(id)
}

// Address is the client's address: the peer of the connection. Where there are hops before us, the adapter of the runtime,
// which alone knows which of them to believe, has put the client's in its place; no header is read here.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

func (w *recorder) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.wrote = true
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// code is the status that was answered: a handler that says none says 200.
func (w *recorder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
