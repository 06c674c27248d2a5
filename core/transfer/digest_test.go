package transfer

import (
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/store"
)

// Two rounds agree if nothing that lasts changed, whatever expired between them; and a round that took longer than the
// horizon of the one before does not know.
func TestWitness(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	item := func(id string, life time.Duration) store.Item {
		it := store.Item{Key: store.Session("acme", id), Body: []byte(id)}
		if life > 0 {
			it.Expires = now.Add(life)
		}
		return it
	}
	listed := func(last *witness, at time.Time, items ...store.Item) *witness {
		w := newWitness(last, at, 0)
		for _, it := range items {
			w.add(it)
		}
		return w
	}
	lasting, session, code := item("lasting", 0), item("session", 12*time.Hour), item("code", time.Minute)
	first := listed(nil, now, lasting, session, code)
	changed := session
	changed.Body = []byte("moved")
	later := session
	later.Expires = later.Expires.Add(time.Second)
	for name, tt := range map[string]struct {
		items []store.Item
		after time.Duration
		want  bool
	}{
		"the same":             {[]store.Item{lasting, session, code}, time.Second, true},
		"a code expired":       {[]store.Item{lasting, session}, time.Minute, true},
		"somebody signed in":   {[]store.Item{lasting, session, item("new", 12*time.Hour), code}, time.Second, false},
		"somebody signed out":  {[]store.Item{lasting, code}, time.Second, false},
		"a session changed":    {[]store.Item{lasting, changed, code}, time.Second, false},
		"a session lives long": {[]store.Item{lasting, later, code}, time.Second, false},
		"it took too long":     {[]store.Item{lasting, session}, time.Hour, false},
	} {
		second := listed(first, now, tt.items...)
		if got := second.agrees(first, now.Add(tt.after)); got != tt.want {
			t.Errorf("%s: agrees %v", name, got)
		}
	}
	if first.agrees(nil, now) {
		t.Error("the first round agrees with none")
	}
}
