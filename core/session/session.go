// Package session owns what remembers that a person signed in: the browser's session (session.go), a sign-in under way
// (login.go), and refresh families, by which a client stays signed in without the browser (family.go, refresh.go). It
// decides when each of them ends. What tokens are made from them is core/oauth's affair; how a person proves who they are
// is core/directory's and core/sso's.
//
// Everything here ends when the person's epoch changes: at a change of password, a forced logout, or when the account is
// disabled or deleted. It is read with the session, in the same snapshot or after it, so every instance sees it at once. A
// person's access keys are no sign-ins and follow other rules: accesskey.go judges their tokens.
package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Service reads and writes sessions.
type Service struct {
	DB   store.DB
	Ring *keys.Ring       // authenticates refresh tokens
	Now  func() time.Time // UTC
}

// Session is a signed-in browser. It is stored under the hash of its cookie, so that who reads the store cannot become
// the person.
type Session struct {
	ID        string      `json:"id"` // public: the `sid` of ID tokens. It opens nothing
	Email     core.Email  `json:"email"`
	User      core.UserID `json:"user"`
	Epoch     string      `json:"epoch"`             // the person's, when the session began
	AuthTime  time.Time   `json:"authTime,omitzero"` // when they proved who they are; zero: the provider does not say
	Methods   []string    `json:"methods"`           // how they proved it: RFC 8176
	StartedAt time.Time   `json:"startedAt"`
	SeenAt    time.Time   `json:"seenAt"` // to about a minute
	Upstream
}

// Proof is that a person proved who they are.
type Proof struct {
	User    directory.User
	At      time.Time // zero: the identity provider does not say
	Methods []string  // RFC 8176: "pwd"
	Upstream
}

// touchEvery is how often a session's last use is written down. More often would make every page a write.
const touchEvery = time.Minute

var (
	sessions store.Table[Session]
	users    = directory.Users
)

// Hash is the form in which a one-time or browser-held secret is kept. The secrets are 256-bit random, so a plain hash is
// enough: there is nothing to guess.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// secretForm says whether s could be a secret that core.NewSecret made, so that junk costs no read.
func secretForm(s string) bool {
	if len(s) != 52 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '2' && c <= '9') {
			return false
		}
	}
	return true
}

// Open makes a new session: the cookie's secret, and the operations that begin it, which the caller commits with what
// the sign-in was for. It never reuses an id or a secret that the browser had before.
func (s *Service) Open(tenant org.Tenant, actor core.Actor, p Proof) (secret string, sess Session, ops []store.Op, err error) {
	now := s.Now()
	sess = Session{
		ID: core.NewID(), Email: p.User.Email, User: p.User.ID, Epoch: p.User.Epoch,
		AuthTime: p.At, Methods: p.Methods, StartedAt: now, SeenAt: now, Upstream: p.Upstream,
	}
	secret = core.NewSecret()
	put, err := sessions.Put(store.Session(tenant.ID, Hash(secret)), 0, sess)
	if err != nil {
		return "", Session{}, nil, err
	}
	rec, err := audit.Op(actor, now, audit.Record{Action: audit.SignIn, EntityType: audit.EntitySession, EntityID: sess.ID})
	if err != nil {
		return "", Session{}, nil, err
	}
	return secret, sess, []store.Op{put.Until(sess.ends(tenant)), rec}, nil
}

// ends is when a session is over, used or not.
func (s Session) ends(t org.Tenant) time.Time {
	return s.Upstream.cap(s.StartedAt.Add(t.Settings.AbsoluteLifetime))
}

// Current is a session that holds, with what was read to know it.
type Current struct {
	Session
	Person directory.User
	Tenant org.Tenant
}

