package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// code is an authorization code: everything that it is bound to. It is stored under its hash. Once presented it is used,
// and it stays, used, for as long as what was made from it may live, so that a second presentation is recognized.
type code struct {
	Client      core.ApplicationID `json:"client"`
	RedirectURI string             `json:"redirectUri"`
	Challenge   string             `json:"challenge"`
	Nonce       string             `json:"nonce,omitempty"`
	Scope       string             `json:"scope"`
	Session     session.Session    `json:"session"` // who, proved how and when
	IssuedAt    time.Time          `json:"issuedAt"`
	Used        bool               `json:"used,omitempty"`
	Family      string             `json:"family,omitempty"` // what was made from it
}

// CodeLife is how long a code may be redeemed.
const CodeLife = 60 * time.Second

var codes store.Table[code]

// Issue makes a code for the session: where the browser takes it, and the operation that stores it.
func (s *Server) Issue(r Request, who session.Session) (location string, op store.Op, err error) {
	now, secret := s.Now(), core.NewSecret()
	op, err = codes.Put(store.Code(r.tenant.ID, session.Hash(secret)), 0, code{
		Client: r.Client.ID, RedirectURI: r.RedirectURI, Challenge: r.Challenge, Nonce: r.Nonce,
		Scope: r.Scope.String(), Session: who, IssuedAt: now,
	})
	return s.answer(r, url.Values{"code": {secret}}), op.Until(now.Add(CodeLife)), err
}

// Answer issues a code for a session that settles the request, and returns where the browser takes it.
func (s *Server) Answer(ctx context.Context, r Request, c session.Current) (string, error) {
	location, op, err := s.Issue(r, c.Session)
	if err != nil {
		return "", err
	}
	return location, s.DB.Commit(ctx, op)
}

// badCode is the one wording for every code that is not redeemed.
const badCode = "the code is unknown, expired, used, or bound to another client, redirect_uri or code_verifier"

// redeem swaps a code for tokens (RFC 6749 §4.1.3). A code is presented once: whoever presents it wrongly burns it, and
// who presents it again revokes what was made from it.
func (s *Server) redeem(ctx context.Context, c Call) (Tokens, error) {
	t, secret := c.Actor.Tenant, c.Params["code"]
	if secret == "" || c.Params["redirect_uri"] == "" || c.Params["code_verifier"] == "" {
		return Tokens{}, refuse(InvalidRequest, "code, redirect_uri and code_verifier are needed")
	}
	if len(secret) != 52 || !onlyBytes(secret, "") {
		secret = "none" // reads nothing that is there, and authenticates the client all the same
	}
	key := store.Code(t, session.Hash(secret))
	keys := append([]store.Key{store.Meta(t), key}, clientKeys(t, c.Client.ID)...)
	var tokens Tokens
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, keys...)
		if err != nil {
			return err
		}
		meta, err := org.Decode(items[0])
		if err != nil {
			return err
		}
		client, err := s.authenticate(ctx, c, items[2:])
		if err != nil {
			return err
		}
		rec, err := codes.Decode(items[1])
		if err != nil {
			return err
		}
		tokens, err = s.redeemOnce(ctx, c, meta.Value, client, rec)
		return err
	})
	return tokens, err
}

// redeemOnce decides about a code as it is stored now. A core.Conflict means that somebody else presented it meanwhile.
func (s *Server) redeemOnce(ctx context.Context, c Call, t org.Tenant, client Client, rec store.Record[code]) (Tokens, error) {
	v, now := rec.Value, s.Now()
	switch {
	case !rec.Exists():
		return Tokens{}, refuse(InvalidGrant, badCode)
	case v.Used:
		if v.Family != "" {
			if err := s.Sessions.RevokeFamily(ctx, c.Actor, v.Family, "an authorization code was presented twice"); err != nil {
				return Tokens{}, err
			}
		}
		return Tokens{}, refuse(InvalidGrant, badCode)
	}
	sum := sha256.Sum256([]byte(c.Params["code_verifier"]))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	bound := client.ID == v.Client && c.Params["redirect_uri"] == v.RedirectURI && now.Before(v.IssuedAt.Add(CodeLife)) &&
		verifierForm(c.Params["code_verifier"]) && subtle.ConstantTimeCompare([]byte(challenge), []byte(v.Challenge)) == 1
	person, err := s.holder(ctx, t, v.Session)
	if err == nil && bound && v.Session.Kept != "" {
		person, err = s.vouched(ctx, c.Actor, v.Session.Upstream, person)
	}
	if err != nil && !denied(err) {
		return Tokens{}, err // the code is as good as before
	}
	bound, v.Used = bound && err == nil, true
	if !bound {
		burn, err := codes.Put(rec.Key, rec.Version, v)
		if err != nil {
			return Tokens{}, err
		}
		if err := s.DB.Commit(ctx, burn.Until(v.IssuedAt.Add(CodeLife))); err != nil {
			return Tokens{}, err
		}
		return Tokens{}, &Error{Code: InvalidGrant, Description: badCode, cause: err}
	}
	scope, err := parseScope(v.Scope)
	if err != nil {
		return Tokens{}, err
	}
	f, begin, err := s.Sessions.Begin(t, session.Family{
		Client: client.ID, Email: v.Session.Email, User: v.Session.User, Epoch: v.Session.Epoch, Scope: v.Scope,
		Session: v.Session.ID, AuthTime: v.Session.AuthTime, Methods: v.Session.Methods, Offline: scope.Has(ScopeOffline),
		Upstream:  v.Session.Upstream,
		StartedAt: v.Session.StartedAt, // what descends from a session ends with it, not as long after the code again
	}, t.Settings.AccessTokenLife)
	if err != nil {
		return Tokens{}, err
	}
	v.Family = f.ID
	put, err := codes.Put(rec.Key, rec.Version, v)
	if err != nil {
		return Tokens{}, err
	}
	// Signed first and committed second: where a key cannot be read, the code is as good as before.
	tokens, err := s.firstTokens(ctx, t, f, person, scope, v.Nonce)
	if err != nil {
		return Tokens{}, err
	}
	if err := s.DB.Commit(ctx, put.Until(begin.Expires), begin); err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// holder is the person for whom a code was issued, if what the session rested on at that time still holds; else the error is
// core.Unauthenticated. It costs one round trip.
func (s *Server) holder(ctx context.Context, t org.Tenant, sess session.Session) (directory.User, error) {
	items, err := s.DB.Get(ctx, append([]store.Key{store.User(t.ID, sess.Email)}, sess.Upstream.Keys(t.ID)...)...)
	if err != nil {
		return directory.User{}, err
	}
	rec, err := directory.Users.Decode(items[0])
	if err != nil {
		return directory.User{}, err
	}
	if err := session.Same(rec, sess.User, sess.Epoch); err != nil {
		return directory.User{}, err
	}
	if err := session.Admits(t, rec.Value); err != nil {
		return directory.User{}, err
	}
	return rec.Value, sess.Upstream.Stands(items[1:])
}
