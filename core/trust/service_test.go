package trust_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	corekeys "github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
)

const acme = core.TenantID("acme")

// newService keeps trusted issuers of the tenant acme in an embedded store.
func newService(t *testing.T) (*trust.Service, store.DB) {
	t.Helper()
	clock := func() time.Time { return now }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	tenants := &org.Service{DB: db, Ring: ring(db, wrapper, clock), Now: clock}
	if _, err := tenants.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(acme), "Acme"); err != nil {
		t.Fatal(err)
	}
	return &trust.Service{DB: db, Now: clock, Base: "https://fleetpass.test", Verifier: answers{}}, db
}

func ring(db store.DB, w corekeys.Wrapper, clock func() time.Time) *corekeys.Ring {
	return corekeys.NewRing(db, w, clock)
}

func TestService(t *testing.T) {
	s, db := newService(t)
	ctx, admin := t.Context(), core.Actor{Tenant: acme, Subject: core.UserSubject("ada@acme.test")}
	n := trust.Settings{Name: "gpu", Issuer: clusterIssuer, JWKS: set(keys().p256.public), Enabled: true}
	made, err := s.Create(ctx, admin, acme, n)
	if err != nil || made.ID == "" || len(made.Keys) != 1 || made.CreatedBy != admin.Subject {
		t.Fatalf("%+v, %v", made, err)
	}
	if _, err := s.Create(ctx, admin, acme, n); !errors.Is(err, core.Exists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := s.Create(ctx, admin, "absent", n); !errors.Is(err, core.NotFound) {
		t.Errorf("in no tenant: %v", err)
	}
	for field, edit := range map[string]func(*trust.Settings){
		"name":   func(n *trust.Settings) { n.Name = "GPU" },
		"issuer": func(n *trust.Settings) { n.Issuer = "https://fleetpass.test/t/globex" },
		"jwks":   func(n *trust.Settings) { n.JWKSURI = "https://x.test/jwks" },
		"ca":     func(n *trust.Settings) { n.CA = "no certificate" },
	} {
		bad := n
		bad.Name = "other"
		edit(&bad)
		_, err := s.Create(ctx, admin, acme, bad)
		wantField(t, field, err, field)
	}

	n.Enabled, n.JWKS = false, set(keys().rsa.public)
	replaced, err := s.Replace(ctx, admin, acme, n)
	if err != nil || replaced.ID != made.ID || replaced.Enabled || replaced.Keys[0].Type != "RSA" {
		t.Fatalf("%+v, %v", replaced, err)
	}
	if _, err := s.Replace(ctx, admin, acme, n); err != nil { // changes nothing, and leaves no record
		t.Fatal(err)
	}
	moved := n
	moved.Issuer = "https://other.test"
	_, err = s.Replace(ctx, admin, acme, moved)
	wantField(t, "another issuer under the name", err, "issuer")

	resolved, err := trust.Resolve(ctx, db, acme, "trusts", []trust.Trust{{Issuer: "gpu"}})
	if err != nil || resolved[0].IssuerID != made.ID {
		t.Fatalf("%+v, %v", resolved, err)
	}
	_, err = trust.Resolve(ctx, db, "globex", "trusts", []trust.Trust{{Issuer: "gpu"}})
	wantField(t, "another tenant's", err, "trusts[0].issuer")

	if err := s.Delete(ctx, admin, acme, "gpu"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, admin, acme, "gpu"); !errors.Is(err, core.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Replace(ctx, admin, acme, n); !errors.Is(err, core.NotFound) {
		t.Errorf("replaced when it is gone: %v", err)
	}
	again, err := s.Create(ctx, admin, acme, n)
	if err != nil || again.ID == made.ID {
		t.Errorf("a name was inherited with its ID: %v", err)
	}

	var table store.Table[audit.Record]
	var told []string
	for rec, err := range table.List(ctx, db, store.AuditsNew(acme)) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Value.EntityType == audit.EntityTrustedIssuer {
			told = append(told, fmt.Sprint(rec.Value.Action, " ", rec.Value.EntityID, " ", rec.Value.Reason))
		}
	}
	want := map[string]int{"create gpu ": 2, "update gpu keys, disabled": 1, "delete gpu ": 1}
	for _, line := range told {
		want[line]--
	}
	for line, n := range want {
		if n != 0 {
			t.Errorf("%q: %d records too few; told %q", line, n, told)
		}
	}
}

// A tenant cannot trust heaps of issuers.
func TestServiceIsBounded(t *testing.T) {
	s, _ := newService(t)
	for i := range trust.MaxIssuers {
		if _, err := s.Create(t.Context(), core.SystemActor(acme), acme, trust.Settings{Name: fmt.Sprint("i", i), Issuer: clusterIssuer, JWKS: set(keys().ed.public)}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Create(t.Context(), core.SystemActor(acme), acme, trust.Settings{Name: "more", Issuer: clusterIssuer, JWKS: set(keys().ed.public)})
	if !errors.Is(err, core.Limit) {
		t.Errorf("%v, want core.Limit", err)
	}
}
