// Package kube knows what Fleetpass puts into a cluster, and computes it: the objects that rules and projects come to
// (Want), what must change for a cluster to hold them (Diff), the manifest that its administrator applies once
// (Bootstrap), the configuration by which its API server trusts a tenant (Authentication), and the kubeconfig that people
// get. It is pure: values in, values out. Reading and writing clusters is core/sync and adapters/kubernetes.
package kube

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Labels and annotations of our objects. The two labels are what the ValidatingAdmissionPolicy in the bootstrap checks.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by" // its value is ManagedBy on all that we made
	LabelProject   = "fleetpass.dev/project"        // on a namespace: the project it belongs to, as ProjectLabel spells it
	LabelEnforce   = "pod-security.kubernetes.io/enforce"
	ManagedBy      = "fleetpass"

	AnnotationTenant    = "fleetpass.dev/tenant"
	AnnotationCluster   = "fleetpass.dev/cluster"
	AnnotationEpoch     = "fleetpass.dev/epoch"    // which life of the control plane wrote it last: see Stamp
	AnnotationRevision  = "fleetpass.dev/revision" // the tenant's revision it was written at
	AnnotationClaim     = "fleetpass.dev/claim"    // random, recorded before the object was made: see Record
	AnnotationEmptied   = "fleetpass.dev/emptied"  // when a binding lost its last subject, RFC 3339
	AnnotationBootstrap = "fleetpass.dev/bootstrap-version"
)

// SyncUser is the name, without prefix, that Fleetpass itself acts under in a cluster. No person can have it, since a
// person's name holds an "@", and no application, whose names begin with AppPrefix.
const SyncUser = "sync"

// AppPrefix stands before an application's client id where it is the name of a Kubernetes user.
const AppPrefix = "app:"

// Prefixes stand before every name that a cluster sees, so that no name of ours can be one of the cluster's own.
type Prefixes struct {
	User  string // before people, applications and ourselves
	Group string
}

// DefaultPrefixes are used unless a cluster says otherwise.
var DefaultPrefixes = Prefixes{User: "fleetpass:", Group: "fleetpass:"}

// Kind is the kind of an object that sync writes.
type Kind string

// The kinds, spelt as Kubernetes spells them.
const (
	Namespace          Kind = "Namespace"
	RoleBinding        Kind = "RoleBinding"
	ClusterRoleBinding Kind = "ClusterRoleBinding"
)

// Ref names an object in a cluster.
type Ref struct {
	Kind      Kind
	Namespace core.Namespace // of a RoleBinding; else empty
	Name      string
}

// String is "Kind/namespace/name", the name that the object is recorded under.
func (r Ref) String() string { return string(r.Kind) + "/" + string(r.Namespace) + "/" + r.Name }

// ParseRef reads what String wrote.
func ParseRef(s string) (Ref, bool) {
	p := strings.SplitN(s, "/", 3)
	if len(p) != 3 {
		return Ref{}, false
	}
	return Ref{Kind(p[0]), core.Namespace(p[1]), p[2]}, true
}

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// SubjectKind is the kind of a binding's subject. We write User and Group only.
type SubjectKind string

// The kinds of subject.
const (
	UserKind           SubjectKind = "User"
	GroupKind          SubjectKind = "Group"
	ServiceAccountKind SubjectKind = "ServiceAccount" // never ours: found where somebody edited a binding by hand
)

// Subject is one subject of a binding, its name as the cluster sees it, prefix included.
type Subject struct {
	Kind      SubjectKind
	Name      string
	Namespace string // of a ServiceAccount
}

// CompareSubjects orders the subjects of a binding.
func CompareSubjects(a, b Subject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
}

// Object is a namespace or binding: what it is wanted to be, or what a cluster holds.
type Object struct {
	Ref
	Labels      map[string]string
	Annotations map[string]string
	Role        string    // roleRef.name of a binding: a ClusterRole
	Subjects    []Subject // of a binding, sorted

	Finalizers      []string // never ours: a write gives back those that were read
	UID             string   // set by the cluster
	ResourceVersion string   // set by the cluster
	Terminating     bool     // it is being deleted, and a binding grants until it is gone
	AuditID         string   // of what a write returns: the write's id in the API server's audit log, if it told one
}

// labelled says whether an object carries the label of what we made.
func (o Object) labelled() bool { return o.Labels[LabelManagedBy] == ManagedBy }

// State is what a cluster holds that concerns us: every namespace, every binding that carries our label, and those that
// were asked for by name. It is complete, or there is none: a failed or truncated read is an error, never a smaller State.
type State struct {
	Objects   []Object
	Bootstrap string // version of the bootstrap manifest in the cluster; empty if there is none
}

// Record is what the store remembers of an object that we made. The claim is stored before the object is posted and
// written into its annotations: if we die between the two, the next run finds an object that bears the recorded claim and
// knows it as ours. An object with our label but neither recorded uid nor open claim is foreign, whoever labelled it.
type Record struct {
	Claim     string    `json:"claim"`
	ClaimedAt time.Time `json:"claimedAt,omitzero"`
	UID       string    `json:"uid,omitempty"` // empty: posted perhaps, not seen yet
	// Former are the uids that objects of this name had before it was deleted and made anew, latest first: a cluster that
	// is restored from a backup brings one of them back. At most maxFormer.
	Former []string `json:"former,omitempty"`
	Reaped bool     `json:"reaped,omitempty"` // gone; kept for a time, for the same reason
}

// maxFormer bounds what one binding that is deleted again and again leaves behind.
const maxFormer = 16

// Claimed is r before its object is posted once more, under a new claim.
func (r Record) Claimed(claim string, now time.Time) Record {
	return Record{Claim: claim, ClaimedAt: now, Former: r.former("")}
}

// Seen is r once its object was found, or made, with a uid.
func (r Record) Seen(uid string) Record {
	r.Former = r.former(uid)
	r.UID, r.Reaped = uid, false
	return r
}

// former is every uid but one.
func (r Record) former(but string) []string {
	var out []string
	for _, uid := range append([]string{r.UID}, r.Former...) {
		if uid != "" && uid != but && len(out) < maxFormer {
			out = append(out, uid)
		}
	}
	return out
}

// owns says whether an object is the one that r remembers, or was so once.
func (r Record) owns(o Object) bool {
	if o.UID != "" && (r.UID == o.UID || slices.Contains(r.Former, o.UID)) {
		return true
	}
	return r.UID == "" && r.Claim != "" && o.Annotations[AnnotationClaim] == r.Claim
}

// Stamp orders the writers of a cluster. A writer never changes an object that bears a higher stamp than its own: it is
// late, and leaves it. Epochs order bytewise, so a control plane that was restored from a backup takes a later one.
type Stamp struct {
	Epoch    string
	Revision core.Revision
}

// Compare orders stamps by epoch, then revision.
func (s Stamp) Compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.Epoch, o.Epoch), cmp.Compare(s.Revision, o.Revision))
}

// labelValue is compiled when it is first asked for: few functions do, and every cold start would pay for it.
var labelValue = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
})

// ProjectLabel is the value of LabelProject for a project: its scope id, or a hash of it where the id is no label value
// (63 of A-Z, a-z, 0-9, "-", "_" and ".").
func ProjectLabel(id core.ScopeID) string {
	if labelValue().MatchString(string(id)) {
		return string(id)
	}
	sum := sha256.Sum256([]byte(id))
	return "h-" + hex.EncodeToString(sum[:20])
}
