// Package sso owns signing in at identity providers: a tenant's connections to them, what a provider's attributes mean here
// (mapping.go), the way of a sign-in out to the provider and back (signin.go), and the trace that each attempt leaves
// (trace.go). How a kind of provider is spoken to is an adapter's affair, behind the port Provider. Who the person then is in
// the tenant, core/directory says; what they are given, core/session and core/oauth.
package sso

import (
	"cmp"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Kind is what protocol an identity provider speaks.
type Kind string

// The kinds, spelt as in the API.
const (
	SAML      Kind = "saml"         // SAML 2.0 Web Browser SSO
	OIDC      Kind = "oidc"         // OpenID Connect Core 1.0, code flow
	OpenShift Kind = "openshift-v4" // the OAuth server of an OpenShift 4 cluster
)

// Alias names a connection within its tenant, in URLs and in the API.
type Alias string

// Connection is a tenant's connection to one identity provider. It is stored as it stands: secrets in it are sealed.
type Connection struct {
	// ID is random and never reused: people belong to it. An alias can be given anew; that must hand nobody over.
	ID      string `json:"id"`
	Alias   Alias  `json:"alias"`
	Name    string `json:"name"` // for people: on the button of the login page
	Kind    Kind   `json:"kind"`
	Enabled bool   `json:"enabled"`

	// Domains are the e-mail domains that the connection owns, in canonical form: it can assert no other. None: every domain
	// that no other connection of the tenant names. At most one connection is so.
	Domains []string `json:"domains,omitempty"`

	// GroupPrefix stands before every group name that the provider sends. It is fixed when the connection is created, and
	// empty for a tenant's first one.
	GroupPrefix string `json:"groupPrefix,omitempty"`

	// Others are the prefixes of the tenant's other connections, of deleted ones among them: a group whose name begins with
	// one is not this provider's to give, or the one without a prefix could put its people into everybody's groups.
	Others  []string `json:"otherPrefixes,omitempty"`
	Mappers Mappers  `json:"mappers"`

	// CA are PEM certificates that the provider's own addresses are verified with, beside the system's. Optional.
	CA string `json:"ca,omitempty"`

	SAML      *SAMLSettings      `json:"saml,omitempty"`      // of kind SAML
	OIDC      *OIDCSettings      `json:"oidc,omitempty"`      // of kind OIDC
	OpenShift *OpenShiftSettings `json:"openshift,omitempty"` // of kind OpenShift

	CreatedAt time.Time    `json:"createdAt"`
	CreatedBy core.Subject `json:"createdBy"`
	UpdatedAt time.Time    `json:"updatedAt"`
	ProvenAt  time.Time    `json:"provenAt,omitzero"` // when a sign-in or a test of it, as it is configured now, first succeeded
	Refresh   Refresh      `json:"refresh,omitzero"`
}

// Refresh is how the reading of what the provider publishes went. Whatever fails, the last good reading stays in force.
type Refresh struct {
	At           time.Time `json:"at,omitzero"`        // the last attempt
	ChangedAt    time.Time `json:"changedAt,omitzero"` // when it last brought something new
	FailingSince time.Time `json:"failingSince,omitzero"`
	Error        string    `json:"error,omitempty"`     // of the last attempt: a sentence for the administrator
	Reading      bool      `json:"reading,omitempty"`   // since At somebody reads, for a sign-in that waits
	Announced    string    `json:"announced,omitempty"` // which certificate's expiry was announced last, and how long ahead
}

// SAMLSettings is a connection to a SAML identity provider.
type SAMLSettings struct {
	EntityID     string `json:"entityId"`               // ours, towards the provider: the audience of its assertions
	MetadataURL  string `json:"metadataUrl,omitempty"`  // empty: uploaded
	FileName     string `json:"fileName,omitempty"`     // of the upload, for people
	MetadataPin  string `json:"metadataPin,omitempty"`  // PEM certificate that must have signed the metadata. Optional
	IdPInitiated bool   `json:"idpInitiated,omitempty"` // take responses that nobody here asked for
	SignRequests bool   `json:"signRequests,omitempty"` // sign requests though the metadata does not ask for it

	IdP  SAMLProvider `json:"idp"`  // as its metadata says
	Keys []SPKey      `json:"keys"` // ours: one, or two during a rollover. The first signs; all are published and decrypt
}

// SAMLProvider is what the metadata of a SAML identity provider says (SAML 2.0 Metadata §2.4.3).
type SAMLProvider struct {
	EntityID     string         `json:"entityId"`
	SignOn       []SAMLEndpoint `json:"signOn"`       // the bindings that we speak: HTTP-Redirect, HTTP-POST
	Certificates [][]byte       `json:"certificates"` // DER: any of them may have signed
	WantsSigned  bool           `json:"wantsSigned,omitempty"`
	ValidUntil   time.Time      `json:"validUntil,omitzero"`
	Digest       string         `json:"digest"` // SHA-256 of the document, hexadecimal
}

// SAMLEndpoint is where a binding is spoken.
type SAMLEndpoint struct {
	Binding string `json:"binding"` // the binding's URN
	URL     string `json:"url"`
}

// SPKey is a key of ours towards one SAML provider.
type SPKey struct {
	ID          string    `json:"id"`
	Certificate []byte    `json:"certificate"` // DER, self-signed
	Sealed      []byte    `json:"sealed"`      // PKCS#8, sealed by keys.Ring
	CreatedAt   time.Time `json:"createdAt"`
}

// OIDCSettings is a connection to an OpenID provider.
type OIDCSettings struct {
	DiscoveryURL   string          `json:"discoveryUrl"` // of the discovery document
	ClientID       string          `json:"clientId"`
	Secret         []byte          `json:"secret,omitempty"` // sealed by keys.Ring
	Auth           ClientAuth      `json:"auth"`
	Key            *SPKey          `json:"key,omitempty"`  // of private_key_jwt: its public half is given to the provider
	Next           *SPKey          `json:"next,omitempty"` // during a rollover: the one that signs after it
	Scopes         []string        `json:"scopes,omitempty"`
	MandatoryClaim *MandatoryClaim `json:"mandatoryClaim,omitempty"`
	TokenExchange  bool            `json:"tokenExchange,omitempty"` // take ID tokens for this client by themselves: see Service.Vouch
	Provider       OIDCProvider    `json:"provider"`                // as discovery says
}

// ClientAuth is how we prove who we are at a token endpoint (OpenID Connect Core §9).
type ClientAuth string

// The ways, spelt as in discovery documents.
const (
	AuthBasic      ClientAuth = "client_secret_basic"
	AuthPost       ClientAuth = "client_secret_post"
	AuthPrivateKey ClientAuth = "private_key_jwt"
)

// MandatoryClaim admits only people whose claim has one of the values.
type MandatoryClaim struct {
	Claim  string   `json:"claim"`
	Values []string `json:"values"`
}

// OIDCProvider is what the discovery document of an OpenID provider says (OpenID Connect Discovery §3).
type OIDCProvider struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization"`
	Token         string   `json:"token"`
	UserInfo      string   `json:"userInfo,omitempty"`
	JWKS          string   `json:"jwks"`
	EndSession    string   `json:"endSession,omitempty"`
	Algorithms    []string `json:"algorithms,omitempty"`   // of ID tokens, those that we take
	IssParameter  bool     `json:"issParameter,omitempty"` // it promises `iss` in its answers (RFC 9207 §3)
	Digest        string   `json:"digest"`
}

