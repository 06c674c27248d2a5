package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Delete takes a rule away, if the actor holds delete on access rules in its scope and every permission of its role: who
// could not give a rule cannot take it from someone higher up. An absent rule is core.NotFound; the last administrator's
// is ErrLastAdministrator.
func (s *Service) Delete(ctx context.Context, actor core.Actor, id core.RuleID) error {
	done, err := s.DeleteEach(ctx, actor, []core.RuleID{id}, false)
	if err != nil {
		return err
	}
	return done[0].Err
}

// take adds the removal of a rule to the commit, if there is one to take and the guard lets it pass. One that has expired is
// gone, and left to maintenance. What the check reads
// was gathered by gatherGone.
func (w *change) take(ctx context.Context, who *standing, id core.RuleID) (core.Rule, error) {
	rec, err := rules.Decode(w.v.items[store.Rule(w.v.tenant, id)])
	if err != nil {
		return core.Rule{}, err
	}
	r := rec.Value
	if !rec.Exists() || !r.Live(w.v.now) || w.v.without[id] || slices.ContainsFunc(w.gone, func(o core.Rule) bool { return o.ID == id }) {
		return core.Rule{}, fmt.Errorf("rule %d: %w", id, core.NotFound)
	}
	if err := w.v.guard(who, r, policy.Delete); err != nil {
		return r, err
	}
	if err := w.v.keepAdministrator(ctx, append(slices.Clone(w.gone), r)); err != nil {
		return r, err
	}
	return r, w.remove(r, "")
}

// gatherGone reads what decides about taking rules away: themselves, all that is written of them, and what the actor holds
// where they are.
func (v *view) gatherGone(ctx context.Context, actor core.Actor, ids []core.RuleID) ([]standing, error) {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = store.Rule(v.tenant, id)
	}
	if err := v.read(ctx, keys...); err != nil {
		return nil, err
	}
	who := make([]standing, len(ids))
	var there []standing
	var gone []core.Rule
	for _, k := range keys {
		rec, err := rules.Decode(v.items[k])
		if err != nil {
			return nil, err
		}
		if rec.Exists() {
			there = append(there, standing{subject: actor.Subject, scope: rec.Value.Scope, id: actor.UserID})
			gone = append(gone, rec.Value)
		}
	}
	if err := v.read(ctx, v.goneKeys(gone)...); err != nil {
		return nil, err
	}
	if err := v.gather(ctx, there); err != nil {
		return nil, err
	}
	for i, k := range keys {
		if v.items[k].Version != 0 {
			who[i], there = there[0], there[1:]
		}
	}
	return who, nil
}

// Expire takes a rule away that has expired. It is maintenance's: it happens at least once, so a rule that is gone, or
// that has not expired yet by this clock, is left alone without an error.
func (s *Service) Expire(ctx context.Context, t core.TenantID, id core.RuleID) error {
	errLeave := errors.New("nothing to do")
	err := s.remove(ctx, trace.Actor(ctx, core.SystemActor(t)), id, func(v *view, r core.Rule) error {
		if r.Live(v.now) {
			return errLeave
		}
		return nil
	}, "expired")
	if errors.Is(err, errLeave) || errors.Is(err, core.NotFound) {
		return nil
	}
	return err
}

// remove deletes one rule if check agrees.
func (s *Service) remove(ctx context.Context, actor core.Actor, id core.RuleID, check func(*view, core.Rule) error, reason string) error {
	return store.Retry(ctx, func() error {
		v := s.newView(actor.Tenant)
		if err := v.read(ctx, store.Rule(v.tenant, id)); err != nil {
			return err
		}
		rec, err := rules.Decode(v.items[store.Rule(v.tenant, id)])
		if err != nil {
			return err
		}
		if !rec.Exists() {
			return fmt.Errorf("rule %d: %w", id, core.NotFound)
		}
		if err := check(v, rec.Value); err != nil {
			return err
		}
		return v.delete(ctx, actor, reason, rec.Value)
	})
}

