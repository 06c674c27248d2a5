package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The fields that errors name, as the admin API spells them.
const (
	fieldDiscovery = "oidcData.discoverDocumentUrl"
	fieldAuth      = "oidcData.clientAuth"
)

const wellKnown = "/.well-known/openid-configuration"

// algorithms are those that ID tokens may be signed with, in the order in which they are listed. None with a shared secret:
// then whoever can verify a token can make one.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Load reads the discovery document (OpenID Connect Discovery 1.0 §4). The address of an issuer is taken for that of its
// document. The issuer that the document names must be the one that it was found at (§4.3): otherwise whoever can put a
// document somewhere could speak for another issuer.
func (p *Provider) Load(ctx context.Context, c *sso.Connection, document []byte) error {
	if c.OIDC == nil {
		return errNotOIDC
	}
	address := c.OIDC.DiscoveryURL
	if !strings.HasSuffix(address, wellKnown) {
		address = strings.TrimSuffix(address, "/") + wellKnown
	}
	if err := p.out.Check(fieldDiscovery, address); err != nil {
		return err
	}
	if document == nil {
		var err error
		if document, err = p.out.Get(ctx, address, c.CA); err != nil {
			return naming(fieldDiscovery, err)
		}
	}
	doc, err := read(document)
	if err != nil {
		return core.BadField(fieldDiscovery, "does not lead to a discovery document: what is there is no well-formed JSON object")
	}
	settings := *c.OIDC
	settings.DiscoveryURL = address
	if settings.Provider, err = p.described(doc, address); err != nil {
		return err
	}
	sum := sha256.Sum256(document)
	settings.Provider.Digest = hex.EncodeToString(sum[:])
	if settings.Auth, err = chooseAuth(doc, settings.Auth, settings.Key != nil); err != nil {
		return err
	}
	c.OIDC = &settings
	return nil
}

// naming gives an error of the outside world the name of our field.
func naming(field string, err error) error {
	var bad *core.FieldError
	if errors.As(err, &bad) && bad.Field == "url" {
		return core.BadField(field, bad.Fix)
	}
	return err
}

// described checks what a discovery document says (§3).
func (p *Provider) described(doc object, address string) (sso.OIDCProvider, error) {
	var got sso.OIDCProvider
	bad := func(format string, args ...any) (sso.OIDCProvider, error) {
		return sso.OIDCProvider{}, core.BadField(fieldDiscovery, fmt.Sprintf(format, args...))
	}
	for _, m := range []struct {
		name     string
		to       *string
		required bool
		check    func(field, url string) error
	}{
		{"issuer", &got.Issuer, true, nil},
		{"authorization_endpoint", &got.Authorization, true, p.out.CheckPage},
		{"token_endpoint", &got.Token, true, p.out.Check},
		{"jwks_uri", &got.JWKS, true, p.out.Check},
		{"userinfo_endpoint", &got.UserInfo, false, p.out.Check},
	} {
		value, ok := doc.str(m.name)
		if !ok || m.required && value == "" {
			return bad("leads to a document without %s, so it is no discovery document; give the provider's address that ends in %s", m.name, wellKnown)
		}
		*m.to = value
		if value == "" || m.check == nil {
			continue
		}
		var field *core.FieldError
		if err := m.check(m.name, value); errors.As(err, &field) {
			return bad("leads to a document whose %s %s", m.name, field.Fix)
		} else if err != nil {
			return sso.OIDCProvider{}, err
		}
	}
	// Without a good address to sign out at, people are not signed out there; they can sign in all the same.
	if at, ok := doc.str("end_session_endpoint"); ok && at != "" && p.out.CheckPage("end_session_endpoint", at) == nil {
		got.EndSession = at
	}
	// A slash at the issuer's end is left out when the path is appended (§4.1), and belongs to the issuer all the same.
	if strings.TrimSuffix(got.Issuer, "/")+wellKnown != address {
		return bad("leads to the document of another issuer, %s; give that issuer's own address, and with it the directory (tenant), if it has several", visible(got.Issuer))
	}
	if types, ok := doc.strs("response_types_supported", false); !ok || types != nil && !slices.Contains(types, "code") {
		return bad("leads to a provider without the authorization code flow; allow response type `code` there")
	}
	if methods, ok := doc.strs("code_challenge_methods_supported", false); !ok || len(methods) > 0 && !slices.Contains(methods, "S256") {
		return bad("leads to a provider that does not take PKCE with S256 (RFC 7636 §4.2); allow it there")
	}
	promised, ok := doc.strs("id_token_signing_alg_values_supported", false)
	if !ok {
		return bad("leads to a document whose id_token_signing_alg_values_supported is no list")
	}
	if promised == nil {
		promised = []string{"RS256"} // what every provider must have (§3)
	}
	for _, alg := range algorithms {
		if slices.Contains(promised, alg) || alg == "EdDSA" && slices.Contains(promised, "Ed25519") { // RFC 9864 §2.2
			got.Algorithms = append(got.Algorithms, alg)
		}
	}
	if len(got.Algorithms) == 0 {
		return bad("leads to a provider that signs ID tokens with nothing that is accepted here; let it sign with RS256 or ES256")
	}
	got.IssParameter = doc.said("authorization_response_iss_parameter_supported", "true")
	return got, nil
}

// chooseAuth is how the client proves itself: as the connection says, if the provider takes that, or the first of ours that
// it takes, and for which there is a key where it needs one. A document that says nothing means client_secret_basic (§3).
func chooseAuth(doc object, wanted sso.ClientAuth, key bool) (sso.ClientAuth, error) {
	taken, ok := doc.strs("token_endpoint_auth_methods_supported", false)
	if !ok {
		return "", core.BadField(fieldDiscovery, "leads to a document whose token_endpoint_auth_methods_supported is no list")
	}
	if taken == nil {
		taken = []string{string(sso.AuthBasic)}
	}
	known := []sso.ClientAuth{sso.AuthBasic, sso.AuthPost, sso.AuthPrivateKey}
	switch {
	case wanted == "":
		for _, a := range known[:2] {
			if slices.Contains(taken, string(a)) {
				return a, nil
			}
		}
		if slices.Contains(taken, string(sso.AuthPrivateKey)) {
			if key {
				return sso.AuthPrivateKey, nil
			}
			return "", core.BadField(fieldAuth, "must be private_key_jwt, since the provider takes nothing else that is spoken here; say so, and register the key that this connection is then given at the provider")
		}
	case !slices.Contains(known, wanted):
		return "", core.BadField(fieldAuth, "must be client_secret_basic, client_secret_post or private_key_jwt")
	case slices.Contains(taken, string(wanted)):
		return wanted, nil
	}
	return "", core.BadField(fieldAuth, "must be one that the provider takes: "+visible(strings.Join(taken, ", ")))
}
