package saml

import (
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

func b64(p pair) string { return base64.StdEncoding.EncodeToString(p.der) }

// shapes are metadata as the products write it, of one provider with the certificates given.
func shapes(a, b pair) map[string]string {
	return map[string]string{
		"Google": `<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<md:EntityDescriptor xmlns:md="` + nsMetadata + `" entityID="` + idpEntity + `" validUntil="2030-01-12T09:27:30.000Z">
  <md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="` + nsProtocol + `">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="` + nsSignature + `"><ds:X509Data><ds:X509Certificate>` + lines(a.der) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="` + nsSignature + `"><ds:X509Data><ds:X509Certificate>` + lines(b.der) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:NameIDFormat>urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress</md:NameIDFormat>
    <md:SingleSignOnService Binding="` + bindingRedirect + `" Location="https://idp.example.com/sso"/>
    <md:SingleSignOnService Binding="` + bindingPost + `" Location="https://idp.example.com/post"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>`,
		"Entra": `<?xml version="1.0" encoding="utf-8"?><EntityDescriptor ID="_f7" entityID="` + idpEntity + `" xmlns="` + nsMetadata + `"><RoleDescriptor xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="fed:SecurityTokenServiceType" protocolSupportEnumeration="http://docs.oasis-open.org/wsfed/federation/200706" xmlns:fed="http://docs.oasis-open.org/wsfed/federation/200706"><KeyDescriptor use="signing"><KeyInfo xmlns="` + nsSignature + `"><X509Data><X509Certificate>` + b64(a) + `</X509Certificate></X509Data></KeyInfo></KeyDescriptor></RoleDescriptor><IDPSSODescriptor protocolSupportEnumeration="` + nsProtocol + `"><KeyDescriptor use="signing"><KeyInfo xmlns="` + nsSignature + `"><X509Data><X509Certificate>` + b64(a) + `</X509Certificate></X509Data></KeyInfo></KeyDescriptor><KeyDescriptor use="signing"><KeyInfo xmlns="` + nsSignature + `"><X509Data><X509Certificate>` + b64(b) + `</X509Certificate></X509Data></KeyInfo></KeyDescriptor><SingleLogoutService Binding="` + bindingRedirect + `" Location="https://idp.example.com/logout"/><SingleSignOnService Binding="` + bindingRedirect + `" Location="https://idp.example.com/sso"/><SingleSignOnService Binding="` + bindingPost + `" Location="https://idp.example.com/post"/></IDPSSODescriptor></EntityDescriptor>`,
		"Okta": `<?xml version="1.0" encoding="UTF-8"?><md:EntityDescriptor entityID="` + idpEntity + `" xmlns:md="` + nsMetadata + `"><md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="` + nsProtocol + `"><md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="` + nsSignature + `"><ds:X509Data><ds:X509Certificate>` + lines(a.der) + `
</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="` + nsSignature + `"><ds:X509Data><ds:X509Certificate>` + lines(b.der) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService Binding="` + bindingPost + `" Location="https://idp.example.com/post"/><md:SingleSignOnService Binding="` + bindingRedirect + `" Location="https://idp.example.com/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>`,
		"Keycloak": `<md:EntityDescriptor xmlns="` + nsMetadata + `" xmlns:md="` + nsMetadata + `" xmlns:saml="` + nsAssertion + `" xmlns:ds="` + nsSignature + `" entityID="` + idpEntity + `"><md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="` + nsProtocol + `"><md:KeyDescriptor use="signing"><ds:KeyInfo><ds:KeyName>k-1</ds:KeyName><ds:X509Data><ds:X509Certificate>` + b64(a) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:KeyDescriptor use="signing"><ds:KeyInfo><ds:KeyName>k-2</ds:KeyName><ds:X509Data><ds:X509Certificate>` + b64(b) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:ArtifactResolutionService Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP" Location="https://idp.example.com/resolve" index="0"/><md:SingleSignOnService Binding="` + bindingPost + `" Location="https://idp.example.com/post"/><md:SingleSignOnService Binding="` + bindingRedirect + `" Location="https://idp.example.com/sso"/><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP" Location="http://idp.example.com/soap"/></md:IDPSSODescriptor></md:EntityDescriptor>`,
		"SimpleSAMLphp": `<?xml version="1.0"?>
<!-- made by hand -->
<md:EntitiesDescriptor xmlns:md="` + nsMetadata + `" xmlns:ds="` + nsSignature + `" cacheDuration="PT12H" validUntil="2031-01-01T00:00:00Z" Name="federation">
  <md:EntityDescriptor entityID="https://sp.example.com"><md:SPSSODescriptor protocolSupportEnumeration="` + nsProtocol + `"/></md:EntityDescriptor>
  <md:EntityDescriptor entityID="` + idpEntity + `" validUntil="2030-01-12T09:27:30Z"><!-- the one -->
    <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:1.1:protocol ` + nsProtocol + `">
      <md:KeyDescriptor><ds:KeyInfo><ds:X509Data><ds:X509Certificate>` + b64(a) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
      <md:KeyDescriptor use="encryption"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>AAAA</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
      <md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>` + b64(b) + `</ds:X509Certificate><ds:X509Certificate>AAAA</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
      <md:SingleSignOnService Binding="` + bindingRedirect + `" Location="https://idp.example.com/sso"/>
      <md:SingleSignOnService Binding="` + bindingPost + `" Location="https://idp.example.com/post"/>
    </md:IDPSSODescriptor>
  </md:EntityDescriptor>
</md:EntitiesDescriptor>`,
	}
}

// load reads metadata as of the test's time.
func load(t *testing.T, document string, change func(*sso.SAMLSettings)) (sso.Connection, error) {
	t.Helper()
	p := New(outside{})
	p.Now = func() time.Time { return now }
	c := sso.Connection{SAML: &sso.SAMLSettings{EntityID: spEntity}}
	if change != nil {
		change(c.SAML)
	}
	before := *c.SAML
	held := c.SAML
	err := p.Load(t.Context(), &c, []byte(document))
	if diff := cmp.Diff(before, *held); diff != "" {
		t.Errorf("Load wrote into what others may hold:\n%s", diff)
	}
	if err != nil && c.SAML != held {
		t.Error("Load failed and changed the connection")
	}
	return c, err
}

func TestLoadReadsWhatProductsWrite(t *testing.T) {
	a, b := rsaPair(t, "idp"), ecPair(t, "idp-next", elliptic.P384())
	for name, doc := range shapes(a, b) {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, doc, nil)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(doc))
			want := sso.SAMLProvider{
				EntityID: idpEntity, Certificates: [][]byte{a.der, b.der}, WantsSigned: name == "Keycloak", Digest: hex.EncodeToString(sum[:]),
				SignOn: []sso.SAMLEndpoint{{Binding: bindingRedirect, URL: "https://idp.example.com/sso"}, {Binding: bindingPost, URL: "https://idp.example.com/post"}},
			}
			if strings.Contains(doc, "validUntil") {
				want.ValidUntil = time.Date(2030, 1, 12, 9, 27, 30, 0, time.UTC)
			}
			if diff := cmp.Diff(want, c.SAML.IdP); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	a, b := rsaPair(t, "idp"), rsaPair(t, "idp-next")
	good := shapes(a, b)["Google"]
	weak := certify(t, rsaKey(t, "weak", 1024), "weak", now, now.AddDate(1, 0, 0))
	small := ecPair(t, "small", elliptic.P224())
	if _, err := load(t, good, nil); err != nil {
		t.Fatal(err)
	}
	certificates := func(first, second string) string {
		return strings.NewReplacer(lines(a.der), first, lines(b.der), second).Replace(good)
	}
	for name, row := range map[string]struct{ document, says string }{
		"empty":                 {"", "no metadata document"},
		"a page":                {"<html><body>Sign in</body></html>", "no SAML metadata"},
		"a document type":       {`<!DOCTYPE x SYSTEM "file:///etc/passwd">` + good, "document type"},                 // SAML-155
		"an entity":             {strings.Replace(good, "idp.example.com/sso", "&x;", 1), "entity"},                   // SAML-155
		"long":                  {good + strings.Repeat(" ", 1<<20), "at most 1048576"},                               // SAML-151
		"out of date":           {strings.Replace(good, "2030-01-12", "2020-01-12", 1), "was valid until 2020-01-12"}, // SAML-153
		"a year of five digits": {strings.Replace(good, "2030-01-12T09:27:30.000Z", "9999-12-31T23:59:59-14:00", 1), "validUntil"},
		"a bad date":            {strings.Replace(good, "2030-01-12T09:27:30.000Z", "tomorrow", 1), "validUntil"}, //
		"a bad duration":        {strings.Replace(good, "validUntil", `cacheDuration="an hour" validUntil`, 1), "cacheDuration"},
		"no entity ID":          {strings.Replace(good, idpEntity, "", 1), "entityID"},
		"a service provider":    {strings.ReplaceAll(good, "IDPSSODescriptor", "SPSSODescriptor"), "describes no identity provider"},
		"two providers":         {`<x:EntitiesDescriptor xmlns:x="` + nsMetadata + `">` + strings.Repeat(good[strings.Index(good, "<md:"):], 2) + `</x:EntitiesDescriptor>`, "describes 2 identity providers"},
		"SAML 1.1":              {strings.Replace(good, nsProtocol, "urn:oasis:names:tc:SAML:1.1:protocol", 1), "does not speak SAML 2.0"},
		"no sign-on":            {strings.ReplaceAll(good, "SingleSignOnService", "SingleLogoutService"), "no SingleSignOnService"},
		"sign-on over http":     {strings.ReplaceAll(good, "https://idp.example.com/", "http://idp.example.com/"), "must begin with https"},
		"sign-on of script":     {strings.NewReplacer("https://idp.example.com/sso", "javascript:alert(1)", "https://idp.example.com/post", "/post").Replace(good), "must begin with https"},
		"no certificate":        {strings.ReplaceAll(good, "X509Certificate", "X509CRL"), "no certificate"},
		"not a certificate":     {certificates("AAAA", "AAAA"), "cannot be read"},
		"not base64":            {certificates("%%%", "AAAA"), "not base64"},
		"a weak RSA key":        {certificates(b64(weak), "AAAA"), "1024 bits"}, // SAML-059
		"a weak curve":          {certificates(b64(small), b64(weak)), "P-224"}, // SAML-059
		"a wish of its own":     {strings.Replace(good, `Signed="false"`, `Signed="maybe"`, 1), "WantAuthnRequestsSigned"},
		"too many certificates": {strings.Replace(good, "<md:NameIDFormat>", many(t, 21)+"<md:NameIDFormat>", 1), "at most 20"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, row.document, nil)
			var bad *core.FieldError
			if !errors.As(err, &bad) || !errors.Is(err, core.Invalid) || bad.Field != fieldFile || !strings.Contains(bad.Fix, row.says) {
				t.Errorf("got %v, want an error about %s that says %q", err, fieldFile, row.says)
			}
		})
	}
}

// What cannot be used is passed over where something else can: an old certificate must not keep the one from being read that
// follows it, nor an address of an inner network the one that browsers reach. SAML-059
func TestLoadPassesOver(t *testing.T) {
	a, b := rsaPair(t, "idp"), rsaPair(t, "idp-next")
	good := shapes(a, b)["Google"]
	weak := certify(t, rsaKey(t, "weak", 1024), "weak", now, now.AddDate(1, 0, 0))
	post := sso.SAMLEndpoint{Binding: bindingPost, URL: "https://idp.example.com/post"}
	redirect := sso.SAMLEndpoint{Binding: bindingRedirect, URL: "https://idp.example.com/sso"}
	role := func(protocol string) string {
		return `<md:IDPSSODescriptor protocolSupportEnumeration="` + protocol + `"><md:SingleSignOnService Binding="urn:mace:shibboleth:1.0:profiles:AuthnRequest" Location="https://idp.example.com/1"/></md:IDPSSODescriptor>`
	}
	for name, row := range map[string]struct {
		document     string
		certificates [][]byte
		signOn       []sso.SAMLEndpoint
	}{
		"as it is":                {good, [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
		"a weak key":              {strings.Replace(good, lines(a.der), b64(weak), 1), [][]byte{b.der}, []sso.SAMLEndpoint{redirect, post}},
		"a weak curve, last":      {strings.Replace(good, lines(b.der), b64(ecPair(t, "small", elliptic.P224())), 1), [][]byte{a.der}, []sso.SAMLEndpoint{redirect, post}},
		"not a certificate":       {strings.Replace(good, lines(a.der), "AAAA", 1), [][]byte{b.der}, []sso.SAMLEndpoint{redirect, post}},
		"not base64":              {strings.Replace(good, lines(a.der), "%%%", 1), [][]byte{b.der}, []sso.SAMLEndpoint{redirect, post}},
		"PEM":                     {strings.Replace(good, lines(a.der), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})), 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
		"a sign-on over http":     {strings.Replace(good, "https://idp.example.com/sso", "http://idp/sso", 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{post}},
		"a script and another":    {strings.Replace(good, "<md:SingleSign", `<md:SingleSignOnService Binding="`+bindingRedirect+`" Location="javascript:alert(1)"/><md:SingleSign`, 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
		"a role for SAML 1.1":     {strings.Replace(good, "<md:IDPSSO", role("urn:oasis:names:tc:SAML:1.1:protocol")+"<md:IDPSSO", 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
		"a role for nothing":      {strings.Replace(good, "<md:IDPSSO", role("")+"<md:IDPSSO", 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
		"valid to the end of all": {strings.Replace(good, "2030-01-12T09:27:30.000Z", "9999-12-31T23:59:59Z", 1), [][]byte{a.der, b.der}, []sso.SAMLEndpoint{redirect, post}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, row.document, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.certificates, c.SAML.IdP.Certificates) + cmp.Diff(row.signOn, c.SAML.IdP.SignOn); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if _, err := json.Marshal(c.SAML.IdP); err != nil {
				t.Errorf("it cannot be stored: %v", err)
			}
		})
	}
}

func many(t *testing.T, n int) string {
	var s strings.Builder
	key := rsaKey(t, "idp", 2048)
	for i := range n {
		p := certify(t, key, "idp", now, now.AddDate(0, 0, i+1))
		s.WriteString(`<md:KeyDescriptor><ds:KeyInfo xmlns:ds="` + nsSignature + `"><ds:X509Data><ds:X509Certificate>` + b64(p) + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`)
	}
	return s.String()
}

