package forge_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
)

// The wrappings have teeth: a naive service provider, which looks for any signature whose digest fits any element of its ID,
// and then reads the first or the last assertion, is deceived by very many of them. What it is not deceived by is broken as a
// message, and there to see that it is refused as well.
func TestWrappingsDeceive(t *testing.T) {
	deceived := map[forge.Place]int{}
	total, seen := 0, map[string]bool{}
	for _, signed := range []struct{ response, assertion bool }{{true, false}, {false, true}, {true, true}} {
		o := options()
		o.SignResponse, o.SignAssertion = signed.response, signed.assertion
		message := idp().Response(o)
		if who := naive(message); who != "ada" {
			t.Fatalf("the naive one does not take the valid message: %q", who)
		}
		for w := range forge.Wrappings() {
			if w.IDs != forge.IDKept && w.IDs != forge.IDNew {
				continue // to look for the first fit of so many takes seconds, and these two show it
			}
			hostile := w.Apply(message)
			total++
			seen[string(hostile)] = true
			if naive(hostile) == forge.Evil {
				deceived[w.Place]++
			}
		}
	}
	sum := 0
	for _, n := range deceived {
		sum += n
	}
	t.Logf("%d documents, %d different, %d deceive: %v", total, len(seen), sum, deceived)
	if len(seen) < 800 || sum < 500 || len(deceived) < 16 {
		t.Errorf("%d different documents, of which %d deceive at %d places", len(seen), sum, len(deceived))
	}
}

// naive is whom a careless service provider signs in; "" if nobody.
func naive(message []byte) string {
	d := forge.Parse(message)
	if !anyDigestFits(d) {
		return ""
	}
	names := d.FindElements("//Assertion/Subject/NameID")
	for _, e := range []*etree.Element{names[0], names[len(names)-1]} {
		if who := e.Child[0].(*etree.CharData).Data; who != "ada" {
			return who
		}
	}
	return "ada"
}

func anyDigestFits(d *etree.Document) bool {
	for _, reference := range d.FindElements("//Signature/SignedInfo/Reference") {
		want, signature := reference.FindElement("./DigestValue"), reference.Parent().Parent()
		id := strings.TrimPrefix(reference.SelectAttrValue("URI", ""), "#")
		for _, e := range d.FindElements("//*") {
			if e.SelectAttrValue("ID", "") != id {
				continue
			}
			scope, err := etreeutils.NSBuildParentContext(e)
			if err != nil {
				continue
			}
			var own *etree.Element
			if signature.Parent() == e {
				own = signature
			}
			at := -1
			if own != nil {
				at = own.Index()
			}
			detached, err := etreeutils.NSDetatch(scope, e)
			if err != nil {
				continue
			}
			if at >= 0 {
				detached.RemoveChildAt(at)
			}
			octets, err := dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(detached)
			if err != nil {
				continue
			}
			if got := sha256.Sum256(octets); base64.StdEncoding.EncodeToString(got[:]) == want.Child[0].(*etree.CharData).Data {
				return true
			}
		}
	}
	return false
}
