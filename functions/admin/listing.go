package admin

// Lists have one form, whatever they list. An endpoint of a list
//
//  1. names the parameters: row("GET", …, listUsers).with(listParams...);
//  2. has a table of what can be filtered and sorted by: var userTable = table[directory.User]{name: "users", …};
//  3. reads the request: l, err := readListing(c, userTable);
//  4. says where the entries come from, in their natural order: src := ranges([]store.Range{store.Users(c.tenant)}, read);
//     or any other source, which is a function of a place to start behind;
//  5. answers with found, err := l.page(src) as an array, c.array(found, wire), or in an object with found.next.
//
// A handler that pages by itself uses l.matches, l.limit, l.offset, l.after and l.passed, and makes the next cursor with
// l.cursor(place, passed, 0): a place is any text that orders the entries, and is not empty.

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// listParams are the parameters of every list.
var listParams = []string{"limit", "offset", "cursor", "sortBy", "sortOrder", filterBy, "search"}

// The bounds of a page, in entries.
const (
	maxLooked   = 2_000  // that a filter looks at, of who goes on by cursor; the rest is for the next page
	maxGathered = 10_000 // that are put in another order than their natural one
	maxSifted   = 50_000 // that are looked at for that, and by a filter for who may know of no cursor
)

// table says what a list can be filtered and sorted by.
type table[T any] struct {
	name       string // of the list, which its cursors are bound to
	fields     []field[T]
	natural    string // the field whose order is the natural one; empty: there is none
	keyed      bool   // the natural field is the last part of the entries' keys, so filters on it seek
	descending bool   // the natural order of an answer is the source's, backwards
}

// entry is something in a list.
type entry[T any] struct {
	place string // where it is in the natural order
	value T
}

// start says where a source begins to yield, and how.
type start struct {
	after  string // from behind that place; empty: from the first
	back   bool   // backwards
	want   int    // so many entries will be asked for at most
	prefix string // of a keyed table: only keys that begin so
	exact  bool   // that are the prefix
}

// source yields the entries of a list in their natural order.
type source[T any] func(start) iter.Seq2[entry[T], error]

// listing is a request for a page of a list.
type listing[T any] struct {
	table[T]
	limit  int
	offset int        // entries to pass over first
	after  string     // the place behind which the page begins; empty: it is the first, or sorted
	steps  bool       // the request has a cursor, be it empty: who sent it goes on after a page that is short
	passed int        // how many entries the pages before have passed
	back   bool       // backwards
	sort   *field[T]  // nil: the natural order
	bound  [8]byte    // what a cursor is bound to
	narrow *narrowing // by key; nil: by none

	conditions []condition[T]
	search     string // in lower case
}

type narrowing struct {
	prefix string
	exact  bool
}

// found is a page of a list.
type found[T any] struct {
	values []T
	next   string // the cursor of the next page; empty: this is the last
	total  int    // how many match in all; -1: not known
}

// readListing reads the parameters of a list.
func readListing[T any](c *call, t table[T]) (l listing[T], err error) {
	l.table = t
	if l.limit, l.offset, err = c.paging(); err != nil {
		return l, err
	}
	if l.conditions, err = readFilters(c.params[filterBy], t.fields); err != nil {
		return l, err
	}
	if err = l.readSearch(c.params); err != nil {
		return l, err
	}
	if err = l.readOrder(c.params); err != nil {
		return l, err
	}
	l.bound = c.question(t.name)
	l.steps = c.params.Has("cursor")
	if c.params.Get("cursor") == "" { // from the beginning
		return l, nil
	}
	if c.params.Has("offset") {
		return l, core.BadField("offset", "cannot go with a cursor, which says already where the page begins")
	}
	at, err := readPosition(c.params.Get("cursor"), l.bound)
	if err != nil || (at.place == "") != (l.sort != nil) {
		return l, errCursor
	}
	l.after, l.passed, l.offset = at.place, at.passed, at.skip
	return l, nil
}

func (l *listing[T]) readSearch(params url.Values) error {
	if !params.Has("search") {
		return nil
	}
	s := params.Get("search")
	if !slices.ContainsFunc(l.fields, func(f field[T]) bool { return f.searched }) {
		return core.BadField("search", "is of no use here: this list has no text to look into")
	}
	if s == "" {
		return core.BadField("search", "has nothing to look for")
	}
	l.search = strings.ToLower(s)
	return checkText("search", s)
}

