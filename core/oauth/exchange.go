package oauth

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// The token types of RFC 8693 §3 that mean something here.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = TypeJWT
)

// The types of a subject token that is another's: what an issuer made for a program, and an identity provider for a person.
const (
	TypeJWT     = "urn:ietf:params:oauth:token-type:jwt"
	TypeIDToken = "urn:ietf:params:oauth:token-type:id_token"
)

const (
	badSubject = "subject_token is no valid access token of this client"
	badTarget  = "audience must be the id of one cluster of this tenant"
)

// exchange swaps a token for another (RFC 8693): one that others made, for ours (exchangeForeign, exchangeIDToken), and else
// an access token for our own APIs for a token whose audience is one cluster; the token of a
// person that another client than ours has is not one. Whoever is signed in gets
// one for every cluster of the tenant; what it may do there, the cluster's RBAC decides. A cluster of another tenant looks
// like one that there is not. The token names only the groups that a live rule there names, so that it says no more of
// the person than the cluster must know, and does not grow with their other groups.
func (s *Server) exchange(ctx context.Context, c Call) (Tokens, error) {
	t, p := c.Actor.Tenant, c.Params
	switch {
	case p["subject_token"] == "":
		return Tokens{}, refuse(InvalidRequest, "subject_token is missing")
	case p["subject_token_type"] != typeAccessToken && p["subject_token_type"] != typeJWT && p["subject_token_type"] != TypeIDToken:
		return Tokens{}, refuse(InvalidRequest, "subject_token_type must be "+typeAccessToken+", "+typeJWT+" or "+TypeIDToken)
	case p["actor_token"] != "" || p["actor_token_type"] != "":
		return Tokens{}, refuse(InvalidRequest, "actor_token is not supported: nobody acts for another")
	}
	issued := p["requested_token_type"]
	switch issued {
	case "":
		issued = typeAccessToken
	case typeAccessToken, typeJWT:
	default:
		return Tokens{}, refuse(InvalidRequest, "requested_token_type must be "+typeAccessToken+" or "+typeJWT)
	}
	if p["subject_token_type"] == TypeIDToken {
		return s.exchangeIDToken(ctx, c, issued)
	}
	if p["subject_token_type"] == typeJWT && c.Client.ID != CLI && foreign(p["subject_token"], s.Issuer(t)) {
		return s.exchangeForeign(ctx, c, issued)
	}
	cluster, err := target(p)
	if err != nil {
		return Tokens{}, err
	}
	subject, err := token.ParseAccess(ctx, s.Ring, t, s.Issuer(t), p["subject_token"], s.Now())
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidRequest, badSubject)
	}
	scope := store.Scope(t, core.ClusterScope(cluster))
	if subject.Kind == core.Application {
		return s.exchangeApplication(ctx, c, subject, cluster, scope, issued)
	}
	if ofKey(subject) {
		return s.exchangeKey(ctx, c, subject, cluster, scope, issued)
	}
	keys := append([]store.Key{scope}, clientKeys(t, c.Client.ID)...)
	living, err := s.Sessions.Alive(ctx, t, subject.Family, core.Email(subject.Email), keys...)
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidRequest, badSubject)
	}
	client, err := s.authenticate(ctx, c, living.Extra[1:])
	if err != nil {
		return Tokens{}, err
	}
	if string(client.ID) != subject.Client || client.ID != living.Family.Client || string(living.Person.ID) != subject.Subject {
		return Tokens{}, refuse(InvalidRequest, badSubject)
	}
	return s.exchangePerson(ctx, living, living.Extra[0], cluster, issued)
}

// exchangePerson is the token of a person for a cluster, from the item of its scope.
func (s *Server) exchangePerson(ctx context.Context, living session.Living, scope store.Item, cluster core.ClusterID, issued string) (Tokens, error) {
	reach, err := clusterOf(scope)
	if err != nil {
		return Tokens{}, err
	}
	u := living.Person
	groups, err := s.Access.RelevantGroups(ctx, living.Tenant.ID, u.AllGroups(), cluster)
	if err != nil {
		return Tokens{}, err
	}
	claims := token.Cluster{
		Subject: string(u.ID), PreferredUsername: string(u.Email), Email: string(u.Email), EmailVerified: true,
		Groups: names(groups), UID: u.UID, GID: u.GID, SupplementaryGroups: u.SupplementaryGroups,
	}
	return s.clusterToken(ctx, living.Tenant, cluster, reach, claims, living.Until(), issued)
}

