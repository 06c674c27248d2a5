package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/adapters/otlp"
	"github.com/fleetpass/fleetpass/core/trace"
)

// rec is a stream record in the form of the sample.
func rec(sequence, name, partition string, image map[string]awsevents.DynamoDBAttributeValue) awsevents.DynamoDBEventRecord {
	return awsevents.DynamoDBEventRecord{EventName: name, Change: awsevents.DynamoDBStreamRecord{SequenceNumber: sequence,
		Keys: map[string]awsevents.DynamoDBAttributeValue{"p": awsevents.NewStringAttribute(partition)}, NewImage: image}}
}

func body(s string) map[string]awsevents.DynamoDBAttributeValue {
	return map[string]awsevents.DynamoDBAttributeValue{"p": awsevents.NewStringAttribute("outbox#acme"), "b": awsevents.NewBinaryAttribute([]byte(s))}
}

func failures(res awsevents.DynamoDBEventResponse) (out []string) {
	for _, f := range res.BatchItemFailures {
		out = append(out, f.ItemIdentifier)
	}
	return out
}

// Only insertions into the outbox are events. What fails is reported, a panic among it, and holds up nothing behind it; what
// no other delivery would mend is told to the log.
func TestStream(t *testing.T) {
	log := logged(t)
	var got []string
	h := lambda.Runtime{}.Stream(func(_ context.Context, body []byte) error {
		got = append(got, string(body))
		switch string(body) {
		case "bad":
			return errors.New("boom")
		case "panic":
			panic("CANARY")
		}
		return nil
	})
	batch := sample[awsevents.DynamoDBEvent](t, "stream")
	noKeys, wrongBody := rec("8", "INSERT", "", body("x")), body("x")
	noKeys.Change.Keys = nil
	wrongBody["b"] = awsevents.NewStringAttribute("x")
	without := body("")
	delete(without, "b")
	batch.Records = append(batch.Records,
		rec("2", "INSERT", "outbox#acme", body("bad")), rec("3", "REMOVE", "outbox#acme", nil), rec("4", "INSERT", "rule#acme", body("a rule")),
		rec("5", "INSERT", "outbox#acme", body("panic")), rec("6", "INSERT", "outbox#acme", without), rec("7", "INSERT", "outbox#acme", nil), noKeys,
		rec("9", "INSERT", "outbox#acme", wrongBody), rec("10", "MODIFY", "outbox#acme", body("changed")), rec("11", "INSERT", "outboxes#acme", body("no")), rec("12", "INSERT", "outbox#beta", body("last")))
	res, err := h(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2", "5", "7", "8", "9"}, failures(res)); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"good", "bad", "panic", "", "last"}, got); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
	for _, want := range []string{`"sequence":"5"`, "NEW_IMAGE", `another table`, "not binary"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if strings.Contains(log.String(), "CANARY") {
		t.Errorf("the log quotes a panic: %s", log)
	}
}

// Only the messages that failed come again, whichever queue they are from.
func TestQueue(t *testing.T) {
	var received []string
	h := lambda.Runtime{}.Queue(func(ctx context.Context, body []byte) error {
		received = append(received, string(body))
		switch string(body) {
		case "bad":
			return errors.New("boom")
		case "panic":
			panic("CANARY")
		}
		return nil
	})
	batch := sample[awsevents.SQSEvent](t, "queue")
	batch.Records = append(batch.Records, awsevents.SQSMessage{MessageId: "c", Body: "panic"}, awsevents.SQSMessage{MessageId: "d", Body: "ok"})
	logged(t)
	res, err := h(t.Context(), batch)
	want := []awsevents.SQSBatchItemFailure{{ItemIdentifier: "2e1424d4-f796-459a-8184-9c92662be6da"}, {ItemIdentifier: "c"}}
	if diff := cmp.Diff(want, res.BatchItemFailures); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if len(received) != 4 {
		t.Errorf("handled %q", received)
	}
}

// A rule's event, Scheduler's own and an input of ours say when the tick was due. Without a time there is no guessing.
func TestSchedule(t *testing.T) {
	logged(t)
	want := time.Date(2019, 3, 1, 1, 23, 45, 0, time.UTC)
	var got time.Time
	h := lambda.Runtime{}.Schedule(func(_ context.Context, now time.Time) error { got = now; return nil })
	var own lambda.Tick
	if err := json.Unmarshal([]byte(`{"time":"2019-03-01T02:23:45+01:00"}`), &own); err != nil {
		t.Fatal(err)
	}
	for name, ev := range map[string]lambda.Tick{"rule": sample[lambda.Tick](t, "rule"), "scheduler": sample[lambda.Tick](t, "scheduler"), "own input": own} {
		got = time.Time{}
		if err := h(t.Context(), ev); err != nil || got != want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	if err := h(t.Context(), lambda.Tick{}); err == nil {
		t.Error("a schedule event without a time was taken")
	}
	failing := lambda.Runtime{}.Schedule(func(context.Context, time.Time) error { panic("x") })
	if err := failing(t.Context(), own); err == nil {
		t.Error("a tick that panicked is taken to be done")
	}
}

// A handler's time ends before Lambda's, what was not begun by then is left to be delivered again, and everything is flushed
// before the sandbox freezes, with a context that is still alive.
func TestDeadlineAndFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"})
		start, flushed := time.Now(), 0
		r := lambda.Runtime{Grace: 5 * time.Second, Flush: func(ctx context.Context) {
			flushed++
			if ctx.Err() != nil {
				t.Error("flushed too late")
			}
		}}
		hang := func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }
		res, err := r.Queue(hang)(ctx, awsevents.SQSEvent{Records: []awsevents.SQSMessage{{MessageId: "a"}, {MessageId: "b"}}})
		if took := time.Since(start); err != nil || len(res.BatchItemFailures) != 2 || took != 55*time.Second || flushed != 1 {
			t.Errorf("%+v %v after %v; %d flushes", res, err, took, flushed)
		}
		again, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := r.Stream(hang)(again, awsevents.DynamoDBEvent{Records: []awsevents.DynamoDBEventRecord{
			rec("1", "INSERT", "outbox#acme", body("x")), rec("2", "INSERT", "outbox#acme", body("y"))}})
		if diff := cmp.Diff([]string{"1", "2"}, failures(stream)); err != nil || diff != "" || flushed != 2 {
			t.Errorf("%v, %d flushes, failures (-want +got):\n%s", err, flushed, diff)
		}
	})
}

