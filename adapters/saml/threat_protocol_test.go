package saml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// edited is what the identity provider itself signs: only what it says is wrong with it.
func edited(name string, f func(r, a *etree.Element), want ...sso.CheckName) attack {
	return attack{name: name, want: want, sign: func(o *forge.Options) { o.Edit = f }}
}

// of makes an attack one on a message that is signed in one way alone.
func (a attack) of(base func(*forge.Options)) attack {
	a.base = base
	return a
}

// What has to be there, once.
//
// SAML-101, SAML-103, SAML-105, SAML-107
func TestStructure(t *testing.T) {
	const confirmation = "./Subject/SubjectConfirmation"
	const data = confirmation + "/SubjectConfirmationData"
	dropped := func(path string, want ...sso.CheckName) attack {
		return edited("no "+path, func(_, a *etree.Element) { drop(a, path) }, want...)
	}
	doubled := func(path string) attack {
		return edited("two "+path, func(_, a *etree.Element) {
			e := at(a, path)
			e.Parent().InsertChildAt(e.Index()+1, e.Copy())
		})
	}
	without := func(path, name string, want ...sso.CheckName) attack {
		return edited("no "+name+" of "+path, func(_, a *etree.Element) { at(a, path).RemoveAttr(name) }, want...)
	}
	with := func(path, name, value string, want ...sso.CheckName) attack {
		return edited(fmt.Sprintf("%s of %s is %q", name, path, value), func(_, a *etree.Element) { at(a, path).CreateAttr(name, value) }, want...)
	}
	onResponse := func(name, value string) attack {
		return edited(fmt.Sprintf("the response's %s is %q", name, value), func(r, _ *etree.Element) { r.CreateAttr(name, value) }, sso.CheckAnswer)
	}
	all := []attack{
		dropped("./Subject"), dropped("./Conditions"), dropped("./AuthnStatement"), dropped("./Issuer", sso.CheckIssuer, sso.CheckAnswer),
		dropped(confirmation, sso.CheckRecipient), dropped(data, sso.CheckRecipient), dropped("./Conditions/AudienceRestriction", sso.CheckAudience),
		dropped("./Conditions/AudienceRestriction/Audience", sso.CheckAudience),
		doubled("./Subject"), doubled("./Conditions"), doubled("./AuthnStatement"), doubled("./Issuer"), doubled("./Subject/NameID"),
		without(data, "Recipient", sso.CheckRecipient), without(data, "NotOnOrAfter", sso.CheckTime, sso.CheckRecipient), without(confirmation, "Method", sso.CheckRecipient),
		without("./AuthnStatement", "AuthnInstant"), without(".", "IssueInstant"), without(".", "Version"),
		with(confirmation, "Method", forge.MethodHolderOfKey, sso.CheckRecipient), with(confirmation, "Method", "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches", sso.CheckRecipient),
		with(confirmation, "Method", "", sso.CheckRecipient), with(confirmation, "Method", strings.ToUpper(forge.MethodBearer), sso.CheckRecipient),
		with(".", "Version", "1.1", sso.CheckAnswer), with(".", "Version", "2.1", sso.CheckAnswer), with(".", "Version", "", sso.CheckAnswer), with(".", "Version", " 2.0", sso.CheckAnswer),
		onResponse("Version", "1.1"), onResponse("Version", "2.1"), onResponse("Version", ""), onResponse("Version", "2"),
		edited("no Version of the response", func(r, _ *etree.Element) { r.RemoveAttr("Version") }, sso.CheckAnswer),
		edited("no IssueInstant of the response", func(r, _ *etree.Element) { r.RemoveAttr("IssueInstant") }),
		edited("SAML 1.1 assertion", func(_, a *etree.Element) {
			a.CreateAttr("xmlns:saml", "urn:oasis:names:tc:SAML:1.0:assertion")
			a.CreateAttr("MajorVersion", "1")
		}),
		edited("an unknown condition", func(_, a *etree.Element) {
			attrs(at(a, "./Conditions").CreateElement("saml:Condition"), "xsi:type", "x:Never", "xmlns:x", "urn:example:unknown")
		}),
		edited("a foreign condition", func(_, a *etree.Element) {
			attrs(at(a, "./Conditions").CreateElement("x:OnlyOnSundays"), "xmlns:x", "urn:example:unknown")
		}),
		edited("an encrypted and a plain NameID", func(_, a *etree.Element) { at(a, "./Subject").CreateElement("saml:EncryptedID") }),
		edited("a BaseID", func(_, a *etree.Element) {
			n := at(a, "./Subject/NameID")
			n.Tag = "BaseID"
		}),
		edited("all confirmations are wrong", func(_, a *etree.Element) {
			c := at(a, confirmation)
			at(c, "./SubjectConfirmationData").CreateAttr("Recipient", "https://other.example/acs")
			c.Parent().AddChild(c.Copy())
		}, sso.CheckRecipient),
		// Of two, one is about another place and one is of another kind: neither is one of ours.
		edited("two confirmations, each half right", func(_, a *etree.Element) {
			c := at(a, confirmation)
			other := c.Copy()
			at(c, "./SubjectConfirmationData").CreateAttr("Recipient", "https://other.example/acs")
			other.CreateAttr("Method", forge.MethodHolderOfKey)
			c.Parent().AddChild(other)
		}, sso.CheckRecipient),
		edited("no Status", func(r, _ *etree.Element) { drop(r, "./Status") }, sso.CheckAnswer),
		edited("no StatusCode", func(r, _ *etree.Element) { drop(r, "./Status/StatusCode") }, sso.CheckAnswer),
		edited("two StatusCodes", func(r, _ *etree.Element) {
			attrs(at(r, "./Status").CreateElement("samlp:StatusCode"), "Value", forge.StatusResponder)
		}, sso.CheckAnswer),
		edited("two Statuses", func(r, _ *etree.Element) {
			s := at(r, "./Status").Copy()
			attrs(at(s, "./StatusCode"), "Value", forge.StatusResponder)
			r.AddChild(s)
		}, sso.CheckAnswer),
		edited("failed, with an assertion all the same", func(r, _ *etree.Element) { at(r, "./Status/StatusCode").CreateAttr("Value", forge.StatusResponder) }, sso.CheckAnswer),
		edited("success in lower case", func(r, _ *etree.Element) {
			at(r, "./Status/StatusCode").CreateAttr("Value", strings.ToLower(forge.StatusSuccess))
		}, sso.CheckAnswer),
		edited("success below failure", func(r, _ *etree.Element) {
			c := at(r, "./Status/StatusCode")
			attrs(c.CreateElement("samlp:StatusCode"), "Value", forge.StatusSuccess)
			c.CreateAttr("Value", forge.StatusResponder)
		}, sso.CheckAnswer),
		{name: "failed", want: answer, sign: func(o *forge.Options) { o.Status, o.StatusMessage = forge.StatusResponder, "not today" }},
		edited("no assertion", func(r, a *etree.Element) { r.RemoveChild(a) }, sso.CheckAnswer),
		edited("two assertions, both signed", func(r, a *etree.Element) {
			second := a.Copy()
			second.CreateAttr("ID", "_second")
			r.AddChild(second)
			idp().Sign(second, forge.Signing{})
		}, sso.CheckAnswer),
	}
	run(t, all)

	// What may be there besides.
	c := connection(t, idp().Metadata())
	for name, edit := range map[string]func(r, a *etree.Element){
		"OneTimeUse": func(_, a *etree.Element) { at(a, "./Conditions").CreateElement("saml:OneTimeUse") },
		"ProxyRestriction": func(_, a *etree.Element) {
			attrs(at(a, "./Conditions").CreateElement("saml:ProxyRestriction"), "Count", "0")
		},
		"Extensions": func(r, _ *etree.Element) {
			e := etree.NewElement("samlp:Extensions")
			attrs(e.CreateElement("x:Hello"), "xmlns:x", "urn:example:x")
			r.InsertChildAt(at(r, "./Status").Index(), e)
		},
		"a second confirmation of another kind": func(_, a *etree.Element) {
			second := at(a, confirmation).Copy()
			second.CreateAttr("Method", forge.MethodHolderOfKey)
			at(a, "./Subject").AddChild(second)
		},
		"a status message": func(r, _ *etree.Element) {
			at(r, "./Status").CreateElement("samlp:StatusMessage").CreateText("welcome")
		},
		"an entity format": func(_, a *etree.Element) {
			at(a, "./Issuer").CreateAttr("Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:entity")
		},
		"lines between": func(r, a *etree.Element) {
			r.InsertChildAt(0, etree.NewText("\n  "))
			a.InsertChildAt(0, etree.NewText("\n    "))
			a.CreateText("\n  ")
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			o.Edit = edit
			accept(t, c, arrival(forge.Encode(idp().Response(o))))
		})
	}
}

