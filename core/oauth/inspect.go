package oauth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// UserInfo is what the userinfo endpoint answers (OpenID Connect Core §5.3.2).
type UserInfo struct {
	Subject           string   `json:"sub"`
	Email             string   `json:"email,omitempty"`
	EmailVerified     bool     `json:"email_verified,omitzero"`
	Name              string   `json:"name,omitempty"`
	GivenName         string   `json:"given_name,omitempty"`
	FamilyName        string   `json:"family_name,omitempty"`
	PreferredUsername string   `json:"preferred_username,omitempty"`
	Groups            []string `json:"groups,omitempty"`
}

// UserInfo answers for the person of an access token, whichever client has it, as far as its scope goes. A token that does not count any more is
// invalid_token.
func (s *Server) UserInfo(ctx context.Context, t core.TenantID, raw string) (UserInfo, error) {
	const bad = "the access token is malformed, expired or revoked"
	access, err := token.ParseAnyAccess(ctx, s.Ring, t, s.Issuer(t), raw, s.Now())
	if err != nil {
		return UserInfo{}, refuseFor(err, InvalidToken, bad)
	}
	scope, err := parseScope(access.Scope)
	if err != nil || access.Kind != core.User || !scope.Has(ScopeOpenID) {
		return UserInfo{}, refuse(InsufficientScope, "userinfo needs an access token of a person, with the scope openid")
	}
	living, err := s.alive(ctx, t, access)
	if err != nil {
		return UserInfo{}, refuseFor(err, InvalidToken, bad)
	}
	var id token.ID
	describe(&id, living.Person, scope)
	return UserInfo{
		Subject: access.Subject, Email: id.Email, EmailVerified: id.EmailVerified, Name: id.Name, GivenName: id.GivenName,
		FamilyName: id.FamilyName, PreferredUsername: id.PreferredUsername, Groups: id.Groups,
	}, nil
}

// alive reads what a person's access token descends from, in one round trip: the sign-in, the person, and the client that it
// was given to, which must not be disabled or gone either.
func (s *Server) alive(ctx context.Context, t core.TenantID, a token.Access) (session.Living, error) {
	if ofKey(a) {
		return s.keyLiving(ctx, t, a)
	}
	client := core.ApplicationID(a.Client)
	living, err := s.Sessions.Alive(ctx, t, a.Family, core.Email(a.Email), clientKeys(t, client)...)
	if err != nil {
		return session.Living{}, err
	}
	if _, err := s.clientOf(client, living.Extra); err != nil {
		return session.Living{}, err
	}
	if string(living.Person.ID) != a.Subject || living.Family.Client != client {
		return session.Living{}, fmt.Errorf("the token is another sign-in's: %w", core.Unauthenticated)
	}
	return living, nil
}

