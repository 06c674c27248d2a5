package idp

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// samlAsked is an AuthnRequest that was judged, or the wish to sign in without one.
type samlAsked struct {
	sp      ServiceProvider
	acs     string
	request string // its ID; "": there was none
	format  string // of the NameID
	relay   string
}

func (a samlAsked) protocol() Protocol { return SAML }
func (a samlAsked) service() string    { return a.sp.EntityID }

// Where things go, or come from, that are wrong.
const (
	elsewhere  = "https://elsewhere.example/acs"
	otherParty = "https://other.example/metadata"
	wrongWay   = time.Hour // how far a wrong clock is out
)

func (a samlAsked) answer(p *Provider, w http.ResponseWriter, r *http.Request, who Person, s session, f Fault) {
	if f == Replay {
		p.mu.Lock()
		last, ok := p.lastSAML[a.sp.EntityID]
		p.mu.Unlock()
		if !ok {
			p.problem(w, http.StatusConflict, "There is no earlier response to send again. Sign in once without misbehaviour.")
			return
		}
		a.send(p, w, last)
		return
	}
	format := a.nameFormat()
	if format == "" {
		a.failure(p, w, "urn:oasis:names:tc:SAML:2.0:status:Requester", "urn:oasis:names:tc:SAML:2.0:status:InvalidNameIDPolicy", "no such NameID here")
		return
	}
	encoded, err := a.response(p, who, s, format, f)
	if err != nil {
		p.problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	if f == Behave {
		p.mu.Lock()
		p.lastSAML[a.sp.EntityID] = encoded
		p.mu.Unlock()
	}
	a.send(p, w, encoded)
}

func (a samlAsked) refuse(p *Provider, w http.ResponseWriter, _ *http.Request, why reason) {
	second := "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"
	if why == loginRequired {
		second = "urn:oasis:names:tc:SAML:2.0:status:NoPassive"
	}
	a.failure(p, w, "urn:oasis:names:tc:SAML:2.0:status:Responder", second, string(why))
}

// send lets the browser post a response to the service.
func (a samlAsked) send(p *Provider, w http.ResponseWriter, encoded string) {
	fields := map[string]string{"SAMLResponse": encoded}
	if a.relay != "" {
		fields["RelayState"] = a.relay
	}
	p.posting(w, a.acs, fields)
}

// nameFormat is the format of the NameID; "" if the one that is asked for is not to be had.
func (a samlAsked) nameFormat() string {
	switch {
	case slices.Contains(nameFormats, a.format):
		return a.format
	case a.format != "" && a.format != formatUnspecified:
		return ""
	case a.sp.EmailAsNameID:
		return formatEmail
	}
	return formatPersistent
}

// envelope is a Response without its content (SAML 2.0 Core §3.2.2).
func (a samlAsked) envelope(at time.Time, issuer, destination, request string) *etree.Element {
	e := etree.NewElement("samlp:Response")
	e.CreateAttr("xmlns:samlp", nsProtocol)
	e.CreateAttr("xmlns:saml", nsAssertion)
	e.CreateAttr("ID", newID())
	e.CreateAttr("Version", "2.0")
	e.CreateAttr("IssueInstant", at.Format(samlTime))
	e.CreateAttr("Destination", destination)
	if request != "" {
		e.CreateAttr("InResponseTo", request)
	}
	e.CreateElement("saml:Issuer").SetText(issuer)
	return e
}

// failure answers with a status. It is signed as a whole, since there is no assertion that could be.
func (a samlAsked) failure(p *Provider, w http.ResponseWriter, status, second, message string) {
	p.mu.Lock()
	k := p.keys.current
	p.mu.Unlock()
	e := a.envelope(p.now(), p.EntityID(), a.acs, a.request)
	s := e.CreateElement("samlp:Status")
	first := s.CreateElement("samlp:StatusCode")
	first.CreateAttr("Value", status)
	first.CreateElement("samlp:StatusCode").CreateAttr("Value", second)
	s.CreateElement("samlp:StatusMessage").SetText(message)
	err := sign(e, 1, k, "")
	var doc []byte
	if err == nil {
		doc, err = document(e)
	}
	if err != nil {
		p.problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	a.send(p, w, base64.StdEncoding.EncodeToString(doc))
}

// response is a Response that says who it is, in base64.
func (a samlAsked) response(p *Provider, who Person, s session, format string, f Fault) (string, error) {
	p.mu.Lock()
	keys := p.keys
	p.mu.Unlock()
	at, issuer, destination, recipient, audience, request, signer, method := p.now(), p.EntityID(), a.acs, a.acs, a.sp.EntityID, a.request, keys.current, ""
	proof := s.AuthTime
	switch f {
	case WrongAudience:
		audience = otherParty
	case WrongDestination:
		destination = elsewhere
	case WrongRecipient:
		recipient = elsewhere
	case WrongIssuer:
		issuer = otherParty
	case OtherRequest:
		request = newID()
	case OtherKey:
		signer = keys.other
	case ExpiredCertificate:
		signer = keys.expired
	case SHA1:
		method = dsig.RSASHA1SignatureMethod
	case Clock:
		at, proof = at.Add(-wrongWay), proof.Add(-wrongWay)
	case FutureClock:
		at, proof = at.Add(wrongWay), proof.Add(wrongWay)
	}
	claims := who.claims()
	if f == MissingEmail {
		delete(claims, "email")
	}

	e := a.envelope(at, issuer, destination, request)
	e.CreateElement("samlp:Status").CreateElement("samlp:StatusCode").CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:Success")
	assertion := a.assertion(at, issuer, recipient, audience, request, who, s, proof, format, claims)
	if f != Unsigned && a.sp.Sign != SignResponse {
		if err := sign(assertion, 1, signer, method); err != nil {
			return "", err
		}
	}
	if a.sp.Encrypt {
		var err error
		if assertion, err = encrypt(assertion, a.sp.EncryptTo, a.sp.Cipher); err != nil {
			return "", err
		}
	}
	e.AddChild(assertion)
	if f != Unsigned && a.sp.Sign != SignAssertion {
		if err := sign(e, 1, signer, method); err != nil {
			return "", err
		}
	}
	doc, err := document(e)
	return base64.StdEncoding.EncodeToString(doc), err
}

// assertion is an Assertion with what the Web Browser SSO profile asks for (SAML 2.0 Profiles §4.1.4.2).
func (a samlAsked) assertion(at time.Time, issuer, recipient, audience, request string, who Person, s session, proof time.Time, format string, claims map[string]any) *etree.Element {
	until := at.Add(a.sp.AssertionLife).Format(samlTime)
	e := etree.NewElement("saml:Assertion")
	e.CreateAttr("xmlns:saml", nsAssertion)
	e.CreateAttr("ID", newID())
	e.CreateAttr("Version", "2.0")
	e.CreateAttr("IssueInstant", at.Format(samlTime))
	e.CreateElement("saml:Issuer").SetText(issuer)

	subject := e.CreateElement("saml:Subject")
	name := subject.CreateElement("saml:NameID")
	name.CreateAttr("Format", format)
	switch format {
	case formatEmail:
		name.SetText(who.Email)
	case formatTransient:
		name.SetText(newID())
	default:
		name.SetText(who.subject(a.sp.EntityID))
	}
	confirmation := subject.CreateElement("saml:SubjectConfirmation")
	confirmation.CreateAttr("Method", "urn:oasis:names:tc:SAML:2.0:cm:bearer")
	data := confirmation.CreateElement("saml:SubjectConfirmationData")
	data.CreateAttr("NotOnOrAfter", until)
	data.CreateAttr("Recipient", recipient)
	if request != "" {
		data.CreateAttr("InResponseTo", request)
	}

	conditions := e.CreateElement("saml:Conditions")
	conditions.CreateAttr("NotBefore", at.Add(-time.Minute).Format(samlTime))
	conditions.CreateAttr("NotOnOrAfter", until)
	conditions.CreateElement("saml:AudienceRestriction").CreateElement("saml:Audience").SetText(audience)

	authn := e.CreateElement("saml:AuthnStatement")
	authn.CreateAttr("AuthnInstant", proof.Format(samlTime))
	authn.CreateAttr("SessionIndex", s.Index)
	if a.sp.SessionLife != 0 {
		authn.CreateAttr("SessionNotOnOrAfter", proof.Add(a.sp.SessionLife).Format(samlTime))
	}
	authn.CreateElement("saml:AuthnContext").CreateElement("saml:AuthnContextClassRef").SetText("urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport")

	if len(claims) == 0 {
		return e // an AttributeStatement must not be empty
	}
	statement := e.CreateElement("saml:AttributeStatement")
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		attribute := statement.CreateElement("saml:Attribute")
		attribute.CreateAttr("Name", name)
		attribute.CreateAttr("NameFormat", "urn:oasis:names:tc:SAML:2.0:attrname-format:basic")
		for _, text := range texts(claims[name]) {
			value := attribute.CreateElement("saml:AttributeValue")
			value.CreateAttr("xmlns:xs", "http://www.w3.org/2001/XMLSchema")
			value.CreateAttr("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
			value.CreateAttr("xsi:type", "xs:string")
			value.SetText(text)
		}
	}
	return e
}
