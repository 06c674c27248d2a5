package kube

import (
	"strings"
	"time"
)

// Difference is one write that lies between two desired states of a cluster.
type Difference struct {
	Verb    Verb
	Ref     Ref
	Role    string    // the ClusterRole that a binding binds; empty of a namespace
	Adds    []Subject // who comes into the binding, sorted
	Removes []Subject // who goes out of it, sorted
	Left    int       // subjects that the binding has then
}

// Compare is what brings a cluster that holds what before wants to what after wants. It is Diff's answer for such a cluster,
// so what it says and what sync writes cannot come apart. empty names bindings that are there and that before does not want:
// a binding without subjects stays for a time, and is filled again, where one that is not there is created. For the same
// reason a binding that after does not want is updated, to be empty. What else is wrong in a cluster is not seen here.
func Compare(before, after Desired, empty ...Ref) []Difference {
	have := State{Objects: make([]Object, 0, len(before.Objects)+len(empty))}
	ours := make(map[Ref]Record, cap(have.Objects))
	there := func(o Object) {
		o.UID = o.Ref.String()
		ours[o.Ref] = Record{UID: o.UID}
		have.Objects = append(have.Objects, o)
	}
	for _, o := range before.Objects {
		there(o)
	}
	for _, ref := range empty {
		if _, held := ours[ref]; held || ref.Kind == Namespace {
			continue
		}
		role, _, _ := strings.Cut(ref.Name, ".")
		there(Object{Ref: ref, Role: role, Labels: map[string]string{LabelManagedBy: ManagedBy},
			Annotations: map[string]string{AnnotationEmptied: time.Unix(0, 0).UTC().Format(time.RFC3339)}})
	}
	plan := Diff(after, have, ours, Options{Newest: after.Stamp.Revision})
	out := make([]Difference, len(plan.Changes))
	for i, c := range plan.Changes {
		out[i] = Difference{
			Verb: c.Verb, Ref: c.Object.Ref, Role: c.Object.Role, Left: len(c.Object.Subjects),
			Adds: without(c.Object.Subjects, set(c.had)), Removes: without(c.had, set(c.Object.Subjects)),
		}
	}
	return out
}

// NewIn names the bindings that after wants and before does not, sorted: those of which Compare asks whether they are there.
func NewIn(after, before Desired) []Ref {
	held := make(map[Ref]bool, len(before.Objects))
	for _, o := range before.Objects {
		held[o.Ref] = true
	}
	var out []Ref
	for _, o := range after.Objects {
		if o.Kind != Namespace && !held[o.Ref] {
			out = append(out, o.Ref)
		}
	}
	return out
}
