package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	_ "crypto/md5" // the hashes that are claimed
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"math/big"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// The algorithms of signatures (RFC 9231; W3C XML Signature §6), good and bad.
const (
	RSASHA1     = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
	RSASHA256   = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	RSASHA384   = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"
	RSASHA512   = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"
	RSAMD5      = "http://www.w3.org/2001/04/xmldsig-more#rsa-md5"
	PSSSHA256   = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
	ECDSASHA1   = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"
	ECDSASHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
	ECDSASHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
	HMACSHA1    = "http://www.w3.org/2000/09/xmldsig#hmac-sha1"
	HMACSHA256  = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"

	DigestSHA1   = "http://www.w3.org/2000/09/xmldsig#sha1"
	DigestSHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
	DigestSHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
	DigestSHA512 = "http://www.w3.org/2001/04/xmlenc#sha512"
	DigestMD5    = "http://www.w3.org/2001/04/xmldsig-more#md5"

	C14NExclusive         = "http://www.w3.org/2001/10/xml-exc-c14n#"
	C14NExclusiveComments = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"
	C14N11                = "http://www.w3.org/2006/12/xml-c14n11"
	C14N11Comments        = "http://www.w3.org/2006/12/xml-c14n11#WithComments"
	C14N10                = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
	C14N10Comments        = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"
	Enveloped             = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
)

// Signing is how something is signed. The zero value is how a good identity provider signs: SHA-256, exclusive
// canonicalization, one enveloped signature with the certificate.
type Signing struct {
	Key          crypto.Signer // default: the IdP's
	HMAC         []byte        // the shared secret, for the HMAC methods
	Method       string        // default: RSASHA256 or ECDSASHA256, by the key
	Claim        string        // the method that is named; default: Method
	Digest       string        // default: DigestSHA256
	C14N         string        // of SignedInfo; default: C14NExclusive
	Transforms   []string      // default: Enveloped, C14NExclusive
	Prefixes     string        // the PrefixList of InclusiveNamespaces in the transform C14NExclusive, as Okta has it
	ECDSA        ECDSAForm     // how the two numbers of an ECDSA signature are written
	Certificates [][]byte      // DER, in KeyInfo; default: the IdP's certificate
	NoKeyInfo    bool          // leave KeyInfo out
	URI          *string       // of the Reference; default: "#" and the element's ID
	At           Position      // where the signature stands

	// EditInfo changes SignedInfo before it is signed; the digest is there already.
	EditInfo func(info *etree.Element)
}

// Position is where a signature stands among the children of what it covers.
type Position int

// The positions.
const (
	AfterIssuer Position = iota // after the first child: where SAML 2.0 Core has it
	First                       // where SAML 2.0 Metadata has it
	Last
)

// ECDSAForm is how an ECDSA signature is written.
type ECDSAForm int

// The forms.
const (
	Concatenated ECDSAForm = iota // r and s, each as long as the curve's order: what XML Signature 1.1 §6.4.3 says
	ASN1                          // a DER sequence, as goxmldsig expects and XML Signature does not
)

// Sign puts an enveloped signature into an element of a message, and returns it.
func (p *IdP) Sign(e *etree.Element, s Signing) *etree.Element {
	signature := etree.NewElement("ds:Signature")
	signature.CreateAttr("xmlns:ds", NSSignature)
	info := signature.CreateElement("ds:SignedInfo")

	at := 0
	switch children := e.ChildElements(); {
	case s.At == Last:
		at = len(e.Child)
	case s.At == AfterIssuer && len(children) > 0:
		at = children[0].Index() + 1
	}
	e.InsertChildAt(at, signature)
	p.fillInfo(e, info, s)
	if s.EditInfo != nil {
		s.EditInfo(info)
	}
	p.FillSignature(signature, s)
	return signature
}

// fillInfo writes SignedInfo, with the digest of e.
func (p *IdP) fillInfo(e, info *etree.Element, s Signing) {
	attrs(info.CreateElement("ds:CanonicalizationMethod"), "Algorithm", or(s.C14N, C14NExclusive))
	attrs(info.CreateElement("ds:SignatureMethod"), "Algorithm", or(s.Claim, or(s.Method, p.method(s))))
	reference := info.CreateElement("ds:Reference")
	if s.URI != nil {
		reference.CreateAttr("URI", *s.URI)
	} else {
		reference.CreateAttr("URI", "#"+e.SelectAttrValue("ID", ""))
	}
	list := s.Transforms
	if list == nil {
		list = []string{Enveloped, C14NExclusive}
	}
	transforms := reference.CreateElement("ds:Transforms")
	for _, t := range list {
		transform := attrs(transforms.CreateElement("ds:Transform"), "Algorithm", t)
		if t == C14NExclusive && s.Prefixes != "" {
			attrs(transform.CreateElement("ec:InclusiveNamespaces"), "xmlns:ec", C14NExclusive, "PrefixList", s.Prefixes)
		}
	}
	attrs(reference.CreateElement("ds:DigestMethod"), "Algorithm", or(s.Digest, DigestSHA256))
	text(reference, "ds:DigestValue", base64.StdEncoding.EncodeToString(sum(or(s.Digest, DigestSHA256), transformed(e, info.Parent(), list, s.Prefixes))))
}

