package sync

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
)

// A round that wrote something to a cluster leaves one audit record, which names the writes as the cluster's own audit log
// does, as far as the cluster told. It is in the first commit that the run makes after the round, and costs none of its own.
// So a run that is killed in between leaves no record, and one whose commit was made without an answer may leave it twice:
// the record is for finding in the cluster's log what a revision did, and that log is complete.

// maxAuditIDs is how many writes a record names. A round of more says how many they were.
const maxAuditIDs = 50

// written is what a round wrote and the cluster acknowledged.
type written struct {
	namespaces, bindings int
	ids                  []string
}

// add counts a write that was made.
func (w *written) add(o kube.Object) {
	if o.Kind == kube.Namespace {
		w.namespaces++
	} else {
		w.bindings++
	}
	if o.AuditID != "" && len(w.ids) < maxAuditIDs {
		w.ids = append(w.ids, o.AuditID)
	}
}

// String is "1 namespace and 2 bindings written".
func (w *written) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{w.namespaces, "namespace"}, {w.bindings, "binding"}} {
		if p.n > 1 {
			p.what += "s"
		}
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, " and ") + " written"
}

// account makes the record of a round, if it wrote something.
func (r *run) account(whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.written
	r.written = written{}
	if w.namespaces+w.bindings == 0 {
		return
	}
	applied := "applied"
	if !whole {
		applied = "applied in part"
	}
	scope := core.ClusterScope(r.message.Cluster)
	r.unrecorded = append(r.unrecorded, audit.Record{
		Action: audit.Update, EntityType: audit.EntityCluster, EntityID: string(scope), Name: r.name, Scope: scope, Cluster: r.message.Cluster,
		Reason:             fmt.Sprintf("revision %d %s: %s", r.revision, applied, &w),
		KubernetesAuditIDs: w.ids,
	})
}

// takeRecords takes the records that no commit holds yet.
func (r *run) takeRecords() []audit.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.unrecorded
	r.unrecorded = nil
	return list
}

// keep gives back the records that were taken, for the next commit.
func (r *run) keep(list []audit.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unrecorded = append(list, r.unrecorded...)
}

// ops makes the operations that write records. Each call makes others, with ids of their own: a commit may be tried again
// that has been made, and must not fail for that.
func (r *run) ops(ctx context.Context, list []audit.Record) ([]store.Op, error) {
	actor := trace.Actor(ctx, core.SystemActor(r.message.Tenant))
	actor.Request = cmp.Or(r.message.Request, actor.Request)
	out := make([]store.Op, len(list))
	for i, rec := range list {
		var err error
		if out[i], err = audit.Op(actor, r.Now(), rec); err != nil {
			return nil, err
		}
	}
	return out, nil
}
