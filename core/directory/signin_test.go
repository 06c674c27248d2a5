package directory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

const (
	home  = "203.0.113.7"
	cafe  = "198.51.100.9"
	wrong = "not the passphrase"
)

// from is somebody who is not known yet, at an address.
func from(address string) core.Actor {
	return core.Actor{Tenant: acme, Request: "request-1", Address: address}
}

func (w *world) try(t *testing.T, email, password, address string, known bool) error {
	t.Helper()
	_, err := w.Authenticate(t.Context(), from(address), email, password, known)
	return err
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	u := w.user(t, "grace@example.com")
	got, err := w.Authenticate(t.Context(), from(home), "Grace@Example.com ", good, false)
	if err != nil || got.ID != u.ID || !got.LastLogin.Equal(w.now) {
		t.Errorf("got %+v, %v", got, err)
	}
	if rec, err := w.User(t.Context(), acme, u.Email); err != nil || !rec.Value.LastLogin.Equal(w.now) {
		t.Errorf("the sign-in is not remembered: %v", err)
	}
	if err := w.try(t, "grace@example.com", wrong, home, false); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := w.org.Suspend(t.Context(), w.admin, acme); err != nil {
		t.Fatal(err)
	}
	if err := w.try(t, "grace@example.com", good, home, false); !errors.Is(err, core.NotFound) {
		t.Errorf("at a suspended tenant: %v", err)
	}
}

// WEB-005: whoever asks learns nothing about who exists: the same error, the same items written, the same work.
func TestNoEnumeration(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.user(t, "local@example.com")
	w.user(t, "disabled@example.com")
	if _, err := w.Disable(ctx, w.admin, acme, "disabled@example.com"); err != nil {
		t.Fatal(err)
	}
	sso := w.user(t, "sso@example.com")
	sso.Local, sso.Connection, sso.Password = false, "corp", nil
	rec, err := w.User(ctx, acme, sso.Email)
	if err != nil {
		t.Fatal(err)
	}
	op, err := directory.Users.Put(rec.Key, rec.Version, sso)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DB.Commit(ctx, op); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		err    string
		counts any
	}
	var want []outcome
	for n, name := range []string{"local@example.com", "unknown@example.com", "disabled@example.com", "sso@example.com", "not an e-mail", "system:masters"} {
		var got []outcome
		for i := range 7 {
			password := wrong
			if name == "disabled@example.com" && i%2 == 0 {
				password = good // the right one tells nothing either
			}
			w.db.Reset()
			_, err := w.Authenticate(ctx, from(fmt.Sprintf("10.0.%d.1", n)), name, password, false)
			if err == nil {
				t.Fatalf("%s signed in", name)
			}
			got = append(got, outcome{err.Error(), w.db.Reset()})
		}
		if want == nil {
			want = got
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s, attempt %d: %+v, want %+v as for a local user", name, i+1, got[i], want[i])
			}
		}
	}
	if err := w.try(t, "local@example.com", good, cafe, true); err != nil {
		t.Errorf("the local user: %v", err)
	}
}

// WEB-005: whoever the name is, or nobody, one hash is computed, at one cost; it is nearly all of the time that a refusal
// takes. The twin is a delayed attempt, which computes none.
func TestNoEnumerationByTime(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	w.user(t, "off@example.com")
	if _, err := w.Disable(t.Context(), core.SystemActor(acme), acme, "off@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"grace@example.com", "off@example.com", "nobody@example.com", "not an e-mail"} {
		for n := range 5 {
			costs := directory.Hashed(func() { w.try(t, name, wrong, home, true) })
			if len(costs) != 1 || costs[0] != w.Cost {
				t.Errorf("%s, attempt %d: hashes at %+v, want one at %+v", name, n+1, costs, w.Cost)
			}
		}
		if costs := directory.Hashed(func() { w.try(t, name, wrong, home, true) }); name != "not an e-mail" && len(costs) != 0 {
			t.Errorf("%s: a delayed attempt hashes at %+v", name, costs)
		}
	}
}

// Each failure of a person who exists is recorded, and that delays begin. Names that somebody makes up fill no log: their
// failures are counted, and the one record says that delays begin.
func TestFailuresAreRecorded(t *testing.T) {
	w := newWorld(t)
	w.user(t, "grace@example.com")
	for name, want := range map[string]int{"grace@example.com": 5, "nobody@example.com": 0} {
		for range 9 { // four of them are refused, and leave no record
			w.try(t, name, wrong, home, true)
		}
		failures, delays := 0, 0
		for _, r := range w.audits(t) {
			if r.Action != audit.SignIn || r.EntityID != name {
				continue
			}
			if strings.Contains(r.Reason, "delayed") {
				delays++
			} else {
				failures++
			}
			if r.Result != audit.Failed || r.Address != home || r.Request != "request-1" || r.Subject != core.UserSubject(core.Email(name)) {
				t.Errorf("got %+v", r)
			}
		}
		if failures != want || delays != 1 {
			t.Errorf("%s: %d failures recorded and %d beginnings of delays, want %d and 1", name, failures, delays, want)
		}
	}
}

