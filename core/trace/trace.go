// Package trace follows an act from the request to the last write at a cluster, through the store, the change stream and
// the queue. It owns what travels with the act in the context (its function, tenant and request, for the log; its span), the
// W3C traceparent that stands for it in events and messages, and the system's metrics (metrics.go).
//
// The interface is OpenTelemetry's. Nothing is global: spans and metrics go to the Telemetry that the edge put into the
// context, and where a composition root gave none, everything here is a look into the context and no more.
//
// What a span may say: ids, revisions, kinds of error, patterns of routes. Never a secret, a token, an e-mail, a body, or a
// path or query as a client sent it, which may hold a code.
package trace

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
)

// Act is what a function is at: one request, event, message or minute.
type Act struct {
	Function string         // its name in the table of functions
	Tenant   core.TenantID  // empty where there is none, or not one
	Request  core.RequestID // the request that began it, however many functions ago
}

// scope is what travels in the context. It is not changed once it is there.
type scope struct {
	Act
	telemetry *Telemetry
	notes     []note
}

// note is one more attribute of every line in the log.
type note struct{ name, value string }

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return *s
	}
	return scope{}
}

// With makes a context in which the act is under way and recorded by t, which may be nil.
func With(ctx context.Context, t *Telemetry, a Act) context.Context {
	s := scopeOf(ctx)
	s.Act, s.telemetry = a, t
	return context.WithValue(ctx, scopeKey{}, &s)
}

// Of is the context for what the act under way does for one tenant of several.
func Of(ctx context.Context, tenant core.TenantID) context.Context {
	s := scopeOf(ctx)
	s.Tenant = tenant
	return context.WithValue(ctx, scopeKey{}, &s)
}

// Note adds an attribute to every line that is logged with the context: how the platform names the call, for one. Never
// give it a secret.
func Note(ctx context.Context, name, value string) context.Context {
	s := scopeOf(ctx)
	s.notes = append(slices.Clip(s.notes), note{name, value})
	return context.WithValue(ctx, scopeKey{}, &s)
}

// ActOf is the act under way; zero where there is none.
func ActOf(ctx context.Context) Act { return scopeOf(ctx).Act }

// From is the Telemetry that records the act under way; nil, which is as good as any, where nothing is recorded.
func From(ctx context.Context) *Telemetry {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s.telemetry
	}
	return nil
}

// Actor returns a with the request and the span that are under way, so that what a does can be followed on.
func Actor(ctx context.Context, a core.Actor) core.Actor {
	a.Request, a.Trace = ActOf(ctx).Request, Parent(ctx)
	return a
}

// Parent is the W3C traceparent (https://www.w3.org/TR/trace-context/#traceparent-header) of the span under way; empty where
// there is none.
func Parent(ctx context.Context) string {
	sc := oteltrace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// remote reads a traceparent; what is none is the invalid SpanContext.
func remote(traceparent string) oteltrace.SpanContext {
	if traceparent == "" {
		return oteltrace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return oteltrace.SpanContextFromContext(ctx)
}

// none is the span that keeps nothing.
var none = oteltrace.SpanFromContext(context.Background())

// Serve begins the span of a request. Whoever may call us chooses the traceparent that the request bears, so it is not
// continued: with it a stranger would decide what is sampled, at our cost, and could put our spans into any trace that they
// know the id of. The span is the root of a trace of its own, and has a link to the caller's, with which both are found.
func (t *Telemetry) Serve(ctx context.Context, name, traceparent string, attrs ...attribute.KeyValue) (context.Context, oteltrace.Span) {
	if t == nil {
		return ctx, none
	}
	options := []oteltrace.SpanStartOption{oteltrace.WithNewRoot(), oteltrace.WithSpanKind(oteltrace.SpanKindServer), oteltrace.WithAttributes(attrs...)}
	if caller := remote(traceparent); caller.IsValid() {
		options = append(options, oteltrace.WithLinks(oteltrace.Link{SpanContext: caller}))
	}
	return t.tracer.Start(ctx, name, options...)
}

// Continue begins a span below the one that an event or message of our own bears, or a root where it bears none.
func (t *Telemetry) Continue(ctx context.Context, name, traceparent string, kind oteltrace.SpanKind, attrs ...attribute.KeyValue) (context.Context, oteltrace.Span) {
	if t == nil {
		return ctx, none
	}
	if parent := remote(traceparent); parent.IsValid() {
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, parent)
	}
	return t.tracer.Start(ctx, name, oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attrs...))
}

// Start begins a span below the one under way; where there is none, it begins none and returns one that keeps nothing. End
// it with End.
func Start(ctx context.Context, name string, kind oteltrace.SpanKind, attrs ...attribute.KeyValue) (context.Context, oteltrace.Span) {
	t := From(ctx)
	if t == nil || !oteltrace.SpanContextFromContext(ctx).IsValid() {
		return ctx, none
	}
	return t.tracer.Start(ctx, name, oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attrs...))
}

// End ends a span. Of an error it keeps the kind alone: the text may name somebody.
func End(span oteltrace.Span, err error) {
	if !span.IsRecording() {
		span.End()
		return
	}
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(ErrorType(err)))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// ErrorType is a word for an error out of a small set, for the attribute error.type: its core.Kind, or that time ran out.
// Any other is "_OTHER", as the conventions have it.
func ErrorType(err error) string {
	if kind, ok := errors.AsType[core.Kind](err); ok {
		return string(kind)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}
