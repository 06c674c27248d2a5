package org

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
)

// DeleteScope deletes a cluster, department or project, in one commit, by a tombstone: from then on it and everything
// below it is absent for Scope and Scopes. The sweep takes away what lies below. Unless cascade is set, a scope with
// something below is refused (core.Exists), and nothing changes.
func (s *Service) DeleteScope(ctx context.Context, actor core.Actor, t core.TenantID, id core.ScopeID, cascade bool) error {
	return store.Retry(ctx, func() error {
		meta, rec, err := s.load(ctx, t, id)
		if err != nil {
			return err
		}
		sc := rec.Value
		if !cascade {
			n, err := s.liveBelow(ctx, t, sc)
			if err != nil {
				return err
			}
			if n > 0 {
				return fmt.Errorf("%s %s holds %d scopes; delete them first, or ask for cascade: %w", sc.Kind, sc.Name, n, core.Exists)
			}
		}
		nameKey := store.ScopeName(t, sc.Parent, sc.Kind, sc.Name)
		keys := []store.Key{nameKey}
		if sc.Kind == core.Project {
			keys = append(keys, store.NamespaceOwner(t, sc.Cluster, sc.Namespace))
		}
		index, err := s.DB.Get(ctx, keys...)
		if err != nil {
			return err
		}
		now := s.Now()
		sc.Deleted, sc.UpdatedAt = now, now
		var o ops
		rev := o.bump(meta)
		o.add(scopes.Put(rec.Key, rec.Version, sc))
		for _, it := range index { // the name and the namespace are free for another at once
			o.list = append(o.list, store.Delete(it.Key, it.Version))
		}
		o.schedule(due.Sweep, t, string(id), now)
		o.tell(t, now, actor, sc, rev, audit.Delete, "deleted", "")
		return o.commit(ctx, s.DB)
	})
}

// liveBelow counts what lies below a scope and is not deleted.
func (s *Service) liveBelow(ctx context.Context, t core.TenantID, top Scope) (int, error) {
	tree, err := s.ScopesOf(ctx, t, top.Cluster)
	n := 0
	for _, sc := range tree {
		if sc.ID != top.ID && slices.Contains(ids(sc), top.ID) {
			n++
		}
	}
	return n, err
}

// below is what lies below a scope in the tree, tombstones included, the deepest first.
func (s *Service) below(ctx context.Context, t core.TenantID, top Scope) ([]store.Record[Scope], error) {
	if top.Kind == core.Project {
		return nil, nil
	}
	var found []store.Record[Scope]
	for rec, err := range scopes.List(ctx, s.DB, store.ScopesOf(t, top.Cluster)) {
		if err != nil {
			return nil, err
		}
		if rec.Value.ID != top.ID && slices.Contains(ids(rec.Value), top.ID) {
			found = append(found, rec)
		}
	}
	slices.SortStableFunc(found, func(a, b store.Record[Scope]) int { return len(ids(b.Value)) - len(ids(a.Value)) })
	return found, nil
}

