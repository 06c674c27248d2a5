package cloudtasks

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const queue = "projects/my-project/locations/europe-west4/queues/my-queue"

// clock is moved by the test.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// seen is a request that a worker got.
type seen struct {
	method, body string
	header       http.Header
}

// worker answers the statuses in turn, the last of them for ever.
func worker(t *testing.T, statuses ...int) (url string, got chan seen) {
	got = make(chan seen, 100)
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		i := min(int(n.Add(1)), len(statuses)) - 1
		w.WriteHeader(statuses[i])
		got <- seen{r.Method, string(body), r.Header.Clone()}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func task(url string) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url: url, HttpMethod: cloudtaskspb.HttpMethod_POST, Body: []byte("hello"), Headers: map[string]string{"Content-Type": "text/plain"},
	}}}
}

func create(t *testing.T, s *Server, in *cloudtaskspb.Task) *cloudtaskspb.Task {
	t.Helper()
	out, err := s.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: in})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDispatch(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	defer s.Close()
	url, got := worker(t, 503, 404, 200)
	in := task(url)
	in.ScheduleTime = timestamppb.New(c.now().Add(time.Hour))
	created := create(t, s, in)
	name, ok := strings.CutPrefix(created.Name, queue+"/tasks/")
	if !ok || created.DispatchDeadline.AsDuration() != 10*time.Minute || !created.CreateTime.AsTime().Equal(c.now()) {
		t.Errorf("created %v", created)
	}
	c.advance(59 * time.Minute)
	s.Wake()
	if len(got) != 0 || len(s.Tasks()) != 1 {
		t.Fatal("dispatched before its time")
	}
	// The headers are those of the documentation's list ("Create HTTP target tasks", "Write a task handler").
	var etas []string
	for i, want := range []map[string]string{
		{"X-Cloudtasks-Taskretrycount": "0", "X-Cloudtasks-Taskexecutioncount": "0"},
		{"X-Cloudtasks-Taskretrycount": "1", "X-Cloudtasks-Taskexecutioncount": "0", "X-Cloudtasks-Taskpreviousresponse": "503"}, // a 5xx is no execution
		{"X-Cloudtasks-Taskretrycount": "2", "X-Cloudtasks-Taskexecutioncount": "1", "X-Cloudtasks-Taskpreviousresponse": "404"},
	} {
		c.advance(time.Minute)
		r := await(t, s, c, got)
		maps.Copy(want, map[string]string{
			"X-Cloudtasks-Queuename": "my-queue", "X-Cloudtasks-Taskname": name, "User-Agent": "Google-Cloud-Tasks", "Content-Type": "text/plain",
		})
		have := map[string]string{}
		for k := range r.header {
			if _, ok := want[k]; ok || strings.HasPrefix(k, "X-Cloudtasks-") && k != "X-Cloudtasks-Tasketa" {
				have[k] = r.header.Get(k)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" || r.method != "POST" || r.body != "hello" {
			t.Errorf("dispatch %d: %s %q (-want +got):\n%s", i, r.method, r.body, diff)
		}
		etas = append(etas, r.header.Get("X-Cloudtasks-Tasketa"))
	}
	if etas[0] != "1772370000.000000" || !slices.IsSorted(etas) {
		t.Errorf("times %v", etas)
	}
	gone(t, s)
}

// await waits for a dispatch, moving the clock past the pauses.
func await(t *testing.T, s *Server, c *clock, got chan seen) seen {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		s.Wake()
		select {
		case r := <-got:
			return r
		case <-deadline:
			t.Fatal("never dispatched")
		case <-time.After(time.Millisecond):
			c.advance(time.Second)
		}
	}
}

func gone(t *testing.T, s *Server) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for len(s.Tasks()) > 0 {
		select {
		case <-deadline:
			t.Fatal("the task stays")
		case <-time.After(time.Millisecond):
		}
	}
}

