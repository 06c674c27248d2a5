// Package access owns access rules: who may grant what to whom, the index items that decisions and clusters read, and the
// questions "may she?" and "where may she?". What a role permits and how rules are judged is core/policy's; this package
// gathers what policy needs from the store, in as few round trips as the question allows, and changes rules under the
// delegation guard.
//
// A rule is kept three times, written in one commit and never apart: as itself (store.Rule), in its subject's grants item
// of the cluster or account (store.Grants, a policy.EncodeGrants body: what a decision reads), and in the index of its
// scope (store.ClusterRule, the rule again as JSON: what sync reads). The same commit raises the tenant's revision,
// records the act and tells it, so changes of one tenant's rules happen one after the other.
package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// Service changes access rules and answers questions about them. DB and Now are needed.
type Service struct {
	DB  store.DB
	Now func() time.Time // UTC

	// Usable are the IDs of the connections to identity providers by which people of the tenant sign in: who belongs to another
	// one cannot act, so counts for no administrator. It is sso.Service.Usable: core/sso asks this package who administers. Its
	// changes write the tenant, so none can pass a change that expects the tenant as it was read. Optional: all of them.
	Usable func(ctx context.Context, t core.TenantID) ([]string, error)

	// parents remembers in which department a project was last seen, so that a decision can read both at once. It is a
	// hint: what is read decides, and a stale hint costs a round trip, never a wrong answer.
	mu      sync.Mutex
	parents map[store.Key]core.ScopeID
}

// NewRule is a rule to create. Names of fields in errors are the API's: subjectId, roleId, scopeId and so on.
type NewRule struct {
	Subject   core.Subject // its ID as a person typed it: it is brought into canonical form
	Role      core.RoleID
	Scope     core.ScopeID   // the tenant's id for the account
	ScopeKind core.ScopeKind // empty, or what the scope must be
	ExpiresAt time.Time      // zero: never; else in the future, kept to the second
	Reason    string         // free text of at most 500 bytes
}

// Ask is one question: may the subject do the action on the entity in the scope?
type Ask struct {
	Subject core.Subject
	Entity  policy.Entity
	Action  policy.Action
	Scope   core.ScopeID

	// UserID, if set, is which person is meant: one who was deleted, and another who came to have the same e-mail, are not
	// the same. A token says it.
	UserID core.UserID
}

// ErrBreakGlass refuses to take away the last administrator who can sign in if no identity provider answers, while the tenant
// enforces single sign-on.
var ErrBreakGlass = fmt.Errorf("while single sign-on is enforced, this is the last administrator among the break-glass people who has chosen a password: %w", core.Denied)

// ErrLastAdministrator refuses to take away the last rule by which a person, by name and without an end, is System
// administrator of the account: without one, nobody could ever give access again.
var ErrLastAdministrator = fmt.Errorf("this is the last person who is System administrator of the account by name and without an end; appoint another first: %w", core.Denied)

var (
	rules   store.Table[core.Rule]
	tenants store.Table[org.Tenant]
)

// Get reads a rule. An absent one is core.NotFound.
func (s *Service) Get(ctx context.Context, t core.TenantID, id core.RuleID) (core.Rule, error) {
	rec, err := rules.Get(ctx, s.DB, store.Rule(t, id))
	if err != nil {
		return core.Rule{}, fmt.Errorf("rule %d: %w", id, err)
	}
	return rec.Value, nil
}

// Decide answers a question, at the revision that it returns: every change acknowledged before the call is in it. A
// denial is an answer, not an error. For a person it takes two round trips to the store, and one more for every 49 groups
// beyond the first; for an application or a group, one.
func (s *Service) Decide(ctx context.Context, t core.TenantID, ask Ask) (policy.Decision, core.Revision, error) {
	v, err := s.DecideAll(ctx, t, ask)
	if err != nil {
		return policy.Decision{}, 0, err
	}
	return v[0].Decision, v[0].Revision, nil
}

// Verdict is a decision with what makes its reason readable.
type Verdict struct {
	policy.Decision
	Revision core.Revision // the tenant's, that the decision was made at
	name     func(core.ScopeID) string
}

// Why says the decision as a sentence, with the names of the scopes.
func (v Verdict) Why() string { return v.Reason(v.name) }

// WhyYou is Why, said to the subject that was asked about.
func (v Verdict) WhyYou() string { return v.Yours(v.name) }

// MaxAsks is how many questions one DecideAll takes.
const MaxAsks = 100

