// Package streams is a local Lambda event source mapping for a DynamoDB stream: it calls a function with what is new in a
// table's outbox. It reads DynamoDB's own Streams API, which DynamoDB Local has, and stands in for Lambda alone. It is apart
// from the store's adapter so that no deployed function carries the client of a service that it never calls.
package streams

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json"
)

// NewClient makes a client of a local endpoint, which lets everybody in.
func NewClient(endpoint string) *dynamodbstreams.Client {
	return dynamodbstreams.New(dynamodbstreams.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

// partition is the attribute of the table's partition key.
const partition = "p"

// OutboxPrefix is what the partition keys of events begin with. Terraform's filter on the event source mapping has the same.
const OutboxPrefix = "outbox#"

// FeedOptions are the settings of a Feed. The zero value is that of an event source mapping as Terraform makes it, but for the
// pauses, which are shorter.
type FeedOptions struct {
	Batch    int                          // how many records an event holds at most; default 100
	Poll     time.Duration                // between two looks at a shard that has nothing new; default 200 ms
	RetryMin time.Duration                // the pause after the first failure of a batch, doubled by each further one; default 100 ms
	RetryMax time.Duration                // the longest pause; default 30 s
	Failed   func(attempt int, err error) // is told of every failure, from several goroutines; nil: nobody is
}

func (o *FeedOptions) defaults() {
	if o.Batch <= 0 {
		o.Batch = 100
	}
	if o.Poll <= 0 {
		o.Poll = 200 * time.Millisecond
	}
	if o.RetryMin <= 0 {
		o.RetryMin = 100 * time.Millisecond
	}
	if o.RetryMax < o.RetryMin {
		o.RetryMax = max(o.RetryMin, 30*time.Second)
	}
	if o.Failed == nil {
		o.Failed = func(int, error) {}
	}
}

// Feed does locally what a Lambda event source mapping does in the cloud: it reads the table's change stream, keeps the new
// items of the outbox, and hands them to invoke in batches, in the JSON of Lambda's DynamoDB event. invoke returns what the
// function answered, in which batchItemFailures name sequence numbers: the batch is tried again from the lowest of them, and as
// a whole where invoke fails, after growing pauses and for ever. So the events of a shard come in order, at least once, and what
// fails holds up those behind it; nothing is dropped while the stream has it (24 hours).
//
// Feed remembers nothing: it begins with the oldest record of the stream, so a new Feed repeats. It returns the cause when ctx
// ends; whatever else goes wrong is told to Failed and tried again.
func Feed(ctx context.Context, client *dynamodbstreams.Client, table string, o FeedOptions, invoke func(ctx context.Context, event []byte) (answer []byte, err error)) error {
	o.defaults()
	f := &feed{client: client, table: table, opts: o, invoke: invoke, state: map[string]shardState{}, ended: make(chan struct{}, 1)}
	var readers sync.WaitGroup
	defer readers.Wait()
	for attempt := 1; ; attempt++ {
		wait := shardsEvery
		if err := f.look(ctx, func(shard string) { readers.Go(func() { f.read(ctx, shard) }) }); err != nil {
			if ctx.Err() == nil {
				o.Failed(attempt, err)
			}
			wait = f.pause(attempt)
		} else {
			attempt = 0
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.ended:
		case <-time.After(wait):
		}
	}
}

// shardsEvery is how often new shards are looked for, beside when one has ended.
const shardsEvery = 10 * time.Second

type shardState int

const (
	reading shardState = iota + 1
	done
)

type feed struct {
	client *dynamodbstreams.Client
	table  string
	opts   FeedOptions
	invoke func(context.Context, []byte) ([]byte, error)
	stream string // its ARN

	mu    sync.Mutex
	state map[string]shardState
	ended chan struct{} // holds a token when a shard was read to its end
}

// look finds the stream and its shards, and starts those whose turn it is: a shard's parent has older changes of the same
// items, and is read to its end before.
func (f *feed) look(ctx context.Context, start func(shard string)) error {
	if f.stream == "" {
		out, err := f.client.ListStreams(ctx, &dynamodbstreams.ListStreamsInput{TableName: &f.table})
		if err != nil {
			return failed("list streams", err)
		}
		if len(out.Streams) == 0 {
			return fmt.Errorf("streams: table %s has no stream", f.table)
		}
		f.stream = aws.ToString(out.Streams[len(out.Streams)-1].StreamArn)
	}
	var shards []types.Shard
	for in := (&dynamodbstreams.DescribeStreamInput{StreamArn: &f.stream}); ; {
		out, err := f.client.DescribeStream(ctx, in)
		if err != nil {
			return failed("describe stream", err)
		}
		shards = append(shards, out.StreamDescription.Shards...)
		if in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId; in.ExclusiveStartShardId == nil {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range shards {
		id, parent := aws.ToString(s.ShardId), aws.ToString(s.ParentShardId)
		there := slices.ContainsFunc(shards, func(s types.Shard) bool { return aws.ToString(s.ShardId) == parent })
		if f.state[id] == 0 && (!there || f.state[parent] == done) {
			f.state[id] = reading
			start(id)
		}
	}
	return nil
}

// read reads a shard to its end.
func (f *feed) read(ctx context.Context, shard string) {
	var iterator *string // nil: one is to be had, behind the record after
	after := ""
	for attempt := 1; ctx.Err() == nil; attempt++ {
		next, records, err := f.records(ctx, shard, after, iterator)
		switch {
		case err == nil:
			attempt = 0
		case isCode(err, "ExpiredIteratorException"): // it is good for 15 minutes, and a batch may have failed for longer
			iterator = nil
			continue
		case isCode(err, "TrimmedDataAccessException"): // that was held up for more than a day
			iterator, after = nil, ""
			f.opts.Failed(attempt, fmt.Errorf("streams: the stream of %s no longer has what was to be read next", f.table))
			continue
		default:
			if ctx.Err() == nil {
				f.opts.Failed(attempt, failed("read stream", err))
			}
			iterator = nil
			f.sleep(ctx, f.pause(attempt))
			continue
		}
		for batch := range slices.Chunk(f.events(records), f.opts.Batch) {
			if !f.deliver(ctx, batch) {
				return
			}
		}
		if n := len(records); n > 0 {
			after = aws.ToString(records[n-1].Dynamodb.SequenceNumber)
		}
		if next == nil {
			f.mu.Lock()
			f.state[shard] = done
			f.mu.Unlock()
			select {
			case f.ended <- struct{}{}:
			default:
			}
			return
		}
		if iterator = next; len(records) == 0 {
			f.sleep(ctx, f.opts.Poll)
		}
	}
}

// records reads what comes next in a shard. next is nil at its end.
func (f *feed) records(ctx context.Context, shard, after string, iterator *string) (next *string, records []types.Record, err error) {
	if iterator == nil {
		in := &dynamodbstreams.GetShardIteratorInput{StreamArn: &f.stream, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
		if after != "" {
			in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &after
		}
		out, err := f.client.GetShardIterator(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		iterator = out.ShardIterator
	}
	out, err := f.client.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: iterator})
	if err != nil {
		return nil, nil, err
	}
	return out.NextShardIterator, out.Records, nil
}

// An event is what Lambda hands to a function.
// https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
type event struct {
	Records []eventRecord `json:"Records"`
}

type eventRecord struct {
	EventID      string      `json:"eventID"`
	EventName    string      `json:"eventName"`
	EventVersion string      `json:"eventVersion"`
	EventSource  string      `json:"eventSource"`
	AWSRegion    string      `json:"awsRegion"`
	Change       eventChange `json:"dynamodb"`
	SourceARN    string      `json:"eventSourceARN"`
}

type eventChange struct {
	Created        float64                      `json:"ApproximateCreationDateTime"`
	Keys           map[string]map[string]string `json:"Keys"`
	NewImage       map[string]map[string]string `json:"NewImage"`
	SequenceNumber string                       `json:"SequenceNumber"`
	SizeBytes      int64                        `json:"SizeBytes"`
	View           string                       `json:"StreamViewType"`
}

// events keeps the records that Terraform's filter lets through.
func (f *feed) events(records []types.Record) (events []eventRecord) {
	for _, r := range records {
		if r.EventName != types.OperationTypeInsert || r.Dynamodb == nil {
			continue
		}
		p, ok := r.Dynamodb.Keys[partition].(*types.AttributeValueMemberS)
		if !ok || !strings.HasPrefix(p.Value, OutboxPrefix) {
			continue
		}
		e := eventRecord{
			EventID:      aws.ToString(r.EventID),
			EventName:    string(r.EventName),
			EventVersion: aws.ToString(r.EventVersion),
			EventSource:  aws.ToString(r.EventSource),
			AWSRegion:    aws.ToString(r.AwsRegion),
			SourceARN:    f.stream,
			Change: eventChange{
				Keys:           image(r.Dynamodb.Keys),
				NewImage:       image(r.Dynamodb.NewImage),
				SequenceNumber: aws.ToString(r.Dynamodb.SequenceNumber),
				SizeBytes:      aws.ToInt64(r.Dynamodb.SizeBytes),
				View:           string(r.Dynamodb.StreamViewType),
			},
		}
		if at := r.Dynamodb.ApproximateCreationDateTime; at != nil {
			e.Change.Created = float64(at.Unix())
		}
		events = append(events, e)
	}
	return events
}

// image spells attributes of the types that this store writes. Others are not ours, and nobody looks for them.
func image(attrs map[string]types.AttributeValue) map[string]map[string]string {
	out := make(map[string]map[string]string, len(attrs))
	for name, v := range attrs {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			out[name] = map[string]string{"S": v.Value}
		case *types.AttributeValueMemberN:
			out[name] = map[string]string{"N": v.Value}
		case *types.AttributeValueMemberB:
			out[name] = map[string]string{"B": base64.StdEncoding.EncodeToString(v.Value)}
		}
	}
	return out
}

// deliver hands a batch over until all of it is done. It is not ok if ctx ended before.
func (f *feed) deliver(ctx context.Context, batch []eventRecord) (ok bool) {
	for attempt := 1; len(batch) > 0; attempt++ {
		if ctx.Err() != nil {
			return false
		}
		left, err := f.try(ctx, batch)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			f.opts.Failed(attempt, err)
		}
		if len(left) < len(batch) {
			attempt = 1 // some of it got through
		}
		batch = left
		f.sleep(ctx, f.pause(attempt))
	}
	return true
}

// try hands a batch over once. err is nil when all of it is done; else left is what is to be tried again.
func (f *feed) try(ctx context.Context, batch []eventRecord) (left []eventRecord, err error) {
	body, err := json.Marshal(event{batch})
	if err != nil {
		return batch, fmt.Errorf("streams: event: %w", err)
	}
	answer, err := f.invoke(ctx, body)
	if err != nil {
		return batch, err
	}
	bad, err := failures(answer)
	if err != nil || len(bad) == 0 {
		return batch, err
	}
	// Sequence numbers of a shard are ordered as the batch is, so the lowest is the first of them in it.
	for i, r := range batch {
		if slices.Contains(bad, r.Change.SequenceNumber) {
			return batch[i:], fmt.Errorf("streams: %d of %d records of a batch failed, the first is %s", len(bad), len(batch), r.Change.SequenceNumber)
		}
	}
	return batch, errors.New("streams: the function reports failures of records that it was not given")
}

func failed(what string, err error) error { return fmt.Errorf("streams: %s: %w", what, err) }

func isCode(err error, code string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == code
}

// failures reads the sequence numbers out of a function's answer. As with Lambda, an answer of nothing means success, and one
// that names a record by nothing is a failure of the whole batch.
// https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
func failures(answer []byte) (failed []string, err error) {
	if len(answer) == 0 {
		return nil, nil
	}
	var res *struct {
		Failures []struct {
			ID string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &res); err != nil {
		return nil, errors.New("streams: the function's answer is no batch response")
	}
	if res == nil {
		return nil, nil
	}
	for _, f := range res.Failures {
		if f.ID == "" {
			return nil, errors.New("streams: the function reports the failure of a record without a name")
		}
		failed = append(failed, f.ID)
	}
	return failed, nil
}

func (f *feed) pause(attempt int) time.Duration {
	d := f.opts.RetryMin
	for range min(attempt-1, 30) {
		d = min(2*d, f.opts.RetryMax)
	}
	return d/2 + rand.N(d/2+1)
}

func (f *feed) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
