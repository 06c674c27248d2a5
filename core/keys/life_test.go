package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// maintain carries out what is due, as functions/maintain does each minute, and returns how many jobs wait.
func (w *world) maintain(r *keys.Ring) (waiting int) {
	w.t.Helper()
	now := w.clock.Now()
	var jobs []store.Record[due.Job]
	for rec, err := range due.List(w.t.Context(), w.db.DB, now.AddDate(10, 0, 0)) {
		if err != nil {
			w.t.Fatal(err)
		}
		if rec.Value.Kind == due.KeyRotation {
			jobs = append(jobs, rec)
		}
	}
	for _, rec := range jobs {
		if rec.Value.At.After(now) {
			waiting++
			continue
		}
		if err := r.Rotate(w.t.Context(), rec.Value.Tenant, now); err != nil {
			w.t.Fatalf("Rotate: %v", err)
		}
		if err := w.db.Commit(w.t.Context(), due.Done(rec)); err != nil {
			w.t.Fatal(err)
		}
		waiting++ // Rotate scheduled the next
	}
	return waiting
}

// rotated returns the kids of each KeysRotated that a tenant told, in order of time.
func (w *world) rotated(t core.TenantID) (all [][]string) {
	w.t.Helper()
	for it, err := range w.db.DB.List(w.t.Context(), outbox(t)) {
		if err != nil {
			w.t.Fatal(err)
		}
		env, fact, err := events.Decode(it.Body)
		if err != nil || env.Tenant != string(t) {
			w.t.Fatalf("event %s: %v", it.Body, err)
		}
		if f, ok := fact.(events.KeysRotated); ok {
			all = append(all, f.Published)
		}
	}
	return all
}

// outbox is a tenant's events.
func outbox(t core.TenantID) store.Range {
	for _, r := range store.PartitionsOf(t) {
		if r.Key("x").IsOutbox() {
			return r
		}
	}
	panic("no outbox")
}

// A year of rotations, on three instances, under verifiers that trust nothing but a JWKS up to MaxAge old and never fetch
// sooner: whatever is signed verifies with every one of them, from the moment it is signed until it expires.
func TestYearOfRotations(t *testing.T) {
	w := newWorld(t)
	rings := []*keys.Ring{w.ring(), w.ring(), w.ring()}
	w.tenant(rings[0], acme)
	type verifier struct {
		kids []string
		at   time.Time
	}
	verifiers := make([]verifier, 5)
	live := make(map[string]time.Time) // by kid, when the last token that it signed expires
	signers := make(map[string]bool)
	end := w.clock.Now().AddDate(1, 0, 0)
	random := rand.New(rand.NewPCG(1, 2))
	most, waiting := 0, 0
	for w.clock.Now().Before(end) {
		// Hours pass while there is one key, minutes while there are two, and now and then maintain does not run.
		if kids, _ := jwks(t, rings[0], acme); len(kids) == 1 {
			w.clock.Advance(time.Duration(random.IntN(12*60)) * time.Minute)
		} else {
			w.clock.Advance(time.Duration(random.IntN(600)) * time.Second)
		}
		now := w.clock.Now()
		if random.IntN(10) > 0 {
			waiting = w.maintain(rings[random.IntN(3)])
			if waiting != 1 {
				t.Fatalf("%d rotations are scheduled, want 1", waiting)
			}
		}
		for i := range verifiers {
			if v := &verifiers[i]; now.Sub(v.at) >= keys.MaxAge {
				v.kids, _ = jwks(t, rings[random.IntN(3)], acme)
				v.at = now
				most = max(most, len(v.kids))
			}
		}
		kid := signer(t, rings[random.IntN(3)], acme, keys.ES256).ID
		signers[kid] = true
		live[kid] = now.Add(keys.MaxTokenLife)
		for kid, expires := range live {
			if !now.Before(expires) {
				delete(live, kid)
				continue
			}
			for i, v := range verifiers {
				if !slices.Contains(v.kids, kid) {
					t.Fatalf("%v: verifier %d, fetched %v ago, does not know %s, whose token expires %v", now, i, now.Sub(v.at), kid, expires)
				}
			}
			if _, err := rings[random.IntN(3)].Public(t.Context(), acme, kid); err != nil {
				t.Fatalf("%v: own check of a live token: %v", now, err)
			}
		}
	}
	if n := len(signers); n < 12 || n > 14 {
		t.Errorf("%d keys signed in a year, want one each 30 days", n)
	}
	if most != 2 {
		t.Errorf("at most %d keys were published at once, want 2", most)
	}
	for _, published := range w.rotated(acme) {
		if len(published) == 0 {
			t.Error("an event without keys")
		}
	}
}

