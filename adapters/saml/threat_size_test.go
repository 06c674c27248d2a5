package saml_test

import (
	"bytes"
	"compress/flate"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Documents that are wide, deep or long. finish bounds the memory of each.
//
// SAML-073, SAML-089
func TestSize(t *testing.T) {
	numbered := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	inStatus := func(s string) func([]byte) []byte { return replaced("</samlp:Status>", s+"</samlp:Status>") }
	onStatus := func(s string) func([]byte) []byte { return replaced("<samlp:Status>", "<samlp:Status "+s+">") }
	mild := []string{"200 KiB of entities", "a name of 200 KiB", "800 elements, 15 namespaces each", "a namespace of 100 KiB, used often"}
	var all []attack
	for name, f := range map[string]func([]byte) []byte{
		"20 000 namespaces":                  onStatus(numbered(` xmlns:n%d="urn:x"`, 20_000)),
		"8 000 namespaces":                   onStatus(numbered(` xmlns:n%d="u"`, 8_000)),
		"100 000 attributes":                 onStatus(numbered(` a%d=""`, 100_000)),
		"20 000 attributes":                  onStatus(numbered(` a%d=""`, 20_000)),
		"65 attributes":                      onStatus(numbered(` a%d=""`, 65)),
		"10 MiB of text":                     inStatus(strings.Repeat("a", 10<<20)),
		"10 MiB of spaces":                   inStatus(strings.Repeat(" ", 10<<20)),
		"200 KiB of entities":                inStatus(strings.Repeat("&#97;", 50<<10)),
		"10 000 deep":                        inStatus(strings.Repeat("<a>", 10_000) + strings.Repeat("</a>", 10_000)),
		"1 000 000 deep, open":               inStatus(strings.Repeat("<a>", 1_000_000)),
		"100 000 elements":                   inStatus(strings.Repeat("<a/>", 100_000)),
		"50 000 elements":                    inStatus(strings.Repeat("<a/>", 50_000)),
		"a name of 200 KiB":                  inStatus("<" + strings.Repeat("a", 200<<10) + "/>"),
		"a prefix of 200 KiB":                inStatus("<" + strings.Repeat("a", 200<<10) + `:b xmlns:` + strings.Repeat("a", 200<<10) + `="u"/>`),
		"an attribute of 1 MiB":              onStatus(`a="` + strings.Repeat("a", 1<<20) + `"`),
		"20 000 comments":                    inStatus(strings.Repeat("<!---->", 20_000)),
		"20 000 instructions":                inStatus(strings.Repeat("<?a?>", 20_000)),
		"30 deep, 60 namespaces each":        inStatus(strings.Repeat("<a"+numbered(` xmlns:n%d="u"`, 60)+">", 30) + strings.Repeat("</a>", 30)),
		"800 elements, 15 namespaces each":   inStatus(strings.Repeat("<a"+numbered(` xmlns:n%d="u"`, 15)+"/>", 800)),
		"a namespace of 100 KiB, used often": inStatus(`<p:a xmlns:p="` + strings.Repeat("u", 100<<10) + `">` + strings.Repeat("<p:a/>", 1_000) + "</p:a>"),
		"1 000 signatures": func(m []byte) []byte {
			d := forge.Parse(m)
			s := at(d, "/Response/Assertion/Signature")
			for _, e := range []string{"SignedInfo", "KeyInfo"} {
				drop(s, "./"+e)
			}
			many(s.Parent(), s, 500)
			return forge.Bytes(d)
		},
		"300 assertions": func(m []byte) []byte {
			d := forge.Parse(m)
			a := at(d, "/Response/Assertion").Copy()
			a.Child = a.Child[:1]
			many(d.Root(), a, 300)
			return forge.Bytes(d)
		},
		"100 objects in the signature": func(m []byte) []byte {
			d := forge.Parse(m)
			object := etree.NewElement("ds:Object")
			object.CreateText(strings.Repeat("a", 1000))
			many(at(d, "/Response/Assertion/Signature"), object, 100)
			return forge.Bytes(d)
		},
	} {
		// What is below our limits costs little, and where nobody looks it does no harm.
		all = append(all, attack{name: name, base: assertionSigned, wire: f, mild: slices.Contains(mild, name)})
	}
	for name, sign := range map[string]func(o *forge.Options){
		"a NameID of 1 MiB":       func(o *forge.Options) { o.NameID = strings.Repeat("a", 1<<20) },
		"10 000 groups":           func(o *forge.Options) { o.Attributes[1].Values = repeat("group-of-some-length", 10_000) },
		"a group of 1 MiB":        func(o *forge.Options) { o.Attributes[1].Values = []string{strings.Repeat("g", 1<<20)} },
		"5 000 attributes":        func(o *forge.Options) { o.Attributes = manyAttributes(5_000) },
		"an attribute of 300 KiB": func(o *forge.Options) { o.Attributes[2].Values = []string{strings.Repeat("a", 300<<10)} },
	} {
		all = append(all, attack{name: name, sign: sign})
	}
	run(t, all)

	// As large as the requirement asks for: 500 groups.
	c := connection(t, idp().Metadata())
	o := valid()
	o.Attributes[1].Values = nil
	for i := range 500 {
		o.Attributes[1].Values = append(o.Attributes[1].Values, fmt.Sprintf("department-%d-of-the-company", i))
	}
	if got := accept(t, c, arrival(forge.Encode(idp().Response(o)))); len(got.Attributes["GROUPS"].([]any)) != 500 {
		t.Errorf("%d groups", len(got.Attributes["GROUPS"].([]any)))
	}
}

// The form field: standard base64, with line ends, and nothing else.
//
// SAML-091
func TestBase64(t *testing.T) {
	deflated := func(string) string {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, 9)
		_, _ = w.Write(idp().Response(valid()))
		_ = w.Close()
		return base64.StdEncoding.EncodeToString(b.Bytes())
	}
	var all []attack
	for name, f := range map[string]func(string) string{
		"empty":                  func(string) string { return "" },
		"a space within":         func(s string) string { return s[:40] + " " + s[40:] },
		"a space in front":       func(s string) string { return " " + s },
		"a tab":                  func(s string) string { return s[:40] + "\t" + s[40:] },
		"a NUL":                  func(s string) string { return s[:40] + "\x00" + s[40:] },
		"a form feed":            func(s string) string { return s[:40] + "\f" + s[40:] },
		"a no-break space":       func(s string) string { return s[:40] + "\u00a0" + s[40:] },
		"escapes":                func(s string) string { return url.QueryEscape(s + "==") },
		"escaped line ends":      func(s string) string { return s[:40] + "%0D%0A" + s[40:] },
		"trailing data":          func(s string) string { return s + "AAAA" },
		"trailing junk":          func(s string) string { return s + "!" },
		"padding in the middle":  func(s string) string { return s[:40] + "==" + s[40:] },
		"two values":             func(s string) string { return s + "," + s },
		"twice":                  func(s string) string { return s + s },
		"encoded twice":          func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"as it is":               func(string) string { return string(idp().Response(valid())) },
		"deflated":               deflated,
		"a data URL":             func(s string) string { return "data:;base64," + s },
		"4 MiB":                  func(string) string { return strings.Repeat("A", 4<<20) },
		"another alphabet digit": func(s string) string { return s[:40] + "-_" + s[42:] },
	} {
		all = append(all, attack{name: name, post: f, want: answer})
	}
	all = append(all, attack{name: "4 MiB of line ends", mild: true, post: func(s string) string { return s + strings.Repeat("\n", 4<<20) }})
	run(t, all)

	// The rest depends on the length of the message, and on octets that are written with the last two digits.
	c := connection(t, idp().Metadata())
	for pad := range 3 {
		o := valid()
		o.Attributes[2].Values = []string{"Zoë ÿÿÿ¿¿¿ÿ???>>>" + strings.Repeat("a", pad)}
		message := idp().Response(o)
		posted := forge.Encode(message)
		accept(t, c, arrival(posted))
		for name, form := range map[string]string{
			"URL alphabet": base64.URLEncoding.EncodeToString(message), "URL alphabet, no padding": base64.RawURLEncoding.EncodeToString(message), "no padding": base64.RawStdEncoding.EncodeToString(message),
			"half the padding": strings.TrimSuffix(posted, "="), "more padding": posted + "=", "non-canonical": noncanonical(posted),
		} {
			if form == posted {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d", name, len(message)%3), func(t *testing.T) { refuse(t, c, arrival(form), sso.CheckAnswer) })
		}
		for _, end := range []string{"\n", "\r\n", "\r"} {
			var b strings.Builder
			for i := 0; i < len(posted); i += 76 {
				b.WriteString(posted[i:min(i+76, len(posted))] + end)
			}
			accept(t, c, arrival(b.String()))
		}
	}
}

// noncanonical sets a bit that the padding makes meaningless (RFC 4648 §3.5).
func noncanonical(s string) string {
	trimmed := strings.TrimRight(s, "=")
	if trimmed == s {
		return s
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.IndexByte(digits, trimmed[len(trimmed)-1])
	return trimmed[:len(trimmed)-1] + digits[last+1:last+2] + strings.Repeat("=", len(s)-len(trimmed))
}

// However many certificates a connection has, what a stranger sends is written out for one of them only: finish bounds the
// memory. The one document is signed with a key that nobody knows, the other bears the signatures of a good one. SAML-073
func TestManyCertificates(t *testing.T) {
	certificates := make([]*x509.Certificate, 20)
	for i := range certificates {
		certificates[i] = forge.SelfSigned(idp().Key, fmt.Sprint(i), now.AddDate(0, 0, -1), now.AddDate(1, 0, 0))
	}
	c := connection(t, idp().MetadataWith(forge.MetadataOptions{Certificates: certificates}))
	o := options()
	bothSigned(&o)
	o.Attributes = nil
	for i := range 100 {
		o.Attributes = append(o.Attributes, forge.Attribute{Name: fmt.Sprintf("a%d", i), Values: repeat("a value", 28)})
	}
	good := idp().Response(o)
	accept(t, c, arrival(forge.Encode(good)))
	if len(good) < 200<<10 {
		t.Fatalf("%d bytes are not many", len(good))
	}
	o.Issuer = idp().EntityID
	refuse(t, c, arrival(forge.Encode(attacker().Response(o))), sso.CheckSignature)
	refuse(t, c, arrival(forge.Encode(bytes.ReplaceAll(good, []byte("a value"), []byte("a VALUE")))), sso.CheckSignature)
	// Nor is what it names as its certificates read for each of ours.
	named := valid()
	named.Signing.Certificates = [][]byte{bytes.Repeat([]byte("x"), 60<<10), idp().Certificate.Raw}
	accept(t, c, arrival(forge.Encode(idp().Response(named))))
	named.Issuer = idp().EntityID
	refuse(t, c, arrival(forge.Encode(attacker().Response(named))), sso.CheckSignature)
}

func manyAttributes(n int) []forge.Attribute {
	list := make([]forge.Attribute, n)
	for i := range list {
		list[i] = forge.Attribute{Name: fmt.Sprintf("a%d", i), Values: []string{"v"}}
	}
	return list
}
