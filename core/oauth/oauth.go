// Package oauth is the authorization server of a tenant: it judges authorization requests, issues and redeems codes, and
// answers the token, introspection, revocation, userinfo and logout requests (RFC 6749, RFC 7636, RFC 8693, RFC 7009,
// RFC 7662, RFC 9207, OpenID Connect Core and RP-Initiated Logout), with the rules of RFC 9700. It speaks no HTTP: it is
// given parameters and returns values, and functions/login, token and jwks carry them. Who a person is, core/directory
// and core/session say.
package oauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
)

// Server answers for every tenant. All fields but Upstream are needed.
type Server struct {
	DB        store.DB
	Ring      *keys.Ring
	Sessions  *session.Service
	Directory *directory.Service
	Access    Relevance
	Now       func() time.Time // UTC

	Base        string // what issuers begin with: "https://HOST[:PORT]", no slash at the end
	BrowserBase string // where browsers reach the pages; empty: Base

	Upstream Upstream       // asks identity providers again at each refresh; nil: none is asked
	Issuers  trust.Verifier // reads the keys of trusted issuers; nil: only those given by hand are known

	tenants      memo[org.Tenant]
	applications memo[directory.Application]
	issuers      memo[trust.Issuer]
}

// Relevance says which of a person's groups matter in a cluster: those that a live rule there, or at the account, names.
// core/access answers it.
type Relevance interface {
	RelevantGroups(ctx context.Context, t core.TenantID, groups []core.GroupName, c core.ClusterID) ([]core.GroupName, error)
}

// Upstream asks the identity provider by which a person signed in about them again. core/sso does.
type Upstream interface {
	// Again returns the person as the provider says now, stored. core.Unauthenticated: it does not vouch for them any more;
	// core.Unavailable: it does not answer.
	Again(ctx context.Context, actor core.Actor, up session.Upstream, person directory.User) (directory.User, error)
}

// Issuer is a tenant's issuer identifier: the `iss` of its tokens, compared to the byte.
func (s *Server) Issuer(t core.TenantID) string { return s.Base + "/t/" + string(t) }

// Params are the parameters of a request. One that is empty counts as omitted (RFC 6749 §3.1).
type Params map[string]string

// Call is a request to an endpoint that clients call.
type Call struct {
	Params Params
	Client Credentials
	Actor  core.Actor // the tenant, the request's id and the client's address; no subject yet
}

// Code is an error code of OAuth.
type Code string

// The error codes, each with where it is defined.
const (
	InvalidRequest          Code = "invalid_request"           // RFC 6749 §4.1.2.1, §5.2
	InvalidClient           Code = "invalid_client"            // RFC 6749 §5.2
	InvalidGrant            Code = "invalid_grant"             // RFC 6749 §5.2
	UnauthorizedClient      Code = "unauthorized_client"       // RFC 6749 §5.2
	UnsupportedGrantType    Code = "unsupported_grant_type"    // RFC 6749 §5.2
	UnsupportedResponseType Code = "unsupported_response_type" // RFC 6749 §4.1.2.1
	InvalidScope            Code = "invalid_scope"             // RFC 6749 §5.2
	AccessDenied            Code = "access_denied"             // RFC 6749 §4.1.2.1
	LoginRequired           Code = "login_required"            // OpenID Connect Core §3.1.2.6
	RequestNotSupported     Code = "request_not_supported"     // OpenID Connect Core §3.1.2.6
	RequestURINotSupported  Code = "request_uri_not_supported" // OpenID Connect Core §3.1.2.6
	RegistrationUnsupported Code = "registration_not_supported"
	InvalidTarget           Code = "invalid_target"         // RFC 8693 §2.2.2
	UnsupportedTokenType    Code = "unsupported_token_type" // RFC 7009 §2.2.1
	InvalidToken            Code = "invalid_token"          // RFC 6750 §3.1
	InsufficientScope       Code = "insufficient_scope"     // RFC 6750 §3.1
)

// Error is a refusal in OAuth's terms. Its description is safe to show and never quotes a value of the request.
type Error struct {
	Code        Code
	Description string
	Redirect    string // of an authorization request: where the browser takes the error; empty: it must not leave us
	cause       error
}

// Error is for the log: the code, the description and the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("oauth: %s: %s: %v", e.Code, e.Description, e.cause)
	}
	return fmt.Sprintf("oauth: %s: %s", e.Code, e.Description)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

func refuse(c Code, description string) error { return &Error{Code: c, Description: description} }

// refuseFor turns an error that says "no" into a refusal, with one wording for all its causes. Every other error, such as
// a store that does not answer, stays what it is: a failure must never look like a verdict.
func refuseFor(err error, c Code, description string) error {
	if errors.Is(err, core.Unavailable) {
		return err
	}
	for _, k := range []core.Kind{core.Unauthenticated, core.NotFound, core.Denied, core.Invalid, core.TooLarge} {
		if errors.Is(err, k) {
			return &Error{Code: c, Description: description, cause: err}
		}
	}
	return err
}

// Tokens is the answer of the token endpoint (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3, RFC 8693 §2.2.1).
type Tokens struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	RefreshToken    string `json:"refresh_token,omitempty"`
	IDToken         string `json:"id_token,omitempty"`
	Scope           string `json:"scope,omitempty"`
}

// GrantExchange is the grant type of a token exchange (RFC 8693 §2.1).
const GrantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

// Token answers a token request.
func (s *Server) Token(ctx context.Context, c Call) (Tokens, error) {
	switch c.Params["grant_type"] {
	case "authorization_code":
		return s.redeem(ctx, c)
	case "refresh_token":
		return s.refresh(ctx, c)
	case "client_credentials":
		return s.clientCredentials(ctx, c)
	case "password":
		return s.password(ctx, c)
	case GrantExchange:
		return s.exchange(ctx, c)
	case GrantJWTBearer:
		return s.assertion(ctx, c)
	case GrantDevice:
		return s.pollDevice(ctx, c)
	case "":
		return Tokens{}, refuse(InvalidRequest, "grant_type is missing")
	}
	return Tokens{}, refuse(UnsupportedGrantType, "grant_type must be authorization_code, refresh_token, client_credentials, password or "+GrantExchange)
}
