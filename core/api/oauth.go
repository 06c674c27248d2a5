package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
)

// ClientID is the OAuth client that every tenant has for the command line: public, so PKCE alone binds its codes to it.
const ClientID = "fleetpass-cli"

// loginScope asks for who the person is, and for a refresh token.
const loginScope = "openid offline_access email profile groups"

// Issuer is a tenant as an OAuth authorization server, and what its discovery document says.
type Issuer struct {
	URL           string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	JWKS          string `json:"jwks_uri"`
	EndSession    string `json:"end_session_endpoint"`
	Device        string `json:"device_authorization_endpoint"`                  // RFC 8628 §4; empty: it has none
	SendsIssuer   bool   `json:"authorization_response_iss_parameter_supported"` // RFC 9207

	HTTP *http.Client  `json:"-"`
	Skew time.Duration `json:"-"` // how far the server's clock, to the second, is ahead of ours
}

// Discover reads the tenant's discovery document (OpenID Connect Discovery §4). The document must name the very issuer
// that was asked (§4.3): else a server could speak for another.
func Discover(ctx context.Context, h *http.Client, server string) (*Issuer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	status, header, data, err := send(h, req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, responseError(server, status, header, data)
	}
	i := &Issuer{HTTP: h}
	if err := json.Unmarshal(data, i); err != nil {
		return nil, fmt.Errorf("%s has no discovery document: %w", server, err)
	}
	if i.URL != server {
		return nil, fmt.Errorf("%s says that it is the issuer %q; use that URL if you trust it: %w", server, i.URL, core.Invalid)
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": i.Authorization, "token_endpoint": i.Token, "revocation_endpoint": i.Revocation, "device_authorization_endpoint": i.Device} {
		if endpoint == "" && name == "device_authorization_endpoint" {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
			return nil, core.BadField(name, "in the discovery document of "+server+" must be an https URL")
		}
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		i.Skew = time.Until(date).Round(time.Second)
	}
	return i, nil
}

// Tokens is what the token endpoint gives (RFC 6749 §5.1).
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Seconds int64  `json:"expires_in"`

	// Expires is when Access expires by our own clock: counted from before the request, so a clock that is wrong does no
	// harm.
	Expires time.Time `json:"-"`
}

// OAuthError is a refusal in OAuth's terms (RFC 6749 §5.2).
type OAuthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Error is the description, and the code for those who search for it.
func (e *OAuthError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Description + " (" + e.Code + ")"
}

// Unwrap is the kind that the code stands for.
func (e *OAuthError) Unwrap() error {
	switch {
	case e.Code == "invalid_grant" || e.Code == "invalid_token" || e.Code == "invalid_client":
		return core.Unauthenticated
	case e.Code == "access_denied" || e.Code == "unauthorized_client" || e.Code == "invalid_target":
		return core.Denied
	case e.Status == http.StatusTooManyRequests || e.Code == "slow_down":
		return core.Throttled
	case e.Status >= 500:
		return core.Unavailable
	}
	return core.Invalid
}

// AuthorizationURL is where a person signs in: authorization code with PKCE S256 (RFC 7636 §4.3). The challenge is
// x/oauth2's S256ChallengeFromVerifier of the verifier that Redeem gets.
func (i *Issuer) AuthorizationURL(redirect, state, nonce, challenge string) string {
	q := url.Values{
		"response_type": {"code"}, "client_id": {ClientID}, "redirect_uri": {redirect}, "scope": {loginScope},
		"state": {state}, "nonce": {nonce}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	separator := "?"
	if strings.Contains(i.Authorization, "?") {
		separator = "&"
	}
	return i.Authorization + separator + q.Encode()
}

// Redeem swaps a code for tokens.
func (i *Issuer) Redeem(ctx context.Context, code, redirect, verifier string) (Tokens, error) {
	return i.token(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}})
}

// Password signs a local user in, where the tenant allows it.
func (i *Issuer) Password(ctx context.Context, username, password string) (Tokens, error) {
	return i.token(ctx, url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}, "scope": {loginScope}})
}

// Refreshed swaps a refresh token for new tokens, one of which is the refresh token's successor: keep it before anything
// else. core.Unauthenticated means that the session has ended.
func (i *Issuer) Refreshed(ctx context.Context, refresh string) (Tokens, error) {
	return i.token(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
}

// ClusterToken swaps an access token for one that only the cluster accepts (RFC 8693 §2.1). core.Unauthenticated means
// that the access token is not good any more.
func (i *Issuer) ClusterToken(ctx context.Context, access string, cluster core.ClusterID) (Tokens, error) {
	t, err := i.token(ctx, url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {access},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience":           {string(cluster)},
	})
	var refusal *OAuthError
	if errors.As(err, &refusal) && refusal.Code == "invalid_request" {
		// So a subject token that is not valid has to be answered (RFC 8693 §2.2.2), and the rest of the request is right.
		err = fmt.Errorf("%w%w", err, silent{core.Unauthenticated})
	}
	return t, err
}

// Revoke ends the session that a refresh token belongs to (RFC 7009).
func (i *Issuer) Revoke(ctx context.Context, refresh string) error {
	_, err := i.post(ctx, i.Revocation, url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}})
	return err
}

func (i *Issuer) token(ctx context.Context, form url.Values) (t Tokens, err error) {
	begun := time.Now()
	data, err := i.post(ctx, i.Token, form)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, errors.New("the token endpoint answers with something else than tokens") // the cause might quote one
	}
	if t.Access == "" || t.Seconds <= 0 {
		return t, errors.New("the token endpoint answers without an access token or its lifetime")
	}
	t.Expires = begun.Add(time.Duration(t.Seconds) * time.Second).UTC()
	return t, nil
}

func (i *Issuer) post(ctx context.Context, endpoint string, form url.Values) ([]byte, error) {
	form.Set("client_id", ClientID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	status, header, data, err := send(i.HTTP, req)
	if err != nil {
		return nil, err
	}
	if status == http.StatusOK {
		return data, nil
	}
	refusal := &OAuthError{Status: status}
	if json.Unmarshal(data, refusal) == nil && refusal.Code != "" {
		return nil, refusal
	}
	return nil, responseError(i.URL, status, header, data)
}
