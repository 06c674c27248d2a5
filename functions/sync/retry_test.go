package sync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	memory "github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/functions"
	handler "github.com/fleetpass/fleetpass/functions/sync"
)

const acme = core.TenantID("acme")

// world is a tenant with clusters in memory, in a bubble: hours of pauses pass in no time.
type world struct {
	*testing.T
	*functions.System
	db       store.DB
	feed     *bolt.DB
	log      lockedBuffer
	ids      []core.ClusterID
	clusters map[string]*away // by server
}

type lockedBuffer struct {
	mu gosync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// away is a cluster that can be down in several ways, and counts how often it was tried.
type away struct {
	*memory.Memory
	mu     gosync.Mutex
	how    func(context.Context, sync.Target) error // nil: it answers
	target sync.Target
	tries  int
}

func (a *away) Current(ctx context.Context, named ...kube.Ref) (kube.State, error) {
	a.mu.Lock()
	a.tries++
	how, target := a.how, a.target
	a.mu.Unlock()
	if how != nil {
		if err := how(ctx, target); err != nil {
			return kube.State{}, err
		}
	}
	return a.Memory.Current(ctx, named...)
}

func (a *away) be(how func(context.Context, sync.Target) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.how = how
}

func (a *away) tried() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tries
}

// hangs takes the connection and never answers.
func hangs(ctx context.Context, _ sync.Target) error {
	<-ctx.Done()
	return fmt.Errorf("kubernetes: GET /api/v1/namespaces: %w: %w", core.Unavailable, ctx.Err())
}

func down(context.Context, sync.Target) error {
	return fmt.Errorf("kubernetes: connection refused: %w", core.Unavailable)
}

func clock() time.Time { return time.Now().UTC() }

func newWorld(t *testing.T, clusters int, queue func(store.DB) sync.Queue) *world {
	t.Helper()
	w := &world{T: t, clusters: map[string]*away{}}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: clock})
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	w.db, w.feed = db, db
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	w.must(err)
	w.System, err = functions.New(functions.Config{
		DB: db, Wrapper: wrapper, Queue: queue(db), Base: "https://fleet.test", Now: clock, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Providers: map[sso.Kind]sso.Provider{},
		Dial: func(to sync.Target) (sync.Cluster, error) {
			a := w.clusters[to.Server]
			a.mu.Lock()
			defer a.mu.Unlock()
			a.target = to
			return a, nil
		},
	})
	w.must(err)
	system := core.SystemActor(core.SystemTenant)
	_, err = w.Org.EnsureSystem(t.Context())
	w.must(err)
	_, err = w.Org.CreateTenant(t.Context(), system, string(acme), "Acme")
	w.must(err)
	for i := range clusters {
		server := fmt.Sprintf("https://c%d.test", i)
		w.clusters[server] = &away{Memory: memory.New()}
		c, err := w.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, fmt.Sprint("c", i), org.Reach{Server: server})
		w.must(err)
		w.ids = append(w.ids, c.Cluster)
	}
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) cluster(i int) *away { return w.clusters[fmt.Sprintf("https://c%d.test", i)] }

// change makes a rule at the account, and returns the revision that it came with.
func (w *world) change(n int) core.Revision {
	w.Helper()
	made, err := w.Access.Seed(w.Context(), acme, access.NewRule{Subject: core.GroupSubject(core.GroupName(fmt.Sprint("g", n))), Role: policy.Viewer, Scope: core.AccountScope(acme)})
	w.must(err)
	return core.Revision(made[0].ID)
}

func (w *world) status(i int) sync.Status {
	w.Helper()
	st, err := w.Sync.Status(w.Context(), acme, w.ids[i])
	w.must(err)
	return st
}

func (w *world) dead(t core.TenantID) (all []sync.DeadLetter) {
	w.Helper()
	for d, err := range w.Sync.DeadLetters(w.Context(), t) {
		w.must(err)
		all = append(all, d)
	}
	return all
}

