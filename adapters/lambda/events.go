package lambda

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"

	"github.com/fleetpass/fleetpass/core/trace"
)

// The table's attributes that a stream record is read by.
const (
	PartitionAttribute = "p" // names the partition; the outbox's begin with outboxPrefix
	BodyAttribute      = "b" // holds an item's body: of the outbox, an event

	outboxPrefix = "outbox#"
)

// StartStream hands every event of the outbox's change stream to handle until the platform ends the process.
func (r Runtime) StartStream(handle func(context.Context, []byte) error) {
	awslambda.Start(r.Stream(handle))
}

// Stream adapts an event handler to DynamoDB stream batches. Records that are no insertions into the outbox are passed over:
// the event source mapping filters them out already, but a filter that somebody took away must not turn the whole table into
// events.
//
// What handle fails on is reported by its sequence number, and Lambda delivers everything from the lowest one again. What
// comes behind a failure is handled all the same: no order is promised, events are hints that may come twice, and one
// tenant's event that fails must not hold up those of all the others in the batch. Only when the time is up, the rest is
// left, to be delivered again; the first of it is reported for that, since an empty list says that all of it was handled.
func (r Runtime) Stream(handle func(context.Context, []byte) error) func(context.Context, awsevents.DynamoDBEvent) (awsevents.DynamoDBEventResponse, error) {
	return invocation(r, func(ctx context.Context, batch awsevents.DynamoDBEvent) (awsevents.DynamoDBEventResponse, error) {
		var res awsevents.DynamoDBEventResponse
		for _, rec := range batch.Records {
			sequence := rec.Change.SequenceNumber
			if ctx.Err() != nil { // it was not tried, and all from it on comes again
				res.BatchItemFailures = append(res.BatchItemFailures, awsevents.DynamoDBBatchItemFailure{ItemIdentifier: sequence})
				break
			}
			if record(trace.Note(ctx, "sequence", sequence), rec, handle) != nil {
				res.BatchItemFailures = append(res.BatchItemFailures, awsevents.DynamoDBBatchItemFailure{ItemIdentifier: sequence})
			}
		}
		return res, nil
	})
}

func record(ctx context.Context, rec awsevents.DynamoDBEventRecord, handle func(context.Context, []byte) error) error {
	if rec.EventName != string(awsevents.DynamoDBOperationTypeInsert) {
		return nil // an outbox item is written once; its removal by TTL is no event
	}
	partition, ok := rec.Change.Keys[PartitionAttribute]
	if !ok || partition.DataType() != awsevents.DataTypeString {
		return broken(ctx, fmt.Errorf("lambda: stream record without the key attribute %q: it is another table's", PartitionAttribute))
	}
	if !strings.HasPrefix(partition.String(), outboxPrefix) {
		return nil
	}
	if len(rec.Change.NewImage) == 0 {
		return broken(ctx, errors.New("lambda: stream record without an image; the stream's view must be NEW_IMAGE"))
	}
	var body []byte // an event without a body is for the handler to park
	if v, ok := rec.Change.NewImage[BodyAttribute]; ok {
		if v.DataType() != awsevents.DataTypeBinary {
			return broken(ctx, fmt.Errorf("lambda: stream record whose attribute %q is not binary", BodyAttribute))
		}
		body = v.Binary()
	}
	return safely(ctx, func() error { return handle(ctx, body) })
}

// broken is an error about what never reaches a handler, and so is logged here.
func broken(ctx context.Context, err error) error {
	log().ErrorContext(ctx, "an event that is none", "error", err)
	return err
}

// StartQueue hands every message of a queue to handle until the platform ends the process.
func (r Runtime) StartQueue(handle func(context.Context, []byte) error) {
	awslambda.Start(r.Queue(handle))
}

// Queue adapts a message handler to SQS batches, those of a dead-letter queue's redrive among them. Only the messages that
// failed come again, and those that the time did not suffice for.
func (r Runtime) Queue(handle func(context.Context, []byte) error) func(context.Context, awsevents.SQSEvent) (awsevents.SQSEventResponse, error) {
	return invocation(r, func(ctx context.Context, batch awsevents.SQSEvent) (awsevents.SQSEventResponse, error) {
		var res awsevents.SQSEventResponse
		for _, m := range batch.Records {
			noted := trace.Note(trace.Note(ctx, "message", m.MessageId), "received", m.Attributes["ApproximateReceiveCount"])
			err := ctx.Err()
			if err == nil {
				err = safely(noted, func() error { return handle(noted, []byte(m.Body)) })
			}
			if err != nil {
				res.BatchItemFailures = append(res.BatchItemFailures, awsevents.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			}
		}
		return res, nil
	})
}

// StartSchedule calls handle at every tick of a schedule until the platform ends the process.
func (r Runtime) StartSchedule(handle func(context.Context, time.Time) error) {
	awslambda.Start(r.Schedule(handle))
}

// Tick is what a schedule sends: an EventBridge rule's event, EventBridge Scheduler's own, or whatever input Scheduler was
// told to send, as long as it has the time: {"time":"<aws.scheduler.scheduled-time>"}.
type Tick struct {
	Time time.Time `json:"time"`
}

// Schedule adapts a periodic handler. It is called with the time that was scheduled, which a late start does not move.
func (r Runtime) Schedule(handle func(context.Context, time.Time) error) func(context.Context, Tick) error {
	do := invocation(r, func(ctx context.Context, ev Tick) (struct{}, error) {
		if ev.Time.IsZero() {
			return struct{}{}, broken(ctx, errors.New(`lambda: schedule event without a time; give the schedule the input {"time":"<aws.scheduler.scheduled-time>"}`))
		}
		return struct{}{}, safely(ctx, func() error { return handle(ctx, ev.Time.UTC()) })
	})
	return func(ctx context.Context, ev Tick) error {
		_, err := do(ctx, ev)
		return err
	}
}
