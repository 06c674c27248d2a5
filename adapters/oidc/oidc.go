// Package oidc signs people in at OpenID providers: the authorization code flow of OpenID Connect Core 1.0 §3.1, with PKCE
// (RFC 7636), a nonce, and the issuer in the answer where the provider sends it (RFC 9207).
//
// It takes signature verification from coreos/go-oidc, and judges everything else itself: go-oidc checks neither nonce nor
// azp, takes tokens without `sub` or `iat`, and the last of duplicate members. What a provider sends is data of a stranger:
// bounded, split by the one strict parser of the house (core/token.Strict), and quoted only to the tenant's administrators.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Provider is sso.Provider and sso.Asker for OpenID Connect.
type Provider struct {
	out  *outbound.Client
	keys keyCache
}

// New returns a Provider that reaches OpenID providers through out. It keeps their public keys, and nothing else.
func New(out *outbound.Client) *Provider { return &Provider{out: out, keys: keyCache{fetch: out.Get}} }

var (
	_ sso.Provider = (*Provider)(nil)
	_ sso.Asker    = (*Provider)(nil)
)

// The scopes that are always asked for: who the person is, and the claims that have defaults (OpenID Connect Core §5.4).
var scopes = []string{"openid", "email", "profile"}

// maxHint bounds what is passed on of what a person typed: the longest e-mail (RFC 5321 §4.5.3.1).
const maxHint = 320

var errNotOIDC = errors.New("oidc: the connection is of another kind")

// Start makes the request of OpenID Connect Core §3.1.2.1. With j.Login the provider is asked to have the person prove anew
// who they are; Finish then refuses an auth_time that shows that it did not.
func (p *Provider) Start(_ context.Context, c sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	if c.OIDC == nil {
		return sso.Departure{}, errNotOIDC
	}
	pending := sso.Pending{Nonce: random(), Verifier: random(), Login: j.Login, At: j.Now}
	challenge := sha256.Sum256([]byte(pending.Verifier))
	asked := slices.Clone(scopes)
	for _, s := range c.OIDC.Scopes {
		if !slices.Contains(asked, s) {
			asked = append(asked, s)
		}
	}
	q := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.OIDC.ClientID},
		"redirect_uri":          {j.Return},
		"scope":                 {strings.Join(asked, " ")},
		"state":                 {j.State},
		"nonce":                 {pending.Nonce},
		"code_challenge":        {encode(challenge[:])},
		"code_challenge_method": {"S256"},
	}
	if j.Login {
		q.Set("prompt", "login")
		q.Set("max_age", "0")
	}
	if slices.Contains(asked, "offline_access") { // without consent providers leave the refresh token out (OpenID Connect Core §11)
		q.Set("prompt", strings.TrimSpace(q.Get("prompt")+" consent"))
	}
	if j.Hint != "" && len(j.Hint) <= maxHint {
		q.Set("login_hint", j.Hint)
	}
	to := extend(c.OIDC.Provider.Authorization, q)
	return sso.Departure{URL: to, Sent: sent(c.OIDC.Provider.Authorization, q), Pending: pending}, nil
}

// sent is a request for people to read, without what could be used by whoever reads it.
func sent(endpoint string, q url.Values) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s\n", endpoint)
	for _, name := range []string{"response_type", "client_id", "redirect_uri", "scope", "prompt", "max_age", "login_hint", "state", "nonce", "code_challenge", "code_challenge_method"} {
		switch {
		case !q.Has(name):
		case name == "state" || name == "nonce":
			fmt.Fprintf(&b, "%s = (hidden, %d characters)\n", name, len(q.Get(name)))
		default:
			fmt.Fprintf(&b, "%s = %s\n", name, visible(q.Get(name)))
		}
	}
	return limited(b.String(), sso.MaxSent)
}

// Leave is the address of OpenID Connect RP-Initiated Logout 1.0 §2. The hint is left out where it is too long for an
// address; the provider then asks the person.
func (p *Provider) Leave(c sso.Connection, k sso.Kept, back string) string {
	if c.OIDC == nil || c.OIDC.Provider.EndSession == "" {
		return ""
	}
	q := url.Values{"client_id": {c.OIDC.ClientID}}
	if k.IDToken != "" {
		q.Set("id_token_hint", k.IDToken)
	}
	if back != "" {
		q.Set("post_logout_redirect_uri", back)
	}
	return extend(c.OIDC.Provider.EndSession, q)
}

// extend adds parameters to an address, which may have some and keeps them (RFC 6749 §3.1).
func extend(address string, q url.Values) string {
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	return address + separator + q.Encode()
}

// random is a value of 256 bits, of the length that a code verifier has at least (RFC 7636 §4.1).
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return encode(b[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
