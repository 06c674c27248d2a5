package sqs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/adapters/sqs"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/queuetest"
	standin "github.com/fleetpass/fleetpass/localdev/standin/sqs"
)

// clock is moved by the test.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().UTC().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// wire is what lies between the SDK and the service. It can fail, and counts what is sent.
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

func reply(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.requests.Add(1)
	switch w.next() {
	case queuetest.Throttle:
		return reply(r, 400, `{"__type":"com.amazonaws.sqs#RequestThrottled","message":"The request was denied due to request throttling."}`), nil
	case queuetest.Fail:
		return reply(r, 500, `{"__type":"com.amazon.coral.service#InternalFailure"}`), nil
	case queuetest.Lose:
		return nil, io.ErrUnexpectedEOF
	case queuetest.Forget:
		if answer, err := http.DefaultTransport.RoundTrip(r); err == nil {
			_ = answer.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	case queuetest.Partly:
		return partly(r)
	case queuetest.Hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// partly has the service take some entries of a batch, and answers that the others failed.
func partly(r *http.Request) (*http.Response, error) {
	var in struct {
		QueueURL string           `json:"QueueUrl"`
		Entries  []map[string]any `json:"Entries"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		return nil, err
	}
	var taken, failed []map[string]any
	for _, e := range in.Entries {
		if queuetest.RefusedBody([]byte(e["MessageBody"].(string))) {
			failed = append(failed, map[string]any{"Id": e["Id"], "Code": "InternalError", "SenderFault": false})
		} else {
			taken = append(taken, e)
		}
	}
	out := map[string]any{}
	if len(taken) > 0 {
		in.Entries = taken
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer func() { _ = answer.Body.Close() }()
		if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
			return nil, err
		}
	}
	out["Failed"] = failed
	body, err = json.Marshal(out)
	return reply(r, 200, string(body)), err
}

// config is as a composition root makes it, but for the pauses.
func config(transport http.RoundTripper) aws.Config {
	return aws.Config{
		Region:      "eu-central-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:  &http.Client{Transport: transport},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 5, time.Millisecond })
		},
	}
}

func rig(t *testing.T) queuetest.Rig {
	c, w := &clock{}, &wire{}
	server := standin.New(standin.Options{Now: c.now})
	if err := server.Create("sync", standin.Attributes{Visibility: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	return queuetest.Rig{
		Queue: sqs.New(sqs.Client(config(w), listening.URL), server.URL(listening.URL, "sync"), sqs.Options{Now: c.now, MaxPause: time.Millisecond}),
		Now:   c.now, Inject: w.inject, Longest: sqs.MaxDelay, Batch: 10,
		Advance: func(d time.Duration) { c.advance(d); server.Wake() },
		Receive: func(ctx context.Context, handle func(context.Context, sync.Message) error) {
			// The function's own adapter reads the event and writes the answer.
			function := lambda.Runtime{}.Queue(func(ctx context.Context, body []byte) error {
				var m sync.Message
				if err := json.Unmarshal(body, &m); err != nil {
					return err
				}
				return handle(ctx, m)
			})
			err := server.Poll(ctx, standin.Mapping{Queue: "sync", Invoke: func(ctx context.Context, event []byte) ([]byte, error) {
				var batch awsevents.SQSEvent
				if err := json.Unmarshal(event, &batch); err != nil {
					return nil, err
				}
				answer, err := function(ctx, batch)
				if err != nil {
					return nil, err
				}
				return json.Marshal(answer)
			}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the event source mapping ended: %v", err)
			}
		},
	}
}

func TestQueue(t *testing.T) { queuetest.Run(t, rig) }

// The request is the one of the service's documentation (Amazon SQS API Reference, SendMessageBatch, and "Making Query API
// requests using AWS JSON protocol"), whatever the stand-in thinks.
func TestWire(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var got []byte
	var header http.Header
	var line string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, line = r.Header.Clone(), r.Method+" "+r.URL.String()
		got, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, `{"Successful":[
			{"Id":"0","MessageId":"m0","MD5OfMessageBody":"5455fb5764a8301da56ed60fa6dd8ef7"},
			{"Id":"1","MessageId":"m1","MD5OfMessageBody":"b045c8599dbf4279e3b10389ec09dcb1"},
			{"Id":"2","MessageId":"m2","MD5OfMessageBody":"5f76572d774a65c8da9f8cca977ae0c7"}]}`)
	}))
	defer server.Close()
	const url = "https://sqs.eu-central-1.amazonaws.com/177715257436/MyQueue"
	cfg := config(http.DefaultTransport)
	cfg.RetryMaxAttempts = 1
	q := sqs.New(sqs.Client(cfg, server.URL), url, sqs.Options{Now: func() time.Time { return now }, MaxPause: time.Millisecond})
	err := q.Send(t.Context(),
		sync.Message{Tenant: "acme", Cluster: "c1", Revision: 7},
		sync.Message{Tenant: "acme", Cluster: "c2", Full: true, NotBefore: now.Add(1500 * time.Millisecond)},
		sync.Message{Tenant: "acme", Cluster: "c3", NotBefore: now.Add(time.Hour)},
	)
	if err != nil {
		t.Errorf("Send: %v", err)
	}
	if line != "POST /" {
		t.Errorf("request line %q", line)
	}
	for name, want := range map[string]string{"X-Amz-Target": "AmazonSQS.SendMessageBatch", "Content-Type": "application/x-amz-json-1.0"} {
		if header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, header.Get(name), want)
		}
	}
	if a := header.Get("Authorization"); !strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(a, "/eu-central-1/sqs/aws4_request") {
		t.Errorf("Authorization: %q", a)
	}
	var have, want any
	golden := `{"QueueUrl":"` + url + `","Entries":[
		{"Id":"0","MessageBody":"{\"tenant\":\"acme\",\"cluster\":\"c1\",\"revision\":7}"},
		{"Id":"1","MessageBody":"{\"tenant\":\"acme\",\"cluster\":\"c2\",\"full\":true,\"notBefore\":\"2026-03-01T12:00:01.5Z\"}","DelaySeconds":2},
		{"Id":"2","MessageBody":"{\"tenant\":\"acme\",\"cluster\":\"c3\",\"notBefore\":\"2026-03-01T13:00:00Z\"}","DelaySeconds":900}]}`
	if err := errors.Join(json.Unmarshal(got, &have), json.Unmarshal([]byte(golden), &want)); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	// A delay of 0 may be said or left out.
	if first, ok := have.(map[string]any)["Entries"].([]any)[0].(map[string]any); ok && first["DelaySeconds"] == 0.0 {
		delete(first, "DelaySeconds")
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
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

// However long the service is in trouble, a Send asks a bounded number of times, and all Sends together ever less.
func TestBudget(t *testing.T) {
	w := &wire{}
	w.inject(queuetest.Fail, -1)
	q := sqs.New(sqs.Client(config(w), "http://127.0.0.1:1"), "http://127.0.0.1:1/0/q", sqs.Options{MaxPause: time.Millisecond})
	m := sync.Message{Tenant: "acme", Cluster: "c"}
	if err := q.Send(t.Context(), m); !errors.Is(err, core.Unavailable) || w.requests.Load() != 5 {
		t.Errorf("%v after %d requests, want 5", err, w.requests.Load())
	}
	for range 50 {
		_ = q.Send(t.Context(), m)
	}
	w.requests.Store(0)
	for range 10 {
		if err := q.Send(t.Context(), m); !errors.Is(err, core.Unavailable) {
			t.Error(err)
		}
	}
	if n := w.requests.Load(); n != 10 {
		t.Errorf("without a budget left, 10 Sends make %d requests", n)
	}
}

// What a batch leaves behind is sent again a bounded number of times, too.
func TestLeftBehind(t *testing.T) {
	w := &wire{}
	w.inject(queuetest.Partly, -1)
	q := sqs.New(sqs.Client(config(w), "http://127.0.0.1:1"), "http://127.0.0.1:1/0/q", sqs.Options{MaxPause: time.Millisecond})
	if err := q.Send(t.Context(), sync.Message{Tenant: "acme", Cluster: "c-refused"}); !errors.Is(err, core.Unavailable) || w.requests.Load() != 5 {
		t.Errorf("%v after %d requests, want 5", err, w.requests.Load())
	}
}

func TestRefusedForGood(t *testing.T) {
	server := standin.New(standin.Options{})
	if err := server.Create("sync", standin.Attributes{}); err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	listening := httptest.NewServer(server)
	defer listening.Close()
	client := sqs.Client(config(w), listening.URL)
	m := sync.Message{Tenant: "acme", Cluster: "c"}
	if err := sqs.New(client, server.URL(listening.URL, "sync"), sqs.Options{}).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.requests.Store(0)
	err := sqs.New(client, server.URL(listening.URL, "other"), sqs.Options{}).Send(t.Context(), m)
	if err == nil || errors.Is(err, core.Unavailable) || !strings.Contains(err.Error(), "NonExistentQueue") || w.requests.Load() != 1 {
		t.Errorf("a queue that is not there: %v after %d requests", err, w.requests.Load())
	}
	// One entry of the batch has a character that no message may have.
	w.requests.Store(0)
	err = sqs.New(client, server.URL(listening.URL, "sync"), sqs.Options{}).Send(t.Context(), m, sync.Message{Tenant: "acme", Cluster: "\ufffe"})
	if err == nil || errors.Is(err, core.Unavailable) || w.requests.Load() != 1 {
		t.Errorf("an entry that is the sender's fault: %v after %d requests", err, w.requests.Load())
	}
	w.requests.Store(0)
	long := sync.Message{Tenant: "acme", Cluster: core.ClusterID(strings.Repeat("x", 16<<10))}
	err = sqs.New(client, server.URL(listening.URL, "sync"), sqs.Options{}).Send(t.Context(), m, long)
	if !errors.Is(err, core.TooLarge) || w.requests.Load() != 0 {
		t.Errorf("a long message: %v after %d requests", err, w.requests.Load())
	}
}
