package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	awsevents "github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"
)

// maxAnswer bounds an answer with everything around it, in bytes: Lambda refuses one over 6 MB after the fact, and the
// client would be told of a fault of ours without a word in the log.
const maxAnswer = 6_000_000

// StartHTTP answers HTTP events with h until the platform ends the process.
func (r Runtime) StartHTTP(h http.Handler) { awslambda.Start(r.HTTP(h)) }

// HTTP adapts a handler to HTTP events: API Gateway's HTTP APIs and function URLs, both in payload format 2.0. The format 1.0
// of REST APIs and load balancers is refused by name: it spells the path, the query and the address otherwise, and a request
// of it that was read as 2.0 would be one for "/". The client's address is the one that the front door saw, never a header's.
//
// Format 2.0 cannot carry a header that comes twice: its values are joined by commas, in both directions, but for cookies,
// which are apart. So a second Authorization header is a malformed one here, and is refused as two would be.
func (r Runtime) HTTP(h http.Handler) func(context.Context, awsevents.APIGatewayV2HTTPRequest) (awsevents.APIGatewayV2HTTPResponse, error) {
	return invocation(r, func(ctx context.Context, ev awsevents.APIGatewayV2HTTPRequest) (awsevents.APIGatewayV2HTTPResponse, error) {
		req, err := request(ctx, ev)
		if err != nil {
			log().ErrorContext(ctx, "an HTTP event that is none", "error", err)
			return problem(http.StatusBadRequest, "malformed request"), nil
		}
		w := &recorder{header: http.Header{}}
		if err := safely(ctx, func() error { h.ServeHTTP(w, req); return nil }); err != nil {
			return problem(http.StatusInternalServerError, "Something went wrong on our side."), nil
		}
		res, err := w.response(req.Method)
		if err != nil {
			log().ErrorContext(ctx, "an answer that Lambda would not take", "error", err)
			return problem(http.StatusInternalServerError, "Something went wrong on our side."), nil
		}
		return res, nil
	})
}

func problem(status int, message string) awsevents.APIGatewayV2HTTPResponse {
	return awsevents.APIGatewayV2HTTPResponse{
		StatusCode: status, Body: fmt.Sprintf(`{"code":%d,"message":%q}`, status, message),
		Headers: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"},
	}
}

func request(ctx context.Context, ev awsevents.APIGatewayV2HTTPRequest) (*http.Request, error) {
	if ev.Version != "2.0" {
		return nil, fmt.Errorf("lambda: payload format %.8q; set the integration's payload_format_version to 2.0", ev.Version)
	}
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return nil, errors.New("lambda: the body is not base64") // the decoder's words quote it
		}
	}
	u, err := target(ev)
	if err != nil {
		return nil, err
	}
	r := (&http.Request{
		Method:        ev.RequestContext.HTTP.Method,
		URL:           u,
		RequestURI:    u.RequestURI(),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		RemoteAddr:    net.JoinHostPort(ev.RequestContext.HTTP.SourceIP, "0"),
	}).WithContext(ctx)
	for name, value := range ev.Headers {
		r.Header.Set(name, value)
	}
	if len(ev.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(ev.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	if r.Host == "" {
		r.Host = ev.RequestContext.DomainName
	}
	r.Header.Del("Host")
	return r, nil
}

// recorder is the http.ResponseWriter behind an answer, which Lambda hands over whole.
type recorder struct {
	header http.Header
	sent   http.Header // the header as it was when the status was written
	status int
	body   bytes.Buffer
	over   bool
}

var errTooLong = errors.New("lambda: the answer is over Lambda's 6 MB")

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) { // 1xx are not the answer
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.over = w.over || w.body.Len()+len(p) > maxAnswer; w.over {
		return 0, errTooLong
	}
	return w.body.Write(p)
}

// response is the answer in format 2.0. It has no body where HTTP has none (RFC 9110 §9.3.2, §15.3.5, §15.4.5): the front
// door would send it.
func (w *recorder) response(method string) (awsevents.APIGatewayV2HTTPResponse, error) {
	w.WriteHeader(http.StatusOK)
	res := awsevents.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: map[string]string{}}
	if w.over {
		return res, errTooLong
	}
	for name, values := range w.sent {
		if name == "Set-Cookie" {
			res.Cookies = values // apart, since cookies cannot be joined
			continue
		}
		res.Headers[name] = strings.Join(values, ", ")
	}
	if method == http.MethodHead || w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return res, nil
	}
	b := w.body.Bytes()
	if _, given := w.sent["Content-Type"]; !given && len(b) > 0 {
		res.Headers["Content-Type"] = http.DetectContentType(b) // as net/http does; the front door would say application/json
	}
	if utf8.Valid(b) && w.sent.Get("Content-Encoding") == "" {
		res.Body = string(b)
	} else {
		res.Body, res.IsBase64Encoded = base64.StdEncoding.EncodeToString(b), true
	}
	if len(b) > maxAnswer/8 { // JSON may write six bytes for one, and base64 four for three
		if whole, err := json.Marshal(res); err != nil || len(whole) > maxAnswer {
			return awsevents.APIGatewayV2HTTPResponse{}, errTooLong
		}
	}
	return res, nil
}
