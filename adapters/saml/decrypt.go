package saml

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP's default digest; it needs no resistance to collisions
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core/sso"
)

// ciphers are the block ciphers that are taken, with the size of their key in bytes (XML Encryption 1.1 §5.2.4). They
// authenticate what they encrypt. CBC and triple DES do not, and can be read by asking often enough (SAML-143).
var ciphers = map[string]int{
	nsEncrypt11 + "aes128-gcm": 16,
	nsEncrypt11 + "aes192-gcm": 24,
	nsEncrypt11 + "aes256-gcm": 32,
}

// The two spellings of RSA-OAEP (XML Encryption 1.1 §5.5.2). PKCS #1 v1.5 can be read by asking often enough (SAML-147).
const (
	algorithmOAEPMGF1 = nsEncrypt + "rsa-oaep-mgf1p"
	algorithmOAEP     = nsEncrypt11 + "rsa-oaep"
)

var oaepDigests = map[string]crypto.Hash{
	"":                   crypto.SHA1,
	nsSignature + "sha1": crypto.SHA1,
	algorithmSHA256:      crypto.SHA256,
	nsEncrypt + "sha512": crypto.SHA512,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
}

var oaepMasks = map[string]crypto.Hash{
	"":                         crypto.SHA1,
	nsEncrypt11 + "mgf1sha1":   crypto.SHA1,
	nsEncrypt11 + "mgf1sha256": crypto.SHA256,
	nsEncrypt11 + "mgf1sha384": crypto.SHA384,
	nsEncrypt11 + "mgf1sha512": crypto.SHA512,
}

// sealed is an EncryptedAssertion whose shape is right.
type sealed struct {
	data []byte
	size int         // of the key, in bytes
	keys []sealedKey // one, or two of which either may be ours
}

// sealedKey is the content's key, encrypted for one recipient.
type sealedKey struct {
	value []byte
	oaep  rsa.OAEPOptions
}

// maxSealedKeys is how many EncryptedKeys one assertion may have: during a rollover a provider may write one for each of our
// certificates. Each is tried with each of our keys, which is work that a stranger asks for.
const maxSealedKeys = 2

// decrypt opens an EncryptedAssertion (Core §2.3.4) with any of our keys: during a rollover the provider may use either. The
// assertion then went through gates 1 to 3 and stands by itself. What the document says openly, such as an algorithm that is
// not taken, is named; beyond that there is one error, whichever step failed: who sends ciphertexts learns nothing by it.
func decrypt(e *etree.Element, keys []sso.Key) (*etree.Element, *fault) {
	s, bad := sealedOf(e)
	if bad != nil {
		return nil, bad
	}
	if plain, ok := s.openAny(keys); ok {
		if assertion, err := parse(plain, ofResponse, scopeOf(e)); err == nil && is(assertion, nsAssertion, "Assertion") {
			return assertion, nil
		}
	}
	return nil, &fault{sso.CheckEncryption, "the encrypted assertion does not open with a key of this connection", "an assertion encrypted for one of the certificates of our metadata",
		"Load our service provider metadata, or the certificate in it, into the identity provider again."}
}

// openAny opens it with the first of our keys that fits one of its own.
func (s sealed) openAny(ours []sso.Key) ([]byte, bool) {
	for _, key := range s.keys {
		for _, k := range ours {
			if k.Private == nil {
				continue
			}
			if plain, ok := s.open(key, k.Private); ok {
				return plain, true
			}
		}
	}
	return nil, false
}

