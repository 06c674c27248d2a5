package saml

import (
	"encoding/base64"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core/sso"
)

// Describe implements sso.Describer: the metadata of a service provider (SAML 2.0 Metadata §2.4.4) for the connection's
// identity provider to load. Every key is published for both uses, so that during a rollover the provider knows the next one
// before it is used. It never expires, since most providers load it once.
func (p *Provider) Describe(c sso.Connection, us sso.Addresses, _ time.Time) ([]byte, error) {
	if c.SAML == nil {
		return nil, errNoSettings
	}
	e := etree.NewElement("md:EntityDescriptor")
	e.CreateAttr("xmlns:md", nsMetadata)
	e.CreateAttr("xmlns:ds", nsSignature)
	e.CreateAttr("entityID", us.EntityID)
	role := e.CreateElement("md:SPSSODescriptor")
	signs := "false"
	if c.SAML.SignRequests || c.SAML.IdP.WantsSigned {
		signs = "true"
	}
	role.CreateAttr("AuthnRequestsSigned", signs)
	role.CreateAttr("WantAssertionsSigned", "true")
	role.CreateAttr("protocolSupportEnumeration", nsProtocol)
	for _, use := range []string{"signing", "encryption"} {
		for _, k := range c.SAML.Keys {
			keyDescriptor(role, use, k.Certificate)
		}
	}
	for _, format := range []string{
		"urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified", formatPersistent, "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
	} {
		role.CreateElement("md:NameIDFormat").SetText(format)
	}
	acs := role.CreateElement("md:AssertionConsumerService")
	acs.CreateAttr("Binding", bindingPost)
	acs.CreateAttr("Location", us.Return)
	acs.CreateAttr("index", "0")
	acs.CreateAttr("isDefault", "true")

	d := etree.NewDocument()
	d.CreateProcInst("xml", `version="1.0" encoding="UTF-8"`)
	d.SetRoot(e)
	d.Indent(2)
	return d.WriteToBytes()
}

// keyDescriptor publishes one certificate for one use; for encryption with the algorithms that decrypt takes, best first.
func keyDescriptor(role *etree.Element, use string, certificate []byte) {
	key := role.CreateElement("md:KeyDescriptor")
	key.CreateAttr("use", use)
	data := key.CreateElement("ds:KeyInfo").CreateElement("ds:X509Data")
	data.CreateElement("ds:X509Certificate").SetText(base64.StdEncoding.EncodeToString(certificate))
	if use != "encryption" {
		return
	}
	for _, algorithm := range []string{nsEncrypt11 + "aes256-gcm", nsEncrypt11 + "aes128-gcm", algorithmOAEPMGF1, algorithmOAEP} {
		method := key.CreateElement("md:EncryptionMethod")
		method.CreateAttr("Algorithm", algorithm)
	}
}
