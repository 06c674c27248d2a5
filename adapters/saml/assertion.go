package saml

import (
	"fmt"
	"unicode"

	"github.com/beevik/etree"
	"golang.org/x/text/unicode/norm"

	"github.com/fleetpass/fleetpass/core/sso"
)

// The bounds of what an assertion may say about one person.
const (
	maxAttributes = 200
	maxValues     = 1_000 // of one attribute
	maxValue      = 1_024 // bytes of one value
	maxNameID     = 256   // bytes (Core §8.3.7 of a persistent one)
)

const formatPersistent = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"

// subject returns the provider's stable id of the person, which only a persistent name identifier is (Core §8.3.7): an address
// may be given to somebody else, a transient one is new each time. Any other is shown, and not gone by.
func (j *judge) subject(e *etree.Element) string {
	r := j.report
	for _, child := range e.ChildElements() {
		if !is(child, nsAssertion, "NameID") && !is(child, nsAssertion, "SubjectConfirmation") && !is(child, nsAssertion, "EncryptedID") {
			r.Fail(sso.CheckSubject, "the subject holds a "+child.FullTag(), "a NameID", "Have the identity provider name the person by a NameID.")
			return ""
		}
	}
	ids := children(e, nsAssertion, "NameID")
	switch hidden := len(children(e, nsAssertion, "EncryptedID")); {
	case len(ids)+hidden > 1:
		r.Fail(sso.CheckSubject, "the assertion is about more than one subject", "one NameID", "Have the identity provider name the person by one NameID.")
		return ""
	case hidden > 0:
		r.Note(sso.CheckSubject, "the name identifier is encrypted, which is not read", "Have the identity provider encrypt the whole assertion instead.")
		return ""
	case len(ids) == 0:
		r.Pass(sso.CheckSubject, "the assertion has no name identifier; the person is known by their e-mail")
		return ""
	}
	id, ok := leaf(ids[0])
	switch {
	case !ok:
		r.Fail(sso.CheckSubject, "the name identifier is not plain text", "text and nothing else", "No identity provider sends this by itself: find out what changed the response on its way.")
		return ""
	}
	format := attr(ids[0], "Format")
	persistent := format == formatPersistent
	long := len(id) > maxNameID || !norm.NFC.IsNormalString(id)
	switch {
	case id == "" || !printable(id) || long && persistent:
		r.Fail(sso.CheckSubject, fmt.Sprintf("the name identifier %q is none", id[:min(len(id), maxNameID)]), fmt.Sprintf("1 to %d bytes that can be printed, composed (Unicode NFC)", maxNameID),
			"Have the identity provider send another attribute as the name identifier.")
		return ""
	case long: // such as a distinguished name: nobody is known by it, so it harms nobody
		r.Note(sso.CheckSubject, fmt.Sprintf("the name identifier %q, of the format %s, is longer than %d bytes or not composed (Unicode NFC): the person is known by their e-mail", id[:min(len(id), 64)], quoted(format), maxNameID),
			"Have the identity provider send a persistent name identifier, if it can.")
		return ""
	case !persistent:
		r.Pass(sso.CheckSubject, fmt.Sprintf("%s, of the format %s: the person is known by their e-mail", quoted(id), quoted(format)))
		return ""
	}
	r.Pass(sso.CheckSubject, quoted(id)+", persistent")
	return id
}

// printable says whether an identifier looks like what it is: no control, no character that turns the direction of writing
// or has no width (SAML-133).
func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// attributes reads the attribute statements: by Name, since FriendlyName is only for people, every value in its order. Values
// that are structured instead of text, such as eduPersonTargetedID, are left out; one that is both is refused (SAML-079).
func (j *judge) attributes(e *etree.Element) map[string]any {
	r := j.report
	all := map[string]any{}
	for _, statement := range children(e, nsAssertion, "AttributeStatement") {
		for _, t := range statement.Child {
			a, ok := t.(*etree.Element)
			if !ok {
				continue
			}
			if is(a, nsAssertion, "EncryptedAttribute") {
				r.Note(sso.CheckAnswer, "an attribute is encrypted by itself, which is not read", "Have the identity provider encrypt the whole assertion instead.")
				continue
			}
			name := attr(a, "Name")
			if !is(a, nsAssertion, "Attribute") || name == "" || len(name) > maxValue || !elements(a) {
				r.Fail(sso.CheckAnswer, "an attribute statement holds a "+a.FullTag()+" that is no named attribute", "attributes", "Report it to the identity provider's maker.")
				return nil
			}
			values, _ := all[name].([]any)
			if values = j.values(values, a, name); len(values) > maxValues {
				r.Fail(sso.CheckAnswer, fmt.Sprintf("the attribute %s has more than %d values", quoted(name), maxValues), "", "Have the identity provider send only what this application needs, such as the groups that are assigned to it.")
				return nil
			}
			all[name] = values
			if len(all) > maxAttributes {
				r.Fail(sso.CheckAnswer, fmt.Sprintf("the assertion has more than %d attributes", maxAttributes), "", "Have the identity provider send only the attributes that this application needs.")
				return nil
			}
		}
	}
	return all
}

func (j *judge) values(values []any, a *etree.Element, name string) []any {
	for _, t := range a.Child {
		e, ok := t.(*etree.Element)
		if !ok {
			continue
		}
		if !is(e, nsAssertion, "AttributeValue") {
			j.report.Fail(sso.CheckAnswer, fmt.Sprintf("the attribute %s holds a %s", quoted(name), e.FullTag()), "values", "Report it to the identity provider's maker.")
			return values
		}
		text, ok := leaf(e)
		switch {
		case !ok && elements(e):
			j.report.Note(sso.CheckAnswer, fmt.Sprintf("a value of the attribute %s is not text, and is left out", quoted(name)), "Have the identity provider send it as text, if it is needed.")
		case !ok:
			j.report.Fail(sso.CheckAnswer, fmt.Sprintf("a value of the attribute %s is text with elements in it", quoted(name)), "text", "No identity provider sends this by itself: find out what changed the response on its way.")
			return values
		case len(text) > maxValue:
			j.report.Note(sso.CheckAnswer, fmt.Sprintf("a value of the attribute %s has %d bytes, and is left out", quoted(name), len(text)), "Have the identity provider leave the attribute out for this application.")
		default:
			values = append(values, text)
		}
	}
	return values
}