func (l *listing[T]) readOrder(params url.Values) error {
	l.back = l.descending
	if params.Has("sortOrder") {
		switch params.Get("sortOrder") {
		case "asc":
			l.back = false
		case "desc":
			l.back = true
		default:
			return core.BadField("sortOrder", "must be asc or desc")
		}
	}
	if params.Has("sortBy") {
		name := params.Get("sortBy")
		f, err := fieldOf("sortBy", name, l.fields)
		if err != nil {
			return err
		}
		if !params.Has("sortOrder") {
			l.back = false
		}
		if f.name != l.natural {
			l.sort = &f
		}
	}
	if l.keyed {
		for _, c := range l.conditions {
			if c.name == l.natural && c.want.text != "" && (c.op == equal || c.op == startsWith) {
				l.narrow = &narrowing{c.want.text, c.op == equal}
				break
			}
		}
	}
	return nil
}

// filtered says whether entries are looked at that do not match.
func (l listing[T]) filtered() bool {
	return l.search != "" || len(l.conditions) > 1 || len(l.conditions) == 1 && l.narrow == nil
}

// matches says whether an entry is one that the request asks for.
func (l listing[T]) matches(v T) bool {
	for _, c := range l.conditions {
		if !c.matches(v) {
			return false
		}
	}
	return l.search == "" || slices.ContainsFunc(l.fields, func(f field[T]) bool {
		return f.searched && strings.Contains(strings.ToLower(f.value(v).text), l.search)
	})
}

func (l listing[T]) start(want int) start {
	s := start{after: l.after, back: l.back, want: want}
	if l.narrow != nil {
		s.prefix, s.exact = l.narrow.prefix, l.narrow.exact
	}
	return s
}

// sifting is the bound of what a filter looks at for a page. A page that ends at it is short, and only its cursor says that there is
// more: a client that pages by offset would take it for the last. So only who sends a cursor gets such pages. For all others
// the filter looks further, and fails where that is not enough.
func (l listing[T]) sifting() int {
	if l.steps {
		return maxLooked
	}
	return maxSifted
}

// tooLong is what a filter fails with. It names the parameter that could not be answered, and the ways out.
func (l listing[T]) tooLong() error {
	param := "search"
	if len(l.conditions) > 0 {
		param = cmp.Or(l.conditions[0].param, filterBy)
	}
	return fmt.Errorf("%s: the answer is not found among the first %d entries of the list; ask for less of it, or begin with an "+
		"empty parameter cursor and go on with the next of each answer, which takes it in steps: %w", param, maxSifted, core.Limit)
}

// page reads a page. In the natural order it begins behind the page before and reads one entry more than it shows, to know
// whether there is another page.
func (l listing[T]) page(src source[T]) (found[T], error) {
	if l.sort != nil {
		return l.sorted(src)
	}
	f, skip, passed, looked, last := found[T]{total: -1}, l.offset, l.passed, 0, l.after
	want := l.offset + l.limit + 1
	if l.filtered() {
		want = l.sifting() + 1
	}
	for e, err := range src(l.start(want)) {
		if err != nil {
			return found[T]{}, err
		}
		if looked++; looked > l.sifting() && l.filtered() {
			if !l.steps {
				return found[T]{}, l.tooLong()
			}
			f.next = l.cursor(last, passed, skip)
			return f, nil
		}
		if l.matches(e.value) {
			if len(f.values) == l.limit {
				f.next = l.cursor(last, passed, 0)
				return f, nil
			}
			passed++
			if skip > 0 {
				skip--
			} else {
				f.values = append(f.values, e.value)
			}
		}
		last = e.place
	}
	f.total = passed
	return f, nil
}

// sorted gathers what matches, puts it in order and cuts the page out.
func (l listing[T]) sorted(src source[T]) (found[T], error) {
	from := l.start(maxSifted + 1)
	from.back = false
	var all []T
	looked := 0
	for e, err := range src(from) {
		if err != nil {
			return found[T]{}, err
		}
		if looked++; looked > maxSifted || len(all) > maxGathered {
			return found[T]{}, fmt.Errorf("sortBy: the list is too long to be put in that order; ask for at most %d entries with %s, "+
				"or leave sortBy out and page in the natural order: %w", maxGathered, filterBy, core.Limit)
		}
		if l.matches(e.value) {
			all = append(all, e.value)
		}
	}
	if len(all) > maxGathered {
		return found[T]{}, fmt.Errorf("sortBy: more than %d entries match; ask for fewer with %s, or leave sortBy out and page in "+
			"the natural order: %w", maxGathered, filterBy, core.Limit)
	}
	slices.SortStableFunc(all, func(a, b T) int {
		if l.back {
			a, b = b, a
		}
		return l.sort.kind.compare(l.sort.value(a), l.sort.value(b))
	})
	begin := min(l.passed+l.offset, len(all))
	end := min(begin+l.limit, len(all))
	f := found[T]{values: all[begin:end], total: len(all)}
	if end < len(all) {
		f.next = l.cursor("", end, 0)
	}
	return f, nil
}

