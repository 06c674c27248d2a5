package saml_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// refuseMetadata wants a document refused as core.Invalid, with a fix, and the connection as it was: the last good one stays in
// force.
func refuseMetadata(t *testing.T, c sso.Connection, document []byte) {
	t.Helper()
	settings := *c.SAML
	settings.IdP.Certificates, settings.IdP.SignOn = slices.Clone(settings.IdP.Certificates), slices.Clone(settings.IdP.SignOn)
	before := c
	before.SAML = &settings
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	err := provider.Load(context.Background(), &c, document)
	runtime.ReadMemStats(&m1)
	if used := m1.TotalAlloc - m0.TotalAlloc; used > 32<<20 {
		t.Errorf("%d MiB were allocated", used>>20)
	}
	var field *core.FieldError
	if !errors.Is(err, core.Invalid) || !errors.As(err, &field) || field.Field == "" || field.Fix == "" {
		t.Errorf("want a bad field with its fix, got %v", err)
	}
	if !reflect.DeepEqual(c, before) {
		t.Errorf("refused, and yet changed: %+v", c.SAML)
	}
}

// The metadata's parser meets the same documents as the response's.
//
// SAML-155
func TestMetadataXML(t *testing.T) {
	outside := listener(t)
	c := connection(t, idp().Metadata()) // the twin, and what has to stay
	good := string(idp().Metadata())
	for name, prolog := range doctypes(outside) {
		t.Run(name, func(t *testing.T) {
			refuseMetadata(t, c, []byte(prolog+good))
			refuseMetadata(t, c, []byte(`<?xml version="1.0"?>`+prolog+good))
			refuseMetadata(t, c, []byte(prolog+strings.Replace(good, "https://idp.acme.example", "&e;", 1)))
		})
	}
	for name, document := range map[string]string{
		"empty": "", "text": "hello", "JSON": `{"entityID":"x"}`, "HTML": "<html><body>Sign in</body></html>", "text before": "x" + good, "space before": " <?xml version=\"1.0\"?>" + good, "a second root": good + good, "cut off": good[:len(good)-20], "cut in half": good[:len(good)/2],
		"invalid UTF-8": strings.Replace(good, "idp.acme", "idp\xff.acme", 1), "control": strings.Replace(good, "idp.acme", "idp\x01.acme", 1), "C1 by reference": strings.Replace(good, "idp.acme", "idp&#x80;.acme", 1),
		"UTF-16 declared": `<?xml version="1.0" encoding="UTF-16"?>` + good, "Latin-1 declared": `<?xml version="1.0" encoding="ISO-8859-1"?>` + good, "entityID twice": strings.Replace(good, "entityID=", `entityID="https://evil.example" entityID=`, 1),
		"10 MiB": good + strings.Repeat(" ", 10<<20), "100 000 attributes": strings.Replace(good, "entityID=", strings.Repeat(`a="" `, 100_000)+"entityID=", 1), "10 000 deep": strings.Repeat("<a>", 10_000) + strings.Repeat("</a>", 10_000),
		"100 000 elements": strings.Replace(good, "</md:IDPSSODescriptor>", strings.Repeat("<md:a/>", 100_000)+"</md:IDPSSODescriptor>", 1), "another namespace": strings.ReplaceAll(good, forge.NSMetadata, "urn:example:x"),
		"a response": string(idp().Response(valid())), "base64": forge.Encode([]byte(good)), "undeclared prefix": strings.Replace(good, "xmlns:md=", "xmlns:other=", 1),
	} {
		t.Run(name, func(t *testing.T) { refuseMetadata(t, c, []byte(document)) })
	}
	// What people and servers add, and good XML.
	for _, document := range []string{`<?xml version="1.0" encoding="UTF-8"?>` + "\n<!-- made by hand -->\n" + good + "\n", "\ufeff" + good} {
		fresh := bare()
		if err := provider.Load(t.Context(), &fresh, []byte(document)); err != nil {
			t.Error(err)
		}
	}
}

