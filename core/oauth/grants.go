package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// badRefresh is the one wording for every refresh token that is not taken.
const badRefresh = "the refresh token is unknown, expired, revoked or used, or belongs to another client"

// refresh swaps a refresh token for its successor and a fresh access token (RFC 6749 §6). It costs two round trips, and for
// people of identity providers what vouched costs.
func (s *Server) refresh(ctx context.Context, c Call) (Tokens, error) {
	t := c.Actor.Tenant
	if c.Params["refresh_token"] == "" {
		return Tokens{}, refuse(InvalidRequest, "refresh_token is missing")
	}
	p, err := s.Sessions.Present(ctx, t, c.Params["refresh_token"], clientKeys(t, c.Client.ID)...)
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidGrant, badRefresh)
	}
	client, err := s.authenticate(ctx, c, p.Extra)
	if err != nil {
		return Tokens{}, err
	}
	if !p.Live || p.Family.Client != client.ID {
		return Tokens{}, refuse(InvalidGrant, badRefresh)
	}
	if p.Replayed(s.Now()) {
		// A stolen token ends its family here and now, whether or not the provider answers, which nobody asks for a thief.
		if err := s.Sessions.Rotate(ctx, c.Actor, p); err != nil {
			return Tokens{}, refuseFor(err, InvalidGrant, badRefresh)
		}
		return Tokens{}, refuse(InvalidGrant, badRefresh)
	}
	granted, err := parseScope(p.Family.Scope)
	if err != nil {
		return Tokens{}, err
	}
	scope, err := granted.narrow(c.Params["scope"])
	if err != nil {
		return Tokens{}, err
	}
	p.Person, err = s.vouched(ctx, c.Actor, p.Family.Upstream, p.Person)
	if denied(err) {
		reason := "the identity provider does not vouch for the person any more"
		if errors.Is(err, session.ErrDisconnected) {
			reason = "the identity provider is not connected any more"
		}
		if err := s.Sessions.RevokeFamily(ctx, c.Actor, p.Family.ID, reason); err != nil {
			return Tokens{}, err
		}
	}
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidGrant, badRefresh)
	}
	// Signed first and rotated second: where a key cannot be read, the client still has the token that it came with.
	f, next, err := s.Sessions.Successor(ctx, p)
	if err != nil {
		return Tokens{}, err
	}
	tokens, err := s.personTokens(ctx, p.Tenant, f, p.Person, scope, "")
	if err != nil {
		return Tokens{}, err
	}
	if err := s.Sessions.Rotate(ctx, c.Actor, p); err != nil {
		return Tokens{}, refuseFor(err, InvalidGrant, badRefresh)
	}
	tokens.RefreshToken = next
	return tokens, nil
}

// vouched asks the identity provider of a sign-in about the person again, where it can be asked: groups follow it, and whom
// it vouches for no more gets nothing. Where it does not answer, neither do we: what the client came with stays good for
// later. Local people cost nothing, and those of a provider that was asked just now, or cannot be asked, one round trip.
func (s *Server) vouched(ctx context.Context, actor core.Actor, up session.Upstream, person directory.User) (directory.User, error) {
	if s.Upstream == nil || up.Kept == "" {
		return s.stands(ctx, actor.Tenant, up, person)
	}
	actor.Subject, actor.UserID = core.UserSubject(person.Email), person.ID
	return s.Upstream.Again(ctx, actor, up, person)
}

// stands returns the person whose sign-in at an identity provider still stands, as far as we know without asking it.
func (s *Server) stands(ctx context.Context, t core.TenantID, up session.Upstream, person directory.User) (directory.User, error) {
	keys := up.Keys(t)
	if len(keys) == 0 {
		return person, nil
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return directory.User{}, err
	}
	return person, up.Stands(items)
}

// denied says whether an error is a verdict about a person, and no failure to reach one.
func denied(err error) bool {
	return errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.Unavailable)
}

// clientCredentials gives an application a token for itself (RFC 6749 §4.4): no ID token, no refresh token, no scope of a
// person's. It costs one round trip, and once an hour a second one; one more where the proof is an assertion of the client's
// own, which is taken once, or an issuer's whose keys this instance did not expect.
func (s *Server) clientCredentials(ctx context.Context, c Call) (Tokens, error) {
	t := c.Actor.Tenant
	if c.Client.ID == CLI {
		return Tokens{}, refuse(UnauthorizedClient, "a client without a secret cannot act for itself")
	}
	if directory.IsAccessKey(c.Client.ID) {
		return s.keyCredentials(ctx, c)
	}
	read := []store.Key{store.Meta(t), store.Application(t, c.Client.ID)}
	if c.Client.federates() {
		read = append(read, s.guessed(t, c.Client.ID)...)
	}
	items, err := s.DB.Get(ctx, read...)
	if err != nil {
		return Tokens{}, err
	}
	meta, err := s.tenants.decode(items[0], org.Decode)
	if err != nil {
		return Tokens{}, err
	}
	client, err := s.authenticate(ctx, c, items[1:])
	if err != nil {
		return Tokens{}, err
	}
	if client.Public {
		return Tokens{}, refuse(UnauthorizedClient, "a client without a secret cannot act for itself")
	}
	return s.applicationTokens(ctx, meta.Value, client)
}

