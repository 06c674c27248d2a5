package forge

import (
	"crypto/x509"
	"encoding/base64"
	"time"

	"github.com/beevik/etree"
)

// MetadataOptions are what an identity provider says about itself (SAML 2.0 Metadata §2.4.3). Zero: everything as it is.
type MetadataOptions struct {
	Certificates []*x509.Certificate // default: the IdP's
	ValidUntil   time.Time           // zero: not said
	WantsSigned  bool                // WantAuthnRequestsSigned
	Sign         bool
	Signing      Signing

	// Edit changes the document before it is signed.
	Edit func(entity, role *etree.Element)
}

// Metadata is the identity provider's metadata.
func (p *IdP) Metadata() []byte { return p.MetadataWith(MetadataOptions{}) }

// MetadataWith is metadata that says what o says.
func (p *IdP) MetadataWith(o MetadataOptions) []byte { return Bytes(p.MetadataDocument(o)) }

// MetadataDocument is metadata, to be changed further.
func (p *IdP) MetadataDocument(o MetadataOptions) *etree.Document {
	entity := etree.NewElement("md:EntityDescriptor")
	until := ""
	if !o.ValidUntil.IsZero() {
		until = Instant(o.ValidUntil)
	}
	attrs(entity, "xmlns:md", NSMetadata, "ID", NewID(), "entityID", p.EntityID, "validUntil", until)
	role := entity.CreateElement("md:IDPSSODescriptor")
	attrs(role, "protocolSupportEnumeration", NSProtocol)
	if o.WantsSigned {
		role.CreateAttr("WantAuthnRequestsSigned", "true")
	}
	certificates := o.Certificates
	if certificates == nil {
		certificates = []*x509.Certificate{p.Certificate}
	}
	for _, c := range certificates {
		key := role.CreateElement("md:KeyDescriptor")
		key.CreateAttr("use", "signing")
		info := key.CreateElement("ds:KeyInfo")
		info.CreateAttr("xmlns:ds", NSSignature)
		text(info.CreateElement("ds:X509Data"), "ds:X509Certificate", base64.StdEncoding.EncodeToString(c.Raw))
	}
	text(role, "md:NameIDFormat", FormatPersistent)
	for _, binding := range []string{"HTTP-Redirect", "HTTP-POST"} {
		attrs(role.CreateElement("md:SingleSignOnService"), "Binding", "urn:oasis:names:tc:SAML:2.0:bindings:"+binding, "Location", p.SignOn)
	}
	if o.Edit != nil {
		o.Edit(entity, role)
	}
	if o.Sign {
		p.SignFirst(entity, o.Signing)
	}
	return etree.NewDocumentWithRoot(entity)
}

// SignFirst signs an element that has no Issuer: the signature is its first child, as metadata has it (§2.3.2).
func (p *IdP) SignFirst(e *etree.Element, s Signing) *etree.Element {
	s.At = First
	return p.Sign(e, s)
}
