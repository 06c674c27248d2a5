package login

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/web"
)

//go:embed pages
var files embed.FS

// templates are the pages by name, each with the layout around it. They are parsed for the first page: the binary is every
// function's, and most show none.
var templates = sync.OnceValue(func() map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range []string{"login", "password", "welcome", "logout", "home", "message"} {
		all[name] = template.Must(template.ParseFS(files, "pages/layout.html", "pages/"+name+".html"))
	}
	return all
})

// style is the one style sheet. It stands in every page, and the policy allows it, and nothing else, by its hash.
var style, styleHash = func() (template.CSS, string) {
	css, err := files.ReadFile("pages/style.css")
	if err != nil {
		panic(err) // embedded at build time
	}
	sum := sha256.Sum256(css)
	return template.CSS(css), "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

// view is what the layout shows. Data is the page's own.
type view struct {
	Tenant core.TenantID
	Title  string
	Error  string
	Token  string // of the page's form
	Style  template.CSS
	Data   any
}

type (
	loginView struct {
		Login, Username, Client string
		Error                   string
	}
	passwordView struct {
		Login    string
		Username core.Email
	}
	welcomeView struct {
		Secret, Username string
		Error            string
	}
	logoutView struct {
		Email  core.Email
		Fields map[string]string
	}
	homeView struct {
		Email core.Email
		Name  string
		Since time.Time
	}
)

// render answers with a page. Its forms may lead to ourselves, and on to target: browsers apply the policy to where a
// posted form is redirected, too.
func render(w http.ResponseWriter, status int, name string, v view, target string) {
	v.Style = style
	var page bytes.Buffer
	if err := templates()[name].ExecuteTemplate(&page, "layout", v); err != nil {
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
		return
	}
	web.Headers(w)
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash+"'; form-action 'self'"+formTarget(target)+
		"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
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

func showLogin(w http.ResponseWriter, t core.TenantID, u underWay, v loginView, status int) {
	v.Login, v.Client = u.handle, u.asked.Client.Name
	render(w, status, "login", view{
		Tenant: t, Title: "Sign in", Error: v.Error, Token: web.FormToken(u.cookie, "login "+string(t)), Data: v,
	}, u.asked.RedirectURI)
}

func showPassword(w http.ResponseWriter, t core.TenantID, u underWay, problem string, status int) {
	render(w, status, "password", view{
		Tenant: t, Title: "Choose a new password", Error: problem, Token: web.FormToken(u.cookie, "password "+string(t)),
		Data: passwordView{u.handle, u.rec.Value.Email},
	}, u.asked.RedirectURI)
}

func showWelcome(w http.ResponseWriter, t core.TenantID, cookie string, v welcomeView, status int) {
	render(w, status, "welcome", view{
		Tenant: t, Title: "Become the first administrator", Error: v.Error, Token: web.FormToken(cookie, "welcome "+string(t)), Data: v,
	}, "")
}

func showLogout(w http.ResponseWriter, r *http.Request, t core.TenantID, email core.Email, p oauth.Params, plan oauth.Logout) {
	fields := map[string]string{}
	for _, name := range logoutFields {
		if p[name] != "" {
			fields[name] = p[name]
		}
	}
	token := web.FormToken(web.Cookie(r, sessionCookie(t)), "logout "+string(t))
	render(w, http.StatusOK, "logout", view{Tenant: t, Title: "Sign out?", Token: token, Data: logoutView{email, fields}}, plan.Return)
}

func showMessage(w http.ResponseWriter, status int, t core.TenantID, title, text string) {
	render(w, status, "message", view{Tenant: t, Title: title, Data: text}, "")
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
