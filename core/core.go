// Package core holds the nouns of Fleetpass: who (subjects), where (scopes), what (roles, rules), and the kinds of error.
// Read it first. What is not here is private to the package of its verb. Core imports no SDK, no server and no adapter.
package core

import (
	"fmt"
	"strings"
	"time"
)

// Identifiers are distinct types, so that mixing them does not compile.
type (
	TenantID      string // a tenant's name in URLs and keys: see ParseTenantID
	UserID        string // random, never reused; the `sub` of a person's tokens
	Email         string // canonical form: see ParseEmail. It is the person's name in rules and clusters
	GroupName     string // as the identity provider sends it, after ParseGroupName
	ApplicationID string // an application's client id
	ClusterID     string // a UUID; also the audience of the cluster's tokens
	ScopeID       string // see NewClusterScope and NewScopeID: it carries its cluster
	RoleID        int    // one of the 18 system roles
	RuleID        uint64 // the tenant's revision that the rule was created at
	Revision      uint64 // counts a tenant's changes of access and of its scope tree
	RequestID     string // joins logs, audit records and events
	Namespace     string // a Kubernetes namespace
)

// SystemTenant is the operators' tenant: its account administrators create, suspend and erase the others.
const SystemTenant TenantID = "system"

// SubjectKind is what a rule is given to.
type SubjectKind string

// The kinds of subject, spelt as in the API.
const (
	User        SubjectKind = "user"        // its ID is an Email
	Group       SubjectKind = "group"       // its ID is a GroupName
	Application SubjectKind = "application" // its ID is an ApplicationID
)

// Subject is who a rule is given to, and who acts.
type Subject struct {
	Kind SubjectKind `json:"kind"`
	ID   string      `json:"id"`
}

// UserSubject is the subject of the person with that e-mail.
func UserSubject(e Email) Subject { return Subject{User, string(e)} }

// GroupSubject is the subject of the group with that name.
func GroupSubject(g GroupName) Subject { return Subject{Group, string(g)} }

// ApplicationSubject is the subject of the application with that client id.
func ApplicationSubject(a ApplicationID) Subject { return Subject{Application, string(a)} }

// String is "kind:id".
func (s Subject) String() string { return string(s.Kind) + ":" + s.ID }

// ScopeKind is the level of a scope in the tree.
type ScopeKind string

// The levels of the scope tree, from the top. A rule holds for its scope and everything below.
const (
	Account    ScopeKind = "account" // the whole tenant
	Cluster    ScopeKind = "cluster"
	Department ScopeKind = "department"
	Project    ScopeKind = "project"
)

// AccountScope is the id of a tenant's account scope: the tenant's own id.
func AccountScope(t TenantID) ScopeID { return ScopeID(t) }

// ClusterScope is the id of a cluster's scope: the cluster's own id.
func ClusterScope(c ClusterID) ScopeID { return ScopeID(c) }

// NewScopeID makes the id of a department or project of a cluster. A department and a project never leave their cluster,
// so the id carries it, which saves a decision one read: "CLUSTER.RANDOM".
func NewScopeID(c ClusterID) ScopeID { return ScopeID(string(c) + "." + strings.ToLower(newID(8))) }

// ClusterOf returns the cluster that a scope id lies in; false for an account scope.
func (s ScopeID) ClusterOf() (ClusterID, bool) {
	c, _, _ := strings.Cut(string(s), ".")
	if len(c) != 36 {
		return "", false
	}
	return ClusterID(c), true
}

// Path is a scope with everything above it, the account first, at most four long. A rule in any of them holds.
type Path [4]ScopeID

// Rule says: Subject is a Role in a Scope. A rule is never changed, only created and deleted.
type Rule struct {
	ID        RuleID    `json:"id"`
	Subject   Subject   `json:"subject"`
	Role      RoleID    `json:"role"`
	Scope     ScopeID   `json:"scope"`
	ScopeKind ScopeKind `json:"scopeKind"`
	CreatedAt time.Time `json:"createdAt"`
	CreatedBy Subject   `json:"createdBy"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"` // zero: never
	Reason    string    `json:"reason,omitempty"`
}

// Live says whether the rule still holds at that time. It ends at ExpiresAt, not after it.
func (r Rule) Live(now time.Time) bool { return r.ExpiresAt.IsZero() || now.Before(r.ExpiresAt) }

// String says the rule as a sentence.
func (r Rule) String() string {
	return fmt.Sprintf("rule %d: %s is role %d in %s %s", r.ID, r.Subject, r.Role, r.ScopeKind, r.Scope)
}

// Actor is who does something, for guards, audit records and events.
type Actor struct {
	Tenant  TenantID
	Subject Subject
	UserID  UserID    // set for a person
	Request RequestID // of the call that the act is part of
	Address string    // the client's address as the outermost trusted hop saw it
	Trace   string    // W3C traceparent of the span that the act is part of; empty where nothing is traced
	Reason  string    // why, as the caller said; at most 500 bytes of text that prints
	Via     Via       // the call of the API that the act is part of, if it is one
}

// Via is a call of an API, for audit records.
type Via struct {
	Method string // of HTTP
	Path   string // without the query
	Status int    // of the answer, if the act succeeds
}

// SystemActor acts for Fleetpass itself, in maintenance and seeding.
func SystemActor(t TenantID) Actor {
	return Actor{Tenant: t, Subject: Subject{Kind: Application, ID: "fleetpass"}}
}
