// Package login is the function that browsers visit: the authorization endpoint, the pages on which local users sign in,
// choose a password and sign out, and the welcome page of a tenant's first administrator. The pages work without script.
// Whatever authenticates with a cookie here is refused when another site sends it, and its form carries a token of ours.
package login

import (
	"cmp"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// Deps is what the function needs. All fields but BrowserBase are needed.
type Deps struct {
	OAuth       *oauth.Server
	Sessions    *session.Service
	Directory   *directory.Service
	Ring        *keys.Ring
	SSO         *sso.Service
	Appoint     directory.Appoint // makes the first administrator: access.Service.FirstAdministrator
	Base        string            // the origin of issuers
	BrowserBase string            // the origin at which browsers reach the pages, if it is not Base, or a proxy changes the Host; optional
}

// Paths are the patterns that the function serves.
var Paths = []string{
	"GET /t/{tenant}",
	"GET /t/{tenant}/{$}",
	"GET /t/{tenant}/authorize",
	"POST /t/{tenant}/authorize",
	"GET /t/{tenant}/login",
	"POST /t/{tenant}/login",
	"GET /t/{tenant}/password",
	"POST /t/{tenant}/password",
	"GET /t/{tenant}/welcome",
	"POST /t/{tenant}/welcome",
	"GET /t/{tenant}/logout",
	"POST /t/{tenant}/logout",
	"GET /t/{tenant}/signed-out",
	"GET /t/{tenant}/sso",
	"GET /t/{tenant}/sso/test",
	"GET /t/{tenant}/sso/finish",
	"POST /t/{tenant}/sso/finish",
	"GET /t/{tenant}/device",
	"POST /t/{tenant}/device",
}

// maxForm bounds a form, in bytes.
const maxForm = 32 << 10

type function struct{ Deps }

// handler is a page that knows its tenant and leaves failures to one place.
type handler func(w http.ResponseWriter, r *http.Request, t core.TenantID) error

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	f := function{d}
	pages := []handler{f.front, f.home, f.authorize, nil, f.loginPage, f.login, f.passwordPage, f.password, f.welcomePage, f.welcome, f.logoutPage, nil,
		f.signedOut, once(orElse(f.ssoStart)), once(f.ssoTest), once(orElse(f.ssoFinish)), orElse(f.ssoConfirm), f.devicePage, f.decideDevice}
	mux := http.NewServeMux()
	var own []string
	if d.BrowserBase != "" {
		own = append(own, d.BrowserBase)
	}
	for i, p := range pages {
		if p != nil {
			mux.Handle(Paths[i], web.SameOrigin(f.serve(p), own...))
		}
	}
	// An application may post these from its own site (OpenID Connect Core §3.1.2.1, RP-Initiated Logout 1.0 §2). No
	// cookie travels with that, and it changes nothing: it becomes the same request by GET.
	mux.Handle(Paths[3], f.serve(f.authorizeByPost))
	mux.Handle(Paths[11], f.serve(f.logout))
	return web.Exact(mux)
}

// serve frames a page. A tenant that is absent or suspended has none: nothing may be written for it, nor asked in its name.
func (f function) serve(p handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := web.Tenant(r)
		if err == nil {
			err = f.Sessions.TenantActive(r.Context(), t)
		}
		if err == nil {
			err = p(w, r, t)
		}
		if err != nil {
			showError(w, r, err)
		}
	})
}

// The names of the cookies. A tenant's name has no dot, so no tenant's session can be another cookie of ours.
func sessionCookie(t core.TenantID) string { return string(t) }
func loginCookie(t core.TenantID) string   { return "login." + string(t) }
func deviceCookie(t core.TenantID) string  { return "device." + string(t) }
func returnCookie(t core.TenantID) string  { return "return." + string(t) }

// at is the address of a page: relative to the host, since the same pages may be reached at several.
func at(t core.TenantID, page string) string { return "/t/" + string(t) + page }

// origin is where browsers reach the pages.
func (f function) origin() string { return cmp.Or(f.BrowserBase, f.Base) }

