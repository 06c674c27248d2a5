package directory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// errAppoint is an Appoint's refusal of somebody who is there.
var errAppoint = core.BadField("email", "is somebody's")

// appointNobody appoints nobody, to a tenant that has an administrator or none.
func appointNobody(w *world, administered ...bool) directory.Appoint {
	return func(ctx context.Context, actor core.Actor, _ core.Email, there bool) ([]store.Op, error) {
		if there && len(administered) > 0 {
			return nil, errAppoint
		}
		rec, err := w.org.Tenant(ctx, actor.Tenant)
		if err != nil {
			return nil, err
		}
		op, _, err := org.Bump(rec)
		return []store.Op{op}, err
	}
}

func TestRedeemWelcome(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	redeem := func(token, email, password string) (directory.User, error) {
		return w.RedeemWelcome(ctx, from(home), token, email, password, appointNobody(w))
	}
	_, err := redeem("wrong", "ada@example.com", good)
	wantErr(t, err, core.Unauthenticated, "")
	_, err = redeem(w.welcome, "ada", good)
	wantErr(t, err, core.Invalid, "email")
	_, err = redeem(w.welcome, "ada@example.com", "password")
	wantErr(t, err, core.Invalid, "password")
	_, err = w.RedeemWelcome(ctx, core.Actor{Tenant: core.SystemTenant, Address: home}, w.welcome, "ada@example.com", good, appointNobody(w))
	wantErr(t, err, core.Unauthenticated, "") // it is another tenant's

	// Of many that redeem it at once, one does.
	var made atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			switch _, err := redeem(w.welcome, fmt.Sprintf("ada%d@example.com", i), good); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, directory.ErrWelcome):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Fatalf("redeemed %d times", made.Load())
	}
	n := 0
	for rec, err := range w.Users(ctx, acme) {
		n++
		if err != nil || rec.Value.MustChange() {
			t.Errorf("%+v, %v", rec.Value, err)
		}
		if err := w.try(t, string(rec.Value.Email), good, home, false); err != nil {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d users", n)
	}
}

// A welcome link takes nobody's account over: not one of an identity provider, and not one whose owner can be asked. What
// is refused uses nothing up, so that the link's holder can give another e-mail.
func TestWelcomeTakesNothingOver(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u := w.user(t, "ada@example.com")
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
	redeem := func(email string, appoint directory.Appoint) error {
		_, err := w.RedeemWelcome(ctx, from(home), w.welcome, email, good+" mine", appoint)
		return err
	}
	wantErr(t, redeem("ada@example.com", appointNobody(w, true)), core.Invalid, "email")
	wantErr(t, redeem("sso@example.com", appointNobody(w)), core.Invalid, "email")
	if after, err := w.User(ctx, acme, u.Email); err != nil || after.Value.Epoch != u.Epoch || after.Value.Password.PHC != u.Password.PHC {
		t.Errorf("ada is another: %v", err)
	}
	if after, err := w.User(ctx, acme, sso.Email); err != nil || after.Value.Connection != "corp" || after.Value.Local {
		t.Errorf("sso is another: %+v, %v", after.Value, err)
	}
	if err := redeem("new@example.com", appointNobody(w, true)); err != nil {
		t.Errorf("somebody new: %v", err)
	}
	wantErr(t, redeem("newer@example.com", appointNobody(w)), core.Unauthenticated, "")
}

// In a tenant without administrators a welcome lets a person in who is there, and ends what it held.
func TestRedeemWelcomeAgain(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u := w.user(t, "ada@example.com")
	if _, err := w.Disable(ctx, w.admin, acme, u.Email); err != nil {
		t.Fatal(err)
	}
	got, err := w.RedeemWelcome(ctx, from(home), w.welcome, "ada@example.com", good+" anew", appointNobody(w))
	if err != nil || got.ID != u.ID || got.Disabled || got.Epoch == u.Epoch {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := w.try(t, "ada@example.com", good+" anew", home, false); err != nil {
		t.Error(err)
	}
	if err := w.try(t, "ada@example.com", good, home, false); err == nil {
		t.Error("the old password still serves")
	}
	w.pass(org.WelcomeLife)
	token, err := w.org.Welcome(ctx, w.admin, acme)
	if err != nil {
		t.Fatal(err)
	}
	w.pass(org.WelcomeLife)
	_, err = w.RedeemWelcome(ctx, from(home), token, "ada@example.com", good, appointNobody(w))
	wantErr(t, err, core.Unauthenticated, "") // too late
}
