package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// attempts counts the failed proofs of one name from one place, or from anywhere. Every attempt is counted as failed
// before its password is looked at, with an expected version, so that a thousand attempts at once on as many instances
// are a thousand counts; a success takes its own back. Names that do not exist are counted the same.
type attempts struct {
	N     int       `json:"n"`
	At    time.Time `json:"at"`             // of the last attempt that was counted
	Since time.Time `json:"since,omitzero"` // of the first, where the count begins anew after a while
}

var counters store.Table[attempts]

// bound is how failures delay the next attempt: not at all at first, then one second, doubling.
type bound struct {
	free   int           // failures without delay
	max    time.Duration // the longest delay
	window time.Duration // how long after its first failure the count begins anew; 0: only when it is forgotten
}

// Nobody can lock another out for good: from another place only the second bound holds, which never delays longer than a
// minute, and not even that one holds on a device on which the person has signed in before. The third bound is for one
// password tried with many names: it holds for a place, whatever the names, and is wide, since an office may be one place.
var (
	byPlace  = bound{free: 5, max: 15 * time.Minute}
	byName   = bound{free: 10, max: time.Minute}
	anyNames = bound{free: 200, max: time.Minute, window: time.Hour}
)

// The counts of a place over all names stand under names that nobody can have.
const (
	allNames = "*" // every failure there
	noNames  = "?" // those of names that do not exist, which leave no record of their own
)

// attemptsKeep is how long after the last failure a count is forgotten.
const attemptsKeep = 24 * time.Hour

// opens is when the next attempt is looked at.
func (b bound) opens(a attempts) time.Time {
	over := a.N - b.free
	if over < 0 {
		return time.Time{}
	}
	delay := b.max
	if over < 20 {
		delay = min(b.max, time.Second<<over)
	}
	opens := a.At.Add(delay)
	if ends := a.Since.Add(b.window); b.window > 0 && ends.Before(opens) {
		return ends
	}
	return opens
}

// count is a with one more failure.
func (b bound) count(a attempts, now time.Time) attempts {
	if b.window > 0 && !now.Before(a.Since.Add(b.window)) {
		a = attempts{Since: now}
	}
	a.N, a.At = a.N+1, now
	return a
}

// ThrottledError is core.Throttled, and says when to come back. It is the same for people who exist and who do not.
type ThrottledError struct {
	Until time.Time
	now   time.Time
}

// Throttle makes the error that asks to come back at a time.
func Throttle(until, now time.Time) error { return &ThrottledError{until, now} }

// Error says how long to wait.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many attempts; try again in %d seconds", int(max(1, e.Until.Sub(e.now).Seconds()+0.999)))
}

// Unwrap makes errors.Is(err, core.Throttled) hold.
func (e *ThrottledError) Unwrap() error { return core.Throttled }

// RetryAfter is how long to wait.
func (e *ThrottledError) RetryAfter() time.Duration { return e.Until.Sub(e.now) }

// Place is the part of an address that one party can be taken to own: the /24 of an IPv4 address, the /64 of an IPv6 one.
// Whatever is no address is one place of its own.
func Place(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		if ap, err := netip.ParseAddrPort(address); err == nil {
			a = ap.Addr()
		} else {
			return "unknown"
		}
	}
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// gate is what stands before a name, for attempts from one place.
type gate struct {
	keys   []store.Key // of the counts of the name
	bounds []bound
	place  [2]store.Key // of the counts of the place: allNames, noNames
	known  bool         // the device is: what others do in the same place does not delay it
	begins bool         // the attempt that was let in brought a count of the name to where delays begin
}

func newGate(t core.TenantID, name, address string, knownDevice bool) *gate {
	place := Place(address)
	g := &gate{
		keys: []store.Key{store.Attempts(t, name, place)}, bounds: []bound{byPlace}, known: knownDevice,
		place: [2]store.Key{store.Attempts(t, allNames, place), store.Attempts(t, noNames, place)},
	}
	if !knownDevice {
		g.keys = append(g.keys, store.Attempts(t, name, ""))
		g.bounds = append(g.bounds, byName)
	}
	return g
}

// enter counts an attempt as failed, or refuses it: an attempt during a delay is not looked at, and does not lengthen it.
// It reads more items in the same round trip, and returns them. The place's count is only looked at, so that the people of
// a large office, who mostly succeed, do not wait for each other's writes: fail counts there.
func (g *gate) enter(ctx context.Context, db store.DB, now time.Time, more ...store.Key) ([]store.Item, error) {
	var rest []store.Item
	keys := slices.Concat(more, g.keys, g.place[:1])
	last := len(keys) - 1
	err := store.Retry(ctx, func() error {
		items, err := db.Get(ctx, keys...)
		if err != nil {
			return err
		}
		rest = items[:len(more)]
		place, err := counters.Decode(items[last])
		if err != nil {
			return err
		}
		if opens := anyNames.opens(place.Value); !g.known && now.Before(opens) {
			return Throttle(opens, now)
		}
		g.begins = false
		var o ops
		for i, it := range items[len(more):last] {
			c, err := counters.Decode(it)
			if err != nil {
				return err
			}
			if opens := g.bounds[i].opens(c.Value); now.Before(opens) {
				return Throttle(opens, now)
			}
			next := g.bounds[i].count(c.Value, now)
			g.begins = g.begins || next.N == g.bounds[i].free
			op, err := counters.Put(it.Key, it.Version, next)
			o.add(op.Until(now.Add(attemptsKeep)), err)
		}
		return o.commit(ctx, db)
	})
	if errors.Is(err, core.Conflict) { // so many at once that this one could not be counted: it is not looked at
		return nil, Throttle(now.Add(time.Second), now)
	}
	return rest, err
}

// fail makes the operations that count a failure against the place, and says whether delays begin there or for the name.
// Whether the name exists shows in what is written, and not in how much: instead of the record of the failure (note) there
// is a count of those of no name.
func (g *gate) fail(ctx context.Context, db store.DB, now time.Time, o *ops, exists bool, note store.Op) (begins bool, err error) {
	items, err := db.Get(ctx, g.place[:]...)
	if err != nil {
		return false, err
	}
	begins = g.begins
	for i, it := range items {
		c, err := counters.Decode(it)
		if err != nil {
			return false, err
		}
		if i == 1 && exists {
			o.list = append(o.list, note)
			continue
		}
		next := anyNames.count(c.Value, now)
		begins = begins || i == 0 && next.N == anyNames.free
		op, err := counters.Put(it.Key, it.Version, next)
		o.add(op.Until(now.Add(attemptsKeep)), err)
	}
	return begins, nil
}

// leave makes the operations that take a successful attempt back: the place is cleared; from anywhere, only the attempt
// itself is uncounted, since others' failures are not the person's. items are those of g.keys.
func (g *gate) leave(o *ops, items []store.Item) {
	for i, it := range items {
		c, err := counters.Decode(it)
		if n := c.Value.N - 1; i > 0 && n > 0 {
			op, err := counters.Put(it.Key, it.Version, attempts{N: n, At: c.Value.At})
			o.add(op.Until(it.Expires), err)
			continue
		}
		o.add(store.Delete(it.Key, it.Version), err)
	}
}
