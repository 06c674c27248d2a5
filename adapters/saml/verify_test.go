package saml

import (
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/google/go-cmp/cmp"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

func TestFinishReadsWhatWasSigned(t *testing.T) {
	for name, s := range map[string]signing{
		"assertion": {assertion: true}, "response": {response: true}, "both": {assertion: true, response: true},
		"with KeyInfo": {assertion: true, response: true, keyInfo: true}, "with prefixes": {assertion: true, prefixes: "xs xsi"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s.by = w.idp
			said, r := w.accepted(signed(t, template(person), s))
			want := sso.Assertion{
				ID: "_a1", Until: now.Add(6 * time.Minute), Subject: "person-4711", AuthTime: now.Add(-30 * time.Second), Ends: now.Add(8 * time.Hour),
				Attributes: map[string]any{"email": []any{"ada@example.com"}, "GROUPS": []any{"research", "ml & ops"}, "UID": []any{"4321"}},
			}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			var checks []sso.CheckName
			for _, c := range r.Checks {
				checks = append(checks, c.Name)
				if c.Result != sso.Passed {
					t.Errorf("%+v", c)
				}
			}
			all := []sso.CheckName{sso.CheckAnswer, sso.CheckAudience, sso.CheckDestination, sso.CheckRecipient, sso.CheckIssuer, sso.CheckRequest,
				sso.CheckSignature, sso.CheckCertificate, sso.CheckTime, sso.CheckSubject}
			if diff := cmp.Diff(all, checks); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A document whose only fault is one thing has that thing as its first failure. Every row changes a response that is accepted
// as it stands, before it is signed, so that nothing but the change can be the reason.
func TestEachFaultIsNamed(t *testing.T) {
	replace := func(old, with string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("nothing to replace: %s", old)
			}
			return strings.Replace(s, old, with, 1)
		}
	}
	all := func(old, with string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, old, with) }
	}
	cut := func(from, to string) func(string) string {
		return func(s string) string {
			i := strings.Index(s, from)
			j := strings.Index(s[i:], to)
			return s[:i] + s[i+j+len(to):]
		}
	}
	statement := `<saml:AuthnStatement AuthnInstant="` + at(-time.Second) + `"><saml:AuthnContext/></saml:AuthnStatement>`
	for _, row := range []struct {
		name    string
		change  func(string) string
		because sso.CheckName
	}{
		{"version of the response", replace(`Version="2.0"`, `Version="1.1"`), sso.CheckAnswer},                    // SAML-107
		{"version of the assertion", replace(`ID="_a1" Version="2.0"`, `ID="_a1" Version="1.1"`), sso.CheckAnswer}, // SAML-107
		{"audience", replace("<saml:Audience>"+spEntity, "<saml:Audience>"+spEntity+"/"), sso.CheckAudience},       // SAML-111
		{"audience in capitals", replace("<saml:Audience>"+spEntity, "<saml:Audience>"+strings.ToUpper(spEntity)), sso.CheckAudience},
		{"no conditions", cut("<saml:Conditions", "</saml:Conditions>"), sso.CheckAudience}, // SAML-101
		{"no audience", cut("<saml:AudienceRestriction>", "</saml:AudienceRestriction>"), sso.CheckAudience},
		{"two audience restrictions", replace("</saml:Conditions>", "<saml:AudienceRestriction><saml:Audience>https://else.example.com</saml:Audience></saml:AudienceRestriction></saml:Conditions>"), sso.CheckAudience},
		{"an unknown condition", replace("</saml:Conditions>", `<saml:Condition xsi:type="xs:string"/></saml:Conditions>`), sso.CheckAnswer},
		{"destination", replace(`Destination="`+acs, `Destination="`+acs+"?x=1"), sso.CheckDestination}, // SAML-113
		{"no destination", cut(`Destination="`, `" `), sso.CheckDestination},                            // SAML-113
		{"an empty destination", replace(`Destination="`+acs, `Destination="`), sso.CheckDestination},   // SAML-113
		{"recipient", replace(`Recipient="`+acs, `Recipient="`+acs+"/"), sso.CheckRecipient},
		{"no recipient", cut(` Recipient="`, `"`+`/>`), sso.CheckAnswer},
		{"no confirmation", cut("<saml:SubjectConfirmation ", "</saml:SubjectConfirmation>"), sso.CheckRecipient}, // SAML-103
		{"no confirmation data", cut("<saml:SubjectConfirmationData", "/>"), sso.CheckRecipient},
		{"no bearer", replace("cm:bearer", "cm:sender-vouches"), sso.CheckRecipient},
		{"issuer of the response", replace("<saml:Issuer>"+idpEntity, "<saml:Issuer>"+idpEntity+"/"), sso.CheckIssuer}, // SAML-109
		{"issuer of the assertion", replace("<saml:Issuer>"+idpEntity+"\n", "<saml:Issuer>https://IDP.example.com/metadata\n"), sso.CheckIssuer},
		{"no issuer of the assertion", cut("<saml:Issuer>"+idpEntity+"\n", "</saml:Issuer>"), sso.CheckIssuer},
		{"request of the response", replace(`InResponseTo="`+requestID, `InResponseTo="_other`), sso.CheckRequest}, // SAML-123
		{"request of the assertion", replace(`Data InResponseTo="`+requestID, `Data InResponseTo="_other`), sso.CheckRequest},
		{"no request in the response", cut(` InResponseTo="`, requestID+`"`), sso.CheckRequest},
		{"no request in the assertion", replace(`Data InResponseTo="`+requestID+`"`, "Data"), sso.CheckRequest},
		{"issued in the future", all(`IssueInstant="`+at(-time.Second), `IssueInstant="`+at(2*time.Minute)), sso.CheckTime}, // SAML-115
		{"issued long ago", all(`IssueInstant="`+at(-time.Second), `IssueInstant="`+at(-11*time.Minute)), sso.CheckTime},    // SAML-117
		{"over", all(at(5*time.Minute), at(-time.Minute)), sso.CheckTime},
		{"not begun", replace(`NotBefore="`+at(-time.Minute), `NotBefore="`+at(2*time.Minute)), sso.CheckTime},
		{"the bearer's time is over", replace(`NotOnOrAfter="`+at(5*time.Minute)+`" Rec`, `NotOnOrAfter="`+at(-2*time.Minute)+`" Rec`), sso.CheckTime},
		{"the bearer's time is open", replace(`NotOnOrAfter="`+at(5*time.Minute)+`" Rec`, `Rec`), sso.CheckTime},
		{"the bearer must wait", replace(`Recipient=`, `NotBefore="`+at(-time.Hour)+`" Recipient=`), sso.CheckTime},
		{"signed in in the future", replace(`AuthnInstant="`+at(-30*time.Second), `AuthnInstant="`+at(2*time.Minute)), sso.CheckTime}, // SAML-105
		{"the session is over", replace(at(8*time.Hour), at(-time.Second)), sso.CheckTime},                                            // SAML-105
		{"no authentication", cut("<saml:AuthnStatement", "</saml:AuthnStatement>"), sso.CheckAnswer},                                 // SAML-105
		{"two authentications", replace("<saml:AuthnStatement", statement+"<saml:AuthnStatement"), sso.CheckAnswer},                   // SAML-105
		{"no subject", cut("<saml:Subject>", "</saml:Subject>"), sso.CheckAnswer},
		{"an empty name", replace("person-4711", "  "), sso.CheckSubject},                          // SAML-133
		{"a name with an element", replace("person-4711", "person<x/>-4711"), sso.CheckSubject},    // SAML-079
		{"a name that turns around", replace("person-4711", "person\u202e1174"), sso.CheckSubject}, // SAML-133
		{"a name that is decomposed", replace("person-4711", "ame\u0301lie"), sso.CheckSubject},    // SAML-133
		{"a long name", replace("person-4711", strings.Repeat("x", 257)), sso.CheckSubject},        // SAML-133
		{"two names", replace("<saml:NameID", "<saml:NameID>other</saml:NameID><saml:NameID"), sso.CheckSubject},
		{"a value with an element", replace("ada@example.com", "ada@example.com<x>.evil</x>.com"), sso.CheckAnswer}, // SAML-079
		{"declined", replace("status:Success", "status:Responder"), sso.CheckAnswer},
		{"two assertions", replace("</samlp:Response>", `<saml:Assertion ID="_a2"/></samlp:Response>`), sso.CheckAnswer}, // SAML-003
		{"an ID twice", replace(`ID="_r1"`, `ID="_a1"`), sso.CheckAnswer},                                                // SAML-021
		{"an id in small letters", replace("<samlp:Status>", `<samlp:Status id="_a1">`), sso.CheckAnswer},                // SAML-023
		{"xml:id", replace("<samlp:Status>", `<samlp:Status xml:id="_x">`), sso.CheckAnswer},                             // SAML-023
	} {
		for what, s := range map[string]signing{"response": {response: true}, "both": {response: true, assertion: true}} {
			t.Run(row.name+"/"+what, func(t *testing.T) {
				w := newWorld(t)
				s.by = w.idp
				w.accepted(signed(t, template(person), s))
				changed := row.change(template(person))
				if row.name == "no recipient" {
					changed = strings.Replace(template(person), ` Recipient="`+acs+`"`, "", 1)
					row.because = sso.CheckRecipient
				}
				w.refused(signed(t, changed, s), row.because)
			})
		}
	}
}

