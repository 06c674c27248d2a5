package storetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

var commits = []promise{
	{"Commit is visible to every later Get and List once it returned", func(w *world) {
		for i := range 20 {
			name := fmt.Sprintf("u%02d", i)
			w.commit(store.Put(w.user(name), 0, []byte(name)))
			w.wantBody(w.user(name), name)
			if n := len(w.list(store.Users(w.tenant))); n != i+1 {
				w.Fatalf("listed %d items after %d commits", n, i+1)
			}
			if i%3 == 0 {
				w.commit(store.Delete(w.user(name), w.get(w.user(name)).Version))
				w.wantAbsent(w.user(name))
				w.commit(store.Put(w.user(name), 0, []byte(name)))
			}
		}
	}},
	{"Commit applies all operations or none", func(w *world) {
		// Each operation in turn is the one that expects wrongly. The others must leave no trace.
		a, b, c, d := w.user("a"), store.Group(w.tenant, "b"), store.Meta(newTenant()), w.user("d")
		va, vb, vc := w.put(a, "A"), w.put(b, "B"), w.put(c, "C")
		before := w.getAll(a, b, c, d)
		for wrong := range 4 {
			expect := []store.Version{va, vb, vc, 0}
			expect[wrong] = 1<<63 + 12345
			err := w.db.Commit(w.Context(), store.Put(a, expect[0], []byte("A2")), store.Delete(b, expect[1]), store.Check(c, expect[2]), store.Put(d, expect[3], []byte("D")))
			w.wantError(fmt.Sprintf("operation %d expects wrongly", wrong), err, core.Conflict)
			for i, it := range w.getAll(a, b, c, d) {
				if it.Version != before[i].Version || string(it.Body) != string(before[i].Body) {
					w.Errorf("operation %d expected wrongly, and item %d changed from %+v to %+v", wrong, i, before[i], it)
				}
			}
		}
		w.commit(store.Put(a, va, []byte("A2")), store.Delete(b, vb), store.Check(c, vc), store.Put(d, 0, []byte("D")))
		w.wantBody(a, "A2")
		w.wantAbsent(b)
		w.wantBody(c, "C")
		w.wantBody(d, "D")
	}},
	{"Commit is a Conflict when any operation expects another Version", func(w *world) {
		k, gone := w.user("a"), w.user("gone")
		v := w.put(k, "1")
		v2 := w.put(k, "2")
		for name, op := range map[string]store.Op{
			"put over an old version":     store.Put(k, v, []byte("x")),
			"put as new what is there":    store.Put(k, 0, []byte("x")),
			"delete of an old version":    store.Delete(k, v),
			"delete as absent":            store.Delete(k, 0),
			"check of an old version":     store.Check(k, v),
			"check that it is absent":     store.Check(k, 0),
			"put over what is not there":  store.Put(gone, v2, []byte("x")),
			"delete of what is not there": store.Delete(gone, v2),
			"check of what is not there":  store.Check(gone, v2),
		} {
			w.wantError(name, w.db.Commit(w.Context(), op), core.Conflict)
		}
		w.wantBody(k, "2")
		w.wantAbsent(gone)
		w.commit(store.Check(k, v2), store.Check(gone, 0)) // the twin: these hold
	}},
	{"Commit takes different keys only", func(w *world) {
		k := w.user("a")
		w.wantError("put and delete", w.db.Commit(w.Context(), store.Put(k, 0, nil), store.Delete(k, 0)), core.Invalid)
		var ops []store.Op
		for range 50 {
			ops = append(ops, store.Put(w.user(core.NewID()), 0, nil))
		}
		w.wantError("one of many again", w.db.Commit(w.Context(), append(slices.Clone(ops), store.Check(ops[9].Key, 0))...), core.Invalid)
		if got := w.names(store.Users(w.tenant)); got != "" {
			w.Errorf("a refused commit left %q", got)
		}
		w.commit(ops...)
	}},
	{"Check changes nothing", func(w *world) {
		k := w.user("a")
		v := w.put(k, "x")
		w.commit(store.Check(k, v), store.Check(w.user("b"), 0), store.Put(w.user("c"), 0, nil))
		w.commit(store.Check(k, v))
		if it := w.get(k); it.Version != v || string(it.Body) != "x" {
			w.Errorf("checked item became %+v", it)
		}
		w.wantAbsent(w.user("b"))
	}},
	{"Delete of what is absent changes nothing", func(w *world) {
		w.commit(store.Delete(w.user("a"), 0))
		w.wantAbsent(w.user("a"))
		if got := w.names(store.Users(w.tenant)); got != "" {
			w.Errorf("listed %q", got)
		}
	}},
}

