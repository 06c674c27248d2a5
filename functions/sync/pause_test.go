package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	memory "github.com/fleetpass/fleetpass/core/sync/synctest"
	handler "github.com/fleetpass/fleetpass/functions/sync"
)

// inMemory is a world whose queue delivers to the handler.
func inMemory(t *testing.T, clusters int) (*world, *plain) {
	q := newPlain(t)
	w := newWorld(t, clusters, func(store.DB) sync.Queue { return q })
	q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
	return w, q
}

func (w *world) handle(q sync.Queue, m sync.Message) error {
	return handler.Handle(w.Context(), handler.Deps{Sync: w.Sync, Queue: q, Now: clock}, m)
}

func (w *world) message() sync.Message { return sync.Message{Tenant: acme, Cluster: w.ids[0]} }

// bound says whether somebody is bound anywhere in the first cluster but in a namespace.
func (w *world) bound(name, butIn string) bool {
	for _, b := range w.cluster(0).Bound() {
		if !strings.Contains(b, butIn) && strings.Contains(b, name) {
			return true
		}
	}
	return false
}

// until waits for something, and returns for how long: at most 5 minutes.
func until(done func() bool) time.Duration {
	began := clock()
	for !done() && clock().Sub(began) < 5*time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	return clock().Sub(began)
}

// One object or namespace that cannot be brought in line, for as long as that may be, puts off nobody's revocation in the
// others, and neither does a tenant that changes all the time. A rule's end does not wait either.
func TestOneOddObjectPutsOffNobody(t *testing.T) {
	const odd = "fleetpass-team-b"
	for name, break_ := range map[string]func(*world){
		"nothing is odd": func(*world) {},
		"a webhook that does not answer": func(w *world) {
			w.cluster(0).Break(func(c kube.Change) memory.Fault {
				if c.Object.Namespace == odd {
					return memory.Lose
				}
				return memory.None
			})
		},
		"a binding of a later epoch": func(w *world) {
			have, err := w.cluster(0).Current(w.Context())
			w.must(err)
			for _, o := range have.Objects {
				if o.Namespace == odd {
					o.Annotations[kube.AnnotationEpoch] = strings.Repeat("z", 30)
					w.cluster(0).Put(o)
				}
			}
		},
		"a tenant that changes all the time": func(w *world) {
			n := 100
			w.cluster(0).be(func(context.Context, sync.Target) error { n++; w.change(n); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, q := inMemory(t, 1)
				for _, team := range []string{"team-a", "team-b"} {
					d, err := w.Org.CreateDepartment(t.Context(), core.SystemActor(acme), acme, w.ids[0], team)
					w.must(err)
					_, err = w.Org.CreateProject(t.Context(), core.SystemActor(acme), acme, org.NewProject{Name: team, Parent: d.ID})
					w.must(err)
				}
				person := func(i int) core.Subject { return core.UserSubject(core.Email(fmt.Sprintf("u%d@acme.example", i))) }
				for i := range 12 {
					_, err := w.Access.Seed(t.Context(), acme, access.NewRule{Subject: person(i), Role: policy.Viewer, Scope: core.AccountScope(acme)})
					w.must(err)
				}
				w.must(q.Send(t.Context(), w.message()))
				time.Sleep(2 * time.Minute)
				break_(w)
				for i := range 10 {
					_, err := w.Access.DeleteAllOf(t.Context(), core.SystemActor(acme), person(i))
					w.must(err)
					tenant, err := w.Org.Tenant(t.Context(), acme)
					w.must(err)
					w.send(q, tenant.Value.Revision)
					if took := until(func() bool { return !w.bound(person(i).ID, odd) }); took > 2*time.Second {
						t.Errorf("revocation %d took %s; %.300s", i, took, w.status(0).LastError)
					}
					time.Sleep(20 * time.Second)
				}
				end := clock().Add(10 * time.Second)
				_, err := w.Access.Seed(t.Context(), acme, access.NewRule{Subject: person(20), Role: policy.Viewer, Scope: core.AccountScope(acme), ExpiresAt: end})
				w.must(err)
				tenant, err := w.Org.Tenant(t.Context(), acme)
				w.must(err)
				w.send(q, tenant.Value.Revision)
				w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], NotBefore: end}))
				time.Sleep(9 * time.Second)
				if !w.bound(person(20).ID, odd) {
					t.Error("the rule that ends never was in force")
				}
				if took := until(func() bool { return !w.bound(person(20).ID, odd) }); took > 3*time.Second {
					t.Errorf("a rule's end took %s", took)
				}
			})
		})
	}
}