// goneKeys is all that is written of rules, and the scopes that they are in.
func (v *view) goneKeys(gone []core.Rule) []store.Key {
	var keys []store.Key
	for _, r := range gone {
		keys = append(keys, store.Rule(v.tenant, r.ID), store.ClusterRule(v.tenant, r.Scope, r.ID),
			store.Grants(v.tenant, r.Subject, store.GrantsAt(r.Scope)), store.Scope(v.tenant, r.Scope))
	}
	return keys
}

// delete takes rules away in one commit.
func (v *view) delete(ctx context.Context, actor core.Actor, reason string, gone ...core.Rule) error {
	if err := v.read(ctx, v.goneKeys(gone)...); err != nil {
		return err
	}
	w := v.change(actor)
	for _, r := range gone {
		if err := w.remove(r, reason); err != nil {
			return err
		}
	}
	if len(w.gone) == 0 {
		return nil
	}
	return w.commit(ctx, v.s.DB)
}

// remove adds a rule's removal to the commit. One that is gone already is skipped.
func (w *change) remove(r core.Rule, reason string) error {
	rule := w.v.items[store.Rule(w.v.tenant, r.ID)]
	index := w.v.items[store.ClusterRule(w.v.tenant, r.Scope, r.ID)]
	if rule.Version == 0 && index.Version == 0 {
		return nil
	}
	k, grants, err := w.grantsOf(r)
	if err != nil {
		return err
	}
	kept := make([]policy.Grant, 0, len(grants))
	for _, g := range grants {
		if g.Rule != r.ID {
			kept = append(kept, g)
		}
	}
	w.grants[k] = kept
	w.gone = append(w.gone, r)
	w.ops = append(w.ops, store.Delete(rule.Key, rule.Version), store.Delete(index.Key, index.Version))
	if err := w.remember(r); err != nil {
		return err
	}
	return w.record(audit.Delete, r, cmp.Or(reason, r.Reason))
}

// Gone is a rule that was taken away.
type Gone struct {
	Rule      core.Rule    `json:"rule"`
	DeletedAt time.Time    `json:"deletedAt"`
	DeletedBy core.Subject `json:"deletedBy"`
	Parent    core.ScopeID `json:"parent,omitzero"` // of the rule's scope then, if that was known: it says who may see this
}

// GoneKeep is how long it is remembered that a rule was taken away: so that who follows the rules hears of it.
const GoneKeep = 30 * 24 * time.Hour

var gones store.Table[Gone]

// remember adds to the commit that the rule was taken away, by whom and when.
func (w *change) remember(r core.Rule) error {
	g := Gone{Rule: r, DeletedAt: w.v.now.UTC(), DeletedBy: w.actor.Subject}
	sc, err := scopes.Decode(w.v.items[store.Scope(w.v.tenant, r.Scope)])
	if err != nil {
		return err
	}
	g.Parent = sc.Value.Parent
	op, err := gones.Put(store.RuleGone(w.v.tenant, g.DeletedAt, r.ID), 0, g)
	return w.put(op.Until(g.DeletedAt.Add(GoneKeep)), err)
}

// removeBatch is how many rules one commit can always take away: up to five operations each (rule, index, grants, memory,
// record), besides the tenant, the event, and two conditions of the request.
const removeBatch = (store.MaxOps - 4) / 5

// DeleteAllAt takes away every rule at exactly that scope: what the sweep of a deleted scope calls, with itself as the
// actor. It asks no guard, and returns how many rules it took. It takes several commits if it must, and can be called
// again until it takes none.
func (s *Service) DeleteAllAt(ctx context.Context, actor core.Actor, scope core.ScopeID) (int, error) {
	t := actor.Tenant
	if scope == core.AccountScope(t) {
		return 0, fmt.Errorf("access: the account is never swept: %w", core.Unsupported)
	}
	return s.sweep(ctx, actor, "the scope was deleted", func(_ *view, limit int) ([]core.Rule, error) {
		r := store.ScopeRules(t, scope)
		r.Limit = limit
		var found []core.Rule
		for rec, err := range rules.List(ctx, s.DB, r) {
			if err != nil {
				return nil, err
			}
			found = append(found, rec.Value)
		}
		return found, nil
	})
}

