package directory_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
)

// WEB-001: guessing is slowed down more and more, an attempt during a delay is not looked at and does not lengthen it, and
// the account is never locked for good.
func TestThrottle(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	for i := range 5 {
		if err := w.try(t, "grace@example.com", wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("failure %d: %v, want no delay", i+1, err)
		}
	}
	var te *directory.ThrottledError
	for range 20 {
		if err := w.try(t, "grace@example.com", good, home, false); !errors.As(err, &te) || !errors.Is(err, core.Throttled) {
			t.Fatalf("the sixth attempt: %v, want it refused although the password is right", err)
		}
	}
	if wait := te.Until.Sub(w.now); wait != time.Second {
		t.Errorf("twenty attempts later the delay is %v, want the first one's second", wait)
	}
	if err := w.try(t, "grace@example.com", good, cafe, false); err != nil {
		t.Errorf("from another place: %v", err)
	}
	longest := time.Duration(0)
	for range 20 {
		w.until(te.Until)
		if err := w.try(t, "grace@example.com", wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("after the delay: %v, want the attempt looked at", err)
		}
		if err := w.try(t, "grace@example.com", wrong, home, false); !errors.As(err, &te) {
			t.Fatalf("right after: %v, want it refused", err)
		}
		longest = max(longest, te.Until.Sub(w.now))
	}
	if longest != 15*time.Minute {
		t.Errorf("the longest delay is %v, want 15 minutes", longest)
	}
	w.until(te.Until)
	if err := w.try(t, "grace@example.com", good, home, false); err != nil {
		t.Errorf("the right password after the delay: %v", err)
	}
	for i := range 5 {
		if err := w.try(t, "grace@example.com", wrong, home, true); !errors.Is(err, directory.ErrSignIn) {
			t.Errorf("failure %d after a success: %v, want the count to begin anew", i+1, err)
		}
	}
}

// Guessing from ever new places is slowed down too, by at most a minute, and never on a device that is known.
func TestThrottleManyPlaces(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	var te *directory.ThrottledError
	refused := 0
	for i := range 40 {
		err := w.try(t, "grace@example.com", wrong, fmt.Sprintf("10.0.%d.1", i), false)
		if errors.As(err, &te) {
			refused++
			w.until(te.Until)
		}
	}
	if refused < 10 {
		t.Errorf("%d of 40 attempts from as many places refused", refused)
	}
	w.try(t, "grace@example.com", wrong, "10.1.0.1", false)
	err := w.try(t, "grace@example.com", good, cafe, false)
	if !errors.As(err, &te) || te.Until.Sub(w.now) > time.Minute {
		t.Errorf("under attack, from a new device: %v until %v, want at most a minute", err, te.Until)
	}
	if err := w.try(t, "grace@example.com", good, cafe, true); err != nil {
		t.Errorf("under attack, on a known device: %v", err)
	}
	w.pass(time.Minute)
	if err := w.try(t, "grace@example.com", good, cafe, false); err != nil {
		t.Errorf("a minute later, from a new device: %v", err)
	}
	if err := w.try(t, "other@example.com", wrong, "10.0.1.1", false); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("another name: %v, want it untouched", err)
	}
}

// WEB-003: spelling the name differently, or moving within one network, is no way round the count.
func TestThrottleCountsOneName(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	for _, a := range []struct{ name, address string }{
		{"grace@example.com", "203.0.113.1"},
		{"GRACE@example.com", "203.0.113.77"},
		{" grace@example.com", "::ffff:203.0.113.9"},
		{"grace@EXAMPLE.com\n", "203.0.113.1:4711"},
		{"gRACE@example.com", "203.0.113.255"},
	} {
		if err := w.try(t, a.name, wrong, a.address, true); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("%q: %v", a.name, err)
		}
	}
	if err := w.try(t, "grace@example.com", good, "203.0.113.1", true); !errors.Is(err, core.Throttled) {
		t.Errorf("the sixth attempt: %v, want it refused", err)
	}
	if err := w.try(t, "grace@example.com", good, "203.0.114.1", true); err != nil {
		t.Errorf("from the next network: %v", err)
	}
}

