package sync_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/core/trace"
)

type kept []sync.Message

func (k *kept) Send(_ context.Context, messages ...sync.Message) error {
	*k = append(*k, messages...)
	return nil
}

// A message bears what it was first sent for, however often it is sent again; and the caller's own is not written into.
func TestTracedQueue(t *testing.T) {
	tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewInMemoryExporter())), sdkmetric.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	var under kept
	queue := sync.Traced(&under)
	ctx, span := tel.Serve(trace.With(t.Context(), tel, trace.Act{Request: "request-1"}), "GET /x", "")
	mine := []sync.Message{{Tenant: acme, Cluster: "c1"}}
	if err := queue.Send(ctx, mine...); err != nil {
		t.Fatal(err)
	}
	if err := queue.Send(trace.With(t.Context(), nil, trace.Act{Request: "request-2"}), under[0], sync.Message{Cluster: "c2"}); err != nil {
		t.Fatal(err)
	}
	if err := queue.Send(t.Context(), sync.Message{Cluster: "c3"}); err != nil {
		t.Fatal(err)
	}
	if mine[0].Request != "" || under[0].Request != "request-1" || under[0].Trace[3:35] != span.SpanContext().TraceID().String() || under[1] != under[0] ||
		under[2].Request != "request-2" || under[2].Trace != "" || under[3].Request != "" {
		t.Errorf("sent %+v", under)
	}
	// Of two that become one, the first that says anything is told of.
	a, b := sync.Message{Request: "r1", Trace: "t1"}, sync.Message{Request: "r2", Trace: "t2"}
	if got := a.And(b); got != a {
		t.Errorf("%+v", got)
	}
	if got := (sync.Message{}).And(b); got != b {
		t.Errorf("%+v", got)
	}
}

// Each run is counted by what it came to, with how long the cluster had been waiting.
func TestRunsAreMeasured(t *testing.T) {
	s := newSite(t)
	reader := sdkmetric.NewManualReader()
	tel, err := trace.New(sdktrace.NewTracerProvider(), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	ctx := trace.With(t.Context(), tel, trace.Act{Function: "sync"})
	s.cluster.Fault = func(kube.Change) synctest.Fault { return synctest.Freeze }
	s.project("vision")
	must(t, s.sync.Wanted(t.Context(), acme, []core.ClusterID{s.id}, s.revision()))
	if err := s.sync.Reconcile(ctx, s.message()); !errors.Is(err, core.Unavailable) {
		t.Fatal(err)
	}
	s.cluster.Fault = nil
	s.pass(2 * time.Minute)
	m := s.message()
	m.Revision = s.revision()
	must(t, s.sync.Reconcile(ctx, m))
	must(t, s.sync.Reconcile(ctx, m)) // there is nothing left
	var told metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &told))
	outcomes, waited := map[string][]string{}, 0.0
	for _, one := range told.ScopeMetrics[0].Metrics {
		data, _ := one.Data.(metricdata.Histogram[float64])
		for _, p := range data.DataPoints {
			v, _ := p.Attributes.Value(trace.OutcomeKey)
			outcomes[one.Name] = append(outcomes[one.Name], v.AsString())
			if one.Name == "fleetpass.sync.lag" && v.AsString() == "reached" {
				waited = p.Sum
			}
		}
	}
	for _, list := range outcomes {
		slices.Sort(list)
	}
	if got := outcomes["fleetpass.sync.duration"]; !slices.Equal(got, []string{"reached", "retry", "skipped"}) {
		t.Errorf("runs %q", got)
	}
	if waited < 120 {
		t.Errorf("the cluster waited for %v s, want the two minutes that passed", waited)
	}
}
