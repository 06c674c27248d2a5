package lambda_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/lambda"
)

// sample reads an event as Amazon's documentation shows it:
// https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html,
// https://docs.aws.amazon.com/lambda/latest/dg/with-ddb-example.html, https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html,
// https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html.
func sample[T any](t testing.TB, name string) (ev T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err == nil {
		err = json.Unmarshal(data, &ev)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// logged makes the default log the test's.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

type seen struct{ Method, Path, Query, Host, Address, Body, Cookies, Header string }

func serve(t *testing.T, ev awsevents.APIGatewayV2HTTPRequest, header string) (got seen) {
	t.Helper()
	h := lambda.Runtime{}.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var cookies []string
		for _, c := range r.Cookies() {
			cookies = append(cookies, c.Name+c.Value)
		}
		got = seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.RemoteAddr, string(body), strings.Join(cookies, ","), strings.Join(r.Header.Values(header), "|")}
	}))
	if res, err := h(t.Context(), ev); err != nil || res.StatusCode != 200 {
		t.Fatalf("%+v %v", res, err)
	}
	return got
}

// The two front doors' own samples become the requests that they were.
func TestRequests(t *testing.T) {
	for name, want := range map[string]seen{
		"function-url": {"POST", "/my/path", "parameter1=value1&parameter1=value2&parameter2=value", "<url-id>.lambda-url.us-west-2.on.aws",
			"123.123.123.123:0", "Hello from client!", "cookie11,cookie22", "value1,value2"},
		// The path came decoded, and no longer decodes.
		"http-api": {"PUT", "/t/acme/users/ada b%c", "", "aaaaaaaaaa.execute-api.us-west-2.amazonaws.com", "1.2.3.4:0", "hello", "", "Bearer a,Bearer b"},
	} {
		header := map[string]string{"function-url": "Header2", "http-api": "Authorization"}[name]
		if diff := cmp.Diff(want, serve(t, sample[awsevents.APIGatewayV2HTTPRequest](t, name), header)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A path means what it says, whatever it decodes to: a function URL's as it was sent, an HTTP API's as it came, decoded.
func TestPaths(t *testing.T) {
	const api, functionURL = "aaaaaaaaaa.execute-api.us-west-2.amazonaws.com", "abc.lambda-url.us-west-2.on.aws"
	for _, tt := range []struct{ domain, route, raw, want string }{
		{functionURL, "$default", "/t/acme/a%2Fb", "/t/acme/a%2Fb"}, {functionURL, "$default", "/t/%61cme", "/t/%61cme"}, {functionURL, "", "/a%2541", "/a%2541"},
		{functionURL, "$default", "", "/"}, {functionURL, "$default", "/100%", "/100%25"}, {functionURL, "$default", "/a/", "/a/"},
		{api, "$default", "/a%41", "/a%2541"}, {api, "$default", "/a b", "/a%20b"}, {api, "$default", "/a?b=c", "/a%3Fb=c"}, {api, "$default", "/100%", "/100%25"},
		{api, "$default", "/é", "/%C3%A9"}, {api, "", "//x", "//x"}, {api, "", "", "/"}, {"abc.lambda-url.us-west-2.on.aws.example.com", "$default", "/a%41", "/a%2541"},
	} {
		ev := awsevents.APIGatewayV2HTTPRequest{Version: "2.0", RouteKey: tt.route, RawPath: tt.raw, RawQueryString: "q=1"}
		ev.RequestContext.DomainName = tt.domain
		var got, query string
		h := lambda.Runtime{}.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, query = r.URL.EscapedPath(), r.URL.RawQuery }))
		if _, err := h(t.Context(), ev); err != nil || got != tt.want || query != "q=1" {
			t.Errorf("%+v: path %q and query %q (%v)", tt, got, query, err)
		}
	}
}

