package api

import "github.com/fleetpass/fleetpass/core"

// RulePreview is what a change of access rules would do, if it were made: the answer to such a change with the parameter
// dryRun=true, which saves nothing. A change that would be refused is refused with the same answer.
//
// It compares what the clusters must hold by the rules as they are, and as they would be. No cluster is asked: one that is
// behind catches up besides.
type RulePreview struct {
	DryRun   bool             `json:"dryRun"` // always true
	Rules    PreviewedRules   `json:"rules"`
	Clusters []ClusterPreview `json:"clusters"` // those that the rules reach
	More     int              `json:"more"`     // clusters that the rules reach too, and that are not told of
}

// PreviewedRules are the rules that a change would make and take away. A new one has the id that it would have if nothing
// else happened until then.
type PreviewedRules struct {
	Create []AccessRule `json:"create"`
	Delete []AccessRule `json:"delete"`
}

// ClusterPreview is what would change in one cluster.
type ClusterPreview struct {
	ClusterID   core.ClusterID `json:"clusterId"`
	ClusterName string         `json:"clusterName"`
	Phase       Phase          `json:"phase"`  // how the cluster is now
	Behind      bool           `json:"behind"` // it has not reached the present rules, and catches up besides
	// Partial: bindings of the whole cluster are left out, and so are subjects whom the change only moves from one binding to
	// another, since the caller may not view the access rules of the cluster.
	Partial  bool            `json:"partial,omitzero"`
	Changes  []ClusterChange `json:"changes"` // none: everybody concerned has, or keeps, the same by another rule
	Problems []string        `json:"problems,omitzero"`
}

// ClusterChange is one object that would be written in a cluster.
type ClusterChange struct {
	Verb      ChangeVerb       `json:"verb"`
	Kind      string           `json:"kind"` // RoleBinding, ClusterRoleBinding or Namespace
	Namespace core.Namespace   `json:"namespace,omitzero"`
	Name      string           `json:"name"`
	Role      string           `json:"role,omitzero"` // the ClusterRole that it binds
	Adds      []ClusterSubject `json:"adds"`
	Removes   []ClusterSubject `json:"removes"`
	Empties   bool             `json:"empties,omitzero"` // nobody is left in it
}

// ChangeVerb is what happens to an object of a cluster.
type ChangeVerb string

// The verbs. A binding that nobody is left in is updated, to be empty, and deleted some time later.
const (
	ChangeCreate ChangeVerb = "create"
	ChangeUpdate ChangeVerb = "update"
	ChangeDelete ChangeVerb = "delete"
)

// ClusterSubject is somebody in a binding: whom it is about, and how the cluster names them.
type ClusterSubject struct {
	SubjectType SubjectType `json:"subjectType,omitzero"`
	SubjectID   string      `json:"subjectId,omitzero"`
	Kind        string      `json:"kind"` // User or Group
	Name        string      `json:"name"` // with the cluster's prefix
}
