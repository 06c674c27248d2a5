package sync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// RuleChange is a change of access rules that is not made: those that would be there, and those that would be gone.
type RuleChange struct {
	Made []core.Rule
	Gone []core.Rule
}

// Forecast is what a change of rules would do to the clusters, at one revision of the tenant.
type Forecast struct {
	Change   RuleChange
	Revision core.Revision     // that it is true at
	Clusters []ClusterForecast // those that the rules reach, in order of id
	More     int               // clusters that the rules reach too, and that were not looked at
}

// ClusterForecast is what a change of rules would do to one cluster.
type ClusterForecast struct {
	Cluster  org.Scope
	Prefixes kube.Prefixes
	Status   Status            // how far the cluster is now
	Changes  []kube.Difference // none: nothing, since others hold the same by other rules, or what goes had ended
	Problems []kube.Problem    // rules of the change that come to nothing there
}

// Bounds of a Preview.
const (
	// MaxForeseen is of how many clusters a Preview tells what would change.
	MaxForeseen = 50
	// maxForeseenItems bounds what a Preview lists, in scopes and rules together: more clusters are looked at only while it is
	// not used up.
	maxForeseenItems = 50_000
)

// Preview computes what a change of rules would do to each cluster that it reaches, and writes nothing. The change is made up
// by plan, which reads the store: all is of one revision, and plan is called again if the tenant changes meanwhile. plan's
// errors are returned as they are; a tenant that never stands still is core.Unavailable.
//
// It compares desired states: what the clusters must hold by the rules as they are, and as they would be. It asks no
// cluster. One that is behind catches up besides, and what else it would be found to lack, such as a namespace, is not in
// the answer, nor is the end of a rule that comes by itself.
//
// Beside plan's reads and the tenant's item before and after, it lists the account's rules once (and the scope tree, if a
// rule is the account's), and of each cluster the scopes and the rules; it reads the records of the clusters, and in each
// cluster the items of the people and applications that have one of the roles in question and of the bindings that would
// be new, 100 at a time. At most MaxForeseen clusters and about 50,000 listed items are read; the clusters beyond are only
// counted.
func (s *Service) Preview(ctx context.Context, t core.TenantID, plan func(context.Context) (RuleChange, error)) (Forecast, error) {
	for range maxRounds {
		before, err := s.revision(ctx, t)
		if err != nil {
			return Forecast{}, err
		}
		change, err := plan(ctx)
		if err != nil {
			return Forecast{}, err
		}
		f, err := s.foresee(ctx, t, before, change)
		if err != nil {
			return Forecast{}, err
		}
		after, err := s.revision(ctx, t)
		if err != nil {
			return Forecast{}, err
		}
		if after == before {
			return f, nil
		}
	}
	return Forecast{}, fmt.Errorf("the tenant changed again and again while it was read: %w", core.Unavailable)
}

// foresee is one try of Preview.
func (s *Service) foresee(ctx context.Context, t core.TenantID, rev core.Revision, change RuleChange) (Forecast, error) {
	f := Forecast{Change: change, Revision: rev}
	clusters, err := s.reached(ctx, t, slices.Concat(change.Made, change.Gone))
	if err != nil {
		return f, err
	}
	p := &preview{Service: s, tenant: t, revision: rev, change: change, now: s.Now(), roles: map[core.RoleID]bool{}, left: maxForeseenItems}
	for _, r := range slices.Concat(change.Made, change.Gone) {
		p.roles[r.Role] = true
	}
	if p.account, err = p.rules(ctx, store.InAccount); err != nil {
		return f, err
	}
	some := clusters[:min(len(clusters), MaxForeseen)]
	for ids := range slices.Chunk(some, perRead) {
		heads, err := p.heads(ctx, ids)
		if err != nil {
			return f, err
		}
		for i, h := range heads {
			switch {
			case p.left <= 0:
				f.More++
				continue
			case !h.there:
				continue // it goes, with all that we made in it
			}
			if err := p.compare(ctx, &h.ClusterForecast); err != nil {
				return f, fmt.Errorf("cluster %s: %w", ids[i], err)
			}
			f.Clusters = append(f.Clusters, h.ClusterForecast)
		}
	}
	f.More += len(clusters) - len(some)
	return f, nil
}