func TestSignatureFaults(t *testing.T) {
	good := func(w *world) signing { return signing{assertion: true, by: w.idp, keyInfo: true} }
	for _, row := range []struct {
		name    string
		make    func(w *world) []byte
		because sso.CheckName
	}{
		{"unsigned", func(w *world) []byte { return []byte(template(person)) }, sso.CheckSignature}, // SAML-051
		{"another key under the same name", func(w *world) []byte { // SAML-053
			s := good(w)
			s.by = certify(w.t, rsaKey(w.t, "attacker", 2048), "idp", now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
			return signed(w.t, template(person), s)
		}, sso.CheckSignature},
		{"changed since", func(w *world) []byte {
			return []byte(strings.Replace(string(signed(w.t, template(person), good(w))), "ada@", "eve@", 1))
		}, sso.CheckSignature},
		{"SHA-1", func(w *world) []byte {
			s := good(w)
			s.method = dsig.RSASHA1SignatureMethod
			return signed(w.t, template(person), s)
		}, sso.CheckSignature},
		{"one of two does not hold", func(w *world) []byte {
			s := good(w)
			s.response = true
			doc := string(signed(w.t, template(person), s))
			i := strings.LastIndex(doc, "SignatureValue>") - 40
			return []byte(doc[:i] + strings.Repeat("A", 8) + doc[i+8:])
		}, sso.CheckSignature},
		{"RSA-PSS", func(w *world) []byte { // SAML-061
			return []byte(strings.Replace(string(signed(w.t, template(person), good(w))), dsig.RSASHA256SignatureMethod, "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1", 1))
		}, sso.CheckSignature},
		{"HMAC", func(w *world) []byte { // SAML-057
			return []byte(strings.Replace(string(signed(w.t, template(person), good(w))), dsig.RSASHA256SignatureMethod, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", 1))
		}, sso.CheckSignature},
		{"comments canonicalized", func(w *world) []byte { // SAML-033
			s := good(w)
			doc := string(signed(w.t, template(person), s))
			return []byte(strings.ReplaceAll(doc, `"http://www.w3.org/2001/10/xml-exc-c14n#"`, `"http://www.w3.org/2001/10/xml-exc-c14n#WithComments"`))
		}, sso.CheckSignature},
		{"a certificate that expired", func(w *world) []byte {
			w.idp = certify(w.t, w.idp.key, "old", now.AddDate(-2, 0, 0), now.AddDate(0, 0, -1))
			w.c.SAML.IdP.Certificates = [][]byte{w.idp.der}
			return signed(w.t, template(person), good(w))
		}, sso.CheckCertificate},
		{"a certificate of tomorrow", func(w *world) []byte {
			w.idp = certify(w.t, w.idp.key, "new", now.AddDate(0, 0, 1), now.AddDate(1, 0, 0))
			w.c.SAML.IdP.Certificates = [][]byte{w.idp.der}
			return signed(w.t, template(person), good(w))
		}, sso.CheckCertificate},
		{"a weak key", func(w *world) []byte { // SAML-059
			w.idp = certify(w.t, rsaKey(w.t, "weak", 1024), "weak", now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
			w.c.SAML.IdP.Certificates = [][]byte{w.idp.der}
			return signed(w.t, template(person), good(w))
		}, sso.CheckSignature},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.accepted(signed(t, template(person), good(w)))
			f := w.refused(row.make(w), row.because)
			t.Log(f)
		})
	}
}

// An unsigned document still shows what an administrator compares by hand.
func TestRefusedDocumentIsStillCompared(t *testing.T) {
	w := newWorld(t)
	_, r, err := w.finish([]byte(strings.ReplaceAll(template(person), "<saml:Audience>"+spEntity, "<saml:Audience>someone-else")))
	if !errors.Is(err, sso.ErrRefused) || !errors.Is(err, core.Unauthenticated) {
		t.Fatal(err)
	}
	results := map[sso.CheckName]sso.Result{}
	for _, c := range r.Checks {
		results[c.Name] = c.Result
	}
	want := map[sso.CheckName]sso.Result{
		sso.CheckAnswer: sso.Passed, sso.CheckAudience: sso.Failed, sso.CheckDestination: sso.Passed, sso.CheckRecipient: sso.Passed,
		sso.CheckIssuer: sso.Passed, sso.CheckRequest: sso.Passed, sso.CheckSignature: sso.Failed, sso.CheckTime: sso.Passed, sso.CheckSubject: sso.Passed,
	}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Each gate before the shape, with documents that are a signed one but for a few bytes.
func TestBytes(t *testing.T) {
	w := newWorld(t)
	doc := string(signed(t, template(person), signing{assertion: true, by: w.idp}))
	w.accepted([]byte(doc))
	w.accepted([]byte("\ufeff<?xml version='1.0' encoding='utf-8' standalone=\"no\"?>\n" + doc + "\n"))
	for name, changed := range map[string]string{
		"doctype":                 `<!DOCTYPE x [<!ENTITY y "z">]>` + doc,                                                            // SAML-073
		"entity":                  strings.Replace(doc, "ada@", "&ada;@", 1),                                                         // SAML-071
		"comment":                 strings.Replace(doc, "person-4711", "person<!---->-4711", 1),                                      // SAML-075
		"processing instruction":  strings.Replace(doc, "person-4711", "person<?x y?>-4711", 1),                                      // SAML-077
		"CDATA":                   strings.Replace(doc, "person-4711", "<![CDATA[person-4711]]>", 1),                                 //
		"space before the head":   " <?xml version='1.0'?>" + doc,                                                                    // SAML-085
		"another encoding":        "<?xml version='1.0' encoding='iso-8859-1'?>" + doc,                                               //
		"XML 1.1":                 "<?xml version='1.1'?>" + doc,                                                                     //
		"two roots":               doc + doc,                                                                                         //
		"text behind":             doc + "x",                                                                                         //
		"not UTF-8":               strings.Replace(doc, "ada@", "ad\xe4@", 1),                                                        // SAML-087
		"overlong":                strings.Replace(doc, "ada@", "ad\xc1\xa1@", 1),                                                    // SAML-087
		"a surrogate":             strings.Replace(doc, "ada@", "&#xD800;@", 1),                                                      // SAML-087
		"a noncharacter":          strings.Replace(doc, "ada@", "ad\ufffe@", 1),                                                      // SAML-087
		"a control":               strings.Replace(doc, "ada@", "ada&#x80;@", 1),                                                     // SAML-087
		"an attribute twice":      strings.Replace(doc, `ID="_a1"`, `ID="_a1" ID="_a1"`, 1),                                          // SAML-025
		"twice by two prefixes":   strings.Replace(doc, `ID="_a1"`, `ID="_a1" xmlns:p="urn:x" xmlns:q="urn:x" p:z="1" q:z="2"`, 1),   //
		"an undeclared prefix":    strings.Replace(doc, "<samlp:Status>", `<samlp:Status q:z="">`, 1),                                //
		"a name that is not ours": strings.Replace(doc, "<samlp:Status>", "<samlp:Status \u00e4=''>", 1),                             //
		"unended":                 doc[:len(doc)-3],                                                                                  //
		"many attributes":         strings.Replace(doc, "<samlp:Status>", "<samlp:Status"+numbered(70, ` a%d=""`)+">", 1),            // SAML-089
		"many prefixes":           strings.Replace(doc, "<samlp:Status>", "<samlp:Status"+numbered(40, ` xmlns:p%d="urn:x"`)+">", 1), // SAML-089
		"many elements":           strings.Replace(doc, "<samlp:Status>", "<samlp:Status>"+strings.Repeat("<x/>", 4000), 1),          // SAML-089
		"deep":                    strings.Replace(doc, "<samlp:Status>", "<samlp:Status>"+strings.Repeat("<x>", 40)+strings.Repeat("</x>", 40), 1),
		"long":                    strings.Replace(doc, "ada@", strings.Repeat("a", 256<<10), 1), // SAML-089
		"empty":                   "",
	} {
		t.Run(name, func(t *testing.T) {
			if changed == doc {
				t.Fatal("nothing was changed")
			}
			w.refused([]byte(changed), sso.CheckAnswer)
		})
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestPostedEncoding(t *testing.T) { // SAML-091
	w := newWorld(t)
	doc := signed(t, template(person), signing{assertion: true, by: w.idp})
	for len(doc)%3 != 1 {
		doc = append(doc, '\n')
	}
	good := base64.StdEncoding.EncodeToString(doc)
	if _, _, err := w.post(good[:64] + "\r\n" + good[64:]); err != nil {
		t.Fatal(err)
	}
	last := good[len(good)-3]
	for name, bad := range map[string]string{
		"blank": good[:64] + " " + good[64:], "unpadded": strings.TrimRight(good, "="), "trailing": good + "AAAA", "percent": good[:64] + "%0A" + good[64:],
		"another alphabet": strings.Replace(good, "P", "-", 1), "left-over bits": good[:len(good)-3] + string(last+1) + "==",
	} {
		if _, r, err := w.post(bad); err == nil {
			t.Errorf("%s: accepted", name)
		} else if f, _ := r.Failure(); f.Name != sso.CheckAnswer {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestRollover(t *testing.T) { // SAML-063
	w := newWorld(t)
	next := rsaPair(t, "next")
	renewed := certify(t, w.idp.key, "renewed", now, now.AddDate(2, 0, 0))
	expired := certify(t, w.idp.key, "expired", now.AddDate(-3, 0, 0), now.AddDate(-1, 0, 0))
	w.c.SAML.IdP.Certificates = [][]byte{expired.der, ecPair(t, "ec", elliptic.P256()).der, next.der, renewed.der}
	for _, keyInfo := range []bool{false, true} {
		for _, by := range []pair{w.idp, next} {
			_, r := w.accepted(signed(t, template(person), signing{assertion: true, response: true, by: by, keyInfo: keyInfo}))
			for _, c := range r.Checks {
				if c.Name == sso.CheckCertificate && strings.Contains(c.Found, "expired") {
					t.Errorf("of two certificates of one key the expired one was taken: %+v", c)
				}
			}
		}
	}
	w.refused(signed(t, template(person), signing{assertion: true, by: rsaPair(t, "attacker"), keyInfo: true}), sso.CheckSignature)
}

func TestSignatureMethods(t *testing.T) {
	rsa := []string{dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod}
	for _, m := range rsa {
		w := newWorld(t)
		w.accepted(signed(t, template(person), signing{assertion: true, by: w.idp, method: m}))
	}
	for m, curve := range map[string]elliptic.Curve{
		dsig.ECDSASHA256SignatureMethod: elliptic.P256(), dsig.ECDSASHA384SignatureMethod: elliptic.P384(), dsig.ECDSASHA512SignatureMethod: elliptic.P521(),
	} {
		w := newWorld(t)
		w.idp = ecPair(t, "ec", curve)
		w.c.SAML.IdP.Certificates = [][]byte{rsaPair(t, "idp").der, w.idp.der}
		doc := signed(t, template(person), signing{assertion: true, by: w.idp, method: m})
		w.accepted(doc)                       // as goxmldsig writes it
		w.accepted(sideBySide(t, doc, curve)) // as everybody else does
		w.refused([]byte(strings.Replace(string(sideBySide(t, doc, curve)), "ada@", "eve@", 1)), sso.CheckSignature)
	}
}

// sideBySide writes an ECDSA signature as XML Signature wants it.
func sideBySide(t *testing.T, doc []byte, curve elliptic.Curve) []byte {
	d := etree.NewDocument()
	if err := d.ReadFromBytes(doc); err != nil {
		t.Fatal(err)
	}
	v := d.FindElement("//SignatureValue")
	der, err := base64.StdEncoding.DecodeString(v.Text())
	if err != nil {
		t.Fatal(err)
	}
	var n struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &n); err != nil {
		t.Fatal(err)
	}
	size := (curve.Params().BitSize + 7) / 8
	raw := append(n.R.FillBytes(make([]byte, size)), n.S.FillBytes(make([]byte, size))...)
	text := base64.StdEncoding.EncodeToString(raw)
	v.SetText("\n    " + text[:40] + "\n    " + text[40:] + "\n  ")
	b, err := d.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIdPInitiated(t *testing.T) { // SAML-127
	w := newWorld(t)
	asked := signed(t, template(person), signing{assertion: true, response: true, by: w.idp})
	alone := signed(t, strings.ReplaceAll(template(person), ` InResponseTo="`+requestID+`"`, ""), signing{assertion: true, response: true, by: w.idp})
	half := signed(t, strings.Replace(template(person), ` InResponseTo="`+requestID+`"`, "", 1), signing{assertion: true, response: true, by: w.idp})
	w.accepted(asked)
	w.refused(alone, sso.CheckRequest)
	w.in.Pending = nil
	w.refused(asked, sso.CheckRequest)
	w.refused(alone, sso.CheckRequest)
	w.c.SAML.IdPInitiated = true
	w.accepted(alone)
	w.refused(asked, sso.CheckRequest)
	w.refused(half, sso.CheckRequest)
	w.in.Pending = &sso.Pending{Request: requestID}
	w.refused(alone, sso.CheckRequest)
}

func TestForceAuthn(t *testing.T) {
	w := newWorld(t)
	w.in.Pending.Login = true
	w.accepted(signed(t, template(person), signing{assertion: true, by: w.idp}))
	w.in.Pending.At = now
	w.accepted(signed(t, template(person), signing{assertion: true, by: w.idp})) // within the clocks' difference
	old := strings.Replace(template(person), `AuthnInstant="`+at(-30*time.Second), `AuthnInstant="`+at(-time.Hour), 1)
	w.refused(signed(t, old, signing{assertion: true, by: w.idp}), sso.CheckRequest)
	w.in.Pending.Login = false
	w.accepted(signed(t, old, signing{assertion: true, by: w.idp}))
}

// The identity is what was signed, though the document around it says otherwise.
func TestUnsignedResponseAroundASignedAssertion(t *testing.T) {
	w := newWorld(t)
	doc := string(signed(t, template(person), signing{assertion: true, by: w.idp}))
	w.accepted([]byte(doc))
	w.accepted([]byte(strings.Replace(doc, ` Destination="`+acs+`"`, "", 1)))
	w.refused([]byte(strings.Replace(doc, `Destination="`+acs, `Destination="https://else.example.com`, 1)), sso.CheckDestination)
	w.refused([]byte(strings.Replace(doc, "<samlp:Status>", "<saml:Assertion/><samlp:Status>", 1)), sso.CheckAnswer)
}

func TestReceivedIsRedacted(t *testing.T) {
	w := newWorld(t)
	_, r := w.accepted(signed(t, template(person), signing{assertion: true, response: true, by: w.idp, keyInfo: true}))
	for _, want := range []string{"<saml:Audience>" + spEntity, "ada@example.com", "ml &amp; ops", "<ds:SignatureValue>(344 characters)</ds:SignatureValue>", "<ds:DigestValue>(44 characters)"} {
		if !strings.Contains(r.Received, want) {
			t.Errorf("%q is missing in\n%s", want, r.Received)
		}
	}
	if strings.Contains(r.Received, base64.StdEncoding.EncodeToString(w.idp.der)[:40]) {
		t.Error("the certificate is shown")
	}
	many := strings.Replace(person, "<saml:AttributeValue", strings.Repeat(`<saml:AttributeValue>a-group-of-people</saml:AttributeValue>`, 900)+"<saml:AttributeValue", 1)
	_, r = w.accepted(signed(t, template(many), signing{assertion: true, by: w.idp}))
	if len(r.Received) > sso.MaxReceived || !strings.HasSuffix(r.Received, "(cut)") {
		t.Errorf("%d bytes, ending %q", len(r.Received), r.Received[len(r.Received)-20:])
	}
}
