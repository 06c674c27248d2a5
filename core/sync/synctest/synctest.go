package synctest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Run holds a cluster to the promise of sync.Cluster: one subtest for each sentence. The cluster must hold a namespace ns
// that is a project's, and nothing else of ours that the suite's own bindings could be taken for. unlabel makes a binding
// what it is given as the cluster's administrator would, who may take our label away, and returns it.
func Run(t *testing.T, c sync.Cluster, ns core.Namespace, unlabel func(context.Context, kube.Object) (kube.Object, error)) {
	ctx := t.Context()
	const role = "fleetpass-viewer-ns"
	ref := kube.Ref{Kind: kube.RoleBinding, Namespace: ns, Name: role}
	wanted := func(names ...string) kube.Object {
		o := kube.Object{Ref: ref, Role: role, Labels: map[string]string{kube.LabelManagedBy: kube.ManagedBy}, Annotations: map[string]string{kube.AnnotationClaim: "c"}}
		for _, n := range names {
			o.Subjects = append(o.Subjects, kube.Subject{Kind: kube.UserKind, Name: "fleetpass:" + n + "@example.com"})
		}
		return o
	}
	find := func(r kube.Ref) (kube.Object, bool) {
		t.Helper()
		s, err := c.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(s.Objects, func(o kube.Object) bool { return o.Ref == r })
		if i < 0 {
			return kube.Object{}, false
		}
		return s.Objects[i], true
	}
	kind := func(err error, want core.Kind) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	var made kube.Object
	t.Run("Current holds every namespace", func(t *testing.T) {
		for _, name := range []string{"kube-system", "default", string(ns)} {
			if o, ok := find(kube.Ref{Kind: kube.Namespace, Name: name}); !ok || o.UID == "" {
				t.Errorf("namespace %s: %+v", name, o)
			}
		}
	})
	t.Run("a created object is there, as it was returned", func(t *testing.T) {
		var err error
		if made, err = c.Apply(ctx, kube.Change{Verb: kube.Create, Object: wanted("bob", "ada")}); err != nil {
			t.Fatal(err)
		}
		o, ok := find(ref)
		if !ok || o.UID == "" || o.UID != made.UID || o.ResourceVersion != made.ResourceVersion || o.Role != role || len(o.Subjects) != 2 || o.Annotations[kube.AnnotationClaim] != "c" {
			t.Errorf("returned %+v, holds %+v", made, o)
		}
	})
	ids := map[string]bool{}
	audited := func(o kube.Object) {
		t.Helper()
		if id := o.AuditID; len(id) > sync.MaxAuditID || id != "" && ids[id] || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("a write has the audit id %q", id)
		}
		ids[o.AuditID] = true
	}
	t.Run("a write is returned with its id in the cluster's audit log, if the cluster told one", func(t *testing.T) {
		audited(made)
		if o, _ := find(ref); o.AuditID != "" {
			t.Errorf("what is read has the audit id %q", o.AuditID)
		}
	})
	t.Run("creating what is there is Exists", func(t *testing.T) {
		_, err := c.Apply(ctx, kube.Change{Verb: kube.Create, Object: wanted("eve")})
		kind(err, core.Exists)
	})
	t.Run("creating in a namespace that is not there is NotFound", func(t *testing.T) {
		o := wanted("ada")
		o.Namespace = "fleetpass-absent"
		_, err := c.Apply(ctx, kube.Change{Verb: kube.Create, Object: o})
		kind(err, core.NotFound)
	})
	t.Run("an update happens to what was read", func(t *testing.T) {
		o := wanted("ada")
		o.UID, o.ResourceVersion = made.UID, made.ResourceVersion
		after, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o})
		if err != nil || after.UID != made.UID || after.ResourceVersion == made.ResourceVersion {
			t.Fatalf("%+v, %v", after, err)
		}
		audited(after)
		if got, _ := find(ref); len(got.Subjects) != 1 {
			t.Errorf("holds %+v", got)
		}
		_, err = c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o})
		kind(err, core.Conflict)
		_, err = c.Apply(ctx, kube.Change{Verb: kube.Delete, Object: o})
		kind(err, core.Conflict)
		made = after
	})
	t.Run("an update of another object of that name is a Conflict", func(t *testing.T) {
		o := wanted("eve")
		o.UID, o.ResourceVersion = "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f", made.ResourceVersion
		_, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o})
		kind(err, core.Conflict)
	})
	t.Run("a role cannot be changed", func(t *testing.T) {
		o := wanted("ada")
		o.UID, o.ResourceVersion, o.Role = made.UID, made.ResourceVersion, "fleetpass-editor-ns"
		_, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o})
		kind(err, core.Invalid)
	})
	t.Run("Current holds a binding that is named, though it lost its label, and no other", func(t *testing.T) {
		o := wanted("ada")
		o.UID, o.ResourceVersion, o.Labels = made.UID, made.ResourceVersion, nil
		o.Annotations = map[string]string{kube.AnnotationClaim: "c"}
		var err error
		if made, err = unlabel(ctx, o); err != nil {
			t.Fatal(err)
		}
		if _, ok := find(ref); ok {
			t.Error("there without being named")
		}
		absent := kube.Ref{Kind: kube.ClusterRoleBinding, Name: "fleetpass-absent"}
		s, err := c.Current(ctx, ref, absent, kube.Ref{Kind: kube.RoleBinding, Namespace: "fleetpass-absent", Name: role})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, o := range s.Objects {
			if o.Ref == ref && o.UID == made.UID && o.Role == role && len(o.Subjects) == 1 {
				n++
			} else if o.Kind == kube.RoleBinding && o.Namespace == ns || o.Ref == absent {
				t.Errorf("there is %+v", o)
			}
		}
		if n != 1 {
			t.Errorf("%d of it", n)
		}
		o = wanted("ada") // and what bears a claim may have the label back
		o.UID, o.ResourceVersion = made.UID, made.ResourceVersion
		if made, err = c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o}); err != nil {
			t.Error(err)
		}
	})
	t.Run("finalizers are kept, and what is being deleted can be emptied", func(t *testing.T) {
		o := wanted("ada")
		o.UID, o.ResourceVersion, o.Finalizers = made.UID, made.ResourceVersion, []string{"example.com/keep"}
		var err error
		if made, err = c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o}); err != nil {
			t.Fatal(err)
		}
		o, _ = find(ref)
		if _, err := c.Apply(ctx, kube.Change{Verb: kube.Delete, Object: o}); err != nil {
			t.Fatal(err)
		}
		o, _ = find(ref)
		if !o.Terminating || len(o.Subjects) != 1 || !slices.Equal(o.Finalizers, []string{"example.com/keep"}) {
			t.Fatalf("while it is deleted: %+v", o)
		}
		o.Subjects = nil
		if _, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o}); err != nil {
			t.Fatal(err)
		}
		o, _ = find(ref)
		if !o.Terminating || len(o.Subjects) != 0 || len(o.Finalizers) != 1 {
			t.Errorf("emptied: %+v", o)
		}
		o.Finalizers = nil
		if _, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o}); err != nil {
			t.Error(err)
		}
		if o, ok := find(ref); ok {
			t.Errorf("without finalizers it is there still: %+v", o)
		}
		if made, err = c.Apply(ctx, kube.Change{Verb: kube.Create, Object: wanted("ada")}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a deletion happens to what was read, and nothing brings it back", func(t *testing.T) {
		o := wanted("eve")
		o.UID, o.ResourceVersion = made.UID, made.ResourceVersion
		gone, err := c.Apply(ctx, kube.Change{Verb: kube.Delete, Object: o})
		if err != nil {
			t.Fatal(err)
		}
		audited(gone)
		if _, ok := find(ref); ok {
			t.Error("still there")
		}
		if _, err := c.Apply(ctx, kube.Change{Verb: kube.Update, Object: o}); err == nil {
			t.Error("an update of what was deleted is accepted")
		}
		if _, ok := find(ref); ok {
			t.Error("an update brought it back")
		}
	})
}
