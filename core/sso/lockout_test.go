package sso_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
)

var ian core.Email = "ian@example.com"

// onlyIan leaves ian, who belongs to the connection okta, as the one administrator who can sign in.
func onlyIan(o *office) sso.Connection {
	o.t.Helper()
	c := o.create(oidc("okta", "example.com"))
	o.prove("okta")
	o.member(ian, c)
	o.appoint(ian)
	if _, err := o.dir.Disable(o.t.Context(), o.ada, acme, "ada@example.com"); err != nil {
		o.t.Fatal(err)
	}
	return c
}

// The last administrator who can sign in is not locked out by what happens to a connection. TEN-005, SAML-159
func TestLastAdministratorStays(t *testing.T) {
	off := false
	acts := map[string]func(o *office) error{
		"delete": func(o *office) error { return o.Delete(t.Context(), o.ada, acme, "okta") },
		"disable": func(o *office) error {
			_, err := o.Update(t.Context(), o.ada, acme, "okta", sso.New{Enabled: &off})
			return err
		},
		"trust another": func(o *office) error {
			_, err := o.Update(t.Context(), o.ada, acme, "okta", oidc(""))
			return err
		},
		"other mappers": func(o *office) error {
			_, err := o.SetMappers(t.Context(), o.ada, acme, "okta", sso.Mappers{Email: "mail"})
			return err
		},
		"other domains": func(o *office) error {
			_, err := o.Update(t.Context(), o.ada, acme, "okta", sso.New{Domains: []string{"okta.example"}})
			return err
		},
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			onlyIan(o)
			is(t, act(o), sso.ErrLockedOut)
			if rec, err := o.Connection(t.Context(), acme, "okta"); err != nil || !rec.Value.Enabled || rec.Value.ProvenAt.IsZero() {
				t.Errorf("okta is %+v, %v", rec.Value, err)
			}
			// The twin: with a local administrator it goes through.
			if _, err := o.dir.Enable(t.Context(), o.ada, acme, "ada@example.com"); err != nil {
				t.Fatal(err)
			}
			if err := act(o); err != nil {
				t.Errorf("with a local administrator: %v", err)
			}
		})
	}
}

// A person whose connection is gone is no administrator who keeps the account. TEN-005
func TestMemberOfADeletedConnectionKeepsNothing(t *testing.T) {
	o := newOffice(t)
	c := o.create(oidc("okta", "example.com"))
	o.prove("okta")
	o.member(ian, c)
	o.appoint(ian)
	if err := o.acc.KeepsAdministrator(t.Context(), acme, core.UserSubject("ada@example.com")); err != nil {
		t.Errorf("while okta is in use: %v", err)
	}
	if err := o.Delete(t.Context(), o.ada, acme, "okta"); err != nil {
		t.Fatal(err)
	}
	_, err := o.dir.Disable(t.Context(), o.ada, acme, "ada@example.com")
	is(t, err, access.ErrLastAdministrator)
}

// Whichever of two changes comes first, the other sees it: one of ada and okta stays. TEN-005
func TestNoTwoChangesLockOut(t *testing.T) {
	for range 8 {
		o := newOffice(t)
		c := o.create(oidc("okta", "example.com"))
		o.prove("okta")
		o.member(ian, c)
		o.appoint(ian)
		var working sync.WaitGroup
		var disabled, deleted error
		working.Go(func() { _, disabled = o.dir.Disable(t.Context(), o.ada, acme, "ada@example.com") })
		working.Go(func() { deleted = o.Delete(t.Context(), o.ada, acme, "okta") })
		working.Wait()
		if (disabled == nil) == (deleted == nil) {
			t.Errorf("disabling ada: %v; deleting okta: %v", disabled, deleted)
		}
	}
}

