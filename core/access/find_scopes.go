package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// FindScopes finds where a subject may do something: the account's id and those of clusters, departments and projects, every
// scope that a rule reaches and not only the one that it is given in. About others it finds those scopes alone in which the
// caller may view the access rules. It costs one list for each group of the subject, and what it returns.
func (s *Service) FindScopes(ctx context.Context, c Caller, q Search) (Found[core.ScopeID], error) {
	if err := q.check(); err != nil {
		return Found[core.ScopeID]{}, err
	}
	from, err := parseSpot(q.After)
	if err != nil {
		return Found[core.ScopeID]{}, err
	}
	var out Found[core.ScopeID]
	err = s.snapshot(ctx, c.Tenant, func(v *view) error {
		out, v.caller = Found[core.ScopeID]{}, &c
		account := core.AccountScope(c.Tenant)
		who := []standing{{subject: q.Subject, scope: account, id: q.UserID}, {subject: c.Subject, scope: account, id: c.UserID}}
		keys := append(c.keys(), v.begin(&who[0])...)
		if err := v.read(ctx, append(keys, v.begin(&who[1])...)...); err != nil {
			return err
		}
		if err := v.admit(); err != nil {
			return err
		}
		for i := range who {
			if _, err := v.meet(&who[i]); err != nil {
				return err
			}
		}
		out.Revision = v.meta.Value.Revision
		if !who[0].stands() {
			return nil
		}
		tops, err := v.held(ctx, who[0].subjects, q.Entity, q.Action)
		if err != nil {
			return err
		}
		if !q.aboutSelf(c) {
			if !who[1].stands() {
				return nil
			}
			seen, err := v.held(ctx, who[1].subjects, policy.AccessRules, policy.View)
			if err != nil {
				return err
			}
			tops = append(within(c.Tenant, tops, seen), within(c.Tenant, seen, tops)...)
		}
		d := descent{view: v, q: &q, out: &out}
		if err := d.run(ctx, highest(c.Tenant, tops), from); err != nil {
			return err
		}
		return v.settle(ctx)
	})
	return out, err
}

// held is the live scopes in which one of the subjects was given a role that permits the action.
func (v *view) held(ctx context.Context, subjects []core.Subject, e policy.Entity, a policy.Action) ([]org.Scope, error) {
	at := map[core.ScopeID]bool{}
	for _, subject := range subjects {
		for it, err := range v.s.DB.List(ctx, store.GrantsOf(v.tenant, subject)) {
			if err != nil {
				return nil, err
			}
			grants, err := policy.DecodeGrants(it.Body)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", it.Key, err)
			}
			for _, g := range grants {
				if g.Live(v.now) && policy.Permits(g.Role, e, a) {
					at[g.Scope] = true
				}
			}
		}
	}
	return v.live(ctx, at)
}

// within is those of the scopes that are, or lie in, one of the others.
func within(t core.TenantID, scopes, others []org.Scope) []org.Scope {
	var out []org.Scope
	for _, sc := range scopes {
		path := org.PathOf(t, sc)
		if slices.ContainsFunc(others, func(o org.Scope) bool { return slices.Contains(path[:], o.ID) }) {
			out = append(out, sc)
		}
	}
	return out
}

// highest leaves out what lies in another one of the scopes, and puts the rest in order, each once.
func highest(t core.TenantID, scopes []org.Scope) []org.Scope {
	at := map[core.ScopeID]bool{}
	for _, sc := range scopes {
		at[sc.ID] = true
	}
	out := slices.Clone(scopes)
	slices.SortFunc(out, compareTops)
	out = slices.CompactFunc(out, func(a, b org.Scope) bool { return a.ID == b.ID })
	return slices.DeleteFunc(out, func(sc org.Scope) bool {
		for _, up := range org.PathOf(t, sc) {
			if up != sc.ID && at[up] {
				return true
			}
		}
		return false
	})
}

func compareTops(a, b org.Scope) int {
	return cmp.Or(cmp.Compare(depth(a.Kind), depth(b.Kind)), cmp.Compare(a.ID, b.ID))
}

// spot is how far a descent has come: into which scope, and there behind which sort key of the list of what lies in it. Empty
// behind means behind the scope itself alone.
type spot struct {
	depth  int
	top    core.ScopeID
	behind string
}

// String puts the parts behind each other with a space between, which none of them has.
func (p spot) String() string { return fmt.Sprintf("%d %s %s", p.depth, p.top, p.behind) }

func parseSpot(s string) (*spot, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, " ")
	if len(parts) != 3 || len(parts[2]) > maxName || !plausible(core.ScopeID(parts[1])) {
		return nil, errAfter
	}
	d, err := strconv.Atoi(parts[0])
	p := spot{d, core.ScopeID(parts[1]), parts[2]}
	if err != nil || d < 0 || d >= len(core.Path{}) || p.String() != s {
		return nil, errAfter
	}
	return &p, nil
}

