package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

var epoch = time.Unix(0, 0).UTC()

// StateArriving is the state of a registry entry whose tenant is being copied into the store and is not all there.
const StateArriving org.State = "arriving"

// entry is a registry entry, with the claim of a copy while one is under way.
type entry struct {
	org.Entry
	Copy *claim `json:"copy,omitzero"`
}

// claim says which copy a half-copied tenant is of.
type claim struct {
	ID     string    `json:"id"`     // random, another for each run
	Source string    `json:"source"` // Copier.FromName
	Began  time.Time `json:"began"`  // of the first run
	// Was is the entry that was there before the first run: of the same tenant, erased here. Whoever gives the copy up puts
	// it back, since clusters may trust the id still.
	Was *org.Entry `json:"was,omitzero"`
}

func (c *claim) String() string {
	return fmt.Sprintf("an unfinished copy from %s, begun %s", c.Source, c.Began.Format(time.RFC3339))
}

var (
	entries store.Table[entry]
	tenants store.Table[org.Tenant]
)

// Arriving says whether a tenant is being copied into a store and is not all there.
func Arriving(ctx context.Context, db store.DB, t core.TenantID) (bool, error) {
	rec, err := entries.Get(ctx, db, store.TenantEntry(t))
	if errors.Is(err, core.NotFound) {
		return false, nil
	}
	return rec.Value.State == StateArriving, err
}

// WhileAbsent returns the checks with which a commit holds only as long as a tenant is absent from a store and nobody begins
// to copy it there. What acts on absent tenants adds them: functions/maintain drops the jobs of a tenant that was erased, and
// keeps those of one that arrives. One that is arriving, or has arrived by the time of the commit, is core.Conflict.
func WhileAbsent(ctx context.Context, db store.DB, t core.TenantID) ([]store.Op, error) {
	rec, err := entries.Get(ctx, db, store.TenantEntry(t))
	switch {
	case err != nil && !errors.Is(err, core.NotFound):
		return nil, err
	case rec.Value.State == StateArriving:
		return nil, fmt.Errorf("tenant %s is being copied into this store: %w", t, core.Conflict)
	}
	return []store.Op{store.Check(store.Meta(t), 0), store.Check(store.TenantEntry(t), rec.Version)}, nil
}

// origin is what a tenant is at the source: its Meta and registry entry.
type origin struct {
	meta, entry store.Item
	state       org.State
	created     time.Time
}

// readOrigin reads it, and refuses what cannot be copied.
func readOrigin(ctx context.Context, src Source, t core.TenantID) (o origin, err error) {
	items, err := get(ctx, src, ends(t)...)
	if err != nil {
		return o, err
	}
	o.meta, o.entry = items[0], items[1]
	e, err := entries.Decode(o.entry)
	if err != nil {
		return o, err
	}
	m, err := tenants.Decode(o.meta)
	if err != nil {
		return o, err
	}
	o.state, o.created = e.Value.State, e.Value.CreatedAt
	switch {
	case e.Exists() && o.state == StateArriving:
		return o, fmt.Errorf("the source's tenant %s is itself %v: finish that first: %w", t, e.Value.Copy, core.Unsupported)
	case e.Exists() && o.state == org.Erased && !m.Exists():
		return o, nil
	case !e.Exists() || !m.Exists():
		return o, fmt.Errorf("the source has no tenant %s: %w", t, core.NotFound)
	case m.Value.ID != t || e.Value.ID != t:
		return o, fmt.Errorf("the source's tenant %s says that it is %s: %w", t, m.Value.ID, core.Invalid)
	}
	return o, nil
}

// same says whether two readings are of the same bytes.
func (o origin) same(other origin) bool {
	return bytes.Equal(o.meta.Body, other.meta.Body) && bytes.Equal(o.entry.Body, other.entry.Body)
}

// errThere says that the target holds the tenant already, whole.
var errThere = errors.New("transfer: there already")

