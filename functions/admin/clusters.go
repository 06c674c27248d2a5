package admin

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sync"
)

func createCluster(c *call) (reply, error) {
	req, err := decode[api.ClusterRequest](c)
	if err != nil {
		return failed(err)
	}
	to, err := reach(req).Completed()
	if err != nil {
		return failed(err)
	}
	if err := c.keyFor(to); err != nil {
		return failed(err)
	}
	sc, err := c.Org.CreateCluster(c.ctx, c.actor, c.tenant, req.Name, to)
	if err != nil {
		return failed(err)
	}
	return created(c.wireCluster(sc))
}

func putCluster(c *call) (reply, error) {
	req, err := decode[api.ClusterRequest](c)
	if err != nil {
		return failed(err)
	}
	to, err := c.repoint(reach(req))
	if err != nil {
		return failed(err)
	}
	if err := c.keyFor(*cmp.Or(to, c.scope.Reach)); err != nil {
		return failed(err)
	}
	sc, err := c.Org.Replace(c.ctx, c.actor, c.tenant, c.scope.ID, req.Name, c.scope.Parent, to)
	if err != nil {
		return failed(err)
	}
	return ok(c.wireCluster(sc))
}

// repoint is how the cluster {id} is to be reached from now on; nil: as before, whatever that is by the time it is written.
//
// A change of it needs more than to edit the cluster. Whoever chooses the server and whom it is trusted by is shown the
// token by which sync writes access rules into the cluster, and whoever chooses the prefixes says who is who there: either
// way they come by what the highest role may do. So it is the delegation guard once more. A new cluster is another matter:
// its tokens have an audience of its own, which no cluster accepts that its administrator did not tell to.
func (c *call) repoint(to org.Reach) (*org.Reach, error) {
	to, err := to.Completed()
	if err != nil {
		return nil, err
	}
	now := *c.scope.Reach
	if now.Epoch, now.Abandon = to.Epoch, to.Abandon; to == now {
		return nil, nil
	}
	if err := c.holdsRole(policy.SystemAdministrator, c.scope.ID, access.Lasting); err != nil {
		return nil, fmt.Errorf("to change how a cluster is reached, or how names are written there: %w", err)
	}
	return &to, nil
}

// keyFor gives the tenant a key of the algorithm that a cluster verifies: RS256 keys are made when the first cluster asks
// for one. The key comes first. A key without a cluster harms nobody, but no token could be made for a cluster without one.
func (c *call) keyFor(to org.Reach) error {
	if alg := keys.Algorithm(to.Algorithm); alg != keys.ES256 {
		return c.Ring.Ensure(c.ctx, c.tenant, alg)
	}
	return nil
}

func reach(req api.ClusterRequest) org.Reach {
	return org.Reach{
		Mode: org.Mode(req.Mode), Server: req.Server, CA: req.CA, UserPrefix: req.UserPrefix, GroupPrefix: req.GroupPrefix,
		Unprefixed: req.Unprefixed, Algorithm: req.Algorithm, Abandon: req.Abandon,
	}
}

func getCluster(c *call) (reply, error) { return ok(c.wireCluster(c.scope)) }

func deleteCluster(c *call) (reply, error) { return c.deleteScope(policy.Department, policy.Project) }

// clusterTable is of clusters, which are in order of name. Filters do not seek by it: what a caller may view is often a list of
// single names, among which there is nothing to seek, and there are org.MaxClusters at most.
var clusterTable = table[org.Scope]{
	name: "clusters", natural: "name",
	fields: slices.Concat(scopeFields, []field[org.Scope]{
		textField("uuid", func(s org.Scope) string { return string(s.Cluster) }),
		textField("mode", func(s org.Scope) string { return string(reached(s).Mode) }),
		textField("server", func(s org.Scope) string { return reached(s).Server }).search(),
	}),
}

// reached is how a cluster is reached.
func reached(s org.Scope) org.Reach {
	if s.Reach == nil {
		return org.Reach{}
	}
	return *s.Reach
}

// listClusters reads the names of the clusters that the caller may view and those clusters, and nothing that lies in them.
func listClusters(c *call) (reply, error) {
	held, err := c.held(policy.Cluster, policy.View)
	if err != nil {
		return failed(err)
	}
	l, err := readListing(c, clusterTable)
	if err != nil {
		return failed(err)
	}
	names, err := c.Org.Names(c.ctx, c.tenant, org.Where{Kind: core.Cluster, Within: held})
	if err != nil {
		return failed(err)
	}
	f, err := l.page(c.named(names))
	if err != nil {
		return failed(err)
	}
	return answer(f, c.wireCluster)
}