// run starts what the cloud's triggers do, over the queue in the store, until the test ends.
func (w *world) run(queue *storequeue.Queue) {
	ctx, stop := context.WithCancel(w.Context())
	var running gosync.WaitGroup
	running.Go(func() { _ = w.feed.Feed(ctx, bolt.FeedOptions{}, w.System.Dispatch) })
	running.Go(func() { _ = queue.Work(ctx, w.System.Synchronize) })
	w.Cleanup(func() { stop(); running.Wait() })
}

// A poison event and a hanging cluster hold up nobody: the other clusters hold what the rules say within seconds. What fails
// is tried for about an hour, ends as a dead letter with its reason, and is brought back by a replay.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queue *storequeue.Queue
		w := newWorld(t, 21, func(db store.DB) sync.Queue { queue = storequeue.New(db, clock); return queue })
		const hanging = 7
		w.cluster(hanging).be(hangs)
		w.run(queue)
		poison := func(body string) {
			w.must(w.db.Commit(t.Context(), store.Put(store.Outbox(acme, clock(), core.NewID()), 0, []byte(body))))
		}
		poison(`{"specversion":"1.0","id":"e1","source":"/t/acme","type":"dev.fleetpass.moon.landed.v9","data":{}}`)
		poison("{")
		revision := w.change(1)
		poison("}")
		time.Sleep(10 * time.Second)
		for i := range w.ids {
			if st := w.status(i); i != hanging && (st.Reached < revision || st.LastError != "") {
				t.Errorf("cluster %d waits for others: %+v", i, st)
			}
		}
		if all := w.dead(acme); len(all) != 1 || all[0].Kind != "event" || !strings.Contains(all[0].Reason, "unknown type") {
			t.Errorf("dead letters of the tenant: %+v", all)
		}
		if all := w.dead(core.SystemTenant); len(all) != 2 {
			t.Errorf("dead letters of nobody: %+v", all)
		}
		time.Sleep(time.Minute)
		if st := w.status(hanging); st.Reached != 0 || !strings.Contains(st.LastError, "deadline exceeded") || st.Tries != 1 && st.Tries != 2 {
			t.Errorf("the hanging cluster, after a minute: %+v", st)
		}
		time.Sleep(2 * time.Hour)
		st, tries := w.status(hanging), w.cluster(hanging).tried()
		if st.GivenUpAt.IsZero() || !st.RetryAt.IsZero() || tries != 40 {
			t.Errorf("after two hours: %d tries, %+v", tries, st)
		}
		all := w.dead(acme)
		if len(all) != 2 {
			t.Fatalf("dead letters: %+v", all)
		}
		letter := all[1]
		if d := letter.Last.Sub(letter.First); letter.ID != string(w.ids[hanging]) || letter.Tries != 40 || !strings.Contains(letter.Reason, "deadline exceeded") || d < 30*time.Minute || d > 80*time.Minute {
			t.Errorf("%+v, over %s", letter, d)
		}

		// Still hanging: a replay tries as often, and it is one dead letter.
		w.must(w.Sync.Replay(t.Context(), w.Queue, core.SystemActor(acme), letter))
		if left := w.dead(acme); len(left) != 1 {
			t.Errorf("replayed, and still there: %+v", left)
		}
		time.Sleep(2 * time.Hour)
		if all = w.dead(acme); len(all) != 2 || w.cluster(hanging).tried() != 80 {
			t.Fatalf("%d tries; dead letters: %+v", w.cluster(hanging).tried(), all)
		}
		w.cluster(hanging).be(nil)
		w.must(w.Sync.Replay(t.Context(), w.Queue, core.SystemActor(acme), all[1]))
		time.Sleep(time.Second)
		if st := w.status(hanging); st.Reached < revision || !st.GivenUpAt.IsZero() || st.LastError != "" || len(w.dead(acme)) != 1 {
			t.Errorf("after the replay: %+v, %+v", st, w.dead(acme))
		}

		// An event that the code still does not know comes back, as the same dead letter.
		event, again := w.dead(acme)[0], clock()
		w.must(w.Sync.Replay(t.Context(), w.Queue, core.SystemActor(acme), event))
		time.Sleep(time.Minute)
		if all := w.dead(acme); len(all) != 1 || all[0].ID != event.ID || all[0].Tries != 1 || all[0].First.Before(again) {
			t.Errorf("replayed: %+v", all)
		}
	})
}

