package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/localdev/parts"
)

// pair is one database seen twice: through a proxy, and straight.
type pair struct {
	*testing.T
	proxy         *proxy
	through, past *firestore.DB
	bare          *firestore.DB // past the proxy, and not kept apart from others' commits
	raw           *apiv1.Client // what bare speaks through
	project       string
	mu            sync.Mutex
	used          []firestore.Usage
	tenant        core.TenantID
}

func newPair(t *testing.T) *pair {
	host := parts.NeedFirestore(t)
	p := &pair{T: t, proxy: newProxy(t, host), tenant: core.TenantID("t-" + core.NewID()[:16])}
	project := newProject(t, host)
	p.through = firestore.New(newClient(t, p.proxy.host), project, firestore.DefaultDatabase, firestore.Options{Used: func(u firestore.Usage) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.used = append(p.used, u)
	}})
	p.past = firestore.New(newClient(t, host), project, firestore.DefaultDatabase, firestore.Options{})
	client, err := apiv1.NewClient(t.Context(), option.WithEndpoint("passthrough:///"+host), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	p.bare = firestore.New(client, project, firestore.DefaultDatabase, firestore.Options{})
	p.project, p.raw = project, client
	return p
}

func (p *pair) key(name string) store.Key { return store.User(p.tenant, core.Email(name)) }

func (p *pair) commit(ops ...store.Op) {
	p.Helper()
	if err := p.past.Commit(p.Context(), ops...); err != nil {
		p.Fatal(err)
	}
}

func (p *pair) get(k store.Key) store.Item {
	p.Helper()
	items, err := p.past.Get(p.Context(), k)
	if err != nil {
		p.Fatal(err)
	}
	return items[0]
}

func (p *pair) make(name, body string) store.Item {
	p.Helper()
	p.commit(store.Put(p.key(name), 0, []byte(body)))
	return p.get(p.key(name))
}

// A commit that changes what is there is done once, whatever befalls its first try.
func TestCommitIsDoneOnceThroughAnyFault(t *testing.T) {
	p := newPair(t)
	for f := none; f < cut; f++ {
		was := p.make(fmt.Sprint("old", f), "0")
		p.proxy.set(once("Commit", f))
		new := p.key(fmt.Sprint("new", f))
		if err := p.through.Commit(t.Context(), store.Put(was.Key, was.Version, []byte("1")), store.Put(new, 0, nil)); err != nil {
			t.Errorf("fault %d: %v", f, err)
		}
		if a, b := p.get(was.Key), p.get(new); string(a.Body) != "1" || a.Version != b.Version || a.Version == was.Version {
			t.Errorf("fault %d: %+v, %+v", f, a, b)
		}
		if n := p.proxy.did[f]; n == 0 {
			t.Errorf("fault %d did not happen", f)
		}
	}
}

// What only makes new items is never made again: it is looked for.
func TestCreationsWithLostAnswers(t *testing.T) {
	p := newPair(t)
	for f, there := range map[fault]bool{dropAfter: true, late: true, abortedAfter: true, dropBefore: false, aborted: false, exhausted: true, second: true, calmed: true, calmedBefore: false} {
		k := p.key(fmt.Sprint("new", f))
		p.proxy.set(once("Commit", f))
		err := p.through.Commit(t.Context(), store.Put(k, 0, []byte("x")))
		if there != (err == nil) || !there && !errors.Is(err, core.Unavailable) || there != (p.get(k).Version != 0) {
			t.Errorf("fault %d: error %v, item %+v", f, err, p.get(k))
		}
	}
	// The twin: it is no success of ours where somebody else's item lies.
	k := p.key("theirs")
	p.proxy.set(once("Commit", dropBefore))
	p.make("theirs", "theirs")
	if err := p.through.Commit(t.Context(), store.Put(k, 0, []byte("ours"))); !errors.Is(err, core.Unavailable) {
		t.Errorf("error %v, want %q", err, string(core.Unavailable))
	}
	if err := p.through.Commit(t.Context(), store.Put(k, 0, []byte("ours"))); !errors.Is(err, core.Conflict) {
		t.Errorf("error %v, want %q", err, string(core.Conflict))
	}
}

