package sync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
)

// DeadLetter is what could not be handled, as it waits for a person: a cluster that was given up, or an event that could
// not be read. There is one for each cluster, which goes away by itself when the cluster is brought in line after all, and
// one for each event. They are kept for two weeks after they were last written.
type DeadLetter struct {
	ID      string         `json:"id"`   // the cluster's; of an event, a digest of its bytes
	Kind    string         `json:"kind"` // "sync" or "event"
	Tenant  core.TenantID  `json:"tenant"`
	Message Message        `json:"message,omitzero"` // of a sync
	Event   []byte         `json:"event,omitzero"`   // of an event: as it left the outbox; empty if it is over maxEvent bytes
	Bytes   int            `json:"bytes,omitzero"`   // of an event: its size
	Reason  string         `json:"reason"`           // of the last failure
	Tries   int            `json:"tries"`            // since First
	First   time.Time      `json:"first"`
	Last    time.Time      `json:"last"`
	Request core.RequestID `json:"request,omitzero"` // that caused it, as far as is known

	version store.Version
}

// The kinds of dead letters.
const (
	deadSync  = "sync"
	deadEvent = "event"
)

const (
	deadKeep = 14 * 24 * time.Hour
	maxEvent = 20 << 10 // bytes: as base64, with all else, it fits into an item
	maxDead  = 64       // bytes of a dead letter's id
)

var letters store.Table[DeadLetter]

// Cluster is the cluster that a dead letter is about; false: it is about the whole account.
func (d DeadLetter) Cluster() (core.ClusterID, bool) {
	return d.Message.Cluster, d.Kind == deadSync
}

// Replayable says whether there is enough left of it to try again.
func (d DeadLetter) Replayable() bool { return d.Kind == deadSync || len(d.Event) > 0 }

func (d DeadLetter) key() store.Key { return store.DeadLetter(d.Tenant, d.Kind, d.ID) }

// write makes the operation that writes d over what was there, which it goes on from.
func (d DeadLetter) write(was store.Item, now time.Time) (store.Op, error) {
	old, err := letters.Decode(was)
	if err != nil {
		return store.Op{}, err
	}
	if d.Last = now; old.Exists() {
		d.First, d.Tries = old.Value.First, d.Tries+old.Value.Tries
	}
	op, err := letters.Put(d.key(), old.Version, d)
	return op.Until(now.Add(deadKeep)), err
}

// giveUp writes the dead letter of a cluster whose tries rec has counted, and begins to count anew.
func (s *Service) giveUp(ctx context.Context, rec store.Record[record], was store.Item, m Message, cause error) error {
	v, now := rec.Value, s.Now()
	letter, err := DeadLetter{
		ID: string(m.Cluster), Kind: deadSync, Tenant: m.Tenant, Message: m, Reason: clip(s.said(ctx, m, cause)),
		Tries: v.Tries, First: v.FailingSince, Request: m.Request,
	}.write(was, now)
	if err != nil {
		return err
	}
	tries, since := v.Tries, v.FailingSince
	v.RetryAt, v.Tries, v.FailingSince, v.GivenUpAt = time.Time{}, 0, time.Time{}, now
	op, err := records.Put(rec.Key, rec.Version, v)
	if err != nil {
		return err
	}
	if err := s.DB.Commit(ctx, op, letter); err != nil {
		return err
	}
	s.log().ErrorContext(ctx, "sync: given up", "tenant", m.Tenant, "cluster", m.Cluster, "tries", tries, "since", since, "error", clip(cause.Error()))
	return nil
}

// revive takes away the dead letter of a cluster that was given up and is in line again.
func (s *Service) revive(ctx context.Context, t core.TenantID, c core.ClusterID) error {
	return store.Retry(ctx, func() error {
		letter := store.DeadLetter(t, deadSync, string(c))
		items, err := s.DB.Get(ctx, store.Sync(t, c), letter)
		if err != nil {
			return err
		}
		rec, err := records.Decode(items[0])
		if err != nil || rec.Value.Failures > 0 || rec.Value.Tries > 0 {
			return err // or it has failed again meanwhile
		}
		rec.Value.GivenUpAt = time.Time{}
		op, err := records.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, op, store.Delete(letter, items[1].Version))
	})
}

// ErrUnreadable marks what is wrong with an event, which its tenant may read. Of other causes the tenant is not told.
var ErrUnreadable = errors.New("the event cannot be read")

