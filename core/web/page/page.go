// Package page makes the pages that people see: one document, its forms, and the policy under which browsers show it. What is
// on a page is its function's affair.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the style sheet
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/web"
)

// The pages are Go, not html/template: a template calls methods by names that only it knows, so the linker of a program that
// executes one keeps every exported method of every type, which is megabytes of the AWS SDK and of k8s.io/api. Text and
// attributes are escaped as they are written; core/forbidden_test.go sees to it that the style sheet is all that is not.

// style is the one style sheet. It stands in every page, and the policy allows it, and nothing else, by its hash.
//
//go:embed style.css
var style string

// styleHash is computed for the first page: the binary is every function's, and most show none.
var styleHash = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
})

// View is what every page has, around its own.
type View struct {
	Tenant  core.TenantID // "" where none is known
	Title   string
	Problem string // what was wrong with what was typed; "": nothing
	Onward  string // where the browser goes on to by itself, here or elsewhere: a path, or an http or https address; "": it stays
}

// Document is a whole page.
func (v View) Document(page ...g.Node) g.Node {
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
			g.If(leads(v.Onward), h.Meta(g.Attr("http-equiv", "refresh"), h.Content("0;url="+v.Onward))),
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

// leads says whether a browser that reads an address out of a refresh goes there, and nowhere else. What stands behind "url="
// is the address to its end, semicolons and all, unless it begins with a quote (HTML, "shared declarative refresh steps"). An
// address that begins with anything but our own path or a scheme of the web is shown for the person to follow, or not at all.
func leads(address string) bool {
	u, err := url.Parse(address) // which takes no control character
	switch {
	case err != nil || strings.Contains(address, "\\"): // browsers read it as a slash
		return false
	case u.Scheme == "":
		return strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//")
	}
	return u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// Form is a form that posts to a page of the tenant. The token is the one that the page's handler checks.
func (v View) Form(page, token string, fields ...g.Node) g.Node {
	return h.Form(h.Method("post"), h.Action("/t/"+string(v.Tenant)+page), Hidden("token", token), g.Group(fields))
}

// Field is an input with its label. name is what it is posted as, and its id.
func Field(name, label, kind, autocomplete string, more ...g.Node) g.Node {
	return g.Group{
		h.Label(h.For(name), g.Text(label)),
		h.Input(h.ID(name), h.Name(name), h.Type(kind), h.AutoComplete(autocomplete), g.Group(more)),
	}
}

// Hidden is a field that nobody sees.
func Hidden(name, value string) g.Node {
	return h.Input(h.Type("hidden"), h.Name(name), h.Value(value))
}

// Submit is the button that sends a form.
func Submit(text string, more ...g.Node) g.Node {
	return h.Button(h.Type("submit"), g.Group(more), g.Text(text))
}

// Invalid marks a field of a form in which something was wrong, and names the words that say what.
func (v View) Invalid() g.Node {
	return g.If(v.Problem != "", g.Group{h.Aria("invalid", "true"), h.Aria("describedby", "problem")})
}

// Render answers with a page. Its forms may lead to ourselves, and on to target: browsers apply the policy to where a
// posted form is redirected, too.
func Render(w http.ResponseWriter, status int, target string, document g.Node) {
	answer(w, status, formTarget(target), "", document)
}

// answer writes the page under its policy: what forms may lead to beside ourselves, and more directives.
func answer(w http.ResponseWriter, status int, targets, more string, document g.Node) {
	var page bytes.Buffer
	if err := document.Render(&page); err != nil {
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
		return
	}
	web.Headers(w)
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; form-action 'self'"+targets+
		"; base-uri 'none'; frame-ancestors 'none'"+more)
	head.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the client went away; there is nobody to tell
}

// send is the one script there is: it presses the button of a page that only passes something on. It stands in such a page
// alone, and the policy allows it, and nothing else, by its hash. Without scripts the person presses the button.
const send = "document.forms[0].submit()"

// Post answers with a page that has the browser post fields to another site.
func Post(w http.ResponseWriter, v View, action string, fields map[string]string) {
	var hidden g.Group
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		hidden = append(hidden, Hidden(name, fields[name]))
	}
	sum := sha256.Sum256([]byte(send))
	// Where the other site redirects to is its affair, and browsers apply form-action to that, too: hence every https.
	answer(w, http.StatusOK, " https:"+formTarget(action), "; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", v.Document(
		h.Form(h.Method("post"), h.Action(action), hidden, Submit("Continue")),
		h.Script(g.Raw(send)),
	))
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

// Message answers with a page of one sentence, and what is given beside.
func Message(w http.ResponseWriter, status int, t core.TenantID, title, text string, more ...g.Node) {
	Render(w, status, "", View{Tenant: t, Title: title}.Document(h.P(g.Text(text)), g.Group(more)))
}

// Head answers HEAD where GET uses something up: there is such a page, and nothing happens. It is what programs ask that look
// at links in chats and mails before people do. It is no refusal: many of them would ask again by GET.
func Head(w http.ResponseWriter) {
	web.Headers(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusOK)
}

// Arrive sends the browser on to where a sign-in ends that an identity provider vouched for. It is a 303: what was posted is
// not posted again.
func Arrive(w http.ResponseWriter, t core.TenantID, handle string) {
	web.Headers(w)
	w.Header().Set("Location", "/t/"+string(t)+"/sso/finish?answer="+url.QueryEscape(handle))
	w.WriteHeader(http.StatusSeeOther)
}

// Instead is what people can do whose sign-in at an identity provider failed: start again, or use a password, be it that the
// tenant's login page goes to the provider by itself. login is the handle of the sign-in, if that is not over; else "".
func Instead(t core.TenantID, login string) g.Node {
	if t == "" {
		return nil
	}
	start := "/t/" + string(t) + "/login"
	local := start + "?local=1"
	if login != "" {
		local += "&login=" + url.QueryEscape(login)
	}
	return g.Group{
		h.P(h.A(h.Class("button"), h.Href(start), g.Text("Start again"))),
		h.P(h.Class("hint"), h.A(h.Href(local), g.Text("Sign in with a local account"))),
	}
}

// Fail answers a browser with an error: its status, what a person can do about it, and what is given beside.
func Fail(w http.ResponseWriter, r *http.Request, err error, more ...g.Node) {
	web.NoteError(r.Context(), err)
	status, kind := web.Status(err)
	var refused interface{ TraceID() string }
	switch {
	case errors.As(err, &refused):
		text := "Your organization's identity provider and this service do not agree about your sign-in. Start again; if it happens again, tell your administrator"
		if id := refused.TraceID(); id != "" {
			text += ", and quote trace " + id
		}
		Message(w, http.StatusForbidden, "", "This sign-in was refused", text+".", more...)
	case kind == core.NotFound:
		Message(w, status, "", "Not found", "There is no such page, or this sign-in is over. Start again at the application or the command line.", more...)
	case kind == core.Unavailable:
		w.Header().Set("Retry-After", "1")
		Message(w, status, "", "Just a moment", "The service does not answer right now. Try again shortly.", more...)
	case kind == core.Throttled:
		web.RetryAfter(w, err)
		Message(w, status, "", "Too many attempts", "Wait a moment, then try again.", more...)
	case kind == core.Unauthenticated:
		Message(w, http.StatusForbidden, "", "This does not hold any more", "The link or the form was used, has expired, or your account changed meanwhile. Start again.", more...)
	case kind == "":
		Message(w, status, "", "Something went wrong", "It went wrong on our side and has been logged. Quote "+string(web.RequestID(r.Context()))+" when you ask for help.", more...)
	default: // the caller's own input, or what they may not
		Message(w, status, "", "This did not work", err.Error(), more...)
	}
}
