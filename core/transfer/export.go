package transfer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// An export is lines of JSON: a header, one line for each item, a trailer. Items of a partition stand together, in order of
// their sort keys. It holds personal data, password hashes, and signing keys in the form that their Wrapper made.

// fileFormat is the version of the form.
const fileFormat = 1

// header is the first line.
type header struct {
	Fleetpass string          `json:"fleetpass"` // "export"
	Format    int             `json:"format"`
	Source    string          `json:"source"` // for people
	At        time.Time       `json:"at"`
	Tenants   []core.TenantID `json:"tenants"`             // in the order of Tenants
	Rewrapped bool            `json:"rewrapped,omitempty"` // the keys are not wrapped as they are at the source
}

// line is an item, or the trailer. The body is in Body where it is UTF-8, as nearly all are, and in Bytes, as base64, where
// it is not.
type line struct {
	Partition string  `json:"partition,omitempty"` // store.Key.Leading
	Sort      string  `json:"sort,omitempty"`
	Expires   int64   `json:"expires,omitempty"` // Unix seconds; absent: never
	Body      *string `json:"body,omitzero"`
	Bytes     *[]byte `json:"bytes,omitzero"`

	// Of the last line alone. A file without it is not whole.
	Items  *int   `json:"items,omitzero"`
	SHA256 string `json:"sha256,omitempty"` // of every byte before this line, in hex
}

// The bounds of lines. A body of nothing but control characters takes six bytes for each; a header names every tenant.
const (
	maxLine   = 6*(store.MaxBody+store.MaxKey) + 1024
	maxHeader = 8 << 20
)

// Exporter writes tenants into a file. From, FromName and Now are needed.
type Exporter struct {
	From     Source
	FromName string
	Wrappers Wrappers // From alone proves that the keys open; both wrap them anew, for a file that travels
	Now      func() time.Time
	Progress func(Progress)

	limits limits // default fileLimits: what is written can be read
}

// Export writes the tenants and what belongs to them, and then reads the source a second time: one that did not stand still
// is core.Conflict, and what was written is to be thrown away and tried again. Nothing of the file counts until Export
// returned nil.
func (e *Exporter) Export(ctx context.Context, w io.Writer, tenants ...core.TenantID) ([]Result, error) {
	out := &export{Exporter: e, Writer: bufio.NewWriterSize(w, 1<<20), sum: sha256.New()}
	results := make([]Result, len(tenants))
	for i, t := range tenants {
		results[i].Tenant = t
	}
	err := out.run(ctx, tenants, results)
	return results, err
}

type export struct {
	*Exporter
	*bufio.Writer
	sum   hash.Hash
	items int
	bytes int64

	open               string // the partition that is being written
	partitions, shared int
}

func (x *export) run(ctx context.Context, list []core.TenantID, results []Result) error {
	began := x.Now()
	err := x.write(header{Fleetpass: "export", Format: fileFormat, Source: x.FromName, At: began.UTC().Truncate(time.Second), Tenants: list, Rewrapped: x.Wrappers.To != nil})
	if err != nil {
		return err
	}
	// Partitions that tenants share come first, so that each stands together.
	origins := make([]origin, len(list))
	byID := make([]int, len(list))
	for i, t := range list {
		byID[i] = i
		if origins[i], err = readOrigin(ctx, x.From, t); err != nil {
			return err
		}
		results[i].Erased = origins[i].state == org.Erased
	}
	slices.SortFunc(byID, func(a, b int) int { return compareKeys(origins[a].entry.Key, origins[b].entry.Key) })
	for _, i := range byID {
		if err := x.item(origins[i].entry); err != nil {
			return err
		}
	}
	if err := x.jobs(ctx, list, results); err != nil {
		return err
	}
	for i, t := range list {
		if results[i].Erased {
			continue
		}
		if err := x.tenant(ctx, origins[i], t, &results[i]); err != nil {
			return err
		}
	}
	n := x.items
	sum := hex.EncodeToString(x.sum.Sum(nil))
	if err := x.write(line{Items: &n, SHA256: sum}); err != nil {
		return err
	}
	return x.Flush()
}

