package org

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Replace says anew, in one commit, all that a scope has of its own: its name, where it lies (only a project moves, and
// only within its cluster), and how it is reached (clusters only; nil leaves that as it is). It is Rename, Move and
// UpdateCluster together, so that a request that is wrong in one part changes nothing in the others.
func (s *Service) Replace(ctx context.Context, actor core.Actor, t core.TenantID, id core.ScopeID, name string, parent core.ScopeID, r *Reach) (Scope, error) {
	name, err := core.ParseProjectName("name", name)
	if err != nil {
		return Scope{}, err
	}
	if r != nil {
		if err := r.check(); err != nil {
			return Scope{}, err
		}
	}
	return s.change(ctx, actor, t, id, "updated", func(sc *Scope) ([]store.Op, error) {
		before := *sc
		sc.Name = name
		if parent != sc.Parent {
			if c, ok := parent.ClusterOf(); sc.Kind != core.Project || !ok || c != sc.Cluster {
				return nil, core.BadField("parent", "must be the project's cluster or a department of it")
			}
			_, up, err := s.load(ctx, t, parent)
			if err != nil || up.Value.Kind == core.Project {
				return nil, core.BadField("parent", "must be the project's cluster or a department of it")
			}
			sc.Parent = parent
		}
		if r != nil {
			if sc.Kind != core.Cluster {
				return nil, fmt.Errorf("cluster: %w", core.NotFound)
			}
			if err := s.repoint(ctx, t, sc, *r); err != nil {
				return nil, err
			}
		}
		return s.reindex(ctx, t, before, *sc)
	})
}
