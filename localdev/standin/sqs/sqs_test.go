package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is moved by the test.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func create(t *testing.T, s *Server, name string, a Attributes) {
	t.Helper()
	if err := s.Create(name, a); err != nil {
		t.Fatal(err)
	}
}

// call makes one request, spelt as in the service's documentation (Amazon SQS API Reference), and returns the answer.
func call(t *testing.T, s *Server, operation, body string) (status int, header http.Header, out map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://sqs.us-east-1.amazonaws.com/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v: %q", operation, err, w.Body)
	}
	return w.Code, w.Header(), out
}

func ok(t *testing.T, s *Server, operation, body string) map[string]any {
	t.Helper()
	status, header, out := call(t, s, operation, body)
	if status != 200 || header.Get("Content-Type") != "application/x-amz-json-1.0" {
		t.Fatalf("%s %s: %d %v %v", operation, body, status, header, out)
	}
	return out
}

const url = `"QueueUrl":"https://sqs.us-east-1.amazonaws.com/177715257436/MyQueue/"`

func TestLifeOfAMessage(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now, Account: "177715257436", Region: "us-east-1"})
	create(t, s, "MyQueue", Attributes{})
	sent := ok(t, s, "SendMessage", `{`+url+`,"MessageBody":"This is a test message"}`)
	if sent["MD5OfMessageBody"] != "fafb00f5732ab283681e124bf8747ed1" || sent["MessageId"] == "" { // the digest is the documentation's
		t.Errorf("SendMessage: %v", sent)
	}
	c.advance(time.Second)
	receive := func() []any {
		t.Helper()
		all, _ := ok(t, s, "ReceiveMessage", `{`+url+`,"MaxNumberOfMessages":10,"VisibilityTimeout":15,"AttributeNames":["All"]}`)["Messages"].([]any)
		return all
	}
	got := receive()
	if len(got) != 1 {
		t.Fatalf("received %v", got)
	}
	m := got[0].(map[string]any)
	receipt := m["ReceiptHandle"].(string)
	want := map[string]any{
		"MessageId": sent["MessageId"], "ReceiptHandle": receipt, "Body": "This is a test message", "MD5OfBody": "fafb00f5732ab283681e124bf8747ed1",
		"Attributes": map[string]any{
			"SenderId": "177715257436", "ApproximateReceiveCount": "1", "SentTimestamp": "1772366400000", "ApproximateFirstReceiveTimestamp": "1772366401000",
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("ReceiveMessage (-want +got):\n%s", diff)
	}
	if again := receive(); again != nil {
		t.Errorf("within its visibility timeout it came again: %v", again)
	}
	ok(t, s, "ChangeMessageVisibility", `{`+url+`,"ReceiptHandle":"`+receipt+`","VisibilityTimeout":60}`)
	c.advance(59 * time.Second)
	if again := receive(); again != nil {
		t.Errorf("within its changed visibility timeout it came again: %v", again)
	}
	c.advance(time.Second)
	got = receive()
	if len(got) != 1 || got[0].(map[string]any)["Attributes"].(map[string]any)["ApproximateReceiveCount"] != "2" {
		t.Fatalf("after it: %v", got)
	}
	ok(t, s, "DeleteMessage", `{`+url+`,"ReceiptHandle":"`+receipt+`"}`) // an old one, which deletes nothing
	if n := len(s.Bodies("MyQueue")); n != 1 {
		t.Errorf("%d messages", n)
	}
	receipt = got[0].(map[string]any)["ReceiptHandle"].(string)
	out := ok(t, s, "DeleteMessageBatch", `{`+url+`,"Entries":[{"Id":"a","ReceiptHandle":"`+receipt+`"},{"Id":"b","ReceiptHandle":""}]}`)
	if diff := cmp.Diff([]any{map[string]any{"Id": "a"}}, out["Successful"]); diff != "" || len(out["Failed"].([]any)) != 1 {
		t.Errorf("DeleteMessageBatch: %v", out)
	}
	if n := len(s.Bodies("MyQueue")); n != 0 {
		t.Errorf("%d messages after the deletion", n)
	}
}