// A task that keeps failing is dropped when its attempts are used up, and somebody is told.
func TestDropped(t *testing.T) {
	c := newClock()
	dropped := make(chan string, 9)
	s := New(Options{Now: c.now, MaxAttempts: 3, Dropped: func(t *cloudtaskspb.Task, why string) { dropped <- string(t.GetHttpRequest().Body) + ": " + why }})
	defer s.Close()
	url, got := worker(t, 500)
	create(t, s, task(url))
	for range 3 {
		await(t, s, c, got)
	}
	if why := <-dropped; why != "hello: 3 attempts, the last: 500 Internal Server Error" {
		t.Errorf("dropped: %q", why)
	}
	if len(got) != 0 || len(s.Tasks()) != 0 {
		t.Errorf("%d more dispatches, %d tasks", len(got), len(s.Tasks()))
	}
	// A worker that is not there is a failure like another.
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	create(t, s, task(closed.URL))
	deadline := time.After(30 * time.Second)
	for {
		select {
		case why := <-dropped:
			if !strings.HasPrefix(why, "hello: 3 attempts") {
				t.Errorf("dropped: %q", why)
			}
			return
		case <-deadline:
			t.Fatal("never dropped")
		case <-time.After(time.Millisecond):
			c.advance(time.Second)
			s.Wake()
		}
	}
}

func TestPausesGrow(t *testing.T) {
	s := New(Options{MinBackoff: time.Second, MaxBackoff: time.Minute})
	defer s.Close()
	var got []time.Duration
	for n := range 8 {
		got = append(got, s.pause(n))
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(got, want) || s.pause(1000) != time.Minute {
		t.Errorf("%v, want %v", got, want)
	}
}

// What the service refuses (google.cloud.tasks.v2), each beside a task that it takes.
func TestRefused(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now, Queues: []string{queue}})
	defer s.Close()
	for name, tt := range map[string]struct {
		parent string
		spoil  func(*cloudtaskspb.Task)
		want   codes.Code
	}{
		"good":    {queue, func(*cloudtaskspb.Task) {}, codes.OK},
		"30 days": {queue, func(t *cloudtaskspb.Task) { t.ScheduleTime = timestamppb.New(c.now().Add(30 * 24 * time.Hour)) }, codes.OK},
		"more than 30 days": {queue, func(t *cloudtaskspb.Task) {
			t.ScheduleTime = timestamppb.New(c.now().Add(30*24*time.Hour + time.Second))
		}, codes.InvalidArgument},
		"named":             {queue, func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/once" }, codes.OK},
		"another queue's":   {queue, func(t *cloudtaskspb.Task) { t.Name = queue + "x/tasks/once" }, codes.InvalidArgument},
		"no queue":          {"my-queue", func(*cloudtaskspb.Task) {}, codes.InvalidArgument},
		"a queue not there": {queue + "x", func(*cloudtaskspb.Task) {}, codes.NotFound},
		"no request":        {queue, func(t *cloudtaskspb.Task) { t.MessageType = nil }, codes.InvalidArgument},
		"a relative URL":    {queue, func(t *cloudtaskspb.Task) { t.GetHttpRequest().Url = "/sync" }, codes.InvalidArgument},
		"a long URL":        {queue, func(t *cloudtaskspb.Task) { t.GetHttpRequest().Url += strings.Repeat("x", 2083) }, codes.InvalidArgument},
		"a large body":      {queue, func(t *cloudtaskspb.Task) { t.GetHttpRequest().Body = make([]byte, 100<<10) }, codes.InvalidArgument},
		"a body with GET":   {queue, func(t *cloudtaskspb.Task) { t.GetHttpRequest().HttpMethod = cloudtaskspb.HttpMethod_GET }, codes.InvalidArgument},
		"a short deadline":  {queue, func(t *cloudtaskspb.Task) { t.DispatchDeadline = durationpb.New(14 * time.Second) }, codes.InvalidArgument},
		"the longest":       {queue, func(t *cloudtaskspb.Task) { t.DispatchDeadline = durationpb.New(30 * time.Minute) }, codes.OK},
		"longer than that":  {queue, func(t *cloudtaskspb.Task) { t.DispatchDeadline = durationpb.New(31 * time.Minute) }, codes.InvalidArgument},
	} {
		in := task("http://127.0.0.1:1/")
		in.ScheduleTime = timestamppb.New(c.now().Add(time.Hour)) // not while the test runs
		tt.spoil(in)
		if _, err := s.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: tt.parent, Task: in}); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if _, err := s.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: queue}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no task: %v", err)
	}
	once := task("http://127.0.0.1:1/")
	once.Name, once.ScheduleTime = queue+"/tasks/once", timestamppb.New(c.now().Add(time.Hour))
	if _, err := s.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: once}); status.Code(err) != codes.AlreadyExists {
		t.Errorf("a name for the second time: %v", err)
	}
}
