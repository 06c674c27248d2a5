package org

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Where bounds a list of scopes.
type Where struct {
	Kind    core.ScopeKind
	Within  []Scope        // those that are one of these or lie in one; the account's stands for all
	Cluster core.ClusterID // those of that cluster; empty: of any
	Parent  core.ScopeID   // those directly below that scope; empty: below any
}

// Names is a list of scopes, by the index of their names: a page costs what it shows, however large the tree is. Its order
// is that of the parents' ids, and below one parent of the names. So clusters are in order of name.
type Names struct {
	// Parts are ranges of the index, in order and apart.
	Parts []store.Range

	service *Service
	tenant  core.TenantID
	kind    core.ScopeKind
	known   map[string]Scope      // what Where.Within had itself, by the beginning of its part
	live    map[core.ScopeID]bool // whether a scope that others lie in is there
}

// Names finds out where the names of a list of scopes lie. It reads the scope that is Where.Parent, and nothing else.
func (s *Service) Names(ctx context.Context, t core.TenantID, w Where) (*Names, error) {
	n := &Names{service: s, tenant: t, kind: w.Kind, known: map[string]Scope{}, live: map[core.ScopeID]bool{}}
	w, err := s.inside(ctx, t, w)
	if err != nil {
		return nil, err
	}
	for _, top := range outermost(t, w.Within) {
		switch {
		case w.Parent != "" && top.Kind != w.Kind:
			n.Parts = append(n.Parts, store.ScopeNames(t, w.Parent, w.Kind))
		case top.Kind == core.Account && w.Kind == core.Cluster:
			n.Parts = append(n.Parts, store.ScopeNames(t, top.ID, core.Cluster))
		case top.Kind == core.Account:
			n.Parts = append(n.Parts, store.AllScopeNames(t))
		case top.Kind == w.Kind:
			one := store.Only(store.ScopeName(t, top.Parent, top.Kind, top.Name))
			n.known[one.From] = top
			n.Parts = append(n.Parts, one)
		default:
			n.Parts = append(n.Parts, namesIn(t, top, w.Kind)...)
		}
	}
	slices.SortFunc(n.Parts, func(a, b store.Range) int { return strings.Compare(a.From, b.From) })
	n.Parts = slices.CompactFunc(n.Parts, func(a, b store.Range) bool { return a.From == b.From })
	return n, nil
}

// inside makes Within what of it lies in the cluster and below the parent that are asked for.
func (s *Service) inside(ctx context.Context, t core.TenantID, w Where) (Where, error) {
	bound := Scope{}
	switch {
	case w.Parent == core.AccountScope(t):
		bound = Scope{ID: w.Parent, Kind: core.Account}
	case w.Parent != "":
		rec, err := s.Scope(ctx, t, w.Parent)
		if errors.Is(err, core.NotFound) || errors.Is(err, core.Limit) {
			w.Within = nil
			return w, nil
		}
		if err != nil {
			return w, err
		}
		bound = rec.Value
		if w.Cluster != "" && bound.Cluster != w.Cluster {
			w.Within = nil
		}
	case w.Cluster != "":
		bound = Scope{ID: core.ClusterScope(w.Cluster), Kind: core.Cluster, Cluster: w.Cluster, Parent: core.AccountScope(t)}
	default:
		return w, nil
	}
	var within []Scope
	for _, top := range w.Within {
		switch {
		case liesIn(t, bound, top.ID):
			within = append(within, bound)
		case liesIn(t, top, bound.ID) && (w.Parent == "" || top.Kind == w.Kind && top.Parent == w.Parent):
			within = append(within, top)
		}
	}
	w.Within = within
	return w, nil
}

// liesIn says whether a scope is another or lies in it.
func liesIn(t core.TenantID, sc Scope, id core.ScopeID) bool {
	path := PathOf(t, sc)
	return slices.Contains(path[:], id)
}

