package directory

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// AccessKey is a personal access key: with its client id and secret, a program of a person's gets tokens that are the
// person's own, for what the person may do now. It is the person's to make and to take away.
//
// A key ends at ExpiresAt, when it is disabled or deleted, and with the person's account; it rests while the person is
// disabled, has a temporary password, or could not sign in since single sign-on is enforced. It outlives what ends
// sign-ins: a changed password, a forced logout and the idle timeout are about browsers and people, and a program that
// runs at night has neither. Whoever suspects a key deletes it. The key of a person whom an identity provider vouches for
// works only as long as its word is fresh: see ProviderWord.
type AccessKey struct {
	ID         core.ApplicationID `json:"id"` // the client id; begins with AccessKeyPrefix
	Name       string             `json:"name"`
	Owner      core.UserID        `json:"owner"`
	Email      core.Email         `json:"email"`                // the owner's, which never changes
	Connection string             `json:"connection,omitempty"` // the identity provider that the owner belonged to when it was made
	Secrets    []Secret           `json:"secrets,omitzero"`
	Enabled    bool               `json:"enabled,omitzero"`
	CreatedAt  time.Time          `json:"createdAt"`
	UpdatedAt  time.Time          `json:"updatedAt"`
	ExpiresAt  time.Time          `json:"expiresAt"`         // always set: no key is for ever
	LastUsed   time.Time          `json:"lastUsed,omitzero"` // to the hour: see KeySeen

	// Generation counts the revocations of the key's tokens: those of an earlier one do not count any more.
	Generation uint32 `json:"generation,omitzero"`
}

// AccessKeyPrefix begins the client id of every access key, and of nothing else: no other id has a "-" in its third place.
const AccessKeyPrefix = "ak-"

// The bounds of access keys.
const (
	MaxAccessKeys = 20 // of one person, expired ones among them

	DefaultKeyLife = 90 * 24 * time.Hour
	MinKeyLife     = time.Minute
	MaxKeyLife     = 366 * 24 * time.Hour

	// ProviderWord is for how long after a person's last sign-in at an identity provider, or its last word about them at a
	// refresh (one that speaks of their groups, too: see Said.Partial), their access keys work. Without it somebody who left
	// the company would stay as long as their keys do: many providers tell nobody that a person has gone.
	ProviderWord = 30 * 24 * time.Hour
)

// Family is what the key's tokens carry as the sign-in that they descend from (the claim `sid`): the key's id, and once
// tokens were revoked, ".GENERATION" behind it.
func (k AccessKey) Family() string {
	if k.Generation == 0 {
		return string(k.ID)
	}
	return string(k.ID) + "." + strconv.FormatUint(uint64(k.Generation), 10)
}

// AccessKeyOf is the id of the access key that a family names; false: it is a person's sign-in.
func AccessKeyOf(family string) (core.ApplicationID, bool) {
	id, _, _ := strings.Cut(family, ".")
	return core.ApplicationID(id), IsAccessKey(core.ApplicationID(id))
}

// IsAccessKey says whether a client id is one of an access key.
func IsAccessKey(id core.ApplicationID) bool { return strings.HasPrefix(string(id), AccessKeyPrefix) }

// Ends is when the key stops working for that owner, if nothing happens before.
func (k AccessKey) Ends(owner User) time.Time {
	if word := owner.LastLogin.Add(ProviderWord); !owner.Local && word.Before(k.ExpiresAt) {
		return word
	}
	return k.ExpiresAt
}

// Stands refuses, as core.Unauthenticated, a key that may not act for its owner at that time, as far as the two alone tell:
// the tenant's settings and its identity providers are core/session's to ask about.
func (k AccessKey) Stands(owner User, now time.Time) error {
	switch {
	case k.ID == "" || !k.Enabled:
		return fmt.Errorf("the access key is gone or disabled: %w", core.Unauthenticated)
	case owner.ID == "" || owner.ID != k.Owner || owner.Disabled || owner.MustChange():
		return fmt.Errorf("the owner of the access key is gone or cannot act: %w", core.Unauthenticated)
	case owner.Local != (k.Connection == "") || owner.Connection != k.Connection:
		return fmt.Errorf("the owner of the access key signs in elsewhere now: %w", core.Unauthenticated)
	case !now.Before(k.Ends(owner)):
		return fmt.Errorf("the access key has expired: %w", core.Unauthenticated)
	}
	return nil
}

