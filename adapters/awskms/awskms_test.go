package awskms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/awskms"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/keys/keystest"
	standin "github.com/fleetpass/fleetpass/localdev/standin/awskms"
)

const (
	key   = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	other = "arn:aws:kms:us-west-2:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
)

// transport is a function that lies between the SDK and the service.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Requestid": {"request-1"}},
	}
}

// open makes a wrapper as a composition root does, but for the pauses.
func open(t *testing.T, arn, endpoint string, through http.RoundTripper) *awskms.Wrapper {
	t.Helper()
	cfg := aws.Config{
		Region:      "us-west-2",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:  &http.Client{Transport: through},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 5, time.Millisecond })
		},
	}
	w, err := awskms.New(awskms.Client(cfg, endpoint), arn)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func serve(t *testing.T) (*standin.Server, string) {
	server := standin.New(key, other)
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	return server, listening.URL
}

func TestWrapper(t *testing.T) {
	keystest.Run(t, func(t *testing.T) keys.Wrapper {
		_, endpoint := serve(t)
		return open(t, key, endpoint, http.DefaultTransport)
	})
}

// The requests are those of the service's documentation (AWS KMS API Reference, Encrypt and Decrypt), whatever the stand-in
// thinks.
func TestWire(t *testing.T) {
	const blob = "AQICAHhDpZmzSTAxMzQ1Njc4" // stands for a ciphertext
	ciphertext, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		t.Fatal(err)
	}
	for target, tt := range map[string]struct {
		do             func(*awskms.Wrapper) ([]byte, error)
		golden, answer string
		want           string
	}{
		"TrentService.Encrypt": {
			func(w *awskms.Wrapper) ([]byte, error) {
				return w.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("Hello world"))
			},
			`{"KeyId":"` + key + `","Plaintext":"SGVsbG8gd29ybGQ=","EncryptionContext":{"purpose":"signing","tenant":"acme"}}`,
			`{"CiphertextBlob":"` + blob + `","KeyId":"` + key + `","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
			string(ciphertext),
		},
		"TrentService.Decrypt": {
			func(w *awskms.Wrapper) ([]byte, error) {
				return w.Unwrap(t.Context(), keys.PurposeMAC, "acme", ciphertext)
			},
			`{"KeyId":"` + key + `","CiphertextBlob":"` + blob + `","EncryptionContext":{"purpose":"mac","tenant":"acme"}}`,
			`{"KeyId":"` + key + `","Plaintext":"SGVsbG8gd29ybGQ=","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
			"Hello world",
		},
	} {
		var body []byte
		var header http.Header
		var line string
		w := open(t, key, "https://kms.us-west-2.amazonaws.com", transport(func(r *http.Request) (*http.Response, error) {
			header, line = r.Header.Clone(), r.Method+" "+r.URL.String()
			body, _ = io.ReadAll(r.Body)
			return reply(r, 200, tt.answer), nil
		}))
		got, err := tt.do(w)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", target, got, err, tt.want)
		}
		if line != "POST https://kms.us-west-2.amazonaws.com/" {
			t.Errorf("%s: request line %q", target, line)
		}
		for name, want := range map[string]string{"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"} {
			if header.Get(name) != want {
				t.Errorf("%s: %s: %q, want %q", target, name, header.Get(name), want)
			}
		}
		var have, want any
		if err := errors.Join(json.Unmarshal(body, &have), json.Unmarshal([]byte(tt.golden), &want)); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

// What each of the service's errors becomes, and how often it is asked.
func TestErrors(t *testing.T) {
	const canary = "CANARY-OF-THE-SERVICE"
	for _, tt := range []struct {
		status   int
		code     string
		want     error // nil: internal
		requests int32
	}{
		{400, "InvalidCiphertextException", keys.ErrUnwrap, 1},
		{400, "IncorrectKeyException", keys.ErrUnwrap, 1},
		{400, "NotFoundException", keys.ErrUnwrap, 1},
		{400, "AccessDeniedException", nil, 1},
		{400, "DisabledException", nil, 1},
		{400, "KMSInvalidStateException", nil, 1},
		{400, "InvalidKeyUsageException", nil, 1},
		{400, "ValidationException", nil, 1},
		{400, "UnrecognizedClientException", nil, 1},
		{400, "ThrottlingException", core.Unavailable, 5},
		{500, "KMSInternalException", core.Unavailable, 5},
		{500, "KeyUnavailableException", core.Unavailable, 5},
		{503, "DependencyTimeoutException", core.Unavailable, 5},
		{500, "InternalFailure", core.Unavailable, 5},
	} {
		var requests atomic.Int32
		w := open(t, key, "http://127.0.0.1:1", transport(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return reply(r, tt.status, `{"__type":"`+tt.code+`","message":"`+canary+`"}`), nil
		}))
		got, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", []byte("wrapped"))
		if err == nil || got != nil || !strings.Contains(err.Error(), tt.code) || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %q, %v", tt.code, got, err)
		}
		if errors.Is(err, keys.ErrUnwrap) != (tt.want == keys.ErrUnwrap) || errors.Is(err, core.Unavailable) != (tt.want == core.Unavailable) {
			t.Errorf("%s is %v, want %v", tt.code, err, tt.want)
		}
		var kind core.Kind
		if tt.want != core.Unavailable && errors.As(err, &kind) {
			t.Errorf("%s has the kind %v: somebody might be told", tt.code, kind)
		}
		if n := requests.Load(); n != tt.requests {
			t.Errorf("%s: %d requests, want %d", tt.code, n, tt.requests)
		}
	}
}

