package saml_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Signature wrapping, as the full product of what is doubled, where it goes, what holds the signature and how the evil copy is
// called, over each way of signing. forge has a test that very many of these deceive a careless service provider.
//
// SAML-011, and with it SAML-001 to 008, 021, 023, 041
func TestWrapping(t *testing.T) {
	c := connection(t, idp().Metadata())
	seen := map[string]bool{}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			o := options()
			ways[way](&o)
			message := idp().Response(o)
			accept(t, c, arrival(forge.Encode(message)))
			for w := range forge.Wrappings() {
				hostile := w.Apply(message)
				if seen[string(hostile)] {
					continue
				}
				seen[string(hostile)] = true
				check := refuse(t, c, arrival(forge.Encode(hostile)))
				if t.Failed() {
					t.Fatalf("%s: %+v\n%s", w, check, hostile)
				}
			}
		})
	}
	if len(seen) < 2000 {
		t.Errorf("only %d different documents", len(seen))
	}
}

// The eight that have names in the literature, and the ninth, which wraps nothing.
//
// SAML-001 to SAML-009
func TestClassicWrapping(t *testing.T) {
	shape := []sso.CheckName{sso.CheckAnswer, sso.CheckSignature}
	var all []attack
	for _, name := range slices.Sorted(maps.Keys(forge.Classic)) {
		w := forge.Classic[name]
		base := assertionSigned
		if w.Unit == forge.UnitResponse {
			base = responseSigned
		}
		all = append(all, attack{name: name, base: base, wire: w.Apply, want: shape})
	}
	for _, path := range []string{"/Response/Signature", "/Response/Assertion/Signature"} {
		fake := func(d *etree.Document, before bool) {
			signature := at(d, path)
			info := at(signature, "./SignedInfo")
			made := info.Copy()
			setText(at(made, "./Reference/DigestValue"), base64.StdEncoding.EncodeToString(make([]byte, 32)))
			if before {
				signature.InsertChildAt(info.Index(), made)
			} else {
				signature.InsertChildAt(info.Index()+1, made)
			}
		}
		all = append(all,
			attack{name: "XSW9 before in " + path, tree: func(d *etree.Document) { fake(d, true) }, want: shape},
			attack{name: "XSW9 after in " + path, tree: func(d *etree.Document) { fake(d, false) }, want: shape},
		)
		// What else there is one of, twice; the second says what the first says.
		for _, part := range []string{"SignatureValue", "KeyInfo", "SignedInfo", "SignedInfo/CanonicalizationMethod", "SignedInfo/SignatureMethod",
			"SignedInfo/Reference", "SignedInfo/Reference/Transforms", "SignedInfo/Reference/DigestMethod", "SignedInfo/Reference/DigestValue"} {
			all = append(all, attack{name: "two " + part + " in " + path, want: shape, tree: func(d *etree.Document) {
				e := at(d, path+"/"+part)
				e.Parent().InsertChildAt(e.Index()+1, e.Copy())
			}})
		}
	}
	run(t, all)
}

// A document of the identity provider's that is no answer, such as its metadata, which it signs with the same key and
// publishes, is no voucher for an answer.
//
// SAML-013
func TestSignedDecoy(t *testing.T) {
	c := connection(t, idp().Metadata())
	o := options()
	o.SignResponse, o.SignAssertion = true, true
	accept(t, c, arrival(forge.Encode(idp().Response(o))))

	metadata := idp().MetadataDocument(forge.MetadataOptions{Sign: true}).Root()
	refuse(t, c, arrival(forge.Encode(forge.Bytes(etree.NewDocumentWithRoot(metadata.Copy())))), sso.CheckAnswer, sso.CheckSignature)
	id := metadata.SelectAttrValue("ID", "")
	o.NameID, o.SignResponse, o.SignAssertion = forge.Evil, false, false
	places := map[string]func(d *etree.Document) *etree.Element{
		"StatusDetail": func(d *etree.Document) *etree.Element {
			return at(d, "/Response/Status").CreateElement("samlp:StatusDetail")
		},
		"Extensions": func(d *etree.Document) *etree.Element {
			e := etree.NewElement("samlp:Extensions")
			d.Root().InsertChildAt(at(d, "/Response/Status").Index(), e)
			return e
		},
		"Response":  func(d *etree.Document) *etree.Element { return d.Root() },
		"Assertion": func(d *etree.Document) *etree.Element { return at(d, "/Response/Assertion") },
		"Advice": func(d *etree.Document) *etree.Element {
			return at(d, "/Response/Assertion").CreateElement("saml:Advice")
		},
		"AttributeValue": func(d *etree.Document) *etree.Element { return at(d, "//AttributeValue") },
	}
	for _, place := range slices.Sorted(maps.Keys(places)) {
		for _, ids := range []string{"own", "response", "assertion", "both"} {
			for _, signature := range []string{"in the decoy", "at the response", "at the assertion"} {
				t.Run(fmt.Sprintf("%s, ID %s, signature %s", place, ids, signature), func(t *testing.T) {
					d := idp().Document(o)
					decoy := metadata.Copy()
					if ids == "response" || ids == "both" {
						d.Root().CreateAttr("ID", id)
					}
					if ids == "assertion" || ids == "both" {
						at(d, "/Response/Assertion").CreateAttr("ID", id)
					}
					if signature != "in the decoy" {
						moved := decoy.RemoveChild(at(decoy, "./Signature")).(*etree.Element)
						host := d.Root()
						if signature == "at the assertion" {
							host = at(d, "/Response/Assertion")
						}
						host.InsertChildAt(1, moved)
					}
					places[place](d).AddChild(decoy)
					refuse(t, c, arrival(forge.Encode(forge.Bytes(d))), sso.CheckAnswer, sso.CheckSignature)
				})
			}
		}
	}
}

