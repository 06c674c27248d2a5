package sso

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// The bounds of what an administrator gives, in bytes.
const (
	maxAlias    = 40
	maxName     = 100 // characters
	maxPrefix   = 64
	maxURL      = 2000
	maxDocument = 1 << 20
	maxPEM      = 8 << 10
	maxText     = 250 // attribute names, client ids, scopes, claims
	maxSecret   = 1000
	maxScopes   = 50
	maxValues   = 100 // of a mandatory claim
	maxClaims   = 4 << 10
)

// settle checks a new connection by itself, brings it into canonical form and fills in what can be made up.
func (n *New) settle() error {
	if n.Alias == "" {
		n.Alias = aliasOf(n.Name)
		if n.Alias == "" {
			return core.BadField("alias", "must be given: nothing of the name can be one")
		}
	}
	if !plausible(n.Alias) {
		return core.BadField("alias", `must be 1 to 40 of a-z, 0-9, "-" and "_"`)
	}
	if n.Name == "" {
		n.Name = string(n.Alias)
	}
	given := map[Kind]bool{SAML: n.SAML != nil, OIDC: n.OIDC != nil, OpenShift: n.OpenShift != nil}
	if _, known := given[n.Kind]; !known {
		return core.BadField("type", fmt.Sprintf("must be %s, %s or %s", SAML, OIDC, OpenShift))
	}
	if !given[n.Kind] {
		return core.BadField(dataField(n.Kind), "is missing")
	}
	if err := n.check(); err != nil {
		return err
	}
	switch {
	case n.OIDC != nil && n.OIDC.ClientSecret == "" && n.OIDC.Auth != AuthPrivateKey:
		return core.BadField("oidcData.clientSecret", "is empty")
	case n.OpenShift != nil && n.OpenShift.ClientSecret == "":
		return core.BadField("ocpData.clientSecret", "is empty")
	}
	return nil
}

// settleFor is settle for an update of a connection.
func (n *New) settleFor(c Connection) error {
	switch {
	case n.Alias != "" && n.Alias != c.Alias:
		return core.BadField("alias", "cannot change: the provider knows our addresses by it")
	case n.Kind != "" && n.Kind != c.Kind:
		return core.BadField("type", "cannot change; make another connection that takes over the people of this one when it is deleted")
	case n.GroupPrefix != nil && *n.GroupPrefix != c.GroupPrefix:
		return core.BadField("groupPrefix", "cannot change: access rules name the groups with it")
	case n.TakesOver != "":
		return core.BadField("takesOver", "is for a new connection")
	}
	n.Alias, n.Kind = c.Alias, c.Kind
	if n.Name == "" {
		n.Name = c.Name
	}
	if n.Mappers == (Mappers{}) {
		n.Mappers = c.Mappers
	}
	if n.Domains == nil {
		n.Domains = c.Domains
	}
	if err := n.check(); err != nil {
		return err
	}
	switch {
	case n.OIDC != nil && n.OIDC.ClientSecret == "" && n.OIDC.Auth != AuthPrivateKey && len(c.OIDC.Secret) == 0:
		return core.BadField("oidcData.clientSecret", "is empty, and there was none")
	case n.SAML != nil && n.SAML.MetadataURL == "" && n.SAML.MetadataXML == "" && c.SAML.MetadataURL != "":
		return core.BadField("samlData.metadataXmlUrl", "is empty; give the URL, or upload the metadata")
	}
	return nil
}

// check checks what a new connection and an update have in common.
func (n *New) check() error {
	if err := printed("name", n.Name, 1, maxName); err != nil {
		return err
	}
	var err error
	if n.Domains, err = parseDomains(n.Domains); err != nil {
		return err
	}
	if p := n.GroupPrefix; p != nil && *p != "" {
		g, err := core.ParseGroupName("groupPrefix", *p+"x")
		if err != nil || string(g) != *p+"x" || len(*p) > maxPrefix {
			return core.BadField("groupPrefix", fmt.Sprintf("must be at most %d bytes that print, and begin no reserved name", maxPrefix))
		}
	}
	if err := n.Mappers.check(); err != nil {
		return err
	}
	if err := certificates("ca", n.CA); err != nil {
		return err
	}
	for k, given := range map[Kind]bool{SAML: n.SAML != nil, OIDC: n.OIDC != nil, OpenShift: n.OpenShift != nil} {
		if given && k != n.Kind {
			return core.BadField(dataField(k), "is for another type")
		}
	}
	switch {
	case n.SAML != nil:
		return n.SAML.check()
	case n.OIDC != nil:
		return n.OIDC.check()
	case n.OpenShift != nil:
		return n.OpenShift.check()
	}
	return nil
}

