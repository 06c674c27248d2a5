package sso_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/events"
)

// press is a provider that publishes what the test says, and signs nobody in.
type press struct {
	mu     sync.Mutex
	entity string        // whose metadata it is; "": https://idp.example
	certs  [][]byte      // of SAML
	jwks   string        // of OIDC
	err    error         // what Load answers instead
	hold   chan struct{} // Load waits for it, if it is there
	loads  atomic.Int64
}

func (p *press) set(change func(*press)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *press) Load(ctx context.Context, c *sso.Connection, document []byte) error {
	n := p.loads.Add(1)
	p.mu.Lock()
	hold := p.hold
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return core.Unavailable
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	entity := p.entity
	if entity == "" {
		entity = "https://idp.example"
	}
	if document != nil {
		entity = string(document)
	}
	switch {
	case c.SAML != nil:
		c.SAML.IdP = sso.SAMLProvider{EntityID: entity, Certificates: slices.Clone(p.certs), Digest: fmt.Sprint(n)}
	case c.OIDC != nil:
		c.OIDC.Provider = sso.OIDCProvider{Issuer: entity, JWKS: p.jwks, Digest: fmt.Sprint(n)}
	case c.OpenShift != nil:
		c.OpenShift.Provider = sso.OpenShiftProvider{Issuer: entity}
	}
	return nil
}

func (p *press) Start(context.Context, sso.Connection, sso.Secrets, sso.Journey) (sso.Departure, error) {
	return sso.Departure{}, core.Unsupported
}

func (p *press) Finish(context.Context, sso.Connection, sso.Secrets, sso.Arrival, *sso.Report) (sso.Assertion, error) {
	return sso.Assertion{}, sso.ErrRefused
}

// office is where acme's administrators configure: ada administers, with a password of her own.
type office struct {
	*sso.Service
	t     *testing.T
	db    *storetest.Counter
	org   *org.Service
	dir   *directory.Service
	acc   *access.Service
	press *press
	ring  *keys.Ring
	ns    atomic.Int64
	ada   core.Actor
}

const acme core.TenantID = "acme"

const phrase = "a good long passphrase"

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, press: &press{}}
	o.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: o.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	o.db = &storetest.Counter{DB: db}
	o.ring = keys.NewRing(o.db, wrapper, o.now)
	o.org = &org.Service{DB: o.db, Ring: o.ring, Now: o.now}
	o.acc = &access.Service{DB: o.db, Now: o.now}
	o.dir = &directory.Service{DB: o.db, Ring: o.ring, Now: o.now, Keeps: o.acc.KeepsAdministrator, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	o.Service = &sso.Service{
		DB: o.db, Ring: o.ring, Directory: o.dir, Now: o.now, Base: "https://fleetpass.example", Administrators: o.acc.Administrators,
		Providers: map[sso.Kind]sso.Provider{sso.SAML: o.press, sso.OIDC: o.press, sso.OpenShift: o.press},
	}
	o.acc.Usable = o.Usable
	welcome, err := o.org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.dir.RedeemWelcome(t.Context(), core.Actor{Tenant: acme}, welcome, "ada@example.com", phrase, o.acc.FirstAdministrator); err != nil {
		t.Fatal(err)
	}
	o.ada = core.Actor{Tenant: acme, Subject: core.UserSubject("ada@example.com"), Request: "r1"}
	return o
}

func (o *office) now() time.Time { return time.Unix(0, o.ns.Load()).UTC() }

func (o *office) pass(d time.Duration) { o.ns.Add(int64(d)) }

// oidc is a connection to make, of a kind for which no key has to be made.
func oidc(a sso.Alias, domains ...string) sso.New {
	return sso.New{Alias: a, Kind: sso.OIDC, Domains: domains, OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "fleetpass", ClientSecret: "hush"}}
}

func saml(a sso.Alias, domains ...string) sso.New {
	return sso.New{Alias: a, Kind: sso.SAML, Domains: domains, SAML: &sso.NewSAML{MetadataURL: "https://idp.example/metadata"}}
}

