// Package token makes and checks the tenant's tokens: JWTs signed as JWS in compact form (RFC 7519, RFC 7515), by
// golang-jwt, behind a pre-parser of our own (Strict), because golang-jwt ignores `crit`, takes the last of duplicate
// members and matches claim names without regard to case. It owns which claims a token has and what a valid one is.
// Whether somebody may have a token is core/oauth's affair, and the keys are core/keys'.
//
// The kinds of token cannot stand in for each other: each has its own `typ`, or claims that the others lack, and is for
// somebody else.
package token

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// The types of token: the `typ` in their headers.
const (
	TypeAccess  = "at+jwt" // RFC 9068 §2.1
	TypeID      = "JWT"
	TypeCluster = "JWT" // what Kubernetes API servers expect
)

// MaxLength is the longest token, in bytes, that is made or accepted. A header line of HTTP with one fits everywhere.
const MaxLength = 8 << 10

// methods are golang-jwt's implementations of our algorithms. There is no way to another from a token's header.
var methods = map[keys.Algorithm]jwt.SigningMethod{
	keys.ES256: jwt.SigningMethodES256,
	keys.RS256: jwt.SigningMethodRS256,
}

// Claims is what a token says: an Access, an ID or a Cluster.
type Claims interface {
	typ() string
	check() error   // core.Invalid, naming the claim
	write(*encoder) // the members of the payload
}

// Mint makes a token, signed with the key of that algorithm that signs for the tenant now. It is the last gate before a
// name reaches a cluster: claims that are empty, over-long or unprintable, reserved names (core.Reserved) and lifetimes over
// keys.MaxTokenLife are core.Invalid and named; a token that would be longer than MaxLength is core.Limit.
func Mint(ctx context.Context, ring *keys.Ring, tenant core.TenantID, alg keys.Algorithm, c Claims) (string, error) {
	if err := c.check(); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	method := methods[alg]
	if method == nil {
		return "", fmt.Errorf("token: algorithm %q: %w", alg, core.Unsupported)
	}
	key, err := ring.Signer(ctx, tenant, alg)
	if err != nil {
		return "", err
	}
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.b, e.err = append(e.b[:0], '{'), nil
	c.write(e)
	if e.err != nil {
		return "", fmt.Errorf("token: encode: %w", e.err)
	}
	e.b[len(e.b)-1] = '}' // instead of the last comma

	header := `{"alg":"` + string(alg) + `","kid":"` + key.ID + `","typ":"` + c.typ() + `"}`
	b64 := base64.RawURLEncoding
	n := b64.EncodedLen(len(header)) + b64.EncodedLen(len(e.b)) + 2 + maxSignature
	if n > MaxLength {
		return "", fmt.Errorf("token: %d bytes, at most %d; fewer groups would fit: %w", n, MaxLength, core.Limit)
	}
	e.raw = b64.AppendEncode(e.raw[:0], []byte(header))
	e.raw = append(e.raw, '.')
	e.raw = b64.AppendEncode(e.raw, e.b)
	signature, err := method.Sign(string(e.raw), key.Signer)
	if err != nil {
		return "", fmt.Errorf("token: sign: %w", err)
	}
	e.raw = append(e.raw, '.')
	e.raw = b64.AppendEncode(e.raw, signature)
	return string(e.raw), nil
}

// encoders keeps the buffers of Mint, which would be a third of what it allocates.
var encoders = sync.Pool{New: func() any { return &encoder{b: make([]byte, 0, 1024), raw: make([]byte, 0, 2048)} }}

// maxSignature is the length of the longest signature in base64url: RS256 with 2048 bits.
const maxSignature = 342

// Hash is the `at_hash` of an access token (OpenID Connect Core §3.1.3.6).
func Hash(raw string) string {
	sum := sha256.Sum256([]byte(raw))
	return base64.RawURLEncoding.EncodeToString(sum[:sha256.Size/2])
}

// Rejected is why a token is not accepted. Its message is the same whatever the reason, since whoever presents a forged
// token need not learn what gave it away; the reason is for logs and audit records.
type Rejected struct {
	Reason string // a few plain words, fixed: nothing of the token
}

// Error is one sentence for all reasons.
func (*Rejected) Error() string { return "the token is not valid" }

// Unwrap makes errors.Is(err, core.Unauthenticated) hold.
func (*Rejected) Unwrap() error { return core.Unauthenticated }

func reject(reason string) error { return &Rejected{reason} }

// Reason is why a token was not accepted; "" if err is about something else.
func Reason(err error) string {
	if r, ok := errors.AsType[*Rejected](err); ok {
		return r.Reason
	}
	return ""
}