// The pause stays where the cluster does not answer: what is newer than the last run is dropped as well. Of what the cluster
// did answer to, only what is newer goes through.
func TestWhatWaitsForTheRetry(t *testing.T) {
	for name, tt := range map[string]struct {
		how  func(context.Context, sync.Target) error
		want int
	}{"a cluster that does not answer": {down, 0}, "one that refuses a write": {nil, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &collector{}
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				first := w.change(0)
				w.cluster(0).be(tt.how)
				w.cluster(0).Break(func(c kube.Change) memory.Fault {
					if c.Verb != "" {
						return memory.Lose
					}
					return memory.None
				})
				w.must(w.handle(q, w.message())) // fails, and a retry is due
				for range 4 {
					time.Sleep(time.Minute)
					w.must(w.handle(q, q.sent[len(q.sent)-1]))
				}
				before, now := w.cluster(0).tried(), clock()
				for _, m := range []sync.Message{{}, {Revision: first}, {Full: true}, {NotBefore: now.Add(-time.Second), Full: true, Attempt: 2}} {
					m.Tenant, m.Cluster = acme, w.ids[0]
					if w.must(w.handle(q, m)); w.cluster(0).tried() != before {
						t.Fatalf("%+v is tried in the pause", m)
					}
				}
				for _, m := range []sync.Message{{Revision: w.change(1)}, {NotBefore: now}} {
					m.Tenant, m.Cluster = acme, w.ids[0]
					w.must(w.handle(q, m))
				}
				if got := w.cluster(0).tried() - before; got != tt.want {
					t.Errorf("%d tries in the pause, want %d", got, tt.want)
				}
			})
		})
	}
}

// fifo is a queue with so many places, in order, as the cloud's event source mapping has.
type fifo struct {
	in    chan sync.Message
	end   chan struct{}
	going gosync.WaitGroup
}

func (q *fifo) Send(_ context.Context, all ...sync.Message) error {
	for _, m := range all {
		q.going.Go(func() {
			select {
			case <-time.After(time.Until(m.NotBefore)):
			case <-q.end:
				return
			}
			select {
			case q.in <- m:
			case <-q.end:
			}
		})
	}
	return nil
}

// Two hundred clusters that hang, four times as many as there are places, do not keep the others from theirs.
func TestManyHangingClusters(t *testing.T) {
	const hanging, places = 200, 50
	synctest.Test(t, func(t *testing.T) {
		q := &fifo{in: make(chan sync.Message, 10_000), end: make(chan struct{})}
		w := newWorld(t, hanging+1, func(store.DB) sync.Queue { return q })
		for range places {
			q.going.Go(func() {
				for {
					select {
					case m := <-q.in:
						_ = w.System.Synchronize(t.Context(), m)
					case <-q.end:
						return
					}
				}
			})
		}
		defer func() { close(q.end); q.going.Wait() }()
		for i := 1; i <= hanging; i++ {
			w.cluster(i).be(hangs)
			w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[i], Full: true}))
		}
		time.Sleep(20 * time.Minute)
		for i := range 10 {
			revision := w.change(i)
			w.send(q, revision)
			if took := until(func() bool { return w.status(0).Reached >= revision }); took > 10*time.Second {
				t.Errorf("change %d of the healthy cluster took %s", i, took)
			}
			time.Sleep(30 * time.Second)
		}
	})
}

