// Package maintain is the function that a schedule calls each minute. It carries out what the due index says: access rules
// expire, keys rotate, clusters are reconciled, identity providers are read again, audit records are sealed, deleted scopes are
// swept and erased tenants deleted. What each of these means is its own package's business.
//
// A job leaves the index when it was carried out, never before, so a run that is killed loses nothing. Two runs at once
// may both carry out a job, which every job bears, and one of them takes it out.
package maintain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	gosync "sync"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/transfer"
)

// Every is how often the schedule calls Handle.
const Every = time.Minute

const (
	workers    = 16               // tenants worked for side by side; the jobs of one are done one after the other
	jobTimeout = 20 * time.Second // of one job; the next run goes on where it ended

	// leaveGrace is how long a deleted cluster is given to be cleaned of our objects. One that does not answer for so long
	// is gone for good.
	leaveGrace = 7 * 24 * time.Hour
)

// Deps is what the function needs. All fields are needed but WelcomeHash, Log and Budget, and SSO where no tenant has an identity
// provider.
type Deps struct {
	DB     store.DB
	Org    *org.Service
	Access *access.Service
	Ring   *keys.Ring
	Sync   *sync.Service
	SSO    *sso.Service
	Queue  sync.Queue
	Log    *slog.Logger // default slog.Default()

	// WelcomeHash is the SHA-256 of the first operator's welcome token, as org.ParseWelcomeHash gives it; "": none was chosen.
	WelcomeHash string

	// Budget is how long one run goes on beginning jobs of one tenant. What is left then stays for the next run. Default 30
	// seconds, so that a tenant with the slowest of jobs is through before the next run comes.
	Budget time.Duration
}

// Handle carries out everything that falls due before the next run, and sees to it that there are operators. What must happen at its very time, not up to a minute
// late, is queued with that time. No tenant waits for another's jobs: each has a budget, and those with the fewest jobs
// come first. Each job fails alone, is logged, and stays for the next run; the error says how many failed. An index that
// cannot be read, and a run that was ended early, is an error too.
func Handle(ctx context.Context, d Deps, now time.Time) error {
	r := &run{Deps: d, now: now.UTC()}
	if r.Log == nil {
		r.Log = slog.Default()
	}
	if r.Budget <= 0 {
		r.Budget = Every / 2
	}
	founded := r.operators(ctx)
	all, failed := r.list(ctx)
	failed = errors.Join(founded, failed)
	work := make(chan *agenda)
	var working gosync.WaitGroup
	for range min(workers, len(all)) {
		working.Go(func() {
			for a := range work {
				r.carryOutAll(ctx, a)
			}
		})
	}
	for _, a := range all {
		work <- a
	}
	close(work)
	working.Wait()
	failed = errors.Join(failed, ctx.Err())
	if n := len(r.failures); n > 0 {
		failed = errors.Join(failed, fmt.Errorf("maintain: %d jobs failed, the first: %w", n, r.failures[0]))
	}
	return failed
}

type run struct {
	Deps
	now time.Time

	mu       gosync.Mutex
	failures []error
}

// carryOutAll works for one tenant. What must be on time comes first, and last what there may be very much of, so that a
// tenant's thousands of expired rules, which count for nothing any more, hold up nothing of its own either.
func (r *run) carryOutAll(ctx context.Context, a *agenda) {
	began := time.Now()
	if len(a.ending) > 0 {
		r.bounded(ctx, due.Job{Kind: due.RuleExpiry, Tenant: a.tenant, At: a.ending[0].At}, func(ctx context.Context) error {
			return r.announce(ctx, a)
		})
	}
	for i, rec := range append(a.jobs, a.ended...) {
		if ctx.Err() != nil {
			return
		}
		if i > 0 && time.Since(began) > r.Budget {
			left := len(a.jobs) + len(a.ended) - i
			r.Log.WarnContext(ctx, "maintain: a tenant has more to do than fits into one run", "tenant", a.tenant, "left", left)
			return
		}
		r.bounded(ctx, rec.Value, func(ctx context.Context) error { return r.job(ctx, rec) })
	}
}

// bounded does one job's work in bounded time, and keeps note of its failure.
func (r *run) bounded(ctx context.Context, job due.Job, do func(context.Context) error) {
	ctx, done := context.WithTimeout(ctx, jobTimeout)
	defer done()
	ctx, span := trace.Start(trace.Of(ctx, job.Tenant), "job "+string(job.Kind), oteltrace.SpanKindInternal, trace.TenantKey.String(string(job.Tenant)))
	err := r.safely(ctx, do)
	if errors.Is(err, errLater) || errors.Is(err, core.Conflict) { // another run has it
		trace.End(span, nil)
		return
	}
	trace.End(span, err)
	if err != nil {
		r.Log.ErrorContext(ctx, "maintain: a job failed and stays for the next run",
			"job", job.Kind, "tenant", job.Tenant, "ref", job.Ref, "due", job.At, "error", err)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures = append(r.failures, fmt.Errorf("%s: %w", job, err))
	}
}

// safely makes an error of a panic: one tenant's job must not end the others'. The value of a panic may quote its input, so
// only its type and the stack are logged.
func (r *run) safely(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.Log.ErrorContext(ctx, "panic", "function", "maintain", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("maintain: a job panicked")
		}
	}()
	return do(ctx)
}

// errLater leaves a job in the index without a complaint: its time has not come.
var errLater = errors.New("maintain: not yet")

