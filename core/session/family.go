package session

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// Family is one sign-in of a person at a client: all the access tokens and refresh tokens that descend from it. A person
// may have several at the same client. Revoking it is deleting it.
type Family struct {
	ID         string             `json:"id"` // the `sid` of its access tokens
	Client     core.ApplicationID `json:"client"`
	Email      core.Email         `json:"email"`
	User       core.UserID        `json:"user"`
	Epoch      string             `json:"epoch"` // the person's, when it began
	Scope      string             `json:"scope"` // what was granted
	Session    string             `json:"session,omitempty"`
	AuthTime   time.Time          `json:"authTime,omitzero"` // when they proved who they are; zero: the provider does not say
	Methods    []string           `json:"methods"`
	Generation uint32             `json:"generation"` // of the newest refresh token
	Offline    bool               `json:"offline"`    // whether there are refresh tokens at all
	StartedAt  time.Time          `json:"startedAt"`  // when the sign-in began: the session's, if it descends from one
	RotatedAt  time.Time          `json:"rotatedAt"`  // when Generation came to be
	Upstream
}

// Grace is for how long the token before the newest is taken for one that a parallel caller sent, or whose answer was
// lost, and not for a stolen one.
const Grace = 10 * time.Second

var families store.Table[Family]

// Begin makes the operation that begins a family. The caller fills in who and what for, and StartedAt if the family
// descends from a session, so that both end together; else it starts now. It ends with the tenant's absolute lifetime, and
// without refresh tokens already after life (that of the access token).
func (s *Service) Begin(tenant org.Tenant, f Family, life time.Duration) (Family, store.Op, error) {
	now := s.Now()
	f.ID, f.Generation, f.RotatedAt = core.NewID(), 1, now
	if f.StartedAt.IsZero() {
		f.StartedAt = now
	}
	until := f.Until(tenant)
	if short := now.Add(life); !f.Offline && short.Before(until) {
		until = short
	}
	put, err := families.Put(store.Family(tenant.ID, f.ID), 0, f)
	return f, put.Until(until), err
}

// Until is when everything that was made from the family is over.
func (f Family) Until(t org.Tenant) time.Time {
	return f.Upstream.cap(f.StartedAt.Add(t.Settings.AbsoluteLifetime))
}

// Token is the newest refresh token of a family.
func (s *Service) Token(ctx context.Context, tenant core.TenantID, f Family) (string, error) {
	n := refreshName{generation: f.Generation, family: f.ID, email: f.Email}
	mac, err := s.Ring.MAC(ctx, tenant, macRefresh, n.message())
	if err != nil {
		return "", err
	}
	return n.token(mac[:refreshMAC]), nil
}

// Presented is a refresh token that was presented, with everything that was read to judge it, in one snapshot.
type Presented struct {
	Tenant org.Tenant
	Family Family
	Person directory.User
	Extra  []store.Item // the keys that the caller asked for beside
	Live   bool         // false: the family is gone, over, or somebody else's; only Tenant and Extra are set
	name   refreshName
	rec    store.Record[Family]
}

// Present reads what a refresh token names, and the extra keys with it, in one round trip. A token that no key of the
// tenant authenticates is core.Unauthenticated, before anything is read. The caller authenticates the client and then
// calls Rotate, or Revoke. Whether the sign-in at an identity provider still stands is not judged here: a refresh token does
// not name the connection, so for families that have one the caller reads Upstream.Keys, or asks the provider.
func (s *Service) Present(ctx context.Context, tenant core.TenantID, raw string, extra ...store.Key) (Presented, error) {
	n, mac, ok := parseRefresh(raw)
	if ok {
		want, err := s.Ring.MAC(ctx, tenant, macRefresh, n.message())
		if err != nil {
			return Presented{}, err
		}
		ok = hmac.Equal(mac, want[:refreshMAC])
	}
	if !ok {
		return Presented{}, fmt.Errorf("not a refresh token of this tenant: %w", core.Unauthenticated)
	}
	keys := append([]store.Key{store.Meta(tenant), store.Family(tenant, n.family), store.User(tenant, n.email)}, extra...)
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return Presented{}, err
	}
	p := Presented{name: n, Extra: items[3:]}
	meta, err := org.Decode(items[0])
	if err != nil {
		return Presented{}, err
	}
	p.Tenant = meta.Value
	if p.rec, err = families.Decode(items[1]); err != nil {
		return Presented{}, err
	}
	person, err := users.Decode(items[2])
	if err != nil {
		return Presented{}, err
	}
	p.judge(s.Now(), person)
	return p, nil
}