// Where nobody can tell whether a commit happened, the error says so.
func TestUnknownOutcomes(t *testing.T) {
	p := newPair(t)
	// theirs is what somebody else writes while our commit is under way.
	theirs := func(it store.Item) {
		items, err := p.bare.Get(t.Context(), it.Key)
		if err == nil {
			err = p.bare.Commit(t.Context(), store.Put(it.Key, items[0].Version, []byte("theirs")))
		}
		if err != nil {
			t.Error(err)
		}
	}
	for name, tt := range map[string]struct {
		fault     fault
		op        func(store.Item) store.Op
		meanwhile func(store.Item)
		want      core.Kind
	}{
		"applied, then overwritten": {dropAfter,
			func(it store.Item) store.Op { return store.Put(it.Key, it.Version, []byte("ours")) },
			theirs, core.Unavailable},
		"deleted, by us or by somebody": {dropAfter,
			func(it store.Item) store.Op { return store.Delete(it.Key, it.Version) }, func(store.Item) {}, core.Unavailable},
		"applied, reset by something between, then overwritten": {calmed,
			func(it store.Item) store.Op { return store.Put(it.Key, it.Version, []byte("ours")) },
			theirs, core.Unavailable},
		"somebody was first": {aborted,
			func(it store.Item) store.Op { return store.Put(it.Key, it.Version, []byte("ours")) },
			theirs, core.Conflict},
		"somebody was first at a check": {dropAfter,
			func(it store.Item) store.Op { return store.Check(it.Key, it.Version) },
			theirs, core.Conflict},
	} {
		it := p.make(name, "old")
		if tt.fault == dropAfter || tt.fault == calmed {
			p.proxy.set(once("Commit", tt.fault))
			p.proxy.hook = func() { tt.meanwhile(it) }
		} else {
			first := once("Commit", tt.fault)
			p.proxy.set(func(m string, r []byte) fault {
				f := first(m, r)
				if f != none {
					tt.meanwhile(it)
				}
				return f
			})
		}
		if err := p.through.Commit(t.Context(), tt.op(it)); !errors.Is(err, tt.want) || tt.want == core.Unavailable && errors.Is(err, core.Conflict) {
			t.Errorf("%s: error %v, want %q", name, err, string(tt.want))
		}
	}
}

// A creation that something between reset, and that somebody undid before it could be made again, stays undone.
func TestResetIsNoQuota(t *testing.T) {
	p := newPair(t)
	k := p.key("code")
	p.proxy.set(once("Commit", calmed))
	p.proxy.hook = func() {
		items, err := p.bare.Get(t.Context(), k)
		if err == nil {
			err = p.bare.Commit(t.Context(), store.Delete(k, items[0].Version))
		}
		if err != nil {
			t.Error(err)
		}
	}
	if err := p.through.Commit(t.Context(), store.Put(k, 0, []byte("x"))); !errors.Is(err, core.Unavailable) {
		t.Errorf("error %v, want %q", err, string(core.Unavailable))
	}
	if it := p.get(k); it.Version != 0 {
		t.Errorf("what was undone is there again: %+v", it)
	}
}

// A try was lost. That the item it changes is as expected still, and another that it expects is not, shows that it was not
// applied and never will be: a conflict. As long as only the one is known, nobody can tell.
func TestLostAndNeverApplied(t *testing.T) {
	p := newPair(t)
	for name, op := range map[string]func(store.Item) store.Op{
		"check":  func(it store.Item) store.Op { return store.Check(it.Key, it.Version) },
		"delete": func(it store.Item) store.Op { return store.Delete(it.Key, it.Version) },
	} {
		still, gone := p.make("still "+name, "old"), p.make("gone "+name, "old")
		lose := once("Commit", dropBefore)
		p.proxy.set(func(method string, request []byte) fault {
			f := lose(method, request)
			if f != none {
				if err := p.bare.Commit(t.Context(), store.Delete(gone.Key, gone.Version)); err != nil {
					t.Error(err)
				}
			}
			return f
		})
		if err := p.through.Commit(t.Context(), store.Put(still.Key, still.Version, []byte("new")), op(gone)); !errors.Is(err, core.Conflict) {
			t.Errorf("%s: error %v, want %q", name, err, string(core.Conflict))
		}
		if it := p.get(still.Key); it.Version != still.Version {
			t.Errorf("%s: a conflict that happened all the same: %+v", name, it)
		}
	}
}

