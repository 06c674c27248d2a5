package login

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// pages shows every page with the texts that text gives, one for each field that a page has from outside.
func pages(text func(field string) string) map[string]func(w *httptest.ResponseRecorder) {
	tenant := func() core.TenantID { return core.TenantID(text("tenant")) }
	login := func() underWay {
		return underWay{handle: text("handle"), cookie: text("cookie"), asked: oauth.Request{Client: oauth.Client{Name: text("client")}, RedirectURI: text("redirect")}}
	}
	password := func() underWay {
		rec := store.Record[session.Login]{Value: session.Login{Email: core.Email(text("email"))}}
		return underWay{handle: text("handle"), cookie: text("cookie"), rec: rec, asked: oauth.Request{RedirectURI: text("redirect")}}
	}
	return map[string]func(w *httptest.ResponseRecorder){
		"login": func(w *httptest.ResponseRecorder) {
			showLogin(w, tenant(), login(), offer{entries: []sso.Entry{{Name: text("provider"), Alias: "corp"}}, goes: "corp"}, text("username"), text("problem"), 403)
		},
		"password": func(w *httptest.ResponseRecorder) { showPassword(w, tenant(), password(), text("problem"), 422) },
		"welcome": func(w *httptest.ResponseRecorder) {
			showWelcome(w, tenant(), text("cookie"), text("secret"), text("username"), text("problem"), 422)
		},
		"home": func(w *httptest.ResponseRecorder) {
			showHome(w, tenant(), text("cookie"), session.Current{Session: session.Session{Email: core.Email(text("email"))}, Tenant: org.Tenant{Name: text("name")}})
		},
		"logout": func(w *httptest.ResponseRecorder) {
			p := oauth.Params{}
			for _, name := range logoutFields {
				p[name] = text("parameter " + name)
			}
			showLogout(w, tenant(), text("cookie"), core.Email(text("email")), p, oauth.Logout{Return: text("redirect")})
		},
		"onward": func(w *httptest.ResponseRecorder) {
			showOnward(w, tenant(), text("name"), "/t/acme/sso?login=h&idp=corp")
		},
		"arrival": func(w *httptest.ResponseRecorder) {
			showArrival(w, tenant(), text("cookie"), text("handle"), sso.Arrived{Name: text("name"), Email: core.Email(text("email"))})
		},
		"test": func(w *httptest.ResponseRecorder) {
			showTest(w, tenant(), sso.Trace{ID: text("trace"), Alias: sso.Alias(text("alias")), Outcome: sso.Refused, Identity: &sso.Identity{
				Email: core.Email(text("email")), FirstName: text("first"), LastName: text("last"), Groups: []core.GroupName{core.GroupName(text("group"))},
			}, Checks: []sso.Check{{Name: sso.CheckName(text("check")), Result: sso.Failed, Found: text("found"), Fix: text("fix")}}})
		},
		"message": func(w *httptest.ResponseRecorder) { page.Message(w, 400, tenant(), text("title"), text("text")) },
	}
}

// shape is a page's elements and the names of their attributes, in order, and all the text and values in it.
func shape(t *testing.T, page string) (elements, texts []string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		switch n.Type {
		case html.ElementNode:
			e := n.Data
			for _, a := range n.Attr {
				e += " " + a.Key
				texts = append(texts, a.Val)
			}
			elements = append(elements, e)
		case html.TextNode:
			texts = append(texts, n.Data)
		case html.CommentNode:
			elements = append(elements, "a comment")
		}
	}
	return elements, texts
}

// Whatever comes from outside, in whichever field of whichever page: the page has the elements and attributes that it has for
// plain words, its policy the same directives, and the words stand there to be read (WEB-017).
func TestEveryFieldIsEscaped(t *testing.T) {
	unseen := []string{"cookie", "redirect"} // one goes into the form's token, as a MAC; the other into the policy, as an origin
	fields := 0
	for _, hostile := range []string{
		`<script>alert(1)</script>`, `"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `" onfocus="alert(1)" autofocus x="`, `' onfocus='alert(1)`,
		"` onfocus=alert(1) `", `</title><script>alert(1)</script>`, `</style><script>alert(1)</script>`, `</textarea></strong></form><form action=https://evil.example>`,
		`<!--`, `--><!-- -->`, `]]><svg onload=alert(1)>`, `javascript:alert(1)`, `&lt;b&gt;&amp;&#34;`, `&quot;><b>`, `{{.}}{{"x"}}`, `%s%d%v`, `\"\u003cscript\u003e`,
		"a\tb", "𝕏 \u202e evil", `https://evil.example; script-src *`, strings.Repeat(`"<`, 500),
	} {
		for name := range pages(nil) {
			plain := httptest.NewRecorder()
			var all []string
			pages(func(field string) string {
				all = append(all, field)
				return "plain"
			})[name](plain)
			elements, _ := shape(t, plain.Body.String())
			for _, field := range all {
				fields++
				what := fmt.Sprintf("%s, %s = %.60q", name, field, hostile)
				w := httptest.NewRecorder()
				pages(func(f string) string {
					if f == field {
						return hostile
					}
					return "plain"
				})[name](w)
				got, texts := shape(t, w.Body.String())
				if !reflect.DeepEqual(got, elements) {
					t.Errorf("%s: other elements than for plain words:\n%q\n%q", what, got, elements)
				}
				for i, n := range []int{strings.Count(w.Body.String(), "<form"), strings.Count(w.Body.String(), "<script"), strings.Count(w.Body.String(), "<!--")} {
					if i > 0 && n > 0 || n > 1 {
						t.Errorf("%s: %d of number %d", what, n, i)
					}
				}
				csp := w.Header().Get("Content-Security-Policy")
				if strings.Count(csp, ";") != 4 || strings.Contains(csp, "script-src") || strings.Contains(csp, "*") {
					t.Errorf("%s: the policy %q", what, csp)
				}
				if seen := slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, hostile) }); seen == slices.Contains(unseen, field) {
					t.Errorf("%s: the page shows it: %v", what, seen)
				}
			}
		}
	}
	if fields < 22*20 {
		t.Errorf("only %d fields were tried", fields)
	}
}

// What html/template made of the forms is what gomponents makes of them: browsers' password managers and our own tests
// know these names.
func TestFormsKeepTheirFields(t *testing.T) {
	for name, want := range map[string]string{
		"login": "token login username password", "password": "token login username new repeat", "welcome": "token welcome username new repeat",
		"home": "token", "logout": "token id_token_hint client_id post_logout_redirect_uri state", "message": "",
	} {
		w := httptest.NewRecorder()
		pages(func(string) string { return "plain" })[name](w)
		doc, err := html.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for n := range doc.Descendants() {
			for _, a := range n.Attr {
				if n.Data == "input" && a.Key == "name" {
					names = append(names, a.Val)
				}
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: fields %q, want %q", name, got, want)
		}
	}
}
