package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// MaxEach is how many rules CreateEach and DeleteEach take.
const MaxEach = 100

// Outcome is what became of one rule of many.
type Outcome struct {
	Rule core.Rule // that was made or taken away; where Err says that it was not, the rule as far as it is known
	Err  error     // nil: done
}

// CreateEach makes those of up to MaxEach rules that may be made, each judged by itself as Create would. Those of one commit
// (MaxBatch) are judged at one revision and have consecutive ids. The outcomes are in the order of the rules. An error is
// one of the store before anything was made; one that comes later is the outcome of the rules that are left.
func (s *Service) CreateEach(ctx context.Context, actor core.Actor, all []NewRule) ([]Outcome, error) {
	return inCommits(all, MaxBatch, func(part []NewRule) ([]Outcome, error) {
		e := s.readEach(part)
		if len(e.wanted) == 0 {
			return e.out, nil
		}
		return e.out, store.Retry(ctx, func() error {
			w, err := e.give(ctx, s.newView(actor.Tenant), actor)
			if err != nil || len(w.made) == 0 {
				return err
			}
			return w.commit(ctx, s.DB)
		})
	})
}

// PreviewEach says what CreateEach would make of up to MaxEach rules, at one revision, and writes nothing. What would be made
// has the ids that it would have if this were all that happened until then.
func (s *Service) PreviewEach(ctx context.Context, actor core.Actor, all []NewRule) ([]Outcome, error) {
	if len(all) == 0 || len(all) > MaxEach {
		return nil, fmt.Errorf("%d rules at once, want 1 to %d: %w", len(all), MaxEach, core.Limit)
	}
	e := s.readEach(all)
	if len(e.wanted) == 0 {
		return e.out, nil
	}
	return e.out, s.snapshot(ctx, actor.Tenant, func(v *view) error {
		if _, err := e.give(ctx, v, actor); err != nil {
			return err
		}
		return v.settle(ctx)
	})
}

// each is rules that are wanted, each of which is made or not by itself.
type each struct {
	all    []NewRule
	out    []Outcome // of all
	good   []int     // the places in all of those that stand up to the checks that need no store
	wanted []core.Rule
}

func (s *Service) readEach(all []NewRule) *each {
	e := &each{all: all, out: make([]Outcome, len(all))}
	now := s.Now()
	for i, n := range all {
		if e.out[i].Rule, e.out[i].Err = n.rule(now); e.out[i].Err == nil {
			e.good, e.wanted = append(e.good, i), append(e.wanted, e.out[i].Rule)
		}
	}
	return e
}

// give gathers the changes of those that the guard lets pass.
func (e *each) give(ctx context.Context, v *view, actor core.Actor) (*change, error) {
	who, err := v.gatherNew(ctx, actor, e.wanted)
	if err != nil {
		return nil, err
	}
	w := v.change(actor)
	for j, i := range e.good {
		e.out[i] = Outcome{Rule: e.wanted[j], Err: w.give(&who[j], e.wanted[j], e.all[i].ScopeKind, true)}
		if failure(e.out[i].Err) {
			return nil, e.out[i].Err
		}
		if e.out[i].Err == nil {
			e.out[i].Rule = w.made[len(w.made)-1]
		}
	}
	return w, nil
}

// DeleteEach takes away those of up to MaxEach rules that may be taken, each judged by itself as Delete would; dry only says
// what would come of it. Those of one commit are judged at one revision. A rule named twice is core.NotFound the second
// time. Outcomes and the error are as CreateEach's.
func (s *Service) DeleteEach(ctx context.Context, actor core.Actor, ids []core.RuleID, dry bool) ([]Outcome, error) {
	without := map[core.RuleID]bool{} // would be gone by now, if this were not dry
	return inCommits(ids, removeBatch, func(part []core.RuleID) ([]Outcome, error) {
		out := make([]Outcome, len(part))
		try := func() error {
			v := s.newView(actor.Tenant)
			v.without = without
			who, err := v.gatherGone(ctx, actor, part)
			if err != nil {
				return err
			}
			w := v.change(actor)
			for i, id := range part {
				out[i].Rule, out[i].Err = w.take(ctx, &who[i], id)
				if failure(out[i].Err) {
					return out[i].Err
				}
			}
			switch {
			case dry:
				if err := v.settle(ctx); err != nil {
					return err
				}
				for _, r := range w.gone {
					without[r.ID] = true
				}
				return nil
			case len(w.gone) == 0:
				return nil
			}
			return w.commit(ctx, s.DB)
		}
		return out, store.Retry(ctx, try)
	})
}

// inCommits does a long list part by part.
func inCommits[T any](all []T, size int, do func([]T) ([]Outcome, error)) ([]Outcome, error) {
	if len(all) == 0 || len(all) > MaxEach {
		return nil, fmt.Errorf("%d rules at once, want 1 to %d: %w", len(all), MaxEach, core.Limit)
	}
	var out []Outcome
	for part := range slices.Chunk(all, size) {
		done, err := do(part)
		switch {
		case err != nil && len(out) == 0:
			return nil, err
		case err != nil:
			for range all[len(out):] {
				out = append(out, Outcome{Err: err})
			}
			return out, nil
		}
		out = append(out, done...)
	}
	return out, nil
}

// failure says whether an error is not about the rule that was judged, but about the judging.
func failure(err error) bool {
	if err == nil {
		return false
	}
	for _, k := range []core.Kind{core.Invalid, core.NotFound, core.Denied, core.Exists, core.Limit} {
		if errors.Is(err, k) && !errors.Is(err, core.Unavailable) && !errors.Is(err, core.Conflict) {
			return false
		}
	}
	return true
}

// Preview says what a change would make and take away, and writes nothing: every check and guard of CreateBatch and Delete
// is asked, at one revision, and an error is theirs. The rules to remove are taken away first, so that one can be replaced.
// What would be made has the ids that it would have if this were all that happened until then.
func (s *Service) Preview(ctx context.Context, actor core.Actor, create []NewRule, remove []core.RuleID) (made, gone []core.Rule, err error) {
	var wanted []core.Rule
	if len(create) > 0 || len(remove) == 0 {
		if wanted, err = s.wanted(create); err != nil {
			return nil, nil, err
		}
	}
	if len(remove) > removeBatch {
		return nil, nil, fmt.Errorf("%d rules at once, want 1 to %d: %w", len(remove), removeBatch, core.Limit)
	}
	err = s.snapshot(ctx, actor.Tenant, func(v *view) error {
		givers, err := v.gatherNew(ctx, actor, wanted)
		if err != nil {
			return err
		}
		takers, err := v.gatherGone(ctx, actor, remove)
		if err != nil {
			return err
		}
		w := v.change(actor)
		for i, id := range remove {
			if _, err := w.take(ctx, &takers[i], id); err != nil {
				return ofBatch(i, len(remove), err)
			}
		}
		for i, r := range wanted {
			if err := w.give(&givers[i], r, create[i].ScopeKind, true); err != nil {
				return ofBatch(i, len(create), err)
			}
		}
		made, gone = w.made, w.gone
		return v.settle(ctx)
	})
	if err != nil {
		return nil, nil, err
	}
	return made, gone, nil
}
