package trace

import (
	"context"
	"log/slog"
	"slices"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// Handler makes every line that is logged with a context say which act it belongs to: request, tenant, function, trace_id
// and span_id (the names that OpenTelemetry gives them in logs that are not its own), and what was noted. What a line says
// by itself is not said again, and what is empty not at all.
func Handler(h slog.Handler) slog.Handler {
	if _, ok := h.(*handler); ok {
		return h
	}
	return &handler{Handler: h}
}

type handler struct {
	slog.Handler
	said    []string // what With has said on the top level
	grouped bool     // then what is added here would stand in the group, and is left out
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	sc := oteltrace.SpanContextFromContext(ctx)
	if h.grouped || !ok && !sc.IsValid() {
		return h.Handler.Handle(ctx, r)
	}
	said := slices.Clip(h.said)
	r.Attrs(func(a slog.Attr) bool {
		said = append(said, a.Key)
		return true
	})
	r = r.Clone()
	add := func(name, value string) {
		if value != "" && !slices.Contains(said, name) {
			r.AddAttrs(slog.String(name, value))
		}
	}
	if ok {
		add("request", string(s.Request))
		add("function", s.Function)
		add("tenant", string(s.Tenant))
		for _, n := range s.notes {
			add(n.name, n.value)
		}
	}
	if sc.IsValid() {
		add("trace_id", sc.TraceID().String())
		add("span_id", sc.SpanID().String())
	}
	return h.Handler.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithAttrs(attrs)
	if !h.grouped {
		next.said = slices.Clip(h.said)
		for _, a := range attrs {
			next.said = append(next.said, a.Key)
		}
	}
	return &next
}

func (h *handler) WithGroup(name string) slog.Handler {
	next := *h
	next.Handler, next.grouped = h.Handler.WithGroup(name), h.grouped || name != ""
	return &next
}