// AccessKeys are the records of keys, for reads of several items at once.
var AccessKeys store.Table[AccessKey]

// keyring is which keys a person has, so that they are counted, and their names compared, in the commit that makes another.
type keyring struct {
	Keys []keyName `json:"keys"`
}

type keyName struct {
	ID   core.ApplicationID `json:"id"`
	Name string             `json:"name"`
}

var keyrings store.Table[keyring]

// CreateAccessKey makes a key for the person of that e-mail and id, with a secret that is returned here and never again.
// life is how long it lasts; 0 is DefaultKeyLife. A name that the person has given already is core.Exists, and one key more
// than MaxAccessKeys core.Limit.
func (s *Service) CreateAccessKey(ctx context.Context, actor core.Actor, t core.TenantID, owner User, name string, life time.Duration) (k AccessKey, secret string, err error) {
	if name, err = core.ParseApplicationName("name", name); err != nil {
		return AccessKey{}, "", err
	}
	if life == 0 {
		life = DefaultKeyLife
	}
	if life < MinKeyLife || life > MaxKeyLife {
		return AccessKey{}, "", core.BadField("expiresIn", "must be from 60 seconds to 366 days (31622400 seconds)")
	}
	id := core.ApplicationID(AccessKeyPrefix + core.NewID())
	secret = core.NewSecret()
	mac, err := s.keyMAC(ctx, t, id, secret)
	if err != nil {
		return AccessKey{}, "", err
	}
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.User(t, owner.Email), store.AccessKeysOf(t, owner.ID))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		u, err := Users.Decode(items[1])
		if err != nil {
			return err
		}
		if !u.Exists() || u.Value.ID != owner.ID || u.Value.Disabled {
			return fmt.Errorf("user: %w", core.NotFound)
		}
		ring, err := keyrings.Decode(items[2])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ring.Value.Keys, func(n keyName) bool { return n.Name == name }) {
			return fmt.Errorf("access key %s: %w", name, core.Exists)
		}
		if len(ring.Value.Keys) >= MaxAccessKeys {
			return fmt.Errorf("you have %d access keys, which is the most that a person can have; delete one first: %w", len(ring.Value.Keys), core.Limit)
		}
		now := s.Now()
		k = AccessKey{
			ID: id, Name: name, Owner: u.Value.ID, Email: u.Value.Email, Connection: u.Value.Connection, Enabled: true,
			Secrets: []Secret{{MAC: mac, CreatedAt: now}}, CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(life).Truncate(time.Second),
		}
		ring.Value.Keys = append(ring.Value.Keys, keyName{id, name})
		var o ops
		o.add(AccessKeys.Put(store.AccessKey(t, id), 0, k))
		o.add(keyrings.Put(ring.Key, ring.Version, ring.Value))
		o.list = append(o.list, store.Check(u.Key, u.Version)) // nobody is left a key who is deleted meanwhile
		o.tellKey(t, now, actor, k, audit.Create, "created")
		return o.commit(ctx, s.DB)
	})
	if err != nil {
		return AccessKey{}, "", err
	}
	return k, secret, nil
}

// keyMAC binds a secret to its client id, so that a hash is worth nothing in another key's record, nor in an application's.
func (s *Service) keyMAC(ctx context.Context, t core.TenantID, id core.ApplicationID, secret string) ([]byte, error) {
	return s.Ring.MAC(ctx, t, "access-key-secret", []byte(string(id)+"\x00"+secret))
}

// CheckKeySecret checks an access key's secret, in constant time. Give it the zero AccessKey for a client id that there is
// not: the work and the answer, ErrClient, are the same. It reads nothing from the store, and does not say whether the key
// stands.
func (s *Service) CheckKeySecret(ctx context.Context, t core.TenantID, k AccessKey, secret string) error {
	mac, err := s.keyMAC(ctx, t, k.ID, secret)
	if err != nil {
		return err
	}
	if !proves(k.Secrets, mac, s.Now()) || k.ID == "" {
		return ErrClient
	}
	return nil
}