// OpenShiftSettings is a connection to the OAuth server of an OpenShift cluster.
type OpenShiftSettings struct {
	BaseURL  string            `json:"baseUrl"`          // of the cluster's API server
	ClientID string            `json:"clientId"`         // the name of an OAuthClient
	Secret   []byte            `json:"secret,omitempty"` // sealed by keys.Ring
	Scopes   []string          `json:"scopes,omitempty"`
	Provider OpenShiftProvider `json:"provider"` // as /.well-known/oauth-authorization-server says
}

// OpenShiftProvider is what an OpenShift cluster says about its OAuth server (RFC 8414).
type OpenShiftProvider struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization"`
	Token         string `json:"token"`
	PKCE          bool   `json:"pkce,omitempty"` // it checks S256 (RFC 7636)
	Digest        string `json:"digest"`
}

// Mappers name the provider's attributes. An empty one has its default.
type Mappers struct {
	Email               string `json:"email,omitempty"`
	Groups              string `json:"groups,omitempty"`
	UID                 string `json:"uid,omitempty"`
	GID                 string `json:"gid,omitempty"`
	SupplementaryGroups string `json:"supplementaryGroups,omitempty"`
	FirstName           string `json:"firstName,omitempty"`
	LastName            string `json:"lastName,omitempty"`
}

// DefaultMappers are the attribute names where a connection gives none.
var DefaultMappers = Mappers{
	Email: "email", Groups: "GROUPS", UID: "UID", GID: "GID", SupplementaryGroups: "SUPPLEMENTARYGROUPS",
	FirstName: "firstName", LastName: "lastName",
}

// Named is m with the default where it names nothing.
func (m Mappers) Named() Mappers {
	d := DefaultMappers
	return Mappers{
		Email: cmp.Or(m.Email, d.Email), Groups: cmp.Or(m.Groups, d.Groups), UID: cmp.Or(m.UID, d.UID), GID: cmp.Or(m.GID, d.GID),
		SupplementaryGroups: cmp.Or(m.SupplementaryGroups, d.SupplementaryGroups), FirstName: cmp.Or(m.FirstName, d.FirstName), LastName: cmp.Or(m.LastName, d.LastName),
	}
}

// Identity is what a provider said about a person, in our terms.
type Identity struct {
	Email               core.Email       `json:"email"`
	Subject             string           `json:"subject,omitempty"` // the provider's own stable id of the person; "": it has none
	FirstName           string           `json:"firstName,omitempty"`
	LastName            string           `json:"lastName,omitempty"`
	Groups              []core.GroupName `json:"groups,omitempty"` // sorted, each once, with the connection's prefix
	UID                 *int64           `json:"uid,omitempty"`
	GID                 *int64           `json:"gid,omitempty"`
	SupplementaryGroups []int64          `json:"supplementaryGroups,omitempty"`
}
