package saml_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Whom it is about.
//
// SAML-133
func TestNameID(t *testing.T) {
	subject := []sso.CheckName{sso.CheckSubject, sso.CheckAnswer}
	var all []attack
	for name, id := range map[string]string{
		"empty": "", "a space": " ", "spaces": " \t\n ", "a no-break space": "\u00a0", "257 long": strings.Repeat("a", 257), "10 000 long": strings.Repeat("a", 10_000),
		"turned around": "ada\u202eelpmaxe", "no width": "a\u200bda", "BOM": "a\ufeffda", "joiner": "a\u200dda", "line": "a\nda", "tab": "a\tda", "soft hyphen": "a\u00adda", "line separator": "a\u2028da",
		"private use": "a\ue000da", "tag": "a\U000e0041da", "isolate": "a\u2066da",
	} {
		all = append(all, attack{name: name, want: subject, sign: func(o *forge.Options) { o.NameID = id }})
	}
	run(t, all)

	// Of another format it is only shown, so its length and how it is composed are no reason to refuse anybody. What could be
	// taken for something else on a screen still is.
	for name, tt := range map[string]struct {
		id string
		ok bool
	}{
		"a distinguished name": {"CN=" + strings.Repeat("a", 300) + ",O=Acme", true}, "decomposed": {"zoe\u0308@acme.example", true}, "an e-mail": {"ada@acme.example", true}, "empty": {"", false},
		"turned around": {"ada\u202eelpmaxe" + strings.Repeat("a", 300), false}, "a control": {"a\u0085da", false}, "spaces": {"  ", false}, "no width": {"a\u200bda", false},
	} {
		for _, format := range []string{forge.FormatEmail, forge.FormatUnspecified, forge.FormatTransient} {
			t.Run(name+", "+format, func(t *testing.T) {
				o := valid()
				o.NameID, o.NameIDFormat = tt.id, format
				c := connection(t, idp().Metadata())
				if !tt.ok {
					refuse(t, c, arrival(forge.Encode(idp().Response(o))), subject...)
					return
				}
				if got := accept(t, c, arrival(forge.Encode(idp().Response(o)))); got.Subject != "" {
					t.Errorf("known by %q", got.Subject)
				}
			})
		}
	}

	c := connection(t, idp().Metadata())
	said := func(id string) string {
		o := valid()
		o.NameID = id
		got, _, err := finish(t, c, arrival(forge.Encode(idp().Response(o))))
		if err != nil {
			return "REFUSED"
		}
		return got.Subject
	}
	for id, want := range map[string]string{"\n  ada \n": "ada", "Ada": "Ada", "zoë": "zoë", strings.Repeat("a", 256): strings.Repeat("a", 256), "\u0430da": "\u0430da", "a b": "a b"} {
		if got := said(id); got != want {
			t.Errorf("%q is read as %q", id, got)
		}
	}
	// Two ways to write one name are one, or one of them is refused.
	if composed, decomposed := said("zo\u00eb"), said("zoe\u0308"); decomposed != composed && decomposed != "REFUSED" {
		t.Errorf("%q and %q are two people", composed, decomposed)
	}
}

// What is said about them. What core/sso makes of the values is its affair; here they are all there, or none.
//
// SAML-135, SAML-137, SAML-139
func TestAttributes(t *testing.T) {
	c := connection(t, idp().Metadata())
	accept(t, c, arrival(forge.Encode(idp().Response(valid()))))
	for name, tt := range map[string]struct {
		attributes []forge.Attribute
		want       map[string]any
	}{
		"email twice":          {[]forge.Attribute{{Name: "email", Values: []string{"a@acme.example"}}, {Name: "email", Values: []string{"b@acme.example"}}}, map[string]any{"email": []any{"a@acme.example", "b@acme.example"}}},
		"two e-mails":          {[]forge.Attribute{{Name: "email", Values: []string{"a@acme.example", "b@acme.example"}}}, map[string]any{"email": []any{"a@acme.example", "b@acme.example"}}},
		"several @":            {[]forge.Attribute{{Name: "email", Values: []string{`"x"@evil@acme.example`}}}, map[string]any{"email": []any{`"x"@evil@acme.example`}}},
		"a list in a string":   {[]forge.Attribute{{Name: "GROUPS", Values: []string{`["a","b"]`, "a,b", "a;b", "a b"}}}, map[string]any{"GROUPS": []any{`["a","b"]`, "a,b", "a;b", "a b"}}},
		"HTML, CSV and ANSI":   {[]forge.Attribute{{Name: "firstName", Values: []string{`<script>alert(1)</script>`, `=cmd|'/c calc'!A1`, `{{7*7}}`}}}, map[string]any{"firstName": []any{`<script>alert(1)</script>`, `=cmd|'/c calc'!A1`, `{{7*7}}`}}},
		"case of a name":       {[]forge.Attribute{{Name: "Email", Values: []string{"a@acme.example"}}}, map[string]any{"Email": []any{"a@acme.example"}}},
		"reserved group":       {[]forge.Attribute{{Name: "GROUPS", Values: []string{"system:masters"}}}, map[string]any{"GROUPS": []any{"system:masters"}}},
		"no value":             {[]forge.Attribute{{Name: "email"}, {Name: "x", Values: []string{""}}}, nil},
		"a name like a member": {[]forge.Attribute{{Name: "__proto__", Values: []string{"x"}}}, map[string]any{"__proto__": []any{"x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			o.Attributes = tt.attributes
			got, _, err := finish(t, c, arrival(forge.Encode(idp().Response(o))))
			if err == nil && tt.want != nil && !reflect.DeepEqual(got.Attributes, tt.want) {
				t.Errorf("got %v", got.Attributes)
			}
		})
	}

	// A friendly name is for people; a second statement and an unknown value are no way around.
	for name, edit := range map[string]func(a *etree.Element){
		"FriendlyName": func(a *etree.Element) {
			e := at(a, "./AttributeStatement").CreateElement("saml:Attribute")
			attrs(e, "Name", "urn:oid:1.2.3", "FriendlyName", "email").CreateElement("saml:AttributeValue").CreateText(forge.Evil)
		},
		"a value's element": func(a *etree.Element) {
			e := at(a, "./AttributeStatement").CreateElement("saml:Attribute")
			attrs(e, "Name", "other").CreateElement("saml:AttributeValue").CreateElement("saml:Attribute").CreateAttr("Name", "email")
		},
		"an attribute in the wrong place": func(a *etree.Element) {
			e := at(a, "./AuthnStatement").CreateElement("saml:Attribute")
			attrs(e, "Name", "email").CreateElement("saml:AttributeValue").CreateText(forge.Evil)
		},
		"an attribute beside the statement": func(a *etree.Element) {
			attrs(a.CreateElement("saml:Attribute"), "Name", "email").CreateElement("saml:AttributeValue").CreateText(forge.Evil)
		},
		"a foreign value": func(a *etree.Element) {
			attrs(at(a, "./AttributeStatement/Attribute").CreateElement("x:AttributeValue"), "xmlns:x", "urn:example:x").CreateText(forge.Evil)
		},
		"a NameID in a value": func(a *etree.Element) {
			e := attrs(at(a, "./AttributeStatement").CreateElement("saml:Attribute"), "Name", "eduPersonTargetedID")
			e.CreateElement("saml:AttributeValue").CreateElement("saml:NameID").CreateText(forge.Evil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			o.Edit = func(_, a *etree.Element) { edit(a) }
			inert(t, c, arrival(forge.Encode(idp().Response(o))))
		})
	}
}