func TestDelay(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	create(t, s, "MyQueue", Attributes{Delay: 5 * time.Second})
	out := ok(t, s, "SendMessageBatch", `{`+url+`,"Entries":[
		{"Id":"test_msg_no_message_timer","MessageBody":"five"},
		{"Id":"test_msg_delay_45_seconds","MessageBody":"forty-five","DelaySeconds":45},
		{"Id":"at_once","MessageBody":"zero","DelaySeconds":0},
		{"Id":"too_late","MessageBody":"never","DelaySeconds":901}]}`)
	if len(out["Successful"].([]any)) != 3 {
		t.Errorf("%v", out)
	}
	failed := out["Failed"].([]any)[0].(map[string]any)
	if failed["Id"] != "too_late" || failed["Code"] != "InvalidParameterValue" || failed["SenderFault"] != true {
		t.Errorf("%v", failed)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "zero"}, {4 * time.Second, ""}, {time.Second, "five"}, {39 * time.Second, ""}, {time.Second, "forty-five"}} {
		c.advance(step.after)
		var bodies []string
		all, _ := ok(t, s, "ReceiveMessage", `{`+url+`,"MaxNumberOfMessages":10,"VisibilityTimeout":3600}`)["Messages"].([]any)
		for _, m := range all {
			bodies = append(bodies, m.(map[string]any)["Body"].(string))
		}
		if got := strings.Join(bodies, ","); got != step.want {
			t.Errorf("at %s: %q, want %q", c.now(), got, step.want)
		}
	}
	attributes := ok(t, s, "GetQueueAttributes", `{`+url+`,"AttributeNames":["All"]}`)["Attributes"].(map[string]any)
	if attributes["ApproximateNumberOfMessagesNotVisible"] != "3" || attributes["DelaySeconds"] != "5" || attributes["QueueArn"] != "arn:aws:sqs:eu-central-1:000000000000:MyQueue" {
		t.Errorf("%v", attributes)
	}
}

// The errors and limits are those that the documentation lists for each operation.
func TestErrors(t *testing.T) {
	s := New(Options{})
	create(t, s, "MyQueue", Attributes{})
	entries := func(n int, same bool) string {
		var all []string
		for i := range n {
			if same {
				i = 0
			}
			all = append(all, fmt.Sprintf(`{"Id":"%d","MessageBody":"m"}`, i))
		}
		return `{` + url + `,"Entries":[` + strings.Join(all, ",") + `]}`
	}
	ok(t, s, "SendMessageBatch", entries(10, false)) // the twin
	for _, tt := range []struct{ operation, body, want, query string }{
		{"SendMessage", `{"QueueUrl":"http://h/1/other","MessageBody":"m"}`, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue;Sender"},
		{"SendMessage", `{` + url + `}`, "MissingParameter", ""},
		{"SendMessage", `{` + url + `,"MessageBody":"\u0001"}`, "InvalidMessageContents", ""},
		{"SendMessage", `{` + url + `,"MessageBody":"m","DelaySeconds":901}`, "InvalidParameterValue", "InvalidParameterValue;Sender"},
		{"SendMessage", `{` + url + `,"MessageBody":"m","DelaySeconds":-1}`, "InvalidParameterValue", ""},
		{"SendMessage", `{` + url + `,"MessageBody":"m","MessageGroupId":"g"}`, "SerializationException", ""}, // not modelled, so refused
		{"SendMessage", `{`, "SerializationException", ""},
		{"SendMessageBatch", entries(0, false), "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest;Sender"},
		{"SendMessageBatch", entries(11, false), "TooManyEntriesInBatchRequest", ""},
		{"SendMessageBatch", entries(2, true), "BatchEntryIdsNotDistinct", ""},
		{"SendMessageBatch", `{` + url + `,"Entries":[{"Id":"a b","MessageBody":"m"}]}`, "InvalidBatchEntryId", ""},
		{"SendMessageBatch", `{"QueueUrl":"http://h/1/other","Entries":[{"Id":"a","MessageBody":"m"}]}`, "QueueDoesNotExist", ""},
		{"SendMessageBatch", `{` + url + `,"Entries":[{"Id":"a","MessageBody":"` + strings.Repeat("x", 1<<20) + `"},{"Id":"b","MessageBody":"m"}]}`, "BatchRequestTooLong", ""},
		{"ReceiveMessage", `{` + url + `,"MaxNumberOfMessages":11}`, "InvalidParameterValue", ""},
		{"DeleteMessage", `{` + url + `}`, "ReceiptHandleIsInvalid", ""},
		{"ChangeMessageVisibility", `{` + url + `,"ReceiptHandle":"r","VisibilityTimeout":43201}`, "InvalidParameterValue", ""},
		{"ChangeMessageVisibility", `{` + url + `,"ReceiptHandle":"r","VisibilityTimeout":1}`, "ReceiptHandleIsInvalid", ""},
		{"GetQueueUrl", `{"QueueName":"other"}`, "QueueDoesNotExist", ""},
		{"PurgeQueue", `{}`, "UnsupportedOperation", ""},
	} {
		status, header, out := call(t, s, tt.operation, tt.body)
		if status != 400 || out["__type"] != "com.amazonaws.sqs#"+tt.want || tt.query != "" && header.Get("x-amzn-query-error") != tt.query {
			t.Errorf("%s %.80s: %d %v %v, want %s %s", tt.operation, tt.body, status, out, header, tt.want, tt.query)
		}
	}
	if n := len(s.Bodies("MyQueue")); n != 10 {
		t.Errorf("%d messages, want those of the one good batch", n)
	}
}

// poll runs an event source mapping until stop is called.
func poll(t *testing.T, s *Server, m Mapping) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Poll(ctx, m) }()
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Poll ended: %v", err)
		}
	}
}

