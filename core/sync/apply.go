package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
)

// forget takes out of flight what is not written anew: it is gone or no longer ours, and a write to it must fail.
func (r *run) forget(plan kube.Plan) {
	planned := map[kube.Ref]bool{}
	for _, c := range plan.Changes {
		planned[c.Object.Ref] = true
	}
	for ref := range r.inFlight {
		if !planned[ref] {
			delete(r.inFlight, ref)
		}
	}
}

// knownObjects is what the store remembers of our objects in the cluster.
type knownObjects map[kube.Ref]store.Record[kube.Record]

func (k knownObjects) values() map[kube.Ref]kube.Record {
	out := make(map[kube.Ref]kube.Record, len(k))
	for ref, rec := range k {
		out[ref] = rec.Value
	}
	return out
}

// standing is the names of those that should be there.
func (k knownObjects) standing() []kube.Ref {
	var refs []kube.Ref
	for ref, rec := range k {
		if !rec.Value.Reaped {
			refs = append(refs, ref)
		}
	}
	return refs
}

func (r *run) known(ctx context.Context) (knownObjects, error) {
	k := knownObjects{}
	for rec, err := range recorded.List(ctx, r.DB, store.RecordedIn(r.message.Tenant, r.message.Cluster)) {
		if err != nil {
			return nil, err
		}
		if ref, ok := kube.ParseRef(rec.Key.Sort()); ok {
			k[ref] = rec
		}
	}
	return k, nil
}

// remember makes the operation that changes what is known of an object. Two writers of it cannot both succeed.
func (r *run) remember(k knownObjects, ref kube.Ref, v kube.Record) (store.Op, error) {
	key := store.Recorded(r.message.Tenant, r.message.Cluster, ref.String())
	op, err := recorded.Put(key, k[ref].Version, v)
	if v.Reaped {
		op = op.Until(r.Now().Add(tombstoneOf))
	}
	return op, err
}

// settle records the uids of objects that were found by their claim, and forgets those that are gone.
func (r *run) settle(ctx context.Context, known knownObjects, plan kube.Plan) error {
	var ops []store.Op
	var touched []kube.Ref
	for _, o := range plan.Adopted {
		op, err := r.remember(known, o.Ref, known[o.Ref].Value.Seen(o.UID))
		if err != nil {
			return err
		}
		ops, touched = append(ops, op), append(touched, o.Ref)
	}
	for _, ref := range plan.Gone {
		v := known[ref].Value
		v.Reaped = true
		op, err := r.remember(known, ref, v)
		if err != nil {
			return err
		}
		ops, touched = append(ops, op), append(touched, ref)
	}
	for part := range slices.Chunk(ops, batch) {
		if err := r.note(ctx, func(*record) {}, part...); err != nil {
			return err
		}
	}
	return r.refresh(ctx, known, touched)
}

