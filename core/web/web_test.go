package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/web"
)

// call sends one request through an Edge and returns the answer and the log.
func call(h http.HandlerFunc, edit ...func(*http.Request)) (*httptest.ResponseRecorder, string) {
	var log bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("/t/{tenant}/thing", h)
	edge := web.Edge{Function: "fun", Log: slog.New(slog.NewJSONHandler(&log, nil))}
	r := httptest.NewRequest("POST", "/t/acme/thing?code=CANARY-QUERY", strings.NewReader("CANARY-BODY"))
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	edge.Wrap(mux).ServeHTTP(w, r)
	return w, log.String()
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

type waitError struct{}

func (waitError) Error() string             { return "wait" }
func (waitError) Unwrap() error             { return core.Throttled }
func (waitError) RetryAfter() time.Duration { return 1500 * time.Millisecond }

// Every kind has its status, says what may be said, and tells the log the rest.
func TestFail(t *testing.T) {
	for _, tt := range []struct {
		err     error
		status  int
		message string // a part of it
		header  string // "Name: value" that must be there
	}{
		{fmt.Errorf("rule 7: %w", core.NotFound), 404, "rule 7: not found", ""},
		{core.BadField("/name", "must not be empty"), 400, "/name: must not be empty", ""},
		{fmt.Errorf("x: %w", core.TooLarge), 413, "too large", ""},
		{fmt.Errorf("x: %w", core.Exists), 409, "already exists", ""},
		{fmt.Errorf("x: %w", core.Conflict), 409, "changed meanwhile", ""},
		{fmt.Errorf("you need Viewer: %w", core.Denied), 403, "you need Viewer", ""},
		{fmt.Errorf("SECRET CAUSE: %w", core.Unauthenticated), 401, "Not authenticated", "WWW-Authenticate: Bearer"},
		{fmt.Errorf("at most 200: %w", core.Limit), 422, "at most 200", ""},
		{fmt.Errorf("x: %w", core.Unsupported), 422, "not supported", ""},
		{fmt.Errorf("x: %w", core.Throttled), 429, "too many attempts", "Retry-After: 30"},
		{waitError{}, 429, "wait", "Retry-After: 2"},
		{fmt.Errorf("SECRET CAUSE: %w", core.Unavailable), 503, "Temporarily unavailable", "Retry-After: 1"},
		{fmt.Errorf("%w: SECRET CAUSE: %w", core.Unauthenticated, core.Unavailable), 503, "Temporarily", "Retry-After: 1"},
		{fmt.Errorf("SECRET CAUSE: %w", context.DeadlineExceeded), 503, "Temporarily", ""},
		{errors.New("SECRET CAUSE"), 500, "logged", ""},
	} {
		w, log := call(func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, tt.err) })
		var body web.Error
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%v: %v: %s", tt.err, err, w.Body)
		}
		if w.Code != tt.status || body.Code != tt.status || !strings.Contains(body.Message, tt.message) {
			t.Errorf("%v: %d %+v, want %d %q", tt.err, w.Code, body, tt.status, tt.message)
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%v: the cause is shown: %s", tt.err, w.Body)
		}
		if !strings.Contains(log, jsonText(tt.err.Error())) {
			t.Errorf("%v: the cause is not logged: %s", tt.err, log)
		}
		if name, value, ok := strings.Cut(tt.header, ": "); ok && w.Header().Get(name) != value {
			t.Errorf("%v: %s is %q, want %q", tt.err, name, w.Header().Get(name), value)
		}
	}
	w, _ := call(func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, core.BadField("/name", "is empty")) })
	if !strings.Contains(w.Body.String(), `"field":"/name"`) {
		t.Errorf("the field is not named to programs: %s", w.Body)
	}
}

func jsonText(s string) string {
	b, _ := json.Marshal(s)
	return strings.Trim(string(b), `"`)
}

// A token that was sent and does not hold is said to be invalid; a missing one is only asked for (RFC 6750 §3).
func TestChallenge(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, core.Unauthenticated) }
	if w, _ := call(h); w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("without: %v", w.Header())
	}
	if w, _ := call(h, header("Authorization", "Bearer x")); w.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("with: %v", w.Header())
	}
}

