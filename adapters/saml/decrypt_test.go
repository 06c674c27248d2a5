package saml

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core/sso"
)

// envelope says how a test encrypts.
type envelopeOf struct {
	data    string // algorithm
	key     string // algorithm
	digest  string // of OAEP; "": not said
	mask    string // of OAEP; "": not said
	to      *rsa.PublicKey
	beside  bool                   // the EncryptedKey stands beside EncryptedData
	spoil   func(e *etree.Element) // afterwards
	content []byte                 // instead of the assertion
}

// encrypt does what decrypt undoes, with the standard library alone.
func (v envelopeOf) encrypt(t testing.TB) func(assertion []byte) *etree.Element {
	return func(assertion []byte) *etree.Element {
		t.Helper()
		if v.content != nil {
			assertion = v.content
		}
		size := ciphers[v.data]
		if size == 0 {
			size = 16 // of what is refused before anything is decrypted
		}
		secret := make([]byte, size)
		rand.Read(secret)
		block, err := aes.NewCipher(secret)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		nonce := make([]byte, gcm.NonceSize())
		rand.Read(nonce)
		sealed := gcm.Seal(nonce, nonce, assertion, nil)
		wrapped, err := rsa.EncryptOAEPWithOptions(rand.Reader, v.to, secret, &rsa.OAEPOptions{Hash: oaepDigests[v.digest], MGFHash: oaepMasks[v.mask]})
		if err != nil {
			t.Fatal(err)
		}
		key := `<xenc:EncryptedKey Id="_k1"><xenc:EncryptionMethod Algorithm="` + v.key + `">`
		if v.digest != "" {
			key += `<ds:DigestMethod Algorithm="` + v.digest + `"/>`
		}
		if v.mask != "" {
			key += `<xenc11:MGF xmlns:xenc11="` + nsEncrypt11 + `" Algorithm="` + v.mask + `"/>`
		}
		key += `</xenc:EncryptionMethod><ds:KeyInfo><ds:X509Data/></ds:KeyInfo><xenc:CipherData><xenc:CipherValue>` + lines(wrapped) + `</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey>`
		inside, beside := key, ""
		if v.beside {
			inside, beside = `<ds:RetrievalMethod Type="`+nsEncrypt+`EncryptedKey" URI="#_k1"/>`, key
		}
		d := etree.NewDocument()
		if err := d.ReadFromString(`<saml:EncryptedAssertion xmlns:saml="` + nsAssertion + `" xmlns:xenc="` + nsEncrypt + `" xmlns:ds="` + nsSignature + `"><xenc:EncryptedData Id="_d1" Type="` + nsEncrypt + `Element"><xenc:EncryptionMethod Algorithm="` + v.data + `"/><ds:KeyInfo>` + inside + `</ds:KeyInfo><xenc:CipherData><xenc:CipherValue>` + lines(sealed) + `</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>` + beside + `</saml:EncryptedAssertion>`); err != nil {
			t.Fatal(err)
		}
		if v.spoil != nil {
			v.spoil(d.Root())
		}
		return d.Root()
	}
}

// lines breaks base64 as XML libraries do.
func lines(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\n        ")
		s = s[76:]
	}
	return out.String() + s
}

func TestDecryptsEveryAlgorithmThatIsTaken(t *testing.T) {
	w := newWorld(t)
	next := rsaPair(t, "sp-next")
	w.secrets.Keys = append(w.secrets.Keys, sso.Key{ID: "k2", Certificate: next.der, Private: next.rsa()})
	first := envelopeOf{data: nsEncrypt11 + "aes256-gcm", key: algorithmOAEPMGF1, to: &w.sp.rsa().PublicKey}
	ways := []envelopeOf{first}
	for data := range ciphers {
		v := first
		v.data = data
		ways = append(ways, v)
	}
	for digest := range oaepDigests {
		for mask := range oaepMasks {
			v := first
			v.key, v.digest, v.mask = algorithmOAEP, digest, mask
			ways = append(ways, v)
		}
		v := first
		v.digest = digest // with the first spelling the mask's is always SHA-1
		ways = append(ways, v)
	}
	for i := range ways {
		ways[i].beside = i%2 == 0
		if i%3 == 0 {
			ways[i].to = &next.rsa().PublicKey
		}
	}
	for i, v := range ways {
		for _, s := range []signing{{response: true}, {assertion: true}, {response: true, assertion: true}} {
			s.by, s.encrypt = w.idp, v.encrypt(t)
			said, r := w.accepted(signed(t, template(person), s))
			if said.Attributes["email"].([]any)[0] != "ada@example.com" {
				t.Fatalf("%d: %+v", i, said)
			}
			if !strings.Contains(r.Received, "CipherValue>(") || !strings.Contains(r.Received, "ada@example.com") {
				t.Errorf("%d: the trace lacks something:\n%s", i, r.Received)
			}
		}
	}
}

