package saml

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/fleetpass/fleetpass/core/sso"
)

const (
	algorithmEnveloped = nsSignature + "enveloped-signature"
	algorithmExclusive = nsExclusive
	algorithmRSASHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	algorithmSHA256    = nsEncrypt + "sha256"
)

// method is a signature algorithm that is taken.
type method struct {
	name      string
	key       x509.PublicKeyAlgorithm
	algorithm x509.SignatureAlgorithm
}

// methods are all that are taken (XML Signature 1.1 §6.4). Others are refused by name: SHA-1, MD5, DSA, HMAC, with which a
// public key could be taken for a secret (SAML-057), and RSA-PSS, which no metadata can ask for here.
var methods = map[string]method{
	algorithmRSASHA256: {"RSA-SHA256", x509.RSA, x509.SHA256WithRSA},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":   {"RSA-SHA384", x509.RSA, x509.SHA384WithRSA},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":   {"RSA-SHA512", x509.RSA, x509.SHA512WithRSA},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256": {"ECDSA-SHA256", x509.ECDSA, x509.ECDSAWithSHA256},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": {"ECDSA-SHA384", x509.ECDSA, x509.ECDSAWithSHA384},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512": {"ECDSA-SHA512", x509.ECDSA, x509.ECDSAWithSHA512},
}

// digests are the digest algorithms that are taken, with their size in bytes.
var digests = map[string]int{
	algorithmSHA256: 32,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": 48,
	nsEncrypt + "sha512":                            64,
}

// seal is an enveloped signature whose shape is right: it is over the element that it is a child of, and over all of it.
type seal struct {
	over, element *etree.Element
	info          *etree.Element // SignedInfo
	method        method
	value         []byte
}

