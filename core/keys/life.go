package keys

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/events"
)

// Init makes the operations that give a new tenant its first keys: an ES256 key that signs at once (no verifier knows the
// tenant yet), the MAC secret, and the schedule of the first rotation. They go into the commit that creates the tenant.
func (r *Ring) Init(ctx context.Context, t core.TenantID) ([]store.Op, error) {
	now := r.Now().UTC().Truncate(time.Millisecond)
	id, rec, err := generate(ctx, r.Wrapper, t, ES256)
	if err != nil {
		return nil, err
	}
	rec.PublishedAt, rec.ActiveAt = now, now
	signing, err := records.Put(store.SigningKey(t, id), 0, rec)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	wrapped, err := wrap(ctx, r.Wrapper, PurposeMAC, t, secret)
	if err != nil {
		return nil, err
	}
	mac, err := records.Put(store.SigningKey(t, macID), 0, record{Wrapped: wrapped, PublishedAt: now, ActiveAt: now})
	if err != nil {
		return nil, err
	}
	next := now.Add(r.period() - PublishBefore)
	first, err := anchors.Put(store.SigningKey(t, anchorID), 0, anchor{NextAt: next})
	if err != nil {
		return nil, err
	}
	job, err := due.Op(due.Job{Kind: due.KeyRotation, Tenant: t, At: next})
	return []store.Op{signing, mac, first, job}, err
}

// Ensure gives a tenant a key of an algorithm if it has none. The first key of an algorithm signs at once: there is no
// earlier one that could sign while verifiers fetch it.
func (r *Ring) Ensure(ctx context.Context, t core.TenantID, alg Algorithm) error {
	var made *newborn
	return r.change(ctx, t, r.Now(), func(c *change) error {
		if c.set.newest(alg) != nil {
			return nil
		}
		return c.create(ctx, r.Wrapper, alg, c.now, &made)
	})
}

// Rotate does what is due of a tenant's keys at a time: it publishes a successor of each key whose period ends, deletes the
// keys that have retired, and schedules its next run. Successors take over by themselves, PublishBefore later. It is
// idempotent, and safe to run in several instances at once: one of them does it.
func (r *Ring) Rotate(ctx context.Context, t core.TenantID, now time.Time) error {
	made := make(map[Algorithm]*newborn)
	return r.change(ctx, t, now, func(c *change) error {
		for _, alg := range []Algorithm{ES256, RS256} {
			k := c.set.newest(alg)
			if k == nil || c.now.Before(r.succession(k)) {
				continue
			}
			takeover := c.now.Add(PublishBefore)
			k.until(takeover)
			c.touch(k)
			n := made[alg]
			err := c.create(ctx, r.Wrapper, alg, takeover, &n)
			if made[alg] = n; err != nil {
				return err
			}
		}
		for _, k := range c.set.keys {
			if k.retired(c.now) && len(c.deleted) < store.MaxOps/2 {
				c.deleted[k.id] = true
			}
		}
		return nil
	})
}

// Revoke takes a key out of use at once, in an emergency: it is out of the JWKS, Public refuses it (here at once, on every
// instance within CacheTTL), its private part is erased, and if it was the one to sign, another signs from now on, at
// the price that verifiers meet it before they fetched it. The operations in with, such as an audit record, go into the same
// commit. A kid that the tenant does not have is core.NotFound; one revoked before is none, and changes nothing.
func (r *Ring) Revoke(ctx context.Context, t core.TenantID, kid string, with ...store.Op) error {
	defer r.forget(t)
	var made *newborn
	return r.change(ctx, t, r.Now(), func(c *change) error {
		k := c.set.byID[kid]
		switch {
		case k == nil:
			return fmt.Errorf("keys: this kid at tenant %s: %w", t, core.NotFound)
		case !k.RevokedAt.IsZero():
			return nil
		}
		signed := c.set.active(k.Algorithm, c.now) == k
		next := c.set.newest(k.Algorithm) // a successor, if one waits; k itself if not
		k.RevokedAt, k.Wrapped = c.now, nil
		k.until(c.now)
		c.touch(k)
		c.with = with
		switch {
		case signed && next == k:
			return c.create(ctx, r.Wrapper, k.Algorithm, c.now, &made)
		case signed:
			next.ActiveAt = c.now
			c.touch(next)
		case next == k: // the waiting successor: the one that signs gets another
			signs, takeover := c.set.active(k.Algorithm, c.now), c.now.Add(PublishBefore)
			signs.until(takeover)
			c.touch(signs)
			return c.create(ctx, r.Wrapper, k.Algorithm, takeover, &made)
		}
		return nil
	})
}

