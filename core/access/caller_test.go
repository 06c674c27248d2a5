package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/token"
)

// signIn begins a sign-in of a person, and returns the token that descends from it.
func (h *house) signIn(e core.Email) token.Access {
	h.t.Helper()
	ctx := h.t.Context()
	tenant, err := h.org.Tenant(ctx, acme)
	h.must(err)
	u, err := h.dir.User(ctx, acme, e)
	h.must(err)
	s := session.Service{DB: h.db, Now: h.now}
	f, op, err := s.Begin(tenant.Value, session.Family{Client: "cli", Email: e, User: u.Value.ID, Epoch: u.Value.Epoch, AuthTime: h.now()}, time.Hour)
	h.must(err)
	h.must(h.db.Commit(ctx, op))
	return token.Access{Kind: core.User, Subject: string(u.Value.ID), Email: string(e), Family: f.ID}
}

// Every cause for which a token opens nothing any more is one for each that asks who calls: an API that reads (Admit) and a
// decision (DecideFor). Each row comes after its twin, in which the same token is good.
func TestCallers(t *testing.T) {
	us := core.SystemActor(acme)
	type world struct {
		*house
		ada   directory.User
		robot core.ApplicationID
	}
	for _, row := range []struct {
		what  string
		robot bool
		spoil func(w world, a *token.Access) error
		want  error // nil: still good
	}{
		{"nothing", false, func(world, *token.Access) error { return nil }, nil},
		{"a new name", false, func(w world, _ *token.Access) error {
			_, err := w.dir.UpdateProfile(t.Context(), us, acme, w.ada.Email, func(p *directory.Profile) { p.FirstName = "Ada" })
			return err
		}, nil},
		{"no e-mail", false, func(_ world, a *token.Access) error { a.Email = ""; return nil }, core.Unauthenticated},
		{"no sign-in", false, func(_ world, a *token.Access) error { a.Family = ""; return nil }, core.Unauthenticated},
		{"no kind", false, func(_ world, a *token.Access) error { a.Kind = ""; return nil }, core.Unauthenticated},
		{"a sign-in that there is not", false, func(_ world, a *token.Access) error { a.Family = core.NewID(); return nil }, core.Unauthenticated},
		{"another's id", false, func(_ world, a *token.Access) error { a.Subject = core.NewID(); return nil }, core.Unauthenticated},
		{"another's e-mail", false, func(_ world, a *token.Access) error { a.Email = string(email("bob")); return nil }, core.Unauthenticated},
		{"signed out", false, func(w world, _ *token.Access) error {
			_, err := w.dir.ForceLogout(t.Context(), us, acme, w.ada.Email)
			return err
		}, core.Unauthenticated},
		{"disabled", false, func(w world, _ *token.Access) error {
			_, err := w.dir.Disable(t.Context(), us, acme, w.ada.Email)
			return err
		}, core.Unauthenticated},
		{"deleted", false, func(w world, _ *token.Access) error {
			return w.dir.DeleteUser(t.Context(), us, acme, w.ada.Email)
		}, core.Unauthenticated},
		{"signed in by a temporary password", false, func(w world, a *token.Access) error {
			_, err := w.dir.ResetPassword(t.Context(), us, acme, w.ada.Email)
			*a = w.signIn(w.ada.Email)
			return err
		}, core.Unauthenticated},
		{"an application", true, func(world, *token.Access) error { return nil }, nil},
		{"an application that is disabled", true, func(w world, _ *token.Access) error {
			_, err := w.dir.SetEnabled(t.Context(), us, acme, w.robot, false)
			return err
		}, core.Unauthenticated},
		{"an application that is deleted", true, func(w world, _ *token.Access) error {
			return w.dir.DeleteApplication(t.Context(), us, acme, w.robot)
		}, core.Unauthenticated},
		{"a person passed off as an application", false, func(_ world, a *token.Access) error { a.Kind = core.Application; return nil }, core.Unauthenticated},
	} {
		h := newHouse(t)
		h.dir.Keeps = nil // she is the last administrator
		_, err := h.dir.SetPassword(t.Context(), us, acme, email("ada"), "correct horse battery")
		h.must(err)
		rec, err := h.dir.User(t.Context(), acme, email("ada"))
		h.must(err)
		robot := h.application("robot")
		w := world{h, rec.Value, core.ApplicationID(robot.ID)}
		a := h.signIn(rec.Value.Email)
		if row.robot {
			a = token.Access{Kind: core.Application, Subject: robot.ID}
		}
		try := func(want error) {
			t.Helper()
			c, err := access.CallerOf(acme, a)
			if err == nil {
				h.db.Reset()
				var in access.Admitted
				in, err = h.access.Admit(t.Context(), c)
				if n := h.db.Reset().RoundTrips(); n != 1 {
					t.Errorf("%s: admitting takes %d round trips, want 1", row.what, n)
				}
				if err == nil && (in.Actor.Subject != c.Subject || in.Actor.UserID != c.UserID || in.Actor.Tenant != acme || in.Tenant.ID != acme) {
					t.Errorf("%s: admitted %+v", row.what, in)
				}
				ask := access.Ask{Subject: core.GroupSubject("physicists"), Entity: policy.Jobs, Action: policy.View, Scope: h.account}
				if _, other := h.access.DecideFor(t.Context(), c, ask); !errors.Is(other, want) {
					t.Errorf("%s: a decision: %v, want %v", row.what, other, want)
				}
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", row.what, err, want)
			}
		}
		try(nil)
		h.must(row.spoil(w, &a))
		try(row.want)
	}
}

// Admit sees a tenant that is suspended as one that is not there.
func TestCallerOfSuspendedTenant(t *testing.T) {
	h := newHouse(t)
	robot := h.application("robot")
	c, err := access.CallerOf(acme, token.Access{Kind: core.Application, Subject: robot.ID})
	h.must(err)
	h.must(h.org.Suspend(t.Context(), core.SystemActor(core.SystemTenant), acme))
	if _, err := h.access.Admit(t.Context(), c); !errors.Is(err, core.NotFound) {
		t.Errorf("suspended: %v", err)
	}
	v, err := h.access.DecideFor(t.Context(), c, access.Ask{Subject: robot, Entity: policy.Jobs, Action: policy.View, Scope: h.account})
	if err != nil || v[0].Code != policy.TenantSuspended {
		t.Errorf("suspended: %v, %v", v, err)
	}
}
