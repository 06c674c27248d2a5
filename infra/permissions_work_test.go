package infra_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/events"
)

// holdings is what administration made, for the stories after it.
type holdings struct{ app, secret, key, keySecret, cluster, rsa, department, project string }

// admin is a fresh token of acme's administrator.
func (c *cloud) admin() string {
	if now := c.clock(); c.bearer == "" || now.Sub(c.bearerAt) > 8*time.Minute {
		c.bearer, c.bearerAt = c.token("acme", "admin@acme.test"), now
	}
	return c.bearer
}

// do calls an endpoint of the administrators' API as acme's administrator.
func (c *cloud) do(status int, method, path, body string) reply {
	c.Helper()
	return c.call(c.admin(), status, method, v1+path, body)
}

// administration calls every endpoint of the administrators of a tenant, with good and with bad ends.
func (c *cloud) administration(string) (h holdings) {
	soon := c.clock().Add(72 * time.Hour)
	// The tree.
	h.cluster = c.do(201, "POST", "/clusters", `{"name":"gpu","server":"https://gpu.test"}`).member("uuid")
	c.do(409, "POST", "/clusters", `{"name":"gpu","server":"https://gpu.test"}`)
	h.rsa = c.do(201, "POST", "/clusters", `{"name":"eks","server":"https://eks.test","algorithm":"RS256"}`).member("uuid")
	agent := c.do(201, "POST", "/clusters", `{"name":"agent","mode":"agent"}`).member("uuid")
	h.department = c.do(201, "POST", "/org-unit/departments", `{"name":"research","clusterId":"`+h.cluster+`"}`).member("id")
	teaching := c.do(201, "POST", "/org-unit/departments", `{"name":"teaching","clusterId":"`+h.cluster+`"}`).member("id")
	h.project = c.do(201, "POST", "/org-unit/projects", `{"name":"vision","parentId":"`+h.department+`"}`).member("id")
	deep := c.do(201, "POST", "/org-unit/projects", `{"name":"deep","parentId":"`+teaching+`"}`).member("id")
	c.do(refused, "POST", "/org-unit/departments", `{"name":"research","clusterId":"`+h.cluster+`"}`)
	c.do(refused, "POST", "/org-unit/projects", `{"name":"vision","parentId":"`+h.department+`"}`)
	for path, id := range map[string]string{"/clusters": h.cluster, "/org-unit/departments": h.department, "/org-unit/projects": h.project} {
		c.do(200, "GET", path, "")
		c.do(400, "GET", path+"?x=y", "")
		c.do(200, "GET", path+"/"+id, "")
		c.do(404, "GET", path+"/absent", "")
		c.do(404, "PUT", path+"/absent", `{"name":"x"}`)
		c.do(404, "DELETE", path+"/absent", "")
	}
	c.do(200, "PUT", "/clusters/"+h.cluster, `{"name":"gpu-1","server":"https://gpu.test"}`)
	c.do(200, "PUT", "/clusters/"+agent, `{"name":"agent","server":"https://agent.test"}`)
	c.do(200, "PUT", "/org-unit/departments/"+h.department, `{"name":"science"}`)
	c.do(200, "PUT", "/org-unit/projects/"+h.project, `{"name":"seeing","parentId":"`+teaching+`"}`)
	c.do(200, "PUT", "/org-unit/projects/"+h.project, `{"name":"seeing","parentId":"`+h.department+`"}`)
	for _, doc := range []string{"status", "bootstrap", "authentication-configuration"} {
		c.do(200, "GET", "/clusters/"+h.cluster+"/"+doc, "")
		c.do(404, "GET", "/clusters/absent/"+doc, "")
	}
	c.do(202, "POST", "/clusters/"+h.cluster+"/reconcile", "")
	c.do(404, "POST", "/clusters/absent/reconcile", "")

	// People and groups.
	bob := c.do(201, "POST", "/users", `{"email":"bob@acme.test"}`).member("id")
	c.do(refused, "POST", "/users", `{"email":"bob@acme.test"}`)
	c.do(200, "GET", "/users", "")
	c.do(400, "GET", "/users?x=y", "")
	c.do(200, "GET", "/users/"+bob, "")
	c.do(404, "GET", "/users/absent", "")
	c.do(200, "PATCH", "/users/"+bob, `{"firstName":"Bob","uid":1001,"gid":1002,"supplementaryGroups":[2001]}`)
	c.do(404, "PATCH", "/users/absent", `{"firstName":"Bob"}`)
	c.do(200, "POST", "/users/"+bob+"/password", "")
	c.do(404, "POST", "/users/absent/password", "")
	c.do(204, "POST", "/users/"+bob+"/logout", "")
	c.do(404, "POST", "/users/absent/logout", "")
	for _, g := range []string{"team", "club", "gone"} {
		c.do(201, "POST", "/groups", `{"name":"`+g+`"}`)
		c.do(204, "PUT", "/groups/"+g+"/members/bob@acme.test", "")
		c.do(204, "PUT", "/groups/"+g+"/members/ada@acme.test", "")
		c.do(204, "PUT", "/groups/"+g+"/members/admin@acme.test", "")
	}
	c.do(refused, "POST", "/groups", `{"name":"team"}`)
	c.do(200, "GET", "/groups", "")
	c.do(200, "GET", "/groups/team", "")
	c.do(200, "GET", "/groups/team/members", "")
	c.do(refused, "GET", "/groups/absent", "")
	c.do(refused, "GET", "/groups/absent/members", "")
	c.do(400, "GET", "/groups?x=y", "")
	c.do(refused, "PUT", "/groups/absent/members/bob@acme.test", "")
	c.do(204, "DELETE", "/groups/club/members/bob@acme.test", "")
	c.do(refused, "DELETE", "/groups/absent/members/bob@acme.test", "")
	c.do(200, "GET", "/me", "")
	c.call("x", 401, "GET", v1+"/me", "")

	// Applications, under each of their names.
	for _, noun := range []string{"/apps", "/service-accounts"} {
		made := c.do(201, "POST", noun, `{"name":"robot`+noun[1:]+`","redirectUris":["https://app.test/cb"],"postLogoutRedirectUris":["https://app.test/bye"]}`)
		id := made.member("clientId")
		c.do(refused, "POST", noun, `{"name":"robot`+noun[1:]+`"}`)
		c.do(200, "GET", noun, "")
		c.do(400, "GET", noun+"?x=y", "")
		c.do(200, "GET", noun+"/"+id, "")
		c.do(200, "PATCH", noun+"/"+id, `{"redirectUris":["https://app.test/cb"],"postLogoutRedirectUris":["https://app.test/bye"]}`)
		c.do(200, "PATCH", noun+"/"+id, `{"enabled":false}`)
		c.do(200, "PATCH", noun+"/"+id, `{"enabled":true}`)
		h.app, h.secret = id, c.do(200, "POST", noun+"/"+id+"/secret", "").member("clientSecret")
		for _, q := range [][3]string{{"GET", "", ""}, {"PATCH", "", `{"enabled":true}`}, {"POST", "/secret", ""}, {"DELETE", "", ""}} {
			c.do(404, q[0], noun+"/absent"+q[1], q[2])
		}
		spare := c.do(201, "POST", noun, `{"name":"spare`+noun[1:]+`"}`).member("clientId")
		c.do(201, "POST", "/authorization/access-rules", c.rule("app", spare, 5, h.project, "project", time.Time{}))
		c.do(204, "DELETE", noun+"/"+spare, "")
	}

	// Access keys, under each of their names.
	only := c.do(201, "POST", "/access-keys", `{"name":"only"}`).member("id")
	c.do(204, "DELETE", "/access-keys/"+only, "")
	for _, noun := range []string{"/user-applications", "/access-keys"} {
		made := c.do(201, "POST", noun, `{"name":"laptop`+noun[1:]+`"}`)
		id := made.member("clientId")
		c.do(refused, "POST", noun, `{"name":"laptop`+noun[1:]+`"}`)
		c.do(200, "GET", noun, "")
		c.do(400, "GET", noun+"?x=y", "")
		c.do(200, "GET", noun+"/"+id, "")
		c.do(200, "PATCH", noun+"/"+id, `{"enabled":false}`)
		c.do(200, "PATCH", noun+"/"+id, `{"enabled":true}`)
		secret := c.do(200, "POST", noun+"/"+id+"/secret", "").member("clientSecret")
		for _, q := range [][3]string{{"GET", "", ""}, {"PATCH", "", `{"enabled":true}`}, {"POST", "/secret", ""}, {"DELETE", "", ""}} {
			c.do(404, q[0], noun+"/ak-absent"+q[1], q[2])
		}
		if h.key != "" {
			c.do(204, "DELETE", noun+"/"+h.key, "")
		}
		h.key, h.keySecret = id, secret
	}
	spareKey := c.do(201, "POST", "/access-keys", `{"name":"spare"}`).member("id")
	c.do(200, "GET", "/administration/access-keys", "")
	c.do(400, "GET", "/administration/access-keys?x=y", "")
	c.do(204, "DELETE", "/administration/access-keys/"+spareKey, "")
	c.do(404, "DELETE", "/administration/access-keys/"+spareKey, "")

	// Access.
	const rules = "/authorization/access-rules"
	rule := c.do(201, "POST", rules, c.rule("group", "team", 5, h.project, "project", time.Time{})).member("id")
	c.do(refused, "POST", rules, c.rule("group", "team", 5, "absent", "project", time.Time{}))
	for _, r := range []string{
		c.rule("user", "ada@acme.test", 5, h.department, "department", soon), c.rule("user", "bob@acme.test", 1, "acme", "tenant", time.Time{}),
		c.rule("service-account", h.app, 5, h.cluster, "cluster", time.Time{}), c.rule("group", "gone", 5, "acme", "tenant", time.Time{}),
		c.rule("user", "ada@acme.test", 5, h.rsa, "cluster", c.clock().Add(90*time.Second)), // too short for the schedule alone
		c.rule("group", "team", 5, deep, "project", time.Time{}), c.rule("group", "team", 5, h.department, "department", time.Time{}),
	} {
		c.do(201, "POST", rules, r)
	}
	c.do(200, "GET", rules, "")
	c.do(200, "GET", rules+"?subjectType=group", "")
	c.do(200, "GET", rules+"?subjectIds=ada@acme.test", "")
	c.do(400, "GET", rules+"?x=y", "")
	c.do(200, "GET", rules+"/count", "")
	c.do(400, "GET", rules+"/count?x=y", "")
	c.do(200, "GET", rules+"/"+rule, "")
	c.do(404, "GET", rules+"/999", "")
	c.do(404, "DELETE", rules+"/999", "")
	c.do(200, "GET", "/authorization/me/access-rules", "")
	c.do(400, "GET", "/authorization/me/access-rules?x=y", "")
	c.do(200, "GET", "/authorization/roles", "")
	c.do(400, "GET", "/authorization/roles?x=y", "")
	c.do(200, "GET", "/authorization/roles/5", "")
	c.do(404, "GET", "/authorization/roles/999", "")
	c.do(200, "GET", "/authorization/permissions", "")
	c.do(400, "GET", "/authorization/permissions?x=y", "")
	for _, kind := range []string{"project", "department", "cluster"} {
		c.do(200, "POST", "/authorization/permitted-scopes", `{"resourceType":"`+kind+`","action":"read"}`)
	}
	c.do(400, "POST", "/authorization/permitted-scopes", `{}`)

	// The tenant itself.
	c.do(200, "GET", "/tenant/settings", "")
	c.do(400, "GET", "/tenant/settings?x=y", "")
	c.do(200, "PUT", "/tenant/settings", `{"idleTimeout":3600,"absoluteLifetime":43200,"accessTokenLife":600,"clusterTokenLife":300,"passwordGrant":true}`)
	c.do(400, "PUT", "/tenant/settings", `{}`)
	c.do(200, "GET", "/keys", "")
	c.do(400, "GET", "/keys?x=y", "")
	c.do(404, "POST", "/keys/absent/revoke", "")
	c.do(200, "GET", "/audit/log", "")
	c.do(200, "GET", "/audit/log?limit=1", "")
	c.do(400, "GET", "/audit/log?x=y", "")
	c.minutes(2)
	for _, path := range []string{"/audit/log/file", "/audit/chain", "/audit/chain/places"} { // by now something is sealed
		c.do(200, "GET", path, "")
		c.do(400, "GET", path+"?x=y", "")
	}

	// Those who may do little, and see little.
	c.cold()
	ada := c.token("acme", "ada@acme.test")
	for _, path := range []string{"/clusters", "/org-unit/projects", "/me", "/authorization/permissions"} {
		c.call(ada, 200, "GET", v1+path, "")
	}
	for _, path := range []string{"/users", "/keys", "/audit/log", "/tenant/settings", "/groups", "/apps", rules} {
		c.call(ada, refused, "GET", v1+path, "")
	}
	c.call(ada, refused, "POST", v1+rules, c.rule("user", "ada@acme.test", 1, "acme", "tenant", time.Time{}))
	c.call(ada, 400, "POST", v1+"/me/password", `{"currentPassword":"wrong","newPassword":"`+password+`"}`)
	c.call(ada, 204, "POST", v1+"/me/password", `{"currentPassword":"`+password+`","newPassword":"`+password+`!"}`)
	c.call(ada, 401, "GET", v1+"/me", "")
	return h
}

