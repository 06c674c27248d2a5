package infra_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/store"
)

// The stories: everything that the functions are for, and everything that goes wrong with it, told through nothing but what a
// platform calls: requests, events, messages, minutes. Many steps have functions begin cold, since what a warm one remembers
// it does not read.

// unreached is what a function's code can come to, as far as the look at the code sees, and never does, with why.
var unreached = map[string]string{
	"login: item due":   "the rule of a first administrator has no end, so nothing falls due",
	"login: item scope": "that rule is at the account, which is no item of the tree",

	"samlacs: item kept":      "a SAML provider cannot be asked again, so nothing is kept to ask it with",
	"oidccallback: item used": "an OpenID provider takes each code once itself: there is no assertion to remember",

	"admin: item audit-seal": "the links are listed; the key of one says where to go on",
	"evaluate: item cluster": "the rules at a scope are listed; the key of one says where to go on",
	"evaluate: item member":  "so it is with those who may be in a group",

	"kubeconfig: item scope": "whose rules they are is asked at the account; the scopes are listed",
}

const (
	password = "correct horse battery"
	callback = "http://127.0.0.1:43121/callback"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
	system   = "system"

	good    = 0  // any answer that is none of the refusals
	refused = -1 // any refusal, but no failure of ours
	either  = -2 // a good answer or a refusal
)

// reply is an answer.
type reply struct {
	*httptest.ResponseRecorder
	c *cloud
}

// member is one of a JSON answer, as text.
func (r reply) member(name string) string {
	r.c.Helper()
	var m map[string]any
	if err := json.Unmarshal(r.Body.Bytes(), &m); err != nil {
		r.c.Fatalf("%s: %v", r.Body, err)
	}
	if m[name] == nil {
		r.c.Fatalf("no %s in %s", name, r.Body)
	}
	return fmt.Sprint(m[name])
}

// browser keeps cookies. The nil one keeps none.
type browser map[string]*http.Cookie

