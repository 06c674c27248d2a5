package keys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

const purpose = "connection/c1/secret"

// sealing makes a tenant with a sealing key.
func (w *world) sealing(r *keys.Ring, t core.TenantID) {
	w.t.Helper()
	w.tenant(r, t)
	if err := r.EnsureSealing(w.t.Context(), t); err != nil {
		w.t.Fatalf("EnsureSealing: %v", err)
	}
}

func seal(t testing.TB, r *keys.Ring, tenant core.TenantID, purpose string, plain []byte) []byte {
	t.Helper()
	sealed, err := r.Seal(t.Context(), tenant, purpose, plain)
	if err != nil {
		t.Fatalf("Seal of %d bytes: %v", len(plain), err)
	}
	return sealed
}

// unsealed is the positive twin of every refusal.
func unsealed(t testing.TB, r *keys.Ring, tenant core.TenantID, purpose string, sealed, want []byte) {
	t.Helper()
	got, err := r.Open(t.Context(), tenant, purpose, sealed)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("Open of what was sealed: %v, the same %t", err, bytes.Equal(got, want))
	}
}

// refused wants an internal error, of no kind and without a word of the content.
func refused(t testing.TB, what string, got []byte, err error) {
	t.Helper()
	if !errors.Is(err, keys.ErrOpen) || got != nil {
		t.Errorf("%s: %d bytes and %v, want none and keys.ErrOpen", what, len(got), err)
		return
	}
	internal(t, what, err)
}

func internal(t testing.TB, what string, err error) {
	t.Helper()
	for _, kind := range []core.Kind{core.Invalid, core.NotFound, core.Unavailable, core.Unauthenticated, core.Limit, core.Conflict} {
		if errors.Is(err, kind) {
			t.Errorf("%s: %v is %s, want an internal error", what, err, kind)
		}
	}
}

func TestSeal(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.sealing(r, acme)
	for _, n := range []int{0, 1, 100, keys.MaxSealable} {
		plain := bytes.Repeat([]byte{0xa5}, n)
		given := bytes.Clone(plain)
		sealed := seal(t, r, acme, purpose, given)
		if !bytes.Equal(given, plain) || len(sealed) > keys.MaxSealed || n > 16 && bytes.Contains(sealed, plain[:16]) {
			t.Errorf("%d bytes became %d", n, len(sealed))
		}
		unsealed(t, r, acme, purpose, sealed, plain)
		unsealed(t, w.ring(), acme, purpose, sealed, plain) // another instance
		if again := seal(t, r, acme, purpose, given); bytes.Equal(again, sealed) {
			t.Error("the same twice: who sees the store learns which secrets are the same")
		}
	}
	unsealed(t, r, acme, strings.Repeat("p", 255), seal(t, r, acme, strings.Repeat("p", 255), []byte("x")), []byte("x"))
	for _, bad := range []string{"", strings.Repeat("p", 256)} {
		if _, err := r.Seal(t.Context(), acme, bad, nil); !errors.Is(err, core.Invalid) {
			t.Errorf("Seal for a purpose of %d bytes: %v, want core.Invalid", len(bad), err)
		}
		if _, err := r.Open(t.Context(), acme, bad, nil); !errors.Is(err, core.Invalid) {
			t.Errorf("Open for a purpose of %d bytes: %v, want core.Invalid", len(bad), err)
		}
	}
	if _, err := r.Seal(t.Context(), acme, purpose, make([]byte, keys.MaxSealable+1)); !errors.Is(err, core.Limit) {
		t.Errorf("one byte too many: %v, want core.Limit", err)
	}
	if _, err := r.Seal(t.Context(), "nobody", purpose, nil); !errors.Is(err, core.NotFound) {
		t.Errorf("a tenant without keys: %v, want core.NotFound", err)
	}
}

// Each nonce is drawn anew: two that are the same would give the key stream away.
func TestSealNonces(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.sealing(r, acme)
	seen := map[string]bool{}
	for range 1000 {
		nonce := string(seal(t, r, acme, purpose, []byte("the same"))[1:13])
		if seen[nonce] {
			t.Fatal("a nonce came twice")
		}
		seen[nonce] = true
	}
}