// An expired document lies where something new is to be. It is looked at, and then the TTL policy removes it, before the commit
// is made again over it.
func TestExpiredDocumentRemovedMeanwhile(t *testing.T) {
	p := newPair(t)
	expiry := time.Now().Add(-time.Hour)
	before := firestore.New(p.raw, p.project, firestore.DefaultDatabase, firestore.Options{Now: func() time.Time { return expiry.Add(-time.Hour) }})
	k := p.key("expired")
	if err := before.Commit(t.Context(), store.Put(k, 0, []byte("old")).Until(expiry)); err != nil {
		t.Fatal(err)
	}
	items, err := before.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	commits := 0
	p.proxy.set(func(method string, _ []byte) fault {
		if method == "Commit" {
			if commits++; commits == 2 {
				if err := before.Commit(t.Context(), store.Delete(k, items[0].Version)); err != nil {
					t.Error(err)
				}
			}
		}
		return none
	})
	if err := p.through.Commit(t.Context(), store.Put(k, 0, []byte("new"))); err != nil {
		t.Error(err)
	}
	if it := p.get(k); string(it.Body) != "new" || commits != 3 {
		t.Errorf("after %d tries: %+v", commits, it)
	}
}

// A creation is never made again, so it does not fail for want of a connection either: it waits for one.
func TestCreationWaitsForTheServer(t *testing.T) {
	p := newPair(t)
	p.proxy.server.Stop() // nothing listens there now
	through := firestore.New(newClient(t, p.proxy.host), p.project, firestore.DefaultDatabase, firestore.Options{})
	server := p.proxy.newServer()
	t.Cleanup(server.Stop)
	time.AfterFunc(200*time.Millisecond, func() {
		l, err := net.Listen("tcp", p.proxy.host)
		if err != nil {
			t.Error(err)
			return
		}
		server.Serve(l)
	})
	if err := through.Commit(t.Context(), store.Put(p.key("a"), 0, []byte("x"))); err != nil {
		t.Error(err)
	}
	if it := p.get(p.key("a")); string(it.Body) != "x" {
		t.Errorf("%+v", it)
	}
}