// Introspection is what is said of a token (RFC 7662 §2.2). Of one that does not count, only that.
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	Client    string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitzero"`
	IssuedAt  int64  `json:"iat,omitzero"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ID        string `json:"jti,omitempty"`
}

// Introspect says whether a token of this tenant counts now: it was not revoked, and its person or application is still
// there, and so is the client that has it. Only a client with a secret may ask. A token of another tenant, or no token at all, is inactive; a store that does
// not answer is an error and never an answer.
func (s *Server) Introspect(ctx context.Context, c Call) (Introspection, error) {
	t, raw := c.Actor.Tenant, c.Params["token"]
	client, err := s.known(ctx, c)
	if err != nil {
		return Introspection{}, err
	}
	if client.Public {
		return Introspection{}, refuse(InvalidClient, "introspection needs a client with a secret")
	}
	if raw == "" {
		return Introspection{}, refuse(InvalidRequest, "token is missing")
	}
	var out Introspection
	if strings.HasPrefix(raw, "fpr_") {
		out, err = s.inspectRefresh(ctx, t, client, raw)
	} else {
		out, err = s.inspectAccess(ctx, t, raw)
	}
	if err = refuseFor(err, InvalidToken, "inactive"); err != nil {
		var no *Error
		if errors.As(err, &no) {
			return Introspection{}, nil
		}
		return Introspection{}, err
	}
	return out, nil
}

func (s *Server) inspectAccess(ctx context.Context, t core.TenantID, raw string) (Introspection, error) {
	a, err := token.ParseAnyAccess(ctx, s.Ring, t, s.Issuer(t), raw, s.Now())
	if err != nil {
		return Introspection{}, err
	}
	if a.Kind == core.Application {
		items, err := s.DB.Get(ctx, store.Application(t, core.ApplicationID(a.Subject)))
		if err != nil {
			return Introspection{}, err
		}
		if _, err := s.clientOf(core.ApplicationID(a.Subject), items); err != nil {
			return Introspection{}, err
		}
	} else if _, err := s.alive(ctx, t, a); err != nil {
		return Introspection{}, err
	}
	return Introspection{
		Active: true, Scope: a.Scope, Client: a.Client, Username: a.Email, TokenType: "Bearer", Expires: a.Expires.Unix(),
		IssuedAt: a.IssuedAt.Unix(), Subject: a.Subject, Audience: a.Audience, Issuer: a.Issuer, ID: a.ID,
	}, nil
}

// inspectRefresh answers about a refresh token to the client that it belongs to, and to no other.
func (s *Server) inspectRefresh(ctx context.Context, t core.TenantID, client Client, raw string) (Introspection, error) {
	p, err := s.Sessions.Present(ctx, t, raw)
	if err != nil {
		return Introspection{}, err
	}
	if !p.Live || !p.Newest() || p.Family.Client != client.ID {
		return Introspection{}, core.Unauthenticated
	}
	f := p.Family
	if _, err := s.stands(ctx, t, f.Upstream, p.Person); err != nil {
		return Introspection{}, err
	}
	return Introspection{
		Active: true, Scope: f.Scope, Client: string(f.Client), Username: string(f.Email), TokenType: "refresh_token", IssuedAt: f.RotatedAt.Unix(),
		Expires: f.Until(p.Tenant).Unix(), Subject: string(f.User), Issuer: s.Issuer(t),
	}, nil
}

const foreignToken = "the token belongs to another client"

// Revoke ends the sign-in that a token belongs to: its refresh tokens and, wherever that is asked, its access tokens
// (RFC 7009). A token that is none, or that ended before, is no error (§2.2). It is one if the store does not answer.
func (s *Server) Revoke(ctx context.Context, c Call) error {
	if directory.IsAccessKey(c.Client.ID) {
		return s.revokeKeyTokens(ctx, c)
	}
	t, raw := c.Actor.Tenant, c.Params["token"]
	client, err := s.known(ctx, c)
	if err != nil {
		return err
	}
	if raw == "" {
		return refuse(InvalidRequest, "token is missing")
	}
	if strings.HasPrefix(raw, "fpr_") {
		p, err := s.Sessions.Present(ctx, t, raw)
		if errors.Is(err, core.Unauthenticated) {
			return nil
		} else if err != nil {
			return err
		}
		if !p.Live {
			return nil
		}
		if p.Family.Client != client.ID {
			return refuse(UnauthorizedClient, foreignToken)
		}
		return s.Sessions.Revoke(ctx, c.Actor, p)
	}
	a, err := token.ParseAnyAccess(ctx, s.Ring, t, s.Issuer(t), raw, s.Now())
	switch {
	case errors.Is(err, core.Unavailable):
		return err
	case err != nil:
		return refuseUnlessVerdict(err)
	case a.Client != string(client.ID):
		return refuse(UnauthorizedClient, foreignToken)
	case a.Kind == core.Application:
		return refuse(UnsupportedTokenType, "an application's access token ends by itself, within minutes; disable the application to end them all")
	}
	return s.Sessions.RevokeFamily(ctx, c.Actor, a.Family, "revoked by the client")
}

// refuseUnlessVerdict is nil for an error that says that a token is none, and every other error as it is.
func refuseUnlessVerdict(err error) error {
	if errors.Is(err, core.Unauthenticated) || errors.Is(err, core.Invalid) || errors.Is(err, core.TooLarge) {
		return nil
	}
	return err
}

// known authenticates the client of a call, and nothing more.
func (s *Server) known(ctx context.Context, c Call) (Client, error) {
	t := c.Actor.Tenant
	items, err := s.DB.Get(ctx, append([]store.Key{store.Meta(t)}, clientKeys(t, c.Client.ID)...)...)
	if err != nil {
		return Client{}, err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return Client{}, err
	}
	return s.authenticate(ctx, c, items[1:])
}
