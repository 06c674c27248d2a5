package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"time"

	"github.com/fleetpass/fleetpass/core/store"
)

// canonical feeds an item to a hash in the one form that is the same in every store: the printable partition, the sort key,
// the expiry in seconds and the body, each behind its length. A Version is a store's own and not part of it.
func canonical(h hash.Hash, it store.Item) {
	var n [8]byte
	field := func(s string) {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	field(it.Key.Leading())
	field(it.Key.Sort())
	expires := int64(0)
	if !it.Expires.IsZero() {
		expires = it.Expires.Unix()
	}
	binary.BigEndian.PutUint64(n[:], uint64(expires))
	h.Write(n[:])
	binary.BigEndian.PutUint64(n[:], uint64(len(it.Body)))
	h.Write(n[:])
	h.Write(it.Body)
}

// witness tells whether a source stood still between two rounds. Items that expire would make every two readings differ, so
// a round hashes what expires after a horizon that lies behind the next round, too, and the next round hashes by that same
// horizon, and by one of its own for the round to come. Where two rounds agree, nothing that lasts was written between
// the reading of each partition in the one and in the other; all of these spans hold the moment between the rounds. So
// what was copied is the source's contents of that moment, although no store can show several pages at one moment.
type witness struct {
	lasts      hash.Hash // of what never expires
	then, next hash.Hash
	thenUntil  time.Time // the last round's horizon
	nextUntil  time.Time
}

// newWitness begins a round. took is how long the last one did.
func newWitness(last *witness, now time.Time, took time.Duration) *witness {
	w := &witness{lasts: sha256.New(), then: sha256.New(), next: sha256.New(), nextUntil: now.Add(2*time.Minute + 4*took)}
	if last != nil {
		w.thenUntil = last.nextUntil
	}
	return w
}

func (w *witness) add(it store.Item) {
	if it.Expires.IsZero() {
		canonical(w.lasts, it)
	}
	if it.Expires.IsZero() || it.Expires.After(w.thenUntil) {
		canonical(w.then, it)
	}
	if it.Expires.IsZero() || it.Expires.After(w.nextUntil) {
		canonical(w.next, it)
	}
}

// agrees says whether the source stood still since the last round. A round that ended behind the horizon does not know.
func (w *witness) agrees(last *witness, now time.Time) bool {
	return last != nil && now.Add(expirySkew).Before(last.nextUntil) && bytes.Equal(last.next.Sum(nil), w.then.Sum(nil))
}

func (w *witness) digest() string { return hex.EncodeToString(w.lasts.Sum(nil)) }
