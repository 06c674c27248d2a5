package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/functions"
)

// chain is the whole way from a request to a cluster: two instances of the system over one store, of which the second is
// cold, a change stream, a queue, and an API server that speaks HTTPS.
type chain struct {
	*world
	store   *bolt.DB
	spans   *tracetest.InMemoryExporter
	reader  *sdkmetric.ManualReader
	api     *httptest.Server
	cluster org.Scope

	mu   gosync.Mutex
	sent [][]byte // messages as they lie in the queue

	delivered map[store.Key]bool // events
}

func (c *chain) Send(_ context.Context, messages ...sync.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		body, err := json.Marshal(m)
		if err != nil {
			return err
		}
		c.sent = append(c.sent, body)
	}
	return nil
}

func newChain(t *testing.T) *chain {
	c := &chain{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader(), api: apiServer(t), delivered: map[store.Key]bool{}}
	c.world = &world{T: t, bearer: map[core.TenantID]string{}}
	var err error
	c.store, err = bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	c.must(err)
	t.Cleanup(func() { _ = c.store.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	c.must(err)
	config := functions.Config{DB: c.store, Wrapper: wrapper, Queue: c, Base: "https://fleet.test", Providers: map[sso.Kind]sso.Provider{}, Dial: kubernetes.Dial, Log: slog.New(slog.DiscardHandler)}
	c.System, err = functions.New(config)
	c.must(err)
	c.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	_, err = c.Org.EnsureSystem(t.Context())
	c.must(err)
	welcome, err := c.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(acme), "Tenant")
	c.must(err)
	u, err := c.Directory.RedeemWelcome(t.Context(), core.Actor{Tenant: acme}, welcome, adminEmail, adminPassword, c.Access.FirstAdministrator)
	c.must(err)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.api.Certificate().Raw})
	c.cluster, err = c.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, "berlin", org.Reach{Mode: org.Issuer, Server: c.api.URL, CA: string(ca)})
	c.must(err)
	c.db = &storetest.Counter{DB: c.store}
	c.bearer[acme] = c.signIn(acme, u)
	c.deliver() // what setting up left behind

	config.Log = slog.New(slog.NewJSONHandler(&c.log, nil))
	config.Telemetry, err = trace.New(
		sdktrace.NewTracerProvider(sdktrace.WithSyncer(c.spans)),
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader)))
	c.must(err)
	c.System, err = functions.New(config)
	c.must(err)
	c.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	return c
}

const (
	adminEmail    = "canary-admin@acme.test"
	adminPassword = "canary horse battery"
)

// deliver carries what came into the outboxes since to dispatch, and then every message to sync, as the platforms do it: as
// bytes.
func (c *chain) deliver() {
	c.Helper()
	row, _ := functions.Lookup("dispatch")
	for _, r := range append(store.PartitionsOf(acme), store.PartitionsOf(core.SystemTenant)...) {
		if !strings.HasPrefix(r.Leading(), "outbox#") {
			continue
		}
		for item, err := range c.store.List(c.Context(), r) {
			c.must(err)
			if !c.delivered[item.Key] {
				c.must(row.Event(c.System)(c.Context(), item.Body))
				c.delivered[item.Key] = true
			}
		}
	}
	row, _ = functions.Lookup("sync")
	for _, m := range c.sent {
		if err := row.Event(c.System)(c.Context(), m); err != nil {
			c.Errorf("sync: %v", err)
		}
	}
	c.sent = nil
}

