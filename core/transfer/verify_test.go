package transfer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/transfer"
)

// forgetful is a store that says of some writes of a kind that they are done, and does not do them.
type forgetful struct {
	store.DB
	kind  string
	times int
}

func (f *forgetful) Commit(ctx context.Context, ops ...store.Op) error {
	var kept []store.Op
	lost := false
	for _, op := range ops {
		if f.times > 0 && op.Key.Kind() == f.kind {
			lost = true
			continue
		}
		kept = append(kept, op)
	}
	if lost {
		f.times--
	}
	return f.DB.Commit(ctx, kept...)
}

// What did not arrive is written again, and a copy is not called whole before everything was found in its place.
func TestVerifies(t *testing.T) {
	for _, times := range []int{1, 2, 3, 100} {
		for _, kind := range []string{"user", "due"} {
			c := newClock()
			from := newSite(t, newBolt(t, c), c, master(t, 1))
			from.fill()
			to := newSite(t, newBolt(t, c), c, from.keys)
			k := to.copier(from.db, transfer.Wrappers{})
			k.To = &forgetful{to.db, kind, times}
			_, err := k.Tenant(t.Context(), acme)
			if times == 100 {
				if !errors.Is(err, core.Conflict) {
					t.Errorf("%s never arrives: %v", kind, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			clusters := clustersOf(t, from.db)
			same(t, kind, dump(t, from.db, acme, clusters...), dump(t, to.db, acme, clusters...), false)
		}
	}
}

// An expiry that moved is a difference, and what is about to expire is left behind.
func TestExpiries(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	broken := to.copier(from.db, transfer.Wrappers{})
	broken.To = &storetest.Faulty{DB: to.db, Plan: func(call storetest.Call) storetest.Fault {
		if len(call.Keys) == 2 && call.Keys[0] == store.Meta(acme) && call.Method == "Commit" {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}
	if _, err := broken.Tenant(t.Context(), acme); !errors.Is(err, core.Unavailable) {
		t.Fatal(err)
	}
	from.put(store.Code(acme, "empty"), nil, c.Now().Add(2*time.Hour))
	from.put(store.Code(acme, "soon"), nil, c.Now().Add(3*time.Second))
	r, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme)
	if err != nil || r.Put != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	items, err := to.db.Get(t.Context(), store.Code(acme, "empty"), store.Code(acme, "soon"))
	if err != nil || !items[0].Expires.Equal(c.Now().Add(2*time.Hour)) || items[1].Version != 0 {
		t.Errorf("%+v, %v", items, err)
	}
}

// A run that was overtaken writes nothing more, however far the other came.
func TestOvertaken(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	var before map[string]string
	overtake := func() { // another run claims the tenant, and comes no further
		commits := 0
		other := to.copier(from.db, transfer.Wrappers{})
		other.To = &storetest.Faulty{DB: to.db, Plan: func(call storetest.Call) storetest.Fault {
			if call.Method == "Commit" {
				commits++
			}
			if commits > 1 {
				return storetest.Refuse
			}
			return storetest.NoFault
		}}
		if _, err := other.Tenant(t.Context(), acme); !errors.Is(err, core.Unavailable) {
			t.Errorf("the other: %v", err)
		}
		before = dump(t, to.db, acme, clustersOf(t, from.db)...)
	}
	slow := to.copier(&busy{from.db, "used#", 1, overtake}, transfer.Wrappers{})
	if _, err := slow.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) || !strings.Contains(err.Error(), "took over") {
		t.Errorf("error %v", err)
	}
	same(t, "after it was overtaken", before, dump(t, to.db, acme, clustersOf(t, from.db)...), false)
}

// A source that changes behind the reader's back is noticed even where nothing was left to write: the run before this one had
// copied everything, and was interrupted at the last commit.
func TestNoticesBehindTheReader(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	broken := to.copier(from.db, transfer.Wrappers{})
	broken.To = &storetest.Faulty{DB: to.db, Plan: func(call storetest.Call) storetest.Fault {
		if call.Method == "Commit" && call.Keys[0] == store.Meta(acme) {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}
	if _, err := broken.Tenant(t.Context(), acme); !errors.Is(err, core.Unavailable) {
		t.Fatal(err)
	}
	sign := func() { from.put(store.Session(acme, "late"), []byte("{}"), c.Now().Add(12*time.Hour)) }
	r, err := to.copier(&busy{from.db, "user#", 1, sign}, transfer.Wrappers{}).Tenant(t.Context(), acme) // users are read after sessions
	if err != nil || r.Put != 1 || r.Rounds != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	clusters := clustersOf(t, from.db)
	same(t, "copied", dump(t, from.db, acme, clusters...), dump(t, to.db, acme, clusters...), false)
}
