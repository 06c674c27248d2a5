package cloudfunctions

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/fleetpass/fleetpass/adapters/otlp"
	"github.com/fleetpass/fleetpass/core/trace"
)

// logged makes the default log the test's.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

// protobuf stands for the data of an event: bytes that are no text.
var protobuf = []byte{0x0a, 0x05, 0xff, 0x00, 'e', 'v', 't'}

// binaryMode is a request of Eventarc in CloudEvents' binary mode, as
// https://cloud.google.com/eventarc/docs/cloudevents-http-protocol and https://cloud.google.com/firestore/docs/extend-with-functions-2nd-gen
// show it.
func binaryMode(edit ...func(http.Header)) *http.Request {
	r := httptest.NewRequest("POST", "/", bytes.NewReader(protobuf))
	for name, value := range map[string]string{
		"ce-id": "4d9a6b0f-3d64-4e41-9b2d-6f4e4a3d6c0a", "ce-specversion": "1.0", "ce-type": "google.cloud.firestore.document.v1.created",
		"ce-source":  "//firestore.googleapis.com/projects/fleet/databases/(default)",
		"ce-subject": "documents/outbox/acme/items/=20260102030405", "ce-time": "2026-01-02T03:04:05.678901Z",
		"ce-document": "outbox/acme/items/=20260102030405", "ce-project": "fleet", "ce-database": "(default)", "ce-location": "eur3", "ce-namespace": "(default)",
		"ce-dataschema": "https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/firestore/v1/data.proto",
		"Content-Type":  "application/protobuf",
	} {
		r.Header.Set(name, value)
	}
	for _, e := range edit {
		e(r.Header)
	}
	return r
}

// structuredMode is the same event as one JSON document.
func structuredMode() *http.Request {
	doc := `{"specversion":"1.0","id":"4d9a6b0f","type":"google.cloud.firestore.document.v1.created","source":"//firestore.googleapis.com/projects/fleet/databases/(default)",
"subject":"documents/outbox/acme/items/=20260102030405","time":"2026-01-02T03:04:05Z","datacontenttype":"application/protobuf","document":"outbox/acme/items/=20260102030405","data_base64":"` +
		base64.StdEncoding.EncodeToString(protobuf) + `"}`
	r := httptest.NewRequest("POST", "/", strings.NewReader(doc))
	r.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	return r
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}

