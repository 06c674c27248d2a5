// Package queuetest holds every sync.Queue to the promise of the port, with one subtest for each of its sentences. It is for
// tests.
package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Fault is what a queue's product does with a request, below everything that the queue is made of.
type Fault int

// The faults.
const (
	None     Fault = iota
	Throttle       // refuses it, because there are too many
	Fail           // refuses it, because something of its own is broken
	Lose           // nothing happens, and no answer comes
	Forget         // it happens, and no answer comes
	Partly         // of its messages those that Refused names are not taken; the others are
	Hang           // no answer comes until the request's context ends
)

// Refused says which messages the fault Partly is about.
func Refused(m sync.Message) bool { return strings.HasSuffix(string(m.Cluster), refused) }

const refused = "-refused"

// RefusedBody is Refused for a message as JSON.
func RefusedBody(body []byte) bool {
	var m sync.Message
	return json.Unmarshal(body, &m) == nil && Refused(m)
}

// Rig is a queue with the product behind it, a receiver before it, and a clock that all three read.
type Rig struct {
	Queue   sync.Queue
	Now     func() time.Time
	Advance func(time.Duration) // moves the clock, and has the product look at it

	// Receive hands what arrives to handle, as the platform does, until ctx ends, and returns when no call is under way.
	Receive func(ctx context.Context, handle func(context.Context, sync.Message) error)

	// Inject has the product's next n requests meet a fault, or, if n is negative, all until the next call.
	Inject func(f Fault, n int)

	Longest time.Duration // the product holds no message back for longer; 0: it does so as long as it is asked to
	Batch   int           // messages that go in one request
}

