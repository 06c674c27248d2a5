package firestore

import (
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core/store"
)

// expiries remembers when items expire, so that a Commit need not read again what its caller has just read: an update time is
// a precondition that Firestore checks, an expiry is not. What it holds is never stale, since a document of one Version has
// one expiry. It is bounded, and forgets the older half of what it holds.
type expiries struct {
	mu       sync.Mutex
	new, old map[versioned]time.Time
}

type versioned struct {
	key     store.Key
	version store.Version
}

// expiriesKept is the size of each half. An entry takes about 200 bytes.
const expiriesKept = 4096

func (x *expiries) add(k store.Key, v store.Version, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.new) >= expiriesKept {
		x.old, x.new = x.new, nil
	}
	if x.new == nil {
		x.new = make(map[versioned]time.Time)
	}
	x.new[versioned{k, v}] = at
}

// of returns when an item expires (zero: never); false: it is not known.
func (x *expiries) of(k store.Key, v store.Version) (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.new[versioned{k, v}]
	if !ok {
		at, ok = x.old[versioned{k, v}]
	}
	return at, ok
}
