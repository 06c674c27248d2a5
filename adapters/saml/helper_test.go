package saml

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

const (
	idpEntity = "https://idp.example.com/metadata"
	spEntity  = "https://fleetpass.example.com/t/acme/saml/okta"
	acs       = spEntity + "/acs"
	requestID = "_0123456789abcdef"
)

var (
	now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	us  = sso.Addresses{EntityID: spEntity, Return: acs, Metadata: spEntity + "/metadata"}
)

// pair is a key with its certificate.
type pair struct {
	key crypto.Signer
	der []byte
}

func (p pair) rsa() *rsa.PrivateKey { return p.key.(*rsa.PrivateKey) }

func (p pair) cert(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(p.der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// RSA keys take long to make; tests share them, each under its name.
var (
	keysMu sync.Mutex
	keys   = map[string]*rsa.PrivateKey{}
)

func rsaKey(t testing.TB, name string, bits int) *rsa.PrivateKey {
	t.Helper()
	keysMu.Lock()
	defer keysMu.Unlock()
	id := fmt.Sprint(name, bits)
	if keys[id] == nil {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = k
	}
	return keys[id]
}

func rsaPair(t testing.TB, name string) pair {
	return certify(t, rsaKey(t, name, 2048), name, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
}

func ecPair(t testing.TB, name string, curve elliptic.Curve) pair {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, k, name, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
}

func certify(t testing.TB, key crypto.Signer, name string, from, until time.Time) pair {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, der}
}

// outside is a Fetcher that knows one document.
type outside struct{ document []byte }

func (o outside) Get(_ context.Context, url, ca string) ([]byte, error) {
	if o.document == nil {
		return nil, fmt.Errorf("%s: %w", url, core.Unavailable)
	}
	return o.document, nil
}

func (outside) Check(field, url string) error { return https(field, url) }

func (outside) CheckPage(field, url string) error { return https(field, url) }

func https(field, url string) error {
	if !strings.HasPrefix(url, "https://") {
		return core.BadField(field, "must begin with https://")
	}
	return nil
}

// world is one connection to an identity provider that the test plays.
type world struct {
	t       testing.TB
	idp, sp pair
	c       sso.Connection
	secrets sso.Secrets
	in      sso.Arrival
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, idp: rsaPair(t, "idp"), sp: rsaPair(t, "sp")}
	w.c = sso.Connection{ID: "c1", Alias: "okta", Kind: sso.SAML, SAML: &sso.SAMLSettings{
		EntityID: spEntity,
		IdP: sso.SAMLProvider{
			EntityID: idpEntity, Certificates: [][]byte{w.idp.der},
			SignOn: []sso.SAMLEndpoint{{Binding: bindingRedirect, URL: "https://idp.example.com/sso"}, {Binding: bindingPost, URL: "https://idp.example.com/post"}},
		},
		Keys: []sso.SPKey{{ID: "k1", Certificate: w.sp.der}},
	}}
	w.secrets = sso.Secrets{Keys: []sso.Key{{ID: "k1", Certificate: w.sp.der, Private: w.sp.rsa()}}}
	w.in = sso.Arrival{Addresses: us, Pending: &sso.Pending{Request: requestID, At: now.Add(-time.Minute)}, Now: now}
	return w
}

// finish hands a document to Finish, as the browser brings it.
func (w *world) finish(doc []byte) (sso.Assertion, *sso.Report, error) {
	w.t.Helper()
	return w.post(base64.StdEncoding.EncodeToString(doc))
}

func (w *world) post(encoded string) (sso.Assertion, *sso.Report, error) {
	w.t.Helper()
	r := &sso.Report{}
	w.in.Params = map[string]string{"SAMLResponse": encoded}
	said, err := New(outside{}).Finish(w.t.Context(), w.c, w.secrets, w.in, r)
	return said, r, err
}

// attributes of a person, as XML.
const person = `<saml:AttributeStatement>
    <saml:Attribute Name="email" FriendlyName="mail"><saml:AttributeValue xsi:type="xs:string">ada@example.com</saml:AttributeValue></saml:Attribute>
    <saml:Attribute Name="GROUPS"><saml:AttributeValue xsi:type="xs:string">research</saml:AttributeValue><saml:AttributeValue xsi:type="xs:string">ml &amp; ops</saml:AttributeValue></saml:Attribute>
    <saml:Attribute Name="UID"><saml:AttributeValue xsi:type="xs:anyType">4321
    </saml:AttributeValue></saml:Attribute>
  </saml:AttributeStatement>`

// at is a time as SAML writes it.
func at(d time.Duration) string { return now.Add(d).Format("2006-01-02T15:04:05.000Z") }

// template is a response as it should be, to be changed before it is signed.
func template(attributes string) string {
	return `<samlp:Response xmlns:samlp="` + nsProtocol + `" xmlns:saml="` + nsAssertion + `" ID="_r1" Version="2.0" IssueInstant="` + at(-time.Second) + `" Destination="` + acs + `" InResponseTo="` + requestID + `">
  <saml:Issuer>` + idpEntity + `</saml:Issuer>
  <samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>
  <saml:Assertion xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ID="_a1" Version="2.0" IssueInstant="` + at(-time.Second) + `">
  <saml:Issuer>` + idpEntity + `
  </saml:Issuer>
  <saml:Subject>
    <saml:NameID Format="` + formatPersistent + `">person-4711</saml:NameID>
    <saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData InResponseTo="` + requestID + `" NotOnOrAfter="` + at(5*time.Minute) + `" Recipient="` + acs + `"/></saml:SubjectConfirmation>
  </saml:Subject>
  <saml:Conditions NotBefore="` + at(-time.Minute) + `" NotOnOrAfter="` + at(5*time.Minute) + `"><saml:AudienceRestriction><saml:Audience>` + spEntity + `</saml:Audience></saml:AudienceRestriction></saml:Conditions>
  <saml:AuthnStatement AuthnInstant="` + at(-30*time.Second) + `" SessionIndex="_a1" SessionNotOnOrAfter="` + at(8*time.Hour) + `"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>
  ` + attributes + `
  </saml:Assertion>
</samlp:Response>`
}

// signing says what of a response is signed, and how.
type signing struct {
	response, assertion bool
	by                  pair
	method              string // default: RSA-SHA256
	keyInfo             bool
	prefixes            string // of InclusiveNamespaces
	encrypt             func(assertion []byte) *etree.Element
}

// signed signs a document, the assertion first, and writes it.
func signed(t testing.TB, doc string, s signing) []byte {
	t.Helper()
	d := etree.NewDocument()
	if err := d.ReadFromString(doc); err != nil {
		t.Fatal(err)
	}
	root := d.Root()
	assertion := child(root, "Assertion")
	if s.assertion {
		envelop(t, assertion, s)
	}
	if s.encrypt != nil {
		declareAll(assertion, scopeOf(assertion))
		sealed := s.encrypt(document(assertion.Copy()))
		root.InsertChildAt(assertion.Index(), sealed)
		root.RemoveChild(assertion)
	}
	if s.response {
		envelop(t, root, s)
	}
	b, err := d.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// envelop signs an element and puts the signature behind its Issuer.
func envelop(t testing.TB, e *etree.Element, s signing) {
	t.Helper()
	c, err := dsig.NewSigningContext(s.by.key, [][]byte{s.by.der})
	if err != nil {
		t.Fatal(err)
	}
	c.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList(s.prefixes)
	if s.method != "" {
		if err := c.SetSignatureMethod(s.method); err != nil {
			t.Fatal(err)
		}
	}
	alone := e.Copy()
	declareAll(alone, scopeOf(e))
	sig, err := c.ConstructSignature(alone, true)
	if err != nil {
		t.Fatal(err)
	}
	if s.prefixes != "" {
		namePrefixes(t, sig, s)
	}
	if !s.keyInfo {
		sig.RemoveChild(child(sig, "KeyInfo"))
	}
	at := 0
	if issuer := child(e, "Issuer"); issuer != nil {
		at = issuer.Index() + 1
	}
	e.InsertChildAt(at, sig)
}

func child(e *etree.Element, tag string) *etree.Element {
	for _, c := range e.ChildElements() {
		if c.Tag == tag {
			return c
		}
	}
	return nil
}

// accepted fails the test unless the document signs the person in.
func (w *world) accepted(doc []byte) (sso.Assertion, *sso.Report) {
	w.t.Helper()
	said, r, err := w.finish(doc)
	if err != nil {
		w.t.Fatalf("refused: %v\n%+v", err, r.Checks)
	}
	return said, r
}

// refused fails the test unless the document is refused, and for that reason first.
func (w *world) refused(doc []byte, because sso.CheckName) sso.Check {
	w.t.Helper()
	said, r, err := w.finish(doc)
	first, failed := r.Failure()
	if err == nil || !failed || first.Name != because || said.Subject != "" || said.Attributes != nil {
		w.t.Fatalf("got %v, first failure %+v, said %+v; want a refusal because of %s\n%+v", err, first, said, because, r.Checks)
	}
	if first.Found == "" || first.Fix == "" {
		w.t.Errorf("the failure says too little: %+v", first)
	}
	return first
}

// namePrefixes writes the list of prefixes, which goxmldsig goes by and leaves out, and signs again.
func namePrefixes(t testing.TB, sig *etree.Element, s signing) {
	t.Helper()
	info := child(sig, "SignedInfo")
	list := child(child(info, "Reference"), "Transforms").ChildElements()[1].CreateElement("ec:InclusiveNamespaces")
	list.CreateAttr("xmlns:ec", nsExclusive)
	list.CreateAttr("PrefixList", s.prefixes)
	alone := info.Copy()
	declareAll(alone, scopeOf(info))
	canonical, err := dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(alone)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(canonical)
	value, err := s.by.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	child(sig, "SignatureValue").SetText(base64.StdEncoding.EncodeToString(value))
}
