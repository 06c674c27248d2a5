package samlacs_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core/sso"
)

const form = "application/x-www-form-urlencoded"

// post sends a response as a browser does that comes from the provider's site; with cookies, though none would come.
func (r *rig) post(path, contentType, body string, header ...string) *httptest.ResponseRecorder {
	q := httptest.NewRequest("POST", path, strings.NewReader(body))
	q.Header.Set("Content-Type", contentType)
	q.Header.Set("Origin", "https://idp.example")
	q.Header.Set("Sec-Fetch-Site", "cross-site")
	q.Header.Set("Cookie", "__Host-fleetpass-acme=s; __Host-fleetpass-login.acme=l")
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w
}

var ours = regexp.MustCompile(`^/t/acme/sso/finish\?answer=[0-9a-z]{52}$`)

// What the provider is brought is the form and nothing else. The browser goes on to a page of ours, whatever RelayState says,
// with a GET and without a cookie.
func TestConsume(t *testing.T) {
	r := newRig(t)
	for _, state := range []string{"", "https://evil.example/", "//evil.example", "/t/acme/logout", "javascript:alert(1)", strings.Repeat("r", 500)} {
		r.clerk.brought = nil
		w := r.post("/t/acme/saml/corp/acs?RelayState=query&SAMLResponse=query&next=https://evil.example", form, url.Values{"SAMLResponse": {"good"}, "RelayState": {state}}.Encode())
		if to := w.Header().Get("Location"); w.Code != http.StatusSeeOther || !ours.MatchString(to) {
			t.Errorf("%q: %d to %q: %s", state, w.Code, to, w.Body)
		}
		if w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%q: a cookie is set", state)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if diff := cmp.Diff([]map[string]string{{"SAMLResponse": "good", "RelayState": state}}, r.clerk.brought); diff != "" {
			t.Errorf("%q: %s", state, diff)
		}
	}
	if w := r.post("/t/acme/saml/corp/acs", form+"; charset=UTF-8", "SAMLResponse=good"); w.Code != http.StatusSeeOther {
		t.Errorf("with a charset: %d", w.Code)
	}
}

// A message that is no form of ours, or for no connection by SAML, is refused before anything reads it.
func TestConsumeRefuses(t *testing.T) {
	r := newRig(t)
	const acs, good = "/t/acme/saml/corp/acs", "SAMLResponse=good&RelayState=x"
	for name, tt := range map[string]struct {
		path, contentType, body string
		status                  int
	}{
		"JSON":                  {acs, "application/json", `{"SAMLResponse":"good"}`, 400},
		"multipart":             {acs, "multipart/form-data; boundary=b", good, 400},
		"text":                  {acs, "text/plain", good, 400},
		"no content type":       {acs, "", good, 400},
		"SAMLResponse twice":    {acs, form, "SAMLResponse=good&SAMLResponse=good", 400},
		"RelayState twice":      {acs, form, good + "&RelayState=y", 400},
		"spelt apart":           {acs, form, good + "&%52elayState=y", 400},
		"not percent-encoded":   {acs, form, "SAMLResponse=%zz", 400},
		"too large":             {acs, form, "SAMLResponse=" + strings.Repeat("A", 512<<10), 413},
		"many fields":           {acs, form, strings.Repeat("a=b&", 10_000), 400},
		"by OpenID Connect":     {"/t/acme/saml/cloud/acs", form, good, 404},
		"absent":                {"/t/acme/saml/absent/acs", form, good, 404},
		"no alias":              {"/t/acme/saml/Corp/acs", form, good, 404},
		"disabled":              {"/t/acme/saml/off/acs", form, good, 404},
		"no tenant":             {"/t/absent/saml/corp/acs", form, good, 404},
		"another spelling":      {"/t/acme/saml/%63orp/acs", form, good, 404},
		"a path to be cleaned":  {"/t/acme/saml/x/../corp/acs", form, good, 404},
		"metadata is only read": {"/t/acme/saml/corp/metadata", form, good, 405},
	} {
		t.Run(name, func(t *testing.T) {
			commits := r.db.Counts().Commits
			w := r.post(tt.path, tt.contentType, tt.body)
			if w.Code != tt.status || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%d to %q, want %d: %s", w.Code, w.Header().Get("Location"), tt.status, w.Body)
			}
			if strings.HasPrefix(tt.path, "/t/acme/") && tt.status != 405 && !strings.Contains(tt.path, "%") && !strings.Contains(tt.path, "..") &&
				!strings.Contains(w.Body.String(), `href="/t/acme/login?local=1"`) {
				t.Errorf("no way on: %s", w.Body)
			}
			if n := r.db.Counts().Commits - commits; n != 0 || len(r.clerk.brought) != 0 {
				t.Errorf("%d commits, and the provider was brought %v", n, r.clerk.brought)
			}
		})
	}
	if w := r.post(acs, form, good, "Content-Encoding", "gzip"); w.Code != 400 {
		t.Errorf("compressed: %d", w.Code)
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest(method, acs+"?"+good, nil))
		if w.Code != 405 || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: %d, allowed is %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	if len(r.clerk.brought) != 0 {
		t.Errorf("the provider was brought %v", r.clerk.brought)
	}
	if w := r.post(acs, form, good); w.Code != http.StatusSeeOther { // the twin
		t.Errorf("a good one: %d %s", w.Code, w.Body)
	}
}

