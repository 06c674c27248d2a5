package org

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/events"
)

// Entry is a tenant's entry in the registry. It outlives the tenant's data, so that an id is never given to another
// customer: clusters may go on trusting the issuer of that name.
type Entry struct {
	ID        core.TenantID `json:"id"`
	Name      string        `json:"name"`
	State     State         `json:"state"`
	CreatedAt time.Time     `json:"createdAt"`
}

// Erased is the state of an entry whose tenant's data is gone.
const Erased State = "erased"

var entries store.Table[Entry]

// WelcomeLife is how long a welcome token waits for the tenant's first administrator.
const WelcomeLife = 24 * time.Hour

// CreateTenant makes a tenant with its keys, and returns a welcome token: whoever presents it within 24 hours, once,
// becomes the first administrator. The token is shown here and never again; only its hash is kept. An id that is taken,
// or was ever, is core.Exists.
func (s *Service) CreateTenant(ctx context.Context, actor core.Actor, id, name string) (welcome string, err error) {
	t, err := core.ParseTenantID("id", id)
	if err != nil {
		return "", err
	}
	if t == core.SystemTenant {
		return "", core.BadField("id", "is the operators' own tenant")
	}
	if err := checkName("name", name); err != nil {
		return "", err
	}
	return s.createWelcoming(ctx, actor, t, name)
}

// EnsureSystem makes the operators' tenant if it is not there, and then returns a welcome token for the first operator.
// If it is there already, the token is empty: starting again changes nothing.
func (s *Service) EnsureSystem(ctx context.Context) (welcome string, err error) {
	_, err = s.Tenant(ctx, core.SystemTenant)
	if err == nil || !errors.Is(err, core.NotFound) {
		return "", err
	}
	welcome, err = s.createWelcoming(ctx, trace.Actor(ctx, core.SystemActor(core.SystemTenant)), core.SystemTenant, operatorsName)
	if errors.Is(err, core.Exists) { // another instance was faster
		return "", nil
	}
	return welcome, err
}

// createWelcoming makes a tenant and its welcome token.
func (s *Service) createWelcoming(ctx context.Context, actor core.Actor, t core.TenantID, name string) (string, error) {
	token := core.NewSecret()
	if err := s.create(ctx, actor, t, name, hashWelcome(token)); err != nil {
		return "", err
	}
	return token, nil
}

// create makes a tenant that welcomes whoever has the token of that hash, in one commit with more operations.
func (s *Service) create(ctx context.Context, actor core.Actor, t core.TenantID, name, hash string, more ...store.Op) error {
	items, err := s.DB.Get(ctx, store.Meta(t), store.TenantEntry(t))
	if err != nil {
		return err
	}
	if items[0].Version != 0 || items[1].Version != 0 {
		return fmt.Errorf("tenant %s: %w", t, core.Exists)
	}
	now := s.Now()
	ten := Tenant{
		ID: t, Name: name, State: Active, Revision: 1, Epoch: newEpoch(now), Settings: Defaults(),
		CreatedAt: now, CreatedBy: actor.Subject,
	}
	o := ops{list: more}
	o.add(tenants.Put(store.Meta(t), 0, ten))
	o.add(entries.Put(store.TenantEntry(t), 0, Entry{t, name, Active, now}))
	o.welcome(t, 0, hash, now)
	o.record(actor, now, t, audit.Create, "")
	o.emit(t, now, actor, events.TenantChanged{Change: "created"})
	o.schedule(due.Seal, t, "", now.Add(SealEvery))
	keys, err := s.Ring.Init(ctx, t)
	if err != nil {
		return err
	}
	o.list = append(o.list, keys...)
	err = o.commit(ctx, s.DB)
	if errors.Is(err, core.Conflict) {
		return fmt.Errorf("tenant %s: %w", t, core.Exists)
	}
	return err
}

// SealEvery is how often a tenant's audit records are sealed.
const SealEvery = time.Minute

// welcome is what is kept of the welcome token that waits. It has 256 random bits, so that a plain hash of it tells nothing:
// its SHA-256 in hexadecimal, which a deployer can make with a shell's own tools (EnsureOperators).
type welcome struct {
	Hash string `json:"hash"`
}

var welcomes store.Table[welcome]

// WelcomeKey is where a tenant's welcome token waits. There is one at a time. Who redeems it deletes it, in the commit that
// makes the administrator.
func WelcomeKey(t core.TenantID) store.Key { return store.Used(t, "welcome", "") }

// Welcomes says whether the token is the one that waits, in the item of WelcomeKey.
func Welcomes(it store.Item, token string) (bool, error) {
	rec, err := welcomes.Decode(it)
	return err == nil && rec.Exists() && subtle.ConstantTimeCompare([]byte(rec.Value.Hash), []byte(hashWelcome(token))) == 1, err
}

func hashWelcome(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}

// welcome lets the token of a hash wait, in the place of the one that waited at that version.
func (o *ops) welcome(t core.TenantID, was store.Version, hash string, now time.Time) {
	op, err := welcomes.Put(WelcomeKey(t), was, welcome{hash})
	o.add(op.Until(now.Add(WelcomeLife)), err)
}