// plain is a queue that merges nothing, as the clouds' are: each message is delivered by itself, and again half a minute
// after it failed.
type plain struct {
	handle func(sync.Message) error
	refuse func() bool

	mu      gosync.Mutex
	waiting int // messages that are not acknowledged
	most    int
	sent    int
	running gosync.WaitGroup
	ended   chan struct{}
}

func (q *plain) Send(_ context.Context, all ...sync.Message) error {
	if q.refuse != nil && q.refuse() {
		return fmt.Errorf("queue: %w", core.Conflict) // whatever its kind, it is not the store's
	}
	for _, m := range all {
		q.mu.Lock()
		q.sent++
		q.waiting++
		q.most = max(q.most, q.waiting)
		q.mu.Unlock()
		q.running.Go(func() { q.deliver(m) })
	}
	return nil
}

func (q *plain) deliver(m sync.Message) {
	wait := time.Until(m.NotBefore)
	for {
		select {
		case <-time.After(wait):
		case <-q.ended:
			return
		}
		if q.handle(m) == nil {
			q.mu.Lock()
			q.waiting--
			q.mu.Unlock()
			return
		}
		wait = 30 * time.Second
	}
}

func newPlain(t *testing.T) *plain {
	q := &plain{ended: make(chan struct{})}
	t.Cleanup(func() { close(q.ended); q.running.Wait() })
	return q
}

func (q *plain) counts() (sent, most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sent, q.most
}

// send does what dispatch does.
func (w *world) send(q sync.Queue, revision core.Revision) {
	w.Helper()
	w.must(w.Sync.Wanted(w.Context(), acme, w.ids[:1], revision))
	w.must(q.Send(w.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Revision: revision}))
}

// However many changes are made while a cluster is down, it is tried no oftener than its pauses allow, and few messages wait
// at any time. When it is back, it comes to the last change.
func TestChangesDuringAnOutage(t *testing.T) {
	for name, tt := range map[string]struct {
		how         func(context.Context, sync.Target) error
		tries, most int
	}{
		// Half an hour: 1, 2, 4, ... 32 seconds, then a minute each, less a quarter by chance. The 40th failure gives up, after
		// 26 minutes if chance always takes all it can, and the next change begins with a second again: 7 tries within a
		// minute, and 3 in the two that are left. A change comes while the retry of the last failure waits, which is the third.
		"refuses": {down, 40 + 7 + 3, 3},
		// Three tries take 50 seconds, the others 10, before their pauses. Besides the message whose run it is there are its
		// retry; one that was put off until the run may be over; and while that is put off once more, the one that it sends.
		"hangs": {hangs, 36, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newPlain(t)
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
				w.cluster(0).be(tt.how)
				const changes = 290
				for i := range changes {
					w.send(q, w.change(i))
					time.Sleep(6 * time.Second)
				}
				sent, most := q.counts()
				if tries := w.cluster(0).tried(); tries < 10 || tries > tt.tries || most > tt.most || sent > changes+12*tt.tries {
					t.Errorf("%d changes: %d tries, %d messages, %d at a time; want at most %d, %d, %d", changes, tries, sent, most, tt.tries, changes+12*tt.tries, tt.most)
				}
				if st := w.status(0); st.GivenUpAt.IsZero() && st.Tries < 10 {
					t.Errorf("%+v", st)
				}
				w.cluster(0).be(nil)
				time.Sleep(2 * time.Minute)
				revision := w.change(changes)
				w.send(q, revision)
				time.Sleep(2 * time.Minute)
				if st := w.status(0); st.Reached < revision || st.Tries != 0 || !st.RetryAt.IsZero() {
					t.Errorf("back: %+v", st)
				}
				q.mu.Lock()
				defer q.mu.Unlock()
				if q.waiting != 0 {
					t.Errorf("%d messages are left", q.waiting)
				}
			})
		})
	}
}

