package audit_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

const acme core.TenantID = "acme"

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

var ada = core.Actor{Tenant: acme, Subject: core.UserSubject("ada@example.com"), UserID: "u1", Request: "r1", Address: "203.0.113.7"}

// write commits one record of that time.
func write(t *testing.T, db store.DB, at time.Time, id string) {
	t.Helper()
	op, err := audit.Op(ada, at, audit.Record{Action: audit.Create, EntityType: audit.EntityProject, EntityID: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
}

func seal(t *testing.T, db store.DB) audit.Head {
	t.Helper()
	head, _, err := audit.Seal(t.Context(), db, acme, noon)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func verify(t *testing.T, db store.DB) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), db, acme)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ids(t *testing.T, db store.DB, from, before time.Time, newest bool) string {
	t.Helper()
	var out []string
	for r, err := range audit.List(t.Context(), db, acme, from, before, newest) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.EntityID)
	}
	return strings.Join(out, " ")
}

func TestOpFillsInTheRest(t *testing.T) {
	db := open(t)
	write(t, db, noon.Add(1234567), "p1")
	for r, err := range audit.List(t.Context(), db, acme, time.Time{}, time.Time{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		if r.ID == "" || !r.At.Equal(noon.Add(time.Millisecond)) || r.Tenant != acme || r.Subject != ada.Subject || r.UserID != "u1" ||
			r.Request != "r1" || r.Address != "203.0.113.7" || r.Result != audit.Succeeded || r.Home != "" {
			t.Errorf("got %+v", r)
		}
	}
	if _, err := audit.Op(ada, noon, audit.Record{}); !errors.Is(err, core.Invalid) {
		t.Errorf("a record of nothing: %v, want Invalid", err)
	}
}

// Whatever somebody sent who was refused, the refusal is recorded, and as text.
func TestOpBoundsWhatWasSent(t *testing.T) {
	db := open(t)
	actor := ada
	actor.Via = core.Via{Method: "DELETE", Path: "/groups/\xff" + strings.Repeat("ä", 5000), Status: 204}
	op, err := audit.Op(actor, noon, audit.Record{
		Action: audit.Delete, EntityType: audit.EntityGroup, EntityID: "\xff" + strings.Repeat("ä", 5000), Result: audit.Failed, Reason: "no", Status: 403,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	for r, err := range audit.List(t.Context(), db, acme, time.Time{}, time.Time{}, false) {
		if err != nil || !utf8.ValidString(r.Path+r.EntityID) || len(r.Path) > 1024 || len(r.EntityID) > 512 || len(r.Path) < 1000 || r.Status != 403 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// An operator's act in a tenant says where the operator is from.
func TestOperatorsHome(t *testing.T) {
	db := open(t)
	operator := core.Actor{Tenant: core.SystemTenant, Subject: core.UserSubject("op@example.com")}
	op, err := audit.Op(operator, noon, audit.Record{Tenant: acme, Action: audit.Update, EntityType: audit.EntityTenant, EntityID: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	for r := range audit.List(t.Context(), db, acme, time.Time{}, time.Time{}, false) {
		if r.Home != core.SystemTenant || r.Tenant != acme {
			t.Errorf("got %+v", r)
		}
	}
}

func TestListMergesSealedAndNew(t *testing.T) {
	db := open(t)
	at := func(m int) time.Time { return noon.Add(time.Duration(m) * time.Minute) }
	write(t, db, at(1), "a")
	write(t, db, at(3), "c")
	seal(t, db)
	write(t, db, at(2), "b") // late
	write(t, db, at(4), "d")
	for _, tc := range []struct {
		from, before time.Time
		newest       bool
		want         string
	}{
		{want: "a b c d"},
		{newest: true, want: "d c b a"},
		{from: at(2), want: "b c d"},
		{before: at(3), want: "a b"},
		{from: at(2), before: at(4), newest: true, want: "c b"},
	} {
		if got := ids(t, db, tc.from, tc.before, tc.newest); got != tc.want {
			t.Errorf("from %v before %v newest first %t: %q, want %q", tc.from, tc.before, tc.newest, got, tc.want)
		}
	}
}

func TestSealTakesLateRecords(t *testing.T) {
	db := open(t)
	write(t, db, noon, "on time")
	if h := seal(t, db); h.N != 1 {
		t.Fatalf("head %+v, want link 1", h)
	}
	if h := seal(t, db); h.N != 1 {
		t.Errorf("sealing nothing made a link: %+v", h)
	}
	write(t, db, noon.Add(-24*time.Hour), "a day late")
	if r := verify(t, db); r.Unsealed != 1 || r.Sealed != 1 || r.Fault != nil {
		t.Errorf("before the seal: %+v", r)
	}
	seal(t, db)
	if r := verify(t, db); r.Unsealed != 0 || r.Sealed != 2 || r.Head.N != 2 || r.Fault != nil {
		t.Errorf("after the seal: %+v", r)
	}
}

func TestSealMoreThanOneLink(t *testing.T) {
	db := open(t)
	for i := range 120 {
		write(t, db, noon, fmt.Sprint(i))
	}
	if h := seal(t, db); h.N != 3 {
		t.Errorf("head %+v, want 3 links", h)
	}
	if r := verify(t, db); r.Sealed != 120 || r.Unsealed != 0 || r.Fault != nil {
		t.Errorf("%+v", r)
	}
}

// Many sealers at once, while records are written, make one chain that names each record once.
func TestSealersCannotFork(t *testing.T) {
	db := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var sealers, writers sync.WaitGroup
	for range 4 {
		sealers.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := audit.Seal(ctx, db, acme, noon); err != nil && !errors.Is(err, core.Conflict) && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				write(t, db, noon.Add(time.Duration(w-i)*time.Hour), fmt.Sprintf("%d-%d", w, i))
			}
		})
	}
	writers.Wait()
	stop()
	sealers.Wait()
	seal(t, db)
	if r := verify(t, db); r.Sealed != 100 || r.Unsealed != 0 || r.Fault != nil {
		t.Errorf("%+v", r)
	}
}

// A seal whose answer was lost is found when it is tried again, and nothing is sealed twice.
func TestSealLostAnswer(t *testing.T) {
	db := open(t)
	write(t, db, noon, "a")
	lossy := &storetest.Faulty{DB: db, Plan: storetest.FaultOnce("Commit", storetest.LoseAnswer)}
	if _, _, err := audit.Seal(t.Context(), lossy, acme, noon); !errors.Is(err, core.Unavailable) {
		t.Fatalf("got %v, want Unavailable", err)
	}
	seal(t, db)
	if r := verify(t, db); r.Sealed != 1 || r.Head.N != 1 || r.Fault != nil {
		t.Errorf("%+v", r)
	}
}

// Whatever is done to a sealed record or to a link is found, and the fault names it.
func TestVerifyFinds(t *testing.T) {
	ctx := context.Background()
	item := func(t *testing.T, db store.DB, r store.Range, n int) store.Item {
		t.Helper()
		i := 0
		for it, err := range db.List(ctx, r) {
			if err != nil {
				t.Fatal(err)
			}
			if i == n {
				return it
			}
			i++
		}
		t.Fatalf("no item %d", n)
		return store.Item{}
	}
	commit := func(t *testing.T, db store.DB, ops ...store.Op) {
		t.Helper()
		if err := db.Commit(ctx, ops...); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(it store.Item, old, new string) store.Op {
		body := strings.Replace(string(it.Body), old, new, 1)
		if body == string(it.Body) {
			t.Fatalf("%q is not in %s", old, it.Body)
		}
		return store.Put(it.Key, it.Version, []byte(body))
	}
	logged := store.Audits(acme, time.Time{})
	chain := store.AuditSeals(acme)
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, db store.DB)
		link uint64
		rec  bool
		what string
	}{
		{"nothing", func(*testing.T, store.DB) {}, 0, false, ""},
		{"a record's byte", func(t *testing.T, db store.DB) {
			commit(t, db, flip(item(t, db, logged, 1), "project", "projecu"))
		}, 1, true, "changed"},
		{"a record removed", func(t *testing.T, db store.DB) {
			it := item(t, db, logged, 3)
			commit(t, db, store.Delete(it.Key, it.Version))
		}, 2, true, "removed"},
		{"a record added", func(t *testing.T, db store.DB) {
			it := item(t, db, logged, 0)
			commit(t, db, store.Put(store.AuditSort(acme, it.Key.Sort()+"x"), 0, it.Body))
		}, 0, true, "added"},
		{"a record replaced by another", func(t *testing.T, db store.DB) {
			a, b := item(t, db, logged, 0), item(t, db, logged, 1)
			commit(t, db, store.Put(a.Key, a.Version, b.Body))
		}, 1, true, "changed"},
		{"a link's time", func(t *testing.T, db store.DB) {
			commit(t, db, flip(item(t, db, chain, 0), "12:00:00", "12:00:01"))
		}, 1, false, "changed"},
		{"the last link's time", func(t *testing.T, db store.DB) {
			commit(t, db, flip(item(t, db, chain, 2), "12:00:00", "12:00:01"))
		}, 3, false, "changed"},
		{"a link's white space", func(t *testing.T, db store.DB) {
			commit(t, db, flip(item(t, db, chain, 1), `{"n"`, `{ "n"`))
		}, 2, false, "changed"},
		{"a link that is no JSON", func(t *testing.T, db store.DB) {
			it := item(t, db, chain, 1)
			commit(t, db, store.Put(it.Key, it.Version, []byte("{")))
		}, 2, false, "changed"},
		{"a link removed", func(t *testing.T, db store.DB) {
			it := item(t, db, chain, 1)
			commit(t, db, store.Delete(it.Key, it.Version))
		}, 2, false, "removed"},
		{"the last link removed", func(t *testing.T, db store.DB) {
			it := item(t, db, chain, 2)
			commit(t, db, store.Delete(it.Key, it.Version))
		}, 0, true, "added"}, // its records are in the log, and no link names them
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := open(t)
			for i := range 6 {
				write(t, db, noon.Add(time.Duration(i)*time.Second), fmt.Sprint(i))
				if i%2 == 1 {
					seal(t, db)
				}
			}
			tc.do(t, db)
			r := verify(t, db)
			switch {
			case tc.what == "" && r.Fault != nil:
				t.Errorf("fault %v, want none", r.Fault)
			case tc.what == "":
			case r.Fault == nil:
				t.Error("no fault found")
			case r.Fault.Link != tc.link || (r.Fault.Record != "") != tc.rec || r.Fault.What != tc.what:
				t.Errorf("fault %+v, want link %d, a record: %t, %s", r.Fault, tc.link, tc.rec, tc.what)
			}
		})
	}
}

// Another tenant's chain does not pass as one's own.
func TestChainIsTheTenants(t *testing.T) {
	db := open(t)
	write(t, db, noon, "a")
	seal(t, db)
	for it, err := range db.List(t.Context(), store.AuditSeals(acme)) {
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Commit(t.Context(), store.Put(store.AuditSeal("other", 1), 0, it.Body)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := audit.Verify(t.Context(), db, "other")
	if err != nil || r.Fault == nil || r.Fault.What != "changed" {
		t.Errorf("%+v, %v", r, err)
	}
}
