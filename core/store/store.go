// Package store is the one door to storage. It owns the port DB, which adapters implement and storetest holds them to,
// the spelling of every key (keys.go), and typed access to items (Table). It knows no storage product.
package store

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// DB keeps items in partitions, in byte order of their sort keys. It is shaped by what DynamoDB and Firestore both do
// natively. Every method may be called from many goroutines and processes at once, honours ctx, and returns
// core.Unavailable (wrapped) when the store does not answer, core.Invalid or core.Limit for input outside the limits
// below. storetest has one subtest for each sentence of this promise.
type DB interface {
	// Get returns one item for each key, in the order of the keys, from one consistent snapshot that includes every
	// commit acknowledged before the call, in one round trip. A key may be named once, and up to MaxGet keys. An absent
	// or expired item has Version 0 and its Key, and nothing else.
	Get(ctx context.Context, keys ...Key) ([]Item, error)

	// List returns the live items of a range in byte order of their sort keys (descending if the range says so). Each
	// page is strongly consistent; several pages are no snapshot: who needs one reads the tenant's revision before and
	// after. A failure is yielded as an error, once, and ends the sequence: it never looks like the end of the range.
	List(ctx context.Context, r Range) iter.Seq2[Item, error]

	// Commit applies up to MaxOps operations on different keys, all or none, and is visible to every later Get and List
	// once it returned. If any operation expects another Version than the stored one, nothing is changed and the error
	// is core.Conflict. An expired item counts as absent. An error that is neither core.Conflict nor about the input
	// means that the commit may have happened, or may yet: the items' Version tells, since it is the commit's own. Who
	// must know puts, in the same commit, an item at a random key that nobody else writes (an audit record, an event): it
	// is there if the commit happened, and what else has its Version was written by it. A second try that expects the same
	// versions settles the matter: where the first was applied it is core.Conflict, and where it is applied the first can
	// no longer be.
	Commit(ctx context.Context, ops ...Op) error
}

// The limits of every store, below those of the weakest (DynamoDB: 100 items, 4 MB a transaction, 400 KB an item, 1 KiB
// a sort key; Firestore: 1.5 KiB a document name). A full transaction of full items fits.
const (
	MaxOps  = 100
	MaxGet  = 100
	MaxBody = 32 << 10 // bytes of an item's body
	MaxKey  = 700      // bytes of a partition and sort key together
)

// Version identifies the commit that wrote an item: all items that one commit puts carry the same. It is opaque: equal or
// not is all it says. It is never 0 for a present item, and never the same for two commits that write the same key (a store
// may number commits by their time), so an item deleted and made again has another Version, and a writer whose commit's
// answer was lost can tell from it whether the commit happened. 0 stands for "absent".
type Version uint64

// Item is what a key holds.
type Item struct {
	Key     Key
	Version Version
	Body    []byte    // the caller's own, to keep and to change; empty is not absent
	Expires time.Time // to the second, UTC; zero: never. From then on the item counts as absent
}

// Op is one operation of a Commit. Make it with Put, Delete or Check.
type Op struct {
	Key     Key
	Expect  Version // the Version that the key must have: 0 = absent
	Verb    Verb
	Body    []byte    // Put only
	Expires time.Time // Put only; zero: never
}

// Verb is what an Op does.
type Verb uint8

// The verbs.
const (
	VerbPut    Verb = iota + 1 // write the body
	VerbDelete                 // remove the item
	VerbCheck                  // change nothing; the commit holds only if the version does
)

// Put writes body at key, if the stored version is expect.
func Put(key Key, expect Version, body []byte) Op {
	return Op{Key: key, Expect: expect, Verb: VerbPut, Body: body}
}

// Delete removes the item at key, if the stored version is expect. Deleting what is absent (expect 0) changes nothing.
func Delete(key Key, expect Version) Op { return Op{Key: key, Expect: expect, Verb: VerbDelete} }

// Check makes a commit depend on key still having that version.
func Check(key Key, expect Version) Op { return Op{Key: key, Expect: expect, Verb: VerbCheck} }

// Until returns op with an expiry. Expiries are kept to the second, rounded up.
func (op Op) Until(t time.Time) Op {
	if !t.IsZero() {
		if r := t.Truncate(time.Second); !r.Equal(t) {
			t = r.Add(time.Second)
		}
		if t.IsZero() { // the rounding came to what stands for never, of a time that has passed
			t = t.Add(time.Second)
		}
		t = t.UTC()
	}
	op.Expires = t
	return op
}

// Range is part of one partition. keys.go makes it.
type Range struct {
	partition  Key    // its sort is empty
	From, To   string // From <= sort < To; To empty: to the end of the partition
	Descending bool
	Limit      int // at most so many items; 0: all of them
}

// Partition is the full name of the partition that the range lies in, as Key.Partition spells it.
func (r Range) Partition() string { return r.partition.Partition() }

// Leading is the name of the partition that the range lies in, as Key.Leading spells it.
func (r Range) Leading() string { return r.partition.Leading() }

// Key makes the key of an item found in the range, for adapters.
func (r Range) Key(sort string) Key {
	k := r.partition
	k.sort = sort
	return k
}

// CheckGet refuses what is outside the limits of Get. Every adapter calls it first.
func CheckGet(keys []Key) error {
	if len(keys) == 0 || len(keys) > MaxGet {
		return fmt.Errorf("store: get of %d keys, want 1 to %d: %w", len(keys), MaxGet, core.Limit)
	}
	for _, k := range keys {
		if err := k.check(); err != nil {
			return err
		}
	}
	if k, twice := repeated(len(keys), func(i int) Key { return keys[i] }); twice {
		return fmt.Errorf("store: key %s twice in one get: %w", k, core.Invalid)
	}
	return nil
}

// repeated finds a key that is among n keys twice. A few are compared pairwise, which is what nearly every Get is and costs
// no allocation.
func repeated(n int, key func(int) Key) (Key, bool) {
	if n <= 8 {
		for i := range n {
			for j := range i {
				if key(i) == key(j) {
					return key(i), true
				}
			}
		}
		return Key{}, false
	}
	seen := make(map[Key]bool, n)
	for i := range n {
		if seen[key(i)] {
			return key(i), true
		}
		seen[key(i)] = true
	}
	return Key{}, false
}

// CheckCommit refuses what is outside the limits of Commit. Every adapter calls it first.
func CheckCommit(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("store: commit of %d operations, want 1 to %d: %w", len(ops), MaxOps, core.Limit)
	}
	for _, op := range ops {
		if err := op.Key.check(); err != nil {
			return err
		}
		if op.Verb < VerbPut || op.Verb > VerbCheck {
			return fmt.Errorf("store: key %s: no verb: %w", op.Key, core.Invalid)
		}
		if len(op.Body) > MaxBody {
			return fmt.Errorf("store: key %s: body of %d bytes, at most %d: %w", op.Key, len(op.Body), MaxBody, core.Limit)
		}
	}
	if k, twice := repeated(len(ops), func(i int) Key { return ops[i].Key }); twice {
		return fmt.Errorf("store: key %s twice in one commit: %w", k, core.Invalid)
	}
	return nil
}

// CheckRange refuses a range that no constructor made.
func CheckRange(r Range) error {
	if r.partition.tenant == "" || r.partition.partition == "" || r.Limit < 0 {
		return fmt.Errorf("store: malformed range: %w", core.Invalid)
	}
	return nil
}