// What metadata has to say.
//
// SAML-051, SAML-059, SAML-153
func TestMetadataContent(t *testing.T) {
	c := connection(t, idp().Metadata())
	with := func(change func(*forge.MetadataOptions)) []byte {
		var o forge.MetadataOptions
		change(&o)
		return idp().MetadataWith(o)
	}
	edit := func(f func(entity, role *etree.Element)) []byte {
		return with(func(o *forge.MetadataOptions) { o.Edit = f })
	}
	location := func(s string) []byte {
		return edit(func(_, role *etree.Element) {
			for _, e := range role.SelectElements("SingleSignOnService") {
				e.CreateAttr("Location", s)
			}
		})
	}
	certificate := func(s string) []byte {
		return edit(func(_, role *etree.Element) { setText(at(role, ".//X509Certificate"), s) })
	}
	manyCertificates := make([]*x509.Certificate, 21)
	for i := range manyCertificates {
		manyCertificates[i] = forge.SelfSigned(idp().Key, fmt.Sprint(i), now, now.AddDate(1, 0, 0))
	}
	for name, document := range map[string][]byte{
		"out of date":          with(func(o *forge.MetadataOptions) { o.ValidUntil = now.Add(-time.Minute) }),
		"out of date, role":    edit(func(_, role *etree.Element) { role.CreateAttr("validUntil", forge.Instant(now.Add(-time.Hour))) }),
		"validUntil is none":   edit(func(entity, _ *etree.Element) { entity.CreateAttr("validUntil", "tomorrow") }),
		"21 certificates":      with(func(o *forge.MetadataOptions) { o.Certificates = manyCertificates }),
		"no certificate":       edit(func(_, role *etree.Element) { drop(role, "./KeyDescriptor") }),
		"one to encrypt with":  edit(func(_, role *etree.Element) { at(role, "./KeyDescriptor").CreateAttr("use", "encryption") }),
		"no X509Data":          edit(func(_, role *etree.Element) { drop(role, ".//X509Data") }),
		"an empty certificate": certificate(""), "a certificate that is none": certificate("AAAA"), "no base64": certificate("%%%"),
		"a certificate with a child": edit(func(_, role *etree.Element) { at(role, ".//X509Certificate").CreateElement("x") }),
		"no entityID":                edit(func(entity, _ *etree.Element) { entity.RemoveAttr("entityID") }),
		"an empty entityID":          edit(func(entity, _ *etree.Element) { entity.CreateAttr("entityID", "") }),
		"a space for an entityID":    edit(func(entity, _ *etree.Element) { entity.CreateAttr("entityID", " ") }),
		"an entityID of 5000":        edit(func(entity, _ *etree.Element) { entity.CreateAttr("entityID", "https://"+strings.Repeat("a", 5000)) }),
		"no role":                    edit(func(entity, role *etree.Element) { entity.RemoveChild(role) }),
		"a service provider":         edit(func(_, role *etree.Element) { role.Tag = "SPSSODescriptor" }),
		"two roles":                  edit(func(entity, role *etree.Element) { entity.AddChild(role.Copy()) }),
		"SAML 1.1": edit(func(_, role *etree.Element) {
			role.CreateAttr("protocolSupportEnumeration", "urn:oasis:names:tc:SAML:1.1:protocol")
		}),
		"no address": edit(func(_, role *etree.Element) { drop(role, "./SingleSignOnService"); drop(role, "./SingleSignOnService") }),
		"only SOAP": edit(func(_, role *etree.Element) {
			for _, e := range role.SelectElements("SingleSignOnService") {
				e.CreateAttr("Binding", "urn:oasis:names:tc:SAML:2.0:bindings:SOAP")
			}
		}),
		"javascript": location("javascript:alert(1)"), "http": location("http://idp.acme.example/sso"), "a data address": location("data:text/html,x"), "relative": location("/sso"), "empty": location(""),
		"several entities": func() []byte {
			e := etree.NewElement("md:EntitiesDescriptor")
			e.CreateAttr("xmlns:md", forge.NSMetadata)
			for _, p := range []*forge.IdP{idp(), attacker()} {
				e.AddChild(p.MetadataDocument(forge.MetadataOptions{}).Root().Copy())
			}
			return forge.Bytes(etree.NewDocumentWithRoot(e))
		}(),
	} {
		t.Run(name, func(t *testing.T) { refuseMetadata(t, c, document) })
	}
	// What it must not switch off.
	lax := connection(t, edit(func(_, role *etree.Element) { role.CreateAttr("WantAssertionsSigned", "false") }))
	accept(t, lax, arrival(forge.Encode(once(bothSigned))))
	refuse(t, lax, arrival(forge.Encode(idp().Response(options()))), sso.CheckSignature)
	// A key to encrypt with does not sign.
	both := connection(t, edit(func(_, role *etree.Element) {
		k := at(attacker().MetadataDocument(forge.MetadataOptions{}), "//KeyDescriptor").Copy()
		k.CreateAttr("use", "encryption")
		k.CreateAttr("xmlns:md", forge.NSMetadata)
		role.InsertChildAt(0, k)
	}))
	accept(t, both, arrival(forge.Encode(once(bothSigned))))
	forged := valid()
	forged.Issuer = idp().EntityID
	refuse(t, both, arrival(forge.Encode(attacker().Response(forged))), sso.CheckSignature)
}

