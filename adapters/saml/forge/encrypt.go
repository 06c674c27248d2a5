package forge

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // what is forged is what must be refused
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"

	"github.com/beevik/etree"
)

// The algorithms of XML Encryption 1.1 (§5), good and bad.
const (
	AES128GCM = "http://www.w3.org/2009/xmlenc11#aes128-gcm"
	AES192GCM = "http://www.w3.org/2009/xmlenc11#aes192-gcm"
	AES256GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
	AES128CBC = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
	AES192CBC = "http://www.w3.org/2001/04/xmlenc#aes192-cbc"
	AES256CBC = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"
	TripleDES = "http://www.w3.org/2001/04/xmlenc#tripledes-cbc"

	OAEPMGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p" // the mask is always SHA-1's
	OAEP11    = "http://www.w3.org/2009/xmlenc11#rsa-oaep"        // the mask is named
	PKCS1v15  = "http://www.w3.org/2001/04/xmlenc#rsa-1_5"

	MGF1SHA1   = "http://www.w3.org/2009/xmlenc11#mgf1sha1"
	MGF1SHA256 = "http://www.w3.org/2009/xmlenc11#mgf1sha256"

	NSEncryption   = "http://www.w3.org/2001/04/xmlenc#"
	NSEncryption11 = "http://www.w3.org/2009/xmlenc11#"
)

// Encryption is how an assertion is encrypted. The zero value of all but Certificate is how a good identity provider does it.
type Encryption struct {
	Certificate *x509.Certificate // the service provider's
	Data        string            // default: AES256GCM
	Key         string            // default: OAEP11 with SHA-256 and MGF1SHA256
	Digest      string            // of OAEP; default: DigestSHA256
	MGF         string            // of OAEP11; default: MGF1SHA256
	SessionKey  []byte            // default: random, as long as Data needs
	Plain       []byte            // default: the assertion
	Beside      bool              // EncryptedKey stands beside EncryptedData, not in its KeyInfo (SAML 2.0 Core §6.2 has both)

	Spoil func(ciphertext []byte) []byte // changes what was encrypted
	Edit  func(encrypted *etree.Element) // changes the EncryptedAssertion when all is done
}

// replace puts the encrypted assertion where the plain one stands.
func (c *Encryption) replace(assertion *etree.Element) {
	parent, at := assertion.Parent(), assertion.Index()
	plain := c.Plain
	if plain == nil {
		plain = Bytes(etree.NewDocumentWithRoot(detached(assertion)))
	}
	parent.RemoveChildAt(at)
	parent.InsertChildAt(at, c.Element(plain))
}

// Element is an EncryptedAssertion that holds plain.
func (c *Encryption) Element(plain []byte) *etree.Element {
	algorithm := or(c.Data, AES256GCM)
	key := c.SessionKey
	if key == nil {
		size, ok := keySizes[algorithm]
		if !ok {
			size = 32
		}
		key = make([]byte, size)
		_, err := rand.Read(key)
		must(err)
	}
	ciphertext := c.encrypt(algorithm, key, plain)
	if c.Spoil != nil {
		ciphertext = c.Spoil(ciphertext)
	}

	e := etree.NewElement("saml:EncryptedAssertion")
	e.CreateAttr("xmlns:saml", NSAssertion)
	data := e.CreateElement("xenc:EncryptedData")
	attrs(data, "xmlns:xenc", NSEncryption, "Type", NSEncryption+"Element")
	attrs(data.CreateElement("xenc:EncryptionMethod"), "Algorithm", algorithm)
	if c.Beside {
		e.AddChild(c.EncryptedKey(key))
	} else {
		info := data.CreateElement("ds:KeyInfo")
		info.CreateAttr("xmlns:ds", NSSignature)
		info.AddChild(c.EncryptedKey(key))
	}
	text(data.CreateElement("xenc:CipherData"), "xenc:CipherValue", base64.StdEncoding.EncodeToString(ciphertext))
	if c.Edit != nil {
		c.Edit(e)
	}
	return e
}

var keySizes = map[string]int{
	AES128GCM: 16, AES192GCM: 24, AES256GCM: 32, AES128CBC: 16, AES192CBC: 24, AES256CBC: 32, TripleDES: 24,
}

// encrypt is the content of a CipherValue: the nonce or IV, then the ciphertext (XML Encryption 1.1 §5.2). A session key that
// does not fit the algorithm gives octets that look like it.
func (c *Encryption) encrypt(algorithm string, key, plain []byte) []byte {
	var block cipher.Block
	var err error
	if algorithm == TripleDES {
		block, err = des.NewTripleDESCipher(key)
	} else {
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		filler := make([]byte, 64)
		_, err := rand.Read(filler)
		must(err)
		return filler
	}
	switch algorithm {
	case AES128CBC, AES192CBC, AES256CBC, TripleDES:
		size := block.BlockSize()
		padding := size - len(plain)%size
		padded := append(append([]byte(nil), plain...), make([]byte, padding)...)
		padded[len(padded)-1] = byte(padding)
		out := make([]byte, size+len(padded))
		_, err := rand.Read(out[:size])
		must(err)
		cipher.NewCBCEncrypter(block, out[:size]).CryptBlocks(out[size:], padded)
		return out
	default:
		gcm, err := cipher.NewGCM(block)
		must(err)
		nonce := make([]byte, gcm.NonceSize())
		_, err = rand.Read(nonce)
		must(err)
		return gcm.Seal(nonce, nonce, plain, nil)
	}
}

// EncryptedKey is a key for the service provider.
func (c *Encryption) EncryptedKey(key []byte) *etree.Element {
	algorithm := or(c.Key, OAEP11)
	e := etree.NewElement("xenc:EncryptedKey")
	e.CreateAttr("xmlns:xenc", NSEncryption)
	method := e.CreateElement("xenc:EncryptionMethod")
	attrs(method, "Algorithm", algorithm)

	public := c.Certificate.PublicKey.(*rsa.PublicKey)
	var encrypted []byte
	var err error
	switch algorithm {
	case PKCS1v15:
		//lint:ignore SA1019 it is what must be refused
		encrypted, err = rsa.EncryptPKCS1v15(rand.Reader, public, key)
	default:
		digest, mask := or(c.Digest, DigestSHA256), or(c.MGF, MGF1SHA256)
		attrs(method.CreateElement("ds:DigestMethod"), "xmlns:ds", NSSignature, "Algorithm", digest)
		if algorithm == OAEP11 {
			attrs(method.CreateElement("xenc11:MGF"), "xmlns:xenc11", NSEncryption11, "Algorithm", mask)
		} else {
			mask = MGF1SHA1
		}
		hash := crypto.SHA256
		if mask == MGF1SHA1 {
			hash = crypto.SHA1
		}
		encrypted, err = rsa.EncryptOAEPWithOptions(rand.Reader, public, key, &rsa.OAEPOptions{Hash: hashes[digest], MGFHash: hash})
	}
	must(err)
	text(e.CreateElement("xenc:CipherData"), "xenc:CipherValue", base64.StdEncoding.EncodeToString(encrypted))
	return e
}
