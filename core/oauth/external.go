package oauth

import (
	"context"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// Voucher is an Upstream that takes what an identity provider signed as proof of a person. core/sso does.
type Voucher interface {
	// Vouch returns who the ID token is about, and what the commit must hold that signs them in, which uses it up.
	// core.Unauthenticated: it is not taken; core.Throttled: too many were not.
	Vouch(ctx context.Context, actor core.Actor, idToken string) (session.Proof, []store.Op, error)
}

const badIDToken = "the token is of no connected identity provider that is swapped for tokens here, was used before, or its person may not sign in"

// exchangeIDToken signs a person in with an ID token of a connected identity provider (RFC 8693, subject_token_type id_token),
// where its connection allows that. The tokens are those of a sign-in with the browser; the provider cannot be asked again, so
// they last for the tenant's absolute lifetime at most, and end with the connection.
func (s *Server) exchangeIDToken(ctx context.Context, c Call, issued string) (Tokens, error) {
	t := c.Actor.Tenant
	if c.Params["audience"] != "" || c.Params["resource"] != "" {
		return Tokens{}, refuse(InvalidTarget, "an ID token is swapped for an access token first, and that for a cluster's")
	}
	scope, err := parseScope(c.Params["scope"])
	if err != nil {
		return Tokens{}, err
	}
	items, err := s.DB.Get(ctx, append([]store.Key{store.Meta(t)}, clientKeys(t, c.Client.ID)...)...)
	if err != nil {
		return Tokens{}, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return Tokens{}, err
	}
	client, err := s.authenticate(ctx, c, items[1:])
	if err != nil {
		return Tokens{}, err
	}
	voucher, ok := s.Upstream.(Voucher)
	if !ok {
		return Tokens{}, refuse(InvalidRequest, badIDToken)
	}
	var tokens Tokens
	err = store.Retry(ctx, func() error {
		proof, ops, err := voucher.Vouch(ctx, c.Actor, c.Params["subject_token"])
		if err != nil {
			return refuseFor(err, InvalidRequest, badIDToken)
		}
		u := proof.User
		f, begin, err := s.Sessions.Begin(meta.Value, session.Family{
			Client: client.ID, Email: u.Email, User: u.ID, Epoch: u.Epoch, Scope: scope.String(), AuthTime: proof.At, Methods: proof.Methods,
			Offline: scope.Has(ScopeOffline), Upstream: proof.Upstream,
		}, meta.Value.Settings.AccessTokenLife)
		if err != nil {
			return err
		}
		actor := c.Actor
		actor.Subject, actor.UserID = core.UserSubject(u.Email), u.ID
		note, err := audit.Op(actor, s.Now(), audit.Record{
			Action: audit.SignIn, EntityType: audit.EntitySession, EntityID: f.ID, Reason: "an ID token of " + proof.Upstream.Alias + ", swapped",
		})
		if err != nil {
			return err
		}
		if tokens, err = s.firstTokens(ctx, meta.Value, f, u, scope, ""); err != nil {
			return err
		}
		return s.DB.Commit(ctx, append(ops, begin, note)...)
	})
	if err != nil {
		return Tokens{}, err
	}
	tokens.IssuedTokenType = issued
	return tokens, nil
}
