package admin

import (
	"fmt"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

// A list says of the rules of a cluster what each by itself says, but for the details, and nothing of those of the account.
func TestPhasesInLists(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	one, other, failing := w.project(acme), w.project(acme), w.project(acme)
	for _, scope := range []core.ScopeID{one.ID, other.ID, one.ID, failing.ID, core.AccountScope(acme)} {
		w.grant(acme, core.GroupSubject(core.GroupName(w.name("g"))), policy.Viewer, scope)
	}
	var statuses store.Table[sync.Status]
	for cluster, st := range map[core.ClusterID]sync.Status{
		one.Cluster:     {Reached: 1 << 20, ReachedAt: w.Now()},
		failing.Cluster: {Reached: 1 << 20, ReachedAt: w.Now(), LastError: "no route to host"},
	} {
		op, err := statuses.Put(store.Sync(acme, cluster), 0, st)
		w.must(err)
		w.must(w.DB.Commit(t.Context(), op))
	}
	want := map[core.ClusterID]api.Phase{one.Cluster: api.PhaseReady, other.Cluster: api.PhaseCreating, failing.Cluster: api.PhaseNotReady}
	list := into[api.AccessRuleList](t, w.as(admin, "GET", "/authorization/access-rules", "").want(t, 200))
	told := 0
	for _, r := range list.AccessRules {
		single := into[api.AccessRule](t, w.as(admin, "GET", fmt.Sprintf("/authorization/access-rules/%d", r.ID), "").want(t, 200)).Status
		single.Details = ""
		switch {
		case r.ClusterID == "" && r.Status != (api.AccessRuleState{}):
			t.Errorf("rule %d of the account: %+v", r.ID, r.Status)
		case r.ClusterID != "" && (r.Status != single || r.Status.Phase != want[r.ClusterID]):
			t.Errorf("rule %d: %+v in the list, and %+v by itself", r.ID, r.Status, single)
		case r.ClusterID != "":
			told++
		}
	}
	if told != 4 {
		t.Errorf("the phases of %d rules", told)
	}
}
