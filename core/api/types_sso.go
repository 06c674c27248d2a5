package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// IdPType is what protocol an identity provider speaks.
type IdPType string

// The types of identity provider.
const (
	IdPSAML      IdPType = "saml"
	IdPOIDC      IdPType = "oidc"
	IdPOpenShift IdPType = "openshift-v4"
)

// IdPRequest connects an identity provider, or says what a connection shall be from now on: POST /api/v1/idps and PUT
// /api/v1/idps/{alias}. Of samlData, oidcData and ocpData it has the one of its type. In a PUT, secrets that are left out
// stay as they are, and so do enabled, an uploaded document, the prefix and the mappers.
type IdPRequest struct {
	Name    string  `json:"name,omitzero"` // on the button of the login page
	Type    IdPType `json:"type"`
	Alias   string  `json:"alias,omitzero"`    // of a-z, 0-9, "-" and "_", in addresses; default: made from the name. It cannot change
	Enabled *bool   `json:"enabled,omitempty"` // default true

	Domains     []string  `json:"domains,omitempty"`     // the e-mail domains that it may assert; none: every one that no other connection names
	GroupPrefix *string   `json:"groupPrefix,omitempty"` // before every group's name; default: none for the first connection, else "ALIAS:". It cannot change
	TakesOver   string    `json:"takesOver,omitzero"`    // the alias of a deleted connection, whose people become this one's
	CA          string    `json:"ca,omitzero"`           // PEM, of authorities that signed the provider's own certificates
	Mappers     *Mappers  `json:"mappers,omitempty"`
	SAML        *SAMLData `json:"samlData,omitempty"`
	OIDC        *OIDCData `json:"oidcData,omitempty"`
	OpenShift   *OCPData  `json:"ocpData,omitempty"`
}

// MaxMetadataXML bounds an uploaded metadata document, in characters.
const MaxMetadataXML = 100_000

// SAMLData is how a SAML identity provider is connected.
type SAMLData struct {
	MetadataType string `json:"metadataXmlType,omitzero"` // "url" or "file"; default: the one of the two that is given
	MetadataURL  string `json:"metadataXmlUrl,omitzero"`  // read again on a timer
	MetadataXML  string `json:"metadataXmlFile,omitzero"` // the document itself, at most MaxMetadataXML characters
	FileName     string `json:"fileName,omitzero"`        // its name, for people
	EntityID     string `json:"entityId,omitzero"`        // ours, towards the provider; default: where our own metadata is
	MetadataPin  string `json:"metadataPin,omitzero"`     // PEM certificate that must have signed the metadata
	IdPInitiated bool   `json:"idpInitiated,omitzero"`    // take sign-ins that the provider began
	SignRequests bool   `json:"signRequests,omitzero"`    // sign requests though the metadata does not ask for it
}

// OIDCData is how an OpenID provider is connected.
type OIDCData struct {
	ClientID       string          `json:"clientId"`
	ClientSecret   string          `json:"clientSecret,omitzero"`            // never in an answer
	DiscoveryURL   string          `json:"discoverDocumentUrl"`              // of /.well-known/openid-configuration
	Scopes         []string        `json:"scopes,omitempty"`                 // beside openid; default: email, profile
	MandatoryClaim *MandatoryClaim `json:"mandatoryClaim,omitempty"`         // admit only people who have it
	AuthMethod     string          `json:"tokenEndpointAuthMethod,omitzero"` // client_secret_basic, client_secret_post or private_key_jwt
	// swap the provider's ID tokens for this client for tokens (grantType external_token_exchange). An ID token must
	// carry all that is mapped, groups among it: userinfo cannot be asked. What it leaves out, the person has no more, in their
	// other sessions and access keys too, until they sign in in a browser or with a token that has it.
	TokenExchange bool `json:"tokenExchange,omitzero"`
}

// MandatoryClaim is a claim that people need, with one of the values.
type MandatoryClaim struct {
	Claim  string   `json:"claim"`
	Values []string `json:"values"`
}

// OCPData is how an OpenShift 4 cluster is connected.
type OCPData struct {
	ClientID     string   `json:"clientId,omitzero"`     // the name of an OAuthClient
	ClientSecret string   `json:"clientSecret,omitzero"` // never in an answer
	BaseURL      string   `json:"idpBaseUrl"`            // of the cluster's API server, https://api.CLUSTER:6443
	Scopes       []string `json:"scopes,omitempty"`      // default: user:info
}

