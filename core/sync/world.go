package sync

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

var (
	tenants      store.Table[org.Tenant]
	scopes       store.Table[org.Scope]
	rules        store.Table[core.Rule]
	users        store.Table[directory.User]
	applications store.Table[directory.Application]
	owners       store.Table[core.ScopeID] // of namespaces
)

// situation is what the store says about a cluster.
type situation struct {
	world   kube.World
	cluster org.Scope // its Reach is not nil
	leaving bool      // the cluster or the whole tenant goes: whatever we made there goes too
	moved   bool      // the tenant changed while it was read: this is a mixture, which no revision ever was
}

// where reads how a cluster is reached and at which revision the tenant is. A tenant that is not served, and a cluster
// that is not there, are core.NotFound.
func (s *Service) where(ctx context.Context, t core.TenantID, c core.ClusterID) (situation, error) {
	items, err := s.DB.Get(ctx, store.Meta(t), store.Scope(t, core.ClusterScope(c)))
	if err != nil {
		return situation{}, err
	}
	meta, err := tenants.Decode(items[0])
	if err != nil {
		return situation{}, err
	}
	scope, err := scopes.Decode(items[1])
	if err != nil {
		return situation{}, err
	}
	switch {
	case !meta.Exists() || meta.Value.State == org.Suspended:
		return situation{}, fmt.Errorf("tenant: %w", core.NotFound)
	case !scope.Exists() || scope.Value.Kind != core.Cluster || scope.Value.Reach == nil:
		return situation{}, fmt.Errorf("cluster: %w", core.NotFound)
	}
	reach := scope.Value.Reach
	return situation{
		cluster: scope.Value,
		leaving: scope.Value.Gone() || meta.Value.State == org.Erasing,
		world: kube.World{
			Tenant: t, Cluster: c, Now: s.Now(),
			Prefixes: kube.Prefixes{User: reach.UserPrefix, Group: reach.GroupPrefix},
			Stamp:    kube.Stamp{Epoch: reach.Epoch, Revision: meta.Value.Revision},
		},
	}, nil
}

// load reads what a cluster must hold. The reads are no snapshot, so the revision is read before and after, and the reads
// are made again while it differs; a tenant that never stands still for as long as they take is moved in the end.
func (s *Service) load(ctx context.Context, t core.TenantID, c core.ClusterID) (sit situation, err error) {
	for range maxRounds {
		sit, err = s.where(ctx, t, c)
		if err != nil || sit.leaving {
			return sit, err
		}
		if err = s.lists(ctx, &sit.world); err != nil {
			return sit, err
		}
		after, err := s.revision(ctx, t)
		if err != nil {
			return sit, err
		}
		if sit.moved = after != sit.world.Stamp.Revision; !sit.moved {
			break
		}
	}
	return sit, nil
}

// lists reads the scopes and rules that concern a cluster, and whom they name that may not act.
func (s *Service) lists(ctx context.Context, w *kube.World) error {
	tree, err := s.Org.ScopesOf(ctx, w.Tenant, w.Cluster)
	if err != nil {
		return err
	}
	w.Scopes = kubeScopes(tree)
	for _, in := range []store.GrantsIn{store.InAccount, store.InCluster(w.Cluster)} {
		for rec, err := range rules.List(ctx, s.DB, store.ClusterRules(w.Tenant, in)) {
			if err != nil {
				return err
			}
			w.Rules = append(w.Rules, rec.Value)
		}
	}
	w.Disabled, err = s.disabled(ctx, w.Tenant, w.Rules)
	return err
}

// kubeScopes is of a cluster's tree what its bindings depend on.
func kubeScopes(tree []org.Scope) (out []kube.Scope) {
	for _, sc := range tree {
		if sc.Kind == core.Department || sc.Kind == core.Project {
			out = append(out, kube.Scope{ID: sc.ID, Kind: sc.Kind, Parent: sc.Parent, Namespace: sc.Namespace})
		}
	}
	return out
}

func (s *Service) revision(ctx context.Context, t core.TenantID) (core.Revision, error) {
	meta, err := tenants.Get(ctx, s.DB, store.Meta(t))
	return meta.Value.Revision, err
}

// disabled finds out which people and applications named by rules may not act. One without a record may: a rule can be
// older than the first sign-in.
func (s *Service) disabled(ctx context.Context, t core.TenantID, named []core.Rule) (map[core.Subject]bool, error) {
	subjects := map[store.Key]core.Subject{}
	for _, r := range named {
		switch r.Subject.Kind {
		case core.User:
			subjects[store.User(t, core.Email(r.Subject.ID))] = r.Subject
		case core.Application:
			subjects[store.Application(t, core.ApplicationID(r.Subject.ID))] = r.Subject
		}
	}
	keys := make([]store.Key, 0, len(subjects))
	for k := range subjects {
		keys = append(keys, k)
	}
	items, err := s.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := map[core.Subject]bool{}
	for _, it := range items {
		who := subjects[it.Key]
		if who.Kind == core.User {
			rec, err := users.Decode(it)
			if err != nil {
				return nil, err
			}
			if rec.Value.Disabled {
				out[who] = true
			}
			continue
		}
		rec, err := applications.Decode(it)
		if err != nil {
			return nil, err
		}
		if rec.Exists() && !rec.Value.Enabled {
			out[who] = true
		}
	}
	return out, nil
}

