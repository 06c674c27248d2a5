// Package e2e tells Fleetpass's stories on the real parts: the whole system over HTTP, real API servers, kubectl and the
// command line, as a user would meet them. Story is what `make demo` prints; the tests run it and more.
package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// Browser follows links and fills in forms as a person's browser does, with cookies and redirects and no scripts.
type Browser struct {
	client *http.Client
	page   *url.URL
	body   string
	status int
}

// NewBrowser makes a browser with an empty cookie jar. It goes through transport, or Go's own if that is nil.
func NewBrowser(transport http.RoundTripper) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // only on bad options
	}
	return &Browser{client: &http.Client{Transport: transport, Jar: localhostJar{jar}}}
}

// localhostJar treats http://localhost as secure, as browsers do, so that Secure cookies travel there.
type localhostJar struct{ http.CookieJar }

func secure(u *url.URL) *url.URL {
	s := *u
	if u.Hostname() == "localhost" {
		s.Scheme = "https"
	}
	return &s
}

func (j localhostJar) SetCookies(u *url.URL, c []*http.Cookie) { j.CookieJar.SetCookies(secure(u), c) }
func (j localhostJar) Cookies(u *url.URL) []*http.Cookie       { return j.CookieJar.Cookies(secure(u)) }

// Visit opens an address and returns the page that it ends at.
func (b *Browser) Visit(ctx context.Context, address string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	return b.do(r)
}

func (b *Browser) do(r *http.Request) (string, error) {
	res, err := b.client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	b.page, b.body, b.status = res.Request.URL, string(body), res.StatusCode
	if res.StatusCode >= 500 {
		return b.body, fmt.Errorf("%s answered %s", b.page.Path, res.Status)
	}
	return b.body, nil
}

// Page is where the browser is, and the status it got there.
func (b *Browser) Page() (*url.URL, int) { return b.page, b.status }

// Text is what the page says, without its markup.
func (b *Browser) Text() string {
	doc, err := html.Parse(strings.NewReader(b.body))
	if err != nil {
		return b.body
	}
	var words []string
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "script" && n.Parent.Data != "style" {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

// Follow follows the first link of the page whose address has the text in it.
func (b *Browser) Follow(ctx context.Context, text string) (string, error) {
	doc, err := html.Parse(strings.NewReader(b.body))
	if err != nil {
		return "", err
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "a" && strings.Contains(attribute(n, "href"), text) {
			target, err := b.page.Parse(attribute(n, "href"))
			if err != nil {
				return "", err
			}
			return b.Visit(ctx, target.String())
		}
	}
	return "", fmt.Errorf("%s (status %d): no link with %q: %.500s", b.page.Path, b.status, text, b.body)
}

// Submit fills in the only form of the page and sends it. Fields not named keep what the page gave them; a named one that
// the form does not have is an error.
func (b *Browser) Submit(ctx context.Context, fields map[string]string) (string, error) {
	forms, err := formsOf(b.body)
	if err == nil && len(forms) != 1 {
		err = fmt.Errorf("%d forms on the page, want 1", len(forms))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", b.page.Path, err)
	}
	for _, button := range forms[0].buttons {
		forms[0].values.Set(button, forms[0].pressed.Get(button))
	}
	return b.send(ctx, forms[0], fields)
}

// SubmitForm is Submit on a page of several forms, such as other people's: it takes the first that has the named field. A
// button is pressed only if it is among the values, where "" stands for its own value.
func (b *Browser) SubmitForm(ctx context.Context, field string, values map[string]string) (string, error) {
	forms, err := formsOf(b.body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", b.page.Path, err)
	}
	for _, f := range forms {
		if !slices.Contains(f.names, field) {
			continue
		}
		values = maps.Clone(values)
		for _, button := range f.buttons {
			if value, pressed := values[button]; pressed {
				values[button] = cmp.Or(value, f.pressed.Get(button))
			}
		}
		return b.send(ctx, f, values)
	}
	return "", fmt.Errorf("%s (status %d): none of the page's %d forms has a field %q: %.800s", b.page.Path, b.status, len(forms), field, b.Text())
}

// send sends a form as a browser does, wherever it goes.
func (b *Browser) send(ctx context.Context, form form, fields map[string]string) (string, error) {
	for name, value := range fields {
		if !slices.Contains(form.names, name) {
			return "", fmt.Errorf("%s: the form has no field %q, only %v", b.page.Path, name, form.names)
		}
		form.values.Set(name, value)
	}
	target, err := b.page.Parse(form.action)
	if err != nil {
		return "", err
	}
	if !strings.EqualFold(form.method, http.MethodPost) {
		target.RawQuery = form.values.Encode()
		return b.Visit(ctx, target.String())
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.values.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.page.Scheme+"://"+b.page.Host)
	r.Header.Set("Sec-Fetch-Site", relation(b.page, target))
	return b.do(r)
}

// relation is what a browser says in Sec-Fetch-Site (Fetch Metadata Request Headers §2.3), as far as hosts without a registrable
// domain go: localhost and addresses.
func relation(from, to *url.URL) string {
	switch {
	case from.Scheme == to.Scheme && from.Host == to.Host:
		return "same-origin"
	case from.Scheme == to.Scheme && from.Hostname() == to.Hostname():
		return "same-site"
	}
	return "cross-site"
}

type form struct {
	action, method string
	values         url.Values // what it sends when no button is pressed
	pressed        url.Values // what its buttons add
	names          []string   // of the fields, buttons among them
	buttons        []string
}

// formsOf reads the forms of a page.
func formsOf(page string) ([]form, error) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return nil, err
	}
	var forms []form
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			f := form{action: attribute(n, "action"), method: attribute(n, "method"), values: url.Values{}, pressed: url.Values{}}
			id := attribute(n, "id")
			for c := range doc.Descendants() {
				name := attribute(c, "name")
				if c.Type != html.ElementNode || name == "" || !within(c, n) && (id == "" || attribute(c, "form") != id) {
					continue
				}
				switch kind := attribute(c, "type"); {
				case c.Data == "button", c.Data == "input" && kind == "submit":
					f.pressed.Set(name, attribute(c, "value"))
					f.buttons = append(f.buttons, name)
				case c.Data == "input" && kind == "checkbox" && !slices.ContainsFunc(c.Attr, func(a html.Attribute) bool { return a.Key == "checked" }):
				case c.Data == "input":
					f.values.Set(name, attribute(c, "value"))
				case c.Data == "select": // nothing is chosen until somebody does
				default:
					continue
				}
				f.names = append(f.names, name)
			}
			forms = append(forms, f)
		}
	}
	return forms, nil
}

// within says whether n lies in the element.
func within(n, element *html.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == element {
			return true
		}
	}
	return false
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
