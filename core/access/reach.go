package access

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// reach is where an actor may view access rules.
type reach struct {
	s      *Service
	t      core.TenantID
	all    bool                          // the account's
	held   map[core.ScopeID]org.Scope    // by a rule there
	within map[core.ClusterID]bool       // clusters with departments among them
	parent map[core.ScopeID]core.ScopeID // as far as it was learnt
}

func reachOf(s *Service, t core.TenantID, held []org.Scope) *reach {
	r := &reach{s: s, t: t, held: map[core.ScopeID]org.Scope{}, within: map[core.ClusterID]bool{}, parent: map[core.ScopeID]core.ScopeID{}}
	for _, sc := range held {
		r.held[sc.ID] = sc
		r.all = r.all || sc.Kind == core.Account
		if sc.Kind == core.Department {
			r.within[sc.Cluster] = true
		}
	}
	return r
}

// tops is the scopes that do not lie in another one of them, by their ids. It is not for who may view the account.
func (r *reach) tops() (tops []org.Scope) {
	for _, sc := range r.held {
		_, inCluster := r.held[core.ClusterScope(sc.Cluster)]
		_, inParent := r.held[sc.Parent]
		if sc.Kind == core.Cluster || !inCluster && !inParent {
			tops = append(tops, sc)
		}
	}
	slices.SortFunc(tops, func(a, b org.Scope) int { return cmp.Compare(a.ID, b.ID) })
	return tops
}

// open says whether only a scope's parent tells if it is within reach.
func (r *reach) open(id core.ScopeID) bool {
	c, ok := id.ClusterOf()
	return ok && r.within[c] && strings.Contains(string(id), ".") && !r.sees(id)
}

// learn reads of scopes what sees has to know, in one round trip for up to MaxGet of them; none, if it knows enough.
func (r *reach) learn(ctx context.Context, ids ...core.ScopeID) error {
	var keys []store.Key
	asked := map[core.ScopeID]bool{}
	for _, id := range ids {
		if _, known := r.parent[id]; known || asked[id] || !r.open(id) || !plausible(id) {
			continue
		}
		asked[id] = true
		keys = append(keys, store.Scope(r.t, id))
	}
	for part := range slices.Chunk(keys, store.MaxGet) {
		items, err := r.s.DB.Get(ctx, part...)
		if err != nil {
			return err
		}
		for _, it := range items {
			rec, err := scopes.Decode(it)
			if err != nil {
				return err
			}
			if rec.Exists() {
				r.parent[rec.Value.ID] = rec.Value.Parent
			}
		}
	}
	return nil
}

// sees says whether the rules of a scope may be viewed. What it needs must have been learnt.
func (r *reach) sees(id core.ScopeID) bool {
	if r.all {
		return true
	}
	if _, ok := r.held[id]; ok {
		return true
	}
	if c, ok := id.ClusterOf(); ok {
		if _, ok := r.held[core.ClusterScope(c)]; ok {
			return true
		}
	}
	up, ok := r.parent[id]
	return ok && r.held[up].Kind == core.Department
}

// saw says whether a rule that was taken away may be viewed, by where its scope lay then: a project that moves takes what was
// before along to nobody, neither to the viewers of the department that it is in now nor, through a rule in the project itself,
// to whom they let in. It needs nothing learnt.
func (r *reach) saw(g Gone) bool {
	if r.all {
		return true
	}
	if c, ok := g.Rule.Scope.ClusterOf(); ok {
		if _, ok := r.held[core.ClusterScope(c)]; ok {
			return true
		}
	}
	if sc, ok := r.held[g.Rule.Scope]; ok && sc.Parent == g.Parent {
		return true
	}
	return r.held[g.Parent].Kind == core.Department
}
