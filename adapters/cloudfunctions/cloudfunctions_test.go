package cloudfunctions

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// The client's address is what the outermost trusted hop saw, and never what the client says.
func TestTrustedAddress(t *testing.T) {
	const peer = "10.0.0.1:5"
	for name, tt := range map[string]struct {
		forwarded []string
		hops      int
		want      string
	}{
		"none":                          {nil, 1, peer},
		"one":                           {[]string{"192.0.2.7"}, 1, "192.0.2.7:0"},
		"spoofed first":                 {[]string{"6.6.6.6, 192.0.2.7"}, 1, "192.0.2.7:0"},
		"spoofed header":                {[]string{"6.6.6.6", "192.0.2.7"}, 1, "192.0.2.7:0"},
		"six":                           {[]string{"2001:db8::7"}, 1, "[2001:db8::7]:0"},
		"not an address":                {[]string{"evil"}, 1, peer},
		"smuggled newlines":             {[]string{"192.0.2.7\r\nX: y"}, 1, peer},
		"a load balancer":               {[]string{"192.0.2.7, 35.191.0.1"}, 2, "192.0.2.7:0"},
		"a load balancer, not told":     {[]string{"192.0.2.7, 35.191.0.1"}, 1, "35.191.0.1:0"},
		"a load balancer, spoofed":      {[]string{"6.6.6.6, 192.0.2.7, 35.191.0.1"}, 2, "192.0.2.7:0"},
		"a load balancer, two headers":  {[]string{"6.6.6.6,192.0.2.7", "35.191.0.1"}, 2, "192.0.2.7:0"},
		"round the load balancer":       {[]string{"192.0.2.7"}, 2, peer},
		"round it, with nothing at all": {nil, 2, peer},
		"round it, with commas":         {[]string{","}, 2, peer},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		for _, f := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := trusted(r, tt.hops).RemoteAddr; got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestTrustedHops(t *testing.T) {
	for s, want := range map[string]int{"": 1, "1": 1, "2": 2, "8": 8} {
		if n, err := TrustedHops(s); n != want || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"0", "-1", "9", "two", "1.5", " 1"} {
		var field *core.FieldError
		if n, err := TrustedHops(s); !errors.As(err, &field) || field.Field != "FLEETPASS_TRUSTED_HOPS" {
			t.Errorf("%q: %d, %v, want the variable named", s, n, err)
		}
	}
}

func TestQueue(t *testing.T) {
	h := queue(func(_ context.Context, body []byte) error {
		if string(body) != "ok" {
			return errors.New("secret detail")
		}
		return nil
	})
	for _, tt := range []struct {
		method, body string
		want         int
	}{{"POST", "ok", 204}, {"POST", "no", 500}, {"GET", "ok", 405}, {"POST", strings.Repeat("x", maxMessage+1), 500}} {
		w := httptest.NewRecorder()
		h(w, httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body)))
		if w.Code != tt.want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s %.10s: %d %s, want %d", tt.method, tt.body, w.Code, w.Body, tt.want)
		}
	}
}

func TestSchedule(t *testing.T) {
	var got time.Time
	h := schedule(func(_ context.Context, at time.Time) error { got = at; return nil })
	r := httptest.NewRequest("POST", "/", nil)
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