// proves says whether a keyed hash is the one of a secret that still proves something. It compares with every one, whichever
// is right.
func proves(secrets []Secret, mac []byte, now time.Time) bool {
	right := false
	for _, sec := range secrets {
		live := sec.Until.IsZero() || now.Before(sec.Until)
		if hmac.Equal(mac, sec.MAC) && live {
			right = true
		}
	}
	return right
}

// AccessKey reads a key by its id. An absent one is core.NotFound.
func (s *Service) AccessKey(ctx context.Context, t core.TenantID, id core.ApplicationID) (store.Record[AccessKey], error) {
	if !IsAccessKey(id) {
		return store.Record[AccessKey]{}, fmt.Errorf("access-key: %w", core.NotFound)
	}
	return AccessKeys.Get(ctx, s.DB, store.AccessKey(t, id))
}

// AccessKeysOf is the keys of a person, in the order in which they were made.
func (s *Service) AccessKeysOf(ctx context.Context, t core.TenantID, owner core.UserID) ([]AccessKey, error) {
	items, err := s.DB.Get(ctx, store.AccessKeysOf(t, owner))
	if err != nil {
		return nil, err
	}
	recs, err := s.keysIn(ctx, t, items[0])
	all := make([]AccessKey, 0, len(recs))
	for _, rec := range recs {
		all = append(all, rec.Value)
	}
	return all, err
}

// keysIn reads the keys that a person's keyring names. One that was deleted since it was read is left out.
func (s *Service) keysIn(ctx context.Context, t core.TenantID, it store.Item) ([]store.Record[AccessKey], error) {
	ring, err := keyrings.Decode(it)
	if err != nil || len(ring.Value.Keys) == 0 {
		return nil, err
	}
	var names []store.Key
	for _, n := range ring.Value.Keys {
		names = append(names, store.AccessKey(t, n.ID))
	}
	items, err := s.DB.Get(ctx, names...)
	if err != nil {
		return nil, err
	}
	var all []store.Record[AccessKey]
	for _, it := range items {
		rec, err := AccessKeys.Decode(it)
		if err != nil {
			return nil, err
		}
		if rec.Exists() {
			all = append(all, rec)
		}
	}
	return all, nil
}

// EnableAccessKey lets a key be used, or no more. Tokens made with it before count no more either while it is disabled.
func (s *Service) EnableAccessKey(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, enabled bool) (AccessKey, error) {
	change := "disabled"
	if enabled {
		change = "enabled"
	}
	return s.changeKey(ctx, actor, t, id, audit.Update, change, func(k *AccessKey) error { return set(&k.Enabled, enabled) })
}

// RotateAccessKey gives a key another secret, which is returned here and never again. The secrets of before live on for the
// grace: 0 ends them at once, and MaxGrace is the longest. Tokens that were made with them live out their minutes.
func (s *Service) RotateAccessKey(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, grace time.Duration) (k AccessKey, secret string, err error) {
	if grace < 0 || grace > MaxGrace {
		return AccessKey{}, "", core.BadField("gracePeriod", "must be from 0 to 30 days (2592000 seconds)")
	}
	secret = core.NewSecret()
	mac, err := s.keyMAC(ctx, t, id, secret)
	if err != nil {
		return AccessKey{}, "", err
	}
	k, err = s.changeKey(ctx, actor, t, id, audit.Update, "secret", func(k *AccessKey) error {
		now := s.Now()
		keep := outgoing(k.Secrets, now, now.Add(grace))
		if len(keep) >= maxSecrets {
			return fmt.Errorf("the access key has %d secrets that still live; rotate without grace: %w", len(keep), core.Limit)
		}
		k.Secrets = append(keep, Secret{MAC: mac, CreatedAt: now})
		return nil
	})
	if err != nil {
		return AccessKey{}, "", err
	}
	return k, secret, nil
}

