package login

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// offer is what the login page has for a browser.
type offer struct {
	entries  []sso.Entry // to choose from
	catalog  sso.Catalog
	goes     sso.Alias // where it goes by itself; empty: nowhere
	enforced bool      // passwords are for few
	local    bool      // the person wants to use a password
}

func (f function) offer(r *http.Request, t core.TenantID, local bool) (offer, error) {
	settings, all, err := f.SSO.Offer(r.Context(), t)
	if err != nil {
		return offer{}, err
	}
	return offer{all.Offered(), all, sso.Alias(settings.AutoRedirect), settings.EnforceSSO, local}, nil
}

// automatic is the connection that the tenant's login page goes to by itself.
func (o offer) automatic() (sso.Entry, bool) {
	for _, e := range o.entries {
		if !o.local && e.Alias == o.goes {
			return e, true
		}
	}
	return sso.Entry{}, false
}

// ssoLink is where a sign-in goes to a connection. The alias is a choice that the page offers; what is signed in by it is the
// connection's own people alone, so that a link which somebody else made up leads at most to a wrong door.
func ssoLink(t core.TenantID, handle string, a sso.Alias) string {
	return at(t, "/sso?"+url.Values{"login": {handle}, "idp": {string(a)}}.Encode())
}

// again shows the login page of a sign-in once more.
func (f function) again(w http.ResponseWriter, r *http.Request, t core.TenantID, u underWay, username, problem string, status int) error {
	o, err := f.offer(r, t, true) // it was a password that they tried
	if err != nil {
		return err
	}
	showLogin(w, t, u, o, username, problem, status)
	return nil
}

// discover leads whoever gave an e-mail and no password to the connection that owns its domain, if the tenant has connections.
// It goes by the domain alone: whether there is such a person, the provider says. The browser goes on from a page, not by a
// redirect of the form: the policy of the page that has the form would have to name every address that providers redirect to.
func (f function) discover(w http.ResponseWriter, r *http.Request, t core.TenantID, u underWay, username string) (answered bool, err error) {
	o, err := f.offer(r, t, false)
	if err != nil || len(o.entries) == 0 {
		return false, err
	}
	again := func(problem string) (bool, error) {
		showLogin(w, t, u, o, username, problem, http.StatusUnprocessableEntity)
		return true, nil
	}
	e, err := core.ParseEmail("e-mail", username)
	if fix, bad := fixOf(err); bad {
		return again("The e-mail " + fix + ".")
	}
	entry, found := o.catalog.For(e)
	if !found {
		return again("Enter your password: no identity provider is connected for this e-mail's domain.")
	}
	showOnward(w, t, entry.Name, ssoLink(t, u.handle, entry.Alias))
	return true, nil
}

// once is for pages whose GET uses something up: HEAD does not.
func once(p handler) handler {
	return func(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
		if r.Method == http.MethodHead {
			page.Head(w)
			return nil
		}
		return p(w, r, t)
	}
}

// orElse has a step of a sign-in at a provider that fails end with what the person can do instead. Unless the sign-in is
// over, whoever has a password goes on with it: the client that it is for still waits.
func orElse(p handler) handler {
	return func(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
		if err := p(w, r, t); err != nil {
			login := r.URL.Query().Get("login")
			if errors.Is(err, core.NotFound) {
				login = ""
			}
			showError(w, r, err, page.Instead(t, login))
		}
		return nil
	}
}

// ssoStart takes a sign-in to an identity provider. Pressed twice, it does so twice: the count of the tries is read again.
func (f function) ssoStart(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	q := r.URL.Query()
	var d sso.Departure
	err := store.Retry(r.Context(), func() error {
		u, err := f.underWay(r, t, q.Get("login"))
		if err != nil {
			return err
		}
		fresh := u.asked.Client.ID != "" && u.asked.Anew()
		d, err = f.SSO.Start(r.Context(), actor(r, t), sso.Alias(q.Get("idp")), u.rec, u.cookie, fresh, u.asked.LoginHint)
		return err
	})
	if err != nil {
		return err
	}
	depart(w, t, d)
	return nil
}

// ssoTest takes the browser that opened the link of a test to the identity provider.
func (f function) ssoTest(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	cookie := session.LoginCookie(web.Cookie(r, loginCookie(t)))
	d, err := f.SSO.VisitTest(r.Context(), actor(r, t), r.URL.Query().Get("test"), cookie)
	if err != nil {
		return err
	}
	web.SetCookie(w, loginCookie(t), cookie, session.LoginLife)
	depart(w, t, d)
	return nil
}

func depart(w http.ResponseWriter, t core.TenantID, d sso.Departure) {
	if d.Form == nil {
		goTo(w, d.URL)
		return
	}
	showPost(w, t, d)
}

// ssoFinish ends a sign-in that an identity provider vouched for, in the browser that began it.
func (f function) ssoFinish(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	return f.arrive(w, r, t, r.URL.Query().Get("answer"), false)
}

// ssoConfirm is ssoFinish once the person said that they want what the provider began.
func (f function) ssoConfirm(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := f.form(w, r, web.Cookie(r, loginCookie(t)), "arrive "+string(t), "answer")
	if err != nil {
		return err
	}
	return f.arrive(w, r, t, form["answer"], true)
}

func (f function) arrive(w http.ResponseWriter, r *http.Request, t core.TenantID, handle string, confirmed bool) error {
	cookie := web.Cookie(r, loginCookie(t))
	var a sso.Arrived
	var done oauth.Finished
	err := store.Retry(r.Context(), func() (err error) {
		if a, err = f.SSO.Arrive(r.Context(), actor(r, t), handle, cookie); err != nil || a.Test != nil || a.Unasked && !confirmed {
			return err
		}
		done, err = f.OAuth.Finish(r.Context(), actor(r, t), a.Login, a.Proof, a.Ops...)
		return err
	})
	switch {
	case err != nil:
		return err
	case a.Test != nil:
		showTest(w, t, *a.Test)
		return nil
	case a.Unasked && !confirmed:
		cookie = session.LoginCookie(cookie)
		web.SetCookie(w, loginCookie(t), cookie, session.LoginLife)
		showArrival(w, t, cookie, handle, a)
		return nil
	}
	return f.signedIn(w, r, t, done)
}
