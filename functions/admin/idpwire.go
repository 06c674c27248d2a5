package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The names of fields where core/sso and the API spell them differently.
var (
	idpFields    = rename{"oidcData.clientAuth": "oidcData.tokenEndpointAuthMethod"}
	mapperFields = rename{
		"mappers.email": "email", "mappers.groups": "groups", "mappers.uid": "uid", "mappers.gid": "gid",
		"mappers.supplementaryGroups": "supplementaryGroups", "mappers.firstName": "firstName", "mappers.lastName": "lastName",
	}
)

// wireIdP is a connection as answers have it: never with a secret or a private key.
func (c *call) wireIdP(p sso.Connection) api.IdP {
	us := c.SSO.Addresses(c.tenant, p.Alias, p.Kind)
	w := api.IdP{
		Alias: string(p.Alias), Name: p.Name, Type: api.IdPType(p.Kind), Enabled: p.Enabled, RedirectURI: us.Return,
		MetadataURL: us.Metadata, Domains: append([]string{}, p.Domains...), GroupPrefix: p.GroupPrefix, Mappers: wireMappers(p.Mappers), CA: p.CA,
		CreatedAt: p.CreatedAt, CreatedBy: by(p.CreatedBy), UpdatedAt: p.UpdatedAt, ProvenAt: p.ProvenAt, Warnings: warnings(p, c.now),
		Refresh: api.IdPRefresh{At: p.Refresh.At, ChangedAt: p.Refresh.ChangedAt, FailingSince: p.Refresh.FailingSince, Error: p.Refresh.Error},
	}
	switch {
	case p.SAML != nil:
		us.EntityID = cmp.Or(p.SAML.EntityID, us.EntityID)
		w.EntityID, w.SAML = us.EntityID, wireSAML(*p.SAML, us)
	case p.OIDC != nil:
		w.OIDC = wireOIDC(*p.OIDC)
		w.PostLogoutRedirectURI = cmp.Or(c.SSO.BrowserBase, c.SSO.Base) + "/t/" + string(c.tenant) + "/signed-out" // functions/login's
	case p.OpenShift != nil:
		o := p.OpenShift
		w.OpenShift = &api.OCPState{OCPData: api.OCPData{ClientID: o.ClientID, BaseURL: o.BaseURL, Scopes: o.Scopes}, Issuer: o.Provider.Issuer}
	}
	return w
}

func wireSAML(s sso.SAMLSettings, us sso.Addresses) *api.SAMLState {
	w := &api.SAMLState{
		SAMLData: api.SAMLData{
			MetadataType: "url", MetadataURL: s.MetadataURL, FileName: s.FileName, EntityID: us.EntityID, MetadataPin: s.MetadataPin,
			IdPInitiated: s.IdPInitiated, SignRequests: s.SignRequests,
		},
		MetadataURLOfOurs: us.Metadata, IdPEntityID: s.IdP.EntityID,
		Certificates: each(s.IdP.Certificates, wireCertificate), Keys: each(s.Keys, wireKeyOfOurs),
	}
	if s.MetadataURL == "" {
		w.MetadataType = "file"
	}
	if len(s.IdP.SignOn) > 0 {
		w.SignOnURL = s.IdP.SignOn[0].URL
	}
	if len(s.IdP.Certificates) > 0 {
		w.Certificate = base64.StdEncoding.EncodeToString(s.IdP.Certificates[0])
	}
	return w
}

func wireOIDC(o sso.OIDCSettings) *api.OIDCState {
	w := &api.OIDCState{
		OIDCData: api.OIDCData{ClientID: o.ClientID, DiscoveryURL: o.DiscoveryURL, Scopes: o.Scopes, AuthMethod: string(o.Auth), TokenExchange: o.TokenExchange},
		Issuer:   o.Provider.Issuer,
	}
	if m := o.MandatoryClaim; m != nil {
		w.MandatoryClaim = &api.MandatoryClaim{Claim: m.Claim, Values: m.Values}
	}
	for _, k := range []*sso.SPKey{o.Key, o.Next} {
		if k != nil {
			w.Keys = append(w.Keys, wireKeyOfOurs(*k))
		}
	}
	return w
}

func wireKeyOfOurs(k sso.SPKey) api.Certificate {
	w := wireCertificate(k.Certificate)
	w.KeyID = k.ID
	return w
}

func wireCertificate(der []byte) api.Certificate {
	sum := sha256.Sum256(der)
	w := api.Certificate{DER: der, SHA256: hex.EncodeToString(sum[:])}
	if cert, err := x509.ParseCertificate(der); err == nil { // what is stored was parsed before
		w.Subject, w.NotBefore, w.NotAfter = cert.Subject.String(), cert.NotBefore.UTC(), cert.NotAfter.UTC()
	}
	return w
}

// wireMappers are the names in force.
func wireMappers(m sso.Mappers) api.Mappers {
	d := sso.DefaultMappers
	return api.Mappers{
		UID: cmp.Or(m.UID, d.UID), GID: cmp.Or(m.GID, d.GID), Groups: cmp.Or(m.Groups, d.Groups),
		SupplementaryGroups: cmp.Or(m.SupplementaryGroups, d.SupplementaryGroups), Email: cmp.Or(m.Email, d.Email),
		FirstName: cmp.Or(m.FirstName, d.FirstName), LastName: cmp.Or(m.LastName, d.LastName),
	}
}

// warnBefore is how long ahead of a certificate's end people are told.
const warnBefore = 30 * 24 * time.Hour

// warnings say what somebody should see to, the most pressing first.
func warnings(p sso.Connection, now time.Time) []string {
	out := []string{} // in JSON a list, also if there is nothing to say
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if p.SAML != nil {
		out = append(out, warnOfCertificates(p.SAML.IdP.Certificates, now)...)
		if until := p.SAML.IdP.ValidUntil; !until.IsZero() && until.Before(now.Add(warnBefore)) {
			say("The provider's metadata is valid until %s: have it published anew.", until.UTC().Format(time.DateOnly))
		}
	}
	if at := p.Refresh.FailingSince; !at.IsZero() {
		say("What the provider publishes could not be read since %s; the last good reading is in force: %s", at.UTC().Format("2006-01-02 15:04 MST"), p.Refresh.Error)
	}
	if p.ProvenAt.IsZero() {
		say("Nobody signed in by it since it was last changed: test it with `fleetpass sso test %s`.", p.Alias)
	}
	if !p.Enabled {
		say("It is disabled: nobody can sign in by it.")
	}
	return out
}

// warnOfCertificates says which of the provider's certificates end. Where a later one is there already, only that the earlier
// is of no more use once it has ended, which is no reason to worry.
func warnOfCertificates(certificates [][]byte, now time.Time) (out []string) {
	var ends []time.Time
	for _, der := range certificates {
		if cert, err := x509.ParseCertificate(der); err == nil {
			ends = append(ends, cert.NotAfter)
		}
	}
	if len(ends) == 0 {
		return nil
	}
	last := slices.MaxFunc(ends, time.Time.Compare)
	switch left := last.Sub(now); {
	case left <= 0:
		out = append(out, fmt.Sprintf("The provider's signing certificate expired on %s: nobody can sign in until its metadata names a new one.", last.UTC().Format(time.DateOnly)))
	case left < warnBefore:
		out = append(out, fmt.Sprintf("The provider's signing certificate expires in %s, on %s: have the provider publish its next one in the metadata.", days(left), last.UTC().Format(time.DateOnly)))
	}
	return out
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}
