package oauth

import (
	"context"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// A personal access key is a client that acts for its owner, and only in this file one at all: it gets tokens for itself, swaps
// them for clusters' tokens, and takes them back. Everywhere else its id is one of no client.

// keyCredentials gives a program of a person's a token for the person, for its access key (RFC 6749 §4.4 in form): for our own
// APIs, without ID token, refresh token or scope, so userinfo knows nothing of it. It costs two round trips, since the key
// tells whose it is, and once an hour a third one. A key that is unknown, disabled, expired or whose owner cannot act is told
// apart by nothing: the secret is looked at first, and with the same work, so that only who knows it causes the second one.
func (s *Server) keyCredentials(ctx context.Context, c Call) (Tokens, error) {
	t := c.Actor.Tenant
	items, err := s.DB.Get(ctx, store.Meta(t), store.AccessKey(t, c.Client.ID))
	if err != nil {
		return Tokens{}, err
	}
	meta, err := s.tenants.decode(items[0], org.Decode)
	if err != nil {
		return Tokens{}, err
	}
	rec, err := s.authenticateKey(ctx, c, items[1])
	if err != nil {
		return Tokens{}, err
	}
	k := rec.Value
	living, err := s.Sessions.Alive(ctx, t, k.Family(), k.Email)
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidClient, unknownClient)
	}
	if err := s.Directory.KeySeen(ctx, rec); err != nil {
		return Tokens{}, err
	}
	now, issuer := s.Now(), s.Issuer(t)
	ends := now.Add(meta.Value.Settings.AccessTokenLife)
	if last := living.Until(); last.Before(ends) {
		ends = last // nothing outlives the key that it was made with
	}
	if ends.Unix() <= now.Unix() {
		return Tokens{}, refuse(InvalidClient, unknownClient)
	}
	access, err := token.Mint(ctx, s.Ring, t, keys.ES256, token.Access{
		Issuer: issuer, Subject: string(k.Owner), Audience: issuer, Client: string(k.ID), Email: string(k.Email), Kind: core.User,
		Family: k.Family(), IssuedAt: now, Expires: ends,
	})
	return Tokens{AccessToken: access, TokenType: "Bearer", ExpiresIn: int64(ends.Sub(now) / time.Second)}, err
}

// authenticateKey proves an access key by its secret, from its item. Whether the key stands is asked afterwards.
func (s *Server) authenticateKey(ctx context.Context, c Call, it store.Item) (store.Record[directory.AccessKey], error) {
	rec, err := directory.AccessKeys.Decode(it)
	if err != nil {
		return rec, err
	}
	if err := s.Directory.CheckKeySecret(ctx, c.Actor.Tenant, rec.Value, c.Client.Secret); err != nil {
		return rec, refuseFor(err, InvalidClient, unknownClient)
	}
	return rec, nil
}

// exchangeKey is exchange for a token that was made with an access key, which nobody but that key may swap.
func (s *Server) exchangeKey(ctx context.Context, c Call, subject token.Access, cluster core.ClusterID, scope store.Key, issued string) (Tokens, error) {
	t := c.Actor.Tenant
	if string(c.Client.ID) != subject.Client {
		return Tokens{}, refuse(InvalidRequest, badSubject)
	}
	living, err := s.Sessions.Alive(ctx, t, subject.Family, core.Email(subject.Email), scope)
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidRequest, badSubject)
	}
	if err := s.Directory.CheckKeySecret(ctx, t, living.Key, c.Client.Secret); err != nil {
		return Tokens{}, refuseFor(err, InvalidClient, unknownClient)
	}
	if string(living.Person.ID) != subject.Subject || living.Key.ID != c.Client.ID {
		return Tokens{}, refuse(InvalidRequest, badSubject)
	}
	return s.exchangePerson(ctx, living, living.Extra[0], cluster, issued)
}

// revokeKeyTokens is Revoke for an access key: it ends the tokens that were made with the key, if the presented one is of
// them, and no others. One that is none, or has ended, is no error.
func (s *Server) revokeKeyTokens(ctx context.Context, c Call) error {
	t, raw := c.Actor.Tenant, c.Params["token"]
	items, err := s.DB.Get(ctx, store.Meta(t), store.AccessKey(t, c.Client.ID))
	if err != nil {
		return err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return err
	}
	rec, err := s.authenticateKey(ctx, c, items[1])
	if err != nil {
		return err
	}
	if raw == "" {
		return refuse(InvalidRequest, "token is missing")
	}
	a, err := token.ParseAnyAccess(ctx, s.Ring, t, s.Issuer(t), raw, s.Now())
	if err != nil {
		return refuseUnlessVerdict(err)
	}
	if a.Client != string(c.Client.ID) {
		return refuse(UnauthorizedClient, foreignToken)
	}
	actor := c.Actor
	actor.Subject, actor.UserID = core.UserSubject(rec.Value.Email), rec.Value.Owner
	return s.Directory.RevokeKeyTokens(ctx, actor, t, rec.Value.ID, a.Family)
}

// keyLiving is alive for a token that was made with an access key.
func (s *Server) keyLiving(ctx context.Context, t core.TenantID, a token.Access) (session.Living, error) {
	living, err := s.Sessions.Alive(ctx, t, a.Family, core.Email(a.Email))
	if err == nil && (string(living.Person.ID) != a.Subject || string(living.Key.ID) != a.Client) {
		err = core.Unauthenticated
	}
	return living, err
}

// ofKey says whether a token was made with an access key.
func ofKey(a token.Access) bool { return directory.IsAccessKey(core.ApplicationID(a.Client)) }