// What is sealed is good at its own place alone: another connection's, another session's or another tenant's is none there.
func TestSealBound(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.sealing(r, acme)
	w.sealing(r, "umbrella")
	plain := []byte("CANARY-client-secret")
	sealed := seal(t, r, acme, purpose, plain)
	for _, tt := range []struct {
		tenant  core.TenantID
		purpose string
	}{
		{"umbrella", purpose},
		{acme, "connection/c2/secret"},
		{acme, "connection/c1/secre"},
		{acme, purpose + "\x00"},
		{acme, "kept/c1"},
	} {
		got, err := r.Open(t.Context(), tt.tenant, tt.purpose, sealed)
		refused(t, fmt.Sprintf("%s of %s", tt.purpose, tt.tenant), got, err)
	}
	unsealed(t, r, acme, purpose, sealed, plain)
}

// Even under one key, as where somebody who can write the store gives two tenants the same record, the tenant and the
// purpose are told apart however their letters are split.
func TestSealSplit(t *testing.T) {
	w := newWorld(t)
	w.wrap.Wrapper = careless{w.wrap.Wrapper}
	r := w.ring()
	w.sealing(r, acme)
	w.sealing(r, "eacme")
	its, err := w.db.Get(t.Context(), store.SigningKey(acme, "seal"), store.SigningKey("eacme", "seal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.db.Commit(t.Context(), store.Put(its[1].Key, its[1].Version, its[0].Body)); err != nil {
		t.Fatal(err)
	}
	r = w.ring()
	sealed := seal(t, r, acme, "secrete", []byte("x"))
	unsealed(t, r, acme, "secrete", sealed, []byte("x"))
	got, err := r.Open(t.Context(), "eacme", "secret", sealed)
	refused(t, "the same letters, split elsewhere", got, err)
	got, err = r.Open(t.Context(), "eacme", "secrete", sealed)
	refused(t, "another tenant with the same key", got, err)
	own := seal(t, r, "eacme", "secret", []byte("y"))
	unsealed(t, r, "eacme", "secret", own, []byte("y"))
}

// careless is a wrapper that does not bind to the tenant.
type careless struct{ keys.Wrapper }

func (c careless) Wrap(ctx context.Context, purpose string, _ core.TenantID, plain []byte) ([]byte, error) {
	return c.Wrapper.Wrap(ctx, purpose, acme, plain)
}

func (c careless) Unwrap(ctx context.Context, purpose string, _ core.TenantID, wrapped []byte) ([]byte, error) {
	return c.Wrapper.Unwrap(ctx, purpose, acme, wrapped)
}

func TestSealDamaged(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.sealing(r, acme)
	plain := []byte("CANARY-client-secret")
	sealed := seal(t, r, acme, purpose, plain)
	open := func(what string, bad []byte) {
		t.Helper()
		got, err := r.Open(t.Context(), acme, purpose, bad)
		refused(t, what, got, err)
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error quotes the content: %v", what, err)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			open(fmt.Sprintf("bit %d of byte %d flipped", bit, i), bad)
		}
	}
	for n := range sealed {
		open(fmt.Sprintf("cut to %d bytes", n), sealed[:n])
	}
	for _, more := range []string{"\x00", string(sealed)} {
		open("something after the end", append(bytes.Clone(sealed), more...))
	}
	open("nothing", nil)
	open("the plain text", plain)
	open("zeros", make([]byte, keys.MaxSealed))
	open("too long", make([]byte, keys.MaxSealed+1))
	other := seal(t, r, acme, purpose, []byte("CANARY-another-one!!"))
	half := len(sealed) / 2
	open("two halves", append(bytes.Clone(sealed[:half]), other[half:]...))
	unsealed(t, r, acme, purpose, sealed, plain)
}

