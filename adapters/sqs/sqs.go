// Package sqs is sync.Queue over a standard queue of Amazon SQS. A platform's event source mapping hands the messages to
// functions/sync (adapters/lambda, Queue); this package only sends. SQS holds a message back for 15 minutes at most, so one
// that is wanted later comes early, and functions/sync sends it again.
package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// The service's own limits: SendMessageBatch takes so many messages, and DelaySeconds goes so far.
const (
	batchSize = 10
	MaxDelay  = 15 * time.Minute
)

const (
	maxBody  = 16 << 10 // bytes of a message; ours are some hundred. A batch stays far below the service's 256 KiB
	attempts = 5        // at a request, and at what a batch leaves behind
	parallel = 4        // batches of one Send under way

	maxPause = 2 * time.Second  // between attempts
	timeout  = 10 * time.Second // of one attempt, if the configuration brings no HTTP client of its own
)

// Client makes a client from a configuration that has a region and credentials. An endpoint other than "" stands in for the
// region's. Where the configuration says nothing else, a request is tried five times at most, with growing random pauses,
// and the retries of all requests share the SDK's token bucket, so that a service in trouble is not asked five times as often.
func Client(cfg aws.Config, endpoint string) *sqs.Client {
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		if cfg.HTTPClient == nil {
			o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(timeout)
		}
		if cfg.Retryer == nil {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxPause })
		}
	})
}

// Options are all optional.
type Options struct {
	Now      func() time.Time // default time.Now
	MaxPause time.Duration    // between attempts at what a batch leaves behind; default 2 seconds
}

// Queue is a sync.Queue.
type Queue struct {
	client *sqs.Client
	url    string
	now    func() time.Time
	pauses *retry.ExponentialJitterBackoff
}

var _ sync.Queue = (*Queue)(nil)

// New makes the queue with that URL.
func New(client *sqs.Client, queueURL string, o Options) *Queue {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxPause <= 0 {
		o.MaxPause = maxPause
	}
	return &Queue{client, queueURL, o.Now, retry.NewExponentialJitterBackoff(o.MaxPause)}
}

// Send implements sync.Queue. A message over 16 KiB is core.TooLarge, and then none is sent.
func (q *Queue) Send(ctx context.Context, messages ...sync.Message) error {
	entries := make([]types.SendMessageBatchRequestEntry, 0, len(messages))
	for i, m := range messages {
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("sqs: message %d: %w", i, err)
		}
		if len(body) > maxBody {
			return fmt.Errorf("sqs: message %d has %d bytes, at most %d: %w", i, len(body), maxBody, core.TooLarge)
		}
		entries = append(entries, types.SendMessageBatchRequestEntry{
			Id:           aws.String(strconv.Itoa(i % batchSize)),
			MessageBody:  aws.String(string(body)),
			DelaySeconds: delay(m.NotBefore, q.now()),
		})
	}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for batch := range slices.Chunk(entries, batchSize) {
		g.Go(func() error { return q.batch(within, batch) })
	}
	return g.Wait()
}

// delay is the seconds from now to a time, rounded up, as far as the service waits.
func delay(notBefore, now time.Time) int32 {
	wait := notBefore.Sub(now)
	if notBefore.IsZero() || wait <= 0 {
		return 0
	}
	return int32((min(wait, MaxDelay) + time.Second - 1) / time.Second)
}

// batch sends at most batchSize messages, and those again that the service says it did not take, or says nothing of.
func (q *Queue) batch(ctx context.Context, left []types.SendMessageBatchRequestEntry) error {
	for n := 1; ; n++ {
		if ctx.Err() != nil { // another batch has been given up, or the sender gave up
			return fmt.Errorf("sqs: %w: %w", core.Unavailable, ctx.Err())
		}
		out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: aws.String(q.url), Entries: left})
		if err != nil {
			return q.failed(ctx, err)
		}
		for _, f := range out.Failed {
			if f.SenderFault {
				return fmt.Errorf("sqs: %s refuses a message for good: %s", q.url, aws.ToString(f.Code))
			}
		}
		taken := make(map[string]bool, len(out.Successful))
		for _, s := range out.Successful {
			taken[aws.ToString(s.Id)] = true
		}
		left = slices.DeleteFunc(slices.Clone(left), func(e types.SendMessageBatchRequestEntry) bool { return taken[*e.Id] })
		if len(left) == 0 {
			return nil
		}
		if n == attempts {
			return fmt.Errorf("sqs: %s did not take %d messages in %d attempts: %w", q.url, len(left), n, core.Unavailable)
		}
		pause, err := q.pauses.BackoffDelay(n, nil)
		if err != nil {
			return fmt.Errorf("sqs: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done(): // looked at above
		}
	}
}

var retryable = retry.IsErrorRetryables(retry.DefaultRetryables)

// failed gives an error of the SDK its kind: what another attempt may mend is core.Unavailable; a queue that is not there or
// not ours is internal, since it is the installation that is wrong.
func (q *Queue) failed(ctx context.Context, err error) error {
	var api smithy.APIError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("sqs: %w: %w", core.Unavailable, ctx.Err())
	case !errors.As(err, &api), retryable.IsErrorRetryable(err).Bool(): // no answer, or one of a service in trouble
		return fmt.Errorf("sqs: %s: %w: %w", q.url, core.Unavailable, err)
	}
	return fmt.Errorf("sqs: %s: %w", q.url, err)
}
