package transfer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/strict"
)

// File is an export that was found whole: a Source for a Copier. Make it with Open.
type File struct {
	Source    string // that was exported, for people
	At        time.Time
	Rewrapped bool // the keys in it were wrapped anew for it
	Items     int
	SHA256    string // of all its lines but the last, in hex: two files with the same hold the same

	tenants  []core.TenantID
	r        io.ReaderAt
	now      func() time.Time
	sections map[string]section // by store.Range.Leading
	shares   map[share]section  // of the partitions that tenants share
}

// share is a tenant's share of a partition that tenants share: the registry, and a shard of the due index. A copy of every
// tenant asks for each of them in turn, and must not read the whole partition each time.
type share struct {
	partition string
	tenant    core.TenantID
}

// section is where lines that are read together are, and their sum.
type section struct {
	spans []span
	sum   [sha256.Size]byte
}

// span is lines that stand together.
type span struct {
	at, size int64
	line     int // the number of the first
}

// limits bound what a file makes us remember: a few hundred bytes for each partition, a few dozen for each shared line.
type limits struct {
	partitions int
	shared     int // lines of the registry and the due index
}

// fileLimits let about ten thousand tenants of some clusters each into one file. More go into several.
var fileLimits = limits{partitions: 1 << 20, shared: 1 << 22}

// hit says which limit is passed, if one is.
func (l limits) hit(partitions, shared int) error {
	switch {
	case partitions > l.partitions:
		return fmt.Errorf("more than %d partitions in one file: put fewer tenants into each: %w", l.partitions, core.TooLarge)
	case shared > l.shared:
		return fmt.Errorf("more than %d tenants and jobs in one file: put fewer tenants into each: %w", l.shared, core.TooLarge)
	}
	return nil
}

// shared says whether an item lies in a partition that tenants share.
func shared(k store.Key) bool { return k.Kind() == "tenant" || k.Kind() == "due" }

// Open reads an export from its first byte to its last and refuses, as core.Invalid with the line's number, whatever Export
// does not write: a line that is not strict JSON or too long, a key that no constructor of core/store could have made, a body
// over the limits, an item out of order, of a tenant or a cluster that the file is not about, one that does not belong into
// a copy, a tenant without its beginning, a count or a sum that does not hold, anything behind the end. What it says never
// quotes the file. A file with more in it than we can keep account of is core.TooLarge. Items that have expired since are
// passed over later, by now.
func Open(ctx context.Context, r io.ReaderAt, size int64, now func() time.Time) (*File, error) {
	return open(ctx, io.NewSectionReader(r, 0, size), r, now, fileLimits)
}

// Spool is where a stream is kept: what is written, one behind the other, is read again by its offset.
type Spool interface {
	io.Writer
	io.ReaderAt
}

// OpenStream is Open for what can be read once only, such as what a decompressor gives. It writes what it reads into an empty
// spool, and checks each line before it reads on: so a stream that is no export is not written down to its end.
func OpenStream(ctx context.Context, in io.Reader, s Spool, now func() time.Time) (*File, error) {
	return open(ctx, io.TeeReader(in, s), s, now, fileLimits)
}

