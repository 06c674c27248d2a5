package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// SubjectType is how the API spells a core.SubjectKind.
type SubjectType string

// The types of subject. SubjectApp is the older spelling of SubjectServiceAccount: it is understood, and never answered.
const (
	SubjectUser           SubjectType = "user"
	SubjectGroup          SubjectType = "group"
	SubjectServiceAccount SubjectType = "service-account"
	SubjectApp            SubjectType = "app"
)

// SubjectTypeOf spells a kind of subject.
func SubjectTypeOf(k core.SubjectKind) SubjectType {
	if k == core.Application {
		return SubjectServiceAccount
	}
	return SubjectType(k)
}

// Kind is the kind of subject that the type spells; false if it spells none.
func (t SubjectType) Kind() (core.SubjectKind, bool) {
	switch t {
	case SubjectUser:
		return core.User, true
	case SubjectGroup:
		return core.Group, true
	case SubjectServiceAccount, SubjectApp:
		return core.Application, true
	}
	return "", false
}

// ScopeType is how the API spells a core.ScopeKind.
type ScopeType string

// The types of scope. ScopeTenant is the account: a whole tenant. ScopeSystem is the account of the operators' tenant,
// above all the others.
const (
	ScopeSystem     ScopeType = "system"
	ScopeTenant     ScopeType = "tenant"
	ScopeCluster    ScopeType = "cluster"
	ScopeDepartment ScopeType = "department"
	ScopeProject    ScopeType = "project"
)

// ScopeTypeOf spells a kind of scope of a tenant.
func ScopeTypeOf(t core.TenantID, k core.ScopeKind) ScopeType {
	switch {
	case k != core.Account:
		return ScopeType(k)
	case t == core.SystemTenant:
		return ScopeSystem
	}
	return ScopeTenant
}

// Kind is the kind of scope that the type spells; false if it spells none.
func (t ScopeType) Kind() (core.ScopeKind, bool) {
	switch t {
	case ScopeSystem, ScopeTenant:
		return core.Account, true
	case ScopeCluster, ScopeDepartment, ScopeProject:
		return core.ScopeKind(t), true
	}
	return "", false
}

// AccessRuleRequest asks for an access rule: POST /api/v1/authorization/access-rules.
type AccessRuleRequest struct {
	SubjectID   string         `json:"subjectId"` // an e-mail, a group's name or a client id
	SubjectType SubjectType    `json:"subjectType"`
	RoleID      core.RoleID    `json:"roleId"`
	ScopeID     core.ScopeID   `json:"scopeId"`
	ScopeType   ScopeType      `json:"scopeType"`
	ClusterID   core.ClusterID `json:"clusterId,omitzero"` // may be left out; if given, it must be the scope's
	ExpiresAt   time.Time      `json:"expiresAt,omitzero"` // the rule ends at that time; zero: never
	Reason      string         `json:"reason,omitzero"`    // why it was given, for whoever reads the rules later
}

// AccessRule is an access rule.
type AccessRule struct {
	ID          core.RuleID     `json:"id"`
	SubjectID   string          `json:"subjectId"`
	SubjectType SubjectType     `json:"subjectType"`
	RoleID      core.RoleID     `json:"roleId"`
	RoleName    string          `json:"roleName"`
	ScopeID     core.ScopeID    `json:"scopeId"`
	ScopeType   ScopeType       `json:"scopeType"`
	ScopeName   string          `json:"scopeName"`
	ScopePath   string          `json:"scopePath,omitzero"` // the names from the tenant to the scope, joined with "/"; of a single rule
	ClusterID   core.ClusterID  `json:"clusterId,omitzero"` // absent at the account
	TenantID    core.TenantID   `json:"tenantId"`
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"` // always createdAt: rules are immutable
	DeletedAt   *time.Time      `json:"deletedAt"` // always null: deleted rules are not kept
	CreatedBy   string          `json:"createdBy"`
	ExpiresAt   time.Time       `json:"expiresAt,omitzero"`
	Reason      string          `json:"reason,omitzero"`
	Status      AccessRuleState `json:"status,omitzero"` // of a single rule
}

// Phase is how far clusters have followed.
type Phase string

// The phases.
const (
	PhaseCreating Phase = "Creating" // on its way to the clusters
	PhaseReady    Phase = "Ready"    // every cluster concerned holds it
	PhaseNotReady Phase = "NotReady" // a cluster concerned has failed to take it, and is retried
)

// AccessRuleState says whether the clusters that a rule concerns obey it yet.
type AccessRuleState struct {
	Phase   Phase  `json:"phase"`
	Message string `json:"message"`
	Details string `json:"details,omitzero"` // the clusters by phase: "NotReady: [UUID]; Ready: [UUID]"
}

// AccessRuleList is a page of access rules.
type AccessRuleList struct {
	TotalRecords   int          `json:"totalRecords"`   // that match and that the caller may view
	DisplayRecords int          `json:"displayRecords"` // on this page
	AccessRules    []AccessRule `json:"accessRules"`
}

// Permission says what may be done to one type of resource.
type Permission struct {
	ResourceType string   `json:"resourceType"` // "access_rules"
	DisplayName  string   `json:"displayName"`  // "Access rules"
	GroupID      string   `json:"groupId"`      // "iam"
	Actions      []Action `json:"actions"`      // those permitted
}

// Action is how the API spells a policy.Action: the original says "read" for view and "update" for edit.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionRead   Action = "read"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
)

// Role is a system role.
type Role struct {
	ID                    core.RoleID           `json:"id"`
	Name                  string                `json:"name"`
	Description           string                `json:"description"`
	Custom                bool                  `json:"custom"`  // always false: the roles are the system's
	Enabled               bool                  `json:"enabled"` // always true
	EffectiveEnabled      bool                  `json:"effectiveEnabled"`
	CreatedBy             string                `json:"createdBy"`
	Permissions           []Permission          `json:"permissions"`
	KubernetesPermissions KubernetesPermissions `json:"kubernetesPermissions"`
}

// KubernetesPermissions names the role whose rights a role has inside clusters: its own.
type KubernetesPermissions struct {
	PredefinedRole string `json:"predefinedRole"`
}

// PermittedScopesRequest asks where the caller may do something: POST /api/v1/authorization/permitted-scopes.
type PermittedScopesRequest struct {
	ResourceType string `json:"resourceType"`
	Action       Action `json:"action,omitzero"` // absent: all four
}

// PermittedScopes answers, per action asked about.
type PermittedScopes struct {
	Create *ScopeSet `json:"create,omitempty"`
	Read   *ScopeSet `json:"read,omitempty"`
	Update *ScopeSet `json:"update,omitempty"`
	Delete *ScopeSet `json:"delete,omitempty"`
}

// ScopeSet is the scopes where a rule of the caller's permits something. What lies below them is permitted too, and named
// only if there is a rule for it as well.
type ScopeSet struct {
	System      bool             `json:"system"`
	Tenants     []core.TenantID  `json:"tenants"`
	Clusters    []core.ClusterID `json:"clusters"`
	Departments []core.ScopeID   `json:"departments"`
	Projects    []core.ScopeID   `json:"projects"`
}
