package login

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// email is a field for the e-mail that somebody signs in with.
func email(label, value string, more ...g.Node) g.Node {
	return page.Field("username", label, "email", "username", append(more, g.Attr("inputmode", "email"), g.Attr("autocapitalize", "none"),
		g.Attr("spellcheck", "false"), h.MaxLength("254"), h.Required(), h.Value(value), g.If(value == "", h.AutoFocus()))...)
}

// newPassword is the two fields in which a password is chosen.
func newPassword(v page.View, label string, more ...g.Node) g.Node {
	rest := []g.Node{h.MinLength("8"), h.Required(), v.Invalid()}
	return g.Group{
		page.Field("new", label, "password", "new-password", append(more, rest...)...),
		page.Field("repeat", label+" again", "password", "new-password", rest...),
	}
}

// showLogin shows what the tenant offers: the identity providers to choose from, and the form for people with a password. With
// identity providers, the form takes an e-mail without a password, too: it leads to whichever owns its domain.
func showLogin(w http.ResponseWriter, t core.TenantID, u underWay, o offer, username, problem string, status int) {
	v := page.View{Tenant: t, Title: "Sign in", Problem: problem}
	client := u.asked.Client.Name
	some := len(o.entries) > 0
	var providers g.Group
	for _, e := range o.entries {
		providers = append(providers, h.P(h.A(h.Class("button"), h.Href(ssoLink(t, u.handle, e.Alias)), g.Text("Continue with "+e.Name))))
	}
	password := g.If(!o.enforced || o.local,
		page.Field("password", "Password", "password", "current-password", g.If(!some, h.Required()), g.If(username != "", h.AutoFocus()), v.Invalid()))
	hint := "Forgotten it? An administrator can give you a temporary password."
	switch {
	case some && o.enforced && !o.local:
		hint = "Your organization signs in at its identity provider."
	case some:
		hint = "Leave the password empty to sign in at your organization's identity provider. " + hint
	}
	page.Render(w, status, u.asked.RedirectURI, v.Document(
		g.If(client != "", h.P(g.Text("to go on to "), h.Strong(g.Text(client)))),
		providers,
		v.Form("/login", web.FormToken(u.cookie, "login "+string(t)),
			page.Hidden("login", u.handle),
			email("E-mail", username, v.Invalid()),
			password,
			page.Submit("Sign in"),
		),
		h.P(h.Class("hint"), g.Text(hint)),
		g.If(some && !o.local && (o.enforced || o.goes != ""),
			h.P(h.Class("hint"), h.A(h.Href(at(t, "/login?local=1&login="+u.handle)), g.Text("Sign in with a local account")))),
	))
}

func showPassword(w http.ResponseWriter, t core.TenantID, u underWay, problem string, status int) {
	v := page.View{Tenant: t, Title: "Choose a new password", Problem: problem}
	page.Render(w, status, u.asked.RedirectURI, v.Document(
		h.P(g.Text("Your password is temporary. Choose one that only you know: at least 8 characters; a few words make a good one.")),
		v.Form("/password", web.FormToken(u.cookie, "password "+string(t)),
			page.Hidden("login", u.handle),
			page.Field("username", "E-mail", "email", "username", h.ReadOnly(), h.Value(string(u.rec.Value.Email))),
			newPassword(v, "New password", h.AutoFocus()),
			page.Submit("Save and go on"),
		),
	))
}

// showWelcome shows the form of the first administrator. secret is the welcome token that the link came with.
func showWelcome(w http.ResponseWriter, t core.TenantID, cookie, secret, username, problem string, status int) {
	v := page.View{Tenant: t, Title: "Become the first administrator", Problem: problem}
	page.Render(w, status, "", v.Document(
		h.P(g.Text("This link works once. Whoever uses it becomes the system administrator of "), h.Strong(g.Text(string(t))), g.Text(".")),
		v.Form("/welcome", web.FormToken(cookie, "welcome "+string(t)),
			page.Hidden("welcome", secret),
			email("Your e-mail", username, g.If(problem != "", h.Aria("describedby", "problem"))),
			newPassword(v, "Password"),
			page.Submit("Begin"),
		),
	))
}

// showHome shows to whom the browser is signed in. cookie is the session's.
func showHome(w http.ResponseWriter, t core.TenantID, cookie string, c session.Current) {
	v, since := page.View{Tenant: t, Title: "Signed in"}, c.AuthTime.UTC()
	if since.IsZero() { // the identity provider does not say when it was proved
		since = c.StartedAt.UTC()
	}
	page.Render(w, http.StatusOK, "", v.Document(
		h.P(g.Text("You are signed in to "), h.Strong(g.Text(c.Tenant.Name)), g.Text(" as "), h.Strong(g.Text(string(c.Email))), g.Text(", since "),
			h.Time(h.DateTime(since.Format(time.RFC3339)), g.Text(since.Format("2 January 2006, 15:04 UTC"))), g.Text(".")),
		h.P(g.Text("Use the command line to work with your clusters:")),
		h.Pre(h.Code(g.Text("fleetpass login\nfleetpass kubeconfig"))),
		v.Form("/logout", web.FormToken(cookie, "logout "+string(t)), page.Submit("Sign out", h.Class("quiet"))),
	))
}

