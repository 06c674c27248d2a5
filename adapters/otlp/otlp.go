// Package otlp exports spans and metrics to an OpenTelemetry collector, by OTLP over HTTP in its JSON encoding. It is the one
// place that installs OpenTelemetry's SDK. The exporters of the OpenTelemetry project would bring gRPC and protobuf, 8 MB
// beside 12 of ours, and cold start with them: see docs/decisions/0016.
package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/fleetpass/fleetpass/core/trace"
)

const (
	queueSize = 2048             // spans that wait; what comes while so many do is dropped
	batchSize = 512              // spans of one request
	interval  = 30 * time.Second // between two exports of metrics, where the process is not frozen
	maxSeries = 2000             // attribute sets of one metric; beyond, they are counted together

	// FlushTime bounds Flush: what a caller may have to wait longer for its answer because of a collector that is away.
	FlushTime = 2 * time.Second
)

// Telemetry is a process's exporter. Nil is one that exports nothing; every method may be called on it.
type Telemetry struct {
	recorder *trace.Telemetry
	spans    *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
}

// Start begins to export what a function records, as the environment says:
//
//	OTEL_EXPORTER_OTLP_ENDPOINT  http(s)://HOST:PORT[/PATH]; /v1/traces and /v1/metrics are put behind it. Without it, Start returns nil
//	OTEL_EXPORTER_OTLP_HEADERS   name=value,name=value, percent-encoded: what the collector asks for
//	OTEL_EXPORTER_OTLP_TIMEOUT   milliseconds that one export may take with its retries; 10000
//	OTEL_EXPORTER_OTLP_PROTOCOL  http/json, if it is set at all
//	OTEL_SERVICE_NAME            fleetpass
//	OTEL_RESOURCE_ATTRIBUTES     name=value,name=value, percent-encoded
//	OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG  which traces are kept; parentbased_always_on
//	OTEL_SDK_DISABLED            true: as if there were no endpoint
//
// An error is core.Invalid and names the variable. Nothing is asked of the collector yet.
func Start(getenv func(string) string, function string) (*Telemetry, error) {
	c, err := read(getenv, function)
	if c == nil || err != nil {
		return nil, err
	}
	return start(c, &sender{
		base: c.endpoint, headers: c.headers, timeout: c.timeout, now: time.Now, pause: sleep,
		log: slog.Default(), client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
				TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 5 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the headers are for this host
		},
	})
}

func start(c *config, s *sender) (*Telemetry, error) {
	of := resource.NewWithAttributes(semconv.SchemaURL, c.attributes...)
	t := &Telemetry{
		spans: sdktrace.NewTracerProvider(sdktrace.WithResource(of), sdktrace.WithSampler(c.sampler),
			sdktrace.WithRawSpanLimits(limits()),
			sdktrace.WithBatcher(spanExporter{s}, sdktrace.WithMaxQueueSize(queueSize), sdktrace.WithMaxExportBatchSize(batchSize), sdktrace.WithExportTimeout(c.timeout))),
		metrics: sdkmetric.NewMeterProvider(sdkmetric.WithResource(of), sdkmetric.WithCardinalityLimit(maxSeries),
			sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metricExporter{s}, sdkmetric.WithInterval(interval), sdkmetric.WithTimeout(c.timeout)))),
	}
	var err error
	t.recorder, err = trace.New(t.spans, t.metrics)
	return t, err
}

// limits bound a span, whatever the code puts into it.
func limits() sdktrace.SpanLimits {
	l := sdktrace.NewSpanLimits()
	l.AttributeValueLengthLimit = 1024
	return l
}

// Recorder is what a system records with; nil where nothing is exported.
func (t *Telemetry) Recorder() *trace.Telemetry {
	if t == nil {
		return nil
	}
	return t.recorder
}

// Flush sends what is recorded so far, and returns when it is sent, FlushTime is over or ctx's deadline has come. That ctx is
// canceled does not end it: a client that went away is recorded, too. A platform that freezes the process between two calls
// needs it after each, or spans arrive with the next call or never. What could not be sent is logged and gone: no call fails
// for it.
func (t *Telemetry) Flush(ctx context.Context) {
	if t == nil {
		return
	}
	limit := time.Now().Add(FlushTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(limit) {
		limit = deadline // the platform would kill the call, which is done but for this
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = t.metrics.ForceFlush(ctx) // the exporter logs what it loses
	}()
	_ = t.spans.ForceFlush(ctx)
	<-done
}

// Shutdown sends what is recorded so far and ends.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return errors.Join(t.spans.Shutdown(ctx), t.metrics.Shutdown(ctx))
}

// spanExporter is a sdktrace.SpanExporter.
type spanExporter struct{ *sender }

func (e spanExporter) ExportSpans(ctx context.Context, list []sdktrace.ReadOnlySpan) error {
	if len(list) > 0 {
		e.send(ctx, "/v1/traces", len(list), spans(list))
	}
	return nil
}

func (e spanExporter) Shutdown(context.Context) error { return nil }

// metricExporter is a sdkmetric.Exporter.
type metricExporter struct{ *sender }

// Temporality is delta: a function's instances come and go, and each would leave counters that stand still for ever.
func (e metricExporter) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.DeltaTemporality
}

func (e metricExporter) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	request, err := metrics(m)
	if err != nil {
		return err
	}
	if n := len(request.ResourceMetrics[0].ScopeMetrics); n > 0 {
		e.send(ctx, "/v1/metrics", n, request)
	}
	return nil
}

func (e metricExporter) ForceFlush(context.Context) error { return nil }
func (e metricExporter) Shutdown(context.Context) error   { return nil }

var (
	_ sdktrace.SpanExporter = spanExporter{}
	_ sdkmetric.Exporter    = metricExporter{}
)
