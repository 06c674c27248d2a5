package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/events"
)

// Create makes a rule, if the actor may. The delegation guard: the actor holds create on access rules in the rule's scope,
// and every permission of the role there, for at least as long as the rule is to last. So nobody can give, by however many
// steps, what was not held.
//
// Errors: core.Invalid naming the field; core.Denied naming the permission that is missing; core.NotFound for a scope
// that there is not; core.Exists naming the rule that already says as much; core.Limit past policy.MaxGrants rules of one
// subject in one cluster.
func (s *Service) Create(ctx context.Context, actor core.Actor, n NewRule) (core.Rule, error) {
	made, err := s.CreateBatch(ctx, actor, []NewRule{n})
	if err != nil {
		return core.Rule{}, err
	}
	return made[0], nil
}

// MaxBatch is how many rules one commit can always hold: each takes up to five operations (rule, index, grants, record,
// expiry), besides the tenant and the event.
const MaxBatch = (store.MaxOps - 2) / 5

// CreateBatch makes up to MaxBatch rules, all or none, with consecutive ids. Errors are Create's, and name the place of
// the rule at fault, counted from 0.
func (s *Service) CreateBatch(ctx context.Context, actor core.Actor, batch []NewRule) ([]core.Rule, error) {
	return s.create(ctx, actor, batch, true)
}

// Seed makes rules without the guard. It is how a tenant's first administrator and a seeded demonstration come to be, and
// is for code that runs on behalf of nobody: never call it for a request that names the rule.
func (s *Service) Seed(ctx context.Context, t core.TenantID, batch ...NewRule) ([]core.Rule, error) {
	return s.create(ctx, trace.Actor(ctx, core.SystemActor(t)), batch, false)
}

// FirstAdministrator makes the operations by which a person becomes System administrator of the account, for the commit
// that redeems a welcome token. They raise the tenant's revision, so the rest of the commit must not. A person who is one
// already leaves nothing to write but a check that this stays so. Whoever was there before the token (there) is refused,
// naming the field email, while the tenant has an administrator: nobody's account is taken over who could be asked.
func (s *Service) FirstAdministrator(ctx context.Context, actor core.Actor, e core.Email, there bool) ([]store.Op, error) {
	n := NewRule{Subject: core.UserSubject(e), Role: policy.SystemAdministrator, Scope: core.AccountScope(actor.Tenant), Reason: "welcome"}
	r, err := n.rule(s.Now())
	if err != nil {
		return nil, err
	}
	v := s.newView(actor.Tenant)
	if err := v.read(ctx, v.targetKeys(r)...); err != nil {
		return nil, err
	}
	if err := v.meta.Value.Serves(); err != nil {
		return nil, err
	}
	if there {
		able, err := v.administrators(ctx)
		if err != nil {
			return nil, err
		}
		if len(able) > 0 {
			return nil, core.BadField("email", "belongs to somebody who signs in here already, and whom an administrator can grant the role; give another e-mail")
		}
	}
	r.ScopeKind = core.Account
	admitted := v.admitPassword(e)
	w := v.change(actor)
	if err := w.create(r); err != nil {
		if !errors.Is(err, core.Exists) {
			return nil, err
		}
		if !admitted {
			return []store.Op{store.Check(v.meta.Key, v.meta.Version)}, nil
		}
		op, err := tenants.Put(v.meta.Key, v.meta.Version, v.meta.Value)
		return []store.Op{op}, err
	}
	return w.finish()
}

// admitPassword adds a person whom the operators let in to those who may use a password, where the tenant enforces single
// sign-on: it is the way in when nothing else is left. Where there is no room, somebody who is among them has to make it.
func (v *view) admitPassword(e core.Email) bool {
	set := &v.meta.Value.Settings
	if set.TakesPassword(e) {
		return false
	}
	people := slices.Clone(set.BreakGlass)
	people = append(people[:min(len(people), org.MaxBreakGlass-1)], e)
	slices.Sort(people)
	set.BreakGlass = people
	return true
}