func dataField(k Kind) string {
	return map[Kind]string{SAML: "samlData", OIDC: "oidcData", OpenShift: "ocpData"}[k]
}

func metadataField(c Connection) string {
	switch {
	case c.SAML != nil && c.SAML.MetadataURL == "":
		return "samlData.metadataXmlFile"
	case c.SAML != nil:
		return "samlData.metadataXmlUrl"
	case c.OIDC != nil:
		return "oidcData.discoverDocumentUrl"
	}
	return "ocpData.idpBaseUrl"
}

func (n *NewSAML) check() error {
	if n.MetadataURL != "" && n.MetadataXML != "" {
		return core.BadField("samlData.metadataXmlFile", "must not be given together with samlData.metadataXmlUrl")
	}
	if len(n.MetadataXML) > maxDocument {
		return core.BadField("samlData.metadataXmlFile", "is over 1 MiB")
	}
	if n.MetadataURL != "" {
		if err := address("samlData.metadataXmlUrl", n.MetadataURL); err != nil {
			return err
		}
	}
	if err := printed("samlData.fileName", n.FileName, 0, maxText); err != nil {
		return err
	}
	// SAML 2.0 Core §8.3.6: an entity identifier is a URI of at most 1024 characters. Some providers call it by a plain name.
	if len(n.EntityID) > 1024 || strings.ContainsFunc(n.EntityID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return core.BadField("samlData.entityId", "must be at most 1024 characters of ASCII, without spaces")
	}
	return certificates("samlData.metadataPin", n.MetadataPin)
}

func (n *NewOIDC) check() error {
	if err := address("oidcData.discoverDocumentUrl", n.DiscoveryURL); err != nil {
		return err
	}
	if err := printed("oidcData.clientId", n.ClientID, 1, maxText); err != nil {
		return err
	}
	if err := secret("oidcData.clientSecret", n.ClientSecret); err != nil {
		return err
	}
	switch n.Auth {
	case "":
		n.Auth = AuthBasic // OpenID Connect Core §9: the default
	case AuthBasic, AuthPost:
	case AuthPrivateKey:
		if n.ClientSecret != "" {
			return core.BadField("oidcData.clientSecret", "must be empty where a private key proves who we are")
		}
	default:
		return core.BadField("oidcData.clientAuth", fmt.Sprintf("must be %s, %s or %s", AuthBasic, AuthPost, AuthPrivateKey))
	}
	if err := scopes("oidcData.scopes", n.Scopes); err != nil {
		return err
	}
	m := n.MandatoryClaim
	if m == nil {
		return nil
	}
	if err := printed("oidcData.mandatoryClaim.claim", m.Claim, 1, maxText); err != nil {
		return err
	}
	if len(m.Values) == 0 || len(m.Values) > maxValues {
		return core.BadField("oidcData.mandatoryClaim.values", "must be 1 to 100")
	}
	total := 0
	for _, v := range m.Values {
		if err := printed("oidcData.mandatoryClaim.values", v, 1, maxText); err != nil {
			return err
		}
		total += len(v)
	}
	if total > maxClaims {
		return core.BadField("oidcData.mandatoryClaim.values", "must be at most 4096 bytes together")
	}
	return nil
}

func (n *NewOpenShift) check() error {
	if err := address("ocpData.idpBaseUrl", n.BaseURL); err != nil {
		return err
	}
	if err := printed("ocpData.clientId", n.ClientID, 1, maxText); err != nil {
		return err
	}
	if err := secret("ocpData.clientSecret", n.ClientSecret); err != nil {
		return err
	}
	return scopes("ocpData.scopes", n.Scopes)
}

// check bounds the names of attributes. Anything that prints can be one: SAML has URIs, directories have spaces.
func (m Mappers) check() error {
	for _, f := range []struct{ field, name string }{
		{"email", m.Email}, {"groups", m.Groups}, {"uid", m.UID}, {"gid", m.GID},
		{"supplementaryGroups", m.SupplementaryGroups}, {"firstName", m.FirstName}, {"lastName", m.LastName},
	} {
		if err := printed("mappers."+f.field, f.name, 0, maxText); err != nil {
			return err
		}
	}
	return nil
}

// document is an uploaded one; nil: there is none.
func (n New) document() []byte {
	if n.SAML == nil || n.SAML.MetadataXML == "" {
		return nil
	}
	return []byte(n.SAML.MetadataXML)
}

// secret is the client secret; "": none was given.
func (n New) secret() string {
	switch {
	case n.OIDC != nil:
		return n.OIDC.ClientSecret
	case n.OpenShift != nil:
		return n.OpenShift.ClientSecret
	}
	return ""
}