func TestPlace(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7":            "203.0.113.0/24",
		"203.0.113.7:80":         "203.0.113.0/24",
		"::ffff:203.0.113.7":     "203.0.113.0/24",
		"2001:db8:1:2:3:4:5:6":   "2001:db8:1:2::/64",
		"[2001:db8:1:2::9]:80":   "2001:db8:1:2::/64",
		"fe80::1%eth0":           "fe80::/64",
		"":                       "unknown",
		"unix":                   "unknown",
		"203.0.113.7, 10.0.0.1":  "unknown",
		"2001:db8::1\x1fspoofed": "unknown",
	} {
		if got := directory.Place(in); got != want {
			t.Errorf("%q is in %q, want %q", in, got, want)
		}
	}
}

// WEB-003: attempts at once, as on many instances, are all counted, each before its password is looked at.
func TestThrottleAtOnce(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	var looked, refused atomic.Int32
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			other := &directory.Service{DB: w.DB, Ring: w.Ring, Now: w.clock, Cost: cheap} // another instance
			switch _, err := other.Authenticate(t.Context(), from(home), "grace@example.com", wrong, true); {
			case errors.Is(err, directory.ErrSignIn):
				looked.Add(1)
			case errors.Is(err, core.Throttled):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if looked.Load() != 5 || refused.Load() != 55 {
		t.Errorf("%d passwords looked at and %d refused, want 5 and 55", looked.Load(), refused.Load())
	}
}

// One password tried with many names is slowed down, too, at the place that it comes from, and leaves one record and not one
// for each name. Nobody else waits: not elsewhere, not on a device that is known, and not an office whose people sign in.
func TestThrottleManyNames(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	begun := w.now
	before := len(w.audits(t))
	for i := range 200 {
		if err := w.try(t, fmt.Sprintf("name%d@example.com", i), wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("name %d: %v, want no delay", i+1, err)
		}
	}
	if n := len(w.audits(t)) - before; n != 1 {
		t.Errorf("%d records, want one", n)
	}
	var te *directory.ThrottledError
	for _, name := range []string{"name201@example.com", "grace@example.com"} {
		if err := w.try(t, name, good, home, false); !errors.As(err, &te) {
			t.Fatalf("%s, the next at the place: %v, want it refused", name, err)
		}
	}
	for name, try := range map[string]func() error{
		"elsewhere":         func() error { return w.try(t, "grace@example.com", good, cafe, false) },
		"on a known device": func() error { return w.try(t, "grace@example.com", good, home, true) },
		"after the delay":   func() error { w.until(te.Until); return w.try(t, "grace@example.com", good, home, false) },
	} {
		if err := try(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	longest := time.Duration(0)
	for i := range 20 {
		if err := w.try(t, fmt.Sprintf("more%d@example.com", i), wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("after the delay: %v, want the attempt looked at", err)
		}
		if err := w.try(t, "grace@example.com", good, home, false); !errors.As(err, &te) {
			t.Fatalf("right after: %v, want it refused", err)
		}
		longest = max(longest, te.Until.Sub(w.now))
		w.until(te.Until)
	}
	if longest != time.Minute {
		t.Errorf("the longest delay is %v, want a minute", longest)
	}
	w.until(begun.Add(time.Hour))
	for i := range 100 {
		if err := w.try(t, fmt.Sprintf("later%d@example.com", i), wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
			t.Fatalf("an hour after the first failure: %v, want the count to begin anew", err)
		}
	}
	for i := range 210 {
		if err := w.try(t, "grace@example.com", good, cafe, false); err != nil {
			t.Fatalf("sign-in %d of an office: %v", i+1, err)
		}
	}
}