// Only EnsureSealing makes the key: who may not wrap must not try to, and what would be sealed twice over opens once.
func TestNoSealingKey(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	commits := w.db.commits.Load()
	_, err := r.Seal(t.Context(), acme, purpose, []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "EnsureSealing") || errors.Is(err, keys.ErrOpen) {
		t.Errorf("Seal: %v, want an error that says what to do", err)
	}
	internal(t, "Seal", err)
	if got, err := r.Open(t.Context(), acme, purpose, make([]byte, 64)); err == nil || got != nil {
		t.Errorf("Open: %d bytes, %v", len(got), err)
	}
	if n := w.db.commits.Load() - commits; n != 0 {
		t.Errorf("%d commits by Seal and Open", n)
	}
	// Another instance makes it: this one finds it at once, whatever it read a moment ago.
	if err := w.ring().EnsureSealing(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	unsealed(t, w.ring(), acme, purpose, seal(t, r, acme, purpose, []byte("x")), []byte("x"))
	if err := r.EnsureSealing(t.Context(), "nobody"); !errors.Is(err, core.NotFound) {
		t.Errorf("a tenant without keys: %v, want core.NotFound", err)
	}
}

func TestEnsureSealing(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	before, told := signer(t, w.ring(), acme, keys.ES256), len(w.rotated(acme))
	rings := make([]*keys.Ring, 8)
	sealed := make([][]byte, len(rings))
	var wg sync.WaitGroup
	for i := range rings {
		rings[i] = w.ring()
		wg.Go(func() {
			if err := rings[i].EnsureSealing(t.Context(), acme); err != nil {
				t.Errorf("EnsureSealing: %v", err)
				return
			}
			var err error
			if sealed[i], err = rings[i].Seal(t.Context(), acme, purpose, []byte("x")); err != nil {
				t.Errorf("Seal: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, r := range rings { // all of them have the same key
		for i := range sealed {
			unsealed(t, r, acme, purpose, sealed[i], []byte("x"))
		}
	}
	commits := w.db.commits.Load()
	if err := rings[0].EnsureSealing(t.Context(), acme); err != nil || w.db.commits.Load() != commits {
		t.Errorf("again: %v, %d commits", err, w.db.commits.Load()-commits)
	}
	// A rotation leaves it, and it is no signing key: not in the JWKS, not in the list, told of in no event, not to be revoked.
	w.clock.Advance(100 * 24 * time.Hour)
	if n := len(w.rotated(acme)) - told; n != 0 {
		t.Errorf("%d events tell of a sealing key", n)
	}
	if err := w.ring().Rotate(t.Context(), acme, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	unsealed(t, w.ring(), acme, purpose, sealed[0], []byte("x"))
	if kids, _ := jwks(t, w.ring(), acme); len(kids) != 2 { // the one that signs, and its successor
		t.Errorf("published %v", kids)
	}
	list, err := w.ring().List(t.Context(), acme)
	if err != nil || len(list) != 2 {
		t.Errorf("listed %v, %v", list, err)
	}
	if err := w.ring().Revoke(t.Context(), acme, "seal"); !errors.Is(err, core.NotFound) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := w.ring().Public(t.Context(), acme, "seal"); !errors.Is(err, core.NotFound) {
		t.Errorf("published: %v", err)
	}
	if p, err := w.ring().Public(t.Context(), acme, before.ID); err != nil || p.ID != before.ID {
		t.Errorf("the key that signed: %v", err)
	}
	if err := w.ring().Probe(t.Context(), acme); err != nil {
		t.Errorf("Probe: %v", err)
	}
}

// A warm instance asks neither the store nor the wrapper, and a request that seals nothing never asks for the sealing key.
func TestSealWarm(t *testing.T) {
	w := newWorld(t)
	w.sealing(w.ring(), acme)
	r := w.ring()
	lists, unwraps := w.db.lists.Load(), w.wrap.unwraps.Load()
	signer(t, r, acme, keys.ES256)
	if _, err := r.MAC(t.Context(), acme, "test", nil); err != nil {
		t.Fatal(err)
	}
	if n := w.wrap.unwraps.Load() - unwraps; n != 2 {
		t.Errorf("%d unwraps without sealing, want 2", n)
	}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			sealed, err := r.Seal(t.Context(), acme, purpose, []byte("x"))
			if err == nil {
				_, err = r.Open(t.Context(), acme, purpose, sealed)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 3 {
		w.clock.Advance(keys.CacheTTL)
		seal(t, r, acme, purpose, nil)
	}
	if n := w.wrap.unwraps.Load() - unwraps; n != 3 {
		t.Errorf("%d unwraps, want 3: the sealing key is opened once", n)
	}
	if n := w.db.lists.Load() - lists; n != 1+3 {
		t.Errorf("%d reads, want 4", n)
	}
	plain, sealed := make([]byte, 64), seal(t, r, acme, purpose, make([]byte, 64))
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Seal(ctx, acme, purpose, plain) }); n > 2 { // the result, and what it is bound to
		t.Errorf("%v allocations a Seal, at most 2", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = r.Open(ctx, acme, purpose, sealed) }); n > 2 {
		t.Errorf("%v allocations an Open, at most 2", n)
	}
}

// The wrapper's failure is the ring's, and is not kept.
func TestSealWrapperGone(t *testing.T) {
	w := newWorld(t)
	w.sealing(w.ring(), acme)
	sealed := seal(t, w.ring(), acme, purpose, []byte("x"))
	r := w.ring()
	w.wrap.fail.Store(true)
	if _, err := r.Open(t.Context(), acme, purpose, sealed); !errors.Is(err, core.Unavailable) {
		t.Errorf("Open: %v, want core.Unavailable", err)
	}
	w.wrap.fail.Store(false)
	unsealed(t, r, acme, purpose, sealed, []byte("x"))
}

// A sealing key that somebody put into the store, or took from elsewhere in it, opens and seals nothing.
func TestTamperedSealing(t *testing.T) {
	w := newWorld(t)
	w.sealing(w.ring(), acme)
	w.sealing(w.ring(), "umbrella")
	sealed := seal(t, w.ring(), acme, purpose, []byte("x"))
	wrapped := func(t core.TenantID, id string) any {
		items, err := w.db.Get(w.t.Context(), store.SigningKey(t, id))
		m := map[string]any{}
		if err == nil {
			err = json.Unmarshal(items[0].Body, &m)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		return m["wrapped"]
	}
	short, err := w.wrap.Wrap(t.Context(), keys.PurposeSSO, acme, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	k := store.SigningKey(acme, "seal")
	good, err := w.db.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	put := func(body []byte) {
		t.Helper()
		items, err := w.db.Get(t.Context(), k)
		if err == nil {
			err = w.db.Commit(t.Context(), store.Put(k, items[0].Version, body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kid := signer(t, w.ring(), acme, keys.ES256).ID
	for name, bad := range map[string]any{
		"another tenant's":     wrapped("umbrella", "seal"),
		"the MAC secret":       wrapped(acme, "mac"),
		"a signing key":        wrapped(acme, kid),
		"one that is no key":   short,
		"nothing":              nil,
		"one that nobody made": bytes.Repeat([]byte{7}, 60),
	} {
		body, err := json.Marshal(map[string]any{"wrapped": bad})
		if err != nil {
			t.Fatal(err)
		}
		put(body)
		if got, err := w.ring().Open(t.Context(), acme, purpose, sealed); !errors.Is(err, keys.ErrUnwrap) || got != nil {
			t.Errorf("%s opens: %v", name, err)
		}
		if got, err := w.ring().Seal(t.Context(), acme, purpose, []byte("x")); !errors.Is(err, keys.ErrUnwrap) || got != nil {
			t.Errorf("%s seals: %v", name, err)
		}
		if _, err := keys.Rewrap(t.Context(), k, body, w.wrap, nil); name != "nothing" && !errors.Is(err, keys.ErrUnwrap) {
			t.Errorf("%s moves: %v", name, err)
		}
		signer(t, w.ring(), acme, keys.ES256) // nobody else is harmed
		put(good[0].Body)
		unsealed(t, w.ring(), acme, purpose, sealed, []byte("x"))
	}
}

// An erased tenant's sealing key is gone, and a late EnsureSealing makes no new one.
func TestSealingErased(t *testing.T) {
	w := newWorld(t)
	w.sealing(w.ring(), acme)
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.db.DB.List(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			if err := w.db.Commit(t.Context(), store.Delete(it.Key, it.Version)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if items, err := w.db.Get(t.Context(), store.SigningKey(acme, "seal")); err != nil || items[0].Version != 0 {
		t.Errorf("the sealing key stays behind: %v", err)
	}
	if err := w.ring().EnsureSealing(t.Context(), acme); !errors.Is(err, core.NotFound) {
		t.Errorf("EnsureSealing: %v, want core.NotFound", err)
	}
}

// FuzzOpen: whatever lies in the store, Open returns what was sealed, or an error.
func FuzzOpen(f *testing.F) {
	w := newWorld(f)
	r := w.ring()
	w.sealing(r, acme)
	good := seal(f, r, acme, purpose, []byte("a secret"))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		got, err := r.Open(t.Context(), acme, purpose, sealed)
		switch {
		case bytes.Equal(sealed, good):
			if err != nil || string(got) != "a secret" {
				t.Errorf("what was sealed: %v", err)
			}
		default:
			refused(t, "something else", got, err)
		}
	})
}

// Keys are read while others have the ring forget them: the race detector watches.
func TestSealingWhileKeysAreRead(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.sealing(r, acme)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := r.EnsureSealing(t.Context(), acme); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				if _, err := r.JWKS(t.Context(), acme); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
