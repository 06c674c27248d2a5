package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/fleetpass/fleetpass/core"
)

// Conditional is db with the conditions of requests: what Matching and OnlyOnce put into a context becomes part of the commits
// that are made under it, so that a precondition holds in the very commit that it guards, and services need not know of
// it. A commit under a context without conditions is db's own.
func Conditional(db DB) DB { return conditional{db} }

// ErrRepeated ends a commit whose context forbids to do the same twice (OnlyOnce), and which was done before.
var ErrRepeated = fmt.Errorf("this was carried out before: %w", core.Exists)

// Matching returns a context under which no commit happens unless the item at k has that version: core.Outdated otherwise
// (RFC 9110 §13.1.1). Once a commit has changed the item, what follows in the same request is free: the condition was about
// what the caller had read.
func Matching(ctx context.Context, k Key, v Version) context.Context {
	return context.WithValue(ctx, matchKey{}, &match{key: k, version: v})
}

// OnlyOnce returns a context under which the act's own commit puts op too. That is the first one with an audit record in it, or
// with a sign-in that was begun to try a connection, which changes nothing that is recorded.
// It must create an item (expect 0) that says which request this was. If the item is there already, the commit does not
// happen and is ErrRepeated; so a request that is sent twice is carried out once, however the two overlap.
func OnlyOnce(ctx context.Context, op Op) context.Context {
	return context.WithValue(ctx, onceKey{}, &once{op: op})
}

type (
	matchKey struct{}
	onceKey  struct{}
)

type match struct {
	key     Key
	version Version
	mu      sync.Mutex
	met     bool // a commit that changed the item went through
}

type once struct {
	op   Op
	mu   sync.Mutex
	done bool
}

type conditional struct{ db DB }

func (c conditional) Get(ctx context.Context, keys ...Key) ([]Item, error) {
	return c.db.Get(ctx, keys...)
}

func (c conditional) List(ctx context.Context, r Range) iter.Seq2[Item, error] {
	return c.db.List(ctx, r)
}

func (c conditional) Commit(ctx context.Context, ops ...Op) error {
	m, _ := ctx.Value(matchKey{}).(*match)
	o, _ := ctx.Value(onceKey{}).(*once)
	if m == nil && o == nil {
		return c.db.Commit(ctx, ops...)
	}
	ops = append(make([]Op, 0, len(ops)+2), ops...)
	ops, changes, err := m.with(ops)
	if err != nil {
		return err
	}
	ops, marks := o.with(ops)
	switch err := c.db.Commit(ctx, ops...); {
	case err == nil:
		m.meet(changes)
		o.finish(marks)
		return nil
	case errors.Is(err, core.Conflict):
		return c.why(ctx, err, m, o, marks)
	default:
		return err
	}
}

// why finds out whether a conflict is due to a condition, which no retry would mend.
func (c conditional) why(ctx context.Context, conflict error, m *match, o *once, marks bool) error {
	var keys []Key
	if marks {
		keys = append(keys, o.op.Key)
	}
	open := m.open()
	if open {
		keys = append(keys, m.key)
	}
	if len(keys) == 0 {
		return conflict
	}
	items, err := c.db.Get(ctx, keys...)
	switch {
	case err != nil:
		return err
	case marks && items[0].Version != 0:
		return ErrRepeated
	case open && items[len(items)-1].Version != m.version:
		return errOutdated
	}
	return conflict
}

var errOutdated = fmt.Errorf("it was changed since; read it again: %w", core.Outdated)

func (m *match) open() bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.met
}

// with adds the precondition to a commit, and says whether the commit changes the item.
func (m *match) with(ops []Op) ([]Op, bool, error) {
	if !m.open() {
		return ops, false, nil
	}
	for _, op := range ops {
		if op.Key != m.key {
			continue
		}
		if op.Expect != m.version {
			return nil, false, errOutdated
		}
		return ops, op.Verb != VerbCheck, nil
	}
	return append(ops, Check(m.key, m.version)), false, nil
}

func (m *match) meet(changed bool) {
	if m != nil && changed {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.met = true
	}
}

// with adds the mark to the act's own commit, and says whether it did.
func (o *once) with(ops []Op) ([]Op, bool) {
	if o == nil {
		return ops, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return ops, false
	}
	for _, op := range ops {
		if kind := op.Key.Kind(); op.Verb == VerbPut && (kind == "audit-new" || kind == "flow") {
			return append(ops, o.op), true
		}
	}
	return ops, false
}

func (o *once) finish(marked bool) {
	if o != nil && marked {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.done = true
	}
}