func TestRotateTimes(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	first := signer(t, r, acme, keys.ES256).ID
	_, before := jwks(t, r, acme)

	w.clock.Advance(keys.DefaultPeriod - keys.PublishBefore - time.Millisecond)
	commits := w.db.commits.Load()
	if err := r.Rotate(t.Context(), acme, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if w.db.commits.Load() != commits {
		t.Error("a rotation with nothing to do wrote something")
	}
	w.clock.Advance(time.Millisecond)
	for range 3 { // once, and twice for nothing
		if err := r.Rotate(t.Context(), acme, w.clock.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.db.commits.Load() - commits; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	kids, after := jwks(t, r, acme) // this instance sees it at once
	if len(kids) != 2 || before.ETag == after.ETag || bytes.Equal(before.Body, after.Body) {
		t.Errorf("published %v", kids)
	}
	if _, again := jwks(t, w.ring(), acme); again.ETag != after.ETag || !bytes.Equal(again.Body, after.Body) {
		t.Error("two instances publish two documents")
	}
	if got := w.rotated(acme); len(got) != 1 || len(got[0]) != 2 {
		t.Errorf("events %v, want one with both keys", got)
	}
	w.clock.Advance(keys.PublishBefore - time.Millisecond)
	if got := signer(t, r, acme, keys.ES256).ID; got != first {
		t.Error("the successor signs before its time")
	}
	w.clock.Advance(time.Millisecond)
	second := signer(t, r, acme, keys.ES256).ID
	if second == first {
		t.Error("the successor does not sign at its time")
	}
	w.clock.Advance(keys.MaxTokenLife + keys.Skew)
	if err := r.Rotate(t.Context(), acme, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Public(t.Context(), acme, first); err != nil {
		t.Errorf("retired while its last token may live: %v", err)
	}
	w.clock.Advance(keys.CacheTTL)
	if _, err := r.Public(t.Context(), acme, first); !errors.Is(err, core.NotFound) {
		t.Errorf("after its last token: %v, want core.NotFound", err)
	}
	w.maintain(r)
	if kids, _ := jwks(t, r, acme); len(kids) != 1 || kids[0] != second {
		t.Errorf("published %v, want only %s", kids, second)
	}
	if items, err := w.db.Get(t.Context(), store.SigningKey(acme, first)); err != nil || items[0].Version != 0 {
		t.Errorf("the retired key is still stored: %v", err)
	}
}

func TestRotateAtOnce(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	w.clock.Advance(keys.DefaultPeriod)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := w.ring().Rotate(t.Context(), acme, w.clock.Now()); err != nil {
				t.Errorf("Rotate: %v", err)
			}
		})
	}
	wg.Wait()
	if kids, _ := jwks(t, w.ring(), acme); len(kids) != 2 {
		t.Errorf("eight instances at once published %v, want one successor", kids)
	}
	if got := w.rotated(acme); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
	if n := w.maintain(w.ring()); n != 2 { // the first one, never taken out here, and the next
		t.Errorf("%d jobs, want 2", n)
	}
}

func TestRotateUnknownTenant(t *testing.T) {
	w := newWorld(t)
	if err := w.ring().Rotate(t.Context(), "nobody", w.clock.Now()); !errors.Is(err, core.NotFound) {
		t.Errorf("%v, want core.NotFound", err)
	}
}

// revoked checks that a kid is refused here at once, and on an instance that knew it within CacheTTL, and that nothing of
// its private key is left.
func (w *world) revoked(r, other *keys.Ring, kid string) {
	w.t.Helper()
	if _, err := r.Public(w.t.Context(), acme, kid); !errors.Is(err, core.NotFound) {
		w.t.Errorf("here: %v, want core.NotFound", err)
	}
	if kids, _ := jwks(w.t, r, acme); slices.Contains(kids, kid) || len(kids) == 0 {
		w.t.Errorf("published %v after revoking %s", kids, kid)
	}
	w.clock.Advance(keys.CacheTTL)
	if _, err := other.Public(w.t.Context(), acme, kid); !errors.Is(err, core.NotFound) {
		w.t.Errorf("elsewhere, CacheTTL later: %v, want core.NotFound", err)
	}
	items, err := w.db.Get(w.t.Context(), store.SigningKey(acme, kid))
	if err != nil || bytes.Contains(items[0].Body, []byte("wrapped")) {
		w.t.Errorf("the private key is still stored: %s, %v", items[0].Body, err)
	}
}

func TestRevokeSigner(t *testing.T) {
	w := newWorld(t)
	r, other := w.ring(), w.ring()
	w.tenant(r, acme)
	bad := signer(t, r, acme, keys.ES256).ID
	signer(t, other, acme, keys.ES256)
	if _, err := other.Public(t.Context(), acme, bad); err != nil {
		t.Fatal(err) // the positive twin
	}
	record := store.Outbox(acme, w.clock.Now(), "beside")
	if err := r.Revoke(t.Context(), acme, bad, store.Put(record, 0, []byte("with the revocation"))); err != nil {
		t.Fatal(err)
	}
	if items, err := w.db.Get(t.Context(), record); err != nil || items[0].Version == 0 {
		t.Errorf("the caller's record is not in the commit: %v", err)
	}
	good := signer(t, r, acme, keys.ES256).ID
	if good == bad {
		t.Fatal("the revoked key signs")
	}
	w.revoked(r, other, bad)
	if got := signer(t, other, acme, keys.ES256).ID; got != good {
		t.Errorf("elsewhere %s signs, here %s", got, good)
	}
	commits := w.db.commits.Load()
	if err := r.Revoke(t.Context(), acme, bad); err != nil || w.db.commits.Load() != commits {
		t.Errorf("revoking again: %v, %d commits", err, w.db.commits.Load()-commits)
	}
	if err := r.Revoke(t.Context(), acme, "no such kid"); !errors.Is(err, core.NotFound) {
		t.Errorf("unknown kid: %v, want core.NotFound", err)
	}
	// Rotation goes on with the key that took over.
	w.clock.Advance(keys.DefaultPeriod)
	w.maintain(r)
	w.clock.Advance(keys.PublishBefore)
	if got := signer(t, r, acme, keys.ES256).ID; got == good || got == bad {
		t.Errorf("after a period %s signs still", got)
	}
}

// pair rotates once, so that the first key signs and a successor waits.
func (w *world) pair(r *keys.Ring) (signs, waits string) {
	w.t.Helper()
	w.tenant(r, acme)
	signs = signer(w.t, r, acme, keys.ES256).ID
	w.clock.Advance(keys.DefaultPeriod - keys.PublishBefore)
	w.maintain(r)
	kids, _ := jwks(w.t, r, acme)
	if waits = kids[0]; waits == signs {
		waits = kids[1]
	}
	return signs, waits
}

func TestRevokeSignerWithSuccessor(t *testing.T) {
	w := newWorld(t)
	r, other := w.ring(), w.ring()
	signs, waits := w.pair(r)
	signer(t, other, acme, keys.ES256)
	if err := r.Revoke(t.Context(), acme, signs); err != nil {
		t.Fatal(err)
	}
	if got := signer(t, r, acme, keys.ES256).ID; got != waits {
		t.Errorf("%s signs, want the successor that verifiers may know already", got)
	}
	w.revoked(r, other, signs)
}

func TestRevokeSuccessor(t *testing.T) {
	w := newWorld(t)
	r, other := w.ring(), w.ring()
	signs, waits := w.pair(r)
	signer(t, other, acme, keys.ES256)
	if err := r.Revoke(t.Context(), acme, waits); err != nil {
		t.Fatal(err)
	}
	w.revoked(r, other, waits)
	if got := signer(t, r, acme, keys.ES256).ID; got != signs {
		t.Errorf("%s signs, want %s until another successor was published long enough", got, signs)
	}
	w.clock.Advance(keys.PublishBefore)
	got := signer(t, r, acme, keys.ES256).ID
	if got == signs || got == waits {
		t.Errorf("%s signs, want another successor", got)
	}
	if _, err := r.Public(t.Context(), acme, signs); err != nil {
		t.Errorf("the key that signed is not published any more: %v", err)
	}
}

func TestRevokePredecessor(t *testing.T) {
	w := newWorld(t)
	r, other := w.ring(), w.ring()
	old, _ := w.pair(r)
	w.clock.Advance(keys.PublishBefore)
	signs := signer(t, r, acme, keys.ES256).ID
	signer(t, other, acme, keys.ES256)
	if err := r.Revoke(t.Context(), acme, old); err != nil {
		t.Fatal(err)
	}
	w.revoked(r, other, old)
	if kids, _ := jwks(t, r, acme); len(kids) != 1 || kids[0] != signs {
		t.Errorf("published %v, want only %s", kids, signs)
	}
}

// A read that began before a revocation ends after it, and must not bring the key back.
func TestRevokeOvertakesRead(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	bad := signer(t, w.ring(), acme, keys.ES256).ID
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprintf("warm=%t", warm), func(t *testing.T) {
			r := w.ring()
			if warm {
				jwks(t, r, acme)
				w.clock.Advance(keys.CacheTTL)
			}
			bad = signer(t, w.ring(), acme, keys.ES256).ID
			hold := make(chan struct{})
			w.db.hold.Store(&hold)
			early := make(chan error, 1)
			go func() { _, err := r.JWKS(t.Context(), acme); early <- err }()
			<-w.db.held // it has read the key, and is slow from now on
			w.db.hold.Store(nil)
			if err := r.Revoke(t.Context(), acme, bad); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // not for ever, if it waits for the slow one
			defer cancel()
			if _, err := r.Public(ctx, acme, bad); !errors.Is(err, core.NotFound) {
				t.Errorf("while the slow read goes on: %v, want core.NotFound", err)
			}
			close(hold)
			if err := <-early; err != nil {
				t.Error(err)
			}
			if _, err := r.Public(t.Context(), acme, bad); !errors.Is(err, core.NotFound) {
				t.Errorf("after the slow read: %v, want core.NotFound", err)
			}
		})
	}
}

// If nobody knows whether the revocation was stored, the ring reads before it trusts the key again.
func TestRevokeUncertain(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	kid := signer(t, r, acme, keys.ES256).ID
	w.db.fail.Store(true)
	if err := r.Revoke(t.Context(), acme, kid); !errors.Is(err, core.Unavailable) {
		t.Fatalf("%v, want core.Unavailable", err)
	}
	if _, err := r.Public(t.Context(), acme, kid); !errors.Is(err, core.Unavailable) {
		t.Errorf("%v, want core.Unavailable", err)
	}
	w.db.fail.Store(false)
	if _, err := r.Public(t.Context(), acme, kid); err != nil {
		t.Errorf("it was not revoked, yet: %v", err)
	}
}
