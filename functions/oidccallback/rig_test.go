package oidccallback_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/oidccallback"
)

// clerk is a provider that vouches for grace, and remembers what it was brought.
type clerk struct {
	refuse  error
	brought []map[string]string
}

func (*clerk) Load(_ context.Context, c *sso.Connection, _ []byte) error {
	if c.SAML != nil {
		c.SAML.IdP = sso.SAMLProvider{EntityID: "https://idp.example", Digest: "d"}
	}
	return nil
}

func (*clerk) Start(_ context.Context, _ sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: j.State, Pending: sso.Pending{Request: j.State}}, nil
}

func (c *clerk) Finish(_ context.Context, conn sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	c.brought = append(c.brought, a.Params)
	if c.refuse != nil {
		r.Fail(sso.CheckSignature, "canary", "", "canary")
		return sso.Assertion{}, c.refuse
	}
	r.Pass(sso.CheckSignature, "good")
	return sso.Assertion{ID: core.NewID(), Until: a.Now.Add(time.Minute), Attributes: map[string]any{"email": "grace@" + string(conn.Alias) + ".example"}}, nil
}

// rig is acme with the connections cloud (OpenID Connect), cluster (OpenShift), off, which is disabled, and corp (SAML).
type rig struct {
	t        *testing.T
	db       *storetest.Counter
	sso      *sso.Service
	sessions *session.Service
	clerk    *clerk
	handler  http.Handler
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, clerk: &clerk{}}
	now := func() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: now})
	r.must(err)
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	r.must(err)
	r.db = &storetest.Counter{DB: db}
	ring := keys.NewRing(r.db, wrapper, now)
	dir := &directory.Service{DB: r.db, Ring: ring, Now: now}
	r.sessions = &session.Service{DB: r.db, Ring: ring, Now: now}
	r.sso = &sso.Service{
		DB: r.db, Ring: ring, Directory: dir, Sessions: r.sessions, Now: now, Log: slog.New(slog.DiscardHandler), Base: "https://fleet.example",
		Providers: map[sso.Kind]sso.Provider{sso.SAML: r.clerk, sso.OIDC: r.clerk, sso.OpenShift: r.clerk},
	}
	_, err = (&org.Service{DB: r.db, Ring: ring, Now: now}).CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Acme")
	r.must(err)
	no := false
	for _, n := range []sso.New{
		{Alias: "corp", Kind: sso.SAML, Domains: []string{"corp.example"}, SAML: &sso.NewSAML{MetadataURL: "https://idp.example/metadata", IdPInitiated: true}},
		{Alias: "cloud", Kind: sso.OIDC, Domains: []string{"cloud.example"}, OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "f", ClientSecret: "hush"}},
		{Alias: "cluster", Kind: sso.OpenShift, Domains: []string{"cluster.example"}, OpenShift: &sso.NewOpenShift{BaseURL: "https://api.example:6443", ClientID: "f", ClientSecret: "hush"}},
		{Alias: "off", Kind: sso.OIDC, Domains: []string{"off.example"}, Enabled: &no, OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "f", ClientSecret: "hush"}},
	} {
		_, err := r.sso.Create(t.Context(), core.SystemActor("acme"), "acme", n)
		r.must(err)
	}
	edge := web.Edge{Log: slog.New(slog.DiscardHandler)}
	r.handler = edge.Wrap(oidccallback.Handler(oidccallback.Deps{SSO: r.sso}))
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