// descent is one page of FindScopes under way.
type descent struct {
	*view
	q      *Search
	at     spot
	looked int
	full   bool // the page has ended, and out says where the next one begins
	out    *Found[core.ScopeID]
}

// run finds the scopes and all that lies in them, from behind a spot.
func (d *descent) run(ctx context.Context, tops []org.Scope, from *spot) error {
	for _, top := range tops {
		d.at = spot{depth: depth(top.Kind), top: top.ID}
		begun := false
		if from != nil {
			order := cmp.Or(cmp.Compare(d.at.depth, from.depth), cmp.Compare(d.at.top, from.top))
			if order < 0 {
				continue
			}
			if begun = order == 0; begun {
				d.at.behind = from.behind
			}
		}
		if !begun && top.Kind != core.Cluster { // a cluster is the first of its own list
			if d.find(top.ID); d.full {
				return nil
			}
		}
		var err error
		switch top.Kind {
		case core.Account:
			err = d.list(ctx, store.Scopes(d.tenant), d.inTree)
		case core.Cluster:
			err = d.list(ctx, store.ScopesOf(d.tenant, top.Cluster), d.inTree)
		case core.Department:
			err = d.list(ctx, store.ScopeNames(d.tenant, top.ID, core.Project), d.inDepartment)
		}
		if err != nil || d.full {
			return err
		}
	}
	return nil
}

// find adds a scope to the page.
func (d *descent) find(id core.ScopeID) {
	d.out.Results = append(d.out.Results, id)
	if len(d.out.Results) == d.q.Limit {
		d.stop()
	}
}

func (d *descent) stop() { d.full, d.out.Next = true, d.at.String() }

// entry is a scope of a list, with its sort key there.
type entry struct {
	id     core.ScopeID
	behind string
}

// list finds the live scopes of a range, as many at once as the page has room for.
func (d *descent) list(ctx context.Context, r store.Range, read func(store.Item) (entry, store.Key, error)) error {
	for {
		part := r
		if d.at.behind != "" {
			var some bool
			if part, some = r.Behind(d.at.behind); !some {
				return nil
			}
		}
		part.Limit = min(max(d.q.Limit-len(d.out.Results), 8), store.MaxGet-1)
		var entries []entry
		var keys []store.Key
		n := 0
		for it, err := range d.s.DB.List(ctx, part) {
			if err != nil {
				return err
			}
			n++
			e, key, err := read(it)
			if err != nil {
				return err
			}
			entries, keys = append(entries, e), append(keys, key)
		}
		alive, err := d.alive(ctx, entries, keys)
		if err != nil {
			return err
		}
		for i, e := range entries {
			d.at.behind = e.behind
			d.looked++
			if alive[i] {
				d.find(e.id)
			}
			if d.full {
				return nil
			}
			if d.looked >= maxLooked {
				d.stop()
				return nil
			}
		}
		if n < part.Limit {
			return nil
		}
	}
}

// inTree reads an item of the tree itself, which needs no other read.
func (d *descent) inTree(it store.Item) (entry, store.Key, error) {
	d.items[it.Key] = it
	rec, err := scopes.Decode(it)
	return entry{rec.Value.ID, it.Key.Sort()}, it.Key, err
}

// inDepartment reads an item of the index of a department's projects: the name leads to the id.
func (d *descent) inDepartment(it store.Item) (entry, store.Key, error) {
	var id core.ScopeID
	if err := json.Unmarshal(it.Body, &id); err != nil {
		return entry{}, store.Key{}, fmt.Errorf("%s does not decode", it.Key)
	}
	return entry{id, it.Key.Sort()}, store.Scope(d.tenant, id), nil
}

// alive says which of the scopes are there, with everything above them.
func (d *descent) alive(ctx context.Context, entries []entry, keys []store.Key) ([]bool, error) {
	if err := d.read(ctx, keys...); err != nil {
		return nil, err
	}
	paths := make([]core.Path, len(entries))
	keys = nil
	for i, e := range entries {
		sc, err := d.scopeAt(e.id)
		if err != nil {
			return nil, err
		}
		if sc == nil {
			continue
		}
		paths[i] = org.PathOf(d.tenant, *sc)
		for _, up := range paths[i][1:] {
			if up != "" {
				keys = append(keys, store.Scope(d.tenant, up))
			}
		}
	}
	if err := d.read(ctx, keys...); err != nil {
		return nil, err
	}
	out := make([]bool, len(entries))
	for i, path := range paths {
		out[i] = path[0] != ""
		for _, up := range path[1:] {
			if up == "" || !out[i] {
				continue
			}
			sc, err := d.scopeAt(up)
			if err != nil {
				return nil, err
			}
			out[i] = sc != nil
		}
	}
	return out, nil
}