// A panic is answered like any failure of ours, and what it quotes stays out of the answer and the log.
func TestPanic(t *testing.T) {
	w, log := call(func(http.ResponseWriter, *http.Request) { panic("CANARY-PANIC") })
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"code":500`) {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	if all := w.Body.String() + log; strings.Contains(all, "CANARY") || !strings.Contains(log, "web_test.go") {
		t.Errorf("the value is told, or the stack is not: %s", all)
	}
	// What was answered before the panic stands.
	w, _ = call(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); panic("late") })
	if w.Code != 204 {
		t.Errorf("answered %d", w.Code)
	}
}

func TestRequestID(t *testing.T) {
	var seen core.RequestID
	h := func(w http.ResponseWriter, r *http.Request) { seen = web.RequestID(r.Context()) }
	w, log := call(h, header("X-Request-ID", "trace-me_1.2"))
	if seen != "trace-me_1.2" || w.Header().Get("X-Request-ID") != "trace-me_1.2" || !strings.Contains(log, "trace-me_1.2") {
		t.Errorf("a sane id was not taken: %q %v", seen, w.Header())
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", 65), "new\nline-in-it", `quote"in-the-id`, "späce-here", "a b c d e f"} {
		w, _ := call(h, header("X-Request-ID", bad))
		if string(seen) == bad || len(seen) != 26 || w.Header().Get("X-Request-ID") != string(seen) {
			t.Errorf("%q: id %q", bad, seen)
		}
	}
}

// One line a request: the route and the tenant, and nothing of the query, the body or the headers.
func TestLog(t *testing.T) {
	_, log := call(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		fmt.Fprint(w, "hello")
		web.Note(r.Context(), slog.String("issued", "password"))
	},
		header("Authorization", "Bearer CANARY-TOKEN"), header("Cookie", "__Host-fleetpass-acme=CANARY-COOKIE"), header("X-Forwarded-For", "6.6.6.6"))
	var line map[string]any
	if err := json.Unmarshal([]byte(log), &line); err != nil {
		t.Fatalf("not one line: %v: %s", err, log)
	}
	for name, want := range map[string]any{
		"function": "fun", "tenant": "acme", "route": "/t/{tenant}/thing", "status": 201.0, "bytes": 5.0, "method": "POST", "address": "192.0.2.1", "issued": "password",
	} {
		if line[name] != want {
			t.Errorf("%s = %v, want %v", name, line[name], want)
		}
	}
	if strings.Contains(log, "CANARY") || strings.Contains(log, "6.6.6.6") {
		t.Errorf("the log tells too much: %s", log)
	}
}

func TestHeaders(t *testing.T) {
	w, _ := call(func(w http.ResponseWriter, r *http.Request) { web.JSON(w, 200, "x") })
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Content-Type": "application/json",
	} {
		if w.Header().Get(name) != want {
			t.Errorf("%s: %q, want %q", name, w.Header().Get(name), want)
		}
	}
	if w.Header().Get("Strict-Transport-Security") != "" || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers that nobody asked for: %v", w.Header())
	}
	rec := httptest.NewRecorder()
	web.Edge{StrictTransport: true, Log: slog.New(slog.DiscardHandler)}.Wrap(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if rec.Header().Get("Strict-Transport-Security") == "" {
		t.Error("StrictTransport says nothing")
	}
}

// Only the runtime says where a request comes from.
func TestAddress(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Forwarded-For", "6.6.6.6")
	r.Header.Set("Forwarded", "for=6.6.6.6")
	r.Header.Set("X-Real-IP", "6.6.6.6")
	if a := web.Address(r); a != "192.0.2.1" {
		t.Errorf("address %q", a)
	}
	r.RemoteAddr = "[2001:db8::7]:0" // as an adapter says it
	if a := web.Address(r); a != "2001:db8::7" {
		t.Errorf("address %q", a)
	}
}