// Mappers name the provider's attributes: GET and PUT /api/v1/idps/{alias}/mappers. In a request, an empty one is the
// default; answers have the names in force.
type Mappers struct {
	UID                 string `json:"uid,omitzero"`                 // default UID
	GID                 string `json:"gid,omitzero"`                 // default GID
	Groups              string `json:"groups,omitzero"`              // default GROUPS
	SupplementaryGroups string `json:"supplementaryGroups,omitzero"` // default SUPPLEMENTARYGROUPS
	Email               string `json:"email,omitzero"`               // default email
	FirstName           string `json:"firstName,omitzero"`           // default firstName
	LastName            string `json:"lastName,omitzero"`            // default lastName
}

// IdP is a connection to an identity provider. What the provider must be told, RedirectURI and of a SAML one EntityID or
// MetadataURL, is in the answer that made it.
type IdP struct {
	Alias   string  `json:"alias"`
	Name    string  `json:"name"`
	Type    IdPType `json:"type"`
	Enabled bool    `json:"enabled"`

	RedirectURI string `json:"redirectUri"`                         // to be set at the provider, exactly so
	EntityID    string `json:"entityId,omitzero"`                   // saml: likewise
	MetadataURL string `json:"serviceProviderMetadataUrl,omitzero"` // saml: or read both from here

	PostLogoutRedirectURI string `json:"postLogoutRedirectUri,omitzero"` // oidc: likewise, so that browsers come back from signing out there

	Domains     []string `json:"domains"`
	GroupPrefix string   `json:"groupPrefix"`
	Mappers     Mappers  `json:"mappers"`
	CA          string   `json:"ca,omitzero"`

	SAML      *SAMLState `json:"samlData,omitempty"`
	OIDC      *OIDCState `json:"oidcData,omitempty"`
	OpenShift *OCPState  `json:"ocpData,omitempty"`

	CreatedAt time.Time  `json:"createdAt"`
	CreatedBy string     `json:"createdBy"`
	UpdatedAt time.Time  `json:"updatedAt"`
	ProvenAt  time.Time  `json:"provenAt,omitzero"` // when somebody first signed in by it, as it is now; absent: not yet
	Refresh   IdPRefresh `json:"refresh,omitzero"`
	Warnings  []string   `json:"warnings"` // what somebody should see to, in plain words
}

// IdPRefresh is how the last reading of what the provider publishes went. The last good one is in force.
type IdPRefresh struct {
	At           time.Time `json:"at,omitzero"`
	ChangedAt    time.Time `json:"changedAt,omitzero"`
	FailingSince time.Time `json:"failingSince,omitzero"`
	Error        string    `json:"error,omitzero"`
}

// SAMLState is a SAML connection as it is.
type SAMLState struct {
	SAMLData
	MetadataURLOfOurs string        `json:"serviceProviderMetadataUrl"`
	IdPEntityID       string        `json:"idpEntityId"`
	SignOnURL         string        `json:"singleSignOnServiceUrl"`
	Certificate       string        `json:"signingCertificate"`  // base64 of DER: the first
	Certificates      []Certificate `json:"signingCertificates"` // any of them may have signed
	Keys              []Certificate `json:"keys"`                // ours, published in our metadata; the first signs
}

// Certificate is a certificate with what people ask about it.
type Certificate struct {
	DER       []byte    `json:"certificate"` // in base64
	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	SHA256    string    `json:"sha256"`         // of the DER, hexadecimal
	KeyID     string    `json:"keyId,omitzero"` // of a key of ours: the kid in what it signs, which a provider may look it up by
}

// OIDCState is an OIDC connection as it is, without its secret.
type OIDCState struct {
	OIDCData
	Issuer string        `json:"issuer"`
	Keys   []Certificate `json:"keys,omitempty"` // of private_key_jwt, to be registered at the provider: ours, and the next one
}

// OCPState is an OpenShift connection as it is, without its secret.
type OCPState struct {
	OCPData
	Issuer string `json:"issuer"`
}

