package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// Error is the body of every failed answer but OAuth's.
type Error struct {
	Code    int      `json:"code"`             // the HTTP status
	Message string   `json:"message"`          // one sentence for people
	Details *Details `json:"details,omitzero"` // absent where there is nothing more to say
}

// Details says more about an Error, to programs.
type Details struct {
	Kind    string         `json:"kind,omitempty"`    // the core.Kind
	Field   string         `json:"field,omitempty"`   // the field at fault, as the caller spelt it
	Request core.RequestID `json:"request,omitempty"` // to quote when asking for help
}

var errPanic = errors.New("web: a handler panicked")

// statuses gives each kind its HTTP status. Limit and Unsupported are 422, not 5xx or 409: the request was understood and
// the same request will never succeed, so nothing should retry it.
var statuses = []struct {
	kind   core.Kind
	status int
}{
	{core.TooLarge, http.StatusRequestEntityTooLarge},
	{core.Invalid, http.StatusBadRequest},
	{core.NotFound, http.StatusNotFound},
	{core.Exists, http.StatusConflict},
	{core.Outdated, http.StatusPreconditionFailed},
	{core.Conflict, http.StatusConflict},
	{core.Unauthenticated, http.StatusUnauthorized},
	{core.Denied, http.StatusForbidden},
	{core.Limit, http.StatusUnprocessableEntity},
	{core.Unsupported, http.StatusUnprocessableEntity},
	{core.Throttled, http.StatusTooManyRequests},
	{core.Unavailable, http.StatusServiceUnavailable},
}

// Status is the HTTP status of an error, and its kind; an error without a kind is internal: 500 and "".
func Status(err error) (int, core.Kind) {
	// What is temporary is asked for first: an error may carry two kinds (a sign-in that cannot be checked because the
	// store is away), and a client must not take the second for the truth.
	if errors.Is(err, core.Unavailable) {
		return http.StatusServiceUnavailable, core.Unavailable
	}
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.status, s.kind
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return http.StatusServiceUnavailable, core.Unavailable
	}
	return http.StatusInternalServerError, ""
}

// Fail answers with the error: its status by its kind, a sentence that is safe to show, and the cause to the log. What
// has no kind is internal, and told to nobody. The wording of a 401 does not depend on its cause.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	NoteError(r.Context(), err)
	status, kind := Status(err)
	message := strings.TrimSpace(err.Error())
	switch kind {
	case "":
		message = "Something went wrong on our side. It has been logged; quote the request id when you ask for help."
	case core.Unavailable:
		message = "Temporarily unavailable. Try again shortly."
		w.Header().Set("Retry-After", "1")
	case core.Unauthenticated:
		message = "Not authenticated. Send a valid, unexpired access token of this tenant."
		Challenge(w, r)
	case core.Throttled:
		RetryAfter(w, err)
	}
	d := &Details{Kind: string(kind), Request: RequestID(r.Context())}
	var field *core.FieldError
	if kind == core.Invalid && errors.As(err, &field) {
		d.Field = field.Field
	}
	JSON(w, status, Error{Code: status, Message: message, Details: d})
}

// Challenge sets the WWW-Authenticate header of a 401 to a bearer token (RFC 6750 §3): a bare challenge to a request that
// brought no token, invalid_token to one that did.
func Challenge(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
}

// RetryAfter tells a throttled caller how many whole seconds to wait: what the error says, if it says so in its own type,
// else half a minute.
func RetryAfter(w http.ResponseWriter, err error) {
	seconds := 30
	var wait interface{ RetryAfter() time.Duration }
	if errors.As(err, &wait) {
		seconds = max(1, int((wait.RetryAfter()+time.Second-1)/time.Second))
	}
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
}

// NoteError puts the error into the request's line in the log. Fail does it by itself; endpoints that answer in another
// form (OAuth's, or a page) call it.
func NoteError(ctx context.Context, err error) {
	if c := callOf(ctx); c != nil {
		c.err = err
	}
}

// JSON answers with v as JSON. Text that is not UTF-8, such as a name that was cut off in an error, is mended: it must not
// make a failure out of a refusal.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil { // a bug of ours: wire types always encode
		http.Error(w, `{"code":500,"message":"Something went wrong on our side."}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client went away; there is nobody to tell
}
