package org

import (
	"context"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// ReconcileEvery is how often a cluster is looked at although nothing asks for it, so that drift is undone and a lost
// message does no harm.
const ReconcileEvery = 10 * time.Minute

// MaxClusters is how many clusters an account may have: a change of its rules concerns them all at once.
const MaxClusters = 1000

// NewProject is what a project is made of.
type NewProject struct {
	Name      string
	Parent    core.ScopeID // a department, or a cluster
	Namespace string       // empty: "fleetpass-" and the name
}

// CreateCluster adds a cluster to the account. More than MaxClusters are core.Limit.
func (s *Service) CreateCluster(ctx context.Context, actor core.Actor, t core.TenantID, name string, r Reach) (Scope, error) {
	name, err := core.ParseProjectName("name", name)
	if err != nil {
		return Scope{}, err
	}
	if err := r.check(); err != nil {
		return Scope{}, err
	}
	r.Epoch = newEpoch(s.Now())
	id := core.NewClusterID()
	return s.createScope(ctx, actor, t, Scope{
		ID: core.ClusterScope(id), Kind: core.Cluster, Name: name, Parent: core.AccountScope(t), Cluster: id, Reach: &r,
	})
}

// CreateDepartment adds a department to a cluster.
func (s *Service) CreateDepartment(ctx context.Context, actor core.Actor, t core.TenantID, c core.ClusterID, name string) (Scope, error) {
	name, err := core.ParseProjectName("name", name)
	if err != nil {
		return Scope{}, err
	}
	return s.createScope(ctx, actor, t, Scope{
		ID: core.NewScopeID(c), Kind: core.Department, Name: name, Parent: core.ClusterScope(c), Cluster: c,
	})
}

// CreateProject adds a project to a department or directly to a cluster. Its name is unique under its parent, and its
// namespace in its cluster; either taken is core.Exists.
func (s *Service) CreateProject(ctx context.Context, actor core.Actor, t core.TenantID, p NewProject) (Scope, error) {
	name, err := core.ParseProjectName("name", p.Name)
	if err != nil {
		return Scope{}, err
	}
	field, ns := "namespace", p.Namespace
	if ns == "" {
		field, ns = "name", "fleetpass-"+name
	}
	namespace, err := core.ParseNamespace(field, ns)
	if err != nil {
		return Scope{}, err
	}
	c, ok := p.Parent.ClusterOf()
	if !ok {
		return Scope{}, core.BadField("parent", "must be a cluster or a department")
	}
	return s.createScope(ctx, actor, t, Scope{
		ID: core.NewScopeID(c), Kind: core.Project, Name: name, Parent: p.Parent, Cluster: c, Namespace: namespace,
	})
}

func (s *Service) createScope(ctx context.Context, actor core.Actor, t core.TenantID, sc Scope) (Scope, error) {
	nameKey := store.ScopeName(t, sc.Parent, sc.Kind, sc.Name)
	keys := []store.Key{store.Meta(t), nameKey}
	if sc.Kind == core.Project {
		keys = append(keys, store.NamespaceOwner(t, sc.Cluster, sc.Namespace))
	}
	if sc.Kind != core.Cluster {
		keys = append(keys, store.Scope(t, core.ClusterScope(sc.Cluster)))
		if sc.Parent != core.ClusterScope(sc.Cluster) {
			keys = append(keys, store.Scope(t, sc.Parent))
		}
	}
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, keys...)
		if err != nil {
			return err
		}
		meta, err := Decode(items[0])
		if err != nil {
			return err
		}
		for _, it := range items[1:] {
			switch it.Key.Kind() {
			case "scope":
				above, err := DecodeScope(it)
				if err != nil {
					return core.BadField("parent", "is not there")
				}
				if above.Value.Kind == core.Project {
					return core.BadField("parent", "must be a cluster or a department")
				}
			case "scope-name":
				if it.Version != 0 {
					return fmt.Errorf("a %s named %q is there: %w", sc.Kind, sc.Name, core.Exists)
				}
			case "namespace":
				if it.Version != 0 {
					return fmt.Errorf("namespace %q belongs to another project of the cluster: %w", sc.Namespace, core.Exists)
				}
			}
		}
		if sc.Kind == core.Cluster {
			if err := s.room(ctx, t); err != nil {
				return err
			}
		}
		now := s.Now()
		sc.CreatedAt, sc.CreatedBy, sc.UpdatedAt = now, actor.Subject, now
		var o ops
		rev := o.bump(meta)
		o.add(scopes.Put(store.Scope(t, sc.ID), 0, sc))
		o.list = append(o.list, store.Put(nameKey, 0, pointTo(sc.ID)))
		if sc.Kind == core.Project {
			o.list = append(o.list, store.Put(store.NamespaceOwner(t, sc.Cluster, sc.Namespace), 0, pointTo(sc.ID)))
		}
		if sc.Kind == core.Cluster {
			o.schedule(due.Reconcile, t, string(sc.Cluster), now.Add(ReconcileEvery))
		}
		o.tell(t, now, actor, sc, rev, audit.Create, "created", "")
		return o.commit(ctx, s.DB)
	})
	return sc, err
}

// room says whether the account may have one more cluster. The caller has read Meta before, and writes it.
func (s *Service) room(ctx context.Context, t core.TenantID) error {
	names, n := store.ScopeNames(t, core.AccountScope(t), core.Cluster), 0
	names.Limit = MaxClusters
	for _, err := range s.DB.List(ctx, names) {
		if err != nil {
			return err
		}
		n++
	}
	if n >= MaxClusters {
		return fmt.Errorf("the account has %d clusters, the most there may be: %w", n, core.Limit)
	}
	return nil
}

