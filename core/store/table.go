package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/events"
)

// Table reads and writes items whose bodies are a T, as JSON. Unknown members are kept out of sight, not refused, so that
// an older version of the code can read what a newer one wrote. The zero Table works.
type Table[T any] struct{}

// Record is a T with what it takes to change it.
type Record[T any] struct {
	Key     Key
	Version Version // 0: absent, and Value is the zero T
	Value   T
	Expires time.Time
}

// Exists says whether the record is there.
func (r Record[T]) Exists() bool { return r.Version != 0 }

// Get reads one record. An absent one is core.NotFound.
func (t Table[T]) Get(ctx context.Context, db DB, k Key) (Record[T], error) {
	items, err := db.Get(ctx, k)
	if err != nil {
		return Record[T]{}, err
	}
	r, err := t.Decode(items[0])
	if err != nil {
		return r, err
	}
	if !r.Exists() {
		return r, fmt.Errorf("%s: %w", k.Kind(), core.NotFound)
	}
	return r, nil
}

// Decode reads the body of an item that a Get of several keys returned. An absent item gives a record that does not
// exist, and no error.
func (Table[T]) Decode(it Item) (Record[T], error) {
	r := Record[T]{Key: it.Key, Version: it.Version, Expires: it.Expires}
	if it.Version == 0 {
		return r, nil
	}
	if err := json.Unmarshal(it.Body, &r.Value); err != nil {
		r.Value = *new(T) // not the half that did decode
		return r, fmt.Errorf("store: %s does not decode%s", it.Key, place(err))
	}
	return r, nil
}

// place says where in a body an error of the decoder lies. The decoder's own words are left out: they quote the body, and
// a body may hold what no log should.
func place(err error) string {
	if at, ok := errors.AsType[*json.SemanticError](err); ok {
		return fmt.Sprintf(" at %q: a JSON %v does not fit the Go type %v", at.JSONPointer, at.JSONKind, at.GoType)
	}
	if at, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Sprintf(" at byte %d: it is not JSON", at.ByteOffset)
	}
	return ""
}

// List reads a range of records.
func (t Table[T]) List(ctx context.Context, db DB, r Range) iter.Seq2[Record[T], error] {
	return func(yield func(Record[T], error) bool) {
		for it, err := range db.List(ctx, r) {
			if err != nil {
				yield(Record[T]{}, err)
				return
			}
			rec, err := t.Decode(it)
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Put makes the operation that writes v at k if the stored version is expect (0: create it).
func (Table[T]) Put(k Key, expect Version, v T) (Op, error) {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return Op{}, fmt.Errorf("store: %s does not encode: %w", k, err)
	}
	return Put(k, expect, body), nil
}

// OutboxKeep is how long an event stays to be looked at after it was carried out.
const OutboxKeep = 7 * 24 * time.Hour

// Emit makes the operation that sends an event with the commit it is part of: no event without the change, no change
// without the event. It takes over which request and trace the actor's act is part of, and nothing else of them: an event
// names nobody.
func Emit(t core.TenantID, at time.Time, by core.Actor, fact events.Fact) (Op, error) {
	id := core.NewID()
	env := events.Envelope{ID: id, Tenant: string(t), Time: at.UTC(), Request: string(by.Request), Trace: by.Trace}
	body, err := events.Encode(env, fact)
	if err != nil {
		return Op{}, err
	}
	return Put(Outbox(t, at, id), 0, body).Until(at.Add(OutboxKeep)), nil
}

// Retry runs a read-decide-commit until it does not end in core.Conflict, at most ten times, with growing random pauses.
// The function must read anew each time.
func Retry(ctx context.Context, try func() error) error {
	pause := 2 * time.Millisecond
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, core.Conflict) || n == 10 {
			return err
		}
		trace.From(ctx).Retried(ctx)
		select {
		case <-ctx.Done():
			return fmt.Errorf("store: gave up after %d conflicts: %w", n, core.Unavailable)
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause *= 2
	}
}