// IdPTest is the answer to POST /api/v1/idps/{alias}/test: a link that works once, for a sign-in that changes nothing.
type IdPTest struct {
	URL       string    `json:"url"`
	Trace     string    `json:"trace"` // the id of the trace that it writes
	ExpiresAt time.Time `json:"expiresAt"`
}

// UserIdP says which connection a person belongs to: PUT /api/v1/users/{id}/idp. An empty alias makes them local.
type UserIdP struct {
	Alias *string `json:"alias"`
}

// LinkedUser is the answer. Of a person who became local it has a temporary password, which is shown this once.
type LinkedUser struct {
	User
	TempPassword string `json:"tempPassword,omitzero"`
}

// TraceList is a page of a tenant's sign-in traces, the newest first: GET /api/v1/sso/traces.
type TraceList struct {
	Traces []TraceSummary `json:"traces"`
	Next   string         `json:"next,omitzero"` // the parameter cursor of the next page; absent on the last
}

// TraceSummary is one attempt to sign in, in a line.
type TraceSummary struct {
	ID      string     `json:"id"`
	At      time.Time  `json:"at"`
	Alias   string     `json:"alias"`
	Type    IdPType    `json:"type"`
	Outcome string     `json:"outcome"` // started, verified, refused, signed-in or tested
	Test    bool       `json:"test"`
	Email   core.Email `json:"email,omitzero"`   // as far as it got
	Failure string     `json:"failure,omitzero"` // the name of the first check that failed
}

// Trace is what is known about one attempt to sign in: GET /api/v1/sso/traces/{id}. What was sent and received is decoded
// and redacted.
type Trace struct {
	TraceSummary
	Sent     string         `json:"sent,omitzero"`
	Received string         `json:"received,omitzero"`
	Checks   []TraceCheck   `json:"checks"`
	Identity *TraceIdentity `json:"identity,omitempty"`
	Request  core.RequestID `json:"request,omitzero"`
	Address  string         `json:"address,omitzero"`
}

// TraceCheck is one question about a sign-in with its answer.
type TraceCheck struct {
	Name     string `json:"name"`
	Result   string `json:"result"` // passed, failed or noted
	Found    string `json:"found,omitzero"`
	Expected string `json:"expected,omitzero"`
	Fix      string `json:"fix,omitzero"`
}

// TraceIdentity is what the provider said about the person, mapped.
type TraceIdentity struct {
	Email               core.Email       `json:"email"`
	Subject             string           `json:"subject,omitzero"`
	FirstName           string           `json:"firstName,omitzero"`
	LastName            string           `json:"lastName,omitzero"`
	Groups              []core.GroupName `json:"groups"`
	UID                 *int64           `json:"uid,omitempty"`
	GID                 *int64           `json:"gid,omitempty"`
	SupplementaryGroups []int64          `json:"supplementaryGroups,omitempty"`
}

// SecuritySettings are all of a tenant's security settings: GET /api/v1/security/settings. Each is read and written by its
// name below that.
type SecuritySettings struct {
	AutoRedirectSSO       AutoRedirectSSO       `json:"autoRedirectSSO"`
	BrowserSessionTimeout BrowserSessionTimeout `json:"browserSessionTimeout"`
	LogoutRedirectURI     LogoutRedirectURI     `json:"logoutRedirectUri"`
	EnforceSSO            EnforceSSO            `json:"enforceSSO"`
}

// AutoRedirectSSO has the login page go to a connection by itself.
type AutoRedirectSSO struct {
	Enabled *bool  `json:"enabled"`
	Alias   string `json:"idpAlias,omitzero"` // forgotten where it is not enabled
}

// BrowserSessionTimeout ends a browser's session that is unused for so long. It is the idleTimeout of /tenant/settings.
type BrowserSessionTimeout struct {
	IdleTimeout int64 `json:"idleTimeout"` // in minutes, rounded up: 1 to 10080
}

// LogoutRedirectURI is where a browser is taken to after signing out.
type LogoutRedirectURI struct {
	URI *string `json:"uri"` // "": a page of ours
}

// EnforceSSO leaves passwords to the few named.
type EnforceSSO struct {
	Enabled    *bool    `json:"enabled"`
	BreakGlass []string `json:"breakGlass,omitempty"` // e-mails of local users who may use a password even so
}