func open(ctx context.Context, in io.Reader, r io.ReaderAt, now func() time.Time, l limits) (*File, error) {
	f := &File{r: r, now: now, sections: map[string]section{}, shares: map[share]section{}}
	c := checker{File: f, limits: l, lines: lines{r: bufio.NewReaderSize(in, 64<<10)}}
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	if err := f.whole(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// Tenants is every tenant that the file holds, in the order to copy them in.
func (f *File) Tenants() []core.TenantID { return slices.Clone(f.tenants) }

// lines reads lines of bounded length.
type lines struct {
	r  *bufio.Reader
	n  int   // of the line that was read last
	at int64 // behind it
}

// next returns a line with its newline. Behind the last it is io.EOF.
func (l *lines) next(limit int) ([]byte, error) {
	l.n++
	var long []byte
	for {
		b, err := l.r.ReadSlice('\n')
		l.at += int64(len(b))
		switch {
		case len(long)+len(b) > limit:
			return nil, l.bad("is over %d bytes", limit)
		case err == nil && long == nil:
			return b, nil
		case err == nil:
			return append(long, b...), nil
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, b...)
		case errors.Is(err, io.EOF) && len(long)+len(b) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, l.bad("breaks off: the file is not whole")
		default:
			return nil, fmt.Errorf("transfer: line %d: %w", l.n, err)
		}
	}
}

func (l *lines) bad(what string, args ...any) error {
	return fmt.Errorf("transfer: line %d %s: %w", l.n, fmt.Sprintf(what, args...), core.Invalid)
}

// checker walks a file once.
type checker struct {
	*File
	lines
	limits
	about  map[core.TenantID]bool
	open   string              // the partition that is being read
	last   string              // its last sort key
	sum    hash.Hash           // of its lines
	sums   map[share]hash.Hash // of the lines of the tenants' shares of it
	shared int                 // lines of all shared partitions
}

func (c *checker) check(ctx context.Context) error {
	all := sha256.New()
	c.sum, c.sums = sha256.New(), map[share]hash.Hash{}
	head, err := c.next(maxHeader)
	if errors.Is(err, io.EOF) {
		return c.bad("is missing: the file is empty")
	}
	if err != nil {
		return err
	}
	all.Write(head)
	if err := c.header(head); err != nil {
		return err
	}
	for {
		if c.n%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("transfer: %w: %w", core.Unavailable, ctx.Err())
		}
		before := c.at
		b, err := c.next(maxLine)
		if errors.Is(err, io.EOF) {
			return c.bad("is missing: the file breaks off before its trailer")
		}
		if err != nil {
			return err
		}
		l, err := c.decode(b)
		if err != nil {
			return err
		}
		if l.Items != nil || l.SHA256 != "" {
			c.close()
			return c.trailer(l, hex.EncodeToString(all.Sum(nil)))
		}
		it, err := l.item()
		if err == nil {
			err = c.belongs(it)
		}
		if err != nil {
			return c.bad("%s", err)
		}
		name := it.Key.Leading()
		if name != c.open {
			if _, twice := c.sections[name]; twice {
				return c.bad("goes back to a partition that ended before")
			}
			c.close()
			c.open = name
		} else if it.Key.Sort() <= c.last {
			return c.bad("is out of order, or twice the same key")
		}
		all.Write(b)
		c.sum.Write(b)
		here := span{before, c.at - before, c.n}
		c.sections[name], c.last = c.sections[name].with(here), it.Key.Sort()
		if shared(it.Key) {
			of := share{name, it.Key.About()}
			c.shares[of] = c.shares[of].with(here)
			if c.sums[of] == nil {
				c.sums[of] = sha256.New()
			}
			c.sums[of].Write(b)
			c.shared++
		}
		if err := c.hit(len(c.sections), c.shared); err != nil {
			return fmt.Errorf("transfer: line %d: %w", c.n, err)
		}
		c.Items++
	}
}

// with is a section with one more line.
func (s section) with(l span) section {
	if n := len(s.spans); n > 0 && s.spans[n-1].at+s.spans[n-1].size == l.at {
		s.spans[n-1].size += l.size
	} else {
		s.spans = append(s.spans, l)
	}
	return s
}

// close ends the partition that is being read.
func (c *checker) close() {
	if c.open == "" {
		return
	}
	s := c.sections[c.open]
	c.sum.Sum(s.sum[:0])
	c.sections[c.open] = s
	c.sum.Reset()
	for of, sum := range c.sums {
		s := c.shares[of]
		sum.Sum(s.sum[:0])
		c.shares[of] = s
	}
	clear(c.sums)
}

func (c *checker) header(b []byte) error {
	var h header
	if err := strict.JSON(b, maxHeader, &h); err != nil {
		return c.bad("is not the header of an export: %v", err)
	}
	if h.Fleetpass != "export" || h.Format != fileFormat {
		return c.bad("is not the header of an export of format %d, which this version reads", fileFormat)
	}
	c.about = map[core.TenantID]bool{}
	for _, t := range h.Tenants {
		if _, err := core.ParseTenantID("tenants", string(t)); err != nil || c.about[t] {
			return c.bad("names a tenant twice, or one that can be none")
		}
		c.about[t] = true
	}
	if len(h.Tenants) == 0 {
		return c.bad("names no tenant")
	}
	c.Source, c.At, c.Rewrapped, c.tenants = h.Source, h.At, h.Rewrapped, h.Tenants
	return nil
}

func (c *checker) decode(b []byte) (l line, err error) {
	if err := strict.JSON(b, maxLine, &l); err != nil {
		return l, c.bad("does not read: %v", err)
	}
	return l, nil
}

// maxExpires is the end of the year 9999: no store of ours keeps a later time.
const maxExpires = 253402300799

// item makes the item of a line. Errors say what is wrong with the line.
func (l line) item() (it store.Item, err error) {
	switch k, err := store.ParseKey(l.Partition, l.Sort); {
	case err != nil:
		return it, errors.New("names an item that cannot be")
	case (l.Body == nil) == (l.Bytes == nil):
		return it, errors.New("has no body, or two")
	case l.Expires < 0 || l.Expires > maxExpires:
		return it, errors.New("expires at no time that a store keeps")
	default:
		it.Key, it.Version = k, 1
	}
	if l.Bytes != nil {
		it.Body = *l.Bytes
	} else {
		it.Body = []byte(*l.Body)
	}
	if len(it.Body) > store.MaxBody {
		return it, fmt.Errorf("has a body of over %d bytes", store.MaxBody)
	}
	if l.Expires != 0 {
		it.Expires = time.Unix(l.Expires, 0).UTC()
	}
	return it, nil
}