func TestTemporaryPassword(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, temporary, err := w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "grace@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Authenticate(ctx, from(home), "grace@example.com", temporary, false)
	if err != nil || !got.MustChange() {
		t.Fatalf("got %+v, %v", got, err)
	}
	me := core.Actor{Tenant: acme, Subject: core.UserSubject(u.Email), UserID: u.ID}
	_, err = w.ChangePassword(ctx, me, acme, u.Email, temporary, temporary, false)
	wantErr(t, err, core.Invalid, "newPassword")
	_, err = w.ChangePassword(ctx, me, acme, u.Email, wrong, good, false)
	wantErr(t, err, core.Unauthenticated, "")
	changed, err := w.ChangePassword(ctx, me, acme, u.Email, temporary, good, false)
	if err != nil || changed.MustChange() || changed.Epoch == got.Epoch {
		t.Errorf("got %+v, %v", changed, err)
	}
	if err := w.try(t, "grace@example.com", temporary, cafe, true); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("the temporary password afterwards: %v", err)
	}
	if err := w.try(t, "grace@example.com", good, cafe, true); err != nil {
		t.Errorf("the new password: %v", err)
	}
	temporary, err = w.ResetPassword(ctx, w.admin, acme, u.Email)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(directory.TemporaryLife)
	if err := w.try(t, "grace@example.com", temporary, home, true); !errors.Is(err, directory.ErrExpired) {
		t.Errorf("an old temporary password: %v, want ErrExpired", err)
	}
	if err := w.try(t, "grace@example.com", wrong, home, true); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("a wrong one: %v, want nothing told", err)
	}
}

// WEB-007: the hash is argon2id at OWASP's parameters, with a salt of its own, and is renewed when the parameters change.
func TestHash(t *testing.T) {
	w := newWorld(t)
	w.Cost = directory.Cost{}
	ctx := t.Context()
	a, b := w.user(t, "a@example.com"), w.user(t, "b@example.com")
	phc := a.Password.PHC
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got %s", phc)
	}
	if parts := strings.Split(phc, "$"); len(parts) != 6 || len(parts[4]) != 22 || len(parts[5]) != 43 || parts[4] == strings.Split(b.Password.PHC, "$")[4] {
		t.Errorf("salt and tag of %s, against %s", phc, b.Password.PHC)
	}
	if err := w.try(t, "a@example.com", good, home, false); err != nil {
		t.Fatal(err)
	}
	if rec, _ := w.User(ctx, acme, a.Email); rec.Value.Password.PHC != phc {
		t.Error("a sign-in at the same cost changed the hash")
	}
	w.Cost = cheap
	for range 2 {
		if err := w.try(t, "a@example.com", good, home, false); err != nil {
			t.Fatal(err)
		}
	}
	rec, err := w.User(ctx, acme, a.Email)
	if err != nil || !strings.HasPrefix(rec.Value.Password.PHC, "$argon2id$v=19$m=64,t=1,p=1$") || rec.Value.Epoch != a.Epoch {
		t.Errorf("got %s, %v; want it hashed anew, and no session ended", rec.Value.Password.PHC, err)
	}
}

