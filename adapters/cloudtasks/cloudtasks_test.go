package cloudtasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fleetpass/fleetpass/adapters/cloudtasks"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/queuetest"
	standin "github.com/fleetpass/fleetpass/localdev/standin/cloudtasks"
)

const (
	name    = "projects/my-project/locations/europe-west4/queues/sync"
	account = "tasks@my-project.iam.gserviceaccount.com"
)

// clock is moved by the test.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().UTC().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// wire is what lies between the client and the service. It can fail, and counts what is sent.
type wire struct {
	requests atomic.Int32

	mu    gosync.Mutex
	fault queuetest.Fault
	left  int // requests that meet the fault; negative: all
}

func (w *wire) inject(f queuetest.Fault, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.left = f, n
}

func (w *wire) next() queuetest.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 {
		return queuetest.None
	}
	w.left--
	return w.fault
}

func (w *wire) intercept(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	w.requests.Add(1)
	switch w.next() {
	case queuetest.Throttle:
		return status.Error(codes.ResourceExhausted, "quota exceeded")
	case queuetest.Fail:
		return status.Error(codes.Internal, "internal")
	case queuetest.Lose:
		return status.Error(codes.Unavailable, "connection refused")
	case queuetest.Forget:
		_ = call(ctx, method, in, out, conn, opts...)
		return status.Error(codes.Unavailable, "connection reset")
	case queuetest.Partly:
		if queuetest.RefusedBody(in.(*cloudtaskspb.CreateTaskRequest).Task.GetHttpRequest().Body) {
			return status.Error(codes.Aborted, "aborted")
		}
	case queuetest.Hang:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return call(ctx, method, in, out, conn, opts...)
}

// open makes a queue as a composition root does, but for the pauses, with something between the client and the service.
func open(t *testing.T, address string, c cloudtasks.Config, between grpc.UnaryClientInterceptor) *cloudtasks.Queue {
	t.Helper()
	client, err := cloudtasks.Dial(t.Context(), address, option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(between)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c.Queue, c.ServiceAccount, c.MaxPause = name, account, time.Millisecond
	q, err := cloudtasks.New(client, c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func serve(t *testing.T, o standin.Options) (*standin.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Queues = []string{name}
	s := standin.New(o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Errorf("the stand-in ended: %v", err)
		}
	})
	return s, l.Addr().String()
}

// worker is where the service sends the tasks: it hands them to whoever receives.
type worker struct {
	mu     gosync.Mutex
	handle func(context.Context, sync.Message) error
}

func (k *worker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	handle := k.handle
	k.mu.Unlock()
	var m sync.Message
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil || handle == nil || handle(r.Context(), m) != nil {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func rig(t *testing.T) queuetest.Rig {
	c, w, k := &clock{}, &wire{}, &worker{}
	function := httptest.NewServer(k)
	t.Cleanup(function.Close)
	server, address := serve(t, standin.Options{Now: c.now})
	return queuetest.Rig{
		Queue: open(t, address, cloudtasks.Config{URL: function.URL, Now: c.now}, w.intercept),
		Now:   c.now, Inject: w.inject, Longest: cloudtasks.MaxDelay, Batch: 1,
		Advance: func(d time.Duration) { c.advance(d); server.Wake() },
		Receive: func(ctx context.Context, handle func(context.Context, sync.Message) error) {
			k.mu.Lock()
			k.handle = handle
			k.mu.Unlock()
			<-ctx.Done()
			server.Close() // returns when no task is under way
			function.Close()
		},
	}
}

func TestQueue(t *testing.T) { queuetest.Run(t, rig) }

// The requests are those of the service's API (google.cloud.tasks.v2, in the JSON form of its REST reference), whatever the
// stand-in thinks.
func TestWire(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	got := map[string]*cloudtaskspb.CreateTaskRequest{} // by body
	var mu gosync.Mutex
	q := open(t, "127.0.0.1:1", cloudtasks.Config{URL: "https://sync.example.com/", Deadline: 5 * time.Minute, Now: func() time.Time { return now }},
		func(ctx context.Context, method string, in, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
			mu.Lock()
			defer mu.Unlock()
			if method != "/google.cloud.tasks.v2.CloudTasks/CreateTask" {
				t.Errorf("method %s", method)
			}
			header, _ := metadata.FromOutgoingContext(ctx)
			if diff := cmp.Diff([]string{"parent=projects%2Fmy-project%2Flocations%2Feurope-west4%2Fqueues%2Fsync"}, header.Get("x-goog-request-params")); diff != "" {
				t.Errorf("x-goog-request-params (-want +got):\n%s", diff)
			}
			r := proto.Clone(in.(proto.Message)).(*cloudtaskspb.CreateTaskRequest)
			got[string(r.Task.GetHttpRequest().Body)] = r
			return nil
		})
	err := q.Send(t.Context(),
		sync.Message{Tenant: "acme", Cluster: "c1", Revision: 7},
		sync.Message{Tenant: "acme", Cluster: "c2", NotBefore: now.Add(90*time.Minute + 1)},
		sync.Message{Tenant: "acme", Cluster: "c3", NotBefore: now.Add(40 * 24 * time.Hour)},
		sync.Message{Tenant: "acme", Cluster: "c4", NotBefore: now.Add(-time.Hour)},
	)
	if err != nil {
		t.Fatal(err)
	}
	for body, tt := range map[string]struct{ base64, schedule string }{
		`{"tenant":"acme","cluster":"c1","revision":7}`: {
			"eyJ0ZW5hbnQiOiJhY21lIiwiY2x1c3RlciI6ImMxIiwicmV2aXNpb24iOjd9", "",
		},
		`{"tenant":"acme","cluster":"c2","notBefore":"2026-03-01T13:30:00.000000001Z"}`: { // the service counts in microseconds
			"eyJ0ZW5hbnQiOiJhY21lIiwiY2x1c3RlciI6ImMyIiwibm90QmVmb3JlIjoiMjAyNi0wMy0wMVQxMzozMDowMC4wMDAwMDAwMDFaIn0=",
			`"scheduleTime": "2026-03-01T13:30:00.000001Z",`,
		},
		`{"tenant":"acme","cluster":"c3","notBefore":"2026-04-10T12:00:00Z"}`: { // later than the service waits
			"eyJ0ZW5hbnQiOiJhY21lIiwiY2x1c3RlciI6ImMzIiwibm90QmVmb3JlIjoiMjAyNi0wNC0xMFQxMjowMDowMFoifQ==",
			`"scheduleTime": "2026-03-31T11:00:00Z",`,
		},
		`{"tenant":"acme","cluster":"c4","notBefore":"2026-03-01T11:00:00Z"}`: {
			"eyJ0ZW5hbnQiOiJhY21lIiwiY2x1c3RlciI6ImM0Iiwibm90QmVmb3JlIjoiMjAyNi0wMy0wMVQxMTowMDowMFoifQ==", "",
		},
	} {
		want := &cloudtaskspb.CreateTaskRequest{}
		golden := `{"parent": "` + name + `", "task": {` + tt.schedule + ` "dispatchDeadline": "300s", "httpRequest": {
			"url": "https://sync.example.com/", "httpMethod": "POST", "headers": {"Content-Type": "application/json"}, "body": "` + tt.base64 + `",
			"oidcToken": {"serviceAccountEmail": "` + account + `", "audience": "https://sync.example.com/"}}}}`
		if err := protojson.Unmarshal([]byte(golden), want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got[body], protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

// One fault is the queue's own affair: the sender sees nothing of it.
func TestRetriesItself(t *testing.T) {
	for _, f := range []queuetest.Fault{queuetest.Throttle, queuetest.Fail, queuetest.Lose, queuetest.Forget, queuetest.Partly} {
		r := rig(t)
		r.Inject(f, 2)
		if err := r.Queue.Send(t.Context(), sync.Message{Tenant: "acme", Cluster: "c-refused"}, sync.Message{Tenant: "acme", Cluster: "c"}); err != nil {
			t.Errorf("fault %d, twice: %v", f, err)
		}
	}
}

// However long the service is in trouble, a Send asks a bounded number of times: a message five times, and a thousand
// messages hardly more than five times in all, since the first to give up ends the Send.
func TestBudget(t *testing.T) {
	w := &wire{}
	w.inject(queuetest.Fail, -1)
	q := open(t, "127.0.0.1:1", cloudtasks.Config{URL: "https://sync.example.com/"}, w.intercept)
	m := sync.Message{Tenant: "acme", Cluster: "c"}
	if err := q.Send(t.Context(), m); !errors.Is(err, core.Unavailable) || w.requests.Load() != 5 {
		t.Errorf("%v after %d requests, want 5", err, w.requests.Load())
	}
	w.requests.Store(0)
	many := make([]sync.Message, 1000)
	for i := range many {
		many[i] = m
	}
	if err := q.Send(t.Context(), many...); !errors.Is(err, core.Unavailable) || w.requests.Load() > 5*16 {
		t.Errorf("%v after %d requests for %d messages", err, w.requests.Load(), len(many))
	}
}

// The messages of a Send share their retries: where each needs four of them, the Send gives up.
func TestSharedRetries(t *testing.T) {
	tries := map[string]int{}
	again := 0
	var mu gosync.Mutex
	q := open(t, "127.0.0.1:1", cloudtasks.Config{URL: "https://sync.example.com/"},
		func(_ context.Context, _ string, in, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
			mu.Lock()
			defer mu.Unlock()
			body := string(in.(*cloudtaskspb.CreateTaskRequest).Task.GetHttpRequest().Body)
			if tries[body]++; tries[body] > 1 {
				again++
			}
			if tries[body] < 5 {
				return status.Error(codes.Unavailable, "down")
			}
			return nil
		})
	message := func(i int) sync.Message {
		return sync.Message{Tenant: "acme", Cluster: "c", Revision: core.Revision(i)}
	}
	if err := q.Send(t.Context(), message(0)); err != nil || again != 4 {
		t.Errorf("one message: %v after %d retries", err, again)
	}
	again = 0
	var many []sync.Message
	for i := range 100 {
		many = append(many, message(i+1))
	}
	if err := q.Send(t.Context(), many...); !errors.Is(err, core.Unavailable) || again > 5+100/4 {
		t.Errorf("%d messages: %v after %d retries", len(many), err, again)
	}
}

func TestRefusedForGood(t *testing.T) {
	for code, message := range map[codes.Code]string{
		codes.NotFound: "Queue does not exist.", codes.PermissionDenied: "The principal lacks IAM permission.", codes.InvalidArgument: "bad",
	} {
		requests := 0
		q := open(t, "127.0.0.1:1", cloudtasks.Config{URL: "https://sync.example.com/"},
			func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
				requests++
				return status.Error(code, message)
			})
		err := q.Send(t.Context(), sync.Message{Tenant: "acme", Cluster: "c"})
		var kind core.Kind
		if err == nil || errors.As(err, &kind) || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), name) || requests != 1 {
			t.Errorf("%s: %v after %d requests", code, err, requests)
		}
		long := sync.Message{Tenant: "acme", Cluster: core.ClusterID(strings.Repeat("x", 16<<10))}
		if err := q.Send(t.Context(), sync.Message{}, long); !errors.Is(err, core.TooLarge) || requests != 1 {
			t.Errorf("a long message: %v after %d requests", err, requests)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := cloudtasks.Config{Queue: name, URL: "https://sync.example.com", ServiceAccount: account}
	if _, err := cloudtasks.New(nil, good); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*cloudtasks.Config){
		"no queue":       func(c *cloudtasks.Config) { c.Queue = "" },
		"a short name":   func(c *cloudtasks.Config) { c.Queue = "sync" },
		"no URL":         func(c *cloudtasks.Config) { c.URL = "" },
		"a path":         func(c *cloudtasks.Config) { c.URL = "/sync" },
		"another scheme": func(c *cloudtasks.Config) { c.URL = "ftp://sync.example.com" },
		"no account":     func(c *cloudtasks.Config) { c.ServiceAccount = "" },
		"too little":     func(c *cloudtasks.Config) { c.Deadline = time.Second },
		"too much":       func(c *cloudtasks.Config) { c.Deadline = time.Hour },
	} {
		bad := good
		spoil(&bad)
		if _, err := cloudtasks.New(nil, bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v, want core.Invalid", what, err)
		}
	}
}
