package store_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/trace"
)

// A store that is watched is a store: it passes the suite, whether anything is recorded or not.
func TestTracedIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.DB {
		db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return store.Traced(db)
	})
}

// Each call is a span and a measurement, which tell the kind of item and never its key; a dead letter is counted when it was
// written, and not when it was not.
func TestTraced(t *testing.T) {
	kept, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	bare, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Close() })
	db := store.Traced(bare)
	ctx, root := tel.Serve(trace.With(t.Context(), tel, trace.Act{Function: "sync"}), "GET /x", "")
	letter := store.DeadLetter("acme", "sync", "canary")
	if _, err := db.Get(ctx, store.User("acme", "canary@acme.test"), letter); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(ctx, store.Put(letter, 0, []byte("canary"))); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(ctx, store.Put(letter, 0, nil)); err == nil {
		t.Fatal("it was there")
	}
	for range db.List(ctx, store.DeadLetters("acme")) {
		break
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range db.List(ended, store.DeadLetters("acme")) {
		if err == nil {
			t.Fatal("a list without time")
		}
	}
	trace.End(root, nil)
	var got []string
	for _, s := range kept.GetSpans() {
		errorType := ""
		for _, a := range s.Attributes {
			if a.Key == "error.type" {
				errorType = ": " + a.Value.AsString()
			}
			if strings.Contains(a.Value.String(), "canary") {
				t.Errorf("span %s tells %s=%s", s.Name, a.Key, a.Value.String())
			}
		}
		got = append(got, s.Name+errorType)
	}
	want := "get user, commit dead, commit dead: changed meanwhile, list dead, list dead: temporarily unavailable, GET /x"
	if strings.Join(got, ", ") != want {
		t.Errorf("spans %q, want %s", got, want)
	}
	var m metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	buried, calls := int64(0), uint64(0)
	for _, one := range m.ScopeMetrics[0].Metrics {
		switch data := one.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				buried += p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				calls += p.Count
			}
		}
	}
	if buried != 1 || calls != 5 {
		t.Errorf("%d dead letters and %d calls were counted, want 1 and 5", buried, calls)
	}
}