// outermost leaves out scopes that lie in others of the list.
func outermost(t core.TenantID, all []Scope) []Scope {
	ids := make(map[core.ScopeID]bool, len(all))
	for _, sc := range all {
		ids[sc.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(sc Scope) bool {
		for _, up := range PathOf(t, sc) {
			if up != "" && up != sc.ID && ids[up] {
				return true
			}
		}
		return false
	})
}

// namesIn is where the names of a kind lie in a cluster or a department.
func namesIn(t core.TenantID, top Scope, kind core.ScopeKind) []store.Range {
	switch {
	case top.Kind == core.Cluster && kind == core.Department, top.Kind == core.Department && kind == core.Project:
		return []store.Range{store.ScopeNames(t, top.ID, kind)}
	case top.Kind == core.Cluster && kind == core.Project:
		return []store.Range{store.ScopeNames(t, top.ID, kind), store.ScopeNamesInDepartments(t, top.ID)}
	}
	return nil
}

// pointsTo reads what pointTo wrote.
func pointsTo(it store.Item) (id core.ScopeID, err error) {
	err = json.Unmarshal(it.Body, &id)
	return id, err
}

// maxAhead is how many names are read at once.
const maxAhead = 500

// List yields the live scopes whose names lie in a range, which is one of the parts or part of one, in its order. A record's
// key is that of the name. A limit of the range says only how many are likely to be asked for.
func (n *Names) List(ctx context.Context, r store.Range) iter.Seq2[store.Record[Scope], error] {
	return func(yield func(store.Record[Scope], error) bool) {
		if sc, ok := n.known[r.From]; ok {
			yield(store.Record[Scope]{Key: r.Key(r.From), Value: sc}, nil)
			return
		}
		for left := max(r.Limit, 1); ; {
			if r.Limit = min(left, maxAhead); left <= 0 {
				r.Limit = store.MaxGet // some were of scopes that are gone
			}
			names, rest, more, err := n.ahead(ctx, r)
			for some := range slices.Chunk(names, store.MaxGet) {
				found, err := n.read(ctx, some)
				if err != nil {
					yield(store.Record[Scope]{}, err)
					return
				}
				left -= len(some)
				for _, rec := range found {
					if !yield(rec, nil) {
						return
					}
				}
			}
			if err != nil {
				yield(store.Record[Scope]{}, err)
			}
			if err != nil || !more {
				return
			}
			r = rest
		}
	}
}

// ahead reads names of the kind, up to the range's limit or to one of another kind, and says what is left of the range then.
func (n *Names) ahead(ctx context.Context, r store.Range) (names []store.Item, rest store.Range, more bool, err error) {
	for it, err := range n.service.DB.List(ctx, r) {
		if err != nil {
			return names, r, false, err
		}
		if parent, kind := it.Key.NamedUnder(); kind != n.kind {
			rest, more = n.past(r, parent, kind)
			return names, rest, more, nil
		}
		names = append(names, it)
	}
	if len(names) < r.Limit {
		return names, r, false, nil
	}
	rest, more = r.Behind(names[len(names)-1].Key.Sort())
	return names, rest, more, nil
}

// past is what is left of a range behind all that is of another kind: below the same parent, and where departments are
// listed, in the rest of the parent's cluster, since no departments follow its projects.
func (n *Names) past(r store.Range, parent core.ScopeID, kind core.ScopeKind) (store.Range, bool) {
	skip := store.ScopeNames(n.tenant, parent, kind)
	if c, ok := parent.ClusterOf(); ok && n.kind == core.Department {
		cluster := core.ClusterScope(c)
		skip.From = store.ScopeNames(n.tenant, cluster, core.Project).From
		skip.To = store.ScopeNamesInDepartments(n.tenant, cluster).To
	}
	if r.Descending {
		r.To = skip.From
	} else {
		r.From = skip.To
	}
	return r, r.To == "" || r.From < r.To
}

// read reads the scopes of names. It leaves out those that were deleted, or have another name by now, or lie in something
// deleted.
func (n *Names) read(ctx context.Context, names []store.Item) ([]store.Record[Scope], error) {
	keys := make([]store.Key, 0, len(names))
	for _, it := range names {
		id, err := pointsTo(it)
		if err != nil {
			return nil, err
		}
		keys = append(keys, store.Scope(n.tenant, id))
	}
	items, err := n.service.DB.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var found []store.Record[Scope]
	for i, it := range items {
		rec, err := DecodeScope(it)
		if errors.Is(err, core.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rec.Key = names[i].Key
		if sc := rec.Value; store.ScopeName(n.tenant, sc.Parent, sc.Kind, sc.Name) == rec.Key {
			found = append(found, rec)
		}
	}
	if err := n.lookUp(ctx, found); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(rec store.Record[Scope]) bool {
		return slices.ContainsFunc(ids(rec.Value), func(up core.ScopeID) bool { return up != rec.Value.ID && !n.live[up] })
	}), nil
}

// lookUp finds out whether what scopes lie in is there.
func (n *Names) lookUp(ctx context.Context, found []store.Record[Scope]) error {
	var keys []store.Key
	for _, rec := range found {
		for _, up := range ids(rec.Value) {
			if _, known := n.live[up]; up == rec.Value.ID || known {
				continue
			}
			n.live[up] = false
			keys = append(keys, store.Scope(n.tenant, up))
		}
	}
	for some := range slices.Chunk(keys, store.MaxGet) {
		items, err := n.service.DB.Get(ctx, some...)
		if err != nil {
			return err
		}
		for _, it := range items {
			rec, err := DecodeScope(it)
			if err != nil && !errors.Is(err, core.NotFound) {
				return err
			}
			n.live[rec.Value.ID] = err == nil
		}
	}
	return nil
}
