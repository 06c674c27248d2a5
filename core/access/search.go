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
