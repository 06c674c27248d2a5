package keys_test

import (
	"bytes"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/keys/keystest"
	"github.com/fleetpass/fleetpass/core/trace"
)

func wrapper(t *testing.T) keys.Wrapper {
	t.Helper()
	w, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return keys.Traced(w)
}

// A wrapper that is watched is a wrapper.
func TestTracedIsAWrapper(t *testing.T) { keystest.Run(t, wrapper) }

// Each call is a span, which tells what it was for and nothing of the key.
func TestTraced(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)), noop.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	w := wrapper(t)
	ctx, _ := tel.Serve(trace.With(t.Context(), tel, trace.Act{}), "GET /x", "")
	wrapped, err := w.Wrap(ctx, keys.PurposeMAC, "acme", []byte("canary"))
	if err == nil {
		_, err = w.Unwrap(ctx, keys.PurposeMAC, "acme", wrapped)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Unwrap(ctx, keys.PurposeSigning, "acme", wrapped); err == nil {
		t.Fatal("a key opened for another purpose")
	}
	var got []string
	for _, s := range kept.GetSpans() {
		text := s.Name
		for _, a := range s.Attributes {
			text += " " + a.Value.String()
		}
		got = append(got, text)
	}
	if want := "keys wrap mac, keys unwrap mac, keys unwrap signing _OTHER"; strings.Join(got, ", ") != want {
		t.Errorf("spans %q, want %s", got, want)
	}
}
