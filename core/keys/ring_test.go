package keys_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

const acme core.TenantID = "acme"

// spyDB is a store that counts, and can be made to fail or to wait.
type spyDB struct {
	store.DB
	lists, commits atomic.Int64
	fail           atomic.Bool
	hold           atomic.Pointer[chan struct{}] // a List takes its snapshot, then waits until this is closed
	held           chan struct{}                 // gets a value for each List that waits
}

func (db *spyDB) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if db.fail.Load() {
			yield(store.Item{}, fmt.Errorf("store: %w", core.Unavailable))
			return
		}
		db.lists.Add(1)
		hold := db.hold.Load()
		if hold == nil {
			db.DB.List(ctx, r)(yield)
			return
		}
		var items []store.Item
		for it, err := range db.DB.List(ctx, r) {
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			items = append(items, it)
		}
		db.held <- struct{}{}
		select {
		case <-*hold:
		case <-ctx.Done():
			yield(store.Item{}, fmt.Errorf("store: %w: %w", core.Unavailable, ctx.Err()))
			return
		}
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

func (db *spyDB) Commit(ctx context.Context, ops ...store.Op) error {
	if db.fail.Load() {
		return fmt.Errorf("store: %w", core.Unavailable)
	}
	db.commits.Add(1)
	return db.DB.Commit(ctx, ops...)
}

// spyWrapper counts what is unwrapped, and can be made to fail.
type spyWrapper struct {
	keys.Wrapper
	unwraps atomic.Int64
	fail    atomic.Bool
}

func (w *spyWrapper) Unwrap(ctx context.Context, purpose string, t core.TenantID, wrapped []byte) ([]byte, error) {
	w.unwraps.Add(1)
	if w.fail.Load() {
		return nil, fmt.Errorf("wrapper: %w", core.Unavailable)
	}
	return w.Wrapper.Unwrap(ctx, purpose, t, wrapped)
}

// clock is the time of a test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is one store, shared by as many rings as a test makes.
type world struct {
	t     testing.TB
	db    *spyDB
	wrap  *spyWrapper
	clock *clock
}

