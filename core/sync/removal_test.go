package sync_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
)

// What must not hold back that somebody's access is taken away.

var adasBinding = kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-vision", Name: "fleetpass-viewer-ns"}

// bound is a site where Ada and Bob are Viewers of one project.
func bound(t *testing.T) (s *site, p org.Scope, adas, bobs core.Rule) {
	t.Helper()
	s = newSite(t)
	p = s.project("vision")
	adas = s.grant("ada@example.com", policy.Viewer, p.ID)
	bobs = s.grant("bob@example.com", policy.Viewer, p.ID)
	s.reconcile()
	s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:ada@example.com fleetpass:bob@example.com")
	return s, p, adas, bobs
}

func (s *site) object(ref kube.Ref) kube.Object {
	s.t.Helper()
	o, ok := s.cluster.Object(ref)
	if !ok {
		s.t.Fatalf("no %s", ref)
	}
	return o
}

// A subject that the cluster refuses keeps nobody else in its binding.
func TestRefusedSubject(t *testing.T) {
	s, p, adas, _ := bound(t)
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if slices.ContainsFunc(c.Object.Subjects, func(s kube.Subject) bool { return s.Name == "fleetpass:cursed" }) {
			return synctest.Refuse
		}
		return synctest.None
	}
	s.grant("cursed", policy.Viewer, p.ID)
	s.revoke(adas)
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Denied) {
		t.Errorf("%v, want the refusal", err)
	}
	s.holds(bobViews)
	if st := s.status(); !strings.Contains(st.LastError, "fleetpass-viewer-ns") || st.Reached == s.revision() {
		t.Errorf("%+v", st)
	}
	s.cluster.Fault = nil
	s.reconcile()
	s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:cursed fleetpass:bob@example.com")
}

// A tenant that changes with every look loses removals to none of it; what it grants waits, and what nothing explains stays.
func TestRemovalsInATenantThatMoves(t *testing.T) {
	s, p, _, bobs := bound(t)
	s.revoke(bobs)
	s.grant("cat@example.com", policy.Viewer, p.ID)
	times := 1000
	bustle := func() { s.revoke(s.grant("eve@example.com", policy.Editor, p.ID)) }
	if err := s.with(moving{s.db, &times, bustle}); !errors.Is(err, core.Conflict) {
		t.Errorf("%v, want it tried again", err)
	}
	s.holds(adaViews)
	if st := s.status(); st.Reached == s.revision() || st.Counts.Held != 0 {
		t.Errorf("%+v", st)
	}
	times = 1000
	if err := s.with(moving{cut{DB: s.db, kind: "cluster"}, &times, bustle}); !errors.Is(err, core.Conflict) {
		t.Errorf("%v, want it tried again", err)
	}
	s.holds(adaViews)
	s.reconcile()
	s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:ada@example.com fleetpass:cat@example.com")
}

// Who is granted again while a run looks at the cluster loses nothing, and nobody is alarmed.
func TestGrantedAgainMeanwhile(t *testing.T) {
	s, p, adas, _ := bound(t)
	s.revoke(adas)
	again := false
	s.sync.Dial = func(sync.Target) (sync.Cluster, error) {
		return reentrant{s.cluster, func(kube.Change) synctest.Fault {
			if !again {
				again = true
				s.grant("ada@example.com", policy.Viewer, p.ID)
			}
			return synctest.None
		}}, nil
	}
	s.reconcile()
	s.holds("fleetpass-vision/fleetpass-viewer-ns: fleetpass:ada@example.com fleetpass:bob@example.com")
	if st := s.status(); !again || st.Counts.Held != 0 || st.Reached != s.revision() {
		t.Errorf("%+v", st)
	}
}

// What was in flight before a tenant began to move is written anew when it stands still (SYN-011).
func TestFrozenWriteInATenantThatMoves(t *testing.T) {
	s, p, adas, _ := bound(t)
	s.revoke(adas)
	s.reconcile()
	adas = s.grant("ada@example.com", policy.Viewer, p.ID)
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Ref == adasBinding {
			return synctest.Freeze
		}
		return synctest.None
	}
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Unavailable) {
		t.Fatal(err)
	}
	s.cluster.Fault = nil
	s.revoke(adas)
	times := 1000
	if err := s.with(moving{s.db, &times, func() { s.revoke(s.grant("eve@example.com", policy.Editor, p.ID)) }}); !errors.Is(err, core.Conflict) {
		t.Errorf("%v, want it tried again", err)
	}
	s.reconcile()
	if n := s.cluster.Thaw(); n != 0 {
		t.Errorf("%d late writes accepted", n)
	}
	s.holds(bobViews)
}

