package maintain_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/functions/maintain"
)

// discovery is an OpenID provider of which only what it publishes is asked.
type discovery struct {
	jwks string
	err  error
	n    int
}

func (d *discovery) Load(_ context.Context, c *sso.Connection, _ []byte) error {
	if d.n++; d.err != nil {
		return d.err
	}
	c.OIDC.Provider = sso.OIDCProvider{Issuer: "https://idp.example", JWKS: d.jwks}
	return nil
}

func (d *discovery) Start(context.Context, sso.Connection, sso.Secrets, sso.Journey) (sso.Departure, error) {
	return sso.Departure{}, core.Unsupported
}

func (d *discovery) Finish(context.Context, sso.Connection, sso.Secrets, sso.Arrival, *sso.Report) (sso.Assertion, error) {
	return sso.Assertion{}, sso.ErrRefused
}

// connected is a world whose tenant acme has the connection okta.
func connected(t *testing.T) (*world, *discovery) {
	t.Helper()
	w, d := newWorld(t), &discovery{jwks: "https://idp.example/1"}
	w.SSO = &sso.Service{
		DB: w.DB, Ring: w.Ring, Now: w.clock, Providers: map[sso.Kind]sso.Provider{sso.OIDC: d}, Administrators: w.Access.Administrators,
		Directory: &directory.Service{DB: w.DB, Ring: w.Ring, Now: w.clock},
	}
	n := sso.New{Alias: "okta", Kind: sso.OIDC, OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "c", ClientSecret: "s"}}
	if _, err := w.SSO.Create(t.Context(), w.admin, acme, n); err != nil {
		t.Fatal(err)
	}
	d.n = 0
	return w, d
}

func (w *world) connection(t *testing.T) sso.Connection {
	t.Helper()
	rec, err := w.SSO.Connection(t.Context(), acme, "okta")
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value
}

// What a provider publishes is read once an hour, for as long as there is a connection to it.
func TestProvidersAreReadAgain(t *testing.T) {
	w, d := connected(t)
	for range 59 {
		w.pass(time.Minute)
		w.run(t)
	}
	if d.n != 0 {
		t.Errorf("%d readings within the first hour", d.n)
	}
	d.jwks = "https://idp.example/2"
	w.pass(time.Minute)
	w.run(t)
	w.run(t) // twice in a minute
	if got := w.connection(t); d.n != 1 || got.OIDC.Provider.JWKS != d.jwks {
		t.Errorf("%d readings, %+v", d.n, got.OIDC.Provider)
	}
	if jobs := w.jobs(t, acme)[due.Metadata]; len(jobs) != 1 || !jobs[0].Equal(w.now.Add(sso.RefreshEvery)) {
		t.Errorf("the next is due at %v", jobs)
	}

	// That it does not answer is no failure of the run.
	d.err = core.Unavailable
	w.pass(sso.RefreshEvery)
	w.run(t)
	if got := w.connection(t); d.n != 2 || got.Refresh.Error == "" || got.OIDC.Provider.JWKS != d.jwks {
		t.Errorf("%d readings, %+v", d.n, got)
	}
	if err := w.SSO.Delete(t.Context(), w.admin, acme, "okta"); err != nil {
		t.Fatal(err)
	}
	w.pass(sso.RefreshEvery)
	w.run(t)
	if jobs := w.jobs(t, acme)[due.Metadata]; d.n != 2 || len(jobs) != 0 {
		t.Errorf("after the connection was deleted: %d readings, due at %v", d.n, jobs)
	}
}

// Nothing is read for a tenant that is being erased, and a deployment that speaks to no provider says so.
func TestProvidersOfAnErasedTenant(t *testing.T) {
	w, d := connected(t)
	speaks := w.SSO
	w.SSO = nil
	w.pass(sso.RefreshEvery)
	if err := maintain.Handle(t.Context(), w.Deps, w.clock()); !errors.Is(err, core.Unsupported) {
		t.Errorf("without a service: %v", err)
	}
	if len(w.jobs(t, acme)[due.Metadata]) != 1 {
		t.Error("the job is gone")
	}
	w.SSO = speaks
	if err := w.Org.Erase(t.Context(), core.Actor{Tenant: core.SystemTenant}, acme); err != nil {
		t.Fatal(err)
	}
	w.run(t)
	if jobs := w.jobs(t, acme)[due.Metadata]; d.n != 0 || len(jobs) != 0 {
		t.Errorf("%d readings, due at %v", d.n, jobs)
	}
}