// A response that the provider refuses leads nowhere, and says no more than a trace's id.
func TestConsumeShowsARefusal(t *testing.T) {
	r := newRig(t)
	r.clerk.refuse = sso.ErrRefused
	w := r.post("/t/acme/saml/corp/acs", form, "SAMLResponse=bad")
	body := w.Body.String()
	if w.Code != 403 || w.Header().Get("Location") != "" || w.Header().Get("Set-Cookie") != "" || strings.Contains(body, "canary") {
		t.Errorf("%d %v %s", w.Code, w.Header(), body)
	}
	for _, want := range []string{"This sign-in was refused", "quote trace 2026", `href="/t/acme/login"`, `href="/t/acme/login?local=1"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q: %s", want, body)
		}
	}
}

// Metadata is there for every SAML connection, be it disabled: a provider reads it before it is enabled.
func TestMetadata(t *testing.T) {
	r := newRig(t)
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	for _, alias := range []string{"corp", "off"} {
		w := get("GET", "/t/acme/saml/"+alias+"/metadata")
		if want := "<md of https://fleet.example/t/acme/saml/" + alias + "/metadata>"; w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %s", alias, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") != "application/samlmetadata+xml" || w.Header().Get("Cache-Control") != "public, max-age=300" ||
			w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", alias, w.Header())
		}
	}
	for _, path := range []string{"/t/acme/saml/cloud/metadata", "/t/acme/saml/absent/metadata", "/t/absent/saml/corp/metadata", "/t/acme/saml/corp/metadata?%zz"} {
		if w := get("GET", path); w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	if w := get("HEAD", "/t/acme/saml/corp/metadata"); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

// RelayState is a reference of ours or nothing: whatever comes with a response, the browser goes on to our own page or nowhere,
// without a cookie, and nothing breaks.
func FuzzRelayState(f *testing.F) {
	r := newRig(f)
	for _, state := range []string{"", "https://evil.example/", "//evil.example", "\r\nSet-Cookie: a=b", "\x00", "%2e%2e", strings.Repeat("a", 52), "../../t/other/sso/finish"} {
		f.Add(state, "good", "next")
	}
	f.Fuzz(func(t *testing.T, state, response, other string) {
		w := r.post("/t/acme/saml/corp/acs", form, url.Values{"SAMLResponse": {response}, "RelayState": {state}, other: {state}}.Encode())
		to := w.Header().Get("Location")
		if w.Code >= 500 || w.Header().Get("Set-Cookie") != "" || to != "" && !ours.MatchString(to) || to != "" != (w.Code == http.StatusSeeOther) {
			t.Errorf("RelayState %q: %d to %q", state, w.Code, to)
		}
	})
}
