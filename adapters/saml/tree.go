package saml

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/beevik/etree"
)

// The namespaces that are understood.
const (
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	nsEncrypt   = "http://www.w3.org/2001/04/xmlenc#"
	nsEncrypt11 = "http://www.w3.org/2009/xmlenc11#"
	nsExclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS     = "http://www.w3.org/2000/xmlns/"
)

// parse makes a tree of a document. Every prefix in it is declared, and no attribute is there twice
// under two prefixes. outside are the declarations that hold around the document: none, or those around an element that was
// encrypted; they are written into its root, so that it can stand by itself.
func parse(doc []byte, max limits, outside map[string]string) (*etree.Element, error) {
	root, err := scan(doc, max)
	if err != nil {
		return nil, err
	}
	declareAll(root, outside)
	b := binder{limits: max, scope: map[string]string{"xml": nsXML}, known: map[string]bool{}}
	return root, b.bind(root)
}

// binder checks the use of prefixes (Namespaces in XML 1.0).
type binder struct {
	limits
	scope map[string]string
	known map[string]bool
}

func (b *binder) bind(e *etree.Element) error {
	type former struct {
		prefix, namespace string
		was               bool
	}
	var changed []former
	prefixed := 0
	for _, a := range e.Attr {
		prefix, ok := declares(a)
		if !ok {
			if a.Space != "" {
				prefixed++
			}
			continue
		}
		switch {
		case prefix == "xml", prefix == "xmlns", a.Value == nsXML, a.Value == nsXMLNS:
			return errors.New("a prefix of XML itself is declared anew")
		case prefix != "" && a.Value == "":
			return errors.New("a prefix is declared as nothing")
		case len(a.Value) > maxNamespace:
			return fmt.Errorf("a namespace is longer than %d bytes", maxNamespace)
		}
		if b.known[prefix] = true; len(b.known) > b.prefixes {
			return fmt.Errorf("more than %d prefixes are declared", b.prefixes)
		}
		old, was := b.scope[prefix]
		changed = append(changed, former{prefix, old, was})
		b.scope[prefix] = a.Value
	}
	if e.Space != "" && (b.scope[e.Space] == "" || e.Space == "xml") {
		return fmt.Errorf("the prefix %s is not declared", e.Space)
	}
	if prefixed > 0 {
		if err := b.attributes(e); err != nil {
			return err
		}
	}
	for _, t := range e.Child {
		if child, ok := t.(*etree.Element); ok {
			if err := b.bind(child); err != nil {
				return err
			}
		}
	}
	for i := len(changed) - 1; i >= 0; i-- {
		if f := changed[i]; f.was {
			b.scope[f.prefix] = f.namespace
		} else {
			delete(b.scope, f.prefix)
		}
	}
	return nil
}

// attributes checks the prefixes of an element's attributes.
func (b *binder) attributes(e *etree.Element) error {
	for i, a := range e.Attr {
		if _, ok := declares(a); ok || a.Space == "" {
			continue
		}
		ns := b.scope[a.Space]
		if ns == "" {
			return fmt.Errorf("the prefix %s is not declared", a.Space)
		}
		for _, o := range e.Attr[:i] {
			if _, ok := declares(o); !ok && o.Key == a.Key && o.Space != "" && b.scope[o.Space] == ns {
				return fmt.Errorf("the attribute %s is given twice", a.Key)
			}
		}
	}
	return nil
}

// declares says which prefix an attribute declares, if it is a declaration; "" is the default namespace's.
func declares(a etree.Attr) (prefix string, ok bool) {
	switch {
	case a.Space == "xmlns":
		return a.Key, true
	case a.Space == "" && a.Key == "xmlns":
		return "", true
	}
	return "", false
}

// scopeOf are the declarations that hold around an element.
func scopeOf(e *etree.Element) map[string]string {
	scope := map[string]string{}
	for up := e.Parent(); up != nil; up = up.Parent() {
		for _, a := range up.Attr {
			if prefix, ok := declares(a); ok {
				if _, nearer := scope[prefix]; !nearer {
					scope[prefix] = a.Value
				}
			}
		}
	}
	return scope
}

// declareAll writes declarations into an element that does not make them itself. Exclusive canonicalization leaves out what
// is not used, so a signature holds as before.
func declareAll(e *etree.Element, scope map[string]string) {
	for prefix, namespace := range scope {
		own := false
		for _, a := range e.Attr {
			if p, ok := declares(a); ok && p == prefix {
				own = true
			}
		}
		switch {
		case own || namespace == "":
		case prefix == "":
			e.Attr = append(e.Attr, etree.Attr{Key: "xmlns", Value: namespace})
		default:
			e.Attr = append(e.Attr, etree.Attr{Space: "xmlns", Key: prefix, Value: namespace})
		}
	}
}

// is says whether an element has that name.
func is(e *etree.Element, namespace, name string) bool {
	return e.Tag == name && e.NamespaceURI() == namespace
}

// children are an element's children of that name.
func children(e *etree.Element, namespace, name string) []*etree.Element {
	var found []*etree.Element
	for _, t := range e.Child {
		if child, ok := t.(*etree.Element); ok && is(child, namespace, name) {
			found = append(found, child)
		}
	}
	return found
}

// only is an element's one child of that name; nil if there is none or more than one.
func only(e *etree.Element, namespace, name string) *etree.Element {
	if found := children(e, namespace, name); len(found) == 1 {
		return found[0]
	}
	return nil
}

// elements says whether an element holds nothing but elements and space between them.
func elements(e *etree.Element) bool {
	for _, t := range e.Child {
		switch t := t.(type) {
		case *etree.Element:
		case *etree.Comment:
		case *etree.CharData:
			if trim(t.Data) != "" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// leaf is the whole text of an element that holds nothing but text. It is false for any other: of `admin<x/>.example.com` no
// part is a text to go by (SAML-075, SAML-079). etree's own Text stops at the first thing that is no text; nothing here uses it.
func leaf(e *etree.Element) (string, bool) {
	if len(e.Child) == 1 {
		if t, ok := e.Child[0].(*etree.CharData); ok {
			return trim(t.Data), true
		}
		return "", false
	}
	var all strings.Builder
	for _, t := range e.Child {
		c, ok := t.(*etree.CharData)
		if !ok {
			return "", false
		}
		all.WriteString(c.Data)
	}
	return trim(all.String()), true
}

// trim removes XML's white space, and no other, from both ends.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// attr is the value of an attribute without a prefix; "" if it is not there.
func attr(e *etree.Element, name string) string {
	v, _ := lookup(e, name)
	return v
}

func lookup(e *etree.Element, name string) (string, bool) {
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value, true
		}
	}
	return "", false
}

// binary reads base64 that was broken into lines and indented, as XML Signature's and Encryption's is.
func binary(s string) ([]byte, error) {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && space(byte(r)) {
			return -1
		}
		return r
	}, s)
	return base64.StdEncoding.Strict().DecodeString(s)
}