// Where a certificate is pinned, only what it signed is read.
//
// SAML-153
func TestPinnedMetadata(t *testing.T) {
	pinned := bare()
	pinned.SAML.MetadataPin = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp().Certificate.Raw}))
	good := idp().MetadataWith(forge.MetadataOptions{Sign: true})
	if err := provider.Load(t.Context(), &pinned, good); err != nil {
		t.Fatal(err)
	}
	accept(t, pinned, arrival(forge.Encode(once(bothSigned))))

	evil := *attacker()
	evil.EntityID = idp().EntityID
	tampered := func(f func(root *etree.Element)) []byte {
		d := forge.Parse(good)
		f(d.Root())
		return forge.Bytes(d)
	}
	signedWith := func(change func(s *forge.Signing)) []byte {
		o := forge.MetadataOptions{Sign: true}
		change(&o.Signing)
		return idp().MetadataWith(o)
	}
	foreign := evil.MetadataDocument(forge.MetadataOptions{}).Root()
	around := func(place string, signatureAtEvil bool) []byte {
		d := evil.MetadataDocument(forge.MetadataOptions{})
		original := forge.Parse(good).Root().Copy()
		if signatureAtEvil {
			s := original.RemoveChild(at(original, "./Signature")).(*etree.Element)
			d.Root().InsertChildAt(0, s)
		}
		switch place {
		case "child":
			d.Root().AddChild(original)
		case "Extensions":
			e := etree.NewElement("md:Extensions")
			d.Root().InsertChildAt(0, e)
			e.AddChild(original)
		case "Object":
			at(d, "//Signature").CreateElement("ds:Object").AddChild(original)
		}
		return forge.Bytes(d)
	}
	for name, document := range map[string][]byte{
		"not signed": idp().Metadata(), "signature stripped": tampered(func(root *etree.Element) { drop(root, "./Signature") }), "another's": evil.MetadataWith(forge.MetadataOptions{Sign: true}),
		"another's with the pinned certificate": evil.MetadataWith(forge.MetadataOptions{Sign: true, Signing: forge.Signing{Certificates: [][]byte{idp().Certificate.Raw}}}),
		"a clone's":                             evil.MetadataWith(forge.MetadataOptions{Sign: true, Signing: forge.Signing{Certificates: [][]byte{forge.Clone(idp().Certificate, attacker().Key).Raw}}}),
		"another certificate in it": tampered(func(root *etree.Element) {
			setText(at(root, "./IDPSSODescriptor//X509Certificate"), forge.Encode(attacker().Certificate.Raw))
		}),
		"another certificate more": tampered(func(root *etree.Element) {
			at(root, "./IDPSSODescriptor").AddChild(at(foreign, ".//KeyDescriptor").Copy())
		}),
		"another address": tampered(func(root *etree.Element) {
			at(root, ".//SingleSignOnService").CreateAttr("Location", "https://evil.example/sso")
		}),
		"a role more":        tampered(func(root *etree.Element) { root.AddChild(at(foreign, "./IDPSSODescriptor").Copy()) }),
		"the value broken":   tampered(func(root *etree.Element) { spoilText(at(root, "./Signature/SignatureValue")) }),
		"wrapped as a child": around("child", false), "wrapped in Extensions": around("Extensions", false), "wrapped, signature moved": around("child", true), "wrapped in Extensions, signature moved": around("Extensions", true), "wrapped in an Object": around("Object", true),
		"SHA-1":       signedWith(func(s *forge.Signing) { s.Method, s.Digest = forge.RSASHA1, forge.DigestSHA1 }),
		"comments":    signedWith(func(s *forge.Signing) { s.C14N = forge.C14NExclusiveComments }),
		"no digest":   signedWith(func(s *forge.Signing) { s.EditInfo = func(i *etree.Element) { drop(i, "./Reference") } }),
		"XPath":       signedWith(func(s *forge.Signing) { s.Transforms = []string{"http://www.w3.org/TR/1999/REC-xpath-19991116"} }),
		"HMAC":        signedWith(func(s *forge.Signing) { s.Method, s.HMAC = forge.HMACSHA256, idp().Certificate.Raw }),
		"out of date": idp().MetadataWith(forge.MetadataOptions{Sign: true, ValidUntil: now.Add(-time.Minute)}),
	} {
		t.Run(name, func(t *testing.T) { refuseMetadata(t, pinned, document) })
	}
}

