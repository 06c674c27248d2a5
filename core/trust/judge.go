package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Judge verifies a token of a trusted issuer, and returns what it says: it is signed by a key of the issuer's, has that very
// `iss`, one audience, a subject, and a life of at most 24 hours in which now lies. Which audience, and what else must hold, is
// for the application's Trust to say. A jti, if there is one, may come again: a workload reads its token from a file, and
// presents it until that is renewed.
//
// A token that is not good is core.Unauthenticated. If the issuer's keys cannot be had, the error is core.Unavailable, and the
// token is neither good nor bad. v may be nil where keys are only given by hand.
func Judge(ctx context.Context, v Verifier, iss Issuer, raw string, now time.Time) (Claims, error) {
	t, err := split(raw, "JWT")
	if err != nil {
		return Claims{}, err
	}
	if !iss.Enabled {
		return Claims{}, refuse("the issuer is disabled")
	}
	if t.Issuer != iss.Issuer || iss.Issuer == "" {
		return Claims{}, refuse("another issuer")
	}
	if err := t.times(now); err != nil {
		return Claims{}, err
	}
	begins := t.IssuedAt
	if begins.IsZero() { // iat is optional (RFC 7519 §4.1.6); what is left of its life is bounded all the same
		begins = now
	}
	if t.Expires.Sub(begins) > maxLifetime || t.Expires.Sub(now) > maxLifetime+skew {
		return Claims{}, refuse("too long a life")
	}
	switch {
	case len(iss.Keys) > 0:
		err = verify(iss.Keys, t.alg, t.kid, t.signed, t.signature)
	case v == nil || iss.JWKSURI == "":
		err = fmt.Errorf("the keys of trusted issuer %s cannot be read here: %w", iss.Name, core.Unavailable)
	default:
		err = v.Verify(ctx, iss, raw, t.alg, t.kid, now)
	}
	if errors.Is(err, core.Invalid) || errors.Is(err, core.TooLarge) { // of the issuer's answer, not of the token
		err = fmt.Errorf("the keys of trusted issuer %s: %v: %w", iss.Name, err, core.Unavailable)
	}
	if err != nil {
		return Claims{}, err
	}
	return t.Claims, nil
}

// Proof is an assertion by which a client has proved who it is with its own key.
type Proof struct {
	ID      string    // to be taken once
	Expires time.Time // from then on it is nothing any more
}

// JudgeProof verifies a client's own assertion (RFC 7523 §3, OpenID Connect Core §9): iss and sub are the client, the one
// audience is one of ours, it expires within ten minutes, and it has an id, which the caller must take once. One that is not
// good is core.Unauthenticated.
func JudgeProof(keys []PublicKey, client core.ApplicationID, audiences []string, raw string, now time.Time) (Proof, error) {
	t, err := split(raw, "JWT", "client-authentication+jwt")
	switch {
	case err != nil:
		return Proof{}, err
	case client == "" || t.Issuer != string(client) || t.Subject != string(client):
		return Proof{}, refuse("another client")
	case !slices.Contains(audiences, t.Audience):
		return Proof{}, refuse("another audience")
	case t.ID == "":
		return Proof{}, refuse("no jti")
	}
	if err := t.times(now); err != nil {
		return Proof{}, err
	}
	if t.Expires.Sub(now) > maxProof {
		return Proof{}, refuse("too long a life")
	}
	if err := verify(keys, t.alg, t.kid, t.signed, t.signature); err != nil {
		return Proof{}, err
	}
	return Proof{ID: t.ID, Expires: t.Expires}, nil
}