func TestEnforce(t *testing.T) {
	o := newOffice(t)
	enforce := func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{"ADA@example.com "} }
	refused := func(field string, change func(*org.Settings)) {
		t.Helper()
		_, err := o.SetSecurity(t.Context(), o.ada, acme, change)
		isField(t, err, field)
	}
	refused("enforceSso", enforce)
	o.create(oidc("okta", "example.com"))
	_, err := o.SetSecurity(t.Context(), o.ada, acme, enforce)
	isField(t, err, "enforceSso")
	if err == nil || !strings.Contains(err.Error(), "fleetpass sso test okta") {
		t.Errorf("%v does not say how to test it", err)
	}
	o.prove("okta")

	refused("breakGlass", func(s *org.Settings) { s.EnforceSSO = true })
	refused("breakGlass", func(s *org.Settings) { s.BreakGlass = []core.Email{"nobody@example.com"} })
	o.local("bob@example.com")
	refused("breakGlass", func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{"bob@example.com"} }) // no administrator
	if _, _, err := o.dir.CreateUser(t.Context(), o.ada, acme, directory.NewUser{Email: "tim@example.com"}); err != nil {
		t.Fatal(err)
	}
	o.appoint("tim@example.com")
	refused("breakGlass", func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{"tim@example.com"} }) // has chosen no password
	refused("autoRedirect", func(s *org.Settings) { s.AutoRedirect = "nobody" })
	refused("logoutUri", func(s *org.Settings) { s.LogoutURI = "javascript:alert(1)" })
	refused("idleTimeout", func(s *org.Settings) { s.IdleTimeout = time.Second })

	set, err := o.SetSecurity(t.Context(), o.ada, acme, func(s *org.Settings) {
		enforce(s)
		s.AutoRedirect, s.LogoutURI = "okta", "https://bye.example/"
	})
	if err != nil || !slices.Equal(set.BreakGlass, []core.Email{"ada@example.com"}) || !set.EnforceSSO {
		t.Fatalf("%+v, %v", set, err)
	}
	if got := o.settings(); got.AutoRedirect != "okta" || got.LogoutURI != "https://bye.example/" || !got.EnforceSSO || len(got.BreakGlass) != 1 {
		t.Errorf("stored %+v", got)
	}

	// Passwords are for ada now: bob's, which was good, is answered as a wrong one is, with as much work.
	signIn := func(e, password string) (trips int, err error) {
		o.db.Reset()
		_, err = o.dir.Authenticate(t.Context(), core.Actor{Tenant: acme, Address: "192.0.2.1"}, e, password, false)
		n := o.db.Reset()
		return n.Gets + n.Commits, err
	}
	if _, err := signIn("ada@example.com", phrase); err != nil {
		t.Errorf("ada: %v", err)
	}
	trips, right := signIn("bob@example.com", phrase)
	others, wrong := signIn("bob@example.com", "a wrong passphrase")
	if right != directory.ErrSignIn || wrong != directory.ErrSignIn || trips != others {
		t.Errorf("bob's password: %v in %d round trips; a wrong one: %v in %d", right, trips, wrong, others)
	}

	// The last break-glass administrator stays. TEN-005
	ada := core.Email("ada@example.com")
	o.local("cyd@example.com")
	rule := o.appoint("cyd@example.com") // an administrator, but not by password
	_, err = o.dir.Disable(t.Context(), o.ada, acme, ada)
	is(t, err, access.ErrBreakGlass)
	is(t, o.dir.DeleteUser(t.Context(), o.ada, acme, ada), access.ErrBreakGlass)
	_, err = o.acc.DeleteAllOf(t.Context(), o.ada, core.UserSubject(ada))
	is(t, err, access.ErrBreakGlass)
	_, _, err = o.Link(t.Context(), o.ada, acme, ada, "okta")
	is(t, err, sso.ErrBreakGlass)
	_, err = o.SetSecurity(t.Context(), o.ada, acme, func(s *org.Settings) { s.BreakGlass = nil })
	is(t, err, sso.ErrBreakGlass)
	if err := o.acc.Delete(t.Context(), o.ada, rule); err != nil { // another administrator's rule can go
		t.Errorf("cyd's rule: %v", err)
	}
	_, err = o.org.UpdateSettings(t.Context(), o.ada, acme, func(_ *string, s *org.Settings) { s.EnforceSSO = false })
	is(t, err, core.Unsupported)

	// Neither does the last connection go.
	off := false
	is(t, o.Delete(t.Context(), o.ada, acme, "okta"), core.Denied)
	_, err = o.Update(t.Context(), o.ada, acme, "okta", sso.New{Enabled: &off})
	is(t, err, core.Denied)
	o.create(oidc("entra", "entra.example"))
	if err := o.Delete(t.Context(), o.ada, acme, "okta"); err != nil {
		t.Errorf("with another one: %v", err)
	}
	if got := o.settings(); got.AutoRedirect != "" || !got.EnforceSSO {
		t.Errorf("after it was deleted: %+v", got)
	}

	// One change takes it all back. SAML-159
	o.secure(func(s *org.Settings) { s.EnforceSSO = false })
	if _, err := signIn("bob@example.com", phrase); err != nil {
		t.Errorf("bob: %v", err)
	}
	if _, err := o.dir.Disable(t.Context(), o.ada, acme, "tim@example.com"); err != nil {
		t.Error(err)
	}
}

// Two administrators of whom each removes the other leave one of them. TEN-005
func TestBreakGlassUnderConcurrency(t *testing.T) {
	for range 8 {
		o := newOffice(t)
		o.create(oidc("okta", "example.com"))
		o.prove("okta")
		o.local("bob@example.com")
		o.appoint("bob@example.com")
		o.secure(func(s *org.Settings) {
			s.EnforceSSO, s.BreakGlass = true, []core.Email{"bob@example.com", "ada@example.com"}
		})
		var working sync.WaitGroup
		errs := make([]error, 3)
		working.Go(func() { _, errs[0] = o.dir.Disable(t.Context(), o.ada, acme, "bob@example.com") })
		working.Go(func() { _, _, errs[1] = o.Link(t.Context(), o.ada, acme, "ada@example.com", "okta") })
		working.Go(func() {
			_, errs[2] = o.SetSecurity(t.Context(), o.ada, acme, func(s *org.Settings) { s.BreakGlass = []core.Email{"bob@example.com"} })
		})
		working.Wait()
		set := o.settings()
		left := 0
		for _, e := range []core.Email{"ada@example.com", "bob@example.com"} {
			if u := o.user(e); u.ProvesHere() && set.TakesPassword(e) {
				left++
			}
		}
		if left == 0 {
			t.Errorf("nobody is left: %v", errs)
		}
	}
}