func newWorld(t testing.TB) *world {
	t.Helper()
	c := &clock{at: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{Now: c.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w, err := localkeys.New(bytes.Repeat([]byte{9}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, &spyDB{DB: db, held: make(chan struct{}, 100)}, &spyWrapper{Wrapper: w}, c}
}

// ring is another instance.
func (w *world) ring() *keys.Ring { return keys.NewRing(w.db, w.wrap, w.clock.Now) }

// tenant makes a tenant with keys.
func (w *world) tenant(r *keys.Ring, t core.TenantID) {
	w.t.Helper()
	ops, err := r.Init(w.t.Context(), t)
	if err != nil {
		w.t.Fatalf("Init: %v", err)
	}
	if err := w.db.Commit(w.t.Context(), ops...); err != nil {
		w.t.Fatalf("commit of Init: %v", err)
	}
}

func signer(t testing.TB, r *keys.Ring, tenant core.TenantID, alg keys.Algorithm) keys.SigningKey {
	t.Helper()
	k, err := r.Signer(t.Context(), tenant, alg)
	if err != nil {
		t.Fatalf("Signer %s of %s: %v", alg, tenant, err)
	}
	return k
}

func jwks(t testing.TB, r *keys.Ring, tenant core.TenantID) (kids []string, set keys.Set) {
	t.Helper()
	set, err := r.JWKS(t.Context(), tenant)
	if err != nil {
		t.Fatalf("JWKS of %s: %v", tenant, err)
	}
	var doc struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(set.Body, &doc); err != nil {
		t.Fatal(err)
	}
	for _, k := range doc.Keys {
		kids = append(kids, k.ID)
	}
	return kids, set
}

func TestNewTenant(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	if _, err := r.Signer(t.Context(), acme, keys.ES256); !errors.Is(err, core.NotFound) {
		t.Fatalf("before Init: %v, want core.NotFound", err)
	}
	w.tenant(r, acme)
	k := signer(t, r, acme, keys.ES256) // at once, though the ring looked a moment ago
	p, err := r.Public(t.Context(), acme, k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Key.(*ecdsa.PublicKey).Equal(k.Public()) || p.Algorithm != keys.ES256 || k.Algorithm != keys.ES256 || p.ID != k.ID {
		t.Errorf("signs with %v, verifies with %v", k.Public(), p)
	}
	if kids, _ := jwks(t, r, acme); len(kids) != 1 || kids[0] != k.ID {
		t.Errorf("published %v, signing with %s", kids, k.ID)
	}
	if _, err := r.Signer(t.Context(), acme, keys.RS256); !errors.Is(err, core.Unavailable) {
		t.Errorf("RS256 before Ensure: %v, want core.Unavailable", err)
	}
	if got := signer(t, w.ring(), acme, keys.ES256); got.ID != k.ID {
		t.Errorf("another instance signs with %s, this one with %s", got.ID, k.ID)
	}
}

// Everything that a request needs is in memory: no store round trip and no unwrapping within CacheTTL.
func TestWarm(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	r := w.ring()
	var wg sync.WaitGroup
	for range 32 { // all of them meet a cold ring
		wg.Go(func() {
			k, err := r.Signer(t.Context(), acme, keys.ES256)
			if err != nil {
				t.Errorf("Signer: %v", err)
				return
			}
			if _, err := r.Public(t.Context(), acme, k.ID); err != nil {
				t.Errorf("Public: %v", err)
			}
			if _, err := r.JWKS(t.Context(), acme); err != nil {
				t.Errorf("JWKS: %v", err)
			}
			if _, err := r.MAC(t.Context(), acme, "test", nil); err != nil {
				t.Errorf("MAC: %v", err)
			}
		})
	}
	wg.Wait()
	if n := w.db.lists.Load(); n != 1 {
		t.Errorf("%d reads of the store by 32 callers at once, want 1", n)
	}
	if n := w.wrap.unwraps.Load(); n != 2 {
		t.Errorf("%d unwraps, want 2: the signing key and the MAC secret", n)
	}
	for i := range 10 { // each time read again, and never unwrapped again
		w.clock.Advance(keys.CacheTTL)
		signer(t, r, acme, keys.ES256)
		jwks(t, r, acme)
		if n := w.db.lists.Load(); n != int64(i)+2 {
			t.Fatalf("%d reads after %d times CacheTTL", n, i+1)
		}
	}
	if n := w.wrap.unwraps.Load(); n != 2 {
		t.Errorf("%d unwraps after reading again, want still 2", n)
	}
}

func TestMAC(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	w.tenant(r, "umbrella")
	mac := func(r *keys.Ring, tenant core.TenantID, purpose, msg string) string {
		t.Helper()
		m, err := r.MAC(t.Context(), tenant, purpose, []byte(msg))
		if err != nil || len(m) != 32 {
			t.Fatalf("MAC: %d bytes, %v", len(m), err)
		}
		return string(m)
	}
	want := mac(r, acme, "refresh", "x")
	if mac(w.ring(), acme, "refresh", "x") != want {
		t.Error("two instances make different MACs")
	}
	w.clock.Advance(100 * 24 * time.Hour)
	if err := r.Rotate(t.Context(), acme, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	if mac(r, acme, "refresh", "x") != want {
		t.Error("a rotation of the signing keys changed the MACs: every refresh token and client secret would be void")
	}
	for name, got := range map[string]string{
		"message":         mac(r, acme, "refresh", "y"),
		"purpose":         mac(r, acme, "secret", "x"),
		"tenant":          mac(r, "umbrella", "refresh", "x"),
		"split elsewhere": mac(r, acme, "refres", "hx"),
	} {
		if got == want {
			t.Errorf("another %s, the same MAC", name)
		}
	}
	for _, purpose := range []string{"", strings.Repeat("p", 256)} {
		if _, err := r.MAC(t.Context(), acme, purpose, nil); !errors.Is(err, core.Invalid) {
			t.Errorf("purpose of %d bytes: %v, want core.Invalid", len(purpose), err)
		}
	}
}

func TestTenantsApart(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	w.tenant(r, "umbrella")
	k := signer(t, r, "umbrella", keys.ES256)
	if _, err := r.Public(t.Context(), "umbrella", k.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Public(t.Context(), acme, k.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("another tenant's kid: %v, want core.NotFound", err)
	}
}

func TestUnknownKid(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	known := signer(t, r, acme, keys.ES256)
	before := w.db.lists.Load()
	bad := []string{"", "mac", "ring", "../../dev/null", "' OR 1=1 --", "\x00", strings.Repeat("k", 1<<20), `{"kty":"oct"}`, known.ID + " ", known.ID[:42]}
	for range 100 {
		for _, kid := range bad {
			if _, err := r.Public(t.Context(), acme, kid); !errors.Is(err, core.NotFound) || len(err.Error()) > 200 {
				t.Fatalf("kid %.40q: %v, want core.NotFound", kid, err)
			}
		}
	}
	if n := w.db.lists.Load() - before; n != 1 {
		t.Errorf("%d reads for 1000 unknown kids, want 1", n)
	}
	if _, err := r.Public(t.Context(), acme, known.ID); err != nil {
		t.Errorf("the known kid: %v", err)
	}
	// A key that another instance published a moment ago is found by that one read.
	w.clock.Advance(2 * keys.CacheTTL)
	signer(t, r, acme, keys.ES256)
	if err := w.ring().Revoke(t.Context(), acme, known.ID); err != nil {
		t.Fatal(err)
	}
	fresh := signer(t, w.ring(), acme, keys.ES256)
	if _, err := r.Public(t.Context(), acme, fresh.ID); err != nil {
		t.Errorf("a key published a moment ago: %v", err)
	}
}

// Error is not "go on": when the store is gone for CacheTTL, nothing is signed or accepted, for a key may be revoked.
func TestStoreGone(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	k := signer(t, r, acme, keys.ES256)
	w.db.fail.Store(true)
	w.clock.Advance(keys.CacheTTL - time.Second)
	if _, err := r.Public(t.Context(), acme, k.ID); err != nil {
		t.Errorf("within CacheTTL: %v", err)
	}
	w.clock.Advance(time.Second)
	if _, err := r.Public(t.Context(), acme, k.ID); !errors.Is(err, core.Unavailable) {
		t.Errorf("Public after CacheTTL: %v, want core.Unavailable", err)
	}
	if _, err := r.Signer(t.Context(), acme, keys.ES256); !errors.Is(err, core.Unavailable) {
		t.Errorf("Signer after CacheTTL: %v, want core.Unavailable", err)
	}
	w.db.fail.Store(false)
	signer(t, r, acme, keys.ES256)
}

func TestWrapperGone(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	r := w.ring()
	w.wrap.fail.Store(true)
	if k, err := r.Signer(t.Context(), acme, keys.ES256); !errors.Is(err, core.Unavailable) || k.Signer != nil {
		t.Errorf("Signer: %v, want core.Unavailable and no key", err)
	}
	jwks(t, r, acme) // needs no secret
	w.wrap.fail.Store(false)
	signer(t, r, acme, keys.ES256) // the failure was not kept
}

// Who gives up while reading does not take down those who wait for the same read.
func TestAbandonedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tenant(w.ring(), acme)
		r := w.ring()
		hold := make(chan struct{})
		w.db.hold.Store(&hold)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := r.JWKS(ctx, acme); first <- err }()
		<-w.db.held
		go func() { _, err := r.JWKS(t.Context(), acme); second <- err }()
		synctest.Wait() // the second waits for the first
		if n := w.db.lists.Load(); n != 1 {
			t.Errorf("%d reads, want one for both", n)
		}
		w.db.hold.Store(nil)
		cancel()
		if err := <-first; !errors.Is(err, core.Unavailable) {
			t.Errorf("who gave up: %v, want core.Unavailable", err)
		}
		if err := <-second; err != nil {
			t.Errorf("who waited: %v", err)
		}
	})
}

// Memory is bounded: what was used longest ago goes, what is in use stays.
func TestManyTenants(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	r.Tenants = 4
	for i := range 12 {
		w.tenant(r, core.TenantID(fmt.Sprintf("tenant-%02d", i)))
	}
	for range 3 {
		for i := range 12 {
			signer(t, r, core.TenantID(fmt.Sprintf("tenant-%02d", i)), keys.ES256)
			signer(t, r, "tenant-00", keys.ES256)
		}
	}
	// tenant-00 is read once and stays; the other eleven pass through the three places that are left.
	if n := w.db.lists.Load(); n != 1+3*11 {
		t.Errorf("%d reads, want %d", n, 1+3*11)
	}
}

func TestEnsure(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	w.tenant(r, acme)
	es := signer(t, r, acme, keys.ES256)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := w.ring().Ensure(t.Context(), acme, keys.RS256); err != nil {
				t.Errorf("Ensure: %v", err)
			}
		})
	}
	wg.Wait()
	if err := r.Ensure(t.Context(), acme, keys.RS256); err != nil {
		t.Errorf("Ensure again: %v", err)
	}
	kids, _ := jwks(t, r, acme)
	k := signer(t, r, acme, keys.RS256)
	if len(kids) != 2 {
		t.Errorf("published %v, want one key of each algorithm", kids)
	}
	if n := k.Public().(*rsa.PublicKey).N.BitLen(); n != 2048 {
		t.Errorf("RSA key of %d bits", n)
	}
	if got := signer(t, r, acme, keys.ES256); got.ID != es.ID {
		t.Error("the ES256 key changed")
	}
	if err := r.Ensure(t.Context(), acme, "HS256"); !errors.Is(err, core.Unsupported) {
		t.Errorf("HS256: %v, want core.Unsupported", err)
	}
	if err := r.Ensure(t.Context(), "nobody", keys.ES256); !errors.Is(err, core.NotFound) {
		t.Errorf("tenant without keys: %v, want core.NotFound", err)
	}
}
