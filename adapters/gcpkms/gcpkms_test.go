package gcpkms_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fleetpass/fleetpass/adapters/gcpkms"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/keys/keystest"
	standin "github.com/fleetpass/fleetpass/localdev/standin/gcpkms"
)

const (
	ring    = "projects/my-project/locations/europe-west4/keyRings/fleetpass/cryptoKeys/"
	signing = ring + "signing"
	mac     = ring + "mac"
	sso     = ring + "sso"
)

func serve(t *testing.T) (*standin.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := standin.New(signing, mac, sso)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Errorf("the stand-in ended: %v", err)
		}
	})
	return s, l.Addr().String()
}

// open makes a wrapper as a composition root does, but for the pauses, with something between the client and the service.
func open(t *testing.T, address string, between ...grpc.UnaryClientInterceptor) *gcpkms.Wrapper {
	t.Helper()
	client, err := gcpkms.Dial(t.Context(), address, option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(between...)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	w, err := gcpkms.New(client, gcpkms.Config{Signing: signing, MAC: mac, SSO: sso, MaxPause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrapper(t *testing.T) {
	keystest.Run(t, func(t *testing.T) keys.Wrapper {
		_, address := serve(t)
		return open(t, address)
	})
}

// The requests are those of the service's API (google.cloud.kms.v1), with checksums that others computed, whatever the
// stand-in thinks.
func TestWire(t *testing.T) {
	var got []proto.Message
	var method string
	var header metadata.MD
	w := open(t, "127.0.0.1:1", func(ctx context.Context, m string, in, out any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
		got, method = append(got, proto.Clone(in.(proto.Message))), m
		header, _ = metadata.FromOutgoingContext(ctx)
		switch out := out.(type) {
		case *kmspb.EncryptResponse: // the checksum of "123456789" is the check value of CRC-32C (RFC 3720 names the polynomial)
			proto.Merge(out, &kmspb.EncryptResponse{
				Name: mac + "/cryptoKeyVersions/3", Ciphertext: []byte("123456789"), CiphertextCrc32C: wrapperspb.Int64(0xe3069283),
				VerifiedPlaintextCrc32C: true, VerifiedAdditionalAuthenticatedDataCrc32C: true,
			})
		case *kmspb.DecryptResponse:
			proto.Merge(out, &kmspb.DecryptResponse{Plaintext: []byte("123456789"), PlaintextCrc32C: wrapperspb.Int64(0xe3069283)})
		}
		return nil
	})
	zeros := make([]byte, 32) // RFC 3720 appendix B.4: 32 bytes of zeroes have the CRC aa 36 91 8a
	if out, err := w.Wrap(t.Context(), keys.PurposeMAC, "acme", zeros); err != nil || string(out) != "123456789" {
		t.Errorf("%q, %v", out, err)
	}
	if method != "/google.cloud.kms.v1.KeyManagementService/Encrypt" {
		t.Errorf("method %s", method)
	}
	const escaped = "name=projects%2Fmy-project%2Flocations%2Feurope-west4%2FkeyRings%2Ffleetpass%2FcryptoKeys%2Fmac"
	if diff := cmp.Diff([]string{escaped}, header.Get("x-goog-request-params")); diff != "" {
		t.Errorf("x-goog-request-params (-want +got):\n%s", diff)
	}
	bound := []byte("\x03\x04macacme")
	if out, err := w.Unwrap(t.Context(), keys.PurposeMAC, "acme", zeros); err != nil || string(out) != "123456789" {
		t.Errorf("%q, %v", out, err)
	}
	const ofZeros, ofBound = 0x8a9136aa, 0x3e21fd19
	want := []proto.Message{
		&kmspb.EncryptRequest{
			Name: mac, Plaintext: zeros, PlaintextCrc32C: wrapperspb.Int64(ofZeros),
			AdditionalAuthenticatedData: bound, AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(ofBound),
		},
		&kmspb.DecryptRequest{
			Name: mac, Ciphertext: zeros, CiphertextCrc32C: wrapperspb.Int64(ofZeros),
			AdditionalAuthenticatedData: bound, AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(ofBound),
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What each of the service's errors becomes, and how often it is asked.
func TestErrors(t *testing.T) {
	const canary = "CANARY-OF-THE-SERVICE"
	for _, tt := range []struct {
		code     codes.Code
		message  string
		want     error // nil: internal
		requests int32
	}{
		{codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.", keys.ErrUnwrap, 1},
		{codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.", keys.ErrUnwrap, 1},
		{codes.InvalidArgument, "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.", core.Unavailable, 5},
		{codes.NotFound, "CryptoKey not found.", keys.ErrUnwrap, 1},
		{codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied.", nil, 1},
		{codes.FailedPrecondition, "is not enabled, current state is: DISABLED.", nil, 1},
		{codes.Unauthenticated, "no credentials", nil, 1},
		{codes.ResourceExhausted, "quota", core.Unavailable, 5},
		{codes.Unavailable, "connection reset", core.Unavailable, 5},
		{codes.Internal, "internal", core.Unavailable, 5},
		{codes.DeadlineExceeded, "late", core.Unavailable, 5},
		{codes.Aborted, "aborted", core.Unavailable, 5},
	} {
		var requests atomic.Int32
		w := open(t, "127.0.0.1:1", func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			requests.Add(1)
			return status.Error(tt.code, canary+": "+tt.message)
		})
		got, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", []byte("wrapped"))
		if err == nil || got != nil || !strings.Contains(err.Error(), signing) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %q, %v", tt.code, got, err)
		}
		if errors.Is(err, keys.ErrUnwrap) != (tt.want == keys.ErrUnwrap) || errors.Is(err, core.Unavailable) != (tt.want == core.Unavailable) {
			t.Errorf("%s %q is %v, want %v", tt.code, tt.message, err, tt.want)
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

// What is damaged on the way is noticed in both directions and tried again; damage that stays is core.Unavailable, and
// nothing of it is handed out.
func TestDamage(t *testing.T) {
	_, address := serve(t)
	const canary = "CANARY-IN-THE-KEY"
	wrapped, err := open(t, address).Wrap(t.Context(), keys.PurposeSigning, "acme", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte) { b[len(b)/2] ^= 1 }
	for name, damage := range map[string]struct{ request, answer func(any) }{
		"plaintext sent": {request: func(in any) {
			if r, ok := in.(*kmspb.EncryptRequest); ok {
				flip(r.Plaintext)
			}
		}},
		"data bound": {request: func(in any) {
			switch r := in.(type) {
			case *kmspb.EncryptRequest:
				flip(r.AdditionalAuthenticatedData)
			case *kmspb.DecryptRequest:
				flip(r.AdditionalAuthenticatedData)
			}
		}},
		"checksum of the plaintext lost": {request: func(in any) {
			if r, ok := in.(*kmspb.EncryptRequest); ok {
				r.PlaintextCrc32C = nil
			}
		}},
		"checksum of the data lost": {request: func(in any) {
			if r, ok := in.(*kmspb.EncryptRequest); ok {
				r.AdditionalAuthenticatedDataCrc32C = nil
			}
		}},
		"ciphertext received": {answer: func(out any) {
			if r, ok := out.(*kmspb.EncryptResponse); ok {
				flip(r.Ciphertext)
			}
		}},
		"checksum of the ciphertext lost": {answer: func(out any) {
			if r, ok := out.(*kmspb.EncryptResponse); ok {
				r.CiphertextCrc32C = nil
			}
		}},
		"ciphertext sent": {request: func(in any) {
			if r, ok := in.(*kmspb.DecryptRequest); ok {
				flip(r.Ciphertext)
			}
		}},
		"plaintext received": {answer: func(out any) {
			if r, ok := out.(*kmspb.DecryptResponse); ok {
				flip(r.Plaintext)
			}
		}},
	} {
		for _, forever := range []bool{false, true} {
			left := 2
			w := open(t, address, func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				in = proto.Clone(in.(proto.Message))
				if left--; left < 0 && !forever {
					left = 2
					return call(ctx, method, in, out, conn, opts...)
				}
				if damage.request != nil {
					damage.request(in)
				}
				err := call(ctx, method, in, out, conn, opts...)
				if err == nil && damage.answer != nil {
					damage.answer(out)
				}
				return err
			})
			again, err := w.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte(canary))
			plain, err2 := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped)
			if !forever {
				if err != nil || err2 != nil || string(plain) != canary {
					t.Errorf("%s, twice: %v, %v, %q", name, err, err2, plain)
				}
				left = -1
				if plain, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", again); err != nil || string(plain) != canary {
					t.Errorf("%s, twice: what was wrapped then: %q, %v", name, plain, err)
				}
				continue
			}
			failed := 0
			for _, err := range []error{err, err2} {
				if err == nil {
					continue
				}
				failed++
				if !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), canary) {
					t.Errorf("%s for ever: %v, want core.Unavailable", name, err)
				}
			}
			if failed == 0 {
				t.Errorf("%s for ever goes unnoticed", name)
			}
		}
	}
}

// A purpose's key opens nothing of the other purpose, and what an older version of the key wrapped still opens.
func TestKeys(t *testing.T) {
	server, address := serve(t)
	w := open(t, address)
	wrapped, err := w.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	server.Rotate(signing)
	if plain, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err != nil || string(plain) != "a key" {
		t.Errorf("after a rotation: %q, %v", plain, err)
	}
	server.Disable(signing, true)
	if _, err := w.Unwrap(t.Context(), keys.PurposeSigning, "acme", wrapped); err == nil || errors.Is(err, keys.ErrUnwrap) || !strings.Contains(err.Error(), "FailedPrecondition") {
		t.Errorf("disabled: %v", err)
	}
	if _, err := w.Wrap(t.Context(), keys.PurposeMAC, "acme", []byte("a key")); err != nil {
		t.Errorf("the other key: %v", err)
	}
	if _, err := w.Wrap(t.Context(), "other", "acme", []byte("a key")); !errors.Is(err, core.Invalid) {
		t.Errorf("a purpose without a key: %v", err)
	}
	elsewhere := open(t, address, func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		in.(*kmspb.EncryptRequest).Name = mac
		return call(ctx, method, in, out, conn, opts...)
	})
	if out, err := elsewhere.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key")); err == nil || out != nil {
		t.Error("wrapped by another key")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := gcpkms.New(nil, gcpkms.Config{Signing: signing, MAC: mac, SSO: sso}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []gcpkms.Config{
		{}, {Signing: signing}, {MAC: mac}, {Signing: signing, MAC: mac}, {Signing: signing, SSO: sso}, {MAC: mac, SSO: sso}, {Signing: "signing", MAC: mac, SSO: sso},
		{Signing: signing, MAC: mac + "/cryptoKeyVersions/1", SSO: sso}, {Signing: signing + "\n", MAC: mac, SSO: sso}, {Signing: signing, MAC: mac, SSO: "sso"},
	} {
		if _, err := gcpkms.New(nil, bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%+v: %v, want core.Invalid", bad, err)
		}
	}
}

// A request is tried five times at most, and of many callers only twenty try again at once: the others fail at once.
func TestBudget(t *testing.T) {
	const callers, budget, attempts = 40, 20, 5
	var requests atomic.Int32
	all, release := make(chan struct{}), make(chan struct{})
	w := open(t, "127.0.0.1:1", func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
		switch n := requests.Add(1); {
		case n == callers:
			close(all)
		case n < callers:
			<-all
		default:
			<-release
		}
		return status.Error(codes.Unavailable, "down")
	})
	failed := make(chan error, callers)
	for range callers {
		go func() {
			_, err := w.Unwrap(t.Context(), keys.PurposeMAC, "acme", []byte("wrapped"))
			failed <- err
		}()
	}
	for i := range callers {
		if i == callers-budget {
			close(release)
		}
		if err := <-failed; !errors.Is(err, core.Unavailable) {
			t.Error(err)
		}
	}
	if n := requests.Load(); n != callers+budget*(attempts-1) {
		t.Errorf("%d requests, want %d", n, callers+budget*(attempts-1))
	}
}