// Check returns the session of a cookie. One that does not hold, for whatever reason, is core.Unauthenticated; a tenant
// that is suspended or absent is core.NotFound. A session that descends from an identity provider holds only as long as the
// sign-in there stands, and a local person's only while the tenant takes their password: see Upstream.Stands and Admits. It
// costs two reads, and once a minute a write.
func (s *Service) Check(ctx context.Context, tenant core.TenantID, cookie string) (Current, error) {
	if !secretForm(cookie) {
		return Current{}, fmt.Errorf("no session: %w", core.Unauthenticated)
	}
	key := store.Session(tenant, Hash(cookie))
	items, err := s.DB.Get(ctx, key, store.Meta(tenant))
	if err != nil {
		return Current{}, err
	}
	rec, err := sessions.Decode(items[0])
	if err != nil {
		return Current{}, err
	}
	meta, err := org.Decode(items[1])
	if err != nil {
		return Current{}, err
	}
	if !rec.Exists() {
		return Current{}, fmt.Errorf("no session: %w", core.Unauthenticated)
	}
	now, t := s.Now(), meta.Value
	c := Current{Session: rec.Value, Tenant: t}
	if err := fresh(t, now, c.StartedAt, c.SeenAt, c.Upstream); err != nil {
		return Current{}, err
	}
	items, err = s.DB.Get(ctx, append([]store.Key{store.User(tenant, c.Email)}, c.Upstream.Keys(tenant)...)...)
	if err != nil {
		return Current{}, err
	}
	person, err := users.Decode(items[0])
	if err != nil {
		return Current{}, err
	}
	if err := Same(person, c.User, c.Epoch); err != nil {
		return Current{}, err
	}
	if err := Admits(t, person.Value); err != nil {
		return Current{}, err
	}
	if err := c.Upstream.Stands(items[1:]); err != nil {
		return Current{}, err
	}
	c.Person = person.Value
	if now.Sub(c.SeenAt) >= touchEvery {
		c.SeenAt = now
		put, err := sessions.Put(key, rec.Version, c.Session)
		if err != nil {
			return Current{}, err
		}
		// A conflict is another request of the same browser that touched it first, or that ended it: the next one sees.
		if err := s.DB.Commit(ctx, put.Until(rec.Expires)); err != nil && !errors.Is(err, core.Conflict) {
			return Current{}, err
		}
	}
	return c, nil
}

// Close ends the session of a cookie, if there is one, and records that the person signed out.
func (s *Service) Close(ctx context.Context, actor core.Actor, cookie string) error {
	if !secretForm(cookie) {
		return nil
	}
	return store.Retry(ctx, func() error {
		rec, err := sessions.Get(ctx, s.DB, store.Session(actor.Tenant, Hash(cookie)))
		if errors.Is(err, core.NotFound) {
			return nil
		} else if err != nil {
			return err
		}
		actor.Subject, actor.UserID = core.UserSubject(rec.Value.Email), rec.Value.User
		note, err := audit.Op(actor, s.Now(), audit.Record{Action: audit.SignOut, EntityType: audit.EntitySession, EntityID: rec.Value.ID})
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version), note)
	})
}

// fresh refuses what began longer ago than the tenant's absolute lifetime, lasts longer than the identity provider wants, or
// was not used for its idle timeout. All ends are exclusive: at the very second it is over.
func fresh(t org.Tenant, now, started, seen time.Time, up Upstream) error {
	if !now.Before(up.cap(started.Add(t.Settings.AbsoluteLifetime))) {
		return fmt.Errorf("session is over its absolute lifetime: %w", core.Unauthenticated)
	}
	if !now.Before(seen.Add(t.Settings.IdleTimeout)) {
		return fmt.Errorf("session was idle for too long: %w", core.Unauthenticated)
	}
	return nil
}

// Same refuses, as core.Unauthenticated, a person who is not, any more, the one of that id and epoch to whom something was
// given.
func Same(person store.Record[directory.User], id core.UserID, epoch string) error {
	u := person.Value
	if !person.Exists() || u.ID != id || u.Disabled || u.Epoch != epoch {
		return fmt.Errorf("the account was changed since: %w", core.Unauthenticated)
	}
	return nil
}
