package session

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

type (
	storetestCall  = storetest.Call
	storetestFault = storetest.Fault
)

const refuseAll = storetest.Refuse

// refresh presents a token and rotates it, as a token endpoint does.
func refresh(t *testing.T, s *Service, id core.TenantID, token string) (Family, string, error) {
	t.Helper()
	p, err := s.Present(t.Context(), id, token)
	if err != nil {
		return Family{}, "", err
	}
	f, next, err := s.Successor(t.Context(), p)
	if err == nil {
		err = s.Rotate(t.Context(), actorOf(id), p)
	}
	if err != nil {
		return Family{}, "", err
	}
	return f, next, nil
}

func TestRotate(t *testing.T) {
	r := newRig(t)
	f, token := r.begin(t, "acme", ada)
	seen := map[string]bool{token: true}
	r.counter.Reset()
	for n := range 5 {
		r.advance(10 * time.Minute)
		var err error
		if f, token, err = refresh(t, r.Service, "acme", token); err != nil {
			t.Fatal(err)
		}
		if seen[token] || f.Generation != uint32(n+2) {
			t.Fatalf("generation %d, token seen before: %v", f.Generation, seen[token])
		}
		seen[token] = true
		// The keys, which are read anew once a minute, are listed: not of this count.
		if c := r.counter.Reset(); c.Gets+c.Commits != 2 || c.Commits != 1 {
			t.Errorf("refresh %d: %+v, want one Get and one Commit", n, c)
		}
	}
}

// Parallel callers with one token get the same successor, on any instance, and one new generation comes of it (OAU-037).
func TestRotateInParallel(t *testing.T) {
	r := newRig(t)
	f, token := r.begin(t, "acme", ada)
	instances := []*Service{r.Service, r.more(), r.more(), r.more()}
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			g, next, err := refresh(t, instances[n%len(instances)], "acme", token)
			if err != nil || g.Generation != 2 {
				t.Errorf("caller %d: generation %d, %v", n, g.Generation, err)
			}
			mu.Lock()
			got[next]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(got) != 1 {
		t.Fatalf("%d successors", len(got))
	}
	for next := range got {
		// Within the grace period a late caller gets it, too; the head goes on from there.
		r.advance(Grace - time.Second)
		if _, late, err := refresh(t, r.Service, "acme", token); err != nil || late != next {
			t.Errorf("late caller: same successor %v, %v", late == next, err)
		}
		if g, _, err := refresh(t, r.Service, "acme", next); err != nil || g.Generation != 3 || g.ID != f.ID {
			t.Errorf("the successor: %+v, %v", g, err)
		}
	}
}

// A token that is used again after its grace is a copy in foreign hands: everything of its family ends, and nothing else
// does (OAU-035).
func TestReuse(t *testing.T) {
	for name, wait := range map[string]func(r *rig, t *testing.T, next string) string{
		"after the grace": func(r *rig, _ *testing.T, next string) string { r.advance(Grace); return next },
		"after its successor was used": func(r *rig, t *testing.T, next string) string {
			_, next, err := refresh(t, r.Service, "acme", next)
			if err != nil {
				t.Fatal(err)
			}
			return next
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			f, token := r.begin(t, "acme", ada)
			sibling, siblingToken := r.begin(t, "acme", ada)
			_, next, err := refresh(t, r.Service, "acme", token)
			if err != nil {
				t.Fatal(err)
			}
			next = wait(r, t, next)
			if _, _, err := refresh(t, r.Service, "acme", token); !errors.Is(err, core.Unauthenticated) {
				t.Errorf("the copy: %v", err)
			}
			if _, _, err := refresh(t, r.Service, "acme", next); !errors.Is(err, core.Unauthenticated) {
				t.Errorf("the head: %v", err)
			}
			if r.family(t, "acme", f) {
				t.Error("the family lives")
			}
			if _, _, err := refresh(t, r.Service, "acme", siblingToken); err != nil || !r.family(t, "acme", sibling) {
				t.Errorf("another family of the same person and client: %v", err)
			}
			if told, noted := r.told(t, string(f.User)), r.noted(t, f.ID); told != 1 || noted != 1 {
				t.Errorf("%d events and %d records, want one each", told, noted)
			}
		})
	}
}

func (r *rig) list(t *testing.T, rng store.Range) (found []store.Item) {
	t.Helper()
	for it, err := range r.DB.List(t.Context(), rng) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, it)
	}
	return found
}

