// Package dispatch is the function behind the store's change stream. It turns a fact into messages, one for each cluster
// that the fact may concern, and touches no cluster: a stream delivers everything from its lowest failure again, so one
// slow cluster here would hold up every tenant.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
)

// Deps is what the function needs.
type Deps struct {
	DB        store.DB
	Directory *directory.Service
	Sync      *sync.Service
	Queue     sync.Queue
	Log       *slog.Logger // default slog.Default()
}

// Handle takes one event as it left the outbox. An error means that the store or the queue does not answer, and asks for the
// event again; events may come twice, late and in any order.
//
// Whatever else is wrong, with the event or with us, would be so the next time, and everything behind the event would wait.
// So it is parked and acknowledged: a dead letter of its tenant, to be replayed when the cause is mended.
func Handle(ctx context.Context, d Deps, body []byte) error {
	env, fact, err := events.Decode(body)
	if err == nil {
		_, err = core.ParseTenantID("source", env.Tenant)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", sync.ErrUnreadable, err)
	} else {
		err = handle(ctx, d, env, fact)
	}
	if err == nil || again(ctx, err) {
		return err
	}
	tenant, odd := core.ParseTenantID("source", env.Tenant)
	if odd != nil {
		tenant = ""
	}
	d.log().ErrorContext(ctx, "dispatch: event parked", "error", err, "event", env.ID, "tenant", tenant, "bytes", len(body))
	if err := d.Sync.Park(ctx, tenant, body, core.RequestID(env.Request), err); err != nil {
		return fmt.Errorf("dispatch: event parked: %w", err)
	}
	return nil
}

func (d Deps) log() *slog.Logger {
	if d.Log != nil {
		return d.Log
	}
	return slog.Default()
}

// errQueue says that the queue did not take the messages, whatever kind of error it gave for it.
var errQueue = errors.New("the queue")

// again says whether an event may fare better the next time.
func again(ctx context.Context, err error) bool {
	for _, kind := range []error{core.Unavailable, core.Throttled, core.Conflict, errQueue, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return ctx.Err() != nil
}

// handle queues what a fact asks for. A panic is an error, as if the event could not be read; its value may quote what is
// nobody's business, so only its type and the stack are logged.
func handle(ctx context.Context, d Deps, env events.Envelope, fact events.Fact) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log().ErrorContext(ctx, "panic", "function", "dispatch", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("dispatch: the handler panicked")
		}
	}()
	tenant := core.TenantID(env.Tenant)
	clusters, revision, err := concerned(ctx, d, tenant, fact)
	if err == nil {
		err = d.Sync.Wanted(ctx, tenant, clusters, revision)
	}
	switch {
	case err != nil:
		return fmt.Errorf("dispatch: %s: %w", fact.Type(), err)
	case len(clusters) == 0:
		return nil
	}
	messages := make([]sync.Message, len(clusters))
	for i, c := range clusters {
		messages[i] = sync.Message{Tenant: tenant, Cluster: c, Revision: revision}
	}
	ends, err := endingSoon(ctx, d.DB, tenant, fact)
	if err != nil {
		return fmt.Errorf("dispatch: %w", err)
	}
	for _, at := range ends {
		for _, c := range clusters {
			messages = append(messages, sync.Message{Tenant: tenant, Cluster: c, NotBefore: at})
		}
	}
	if err := d.Queue.Send(ctx, messages...); err != nil {
		return fmt.Errorf("dispatch: %w: %w", errQueue, err)
	}
	d.log().InfoContext(ctx, "dispatched", "tenant", tenant, "request", env.Request, "type", fact.Type(), "revision", revision, "clusters", len(clusters))
	return nil
}

// soon is how short a life of a rule may escape functions/maintain, which looks a minute ahead, once a minute.
const soon = 2 * time.Minute

var rules store.Table[core.Rule]

