package directory_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
)

// A tenant has at most so many applications, and deleting one makes room.
func TestApplicationsAreBounded(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var ops []store.Op
	for i := range directory.MaxApplications - 1 {
		id := core.ApplicationID(fmt.Sprintf("app-%04d", i))
		op, err := directory.Applications.Put(store.Application(acme, id), 0, directory.Application{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		if ops = append(ops, op); len(ops) == store.MaxOps || i == directory.MaxApplications-2 {
			if err := w.db.Commit(ctx, ops...); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	last, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "last"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "more"})
	wantErr(t, err, core.Limit, "")
	if err := w.DeleteApplication(ctx, w.admin, acme, last.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "more"}); err != nil {
		t.Error(err)
	}
}

// What an application proves itself with, beside secrets.
func TestApplicationMeans(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	jwks := []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)) + `"}]}`)
	issuers := &trust.Service{DB: w.DB, Now: w.clock, Base: "https://fleetpass.test"}
	iss, err := issuers.Create(ctx, w.admin, acme, trust.Settings{Name: "gpu", Issuer: "https://kubernetes.default.svc", JWKS: jwks, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	trusts := []trust.Trust{{Issuer: "gpu", Conditions: []trust.Condition{{Claim: "sub", Values: []string{"builder"}}}}}
	app, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "ci", JWKS: jwks, Trusts: trusts})
	if err != nil || len(app.Keys) != 1 || app.Trusts[0].IssuerID != iss.ID {
		t.Fatalf("%+v, %v", app, err)
	}
	public, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "portal", Public: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		id    core.ApplicationID
		edit  directory.Edit
		field string
	}{
		"keys of a public one":   {public.ID, directory.Edit{JWKS: jwks}, "jwks, trusts"},
		"trusts of a public one": {public.ID, directory.Edit{Trusts: trusts}, "jwks, trusts"},
		"no key set":             {app.ID, directory.Edit{JWKS: []byte(`[]`)}, "jwks"},
		"six keys":               {app.ID, directory.Edit{JWKS: []byte(`{"keys":[` + strings.Repeat("{},", 5) + `{}]}`)}, "jwks"},
		"an unknown issuer":      {app.ID, directory.Edit{Trusts: []trust.Trust{{Issuer: "absent", Conditions: trusts[0].Conditions}}}, "trusts[0].issuer"},
	} {
		_, err := w.EditApplication(ctx, w.admin, acme, tt.id, tt.edit)
		wantErr(t, err, core.Invalid, tt.field)
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "open", Public: true, JWKS: jwks}); err == nil {
		t.Error("a public application has keys")
	}
	got, err := w.EditApplication(ctx, w.admin, acme, app.ID, directory.Edit{JWKS: []byte(`{"keys":[]}`)})
	if err != nil || got.Keys != nil || len(got.Trusts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
