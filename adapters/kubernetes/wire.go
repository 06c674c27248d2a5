package kubernetes

import "time"

// The objects as they go over the wire: of core/v1, rbac.authorization.k8s.io/v1 and meta/v1 what we read and write, and
// nothing else. The packages of k8s.io/api would bring their generated code, a YAML, a CBOR and another JSON decoder into
// every function, and a fifth of its cold start with them. TestWire holds these types to those.

type meta struct {
	Name            string            `json:"name,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Deletion        *time.Time        `json:"deletionTimestamp,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
}

// object is a namespace, which has no role and no subjects, or a binding.
type object struct {
	APIVersion string    `json:"apiVersion,omitempty"`
	Kind       string    `json:"kind,omitempty"`
	Metadata   meta      `json:"metadata"`
	Status     *phase    `json:"status,omitempty"`
	RoleRef    *roleRef  `json:"roleRef,omitempty"`
	Subjects   []subject `json:"subjects,omitempty"`
}

// phase is the status of a namespace.
type phase struct {
	Phase string `json:"phase,omitempty"`
}

const phaseTerminating = "Terminating"

type roleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

type subject struct {
	Kind      string `json:"kind"`
	APIGroup  string `json:"apiGroup,omitempty"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

const (
	rbacGroup   = "rbac.authorization.k8s.io"
	rbacVersion = rbacGroup + "/v1"
)

// deletion asks for an object to be deleted if it is still the one that was read.
type deletion struct {
	APIVersion    string `json:"apiVersion"`
	Kind          string `json:"kind"`
	Preconditions struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"preconditions"`
}

// refusal is the Status that an API server answers with when it refuses.
type refusal struct {
	Kind    string `json:"kind"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Causes []struct {
			Type string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

const reasonAlreadyExists = "AlreadyExists"