// DecideAll answers several questions at one and the same revision, in the round trips of one: what they need is read
// together. A tenant that there is not is core.NotFound; one that is suspended denies everything.
func (s *Service) DecideAll(ctx context.Context, t core.TenantID, asks ...Ask) ([]Verdict, error) {
	return s.decide(ctx, t, nil, asks)
}

func (s *Service) decide(ctx context.Context, t core.TenantID, caller *Caller, asks []Ask) ([]Verdict, error) {
	if len(asks) == 0 || len(asks) > MaxAsks {
		return nil, fmt.Errorf("access: %d questions at once, want 1 to %d: %w", len(asks), MaxAsks, core.Limit)
	}
	var out []Verdict
	err := s.snapshot(ctx, t, func(v *view) error {
		out, v.caller = out[:0], caller
		who := make([]standing, len(asks))
		for i, a := range asks {
			who[i] = standing{subject: a.Subject, scope: a.Scope, id: a.UserID}
		}
		if err := v.gather(ctx, who); err != nil {
			return err
		}
		for i, a := range asks {
			d := policy.Deny(who[i].code, a.Entity, a.Action, a.Scope)
			if who[i].stands() {
				d = policy.Decide(&v.grants, &policy.Request{Subjects: who[i].subjects, Path: who[i].path,
					Entity: a.Entity, Action: a.Action, Now: v.now.Unix()})
			}
			out = append(out, Verdict{d, v.meta.Value.Revision, v.name})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Allowed is nil if the actor may do the action on the entity in the scope; else core.Denied with the reason, or
// core.NotFound if there is no such scope, or no such active tenant.
func (s *Service) Allowed(ctx context.Context, actor core.Actor, e policy.Entity, a policy.Action, scope core.ScopeID) error {
	v, err := s.DecideAll(ctx, actor.Tenant, Ask{Subject: actor.Subject, Entity: e, Action: a, Scope: scope, UserID: actor.UserID})
	if err != nil {
		return err
	}
	switch {
	case v[0].Allowed:
		return nil
	case v[0].Code == policy.UnknownScope:
		return fmt.Errorf("scope: %w", core.NotFound)
	case v[0].Code == policy.TenantSuspended:
		return fmt.Errorf("tenant: %w", core.NotFound)
	}
	return fmt.Errorf("%s: %w", v[0].Why(), core.Denied)
}

// Permissions is everything that a subject may do in a scope now. A subject that is unknown or disabled may do nothing.
// A scope that there is not is core.NotFound.
func (s *Service) Permissions(ctx context.Context, t core.TenantID, who core.Subject, scope core.ScopeID) (policy.Permissions, error) {
	var held policy.Permissions
	err := s.snapshot(ctx, t, func(v *view) error {
		held = policy.Permissions{}
		w := []standing{{subject: who, scope: scope}}
		if err := v.gather(ctx, w); err != nil {
			return err
		}
		if w[0].code == policy.UnknownScope {
			return fmt.Errorf("scope: %w", core.NotFound)
		}
		if w[0].stands() {
			held = policy.Held(&v.grants, w[0].subjects, w[0].path, v.now.Unix())
		}
		return nil
	})
	return held, err
}

// RelevantGroups is those of the groups that have a live rule at the account or in the cluster, in the order given: what
// a token for that cluster has to carry. One round trip for up to 49 groups.
func (s *Service) RelevantGroups(ctx context.Context, t core.TenantID, groups []core.GroupName, c core.ClusterID) ([]core.GroupName, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	var out []core.GroupName
	err := s.snapshot(ctx, t, func(v *view) error {
		out = nil
		var keys []store.Key
		for _, g := range groups {
			keys = append(keys, grantsKeys(t, core.GroupSubject(g), core.ClusterScope(c))...)
		}
		if err := v.read(ctx, keys...); err != nil {
			return err
		}
		for _, g := range groups {
			for _, k := range grantsKeys(t, core.GroupSubject(g), core.ClusterScope(c)) {
				grants, err := policy.DecodeGrants(v.items[k].Body)
				if err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
				if anyLive(grants, v.now) {
					out = append(out, g)
					break
				}
			}
		}
		return nil
	})
	return out, err
}

func anyLive(grants []policy.Grant, now time.Time) bool {
	for _, g := range grants {
		if g.Live(now) {
			return true
		}
	}
	return false
}

// snapshot runs a read of several round trips until the tenant did not change between them.
func (s *Service) snapshot(ctx context.Context, t core.TenantID, read func(*view) error) error {
	err := store.Retry(ctx, func() error {
		return read(s.newView(t))
	})
	if errors.Is(err, errMoved) {
		return fmt.Errorf("tenant %s changed too often while it was read: %w", t, core.Unavailable)
	}
	return err
}
