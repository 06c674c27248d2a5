package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Ask uses the refresh token (OpenID Connect Core §12). A provider that answers invalid_grant, or with a token that does not
// hold, does not vouch for the person any more: sso.ErrRefused. Any other refusal is about us, a client secret that has
// expired among them, and says nothing about the person: core.Unavailable. A sign-in that left no refresh token is
// core.Unsupported.
//
// Without a new ID token the answer is sso.Assertion's Partial: what stood in the first one is not said again. It is not, if
// the groups came from userinfo then: userinfo says them again now, and if it leaves them out, there are none any more.
func (p *Provider) Ask(ctx context.Context, c sso.Connection, s sso.Secrets, k sso.Kept, now time.Time) (sso.Assertion, error) {
	switch {
	case c.OIDC == nil:
		return sso.Assertion{}, errNotOIDC
	case k.Refresh == "" || k.Subject == "":
		return sso.Assertion{}, fmt.Errorf("the identity provider gave no refresh token: %w", core.Unsupported)
	}
	given, err := p.exchange(ctx, c, s, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.Refresh}}, now)
	if err != nil {
		return sso.Assertion{}, asked(err)
	}
	said, err := p.learn(ctx, c, given, expected{subject: k.Subject, whole: k.Whole, access: given.access}, now, &sso.Report{})
	if err != nil {
		return sso.Assertion{}, asked(err)
	}
	// A provider that does not rotate gives neither anew.
	said.Kept.Refresh = cmp.Or(said.Kept.Refresh, k.Refresh)
	said.Kept.IDToken = cmp.Or(said.Kept.IDToken, k.IDToken)
	if given.id == "" {
		said.Partial, said.Kept.Whole = !k.Whole, k.Whole
	}
	return said, nil
}

func asked(err error) error {
	var refused *oauthError
	switch {
	case errors.As(err, &refused) && refused.code == "invalid_grant":
		return fmt.Errorf("refresh: %w", sso.ErrRefused)
	case errors.Is(err, sso.ErrRefused):
		return err
	case errors.As(err, &refused):
		return fmt.Errorf("the identity provider refuses this service, not the person: %s: %w", refused.code, core.Unavailable)
	case errors.Is(err, core.Unavailable):
		return err
	}
	return fmt.Errorf("%v: %w", err, core.Unavailable)
}
