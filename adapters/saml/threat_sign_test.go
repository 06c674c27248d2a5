package saml_test

import (
	"encoding/base64"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

var signature = []sso.CheckName{sso.CheckSignature, sso.CheckAnswer}

// signed is an attack on both signatures, by what the identity provider itself signs.
func signed(name string, change func(*forge.Signing)) []attack {
	var all []attack
	for way, base := range ways {
		all = append(all, attack{name: name + ", " + way, base: base, want: signature, sign: func(o *forge.Options) { change(&o.Signing) }})
	}
	return all
}

// What the Reference refers to: the element that holds the signature, by its ID, and nothing else. The attacks are signed by
// the identity provider, so that only what they refer to is wrong with them.
//
// SAML-017, SAML-019, SAML-039
func TestReference(t *testing.T) {
	outside := listener(t)
	var all []attack
	for name, uri := range map[string]string{
		"empty": "", "hash alone": "#", "unknown": "#_unknown", "no hash": "ID", "xpointer root": "#xpointer(/)", "xpointer id": "#xpointer(id('_a'))",
		"http": outside + "/doc.xml", "http with fragment": outside + "/doc.xml#_a", "file": "file:///etc/passwd", "relative": "doc.xml", "parent": "../doc.xml",
		"cid": "cid:part", "two hashes": "##_a", "space": "# _a", "data": "data:text/xml,<a/>",
	} {
		all = append(all, signed("URI "+name, func(s *forge.Signing) { s.URI = &uri })...)
	}
	reference := func(info *etree.Element) *etree.Element { return at(info, "./Reference") }
	for name, edit := range map[string]func(info *etree.Element){
		"no Reference":      func(info *etree.Element) { info.RemoveChild(reference(info)) },
		"no URI":            func(info *etree.Element) { reference(info).RemoveAttr("URI") },
		"uri in lower case": func(info *etree.Element) { r := reference(info); r.CreateAttr("uri", r.RemoveAttr("URI").Value) },
		"two References":    func(info *etree.Element) { info.AddChild(reference(info).Copy()) },
		"1000 References":   func(info *etree.Element) { many(info, reference(info), 1000) },
		"another Reference last": func(info *etree.Element) {
			r := reference(info).Copy()
			r.CreateAttr("URI", "#_other")
			info.AddChild(r)
		},
		"another Reference first": func(info *etree.Element) {
			r := reference(info).Copy()
			r.CreateAttr("URI", "#_other")
			info.InsertChildAt(reference(info).Index(), r)
		},
		"Reference to a Manifest": func(info *etree.Element) { reference(info).CreateAttr("Type", forge.NSSignature+"Manifest") },
		"Reference in another namespace": func(info *etree.Element) {
			r := reference(info)
			r.Space = "f"
			r.CreateAttr("xmlns:f", "urn:example:foreign")
		},
		"no DigestMethod": func(info *etree.Element) { drop(info, "./Reference/DigestMethod") },
		"no DigestValue":  func(info *etree.Element) { drop(info, "./Reference/DigestValue") },
		"no Algorithm":    func(info *etree.Element) { at(info, "./SignatureMethod").RemoveAttr("Algorithm") },
	} {
		all = append(all, signed(name, func(s *forge.Signing) { s.EditInfo = edit })...)
	}
	// The element has no ID to be referred to by.
	hash := "#"
	all = append(all, attack{name: "hash alone, and no ID", base: assertionSigned, want: signature, sign: func(o *forge.Options) {
		o.Signing.URI = &hash
		o.Edit = func(_, a *etree.Element) { a.RemoveAttr("ID") }
	}})
	// A Manifest refers to the rest: core validation does not look at it (XML Signature §5.1).
	all = append(all, attack{name: "Manifest", base: assertionSigned, want: signature, tree: func(d *etree.Document) {
		s := at(d, "/Response/Assertion/Signature")
		object := s.CreateElement("ds:Object")
		manifest := object.CreateElement("ds:Manifest")
		manifest.CreateAttr("Id", "m")
		manifest.AddChild(at(s, "./SignedInfo/Reference").Copy())
		setText(at(d, "/Response/Assertion/Subject/NameID"), forge.Evil)
	}})
	run(t, all)
}

// Only exclusive canonicalization without comments, and exactly the two transforms, in their order.
//
// SAML-033, SAML-035, SAML-037
func TestTransforms(t *testing.T) {
	var all []attack
	other := []string{forge.C14NExclusiveComments, forge.C14N11, forge.C14N11Comments, forge.C14N10, forge.C14N10Comments}
	for _, form := range other {
		all = append(all, signed("CanonicalizationMethod "+form, func(s *forge.Signing) { s.C14N = form })...)
		all = append(all, signed("Transform "+form, func(s *forge.Signing) { s.Transforms = []string{forge.Enveloped, form} })...)
	}
	const xpath, xslt = "http://www.w3.org/TR/1999/REC-xpath-19991116", "http://www.w3.org/TR/1999/REC-xslt-19991116"
	for name, list := range map[string][]string{
		"none": {}, "enveloped alone": {forge.Enveloped}, "canonical alone": {forge.C14NExclusive},
		"the other order": {forge.C14NExclusive, forge.Enveloped},
		"three":           {forge.Enveloped, forge.C14NExclusive, forge.C14NExclusive},
		// goxmldsig removes with the second one what stands after the signature: the Subject.
		"enveloped twice":      {forge.Enveloped, forge.Enveloped, forge.C14NExclusive},
		"enveloped thrice":     {forge.Enveloped, forge.Enveloped, forge.Enveloped, forge.C14NExclusive},
		"two canonical forms":  {forge.Enveloped, forge.C14NExclusiveComments, forge.C14NExclusive},
		"XPath":                {forge.Enveloped, xpath, forge.C14NExclusive},
		"XPath alone":          {xpath},
		"XPath filter 2":       {"http://www.w3.org/2002/06/xmldsig-filter2"},
		"XSLT":                 {forge.Enveloped, xslt},
		"base64":               {forge.NSSignature + "base64"},
		"decryption":           {"http://www.w3.org/2002/07/decrypt#XML", forge.Enveloped, forge.C14NExclusive},
		"empty":                {""},
		"STR transform":        {"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#STR-Transform"},
		"1000 canonicalizings": append([]string{forge.Enveloped}, repeat(forge.C14NExclusive, 1000)...),
	} {
		all = append(all, signed("transforms: "+name, func(s *forge.Signing) { s.Transforms = list })...)
	}
	for name, edit := range map[string]func(info *etree.Element){
		"no Transforms element": func(info *etree.Element) { drop(info, "./Reference/Transforms") },
		"two Transforms elements": func(info *etree.Element) {
			e := at(info, "./Reference/Transforms")
			e.Parent().InsertChildAt(e.Index()+1, e.Copy())
		},
		"XPath inside the canonicalization": func(info *etree.Element) {
			setText(at(info, "./Reference/Transforms").ChildElements()[1].CreateElement("ds:XPath"), "/none")
		},
		"no CanonicalizationMethod": func(info *etree.Element) { drop(info, "./CanonicalizationMethod") },
		"no SignatureMethod":        func(info *etree.Element) { drop(info, "./SignatureMethod") },
		"truncated by HMACOutputLength": func(info *etree.Element) {
			setText(at(info, "./SignatureMethod").CreateElement("ds:HMACOutputLength"), "8")
		},
	} {
		all = append(all, signed(name, func(s *forge.Signing) { s.EditInfo = edit })...)
	}
	run(t, all)
}

// Okta's form: the canonicalization includes a prefix by name. It is no attack.
func TestInclusivePrefixes(t *testing.T) {
	c := connection(t, idp().Metadata())
	for way, base := range ways {
		o := options()
		base(&o)
		o.Signing.Prefixes = "xs"
		t.Run(way, func(t *testing.T) {
			message := idp().Response(o)
			accept(t, c, arrival(forge.Encode(message)))
			refuse(t, c, arrival(forge.Encode(replaced(`PrefixList="xs"`, `PrefixList="xsi"`)(message))), sso.CheckSignature)
		})
	}
}

// The values of digests and signatures: whole, of the right length, and with nothing between. Comments fall out of the canonical
// form, so one can be put in after the signing.
//
// SAML-031
func TestValues(t *testing.T) {
	var all []attack
	for _, path := range []string{"/Response/Signature", "/Response/Assertion/Signature"} {
		base := assertionSigned
		if path == "/Response/Signature" {
			base = responseSigned
		}
		for _, part := range []string{"/SignedInfo/Reference/DigestValue", "/SignatureValue"} {
			for name, change := range map[string]func(e *etree.Element){
				"empty":   func(e *etree.Element) { e.Child = nil },
				"short":   func(e *etree.Element) { setText(e, textOf(e)[:4]) },
				"long":    func(e *etree.Element) { setText(e, "AAAA"+textOf(e)) },
				"zero":    func(e *etree.Element) { setText(e, base64.StdEncoding.EncodeToString(make([]byte, 256))) },
				"one bit": spoilText,
				"garbage": func(e *etree.Element) { setText(e, "%%%%") },
				"twice":   func(e *etree.Element) { setText(e, textOf(e)+textOf(e)) },
				"comment inside": func(e *etree.Element) {
					s := textOf(e)
					e.Child = nil
					e.CreateText(s[:8])
					e.CreateComment("x")
					e.CreateText(s[8:])
				},
				"comment in front": func(e *etree.Element) { e.InsertChildAt(0, etree.NewComment("AAAA")) },
				"child in front":   func(e *etree.Element) { e.InsertChildAt(0, etree.NewElement("x")) },
				"child behind":     func(e *etree.Element) { e.CreateElement("x") },
				"instruction":      func(e *etree.Element) { e.CreateProcInst("x", "y") },
			} {
				all = append(all, attack{name: path + part + " " + name, base: base, want: signature, tree: func(d *etree.Document) { change(at(d, path+part)) }})
			}
			all = append(all, attack{name: path + part + " missing", base: base, want: signature, tree: func(d *etree.Document) { drop(d.Root(), path+part) }})
		}
		all = append(all,
			attack{name: path + " without SignedInfo", base: base, want: signature, tree: func(d *etree.Document) { drop(d.Root(), path+"/SignedInfo") }},
			attack{name: path + " empty", base: base, want: signature, tree: func(d *etree.Document) { at(d, path).Child = nil }},
			attack{name: path + " with an Object", base: base, want: signature, tree: func(d *etree.Document) { at(d, path).CreateElement("ds:Object").CreateText("x") }},
			attack{name: path + " with an unknown child", base: base, want: signature, tree: func(d *etree.Document) { at(d, path).CreateElement("x") }},
			attack{name: path + " in another namespace", base: base, want: signature, tree: func(d *etree.Document) {
				s := at(d, path)
				s.CreateAttr("xmlns:ds", "http://www.w3.org/2000/09/xmldsig")
			}},
		)
	}
	run(t, all)

	// The lines of a value may be broken: Java's and PHP's libraries do so.
	c := connection(t, idp().Metadata())
	o := options()
	o.SignAssertion = true
	d := idp().Document(o)
	value := at(d, "/Response/Assertion/Signature/SignatureValue")
	s := textOf(value)
	setText(value, "\n"+s[:76]+"\n"+s[76:152]+"\n"+s[152:]+"\n")
	accept(t, c, arrival(forge.Encode(forge.Bytes(d))))
}

// Nothing is taken that nobody signed, whatever the metadata says about what is to be signed.
//
// SAML-051
func TestUnsigned(t *testing.T) {
	unsigned := func(o *forge.Options) { o.SignResponse, o.SignAssertion = false, false }
	lax := func(c *sso.Connection) {
		*c = connection(t, idp().MetadataWith(forge.MetadataOptions{Edit: func(_, role *etree.Element) {
			role.CreateAttr("WantAuthnRequestsSigned", "false")
			role.CreateAttr("WantAssertionsSigned", "false")
		}}))
	}
	run(t, []attack{
		{name: "unsigned", sign: unsigned, want: signature},
		{name: "unsigned, and the metadata is content", conn: lax, sign: unsigned, want: signature},
		{name: "signatures removed", want: signature, tree: func(d *etree.Document) {
			drop(d.Root(), "/Response/Signature")
			drop(d.Root(), "/Response/Assertion/Signature")
		}},
		{name: "changed after the signing, response", base: responseSigned, want: signature, tree: func(d *etree.Document) { setText(at(d, "//NameID"), forge.Evil) }},
		{name: "changed after the signing, assertion", base: assertionSigned, want: signature, tree: func(d *etree.Document) { setText(at(d, "//NameID"), forge.Evil) }},
		{name: "an attribute added", base: assertionSigned, want: signature, tree: func(d *etree.Document) {
			e := at(d, "//Attribute")
			e.Parent().AddChild(e.Copy())
		}},
		{name: "space added", base: assertionSigned, want: signature, tree: func(d *etree.Document) { at(d, "/Response/Assertion").CreateText("\n") }},
	})
}

// valid are options with both signatures.
func valid() forge.Options {
	o := options()
	o.SignResponse, o.SignAssertion = true, true
	return o
}

func drop(e *etree.Element, path string) {
	found := at(e, path)
	found.Parent().RemoveChild(found)
}

func many(parent, e *etree.Element, n int) {
	for range n {
		parent.AddChild(e.Copy())
	}
}

func many1000(certificate []byte) [][]byte {
	// Small ones, or the message as a whole would be too large.
	list := [][]byte{certificate}
	for range 1000 {
		list = append(list, []byte{0x30, 0})
	}
	return list
}

func repeat(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}