// When all is lost, the operators' token lets somebody in who can come again, though single sign-on is enforced.
func TestWelcomeUnderEnforcement(t *testing.T) {
	o := newOffice(t)
	o.create(oidc("okta", "example.com"))
	o.prove("okta")
	o.secure(func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{"ada@example.com"} })
	token, err := o.org.Welcome(t.Context(), core.SystemActor(core.SystemTenant), acme)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.dir.RedeemWelcome(t.Context(), core.Actor{Tenant: acme}, token, "eve@example.com", phrase, o.acc.FirstAdministrator); err != nil {
		t.Fatal(err)
	}
	if _, err := o.dir.Authenticate(t.Context(), core.Actor{Tenant: acme}, "eve@example.com", phrase, false); err != nil {
		t.Errorf("eve: %v", err)
	}
	if got := o.settings().BreakGlass; !slices.Equal(got, []core.Email{"ada@example.com", "eve@example.com"}) {
		t.Errorf("break glass: %v", got)
	}
}

func TestLink(t *testing.T) {
	o := newOffice(t)
	okta := o.create(oidc("okta", "example.com"))
	o.prove("okta")
	entra := o.create(oidc("entra", "entra.example"))
	o.local("bob@example.com")
	was := o.user("bob@example.com")

	u, temporary, err := o.Link(t.Context(), o.ada, acme, "bob@example.com", "okta")
	if err != nil || temporary != "" || u.Local || u.Connection != okta.ID || u.Password != nil || u.Epoch == was.Epoch {
		t.Fatalf("%+v, %q, %v", u, temporary, err)
	}
	if _, err := o.dir.Authenticate(t.Context(), core.Actor{Tenant: acme}, "bob@example.com", phrase, false); err != directory.ErrSignIn {
		t.Errorf("bob's password: %v", err)
	}
	again, _, err := o.Link(t.Context(), o.ada, acme, "bob@example.com", "okta")
	if err != nil || again.Epoch != u.Epoch {
		t.Errorf("the same again: %+v, %v", again, err)
	}

	// Somebody else came by the account there: linking again forgets who it was.
	o.member(ian, okta)
	before := o.user(ian)
	u, _, err = o.Link(t.Context(), o.ada, acme, ian, "okta")
	if err != nil || u.Subject != "" || u.Epoch == before.Epoch || len(u.IDPGroups) != 0 {
		t.Errorf("%+v, %v", u, err)
	}

	_, _, err = o.Link(t.Context(), o.ada, acme, ian, "entra")
	isField(t, err, "idp")
	_, _, err = o.Link(t.Context(), o.ada, acme, ian, "nobody")
	is(t, err, core.NotFound)
	_, _, err = o.Link(t.Context(), o.ada, acme, "nobody@example.com", "okta")
	is(t, err, core.NotFound)
	if _, err := o.Update(t.Context(), o.ada, acme, "okta", sso.New{Domains: []string{"okta.example"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Update(t.Context(), o.ada, acme, "entra", sso.New{Domains: []string{"example.com"}}); err != nil {
		t.Fatal(err)
	}
	if u, _, err = o.Link(t.Context(), o.ada, acme, ian, "entra"); err != nil || u.Connection != entra.ID {
		t.Errorf("%+v, %v", u, err)
	}

	u, temporary, err = o.Link(t.Context(), o.ada, acme, ian, "")
	if err != nil || !u.Local || u.Connection != "" || temporary == "" || !u.MustChange() {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := o.dir.Authenticate(t.Context(), core.Actor{Tenant: acme}, string(ian), temporary, false); err != nil {
		t.Errorf("the temporary password: %v", err)
	}
	_, temporary, err = o.Link(t.Context(), o.ada, acme, ian, "")
	if !errors.Is(err, core.Exists) || temporary != "" {
		t.Errorf("local already: %q, %v", temporary, err)
	}

	// The last administrator goes nowhere that was not proven.
	_, _, err = o.Link(t.Context(), o.ada, acme, "ada@example.com", "entra")
	is(t, err, sso.ErrLockedOut)
	o.prove("entra")
	if _, _, err = o.Link(t.Context(), o.ada, acme, "ada@example.com", "entra"); err != nil {
		t.Errorf("to one that was: %v", err)
	}
}
