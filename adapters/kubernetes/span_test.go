package kubernetes

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/trace"
)

// A path is told without the names in it, for every path that this package asks for.
func TestTemplate(t *testing.T) {
	for path, want := range map[string]string{
		namespacesPath:   "/api/v1/namespaces",
		roleBindings:     "/apis/rbac.authorization.k8s.io/v1/rolebindings",
		clusterBindings:  "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
		bootstrapVersion: "/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}",
		path(kube.Ref{Kind: kube.Namespace, Name: "canary"}, false):                                  "/api/v1/namespaces/{namespace}",
		path(kube.Ref{Kind: kube.RoleBinding, Namespace: "canary", Name: "canary"}, false):           "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{name}",
		path(kube.Ref{Kind: kube.RoleBinding, Namespace: "rolebindings", Name: "namespaces"}, false): "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{name}",
		path(kube.Ref{Kind: kube.RoleBinding, Namespace: "canary"}, true):                            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
		path(kube.Ref{Kind: kube.ClusterRoleBinding, Name: "canary/../x"}, false):                    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}",
	} {
		if got := template(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// Each request is a span with the server's address, the answer's status and, of a failure, its kind; the token, the names of
// objects and the API server's words are in none.
func TestSpans(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tel, err := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)), noop.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	c, srv := serve(t, honest, Limits{})
	ctx, root := tel.Serve(trace.With(t.Context(), tel, trace.Act{}), "GET /x", "")
	if _, err := c.Current(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(ctx, kube.Change{Verb: kube.Create, Object: kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: "canary"}}}); err == nil {
		t.Fatal("it was made")
	}
	trace.End(root, nil)
	spans := kept.GetSpans()
	if len(spans) != 9 { // the version, three lists of two pages, the creation, the root
		t.Fatalf("%d spans", len(spans))
	}
	made := attribute.NewSet(spans[7].Attributes...)
	for key, want := range map[attribute.Key]string{"http.response.status_code": "401", "error.type": string(core.Unauthenticated), "server.address": "127.0.0.1", "http.request.method": "POST", "url.template": "/api/v1/namespaces"} {
		if v, _ := made.Value(key); v.String() != want {
			t.Errorf("%s is %q, want %q", key, v.String(), want)
		}
	}
	for _, s := range spans {
		for _, a := range s.Attributes {
			if v := s.Name + a.Value.String(); strings.Contains(v, "canary") || strings.Contains(v, "the-token") || strings.Contains(v, srv.URL) {
				t.Errorf("%s tells %s", s.Name, v)
			}
		}
	}
}
