package dynamodb_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// One fault in each kind of request: nothing fails but a put of something new whose answer was lost, which is unknown unless the
// store shows that it happened; and nothing is ever taken for a conflict.
func TestOneFault(t *testing.T) {
	t.Parallel()
	direct, name := table(t)
	p, config := newProxy(t, direct)
	db, past := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}), dynamodb.New(dynamodb.NewClient(direct), name, dynamodb.Options{})
	for f := pass; f < faults; f++ {
		t.Run(strings.ReplaceAll(f.String(), " ", "_"), func(t *testing.T) {
			tenant := core.TenantID("t" + core.NewID()[:16])
			k, other, gone := store.Meta(tenant), store.User(tenant, "other"), store.User(tenant, "gone")
			calls := []struct {
				operation, what string
				ops             func() []store.Op
			}{
				{"PutItem", "create", func() []store.Op { return []store.Op{store.Put(k, 0, []byte("1"))} }},
				{"PutItem", "replace", func() []store.Op { return []store.Op{store.Put(k, put(t, past, k, "0"), []byte("2"))} }},
				{"TransactWriteItems", "transaction", func() []store.Op {
					return []store.Op{store.Put(k, put(t, past, k, "0"), []byte("3")), store.Put(other, 0, []byte("3")), store.Delete(gone, put(t, past, gone, "x"))}
				}},
				{"DeleteItem", "delete", func() []store.Op { return []store.Op{store.Delete(k, put(t, past, k, "0"))} }},
			}
			for _, c := range calls {
				ops := c.ops()
				p.set(first(c.operation, f))
				err := db.Commit(t.Context(), ops...)
				injected, _ := p.counts()
				if f != pass && injected[f] != 1 {
					t.Fatalf("%s: the proxy injected %v", c.what, injected)
				}
				p.lates.Wait()
				it := get(t, past, ops[0].Key)
				happened := (it.Version == 0) == (ops[0].Verb == store.VerbDelete) && it.Version != ops[0].Expect && string(it.Body) == string(ops[0].Body)
				switch {
				case errors.Is(err, core.Conflict):
					t.Errorf("%s: %v", c.what, err)
				case err == nil && !happened:
					t.Errorf("%s: acknowledged, but the item is %+v", c.what, it)
				case err != nil && !errors.Is(err, core.Unavailable):
					t.Errorf("%s: %v", c.what, err)
				}
				// What DynamoDB refused, or never saw the beginning of, or is known by a token or a version, is tried again.
				lost := f == dropBefore || f == late || f == serverError
				unknown := c.what == "create" && lost || c.what == "delete" && (f == dropAfter || f == truncate || f == garble || f == serverErrorAfter)
				if unknown != (err != nil) && !(f == late) {
					t.Errorf("%s: error %v, want one: %v", c.what, err, unknown)
				}
				if len(ops) > 1 && err == nil {
					items, err := past.Get(t.Context(), k, other, gone)
					if err != nil {
						t.Fatal(err)
					}
					if items[0].Version != items[1].Version || items[2].Version != 0 {
						t.Errorf("%s: half done: %+v", c.what, items)
					}
				}
			}
			put(t, past, k, "read me")
			for _, operation := range []string{"GetItem", "TransactGetItems", "Query"} {
				p.set(first(operation, f))
				var body string
				switch operation {
				case "GetItem":
					body = string(get(t, db, k).Body)
				case "TransactGetItems":
					items, err := db.Get(t.Context(), other, k)
					if err != nil {
						t.Fatal(err)
					}
					body = string(items[1].Body)
				case "Query":
					r := store.Users(tenant)
					put(t, past, gone, "read me")
					for it, err := range db.List(t.Context(), r) {
						if err != nil {
							t.Fatal(err)
						}
						if it.Key == gone {
							body = string(it.Body)
						}
					}
				}
				if injected, _ := p.counts(); body != "read me" || f != pass && injected[f] != 1 {
					t.Errorf("%s read %q, injected %v", operation, body, injected)
				}
			}
		})
	}
}

