package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// ClusterRequest creates a cluster, or says anew how one is reached: POST /api/v1/clusters, PUT /api/v1/clusters/{id}. A PUT
// replaces: what is left out gets its default again. To change anything but the name, the caller must hold all that a System
// administrator of the cluster does.
type ClusterRequest struct {
	Name        string `json:"name"`
	Mode        string `json:"mode,omitzero"`        // "issuer" (default) or "agent"
	Server      string `json:"server,omitzero"`      // https://HOST[:PORT][/PATH] of the API server; needed in mode issuer
	CA          string `json:"ca,omitzero"`          // PEM certificates; empty: the public ones
	UserPrefix  string `json:"userPrefix,omitzero"`  // before names of people in the cluster; default "fleetpass:"
	GroupPrefix string `json:"groupPrefix,omitzero"` // before names of groups; default "fleetpass:"
	Unprefixed  bool   `json:"unprefixed,omitzero"`  // allow empty prefixes: only where the cluster's own login names people
	Algorithm   string `json:"algorithm,omitzero"`   // of the cluster's tokens: "ES256" (default) or "RS256"
	Abandon     bool   `json:"abandon,omitzero"`     // PUT: another server or mode, although what Fleetpass wrote is in the cluster
}

// Cluster is a cluster. Its UUID is its id, its scope's id, and the audience of its tokens.
type Cluster struct {
	UUID        core.ClusterID `json:"uuid"`
	Name        string         `json:"name"`
	TenantID    core.TenantID  `json:"tenantId"`
	Mode        string         `json:"mode"`
	Server      string         `json:"server,omitzero"`
	CA          string         `json:"ca,omitzero"`
	UserPrefix  string         `json:"userPrefix"`
	GroupPrefix string         `json:"groupPrefix"`
	Unprefixed  bool           `json:"unprefixed,omitzero"`
	Algorithm   string         `json:"algorithm"`
	CreatedAt   time.Time      `json:"createdAt"`
	CreatedBy   string         `json:"createdBy"`
	UpdatedAt   time.Time      `json:"updatedAt,omitzero"`
}

// ClusterStatus says how far a cluster has followed: GET /api/v1/clusters/{id}/status.
type ClusterStatus struct {
	UUID            core.ClusterID `json:"uuid"`
	Phase           Phase          `json:"phase"`
	RevisionWanted  core.Revision  `json:"revisionWanted"`       // of the tenant, that the cluster shall come to
	RevisionReached core.Revision  `json:"revisionReached"`      // that it conforms to, but for what is pending
	BehindSince     time.Time      `json:"behindSince,omitzero"` // absent: it is not behind
	ReachedAt       time.Time      `json:"reachedAt,omitzero"`
	TriedAt         time.Time      `json:"triedAt,omitzero"`
	ReconciledAt    time.Time      `json:"reconciledAt,omitzero"` // the last full reconcile that succeeded
	LastError       string         `json:"lastError,omitzero"`    // of the last run; absent: it went well
	LastErrorAt     time.Time      `json:"lastErrorAt,omitzero"`
	Failures        int            `json:"failures,omitzero"`  // runs in a row
	Terminal        bool           `json:"terminal,omitzero"`  // it is not retried by itself: somebody must mend something
	RetryAt         time.Time      `json:"retryAt,omitzero"`   // when it is tried again after a failure
	GivenUpAt       time.Time      `json:"givenUpAt,omitzero"` // when it became a dead letter, and has not gone well since
	Bootstrap       string         `json:"bootstrap,omitzero"` // the manifest in the cluster: "current", "outdated" or "missing"
	Pending         int            `json:"pending"`            // objects that wait for something of the cluster's own, such as a namespace
	Problems        []string       `json:"problems"`           // what waits for a person
}

// DepartmentRequest creates a department, or renames it: POST /api/v1/org-unit/departments, PUT …/{id}. A department stays
// in its cluster for good.
type DepartmentRequest struct {
	Name      string         `json:"name"`
	ClusterID core.ClusterID `json:"clusterId,omitzero"` // needed to create; if given with PUT, it must be the present one
	ParentID  core.ScopeID   `json:"parentId,omitzero"`  // likewise: a department's parent is its cluster
}

// Department is a department of a cluster.
type Department struct {
	ID        core.ScopeID   `json:"id"`
	Name      string         `json:"name"`
	ClusterID core.ClusterID `json:"clusterId"`
	ParentID  core.ScopeID   `json:"parentId"` // the cluster's scope
	CreatedAt time.Time      `json:"createdAt"`
	CreatedBy string         `json:"createdBy"`
	UpdatedAt time.Time      `json:"updatedAt,omitzero"`
}

// DepartmentList is a page of departments.
type DepartmentList struct {
	Departments []Department `json:"departments"`
	Next        string       `json:"next,omitzero"` // the parameter cursor of the next page; absent on the last
}

// ProjectRequest creates a project, or renames and moves it: POST /api/v1/org-unit/projects, PUT …/{id}.
type ProjectRequest struct {
	Name               string         `json:"name"`
	ClusterID          core.ClusterID `json:"clusterId,omitzero"`          // may be left out if parentId is given
	ParentID           core.ScopeID   `json:"parentId,omitzero"`           // a department or a cluster; default: the cluster, with PUT: the present one
	RequestedNamespace core.Namespace `json:"requestedNamespace,omitzero"` // default fleetpass-NAME; with PUT it must be the present one
}

// Project is a project.
type Project struct {
	ID                 core.ScopeID   `json:"id"`
	Name               string         `json:"name"`
	ClusterID          core.ClusterID `json:"clusterId"`
	ParentID           core.ScopeID   `json:"parentId"` // a department's or the cluster's scope
	RequestedNamespace core.Namespace `json:"requestedNamespace"`
	CreatedAt          time.Time      `json:"createdAt"`
	CreatedBy          string         `json:"createdBy"`
	UpdatedAt          time.Time      `json:"updatedAt,omitzero"`
}

// ProjectList is a page of projects.
type ProjectList struct {
	Projects []Project `json:"projects"`
	Next     string    `json:"next,omitzero"` // the parameter cursor of the next page; absent on the last
}

// TenantState is a tenant's state.
type TenantState string

// The states of a tenant. Erasing is not asked for by PATCH: it is what DELETE does.
const (
	TenantActive    TenantState = "active"
	TenantSuspended TenantState = "suspended"
	TenantErasing   TenantState = "erasing"
)

// TenantRequest creates a tenant: POST /t/system/api/v1/tenants.
type TenantRequest struct {
	ID   core.TenantID `json:"id"`
	Name string        `json:"name"`
}

// TenantPatch suspends or resumes a tenant: PATCH /t/system/api/v1/tenants/{id}.
type TenantPatch struct {
	State TenantState `json:"state"` // active or suspended
}

// Tenant is a tenant as operators see it.
type Tenant struct {
	ID          core.TenantID `json:"id"`
	Name        string        `json:"name"`
	State       TenantState   `json:"state"`
	WelcomeLink string        `json:"welcomeLink,omitzero"` // shown once: makes the first administrator, once, within 24 h
	CreatedAt   time.Time     `json:"createdAt"`
	CreatedBy   string        `json:"createdBy,omitzero"`
}
