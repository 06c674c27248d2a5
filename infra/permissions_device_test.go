package infra_test

import (
	"fmt"
	"strings"
	"time"
)

// devices is everything that a device without a browser does, and the person who approves it.
func (c *cloud) devices() {
	const grant = "urn:ietf:params:oauth:grant-type:device_code"
	begin := func() reply {
		return c.form(200, "/device_authorization", "client_id", "fleetpass-cli", "scope", "openid offline_access")
	}
	poll := func(status int, d reply) {
		c.form(status, "/token", "client_id", "fleetpass-cli", "grant_type", grant, "device_code", d.member("device_code"))
	}
	c.form(refused, "/device_authorization", "client_id", "absent")
	c.form(400, "/token", "client_id", "fleetpass-cli", "grant_type", grant, "device_code", strings.Repeat("a", 52))
	d := begin()
	poll(400, d)
	b := browser{}
	page := c.visit(b, 200, c.visit(b, 303, "/t/acme/device?user_code="+d.member("user_code")).Header().Get("Location"))
	to := c.submit(b, 303, "/t/acme/login", page, "username", "admin@acme.test", "password", password).Header().Get("Location")
	c.cold()
	c.visit(nil, 404, "/t/nobody/device")
	typed := c.visit(b, 200, to)
	ask := c.submit(b, 200, "/t/acme/device", typed, "user_code", d.member("user_code"))
	c.submit(b, 404, "/t/acme/device", typed, "user_code", "BBBB-BBBB")
	c.post(b, 403, "/t/acme/device", "user_code", d.member("user_code"), "answer", "approve")
	c.submit(b, 200, "/t/acme/device", ask, "answer", "approve")
	c.pass(10 * time.Second)
	c.cold()
	poll(200, d)
	poll(400, d)
	d = begin()
	ask = c.submit(b, 200, "/t/acme/device", typed, "user_code", d.member("user_code"))
	c.submit(b, 200, "/t/acme/device", ask, "answer", "refuse")
	poll(400, d)
}

// conventions is what every list and every change of the administrators' API has in common, and what is done in batches.
func (c *cloud) conventions(h holdings) {
	const rules = "/authorization/access-rules"
	c.visit(nil, 200, v1+"/openapi.json")
	create := func(group string) string {
		return fmt.Sprintf(`{"payload":{"roleId":5,"subjects":[{"id":%q,"type":"group"}],"scopes":[{"id":%q,"type":"project"}]}}`, group, h.project)
	}
	c.do(200, "POST", rules+"/batch-create", create("night shift"))
	c.do(200, "POST", rules+"/batch-create?dryRun=true", create("day shift"))
	c.do(400, "POST", rules+"/batch-create", `{}`)
	rule := c.do(201, "POST", rules, c.rule("group", "early", 5, h.project, "project", time.Time{})).member("id")
	c.do(200, "POST", rules+"?dryRun=true", c.rule("group", "late", 12, h.project, "project", time.Time{}))
	c.do(200, "DELETE", rules+"/"+rule+"?dryRun=true", "")
	c.do(200, "POST", rules+"/batch", `{"ids":[`+rule+`],"action":"validate_delete"}`)
	c.do(200, "POST", rules+"/batch", `{"ids":[`+rule+`],"action":"delete"}`)
	c.do(400, "POST", rules+"/batch", `{"ids":[],"action":"delete"}`)
	c.do(200, "GET", rules+"?includeDeleted=true", "")
	c.do(200, "GET", rules+"?lastUpdated="+c.clock().Add(-time.Hour).Format(time.RFC3339), "")
	c.do(200, "GET", "/authorization/me/access-rules/count", "")
	c.do(400, "GET", "/authorization/me/access-rules/count?x=y", "")
	c.headers = map[string]string{"Idempotency-Key": "the same"}
	for range 2 {
		c.do(201, "POST", "/users", `{"email":"twice@acme.test"}`)
	}
	c.headers = nil
	key := c.do(201, "POST", "/user-applications", `{"name":"goes"}`).member("id")
	c.do(204, "DELETE", "/user-applications/"+key, "")
}
