package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Query chooses rules. Every field that is set narrows the choice, but Gone and Order.
type Query struct {
	Subjects    []core.Subject // any of them, in canonical form
	SubjectKind core.SubjectKind
	Role        core.RoleID
	Scope       core.ScopeID         // exactly there
	Cluster     core.ClusterID       // there, or in something in it
	Since       time.Time            // created then or later; and of those taken away, taken away then or later
	Match       func(core.Rule) bool // nil: any. No index serves it

	Gone  bool  // add the rules that were taken away in the last GoneKeep, behind all others
	Order Order // of the rules; those taken away are always in the order in which that happened

	Offset int    // so many of the choice are passed over; with After: of what comes after it
	Limit  int    // 1 to MaxPage; 0: DefaultPage
	After  string // the Next of the page before, of the same query; empty: from the beginning

	// Thorough is for who cannot go on behind a page that is short: it looks at up to 100,000 rules in 5,000 scopes, and where
	// the page is not full by then, the answer is core.Limit.
	Thorough bool
}

// Order is an order of rules.
type Order uint8

// The orders: Stored costs nothing, and the others cost nothing where it is that of creation (see List).
const (
	Stored Order = iota
	Oldest
	Newest
)

// DefaultPage and MaxPage bound a page of List. MaxGather bounds what Gather returns, and what List puts into another order
// than its own.
const (
	DefaultPage = 50
	MaxPage     = 500
	MaxGather   = 10_000
)

// Page is part of what a query chose: first Rules, then Gone.
type Page struct {
	Rules []core.Rule
	Gone  []Gone

	Passed int    // how much of the Offset was passed over; less than all of it only if there is a Next
	Next   string // for Query.After, to go on; empty: this is the end. It says nothing that must not be seen
}

// Len is how many rules the page shows.
func (p *Page) Len() int { return len(p.Rules) + len(p.Gone) }

const (
	maxLook  = 2_000 // items that a page looks at in vain, before it is answered as it is
	maxLists = 250   // scopes of which a page reads the rules, likewise

	maxThorough      = 100_000 // the same for a query that is Thorough
	maxThoroughLists = 5_000
	maxSifted        = 100_000 // items that Gather looks at in vain
)

// List returns a page of the rules that a query chooses, and among them only those in scopes where the actor may view access
// rules. Rules that have expired are left out, whether maintenance has removed them yet or not.
//
// The order is one in which the rules are stored, so that a page reads what it shows and what it passes over, and not what the
// tenant holds: that of their creation, where the actor may view those of the whole account, or the query names subjects, a
// scope or a time; else by scope, then by creation. What no index serves (a kind of subject, a role, Match; scopes, of the
// rules that changed since a time) is looked for among a bounded number of rules: a page that comes to the bound ends early,
// even with nothing, and says where to go on (but see Query.Thorough). Pages read at different times may overlap, or miss a rule of a scope that moved,
// where something changed.
func (s *Service) List(ctx context.Context, actor core.Actor, q Query) (Page, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxPage:
		return Page{}, core.BadField("limit", fmt.Sprintf("must be from 1 to %d", MaxPage))
	case q.Offset < 0:
		return Page{}, core.BadField("offset", "must not be negative")
	}
	q.Limit = cmp.Or(q.Limit, DefaultPage)
	from, err := parsePosition(q.After)
	if err != nil {
		return Page{}, err
	}
	l, err := s.lister(ctx, actor, q)
	if err != nil {
		return Page{}, err
	}
	if q.Order != Stored && !l.byCreation() {
		return l.ordered(ctx, from)
	}
	var p Page
	looked, lists, last := 0, 0, from
	l.need = func() int { return q.Offset + q.Limit + 1 - p.Passed - p.Len() }
	for hit, err := range l.walk(ctx, from) {
		if err != nil {
			return Page{}, err
		}
		switch {
		case !hit.ok && hit.list:
			lists++
		case !hit.ok:
			looked++
		case p.Passed < q.Offset:
			p.Passed++
		case p.Len() == q.Limit:
			p.Next = last.String()
			return p, nil
		default:
			p.add(hit)
		}
		switch last = hit.at; {
		case q.Thorough && (looked >= maxThorough || lists >= maxThoroughLists):
			return Page{}, fmt.Errorf("%d access rules in %d scopes were looked at, and there are more; narrow the choice, or go on in steps with an empty cursor: %w", looked, lists, core.Limit)
		case !q.Thorough && (looked >= maxLook || lists >= maxLists):
			p.Next = last.String()
			return p, nil
		}
	}
	return p, nil
}

