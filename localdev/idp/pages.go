package idp

import (
	"maps"
	"net/http"
	"slices"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// style and submit are served as files of their own, so that the pages' policy need not allow anything inline.
const (
	style = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 34rem; margin: 3rem auto; padding: 0 1rem }
label { display: block; margin: 1rem 0 .25rem }
input, select, button { font: inherit; padding: .4rem; box-sizing: border-box }
input, select { width: 100% }
button { margin: 1rem .5rem 0 0 }
.alert { border-left: .3rem solid #c00; padding-left: .7rem }
small, td { overflow-wrap: anywhere }
`
	submit = "document.forms[0].submit();\n"
)

func asset(kind, content string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(content)) // the browser is gone if it fails
	}
}

// page writes a page. Its policy has no form-action: a browser applies that to every redirect that follows a form, and where a
// relying party sends its people in the end is not known here.
func (p *Provider) page(w http.ResponseWriter, status int, title string, body ...g.Node) {
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	head.Set("Referrer-Policy", "strict-origin")
	w.WriteHeader(status)
	_ = h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.TitleEl(g.Text(title+" · Local identity provider")),
			h.Link(h.Rel("stylesheet"), h.Href(p.path+"/style.css")),
		),
		h.Body(h.Main(h.H1(g.Text(title)), g.Group(body))),
	)).Render(w)
}

// problem is a page that says what is wrong with a request. It says so in full: whoever reads it is building the other end.
func (p *Provider) problem(w http.ResponseWriter, status int, why string) {
	p.page(w, status, "This does not work", alert(why)...)
}

func alert(why string) []g.Node {
	return []g.Node{h.P(h.Class("alert"), h.Role("alert"), g.Text(why))}
}

func hidden(name, value string) g.Node {
	return h.Input(h.Type("hidden"), h.Name(name), h.Value(value))
}

func (p *Provider) loginForm(handle string, wait waiting, email string, fault Fault) []g.Node {
	if fault == Behave {
		fault = wait.fault
	}
	options := []g.Node{h.Option(h.Value(""), g.Text("no"))}
	for _, m := range misbehaviours {
		if m.Protocol == wait.asked.protocol() {
			options = append(options, h.Option(h.Value(string(m.Fault)), g.If(m.Fault == fault, h.Selected()), g.Text(string(m.Fault)+": "+m.Does)))
		}
	}
	return []g.Node{
		h.P(g.Text("to go on to "), h.Strong(g.Text(wait.asked.service()))),
		h.Form(h.Method("post"), h.Action(p.path+"/login"),
			hidden("request", handle),
			h.Label(h.For("email"), g.Text("E-mail")),
			h.Input(h.ID("email"), h.Name("email"), h.Type("email"), h.AutoComplete("username"), h.Value(email), h.Required(), g.If(email == "", h.AutoFocus())),
			h.Label(h.For("password"), g.Text("Password")),
			h.Input(h.ID("password"), h.Name("password"), h.Type("password"), h.AutoComplete("current-password"), h.Required(), g.If(email != "", h.AutoFocus())),
			h.Label(h.For("misbehave"), g.Text("Misbehave")),
			h.Select(h.ID("misbehave"), h.Name("misbehave"), g.Group(options)),
			h.Button(h.Type("submit"), g.Text("Sign in")),
			h.Button(h.Type("submit"), h.Name("cancel"), h.Value("yes"), g.Attr("formnovalidate"), g.Text("Cancel")),
		),
	}
}

// posting is a page that posts a form to another site: by itself, or by its button where no script runs (SAML 2.0 Bindings §3.5.4).
func (p *Provider) posting(w http.ResponseWriter, to string, fields map[string]string) {
	var inputs []g.Node
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		inputs = append(inputs, hidden(name, fields[name]))
	}
	p.page(w, http.StatusOK, "Going on",
		h.Form(h.Method("post"), h.Action(to), g.Group(inputs),
			h.P(g.Text("If nothing happens, go on by hand.")),
			h.Button(h.Type("submit"), g.Text("Continue"))),
		h.Script(h.Src(p.path+"/submit.js"), h.Defer()))
}

// home says who can sign in, and where.
func (p *Provider) home(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	s, in := p.session(r, p.now())
	var people, services []g.Node
	for _, email := range slices.Sorted(maps.Keys(p.people)) {
		who := p.people[email]
		people = append(people, h.Tr(h.Td(g.Text(who.Email)), h.Td(g.Text(joined(who.Groups))), h.Td(g.If(who.Disabled, g.Text("disabled")))))
	}
	for _, id := range slices.Sorted(maps.Keys(p.services)) {
		services = append(services, h.Li(g.Text(id+" "), h.A(h.Href(p.StartURL(id, "")), g.Text("start here"))))
	}
	for _, id := range slices.Sorted(maps.Keys(p.clients)) {
		services = append(services, h.Li(g.Text(id)))
	}
	p.mu.Unlock()
	body := []g.Node{
		h.P(g.Text("For trying out sign-ins, right ones and wrong ones. It is no identity provider for anything else.")),
		h.H2(g.Text("People")), h.Table(g.Group(people)),
		h.H2(g.Text("Who relies on it")), h.Ul(g.Group(services)),
		h.H2(g.Text("What it publishes")),
		h.Ul(h.Li(h.A(h.Href(p.EntityID()), g.Text("SAML metadata"))), h.Li(h.A(h.Href(p.DiscoveryURL()), g.Text("OpenID Connect discovery")))),
	}
	if in {
		body = append(body, h.Form(h.Method("post"), h.Action(p.path+"/logout"), h.P(g.Text("You are signed in as "+s.Email+".")), h.Button(g.Text("Sign out"))))
	}
	p.page(w, http.StatusOK, "Local identity provider", body...)
}
