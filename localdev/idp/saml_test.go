package idp_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	"github.com/crewjam/saml/xmlenc"
	"github.com/google/go-cmp/cmp"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/fleetpass/fleetpass/localdev/idp"
)

const (
	spEntity = "https://sp.example/metadata"
	spACS    = "https://sp.example/acs"
)

// The service provider's key is made once: it costs more than a sign-in.
var spKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// foreign is crewjam's service provider, as far as an SP's metadata and ours set it up.
func foreign(t *testing.T, p *idp.Provider) *saml.ServiceProvider {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, spKey().Public(), spKey())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	acs, _ := url.Parse(spACS)
	return &saml.ServiceProvider{
		EntityID: spEntity, Key: spKey(), Certificate: cert, AcsURL: *acs, AuthnNameIDFormat: saml.PersistentNameIDFormat,
		IDPMetadata: readMetadata(t, p), HTTPClient: http.DefaultClient,
	}
}

func readMetadata(t *testing.T, p *idp.Provider) *saml.EntityDescriptor {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/saml/metadata", nil))
	m := new(saml.EntityDescriptor)
	if err := xml.Unmarshal(w.Body.Bytes(), m); err != nil {
		t.Fatal(err)
	}
	if m.EntityID != p.EntityID() {
		t.Fatalf("the metadata is of %s", m.EntityID)
	}
	return m
}

// register makes the provider know the foreign service by its metadata, changed so.
func register(t *testing.T, p *idp.Provider, sp *saml.ServiceProvider, change func(*idp.ServiceProvider)) {
	t.Helper()
	doc, err := xml.Marshal(sp.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	known, err := idp.ParseServiceProvider(doc)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&known)
	}
	if err := p.AddServiceProvider(known); err != nil {
		t.Fatal(err)
	}
}

// ask makes a request by HTTP-Redirect: its ID and its address.
func ask(t *testing.T, sp *saml.ServiceProvider) (id, to string) {
	t.Helper()
	req, err := sp.MakeAuthenticationRequest(sp.GetSSOBindingLocation(saml.HTTPRedirectBinding), saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		t.Fatal(err)
	}
	u, err := req.Redirect("relay-1", sp)
	if err != nil {
		t.Fatal(err)
	}
	return req.ID, u.String()
}