// An annotation that somebody edited on one binding stops nothing elsewhere, and nothing at all if nobody can have
// written it.
func TestForgedStamp(t *testing.T) {
	s, _, adas, bobs := bound(t)
	q := s.project("speech")
	cats := s.grant("cat@example.com", policy.Viewer, q.ID)
	s.reconcile()
	forge := func(epoch, revision string) {
		o := s.object(adasBinding)
		if o.Annotations[kube.AnnotationRevision] = revision; epoch != "" {
			o.Annotations[kube.AnnotationEpoch] = epoch
		}
		s.cluster.Put(o)
	}
	forge("", "999999999")
	s.revoke(bobs)
	s.reconcile()
	s.holds("fleetpass-speech/fleetpass-viewer-ns: fleetpass:cat@example.com", adaViews)

	forge("99991231T000000.000Z-x", "1") // perhaps a control plane that was restored later, perhaps not
	s.revoke(adas)
	s.revoke(cats)
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Conflict) {
		t.Errorf("%v, want it tried again", err)
	}
	s.holds(adaViews)
	if st := s.status(); !strings.Contains(st.LastError, "fleetpass-viewer-ns was written") && !strings.Contains(st.LastError, "99991231") {
		t.Errorf("%+v", st)
	}
}

// A cluster that is restored from a backup brings bindings back under uids that they had before they were last made anew.
// They are known for ours, and for ever (SYN-017).
func TestRestoredCluster(t *testing.T) {
	s, p, adas, bobs := bound(t)
	first := s.object(adasBinding)
	s.cluster.Remove(adasBinding)
	s.reconcile()
	second := s.object(adasBinding)
	if first.UID == second.UID {
		t.Fatal("the same uid")
	}
	s.revoke(adas)
	s.revoke(bobs)
	s.reconcile()
	for _, backup := range []kube.Object{first, second, first} {
		s.cluster.Restore(backup)
		s.reconcile()
		s.holds()
		if st := s.status(); st.Counts.Foreign+st.Counts.Impostors != 0 || st.Reached != s.revision() {
			t.Errorf("%+v", st)
		}
	}
	s.pass(time.Hour)
	must(t, s.sync.Reconcile(t.Context(), sync.Message{Tenant: acme, Cluster: s.id, Full: true}))
	if _, there := s.cluster.Object(adasBinding); there {
		t.Fatal("not reaped")
	}
	s.cluster.Restore(first)
	s.reconcile()
	adas = s.grant("ada@example.com", policy.Viewer, p.ID)
	s.reconcile()
	s.holds(adaViews)
	s.pass(100 * 24 * time.Hour) // longer than what is gone is remembered
	s.revoke(adas)
	s.reconcile()
	s.holds()
}

// A binding that bears our label and gives a role of ours, and that we did not make, is an alarm (K8S-021).
func TestImpostor(t *testing.T) {
	s := newSite(t)
	s.project("vision")
	s.reconcile()
	theirs := kube.Object{Ref: kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-vision", Name: "fleetpass-system-administrator-ns.7"},
		Labels: map[string]string{kube.LabelManagedBy: kube.ManagedBy}, Role: "fleetpass-system-administrator-ns"}
	s.cluster.Put(theirs)
	s.reconcile()
	if st := s.status(); st.Counts.Impostors != 0 || st.Counts.Foreign != 1 || st.LastError != "" {
		t.Errorf("without subjects: %+v", st)
	}
	theirs.Subjects = []kube.Subject{{Kind: kube.UserKind, Name: "fleetpass:mallory@example.com"}}
	made := s.cluster.Put(theirs)
	s.reconcile()
	st := s.status()
	if st.Counts.Impostors != 1 || st.Counts.Foreign != 0 || !st.Terminal || !strings.Contains(st.LastError, theirs.Name) || len(st.Problems) != 1 || st.Reached != s.revision() || st.Failures != 0 {
		t.Errorf("%+v", st)
	}
	if o := s.object(theirs.Ref); o.ResourceVersion != made.ResourceVersion {
		t.Error("it was touched")
	}
	s.cluster.Remove(theirs.Ref)
	s.reconcile()
	if st := s.status(); st.LastError != "" || st.Terminal || st.Counts.Impostors != 0 {
		t.Errorf("after it was deleted: %+v", st)
	}
}