func compareKeys(a, b store.Key) int {
	switch {
	case a.Sort() < b.Sort():
		return -1
	case a.Sort() > b.Sort():
		return 1
	}
	return 0
}

// jobs writes what the due index holds of the tenants, shard by shard.
func (x *export) jobs(ctx context.Context, list []core.TenantID, results []Result) error {
	done := map[string]bool{}
	index := make(map[core.TenantID]int, len(list))
	for i, t := range list {
		index[t] = i
	}
	for _, t := range list {
		shard := store.DueShardOf(t)
		if done[shard.Leading()] {
			continue
		}
		done[shard.Leading()] = true
		for it, err := range x.From.List(ctx, shard) {
			if err != nil {
				return err
			}
			i, ok := index[it.Key.About()]
			if !ok || results[i].Erased || !live(it, x.Now()) {
				continue
			}
			results[i].Due++
			if err := x.item(it); err != nil {
				return err
			}
		}
	}
	return nil
}

// tenant writes all else of one tenant, and reads it once more.
func (x *export) tenant(ctx context.Context, o origin, t core.TenantID, result *Result) error {
	began := x.Now()
	first, before := newWitness(nil, began, 0), x.items
	bytes := x.bytes
	if err := x.all(ctx, o, t, first, true); err != nil {
		return err
	}
	result.Items, result.Bytes, result.Digest = x.items-before+1, x.bytes-bytes+size(o.entry), first.digest()
	second := newWitness(first, x.Now(), x.Now().Sub(began))
	again, err := readOrigin(ctx, x.From, t)
	if err != nil {
		return err
	}
	if err := x.all(ctx, again, t, second, false); err != nil {
		return err
	}
	if !second.agrees(first, x.Now()) {
		return fmt.Errorf("tenant %s changed while it was exported: suspend it, or try again: %w", t, core.Conflict)
	}
	return nil
}

func (x *export) all(ctx context.Context, o origin, t core.TenantID, w *witness, write bool) error {
	w.add(o.meta)
	w.add(o.entry)
	if write {
		if err := x.item(o.meta); err != nil {
			return err
		}
	}
	clusters := map[core.ClusterID]bool{}
	if err := clustersOf(ctx, x.From, t, clusters); err != nil {
		return err
	}
	for _, p := range parts(t, sorted(clusters)) {
		if x.Progress != nil {
			x.Progress(Progress{Tenant: t, Partition: p.Leading(), Round: 1, Items: x.items, Bytes: x.bytes, Written: x.items})
		}
		for it, err := range x.From.List(ctx, p.Range) {
			if err != nil {
				return err
			}
			if !live(it, x.Now()) {
				continue
			}
			w.add(it)
			if !write {
				continue
			}
			if isKey(it.Key) && x.Wrappers.From != nil {
				if it.Body, err = keys.Rewrap(ctx, it.Key, it.Body, x.Wrappers.From, x.Wrappers.To); err != nil {
					return fmt.Errorf("the keys of tenant %s: %w", t, err)
				}
			}
			if err := x.item(it); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *export) item(it store.Item) error {
	x.items++
	x.bytes += size(it)
	if name := it.Key.Leading(); name != x.open {
		x.open = name
		x.partitions++
	}
	if shared(it.Key) {
		x.shared++
	}
	if err := cmp.Or(x.limits, fileLimits).hit(x.partitions, x.shared); err != nil {
		return err
	}
	l := line{Partition: it.Key.Leading(), Sort: it.Key.Sort()}
	if !it.Expires.IsZero() {
		l.Expires = it.Expires.Unix()
	}
	if utf8.Valid(it.Body) {
		s := string(it.Body)
		l.Body = &s
	} else {
		l.Bytes = &it.Body
	}
	return x.write(l)
}

func (x *export) write(v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	b = append(b, '\n')
	x.sum.Write(b)
	_, err = x.Writer.Write(b)
	return err
}
