package oauth

import (
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trust"
)

// Metadata describes a tenant's authorization server (RFC 8414 §2, OpenID Connect Discovery §3). It is the same for all
// but for the addresses, so it costs no read.
type Metadata struct {
	Issuer                string   `json:"issuer"`
	Authorization         string   `json:"authorization_endpoint"`
	Token                 string   `json:"token_endpoint"`
	UserInfo              string   `json:"userinfo_endpoint"`
	JWKS                  string   `json:"jwks_uri"`
	Revocation            string   `json:"revocation_endpoint"`
	Introspection         string   `json:"introspection_endpoint"`
	EndSession            string   `json:"end_session_endpoint"`
	Device                string   `json:"device_authorization_endpoint"` // RFC 8628 §4
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	SubjectTypes          []string `json:"subject_types_supported"`
	IDTokenAlgorithms     []string `json:"id_token_signing_alg_values_supported"`
	Scopes                []string `json:"scopes_supported"`
	Claims                []string `json:"claims_supported"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported"`
	TokenAuth             []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgorithms   []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth        []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgorithms  []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectAlgorithms  []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	Prompts               []string `json:"prompt_values_supported"`
	IssInResponse         bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
	ClaimsParameter       bool     `json:"claims_parameter_supported"`
	RequestParameter      bool     `json:"request_parameter_supported"`
	RequestURIParameter   bool     `json:"request_uri_parameter_supported"`
	RequireRegisteredURIs bool     `json:"require_request_uri_registration"`

	// APIClients is a parameter of ours (RFC 8414 §2 allows it): the clients at which a person's access token is good for
	// our own APIs and for token exchange. At any other it is for the client itself, userinfo and introspection.
	APIClients []core.ApplicationID `json:"fleetpass_api_clients"`
}

// Metadata describes the tenant's authorization server. The pages, which browsers visit, may be reached at another
// address than the endpoints. The list of algorithms is that of all tokens of this issuer, those for clusters included.
// The password grant is not listed: whether there is one is the tenant's own affair.
func (s *Server) Metadata(t core.TenantID) Metadata {
	issuer, pages := s.Issuer(t), s.BrowserBase
	if pages == "" {
		pages = s.Base
	}
	pages += "/t/" + string(t)
	proofs := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	open := append([]string{"none"}, proofs...)
	return Metadata{
		Issuer: issuer, Authorization: pages + "/authorize", Token: issuer + "/token", UserInfo: issuer + "/userinfo",
		JWKS: issuer + "/jwks", Revocation: issuer + "/revoke", Introspection: issuer + "/introspect", EndSession: pages + "/logout",
		Device:        issuer + "/device_authorization",
		ResponseTypes: []string{"code"}, ResponseModes: []string{"query"},
		GrantTypes:   []string{"authorization_code", "refresh_token", "client_credentials", GrantExchange, GrantJWTBearer},
		SubjectTypes: []string{"public"}, IDTokenAlgorithms: []string{"ES256", "RS256"}, Scopes: scopeValues,
		Claims: []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "sid", "email", "email_verified",
			"name", "preferred_username", "groups"},
		ChallengeMethods: []string{"S256"}, TokenAuth: open, RevocationAuth: open, IntrospectionAuth: proofs,
		TokenAuthAlgorithms: trust.Algorithms, RevocationAlgorithms: trust.Algorithms, IntrospectAlgorithms: trust.Algorithms,
		Prompts: []string{"none", "login", "select_account", "consent"}, IssInResponse: true,
		APIClients: []core.ApplicationID{CLI},
	}
}