func TestEncryptionThatIsRefused(t *testing.T) {
	good := func(w *world) envelopeOf {
		return envelopeOf{data: nsEncrypt11 + "aes128-gcm", key: algorithmOAEPMGF1, to: &w.sp.rsa().PublicKey}
	}
	const closed = "the encrypted assertion does not open with a key of this connection"
	for name, row := range map[string]struct {
		change func(w *world, v *envelopeOf)
		found  string
	}{
		"CBC":                         {func(w *world, v *envelopeOf) { v.data = nsEncrypt + "aes128-cbc" }, "aes128-cbc"},       // SAML-143
		"triple DES":                  {func(w *world, v *envelopeOf) { v.data = nsEncrypt + "tripledes-cbc" }, "tripledes-cbc"}, // SAML-145
		"PKCS 1":                      {func(w *world, v *envelopeOf) { v.key = nsEncrypt + "rsa-1_5" }, "rsa-1_5"},              // SAML-147
		"MGF with the wrong spelling": {func(w *world, v *envelopeOf) { v.mask = nsEncrypt11 + "mgf1sha256" }, "of a form that is not taken"},
		"MD5": {func(w *world, v *envelopeOf) {
			v.spoil = setAttr("//EncryptedKey/EncryptionMethod", "Algorithm", "urn:md5")
		}, "urn:md5"},
		"another key":                   {func(w *world, v *envelopeOf) { v.to = &rsaPair(w.t, "attacker").rsa().PublicKey }, closed},
		"a ciphertext that was changed": {func(w *world, v *envelopeOf) { v.spoil = flip("//EncryptedData/CipherData/CipherValue") }, closed},
		"a key that was changed":        {func(w *world, v *envelopeOf) { v.spoil = flip("//EncryptedKey/CipherData/CipherValue") }, closed},
		"not XML":                       {func(w *world, v *envelopeOf) { v.content = []byte("\x00\x01") }, closed},
		"not an assertion":              {func(w *world, v *envelopeOf) { v.content = []byte(`<x xmlns="` + nsAssertion + `"/>`) }, closed},
		"a short ciphertext":            {func(w *world, v *envelopeOf) { v.spoil = text("//EncryptedData/CipherData/CipherValue", "AAAA") }, closed},
		"a short key":                   {func(w *world, v *envelopeOf) { v.spoil = text("//EncryptedKey/CipherData/CipherValue", "AAAA") }, closed},
		"no ciphertext":                 {func(w *world, v *envelopeOf) { v.spoil = drop("//EncryptedData/CipherData") }, "holds no ciphertext"},
		"no key":                        {func(w *world, v *envelopeOf) { v.spoil = drop("//EncryptedKey") }, "0 EncryptedKeys"},
		"a reference instead": {func(w *world, v *envelopeOf) {
			v.spoil = tag("//EncryptedData/CipherData/CipherValue", "CipherReference")
		}, "holds no ciphertext"},
		"an encrypted key's key": {func(w *world, v *envelopeOf) { // SAML-147
			v.spoil = func(e *etree.Element) {
				k := e.FindElement("//EncryptedKey")
				inner := k.Copy()
				inner.RemoveAttr("Id")
				child(k, "KeyInfo").AddChild(inner)
			}
		}, "another encrypted key"},
		"three keys": {func(w *world, v *envelopeOf) {
			v.spoil = func(e *etree.Element) {
				for range 2 {
					k := e.FindElement("//EncryptedKey").Copy()
					k.RemoveAttr("Id")
					e.AddChild(k)
				}
			}
		}, "3 EncryptedKeys"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v := good(w)
			w.accepted(signed(t, template(person), signing{response: true, by: w.idp, encrypt: v.encrypt(t)}))
			row.change(w, &v)
			f := w.refused(signed(t, template(person), signing{response: true, by: w.idp, encrypt: v.encrypt(t)}), sso.CheckEncryption)
			if !strings.Contains(f.Found, row.found) {
				t.Errorf("found %q, want %q", f.Found, row.found)
			}
		})
	}
}

func TestEncryptedAssertionNeedsASignature(t *testing.T) {
	w := newWorld(t)
	v := envelopeOf{data: nsEncrypt11 + "aes128-gcm", key: algorithmOAEPMGF1, to: &w.sp.rsa().PublicKey}
	w.accepted(signed(t, template(person), signing{assertion: true, by: w.idp, encrypt: v.encrypt(t)}))
	w.refused(signed(t, template(person), signing{by: w.idp, encrypt: v.encrypt(t)}), sso.CheckSignature)

	// What the response's signature does not vouch for is not decrypted (SAML-143): that it would not open is not said.
	v.spoil = flip("//EncryptedKey/CipherData/CipherValue")
	doc := signed(t, template(person), signing{response: true, by: rsaPair(t, "attacker"), encrypt: v.encrypt(t)})
	w.refused(doc, sso.CheckSignature)
	_, r, _ := w.finish(doc)
	for _, c := range r.Checks {
		if c.Name == sso.CheckEncryption {
			t.Errorf("something was decrypted: %+v", c)
		}
	}

	// Beside a plain one it is refused (SAML-141).
	v.spoil = nil
	both := bytes.Replace(signed(t, template(person), signing{assertion: true, by: w.idp}), []byte("</samlp:Response>"),
		append(document(v.encrypt(t)([]byte(template(person)))), "</samlp:Response>"...), 1)
	w.refused(both, sso.CheckAnswer)
}

func setAttr(path, name, value string) func(*etree.Element) {
	return func(e *etree.Element) { e.FindElement(path).CreateAttr(name, value) }
}

func text(path, s string) func(*etree.Element) {
	return func(e *etree.Element) { e.FindElement(path).SetText(s) }
}

func tag(path, name string) func(*etree.Element) {
	return func(e *etree.Element) { e.FindElement(path).Tag = name }
}

func drop(path string) func(*etree.Element) {
	return func(e *etree.Element) {
		found := e.FindElement(path)
		found.Parent().RemoveChild(found)
	}
}

// flip changes one bit of what is written in base64.
func flip(path string) func(*etree.Element) {
	return func(e *etree.Element) {
		found := e.FindElement(path)
		b, err := binary(found.Text())
		if err != nil {
			panic(fmt.Sprint(path, err))
		}
		b[len(b)/2] ^= 1
		found.SetText(base64.StdEncoding.EncodeToString(b))
	}
}
