package firestore

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

func TestNames(t *testing.T) {
	for s, want := range map[string]string{
		"":           "=",
		"acme":       "=acme",
		".":          "=.0",
		"..":         "=.0.0",
		"__a__":      "=__a__",
		"a/b c!\x1f": "=a.1b!`c!a!_",
		"é~\x7f":     "=é~\x7f",
	} {
		if got := name(s); got != want {
			t.Errorf("name(%q) = %q, want %q", s, got, want)
		}
	}
	if got, want := document(store.User("acme", "a/b@example.com")), "user/=acme/items/=a.1b@example.0com"; got != want {
		t.Errorf("document = %q, want %q", got, want)
	}
	if got, want := document(store.Outbox("acme", time.Unix(0, 0), "x")), "outbox/=acme/items/=19700101T000000.0000!_x"; got != want {
		t.Errorf("document = %q, want %q", got, want)
	}
	if n := len(name(strings.Repeat("!", store.MaxKey))); n > 1500 {
		t.Errorf("the longest key has an id of %d bytes", n)
	}
}

// Ids are in the order of what they stand for, and differ as it does.
func FuzzNames(f *testing.F) {
	f.Add("a", "b")
	f.Add("a.", "a/")
	f.Add("a\x1f", "a ")
	f.Add("!", "\"")
	f.Add("../x", "..!")
	f.Add("a", "a\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := name(a), name(b)
		if (a < b) != (x < y) || (a == b) != (x == y) {
			t.Errorf("%q and %q became %q and %q", a, b, x, y)
		}
		if strings.Contains(x, "/") || x == "." || x == ".." || strings.HasPrefix(x, "__") || utf8.ValidString(a) && !utf8.ValidString(x) {
			t.Errorf("%q became %q, which no document may be called", a, x)
		}
	})
}

func TestVersions(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC))
	seen := map[store.Version]bool{}
	for _, expires := range []bool{false, true} {
		v := version(at, expires)
		back, ok := updateTime(v)
		if !ok || back.AsTime() != at.AsTime() || mayExpire(v) != expires || v == 0 || seen[v] {
			t.Errorf("version %d is of %v (%v), expires: %v", v, back.AsTime(), ok, mayExpire(v))
		}
		seen[v] = true
	}
	if _, ok := updateTime(1<<63 + 12345); ok {
		t.Error("a version far beyond the end of time has an update time")
	}
}

// What a timestamp of Firestore cannot hold becomes the first or the last that it can.
func TestExpiries(t *testing.T) {
	first, last := time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, tt := range []struct{ in, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Time{}.Add(-1), first},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), first},
		{time.Unix(-1, 5e8), time.Unix(0, 0)},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), last},
	} {
		got := expiry(store.Op{Verb: store.VerbPut, Expires: tt.in})
		if !got.Equal(tt.want) || !timestamppb.New(got).IsValid() {
			t.Errorf("%v is kept as %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestMarks(t *testing.T) {
	for _, m := range []mark{{nonce: newNonce()}, {nonce: newNonce(), expires: true, follows: 1 << 50}} {
		if got, ok := parseMark(m.bytes()); !ok || got != m {
			t.Errorf("%+v came back as %+v", m, got)
		}
	}
	for _, bad := range [][]byte{nil, {1}, make([]byte, markSize+1)} {
		if _, ok := parseMark(bad); ok {
			t.Errorf("%d bytes were taken for a mark", len(bad))
		}
	}
}

func TestExpiriesForgetTheOldest(t *testing.T) {
	var x expiries
	key := func(i int) store.Key {
		return store.User("acme", core.Email(strings.Repeat("x", i%50)+string(rune('a'+i%26))))
	}
	at := time.Unix(1e9, 0)
	for i := range 3 * expiriesKept {
		x.add(key(i), store.Version(i), at)
		if got, ok := x.of(key(i), store.Version(i)); !ok || !got.Equal(at) {
			t.Fatalf("entry %d is not there", i)
		}
		if len(x.new)+len(x.old) > 2*expiriesKept {
			t.Fatalf("it holds %d entries", len(x.new)+len(x.old))
		}
	}
	if _, ok := x.of(key(0), 0); ok {
		t.Error("the first entry is still there")
	}
	if _, ok := x.of(key(1), store.Version(3*expiriesKept-1)); ok {
		t.Error("another key has that version's expiry")
	}
}
