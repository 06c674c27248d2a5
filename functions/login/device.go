package login

import (
	"errors"
	"net/http"
	"net/url"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// devicePage is where somebody approves a device that has no browser (RFC 8628 §3.3): it asks for the code that the device
// shows, then whether the device is theirs. Whoever is not signed in signs in first. A link that brings the code along saves
// typing it, and nothing else: it is looked up when the person sends the form, so that no other site can use up their guesses,
// and the question is asked all the same, since the link may have come from a stranger (§5.4).
func (f function) devicePage(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	typed := r.URL.Query().Get("user_code")
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	if c == nil {
		return f.startForDevice(w, r, t, typed)
	}
	code, _ := oauth.ParseUserCode(typed)
	showDeviceCode(w, t, web.Cookie(r, sessionCookie(t)), *c, code, "", http.StatusOK)
	return nil
}

// startForDevice has somebody sign in who goes on to the page of a device.
func (f function) startForDevice(w http.ResponseWriter, r *http.Request, t core.TenantID, typed string) error {
	next := at(t, "/device")
	if code, ok := oauth.ParseUserCode(typed); ok {
		next += "?" + url.Values{"user_code": {code}}.Encode()
	}
	handle, cookie, err := f.Sessions.StartLoginFor(r.Context(), actor(r, t), web.Cookie(r, loginCookie(t)), next)
	if err != nil {
		return err
	}
	web.SetCookie(w, loginCookie(t), cookie, session.LoginLife)
	goTo(w, at(t, "/login?login="+handle))
	return nil
}

func (f function) askAboutDevice(w http.ResponseWriter, r *http.Request, t core.TenantID, c session.Current, typed string) error {
	cookie := web.Cookie(r, sessionCookie(t))
	d, err := f.OAuth.Device(r.Context(), c, typed)
	switch {
	case errors.Is(err, core.Throttled):
		web.RetryAfter(w, err)
		showDeviceCode(w, t, cookie, c, "", "Too many wrong codes. Wait some minutes, then try again.", http.StatusTooManyRequests)
	case errors.Is(err, core.NotFound):
		web.NoteError(r.Context(), err)
		showDeviceCode(w, t, cookie, c, "", "No device waits with this code. Compare it with what the device shows; after ten minutes a code is over.", http.StatusNotFound)
	case err != nil:
		return err
	default:
		showDevice(w, t, cookie, c, d)
	}
	return nil
}

// decideDevice takes what the person says: a code, or whether the device is theirs.
func (f function) decideDevice(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := f.form(w, r, web.Cookie(r, sessionCookie(t)), "device "+string(t), "user_code", "answer")
	if err != nil {
		return err
	}
	c, err := f.current(r, t)
	if err != nil {
		return err
	}
	if c == nil {
		return f.startForDevice(w, r, t, form["user_code"])
	}
	switch form["answer"] {
	case "":
		return f.askAboutDevice(w, r, t, *c, form["user_code"])
	case "approve", "refuse":
	default:
		return core.BadField("answer", "must be approve or refuse")
	}
	d, err := f.OAuth.Device(r.Context(), *c, form["user_code"])
	if err == nil {
		err = f.OAuth.DecideDevice(r.Context(), actor(r, t), *c, web.Cookie(r, sessionCookie(t)), d, form["answer"] == "approve")
	}
	if errors.Is(err, core.NotFound) {
		web.NoteError(r.Context(), err)
		page.Message(w, http.StatusNotFound, t, "This device does not wait any more", "Its code was used, or ten minutes have passed. Begin again on the device.")
		return nil
	}
	if err != nil {
		return err
	}
	if form["answer"] == "approve" {
		page.Message(w, http.StatusOK, t, "The device is signed in", "Go back to it. You can close this page.")
		return nil
	}
	page.Message(w, http.StatusOK, t, "The device was refused", "Nothing was signed in. If you did not ask for this, somebody may have wanted to sign in as you: tell your administrator.")
	return nil
}

// showDeviceCode asks for the code that a device shows. cookie is the session's.
func showDeviceCode(w http.ResponseWriter, t core.TenantID, cookie string, c session.Current, code, problem string, status int) {
	v := page.View{Tenant: t, Title: "Sign in on a device", Problem: problem}
	page.Render(w, status, "", v.Document(
		h.P(g.Text("You are signed in as "), h.Strong(g.Text(string(c.Email))), g.Text(". Type the code that the device shows, or compare it.")),
		v.Form("/device", web.FormToken(cookie, "device "+string(t)),
			page.Field("user_code", "Code", "text", "off", h.Required(), g.If(code == "", h.AutoFocus()), h.Value(code), h.MaxLength("20"), h.Placeholder("XXXX-XXXX"),
				g.Attr("autocapitalize", "characters"), g.Attr("spellcheck", "false"), v.Invalid()),
			page.Submit("Continue"),
		),
	))
}

// showDevice asks whether a device is the person's own. Approving is never one key press away.
func showDevice(w http.ResponseWriter, t core.TenantID, cookie string, c session.Current, d oauth.WaitingDevice) {
	v := page.View{Tenant: t, Title: "Is this your device?"}
	page.Render(w, http.StatusOK, "", v.Document(
		h.P(g.Text("A device wants to be signed in to "), h.Strong(g.Text(c.Tenant.Name)), g.Text(" as "), h.Strong(g.Text(string(c.Email))), g.Text(".")),
		h.Dl(
			h.Dt(g.Text("Code")), h.Dd(h.Strong(g.Text(d.UserCode))),
			h.Dt(g.Text("Program")), h.Dd(g.Text(d.Client)),
			h.Dt(g.Text("Address")), h.Dd(g.Text(d.Address)),
			h.Dt(g.Text("Since")), h.Dd(g.Text(d.StartedAt.UTC().Format("2 January 2006, 15:04:05 UTC"))),
		),
		h.P(g.Text("Go on only if you began this yourself, just now, and the device shows the same code. Whoever sent you this page would be signed in as you.")),
		v.Form("/device", web.FormToken(cookie, "device "+string(t)),
			page.Hidden("user_code", d.UserCode),
			page.Submit("Yes, sign it in", h.Name("answer"), h.Value("approve")),
			page.Submit("No", h.Name("answer"), h.Value("refuse"), h.Class("quiet")),
		),
	))
}
