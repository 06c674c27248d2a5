package transfer

import (
	"context"
	"fmt"
	"iter"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Abandon takes away what an unfinished copy left of a tenant in the target, whatever its source was, and gives its id free,
// or back to the tenant that was erased there before. A copy that is still under way stops. From, FromName and Wrappers are
// not needed. A target without an unfinished copy of the tenant is core.NotFound, and stays as it is: a tenant that is
// whole is erased, by its own means. A run that ended early is completed by another.
func (c *Copier) Abandon(ctx context.Context, t core.TenantID) (Result, error) {
	r := &run{Copier: c, tenant: t, result: Result{Tenant: t}}
	err := r.abandon(ctx)
	return r.result, err
}

func (r *run) abandon(ctx context.Context) error {
	items, err := get(ctx, r.To, ends(r.tenant)...)
	if err != nil {
		return err
	}
	was, err := entries.Decode(items[1])
	if err != nil {
		return err
	}
	if items[0].Version != 0 || was.Value.State != StateArriving || was.Value.Copy == nil {
		return fmt.Errorf("the target holds no unfinished copy of a tenant %s: %w", r.tenant, core.NotFound)
	}
	c := *was.Value.Copy // its source may still go on with it, if this run does not come to its end
	c.ID = core.NewID()
	if err := r.hold(ctx, was.Version, was.Value.CreatedAt, c); err != nil {
		return err
	}
	if c.Was == nil {
		return r.discard(ctx, store.Delete(was.Key, r.held))
	}
	before, err := entries.Put(was.Key, r.held, entry{Entry: *c.Was})
	if err != nil {
		return err
	}
	return r.discard(ctx, before)
}

// discard takes away all that the target holds of the tenant, under the claim, and ends the claim with the last commit.
func (r *run) discard(ctx context.Context, last store.Op) error {
	to := *r.Copier
	to.From = none{} // what the source does not have, mirror takes away
	r.Copier = &to
	clusters := map[core.ClusterID]bool{}
	for r.result.Rounds < maxRounds {
		r.result.Rounds++
		r.round = round{witness: newWitness(nil, r.Now(), 0)}
		if err := clustersOf(ctx, r.To, r.tenant, clusters); err != nil {
			return err
		}
		for _, p := range append([]part{jobs(r.tenant)}, parts(r.tenant, sorted(clusters))...) {
			if p.Leading() == store.Scopes(r.tenant).Leading() && r.round.differ > 0 && !r.DryRun {
				continue // a later run finds what there is of a cluster by its scope: so that goes once all else is gone
			}
			if err := r.mirror(ctx, p, true); err != nil {
				return err
			}
		}
		if r.DryRun {
			return nil
		}
		if r.round.differ == 0 {
			return r.end(ctx, store.Check(store.Meta(r.tenant), 0), last)
		}
	}
	return fmt.Errorf("something goes on writing for tenant %s in the target: %w", r.tenant, core.Conflict)
}

// none is a source that has nothing.
type none struct{}

func (none) Get(_ context.Context, keys ...store.Key) ([]store.Item, error) {
	items := make([]store.Item, len(keys))
	for i, k := range keys {
		items[i].Key = k
	}
	return items, nil
}

func (none) List(context.Context, store.Range) iter.Seq2[store.Item, error] {
	return func(func(store.Item, error) bool) {}
}
