package saml

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core/sso"
)

// This file is everything that stands between a response that a browser brought and an identity. There are eight gates, one
// section each, and a response goes through them in order:
//
//	1 size        strict base64, at most 256 KiB
//	2 bytes       a subset of XML in which parsers do not differ (scan.go)
//	3 tree        made once, as the bytes are read; all prefixes declared (tree.go)
//	4 shape       one response, one assertion, signatures where they belong, each ID once
//	5 signature   by a configured key, over the response or the assertion, with algorithms of this decade (signature.go)
//	6 encryption  AES-GCM and RSA-OAEP only (decrypt.go)
//	7 identity    read from what the verifier returned, and from nothing else (assertion.go)
//	8 protocol    every rule of the Web Browser SSO profile
//
// A gate that cannot be passed ends the reading where there is nothing sensible to read behind it; a signature that does not
// hold does not, since an administrator wants to see at once whether the audience would have been right. So gate 8 may look at
// a document that nobody signed. What it finds there goes into the report, which by then holds a failed check, and nowhere else.

// skew is how far the provider's clock may be off.
const skew = time.Minute

// fresh is how long after its IssueInstant an assertion is taken at most, however long its own conditions would allow (SAML-117).
const fresh = 10 * time.Minute

// fault is a failed check: why a document does not pass a gate.
type fault struct {
	check                sso.CheckName
	found, expected, fix string
}

func (f *fault) note(r *sso.Report) { r.Fail(f.check, f.found, f.expected, f.fix) }

// judge takes one response through the gates.
type judge struct {
	c      sso.Connection
	keys   []sso.Key
	in     sso.Arrival
	report *sso.Report
}

// proof is what signatures vouch for, as the verifier returned it: parsed anew from the very bytes that were digested.
type proof struct {
	response  *etree.Element // nil: only the assertion is signed
	assertion *etree.Element // nil: nothing is signed, or not everything that should be
}

func (j *judge) judge(encoded string) sso.Assertion {
	root, bad := open(encoded)
	if bad != nil {
		bad.note(j.report)
		return sso.Assertion{}
	}
	j.report.Received = show(sso.MaxReceived, root)
	m, bad := shape(root)
	if bad == nil {
		bad = m.status()
	}
	if bad != nil {
		bad.note(j.report)
		if m.response != nil {
			j.envelope(m.response, m.signed())
		}
		return sso.Assertion{}
	}
	j.report.Pass(sso.CheckAnswer, "a response with one assertion")

	vouched := j.verify(&m)
	response, assertion := vouched.response, vouched.assertion
	if response == nil {
		response = m.response
	}
	if assertion == nil {
		assertion = m.assertion // nobody vouches for it, and the report says so
	}
	j.envelope(response, vouched.response != nil || m.signed())
	if assertion == nil {
		return sso.Assertion{} // it could not be decrypted, or was not
	}
	said := j.assertion(response, assertion)
	if vouched.assertion == nil {
		return sso.Assertion{}
	}
	return said
}

// ---- 1 size, 2 bytes, 3 tree

// open decodes what was posted. The encoding is that of SAML 2.0 Bindings §3.5.4: base64 (RFC 4648 §4), which may be broken
// into lines; nothing else is skipped, and the bits that padding leaves over are zero (SAML-091).
func open(encoded string) (*etree.Element, *fault) {
	fails := func(found string) *fault {
		return &fault{sso.CheckAnswer, found, "a SAML response as an identity provider posts it",
			"Have the identity provider post its response to the redirect URI unchanged, and look at its log for errors."}
	}
	if encoded == "" {
		return nil, fails("there is no SAMLResponse")
	}
	if len(encoded) > 2*ofResponse.bytes { // line ends and all
		return nil, fails(fmt.Sprintf("the response is longer than %d bytes", ofResponse.bytes))
	}
	encoded = strings.NewReplacer("\r", "", "\n", "").Replace(encoded)
	if base64.StdEncoding.DecodedLen(len(encoded)) > ofResponse.bytes+2 {
		return nil, fails(fmt.Sprintf("the response is longer than %d bytes", ofResponse.bytes))
	}
	doc, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fails("the response is not base64")
	}
	root, err := parse(doc, ofResponse, nil)
	if err != nil {
		return nil, fails("the response cannot be read: " + err.Error())
	}
	return root, nil
}

// ---- 4 shape

// message is a response of the right shape.
type message struct {
	response  *etree.Element
	assertion *etree.Element // samlp:Response/saml:Assertion; nil: it is encrypted, or there is none since the sign-in failed
	encrypted *etree.Element // samlp:Response/saml:EncryptedAssertion
	ids       map[string]bool
}

// shape looks at each place by its absolute path, counts what is there, and makes sure that nothing which could be taken for
// it stands anywhere else. Signature wrapping needs a second response, assertion, signature or ID; there is none (SAML-011).
func shape(root *etree.Element) (message, *fault) {
	if !is(root, nsProtocol, "Response") {
		return message{}, misshapen("the document is a " + root.FullTag())
	}
	if !elements(root) {
		return message{}, misshapen("text stands between the response's elements")
	}
	if attr(root, "ID") == "" {
		return message{}, misshapen("the response has no ID")
	}
	m := message{response: root, ids: map[string]bool{}}
	count := map[string]int{}
	places := []*etree.Element{root}
	for _, e := range root.ChildElements() {
		switch {
		case is(e, nsAssertion, "Issuer"), is(e, nsProtocol, "Extensions"), is(e, nsProtocol, "Status"):
		case is(e, nsSignature, "Signature"):
			places = append(places, e)
		case is(e, nsAssertion, "Assertion"):
			m.assertion = e
			places = append(places, e)
			places = append(places, children(e, nsSignature, "Signature")...)
		case is(e, nsAssertion, "EncryptedAssertion"):
			m.encrypted = e
			places = append(places, e)
		default:
			return message{}, misshapen("the response holds a " + e.FullTag() + ", which has no place there")
		}
		if count[e.Tag]++; count[e.Tag] > 1 {
			return message{}, misshapen("the response holds more than one " + e.FullTag())
		}
	}
	if m.assertion != nil && m.encrypted != nil {
		return message{}, misshapen("the response holds an assertion and an encrypted one")
	}
	return m, (&guard{places: places, ids: m.ids}).check(root)
}

func misshapen(found string) *fault {
	return &fault{sso.CheckAnswer, found, "one Response that holds one Assertion, plain or encrypted",
		"No identity provider sends this by itself: find out what changed the response on its way, or report it to the provider's maker."}
}

// signed says whether the response itself bears a signature, whatever it is worth.
func (m message) signed() bool { return len(children(m.response, nsSignature, "Signature")) > 0 }

// guard walks a whole document for what stands where it does not belong.
type guard struct {
	places []*etree.Element // where a Response, Assertion, EncryptedAssertion or Signature may be
	ids    map[string]bool
}

// identifier is what an ID may be: an NCName (XML Schema Part 2 §3.3.8) of ASCII, or one that begins with a digit, as some
// providers make it.
var identifier = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,255}$`)
})

func (g *guard) check(e *etree.Element) *fault {
	switch e.Tag { // in whatever namespace: nothing of that name is needed elsewhere (SAML-027)
	case "Response", "Assertion", "EncryptedAssertion", "Signature":
		if !slices.Contains(g.places, e) {
			return misshapen("a " + e.FullTag() + " stands where none belongs")
		}
	}
	for _, a := range e.Attr {
		if len(a.Key) != 2 || !strings.EqualFold(a.Key, "ID") {
			continue
		}
		if _, declaration := declares(a); declaration {
			continue
		}
		// Whoever looks for IDs in another way than we do, finds the same ones: xml:id and id are not used (SAML-023). XML
		// Signature and XML Encryption spell their attribute Id; nothing of theirs is found by it here, and it is counted.
		if a.Space != "" || a.Key != "ID" && (a.Key != "Id" || e.NamespaceURI() != nsEncrypt && e.NamespaceURI() != nsSignature) {
			return misshapen("the attribute " + a.FullKey() + " of " + e.FullTag() + " could be taken for an ID")
		}
		if !identifier().MatchString(a.Value) {
			return misshapen("the ID of " + e.FullTag() + " is none")
		}
		if g.ids[a.Value] {
			return misshapen("the ID " + a.Value + " is given twice")
		}
		g.ids[a.Value] = true
	}
	for _, t := range e.Child {
		if child, ok := t.(*etree.Element); ok {
			if f := g.check(child); f != nil {
				return f
			}
		}
	}
	return nil
}

// status reads whether the provider signed the person in (SAML 2.0 Core §3.2.2), and that what follows from it is there.
func (m message) status() *fault {
	status := only(m.response, nsProtocol, "Status")
	if status == nil {
		return misshapen("the response has no Status")
	}
	code := only(status, nsProtocol, "StatusCode")
	if code == nil {
		return misshapen("the response has no StatusCode")
	}
	if attr(code, "Value") != "urn:oasis:names:tc:SAML:2.0:status:Success" {
		return declined(status, code)
	}
	if m.assertion == nil && m.encrypted == nil {
		return misshapen("the response holds no assertion")
	}
	return nil
}

// declined puts into words that the provider did not sign the person in.
func declined(status, code *etree.Element) *fault {
	const urn = "urn:oasis:names:tc:SAML:2.0:status:"
	name := strings.TrimPrefix(attr(code, "Value"), urn)
	if second := only(code, nsProtocol, "StatusCode"); second != nil {
		name = strings.TrimPrefix(attr(second, "Value"), urn) + ", " + name
	}
	if message := only(status, nsProtocol, "StatusMessage"); message != nil {
		if text, ok := leaf(message); ok && text != "" {
			name += ": " + text
		}
	}
	fix := "The identity provider's own log says why it refused; its status and message are all that it tells us."
	switch first, _, _ := strings.Cut(name, ","); first {
	case "AuthnFailed":
		fix = "The person could not sign in at the identity provider: have them try again there."
	case "RequestDenied":
		fix = "Assign the person to this application in the identity provider."
	case "InvalidNameIDPolicy":
		fix = "Let the identity provider choose the format of the name identifier for this application."
	case "NoPassive", "NoAuthnContext":
		fix = "Relax what the identity provider demands of a sign-in to this application."
	}
	return &fault{sso.CheckAnswer, "the identity provider answered " + name, "Success", fix}
}

// ---- 5 signature, and 6 encryption between a response's signature and an assertion's

// verify returns what signatures vouch for. The need for one is ours, whatever metadata says (SAML-051): the response or the
// assertion is signed, and every signature that is there holds. A response's signature is verified before anything in it is
// decrypted (SAML-143). It puts a decrypted assertion into m, for the report.
func (j *judge) verify(m *message) proof {
	var vouched proof
	var said []string
	sound := true
	response := m.response
	if m.signed() {
		if vouched.response = j.signature(response, "response", &said); vouched.response == nil {
			sound = false
		} else {
			response = vouched.response
		}
	}
	if m.encrypted != nil {
		if !sound {
			return proof{}
		}
		// What was signed is what is decrypted.
		plain, bad := decrypt(only(response, nsAssertion, "EncryptedAssertion"), j.keys)
		if bad == nil {
			bad = shapeOfDecrypted(plain, m)
		}
		if bad != nil {
			bad.note(j.report)
			return proof{response: vouched.response}
		}
		m.assertion = plain
		j.report.Pass(sso.CheckEncryption, "the assertion opens with this connection's key")
		if room := sso.MaxReceived - len(j.report.Received) - 1; room > 100 {
			j.report.Received += "\n" + show(room, plain)
		}
		if vouched.response != nil {
			vouched.assertion = plain // the signature covers the ciphertext, which is authenticated
		}
	} else if vouched.response != nil {
		vouched.assertion = only(vouched.response, nsAssertion, "Assertion")
	}
	if len(children(m.assertion, nsSignature, "Signature")) > 0 {
		// The assertion's own signature is nearer to what is read than the response's.
		if vouched.assertion = j.signature(m.assertion, "assertion", &said); vouched.assertion == nil {
			sound = false
		}
	}
	switch {
	case !sound:
		vouched.assertion = nil
	case vouched.assertion == nil:
		j.report.Fail(sso.CheckSignature, "neither the response nor the assertion is signed", "a signature over at least one of the two",
			"Have the identity provider sign its assertions (or its responses) to this application.")
	default:
		j.report.Pass(sso.CheckSignature, strings.Join(said, "; "))
	}
	return vouched
}

// shapeOfDecrypted is gate 4 for an assertion that was encrypted. Its IDs and those around it are counted together.
func shapeOfDecrypted(plain *etree.Element, m *message) *fault {
	g := &guard{places: append([]*etree.Element{plain}, children(plain, nsSignature, "Signature")...), ids: m.ids}
	return g.check(plain)
}

// signature verifies the signature of e, which is a response or an assertion, and judges the certificate of the key that made
// it. It returns e as it was signed, or nil after noting why not.
func (j *judge) signature(e *etree.Element, name string, said *[]string) *etree.Element {
	s, bad := sealOf(e)
	if bad != nil {
		bad.found = "the " + name + ": " + bad.found
		bad.note(j.report)
		return nil
	}
	signed, cert, bad := s.verify(j.certificates(s))
	if bad != nil {
		bad.found = "Invalid signature in response from identity provider: the " + name + " " + bad.found
		bad.note(j.report)
		return nil
	}
	*said = append(*said, fmt.Sprintf("the %s, with %s", name, s.method.name))
	valid := fmt.Sprintf("%s, valid until %s", cert.Subject, stamp(cert.NotAfter))
	switch now := j.in.Now; {
	case now.After(cert.NotAfter):
		j.report.Fail(sso.CheckCertificate, fmt.Sprintf("%s expired on %s", cert.Subject, stamp(cert.NotAfter)), "a certificate that is valid now",
			"Renew the signing certificate in the identity provider, and upload its new metadata here unless it is read from an address.")
	case now.Before(cert.NotBefore):
		j.report.Fail(sso.CheckCertificate, fmt.Sprintf("%s is not valid before %s", cert.Subject, stamp(cert.NotBefore)), "a certificate that is valid now",
			"Wait until then, or have the identity provider sign with a certificate that is valid already.")
	default:
		j.report.Pass(sso.CheckCertificate, valid)
	}
	return signed
}

// certificates are the ones that a signature may be of, in the order in which it is worth trying: those that are valid now
// before those that are not, since two may have one key, and among them those that the document names. It names them to save
// us work: one that is not configured counts for nothing (SAML-053).
func (j *judge) certificates(s seal) []*x509.Certificate {
	var all []*x509.Certificate
	for _, der := range j.c.SAML.IdP.Certificates {
		if cert, err := x509.ParseCertificate(der); err == nil && cert.PublicKeyAlgorithm == s.method.key && strong(cert) == nil {
			all = append(all, cert)
		}
	}
	named := s.named() // once: it is as large as a stranger makes it
	rank := func(c *x509.Certificate) int {
		n := 0
		if j.in.Now.After(c.NotAfter) || j.in.Now.Before(c.NotBefore) {
			n += 2
		}
		if !named[string(c.Raw)] {
			n++
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b *x509.Certificate) int { return rank(a) - rank(b) })
	return all
}

// ---- 8 protocol

// envelope checks what stands on the response itself. signed: it bears a signature, so it has to say where it was sent
// (SAML 2.0 Bindings §3.5.5.2).
func (j *judge) envelope(response *etree.Element, signed bool) {
	r := j.report
	if v := attr(response, "Version"); v != "2.0" {
		r.Fail(sso.CheckAnswer, "a response of SAML "+quoted(v), "2.0", "Have the identity provider speak SAML 2.0 with this application.")
	}
	at, given := lookup(response, "Destination")
	switch {
	case at == j.in.Return:
		r.Pass(sso.CheckDestination, at)
	case given || signed:
		r.Fail(sso.CheckDestination, "Destination is "+quoted(at), "the redirect URI "+quoted(j.in.Return),
			"Set the redirect URI (assertion consumer service, reply URL) in your identity provider to "+quoted(j.in.Return)+".")
	default:
		r.Pass(sso.CheckDestination, "not said, which a response that is not signed need not")
	}
	if issuer := only(response, nsAssertion, "Issuer"); issuer != nil {
		j.issuer(issuer, "response")
	} else if signed { // Profiles §4.1.4.2
		r.Fail(sso.CheckIssuer, "the response is signed and does not say who issued it", quoted(j.c.SAML.IdP.EntityID), "Set the entity ID in the identity provider.")
	}
	if asked := j.answers(response, "response"); asked != "" {
		j.asked(asked)
	}
	j.issued(response, "response")
}

// assertion checks the assertion, and returns what it says. It is the caller's to know whether somebody vouches for it.
func (j *judge) assertion(response, e *etree.Element) sso.Assertion {
	r := j.report
	said := sso.Assertion{ID: attr(e, "ID")}
	if bad := shapeOfAssertion(e); bad != nil {
		bad.note(r)
		return sso.Assertion{}
	}
	if issuer := only(e, nsAssertion, "Issuer"); issuer != nil {
		j.issuer(issuer, "assertion")
	} else {
		r.Fail(sso.CheckIssuer, "the assertion does not say who issued it", quoted(j.c.SAML.IdP.EntityID), "Set the entity ID in the identity provider.")
	}
	issued := j.issued(e, "assertion")
	said.Until = issued.Add(fresh + skew)

	until := j.conditions(only(e, nsAssertion, "Conditions"))
	if last := until.Add(skew); !until.IsZero() && last.Before(said.Until) {
		said.Until = last
	}
	j.confirmation(response, only(e, nsAssertion, "Subject"))
	said.Subject = j.subject(only(e, nsAssertion, "Subject"))
	said.AuthTime, said.Ends = j.authentication(only(e, nsAssertion, "AuthnStatement"))
	said.Attributes = j.attributes(e)

	// What nothing above objected to, holds.
	r.Pass(sso.CheckIssuer, j.c.SAML.IdP.EntityID)
	r.Pass(sso.CheckTime, fmt.Sprintf("issued %s ago, at %s", j.in.Now.Sub(issued).Round(time.Second), stamp(issued)))
	return said
}

// shapeOfAssertion checks what an assertion holds, by absolute paths: SAML 2.0 Core §2.3.3, and Profiles §4.1.4.2 where that
// is narrower.
func shapeOfAssertion(e *etree.Element) *fault {
	if v := attr(e, "Version"); v != "2.0" {
		return &fault{sso.CheckAnswer, "an assertion of SAML " + quoted(v), "2.0", "Have the identity provider speak SAML 2.0 with this application."}
	}
	if attr(e, "ID") == "" {
		return misshapen("the assertion has no ID")
	}
	if !elements(e) {
		return misshapen("text stands between the assertion's elements")
	}
	count := map[string]int{}
	for _, child := range e.ChildElements() {
		switch {
		case is(child, nsAssertion, "AttributeStatement"), is(child, nsAssertion, "Advice"):
			continue
		case is(child, nsAssertion, "Issuer"), is(child, nsAssertion, "Subject"), is(child, nsAssertion, "Conditions"),
			is(child, nsAssertion, "AuthnStatement"), is(child, nsSignature, "Signature"):
		case is(child, nsAssertion, "AuthzDecisionStatement"), is(child, nsAssertion, "Statement"):
			continue // says nothing that is asked here
		default:
			return misshapen("the assertion holds a " + child.FullTag() + ", which has no place there")
		}
		if count[child.Tag]++; count[child.Tag] > 1 {
			return misshapen("the assertion holds more than one " + child.FullTag())
		}
	}
	for name, what := range map[string]string{"AuthnStatement": "how and when the person signed in", "Subject": "whom it is about"} {
		if count[name] == 0 {
			return misshapen("the assertion has no " + name + ": it does not say " + what)
		}
	}
	return nil
}

// issuer compares who issued something with who is configured, to the byte.
func (j *judge) issuer(e *etree.Element, name string) {
	found, ok := leaf(e)
	if want := j.c.SAML.IdP.EntityID; !ok || found != want {
		j.report.Fail(sso.CheckIssuer, fmt.Sprintf("the %s is issued by %s", name, quoted(found)), quoted(want),
			"Load the metadata of the identity provider that sends the response, or correct its entity ID there.")
	}
}

// issued checks the IssueInstant of a response or an assertion.
func (j *judge) issued(e *etree.Element, name string) time.Time {
	at, err := instant(attr(e, "IssueInstant"))
	off := j.in.Now.Sub(at)
	switch {
	case err != nil:
		j.report.Fail(sso.CheckTime, "the "+name+" does not say when it was issued", "an IssueInstant", "Report it to the identity provider's maker.")
	case off < -skew:
		j.report.Fail(sso.CheckTime, fmt.Sprintf("the %s was issued at %s, which is %s from now", name, stamp(at), (-off).Round(time.Second)), "not in the future",
			fmt.Sprintf("Set the identity provider's clock, by NTP: here it is %s.", stamp(j.in.Now)))
	case off >= fresh+skew:
		j.report.Fail(sso.CheckTime, fmt.Sprintf("the %s was issued at %s, %s ago", name, stamp(at), off.Round(time.Second)), fmt.Sprintf("at most %s ago", fresh),
			fmt.Sprintf("Sign in again; if that does not help, set the identity provider's clock, by NTP: here it is %s.", stamp(j.in.Now)))
	}
	return at
}

// conditions checks saml:Conditions (Core §2.5.1): whom the assertion is meant for, and when. It returns when they end.
func (j *judge) conditions(e *etree.Element) (until time.Time) {
	r, want := j.report, j.in.EntityID
	fix := "Set the audience (SP entity ID) in your identity provider to " + quoted(want) + "."
	if e == nil {
		r.Fail(sso.CheckAudience, "the assertion has no Conditions, and so no Audience", "the entity ID "+quoted(want), fix)
		return until
	}
	until = j.window(e, "the assertion")
	restricted := false
	for _, condition := range e.ChildElements() {
		switch {
		case is(condition, nsAssertion, "AudienceRestriction"): // several all have to hold (SAML-111)
			restricted = true
			var found []string
			for _, a := range children(condition, nsAssertion, "Audience") {
				if text, ok := leaf(a); ok {
					found = append(found, text)
				}
			}
			if !slices.Contains(found, want) {
				r.Fail(sso.CheckAudience, "Audience is "+quoted(strings.Join(found, ", ")), "the entity ID "+quoted(want), fix)
			}
		case is(condition, nsAssertion, "OneTimeUse"), is(condition, nsAssertion, "ProxyRestriction"):
			// We use an assertion once whatever it says, and hand none on.
		default:
			r.Fail(sso.CheckAnswer, "the assertion holds under a condition that is not known here: "+condition.FullTag(), "conditions of SAML 2.0 Core §2.5.1",
				"Have the identity provider leave the condition out for this application.")
		}
	}
	if !restricted {
		r.Fail(sso.CheckAudience, "the assertion names no Audience", "the entity ID "+quoted(want), fix)
	} else {
		r.Pass(sso.CheckAudience, want)
	}
	return until
}

// window checks NotBefore and NotOnOrAfter of conditions, and returns the latter. Neither is needed (Core §2.5.1): IssueInstant
// is a beginning, and the bearer's confirmation, which has to have an end, and fresh are one.
func (j *judge) window(e *etree.Element, name string) time.Time {
	clock := fmt.Sprintf("Set the identity provider's clock, by NTP: here it is %s.", stamp(j.in.Now))
	if v, given := lookup(e, "NotBefore"); given {
		from, err := instant(v)
		if err != nil || j.in.Now.Before(from.Add(-skew)) {
			j.report.Fail(sso.CheckTime, fmt.Sprintf("%s is not valid before %s", name, quoted(v)), "valid now", clock)
		}
	}
	v, given := lookup(e, "NotOnOrAfter")
	if !given {
		return time.Time{}
	}
	until, err := instant(v)
	if err != nil {
		j.report.Fail(sso.CheckTime, fmt.Sprintf("%s is valid until %s, which is no time", name, quoted(v)), "NotOnOrAfter, a time in UTC", "Report it to the identity provider's maker.")
		return time.Time{}
	}
	if !j.in.Now.Before(until.Add(skew)) {
		j.report.Fail(sso.CheckTime, fmt.Sprintf("%s was valid until %s", name, stamp(until)), "valid now", "Sign in again; if that does not help: "+clock)
	}
	return until
}

// confirmation checks that the bearer may present the assertion here (Profiles §4.1.4.2, §4.1.4.3): one bearer confirmation
// of which everything holds. If there is none, the report is about the one that is nearest to it.
func (j *judge) confirmation(response, subject *etree.Element) {
	r := j.report
	bearers := 0
	var best []fault
	for _, e := range children(subject, nsAssertion, "SubjectConfirmation") {
		if attr(e, "Method") != "urn:oasis:names:tc:SAML:2.0:cm:bearer" {
			continue
		}
		if bearers++; bearers > 10 {
			break
		}
		faults := j.bearer(response, only(e, nsAssertion, "SubjectConfirmationData"))
		if bearers == 1 || len(faults) < len(best) {
			best = faults
		}
	}
	if bearers == 0 {
		r.Fail(sso.CheckRecipient, "the assertion has no bearer confirmation", "a SubjectConfirmation for "+quoted(j.in.Return),
			"Have the identity provider use the Web Browser SSO profile for this application.")
		return
	}
	for _, f := range best {
		f.note(r)
	}
	r.Pass(sso.CheckRecipient, j.in.Return)
	if j.in.Pending != nil {
		r.Pass(sso.CheckRequest, "it answers this sign-in's request "+j.in.Pending.Request)
	} else {
		r.Pass(sso.CheckRequest, "the identity provider began, which this connection allows")
	}
}

func (j *judge) bearer(response, data *etree.Element) (faults []fault) {
	if data == nil {
		return []fault{
			{sso.CheckRecipient, "the assertion does not say for whom its bearer may use it", quoted(j.in.Return), "Have the identity provider use the Web Browser SSO profile for this application."},
			{sso.CheckTime, "the assertion does not say until when its bearer may use it", "NotOnOrAfter", "Have the identity provider use the Web Browser SSO profile for this application."},
			{check: sso.CheckRequest, found: "the assertion does not say which request it answers"},
		}
	}
	if at := attr(data, "Recipient"); at != j.in.Return {
		faults = append(faults, fault{sso.CheckRecipient, "Recipient is " + quoted(at), "the redirect URI " + quoted(j.in.Return),
			"Set the redirect URI (assertion consumer service, recipient) in your identity provider to " + quoted(j.in.Return) + "."})
	}
	if _, given := lookup(data, "NotBefore"); given {
		faults = append(faults, fault{sso.CheckTime, "the bearer confirmation has a NotBefore", "none (SAML 2.0 Profiles §4.1.4.2)", "Report it to the identity provider's maker."})
	}
	until, err := instant(attr(data, "NotOnOrAfter"))
	if err != nil {
		faults = append(faults, fault{sso.CheckTime, "the assertion does not say until when its bearer may use it", "NotOnOrAfter", "Report it to the identity provider's maker."})
	} else if !j.in.Now.Before(until.Add(skew)) {
		faults = append(faults, fault{sso.CheckTime, "the bearer could use the assertion until " + stamp(until), "a time to come",
			fmt.Sprintf("Sign in again; if that does not help, set the identity provider's clock, by NTP: here it is %s.", stamp(j.in.Now))})
	}
	if wrong := j.answers(data, "assertion"); wrong != "" {
		faults = append(faults, j.notAsked(wrong))
	}
	return faults
}

// answers says what is wrong with an InResponseTo, if anything. Where nothing is pending none may be there, even if the
// connection lets the provider begin: else a response that was stolen from a sign-in under way would do (SAML-127).
func (j *judge) answers(e *etree.Element, name string) string {
	id, given := lookup(e, "InResponseTo")
	switch {
	case j.in.Pending == nil && given:
		return fmt.Sprintf("the %s answers the request %s, which is not under way: it was answered already, is older than ten minutes, or is of somebody else", name, quoted(id))
	case j.in.Pending == nil && !j.c.SAML.IdPInitiated:
		return "nobody here asked for this sign-in: the identity provider began it"
	case j.in.Pending == nil:
		return ""
	case !given:
		return "the " + name + " does not say which request it answers"
	case id != j.in.Pending.Request || id == "":
		return fmt.Sprintf("the %s answers the request %s", name, quoted(id))
	}
	return ""
}

func (j *judge) asked(wrong string) {
	f := j.notAsked(wrong)
	f.note(j.report)
}

func (j *judge) notAsked(wrong string) fault {
	if j.in.Pending == nil {
		return fault{sso.CheckRequest, wrong, "a sign-in that began here",
			"Begin at Fleetpass's login page; or, to begin at the identity provider's portal, allow that in the settings of this connection."}
	}
	return fault{sso.CheckRequest, wrong, "an answer to the request " + quoted(j.in.Pending.Request),
		"Begin again at Fleetpass's login page, in one browser window."}
}

// authentication checks when the person proved who they are. It returns that, and when what is begun with it must end.
func (j *judge) authentication(e *etree.Element) (at, ends time.Time) {
	r := j.report
	at, err := instant(attr(e, "AuthnInstant"))
	switch {
	case err != nil:
		r.Fail(sso.CheckTime, "the assertion does not say when the person signed in", "an AuthnInstant", "Report it to the identity provider's maker.")
	case at.After(j.in.Now.Add(skew)):
		r.Fail(sso.CheckTime, "the person is said to sign in at "+stamp(at), "not in the future", fmt.Sprintf("Set the identity provider's clock, by NTP: here it is %s.", stamp(j.in.Now)))
	case j.in.Pending != nil && j.in.Pending.Login && at.Before(j.in.Pending.At.Add(-skew)):
		r.Fail(sso.CheckRequest, "the person last signed in at the identity provider at "+stamp(at), "a fresh sign-in, after "+stamp(j.in.Pending.At),
			"Have the identity provider honour ForceAuthn for this application.")
	}
	if v, given := lookup(e, "SessionNotOnOrAfter"); given {
		ends, err = instant(v)
		if err != nil || !ends.After(j.in.Now) {
			r.Fail(sso.CheckTime, "the identity provider's session ended at "+quoted(v), "a time to come", "Sign in again at the identity provider.")
		}
	}
	return at, ends
}

// instant reads a time (Core §1.3.3: UTC). Without a zone it is in UTC too. In UTC it has a year of four digits, whatever the zone
// that it was written in: what is stored of it could not be written otherwise (RFC 3339 §5.6).
func instant(s string) (time.Time, error) {
	if s = trim(s); len(s) > 40 {
		return time.Time{}, errors.New("no time is that long")
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999999", s)
	}
	if t = t.UTC(); err == nil && (t.Year() < 0 || t.Year() > 9999) {
		return time.Time{}, errors.New("its year has not four digits")
	}
	return t, err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// quoted shows a value that came from outside: that it is one, and where it ends.
func quoted(s string) string { return "`" + s + "`" }
