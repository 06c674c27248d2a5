package infra_test

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// identityProviders connects the tenant to providers, has people sign in by them, and has everything go wrong that can. An
// answer of the provider of the stories is "EMAIL ID WORD": see provider.
func (c *cloud) identityProviders(h holdings) {
	c.connect()
	c.test()
	c.signInBySAML()
	c.signInByOpenID()
	c.security()
	c.link()
	c.readAgain()
	c.disconnect()
}

const (
	saml      = `{"name":"Corp","alias":"corp","type":"saml","domains":["corp.test"],"samlData":{"metadataXmlUrl":"https://idp.test/metadata","idpInitiated":true}}`
	openID    = `{"name":"Partner","alias":"partner","type":"oidc","domains":["partner.test"],"oidcData":{"clientId":"fleetpass","clientSecret":"0123456789abcdef","discoverDocumentUrl":"https://idp.test/.well-known/openid-configuration"}}`
	openShift = `{"name":"Cluster","alias":"cluster","type":"openshift-v4","ocpData":{"clientId":"fleetpass","clientSecret":"0123456789abcdef","idpBaseUrl":"https://api.test:6443"}}`
)

// connect calls every endpoint about connections, with good and with bad ends.
func (c *cloud) connect() {
	for _, body := range []string{saml, openID, openShift} {
		c.cold()
		c.do(201, "POST", "/idps", body)
		c.do(refused, "POST", "/idps", body)
	}
	c.do(200, "GET", "/idps", "")
	c.do(400, "GET", "/idps?x=y", "")
	for _, one := range [][2]string{{"corp", saml}, {"partner", openID}, {"cluster", openShift}} {
		alias, body := one[0], one[1]
		c.cold()
		c.do(200, "GET", "/idps/"+alias, "")
		c.do(200, "PUT", "/idps/"+alias, body)
		c.do(200, "GET", "/idps/"+alias+"/mappers", "")
		c.do(202, "PUT", "/idps/"+alias+"/mappers", `{}`)
		c.do(200, "POST", "/idps/"+alias+"/refresh", "")
	}
	for range 2 { // the second ends the rollover
		c.cold()
		c.do(200, "POST", "/idps/corp/keys", "")
	}
	for _, q := range [][3]string{
		{"GET", "", ""}, {"PUT", "", saml}, {"DELETE", "", ""}, {"GET", "/mappers", ""}, {"PUT", "/mappers", `{}`},
		{"POST", "/keys", ""}, {"POST", "/refresh", ""}, {"POST", "/test", ""},
	} {
		c.do(404, q[0], "/idps/absent"+q[1], q[2])
	}
	c.visit(nil, 200, "/t/acme/saml/corp/metadata")
	c.visit(nil, 404, "/t/acme/saml/absent/metadata")
}

// state is what a provider is given to send along with its answer.
func (c *cloud) state(r reply) string {
	c.Helper()
	u, err := url.Parse(r.Header().Get("Location"))
	c.must(err)
	if u.Host != "idp.test" || u.Query().Get("state") == "" {
		c.Fatalf("goes to %s, not to the provider", u)
	}
	return u.Query().Get("state")
}

// depart has a browser choose a connection and returns the state that it leaves with.
func (c *cloud) depart(b browser, alias string, more ...string) string {
	c.Helper()
	to, err := url.Parse(c.visit(b, 303, authorize("acme", more...)).Header().Get("Location"))
	c.must(err)
	c.visit(b, either, to.RequestURI())
	c.cold()
	return c.state(c.visit(b, 303, "/t/acme/sso?"+pairs("login", to.Query().Get("login"), "idp", alias).Encode()))
}

// answer brings a provider's answer, and returns where the browser goes on.
func (c *cloud) answer(status int, alias, state, words string) string {
	c.Helper()
	c.cold()
	if alias == "corp" {
		form := []string{"SAMLResponse", words}
		if state != "" {
			form = append(form, "RelayState", state)
		}
		return c.post(nil, status, "/t/acme/saml/corp/acs", form...).Header().Get("Location")
	}
	return c.visit(nil, status, "/t/acme/oidc/"+alias+"/callback?"+pairs("code", words, "state", state).Encode()).Header().Get("Location")
}

