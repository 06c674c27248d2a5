package transfer_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/transfer"
)

// stopAfter runs something against a store that refuses all commits after some, and wants it to end so.
func stopAfter(t *testing.T, commits int, k *transfer.Copier, run func() error) {
	t.Helper()
	real := k.To
	defer func() { k.To = real }()
	n := 0
	k.To = &storetest.Faulty{DB: real, Plan: func(call storetest.Call) storetest.Fault {
		if call.Method == "Commit" {
			n++
		}
		if n > commits {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}
	if err := run(); !errors.Is(err, core.Unavailable) {
		t.Fatalf("error %v", err)
	}
}

// halfCopy leaves an unfinished copy, of which everything but the jobs has arrived, or less.
func halfCopy(t *testing.T, commits int, k *transfer.Copier) {
	t.Helper()
	stopAfter(t, commits, k, func() error {
		_, err := k.Tenant(t.Context(), acme)
		return err
	})
}

func eraseAcme(t *testing.T, s *site) {
	t.Helper()
	if err := errors.Join(s.Org.Erase(t.Context(), core.SystemActor(core.SystemTenant), acme), s.Org.EraseData(t.Context(), acme)); err != nil {
		t.Fatal(err)
	}
}

// What is half copied when its tenant is erased at the source goes, with everything that it left, and the id stays taken. All
// gets past it. Interrupted, it goes on; one of another source stays unless it is restarted.
func TestErasedWhileHalfCopied(t *testing.T) {
	for _, commits := range []int{1, 2, 6, 20} {
		c := newClock()
		from := newSite(t, newBolt(t, c), c, master(t, 1))
		from.fill()
		clusters := clustersOf(t, from.db)
		to := newSite(t, newBolt(t, c), c, from.keys)
		k := to.copier(from.db, transfer.Wrappers{})
		halfCopy(t, commits, k)
		eraseAcme(t, from)

		before := dump(t, to.db, acme, clusters...)
		elsewhere := *k
		elsewhere.FromName = "elsewhere"
		if _, err := elsewhere.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) {
			t.Fatalf("of another source: %v", err)
		}
		dry := *k
		dry.DryRun = true
		if r, err := dry.Tenant(t.Context(), acme); err != nil || !r.Erased || r.Deleted != len(before)-1 {
			t.Errorf("%d items, dry: %+v, %v", len(before), r, err)
		}
		same(t, "untouched", before, dump(t, to.db, acme, clusters...), false)

		if len(before) > 100 { // more than one commit takes away
			stopAfter(t, 3, k, func() error {
				_, err := k.Tenant(t.Context(), acme)
				return err
			})
		}
		if commits == 2 {
			k.FromName, k.Restart = "elsewhere", true
		}
		if _, err := k.All(t.Context()); err != nil {
			t.Fatalf("after %d commits: %v", commits, err)
		}
		entry := store.TenantEntry(acme).String()
		same(t, "in the end", map[string]string{entry: dump(t, from.db, acme)[entry]}, dump(t, to.db, acme, clusters...), false)
		if r, err := k.Tenant(t.Context(), acme); err != nil || !r.Already {
			t.Errorf("again: %+v, %v", r, err)
		}
	}
}

// A tenant of the same id that is not half copied from the source, but another one's, is not taken away.
func TestErasedAndAnotherIsHalfCopied(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	k := to.copier(from.db, transfer.Wrappers{})
	halfCopy(t, 4, k)
	from.put(store.TenantEntry(acme), []byte(`{"id":"acme","name":"","state":"erased","createdAt":"2001-01-01T00:00:00Z"}`), time.Time{})
	if items, err := from.db.Get(t.Context(), store.Meta(acme)); err != nil || from.db.Commit(t.Context(), store.Delete(store.Meta(acme), items[0].Version)) != nil {
		t.Fatal(err)
	}
	clusters := clustersOf(t, from.db)
	before := dump(t, to.db, acme, clusters...)
	if _, err := k.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) {
		t.Errorf("error %v", err)
	}
	same(t, "untouched", before, dump(t, to.db, acme, clusters...), false)
}