var versions = []promise{
	{"Version is never 0 for a present item and never the same for two commits", func(w *world) {
		seen := map[store.Version]bool{}
		for i := range 60 {
			v := w.put(w.user(fmt.Sprint(i%3)), "the same body")
			if v == 0 || seen[v] {
				w.Fatalf("version %d after %d commits was seen before, or is 0", v, i)
			}
			seen[v] = true
			if i%5 == 4 {
				w.commit(store.Delete(w.user(fmt.Sprint(i%3)), v))
			}
		}
	}},
	{"All items of one commit carry one Version", func(w *world) {
		a, b, c := w.user("a"), store.Group(newTenant(), "b"), w.user("c")
		vc := w.put(c, "C")
		w.commit(store.Put(a, 0, nil), store.Put(b, 0, nil), store.Check(c, vc))
		items := w.getAll(a, b, c)
		if items[0].Version != items[1].Version || items[2].Version != vc || vc == items[0].Version {
			w.Errorf("versions %d and %d, beside the checked item's %d (was %d)", items[0].Version, items[1].Version, items[2].Version, vc)
		}
	}},
	{"An item deleted and made again has another Version", func(w *world) {
		k := w.user("a")
		v := w.put(k, "x")
		w.commit(store.Delete(k, v))
		w.commit(store.Put(k, 0, []byte("x")))
		if again := w.get(k).Version; again == v {
			w.Errorf("version %d both times", v)
		}
		w.wantError("put over the first item", w.db.Commit(w.Context(), store.Put(k, v, []byte("y"))), core.Conflict)
		w.wantError("check of the first item", w.db.Commit(w.Context(), store.Check(k, v)), core.Conflict)
		w.wantBody(k, "x")
	}},
}

