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

// AccessRule is an access rule. The product whose API this follows numbers its tenants; here a tenant is called by its name, so
// that TenantID, and the ScopeID of the account, are text.
type AccessRule struct {
	ID          core.RuleID    `json:"id"`
	SubjectID   string         `json:"subjectId"`
	SubjectType SubjectType    `json:"subjectType"`
	RoleID      core.RoleID    `json:"roleId"`
	RoleName    string         `json:"roleName"`
	ScopeID     core.ScopeID   `json:"scopeId"`
	ScopeType   ScopeType      `json:"scopeType"`
	ScopeName   string         `json:"scopeName"`
	ScopePath   string         `json:"scopePath,omitzero"` // the names from the tenant to the scope, joined with "/"; of a single rule
	ClusterID   core.ClusterID `json:"clusterId,omitzero"` // absent at the account
	TenantID    core.TenantID  `json:"tenantId"`
	CreatedAt   time.Time      `json:"createdAt"`
	UpdatedAt   time.Time      `json:"updatedAt"` // when it was created, or deleted: rules are immutable
	DeletedAt   *time.Time     `json:"deletedAt"` // null, but where deleted rules are asked for: a deletion is remembered for 30 days
	CreatedBy   string         `json:"createdBy"`
	DeletedBy   string         `json:"deletedBy,omitzero"`
	ExpiresAt   time.Time      `json:"expiresAt,omitzero"`
	Reason      string         `json:"reason,omitzero"`
	// Status is there for a single rule, and in lists for the rules of a cluster and what is in it, and for those that were
	// deleted. What every cluster of the tenant makes of a rule of the account, a list does not say: read the rule.
	Status AccessRuleState `json:"status,omitzero"`
}

// Phase is how far clusters have followed.
type Phase string

// The phases.
const (
	PhaseCreating Phase = "Creating" // on its way to the clusters
	PhaseReady    Phase = "Ready"    // every cluster concerned holds it
	PhaseNotReady Phase = "NotReady" // a cluster concerned has failed to take it, and is retried
	PhaseDeleting Phase = "Deleting" // it was deleted, and clusters give up what it gave
)

// AccessRuleState says whether the clusters that a rule concerns obey it yet.
type AccessRuleState struct {
	Phase   Phase  `json:"phase"`
	Message string `json:"message"`
	Details string `json:"details,omitzero"` // the clusters by phase, of a single rule: "NotReady: [UUID]; Ready: [UUID]"
}

// AccessRuleList is a page of access rules. Those that were deleted come last, if they are asked for with includeDeleted: a
// deletion is remembered for 30 days. With lastUpdated, the list is what was created, and deleted, at that time or later; who
// follows the rules in that way asks from some minutes before the last answer, since servers' clocks differ.
type AccessRuleList struct {
	// TotalRecords is how many match that the caller may view, if this is the last page; otherwise it is one more than this
	// page and those before it have shown. The count is exact.
	TotalRecords   int          `json:"totalRecords"`
	DisplayRecords int          `json:"displayRecords"` // on this page
	AccessRules    []AccessRule `json:"accessRules"`
	Next           string       `json:"next,omitzero"` // the parameter cursor of the next page; absent: this is the last one
}

// The actions of an AccessRuleBatch.
const (
	BatchDelete         = "delete"
	BatchValidateDelete = "validate_delete" // says what delete would answer, and changes nothing
)

// AccessRuleBatch asks to delete up to 100 access rules: POST /api/v1/authorization/access-rules/batch.
type AccessRuleBatch struct {
	IDs    []core.RuleID `json:"ids"`
	Action string        `json:"action"`
}

// AccessRuleBatchResult is what became of each rule of an AccessRuleBatch.
type AccessRuleBatchResult struct {
	ID        core.RequestID      `json:"id"` // of the request, as in the audit log
	Succeeded []core.RuleID       `json:"succeeded"`
	Failed    []AccessRuleFailure `json:"failed"`
	Preview   RulePreview         `json:"preview,omitzero"` // with dryRun=true: nothing was changed, and this is what would be
}

// AccessRuleFailure says why a rule was not deleted.
type AccessRuleFailure struct {
	ID      core.RuleID `json:"id"`
	Code    int         `json:"code"` // the HTTP status that the same request for this rule alone would be answered with
	Message string      `json:"message"`
}

// AccessRuleBatchCreate asks for access rules, of every subject in every scope, at most 100:
// POST /api/v1/authorization/access-rules/batch-create.
type AccessRuleBatchCreate struct {
	Payload AccessRuleMatrix `json:"payload"`
}

// AccessRuleMatrix is subjects and scopes, and the role of each of the subjects in each of the scopes.
type AccessRuleMatrix struct {
	RoleID    core.RoleID         `json:"roleId"`
	ClusterID core.ClusterID      `json:"clusterId,omitzero"` // may be left out; if given, it must be that of every scope
	Subjects  []AccessRuleSubject `json:"subjects"`
	Scopes    []AccessRuleScope   `json:"scopes"`
	ExpiresAt time.Time           `json:"expiresAt,omitzero"`
	Reason    string              `json:"reason,omitzero"`
}

// AccessRuleSubject is a subject. Its members can also be spelt as in AccessRuleRequest.
type AccessRuleSubject struct {
	ID          string      `json:"id,omitzero"`
	Type        SubjectType `json:"type,omitzero"`
	SubjectID   string      `json:"subjectId,omitzero"`
	SubjectType SubjectType `json:"subjectType,omitzero"`
}

// AccessRuleScope is a scope. Its members can also be spelt as in AccessRuleRequest.
type AccessRuleScope struct {
	ID        core.ScopeID `json:"id,omitzero"`
	Type      ScopeType    `json:"type,omitzero"`
	ScopeID   core.ScopeID `json:"scopeId,omitzero"`
	ScopeType ScopeType    `json:"scopeType,omitzero"`
}

// AccessRuleBatchCreateResult is what became of each rule of an AccessRuleBatchCreate.
type AccessRuleBatchCreateResult struct {
	Succeeded []AccessRule              `json:"succeeded"`
	Failed    []AccessRuleCreateFailure `json:"failed"`
	Preview   RulePreview               `json:"preview,omitzero"` // with dryRun=true: nothing was changed, and this is what would be
}

// AccessRuleCreateFailure says why a rule was not created.
type AccessRuleCreateFailure struct {
	Payload AccessRuleRequest `json:"payload"` // the request for this rule alone
	Code    int               `json:"code"`    // the HTTP status that it would be answered with
	Message string            `json:"message"`
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