// A document of the outbox that was created reaches the handler, decoded by the store's own decoder, in both of CloudEvents'
// modes. What is another change is passed over; what cannot be decoded is logged and is the handler's to park, as it came; what
// fails comes again.
func TestStream(t *testing.T) {
	for name, tt := range map[string]struct {
		r       *http.Request
		handle  error
		handled string
		err     bool
	}{
		"binary mode":        {binaryMode(), nil, "evt", false},
		"structured mode":    {structuredMode(), nil, "evt", false},
		"failed":             {binaryMode(), errors.New("boom"), "evt", true},
		"deleted":            {binaryMode(set("ce-type", "google.cloud.firestore.document.v1.deleted")), nil, "", false},
		"another collection": {binaryMode(set("ce-subject", "documents/rule/acme/items/=7")), nil, "", false},
		"a look-alike":       {binaryMode(set("ce-subject", "documents/outboxes/acme/items/=7")), nil, "", false},
		"JSON that is none":  {binaryMode(set("Content-Type", "application/json")), nil, string(protobuf), false},
	} {
		log := logged(t)
		var got []byte
		h := Runtime{}.stream(func(contentType string, data []byte) ([]byte, error) {
			if contentType != "application/protobuf" || !bytes.Equal(data, protobuf) {
				return nil, errors.New("not what the store knows")
			}
			return data[4:], nil
		}, func(_ context.Context, body []byte) error { got = body; return tt.handle })
		ev, err := cehttp.NewEventFromHTTPRequest(tt.r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := h(t.Context(), *ev); (err != nil) != tt.err || tt.handled != string(got) {
			t.Errorf("%s: %v, handled %q", name, err, got)
		}
		if undecoded := tt.handled == string(protobuf); undecoded != strings.Contains(log.String(), `"event":"4d9a6b0f`) {
			t.Errorf("%s: log %s", name, log)
		}
	}
}

func TestPanics(t *testing.T) {
	log := logged(t)
	ev, err := cehttp.NewEventFromHTTPRequest(binaryMode())
	if err != nil {
		t.Fatal(err)
	}
	same := func(_ string, data []byte) ([]byte, error) { return data, nil }
	if err := (Runtime{}.stream(same, func(context.Context, []byte) error { panic("CANARY") })(t.Context(), *ev)); err == nil {
		t.Error("an event that panicked is taken to be handled")
	}
	w := httptest.NewRecorder()
	Runtime{}.queue(func(context.Context, []byte) error { panic("CANARY") })(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != 500 || strings.Contains(log.String()+w.Body.String(), "CANARY") {
		t.Errorf("%d %s; log %s", w.Code, w.Body, log)
	}
}

// A Cloud Tasks request is a message; only a 2xx takes it from the queue. The headers are those of
// https://cloud.google.com/tasks/docs/creating-http-target-tasks#handler.
func TestQueue(t *testing.T) {
	log := logged(t)
	h := Runtime{}.queue(func(ctx context.Context, body []byte) error {
		slog.New(trace.Handler(slog.Default().Handler())).InfoContext(ctx, "at work")
		if string(body) != "ok" {
			return errors.New("secret detail")
		}
		return nil
	})
	for _, tt := range []struct {
		method, body string
		want         int
	}{{"POST", "ok", 204}, {"POST", "no", 500}, {"GET", "ok", 405}, {"POST", strings.Repeat("x", maxMessage+1), 500}} {
		log.Reset()
		w, r := httptest.NewRecorder(), httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
		r.Header.Set("X-CloudTasks-QueueName", "sync")
		r.Header.Set("X-CloudTasks-TaskName", "3856228194530711651")
		r.Header.Set("X-CloudTasks-TaskRetryCount", "2")
		h(w, r)
		if w.Code != tt.want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s %.10s: %d %s, want %d", tt.method, tt.body, w.Code, w.Body, tt.want)
		}
		for line := range strings.Lines(log.String()) {
			if !strings.Contains(line, `"task":"3856228194530711651"`) || !strings.Contains(line, `"retries":"2"`) {
				t.Errorf("%s %.10s: line %s", tt.method, tt.body, line)
			}
		}
	}
}

// Cloud Scheduler's request says when the tick was due: https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs#HttpTarget.
func TestSchedule(t *testing.T) {
	logged(t)
	var got time.Time
	h := Runtime{}.schedule(func(_ context.Context, at time.Time) error { got = at; return nil })
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("User-Agent", "Google-Cloud-Scheduler")
	r.Header.Set("X-CloudScheduler", "true")
	r.Header.Set("X-CloudScheduler-JobName", "maintain")
	w := httptest.NewRecorder()
	if h(w, r); w.Code != 400 {
		t.Errorf("without a time: %d", w.Code)
	}
	r.Header.Set("X-CloudScheduler-ScheduleTime", "2026-01-02T03:04:00+01:00")
	w = httptest.NewRecorder()
	if h(w, r); w.Code != 204 || !got.Equal(time.Date(2026, 1, 2, 2, 4, 0, 0, time.UTC)) || got.Location() != time.UTC {
		t.Errorf("%d %v", w.Code, got)
	}
}

// Every kind of call ends before the platform's own time, and is flushed at its end with a context that is still alive.
func TestDeadlineAndFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flushed := 0
		r := Runtime{Timeout: time.Minute, Grace: 5 * time.Second, Flush: func(ctx context.Context) {
			if flushed++; ctx.Err() != nil {
				t.Error("flushed too late")
			}
		}}
		start := time.Now()
		hang := func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }
		r.http(1, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { _ = hang(req.Context(), nil) }))(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		r.queue(hang)(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
		tick := httptest.NewRequest("POST", "/", nil)
		tick.Header.Set("X-CloudScheduler-ScheduleTime", "2026-01-02T03:04:00Z")
		r.schedule(func(ctx context.Context, _ time.Time) error { return hang(ctx, nil) })(httptest.NewRecorder(), tick)
		ev, err := cehttp.NewEventFromHTTPRequest(structuredMode())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.stream(func(string, []byte) ([]byte, error) { return nil, nil }, hang)(t.Context(), *ev); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(start); took != 4*55*time.Second || flushed != 4 {
			t.Errorf("four calls took %v and were flushed %d times", took, flushed)
		}
	})
}

// A handler that uses all of its time leaves enough for a flush that takes all of its own, which ends before the platform does.
func TestFlushFitsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{30 * time.Second, 3 * time.Second} {
			deadline := time.Now().Add(limit)
			var began, ends time.Time
			r := Runtime{Timeout: limit, Flush: func(ctx context.Context) { began = time.Now(); ends, _ = ctx.Deadline() }}
			r.queue(func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() })(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
			if left := deadline.Sub(ends); left != 200*time.Millisecond {
				t.Errorf("of %v, %v are left behind the flush", limit, left)
			}
			if room := ends.Sub(began); room < min(otlp.FlushTime, limit/2-200*time.Millisecond) {
				t.Errorf("of %v, the flush has %v", limit, room)
			}
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add("application/protobuf", "documents/outbox/acme/items/=1", protobuf)
	f.Add("application/cloudevents+json", "", []byte(`{"specversion":"1.0"}`))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, contentType, subject string, data []byte) {
		r := binaryMode()
		r.Header["Content-Type"], r.Header["Ce-Subject"] = []string{contentType}, []string{subject}
		r.Body = io.NopCloser(bytes.NewReader(data))
		ev, err := cehttp.NewEventFromHTTPRequest(r)
		if err != nil || ev.Validate() != nil {
			return
		}
		handled := false
		h := Runtime{}.stream(func(_ string, data []byte) ([]byte, error) { return data, nil }, func(context.Context, []byte) error { handled = true; return nil })
		if err := h(context.Background(), *ev); err != nil || handled && !strings.HasPrefix(ev.Subject(), outboxSubject) {
			t.Errorf("%q: %v, handled %v", ev.Subject(), err, handled)
		}
	})
}