// A binding that somebody deletes, and that a finalizer keeps, grants until it is gone.
func TestTerminatingBinding(t *testing.T) {
	s, _, adas, bobs := bound(t)
	o := s.object(adasBinding)
	o.Finalizers = []string{"example.com/keep"}
	s.cluster.Put(o)
	s.cluster.Remove(adasBinding)
	if !s.object(adasBinding).Terminating {
		t.Fatal("not kept")
	}
	s.revoke(bobs)
	s.reconcile()
	s.holds(adaViews)
	if st := s.status(); st.Counts.Pending != 1 {
		t.Errorf("%+v", st)
	}
	s.revoke(adas)
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Ref == adasBinding {
			return synctest.Lose
		}
		return synctest.None
	}
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Unavailable) || s.status().Reached == s.revision() {
		t.Errorf("%v, and reached %d: Ada is bound still", err, s.status().Reached)
	}
	s.cluster.Fault = nil
	s.reconcile()
	s.holds()
	if o := s.object(adasBinding); !o.Terminating || !slices.Equal(o.Finalizers, []string{"example.com/keep"}) {
		t.Errorf("another's finalizer went: %+v", o)
	}
	if st := s.status(); st.Counts.Pending != 1 || st.Reached != s.revision() {
		t.Errorf("%+v", st)
	}
	s.cluster.Writes()
	s.reconcile()
	if w := s.cluster.Writes(); len(w) != 0 {
		t.Errorf("written again and again: %q", w)
	}
}

// A binding that lost our label is still ours.
func TestLostLabel(t *testing.T) {
	s, p, adas, bobs := bound(t)
	strip := func() {
		o := s.object(adasBinding)
		o.Labels = nil
		delete(o.Annotations, kube.AnnotationClaim)
		s.cluster.Put(o)
	}
	strip()
	s.reconcile()
	if o := s.object(adasBinding); o.Labels[kube.LabelManagedBy] != kube.ManagedBy || o.Annotations[kube.AnnotationClaim] == "" {
		t.Errorf("the label is not mended: %+v", o)
	}
	strip()
	s.revoke(adas)
	s.revoke(bobs)
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Ref == adasBinding {
			return synctest.Refuse // a bootstrap of before
		}
		return synctest.None
	}
	for range 2 {
		if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Denied) || s.status().Reached == s.revision() {
			t.Errorf("%v, reached %d: Ada is bound still", err, s.status().Reached)
		}
	}
	s.cluster.Fault = nil
	s.reconcile()
	s.holds()

	// Somebody else's binding of that name is somebody else's.
	s.cluster.Remove(adasBinding)
	theirs := s.cluster.Put(kube.Object{Ref: adasBinding, Role: adasBinding.Name, Subjects: []kube.Subject{{Kind: kube.UserKind, Name: "theirs"}}})
	s.grant("ada@example.com", policy.Viewer, p.ID)
	s.reconcile()
	if o := s.object(adasBinding); o.ResourceVersion != theirs.ResourceVersion || s.status().Counts.Foreign != 1 {
		t.Errorf("%+v, %+v", o, s.status())
	}
}

// Whatever a cluster calls its objects, how a run went can be written down.
func TestStrangeNames(t *testing.T) {
	s := newSite(t)
	s.project("vision")
	for i := range 60 {
		s.cluster.Put(kube.Object{Ref: kube.Ref{Kind: kube.ClusterRoleBinding, Name: strings.Repeat("x", i) + "\xff" + strings.Repeat("ä\x01", 20) + strings.Repeat("\"", 400)},
			Labels: map[string]string{kube.LabelManagedBy: kube.ManagedBy}, Role: "edit"})
	}
	s.reconcile()
	st := s.status()
	if st.Reached != s.revision() || st.Counts.Foreign != 60 || len(st.Problems) < 10 || !strings.Contains(st.Problems[0], "ä") {
		t.Errorf("%+v", st)
	}
	size := 0
	for _, p := range st.Problems {
		if size += len(strconv.Quote(p)); strings.Contains(p, "\x01") || !utf8.ValidString(p) {
			t.Errorf("%q", p)
		}
	}
	if size > store.MaxBody/2 { // what is in flight has its place, too
		t.Errorf("%d bytes of problems", size)
	}
}