// apiServer holds nothing but what is written to it, and remembers no more of that than one run needs.
func apiServer(t *testing.T) *httptest.Server {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Traceparent") != "":
			t.Error("a tenant's API server is told of our trace")
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "clusterroles/"):
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "s"):
			_, _ = io.WriteString(w, `{"kind":"List","metadata":{},"items":[]}`)
		case r.Method == http.MethodPost:
			var o struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
			}
			if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"metadata":{"name":%q,"uid":"u-%s","resourceVersion":"1"}}`, o.Metadata.Name, o.Metadata.Name)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// A rule that an administrator creates is one tree of spans, from the request over the store, the change stream, the queue
// and the keys to the write at the API server; every line of the log on the way says which request it is about; and nowhere
// in spans, metrics and log is a secret, or in spans and metrics a person.
func TestOneTreeFromRequestToCluster(t *testing.T) {
	c := newChain(t)
	const request, caller = "canary-free-request-1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	body := fmt.Sprintf(`{"subjectId":%q,"subjectType":"user","roleId":%d,"scopeId":%q,"scopeType":"cluster","clusterId":%q,"reason":"canary reason"}`,
		adminEmail, policy.L1Researcher, c.cluster.ID, c.cluster.Cluster)
	r := httptest.NewRequest("POST", "/t/acme/api/v1/authorization/access-rules", strings.NewReader(body))
	for name, value := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + c.bearer[acme], "X-Request-Id": request, "Traceparent": caller, "Cookie": "x=canary-cookie"} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	row, _ := functions.Lookup("admin")
	c.Serve(row).ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	c.deliver()

	spans := c.spans.GetSpans()
	root := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool {
		return s.Name == "POST /t/{tenant}/api/v1/authorization/access-rules"
	})
	if root < 0 {
		t.Fatalf("no span of the request among %v", names(spans))
	}
	id := spans[root].SpanContext.TraceID()
	if spans[root].Parent.IsValid() || id.String() == caller[3:35] || len(spans[root].Links) != 1 || spans[root].Links[0].SpanContext.TraceID().String() != caller[3:35] {
		t.Errorf("the caller's trace is continued, or not linked: %+v", spans[root])
	}
	byID := map[string]tracetest.SpanStub{}
	for _, s := range spans {
		byID[s.SpanContext.SpanID().String()] = s
	}
	for _, s := range spans {
		if s.SpanContext.TraceID() != id {
			t.Errorf("%q is in another trace", s.Name)
		}
		if _, ok := byID[s.Parent.SpanID().String()]; !ok && s.Name != spans[root].Name {
			t.Errorf("the parent of %q is missing", s.Name)
		}
	}
	// The way up from the write at the cluster.
	write := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool {
		return s.Name == "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
	})
	if write < 0 {
		t.Fatalf("no write at the cluster among %v", names(spans))
	}
	var way []string
	for s, ok := spans[write], true; ok; s, ok = byID[s.Parent.SpanID().String()] {
		way = append(way, s.Name)
	}
	want := []string{spans[write].Name, "process sync", "send sync", "process outbox", spans[root].Name}
	if !slices.Equal(way, want) {
		t.Errorf("the way up from the cluster is %q, want %q", way, want)
	}
	for _, name := range []string{"commit rule", "keys unwrap", "GET /api/v1/namespaces", "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/{name}"} {
		if !slices.Contains(names(spans), name) {
			t.Errorf("no span %q among %q", name, names(spans))
		}
	}
	c.linesSay(id.String(), map[string]bool{"admin": true, "dispatch": true, "sync": true}, request)
	c.noCanary(c.bearer[acme], "canary")
}

func names(spans tracetest.SpanStubs) (out []string) {
	for _, s := range spans {
		out = append(out, s.Name)
	}
	return out
}

// linesSay holds every line of the log to saying what it belongs to.
func (c *chain) linesSay(id string, functions map[string]bool, request string) {
	c.Helper()
	for text := range strings.Lines(c.log.String()) {
		var line map[string]any
		c.must(json.Unmarshal([]byte(text), &line))
		function, _ := line["function"].(string)
		if line["trace_id"] != id && id != "" || line["request"] != request && request != "" || line["request"] == nil || line["tenant"] != string(acme) || function == "" || line["span_id"] == nil {
			c.Errorf("line %s", text)
		}
		for name := range line {
			if strings.Count(text, `"`+name+`":`) > 1 {
				c.Errorf("%s twice in %s", name, text)
			}
		}
		delete(functions, function)
	}
	if len(functions) > 0 {
		c.Errorf("no line of %v in %s", functions, &c.log)
	}
}

// noCanary looks for what must not be told.
func (c *chain) noCanary(token string, canary string) {
	c.Helper()
	var m metricdata.ResourceMetrics
	c.must(c.reader.Collect(c.Context(), &m))
	spans, err := json.Marshal(c.spans.GetSpans())
	c.must(err)
	told := strings.ReplaceAll(fmt.Sprintf("%s %+v", spans, m), "canary-free", "")
	if strings.Contains(told, canary) || strings.Contains(told, token) {
		c.Errorf("spans or metrics tell a secret or a person: …%s…", told[max(0, strings.Index(told, canary)-200):][:400])
	}
	if log := c.log.String(); strings.Contains(log, token) || strings.Contains(log, "canary-cookie") || strings.Contains(log, adminPassword) {
		c.Errorf("the log tells a secret: %s", log)
	}
}

// No path or query as it was sent, no form and no code reaches a span or a metric, whatever the answer is; routes do.
func TestSpansTellRoutesAndNotPaths(t *testing.T) {
	c := newChain(t)
	handler := c.HTTP()
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/t/acme/welcome?token=canary-welcome", ""},
		{"GET", "/t/acme/authorize?client_id=canary-client&code_challenge=canary", ""},
		{"POST", "/t/acme/login", "email=canary@acme.test&password=canary-password"},
		{"POST", "/t/acme/token", "grant_type=canary-grant&code=canary-code&client_secret=canary"},
		{"POST", "/t/acme/token", "grant_type=authorization_code&code=canary-code&client_id=fleetpass-cli&code_verifier=canary"},
		{"GET", "/canary/path", ""}, {"CANARY", "/t/acme/jwks", ""}, {"GET", "/t/canary/jwks", ""}, {"GET", "/t/acme/jwks/../canary", ""},
		{"GET", "/t/acme/api/v1/users/canary-user", ""},
	} {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Basic canary")
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	spans := c.spans.GetSpans()
	told, err := json.Marshal(spans)
	c.must(err)
	var m metricdata.ResourceMetrics
	c.must(c.reader.Collect(c.Context(), &m))
	// A tenant's name in the path is no secret; that of one that there is not is still a word of the client's.
	all := strings.ReplaceAll(fmt.Sprintf("%s %+v", told, m), `"Key":"fleetpass.tenant","Value":{"Type":"STRING","Value":"canary"}`, "")
	if at := strings.Index(strings.ToLower(all), "canary"); at >= 0 {
		t.Errorf("told: …%s…", all[max(0, at-300):min(len(all), at+100)])
	}
	for _, want := range []string{"GET /t/{tenant}/welcome", "POST /t/{tenant}/token", "HTTP /t/{tenant}/jwks", "GET /"} {
		if !slices.ContainsFunc(names(spans), func(n string) bool {
			return strings.HasPrefix(n, want) || want[:4] == "HTTP" && strings.HasPrefix(n, "HTTP")
		}) {
			t.Errorf("no span %q among %q", want, names(spans))
		}
	}
}

func keysOf(attrs []attribute.KeyValue) (out []string) {
	for _, a := range attrs {
		out = append(out, string(a.Key))
	}
	return out
}

// The minute has a request id of its own, and what it does for a tenant says the tenant.
func TestMaintainIsTraced(t *testing.T) {
	c := newChain(t)
	c.must(c.Maintain(t.Context(), time.Now().UTC().Add(2*time.Hour)))
	spans := c.spans.GetSpans()
	if !slices.Contains(names(spans), "maintain") || !slices.Contains(names(spans), "job seal") {
		t.Errorf("spans %q", names(spans))
	}
	if c.log.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for text := range strings.Lines(c.log.String()) {
		var line map[string]any
		c.must(json.Unmarshal([]byte(text), &line))
		if line["request"] == nil || line["tenant"] == nil || line["function"] != "maintain" || line["trace_id"] == nil {
			t.Errorf("line %s", text)
		}
	}
}

// What a metric is told stays among the attributes that its row of the table names, and none of them can grow without bound.
func TestMetricsKeepToTheirTable(t *testing.T) {
	c := newChain(t)
	_, err := c.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, "tokyo", *c.cluster.Reach)
	c.must(err)
	c.deliver()
	handler := c.HTTP()
	for _, path := range []string{"/t/acme/jwks", "/t/globex/jwks", "/t/none/jwks", "/x", "/y"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	_, err = c.Directory.Authenticate(trace.With(t.Context(), c.Telemetry, trace.Act{Function: "login"}), core.Actor{Tenant: acme}, adminEmail, "wrong", false)
	if err == nil {
		t.Error("a wrong password was taken")
	}
	var m metricdata.ResourceMetrics
	c.must(c.reader.Collect(t.Context(), &m))
	seen := map[string]bool{}
	for _, scope := range m.ScopeMetrics {
		for _, got := range scope.Metrics {
			i := slices.IndexFunc(trace.Metrics[:], func(row trace.Instrument) bool { return row.Name == got.Name })
			if i < 0 {
				t.Errorf("metric %s is not in the table", got.Name)
				continue
			}
			seen[got.Name] = true
			check := func(keys []string) {
				for _, k := range keys {
					if !slices.ContainsFunc(trace.Metrics[i].Attributes, func(a attribute.Key) bool { return string(a) == k }) {
						t.Errorf("%s has the attribute %s, which its row does not name", got.Name, k)
					}
				}
			}
			switch data := got.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					check(keysOf(p.Attributes.ToSlice()))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					check(keysOf(p.Attributes.ToSlice()))
				}
				if got.Name == "http.server.request.duration" && len(data.DataPoints) > 4 {
					t.Errorf("three tenants and two paths made %d series", len(data.DataPoints))
				}
			}
		}
	}
	for _, name := range []string{"http.server.request.duration", "fleetpass.store.operation.duration", "fleetpass.events.handled", "fleetpass.sync.duration", "fleetpass.sync.lag", "fleetpass.password.hash.wait"} {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
}
