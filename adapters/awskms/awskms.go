// Package awskms wraps keys with a symmetric key of AWS KMS. Purpose and tenant are the encryption context: the service
// authenticates it with the ciphertext and writes it into its log, and a role's policy can be confined by it
// (kms:EncryptionContext:purpose). The key is named in every request, so the ciphertext never chooses what opens it.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// The members of the encryption context. Policies name them: they never change.
const (
	ContextPurpose = "purpose"
	ContextTenant  = "tenant"
)

const (
	attempts = 5                // at a request
	maxPause = 2 * time.Second  // between attempts
	timeout  = 10 * time.Second // of one attempt, if the configuration brings no HTTP client of its own
	maxName  = 255              // bytes of a purpose and of a tenant
)

// Client makes a client from a configuration that has a region and credentials. An endpoint other than "" stands in for the
// region's. Where the configuration says nothing else, a request is tried five times at most, with growing random pauses,
// and the retries of all requests share the SDK's token bucket, so that a service in trouble is not asked five times as often.
func Client(cfg aws.Config, endpoint string) *kms.Client {
	return kms.NewFromConfig(cfg, func(o *kms.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		if cfg.HTTPClient == nil {
			o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(timeout)
		}
		if cfg.Retryer == nil {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxPause })
		}
	})
}

// Wrapper is a keys.Wrapper.
type Wrapper struct {
	client *kms.Client
	key    string
}

var _ keys.Wrapper = (*Wrapper)(nil)

// New makes a wrapper with the key of that ARN. An alias is core.Invalid: who may point it elsewhere would choose the key.
func New(client *kms.Client, key string) (*Wrapper, error) {
	if parts := strings.SplitN(key, ":", 6); len(parts) != 6 || parts[0] != "arn" || parts[2] != "kms" || !strings.HasPrefix(parts[5], "key/") {
		return nil, core.BadField("FLEETPASS_KMS_KEY", "must be the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	return &Wrapper{client, key}, nil
}

// Wrap implements keys.Wrapper.
func (w *Wrapper) Wrap(ctx context.Context, purpose string, tenant core.TenantID, plain []byte) ([]byte, error) {
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	if len(plain) == 0 || len(plain) > keys.MaxPlain {
		return nil, fmt.Errorf("awskms: a key of %d bytes, want 1 to %d: %w", len(plain), keys.MaxPlain, core.Limit)
	}
	out, err := w.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &w.key, EncryptionContext: bound, Plaintext: plain})
	if err != nil {
		return nil, w.failed(ctx, "Encrypt", err)
	}
	if got := aws.ToString(out.KeyId); got != w.key || len(out.CiphertextBlob) == 0 || len(out.CiphertextBlob) > keys.MaxWrapped {
		return nil, fmt.Errorf("awskms: Encrypt with %s: %d bytes by key %q", w.key, len(out.CiphertextBlob), got)
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements keys.Wrapper.
func (w *Wrapper) Unwrap(ctx context.Context, purpose string, tenant core.TenantID, wrapped []byte) ([]byte, error) {
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	if len(wrapped) == 0 || len(wrapped) > keys.MaxWrapped { // the service calls it invalid input, as it does other mistakes
		return nil, fmt.Errorf("awskms: not wrapped here: %w", keys.ErrUnwrap)
	}
	out, err := w.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &w.key, EncryptionContext: bound, CiphertextBlob: wrapped})
	if err != nil {
		return nil, w.failed(ctx, "Decrypt", err)
	}
	if got := aws.ToString(out.KeyId); got != w.key || len(out.Plaintext) == 0 {
		return nil, fmt.Errorf("awskms: Decrypt with %s: answered for key %q", w.key, got)
	}
	return out.Plaintext, nil
}

func binding(purpose string, tenant core.TenantID) (map[string]string, error) {
	if purpose == "" || tenant == "" || len(purpose) > maxName || len(tenant) > maxName {
		return nil, fmt.Errorf("awskms: purpose and tenant have 1 to %d bytes: %w", maxName, core.Limit)
	}
	return map[string]string{ContextPurpose: purpose, ContextTenant: string(tenant)}, nil
}

var retryable = retry.IsErrorRetryables(retry.DefaultRetryables)

// failed gives an error of the SDK its kind. Of an answer only the code is kept: what a service writes into its messages is
// its own affair, and an answer that cannot be read may hold a key.
func (w *Wrapper) failed(ctx context.Context, operation string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("awskms: %w: %w", core.Unavailable, ctx.Err())
	}
	var api smithy.APIError
	var unread *smithy.DeserializationError
	switch {
	case errors.As(err, &api): // below
	case errors.As(err, &unread):
		return fmt.Errorf("awskms: %s with %s: the answer cannot be read: %w", operation, w.key, core.Unavailable)
	default:
		return fmt.Errorf("awskms: %s with %s: %w: %w", operation, w.key, core.Unavailable, err)
	}
	code := api.ErrorCode()
	var response *awshttp.ResponseError
	request := "unknown"
	if errors.As(err, &response) && response.RequestID != "" {
		request = response.RequestID
	}
	var (
		ciphertext *types.InvalidCiphertextException // damaged, or another context
		key        *types.IncorrectKeyException
		gone       *types.NotFoundException
		away       *types.KeyUnavailableException
		internal   *types.KMSInternalException
		dependency *types.DependencyTimeoutException
	)
	switch {
	case errors.As(err, &ciphertext), errors.As(err, &key), errors.As(err, &gone) && operation == "Decrypt":
		return fmt.Errorf("awskms: %s with %s: %s: %w", operation, w.key, code, keys.ErrUnwrap)
	case errors.As(err, &away), errors.As(err, &internal), errors.As(err, &dependency), retryable.IsErrorRetryable(err).Bool():
		return fmt.Errorf("awskms: %s with %s: %s: %w", operation, w.key, code, core.Unavailable)
	}
	// AccessDeniedException, DisabledException and the like: the installation is wrong, which is nobody's but the operator's.
	return fmt.Errorf("awskms: %s with %s: %s (request %s)", operation, w.key, code, request)
}
