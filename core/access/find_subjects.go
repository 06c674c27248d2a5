package access

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// FindSubjects finds who may do something in a scope, of one kind: people, those who may through a group among them, groups, or
// applications. It is answered to who may view the access rules there, else core.Denied.
//
// It walks the rules at the scope and at each one above it, from the top, in order of their ids, and through the member index
// where a rule is a group's. Whom it meets is judged as Decide would, and counts where the rule at hand is the first that
// allows it (policy.First): so everybody comes once, and a page need not know of those before it.
func (s *Service) FindSubjects(ctx context.Context, c Caller, q Search) (Found[core.Subject], error) {
	if err := q.check(); err != nil {
		return Found[core.Subject]{}, err
	}
	from, err := parsePlace(q.After)
	if err != nil {
		return Found[core.Subject]{}, err
	}
	var out Found[core.Subject]
	err = s.snapshot(ctx, c.Tenant, func(v *view) error {
		out, v.caller = Found[core.Subject]{}, &c
		who := []standing{{subject: c.Subject, scope: q.Scope, id: c.UserID}}
		if err := v.gather(ctx, who); err != nil {
			return err
		}
		out.Revision = v.meta.Value.Revision
		if who[0].nobody() {
			return nil
		}
		if err := v.mayAsk(&who[0]); err != nil {
			return err
		}
		switch q.Subject.Kind {
		case core.User, core.Group, core.Application:
		default:
			return nil
		}
		if !q.Entity.Known() || !q.Action.Single() {
			return nil
		}
		w := walk{view: v, q: &q, path: who[0].path, at: from, out: &out}
		if err := w.run(ctx); err != nil {
			return err
		}
		return v.settle(ctx)
	})
	return out, err
}

// place is how far a walk over the rules of a path has come: behind a rule, or, where member is set, in the middle of a
// group's rule behind that member.
type place struct {
	depth  int
	rule   core.RuleID
	member core.Email
}

func (p place) String() string { return fmt.Sprintf("%d.%d.%s", p.depth, p.rule, p.member) }

func parsePlace(s string) (place, error) {
	if s == "" {
		return place{}, nil
	}
	depth, rest, _ := strings.Cut(s, ".")
	rule, member, _ := strings.Cut(rest, ".")
	d, err := strconv.Atoi(depth)
	if err != nil || d < 0 || d >= len(core.Path{}) {
		return place{}, errAfter
	}
	n, err := strconv.ParseUint(rule, 10, 64)
	if err != nil || n == 0 || len(member) > maxName {
		return place{}, errAfter
	}
	p := place{d, core.RuleID(n), core.Email(member)}
	if p.String() != s {
		return place{}, errAfter
	}
	return p, nil
}

// walk is one page of FindSubjects under way.
type walk struct {
	*view
	q       *Search
	path    core.Path
	at      place       // how far it has come
	waiting []candidate // to be judged together
	looked  int
	full    bool // the page has ended, and out says where the next one begins
	out     *Found[core.Subject]
}

// candidate is somebody whom a rule at hand is given to.
type candidate struct {
	subject core.Subject
	at      place
}

// atOnce is how many candidates are judged together: as many as one Get has room for, where nobody is in a group.
const atOnce = 33

// chunk is how many rules or members are read at once: about as many as the page has room for.
func (w *walk) chunk() int { return min(max(w.q.Limit, 8), store.MaxGet) }

func (w *walk) run(ctx context.Context) error {
	for ; w.at.depth < len(w.path); w.at = (place{depth: w.at.depth + 1}) {
		if w.path[w.at.depth] == "" {
			continue
		}
		for {
			rules, err := w.rules(ctx)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if err := w.rule(ctx, r); err != nil || w.full {
					return err
				}
			}
			if len(rules) < w.chunk() {
				break
			}
		}
	}
	return w.judge(ctx)
}

// rules reads the next rules at the scope at hand: from the present one if its members are not all seen, else behind it.
func (w *walk) rules(ctx context.Context) ([]core.Rule, error) {
	scope := w.path[w.at.depth]
	r := store.ScopeRules(w.tenant, scope)
	if behind := w.at.rule; behind != 0 {
		if w.at.member != "" {
			behind--
		}
		r = r.After(store.ClusterRule(w.tenant, scope, behind).Sort())
	}
	r.Limit = w.chunk()
	var out []core.Rule
	for rec, err := range rules.List(ctx, w.s.DB, r) {
		if err != nil {
			return nil, err
		}
		out = append(out, rec.Value)
	}
	return out, nil
}

// rule takes in whom a rule is given to.
func (w *walk) rule(ctx context.Context, r core.Rule) error {
	var behind core.Email
	if r.ID == w.at.rule {
		behind = w.at.member
	}
	here := place{depth: w.at.depth, rule: r.ID}
	kind := w.q.Subject.Kind
	switch {
	case !r.Live(w.now) || !policy.Permits(r.Role, w.q.Entity, w.q.Action):
		return w.pass(ctx, here)
	case r.Subject.Kind == kind:
		return w.meet(ctx, candidate{r.Subject, here})
	case r.Subject.Kind != core.Group || kind != core.User:
		return w.pass(ctx, here)
	}
	for {
		emails, err := directory.Hinted(ctx, w.s.DB, w.tenant, core.GroupName(r.Subject.ID), behind, w.chunk())
		if err != nil {
			return err
		}
		w.looked += groupLooks
		for _, e := range emails {
			behind = e
			err := w.meet(ctx, candidate{core.UserSubject(e), place{here.depth, here.rule, e}})
			if err != nil || w.full {
				return err
			}
		}
		if len(emails) < w.chunk() {
			return w.pass(ctx, here)
		}
	}
}

// meet takes in one candidate.
func (w *walk) meet(ctx context.Context, c candidate) error {
	w.waiting = append(w.waiting, c)
	if len(w.waiting) >= min(atOnce, w.chunk()) {
		if err := w.judge(ctx); err != nil || w.full {
			return err
		}
	}
	return w.pass(ctx, c.at)
}

// pass goes on behind a place, and ends the page where it has looked at enough.
func (w *walk) pass(ctx context.Context, p place) error {
	w.at = p
	if w.looked++; w.looked < maxLooked {
		return nil
	}
	if err := w.judge(ctx); err != nil || w.full {
		return err
	}
	w.full, w.out.Next = true, p.String()
	return nil
}

// judge keeps those who wait for whom the rule at hand is the first that allows it.
func (w *walk) judge(ctx context.Context) error {
	list := w.waiting
	w.waiting = nil
	if len(list) == 0 {
		return nil
	}
	who := make([]standing, len(list))
	for i, c := range list {
		who[i] = standing{subject: c.subject, scope: w.q.Scope}
	}
	if err := w.gather(ctx, who); err != nil {
		return err
	}
	for i, c := range list {
		if !who[i].stands() {
			continue
		}
		depth, rule, ok := policy.First(&w.grants, w.request(&who[i], w.q.Entity, w.q.Action))
		if !ok || depth != c.at.depth || rule != c.at.rule {
			continue
		}
		w.out.Results = append(w.out.Results, c.subject)
		if len(w.out.Results) == w.q.Limit {
			w.full, w.out.Next = true, c.at.String()
			return nil
		}
	}
	return nil
}