// A signature, or a part of one, that stands where nobody should look for it.
//
// SAML-015, SAML-041
func TestSignatureElsewhere(t *testing.T) {
	evil := func(d *etree.Document) { setText(at(d, "/Response/Assertion/Subject/NameID"), forge.Evil) }
	move := func(d *etree.Document, from, to string) {
		s := at(d, from)
		s.Parent().RemoveChild(s)
		at(d, to).AddChild(s)
	}
	var all []attack
	// Whole, out of its place: SAML-041.
	for _, to := range []string{"/Response", "/Response/Status", "/Response/Issuer", "/Response/Status/StatusCode", "/Response/Assertion/Issuer", "/Response/Assertion/Subject",
		"/Response/Assertion/Subject/SubjectConfirmation/SubjectConfirmationData", "/Response/Assertion/Conditions", "/Response/Assertion/AuthnStatement",
		"/Response/Assertion/AttributeStatement", "/Response/Assertion/AttributeStatement/Attribute/AttributeValue"} {
		all = append(all, attack{name: "moved to " + to, base: assertionSigned, tree: func(d *etree.Document) { move(d, "/Response/Assertion/Signature", to) }})
	}
	for _, tag := range []string{"samlp:Extensions", "saml:Advice", "x:Decoy"} {
		all = append(all, attack{name: "moved into a decoy " + tag, base: assertionSigned, tree: func(d *etree.Document) {
			s := at(d, "/Response/Assertion/Signature")
			a := s.Parent()
			i := s.Index()
			a.RemoveChild(s)
			decoy := etree.NewElement(tag)
			decoy.CreateAttr("xmlns:x", "urn:example:unknown")
			decoy.AddChild(s)
			a.InsertChildAt(i, decoy)
		}})
	}
	// A second one, in front of the right one in the document's order, whose digest is that of the evil assertion: SAML-015.
	for _, part := range []string{"Signature", "SignedInfo", "Reference", "DigestValue"} {
		all = append(all, attack{name: "second " + part + " in StatusDetail", base: assertionSigned, tree: func(d *etree.Document) {
			evil(d)
			own := at(d, "/Response/Assertion/Signature")
			// The digest of the evil one is taken from a signature by another key.
			b := forge.Parse(forge.Bytes(d))
			old := at(b, "/Response/Assertion/Signature")
			old.Parent().RemoveChild(old)
			digest := at(attacker().Sign(at(b, "/Response/Assertion"), forge.Signing{}), "./SignedInfo/Reference/DigestValue")
			decoy := own.Copy()
			setText(at(decoy, "./SignedInfo/Reference/DigestValue"), textOf(digest))
			piece := decoy
			if part != "Signature" {
				piece = at(decoy, ".//"+part)
				piece.CreateAttr("xmlns:ds", forge.NSSignature)
			}
			at(d, "/Response/Status").CreateElement("samlp:StatusDetail").AddChild(piece)
		}})
	}
	// The response is the attacker's; only what it wraps was signed.
	all = append(all,
		attack{name: "two signatures, the second the attacker's", base: assertionSigned, tree: func(d *etree.Document) {
			attacker().Sign(at(d, "/Response/Assertion"), forge.Signing{At: forge.Last})
		}},
		attack{name: "two signatures, the first the attacker's", base: assertionSigned, tree: func(d *etree.Document) {
			attacker().Sign(at(d, "/Response/Assertion"), forge.Signing{At: forge.First})
		}},
		attack{name: "the same signature twice", base: assertionSigned, tree: func(d *etree.Document) {
			s := at(d, "/Response/Assertion/Signature")
			s.Parent().InsertChildAt(s.Index(), s.Copy())
		}},
		attack{name: "the assertion's is broken, the response's holds", want: []sso.CheckName{sso.CheckSignature},
			sign: func(o *forge.Options) {
				o.EditSigned = func(r *etree.Element) { spoilText(at(r, "./Assertion/Signature/SignatureValue")) }
			}},
		attack{name: "the response's is broken, the assertion's holds", want: []sso.CheckName{sso.CheckSignature}, tree: func(d *etree.Document) {
			spoilText(at(d, "/Response/Signature/SignatureValue"))
		}},
		attack{name: "the response's is the attacker's, the assertion's holds", base: assertionSigned, want: []sso.CheckName{sso.CheckSignature}, tree: func(d *etree.Document) {
			attacker().Sign(d.Root(), forge.Signing{})
		}},
	)
	run(t, all)
}

