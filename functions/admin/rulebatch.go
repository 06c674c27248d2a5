package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/web"
)

// batchRules deletes rules, each judged by itself, or says what would come of that.
func batchRules(c *call) (reply, error) {
	req, err := decode[api.AccessRuleBatch](c)
	if err != nil {
		return failed(err)
	}
	switch {
	case req.Action != api.BatchDelete && req.Action != api.BatchValidateDelete:
		return failed(core.BadField("action", "must be "+api.BatchDelete+" or "+api.BatchValidateDelete))
	case len(req.IDs) == 0 || len(req.IDs) > access.MaxEach:
		return failed(core.BadField("ids", fmt.Sprintf("must be 1 to %d ids of access rules", access.MaxEach)))
	}
	if err := c.holdsSomewhere(policy.AccessRules, policy.Delete); err != nil {
		return failed(err)
	}
	dry, err := c.flag(dryRun)
	if err != nil {
		return failed(err)
	}
	var done []access.Outcome
	var preview api.RulePreview
	if dry {
		done, preview, err = c.foreseeEach(func(ctx context.Context) ([]access.Outcome, error) {
			return c.Access.DeleteEach(ctx, c.actor, req.IDs, true)
		}, false)
	} else {
		done, err = c.Access.DeleteEach(c.ctx, c.actor, req.IDs, req.Action == api.BatchValidateDelete)
	}
	if err != nil {
		return failed(err)
	}
	out := api.AccessRuleBatchResult{ID: web.RequestID(c.ctx), Succeeded: []core.RuleID{}, Failed: []api.AccessRuleFailure{}, Preview: preview}
	for i, d := range done {
		if d.Err == nil {
			out.Succeeded = append(out.Succeeded, req.IDs[i])
			continue
		}
		if errors.Is(d.Err, core.NotFound) {
			d.Err = errUnseenRule
		}
		code, message, err := c.whyNot(d, policy.Delete, errUnseenRule)
		if err != nil {
			return failed(err)
		}
		out.Failed = append(out.Failed, api.AccessRuleFailure{ID: req.IDs[i], Code: code, Message: message})
	}
	return reply{status: http.StatusOK, json: out, denied: deniedOf(done)}, nil
}

// batchCreateRules makes a rule for every subject in every scope, each judged by itself.
func batchCreateRules(c *call) (reply, error) {
	req, err := decode[api.AccessRuleBatchCreate](c)
	if err != nil {
		return failed(err)
	}
	wanted, err := matrix(req.Payload)
	if err != nil {
		return failed(err)
	}
	if err := c.holdsSomewhere(policy.AccessRules, policy.Create); err != nil {
		return failed(err)
	}
	dry, err := c.flag(dryRun)
	if err != nil {
		return failed(err)
	}
	preview := api.RulePreview{DryRun: dry}
	done := make([]access.Outcome, len(wanted))
	var rules []access.NewRule
	var at []int // the place of each of them in wanted
	for i, w := range wanted {
		n, err := c.newRule(w)
		if err != nil {
			done[i].Err = err
			continue
		}
		rules, at = append(rules, n), append(at, i)
	}
	if len(rules) > 0 {
		var made []access.Outcome
		if dry {
			made, preview, err = c.foreseeEach(func(ctx context.Context) ([]access.Outcome, error) {
				return c.Access.PreviewEach(ctx, c.actor, rules)
			}, true)
		} else {
			made, err = c.Access.CreateEach(c.ctx, c.actor, rules)
		}
		if err != nil {
			return failed(err)
		}
		for j, d := range made {
			done[at[j]] = d
		}
	}
	var created []core.Rule
	out := api.AccessRuleBatchCreateResult{Failed: []api.AccessRuleCreateFailure{}, Preview: preview}
	for i, d := range done {
		if d.Err == nil {
			created = append(created, d.Rule)
			continue
		}
		code, message, err := c.whyNot(d, policy.Create, errUnseenScope)
		if err != nil {
			return failed(err)
		}
		out.Failed = append(out.Failed, api.AccessRuleCreateFailure{Payload: wanted[i], Code: code, Message: message})
	}
	names, err := c.scopeNames(created)
	if err != nil {
		return failed(err)
	}
	out.Succeeded = each(created, func(r core.Rule) api.AccessRule { return c.wireRule(r, names) })
	return reply{status: http.StatusOK, json: out, denied: deniedOf(done)}, nil
}

// matrix spells every combination out as a request of its own.
func matrix(m api.AccessRuleMatrix) ([]api.AccessRuleRequest, error) {
	switch n := len(m.Subjects) * len(m.Scopes); {
	case len(m.Subjects) == 0:
		return nil, core.BadField("payload/subjects", "must name a subject at least")
	case len(m.Scopes) == 0:
		return nil, core.BadField("payload/scopes", "must name a scope at least")
	case n > access.MaxEach:
		return nil, core.BadField("payload", fmt.Sprintf("makes %d access rules, of at most %d; ask for fewer at once", n, access.MaxEach))
	}
	for i, s := range m.Subjects {
		if s.ID != "" && s.SubjectID != "" || s.Type != "" && s.SubjectType != "" {
			return nil, core.BadField(fmt.Sprintf("payload/subjects/%d", i), "says the same twice; give id and type")
		}
	}
	for i, s := range m.Scopes {
		if s.ID != "" && s.ScopeID != "" || s.Type != "" && s.ScopeType != "" {
			return nil, core.BadField(fmt.Sprintf("payload/scopes/%d", i), "says the same twice; give id and type")
		}
	}
	var all []api.AccessRuleRequest
	for _, who := range m.Subjects {
		for _, where := range m.Scopes {
			all = append(all, api.AccessRuleRequest{
				SubjectID: cmp.Or(who.ID, who.SubjectID), SubjectType: cmp.Or(who.Type, who.SubjectType), RoleID: m.RoleID,
				ScopeID: cmp.Or(where.ID, where.ScopeID), ScopeType: cmp.Or(where.Type, where.ScopeType), ClusterID: m.ClusterID,
				ExpiresAt: m.ExpiresAt, Reason: m.Reason,
			})
		}
	}
	return all, nil
}

var (
	errUnseenRule  = fmt.Errorf("access rule: %w", core.NotFound)
	errUnseenScope = fmt.Errorf("scopeId: %w", core.NotFound)
)

// whyNot says why a rule was not made or taken away, as the same request for this rule alone would. What went wrong on our side
// is told to nobody.
func (c *call) whyNot(d access.Outcome, a policy.Action, unseen error) (code int, message string, err error) {
	shown, err := c.told(d.Err, a, d.Rule.Scope, unseen)
	if err != nil {
		return 0, "", err
	}
	code, kind := web.Status(shown)
	switch kind {
	case "":
		web.NoteError(c.ctx, shown)
		return code, "something went wrong on our side; it has been logged", nil
	case core.Unavailable:
		return code, "temporarily unavailable; try again shortly", nil
	}
	return code, strings.TrimSpace(shown.Error()), nil
}