// DeleteAllOf takes away every rule of a subject that was, or is about to be, deleted, so that a later one of the same
// name begins with nothing. It asks no guard, and refuses to leave the account without an administrator.
func (s *Service) DeleteAllOf(ctx context.Context, actor core.Actor, who core.Subject) (int, error) {
	who, err := canonical(who)
	if err != nil {
		return 0, err
	}
	return s.sweep(ctx, actor, "the subject was deleted", func(v *view, limit int) ([]core.Rule, error) {
		if err := v.keepsWithout(ctx, who); err != nil {
			return nil, err
		}
		return s.rulesOf(ctx, actor.Tenant, who, limit)
	})
}

func (s *Service) sweep(ctx context.Context, actor core.Actor, reason string, next func(v *view, limit int) ([]core.Rule, error)) (int, error) {
	taken := 0
	for {
		var n int
		err := store.Retry(ctx, func() error {
			v := s.newView(actor.Tenant)
			if err := v.read(ctx); err != nil { // before the list, so that the commit sees what changed since
				return err
			}
			found, err := next(v, removeBatch)
			if err != nil {
				return err
			}
			if n = len(found); n == 0 {
				return nil
			}
			return v.delete(ctx, actor, reason, found...)
		})
		if err != nil {
			return taken, err
		}
		if taken += n; n == 0 {
			return taken, nil
		}
	}
}

// KeepsAdministrator is nil if the account would still have an administrator without that person: ErrLastAdministrator
// otherwise. Ask it before a person is disabled or deleted.
func (s *Service) KeepsAdministrator(ctx context.Context, t core.TenantID, without core.Subject) error {
	return s.snapshot(ctx, t, func(v *view) error {
		if err := v.read(ctx); err != nil {
			return err
		}
		return v.keepsWithout(ctx, without)
	})
}

// Administered says whether the account has an administrator who can sign in: somebody to ask before another is let in.
func (s *Service) Administered(ctx context.Context, t core.TenantID) (is bool, err error) {
	err = s.snapshot(ctx, t, func(v *view) error {
		if err := v.read(ctx); err != nil {
			return err
		}
		all, err := v.administrators(ctx)
		is = len(all) > 0
		return err
	})
	return is, err
}

// keepsWithout is KeepsAdministrator within a view whose tenant was read before.
func (v *view) keepsWithout(ctx context.Context, without core.Subject) error {
	all, err := v.administrators(ctx)
	if err != nil {
		return err
	}
	is, others := false, false
	for _, r := range all {
		is = is || r.Subject == without
		others = others || r.Subject != without
	}
	if is && !others {
		return ErrLastAdministrator
	}
	return v.keepsGlass(all, func(r core.Rule) bool { return r.Subject == without })
}

// keepsGlass refuses to take away, of the administrators' rules, the last one of somebody who can sign in if no identity provider
// answers, while the tenant enforces single sign-on. All people named must have been read.
func (v *view) keepsGlass(all []core.Rule, goes func(core.Rule) bool) error {
	set := v.meta.Value.Settings
	if !set.EnforceSSO {
		return nil
	}
	is, others := false, false
	for _, r := range all {
		e := core.Email(r.Subject.ID)
		if !slices.Contains(set.BreakGlass, e) {
			continue
		}
		u, err := directory.Users.Decode(v.items[store.User(v.tenant, e)])
		if err != nil {
			return err
		}
		if goes(r) {
			is = is || u.Value.Local
		} else {
			others = others || u.Value.ProvesHere()
		}
	}
	if is && !others {
		return ErrBreakGlass
	}
	return nil
}