// What a function answers decides what is deleted (AWS Lambda Developer Guide, "Reporting batch item failures").
func TestPoll(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(ids []string) (string, error)
		left   []string
	}{
		"nothing":       {func([]string) (string, error) { return "", nil }, nil},
		"null":          {func([]string) (string, error) { return "null", nil }, nil},
		"no failures":   {func([]string) (string, error) { return `{"batchItemFailures":[]}`, nil }, nil},
		"null failures": {func([]string) (string, error) { return `{"batchItemFailures":null}`, nil }, nil},
		"one": {func(ids []string) (string, error) {
			return `{"batchItemFailures":[{"itemIdentifier":"` + ids[1] + `"}]}`, nil
		}, []string{"b"}},
		"all":              {func([]string) (string, error) { return "", errors.New("the function fails") }, []string{"a", "b", "c"}},
		"not JSON":         {func([]string) (string, error) { return "oops", nil }, []string{"a", "b", "c"}},
		"an empty id":      {func([]string) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":""}]}`, nil }, []string{"a", "b", "c"}},
		"another key name": {func(ids []string) (string, error) { return `{"batchItemFailures":[{"id":"` + ids[0] + `"}]}`, nil }, []string{"a", "b", "c"}},
		"an unknown id":    {func([]string) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":"x"}]}`, nil }, []string{"a", "b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			s := New(Options{Now: c.now})
			create(t, s, "MyQueue", Attributes{Visibility: time.Minute})
			ok(t, s, "SendMessageBatch", `{`+url+`,"Entries":[{"Id":"0","MessageBody":"a"},{"Id":"1","MessageBody":"b"},{"Id":"2","MessageBody":"c"}]}`)
			called := make(chan []byte, 9)
			stop := poll(t, s, Mapping{Queue: "MyQueue", Invoke: func(_ context.Context, event []byte) ([]byte, error) {
				var in struct{ Records []record }
				if err := json.Unmarshal(event, &in); err != nil {
					return nil, err
				}
				var ids []string
				for _, r := range in.Records {
					ids = append(ids, r.MessageID)
				}
				answer, err := tt.answer(ids)
				called <- event
				return []byte(answer), err
			}})
			event := <-called
			stop()
			if left := s.Bodies("MyQueue"); !slices.Equal(left, tt.left) {
				t.Errorf("left: %v, want %v", left, tt.left)
			}
			// The event has the members of the documentation's example.
			var in struct{ Records []map[string]any }
			if err := json.Unmarshal(event, &in); err != nil || len(in.Records) != 3 {
				t.Fatalf("%v: %s", err, event)
			}
			r := in.Records[0]
			for k, want := range map[string]any{
				"body": "a", "md5OfBody": "0cc175b9c0f1b6a831c399e269772661", "eventSource": "aws:sqs", "awsRegion": "eu-central-1",
				"eventSourceARN": "arn:aws:sqs:eu-central-1:000000000000:MyQueue", "messageAttributes": map[string]any{},
			} {
				if diff := cmp.Diff(want, r[k]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", k, diff)
				}
			}
			if r["messageId"] == "" || r["receiptHandle"] == "" || r["attributes"].(map[string]any)["ApproximateReceiveCount"] != "1" {
				t.Errorf("%v", r)
			}
		})
	}
	if err := New(Options{}).Poll(t.Context(), Mapping{Queue: "none"}); err == nil || !strings.Contains(err.Error(), "QueueDoesNotExist") {
		t.Errorf("a queue that is not there: %v", err)
	}
}

