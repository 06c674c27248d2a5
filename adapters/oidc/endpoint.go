package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/redact"
	"github.com/fleetpass/fleetpass/core/sso"
)

// maxToken bounds each token that a provider gives, in bytes, and a code.
const maxToken = 64 << 10

// tokens is a token endpoint's answer (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
type tokens struct{ access, refresh, id string }

// oauthError is a provider's refusal in OAuth's form (RFC 6749 §4.1.2.1, §5.2). Its text is the provider's, made harmless to
// show, and without what was sent there.
type oauthError struct{ code, description string }

func (e *oauthError) Error() string {
	if e.description == "" {
		return e.code
	}
	return e.code + ": " + e.description
}

// malformed is an answer that is not of the form that the endpoint must give.
type malformed string

func (m malformed) Error() string { return string(m) }

// exchange asks the token endpoint. The error is an *oauthError or malformed where it answered, else of core/outbound.
func (p *Provider) exchange(ctx context.Context, c sso.Connection, s sso.Secrets, form url.Values, now time.Time) (tokens, error) {
	request, secrets, err := p.tokenRequest(ctx, c, s, form, now)
	if err != nil {
		return tokens{}, err
	}
	status, body, err := p.out.Send(request, c.CA)
	if err != nil {
		return tokens{}, err
	}
	if status >= 500 || status == http.StatusTooManyRequests {
		return tokens{}, fmt.Errorf("%s answered %d: %w", request.URL.Host, status, core.Unavailable)
	}
	answer, err := read(body)
	if err != nil {
		return tokens{}, malformed(fmt.Sprintf("the token endpoint answered %d with what is no well-formed JSON object", status))
	}
	if status != http.StatusOK || answer.has("error") {
		return tokens{}, refusal(answer, status, secrets)
	}
	t := tokens{}
	for name, to := range map[string]*string{"access_token": &t.access, "refresh_token": &t.refresh, "id_token": &t.id} {
		v, ok := answer.str(name)
		if !ok || len(v) > maxToken || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return tokens{}, malformed("the token endpoint answered with a " + name + " that is none")
		}
		*to = v
	}
	if kind, ok := answer.str("token_type"); !ok || kind != "" && !strings.EqualFold(kind, "bearer") {
		return tokens{}, malformed("the token endpoint answered with tokens of a type other than Bearer")
	}
	return t, nil
}

// refusal reads an error answer.
func refusal(answer object, status int, secrets []string) error {
	code, _ := answer.str("error")
	description, _ := answer.str("error_description")
	if code == "" {
		return malformed(fmt.Sprintf("the token endpoint answered %d without an OAuth error", status))
	}
	if redact.Repeats(code, secrets...) {
		code = "an error"
	}
	if redact.Repeats(description, secrets...) {
		description = "(hidden, for it repeats a secret)"
	}
	return &oauthError{visible(code), visible(description)}
}

// tokenRequest is a request to the token endpoint with the client's proof of who it is, and what in it nobody may read.
func (p *Provider) tokenRequest(ctx context.Context, c sso.Connection, s sso.Secrets, form url.Values, now time.Time) (*http.Request, []string, error) {
	o := c.OIDC
	secrets := []string{s.Client, form.Get("code"), form.Get("code_verifier"), form.Get("refresh_token")}
	basic := ""
	switch o.Auth {
	case sso.AuthPost:
		form.Set("client_id", o.ClientID)
		form.Set("client_secret", s.Client)
	case sso.AuthPrivateKey:
		assertion, err := clientAssertion(o, s, now)
		if err != nil {
			return nil, nil, err
		}
		form.Set("client_id", o.ClientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		secrets = append(secrets, assertion)
	default:
		// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1): a secret may have a colon.
		basic = base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(s.Client)))
		secrets = append(secrets, basic)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.Provider.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, core.BadField(fieldDiscovery, "leads to a document whose token_endpoint is no address")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	if basic != "" {
		request.Header.Set("Authorization", "Basic "+basic)
	}
	return request, secrets, nil
}

// assertionLife is how long a client assertion holds: it is made for one request.
const assertionLife = time.Minute

// clientAssertion is the JWT of private_key_jwt (OpenID Connect Core §9, RFC 7523 §3).
func clientAssertion(o *sso.OIDCSettings, s sso.Secrets, now time.Time) (string, error) {
	if len(s.Keys) == 0 || s.Keys[0].Private == nil {
		return "", core.BadField(fieldAuth, "is private_key_jwt, and there is no key; save the connection again")
	}
	key := s.Keys[0]
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": o.ClientID, "sub": o.ClientID, "aud": o.Provider.Token, "jti": core.NewID(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	t.Header["kid"] = key.ID
	if len(key.Certificate) > 0 { // Entra ID finds the key by this, and not by kid
		sum := sha256.Sum256(key.Certificate)
		t.Header["x5t#S256"] = encode(sum[:])
	}
	signed, err := t.SignedString(key.Private)
	if err != nil {
		return "", errors.New("oidc: the client's assertion cannot be signed") // the cause is the key's
	}
	return signed, nil
}
