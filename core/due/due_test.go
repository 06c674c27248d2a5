package due_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func schedule(t *testing.T, db store.DB, j due.Job) error {
	t.Helper()
	op, err := due.Op(j)
	if err != nil {
		return err
	}
	return db.Commit(t.Context(), op)
}

func list(t *testing.T, db store.DB, before time.Time) []store.Record[due.Job] {
	t.Helper()
	var out []store.Record[due.Job]
	for rec, err := range due.List(t.Context(), db, before) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out
}

func TestListIsWhatFallsDueBefore(t *testing.T) {
	db := open(t)
	tenants := []core.TenantID{"acme", "bold", "cosy", "dull", "east", "fern"} // over all the shards
	for i, tenant := range tenants {
		for m := range 3 {
			if err := schedule(t, db, due.Job{Kind: due.Seal, Tenant: tenant, At: noon.Add(time.Duration(m)*time.Minute + time.Duration(i))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := list(t, db, noon); len(got) != 0 {
		t.Errorf("due before noon: %v, want none: the bound is not in it", got)
	}
	got := list(t, db, noon.Add(2*time.Minute))
	seen := map[core.TenantID]int{}
	for _, rec := range got {
		seen[rec.Value.Tenant]++
		if !rec.Value.At.Before(noon.Add(2 * time.Minute)) {
			t.Errorf("%s is not due", rec.Value)
		}
	}
	for _, tenant := range tenants {
		if seen[tenant] != 2 {
			t.Errorf("tenant %s has %d jobs due, want 2", tenant, seen[tenant])
		}
	}
}

func TestOp(t *testing.T) {
	db := open(t)
	j := due.Job{Kind: due.RuleExpiry, Tenant: "acme", Ref: "7", At: noon.Add(1500 * time.Microsecond)}
	if err := schedule(t, db, j); err != nil {
		t.Fatal(err)
	}
	if err := schedule(t, db, j); !errors.Is(err, core.Conflict) {
		t.Errorf("the same job again: %v, want Conflict", err)
	}
	j.Ref = "8"
	if err := schedule(t, db, j); err != nil {
		t.Errorf("another reference at the same time: %v", err)
	}
	got := list(t, db, noon.Add(time.Hour))
	if len(got) != 2 || !got[0].Value.At.Equal(noon.Add(time.Millisecond)) || got[0].Value.Ref != "7" {
		t.Errorf("got %v", got)
	}
	for _, bad := range []due.Job{{}, {Kind: due.Seal, Tenant: "acme"}, {Kind: due.Seal, At: noon}, {Tenant: "acme", At: noon}} {
		if _, err := due.Op(bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%+v: %v, want Invalid", bad, err)
		}
	}
}

// Of two runs that carried out the same job, one takes it out, or schedules it anew, and the job neither dies nor doubles.
func TestDoneAndAgain(t *testing.T) {
	db := open(t)
	if err := schedule(t, db, due.Job{Kind: due.Seal, Tenant: "acme", At: noon}); err != nil {
		t.Fatal(err)
	}
	one, two := list(t, db, noon.Add(time.Second))[0], list(t, db, noon.Add(time.Second))[0]
	again, err := due.Again(one, noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), again...); err != nil {
		t.Fatal(err)
	}
	again, err = due.Again(two, noon.Add(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(t.Context(), again...); !errors.Is(err, core.Conflict) {
		t.Errorf("the slower run: %v, want Conflict", err)
	}
	if err := db.Commit(t.Context(), due.Done(two)); !errors.Is(err, core.Conflict) {
		t.Errorf("done by the slower run: %v, want Conflict", err)
	}
	left := list(t, db, noon.Add(time.Hour))
	if !slices.EqualFunc(left, []time.Time{noon.Add(time.Minute)}, func(r store.Record[due.Job], at time.Time) bool { return r.Value.At.Equal(at) }) {
		t.Fatalf("left %v, want one job a minute later", left)
	}
	if same, err := due.Again(left[0], left[0].Value.At); err != nil || db.Commit(t.Context(), same...) != nil {
		t.Errorf("again at the same time: %v", err)
	}
	if err := db.Commit(t.Context(), due.Done(list(t, db, noon.Add(time.Hour))[0])); err != nil {
		t.Error(err)
	}
	if left := list(t, db, noon.Add(time.Hour)); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}
