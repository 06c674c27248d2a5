package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Verb is what a change does.
type Verb string

// The verbs. Update is a PUT, and Delete a DELETE, that happen only if the object is still the one that was read.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Change is one write to a cluster.
type Change struct {
	Verb   Verb
	Object Object    // as it shall be; of an Update and a Delete with the uid and resourceVersion that must still hold
	Loses  []Subject // who has the role no more in that namespace once this is done
	class  int
	had    []Subject // of an Update: the subjects before it
	forced bool      // made although the subjects are right
}

// String is for logs.
func (c Change) String() string { return string(c.Verb) + " " + c.Object.Ref.String() }

// Removal is a subject that a change takes out of a binding.
type Removal struct {
	Ref     Ref
	Role    string // the ClusterRole
	Subject Subject
}

// Plan is what must be done to a cluster, in this order.
type Plan struct {
	Changes   []Change
	Removals  []Removal // those that need an explanation from the store: see Hold
	Adopted   []Object  // found with our open claim, or back with a former uid: their uids are to be recorded
	Gone      []Ref     // recorded, not wanted, and no longer there
	Late      []Problem // objects that bear a later stamp: left alone, since somebody who knows more was here
	Impostors []Problem // bindings that bear our label, give somebody a role of ours, and were not made by us
	Foreign   []Problem // other objects that are not ours where ours would be, or that pretend to be
	Pending   []Problem // waits for somebody else
	Held      []Removal // not done, since nothing explains them
}

// Options is what Diff needs to know beside the two states.
type Options struct {
	Now       time.Time
	Full      bool          // reap what was emptied at least ReapAfter ago
	ReapAfter time.Duration // longer than any function may run: see Diff
	// Newest is the tenant's revision, read after the cluster was. A stamp of the same epoch that is above it is nobody's:
	// a revision that was never reached cannot have been written.
	Newest core.Revision
	// Touch names bindings to write even if nothing about them changes: another writer may be about to write them from what
	// it read earlier, and fails with a conflict once they were written.
	Touch map[Ref]bool
}

// The order of changes: whoever loses access loses it before anybody gains any.
const (
	revoking   = iota
	exchanging // some lose access and others gain it, in one binding and so in one write
	namespaces
	granting
	moving   // a subject from one shard of a binding to another: the new one has it by now
	deleting // of what was empty already
)

// Diff computes the changes that make have what d wants. It is pure. recorded is what the store remembers of our objects.
//
//   - Nothing is touched that is not ours by a recorded uid, or by a claim of ours that is still open. It is reported.
//   - An object that bears a later stamp than d is left alone and reported. It stops nothing else: stamps can be forged.
//   - An object whose content is right is left alone, though it bears an older revision.
//   - A binding that is not wanted is emptied, not deleted: a writer that was frozen before could otherwise make it anew.
//     It is reaped by a full run once no such writer can be left.
//   - For the same reason an open claim that is not wanted is settled by an empty binding of that name.
//   - Namespaces are created, and never changed or deleted. In one that does not bear its project's label nobody is bound.
func Diff(d Desired, have State, recorded map[Ref]Record, o Options) Plan {
	df := &differ{desired: d, recorded: recorded, opt: o, have: make(map[Ref]*Object, len(have.Objects)), members: map[Ref]members{}}
	for i := range have.Objects {
		df.have[have.Objects[i].Ref] = &have.Objects[i]
	}
	df.sort()
	wanted := make(map[Ref]bool, len(d.Objects))
	for _, w := range d.Objects {
		if w.Kind == Namespace {
			df.namespace(w)
		}
	}
	for _, w := range d.Objects {
		if w.Kind != Namespace && df.mayBind(w.Ref) {
			wanted[w.Ref] = true
			of := roleRef(w)
			df.members[of] = df.members[of].and(set(w.Subjects))
		}
	}
	for _, w := range d.Objects {
		if wanted[w.Ref] {
			df.binding(w)
		}
	}
	df.unwanted(wanted)
	df.plan.sort()
	return df.plan
}

