package saml_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// then is when the fuzzed sign-in happens, and fuzzIdP whom it trusts. Neither changes from process to process, since a fuzzer
// is several of them, and keeps what it found.
var then = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fuzzIdP(f *testing.F) *forge.IdP {
	scalar := sha256.Sum256([]byte("a key for nothing but fuzzing"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		f.Fatal(err)
	}
	return forge.NewIdPWithKey("https://idp.acme.example", key, then.AddDate(-10, 0, 0), then.AddDate(100, 0, 0))
}

// FuzzFinish changes signed responses, and what comes out of a decryption. Whatever becomes of them, it is refused as such, or
// it is about Ada: nobody else was ever signed.
//
// SAML-093
func FuzzFinish(f *testing.F) {
	p := fuzzIdP(f)
	c := bare()
	if err := provider.Load(context.Background(), &c, p.Metadata()); err != nil {
		f.Fatal(err)
	}
	o := options()
	o.Now = then
	for _, way := range ways {
		way(&o)
		message := p.Response(o)
		assertion := forge.Bytes(etree.NewDocumentWithRoot(at(forge.Parse(message), "/Response/Assertion").Copy()))
		f.Add(message, []byte(nil))
		f.Add(message, assertion)
		n := 0
		for w := range forge.Wrappings() {
			if n++; n%61 == 0 {
				f.Add(w.Apply(message), []byte(nil))
			}
		}
		for _, prolog := range doctypes("https://evil.example") {
			f.Add([]byte(prolog+string(message)), []byte(nil))
		}
		f.Add([]byte(strings.Replace(string(message), ">ada<", "><!---->ada<", 1)), []byte(nil))
		f.Add([]byte(strings.Replace(string(message), ">ada<", ">a<x/>da<", 1)), []byte(nil))
		o.SignResponse, o.SignAssertion = false, false
	}
	f.Fuzz(func(t *testing.T, message, plain []byte) {
		if len(plain) > 0 {
			o := options()
			o.Now, o.Encrypt = then, encryptTo(t, 0)
			o.Encrypt.Plain = plain
			message = p.Response(o)
		}
		a := arrival(forge.Encode(message))
		a.Now, a.Pending.At = then, then
		got, report, err := finish(t, c, a)
		check, failed := report.Failure()
		switch {
		case err == nil && (failed || got.Subject != "ada" || !reflect.DeepEqual(got.Attributes["email"], []any{"ada@acme.example"})):
			t.Errorf("signed in as %+v", got)
		case err != nil && (!errors.Is(err, sso.ErrRefused) || !failed || !reflect.DeepEqual(got, sso.Assertion{ID: got.ID})):
			t.Errorf("refused as %v with %+v", err, got)
		case strings.HasPrefix(check.Found, "the response could not be judged"):
			t.Errorf("a panic, which only the second net caught: %+v", check)
		}
	})
}

// FuzzLoad changes metadata. What is taken has an entity ID, a certificate and an address for browsers; what is not is the
// document's fault and leaves the connection as it was.
//
// SAML-155
func FuzzLoad(f *testing.F) {
	p := fuzzIdP(f)
	good := p.Metadata()
	f.Add(good)
	f.Add(p.MetadataWith(forge.MetadataOptions{Sign: true, ValidUntil: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), WantsSigned: true}))
	for _, prolog := range doctypes("https://evil.example") {
		f.Add([]byte(prolog + string(good)))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		c := bare()
		before := *c.SAML
		switch err := provider.Load(t.Context(), &c, document); {
		case err != nil && (!errors.Is(err, core.Invalid) || !reflect.DeepEqual(*c.SAML, before)):
			t.Errorf("refused as %v, with %+v", err, c.SAML)
		case err == nil:
			idp := c.SAML.IdP
			if idp.EntityID == "" || len(idp.Certificates) == 0 || len(idp.SignOn) == 0 {
				t.Errorf("taken as %+v", idp)
			}
			for _, e := range idp.SignOn {
				if !strings.HasPrefix(e.URL, "https://") {
					t.Errorf("sends browsers to %q", e.URL)
				}
			}
		}
	})
}