// test tries connections out with a link.
func (c *cloud) test() {
	for _, alias := range []string{"corp", "partner"} {
		person := "tess@" + alias + ".test"
		made := c.do(201, "POST", "/idps/"+alias+"/test", "")
		u, err := url.Parse(made.member("url"))
		c.must(err)
		b := browser{}
		c.cold()
		state := c.state(c.visit(b, 303, u.RequestURI()))
		c.visit(browser{}, refused, u.RequestURI())
		c.visit(b, 200, c.answer(303, alias, state, person+" t1 ok"))
		c.do(200, "GET", "/sso/traces/"+made.member("trace"), "")
	}
	c.do(200, "GET", "/sso/traces?limit=1", "")
	c.do(400, "GET", "/sso/traces?x=y", "")
	c.do(404, "GET", "/sso/traces/absent", "")
	c.visit(browser{}, 404, "/t/acme/sso/test?test=x")
}

func (c *cloud) signInBySAML() {
	b := browser{}
	c.visit(b, 404, "/t/acme/sso?login=x&idp=corp")
	c.visit(b, 404, "/t/acme/sso/finish?answer=x")
	c.post(b, 403, "/t/acme/sso/finish", "answer", "x")
	state := c.depart(b, "corp")
	to := c.answer(303, "corp", state, "sam@corp.test s1 ok")
	c.visit(browser{}, refused, to) // a browser that did not begin
	c.cold()
	held := c.redeem("acme", c.code(c.visit(b, 303, to)), 200)
	c.visit(b, 404, to)
	c.form(200, "/token", "client_id", "fleetpass-cli", "grant_type", "refresh_token", "refresh_token", held.member("refresh_token"))
	c.code(c.visit(b, 303, authorize("acme", "prompt", "none"))) // signed in
	c.cold()
	c.do(200, "GET", "/sso/traces", "")
	// The e-mail picks the connection, and one whose domain nobody owns picks the one for all others.
	for _, email := range []string{"sam@corp.test", "someone@elsewhere.test"} {
		b := browser{}
		page := c.visit(b, 200, c.visit(b, 303, authorize("acme")).Header().Get("Location"))
		c.submit(b, 200, "/t/acme/login", page, "username", email)
	}

	// Answers that are refused: wrong ones, one twice, of nobody's sign-in, of somebody else's domain, of somebody local.
	c.answer(403, "corp", c.depart(browser{}, "corp"), "sam@corp.test s2 bad")
	c.answer(403, "corp", c.depart(browser{}, "corp"), "sam@corp.test s1 ok")
	c.answer(403, "corp", c.depart(browser{}, "corp"), "sam@corp.test s1 bad")
	c.answer(403, "corp", c.depart(browser{}, "corp"), "sam@partner.test s3 ok")
	c.answer(403, "corp", "none", "sam@corp.test s4 bad")
	c.answer(403, "corp", state, "nothing")
	c.answer(404, "absent", state, "x")
	c.do(201, "POST", "/users", `{"email":"local@corp.test"}`)
	b = browser{}
	c.visit(b, 403, c.answer(303, "corp", c.depart(b, "corp"), "local@corp.test s5 ok"))

	// A key that is not known has the metadata read again, which may know it.
	c.pass(2 * time.Minute)
	c.idp.away, c.idp.new = true, true
	c.answer(403, "corp", c.depart(browser{}, "corp"), "sam@corp.test s7 key")
	c.idp.away, c.idp.left = false, true
	c.pass(2 * time.Minute)
	b = browser{}
	c.visit(b, 303, c.answer(303, "corp", c.depart(b, "corp"), "sam@corp.test s8 key"))
	c.idp.left = false

	// The provider begins: the person is asked.
	b = browser{}
	to = c.answer(303, "corp", "", "sam@corp.test s9 ok")
	c.submit(b, 303, "/t/acme/sso/finish", c.visit(b, 200, to))
	c.submit(b, 200, "/t/acme/logout", c.visit(b, 200, "/t/acme/logout"))
}

