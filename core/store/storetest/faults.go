package storetest

import (
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

var faults = []promise{
	{"Nothing is half done after a fault and the Version tells a lost answer from a commit that never happened", func(w *world) {
		happened := map[Fault]int{}
		for i := range 60 {
			fault := []Fault{NoFault, Refuse, LoseAnswer, Cancel}[i%4]
			if w.faultyCommit(i, fault) {
				happened[fault]++
			}
		}
		if happened[NoFault] != 15 || happened[Refuse] != 0 || happened[LoseAnswer] != 15 {
			w.Errorf("of 15 commits each happened: %v", happened)
		}
	}},
	{"A failed List is an error through a fault too", func(w *world) {
		w.fill(10)
		for _, fault := range []Fault{Refuse, LoseAnswer} {
			db := &Faulty{DB: w.db, Plan: FaultOnce("List", fault)}
			for round, wantErrs := range []int{1, 0} {
				seen, errs := 0, 0
				for _, err := range db.List(w.Context(), store.Users(w.tenant)) {
					if err != nil {
						w.wantError("list", err, core.Unavailable)
						errs++
						continue
					}
					seen++
				}
				if errs != wantErrs || round == 1 && seen != 10 {
					w.Errorf("%v, round %d: %d items, %d errors", fault, round, seen, errs)
				}
			}
		}
	}},
}

// faultyCommit makes a commit of several operations through a fault, and shows by its Version, as a writer would, whether
// it happened.
func (w *world) faultyCommit(n int, fault Fault) (happened bool) {
	w.Helper()
	a, b, c := w.user(fmt.Sprint("a", n)), store.Group(newTenant(), "b"), w.user(fmt.Sprint("c", n))
	va, vc := w.put(a, "old"), w.put(c, "old")
	commit := func(db store.DB, marker store.Key) error {
		return db.Commit(w.Context(),
			store.Put(a, va, []byte("new")),
			store.Put(b, 0, []byte("new")),
			store.Delete(c, vc),
			store.Put(marker, 0, nil))
	}
	first, second := w.user("marker "+core.NewID()), w.user("marker "+core.NewID())
	err := commit(&Faulty{DB: w.db, Plan: FaultOnce("Commit", fault)}, first)
	if err != nil && !errors.Is(err, core.Unavailable) {
		w.Fatalf("%v: %v", fault, err)
	}
	if err == nil && (fault == Refuse || fault == LoseAnswer) {
		w.Fatalf("%v: no error", fault)
	}
	if fault != Cancel { // the store is done with it, one way or the other
		happened = w.whole(a, b, c, first, va, vc)
		if err == nil && !happened {
			w.Errorf("%v: acknowledged, and did not happen", fault)
		}
	}
	// A second try with the same expectations settles what may still be under way.
	switch again := commit(w.db, second); {
	case again == nil:
		if err == nil || happened {
			w.Errorf("%v: happened twice", fault)
		}
		w.wantAbsent(first)
		w.whole(a, b, c, second, va, vc)
		return false
	case errors.Is(again, core.Conflict):
		w.wantAbsent(second)
		if !w.whole(a, b, c, first, va, vc) {
			w.Errorf("%v: the second try met a conflict, and the first did not happen", fault)
		}
		return true
	default:
		w.Fatalf("%v: second try: %v", fault, again)
		return false
	}
}

// whole checks that the commit with that marker happened wholly or not at all, and says which.
func (w *world) whole(a, b, c, marker store.Key, va, vc store.Version) bool {
	w.Helper()
	items := w.getAll(a, b, c, marker)
	v := items[3].Version
	if v == 0 {
		if items[0].Version != va || items[1].Version != 0 || items[2].Version != vc || string(items[0].Body) != "old" {
			w.Errorf("half done: no marker, but %+v", items)
		}
		return false
	}
	if items[0].Version != v || items[1].Version != v || items[2].Version != 0 || string(items[0].Body) != "new" {
		w.Errorf("half done: marker with version %d, but %+v", v, items)
	}
	return true
}
