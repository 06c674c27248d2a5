package oidc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/trust"
)

// Issuers is trust.Verifier: it reads the keys of issuers that make tokens for programs, such as Kubernetes clusters and CI
// services, which publish them as OpenID providers do. It has key sets of its own, so that whoever sends junk in their name
// costs nobody a sign-in.
type Issuers struct {
	out  *outbound.Client
	keys keyCache
}

// NewIssuers returns an Issuers that reaches them through out. It keeps their public keys, and nothing else.
func NewIssuers(out *outbound.Client) *Issuers {
	return &Issuers{out: out, keys: keyCache{fetch: out.Get}}
}

var _ trust.Verifier = (*Issuers)(nil)

// errUnsigned is what a token is refused with that no key of its issuer made.
var errUnsigned = fmt.Errorf("no key of the issuer's verifies the token: %w", core.Unauthenticated)

// Verify costs one request to the issuer where its keys are not known or too old, and at most one a minute for the sake of
// tokens that no known key verifies.
func (i *Issuers) Verify(ctx context.Context, iss trust.Issuer, raw, alg, kid string, now time.Time) error {
	err := i.keys.verify(ctx, source{iss.JWKSURI, iss.CA}, raw, alg, kid, now)
	switch {
	case errors.Is(err, errNoKey) || errors.Is(err, errAlgorithm):
		return errUnsigned
	case err != nil && !errors.Is(err, core.Unavailable):
		return fmt.Errorf("the issuer's keys: %v: %w", err, core.Unavailable)
	}
	return err
}

// Locate reads a discovery document if it is not told where the keys are. The issuer that the document names must be the one
// that it was found at (OpenID Connect Discovery 1.0 §4.3).
func (i *Issuers) Locate(ctx context.Context, issuer, jwksURI, ca string) (string, error) {
	const field, fix = "issuer", "; give jwksUri, or the keys themselves in jwks"
	at := jwksURI
	if at == "" {
		address := strings.TrimSuffix(issuer, "/") + wellKnown
		if err := i.out.Check(field, address); err != nil {
			return "", err
		}
		document, err := i.out.Get(ctx, address, ca)
		if err != nil {
			return "", naming(field, err)
		}
		doc, err := read(document)
		if err != nil {
			return "", core.BadField(field, "does not lead to a discovery document at "+wellKnown+fix)
		}
		if named, ok := doc.str("issuer"); !ok || named != issuer {
			return "", core.BadField(field, "leads to the discovery document of another issuer, "+visible(named)+", and must be that, to the letter")
		}
		var ok bool
		if at, ok = doc.str("jwks_uri"); !ok || at == "" {
			return "", core.BadField(field, "leads to a discovery document without jwks_uri"+fix)
		}
	}
	const where = "jwksUri"
	if err := i.out.Check(where, at); err != nil {
		return "", err
	}
	document, err := i.out.Get(ctx, at, ca)
	if err != nil {
		return "", naming(where, err)
	}
	if _, err := parseKeys(document); err != nil {
		return "", core.BadField(where, "does not lead to a JSON Web Key Set with a key that signatures can be verified with")
	}
	return at, nil
}
