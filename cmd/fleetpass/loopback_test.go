package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/api"
)

// Threat WEB-023: what else reaches the port that waits for the browser.
func TestLoopback(t *testing.T) {
	const issuer = "https://fleetpass.test/t/acme"
	begin := func(t *testing.T) *loopback {
		l, err := listenLoopback(&api.Issuer{URL: issuer, SendsIssuer: true}, "the-state")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		t.Cleanup(stop)
		go l.serve(ctx)
		return l
	}
	send := func(t *testing.T, l *loopback, method, host, path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("Content-Security-Policy is %q", csp)
		}
		return resp.StatusCode, string(body)
	}
	good := "/callback?" + url.Values{"code": {"c0de"}, "state": {"the-state"}, "iss": {issuer}}.Encode()

	t.Run("one request is heard, and everything else is not", func(t *testing.T) {
		l := begin(t)
		if host, _, _ := net.SplitHostPort(l.host); host != "127.0.0.1" {
			t.Errorf("it listens on %s", l.host)
		}
		for _, q := range []struct {
			method, host, path string
			status             int
		}{
			{"GET", "evil.test", good, 403}, // a name of theirs that resolves to us
			{"GET", "localhost:1", good, 403},
			{"GET", "", "/", 404},
			{"GET", "", "/favicon.ico", 404},
			{"GET", "", strings.Replace(good, "/callback", "/callback/", 1), 404},
			{"GET", "", strings.Replace(good, "/callback", "/Callback", 1), 404},
			{"GET", "", strings.Replace(good, "/callback", "/call%62ack", 1), 404},
			{"POST", "", good, 405},
			{"GET", "", "/callback", 400},
			{"GET", "", "/callback?code=<script>c0de</script>", 400},
			{"GET", "", strings.Replace(good, "the-state", "another", 1), 400},
			{"GET", "", good + "&state=the-state", 400},
		} {
			status, body := send(t, l, q.method, q.host, q.path)
			if status != q.status {
				t.Errorf("%s %s %s: %d, want %d", q.method, q.host, q.path, status, q.status)
			}
			if strings.Contains(body, "c0de") || strings.Contains(body, "the-state") {
				t.Errorf("%s: the page repeats the request", q.path)
			}
			select {
			case a := <-l.answers:
				t.Fatalf("%s %s %s was heard: %+v", q.method, q.host, q.path, a)
			default:
			}
		}
		l.outcome <- nil
		if status, body := send(t, l, "GET", "", good); status != 200 || !strings.Contains(body, "You are signed in") {
			t.Errorf("the right request: %d %s", status, body)
		}
		if a := <-l.answers; a.err != nil || a.code != "c0de" {
			t.Errorf("heard %+v", a)
		}
		if status, _ := send(t, l, "GET", "", good); status != 410 {
			t.Errorf("the same again: %d, want 410", status)
		}
	})
	for name, tt := range map[string]struct{ change, want string }{
		"from another server":    {strings.Replace(good, "acme", "evil", 1), "another server"},
		"from no server":         {"/callback?code=c&state=the-state", "another server"},
		"refused":                {"/callback?error=access_denied&error_description=no%1b[31m&state=the-state&iss=" + url.QueryEscape(issuer), "access_denied"},
		"with neither":           {"/callback?state=the-state&iss=" + url.QueryEscape(issuer), "without a code"},
		"with two codes":         {good + "&code=other", "without a code"},
		"with an error and code": {good + "&error=server_error", "server_error"},
	} {
		t.Run("an answer "+name+" is no sign-in", func(t *testing.T) {
			l := begin(t)
			l.outcome <- io.EOF
			if status, body := send(t, l, "GET", "", tt.change); status != 400 || !strings.Contains(body, "did not work") {
				t.Errorf("%d %s", status, body)
			}
			if a := <-l.answers; a.err == nil || a.code != "" || !strings.Contains(a.err.Error(), tt.want) {
				t.Errorf("heard %+v", a)
			}
		})
	}
}

// A whole sign-in against an issuer that checks PKCE, by a browser that does as it is told.
func TestBrowserSignIn(t *testing.T) {
	f := newFakeIssuer(t)
	for name, spoil := range map[string]func(*fakeIssuer){
		"":                   func(*fakeIssuer) {},
		"another sign-in":    func(f *fakeIssuer) { f.nonce = "replayed" },
		"another client":     func(f *fakeIssuer) { f.audience = "someone-else" },
		"of another issuer":  func(f *fakeIssuer) { f.tokenIssuer = "https://evil.test" },
		"has expired":        func(f *fakeIssuer) { f.lifetime = -time.Hour },
		"nobody has signed ": func(f *fakeIssuer) { f.silent = true },
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			f.reset()
			spoil(f)
			say := func(format string, args ...any) {
				if !f.silent {
					go f.browse(t, args[0].(string))
				}
			}
			i, err := api.Discover(t.Context(), f.client(t), f.issuer())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			if !f.silent {
				ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
			}
			defer cancel()
			tokens, err := browserSignIn(say, false)(ctx, i)
			switch {
			case name == "" && (err != nil || tokens.Refresh == ""):
				t.Errorf("%+v %v", tokens, err)
			case name != "" && (err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(name, " "))):
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCleanShowsControlCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"ada@example.com":             "ada@example.com",
		"Ada Łukasiewicz 研究":          "Ada Łukasiewicz 研究",
		"\x1b]0;owned\x07":            `\u001b]0;owned\u0007`,
		"a\u202eb":                    `a\u202eb`,
		"\x9b31m":                     "\ufffd31m", // no UTF-8
		"two\nlines and\ta tab\r\x00": "two\nlines and\ta tab\\u000d\\u0000",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