// A cluster that is up again, and slow, is not cut short for ever, and has the full time again once it has answered.
func TestSlowAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, q := inMemory(t, 1)
		w.cluster(0).be(hangs)
		revision := w.change(0)
		w.send(q, revision)
		time.Sleep(6 * time.Minute)
		w.cluster(0).be(func(ctx context.Context, to sync.Target) error {
			select {
			case <-time.After(15 * time.Second):
				return nil
			case <-ctx.Done():
				return hangs(ctx, to)
			}
		})
		time.Sleep(12 * time.Minute)
		if st := w.status(0); st.Reached < revision || st.Tries != 0 {
			t.Fatalf("%+v", st)
		}
		revision = w.change(1)
		w.send(q, revision)
		time.Sleep(20 * time.Second)
		if st := w.status(0); st.Reached < revision {
			t.Errorf("%+v", st)
		}
	})
}

// A rule that ends while a run is at work is out when that run is, not when whoever was put off comes again.
func TestEndsDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, q := inMemory(t, 1)
		end := clock().Add(90 * time.Second)
		_, err := w.Access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("u@acme.example"), Role: policy.Viewer, Scope: core.AccountScope(acme), ExpiresAt: end})
		w.must(err)
		w.must(q.Send(t.Context(), w.message(), sync.Message{Tenant: acme, Cluster: w.ids[0], NotBefore: end}))
		time.Sleep(70 * time.Second)
		w.cluster(0).be(func(context.Context, sync.Target) error {
			w.cluster(0).be(nil)
			time.Sleep(21 * time.Second)
			return nil
		})
		w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}))
		time.Sleep(19 * time.Second)
		if !w.bound("u@", "nowhere") {
			t.Fatal("gone before its end")
		}
		until(func() bool { return !w.bound("u@", "nowhere") })
		if late := clock().Sub(end); late > 2*time.Second {
			t.Errorf("taken away %s after its end", late)
		}
	})
}

// A look that does not fit into the time that is left is not begun: it would make a failure of a run that went well.
func TestNoLookThatCannotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, q := inMemory(t, 1)
		w.cluster(0).be(func(ctx context.Context, to sync.Target) error {
			select {
			case <-time.After(30 * time.Second):
				return nil
			case <-ctx.Done():
				return hangs(ctx, to)
			}
		})
		w.must(q.Send(t.Context(), w.message()))
		time.Sleep(10 * time.Second)
		w.send(q, w.change(1))
		time.Sleep(25 * time.Second)
		if st := w.status(0); st.Failures != 0 || st.LastError != "" || st.Reached == 0 {
			t.Errorf("%+v", st)
		}
		time.Sleep(2 * time.Minute)
		if st := w.status(0); st.Failures != 0 || st.Reached < st.Wanted {
			t.Errorf("%+v", st)
		}
	})
}

