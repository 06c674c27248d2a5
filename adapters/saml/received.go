package saml

import (
	"fmt"
	"strings"

	"github.com/beevik/etree"
)

// opaque are the elements whose text a trace leaves out: nobody reads it, and it is long.
var opaque = map[string]bool{"SignatureValue": true, "CipherValue": true, "X509Certificate": true, "DigestValue": true}

// show writes a tree for people, indented, with the texts of opaque elements replaced by their length, and cut to max bytes.
// It stops when it has enough, whatever the size of the tree.
func show(max int, trees ...*etree.Element) string {
	w := &viewer{max: max}
	for _, t := range trees {
		w.element(t, 0)
	}
	s := w.String()
	if len(s) <= max {
		return s
	}
	const cut = "\n… (cut)"
	return strings.ToValidUTF8(s[:max-len(cut)], "") + cut
}

type viewer struct {
	strings.Builder
	max int
}

func (w *viewer) element(e *etree.Element, depth int) {
	if w.Len() > w.max {
		return
	}
	if w.Len() > 0 {
		w.WriteByte('\n')
	}
	indent := strings.Repeat("  ", depth)
	w.WriteString(indent)
	w.WriteByte('<')
	w.WriteString(e.FullTag())
	for _, a := range e.Attr {
		w.WriteByte(' ')
		w.WriteString(a.FullKey())
		w.WriteString(`="`)
		escape.WriteString(w, a.Value)
		w.WriteByte('"')
	}
	text, simple := leaf(e)
	switch {
	case simple && text == "":
		w.WriteString("/>")
		return
	case simple && opaque[e.Tag]:
		fmt.Fprintf(w, ">(%d characters)", len(text))
	case simple:
		w.WriteByte('>')
		escape.WriteString(w, text)
	default:
		w.WriteByte('>')
		for _, t := range e.Child {
			switch t := t.(type) {
			case *etree.Element:
				w.element(t, depth+1)
			case *etree.CharData:
				if s := trim(t.Data); s != "" && w.Len() <= w.max {
					w.WriteString("\n" + indent + "  ")
					escape.WriteString(w, s)
				}
			}
		}
		w.WriteString("\n" + indent)
	}
	w.WriteString("</" + e.FullTag() + ">")
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")