// WEB-009: one spelling, nothing cut off, nothing trimmed, nothing that is tried first.
func TestPasswordRules(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u := w.user(t, "grace.hopper@example.com")
	for _, tc := range []struct {
		name, password string
		ok             bool
	}{
		{"8 characters", "tr0ub4do", true},
		{"7 characters", "tr0ub4d", false},
		{"255 characters", strings.Repeat("xyé", 85), true},
		{"256 characters", strings.Repeat("xyé", 85) + "x", false},
		{"8 that are 16 bytes", "ÄÖÜäöüßé", true},
		{"7 that are 14 bytes", "ÄÖÜäöüß", false},
		{"8 that are 7 when composed", "tr0ube\u0301r", false},
		{"spaces around it", "  spaces matter  ", true},
		{"NUL", "tr0ub4dor\x00x", false},
		{"a line break", "tr0ub4dor\nx", false},
		{"malformed UTF-8", "tr0ub4dor\xff", false},
		{"the top of the list", "password", false},
		{"the top of the list in capitals", "PassWord123", false},
		{"the same in full width", "ｐａｓｓｗｏｒｄ", false},
		{"one character", "zzzzzzzzzz", false},
		{"the e-mail", "Grace.Hopper@example.com", false},
		{"its first part", "grace.hopper", false},
		{"100 kB", strings.Repeat("x1", 50_000), false},
	} {
		_, err := w.SetPassword(ctx, w.admin, acme, u.Email, tc.password)
		if tc.ok && err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if !tc.ok {
			wantErr(t, err, core.Invalid, "password")
			if err != nil && tc.password != "password" && strings.Contains(err.Error(), tc.password) {
				t.Errorf("%s: the error quotes it", tc.name)
			}
			continue
		}
		if err := w.try(t, "grace.hopper@example.com", tc.password, home, true); err != nil {
			t.Errorf("%s: signing in with it: %v", tc.name, err)
		}
		if err := w.try(t, "grace.hopper@example.com", tc.password+"x", home, true); err == nil {
			t.Errorf("%s: longer, it signs in as well", tc.name)
		}
		if trimmed := strings.TrimSpace(tc.password); trimmed != tc.password {
			if err := w.try(t, "grace.hopper@example.com", trimmed, home, true); err == nil {
				t.Errorf("%s: trimmed, it signs in as well", tc.name)
			}
		}
		w.pass(time.Hour)
	}
	// Composed and decomposed are the same password, whichever keyboard it is typed on.
	if _, err := w.SetPassword(ctx, w.admin, acme, u.Email, "une clé secrète"); err != nil {
		t.Fatal(err)
	}
	if err := w.try(t, "grace.hopper@example.com", "une cle\u0301 secre\u0300te", home, true); err != nil {
		t.Errorf("the decomposed spelling: %v", err)
	}
	if err := w.try(t, "grace.hopper@example.com", "une cle secrete", home, true); err == nil {
		t.Error("without its accents it signs in as well")
	}
}

// Whoever is disabled while the password is being checked does not get in.
func TestDisabledMeanwhile(t *testing.T) {
	w := newWorld(t)
	u := w.user(t, "grace@example.com")
	slow := &directory.Service{DB: &onSecondGet{DB: w.DB, do: func() {
		if _, err := w.Disable(context.Background(), w.admin, acme, u.Email); err != nil {
			t.Error(err)
		}
	}}, Ring: w.Ring, Now: w.clock, Cost: cheap}
	if _, err := slow.Authenticate(t.Context(), from(home), "grace@example.com", good, false); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("got %v", err)
	}
}

// onSecondGet does something before the second Get.
type onSecondGet struct {
	store.DB
	n  int
	do func()
}

func (d *onSecondGet) Get(ctx context.Context, k ...store.Key) ([]store.Item, error) {
	if d.n++; d.n == 2 {
		d.do()
	}
	return d.DB.Get(ctx, k...)
}

func TestReplaceTemporary(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, temporary, err := w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "grace@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	me := core.Actor{Tenant: acme, Subject: core.UserSubject(u.Email), UserID: u.ID}
	_, err = w.ReplaceTemporary(ctx, me, acme, u.Email, u.Epoch, temporary)
	wantErr(t, err, core.Invalid, "newPassword")
	_, err = w.ReplaceTemporary(ctx, me, acme, u.Email, "another epoch", good)
	wantErr(t, err, core.Unauthenticated, "")
	got, err := w.ReplaceTemporary(ctx, me, acme, u.Email, u.Epoch, good)
	if err != nil || got.MustChange() || got.Epoch == u.Epoch {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = w.ReplaceTemporary(ctx, me, acme, u.Email, got.Epoch, good+"!")
	wantErr(t, err, core.Unauthenticated, "") // it is not temporary any more
}

// A temporary password that was proved before single sign-on was enforced is no way round it (SAML-159).
func TestReplaceTemporaryEnforced(t *testing.T) {
	w := newWorld(t)
	people := map[core.Email]directory.User{}
	for _, e := range []core.Email{"grace@example.com", "linus@example.com"} {
		u, _, err := w.CreateUser(t.Context(), w.admin, acme, directory.NewUser{Email: string(e)})
		if err != nil {
			t.Fatal(err)
		}
		people[e] = u
	}
	enforce := func(on bool) {
		t.Helper()
		var table store.Table[org.Tenant]
		rec, err := table.Get(t.Context(), w.DB, store.Meta(acme))
		if err != nil {
			t.Fatal(err)
		}
		rec.Value.Settings.EnforceSSO, rec.Value.Settings.BreakGlass = on, []core.Email{"linus@example.com"}
		op, err := table.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DB.Commit(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	choose := func(e core.Email) error {
		u := people[e]
		_, err := w.ReplaceTemporary(t.Context(), core.Actor{Tenant: acme, Subject: core.UserSubject(e), UserID: u.ID}, acme, e, u.Epoch, good)
		return err
	}
	enforce(true)
	if err := choose("grace@example.com"); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("enforced: %v", err)
	}
	if err := choose("linus@example.com"); err != nil {
		t.Errorf("who may use a password: %v", err)
	}
	enforce(false)
	if err := choose("grace@example.com"); err != nil {
		t.Errorf("no more enforced: %v", err)
	}
}