var expiries = []promise{
	{"An item counts as absent from its expiry on in Get and List and Commit", func(w *world) {
		k, twin := w.user("a"), w.user("b")
		at := w.clock.now().Add(time.Hour)
		w.commit(store.Put(k, 0, []byte("x")).Until(at), store.Put(twin, 0, []byte("stays")))
		v := w.get(k).Version

		w.clock.set(at.Add(-time.Second))
		w.wantBody(k, "x")
		if got := w.names(store.Users(w.tenant)); got != "a b" {
			w.Errorf("before: listed %q", got)
		}
		w.commit(store.Check(k, v))
		w.wantError("before: put as new", w.db.Commit(w.Context(), store.Put(k, 0, nil)), core.Conflict)

		w.clock.set(at)
		w.wantAbsent(k)
		w.wantBody(twin, "stays")
		if got := w.names(store.Users(w.tenant)); got != "b" {
			w.Errorf("after: listed %q", got)
		}
		for name, op := range map[string]store.Op{
			"put": store.Put(k, v, nil), "delete": store.Delete(k, v), "check": store.Check(k, v),
		} {
			w.wantError("after: "+name+" of the expired item", w.db.Commit(w.Context(), op), core.Conflict)
		}
		w.commit(store.Check(k, 0))
		w.commit(store.Delete(k, 0))
		w.wantAbsent(k)
	}},
	{"An expired item can be made again and has another Version", func(w *world) {
		k := w.user("a")
		at := w.clock.now().Add(time.Minute)
		w.commit(store.Put(k, 0, []byte("old")).Until(at))
		v := w.get(k).Version
		w.clock.set(at.Add(time.Hour))
		w.commit(store.Put(k, 0, []byte("new")))
		w.wantBody(k, "new")
		if it := w.get(k); it.Version == v || !it.Expires.IsZero() {
			w.Errorf("new item %+v, the old one had version %d", it, v)
		}
	}},
	{"Expires is kept to the second and rounded up and in UTC", func(w *world) {
		base := w.clock.now().Add(time.Hour)
		zone := time.FixedZone("away", 5*3600+1800)
		for name, tt := range map[string]struct{ set, want time.Time }{
			"whole":      {base, base},
			"a little":   {base.Add(1), base.Add(time.Second)},
			"nearly one": {base.Add(time.Second - 1), base.Add(time.Second)},
			"elsewhere":  {base.In(zone), base},
			"never":      {time.Time{}, time.Time{}},
			"far":        {time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC)},
		} {
			byUntil, byHand := w.user(name+" until"), w.user(name+" by hand")
			op := store.Put(byHand, 0, nil)
			op.Expires = tt.set
			w.commit(op, store.Put(byUntil, 0, nil).Until(tt.set))
			for _, it := range append(w.getAll(byUntil, byHand), w.list(w.only(byHand))...) {
				if it.Version == 0 || !it.Expires.Equal(tt.want) || it.Expires.Location() != time.UTC {
					w.Errorf("%s: expires %v, want %v", it.Key, it.Expires, tt.want)
				}
			}
		}
	}},
	{"A put sets the expiry anew or takes it away", func(w *world) {
		k := w.user("a")
		at := w.clock.now().Add(time.Minute)
		w.commit(store.Put(k, 0, []byte("1")).Until(at))
		w.commit(store.Put(k, w.get(k).Version, []byte("2")).Until(at.Add(time.Minute)))
		w.clock.set(at)
		w.wantBody(k, "2")
		w.commit(store.Put(k, w.get(k).Version, []byte("3")))
		w.clock.set(at.Add(1000 * time.Hour))
		w.wantBody(k, "3")
		w.commit(store.Put(k, w.get(k).Version, []byte("4")).Until(at)) // long past
		w.wantAbsent(k)
	}},
	{"An expiry long past is past and never taken for none", func(w *world) {
		never := w.user("never")
		w.commit(store.Put(never, 0, []byte("x"))) // the twin: the zero time is what stands for none
		for name, past := range map[string]time.Time{
			"1970, a second on":          time.Unix(1, 0),
			"1970":                       time.Unix(0, 0),
			"a second before 1970":       time.Unix(-1, 0),
			"half a second before 1970":  time.Unix(-1, 5e8),
			"1901":                       time.Unix(math.MinInt32, 0),
			"1600":                       time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC),
			"the year 1, a second on":    time.Time{}.Add(time.Second),
			"just after the zero time":   time.Time{}.Add(1),
			"just before the zero time":  time.Time{}.Add(-1), // which is what it is rounded up to
			"a second before that":       time.Time{}.Add(-time.Second),
			"the year 0":                 time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
			"ten thousand years earlier": time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC),
		} {
			byUntil, byHand := w.user(name+" until"), w.user(name+" by hand")
			op := store.Put(byHand, 0, []byte("x"))
			op.Expires = past
			w.commit(op, store.Put(byUntil, 0, []byte("x")).Until(past))
			w.wantAbsent(byUntil)
			w.wantAbsent(byHand)
			w.commit(store.Check(byUntil, 0), store.Check(byHand, 0))
			w.commit(op) // and it is in nobody's way
		}
		if got := w.names(store.Users(w.tenant)); got != "never" {
			w.Errorf("listed %q", got)
		}
	}},
	{"Expired items do not count to a Limit", func(w *world) {
		at := w.clock.now().Add(time.Minute)
		var ops []store.Op
		for i := range 90 {
			op := store.Put(w.user(fmt.Sprintf("u%02d", i)), 0, nil)
			if i != 40 && i != 85 {
				op = op.Until(at)
			}
			ops = append(ops, op)
		}
		w.commit(ops...)
		w.clock.set(at)
		r := store.Users(w.tenant)
		r.Limit = 2
		w.wantPages(r, []string{"u40", "u85"})
		r.Limit, r.Descending = 1, true
		w.wantPages(r, []string{"u85", "u40"})
	}},
}

// only is the range of one key of the test's users.
func (w *world) only(k store.Key) store.Range {
	r := store.Users(w.tenant)
	r.From, r.To = k.Sort(), k.Sort()+"\x00"
	return r
}

// longKey returns a key of n bytes, partition and sort key together.
func (w *world) longKey(n int) store.Key {
	short := w.user("x")
	return w.user(strings.Repeat("k", n-len(short.Partition())))
}

