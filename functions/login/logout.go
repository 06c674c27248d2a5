package login

import (
	"crypto/hmac"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
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
		return f.signOut(w, r, t, plan, c)
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
		return f.signOut(w, r, t, oauth.Logout{}, nil) // signed out already, in another tab
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
	return f.signOut(w, r, t, plan, c)
}

// signOut ends the session c (nil: none that holds), and then the one at the identity provider, if it is of a kind that can be
// asked to: the browser goes there and comes back to signedOut.
func (f function) signOut(w http.ResponseWriter, r *http.Request, t core.TenantID, plan oauth.Logout, c *session.Current) error {
	if err := f.Sessions.Close(r.Context(), actor(r, t), web.Cookie(r, sessionCookie(t))); err != nil {
		return err
	}
	web.DropCookie(w, sessionCookie(t))
	next := plan.Return
	if c != nil && c.Connection != "" {
		back := f.origin() + at(t, "/signed-out")
		away, err := f.SSO.Leaving(r.Context(), t, c.Upstream, back)
		if err != nil {
			web.NoteError(r.Context(), err) // the person is signed out here; that much holds
		}
		if away != "" {
			f.remember(w, r, t, next)
			showOnward(w, t, "your identity provider", away) // as in discover: a form of ours may not lead there
			return nil
		}
	}
	return f.end(w, r, t, next, c != nil && c.Connection != "")
}

// end is where signing out ends: where the client wants the browser, or the tenant, or a page of ours.
func (f function) end(w http.ResponseWriter, r *http.Request, t core.TenantID, next string, elsewhere bool) error {
	if next == "" {
		settings, _, err := f.SSO.Offer(r.Context(), t)
		if err != nil {
			return err
		}
		if settings.LogoutURI != "" {
			showOnward(w, t, "your organization", settings.LogoutURI)
			return nil
		}
	}
	if next != "" {
		goTo(w, next)
		return nil
	}
	text := "You are signed out of this browser. Programs that you signed in, such as the command line, stay signed in until you sign out there."
	if elsewhere {
		text += " Your organization's identity provider may still know you: there is no single logout. Sign out there too, or close the browser, if others use it."
	}
	page.Message(w, http.StatusOK, t, "Signed out", text)
	return nil
}

// returnLife is how long a browser may take at the identity provider that it signs out of.
const returnLife = 5 * time.Minute

// remember keeps where a browser goes once it is back from signing out at the identity provider. If there is no room for an
// address, or it cannot be authenticated, signing out there comes first: the browser ends at a page of ours.
func (f function) remember(w http.ResponseWriter, r *http.Request, t core.TenantID, next string) {
	value := ""
	if next != "" {
		mac, err := f.Ring.MAC(r.Context(), t, "return", []byte(next))
		if err != nil {
			web.NoteError(r.Context(), err)
		} else {
			value = base64.RawURLEncoding.EncodeToString(mac) + "." + base64.RawURLEncoding.EncodeToString([]byte(next))
		}
	}
	if value == "" || len(value) > web.MaxAddressCookie {
		web.DropCookie(w, returnCookie(t))
		return
	}
	web.SetCookie(w, returnCookie(t), value, returnLife)
}

// signedOut is where an identity provider sends a browser back to that signed out there.
func (f function) signedOut(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	tag, packed, _ := strings.Cut(web.AddressCookie(r, returnCookie(t)), ".")
	web.DropCookie(w, returnCookie(t))
	next, err := base64.RawURLEncoding.DecodeString(packed)
	if err != nil || packed == "" {
		return f.end(w, r, t, "", false)
	}
	mac, err := f.Ring.MAC(r.Context(), t, "return", next)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(tag), []byte(base64.RawURLEncoding.EncodeToString(mac))) {
		next = nil // no address that we gave
	}
	return f.end(w, r, t, string(next), false)
}
