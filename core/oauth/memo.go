package oauth

import (
	"sync"

	"github.com/fleetpass/fleetpass/core/store"
)

// memo remembers what items decoded to. Every request that an application makes reads the same two items, the tenant and
// the client, and to decode them costs a fifth of what it costs to sign the token. The store is read all the same: a memo
// only saves decoding a body that was decoded before, which the version tells, since a version is the id of the commit
// that wrote the body. The zero memo works, from many goroutines.
type memo[T any] struct {
	mu   sync.RWMutex
	seen map[store.Key]store.Record[T]
}

// memoSize bounds a memo, in records of a few hundred bytes. One that is full forgets everything, which costs little:
// whatever is in use is decoded again.
const memoSize = 1024

// decode is decode(it), or what that returned before for this version of the item. Errors are not remembered. The record is
// shared: nobody may write into what it refers to.
func (m *memo[T]) decode(it store.Item, decode func(store.Item) (store.Record[T], error)) (store.Record[T], error) {
	m.mu.RLock()
	rec, ok := m.seen[it.Key]
	m.mu.RUnlock()
	if ok && rec.Version == it.Version && rec.Expires.Equal(it.Expires) {
		return rec, nil
	}
	rec, err := decode(it)
	if err != nil || !rec.Exists() {
		return rec, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil || len(m.seen) >= memoSize {
		m.seen = make(map[store.Key]store.Record[T])
	}
	m.seen[it.Key] = rec
	return rec, nil
}

// last is the record that an item of that key decoded to last, if it is remembered. It may be of long ago: it can only be a
// guess at what is worth reading.
func (m *memo[T]) last(k store.Key) (store.Record[T], bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	rec, ok := m.seen[k]
	return rec, ok
}
