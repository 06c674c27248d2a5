// Package forge is a SAML 2.0 identity provider that signs whatever it is told to: the valid, by its zero Options, and the
// hostile, by all others. Tests make their attacks with it, from a message that was freshly signed and is accepted as it
// stands, and localdev/idp misbehaves with it. No deployed code imports it.
//
// It owns the messages (forge.go), their signatures (sign.go), their encryption (encrypt.go), the provider's metadata
// (metadata.go) and the ways to wrap a signed message into an unsigned one (wrap.go). It leaves HTTP to others.
//
// A wrong use, such as an algorithm that it does not know, panics: it is a fault of the test.
package forge

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"time"

	"github.com/beevik/etree"
)

// The namespaces and names that every message needs.
const (
	NSAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	NSProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	NSMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	NSSignature = "http://www.w3.org/2000/09/xmldsig#"

	FormatEmail       = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
	FormatPersistent  = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
	FormatTransient   = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	FormatUnspecified = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"

	MethodBearer      = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	MethodHolderOfKey = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"

	StatusSuccess   = "urn:oasis:names:tc:SAML:2.0:status:Success"
	StatusResponder = "urn:oasis:names:tc:SAML:2.0:status:Responder"

	ClassPassword = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
)

// IdP is an identity provider: who it is, and the key that it signs with.
type IdP struct {
	EntityID    string
	SignOn      string        // the address of its single sign-on service, for both bindings
	Key         crypto.Signer // an *rsa.PrivateKey or an *ecdsa.PrivateKey
	Certificate *x509.Certificate
}

// NewIdP makes an identity provider with a new RSA key of 2048 bits and a certificate that is valid from a day before now to
// a year after. entityID is an https URL without a path: the sign-on service stands below it.
func NewIdP(entityID string, now time.Time) *IdP {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	return NewIdPWithKey(entityID, key, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0))
}

// NewIdPWithKey makes an identity provider with that key and a self-signed certificate for it.
func NewIdPWithKey(entityID string, key crypto.Signer, notBefore, notAfter time.Time) *IdP {
	return &IdP{EntityID: entityID, SignOn: entityID + "/sso", Key: key, Certificate: SelfSigned(key, "idp", notBefore, notAfter)}
}

// SelfSigned makes a certificate for a key, signed with the key.
func SelfSigned(key crypto.Signer, name string, notBefore, notAfter time.Time) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	must(err)
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notAfter}
	return Clone(template, key)
}

// Clone makes a certificate that says what another says, but for the key, which it is also signed with.
func Clone(c *x509.Certificate, key crypto.Signer) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: c.SerialNumber, Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, SubjectKeyId: c.SubjectKeyId,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	made, err := x509.ParseCertificate(der)
	must(err)
	return made
}

// Attribute is one of a person, with its values in order.
type Attribute struct {
	Name   string
	Values []string
}

// Options are what a Response says. The zero value of each field is the default that is named, or leaves out what it is about.
// What they do not offer, Edit does.
type Options struct {
	Now          time.Time
	Audience     string // the service provider's entity ID; empty: no AudienceRestriction
	Recipient    string // its assertion consumer service
	Destination  string // default: Recipient
	InResponseTo string // empty: nobody asked

	Issuer        string // default: the IdP's entity ID
	ResponseID    string // default: random
	AssertionID   string // default: random
	NameID        string
	NameIDFormat  string // default: FormatPersistent
	Attributes    []Attribute
	SessionIndex  string        // default: the assertion's ID
	AuthnInstant  time.Time     // default: Now
	SessionEnds   time.Time     // SessionNotOnOrAfter; zero: none
	Life          time.Duration // of the confirmation and the conditions, from Now; default: 5 minutes
	Status        string        // default: StatusSuccess. With any other there is no assertion
	StatusMessage string

	SignResponse  bool
	SignAssertion bool
	Signing       Signing     // of both
	Encrypt       *Encryption // nil: the assertion stands in the clear

	// Edit changes the message before anything of it is signed or encrypted.
	Edit func(response, assertion *etree.Element)

	// EditSigned changes it when the assertion is signed and encrypted, and the response is about to be signed.
	EditSigned func(response *etree.Element)
}

// Response is a Response as it is posted, before base64.
func (p *IdP) Response(o Options) []byte { return Bytes(p.Document(o)) }

// Document is a Response, to be changed further.
func (p *IdP) Document(o Options) *etree.Document {
	response, assertion := p.message(o)
	if o.Edit != nil {
		o.Edit(response, assertion)
	}
	if assertion != nil && assertion.Parent() == response {
		if o.SignAssertion {
			p.Sign(assertion, o.Signing)
		}
		if o.Encrypt != nil {
			o.Encrypt.replace(assertion)
		}
	}
	if o.EditSigned != nil {
		o.EditSigned(response)
	}
	if o.SignResponse {
		p.Sign(response, o.Signing)
	}
	return etree.NewDocumentWithRoot(response)
}

