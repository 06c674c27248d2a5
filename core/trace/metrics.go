package trace

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Name is the instrumentation scope of all spans and metrics.
const Name = "github.com/fleetpass/fleetpass"

// Instrument is a row of Metrics.
type Instrument struct {
	Name       string
	Unit       string // UCUM
	Attributes []attribute.Key
	Says       string
	Buckets    []float64 // of a histogram; a counter has none
}

// The attributes that are ours; the others are OpenTelemetry's.
const (
	FunctionKey  = attribute.Key("fleetpass.function")
	TenantKey    = attribute.Key("fleetpass.tenant")  // of spans only
	RequestKey   = attribute.Key("fleetpass.request") // of spans only
	ClusterKey   = attribute.Key("fleetpass.cluster") // of spans only
	RevisionKey  = attribute.Key("fleetpass.revision")
	WritesKey    = attribute.Key("fleetpass.sync.writes")
	GrantKey     = attribute.Key("oauth.grant_type")
	OutcomeKey   = attribute.Key("fleetpass.outcome")
	OperationKey = semconv.DBOperationNameKey
)

// seconds are the buckets that the conventions give http.server.request.duration.
var seconds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// lags are the buckets of what may take as long as a cluster is away.
var lags = []float64{0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400}

// The metrics, by their place in Metrics.
const (
	requestDuration = iota
	storeDuration
	storeRetries
	tokensIssued
	eventsHandled
	syncDuration
	syncLag
	deadLetters
	hashWait
	howMany
)

// Metrics are all metrics there are; docs/observability.md has the same table. An attribute takes few values, which the code
// names: no tenant, person or cluster is one, since each would make time series of its own, for ever.
var Metrics = [howMany]Instrument{
	requestDuration: {"http.server.request.duration", "s", []attribute.Key{semconv.HTTPRequestMethodKey, semconv.HTTPRouteKey, semconv.HTTPResponseStatusCodeKey, semconv.URLSchemeKey, semconv.ErrorTypeKey, FunctionKey},
		"a request, from its first byte here to its answer", seconds},
	storeDuration: {"fleetpass.store.operation.duration", "s", []attribute.Key{OperationKey, semconv.ErrorTypeKey, FunctionKey},
		"one call of the store: get, list or commit", seconds},
	storeRetries: {"fleetpass.store.retries", "{retry}", []attribute.Key{FunctionKey},
		"a read-decide-commit that somebody came between, begun anew", nil},
	tokensIssued: {"fleetpass.tokens.issued", "{token}", []attribute.Key{GrantKey},
		"an answer with tokens", nil},
	eventsHandled: {"fleetpass.events.handled", "{event}", []attribute.Key{semconv.CloudEventsEventTypeKey, OutcomeKey},
		"an event of the outbox: taken, or failed, which brings it again; one that was parked is taken, and a dead letter", nil},
	syncDuration: {"fleetpass.sync.duration", "s", []attribute.Key{OutcomeKey},
		"one run over one cluster: reached, retry, terminal (somebody must mend it), busy (another run is at it), skipped or failed", seconds},
	syncLag: {"fleetpass.sync.lag", "s", []attribute.Key{OutcomeKey},
		"at the end of a run: for how long the cluster had been behind what it should hold", lags},
	deadLetters: {"fleetpass.dead_letters", "{message}", []attribute.Key{FunctionKey},
		"a message or event that was given up, and waits for a person", nil},
	hashWait: {"fleetpass.password.hash.wait", "s", nil,
		"how long a password stood in line to be hashed; those that did not have to wait count as 0", seconds},
}

// Telemetry makes the spans and keeps the metrics of a process. Nil is one that does neither: every method may be called on
// it.
type Telemetry struct {
	tracer     oteltrace.Tracer
	counters   [howMany]metric.Int64Counter
	histograms [howMany]metric.Float64Histogram
}

// New makes a Telemetry over OpenTelemetry's providers.
func New(spans oteltrace.TracerProvider, metrics metric.MeterProvider) (*Telemetry, error) {
	t := &Telemetry{tracer: spans.Tracer(Name)}
	meter := metrics.Meter(Name)
	for i, m := range Metrics {
		var err error
		if m.Buckets == nil {
			t.counters[i], err = meter.Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Says))
		} else {
			t.histograms[i], err = meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Says), metric.WithExplicitBucketBoundaries(m.Buckets...))
		}
		if err != nil {
			return nil, fmt.Errorf("trace: %s: %w", m.Name, err)
		}
	}
	return t, nil
}

func (t *Telemetry) count(ctx context.Context, which int, attrs ...attribute.KeyValue) {
	t.counters[which].Add(ctx, 1, metric.WithAttributes(attrs...))
}

func (t *Telemetry) took(ctx context.Context, which int, d time.Duration, attrs ...attribute.KeyValue) {
	t.histograms[which].Record(ctx, d.Seconds(), metric.WithAttributes(attrs...))
}

// Served records a request that was answered. The attributes are those of its metric but the function.
func (t *Telemetry) Served(ctx context.Context, function string, d time.Duration, attrs ...attribute.KeyValue) {
	if t != nil {
		t.took(ctx, requestDuration, d, append(attrs, FunctionKey.String(function))...)
	}
}

// Stored records one call of the store.
func (t *Telemetry) Stored(ctx context.Context, operation string, d time.Duration, err error) {
	if t == nil {
		return
	}
	attrs := []attribute.KeyValue{OperationKey.String(operation), FunctionKey.String(ActOf(ctx).Function)}
	if err != nil {
		attrs = append(attrs, semconv.ErrorTypeKey.String(ErrorType(err)))
	}
	t.took(ctx, storeDuration, d, attrs...)
}

// Retried records that a commit met another's, and is tried anew.
func (t *Telemetry) Retried(ctx context.Context) {
	if t != nil {
		t.count(ctx, storeRetries, FunctionKey.String(ActOf(ctx).Function))
	}
}

// Issued records an answer with tokens. The grant is one of the server's own words, never the client's.
func (t *Telemetry) Issued(ctx context.Context, grant string) {
	if t != nil {
		t.count(ctx, tokensIssued, GrantKey.String(grant))
	}
}

// Handled records an event of the outbox. An event that cannot be read has no type.
func (t *Telemetry) Handled(ctx context.Context, event, outcome string) {
	if t != nil {
		t.count(ctx, eventsHandled, semconv.CloudEventsEventType(event), OutcomeKey.String(outcome))
	}
}

// Synced records a run over a cluster. A lag of 0 is none: the cluster was behind nothing.
func (t *Telemetry) Synced(ctx context.Context, outcome string, took, lag time.Duration) {
	if t == nil {
		return
	}
	t.took(ctx, syncDuration, took, OutcomeKey.String(outcome))
	if lag > 0 {
		t.took(ctx, syncLag, lag, OutcomeKey.String(outcome))
	}
}

// Buried records a dead letter.
func (t *Telemetry) Buried(ctx context.Context) {
	if t != nil {
		t.count(ctx, deadLetters, FunctionKey.String(ActOf(ctx).Function))
	}
}

// Waited records how long a password stood in line to be hashed.
func (t *Telemetry) Waited(ctx context.Context, d time.Duration) {
	if t != nil {
		t.took(ctx, hashWait, d)
	}
}