func (o *office) create(n sso.New) sso.Connection {
	o.t.Helper()
	c, err := o.Create(o.t.Context(), o.ada, acme, n)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// prove does what the first successful sign-in by a connection, as it is configured now, does to it.
func (o *office) prove(a sso.Alias) {
	o.t.Helper()
	rec, err := o.Connection(o.t.Context(), acme, a)
	if err != nil {
		o.t.Fatal(err)
	}
	rec.Value.ProvenAt = o.now()
	op, err := (store.Table[sso.Connection]{}).Put(rec.Key, rec.Version, rec.Value)
	if err == nil {
		err = o.db.Commit(o.t.Context(), op)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// local makes a local person with a password.
func (o *office) local(e core.Email) {
	o.t.Helper()
	if _, _, err := o.dir.CreateUser(o.t.Context(), o.ada, acme, directory.NewUser{Email: string(e), Password: phrase}); err != nil {
		o.t.Fatal(err)
	}
}

// member makes a person who belongs to a connection.
func (o *office) member(e core.Email, c sso.Connection) {
	o.t.Helper()
	var none store.Record[directory.User]
	none.Key = store.User(acme, e)
	_, ops, err := o.dir.FromProvider(core.Actor{Tenant: acme}, none, directory.Said{Connection: c.ID, Subject: "s-" + string(e), Email: e, Groups: []core.GroupName{"idp-staff"}})
	if err == nil {
		err = o.db.Commit(o.t.Context(), ops...)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) appoint(e core.Email) core.RuleID {
	o.t.Helper()
	made, err := o.acc.Seed(o.t.Context(), acme, access.NewRule{Subject: core.UserSubject(e), Role: policy.SystemAdministrator, Scope: core.AccountScope(acme)})
	if err != nil {
		o.t.Fatal(err)
	}
	return made[0].ID
}

func (o *office) user(e core.Email) directory.User {
	o.t.Helper()
	rec, err := o.dir.User(o.t.Context(), acme, e)
	if err != nil {
		o.t.Fatal(err)
	}
	return rec.Value
}

func (o *office) settings() org.Settings {
	o.t.Helper()
	rec, err := o.org.Tenant(o.t.Context(), acme)
	if err != nil {
		o.t.Fatal(err)
	}
	return rec.Value.Settings
}

// secure changes the security settings, and expects it to go well.
func (o *office) secure(change func(*org.Settings)) {
	o.t.Helper()
	if _, err := o.SetSecurity(o.t.Context(), o.ada, acme, change); err != nil {
		o.t.Fatal(err)
	}
}

// facts are the events about identity providers and their certificates, in words and sorted.
func (o *office) facts() []string {
	o.t.Helper()
	var out []string
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range o.db.List(o.t.Context(), r) {
			if err != nil {
				o.t.Fatal(err)
			}
			if !it.Key.IsOutbox() {
				break
			}
			_, f, err := events.Decode(it.Body)
			if err != nil {
				o.t.Fatal(err)
			}
			switch f := f.(type) {
			case events.IdentityProviderChanged:
				out = append(out, f.Change)
			case events.CertificateExpiring:
				out = append(out, fmt.Sprintf("%s %d", f.Subject, f.Days))
			}
		}
	}
	slices.Sort(out)
	return out
}

// records are the audit records about identity providers, as "action name reason".
func (o *office) records() []string {
	o.t.Helper()
	var out []string
	for r, err := range audit.List(o.t.Context(), o.db, acme, time.Time{}, time.Time{}, false) {
		if err != nil {
			o.t.Fatal(err)
		}
		if r.EntityType == audit.EntityIdentityProvider {
			out = append(out, fmt.Sprintf("%s %s %s %s: %s", r.Subject.ID, r.Action, r.Name, r.Result, r.Reason))
		}
	}
	return out
}

func isField(t *testing.T, err error, field string) {
	t.Helper()
	if f, ok := errors.AsType[*core.FieldError](err); !ok || f.Field != field {
		t.Errorf("error %v, want one that names %s", err, field)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// signing makes a certificate that ends then.
func signing(t *testing.T, ends time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func aliases(c sso.Catalog) string {
	var out []string
	for _, e := range c.Entries {
		s := string(e.Alias)
		if !e.DeletedAt.IsZero() {
			s = "(" + s + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
