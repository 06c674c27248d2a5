package foreign_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewjam/saml"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/localdev/e2e"
	"github.com/fleetpass/fleetpass/localdev/idp/foreign"
)

var (
	ada = foreign.Person{Login: "ada", Password: rand.Text(), Email: "ada@acme.example", FirstName: "Ada", LastName: "Lovelace",
		Groups: []string{"researchers", "gpu users"}, UID: 15001, GID: 25001, SupplementaryGroups: []int64{30001, 30002}}
	bob    = foreign.Person{Login: "bob", Password: rand.Text(), Email: "bob@acme.example", FirstName: "Bob", LastName: "Kahn", UID: 15002, GID: 25001}
	people = []foreign.Person{ada, bob}
)

// trusting is a transport that trusts the authorities, and nobody else.
func trusting(authorities ...[]byte) *http.Transport {
	pool := x509.NewCertPool()
	for _, ca := range authorities {
		pool.AppendCertsFromPEM(ca)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
}

// serviceProvider is crewjam/saml's, at an address of its own.
type serviceProvider struct {
	*saml.ServiceProvider
	pending  []string        // requests on the way
	answer   string          // the last one, decoded
	asserted *saml.Assertion // by the last answer
	refused  error           // why the last answer was
}

// newServiceProvider makes one that knows the provider, as the provider knows it.
func newServiceProvider(t *testing.T, idp *foreign.SAML) *serviceProvider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	res, err := (&http.Client{Transport: trusting(idp.CA)}).Get(idp.MetadataURL)
	must(t, err)
	defer res.Body.Close()
	metadata := &saml.EntityDescriptor{}
	must(t, xml.NewDecoder(res.Body).Decode(metadata))
	if metadata.EntityID != idp.EntityID {
		t.Errorf("the provider's metadata is of %q, want %q", metadata.EntityID, idp.EntityID)
	}
	sp := &serviceProvider{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, _ := base64.StdEncoding.DecodeString(r.PostFormValue("SAMLResponse"))
		sp.answer = string(answer)
		sp.asserted, sp.refused = sp.ParseResponse(r, sp.pending)
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	must(t, err)
	sp.ServiceProvider = &saml.ServiceProvider{EntityID: server.URL + "/sp", Key: key, Certificate: cert, IDPMetadata: metadata,
		MetadataURL: *base.JoinPath("metadata"), AcsURL: *base.JoinPath("acs"), AuthnNameIDFormat: saml.EmailAddressNameIDFormat}
	ours, err := xml.Marshal(sp.Metadata())
	must(t, err)
	must(t, idp.Trust(t.Context(), ours))
	return sp
}

// signIn goes to the provider as the binding says, signs in there and takes the answer.
func (sp *serviceProvider) signIn(t *testing.T, idp *foreign.SAML, who foreign.Person) error {
	t.Helper()
	b := e2e.NewBrowser(trusting(idp.CA))
	request, err := sp.MakeAuthenticationRequest(sp.GetSSOBindingLocation(saml.HTTPRedirectBinding), saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	must(t, err)
	sp.pending, sp.asserted, sp.refused = []string{request.ID}, nil, nil // sp.answer stays, to be looked at
	there, err := request.Redirect("relayed", sp.ServiceProvider)
	must(t, err)
	if _, err := b.Visit(t.Context(), there.String()); err != nil {
		t.Fatal(err)
	}
	_, err = idp.SignIn(t.Context(), b, who)
	return err
}

// attributes are the asserted ones of a person.
func attributes(a *saml.Assertion) map[string][]string {
	got := map[string][]string{}
	for _, statement := range a.AttributeStatements {
		for _, attribute := range statement.Attributes {
			for _, value := range attribute.Values {
				got[attribute.Name] = append(got[attribute.Name], value.Value)
			}
		}
	}
	for _, values := range got {
		slices.Sort(values)
	}
	return got
}

var (
	adasAttributes = map[string][]string{"email": {"ada@acme.example"}, "firstName": {"Ada"}, "lastName": {"Lovelace"}, "uid": {"ada"},
		"GROUPS": {"gpu users", "researchers"}, "UID": {"15001"}, "GID": {"25001"}, "SUPPLEMENTARYGROUPS": {"30001", "30002"}}
	bobsAttributes = map[string][]string{"email": {"bob@acme.example"}, "firstName": {"Bob"}, "lastName": {"Kahn"}, "uid": {"bob"}, "UID": {"15002"}, "GID": {"25001"}}
)

// signsPeopleIn is what every SAML provider has to do.
func signsPeopleIn(t *testing.T, idp *foreign.SAML) *serviceProvider {
	t.Helper()
	sp := newServiceProvider(t, idp)
	for _, tt := range []struct {
		who  foreign.Person
		want map[string][]string
	}{{ada, adasAttributes}, {bob, bobsAttributes}} {
		if err := sp.signIn(t, idp, tt.who); err != nil {
			t.Fatal(err)
		}
		if sp.asserted == nil {
			t.Fatalf("crewjam/saml refuses the answer: %v", explain(sp.refused))
		}
		if diff := cmp.Diff(tt.want, attributes(sp.asserted)); diff != "" {
			t.Errorf("%s (-want +got): %s", tt.who.Login, diff)
		}
		if id := sp.asserted.Subject.NameID; id.Value != tt.who.Email || id.Format != string(saml.EmailAddressNameIDFormat) {
			t.Errorf("%s is named %+v", tt.who.Login, id)
		}
	}
	wrong := ada
	wrong.Password = bob.Password
	if err := sp.signIn(t, idp, wrong); err == nil || sp.asserted != nil {
		t.Errorf("another's password signs in: %v", err)
	}
	return sp
}

// explain is what crewjam/saml keeps from those who should not know.
func explain(err error) string {
	if private, ok := err.(*saml.InvalidResponseError); ok {
		return private.PrivateErr.Error() + ": " + private.Response
	}
	return "nothing came"
}

func TestSimpleSAMLphp(t *testing.T) {
	t.Parallel()
	signsPeopleIn(t, foreign.NeedSimpleSAMLphp(t, foreign.SAMLConfig{People: people}))
}

func TestSimpleSAMLphpSignsResponses(t *testing.T) {
	t.Parallel()
	signsPeopleIn(t, foreign.NeedSimpleSAMLphp(t, foreign.SAMLConfig{People: people, SignResponse: true}))
}

// What the version in Debian encrypts with, and what later ones do.
func TestSimpleSAMLphpEncrypts(t *testing.T) {
	t.Parallel()
	for encryption, algorithm := range map[foreign.Encryption]string{
		foreign.AES128CBC: "http://www.w3.org/2001/04/xmlenc#aes128-cbc",
		foreign.AES128GCM: "http://www.w3.org/2009/xmlenc11#aes128-gcm",
	} {
		t.Run(string(encryption), func(t *testing.T) {
			t.Parallel()
			idp := foreign.NeedSimpleSAMLphp(t, foreign.SAMLConfig{People: people, Encrypt: encryption})
			sp := signsPeopleIn(t, idp)
			if !strings.Contains(sp.answer, algorithm) || !strings.Contains(sp.answer, "rsa-oaep-mgf1p") || strings.Contains(sp.answer, bob.Email) {
				t.Errorf("not encrypted with %s: %s", algorithm, sp.answer)
			}
		})
	}
}

func TestLemonLDAP(t *testing.T) {
	t.Parallel()
	signsPeopleIn(t, foreign.NeedLemonLDAP(t, foreign.SAMLConfig{People: people}))
}
