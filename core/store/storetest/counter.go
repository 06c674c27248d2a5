package storetest

import (
	"context"
	"iter"
	"sync"

	"github.com/fleetpass/fleetpass/core/store"
)

// Counter is a DB that counts the round trips of another one. Tests use it to hold a request to its number of them.
type Counter struct {
	DB store.DB

	// Metered counts capacity Units, too. For them a List reads ahead to the end of DynamoDB's page, and a Commit reads the old
	// items first; neither is counted.
	Metered bool

	mu     sync.Mutex
	counts Counts
}

// Counts is what went through a Counter.
type Counts struct {
	Gets    int // round trips of Get
	Pages   int // of List: one for each List, and one more for every PageItems items that it yielded
	Commits int // of Commit, refused ones too

	GetItems  int // keys asked for
	ListItems int // items yielded
	Ops       int // operations in commits

	Units Units // what DynamoDB would bill; only of a Metered Counter
}

// PageItems is how many items of a List count as one page. The stores' own pages differ, and are mostly larger.
const PageItems = 100

// RoundTrips is how often the store was asked.
func (c Counts) RoundTrips() int { return c.Gets + c.Pages + c.Commits }

// Counts returns what was counted since the last Reset.
func (c *Counter) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// Reset sets every count to 0 and returns what was counted.
func (c *Counter) Reset() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.counts
	c.counts = Counts{}
	return old
}

func (c *Counter) add(n Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Gets += n.Gets
	c.counts.Pages += n.Pages
	c.counts.Commits += n.Commits
	c.counts.GetItems += n.GetItems
	c.counts.ListItems += n.ListItems
	c.counts.Ops += n.Ops
	c.counts.Units.Read += n.Units.Read
	c.counts.Units.Write += n.Units.Write
}

// Get counts and passes on.
func (c *Counter) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	c.add(Counts{Gets: 1, GetItems: len(keys)})
	items, err := c.DB.Get(ctx, keys...)
	if c.Metered && err == nil {
		c.add(Counts{Units: GetUnits(items)})
	}
	return items, err
}

// List counts and passes on. It counts when the sequence is ranged over, not when it is made.
func (c *Counter) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		c.add(Counts{Pages: 1})
		n := 0
		list := c.DB.List(ctx, r)
		if c.Metered {
			list = c.metered(list)
		}
		for it, err := range list {
			if err == nil {
				if n > 0 && n%PageItems == 0 {
					c.add(Counts{Pages: 1})
				}
				n++
				c.add(Counts{ListItems: 1})
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// metered counts the units of a List by pages that end where DynamoDB's do. A page is read, and costs, as a whole.
func (c *Counter) metered(list iter.Seq2[store.Item, error]) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		var page []store.Item
		bytes, pages := 0, 0
		flush := func() bool {
			c.add(Counts{Units: PageUnits(page)})
			pages++
			for _, it := range page {
				if !yield(it, nil) {
					return false
				}
			}
			page, bytes = nil, 0
			return true
		}
		for it, err := range list {
			if err != nil {
				if flush() {
					yield(it, err)
				}
				return
			}
			page = append(page, it)
			if bytes += size(it); bytes >= pageBytes && !flush() {
				return
			}
		}
		if len(page) > 0 || pages == 0 {
			flush()
		}
	}
}

// Commit counts and passes on.
func (c *Counter) Commit(ctx context.Context, ops ...store.Op) error {
	c.add(Counts{Commits: 1, Ops: len(ops)})
	if c.Metered && store.CheckCommit(ops) == nil {
		keys := make([]store.Key, len(ops))
		for i, op := range ops {
			keys[i] = op.Key
		}
		old, err := c.DB.Get(ctx, keys...)
		if err != nil {
			return err
		}
		c.add(Counts{Units: CommitUnits(ops, old)})
	}
	return c.DB.Commit(ctx, ops...)
}
