package storetest

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Faulty is a DB before another one that fails as stores and networks do. Every error that it makes is core.Unavailable.
type Faulty struct {
	DB   store.DB
	Plan func(Call) Fault // says what happens to a call; it may be asked from many goroutines. nil: nothing happens
}

// Call is what a Plan decides by.
type Call struct {
	Method string      // "Get", "List" or "Commit"
	Keys   []store.Key // of the items; none for List
}

// Fault is what happens to a call.
type Fault uint8

// The faults.
const (
	NoFault    Fault = iota
	Refuse           // the call fails, and never came to the store
	LoseAnswer       // the store does it, and the answer is lost; a List breaks off after some items
	Cancel           // the context ends while the store is at it: what was done is anybody's guess
	Delay            // the call and its answer take a little longer
)

var faultNames = [...]string{"none", "refuse", "lose the answer", "cancel", "delay"}

func (f Fault) String() string { return faultNames[f] }

// RandomFaults is a Plan by which about that share of the calls (0 to 1) meets a fault, each kind equally often.
func RandomFaults(seed uint64, share float64) func(Call) Fault {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0xfa017))
	return func(Call) Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Float64() >= share {
			return NoFault
		}
		return Refuse + Fault(r.IntN(int(Delay)))
	}
}

// FaultOnce is a Plan by which the first call of a method meets a fault, and nothing else does.
func FaultOnce(method string, f Fault) func(Call) Fault {
	var once sync.Once
	return func(c Call) (now Fault) {
		if c.Method == method {
			once.Do(func() { now = f })
		}
		return now
	}
}

func (f *Faulty) plan(c Call) Fault {
	if f.Plan == nil {
		return NoFault
	}
	return f.Plan(c)
}

func faultError(f Fault) error {
	return fmt.Errorf("storetest: fault (%v): %w", f, core.Unavailable)
}

// under runs a call under a fault.
func under(ctx context.Context, f Fault, call func(context.Context) error) error {
	switch f {
	case Refuse:
		return faultError(f)
	case LoseAnswer:
		call(ctx)
		return faultError(f)
	case Cancel:
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer time.AfterFunc(rand.N(500*time.Microsecond), cancel).Stop()
		return call(ctx)
	case Delay:
		time.Sleep(rand.N(300 * time.Microsecond))
		defer time.Sleep(rand.N(300 * time.Microsecond))
	}
	return call(ctx)
}

// Get reads through a fault.
func (f *Faulty) Get(ctx context.Context, keys ...store.Key) (items []store.Item, err error) {
	err = under(ctx, f.plan(Call{"Get", keys}), func(ctx context.Context) (err error) {
		items, err = f.DB.Get(ctx, keys...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

// List reads through a fault.
func (f *Faulty) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		fault, n := f.plan(Call{Method: "List"}), 0
		done := false
		err := under(ctx, fault, func(ctx context.Context) error {
			for it, err := range f.DB.List(ctx, r) {
				if fault == LoseAnswer && n == 2 {
					return nil
				}
				if n++; !yield(it, err) || err != nil {
					done = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !done {
			yield(store.Item{}, err)
		}
	}
}

// Commit writes through a fault.
func (f *Faulty) Commit(ctx context.Context, ops ...store.Op) error {
	keys := make([]store.Key, len(ops))
	for i, op := range ops {
		keys[i] = op.Key
	}
	return under(ctx, f.plan(Call{"Commit", keys}), func(ctx context.Context) error { return f.DB.Commit(ctx, ops...) })
}