// killed is a service whose process ends while it reads the cluster.
func (w *world) killed() (begun chan struct{}) {
	service, dead := *w.Sync, &atomic.Bool{}
	service.DB = &storetest.Faulty{DB: w.db, Plan: func(storetest.Call) storetest.Fault {
		if dead.Load() {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}
	begun = make(chan struct{})
	w.cluster(0).be(func(ctx context.Context, to sync.Target) error {
		w.cluster(0).be(nil)
		dead.Store(true)
		close(begun)
		return hangs(ctx, to)
	})
	ctx, stop := context.WithCancel(w.Context())
	var running gosync.WaitGroup
	running.Go(func() { _ = service.Reconcile(ctx, w.message()) })
	w.Cleanup(func() { stop(); running.Wait() })
	return begun
}

// A run that was killed keeps others off for 20 seconds, and no longer; one that waits for its cluster keeps them off for as
// long as it does. Who is put off waits for no longer than the lease has left.
func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, q := inMemory(t, 1)
		w.send(q, w.change(0))
		time.Sleep(time.Second)
		<-w.killed()
		revision := w.change(1)
		time.Sleep(15 * time.Second)
		w.send(q, revision)
		if took := until(func() bool { return w.status(0).Reached >= revision }); took < 4*time.Second || took > 7*time.Second {
			t.Errorf("after a dead run of 15 s ago: %s, want the 5 s that its lease had left", took)
		}

		slow := &collector{}
		w.cluster(0).be(func(context.Context, sync.Target) error {
			w.cluster(0).be(nil)
			time.Sleep(45 * time.Second)
			return nil
		})
		w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}))
		for at := range 8 {
			time.Sleep(5 * time.Second)
			if err := w.Sync.Reconcile(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}); !errors.Is(err, core.Conflict) {
				t.Errorf("%d s into a run, another may begin: %v", 5*at+5, err)
			}
		}
		time.Sleep(10 * time.Second)
		if st := w.status(0); st.LastError != "" || len(slow.sent) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A busy cluster is asked for again by one message, however many come; a failure that is counted meanwhile takes nothing
// back of what was promised; and a run that goes well ends the pause.
func TestBusySendsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &collector{}
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.cluster(0).be(func(context.Context, sync.Target) error {
			w.cluster(0).be(nil)
			if st := w.status(0); !st.RetryAt.IsZero() {
				t.Errorf("a run has begun, and a retry is awaited still: %s", st.RetryAt)
			}
			time.Sleep(15 * time.Second)
			return nil
		})
		w.must(w.Sync.Again(t.Context(), q, w.message(), core.Unavailable))
		first := q.sent[0]
		q.sent = nil
		time.Sleep(2 * time.Second)
		var running gosync.WaitGroup
		running.Go(func() { w.must(w.handle(q, first)) })
		time.Sleep(10 * time.Second)
		busy := w.Sync.Reconcile(t.Context(), w.message())
		for range 3 {
			w.must(w.Sync.Again(t.Context(), q, w.message(), busy))
			time.Sleep(time.Second)
		}
		st := w.status(0)
		if len(q.sent) != 1 || !st.RetryAt.Equal(q.sent[0].NotBefore) || st.RetryAt.Sub(clock()) < 3*time.Second {
			t.Fatalf("%v: sent %+v, %+v", busy, q.sent, st)
		}
		promised := st.RetryAt
		w.must(w.Sync.Again(t.Context(), q, w.message(), core.Unavailable)) // would try again sooner
		if st := w.status(0); len(q.sent) != 1 || !st.RetryAt.Equal(promised) {
			t.Errorf("sent %+v, %+v", q.sent, st)
		}
		running.Wait()
		if st := w.status(0); !st.RetryAt.IsZero() || clock().After(promised) {
			t.Errorf("after a run that went well, a retry is awaited at %s", st.RetryAt)
		}
	})
}

// A time that no lease and no pause can come to is of a clock that is wrong: the cluster is not deaf until then.
func TestSkewedClocks(t *testing.T) {
	for _, skew := range []time.Duration{2 * time.Minute, time.Hour, 24 * 365 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w, q := inMemory(t, 1)
			skewed := *w.Sync
			skewed.Now = func() time.Time { return clock().Add(skew) }
			elsewhere := &collector{}
			w.must(skewed.Again(t.Context(), elsewhere, w.message(), core.Unavailable))
			revision := w.change(1)
			w.send(q, revision)
			time.Sleep(time.Second)
			if st := w.status(0); st.Reached < revision {
				t.Errorf("%s: a retry far ahead: %+v", skew, st)
			}
			// The next failure sends a retry, though one is noted for later than it.
			w.must(skewed.Again(t.Context(), elsewhere, w.message(), core.Unavailable))
			elsewhere.sent = nil
			w.must(w.Sync.Again(t.Context(), elsewhere, w.message(), core.Unavailable))
			if st := w.status(0); len(elsewhere.sent) != 1 || !st.RetryAt.Equal(elsewhere.sent[0].NotBefore) || st.RetryAt.Sub(clock()) > 5*time.Second {
				t.Errorf("%s: sent %+v, %+v", skew, elsewhere.sent, st)
			}
			time.Sleep(time.Minute)

			// A run whose clock is wrong was killed.
			good := w.Sync
			w.Sync = &skewed
			<-w.killed()
			w.Sync = good
			revision = w.change(2)
			w.send(q, revision)
			time.Sleep(time.Second)
			if st := w.status(0); st.Reached < revision {
				t.Errorf("%s: a lease far ahead: %+v", skew, st)
			}
		})
	}
}

