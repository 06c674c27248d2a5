package transfer

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// part is a tenant's share of one partition.
type part struct {
	store.Range
	of   core.TenantID // whose share it is, where tenants share the partition; else all of it is the tenant's
	puts bool          // only what is missing is written, and nothing is taken away
}

// has says whether a key that the range holds is the tenant's.
func (p part) has(k store.Key) bool { return p.of == "" || k.About() == p.of }

// in lists what a source holds in the part's range, and maybe more: see has.
func (p part) in(ctx context.Context, src Source) iter.Seq2[store.Item, error] {
	if f, ok := src.(*File); ok && p.of != "" {
		return f.jobs(ctx, p.of)
	}
	return src.List(ctx, p.Range)
}

// parts is all that belongs to a tenant but its registry entry and Meta, which carry the claim and end it, and its jobs,
// which come last. Partitions that are named after a cluster are found through the scope tree, of either side: an earlier
// run may have copied a cluster that the source has deleted since. So the tree of PartitionsOf, where scopes are taken
// away, comes after them.
func parts(t core.TenantID, clusters []core.ClusterID) []part {
	list := []part{{Range: store.ClusterRules(t, store.InAccount)}}
	for _, c := range clusters {
		list = append(list, part{Range: store.ClusterRules(t, store.InCluster(c))}, part{Range: store.RecordedIn(t, c)})
	}
	outbox := store.Outbox(t, epoch, "x").Leading()
	for _, r := range store.PartitionsOf(t) {
		if r.Leading() != outbox {
			list = append(list, part{Range: r})
		}
	}
	return list
}

// jobs is a tenant's share of the due index.
func jobs(t core.TenantID) part {
	return part{Range: store.DueShardOf(t), of: t}
}

// ends are the two items that a tenant begins and ends with.
func ends(t core.TenantID) []store.Key { return []store.Key{store.Meta(t), store.TenantEntry(t)} }

// clustersOf gathers the clusters of a tenant in a source, by the ids in its scope tree, tombstones included.
func clustersOf(ctx context.Context, src Source, t core.TenantID, into map[core.ClusterID]bool) error {
	for it, err := range src.List(ctx, store.Scopes(t)) {
		if err != nil {
			return err
		}
		if c, ok := core.ScopeID(it.Key.Sort()).ClusterOf(); ok {
			into[c] = true
		}
	}
	return nil
}

func sorted(clusters map[core.ClusterID]bool) []core.ClusterID {
	return slices.Sorted(maps.Keys(clusters))
}
