// Package cloudtasks is a stand-in for Google Cloud Tasks, for the laptop and for tests. It is not Cloud Tasks: it keeps its
// queues in the memory of one process.
//
// Modelled: CreateTask over gRPC with the service's checks of name, URL, body, schedule time and deadline; the dispatch of
// HTTP tasks at their time, with the headers that the service adds; retries of whatever is not answered with 2xx, with
// pauses that double, until the attempts are used up and the task is dropped, as the service drops it; at most so many
// dispatches side by side.
//
// Not modelled: permissions and identity tokens (a request to the worker bears no Authorization header), App Engine tasks,
// rate limits, Retry-After and the longer pauses after 429 and 503, redirects, retention, and every other method. Names of
// tasks are remembered as long as the process lives.
package cloudtasks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetpass/fleetpass/core"
)

// Options are all optional. The retries' defaults are those of a new queue of the service.
type Options struct {
	Now         func() time.Time // default time.Now; who moves it calls Wake
	Queues      []string         // names of the queues that there are; default: every one that is named
	Client      *http.Client     // calls the workers; default http.DefaultClient
	MaxAttempts int              // default 100
	MinBackoff  time.Duration    // default 100 ms
	MaxBackoff  time.Duration    // default 1 hour
	Concurrent  int              // dispatches side by side; default 1000

	// Dropped is told of every task that is given up, and why. Default: a line in the log.
	Dropped func(task *cloudtaskspb.Task, why string)
}

// Server is the service.
type Server struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	options Options
	grpc    *grpc.Server
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	slots   chan struct{}

	mu      sync.Mutex
	tasks   map[string]*cloudtaskspb.Task // that wait or are being dispatched
	names   map[string]bool               // of all that there ever were
	changed chan struct{}                 // closed when the clock was moved
	closed  bool
}

// New makes a service.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 100
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = 100 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = time.Hour
	}
	if o.Concurrent == 0 {
		o.Concurrent = 1000
	}
	if o.Dropped == nil {
		o.Dropped = func(task *cloudtaskspb.Task, why string) {
			slog.Error("cloudtasks stand-in: a task is dropped", "task", task.Name, "reason", why)
		}
	}
	s := &Server{
		options: o, grpc: grpc.NewServer(), slots: make(chan struct{}, o.Concurrent),
		tasks: map[string]*cloudtaskspb.Task{}, names: map[string]bool{}, changed: make(chan struct{}),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	cloudtaskspb.RegisterCloudTasksServer(s.grpc, s)
	return s
}

// Serve answers what comes in by a listener, until Close.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Close ends Serve, every connection and every dispatch, and forgets all tasks.
func (s *Server) Close() {
	s.grpc.Stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
}

// Wake has every task look at the clock again.
func (s *Server) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Tasks returns the tasks that wait or are being dispatched, by schedule time.
func (s *Server) Tasks() []*cloudtaskspb.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*cloudtaskspb.Task
	for _, t := range s.tasks {
		all = append(all, proto.Clone(t).(*cloudtaskspb.Task))
	}
	slices.SortFunc(all, func(a, b *cloudtaskspb.Task) int {
		return a.ScheduleTime.AsTime().Compare(b.ScheduleTime.AsTime())
	})
	return all
}

// The service's limits (google.cloud.tasks.v2, and the documentation's "Quotas and limits").
const (
	maxAhead        = 30 * 24 * time.Hour
	maxTask         = 100 << 10
	maxURL          = 2083
	minDeadline     = 15 * time.Second
	maxDeadline     = 30 * time.Minute
	defaultDeadline = 10 * time.Minute
)