// Behind a route the path is the route's, with its parameters as they were sent, whatever the decoded path looks like. Parameters
// that are not the route's are no request.
func TestRoutedPaths(t *testing.T) {
	logged(t)
	const group, member = "DELETE /t/{tenant}/groups/{name}", "DELETE /t/{tenant}/groups/{name}/members/{email}"
	of := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i+1 < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		route, raw string
		values     map[string]string
		want       string // "": refused
	}{
		{group, "/t/acme/groups/dev", of("tenant", "acme", "name", "dev"), "/t/acme/groups/dev"},
		{group, "/t/acme/groups/a%41", of("tenant", "acme", "name", "a%41"), "/t/acme/groups/a%2541"},
		{group, "/t/acme/groups/dev/members/eve@x", of("tenant", "acme", "name", "dev/members/eve@x"), "/t/acme/groups/dev%2Fmembers%2Feve@x"},
		{group, "/t/acme/groups/what", of("tenant", "acme", "name", "what?now"), "/t/acme/groups/what%3Fnow"},
		{group, "/t/acme/groups/..", of("tenant", "acme", "name", ".."), "/t/acme/groups/%2E%2E"},
		{group, "/t/acme/groups/dev/", of("tenant", "acme", "name", "dev"), "/t/acme/groups/dev"},
		{member, "/t/acme/groups/dev/members/eve@x", of("tenant", "acme", "name", "dev", "email", "eve@x"), "/t/acme/groups/dev/members/eve@x"},
		{"GET /t/{tenant}", "/t/acme/", of("tenant", "acme"), "/t/acme"},
		{"ANY /{proxy+}", "/a b/c%41", of("proxy", "a b/c%41/.."), "/a%20b/c%2541/%2E%2E"},
		{"GET /", "/", nil, "/"}, {"GET /t/.well-known/x", "/t/.well-known/x", nil, "/t/.well-known/x"},

		{group, "/t/acme/groups/dev", of("tenant", "acme"), ""}, {group, "/t/acme/groups/", of("tenant", "acme", "name", ""), ""},
		{group, "/t/acme/groups/dev", of("tenant", "acme", "name", "dev", "email", "eve@x"), ""}, {group, "/t/acme/groups/dev", of("tenant", "acme", "group", "dev"), ""},
		{group, "/t/acme/groups/dev", nil, ""}, {"nonsense", "/t/acme/groups/dev", nil, ""}, {"GET t", "/t", nil, ""},
	} {
		got := ""
		h := lambda.Runtime{}.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.EscapedPath() }))
		res, err := h(t.Context(), awsevents.APIGatewayV2HTTPRequest{Version: "2.0", RouteKey: tt.route, RawPath: tt.raw, PathParameters: tt.values})
		if err != nil || got != tt.want || (res.StatusCode == 400) != (tt.want == "") {
			t.Errorf("%s at %q with %v: path %q, status %d (%v), want %q", tt.route, tt.raw, tt.values, got, res.StatusCode, err, tt.want)
		}
	}
}

// What is no request in format 2.0 is refused and never served as one for "/"; the log says what to mend.
func TestRefused(t *testing.T) {
	log := logged(t)
	h := lambda.Runtime{}.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
	for name, ev := range map[string]awsevents.APIGatewayV2HTTPRequest{
		"format 1.0": sample[awsevents.APIGatewayV2HTTPRequest](t, "rest-api"),
		"no format":  {}, "no base64": {Version: "2.0", Body: "SECRET!", IsBase64Encoded: true}, "no path": {Version: "2.0", RawPath: "x"},
	} {
		log.Reset()
		res, err := h(t.Context(), ev)
		if err != nil || res.StatusCode != 400 || !strings.Contains(res.Body, `"code":400`) || !strings.Contains(log.String(), "lambda: ") || strings.Contains(log.String(), "SECRET") {
			t.Errorf("%s: %+v %v; log %s", name, res, err, log)
		}
	}
}