// claim takes hold of the tenant's id in the target, or of what an earlier run left. It returns the entry's version, which
// every batch expects to find again.
func (r *run) claim(ctx context.Context) error {
	items, err := get(ctx, r.To, ends(r.tenant)...)
	if err != nil {
		return err
	}
	was, err := entries.Decode(items[1])
	if err != nil {
		return err
	}
	c := claim{ID: core.NewID(), Source: r.FromName, Began: r.Now().UTC().Truncate(time.Second)}
	switch {
	case items[0].Version != 0 && was.Value.State != StateArriving:
		return errThere
	case items[0].Version != 0:
		return fmt.Errorf("the target's tenant %s is live and marked as arriving, which no copy leaves: %w", r.tenant, core.Invalid)
	case !was.Exists():
	case was.Value.State == StateArriving && was.Value.Copy != nil:
		if was.Value.Copy.Source != r.FromName && !r.Restart {
			return fmt.Errorf("the target holds tenant %s as %v: go on with that source, or restart with this one: %w", r.tenant, was.Value.Copy, core.Exists)
		}
		if before := was.Value.Copy.Was; before != nil && !before.CreatedAt.Equal(r.origin.created) {
			return r.another()
		}
		if was.Value.Copy.Source == r.FromName {
			c.Began = was.Value.Copy.Began
		}
		c.Was = was.Value.Copy.Was
	case was.Value.State == org.Erased && was.Value.CreatedAt.Equal(r.origin.created):
		c.Was = &was.Value.Entry // it was erased here and comes back: the same customer, made in the same moment
	case was.Value.State == org.Erased:
		return r.another()
	default:
		return fmt.Errorf("the target has tenant %s in its registry: %w", r.tenant, core.Exists)
	}
	return r.hold(ctx, was.Version, r.origin.created, c)
}

// hold writes the claim over the registry entry of a version. A dry run holds nothing.
func (r *run) hold(ctx context.Context, over store.Version, created time.Time, c claim) error {
	if r.DryRun {
		return nil
	}
	op, err := entries.Put(store.TenantEntry(r.tenant), over, entry{
		Entry: org.Entry{ID: r.tenant, Name: "", State: StateArriving, CreatedAt: created}, Copy: &c,
	})
	if err != nil {
		return err
	}
	if err := r.To.Commit(ctx, op); err != nil {
		return err
	}
	rec, err := entries.Get(ctx, r.To, store.TenantEntry(r.tenant))
	if err != nil {
		return err
	}
	if rec.Value.Copy == nil || rec.Value.Copy.ID != c.ID {
		return r.lost()
	}
	r.held = rec.Version
	return nil
}

// another says that the id was a different tenant's here.
func (r *run) another() error {
	return fmt.Errorf("the target erased another tenant %s, whose id clusters may still trust: %w", r.tenant, core.Exists)
}

// lost says that somebody else took over.
func (r *run) lost() error {
	return fmt.Errorf("another copy of tenant %s took over: %w", r.tenant, core.Exists)
}

// stillHeld asks whether a refused commit was refused because the claim is another's by now.
func (r *run) stillHeld(ctx context.Context) error {
	items, err := get(ctx, r.To, store.TenantEntry(r.tenant))
	if err != nil {
		return err
	}
	if items[0].Version != r.held {
		return r.lost()
	}
	return nil
}

// finish makes the tenant exist in the target, which ends the claim: one commit, so there is no state between.
func (r *run) finish(ctx context.Context) error {
	return r.end(ctx, store.Put(store.Meta(r.tenant), 0, r.origin.meta.Body), store.Put(store.TenantEntry(r.tenant), r.held, r.origin.entry.Body))
}

// end commits what ends the claim.
func (r *run) end(ctx context.Context, ops ...store.Op) error {
	err := r.To.Commit(ctx, ops...)
	if errors.Is(err, core.Conflict) {
		return r.lost()
	}
	return err
}
