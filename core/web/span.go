package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core/trace"
)

// begin begins the request's span. It is named by method and route, as the conventions for HTTP have it; the path, the query
// and the client's address are not in it.
func (e Edge) begin(ctx context.Context, r *http.Request) (context.Context, oteltrace.Span) {
	if e.Telemetry == nil {
		return e.Telemetry.Serve(ctx, "", "")
	}
	act := trace.ActOf(ctx)
	return e.Telemetry.Serve(ctx, spanName(r), r.Header.Get("Traceparent"),
		semconv.HTTPRequestMethodKey.String(methodOf(r)), semconv.FaaSTriggerHTTP,
		trace.FunctionKey.String(act.Function), trace.RequestKey.String(string(act.Request)), trace.TenantKey.String(string(act.Tenant)))
}

// end ends the span, and records the request.
func (e Edge) end(span oteltrace.Span, c *call, r *http.Request, w *recorder, took time.Duration) {
	if e.Telemetry == nil {
		return
	}
	status := w.code()
	attrs := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(methodOf(r)), semconv.HTTPResponseStatusCode(status), semconv.URLScheme(scheme(r, e)),
	}
	if route := routeOf(r); route != "" {
		attrs = append(attrs, semconv.HTTPRoute(route))
	}
	if status >= 500 { // what is below is the client's error, and none of a server's span
		kind := semconv.ErrorTypeOther
		if c.err != nil {
			kind = semconv.ErrorTypeKey.String(trace.ErrorType(c.err))
		}
		attrs = append(attrs, kind)
		span.SetStatus(codes.Error, "")
	}
	span.SetName(spanName(r)) // now that the route is known, whichever mux knew it
	span.SetAttributes(attrs...)
	span.End()
	e.Telemetry.Served(r.Context(), c.function, took, attrs...)
}

// methodOf is the method as the conventions spell one that is not known: a client could make up any number of them.
func methodOf(r *http.Request) string {
	if m := knownMethod(r.Method); m != "other" {
		return m
	}
	return "_OTHER"
}

// routeOf is the pattern of the request's route without its method.
func routeOf(r *http.Request) string {
	_, route, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		return r.Pattern
	}
	return route
}

func spanName(r *http.Request) string {
	method := methodOf(r)
	if method == "_OTHER" {
		method = "HTTP"
	}
	if route := routeOf(r); route != "" {
		return method + " " + route
	}
	return method
}

// scheme is what the client spoke: where Strict-Transport-Security is sent, there is no door but HTTPS, and the platform's
// front end has taken the TLS off.
func scheme(r *http.Request, e Edge) string {
	if e.StrictTransport || r.TLS != nil {
		return "https"
	}
	return "http"
}
