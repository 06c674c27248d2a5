package kubernetes

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core/trace"
)

// begin begins the span of one request to the API server, and returns what ends it. The server is not told of our trace: it
// is the tenant's, and what it would record is theirs.
func (c *Cluster) begin(ctx context.Context, method, path string) (context.Context, func(error)) {
	template := template(path)
	ctx, span := trace.Start(ctx, method+" "+template, oteltrace.SpanKindClient,
		semconv.HTTPRequestMethodKey.String(method), semconv.URLTemplate(template))
	if span.IsRecording() {
		if u, err := url.Parse(c.server); err == nil {
			span.SetAttributes(semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port(u)))
		}
	}
	return ctx, func(err error) { trace.End(span, err) }
}

// answered notes the status of the answer in the span of the request.
func answered(ctx context.Context, status int) {
	oteltrace.SpanFromContext(ctx).SetAttributes(semconv.HTTPResponseStatusCode(status))
}

// port is a server's port, which the URL need not name.
func port(u *url.URL) int {
	if n, err := strconv.Atoi(u.Port()); err == nil {
		return n
	}
	return 443
}

// template is a path of this package with the names of objects taken out. A namespace may be called after a person.
func template(path string) string {
	parts := strings.Split(path, "/")
	for i := 1; i < len(parts); i++ {
		switch parts[i-1] {
		case "namespaces":
			parts[i] = "{namespace}"
		case "rolebindings", "clusterrolebindings", "clusterroles":
			parts[i] = "{name}"
		}
	}
	return strings.Join(parts, "/")
}
