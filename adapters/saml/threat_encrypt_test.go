package saml_test

import (
	"fmt"
	"testing"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// encrypting is the base of an attack on an encrypted assertion.
func encrypting(t *testing.T, way func(*forge.Options)) func(*forge.Options) {
	return func(o *forge.Options) {
		way(o)
		o.Encrypt = encryptTo(t, 0)
	}
}

// What is encrypted well is read, with either of our keys, in either form.
func TestEncrypted(t *testing.T) {
	c := connection(t, idp().Metadata())
	for _, data := range []string{forge.AES128GCM, forge.AES192GCM, forge.AES256GCM} {
		for _, key := range []string{forge.OAEPMGF1P, forge.OAEP11} {
			for which := range ourKeys() {
				for _, beside := range []bool{true, false} {
					for way, base := range ways {
						o := options()
						encrypting(t, base)(&o)
						o.Encrypt = encryptTo(t, which)
						o.Encrypt.Data, o.Encrypt.Key, o.Encrypt.Beside = data, key, beside
						t.Run(fmt.Sprintf("%s, %s, key %d, beside=%v, %s", data, key, which, beside, way), func(t *testing.T) {
							if got := accept(t, c, arrival(forge.Encode(idp().Response(o)))); got.Subject != "ada" {
								t.Errorf("%+v", got)
							}
						})
					}
				}
			}
		}
	}
}

// SAML-141, SAML-143, SAML-145, SAML-147
func TestEncryption(t *testing.T) {
	outside := listener(t)
	encryption := []sso.CheckName{sso.CheckEncryption, sso.CheckAnswer}
	var all []attack
	// each is an attack on a signed assertion within a response that is not signed, and on one within a response that is.
	each := func(name string, change func(e *forge.Encryption), want ...sso.CheckName) {
		for _, way := range []string{"assertion signed", "response signed"} {
			all = append(all, attack{name: name + ", " + way, base: encrypting(t, ways[way]), want: want, sign: func(o *forge.Options) { change(o.Encrypt) }})
		}
	}
	for _, data := range []string{forge.AES128CBC, forge.AES192CBC, forge.AES256CBC, forge.TripleDES} {
		each("encrypted with "+data, func(e *forge.Encryption) { e.Data = data }, sso.CheckEncryption)
		for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 24, 31, 33} {
			each(fmt.Sprintf("%d octets of %s", n, data), func(e *forge.Encryption) {
				e.Data, e.Spoil = data, func(b []byte) []byte { return b[:n] }
			}, encryption...)
		}
	}
	for _, n := range []int{0, 1, 7, 8, 15, 16, 23, 25, 33, 100} {
		for _, data := range []string{forge.TripleDES, forge.AES128CBC, forge.AES256GCM, forge.AES192GCM} {
			if n == 16 && data == forge.AES128CBC {
				continue
			}
			each(fmt.Sprintf("a key of %d octets for %s", n, data), func(e *forge.Encryption) { e.Data, e.SessionKey = data, make([]byte, n) }, encryption...)
		}
	}
	for _, n := range []int{0, 1, 11, 12, 13, 27, 28, 29} {
		each(fmt.Sprintf("%d octets of AES-GCM", n), func(e *forge.Encryption) { e.Spoil = func(b []byte) []byte { return b[:n] } }, encryption...)
	}
	each("PKCS #1 v1.5", func(e *forge.Encryption) { e.Key = forge.PKCS1v15 }, sso.CheckEncryption)
	each("for somebody else", func(e *forge.Encryption) { e.Certificate = attacker().Certificate }, sso.CheckEncryption)
	for name, edit := range map[string]func(e *etree.Element){
		"no EncryptedKey":     func(e *etree.Element) { drop(e, ".//EncryptedKey") },
		"no EncryptedData":    func(e *etree.Element) { drop(e, ".//EncryptedData") },
		"two EncryptedData":   func(e *etree.Element) { e.AddChild(at(e, ".//EncryptedData").Copy()) },
		"three EncryptedKeys": func(e *etree.Element) { many(e, at(e, ".//EncryptedKey"), 2) },
		"a second key without a ciphertext": func(e *etree.Element) {
			k := at(e, ".//EncryptedKey").Copy()
			drop(k, ".//CipherValue")
			e.AddChild(k)
		},
		"a second key by PKCS #1 v1.5": func(e *etree.Element) {
			k := at(e, ".//EncryptedKey").Copy()
			at(k, "./EncryptionMethod").CreateAttr("Algorithm", forge.PKCS1v15)
			e.AddChild(k)
		},
		"100 EncryptedKeys":            func(e *etree.Element) { many(e, at(e, ".//EncryptedKey"), 100) },
		"no KeyInfo":                   func(e *etree.Element) { drop(e, ".//KeyInfo") },
		"no EncryptionMethod":          func(e *etree.Element) { drop(e, "./EncryptedData/EncryptionMethod") },
		"no EncryptionMethod of a key": func(e *etree.Element) { drop(e, ".//EncryptedKey/EncryptionMethod") },
		"two EncryptionMethods":        func(e *etree.Element) { m := at(e, "./EncryptedData/EncryptionMethod"); m.Parent().AddChild(m.Copy()) },
		"no Algorithm":                 func(e *etree.Element) { at(e, "./EncryptedData/EncryptionMethod").RemoveAttr("Algorithm") },
		"an unknown Algorithm": func(e *etree.Element) {
			at(e, "./EncryptedData/EncryptionMethod").CreateAttr("Algorithm", "urn:example:rot13")
		},
		"ChaCha20": func(e *etree.Element) {
			at(e, "./EncryptedData/EncryptionMethod").CreateAttr("Algorithm", "http://www.w3.org/2007/05/xmldsig-more#chacha20poly1305")
		},
		"key wrapping by AES": func(e *etree.Element) {
			at(e, ".//EncryptedKey/EncryptionMethod").CreateAttr("Algorithm", forge.NSEncryption+"kw-aes256")
		},
		"OAEP with MD5": func(e *etree.Element) {
			at(e, ".//EncryptedKey/EncryptionMethod/DigestMethod").CreateAttr("Algorithm", forge.DigestMD5)
		},
		"OAEP with an unknown mask": func(e *etree.Element) {
			at(e, ".//EncryptedKey/EncryptionMethod/MGF").CreateAttr("Algorithm", "urn:example:mask")
		},
		"OAEP with a label": func(e *etree.Element) {
			at(e, ".//EncryptedKey/EncryptionMethod").CreateElement("xenc:OAEPparams").CreateText("AAAA")
		},
		"no CipherData":                 func(e *etree.Element) { drop(e, "./EncryptedData/CipherData") },
		"no CipherValue":                func(e *etree.Element) { drop(e, "./EncryptedData/CipherData/CipherValue") },
		"no CipherValue of a key":       func(e *etree.Element) { drop(e, ".//EncryptedKey/CipherData/CipherValue") },
		"an empty CipherValue":          func(e *etree.Element) { at(e, "./EncryptedData/CipherData/CipherValue").Child = nil },
		"an empty CipherValue of a key": func(e *etree.Element) { at(e, ".//EncryptedKey/CipherData/CipherValue").Child = nil },
		"a CipherValue that is none":    func(e *etree.Element) { setText(at(e, "./EncryptedData/CipherData/CipherValue"), "%%%") },
		"a CipherValue with a child":    func(e *etree.Element) { at(e, "./EncryptedData/CipherData/CipherValue").CreateElement("x") },
		"two CipherValues": func(e *etree.Element) {
			d := at(e, "./EncryptedData/CipherData")
			d.AddChild(at(d, "./CipherValue").Copy())
		},
		"a CipherReference": func(e *etree.Element) {
			d := at(e, "./EncryptedData/CipherData")
			d.Child = nil
			d.CreateElement("xenc:CipherReference").CreateAttr("URI", outside+"/cipher")
		},
		"a RetrievalMethod to outside": func(e *etree.Element) {
			i := at(e, ".//KeyInfo")
			i.Child = nil
			i.CreateElement("ds:RetrievalMethod").CreateAttr("URI", outside+"/key")
		},
		"a RetrievalMethod to itself": func(e *etree.Element) {
			i := at(e, ".//KeyInfo")
			i.CreateAttr("Id", "k")
			i.Child = nil
			i.CreateElement("ds:RetrievalMethod").CreateAttr("URI", "#k")
		},
		"a key in a key": func(e *etree.Element) {
			k := at(e, ".//EncryptedKey")
			i := etree.NewElement("ds:KeyInfo")
			i.CreateAttr("xmlns:ds", forge.NSSignature)
			k.InsertChildAt(1, i)
			i.AddChild(at(e, ".//EncryptedKey").Copy())
		},
		"a key in a key, 20 deep": func(e *etree.Element) {
			k := at(e, ".//EncryptedKey")
			one, parent := k.Copy(), k.Parent()
			parent.RemoveChild(k)
			for range 20 {
				outer := one.Copy()
				i := etree.NewElement("ds:KeyInfo")
				i.CreateAttr("xmlns:ds", forge.NSSignature)
				outer.InsertChildAt(1, i)
				i.AddChild(k)
				k = outer
			}
			parent.AddChild(k)
		},
		"the content's type":   func(e *etree.Element) { at(e, "./EncryptedData").CreateAttr("Type", forge.NSEncryption+"Content") },
		"a plain one inside":   func(e *etree.Element) { e.AddChild(at(idp().Document(valid()), "/Response/Assertion").Copy()) },
		"in another namespace": func(e *etree.Element) { at(e, "./EncryptedData").CreateAttr("xmlns:xenc", "urn:example:x") },
		"a text between":       func(e *etree.Element) { e.CreateText("x") },
		"100 KiB of a ciphertext": func(e *etree.Element) {
			setText(at(e, ".//EncryptedKey/CipherData/CipherValue"), forge.Encode(make([]byte, 100<<10)))
		},
	} {
		each(name, func(e *forge.Encryption) { e.Edit = edit }, encryption...)
	}
	run(t, all)
}

