// Package events holds one struct for each fact that Fleetpass tells the world, and the CloudEvents envelope they travel
// in (CloudEvents 1.0.2, JSON format, structured mode). Facts carry ids only: no name, no secret, nothing personal. Once
// published, a fact's JSON may gain members and never lose one: testdata holds every form, and it must decode for ever.
package events

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Envelope is what is known of every fact.
type Envelope struct {
	ID      string    // unique: a handler that must act once keys on it
	Tenant  string    // the CloudEvents source is "/t/TENANT"
	Time    time.Time // when the commit was made, UTC
	Request string    // the request that caused it; may be empty
	Trace   string    // W3C traceparent of the span that caused it; may be empty. CloudEvents' extension for distributed tracing
}

// Fact is something that happened. Handlers are level-triggered: a fact is a hint to look, and may come late, twice or
// out of order.
type Fact interface {
	// Type is the CloudEvents type: "dev.fleetpass.NOUN.VERB.v1".
	Type() string
}

// AccessChanged: rules, or what their meaning rests on, changed. Clusters names the clusters whose RBAC may differ now;
// All stands for every cluster of the tenant.
type AccessChanged struct {
	Revision uint64   `json:"revision"`
	Clusters []string `json:"clusters,omitempty"`
	All      bool     `json:"all,omitempty"`
	Rules    []uint64 `json:"rules,omitempty"` // created or deleted
}

// ScopeChanged: a cluster, department or project was created, changed, moved or deleted.
type ScopeChanged struct {
	Revision uint64 `json:"revision"`
	Scope    string `json:"scope"`
	Kind     string `json:"kind"`
	Change   string `json:"change"`            // created, updated, moved, deleted
	Cluster  string `json:"cluster,omitempty"` // empty only for the account
}

// UserChanged: a person was created, disabled, enabled, deleted, changed groups or proved otherwise.
type UserChanged struct {
	Revision uint64 `json:"revision"` // 0 where access is not touched
	User     string `json:"user"`     // the id, not the e-mail
	Change   string `json:"change"`   // created, disabled, enabled, deleted, profile, groups, password, connection, signed-out
}

// ApplicationChanged: an application was created, disabled, enabled, deleted or got a new secret.
type ApplicationChanged struct {
	Revision    uint64 `json:"revision"`
	Application string `json:"application"`
	Change      string `json:"change"`
}

// TenantChanged: a tenant was created, suspended, resumed, erased, or its settings changed.
type TenantChanged struct {
	Change string `json:"change"`
}

// KeysRotated: a tenant's set of published keys changed.
type KeysRotated struct {
	Published []string `json:"published"` // key ids
}

// IdentityProviderChanged: a connection to an identity provider was created, changed or deleted, or the provider changed what
// it publishes about itself.
type IdentityProviderChanged struct {
	Connection string `json:"connection"` // the id, not the alias
	Change     string `json:"change"`     // created, updated, mappers, keys, deleted, metadata
}

// CertificateExpiring: a certificate that a connection depends on ends soon, or has ended. It is told once for each of the
// numbers of days.
type CertificateExpiring struct {
	Connection string    `json:"connection"` // the id
	Subject    string    `json:"subject"`    // whose it is: "provider" or "own"
	NotAfter   time.Time `json:"notAfter"`
	Days       int       `json:"days"` // 30, 7 or 1: it ends within so many; 0: it has ended
}

func (AccessChanged) Type() string      { return "dev.fleetpass.access.changed.v1" }
func (ScopeChanged) Type() string       { return "dev.fleetpass.scope.changed.v1" }
func (UserChanged) Type() string        { return "dev.fleetpass.user.changed.v1" }
func (ApplicationChanged) Type() string { return "dev.fleetpass.application.changed.v1" }
func (TenantChanged) Type() string      { return "dev.fleetpass.tenant.changed.v1" }
func (KeysRotated) Type() string        { return "dev.fleetpass.keys.rotated.v1" }

func (IdentityProviderChanged) Type() string { return "dev.fleetpass.identity-provider.changed.v1" }
func (CertificateExpiring) Type() string     { return "dev.fleetpass.certificate.expiring.v1" }

// Encode puts a fact into its envelope, as structured CloudEvents JSON.
func Encode(e Envelope, f Fact) ([]byte, error) {
	ev := event.New("1.0")
	ev.SetID(e.ID)
	ev.SetType(f.Type())
	ev.SetSource("/t/" + e.Tenant)
	ev.SetTime(e.Time)
	if e.Request != "" {
		ev.SetExtension("request", e.Request)
	}
	if e.Trace != "" {
		ev.SetExtension("traceparent", e.Trace)
	}
	if err := ev.SetData("application/json", f); err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", f.Type(), err)
	}
	return json.Marshal(ev)
}

// Decode reads what Encode wrote, now or in any earlier version. A type it does not know is an error that says so.
func Decode(data []byte) (Envelope, Fact, error) {
	var ev event.Event
	if err := json.Unmarshal(data, &ev); err != nil {
		return Envelope{}, nil, fmt.Errorf("events: not a CloudEvent: %w", err)
	}
	env := Envelope{ID: ev.ID(), Time: ev.Time().UTC()}
	if n, err := fmt.Sscanf(ev.Source(), "/t/%s", &env.Tenant); n != 1 || err != nil {
		return env, nil, fmt.Errorf("events: source %q is not /t/TENANT", ev.Source())
	}
	if r, ok := ev.Extensions()["request"].(string); ok {
		env.Request = r
	}
	if p, ok := ev.Extensions()["traceparent"].(string); ok {
		env.Trace = p
	}
	f, err := decodeFact(ev.Type(), ev.Data())
	return env, f, err
}

func decodeFact(typ string, data []byte) (Fact, error) {
	switch typ {
	case AccessChanged{}.Type():
		return fact[AccessChanged](data)
	case ScopeChanged{}.Type():
		return fact[ScopeChanged](data)
	case UserChanged{}.Type():
		return fact[UserChanged](data)
	case ApplicationChanged{}.Type():
		return fact[ApplicationChanged](data)
	case TenantChanged{}.Type():
		return fact[TenantChanged](data)
	case KeysRotated{}.Type():
		return fact[KeysRotated](data)
	case IdentityProviderChanged{}.Type():
		return fact[IdentityProviderChanged](data)
	case CertificateExpiring{}.Type():
		return fact[CertificateExpiring](data)
	}
	return nil, fmt.Errorf("events: unknown type %q", typ)
}

func fact[F Fact](data []byte) (Fact, error) {
	var f F
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("events: %s: %w", f.Type(), err)
	}
	return f, nil
}