// A cluster that is slow and asked for all the time is never given up, nor is anything forgotten that came while it was busy.
func TestBusyIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(t)
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
		w.cluster(0).be(func(context.Context, sync.Target) error { time.Sleep(8 * time.Second); return nil })
		var revision core.Revision
		for i := range 300 {
			revision = w.change(i)
			w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}))
			time.Sleep(time.Second)
			if st := w.status(0); !st.GivenUpAt.IsZero() || st.Tries != 0 {
				t.Fatalf("%+v", st)
			}
		}
		time.Sleep(2 * time.Minute)
		if st := w.status(0); st.Reached < revision || len(w.dead(acme)) != 0 {
			t.Errorf("%+v, want %d; %+v", st, revision, w.dead(acme))
		}
		if _, most := q.counts(); most > 8 { // a run leaves one behind that waited for it
			t.Errorf("%d messages at a time", most)
		}
	})
}

// Whatever fails on the way (the store, the queue, the cluster), and wherever a function is killed, no change is lost: once
// it all works again, the cluster comes to the last one without being asked anew.
func TestNoRetryIsLost(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			var mu gosync.Mutex
			r := rand.New(rand.NewPCG(seed, 3))
			broken := true
			chance := func(percent int) bool {
				mu.Lock()
				defer mu.Unlock()
				return broken && r.IntN(100) < percent
			}
			q := newPlain(t)
			q.refuse = func() bool { return chance(20) }
			w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
			random := storetest.RandomFaults(seed, 0.15)
			q.handle = func(m sync.Message) error {
				service := *w.Sync
				var killed atomic.Bool // from some call on, nothing that the function does comes to anything
				service.DB = &storetest.Faulty{DB: w.db, Plan: func(c storetest.Call) storetest.Fault {
					if chance(5) {
						killed.Store(true)
					}
					if killed.Load() {
						return storetest.Refuse
					}
					if chance(100) {
						return random(c)
					}
					return storetest.NoFault
				}}
				err := handler.Handle(t.Context(), handler.Deps{Sync: &service, Queue: q, Now: clock}, m)
				if killed.Load() && err == nil {
					return errors.New("killed before it could acknowledge")
				}
				return err
			}
			w.cluster(0).be(func(ctx context.Context, to sync.Target) error {
				switch {
				case chance(10):
					return hangs(ctx, to)
				case chance(40):
					return down(ctx, to)
				case chance(10):
					panic("the answer was odd")
				}
				return nil
			})
			var revision core.Revision
			for i := range 30 {
				revision = w.change(i)
				w.must(w.Sync.Wanted(t.Context(), acme, w.ids, revision))
				for q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Revision: revision}) != nil {
				}
				mu.Lock()
				pause := time.Duration(r.IntN(20_000)) * time.Millisecond
				mu.Unlock()
				time.Sleep(pause)
			}
			mu.Lock()
			broken = false
			mu.Unlock()
			time.Sleep(5 * time.Minute)
			if st := w.status(0); st.Reached != revision || st.LastError != "" || st.Tries != 0 {
				t.Errorf("seed %d: %+v, want %d", seed, st, revision)
			}
			q.mu.Lock()
			defer q.mu.Unlock()
			if q.waiting != 0 || q.most > 40 {
				t.Errorf("seed %d: %d messages are left; at most %d waited", seed, q.waiting, q.most)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// collector is a queue that keeps what it is sent.
type collector struct {
	sent   []sync.Message
	refuse error
}

func (q *collector) Send(_ context.Context, m ...sync.Message) error {
	if q.refuse != nil {
		return q.refuse
	}
	q.sent = append(q.sent, m...)
	return nil
}

// A message is acknowledged only if the retry that the cluster's record promises was sent, or the dead letter is written,
// whichever of the calls is the last that comes to anything.
func TestAcknowledgedMeansKept(t *testing.T) {
	for _, tries := range []int{0, 39} { // the next failure is a pause; it is the last
		acknowledged := 0
		for n := range 40 { // calls to the store that answer
			synctest.Test(t, func(t *testing.T) {
				q := &collector{}
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				w.cluster(0).be(down)
				m := sync.Message{Tenant: acme, Cluster: w.ids[0]}
				for range tries {
					w.must(w.Sync.Again(t.Context(), q, m, core.Unavailable))
				}
				time.Sleep(2 * time.Minute)
				q.sent = nil
				service, calls := *w.Sync, 0
				service.DB = &storetest.Faulty{DB: w.db, Plan: func(storetest.Call) storetest.Fault {
					if calls++; calls > n {
						return storetest.Refuse
					}
					return storetest.NoFault
				}}
				if handler.Handle(t.Context(), handler.Deps{Sync: &service, Queue: q, Now: clock}, m) != nil {
					return
				}
				acknowledged++
				st := w.status(0)
				promised := len(q.sent) == 1 && !st.RetryAt.IsZero() && q.sent[0].NotBefore.Equal(st.RetryAt) && q.sent[0].Attempt == st.Tries && q.sent[0].Full
				if buried := len(w.dead(acme)) == 1 && st.RetryAt.IsZero() && len(q.sent) == 0; buried != (tries > 0) || promised == buried {
					t.Errorf("%d tries, killed after call %d: acknowledged; sent %+v, %+v, %d dead letters", tries, n, q.sent, st, len(w.dead(acme)))
				}
			})
		}
		if acknowledged < 10 || acknowledged > 38 {
			t.Errorf("acknowledged %d times", acknowledged)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		q := &collector{refuse: fmt.Errorf("the queue is over its quota: %w", core.Throttled)}
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.cluster(0).be(down)
		err := handler.Handle(t.Context(), handler.Deps{Sync: w.Sync, Queue: q, Now: clock}, sync.Message{Tenant: acme, Cluster: w.ids[0]})
		if st := w.status(0); !errors.Is(err, core.Throttled) || !st.RetryAt.IsZero() {
			t.Errorf("a queue that does not take it: %v, %+v", err, st)
		}
	})
}

// An API server may repeat what it was sent. Its words reach people and logs, the token in them never does.
func TestReasonsHoldNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(t)
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
		var secret string
		n := 0
		w.cluster(0).be(func(ctx context.Context, to sync.Target) (err error) {
			if secret, err = to.Token(ctx); err != nil {
				return err
			}
			n++
			said := []string{"Authorization: Bearer " + secret, "token=" + secret, "cut " + secret[:len(secret)*2/3], strings.Repeat("x", 380) + " " + secret}[n%4]
			return fmt.Errorf("kubernetes: 503: %q: %w", said, core.Unavailable)
		})
		w.send(q, w.change(1))
		time.Sleep(time.Hour)
		all := w.dead(acme)
		if len(all) != 1 || n != 40 || !strings.Contains(all[0].Reason, "503") || !strings.Contains(w.log.String(), "sync: given up") {
			t.Fatalf("%d tries, %+v", n, all)
		}
		payload := strings.Split(secret, ".")
		for what, text := range map[string]string{"dead letter": fmt.Sprint(all), "status": fmt.Sprint(w.status(0)), "log": w.log.String()} {
			for _, part := range payload {
				if strings.Contains(text, part[:12]) && part[:12] != payload[0][:12] || strings.Contains(text, part) {
					t.Errorf("the %s holds the token: %.600s", what, text)
				}
			}
		}
	})
}