// A commit that meets its own first try is no conflict; one that meets somebody else's is unknown once a try was lost, and a
// conflict if none was.
func TestOwnTracks(t *testing.T) {
	t.Parallel()
	direct, name := table(t)
	p, config := newProxy(t, direct)
	db, past := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}), dynamodb.New(dynamodb.NewClient(direct), name, dynamodb.Options{})
	for _, f := range []fault{pass, throttle, conflict, dropBefore, dropAfter} {
		for _, several := range []bool{false, true} {
			k, beside := store.Meta(core.TenantID("t"+core.NewID()[:16])), store.User("beside", core.Email(core.NewID()))
			v := put(t, past, k, "first")
			ops := []store.Op{store.Put(k, v, []byte("mine"))}
			if several {
				ops = append(ops, store.Put(beside, 0, nil))
			}
			// Between the fault and the second try somebody else writes.
			done := false
			p.set(func(_ string, n int) fault {
				if n == 0 {
					return f
				}
				if !done && f != pass {
					done = true
					put(t, past, k, "theirs")
				}
				return pass
			})
			if f == pass {
				put(t, past, k, "theirs")
			}
			err := db.Commit(t.Context(), ops...)
			want := error(core.Conflict)
			if f == dropBefore || f == dropAfter {
				want = core.Unavailable
			}
			if f == dropAfter && several {
				want = nil // the token is known: it happened, whatever came later
			}
			if !errors.Is(err, want) {
				t.Errorf("%v, several %v: error %v, want %v", f, several, err, want)
			}
			if it := get(t, past, k); string(it.Body) != "theirs" {
				t.Errorf("%v, several %v: %q lies over theirs", f, several, it.Body)
			}
		}
	}
}

// A lone put of what is to be new, whose only try never reached the server: what lies there when the store is asked is somebody
// else's, and no success of ours. To whom it would pass for one, another's session or sign-in code would be their own.
func TestLostCreationAndSomebodyElsesItem(t *testing.T) {
	t.Parallel()
	direct, name := table(t)
	p, config := newProxy(t, direct)
	db, past := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}), dynamodb.New(dynamodb.NewClient(direct), name, dynamodb.Options{})
	for _, f := range []fault{dropBefore, dropAfter, serverError, serverErrorAfter} {
		for _, expires := range []time.Time{{}, time.Now().Add(time.Hour)} {
			for _, body := range []string{"theirs", "ours"} { // the body proves nothing
				k := store.Session("acme", core.NewID())
				met := first("PutItem", f)
				p.set(func(operation string, n int) fault {
					f := met(operation, n)
					if f != pass {
						if err := past.Commit(t.Context(), store.Put(k, 0, []byte(body)).Until(expires)); err != nil {
							t.Error(err)
						}
					}
					return f
				})
				err := db.Commit(t.Context(), store.Put(k, 0, []byte("ours")).Until(expires))
				if !errors.Is(err, core.Unavailable) || errors.Is(err, core.Conflict) {
					t.Errorf("%v, %q there: error %v, want %q", f, body, err, string(core.Unavailable))
				}
				if _, requests := p.counts(); requests["PutItem"] != 1 || requests["GetItem"] != 1 {
					t.Errorf("%v: requests %v, want one try and one look", f, requests)
				}
			}
		}
	}
	// The twin: found there by its version it is ours.
	for _, f := range []fault{dropAfter, serverErrorAfter} {
		k := store.Session("acme", core.NewID())
		p.set(first("PutItem", f))
		if err := db.Commit(t.Context(), store.Put(k, 0, []byte("ours"))); err != nil || string(get(t, past, k).Body) != "ours" {
			t.Errorf("%v, ours there: error %v", f, err)
		}
	}
}

// The linearizability suite, with every fault in every twelfth request.
func TestHistoriesThroughFaults(t *testing.T) {
	t.Parallel()
	direct, name := ownTable(t)
	p, config := newProxy(t, direct)
	p.set(some(t, 0.08))
	storetest.Histories(t, dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}))
	injected, requests := p.counts()
	t.Logf("injected %v into %v", injected, requests)
	for f := pass; f < faults; f++ {
		if injected[f] == 0 {
			t.Errorf("the proxy never did: %v", f)
		}
	}
}

