package runtimeapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

// through serves a handler as it is served in the cloud: behind the gateway, as events.
func through(t *testing.T, routes map[string]string, h http.Handler) *httptest.Server {
	t.Helper()
	handle := lambda.Runtime{}.HTTP(h)
	g := runtimeapi.Gateway{Routes: routes, Log: slog.New(slog.DiscardHandler), Invoke: func(ctx context.Context, function string, event []byte) ([]byte, error) {
		if function == "broken" {
			return nil, errors.New("it is broken")
		}
		var ev awsevents.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(event, &ev); err != nil {
			return nil, err
		}
		res, err := handle(ctx, ev)
		if err != nil {
			return nil, err
		}
		return json.Marshal(res)
	}}
	s := httptest.NewServer(g.Handler())
	t.Cleanup(s.Close)
	return s
}

// What a client sends comes through the gateway to the handler, and what the handler answers comes back.
func TestGateway(t *testing.T) {
	type seen struct {
		Method, Path, Query, Host, Type, Body string
		Cookies                               []string
	}
	var got seen
	s := through(t, map[string]string{"POST /t/{tenant}/token": "token", "GET /t/{tenant}/jwks": "jwks", "GET /t/{tenant}/broken": "broken"},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = seen{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Host: r.Host, Type: r.Header.Get("Content-Type"), Body: string(body)}
			for _, c := range r.Cookies() {
				got.Cookies = append(got.Cookies, c.String())
			}
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, "made")
		}))
	r, err := http.NewRequest("POST", s.URL+"/t/acme/token?x=%20&y=1", strings.NewReader("grant_type=x&scope=a%20b"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", "s=1; t=2")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	want := seen{"POST", "/t/acme/token", "x=%20&y=1", strings.TrimPrefix(s.URL, "http://"), "application/x-www-form-urlencoded", "grant_type=x&scope=a%20b", []string{"s=1", "t=2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the handler saw (-want +got):\n%s", diff)
	}
	if res.StatusCode != http.StatusCreated || string(body) != "made" || len(res.Cookies()) != 2 {
		t.Errorf("the client saw %d %q %v", res.StatusCode, body, res.Cookies())
	}
	for path, want := range map[string]int{"/t/acme/nothing": 404, "/t/acme/broken": 500} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	res, err = http.Post(s.URL+"/t/acme/token", "application/json", strings.NewReader(strings.Repeat(" ", 7_000_000)))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("seven megabytes: %d", res.StatusCode)
	}
}

