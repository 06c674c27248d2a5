package functions

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	coresync "github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/events"
)

// What surrounds an event, a message or a minute, as web.Edge surrounds a request: the act that its log lines belong to, and
// a span below the one that caused it. Each returns what ends it.

func (s *System) dispatching(ctx context.Context, body []byte) (context.Context, func(*error)) {
	env, fact, _ := events.Decode(body) // to know what it belongs to; what cannot be read is dispatch's own to park
	kind := semconv.ErrorTypeOther.Value.AsString()
	if fact != nil {
		kind = fact.Type()
	}
	tenant, _ := core.ParseTenantID("source", env.Tenant)
	act := trace.Act{Function: "dispatch", Tenant: tenant, Request: core.RequestID(env.Request)}
	ctx, done := s.begin(ctx, act, "process outbox", env.Trace, oteltrace.SpanKindConsumer,
		semconv.FaaSTriggerDatasource, semconv.CloudEventsEventType(kind), semconv.CloudEventsEventID(env.ID))
	return ctx, func(err *error) {
		outcome := "taken"
		if *err != nil {
			outcome = "failed"
		}
		s.Telemetry.Handled(ctx, kind, outcome)
		done(err)
	}
}

func (s *System) synchronizing(ctx context.Context, m coresync.Message) (context.Context, func(*error)) {
	act := trace.Act{Function: "sync", Tenant: m.Tenant, Request: m.Request}
	return s.begin(ctx, act, "process sync", m.Trace, oteltrace.SpanKindConsumer,
		semconv.FaaSTriggerPubSub, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess, semconv.MessagingDestinationName("sync"))
}

// maintaining gives the minute a request id of its own, which whatever comes of it bears.
func (s *System) maintaining(ctx context.Context) (context.Context, func(*error)) {
	act := trace.Act{Function: "maintain", Request: core.RequestID(core.NewID())}
	return s.begin(ctx, act, "maintain", "", oteltrace.SpanKindInternal, semconv.FaaSTriggerTimer)
}

// begin begins an act. Its failure is logged here, where it is known what it belongs to; the platform only learns of it.
func (s *System) begin(ctx context.Context, act trace.Act, name, parent string, kind oteltrace.SpanKind, attrs ...attribute.KeyValue) (context.Context, func(*error)) {
	ctx = trace.With(ctx, s.Telemetry, act)
	attrs = append(attrs, trace.FunctionKey.String(act.Function), trace.RequestKey.String(string(act.Request)), trace.TenantKey.String(string(act.Tenant)))
	ctx, span := s.Telemetry.Continue(ctx, name, parent, kind, attrs...)
	return ctx, func(err *error) {
		if *err != nil {
			s.Log.ErrorContext(ctx, "failed, and comes again", "error", *err)
		}
		trace.End(span, *err)
	}
}
