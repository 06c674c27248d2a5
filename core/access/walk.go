package access

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// lister walks over the rules that a query may choose, by the narrowest index that there is.
type lister struct {
	s     *Service
	t     core.TenantID
	q     Query
	now   time.Time
	reach *reach
	need  func() int // how many matches are still wanted; nil: all
}

// hit is an item that was looked at.
type hit struct {
	rule core.Rule
	gone *Gone    // if it was taken away
	at   position // behind it
	ok   bool     // the query chooses it
	list bool     // no item, but the end of a list of one scope
}

func (s *Service) lister(ctx context.Context, actor core.Actor, q Query) (*lister, error) {
	held, err := s.PermittedScopes(ctx, actor.Tenant, actor.Subject, policy.AccessRules, policy.View)
	if err != nil {
		return nil, err
	}
	return &lister{s: s, t: actor.Tenant, q: q, now: s.Now(), reach: reachOf(s, actor.Tenant, held)}, nil
}

// walk yields what comes after a position.
func (l *lister) walk(ctx context.Context, from position) iter.Seq2[hit, error] {
	return func(yield func(hit, error) bool) {
		if len(l.reach.held) == 0 {
			return
		}
		if !from.Gone || !l.q.Gone {
			for h, err := range l.rules(ctx, from) {
				if !yield(h, err) || err != nil {
					return
				}
			}
			from = position{}
		}
		if l.q.Gone {
			for h, err := range l.gone(ctx, from) {
				if !yield(h, err) || err != nil {
					return
				}
			}
		}
	}
}

// byCreation says whether walk yields the rules in the order in which they were made, or backwards.
func (l *lister) byCreation() bool {
	return len(l.q.Subjects) > 0 || l.q.Scope != "" || !l.q.Since.IsZero() || l.reach.all && l.q.Cluster == ""
}

// rules yields the rules that there are.
func (l *lister) rules(ctx context.Context, from position) iter.Seq2[hit, error] {
	return func(yield func(hit, error) bool) {
		q := l.q
		if c, ok := q.Scope.ClusterOf(); q.Scope != "" && q.Cluster != "" && (!ok || c != q.Cluster) {
			return
		}
		first := core.RuleID(0)
		if !q.Since.IsZero() {
			var err error
			if first, err = l.s.firstSince(ctx, l.t, q.Since); err != nil {
				yield(hit{}, err)
				return
			}
		}
		pass := func(list iter.Seq2[hit, error]) bool {
			for h, err := range list {
				if !yield(h, err) || err != nil {
					return false
				}
			}
			return true
		}
		switch {
		case len(q.Subjects) > 0:
			pass(l.ofSubjects(ctx, first, from))
		case q.Scope != "":
			if err := l.reach.learn(ctx, q.Scope); err != nil {
				yield(hit{}, err)
				return
			}
			if l.reach.sees(q.Scope) {
				r := store.ScopeRules(l.t, q.Scope)
				pass(l.in(ctx, fromOn(r, store.ClusterRule(l.t, q.Scope, first).Sort()), from))
			}
		case !q.Since.IsZero() || l.reach.all && q.Cluster == "":
			r := store.Rules(l.t)
			pass(l.in(ctx, fromOn(r, store.Rule(l.t, first).Sort()), from))
		case q.Cluster != "" && l.reach.sees(core.ClusterScope(q.Cluster)):
			pass(l.in(ctx, store.ClusterRules(l.t, store.InCluster(q.Cluster)), from))
		default:
			for _, sc := range l.reach.tops() {
				if c, _ := sc.ID.ClusterOf(); q.Cluster != "" && c != q.Cluster || sc.ID < from.Scope {
					continue
				}
				at := from
				if sc.ID > from.Scope {
					at = position{Scope: sc.ID}
				}
				if !pass(l.top(ctx, sc, at)) {
					return
				}
			}
		}
	}
}

// top yields the rules in one of the topmost scopes that the actor may view, and below it.
func (l *lister) top(ctx context.Context, sc org.Scope, from position) iter.Seq2[hit, error] {
	switch sc.Kind {
	case core.Cluster:
		return l.in(ctx, store.ClusterRules(l.t, store.InCluster(sc.Cluster)), from)
	case core.Project:
		return l.in(ctx, store.ScopeRules(l.t, sc.ID), from)
	}
	return func(yield func(hit, error) bool) {
		if from.Name == "" {
			for h, err := range l.in(ctx, store.ScopeRules(l.t, sc.ID), from) {
				if !yield(h, err) || err != nil {
					return
				}
			}
		}
		// Then its projects, by name: the index of names has no more in it than the department has.
		for rec, err := range names.List(ctx, l.s.DB, fromOn(store.ScopeNames(l.t, sc.ID, core.Project), from.Name)) {
			if err != nil {
				yield(hit{}, err)
				return
			}
			at := position{Scope: sc.ID, Name: rec.Key.Sort()}
			if at.Name == from.Name {
				at.Sort = from.Sort
			}
			for h, err := range l.in(ctx, store.ScopeRules(l.t, rec.Value), at) {
				if !yield(h, err) || err != nil {
					return
				}
			}
			if at.Sort = over; !yield(hit{at: at, list: true}, nil) {
				return
			}
		}
	}
}

