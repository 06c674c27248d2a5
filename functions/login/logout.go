package login

import (
	"net/http"
	"net/url"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/web"
)

// logoutFields are the parameters of a logout request that mean something here (OpenID Connect RP-Initiated Logout 1.0
// §2). The page that asks for confirmation carries them on.
var logoutFields = []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"}

// logoutPage ends the session at once where an ID token of it proves that its client asks, and else asks the person.
func (f function) logoutPage(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	p, err := strict.Form(r.URL.RawQuery, maxForm)
	if err != nil {
		return err
	}
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	plan, err := f.OAuth.Logout(r.Context(), t, p, c)
	if err != nil {
		return err
	}
	if !plan.Confirm {
		return f.signOut(w, r, t, plan)
	}
	showLogout(w, t, web.Cookie(r, sessionCookie(t)), c.Email, p, plan)
	return nil
}

// logout ends the session that the person confirmed to end, which the form's token proves. An application may post its
// request here, too, from its own site (§2): it has no such token, nor does a cookie of ours travel with it, so the browser
// is sent to ask by GET.
func (f function) logout(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := web.Form(w, r, maxForm)
	if err != nil {
		return err
	}
	token, confirmed := form["token"]
	delete(form, "token")
	if !confirmed {
		q := url.Values{}
		for name, v := range form {
			q.Set(name, v)
		}
		goTo(w, at(t, "/logout?"+q.Encode()))
		return nil
	}
	cookie := web.Cookie(r, sessionCookie(t))
	if cookie == "" {
		return f.signOut(w, r, t, oauth.Logout{}) // signed out already, in another tab
	}
	if !web.CheckFormToken(cookie, "logout "+string(t), token) {
		return errStale
	}
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	plan, err := f.OAuth.Logout(r.Context(), t, form, c)
	if err != nil {
		return err
	}
	return f.signOut(w, r, t, plan)
}

func (f function) signOut(w http.ResponseWriter, r *http.Request, t core.TenantID, plan oauth.Logout) error {
	if err := f.Sessions.Close(r.Context(), actor(r, t), web.Cookie(r, sessionCookie(t))); err != nil {
		return err
	}
	web.DropCookie(w, sessionCookie(t))
	if plan.Return != "" {
		goTo(w, plan.Return)
		return nil
	}
	showMessage(w, http.StatusOK, t, "Signed out", "You are signed out of this browser. Programs that you signed in, such as the command line, stay signed in until you sign out there.")
	return nil
}
