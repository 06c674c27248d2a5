package stack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/adapters/openshift"
	"github.com/fleetpass/fleetpass/adapters/saml"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/trust"
	"github.com/fleetpass/fleetpass/localdev/idp"
)

// loopback is where everything is on one machine.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// providers speaks to identity providers, and to issuers that tenants trust, on this machine and beyond.
func providers(p outbound.Policy) (map[sso.Kind]sso.Provider, trust.Verifier) {
	client := outbound.New(p)
	return map[sso.Kind]sso.Provider{sso.SAML: saml.New(client), sso.OIDC: oidc.New(client), sso.OpenShift: openshift.New(client)}, oidc.NewIssuers(client)
}

// serveIDP serves an identity provider beside the system: over HTTPS, where the system reads what it publishes, and over plain
// HTTP on localhost, where browsers sign in; or, apart, over HTTPS alone, on another site.
func (s *Stack) serveIDP(d doors, pair tls.Certificate, apart bool) error {
	o := idp.Options{Base: "https://localhost:" + port(d.idpHTTPS), Pages: "http://localhost:" + port(d.idpHTTP), Now: s.Now}
	if apart {
		o.Base = "https://127.0.0.1:" + port(d.idpHTTPS)
		o.Pages = o.Base
	}
	provider, err := idp.New(o)
	if err != nil {
		return err
	}
	s.IDP = provider
	s.serve(tls.NewListener(d.idpHTTPS, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), provider)
	s.serve(d.idpHTTP, provider)
	return nil
}

// outboundPolicy is which addresses the system may read from: this machine's, at these ports.
func outboundPolicy(extra []uint16, listeners ...net.Listener) outbound.Policy {
	p := outbound.Policy{Allow: loopback, Ports: extra}
	for _, l := range listeners {
		n, _ := strconv.ParseUint(port(l), 10, 16)
		p.Ports = append(p.Ports, uint16(n))
	}
	return p
}

// Federated is somebody who signs in at an identity provider.
type Federated struct {
	Person
	Alias sso.Alias `json:"alias"` // of the connection
}

// seedConnections connects the tenant to the identity provider of this machine, once by SAML and once by OpenID Connect, as two
// organizations would be.
func (s *Stack) seedConnections(ctx context.Context, seed *Seed) error {
	t, actor := seed.Tenant, core.SystemActor(seed.Tenant)
	seed.ClientSecret = core.NewSecret()
	for _, n := range []sso.New{
		{Alias: "corp", Name: "Acme Corp (SAML)", Kind: sso.SAML, Domains: []string{"corp.example"}, CA: s.IssuerCA,
			SAML: &sso.NewSAML{MetadataURL: s.IDP.EntityID()}},
		{Alias: "partner", Name: "Partner (OpenID Connect)", Kind: sso.OIDC, Domains: []string{"partner.example"}, CA: s.IssuerCA,
			OIDC: &sso.NewOIDC{DiscoveryURL: s.IDP.DiscoveryURL(), ClientID: "fleetpass", ClientSecret: seed.ClientSecret, Scopes: []string{"offline_access"}}},
	} {
		if _, err := s.SSO.Create(ctx, actor, t, n); err != nil {
			return fmt.Errorf("connecting %s: %w", n.Alias, err)
		}
	}
	return nil
}

// register tells the identity provider, which forgets everything when it ends, whom to expect.
func (s *Stack) register(ctx context.Context, seed Seed) error {
	for i, p := range seed.Federated {
		uid, gid := int64(15011+i), int64(25001)
		if err := s.IDP.AddPerson(idp.Person{
			Email: p.Email, Password: p.Password, FirstName: []string{"Grace", "Linus"}[i%2], LastName: []string{"Hopper", "Pauling"}[i%2],
			Groups: []string{seed.Group, "everybody"}, UID: &uid, GID: &gid, SupplementaryGroups: []int64{30001, 30003},
		}); err != nil {
			return err
		}
	}
	if err := s.registerClient(seed); err != nil {
		return err
	}
	return s.registerService(ctx, seed)
}

func (s *Stack) registerClient(seed Seed) error {
	return s.IDP.AddClient(idp.Client{ID: "fleetpass", Secret: seed.ClientSecret,
		RedirectURIs:   []string{s.SSO.Addresses(seed.Tenant, "partner", sso.OIDC).Return},
		PostLogoutURIs: []string{s.BrowserBase + "/t/" + string(seed.Tenant) + "/signed-out"},
	})
}

func (s *Stack) registerService(ctx context.Context, seed Seed) error {
	metadata, err := s.SSO.Describe(ctx, seed.Tenant, "corp")
	if err != nil {
		return err
	}
	sp, err := idp.ParseServiceProvider(metadata)
	if err != nil {
		return err
	}
	return s.IDP.AddServiceProvider(sp)
}
