// Package keys owns the keys that a tenant signs with: making, wrapping, publishing, rotating, retiring and revoking them,
// the secret behind its keyed hashes, and the key that its configured secrets are sealed with. What is signed is core/token's affair; what wraps private keys at rest is an
// adapter's (the port Wrapper).
//
// # The life of a signing key
//
//	PublishedAt ---- ActiveAt -------------- SignsUntil ---------------- RetiredAt
//	in the JWKS      signs from here on      its successor signs         the record is deleted
//
// Every transition is a time in the record, so that all instances take it at the same moment without talking to each other.
package keys

import (
	"context"
	"crypto"
	"errors"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Wrapper encrypts keys at rest. It is a key management service, or a local master key. Every method may be called from many
// goroutines at once, honours ctx, returns core.Unavailable when it is cancelled or the service does not answer, and says
// nothing of a key in an error. keystest has one subtest for each sentence of this promise.
type Wrapper interface {
	// Wrap encrypts and authenticates plain, 1 to MaxPlain bytes, and binds the result to the purpose and the tenant. It
	// never gives the same result twice. Its result is at most MaxWrapped bytes. Input outside the limits is core.Limit.
	Wrap(ctx context.Context, purpose string, tenant core.TenantID, plain []byte) ([]byte, error)

	// Unwrap returns what Wrap was given. If wrapped is not, to the byte, what Wrap made for the same purpose and tenant,
	// the error is ErrUnwrap and nothing is returned.
	Unwrap(ctx context.Context, purpose string, tenant core.TenantID, wrapped []byte) ([]byte, error)
}

// The purposes that a wrapped key is bound to.
const (
	PurposeSigning = "signing"
	PurposeMAC     = "mac"
	PurposeSSO     = "sso" // the sealing key: see Seal
)

// The limits of a Wrapper: those of the narrowest service (AWS KMS encrypts up to 4,096 bytes).
const (
	MaxPlain   = 4096
	MaxWrapped = 6144
)

// ErrUnwrap says that a wrapped key is not what Wrap made: it was damaged or swapped, or its master key is gone. It is an
// internal error: retrying does not help, and no caller of ours can mend it.
var ErrUnwrap = errors.New("keys: a wrapped key does not open")

// Algorithm is a JWS signature algorithm (RFC 7518 §3.1).
type Algorithm string

// The algorithms that Fleetpass signs with. ES256 is the default; RS256 is for verifiers that know nothing else.
const (
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits
)

// The times of a key's life.
const (
	// MaxAge is how long a verifier may keep the JWKS.
	MaxAge = 5 * time.Minute

	// CacheTTL is how long an instance trusts what it read of a tenant's keys.
	CacheTTL = time.Minute

	// PublishBefore is how long a key is in the JWKS before it signs: every verifier has then fetched it, twice over.
	PublishBefore = 2*MaxAge + CacheTTL

	// MaxTokenLife is the longest that a token may live. A key stays published for so long after it last signed.
	MaxTokenLife = 24 * time.Hour

	// Skew is by how much the clocks of instances and verifiers may differ.
	Skew = 5 * time.Minute

	// DefaultPeriod is how long a key signs before its successor does.
	DefaultPeriod = 30 * 24 * time.Hour
)

// SigningKey is the key that signs now. Its Signer is an *ecdsa.PrivateKey or an *rsa.PrivateKey, as its algorithm says.
type SigningKey struct {
	ID        string // the `kid`: the JWK thumbprint of the public key (RFC 7638), base64url
	Algorithm Algorithm
	crypto.Signer
}

// PublicKey is a key that signatures are verified with.
type PublicKey struct {
	ID        string
	Algorithm Algorithm
	Key       crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey
}

// Set is a JWK set (RFC 7517 §5) as it goes over the wire. Body is shared: do not write to it.
type Set struct {
	Body   []byte
	ETag   string        // strong, quoted (RFC 9110 §8.8.3)
	MaxAge time.Duration // for Cache-Control
}
