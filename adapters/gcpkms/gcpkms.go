// Package gcpkms wraps keys with symmetric keys of Google Cloud KMS, one for each purpose: Google's IAM cannot see the data
// that a ciphertext is bound to, so who may open signing keys is said by the key. Purpose and tenant are the additional
// authenticated data. What goes over the wire is checked with CRC32C in both directions
// (https://cloud.google.com/kms/docs/data-integrity-guidelines).
package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

const (
	attempts = 5                // at a request
	retries  = 20               // of requests that are under way at once, together
	timeout  = 10 * time.Second // of one attempt
	maxPause = 2 * time.Second  // between attempts
	maxName  = 255              // bytes of a purpose and of a tenant
)

// Dial makes a client, with the credentials that the platform gives the process. An emulator's HOST:PORT other than "" is
// spoken to instead, in the clear and without credentials. It makes no request yet.
func Dial(ctx context.Context, emulator string, more ...option.ClientOption) (*kms.KeyManagementClient, error) {
	var opts []option.ClientOption
	if emulator != "" {
		opts = append(opts, option.WithEndpoint(emulator), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	c, err := kms.NewKeyManagementClient(ctx, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("gcpkms: %w", err)
	}
	c.CallOptions = &kms.KeyManagementCallOptions{} // its own retries would multiply with ours
	return c, nil
}

// Config names the keys: projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY, without a version. A function
// that has no business with a purpose is given its key all the same, and no permission to use it.
type Config struct {
	Signing string // wraps signing keys
	MAC     string // wraps the secrets behind keyed hashes
	SSO     string // wraps the keys that secrets towards identity providers are sealed with

	MaxPause time.Duration // between attempts at a request; default 2 seconds
}

// Wrapper is a keys.Wrapper.
type Wrapper struct {
	client   *kms.KeyManagementClient
	keys     map[string]string // by purpose
	maxPause time.Duration
	budget   chan struct{} // one for each retry that is under way
}

var _ keys.Wrapper = (*Wrapper)(nil)

var keyName = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}$`)

// New makes a wrapper. A name that cannot be a key's is core.Invalid.
func New(client *kms.KeyManagementClient, c Config) (*Wrapper, error) {
	const want = "must be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
	if !keyName.MatchString(c.Signing) {
		return nil, core.BadField("FLEETPASS_KMS_SIGNING_KEY", want)
	}
	if !keyName.MatchString(c.MAC) {
		return nil, core.BadField("FLEETPASS_KMS_MAC_KEY", want)
	}
	if !keyName.MatchString(c.SSO) {
		return nil, core.BadField("FLEETPASS_KMS_SSO_KEY", want)
	}
	if c.MaxPause <= 0 {
		c.MaxPause = maxPause
	}
	return &Wrapper{
		client: client, keys: map[string]string{keys.PurposeSigning: c.Signing, keys.PurposeMAC: c.MAC, keys.PurposeSSO: c.SSO},
		maxPause: c.MaxPause, budget: make(chan struct{}, retries),
	}, nil
}

// Wrap implements keys.Wrapper.
func (w *Wrapper) Wrap(ctx context.Context, purpose string, tenant core.TenantID, plain []byte) ([]byte, error) {
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	if len(plain) == 0 || len(plain) > keys.MaxPlain {
		return nil, fmt.Errorf("gcpkms: a key of %d bytes, want 1 to %d: %w", len(plain), keys.MaxPlain, core.Limit)
	}
	key, ok := w.keys[purpose]
	if !ok {
		return nil, fmt.Errorf("gcpkms: no key for the purpose %q: %w", purpose, core.Invalid)
	}
	request := &kmspb.EncryptRequest{
		Name: key, Plaintext: plain, PlaintextCrc32C: sum(plain),
		AdditionalAuthenticatedData: bound, AdditionalAuthenticatedDataCrc32C: sum(bound),
	}
	var out []byte
	err = w.retry(ctx, func(ctx context.Context) error {
		r, err := w.client.Encrypt(ctx, request)
		switch {
		case err != nil:
			return failed("Encrypt", key, err)
		case !r.VerifiedPlaintextCrc32C || !r.VerifiedAdditionalAuthenticatedDataCrc32C:
			return fmt.Errorf("gcpkms: Encrypt with %s: the request was damaged on its way: %w", key, core.Unavailable)
		case !matches(r.Ciphertext, r.CiphertextCrc32C):
			return fmt.Errorf("gcpkms: Encrypt with %s: the answer was damaged on its way: %w", key, core.Unavailable)
		case !strings.HasPrefix(r.Name, key+"/cryptoKeyVersions/") || len(r.Ciphertext) == 0 || len(r.Ciphertext) > keys.MaxWrapped:
			return fmt.Errorf("gcpkms: Encrypt with %s: %d bytes by %q", key, len(r.Ciphertext), r.Name)
		}
		out = r.Ciphertext
		return nil
	})
	return out, err
}

// Unwrap implements keys.Wrapper.
func (w *Wrapper) Unwrap(ctx context.Context, purpose string, tenant core.TenantID, wrapped []byte) ([]byte, error) {
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	key, ok := w.keys[purpose]
	if !ok || len(wrapped) == 0 || len(wrapped) > keys.MaxWrapped {
		return nil, fmt.Errorf("gcpkms: not wrapped here: %w", keys.ErrUnwrap)
	}
	request := &kmspb.DecryptRequest{
		Name: key, Ciphertext: wrapped, CiphertextCrc32C: sum(wrapped),
		AdditionalAuthenticatedData: bound, AdditionalAuthenticatedDataCrc32C: sum(bound),
	}
	var out []byte
	err = w.retry(ctx, func(ctx context.Context) error {
		r, err := w.client.Decrypt(ctx, request)
		switch {
		case err != nil:
			return failed("Decrypt", key, err)
		case !matches(r.Plaintext, r.PlaintextCrc32C):
			return fmt.Errorf("gcpkms: Decrypt with %s: the answer was damaged on its way: %w", key, core.Unavailable)
		case len(r.Plaintext) == 0:
			return fmt.Errorf("gcpkms: Decrypt with %s: nothing in it", key)
		}
		out = r.Plaintext
		return nil
	})
	return out, err
}

// binding is the additional data that purpose and tenant become. Lengths come first, so that no two pairs read the same.
func binding(purpose string, tenant core.TenantID) ([]byte, error) {
	if purpose == "" || tenant == "" || len(purpose) > maxName || len(tenant) > maxName {
		return nil, fmt.Errorf("gcpkms: purpose and tenant have 1 to %d bytes: %w", maxName, core.Limit)
	}
	b := make([]byte, 0, 2+len(purpose)+len(tenant))
	b = append(b, byte(len(purpose)), byte(len(tenant)))
	b = append(b, purpose...)
	return append(b, tenant...), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, castagnoli)))
}

func matches(b []byte, want *wrapperspb.Int64Value) bool {
	return want != nil && want.Value == sum(b).Value
}

// retry tries anew what is core.Unavailable, with growing random pauses. Everybody's retries share the budget: when so many
// wait for a service in trouble, one that fails more fails at once.
func (w *Wrapper) retry(ctx context.Context, do func(context.Context) error) error {
	pauses := gax.Backoff{Initial: min(100*time.Millisecond, w.maxPause), Max: w.maxPause, Multiplier: 2}
	spending := false
	for n := 1; ; n++ {
		try, cancel := context.WithTimeout(ctx, timeout)
		err := do(try)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("gcpkms: %w: %w", core.Unavailable, ctx.Err())
		case !errors.Is(err, core.Unavailable), n == attempts:
			return err
		}
		if !spending {
			select {
			case w.budget <- struct{}{}:
				spending = true
				defer func() { <-w.budget }()
			default:
				return err
			}
		}
		if err := gax.Sleep(ctx, pauses.Pause()); err != nil {
			return fmt.Errorf("gcpkms: %w: %w", core.Unavailable, err)
		}
	}
}

// failed gives an error of the service its kind. Of an answer only the code is kept: what a service writes into its messages
// is its own affair.
func failed(operation, key string, err error) error {
	code := status.Code(err)
	switch code {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.Canceled:
		return fmt.Errorf("gcpkms: %s with %s: %s: %w", operation, key, code, core.Unavailable)
	case codes.InvalidArgument:
		// Both a damaged request and a damaged ciphertext; the message names the field whose checksum is wrong. Ours are right
		// when they leave here.
		if strings.Contains(status.Convert(err).Message(), "crc32c") {
			return fmt.Errorf("gcpkms: %s with %s: the request was damaged on its way: %w", operation, key, core.Unavailable)
		}
		if operation == "Decrypt" {
			return fmt.Errorf("gcpkms: %s with %s: %s: %w", operation, key, code, keys.ErrUnwrap)
		}
	case codes.NotFound:
		if operation == "Decrypt" { // the key that wrapped it is gone
			return fmt.Errorf("gcpkms: %s with %s: %s: %w", operation, key, code, keys.ErrUnwrap)
		}
	}
	// PermissionDenied, FailedPrecondition (the key is disabled) and the like: the installation is wrong.
	return fmt.Errorf("gcpkms: %s with %s: %s", operation, key, code)
}