// The retry is never dropped in favour of itself, though the clock is set back while it waits.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &collector{}
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.must(w.Sync.Again(t.Context(), q, w.message(), core.Unavailable))
		retry := q.sent[0]
		q.sent = nil
		revision := w.change(1)
		m := w.message()
		m.Revision = revision
		w.must(w.handle(q, m)) // dropped: the retry is due
		var step atomic.Int64
		service := *w.Sync
		now := func() time.Time { return clock().Add(-time.Duration(step.Load())) }
		service.Now = now
		time.AfterFunc(10*time.Millisecond, func() { step.Store(int64(time.Millisecond)) })
		w.must(handler.Handle(t.Context(), handler.Deps{Sync: &service, Queue: q, Now: now}, retry))
		if st := w.status(0); st.Reached < revision || now().Before(retry.NotBefore) {
			t.Errorf("both are acknowledged, %d messages are queued, and the cluster was never tried: %+v", len(q.sent), st)
		}
	})
	synctest.Test(t, func(t *testing.T) { // or before it was delivered, where nothing waits
		q := &collector{}
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.must(w.Sync.Again(t.Context(), q, w.message(), core.Unavailable))
		w.must(w.Sync.Reconcile(t.Context(), q.sent[0]))
		if w.cluster(0).tried() != 1 {
			t.Error("the retry is dropped in favour of itself")
		}
	})
}

// canary is what an error of ours may say, and a tenant must not read.
const canary = "arn:aws:kms:eu-central-1:123456789012:key/canary"

// brokenStore answers with an error of its product from some call on.
type brokenStore struct {
	store.DB
	broken *atomic.Bool
}

func (b brokenStore) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if b.broken.Load() && keys[0].Kind() != "sync" {
		return nil, fmt.Errorf("%s: %w", canary, core.Unavailable)
	}
	return b.DB.Get(ctx, keys...)
}

func (b brokenStore) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	if b.broken.Load() {
		return func(yield func(store.Item, error) bool) {
			yield(store.Item{}, fmt.Errorf("%s: %w", canary, core.Unavailable))
		}
	}
	return b.DB.List(ctx, r)
}

