package keys

import (
	"context"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Ring holds the keys of all tenants. One serves a whole process, from many goroutines. What it read of a tenant it keeps
// for CacheTTL, then reads again; if the store does not answer then, the tenant's keys are core.Unavailable, for a key that
// was revoked meanwhile must not go on being trusted. A tenant without keys is core.NotFound.
type Ring struct {
	DB      store.DB
	Wrapper Wrapper
	Now     func() time.Time
	Period  time.Duration // how long a key signs before its successor; optional, DefaultPeriod; at least an hour
	Tenants int           // how many tenants' keys are kept in memory, a few kilobytes each; optional, 1024

	mu      sync.Mutex
	cached  lru
	flights map[core.TenantID]*flight
	reads   uint64 // counts loads, to tell which of two began later
}

// NewRing returns a ring with the defaults.
func NewRing(db store.DB, w Wrapper, now func() time.Time) *Ring {
	return &Ring{DB: db, Wrapper: w, Now: now}
}

// Signer returns the key that signs for a tenant now. An algorithm that the tenant has no key of is core.Unavailable: see
// Ensure. It is not core.NotFound, for that says that there is no such tenant.
func (r *Ring) Signer(ctx context.Context, t core.TenantID, alg Algorithm) (SigningKey, error) {
	set, err := r.keyset(ctx, t)
	if err != nil {
		return SigningKey{}, err
	}
	k := set.active(alg, r.Now())
	if k == nil {
		return SigningKey{}, fmt.Errorf("keys: tenant %s has no %s key: %w", t, alg, core.Unavailable)
	}
	o, err := k.unwrap(ctx, r.Wrapper, PurposeSigning, t)
	if err != nil {
		return SigningKey{}, err
	}
	return SigningKey{ID: k.id, Algorithm: alg, Signer: o.signer}, nil
}

// Public returns the key of that kid, if the tenant publishes it. A kid that is not known makes the ring read again, at most
// once in CacheTTL; one that is unknown, revoked or retired is core.NotFound.
func (r *Ring) Public(ctx context.Context, t core.TenantID, kid string) (PublicKey, error) {
	set, err := r.keyset(ctx, t)
	if err != nil {
		return PublicKey{}, err
	}
	k, ok := set.byID[kid]
	if !ok && r.mayReread(t) {
		if set, err = r.reload(ctx, t); err != nil {
			return PublicKey{}, err
		}
		k, ok = set.byID[kid]
	}
	if !ok || !k.published(r.Now()) {
		return PublicKey{}, fmt.Errorf("keys: this kid at tenant %s: %w", t, core.NotFound)
	}
	return PublicKey{ID: k.id, Algorithm: k.Algorithm, Key: k.public}, nil
}

// JWKS returns the tenant's published keys as a JWK set. It costs no store round trip within CacheTTL of the last.
func (r *Ring) JWKS(ctx context.Context, t core.TenantID) (Set, error) {
	set, err := r.keyset(ctx, t)
	if err != nil {
		return Set{}, err
	}
	return set.jwks, nil
}

// MAC returns the HMAC-SHA256 of msg under the tenant's own secret. The purpose is authenticated with it, so that what was
// made for one purpose never fits another. Compare MACs with hmac.Equal.
func (r *Ring) MAC(ctx context.Context, t core.TenantID, purpose string, msg []byte) ([]byte, error) {
	if purpose == "" || len(purpose) > 255 {
		return nil, fmt.Errorf("keys: a MAC's purpose has 1 to 255 bytes: %w", core.Invalid)
	}
	set, err := r.keyset(ctx, t)
	if err != nil {
		return nil, err
	}
	if set.mac == nil {
		return nil, fmt.Errorf("keys: MAC secret of tenant %s: %w", t, core.NotFound)
	}
	o, err := set.mac.unwrap(ctx, r.Wrapper, PurposeMAC, t)
	if err != nil {
		return nil, err
	}
	h := o.macs.Get().(hash.Hash)
	defer o.macs.Put(h)
	h.Reset()
	h.Write([]byte{byte(len(purpose))})
	h.Write([]byte(purpose))
	h.Write(msg)
	return h.Sum(nil), nil
}

// keyset is what was read of a tenant's keys at one time. It never changes.
type keyset struct {
	read   uint64 // which load made it
	readAt time.Time
	anchor store.Record[anchor]
	keys   []*key // the signing keys, in order of kid
	byID   map[string]*key
	mac    *key
	seal   *key // nil: see EnsureSealing
	jwks   Set
}

func (s *keyset) fresh(now time.Time) bool {
	return !s.readAt.IsZero() && now.Sub(s.readAt).Abs() < CacheTTL
}

// active is the key that signs: of those whose time has come, the latest. If none's has, because the key was made a moment
// ago by an instance whose clock is ahead, it is the first to come.
func (s *keyset) active(alg Algorithm, now time.Time) (best *key) {
	for _, k := range s.keys {
		if k.Algorithm != alg || !k.published(now) {
			continue
		}
		waits := now.Before(k.ActiveAt)
		switch {
		case best == nil,
			!waits && now.Before(best.ActiveAt),
			!waits && k.ActiveAt.After(best.ActiveAt),
			waits && k.ActiveAt.Before(best.ActiveAt):
			best = k
		}
	}
	return best
}

// newest is the last of an algorithm's keys to be, or to become, active.
func (s *keyset) newest(alg Algorithm) (best *key) {
	for _, k := range s.keys {
		if k.Algorithm == alg && k.RevokedAt.IsZero() && (best == nil || k.ActiveAt.After(best.ActiveAt)) {
			best = k
		}
	}
	return best
}

// flight is a load that several callers wait for.
type flight struct {
	done      chan struct{}
	set       *keyset
	err       error
	abandoned bool // the caller who loads gave up: the others must try themselves
}

// keyset returns what is known of a tenant's keys, reading them if that is too old.
func (r *Ring) keyset(ctx context.Context, t core.TenantID) (*keyset, error) {
	now := r.Now()
	r.mu.Lock()
	var set *keyset
	if e := r.cached.get(t); e != nil {
		set = e.set // forget may put another one in its place
	}
	r.mu.Unlock()
	if set != nil && set.fresh(now) {
		return set, nil
	}
	return r.reload(ctx, t)
}

// mayReread says whether an unknown kid may make the ring read the tenant's keys again.
func (r *Ring) mayReread(t core.TenantID) bool {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.cached.get(t)
	if e == nil || now.Sub(e.reread).Abs() < CacheTTL {
		return false
	}
	e.reread = now
	return true
}

// reload reads a tenant's keys, together with whoever wants them at the same time.
func (r *Ring) reload(ctx context.Context, t core.TenantID) (*keyset, error) {
	for {
		r.mu.Lock()
		f := r.flights[t]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			if r.flights == nil {
				r.flights = make(map[core.TenantID]*flight)
			}
			r.flights[t] = f
			r.mu.Unlock()
			r.fly(ctx, t, f)
			return f.set, f.err
		}
		r.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("keys: %w: %w", core.Unavailable, ctx.Err())
		}
		if !f.abandoned && (f.err != nil || f.set.fresh(r.Now())) {
			return f.set, f.err
		}
	}
}