// Where the time runs out just as a record was handled, that one is done, and all behind it comes again: it was not tried, and
// an empty list would say that it was handled.
func TestTimeRunsOutAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handled []string
		late := func(ctx context.Context, body []byte) error {
			handled = append(handled, string(body))
			if string(body) == "b" {
				<-ctx.Done() // it is done all the same
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := lambda.Runtime{}.Stream(late)(ctx, awsevents.DynamoDBEvent{Records: []awsevents.DynamoDBEventRecord{
			rec("1", "INSERT", "outbox#acme", body("a")), rec("2", "INSERT", "outbox#acme", body("b")), rec("3", "INSERT", "outbox#acme", body("c")), rec("4", "INSERT", "outbox#acme", body("d"))}})
		if diff := cmp.Diff([]string{"3"}, failures(stream)); err != nil || diff != "" {
			t.Errorf("stream: %v, failures (-want +got):\n%s", err, diff)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		queue, err := lambda.Runtime{}.Queue(late)(ctx, awsevents.SQSEvent{Records: []awsevents.SQSMessage{
			{MessageId: "1", Body: "a"}, {MessageId: "2", Body: "b"}, {MessageId: "3", Body: "c"}, {MessageId: "4", Body: "d"}}})
		if diff := cmp.Diff([]awsevents.SQSBatchItemFailure{{ItemIdentifier: "3"}, {ItemIdentifier: "4"}}, queue.BatchItemFailures); err != nil || diff != "" {
			t.Errorf("queue: %v, failures (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff([]string{"a", "b", "a", "b"}, handled); diff != "" {
			t.Errorf("handled (-want +got):\n%s", diff)
		}
	})
}

// A handler that uses all of its time leaves enough for a flush that takes all of its own, and the flush ends before Lambda
// would kill the invocation, however late it began.
func TestFlushFitsTheInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{30 * time.Second, 3 * time.Second} {
			deadline := time.Now().Add(limit)
			ctx, cancel := context.WithDeadline(t.Context(), deadline)
			var began, ends time.Time
			r := lambda.Runtime{Flush: func(ctx context.Context) { began = time.Now(); ends, _ = ctx.Deadline() }}
			if _, err := r.Queue(func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() })(ctx, awsevents.SQSEvent{Records: []awsevents.SQSMessage{{MessageId: "a"}}}); err != nil {
				t.Error(err)
			}
			cancel()
			if left := deadline.Sub(ends); left != 200*time.Millisecond {
				t.Errorf("of %v, %v are left behind the flush", limit, left)
			}
			if room := ends.Sub(began); room < min(otlp.FlushTime, limit/2-200*time.Millisecond) {
				t.Errorf("of %v, the flush has %v", limit, room)
			}
		}
	})
}

// Every line has the invocation's id, and those of an item the item's.
func TestLogNamesTheInvocation(t *testing.T) {
	log := logged(t)
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"})
	h := lambda.Runtime{}.Queue(func(ctx context.Context, _ []byte) error {
		slog.New(trace.Handler(slog.Default().Handler())).InfoContext(ctx, "at work")
		return nil
	})
	if _, err := h(ctx, sample[awsevents.SQSEvent](t, "queue")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, `"invocation":"c6af9ac6-7b61-11e6-9a41-93e8deadbeef"`) || !strings.Contains(line, `"message":"`) || !strings.Contains(line, `"received":"`) {
			t.Errorf("line %s", line)
		}
	}
}

func FuzzStream(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "stream.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"Records":[{"eventName":"INSERT","dynamodb":{"Keys":{"p":{"S":"outbox#a"}},"NewImage":{"b":{"S":"x"}}}}]}`))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, data []byte) {
		var batch awsevents.DynamoDBEvent
		if json.Unmarshal(data, &batch) != nil {
			return
		}
		n := 0
		res, err := lambda.Runtime{}.Stream(func(context.Context, []byte) error { n++; return nil })(context.Background(), batch)
		if err != nil || n+len(res.BatchItemFailures) > len(batch.Records) {
			t.Errorf("%d handled, %d failed of %d (%v)", n, len(res.BatchItemFailures), len(batch.Records), err)
		}
	})
}