// A cluster at which the handler panics is a cluster that fails: it is given up in the end, and what the panic said is told
// to nobody.
func TestPanicsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(t)
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
		w.cluster(0).be(func(context.Context, sync.Target) error { panic("canary in a panic") })
		w.send(q, w.change(1))
		time.Sleep(2 * time.Hour)
		if all := w.dead(acme); len(all) != 1 || all[0].Reason != "an internal error" {
			t.Errorf("%+v", all)
		}
		if log := w.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "msg=panic") {
			t.Errorf("logged %.500s", log)
		}
	})
}

// What no retry mends is given up at once when it was tried often enough; each hour's timer tries once more, there is one dead
// letter, and it goes when the cluster is mended.
func TestRefusalsAreOneDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(t)
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		q.handle = func(m sync.Message) error { return w.System.Synchronize(t.Context(), m) }
		w.cluster(0).be(func(context.Context, sync.Target) error { return fmt.Errorf("kubernetes: forbidden: %w", core.Denied) })
		w.send(q, w.change(1))
		time.Sleep(10 * time.Minute)
		if all := w.dead(acme); len(all) != 1 || all[0].Tries != 6 || !strings.Contains(all[0].Reason, "forbidden") {
			t.Fatalf("%+v", all)
		}
		first := w.dead(acme)[0].First
		for range 24 {
			w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}))
			time.Sleep(time.Hour)
		}
		all := w.dead(acme)
		if len(all) != 1 || all[0].Tries != 30 || !all[0].First.Equal(first) || all[0].Last.Sub(first) < 22*time.Hour || w.cluster(0).tried() != 30 {
			t.Errorf("after a day: %d tries, %+v", w.cluster(0).tried(), all)
		}
		w.cluster(0).be(nil)
		w.must(q.Send(t.Context(), sync.Message{Tenant: acme, Cluster: w.ids[0], Full: true}))
		time.Sleep(time.Minute)
		if st := w.status(0); len(w.dead(acme)) != 0 || !st.GivenUpAt.IsZero() || st.Reached == 0 {
			t.Errorf("mended: %+v, %+v", st, w.dead(acme))
		}
	})
}

