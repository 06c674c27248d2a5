package storetest

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/fleetpass/fleetpass/core/store"
)

// Recorder is a DB that notes which verbs go to which kinds of item of another one, and refuses nothing. What a function
// was seen to do is what it must be allowed to do, and no more need be.
type Recorder struct {
	DB store.DB

	mu   sync.Mutex
	seen map[Access]int
}

// Access is one thing that was done to items of one kind.
type Access struct {
	Verb Verb
	Kind string // as store.Key.Kind spells it
}

// Verb is what was done. A cloud's permissions tell these apart.
type Verb string

// The verbs.
const (
	Get    Verb = "get"    // of one key or of several
	Query  Verb = "query"  // List
	Put    Verb = "put"    // in a Commit
	Delete Verb = "delete" // in a Commit
	Check  Verb = "check"  // in a Commit
)

func (r *Recorder) note(v Verb, kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[Access]int{}
	}
	r.seen[Access{v, kind}]++
}

// Kinds is the kinds of item that a verb went to, sorted; never nil.
func (r *Recorder) Kinds(v Verb) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	kinds := []string{}
	for a := range r.seen {
		if a.Verb == v {
			kinds = append(kinds, a.Kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// Get notes and passes on.
func (r *Recorder) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	for _, k := range keys {
		r.note(Get, k.Kind())
	}
	return r.DB.Get(ctx, keys...)
}

// List notes and passes on, when the sequence is ranged over.
func (r *Recorder) List(ctx context.Context, in store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		r.note(Query, in.Key("").Kind())
		r.DB.List(ctx, in)(yield)
	}
}

// Commit notes and passes on. What is refused counts, too: it had to be allowed to come so far. And so does what a store may
// make of an operation: the deletion of something absent is a check, and whether a lone creation happened whose answer was
// lost is looked up.
func (r *Recorder) Commit(ctx context.Context, ops ...store.Op) error {
	for _, op := range ops {
		kind := op.Key.Kind()
		switch op.Verb {
		case store.VerbPut:
			r.note(Put, kind)
			if len(ops) == 1 && op.Expect == 0 {
				r.note(Get, kind)
			}
		case store.VerbDelete:
			r.note(Delete, kind)
			r.note(Check, kind)
		case store.VerbCheck:
			r.note(Check, kind)
		}
	}
	return r.DB.Commit(ctx, ops...)
}
