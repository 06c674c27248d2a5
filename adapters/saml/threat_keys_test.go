package saml_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The key is the connection's, whatever KeyInfo says.
//
// SAML-053, SAML-055
func TestKeyInfo(t *testing.T) {
	outside := listener(t)
	clone := forge.Clone(idp().Certificate, attacker().Key)
	trusted, foreign := idp().Certificate.Raw, attacker().Certificate.Raw
	var all []attack
	for name, certificates := range map[string][][]byte{
		"its own certificate": {foreign}, "a clone": {clone.Raw}, "the trusted certificate": {trusted},
		"trusted, then own": {trusted, foreign}, "own, then trusted": {foreign, trusted}, "trusted, then clone": {trusted, clone.Raw}, "clone, then trusted": {clone.Raw, trusted},
		"garbage": {{1, 2, 3}}, "none": {}, "1000 certificates": many1000(foreign),
	} {
		for way, base := range ways {
			all = append(all, attack{name: "attacker's key with " + name + ", " + way, base: base, from: attacker(), want: signature,
				sign: func(o *forge.Options) { o.Signing.Certificates = certificates }})
		}
	}
	for name, change := range map[string]func(info *etree.Element){
		"KeyName": func(info *etree.Element) { info.CreateElement("ds:KeyName").CreateText("idp") },
		"KeyValue": func(info *etree.Element) {
			public := attacker().Key.Public().(*rsa.PublicKey)
			v := info.CreateElement("ds:KeyValue").CreateElement("ds:RSAKeyValue")
			v.CreateElement("ds:Modulus").CreateText(base64.StdEncoding.EncodeToString(public.N.Bytes()))
			v.CreateElement("ds:Exponent").CreateText("AQAB")
		},
		"RetrievalMethod": func(info *etree.Element) { info.CreateElement("ds:RetrievalMethod").CreateAttr("URI", outside+"/key") },
		"X509SubjectName": func(info *etree.Element) {
			info.CreateElement("ds:X509Data").CreateElement("ds:X509SubjectName").CreateText("CN=idp")
		},
		"nothing": func(*etree.Element) {},
		"an assertion": func(info *etree.Element) {
			info.AddChild(at(idp().Document(options()), "/Response/Assertion").Copy())
		},
	} {
		for _, keep := range []bool{true, false} {
			all = append(all, attack{name: fmt.Sprintf("attacker's key with %s, certificate kept=%v", name, keep), from: attacker(), base: assertionSigned, want: signature, tree: func(d *etree.Document) {
				info := at(d, "//KeyInfo")
				if !keep {
					info.Child = nil
				}
				change(info)
			}})
		}
	}
	all = append(all, attack{name: "attacker's key without KeyInfo", from: attacker(), want: signature, sign: func(o *forge.Options) { o.Signing.NoKeyInfo = true }},
		attack{name: "attacker's issuer, too", from: attacker(), sign: func(o *forge.Options) { o.Issuer = attacker().EntityID }},
		attack{name: "trusted key, attacker's issuer", sign: func(o *forge.Options) { o.Issuer = attacker().EntityID }, want: []sso.CheckName{sso.CheckIssuer}})
	run(t, all)

	// Signed with the right key, and the attacker's certificate stands in front: refused, or verified with the right one alone.
	c := connection(t, idp().Metadata())
	o := options()
	o.SignResponse, o.SignAssertion = true, true
	for _, certificates := range [][][]byte{{trusted, foreign}, {foreign, trusted}, {foreign}} {
		o.Signing.Certificates = certificates
		inert(t, c, arrival(forge.Encode(idp().Response(o))))
	}
}

