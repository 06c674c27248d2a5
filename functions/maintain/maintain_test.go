package maintain_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions/maintain"
)

const acme core.TenantID = "acme"

// queue keeps what is sent.
type queue struct {
	mu       gosync.Mutex
	messages []sync.Message
	broken   error
}

func (q *queue) Send(_ context.Context, m ...sync.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken != nil {
		return q.broken
	}
	q.messages = append(q.messages, m...)
	return nil
}

func (q *queue) take() []sync.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.messages
	q.messages = nil
	return m
}

type world struct {
	maintain.Deps
	queue *queue
	admin core.Actor
	logs  bytes.Buffer

	mu  gosync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), queue: &queue{}}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewRing(db, wrapper, w.clock)
	w.Deps = maintain.Deps{
		DB:     db,
		Org:    &org.Service{DB: db, Ring: ring, Now: w.clock},
		Access: &access.Service{DB: db, Now: w.clock},
		Ring:   ring,
		Sync:   &sync.Service{DB: db, Now: w.clock},
		Queue:  w.queue,
		Log:    slog.New(slog.NewJSONHandler(&w.logs, nil)),
	}
	if _, err := w.Org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, acme)
	w.admin = core.Actor{Tenant: acme, Subject: core.UserSubject("ada@example.com")}
	return w
}

func (w *world) tenant(t *testing.T, id core.TenantID) {
	t.Helper()
	operator := core.Actor{Tenant: core.SystemTenant, Subject: core.UserSubject("op@example.com")}
	if _, err := w.Org.CreateTenant(t.Context(), operator, string(id), "A tenant"); err != nil {
		t.Fatal(err)
	}
}

func (w *world) cluster(t *testing.T, name string) org.Scope {
	t.Helper()
	sc, err := w.Org.CreateCluster(t.Context(), w.admin, acme, name, org.Reach{Server: "https://" + name + ".example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func (w *world) rule(t *testing.T, scope core.ScopeID, expires time.Time) core.Rule {
	t.Helper()
	roles := policy.Roles()
	made, err := w.Access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("grace@example.com"), Role: roles[len(roles)-1].ID, Scope: scope, ExpiresAt: expires})
	if err != nil {
		t.Fatal(err)
	}
	return made[0]
}

func (w *world) run(t *testing.T) {
	t.Helper()
	if err := maintain.Handle(t.Context(), w.Deps, w.clock()); err != nil {
		t.Fatal(err)
	}
}

// jobs is what is in the index for a tenant, by kind.
func (w *world) jobs(t *testing.T, tenant core.TenantID) map[due.Kind][]time.Time {
	t.Helper()
	out := map[due.Kind][]time.Time{}
	for rec, err := range due.List(t.Context(), w.DB, w.clock().AddDate(10, 0, 0)) {
		if err != nil {
			t.Fatal(err)
		}
		if j := rec.Value; j.Tenant == tenant {
			out[j.Kind] = append(out[j.Kind], j.At)
		}
	}
	return out
}

func TestRuleExpiresOnTime(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.cluster(t, "one"), w.cluster(t, "two")
	in := w.clock().Add(90 * time.Second)
	local, everywhere, lasting := w.rule(t, one.ID, in), w.rule(t, core.AccountScope(acme), in), w.rule(t, two.ID, time.Time{})

	w.run(t) // not before the next run: nothing to do
	if m := w.queue.take(); len(m) != 0 {
		t.Errorf("90 s before: sent %v", m)
	}
	w.pass(time.Minute)
	w.run(t) // it expires before the next run: the clusters are looked at in that very second
	got := map[core.ClusterID]int{}
	for _, m := range w.queue.take() {
		if !m.NotBefore.Equal(in) {
			t.Errorf("sent %+v, want not before %v", m, in)
		}
		got[m.Cluster]++
	}
	if got[one.Cluster] != 1 || got[two.Cluster] != 1 {
		t.Errorf("sent to %v, want each cluster once: both rules end in one second", got)
	}
	for _, r := range []core.Rule{local, everywhere} {
		if _, err := w.Access.Get(ctx, acme, r.ID); err != nil {
			t.Errorf("before its time rule %d is gone: %v", r.ID, err)
		}
	}
	w.pass(time.Minute)
	w.run(t)
	for _, r := range []core.Rule{local, everywhere} {
		if _, err := w.Access.Get(ctx, acme, r.ID); !errors.Is(err, core.NotFound) {
			t.Errorf("after its time rule %d is there: %v", r.ID, err)
		}
	}
	if _, err := w.Access.Get(ctx, acme, lasting.ID); err != nil {
		t.Errorf("the rule without an end: %v", err)
	}
	if left := w.jobs(t, acme)[due.RuleExpiry]; len(left) != 0 {
		t.Errorf("left in the index: %v", left)
	}
}