// What fails on our side is told to the tenant as that, with the request by which we find it in the log; what the cluster
// answered is told as it is.
func TestReasonsNameNothingOfOurs(t *testing.T) {
	for name, tt := range map[string]struct {
		how  func(*world, *sync.Service) func(context.Context, sync.Target) error
		want string // of the status and the dead letter
	}{
		"the cluster": {func(*world, *sync.Service) func(context.Context, sync.Target) error { return down }, "connection refused"},
		"the store": {func(w *world, s *sync.Service) func(context.Context, sync.Target) error {
			broken := &atomic.Bool{}
			s.DB = brokenStore{s.DB, broken}
			return func(context.Context, sync.Target) error { broken.Store(true); return nil }
		}, "an internal error (request ID r-17)"},
		"the key of the token": {func(w *world, s *sync.Service) func(context.Context, sync.Target) error {
			broken := &atomic.Bool{}
			broken.Store(true)
			wrapper, err := localkeys.New(make([]byte, localkeys.KeySize))
			w.must(err)
			s.Ring = keys.NewRing(brokenStore{s.DB, broken}, wrapper, clock)
			return func(ctx context.Context, to sync.Target) error {
				_, err := to.Token(ctx)
				return fmt.Errorf("kubernetes: token: %w", err)
			}
		}, "an internal error (request ID r-17)"},
		"no kind": {func(*world, *sync.Service) func(context.Context, sync.Target) error {
			return func(context.Context, sync.Target) error { return errors.New(canary) }
		}, "an internal error (request ID r-17)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &collector{}
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				service := *w.Sync
				w.cluster(0).be(tt.how(w, &service))
				m := w.message()
				m.Request = "r-17"
				err := service.Reconcile(t.Context(), m)
				for range 40 {
					w.must(w.Sync.Again(t.Context(), q, m, err))
				}
				all, st := w.dead(acme), w.status(0)
				if len(all) != 1 || !strings.Contains(all[0].Reason, tt.want) || !strings.Contains(st.LastError, tt.want) || strings.Contains(fmt.Sprint(all, st), "canary") {
					t.Errorf("the tenant reads %+v, %+v", all, st)
				}
				if tt.want != "connection refused" && !strings.Contains(w.log.String(), canary) {
					t.Errorf("and we read %.500s", w.log.String())
				}
			})
		})
	}
}

// What outlives its tenant or its cluster, a run or an event, leaves nothing of it.
func TestNothingIsNotedOfWhatIsGone(t *testing.T) {
	for name, end := range map[string]func(*world){
		"a tenant that is erased": func(w *world) {
			w.must(w.Org.Erase(w.Context(), core.SystemActor(core.SystemTenant), acme))
			time.Sleep(2 * time.Hour)
			for range 5 {
				_ = w.Org.EraseData(w.Context(), acme)
			}
		},
		"a cluster that is swept": func(w *world) {
			w.must(w.Org.DeleteScope(w.Context(), core.SystemActor(acme), acme, core.ClusterScope(w.ids[0]), true))
			w.must(w.Org.Sweep(w.Context(), acme, core.ClusterScope(w.ids[0]), func(context.Context, core.TenantID, org.Scope) error { return nil }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &collector{}
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				w.cluster(0).be(func(ctx context.Context, to sync.Target) error {
					end(w)
					return down(ctx, to)
				})
				w.must(handler.Handle(t.Context(), handler.Deps{Sync: w.Sync, Queue: q, Now: clock, Limit: 24 * time.Hour}, w.message()))
				w.must(w.Sync.Wanted(t.Context(), acme, w.ids, 99))
				for range 50 {
					w.must(w.Sync.Again(t.Context(), q, w.message(), core.Unavailable))
				}
				for it, err := range w.db.List(t.Context(), store.Syncs(acme)) {
					t.Errorf("left: %s %s %v", it.Key, it.Body, err)
				}
				if left := w.dead(acme); len(left) != 0 || len(q.sent) != 0 {
					t.Errorf("left: %+v; sent %+v", left, q.sent)
				}
			})
		})
	}
}

// heedless is a store that goes on although its caller is told to end.
type heedless struct{ store.DB }

func (h heedless) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	return h.DB.Get(context.WithoutCancel(ctx), keys...)
}

func (h heedless) Commit(ctx context.Context, ops ...store.Op) error {
	return h.DB.Commit(context.WithoutCancel(ctx), ops...)
}

// A process that is told to end counts nothing against the cluster, even if the store would take it down.
func TestShutdownWithAStoreThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &collector{}
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.cluster(0).be(hangs)
		service := *w.Sync
		service.DB = heedless{w.db}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		err := handler.Handle(ctx, handler.Deps{Sync: &service, Queue: q, Now: clock}, w.message())
		if !errors.Is(err, core.Unavailable) || len(q.sent) != 0 || w.status(0).Tries != 0 {
			t.Errorf("%v, sent %+v, %+v", err, q.sent, w.status(0))
		}
	})
}
