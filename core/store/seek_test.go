package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Parts of a range hold what their comments say, and no key of a neighbour.
func TestSeek(t *testing.T) {
	db := open(t, time.Now)
	const parent = core.ScopeID("11111111-1111-4111-8111-111111111111")
	var ops []store.Op
	for _, name := range []string{"a", "ab", "ab-c", "abc", "b", "é", "éa"} {
		ops = append(ops, store.Put(store.ScopeName("acme", parent, core.Department, name), 0, []byte(name)), store.Put(store.User("acme", core.Email(name)), 0, []byte(name)))
	}
	ops = append(ops, store.Put(store.ScopeName("acme", parent, core.Project, "ab"), 0, []byte("another kind")),
		store.Put(store.ScopeName("acme", parent+".x", core.Project, "ab"), 0, []byte("another parent")))
	if err := db.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	read := func(r store.Range) []string {
		got := []string{}
		for it, err := range db.List(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(it.Body))
		}
		return got
	}
	for what, all := range map[string]store.Range{"names": store.ScopeNames("acme", parent, core.Department), "users": store.Users("acme")} {
		back := all
		back.Descending = true
		first := store.User("acme", "ab").Sort()
		if what == "names" {
			first = store.ScopeName("acme", parent, core.Department, "ab").Sort()
		}
		behind, _ := all.Behind(first)
		before, _ := back.Behind(first)
		for _, tt := range []struct {
			r    store.Range
			want []string
		}{
			{all.Starting(""), []string{"a", "ab", "ab-c", "abc", "b", "é", "éa"}},
			{all.Starting("ab"), []string{"ab", "ab-c", "abc"}},
			{all.Starting("é"), []string{"é", "éa"}},
			{all.Starting("c"), []string{}},
			{all.Exactly("ab"), []string{"ab"}},
			{all.Exactly("c"), []string{}},
			{behind, []string{"ab-c", "abc", "b", "é", "éa"}},
			{before, []string{"a"}},
		} {
			if got := read(tt.r); !slices.Equal(got, tt.want) {
				t.Errorf("%s %q to %q: %v, want %v", what, tt.r.From, tt.r.To, got, tt.want)
			}
		}
	}
	names := store.ScopeNames("acme", parent, core.Department)
	if r, some := names.Behind("zzz"); some {
		t.Errorf("behind the end: %+v", r)
	}
	if r, some := names.Behind("0"); !some || r.From != names.From {
		t.Errorf("from before the beginning: %+v", r)
	}
	names.Descending = true
	if r, some := names.Behind("0"); some {
		t.Errorf("backwards from before the beginning: %+v", r)
	}
	if r, some := names.Behind("zzz"); !some || r.To != names.To {
		t.Errorf("backwards from behind the end: %+v", r)
	}
	if parent, kind := store.ScopeName("acme", parent+".x", core.Project, "ab").NamedUnder(); fmt.Sprint(parent, kind) != "11111111-1111-4111-8111-111111111111.x"+string(core.Project) {
		t.Errorf("read back as %s, %s", parent, kind)
	}
}