// Administrators are the people who are System administrator of the account by name and without an end, there and not disabled,
// whatever they sign in by.
func (s *Service) Administrators(ctx context.Context, t core.TenantID) (people []core.Email, err error) {
	err = s.snapshot(ctx, t, func(v *view) error {
		if err := v.read(ctx); err != nil {
			return err
		}
		all, err := v.enabledAdministrators(ctx)
		people = nil
		for _, r := range all {
			people = append(people, core.Email(r.Subject.ID))
		}
		slices.Sort(people)
		people = slices.Compact(people)
		return err
	})
	return people, err
}

// keepAdministrator refuses to take rules away if the last administrator's is among them. Between this and the commit
// nothing can change unseen, since the commit expects the tenant to be as it was read before.
func (v *view) keepAdministrator(ctx context.Context, gone []core.Rule) error {
	goes := func(o core.Rule) bool {
		return slices.ContainsFunc(gone, func(r core.Rule) bool { return r.ID == o.ID })
	}
	if !slices.ContainsFunc(gone, func(r core.Rule) bool { return administers(v.tenant, r) }) {
		return nil
	}
	all, err := v.administrators(ctx)
	if err != nil {
		return err
	}
	is, others := false, false
	for _, o := range all {
		is, others = is || goes(o), others || !goes(o)
	}
	if is && !others { // else, if it is not among them, it was given to someone who cannot sign in, and kept nothing
		return ErrLastAdministrator
	}
	return v.keepsGlass(all, goes)
}

// administers says whether a rule is one that keeps an account from locking itself out: given to a person by name, since
// what is in a group is not known here, and without an end.
func administers(t core.TenantID, r core.Rule) bool {
	return r.Role == policy.SystemAdministrator && r.Scope == core.AccountScope(t) && r.Subject.Kind == core.User && r.ExpiresAt.IsZero()
}

// administrators lists those rules of people who can sign in: see enabledAdministrators, and Service.Usable.
func (v *view) administrators(ctx context.Context) ([]core.Rule, error) {
	all, err := v.enabledAdministrators(ctx)
	if err != nil || v.s.Usable == nil {
		return all, err
	}
	var usable []string
	asked := false
	able := all[:0]
	for _, r := range all {
		u, err := directory.Users.Decode(v.items[store.User(v.tenant, core.Email(r.Subject.ID))])
		if err != nil {
			return nil, err
		}
		if u.Value.Connection != "" && !asked {
			if usable, err = v.s.Usable(ctx, v.tenant); err != nil {
				return nil, err
			}
			asked = true
		}
		if u.Value.Connection == "" || slices.Contains(usable, u.Value.Connection) {
			able = append(able, r)
		}
	}
	return able, nil
}

// enabledAdministrators lists those rules of people who exist and are not disabled. The view's tenant must have been read
// before.
func (v *view) enabledAdministrators(ctx context.Context) ([]core.Rule, error) {
	var all []core.Rule
	var keys []store.Key
	for rec, err := range rules.List(ctx, v.s.DB, store.ScopeRules(v.tenant, core.AccountScope(v.tenant))) {
		if err != nil {
			return nil, err
		}
		if administers(v.tenant, rec.Value) && !v.without[rec.Value.ID] {
			all = append(all, rec.Value)
			k, _ := recordOf(v.tenant, rec.Value.Subject)
			keys = append(keys, k)
		}
	}
	if err := v.read(ctx, keys...); err != nil {
		return nil, err
	}
	able := all[:0]
	for _, r := range all {
		k, _ := recordOf(v.tenant, r.Subject)
		u, err := directory.Users.Decode(v.items[k])
		if err != nil {
			return nil, err
		}
		if u.Exists() && !u.Value.Disabled {
			able = append(able, r)
		}
	}
	return able, nil
}
