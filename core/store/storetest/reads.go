package storetest

import (
	"context"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

var reads = []promise{
	{"Get returns one item for each key in the order of the keys", func(w *world) {
		a, b, gone, c := w.user("a"), store.Meta(w.tenant), w.user("gone"), store.Group(w.tenant, "c")
		w.commit(store.Put(a, 0, []byte("A")), store.Put(b, 0, []byte("B")), store.Put(c, 0, []byte("C")))
		keys := []store.Key{c, gone, a, b}
		items := w.getAll(keys...)
		for i, want := range []string{"C", "", "A", "B"} {
			if items[i].Key != keys[i] || string(items[i].Body) != want || (items[i].Version != 0) != (want != "") {
				w.Errorf("item %d = %+v, want %s holding %q", i, items[i], keys[i], want)
			}
		}
	}},
	{"Get includes every commit acknowledged before the call", func(w *world) {
		k := w.user("a")
		for i := range 20 {
			body := strings.Repeat("x", i)
			w.commit(store.Put(k, w.get(k).Version, []byte(body)))
			w.wantBody(k, body)
		}
	}},
	{"An absent item has Version 0 and its Key and nothing else", func(w *world) {
		k := w.user("a")
		w.wantAbsent(k)
		v := w.put(k, "x")
		w.commit(store.Delete(k, v))
		w.wantAbsent(k)
	}},
	{"An empty body is not absent", func(w *world) {
		k := w.user("a")
		w.commit(store.Put(k, 0, nil))
		w.wantBody(k, "")
		if n := len(w.list(store.Users(w.tenant))); n != 1 {
			w.Errorf("listed %d items, want 1", n)
		}
	}},
	{"Bodies are the caller's own to keep and to change", func(w *world) {
		k, other := w.user("a"), w.user("b")
		body := []byte("first")
		w.commit(store.Put(k, 0, body), store.Put(other, 0, []byte("other")))
		copy(body, "XXXXX") // after the commit: the store has its own
		items := w.getAll(k, other)
		listed := w.list(store.Users(w.tenant))
		_ = append(items[0].Body, '!') // must not reach into the neighbour
		_ = append(listed[0].Body, '!')
		if string(items[1].Body) != "other" || string(listed[1].Body) != "other" {
			w.Errorf("appending to one body changed another: %q, %q", items[1].Body, listed[1].Body)
		}
		copy(items[0].Body, "YYYYY")
		copy(listed[0].Body, "ZZZZZ")
		w.wantBody(k, "first")
		kept := w.get(k)
		w.put(k, "other")
		for range 50 { // pages of the file are used again
			w.put(other, strings.Repeat("fill", 500))
		}
		if string(kept.Body) != "first" {
			w.Errorf("a body that was read before became %q", kept.Body)
		}
	}},
	{"A key may be named once in a Get", func(w *world) {
		_, err := w.db.Get(w.Context(), w.user("a"), w.user("b"), w.user("a"))
		w.wantError("get of one key twice", err, core.Invalid)
		var many []store.Key
		for range 50 {
			many = append(many, w.user(core.NewID()))
		}
		w.getAll(many...)
		_, err = w.db.Get(w.Context(), append(many, many[7])...)
		w.wantError("get of many keys and one again", err, core.Invalid)
	}},
	{"Every method honours the context", func(w *world) {
		k := w.user("a")
		w.put(k, "x")
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		_, err := w.db.Get(ctx, k)
		w.wantError("get", err, core.Unavailable)
		w.wantError("commit", w.db.Commit(ctx, store.Put(k, w.get(k).Version, []byte("y"))), core.Unavailable)
		w.wantBody(k, "x")
		n := 0
		for _, err := range w.db.List(ctx, store.Users(w.tenant)) {
			n++
			w.wantError("list", err, core.Unavailable)
		}
		if n != 1 {
			w.Errorf("a list with an ended context yielded %d times, want one error", n)
		}
	}},
}

// awkward are names in byte order, some the beginning of others, some not of letters.
var awkward = []string{" ", "!", "-", ".", "..", "/", "0", "A", "__a__", "a", "a ", "a!", "a/b", "aa", "ab", "b", "~", "é", "ﬀ", "𝔞"}

var lists = []promise{
	{"List returns the live items in byte order of their sort keys", func(w *world) {
		for i := range awkward {
			w.put(w.user(awkward[(i*7)%len(awkward)]), "x") // in another order
		}
		want := strings.Join(awkward, " ")
		if got := w.names(store.Users(w.tenant)); got != want {
			w.Errorf("ascending:\n got %q\nwant %q", got, want)
		}
		r := store.Users(w.tenant)
		r.Descending = true
		down := slices.Clone(awkward)
		slices.Reverse(down)
		if got, want := w.names(r), strings.Join(down, " "); got != want {
			w.Errorf("descending:\n got %q\nwant %q", got, want)
		}
	}},
	{"List returns what Get returns", func(w *world) {
		at := w.clock.now().Add(3600e9)
		w.commit(store.Put(w.user("a"), 0, []byte("A")).Until(at), store.Put(w.user("b"), 0, []byte("B")))
		w.put(w.user("b"), "BB")
		items, listed := w.getAll(w.user("a"), w.user("b")), w.list(store.Users(w.tenant))
		if len(listed) != 2 {
			w.Fatalf("listed %d items, want 2", len(listed))
		}
		for i := range items {
			g, l := items[i], listed[i]
			if g.Key != l.Key || g.Version != l.Version || string(g.Body) != string(l.Body) || !g.Expires.Equal(l.Expires) {
				w.Errorf("got %+v, listed %+v", g, l)
			}
		}
	}},
	{"List keeps to From and To and Limit and After in both directions", func(w *world) {
		all := w.fill(12)
		for _, from := range []int{-1, 0, 5, 11, 12} {
			for _, to := range []int{-1, 0, 5, 6, 12} {
				for _, limit := range []int{0, 1, 3} {
					for _, down := range []bool{false, true} {
						r := store.Users(w.tenant)
						r.Limit, r.Descending = limit, down
						var want []string
						for i, name := range all {
							if i >= from && (to < 0 || i < to) {
								want = append(want, name)
							}
						}
						if from >= 0 {
							r.From = append(slices.Clone(all), "u99")[from]
						}
						if to >= 0 {
							r.To = append(slices.Clone(all), "u99")[to]
						}
						if down {
							slices.Reverse(want)
						}
						w.wantPages(r, want)
					}
				}
			}
		}
	}},
	{"List goes through more items than a page holds", func(w *world) {
		all := w.fill(1300)
		w.wantPages(store.Users(w.tenant), all)
		r := store.Users(w.tenant)
		r.Descending = true
		down := slices.Clone(all)
		slices.Reverse(down)
		w.wantPages(r, down)
		r.Limit = 600
		w.wantPages(r, down)
	}},
	{"List goes through large items", func(w *world) {
		body := strings.Repeat("x", store.MaxBody)
		var want []string
		for i := range 150 { // 4.7 MiB, more than a page of any store
			want = append(want, string(rune('A'+i/26))+string(rune('a'+i%26)))
			w.commit(store.Put(w.user(want[i]), 0, []byte(body)))
		}
		w.wantPages(store.Users(w.tenant), want)
	}},
	{"List of an empty range yields nothing", func(w *world) {
		w.fill(3)
		r := store.Users(w.tenant)
		r.From, r.To = "u00002", "u00001"
		for _, r := range []store.Range{r, store.Groups(w.tenant), store.Users(newTenant())} {
			if got := w.names(r); got != "" {
				w.Errorf("listed %q", got)
			}
			r.Descending = true
			if got := w.names(r); got != "" {
				w.Errorf("listed %q, descending", got)
			}
		}
	}},
	{"List may be left early and ranged over again", func(w *world) {
		w.fill(100)
		seq := w.db.List(w.Context(), store.Users(w.tenant))
		for range 3 {
			n := 0
			for it, err := range seq {
				if err != nil || it.Key.Sort() != "u00000" {
					w.Fatalf("first item %v, error %v", it.Key, err)
				}
				n++
				break
			}
			if n != 1 {
				w.Fatalf("yielded %d items before the break", n)
			}
		}
		w.put(w.user("another"), "x") // the store is not stuck
	}},
	{"List may be ranged over while the loop commits", func(w *world) {
		all := w.fill(300)
		n := 0
		for it, err := range w.db.List(w.Context(), store.Users(w.tenant)) {
			if err != nil {
				w.Fatal(err)
			}
			w.commit(store.Delete(it.Key, it.Version), store.Put(store.Group(w.tenant, core.GroupName(it.Key.Sort())), 0, it.Body))
			n++
		}
		if n != len(all) || w.names(store.Users(w.tenant)) != "" || len(w.list(store.Groups(w.tenant))) != len(all) {
			w.Errorf("moved %d of %d items", n, len(all))
		}
	}},
	{"A failed List yields the error once and ends and never looks like the end of the range", func(w *world) {
		all := w.fill(2000)
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		seen, errs := 0, 0
		for _, err := range w.db.List(ctx, store.Users(w.tenant)) {
			if errs > 0 {
				w.Fatal("yielded something after the error")
			}
			if err != nil {
				w.wantError("list", err, core.Unavailable)
				errs++
				continue
			}
			seen++
			cancel()
		}
		if errs != 1 && seen != len(all) {
			w.Errorf("saw %d of %d items and %d errors", seen, len(all), errs)
		}
	}},
}

// wantPages lists a range whole, and again in pages by Limit and After. With a Limit only the first page of it is asked for
// in one List.
func (w *world) wantPages(r store.Range, want []string) {
	w.Helper()
	first := want
	if r.Limit > 0 {
		first = want[:min(r.Limit, len(want))]
	}
	if got := w.names(r); got != strings.Join(first, " ") {
		w.Fatalf("%q to %q, limit %d, descending %v:\n got %.200q\nwant %.200q", r.From, r.To, r.Limit, r.Descending, got, strings.Join(first, " "))
	}
	if r.Limit == 0 {
		return
	}
	var all []string
	for {
		page := w.list(r)
		for _, it := range page {
			all = append(all, it.Key.Sort())
		}
		if len(page) < r.Limit {
			break
		}
		r = r.After(all[len(all)-1])
	}
	if !slices.Equal(all, want) {
		w.Fatalf("in pages of %d, descending %v: got %d items, want %d", r.Limit, r.Descending, len(all), len(want))
	}
}
