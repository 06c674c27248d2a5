package admin

import (
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

// stateIn is the state of a rule in a phase.
func stateIn(p api.Phase) api.AccessRuleState {
	message := "every cluster concerned obeys it"
	switch p {
	case api.PhaseNotReady:
		message = "a cluster has not taken it yet, and is tried again"
	case api.PhaseCreating:
		message = "on its way to the clusters"
	case api.PhaseDeleting:
		message = "it was deleted"
	}
	return api.AccessRuleState{Phase: p, Message: message}
}

// ruleStates is the state of each of the rules that lie in one cluster, for a page of them: one round trip, or as few as 100
// clusters each take. A rule of the account concerns every cluster of the tenant, which a page is not to cost, so it has none
// here: see ruleState.
func (c *call) ruleStates(rules []core.Rule) (map[core.RuleID]api.AccessRuleState, error) {
	var clusters []core.ClusterID
	for _, r := range rules {
		if id, in := r.Scope.ClusterOf(); in {
			clusters = append(clusters, id)
		}
	}
	known, err := c.Sync.Statuses(c.ctx, c.tenant, clusters)
	if err != nil {
		return nil, err
	}
	states := map[core.RuleID]api.AccessRuleState{}
	for _, r := range rules {
		if id, in := r.Scope.ClusterOf(); in {
			states[r.ID] = stateIn(phase(known[id], core.Revision(r.ID)))
		}
	}
	return states, nil
}