// refresh reads again what is known of objects, after their items were written.
func (r *run) refresh(ctx context.Context, known knownObjects, refs []kube.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	keys := make([]store.Key, len(refs))
	for i, ref := range refs {
		keys[i] = store.Recorded(r.message.Tenant, r.message.Cluster, ref.String())
	}
	items, err := r.get(ctx, keys)
	if err != nil {
		return err
	}
	for i, it := range items {
		if known[refs[i]], err = recorded.Decode(it); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the changes, stage after stage, each object by itself: one that fails stops no other.
func (r *run) apply(ctx context.Context, known knownObjects, changes []kube.Change) error {
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && n < batch && changes[n].Stage() == changes[0].Stage() {
			n++
		}
		if err := r.applySome(ctx, known, changes[:n]); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

func (r *run) applySome(ctx context.Context, known knownObjects, changes []kube.Change) error {
	changes = slices.Clone(changes)
	// First the note: what is about to be written, with a claim for what is new.
	var claims []store.Op
	var claimed []kube.Ref
	note := false
	for i := range changes {
		c := &changes[i]
		if c.Object.Kind == kube.Namespace {
			continue // never changed afterwards, so nobody can come too late
		}
		note = true
		if c.Verb != kube.Create {
			r.inFlight[c.Object.Ref] = true
			continue
		}
		rec := known[c.Object.Ref].Value
		if rec.Claim == "" || rec.UID != "" || rec.Reaped {
			rec = rec.Claimed(core.NewID(), r.Now())
			op, err := r.remember(known, c.Object.Ref, rec)
			if err != nil {
				return err
			}
			claims, claimed = append(claims, op), append(claimed, c.Object.Ref)
		}
		c.Object.Annotations[kube.AnnotationClaim] = rec.Claim
	}
	if note {
		if err := r.note(ctx, r.noteInFlight, claims...); err != nil {
			return err
		}
		if err := r.refresh(ctx, known, claimed); err != nil {
			return err
		}
	}

	// Then the writes.
	results := make([]kube.Object, len(changes))
	errs := make([]error, len(changes))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, c := range changes {
		g.Go(func() error {
			switch {
			case ctx.Err() != nil:
				errs[i] = theirs{fmt.Errorf("not tried: %w", core.Unavailable)}
			case r.left() <= 0:
				errs[i] = errLost
			case r.isDeaf():
				errs[i] = theirs{fmt.Errorf("not tried, the cluster does not answer: %w", core.Unavailable)}
			default:
				var err error
				if results[i], err = r.write(ctx, c); err != nil {
					errs[i] = theirs{err}
				}
			}
			return nil
		})
	}
	g.Wait()

	// Last, what came of it.
	var ops []store.Op
	var refs []kube.Ref
	for i, c := range changes {
		if errs[i] != nil {
			r.failed = append(r.failed, failure{c.String(), errs[i]})
			continue
		}
		r.wrote, r.wroteNow = r.wrote+1, r.wroteNow+1
		rec := known[c.Object.Ref].Value
		switch {
		case c.Object.Kind == kube.Namespace || c.Verb == kube.Update:
			continue
		case c.Verb == kube.Create:
			rec = rec.Seen(results[i].UID)
		case c.Verb == kube.Delete:
			rec.Reaped = true
		}
		op, err := r.remember(known, c.Object.Ref, rec)
		if err != nil {
			return err
		}
		ops, refs = append(ops, op), append(refs, c.Object.Ref)
	}
	if len(ops) > 0 {
		if err := r.note(ctx, r.noteInFlight, ops...); err != nil {
			return err
		}
		if err := r.refresh(ctx, known, refs); err != nil {
			return err
		}
	}
	for _, err := range errs {
		if errors.Is(err, core.Unauthenticated) || errors.Is(err, errLost) {
			return err // nothing else will fare better
		}
	}
	return nil
}

// write makes one change. If the cluster refuses it, what it takes away is taken away all the same: one subject that a
// cluster does not accept must not keep the others in a binding. The refusal stays the outcome.
func (r *run) write(ctx context.Context, c kube.Change) (kube.Object, error) {
	o, err := r.cluster.Apply(ctx, c)
	if less, ok := c.Reduced(); ok && terminal(err) && !isOurs(err) {
		part, again := r.cluster.Apply(ctx, less)
		if again != nil {
			err = fmt.Errorf("%w, after a refusal of the whole: %v", again, err)
		}
		r.heard(c, part, again)
		return o, err
	}
	r.heard(c, o, err)
	return o, err
}

// noteInFlight writes down which bindings may be written from now on, or may still be.
func (r *run) noteInFlight(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.InFlight, rec.AllInFlight = nil, r.allInFlight || len(r.inFlight) > 2*batch
	if rec.AllInFlight {
		return
	}
	for ref := range r.inFlight {
		rec.InFlight = append(rec.InFlight, ref.String())
	}
	slices.Sort(rec.InFlight)
}

func (r *run) isDeaf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deaf >= giveUpAfter
}

// heard notes the outcome of a write. One that is not known stays in flight: the request may still arrive.
func (r *run) heard(c kube.Change, o kube.Object, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.written.add(o)
	}
	switch {
	case errors.Is(err, core.Unavailable):
		r.deaf++
	default:
		delete(r.inFlight, c.Object.Ref)
	}
}
