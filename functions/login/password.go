package login

import (
	"errors"
	"net/http"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// passwordPage asks whoever proved a temporary password to choose their own.
func (f function) passwordPage(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	u, err := f.mustChange(r, t, r.URL.Query().Get("login"))
	if err != nil {
		return err
	}
	showPassword(w, t, u, "", http.StatusOK)
	return nil
}

func (f function) mustChange(r *http.Request, t core.TenantID, handle string) (underWay, error) {
	u, err := f.underWay(r, t, handle)
	if err == nil && u.rec.Value.Email == "" {
		err = core.NotFound // nobody proved anything in this sign-in yet
	}
	return u, err
}

// password replaces the temporary password and ends the sign-in that it interrupted.
func (f function) password(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := f.form(w, r, web.Cookie(r, loginCookie(t)), "password "+string(t), "login", "username", "new", "repeat")
	if err != nil {
		return err
	}
	u, err := f.mustChange(r, t, form["login"])
	if err != nil {
		return err
	}
	if form["new"] != form["repeat"] {
		showPassword(w, t, u, "The two passwords differ.", http.StatusUnprocessableEntity)
		return nil
	}
	l, a := u.rec.Value, actor(r, t)
	a.Subject, a.UserID = core.UserSubject(l.Email), l.User
	person, err := f.Directory.ReplaceTemporary(r.Context(), a, t, l.Email, l.Epoch, form["new"])
	if fix, ok := fixOf(err); ok {
		showPassword(w, t, u, "The new password "+fix+".", http.StatusUnprocessableEntity)
		return nil
	}
	if err != nil {
		return err
	}
	return f.finish(w, r, t, u.rec, person)
}

// fixOf is what to do about a field that was refused.
func fixOf(err error) (string, bool) {
	var field *core.FieldError
	if errors.As(err, &field) {
		return field.Fix, true
	}
	return "", false
}

// welcomePage is where a tenant's one-time link leads: its first administrator chooses a name and a password. Looking at
// the page uses nothing up, so that a mail scanner that follows links does not either.
func (f function) welcomePage(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	cookie := web.Cookie(r, loginCookie(t))
	if len(cookie) != len(core.NewSecret()) {
		cookie = core.NewSecret()
	}
	web.SetCookie(w, loginCookie(t), cookie, session.LoginLife)
	showWelcome(w, t, cookie, r.URL.Query().Get("token"), "", "", http.StatusOK)
	return nil
}

// welcome makes the first administrator and signs them in.
func (f function) welcome(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	cookie := web.Cookie(r, loginCookie(t))
	form, err := f.form(w, r, cookie, "welcome "+string(t), "welcome", "username", "new", "repeat")
	if err != nil {
		return err
	}
	again := func(problem string) error {
		showWelcome(w, t, cookie, form["welcome"], form["username"], problem, http.StatusUnprocessableEntity)
		return nil
	}
	if form["new"] != form["repeat"] {
		return again("The two passwords differ.")
	}
	person, err := f.Directory.RedeemWelcome(r.Context(), actor(r, t), form["welcome"], form["username"], form["new"], f.Appoint)
	var field *core.FieldError
	if errors.As(err, &field) {
		return again("The " + field.Field + " " + field.Fix + ".")
	}
	if err != nil {
		return err
	}
	return f.finish(w, r, t, store.Record[session.Login]{}, person)
}
