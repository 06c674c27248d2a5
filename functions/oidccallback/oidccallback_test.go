package oidccallback_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// begin begins a sign-in at a connection and returns the state that its provider was given.
func (r *rig) begin(a sso.Alias) (state string) {
	r.t.Helper()
	actor := core.Actor{Tenant: "acme", Address: "192.0.2.7"}
	handle, cookie, err := r.sessions.StartLogin(r.t.Context(), actor, "", "")
	r.must(err)
	login, err := r.sessions.Login(r.t.Context(), "acme", handle, cookie)
	r.must(err)
	d, err := r.sso.Start(r.t.Context(), actor, a, login, cookie, false, "")
	r.must(err)
	return d.URL
}

// come is a browser that comes back from the provider's site, with the cookies that it has of ours.
func (r *rig) come(method, path, body string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(method, path, strings.NewReader(body))
	q.Header.Set("Sec-Fetch-Site", "cross-site")
	q.Header.Set("Cookie", "__Host-fleetpass-acme=s; __Host-fleetpass-login.acme=l")
	if body != "" {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w
}

func callback(a, state string, more ...string) string {
	q := url.Values{"state": {state}, "code": {"c"}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/t/acme/oidc/" + a + "/callback?" + q.Encode()
}

var ours = regexp.MustCompile(`^/t/acme/sso/finish\?answer=[0-9a-z]{52}$`)

// Both kinds come back here. The browser goes on to a page of ours alone, without a cookie, whatever else the answer says.
func TestCallback(t *testing.T) {
	r := newRig(t)
	for _, alias := range []sso.Alias{"cloud", "cluster"} {
		r.clerk.brought = nil
		state := r.begin(alias)
		w := r.come("GET", callback(string(alias), state, "next", "https://evil.example", "iss", "https://idp.example"), "state=of-the-body")
		if to := w.Header().Get("Location"); w.Code != http.StatusSeeOther || !ours.MatchString(to) {
			t.Errorf("%s: %d to %q: %s", alias, w.Code, to, w.Body)
		}
		if w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: a cookie is set", alias)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		want := []map[string]string{{"state": state, "code": "c", "next": "https://evil.example", "iss": "https://idp.example"}}
		if diff := cmp.Diff(want, r.clerk.brought); diff != "" {
			t.Errorf("%s: %s", alias, diff)
		}
		// One answer to a sign-in.
		if w := r.come("GET", callback(string(alias), state), ""); w.Code != 403 || len(r.clerk.brought) != 1 {
			t.Errorf("%s: a second time: %d", alias, w.Code)
		}
	}
}

// What is no answer, or to no connection of these kinds, reaches no provider, and the sign-in goes on.
func TestCallbackRefuses(t *testing.T) {
	r := newRig(t)
	state := r.begin("cloud")
	good := callback("cloud", state)
	for name, tt := range map[string]struct {
		path   string
		status int
	}{
		"state twice":          {good + "&state=" + state, 400},
		"code twice":           {good + "&code=d", 400},
		"spelt apart":          {good + "&%63ode=d", 400},
		"not percent-encoded":  {good + "&x=%zz", 400},
		"too large":            {good + "&x=" + strings.Repeat("x", 16<<10), 413},
		"many fields":          {good + strings.Repeat("&", 2000), 400},
		"by SAML":              {callback("corp", state), 404},
		"absent":               {callback("absent", state), 404},
		"disabled":             {callback("off", state), 404},
		"no tenant":            {strings.Replace(good, "/acme/", "/absent/", 1), 404},
		"another spelling":     {strings.Replace(good, "cloud", "%63loud", 1), 404},
		"a path to be cleaned": {strings.Replace(good, "/cloud", "/x/../cloud", 1), 404},
		"another connection's": {callback("cluster", state), 403},
		"no state":             {"/t/acme/oidc/cloud/callback?code=c", 403},
		"nothing":              {"/t/acme/oidc/cloud/callback", 403},
	} {
		t.Run(name, func(t *testing.T) {
			w := r.come("GET", tt.path, "")
			if w.Code != tt.status || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%d to %q, want %d: %s", w.Code, w.Header().Get("Location"), tt.status, w.Body)
			}
			if tt.status != 404 && !strings.Contains(w.Body.String(), `href="/t/acme/login?local=1"`) {
				t.Errorf("no way on: %s", w.Body)
			}
			if len(r.clerk.brought) != 0 {
				t.Errorf("the provider was brought %v", r.clerk.brought)
			}
		})
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		w := r.come(method, good, "state="+state)
		if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, allowed is %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	commits := r.db.Counts().Commits
	if w := r.come("HEAD", good, ""); w.Code != 200 || w.Header().Get("Location") != "" || r.db.Counts().Commits != commits {
		t.Errorf("HEAD: %d", w.Code)
	}
	if len(r.clerk.brought) != 0 {
		t.Errorf("the provider was brought %v", r.clerk.brought)
	}
	if w := r.come("GET", good, ""); w.Code != http.StatusSeeOther { // the twin
		t.Errorf("a good one: %d %s", w.Code, w.Body)
	}
}

// An answer that is refused leads nowhere, and one that cannot be judged now may be tried again.
func TestCallbackShowsFailures(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		err    error
		status int
		text   string
	}{{sso.ErrRefused, 403, "quote trace 2026"}, {core.Unavailable, 503, "Just a moment"}} {
		r.clerk.refuse = tt.err
		w := r.come("GET", callback("cloud", r.begin("cloud"), "error", "<script>", "error_description", "canary"), "")
		body := w.Body.String()
		if w.Code != tt.status || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" || strings.Contains(body, "canary") || strings.Contains(body, "<script") {
			t.Errorf("%d %v %s", w.Code, w.Header(), body)
		}
		for _, want := range []string{tt.text, `href="/t/acme/login"`, `href="/t/acme/login?local=1"`} {
			if !strings.Contains(body, want) {
				t.Errorf("the page lacks %q: %s", want, body)
			}
		}
	}
}
