package saml

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// FuzzScan holds the reading of bytes against encoding/xml: what scan lets through, encoding/xml reads too, and as the same
// tree. So no document means one thing when its signature is verified and another to the standard library.
func FuzzScan(f *testing.F) {
	w := newWorld(f)
	for _, s := range []string{
		"", "<a/>", "<a>&amp;&#x41;&#10;\r\nb\rc</a>", `<p:a xmlns:p="urn:x" b='1&quot;' p:c="&#9;x"/>`, "\ufeff<?xml version='1.0' encoding=\"UTF-8\"?>\n<a> <b>c</b>d</a>\n",
		"<!-- x --><a>b<!----></a>", "<a><b></a></b>", "<a>]]&gt;</a>", "<a>&#xD;</a>", template(person), string(signed(f, template(person), signing{assertion: true, by: w.idp, keyInfo: true})),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		ours, err := scan(doc, ofMetadata)
		if err != nil {
			return
		}
		d := etree.NewDocument()
		if err := d.ReadFromBytes([]byte(strings.TrimPrefix(string(doc), "\ufeff"))); err != nil {
			t.Fatalf("encoding/xml refuses it: %v", err)
		}
		same(t, ours, d.Root())
	})
}

func same(t *testing.T, a, b *etree.Element) {
	if b == nil || a.Space != b.Space || a.Tag != b.Tag || len(a.Attr) != len(b.Attr) {
		t.Fatalf("%v is not %v", a, b)
	}
	for i := range a.Attr {
		// XML 1.0 §3.3.3 wants the line ends of a value to be spaces, which encoding/xml leaves as they are.
		if a.Attr[i].FullKey() != b.Attr[i].FullKey() || len(a.Attr[i].Value) > len(b.Attr[i].Value) || flat(a.Attr[i].Value) != flat(b.Attr[i].Value) {
			t.Fatalf("%v is not %v", a.Attr[i], b.Attr[i])
		}
	}
	as, bs := a.Child, b.Child
	if len(as) != len(bs) {
		t.Fatalf("%d tokens are not %d", len(as), len(bs))
	}
	for i := range as {
		switch x := as[i].(type) {
		case *etree.Element:
			y, _ := bs[i].(*etree.Element)
			same(t, x, y)
		case *etree.CharData:
			if y, ok := bs[i].(*etree.CharData); !ok || x.Data != y.Data {
				t.Fatalf("%q is not %v", x.Data, bs[i])
			}
		}
	}
}

func flat(s string) string { return strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(s) }

// FuzzResponse: nothing that is not signed by the provider's key signs anybody in, and nothing panics.
func FuzzResponse(f *testing.F) {
	w := newWorld(f)
	whole := signed(f, template(person), signing{assertion: true, response: true, by: w.idp, keyInfo: true})
	sealed := signed(f, template(person), signing{response: true, by: w.idp, encrypt: envelopeOf{data: nsEncrypt11 + "aes128-gcm", key: algorithmOAEPMGF1, to: &w.sp.rsa().PublicKey}.encrypt(f)})
	for _, doc := range [][]byte{whole, sealed, []byte(template(person)), []byte("<a/>"), nil} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		w := *w
		w.t = t
		said, r, err := w.finish(doc)
		if err == nil {
			// What was signed above may be written in another way, and still says the same.
			if said.ID != "_a1" || said.Subject != "person-4711" || len(said.Attributes) != 3 {
				t.Fatalf("a forgery was accepted: %+v", said)
			}
			return
		}
		if _, failed := r.Failure(); !errors.Is(err, sso.ErrRefused) || !failed {
			t.Fatalf("%v, %+v", err, r.Checks)
		}
		for _, c := range r.Checks {
			if strings.Contains(c.Found, "could not be judged") {
				t.Fatalf("it panicked: %s", c.Found)
			}
		}
		if len(r.Received) > sso.MaxReceived {
			t.Fatalf("the trace has %d bytes", len(r.Received))
		}
	})
}

// FuzzMetadata: a document is read, or refused by name, and what is read is usable.
func FuzzMetadata(f *testing.F) {
	for _, doc := range shapes(rsaPair(f, "idp"), rsaPair(f, "idp-next")) {
		f.Add([]byte(doc))
	}
	f.Add([]byte("<md:EntityDescriptor/>"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		m := metadata{provider: New(outside{}), field: fieldFile, now: now}
		idp, err := m.read(doc, "")
		switch {
		case err != nil && !errors.Is(err, core.Invalid):
			t.Fatal(err)
		case err == nil && (idp.EntityID == "" || len(idp.SignOn) == 0 || len(idp.Certificates) == 0 || !idp.ValidUntil.IsZero() && idp.ValidUntil.Before(now.Add(-time.Second))):
			t.Fatalf("%+v", idp)
		}
	})
}