// belongs refuses items that are about no tenant of the file, or that no copy carries.
func (c *checker) belongs(it store.Item) error {
	k := it.Key
	switch {
	case !c.about[k.About()]:
		return errors.New("is about a tenant that the header does not name")
	case k.IsOutbox(), k.Kind() == "queue":
		return errors.New("holds what is under way in another store, which no export has")
	}
	return nil
}

func (c *checker) trailer(l line, sum string) error {
	switch {
	case l.Partition != "" || l.Sort != "" || l.Expires != 0 || l.Body != nil || l.Bytes != nil || l.Items == nil:
		return c.bad("is half a trailer")
	case *l.Items != c.Items:
		return c.bad("says that there are another number of items than there are")
	case l.SHA256 != sum:
		return c.bad("has another sum than the lines before it: the file was damaged or changed")
	}
	c.SHA256 = sum
	switch _, err := c.next(maxLine); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil, errors.Is(err, core.Invalid):
		return c.bad("stands behind the end")
	default: // a stream says in the end that it is damaged
		return err
	}
}

// whole looks whether every tenant is there, and nothing lies where no copy would look for it.
func (f *File) whole(ctx context.Context) error {
	known := map[string]bool{store.TenantEntries().Leading(): true}
	for _, t := range f.tenants {
		o, err := readOrigin(ctx, f, t)
		if err != nil {
			return fmt.Errorf("transfer: the file: %w", errors.Join(core.Invalid, err))
		}
		known[jobs(t).Leading()] = true
		if o.state == org.Erased {
			continue
		}
		known[store.Meta(t).Leading()] = true
		clusters := map[core.ClusterID]bool{}
		if err := clustersOf(ctx, f, t, clusters); err != nil {
			return err
		}
		for _, p := range parts(t, sorted(clusters)) {
			known[p.Leading()] = true
		}
	}
	for name, s := range f.sections {
		if !known[name] {
			return fmt.Errorf("transfer: line %d begins a partition of a cluster or tenant that is not in the file: %w", s.spans[0].line, core.Invalid)
		}
	}
	return nil
}

// Get returns the items of a few keys. It reads their partitions, but of those that tenants share only what is about the
// tenant, so it is for the small ones.
func (f *File) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	items := make([]store.Item, len(keys))
	for i, k := range keys {
		items[i].Key = k
		for it, err := range f.List(ctx, store.Only(k)) {
			if err != nil {
				return nil, err
			}
			items[i] = it
		}
	}
	return items, nil
}

// errChanged says that the file is not the one that was checked.
var errChanged = fmt.Errorf("transfer: the file changed while it was read: %w", core.Conflict)

// List returns a range of one partition, ascending. Whoever reads to the end learns whether the file is still the one that
// was checked.
func (f *File) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if r.Descending || r.Limit != 0 {
			yield(store.Item{}, fmt.Errorf("transfer: a file is read forward, and whole: %w", core.Unsupported))
			return
		}
		s := f.sections[r.Leading()]
		if r.To == r.From+"\x00" { // one key: of the registry, a tenant's is all that there is about it
			if of, ok := f.shares[share{r.Leading(), core.TenantID(r.From)}]; ok {
				s = of
			}
		}
		f.read(ctx, r, s, yield)
	}
}

// jobs is a tenant's share of the due index. What List gives of its shard is more, and costs as much for each tenant as for
// all.
func (f *File) jobs(ctx context.Context, t core.TenantID) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		r := jobs(t).Range
		f.read(ctx, r, f.shares[share{r.Leading(), t}], yield)
	}
}

// read yields what a section holds of a range.
func (f *File) read(ctx context.Context, r store.Range, s section, yield func(store.Item, error) bool) {
	sum := sha256.New()
	for _, at := range s.spans {
		in := lines{r: bufio.NewReaderSize(io.NewSectionReader(f.r, at.at, at.size), int(min(at.size, 64<<10))), n: at.line - 1}
		for {
			if in.n%1024 == 0 && ctx.Err() != nil {
				yield(store.Item{}, fmt.Errorf("transfer: %w: %w", core.Unavailable, ctx.Err()))
				return
			}
			b, err := in.next(maxLine)
			if errors.Is(err, io.EOF) {
				break
			}
			var l line
			var it store.Item
			if err == nil {
				sum.Write(b)
				err = strict.JSON(b, maxLine, &l)
			}
			if err == nil {
				it, err = l.item()
			}
			if err != nil || it.Key.Leading() != r.Leading() {
				yield(store.Item{}, errChanged)
				return
			}
			k := it.Key.Sort()
			if k < r.From || r.To != "" && k >= r.To || !it.Expires.IsZero() && !it.Expires.After(f.now()) {
				continue
			}
			if !yield(it, nil) {
				return
			}
		}
	}
	if len(s.spans) > 0 && !bytes.Equal(sum.Sum(nil), s.sum[:]) {
		yield(store.Item{}, errChanged)
	}
}