func (p *Presented) judge(now time.Time, person store.Record[directory.User]) {
	f := p.rec.Value
	p.Live = p.rec.Exists() && f.Offline && f.Email == p.name.email &&
		Same(person, f.User, f.Epoch) == nil && Admits(p.Tenant, person.Value) == nil && fresh(p.Tenant, now, f.StartedAt, f.RotatedAt, f.Upstream) == nil
	if p.Live {
		p.Family, p.Person = f, person.Value
	}
}

// Newest says whether the presented token is the family's newest: the one that was not used yet.
func (p Presented) Newest() bool { return p.Live && p.name.generation == p.Family.Generation }

// Replayed says whether the presented token is a copy in foreign hands: it was used before, and longer ago than a parallel
// caller or a lost answer explains. Rotate then revokes its family. Who would do work for a live token asks this first.
func (p Presented) Replayed(now time.Time) bool {
	late := p.name.generation+1 != p.Family.Generation || !now.Before(p.Family.RotatedAt.Add(Grace))
	return p.Live && !p.Newest() && late
}

// Successor is the refresh token that takes the place of the presented one, and the family as it is then. It is derived
// and changes nothing: whoever needs keys to answer with it uses them first, and gives it out only after Rotate agreed.
func (s *Service) Successor(ctx context.Context, p Presented) (Family, string, error) {
	f := p.Family
	f.Generation = p.name.generation + 1
	token, err := s.Token(ctx, p.Tenant.ID, f)
	return f, token, err
}

// Rotate puts the Successor in the place of the presented token. Callers that present the same token in parallel, or again
// within Grace, have the same successor. A token older than that is a copy in foreign hands: its whole family is revoked,
// and the error, like that of a family that does not hold, is core.Unauthenticated. With Present, it costs two round trips.
func (s *Service) Rotate(ctx context.Context, actor core.Actor, p Presented) error {
	dead := fmt.Errorf("the refresh token does not hold any more: %w", core.Unauthenticated)
	return store.Retry(ctx, func() error {
		if !p.Live {
			return dead
		}
		now, f := s.Now(), p.Family
		switch {
		case p.Newest():
			f.Generation++
			f.RotatedAt = now
			put, err := families.Put(p.rec.Key, p.rec.Version, f)
			if err != nil {
				return err
			}
			err = s.DB.Commit(ctx, put.Until(p.rec.Expires))
			if errors.Is(err, core.Conflict) {
				// Another caller was faster. What it did decides what this token is now.
				if again := p.reread(ctx, s); again != nil {
					return again
				}
			}
			return err
		case !p.Replayed(now):
			return nil
		default:
			if err := s.revoke(ctx, actor, p.rec, "a refresh token was used again after its successor"); err != nil {
				return err
			}
			return dead
		}
	})
}

// reread refreshes what a lost race made stale.
func (p *Presented) reread(ctx context.Context, s *Service) error {
	items, err := s.DB.Get(ctx, p.rec.Key, store.User(p.Tenant.ID, p.name.email))
	if err != nil {
		return err
	}
	if p.rec, err = families.Decode(items[0]); err != nil {
		return err
	}
	person, err := users.Decode(items[1])
	if err != nil {
		return err
	}
	p.judge(s.Now(), person)
	return nil
}