var names store.Table[core.ScopeID]

// over sorts behind every key, which are digits where it matters.
const over = "\x7f"

// fromOn narrows a range to what there is from a sort key on; it never becomes more than it was.
func fromOn(r store.Range, sort string) store.Range {
	r.From = max(r.From, sort)
	return r
}

// behind narrows a range to what comes behind a sort key; likewise.
func behind(r store.Range, sort string) store.Range {
	switch {
	case sort == "":
	case !r.Descending:
		r = fromOn(r, sort+"\x00")
	case r.To == "" || sort < r.To:
		r.To = max(sort, r.From)
	}
	return r
}

// chunk is how many rules are read at once where they have to be looked at together.
const chunk = 100

// in yields the rules of a range.
func (l *lister) in(ctx context.Context, r store.Range, from position) iter.Seq2[hit, error] {
	return func(yield func(hit, error) bool) {
		r.Descending = l.q.Order == Newest
		r := behind(r, from.Sort)
		for {
			r.Limit = 0
			switch {
			case l.q.filters():
				r.Limit = chunk
			case l.need != nil:
				r.Limit = max(l.need(), 1)
			}
			part := make([]hit, 0, min(r.Limit, chunk+1))
			flush := func() bool {
				for _, h := range part {
					if !yield(h, nil) {
						return false
					}
				}
				part = part[:0]
				return true
			}
			n := 0
			for rec, err := range rules.List(ctx, l.s.DB, r) {
				if err != nil {
					yield(hit{}, err)
					return
				}
				n++
				at := from
				at.Sort = rec.Key.Sort()
				part = append(part, hit{rule: rec.Value, at: at})
				if len(part) < chunk {
					continue
				}
				if err := l.judge(ctx, part); err != nil {
					yield(hit{}, err)
					return
				}
				from.Sort = part[len(part)-1].at.Sort
				if !flush() {
					return
				}
			}
			if err := l.judge(ctx, part); err != nil {
				yield(hit{}, err)
				return
			}
			if len(part) > 0 {
				from.Sort = part[len(part)-1].at.Sort
			}
			if !flush() || r.Limit == 0 || n < r.Limit {
				return
			}
			r = behind(r, from.Sort)
		}
	}
}

// judge says of the rules that there are which are chosen.
func (l *lister) judge(ctx context.Context, part []hit) error {
	var where []core.ScopeID
	for i := range part {
		r := part[i].rule
		part[i].ok = r.Live(l.now) && !r.CreatedAt.Before(l.q.Since) && l.q.matches(r)
		if part[i].ok {
			where = append(where, r.Scope)
		}
	}
	if err := l.reach.learn(ctx, where...); err != nil {
		return err
	}
	for i := range part {
		part[i].ok = part[i].ok && l.reach.sees(part[i].rule.Scope)
	}
	return nil
}

// ofSubjects yields the rules of the subjects, in order of their ids, through their grants.
func (l *lister) ofSubjects(ctx context.Context, first core.RuleID, from position) iter.Seq2[hit, error] {
	return func(yield func(hit, error) bool) {
		ids, err := l.granted(ctx)
		if err != nil {
			yield(hit{}, err)
			return
		}
		ids = slices.DeleteFunc(ids, func(id core.RuleID) bool {
			at := store.Rule(l.t, id).Sort()
			return id < first || from.Sort != "" && (at == from.Sort || at < from.Sort != (l.q.Order == Newest))
		})
		if l.q.Order == Newest {
			slices.Reverse(ids)
		}
		for len(ids) > 0 {
			n := chunk
			if l.need != nil && !l.q.filters() {
				n = min(max(l.need(), 1), chunk)
			}
			n = min(n, len(ids))
			part, err := l.s.read(ctx, l.t, ids[:n])
			if err == nil {
				err = l.judge(ctx, part)
			}
			if err != nil {
				yield(hit{}, err)
				return
			}
			for _, h := range part {
				if !yield(h, nil) {
					return
				}
			}
			ids = ids[n:]
		}
	}
}