// What is at an address is judged as what is uploaded is.
//
// SAML-151 (the reading itself is core/outbound's), SAML-153
func TestMetadataURL(t *testing.T) {
	c := connection(t, idp().Metadata())
	const address = "https://idp.acme.example/metadata.xml"
	load := func(d documents, url string) (sso.Connection, error) {
		fresh := c
		settings := *c.SAML
		settings.MetadataURL = url
		fresh.SAML = &settings
		p := newProvider(d)
		err := p.Load(t.Context(), &fresh, nil)
		return fresh, err
	}
	rotated := idp().MetadataWith(forge.MetadataOptions{Certificates: []*x509.Certificate{attacker().Certificate}})
	got, err := load(documents{address: rotated}, address)
	if err != nil {
		t.Fatal(err)
	}
	o := valid()
	o.Issuer = idp().EntityID
	refuse(t, c, arrival(forge.Encode(attacker().Response(o))), sso.CheckSignature)
	accept(t, got, arrival(forge.Encode(attacker().Response(o))))

	for name, tt := range map[string]struct {
		there documents
		url   string
		kind  core.Kind
	}{
		"nothing there": {documents{}, address, core.Unavailable}, "no metadata": {documents{address: []byte("<html/>")}, address, core.Invalid}, "empty": {documents{address: {}}, address, core.Invalid},
		"http": {documents{"http://idp.acme.example/m": rotated}, "http://idp.acme.example/m", core.Invalid}, "no address": {documents{"": rotated}, "", core.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := load(tt.there, tt.url)
			if !errors.Is(err, tt.kind) {
				t.Errorf("want %v, got %v", tt.kind, err)
			}
			if !reflect.DeepEqual(got.SAML.IdP, c.SAML.IdP) {
				t.Error("the last good one is gone")
			}
		})
	}
}