// get reads any number of keys, in several round trips side by side.
func (s *Service) get(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	parts := make([][]store.Item, (len(keys)+store.MaxGet-1)/store.MaxGet)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range parts {
		g.Go(func() (err error) {
			parts[i], err = s.DB.Get(ctx, keys[i*store.MaxGet:min(len(keys), (i+1)*store.MaxGet)]...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []store.Item
	for _, p := range parts {
		all = append(all, p...)
	}
	return all, nil
}

// unexplained returns the removals that the store does not confirm. What a cluster must hold was computed from lists; a
// list that was cut short would look like rules taken away. So each removal is checked against single items that the
// same commits wrote: the subject's grants, which decisions are made from, the project and what is above it, and the
// subject itself. A removal that they agree with is explained: by a deletion, an expiry, a move or a disabling.
func (s *Service) unexplained(ctx context.Context, sit situation, removals []kube.Removal) ([]kube.Removal, error) {
	t, c := sit.world.Tenant, sit.world.Cluster
	if sit.leaving || len(removals) == 0 {
		return nil, nil
	}
	want := map[store.Key]bool{}
	for _, r := range removals {
		who, _ := sit.world.Prefixes.Parse(r.Subject)
		want[store.Grants(t, who, store.InAccount)] = true
		want[store.Grants(t, who, store.InCluster(c))] = true
		if r.Ref.Kind == kube.RoleBinding {
			want[store.NamespaceOwner(t, c, r.Ref.Namespace)] = true
		}
	}
	found, err := s.lookUp(ctx, want)
	if err != nil {
		return nil, err
	}

	// Which scopes do the grants and the namespaces speak of, and do they live?
	alive := map[core.ScopeID]*org.Scope{}
	for _, r := range removals {
		if id, ok := owner(found, t, c, r); ok {
			alive[id] = nil
		}
	}
	claims := make([][]policy.Grant, len(removals))
	for i, r := range removals {
		who, _ := sit.world.Prefixes.Parse(r.Subject)
		role, ok := kube.RoleOf(r.Role)
		if !ok || sit.world.Disabled[who] {
			continue
		}
		for _, in := range []store.GrantsIn{store.InAccount, store.InCluster(c)} {
			grants, err := policy.DecodeGrants(found[store.Grants(t, who, in)].Body)
			if err != nil {
				return nil, err
			}
			for _, g := range grants {
				if g.Role == role && g.Live(sit.world.Now) {
					claims[i] = append(claims[i], g)
					alive[g.Scope] = nil
				}
			}
		}
	}
	if err := s.living(ctx, t, alive); err != nil {
		return nil, err
	}

	var out []kube.Removal
	for i, r := range removals {
		path := core.Path{}
		if r.Ref.Kind == kube.RoleBinding {
			id, ok := owner(found, t, c, r)
			if !ok || alive[id] == nil || alive[id].Namespace != r.Ref.Namespace {
				continue // no project has this namespace any more
			}
			path = org.PathOf(t, *alive[id])
		}
		for _, g := range claims[i] {
			covers := alive[g.Scope] != nil || g.Scope == core.AccountScope(t)
			if r.Ref.Kind == kube.RoleBinding {
				covers = covers && (g.Scope == path[0] || g.Scope == path[1] || g.Scope == path[2] || g.Scope == path[3])
			}
			if covers {
				out = append(out, r)
				break
			}
		}
	}
	return out, nil
}

// owner is the project that a binding's namespace belongs to, by the item that reserves the namespace for it.
func owner(found map[store.Key]store.Item, t core.TenantID, c core.ClusterID, r kube.Removal) (core.ScopeID, bool) {
	if r.Ref.Kind != kube.RoleBinding {
		return "", false
	}
	rec, err := owners.Decode(found[store.NamespaceOwner(t, c, r.Ref.Namespace)])
	return rec.Value, err == nil && rec.Exists()
}

func (s *Service) lookUp(ctx context.Context, want map[store.Key]bool) (map[store.Key]store.Item, error) {
	keys := make([]store.Key, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	items, err := s.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[store.Key]store.Item, len(items))
	for _, it := range items {
		found[it.Key] = it
	}
	return found, nil
}

// living fills in the scopes that live: they are there, not deleted, and neither is anything above them.
func (s *Service) living(ctx context.Context, t core.TenantID, asked map[core.ScopeID]*org.Scope) error {
	live := map[core.ScopeID]org.Scope{}
	read := func(ids map[store.Key]bool) error {
		found, err := s.lookUp(ctx, ids)
		if err != nil {
			return err
		}
		for _, it := range found {
			rec, err := org.DecodeScope(it)
			switch {
			case err == nil:
				live[rec.Value.ID] = rec.Value
			case !errors.Is(err, core.NotFound):
				return err
			}
		}
		return nil
	}
	first, above := map[store.Key]bool{}, map[store.Key]bool{}
	for id := range asked {
		if id != core.AccountScope(t) {
			first[store.Scope(t, id)] = true
		}
	}
	if err := read(first); err != nil {
		return err
	}
	for _, sc := range live {
		path := org.PathOf(t, sc)
		for _, up := range path[1:] {
			if k := store.Scope(t, up); up != "" && !first[k] {
				above[k] = true
			}
		}
	}
	if err := read(above); err != nil {
		return err
	}
	for id := range asked {
		sc, ok := live[id]
		path := org.PathOf(t, sc)
		for _, up := range path[1:] {
			if _, lives := live[up]; up != "" && !lives {
				ok = false
			}
		}
		if ok {
			asked[id] = &sc
		}
	}
	return nil
}