// The algorithms are ours to choose.
//
// SAML-057, SAML-059, SAML-061
func TestAlgorithms(t *testing.T) {
	var all []attack
	spki, err := x509.MarshalPKIXPublicKey(idp().Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := idp().Key.Public().(*rsa.PublicKey)
	for name, secret := range map[string][]byte{
		"certificate": idp().Certificate.Raw, "certificate in base64": []byte(base64.StdEncoding.EncodeToString(idp().Certificate.Raw)),
		"certificate in PEM": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp().Certificate.Raw}),
		"key":                spki, "key in PKCS#1": x509.MarshalPKCS1PublicKey(public),
		"key in PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), "modulus": public.N.Bytes(), "nothing": {},
	} {
		for _, method := range []string{forge.HMACSHA1, forge.HMACSHA256} {
			all = append(all, signed("HMAC with the "+name+" "+method, func(s *forge.Signing) { s.Method, s.HMAC = method, secret })...)
			all = append(all, signed("HMAC as RSA with the "+name+" "+method, func(s *forge.Signing) { s.Method, s.HMAC, s.Claim = method, secret, forge.RSASHA256 })...)
		}
	}
	for _, method := range []string{forge.RSASHA1, forge.RSAMD5, forge.PSSSHA256} {
		all = append(all, signed("signed with "+method, func(s *forge.Signing) { s.Method = method })...)
		all = append(all, signed("signed with "+method+" as SHA-256", func(s *forge.Signing) { s.Method, s.Claim = method, forge.RSASHA256 })...)
	}
	for _, claim := range []string{
		forge.NSSignature + "dsa-sha1", "http://www.w3.org/2009/xmldsig11#dsa-sha256", "http://www.w3.org/2001/04/xmldsig-more#rsa-ripemd160", forge.ECDSASHA1, forge.ECDSASHA256,
		forge.HMACSHA256, "none", "urn:example:unknown", forge.RSASHA1, forge.RSASHA512, strings.ToUpper(forge.RSASHA256), forge.RSASHA256 + " ", "http://www.w3.org/2007/05/xmldsig-more#rsa-pss",
	} {
		all = append(all, signed("called "+claim, func(s *forge.Signing) { s.Claim = claim })...)
	}
	for _, digest := range []string{forge.DigestSHA1, forge.DigestMD5, "http://www.w3.org/2001/04/xmlenc#ripemd160", "http://www.w3.org/2001/04/xmldsig-more#sha224", "none", "urn:example:unknown"} {
		all = append(all, signed("digest "+digest, func(s *forge.Signing) { s.Digest = digest })...)
	}
	run(t, all)

	c := connection(t, idp().Metadata())
	for method, digest := range map[string]string{forge.RSASHA256: forge.DigestSHA512, forge.RSASHA384: forge.DigestSHA384, forge.RSASHA512: forge.DigestSHA512} {
		o := options()
		o.SignAssertion, o.Signing.Method, o.Signing.Digest = true, method, digest
		accept(t, c, arrival(forge.Encode(idp().Response(o))))
	}
}

// Keys that are too weak are refused when the metadata is read, or else when they have signed.
//
// SAML-059
func TestWeakKeys(t *testing.T) {
	accept(t, connection(t, idp().Metadata()), arrival(forge.Encode(idp().Response(valid()))))
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, weak := range map[string]*forge.IdP{
		"RSA of 1024 bits": forge.NewIdPWithKey(idp().EntityID, rsa1024, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0)),
		"P-224":            forge.NewIdPWithKey(idp().EntityID, p224, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0)),
	} {
		t.Run(name, func(t *testing.T) {
			c := bare()
			if err := provider.Load(t.Context(), &c, weak.Metadata()); err != nil {
				if !errors.Is(err, core.Invalid) {
					t.Error(err)
				}
				// A connection that was made before the rule was.
				c = connection(t, idp().Metadata())
				c.SAML.IdP.Certificates = [][]byte{weak.Certificate.Raw}
			}
			for _, form := range []forge.ECDSAForm{forge.ASN1, forge.Concatenated} {
				o := valid()
				o.Signing.ECDSA = form
				refuse(t, c, arrival(forge.Encode(weak.Response(o))), sso.CheckSignature, sso.CheckCertificate)
			}
		})
	}
}