// send makes a request of whichever function serves it, and wants that status, good or refused.
func (c *cloud) send(b browser, status int, method, path, media, body, authorization string) reply {
	c.Helper()
	r := httptest.NewRequestWithContext(c.Context(), method, "https://fleet.test"+path, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	for name, value := range c.headers {
		r.Header.Set(name, value)
	}
	if b != nil {
		r.Header.Set("Origin", "https://fleet.test")
	}
	for _, cookie := range b {
		r.AddCookie(cookie)
	}
	_, pattern := c.routes.Handler(r)
	if pattern == "" {
		c.Fatalf("%s %s is served by no function", method, path)
	}
	w := httptest.NewRecorder()
	for _, d := range c.functions {
		for _, p := range d.Paths {
			if p == pattern {
				d.handler.ServeHTTP(w, r)
			}
		}
	}
	if w.Code != status && !(status == good && w.Code < 400) && !(status == refused && w.Code >= 400 && w.Code < 500) && !(status == either && w.Code < 500) {
		c.Fatalf("%s %s: status %d, want %d, to %q: %s", method, path, w.Code, status, w.Header().Get("Location"), tail(w.Body.String()))
	}
	if c.answered[pattern] == nil {
		c.answered[pattern] = map[bool]bool{}
	}
	c.answered[pattern][w.Code < 400] = true
	for _, cookie := range w.Result().Cookies() {
		if cookie.MaxAge < 0 {
			delete(b, cookie.Name)
		} else if b != nil {
			b[cookie.Name] = cookie
		}
	}
	c.settle()
	return reply{w, c}
}

// tail is the end of an answer, where a page has its words.
func tail(s string) string { return s[max(0, len(s)-300):] }

func pairs(of ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(of); i += 2 {
		v.Set(of[i], of[i+1])
	}
	return v
}

func (c *cloud) visit(b browser, status int, path string) reply {
	c.Helper()
	return c.send(b, status, "GET", path, "", "", "")
}

func (c *cloud) post(b browser, status int, path string, form ...string) reply {
	c.Helper()
	return c.send(b, status, "POST", path, "application/x-www-form-urlencoded", pairs(form...).Encode(), "")
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// submit fills in the form of a page.
func (c *cloud) submit(b browser, status int, path string, page reply, form ...string) reply {
	c.Helper()
	for _, m := range hiddenField.FindAllStringSubmatch(page.Body.String(), -1) {
		form = append(form, m[1], m[2])
	}
	return c.post(b, status, path, form...)
}

// call is one of a program with a bearer token.
func (c *cloud) call(bearer string, status int, method, path, body string) reply {
	c.Helper()
	media := ""
	if body != "" {
		media = "application/json"
	}
	return c.send(nil, status, method, path, media, body, "Bearer "+bearer)
}

func authorize(t string, more ...string) string {
	sum := sha256.Sum256([]byte(verifier))
	q := pairs(append([]string{"client_id", "fleetpass-cli", "redirect_uri", callback, "response_type", "code", "state", "s", "nonce", "n", "scope",
		"openid offline_access email groups", "code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method", "S256"}, more...)...)
	return "/t/" + t + "/authorize?" + q.Encode()
}

// signIn signs a person in with the browser and returns the code that comes of it.
func (c *cloud) signIn(b browser, t, email string, more ...string) string {
	c.Helper()
	page := c.visit(b, 200, c.visit(b, 303, authorize(t, more...)).Header().Get("Location"))
	return c.code(c.submit(b, 303, "/t/"+t+"/login", page, "username", email, "password", password))
}

func (c *cloud) code(r reply) string {
	c.Helper()
	u, err := url.Parse(r.Header().Get("Location"))
	c.must(err)
	if u.Query().Get("code") == "" {
		c.Fatalf("no code in %s", u)
	}
	return u.Query().Get("code")
}

func (c *cloud) redeem(t, code string, status int) reply {
	c.Helper()
	return c.post(nil, status, "/t/"+t+"/token", "grant_type", "authorization_code", "client_id", "fleetpass-cli", "redirect_uri", callback, "code_verifier", verifier, "code", code)
}

// token is an access token of a person.
func (c *cloud) token(t, email string) string {
	c.Helper()
	return c.redeem(t, c.signIn(browser{}, t, email), 200).member("access_token")
}

// tell tells all the stories.
func (c *cloud) tell() {
	operator := c.firstOperator()
	admin := c.tenants(operator)
	c.signingIn(admin)
	h := c.administration(admin)
	c.tokens(h)
	c.questions(h)
	c.clustersFail(h)
	c.eventsFail()
	c.identityProviders(h)
	c.machines(h)
	c.devices()
	c.conventions(h)
	c.lives(h)
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// firstOperator founds the operators' tenant, by the schedule, and signs its first administrator in.
func (c *cloud) firstOperator() string {
	c.visit(nil, 503, "/health")
	c.pass(10 * time.Second)
	c.minutes(1) // nothing is configured
	token := strings.Repeat("t", 43)
	c.hash = hash(token)
	c.cold()
	c.minutes(2)
	c.hash = hash(token + "2") // it is lost; another one is made
	c.cold()
	c.minutes(1)
	c.visit(nil, 200, "/health")
	c.visit(nil, 200, "/healthz")
	b := browser{}
	page := c.visit(b, 200, "/t/system/welcome?token="+token+"2")
	c.submit(b, 422, "/t/system/welcome", page, "username", "op@fleet.test", "new", password, "repeat", "other")
	c.submit(b, 422, "/t/system/welcome", page, "username", "op@fleet.test", "new", "short", "repeat", "short")
	c.submit(b, 403, "/t/system/welcome", c.visit(b, 200, "/t/system/welcome?token=x"), "username", "op@fleet.test", "new", password, "repeat", password)
	c.submit(b, 303, "/t/system/welcome", page, "username", "op@fleet.test", "new", password, "repeat", password)
	c.submit(b, 403, "/t/system/welcome", page, "username", "op@fleet.test", "new", password, "repeat", password)
	c.visit(nil, 404, "/t/nobody/welcome")
	c.hash = hash(token + "3") // there is an administrator now
	c.cold()
	c.minutes(1)
	return c.token(system, "op@fleet.test")
}

// tenants is what operators do, and ends with the first administrator of acme.
func (c *cloud) tenants(operator string) string {
	const root = "/t/system/api/v1/tenants"
	c.call(operator, 201, "POST", root, `{"id":"acme","name":"Acme"}`)
	c.call(operator, 409, "POST", root, `{"id":"acme","name":"Acme"}`)
	c.call(operator, 200, "GET", root, "")
	c.call("x", 401, "GET", root, "")
	c.call(operator, 200, "GET", root+"/acme", "")
	c.call(operator, 404, "GET", root+"/nobody", "")
	link := c.call(operator, 200, "POST", root+"/acme/welcome-link", "").member("welcomeLink")
	c.call(operator, 404, "POST", root+"/nobody/welcome-link", "")
	c.call(operator, 200, "PATCH", root+"/acme", `{"state":"suspended"}`)
	c.visit(nil, 404, "/t/acme/login")
	c.call(operator, 200, "PATCH", root+"/acme", `{"state":"active"}`)
	c.call(operator, 404, "PATCH", root+"/nobody", `{"state":"active"}`)
	c.call(operator, 404, "DELETE", root+"/nobody", "")
	u, err := url.Parse(link)
	c.must(err)
	b := browser{}
	page := c.visit(b, 200, u.RequestURI())
	c.submit(b, 303, "/t/acme/welcome", page, "username", "admin@acme.test", "new", password, "repeat", password)
	// Another link is of no use to who is there already.
	u, err = url.Parse(c.call(operator, 200, "POST", root+"/acme/welcome-link", "").member("welcomeLink"))
	c.must(err)
	c.submit(b, 422, "/t/acme/welcome", c.visit(b, 200, u.RequestURI()), "username", "admin@acme.test", "new", password, "repeat", password)
	c.cold()
	// An erased tenant, with people, a cluster and rules in it.
	link = c.call(operator, 201, "POST", root, `{"id":"globex","name":"Globex"}`).member("welcomeLink")
	u, err = url.Parse(link)
	c.must(err)
	b = browser{}
	c.submit(b, 303, "/t/globex/welcome", c.visit(b, 200, u.RequestURI()), "username", "admin@globex.test", "new", password, "repeat", password)
	admin := c.token("globex", "admin@globex.test")
	cluster := c.call(admin, 201, "POST", "/t/globex/api/v1/clusters", `{"name":"one","server":"https://one.test"}`).member("uuid")
	project := c.call(admin, 201, "POST", "/t/globex/api/v1/org-unit/projects", `{"name":"p","parentId":"`+cluster+`"}`).member("id")
	c.call(admin, 201, "POST", "/t/globex/api/v1/authorization/access-rules", c.rule("group", "team", 5, project, "project", c.clock().Add(time.Hour)))
	c.leftovers("globex", cluster)
	c.call(operator, 204, "DELETE", root+"/globex", "")
	c.cold()
	c.minutes(3)
	return c.token("acme", "admin@acme.test")
}

// leftovers puts an item into every partition that a tenant may have: erasing it has to empty them all.
func (c *cloud) leftovers(t core.TenantID, cluster string) {
	c.Helper()
	ranges := append(store.PartitionsOf(t), store.ClusterRules(t, store.InAccount), store.ClusterRules(t, store.InCluster(core.ClusterID(cluster))), store.RecordedIn(t, core.ClusterID(cluster)))
	for _, r := range ranges {
		if k := r.Key("~leftover").Kind(); k != "scope" && k != "key" { // of these the stories have enough, and others read them
			c.must(c.db.Commit(c.Context(), store.Put(r.Key("~leftover"), 0, []byte("{}"))))
		}
	}
}

// rule is the body that makes an access rule; ends may be zero.
func (c *cloud) rule(kind, id string, role core.RoleID, scope, scopeKind string, ends time.Time) string {
	c.Helper()
	b, err := json.Marshal(api.AccessRuleRequest{SubjectID: id, SubjectType: api.SubjectType(kind), RoleID: role, ScopeID: core.ScopeID(scope), ScopeType: api.ScopeType(scopeKind), ExpiresAt: ends})
	c.must(err)
	return string(b)
}

const v1 = "/t/acme/api/v1"

// signingIn is everything that a browser does.
func (c *cloud) signingIn(admin string) {
	user := c.call(admin, 201, "POST", v1+"/users", `{"email":"ada@acme.test"}`)
	temporary := user.member("tempPassword")
	b := browser{}
	start := func(more ...string) reply {
		return c.visit(b, 200, c.visit(b, 303, authorize("acme", more...)).Header().Get("Location"))
	}
	c.submit(b, 403, "/t/acme/login", start(), "username", "ada@acme.test", "password", "wrong")
	c.submit(b, 403, "/t/acme/login", start(), "username", "nobody@acme.test", "password", "wrong")
	c.post(b, 403, "/t/acme/login", "username", "ada@acme.test")
	to := c.submit(b, 303, "/t/acme/login", start(), "username", "ada@acme.test", "password", temporary).Header().Get("Location")
	page := c.visit(b, 200, to)
	c.visit(b, 404, "/t/acme/password?login=x")
	c.submit(b, 422, "/t/acme/password", page, "new", password, "repeat", "other")
	c.submit(b, 422, "/t/acme/password", page, "new", "short", "repeat", "short")
	c.code(c.submit(b, 303, "/t/acme/password", page, "new", password, "repeat", password))
	c.submit(b, 404, "/t/acme/password", page, "new", password, "repeat", password)

	// Signed in: at once, until the session has to be written to again, and with another session in the place of the old one.
	c.code(c.visit(b, 303, authorize("acme", "prompt", "none")))
	c.pass(2 * time.Minute)
	c.cold()
	c.visit(b, 200, "/t/acme/")
	c.visit(b, 303, "/t/acme")
	c.visit(nil, 404, "/t/nobody")
	c.visit(nil, 404, "/t/nobody/")
	c.visit(b, 400, "/t/acme/authorize")
	c.post(b, 303, "/t/acme/authorize", "client_id", "fleetpass-cli")
	c.send(b, 400, "POST", "/t/acme/authorize", "text/plain", "x", "")
	c.submit(b, 303, "/t/acme/login", start("prompt", "login"), "username", "ada@acme.test", "password", password)
	c.submit(b, 303, "/t/acme/login", c.visit(b, 200, c.visit(b, 303, "/t/acme/login").Header().Get("Location")), "username", "ada@acme.test", "password", password)
	c.visit(b, 404, "/t/acme/login?login=x")

	// Signing out: asked, told by a client, posted from elsewhere, and twice.
	c.redeem("acme", c.code(c.visit(b, 303, authorize("acme"))), 200)
	ask := c.visit(b, 200, "/t/acme/logout?state=x")
	c.post(b, 403, "/t/acme/logout", "token", "x")
	c.submit(b, 200, "/t/acme/logout", ask)
	c.post(b, 200, "/t/acme/logout", "token", "x")
	c.post(nil, 303, "/t/acme/logout", "client_id", "fleetpass-cli")
	c.signIn(b, "acme", "ada@acme.test")
	id := c.redeem("acme", c.code(c.visit(b, 303, authorize("acme"))), 200).member("id_token")
	c.visit(b, 200, "/t/acme/logout?id_token_hint="+id)
	c.visit(nil, 404, "/t/nobody/logout")
	c.visit(b, 200, "/t/acme/logout?post_logout_redirect_uri=https://evil.example")

	// Too often.
	for range 12 {
		page := start("prompt", "login")
		r := c.try(b, "/t/acme/login", page, "username", "admin@acme.test", "password", "wrong")
		if r == 429 {
			break
		}
	}
	c.pass(time.Hour)
	// A session that was left alone ends.
	c.signIn(b, "acme", "ada@acme.test")
	c.pass(3 * time.Hour)
	c.visit(b, 303, "/t/acme/")
	c.minutes(1)
}

// try submits a form, whatever comes of it.
func (c *cloud) try(b browser, path string, page reply, form ...string) int {
	c.Helper()
	for _, m := range hiddenField.FindAllStringSubmatch(page.Body.String(), -1) {
		form = append(form, m[1], m[2])
	}
	r := httptest.NewRequestWithContext(c.Context(), "POST", "https://fleet.test"+path, strings.NewReader(pairs(form...).Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, cookie := range b {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	c.functions["login"].handler.ServeHTTP(w, r)
	return w.Code
}