func attrs(e *etree.Element, pairs ...string) *etree.Element {
	for i := 0; i < len(pairs); i += 2 {
		e.CreateAttr(pairs[i], pairs[i+1])
	}
	return e
}

// variants are near misses of a name that is compared to the octet.
func variants(s string) map[string]string {
	return map[string]string{
		"case": strings.ToUpper(s[:12]) + s[12:], "slash": s + "/", "prefix": s[:len(s)-1], "suffix": s + ".evil.example", "query": s + "?a=b", "fragment": s + "#a", "http": strings.Replace(s, "https:", "http:", 1),
		"port": strings.Replace(s, ".example", ".example:443", 1), "dot": strings.Replace(s, ".example", ".example.", 1), "userinfo": strings.Replace(s, "//", "//evil@", 1), "empty": "", "escape": strings.Replace(s, "e", "%65", 1),
		"other": "https://evil.example", "space within": s[:12] + " " + s[12:], "homoglyph": strings.Replace(s, "e", "\u0435", 1), "twice": s + " " + s, "path": s + "/../x",
	}
}

// Who it is of, whom it is for, and where it was sent.
//
// SAML-109, SAML-111, SAML-113
func TestNames(t *testing.T) {
	var all []attack
	for name, v := range variants(idp().EntityID) {
		all = append(all,
			edited("assertion's issuer: "+name, func(_, a *etree.Element) { setText(at(a, "./Issuer"), v) }, sso.CheckIssuer),
			edited("assertion's issuer alone signed: "+name, func(_, a *etree.Element) { setText(at(a, "./Issuer"), v) }, sso.CheckIssuer).of(assertionSigned),
			edited("response's issuer: "+name, func(r, _ *etree.Element) { setText(at(r, "./Issuer"), v) }, sso.CheckIssuer),
			edited("response's issuer, unsigned: "+name, func(r, _ *etree.Element) { setText(at(r, "./Issuer"), v) }, sso.CheckIssuer).of(assertionSigned),
		)
	}
	all = append(all,
		edited("no issuer of a signed response", func(r, _ *etree.Element) { drop(r, "./Issuer") }, sso.CheckIssuer, sso.CheckAnswer, sso.CheckSignature).of(responseSigned),
		edited("two issuers of the response", func(r, _ *etree.Element) { r.InsertChildAt(0, at(r, "./Issuer").Copy()) }, sso.CheckIssuer, sso.CheckAnswer, sso.CheckSignature),
	)
	audience := func(a *etree.Element) *etree.Element { return at(a, "./Conditions/AudienceRestriction") }
	for name, v := range variants(entityID) {
		all = append(all,
			edited("audience: "+name, func(_, a *etree.Element) { setText(at(audience(a), "./Audience"), v) }, sso.CheckAudience),
			edited("a second restriction: "+name, func(_, a *etree.Element) {
				second := audience(a).Copy()
				setText(at(second, "./Audience"), v)
				at(a, "./Conditions").AddChild(second)
			}, sso.CheckAudience),
			edited("a first restriction: "+name, func(_, a *etree.Element) {
				first := audience(a).Copy()
				setText(at(first, "./Audience"), v)
				at(a, "./Conditions").InsertChildAt(0, first)
			}, sso.CheckAudience),
		)
	}
	all = append(all, edited("an empty restriction besides", func(_, a *etree.Element) { at(a, "./Conditions").CreateElement("saml:AudienceRestriction") }, sso.CheckAudience))
	for name, v := range variants(acs) {
		all = append(all,
			edited("destination: "+name, func(r, _ *etree.Element) { r.CreateAttr("Destination", v) }, sso.CheckDestination),
			edited("destination, unsigned: "+name, func(r, _ *etree.Element) { r.CreateAttr("Destination", v) }, sso.CheckDestination).of(assertionSigned),
			edited("recipient: "+name, func(_, a *etree.Element) { at(a, ".//SubjectConfirmationData").CreateAttr("Recipient", v) }, sso.CheckRecipient),
		)
	}
	all = append(all, edited("no destination of a signed response", func(r, _ *etree.Element) { r.RemoveAttr("Destination") }, sso.CheckDestination).of(responseSigned))
	run(t, all)

	c := connection(t, idp().Metadata())
	for name, edit := range map[string]func(r, a *etree.Element){
		"space around the issuers": func(r, a *etree.Element) { // as the requirement's own sample has it
			setText(at(r, "./Issuer"), idp().EntityID+"\n    ")
			setText(at(a, "./Issuer"), "\n "+idp().EntityID+"\t")
		},
		"two audiences in one restriction": func(_, a *etree.Element) {
			audience(a).InsertChildAt(0, at(audience(a), "./Audience").Copy())
			setText(at(audience(a), "./Audience"), "https://other.example")
		},
		"two restrictions with ours in both": func(_, a *etree.Element) { at(a, "./Conditions").AddChild(audience(a).Copy()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			o.Edit = edit
			accept(t, c, arrival(forge.Encode(idp().Response(o))))
		})
	}
}