func (c *cloud) signInByOpenID() {
	for _, from := range [][2]string{{"cluster", "otto@elsewhere.test"}, {"partner", "pam@partner.test"}} {
		alias, email := from[0], from[1]
		refresh := func(status int, token string) reply {
			c.Helper()
			c.pass(20 * time.Second) // what was said a moment ago counts as said now
			c.cold()
			return c.form(status, "/token", "client_id", "fleetpass-cli", "grant_type", "refresh_token", "refresh_token", token)
		}
		b := browser{}
		state := c.depart(b, alias, "prompt", "login")
		to := c.answer(303, alias, state, email+" o1 ok")
		c.cold()
		token := c.redeem("acme", c.code(c.visit(b, 303, to)), 200).member("refresh_token")
		c.answer(403, alias, state, email+" o1 ok")
		c.answer(403, alias, c.depart(browser{}, alias), email+" o1 bad")
		c.answer(403, alias, c.depart(browser{}, alias), "pam@corp.test o1 ok")
		c.pass(2 * time.Minute)
		c.idp.new = !c.idp.new // another key, which what it publishes says
		c.answer(either, alias, c.depart(browser{}, alias), email+" o1 key")

		// Somebody local has the e-mail: what was kept goes.
		_, domain, _ := strings.Cut(email, "@")
		c.do(201, "POST", "/users", `{"email":"local@`+domain+`"}`)
		b = browser{}
		c.visit(b, 403, c.answer(303, alias, c.depart(b, alias), "local@"+domain+" o3 ok"))

		// Asked again: it vouches for the person, does not answer, does again, and then no more.
		token = refresh(200, token).member("refresh_token")
		c.idp.away = true
		refresh(503, token)
		c.idp.away, c.idp.left = false, true
		token = refresh(200, token).member("refresh_token")
		c.idp.left = false
		c.idp.out = true
		refresh(400, token)
		c.idp.out = false

		// Signing out, there too.
		b = browser{}
		c.code(c.visit(b, 303, c.answer(303, alias, c.depart(b, alias), email+" o2 ok")))
		c.cold()
		c.submit(b, 200, "/t/acme/logout", c.visit(b, 200, "/t/acme/logout"))
		c.visit(b, 200, "/t/acme/signed-out")
	}
	c.visit(nil, 404, "/t/nobody/signed-out")
}

// security changes who may sign in how. The stories' administrator has a password, and keeps it.
func (c *cloud) security() {
	c.bearer = "" // one that is good until the login page has its form again
	c.do(200, "GET", "/security/settings", "")
	c.do(400, "GET", "/security/settings?x=y", "")
	for _, s := range [][2]string{
		{"autoRedirectSSO", `{"enabled":true,"idpAlias":"corp"}`}, {"enforceSSO", `{"enabled":true,"breakGlass":["admin@acme.test"]}`},
		{"browserSessionTimeout", `{"idleTimeout":60}`}, {"logoutRedirectUri", `{"uri":"https://acme.test/bye"}`},
	} {
		c.cold()
		c.do(200, "PUT", "/security/settings/"+s[0], s[1])
		c.do(200, "GET", "/security/settings/"+s[0], "")
	}
	c.do(refused, "PUT", "/security/settings/enforceSSO", `{"enabled":true,"breakGlass":[]}`) // it would lock everybody out
	c.do(404, "PUT", "/security/settings/absent", `{}`)
	c.do(404, "GET", "/security/settings/absent", "")

	// The login page goes there by itself, and a password is refused to whom it is not for.
	b := browser{}
	c.state(c.visit(b, 303, c.onward(c.visit(b, either, c.visit(b, 303, authorize("acme")).Header().Get("Location")))))
	c.do(200, "PUT", "/security/settings/autoRedirectSSO", `{"enabled":false}`)
	page := c.visit(b, 200, c.visit(b, 303, authorize("acme")).Header().Get("Location"))
	c.submit(b, refused, "/t/acme/login", page, "username", "local@corp.test", "password", password)
	c.do(200, "PUT", "/security/settings/enforceSSO", `{"enabled":false}`)
	c.do(200, "PUT", "/security/settings/logoutRedirectUri", `{"uri":""}`)
}

