package org

import (
	"context"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Scope is one node of the tree below the account: a cluster, a department or a project.
type Scope struct {
	ID        core.ScopeID   `json:"id"`
	Kind      core.ScopeKind `json:"kind"`
	Name      string         `json:"name"`
	Parent    core.ScopeID   `json:"parent"` // the account's, a cluster's or a department's
	Cluster   core.ClusterID `json:"cluster"`
	Namespace core.Namespace `json:"namespace,omitzero"` // of a project
	Reach     *Reach         `json:"reach,omitzero"`     // of a cluster
	Deleted   time.Time      `json:"deleted,omitzero"`   // a tombstone until everything below is swept
	CreatedAt time.Time      `json:"createdAt"`
	CreatedBy core.Subject   `json:"createdBy"`
	UpdatedAt time.Time      `json:"updatedAt,omitzero"`
}

// Gone says whether the scope is a tombstone.
func (s Scope) Gone() bool { return !s.Deleted.IsZero() }

// PathOf is the scope's path from the account: what a decision at that scope walks up. It needs no read, since a project
// lies at most in one department and carries its cluster.
func PathOf(t core.TenantID, s Scope) core.Path {
	p := core.Path{core.AccountScope(t), core.ClusterScope(s.Cluster)}
	switch s.Kind {
	case core.Account:
		return core.Path{core.AccountScope(t)}
	case core.Cluster:
		return p
	}
	n := 2
	if s.Parent != core.ClusterScope(s.Cluster) {
		p[n] = s.Parent
		n++
	}
	p[n] = s.ID
	return p
}

// ids is the path without the account and without what is empty.
func ids(s Scope) []core.ScopeID {
	p := PathOf("", s)
	return slices.DeleteFunc(p[1:], func(id core.ScopeID) bool { return id == "" })
}

// Scope reads one scope. It is core.NotFound if it, or anything above it, is absent or deleted.
func (s *Service) Scope(ctx context.Context, t core.TenantID, id core.ScopeID) (store.Record[Scope], error) {
	rec, err := scopes.Get(ctx, s.DB, store.Scope(t, id))
	if err != nil {
		return rec, err
	}
	var keys []store.Key
	for _, up := range ids(rec.Value) {
		keys = append(keys, store.Scope(t, up))
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return rec, err
	}
	for _, it := range items {
		if rec, err = DecodeScope(it); err != nil {
			return store.Record[Scope]{}, err
		}
	}
	return rec, nil // as the last of the snapshot, the scope itself, says
}

// Scopes returns the live tree: every scope that is not deleted and has nothing deleted above it, in order of id, so that
// a cluster comes before what is in it.
func (s *Service) Scopes(ctx context.Context, t core.TenantID) ([]Scope, error) {
	return s.live(ctx, store.Scopes(t))
}

// ScopesOf is the live tree of one cluster, the cluster first.
func (s *Service) ScopesOf(ctx context.Context, t core.TenantID, c core.ClusterID) ([]Scope, error) {
	return s.live(ctx, store.ScopesOf(t, c))
}

func (s *Service) live(ctx context.Context, r store.Range) ([]Scope, error) {
	var all []Scope
	gone := map[core.ScopeID]bool{}
	for rec, err := range scopes.List(ctx, s.DB, r) {
		if err != nil {
			return nil, err
		}
		all = append(all, rec.Value)
		gone[rec.Value.ID] = rec.Value.Gone()
	}
	live := all[:0]
	for _, sc := range all {
		dead := false
		for _, up := range ids(sc) {
			// What is above and not listed was swept while the list ran.
			if g, listed := gone[up]; g || !listed {
				dead = true
			}
		}
		if !dead {
			live = append(live, sc)
		}
	}
	return live, nil
}