func TestBearerToken(t *testing.T) {
	for _, tt := range []struct {
		headers []string
		want    string
	}{
		{[]string{"Bearer abc.def"}, "abc.def"},
		{[]string{"bearer abc"}, "abc"},
		{nil, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{"Basic abc"}, ""},
		{[]string{"Bearer a b"}, ""},
		{[]string{"Bearer a,b"}, ""},
		{[]string{"Bearer abc", "Bearer def"}, ""},
		{[]string{"Bearer " + strings.Repeat("x", 11<<10)}, ""},
	} {
		r := httptest.NewRequest("GET", "/?access_token=abc", nil)
		r.Header["Authorization"] = tt.headers
		got, err := web.BearerToken(r)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%q: %q, %v", tt.headers, got, err)
		}
	}
}

// An issuer has one spelling (OAU-061).
func TestTenant(t *testing.T) {
	for path, want := range map[string]int{
		"/t/acme/thing": 200, "/t/ACME/thing": 404, "/t/%61cme/thing": 404, "/t/acme%2F/thing": 404, "/t/acme//thing": 404,
		"/t/a/thing": 404, "/t/../t/acme/thing": 404, "//t/acme/thing": 404, "/t/acme/./thing": 404, "/t/a%00me/thing": 404,
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("/t/{tenant}/thing", func(w http.ResponseWriter, r *http.Request) {
			if _, err := web.Tenant(r); err != nil {
				web.Fail(w, r, err)
			}
		})
		r := httptest.NewRequest("GET", "/", nil)
		if u, err := r.URL.Parse("https://host" + path); err == nil {
			r.URL = u
		}
		r.URL.Path, r.URL.RawPath = split(path)
		w := httptest.NewRecorder()
		web.Exact(mux).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

// Tenant itself takes one spelling only, for handlers whose other parts may be percent-encoded.
func TestTenantEncoded(t *testing.T) {
	for raw, ok := range map[string]bool{
		"/t/acme/x": true, "/t/acme": true, "/t/acme/groups/Research%20team": true, "/t/acme/x/%2e%2e": true, "/.well-known/openid-configuration/t/acme": true,
		"/t/%61cme/x": false, "/%74/acme/x": false, "/t/%61cme": false, "/t%2Facme/x": false, "/t/acme%2Fx": false, "/t/ACME/x": false, "/x/t/acme": false,
		"/.well-known/openid-configuration/t/%61cme": false, "/.well-known/openid-configuration/%74/acme": false,
	} {
		r := httptest.NewRequest("GET", raw, nil)
		r.SetPathValue("tenant", "acme")
		if got, err := web.Tenant(r); (err == nil) != ok || ok && got != "acme" {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
}

// split makes the two forms of a path as net/http's server does.
func split(path string) (decoded, raw string) {
	r, err := http.NewRequest("GET", "https://host"+path, nil)
	if err != nil {
		return path, ""
	}
	return r.URL.Path, r.URL.RawPath
}

type thing struct {
	Name string `json:"name"`
}

// Bad bodies are refused, and the refusal names the field; the good one beside them is taken (WEB-021).
func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, media, body string
		status            int
		names             string
	}{
		{"good", "application/json; charset=utf-8", `{"name":"x"}`, 200, ""},
		{"unknown", "application/json", `{"name":"x","isAdmin":true}`, 400, "isAdmin"},
		{"twice", "application/json", `{"name":"x","name":"y"}`, 400, "name"},
		{"case", "application/json", `{"Name":"x"}`, 400, "Name"},
		{"type", "application/json", `{"name":7}`, 400, "name"},
		{"broken", "application/json", `{"name":`, 400, "cut off"},
		{"trailing", "application/json", `{"name":"x"} {}`, 400, "body"},
		{"media", "text/plain", `{"name":"x"}`, 400, "Content-Type"},
		{"no media", "", `{"name":"x"}`, 400, "Content-Type"},
		{"large", "application/json", `{"name":"` + strings.Repeat("x", 200) + `"}`, 413, ""},
	} {
		w, _ := call(func(w http.ResponseWriter, r *http.Request) {
			v, err := web.Decode[thing](w, r, 100)
			if err != nil {
				web.Fail(w, r, err)
				return
			}
			web.JSON(w, 200, v)
		}, func(r *http.Request) {
			b := httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
			r.Body, r.ContentLength = b.Body, b.ContentLength
			r.Header.Set("Content-Type", tt.media)
		})
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.names) {
			t.Errorf("%s: %d %s, want %d naming %q", tt.name, w.Code, w.Body, tt.status, tt.names)
		}
	}
}

func TestForm(t *testing.T) {
	for _, tt := range []struct {
		body   string
		status int
		names  string
	}{
		{"a=1&b=2", 200, ""}, {"a=1&a=2", 400, "a"}, {"a=1&c=2", 400, "c"}, {"a=%zz", 400, ""},
		{"a=" + strings.Repeat("x", 200), 413, ""},
	} {
		w, _ := call(func(w http.ResponseWriter, r *http.Request) {
			if _, err := web.Form(w, r, 100, "a", "b"); err != nil {
				web.Fail(w, r, err)
			}
		}, func(r *http.Request) {
			r.Body = httptest.NewRequest("POST", "/", strings.NewReader(tt.body)).Body
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		})
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.names) {
			t.Errorf("%q: %d %s, want %d naming %q", tt.body, w.Code, w.Body, tt.status, tt.names)
		}
	}
}