// onward is where the login page sends a browser by itself.
func (c *cloud) onward(r reply) string {
	c.Helper()
	if to := r.Header().Get("Location"); to != "" {
		return to
	}
	_, rest, found := strings.Cut(r.Body.String(), `/t/acme/sso?`)
	query, _, _ := strings.Cut(rest, `"`)
	if !found {
		c.Fatalf("the page leads nowhere: %s", r.Body)
	}
	return "/t/acme/sso?" + strings.ReplaceAll(query, "&amp;", "&")
}

// link has a local person belong to a connection, and back.
func (c *cloud) link() {
	id := c.userID("local@corp.test")
	for _, alias := range []string{"corp", ""} {
		c.cold()
		c.do(200, "PUT", "/users/"+id+"/idp", fmt.Sprintf(`{"alias":%q}`, alias))
	}
	c.do(404, "PUT", "/users/absent/idp", `{"alias":"corp"}`)
	c.do(refused, "PUT", "/users/"+id+"/idp", `{"alias":"absent"}`)
	c.do(200, "PUT", "/users/"+id+"/idp", `{"alias":"corp"}`)
	b := browser{}
	c.visit(b, 303, c.answer(303, "corp", c.depart(b, "corp"), "local@corp.test l1 ok"))
}

func (c *cloud) userID(email string) string {
	c.Helper()
	for _, u := range strings.Split(c.do(200, "GET", "/users?limit=100", "").Body.String(), `{"id":"`)[1:] {
		if strings.Contains(u, `"`+email+`"`) {
			id, _, _ := strings.Cut(u, `"`)
			return id
		}
	}
	c.Fatalf("no %s", email)
	return ""
}

// readAgain lets the schedule read what providers publish: unchanged, not at all, and something new.
func (c *cloud) readAgain() {
	for _, step := range []func(){func() {}, func() { c.idp.away = true }, func() { c.idp.away, c.idp.new = false, !c.idp.new }} {
		step()
		c.pass(2 * time.Hour)
		c.cold()
		c.minutes(2)
	}
}

// disconnect disables a connection and takes it away, with people in it.
func (c *cloud) disconnect() {
	b := browser{}
	token := c.redeem("acme", c.code(c.visit(b, 303, c.answer(303, "partner", c.depart(b, "partner"), "pam@partner.test d1 ok"))), 200).member("refresh_token")
	state := c.depart(browser{}, "corp")
	c.do(200, "PUT", "/idps/corp", strings.Replace(saml, `{`, `{"enabled":false,`, 1))
	c.answer(404, "corp", state, "sam@corp.test d2 ok")
	for _, alias := range []string{"corp", "partner", "cluster"} {
		c.cold()
		c.do(204, "DELETE", "/idps/"+alias, "")
		c.do(404, "DELETE", "/idps/"+alias, "")
	}
	c.pass(20 * time.Second)
	c.form(400, "/token", "client_id", "fleetpass-cli", "grant_type", "refresh_token", "refresh_token", token)
	c.do(201, "POST", "/idps", strings.Replace(openID, `{`, `{"takesOver":"partner",`, 1)) // its people come along
	b = browser{}
	c.visit(b, 303, c.answer(303, "partner", c.depart(b, "partner"), "pam@partner.test d3 ok"))
	// A SAML provider of everybody whom no other connection names.
	c.do(201, "POST", "/idps", strings.Replace(saml, `"domains":["corp.test"],`, "", 1))
	b = browser{}
	c.visit(b, 303, c.answer(303, "corp", c.depart(b, "corp"), "sue@elsewhere.test d4 ok"))
	c.pass(2 * time.Hour)
	c.cold()
	c.minutes(2)

	// Somebody of a provider administers when the next administrator is welcomed.
	c.do(201, "POST", "/authorization/access-rules", c.rule("user", "sue@elsewhere.test", 1, "acme", "tenant", time.Time{}))
	u, err := url.Parse(c.call(c.token(system, "op@fleet.test"), 200, "POST", "/t/system/api/v1/tenants/acme/welcome-link", "").member("welcomeLink"))
	c.must(err)
	b = browser{}
	c.submit(b, 422, "/t/acme/welcome", c.visit(b, 200, u.RequestURI()), "username", "admin@acme.test", "new", password, "repeat", password)
}
