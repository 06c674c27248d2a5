package login

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the style sheet
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/web"
)

// The pages are Go, not html/template: a template calls methods by names that only it knows, so the linker of a program that
// executes one keeps every exported method of every type, which is megabytes of the AWS SDK and of k8s.io/api. Text and
// attributes are escaped as they are written; core/forbidden_test.go sees to it that the style sheet is all that is not.

// style is the one style sheet. It stands in every page, and the policy allows it, and nothing else, by its hash.
//
//go:embed pages/style.css
var style string

// styleHash is computed for the first page: the binary is every function's, and most show none.
var styleHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
})

// view is what every page has, around its own.
type view struct {
	Tenant  core.TenantID // "" where none is known
	Title   string
	Problem string // what was wrong with what was typed; "": nothing
}

// document is a whole page.
func (v view) document(page ...g.Node) g.Node {
	title := v.Title + " · Fleetpass"
	if v.Tenant != "" {
		title = v.Title + " · " + string(v.Tenant) + " · Fleetpass"
	}
	if v.Problem != "" {
		title = "Error: " + title
	}
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("color-scheme"), h.Content("light dark")),
			h.Meta(h.Name("robots"), h.Content("noindex")),
			h.TitleEl(g.Text(title)),
			h.StyleEl(g.Raw(style)),
		),
		h.Body(
			h.Header(h.Span(h.Class("mark"), h.Aria("hidden", "true")), g.Text(" Fleetpass "),
				g.If(v.Tenant != "", h.Span(h.Class("tenant"), g.Text(string(v.Tenant))))),
			h.Main(
				h.H1(g.Text(v.Title)),
				g.If(v.Problem != "", h.Div(h.Class("error"), h.Role("alert"), h.ID("problem"),
					h.Strong(g.Text("There is a problem.")), g.Text(" "+v.Problem))),
				g.Group(page),
			),
		),
	))
}

// form is a form that posts to a page of the tenant. The token is the one that the page's handler checks.
func (v view) form(page, token string, fields ...g.Node) g.Node {
	return h.Form(h.Method("post"), h.Action(at(v.Tenant, page)), hidden("token", token), g.Group(fields))
}

// field is an input with its label. name is what it is posted as, and its id.
func field(name, label, kind, autocomplete string, more ...g.Node) g.Node {
	return g.Group{
		h.Label(h.For(name), g.Text(label)),
		h.Input(h.ID(name), h.Name(name), h.Type(kind), h.AutoComplete(autocomplete), g.Group(more)),
	}
}

func hidden(name, value string) g.Node {
	return h.Input(h.Type("hidden"), h.Name(name), h.Value(value))
}

func submit(text string, more ...g.Node) g.Node {
	return h.Button(h.Type("submit"), g.Group(more), g.Text(text))
}

// email is a field for the e-mail that somebody signs in with.
func email(label, value string, more ...g.Node) g.Node {
	return field("username", label, "email", "username", append(more, g.Attr("inputmode", "email"), g.Attr("autocapitalize", "none"),
		g.Attr("spellcheck", "false"), h.MaxLength("254"), h.Required(), h.Value(value), g.If(value == "", h.AutoFocus()))...)
}

// newPassword is the two fields in which a password is chosen.
func (v view) newPassword(label string, more ...g.Node) g.Node {
	rest := []g.Node{h.MinLength("8"), h.Required(), v.invalid()}
	return g.Group{
		field("new", label, "password", "new-password", append(more, rest...)...),
		field("repeat", label+" again", "password", "new-password", rest...),
	}
}

// invalid marks a field of a form in which something was wrong, and names the words that say what.
func (v view) invalid() g.Node {
	return g.If(v.Problem != "", g.Group{h.Aria("invalid", "true"), h.Aria("describedby", "problem")})
}

// render answers with a page. Its forms may lead to ourselves, and on to target: browsers apply the policy to where a
// posted form is redirected, too.
func render(w http.ResponseWriter, status int, target string, document g.Node) {
	var page bytes.Buffer
	if err := document.Render(&page); err != nil {
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
		return
	}
	web.Headers(w)
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; form-action 'self'"+formTarget(target)+
		"; base-uri 'none'; frame-ancestors 'none'")
	head.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the client went away; there is nobody to tell
}

// formTarget is a redirect URI as a source of the policy's form-action, with a space before it: its origin, or its scheme
// where the host is an IPv6 literal, for which the policy's grammar has no word.
func formTarget(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || strings.ContainsAny(uri, " ;,'\"") {
		return ""
	}
	if strings.Contains(u.Host, "[") {
		return " " + u.Scheme + ":"
	}
	return " " + u.Scheme + "://" + u.Host
}

func showLogin(w http.ResponseWriter, t core.TenantID, u underWay, username, problem string, status int) {
	v := view{t, "Sign in", problem}
	client := u.asked.Client.Name
	render(w, status, u.asked.RedirectURI, v.document(
		g.If(client != "", h.P(g.Text("to go on to "), h.Strong(g.Text(client)))),
		v.form("/login", web.FormToken(u.cookie, "login "+string(t)),
			hidden("login", u.handle),
			email("E-mail", username, v.invalid()),
			field("password", "Password", "password", "current-password", h.Required(), g.If(username != "", h.AutoFocus()), v.invalid()),
			submit("Sign in"),
		),
		h.P(h.Class("hint"), g.Text("Forgotten it? An administrator can give you a temporary password.")),
	))
}