// The run ends before the function does, whatever deadline it is under, and leaves the time to send the message again.
func TestTheRunIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		deadline, limit, want time.Duration
	}{
		"no deadline":       {0, 0, 50 * time.Second},
		"the platform's":    {time.Minute, 0, 50 * time.Second},
		"a shorter one":     {30 * time.Second, 0, 20 * time.Second},
		"hardly any":        {4 * time.Second, 0, 2 * time.Second},
		"its own":           {time.Minute, 5 * time.Second, 5 * time.Second},
		"its own, too long": {time.Minute, time.Hour, 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newPlain(t)
				w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
				q.handle = func(sync.Message) error { return nil }
				w.cluster(0).be(hangs)
				ctx, began := t.Context(), time.Now()
				if tt.deadline > 0 {
					var done context.CancelFunc
					ctx, done = context.WithTimeout(ctx, tt.deadline)
					defer done()
				}
				err := handler.Handle(ctx, handler.Deps{Sync: w.Sync, Queue: q, Now: clock, Limit: tt.limit}, sync.Message{Tenant: acme, Cluster: w.ids[0]})
				if sent, _ := q.counts(); err != nil || time.Since(began) != tt.want || sent != 1 || w.status(0).Tries != 1 {
					t.Errorf("%v after %s, want %s; %d messages, %+v", err, time.Since(began), tt.want, sent, w.status(0))
				}
			})
		})
	}
}

// A process that is told to end says nothing about the cluster: the message stays, and nothing is counted.
func TestShutdownCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(t)
		w := newWorld(t, 1, func(store.DB) sync.Queue { return q })
		w.cluster(0).be(hangs)
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		err := handler.Handle(ctx, handler.Deps{Sync: w.Sync, Queue: q, Now: clock}, sync.Message{Tenant: acme, Cluster: w.ids[0]})
		if sent, _ := q.counts(); !errors.Is(err, core.Unavailable) || sent != 0 || w.status(0).Tries != 0 {
			t.Errorf("%v, %d messages, %+v", err, sent, w.status(0))
		}
	})
}