// Run tests a queue. open makes a rig whose queue is empty; it is called for each subtest.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, Rig)
	}{
		{"carries every message, as it is", everyMessage},
		{"from many senders at once", manySenders},
		{"an empty Send", empty},
		{"not before its time", notBefore},
		{"not before a time beyond the longest delay", farAway},
		{"a message that fails comes again", comesAgain},
		{"one fault loses nothing", oneFault},
		{"all or an error", allOrAnError},
		{"honours the context", honoursContext},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

// patience is after which a test fails for want of a message. Nothing waits so long unless something is lost.
const patience = 30 * time.Second

// receiver collects what arrives.
type receiver struct {
	rig   Rig
	moved chan struct{} // has an element when something arrived

	mu   gosync.Mutex
	got  map[core.ClusterID][]sync.Message
	fail map[core.ClusterID]int // how many times yet
}

// receive starts the receiver for as long as the test runs. What it is handed before its time it does as functions/sync
// does: it sends it again, and it must have waited as long as the product can.
func receive(t *testing.T, rig Rig) *receiver {
	r := &receiver{rig: rig, moved: make(chan struct{}, 1), got: map[core.ClusterID][]sync.Message{}, fail: map[core.ClusterID]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running gosync.WaitGroup
	began := rig.Now()
	running.Go(func() {
		rig.Receive(ctx, func(ctx context.Context, m sync.Message) error {
			if early := m.NotBefore.Sub(rig.Now()); early > 0 {
				if rig.Longest == 0 || rig.Now().Sub(began) < rig.Longest {
					t.Errorf("%s came %s early", m.Cluster, early)
				}
				return rig.Queue.Send(ctx, m)
			}
			return r.take(m)
		})
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

func (r *receiver) take(m sync.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got[m.Cluster] = append(r.got[m.Cluster], m)
	select {
	case r.moved <- struct{}{}:
	default:
	}
	if r.fail[m.Cluster] > 0 {
		r.fail[m.Cluster]--
		return errors.New("the receiver fails, as it was told to")
	}
	return nil
}

// of returns what arrived for a cluster.
func (r *receiver) of(c core.ClusterID) []sync.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got[c])
}

// await waits until every message has arrived, unchanged.
func (r *receiver) await(t *testing.T, want ...sync.Message) {
	t.Helper()
	deadline := time.After(patience)
	for {
		var missing []string
		for _, m := range want {
			if len(r.of(m.Cluster)) == 0 {
				missing = append(missing, string(m.Cluster))
			}
		}
		if len(missing) == 0 {
			break
		}
		select {
		case <-r.moved:
		case <-deadline:
			t.Fatalf("%d of %d messages are lost: %v", len(missing), len(want), missing)
		}
	}
	for _, m := range want {
		for _, got := range r.of(m.Cluster) {
			if !same(got, m) {
				t.Errorf("sent %+v, came as %+v", m, got)
			}
		}
	}
}

func same(a, b sync.Message) bool {
	at := a.NotBefore.Equal(b.NotBefore)
	a.NotBefore, b.NotBefore = time.Time{}, time.Time{}
	return at && a == b
}

func messages(prefix string, n int) []sync.Message {
	var all []sync.Message
	for i := range n {
		all = append(all, sync.Message{
			Tenant: "acme", Cluster: core.ClusterID(fmt.Sprintf("%s-%d", prefix, i)), Revision: core.Revision(i), Full: i%2 == 0,
		})
	}
	return all
}

func send(t *testing.T, rig Rig, m ...sync.Message) {
	t.Helper()
	if err := rig.Queue.Send(t.Context(), m...); err != nil {
		t.Fatalf("Send of %d messages: %v", len(m), err)
	}
}

// several is more than any batch holds, and no multiple of one.
func several(rig Rig) int { return 3*max(rig.Batch, 1) + 1 }

func everyMessage(t *testing.T, rig Rig) {
	r := receive(t, rig)
	all := messages("one", several(rig))
	all[0].Cluster = `"quoted" <&> 世界 \`
	send(t, rig, all...)
	r.await(t, all...)
}

func manySenders(t *testing.T, rig Rig) {
	r := receive(t, rig)
	var all []sync.Message
	var sending gosync.WaitGroup
	for g := range 8 {
		mine := messages(fmt.Sprint("sender", g), several(rig))
		all = append(all, mine...)
		sending.Go(func() {
			for part := range slices.Chunk(mine, 7) {
				if err := rig.Queue.Send(t.Context(), part...); err != nil {
					t.Errorf("Send: %v", err)
				}
			}
		})
	}
	sending.Wait()
	r.await(t, all...)
}

func empty(t *testing.T, rig Rig) {
	r := receive(t, rig)
	send(t, rig)
	m := messages("after", 1)
	send(t, rig, m...)
	r.await(t, m...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 1 {
		t.Errorf("an empty Send became %v", r.got)
	}
}

func notBefore(t *testing.T, rig Rig) {
	r := receive(t, rig) // reports whatever is early
	later := messages("later", 2)
	later[0].NotBefore = rig.Now().Add(10 * time.Minute)
	later[1].NotBefore = rig.Now().Add(10*time.Minute + 123456789)
	past := messages("past", 1)
	past[0].NotBefore = rig.Now().Add(-time.Hour)
	send(t, rig, append(later, past...)...)
	r.await(t, past...)
	for i, step := range []time.Duration{9 * time.Minute, 59 * time.Second} {
		rig.Advance(step)
		now := messages(fmt.Sprint("now", i), 1)
		send(t, rig, now...)
		r.await(t, now...)
		for _, m := range later {
			if len(r.of(m.Cluster)) != 0 {
				t.Fatalf("%s came before its time", m.Cluster)
			}
		}
	}
	rig.Advance(5 * time.Second)
	r.await(t, later...)
}

// A product that cannot hold a message back for so long delivers it early, and it is sent again.
func farAway(t *testing.T, rig Rig) {
	r := receive(t, rig)
	far := messages("far", 1)
	distance := 40 * 24 * time.Hour
	if rig.Longest > 0 {
		distance = 2*rig.Longest + rig.Longest/2
	}
	far[0].NotBefore = rig.Now().Add(distance)
	send(t, rig, far...)
	end := time.After(patience)
	for len(r.of(far[0].Cluster)) == 0 {
		rig.Advance(distance / 8)
		select {
		case <-r.moved:
		case <-time.After(5 * time.Millisecond): // for the product to deliver, or not
		case <-end:
			t.Fatal("lost")
		}
	}
	r.await(t, far...)
}

func comesAgain(t *testing.T, rig Rig) {
	r := receive(t, rig)
	all := messages("fails", max(rig.Batch, 2))
	again := all[1].Cluster
	r.mu.Lock()
	r.fail[again] = 2
	r.mu.Unlock()
	send(t, rig, all...)
	r.await(t, all...)
	end := time.After(patience)
	for len(r.of(again)) < 3 {
		rig.Advance(time.Minute) // past every pause and every timeout of a receiver
		select {
		case <-r.moved:
		case <-time.After(5 * time.Millisecond):
		case <-end:
			t.Fatalf("it failed twice and came %d times", len(r.of(again)))
		}
	}
	r.await(t, all...)
}

// retried says whether a sender that gets this error tries again, and does right.
func retried(err error) bool {
	return errors.Is(err, core.Unavailable) || errors.Is(err, core.Throttled)
}

// A request that meets a fault is repeated, by the queue or, after an error that says so, by the sender.
func oneFault(t *testing.T, rig Rig) {
	r := receive(t, rig)
	for f, name := range map[Fault]string{Throttle: "throttle", Fail: "fail", Lose: "lose", Forget: "forget", Partly: "partly"} {
		for n := range 3 {
			all := messages(fmt.Sprintf("%s%d", name, n+1), several(rig))
			all[len(all)-1].Cluster += refused
			all[len(all)/2].Cluster += refused
			rig.Inject(f, n+1)
			err := rig.Queue.Send(t.Context(), all...)
			for tries := 0; err != nil && retried(err) && tries < 3; tries++ {
				err = rig.Queue.Send(t.Context(), all...)
			}
			if err != nil {
				t.Fatalf("%s, %d times: %v", name, n+1, err)
			}
			rig.Inject(None, 0)
			r.await(t, all...)
		}
	}
}

// While the product takes nothing, or not all, Send ends, and is an error that tells the sender to come back.
func allOrAnError(t *testing.T, rig Rig) {
	r := receive(t, rig)
	for f, name := range map[Fault]string{Throttle: "throttled", Fail: "failed", Lose: "lost", Forget: "forgotten", Partly: "partial"} {
		all := messages(name, several(rig))
		all[len(all)-1].Cluster += refused
		rig.Inject(f, -1)
		if err := rig.Queue.Send(t.Context(), all...); !retried(err) {
			t.Errorf("%s for ever: %v, want core.Unavailable or core.Throttled", name, err)
		}
		rig.Inject(None, 0)
		send(t, rig, all...)
		r.await(t, all...)
	}
}

func honoursContext(t *testing.T, rig Rig) {
	r := receive(t, rig)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rig.Queue.Send(ctx, messages("before", several(rig))...); !errors.Is(err, core.Unavailable) {
		t.Errorf("with a cancelled context: %v, want core.Unavailable", err)
	}
	for f, name := range map[Fault]string{Hang: "hanging", Throttle: "throttled"} {
		rig.Inject(f, -1)
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := rig.Queue.Send(ctx, messages(name, several(rig))...); !errors.Is(err, core.Unavailable) {
			t.Errorf("%s, and cancelled meanwhile: %v, want core.Unavailable", name, err)
		}
		cancel()
		rig.Inject(None, 0)
	}
	all := messages("after", several(rig))
	send(t, rig, all...)
	r.await(t, all...)
}
