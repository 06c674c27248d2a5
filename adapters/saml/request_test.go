package saml

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	crewjam "github.com/crewjam/saml"

	"github.com/fleetpass/fleetpass/core/sso"
)

func (w *world) start(login bool) sso.Departure {
	w.t.Helper()
	d, err := New(outside{}).Start(w.t.Context(), w.c, w.secrets, sso.Journey{Addresses: us, State: "a b/+&=state", Login: login, Now: now})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// inflated is the request of a redirect, read by another implementation's types.
func inflated(t *testing.T, at string) (crewjam.AuthnRequest, url.Values) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := base64.StdEncoding.DecodeString(u.Query().Get("SAMLRequest"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	var r crewjam.AuthnRequest
	if err := xml.Unmarshal(doc, &r); err != nil {
		t.Fatal(err)
	}
	return r, u.Query()
}

func TestStartRedirects(t *testing.T) {
	w := newWorld(t)
	d := w.start(false)
	r, q := inflated(t, d.URL)
	if q.Get("RelayState") != "a b/+&=state" || q.Has("Signature") || d.Form != nil {
		t.Errorf("%v, form %v", q, d.Form)
	}
	if r.ID != d.Pending.Request || !strings.HasPrefix(r.ID, "_") || len(r.ID) != 41 || r.Version != "2.0" || !r.IssueInstant.Equal(now) ||
		r.Destination != "https://idp.example.com/sso" || r.AssertionConsumerServiceURL != acs || r.ProtocolBinding != bindingPost || r.Issuer.Value != spEntity || r.ForceAuthn != nil {
		t.Errorf("%+v", r)
	}
	if *r.NameIDPolicy.AllowCreate != true || !strings.HasSuffix(*r.NameIDPolicy.Format, ":unspecified") {
		t.Errorf("%+v", r.NameIDPolicy)
	}
	if want := (sso.Pending{Request: r.ID, At: now}); d.Pending != want {
		t.Errorf("pending %+v", d.Pending)
	}
	if !strings.Contains(d.Sent, "<samlp:AuthnRequest ") || !strings.Contains(d.Sent, r.ID) {
		t.Errorf("the trace shows %s", d.Sent)
	}
	if again := w.start(false); again.Pending.Request == r.ID {
		t.Error("two requests have one ID")
	}

	fresh := w.start(true)
	if r, _ := inflated(t, fresh.URL); r.ForceAuthn == nil || !*r.ForceAuthn || !fresh.Pending.Login {
		t.Errorf("a fresh sign-in is not asked for: %+v", r)
	}
}

// A signature of a redirect is over the query as it is sent, to the byte (Bindings §3.4.4.1).
func TestStartSignsRedirects(t *testing.T) {
	for name, wants := range map[string]func(*sso.SAMLSettings){
		"the provider wants it": func(s *sso.SAMLSettings) { s.IdP.WantsSigned = true }, "we do": func(s *sso.SAMLSettings) { s.SignRequests = true },
	} {
		w := newWorld(t)
		wants(w.c.SAML)
		w.c.SAML.IdP.SignOn[0].URL = "https://idp.example.com/sso?tenant=x"
		d := w.start(false)
		query, ok := strings.CutPrefix(d.URL, "https://idp.example.com/sso?tenant=x&")
		if !ok {
			t.Fatal(d.URL)
		}
		what, signature, _ := strings.Cut(query, "&Signature=")
		signature, err := url.QueryUnescape(signature)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(what))
		if err := rsa.VerifyPKCS1v15(&w.sp.rsa().PublicKey, crypto.SHA256, sum[:], raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.secrets.Keys = nil
		if _, err := New(outside{}).Start(t.Context(), w.c, w.secrets, sso.Journey{Addresses: us, Now: now}); err == nil {
			t.Errorf("%s: without a key the request goes unsigned", name)
		}
	}
}

func TestStartPosts(t *testing.T) {
	for _, signs := range []bool{false, true} {
		w := newWorld(t)
		w.c.SAML.IdP.SignOn = w.c.SAML.IdP.SignOn[1:]
		w.c.SAML.SignRequests = signs
		d := w.start(false)
		if d.URL != "https://idp.example.com/post" || d.Form["RelayState"] != "a b/+&=state" || len(d.Form) != 2 {
			t.Errorf("%+v", d)
		}
		doc, err := base64.StdEncoding.DecodeString(d.Form["SAMLRequest"])
		if err != nil {
			t.Fatal(err)
		}
		root, err := parse(doc, ofResponse, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !signs {
			if len(children(root, nsSignature, "Signature")) > 0 {
				t.Error("it is signed")
			}
			continue
		}
		if root.ChildElements()[0].Tag != "Issuer" || root.ChildElements()[1].Tag != "Signature" {
			t.Error("the signature is not behind the issuer")
		}
		s, bad := sealOf(root)
		if bad != nil {
			t.Fatal(bad.found)
		}
		if _, _, bad := s.verify([]*x509.Certificate{w.sp.cert(t)}); bad != nil {
			t.Error(bad.found)
		}
		if strings.Contains(d.Sent, base64.StdEncoding.EncodeToString(w.sp.der)[:40]) || !strings.Contains(d.Sent, "AuthnRequest") {
			t.Errorf("the trace shows %s", d.Sent)
		}
	}
}

// Another implementation reads our metadata, and makes of it what we mean.
func TestDescribe(t *testing.T) {
	w := newWorld(t)
	next := rsaPair(t, "sp-next")
	w.c.SAML.Keys = append(w.c.SAML.Keys, sso.SPKey{ID: "k2", Certificate: next.der})
	w.c.SAML.SignRequests = true
	doc, err := New(outside{}).Describe(w.c, us, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(doc, ofMetadata, nil); err != nil {
		t.Error(err)
	}
	var e crewjam.EntityDescriptor
	if err := xml.Unmarshal(doc, &e); err != nil {
		t.Fatal(err)
	}
	if e.EntityID != spEntity || len(e.SPSSODescriptors) != 1 || !e.ValidUntil.IsZero() && e.ValidUntil.Before(now.Add(time.Hour)) {
		t.Fatalf("%+v", e)
	}
	sp := e.SPSSODescriptors[0]
	if !*sp.AuthnRequestsSigned || !*sp.WantAssertionsSigned || sp.ProtocolSupportEnumeration != nsProtocol || len(sp.NameIDFormats) != 3 {
		t.Errorf("%+v", sp)
	}
	if a := sp.AssertionConsumerServices; len(a) != 1 || a[0].Binding != bindingPost || a[0].Location != acs || !*a[0].IsDefault {
		t.Errorf("%+v", a)
	}
	for i, use := range []string{"signing", "signing", "encryption", "encryption"} {
		k := sp.KeyDescriptors[i]
		if want := base64.StdEncoding.EncodeToString([][]byte{w.sp.der, next.der}[i%2]); k.Use != use || k.KeyInfo.X509Data.X509Certificates[0].Data != want {
			t.Errorf("key %d: %+v", i, k)
		}
		for _, m := range k.EncryptionMethods {
			if ciphers[m.Algorithm] == 0 && m.Algorithm != algorithmOAEP && m.Algorithm != algorithmOAEPMGF1 {
				t.Errorf("%s is published and not taken", m.Algorithm)
			}
		}
		if (len(k.EncryptionMethods) > 0) != (use == "encryption") {
			t.Errorf("key %d: %+v", i, k.EncryptionMethods)
		}
	}
}