// exchangeApplication is exchange for an application that acts for itself. It has no groups.
func (s *Server) exchangeApplication(ctx context.Context, c Call, subject token.Access, cluster core.ClusterID, scope store.Key, issued string) (Tokens, error) {
	t := c.Actor.Tenant
	if string(c.Client.ID) != subject.Client || string(c.Client.ID) != subject.Subject || c.Client.ID == CLI {
		return Tokens{}, refuse(InvalidRequest, badSubject)
	}
	items, err := s.DB.Get(ctx, store.Meta(t), scope, store.Application(t, c.Client.ID))
	if err != nil {
		return Tokens{}, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return Tokens{}, err
	}
	if _, err := s.authenticate(ctx, c, items[2:]); err != nil {
		return Tokens{}, err
	}
	reach, err := clusterOf(items[1])
	if err != nil {
		return Tokens{}, err
	}
	claims := token.Cluster{Subject: subject.Subject, PreferredUsername: "app:" + subject.Subject}
	return s.clusterToken(ctx, meta.Value, cluster, reach, claims, time.Time{}, issued)
}

// clusterToken mints the token. It does not outlive ends, the end of the sign-in, unless that is zero.
func (s *Server) clusterToken(ctx context.Context, t org.Tenant, cluster core.ClusterID, reach org.Reach, claims token.Cluster, ends time.Time, issued string) (Tokens, error) {
	now := s.Now()
	until := now.Add(t.Settings.ClusterTokenLife)
	if !ends.IsZero() && ends.Before(until) {
		until = ends
	}
	if !until.After(now) {
		return Tokens{}, refuse(InvalidRequest, badSubject)
	}
	claims.Issuer, claims.Audience = s.Issuer(t.ID), string(cluster)
	claims.IssuedAt, claims.Expires = now, until
	alg := keys.Algorithm(reach.Algorithm)
	if alg == "" {
		alg = keys.ES256
	}
	raw, err := token.Mint(ctx, s.Ring, t.ID, alg, claims)
	return Tokens{
		AccessToken: raw, IssuedTokenType: issued, TokenType: "Bearer", ExpiresIn: int64(until.Sub(now) / time.Second),
	}, err
}

// target is the cluster that an exchange is for: its id in audience, or "urn:uuid:" and its id in resource, which must be
// a URI (RFC 8693 §2.1).
func target(p Params) (core.ClusterID, error) {
	id := p["audience"]
	if r := p["resource"]; r != "" {
		u, ok := strings.CutPrefix(r, "urn:uuid:")
		if !ok || id != "" && id != u {
			return "", refuse(InvalidTarget, "resource must be urn:uuid: and the id of the cluster, the same as audience if both are given")
		}
		id = u
	}
	if !uuidForm(id) {
		return "", refuse(InvalidTarget, badTarget)
	}
	return core.ClusterID(id), nil
}

// uuidForm says whether s is a UUID in its one canonical spelling (RFC 9562 §4), lower case.
func uuidForm(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// clusterOf is how a cluster is reached; absent or deleted is invalid_target.
func clusterOf(it store.Item) (org.Reach, error) {
	rec, err := org.DecodeScope(it)
	if errors.Is(err, core.NotFound) || err == nil && (rec.Value.Kind != core.Cluster || rec.Value.Reach == nil) {
		return org.Reach{}, refuse(InvalidTarget, badTarget)
	} else if err != nil {
		return org.Reach{}, err
	}
	return *rec.Value.Reach, nil
}

// describe fills in what a scope lets a client know of a person (OpenID Connect Core §5.4).
func describe(id *token.ID, u directory.User, scope Scope) {
	if scope.Has(ScopeEmail) {
		id.Email, id.EmailVerified = string(u.Email), true
	}
	if scope.Has(ScopeProfile) {
		id.Name = strings.TrimSpace(u.FirstName + " " + u.LastName)
		id.GivenName, id.FamilyName, id.PreferredUsername = u.FirstName, u.LastName, string(u.Email)
	}
	if scope.Has(ScopeGroups) {
		id.Groups = names(u.AllGroups())
	}
}

func names(groups []core.GroupName) []string {
	list := make([]string, len(groups))
	for i, g := range groups {
		list[i] = string(g)
	}
	return list
}