// Every way in which a family ends beside reuse. Each is seen at the next refresh.
func TestFamilyEnds(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *rig, Family, string) error{
		"idle": func(_ *testing.T, r *rig, _ Family, _ string) error { r.advance(time.Hour); return nil },
		"revoked": func(t *testing.T, r *rig, _ Family, token string) error {
			p, err := r.Present(t.Context(), "acme", token)
			if err != nil {
				return err
			}
			return r.Revoke(t.Context(), actorOf("acme"), p)
		},
		"revoked by id": func(t *testing.T, r *rig, f Family, _ string) error {
			return r.RevokeFamily(t.Context(), actorOf("acme"), f.ID, "test")
		},
		"disabled": func(t *testing.T, r *rig, _ Family, _ string) error {
			_, err := r.dir.Disable(t.Context(), actorOf("acme"), "acme", ada)
			return err
		},
		"password": func(t *testing.T, r *rig, _ Family, _ string) error {
			_, err := r.dir.SetPassword(t.Context(), actorOf("acme"), "acme", ada, "another horse battery")
			return err
		},
		"deleted and made again": func(t *testing.T, r *rig, _ Family, _ string) error {
			return r.dir.DeleteUser(t.Context(), actorOf("acme"), "acme", ada)
		},
		"suspended": func(t *testing.T, r *rig, _ Family, _ string) error {
			return r.org.Suspend(t.Context(), actorOf("acme"), "acme")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			f, token := r.begin(t, "acme", ada)
			_, token, err := refresh(t, r.Service, "acme", token)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(t, r, f, token); err != nil {
				t.Fatal(err)
			}
			_, _, err = refresh(t, r.Service, "acme", token)
			if !errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.NotFound) {
				t.Errorf("a refresh: %v", err)
			}
			if _, err := r.Alive(t.Context(), "acme", f.ID, ada); name != "idle" && !errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.NotFound) {
				t.Errorf("its access tokens: %v", err)
			}
		})
	}
}

// Refreshing for ever does not work: the sign-in ends after its absolute lifetime (OAU-039).
func TestFamilyAbsolute(t *testing.T) {
	r := newRig(t)
	_, token := r.begin(t, "acme", ada)
	var err error
	for n := range 100 {
		r.advance(30 * time.Minute)
		if _, token, err = refresh(t, r.Service, "acme", token); err != nil {
			if n != 23 || !errors.Is(err, core.Unauthenticated) {
				t.Fatalf("after %d half hours: %v", n+1, err)
			}
			return
		}
	}
	t.Fatal("never ended")
}

// A token of one tenant, or of nobody, is refused before anything is read.
func TestForeignToken(t *testing.T) {
	r := newRig(t)
	f, token := r.begin(t, "acme", ada)
	if _, _, err := refresh(t, r.Service, "acme", token); err != nil {
		t.Fatal(err)
	}
	n := refreshName{generation: 2, family: f.ID, email: bob}
	forged := n.token(make([]byte, refreshMAC))
	if _, err := r.Ring.JWKS(t.Context(), "other"); err != nil { // warm
		t.Fatal(err)
	}
	r.counter.Reset()
	for name, try := range map[string]struct {
		id    core.TenantID
		token string
	}{
		"another tenant's": {"other", token}, "forged": {"acme", forged}, "truncated": {"acme", token[:len(token)-1]},
		"extended": {"acme", token + "A"}, "none": {"acme", ""}, "junk": {"acme", "fpr_junk"},
	} {
		if _, err := r.Present(t.Context(), try.id, try.token); !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := r.counter.Reset(); c.RoundTrips() != 0 {
		t.Errorf("junk was looked up: %+v", c)
	}
}

// A refresh whose answer was lost is tried again, and goes on where it was.
func TestLostAnswer(t *testing.T) {
	r := newRig(t)
	_, token := r.begin(t, "acme", ada)
	r.faulty.Plan = storetest.FaultOnce("Commit", storetest.LoseAnswer)
	if _, _, err := refresh(t, r.Service, "acme", token); !errors.Is(err, core.Unavailable) {
		t.Fatalf("a lost answer: %v", err)
	}
	f, next, err := refresh(t, r.Service, "acme", token)
	if err != nil || f.Generation != 2 {
		t.Fatalf("the second try: generation %d, %v", f.Generation, err)
	}
	if f, _, err = refresh(t, r.Service, "acme", next); err != nil || f.Generation != 3 {
		t.Fatalf("from there on: generation %d, %v", f.Generation, err)
	}
}