func answer(t *testing.T, method string, h http.HandlerFunc) awsevents.APIGatewayV2HTTPResponse {
	t.Helper()
	ev := sample[awsevents.APIGatewayV2HTTPRequest](t, "function-url")
	ev.RequestContext.HTTP.Method = method
	res, err := lambda.Runtime{}.HTTP(h)(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// An answer arrives as net/http would send it: repeated headers joined, cookies apart, no body where there is none, what is
// not text as base64, and nothing that was set after the status.
func TestAnswers(t *testing.T) {
	redirect := answer(t, "POST", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "s=1")
		w.Header().Add("Set-Cookie", "t=2")
		w.Header().Add("Vary", "A")
		w.Header().Add("Vary", "B")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusSeeOther)
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "1")
		_, _ = io.WriteString(w, "bye")
	})
	want := awsevents.APIGatewayV2HTTPResponse{StatusCode: 303, Body: "bye", Cookies: []string{"s=1", "t=2"}, Headers: map[string]string{"Vary": "A, B", "Content-Type": "text/plain; charset=utf-8"}}
	if diff := cmp.Diff(want, redirect); diff != "" {
		t.Errorf("redirect (-want +got):\n%s", diff)
	}
	write := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			if status != 0 {
				w.WriteHeader(status)
			}
			_, _ = io.WriteString(w, body)
		}
	}
	binary := string([]byte{0xff, 0})
	for _, tt := range []struct {
		name   string
		method string
		h      http.HandlerFunc
		status int
		body   string
		base64 bool
	}{
		{"nothing said", "GET", func(http.ResponseWriter, *http.Request) {}, 200, "", false},
		{"text", "GET", write(0, "hé"), 200, "hé", false},
		{"binary", "GET", write(0, binary), 200, base64.StdEncoding.EncodeToString([]byte(binary)), true},
		{"encoded", "GET", write(0, "xy", "Content-Encoding", "br"), 200, "eHk=", true},
		{"HEAD", "HEAD", write(0, "body", "Etag", `"x"`), 200, "", false},
		{"204", "DELETE", write(204, "body"), 204, "", false},
		{"304", "GET", write(304, "body"), 304, "", false},
	} {
		res := answer(t, tt.method, tt.h)
		if res.StatusCode != tt.status || res.Body != tt.body || res.IsBase64Encoded != tt.base64 {
			t.Errorf("%s: %+v", tt.name, res)
		}
	}
	if res := answer(t, "HEAD", write(0, "body", "Etag", `"x"`)); res.Headers["Etag"] != `"x"` {
		t.Errorf("HEAD lost its headers: %v", res.Headers)
	}
}

// Lambda takes 6 MB; the answer that is over it in its own encoding becomes a failure that the log knows of.
func TestAnswerTooLong(t *testing.T) {
	log := logged(t)
	for _, tt := range []struct {
		name string
		body string
		ok   bool
	}{
		{"just fits", strings.Repeat("x", 5_900_000), true},
		{"over", strings.Repeat("x", 6_000_001), false},
		{"over in base64", strings.Repeat("\xff", 5_000_000), false},
		{"over in JSON", strings.Repeat("\x01", 1_200_000), false},
		{"fits in base64", strings.Repeat("\xff", 4_000_000), true},
	} {
		log.Reset()
		res := answer(t, "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tt.body) })
		if whole, _ := json.Marshal(res); len(whole) > 6_000_000 || (res.StatusCode == 200) != tt.ok || (log.Len() == 0) != tt.ok {
			t.Errorf("%s: status %d, %d bytes, log %.100s", tt.name, res.StatusCode, len(whole), log)
		}
	}
}

// A handler that panics, as net/http allows one to in order to drop the connection, ends its own request only.
func TestPanic(t *testing.T) {
	log := logged(t)
	for _, p := range []any{http.ErrAbortHandler, "CANARY"} {
		res := answer(t, "GET", func(http.ResponseWriter, *http.Request) { panic(p) })
		if res.StatusCode != 500 || strings.Contains(res.Body, "CANARY") {
			t.Errorf("%+v", res)
		}
	}
	if strings.Contains(log.String(), "CANARY") || !strings.Contains(log.String(), `"panic"`) {
		t.Errorf("log %s", log)
	}
}

func FuzzHTTP(f *testing.F) {
	for _, name := range []string{"function-url", "http-api", "rest-api"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, data []byte) {
		var ev awsevents.APIGatewayV2HTTPRequest
		if json.Unmarshal(data, &ev) != nil {
			return
		}
		h := lambda.Runtime{}.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL == nil || !strings.HasPrefix(r.URL.Path, "/") || r.URL.Host != "" || r.URL.RawQuery != ev.RawQueryString {
				t.Errorf("handler got URL %v", r.URL)
			}
		}))
		if _, err := h(context.Background(), ev); err != nil {
			t.Error(err)
		}
	})
}