// outgoing is what stays of secrets that are to end by then.
func outgoing(secrets []Secret, now, end time.Time) (keep []Secret) {
	for _, old := range secrets {
		if old.Until.IsZero() || old.Until.After(end) {
			old.Until = end
		}
		if now.Before(old.Until) {
			keep = append(keep, old)
		}
	}
	return keep
}

// RevokeKeyTokens ends every token that was made with a key so far (RFC 7009); the key goes on. Whoever acts is its owner. If
// the family is not the key's present one, its tokens have ended before.
func (s *Service) RevokeKeyTokens(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, family string) error {
	_, err := s.changeKey(ctx, actor, t, id, audit.SignOut, "its tokens were revoked", func(k *AccessKey) error {
		if k.Family() != family {
			return errSame
		}
		k.Generation++
		return nil
	})
	if errors.Is(err, core.NotFound) {
		return nil
	}
	return err
}

// changeKey changes a key in one commit.
func (s *Service) changeKey(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, a audit.Action, change string, edit func(*AccessKey) error) (AccessKey, error) {
	var k AccessKey
	err := store.Retry(ctx, func() error {
		rec, err := s.AccessKey(ctx, t, id)
		if err != nil {
			return err
		}
		k = rec.Value
		if err := edit(&k); err != nil {
			return err
		}
		now := s.Now()
		k.UpdatedAt = now
		var o ops
		o.add(AccessKeys.Put(rec.Key, rec.Version, k))
		o.tellKey(t, now, actor, k, a, change)
		return o.commit(ctx, s.DB)
	})
	if errors.Is(err, errSame) {
		return k, nil
	}
	return k, err
}

// DeleteAccessKey takes a key away.
func (s *Service) DeleteAccessKey(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID) error {
	return store.Retry(ctx, func() error {
		rec, err := s.AccessKey(ctx, t, id)
		if err != nil {
			return err
		}
		ring, err := keyrings.Get(ctx, s.DB, store.AccessKeysOf(t, rec.Value.Owner))
		if err != nil {
			return err
		}
		ring.Value.Keys = slices.DeleteFunc(ring.Value.Keys, func(n keyName) bool { return n.ID == id })
		var o ops
		o.list = append(o.list, store.Delete(rec.Key, rec.Version))
		if len(ring.Value.Keys) == 0 {
			o.list = append(o.list, store.Delete(ring.Key, ring.Version))
		} else {
			o.add(keyrings.Put(ring.Key, ring.Version, ring.Value))
		}
		o.tellKey(t, s.Now(), actor, rec.Value, audit.Delete, "deleted")
		return o.commit(ctx, s.DB)
	})
}

// deleteKeysOf makes the operations that take a person's keys away, for the commit that takes the person. it is the person's
// keyring: where there is none, the commit depends on there being none still.
func (s *Service) deleteKeysOf(ctx context.Context, o *ops, actor core.Actor, t core.TenantID, it store.Item) error {
	if it.Version == 0 {
		o.list = append(o.list, store.Check(it.Key, 0))
		return nil
	}
	recs, err := s.keysIn(ctx, t, it)
	if err != nil {
		return err
	}
	o.list = append(o.list, store.Delete(it.Key, it.Version))
	for _, rec := range recs {
		o.list = append(o.list, store.Delete(rec.Key, rec.Version))
		o.tellKey(t, s.Now(), actor, rec.Value, audit.Delete, "deleted with its owner")
	}
	return nil
}

// KeySeen remembers that a key got a token, at most once an hour, as Seen does for applications.
func (s *Service) KeySeen(ctx context.Context, rec store.Record[AccessKey]) error {
	now := s.Now()
	if now.Sub(rec.Value.LastUsed) < time.Hour {
		return nil
	}
	rec.Value.LastUsed = now
	op, err := AccessKeys.Put(rec.Key, rec.Version, rec.Value)
	return s.noted(ctx, op, err)
}

func (o *ops) tellKey(t core.TenantID, now time.Time, actor core.Actor, k AccessKey, a audit.Action, change string) {
	o.add(audit.Op(actor, now, audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityAccessKey, EntityID: string(k.ID), Name: k.Name + " of " + string(k.Email),
		Scope: core.AccountScope(t), Reason: change,
	}))
}
