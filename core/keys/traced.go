package keys

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Traced is w with a span around each call, since a key management service is the slowest thing that a cold function waits
// for. It is put around a Wrapper only where something is recorded at all. Signing is done in process, and has no span.
func Traced(w Wrapper) Wrapper { return traced{w} }

type traced struct{ Wrapper }

func begin(ctx context.Context, operation, purpose string) (context.Context, oteltrace.Span) {
	return trace.Start(ctx, "keys "+operation, oteltrace.SpanKindClient, attribute.String("fleetpass.key.purpose", purpose))
}

func (t traced) Wrap(ctx context.Context, purpose string, tenant core.TenantID, plain []byte) (wrapped []byte, err error) {
	ctx, span := begin(ctx, "wrap", purpose)
	defer func() { trace.End(span, err) }()
	return t.Wrapper.Wrap(ctx, purpose, tenant, plain)
}

func (t traced) Unwrap(ctx context.Context, purpose string, tenant core.TenantID, wrapped []byte) (plain []byte, err error) {
	ctx, span := begin(ctx, "unwrap", purpose)
	defer func() { trace.End(span, err) }()
	return t.Wrapper.Unwrap(ctx, purpose, tenant, wrapped)
}