// message is the Response and the Assertion in it, unsigned.
func (p *IdP) message(o Options) (response, assertion *etree.Element) {
	now := o.Now.UTC()
	issuer := or(o.Issuer, p.EntityID)
	response = etree.NewElement("samlp:Response")
	attrs(response, "xmlns:samlp", NSProtocol, "xmlns:saml", NSAssertion, "ID", or(o.ResponseID, NewID()), "Version", "2.0",
		"IssueInstant", Instant(now), "Destination", or(o.Destination, o.Recipient), "InResponseTo", o.InResponseTo)
	text(response, "saml:Issuer", issuer)
	status := response.CreateElement("samlp:Status")
	attrs(status.CreateElement("samlp:StatusCode"), "Value", or(o.Status, StatusSuccess))
	if o.StatusMessage != "" {
		text(status, "samlp:StatusMessage", o.StatusMessage)
	}
	if or(o.Status, StatusSuccess) != StatusSuccess {
		return response, nil
	}
	assertion = p.assertion(o, issuer, now)
	response.AddChild(assertion)
	return response, assertion
}

func (p *IdP) assertion(o Options, issuer string, now time.Time) *etree.Element {
	life := o.Life
	if life == 0 {
		life = 5 * time.Minute
	}
	id := or(o.AssertionID, NewID())
	a := etree.NewElement("saml:Assertion")
	attrs(a, "xmlns:saml", NSAssertion, "xmlns:xs", "http://www.w3.org/2001/XMLSchema", "xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance",
		"ID", id, "Version", "2.0", "IssueInstant", Instant(now))
	text(a, "saml:Issuer", issuer)

	subject := a.CreateElement("saml:Subject")
	attrs(text(subject, "saml:NameID", o.NameID), "Format", or(o.NameIDFormat, FormatPersistent))
	confirmation := subject.CreateElement("saml:SubjectConfirmation")
	attrs(confirmation, "Method", MethodBearer)
	attrs(confirmation.CreateElement("saml:SubjectConfirmationData"),
		"InResponseTo", o.InResponseTo, "NotOnOrAfter", Instant(now.Add(life)), "Recipient", o.Recipient)

	conditions := a.CreateElement("saml:Conditions")
	attrs(conditions, "NotBefore", Instant(now.Add(-time.Minute)), "NotOnOrAfter", Instant(now.Add(life)))
	if o.Audience != "" {
		text(conditions.CreateElement("saml:AudienceRestriction"), "saml:Audience", o.Audience)
	}

	authn := a.CreateElement("saml:AuthnStatement")
	at, ends := now, ""
	if !o.AuthnInstant.IsZero() {
		at = o.AuthnInstant
	}
	if !o.SessionEnds.IsZero() {
		ends = Instant(o.SessionEnds)
	}
	attrs(authn, "AuthnInstant", Instant(at), "SessionIndex", or(o.SessionIndex, id), "SessionNotOnOrAfter", ends)
	text(authn.CreateElement("saml:AuthnContext"), "saml:AuthnContextClassRef", ClassPassword)

	if len(o.Attributes) > 0 {
		statement := a.CreateElement("saml:AttributeStatement")
		for _, at := range o.Attributes {
			attribute := statement.CreateElement("saml:Attribute")
			attrs(attribute, "Name", at.Name, "NameFormat", "urn:oasis:names:tc:SAML:2.0:attrname-format:basic")
			for _, v := range at.Values {
				attrs(text(attribute, "saml:AttributeValue", v), "xsi:type", "xs:string")
			}
		}
	}
	return a
}

// Encode is a message as the HTTP-POST binding carries it (SAML 2.0 Bindings §3.5.4).
func Encode(message []byte) string { return base64.StdEncoding.EncodeToString(message) }

// Parse reads a message, to change it.
func Parse(message []byte) *etree.Document {
	d := etree.NewDocument()
	must(d.ReadFromBytes(message))
	return d
}

// Bytes writes a message. What was signed stays as it was: its canonical form does not depend on how it is written.
func Bytes(d *etree.Document) []byte {
	b, err := d.WriteToBytes()
	must(err)
	return b
}

// Instant writes a time as SAML does (SAML 2.0 Core §1.3.3).
func Instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// NewID is a random identifier of a message (SAML 2.0 Core §1.3.4).
func NewID() string {
	var b [16]byte
	_, err := rand.Read(b[:])
	must(err)
	return "_" + hex.EncodeToString(b[:])
}

// attrs sets attributes, name after name; empty ones are left out.
func attrs(e *etree.Element, pairs ...string) *etree.Element {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			e.CreateAttr(pairs[i], pairs[i+1])
		}
	}
	return e
}

// text adds a child that holds text alone.
func text(parent *etree.Element, tag, s string) *etree.Element {
	e := parent.CreateElement(tag)
	e.CreateText(s)
	return e
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
