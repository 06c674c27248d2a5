package oauth

import (
	"net/url"
	"strings"
	"testing"
)

const good = "https://app.example/cb"

// Nothing but the registered address is sent to (OAU-017, OAU-019). Each row is the registered one with one thing changed.
func TestMatchRedirect(t *testing.T) {
	registered := []string{good, "https://app.example/cb?tab=1", "http://127.0.0.1/callback", "http://[::1]:7000/callback"}
	for _, ok := range []string{
		good, "https://app.example/cb?tab=1",
		"http://127.0.0.1/callback", "http://127.0.0.1:1/callback", "http://127.0.0.1:65535/callback", "http://[::1]:43121/callback", "http://[::1]/callback",
	} {
		if !matchRedirect(registered, ok) {
			t.Errorf("%s is refused", ok)
		}
	}
	for _, bad := range []string{
		"", "https://app.example/", "https://app.example", "https://evil.app.example/cb", "https://app.example.evil.example/cb",
		"https://app.example/cb/", "https://app.example/cb/more", "https://app.example/CB", "https://APP.example/cb", "HTTPS://app.example/cb",
		"http://app.example/cb", "https://app.example:443/cb", "https://app.example:8443/cb", "https://app.example./cb",
		"https://app.example/cb?", "https://app.example/cb?x=1", "https://app.example/cb?tab=1&x=2", "https://app.example/cb#", "https://app.example/cb#f",
		"https://app.example/x/../cb", "https://app.example/./cb", "https://app.example//cb", "https://app.example/%2e/cb", "https://app.example/c%62",
		"https://good@evil.example/cb", "https://app.example@evil.example/cb", "https://evil.example\\@app.example/cb", "https://app.example\\.evil.example/cb",
		"https://аpp.example/cb", "https://app.example/cb\t", "https://app.example/cb\n", " https://app.example/cb", "https://app.example/cb ",
		"https:app.example/cb", "https:///app.example/cb", "//app.example/cb", "/cb", "cb",
		"javascript:alert(1)", "data:text/html,x",
		"http://localhost/callback", "http://localhost:43121/callback", "http://127.0.0.2/callback", "http://0.0.0.0/callback", "http://2130706433/callback",
		"http://127.1/callback", "http://0x7f.0.0.1/callback", "http://[::]/callback", "http://[0:0:0:0:0:0:0:1]/callback", "http://[::ffff:127.0.0.1]/callback",
		"http://127.0.0.1:0/callback", "http://127.0.0.1:00080/callback", "http://127.0.0.1:65536/callback", "http://127.0.0.1:999999/callback",
		"http://127.0.0.1:/callback", "http://127.0.0.1:80a/callback", "http://127.0.0.1:-1/callback", "http://127.0.0.1:43121", "http://127.0.0.1:43121/",
		"http://127.0.0.1:43121/callback/", "http://127.0.0.1:43121/callback?x=1", "http://127.0.0.1:43121/Callback", "https://127.0.0.1:43121/callback",
		"http://127.0.0.1@evil.example/callback", "http://127.0.0.1:1@evil.example/callback", "http://127.0.0.1.evil.example/callback", "http://127.0.0.1:43121\\/callback",
	} {
		if matchRedirect(registered, bad) {
			t.Errorf("%q is sent to", bad)
		}
	}
	// What runs in the browser is refused even where somebody registered it.
	for _, bad := range []string{"javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "https://app.example/#x", "com.example.app:/cb", "https://", "http://", "https:", "HTTPS://app.example/cb"} {
		if matchRedirect([]string{bad}, bad) {
			t.Errorf("%q is sent to", bad)
		}
	}
}

func TestWithQuery(t *testing.T) {
	q := url.Values{"state": {`a&b="<`}}
	if got := withQuery(good, q); got != good+"?state=a%26b%3D%22%3C" {
		t.Error(got)
	}
	if got := withQuery(good+"?tab=1", q); got != good+"?tab=1&state=a%26b%3D%22%3C" {
		t.Error(got)
	}
}

// Whatever is sent to is what was registered, or a registered loopback path on another port of the same literal.
func FuzzMatchRedirect(f *testing.F) {
	for _, s := range []string{good, good + "/..", "http://127.0.0.1:43121/callback", "http://[::1]/callback", "http://127.0.0.1:80@x/callback", "https://app.example\\@x/cb"} {
		f.Add(good, s)
		f.Add("http://127.0.0.1/callback", s)
	}
	f.Fuzz(func(t *testing.T, registered, asked string) {
		if !matchRedirect([]string{registered}, asked) || registered == asked {
			return
		}
		u, err := url.Parse(asked)
		r, err2 := url.Parse(registered)
		if err != nil || err2 != nil {
			t.Fatalf("%q matches %q, and is no URL: %v %v", asked, registered, err, err2)
		}
		if u.Scheme != "http" || (u.Hostname() != "127.0.0.1" && u.Hostname() != "::1") || u.Hostname() != r.Hostname() || u.User != nil ||
			u.EscapedPath() != r.EscapedPath() || u.RawQuery != r.RawQuery || u.Fragment != "" || strings.ContainsAny(asked, "\\ \t\r\n") {
			t.Fatalf("%q matches %q", asked, registered)
		}
	})
}
