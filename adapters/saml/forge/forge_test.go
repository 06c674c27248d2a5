package forge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/xml"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
)

const acs, audience = "https://fleetpass.example/t/acme/saml/corp/acs", "https://fleetpass.example/t/acme/saml/corp"

// now is the present, since crewjam/saml reads the clock itself.
var now = time.Now().UTC()

var (
	idp = sync.OnceValue(func() *forge.IdP { return forge.NewIdP("https://idp.example", now) })
	sp  = sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func options() forge.Options {
	return forge.Options{
		Now: now, Audience: audience, Recipient: acs, InResponseTo: "id-asked", NameID: "ada",
		Attributes: []forge.Attribute{{Name: "email", Values: []string{"ada@acme.example"}}, {Name: "GROUPS", Values: []string{"a", "b & c"}}},
	}
}

// What is forged without a wish is what two other implementations accept: otherwise the attacks that are made of it would be
// refused for the wrong reason.
func TestOthersAccept(t *testing.T) {
	certificate := forge.SelfSigned(sp(), "sp", now.Add(-time.Hour), now.Add(time.Hour))
	metadata := &saml.EntityDescriptor{}
	if err := xml.Unmarshal(idp().Metadata(), metadata); err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(acs)
	if err != nil {
		t.Fatal(err)
	}
	other := &saml.ServiceProvider{EntityID: audience, AcsURL: *address, IDPMetadata: metadata, Key: sp(), Certificate: certificate}
	for name, change := range map[string]func(*forge.Options){
		"response":  func(o *forge.Options) { o.SignResponse = true },
		"assertion": func(o *forge.Options) { o.SignAssertion = true },
		"both":      func(o *forge.Options) { o.SignResponse, o.SignAssertion = true, true },
		"sha512": func(o *forge.Options) {
			o.SignResponse, o.Signing.Method, o.Signing.Digest = true, forge.RSASHA512, forge.DigestSHA512
		},
		"no KeyInfo":         func(o *forge.Options) { o.SignResponse, o.Signing.NoKeyInfo = true, true },
		"prefixes":           func(o *forge.Options) { o.SignAssertion, o.Signing.Prefixes = true, "xs" },
		"last":               func(o *forge.Options) { o.SignAssertion, o.Signing.At = true, forge.Last },
		"comments canonical": func(o *forge.Options) { o.SignResponse, o.Signing.C14N = true, forge.C14NExclusiveComments },
		"encrypted GCM": func(o *forge.Options) {
			o.SignAssertion, o.Encrypt = true, &forge.Encryption{Certificate: certificate, Data: forge.AES128GCM, Key: forge.OAEPMGF1P, Digest: forge.DigestSHA1}
		},
		"encrypted CBC": func(o *forge.Options) {
			o.SignResponse, o.Encrypt = true, &forge.Encryption{Certificate: certificate, Data: forge.AES256CBC, Key: forge.PKCS1v15}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			change(&o)
			message := idp().Response(o)
			assertion, err := other.ParseXMLResponse(message, []string{"id-asked"}, *address)
			if err != nil {
				private := err
				if ire, ok := err.(*saml.InvalidResponseError); ok {
					private = ire.PrivateErr
				}
				t.Fatalf("%v\n%s", private, message)
			}
			if got := assertion.Subject.NameID.Value; got != "ada" {
				t.Errorf("NameID %q", got)
			}
		})
	}
}

// An ECDSA signature is written in both forms; goxmldsig takes one of them.
func TestECDSA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := forge.NewIdPWithKey("https://ec.example", key, now.Add(-time.Hour), now.Add(time.Hour))
	verifier := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{p.Certificate}})
	o := options()
	o.SignResponse, o.Signing.ECDSA = true, forge.ASN1
	if _, err := verifier.Validate(p.Document(o).Root()); err != nil {
		t.Error(err)
	}
	o.Signing.ECDSA = forge.Concatenated
	d := p.Document(o)
	value := d.FindElement("/Response/Signature/SignatureValue")
	if value == nil || len(value.Child) != 1 || len(value.Child[0].(*etree.CharData).Data) != 88 {
		t.Errorf("want 64 octets in base64: %v", value)
	}
}

// Signed metadata verifies.
func TestMetadata(t *testing.T) {
	verifier := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{idp().Certificate}})
	if _, err := verifier.Validate(forge.Parse(idp().MetadataWith(forge.MetadataOptions{Sign: true})).Root()); err != nil {
		t.Error(err)
	}
	if _, err := verifier.Validate(forge.Parse(idp().Metadata()).Root()); err == nil {
		t.Error("unsigned metadata verifies")
	}
}
