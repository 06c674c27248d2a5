package api_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func TestParseServer(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{"https://fleetpass.example.com/t/acme", "https://fleetpass.example.com/t/acme"},
		{"https://fleetpass.example.com/t/acme/", "https://fleetpass.example.com/t/acme"},
		{"https://acme.example.com", "https://acme.example.com"},
		{"http://localhost:8080/t/acme", "http://localhost:8080/t/acme"},
		{"http://127.0.0.1:8080/t/acme", "http://127.0.0.1:8080/t/acme"},
		{"http://[::1]:8080/t/acme", "http://[::1]:8080/t/acme"},
		{"http://fleetpass.example.com/t/acme", ""}, // a token would travel in the clear
		{"http://localhost.example.com/t/acme", ""},
		{"ftp://localhost/t/acme", ""},
		{"fleetpass.example.com", ""},
		{"https://ada:secret@fleetpass.example.com/t/acme", ""},
		{"https://fleetpass.example.com/t/acme?x=y", ""},
		{"https://fleetpass.example.com/t/acme#x", ""},
		{"https:fleetpass", ""},
		{"", ""},
	} {
		got, err := api.ParseServer("--server", tt.in)
		if got != tt.out || (err == nil) != (tt.out != "") {
			t.Errorf("ParseServer(%q) = %q, %v; want %q", tt.in, got, err, tt.out)
		}
		if err != nil && (!errors.Is(err, core.Invalid) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("ParseServer(%q): %v", tt.in, err)
		}
	}
}

// server is one that is trusted through its own CA.
func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, *http.Client) {
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	h2, err := api.NewHTTPClient(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h2.CloseIdleConnections)
	return s, h2
}

func client(s *httptest.Server, h *http.Client) *api.Client {
	return &api.Client{Server: s.URL + "/t/acme", HTTP: h, Token: func(context.Context) (string, error) { return "canary-token", nil }}
}

func TestRefusalsKeepTheirKind(t *testing.T) {
	var status int
	var body string
	s, h := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	c := client(s, h)
	for _, tt := range []struct {
		status  int
		body    string
		kind    core.Kind
		message string
	}{
		{403, `{"code":403,"message":"you may not","details":{"kind":"denied"},"later":1}`, core.Denied, "you may not"},
		{404, `{"code":404,"message":"no such rule"}`, core.NotFound, "no such rule"},
		{409, `{"code":409,"message":"taken","details":{"kind":"already exists"}}`, core.Exists, "taken"},
		{400, `{"code":400,"message":"roleId: …","details":{"kind":"invalid","field":"roleId"}}`, core.Invalid, "roleId: …"},
		{503, `{"code":503,"message":"later"}`, core.Unavailable, "later"},
		{502, `<html>canary-token</html>`, core.Unavailable, "502 Bad Gateway"},
		{401, ``, core.Unauthenticated, "is this the URL of a tenant?"},
	} {
		status, body = tt.status, tt.body
		_, err := c.Me(t.Context())
		var refusal *api.ResponseError
		if !errors.Is(err, tt.kind) || !errors.As(err, &refusal) || refusal.Status != tt.status || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%d %s: %v", tt.status, tt.body, err)
		}
		if strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("the error repeats a token: %v", err)
		}
	}
}