// groups stands for the admin function: two routes that a name must not lead from one to the other.
func groups(t *testing.T) (send func(method, path string) string) {
	t.Helper()
	paths := []string{"GET /t/{tenant}", "GET /t/{tenant}/{$}", "DELETE /t/{tenant}/groups/{name}", "DELETE /t/{tenant}/groups/{name}/members/{email}", "GET /t/{tenant}/files/{rest...}"}
	routes, mux := map[string]string{}, http.NewServeMux()
	for _, p := range paths {
		routes[p] = "admin"
		mux.HandleFunc(p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"x"`)
			fmt.Fprintf(w, "%s|%s|%s|%s|%s", p, r.PathValue("tenant"), r.PathValue("name"), r.PathValue("email"), r.PathValue("rest"))
		})
	}
	s := through(t, routes, mux)
	return func(method, path string) string {
		r, err := http.NewRequest(method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultTransport.RoundTrip(r) // follows no redirect
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s%s", res.StatusCode, res.Header.Get("Etag"), body)
	}
}

// A name that says something in a path arrives as the name that was sent, at the route that it was sent to: a percent sign is not
// decoded again, which would delete another group, and a slash leads to no other route.
func TestNamesThroughTheGateway(t *testing.T) {
	send := groups(t)
	for _, name := range []string{"dev", "Computer vision", "100%", "a%41", "a%2541", "a+b", "a/b", "dev/members/eve@x", "what?now", "é€", "a;b,c", "..", ".", "a#b", "$default", "{name}"} {
		escaped := url.PathEscape(name)
		if name == "." || name == ".." {
			escaped = strings.ReplaceAll(name, ".", "%2E")
		}
		want := `200 "x"DELETE /t/{tenant}/groups/{name}|acme|` + name + "||"
		if got := send("DELETE", "/t/acme/groups/"+escaped); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		want = `200 "x"DELETE /t/{tenant}/groups/{name}/members/{email}|acme|` + name + "|eve@x|"
		if got := send("DELETE", "/t/acme/groups/"+escaped+"/members/eve@x"); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	for path, want := range map[string]string{
		"/t/acme": "GET /t/{tenant}|acme|||", "/t/acme/": "GET /t/{tenant}|acme|||", "/t/acme/files/a%20b/c%2541": "GET /t/{tenant}/files/{rest...}|acme|||a b/c%41",
	} {
		if got := send("GET", path); got != `200 "x"`+want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// HEAD is answered as GET is, without the body.
func TestHeadThroughTheGateway(t *testing.T) {
	send := groups(t)
	if got := send("HEAD", "/t/acme"); got != `200 "x"` {
		t.Errorf("HEAD: %s", got)
	}
	if got := send("GET", "/t/acme"); got != `200 "x"GET /t/{tenant}|acme|||` {
		t.Errorf("GET: %s", got)
	}
	if got := send("HEAD", "/t/acme/groups/dev"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("HEAD where there is no GET: %s", got)
	}
}

// The routes of the whole table stand beside each other, each with and without a slash at its end.
func TestRoutesOfTheTable(t *testing.T) {
	g := runtimeapi.Gateway{Log: slog.New(slog.DiscardHandler), Routes: map[string]string{}, Invoke: func(_ context.Context, function string, _ []byte) ([]byte, error) {
		return fmt.Appendf(nil, `{"statusCode":200,"body":%q}`, function), nil
	}}
	for _, f := range functions.Table {
		for _, p := range f.Paths {
			g.Routes[p] = f.Name
		}
	}
	h := g.Handler()
	for pattern, function := range g.Routes {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.TrimSuffix(strings.NewReplacer("{$}", "", "{", "", "}", "").Replace(path), "/")
		for _, p := range []string{path, path + "/"} {
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, httptest.NewRequest(method, p, nil)); w.Body.String() != function {
				t.Errorf("%s %s: %d %s, want %s", method, p, w.Code, w.Body, function)
			}
		}
	}
}

// An event has the fields that API Gateway fills, as it spells them.
func TestEvents(t *testing.T) {
	var ev awsevents.APIGatewayV2HTTPRequest
	g := runtimeapi.Gateway{Log: slog.New(slog.DiscardHandler), Invoke: func(_ context.Context, _ string, event []byte) ([]byte, error) {
		ev = awsevents.APIGatewayV2HTTPRequest{}
		return []byte(`{"statusCode":200}`), json.Unmarshal(event, &ev)
	}, Routes: map[string]string{"GET /t/{tenant}/groups/{name}": "f", "GET /t/{tenant}/{$}": "f", "GET /files/{rest...}": "f", "/any": "f", "GET /{$}": "f"}}
	for _, tt := range []struct {
		method, path, route, raw string
		values                   map[string]string
	}{
		{"GET", "/t/acme/groups/a%2541?q=%20", "GET /t/{tenant}/groups/{name}", "/t/acme/groups/a%41", map[string]string{"tenant": "acme", "name": "a%41"}},
		{"GET", "/t/acme/groups/a%3Fb%2Fc", "GET /t/{tenant}/groups/{name}", "/t/acme/groups/a", map[string]string{"tenant": "acme", "name": "a?b/c"}},
		{"GET", "/t/acme/groups/dev/", "GET /t/{tenant}/groups/{name}", "/t/acme/groups/dev/", map[string]string{"tenant": "acme", "name": "dev"}},
		{"HEAD", "/t/acme/groups/dev", "HEAD /t/{tenant}/groups/{name}", "/t/acme/groups/dev", map[string]string{"tenant": "acme", "name": "dev"}},
		{"GET", "/t/acme/", "GET /t/{tenant}", "/t/acme/", map[string]string{"tenant": "acme"}},
		{"GET", "/files/a/b%20c", "GET /files/{rest+}", "/files/a/b c", map[string]string{"rest": "a/b c"}},
		{"PUT", "/any", "ANY /any", "/any", nil}, {"GET", "/", "GET /", "/", nil},
	} {
		g.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(tt.method, tt.path, nil))
		if ev.RouteKey != tt.route || ev.RequestContext.RouteKey != tt.route || ev.RawPath != tt.raw || !cmp.Equal(ev.PathParameters, tt.values) {
			t.Errorf("%s %s: route %q at %q with %v, want %+v", tt.method, tt.path, ev.RouteKey, ev.RawPath, ev.PathParameters, tt)
		}
	}
}