// sealOf reads the signature of an element, which is its direct child, by the one form that SAML allows (Core §5.4) and every
// provider sends. Whatever XML Signature could do beyond that is refused: other references, transforms, manifests, objects.
func sealOf(over *etree.Element) (seal, *fault) {
	fails := func(found string) (seal, *fault) {
		return seal{}, &fault{sso.CheckSignature, found, "one enveloped signature over the element, exclusive canonicalization, RSA or ECDSA with SHA-256, -384 or -512",
			"Set the identity provider to sign with RSA-SHA256."}
	}
	found := children(over, nsSignature, "Signature")
	if len(found) != 1 {
		return fails(fmt.Sprintf("it has %d signatures", len(found)))
	}
	s := seal{over: over, element: found[0]}
	parts, ok := exactly(s.element, "SignedInfo", "SignatureValue", "KeyInfo?")
	if !ok {
		return fails("its signature is not exactly SignedInfo, SignatureValue and KeyInfo")
	}
	info, value := parts[0], parts[1]
	s.info = info
	parts, ok = exactly(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
	if !ok {
		return fails("its SignedInfo does not hold exactly one reference")
	}
	canonical, signature, reference := parts[0], parts[1], parts[2]
	if a := attr(canonical, "Algorithm"); a != algorithmExclusive {
		return fails("its canonicalization is " + quoted(a))
	}
	if !empty(canonical) {
		return fails("its CanonicalizationMethod has a list of prefixes to keep (InclusiveNamespaces) or the like, which is read at the reference's transform only")
	}
	if s.method, ok = methods[attr(signature, "Algorithm")]; !ok || !empty(signature) {
		return fails("its signature algorithm is " + quoted(attr(signature, "Algorithm")))
	}
	id := attr(over, "ID")
	if uri, given := lookup(reference, "URI"); !given || id == "" || uri != "#"+id {
		return fails("its reference is " + quoted(uri) + ", not the element that it stands in")
	}
	if kind, given := lookup(reference, "Type"); given { // such as of a manifest, which refers on
		return fails("its reference is to a " + quoted(kind))
	}
	if parts, ok = exactly(reference, "Transforms", "DigestMethod", "DigestValue"); !ok {
		return fails("its reference does not hold exactly transforms and a digest")
	}
	transforms, digest, digested := parts[0], parts[1], parts[2]
	if parts, ok = exactly(transforms, "Transform", "Transform"); !ok ||
		attr(parts[0], "Algorithm") != algorithmEnveloped || !empty(parts[0]) ||
		attr(parts[1], "Algorithm") != algorithmExclusive || !inclusive(parts[1]) {
		return fails("its transforms are not enveloped-signature and then exclusive canonicalization")
	}
	size, ok := digests[attr(digest, "Algorithm")]
	if !ok || !empty(digest) {
		return fails("its digest algorithm is " + quoted(attr(digest, "Algorithm")))
	}
	text, ok := leaf(digested)
	if sum, err := binary(text); !ok || err != nil || len(sum) != size {
		return fails("its digest is none")
	}
	if text, ok = leaf(value); !ok {
		return fails("its value is not text")
	}
	var err error
	if s.value, err = binary(text); err != nil || len(s.value) == 0 {
		return fails("its value is not base64")
	}
	return s, nil
}

// exactly returns the children of an element of XML Signature, if they are those, in that order, and nothing else. A name that
// ends in ? may be missing.
func exactly(e *etree.Element, names ...string) ([]*etree.Element, bool) {
	if !elements(e) {
		return nil, false
	}
	found := e.ChildElements()
	if n := len(names); n > 0 && strings.HasSuffix(names[n-1], "?") {
		if len(found) == n-1 {
			names = names[:n-1]
		} else {
			names[n-1] = strings.TrimSuffix(names[n-1], "?")
		}
	}
	if len(found) != len(names) {
		return nil, false
	}
	for i, c := range found {
		if !is(c, nsSignature, names[i]) {
			return nil, false
		}
	}
	return found, true
}

// empty says whether an element holds nothing but space.
func empty(e *etree.Element) bool { return elements(e) && len(e.ChildElements()) == 0 }

// inclusive says whether a transform holds at most a list of prefixes to keep (Exclusive XML Canonicalization §4).
func inclusive(transform *etree.Element) bool {
	list := transform.ChildElements()
	return elements(transform) && len(list) <= 1 && (len(list) == 0 || is(list[0], nsExclusive, "InclusiveNamespaces") && elements(list[0]))
}

// named are the certificates in the signature's KeyInfo, each as its DER.
func (s seal) named() map[string]bool {
	all := map[string]bool{}
	for _, info := range children(s.element, nsSignature, "KeyInfo") {
		for _, data := range children(info, nsSignature, "X509Data") {
			for _, named := range children(data, nsSignature, "X509Certificate") {
				if text, ok := leaf(named); ok {
					if der, err := binary(text); err == nil {
						all[string(der)] = true
					}
				}
			}
		}
	}
	return all
}

// signer is the first of the certificates whose key made the signature's value; nil: it is of none of them. The work that
// grows with the document, which a stranger sends, is then done for one certificate and not for each: goxmldsig writes
// the whole of it anew for every one that it is asked about.
func (s seal) signer(certificates []*x509.Certificate) *x509.Certificate {
	info := s.info.Copy()
	declareAll(info, scopeOf(s.info))
	canonical, err := dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(info)
	if err != nil {
		return nil
	}
	for _, c := range certificates {
		if c.CheckSignature(s.method.algorithm, canonical, s.ofKey(c)) == nil {
			return c
		}
	}
	return nil
}

// verify returns the element as it was signed, parsed anew from the bytes that were digested, and the certificate of the key
// that signed. It changes the tree that it is given: KeyInfo goes, since goxmldsig would believe it, or demand it where there
// are several certificates (SAML-063); the signature becomes the first child, where goxmldsig, which gives up after 1,000
// elements, finds it at once, and where it is as good as anywhere, since an enveloped signature is cut out before the rest is
// digested; and what was declared around the element is declared on it.
func (s seal) verify(certificates []*x509.Certificate) (*etree.Element, *x509.Certificate, *fault) {
	const expected = "a signature with a key of "
	c := s.signer(certificates)
	if c == nil {
		return nil, nil, &fault{sso.CheckSignature, "was not made with a key of the identity provider's metadata", expected + keysOf(certificates),
			"Load the identity provider's metadata again, since its key was changed; or sign in at the identity provider that this connection is to."}
	}
	for _, info := range children(s.element, nsSignature, "KeyInfo") {
		s.element.RemoveChild(info)
	}
	s.over.InsertChildAt(0, s.element)
	declareAll(s.over, scopeOf(s.over))
	value := only(s.element, nsSignature, "SignatureValue")
	value.Child = nil
	value.CreateText(base64.StdEncoding.EncodeToString(s.ofKey(c)))
	// goxmldsig is to judge the signature only: the certificate's validity is a check of its own, with a name of its own.
	context := &dsig.ValidationContext{
		CertificateStore: &dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{c}},
		IdAttribute:      "ID",
		Clock:            dsig.NewFakeClockAt(middle(c)),
	}
	signed, err := context.Validate(s.over)
	if err != nil || signed == nil || signed.Tag != s.over.Tag || signed.NamespaceURI() != s.over.NamespaceURI() || attr(signed, "ID") != attr(s.over, "ID") {
		return nil, nil, &fault{sso.CheckSignature, "was made with the right key, but what it is over was changed since, or is written in a way that is not read", expected + keysOf(certificates),
			"Find out what changes the response on its way from the identity provider."}
	}
	return signed, c, nil
}

// middle is a time at which a certificate is valid, if it ever is.
func middle(c *x509.Certificate) time.Time { return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2) }

func keysOf(certificates []*x509.Certificate) string {
	if len(certificates) == 0 {
		return "the metadata, which has none of that algorithm"
	}
	var names []string
	for _, c := range certificates {
		names = append(names, fmt.Sprintf("%s (valid until %s)", c.Subject, stamp(c.NotAfter)))
	}
	return strings.Join(names, ", ")
}

// ofKey is the signature's value as crypto/x509 wants it. XML Signature writes an ECDSA signature as r and s side by side
// (XML Signature 1.1 §6.4.3), X.509 as a sequence of two numbers.
func (s seal) ofKey(c *x509.Certificate) []byte {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return s.value
	}
	size := (key.Curve.Params().BitSize + 7) / 8
	if len(s.value) != 2*size {
		return s.value
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(s.value[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(s.value[size:]))
	})
	der, err := b.Bytes()
	if err != nil {
		return s.value
	}
	return der
}

// strong refuses a certificate whose key is too weak to vouch for anybody.
func strong(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			return fmt.Errorf("%s has an RSA key of %d bits; at least 2048 are needed", c.Subject, bits)
		}
		if bits := key.N.BitLen(); bits > 8192 {
			return fmt.Errorf("%s has an RSA key of %d bits; at most 8192 are taken", c.Subject, bits)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return fmt.Errorf("%s has an elliptic-curve key of %s; P-256, P-384 or P-521 is needed", c.Subject, key.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("%s has a %s key; RSA or an elliptic curve is needed", c.Subject, c.PublicKeyAlgorithm)
	}
	return nil
}
