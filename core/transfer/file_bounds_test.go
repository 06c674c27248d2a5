package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/transfer"
)

// counting counts what is read of a file.
type counting struct {
	*bytes.Reader
	bytes int
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.Reader.ReadAt(b, at)
	c.bytes += n
	return n, err
}

// many is an export of n tenants, with some jobs each.
func many(n int) []byte {
	var tenants, entries, metas []string
	jobs := map[string][]string{}
	for i := range n {
		id := fmt.Sprintf("tenant-%05d", i)
		tenants = append(tenants, `"`+id+`"`)
		entries = append(entries, strings.ReplaceAll(entryLine, "acme", id))
		metas = append(metas, strings.ReplaceAll(metaLine, "acme", id))
		for at := range 3 { // they lie among those of others
			k := store.Due(core.TenantID(id), time.Unix(1e9+int64(at), 0), "x")
			jobs[k.Leading()] = append(jobs[k.Leading()], k.Sort()+"\x00"+line(k))
		}
	}
	lines := entries
	for shard := range store.DueShards {
		list := jobs[store.DueBefore(shard, time.Time{}).Leading()]
		slices.Sort(list)
		for _, l := range list {
			_, l, _ = strings.Cut(l, "\x00")
			lines = append(lines, l)
		}
	}
	header := `{"fleetpass":"export","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":[` + strings.Join(tenants, ",") + `]}`
	return forge(header, append(lines, metas...)...)
}

// Opening a file of many tenants, and copying them all, reads each byte a few times, however many tenants there are.
func TestFileIsReadAFewTimes(t *testing.T) {
	c := newClock()
	data := many(400)
	r := &counting{Reader: bytes.NewReader(data)}
	file, err := transfer.Open(t.Context(), r, int64(len(data)), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	if r.bytes > 4*len(data) {
		t.Errorf("opening a file of %d bytes reads %d", len(data), r.bytes)
	}
	r.bytes = 0
	db := newBolt(t, c)
	results, err := (&transfer.Copier{From: file, FromName: "file", To: db, Now: c.Now}).All(t.Context())
	if err != nil || len(results) != 400 {
		t.Fatalf("%d tenants, %v", len(results), err)
	}
	if r.bytes > 20*len(data) {
		t.Errorf("copying a file of %d bytes reads %d", len(data), r.bytes)
	}
	for _, r := range results {
		if r.Due != 3 || r.Items != 2 {
			t.Fatalf("%+v", r)
		}
	}
	for _, id := range []core.TenantID{"tenant-00000", "tenant-00399"} {
		if n := len(dump(t, db, id)); n != 5 {
			t.Errorf("%s arrived with %d items", id, n)
		}
	}
}

// A shared line that changes after the check is noticed, although only a tenant's share is read.
func TestSharesChangeAfterTheCheck(t *testing.T) {
	c := newClock()
	for _, what := range []string{`\"name\":\"A\"`, `\u001fx`} { // of the registry, and of a job
		data := many(3)
		file, err := open(t, c, data)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, []byte(what)) + len(what) - 1
		if what[0] == '\\' && what[1] == '"' {
			at -= 2
		}
		data[at]++
		db := newBolt(t, c)
		if _, err := (&transfer.Copier{From: file, FromName: "file", To: db, Now: c.Now}).All(t.Context()); !errors.Is(err, core.Conflict) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// A file may make us remember only so much, and none is written that may not be read: ten tenants have 10 entries, 30 jobs, and
// at most 15 partitions, which are the registry, the shards of the due index and a Meta each.
func TestFileBounds(t *testing.T) {
	c := newClock()
	for _, tt := range []struct {
		partitions, shared int
		want               error
	}{
		{15, 40, nil},
		{10, 40, core.TooLarge},
		{15, 39, core.TooLarge},
	} {
		file, err := transfer.OpenWithin(t.Context(), many(10), c.Now, tt.partitions, tt.shared)
		if !errors.Is(err, tt.want) {
			t.Errorf("within %d and %d: %v", tt.partitions, tt.shared, err)
			continue
		}
		whole, err := open(t, c, many(10))
		if err != nil {
			t.Fatal(err)
		}
		e := &transfer.Exporter{From: whole, FromName: "x", Now: c.Now}
		e.Within(tt.partitions, tt.shared)
		if _, err := e.Export(t.Context(), io.Discard, whole.Tenants()...); !errors.Is(err, tt.want) {
			t.Errorf("export within %d and %d: %v", tt.partitions, tt.shared, err)
		}
		if file != nil && len(file.Tenants()) != 10 {
			t.Errorf("holds %v", file.Tenants())
		}
	}
}

// endless is a stream that never ends.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	e.read += len(b)
	for i := range b {
		b[i] = '\n'
	}
	return len(b), nil
}

// A stream is opened like a file, and one that is none is read no further than to where that shows.
func TestOpenStream(t *testing.T) {
	c := newClock()
	spool := func() *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	file, err := transfer.OpenStream(t.Context(), bytes.NewReader(many(20)), spool(), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := (&transfer.Copier{From: file, FromName: "file", To: newBolt(t, c), Now: c.Now}).All(t.Context()); err != nil || len(r) != 20 {
		t.Errorf("%d tenants, %v", len(r), err)
	}
	var e endless
	s := spool()
	if _, err := transfer.OpenStream(t.Context(), &e, s, c.Now); !errors.Is(err, core.Invalid) {
		t.Errorf("error %v", err)
	}
	if info, err := s.Stat(); err != nil || info.Size() > 1<<20 || e.read > 1<<20 {
		t.Errorf("read %d bytes, %v", e.read, err)
	}
	broken := errors.New("the stream is damaged")
	if _, err := transfer.OpenStream(t.Context(), io.MultiReader(bytes.NewReader(many(1)), failing{broken}), spool(), c.Now); !errors.Is(err, broken) {
		t.Errorf("a stream that says in the end that it is damaged: %v", err)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }
