package saml_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// What providers write beside what everybody does, and what that must not open.

// An assertion may leave it to its confirmation how long it holds; it may not leave out the conditions themselves, nor write
// an end that is none. SAML-101, SAML-117
func TestConditionsWithoutEnd(t *testing.T) {
	c := connection(t, idp().Metadata())
	edited := func(f func(conditions *etree.Element)) sso.Arrival {
		o := valid()
		o.Edit = func(_, a *etree.Element) { f(at(a, "./Conditions")) }
		return arrival(forge.Encode(idp().Response(o)))
	}
	open := edited(func(e *etree.Element) { e.RemoveAttr("NotOnOrAfter") })
	if got := accept(t, c, open); got.Until.After(now.Add(12 * time.Minute)) {
		t.Errorf("it could be taken until %s", got.Until)
	}
	open.Now = now.Add(12 * time.Minute)
	refuse(t, c, open, sso.CheckTime)
	refuse(t, c, edited(func(e *etree.Element) { e.CreateAttr("NotOnOrAfter", "") }), sso.CheckTime)
	refuse(t, c, edited(func(e *etree.Element) { e.CreateAttr("NotOnOrAfter", forge.Instant(now.Add(-2*time.Minute))) }), sso.CheckTime)
	refuse(t, c, edited(func(e *etree.Element) { e.Parent().RemoveChild(e) }), sso.CheckAudience)
	refuse(t, c, edited(func(e *etree.Element) { e.Child = nil }), sso.CheckAudience)
}

// A time whose year has five digits in UTC cannot be stored, so it is not read. SAML-105
func TestYears(t *testing.T) {
	c := connection(t, idp().Metadata())
	for ends, ok := range map[string]bool{
		"9999-12-31T23:59:59Z": true, "9999-12-31T23:59:59.9999999Z": true, "9999-12-31T23:59:59-14:00": false, "9999-12-31T23:59:59-00:01": false, "10000-01-01T00:00:00Z": false, "0000-01-01T00:00:00+14:00": false,
	} {
		o := valid()
		o.Edit = func(_, a *etree.Element) { at(a, "./AuthnStatement").CreateAttr("SessionNotOnOrAfter", ends) }
		a := arrival(forge.Encode(idp().Response(o)))
		if !ok {
			refuse(t, c, a, sso.CheckTime)
			continue
		}
		if _, err := json.Marshal(accept(t, c, a)); err != nil {
			t.Errorf("%s: %v", ends, err)
		}
	}
}

// XML Signature's own Id, as IBM writes it, is an ID like any other: one that is given twice is still refused. SAML-023
func TestSignatureId(t *testing.T) {
	c := connection(t, idp().Metadata())
	o := valid()
	o.SignResponse, o.SignAssertion = true, true
	o.EditSigned = func(r *etree.Element) { at(r, "./Assertion/Signature").CreateAttr("Id", "uuid_signature_1") }
	good := idp().Document(o)
	at(good, "/Response/Signature").CreateAttr("Id", "uuid_signature_2")
	accept(t, c, arrival(forge.Encode(forge.Bytes(good))))
	for name, id := range map[string]string{"the response's": "/Response", "the assertion's": "/Response/Assertion"} {
		t.Run(name, func(t *testing.T) {
			d := idp().Document(valid())
			at(d, "/Response/Assertion/Signature").CreateAttr("Id", at(d, id).SelectAttrValue("ID", ""))
			refuse(t, c, arrival(forge.Encode(forge.Bytes(d))), sso.CheckAnswer)
		})
	}
	for _, name := range []string{"ID", "id", "xml:id"} {
		d := idp().Document(valid())
		at(d, "/Response/Assertion/Signature").CreateAttr(name, at(d, "/Response/Assertion").SelectAttrValue("ID", ""))
		refuse(t, c, arrival(forge.Encode(forge.Bytes(d))), sso.CheckAnswer)
	}
	d := idp().Document(valid())
	at(d, "/Response/Assertion/Subject").CreateAttr("Id", "x") // not XML Signature's
	refuse(t, c, arrival(forge.Encode(forge.Bytes(d))), sso.CheckAnswer)
}

// White space within a method is nothing; a list of prefixes for SignedInfo itself is named. SAML-061
func TestCanonicalizationMethod(t *testing.T) {
	c := connection(t, idp().Metadata())
	with := func(edit func(info *etree.Element)) sso.Arrival {
		o := valid()
		o.Signing.EditInfo = edit
		return arrival(forge.Encode(idp().Response(o)))
	}
	accept(t, c, with(func(info *etree.Element) {
		for _, e := range []string{"./CanonicalizationMethod", "./SignatureMethod", "./Reference/DigestMethod", "./Reference/Transforms/Transform[1]"} {
			at(info, e).CreateText("\n  ")
		}
	}))
	check := refuse(t, c, with(func(info *etree.Element) {
		list := at(info, "./CanonicalizationMethod").CreateElement("ec:InclusiveNamespaces")
		list.CreateAttr("xmlns:ec", forge.C14NExclusive)
		list.CreateAttr("PrefixList", "xs")
	}), sso.CheckSignature)
	if !strings.Contains(check.Found, "prefixes") {
		t.Errorf("%+v", check)
	}
	refuse(t, c, with(func(info *etree.Element) { at(info, "./CanonicalizationMethod").CreateText("x") }), sso.CheckSignature)
}

// During a rollover a provider may encrypt for two certificates: either may be the one that we have.
//
// SAML-143
func TestTwoRecipients(t *testing.T) {
	c := connection(t, idp().Metadata())
	for way, base := range ways {
		for _, ours := range []string{"first", "second", "neither"} {
			t.Run(way+", "+ours, func(t *testing.T) {
				o := options()
				base(&o)
				o.Encrypt = encryptTo(t, 0)
				key := make([]byte, 32)
				o.Encrypt.SessionKey = key
				other := *o.Encrypt
				other.Certificate = attacker().Certificate
				if ours == "neither" {
					o.Encrypt.Certificate = idp().Certificate
				}
				o.Encrypt.Edit = func(e *etree.Element) {
					first := at(e, ".//EncryptedKey")
					place := first.Index()
					if ours != "second" {
						place++
					}
					first.Parent().InsertChildAt(place, other.EncryptedKey(key))
				}
				a := arrival(forge.Encode(idp().Response(o)))
				if ours == "neither" {
					refuse(t, c, a, sso.CheckEncryption)
				} else {
					accept(t, c, a)
				}
			})
		}
	}
}

// What is wrong with CBC is told with the name of the switch, in full.
//
// SAML-143
func TestCBCNamesTheSwitch(t *testing.T) {
	o := valid()
	o.Encrypt = encryptTo(t, 0)
	o.Encrypt.Data = forge.AES256CBC
	check := refuse(t, connection(t, idp().Metadata()), arrival(forge.Encode(idp().Response(o))), sso.CheckEncryption)
	for _, want := range []string{"Set-AdfsRelyingPartyTrust -TargetName NAME -EncryptClaims $false", `"Encrypt Assertions"`, "AES_256_GCM", "assertion.encryption off"} {
		if !strings.Contains(check.Fix, want) || strings.Contains(check.Fix, "…") {
			t.Errorf("%s is not in %q", want, check.Fix)
		}
	}
}