// Welcome makes another welcome token, and ends the one that waited: the operators' way in for a tenant whose first token
// ran out, or that lost its last administrator.
func (s *Service) Welcome(ctx context.Context, actor core.Actor, t core.TenantID) (string, error) {
	token := core.NewSecret()
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), WelcomeKey(t))
		if err != nil {
			return err
		}
		meta, err := Decode(items[0])
		if err != nil {
			return err
		}
		now := s.Now()
		var o ops
		o.list = append(o.list, store.Check(meta.Key, meta.Version))
		o.welcome(t, items[1].Version, hashWelcome(token), now)
		o.record(actor, now, t, audit.Update, "a welcome token was made")
		return o.commit(ctx, s.DB)
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Tenants is the registry, in order of id.
func (s *Service) Tenants(ctx context.Context) iter.Seq2[store.Record[Entry], error] {
	return entries.List(ctx, s.DB, store.TenantEntries())
}

// Suspend stops serving a tenant, at once: every request reads the state. Its data stays.
func (s *Service) Suspend(ctx context.Context, actor core.Actor, t core.TenantID) error {
	return s.setState(ctx, actor, t, Suspended, "suspended")
}

// Resume serves a suspended tenant again.
func (s *Service) Resume(ctx context.Context, actor core.Actor, t core.TenantID) error {
	return s.setState(ctx, actor, t, Active, "resumed")
}

// Erase stops serving a tenant at once and for good. Its data is deleted EraseGrace later.
func (s *Service) Erase(ctx context.Context, actor core.Actor, t core.TenantID) error {
	return s.setState(ctx, actor, t, Erasing, "erased")
}

func (s *Service) setState(ctx context.Context, actor core.Actor, t core.TenantID, to State, change string) error {
	if t == core.SystemTenant {
		return fmt.Errorf("the operators' own tenant cannot be %s: %w", change, core.Unsupported)
	}
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.TenantEntry(t))
		if err != nil {
			return err
		}
		meta, err := tenants.Decode(items[0])
		if err != nil {
			return err
		}
		entry, err := entries.Decode(items[1])
		if err != nil {
			return err
		}
		switch from := meta.Value.State; {
		case !meta.Exists() || !entry.Exists():
			return fmt.Errorf("tenant: %w", core.NotFound)
		case from == to:
			return nil
		case from == Erasing:
			return fmt.Errorf("tenant %s is being erased: %w", t, core.Unsupported)
		}
		now := s.Now()
		meta.Value.State, entry.Value.State = to, to
		var o ops
		if to == Erasing {
			meta.Value.ErasedAt = now
			grace := s.EraseGrace
			if grace == 0 {
				grace = time.Hour
			}
			o.schedule(due.Erase, t, "", now.Add(grace))
		}
		o.bump(meta)
		o.add(entries.Put(entry.Key, entry.Version, entry.Value))
		o.record(actor, now, t, stateAction(to), change)
		o.emit(t, now, actor, events.TenantChanged{Change: change})
		return o.commit(ctx, s.DB)
	})
}

func stateAction(to State) audit.Action {
	if to == Erasing {
		return audit.Delete
	}
	return audit.Update
}

// record writes the act on a tenant into the tenant's own log and into the operators', which outlives it.
func (o *ops) record(actor core.Actor, now time.Time, t core.TenantID, a audit.Action, reason string) {
	rec := audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityTenant, EntityID: string(t),
		Scope: core.AccountScope(t), Reason: reason,
	}
	o.add(audit.Op(actor, now, rec))
	if t != core.SystemTenant {
		rec.Tenant = core.SystemTenant
		o.add(audit.Op(actor, now, rec))
	}
}

// bump raises the tenant's revision, with whatever else changed in its record.
func (o *ops) bump(meta store.Record[Tenant]) core.Revision {
	op, rev, err := Bump(meta)
	o.add(op, err)
	return rev
}

// UpdateSettings changes a tenant's settings and its name. change is given the present ones and may be called again. It
// cannot change Security: whether somebody could still sign in, only core/sso knows.
func (s *Service) UpdateSettings(ctx context.Context, actor core.Actor, t core.TenantID, change func(name *string, set *Settings)) (Tenant, error) {
	var out Tenant
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.TenantEntry(t))
		if err != nil {
			return err
		}
		meta, err := Decode(items[0])
		if err != nil {
			return err
		}
		entry, err := entries.Decode(items[1])
		if err != nil {
			return err
		}
		was := meta.Value.Settings.Security
		was.BreakGlass = slices.Clone(was.BreakGlass)
		change(&meta.Value.Name, &meta.Value.Settings)
		if !meta.Value.Settings.Security.equal(was) {
			return fmt.Errorf("how people sign in is not among these settings: %w", core.Unsupported)
		}
		if err := meta.Value.Settings.Check(); err != nil {
			return err
		}
		if err := checkName("name", meta.Value.Name); err != nil {
			return err
		}
		entry.Value.Name = meta.Value.Name
		now := s.Now()
		var o ops
		o.add(tenants.Put(meta.Key, meta.Version, meta.Value)) // settings are not access: the revision stays
		o.add(entries.Put(entry.Key, entry.Version, entry.Value))
		o.add(audit.Op(actor, now, audit.Record{
			Tenant: t, Action: audit.Update, EntityType: audit.EntityTenant, EntityID: string(t),
			Scope: core.AccountScope(t), Reason: "settings",
		}))
		o.emit(t, now, actor, events.TenantChanged{Change: "settings"})
		out = meta.Value
		return o.commit(ctx, s.DB)
	})
	return out, err
}

// checkName checks a name that only people read.
func checkName(field, s string) error {
	if s == "" || utf8.RuneCountInString(s) > 100 || !utf8.ValidString(s) {
		return core.BadField(field, "must be 1 to 100 characters")
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return core.BadField(field, "has a character that does not print")
		}
	}
	return nil
}
