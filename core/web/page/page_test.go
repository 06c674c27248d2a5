package page_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	g "maragu.dev/gomponents"

	"golang.org/x/net/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// refresh is where a browser goes from a page by itself, read as browsers read it: the shared declarative refresh steps of
// HTML, from the content attribute on. "" is nowhere.
func refresh(t *testing.T, body string) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	content, found := "", false
	for n := range doc.Descendants() {
		attrs := map[string]string{}
		for _, a := range n.Attr {
			attrs[a.Key] = a.Val
		}
		if n.Data == "meta" && attrs["http-equiv"] == "refresh" {
			if found {
				t.Fatal("two refreshes")
			}
			content, found = attrs["content"], true
		}
	}
	if !found {
		return ""
	}
	rest, ok := strings.CutPrefix(content, "0;url=")
	if !ok {
		t.Fatalf("content %q", content)
	}
	if rest != "" && (rest[0] == '"' || rest[0] == '\'') {
		quoted, _, _ := strings.Cut(rest[1:], rest[:1])
		return quoted
	}
	return rest
}

// A page leads on to the address that it was given, to the byte, whatever is in it; and to nothing that a browser could read as
// another address than it looks like.
func TestOnward(t *testing.T) {
	show := func(address string) string {
		w := httptest.NewRecorder()
		page.Render(w, http.StatusOK, "", page.View{Tenant: "acme", Title: "On", Onward: address}.Document())
		for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		return w.Body.String()
	}
	for _, to := range []string{
		"/t/acme/sso?idp=corp&login=h", "https://idp.example/leave?hint=a&back=b", "http://localhost:8080/bye", "https://idp.example",
		`https://idp.example/a;b=1;url=https://evil.example`, `https://idp.example/?a='b'`, `https://idp.example/?a="b"`, `https://idp.example/?a=<b>`,
		`https://idp.example/"><script>alert(1)</script>`, `/t/acme/'; url=//evil.example`, "https://idp.example/?a=0;url='//evil.example'",
		"https://[2001:db8::1]/", "https://idp.example/, 5; url=x", "https://idp.example/?q=%22%27%3B",
	} {
		body := show(to)
		if got := refresh(t, body); got != to {
			t.Errorf("%s leads to %q", to, got)
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s: a script in %s", to, body)
		}
	}
	for _, to := range []string{
		"", "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example",
		"/\n/evil.example", `'//evil.example'`, `"//evil.example"`, " https://evil.example", "https:evil.example", "https:///evil.example", "evil.example", "ftp://evil.example/",
		"https://idp.example\\@evil.example/", "mailto:a@b.example", "https://idp.example/\x00",
	} {
		if got := refresh(t, show(to)); got != "" {
			t.Errorf("%q leads to %q", to, got)
		}
	}
}

// A HEAD says that there is a page, and has the headers of one.
func TestHead(t *testing.T) {
	w := httptest.NewRecorder()
	page.Head(w)
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

type refusal struct{ trace string }

func (r refusal) Error() string   { return "canary" }
func (r refusal) TraceID() string { return r.trace }
func (r refusal) Unwrap() error   { return core.Unauthenticated }

// An error has its status and words that are safe to show; what is given beside stands below, whatever the error.
func TestFail(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		text   string
	}{
		{refusal{"t-1"}, 403, "quote trace t-1."},
		{fmt.Errorf("at the end: %w", refusal{}), 403, "tell your administrator."},
		{fmt.Errorf("canary: %w", core.NotFound), 404, "There is no such page"},
		{fmt.Errorf("canary: %w: %w", core.NotFound, core.Conflict), 404, "There is no such page"},
		{fmt.Errorf("canary: %w", core.Unavailable), 503, "Try again shortly"},
		{fmt.Errorf("canary: %w", core.Throttled), 429, "Wait a moment"},
		{fmt.Errorf("canary: %w", core.Unauthenticated), 403, "The link or the form was used"},
		{fmt.Errorf("canary"), 500, "has been logged"},
		{core.BadField("code", "must be <b>"), 400, "must be &lt;b&gt;"},
	} {
		w := httptest.NewRecorder()
		handler := web.Edge{Log: slog.New(slog.DiscardHandler)}.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page.Fail(w, r, tt.err, page.Instead("acme", `a&b"<`))
		}))
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/t/acme/sso", nil))
		body := w.Body.String()
		if w.Code != tt.status || !strings.Contains(body, tt.text) || strings.Contains(body, "canary") {
			t.Errorf("%v: %d %s", tt.err, w.Code, body)
		}
		for _, link := range []string{`href="/t/acme/login"`, `href="/t/acme/login?local=1&amp;login=a%26b%22%3C"`} {
			if !strings.Contains(body, link) {
				t.Errorf("%v: no %s in %s", tt.err, link, body)
			}
		}
	}
	// Where no tenant is known, there is nowhere to start again.
	for name, beside := range map[string]g.Node{"no tenant": page.Instead("", "h"), "nothing": nil} {
		w := httptest.NewRecorder()
		page.Fail(w, httptest.NewRequest("GET", "/", nil), core.NotFound, beside)
		if w.Code != 404 || strings.Contains(w.Body.String(), "href") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