func TestAbandon(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	clusters := clustersOf(t, from.db)
	to := newSite(t, newBolt(t, c), c, from.keys)
	k := to.copier(from.db, transfer.Wrappers{})
	if _, err := k.Tenant(t.Context(), "globex"); err != nil {
		t.Fatal(err)
	}
	globex := dump(t, to.db, "globex")
	giveUp := &transfer.Copier{To: to.db, Now: c.Now}
	for _, whole := range []core.TenantID{acme, "globex"} { // absent, and whole
		if _, err := giveUp.Abandon(t.Context(), whole); !errors.Is(err, core.NotFound) {
			t.Errorf("%s: %v", whole, err)
		}
	}
	halfCopy(t, 20, k)
	before := dump(t, to.db, acme, clusters...)
	dry := &transfer.Copier{To: to.db, Now: c.Now, DryRun: true}
	if r, err := dry.Abandon(t.Context(), acme); err != nil || r.Deleted != len(before)-1 {
		t.Errorf("%d items, dry: %+v, %v", len(before), r, err)
	}
	same(t, "dry", before, dump(t, to.db, acme, clusters...), false)
	stopAfter(t, 2, giveUp, func() error {
		_, err := giveUp.Abandon(t.Context(), acme)
		return err
	})
	if _, err := giveUp.Abandon(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	same(t, "abandoned", map[string]string{}, dump(t, to.db, acme, clusters...), false)
	same(t, "another tenant", globex, dump(t, to.db, "globex"), false)
	if _, err := to.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "New"); err != nil {
		t.Errorf("the id is not free: %v", err)
	}
}

// The id of a tenant that was erased stays its own, although a copy of it that came back was given up or replaced.
func TestAbandonAfterErasing(t *testing.T) {
	c := newClock()
	home := newSite(t, newBolt(t, c), c, master(t, 1))
	home.fill()
	away := newSite(t, newBolt(t, c), c, home.keys)
	if _, err := away.copier(home.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	eraseAcme(t, home)
	want := dump(t, home.db, acme)
	k := home.copier(away.db, transfer.Wrappers{})
	halfCopy(t, 2, k)
	halfCopy(t, 3, k) // the second run remembers as well

	other := newSite(t, newBolt(t, c), c, home.keys)
	if _, err := other.Org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Hour)
	if _, err := other.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Another"); err != nil {
		t.Fatal(err)
	}
	thief := home.copier(other.db, transfer.Wrappers{})
	thief.FromName, thief.Restart = "elsewhere", true
	if _, err := thief.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) || !strings.Contains(err.Error(), "erased another") {
		t.Errorf("another tenant takes the id: %v", err)
	}
	if _, err := k.Abandon(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	for key, body := range dump(t, home.db, acme) {
		if strings.Contains(key, "/due/") {
			continue
		}
		if want[key] != body {
			t.Errorf("%s is %s, was %s", key, body, want[key])
		}
	}
	if _, err := home.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "New"); !errors.Is(err, core.Exists) {
		t.Errorf("the id was given away: %v", err)
	}
	if _, err := k.Tenant(t.Context(), acme); err != nil {
		t.Errorf("the true one may still come back: %v", err)
	}
}

// A copy under way ends when it is given up.
func TestAbandonUnderWay(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	k := to.copier(&busy{from.db, "due#", 1, func() {
		if _, err := (&transfer.Copier{To: to.db, Now: c.Now}).Abandon(t.Context(), acme); err != nil {
			t.Error(err)
		}
	}}, transfer.Wrappers{})
	if _, err := k.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) {
		t.Errorf("error %v", err)
	}
	same(t, "abandoned", map[string]string{}, dump(t, to.db, acme, clustersOf(t, from.db)...), false)
}

// What changes of the tenant itself while the jobs are copied, after all else was found the same, is copied as well.
func TestMetaChangesWhileJobsAreCopied(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	suspend := func() {
		if err := from.Org.Suspend(t.Context(), core.SystemActor(core.SystemTenant), acme); err != nil {
			t.Error(err)
		}
	}
	if _, err := to.copier(&busy{from.db, "due#", 1, suspend}, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	clusters := clustersOf(t, from.db)
	same(t, "copied", dump(t, from.db, acme, clusters...), dump(t, to.db, acme, clusters...), false)
	if tenant, err := to.Org.Tenant(t.Context(), acme); err != nil || tenant.Value.State != org.Suspended {
		t.Errorf("it arrived %s, %v", tenant.Value.State, err)
	}
}
