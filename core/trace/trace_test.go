package trace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// caller is the example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers.
const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func telemetry(t testing.TB, sampler sdktrace.Sampler) (*trace.Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept), sdktrace.WithSampler(sampler)), noopmetric.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	return tel, kept
}

// A stranger's traceparent neither continues into our trace nor decides what is kept of it; the traceparent of an event of
// our own does both.
func TestWhoseTrace(t *testing.T) {
	tel, kept := telemetry(t, sdktrace.ParentBased(sdktrace.NeverSample()))
	_, span := tel.Serve(t.Context(), "GET /x", caller)
	trace.End(span, nil)
	if n := len(kept.GetSpans()); n != 0 {
		t.Errorf("a stranger made us keep %d spans", n)
	}
	_, span = tel.Continue(t.Context(), "process", caller, oteltrace.SpanKindConsumer)
	trace.End(span, nil)
	got := kept.GetSpans()
	if len(got) != 1 || got[0].SpanContext.TraceID().String() != caller[3:35] || got[0].Parent.SpanID().String() != caller[36:52] || !got[0].Parent.IsRemote() {
		t.Errorf("spans %+v", got)
	}

	tel, kept = telemetry(t, sdktrace.AlwaysSample())
	for _, header := range []string{caller, "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "nonsense", caller + "-x", strings.ToUpper(caller)} {
		kept.Reset()
		_, span = tel.Serve(t.Context(), "GET /x", header)
		trace.End(span, nil)
		_, other := tel.Continue(t.Context(), "process", header, oteltrace.SpanKindConsumer)
		trace.End(other, nil)
		s := kept.GetSpans()
		if linked := len(s[0].Links) == 1; s[0].Parent.IsValid() || linked != (header == caller) || s[1].Parent.IsValid() != (header == caller) {
			t.Errorf("%q: %+v", header, s)
		}
	}
}

// What an act does says where it belongs, in both directions of a hop.
func TestHop(t *testing.T) {
	tel, kept := telemetry(t, sdktrace.AlwaysSample())
	ctx := trace.With(t.Context(), tel, trace.Act{Function: "admin", Tenant: "acme", Request: "request-1"})
	ctx, root := tel.Serve(ctx, "POST /x", "")
	by := trace.Actor(ctx, core.Actor{Tenant: "acme"})
	if by.Request != "request-1" || len(by.Trace) != 55 || !strings.HasPrefix(by.Trace, "00-"+root.SpanContext().TraceID().String()) {
		t.Errorf("actor %+v", by)
	}
	_, next := tel.Continue(trace.With(t.Context(), tel, trace.Act{Function: "dispatch"}), "process", by.Trace, oteltrace.SpanKindConsumer)
	trace.End(next, fmt.Errorf("canary: %w", core.Unavailable))
	trace.End(root, nil)
	s := kept.GetSpans()
	if s[0].Parent.SpanID() != s[1].SpanContext.SpanID() || s[0].Status.Code != codes.Error || strings.Contains(fmt.Sprint(s), "canary") || s[1].Status.Code != codes.Unset {
		t.Errorf("spans %+v", s)
	}
}

// Without a Telemetry nothing is recorded, everything may be called, and what is asked in every request costs no memory.
func TestOff(t *testing.T) {
	var off *trace.Telemetry
	ctx := trace.With(t.Context(), off, trace.Act{Function: "token", Tenant: "acme", Request: "request-1"})
	off.Served(ctx, "token", time.Second)
	off.Stored(ctx, "get", time.Second, core.Conflict)
	off.Retried(ctx)
	off.Issued(ctx, "password")
	off.Handled(ctx, "x", "taken")
	off.Synced(ctx, "reached", time.Second, time.Second)
	off.Buried(ctx)
	off.Waited(ctx, time.Second)
	if _, span := off.Serve(ctx, "GET /x", caller); span.IsRecording() || span.SpanContext().IsValid() {
		t.Error("there is a span")
	}
	if _, span := off.Continue(ctx, "process", caller, oteltrace.SpanKindConsumer); span.IsRecording() || trace.Parent(ctx) != "" {
		t.Error("there is a span")
	}
	if got := trace.Actor(ctx, core.Actor{}); got.Request != "request-1" || got.Trace != "" {
		t.Errorf("actor %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		ctx, span := trace.Start(ctx, "get", oteltrace.SpanKindClient)
		trace.End(span, nil)
		trace.From(ctx).Issued(ctx, "password")
		trace.From(ctx).Retried(ctx)
		_ = trace.Actor(ctx, core.Actor{})
	}); n != 0 {
		t.Errorf("%v allocations where nothing is recorded", n)
	}
	// A span that is not ours is nobody's to end.
	foreign := oteltrace.ContextWithRemoteSpanContext(t.Context(), oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{1}}))
	if _, span := trace.Start(foreign, "get", oteltrace.SpanKindClient); span.SpanContext().IsValid() {
		t.Error("a span of an act that nothing records")
	}
}