// What comes out of a decryption is as foreign as what came in: anybody can encrypt for us.
//
// SAML-141, SAML-011
func TestDecrypted(t *testing.T) {
	c := connection(t, idp().Metadata())
	o := options()
	o.SignAssertion = true
	message := idp().Response(o)
	plainOf := func(m []byte) []byte {
		return forge.Bytes(etree.NewDocumentWithRoot(at(forge.Parse(m), "/Response/Assertion").Copy()))
	}
	with := func(plain []byte) sso.Arrival {
		o := options()
		o.Encrypt = encryptTo(t, 0)
		o.Encrypt.Plain = plain
		return arrival(forge.Encode(idp().Response(o)))
	}
	good := string(plainOf(message))
	accept(t, c, with([]byte(good)))

	unsigned := options()
	for name, plain := range map[string]string{
		"unsigned": string(plainOf(idp().Response(unsigned))), "signed by the attacker": string(plainOf(attacker().Response(o))), "nothing": " ", "no XML": "hello", "a response": string(message), "two assertions": good + good,
		"text before": "x" + good, "text behind": good + "x", "DOCTYPE": `<!DOCTYPE x [<!ENTITY e "x">]>` + good, "comment": "<!--x-->" + good, "instruction": "<?x y?>" + good, "an issuer": `<saml:Issuer xmlns:saml="` + forge.NSAssertion + `">x</saml:Issuer>`,
		"another namespace": `<Assertion xmlns="urn:example:x"/>`, "an empty assertion": `<saml:Assertion xmlns:saml="` + forge.NSAssertion + `"/>`, "invalid UTF-8": good + "\xff", "cut off": good[:len(good)-9],
		"encrypted twice": string(forge.Bytes(etree.NewDocumentWithRoot(encryptTo(t, 0).Element([]byte(good))))), "closes its parent": good + "</saml:EncryptedAssertion>" + good + "<saml:EncryptedAssertion>",
		"the response's ID again": good,
	} {
		t.Run(name, func(t *testing.T) {
			a := with([]byte(plain))
			if name == "the response's ID again" {
				o := options()
				o.ResponseID = at(forge.Parse(message), "/Response/Assertion").SelectAttrValue("ID", "")
				o.Encrypt = encryptTo(t, 0)
				o.Encrypt.Plain = []byte(plain)
				a = arrival(forge.Encode(idp().Response(o)))
			}
			refuse(t, c, a)
		})
	}

	// Wrapped first, and encrypted then.
	wrapped := 0
	for w := range forge.Wrappings() {
		if w.Unit != forge.UnitAssertion || w.IDs != forge.IDNew && w.IDs != forge.IDKept {
			continue
		}
		d := forge.Parse(w.Apply(message))
		if d.Root().Tag != "Response" || len(d.Root().SelectElements("Assertion")) != 1 {
			continue
		}
		plain := plainOf(forge.Bytes(d))
		if string(plain) == good {
			continue // the evil one is elsewhere in the response
		}
		wrapped++
		refuse(t, c, with(plain))
		if t.Failed() {
			t.Fatal(w)
		}
	}
	if wrapped < 30 {
		t.Errorf("only %d", wrapped)
	}

	// Encrypted and plain ones together, in either order, whoever encrypted, signed or not: SAML-141.
	for way, base := range ways {
		for _, first := range []bool{true, false} {
			for name, p := range map[string][]byte{"evil": plainOf(idp().Response(evilOptions())), "the same": []byte(good), "nothing": []byte("x")} {
				o := options()
				base(&o)
				accept(t, c, arrival(forge.Encode(idp().Response(o))))
				o.EditSigned = func(r *etree.Element) {
					i := at(r, "./Assertion").Index()
					if !first {
						i++
					}
					r.InsertChildAt(i, encryptTo(t, 0).Element(p))
				}
				t.Run(fmt.Sprintf("%s encrypted beside a plain one, first=%v, %s", name, first, way), func(t *testing.T) { refuse(t, c, arrival(forge.Encode(idp().Response(o)))) })
				o.Encrypt = encryptTo(t, 0)
				o.EditSigned = func(r *etree.Element) {
					i := at(r, "./EncryptedAssertion").Index()
					if !first {
						i++
					}
					r.InsertChildAt(i, encryptTo(t, 0).Element(p))
				}
				t.Run(fmt.Sprintf("%s encrypted beside an encrypted one, first=%v, %s", name, first, way), func(t *testing.T) { refuse(t, c, arrival(forge.Encode(idp().Response(o)))) })
			}
		}
	}
}