// password gives a local user tokens for a name and a password (RFC 6749 §4.3), where the tenant allows it: it keeps
// people in the habit of typing passwords into programs.
func (s *Server) password(ctx context.Context, c Call) (Tokens, error) {
	t := c.Actor.Tenant
	if c.Params["username"] == "" || c.Params["password"] == "" {
		return Tokens{}, refuse(InvalidRequest, "username and password are needed")
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
	if !meta.Value.Settings.PasswordGrant {
		return Tokens{}, refuse(UnauthorizedClient, "this tenant does not allow the password grant; sign in with the browser")
	}
	scope, err := parseScope(c.Params["scope"])
	if err != nil {
		return Tokens{}, err
	}
	const wrong = "the name or the password is wrong"
	u, err := s.Directory.Authenticate(ctx, c.Actor, c.Params["username"], c.Params["password"], false)
	if errors.Is(err, core.Throttled) {
		return Tokens{}, err
	} else if err != nil {
		return Tokens{}, refuseFor(err, InvalidGrant, wrong)
	}
	if u.MustChange() {
		return Tokens{}, refuse(InvalidGrant, "the password is temporary; sign in with the browser to choose your own")
	}
	now := s.Now()
	f, begin, err := s.Sessions.Begin(meta.Value, session.Family{
		Client: client.ID, Email: u.Email, User: u.ID, Epoch: u.Epoch, Scope: scope.String(),
		AuthTime: now, Methods: []string{"pwd"}, Offline: scope.Has(ScopeOffline),
	}, meta.Value.Settings.AccessTokenLife)
	if err != nil {
		return Tokens{}, err
	}
	actor := c.Actor
	actor.Subject, actor.UserID = core.UserSubject(u.Email), u.ID
	note, err := audit.Op(actor, now, audit.Record{Action: audit.SignIn, EntityType: audit.EntitySession, EntityID: f.ID})
	if err != nil {
		return Tokens{}, err
	}
	tokens, err := s.firstTokens(ctx, meta.Value, f, u, scope, "")
	if err != nil {
		return Tokens{}, err
	}
	if err := s.DB.Commit(ctx, begin, note); err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// firstTokens makes the tokens of a family that is about to begin, its refresh token among them. They are made before the
// commit that begins it, so that a key which cannot be read costs nobody a code, and given out only after it.
func (s *Server) firstTokens(ctx context.Context, t org.Tenant, f session.Family, u directory.User, scope Scope, nonce string) (Tokens, error) {
	tokens, err := s.personTokens(ctx, t, f, u, scope, nonce)
	if err == nil && f.Offline {
		tokens.RefreshToken, err = s.Sessions.Token(ctx, t.ID, f)
	}
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// personTokens makes the tokens of a family but for its refresh token.
func (s *Server) personTokens(ctx context.Context, t org.Tenant, f session.Family, u directory.User, scope Scope, nonce string) (Tokens, error) {
	now, issuer := s.Now(), s.Issuer(t.ID)
	ends := now.Add(t.Settings.AccessTokenLife)
	if last := f.Until(t); last.Before(ends) {
		ends = last // nothing outlives the sign-in that it was made from
	}
	if ends.Unix() <= now.Unix() {
		return Tokens{}, refuse(InvalidGrant, "the sign-in has come to its end; sign in again")
	}
	access, err := token.Mint(ctx, s.Ring, t.ID, keys.ES256, token.Access{
		Issuer: issuer, Subject: string(u.ID), Audience: s.audience(t.ID, f.Client), Client: string(f.Client), Scope: scope.String(),
		Email: string(u.Email), Kind: core.User, Family: f.ID, IssuedAt: now, Expires: ends, AuthTime: f.AuthTime,
	})
	if err != nil {
		return Tokens{}, err
	}
	out := Tokens{AccessToken: access, TokenType: "Bearer", ExpiresIn: int64(ends.Sub(now) / time.Second), Scope: scope.String()}
	if scope.Has(ScopeOpenID) {
		id := token.ID{
			Issuer: issuer, Subject: string(u.ID), Audience: string(f.Client), Family: f.Session, Nonce: nonce,
			IssuedAt: now, Expires: ends, AuthTime: f.AuthTime, AMR: f.Methods, AccessHash: token.Hash(access),
		}
		describe(&id, u, scope)
		out.IDToken, err = token.Mint(ctx, s.Ring, t.ID, keys.ES256, id)
		if errors.Is(err, core.Limit) && len(id.Groups) > 0 {
			// Too many groups for a token must not lock a person out. Userinfo has them all.
			id.Groups = nil
			out.IDToken, err = token.Mint(ctx, s.Ring, t.ID, keys.ES256, id)
		}
		if err != nil {
			return Tokens{}, err
		}
	}
	return out, nil
}
