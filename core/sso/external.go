package sso

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// Taker is a Provider that can judge an ID token by itself: one that somebody got for the connection's client in another way
// than by Start.
type Taker interface {
	// Take judges the token as Finish does, but for what ties it to a sign-in that began here: there is none. It must be of the
	// last minutes, and an ID token by all that it says: what else a provider signs for a client is refused. ErrRefused: see
	// Finish. There is nobody to ask for what it leaves out, so it counts as all that the provider says: it is never Partial.
	Take(ctx context.Context, c Connection, raw string, now time.Time, r *Report) (Assertion, error)
}

// maxExternal bounds an ID token that is presented by itself, in bytes.
const maxExternal = 16 << 10

var errNoTaker = fmt.Errorf("no connected identity provider takes this token: %w", core.Unauthenticated)

// Vouch takes an ID token of a connected OpenID provider as proof of a person, where the connection allows it
// (OIDCSettings.TokenExchange), once. It returns who the person is now and what the commit must hold that signs them in; who gets a
// core.Conflict from that commit may call it again. A token that is not taken is core.Unauthenticated, and leaves the trace of a
// refused sign-in if it names a connection; too many of these are core.Throttled. It costs three round trips, beside what the
// provider's keys cost.
//
// There is no browser here, and no nonce: whoever holds the token is taken for the person. So it must be made for the
// connection's own client, be a few minutes old at most, and is used up.
//
// It is the provider's word as a sign-in is, and follows the same rule: groups, uid, gid and names that it leaves out, the person
// has no more, wherever they are signed in. Otherwise somebody who lost a group would keep it for as long as they bring tokens.
// Whether the groups of a connection stand at userinfo alone, nobody knows for certain (Kept.Whole is about one sign-in); where
// they do, an exchange takes them, and the next sign-in, or refresh of one, that asks userinfo gives them back.
func (s *Service) Vouch(ctx context.Context, actor core.Actor, raw string) (session.Proof, []store.Op, error) {
	t := actor.Tenant
	rec, taker, err := s.takerOf(ctx, t, raw)
	if err != nil {
		return session.Proof{}, nil, err
	}
	v := visit{Service: s, actor: actor, rec: rec, at: s.Now()}
	c, r := rec.Value, &Report{}
	said, err := taker.Take(ctx, c, raw, v.at, r)
	if err == nil {
		err = r.Err()
	}
	if err != nil && !errors.Is(err, ErrRefused) {
		return session.Proof{}, nil, err
	}
	if err != nil {
		return session.Proof{}, nil, v.turnAway(ctx, r, nil)
	}
	who, ok := c.Mappers.Map(c, said.Attributes, r)
	if !ok || r.Err() != nil {
		return session.Proof{}, nil, v.turnAway(ctx, r, nil)
	}
	who.Subject = said.Subject
	if name := c.Mappers.Named().Groups; said.Attributes[name] == nil {
		r.Note(CheckGroups, "no "+quote(name)+" in the ID token, so the person has no groups of the provider's any more",
			"If the person should have groups here: let the provider put them into the ID token, as there is no other place to read them from in a token exchange.")
	}
	if err := s.owns(ctx, t, c, who.Email, r); err != nil {
		return session.Proof{}, nil, err
	}
	// What was signed, and not the signature: of an elliptic curve's there are always two that are good.
	used := store.Used(t, "id-token", session.Hash(c.ID+" "+raw[:strings.LastIndexByte(raw, '.')]))
	items, err := s.DB.Get(ctx, store.User(t, who.Email), used)
	if err != nil {
		return session.Proof{}, nil, err
	}
	person, err := directory.Users.Decode(items[0])
	if err != nil {
		return session.Proof{}, nil, err
	}
	if items[1].Version != 0 {
		r.Fail(CheckReplay, "this very token was used before", "one that was not", "Get another ID token from the provider for each sign-in.")
	}
	if r.Err() != nil {
		return session.Proof{}, nil, v.turnAway(ctx, r, &who)
	}
	user, ops, err := s.Directory.FromProvider(actor, person, who.said(c))
	if refused, ok := errors.AsType[*directory.RefusedError](err); ok {
		r.Fail(CheckAccount, refused.Found, "somebody who may sign in by this identity provider", refused.Fix)
		return session.Proof{}, nil, v.turnAway(ctx, r, &who)
	} else if err != nil {
		return session.Proof{}, nil, err
	}
	r.Pass(CheckReplay, "not seen before")
	index, err := s.Directory.FollowGroups(ctx, t, person.Value, user, who.said(c))
	if err != nil {
		return session.Proof{}, nil, err
	}
	told, err := v.traced(r, SignedIn, &who)
	if err != nil {
		return session.Proof{}, nil, err
	}
	ops = append(append(ops, index...), told, store.Put(used, 0, nil).Until(said.Until.Add(time.Minute)))
	return session.Proof{
		User: user, At: said.AuthTime, Methods: methods(c.Kind, said.Methods),
		Upstream: session.Upstream{Connection: c.ID, Alias: string(c.Alias), Ends: said.Ends},
	}, ops, nil
}

// turnAway leaves the trace and the record of a token that was not taken, as long as there are not too many from that place.
func (v *visit) turnAway(ctx context.Context, r *Report, who *Identity) error {
	if err := v.count(ctx); err != nil {
		return err
	}
	return v.refuse(ctx, r, who)
}

// takerOf finds the connection that a token is for, by what it says of itself. That it is so, is judged afterwards.
func (s *Service) takerOf(ctx context.Context, t core.TenantID, raw string) (store.Record[Connection], Taker, error) {
	none := store.Record[Connection]{}
	if len(raw) > maxExternal {
		return none, nil, errNoTaker
	}
	_, claims, err := token.Strict(raw)
	if err != nil {
		return none, nil, errNoTaker
	}
	items, err := s.DB.Get(ctx, store.Meta(t), store.Catalog(t))
	if err != nil {
		return none, nil, err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return none, nil, err
	}
	catalog, err := catalogs.Decode(items[1])
	if err != nil {
		return none, nil, err
	}
	var keys []store.Key
	for _, e := range catalog.Value.Offered() {
		if e.Kind == OIDC {
			keys = append(keys, store.Connection(t, string(e.Alias)))
		}
	}
	taker, ok := s.Providers[OIDC].(Taker)
	if len(keys) == 0 || !ok {
		return none, nil, errNoTaker
	}
	if items, err = s.DB.Get(ctx, keys...); err != nil {
		return none, nil, err
	}
	for _, it := range items {
		rec, err := connections.Decode(it)
		if err != nil {
			return none, nil, err
		}
		if o := rec.Value.OIDC; o != nil && o.TokenExchange && rec.Value.Enabled && says(claims["iss"], o.Provider.Issuer) && says(claims["aud"], o.ClientID) {
			return rec, taker, nil
		}
	}
	return none, nil, errNoTaker
}

// says whether a claim is that text, or a list with it.
func says(claim jsontext.Value, text string) bool {
	var one string
	var several []string
	switch claim.Kind() {
	case '"':
		return json.Unmarshal(claim, &one) == nil && one == text
	case '[':
		return json.Unmarshal(claim, &several) == nil && slices.Contains(several, text)
	}
	return false
}
