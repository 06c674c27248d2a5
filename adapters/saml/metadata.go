package saml

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The fields that errors name, as the API spells them.
const (
	fieldFile = "samlData.metadataXmlFile"
	fieldURL  = "samlData.metadataXmlUrl"
	fieldPin  = "samlData.metadataPin"
)

// The bindings that a request can be sent by (SAML 2.0 Bindings §3.4, §3.5).
const (
	bindingRedirect = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
	bindingPost     = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
)

const (
	maxCertificates = 20
	maxEntityID     = 1024 // characters (SAML 2.0 Core §8.3.6)
)

// Load implements sso.Provider: it reads the metadata of an identity provider (SAML 2.0 Metadata), the document or, if that is
// nil, what c.SAML.MetadataURL serves. Where c.SAML.MetadataPin is set, a document is read only as far as that certificate's
// key signed it.
func (p *Provider) Load(ctx context.Context, c *sso.Connection, document []byte) (err error) {
	if c.SAML == nil {
		return errNoSettings
	}
	field := fieldFile
	if document == nil {
		field = fieldURL
		if c.SAML.MetadataURL == "" {
			return core.BadField(field, "is missing: give the address of the identity provider's metadata, or upload the document")
		}
		if err := p.fetch.Check(field, c.SAML.MetadataURL); err != nil {
			return err
		}
		if document, err = p.fetch.Get(ctx, c.SAML.MetadataURL, c.CA); err != nil {
			return fmt.Errorf("reading the identity provider's metadata: %w", err)
		}
	}
	defer func() { // a second net, as around Finish
		if x := recover(); x != nil {
			err = core.BadField(field, "cannot be read; check that it is the metadata of a SAML identity provider")
		}
	}()
	m := metadata{provider: p, field: field, now: p.Now()}
	idp, err := m.read(document, c.SAML.MetadataPin)
	if err != nil {
		return err
	}
	settings := *c.SAML // what others may hold is not changed
	settings.IdP = idp
	c.SAML = &settings
	return nil
}

// metadata reads one document.
type metadata struct {
	provider *Provider
	field    string
	now      time.Time
}

func (m metadata) bad(format string, a ...any) error {
	return core.BadField(m.field, fmt.Sprintf(format, a...))
}

func (m metadata) read(document []byte, pin string) (sso.SAMLProvider, error) {
	sum := sha256.Sum256(document)
	idp := sso.SAMLProvider{Digest: hex.EncodeToString(sum[:])}
	root, err := parse(document, ofMetadata, nil)
	if err != nil {
		return idp, m.bad("is no metadata document: %v. Download it from the identity provider again", err)
	}
	if pin != "" {
		if root, err = m.pinned(root, pin); err != nil {
			return idp, err
		}
	}
	entity, err := m.entity(root)
	if err != nil {
		return idp, err
	}
	idp.EntityID = attr(entity, "entityID")
	if idp.EntityID == "" || len(idp.EntityID) > maxEntityID || idp.EntityID != trim(idp.EntityID) {
		return idp, m.bad("must give the identity provider's entityID, of at most %d characters", maxEntityID)
	}
	descriptor := speaking(entity)[0]
	if idp.ValidUntil, err = m.validity(descriptor); err != nil {
		return idp, err
	}
	switch want := attr(descriptor, "WantAuthnRequestsSigned"); want {
	case "true", "1":
		idp.WantsSigned = true
	case "", "false", "0":
	default:
		return idp, m.bad("has a WantAuthnRequestsSigned of %q; it must be true or false", want)
	}
	if idp.SignOn, err = m.endpoints(descriptor); err != nil {
		return idp, err
	}
	idp.Certificates, err = m.certificates(descriptor)
	return idp, err
}

// pinned verifies the document's signature with the pinned certificate's key, and returns what was signed. A pin is about a
// key; how long its certificate is valid says nothing about it (SAML V2.0 Metadata Interoperability Profile §2.6.1).
func (m metadata) pinned(root *etree.Element, pin string) (*etree.Element, error) {
	block, rest := pem.Decode([]byte(pin))
	if block == nil || block.Type != "CERTIFICATE" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, core.BadField(fieldPin, "must be one PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		err = strong(cert)
	}
	if err != nil {
		return nil, core.BadField(fieldPin, "must be one PEM certificate: "+err.Error())
	}
	if len(children(root, nsSignature, "Signature")) == 0 {
		return nil, m.bad("is not signed, though a certificate is pinned that must have signed it; have it signed again, or remove the pin")
	}
	s, bad := sealOf(root)
	if bad != nil {
		return nil, m.bad("has a signature that is not taken: %s; %s is needed", bad.found, bad.expected)
	}
	var signed *etree.Element
	if cert.PublicKeyAlgorithm == s.method.key {
		signed, _, _ = s.verify([]*x509.Certificate{cert})
	}
	if signed == nil {
		return nil, m.bad("is not signed by the pinned certificate %s; download it again, or pin the certificate that signs it now", cert.Subject)
	}
	return signed, nil
}

// speaking are the roles of an identity provider in which an entity speaks SAML 2.0 (Metadata §2.4.1). One for SAML 1.1 may
// stand beside it.
func speaking(entity *etree.Element) (found []*etree.Element) {
	for _, e := range children(entity, nsMetadata, "IDPSSODescriptor") {
		if slices.Contains(strings.Fields(attr(e, "protocolSupportEnumeration")), nsProtocol) {
			found = append(found, e)
		}
	}
	return found
}