// form posts to the token function.
func (c *cloud) form(status int, path string, of ...string) reply {
	c.Helper()
	return c.post(nil, status, "/t/acme"+path, of...)
}

// tokens is everything that clients do.
func (c *cloud) tokens(h holdings) {
	const exchange, access = "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:token-type:access_token"
	cli := []string{"client_id", "fleetpass-cli"}
	app := []string{"client_id", h.app, "client_secret", h.secret}
	with := func(client []string, more ...string) []string { return append(slices.Clone(client), more...) }
	b := browser{}
	code := c.signIn(b, "acme", "admin@acme.test")
	held := c.redeem("acme", code, 200)
	c.redeem("acme", code, 400) // a code that is used again ends what came of it
	c.redeem("acme", "x", 400)
	c.form(400, "/token", with(cli, "grant_type", "refresh_token", "refresh_token", held.member("refresh_token"))...)
	held = c.redeem("acme", c.code(c.visit(b, 303, authorize("acme"))), 200)
	c.cold()
	c.pass(time.Minute)
	next := c.form(200, "/token", with(cli, "grant_type", "refresh_token", "refresh_token", held.member("refresh_token"))...)
	c.pass(5 * time.Minute)
	c.form(400, "/token", with(cli, "grant_type", "refresh_token", "refresh_token", held.member("refresh_token"))...) // a stolen one ends the family
	c.form(400, "/token", with(cli, "grant_type", "refresh_token", "refresh_token", next.member("refresh_token"))...)
	c.form(400, "/token", with(cli, "grant_type", "device_code")...)

	for _, path := range []string{"/token", "/api/v2/token"} {
		c.cold()
		c.form(200, path, with(app, "grant_type", "client_credentials")...)
		c.form(401, path, "client_id", h.app, "client_secret", "wrong", "grant_type", "client_credentials")
		c.pass(2 * time.Hour)
	}
	// A person's program, with an access key.
	c.cold()
	key := []string{"client_id", h.key, "client_secret", h.keySecret}
	night := c.form(200, "/token", with(key, "grant_type", "client_credentials")...).member("access_token")
	c.form(401, "/token", "client_id", h.key, "client_secret", "wrong", "grant_type", "client_credentials")
	c.form(200, "/token", with(key, "grant_type", exchange, "subject_token", night, "subject_token_type", access, "audience", h.cluster)...)
	c.form(200, "/introspect", with(app, "token", night)...)
	c.call(night, 200, "GET", v1+"/me", "")
	c.form(200, "/revoke", with(key, "token", night)...)
	c.form(200, "/revoke", with(key, "token", "x")...)
	c.call(night, 401, "GET", v1+"/me", "")

	body := func(b string) string { return fmt.Sprintf(b, h.app, h.secret) }
	c.send(nil, 200, "POST", "/t/acme/api/v1/token", "application/json", body(`{"grantType":"client_credentials","clientId":%q,"clientSecret":%q}`), "")
	c.send(nil, refused, "POST", "/t/acme/api/v1/token", "application/json", body(`{"grantType":"client_credentials","clientId":%q,"clientSecret":"wrong %s"}`), "")
	c.form(200, "/token", with(cli, "grant_type", "password", "username", "admin@acme.test", "password", password, "scope", "openid offline_access")...)
	c.form(400, "/token", with(cli, "grant_type", "password", "username", "admin@acme.test", "password", "wrong")...)

	// A web application's code, with its secret, and its way out.
	web := browser{}
	c.signIn(web, "acme", "admin@acme.test")
	code = c.code(c.visit(web, 303, authorize("acme", "client_id", h.app, "redirect_uri", "https://app.test/cb")))
	id := c.form(200, "/token", with(app, "grant_type", "authorization_code", "redirect_uri", "https://app.test/cb", "code_verifier", verifier, "code", code)...).member("id_token")
	c.visit(web, 303, "/t/acme/logout?post_logout_redirect_uri=https://app.test/bye&id_token_hint="+id)

	// Exchange, for people and for applications, to either kind of key.
	robot := c.form(200, "/token", with(app, "grant_type", "client_credentials")...).member("access_token")
	held = c.redeem("acme", c.signIn(browser{}, "acme", "admin@acme.test"), 200)
	for _, cluster := range []string{h.cluster, h.rsa} {
		c.cold()
		c.form(200, "/token", with(cli, "grant_type", exchange, "subject_token", held.member("access_token"), "subject_token_type", access, "audience", cluster)...)
		c.form(200, "/token", with(app, "grant_type", exchange, "subject_token", robot, "subject_token_type", access, "audience", cluster)...)
	}
	c.form(400, "/token", with(cli, "grant_type", exchange, "subject_token", held.member("access_token"), "subject_token_type", access, "audience", "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f")...)

	// Asking about tokens, and ending them.
	for _, method := range []string{"GET", "POST"} {
		c.call(held.member("access_token"), 200, method, "/t/acme/userinfo", "")
		c.call("x", 401, method, "/t/acme/userinfo", "")
	}
	for _, token := range []string{held.member("access_token"), held.member("refresh_token"), robot, "x"} {
		c.form(200, "/introspect", with(app, "token", token)...)
	}
	c.form(401, "/introspect", with(cli, "token", robot)...)
	c.form(200, "/revoke", with(cli, "token", held.member("access_token"))...)
	held = c.redeem("acme", c.signIn(browser{}, "acme", "admin@acme.test"), 200)
	c.form(200, "/revoke", with(cli, "token", held.member("refresh_token"))...)
	c.form(200, "/revoke", with(cli, "token", held.member("refresh_token"))...)
	c.form(400, "/revoke", with(app, "token", robot)...)
	c.form(401, "/revoke", "client_id", h.app, "client_secret", "wrong", "token", robot)

	// What every verifier reads.
	for _, path := range []string{"/t/%s/jwks", "/t/%s/.well-known/openid-configuration", "/t/%s/.well-known/oauth-authorization-server",
		"/.well-known/openid-configuration/t/%s", "/.well-known/oauth-authorization-server/t/%s", "/.well-known/authzen-configuration/t/%s", "/t/%s/.well-known/authzen-configuration"} {
		c.cold()
		c.visit(nil, 200, fmt.Sprintf(path, "acme"))
		c.visit(nil, 404, fmt.Sprintf(path, "NOBODY"))
		c.try404(fmt.Sprintf(path, "nobody"))
	}
}