func (c *call) wireCluster(sc org.Scope) api.Cluster {
	w := api.Cluster{
		UUID: sc.Cluster, Name: sc.Name, TenantID: c.tenant,
		CreatedAt: sc.CreatedAt, CreatedBy: by(sc.CreatedBy), UpdatedAt: sc.UpdatedAt,
	}
	if r := sc.Reach; r != nil {
		w.Mode, w.Server, w.CA = string(r.Mode), r.Server, r.CA
		w.UserPrefix, w.GroupPrefix, w.Unprefixed, w.Algorithm = r.UserPrefix, r.GroupPrefix, r.Unprefixed, r.Algorithm
	}
	return w
}

func (c *call) prefixes() kube.Prefixes {
	return kube.Prefixes{User: c.scope.Reach.UserPrefix, Group: c.scope.Reach.GroupPrefix}
}

func clusterBootstrap(c *call) (reply, error) {
	doc, _, err := kube.Bootstrap(c.prefixes())
	if err != nil {
		return failed(err)
	}
	return yaml(doc)
}

func clusterAuthentication(c *call) (reply, error) {
	doc, err := kube.Authentication(kube.Issuer{
		URL: c.Base + "/t/" + string(c.tenant), CA: c.IssuerCA, Audience: c.scope.Cluster, Prefixes: c.prefixes(),
	})
	if err != nil {
		return failed(err)
	}
	return yaml(doc)
}

// reconcileCluster asks for a full look at the cluster, soon: what differs is put right as by the timer.
func reconcileCluster(c *call) (reply, error) {
	err := c.Queue.Send(c.ctx, sync.Message{Tenant: c.tenant, Cluster: c.scope.Cluster, Full: true})
	if err != nil {
		return failed(err)
	}
	return accepted()
}

func clusterStatus(c *call) (reply, error) {
	st, err := c.Sync.Status(c.ctx, c.tenant, c.scope.Cluster)
	if err != nil {
		return failed(err)
	}
	return ok(api.ClusterStatus{
		UUID: c.scope.Cluster, Phase: phase(st, st.Wanted),
		RevisionWanted: st.Wanted, RevisionReached: st.Reached, BehindSince: st.WantedSince,
		ReachedAt: st.ReachedAt, TriedAt: st.TriedAt, ReconciledAt: st.FullAt,
		LastError: st.LastError, LastErrorAt: st.LastErrorAt, Failures: st.Failures, Terminal: st.Terminal,
		RetryAt: st.RetryAt, GivenUpAt: st.GivenUpAt,
		Bootstrap: st.Bootstrap, Pending: st.Counts.Pending, Problems: append([]string{}, st.Problems...),
	})
}

// phase says how far a cluster is on its way to a revision.
func phase(st sync.Status, to core.Revision) api.Phase {
	switch {
	case st.LastError != "":
		return api.PhaseNotReady
	case st.ReachedAt.IsZero() || st.Reached < to:
		return api.PhaseCreating
	}
	return api.PhaseReady
}

// ruleState gathers how far the clusters that a rule concerns have followed: its own, or all of them. A rule's id is the
// revision that it came with, so a cluster that has reached that holds it.
func (c *call) ruleState(r core.Rule) (api.AccessRuleState, error) {
	clusters := []core.ClusterID{}
	if one, in := r.Scope.ClusterOf(); in {
		clusters = append(clusters, one)
	} else {
		account := org.Scope{ID: core.AccountScope(c.tenant), Kind: core.Account}
		names, err := c.Org.Names(c.ctx, c.tenant, org.Where{Kind: core.Cluster, Within: []org.Scope{account}})
		if err != nil {
			return api.AccessRuleState{}, err
		}
		for e, err := range c.named(names)(start{want: org.MaxClusters}) {
			if err != nil {
				return api.AccessRuleState{}, err
			}
			clusters = append(clusters, e.value.Cluster)
		}
	}
	by := map[api.Phase][]core.ClusterID{}
	for _, id := range clusters {
		st, err := c.Sync.Status(c.ctx, c.tenant, id)
		if err != nil {
			return api.AccessRuleState{}, err
		}
		p := phase(st, core.Revision(r.ID))
		by[p] = append(by[p], id)
	}
	state := stateIn(api.PhaseReady)
	for _, p := range []api.Phase{api.PhaseCreating, api.PhaseNotReady} {
		if len(by[p]) > 0 {
			state = stateIn(p)
		}
	}
	for _, p := range []api.Phase{api.PhaseNotReady, api.PhaseCreating, api.PhaseReady} {
		if len(by[p]) > 0 {
			if state.Details != "" {
				state.Details += "; "
			}
			state.Details += fmt.Sprintf("%s: %v", p, by[p])
		}
	}
	return state, nil
}
