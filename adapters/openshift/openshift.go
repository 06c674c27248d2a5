// Package openshift signs people in at the OAuth server of an OpenShift 4 cluster: the authorization code flow as a
// registered OAuthClient (RFC 6749 §4.1, with PKCE, RFC 7636), and then the cluster's user API, which says who the bearer of
// the token is and which groups they are in. OpenShift is no OpenID provider: there is no ID token, no nonce and no
// signature. What proves the person is that the cluster itself, over TLS, answers for a token that it gave to us alone, for
// a code that was bound to this sign-in by PKCE.
//
// What a cluster's administrator registers:
//
//	apiVersion: oauth.openshift.io/v1
//	kind: OAuthClient
//	metadata: {name: fleetpass}
//	grantMethod: auto
//	secret: …
//	redirectURIs: [the redirect URI that saving the connection returns]
//
// No real OpenShift can be had offline, so the tests hold this package to a stand-in that follows Red Hat's documentation of
// the OAuth server's metadata, its token endpoint and user.openshift.io/v1. It has not been run against a cluster.
package openshift

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Outside is what the package needs of the world outside: core/outbound has it.
type Outside interface {
	// Get reads a document; ca are extra PEM roots, or "".
	Get(ctx context.Context, url, ca string) ([]byte, error)

	// HTTP is a client that goes only where Check allows.
	HTTP(ca string) (*http.Client, error)

	// Check judges an address that this service talks to: core.Invalid naming field.
	Check(field, url string) error

	// CheckPage judges an address that only browsers visit.
	CheckPage(field, url string) error
}

// Provider is sso.Provider and sso.Asker for OpenShift.
type Provider struct{ out Outside }

// New returns a Provider that reaches clusters through out.
func New(out Outside) *Provider { return &Provider{out: out} }

var (
	_ sso.Provider = (*Provider)(nil)
	_ sso.Asker    = (*Provider)(nil)
)

// DefaultScope lets the token's bearer read who they are, with their groups, and nothing else of the cluster. "user:full" is
// all that the person may do there: it works, and is more than anybody should ask for.
const DefaultScope = "user:info"

// The fields that errors name, as the admin API spells them.
const (
	fieldBase     = "ocpData.idpBaseUrl"
	fieldClient   = "ocpData.clientId"
	fieldSecret   = "ocpData.clientSecret"
	maxMetadata   = 64 << 10
	wellKnown     = "/.well-known/oauth-authorization-server"
	myself        = "/apis/user.openshift.io/v1/users/~"
	maxStateBytes = 80
)

// Load reads the metadata of the cluster's OAuth server. The cluster's API server publishes it, at the path of RFC 8414 §3,
// for another issuer than itself: the OAuth server has a host of its own, so what §3.3 asks for, that the issuer be the
// address that was asked, cannot hold. That the answer is the cluster's, TLS says.
func (p *Provider) Load(ctx context.Context, c *sso.Connection, document []byte) error {
	base, err := p.base(*c)
	if err != nil {
		return err
	}
	if document == nil {
		if document, err = p.out.Get(ctx, base+wellKnown, c.CA); err != nil {
			return err
		}
	}
	m, err := parseMetadata(document)
	if err != nil {
		return err
	}
	for _, a := range []struct {
		name  string
		value string
		check func(field, url string) error
	}{
		{"issuer", m.Issuer, p.out.CheckPage}, // never visited: it is only compared
		{"authorization_endpoint", m.Authorization, p.out.CheckPage},
		{"token_endpoint", m.Token, p.out.Check},
	} {
		if err := a.check(fieldBase, a.value); err != nil {
			return fmt.Errorf("%s of the cluster's metadata: %w", a.name, err)
		}
	}
	if len(m.ResponseTypes) > 0 && !slices.Contains(m.ResponseTypes, "code") {
		return core.BadField(fieldBase, "names an OAuth server that does not offer the authorization code flow")
	}
	sum := sha256.Sum256(document)
	settings := *c.OpenShift
	settings.BaseURL = base
	settings.Provider = sso.OpenShiftProvider{
		Issuer: m.Issuer, Authorization: m.Authorization, Token: m.Token,
		PKCE: slices.Contains(m.ChallengeMethods, "S256"), Digest: hex.EncodeToString(sum[:]),
	}
	c.OpenShift = &settings
	return nil
}

// base is the address of the cluster's API server, without a slash at the end.
func (p *Provider) base(c sso.Connection) (string, error) {
	if c.OpenShift == nil {
		return "", core.BadField("ocpData", "is missing")
	}
	base := strings.TrimRight(c.OpenShift.BaseURL, "/")
	if err := p.out.Check(fieldBase, base); err != nil {
		return "", err
	}
	if u, err := url.Parse(base); err != nil || u.RawQuery != "" || u.ForceQuery {
		return "", core.BadField(fieldBase, "must be the address of the cluster's API server, such as https://api.cluster.example.com:6443")
	}
	return base, nil
}

// Start makes the authorization request (RFC 6749 §4.1.1). OpenShift has no way to ask for a fresh proof of who somebody is,
// so Journey.Login is only remembered; Finish notes that nobody knows, and its assertion has no AuthTime.
func (p *Provider) Start(_ context.Context, c sso.Connection, s sso.Secrets, j sso.Journey) (sso.Departure, error) {
	o := c.OpenShift
	switch {
	case o == nil || o.Provider.Authorization == "":
		return sso.Departure{}, core.BadField(fieldBase, "has not been read yet; save the connection again")
	case o.ClientID == "":
		return sso.Departure{}, core.BadField(fieldClient, "is missing; give the name of the cluster's OAuthClient")
	case s.Client == "":
		return sso.Departure{}, core.BadField(fieldSecret, "is missing; give the secret of the cluster's OAuthClient")
	case j.State == "" || len(j.State) > maxStateBytes:
		return sso.Departure{}, fmt.Errorf("openshift: a state of %d bytes", len(j.State))
	}
	u, err := url.Parse(o.Provider.Authorization)
	if err != nil {
		return sso.Departure{}, core.BadField(fieldBase, "names an authorization endpoint that is no URL")
	}
	pending := sso.Pending{Login: j.Login, At: j.Now}
	q := u.Query()
	set := func(name, value string) { q.Set(name, value) }
	set("response_type", "code")
	set("client_id", o.ClientID)
	set("redirect_uri", j.Return)
	set("scope", scope(o))
	set("state", j.State)
	sent := []string{
		"GET " + o.Provider.Authorization, "response_type: code", "client_id: " + o.ClientID,
		"redirect_uri: " + j.Return, "scope: " + scope(o), "state: (not shown)",
	}
	if o.Provider.PKCE {
		pending.Verifier = newVerifier()
		sum := sha256.Sum256([]byte(pending.Verifier))
		set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
		set("code_challenge_method", "S256")
		sent = append(sent, "code_challenge_method: S256")
	}
	u.RawQuery = q.Encode()
	return sso.Departure{URL: u.String(), Sent: strings.Join(sent, "\n"), Pending: pending}, nil
}

func scope(o *sso.OpenShiftSettings) string {
	if len(o.Scopes) == 0 {
		return DefaultScope
	}
	return strings.Join(o.Scopes, " ")
}

// newVerifier is 256 random bits in 43 characters (RFC 7636 §4.1).
func newVerifier() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Leave is "": an OpenShift cluster publishes no address to sign out at.
func (p *Provider) Leave(sso.Connection, sso.Kept, string) string { return "" }