// FillSignature writes SignatureValue and KeyInfo for the SignedInfo that is there, in place of those that are.
func (p *IdP) FillSignature(signature *etree.Element, s Signing) {
	for _, tag := range []string{"SignatureValue", "KeyInfo"} {
		for _, old := range signature.SelectElements(tag) {
			signature.RemoveChild(old)
		}
	}
	octets := canonical(signature.SelectElement("SignedInfo"), or(s.C14N, C14NExclusive))
	text(signature, "ds:SignatureValue", base64.StdEncoding.EncodeToString(p.value(octets, s)))
	if s.NoKeyInfo {
		return
	}
	certificates := s.Certificates
	if certificates == nil {
		certificates = [][]byte{p.Certificate.Raw}
	}
	data := signature.CreateElement("ds:KeyInfo").CreateElement("ds:X509Data")
	for _, c := range certificates {
		text(data, "ds:X509Certificate", base64.StdEncoding.EncodeToString(c))
	}
}

func (p *IdP) method(s Signing) string {
	if _, ok := p.key(s).Public().(*ecdsa.PublicKey); ok {
		return ECDSASHA256
	}
	return RSASHA256
}

func (p *IdP) key(s Signing) crypto.Signer {
	if s.Key != nil {
		return s.Key
	}
	return p.Key
}

// value is the value of a signature over octets.
func (p *IdP) value(octets []byte, s Signing) []byte {
	method := or(s.Method, p.method(s))
	hash, ok := hashes[method]
	if !ok {
		panic("forge: unknown signature method " + method)
	}
	if method == HMACSHA1 || method == HMACSHA256 {
		h := hmac.New(hash.New, s.HMAC)
		h.Write(octets)
		return h.Sum(nil)
	}
	h := hash.New()
	h.Write(octets)
	var opts crypto.SignerOpts = hash
	if method == PSSSHA256 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	value, err := p.key(s).Sign(rand.Reader, h.Sum(nil), opts)
	must(err)
	if public, ok := p.key(s).Public().(*ecdsa.PublicKey); ok && s.ECDSA == Concatenated {
		var rs struct{ R, S *big.Int }
		_, err := asn1.Unmarshal(value, &rs)
		must(err)
		size := (public.Curve.Params().N.BitLen() + 7) / 8
		value = append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
	}
	return value
}

var hashes = map[string]crypto.Hash{
	RSASHA1: crypto.SHA1, RSASHA256: crypto.SHA256, RSASHA384: crypto.SHA384, RSASHA512: crypto.SHA512, RSAMD5: crypto.MD5,
	PSSSHA256: crypto.SHA256, ECDSASHA1: crypto.SHA1, ECDSASHA256: crypto.SHA256, ECDSASHA384: crypto.SHA384, HMACSHA1: crypto.SHA1, HMACSHA256: crypto.SHA256,
	DigestSHA1: crypto.SHA1, DigestSHA256: crypto.SHA256, DigestSHA384: crypto.SHA384, DigestSHA512: crypto.SHA512, DigestMD5: crypto.MD5,
}

// sum is a digest; of an algorithm that is not known it is SHA-256's, under a false name.
func sum(algorithm string, octets []byte) []byte {
	hash, ok := hashes[algorithm]
	if !ok {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(octets)
	return h.Sum(nil)
}

// transformed is e as the transforms leave it, as goxmldsig applies them: each enveloped-signature removes what stands where
// the signature stood. Where none of them canonicalizes, goxmldsig's null canonicalization ends it; what is not known, such as
// an XPath, selects nothing.
func transformed(e, signature *etree.Element, transforms []string, prefixes string) []byte {
	at := signature.Index()
	d := detached(e)
	form := ""
	for _, t := range transforms {
		switch _, known := canonicalizers[t]; {
		case t == Enveloped:
			d.RemoveChildAt(at)
		case known:
			form = t
		default:
			return nil
		}
	}
	return canonicalized(d, form, prefixes)
}

// canonical is the canonical form of an element where it stands.
func canonical(e *etree.Element, algorithm string) []byte {
	return canonicalized(detached(e), algorithm, "")
}

func canonicalized(e *etree.Element, algorithm, prefixes string) []byte {
	c := dsig.MakeNullCanonicalizer()
	if known, ok := canonicalizers[algorithm]; ok {
		c = known()
	}
	if algorithm == C14NExclusive {
		c = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList(prefixes)
	}
	octets, err := c.Canonicalize(e)
	must(err)
	return octets
}

var canonicalizers = map[string]func() dsig.Canonicalizer{
	C14NExclusive:         func() dsig.Canonicalizer { return dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("") },
	C14NExclusiveComments: func() dsig.Canonicalizer { return dsig.MakeC14N10ExclusiveWithCommentsCanonicalizerWithPrefixList("") },
	C14N11:                dsig.MakeC14N11Canonicalizer,
	C14N11Comments:        dsig.MakeC14N11WithCommentsCanonicalizer,
	C14N10:                dsig.MakeC14N10RecCanonicalizer,
	C14N10Comments:        dsig.MakeC14N10WithCommentsCanonicalizer,
}

// detached is a copy of an element with the namespaces that are in scope where it stands. goxmldsig has one that gives up at
// a thousand elements; what is forged may be larger.
func detached(e *etree.Element) *etree.Element {
	d := e.Copy()
	declared := map[string]bool{}
	for around := e; around != nil; around = around.Parent() {
		for _, a := range around.Attr {
			if name := a.FullKey(); (a.Space == "xmlns" || name == "xmlns") && !declared[name] {
				declared[name] = true
				d.CreateAttr(name, a.Value)
			}
		}
	}
	return d
}