// goTo sends the browser on with a 303, which never repeats a POST with its password (RFC 9700 §4.12).
func goTo(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

func actor(r *http.Request, t core.TenantID) core.Actor { return web.Actor(r, t) }

// current is the browser's session; nil if it has none that holds.
func (f function) current(r *http.Request, t core.TenantID) (*session.Current, error) {
	c, err := f.Sessions.Check(r.Context(), t, web.Cookie(r, sessionCookie(t)))
	if errors.Is(err, core.Unauthenticated) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &c, nil
}

// authorize is the authorization endpoint (RFC 6749 §3.1).
func (f function) authorize(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	req, err := f.OAuth.Authorize(r.Context(), t, r.URL.RawQuery)
	if err != nil {
		return err
	}
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	settled, err := f.OAuth.Settled(req, c)
	if err != nil {
		return err
	}
	if !settled {
		return f.start(w, r, t, r.URL.RawQuery, false)
	}
	location, err := f.OAuth.Answer(r.Context(), req, *c)
	if err != nil {
		return err
	}
	goTo(w, location)
	return nil
}

func (f function) authorizeByPost(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := web.Body(w, r, "application/x-www-form-urlencoded", 8<<10)
	if err != nil {
		return err
	}
	q, err := url.ParseQuery(string(form))
	if err != nil {
		return core.BadField("body", "is not a form")
	}
	goTo(w, at(t, "/authorize?"+q.Encode()))
	return nil
}

// start parks a sign-in and sends the browser to its page; local says that it is by somebody who has a password.
func (f function) start(w http.ResponseWriter, r *http.Request, t core.TenantID, query string, local bool) error {
	handle, cookie, err := f.Sessions.StartLogin(r.Context(), actor(r, t), web.Cookie(r, loginCookie(t)), query)
	if err != nil {
		return err
	}
	web.SetCookie(w, loginCookie(t), cookie, session.LoginLife)
	page := at(t, "/login?login="+handle)
	if local {
		page += "&local=1"
	}
	goTo(w, page)
	return nil
}

// finish ends a sign-in for the person who proved with a password who they are: it opens the session and sends the browser to
// where the sign-in was for. What needs a key comes first, since a key that cannot be read must not use the sign-in up.
func (f function) finish(w http.ResponseWriter, r *http.Request, t core.TenantID, login store.Record[session.Login], person directory.User) error {
	device, err := f.device(r.Context(), t, person.Email)
	if err != nil {
		return err
	}
	done, err := f.OAuth.Finish(r.Context(), actor(r, t), login, session.Proof{User: person, At: f.Sessions.Now(), Methods: methods})
	if err != nil {
		return err
	}
	web.SetCookie(w, deviceCookie(t), device, 180*24*time.Hour)
	return f.signedIn(w, r, t, done)
}

// signedIn gives the browser its session. Whatever session it had before ends: it has another id now, and nobody who knew
// the old one shares it.
func (f function) signedIn(w http.ResponseWriter, r *http.Request, t core.TenantID, done oauth.Finished) error {
	if old := web.Cookie(r, sessionCookie(t)); old != "" {
		if err := f.Sessions.Close(r.Context(), actor(r, t), old); err != nil {
			return err
		}
	}
	web.SetCookie(w, sessionCookie(t), done.Cookie, 0)
	if done.Location == "" {
		done.Location = at(t, "/")
	}
	goTo(w, done.Location)
	return nil
}

// device is what a browser keeps after a sign-in, so that a stranger who tries passwords from elsewhere cannot make the
// person wait on their own device.
func (f function) device(ctx context.Context, t core.TenantID, email core.Email) (string, error) {
	mac, err := f.Ring.MAC(ctx, t, "known-device", []byte(email))
	return base64.RawURLEncoding.EncodeToString(mac), err
}

// knownDevice says whether the person of that name signed in on this browser before. A name that is none never did.
func (f function) knownDevice(r *http.Request, t core.TenantID, name string) (bool, error) {
	got := web.Cookie(r, deviceCookie(t))
	email, err := core.ParseEmail("username", name)
	if err != nil || got == "" {
		return false, nil
	}
	want, err := f.device(r.Context(), t, email)
	return err == nil && hmac.Equal([]byte(got), []byte(want)), err
}

// errStale answers a form that no page of ours made for the browser that sends it.
var errStale = fmt.Errorf("this form is stale or was not made for this browser; go back, reload the page and try again: %w", core.Denied)

// form reads a posted form and checks that a page of ours made it, for the browser that sends it.
func (f function) form(w http.ResponseWriter, r *http.Request, cookie, purpose string, known ...string) (map[string]string, error) {
	form, err := web.Form(w, r, maxForm, append(known, "token")...)
	if err != nil {
		return nil, err
	}
	if !web.CheckFormToken(cookie, purpose, form["token"]) {
		return nil, errStale
	}
	return form, nil
}
