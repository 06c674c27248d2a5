package oidc

import (
	"context"
	"time"

	"github.com/fleetpass/fleetpass/core/sso"
)

var _ sso.Taker = (*Provider)(nil)

// Take judges an ID token that came by itself (OpenID Connect Core §3.1.3.7), without what ties one to a sign-in that began here:
// nonce, at_hash and c_hash. Its iat is at most maxAge ago, and nothing in it may speak of another kind of token (see other).
// There is no access token to ask userinfo with: what is not in the token, groups among it, was not said.
func (p *Provider) Take(ctx context.Context, c sso.Connection, raw string, now time.Time, r *sso.Report) (sso.Assertion, error) {
	if c.OIDC == nil {
		return sso.Assertion{}, errNotOIDC
	}
	t, err := p.judge(ctx, c, raw, expected{alone: true}, now, r)
	if err != nil {
		return sso.Assertion{}, err
	}
	r.Received = limited(received(map[string]object{"header": t.header, "claims": t.claims}), sso.MaxReceived)
	if err := r.Err(); err != nil {
		return sso.Assertion{}, err
	}
	all := together(c, t.claims, nil)
	verifiedEmail(all[c.Mappers.Named().Email], t.claims, nil, r)
	if o := c.OIDC.MandatoryClaim; o != nil {
		mandatory(*o, all, r)
	}
	if err := r.Err(); err != nil {
		return sso.Assertion{}, err
	}
	issued, _ := t.claims.time("iat") // judge has read it
	return sso.Assertion{
		Subject: t.subject, Attributes: all.attributes(), AuthTime: t.authTime, Methods: t.methods,
		Until: issued.Add(maxAge + skew),
	}, nil
}