func TestErrorType(t *testing.T) {
	for want, err := range map[string]error{
		"changed meanwhile": fmt.Errorf("x: %w", core.Conflict), "invalid": core.BadField("/name", "is canary"), "timeout": fmt.Errorf("x: %w", context.DeadlineExceeded),
		"cancelled": context.Canceled, "_OTHER": errors.New("canary"),
	} {
		if got := trace.ErrorType(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// A line says what its act is, once, and what the line says by itself counts.
func TestHandler(t *testing.T) {
	tel, _ := telemetry(t, sdktrace.AlwaysSample())
	act := trace.With(t.Context(), tel, trace.Act{Function: "sync", Tenant: "acme", Request: "request-1"})
	traced, span := tel.Serve(act, "GET /x", "")
	id := span.SpanContext().TraceID().String()
	noted := trace.Note(trace.Note(traced, "invocation", "i-1"), "empty", "")
	for _, tt := range []struct {
		name string
		ctx  context.Context
		log  func(*slog.Logger) *slog.Logger
		args []any
		want map[string]any
	}{
		{"nothing", t.Context(), nil, nil, map[string]any{}},
		{"an act", act, nil, nil, map[string]any{"request": "request-1", "function": "sync", "tenant": "acme"}},
		{"a span", traced, nil, nil, map[string]any{"request": "request-1", "function": "sync", "tenant": "acme", "trace_id": id, "span_id": span.SpanContext().SpanID().String()}},
		{"the line's own", act, nil, []any{"tenant", "globex"}, map[string]any{"request": "request-1", "function": "sync", "tenant": "globex"}},
		{"the logger's own", act, func(l *slog.Logger) *slog.Logger { return l.With("request", "r2").With("function", "f2") }, nil, map[string]any{"request": "r2", "function": "f2", "tenant": "acme"}},
		{"a group", act, func(l *slog.Logger) *slog.Logger { return l.WithGroup("g") }, []any{"a", "b"}, map[string]any{"g": map[string]any{"a": "b"}}},
		{"one of several tenants", trace.Of(act, "globex"), nil, nil, map[string]any{"request": "request-1", "function": "sync", "tenant": "globex"}},
		{"a note", noted, nil, nil, map[string]any{"request": "request-1", "function": "sync", "tenant": "acme", "trace_id": id, "span_id": span.SpanContext().SpanID().String(), "invocation": "i-1"}},
		{"a later act", trace.With(noted, tel, trace.Act{Function: "login"}), nil, nil, map[string]any{"function": "login", "trace_id": id, "span_id": span.SpanContext().SpanID().String(), "invocation": "i-1"}},
	} {
		var b bytes.Buffer
		h := trace.Handler(slog.NewJSONHandler(&b, nil))
		l := slog.New(trace.Handler(h)) // twice is once
		if tt.log != nil {
			l = tt.log(l)
		}
		l.InfoContext(tt.ctx, "x", tt.args...)
		var got map[string]any
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, own := range []string{"time", "level", "msg"} {
			delete(got, own)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) || strings.Count(b.String(), `"request"`) > 1 {
			t.Errorf("%s: %s, want %v", tt.name, &b, tt.want)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{caller, "", "00-", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", caller + "-00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tel, kept := telemetry(t, sdktrace.AlwaysSample())
		ctx, span := tel.Continue(t.Context(), "x", s, oteltrace.SpanKindConsumer)
		trace.End(span, nil)
		got := kept.GetSpans()[0]
		if p := trace.Parent(ctx); len(p) != 55 {
			t.Errorf("%q: parent %q", s, p)
		}
		if got.Parent.IsValid() && !strings.Contains(s, got.Parent.SpanID().String()) {
			t.Errorf("%q has the parent %s", s, got.Parent.SpanID())
		}
	})
}
