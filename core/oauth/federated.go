package oauth

import (
	"context"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// GrantJWTBearer is the grant type of an assertion (RFC 7523 §2.1).
const GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// badAssertion is the one wording for every token of an issuer that is not taken.
const badAssertion = "the token is of no issuer that this application trusts, or does not stand for it"

// assertion gives an application a token for itself, for one of an issuer that it trusts. The token is the only proof: who has a
// secret, too, asks for client_credentials.
func (s *Server) assertion(ctx context.Context, c Call) (Tokens, error) {
	raw := c.Params["assertion"]
	if raw == "" {
		return Tokens{}, refuse(InvalidRequest, "assertion is missing")
	}
	meta, client, _, err := s.standsFor(ctx, c, raw, InvalidGrant)
	if err != nil {
		return Tokens{}, err
	}
	return s.applicationTokens(ctx, meta, client)
}

// exchangeForeign swaps a token of an issuer for one of the application that it stands for (RFC 8693 §2.1): for a cluster, if
// the request names one, or else for our own APIs.
func (s *Server) exchangeForeign(ctx context.Context, c Call, issued string) (Tokens, error) {
	t, raw := c.Actor.Tenant, c.Params["subject_token"]
	if c.Params["audience"] == "" && c.Params["resource"] == "" {
		meta, client, _, err := s.standsFor(ctx, c, raw, InvalidRequest)
		if err != nil {
			return Tokens{}, err
		}
		tokens, err := s.applicationTokens(ctx, meta, client)
		tokens.IssuedTokenType = issued
		return tokens, err
	}
	cluster, err := target(c.Params)
	if err != nil {
		return Tokens{}, err
	}
	meta, client, items, err := s.standsFor(ctx, c, raw, InvalidRequest, store.Scope(t, core.ClusterScope(cluster)))
	if err != nil {
		return Tokens{}, err
	}
	reach, err := clusterOf(items[0])
	if err != nil {
		return Tokens{}, err
	}
	if err := s.Directory.Seen(ctx, client.rec); err != nil {
		return Tokens{}, err
	}
	claims := token.Cluster{Subject: string(client.ID), PreferredUsername: "app:" + string(client.ID)}
	return s.clusterToken(ctx, meta, cluster, reach, claims, time.Time{}, issued)
}

// standsFor is the application that a call names by its client_id and a token of an issuer stands for, with the tenant and the
// items of more. A token that is not taken is refused with the code. It costs one round trip if this instance knows the
// application, and else two.
func (s *Server) standsFor(ctx context.Context, c Call, raw string, code Code, more ...store.Key) (org.Tenant, Client, []store.Item, error) {
	t, id := c.Actor.Tenant, c.Client.ID
	fail := func(err error) (org.Tenant, Client, []store.Item, error) { return org.Tenant{}, Client{}, nil, err }
	if c.Client.Secret != "" || c.Client.Assertion != "" {
		return fail(refuse(InvalidRequest, "the token is the proof; send client_id without client credentials"))
	}
	if id == CLI || directory.IsAccessKey(id) {
		return fail(refuse(UnauthorizedClient, "client_id must be that of an application, which the token stands for"))
	}
	read := append([]store.Key{store.Meta(t)}, more...)
	read = append(read, store.Application(t, id))
	items, err := s.DB.Get(ctx, append(read, s.guessed(t, id)...)...)
	if err != nil {
		return fail(err)
	}
	meta, err := s.tenants.decode(items[0], org.Decode)
	if err != nil {
		return fail(err)
	}
	others, items := items[1:1+len(more)], items[1+len(more):]
	client, err := s.clientOf(id, items)
	if err == nil {
		err = s.federated(ctx, t, client, raw, items)
	}
	if err != nil {
		return fail(refuseFor(err, code, badAssertion))
	}
	return meta.Value, client, others, nil
}

// applicationTokens gives an application a token for itself (RFC 6749 §4.4): no ID token, no refresh token, no scope of a
// person's.
func (s *Server) applicationTokens(ctx context.Context, t org.Tenant, client Client) (Tokens, error) {
	// Once an hour a write remembers that the application is in use.
	if err := s.Directory.Seen(ctx, client.rec); err != nil {
		return Tokens{}, err
	}
	now, life, issuer := s.Now(), t.Settings.AccessTokenLife, s.Issuer(t.ID)
	access, err := token.Mint(ctx, s.Ring, t.ID, keys.ES256, token.Access{
		Issuer: issuer, Subject: string(client.ID), Audience: issuer, Client: string(client.ID), Kind: core.Application,
		IssuedAt: now, Expires: now.Add(life),
	})
	return Tokens{AccessToken: access, TokenType: "Bearer", ExpiresIn: int64(life / time.Second)}, err
}