// A line too slow for a page gets smaller ones until they fit, and is not asked for large ones again.
func TestSlowLineGetsOn(t *testing.T) {
	p := newPair(t)
	var ops []store.Op
	for i := range 100 {
		ops = append(ops, store.Put(p.key(fmt.Sprintf("u%02d", i)), 0, nil))
	}
	p.commit(ops...)
	const fits = 40
	var asked []int32
	p.proxy.set(func(method string, request []byte) fault {
		var q pb.RunQueryRequest
		if err := proto.Unmarshal(request, &q); method != "RunQuery" || err != nil {
			return none
		}
		limit := q.GetStructuredQuery().GetLimit().GetValue()
		if asked = append(asked, limit); limit > fits {
			return late
		}
		return none
	})
	n := 0
	for it, err := range p.through.List(t.Context(), store.Users(p.tenant)) {
		if err != nil {
			t.Fatalf("after %d items, asked for %v: %v", n, asked, err)
		}
		if want := ops[n].Key; it.Key != want {
			t.Fatalf("listed %s, want %s", it.Key, want)
		}
		n++
	}
	if want := []int32{128, 64, 32, 32, 32, 32}; n != len(ops) || !slices.Equal(asked, want) {
		t.Errorf("listed %d of %d, asked for %v, want %v", n, len(ops), asked, want)
	}
	// Other failures are no sign of a slow line.
	asked = nil
	lose := once("RunQuery", dropBefore)
	p.proxy.set(func(method string, request []byte) fault {
		var q pb.RunQueryRequest
		if err := proto.Unmarshal(request, &q); method == "RunQuery" && err == nil {
			asked = append(asked, q.GetStructuredQuery().GetLimit().GetValue())
		}
		return lose(method, request)
	})
	for _, err := range p.through.List(t.Context(), store.Users(p.tenant)) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []int32{128, 128}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

// A stream that ends early is an error, or read again: it is never an absence.
func TestCutStreams(t *testing.T) {
	p := newPair(t)
	var keys []store.Key
	var ops []store.Op
	for i := range 40 {
		keys = append(keys, p.key(fmt.Sprintf("u%02d", i)))
		ops = append(ops, store.Put(keys[i], 0, []byte("x")))
	}
	p.commit(ops...)
	through := firestore.New(newClient(t, p.proxy.host), p.project, firestore.DefaultDatabase, firestore.Options{Attempts: 3})
	list := func() (n int, err error) {
		for _, err := range through.List(t.Context(), store.Users(p.tenant)) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	for _, f := range []fault{cut, cutWell} {
		p.proxy.set(once("BatchGetDocuments", f))
		items, err := through.Get(t.Context(), keys...)
		if err != nil || len(items) != 40 || items[39].Version == 0 {
			t.Errorf("fault %d: %d items, error %v", f, len(items), err)
		}
		p.proxy.set(once("RunQuery", f))
		if n, err := list(); n != 40 || err != nil {
			t.Errorf("fault %d: listed %d, error %v", f, n, err)
		}
		if p.proxy.did[f] != 2 {
			t.Errorf("fault %d happened %d times", f, p.proxy.did[f])
		}
		p.proxy.set(always("BatchGetDocuments", f))
		if items, err := through.Get(t.Context(), keys...); !errors.Is(err, core.Unavailable) {
			t.Errorf("fault %d, always: %d items, error %v", f, len(items), err)
		}
		p.proxy.set(always("RunQuery", f))
		// Of a page that ends too early, what came is true, and the rest is asked for: the last item alone never comes.
		if n, err := list(); !errors.Is(err, core.Unavailable) || n == 40 {
			t.Errorf("fault %d, always: listed %d, error %v", f, n, err)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	p := newPair(t)
	it := p.make("a", "0")
	p.proxy.set(func(string, []byte) fault { return dropBefore })
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the caller has left")
	cancel(why)
	if err := p.through.Commit(ctx, store.Put(it.Key, it.Version, nil)); !errors.Is(err, core.Unavailable) || !errors.Is(err, why) {
		t.Errorf("commit: %v", err)
	}
	if _, err := p.through.Get(ctx, it.Key); !errors.Is(err, core.Unavailable) || !errors.Is(err, why) {
		t.Errorf("get: %v", err)
	}
}

// Writers through a proxy that does everything a network does: each increment counts once.
func TestCounterThroughFaults(t *testing.T) {
	p := newPair(t)
	const writers, rounds = 6, 12
	counter := p.key("counter")
	p.commit(store.Put(counter, 0, []byte("0")))
	p.proxy.set(randomly(t, 0.15))
	var wg sync.WaitGroup
	var lost sync.Map
	for w := range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				items, err := p.through.Get(t.Context(), counter)
				if errors.Is(err, core.Unavailable) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(items[0].Body))
				marker := p.key("marker" + core.NewID())
				err = p.through.Commit(t.Context(), store.Put(counter, items[0].Version, []byte(strconv.Itoa(n+1))), store.Put(marker, 0, nil))
				switch {
				case errors.Is(err, core.Conflict):
					if p.get(marker).Version != 0 {
						t.Errorf("a conflict that happened all the same")
					}
					continue
				case errors.Is(err, core.Unavailable):
					lost.Store(fmt.Sprint(w, done), true)
					if p.get(marker).Version == 0 {
						continue
					}
				case err != nil:
					t.Error(err)
					return
				case p.get(marker).Version == 0:
					t.Error("acknowledged, and did not happen")
				}
				done++
			}
		})
	}
	wg.Wait()
	if got := string(p.get(counter).Body); got != strconv.Itoa(writers*rounds) {
		t.Errorf("counted to %s, want %d", got, writers*rounds)
	}
	t.Logf("faults: %s", p.proxy.counts())
	if n := p.proxy.did[none]; n == 0 || p.proxy.did[dropBefore] == 0 || p.proxy.did[dropAfter] == 0 {
		t.Error("the proxy did too little to show anything")
	}
}

// The suite's histories through the same proxy.
func TestHistoriesThroughFaults(t *testing.T) {
	host := parts.NeedFirestore(t)
	pr := newProxy(t, host)
	pr.set(randomly(t, 0.06))
	storetest.Histories(t, firestore.New(newClient(t, pr.host), newProject(t, host), firestore.DefaultDatabase, firestore.Options{}))
	t.Logf("faults: %s", pr.counts())
	for f := dropBefore; f < faults; f++ {
		if f != second && pr.did[f] == 0 {
			t.Errorf("fault %d never happened", f)
		}
	}
}

