// Package cloudtasks is sync.Queue over a queue of Google Cloud Tasks. Each message is one task without a name, since the
// service remembers names and is slower for it: a POST to functions/sync, with an identity token of a service account that
// may call it (adapters/cloudfunctions, Queue). Cloud Tasks holds a task back for 30 days at most, so a message that is
// wanted later comes early, and functions/sync sends it again.
package cloudtasks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// MaxDelay is how long a message is held back: the service's 30 days, less an hour in which clocks may differ.
const MaxDelay = 30*24*time.Hour - time.Hour

const (
	maxBody  = 16 << 10        // bytes of a message; ours are some hundred. The service's own bound is 100 KB
	attempts = 5               // at one task
	parallel = 16              // tasks of one Send that are being created
	timeout  = 5 * time.Second // of one attempt
	maxPause = 2 * time.Second // between attempts
)

// Dial makes a client, with the credentials that the platform gives the process. An emulator's HOST:PORT other than "" is
// spoken to instead, in the clear and without credentials. It makes no request yet.
func Dial(ctx context.Context, emulator string, more ...option.ClientOption) (*cloudtasks.Client, error) {
	var opts []option.ClientOption
	if emulator != "" {
		opts = append(opts, option.WithEndpoint(emulator), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	c, err := cloudtasks.NewClient(ctx, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("cloudtasks: %w", err)
	}
	return c, nil
}

// Config is what the queue needs to know. The first three fields are needed; the rest has defaults.
type Config struct {
	Queue          string // projects/PROJECT/locations/LOCATION/queues/QUEUE
	URL            string // where functions/sync listens; also the audience of the identity token
	ServiceAccount string // e-mail of the account that the service calls the function as

	Deadline time.Duration    // how long the function may take for a message, 15 seconds to 30 minutes; default 10 minutes
	Now      func() time.Time // default time.Now
	MaxPause time.Duration    // between attempts at a task; default 2 seconds
}

// Queue is a sync.Queue.
type Queue struct {
	client *cloudtasks.Client
	Config
}

var _ sync.Queue = (*Queue)(nil)

var queueName = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/queues/[A-Za-z0-9-]{1,100}$`)

// New makes the queue. A configuration that cannot be right is core.Invalid.
func New(client *cloudtasks.Client, c Config) (*Queue, error) {
	if !queueName.MatchString(c.Queue) {
		return nil, core.BadField("FLEETPASS_QUEUE", "must be projects/PROJECT/locations/LOCATION/queues/QUEUE")
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, core.BadField("FLEETPASS_SYNC_URL", "must be the URL of the sync function")
	}
	if c.ServiceAccount == "" {
		return nil, core.BadField("FLEETPASS_TASKS_ACCOUNT", "must be the e-mail address of a service account")
	}
	if c.Deadline == 0 {
		c.Deadline = 10 * time.Minute
	}
	if c.Deadline < 15*time.Second || c.Deadline > 30*time.Minute {
		return nil, core.BadField("Deadline", "must be from 15 seconds to 30 minutes")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxPause <= 0 {
		c.MaxPause = maxPause
	}
	return &Queue{client, c}, nil
}

// Send implements sync.Queue. A message over 16 KiB is core.TooLarge, and then none is sent.
func (q *Queue) Send(ctx context.Context, messages ...sync.Message) error {
	requests := make([]*cloudtaskspb.CreateTaskRequest, 0, len(messages))
	for i, m := range messages {
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("cloudtasks: message %d: %w", i, err)
		}
		if len(body) > maxBody {
			return fmt.Errorf("cloudtasks: message %d has %d bytes, at most %d: %w", i, len(body), maxBody, core.TooLarge)
		}
		requests = append(requests, &cloudtaskspb.CreateTaskRequest{Parent: q.Queue, Task: q.task(body, m.NotBefore)})
	}
	// All messages share the retries, so that a service in trouble is asked little more than once for each.
	var retries atomic.Int64
	retries.Store(int64(attempts + len(messages)/4))
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, r := range requests {
		g.Go(func() error { return q.create(within, r, &retries) })
	}
	return g.Wait()
}

func (q *Queue) task(body []byte, notBefore time.Time) *cloudtaskspb.Task {
	t := &cloudtaskspb.Task{
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:        q.URL,
			HttpMethod: cloudtaskspb.HttpMethod_POST,
			Headers:    map[string]string{"Content-Type": "application/json"},
			Body:       body,
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: q.ServiceAccount,
				Audience:            q.URL,
			}},
		}},
		DispatchDeadline: durationpb.New(q.Deadline),
	}
	if now := q.Now(); notBefore.After(now) {
		// The service cuts to microseconds, which must not make a message early.
		at := notBefore.Add(time.Microsecond - time.Nanosecond).Truncate(time.Microsecond)
		if latest := now.Add(MaxDelay); at.After(latest) {
			at = latest
		}
		t.ScheduleTime = timestamppb.New(at)
	}
	return t
}

// create makes one task. Where an answer is lost, the attempt after it makes another task of the same message.
func (q *Queue) create(ctx context.Context, r *cloudtaskspb.CreateTaskRequest, retries *atomic.Int64) error {
	pauses := gax.Backoff{Initial: min(100*time.Millisecond, q.MaxPause), Max: q.MaxPause, Multiplier: 2}
	for n := 1; ; n++ {
		if ctx.Err() != nil { // another message has been given up, or the sender gave up
			return fmt.Errorf("cloudtasks: %w: %w", core.Unavailable, ctx.Err())
		}
		try, cancel := context.WithTimeout(ctx, timeout)
		_, err := q.client.CreateTask(try, r)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("cloudtasks: %w: %w", core.Unavailable, ctx.Err())
		case !passing(err):
			return fmt.Errorf("cloudtasks: %s: %w", q.Queue, err)
		case n == attempts || retries.Add(-1) < 0:
			return fmt.Errorf("cloudtasks: %s: given up after %d attempts: %w: %w", q.Queue, n, core.Unavailable, err)
		}
		_ = gax.Sleep(ctx, pauses.Pause()) // looked at above
	}
}

// passing says whether another attempt may succeed. The message may have been queued all the same.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.Canceled:
		return true
	}
	return false
}
