//go:build unix

package saml

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/sso"
)

// BenchmarkResponse compares what it costs to judge a response, from the posted base64 to the attributes with every gate in
// place, with what no implementation can do without: one pass of encoding/xml over the same bytes, one SHA-256 of them, and
// one verification with an RSA key of 2048 bits. The two run in turns, so that whatever else the machine does hits
// both, and the processor's time of the whole process is counted, so what the collector does counts too.
//
// The design wants x/floor to be at most 7 where one element is signed. Where the response and the assertion are, twice as
// much has to be verified.
func BenchmarkResponse(b *testing.B) {
	small := `<saml:AttributeStatement>`
	for i := range 10 {
		small += fmt.Sprintf(`<saml:Attribute Name="attribute-%d"><saml:AttributeValue xsi:type="xs:string">a value of some length</saml:AttributeValue></saml:Attribute>`, i)
	}
	small += `</saml:AttributeStatement>`
	value := `<saml:AttributeValue xsi:type="xs:string">research-group</saml:AttributeValue>`
	large := strings.Replace(person, value[:20], strings.Repeat(value, 500)+value[:20], 1)
	for _, size := range []struct{ name, attributes string }{{"10-attributes", small}, {"500-groups", large}} {
		for _, by := range []struct {
			name string
			signing
		}{{"assertion", signing{assertion: true}}, {"response", signing{response: true}}, {"both", signing{assertion: true, response: true}}} {
			b.Run(size.name+"/"+by.name, func(b *testing.B) {
				w := newWorld(b)
				by.signing.by, by.keyInfo = w.idp, true
				doc := signed(b, template(size.attributes), by.signing)
				w.accepted(doc)
				posted := base64.StdEncoding.EncodeToString(doc)
				sum := sha256.Sum256(doc)
				signature, err := rsa.SignPKCS1v15(nil, w.idp.rsa(), crypto.SHA256, sum[:])
				if err != nil {
					b.Fatal(err)
				}
				p := New(outside{})
				w.in.Params = map[string]string{"SAMLResponse": posted}
				compare(b, func() {
					if _, err := p.Finish(b.Context(), w.c, w.secrets, w.in, &sso.Report{}); err != nil {
						b.Fatal(err)
					}
				}, func() {
					tokens := xml.NewDecoder(bytes.NewReader(doc))
					for {
						if _, err := tokens.Token(); err == io.EOF {
							break
						} else if err != nil {
							b.Fatal(err)
						}
					}
					sum := sha256.Sum256(doc)
					if err := rsa.VerifyPKCS1v15(&w.idp.rsa().PublicKey, crypto.SHA256, sum[:], signature); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

func compare(b *testing.B, judge, floor func()) {
	const turn = 20
	var spent [2]time.Duration
	rounds := 0
	for b.Loop() {
		for side, run := range []func(){judge, floor} {
			start := processorTime(b)
			for range turn {
				run()
			}
			spent[side] += processorTime(b) - start
		}
		rounds++
	}
	per := func(side int) float64 { return float64(spent[side].Nanoseconds()) / float64(rounds*turn) / 1e3 }
	b.ReportMetric(per(0), "µs-cpu/response")
	b.ReportMetric(per(1), "µs-cpu/floor")
	b.ReportMetric(per(0)/per(1), "x/floor")
	b.ReportMetric(0, "ns/op") // a round of both, which says nothing
}

// processorTime is what this process has used, user and system.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
