package org_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// listed reads a whole list, part by part.
func listed(t *testing.T, s *org.Service, w org.Where) (names []string, err error) {
	t.Helper()
	n, err := s.Names(t.Context(), acme, w)
	if err != nil {
		return nil, err
	}
	for _, part := range n.Parts {
		part.Limit = 2 // how much is read ahead changes nothing
		for rec, err := range n.List(t.Context(), part) {
			if err != nil {
				return names, err
			}
			if rec.Key != store.ScopeName(acme, rec.Value.Parent, rec.Value.Kind, rec.Value.Name) {
				t.Errorf("%s has the key %s", rec.Value.Name, rec.Key)
			}
			names = append(names, rec.Value.Name)
		}
	}
	return names, nil
}

// A list by names has every live scope once, follows renames and moves, and leaves out what lies in something deleted although
// its own name is still there until the sweep.
func TestNames(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	d, e := w.department(t, c, "dep"), w.department(t, c, "else")
	w.project(t, d, "a")
	b := w.project(t, d, "b")
	w.project(t, e, "c")
	w.project(t, c, "d")
	account := []org.Scope{{ID: core.AccountScope(acme), Kind: core.Account}}
	want := func(what string, where org.Where, names ...string) {
		t.Helper()
		got, err := listed(t, w.Service, where)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, names) {
			t.Errorf("%s: %v %v, want %v", what, got, err, names)
		}
	}
	projects := org.Where{Kind: core.Project, Within: account}
	want("at first", projects, "a", "b", "c", "d")
	if _, err := w.Rename(t.Context(), w.admin, acme, b.ID, "renamed"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Move(t.Context(), w.admin, acme, b.ID, e.ID); err != nil {
		t.Fatal(err)
	}
	want("after a rename and a move", projects, "a", "c", "d", "renamed")
	want("of the department that it left", org.Where{Kind: core.Project, Within: []org.Scope{d}}, "a")
	want("of the one it came to", org.Where{Kind: core.Project, Within: account, Parent: e.ID}, "c", "renamed")
	want("of nobody", org.Where{Kind: core.Project})
	want("of another's department", org.Where{Kind: core.Project, Within: []org.Scope{d}, Parent: e.ID})
	if err := w.DeleteScope(t.Context(), w.admin, acme, e.ID, true); err != nil {
		t.Fatal(err)
	}
	want("after a department is deleted", projects, "a", "d")
	want("departments", org.Where{Kind: core.Department, Within: account}, "dep")
	if err := w.DeleteScope(t.Context(), w.admin, acme, c.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, k := range []core.ScopeKind{core.Cluster, core.Department, core.Project} {
		want("after the cluster is deleted", org.Where{Kind: k, Within: account})
	}
}

// A store that fails never looks like the end of a list.
func TestNamesFail(t *testing.T) {
	w := newWorld(t)
	d := w.department(t, w.cluster(t, "one"), "dep")
	for _, name := range []string{"a", "b", "c"} {
		w.project(t, d, name)
	}
	where := org.Where{Kind: core.Project, Within: []org.Scope{{ID: core.AccountScope(acme), Kind: core.Account}}}
	w.db.Reset()
	all, err := listed(t, w.Service, where)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v %v", all, err)
	}
	n := w.db.Reset()
	for at := range n.Gets + n.Pages {
		calls := 0
		faulty := &storetest.Faulty{DB: w.db, Plan: func(storetest.Call) storetest.Fault {
			if calls++; calls == at+1 {
				return storetest.Refuse
			}
			return storetest.NoFault
		}}
		if got, err := listed(t, &org.Service{DB: faulty, Now: w.clock}, where); !errors.Is(err, core.Unavailable) {
			t.Errorf("call %d of %d fails: %v %v", at+1, n.Gets+n.Pages, got, err)
		}
	}
}