func (p *Page) add(h hit) {
	if h.gone != nil {
		p.Gone = append(p.Gone, *h.gone)
	} else {
		p.Rules = append(p.Rules, h.rule)
	}
}

// ordered is a page of what is not stored in the order of creation.
func (l *lister) ordered(ctx context.Context, from position) (Page, error) {
	all, err := l.gather(ctx, MaxGather)
	if err != nil {
		return Page{}, err
	}
	slices.SortFunc(all.Rules, func(a, b core.Rule) int { return cmp.Compare(a.ID, b.ID) })
	if l.q.Order == Newest {
		slices.Reverse(all.Rules)
	}
	begin := min(from.Shown+l.q.Offset, all.Len())
	end := min(begin+l.q.Limit, all.Len())
	p := Page{Passed: min(l.q.Offset, max(all.Len()-from.Shown, 0))}
	n := len(all.Rules)
	p.Rules, p.Gone = all.Rules[min(begin, n):min(end, n)], all.Gone[max(begin-n, 0):max(end-n, 0)]
	if end < all.Len() {
		p.Next = position{Shown: end}.String()
	}
	return p, nil
}

// Count is how many rules a query chooses, exactly. What bounds a page is passed by. It reads all that the narrowest index has
// of the choice.
func (s *Service) Count(ctx context.Context, actor core.Actor, q Query) (int, error) {
	l, err := s.lister(ctx, actor, q)
	if err != nil {
		return 0, err
	}
	n := 0
	for hit, err := range l.walk(ctx, position{}) {
		if err != nil {
			return 0, err
		}
		if hit.ok {
			n++
		}
	}
	return n, nil
}

// Gather returns all that a query chooses, for who wants it in an order of their own. What bounds a page is passed by; more
// than MaxGather is core.Limit.
func (s *Service) Gather(ctx context.Context, actor core.Actor, q Query) (Page, error) {
	l, err := s.lister(ctx, actor, q)
	if err != nil {
		return Page{}, err
	}
	return l.gather(ctx, MaxGather)
}

func (l *lister) gather(ctx context.Context, most int) (p Page, err error) {
	looked := 0
	for hit, err := range l.walk(ctx, position{}) {
		if err != nil {
			return Page{}, err
		}
		if !hit.ok {
			looked++
		}
		if hit.ok && p.Len() == most || looked > maxSifted {
			return Page{}, fmt.Errorf("there are too many access rules to put them in that order, at most %d; ask for fewer, or leave the order as it is: %w", most, core.Limit)
		}
		if hit.ok {
			p.add(hit)
		}
	}
	return p, nil
}

// matches says whether a rule is chosen, but for its time.
func (q *Query) matches(r core.Rule) bool {
	c, _ := r.Scope.ClusterOf()
	return (len(q.Subjects) == 0 || slices.Contains(q.Subjects, r.Subject)) &&
		(q.SubjectKind == "" || q.SubjectKind == r.Subject.Kind) &&
		(q.Role == 0 || q.Role == r.Role) &&
		(q.Scope == "" || q.Scope == r.Scope) &&
		(q.Cluster == "" || q.Cluster == c) &&
		(q.Match == nil || q.Match(r))
}

// filters says whether the query leaves out some of what an index gives.
func (q *Query) filters() bool {
	return q.SubjectKind != "" || q.Role != 0 || q.Match != nil || !q.Since.IsZero()
}

// position is a place in a list, behind which it goes on. It is made of keys, and gives no right to anything: where the list
// goes on is decided anew, from what the actor may view then.
type position struct {
	Gone  bool         `json:"g,omitzero"` // among those taken away
	Scope core.ScopeID `json:"s,omitzero"` // of those that the actor may view, the one that was reached
	Name  string       `json:"n,omitzero"` // in a department: the key of its project that was reached
	Sort  string       `json:"k,omitzero"` // the last item's, in its range
	Shown int          `json:"p,omitzero"` // of a list that is not in the stored order: how many were shown or passed over
}

func (p position) String() string {
	body, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		return "" // keys are UTF-8, so this cannot be; the list would begin again
	}
	return string(body)
}

// parsePosition reads a position; the empty one is the beginning.
func parsePosition(s string) (p position, err error) {
	if s == "" {
		return p, nil
	}
	err = json.Unmarshal([]byte(s), &p, json.RejectUnknownMembers(true))
	if err != nil || len(s) > 2*store.MaxKey || p.Shown < 0 || p.String() != s {
		return position{}, core.BadField("cursor", "must be as the page before gave it")
	}
	return p, nil
}