func (r *Ring) fly(ctx context.Context, t core.TenantID, f *flight) {
	f.abandoned = true // unless load returns: it could panic
	defer func() {
		r.mu.Lock()
		if r.flights[t] == f { // nobody forgot it
			delete(r.flights, t)
		}
		r.mu.Unlock()
		close(f.done)
	}()
	f.set, f.err = r.load(ctx, t)
	f.abandoned = f.err != nil && ctx.Err() != nil
}

// load reads a tenant's keys and keeps them, unless a load that began later was faster.
func (r *Ring) load(ctx context.Context, t core.TenantID) (*keyset, error) {
	r.mu.Lock()
	r.reads++
	set := &keyset{read: r.reads, readAt: r.Now(), byID: make(map[string]*key)}
	var before *keyset
	if e := r.cached.get(t); e != nil {
		before = e.set
	}
	r.mu.Unlock()

	err := r.read(ctx, t, set, before)
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.cached.get(t)
	switch {
	case err != nil:
		return nil, err
	case e == nil || e.set.read < set.read:
		r.cached.put(t, set, r.Tenants)
	case e.set.fresh(set.readAt):
		return e.set, nil
	}
	return set, nil
}

func (r *Ring) read(ctx context.Context, t core.TenantID, set, before *keyset) error {
	for it, err := range r.DB.List(ctx, store.SigningKeys(t)) {
		if err != nil {
			return fmt.Errorf("keys: read keys of tenant %s: %w", t, err)
		}
		id := it.Key.Sort()
		if id == anchorID {
			if set.anchor, err = anchors.Decode(it); err != nil {
				return err
			}
			continue
		}
		rec, err := records.Decode(it)
		if err != nil {
			return err
		}
		k, err := newKey(id, rec, before.find(id))
		if err != nil {
			return err
		}
		switch id {
		case macID:
			set.mac = k
			continue
		case sealID:
			set.seal = k
			continue
		}
		set.keys = append(set.keys, k)
		set.byID[id] = k
	}
	if len(set.keys) == 0 || !set.anchor.Exists() {
		return fmt.Errorf("keys: tenant %s: %w", t, core.NotFound)
	}
	var err error
	set.jwks, err = newSet(set.keys, set.readAt)
	return err
}

func (s *keyset) find(id string) *key {
	switch {
	case s == nil:
		return nil
	case id == macID:
		return s.mac
	case id == sealID:
		return s.seal
	}
	return s.byID[id]
}

// forget makes the next use of a tenant's keys read them, and keeps loads that began before from being believed.
func (r *Ring) forget(t core.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	delete(r.flights, t)
	var stale keyset
	if e := r.cached.get(t); e != nil {
		stale = *e.set // what was unwrapped stays so
	}
	stale.read, stale.readAt = r.reads, time.Time{}
	r.cached.put(t, &stale, r.Tenants)
}
