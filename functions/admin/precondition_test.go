package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	gosync "sync"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// under makes a call with headers, as the administrator of the endpoint's tenant.
func (w *world) under(e endpoint, path, body string, header ...string) response {
	w.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	tenant := tenantOf(e)
	return w.call(request{method: e.method, path: "/api/v1" + path, tenant: tenant, bearer: w.adminToken(tenant), body: body, header: h})
}

// reader is the endpoint that shows what another one is about: at its path, or above it.
func reader(e endpoint) (endpoint, bool) {
	for path := e.path; path != ""; path = path[:strings.LastIndex(path, "/")] {
		for _, r := range endpoints() {
			if r.method == "GET" && r.path == path && r.object != nil {
				return r, true
			}
		}
	}
	return endpoint{}, false
}

// Whatever changes an object heeds If-Match: with a tag that is not the object's, or only weakly, nothing happens (RFC 9110
// §13.1.1); with the right one it does. A call that is about no object refuses the header, and does not pass it over.
func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	all, n := samples(), 0
	for _, e := range endpoints() {
		if e.method == "GET" {
			continue
		}
		name := e.method + " " + e.path
		s := all[name](w, policy.L1Researcher)
		before := w.dump()
		if e.object == nil {
			if f := w.under(e, s.path(e), s.body, "If-Match", `"x"`).want(t, 400).failure(t); f.Details.Field != "If-Match" {
				t.Errorf("%s: %+v", name, f)
			}
		} else {
			n++
			tag := "*"
			if r, ok := reader(e); ok {
				tag = w.under(r, s.path(r), "").want(t, 200).Header().Get("ETag")
				if len(tag) < 3 || tag[0] != '"' {
					t.Errorf("%s: its object's tag is %s", name, tag)
				}
				if rec := w.under(e, s.path(e), s.body, "If-Match", "W/"+tag); rec.Code != 412 {
					t.Errorf("%s: with a weak tag: %d %s", name, rec.Code, rec.Body)
				}
			}
			for _, stale := range []string{`"stale"`, `"stale", "older"`, `W/"stale"`} {
				rec := w.under(e, s.path(e), s.body, "If-Match", stale)
				if rec.Code != 412 || rec.failure(t).Details.Kind != core.Outdated {
					t.Errorf("%s: If-Match %s: %d %s", name, stale, rec.Code, rec.Body)
				}
			}
			for _, bad := range []string{"", "stale", `"a`, `"a"b"`, `*, "a"`, `"` + strings.Repeat("x", 200) + `"`, strings.Repeat(`"x",`, 20) + `"x"`} {
				if f := w.under(e, s.path(e), s.body, "If-Match", bad).want(t, 400).failure(t); f.Details.Field != "If-Match" {
					t.Errorf("%s: If-Match %s: %+v", name, bad, f)
				}
			}
			if diff := changed(before, w.dump()); len(diff) > 0 {
				t.Errorf("%s: refused, and changed %v", name, diff)
			}
			if rec := w.under(e, s.path(e), s.body, "If-Match", `"other", `+tag); tag != "*" && rec.Code != s.status {
				t.Errorf("%s: with the tag: %d %s", name, rec.Code, rec.Body)
			}
			again := all[name](w, policy.L1Researcher)
			if rec := w.under(e, again.path(e), again.body, "If-Match", "*"); rec.Code != again.status {
				t.Errorf("%s: If-Match *: %d %s", name, rec.Code, rec.Body)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d calls heed If-Match", n)
	}
}

// An object that the caller has already is not sent again (RFC 9110 §13.1.2).
func TestIfNoneMatch(t *testing.T) {
	w := newWorld(t)
	all, n := samples(), 0
	for _, e := range endpoints() {
		if e.method != "GET" || e.object == nil {
			continue
		}
		n++
		s := all["GET "+e.path](w, policy.L1Researcher)
		tag := w.under(e, s.path(e), "").want(t, 200).Header().Get("ETag")
		for match, status := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200} {
			rec := w.under(e, s.path(e), "", "If-None-Match", match)
			if rec.Code != status || rec.Header().Get("ETag") != tag || (status == 304) != (rec.Body.Len() == 0) {
				t.Errorf("GET %s, If-None-Match %s: %d, tag %s, %d bytes", e.path, match, rec.Code, rec.Header().Get("ETag"), rec.Body.Len())
			}
		}
		w.under(e, s.path(e), "", "If-Match", tag).want(t, 200)
		w.under(e, s.path(e), "", "If-Match", `"other"`).want(t, 412)
	}
	if n < 8 {
		t.Errorf("only %d objects have a tag", n)
	}
}