func (r *Ring) period() time.Duration {
	if r.Period == 0 {
		return DefaultPeriod
	}
	return max(r.Period, time.Hour)
}

// succession is when a key's successor is to be published, so that it can take over when the key's period ends.
func (r *Ring) succession(k *key) time.Time { return k.ActiveAt.Add(r.period() - PublishBefore) }

// change is one attempt at changing a tenant's keys. Its set is private to it: the keys in it may be changed.
type change struct {
	tenant  core.TenantID
	now     time.Time
	by      core.Actor // for the event: what the change is part of
	set     *keyset
	touched map[string]bool
	deleted map[string]bool
	with    []store.Op // go along with a change of the signing keys
	quiet   []store.Op // change nothing that is published: no event tells of them
}

// newborn is a key that was generated, kept for the next attempt: an RSA key takes long.
type newborn struct {
	id  string
	rec record
}

func (c *change) touch(k *key) { c.touched[k.id] = true }

// create adds a key that is published now and signs from active on.
func (c *change) create(ctx context.Context, w Wrapper, alg Algorithm, active time.Time, made **newborn) error {
	if *made == nil {
		id, rec, err := generate(ctx, w, c.tenant, alg)
		if err != nil {
			return err
		}
		*made = &newborn{id, rec}
	}
	rec := store.Record[record]{Key: store.SigningKey(c.tenant, (*made).id), Value: (*made).rec}
	rec.Value.PublishedAt, rec.Value.ActiveAt = c.now, active
	k, err := newKey((*made).id, rec, nil)
	if err != nil {
		return err
	}
	c.set.keys = append(c.set.keys, k)
	c.set.byID[k.id] = k
	c.touch(k)
	return nil
}

// change runs a read-decide-commit on a tenant's keys until nobody came between, then reads them anew.
func (r *Ring) change(ctx context.Context, t core.TenantID, now time.Time, decide func(*change) error) error {
	now = now.UTC().Truncate(time.Millisecond)
	err := store.Retry(ctx, func() error {
		set := &keyset{readAt: now, byID: make(map[string]*key)}
		if err := r.read(ctx, t, set, nil); err != nil {
			return err
		}
		c := &change{tenant: t, now: now, by: trace.Actor(ctx, core.SystemActor(t)), set: set, touched: make(map[string]bool), deleted: make(map[string]bool)}
		if err := decide(c); err != nil {
			return err
		}
		ops, err := r.ops(c)
		if err != nil || len(ops) == 0 {
			return err
		}
		return r.DB.Commit(ctx, ops...)
	})
	r.forget(t)
	return err
}

// ops turns a change into the operations of its commit; none if it changes nothing.
func (r *Ring) ops(c *change) (ops []store.Op, err error) {
	next, published := time.Time{}, []string{}
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, k := range c.set.keys {
		switch {
		case c.deleted[k.id]:
			ops = append(ops, store.Delete(k.at, k.version))
			continue
		case c.touched[k.id]:
			op, err := records.Put(k.at, k.version, k.record)
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
		}
		if k.published(c.now) {
			published = append(published, k.id)
		}
		sooner(k.RetiredAt)
	}
	for _, alg := range []Algorithm{ES256, RS256} {
		if k := c.set.newest(alg); k != nil {
			sooner(r.succession(k))
		}
	}
	a := c.set.anchor
	scheduled := a.Value.NextAt.After(c.now)
	if len(ops) == 0 && len(c.quiet) == 0 && scheduled {
		return nil, nil
	}
	if len(ops) > 0 {
		op, err := store.Emit(c.tenant, c.now, c.by, events.KeysRotated{Published: published})
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
		ops = append(ops, c.with...)
	}
	ops = append(ops, c.quiet...)
	// One run is scheduled at a time. What changes now never needs one earlier than the one that waits, since a new key's
	// period ends after those of the keys before it.
	if !scheduled {
		a.Value.NextAt = maxTime(next, c.now.Add(time.Minute))
		op, err := due.Op(due.Job{Kind: due.KeyRotation, Tenant: c.tenant, At: a.Value.NextAt})
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	op, err := anchors.Put(a.Key, a.Version, a.Value)
	return append(ops, op), err
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
