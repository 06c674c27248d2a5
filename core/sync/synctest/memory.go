// Package synctest holds a sync.Cluster in memory, which can fail, lose answers and freeze writes, and Run, the suite that
// holds it and the real adapter to the port's promise. It is for tests.
package synctest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	gosync "sync"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Memory is a cluster in memory. The zero Memory is not ready; use New.
type Memory struct {
	// Fault says what happens to a call; nil: nothing. Current is called with a zero Change.
	Fault func(kube.Change) Fault

	mu      gosync.Mutex
	objects map[kube.Ref]kube.Object
	version int
	audited int
	writes  []string
	ids     []string // of the writes that happened and were answered
	frozen  []kube.Change
}

// Fault is what happens to a call.
type Fault int

// The faults.
const (
	None   Fault = iota
	Refuse       // 403: nothing happens
	Lose         // nothing happens, and no answer comes
	Forget       // it happens, and no answer comes
	Freeze       // no answer comes; it happens when Thaw is called
)

// New makes an empty cluster with the namespaces that every cluster has.
func New() *Memory {
	m := &Memory{objects: map[kube.Ref]kube.Object{}}
	for _, ns := range []string{"default", "kube-system"} {
		m.Put(kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: ns}})
	}
	return m
}

var _ sync.Cluster = (*Memory)(nil)

// Put makes or replaces an object as the cluster's administrator would, and returns it as it is then.
func (m *Memory) Put(o kube.Object) kube.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put(o)
}

func (m *Memory) put(o kube.Object) kube.Object {
	m.version++
	if old, ok := m.objects[o.Ref]; ok {
		o.UID = old.UID
	} else {
		o.UID = "uid-" + strconv.Itoa(m.version)
	}
	o.ResourceVersion, o.AuditID = strconv.Itoa(m.version), ""
	o.Finalizers = slices.Clone(o.Finalizers)
	o.Labels, o.Annotations, o.Subjects = maps.Clone(o.Labels), maps.Clone(o.Annotations), slices.Clone(o.Subjects)
	m.objects[o.Ref] = o
	return o
}

// Remove deletes an object as the cluster's administrator would. One with finalizers is there until the last is gone.
func (m *Memory) Remove(r kube.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(r)
}

func (m *Memory) remove(r kube.Ref) {
	o, ok := m.objects[r]
	if !ok || len(o.Finalizers) == 0 {
		delete(m.objects, r)
		return
	}
	o.Terminating = true
	m.put(o)
}

// Restore brings objects back as they were, uids and all, as a backup of the cluster does.
func (m *Memory) Restore(objects ...kube.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range objects {
		m.version++
		o.ResourceVersion = strconv.Itoa(m.version)
		m.objects[o.Ref] = o
	}
}

// Object is what the cluster holds there; false: nothing.
func (m *Memory) Object(r kube.Ref) (kube.Object, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[r]
	return o, ok
}

// Writes returns the changes that reached the cluster since the last call, refused ones included, sorted, as
// "verb Kind/namespace/name".
func (m *Memory) Writes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.writes
	m.writes = nil
	slices.Sort(w)
	return w
}

// AuditIDs returns the ids of the writes that happened since the last call and were answered, in their order.
func (m *Memory) AuditIDs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.ids
	m.ids = nil
	return ids
}

// Bound is every binding with subjects, as "namespace/name: subjects", sorted.
func (m *Memory) Bound() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []string{}
	for _, o := range m.objects {
		if len(o.Subjects) == 0 {
			continue
		}
		names := []string{}
		for _, s := range o.Subjects {
			names = append(names, s.Name)
		}
		out = append(out, string(o.Namespace)+"/"+o.Name+": "+strings.Join(names, " "))
	}
	slices.Sort(out)
	return out
}

// Thaw lets the frozen writes happen, and returns how many were accepted.
func (m *Memory) Thaw() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.frozen {
		if _, err := m.apply(c); err == nil {
			n++
		}
	}
	m.frozen = nil
	return n
}

// Break sets Fault while others may be calling.
func (m *Memory) Break(fault func(kube.Change) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Fault = fault
}

// Current is the port's.
func (m *Memory) Current(ctx context.Context, named ...kube.Ref) (kube.State, error) {
	if err := ctx.Err(); err != nil {
		return kube.State{}, fmt.Errorf("%w: %w", core.Unavailable, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Fault != nil && m.Fault(kube.Change{}) != None {
		return kube.State{}, fmt.Errorf("the list was cut short: %w", core.Unavailable)
	}
	var s kube.State
	for _, o := range m.objects {
		if o.Kind == kube.Namespace || o.Labels[kube.LabelManagedBy] == kube.ManagedBy || slices.Contains(named, o.Ref) {
			o.Finalizers = slices.Clone(o.Finalizers)
			o.Labels, o.Annotations, o.Subjects = maps.Clone(o.Labels), maps.Clone(o.Annotations), slices.Clone(o.Subjects)
			s.Objects = append(s.Objects, o)
		}
	}
	return s, nil
}

// Apply is the port's.
func (m *Memory) Apply(ctx context.Context, c kube.Change) (kube.Object, error) {
	if err := ctx.Err(); err != nil {
		return kube.Object{}, fmt.Errorf("%w: %w", core.Unavailable, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, string(c.Verb)+" "+c.Object.Ref.String())
	silent := fmt.Errorf("no answer: %w", core.Unavailable)
	fault := None
	if m.Fault != nil {
		fault = m.Fault(c)
	}
	switch fault {
	case Refuse:
		return kube.Object{}, fmt.Errorf("forbidden by a policy: %w", core.Denied)
	case Lose:
		return kube.Object{}, silent
	case Freeze:
		m.frozen = append(m.frozen, c)
		return kube.Object{}, silent
	}
	o, err := m.apply(c)
	if fault == Forget {
		return kube.Object{}, silent
	}
	if err == nil {
		m.audited++
		o.AuditID = "audit-" + strconv.Itoa(m.audited)
		m.ids = append(m.ids, o.AuditID)
	}
	return o, err
}

func (m *Memory) apply(c kube.Change) (kube.Object, error) {
	o := c.Object
	old, there := m.objects[o.Ref]
	switch {
	case c.Verb == kube.Create && there:
		return kube.Object{}, fmt.Errorf("%s: %w", o.Ref, core.Exists)
	case c.Verb == kube.Create && o.Kind == kube.RoleBinding:
		if _, ok := m.objects[kube.Ref{Kind: kube.Namespace, Name: string(o.Namespace)}]; !ok {
			return kube.Object{}, fmt.Errorf("namespace %s: %w", o.Namespace, core.NotFound)
		}
	case c.Verb != kube.Create && !there:
		return kube.Object{}, fmt.Errorf("%s: %w", o.Ref, core.NotFound)
	case c.Verb != kube.Create && (old.UID != o.UID || old.ResourceVersion != o.ResourceVersion):
		return kube.Object{}, fmt.Errorf("%s: %w", o.Ref, core.Conflict)
	}
	if c.Verb == kube.Delete {
		m.remove(o.Ref)
		return o, nil
	}
	if o.Terminating = there && old.Terminating; o.Terminating && len(o.Finalizers) == 0 {
		delete(m.objects, o.Ref)
		return o, nil
	}
	if there && old.Role != o.Role {
		return kube.Object{}, fmt.Errorf("%s: roleRef cannot be changed: %w", o.Ref, core.Invalid)
	}
	return m.put(o), nil
}
