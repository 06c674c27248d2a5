package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// The examples of https://github.com/open-telemetry/opentelemetry-proto/tree/main/examples, which neither this package nor its
// tests have made: what they show is what is sent, but that numbers of 64 bits are strings, as the specification has it.
func TestPublicExamples(t *testing.T) {
	at := time.Unix(0, 1544712660000000000)
	scope := instrumentation.Scope{Name: "my.library", Version: "1.0.0", Attributes: attribute.NewSet(attribute.String("my.scope.attribute", "some scope attribute"))}
	service := resource.NewSchemaless(attribute.String("service.name", "my.service"))
	trace, _ := oteltrace.TraceIDFromHex("5b8efff798038103d269b633813fc60c")
	span, _ := oteltrace.SpanIDFromHex("eee19b7ec3c1b174")
	parent, _ := oteltrace.SpanIDFromHex("eee19b7ec3c1b173")
	sent := spans(tracetest.SpanStubs{{
		Name: "I'm a server span", SpanKind: oteltrace.SpanKindServer, StartTime: at, EndTime: at.Add(time.Second),
		SpanContext: oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: trace, SpanID: span}),
		Parent:      oteltrace.NewSpanContext(oteltrace.SpanContextConfig{TraceID: trace, SpanID: parent}),
		Attributes:  []attribute.KeyValue{attribute.String("my.span.attr", "some value")},
		Resource:    service, InstrumentationScope: scope,
	}}.Snapshots())
	same(t, "testdata/trace.json", sent)

	at = time.Unix(0, 1544712660300000000)
	some := func(name string) attribute.Set { return attribute.NewSet(attribute.String(name, "some value")) }
	one := metricdata.NewExtrema(1.0)
	measured, err := metrics(&metricdata.ResourceMetrics{Resource: service, ScopeMetrics: []metricdata.ScopeMetrics{{Scope: scope, Metrics: []metricdata.Metrics{
		{Name: "my.counter", Unit: "1", Description: "I`m a Counter", Data: metricdata.Sum[float64]{Temporality: metricdata.DeltaTemporality, IsMonotonic: true,
			DataPoints: []metricdata.DataPoint[float64]{{Value: 5, StartTime: at, Time: at, Attributes: some("my.counter.attr")}}}},
		{Name: "my.gauge", Unit: "1", Description: "I`m a Gauge", Data: metricdata.Gauge[float64]{
			DataPoints: []metricdata.DataPoint[float64]{{Value: 10, Time: at, Attributes: some("my.gauge.attr")}}}},
		{Name: "my.histogram", Unit: "1", Description: "I`m a Histogram", Data: metricdata.Histogram[float64]{Temporality: metricdata.DeltaTemporality,
			DataPoints: []metricdata.HistogramDataPoint[float64]{{StartTime: at, Time: at, Count: 3, Sum: 3, BucketCounts: []uint64{1, 1, 1}, Bounds: []float64{1}, Min: one, Max: one, Attributes: some("my.histogram.attr")}}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "testdata/metrics.json", measured)
}

func same(t *testing.T, golden string, sent any) {
	t.Helper()
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain(t, want), plain(t, got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

// plain decodes a document and makes one spelling of those that mean the same: ids in lower case, numbers as strings. flags
// are newer than the example.
func plain(t *testing.T, doc []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "flags")
			for name, m := range v {
				if s, ok := m.(string); ok && strings.HasSuffix(strings.ToLower(name), "id") {
					v[name] = strings.ToLower(s)
					continue
				}
				v[name] = walk(m)
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case json.Number:
			return v.String()
		}
		return v
	}
	return walk(v)
}

// Every kind of value arrives as the specification spells it.
func TestValues(t *testing.T) {
	for _, tt := range []struct {
		v    attribute.Value
		want string
	}{
		{attribute.StringValue("x\"y"), `{"stringValue":"x\"y"}`},
		{attribute.StringValue(""), `{"stringValue":""}`},
		{attribute.BoolValue(false), `{"boolValue":false}`},
		{attribute.Int64Value(math.MinInt64), `{"intValue":"-9223372036854775808"}`},
		{attribute.Float64Value(0.5), `{"doubleValue":0.5}`},
		{attribute.Float64Value(math.NaN()), `{"doubleValue":"NaN"}`},
		{attribute.Float64Value(math.Inf(-1)), `{"doubleValue":"-Infinity"}`},
		{attribute.StringSliceValue([]string{"a", "b"}), `{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}}`},
		{attribute.Int64SliceValue(nil), `{"arrayValue":{"values":[]}}`},
		{attribute.BoolSliceValue([]bool{true}), `{"arrayValue":{"values":[{"boolValue":true}]}}`},
		{attribute.Float64SliceValue([]float64{1}), `{"arrayValue":{"values":[{"doubleValue":1}]}}`},
		{attribute.ByteSliceValue([]byte{0xff, 0}), `{"bytesValue":"/wA="}`},
		{attribute.SliceValue(attribute.Int64Value(1), attribute.StringValue("x")), `{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}`},
		{attribute.Value{}, `{}`},
	} {
		got, err := json.Marshal(value(tt.v))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.v.String(), got, err, tt.want)
		}
	}
}

// What is recorded through Start reaches a collector that takes only what the specification allows: with the parent, the
// link to a caller elsewhere, the status in the protocol's own numbers, and counters as differences.
func TestStart(t *testing.T) {
	c := newCollector(t)
	tel, err := Start(env(
		"OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/prefix/", "OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20abc%2Cd, x-two = 2",
		"OTEL_SERVICE_NAME", "fp", "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%2C1,service.name=loses"), "login")
	if err != nil {
		t.Fatal(err)
	}
	r := tel.Recorder()
	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx, root := r.Serve(trace.With(t.Context(), r, trace.Act{Function: "login"}), "GET /x", caller)
	_, child := trace.Start(ctx, "commit", oteltrace.SpanKindClient)
	trace.End(child, core.Conflict)
	trace.End(root, nil)
	r.Issued(ctx, "password")
	tel.Flush(t.Context())
	r.Issued(ctx, "password")
	tel.Flush(t.Context())
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.spans) != 2 {
		t.Fatalf("%d spans arrived", len(c.spans))
	}
	kid, top := c.spans[0], c.spans[1]
	if kid["traceId"] != top["traceId"] || kid["parentSpanId"] != top["spanId"] || top["parentSpanId"] != nil || kid["kind"] != 3.0 || top["kind"] != 2.0 {
		t.Errorf("spans %v, %v", kid, top)
	}
	if s, _ := kid["status"].(map[string]any); s["code"] != 2.0 || s["message"] != nil || top["status"] != nil {
		t.Errorf("status %v and %v, want error (2) without words, and none", kid["status"], top["status"])
	}
	links, _ := top["links"].([]any)
	if len(links) != 1 || links[0].(map[string]any)["traceId"] != "4bf92f3577b34da6a3ce929d0e0e4736" || top["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("links %v of trace %v, want a link to the caller's and a trace of our own", links, top["traceId"])
	}
	n := 0
	for _, m := range c.metrics {
		sum, _ := m["sum"].(map[string]any)
		if m["name"] != "fleetpass.tokens.issued" || sum == nil {
			continue
		}
		points := sum["dataPoints"].([]any)
		if sum["aggregationTemporality"] != 1.0 || sum["isMonotonic"] != true || points[0].(map[string]any)["asInt"] != "1" {
			t.Errorf("counter %v, want a difference of 1", sum)
		}
		n++
	}
	if n != 2 {
		t.Errorf("the counter arrived %d times, want 2", n)
	}
	if h := c.headers[0]; h.Get("Authorization") != "Bearer abc,d" || h.Get("X-Two") != "2" {
		t.Errorf("headers %v", h)
	}
	if c.paths[0] != "/prefix/v1/traces" && c.paths[0] != "/prefix/v1/metrics" {
		t.Errorf("path %s", c.paths[0])
	}
}

func TestResource(t *testing.T) {
	c, err := read(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318", "OTEL_SERVICE_NAME", "fp", "OTEL_RESOURCE_ATTRIBUTES", "a.b=test%2C1,service.name=loses"), "login")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, kv := range resource.NewSchemaless(c.attributes...).Attributes() {
		got[string(kv.Key)] = kv.Value.AsString()
	}
	if diff := cmp.Diff(map[string]string{"service.name": "fp", "faas.name": "login", "a.b": "test,1"}, got); diff != "" {
		t.Error(diff)
	}
}

// Without an endpoint there is nothing, and nothing is to be checked before it is used.
func TestOff(t *testing.T) {
	for name, get := range map[string]func(string) string{
		"no endpoint": env("OTEL_TRACES_SAMPLER", "always_on"),
		"disabled":    env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318", "OTEL_SDK_DISABLED", "true"),
	} {
		tel, err := Start(get, "login")
		if tel != nil || err != nil {
			t.Fatalf("%s: %v %v", name, tel, err)
		}
		tel.Flush(t.Context())
		if tel.Recorder() != nil || tel.Shutdown(t.Context()) != nil {
			t.Errorf("%s: it does something", name)
		}
	}
}

// A setting that is wrong names its variable and never quotes a header.
func TestConfigurationRefused(t *testing.T) {
	for _, tt := range []struct{ variable, value string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://x:1"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "https://"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:SECRET@x"}, {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "SECRET"}, {"OTEL_EXPORTER_OTLP_HEADERS", "a=SECRET%0a"}, {"OTEL_EXPORTER_OTLP_HEADERS", "a=SECRET%zz"}, {"OTEL_EXPORTER_OTLP_HEADERS", "a b=SECRET"}, {"OTEL_EXPORTER_OTLP_HEADERS", "=SECRET"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"}, {"OTEL_EXPORTER_OTLP_TIMEOUT", "0"},
		{"OTEL_RESOURCE_ATTRIBUTES", "x"}, {"OTEL_RESOURCE_ATTRIBUTES", "=x"},
		{"OTEL_TRACES_SAMPLER", "sometimes"}, {"OTEL_TRACES_SAMPLER", "jaeger_remote"}, {"OTEL_TRACES_SAMPLER_ARG", "2"}, {"OTEL_TRACES_SAMPLER_ARG", "NaN"},
	} {
		pairs := []string{tt.variable, tt.value, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318", "OTEL_TRACES_SAMPLER", "traceidratio"}
		_, err := Start(env(pairs...), "login")
		var field *core.FieldError
		if !errors.As(err, &field) || field.Field != tt.variable || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s=%s: %v", tt.variable, tt.value, err)
		}
	}
}

func TestSamplers(t *testing.T) {
	for name, want := range map[string]string{
		"": "ParentBased{root:AlwaysOnSampler", "parentbased_always_on": "ParentBased{root:AlwaysOnSampler", "parentbased_always_off": "ParentBased{root:AlwaysOffSampler",
		"always_on": "AlwaysOnSampler", " ALWAYS_OFF": "AlwaysOffSampler", "traceidratio": "TraceIDRatioBased{0.25}", "parentbased_traceidratio": "ParentBased{root:TraceIDRatioBased{0.25}",
	} {
		s, err := sampler(name, "0.25")
		if err != nil || !strings.HasPrefix(s.Description(), want) {
			t.Errorf("%q: %v %v", name, s, err)
		}
	}
}

// rig is a sender whose clock and pauses are the test's.
type rig struct {
	*sender
	now    time.Time
	paused []time.Duration
	log    bytes.Buffer
}

func newRig(c *collector, timeout time.Duration) *rig {
	r := &rig{now: time.Now()}
	r.sender = &sender{base: c.URL, timeout: timeout, client: c.Client(), headers: http.Header{"Authorization": {"CANARY"}},
		log: slog.New(slog.NewTextHandler(&r.log, nil)), now: func() time.Time { return r.now }}
	r.pause = func(ctx context.Context, d time.Duration) error {
		r.paused = append(r.paused, d)
		r.now = r.now.Add(d)
		return ctx.Err()
	}
	return r
}

func TestRetries(t *testing.T) {
	none := traceRequest{ResourceSpans: []resourceSpans{}}
	for _, tt := range []struct {
		name    string
		answers []func(http.ResponseWriter)
		tries   int
		waited  time.Duration // of the first pause; 0: ours
		lost    bool
	}{
		{"taken", nil, 1, 0, false},
		{"429 that says when", []func(http.ResponseWriter){status(429, "Retry-After", "3")}, 2, 3 * time.Second, false},
		{"503, 502, 504", []func(http.ResponseWriter){status(503), status(502), status(504)}, 4, 0, false},
		{"a wait that is too long", []func(http.ResponseWriter){status(503, "Retry-After", "3600")}, 2, maxPause, false},
		{"400 is for good", []func(http.ResponseWriter){status(400)}, 1, 0, true},
		{"500 is for good", []func(http.ResponseWriter){status(500)}, 1, 0, true},
		{"a redirect is not followed", []func(http.ResponseWriter){status(307, "Location", "http://127.0.0.1:1/")}, 1, 0, true},
	} {
		c := newCollector(t, tt.answers...)
		r := newRig(c, 20*time.Second)
		r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r.send(t.Context(), "/v1/traces", 7, none)
		if len(c.paths) != tt.tries || (r.log.Len() > 0) != tt.lost {
			t.Errorf("%s: %d tries, want %d; log %q", tt.name, len(c.paths), tt.tries, &r.log)
		}
		if tt.lost && !strings.Contains(r.log.String(), "lost=7") || strings.Contains(r.log.String(), "CANARY") {
			t.Errorf("%s: log %q", tt.name, &r.log)
		}
		if tt.waited > 0 && r.paused[0] != tt.waited {
			t.Errorf("%s: waited %v, want %v", tt.name, r.paused, tt.waited)
		}
		for i, d := range r.paused {
			if limit := firstPause << i; tt.waited == 0 && (d < limit/2 || d > 3*limit/2) {
				t.Errorf("%s: pause %d is %v", tt.name, i, d)
			}
		}
	}
}

// A collector that stays away costs the budget once, then nothing until holdOff is over; the log says it once a minute.
func TestAway(t *testing.T) {
	away := make([]func(http.ResponseWriter), 100)
	for i := range away {
		away[i] = status(503, "Retry-After", "2")
	}
	c := newCollector(t, away...)
	r := newRig(c, 7*time.Second)
	none := traceRequest{ResourceSpans: []resourceSpans{}}
	r.send(t.Context(), "/v1/traces", 1, none)
	tries := len(c.paths)
	if tries < 2 || tries > 5 {
		t.Errorf("%d tries in a budget of 7 s with 2 s between", tries)
	}
	r.send(t.Context(), "/v1/traces", 1, none)
	if len(c.paths) != tries {
		t.Error("a collector that was away a moment ago is asked again")
	}
	if n := strings.Count(r.log.String(), "telemetry was lost"); n != 1 {
		t.Errorf("%d lines in the log, want 1: %s", n, &r.log)
	}
	r.now = r.now.Add(holdOff)
	c.answers = nil
	r.send(t.Context(), "/v1/traces", 1, none)
	if len(c.paths) != tries+1 {
		t.Error("after a while it is not asked again")
	}
}

// What a collector rejects of a request is lost and told, not sent again (partial success).
func TestPartialSuccess(t *testing.T) {
	for answer, lost := range map[string]bool{
		`{}`: false, ``: false, `{"partialSuccess":{"rejectedSpans":"0","errorMessage":"use the new port"}}`: false,
		`{"partialSuccess":{"rejectedSpans":"5"}}`: true, `{"partialSuccess":{"rejectedDataPoints":5}}`: true,
	} {
		c := newCollector(t, func(w http.ResponseWriter) { _, _ = w.Write([]byte(answer)) })
		r := newRig(c, time.Minute)
		r.send(t.Context(), "/v1/traces", 9, traceRequest{ResourceSpans: []resourceSpans{}})
		if len(c.paths) != 1 || (r.log.Len() > 0) != lost {
			t.Errorf("%s: %d tries, log %q", answer, len(c.paths), &r.log)
		}
	}
}

// More spans than fit wait for nobody: making them never blocks, though the collector hangs.
func TestDropsRatherThanBlocks(t *testing.T) {
	hang := make(chan struct{})
	c := newCollector(t, func(http.ResponseWriter) { <-hang })
	tel, err := Start(env("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL), "login")
	if err != nil {
		t.Fatal(err)
	}
	r := tel.Recorder()
	for range 4 * queueSize { // this ends, or the test does not
		_, span := r.Serve(t.Context(), "GET /x", "")
		trace.End(span, nil)
	}
	close(hang)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.spans); n > 2*queueSize {
		t.Errorf("%d spans were kept for a collector that hung", n)
	}
}

// hung is a collector that never answers.
type hung struct{}

func (hung) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A collector that hangs costs a call FlushTime, and never more than the call's deadline leaves; that its client went away
// ends no flush.
func TestFlushTime(t *testing.T) {
	for name, tt := range map[string]struct {
		within time.Duration // 0: no deadline
		gone   bool
		want   time.Duration
	}{
		"no deadline": {0, false, FlushTime}, "a far one": {time.Minute, false, FlushTime}, "a near one": {300 * time.Millisecond, false, 300 * time.Millisecond},
		"the time is up": {-time.Second, false, 0}, "the client went away": {time.Minute, true, FlushTime}, "it went away late": {300 * time.Millisecond, true, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := read(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example"), "login")
				if err != nil {
					t.Fatal(err)
				}
				tel, err := start(c, &sender{base: c.endpoint, headers: c.headers, timeout: c.timeout, now: time.Now, pause: sleep,
					log: slog.New(slog.DiscardHandler), client: &http.Client{Transport: hung{}}})
				if err != nil {
					t.Fatal(err)
				}
				_, span := tel.Recorder().Serve(t.Context(), "GET /x", "")
				trace.End(span, nil)
				ctx, cancel := context.WithCancel(t.Context())
				if tt.within != 0 {
					ctx, cancel = context.WithTimeout(t.Context(), tt.within)
				}
				defer cancel()
				if tt.gone {
					cancel()
				}
				start := time.Now()
				tel.Flush(ctx)
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %v, want %v", took, tt.want)
				}
				_ = tel.Shutdown(t.Context())
			})
		})
	}
}

func FuzzPairs(f *testing.F) {
	for _, s := range []string{"a=b", "a=b,c=d%20e", "a", ",", "=", "%zz=1", "a=b;p=q"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := headers(s)
		if err != nil {
			if !errors.Is(err, core.Invalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		for name, values := range h {
			if name == "" || len(values) != 1 || strings.ContainsAny(name+values[0], "\r\n\x00") {
				t.Errorf("%q made the header %q: %q", s, name, values)
			}
		}
	})
}

// An aggregation that nobody here asks for is refused, not sent as something else.
func TestUnknownAggregation(t *testing.T) {
	_, err := metric(metricdata.Metrics{Name: "x", Data: metricdata.Summary{}})
	if err == nil || !strings.Contains(err.Error(), "x") {
		t.Error(err)
	}
	if got := span(tracetest.SpanStub{Status: sdktrace.Status{Code: codes.Ok}}.Snapshot()); got.Status == nil || got.Status.Code != 1 {
		t.Errorf("status ok is %+v, want 1", got.Status)
	}
}