type differ struct {
	desired  Desired
	recorded map[Ref]Record
	opt      Options
	have     map[Ref]*Object
	own      map[Ref]bool
	late     map[Ref]bool            // of own: not to be written
	unready  map[core.Namespace]bool // wanted, and there, and not labelled for its project, or being deleted
	members  map[Ref]members         // everybody wanted, by roleRef
	plan     Plan
}

// roleRef names all shards of a binding: its kind and namespace and, for its name, the role's.
func roleRef(o Object) Ref { return Ref{o.Kind, o.Namespace, o.Role} }

func set(list []Subject) members {
	m := make(members, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// sort finds out which bindings are ours, and which of them this run may write.
func (df *differ) sort() {
	df.own, df.late = map[Ref]bool{}, map[Ref]bool{}
	df.unready = map[core.Namespace]bool{}
	for _, ref := range slices.SortedFunc(maps.Keys(df.have), compareRefs) {
		obj := df.have[ref]
		if ref.Kind == Namespace {
			continue
		}
		rec := df.recorded[ref]
		if !rec.owns(*obj) {
			df.stranger(*obj)
			continue
		}
		df.own[ref] = true
		if rec.UID != obj.UID || rec.Reaped {
			df.plan.Adopted = append(df.plan.Adopted, *obj)
		}
		stamp, mine := stampOf(*obj), df.desired.Stamp
		forged := stamp.Epoch == mine.Epoch && stamp.Revision > df.opt.Newest
		if stamp.Compare(mine) > 0 && !forged {
			df.late[ref] = true
			df.plan.Late = append(df.plan.Late, Problem{ref, fmt.Sprintf("was written at revision %d of epoch %q, later than this run's revision %d of epoch %q; left alone",
				stamp.Revision, stamp.Epoch, mine.Revision, mine.Epoch)})
		}
	}
}

// stranger reports a binding that is not ours. One that looks like ours and gives somebody a role of ours is no accident:
// whoever made it may have done so in our name.
func (df *differ) stranger(o Object) {
	_, role := RoleOf(o.Role)
	switch {
	case o.labelled() && role && len(o.Subjects) > 0:
		df.plan.Impostors = append(df.plan.Impostors, Problem{o.Ref, fmt.Sprintf("bears the label of Fleetpass, gives %s to %d subjects, and was not made by it; "+
			"delete it, and find out who made it", o.Role, len(o.Subjects))})
	case o.labelled():
		df.plan.Foreign = append(df.plan.Foreign, Problem{o.Ref, "bears the label of Fleetpass and was not made by it; left alone"})
	}
}

func stampOf(o Object) Stamp {
	n, _ := strconv.ParseUint(o.Annotations[AnnotationRevision], 10, 64) // none, or edited by hand: older than any
	return Stamp{o.Annotations[AnnotationEpoch], core.Revision(n)}
}

func (df *differ) namespace(w Object) {
	have, ok := df.have[w.Ref]
	switch {
	case !ok:
		df.change(Create, w, namespaces)
	case have.Terminating:
		df.pending(w.Ref, "is being deleted")
	case have.Labels[LabelProject] != w.Labels[LabelProject]:
		df.pending(w.Ref, fmt.Sprintf("exists and is not this project's; if it shall be, label it %s=%s", LabelProject, w.Labels[LabelProject]))
	default:
		return
	}
	if ok {
		df.unready[core.Namespace(w.Name)] = true
	}
}

func (df *differ) mayBind(r Ref) bool {
	return r.Kind == ClusterRoleBinding || !df.unready[r.Namespace]
}

func (df *differ) pending(r Ref, reason string) {
	df.plan.Pending = append(df.plan.Pending, Problem{r, reason})
}

// binding compares a wanted binding with the one that is there.
func (df *differ) binding(w Object) {
	have, ok := df.have[w.Ref]
	switch {
	case !ok:
		df.change(Create, df.stamped(w), granting)
	case !df.own[w.Ref]:
		if !have.labelled() { // else it is reported already
			df.plan.Foreign = append(df.plan.Foreign, Problem{w.Ref, "is there, and was not made by Fleetpass; left alone"})
		}
	case df.late[w.Ref]:
	case have.Role != w.Role:
		df.pending(w.Ref, fmt.Sprintf("is bound to %q instead of %q, which cannot be changed; delete it", have.Role, w.Role))
	default:
		if have.Terminating { // and grants until it is gone
			df.pending(w.Ref, "is being deleted")
		}
		if !slices.Equal(have.Subjects, w.Subjects) || df.opt.Touch[w.Ref] || !have.labelled() {
			df.update(*have, w.Subjects)
		}
	}
}

// unwanted empties, reaps and settles what is ours and not wanted.
func (df *differ) unwanted(wanted map[Ref]bool) {
	for _, ref := range slices.SortedFunc(maps.Keys(df.own), compareRefs) {
		have := df.have[ref]
		if wanted[ref] || df.late[ref] {
			continue
		}
		if have.Terminating {
			df.pending(ref, "is being deleted")
		}
		since, err := time.Parse(time.RFC3339, have.Annotations[AnnotationEmptied])
		switch {
		case len(have.Subjects) > 0 || err != nil || df.opt.Touch[ref] || !have.labelled():
			df.update(*have, nil)
		case df.opt.Full && df.opt.Now.Sub(since) >= df.opt.ReapAfter && !have.Terminating:
			df.change(Delete, *have, deleting)
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(df.recorded), compareRefs) {
		rec := df.recorded[ref]
		if wanted[ref] || df.own[ref] || rec.Reaped {
			continue
		}
		ns := df.have[Ref{Kind: Namespace, Name: string(ref.Namespace)}]
		switch {
		case rec.UID != "":
			df.plan.Gone = append(df.plan.Gone, ref)
		case df.have[ref] != nil: // somebody else's has the name, so nothing of ours can come there
		case ref.Kind == ClusterRoleBinding || ns != nil && !ns.Terminating:
			role, _, _ := strings.Cut(ref.Name, ".")
			o := df.stamped(Object{Ref: ref, Labels: map[string]string{LabelManagedBy: ManagedBy}, Role: role,
				Annotations: map[string]string{AnnotationTenant: string(df.desired.Tenant), AnnotationCluster: string(df.desired.Cluster)}})
			o.Annotations[AnnotationEmptied] = df.opt.Now.UTC().Format(time.RFC3339)
			df.change(Create, o, revoking)
		case ns == nil && df.opt.Now.Sub(rec.ClaimedAt) >= df.opt.ReapAfter:
			df.plan.Gone = append(df.plan.Gone, ref) // whoever was about to post it has given up
		}
	}
}

// stamped marks a wanted object with who writes it, and when.
func (df *differ) stamped(o Object) Object {
	o.Annotations = maps.Clone(o.Annotations)
	if o.Annotations == nil {
		o.Annotations = map[string]string{}
	}
	o.Annotations[AnnotationEpoch] = df.desired.Stamp.Epoch
	o.Annotations[AnnotationRevision] = strconv.FormatUint(uint64(df.desired.Stamp.Revision), 10)
	return o
}

// update replaces the subjects of a binding of ours, and makes it bear its label and claim again. What others wrote into
// its labels and annotations stays.
func (df *differ) update(have Object, subjects []Subject) {
	o := df.stamped(have)
	if o.Labels = maps.Clone(o.Labels); o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[LabelManagedBy] = ManagedBy
	if claim := df.recorded[have.Ref].Claim; claim != "" {
		o.Annotations[AnnotationClaim] = claim
	}
	o.Annotations[AnnotationTenant] = string(df.desired.Tenant)
	o.Annotations[AnnotationCluster] = string(df.desired.Cluster)
	if delete(o.Annotations, AnnotationEmptied); len(subjects) == 0 {
		o.Annotations[AnnotationEmptied] = df.opt.Now.UTC().Format(time.RFC3339)
	}
	o.Subjects = subjects

	removed := without(have.Subjects, set(subjects))
	loses := without(removed, df.members[roleRef(have)])
	class := granting
	switch {
	case len(loses) > 0 && len(without(subjects, set(have.Subjects))) > 0:
		class = exchanging
	case len(loses) > 0:
		class = revoking
	case len(removed) > 0:
		class = moving
	}
	for _, s := range loses {
		// Who could not be bound by any rule needs no explanation for going, nor does anybody in a namespace that is no project.
		if _, ours := df.desired.Prefixes.Parse(s); ours && df.mayBind(have.Ref) {
			df.plan.Removals = append(df.plan.Removals, Removal{have.Ref, have.Role, s})
		}
	}
	df.plan.Changes = append(df.plan.Changes, Change{Update, o, loses, class, have.Subjects, df.opt.Touch[have.Ref]})
}

func without(list []Subject, m members) []Subject {
	var out []Subject
	for _, s := range list {
		if !m[s] {
			out = append(out, s)
		}
	}
	return out
}

func (df *differ) change(v Verb, o Object, class int) {
	df.plan.Changes = append(df.plan.Changes, Change{Verb: v, Object: o, class: class})
}

func (p *Plan) sort() {
	slices.SortStableFunc(p.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.class, b.class), compareRefs(a.Object.Ref, b.Object.Ref))
	})
}

