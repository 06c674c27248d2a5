package transfer

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

// mirror compares a part on both sides, in one walk over the two in order, and with write brings the target's to the
// source's. Without it, it ends at the first difference.
func (r *run) mirror(ctx context.Context, p part, write bool) error {
	from, stop := walk(ctx, r.From, p)
	defer stop()
	to, stop := walk(ctx, r.To, p)
	defer stop()
	b := batch{run: r, count: write, dry: !write || r.DryRun}
	source := func() (it *store.Item, err error) { // what is about to expire stays behind
		for it, err = from(); it != nil && !live(*it, r.Now()); it, err = from() {
		}
		return it, err
	}
	src, err := source()
	if err != nil {
		return err
	}
	dst, err := to()
	if err != nil {
		return err
	}
	r.tell(p)
	for src != nil || dst != nil {
		order := 0
		switch {
		case src == nil:
			order = 1
		case dst == nil:
			order = -1
		default:
			order = strings.Compare(src.Key.Sort(), dst.Key.Sort())
		}
		if src != nil && order <= 0 {
			r.read(*src)
			if r.round.items%1000 == 0 {
				r.tell(p)
			}
		}
		switch {
		case order < 0: // the target lacks it
			err = b.put(ctx, *src, 0)
		case order > 0 && !p.puts && live(*dst, r.Now()): // the source has it no more
			err = b.delete(ctx, *dst)
		case order == 0:
			var same bool
			if same, err = r.same(ctx, *src, *dst); err == nil && !same {
				err = b.put(ctx, *src, dst.Version)
			}
		}
		if err != nil {
			return err
		}
		if !write && r.round.differ > 0 {
			return nil
		}
		if order <= 0 {
			if src, err = source(); err != nil {
				return err
			}
		}
		if order >= 0 {
			if dst, err = to(); err != nil {
				return err
			}
		}
	}
	return b.commit(ctx)
}

// walk reads the items of a part, one at a call, and nil behind the last.
func walk(ctx context.Context, src Source, p part) (next func() (*store.Item, error), stop func()) {
	pull, stop := iter.Pull2(p.in(ctx, src))
	return func() (*store.Item, error) {
		for {
			it, err, ok := pull()
			switch {
			case !ok:
				return nil, nil
			case err != nil:
				return nil, err
			case p.has(it.Key):
				return &it, nil
			}
		}
	}, stop
}

// read counts an item of the source.
func (r *run) read(it store.Item) {
	r.round.items++
	r.round.bytes += size(it)
	r.round.witness.add(it)
}

func (r *run) tell(p part) {
	if r.Progress != nil {
		r.Progress(Progress{
			Tenant: r.tenant, Partition: p.Leading(), Round: r.result.Rounds,
			Items: r.round.items, Bytes: r.round.bytes, Written: r.result.Put + r.result.Deleted,
		})
	}
}

func isKey(k store.Key) bool { return k.Kind() == "key" }

// same says whether the target's item is what the source's becomes on the way. Keys that are wrapped anew are compared by
// what is inside: they never look the same. One that does not open at the target is another.
func (r *run) same(ctx context.Context, src, dst store.Item) (bool, error) {
	if !src.Expires.Equal(dst.Expires) {
		return false, nil
	}
	if r.Wrappers.To == nil || !isKey(src.Key) {
		return bytes.Equal(src.Body, dst.Body), nil
	}
	same, err := keys.Same(ctx, src.Key, src.Body, r.Wrappers.From, dst.Body, r.Wrappers.To)
	if errors.Is(err, keys.ErrUnwrap) { // the source's were opened before anything was written
		return false, nil
	}
	return same, err
}

// batch gathers what is to be written to the target. Each commit holds only while the claim does.
type batch struct {
	*run
	count bool // what differs counts as written
	dry   bool // nothing is
	ops   []store.Op
	bytes int
}

// maxBatch leaves room for the check of the claim. maxBatchBytes keeps a request short where bodies are large.
const (
	maxBatch      = store.MaxOps - 1
	maxBatchBytes = 1 << 20
)

func (b *batch) put(ctx context.Context, it store.Item, expect store.Version) (err error) {
	b.round.differ++
	if b.count {
		b.result.Put++
	}
	if b.dry {
		return nil
	}
	body := it.Body
	if isKey(it.Key) && b.Wrappers.From != nil {
		if body, err = keys.Rewrap(ctx, it.Key, body, b.Wrappers.From, b.Wrappers.To); err != nil {
			return err
		}
	}
	return b.add(ctx, store.Put(it.Key, expect, body).Until(it.Expires))
}

func (b *batch) delete(ctx context.Context, it store.Item) error {
	b.round.differ++
	if b.count {
		b.result.Deleted++
	}
	if b.dry {
		return nil
	}
	return b.add(ctx, store.Delete(it.Key, it.Version))
}

func (b *batch) add(ctx context.Context, op store.Op) error {
	b.ops = append(b.ops, op)
	b.bytes += len(op.Body)
	if len(b.ops) < maxBatch && b.bytes < maxBatchBytes {
		return nil
	}
	return b.commit(ctx)
}

// commit writes what was gathered. If something is not as it was read, because a commit that was thought lost came through,
// or an item expired meanwhile, the next round sees to it, as long as the claim stands.
func (b *batch) commit(ctx context.Context) error {
	if len(b.ops) == 0 {
		return nil
	}
	err := b.To.Commit(ctx, append(b.ops, store.Check(store.TenantEntry(b.tenant), b.held))...)
	b.ops, b.bytes = nil, 0
	if errors.Is(err, core.Conflict) {
		return b.stillHeld(ctx)
	}
	return err
}