// A message about a revision that the cluster has come to costs one round trip to the store and none to the cluster.
func TestReachedAlready(t *testing.T) {
	s, _, _, _ := bound(t)
	counter := &storetest.Counter{DB: s.db}
	dials := 0
	handle := func(m sync.Message) error {
		other := *s.sync
		other.DB = counter
		other.Dial = func(sync.Target) (sync.Cluster, error) { dials++; return s.cluster, nil }
		return other.Reconcile(t.Context(), m)
	}
	m := s.message()
	m.Revision = s.revision()
	if must(t, handle(m)); dials != 0 || counter.Counts() != (storetest.Counts{Gets: 1, GetItems: 1}) {
		t.Errorf("%d dials, %+v", dials, counter.Counts())
	}
	full, later := m, m
	full.Full, later.NotBefore = true, s.now()
	for i, look := range []sync.Message{s.message(), full, later, {Tenant: acme, Cluster: s.id, Revision: m.Revision + 1}} {
		if must(t, handle(look)); dials != i+1 {
			t.Errorf("%+v is passed over", look)
		}
	}
	s.cluster.Fault = func(kube.Change) synctest.Fault { return synctest.Lose }
	if handle(full) == nil {
		t.Fatal("a cluster that does not answer")
	}
	s.cluster.Fault, dials = nil, 0
	if must(t, handle(m)); dials != 1 {
		t.Error("passed over, though the last run failed")
	}
}

func TestAnd(t *testing.T) {
	for _, tt := range []struct{ a, b, want sync.Message }{
		{sync.Message{Revision: 7}, sync.Message{Revision: 9}, sync.Message{Revision: 9}},
		{sync.Message{Revision: 7}, sync.Message{}, sync.Message{}},
		{sync.Message{Full: true}, sync.Message{Revision: 9}, sync.Message{Full: true}},
		{sync.Message{Attempt: 3}, sync.Message{}, sync.Message{Attempt: 3}},
	} {
		if ab, ba := tt.a.And(tt.b), tt.b.And(tt.a); ab != tt.want || ba != tt.want {
			t.Errorf("%+v and %+v: %+v, %+v", tt.a, tt.b, ab, ba)
		}
	}
}

// What is known of objects goes when nothing can come of them any more; until then the cluster keeps its server.
func TestHolds(t *testing.T) {
	s := newSite(t)
	holds := func() int {
		n, err := s.sync.Holds(t.Context(), acme, s.id)
		must(t, err)
		return n
	}
	p := s.project("vision")
	if n := holds(); n != 0 {
		t.Errorf("%d before anything was written", n)
	}
	s.cluster.Fault = func(c kube.Change) synctest.Fault {
		if c.Object.Ref == adasBinding {
			return synctest.Freeze
		}
		return synctest.None
	}
	s.grant("ada@example.com", policy.Viewer, p.ID)
	if err := s.sync.Reconcile(t.Context(), s.message()); !errors.Is(err, core.Unavailable) {
		t.Fatal(err)
	}
	s.cluster.Fault = nil
	with := holds()
	if with != 4 {
		t.Errorf("%d objects, want 4", with)
	}
	// The project goes, and its namespace, and Ada's binding was never seen.
	must(t, s.org.DeleteScope(t.Context(), s.root, acme, p.ID, true))
	s.cluster.Remove(kube.Ref{Kind: kube.Namespace, Name: "fleetpass-vision"})
	s.cluster.Remove(kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-vision", Name: "fleetpass-system-administrator-ns"})
	s.reconcile()
	if n := holds(); n != 3 {
		t.Errorf("%d objects, want 3: its POST may still arrive", n)
	}
	s.pass(time.Hour)
	s.reconcile()
	if n := holds(); n != 2 {
		t.Errorf("%d objects, want 2: nobody posts it any more", n)
	}
	must(t, s.org.DeleteScope(t.Context(), s.root, acme, core.ClusterScope(s.id), true))
	s.reconcile()
	if n := holds(); n != 0 {
		t.Errorf("%d objects in a cluster that was left", n)
	}
}

// A record remembers few uids, the latest.
func TestFormerIsBounded(t *testing.T) {
	var r kube.Record
	for i := range 50 {
		r = r.Claimed("c", time.Time{}).Seen(fmt.Sprint(i))
	}
	if len(r.Former) != 16 || r.Former[0] != "48" || r.UID != "49" {
		t.Errorf("%+v", r)
	}
}
