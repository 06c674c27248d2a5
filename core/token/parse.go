package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// clockSkew is how far in the future a token may have been issued by an instance whose clock is ahead.
const clockSkew = time.Minute

// ParseAccess verifies an access token for our own APIs: one whose audience is the tenant's issuer. It returns what the
// token says. One that is not acceptable is a *Rejected, which is core.Unauthenticated; if the keys cannot be read, the
// error is core.Unavailable, and the token is neither good nor bad.
func ParseAccess(ctx context.Context, ring *keys.Ring, tenant core.TenantID, issuer, raw string, now time.Time) (Access, error) {
	return parseAccess(ctx, ring, tenant, issuer, raw, now, false)
}

// ParseAnyAccess is ParseAccess for those few endpoints that answer about a sign-in and act for nobody: it accepts, too, a
// person's token whose audience is the client that it was given to.
func ParseAnyAccess(ctx context.Context, ring *keys.Ring, tenant core.TenantID, issuer, raw string, now time.Time) (Access, error) {
	return parseAccess(ctx, ring, tenant, issuer, raw, now, true)
}

func parseAccess(ctx context.Context, ring *keys.Ring, tenant core.TenantID, issuer, raw string, now time.Time, clients bool) (Access, error) {
	d, err := verify(ctx, ring, tenant, raw, TypeAccess)
	if err != nil {
		return Access{}, err
	}
	a := Access{
		Issuer:   d.need("iss"),
		Subject:  d.need("sub"),
		Audience: d.need("aud"),
		Client:   d.need("client_id"),
		Scope:    d.str("scope"),
		Email:    d.str("email"),
		Kind:     core.SubjectKind(d.need("kind")),
		Family:   d.str("sid"),
		IssuedAt: d.needTime("iat"),
		Expires:  d.needTime("exp"),
		AuthTime: d.time("auth_time"),
		ID:       d.need("jti"),
	}
	d.issuer(a.Issuer, issuer)
	if a.Audience != issuer && !(clients && a.Kind == core.User && a.Audience == a.Client) {
		d.fail("another audience")
	}
	if a.Kind != core.User && a.Kind != core.Application {
		d.fail("kind is neither user nor application")
	}
	d.times(a.IssuedAt, d.needTime("nbf"), a.Expires, now, false)
	if d.err != nil {
		return Access{}, d.err
	}
	return a, nil
}

// ParseHint verifies an ID token of a tenant, handed back as an `id_token_hint`. It may have expired (OpenID Connect
// RP-Initiated Logout §2), and its audience is left to the caller to compare with the client: a hint signs nobody in.
// Errors are those of ParseAccess.
func ParseHint(ctx context.Context, ring *keys.Ring, tenant core.TenantID, issuer, raw string, now time.Time) (ID, error) {
	d, err := verify(ctx, ring, tenant, raw, TypeID)
	if err != nil {
		return ID{}, err
	}
	i := ID{
		Issuer:            d.need("iss"),
		Subject:           d.need("sub"),
		Audience:          d.need("aud"),
		IssuedAt:          d.needTime("iat"),
		Expires:           d.needTime("exp"),
		AuthTime:          d.time("auth_time"),
		Nonce:             d.str("nonce"),
		AccessHash:        d.need("at_hash"), // a cluster's token has none
		AMR:               d.strs("amr"),
		Email:             d.str("email"),
		EmailVerified:     d.bool("email_verified"),
		Name:              d.str("name"),
		GivenName:         d.str("given_name"),
		FamilyName:        d.str("family_name"),
		PreferredUsername: d.str("preferred_username"),
		Groups:            d.strs("groups"),
		Family:            d.str("sid"),
	}
	d.issuer(i.Issuer, issuer)
	d.times(i.IssuedAt, d.time("nbf"), i.Expires, now, true)
	if d.err != nil {
		return ID{}, d.err
	}
	return i, nil
}

// verify checks everything that does not depend on the kind of token but its type, and the signature last, for it costs
// the most. The algorithm is the key's; the header may only agree.
func verify(ctx context.Context, ring *keys.Ring, tenant core.TenantID, raw, typ string) (*decoder, error) {
	t, err := split(raw, MaxLength)
	if err != nil {
		return nil, err
	}
	header := decoder{members: t.header}
	alg, kid, got := header.need("alg"), header.need("kid"), header.need("typ")
	switch {
	case header.err != nil:
		return nil, header.err
	case len(t.header) != 3:
		return nil, reject("a header member that we never write")
	case got != typ:
		return nil, reject("another type")
	}
	key, err := ring.Public(ctx, tenant, kid)
	switch {
	case errors.Is(err, core.NotFound):
		return nil, reject("unknown key")
	case err != nil:
		return nil, fmt.Errorf("token: %w", err)
	case alg != string(key.Algorithm):
		return nil, reject("not the key's algorithm")
	}
	if err := methods[key.Algorithm].Verify(t.signed, t.signature, key.Key); err != nil {
		return nil, reject("signature")
	}
	return &decoder{members: t.payload}, nil
}

func (d *decoder) issuer(got, want string) {
	if got != want || want == "" {
		d.fail("another issuer")
	}
}

// times checks that now lies in the token's life, and that this is one that we give. nbf may be the zero time.
func (d *decoder) times(iat, nbf, exp, now time.Time, expired bool) {
	switch {
	case d.err != nil:
	case !exp.After(iat) || exp.Sub(iat) > keys.MaxTokenLife:
		d.fail("a lifetime that we never give")
	case iat.After(now.Add(clockSkew)) || nbf.After(now.Add(clockSkew)):
		d.fail("not valid yet")
	case !now.Before(exp) && !expired:
		d.fail("expired")
	}
}
