package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
)

// Reconcile brings one cluster to what the store says, whatever the message's reason. It returns nil when that is done,
// or when trying again would not help, which the cluster's Status then says, the log complains of and a dead letter holds;
// it also does when the cluster pauses after a failure, since the retry that is due does everything. Any other error is for
// Again.
//
// Runs may be killed or frozen anywhere and thaw after others have passed. What keeps that harmless:
//
//   - A binding is created only after its name was noted with a claim, in a commit that fails unless the run still holds
//     its lease. A later run finds the claim and, if the binding is no longer wanted, makes it empty itself.
//   - A binding is changed only if uid and resourceVersion are still those that this run read, and no later (epoch,
//     revision) stands on it.
//   - What a run is about to change is noted too. A later run rewrites those objects even if their content is right, so
//     that a write still on its way comes to a conflict.
//
// Nothing holds back a removal: not a tenant that changes all the time, since each removal is confirmed by itself; not a
// subject that the cluster refuses in the same binding; not an object that was tampered with elsewhere.
func (s *Service) Reconcile(ctx context.Context, m Message) (err error) {
	seen := &observed{began: s.Now()}
	defer func() { seen.tell(ctx, s.Now(), err) }()
	about(ctx, m.Cluster, m.Revision, 0)
	if skip, err := s.superfluous(ctx, m); err != nil || skip {
		return err
	}
	sit, err := s.where(ctx, m.Tenant, m.Cluster)
	if errors.Is(err, core.NotFound) {
		s.log().InfoContext(ctx, "sync: nothing to do", "tenant", m.Tenant, "cluster", m.Cluster, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if sit.cluster.Reach.Mode != org.Issuer {
		return nil // its agent pulls
	}
	cluster, err := s.Dial(s.target(m.Tenant, sit.cluster))
	if err != nil {
		return theirs{err}
	}
	r := &run{Service: s, message: m, cluster: cluster, holder: core.NewID(), seen: seen}
	if err := r.begin(ctx); err != nil {
		return err
	}
	stop := r.renew(ctx)
	defer stop() // whatever panics
	for range maxRounds {
		began := time.Now()
		err = r.round(ctx)
		if !r.again(ctx, err, time.Since(began)) {
			break
		}
	}
	stop()
	return r.end(ctx, err)
}

// superfluous says that nothing is left of a message: the cluster came to its revision by an earlier one, and nothing went
// wrong then or is under way; or the cluster pauses.
func (s *Service) superfluous(ctx context.Context, m Message) (bool, error) {
	rec, err := s.record(ctx, m.Tenant, m.Cluster)
	v := rec.Value
	switch {
	case err != nil:
		return false, err
	case s.ahead(v.RetryAt) && v.waits(m):
		return true, nil
	case m.Full || m.Revision == 0 || !m.NotBefore.IsZero():
		return false, nil
	}
	return v.Reached >= m.Revision && v.LastError == "" && len(v.InFlight) == 0 && !v.AllInFlight, nil
}

// run is one run over one cluster.
type run struct {
	*Service
	message Message
	cluster Cluster
	holder  string
	began   record // as it was when the lease was taken
	seen    *observed

	// Of the last round:
	revision core.Revision
	counts   Counts
	alarms   []string
	problems []string
	failed   []failure
	boot     string
	leaving  bool
	name     string // of the cluster, for people
	wroteNow int

	// Of all rounds:
	wrote    int
	answered core.Revision // at which the cluster was read last; 0: it was not
	unheard  bool          // it did not answer when it was to be read
	putOff   time.Time     // the RetryAt of somebody who found it busy, and who was looked for since

	mu          sync.Mutex
	held        time.Time         // until when this run has the lease
	inFlight    map[kube.Ref]bool // about to be written, or written without hearing the outcome
	allInFlight bool              // they are too many to name
	deaf        int               // requests without an answer
	written     written           // in this round
	unrecorded  []audit.Record    // of rounds that wrote something, which no commit holds yet
}

type failure struct {
	what string // the change, or the object
	err  error
}

// errMoved says that the tenant changed while it was read.
var errMoved error = theirs{fmt.Errorf("the tenant changed meanwhile: %w", core.Conflict)}

// round reads the store and the cluster, and makes the difference go away as far as it can.
func (r *run) round(ctx context.Context) (err error) {
	r.failed, r.alarms, r.problems, r.counts, r.wroteNow = nil, nil, nil, Counts{}, 0
	sit, err := r.load(ctx, r.message.Tenant, r.message.Cluster)
	if err != nil {
		return err
	}
	r.revision, r.leaving, r.name = sit.world.Stamp.Revision, sit.leaving, sit.cluster.Name
	defer func() { r.account(err == nil && len(r.failed) == 0) }()
	known, err := r.known(ctx)
	if err != nil {
		return err
	}
	have, err := r.current(ctx, known.standing())
	if err != nil {
		return fmt.Errorf("reading the cluster: %w", theirs{err})
	}
	newest, err := r.Service.revision(ctx, r.message.Tenant)
	if err != nil {
		return err
	}
	desired := kube.Want(sit.world)
	plan := kube.Diff(desired, have, known.values(), r.options(have, newest))
	unexplained, err := r.unexplained(ctx, sit, plan.Removals)
	if err != nil {
		return err
	}
	moved := sit.moved
	if len(unexplained) > 0 && !moved { // what nothing explains may have been granted since
		if newest, err = r.Service.revision(ctx, r.message.Tenant); err != nil {
			return err
		}
		moved = newest != r.revision
	}
	if moved {
		plan = plan.Hold(unexplained, 0).Revoking()
	} else {
		plan = plan.Hold(unexplained, r.MaxUnexplained)
	}
	r.describe(desired, have, plan)
	if err := r.settle(ctx, known, plan); err != nil {
		return err
	}
	if !moved {
		r.forget(plan)
	}
	if err := r.apply(ctx, known, plan.Changes); err != nil {
		return err
	}
	for _, late := range plan.Late {
		r.failed = append(r.failed, failure{late.Ref.String(), theirs{fmt.Errorf("%s: %w", late.Reason, core.Conflict)}})
	}
	if moved {
		return errMoved
	}
	if len(r.inFlight) == 0 {
		r.allInFlight = false // everything was written anew
	}
	return nil
}

// A cluster that did not answer so many runs in a row is given shortTry to be read, and not all of the function's time: one
// tenant's clusters that hang must not take all places from the others'. Each longTry-th time it has all of it, since it may
// be up again, and slow.
const (
	silentRuns = 3
	shortTry   = 10 * time.Second
	longTry    = 10
)

// current reads the cluster, in bounded time if it is used not to answer.
func (r *run) current(ctx context.Context, standing []kube.Ref) (kube.State, error) {
	bounded := ctx
	if n := r.began.Silent; n >= silentRuns && n%longTry != 0 {
		var done context.CancelFunc
		bounded, done = context.WithTimeout(ctx, shortTry)
		defer done()
	}
	have, err := r.cluster.Current(bounded, standing...)
	switch {
	case err == nil:
		r.answered, r.unheard = r.revision, false
	case errors.Is(err, core.Unavailable) && !isOurs(err) && !errors.Is(ctx.Err(), context.Canceled):
		r.unheard = true
	}
	return have, err
}

// options says how this run diffs. Whatever goes for good goes at once: nobody is left who could want it.
func (r *run) options(have kube.State, newest core.Revision) kube.Options {
	o := kube.Options{Now: r.Now(), Full: r.message.Full || r.leaving, ReapAfter: or(r.ReapAfter, defaultReap), Newest: newest, Touch: map[kube.Ref]bool{}}
	if r.leaving {
		o.ReapAfter = 0
	}
	for ref := range r.inFlight {
		o.Touch[ref] = true
	}
	if r.allInFlight {
		for _, obj := range have.Objects {
			o.Touch[obj.Ref] = true
		}
	}
	return o
}

// describe keeps what Status will tell.
func (r *run) describe(d kube.Desired, have kube.State, p kube.Plan) {
	for _, o := range d.Objects {
		if o.Kind == kube.Namespace {
			r.counts.Namespaces++
			continue
		}
		r.counts.Bindings++
		r.counts.Subjects += len(o.Subjects)
	}
	r.counts.Foreign, r.counts.Pending, r.counts.Held = len(p.Foreign), len(p.Pending), len(p.Held)
	r.counts.Impostors = len(p.Impostors)
	for _, i := range p.Impostors {
		r.alarms = append(r.alarms, i.String())
	}
	r.problems = slices.Clone(r.alarms)
	version, err := kube.BootstrapVersion(d.Prefixes)
	switch {
	case have.Bootstrap == "":
		r.boot = "missing"
	case err != nil || have.Bootstrap != version:
		r.boot = "outdated"
	default:
		r.boot = "current"
	}
	for _, h := range p.Held {
		r.problems = append(r.problems, fmt.Sprintf("%s: %s %s stays: no deletion, expiry or disabling explains its removal", h.Ref, h.Subject.Kind, h.Subject.Name))
	}
	for _, list := range [][]kube.Problem{p.Pending, p.Foreign, d.Problems} {
		for _, problem := range list {
			r.problems = append(r.problems, problem.String())
		}
	}
}

// again says whether another round may come further right now: something moved, another run wrote, more is wanted, or
// somebody found the cluster busy meanwhile. The last two ask for a round that fits into the time that is left, since those
// who came are due to come again.
func (r *run) again(ctx context.Context, err error, took time.Duration) bool {
	if err != nil {
		return errors.Is(err, errMoved)
	}
	for _, f := range r.failed {
		if errors.Is(f.err, core.Conflict) || errors.Is(f.err, core.Exists) || errors.Is(f.err, core.NotFound) {
			return true
		}
	}
	if len(r.failed) > 0 {
		return false
	}
	if r.leaving && r.wroteNow > 0 {
		return true // what was emptied can be reaped
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < took+took/4 {
		return false
	}
	rec, err := r.record(ctx, r.message.Tenant, r.message.Cluster)
	if err != nil {
		return false
	}
	// What was put off need not be a change: a rule may have ended since the store was read.
	put := !rec.Value.RetryAt.Equal(r.putOff)
	r.putOff = rec.Value.RetryAt
	return put || rec.Value.Wanted > r.revision
}

// terminal says whether trying again is of no use until somebody has mended something: a missing right, a policy or
// webhook that refuses, an object that the API server does not take.
func terminal(err error) bool {
	for _, k := range []core.Kind{core.Denied, core.Invalid, core.Unsupported, core.Limit, core.TooLarge} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// insist is how many refusals in a row are tried again all the same: an API server that has just started refuses what it
// has not loaded yet, its own RBAC among it. After that, the timer's reconcile is the next to try.
const insist = 6

// end writes down how the run went, gives the lease back, and returns what Reconcile shall.
func (r *run) end(ctx context.Context, err error) error {
	var retry, final error
	var public []string // what the tenant is told of them
	sort := func(err error) {
		if err == nil {
			return
		}
		if public = append(public, r.said(ctx, r.message, err)); terminal(err) {
			final = errors.Join(final, err)
		} else {
			retry = errors.Join(retry, err)
		}
	}
	sort(err)
	for _, f := range r.failed[:min(len(r.failed), maxProblems)] {
		sort(fmt.Errorf("%s: %w", f.what, f.err))
	}
	// The run's own time may be up: what it came to is still written down.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	now, insisting := r.Now(), false
	noted := r.note(ctx, func(rec *record) {
		r.seen.lag = lagOf(*rec, now)
		r.noteInFlight(rec)
		rec.Lease = nil
		if rec.Answered = r.answered; rec.Answered > 0 {
			rec.Silent = 0
		} else if r.unheard {
			rec.Silent++
		}
		if r.counts != (Counts{}) || err == nil {
			r.counts.Writes = r.wrote
			rec.Counts, rec.Bootstrap, rec.Problems = r.counts, r.boot, clipAll(r.problems)
		}
		if len(public) > 0 {
			rec.LastError, rec.LastErrorAt = clip(strings.Join(public, "; ")), now
			rec.Failures++
			insisting = retry == nil && rec.Failures < insist
			rec.Terminal = retry == nil && !insisting
			return
		}
		rec.LastError, rec.LastErrorAt, rec.Failures, rec.Terminal = "", time.Time{}, 0, false
		rec.RetryAt, rec.Tries, rec.FailingSince = time.Time{}, 0, time.Time{}
		if len(r.alarms) > 0 { // all that is ours is right, and the cluster is not
			rec.LastError, rec.LastErrorAt, rec.Terminal = clip(strings.Join(r.alarms, "; ")), now, true
		}
		if r.message.Full {
			rec.FullAt = now
		}
		if r.counts.Held > 0 {
			return // not all that is wanted was done
		}
		rec.Reached, rec.ReachedAt = r.revision, now
		rec.Wanted = max(rec.Wanted, rec.Reached)
		if rec.Wanted == rec.Reached {
			rec.WantedSince = time.Time{}
		}
	})
	switch {
	case insisting:
		retry = final
	case noted != nil && retry == nil:
		retry = noted
		public = append(public, r.said(ctx, r.message, noted))
	}
	for _, lost := range r.takeRecords() { // another run has the lease by now
		r.log().WarnContext(ctx, "sync: not in the audit log", "tenant", r.message.Tenant, "cluster", r.message.Cluster, "act", lost.Reason, "ids", lost.KubernetesAuditIDs)
	}
	about(ctx, r.message.Cluster, r.revision, r.wrote)
	switch {
	case retry != nil:
		r.seen.outcome = outcomeRetry
	case final != nil || r.counts.Held > 0 || len(r.alarms) > 0:
		r.seen.outcome = outcomeTerminal
	default:
		r.seen.outcome = outcomeReached
	}
	attrs := []any{"tenant", r.message.Tenant, "cluster", r.message.Cluster, "revision", r.revision, "writes", r.wrote}
	if final != nil && retry == nil {
		r.log().ErrorContext(ctx, "sync: somebody must mend this", append(attrs, "error", clip(final.Error()))...)
		if err := r.later(ctx, nil, r.message, told{final, strings.Join(public, "; ")}, true); err != nil {
			return fmt.Errorf("sync: cluster %s: %w", r.message.Cluster, err)
		}
	}
	if retry != nil {
		r.log().WarnContext(ctx, "sync: to be tried again", append(attrs, "error", clip(retry.Error()))...)
		return told{fmt.Errorf("sync: cluster %s: %w", r.message.Cluster, retry), strings.Join(public, "; ")}
	}
	if r.counts.Held > 0 {
		r.log().ErrorContext(ctx, "sync: removals held back that nothing explains", append(attrs, "held", r.counts.Held)...)
	}
	if len(r.alarms) > 0 {
		r.log().ErrorContext(ctx, "sync: somebody else's bindings pretend to be ours", append(attrs, "impostors", r.counts.Impostors, "first", clip(r.alarms[0]))...)
	}
	if final == nil {
		r.log().InfoContext(ctx, "sync: reached", attrs...)
		if !r.began.GivenUpAt.IsZero() {
			if err := r.revive(ctx, r.message.Tenant, r.message.Cluster); err != nil { // the next run that goes well takes it away
				r.log().WarnContext(ctx, "sync: the dead letter stays", append(attrs, "error", err)...)
			}
		}
	}
	return nil
}
