package api

import "time"

// JSONWebKeySet is a set of public keys (RFC 7517 §5). Members that are not understood are left out, as RFC 7517 §4 asks.
type JSONWebKeySet struct {
	Keys []map[string]any `json:"keys"`
}

// SecretRequest says how long the secrets of before live on beside a new one: POST /api/v1/service-accounts/{id}/secret.
type SecretRequest struct {
	GracePeriod int64 `json:"gracePeriod,omitzero"` // seconds, 0 to 30 days. 0: they end at once
}

// ApplicationTrust says which tokens of an issuer stand for an application: those for the audience of which every condition
// holds.
type ApplicationTrust struct {
	Issuer     string           `json:"issuer"`             // the name of a trusted issuer
	Audience   string           `json:"audience,omitempty"` // the token's only `aud`; default: the tenant's own issuer
	Conditions []TrustCondition `json:"conditions"`
}

// TrustCondition wants a claim to have one of some values.
type TrustCondition struct {
	// Claim is the name of a claim, to the letter, or a JSON Pointer (RFC 6901): /kubernetes.io/serviceaccount/name. Of a list,
	// one element is enough.
	Claim  string   `json:"claim"`
	Values []string `json:"values"` // to the letter; one that ends with * stands for all that begins so
}

// TrustedIssuerRequest has the tenant trust an issuer, or says anew how its keys are had: POST /api/v1/trusted-issuers, PUT
// /api/v1/trusted-issuers/{name}.
type TrustedIssuerRequest struct {
	Name    string         `json:"name"`
	Issuer  string         `json:"issuer"`            // the `iss` of its tokens, to the byte. It cannot be changed
	JWKSURI string         `json:"jwksUri,omitempty"` // where it publishes its keys; default: what its discovery document says
	JWKS    *JSONWebKeySet `json:"jwks,omitempty"`    // its keys, where it cannot be reached from here
	CA      string         `json:"ca,omitempty"`      // PEM certificates that its addresses are verified with, beside the system's
	Enabled *bool          `json:"enabled,omitempty"` // default: true
}

// TrustedIssuer is an issuer whose tokens the tenant's applications may prove themselves with.
type TrustedIssuer struct {
	Name       string         `json:"name"`
	Issuer     string         `json:"issuer"`
	JWKSURI    string         `json:"jwksUri,omitempty"`
	Discovered bool           `json:"discovered"` // jwksUri is what its discovery document said
	JWKS       *JSONWebKeySet `json:"jwks,omitempty"`
	CA         string         `json:"ca,omitempty"`
	Enabled    bool           `json:"enabled"`
	CreatedBy  string         `json:"createdBy"`
	CreatedAt  time.Time      `json:"createdAt"`
	UpdatedAt  time.Time      `json:"updatedAt"`
}
