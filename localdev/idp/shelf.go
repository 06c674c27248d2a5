package idp

import (
	"crypto/rand"
	"maps"
	"time"
)

// shelf keeps things for a while, each under a handle that nobody can guess. Its owner locks.
type shelf[V any] map[string]kept[V]

type kept[V any] struct {
	value V
	until time.Time
}

// put keeps v under a new handle. What has expired goes, so that a shelf does not grow for ever.
func (s shelf[V]) put(now time.Time, life time.Duration, v V) string {
	handle := rand.Text()
	s.set(now, life, handle, v)
	return handle
}

func (s shelf[V]) set(now time.Time, life time.Duration, handle string, v V) {
	maps.DeleteFunc(s, func(_ string, k kept[V]) bool { return !now.Before(k.until) })
	s[handle] = kept[V]{v, now.Add(life)}
}

func (s shelf[V]) get(now time.Time, handle string) (v V, ok bool) {
	k, ok := s[handle]
	if !ok || !now.Before(k.until) {
		return v, false
	}
	return k.value, true
}

// take is get, once.
func (s shelf[V]) take(now time.Time, handle string) (V, bool) {
	v, ok := s.get(now, handle)
	delete(s, handle)
	return v, ok
}