// What fails comes again after its visibility timeout, and goes to the dead letters when it was received often enough.
func TestRedrive(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	if err := s.Create("MyQueue", Attributes{DeadLetter: "dead", MaxReceive: 3}); err == nil {
		t.Error("created with a dead-letter queue that is not there")
	}
	create(t, s, "dead", Attributes{})
	create(t, s, "MyQueue", Attributes{Visibility: time.Minute, DeadLetter: "dead", MaxReceive: 3})
	ok(t, s, "SendMessage", `{`+url+`,"MessageBody":"bad"}`)
	called := make(chan struct{})
	stop := poll(t, s, Mapping{Queue: "MyQueue", Concurrency: 1, Invoke: func(context.Context, []byte) ([]byte, error) {
		called <- struct{}{}
		return nil, errors.New("it fails")
	}})
	for range 3 {
		<-called
		if n := len(s.Bodies("dead")); n != 0 {
			t.Fatal("dead too soon")
		}
		c.advance(time.Minute)
		s.Wake()
	}
	deadline := time.After(30 * time.Second)
	for len(s.Bodies("dead")) == 0 {
		select {
		case <-called:
			t.Fatal("received more often than it may be")
		case <-deadline:
			t.Fatal("never dead")
		case <-time.After(time.Millisecond):
			s.Wake()
		}
	}
	stop()
	if got := s.Bodies("dead"); !slices.Equal(got, []string{"bad"}) || len(s.Bodies("MyQueue")) != 0 {
		t.Errorf("dead %v, alive %v", got, s.Bodies("MyQueue"))
	}
}

// Whatever comes in, there is an answer in JSON, and nothing but an error for what is no request.
func FuzzServeHTTP(f *testing.F) {
	f.Add("SendMessage", `{"QueueUrl":"q","MessageBody":"m"}`)
	f.Add("SendMessageBatch", `{"QueueUrl":"q","Entries":[{"Id":"0","MessageBody":"m","DelaySeconds":900}]}`)
	f.Add("ReceiveMessage", `{"QueueUrl":"q","MaxNumberOfMessages":10}`)
	f.Add("ChangeMessageVisibility", `{"QueueUrl":"q","ReceiptHandle":"r","VisibilityTimeout":0}`)
	f.Add("DeleteMessageBatch", `{"QueueUrl":"q","Entries":[null]}`)
	f.Fuzz(func(t *testing.T, operation, body string) {
		if strings.Contains(body, "WaitTimeSeconds") {
			t.Skip("it would wait")
		}
		s := New(Options{})
		create(t, s, "q", Attributes{})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header["X-Amz-Target"] = []string{"AmazonSQS." + operation}
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}
