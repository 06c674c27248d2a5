package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The size of a history.
const (
	historyKeys    = 6
	historyClients = 8
	historyCalls   = 25 // of each client
	historyTimeout = 20 * time.Second
)

// A history is what concurrent clients of a store asked and were told. Every commit writes a tag of its own into the bodies
// that it puts, so the model works with tags, and versions are held to stand for them one to one.
type history struct {
	mu       sync.Mutex
	begin    time.Time
	calls    []porcupine.Operation
	tags     map[store.Version]int // what each version was seen with
	versions map[int]store.Version // and the other way round
	bad      error                 // something that no order of the calls could explain
	outcomes [3]int
}

// input is one call: either a read of some keys, or a commit.
type input struct {
	read   []int // indexes of keys
	writes []expectation
	tag    int // what the commit writes
}

// expectation is one operation of a commit, with tags in the place of versions.
type expectation struct {
	key    int
	expect int // a tag; 0: absent
	verb   store.Verb
}

// output is what the caller was told.
type output struct {
	tags    []int // of a read
	outcome outcome
}

type outcome int

const (
	applied outcome = iota
	conflict
	lost // it may have happened
)

// state is the model: the tag that each key holds.
type state [historyKeys]int

var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		now, i, o := s.(state), in.(input), out.(output)
		if i.writes == nil {
			for n, key := range i.read {
				if now[key] != o.tags[n] {
					return false, now
				}
			}
			return true, now
		}
		holds := true
		next := now
		for _, e := range i.writes {
			holds = holds && now[e.key] == e.expect
			switch e.verb {
			case store.VerbPut:
				next[e.key] = i.tag
			case store.VerbDelete:
				next[e.key] = 0
			}
		}
		switch {
		case o.outcome == lost && !holds:
			return true, now
		case o.outcome == lost: // it is pending to the end, where nobody sees it any more: that is "never happened"
			return true, next
		case holds:
			return o.outcome == applied, next
		}
		return o.outcome == conflict, now
	},
}

// record runs clients against fresh keys of a store. The seed decides what they do, not how they meet.
func record(ctx context.Context, db store.DB, seed uint64) *history {
	h := &history{begin: time.Now(), tags: map[store.Version]int{}, versions: map[int]store.Version{}}
	a, b := newTenant(), newTenant()
	keys := []store.Key{
		store.User(a, "0"), store.User(a, "1"), store.User(a, "2"),
		store.Group(a, "3"), store.Meta(b), store.User(b, "5"),
	}
	var wg sync.WaitGroup
	for n := range historyClients {
		c := &client{history: h, db: db, keys: keys, id: n, rand: rand.New(rand.NewPCG(seed, uint64(n)))}
		wg.Go(func() {
			for call := range historyCalls {
				c.call(ctx, call)
			}
		})
	}
	wg.Wait()
	return h
}

// check says whether some order of the calls explains what the clients were told.
func (h *history) check() error {
	if h.bad != nil {
		return h.bad
	}
	switch porcupine.CheckOperationsTimeout(model, h.calls, historyTimeout) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("no order of these %d calls explains what the clients were told", len(h.calls))
	default:
		return fmt.Errorf("not decided within %v", historyTimeout)
	}
}

// client makes the calls of a history, one after the other.
type client struct {
	*history
	db    store.DB
	keys  []store.Key
	id    int
	rand  *rand.Rand
	known [historyKeys]store.Version // what it read last
}

func (c *client) call(ctx context.Context, n int) {
	some := c.rand.Perm(historyKeys)[:1+c.rand.IntN(4)]
	switch p := c.rand.IntN(100); {
	case p < 35:
		c.get(ctx, some)
	case p < 45:
		c.list(ctx)
	case p < 80:
		c.get(ctx, some) // so that the commit has a chance
		c.commit(ctx, some, c.id*1000+n+1)
	default:
		c.commit(ctx, some, c.id*1000+n+1)
	}
}

func (c *client) get(ctx context.Context, some []int) {
	keys := make([]store.Key, len(some))
	for i, k := range some {
		keys[i] = c.keys[k]
	}
	call := time.Since(c.begin)
	items, err := c.db.Get(ctx, keys...)
	if err == nil {
		c.saw(call, some, items)
	}
}

// list reads the first three keys. Only each of them is a read of its own in the history: a page of a List is strongly
// consistent, and no snapshot across items.
func (c *client) list(ctx context.Context) {
	items := []store.Item{{Key: c.keys[0]}, {Key: c.keys[1]}, {Key: c.keys[2]}}
	call := time.Since(c.begin)
	for it, err := range c.db.List(ctx, store.Users(c.keys[0].Tenant())) {
		if err != nil {
			return
		}
		if i := slices.Index(c.keys[:3], it.Key); i < 0 {
			c.fault("listed %s, which is not in the partition", it.Key)
		} else {
			items[i] = it
		}
	}
	for i := range items {
		c.saw(call, []int{i}, items[i:i+1])
	}
}

// saw puts a read into the history.
func (c *client) saw(call time.Duration, some []int, items []store.Item) {
	returned := time.Since(c.begin)
	tags := make([]int, len(items))
	for i, it := range items {
		if it.Key != c.keys[some[i]] {
			c.fault("asked for %s and got %s", c.keys[some[i]], it.Key)
			return
		}
		c.known[some[i]] = it.Version
		if it.Version == 0 {
			continue
		}
		tag, err := strconv.Atoi(string(it.Body))
		if err != nil {
			c.fault("%s holds %q, which nobody wrote", it.Key, it.Body)
			return
		}
		tags[i] = tag
		c.match(it.Version, tag)
	}
	c.add(call, returned, input{read: some}, output{tags: tags})
}

func (c *client) commit(ctx context.Context, some []int, tag int) {
	ops := make([]store.Op, len(some))
	writes := make([]expectation, len(some))
	for i, k := range some {
		v := c.known[k]
		switch p := c.rand.IntN(10); {
		case p < 6:
			ops[i] = store.Put(c.keys[k], v, []byte(strconv.Itoa(tag)))
		case p < 8:
			ops[i] = store.Delete(c.keys[k], v)
		default:
			ops[i] = store.Check(c.keys[k], v)
		}
		writes[i] = expectation{k, c.tag(v), ops[i].Verb}
	}
	call := time.Since(c.begin)
	err := c.db.Commit(ctx, ops...)
	returned := time.Since(c.begin)
	out := output{outcome: applied}
	switch {
	case errors.Is(err, core.Conflict):
		out.outcome = conflict
	case errors.Is(err, core.Unavailable):
		out.outcome, returned = lost, math.MaxInt64
	case err != nil:
		c.fault("commit: %v", err)
		return
	}
	c.add(call, returned, input{writes: writes, tag: tag}, out)
}

func (h *history) add(call, returned time.Duration, in input, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.writes != nil {
		h.outcomes[out.outcome]++
	}
	h.calls = append(h.calls, porcupine.Operation{Input: in, Call: int64(call), Output: out, Return: int64(returned)})
}

// match holds versions and tags to each other: a version is one commit's, and a commit has one version.
func (h *history) match(v store.Version, tag int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.tags[v]; ok && old != tag {
		h.bad = fmt.Errorf("version %d came with the commits %d and %d", v, old, tag)
	}
	if old, ok := h.versions[tag]; ok && old != v {
		h.bad = fmt.Errorf("commit %d came with the versions %d and %d", tag, old, v)
	}
	h.tags[v], h.versions[tag] = tag, v
}

// tag is the one that a version which was read stands for.
func (h *history) tag(v store.Version) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tags[v]
}

func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bad = fmt.Errorf(format, args...)
}