// Revoke ends the family of a presented token (RFC 7009), or of none.
func (s *Service) Revoke(ctx context.Context, actor core.Actor, p Presented) error {
	if !p.rec.Exists() {
		return nil
	}
	return s.revoke(ctx, actor, p.rec, "revoked by the client")
}

// RevokeFamily ends a family by its id, whoever knows it; one that is gone stays gone.
func (s *Service) RevokeFamily(ctx context.Context, actor core.Actor, id, reason string) error {
	rec, err := families.Get(ctx, s.DB, store.Family(actor.Tenant, id))
	if errors.Is(err, core.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return s.revoke(ctx, actor, rec, reason)
}

// revoke deletes the family, records it and tells of it, in one commit.
func (s *Service) revoke(ctx context.Context, actor core.Actor, rec store.Record[Family], reason string) error {
	return store.Retry(ctx, func() error {
		f, now := rec.Value, s.Now()
		actor.Tenant, actor.Subject, actor.UserID = rec.Key.Tenant(), core.UserSubject(f.Email), f.User
		note, err := audit.Op(actor, now, audit.Record{Action: audit.SignOut, EntityType: audit.EntitySession, EntityID: f.ID, Reason: reason})
		if err != nil {
			return err
		}
		told, err := store.Emit(actor.Tenant, now, actor, events.UserChanged{User: string(f.User), Change: "signed-out"})
		if err != nil {
			return err
		}
		err = s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version), note, told)
		if !errors.Is(err, core.Conflict) {
			return err
		}
		again, err := families.Get(ctx, s.DB, rec.Key)
		if errors.Is(err, core.NotFound) {
			return nil // somebody else ended it
		} else if err != nil {
			return err
		}
		rec = again
		return fmt.Errorf("session: family moved: %w", core.Conflict)
	})
}

// Living is a family that was not revoked, with its person and tenant.
type Living struct {
	Family Family // of an access key: one with the key as its client
	Person directory.User
	Tenant org.Tenant
	Key    directory.AccessKey // the access key that it is of; zero: it is a sign-in
	Extra  []store.Item        // the keys that the caller asked for beside
}

// Alive says whether the access tokens made from a family, or with an access key, still count: it was not revoked, and the
// person is who they were, and not kept out by enforced single sign-on; else the error is core.Unauthenticated. The extra
// keys come in the same snapshot. It costs one round trip. Of a sign-in, a connection to an identity provider that was
// disabled or deleted since is not looked at, which would cost another: the next refresh does, so that access tokens
// outlive it by their own life at most.
func (s *Service) Alive(ctx context.Context, tenant core.TenantID, id string, email core.Email, extra ...store.Key) (Living, error) {
	keys := append([]store.Key{store.Meta(tenant)}, Roots(tenant, id, email)...)
	roots := len(keys)
	items, err := s.DB.Get(ctx, append(keys, extra...)...)
	if err != nil {
		return Living{}, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return Living{}, err
	}
	living, err := Judge(meta.Value, items[1:roots], id, email, s.Now())
	if err != nil {
		return Living{}, err
	}
	living.Extra = items[roots:]
	return living, Admits(meta.Value, living.Person)
}

// Holds is Alive for who has read the items of the family and of the person already.
func Holds(family, person store.Item, email core.Email) (Family, directory.User, error) {
	rec, err := families.Decode(family)
	if err != nil {
		return Family{}, directory.User{}, err
	}
	who, err := users.Decode(person)
	if err != nil {
		return Family{}, directory.User{}, err
	}
	if !rec.Exists() || rec.Value.Email != email {
		return Family{}, directory.User{}, fmt.Errorf("the sign-in was ended: %w", core.Unauthenticated)
	}
	return rec.Value, who.Value, Same(who, rec.Value.User, rec.Value.Epoch)
}