func TestTokensDoNotTravel(t *testing.T) {
	t.Run("by redirect", func(t *testing.T) {
		elsewhere, _ := server(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("a request reached elsewhere: %s", r.Header) })
		s, h := server(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		})
		if _, err := client(s, h).Me(t.Context()); err == nil {
			t.Error("a redirect was taken for an answer")
		}
	})
	t.Run("to a server that is not trusted", func(t *testing.T) {
		s, _ := server(t, func(http.ResponseWriter, *http.Request) { t.Error("a request reached a server that is not trusted") })
		strict, err := api.NewHTTPClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client(s, strict).Me(t.Context())
		if !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("into errors", func(t *testing.T) {
		s, h := server(t, nil)
		s.Close()
		_, err := client(s, h).Me(t.Context())
		if !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "cannot reach "+s.URL) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPagesAreFollowed(t *testing.T) {
	const total = 2*api.MaxLimit + 3
	var cursors []string
	s, h := server(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		cursors = append(cursors, q.Get("cursor"))
		var from int
		fmt.Sscan(q.Get("cursor"), &from)
		if q.Get("subjectIds") != "ada@example.com" || q.Has("offset") {
			t.Errorf("asked for %s", r.URL.RawQuery)
		}
		end := min(from+api.MaxLimit, total)
		if end < total {
			w.Header().Set(api.HeaderNext, fmt.Sprint(end))
		}
		fmt.Fprint(w, `{"totalRecords":0,"accessRules":[`)
		for i := from; i < end; i++ {
			if i > from {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, `{"id":%d}`, i)
		}
		fmt.Fprint(w, `]}`)
	})
	n := 0
	for rule, err := range client(s, h).AccessRules(t.Context(), url.Values{"subjectIds": {"ada@example.com"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if int(rule.ID) != n {
			t.Fatalf("rule %d at place %d", rule.ID, n)
		}
		n++
	}
	if n != total || strings.Join(cursors, ",") != ",500,1000" {
		t.Errorf("%d rules of %d, by cursors %q", n, total, cursors)
	}
}

// A page may hold nothing although there is more: a filter looks only so far at once.
func TestEmptyPageIsNotTheEnd(t *testing.T) {
	s, h := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("cursor") == "" {
			fmt.Fprint(w, `{"projects":[],"next":"more"}`)
			return
		}
		fmt.Fprint(w, `{"projects":[{"id":"p"}]}`)
	})
	n := 0
	for _, err := range client(s, h).Projects(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d projects, want 1", n)
	}
}

func TestDiscovery(t *testing.T) {
	var document func(self string) string
	var self string
	s, h := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/t/acme/.well-known/openid-configuration" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, document(self))
	})
	self = s.URL + "/t/acme"
	good := func(self string) string {
		return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"revocation_endpoint":%q,"jwks_uri":%q,"grant_types_supported":[]}`,
			self, self+"/authorize", self+"/token", self+"/revoke", self+"/jwks")
	}
	document = good
	i, err := api.Discover(t.Context(), h, self)
	if err != nil {
		t.Fatal(err)
	}
	if d := (i.Skew - time.Hour).Abs(); d > 5*time.Second {
		t.Errorf("the server's clock is an hour ahead, and %s is said", i.Skew)
	}
	u, err := url.Parse(i.AuthorizationURL("http://127.0.0.1:9/callback", "st", "no", "ch"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") != "ch" || q.Get("state") != "st" || q.Get("nonce") != "no" || q.Get("response_type") != "code" {
		t.Errorf("authorization request %s", u)
	}
	for name, bad := range map[string]func(string) string{
		"another issuer":   func(s string) string { return strings.Replace(good(s), `"issuer":"`+s, `"issuer":"`+s+"x", 1) },
		"a plain endpoint": func(s string) string { return strings.Replace(good(s), s+"/token", "http://example.com/token", 1) },
		"no endpoint":      func(s string) string { return strings.Replace(good(s), s+"/token", "", 1) },
		"no JSON":          func(string) string { return "<html>" },
	} {
		document = bad
		if _, err := api.Discover(t.Context(), h, self); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestTokenEndpoint(t *testing.T) {
	var status int
	var body string
	var got url.Values
	s, h := server(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r.PostForm
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	i := &api.Issuer{URL: s.URL, Token: s.URL + "/token", Revocation: s.URL + "/revoke", HTTP: h}
	status, body = 200, `{"access_token":"a","token_type":"Bearer","expires_in":300,"issued_token_type":"x"}`
	begun := time.Now()
	tokens, err := i.ClusterToken(t.Context(), "subject", "11111111-1111-4111-8111-111111111111")
	if err != nil || tokens.Access != "a" || tokens.Expires.Before(begun.Add(299*time.Second)) || tokens.Expires.After(time.Now().Add(300*time.Second)) {
		t.Errorf("%+v %v", tokens, err)
	}
	want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"subject"},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {"11111111-1111-4111-8111-111111111111"}, "client_id": {api.ClientID}}
	if got.Encode() != want.Encode() {
		t.Errorf("asked with %s, want %s", got.Encode(), want.Encode())
	}
	status, body = 400, `{"error":"invalid_request","error_description":"subject_token"}`
	if _, err := i.ClusterToken(t.Context(), "canary", "11111111-1111-4111-8111-111111111111"); !errors.Is(err, core.Unauthenticated) || strings.Contains(err.Error(), "canary") {
		t.Errorf("an access token that is not good any more: %v", err)
	}
	for _, tt := range []struct {
		status int
		body   string
		kind   core.Kind
	}{
		{400, `{"error":"invalid_grant","error_description":"expired"}`, core.Unauthenticated},
		{400, `{"error":"invalid_target"}`, core.Denied},
		{400, `{"error":"invalid_request"}`, core.Invalid},
		{429, `{"error":"slow_down"}`, core.Throttled},
		{503, `{"error":"temporarily_unavailable"}`, core.Unavailable},
		{503, `oops`, core.Unavailable},
	} {
		status, body = tt.status, tt.body
		if _, err := i.Refreshed(t.Context(), "canary-refresh"); !errors.Is(err, tt.kind) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d %s: %v, want %s", tt.status, tt.body, err, tt.kind)
		}
	}
	for _, body = range []string{`{}`, `{"access_token":"canary"}`, `{"access_token":["canary"]}`, `nonsense canary`} {
		status = 200
		if _, err := i.Refreshed(t.Context(), "r"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