// Park keeps an event that cannot be handled, now or later, as a dead letter of its tenant, or of the system tenant if it
// names none that there is. The same event parked again is the same dead letter.
func (s *Service) Park(ctx context.Context, t core.TenantID, event []byte, request core.RequestID, cause error) error {
	sum := sha256.Sum256(event)
	reason := internal(request)
	if errors.Is(cause, ErrUnreadable) {
		reason = clip(cause.Error())
	}
	letter := DeadLetter{
		ID: hex.EncodeToString(sum[:16]), Kind: deadEvent, Bytes: len(event), Reason: reason, Tries: 1, First: s.Now(), Request: core.RequestID(clip(string(request))),
	}
	if len(event) <= maxEvent {
		letter.Event = event
	}
	return store.Retry(ctx, func() error {
		letter.Tenant = core.SystemTenant
		if t != "" && t != core.SystemTenant {
			items, err := s.DB.Get(ctx, store.Meta(t))
			if err != nil {
				return err
			}
			if items[0].Version != 0 {
				letter.Tenant = t
			}
		}
		items, err := s.DB.Get(ctx, letter.key())
		if err != nil {
			return err
		}
		op, err := letter.write(items[0], s.Now())
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, op)
	})
}

// DeadLetters yields a tenant's dead letters, the events first.
func (s *Service) DeadLetters(ctx context.Context, t core.TenantID) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for rec, err := range letters.List(ctx, s.DB, store.DeadLetters(t)) {
			rec.Value.version = rec.Version
			if !yield(rec.Value, err) || err != nil {
				return
			}
		}
	}
}

// DeadLetter returns one of a tenant's dead letters. An absent one is core.NotFound.
func (s *Service) DeadLetter(ctx context.Context, t core.TenantID, id string) (DeadLetter, error) {
	absent := fmt.Errorf("dead letter: %w", core.NotFound)
	if id == "" || len(id) > maxDead {
		return DeadLetter{}, absent
	}
	items, err := s.DB.Get(ctx, store.DeadLetter(t, deadSync, id), store.DeadLetter(t, deadEvent, id))
	if err != nil {
		return DeadLetter{}, err
	}
	for _, it := range items {
		rec, err := letters.Decode(it)
		if err != nil || rec.Exists() {
			rec.Value.version = rec.Version
			return rec.Value, err
		}
	}
	return DeadLetter{}, absent
}

// Replay has a dead letter tried again as if for the first time, and then takes it away: a message goes to the queue, an event
// into the outbox. What fails once more comes back. One that there is not enough left of is core.Unsupported.
func (s *Service) Replay(ctx context.Context, q Queue, actor core.Actor, d DeadLetter) error {
	if !d.Replayable() {
		return fmt.Errorf("the event of %d bytes was too large to keep; have the clusters reconciled instead: %w", d.Bytes, core.Unsupported)
	}
	if d.Kind == deadSync {
		m := d.Message
		m.Revision, m.Full, m.NotBefore, m.Attempt = 0, true, time.Time{}, 0
		m.Request, m.Trace = cmp.Or(actor.Request, m.Request), actor.Trace
		if err := q.Send(ctx, m); err != nil {
			return err
		}
		return s.remove(ctx, actor, d, audit.Update)
	}
	now := s.Now()
	return s.remove(ctx, actor, d, audit.Update, store.Put(store.Outbox(d.Tenant, now, core.NewID()), 0, d.Event).Until(now.Add(store.OutboxKeep)))
}

// Discard takes a dead letter away for good.
func (s *Service) Discard(ctx context.Context, actor core.Actor, d DeadLetter) error {
	return s.remove(ctx, actor, d, audit.Delete)
}

// remove takes a dead letter away as it was read, and records who did it. One that was written anew meanwhile tells of a
// later failure: it stays, and the error is core.Conflict.
func (s *Service) remove(ctx context.Context, actor core.Actor, d DeadLetter, act audit.Action, more ...store.Op) error {
	scope := core.AccountScope(d.Tenant)
	if c, ok := d.Cluster(); ok {
		scope = core.ClusterScope(c)
	}
	done, err := audit.Op(actor, s.Now(), audit.Record{
		Tenant: d.Tenant, Action: act, EntityType: audit.EntityDeadLetter, EntityID: d.ID, Name: d.Kind, Scope: scope, Reason: d.Reason,
	})
	if err != nil {
		return err
	}
	err = s.DB.Commit(ctx, append(more, done, store.Delete(d.key(), d.version))...)
	if errors.Is(err, core.Conflict) {
		return fmt.Errorf("dead letter %s: %w", d.ID, core.Conflict)
	}
	return err
}
