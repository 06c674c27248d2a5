package oauth

import (
	"errors"
	"fmt"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// A memo decodes each version of an item once, and neither remembers what is absent or broken nor grows for ever.
func TestMemo(t *testing.T) {
	decoded := 0
	decode := func(it store.Item) (store.Record[string], error) {
		decoded++
		if string(it.Body) == "broken" {
			return store.Record[string]{}, errors.New("broken")
		}
		return store.Record[string]{Key: it.Key, Version: it.Version, Value: string(it.Body), Expires: it.Expires}, nil
	}
	item := func(id string, v store.Version, body string) store.Item {
		return store.Item{Key: store.Application("acme", core.ApplicationID(id)), Version: v, Body: []byte(body)}
	}
	var m memo[string]
	for i, tt := range []struct {
		it   store.Item
		want string
		ok   bool
		n    int // how often decode was called until then
	}{
		{item("a", 1, "one"), "one", true, 1},
		{item("a", 1, "one"), "one", true, 1},
		{item("a", 2, "two"), "two", true, 2}, // changed
		{item("a", 1, "one"), "one", true, 3}, // a slower request, which read before the change
		{item("b", 1, "other"), "other", true, 4},
		{item("a", 0, ""), "", true, 5}, // deleted
		{item("a", 3, "broken"), "", false, 6},
		{item("a", 3, "broken"), "", false, 7},
		{item("a", 1, "one"), "one", true, 7},
	} {
		rec, err := m.decode(tt.it, decode)
		if rec.Value != tt.want || rec.Version != tt.it.Version && tt.ok || (err == nil) != tt.ok || decoded != tt.n {
			t.Errorf("%d: %+v, %v after %d decodings, want %q after %d", i, rec, err, decoded, tt.want, tt.n)
		}
	}
	for i := range 3 * memoSize {
		if _, err := m.decode(item(fmt.Sprintf("x%d", i), 1, "x"), decode); err != nil || len(m.seen) > memoSize {
			t.Fatalf("%d records: %v", len(m.seen), err)
		}
	}
}
