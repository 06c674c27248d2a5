package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// Query chooses rules. Every field that is set narrows the choice.
type Query struct {
	Subjects    []core.Subject // any of them
	SubjectKind core.SubjectKind
	Role        core.RoleID
	Scope       core.ScopeID   // exactly there
	Cluster     core.ClusterID // there, or in something in it
	Offset      int
	Limit       int  // 1 to MaxPage; 0: DefaultPage
	Newest      bool // the newest first
}

// DefaultPage and MaxPage bound a page of List.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// Page is part of what a query chose.
type Page struct {
	Total int // of all pages
	Rules []core.Rule
}

// List returns the rules that a query chooses, in order of creation, and among them only those in scopes where the actor
// may view access rules. Expired rules that maintenance has not removed yet are left out. Pages read at different times
// may overlap where rules changed.
func (s *Service) List(ctx context.Context, actor core.Actor, q Query) (Page, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxPage:
		return Page{}, core.BadField("limit", fmt.Sprintf("must be from 1 to %d", MaxPage))
	case q.Offset < 0:
		return Page{}, core.BadField("offset", "must not be negative")
	}
	q.Limit = cmp.Or(q.Limit, DefaultPage)
	visible, err := s.visible(ctx, actor)
	if err != nil {
		return Page{}, err
	}
	now := s.Now()
	var found []core.Rule
	err = s.candidates(ctx, actor.Tenant, q, func(r core.Rule) {
		if q.matches(r) && r.Live(now) && visible(r.Scope) {
			found = append(found, r)
		}
	})
	if err != nil {
		return Page{}, err
	}
	slices.SortFunc(found, func(a, b core.Rule) int { return cmp.Compare(a.ID, b.ID) })
	if q.Newest {
		slices.Reverse(found)
	}
	p := Page{Total: len(found)}
	from := min(q.Offset, len(found))
	p.Rules = found[from:min(from+q.Limit, len(found))]
	return p, nil
}

func (q *Query) matches(r core.Rule) bool {
	c, _ := r.Scope.ClusterOf()
	return (len(q.Subjects) == 0 || slices.Contains(q.Subjects, r.Subject)) &&
		(q.SubjectKind == "" || q.SubjectKind == r.Subject.Kind) &&
		(q.Role == 0 || q.Role == r.Role) &&
		(q.Scope == "" || q.Scope == r.Scope) &&
		(q.Cluster == "" || q.Cluster == c)
}

// candidates yields a set of rules that holds all that match, from the narrowest index that there is.
func (s *Service) candidates(ctx context.Context, t core.TenantID, q Query, yield func(core.Rule)) error {
	if len(q.Subjects) > 0 {
		found, err := s.ForSubjects(ctx, t, q.Subjects...)
		for _, r := range found {
			yield(r)
		}
		return err
	}
	from := store.Rules(t)
	switch {
	case q.Scope != "":
		from = store.ScopeRules(t, q.Scope)
	case q.Cluster != "":
		from = store.ClusterRules(t, store.InCluster(q.Cluster))
	}
	for rec, err := range rules.List(ctx, s.DB, from) {
		if err != nil {
			return err
		}
		yield(rec.Value)
	}
	return nil
}