// try404 asks for a tenant that there is not.
func (c *cloud) try404(path string) { c.Helper(); c.visit(nil, refused, path) }

// questions asks evaluate and kubeconfig, as everybody who may.
func (c *cloud) questions(h holdings) {
	robot := c.form(200, "/token", "client_id", h.app, "client_secret", h.secret, "grant_type", "client_credentials").member("access_token")
	ask := func(kind, id, scope string) string {
		return fmt.Sprintf(`{"subject":{"type":%q,"id":%q},"action":{"name":"view"},"resource":{"type":"workloads","id":%q}}`, kind, id, scope)
	}
	const at = "/t/acme/access/v1/evaluation"
	night := c.form(200, "/token", "client_id", h.key, "client_secret", h.keySecret, "grant_type", "client_credentials").member("access_token")
	for _, bearer := range []string{c.admin(), robot, night} {
		c.cold()
		for _, scope := range []string{"acme", h.cluster, h.department, h.project, "absent"} {
			for _, subject := range [][2]string{{"user", "admin@acme.test"}, {"user", "ada@acme.test"}, {"user", "nobody@acme.test"}, {"group", "team"}, {"application", h.app}} {
				q := ask(subject[0], subject[1], scope)
				c.call(bearer, either, "POST", at, q)
				c.call(bearer, either, "POST", at+"s", `{"evaluations":[`+q+","+q+`]}`)
				for _, what := range []string{"subject", "resource", "action"} {
					c.call(bearer, either, "POST", "/t/acme/access/v1/search/"+what, q)
				}
			}
		}
		c.call(bearer, 200, "POST", at, ask("application", h.app, h.cluster))
		c.call(bearer, 200, "POST", at+"s", `{"evaluations":[`+ask("application", h.app, h.cluster)+`]}`)
		c.call(bearer, 400, "POST", at, `{}`)
		c.call(bearer, 400, "POST", at+"s", `{}`)
		for _, what := range []string{"subject", "resource", "action"} {
			c.call(bearer, 400, "POST", "/t/acme/access/v1/search/"+what, `{}`)
		}
		c.call(bearer, 200, "GET", v1+"/kubeconfig", "")
		c.call(bearer, 400, "GET", v1+"/kubeconfig?x=y", "")
	}
}

