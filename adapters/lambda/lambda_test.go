package lambda_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/lambda"
)

// A request as a function URL sends it (payload format 2.0): https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html.
const event = `{"version":"2.0","rawPath":"/t/acme/a%2Fb","rawQueryString":"x=1&x=2&y=%20","cookies":["a=1","b=2"],
"headers":{"host":"auth.example.com","content-type":"application/x-www-form-urlencoded","x-multi":"one,two","x-forwarded-for":"6.6.6.6"},
"requestContext":{"domainName":"auth.example.com","http":{"method":"POST","path":"/t/acme/a/b","sourceIp":"192.0.2.7"}},
"body":"aGVsbG8=","isBase64Encoded":true}`

func TestHTTP(t *testing.T) {
	var ev awsevents.APIGatewayV2HTTPRequest
	if err := json.Unmarshal([]byte(event), &ev); err != nil {
		t.Fatal(err)
	}
	h := lambda.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a, _ := r.Cookie("a")
		b, _ := r.Cookie("b")
		got := []string{r.Method, r.URL.EscapedPath(), strings.Join(r.URL.Query()["x"], "+"), r.Host, r.RemoteAddr, string(body), a.Value + b.Value, r.Header.Get("X-Multi")}
		want := []string{"POST", "/t/acme/a%2Fb", "1+2", "auth.example.com", "192.0.2.7:0", "hello", "12", "one,two"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		w.Header().Add("Set-Cookie", "s=1")
		w.Header().Add("Set-Cookie", "t=2")
		w.Header().Add("Vary", "A")
		w.Header().Add("Vary", "B")
		w.WriteHeader(http.StatusSeeOther)
		w.WriteHeader(http.StatusTeapot) // too late
		_, _ = io.WriteString(w, "bye")
	}))
	res, err := h(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	want := awsevents.APIGatewayV2HTTPResponse{StatusCode: 303, Body: "bye", Cookies: []string{"s=1", "t=2"}, Headers: map[string]string{"Vary": "A, B"}}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
}

func TestHTTPBinaryBodyAndBrokenInput(t *testing.T) {
	h := lambda.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0xff, 0}) }))
	res, err := h(t.Context(), awsevents.APIGatewayV2HTTPRequest{})
	if err != nil || !res.IsBase64Encoded || res.Body != base64.StdEncoding.EncodeToString([]byte{0xff, 0}) || res.StatusCode != 200 {
		t.Errorf("%+v %v", res, err)
	}
	for _, ev := range []awsevents.APIGatewayV2HTTPRequest{{Body: "!", IsBase64Encoded: true}, {RawPath: "no slash %zz"}} {
		if res, err := h(t.Context(), ev); err != nil || res.StatusCode != 400 {
			t.Errorf("%+v: %+v %v", ev, res, err)
		}
	}
}

func TestStreamReportsOnlyWhatFailed(t *testing.T) {
	var seen []string
	h := lambda.Stream(func(_ context.Context, body []byte) error {
		seen = append(seen, string(body))
		if string(body) == "bad" {
			return errors.New("boom")
		}
		return nil
	})
	rec := func(seq, name, body string) awsevents.DynamoDBEventRecord {
		return awsevents.DynamoDBEventRecord{EventName: name, Change: awsevents.DynamoDBStreamRecord{SequenceNumber: seq,
			NewImage: map[string]awsevents.DynamoDBAttributeValue{lambda.BodyAttribute: awsevents.NewBinaryAttribute([]byte(body))}}}
	}
	none := rec("5", "INSERT", "")
	none.Change.NewImage = nil
	res, err := h(t.Context(), awsevents.DynamoDBEvent{Records: []awsevents.DynamoDBEventRecord{
		rec("1", "INSERT", "good"), rec("2", "INSERT", "bad"), rec("3", "REMOVE", "gone"), rec("4", "INSERT", "good again"), none}})
	if err != nil {
		t.Fatal(err)
	}
	want := []awsevents.DynamoDBBatchItemFailure{{ItemIdentifier: "2"}, {ItemIdentifier: "5"}}
	if diff := cmp.Diff(want, res.BatchItemFailures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"good", "bad", "good again"}, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}

func TestQueueAndSchedule(t *testing.T) {
	h := lambda.Queue(func(_ context.Context, body []byte) error {
		if string(body) == "bad" {
			return errors.New("boom")
		}
		return nil
	})
	res, err := h(t.Context(), awsevents.SQSEvent{Records: []awsevents.SQSMessage{{MessageId: "a", Body: "ok"}, {MessageId: "b", Body: "bad"}}})
	if err != nil || len(res.BatchItemFailures) != 1 || res.BatchItemFailures[0].ItemIdentifier != "b" {
		t.Errorf("%+v %v", res, err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	var got time.Time
	tick := lambda.Schedule(func(_ context.Context, now time.Time) error { got = now; return nil })
	if err := tick(t.Context(), awsevents.CloudWatchEvent{Time: at}); err != nil || got != at {
		t.Errorf("%v %v", got, err)
	}
	if err := tick(t.Context(), awsevents.CloudWatchEvent{}); err == nil {
		t.Error("a schedule event without a time was taken")
	}
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte(event))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ev awsevents.APIGatewayV2HTTPRequest
		if json.Unmarshal(data, &ev) != nil {
			return
		}
		h := lambda.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL == nil || !strings.HasPrefix(r.URL.Path, "/") && r.URL.Opaque == "" && r.URL.Host == "" {
				t.Errorf("handler got URL %v", r.URL)
			}
		}))
		if _, err := h(context.Background(), ev); err != nil {
			t.Error(err)
		}
	})
}