// One RPC for each Get, page and Commit, and the documents that Google bills for.
func TestUsage(t *testing.T) {
	p := newPair(t)
	past, soon := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	a, b, gone := p.make("a", "x"), p.make("b", "x"), p.key("gone")
	var many []store.Op
	for i := range 150 {
		many = append(many, store.Put(store.Group(p.tenant, core.GroupName(fmt.Sprint(i))), 0, nil))
	}
	p.commit(many[:100]...)
	p.commit(many[100:]...)
	p.commit(store.Put(p.key("expired"), 0, nil).Until(past))
	p.commit(store.Put(p.key("soon"), 0, nil).Until(soon))
	expiring := p.get(p.key("soon"))
	list := func(r store.Range) error {
		for _, err := range p.through.List(t.Context(), r) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	limited := store.Groups(p.tenant)
	limited.Limit = 5
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		call func() error
		want string
	}{
		{"get", func() error { _, err := p.through.Get(ctx, a.Key); return err }, "BatchGetDocuments 1 0 0"},
		{"get of some, one absent", func() error { _, err := p.through.Get(ctx, a.Key, gone, b.Key); return err }, "BatchGetDocuments 3 0 0"},
		{"list of few", func() error { return list(store.Users(p.tenant)) }, "RunQuery 4 0 0"},
		{"list of none", func() error { return list(store.Applications(p.tenant)) }, "RunQuery 1 0 0"},
		{"list with a limit", func() error { return list(limited) }, "RunQuery 5 0 0"},
		{"list of two pages", func() error { return list(store.Groups(p.tenant)) }, "RunQuery 128 0 0 RunQuery 22 0 0"},
		{"commit", func() error {
			return p.through.Commit(ctx, store.Check(a.Key, a.Version), store.Check(gone, 0), store.Put(b.Key, b.Version, nil), store.Put(p.key("c"), 0, nil))
		}, "Commit 0 3 1"},
		{"commit of what it read, and what expires", func() error { return p.through.Commit(ctx, store.Check(expiring.Key, expiring.Version)) }, "Commit 0 1 0"},
		{"conflict", func() error {
			if err := p.through.Commit(ctx, store.Put(a.Key, 0, nil)); !errors.Is(err, core.Conflict) {
				return fmt.Errorf("error %v, want a conflict", err)
			}
			return nil
		}, "Commit 0 0 0 BatchGetDocuments 1 0 0"},
		{"in the place of what has expired", func() error { return p.through.Commit(ctx, store.Put(p.key("expired"), 0, nil)) }, "Commit 0 0 0 BatchGetDocuments 1 0 0 Commit 0 1 0"},
	} {
		p.used = nil
		if err := tt.call(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, u := range p.used {
			got = append(got, fmt.Sprint(u.RPC, " ", u.Reads, " ", u.Writes, " ", u.Deletes))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s used %q, want %q", tt.name, s, tt.want)
		}
	}
}

// A process that did not read an item itself reads its expiry before it commits, and finds an item expired as any other does.
func TestExpiryOfAnItemThatAnotherProcessRead(t *testing.T) {
	host := parts.NeedFirestore(t)
	client, project := newClient(t, host), newProject(t, host)
	now := time.Now()
	var rpcs []string
	process := func() *firestore.DB {
		return firestore.New(client, project, firestore.DefaultDatabase, firestore.Options{
			Now:  func() time.Time { return now },
			Used: func(u firestore.Usage) { rpcs = append(rpcs, u.RPC) },
		})
	}
	k, beside, ctx := store.User("acme", "a"), store.User("acme", "b"), t.Context()
	if err := process().Commit(ctx, store.Put(k, 0, nil).Until(now.Add(time.Minute)), store.Put(beside, 0, nil)); err != nil {
		t.Fatal(err)
	}
	items, err := process().Get(ctx, k, beside)
	if err != nil || items[0].Version != items[1].Version {
		t.Fatalf("%+v, error %v", items, err)
	}
	for _, it := range items {
		rpcs = nil
		if err := process().Commit(ctx, store.Check(it.Key, it.Version)); err != nil || strings.Join(rpcs, " ") != "BatchGetDocuments Commit" {
			t.Errorf("%s: %v, error %v", it.Key, rpcs, err)
		}
	}
	now = now.Add(2 * time.Minute)
	for i, want := range []error{core.Conflict, nil} {
		if err := process().Commit(ctx, store.Check(items[i].Key, items[i].Version)); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", items[i].Key, err, want)
		}
	}
}
