package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/token"
)

// A token that was made with an access key is its owner's: it may what the owner may now, no more and no less, and for as
// long as the key stands. Each row comes after its twin.
func TestKeyCallers(t *testing.T) {
	us := core.SystemActor(acme)
	for _, row := range []struct {
		what  string
		spoil func(h *house, k directory.AccessKey, a *token.Access) error
		good  bool
	}{
		{"signed out", func(h *house, k directory.AccessKey, _ *token.Access) error {
			_, err := h.dir.ForceLogout(t.Context(), us, acme, k.Email)
			return err
		}, true},
		{"key disabled", func(h *house, k directory.AccessKey, _ *token.Access) error {
			_, err := h.dir.EnableAccessKey(t.Context(), us, acme, k.ID, false)
			return err
		}, false},
		{"key deleted", func(h *house, k directory.AccessKey, _ *token.Access) error {
			return h.dir.DeleteAccessKey(t.Context(), us, acme, k.ID)
		}, false},
		{"owner disabled", func(h *house, k directory.AccessKey, _ *token.Access) error {
			_, err := h.dir.Disable(t.Context(), us, acme, k.Email)
			return err
		}, false},
		{"owner deleted", func(h *house, k directory.AccessKey, _ *token.Access) error {
			return h.dir.DeleteUser(t.Context(), us, acme, k.Email)
		}, false},
		{"another's id", func(_ *house, _ directory.AccessKey, a *token.Access) error { a.Subject = core.NewID(); return nil }, false},
		{"another's e-mail", func(_ *house, _ directory.AccessKey, a *token.Access) error {
			a.Email = string(email("bob"))
			return nil
		}, false},
		{"another key", func(_ *house, _ directory.AccessKey, a *token.Access) error {
			a.Family = "ak-" + core.NewID()
			return nil
		}, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			h := newHouse(t)
			h.person("kim")
			h.seed(core.UserSubject(email("kim")), policy.Viewer, h.account)
			_, err := h.dir.SetPassword(t.Context(), us, acme, email("kim"), "correct horse battery")
			h.must(err)
			rec, err := h.dir.User(t.Context(), acme, email("kim"))
			h.must(err)
			kim := rec.Value
			k, _, err := h.dir.CreateAccessKey(t.Context(), us, acme, kim, "laptop", time.Hour)
			h.must(err)
			a := token.Access{Kind: core.User, Subject: string(kim.ID), Email: string(kim.Email), Client: string(k.ID), Family: k.Family()}
			ask := access.Ask{Subject: core.UserSubject(kim.Email), UserID: kim.ID, Entity: policy.Project, Action: policy.View, Scope: core.AccountScope(acme)}
			try := func() (admitted, decided error) {
				c, err := access.CallerOf(acme, a)
				h.must(err)
				in, admitted := h.access.Admit(t.Context(), c)
				if admitted == nil && (in.AccessKey != k.ID || in.Person.ID != kim.ID) {
					t.Errorf("admitted %+v", in)
				}
				v, decided := h.access.DecideFor(t.Context(), c, ask)
				if decided == nil && !v[0].Allowed {
					t.Errorf("the owner may, and the key not: %s", v[0].Why())
				}
				return admitted, decided
			}
			if admitted, decided := try(); admitted != nil || decided != nil {
				t.Fatalf("the twin: %v, %v", admitted, decided)
			}
			h.must(row.spoil(h, k, &a))
			admitted, decided := try()
			for _, err := range []error{admitted, decided} {
				if (err == nil) != row.good || err != nil && !errors.Is(err, core.Unauthenticated) {
					t.Errorf("%v, want good %t", err, row.good)
				}
			}
		})
	}
}