// However many rules end in a second, each cluster is sent one message for it; a rule that was taken away sends none.
func TestRulesThatEndTogether(t *testing.T) {
	w := newWorld(t)
	one, two, idle := w.cluster(t, "one"), w.cluster(t, "two"), w.cluster(t, "idle")
	soon := w.clock().Add(30 * time.Second)
	for i := range 120 { // more than one read of the store takes
		name := fmt.Sprintf("p%d", i)
		p, err := w.Org.CreateProject(t.Context(), w.admin, acme, org.NewProject{Name: name, Parent: one.ID})
		if err != nil {
			t.Fatal(err)
		}
		w.rule(t, p.ID, soon)
	}
	w.rule(t, two.ID, soon)
	w.rule(t, two.ID, soon.Add(time.Second))
	w.rule(t, idle.ID, soon)
	if _, err := w.Access.DeleteAllAt(t.Context(), w.admin, idle.ID); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	var got []string
	for _, m := range w.queue.take() {
		got = append(got, fmt.Sprint(m.Cluster == one.Cluster, m.Cluster == two.Cluster, m.NotBefore.Sub(soon)))
	}
	slices.Sort(got)
	if want := []string{"false true 0s", "false true 1s", "true false 0s"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	// A rule of the account ends in all of them.
	w.rule(t, core.AccountScope(acme), soon)
	w.run(t)
	if m := w.queue.take(); len(m) != 4 {
		t.Errorf("sent %v, want each of three clusters in that second, and one in the next", m)
	}
}

// However many rules end before the next run, every cluster in which one does is looked at on time.
func TestMoreRulesEndThanAreLookedAt(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	soon := w.clock().Add(30 * time.Second)
	var ops []store.Op
	for i := range 5000 { // of rules that were taken away since
		op, err := due.Op(due.Job{Kind: due.RuleExpiry, Tenant: acme, Ref: strconv.Itoa(1_000_000 + i), At: soon})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	for chunk := range slices.Chunk(ops, store.MaxOps) {
		if err := w.DB.Commit(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
	w.rule(t, c.ID, soon.Add(time.Second))
	w.run(t)
	if m := w.queue.take(); len(m) != 1 || m[0].Cluster != c.Cluster || !m[0].NotBefore.Equal(soon.Add(time.Second)) {
		t.Errorf("sent %v", m)
	}
}

// stuck is a store in which one tenant's reads do not come to an end.
type stuck struct {
	store.DB
	tenant core.TenantID
}

func (s stuck) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if keys[0].Tenant() == s.tenant {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.DB.Get(ctx, keys...)
}

// One tenant whose rules end by the hundred, and slowly, holds up no other tenant.
func TestTenantsDoNotWaitForEachOther(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	for i := range 50 {
		p, err := w.Org.CreateProject(t.Context(), w.admin, acme, org.NewProject{Name: fmt.Sprintf("p%d", i), Parent: c.ID})
		if err != nil {
			t.Fatal(err)
		}
		w.rule(t, p.ID, w.clock().Add(time.Second+time.Duration(i)*time.Second))
	}
	var others []core.TenantID
	for i := range 40 { // in every shard, and more than are worked for at once
		others = append(others, core.TenantID(fmt.Sprintf("tenant%d", i)))
		w.tenant(t, others[i])
	}
	w.pass(50 * time.Second)
	real := w.DB
	slow := stuck{real, acme}
	w.DB, w.Org.DB, w.Access.DB = slow, slow, slow
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	ended := make(chan error, 1)
	w.pass(10 * time.Second)
	go func() { ended <- maintain.Handle(ctx, w.Deps, w.clock()) }()
	sealed := func() (n int) {
		for rec, err := range due.List(t.Context(), real, w.clock().Add(time.Second)) {
			if err != nil {
				t.Fatal(err)
			}
			if rec.Value.Kind == due.Seal && rec.Value.Tenant != acme {
				n++
			}
		}
		return len(others) + 1 - n
	}
	for sealed() < len(others)+1 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if n := sealed(); n < len(others)+1 {
		t.Errorf("%d of %d other tenants were served", n, len(others)+1)
	}
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "acme") {
		t.Errorf("the tenant that is stuck: %v", err)
	}
}

// panics is a store in which whatever is read of one tenant brings the reader down.
type panics struct {
	store.DB
	tenant core.TenantID
}

func (p panics) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if keys[0].Tenant() == p.tenant {
		panic("CANARY-PANIC")
	}
	return p.DB.Get(ctx, keys...)
}

// A job that panics fails alone, and what the panic quotes is not told.
func TestAPanicIsOneJobs(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "bold")
	real := w.DB
	bad := panics{real, acme}
	w.pass(time.Minute)
	w.DB, w.Org.DB, w.Access.DB = bad, bad, bad
	if err := maintain.Handle(t.Context(), w.Deps, w.clock()); err == nil || strings.Contains(err.Error()+w.logs.String(), "CANARY") {
		t.Errorf("%v", err)
	}
	w.DB, w.Org.DB, w.Access.DB = real, real, real
	if r, err := audit.Verify(t.Context(), real, "bold"); err != nil || r.Sealed == 0 {
		t.Errorf("the other tenant: %+v, %v", r, err)
	}
	if jobs := w.jobs(t, acme); len(jobs[due.Seal]) != 1 {
		t.Errorf("the index holds %v", jobs)
	}
}

// A tenant gets no more than its budget in one run, gets on in every run, and what is not about its many rules comes first.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	w.Budget = time.Nanosecond // one job in each run
	c := w.cluster(t, "one")
	for i := range 3 {
		w.rule(t, c.ID, w.clock().Add(time.Duration(i+1)*time.Second))
	}
	w.pass(time.Hour)
	begin := len(w.jobs(t, acme)[due.RuleExpiry])
	w.run(t)
	if n := len(w.jobs(t, acme)[due.RuleExpiry]); n != begin {
		t.Errorf("%d rules left of %d: they came before the tenant's other jobs", n, begin)
	}
	if !strings.Contains(w.logs.String(), "more to do than fits") {
		t.Error("nothing in the log")
	}
	for range 8 {
		w.run(t)
	}
	if left := w.jobs(t, acme)[due.RuleExpiry]; len(left) != 0 {
		t.Errorf("left in the index: %v", left)
	}
}

