package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
)

// items is what a range holds.
func items(t *testing.T, db store.DB, r store.Range) []store.Item {
	t.Helper()
	var all []store.Item
	for it, err := range db.List(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, it)
	}
	return all
}

func commit(t *testing.T, db store.DB, ops ...store.Op) {
	t.Helper()
	if err := db.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

// chained has a chain of three links with two records each, and one record that is not sealed.
func chained(t *testing.T) store.DB {
	t.Helper()
	db := open(t)
	for i := range 7 {
		write(t, db, noon.Add(time.Duration(i)*time.Second), fmt.Sprint(i))
		if i%2 == 1 {
			seal(t, db)
		}
	}
	return db
}

// walk verifies over pages as small as they get.
func walk(t *testing.T, db store.DB, head audit.Head) audit.Report {
	t.Helper()
	r, err := audit.Walk(t.Context(), audit.InStore{DB: db, Tenant: acme, Links: 1, Bytes: 1, Items: 1}, audit.NewVerifier(acme, head), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Any single byte of a sealed record, at every position, and any of a link.
func TestVerifyFindsEveryByte(t *testing.T) {
	db := chained(t)
	if r := verify(t, db); r.Fault != nil || r.Sealed != 6 || r.Unsealed != 1 || !r.Since.Equal(noon.Add(6*time.Second)) {
		t.Fatalf("untouched: %+v", r)
	}
	for what, it := range map[string]store.Item{
		"record": items(t, db, store.Audits(acme, time.Time{}))[2],
		"link":   items(t, db, store.AuditSeals(acme))[1],
	} {
		for i := range it.Body {
			body := bytes.Clone(it.Body)
			body[i] ^= 1 << (i % 8)
			now := items(t, db, store.Audits(acme, time.Time{}))[2].Version
			if what == "link" {
				now = items(t, db, store.AuditSeals(acme))[1].Version
			}
			commit(t, db, store.Put(it.Key, now, body))
			if r := verify(t, db); r.Fault == nil || r.Fault.Link != 2 || r.Fault.What != audit.Changed || (r.Fault.Record == it.Key.Sort()) != (what == "record") {
				t.Errorf("byte %d of a %s: %+v", i, what, r.Fault)
			}
			commit(t, db, store.Put(it.Key, items(t, db, rangeOf(what))[index(what)].Version, it.Body))
		}
	}
	if r := verify(t, db); r.Fault != nil {
		t.Errorf("mended: %v", r.Fault)
	}
}

func rangeOf(what string) store.Range {
	if what == "link" {
		return store.AuditSeals(acme)
	}
	return store.Audits(acme, time.Time{})
}

func index(what string) int {
	if what == "link" {
		return 1
	}
	return 2
}

// However the pages are cut, the same is found.
func TestWalkByPages(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, db store.DB){
		"untouched": func(*testing.T, store.DB) {},
		"changed": func(t *testing.T, db store.DB) {
			it := items(t, db, store.Audits(acme, time.Time{}))[4]
			commit(t, db, store.Put(it.Key, it.Version, append(it.Body, ' ')))
		},
		"removed": func(t *testing.T, db store.DB) {
			it := items(t, db, store.Audits(acme, time.Time{}))[5]
			commit(t, db, store.Delete(it.Key, it.Version))
		},
		"added": func(t *testing.T, db store.DB) {
			it := items(t, db, store.Audits(acme, time.Time{}))[5]
			commit(t, db, store.Put(store.AuditSort(acme, it.Key.Sort()+"x"), 0, it.Body))
		},
		"swapped": func(t *testing.T, db store.DB) {
			all := items(t, db, store.Audits(acme, time.Time{}))
			commit(t, db, store.Put(all[0].Key, all[0].Version, all[3].Body), store.Put(all[3].Key, all[3].Version, all[0].Body))
		},
		"a link removed": func(t *testing.T, db store.DB) {
			it := items(t, db, store.AuditSeals(acme))[0]
			commit(t, db, store.Delete(it.Key, it.Version))
		},
		"repeated": func(t *testing.T, db store.DB) {
			it := items(t, db, store.Audits(acme, time.Time{}))[0]
			at, id, _ := strings.Cut(it.Key.Sort(), "\x1f")
			when, err := time.Parse("20060102T150405.000", at)
			if err != nil {
				t.Fatal(err)
			}
			commit(t, db, store.Put(store.AuditNew(acme, when, id), 0, it.Body))
		},
	} {
		db := chained(t)
		do(t, db)
		whole, paged := verify(t, db), walk(t, db, audit.Head{})
		if (whole.Fault == nil) != (name == "untouched") {
			t.Errorf("%s: %v", name, whole.Fault)
		}
		if fmt.Sprint(whole.Fault) != fmt.Sprint(paged.Fault) || whole.Head != paged.Head {
			t.Errorf("%s: at once %v, by pages %v", name, whole.Fault, paged.Fault)
		}
		if name == "repeated" && whole.Fault != nil && whole.Fault.What != audit.Repeated {
			t.Errorf("%s: %v", name, whole.Fault)
		}
	}
}

// Newest links that went together with their records show with a head that was written down, and with nothing else. So
// does a whole chain that was computed anew.
func TestKnownHead(t *testing.T) {
	db := chained(t)
	head := verify(t, db).Head
	if r := walk(t, db, head); r.Fault != nil || r.Head != head {
		t.Errorf("untouched: %+v", r)
	}
	seal(t, db)
	if r := walk(t, db, head); r.Fault != nil || r.Head.N != head.N+1 {
		t.Errorf("the chain grew: %+v", r)
	}
	links, records := items(t, db, store.AuditSeals(acme)), items(t, db, store.Audits(acme, time.Time{}))
	for _, it := range append(links[2:], records[4:]...) {
		commit(t, db, store.Delete(it.Key, it.Version))
	}
	if r := walk(t, db, audit.Head{}); r.Fault != nil || r.Head.N != 2 {
		t.Errorf("cut off, with no head known: %+v", r)
	}
	if r := walk(t, db, head); r.Fault == nil || *r.Fault != (audit.Fault{Link: 3, What: audit.CutOff}) {
		t.Errorf("cut off: %+v", r)
	}
	write(t, db, noon, "another")
	seal(t, db)
	if r := walk(t, db, head); r.Fault == nil || *r.Fault != (audit.Fault{Link: 3, What: audit.Replaced}) {
		t.Errorf("grown again in another way: %+v", r)
	}
}

// sealing is a source at which something happens before every page.
type sealing struct {
	audit.InStore
	before func()
}

func (s sealing) Chain(ctx context.Context, after uint64) (audit.ChainPage, error) {
	s.before()
	return s.InStore.Chain(ctx, after)
}

func (s sealing) Places(ctx context.Context, after string) ([]string, bool, error) {
	s.before()
	return s.InStore.Places(ctx, after)
}

// A log that grows and is sealed while it is verified is no fault.
func TestWalkWhileSealing(t *testing.T) {
	db := chained(t)
	n := 0
	src := sealing{audit.InStore{DB: db, Tenant: acme, Links: 1, Items: 2}, func() {
		if n++; n > 20 {
			return
		}
		write(t, db, noon.Add(time.Duration(n%3-1)*time.Hour), fmt.Sprint("late ", n))
		if n%2 == 0 {
			seal(t, db)
		}
	}}
	r, err := audit.Walk(t.Context(), src, audit.NewVerifier(acme, audit.Head{}), nil)
	if err != nil || r.Fault != nil || r.Sealed+r.Unsealed < 15 || r.Sealed+r.Unsealed > 27 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A record that is there when its link is read and gone from the log after is missed.
func TestWalkMissesWhatTheLogHasNoMore(t *testing.T) {
	db := chained(t)
	gone := items(t, db, store.Audits(acme, time.Time{}))[3]
	src := hiding{audit.InStore{DB: db, Tenant: acme}, gone.Key.Sort()}
	r, err := audit.Walk(t.Context(), src, audit.NewVerifier(acme, audit.Head{}), nil)
	if err != nil || r.Fault == nil || *r.Fault != (audit.Fault{Link: 2, Record: gone.Key.Sort(), What: audit.Removed}) {
		t.Errorf("%+v, %v", r.Fault, err)
	}
}

// hiding is a source whose log does not list a record, though it has it.
type hiding struct {
	audit.InStore
	sort string
}

func (h hiding) Places(ctx context.Context, after string) ([]string, bool, error) {
	sorts, more, err := h.InStore.Places(ctx, after)
	return slices.DeleteFunc(sorts, func(s string) bool { return s == h.sort }), more, err
}

// stuck is a source that leads nowhere.
type stuck struct {
	audit.InStore
	places []string
}

func (s stuck) Chain(ctx context.Context, after uint64) (audit.ChainPage, error) {
	if s.places == nil {
		return audit.ChainPage{More: true}, nil
	}
	return s.InStore.Chain(ctx, after)
}

func (s stuck) Places(context.Context, string) ([]string, bool, error) { return s.places, true, nil }

// A source that never comes to an end is an error, and neither a verdict nor a loop.
func TestWalkEnds(t *testing.T) {
	db := chained(t)
	for _, places := range [][]string{nil, {}, {"b", "a"}, {"a"}} {
		r, err := audit.Walk(t.Context(), stuck{audit.InStore{DB: db, Tenant: acme}, places}, audit.NewVerifier(acme, audit.Head{}), nil)
		if err == nil {
			t.Errorf("places %v: %+v, and no error", places, r)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Walk(ctx, audit.InStore{DB: db, Tenant: acme}, audit.NewVerifier(acme, audit.Head{}), nil); err == nil {
		t.Error("a store that does not answer gave a verdict")
	}
}

// A link whose hash is right and that nevertheless is none that Seal makes: what it names cannot be, or twice.
func TestForgedLink(t *testing.T) {
	for _, entries := range [][]audit.Entry{
		{{Sort: strings.Repeat("x", 2000)}}, {{Sort: ""}}, {{Sort: "a"}, {Sort: "a"}}, {}, slices.Repeat([]audit.Entry{{Sort: "a"}}, 200),
	} {
		db := chained(t)
		l := audit.Link{N: 4, Tenant: acme, Prev: verify(t, db).Head.Hash, At: noon, Entries: entries}
		l.Hash = sumOf(t, l)
		body, err := json.Marshal(l, json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		commit(t, db, store.Put(store.AuditSeal(acme, 4), 0, body))
		for _, r := range []audit.Report{verify(t, db), walk(t, db, audit.Head{})} {
			if r.Fault == nil || r.Fault.Link != 4 || r.Head.N != 3 {
				t.Errorf("%d entries: %+v", len(entries), r)
			}
		}
	}
}

func sumOf(t *testing.T, l audit.Link) string {
	t.Helper()
	body, err := json.Marshal(l, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Verifying a page of foreign bytes neither panics nor takes anything but the very bytes that were sealed.
func FuzzVerifier(f *testing.F) {
	record := []byte(`{"id":"1"}`)
	sum := sha256.Sum256(record)
	l := audit.Link{N: 1, Tenant: acme, At: noon, Entries: []audit.Entry{{Sort: "a", Hash: hex.EncodeToString(sum[:])}}}
	root := sha256.Sum256([]byte("fleetpass audit chain of acme"))
	l.Prev = hex.EncodeToString(root[:])
	empty, _ := json.Marshal(l, json.Deterministic(true))
	sum = sha256.Sum256(empty)
	l.Hash = hex.EncodeToString(sum[:])
	link, _ := json.Marshal(l, json.Deterministic(true))
	first := store.AuditSeal(acme, 1).Sort()
	f.Add(first, link, record)
	f.Add(first, []byte(`{}`), []byte(`{}`))
	f.Add("", []byte(nil), []byte(nil))
	f.Add(first, append(bytes.Clone(link), '\n'), record)
	f.Fuzz(func(t *testing.T, sort string, body, rec []byte) {
		known := audit.Head{N: 1, Hash: l.Hash} // without it, a fuzzer that computes a hash may well make a chain of its own
		v := audit.NewVerifier(acme, known)
		v.Chain(audit.ChainPage{Links: []audit.StoredLink{{Stored: audit.Stored{Sort: sort, Body: body}, Records: []audit.Stored{{Sort: "a", Body: rec}}}}})
		v.Places([]string{"a"})
		v.End()
		same := sort == first && bytes.Equal(body, link) && bytes.Equal(rec, record)
		if (v.Fault == nil) != same {
			t.Errorf("%q %q %q: %v", sort, body, rec, v.Fault)
		}
	})
}

// counting counts the items that lists read.
type counting struct {
	store.DB
	n int
}

func (c *counting) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		for it, err := range c.DB.List(ctx, r) {
			c.n++
			if !yield(it, err) {
				return
			}
		}
	}
}

// A part of the log costs what it returns, wherever in the log it lies.
func TestRecordsOfAPart(t *testing.T) {
	db := open(t)
	for i := range 60 {
		write(t, db, noon.Add(time.Duration(i/3)*time.Second), fmt.Sprint(i)) // three of each second
		if i == 40 {
			seal(t, db)
		}
	}
	for _, oldest := range []bool{true, false} {
		var paged []string
		for after := ""; ; {
			c := &counting{DB: db}
			n := 0
			for rec, err := range (audit.Query{After: after, OldestFirst: oldest, Limit: 7}).Records(t.Context(), c, acme) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				after = rec.Key.Sort()
				paged = append(paged, rec.Value.EntityID)
			}
			if c.n > 2*7 {
				t.Errorf("%d items read for %d records", c.n, n)
			}
			if n > 7 {
				t.Errorf("%d records of at most 7", n)
			}
			if n < 7 {
				break
			}
		}
		whole := strings.Fields(ids(t, db, time.Time{}, time.Time{}, !oldest))
		if !slices.Equal(paged, whole) || len(whole) != 60 {
			t.Errorf("oldest first %t: by pages %v, at once %v", oldest, paged, whole)
		}
	}
}

// A page of the chain that ends for its bytes lists about what it returns, however many links were asked for, and the pages
// together are the chain.
func TestChainListsWhatItReturns(t *testing.T) {
	db := open(t)
	const links = 120
	for i := range links {
		for n := range 1 + i%5 {
			write(t, db, noon.Add(time.Duration(i)*time.Second), fmt.Sprintf("%d-%d", i, n))
		}
		seal(t, db)
	}
	write(t, db, noon.Add(time.Hour), "unsealed")
	for _, bytes := range []int{1, 20_000, 60_000, 1 << 30, 0} {
		for _, most := range []int{500, 50, 3, 0} {
			read, after := 0, uint64(0)
			for more := true; more; {
				c := &counting{DB: db}
				page, err := audit.InStore{DB: c, Tenant: acme, Links: most, Bytes: bytes}.Chain(t.Context(), after)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(page.Links); n == 0 || most > 0 && n > most || c.n > max(2*n+2, n+20) {
					t.Fatalf("%d bytes, %d links: %d listed for %d", bytes, most, c.n, n)
				}
				for _, l := range page.Links {
					if read++; l.Sort != store.AuditSeal(acme, uint64(read)).Sort() || len(l.Records) == 0 || l.Records[0].Body == nil {
						t.Fatalf("%d bytes, %d links: link %d is %s with %d records", bytes, most, read, l.Sort, len(l.Records))
					}
				}
				after, more = uint64(read), page.More
				if more != (read < links) || (len(page.Unsealed) == 1) == more {
					t.Fatalf("%d bytes, %d links: after %d there are more: %t, and %d unsealed", bytes, most, read, more, len(page.Unsealed))
				}
			}
		}
	}
}

// A store that fails makes no verdict.
func TestVerifyUnavailable(t *testing.T) {
	db := chained(t)
	for _, method := range []string{"List", "Get"} {
		if _, err := audit.Verify(t.Context(), broken{db, method}, acme); !errors.Is(err, core.Unavailable) {
			t.Errorf("%s fails: %v", method, err)
		}
	}
}

type broken struct {
	store.DB
	method string
}

func (b broken) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if b.method == "Get" {
		return nil, core.Unavailable
	}
	return b.DB.Get(ctx, keys...)
}

func (b broken) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	if b.method == "List" {
		return func(yield func(store.Item, error) bool) { yield(store.Item{}, core.Unavailable) }
	}
	return b.DB.List(ctx, r)
}
