package web_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/web"
)

// A request is a span by its route, and one measurement with the same attributes, whatever becomes of it: an answer, a
// failure, a panic, or a route that there is not. What the client wrote is in neither.
func TestSpan(t *testing.T) {
	handlers := map[string]http.HandlerFunc{
		"GET /t/{tenant}/ok":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") },
		"POST /t/{tenant}/denied": func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, core.Denied) },
		"GET /t/{tenant}/away": func(w http.ResponseWriter, r *http.Request) {
			web.Fail(w, r, fmt.Errorf("canary: %w", core.Unavailable))
		},
		"GET /t/{tenant}/bug":   func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, errors.New("canary")) },
		"GET /t/{tenant}/panic": func(http.ResponseWriter, *http.Request) { panic("canary") },
	}
	for _, tt := range []struct {
		method, path, tenant string
		name, route          string
		status               int64
		failed               string
	}{
		{"GET", "/t/acme/ok?code=canary", "acme", "GET /t/{tenant}/ok", "/t/{tenant}/ok", 200, ""},
		{"HEAD", "/t/acme/ok", "acme", "HEAD /t/{tenant}/ok", "/t/{tenant}/ok", 200, ""},
		{"POST", "/t/acme/denied", "acme", "POST /t/{tenant}/denied", "/t/{tenant}/denied", 403, ""},
		{"GET", "/t/acme/away", "acme", "GET /t/{tenant}/away", "/t/{tenant}/away", 503, "temporarily unavailable"},
		{"GET", "/t/acme/bug", "acme", "GET /t/{tenant}/bug", "/t/{tenant}/bug", 500, "_OTHER"},
		{"GET", "/t/acme/panic", "acme", "GET /t/{tenant}/panic", "/t/{tenant}/panic", 500, "_OTHER"},
		{"GET", "/canary/canary", "", "GET /", "/", 404, ""},
		{"GET", "/t/Canary!/ok", "", "GET /t/{tenant}/ok", "/t/{tenant}/ok", 200, ""},
		{"CANARY", "/t/acme/ok", "", "HTTP /", "/", 405, ""},
		{"DELETE", "/canary/../t/acme/ok", "", "DELETE", "", 404, ""},
	} {
		kept, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
		tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
		if err != nil {
			t.Fatal(err)
		}
		edge := web.Edge{Function: "fun", Log: slog.New(slog.DiscardHandler), Telemetry: tel, StrictTransport: true}
		wrapped := map[string]http.Handler{}
		for pattern, h := range handlers {
			wrapped[pattern] = edge.Wrap(h)
		}
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader("canary"))
		r.Header.Set("Authorization", "Bearer canary")
		web.Routes(wrapped, edge).ServeHTTP(httptest.NewRecorder(), r)

		spans := kept.GetSpans()
		if len(spans) != 1 {
			t.Fatalf("%s: %d spans", tt.path, len(spans))
		}
		got := attribute.NewSet(spans[0].Attributes...)
		value := func(key attribute.Key) attribute.Value { v, _ := got.Value(key); return v }
		failed := ""
		if got.HasValue("error.type") {
			failed = value("error.type").AsString()
		}
		if spans[0].Name != tt.name || value("http.route").AsString() != tt.route && tt.route != "" || got.HasValue("http.route") != (tt.route != "") ||
			value("http.response.status_code").AsInt64() != tt.status || failed != tt.failed || value(trace.TenantKey).AsString() != tt.tenant || value(trace.FunctionKey).AsString() != "fun" {
			t.Errorf("%s %s: span %q, attributes %v", tt.method, tt.path, spans[0].Name, got.Encoded(attribute.DefaultEncoder()))
		}
		var m metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
		points := m.ScopeMetrics[0].Metrics[0].Data.(metricdata.Histogram[float64]).DataPoints
		measured := points[0].Attributes
		if v, _ := measured.Value("http.response.status_code"); len(points) != 1 || points[0].Count != 1 || v.AsInt64() != tt.status || measured.HasValue(trace.TenantKey) || measured.HasValue(trace.RequestKey) {
			t.Errorf("%s %s: measured %+v", tt.method, tt.path, points)
		}
		if told := strings.ToLower(fmt.Sprintf("%+v %+v", spans, m)); strings.Contains(told, "canary") {
			t.Errorf("%s %s: told %s", tt.method, tt.path, told)
		}
	}
}