// Reduced is as much of an update as takes access away: nobody is in it who was not there before. False: the change gives
// nobody anything, or takes nothing away, or is no update. If a cluster refuses the whole, for one subject that it does
// not take, this is what must be done all the same.
func (c Change) Reduced() (Change, bool) {
	if c.Verb != Update || len(c.Loses) == 0 {
		return c, false
	}
	gains := without(c.Object.Subjects, set(c.had))
	if len(gains) == 0 {
		return c, false
	}
	c.Object.Subjects = without(c.Object.Subjects, set(gains))
	c.class = revoking
	return c, true
}

// Revoking is the part of the plan that only takes access away, which is right to do even if what was read is no longer
// all true, as long as each removal is explained. What else there is waits for another look.
func (p Plan) Revoking() Plan {
	changes := p.Changes
	p.Changes = nil
	for _, c := range changes {
		if less, ok := c.Reduced(); ok {
			c = less
		}
		if c.class == revoking && c.Verb == Update {
			p.Changes = append(p.Changes, c)
		}
	}
	p.Held = nil // perhaps explained by what is read next
	return p
}

// Stage is the position of a change in the order: changes of one stage may be made side by side, one stage after another.
func (c Change) Stage() int { return c.class }

// Hold returns the plan without the removals that nothing in the store explains, if they are more than max: the sign of
// a read that missed something. It never holds back any other, and those subjects alone stay in their bindings.
func (p Plan) Hold(unexplained []Removal, max int) Plan {
	if len(unexplained) <= max {
		return p
	}
	keep := map[Ref]members{}
	for _, r := range unexplained {
		keep[r.Ref] = keep[r.Ref].and(members{r.Subject: true})
	}
	changes := p.Changes
	p.Changes = nil
	p.Held = append(slices.Clone(p.Held), unexplained...)
	for _, c := range changes {
		held := keep[c.Object.Ref]
		if c.Verb != Update || held == nil {
			p.Changes = append(p.Changes, c)
			continue
		}
		subjects := slices.Clone(c.Object.Subjects)
		subjects = append(subjects, slices.Collect(maps.Keys(held))...)
		slices.SortFunc(subjects, CompareSubjects)
		c.Object.Subjects = slices.Compact(subjects)
		if slices.Equal(c.Object.Subjects, c.had) && !c.forced {
			continue // nothing is left of it
		}
		c.Object.Annotations = maps.Clone(c.Object.Annotations)
		delete(c.Object.Annotations, AnnotationEmptied)
		if c.Loses = without(c.Loses, held); len(c.Loses) == 0 {
			c.class = granting
		}
		p.Changes = append(p.Changes, c)
	}
	p.sort()
	return p
}