// showLogout asks whether to sign out. The parameters that mean something go on with the answer.
func showLogout(w http.ResponseWriter, t core.TenantID, cookie string, e core.Email, p oauth.Params, plan oauth.Logout) {
	v := page.View{Tenant: t, Title: "Sign out?"}
	var carried g.Group
	for _, name := range logoutFields {
		if p[name] != "" {
			carried = append(carried, page.Hidden(name, p[name]))
		}
	}
	page.Render(w, http.StatusOK, plan.Return, v.Document(
		h.P(g.Text("You are signed in as "), h.Strong(g.Text(string(e))), g.Text(".")),
		v.Form("/logout", web.FormToken(cookie, "logout "+string(t)), carried, page.Submit("Sign out", h.AutoFocus())),
		h.P(h.Class("hint"), h.A(h.Href(at(t, "/")), g.Text("Stay signed in"))),
	))
}

// showError takes a refusal to the client where OAuth says so, and shows everything else to the person, with what is given
// beside.
func showError(w http.ResponseWriter, r *http.Request, err error, more ...g.Node) {
	web.NoteError(r.Context(), err)
	var refusal *oauth.Error
	if errors.As(err, &refusal) {
		if refusal.Redirect != "" {
			goTo(w, refusal.Redirect)
			return
		}
		page.Message(w, http.StatusBadRequest, "", "This link does not work",
			"The application sent a request that cannot be answered: "+refusal.Description+". Tell whoever runs the application.")
		return
	}
	page.Fail(w, r, err, more...)
}

// showOnward sends the browser on from a page, for what a form's policy would not let it be redirected to.
func showOnward(w http.ResponseWriter, t core.TenantID, name, link string) {
	v := page.View{Tenant: t, Title: "To " + name, Onward: link}
	page.Render(w, http.StatusOK, "", v.Document(h.P(h.A(h.Class("button"), h.Href(link), g.Text("Continue with "+name)))))
}

// showPost has the browser post to an identity provider: by itself where scripts run, else by its button.
func showPost(w http.ResponseWriter, t core.TenantID, d sso.Departure) {
	page.Post(w, page.View{Tenant: t, Title: "To your identity provider"}, d.URL, d.Form)
}

// showArrival asks whether somebody wants to be signed in whom an identity provider sent without being asked.
func showArrival(w http.ResponseWriter, t core.TenantID, cookie, handle string, a sso.Arrived) {
	v := page.View{Tenant: t, Title: "Sign in?"}
	page.Render(w, http.StatusOK, "", v.Document(
		h.P(g.Text(a.Name+" sent you here as "), h.Strong(g.Text(string(a.Email))), g.Text(". Go on only if that is you.")),
		v.Form("/sso/finish", web.FormToken(cookie, "arrive "+string(t)), page.Hidden("answer", handle), page.Submit("Continue as "+string(a.Email))),
		h.P(h.Class("hint"), h.A(h.Href(at(t, "/login")), g.Text("Sign in as somebody else"))),
	))
}

// marks are how results look.
var marks = map[sso.Result]string{sso.Passed: "✓", sso.Failed: "✗", sso.Noted: "!"}

// showTest shows what a test found.
func showTest(w http.ResponseWriter, t core.TenantID, tr sso.Trace) {
	v := page.View{Tenant: t, Title: "The test succeeded"}
	if tr.Outcome == sso.Refused {
		v.Title = "The test found a fault"
	}
	var rows g.Group
	for _, c := range tr.Checks {
		rows = append(rows, h.Tr(h.Td(g.Text(marks[c.Result])), h.Td(g.Text(string(c.Name))), h.Td(g.Text(c.Found)), h.Td(g.Text(c.Fix))))
	}
	var who g.Group
	if tr.Identity != nil {
		for _, line := range described(*tr.Identity) {
			who = append(who, h.Dt(g.Text(line[0])), h.Dd(g.Text(line[1])))
		}
	}
	page.Render(w, http.StatusOK, "", v.Document(
		h.P(g.Text("Nothing was changed, and nobody was signed in. This is what "+string(tr.Alias)+" said, and what it would mean here.")),
		h.Dl(who),
		h.Table(h.THead(h.Tr(h.Th(), h.Th(g.Text("Check")), h.Th(g.Text("Found")), h.Th(g.Text("What to do")))), h.TBody(rows)),
		h.P(h.Class("hint"), g.Text("Trace "+tr.ID+" has all of it, for a week.")),
	))
}

// described is an identity in lines for people.
func described(i sso.Identity) [][2]string {
	id := func(n *int64) string {
		if n == nil {
			return "not sent"
		}
		return strconv.FormatInt(*n, 10)
	}
	return [][2]string{
		{"E-mail", string(i.Email)}, {"First name", i.FirstName}, {"Last name", i.LastName}, {"Groups", join(i.Groups)},
		{"UID", id(i.UID)}, {"GID", id(i.GID)}, {"Supplementary groups", join(i.SupplementaryGroups)},
	}
}

func join[T any](list []T) string {
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}
