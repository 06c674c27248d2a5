// Package keystest holds every keys.Wrapper to the promise of the port, with one subtest for each of its sentences.
package keystest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// Run tests a wrapper. open returns one ready for use; it is called once for each subtest.
func Run(t *testing.T, open func(t *testing.T) keys.Wrapper) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, w keys.Wrapper)
	}{
		{"round trip", roundTrip},
		{"every purpose", purposes},
		{"never the same result twice", differ},
		{"bound to purpose and tenant", bound},
		{"any changed byte is refused", tampered},
		{"anything else is refused", foreign},
		{"limits", limits},
		{"nothing of the key in an error or a result", silent},
		{"from many goroutines", concurrent},
		{"honours the context", cancelled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

const tenant core.TenantID = "acme"

func wrap(t *testing.T, w keys.Wrapper, plain []byte) []byte {
	t.Helper()
	wrapped, err := w.Wrap(t.Context(), keys.PurposeSigning, tenant, plain)
	if err != nil {
		t.Fatalf("Wrap of %d bytes: %v", len(plain), err)
	}
	return wrapped
}

// opens is the positive twin of every refusal.
func opens(t *testing.T, w keys.Wrapper, wrapped, plain []byte) {
	t.Helper()
	got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, wrapped)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("Unwrap of what was wrapped: %v, same bytes: %t", err, bytes.Equal(got, plain))
	}
}

func refused(t *testing.T, what string, got []byte, err error) {
	t.Helper()
	if !errors.Is(err, keys.ErrUnwrap) || got != nil {
		t.Errorf("%s: %d bytes and error %v, want none and keys.ErrUnwrap", what, len(got), err)
	}
}

func roundTrip(t *testing.T, w keys.Wrapper) {
	for _, n := range []int{1, 32, 138, 1218, keys.MaxPlain} {
		plain := bytes.Repeat([]byte{0, 1, 0xff}, n)[:n]
		given := bytes.Clone(plain)
		wrapped := wrap(t, w, given)
		if !bytes.Equal(given, plain) {
			t.Errorf("Wrap changed its argument of %d bytes", n)
		}
		before := bytes.Clone(wrapped)
		opens(t, w, wrapped, plain)
		opens(t, w, wrapped, plain) // as often as one likes
		if !bytes.Equal(wrapped, before) {
			t.Errorf("Unwrap changed its argument")
		}
	}
}

// purposes: what is wrapped for one opens for that one and for no other.
func purposes(t *testing.T, w keys.Wrapper) {
	all := []string{keys.PurposeSigning, keys.PurposeMAC, keys.PurposeSSO}
	for _, one := range all {
		plain := []byte("a key for " + one)
		wrapped, err := w.Wrap(t.Context(), one, tenant, plain)
		if err != nil {
			t.Fatalf("Wrap for %s: %v", one, err)
		}
		for _, other := range all {
			got, err := w.Unwrap(t.Context(), other, tenant, wrapped)
			if other != one {
				refused(t, "what was wrapped for "+one+", unwrapped for "+other, got, err)
			} else if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("Unwrap for %s: %v, same bytes: %t", one, err, bytes.Equal(got, plain))
			}
		}
	}
}

func differ(t *testing.T, w keys.Wrapper) {
	plain := []byte("the same key")
	seen := make(map[string]bool)
	for range 100 {
		wrapped := wrap(t, w, plain)
		if seen[string(wrapped)] {
			t.Fatal("two wraps of the same key are the same: who sees the store learns which keys are")
		}
		seen[string(wrapped)] = true
	}
}

func bound(t *testing.T, w keys.Wrapper) {
	plain := []byte("a signing key of acme")
	wrapped := wrap(t, w, plain)
	opens(t, w, wrapped, plain)
	for _, tt := range []struct {
		purpose string
		tenant  core.TenantID
	}{
		{keys.PurposeMAC, "acme"},
		{keys.PurposeSSO, "acme"},
		{keys.PurposeSigning, "umbrella"},
		{keys.PurposeSigning, "acm"},
		{keys.PurposeSigning, "acme-"},
		{keys.PurposeSigning + "a", "cme"}, // the same letters, split elsewhere
		{"signin", "gacme"},
	} {
		got, err := w.Unwrap(t.Context(), tt.purpose, tt.tenant, wrapped)
		refused(t, fmt.Sprintf("Unwrap for %q of %q", tt.purpose, tt.tenant), got, err)
	}
}

