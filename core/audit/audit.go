// Package audit owns the append-only record of who did what. A record is an item of its own in the commit of the act, so
// that there is no act without a record and no record without the act. Each minute what is new is sealed into the
// tenant's hash chain (seal.go), in which Verify finds a record that was changed or removed afterwards.
//
// # Why a record moves
//
// Records are made by many functions at once, with clocks that differ and commits that are late, so an order by time
// cannot say what a seal has seen: a function thawed after minutes commits a record older than those sealed already. So
// a new record goes into an inbox partition, and sealing it moves it, in one commit, from there into the log. What is in
// the inbox is exactly what is not sealed, whatever its time says. No clock is trusted, there is no lag to choose, and
// nothing is skipped.
package audit

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Action is what was done.
type Action string

// The actions, spelt as in the API.
const (
	Create        Action = "create"
	Update        Action = "update"
	Delete        Action = "delete"
	SignIn        Action = "sign-in"
	SignOut       Action = "sign-out"
	ResetPassword Action = "reset-password"
)

// Result says how it ended.
type Result string

// The results, spelt as in the API.
const (
	Succeeded Result = "Succeeded"
	Failed    Result = "Failed"
)

// The types of entity that records are about.
const (
	EntityTenant      = "tenant"
	EntityCluster     = "cluster"
	EntityDepartment  = "department"
	EntityProject     = "project"
	EntityUser        = "user"
	EntityGroup       = "group"
	EntityApplication = "application"
	EntityAccessRule  = "access-rule"
	EntityKey         = "key"
	EntitySession     = "session"
	EntityDeadLetter  = "dead-letter"
	EntityAccessKey   = "access-key"

	EntityIdentityProvider = "identity-provider"
	EntityTrustedIssuer    = "trusted-issuer"
)

// Record is one act. It never holds a secret, a token, or anything that proves who someone is.
type Record struct {
	ID         string         `json:"id"`
	At         time.Time      `json:"at"` // to the millisecond, UTC, by the clock of the function that acted
	Tenant     core.TenantID  `json:"tenant"`
	Subject    core.Subject   `json:"subject"`         // who acted
	UserID     core.UserID    `json:"userId,omitzero"` // of a person who acted
	Home       core.TenantID  `json:"home,omitzero"`   // the actor's own tenant, where it is another: an operator's act
	Action     Action         `json:"action"`
	EntityType string         `json:"entityType"`
	EntityID   string         `json:"entityId"`
	Name       string         `json:"name,omitzero"` // the entity's name for people, where its id says little
	Scope      core.ScopeID   `json:"scope,omitzero"`
	Result     Result         `json:"result"`
	Reason     string         `json:"reason,omitzero"`  // of a failure, or what the act was part of
	Comment    string         `json:"comment,omitzero"` // why, as who acted said
	Request    core.RequestID `json:"request,omitzero"`
	Address    string         `json:"address,omitzero"`
	Cluster    core.ClusterID `json:"cluster,omitzero"` // that the act was done in

	Method string `json:"method,omitzero"` // of HTTP, of the call that the act was part of
	Path   string `json:"path,omitzero"`   // without the query
	Status int    `json:"status,omitzero"` // of the answer

	// KubernetesAuditIDs are the ids of the act's requests in the audit log of the cluster's own API server, as far as it
	// told them.
	KubernetesAuditIDs []string `json:"kubernetesAuditIds,omitzero"`
}

var records store.Table[Record]

// Op makes the operation that records an act, for the act's own commit. It fills in ID, At, Result (if empty: Succeeded),
// Tenant (if empty: the actor's) and, from the actor, who acted and from where.
func Op(actor core.Actor, now time.Time, rec Record) (store.Op, error) {
	rec.ID = core.NewID()
	rec.At = now.UTC().Truncate(time.Millisecond)
	rec.Tenant = cmp.Or(rec.Tenant, actor.Tenant)
	rec.Result = cmp.Or(rec.Result, Succeeded)
	rec.Subject, rec.UserID = actor.Subject, actor.UserID
	rec.Request, rec.Address, rec.Comment = actor.Request, actor.Address, actor.Reason
	rec.Method, rec.Path = actor.Via.Method, actor.Via.Path
	if rec.Status == 0 && rec.Result == Succeeded {
		rec.Status = actor.Via.Status
	}
	if actor.Tenant != rec.Tenant {
		rec.Home = actor.Tenant
	}
	for field, limit := range map[*string]int{&rec.EntityID: 512, &rec.Name: 1024, &rec.Reason: 1024, &rec.Comment: 1024, &rec.Path: 1024, &rec.Address: 64} {
		*field = text(*field, limit)
	}
	if rec.Action == "" || rec.EntityType == "" {
		return store.Op{}, fmt.Errorf("audit: incomplete record of %s: %w", actor.Subject, core.Invalid)
	}
	return records.Put(store.AuditNew(rec.Tenant, rec.At, rec.ID), 0, rec)
}

// text is at most so many bytes of s, as text: what somebody sent who was refused must not keep the refusal from being
// recorded.
func text(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