// granted is the ids of the rules of the query's subjects that the grants do not rule out.
func (l *lister) granted(ctx context.Context) ([]core.RuleID, error) {
	var all []policy.Grant
	asked := map[core.Subject]bool{}
	for _, who := range l.q.Subjects {
		if asked[who] || l.q.SubjectKind != "" && who.Kind != l.q.SubjectKind {
			continue
		}
		asked[who] = true
		for it, err := range l.s.DB.List(ctx, store.GrantsOf(l.t, who)) {
			if err != nil {
				return nil, err
			}
			grants, err := policy.DecodeGrants(it.Body)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", it.Key, err)
			}
			all = append(all, grants...)
		}
	}
	where := make([]core.ScopeID, len(all))
	for i, g := range all {
		where[i] = g.Scope
	}
	if err := l.reach.learn(ctx, where...); err != nil {
		return nil, err
	}
	var ids []core.RuleID
	for _, g := range all {
		c, _ := g.Scope.ClusterOf()
		if g.Live(l.now) && l.reach.sees(g.Scope) && (l.q.Role == 0 || l.q.Role == g.Role) &&
			(l.q.Scope == "" || l.q.Scope == g.Scope) && (l.q.Cluster == "" || l.q.Cluster == c) {
			ids = append(ids, g.Rule)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// read reads rules by their ids, at most MaxGet. One that was deleted meanwhile is left out.
func (s *Service) read(ctx context.Context, t core.TenantID, ids []core.RuleID) ([]hit, error) {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = store.Rule(t, id)
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var out []hit
	for _, it := range items {
		rec, err := rules.Decode(it)
		if err != nil {
			return nil, err
		}
		if rec.Exists() {
			out = append(out, hit{rule: rec.Value, at: position{Sort: rec.Key.Sort()}})
		}
	}
	return out, nil
}

// gone yields the rules that were taken away, in the order in which that happened.
func (l *lister) gone(ctx context.Context, from position) iter.Seq2[hit, error] {
	return func(yield func(hit, error) bool) {
		r := behind(store.RulesGone(l.t, l.q.Since), from.Sort)
		for {
			r.Limit = chunk
			var part []hit
			for rec, err := range gones.List(ctx, l.s.DB, r) {
				if err != nil {
					yield(hit{}, err)
					return
				}
				g := rec.Value
				part = append(part, hit{rule: g.Rule, gone: &g, at: position{Gone: true, Sort: rec.Key.Sort()},
					ok: !g.DeletedAt.Before(l.q.Since) && l.q.matches(g.Rule)})
			}
			for _, h := range part {
				h.ok = h.ok && l.reach.saw(*h.gone)
				if !yield(h, nil) {
					return
				}
			}
			if len(part) < chunk {
				return
			}
			r = behind(r, part[len(part)-1].at.Sort)
		}
	}
}

// clockSkew is by how much the clocks of two of our servers may differ. Rules are numbered in the order in which they were
// made, and dated by the clock of whoever made them.
const clockSkew = 10 * time.Minute

// firstSince is an id from which on all rules are that were created at that time or later, and few others: it is sought from
// the newest one back, so that it costs what happened since, not what there is.
func (s *Service) firstSince(ctx context.Context, t core.TenantID, since time.Time) (core.RuleID, error) {
	since = since.Add(-clockSkew)
	newest := store.Rules(t)
	newest.Descending, newest.Limit = true, 1
	var high core.RuleID
	for rec, err := range rules.List(ctx, s.DB, newest) {
		if err != nil {
			return 0, err
		}
		if high = rec.Value.ID; rec.Value.CreatedAt.Before(since) {
			return high + 1, nil
		}
	}
	late := func(id core.RuleID) (bool, error) { // whether the first rule from there on was made since
		r := fromOn(store.Rules(t), store.Rule(t, id).Sort())
		r.Limit = 1
		for rec, err := range rules.List(ctx, s.DB, r) {
			return err == nil && !rec.Value.CreatedAt.Before(since), err
		}
		return true, nil
	}
	const near = 64
	low := core.RuleID(0)
	for step := core.RuleID(near); step < high; step *= 4 {
		is, err := late(high - step)
		if err != nil {
			return 0, err
		}
		if !is {
			low = high - step
			break
		}
		high -= step
	}
	for low+near < high {
		middle := low + (high-low)/2
		is, err := late(middle)
		if err != nil {
			return 0, err
		}
		if is {
			high = middle
		} else {
			low = middle
		}
	}
	return low, nil
}