// Sweep takes away a tombstone and everything below it, the deepest first. Before a scope's own item goes, clear is
// called for it: it takes away what other packages keep there, such as access rules, and may be called again for the same
// scope. Sweep may be repeated at any time, and may run twice at once.
func (s *Service) Sweep(ctx context.Context, t core.TenantID, id core.ScopeID, clear func(ctx context.Context, t core.TenantID, sc Scope) error) error {
	top, err := scopes.Get(ctx, s.DB, store.Scope(t, id))
	if errors.Is(err, core.NotFound) {
		return nil // swept already
	}
	if err != nil {
		return err
	}
	if !top.Value.Gone() {
		return fmt.Errorf("scope %s is not deleted: %w", id, core.Invalid)
	}
	below, err := s.below(ctx, t, top.Value)
	if err != nil {
		return err
	}
	for _, rec := range append(below, top) {
		if err := clear(ctx, t, rec.Value); err != nil {
			return fmt.Errorf("sweep %s: %w", rec.Value.ID, err)
		}
		if err := s.remove(ctx, t, rec); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a scope's item, and its name and namespace unless they are another's by now. With a cluster goes what is
// kept in partitions of its own.
func (s *Service) remove(ctx context.Context, t core.TenantID, rec store.Record[Scope]) error {
	sc := rec.Value
	if sc.Kind == core.Cluster {
		for _, r := range []store.Range{store.ClusterRules(t, store.InCluster(sc.Cluster)), store.RecordedIn(t, sc.Cluster)} {
			if err := s.empty(ctx, r); err != nil {
				return err
			}
		}
	}
	keys := []store.Key{rec.Key, store.ScopeName(t, sc.Parent, sc.Kind, sc.Name)}
	switch sc.Kind {
	case core.Project:
		keys = append(keys, store.NamespaceOwner(t, sc.Cluster, sc.Namespace))
	case core.Cluster:
		keys = append(keys, store.Sync(t, sc.Cluster))
	}
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, keys...)
		if err != nil {
			return err
		}
		list := []store.Op{store.Delete(items[0].Key, items[0].Version)}
		for _, it := range items[1:] {
			if it.Key.Kind() == "sync" || string(it.Body) == string(pointTo(sc.ID)) {
				list = append(list, store.Delete(it.Key, it.Version))
			}
		}
		return s.DB.Commit(ctx, list...)
	})
}

// EraseData deletes what is left of a tenant that is being erased, its Meta last. It may be repeated, and is to be until
// it returns nil. The registry keeps the id. A tenant that is not being erased is refused.
func (s *Service) EraseData(ctx context.Context, t core.TenantID) error {
	meta, err := s.Tenant(ctx, t)
	if errors.Is(err, core.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if meta.Value.State != Erasing || t == core.SystemTenant {
		return fmt.Errorf("tenant %s is not being erased: %w", t, core.Invalid)
	}
	// Partitions that are named after a cluster are found through the tree, so the tree goes after them.
	ranges := []store.Range{store.ClusterRules(t, store.InAccount)}
	for rec, err := range scopes.List(ctx, s.DB, store.Scopes(t)) {
		if err != nil {
			return err
		}
		if c := rec.Value; c.Kind == core.Cluster {
			ranges = append(ranges, store.ClusterRules(t, store.InCluster(c.Cluster)), store.RecordedIn(t, c.Cluster))
		}
	}
	for _, r := range append(ranges, store.PartitionsOf(t)...) {
		if err := s.empty(ctx, r); err != nil {
			return err
		}
	}
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.TenantEntry(t))
		if err != nil {
			return err
		}
		entry, err := entries.Decode(items[1])
		if err != nil {
			return err
		}
		entry.Value.ID, entry.Value.Name, entry.Value.State = t, "", Erased
		var o ops
		o.list = append(o.list, store.Delete(items[0].Key, items[0].Version))
		o.add(entries.Put(entry.Key, entry.Version, entry.Value))
		o.add(audit.Op(trace.Actor(ctx, core.SystemActor(core.SystemTenant)), s.Now(), audit.Record{
			Tenant: core.SystemTenant, Action: audit.Delete, EntityType: audit.EntityTenant, EntityID: string(t), Reason: "data erased",
		}))
		return o.commit(ctx, s.DB)
	})
}

// empty deletes a range, a full commit at a time, until nothing is left of it.
func (s *Service) empty(ctx context.Context, r store.Range) error {
	r.Limit = store.MaxOps
	return store.Retry(ctx, func() error {
		for {
			var list []store.Op
			for it, err := range s.DB.List(ctx, r) {
				if err != nil {
					return err
				}
				list = append(list, store.Delete(it.Key, it.Version))
			}
			if len(list) == 0 {
				return nil
			}
			if err := s.DB.Commit(ctx, list...); err != nil {
				return err
			}
		}
	})
}
