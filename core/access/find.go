package access

import (
	"cmp"
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

// Search is a question with one part left out, which is what is looked for: who may do something in a scope (FindSubjects),
// where somebody may do it (FindScopes), or what somebody may do there (FindActions). What is found is exactly what Decide
// says yes to, each once, as long as nothing changes between the pages.
type Search struct {
	Subject core.Subject // FindSubjects heeds its kind alone
	UserID  core.UserID  // if set, which person is meant, as with Ask
	Entity  policy.Entity
	Action  policy.Action // not of FindActions
	Scope   core.ScopeID  // not of FindScopes

	After string // Found.Next of the page before; empty: the first page
	Limit int    // 1 to MaxFound; 0: DefaultPage
}

// Found is a page of what a Search finds.
type Found[T any] struct {
	Results  []T
	Next     string        // where the next page begins; empty: there is none. A page may be short, even empty, and have it
	Revision core.Revision // the tenant's, that every result is true at
}

// MaxFound is how many results a page has at most.
const MaxFound = MaxPage

// maxLooked is how many rules, members or scopes one page looks at. A page that comes to it ends there, so that what it costs
// does not grow with what there is to pass by.
const maxLooked = 1000

// groupLooks is what it counts to look up who is in a group: a round trip, which a rule or a member is not.
const groupLooks = 20

// errAfter refuses a place that no page ended at.
var errAfter = core.BadField("After", "is not the Next of a page")

func (q *Search) check() error {
	if q.Limit < 0 || q.Limit > MaxFound {
		return core.BadField("Limit", fmt.Sprintf("must be from 1 to %d", MaxFound))
	}
	q.Limit = cmp.Or(q.Limit, DefaultPage)
	return nil
}

// aboutSelf says whether a caller asks about itself.
func (q *Search) aboutSelf(c Caller) bool { return q.Subject == c.Subject && q.UserID == c.UserID }

// mayAsk is nil if the caller may view the access rules where it stands: who answers for a scope may know who comes to it,
// those included who come by a rule above, which the list of rules would not show. Else it is core.Denied with the reason.
func (v *view) mayAsk(caller *standing) error {
	d := policy.Deny(caller.code, policy.AccessRules, policy.View, caller.scope)
	if caller.stands() {
		d = policy.Decide(&v.grants, v.request(caller, policy.AccessRules, policy.View))
	}
	if d.Allowed {
		return nil
	}
	return fmt.Errorf("to ask about others, the caller %s: %w", d.Reason(v.name), core.Denied)
}

// request is a question about a standing that gather has seen.
func (v *view) request(w *standing, e policy.Entity, a policy.Action) *policy.Request {
	return &policy.Request{Subjects: w.subjects, Path: w.path, Entity: e, Action: a, Now: v.now.Unix()}
}

// nobody says whether all questions there have the same answer, no, which anybody may hear: there is no such scope, or the
// tenant is suspended.
func (w *standing) nobody() bool {
	return w.code == policy.UnknownScope || w.code == policy.TenantSuspended
}

// FindActions finds what a subject may do to an entity in a scope. About others it is answered to who may view the access rules
// there, else core.Denied. It costs the round trips of a decision.
func (s *Service) FindActions(ctx context.Context, c Caller, q Search) (Found[policy.Action], error) {
	var out Found[policy.Action]
	if err := q.check(); err != nil {
		return out, err
	}
	from := 0
	if q.After != "" {
		if _, err := fmt.Sscanf(q.After, "%d", &from); err != nil || from < 1 || from > len(policy.Actions()) || fmt.Sprint(from) != q.After {
			return out, errAfter
		}
	}
	err := s.snapshot(ctx, c.Tenant, func(v *view) error {
		out, v.caller = Found[policy.Action]{}, &c
		who := []standing{{subject: q.Subject, scope: q.Scope, id: q.UserID}, {subject: c.Subject, scope: q.Scope, id: c.UserID}}
		if err := v.gather(ctx, who); err != nil {
			return err
		}
		out.Revision = v.meta.Value.Revision
		if who[1].nobody() {
			return nil
		}
		if !q.aboutSelf(c) {
			if err := v.mayAsk(&who[1]); err != nil {
				return err
			}
		}
		if !who[0].stands() {
			return nil
		}
		for i, a := range policy.Actions()[from:] {
			if !policy.Decide(&v.grants, v.request(&who[0], q.Entity, a)).Allowed {
				continue
			}
			if len(out.Results) == q.Limit {
				out.Next = fmt.Sprint(from + i)
				return nil
			}
			out.Results = append(out.Results, a)
		}
		return nil
	})
	return out, err
}
