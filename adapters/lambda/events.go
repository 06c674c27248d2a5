package lambda

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"
)

// BodyAttribute is the table's attribute that holds an item's body: a stream record of the outbox carries an event there.
const BodyAttribute = "b"

// ServeStream hands every event of the outbox's change stream to handle until the platform ends the process.
func ServeStream(handle func(context.Context, []byte) error) { awslambda.Start(Stream(handle)) }

// Stream adapts an event handler to DynamoDB stream batches. What handle fails on is reported by its sequence number, and
// the platform retries from the lowest one; so a handler parks what it can never handle and returns nil.
func Stream(handle func(context.Context, []byte) error) func(context.Context, awsevents.DynamoDBEvent) (awsevents.DynamoDBEventResponse, error) {
	return func(ctx context.Context, batch awsevents.DynamoDBEvent) (awsevents.DynamoDBEventResponse, error) {
		var res awsevents.DynamoDBEventResponse
		for _, rec := range batch.Records {
			if rec.EventName != string(awsevents.DynamoDBOperationTypeInsert) {
				continue // an outbox item is written once; its removal by TTL is no event
			}
			body, err := binary(rec.Change.NewImage, BodyAttribute)
			if err == nil {
				err = handle(ctx, body)
			}
			if err != nil {
				slog.ErrorContext(ctx, "stream record failed", "sequence", rec.Change.SequenceNumber, "error", err)
				res.BatchItemFailures = append(res.BatchItemFailures, awsevents.DynamoDBBatchItemFailure{ItemIdentifier: rec.Change.SequenceNumber})
			}
		}
		return res, nil
	}
}

func binary(image map[string]awsevents.DynamoDBAttributeValue, name string) ([]byte, error) {
	v, ok := image[name]
	if !ok || v.DataType() != awsevents.DataTypeBinary {
		return nil, fmt.Errorf("lambda: stream record has no binary attribute %q", name)
	}
	return v.Binary(), nil
}

// ServeQueue hands every message of a queue to handle until the platform ends the process.
func ServeQueue(handle func(context.Context, []byte) error) { awslambda.Start(Queue(handle)) }

// Queue adapts a message handler to SQS batches. Only the messages that failed are retried.
func Queue(handle func(context.Context, []byte) error) func(context.Context, awsevents.SQSEvent) (awsevents.SQSEventResponse, error) {
	return func(ctx context.Context, batch awsevents.SQSEvent) (awsevents.SQSEventResponse, error) {
		var res awsevents.SQSEventResponse
		for _, m := range batch.Records {
			if err := handle(ctx, []byte(m.Body)); err != nil {
				slog.ErrorContext(ctx, "message failed", "message", m.MessageId, "error", err)
				res.BatchItemFailures = append(res.BatchItemFailures, awsevents.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			}
		}
		return res, nil
	}
}

// ServeSchedule calls handle at every tick of a schedule until the platform ends the process.
func ServeSchedule(handle func(context.Context, time.Time) error) { awslambda.Start(Schedule(handle)) }

// Schedule adapts a periodic handler. It is called with the time that was scheduled, which a late start does not move.
func Schedule(handle func(context.Context, time.Time) error) func(context.Context, awsevents.CloudWatchEvent) error {
	return func(ctx context.Context, ev awsevents.CloudWatchEvent) error {
		if ev.Time.IsZero() {
			return errors.New("lambda: schedule event without a time")
		}
		return handle(ctx, ev.Time.UTC())
	}
}