// job carries out one job and takes it out of the index, or schedules it anew.
func (r *run) job(ctx context.Context, rec store.Record[due.Job]) error {
	job := rec.Value
	tenant, err := r.Org.Tenant(ctx, job.Tenant)
	switch {
	case errors.Is(err, core.NotFound):
		// It was erased. Or it is being copied into this store, and the jobs came before it: those stay, and so do the
		// jobs of one that arrives while we look.
		absent, err := transfer.WhileAbsent(ctx, r.DB, job.Tenant)
		if err != nil {
			return err
		}
		return r.DB.Commit(ctx, append(absent, due.Done(rec))...)
	case err != nil:
		return err
	}
	erasing := tenant.Value.State == org.Erasing
	early := job.At.After(r.now)
	switch {
	case job.Kind == due.Reconcile:
		return r.reconcile(ctx, rec)
	case job.Kind == due.Seal:
		return r.seal(ctx, rec)
	case erasing && (job.Kind == due.RuleExpiry || job.Kind == due.Sweep || job.Kind == due.Metadata):
		// It goes with everything else.
	case early:
		return errLater
	case job.Kind == due.RuleExpiry:
		err = r.expire(ctx, job)
	case job.Kind == due.KeyRotation:
		err = r.Ring.Rotate(ctx, job.Tenant, r.now)
	case job.Kind == due.Metadata:
		return r.refresh(ctx, rec)
	case job.Kind == due.Sweep:
		err = r.Org.Sweep(ctx, job.Tenant, core.ScopeID(job.Ref), r.clear)
	case job.Kind == due.Erase:
		err = r.Org.EraseData(ctx, job.Tenant)
	default:
		err = fmt.Errorf("a kind of job that this version does not know: %w", core.Unsupported)
	}
	if err != nil {
		return err
	}
	return r.DB.Commit(ctx, due.Done(rec))
}

// expire takes an expired rule away.
func (r *run) expire(ctx context.Context, job due.Job) error {
	id, err := strconv.ParseUint(job.Ref, 10, 64)
	if err != nil {
		return fmt.Errorf("malformed rule id %q: %w", job.Ref, core.Invalid)
	}
	return r.Access.Expire(ctx, job.Tenant, core.RuleID(id))
}

// reconcile queues a full look at a cluster, and the next one in the index. It is sent before it is rescheduled: twice is
// harmless, never is not.
func (r *run) reconcile(ctx context.Context, rec store.Record[due.Job]) error {
	job := rec.Value
	c := core.ClusterID(job.Ref)
	_, err := r.Org.Scope(ctx, job.Tenant, core.ClusterScope(c))
	if errors.Is(err, core.NotFound) {
		return r.DB.Commit(ctx, due.Done(rec)) // deleted: the sweep has it cleaned
	}
	if err != nil {
		return err
	}
	if err := r.Queue.Send(ctx, sync.Message{Tenant: job.Tenant, Cluster: c, Full: true, NotBefore: job.At}); err != nil {
		return err
	}
	at := r.now
	if job.At.After(at) {
		at = job.At
	}
	return r.again(ctx, rec, at.Add(org.ReconcileEvery))
}

// refresh reads again what an identity provider publishes, for as long as there is the connection to it. A provider that does not
// answer is noted at the connection and no failure of ours: the next hour may bring it.
func (r *run) refresh(ctx context.Context, rec store.Record[due.Job]) error {
	job := rec.Value
	if r.SSO == nil {
		return fmt.Errorf("a connection to an identity provider, but nothing here that speaks to one: %w", core.Unsupported)
	}
	stays, err := r.SSO.Refresh(ctx, trace.Actor(ctx, core.SystemActor(job.Tenant)), job.Tenant, job.Ref)
	switch {
	case err != nil:
		return err
	case !stays:
		return r.DB.Commit(ctx, due.Done(rec))
	}
	return r.again(ctx, rec, r.now.Add(sso.RefreshEvery))
}

// seal appends what is new to the tenant's chain. The head goes to the log, which another store keeps: with it, a chain
// that was cut short shows.
func (r *run) seal(ctx context.Context, rec store.Record[due.Job]) error {
	head, n, err := audit.Seal(ctx, r.DB, rec.Value.Tenant, r.now)
	if err != nil {
		return err
	}
	if n > 0 {
		r.Log.InfoContext(ctx, "audit: sealed", "tenant", rec.Value.Tenant, "records", n, "link", head.N, "hash", head.Hash)
	}
	return r.again(ctx, rec, r.now.Add(org.SealEvery))
}

func (r *run) again(ctx context.Context, rec store.Record[due.Job], at time.Time) error {
	ops, err := due.Again(rec, at)
	if err != nil {
		return err
	}
	return r.DB.Commit(ctx, ops...)
}

// clear takes away what other packages keep at a deleted scope. A cluster is waited for until sync has taken our objects
// out of it, with the record of how to reach it; one that never answers is let go after leaveGrace.
func (r *run) clear(ctx context.Context, t core.TenantID, sc org.Scope) error {
	if _, err := r.Access.DeleteAllAt(ctx, trace.Actor(ctx, core.SystemActor(t)), sc.ID); err != nil {
		return err
	}
	if sc.Kind != core.Cluster || sc.Reach.Mode != org.Issuer || r.now.Sub(sc.Deleted) > leaveGrace {
		return nil
	}
	st, err := r.Sync.Status(ctx, t, sc.Cluster)
	if err != nil {
		return err
	}
	if st.FullAt.After(sc.Deleted) && st.Counts.Bindings == 0 {
		return nil
	}
	if st.TriedAt.IsZero() && st.Reached == 0 {
		return nil // nothing was ever written there
	}
	if err := r.Queue.Send(ctx, sync.Message{Tenant: t, Cluster: sc.Cluster, Full: true}); err != nil {
		return err
	}
	return errLater
}
