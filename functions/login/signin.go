package login

import (
	"errors"
	"net/http"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// methods says how local users prove who they are (RFC 8176).
var methods = []string{"pwd"}

// underWay is a sign-in with what its page must know.
type underWay struct {
	handle string
	cookie string
	rec    store.Record[session.Login]
	asked  oauth.Request // the request it is for; zero if it is for no client
}

// underWay finds the sign-in of a handle, for the browser that began it, and judges its request as it is now.
func (f function) underWay(r *http.Request, t core.TenantID, handle string) (underWay, error) {
	u := underWay{handle: handle, cookie: web.Cookie(r, loginCookie(t))}
	var err error
	if u.rec, err = f.Sessions.Login(r.Context(), t, handle, u.cookie); err != nil {
		return u, err
	}
	if q := u.rec.Value.Query; q != "" {
		u.asked, err = f.OAuth.Authorize(r.Context(), t, q)
	}
	return u, err
}

// loginPage shows the form, and what else the tenant offers. Without a handle it begins a sign-in for no client. A tenant may
// have it go to an identity provider at once; with local=1 in the query, which a sign-in that begins here keeps, it never does,
// for people who have a password.
func (f function) loginPage(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	q := r.URL.Query()
	handle, local := q.Get("login"), q.Get("local") == "1"
	if handle == "" {
		return f.start(w, r, t, "", local)
	}
	u, err := f.underWay(r, t, handle)
	if err != nil {
		return err
	}
	o, err := f.offer(r, t, local)
	if err != nil {
		return err
	}
	if e, ok := o.automatic(); ok {
		goTo(w, ssoLink(t, handle, e.Alias))
		return nil
	}
	showLogin(w, t, u, o, u.asked.LoginHint, "", http.StatusOK)
	return nil
}

// login checks a name and a password. Whatever is wrong with them, and whoever they are of, the answer is the same.
func (f function) login(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := f.form(w, r, web.Cookie(r, loginCookie(t)), "login "+string(t), "login", "username", "password")
	if err != nil {
		return err
	}
	u, err := f.underWay(r, t, form["login"])
	if err != nil {
		return err
	}
	if form["password"] == "" {
		if answered, err := f.discover(w, r, t, u, form["username"]); answered || err != nil {
			return err
		}
	}
	known, err := f.knownDevice(r, t, form["username"])
	if err != nil {
		return err
	}
	person, err := f.Directory.Authenticate(r.Context(), actor(r, t), form["username"], form["password"], known)
	if err != nil {
		return f.refused(w, r, t, u, form["username"], err)
	}
	if person.MustChange() {
		if err := f.Sessions.MustChange(r.Context(), u.rec, person.Email, person.ID, person.Epoch); err != nil {
			return err
		}
		goTo(w, at(t, "/password?login="+u.handle))
		return nil
	}
	return f.finish(w, r, t, u.rec, person)
}

// refused shows the form again, if err is about what was typed into it.
func (f function) refused(w http.ResponseWriter, r *http.Request, t core.TenantID, u underWay, username string, err error) error {
	problem, status := "", http.StatusForbidden
	switch {
	case errors.Is(err, core.Unavailable):
		return err
	case errors.Is(err, directory.ErrExpired):
		problem = "Your temporary password has expired. Ask an administrator for another."
	case errors.Is(err, core.Throttled):
		problem, status = "Too many attempts. Wait a moment, then try again.", http.StatusTooManyRequests
		web.RetryAfter(w, err)
	case errors.Is(err, core.Unauthenticated):
		problem = "The e-mail or the password is wrong."
	default:
		return err
	}
	web.NoteError(r.Context(), err)
	return f.again(w, r, t, u, username, problem, status)
}

// front is the issuer's own address, which people type. Only its exact spelling leads on; without this route ServeMux would
// bring others to it.
func (f function) front(w http.ResponseWriter, _ *http.Request, t core.TenantID) error {
	goTo(w, at(t, "/"))
	return nil
}

// home is the page of a browser that is signed in, and came from no client.
func (f function) home(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	if c == nil {
		return f.start(w, r, t, "", false)
	}
	showHome(w, t, web.Cookie(r, sessionCookie(t)), *c)
	return nil
}