// open decrypts the content's key, and with it the content. Whether the one or the other failed takes as long: without the key
// a random one is tried.
func (s sealed) open(of sealedKey, private *rsa.PrivateKey) ([]byte, bool) {
	key := make([]byte, s.size)
	rand.Read(key)
	if found, err := private.Decrypt(nil, of.value, &of.oaep); err == nil && len(found) == s.size {
		key = found
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, false
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil || len(s.data) < gcm.NonceSize()+gcm.Overhead() {
		return nil, false
	}
	plain, err := gcm.Open(nil, s.data[:gcm.NonceSize()], s.data[gcm.NonceSize():], nil)
	return plain, err == nil
}

// sealedOf reads the form of an EncryptedAssertion: one EncryptedData with an EncryptedKey, or two, within its KeyInfo or beside
// it.
func sealedOf(e *etree.Element) (s sealed, bad *fault) {
	fails := func(found string) (sealed, *fault) {
		return sealed{}, &fault{sso.CheckEncryption, found, "AES-GCM, with its key encrypted by RSA-OAEP",
			"Set the identity provider to encrypt assertions with AES-GCM (aes256-gcm) and RSA-OAEP, or not to encrypt them."}
	}
	if e == nil {
		return fails("the response signed no encrypted assertion")
	}
	data := only(e, nsEncrypt, "EncryptedData")
	if data == nil || !elements(e) {
		return fails("the encrypted assertion is not one EncryptedData")
	}
	if t, given := lookup(data, "Type"); given && t != nsEncrypt+"Element" {
		return fails("what is encrypted is " + quoted(t) + ", not an element")
	}
	held := children(e, nsEncrypt, "EncryptedKey")
	for _, info := range children(data, nsSignature, "KeyInfo") {
		held = append(held, children(info, nsEncrypt, "EncryptedKey")...)
	}
	if len(held) == 0 || len(held) > maxSealedKeys {
		return fails(fmt.Sprintf("the encrypted assertion has %d EncryptedKeys; 1 to %d are taken", len(held), maxSealedKeys))
	}
	for _, key := range held {
		for _, info := range children(key, nsSignature, "KeyInfo") {
			if len(children(info, nsEncrypt, "EncryptedKey")) > 0 {
				return fails("the key is encrypted by another encrypted key")
			}
		}
	}

	algorithm, size, ok := "", 0, false
	if how := only(data, nsEncrypt, "EncryptionMethod"); how != nil {
		algorithm = attr(how, "Algorithm")
	}
	if size, ok = ciphers[algorithm]; !ok {
		s, bad := fails("the assertion is encrypted with " + quoted(algorithm))
		bad.fix = "Encrypt with AES-GCM, or not at all. AD FS: `Set-AdfsRelyingPartyTrust -TargetName NAME -EncryptClaims $false`. Keycloak: \"Encrypt Assertions\" off, or AES_256_GCM. " +
			"SimpleSAMLphp: assertion.encryption off. Others: aes256-gcm, with RSA-OAEP."
		return s, bad
	}
	s.size = size
	if s.data, ok = cipherValue(data); !ok {
		return fails("the encrypted assertion holds no ciphertext")
	}
	for _, e := range held {
		how := only(e, nsEncrypt, "EncryptionMethod")
		if how == nil {
			return fails("the key's encryption is not named")
		}
		var key sealedKey
		if key.oaep, ok = oaepOf(how); !ok {
			return fails("the key is encrypted with " + quoted(attr(how, "Algorithm")) + " of a form that is not taken")
		}
		if key.value, ok = cipherValue(e); !ok {
			return fails("the encrypted key holds no ciphertext")
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// oaepOf reads the parameters of RSA-OAEP: the digest of its label, which is empty, and that of its mask.
func oaepOf(how *etree.Element) (rsa.OAEPOptions, bool) {
	digest, mask := "", ""
	for _, child := range how.ChildElements() {
		switch {
		case is(child, nsSignature, "DigestMethod"):
			digest = attr(child, "Algorithm")
		case is(child, nsEncrypt11, "MGF") && attr(how, "Algorithm") == algorithmOAEP:
			mask = attr(child, "Algorithm")
		default:
			return rsa.OAEPOptions{}, false
		}
	}
	a := attr(how, "Algorithm")
	hash, ok := oaepDigests[digest]
	generator, known := oaepMasks[mask]
	return rsa.OAEPOptions{Hash: hash, MGFHash: generator}, ok && known && (a == algorithmOAEPMGF1 || a == algorithmOAEP)
}

// cipherValue is the ciphertext that stands in the document itself; a reference to one elsewhere is not followed.
func cipherValue(e *etree.Element) ([]byte, bool) {
	data := only(e, nsEncrypt, "CipherData")
	if data == nil {
		return nil, false
	}
	value := only(data, nsEncrypt, "CipherValue")
	if value == nil {
		return nil, false
	}
	text, ok := leaf(value)
	if !ok {
		return nil, false
	}
	b, err := binary(text)
	return b, err == nil && len(b) > 0
}
