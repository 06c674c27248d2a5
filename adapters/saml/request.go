package saml

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/fleetpass/fleetpass/core/sso"
)

// Start implements sso.Provider: it makes an AuthnRequest (SAML 2.0 Core §3.4.1) and sends it by HTTP-Redirect where the
// provider takes that, else by HTTP-POST.
func (p *Provider) Start(ctx context.Context, c sso.Connection, s sso.Secrets, j sso.Journey) (sso.Departure, error) {
	if err := ctx.Err(); err != nil {
		return sso.Departure{}, err
	}
	if c.SAML == nil {
		return sso.Departure{}, errNoSettings
	}
	to, ok := endpoint(c.SAML.IdP.SignOn)
	if !ok {
		return sso.Departure{}, errors.New("saml: the connection has no address to send requests to")
	}
	var key *sso.Key
	if c.SAML.IdP.WantsSigned || c.SAML.SignRequests {
		if len(s.Keys) == 0 || s.Keys[0].Private == nil {
			return sso.Departure{}, errors.New("saml: the connection has no key to sign requests with")
		}
		key = &s.Keys[0]
	}
	id := newID()
	request := authnRequest(id, to.URL, c, j)
	d := sso.Departure{URL: to.URL, Pending: sso.Pending{Request: id, Login: j.Login, At: j.Now}}
	var err error
	if to.Binding == bindingRedirect {
		d.Sent = show(sso.MaxSent, request)
		d.URL, err = redirect(to.URL, request, j.State, key)
		return d, err
	}
	if key != nil {
		if err := sign(request, *key); err != nil {
			return sso.Departure{}, err
		}
	}
	d.Sent = show(sso.MaxSent, request)
	d.Form = map[string]string{"SAMLRequest": base64.StdEncoding.EncodeToString(document(request)), "RelayState": j.State}
	return d, nil
}

// endpoint prefers HTTP-Redirect: it needs no page of ours on the way.
func endpoint(all []sso.SAMLEndpoint) (sso.SAMLEndpoint, bool) {
	for _, binding := range []string{bindingRedirect, bindingPost} {
		for _, e := range all {
			if e.Binding == binding {
				return e, true
			}
		}
	}
	return sso.SAMLEndpoint{}, false
}

// newID is an ID that nobody can guess (Core §1.3.4). It begins as an NCName must.
func newID() string {
	var b [20]byte
	rand.Read(b[:])
	return "_" + hex.EncodeToString(b[:])
}

// authnRequest writes an AuthnRequest. The format of the name identifier is left to the provider, in the words that all of
// them take: to ask for a persistent one, which we could use, makes AD FS and others refuse until somebody has configured
// one, and people are known by their e-mail anyway.
func authnRequest(id, to string, c sso.Connection, j sso.Journey) *etree.Element {
	e := etree.NewElement("samlp:AuthnRequest")
	e.CreateAttr("xmlns:samlp", nsProtocol)
	e.CreateAttr("xmlns:saml", nsAssertion)
	e.CreateAttr("ID", id)
	e.CreateAttr("Version", "2.0")
	e.CreateAttr("IssueInstant", stamp(j.Now))
	e.CreateAttr("Destination", to)
	if j.Login {
		e.CreateAttr("ForceAuthn", "true")
	}
	e.CreateAttr("ProtocolBinding", bindingPost)
	e.CreateAttr("AssertionConsumerServiceURL", j.Return)
	e.CreateElement("saml:Issuer").SetText(j.EntityID)
	policy := e.CreateElement("samlp:NameIDPolicy")
	policy.CreateAttr("Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified")
	policy.CreateAttr("AllowCreate", "true")
	return e
}

// document writes an element as a document of its own.
func document(e *etree.Element) []byte {
	d := etree.NewDocumentWithRoot(e)
	b, err := d.WriteToBytes()
	if err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b
}

// redirect makes the address of the HTTP-Redirect binding (Bindings §3.4.4.1). A signature is over the very bytes of the query
// that are sent, so they are put together by hand.
func redirect(to string, request *etree.Element, state string, key *sso.Key) (string, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return "", err
	}
	w.Write(document(request))
	if err := w.Close(); err != nil {
		return "", err
	}
	query := "SAMLRequest=" + url.QueryEscape(base64.StdEncoding.EncodeToString(packed.Bytes())) + "&RelayState=" + url.QueryEscape(state)
	if key != nil {
		query += "&SigAlg=" + url.QueryEscape(algorithmRSASHA256)
		sum := sha256.Sum256([]byte(query))
		signature, err := rsa.SignPKCS1v15(nil, key.Private, crypto.SHA256, sum[:])
		if err != nil {
			return "", fmt.Errorf("signing the request: %w", err)
		}
		query += "&Signature=" + url.QueryEscape(base64.StdEncoding.EncodeToString(signature))
	}
	mark := "?"
	if strings.Contains(to, "?") {
		mark = "&"
	}
	return to + mark + query, nil
}

// sign puts an enveloped signature behind the request's Issuer, where the schema has it.
func sign(e *etree.Element, key sso.Key) error {
	context, err := dsig.NewSigningContext(key.Private, [][]byte{key.Certificate})
	if err != nil {
		return err
	}
	context.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	// The canonicalizer changes what it is given, so it is given a copy.
	signature, err := context.ConstructSignature(e.Copy(), true)
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	e.InsertChildAt(1, signature)
	return nil
}
