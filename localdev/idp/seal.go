package idp

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// The ciphers of encrypted assertions (XML Encryption 1.1 §5.2.4).
const (
	AES256GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
	AES128GCM = "http://www.w3.org/2009/xmlenc11#aes128-gcm"
)

// sign puts an enveloped signature into e, as its child at index. method is the signature's algorithm; "": RSA-SHA256. Both
// canonicalization and transform are exclusive, so that the signature holds wherever e is put.
func sign(e *etree.Element, index int, k *key, method string) error {
	c, err := dsig.NewSigningContext(crypto.Signer(k.rsa), [][]byte{k.certificate})
	if err != nil {
		return err
	}
	c.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if method != "" {
		if err := c.SetSignatureMethod(method); err != nil {
			return err
		}
	}
	signature, err := c.ConstructSignature(e, true)
	if err != nil {
		return err
	}
	e.InsertChildAt(index, signature)
	return nil
}

// encrypt makes an EncryptedAssertion of an assertion: under a new AES key, which is encrypted with RSA-OAEP, both its digest and
// its mask with SHA-256 (XML Encryption 1.1 §5.5.2).
func encrypt(assertion *etree.Element, to []byte, algorithm string) (*etree.Element, error) {
	plain, err := document(assertion)
	if err != nil {
		return nil, err
	}
	public, err := rsaOf(to)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	if algorithm == AES128GCM {
		secret = secret[:16]
	} else {
		algorithm = AES256GCM
	}
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // the nonce stands first, as the standard wants it
	if err != nil {
		return nil, err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, secret, nil)
	if err != nil {
		return nil, err
	}

	e := etree.NewElement("saml:EncryptedAssertion")
	e.CreateAttr("xmlns:saml", nsAssertion)
	data := e.CreateElement("xenc:EncryptedData")
	data.CreateAttr("xmlns:xenc", nsEncryption)
	data.CreateAttr("Type", nsEncryption+"Element")
	data.CreateElement("xenc:EncryptionMethod").CreateAttr("Algorithm", algorithm)
	info := data.CreateElement("ds:KeyInfo")
	info.CreateAttr("xmlns:ds", nsSignature)
	key := info.CreateElement("xenc:EncryptedKey")
	method := key.CreateElement("xenc:EncryptionMethod")
	method.CreateAttr("Algorithm", "http://www.w3.org/2009/xmlenc11#rsa-oaep")
	method.CreateElement("ds:DigestMethod").CreateAttr("Algorithm", nsEncryption+"sha256")
	mask := method.CreateElement("xenc11:MGF")
	mask.CreateAttr("xmlns:xenc11", "http://www.w3.org/2009/xmlenc11#")
	mask.CreateAttr("Algorithm", "http://www.w3.org/2009/xmlenc11#mgf1sha256")
	key.CreateElement("ds:KeyInfo").CreateElement("ds:X509Data").CreateElement("ds:X509Certificate").SetText(base64.StdEncoding.EncodeToString(to))
	key.CreateElement("xenc:CipherData").CreateElement("xenc:CipherValue").SetText(base64.StdEncoding.EncodeToString(wrapped))
	data.CreateElement("xenc:CipherData").CreateElement("xenc:CipherValue").SetText(base64.StdEncoding.EncodeToString(aead.Seal(nil, nil, plain, nil)))
	return e, nil
}

// rsaOf is the RSA key of a certificate in DER.
func rsaOf(der []byte) (*rsa.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("a certificate does not read: %w", err)
	}
	public, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a certificate's key is not RSA")
	}
	return public, nil
}