// pointTo is the body of an index item: the id that it stands for, as a JSON string. Ids need no escaping.
func pointTo(id core.ScopeID) []byte { return []byte(`"` + string(id) + `"`) }

// tell records a change of the tree, and emits it.
func (o *ops) tell(t core.TenantID, now time.Time, actor core.Actor, sc Scope, rev core.Revision, a audit.Action, change, reason string) {
	o.add(audit.Op(actor, now, audit.Record{
		Tenant: t, Action: a, EntityType: string(sc.Kind), EntityID: string(sc.ID), Name: sc.Name, Scope: sc.ID, Reason: reason,
	}))
	o.emit(t, now, actor, events.ScopeChanged{
		Revision: uint64(rev), Scope: string(sc.ID), Kind: string(sc.Kind), Change: change, Cluster: string(sc.Cluster),
	})
}

// UpdateCluster changes how a cluster is reached and how names are written there.
func (s *Service) UpdateCluster(ctx context.Context, actor core.Actor, t core.TenantID, c core.ClusterID, r Reach) (Scope, error) {
	if err := r.check(); err != nil {
		return Scope{}, err
	}
	return s.change(ctx, actor, t, core.ClusterScope(c), "updated", func(sc *Scope) ([]store.Op, error) {
		if sc.Kind != core.Cluster {
			return nil, fmt.Errorf("cluster: %w", core.NotFound)
		}
		return nil, s.repoint(ctx, t, sc, r)
	})
}

// Rename gives a scope another name. A project's namespace stays: what runs in it does not move.
func (s *Service) Rename(ctx context.Context, actor core.Actor, t core.TenantID, id core.ScopeID, name string) (Scope, error) {
	name, err := core.ParseProjectName("name", name)
	if err != nil {
		return Scope{}, err
	}
	return s.change(ctx, actor, t, id, "updated", func(sc *Scope) ([]store.Op, error) {
		before := *sc
		sc.Name = name
		return s.reindex(ctx, t, before, *sc)
	})
}

// Move puts a project into another department of its cluster, or directly below the cluster. From the commit on, the rules
// of the new parent hold for it and those of the old one do not: rules are kept by scope id, so none is touched.
func (s *Service) Move(ctx context.Context, actor core.Actor, t core.TenantID, project, parent core.ScopeID) (Scope, error) {
	return s.change(ctx, actor, t, project, "moved", func(sc *Scope) ([]store.Op, error) {
		if sc.Kind != core.Project {
			return nil, core.BadField("id", "only a project moves")
		}
		if c, ok := parent.ClusterOf(); !ok || c != sc.Cluster {
			return nil, core.BadField("parent", "must be the project's cluster or a department of it")
		}
		_, up, err := s.load(ctx, t, parent)
		if err != nil || up.Value.Kind == core.Project {
			return nil, core.BadField("parent", "must be the project's cluster or a department of it")
		}
		before := *sc
		sc.Parent = parent
		return s.reindex(ctx, t, before, *sc)
	})
}

// reindex makes the operations that give a scope's unique name another place.
func (s *Service) reindex(ctx context.Context, t core.TenantID, from, to Scope) ([]store.Op, error) {
	oldKey := store.ScopeName(t, from.Parent, from.Kind, from.Name)
	newKey := store.ScopeName(t, to.Parent, to.Kind, to.Name)
	if oldKey == newKey {
		return nil, nil
	}
	items, err := s.DB.Get(ctx, oldKey, newKey)
	if err != nil {
		return nil, err
	}
	if items[1].Version != 0 {
		return nil, fmt.Errorf("a %s named %q is there: %w", to.Kind, to.Name, core.Exists)
	}
	return []store.Op{store.Delete(oldKey, items[0].Version), store.Put(newKey, 0, pointTo(to.ID))}, nil
}

// change reads a scope, lets edit change it, and commits it with whatever else edit asks for. What edit reads itself is
// safe: it reads after the tenant's revision was read, and the commit holds only if that did not move.
func (s *Service) change(ctx context.Context, actor core.Actor, t core.TenantID, id core.ScopeID, what string, edit func(*Scope) ([]store.Op, error)) (Scope, error) {
	var out Scope
	err := store.Retry(ctx, func() error {
		meta, rec, err := s.load(ctx, t, id)
		if err != nil {
			return err
		}
		sc := rec.Value
		more, err := edit(&sc)
		if err != nil {
			return err
		}
		now := s.Now()
		sc.UpdatedAt = now
		var o ops
		rev := o.bump(meta)
		o.add(scopes.Put(rec.Key, rec.Version, sc))
		o.list = append(o.list, more...)
		o.tell(t, now, actor, sc, rev, audit.Update, what, what)
		out = sc
		return o.commit(ctx, s.DB)
	})
	return out, err
}

// load reads the tenant, which must be active, and a scope, which must be live with everything above it. A change of any
// of them between these reads and the caller's commit raises the tenant's revision, and the commit fails.
func (s *Service) load(ctx context.Context, t core.TenantID, id core.ScopeID) (store.Record[Tenant], store.Record[Scope], error) {
	var none store.Record[Scope]
	items, err := s.DB.Get(ctx, store.Meta(t), store.Scope(t, id))
	if err != nil {
		return store.Record[Tenant]{}, none, err
	}
	meta, err := Decode(items[0])
	if err != nil {
		return meta, none, err
	}
	rec, err := DecodeScope(items[1])
	if err != nil {
		return meta, none, err
	}
	if rec.Value.Kind != core.Cluster {
		if _, err := s.Scope(ctx, t, rec.Value.Parent); err != nil {
			return meta, none, err
		}
	}
	return meta, rec, nil
}