func evilOptions() forge.Options {
	o := options()
	o.NameID = forge.Evil
	return o
}

// Whatever step of a decryption fails, it is told as one: a difference would decrypt for whoever asks often enough.
//
// SAML-143
func TestDecryptionFailsAlike(t *testing.T) {
	c := connection(t, idp().Metadata())
	flip := func(n int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[(n+len(b))%len(b)] ^= 1
			return b
		}
	}
	var want *sso.Check
	for _, way := range []string{"assertion signed", "response signed"} {
		valid := options()
		encrypting(t, ways[way])(&valid)
		accept(t, c, arrival(forge.Encode(idp().Response(valid))))
		for name, change := range map[string]func(e *forge.Encryption){
			"nonce": func(e *forge.Encryption) { e.Spoil = flip(0) }, "ciphertext": func(e *forge.Encryption) { e.Spoil = flip(20) }, "tag": func(e *forge.Encryption) { e.Spoil = flip(-1) },
			"shorter": func(e *forge.Encryption) { e.Spoil = func(b []byte) []byte { return b[:len(b)-1] } }, "a few octets": func(e *forge.Encryption) { e.Spoil = func(b []byte) []byte { return b[:20] } },
			"another's": func(e *forge.Encryption) { e.Certificate = attacker().Certificate }, "key too short": func(e *forge.Encryption) { e.SessionKey = make([]byte, 16) }, "key empty": func(e *forge.Encryption) { e.SessionKey = []byte{} },
			"encrypted key changed": func(e *forge.Encryption) {
				e.Edit = func(x *etree.Element) { spoilText(at(x, ".//EncryptedKey/CipherData/CipherValue")) }
			},
			"encrypted key cut": func(e *forge.Encryption) {
				e.Edit = func(x *etree.Element) { setText(at(x, ".//EncryptedKey/CipherData/CipherValue"), "AAAA") }
			},
			"no XML": func(e *forge.Encryption) { e.Plain = []byte("hello") }, "half an assertion": func(e *forge.Encryption) { e.Plain = []byte(`<saml:Assertion`) }, "a DOCTYPE": func(e *forge.Encryption) { e.Plain = []byte(`<!DOCTYPE x><x/>`) },
			"something else": func(e *forge.Encryption) { e.Plain = []byte(`<x/>`) },
		} {
			t.Run(way+", "+name, func(t *testing.T) {
				o := options()
				encrypting(t, ways[way])(&o)
				change(o.Encrypt)
				refuse(t, c, arrival(forge.Encode(idp().Response(o))), sso.CheckEncryption)
				_, report, _ := finish(t, c, arrival(forge.Encode(idp().Response(o))))
				for _, check := range report.Checks {
					if check.Name != sso.CheckEncryption {
						continue
					}
					if want == nil {
						want = &check
					} else if *want != check {
						t.Errorf("told as %+v, and another as %+v", check, *want)
					}
				}
			})
		}
	}

	// Nothing is decrypted of a response whose signature does not hold: no signature, no oracle.
	o := options()
	encrypting(t, responseSigned)(&o)
	d := idp().Document(o)
	spoilText(at(d, "/Response/Signature/SignatureValue"))
	_, report, _ := finish(t, c, arrival(forge.Encode(forge.Bytes(d))))
	for _, check := range report.Checks {
		if check.Name == sso.CheckEncryption {
			t.Errorf("decrypted all the same: %+v", check)
		}
	}
}
