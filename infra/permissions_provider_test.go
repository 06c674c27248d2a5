package infra_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// provider is an identity provider of the stories: what a browser brings from it says who came, in words, and so does what it
// is asked with again. What the real ones check is the adapters' affair; here it is what the functions do with the outcome.
type provider struct {
	away bool // it does not answer
	new  bool // it publishes something else than before
	out  bool // it vouches for nobody any more
	left bool // whoever it vouches for has left the staff, for another group

	certificates [2][]byte // of its keys, before and after
}

// newProvider has a certificate that ends within weeks, and another.
func newProvider(c *cloud) (p provider) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	for i, days := range []int{20, 3650} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp.test"}, NotBefore: c.now, NotAfter: c.now.AddDate(0, 0, days)}
		p.certificates[i], err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		c.must(err)
	}
	return p
}

// providers is the one provider, by each protocol.
func (c *cloud) providers() map[sso.Kind]sso.Provider {
	return map[sso.Kind]sso.Provider{sso.SAML: describing{&c.idp}, sso.OIDC: asking{&c.idp}, sso.OpenShift: asking{&c.idp}}
}

// describing and asking are providers of the kinds that can do more.
type (
	describing struct{ *provider }
	asking     struct{ *provider }
)

var (
	_ sso.Describer = describing{}
	_ sso.Asker     = asking{}
)

func (p *provider) Load(_ context.Context, c *sso.Connection, _ []byte) error {
	if p.away {
		return fmt.Errorf("no answer: %w", core.Unavailable)
	}
	which, digest := 0, p.digest()
	if p.new {
		which = 1
	}
	switch c.Kind {
	case sso.SAML:
		c.SAML.IdP = sso.SAMLProvider{EntityID: "https://idp.test", SignOn: []sso.SAMLEndpoint{{Binding: "redirect", URL: "https://idp.test/sso"}}, Certificates: p.certificates[which : which+1], Digest: digest}
	case sso.OIDC:
		c.OIDC.Provider = sso.OIDCProvider{Issuer: "https://idp.test", Authorization: "https://idp.test/authorize", Token: "https://idp.test/token", JWKS: fmt.Sprint("https://idp.test/jwks/", which), Digest: digest}
	case sso.OpenShift:
		c.OpenShift.Provider = sso.OpenShiftProvider{Issuer: "https://idp.test", Authorization: "https://idp.test/authorize", Token: "https://idp.test/token", Digest: digest}
	}
	return nil
}

func (p *provider) Start(_ context.Context, _ sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: "https://idp.test/?" + pairs("state", j.State).Encode(), Sent: "a request", Pending: sso.Pending{Request: "r", At: j.Now}}, nil
}

func (p *provider) digest() string {
	return strings.Repeat(map[bool]string{false: "a", true: "b"}[p.new], 64)
}

// knows says whether the connection has what the provider publishes now.
func (p *provider) knows(c sso.Connection) bool {
	return c.SAML != nil && c.SAML.IdP.Digest == p.digest() || c.OIDC != nil && c.OIDC.Provider.Digest == p.digest()
}

// Finish takes "EMAIL ID WORD": WORD is ok, bad, or key, which counts where what the provider publishes now is known.
func (p *provider) Finish(_ context.Context, c sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	words := strings.Fields(a.Params["SAMLResponse"] + a.Params["code"])
	if len(words) != 3 {
		r.Fail(sso.CheckAnswer, "", "", "")
		return sso.Assertion{}, sso.ErrRefused
	}
	r.Received = "an answer"
	switch {
	case words[2] == "key" && !p.knows(c):
		r.Fail(sso.CheckSignature, "", "", "")
	case words[2] == "bad":
		r.Fail(sso.CheckAudience, "", "", "")
	default:
		r.Pass(sso.CheckAudience, "")
	}
	said := p.says(words[0])
	said.AuthTime = a.Now
	if c.Kind == sso.SAML {
		said.ID, said.Until = words[1], a.Now.Add(5*time.Minute)
	} else {
		said.Kept = sso.Kept{Refresh: words[0], Subject: words[0]}
	}
	return said, r.Err()
}

func (p *provider) says(email string) sso.Assertion {
	group := map[bool]string{false: "staff", true: "alumni"}[p.left]
	return sso.Assertion{Subject: email, Attributes: map[string]any{"email": email, "GROUPS": []any{group}}}
}

func (describing) Describe(sso.Connection, sso.Addresses, time.Time) ([]byte, error) {
	return []byte("<EntityDescriptor/>"), nil
}

func (p asking) Ask(_ context.Context, _ sso.Connection, _ sso.Secrets, k sso.Kept, _ time.Time) (sso.Assertion, error) {
	switch {
	case p.away:
		return sso.Assertion{}, fmt.Errorf("no answer: %w", core.Unavailable)
	case p.out:
		return sso.Assertion{}, sso.ErrRefused
	}
	said := p.says(k.Refresh)
	said.Kept = k
	return said, nil
}

func (asking) Leave(c sso.Connection, k sso.Kept, back string) string {
	return "https://idp.test/logout?" + pairs("hint", k.IDToken, "back", back).Encode()
}
