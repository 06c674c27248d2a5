package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sync"
)

// dryRun is the parameter that asks what a change of access rules would do, instead of making it.
const dryRun = "dryRun"

// previewRules answers what a change of rules would do, with every check and guard of the change itself, and writes nothing.
// See sync.Service.Preview for what is compared and what that costs.
func (c *call) previewRules(create []access.NewRule, remove []core.RuleID) (reply, error) {
	p, err := c.foresee(func(ctx context.Context) (sync.RuleChange, error) {
		made, gone, err := c.Access.Preview(ctx, c.actor, create, remove)
		return sync.RuleChange{Made: made, Gone: gone}, err
	})
	if err != nil {
		return failed(err)
	}
	return reply{status: http.StatusOK, json: p, dry: true}, nil
}

// foreseeEach is a preview of rules that are judged one by one: of those that would be made, or taken away.
func (c *call) foreseeEach(judge func(context.Context) ([]access.Outcome, error), makes bool) (done []access.Outcome, p api.RulePreview, err error) {
	p, err = c.foresee(func(ctx context.Context) (change sync.RuleChange, err error) {
		if done, err = judge(ctx); err != nil {
			return change, err
		}
		for _, d := range done {
			switch {
			case d.Err != nil:
			case makes:
				change.Made = append(change.Made, d.Rule)
			default:
				change.Gone = append(change.Gone, d.Rule)
			}
		}
		return change, nil
	})
	return done, p, err
}

// foresee is a change's preview on the wire.
func (c *call) foresee(plan func(context.Context) (sync.RuleChange, error)) (api.RulePreview, error) {
	none := api.RulePreview{}
	f, err := c.Sync.Preview(c.ctx, c.tenant, plan)
	if err != nil {
		return none, err
	}
	whole, err := c.seesRulesOf(f.Clusters)
	if err != nil {
		return none, err
	}
	out := api.RulePreview{DryRun: true, More: f.More}
	concerned := map[core.Subject]bool{}
	for _, list := range []struct {
		from []core.Rule
		to   *[]api.AccessRule
	}{{f.Change.Made, &out.Rules.Create}, {f.Change.Gone, &out.Rules.Delete}} {
		names, err := c.scopeNames(list.from)
		if err != nil {
			return none, err
		}
		*list.to = each(list.from, func(r core.Rule) api.AccessRule { return c.wireRule(r, names) })
		for _, r := range list.from {
			concerned[r.Subject] = true
		}
	}
	out.Clusters = make([]api.ClusterPreview, len(f.Clusters))
	for i, cl := range f.Clusters {
		out.Clusters[i] = wireForecast(cl, whole[i], concerned)
	}
	return out, nil
}

// seesRulesOf says of which clusters the caller may view the access rules, in two round trips. Who may not, and gives rules
// in a project only, must not find out by asking who else has what in the cluster.
func (c *call) seesRulesOf(clusters []sync.ClusterForecast) ([]bool, error) {
	sees := make([]bool, len(clusters))
	if len(clusters) == 0 {
		return sees, nil
	}
	asks := make([]access.Ask, len(clusters))
	for i, cl := range clusters {
		asks[i] = access.Ask{Subject: c.actor.Subject, UserID: c.actor.UserID, Entity: policy.AccessRules, Action: policy.View, Scope: cl.Cluster.ID}
	}
	verdicts, err := c.Access.DecideAll(c.ctx, c.tenant, asks...)
	if err != nil {
		return nil, err
	}
	for i, v := range verdicts {
		sees[i] = v.Allowed
	}
	return sees, nil
}

// wireForecast is what would change in a cluster, as far as the caller may know it: see api.ClusterPreview.Partial.
func wireForecast(f sync.ClusterForecast, whole bool, concerned map[core.Subject]bool) api.ClusterPreview {
	out := api.ClusterPreview{
		ClusterID: f.Cluster.Cluster, ClusterName: f.Cluster.Name, Partial: !whole, Changes: []api.ClusterChange{},
		Phase: phase(f.Status, f.Status.Wanted), Behind: f.Status.ReachedAt.IsZero() || f.Status.Reached < f.Status.Wanted,
	}
	subjects := func(list []kube.Subject) []api.ClusterSubject {
		shown := []api.ClusterSubject{}
		for _, s := range list {
			w := api.ClusterSubject{Kind: string(s.Kind), Name: s.Name}
			who, ours := f.Prefixes.Parse(s)
			if ours {
				w.SubjectType, w.SubjectID = api.SubjectTypeOf(who.Kind), who.ID
			}
			if whole || concerned[who] {
				shown = append(shown, w)
			}
		}
		return shown
	}
	for _, d := range f.Changes {
		w := api.ClusterChange{
			Verb: api.ChangeVerb(d.Verb), Kind: string(d.Ref.Kind), Namespace: d.Ref.Namespace, Name: d.Ref.Name, Role: d.Role,
			Adds: subjects(d.Adds), Removes: subjects(d.Removes), Empties: d.Verb == kube.Update && d.Left == 0,
		}
		if whole || d.Ref.Kind != kube.ClusterRoleBinding && len(w.Adds)+len(w.Removes) > 0 {
			out.Changes = append(out.Changes, w)
		}
	}
	if whole {
		for _, p := range f.Problems {
			out.Problems = append(out.Problems, p.String())
		}
	}
	slices.Sort(out.Problems)
	return out
}
