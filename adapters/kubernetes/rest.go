package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// An apiError is an answer that is not a success. It wraps the kind that core/sync acts upon.
type apiError struct {
	Status     int
	Reason     string
	Message    string
	RetryAfter time.Duration // as the API server asks; at most a minute
	kind       core.Kind
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("%s (HTTP %d", e.kind, e.Status)
	if e.Reason != "" {
		s += ", " + string(e.Reason)
	}
	s += ")"
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf("; asked to wait %s", e.RetryAfter)
	}
	return s
}

func (e *apiError) Unwrap() error { return e.kind }

func status(err error) int {
	var e *apiError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &e):
		return e.Status
	}
	return 0
}

// receipt is the answer to a write.
type receipt struct {
	object   object // as it is then, where the answer is about that
	answered bool   // whether it is
	auditID  string
}

// auditID is under which id the API server has the request in its audit log. The header is the server's word, and goes into
// our own log: what is not an id is none.
func auditID(h http.Header) string {
	id := h.Get("Audit-ID")
	if len(id) > sync.MaxAuditID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return id
}

// do makes one request and reads its answer into into (nil: not at all; a *[]byte: as it is; a *receipt: of a write). A network failure, a time-out
// and an answer that is no sense are core.Unavailable: what was asked may have been done.
func (c *Cluster) do(ctx context.Context, method, path string, query url.Values, body []byte, into any) (err error) {
	ctx, end := c.begin(ctx, method, path)
	defer func() { end(err) }()
	ctx, cancel := context.WithTimeout(ctx, c.limits.Timeout)
	defer cancel()
	token, err := c.token(ctx)
	if err != nil {
		return fmt.Errorf("kubernetes: token: %w", err)
	}
	target := c.server + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "fleetpass-sync")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return fmt.Errorf("kubernetes: %s %s: %w: %w", method, path, core.Unavailable, err)
	}
	defer resp.Body.Close()
	answered(ctx, resp.StatusCode)
	data, err := io.ReadAll(io.LimitReader(resp.Body, c.limits.Page+1))
	if err != nil {
		return fmt.Errorf("kubernetes: %s %s: %w: %w", method, path, core.Unavailable, err)
	}
	if int64(len(data)) > c.limits.Page {
		return fmt.Errorf("kubernetes: %s %s: an answer over %d bytes: %w", method, path, c.limits.Page, core.TooLarge)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("kubernetes: %s %s: %w", method, path, failure(resp, data))
	}
	switch as := into.(type) {
	case nil:
		return nil
	case *[]byte:
		*as = data
		return nil
	case *receipt:
		if as.auditID = auditID(resp.Header); !as.answered {
			return nil
		}
		into = &as.object
	}
	if err := json.Unmarshal(data, into); errors.Is(err, core.TooLarge) {
		return fmt.Errorf("kubernetes: %s %s: %w", method, path, err)
	} else if err != nil {
		return fmt.Errorf("kubernetes: %s %s: the answer is not the JSON it should be: %w", method, path, core.Unavailable)
	}
	return nil
}

// maxMessage bounds how much of an API server's words reaches a status or log.
const maxMessage = 300

func failure(resp *http.Response, body []byte) *apiError {
	e := &apiError{Status: resp.StatusCode, kind: kindOf(resp.StatusCode)}
	var st refusal
	if json.Unmarshal(body, &st) == nil && st.Kind == "Status" {
		e.Reason, e.Message = plain(st.Reason), plain(st.Message)
		if st.Reason == reasonAlreadyExists {
			e.kind = core.Exists
		} else {
			for _, cause := range st.Details.Causes {
				if cause.Type == "NamespaceTerminating" { // of a 403
					e.kind = core.NotFound
				}
			}
		}
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = min(time.Duration(s)*time.Second, time.Minute)
	}
	return e
}

// kindOf says what a status means to core/sync. What it does not know may have any cause, and is tried again.
func kindOf(status int) core.Kind {
	switch status {
	case http.StatusUnauthorized:
		return core.Unauthenticated
	case http.StatusForbidden:
		return core.Denied
	case http.StatusNotFound:
		return core.NotFound
	case http.StatusConflict:
		return core.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return core.Invalid
	case http.StatusRequestEntityTooLarge:
		return core.TooLarge
	case http.StatusTooManyRequests:
		return core.Throttled
	}
	return core.Unavailable // 410 Gone too: a list that took too long begins anew
}

// plain shortens what a cluster says and takes out what does not print: it is shown to people.
func plain(s string) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