// What a browser sends for another site is refused; the same from our own page, or from a program, is not (WEB-015).
func TestSameOrigin(t *testing.T) {
	h := web.SameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }), "https://front.example")
	for _, tt := range []struct {
		method, origin, site string
		want                 int
	}{
		{"POST", "", "", 204},
		{"POST", "https://host.example", "same-origin", 204},
		{"POST", "https://front.example", "", 204},
		{"GET", "https://evil.example", "cross-site", 204}, // a link
		{"POST", "https://evil.example", "cross-site", 403},
		{"POST", "https://sub.host.example", "same-site", 403},
		{"POST", "null", "cross-site", 403},
		{"POST", "null", "", 403},
		{"POST", "https://evil.example", "", 403},
		{"DELETE", "https://evil.example", "", 403},
	} {
		r := httptest.NewRequest(tt.method, "https://host.example/x", nil)
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		if tt.site != "" {
			r.Header.Set("Sec-Fetch-Site", tt.site)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%+v: %d", tt, w.Code)
		}
	}
}

func TestCookies(t *testing.T) {
	w := httptest.NewRecorder()
	web.SetCookie(w, "acme", "value", time.Hour)
	const want = "__Host-fleetpass-acme=value; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"
	if got := w.Header().Get("Set-Cookie"); got != want {
		t.Errorf("%s", got)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "__Host-fleetpass-acme=value; fleetpass-acme=planted; __Host-fleetpass-other=theirs")
	if v := web.Cookie(r, "acme"); v != "value" {
		t.Errorf("cookie %q", v)
	}
	r.Header.Set("Cookie", "__Host-fleetpass-acme=value; __Host-fleetpass-acme=planted")
	if v := web.Cookie(r, "acme"); v != "" {
		t.Errorf("a cookie that came twice is %q", v)
	}
	for _, n := range []int{256, 257, web.MaxAddressCookie, web.MaxAddressCookie + 1} {
		value := strings.Repeat("v", n)
		r.Header.Set("Cookie", "__Host-fleetpass-acme="+value)
		if got := web.Cookie(r, "acme"); (got == value) != (n <= 256) || got != value && got != "" {
			t.Errorf("a cookie of %d bytes: %d of them", n, len(got))
		}
		if got := web.AddressCookie(r, "acme"); (got == value) != (n <= web.MaxAddressCookie) || got != value && got != "" {
			t.Errorf("an address of %d bytes in a cookie: %d of them", n, len(got))
		}
	}
	r.Header.Set("Cookie", "__Host-fleetpass-acme=value; __Host-fleetpass-acme=planted")
	if v := web.AddressCookie(r, "acme"); v != "" {
		t.Errorf("an address that came twice is %q", v)
	}
	token := web.FormToken("secret", "login")
	if !web.CheckFormToken("secret", "login", token) || web.CheckFormToken("secret", "logout", token) ||
		web.CheckFormToken("other", "login", token) || web.CheckFormToken("", "login", web.FormToken("", "login")) || web.CheckFormToken("secret", "login", "") {
		t.Error("form tokens are not bound to cookie and purpose")
	}
}