// fill puts into a connection what was given, but for what has to be read, made or sealed.
func (n New) fill(c *Connection) {
	c.Name, c.Domains, c.Mappers, c.CA = n.Name, n.Domains, n.Mappers, n.CA
	if n.Enabled != nil {
		c.Enabled = *n.Enabled
	}
	if g := n.SAML; g != nil {
		var was SAMLSettings
		if c.SAML != nil {
			was = *c.SAML
		}
		c.SAML = &SAMLSettings{
			EntityID: cmp.Or(g.EntityID, was.EntityID), MetadataURL: g.MetadataURL, FileName: g.FileName, MetadataPin: g.MetadataPin,
			IdPInitiated: g.IdPInitiated, SignRequests: g.SignRequests, IdP: was.IdP, Keys: was.Keys,
		}
		if g.MetadataURL == "" && g.MetadataXML == "" { // the upload that is there
			c.SAML.FileName = was.FileName
		}
	}
	if g := n.OIDC; g != nil {
		var was OIDCSettings
		if c.OIDC != nil {
			was = *c.OIDC
		}
		c.OIDC = &OIDCSettings{
			DiscoveryURL: g.DiscoveryURL, ClientID: g.ClientID, Auth: g.Auth, Scopes: g.Scopes, MandatoryClaim: g.MandatoryClaim, TokenExchange: g.TokenExchange,
			Secret: was.Secret, Key: was.Key, Next: was.Next, Provider: was.Provider,
		}
	}
	if g := n.OpenShift; g != nil {
		var was OpenShiftSettings
		if c.OpenShift != nil {
			was = *c.OpenShift
		}
		c.OpenShift = &OpenShiftSettings{BaseURL: g.BaseURL, ClientID: g.ClientID, Scopes: g.Scopes, Secret: was.Secret, Provider: was.Provider}
	}
}

// plausible says whether a can be an alias: ^[a-z0-9_-]{1,40}$.
func plausible(a Alias) bool {
	return len(a) >= 1 && len(a) <= maxAlias && !strings.ContainsFunc(string(a), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// aliasOf makes an alias of a name: "Acme Okta (EU)" becomes acme-okta-eu.
func aliasOf(name string) Alias {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	s := b.String()
	return Alias(strings.TrimRight(s[:min(len(s), maxAlias)], "-"))
}

// parseDomains brings domains into the form that they have in canonical e-mails, sorted, each once.
func parseDomains(domains []string) ([]string, error) {
	var out []string
	for _, d := range domains {
		e, err := core.ParseEmail("domains", "a@"+strings.Trim(d, " \t\r\n"))
		if err != nil {
			return nil, core.BadField("domains", fmt.Sprintf("%s is not the domain of an e-mail, such as example.com", quote(d)))
		}
		out = append(out, DomainOf(e))
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > MaxDomains {
		return nil, core.BadField("domains", fmt.Sprintf("must be at most %d", MaxDomains))
	}
	return out, nil
}

// printed checks a text of least to most characters, all of which print.
func printed(field, s string, least, most int) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) < least || utf8.RuneCountInString(s) > most ||
		strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		if least == 0 {
			return core.BadField(field, fmt.Sprintf("must be at most %d characters that print", most))
		}
		return core.BadField(field, fmt.Sprintf("must be %d to %d characters that print", least, most))
	}
	return nil
}

// secret never quotes what it checks.
func secret(field, s string) error {
	if len(s) > maxSecret || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return core.BadField(field, "must be at most 1000 bytes, without control characters")
	}
	return nil
}

// scopes checks OAuth scopes (RFC 6749 §3.3).
func scopes(field string, list []string) error {
	if len(list) > maxScopes {
		return core.BadField(field, "must be at most 50")
	}
	for _, s := range list {
		if s == "" || len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return core.BadField(field, fmt.Sprintf(`%s must be printable ASCII without spaces, \ and "`, quote(s)))
		}
	}
	return nil
}

// address checks the form of a provider's address. Where it leads, core/outbound judges when it is read.
func address(field, s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(s, "#") {
		return core.BadField(field, "must be an https URL, without a user and a fragment")
	}
	return nil
}

// certificates checks PEM certificates, if there are any.
func certificates(field, text string) error {
	if len(text) > maxPEM {
		return core.BadField(field, "is over 8 KiB; give only the certificates of the authority")
	}
	rest, n := []byte(text), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return core.BadField(field, "must hold PEM certificates and nothing else; never a private key")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return core.BadField(field, "has a certificate that does not parse")
		}
		n++
	}
	if strings.TrimSpace(string(rest)) != "" || n == 0 && text != "" {
		return core.BadField(field, "must be PEM certificates")
	}
	return nil
}
