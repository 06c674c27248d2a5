package runtimeapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
)

// maxPayload bounds a request and a response, in bytes, as Lambda does: 6 MB.
const maxPayload = 6_000_000

// Gateway stands before functions as an HTTP API of Amazon API Gateway does, with its payload format 2.0: it knows routes,
// joins what is repeated among the headers, takes cookies apart, decodes the path, and cuts off what a decoded question mark
// leaves behind. Routes are patterns of net/http, each with the name of its function; a slash at the end of a path does not
// count. Parameters are taken from the path as it was sent, and decoded once, as Amazon documents it. The service itself was
// seen to decode a path before it looks for the route, and once more behind it, so that a name with a slash, a question mark
// or a percent sign gets lost there (https://github.com/hotsock/voker/pull/8); here it arrives, for the adapter to be tried on.
type Gateway struct {
	Routes map[string]string
	Invoke func(ctx context.Context, function string, event []byte) ([]byte, error)
	Log    *slog.Logger
}

// Handler serves the routes. What no route takes is answered by the gateway itself.
func (g Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, function := range g.Routes {
		serve := func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, function) }
		mux.HandleFunc(pattern, serve)
		slashed := pattern + "/{$}"
		if _, own := g.Routes[slashed]; !own && !strings.HasSuffix(pattern, "/") && !strings.HasSuffix(pattern, "$}") && !strings.HasSuffix(pattern, "...}") {
			mux.HandleFunc(slashed, serve)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			problem(w, http.StatusNotFound, "Not Found")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (g Gateway) serve(w http.ResponseWriter, r *http.Request, function string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		return
	}
	event, err := json.Marshal(event(r, body))
	if err != nil {
		problem(w, http.StatusBadRequest, "Bad Request")
		return
	}
	out, err := g.Invoke(r.Context(), function, event)
	var res awsevents.APIGatewayV2HTTPResponse
	if err == nil {
		err = json.Unmarshal(out, &res)
	}
	if err != nil {
		g.Log.Error("a function failed", "function", function, "error", err)
		problem(w, http.StatusInternalServerError, "Internal Server Error")
		return
	}
	if err := respond(w, res); err != nil {
		g.Log.Error("a function's answer is malformed", "function", function, "error", err)
	}
}

// route is the key of the route that a request took, as API Gateway spells it, and the values of its parameters.
func route(r *http.Request) (key string, values map[string]string) {
	method, path, given := strings.Cut(r.Pattern, " ")
	switch {
	case !given:
		method, path = "ANY", r.Pattern
	case method == http.MethodGet && r.Method == http.MethodHead:
		method = http.MethodHead // a pattern of net/http takes both; in front of the cloud's functions each has its route
	}
	path = strings.TrimSuffix(path, "{$}")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/") // there are no routes that end in one
	}
	for _, s := range strings.Split(path, "/") {
		if name, variable := strings.CutPrefix(s, "{"); variable {
			if values == nil {
				values = map[string]string{}
			}
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			values[name] = r.PathValue(name)
		}
	}
	return method + " " + strings.ReplaceAll(path, "...}", "+}"), values
}

// event is a request in payload format 2.0.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
func event(r *http.Request, body []byte) awsevents.APIGatewayV2HTTPRequest {
	path, _, _ := strings.Cut(r.URL.Path, "?")
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	key, values := route(r)
	ev := awsevents.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: key, PathParameters: values, RawPath: path, RawQueryString: r.URL.RawQuery, Headers: map[string]string{},
		RequestContext: awsevents.APIGatewayV2HTTPRequestContext{
			RouteKey: key, Stage: "$default", APIID: "local", DomainName: host, RequestID: strconv.FormatInt(time.Now().UnixNano(), 36),
			TimeEpoch: time.Now().UnixMilli(),
			HTTP:      awsevents.APIGatewayV2HTTPRequestContextHTTPDescription{Method: r.Method, Path: path, Protocol: r.Proto, SourceIP: address, UserAgent: r.UserAgent()},
		},
	}
	for name, values := range r.Header {
		if name == "Cookie" {
			for _, c := range r.Cookies() {
				ev.Cookies = append(ev.Cookies, c.Name+"="+c.Value)
			}
			continue
		}
		ev.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	ev.Headers["host"] = r.Host
	ev.Headers["x-forwarded-for"] = strings.TrimPrefix(ev.Headers["x-forwarded-for"]+", "+address, ", ")
	ev.Headers["x-forwarded-proto"] = "https"
	switch {
	case len(body) == 0:
	case plain(r.Header.Get("Content-Type")):
		ev.Body = string(body)
	default:
		ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return ev
}

// plain says whether the gateway hands over a body of that type as it is. Forms it does not.
func plain(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasPrefix(t, "text/") || t == "application/json" || t == "application/xml" || t == "application/javascript")
}

func respond(w http.ResponseWriter, res awsevents.APIGatewayV2HTTPResponse) error {
	body := []byte(res.Body)
	if res.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(res.Body); err != nil {
			problem(w, http.StatusInternalServerError, "Internal Server Error")
			return err
		}
	}
	for name, value := range res.Headers {
		w.Header().Set(name, value)
	}
	for name, values := range res.MultiValueHeaders {
		for _, v := range values {
			w.Header().Add(name, v)
		}
	}
	for _, c := range res.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(body) // the client went away; there is nobody to tell
	return nil
}

// problem is an answer of the gateway's own.
func problem(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message}) // as above
}
