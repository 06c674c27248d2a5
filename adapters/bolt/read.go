package bolt

import (
	"bytes"
	"context"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core/store"
)

// Get reads the keys in one read transaction.
func (db *DB) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if err := store.CheckGet(keys); err != nil {
		return nil, err
	}
	if err := db.ready(ctx, "get"); err != nil {
		return nil, err
	}
	items := make([]store.Item, len(keys))
	err := db.view("get", func(tx *bbolt.Tx) error {
		var (
			buf  [store.MaxKey + 1]byte
			few  [8][]byte // the usual number of keys needs no allocation
			vals = few[:0]
			size int
			c    = tx.Bucket(itemsBucket).Cursor()
			now  = db.now().Unix()
		)
		for i, k := range keys {
			items[i].Key = k
			want := appendKey(buf[:0], k.Partition(), k.Sort())
			got, value := c.Seek(want)
			if !bytes.Equal(got, want) {
				vals = append(vals, nil)
				continue
			}
			h := parseHeader(value)
			if !h.live(now) {
				vals = append(vals, nil)
				continue
			}
			items[i].Version, items[i].Expires = h.version, h.time()
			vals = append(vals, value[headerSize:])
			size += len(value) - headerSize
		}
		// What bbolt returned is the file's memory, and holds until the transaction ends. One block has all the copies.
		block := make([]byte, 0, size)
		for i, v := range vals {
			if items[i].Version != 0 {
				n := len(block)
				block = append(block, v...)
				items[i].Body = block[n:len(block):len(block)]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

// A page of a List is read in one transaction, which ends before the items are handed on: who gets them may take long, or
// commit, and a read transaction that stays open keeps the file from growing.
const (
	firstPage = 32 // items; later pages are larger
	fullPage  = 512
	pageBytes = 1 << 20
)

// List reads the range in pages.
func (db *DB) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if err := store.CheckRange(r); err != nil {
			yield(store.Item{}, err)
			return
		}
		rest := r
		for size := firstPage; ; size = fullPage {
			if r.Limit > 0 {
				size = min(size, rest.Limit)
			}
			page, more, err := db.page(ctx, rest, size)
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			for _, it := range page {
				if !yield(it, nil) {
					return
				}
			}
			if r.Limit > 0 {
				if rest.Limit -= len(page); rest.Limit == 0 {
					return
				}
			}
			if !more {
				return
			}
			rest = rest.After(page[len(page)-1].Key.Sort())
		}
	}
}

// page reads up to size live items from the beginning of the range. more: there may be others behind them.
func (db *DB) page(ctx context.Context, r store.Range, size int) (page []store.Item, more bool, err error) {
	if err := db.ready(ctx, "list"); err != nil {
		return nil, false, err
	}
	prefix := appendKey(nil, r.Partition(), "")
	from := append(bytes.Clone(prefix), r.From...)
	to := append(bytes.Clone(prefix), r.To...)
	if r.To == "" {
		to[len(to)-1] = 1 // just behind the partition
	}
	err = db.view("list", func(tx *bbolt.Tx) error {
		c, now, total := tx.Bucket(itemsBucket).Cursor(), db.now().Unix(), 0
		step := c.Next
		k, v := c.Seek(from)
		if r.Descending {
			step = c.Prev
			k, v = before(c, to)
		}
		for ; k != nil && bytes.Compare(from, k) <= 0 && bytes.Compare(k, to) < 0; k, v = step() {
			h := parseHeader(v)
			if !h.live(now) {
				continue
			}
			if len(page) == size || total >= pageBytes {
				more = true
				return nil
			}
			total += len(v)
			page = append(page, store.Item{
				Key:     r.Key(string(k[len(prefix):])),
				Version: h.version,
				Body:    bytes.Clone(v[headerSize:]),
				Expires: h.time(),
			})
		}
		return nil
	})
	return page, more, err
}

// before moves to the last key below the bound.
func before(c *bbolt.Cursor, bound []byte) (k, v []byte) {
	if k, _ = c.Seek(bound); k == nil {
		return c.Last()
	}
	return c.Prev()
}