// entity finds the one EntityDescriptor that has an IDPSSODescriptor for SAML 2.0.
func (m metadata) entity(root *etree.Element) (*etree.Element, error) {
	var found []*etree.Element
	roles, others := 0, 0
	var look func(e *etree.Element)
	look = func(e *etree.Element) {
		switch {
		case is(e, nsMetadata, "EntityDescriptor"):
			others += len(children(e, nsMetadata, "IDPSSODescriptor"))
			if n := len(speaking(e)); n > 0 {
				found = append(found, e)
				roles += n
			}
		case is(e, nsMetadata, "EntitiesDescriptor"):
			for _, child := range e.ChildElements() {
				look(child)
			}
		}
	}
	look(root)
	switch {
	case !is(root, nsMetadata, "EntityDescriptor") && !is(root, nsMetadata, "EntitiesDescriptor"):
		return nil, m.bad("is no SAML metadata: its element is %s, not EntityDescriptor", root.FullTag())
	case len(found) == 0 && others > 0:
		return nil, m.bad("describes an identity provider that does not speak SAML 2.0; switch SAML 2.0 on there")
	case len(found) == 0:
		return nil, m.bad("describes no identity provider; take the metadata of the identity provider, not of a service provider")
	case roles > 1:
		return nil, m.bad("describes %d identity providers; give a document with the one that people sign in at", roles)
	}
	return found[0], nil
}

// duration is an xs:duration (XML Schema Part 2 §3.2.6).
var duration = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^P(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`)
})

// validity is the earliest validUntil of a descriptor and of all that it stands in (Metadata §2.3.1). A cacheDuration only
// says how often to read again, which happens more often here than any asks.
func (m metadata) validity(descriptor *etree.Element) (until time.Time, err error) {
	for e := descriptor; e != nil && e.Tag != ""; e = e.Parent() {
		if v, given := lookup(e, "cacheDuration"); given && (!duration().MatchString(v) || len(v) < 3) {
			return until, m.bad("has a cacheDuration of %q, which is no duration; download it again", v)
		}
		v, given := lookup(e, "validUntil")
		if !given {
			continue
		}
		at, err := instant(v)
		if err != nil {
			return until, m.bad("has a validUntil of %q, which is no time; download it again", v)
		}
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	if !until.IsZero() && !m.now.Before(until) {
		return until, m.bad("was valid until %s; download it from the identity provider again", stamp(until))
	}
	return until, nil
}

// endpoints are where requests can be sent, the first of each binding that we speak and that browsers may be sent to. Others are
// passed over: some providers publish an address for their inner network as well.
func (m metadata) endpoints(descriptor *etree.Element) ([]sso.SAMLEndpoint, error) {
	var found []sso.SAMLEndpoint
	var passed error
	for _, binding := range []string{bindingRedirect, bindingPost} {
		for _, e := range children(descriptor, nsMetadata, "SingleSignOnService") {
			if attr(e, "Binding") != binding {
				continue
			}
			at := attr(e, "Location")
			if err := m.provider.fetch.CheckPage(m.field, at); err != nil {
				var why *core.FieldError
				if !errors.As(err, &why) {
					return nil, err
				}
				if passed == nil {
					passed = m.bad("has the SingleSignOnService %q, which %s", at[:min(len(at), 200)], why.Fix)
				}
				continue
			}
			found = append(found, sso.SAMLEndpoint{Binding: binding, URL: at})
			break
		}
	}
	if len(found) == 0 && passed != nil {
		return nil, passed
	}
	if len(found) == 0 {
		return nil, m.bad("has no SingleSignOnService with the binding HTTP-Redirect or HTTP-POST; switch one on in the identity provider")
	}
	return found, nil
}

// certificates are those of keys that sign: of KeyDescriptors without a use, or for signing (Metadata §2.4.1.1). Of a chain the
// first is the key's; the authorities behind it sign no responses. Expired ones are kept: when one fails, it can be named. One
// that cannot be read, or is too weak to go by, is passed over: a provider may leave an old one there beside the one that it
// signs with.
func (m metadata) certificates(descriptor *etree.Element) ([][]byte, error) {
	var found [][]byte
	var passed error
	for _, key := range children(descriptor, nsMetadata, "KeyDescriptor") {
		if use := attr(key, "use"); use != "" && use != "signing" {
			continue
		}
		for _, info := range children(key, nsSignature, "KeyInfo") {
			for _, data := range children(info, nsSignature, "X509Data") {
				all := children(data, nsSignature, "X509Certificate")
				if len(all) == 0 {
					continue
				}
				cert, err := m.certificate(all[0])
				switch {
				case err == nil && !slices.ContainsFunc(found, func(o []byte) bool { return string(o) == string(cert.Raw) }):
					found = append(found, cert.Raw)
				case err != nil && passed == nil:
					passed = err
				}
			}
		}
	}
	switch {
	case len(found) == 0 && passed != nil:
		return nil, passed
	case len(found) == 0:
		return nil, m.bad("has no certificate to verify signatures with; have the identity provider publish its signing certificate")
	case len(found) > maxCertificates:
		return nil, m.bad("has %d signing certificates; at most %d are taken", len(found), maxCertificates)
	}
	return found, nil
}

// certificate reads an X509Certificate. Some people paste a PEM file into it, with its first and last line.
func (m metadata) certificate(e *etree.Element) (*x509.Certificate, error) {
	text, _ := leaf(e)
	text = strings.TrimSuffix(strings.TrimPrefix(text, "-----BEGIN CERTIFICATE-----"), "-----END CERTIFICATE-----")
	der, err := binary(text)
	if err != nil {
		return nil, m.bad("holds a certificate that is not base64; download it again")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, m.bad("holds a certificate that cannot be read (%v); download it again", err)
	}
	if err := strong(cert); err != nil {
		return nil, m.bad("has a signing certificate that is too weak: %v. Have the identity provider make a new one", err)
	}
	return cert, nil
}