var limits = []promise{
	{"Commit takes up to MaxOps operations", func(w *world) {
		var ops []store.Op
		for i := range store.MaxOps + 1 {
			ops = append(ops, store.Put(w.user(fmt.Sprintf("u%03d", i)), 0, nil))
		}
		w.wantError("one too many", w.db.Commit(w.Context(), ops...), core.Limit)
		w.wantError("none", w.db.Commit(w.Context()), core.Limit)
		if got := w.names(store.Users(w.tenant)); got != "" {
			w.Errorf("a refused commit left %q", got)
		}
		w.commit(ops[:store.MaxOps]...)
		if n := len(w.list(store.Users(w.tenant))); n != store.MaxOps {
			w.Errorf("listed %d items of %d", n, store.MaxOps)
		}
	}},
	{"Get takes up to MaxGet keys", func(w *world) {
		var keys []store.Key
		for i := range store.MaxGet + 1 {
			keys = append(keys, w.user(fmt.Sprintf("u%03d", i)))
		}
		_, err := w.db.Get(w.Context(), keys...)
		w.wantError("one too many", err, core.Limit)
		_, err = w.db.Get(w.Context())
		w.wantError("none", err, core.Limit)
		w.getAll(keys[:store.MaxGet]...)
	}},
	{"A body may have MaxBody bytes", func(w *world) {
		full := strings.Repeat("b", store.MaxBody)
		w.commit(store.Put(w.user("full"), 0, []byte(full)))
		w.wantBody(w.user("full"), full)
		err := w.db.Commit(w.Context(), store.Put(w.user("fits"), 0, nil), store.Put(w.user("over"), 0, []byte(full+"b")))
		w.wantError("one byte over", err, core.Limit)
		w.wantAbsent(w.user("fits"))
	}},
	{"A key may have MaxKey bytes", func(w *world) {
		fits, over := w.longKey(store.MaxKey), w.longKey(store.MaxKey+1)
		w.commit(store.Put(fits, 0, []byte("x")).Until(w.clock.now().Add(time.Hour)))
		w.wantBody(fits, "x")
		if got := w.list(store.Users(w.tenant)); len(got) != 1 || got[0].Key != fits {
			w.Errorf("listed %d items", len(got))
		}
		_, err := w.db.Get(w.Context(), over)
		w.wantError("get, one byte over", err, core.Limit)
		w.wantError("commit, one byte over", w.db.Commit(w.Context(), store.Put(over, 0, nil)), core.Limit)
	}},
	{"A full transaction of full items fits", func(w *world) {
		var ops []store.Op
		var keys []store.Key
		body := []byte(strings.Repeat("b", store.MaxBody))
		for i := range store.MaxOps {
			k := w.longKey(store.MaxKey - 3)
			keys = append(keys, w.user(k.Sort()+fmt.Sprintf("%03d", i)))
			ops = append(ops, store.Put(keys[i], 0, body).Until(w.clock.now().Add(time.Hour)))
		}
		for round := range 2 { // new, then over what is there
			w.commit(ops...)
			items := w.getAll(keys...)
			for i, it := range items {
				if string(it.Body) != string(ops[i].Body) || it.Version != items[0].Version {
					w.Fatalf("round %d: item %d has %d bytes and version %d", round, i, len(it.Body), it.Version)
				}
				ops[i].Expect = it.Version
				ops[i].Body = []byte(strings.Repeat("c", store.MaxBody))
			}
		}
		if n := len(w.list(store.Users(w.tenant))); n != store.MaxOps {
			w.Errorf("listed %d items", n)
		}
	}},
	{"Input that no constructor made is Invalid", func(w *world) {
		k := w.user("a")
		for name, bad := range map[string]store.Key{"zero key": {}, "no tenant": store.Meta(""), "no name": w.user("")} {
			_, err := w.db.Get(w.Context(), k, bad)
			w.wantError("get: "+name, err, core.Invalid)
			w.wantError("commit: "+name, w.db.Commit(w.Context(), store.Put(k, 0, nil), store.Put(bad, 0, nil)), core.Invalid)
		}
		w.wantError("no verb", w.db.Commit(w.Context(), store.Put(k, 0, nil), store.Op{Key: w.user("b")}), core.Invalid)
		w.wantAbsent(k)
		negative := store.Users(w.tenant)
		negative.Limit = -1
		for name, bad := range map[string]store.Range{"zero range": {}, "no tenant": store.Users(""), "limit below 0": negative} {
			n := 0
			for _, err := range w.db.List(w.Context(), bad) {
				w.wantError("list: "+name, err, core.Invalid)
				n++
			}
			if n != 1 {
				w.Errorf("list: %s: yielded %d times, want one error", name, n)
			}
		}
	}},
}