// A provider with an elliptic key: an ECDSA signature is judged as XML Signature has it, and one with another key is refused.
func TestEllipticKeys(t *testing.T) {
	c := bare()
	if err := provider.Load(t.Context(), &c, ecIdP().Metadata()); err != nil {
		t.Fatal(err)
	}
	o := valid()
	accept(t, c, arrival(forge.Encode(ecIdP().Response(o))))
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []forge.ECDSAForm{forge.ASN1, forge.Concatenated} {
		o.Signing = forge.Signing{Key: other, ECDSA: form}
		refuse(t, c, arrival(forge.Encode(ecIdP().Response(o))), sso.CheckSignature)
	}
	o.Signing = forge.Signing{Method: forge.ECDSASHA1}
	refuse(t, c, arrival(forge.Encode(ecIdP().Response(o))), sso.CheckSignature)
	for name, value := range map[string][]byte{"r and s are 0": make([]byte, 64), "r is 0": append(make([]byte, 32), bytes.Repeat([]byte{1}, 32)...), "one octet": {1}, "65 octets": make([]byte, 65), "1 MiB": make([]byte, 100<<10)} {
		t.Run(name, func(t *testing.T) {
			o.Signing = forge.Signing{}
			o.SignResponse = false
			d := ecIdP().Document(o)
			setText(at(d, "//SignatureValue"), base64.StdEncoding.EncodeToString(value))
			refuse(t, c, arrival(forge.Encode(forge.Bytes(d))), sso.CheckSignature)
		})
	}
}

// During a rollover either certificate is taken, with KeyInfo or without.
//
// SAML-063
func TestRollover(t *testing.T) {
	next := &forge.IdP{EntityID: idp().EntityID, SignOn: idp().SignOn, Key: attacker().Key, Certificate: attacker().Certificate}
	both := connection(t, idp().MetadataWith(forge.MetadataOptions{Certificates: []*x509.Certificate{idp().Certificate, next.Certificate}}))
	one := connection(t, idp().Metadata())
	for name, p := range map[string]*forge.IdP{"old": idp(), "new": next} {
		for way, base := range ways {
			for _, bare := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, without KeyInfo=%v", name, way, bare), func(t *testing.T) {
					o := options()
					base(&o)
					o.Signing.NoKeyInfo = bare
					a := arrival(forge.Encode(p.Response(o)))
					accept(t, both, a)
					if p == next {
						refuse(t, one, a, sso.CheckSignature)
					}
				})
			}
		}
	}
}

// A certificate that is not valid now does not verify, and the trace says that it is the certificate.
func TestCertificateValidity(t *testing.T) {
	for name, p := range map[string]*forge.IdP{
		"expired":       {EntityID: idp().EntityID, Key: idp().Key, Certificate: forge.SelfSigned(idp().Key, "idp", now.AddDate(-1, 0, 0), now.Add(-time.Minute))},
		"not yet valid": {EntityID: idp().EntityID, Key: idp().Key, Certificate: forge.SelfSigned(idp().Key, "idp", now.AddDate(0, 0, 1), now.AddDate(1, 0, 0))},
	} {
		t.Run(name, func(t *testing.T) {
			c := connection(t, idp().Metadata())
			accept(t, c, arrival(forge.Encode(idp().Response(valid()))))
			c.SAML.IdP.Certificates = [][]byte{p.Certificate.Raw}
			for _, bare := range []bool{true, false} {
				o := valid()
				o.Signing.NoKeyInfo = bare
				refuse(t, c, arrival(forge.Encode(p.Response(o))), sso.CheckCertificate)
			}
			// Beside one that is valid, for the same key, it does no harm.
			c.SAML.IdP.Certificates = [][]byte{p.Certificate.Raw, idp().Certificate.Raw}
			accept(t, c, arrival(forge.Encode(idp().Response(valid()))))
		})
	}
}