func showPassword(w http.ResponseWriter, t core.TenantID, u underWay, problem string, status int) {
	v := view{t, "Choose a new password", problem}
	render(w, status, u.asked.RedirectURI, v.document(
		h.P(g.Text("Your password is temporary. Choose one that only you know: at least 8 characters; a few words make a good one.")),
		v.form("/password", web.FormToken(u.cookie, "password "+string(t)),
			hidden("login", u.handle),
			field("username", "E-mail", "email", "username", h.ReadOnly(), h.Value(string(u.rec.Value.Email))),
			v.newPassword("New password", h.AutoFocus()),
			submit("Save and go on"),
		),
	))
}

// showWelcome shows the form of the first administrator. secret is the welcome token that the link came with.
func showWelcome(w http.ResponseWriter, t core.TenantID, cookie, secret, username, problem string, status int) {
	v := view{t, "Become the first administrator", problem}
	render(w, status, "", v.document(
		h.P(g.Text("This link works once. Whoever uses it becomes the system administrator of "), h.Strong(g.Text(string(t))), g.Text(".")),
		v.form("/welcome", web.FormToken(cookie, "welcome "+string(t)),
			hidden("welcome", secret),
			email("Your e-mail", username, g.If(problem != "", h.Aria("describedby", "problem"))),
			v.newPassword("Password"),
			submit("Begin"),
		),
	))
}

// showHome shows to whom the browser is signed in. cookie is the session's.
func showHome(w http.ResponseWriter, t core.TenantID, cookie string, c session.Current) {
	v, since := view{Tenant: t, Title: "Signed in"}, c.AuthTime.UTC()
	render(w, http.StatusOK, "", v.document(
		h.P(g.Text("You are signed in to "), h.Strong(g.Text(c.Tenant.Name)), g.Text(" as "), h.Strong(g.Text(string(c.Email))), g.Text(", since "),
			h.Time(h.DateTime(since.Format(time.RFC3339)), g.Text(since.Format("2 January 2006, 15:04 UTC"))), g.Text(".")),
		h.P(g.Text("Use the command line to work with your clusters:")),
		h.Pre(h.Code(g.Text("fleetpass login\nfleetpass kubeconfig"))),
		v.form("/logout", web.FormToken(cookie, "logout "+string(t)), submit("Sign out", h.Class("quiet"))),
	))
}

// showLogout asks whether to sign out. The parameters that mean something go on with the answer.
func showLogout(w http.ResponseWriter, t core.TenantID, cookie string, e core.Email, p oauth.Params, plan oauth.Logout) {
	v := view{Tenant: t, Title: "Sign out?"}
	var carried g.Group
	for _, name := range logoutFields {
		if p[name] != "" {
			carried = append(carried, hidden(name, p[name]))
		}
	}
	render(w, http.StatusOK, plan.Return, v.document(
		h.P(g.Text("You are signed in as "), h.Strong(g.Text(string(e))), g.Text(".")),
		v.form("/logout", web.FormToken(cookie, "logout "+string(t)), carried, submit("Sign out", h.AutoFocus())),
		h.P(h.Class("hint"), h.A(h.Href(at(t, "/")), g.Text("Stay signed in"))),
	))
}

func showMessage(w http.ResponseWriter, status int, t core.TenantID, title, text string) {
	render(w, status, "", view{Tenant: t, Title: title}.document(h.P(g.Text(text))))
}

// showError takes a refusal to the client where OAuth says so, and shows everything else to the person.
func showError(w http.ResponseWriter, r *http.Request, err error) {
	web.NoteError(r.Context(), err)
	var refusal *oauth.Error
	if errors.As(err, &refusal) {
		if refusal.Redirect != "" {
			goTo(w, refusal.Redirect)
			return
		}
		showMessage(w, http.StatusBadRequest, "", "This link does not work",
			"The application sent a request that cannot be answered: "+refusal.Description+". Tell whoever runs the application.")
		return
	}
	status, kind := web.Status(err)
	switch kind {
	case core.NotFound:
		showMessage(w, status, "", "Not found", "There is no such page, or this sign-in is over. Start again at the application or the command line.")
	case core.Unavailable:
		w.Header().Set("Retry-After", "1")
		showMessage(w, status, "", "Just a moment", "The service does not answer right now. Try again shortly.")
	case core.Throttled:
		web.RetryAfter(w, err)
		showMessage(w, status, "", "Too many attempts", "Wait a moment, then try again.")
	case core.Unauthenticated:
		showMessage(w, http.StatusForbidden, "", "This does not hold any more", "The link or the form was used, has expired, or your account changed meanwhile. Start again.")
	case core.Denied, core.Invalid, core.TooLarge, core.Limit, core.Unsupported, core.Conflict, core.Exists:
		showMessage(w, status, "", "This did not work", err.Error())
	default:
		showMessage(w, status, "", "Something went wrong", "It went wrong on our side and has been logged. Quote "+string(web.RequestID(r.Context()))+" when you ask for help.")
	}
}
