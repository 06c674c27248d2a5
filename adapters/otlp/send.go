package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	maxAnswer  = 64 << 10 // bytes of an answer that are read
	firstPause = 200 * time.Millisecond
	maxPause   = 5 * time.Second  // also of what the collector asks for
	complain   = time.Minute      // one line in the log about what is lost, at most so often
	holdOff    = 10 * time.Second // for which a collector that did not answer is left alone
)

// sender posts requests to one collector.
type sender struct {
	base    string
	headers http.Header
	timeout time.Duration // of a request with all its retries
	client  *http.Client
	log     *slog.Logger
	now     func() time.Time
	pause   func(context.Context, time.Duration) error

	mu   sync.Mutex
	away time.Time // until then the collector is taken to be away, and is not asked
	last time.Time // when the log was last told that something was lost
	lost int       // since then
}

// send posts one request, and tries again what the collector says may be tried again
// (https://opentelemetry.io/docs/specs/otlp/#failures-1), until the time is up. What cannot be delivered is dropped: whoever
// makes spans never waits for a collector. It logs that, and returns nothing that the SDK would print as well.
func (s *sender) send(ctx context.Context, path string, items int, request any) {
	if !s.back() {
		s.complain(ctx, path, items, errAway)
		return
	}
	if err := s.post(ctx, path, request); err != nil {
		s.complain(ctx, path, items, err)
	}
}

var errAway = errors.New("otlp: the collector did not answer a moment ago")

// back says whether to ask the collector at all. One that hangs would else cost every call of a platform that freezes the
// process, which waits for each Flush, all of FlushTime.
func (s *sender) back() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.now().Before(s.away)
}

func (s *sender) gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = s.now().Add(holdOff)
}

func (s *sender) post(ctx context.Context, path string, request any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("otlp: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		wait, err := s.once(ctx, path, body)
		if err == nil || wait < 0 {
			return err
		}
		if wait == 0 {
			wait = pause/2 + rand.N(pause) // so that many processes do not come back together
		}
		if deadline, ok := ctx.Deadline(); ok && s.now().Add(wait).After(deadline) || s.pause(ctx, wait) != nil {
			s.gone()
			return err // the time is up before it could be tried again
		}
	}
}

// once posts the body. A wait says that it may be tried again: after that time, or 0, which leaves it to us; below 0 it may
// not. An error never quotes the collector's address or headers, which may hold a secret.
func (s *sender) once(ctx context.Context, path string, body []byte) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return -1, errors.New("otlp: the request cannot be made")
	}
	req.Header = s.headers.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "fleetpass-otlp")
	resp, err := s.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return 0, fmt.Errorf("otlp: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch status := resp.StatusCode; status {
	case http.StatusOK:
		if err != nil {
			return -1, nil // it was taken; whether all of it, nobody knows
		}
		return -1, partial(answer)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return s.retryAfter(resp.Header.Get("Retry-After")), fmt.Errorf("otlp: the collector answers %d", status)
	default: // what the collector says of it may quote what it was sent
		return -1, fmt.Errorf("otlp: the collector answers %d", status)
	}
}

// retryAfter reads the header, in seconds or a date (RFC 9110 §10.2.3); 0 if it says nothing. Longer than maxPause is not
// waited.
func (s *sender) retryAfter(v string) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(max(n, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(s.now())
	}
	return min(max(d, 0), maxPause)
}

// partial is an error if the collector took only some of what it was sent. That must not be tried again.
func partial(answer []byte) error {
	var said struct {
		Partial struct {
			Spans  json.Number `json:"rejectedSpans"`
			Points json.Number `json:"rejectedDataPoints"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &said) != nil {
		return nil // 200 is 200, whatever it says
	}
	for _, n := range []json.Number{said.Partial.Spans, said.Partial.Points} {
		if n != "" && n != "0" {
			return fmt.Errorf("otlp: the collector rejected %s of them", n)
		}
	}
	return nil
}

// complain says in the log that something was lost, now and then.
func (s *sender) complain(ctx context.Context, path string, items int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += items
	if now := s.now(); s.last.IsZero() || now.Sub(s.last) >= complain {
		s.log.WarnContext(ctx, "telemetry was lost", "signal", path, "lost", s.lost, "error", err)
		s.last, s.lost = now, 0
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
