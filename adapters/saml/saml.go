// Package saml signs people in at SAML 2.0 identity providers: it is the service provider of the Web Browser SSO profile
// (SAML 2.0 Profiles §4.1), with requests by HTTP-Redirect or HTTP-POST and responses by HTTP-POST.
//
// verify.go is the part to read first: it holds, gate by gate, all that stands between a response that a browser brought and
// an identity. metadata.go reads what a provider says about itself, describe.go writes what we say, request.go sends a browser
// away. Who the person then is, core/sso says, which also sees to it that an assertion is taken once only.
//
// Single logout is not spoken, so no LogoutRequest is read, and none can sign anybody out.
package saml

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core/sso"
)

// Fetcher is what the package needs of the world outside. A client of core/outbound is one.
type Fetcher interface {
	// Get reads a document. ca are extra PEM roots, or "".
	Get(ctx context.Context, url, ca string) ([]byte, error)

	// Check judges an address that this service reads from. Its error is core.Invalid and names the field.
	Check(field, url string) error

	// CheckPage judges an address that only browsers visit. Its error is core.Invalid and names the field.
	CheckPage(field, url string) error
}

// Provider is sso.Provider and sso.Describer for identity providers that speak SAML 2.0.
type Provider struct {
	Now func() time.Time // UTC; judges whether metadata is out of date. A sign-in brings its own time

	fetch Fetcher
}

var (
	_ sso.Provider  = (*Provider)(nil)
	_ sso.Describer = (*Provider)(nil)
)

// New returns a Provider that reads metadata with f.
func New(f Fetcher) *Provider {
	return &Provider{Now: func() time.Time { return time.Now().UTC() }, fetch: f}
}

var errNoSettings = errors.New("saml: the connection has no SAML settings")

// Finish implements sso.Provider. The parameter is SAMLResponse; RelayState led to a.Pending already.
func (p *Provider) Finish(ctx context.Context, c sso.Connection, s sso.Secrets, a sso.Arrival, r *sso.Report) (said sso.Assertion, err error) {
	if err := ctx.Err(); err != nil {
		return sso.Assertion{}, err
	}
	if c.SAML == nil {
		return sso.Assertion{}, errNoSettings
	}
	// No document is known that gets here; the gates are what keeps panics out. This is the second net.
	defer func() {
		if x := recover(); x != nil {
			r.Fail(sso.CheckAnswer, fmt.Sprintf("the response could not be judged: %T", x), "a SAML response", "Report this to Fleetpass's maintainers, with the identity provider's name.")
			said, err = sso.Assertion{}, sso.ErrRefused
		}
	}()
	said = (&judge{c: c, keys: s.Keys, in: a, report: r}).judge(a.Params["SAMLResponse"])
	if err := r.Err(); err != nil {
		return sso.Assertion{ID: said.ID}, err // known by its signature, if it has one: a replay is told by it
	}
	if said.ID == "" {
		return sso.Assertion{}, errors.New("saml: no check failed, and yet nothing was verified")
	}
	return said, nil
}
