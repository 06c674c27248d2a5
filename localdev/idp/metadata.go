package idp

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core"
)

// Names of SAML 2.0.
const (
	nsProtocol   = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion  = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsMetadata   = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature  = "http://www.w3.org/2000/09/xmldsig#"
	nsEncryption = "http://www.w3.org/2001/04/xmlenc#"

	bindingRedirect = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
	bindingPost     = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"

	formatPersistent  = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
	formatEmail       = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
	formatTransient   = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	formatUnspecified = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"

	samlTime = "2006-01-02T15:04:05.000Z" // SAML 2.0 Core §1.3.3: UTC
)

// nameFormats are those that a NameID can be had in.
var nameFormats = []string{formatPersistent, formatEmail, formatTransient}

func (p *Provider) ssoURL() string { return p.options.Pages + "/saml/sso" }

// samlMetadata is the provider's own document (SAML 2.0 Metadata §2.4.3).
func (p *Provider) samlMetadata(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	keys := p.keys
	p.mu.Unlock()
	e := etree.NewElement("md:EntityDescriptor")
	e.CreateAttr("xmlns:md", nsMetadata)
	e.CreateAttr("ID", newID())
	e.CreateAttr("entityID", p.EntityID())
	if life := p.options.MetadataLife; life != 0 {
		e.CreateAttr("validUntil", p.now().Add(life).Format(samlTime))
	}
	idp := e.CreateElement("md:IDPSSODescriptor")
	idp.CreateAttr("WantAuthnRequestsSigned", strconv.FormatBool(p.options.WantSignedRequests))
	idp.CreateAttr("protocolSupportEnumeration", nsProtocol)
	for _, der := range keys.certificates() {
		k := idp.CreateElement("md:KeyDescriptor")
		k.CreateAttr("use", "signing")
		info := k.CreateElement("ds:KeyInfo")
		info.CreateAttr("xmlns:ds", nsSignature)
		info.CreateElement("ds:X509Data").CreateElement("ds:X509Certificate").SetText(base64.StdEncoding.EncodeToString(der))
	}
	for _, format := range nameFormats {
		idp.CreateElement("md:NameIDFormat").SetText(format)
	}
	for _, binding := range []string{bindingRedirect, bindingPost} {
		s := idp.CreateElement("md:SingleSignOnService")
		s.CreateAttr("Binding", binding)
		s.CreateAttr("Location", p.ssoURL())
	}
	if p.options.SignMetadata {
		if err := sign(e, 0, keys.current, ""); err != nil {
			p.problem(w, http.StatusInternalServerError, err.Error())
			return
		}
	}
	doc, err := document(e)
	if err != nil {
		p.problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	_, _ = w.Write(doc)
}

// spMetadata is what is read of a service provider's metadata (SAML 2.0 Metadata §2.4.4).
type spMetadata struct {
	XMLName  xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
	EntityID string   `xml:"entityID,attr"`
	SP       []struct {
		Signed string `xml:"AuthnRequestsSigned,attr"`
		Keys   []struct {
			Use          string   `xml:"use,attr"`
			Certificates []string `xml:"KeyInfo>X509Data>X509Certificate"`
			Methods      []struct {
				Algorithm string `xml:"Algorithm,attr"`
			} `xml:"EncryptionMethod"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:metadata KeyDescriptor"`
		ACS []struct {
			Binding  string `xml:"Binding,attr"`
			Location string `xml:"Location,attr"`
			Default  string `xml:"isDefault,attr"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:metadata AssertionConsumerService"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:metadata SPSSODescriptor"`
}

// ParseServiceProvider reads a service provider's metadata, which must have one SPSSODescriptor. An error is core.Invalid.
func ParseServiceProvider(metadata []byte) (ServiceProvider, error) {
	bad := func(why string) (ServiceProvider, error) { return ServiceProvider{}, core.BadField("metadata", why) }
	var m spMetadata
	if err := readXML(metadata, &m); err != nil {
		return bad(err.Error())
	}
	if m.EntityID == "" || len(m.SP) != 1 {
		return bad("one EntityDescriptor with an entityID and one SPSSODescriptor")
	}
	sp := ServiceProvider{EntityID: m.EntityID, SignsRequests: isTrue(m.SP[0].Signed)}
	for _, k := range m.SP[0].Keys {
		for _, text := range k.Certificates {
			der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
			if err != nil {
				return bad("a certificate that is base64")
			}
			if _, err := rsaOf(der); err != nil {
				return bad(err.Error())
			}
			if k.Use != "encryption" {
				sp.Certificates = append(sp.Certificates, der)
			}
			if k.Use != "signing" && sp.EncryptTo == nil {
				sp.EncryptTo = der
				for _, m := range k.Methods {
					if sp.Cipher == "" && (m.Algorithm == AES128GCM || m.Algorithm == AES256GCM) {
						sp.Cipher = m.Algorithm
					}
				}
			}
		}
	}
	for _, acs := range m.SP[0].ACS {
		switch {
		case acs.Binding != bindingPost:
		case isTrue(acs.Default):
			sp.ACS = slices.Insert(sp.ACS, 0, acs.Location)
		default:
			sp.ACS = append(sp.ACS, acs.Location)
		}
	}
	if len(sp.ACS) == 0 {
		return bad("an AssertionConsumerService for HTTP-POST")
	}
	return sp, nil
}

// isTrue reads an xs:boolean.
func isTrue(s string) bool { return s == "true" || s == "1" }

// readXML reads one document into v. A DOCTYPE is refused before anything in it could matter, and so is a second root.
func readXML(b []byte, v any) error {
	depth, roots := 0, 0
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.Directive:
			return errors.New("has a DOCTYPE")
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
	if roots != 1 {
		return errors.New("has not one root element")
	}
	return xml.Unmarshal(b, v)
}

// document is an element as a document of its own.
func document(e *etree.Element) ([]byte, error) {
	d := etree.NewDocument()
	d.SetRoot(e.Copy())
	return d.WriteToBytes()
}
