package audit

import (
	"context"
	"math"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Stored is a record or a link exactly as the store holds it. Whoever verifies hashes these bytes, and trusts nobody's
// reading of them.
type Stored struct {
	Sort string // its place
	Body []byte // nil: there is nothing at that place
}

// StoredLink is a link, with the records that it names in the order in which it names them. A link that is not whole comes
// without records.
type StoredLink struct {
	Stored
	Records []Stored
}

// ChainPage is a part of a tenant's chain.
type ChainPage struct {
	Links []StoredLink
	More  bool // the chain goes on
	// Unsealed is, at the end of the chain, what waits to be sealed, the oldest first.
	Unsealed     []Stored
	MoreUnsealed bool // and more waits
}

// Source is where a chain and its log are read from: the store itself, or somewhere far from it.
type Source interface {
	// Chain returns links behind number after, in order, without gaps unless there are. At the end of the chain it reads
	// what is unsealed, after the links.
	Chain(ctx context.Context, after uint64) (ChainPage, error)
	// Places returns the places behind one at which the log holds a sealed record, in byte order, and whether there are
	// more.
	Places(ctx context.Context, after string) (sorts []string, more bool, err error)
}

// InStore is the Source that reads the store. The bounds are of one page; 0 is none.
type InStore struct {
	DB     store.DB
	Tenant core.TenantID
	Links  int // of the chain
	Bytes  int // of the links, their records, and again of what is unsealed; a single link is never cut
	Items  int // places, or unsealed records
}

// firstLinks is how many links are listed first for a page that is bounded in bytes. What follows is listed by what these come
// to, so that a page lists about what it returns: a link is of 1 record, or of perLink.
const firstLinks = 16

// Chain implements Source. The records of many links are fetched together.
func (s InStore) Chain(ctx context.Context, after uint64) (ChainPage, error) {
	var page ChainPage
	r := store.AuditSeals(s.Tenant)
	if after > 0 {
		r = r.After(store.AuditSeal(s.Tenant, after).Sort())
	}
	left := s.Bytes
	for {
		links, more, err := s.list(ctx, r, s.next(len(page.Links), left))
		if err != nil {
			return page, err
		}
		for len(links) > 0 {
			n, err := s.fill(ctx, links)
			if err != nil {
				return page, err
			}
			for _, l := range links[:n] {
				left -= l.size()
				if s.Bytes > 0 && left < 0 && len(page.Links) > 0 {
					page.More = true
					return page, nil
				}
				page.Links = append(page.Links, l)
			}
			links = links[n:]
		}
		switch {
		case !more:
			return page, s.unsealed(ctx, &page)
		case s.Links > 0 && len(page.Links) == s.Links:
			page.More = true
			return page, nil
		}
		r = r.After(page.Links[len(page.Links)-1].Sort)
	}
}

// next is how many links to list for a page that has some already, with that many bytes left; 0 is all. It never more than
// doubles them: those that follow may be larger.
func (s InStore) next(has, left int) int {
	n := firstLinks
	if s.Bytes == 0 {
		n = math.MaxInt
	} else if has > 0 {
		each := max(1, (s.Bytes-left)/has)
		n = max(1, min(has, left/each+1))
	}
	if s.Links > 0 {
		n = min(n, s.Links-has)
	}
	if n == math.MaxInt {
		return 0
	}
	return n
}

// list lists at most n links, all of them if n is 0, and says whether there are more.
func (s InStore) list(ctx context.Context, r store.Range, n int) (links []StoredLink, more bool, err error) {
	if n > 0 {
		r.Limit = n + 1
	}
	for it, err := range s.DB.List(ctx, r) {
		if err != nil {
			return nil, false, err
		}
		if n > 0 && len(links) == n {
			return links, true, nil
		}
		links = append(links, StoredLink{Stored: Stored{it.Key.Sort(), it.Body}})
	}
	return links, false, nil
}

// fill fetches the records of as many of the links as one Get can, and says how many those are: at least one.
func (s InStore) fill(ctx context.Context, links []StoredLink) (int, error) {
	var keys []store.Key
	n := 0
	for ; n < len(links); n++ {
		entries := named(links[n].Body)
		if len(keys)+len(entries) > store.MaxGet {
			break
		}
		links[n].Records = make([]Stored, len(entries))
		for i, e := range entries {
			links[n].Records[i].Sort = e.Sort
			keys = append(keys, store.AuditSort(s.Tenant, e.Sort))
		}
	}
	if len(keys) == 0 {
		return n, nil
	}
	if store.CheckGet(keys) != nil {
		// Seal makes no such links: a record is named twice, or by what is no key. One by one, then.
		return 1, s.fillOne(ctx, &links[0])
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return 0, err
	}
	for _, l := range links[:n] {
		for i := range l.Records {
			if items[0].Version != 0 {
				l.Records[i].Body = items[0].Body
			}
			items = items[1:]
		}
	}
	return n, nil
}

func (s InStore) fillOne(ctx context.Context, l *StoredLink) error {
	for i := range l.Records {
		k := store.AuditSort(s.Tenant, l.Records[i].Sort)
		if store.CheckGet([]store.Key{k}) != nil {
			continue // nothing can be there
		}
		items, err := s.DB.Get(ctx, k)
		if err != nil {
			return err
		}
		if items[0].Version != 0 {
			l.Records[i].Body = items[0].Body
		}
	}
	return nil
}

// named is what a link names, if it is whole in itself. Otherwise its records do not matter: it is at fault.
func named(body []byte) []Entry {
	var l Link
	if json.Unmarshal(body, &l) != nil || len(l.Entries) > perLink {
		return nil
	}
	if sum, err := l.sum(); err != nil || sum != l.Hash {
		return nil
	}
	return l.Entries
}

func (l StoredLink) size() int {
	n := len(l.Body)
	for _, r := range l.Records {
		n += len(r.Sort) + len(r.Body)
	}
	return n
}

func (s InStore) unsealed(ctx context.Context, page *ChainPage) error {
	r := store.AuditsNew(s.Tenant)
	if s.Items > 0 {
		r.Limit = s.Items + 1
	}
	left := s.Bytes
	for it, err := range s.DB.List(ctx, r) {
		if err != nil {
			return err
		}
		left -= len(it.Body)
		if s.Items > 0 && len(page.Unsealed) == s.Items || s.Bytes > 0 && left < 0 && len(page.Unsealed) > 0 {
			page.MoreUnsealed = true
			return nil
		}
		page.Unsealed = append(page.Unsealed, Stored{it.Key.Sort(), it.Body})
	}
	return nil
}

// Places implements Source.
func (s InStore) Places(ctx context.Context, after string) (sorts []string, more bool, err error) {
	r := store.Audits(s.Tenant, time.Time{})
	if after != "" {
		r = r.After(after)
	}
	if s.Items > 0 {
		r.Limit = s.Items + 1
	}
	for it, err := range s.DB.List(ctx, r) {
		if err != nil {
			return nil, false, err
		}
		if s.Items > 0 && len(sorts) == s.Items {
			return sorts, true, nil
		}
		sorts = append(sorts, it.Key.Sort())
	}
	return sorts, false, nil
}