// take is what the foreign service makes of an answer.
func take(sp *saml.ServiceProvider, answer page, requests ...string) (*saml.Assertion, error) {
	r := httptest.NewRequest(http.MethodPost, spACS, strings.NewReader(answer.fields.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	a, err := sp.ParseResponse(r, requests)
	if invalid, ok := errors.AsType[*saml.InvalidResponseError](err); ok {
		return nil, invalid.PrivateErr
	}
	return a, err
}

func attributes(a *saml.Assertion) map[string][]string {
	all := map[string][]string{}
	for _, s := range a.AttributeStatements {
		for _, attr := range s.Attributes {
			for _, v := range attr.Values {
				all[attr.Name] = append(all[attr.Name], v.Value)
			}
		}
	}
	return all
}

// A foreign service provider takes what is sent, whatever is signed, and finds the person in it.
func TestSAML(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	var names []string
	for _, signed := range []idp.Signed{idp.SignAssertion, idp.SignResponse, idp.SignBoth} {
		register(t, p, sp, func(s *idp.ServiceProvider) { s.Sign = signed })
		b := newBrowser(t)
		id, to := ask(t, sp)
		answer := b.signIn(b.get(to))
		if answer.action != spACS || answer.fields.Get("RelayState") != "relay-1" {
			t.Fatalf("sent to %q with %q", answer.action, answer.fields.Get("RelayState"))
		}
		a, err := take(sp, answer, id)
		if err != nil {
			t.Fatalf("signed %q: %v", signed, err)
		}
		want := map[string][]string{
			"email": {"alice@acme.example"}, "firstName": {"Alice"}, "lastName": {"Liddell"}, "GROUPS": {"researchers", "ml & more"},
			"UID": {"15001"}, "GID": {"25001"}, "SUPPLEMENTARYGROUPS": {"30001", "30002"},
		}
		if diff := cmp.Diff(want, attributes(a)); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
		if a.Subject.NameID.Format != string(saml.PersistentNameIDFormat) || strings.Contains(a.Subject.NameID.Value, "alice") {
			t.Errorf("name %+v", a.Subject.NameID)
		}
		names = append(names, a.Subject.NameID.Value)
		if _, err := take(sp, answer, "another"); err == nil {
			t.Error("the answer fits another request")
		}
	}
	if names[0] != names[1] || names[1] != names[2] {
		t.Errorf("the persistent name changes: %v", names)
	}
}

// sha256Method is a digest by its right name, which crewjam lacks.
type sha256Method struct{}

func (sha256Method) Algorithm() string { return "http://www.w3.org/2001/04/xmlenc#sha256" }
func (sha256Method) Hash() hash.Hash   { return sha256.New() }

// What is encrypted opens with the foreign service's key, and with no other.
func TestSAMLEncrypted(t *testing.T) {
	xmlenc.RegisterDigestMethod(sha256Method{})
	xmlenc.RegisterDecrypter(xmlenc.OAEP_SHA256())
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	register(t, p, sp, func(s *idp.ServiceProvider) { s.Encrypt, s.Cipher = true, idp.AES128GCM })
	b := newBrowser(t)
	id, to := ask(t, sp)
	answer := b.signIn(b.get(to))
	if doc := decoded(t, answer); strings.Contains(doc, "alice") || !strings.Contains(doc, "EncryptedAssertion") {
		t.Errorf("not encrypted: %s", doc)
	}
	a, err := take(sp, answer, id)
	if err != nil || attributes(a)["email"][0] != "alice@acme.example" {
		t.Fatalf("%v, %v", a, err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sp.Key = other
	if _, err := take(sp, answer, id); err == nil {
		t.Error("it opens with another key")
	}
	// The default cipher, which crewjam has not: its name, and that it is there.
	register(t, p, sp, func(s *idp.ServiceProvider) { s.Encrypt = true })
	_, to = ask(t, sp)
	if doc := decoded(t, b.get(to)); !strings.Contains(doc, idp.AES256GCM) {
		t.Errorf("the default cipher: %s", doc)
	}
}

func decoded(t *testing.T, answer page) string {
	t.Helper()
	doc, err := base64.StdEncoding.DecodeString(answer.fields.Get("SAMLResponse"))
	if err != nil || len(doc) == 0 {
		t.Fatalf("no response: %d %s", answer.status, answer.body)
	}
	return string(doc)
}

// facts is what is to be known of a response without judging it.
func facts(t *testing.T, p *idp.Provider, answer page, requests []string) map[string]string {
	t.Helper()
	d := etree.NewDocument()
	if err := d.ReadFromString(decoded(t, answer)); err != nil {
		t.Fatal(err)
	}
	f := map[string]string{}
	note := func(name, path, attr string) {
		e := d.FindElement(path)
		switch {
		case e == nil:
			f[name] = "none"
		case attr == "":
			f[name] = e.Text()
		default:
			f[name] = e.SelectAttrValue(attr, "none")
		}
		for i, id := range requests {
			if f[name] == id {
				f[name] = fmt.Sprintf("request %d", i)
			}
		}
		if at, err := time.Parse(time.RFC3339, f[name]); err == nil {
			f[name] = time.Until(at).Round(time.Minute).String()
		}
	}
	note("status", "/Response/Status//StatusCode/StatusCode", "Value")
	note("destination", "/Response", "Destination")
	note("response request", "/Response", "InResponseTo")
	note("response issuer", "/Response/Issuer", "")
	note("response issued", "/Response", "IssueInstant")
	note("issuer", "//Assertion/Issuer", "")
	note("issued", "//Assertion", "IssueInstant")
	note("recipient", "//SubjectConfirmationData", "Recipient")
	note("request", "//SubjectConfirmationData", "InResponseTo")
	note("confirmed until", "//SubjectConfirmationData", "NotOnOrAfter")
	note("from", "//Conditions", "NotBefore")
	note("until", "//Conditions", "NotOnOrAfter")
	note("audience", "//Audience", "")
	note("proof", "//AuthnStatement", "AuthnInstant")
	note("email", "//Attribute[@Name='email']/AttributeValue", "")
	note("groups", "//Attribute[@Name='GROUPS']/AttributeValue", "")
	note("method", "//Signature//SignatureMethod", "Algorithm")
	note("certificate", "//X509Certificate", "")
	for i, der := range p.Certificates() {
		if f["certificate"] == base64.StdEncoding.EncodeToString(der) {
			f["certificate"] = fmt.Sprintf("certificate %d", i)
		}
	}
	return f
}

// Each fault changes what it says it changes and nothing else, and the foreign service refuses it for that where it looks at it
// at all.
func TestSAMLFaults(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	register(t, p, sp, nil)
	b := newBrowser(t)

	// The good answer, to compare with; it is also what is replayed.
	_, to := ask(t, sp)
	b.signIn(b.get(to))
	before, to := ask(t, sp)
	good := b.get(to)
	if _, err := take(sp, good, before); err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	want := facts(t, p, good, []string{before})

	tests := map[idp.Fault]struct {
		changes []string
		refused string // crewjam's words; "": it does not look
	}{
		idp.WrongAudience:      {[]string{"audience"}, "AudienceRestriction"},
		idp.WrongDestination:   {[]string{"destination"}, "Destination"},
		idp.WrongRecipient:     {[]string{"recipient"}, "Recipient"},
		idp.WrongIssuer:        {[]string{"issuer", "response issuer"}, "Issuer"},
		idp.OtherRequest:       {[]string{"request", "response request"}, "InResponseTo"},
		idp.Unsigned:           {[]string{"certificate", "method"}, "signature element not present"},
		idp.OtherKey:           {[]string{"certificate"}, "Could not verify certificate"},
		idp.SHA1:               {[]string{"method"}, ""},
		idp.ExpiredCertificate: {[]string{"certificate"}, "Cert is not valid at this time"},
		idp.Clock:              {[]string{"confirmed until", "from", "issued", "proof", "response issued", "until"}, "expired"},
		idp.FutureClock:        {[]string{"confirmed until", "from", "issued", "proof", "response issued", "until"}, "not yet valid"},
		idp.MissingEmail:       {[]string{"email"}, ""},
		idp.Cancelled: {[]string{"audience", "confirmed until", "email", "from", "groups", "issued", "issuer", "proof", "recipient", "request", "status", "until"},
			"status:Responder"},
		idp.Replay: {[]string{"request", "response request"}, "InResponseTo"},
	}
	for _, m := range idp.Faults() {
		if m.Protocol != idp.SAML {
			continue
		}
		tt, ok := tests[m.Fault]
		if !ok {
			t.Errorf("no test of %s", m.Fault)
			continue
		}
		t.Run(string(m.Fault), func(t *testing.T) {
			sp.IDPMetadata = readMetadata(t, p)
			id, to := ask(t, sp)
			answer := b.get(to + "&misbehave=" + string(m.Fault))
			got := facts(t, p, answer, []string{id})
			var changed []string
			for _, name := range slices.Sorted(maps.Keys(want)) {
				if got[name] != want[name] {
					changed = append(changed, name)
				}
			}
			if diff := cmp.Diff(tt.changes, changed); diff != "" {
				t.Errorf("changes (-want +got):\n%s\nfrom %v\nto %v", diff, want, got)
			}
			_, err := take(sp, answer, id)
			if tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("the foreign service says %v, want it to refuse %q", err, tt.refused)
			}
			if m.Fault == idp.MissingEmail && err != nil {
				t.Errorf("more is wrong than the missing e-mail: %v", err)
			}
			if m.Fault == idp.Replay {
				if _, err := take(sp, answer, before); err != nil {
					t.Errorf("what is sent again is not what was good before: %v", err)
				}
			}
			// Set for all, it does the same; and it ends.
			if err := p.SetFault(m.Fault); err != nil {
				t.Fatal(err)
			}
			id, to = ask(t, sp)
			if diff := cmp.Diff(got, facts(t, p, b.get(to), []string{id})); diff != "" && m.Fault != idp.OtherRequest {
				t.Errorf("set for all (-by request +for all):\n%s", diff)
			}
			if err := p.SetFault(idp.Behave); err != nil {
				t.Fatal(err)
			}
		})
	}
	// A person picks one on the page; and one of the other protocol is none here.
	page := newBrowser(t).get(to)
	if !strings.Contains(page.body, "wrong-recipient: ") || strings.Contains(page.body, "wrong-nonce") {
		t.Errorf("what the page offers: %s", page.body)
	}
	other := newBrowser(t)
	id, to := ask(t, sp)
	if _, err := take(sp, other.signIn(other.get(to), "misbehave", string(idp.WrongRecipient)), id); err == nil || !strings.Contains(err.Error(), "Recipient") {
		t.Errorf("picked on the page: %v", err)
	}
	if page := b.get(to + "&misbehave=wrong-nonce"); page.status != http.StatusBadRequest {
		t.Errorf("a fault of the other protocol: %d", page.status)
	}
	id, to = ask(t, sp)
	if _, err := take(sp, newBrowser(t).cancel(to), id); err == nil || !strings.Contains(err.Error(), "status:Responder") {
		t.Errorf("cancelled on the page: %v", err)
	}
}

func (b *browser) cancel(to string) page {
	b.t.Helper()
	return b.submit(b.get(to), "cancel", "yes")
}

// A request is answered only if it comes from a service that is known, to an address that it registered, and with the signature
// that it must have.
func TestSAMLRequests(t *testing.T) {
	p := serve(t, idp.Options{})
	b := newBrowser(t)
	request := func(change func(*saml.AuthnRequest)) string {
		sp := foreign(t, p)
		req, err := sp.MakeAuthenticationRequest(sp.GetSSOBindingLocation(saml.HTTPRedirectBinding), saml.HTTPRedirectBinding, saml.HTTPPostBinding)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		u, err := req.Redirect("", sp)
		if err != nil {
			t.Fatal(err)
		}
		return p.Issuer() + "/saml/sso?" + u.RawQuery
	}
	if page := b.get(request(func(*saml.AuthnRequest) {})); page.status != http.StatusBadRequest {
		t.Errorf("of an unknown service: %d", page.status)
	}
	register(t, p, foreign(t, p), nil)
	if page := b.get(request(func(*saml.AuthnRequest) {})); !page.isLogin() {
		t.Fatalf("a good request: %d %s", page.status, page.body)
	}
	for name, change := range map[string]func(*saml.AuthnRequest){
		"other issuer":      func(r *saml.AuthnRequest) { r.Issuer.Value += "x" },
		"other ACS":         func(r *saml.AuthnRequest) { r.AssertionConsumerServiceURL += "/../evil" },
		"ACS by index":      func(r *saml.AuthnRequest) { r.AssertionConsumerServiceIndex = "1" },
		"other destination": func(r *saml.AuthnRequest) { r.Destination = "https://elsewhere.example/sso" },
		"other binding":     func(r *saml.AuthnRequest) { r.ProtocolBinding = saml.HTTPArtifactBinding },
		"other version":     func(r *saml.AuthnRequest) { r.Version = "1.1" },
		"no ID":             func(r *saml.AuthnRequest) { r.ID = "" },
	} {
		if page := b.get(request(change)); page.status != http.StatusBadRequest || page.isLogin() {
			t.Errorf("%s: %d", name, page.status)
		}
	}
	for name, query := range map[string]string{"nothing": "", "not base64": "SAMLRequest=!", "not deflated": "SAMLRequest=QUFB", "twice": "SAMLRequest=QQ&SAMLRequest=QQ"} {
		if page := b.get(p.Issuer() + "/saml/sso?" + query); page.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, page.status)
		}
	}
	// A name of a format that is not to be had is an answer, not a page.
	format := request(func(r *saml.AuthnRequest) {
		r.NameIDPolicy.Format = new("urn:oasis:names:tc:SAML:2.0:nameid-format:kerberos")
	})
	if doc := decoded(t, b.signIn(b.get(format))); !strings.Contains(doc, "InvalidNameIDPolicy") {
		t.Errorf("an unknown format: %s", doc)
	}
}

// Signed requests are verified, by both bindings.
func TestSAMLSignedRequests(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	register(t, p, sp, func(s *idp.ServiceProvider) { s.SignsRequests, s.Certificates = true, [][]byte{sp.Certificate.Raw} })
	b := newBrowser(t)
	if _, to := ask(t, sp); b.get(to).status != http.StatusBadRequest {
		t.Error("an unsigned request is taken of who signs")
	}
	sp.SignatureMethod = dsig.RSASHA256SignatureMethod
	register(t, p, sp, nil) // its metadata says the same by itself now
	_, to := ask(t, sp)
	if page := b.get(to); !page.isLogin() {
		t.Fatalf("a signed request: %d %s", page.status, page.body)
	}
	if page := b.get(strings.Replace(to, "relay-1", "relay-2", 1)); page.status != http.StatusBadRequest {
		t.Errorf("another RelayState than the signed one: %d", page.status)
	}
	if page := b.get(to + "&RelayState=x"); page.status != http.StatusBadRequest {
		t.Errorf("two RelayStates: %d", page.status)
	}
	if page := b.get(strings.Replace(to, "?", "?SigAlg=x&", 1)); page.status != http.StatusBadRequest {
		t.Errorf("two SigAlgs: %d", page.status)
	}

	req, err := sp.MakeAuthenticationRequest(p.Issuer()+"/saml/sso", saml.HTTPPostBinding, saml.HTTPPostBinding)
	if err != nil {
		t.Fatal(err)
	}
	d := etree.NewDocument()
	d.SetRoot(req.Element())
	doc, err := d.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	post := func(doc []byte) page {
		return b.post(p.Issuer()+"/saml/sso", url.Values{"SAMLRequest": {base64.StdEncoding.EncodeToString(doc)}, "RelayState": {"r"}})
	}
	if page := post(doc); !page.isLogin() {
		t.Fatalf("a signed request by HTTP-POST: %d %s", page.status, page.body)
	}
	if page := post(bytes.Replace(doc, []byte(`Version="2.0"`), []byte(`Version="2.0" ForceAuthn="true"`), 1)); page.status != http.StatusBadRequest {
		t.Errorf("a changed request: %d", page.status)
	}
	if page := post(append([]byte("<!DOCTYPE x>"), doc...)); page.status != http.StatusBadRequest {
		t.Errorf("a DOCTYPE: %d", page.status)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sp.Key = other
	if _, to := ask(t, sp); b.get(to).status != http.StatusBadRequest {
		t.Error("a request signed by another key is taken")
	}
}

// A provider can want signed requests of everybody; its metadata says so.
func TestSAMLWantsSignedRequests(t *testing.T) {
	p := serve(t, idp.Options{WantSignedRequests: true})
	sp := foreign(t, p)
	if want := sp.IDPMetadata.IDPSSODescriptors[0].WantAuthnRequestsSigned; want == nil || !*want {
		t.Error("the metadata does not say it")
	}
	register(t, p, sp, nil)
	b := newBrowser(t)
	if _, to := ask(t, sp); b.get(to).status != http.StatusBadRequest {
		t.Error("an unsigned request is taken")
	}
	sp.SignatureMethod = dsig.RSASHA256SignatureMethod
	register(t, p, sp, nil)
	if _, to := ask(t, sp); !b.get(to).isLogin() {
		t.Error("a signed request is not taken")
	}
}

// ForceAuthn asks for the password again; IsPassive asks for nothing.
func TestSAMLForceAndPassive(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	register(t, p, sp, nil)
	b := newBrowser(t)
	passive := func() string {
		req, err := sp.MakeAuthenticationRequest(p.Issuer()+"/saml/sso", saml.HTTPRedirectBinding, saml.HTTPPostBinding)
		if err != nil {
			t.Fatal(err)
		}
		req.IsPassive = new(true)
		u, err := req.Redirect("", sp)
		if err != nil {
			t.Fatal(err)
		}
		return u.String()
	}
	if doc := decoded(t, b.get(passive())); !strings.Contains(doc, "status:NoPassive") {
		t.Errorf("passive, signed out: %s", doc)
	}
	_, to := ask(t, sp)
	b.signIn(b.get(to))
	if doc := decoded(t, b.get(passive())); !strings.Contains(doc, "status:Success") {
		t.Errorf("passive, signed in: %s", doc)
	}
	sp.ForceAuthn = new(true)
	id, to := ask(t, sp)
	forced := b.get(to)
	if !forced.isLogin() {
		t.Fatal("ForceAuthn asks for no password")
	}
	if _, err := take(sp, b.signIn(forced), id); err != nil {
		t.Error(err)
	}
}

// A sign-in that begins here answers no request.
func TestSAMLStartedHere(t *testing.T) {
	p := serve(t, idp.Options{})
	sp := foreign(t, p)
	register(t, p, sp, nil)
	b := newBrowser(t)
	answer := b.signIn(b.get(p.StartURL(spEntity, "deep link")))
	if doc := decoded(t, answer); strings.Contains(doc, "InResponseTo") || answer.fields.Get("RelayState") != "deep link" {
		t.Errorf("%s, RelayState %q", doc, answer.fields.Get("RelayState"))
	}
	if _, err := take(sp, answer, "id-1"); err == nil {
		t.Error("taken as an answer to a request")
	}
	sp.AllowIDPInitiated = true
	if _, err := take(sp, answer); err != nil {
		t.Error(err)
	}
}

// A rollover in order costs nobody a sign-in; one at once does, until the metadata is read again.
func TestSAMLKeys(t *testing.T) {
	p := serve(t, idp.Options{SignMetadata: true, WantSignedRequests: false, MetadataLife: time.Hour})
	sp := foreign(t, p)
	register(t, p, sp, nil)
	b := newBrowser(t)
	_, to := ask(t, sp)
	b.signIn(b.get(to))
	signIn := func() error {
		id, to := ask(t, sp)
		_, err := take(sp, b.get(to), id)
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
		read bool
		good bool
	}{
		{"at first", func() error { return nil }, false, true},
		{"published", p.PublishNext, false, true},
		{"metadata read", func() error { return nil }, true, true},
		{"used", p.UseNext, false, true},
		{"rotated at once", p.RotateKeys, false, false},
		{"read again", func() error { return nil }, true, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if step.read {
			sp.IDPMetadata = readMetadata(t, p)
		}
		if err := signIn(); (err == nil) != step.good {
			t.Errorf("%s: %v, want good %t", step.name, err, step.good)
		}
	}

	// The metadata is signed by the certificate that it lists first.
	d := etree.NewDocument()
	if _, err := d.ReadFrom(strings.NewReader(b.get(p.EntityID()).body)); err != nil {
		t.Fatal(err)
	}
	first, err := x509.ParseCertificate(p.Certificates()[0])
	if err != nil {
		t.Fatal(err)
	}
	c := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{first}})
	if _, err := c.Validate(d.Root()); err != nil {
		t.Errorf("the metadata's signature: %v", err)
	}
	if first.PublicKey.(*rsa.PublicKey).Size() != 2048/8 || d.Root().SelectAttrValue("validUntil", "") == "" {
		t.Error("not RSA-2048, or no validUntil")
	}
}

// What is sent of a person can be anything, and can change.
func TestSAMLPeopleChange(t *testing.T) {
	odd := alice()
	odd.Claims = map[string]any{"email": []string{"a@acme.example", "b@acme.example"}, "firstName": nil, "UID": "abc", "department": []any{"x", 7}}
	p := serve(t, idp.Options{People: []idp.Person{odd}})
	sp := foreign(t, p)
	register(t, p, sp, func(s *idp.ServiceProvider) { s.EmailAsNameID, s.SessionLife = true, 3*time.Hour })
	sp.AuthnNameIDFormat = saml.UnspecifiedNameIDFormat
	b := newBrowser(t)
	id, to := ask(t, sp)
	answer := b.signIn(b.get(to))
	a, err := take(sp, answer, id)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"email": {"a@acme.example", "b@acme.example"}, "lastName": {"Liddell"}, "GROUPS": {"researchers", "ml & more"},
		"UID": {"abc"}, "GID": {"25001"}, "SUPPLEMENTARYGROUPS": {"30001", "30002"}, "department": {"x", "7"},
	}
	if diff := cmp.Diff(want, attributes(a)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if a.Subject.NameID.Value != "alice@acme.example" {
		t.Errorf("name %q", a.Subject.NameID.Value)
	}
	if err := p.RemoveGroup("alice@acme.example", "researchers"); err != nil {
		t.Fatal(err)
	}
	id, to = ask(t, sp)
	if a, err = take(sp, b.get(to), id); err != nil || !slices.Equal(attributes(a)["GROUPS"], []string{"ml & more"}) {
		t.Fatalf("after the group is gone: %v %v", a, err)
	}
	if s := a.AuthnStatements[0]; s.SessionNotOnOrAfter == nil || s.SessionNotOnOrAfter.Sub(s.AuthnInstant) != 3*time.Hour {
		t.Errorf("the session ends at %v, proof at %v", s.SessionNotOnOrAfter, s.AuthnInstant)
	}
}