// endingSoon returns when those of a fact's rules end that maintain may come too late for: their clusters are looked at
// again at that very time.
func endingSoon(ctx context.Context, db store.DB, t core.TenantID, fact events.Fact) ([]time.Time, error) {
	f, ok := fact.(events.AccessChanged)
	if !ok || len(f.Rules) == 0 || len(f.Rules) > store.MaxGet {
		return nil, nil
	}
	keys := make([]store.Key, len(f.Rules))
	for i, id := range f.Rules {
		keys[i] = store.Rule(t, core.RuleID(id))
	}
	items, err := db.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var ends []time.Time
	for _, it := range items {
		r, err := rules.Decode(it)
		if err != nil {
			return nil, err
		}
		if end := r.Value.ExpiresAt; r.Exists() && !end.IsZero() && end.Sub(r.Value.CreatedAt) < soon && !slices.Contains(ends, end) {
			ends = append(ends, end)
		}
	}
	return ends, nil
}

// concerned returns the clusters that may have to change because of a fact, and the revision they shall come to.
func concerned(ctx context.Context, d Deps, t core.TenantID, fact events.Fact) ([]core.ClusterID, core.Revision, error) {
	switch f := fact.(type) {
	case events.AccessChanged:
		if f.All {
			all, err := clusters(ctx, d.DB, t)
			return all, core.Revision(f.Revision), err
		}
		named := make([]core.ClusterID, 0, len(f.Clusters))
		for _, c := range f.Clusters {
			named = append(named, core.ClusterID(c))
		}
		return named, core.Revision(f.Revision), nil

	case events.ScopeChanged:
		if f.Cluster != "" {
			return []core.ClusterID{core.ClusterID(f.Cluster)}, core.Revision(f.Revision), nil
		}

	case events.UserChanged:
		if f.Revision == 0 {
			return nil, 0, nil // access is not touched
		}
		user, err := d.Directory.UserByID(ctx, t, core.UserID(f.User))
		if errors.Is(err, core.NotFound) { // deleted: nobody knows any more where there were rules
			all, err := clusters(ctx, d.DB, t)
			return all, core.Revision(f.Revision), err
		}
		if err != nil {
			return nil, 0, err
		}
		return boundIn(ctx, d.DB, t, core.UserSubject(user.Value.Email), f.Revision)

	case events.ApplicationChanged:
		if f.Revision == 0 {
			return nil, 0, nil
		}
		return boundIn(ctx, d.DB, t, core.ApplicationSubject(core.ApplicationID(f.Application)), f.Revision)

	case events.TenantChanged:
		all, err := clusters(ctx, d.DB, t) // to be cleaned, or to be looked at again
		return all, 0, err
	}
	return nil, 0, nil // keys: clusters fetch them by themselves. Identity providers: clusters know nothing of them
}

// clusters returns every cluster of a tenant, by the index of their names.
func clusters(ctx context.Context, db store.DB, t core.TenantID) ([]core.ClusterID, error) {
	var out []core.ClusterID
	for rec, err := range (store.Table[core.ScopeID]{}).List(ctx, db, store.ScopeNames(t, core.AccountScope(t), core.Cluster)) {
		if err != nil {
			return nil, err
		}
		if c, ok := rec.Value.ClusterOf(); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// boundIn returns the clusters where a subject has rules: all of them if it has one at the account.
func boundIn(ctx context.Context, db store.DB, t core.TenantID, who core.Subject, rev uint64) ([]core.ClusterID, core.Revision, error) {
	all, err := clusters(ctx, db, t)
	if err != nil || len(all) == 0 {
		return nil, 0, err
	}
	keys := []store.Key{store.Grants(t, who, store.InAccount)}
	for _, c := range all {
		keys = append(keys, store.Grants(t, who, store.InCluster(c)))
	}
	var out []core.ClusterID
	for at := 0; at < len(keys); at += store.MaxGet {
		items, err := db.Get(ctx, keys[at:min(len(keys), at+store.MaxGet)]...)
		if err != nil {
			return nil, 0, err
		}
		for i, it := range items {
			switch {
			case it.Version == 0:
			case at+i == 0:
				return all, core.Revision(rev), nil
			default:
				out = append(out, all[at+i-1])
			}
		}
	}
	return out, core.Revision(rev), nil
}
