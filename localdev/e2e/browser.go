// Package e2e tells Fleetpass's stories on the real parts: the whole system over HTTP, real API servers, kubectl and the
// command line, as a user would meet them. Story is what `make demo` prints; the tests run it and more.
package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
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

// Submit fills in the only form of the page and sends it. Fields not named keep what the page gave them; a named one that
// the form does not have is an error.
func (b *Browser) Submit(ctx context.Context, fields map[string]string) (string, error) {
	form, err := onlyForm(b.body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", b.page.Path, err)
	}
	for name, value := range fields {
		if _, ok := form.values[name]; !ok {
			return "", fmt.Errorf("%s: the form has no field %q, only %v", b.page.Path, name, form.names)
		}
		form.values.Set(name, value)
	}
	target, err := b.page.Parse(form.action)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.values.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.page.Scheme+"://"+b.page.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

type form struct {
	action string
	values url.Values
	names  []string
}

func onlyForm(page string) (form, error) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return form{}, err
	}
	var forms []form
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			f := form{action: attribute(n, "action"), values: url.Values{}}
			for c := range n.Descendants() {
				if c.Type == html.ElementNode && (c.Data == "input" || c.Data == "button") && attribute(c, "name") != "" {
					f.values.Set(attribute(c, "name"), attribute(c, "value"))
					f.names = append(f.names, attribute(c, "name"))
				}
			}
			forms = append(forms, f)
		}
	}
	if len(forms) != 1 {
		return form{}, fmt.Errorf("%d forms on the page, want 1", len(forms))
	}
	return forms[0], nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