// clustersFail is what sync does where clusters, and people in them, do what they should not; and what becomes of it.
func (c *cloud) clustersFail(h holdings) {
	id := core.ClusterID(h.cluster)
	n := 0
	rule := func() string { // for a person who may come later
		n++
		return c.do(201, "POST", "/authorization/access-rules", c.rule("user", fmt.Sprintf("new%d@acme.test", n), 5, h.project, "project", time.Time{})).member("id")
	}
	reconcile := func() { c.do(202, "POST", "/clusters/"+h.cluster+"/reconcile", ""); c.later(1) }
	c.minutes(1)
	taken := rule()
	c.do(204, "DELETE", "/authorization/access-rules/"+taken, "")
	memory := c.clusters[id]
	memory.Fault = func(ch kube.Change) synctest.Fault { return synctest.Lose } // what it did is not known, and is written anew
	rule()
	c.later(3)
	memory.Fault = nil
	c.later(3)
	// Objects of ours that somebody deleted or changed there.
	state, err := memory.Current(c.Context())
	c.must(err)
	for i, o := range state.Objects {
		switch {
		case o.Kind == kube.Namespace || i%3 == 0:
		case i%3 == 1:
			memory.Remove(o.Ref)
		default:
			o.Subjects = nil
			memory.Put(o)
		}
	}
	reconcile()
	// It cannot be had elsewhere while objects of ours are in it.
	c.do(400, "PUT", "/clusters/"+h.cluster, `{"name":"gpu-1","server":"https://elsewhere.test"}`)
	// One that refuses for good, and one that does not answer, until each is given up; then they are well again.
	for _, break_ := range []func(bool){
		func(on bool) {
			memory.Fault = nil
			if on {
				memory.Fault = func(kube.Change) synctest.Fault { return synctest.Refuse }
			}
		},
		func(on bool) { c.dead[id] = on },
	} {
		break_(true)
		rule()
		c.later(45)
		if c.do(200, "GET", "/sync/dead-letters", "").Body.String() == "[]\n" {
			c.Error("the cluster was not given up")
		}
		break_(false)
		reconcile()
	}
	c.dead[id] = true
	c.do(202, "POST", "/clusters/"+h.cluster+"/reconcile", "")
	c.later(45)
	c.do(good, "POST", "/sync/dead-letters/"+h.cluster+"/replay", "")
	c.later(45)
	c.do(good, "POST", "/sync/dead-letters/replay", "")
	c.later(45)
	c.do(204, "DELETE", "/sync/dead-letters/"+h.cluster, "")
	c.do(404, "DELETE", "/sync/dead-letters/"+h.cluster, "")
	c.do(404, "POST", "/sync/dead-letters/absent/replay", "")
	c.do(400, "POST", "/sync/dead-letters/replay", "x")
	c.do(400, "GET", "/sync/dead-letters?x=y", "")
	c.dead[id] = false
	reconcile()
}