func tampered(t *testing.T, w keys.Wrapper) {
	plain := []byte("a signing key")
	wrapped := wrap(t, w, plain)
	opens(t, w, wrapped, plain)
	for i := range wrapped {
		for _, flip := range []byte{1, 0x80} {
			bad := bytes.Clone(wrapped)
			bad[i] ^= flip
			got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, bad)
			refused(t, fmt.Sprintf("bit of byte %d flipped", i), got, err)
		}
	}
	for n := range wrapped {
		got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, wrapped[:n])
		refused(t, fmt.Sprintf("cut to %d bytes", n), got, err)
	}
	for _, more := range []string{"\x00", "\n", string(wrapped)} {
		got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, append(bytes.Clone(wrapped), more...))
		refused(t, "something after the end", got, err)
	}
	other := wrap(t, w, []byte("another key!!"))
	half := len(wrapped) / 2
	got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, append(bytes.Clone(wrapped[:half]), other[half:]...))
	refused(t, "two halves", got, err)
}

func foreign(t *testing.T, w keys.Wrapper) {
	opens(t, w, wrap(t, w, []byte("a key")), []byte("a key"))
	for _, bad := range [][]byte{nil, {}, {0}, []byte("a key"), make([]byte, 64), bytes.Repeat([]byte{1}, keys.MaxWrapped), bytes.Repeat([]byte{1}, 1<<20)} {
		got, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, bad)
		refused(t, fmt.Sprintf("%d bytes that nobody wrapped", len(bad)), got, err)
	}
}

func limits(t *testing.T, w keys.Wrapper) {
	plain := bytes.Repeat([]byte{7}, keys.MaxPlain)
	wrapped := wrap(t, w, plain)
	if len(wrapped) > keys.MaxWrapped {
		t.Errorf("the longest key takes %d bytes wrapped, at most %d", len(wrapped), keys.MaxWrapped)
	}
	for _, n := range []int{0, keys.MaxPlain + 1} {
		if _, err := w.Wrap(t.Context(), keys.PurposeSigning, tenant, make([]byte, n)); !errors.Is(err, core.Limit) {
			t.Errorf("Wrap of %d bytes: %v, want core.Limit", n, err)
		}
	}
}

func silent(t *testing.T, w keys.Wrapper) {
	const canary = "CANARY-IN-THE-KEY"
	plain := []byte(strings.Repeat(canary, 4))
	wrapped := wrap(t, w, plain)
	if bytes.Contains(wrapped, []byte(canary)) {
		t.Fatal("the key stands in what wraps it")
	}
	wrapped[len(wrapped)-1] ^= 1
	_, err := w.Unwrap(t.Context(), keys.PurposeSigning, tenant, wrapped)
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
	_, err = w.Wrap(t.Context(), keys.PurposeSigning, tenant, bytes.Repeat(plain, keys.MaxPlain/len(plain)+1))
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error of %d bytes says the key", len(fmt.Sprint(err)))
	}
}

func concurrent(t *testing.T, w keys.Wrapper) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				plain := fmt.Appendf(nil, "key %d of goroutine %d", i, g)
				owner := core.TenantID(fmt.Sprintf("tenant-%d", g))
				wrapped, err := w.Wrap(t.Context(), keys.PurposeMAC, owner, plain)
				if err != nil {
					t.Errorf("Wrap: %v", err)
					return
				}
				if got, err := w.Unwrap(t.Context(), keys.PurposeMAC, owner, wrapped); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Unwrap: %q, %v, want %q", got, err, plain)
					return
				}
			}
		})
	}
	wg.Wait()
}

func cancelled(t *testing.T, w keys.Wrapper) {
	wrapped := wrap(t, w, []byte("a key"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Wrap(ctx, keys.PurposeSigning, tenant, []byte("a key")); !errors.Is(err, core.Unavailable) {
		t.Errorf("Wrap with a cancelled context: %v, want core.Unavailable", err)
	}
	if _, err := w.Unwrap(ctx, keys.PurposeSigning, tenant, wrapped); !errors.Is(err, core.Unavailable) {
		t.Errorf("Unwrap with a cancelled context: %v, want core.Unavailable", err)
	}
	opens(t, w, wrapped, []byte("a key"))
}
