package sync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
)

// nowhere is a queue that keeps nothing.
type nowhere struct{}

func (nowhere) Send(context.Context, ...sync.Message) error { return nil }

// giveUp lets the cluster fail until it is given up.
func (s *site) giveUp() {
	s.t.Helper()
	for range 40 {
		must(s.t, s.sync.Again(s.t.Context(), nowhere{}, s.message(), core.Unavailable))
	}
}

func (s *site) dead() (all []sync.DeadLetter) {
	s.t.Helper()
	for d, err := range s.sync.DeadLetters(s.t.Context(), acme) {
		must(s.t, err)
		all = append(all, d)
	}
	return all
}

// between is a store in which something happens after the first read of a cluster's dead letter.
type between struct {
	store.DB
	work *func()
}

func (b between) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if work := *b.work; work != nil && slices.ContainsFunc(keys, store.Key.IsDeadLetter) {
		*b.work = nil
		work()
	}
	return b.DB.Get(ctx, keys...)
}

// A run that goes well takes the dead letter away, unless the cluster has failed again since that run's end.
func TestReviveAfterAnotherFailure(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := newSite(t)
		s.giveUp()
		if len(s.dead()) != 1 {
			t.Fatal("it is not given up")
		}
		work := func() {
			if fails {
				must(t, s.sync.Again(t.Context(), nowhere{}, s.message(), core.Unavailable))
			}
		}
		must(t, s.with(between{s.db, &work}))
		if kept := len(s.dead()) == 1; kept != fails || s.status().GivenUpAt.IsZero() == fails || work != nil {
			t.Errorf("failed again %t: the dead letter is kept: %t, %+v", fails, kept, s.status())
		}
	}
}

// A dead letter goes after two weeks, counted from the last failure; who takes it away before is recorded, with its reason.
func TestDeadLettersEnd(t *testing.T) {
	s := newSite(t)
	const days = 24 * time.Hour
	s.giveUp()
	must(t, s.sync.Park(t.Context(), acme, []byte("{"), "r", fmt.Errorf("%w: it is odd", sync.ErrUnreadable)))
	s.pass(10 * days)
	s.giveUp()
	s.pass(4*days + time.Minute)
	if all := s.dead(); len(all) != 1 || all[0].Kind != "sync" || all[0].Tries != 80 {
		t.Errorf("after two weeks: %+v", all)
	}
	s.pass(10 * days)
	if all := s.dead(); len(all) != 0 {
		t.Errorf("two weeks after the last failure: %+v", all)
	}
	must(t, s.sync.Park(t.Context(), acme, []byte("{"), "r", fmt.Errorf("%w: it is odd", sync.ErrUnreadable)))
	must(t, s.sync.Discard(t.Context(), s.root, s.dead()[0]))
	n := 0
	for r, err := range audit.List(t.Context(), s.db, acme, time.Time{}, time.Time{}, false) {
		must(t, err)
		if r.EntityType == audit.EntityDeadLetter {
			if n++; r.Action != audit.Delete || r.Reason != sync.ErrUnreadable.Error()+": it is odd" {
				t.Errorf("recorded %+v", r)
			}
		}
	}
	if n != 1 {
		t.Errorf("recorded %d times", n)
	}
}

// A message for a revision that was reached is not dropped while a write may still be on its way: the run that was to make
// sure of it was killed.
func TestInFlightIsNotSuperfluous(t *testing.T) {
	s := newSite(t)
	p := s.project("vision")
	s.grant("bob@example.com", policy.Viewer, p.ID)
	s.reconcile()
	reached := s.status().Reached
	m := s.message()
	m.Revision = reached
	s.cluster.Writes()
	s.cluster.Fault = func(kube.Change) synctest.Fault { t.Error("looked at"); return synctest.None }
	must(t, s.sync.Reconcile(t.Context(), m)) // the twin: nothing is in flight, and nobody looks
	s.cluster.Fault = nil

	// A binding is tampered with, and the write that mends it is frozen; then the process is killed.
	o, _ := s.cluster.Object(kube.Ref{Kind: kube.RoleBinding, Namespace: p.Namespace, Name: "fleetpass-viewer-ns"})
	o.Subjects = nil
	s.cluster.Put(o)
	dead := false
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Verb == "" {
			return synctest.None
		}
		dead = true
		return synctest.Freeze
	}
	_ = s.with(&storetest.Faulty{DB: s.db, Plan: func(storetest.Call) storetest.Fault {
		if dead {
			return storetest.Refuse
		}
		return storetest.NoFault
	}})
	s.cluster.Fault = nil
	if st := s.status(); !dead || st.LastError != "" || st.Reached != reached {
		t.Fatalf("%t, %+v", dead, st)
	}
	s.pass(time.Minute)
	must(t, s.sync.Reconcile(t.Context(), m))
	if n := s.cluster.Thaw(); n != 0 {
		t.Errorf("%d late writes are accepted", n)
	}
	s.holds(bobViews)
}

// What a tenant reads of a long request is cut.
func TestParkCutsTheRequest(t *testing.T) {
	s := newSite(t)
	long := core.RequestID(slices.Repeat([]byte("r"), 20_000))
	must(t, s.sync.Park(t.Context(), acme, []byte("{"), long, errors.New("no kind")))
	if all := s.dead(); len(all) != 1 || len(all[0].Request) > 500 || len(all[0].Reason) > 500 {
		t.Errorf("%d letters, of the first %d and %d bytes", len(all), len(all[0].Request), len(all[0].Reason))
	}
}
