package idp

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// FuzzParseServiceProvider: whatever is read has a name and an address, and nothing panics.
func FuzzParseServiceProvider(f *testing.F) {
	for _, seed := range []string{
		`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="sp"><SPSSODescriptor AuthnRequestsSigned="true"><KeyDescriptor><KeyInfo><X509Data><X509Certificate>QUFB</X509Certificate></X509Data></KeyInfo></KeyDescriptor><AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://sp.example/acs" isDefault="1"/></SPSSODescriptor></EntityDescriptor>`,
		`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="sp"><SPSSODescriptor><AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://sp.example/acs"/></SPSSODescriptor></EntityDescriptor>`,
		`<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`, `<a/><b/>`, `<a`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sp, err := ParseServiceProvider(b)
		if err == nil && (sp.EntityID == "" || len(sp.ACS) == 0) {
			t.Errorf("%+v", sp)
		}
	})
}

// FuzzRequest sends anything as an AuthnRequest by HTTP-POST: what gets as far as the login page is of the one service that is
// known, and nothing panics.
func FuzzRequest(f *testing.F) {
	made := sync.OnceValues(func() (*Provider, error) {
		p, err := New(Options{Base: "https://idp.example"})
		if err == nil {
			err = p.AddServiceProvider(ServiceProvider{EntityID: "sp", ACS: []string{"https://sp.example/acs"}})
		}
		return p, err
	})
	const good = `<AuthnRequest xmlns="urn:oasis:names:tc:SAML:2.0:protocol" ID="_1" Version="2.0"><Issuer xmlns="urn:oasis:names:tc:SAML:2.0:assertion">sp</Issuer></AuthnRequest>`
	for _, seed := range []string{
		good, `<?xml version="1.0"?>` + good, `<!DOCTYPE x>` + good, good + good,
		strings.Replace(good, "<Issuer", `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/></Signature><Issuer`, 1), `<a`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		p, err := made()
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"SAMLRequest": {base64.StdEncoding.EncodeToString([]byte(doc))}}
		r := httptest.NewRequest(http.MethodPost, "https://idp.example/saml/sso", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code == http.StatusSeeOther {
			to, _ := url.Parse(w.Header().Get("Location"))
			wait, ok := p.waiting.get(p.now(), to.Query().Get("request"))
			if asked, _ := wait.asked.(samlAsked); !ok || asked.sp.EntityID != "sp" || asked.acs != "https://sp.example/acs" {
				t.Errorf("%+v of %q", asked, doc)
			}
		} else if w.Code != http.StatusBadRequest {
			t.Errorf("%d for %q", w.Code, doc)
		}
		if doc == good && w.Code != http.StatusSeeOther {
			t.Errorf("the good one: %d %s", w.Code, w.Body)
		}
	})
}