// ranges is the source of what lies in ranges of one partition, which must be in order and apart. Read reads a range.
func ranges[T any](parts []store.Range, read func(store.Range) iter.Seq2[entry[T], error]) source[T] {
	return func(from start) iter.Seq2[entry[T], error] {
		return func(yield func(entry[T], error) bool) {
			left := from.want
			for i := range parts {
				part := parts[i]
				if from.back {
					part = parts[len(parts)-1-i]
				}
				part, some := from.in(part)
				if !some {
					continue
				}
				part.Limit = left
				for e, err := range read(part) {
					left--
					if !yield(e, err) || err != nil {
						return
					}
				}
				if left <= 0 {
					return
				}
			}
		}
	}
}

// in is what a range has behind the start.
func (s start) in(part store.Range) (store.Range, bool) {
	switch {
	case s.exact:
		part = part.Exactly(s.prefix)
	case s.prefix != "":
		part = part.Starting(s.prefix)
	}
	part.Descending = s.back
	if s.after == "" {
		return part, true
	}
	return part.Behind(s.after)
}

// records makes the reader of a table's records: their place is their sort key.
func records[T any](list func(store.Range) iter.Seq2[store.Record[T], error]) func(store.Range) iter.Seq2[entry[T], error] {
	return func(r store.Range) iter.Seq2[entry[T], error] {
		return func(yield func(entry[T], error) bool) {
			for rec, err := range list(r) {
				if !yield(entry[T]{rec.Key.Sort(), rec.Value}, err) || err != nil {
					return
				}
			}
		}
	}
}

// inMemory is the source of a short list that was read already. Its natural order is that of the places, whatever order it
// comes in.
func inMemory[T any](list []T, place func(T) string) source[T] {
	all := make([]entry[T], 0, len(list))
	for _, v := range list {
		all = append(all, entry[T]{place(v), v})
	}
	slices.SortStableFunc(all, func(a, b entry[T]) int { return cmp.Compare(a.place, b.place) })
	return func(from start) iter.Seq2[entry[T], error] {
		return func(yield func(entry[T], error) bool) {
			for i := range all {
				e := all[i]
				if from.back {
					e = all[len(all)-1-i]
				}
				if from.after != "" && (!from.back && e.place <= from.after || from.back && e.place >= from.after) {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// answer is a page as an array. What else there is to say of it is in headers.
func answer[T, W any](f found[T], wire func(T) W) (reply, error) {
	return reply{status: http.StatusOK, json: each(f.values, wire), next: f.next, total: f.total, list: true}, nil
}

// position is what a cursor says: where the next page begins.
type position struct {
	passed int    // entries that the pages so far have passed
	skip   int    // entries that are still to be passed over
	place  string // of the last entry looked at; empty in a list that is sorted, where passed says all
}

var errCursor = core.BadField("cursor", "must be the next of an answer to the same question, as it came")

const (
	cursorForm = 1
	maxPassed  = 1 << 30 // what a cursor may count
)

// cursor makes the cursor of the page that begins behind a place.
func (l listing[T]) cursor(place string, passed, skip int) string {
	b := append([]byte{cursorForm}, l.bound[:]...)
	b = binary.AppendUvarint(b, uint64(passed))
	b = binary.AppendUvarint(b, uint64(skip))
	return base64.RawURLEncoding.EncodeToString(append(b, place...))
}

// question is what a cursor is bound to: the tenant, the list, and all that the request says but for how much of the answer
// it wants. A cursor gives no right to anything: it only says where to go on in what the caller may see.
func (c *call) question(list string) (sum [8]byte) {
	rest := url.Values{}
	for name, values := range c.params {
		if name != "limit" && name != "offset" && name != "cursor" {
			rest[name] = values
		}
	}
	h := sha256.New()
	for _, s := range []string{string(c.tenant), list, rest.Encode()} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

// readPosition reads a cursor that was made for a question. Whatever is wrong with it, the answer is the same.
func readPosition(s string, bound [8]byte) (at position, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 1+len(bound) || b[0] != cursorForm || [8]byte(b[1:9]) != bound {
		return at, errCursor
	}
	b = b[1+len(bound):]
	for _, n := range []*int{&at.passed, &at.skip} {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > maxPassed {
			return at, errCursor
		}
		*n, b = int(v), b[size:]
	}
	if len(b) > store.MaxKey || !utf8.Valid(b) {
		return at, errCursor
	}
	at.place = string(b)
	return at, nil
}

// listOf answers with a page of the records of a range.
func listOf[T, W any](c *call, t table[T], r store.Range, wire func(T) W) (reply, error) {
	l, err := readListing(c, t)
	if err != nil {
		return failed(err)
	}
	f, err := l.page(ranges([]store.Range{r}, records(func(r store.Range) iter.Seq2[store.Record[T], error] {
		return store.Table[T]{}.List(c.ctx, c.DB, r)
	})))
	if err != nil {
		return failed(err)
	}
	return answer(f, wire)
}