// reached is the clusters that rules hold in: their own, or all there are.
func (s *Service) reached(ctx context.Context, t core.TenantID, rules []core.Rule) ([]core.ClusterID, error) {
	var ids []core.ClusterID
	for _, r := range rules {
		if c, in := r.Scope.ClusterOf(); in {
			ids = append(ids, c)
			continue
		}
		all, err := s.Org.Scopes(ctx, t)
		if err != nil {
			return nil, err
		}
		ids = ids[:0]
		for _, sc := range all {
			if sc.Kind == core.Cluster {
				ids = append(ids, sc.Cluster)
			}
		}
		break
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// preview is what the clusters of one Preview share.
type preview struct {
	*Service
	tenant   core.TenantID
	revision core.Revision
	change   RuleChange
	roles    map[core.RoleID]bool // of the change: what is bound to one role depends on no rule of another
	account  []core.Rule
	now      time.Time
	left     int // items that may still be listed
}

// head is a cluster with how far it is; false: it is not there, or goes.
type head struct {
	ClusterForecast
	there bool
}

// heads reads up to perRead clusters in one round trip.
func (p *preview) heads(ctx context.Context, ids []core.ClusterID) ([]head, error) {
	var keys []store.Key
	for _, c := range ids {
		keys = append(keys, store.Sync(p.tenant, c), store.Scope(p.tenant, core.ClusterScope(c)))
	}
	items, err := p.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]head, len(ids))
	for i := range ids {
		rec, err := records.Decode(items[2*i])
		if err != nil {
			return nil, err
		}
		scope, err := scopes.Decode(items[2*i+1])
		if err != nil {
			return nil, err
		}
		if !scope.Exists() || scope.Value.Gone() || scope.Value.Reach == nil {
			continue
		}
		reach := scope.Value.Reach
		out[i] = head{ClusterForecast{
			Cluster: scope.Value, Status: rec.Value.Status,
			Prefixes: kube.Prefixes{User: reach.UserPrefix, Group: reach.GroupPrefix},
		}, true}
	}
	return out, nil
}

// rules lists the rules of a cluster or of the account that are of one of the roles in question, and have not ended.
func (p *preview) rules(ctx context.Context, in store.GrantsIn) ([]core.Rule, error) {
	var out []core.Rule
	for rec, err := range rules.List(ctx, p.DB, store.ClusterRules(p.tenant, in)) {
		if err != nil {
			return nil, err
		}
		if p.left--; p.roles[rec.Value.Role] && rec.Value.Live(p.now) {
			out = append(out, rec.Value)
		}
	}
	return out, nil
}

// compare finds out what would change in one cluster.
func (p *preview) compare(ctx context.Context, c *ClusterForecast) error {
	id := c.Cluster.Cluster
	tree, err := p.Org.ScopesOf(ctx, p.tenant, id)
	if err != nil {
		return err
	}
	p.left -= len(tree)
	own, err := p.rules(ctx, store.InCluster(id))
	if err != nil {
		return err
	}
	before := kube.World{
		Tenant: p.tenant, Cluster: id, Now: p.now, Prefixes: c.Prefixes, Scopes: kubeScopes(tree),
		Rules: slices.Concat(p.account, own), Stamp: kube.Stamp{Epoch: c.Cluster.Reach.Epoch, Revision: p.revision},
	}
	if before.Disabled, err = p.disabled(ctx, p.tenant, slices.Concat(before.Rules, p.change.Made)); err != nil {
		return err
	}
	after := before
	after.Rules = slices.DeleteFunc(slices.Clone(before.Rules), func(r core.Rule) bool {
		return slices.ContainsFunc(p.change.Gone, func(g core.Rule) bool { return g.ID == r.ID })
	})
	after.Rules = append(after.Rules, p.change.Made...)
	is, shall := kube.Want(before), kube.Want(after)
	empty, err := p.standing(ctx, id, kube.NewIn(shall, is))
	if err != nil {
		return err
	}
	c.Changes = kube.Compare(is, shall, empty...)
	c.Problems = slices.DeleteFunc(shall.Problems, func(problem kube.Problem) bool { return slices.Contains(is.Problems, problem) })
	return nil
}

// standing is those of the bindings that are in the cluster as far as the store knows.
func (p *preview) standing(ctx context.Context, c core.ClusterID, refs []kube.Ref) ([]kube.Ref, error) {
	keys := make([]store.Key, len(refs))
	for i, ref := range refs {
		keys[i] = store.Recorded(p.tenant, c, ref.String())
	}
	items, err := p.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	var out []kube.Ref
	for i, it := range items {
		rec, err := recorded.Decode(it)
		if err != nil {
			return nil, err
		}
		if rec.Exists() && rec.Value.UID != "" && !rec.Value.Reaped {
			out = append(out, refs[i])
		}
	}
	return out, nil
}
