// Package lambda runs Fleetpass's handlers on AWS Lambda (aws-lambda-go). It turns API Gateway v2 and function URL events
// (payload format 2.0, the same for both), DynamoDB stream batches, SQS batches and schedules into plain calls, and knows
// nothing of what the handlers do.
package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	awsevents "github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"
)

// ServeHTTP answers HTTP events with h until the platform ends the process.
func ServeHTTP(h http.Handler) { awslambda.Start(HTTP(h)) }

// HTTP adapts a handler to HTTP events. The client's address is the one that the front door saw, never a header's.
func HTTP(h http.Handler) func(context.Context, awsevents.APIGatewayV2HTTPRequest) (awsevents.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, ev awsevents.APIGatewayV2HTTPRequest) (awsevents.APIGatewayV2HTTPResponse, error) {
		r, err := request(ctx, ev)
		if err != nil {
			return awsevents.APIGatewayV2HTTPResponse{StatusCode: http.StatusBadRequest, Body: `{"code":400,"message":"malformed request"}`,
				Headers: map[string]string{"Content-Type": "application/json"}}, nil
		}
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, r)
		return w.response(), nil
	}
}

func request(ctx context.Context, ev awsevents.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return nil, fmt.Errorf("lambda: body: %w", err)
		}
	}
	target := ev.RawPath
	if target == "" {
		target = "/"
	}
	if ev.RawQueryString != "" {
		target += "?" + ev.RawQueryString
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("lambda: path: %w", err)
	}
	r := (&http.Request{
		Method:        ev.RequestContext.HTTP.Method,
		URL:           u,
		RequestURI:    target,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		RemoteAddr:    net.JoinHostPort(ev.RequestContext.HTTP.SourceIP, "0"),
	}).WithContext(ctx)
	for name, value := range ev.Headers {
		r.Header.Set(name, value) // the platform has joined repeated headers with commas
	}
	if len(ev.Cookies) > 0 { // and taken the cookies apart
		r.Header.Set("Cookie", strings.Join(ev.Cookies, "; "))
	}
	r.Host = r.Header.Get("Host")
	if r.Host == "" {
		r.Host = ev.RequestContext.DomainName
	}
	r.Header.Del("Host")
	return r, nil
}

// recorder is the http.ResponseWriter behind a buffered response: Lambda hands over whole bodies, of at most 6 MB.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *recorder) response() awsevents.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK)
	res := awsevents.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: map[string]string{}}
	for name, values := range w.header {
		if name == "Set-Cookie" {
			res.Cookies = values // format 2.0 takes cookies apart from the headers, since they cannot be joined
			continue
		}
		res.Headers[name] = strings.Join(values, ", ")
	}
	if b := w.body.Bytes(); utf8.Valid(b) {
		res.Body = string(b)
	} else {
		res.Body, res.IsBase64Encoded = base64.StdEncoding.EncodeToString(b), true
	}
	return res
}