// ForSubjects returns every rule that names one of the subjects, in order of creation.
func (s *Service) ForSubjects(ctx context.Context, t core.TenantID, subjects ...core.Subject) ([]core.Rule, error) {
	var all []core.Rule
	seen := map[core.Subject]bool{}
	for _, who := range subjects {
		if seen[who] {
			continue
		}
		seen[who] = true
		found, err := s.rulesOf(ctx, t, who, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b core.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// rulesOf reads the rules of one subject, at most limit of them (0: all), through its grants items.
func (s *Service) rulesOf(ctx context.Context, t core.TenantID, who core.Subject, limit int) ([]core.Rule, error) {
	var keys []store.Key
	for it, err := range s.DB.List(ctx, store.GrantsOf(t, who)) {
		if err != nil {
			return nil, err
		}
		grants, err := policy.DecodeGrants(it.Body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", it.Key, err)
		}
		for _, g := range grants {
			keys = append(keys, store.Rule(t, g.Rule))
		}
	}
	if limit > 0 && len(keys) > limit {
		keys = keys[:limit]
	}
	var found []core.Rule
	for chunk := range slices.Chunk(keys, store.MaxGet) {
		items, err := s.DB.Get(ctx, chunk...)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			rec, err := rules.Decode(it)
			if err != nil {
				return nil, err
			}
			if rec.Exists() { // else it was deleted since the list
				found = append(found, rec.Value)
			}
		}
	}
	return found, nil
}

// Mine returns the live rules that the actor holds, by name and through groups, in order of creation.
func (s *Service) Mine(ctx context.Context, actor core.Actor) ([]core.Rule, error) {
	subjects, err := s.subjectsOf(ctx, actor)
	if err != nil {
		return nil, err
	}
	all, err := s.ForSubjects(ctx, actor.Tenant, subjects...)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	return slices.DeleteFunc(all, func(r core.Rule) bool { return !r.Live(now) }), nil
}

// subjectsOf is the actor with its groups; nobody if it is unknown or disabled.
func (s *Service) subjectsOf(ctx context.Context, actor core.Actor) ([]core.Subject, error) {
	v := s.newView(actor.Tenant)
	w := []standing{{subject: actor.Subject, scope: core.AccountScope(actor.Tenant), id: actor.UserID}}
	if err := v.read(ctx, v.begin(&w[0])...); err != nil {
		return nil, err
	}
	if _, err := v.meet(&w[0]); err != nil {
		return nil, err
	}
	if !w[0].stands() {
		return nil, nil
	}
	return w[0].subjects, nil
}

// PermittedScopes returns the live scopes in which a subject holds a permission by a rule there, the account first. What
// lies below them is permitted too and not listed. A subject that is unknown or disabled has none.
func (s *Service) PermittedScopes(ctx context.Context, t core.TenantID, who core.Subject, e policy.Entity, a policy.Action) ([]org.Scope, error) {
	var out []org.Scope
	err := s.snapshot(ctx, t, func(v *view) error {
		out = nil
		w := []standing{{subject: who, scope: core.AccountScope(t)}}
		if err := v.read(ctx, v.begin(&w[0])...); err != nil {
			return err
		}
		if _, err := v.meet(&w[0]); err != nil || !w[0].stands() {
			return err
		}
		held := map[core.ScopeID]bool{}
		for _, subject := range w[0].subjects {
			for it, err := range s.DB.List(ctx, store.GrantsOf(t, subject)) {
				if err != nil {
					return err
				}
				grants, err := policy.DecodeGrants(it.Body)
				if err != nil {
					return fmt.Errorf("%s: %w", it.Key, err)
				}
				for _, g := range grants {
					if g.Live(v.now) && policy.Permits(g.Role, e, a) {
						held[g.Scope] = true
					}
				}
			}
		}
		live, err := v.live(ctx, held)
		if err != nil {
			return err
		}
		out = live
		return v.settle(ctx)
	})
	return out, err
}

// live reads the scopes, and leaves out those that are deleted or lie in something deleted.
func (v *view) live(ctx context.Context, ids map[core.ScopeID]bool) ([]org.Scope, error) {
	var keys []store.Key
	for id := range ids {
		if id == core.AccountScope(v.tenant) {
			continue
		}
		keys = append(keys, store.Scope(v.tenant, id))
		if c, ok := id.ClusterOf(); ok {
			keys = append(keys, store.Scope(v.tenant, core.ClusterScope(c)))
		}
	}
	if err := v.read(ctx, keys...); err != nil {
		return nil, err
	}
	keys = keys[:0]
	var found []org.Scope
	for id := range ids {
		sc, err := v.scopeAt(id)
		if err != nil {
			return nil, err
		}
		if sc == nil {
			continue
		}
		found = append(found, *sc)
		if sc.Kind == core.Project {
			keys = append(keys, store.Scope(v.tenant, sc.Parent))
		}
	}
	if err := v.read(ctx, keys...); err != nil {
		return nil, err
	}
	var out []org.Scope
	for _, sc := range found {
		alive := true
		path := org.PathOf(v.tenant, sc)
		for _, up := range path[1:] {
			if up == "" {
				continue
			}
			above, err := v.scopeAt(up)
			if err != nil {
				return nil, err
			}
			alive = alive && above != nil
		}
		if alive {
			out = append(out, sc)
		}
	}
	slices.SortFunc(out, func(a, b org.Scope) int {
		return cmp.Or(cmp.Compare(depth(a.Kind), depth(b.Kind)), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func depth(k core.ScopeKind) int {
	return slices.Index([]core.ScopeKind{core.Account, core.Cluster, core.Department, core.Project}, k)
}

// visible says of which scopes the actor may view the access rules.
func (s *Service) visible(ctx context.Context, actor core.Actor) (func(core.ScopeID) bool, error) {
	held, err := s.PermittedScopes(ctx, actor.Tenant, actor.Subject, policy.AccessRules, policy.View)
	if err != nil {
		return nil, err
	}
	within := map[core.ScopeID]bool{}
	for _, sc := range held {
		within[sc.ID] = true
	}
	if within[core.AccountScope(actor.Tenant)] {
		return func(core.ScopeID) bool { return true }, nil
	}
	for _, sc := range held {
		if sc.Kind != core.Department {
			continue
		}
		// Which projects lie in a department, only the tree tells.
		for rec, err := range scopes.List(ctx, s.DB, store.ScopesOf(actor.Tenant, sc.Cluster)) {
			if err != nil {
				return nil, err
			}
			if rec.Value.Parent == sc.ID {
				within[rec.Value.ID] = true
			}
		}
	}
	return func(id core.ScopeID) bool {
		c, ok := id.ClusterOf()
		return within[id] || ok && within[core.ClusterScope(c)]
	}, nil
}