// Two administrators read the settings and both change them: the second is told, and nothing that the first said is lost.
// What else shares the settings' item, such as every new access rule, is in nobody's way.
func TestTwoAdministrators(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	for _, tt := range []struct{ path, first, second string }{
		{"/tenant/settings", `{"idleTimeout":900,"absoluteLifetime":7200,"accessTokenLife":120,"clusterTokenLife":60,"passwordGrant":true}`,
			`{"idleTimeout":600,"absoluteLifetime":7200,"accessTokenLife":120,"clusterTokenLife":60,"passwordGrant":false}`},
		{"/security/settings/browserSessionTimeout", `{"idleTimeout":30}`, `{"idleTimeout":45}`},
		{"/security/settings/logoutRedirectUri", `{"uri":"https://acme.test/first"}`, `{"uri":"https://acme.test/second"}`},
	} {
		put := func(body, tag string) response {
			return w.call(request{method: "PUT", path: "/api/v1" + tt.path, tenant: acme, bearer: admin, body: body, header: http.Header{"If-Match": {tag}}})
		}
		tag := func() string { return w.as(admin, "GET", tt.path, "").want(t, 200).Header().Get("ETag") }
		read := tag()
		w.grant(acme, core.GroupSubject(core.GroupName(w.name("g"))), policy.Viewer, core.AccountScope(acme))
		if tag() != read {
			t.Errorf("%s: a rule changed the tag", tt.path)
		}
		put(tt.first, read).want(t, 200)
		said := w.as(admin, "GET", tt.path, "").want(t, 200).Body.String()
		if rec := put(tt.second, read).want(t, 412); rec.failure(t).Details.Kind != core.Outdated {
			t.Errorf("%s: %s", tt.path, rec.Body)
		}
		if now := w.as(admin, "GET", tt.path, "").Body.String(); now != said {
			t.Errorf("%s: the second changed %s to %s", tt.path, said, now)
		}
		put(tt.second, tag()).want(t, 200)
	}
}

// Of many who change the same thing under the same tag exactly one succeeds, and the others hear of it, though all the while
// access rules are made.
func TestOneOfManyWriters(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	u, c := w.user(acme, "ada@acme.test"), w.cluster(acme)
	scope := w.project(acme)
	for path, write := range map[string]func(i int) (method, body string){
		"/tenant/settings": func(i int) (string, string) {
			return "PUT", fmt.Sprintf(`{"idleTimeout":%d,"absoluteLifetime":7200,"accessTokenLife":120,"clusterTokenLife":60,"passwordGrant":false}`, 600+i)
		},
		"/users/" + string(u.ID): func(i int) (string, string) { return "PATCH", fmt.Sprintf(`{"firstName":"Ada %d"}`, i) },
		"/clusters/" + string(c.Cluster): func(i int) (string, string) {
			return "PUT", fmt.Sprintf(`{"name":"renamed-%d","server":"https://api.example.test:6443"}`, i)
		},
	} {
		tag := w.as(admin, "GET", path, "").want(t, 200).Header().Get("ETag")
		var wait gosync.WaitGroup
		codes := make([]int, 20)
		for i := range codes {
			wait.Go(func() {
				method, body := write(i)
				codes[i] = w.call(request{method: method, path: "/api/v1" + path, tenant: acme, bearer: admin, body: body, header: http.Header{"If-Match": {tag}}}).Code
			})
		}
		for i := range 3 {
			wait.Go(func() {
				w.as(admin, "POST", "/authorization/access-rules", fmt.Sprintf(`{"subjectId":"Team %d %s","subjectType":"group","roleId":5,"scopeId":"%s","scopeType":"project"}`, i, path[1:4], scope.ID))
			})
		}
		wait.Wait()
		slices.Sort(codes)
		if codes[0] != 200 || codes[1] < 409 || !slices.Contains(codes, 412) {
			t.Errorf("%s: statuses %v", path, codes)
		}
	}
}

// The settings' bounds are those that the product promises.
func TestSettingBounds(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	if got := into[api.BrowserSessionTimeout](t, w.as(admin, "GET", "/security/settings/browserSessionTimeout", "").want(t, 200)); got.IdleTimeout != 60 {
		t.Errorf("the default is %d minutes", got.IdleTimeout)
	}
	good := api.Settings{IdleTimeout: 3600, AbsoluteLifetime: 2592000, AccessTokenLife: 600, ClusterTokenLife: 300}
	put := func(change func(*api.Settings)) int {
		s := good
		change(&s)
		return w.as(admin, "PUT", "/tenant/settings", encode(t, s)).Code
	}
	if put(func(*api.Settings) {}) != 200 {
		t.Fatal("the settings that others are made from are refused")
	}
	for minutes, status := range map[string]int{"1": 200, "10080": 200, "60": 200, "0": 400, "10081": 400, "-1": 400, "1.5": 400, `"60"`: 400, "1e2": 400} {
		if rec := w.as(admin, "PUT", "/security/settings/browserSessionTimeout", `{"idleTimeout":`+minutes+`}`); rec.Code != status {
			t.Errorf("%s minutes: %d %s", minutes, rec.Code, rec.Body)
		}
	}
	for _, tt := range []struct {
		seconds int64
		status  int
	}{{59, 400}, {60, 200}, {3600, 200}, {3601, 400}} {
		if got := put(func(s *api.Settings) { s.AccessTokenLife = tt.seconds }); got != tt.status {
			t.Errorf("access tokens of %d s: %d", tt.seconds, got)
		}
		if got := put(func(s *api.Settings) { s.ClusterTokenLife = tt.seconds }); got != tt.status {
			t.Errorf("cluster tokens of %d s: %d", tt.seconds, got)
		}
	}
	for _, on := range []bool{true, false} {
		put(func(s *api.Settings) { s.PasswordGrant = on })
		if got := into[api.Settings](t, w.as(admin, "GET", "/tenant/settings", "").want(t, 200)); got.PasswordGrant != on {
			t.Errorf("the password grant is %v, and was set to %v", got.PasswordGrant, on)
		}
	}
}
