package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// AuditLog is a page of a tenant's audit log, the newest first unless asked otherwise: GET /api/v1/audit/log. A filter that
// seldom matches may leave a page short, or empty, that is not the last.
type AuditLog struct {
	Records []AuditRecord `json:"records"`
	Next    string        `json:"next,omitzero"` // the parameter cursor of the next page; absent on the last
}

// AuditRecord is one act. Its members are spelt as in the original's audit log; those that it does not have are ours.
type AuditRecord struct {
	ID                 string         `json:"id"`
	Timestamp          time.Time      `json:"timestamp"` // to the millisecond
	Tenant             core.TenantID  `json:"tenant"`
	Home               core.TenantID  `json:"home,omitzero"` // the actor's own tenant, where it is another: an operator's act
	Subject            string         `json:"subject"`       // who acted: an e-mail or a client id
	SubjectType        AuditSubject   `json:"subject_type"`
	UserID             core.UserID    `json:"user_id,omitzero"` // of a person who acted
	SourceIP           string         `json:"source_ip,omitzero"`
	Action             string         `json:"action"`               // create, update, delete, sign-in, sign-out or reset-password
	HTTPMethod         string         `json:"http_method,omitzero"` // of the call that the act was part of
	URL                string         `json:"url,omitzero"`         // its path
	EntityType         string         `json:"entity_type"`
	EntityName         string         `json:"entity_name,omitzero"`
	EntityID           string         `json:"entity_id"`
	Scope              core.ScopeID   `json:"scope,omitzero"`
	Result             string         `json:"result"` // Succeeded or Failed
	Status             int            `json:"http_status_code,omitzero"`
	Cluster            core.ClusterID `json:"cluster,omitzero"`
	Request            core.RequestID `json:"request_id,omitzero"`
	Reason             string         `json:"reason,omitzero"`  // of a failure, or what the act was part of
	Comment            string         `json:"comment,omitzero"` // why, as who acted said
	KubernetesAuditIDs []string       `json:"kubernetes_audit_ids,omitzero"`
}

// AuditColumns is the columns of an export as CSV: the members of AuditRecord, in their order.
var AuditColumns = []string{
	"id", "timestamp", "tenant", "home", "subject", "subject_type", "user_id", "source_ip", "action", "http_method", "url",
	"entity_type", "entity_name", "entity_id", "scope", "result", "http_status_code", "cluster", "request_id", "reason", "comment",
	"kubernetes_audit_ids",
}

// AuditSubject is the kind of who acted.
type AuditSubject string

// The kinds, spelt as in the original's audit log.
const (
	AuditUser AuditSubject = "User"
	AuditApp  AuditSubject = "App"
)

// AuditStored is a record or a link of the hash chain as the store holds it, byte for byte.
type AuditStored struct {
	Place []byte `json:"place"`         // its key, within the log or the chain
	Body  []byte `json:"body,omitzero"` // absent: there is nothing at that place
}

// AuditLink is a link of the hash chain with the records that it names.
type AuditLink struct {
	Place   []byte        `json:"place"`
	Body    []byte        `json:"body"`
	Records []AuditStored `json:"records"` // in the order of the link's entries
}

// AuditChain is a part of a tenant's hash chain, for whoever wants to verify it themselves: GET /api/v1/audit/chain.
type AuditChain struct {
	Links        []AuditLink   `json:"links"`
	More         bool          `json:"more"`                   // the chain goes on behind the last of them
	Unsealed     []AuditStored `json:"unsealed,omitzero"`      // at the end of the chain: the records that wait to be sealed
	MoreUnsealed bool          `json:"more_unsealed,omitzero"` // and more of them wait
}

// AuditPlaces is where the log holds sealed records, in byte order: GET /api/v1/audit/chain/places.
type AuditPlaces struct {
	Places [][]byte `json:"places"`
	Next   string   `json:"next,omitzero"` // the parameter cursor of the next page; absent on the last
}
