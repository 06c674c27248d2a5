package kubernetes

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fleetpass/fleetpass/core/kube"
)

// reencode encodes one and decodes the other, which must take everything that is there.
func reencode(t *testing.T, from, to any, strict bool) {
	t.Helper()
	data, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if strict {
		err = strictly(data, to)
	} else {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

// Our types are Kubernetes's own, as far as they go: what its types write ours read, and what ours write its types read, with
// nothing that they do not know.
func TestWire(t *testing.T) {
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	theirs := metav1.ObjectMeta{
		Name: "n", Namespace: "ns", UID: "uid", ResourceVersion: "7", DeletionTimestamp: &metav1.Time{Time: at},
		Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "2"}, Finalizers: []string{"f/x"},
		CreationTimestamp: metav1.Time{Time: at}, OwnerReferences: []metav1.OwnerReference{{Name: "o"}},
	}
	ours := meta{Name: "n", Namespace: "ns", UID: "uid", ResourceVersion: "7", Deletion: &at, Labels: theirs.Labels, Annotations: theirs.Annotations, Finalizers: theirs.Finalizers}
	role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "r"}
	subjects := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "u"}, {Kind: "ServiceAccount", Name: "s", Namespace: "x"}}
	binding := object{APIVersion: rbacVersion, Kind: "RoleBinding", Metadata: ours, RoleRef: &roleRef{rbacGroup, "ClusterRole", "r"},
		Subjects: []subject{{Kind: "User", APIGroup: rbacGroup, Name: "u"}, {Kind: "ServiceAccount", Name: "s", Namespace: "x"}}}
	cluster := binding
	cluster.Kind = "ClusterRoleBinding"
	for _, tt := range []struct {
		theirs any
		ours   object
	}{
		{corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: theirs, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}},
			object{APIVersion: "v1", Kind: "Namespace", Metadata: ours, Status: &phase{phaseTerminating}}},
		{rbacv1.RoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbacVersion, Kind: "RoleBinding"}, ObjectMeta: theirs, RoleRef: role, Subjects: subjects}, binding},
		{rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbacVersion, Kind: "ClusterRoleBinding"}, ObjectMeta: theirs, RoleRef: role, Subjects: subjects}, cluster},
	} {
		var got object
		reencode(t, tt.theirs, &got, false)
		if diff := cmp.Diff(tt.ours, got); diff != "" {
			t.Errorf("%s: we read (-want +got):\n%s", tt.ours.Kind, diff)
		}
	}

	object := kube.Object{Ref: kube.Ref{Kind: kube.RoleBinding, Namespace: "ns", Name: "n"}, Labels: theirs.Labels, Annotations: theirs.Annotations,
		Finalizers: theirs.Finalizers, UID: "uid", ResourceVersion: "7", Role: "r", Subjects: []kube.Subject{{Kind: kube.UserKind, Name: "u"}, {Kind: kube.GroupKind, Name: "g"}}}
	body, err := manifest(object)
	if err != nil {
		t.Fatal(err)
	}
	var made rbacv1.RoleBinding
	reencode(t, body, &made, true)
	want := rbacv1.RoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbacVersion, Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: "ns", UID: "uid", ResourceVersion: "7", Labels: theirs.Labels, Annotations: theirs.Annotations, Finalizers: theirs.Finalizers},
		RoleRef:    role, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "u"}, {Kind: "Group", APIGroup: rbacv1.GroupName, Name: "g"}}}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("they read (-want +got):\n%s", diff)
	}
	object.Ref, object.Subjects = kube.Ref{Kind: kube.Namespace, Name: "n"}, nil
	if body, err = manifest(object); err != nil {
		t.Fatal(err)
	}
	var namespace corev1.Namespace
	reencode(t, body, &namespace, true)
	if namespace.Kind != "Namespace" || namespace.APIVersion != "v1" || namespace.Name != "n" {
		t.Errorf("they read %+v", namespace)
	}

	d := deletion{APIVersion: "v1", Kind: "DeleteOptions"}
	d.Preconditions.UID, d.Preconditions.ResourceVersion = "uid", "7"
	var options metav1.DeleteOptions
	reencode(t, d, &options, true)
	if p := options.Preconditions; p == nil || *p.UID != types.UID("uid") || *p.ResourceVersion != "7" {
		t.Errorf("they read %+v", options)
	}

	var refused refusal
	reencode(t, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Reason: metav1.StatusReasonAlreadyExists, Message: "m",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}}}, &refused, false)
	if refused.Kind != "Status" || refused.Reason != reasonAlreadyExists || refused.Message != "m" || len(refused.Details.Causes) != 1 || refused.Details.Causes[0].Type != "NamespaceTerminating" {
		t.Errorf("we read %+v", refused)
	}
}

func strictly(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