var (
	queueName = regexp.MustCompile(`^projects/[A-Za-z0-9.:-]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100}$`)
	taskID    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,500}$`)
)

func invalid(format string, a ...any) error {
	return status.Errorf(codes.InvalidArgument, format, a...)
}

// check refuses what the service refuses, and fills in what it fills in.
func (s *Server) check(parent string, t *cloudtaskspb.Task) error {
	if !queueName.MatchString(parent) {
		return invalid("The parent %q is not the name of a queue.", parent)
	}
	if s.options.Queues != nil && !slices.Contains(s.options.Queues, parent) {
		return status.Error(codes.NotFound, "Requested entity was not found.")
	}
	r := t.GetHttpRequest()
	if r == nil {
		return invalid("A task needs an HTTP request; App Engine's are not modelled.")
	}
	if u, err := url.Parse(r.Url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(r.Url) > maxURL {
		return invalid("HttpRequest.url must begin with http:// or https:// and have at most %d characters.", maxURL)
	}
	if r.HttpMethod == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		r.HttpMethod = cloudtaskspb.HttpMethod_POST
	}
	switch r.HttpMethod {
	case cloudtaskspb.HttpMethod_POST, cloudtaskspb.HttpMethod_PUT, cloudtaskspb.HttpMethod_PATCH:
	default:
		if len(r.Body) > 0 {
			return invalid("HttpRequest.body needs POST, PUT or PATCH.")
		}
	}
	if proto.Size(t) > maxTask {
		return invalid("Task size too large: at most %d bytes.", maxTask)
	}
	now := s.options.Now()
	if t.ScheduleTime == nil || t.ScheduleTime.AsTime().Before(now) {
		t.ScheduleTime = timestamppb.New(now)
	}
	if t.ScheduleTime.AsTime().After(now.Add(maxAhead)) {
		return invalid("The schedule_time is more than 720 hours in the future.")
	}
	t.ScheduleTime = timestamppb.New(t.ScheduleTime.AsTime().Truncate(time.Microsecond))
	if t.DispatchDeadline == nil {
		t.DispatchDeadline = durationpb.New(defaultDeadline)
	}
	if d := t.DispatchDeadline.AsDuration(); d < minDeadline || d > maxDeadline {
		return invalid("The dispatch_deadline must be between 15s and 30m.")
	}
	t.CreateTime = timestamppb.New(now.Truncate(time.Second))
	return nil
}

// CreateTask implements the service's method.
func (s *Server) CreateTask(_ context.Context, in *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	if in.Task == nil {
		return nil, invalid("The task is missing.")
	}
	t := proto.Clone(in.Task).(*cloudtaskspb.Task)
	if err := s.check(in.Parent, t); err != nil {
		return nil, err
	}
	if t.Name == "" {
		t.Name = in.Parent + "/tasks/" + core.NewID()
	}
	if id, ok := strings.CutPrefix(t.Name, in.Parent+"/tasks/"); !ok || !taskID.MatchString(id) {
		return nil, invalid("The task's name %q is not one of the queue.", t.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, status.Error(codes.Unavailable, "The server is shutting down.")
	}
	if s.names[t.Name] {
		return nil, status.Error(codes.AlreadyExists, "Requested entity already exists")
	}
	s.names[t.Name] = true
	s.tasks[t.Name] = t
	answer := proto.Clone(t).(*cloudtaskspb.Task)
	s.running.Go(func() { s.work(t) })
	return answer, nil
}

// attempt is what came of one dispatch.
type attempt struct {
	status int    // of the answer; 0: none came
	reason string // why it failed; "": it did not
}

// work dispatches a task until it succeeds, is given up, or the service is closed.
func (s *Server) work(t *cloudtaskspb.Task) {
	due := t.ScheduleTime.AsTime()
	executions := 0 // answers other than 5xx
	var last attempt
	for n := 0; s.until(due); n++ {
		if n == s.options.MaxAttempts {
			break
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		last = s.dispatch(t, due, n, executions, last)
		<-s.slots
		if last.reason == "" || s.ctx.Err() != nil {
			break
		}
		if last.status > 0 && last.status < 500 {
			executions++
		}
		if n+1 < s.options.MaxAttempts {
			due = s.options.Now().Add(s.pause(n))
		}
	}
	s.mu.Lock()
	delete(s.tasks, t.Name)
	s.mu.Unlock()
	if last.reason != "" && s.ctx.Err() == nil {
		s.options.Dropped(t, fmt.Sprintf("%d attempts, the last: %s", s.options.MaxAttempts, last.reason))
	}
}

// pause is between an attempt and the next: the service doubles it 16 times, and then adds.
func (s *Server) pause(n int) time.Duration {
	return min(s.options.MinBackoff<<min(n, 16), s.options.MaxBackoff)
}

// until waits for a time; false: the service is closed.
func (s *Server) until(due time.Time) bool {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		wait := due.Sub(s.options.Now())
		if wait <= 0 {
			return s.ctx.Err() == nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-s.ctx.Done():
		}
		timer.Stop()
		if s.ctx.Err() != nil {
			return false
		}
	}
}

// dispatch calls the worker once. The headers are the service's ("Create HTTP target tasks", "Write a task handler").
func (s *Server) dispatch(t *cloudtaskspb.Task, due time.Time, n, executions int, last attempt) attempt {
	ctx, cancel := context.WithTimeout(s.ctx, t.DispatchDeadline.AsDuration())
	defer cancel()
	in := t.GetHttpRequest()
	r, err := http.NewRequestWithContext(ctx, in.HttpMethod.String(), in.Url, bytes.NewReader(in.Body))
	if err != nil {
		return attempt{reason: err.Error()}
	}
	for k, v := range in.Headers {
		if !strings.HasPrefix(strings.ToLower(k), "x-google-") && !strings.HasPrefix(strings.ToLower(k), "x-appengine-") {
			r.Header.Set(k, v)
		}
	}
	queue, task := path.Split(t.Name)
	r.Header.Set("User-Agent", "Google-Cloud-Tasks")
	r.Header.Set("X-CloudTasks-QueueName", path.Base(strings.TrimSuffix(queue, "/tasks/")))
	r.Header.Set("X-CloudTasks-TaskName", task)
	r.Header.Set("X-CloudTasks-TaskRetryCount", strconv.Itoa(n))
	r.Header.Set("X-CloudTasks-TaskExecutionCount", strconv.Itoa(executions))
	r.Header.Set("X-CloudTasks-TaskETA", fmt.Sprintf("%d.%06d", due.Unix(), due.Nanosecond()/1000))
	if last.status != 0 {
		r.Header.Set("X-CloudTasks-TaskPreviousResponse", strconv.Itoa(last.status))
	}
	answer, err := s.options.Client.Do(r)
	if err != nil {
		return attempt{reason: err.Error()}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)) // so that the connection can be used again
	_ = answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return attempt{answer.StatusCode, answer.Status}
	}
	return attempt{status: answer.StatusCode}
}