func (s *Service) create(ctx context.Context, actor core.Actor, batch []NewRule, guarded bool) ([]core.Rule, error) {
	wanted, err := s.wanted(batch)
	if err != nil {
		return nil, err
	}
	var made []core.Rule
	err = store.Retry(ctx, func() error {
		v := s.newView(actor.Tenant)
		who, err := v.gatherNew(ctx, actor, wanted)
		if err != nil {
			return err
		}
		w := v.change(actor)
		for i, r := range wanted {
			if err := w.give(&who[i], r, batch[i].ScopeKind, guarded); err != nil {
				return ofBatch(i, len(batch), err)
			}
		}
		made = w.made
		return w.commit(ctx, s.DB)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// wanted is the rules of a batch, after the checks that need no store.
func (s *Service) wanted(batch []NewRule) ([]core.Rule, error) {
	if len(batch) == 0 || len(batch) > MaxBatch {
		return nil, fmt.Errorf("%d rules at once, want 1 to %d: %w", len(batch), MaxBatch, core.Limit)
	}
	now := s.Now()
	all := make([]core.Rule, len(batch))
	for i, n := range batch {
		var err error
		if all[i], err = n.rule(now); err != nil {
			return nil, ofBatch(i, len(batch), err)
		}
	}
	return all, nil
}

// ofBatch says which rule of a batch an error is about.
func ofBatch(i, n int, err error) error {
	if n > 1 {
		return fmt.Errorf("rule %d of the batch: %w", i, err)
	}
	return err
}

// gatherNew reads what decides about new rules: their targets, and what the actor holds there.
func (v *view) gatherNew(ctx context.Context, actor core.Actor, wanted []core.Rule) ([]standing, error) {
	who := make([]standing, len(wanted))
	var keys []store.Key
	for i, r := range wanted {
		who[i] = standing{subject: actor.Subject, scope: r.Scope, id: actor.UserID}
		keys = append(keys, v.targetKeys(r)...)
	}
	if err := v.read(ctx, keys...); err != nil {
		return nil, err
	}
	if err := v.meta.Value.Serves(); err != nil {
		return nil, err
	}
	return who, v.gather(ctx, who)
}

// give adds a rule to the commit, if the guard lets it pass and its target is there. The guard comes first, so that whoever it
// stops does not learn of what kind a scope is, or which applications there are.
func (w *change) give(who *standing, r core.Rule, kind core.ScopeKind, guarded bool) error {
	if !r.Live(w.v.now) { // it ended while this was tried again
		return errEnded
	}
	if who.code == policy.UnknownScope {
		return fmt.Errorf("scopeId: %w", core.NotFound) // or something above it is deleted
	}
	if guarded {
		if err := w.v.guard(who, r, policy.Create); err != nil {
			return err
		}
	}
	sc, err := w.v.target(r, kind)
	if err != nil {
		return err
	}
	r.ScopeKind = sc.Kind
	return w.create(r)
}

var errEnded = core.BadField("expiresAt", "must be in the future")

// rule checks what can be checked without the store.
func (n NewRule) rule(now time.Time) (core.Rule, error) {
	subject, err := canonical(n.Subject)
	if err != nil {
		return core.Rule{}, err
	}
	r := core.Rule{Subject: subject, Role: n.Role, Scope: n.Scope, Reason: n.Reason}
	if _, ok := policy.RoleByID(n.Role); !ok {
		return r, core.BadField("roleId", "must be the id of one of the system roles")
	}
	if !plausible(n.Scope) {
		return r, core.BadField("scopeId", "must be the id of the account, a cluster, a department or a project")
	}
	if !n.ExpiresAt.IsZero() {
		r.ExpiresAt = n.ExpiresAt.UTC().Truncate(time.Second)
		if !r.ExpiresAt.After(now) {
			return r, errEnded
		}
		if r.ExpiresAt.Year() > 9999 {
			return r, core.BadField("expiresAt", "must be before the year 10000; leave it out for a rule without an end")
		}
	}
	if len(n.Reason) > 500 || !utf8.ValidString(n.Reason) {
		return r, core.BadField("reason", "must be at most 500 bytes of text")
	}
	for _, c := range n.Reason {
		if !unicode.IsPrint(c) {
			return r, core.BadField("reason", "has characters that do not print")
		}
	}
	return r, nil
}

// targetKeys is what a new rule's own checks read.
func (v *view) targetKeys(r core.Rule) []store.Key {
	keys := []store.Key{store.Grants(v.tenant, r.Subject, store.GrantsAt(r.Scope))}
	if r.Scope != core.AccountScope(v.tenant) {
		keys = append(keys, store.Scope(v.tenant, r.Scope))
	}
	if r.Subject.Kind == core.Application {
		k, _ := recordOf(v.tenant, r.Subject)
		keys = append(keys, k)
	}
	return keys
}

// target checks that the scope, and an application, exist. A person or a group need not: identity providers tell of them
// later.
func (v *view) target(r core.Rule, kind core.ScopeKind) (*org.Scope, error) {
	sc, err := v.scopeAt(r.Scope)
	if err != nil {
		return nil, err
	}
	if sc == nil {
		return nil, fmt.Errorf("scopeId: %w", core.NotFound)
	}
	if kind != "" && kind != sc.Kind {
		return nil, core.BadField("scopeType", "is not what the scope is: "+string(sc.Kind))
	}
	if r.Subject.Kind == core.Application {
		k, _ := recordOf(v.tenant, r.Subject)
		app, err := directory.Applications.Decode(v.items[k])
		if err != nil {
			return nil, err
		}
		if !app.Exists() {
			return nil, core.BadField("subjectId", "must be the client id of an application")
		}
	}
	return sc, nil
}

// guard is the delegation guard, for giving a rule (policy.Create) and for taking it away (policy.Delete).
func (v *view) guard(actor *standing, r core.Rule, act policy.Action) error {
	if !actor.stands() {
		d := policy.Deny(actor.code, policy.AccessRules, act, r.Scope)
		return fmt.Errorf("%s: %w", d.Reason(v.name), core.Denied)
	}
	refusal, ok := policy.Delegate(&v.grants, &policy.Delegation{Subjects: actor.subjects, Path: actor.path,
		Role: r.Role, Action: act, Until: policy.GrantOf(r).Expires, Now: v.now.Unix()})
	switch {
	case ok:
		return nil
	case !refusal.Decision.Allowed:
		return fmt.Errorf("%s: %w", refusal.Decision.Reason(v.name), core.Denied)
	}
	return v.lacks(r, refusal.Lack)
}

// change gathers one commit's changes of rules.
type change struct {
	v      *view
	actor  core.Actor
	next   core.RuleID
	made   []core.Rule
	gone   []core.Rule
	grants map[store.Key][]policy.Grant // the grants items as they will be
	ops    []store.Op
}

func (v *view) change(actor core.Actor) *change {
	return &change{v: v, actor: actor, next: core.RuleID(v.meta.Value.Revision) + 1, grants: map[store.Key][]policy.Grant{}}
}

func (w *change) put(op store.Op, err error) error {
	if err == nil {
		w.ops = append(w.ops, op)
	}
	return err
}

// grantsOf is the subject's grants item as it is by now; it must have been read.
func (w *change) grantsOf(r core.Rule) (store.Key, []policy.Grant, error) {
	k := store.Grants(w.v.tenant, r.Subject, store.GrantsAt(r.Scope))
	if g, ok := w.grants[k]; ok {
		return k, g, nil
	}
	it, ok := w.v.items[k]
	if !ok {
		return k, nil, fmt.Errorf("access: %s was not read", k)
	}
	g, err := policy.DecodeGrants(it.Body)
	if err != nil {
		return k, nil, fmt.Errorf("%s: %w", k, err)
	}
	return k, g, nil
}

// create adds a rule to the commit.
func (w *change) create(r core.Rule) error {
	k, grants, err := w.grantsOf(r)
	if err != nil {
		return err
	}
	r.ID, r.CreatedAt, r.CreatedBy = w.next, w.v.now.UTC(), w.actor.Subject
	g := policy.GrantOf(r)
	for _, old := range grants {
		if old.Role == g.Role && old.Scope == g.Scope && old.Live(w.v.now) && (old.Expires == 0 || g.Expires != 0 && g.Expires <= old.Expires) {
			return fmt.Errorf("rule %d already says so: %w", old.Rule, core.Exists)
		}
	}
	if len(grants) >= policy.MaxGrants {
		return fmt.Errorf("%s has %d rules in this cluster or account, the most there may be; give the role to a group, or higher up: %w", r.Subject, policy.MaxGrants, core.Limit)
	}
	w.grants[k] = append(grants[:len(grants):len(grants)], g)
	w.next++
	w.made = append(w.made, r)
	if err := w.put(rules.Put(store.Rule(w.v.tenant, r.ID), 0, r)); err != nil {
		return err
	}
	if err := w.put(rules.Put(store.ClusterRule(w.v.tenant, r.Scope, r.ID), 0, r)); err != nil {
		return err
	}
	if !r.ExpiresAt.IsZero() {
		ref := strconv.FormatUint(uint64(r.ID), 10)
		if err := w.put(due.Op(due.Job{Kind: due.RuleExpiry, Tenant: w.v.tenant, Ref: ref, At: r.ExpiresAt})); err != nil {
			return err
		}
	}
	return w.record(audit.Create, r, r.Reason)
}

func (w *change) record(act audit.Action, r core.Rule, reason string) error {
	return w.put(audit.Op(w.actor, w.v.now, audit.Record{
		Tenant: w.v.tenant, Action: act, EntityType: audit.EntityAccessRule,
		EntityID: strconv.FormatUint(uint64(r.ID), 10), Name: Sentence(r), Scope: r.Scope, Reason: reason,
	}))
}

// Sentence says a rule in words: "user:ada@example.com is a Viewer in project CLUSTER.ID".
func Sentence(r core.Rule) string {
	role, ok := policy.RoleByID(r.Role)
	if !ok {
		role.Name = "role " + strconv.Itoa(int(r.Role))
	}
	return fmt.Sprintf("%s is a %s in %s %s", r.Subject, role.Name, r.ScopeKind, r.Scope)
}

// finish adds what every change ends with: the grants items, the tenant's next revision and the event.
func (w *change) finish() ([]store.Op, error) {
	for k, grants := range w.grants {
		expect := w.v.items[k].Version
		if len(grants) == 0 {
			w.ops = append(w.ops, store.Delete(k, expect))
			continue
		}
		body, err := policy.EncodeGrants(grants)
		if err != nil {
			return nil, err
		}
		w.ops = append(w.ops, store.Put(k, expect, body))
	}
	meta := w.v.meta
	if n := len(w.made); n > 1 {
		meta.Value.Revision += core.Revision(n - 1) // each rule's id is a revision of its own
	}
	bump, rev, err := org.Bump(meta)
	if err != nil {
		return nil, err
	}
	w.ops = append(w.ops, bump)
	err = w.put(store.Emit(w.v.tenant, w.v.now, w.actor, w.fact(rev)))
	return w.ops, err
}

func (w *change) commit(ctx context.Context, db store.DB) error {
	ops, err := w.finish()
	if err != nil {
		return err
	}
	return db.Commit(ctx, ops...)
}

// fact names the clusters that the changed rules reach.
func (w *change) fact(rev core.Revision) events.AccessChanged {
	f := events.AccessChanged{Revision: uint64(rev)}
	seen := map[core.ClusterID]bool{}
	for _, list := range [][]core.Rule{w.made, w.gone} {
		for _, r := range list {
			f.Rules = append(f.Rules, uint64(r.ID))
			c, ok := r.Scope.ClusterOf()
			if !ok {
				f.All = true
			} else if !seen[c] {
				seen[c] = true
				f.Clusters = append(f.Clusters, string(c))
			}
		}
	}
	if f.All {
		f.Clusters = nil
	}
	return f
}