// Increments by many writers at once through every fault: none is lost and none is counted twice. Who is not told whether a
// commit happened reads it off the store: by a marker in the same commit, or, for a lone item, by its own part of it.
func TestIncrementsThroughFaults(t *testing.T) {
	t.Parallel()
	const writers, rounds = 6, 12
	direct, name := ownTable(t)
	p, config := newProxy(t, direct)
	db, past := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}), dynamodb.New(dynamodb.NewClient(direct), name, dynamodb.Options{})

	// ask reads until it is answered.
	ask := func(keys ...store.Key) []store.Item {
		for {
			items, err := db.Get(context.Background(), keys...)
			if err == nil {
				return items
			}
			if !errors.Is(err, core.Unavailable) {
				t.Error(err)
				return make([]store.Item, len(keys))
			}
		}
	}
	// settle tells whether a commit of unknown outcome happened: when the version that it expects is gone, it can no longer.
	unknown := 0
	var mu sync.Mutex
	type counter struct {
		key  store.Key
		once func(writer, round int) error // one increment, told from others by its writer and round
	}
	shared, lone := store.Meta("shared"), store.Meta("lone")
	put(t, past, shared, "0")
	put(t, past, lone, strings.Repeat("0 ", writers))
	counters := []counter{
		{shared, func(writer, round int) error {
			marker := store.User("markers", core.Email(fmt.Sprint(writer, ".", round)))
			items := ask(shared, marker)
			if items[1].Version != 0 {
				return nil // an earlier try of unknown outcome
			}
			n, err := strconv.Atoi(string(items[0].Body))
			if err != nil {
				return err
			}
			return db.Commit(context.Background(), store.Put(shared, items[0].Version, []byte(strconv.Itoa(n+1))), store.Put(marker, 0, nil))
		}},
		{lone, func(writer, round int) error {
			it := ask(lone)[0]
			parts := strings.Fields(string(it.Body))
			if parts[writer] == strconv.Itoa(round+1) {
				return nil
			}
			if parts[writer] != strconv.Itoa(round) {
				return fmt.Errorf("round %d of writer %d finds %s", round, writer, parts[writer])
			}
			parts[writer] = strconv.Itoa(round + 1)
			return db.Commit(context.Background(), store.Put(lone, it.Version, []byte(strings.Join(parts, " "))))
		}},
	}
	p.set(some(t, 0.15))
	var wg sync.WaitGroup
	for _, c := range counters {
		for writer := range writers {
			wg.Go(func() {
				for round := range rounds {
					for {
						err := store.Retry(context.Background(), func() error { return c.once(writer, round) })
						if err == nil {
							break
						}
						if !errors.Is(err, core.Unavailable) && !errors.Is(err, core.Conflict) {
							t.Errorf("%s: %v", c.key, err)
							return
						}
						mu.Lock()
						unknown++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	injected, _ := p.counts()
	t.Logf("%d answers were no help; injected %v", unknown, injected)
	p.set(nil)
	p.lates.Wait()
	if got := string(get(t, past, shared).Body); got != strconv.Itoa(writers*rounds) {
		t.Errorf("the shared counter is at %s, want %d", got, writers*rounds)
	}
	if got, want := string(get(t, past, lone).Body), strings.TrimSpace(strings.Repeat(fmt.Sprint(rounds, " "), writers)); got != want {
		t.Errorf("the lone counter is at %s, want %s", got, want)
	}
	n := 0
	for _, err := range past.List(t.Context(), store.Users("markers")) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != writers*rounds || injected[pass] == 0 || injected[dropAfter] == 0 || injected[late] == 0 {
		t.Errorf("%d markers, want %d; injected %v", n, writers*rounds, injected)
	}
}

// A store that refuses for ever is asked a bounded number of times, and no longer than the caller wants to wait.
func TestBudget(t *testing.T) {
	t.Parallel()
	direct, name := table(t)
	p, config := newProxy(t, direct)
	k := store.Meta("acme")
	for _, f := range []fault{throttle, throughput, conflict, serverError, dropBefore} {
		db := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{Attempts: 3})
		for what, call := range map[string]func(context.Context) error{
			"get":     func(ctx context.Context) error { _, err := db.Get(ctx, k); return err },
			"gets":    func(ctx context.Context) error { _, err := db.Get(ctx, k, store.Meta("b")); return err },
			"replace": func(ctx context.Context) error { return db.Commit(ctx, store.Put(k, 12345, nil)) },
			"commit": func(ctx context.Context) error {
				return db.Commit(ctx, store.Put(k, 0, nil), store.Put(store.Meta("b"), 0, nil))
			},
		} {
			p.set(func(string, int) fault { return f })
			if err := call(t.Context()); !errors.Is(err, core.Unavailable) {
				t.Errorf("%s, %v: %v", what, f, err)
			}
			if injected, _ := p.counts(); injected[f] != 3 {
				t.Errorf("%s, %v: %d requests, want 3", what, f, injected[f])
			}
		}
	}
	db := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{Attempts: 1000})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p.set(func(string, int) fault { return throttle })
	if _, err := db.Get(ctx, k); !errors.Is(err, core.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller who ran out of time is told %v", err)
	}
	if injected, _ := p.counts(); injected[throttle] == 0 || injected[throttle] > 10 {
		t.Errorf("%d requests in 100 ms", injected[throttle])
	}
	p.set(nil)
	if it := get(t, db, k); it.Version != 0 {
		t.Errorf("what was refused is there: %+v", it)
	}
}