func TestReconcileComesBack(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	sent := 0
	for range 31 {
		w.run(t)
		for _, m := range w.queue.take() {
			if m.Cluster != c.Cluster || m.Tenant != acme || !m.Full {
				t.Errorf("sent %+v", m)
			}
			sent++
		}
		w.pass(time.Minute)
	}
	if sent != 3 {
		t.Errorf("%d reconciles in half an hour, want 3", sent)
	}
	if n := len(w.jobs(t, acme)[due.Reconcile]); n != 1 {
		t.Errorf("%d reconciles scheduled, want 1", n)
	}
	// After a long stand-still one reconcile makes up for all.
	w.pass(24 * time.Hour)
	w.run(t)
	if m := w.queue.take(); len(m) != 1 {
		t.Errorf("after a day: sent %v", m)
	}
}

func TestSealEachMinute(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.pass(time.Minute)
	w.run(t)
	r, err := audit.Verify(ctx, w.DB, acme)
	if err != nil || r.Sealed == 0 || r.Unsealed != 0 || r.Fault != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if !strings.Contains(w.logs.String(), r.Head.Hash) {
		t.Error("the head of the chain is not in the log")
	}
	for range 5 {
		w.cluster(t, "c"+core.NewID())
		w.pass(time.Minute)
		w.run(t)
		if r, err := audit.Verify(ctx, w.DB, acme); err != nil || r.Unsealed != 0 || r.Fault != nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if at := w.jobs(t, acme)[due.Seal]; len(at) != 1 || !at[0].Equal(w.clock().Add(time.Minute)) {
		t.Errorf("the next seal is at %v", at)
	}
}

func TestKeysRotate(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	before, err := w.Ring.Signer(ctx, acme, keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(keys.DefaultPeriod)
	w.run(t)
	w.pass(keys.PublishBefore + keys.CacheTTL)
	w.run(t)
	after, err := w.Ring.Signer(ctx, acme, keys.ES256)
	if err != nil || after.ID == before.ID {
		t.Errorf("the key after a period is %s, %v; want another", after.ID, err)
	}
	if n := len(w.jobs(t, acme)[due.KeyRotation]); n != 1 {
		t.Errorf("%d rotations scheduled, want 1", n)
	}
}

// One job that fails does not keep the others, stays in the index, and is carried out when it can be.
func TestJobsFailAlone(t *testing.T) {
	w := newWorld(t)
	w.cluster(t, "one")
	op, err := due.Op(due.Job{Kind: "from-the-future", Tenant: acme, At: w.clock()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	w.pass(org.ReconcileEvery)
	w.queue.broken = fmt.Errorf("queue: %w", core.Unavailable)
	err = maintain.Handle(t.Context(), w.Deps, w.clock())
	if err == nil || !strings.Contains(err.Error(), "2 jobs failed") {
		t.Errorf("got %v, want two failures", err)
	}
	if r, err := audit.Verify(t.Context(), w.DB, acme); err != nil || r.Sealed == 0 {
		t.Errorf("the seal was kept from its work: %+v, %v", r, err)
	}
	w.queue.broken = nil
	if err := maintain.Handle(t.Context(), w.Deps, w.clock()); err == nil || !strings.Contains(err.Error(), "1 jobs failed") {
		t.Errorf("got %v, want one failure", err)
	}
	if m := w.queue.take(); len(m) != 1 {
		t.Errorf("sent %v", m)
	}
	if jobs := w.jobs(t, acme); len(jobs["from-the-future"]) != 1 || len(jobs[due.Reconcile]) != 1 {
		t.Errorf("the index holds %v", jobs)
	}
}

// A store that fails now and then loses no job.
func TestNothingIsLost(t *testing.T) {
	w := newWorld(t)
	real := w.DB
	var rules []core.Rule
	c := w.cluster(t, "one")
	for i := range 10 {
		p, err := w.Org.CreateProject(t.Context(), w.admin, acme, org.NewProject{Name: fmt.Sprintf("p%d", i), Parent: c.ID})
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, w.rule(t, p.ID, w.clock().Add(time.Second)))
	}
	w.pass(time.Hour)
	faulty := &storetest.Faulty{DB: real, Plan: storetest.RandomFaults(1, 0.2)}
	w.DB, w.Org.DB, w.Access.DB, w.Ring.DB = faulty, faulty, faulty, faulty
	w.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	for range 10 {
		maintain.Handle(t.Context(), w.Deps, w.clock())
	}
	w.DB, w.Org.DB, w.Access.DB, w.Ring.DB = real, real, real, real
	w.run(t)
	w.pass(time.Minute)
	w.run(t)
	for _, r := range rules {
		if _, err := w.Access.Get(t.Context(), acme, r.ID); !errors.Is(err, core.NotFound) {
			t.Errorf("rule %d: %v", r.ID, err)
		}
	}
	jobs := w.jobs(t, acme)
	if len(jobs[due.RuleExpiry]) != 0 || len(jobs[due.Seal]) != 1 || len(jobs[due.Reconcile]) != 1 || len(jobs[due.KeyRotation]) != 1 {
		t.Errorf("the index holds %v", jobs)
	}
	if r, err := audit.Verify(t.Context(), real, acme); err != nil || r.Fault != nil || r.Unsealed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Several instances at once do everything once.
func TestAtOnce(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	for _, tenant := range []core.TenantID{"bold", "cosy", "dull"} {
		w.tenant(t, tenant)
	}
	rule := w.rule(t, c.ID, w.clock().Add(time.Second))
	w.pass(time.Hour)
	var all gosync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := maintain.Handle(t.Context(), w.Deps, w.clock()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.pass(time.Minute) // what the first run recorded itself is sealed by the second
	w.run(t)
	for _, tenant := range []core.TenantID{"system", acme, "bold", "cosy", "dull"} {
		if jobs := w.jobs(t, tenant); len(jobs[due.Seal]) != 1 || len(jobs[due.KeyRotation]) != 1 {
			t.Errorf("tenant %s: %v", tenant, jobs)
		}
		if r, err := audit.Verify(t.Context(), w.DB, tenant); err != nil || r.Fault != nil || r.Unsealed != 0 {
			t.Errorf("tenant %s: %+v, %v", tenant, r, err)
		}
	}
	deleted := 0
	for r, err := range audit.List(t.Context(), w.DB, acme, time.Time{}, time.Time{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Action == audit.Delete && r.EntityType == audit.EntityAccessRule {
			deleted++
		}
	}
	if deleted != 1 {
		t.Errorf("rule %d was taken away %d times", rule.ID, deleted)
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	d, err := w.Org.CreateDepartment(ctx, w.admin, acme, c.Cluster, "dep")
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Org.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: d.ID})
	if err != nil {
		t.Fatal(err)
	}
	gone := []core.Rule{w.rule(t, d.ID, time.Time{}), w.rule(t, p.ID, time.Time{})}
	kept := w.rule(t, c.ID, time.Time{})
	if err := w.Org.DeleteScope(ctx, w.admin, acme, d.ID, true); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	for _, r := range gone {
		if _, err := w.Access.Get(ctx, acme, r.ID); !errors.Is(err, core.NotFound) {
			t.Errorf("rule %d: %v", r.ID, err)
		}
	}
	if _, err := w.Access.Get(ctx, acme, kept.ID); err != nil {
		t.Errorf("the rule above: %v", err)
	}
	for _, id := range []core.ScopeID{d.ID, p.ID} {
		if items, err := w.DB.Get(ctx, store.Scope(acme, id)); err != nil || items[0].Version != 0 {
			t.Errorf("%s is left, %v", id, err)
		}
	}
	if left := w.jobs(t, acme)[due.Sweep]; len(left) != 0 {
		t.Errorf("left in the index: %v", left)
	}
}

// A deleted cluster keeps the record of how it is reached until our objects are out of it, or for a week at most.
func TestSweepOfACluster(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	there := func() bool {
		items, err := w.DB.Get(ctx, store.Scope(acme, c.ID))
		if err != nil {
			t.Fatal(err)
		}
		return items[0].Version != 0
	}
	status := func(s sync.Status) {
		t.Helper()
		items, err := w.DB.Get(ctx, store.Sync(acme, c.Cluster))
		if err != nil {
			t.Fatal(err)
		}
		op, err := store.Table[sync.Status]{}.Put(items[0].Key, items[0].Version, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DB.Commit(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	status(sync.Status{TriedAt: w.clock(), Reached: 2, Counts: sync.Counts{Bindings: 3}})
	w.pass(time.Second)
	if err := w.Org.DeleteScope(ctx, w.admin, acme, c.ID, false); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	if m := w.queue.take(); !there() || len(m) != 1 || m[0].Cluster != c.Cluster || !m[0].Full {
		t.Errorf("before it is clean: there %t, sent %v", there(), m)
	}
	w.pass(time.Minute)
	status(sync.Status{TriedAt: w.clock(), FullAt: w.clock(), Reached: 3})
	w.run(t)
	if there() || len(w.jobs(t, acme)[due.Sweep]) != 0 {
		t.Error("after it is clean it is still there")
	}
	if items, err := w.DB.Get(ctx, store.Sync(acme, c.Cluster)); err != nil || items[0].Version != 0 {
		t.Errorf("its synchronization is left: %v", err)
	}

	c = w.cluster(t, "two")
	status(sync.Status{TriedAt: w.clock(), Reached: 2, Counts: sync.Counts{Bindings: 3}})
	if err := w.Org.DeleteScope(ctx, w.admin, acme, c.ID, false); err != nil {
		t.Fatal(err)
	}
	w.pass(7 * 24 * time.Hour)
	w.run(t)
	if !there() {
		t.Error("a cluster that does not answer is given up before its time")
	}
	w.pass(time.Minute)
	w.run(t)
	if there() {
		t.Error("a cluster that does not answer is never given up")
	}
}

// TEN-017: an erased tenant's data goes after the grace, and its jobs with it.
func TestErase(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.tenant(t, "bold")
	c := w.cluster(t, "one")
	w.rule(t, c.ID, w.clock().Add(30*time.Minute))
	operator := core.Actor{Tenant: core.SystemTenant, Subject: core.UserSubject("op@example.com")}
	if err := w.Org.Erase(ctx, operator, acme); err != nil {
		t.Fatal(err)
	}
	for range 59 {
		w.run(t)
		w.pass(time.Minute)
	}
	if m := w.queue.take(); len(m) == 0 {
		t.Error("within the grace its clusters are not cleaned")
	}
	if _, err := w.Org.Tenant(ctx, acme); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	for range 3 {
		w.pass(time.Minute)
		w.run(t)
	}
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.DB.List(ctx, r) {
			t.Errorf("left: %s, %v", it.Key, err)
		}
	}
	w.pass(keys.DefaultPeriod)
	w.run(t)
	if jobs := w.jobs(t, acme); len(jobs) != 0 {
		t.Errorf("its jobs are left: %v", jobs)
	}
	if jobs := w.jobs(t, "bold"); len(jobs[due.Seal]) != 1 {
		t.Errorf("the other tenant's jobs: %v", jobs)
	}
}

// A suspended tenant's log is sealed, its keys rotate and its rules expire: it may be resumed any day.
func TestSuspended(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	r := w.rule(t, c.ID, w.clock().Add(time.Second))
	if err := w.Org.Suspend(ctx, w.admin, acme); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	w.run(t)
	w.pass(time.Minute)
	w.run(t)
	if _, err := w.Access.Get(ctx, acme, r.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("the rule: %v", err)
	}
	if rep, err := audit.Verify(ctx, w.DB, acme); err != nil || rep.Unsealed != 0 || rep.Fault != nil {
		t.Errorf("%+v, %v", rep, err)
	}
}

// An idle minute costs little: the index, and per tenant a look at what is new.
func TestRoundTripsOfAnIdleMinute(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	w.pass(time.Minute)
	w.run(t)
	w.pass(time.Minute)
	counter := &storetest.Counter{DB: w.DB}
	w.DB, w.Org.DB = counter, counter
	w.run(t)
	// Whether there are operators; four shards; for each of two tenants its state, the end of the chain, the inbox, and the
	// next date.
	if n := counter.Counts().RoundTrips(); n > 1+store.DueShards+2*4 {
		t.Errorf("%d round trips: %+v", n, counter.Counts())
	}
}

// Every partition that store/keys.go names under a tenant is among those that erasing empties.
func TestErasingKnowsEveryPartition(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../core/store/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var erased []string
	for _, r := range store.PartitionsOf(acme) {
		_, name, _ := strings.Cut(r.Partition(), "\x1f")
		erased = append(erased, name)
	}
	named := 0
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "key" && f.Name != "all" && f.Name != "under" {
			return true
		}
		if who, ok := call.Args[0].(*ast.Ident); !ok || who.Name != "t" {
			return true // the system tenant's own
		}
		lit, ok := call.Args[1].(*ast.BasicLit)
		if !ok {
			return true // named after a cluster too
		}
		name, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		named++
		if name != "meta" && !slices.Contains(erased, name) {
			t.Errorf("erasing forgets partition %q: add it to store.PartitionsOf", name)
		}
		return true
	})
	if named < 20 {
		t.Errorf("found %d partitions in keys.go: this test reads it wrongly", named)
	}
}

// A reconcile that falls due before the next run is asked for at its very time, and the next one ten minutes after that, not
// after the run.
func TestReconcileKeepsItsTime(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	due0 := w.jobs(t, acme)[due.Reconcile][0]
	w.pass(due0.Sub(w.clock()) - 40*time.Second)
	w.run(t)
	if m := w.queue.take(); len(m) != 1 || m[0].Cluster != c.Cluster || !m[0].NotBefore.Equal(due0) {
		t.Errorf("40 s before %s: sent %+v", due0, m)
	}
	if next := w.jobs(t, acme)[due.Reconcile]; len(next) != 1 || !next[0].Equal(due0.Add(org.ReconcileEvery)) {
		t.Errorf("the next is at %v, want %s", next, due0.Add(org.ReconcileEvery))
	}
	late := due0.Add(org.ReconcileEvery + 7*time.Minute) // a stand-still: not two in short order
	w.pass(late.Sub(w.clock()))
	w.run(t)
	if next := w.jobs(t, acme)[due.Reconcile]; len(next) != 1 || !next[0].Equal(late.Add(org.ReconcileEvery)) {
		t.Errorf("after a stand-still the next is at %v, want %s", next, late.Add(org.ReconcileEvery))
	}
}

// That a cluster was found in line before it was deleted says nothing: what is ours is still there.
func TestSweepWaitsForALookAfterTheDeletion(t *testing.T) {
	for _, looked := range []time.Duration{-time.Minute, time.Minute} {
		w := newWorld(t)
		c := w.cluster(t, "one")
		deleted := w.clock().Add(2 * time.Minute)
		op, err := store.Table[sync.Status]{}.Put(store.Sync(acme, c.Cluster), 0, sync.Status{TriedAt: deleted.Add(looked), FullAt: deleted.Add(looked), Reached: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DB.Commit(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Minute)
		if err := w.Org.DeleteScope(t.Context(), w.admin, acme, c.ID, false); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Minute)
		w.run(t)
		items, err := w.DB.Get(t.Context(), store.Scope(acme, c.ID))
		if err != nil {
			t.Fatal(err)
		}
		if there, before := items[0].Version != 0, looked < 0; there != before || len(w.queue.take()) == 1 != before {
			t.Errorf("looked at %s after its deletion: it is there still: %t", looked, there)
		}
	}
}

// An end that is no whole second, as an older version may have noted, is looked at after it: the cluster would keep the rule
// before.
func TestEndsWithinASecond(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	end := w.clock().Add(30*time.Second + 400*time.Millisecond)
	op, err := due.Op(due.Job{Kind: due.RuleExpiry, Tenant: acme, Ref: fmt.Sprint(w.rule(t, c.ID, time.Time{}).ID), At: end})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	if m := w.queue.take(); len(m) != 1 || m[0].NotBefore.Before(end) || m[0].NotBefore.Sub(end) >= time.Second {
		t.Errorf("it ends at %s; sent %+v", end, m)
	}
}

// arrives is a store into which a tenant comes right after the first look at one of its keys.
type arrives struct {
	store.DB
	at  store.Key
	now func()
}

func (a *arrives) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	items, err := a.DB.Get(ctx, keys...)
	if a.now != nil && slices.Contains(keys, a.at) {
		now := a.now
		a.now = nil
		now()
	}
	return items, err
}

// Jobs of a tenant that is not there are dropped, but not those of one that arrives, or has arrived, while maintain looks.
func TestATenantArrivesMeanwhile(t *testing.T) {
	const entry = `{"id":"away","name":"Away","state":"%s","createdAt":"2026-03-01T12:00:00Z"}`
	arriving := fmt.Appendf(nil, strings.TrimSuffix(entry, "}")+`,"copy":{"id":"1","source":"x","began":"2026-03-01T12:00:00Z"}}`, "arriving")
	for name, tt := range map[string]struct {
		before, then string // the entry's state
		at           store.Key
		meta         bool
		kept         bool
	}{
		"was erased":                        {"erased", "erased", store.Meta("away"), false, false},
		"never was":                         {"", "", store.Meta("away"), false, false},
		"the copy ends after Meta is read":  {"arriving", "active", store.Meta("away"), true, true},
		"a copy begins after the entry is":  {"erased", "arriving", store.TenantEntry("away"), false, true},
		"a first copy begins after it":      {"", "arriving", store.TenantEntry("away"), false, true},
		"a copy ends after the entry is":    {"erased", "active", store.TenantEntry("away"), true, true},
		"a copy is under way all the while": {"arriving", "arriving", store.Meta("away"), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			real := w.DB
			put := func(k store.Key, body []byte) {
				t.Helper()
				items, err := real.Get(t.Context(), k)
				if err == nil {
					err = real.Commit(t.Context(), store.Put(k, items[0].Version, body))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			state := func(s string) {
				t.Helper()
				switch s {
				case "":
				case "arriving":
					put(store.TenantEntry("away"), arriving)
				default:
					put(store.TenantEntry("away"), fmt.Appendf(nil, entry, s))
				}
			}
			state(tt.before)
			op, err := due.Op(due.Job{Kind: due.KeyRotation, Tenant: "away", At: w.clock()})
			if err == nil {
				err = real.Commit(t.Context(), op)
			}
			if err != nil {
				t.Fatal(err)
			}
			hit := &arrives{real, tt.at, func() {
				state(tt.then)
				if tt.meta {
					put(store.Meta("away"), []byte(`{"id":"away","state":"active","revision":1}`))
				}
			}}
			w.DB, w.Org.DB = hit, hit
			w.run(t)
			if hit.now != nil {
				t.Fatal("nobody looked")
			}
			w.DB = real
			if kept := len(w.jobs(t, "away")[due.KeyRotation]) == 1; kept != tt.kept {
				t.Errorf("kept %v, want %v", kept, tt.kept)
			}
		})
	}
}