// Where a certificate is pinned, only what its key signed is read (SAML-153).
func TestPinnedMetadata(t *testing.T) {
	a, b, signer := rsaPair(t, "idp"), rsaPair(t, "idp-next"), rsaPair(t, "federation")
	pin := func(p pair) func(*sso.SAMLSettings) {
		return func(s *sso.SAMLSettings) {
			s.MetadataPin = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.der}))
		}
	}
	sealed := func(name string, by pair) string {
		d := etree.NewDocument()
		if err := d.ReadFromString(shapes(a, b)[name]); err != nil {
			t.Fatal(err)
		}
		d.Root().CreateAttr("ID", "_metadata")
		envelop(t, d.Root(), signing{by: by, keyInfo: true})
		s, err := d.WriteToString()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name := range shapes(a, b) {
		good := sealed(name, signer)
		for _, change := range []func(*sso.SAMLSettings){nil, pin(signer)} {
			if c, err := load(t, good, change); err != nil || len(c.SAML.IdP.Certificates) != 2 {
				t.Fatal(name, err)
			}
		}
		for what, doc := range map[string]string{
			"unsigned": shapes(a, b)[name], "by another": sealed(name, a), "changed since": strings.Replace(good, "https://idp.example.com/sso", "https://evil.example.com/sso", 1),
		} {
			if _, err := load(t, doc, pin(signer)); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "signed") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	var bad *core.FieldError
	if _, err := load(t, sealed("Okta", signer), func(s *sso.SAMLSettings) { s.MetadataPin = "x" }); !errors.As(err, &bad) || bad.Field != fieldPin {
		t.Errorf("a pin that is none: %v", err)
	}
}

func TestLoadFetches(t *testing.T) {
	doc := shapes(rsaPair(t, "idp"), rsaPair(t, "idp-next"))["Okta"]
	c := sso.Connection{SAML: &sso.SAMLSettings{MetadataURL: "https://idp.example.com/metadata"}}
	if err := New(outside{[]byte(doc)}).Load(t.Context(), &c, nil); err != nil || c.SAML.IdP.EntityID != idpEntity {
		t.Fatal(err)
	}
	before := c.SAML
	if err := New(outside{}).Load(t.Context(), &c, nil); !errors.Is(err, core.Unavailable) || c.SAML != before {
		t.Errorf("no answer: %v", err)
	}
	c.SAML.MetadataURL = "http://idp.example.com"
	var bad *core.FieldError
	if err := New(outside{[]byte(doc)}).Load(t.Context(), &c, nil); !errors.As(err, &bad) || bad.Field != fieldURL {
		t.Errorf("an address that is refused: %v", err)
	}
}
