package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// run is one run of a Copier for one tenant.
type run struct {
	*Copier
	tenant core.TenantID
	origin origin
	held   store.Version // of the claim
	result Result
	round  round
}

// round is what one comparison of everything found.
type round struct {
	items   int
	bytes   int64
	differ  int // items that were not the same on both sides
	witness *witness
}

// Tenant copies one tenant. A run that ended early, however it did, is completed by another. If the target holds the tenant
// already and the same, that is success and nothing is done. Else a target that holds the tenant is core.Exists and stays
// as it is; so is one that holds an unfinished copy from elsewhere, unless Restart is set. A source without the tenant is
// core.NotFound, one that holds half of it core.Unsupported, and one that does not stand still core.Conflict: the copy is
// left unfinished then. A key that does not open is keys.ErrUnwrap, before anything is written.
//
// A store that is written to goes on changing after it was copied. Suspend the tenant first, and let the target's resume.
func (c *Copier) Tenant(ctx context.Context, t core.TenantID) (Result, error) {
	r := &run{Copier: c, tenant: t, result: Result{Tenant: t}}
	err := r.run(ctx)
	r.result.Items, r.result.Bytes = r.round.items, r.round.bytes
	return r.result, err
}

// All copies every tenant of the source, the operators' own last, and the registry entries of those that were erased. It
// stops at the first that fails; another run goes on there.
func (c *Copier) All(ctx context.Context) ([]Result, error) {
	all, err := Tenants(ctx, c.From)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the source has no tenants: %w", core.NotFound)
	}
	var results []Result
	for _, t := range all {
		r, err := c.Tenant(ctx, t)
		if err != nil {
			return results, fmt.Errorf("tenant %s: %w", t, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (r *run) run(ctx context.Context) (err error) {
	if r.origin, err = readOrigin(ctx, r.From, r.tenant); err != nil {
		return err
	}
	if r.origin.state == org.Erased {
		return r.erased(ctx)
	}
	if err := r.openKeys(ctx); err != nil {
		return err
	}
	err = r.claim(ctx)
	if errors.Is(err, errThere) {
		return r.compare(ctx)
	}
	if err != nil {
		return err
	}
	if r.DryRun {
		if err := r.pass(ctx, nil, 0, true); err != nil {
			return err
		}
		return r.copyJobs(ctx)
	}
	return r.converge(ctx)
}

// converge compares and writes, round after round, until both sides are the same and the source stood still, and then makes
// the tenant exist.
func (r *run) converge(ctx context.Context) error {
	var last *witness
	var took time.Duration
	for r.result.Rounds < maxRounds {
		began := r.Now()
		if err := r.pass(ctx, last, took, true); err != nil {
			return err
		}
		took = r.Now().Sub(began)
		still := r.round.witness.agrees(last, r.Now())
		last = r.round.witness
		if r.round.differ > 0 || !still {
			continue
		}
		if err := r.copyJobs(ctx); err != nil {
			return err
		}
		again, err := readOrigin(ctx, r.From, r.tenant)
		if err != nil {
			return err
		}
		if !again.same(r.origin) {
			continue
		}
		r.result.Digest = last.digest()
		return r.finish(ctx)
	}
	return fmt.Errorf("tenant %s changed at the source in each of %d rounds: suspend it there, and run this again: %w", r.tenant, maxRounds, core.Conflict)
}

// pass compares everything but the jobs once, and writes what differs if write is set. Without it, it ends at the first
// difference.
func (r *run) pass(ctx context.Context, last *witness, took time.Duration, write bool) (err error) {
	r.result.Rounds++
	if r.origin, err = readOrigin(ctx, r.From, r.tenant); err != nil {
		return err
	}
	r.round = round{witness: newWitness(last, r.Now(), took)}
	for _, it := range []store.Item{r.origin.meta, r.origin.entry} {
		r.read(it)
	}
	clusters := map[core.ClusterID]bool{}
	if write && !r.DryRun {
		// Scopes come first as well: a later run finds what was copied for a cluster by the cluster's scope.
		counted := r.round
		r.round.witness = newWitness(nil, r.Now(), 0)
		if err := r.mirror(ctx, part{Range: store.Scopes(r.tenant), puts: true}, true); err != nil {
			return err
		}
		counted.differ, r.round = r.round.differ, counted
	}
	for _, side := range []Source{r.From, r.To} {
		if err := clustersOf(ctx, side, r.tenant, clusters); err != nil {
			return err
		}
	}
	for _, p := range parts(r.tenant, sorted(clusters)) {
		if err := r.mirror(ctx, p, write); err != nil {
			return err
		}
		if !write && r.round.differ > 0 {
			return nil
		}
	}
	return nil
}

// copyJobs brings the target's share of the due index to the source's. It changes by itself, each minute, at a source that
// runs, and is small: so it is read until one reading finds it the same on both sides, and is not part of the rounds.
func (r *run) copyJobs(ctx context.Context) error {
	counted := r.round
	defer func() { r.round = counted }()
	for range maxRounds {
		r.round = round{witness: newWitness(nil, r.Now(), 0)}
		if err := r.mirror(ctx, jobs(r.tenant), true); err != nil {
			return err
		}
		r.result.Due = r.round.items
		if r.round.differ == 0 || r.DryRun {
			return nil
		}
	}
	return fmt.Errorf("the jobs of tenant %s changed at the source in each of %d readings: %w", r.tenant, maxRounds, core.Conflict)
}

// compare looks whether the target holds the same tenant already: an earlier run may have ended without hearing so.
func (r *run) compare(ctx context.Context) error {
	items, err := get(ctx, r.To, ends(r.tenant)...)
	if err != nil {
		return err
	}
	there := fmt.Errorf("the target has a tenant %s, which is not the source's: erase it there first, or copy into another store: %w", r.tenant, core.Exists)
	if !r.origin.same(origin{meta: items[0], entry: items[1]}) {
		return there
	}
	if err := r.pass(ctx, nil, 0, false); err != nil {
		return err
	}
	if r.round.differ > 0 {
		return there
	}
	r.result.Already, r.result.Digest = true, r.round.witness.digest()
	return nil
}

// erased copies the registry entry of a tenant that is no more, so that nobody gets its id. What a copy of before it was
// erased left half done is taken away.
func (r *run) erased(ctx context.Context) error {
	r.result.Erased = true
	items, err := get(ctx, r.To, ends(r.tenant)...)
	if err != nil {
		return err
	}
	e, err := entries.Decode(items[1])
	if err != nil {
		return err
	}
	switch was := items[1]; {
	case r.origin.same(origin{meta: items[0], entry: was}):
		r.result.Already = true
		return nil
	case e.Value.State == StateArriving && e.Value.Copy != nil && items[0].Version == 0 && (r.Restart || e.Value.CreatedAt.Equal(r.origin.created)):
		if err := r.claim(ctx); err != nil {
			return err
		}
		r.result.Put++
		return r.discard(ctx, store.Put(was.Key, r.held, r.origin.entry.Body))
	case was.Version != 0 || items[0].Version != 0:
		return fmt.Errorf("the source erased tenant %s, and the target has one: %w", r.tenant, core.Exists)
	}
	r.result.Put++
	if r.DryRun {
		return nil
	}
	return r.To.Commit(ctx, store.Put(r.origin.entry.Key, 0, r.origin.entry.Body))
}

// openKeys proves that every key of the tenant opens, and can be wrapped for the target, before anything is written.
func (r *run) openKeys(ctx context.Context) error {
	if r.Wrappers.From == nil {
		return nil
	}
	for it, err := range r.From.List(ctx, store.SigningKeys(r.tenant)) {
		if err != nil {
			return err
		}
		if _, err := keys.Rewrap(ctx, it.Key, it.Body, r.Wrappers.From, r.Wrappers.To); err != nil {
			return fmt.Errorf("the keys of tenant %s: %w", r.tenant, err)
		}
	}
	return nil
}
