package sync

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

const (
	// maxTries is after how many failures in a row a cluster is given up: half an hour of pauses, and an hour where every try
	// hangs until its bound.
	maxTries = 40

	longestPause = time.Minute
)

// pause is how long to wait after so many failures: about a second, and twice as long each time, to a minute.
func pause(tries int) time.Duration {
	return aboutSoLong(min(time.Second<<min(tries-1, 10), longestPause))
}

// aboutSoLong takes up to a quarter off by chance, so that clusters which failed together do not come back together. Nor do
// two messages for one cluster, which would both send the next: of two that come one after the other, the second ends.
func aboutSoLong(p time.Duration) time.Duration { return p - rand.N(p/4) }

// Again sees to it that a message whose Reconcile failed is not lost and holds up nothing: when it returns nil, the message
// can be acknowledged. An error means that the store or the queue does not take it, and that the message must stay.
//
// A cluster that is down is asked for again by every change made meanwhile, by the timer and by people, and few queues merge
// messages. So it is the cluster that is counted on and that pauses, not the message. One message is sent for when the pause
// ends, and then noted; whatever comes before that is superfluous (Reconcile drops it), since the one that comes reads the
// store anew. It asks for everything: it stands for messages that nobody remembers. (A cluster that could be read last time,
// and in which one object would not be written, is up: there, what the last run cannot have seen does not wait.) The note ends when a run begins, so
// what is dropped was always sent before the run that stands for it. A note is written only after what it promises was sent,
// and the old message is acknowledged only after both, so there is no moment to be killed in that loses the retry; a second
// message is the worst that comes of it, and whichever of the two comes during a pause ends there.
//
// That another run is at work counts for no failure. After maxTries the cluster is given up: it goes to the dead letters.
func (s *Service) Again(ctx context.Context, q Queue, m Message, cause error) error {
	return s.later(ctx, q, m, cause, false)
}

// later is Again; final gives up at once.
func (s *Service) later(ctx context.Context, q Queue, m Message, cause error, final bool) error {
	var (
		sent    time.Time // by this call: that its note met a conflict is no reason to send twice
		refused error     // by the queue, whose conflicts are not store.Retry's
	)
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Sync(m.Tenant, m.Cluster), store.DeadLetter(m.Tenant, deadSync, string(m.Cluster)),
			store.Meta(m.Tenant), store.Scope(m.Tenant, core.ClusterScope(m.Cluster)))
		if err != nil || !exist(items[2], items[3]) {
			return err // of what is gone, nothing is noted any more
		}
		rec, err := records.Decode(items[0])
		if err != nil {
			return err
		}
		v, now := &rec.Value, s.Now()
		var at time.Time
		if !s.ahead(v.RetryAt) {
			v.RetryAt = time.Time{}
		}
		if errors.Is(cause, errBusy) {
			if !v.RetryAt.IsZero() {
				return nil
			}
			at = now.Add(v.patience(now))
		} else {
			if v.Tries++; v.FailingSince.IsZero() {
				v.FailingSince = now
			}
			if final || v.Tries >= maxTries {
				return s.giveUp(ctx, rec, items[1], m, cause)
			}
			at = now.Add(pause(v.Tries))
		}
		if sent.IsZero() && v.RetryAt.Before(at) {
			next := m
			next.Revision, next.Full, next.NotBefore, next.Attempt = 0, true, at, v.Tries
			if refused = q.Send(ctx, next); refused != nil {
				return nil
			}
			sent = at
		}
		if sent.After(v.RetryAt) {
			v.RetryAt = sent
		}
		op, err := records.Put(rec.Key, rec.Version, *v)
		if err != nil {
			return err
		}
		if err := s.DB.Commit(ctx, op); err != nil {
			return err
		}
		s.log().InfoContext(ctx, "sync: tried again later", "tenant", m.Tenant, "cluster", m.Cluster, "tries", v.Tries, "at", v.RetryAt, "error", clip(cause.Error()))
		return nil
	})
	return errors.Join(refused, err)
}

// waits says whether a message that comes while the cluster pauses is dropped in favour of the retry. The retry itself is
// not, though the clock may have been set back since it was due. Neither is, where the cluster answered the last run, a
// change that is newer than that run, or the end of a rule: one odd object of the tenant's, or one webhook, would put off
// for as long as it is there whoever is to lose their rights in all other namespaces.
func (r *record) waits(m Message) bool {
	if m.NotBefore.Equal(r.RetryAt) {
		return false
	}
	ending := !m.NotBefore.IsZero() && !m.Full // retries and the timer's messages ask for everything
	return r.Answered == 0 || m.Revision <= r.Answered && !ending
}

// patience is how long to wait for the run that has the lease: as long as it has taken so far, since most are over in a
// moment and the others take long, and no longer than until its lease ends.
func (r *record) patience(now time.Time) time.Duration {
	p := time.Second
	if r.Lease != nil {
		p = max(p, min(now.Sub(r.TriedAt), r.Lease.Until.Sub(now)))
	}
	return aboutSoLong(p)
}