// Elements with the right local name in another namespace are not the right ones: they are refused, or nobody reads them.
//
// SAML-027
func TestForeignNamespace(t *testing.T) {
	c := connection(t, idp().Metadata())
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		o := options()
		ways[way](&o)
		message := idp().Response(o)
		accept(t, c, arrival(forge.Encode(message)))
		for _, path := range []string{"/Response/Issuer", "/Response/Status", "/Response/Assertion", "/Response/Assertion/Issuer", "/Response/Assertion/Subject", "/Response/Assertion/Subject/NameID",
			"/Response/Assertion/Conditions", "/Response/Assertion/AuthnStatement", "/Response/Assertion/AttributeStatement", "/Response/Assertion/AttributeStatement/Attribute", "//Signature", "//Signature/SignedInfo"} {
			for _, namespace := range []string{"urn:example:foreign", "urn:oasis:names:tc:SAML:1.0:assertion", forge.NSProtocol, forge.NSAssertion, forge.NSSignature, ""} {
				for _, before := range []bool{true, false} {
					d := forge.Parse(message)
					e := at(d, path)
					decoy := foreign(e, namespace)
					if decoy == nil {
						continue
					}
					i := e.Index()
					if !before {
						i++
					}
					e.Parent().InsertChildAt(i, decoy)
					t.Run(fmt.Sprintf("%s, %s in %q, before=%v", way, path, namespace, before), func(t *testing.T) { inert(t, c, arrival(forge.Encode(forge.Bytes(d)))) })
				}
			}
		}
	}
	// Signed by the identity provider itself, so that the signature is not what refuses it.
	for _, path := range []string{"./Issuer", "./Subject", "./Subject/NameID", "./Conditions", "./AuthnStatement", "./AttributeStatement", "./AttributeStatement/Attribute", "./AttributeStatement/Attribute/AttributeValue"} {
		for _, namespace := range []string{"urn:example:foreign", "urn:oasis:names:tc:SAML:1.0:assertion", forge.NSProtocol, ""} {
			o := options()
			o.SignResponse, o.SignAssertion = true, true
			o.Edit = func(_, a *etree.Element) {
				e := at(a, path)
				e.Parent().InsertChildAt(e.Index(), foreign(e, namespace))
			}
			t.Run(fmt.Sprintf("signed %s in %q", path, namespace), func(t *testing.T) { inert(t, c, arrival(forge.Encode(idp().Response(o)))) })
		}
	}
}

// foreign is an evil copy of an element in another namespace; nil if it is its own.
func foreign(e *etree.Element, namespace string) *etree.Element {
	if e.NamespaceURI() == namespace {
		return nil
	}
	decoy := e.Copy()
	decoy.Space = "f"
	decoy.CreateAttr("xmlns:f", namespace)
	if namespace == "" {
		decoy.RemoveAttr("xmlns:f")
		decoy.Space = ""
	}
	if len(decoy.ChildElements()) == 0 {
		setText(decoy, forge.Evil)
	}
	for _, path := range []string{".//NameID", ".//AttributeValue"} {
		for _, leaf := range decoy.FindElements(path) {
			setText(leaf, forge.Evil)
		}
	}
	return decoy
}

