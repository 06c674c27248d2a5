// Package transfer moves tenants between stores: from one store.DB into another (Copier), into a file (Export) and out of
// one (File, a Source for a Copier). It owns what belongs to a tenant, the order in which it is copied, and the proof that
// what arrived is what left. Which stores and key services there are is infra/stores' business.
//
// # Nothing acts before all is there
//
// A tenant without its Meta item does not exist: every request, every job and every message reads Meta first. So Meta is
// written last, in one commit with the registry entry, and the target holds either nothing that acts or the whole tenant:
//
//  1. The registry entry comes first, in the state Arriving, with a random id and the source's name: the claim. It keeps the
//     tenant's id from being given away, tells functions/maintain to leave the jobs that are there already alone, and every
//     batch of the copy commits only while it stands. So two copies at once cannot mix, and a run that was thought dead
//     and is not stops.
//  2. Everything else follows, round after round, like rsync: both sides of each partition are read in order, and what
//     differs is written. A run that was interrupted at any point is simply run again.
//  3. Once a round found no difference, and the source is what it was in the round before, the jobs in the due index follow,
//     and then one commit puts Meta and the true registry entry. An interrupted run leaves the claim, or all of it.
//
// # What stays behind
//
// The outbox: its events were carried out by the stream of the store that they were committed to, or will be, and in another
// store's stream all of a week's would be carried out again. What they lead to does not depend on them: handlers are
// level-triggered, a resumed tenant sends an event of its own, and each cluster is looked at anew by its Reconcile job. For
// the same reason messages of the local queue stay. Items that have expired, or will within seconds, are not copied.
package transfer

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

// Source is what is copied: a store, or a File.
type Source interface {
	Get(ctx context.Context, keys ...store.Key) ([]store.Item, error)
	List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error]
}

// Wrappers say what becomes of a tenant's wrapped keys on the way. The zero Wrappers carries them as they are, unseen, which
// is right where the same key service stays behind both stores.
type Wrappers struct {
	From keys.Wrapper // of the source. Alone: every key is opened to prove that it is the right one, and carried as it is
	To   keys.Wrapper // of the target: every key is unwrapped and wrapped anew
}

// Copier copies tenants into a store. From, FromName, To and Now are needed.
type Copier struct {
	From     Source
	FromName string // names the source in the claim: a second run goes on only with what a source of the same name began
	To       store.DB
	Wrappers Wrappers
	Now      func() time.Time
	Restart  bool // take over an unfinished copy of another source
	DryRun   bool // write nothing, and count what would be written
	// Progress, if set, is called now and then, with the partition that is being compared.
	Progress func(Progress)
}

// Progress is how far a copy or an export has come.
type Progress struct {
	Tenant    core.TenantID
	Partition string // as store.Key.Leading
	Round     int    // of comparing; from 1
	Items     int    // read from the source in this round
	Bytes     int64  // of them: keys and bodies
	Written   int    // in all rounds
}

// Result is what was done with a tenant. After a dry run it is what would be.
type Result struct {
	Tenant  core.TenantID `json:"tenant"`
	Items   int           `json:"items"`   // of the tenant, without those in the due index
	Bytes   int64         `json:"bytes"`   // of their keys and bodies
	Due     int           `json:"due"`     // items in the due index
	Put     int           `json:"put"`     // written, in all rounds; what a first run wrote, a second finds in its place
	Deleted int           `json:"deleted"` // taken away from the target, since the source no longer has it
	Rounds  int           `json:"rounds"`
	// Digest is the SHA-256, in hex, of the tenant's lasting items in the form that the source has them.
	Digest string `json:"digest,omitempty"`
	// Already: the target held the whole tenant before, the same to the byte, and nothing was done.
	Already bool `json:"already,omitempty"`
	// Erased: the source has only the registry entry of an erased tenant, which was copied so that its id stays taken.
	Erased bool `json:"erased,omitempty"`
}

// The bounds of a copy.
const (
	// maxRounds is how often both sides are compared before a source that keeps changing is given up on.
	maxRounds = 10
	// expirySkew: what expires so soon counts as expired on both sides, since their clocks differ.
	expirySkew = 10 * time.Second
)

// Tenants is every tenant of a source, in order of id, the operators' own last: without it nobody can act on the others.
func Tenants(ctx context.Context, src Source) ([]core.TenantID, error) {
	var all []core.TenantID
	system := false
	for it, err := range src.List(ctx, store.TenantEntries()) {
		if err != nil {
			return nil, err
		}
		t := core.TenantID(it.Key.Sort())
		if system = system || t == core.SystemTenant; t != core.SystemTenant {
			all = append(all, t)
		}
	}
	if system {
		all = append(all, core.SystemTenant)
	}
	return all, nil
}

// live says whether an item is to be copied: it does not expire, or not soon.
func live(it store.Item, now time.Time) bool {
	return it.Expires.IsZero() || it.Expires.After(now.Add(expirySkew))
}

func size(it store.Item) int64 {
	return int64(len(it.Key.Leading()) + len(it.Key.Sort()) + len(it.Body))
}

// one reads a few items that may be absent.
func get(ctx context.Context, src Source, list ...store.Key) ([]store.Item, error) {
	items, err := src.Get(ctx, list...)
	if err == nil && len(items) != len(list) {
		err = fmt.Errorf("transfer: %d items for %d keys", len(items), len(list))
	}
	return items, err
}