// hostile are names made to reach into another's keys, or to upset a store's own way of naming.
var hostile = []string{
	"a", "A", "a\x1f", "\x1fa", "a\x1fb", "a\x00", "\x00", "a\x00b", "a\x01", "a\x7f", "a\x7f1f", "a\x7f1fb", "a\ufffd", "a\ufffdb", "a\xff", "a\xfe", "\xff",
	"a/b", "a//b", "../a", ".", "..", "__a__", "a#b", "a|b", "a:b", "a*", "*", "%1f", "a%2fb", "a\\b", "'", "\"", "a b", " a", "a ",
	"user", "meta", "tenant", "account", "system", "é", "e\u0301", "\u202ea", "$where", "{}",
}

var isolation = []promise{
	{"Partitions are apart and so are tenants whatever their names", func(w *world) {
		// Every name is tenant, user and group at once, beside every other.
		type place struct {
			key  store.Key
			body string
		}
		var places []place
		for _, t := range hostile {
			for _, n := range hostile {
				tenant := w.tenant + core.TenantID(t)
				places = append(places,
					place{store.User(tenant, core.Email(n)), fmt.Sprintf("user %q of %q", n, t)},
					place{store.Attempts(tenant, n, t), fmt.Sprintf("attempts %q of %q", n, t)})
			}
		}
		for chunk := range slices.Chunk(places, store.MaxOps) {
			var ops []store.Op
			for _, p := range chunk {
				ops = append(ops, store.Put(p.key, 0, []byte(p.body)))
			}
			w.commit(ops...) // a Conflict here would be two places with one key
		}
		for chunk := range slices.Chunk(places, store.MaxGet) {
			var keys []store.Key
			for _, p := range chunk {
				keys = append(keys, p.key)
			}
			for i, it := range w.getAll(keys...) {
				if string(it.Body) != chunk[i].body {
					w.Errorf("%q holds %q", chunk[i].body, it.Body)
				}
			}
		}
		for _, t := range hostile {
			items := w.list(store.Users(w.tenant + core.TenantID(t)))
			for _, it := range items {
				if !strings.HasPrefix(string(it.Body), "user ") || !strings.HasSuffix(string(it.Body), fmt.Sprintf(" of %q", t)) {
					w.Errorf("the users of tenant %q include %s", t, it.Body)
				}
			}
			if len(items) != len(hostile) {
				w.Errorf("tenant %q has %d users of %d", t, len(items), len(hostile))
			}
		}
	}},
	{"A range by a name holds what bears that very name", func(w *world) {
		var ops []store.Op
		for _, n := range hostile {
			ops = append(ops, store.Put(store.Grants(w.tenant, core.GroupSubject(core.GroupName(n)), store.InAccount), 0, []byte(n)))
		}
		w.commit(ops...)
		for _, n := range hostile {
			if items := w.list(store.GrantsOf(w.tenant, core.GroupSubject(core.GroupName(n)))); len(items) != 1 || string(items[0].Body) != n {
				w.Errorf("the grants of %q are %d items: %+v", n, len(items), items)
			}
		}
	}},
	{"One commit may span partitions and tenants", func(w *world) {
		other := newTenant()
		a, b, c := store.Meta(w.tenant), store.Meta(other), w.user("a")
		w.commit(store.Put(a, 0, []byte("A")), store.Put(b, 0, []byte("B")), store.Put(c, 0, []byte("C")))
		w.wantError("conflict in another tenant", w.db.Commit(w.Context(), store.Put(a, w.get(a).Version, []byte("A2")), store.Put(b, 0, nil)), core.Conflict)
		w.wantBody(a, "A")
		w.wantBody(b, "B")
		w.wantBody(c, "C")
	}},
}