// IDs that are there twice, that are spelt otherwise, or that are missing.
//
// SAML-021, SAML-023, SAML-025
func TestIDs(t *testing.T) {
	var all []attack
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		base := ways[way]
		add := func(name string, a attack) {
			a.name, a.base, a.want = way+", "+name, base, []sso.CheckName{sso.CheckAnswer, sso.CheckSignature}
			all = append(all, a)
		}
		edit := func(f func(r, a *etree.Element)) attack {
			return attack{sign: func(o *forge.Options) { o.Edit = f }}
		}
		add("one ID for both", attack{sign: func(o *forge.Options) { o.ResponseID, o.AssertionID = "_same", "_same" }})
		for _, path := range []string{".", "./Subject", "./Conditions", "./AttributeStatement/Attribute/AttributeValue", "./AuthnStatement"} {
			for _, name := range []string{"ID", "Id", "id", "xml:id", "iD", "x:ID"} {
				if path == "." && name == "ID" {
					continue
				}
				add("assertion's ID as "+name+" at "+path, edit(func(_, a *etree.Element) {
					e := at(a, path)
					e.CreateAttr("xmlns:x", "urn:example:foreign")
					e.CreateAttr(name, a.SelectAttrValue("ID", ""))
				}))
			}
		}
		for _, name := range []string{"Id", "id", "xml:id", "x:ID", "saml:ID", "samlp:ID"} {
			add("assertion's ID as "+name+" at the response", edit(func(r, a *etree.Element) {
				r.CreateAttr("xmlns:x", "urn:example:foreign")
				r.CreateAttr(name, a.SelectAttrValue("ID", ""))
			}))
			add("another "+name+" at the assertion", edit(func(_, a *etree.Element) {
				a.CreateAttr("xmlns:x", "urn:example:foreign")
				a.CreateAttr(name, "_other")
			}))
		}
		for _, name := range []string{"Id", "id", "xml:id"} {
			add("assertion has "+name+" alone", edit(func(_, a *etree.Element) { a.CreateAttr(name, a.RemoveAttr("ID").Value) }))
			add("response has "+name+" alone", edit(func(r, _ *etree.Element) { r.CreateAttr(name, r.RemoveAttr("ID").Value) }))
		}
		add("assertion has no ID", edit(func(_, a *etree.Element) { a.RemoveAttr("ID") }))
		add("response has no ID", edit(func(r, _ *etree.Element) { r.RemoveAttr("ID") }))
		for name, id := range map[string]string{"empty": "", "space": " ", "a space within": "_a b", "a hash": "#a"} {
			add("assertion's ID is "+name, edit(func(_, a *etree.Element) { a.CreateAttr("ID", id) }))
		}
		// The same attribute twice is not well-formed, and encoding/xml takes the last.
		add("ID twice, the last is right", attack{wire: func(m []byte) []byte {
			return []byte(strings.Replace(string(m), `<saml:Assertion `, `<saml:Assertion ID="_evil" `, 1))
		}})
		add("ID twice, the first is right", attack{wire: func(m []byte) []byte {
			d := forge.Parse(m)
			id := at(d, "/Response/Assertion").SelectAttrValue("ID", "")
			return []byte(strings.Replace(string(m), ` ID="`+id+`"`, ` ID="`+id+`" ID="_evil"`, 1))
		}})
		add("Version twice", attack{wire: replaced(` Version="2.0"`, ` Version="2.0" Version="2.0"`)})
		add("xmlns twice", attack{wire: replaced(` xmlns:saml="`, ` xmlns:saml="urn:example:foreign" xmlns:saml="`)})
		add("one name by two prefixes", attack{wire: replaced(`<saml:Assertion `, `<saml:Assertion xmlns:p="urn:p" xmlns:q="urn:p" p:ID="_a" q:ID="_b" `)})
	}
	run(t, all)
}

func setText(e *etree.Element, s string) {
	e.Child = nil
	e.CreateText(s)
}

// textOf is the whole text of a leaf.
func textOf(e *etree.Element) string {
	var b strings.Builder
	for _, c := range e.Child {
		if s, ok := c.(*etree.CharData); ok {
			b.WriteString(s.Data)
		}
	}
	return b.String()
}

// spoilText changes one octet of what stands there in base64.
func spoilText(e *etree.Element) {
	octets, err := base64.StdEncoding.DecodeString(textOf(e))
	if err != nil {
		panic(err)
	}
	octets[len(octets)/2] ^= 1
	setText(e, base64.StdEncoding.EncodeToString(octets))
}