// A fault on the way is repeated, and nothing of a key is in an error that comes of one.
func TestFaults(t *testing.T) {
	_, endpoint := serve(t)
	const canary = "CANARY-IN-THE-KEY"
	for name, fault := range map[string]transport{
		"refused": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"cut off": func(r *http.Request) (*http.Response, error) {
			if answer, err := http.DefaultTransport.RoundTrip(r); err == nil {
				_ = answer.Body.Close()
			}
			return nil, io.ErrUnexpectedEOF
		},
		"throttled": func(r *http.Request) (*http.Response, error) {
			return reply(r, 400, `{"__type":"ThrottlingException"}`), nil
		},
		"broken": func(r *http.Request) (*http.Response, error) { return reply(r, 500, `oops`), nil },
	} {
		for _, forever := range []bool{false, true} {
			left := 2
			w := open(t, key, endpoint, transport(func(r *http.Request) (*http.Response, error) {
				if left--; left < 0 && !forever {
					left = 2
					return http.DefaultTransport.RoundTrip(r)
				}
				return fault(r)
			}))
			wrapped, err := w.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte(canary))
			if forever {
				if !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), canary) {
					t.Errorf("%s for ever: %v, want core.Unavailable", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, twice: %v", name, err)
				continue
			}
			if plain, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err != nil || string(plain) != canary {
				t.Errorf("%s, twice: %q, %v", name, plain, err)
			}
		}
	}
	w := open(t, key, endpoint, transport(func(r *http.Request) (*http.Response, error) {
		return reply(r, 200, `{"KeyId":"`+key+`","Plaintext":"`+canary+`"`), nil // an answer cut short
	}))
	plain, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", []byte("wrapped"))
	if !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), canary) || plain != nil {
		t.Errorf("an answer cut short: %q, %v", plain, err)
	}
	if unread := (*smithy.DeserializationError)(nil); errors.As(err, &unread) {
		t.Error("the error of an answer cut short has the answer in it")
	}
}

// The ciphertext never chooses the key: what another key of the account wrapped does not open, and an answer for another key
// is not believed.
func TestPinned(t *testing.T) {
	server, endpoint := serve(t)
	mine, theirs := open(t, key, endpoint, http.DefaultTransport), open(t, other, endpoint, http.DefaultTransport)
	wrapped, err := theirs.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := theirs.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err != nil || string(plain) != "a key" {
		t.Errorf("%q, %v", plain, err)
	}
	if plain, err := mine.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); !errors.Is(err, keys.ErrUnwrap) || !strings.Contains(err.Error(), "IncorrectKeyException") || plain != nil {
		t.Errorf("what another key wrapped: %q, %v", plain, err)
	}
	swapped := open(t, key, endpoint, transport(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.Replace(body, []byte(key), []byte(other), 1)
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return http.DefaultTransport.RoundTrip(r)
	}))
	if plain, err := swapped.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err == nil || plain != nil {
		t.Errorf("an answer for another key: %q", plain)
	}
	if out, err := swapped.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key")); err == nil || out != nil {
		t.Error("wrapped by another key")
	}

	for state, want := range map[standin.State]string{standin.Disabled: "DisabledException", standin.PendingDeletion: "KMSInvalidStateException"} {
		server.Set(other, state)
		if _, err := theirs.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err == nil || errors.Is(err, keys.ErrUnwrap) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", state, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	client := awskms.Client(aws.Config{Region: "us-west-2"}, "")
	for _, good := range []string{key, "arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"} {
		if _, err := awskms.New(client, good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "1234abcd-12ab-34cd-56ef-1234567890ab", "alias/fleetpass", "arn:aws:kms:us-west-2:111122223333:alias/fleetpass", "arn:aws:s3:::bucket"} {
		if _, err := awskms.New(client, bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%q: %v, want core.Invalid", bad, err)
		}
	}
	w := open(t, key, "http://127.0.0.1:1", http.DefaultTransport)
	if _, err := w.Wrap(t.Context(), "", "acme", []byte("a key")); !errors.Is(err, core.Limit) {
		t.Errorf("no purpose: %v", err)
	}
	if _, err := w.Unwrap(t.Context(), keys.PurposeMAC, "", []byte("a key")); !errors.Is(err, core.Limit) {
		t.Errorf("no tenant: %v", err)
	}
}