// How it arrives.
func TestParams(t *testing.T) {
	run(t, []attack{
		{name: "nothing", come: func(a *sso.Arrival) { a.Params = nil }, want: answer},
		{name: "no response", come: func(a *sso.Arrival) { delete(a.Params, "SAMLResponse") }, want: answer},
		{name: "another case", come: func(a *sso.Arrival) { a.Params = map[string]string{"samlresponse": a.Params["SAMLResponse"]} }, want: answer},
		{name: "a request", come: func(a *sso.Arrival) { a.Params = map[string]string{"SAMLRequest": a.Params["SAMLResponse"]} }, want: answer},
		{name: "an artifact", come: func(a *sso.Arrival) { a.Params = map[string]string{"SAMLart": a.Params["SAMLResponse"]} }, want: answer},
	})
}

// Logging out by SAML is not offered, so nothing that asks for it or answers it does anything.
//
// SAML-149
func TestLogout(t *testing.T) {
	var all []attack
	for _, root := range []string{"LogoutRequest", "LogoutResponse", "AuthnRequest", "ArtifactResponse", "ManageNameIDResponse", "AttributeQuery"} {
		for _, way := range []string{"response signed", "assertion signed"} {
			all = append(all, attack{name: root + ", " + way, base: ways[way], want: answer, sign: func(o *forge.Options) { o.Edit = func(r, _ *etree.Element) { r.Tag = root } }})
		}
	}
	run(t, all)
}
