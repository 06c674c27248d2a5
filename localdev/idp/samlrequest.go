package idp

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// authnRequest is what is read of an AuthnRequest (SAML 2.0 Core §3.4.1).
type authnRequest struct {
	XMLName     xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:protocol AuthnRequest"`
	ID          string   `xml:"ID,attr"`
	Version     string   `xml:"Version,attr"`
	Destination string   `xml:"Destination,attr"`
	ACS         string   `xml:"AssertionConsumerServiceURL,attr"`
	ACSIndex    string   `xml:"AssertionConsumerServiceIndex,attr"`
	Binding     string   `xml:"ProtocolBinding,attr"`
	Force       string   `xml:"ForceAuthn,attr"`
	Passive     string   `xml:"IsPassive,attr"`
	Issuer      string   `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	Policy      struct {
		Format string `xml:"Format,attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:protocol NameIDPolicy"`
}

// parseRequest reads an AuthnRequest. What it says is not checked.
func parseRequest(doc []byte) (r authnRequest, err error) {
	if err := readXML(doc, &r); err != nil {
		return authnRequest{}, fmt.Errorf("the AuthnRequest does not read: %w", err)
	}
	r.Issuer = strings.TrimSpace(r.Issuer)
	return r, nil
}

// inflate undoes HTTP-Redirect's encoding (SAML 2.0 Bindings §3.4.4.1): base64 and a bounded DEFLATE.
func inflate(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("the SAMLRequest is not base64")
	}
	doc, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), maxBody+1))
	if err != nil || len(doc) > maxBody {
		return nil, errors.New("the SAMLRequest does not inflate, or to too much")
	}
	return doc, nil
}

// samlRedirect takes a request by HTTP-Redirect.
func (p *Provider) samlRedirect(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["SAMLRequest"]) != 1 || len(q["RelayState"]) > 1 {
		p.problem(w, http.StatusBadRequest, "There must be one SAMLRequest and at most one RelayState.")
		return
	}
	doc, err := inflate(q.Get("SAMLRequest"))
	var req authnRequest
	if err == nil {
		req, err = parseRequest(doc)
	}
	if err != nil {
		p.problem(w, http.StatusBadRequest, err.Error())
		return
	}
	sp, err := p.issuer(req)
	signed := q.Has("Signature")
	if err == nil && signed {
		err = checkQuery(r.URL.RawQuery, sp.Certificates)
	}
	p.samlBegin(w, r, sp, req, signed, err, q.Get("RelayState"))
}

// samlPost takes a request by HTTP-POST.
func (p *Provider) samlPost(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.PostForm["SAMLRequest"]) != 1 || len(r.PostForm["RelayState"]) > 1 {
		p.problem(w, http.StatusBadRequest, "There must be one SAMLRequest and at most one RelayState.")
		return
	}
	doc, err := base64.StdEncoding.DecodeString(r.PostForm.Get("SAMLRequest"))
	var req authnRequest
	if err == nil {
		req, err = parseRequest(doc)
	}
	if err != nil {
		p.problem(w, http.StatusBadRequest, err.Error())
		return
	}
	sp, err := p.issuer(req)
	signed := false
	if err == nil {
		var verified []byte
		if verified, err = p.checkEnveloped(doc, sp.Certificates); err == nil && verified != nil {
			signed = true
			req, err = parseRequest(verified) // what was signed counts, not what was sent
		}
	}
	p.samlBegin(w, r, sp, req, signed, err, r.PostForm.Get("RelayState"))
}

// issuer is the service that a request says it comes from.
func (p *Provider) issuer(req authnRequest) (ServiceProvider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sp, ok := p.services[req.Issuer]
	if !ok {
		return sp, fmt.Errorf("no service provider %q is registered here", req.Issuer)
	}
	return sp, nil
}

// samlBegin judges a request that was read and whose signature, if it has one, was verified with the outcome err.
func (p *Provider) samlBegin(w http.ResponseWriter, r *http.Request, sp ServiceProvider, req authnRequest, signed bool, err error, relay string) {
	acs := req.ACS
	if acs == "" && len(sp.ACS) > 0 {
		acs = sp.ACS[0]
	}
	switch {
	case err != nil:
	case req.Issuer != sp.EntityID:
		err = errors.New("what is signed is of another issuer")
	case !signed && (sp.SignsRequests || p.options.WantSignedRequests):
		err = errors.New("the AuthnRequest is not signed")
	case req.Version != "2.0" || req.ID == "":
		err = errors.New("the AuthnRequest needs a Version 2.0 and an ID")
	case req.Destination != p.ssoURL() && (req.Destination != "" || signed):
		err = fmt.Errorf("the AuthnRequest is for %q, and this is %q", req.Destination, p.ssoURL())
	case req.Binding != "" && req.Binding != bindingPost:
		err = errors.New("responses are sent by HTTP-POST only")
	case req.ACSIndex != "":
		err = errors.New("an AssertionConsumerServiceIndex is not understood here")
	case !slices.Contains(sp.ACS, acs):
		err = fmt.Errorf("the assertion consumer service %q is not registered for %s", acs, sp.EntityID)
	}
	if err != nil {
		p.problem(w, http.StatusBadRequest, err.Error())
		return
	}
	p.begin(w, r, waiting{
		asked: samlAsked{sp: sp, acs: acs, request: req.ID, format: req.Policy.Format, relay: relay},
		fresh: isTrue(req.Force), none: isTrue(req.Passive),
	})
}

// samlStart begins a sign-in that the service did not ask for (SAML 2.0 Profiles §4.1.5).
func (p *Provider) samlStart(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	sp, ok := p.services[r.FormValue("sp")]
	p.mu.Unlock()
	if !ok {
		p.problem(w, http.StatusNotFound, "No such service provider is registered here.")
		return
	}
	p.begin(w, r, waiting{asked: samlAsked{sp: sp, acs: sp.ACS[0], relay: r.FormValue("RelayState")}})
}

// hashes are the signature algorithms of HTTP-Redirect that are taken.
var hashes = map[string]crypto.Hash{dsig.RSASHA256SignatureMethod: crypto.SHA256, dsig.RSASHA384SignatureMethod: crypto.SHA384, dsig.RSASHA512SignatureMethod: crypto.SHA512}

// checkQuery verifies the signature of HTTP-Redirect, over the very bytes of the query (SAML 2.0 Bindings §3.4.4.1).
func checkQuery(raw string, certificates [][]byte) error {
	parts := map[string]string{}
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		if _, twice := parts[name]; twice {
			return fmt.Errorf("the parameter %s is there twice", name)
		}
		parts[name] = value
	}
	signed := "SAMLRequest=" + parts["SAMLRequest"]
	if relay, ok := parts["RelayState"]; ok {
		signed += "&RelayState=" + relay
	}
	signed += "&SigAlg=" + parts["SigAlg"]
	algorithm, err := url.QueryUnescape(parts["SigAlg"])
	hash, ok := hashes[algorithm]
	if err != nil || !ok {
		return fmt.Errorf("the signature algorithm %q is not taken", algorithm)
	}
	text, err := url.QueryUnescape(parts["Signature"])
	if err != nil {
		return errors.New("the Signature does not read")
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errors.New("the Signature is not base64")
	}
	digest := hash.New()
	digest.Write([]byte(signed))
	sum := digest.Sum(nil)
	for _, der := range certificates {
		if public, err := rsaOf(der); err == nil && rsa.VerifyPKCS1v15(public, hash, sum, signature) == nil {
			return nil
		}
	}
	return errors.New("the AuthnRequest's signature does not verify with the service provider's certificate")
}

// checkEnveloped verifies the signature of HTTP-POST and returns what is signed; nil if there is no signature.
func (p *Provider) checkEnveloped(doc []byte, certificates [][]byte) ([]byte, error) {
	d := etree.NewDocument()
	if err := d.ReadFromBytes(doc); err != nil || d.Root() == nil {
		return nil, errors.New("the AuthnRequest does not read")
	}
	if !slices.ContainsFunc(d.Root().ChildElements(), func(e *etree.Element) bool { return e.Tag == "Signature" && e.NamespaceURI() == nsSignature }) {
		return nil, nil
	}
	var store dsig.MemoryX509CertificateStore
	for _, der := range certificates {
		if c, err := x509.ParseCertificate(der); err == nil {
			store.Roots = append(store.Roots, c)
		}
	}
	c := dsig.NewDefaultValidationContext(&store)
	verified, err := c.Validate(d.Root())
	if err != nil {
		return nil, errors.New("the AuthnRequest's signature does not verify with the service provider's certificate")
	}
	return document(verified)
}