// later lets clusters be tried again, minute by minute, without the schedule.
func (c *cloud) later(minutes int) {
	c.Helper()
	for range minutes {
		c.pass(time.Minute)
		c.settle()
	}
}

// eventsFail is what dispatch does with what it cannot read.
func (c *cloud) eventsFail() {
	d := c.functions["dispatch"]
	handle := func(tenant string, fact events.Fact) {
		body, err := events.Encode(events.Envelope{ID: core.NewID(), Tenant: tenant, Time: c.clock()}, fact)
		c.must(err)
		c.must(d.Event(d.System)(c.Context(), body))
		c.settle()
	}
	c.must(d.Event(d.System)(c.Context(), []byte("{")))
	handle("NOBODY", events.TenantChanged{Change: "created"})
	handle("nobody", events.TenantChanged{Change: "created"})
	handle("acme", events.AccessChanged{Revision: 1, Clusters: []string{strings.Repeat("x", store.MaxKey)}})
	handle("acme", events.AccessChanged{Revision: 1, All: true})
	handle("acme", events.UserChanged{Revision: 1, User: "gone", Change: "deleted"})
	c.do(200, "GET", "/sync/dead-letters", "")
	c.do(good, "POST", "/sync/dead-letters/replay", "")
	c.settle()
}

// lives is what time brings: to rules, people, keys, scopes, tenants.
func (c *cloud) lives(h holdings) {
	soon := c.clock().Add(10 * time.Minute)
	for _, scope := range [][2]string{{"acme", "tenant"}, {h.cluster, "cluster"}, {h.project, "project"}} {
		c.do(201, "POST", "/authorization/access-rules", c.rule("user", "bob@acme.test", 5, scope[0], scope[1], soon))
	}
	c.cold()
	c.minutes(12)
	// People and applications that are disabled, enabled and deleted, with and without rules.
	for _, email := range []string{"bob@acme.test", "ada@acme.test"} {
		id := c.userID(email)
		c.do(200, "PATCH", "/users/"+id, `{"enabled":false}`)
		c.do(200, "PATCH", "/users/"+id, `{"enabled":true}`)
		c.do(204, "DELETE", "/users/"+id, "")
		c.do(404, "DELETE", "/users/"+id, "")
	}
	c.do(204, "DELETE", "/groups/gone", "")
	c.do(404, "DELETE", "/groups/gone", "")
	c.minutes(25) // what was emptied is reaped
	c.do(202, "POST", "/clusters/"+h.cluster+"/reconcile", "")
	c.later(2)

	// Scopes that go, with what is in them.
	c.do(409, "DELETE", "/org-unit/departments/"+h.department, "")
	c.do(204, "DELETE", "/org-unit/projects/"+h.project, "")
	c.do(204, "DELETE", "/org-unit/departments/"+h.department+"?cascade=true", "")
	c.cold()
	c.minutes(3)
	c.do(201, "POST", "/authorization/access-rules", c.rule("group", "team", 5, h.cluster, "cluster", time.Time{}))
	c.do(204, "DELETE", "/clusters/"+h.cluster+"?cascade=true", "")
	c.cold()
	c.minutes(40)

	// A key's life: its successor is published, takes over, and it retires. One is revoked.
	c.pass(28 * 24 * time.Hour)
	for range 5 {
		c.minutes(1)
		c.pass(24 * time.Hour)
	}
	c.cold()
	for _, alg := range []string{"ES256", "RS256"} {
		for _, k := range strings.Split(c.do(200, "GET", "/keys", "").Body.String(), "{")[1:] {
			if strings.Contains(k, alg) && strings.Contains(k, `"signs":true`) {
				_, rest, _ := strings.Cut(k, `"kid":"`)
				kid, _, _ := strings.Cut(rest, `"`)
				c.do(204, "POST", "/keys/"+kid+"/revoke", "")
				c.bearer = "" // it was signed with that key, as all are until the others have heard of it
				c.later(2)
				break
			}
		}
	}
	c.do(200, "GET", "/me", "")
	c.minutes(2)
}
