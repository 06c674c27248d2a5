package admin

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/policy"
)

// sample is a request to an endpoint that succeeds for who may make it, on an object that was made for it.
type sample struct {
	id      string // replaces {id}, {alias} or {key} in the path
	foreign string // the id of such an object of another tenant
	name    string // replaces {name}
	email   string // replaces {email}
	body    string
	strings []string // the members of the body that are names, and refuse reserved ones
	status  int
	limit   int  // of the body, in bytes; 0: maxBody
	empty   bool // {} is a good body
}

// path is the endpoint's with the sample's parts.
func (s sample) path(e endpoint) string {
	return strings.NewReplacer("{id}", s.id, "{alias}", s.id, "{key}", s.id, "{name}", strings.ReplaceAll(s.name, " ", "%20"), "{email}", s.email).Replace(e.path)
}

// samples makes one for every endpoint. Role is the caller's, for what a caller may only give if it holds it.
func samples() map[string]func(w *world, role core.RoleID) sample {
	rule := func(w *world, t core.TenantID, role core.RoleID) string {
		r := w.grant(t, core.GroupSubject(core.GroupName(w.name("g"))), role, w.project(t).ID)
		return itoa(r.ID)
	}
	cluster := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.cluster(acme).Cluster), foreign: string(w.cluster(globex).Cluster), body: body, status: status}
		}
	}
	department := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.department(acme).ID), foreign: string(w.department(globex).ID), body: body, status: status, strings: names(body)}
		}
	}
	project := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.project(acme).ID), foreign: string(w.project(globex).ID), body: body, status: status, strings: names(body)}
		}
	}
	user := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			u := w.user(acme, w.name("u")+"@acme.test")
			return sample{id: string(u.ID), foreign: string(w.admins[globex].ID), body: body, status: status}
		}
	}
	app := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.app(acme).ID), foreign: string(w.app(globex).ID), body: body, status: status}
		}
	}
	fixed := func(status int, body string) func(*world, core.RoleID) sample {
		return func(*world, core.RoleID) sample { return sample{body: body, status: status} }
	}
	member := func(status int, already bool) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			u, g := w.user(acme, w.name("m")+"@acme.test"), w.group(acme)
			if already {
				_, err := w.Directory.AddMember(w.Context(), core.SystemActor(acme), acme, g, u.Email)
				w.must(err)
			}
			return sample{name: string(g), email: string(u.Email), status: status}
		}
	}
	tenant := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			id := w.name("tenant")
			_, err := w.Org.CreateTenant(w.Context(), core.SystemActor(core.SystemTenant), id, id)
			w.must(err)
			return sample{id: id, body: body, status: status}
		}
	}
	dead := func(status int) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: w.deadLetter(acme), foreign: w.deadLetter(globex), status: status}
		}
	}
	idp := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.idp(acme, "sample").Alias), foreign: string(w.idp(globex, "foreign").Alias), body: body, status: status}
		}
	}
	security := func(body string) func(*world, core.RoleID) sample {
		return func(*world, core.RoleID) sample { return sample{id: "logoutRedirectUri", body: body, status: 200} }
	}
	const rules = "/authorization/access-rules"
	all := map[string]func(*world, core.RoleID) sample{
		"POST " + rules: func(w *world, role core.RoleID) sample {
			return sample{status: 201, strings: []string{"subjectId"}, body: `{"subjectId":"` + w.name("Group") + `","subjectType":"group","roleId":` + itoa(role) +
				`,"scopeId":"` + string(w.project(acme).ID) + `","scopeType":"project","expiresAt":"2027-01-01T00:00:00Z","reason":"for the audit"}`}
		},
		"GET " + rules:                         fixed(200, ""),
		"GET " + rules + "/count":              fixed(200, ""),
		"GET /authorization/me/access-rules":   fixed(200, ""),
		"GET /authorization/roles":             fixed(200, ""),
		"GET /authorization/permissions":       fixed(200, ""),
		"POST /authorization/permitted-scopes": fixed(200, `{"resourceType":"project","action":"read"}`),
		"GET /authorization/roles/{id}":        func(*world, core.RoleID) sample { return sample{id: "5", status: 200} },
		"GET " + rules + "/{id}": func(w *world, role core.RoleID) sample {
			return sample{id: rule(w, acme, role), foreign: "9999", status: 200}
		},
		"DELETE " + rules + "/{id}": func(w *world, role core.RoleID) sample {
			return sample{id: rule(w, acme, role), foreign: "9999", status: 204}
		},

		"POST /clusters": func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("new") + `","mode":"issuer","server":"https://api.example.test","ca":"","userPrefix":"corp:","groupPrefix":"corp:","unprefixed":false,"algorithm":"ES256"}`}
		},
		"GET /clusters":                                   fixed(200, ""),
		"GET /clusters/{id}":                              cluster(200, ""),
		"PUT /clusters/{id}":                              renamed(cluster(200, `{"name":"NAME","server":"https://api.example.test:6443"}`)),
		"DELETE /clusters/{id}":                           cluster(204, ""),
		"GET /clusters/{id}/status":                       cluster(200, ""),
		"GET /clusters/{id}/bootstrap":                    cluster(200, ""),
		"GET /clusters/{id}/authentication-configuration": cluster(200, ""),
		"POST /clusters/{id}/reconcile":                   cluster(202, ""),

		"GET /sync/dead-letters":              fixed(200, ""),
		"POST /sync/dead-letters/replay":      fixed(200, ""),
		"POST /sync/dead-letters/{id}/replay": dead(202),
		"DELETE /sync/dead-letters/{id}":      dead(204),

		"POST /org-unit/departments": func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("dep") + `","clusterId":"` + string(w.cluster(acme).Cluster) + `"}`}
		},
		"GET /org-unit/departments":         fixed(200, ""),
		"GET /org-unit/departments/{id}":    department(200, ""),
		"PUT /org-unit/departments/{id}":    renamed(department(200, `{"name":"NAME"}`)),
		"DELETE /org-unit/departments/{id}": department(204, ""),

		"POST /org-unit/projects": func(w *world, _ core.RoleID) sample {
			n := w.name("prj")
			return sample{status: 201, strings: []string{"name", "requestedNamespace"}, body: `{"name":"` + n + `","parentId":"` + string(w.department(acme).ID) + `","requestedNamespace":"ns-` + n + `"}`}
		},
		"GET /org-unit/projects":         fixed(200, ""),
		"GET /org-unit/projects/{id}":    project(200, ""),
		"PUT /org-unit/projects/{id}":    renamed(project(200, `{"name":"NAME"}`)),
		"DELETE /org-unit/projects/{id}": project(204, ""),

		"POST /users": func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"email"}, body: `{"email":"` + w.name("new") + `@acme.test","firstName":"Ada","lastName":"L","resetPassword":true,"notify":false}`}
		},
		"GET /users":                fixed(200, ""),
		"GET /users/{id}":           user(200, ""),
		"PATCH /users/{id}":         user(200, `{"firstName":"Ada","lastName":"L","uid":1001,"gid":1002,"supplementaryGroups":[2001]}`),
		"DELETE /users/{id}":        user(204, ""),
		"POST /users/{id}/password": user(200, ""),
		"POST /users/{id}/logout":   user(204, ""),

		"POST /groups": func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("Group") + `"}`}
		},
		"GET /groups":                           fixed(200, ""),
		"PUT /groups/{name}/members/{email}":    member(204, false),
		"DELETE /groups/{name}/members/{email}": member(204, true),

		"GET /me":           fixed(200, ""),
		"POST /me/password": fixed(204, `{"currentPassword":"correct horse battery","newPassword":"another horse battery"}`),

		"GET /tenant/settings": fixed(200, ""),
		"PUT /tenant/settings": fixed(200, `{"idleTimeout":600,"absoluteLifetime":3600,"accessTokenLife":600,"clusterTokenLife":300,"passwordGrant":false}`),
		"PUT /users/{id}/idp": func(w *world, _ core.RoleID) sample {
			u := w.user(acme, w.name("u")+"@sample.test") // a domain that the connection owns
			return sample{id: string(u.ID), foreign: string(w.admins[globex].ID), body: `{"alias":"` + string(w.idp(acme, "sample").Alias) + `"}`, status: 200}
		},

		"GET /security/settings":       fixed(200, ""),
		"GET /security/settings/{key}": security(""),
		"PUT /security/settings/{key}": security(`{"uri":"https://acme.test/bye"}`),

		"POST /idps": func(w *world, _ core.RoleID) sample {
			n := w.name("new")
			return sample{status: 201, limit: maxIdPBody, body: `{"name":"` + n + `","alias":"` + n + `","type":"oidc","enabled":true,"domains":["` + n + `.test"],"groupPrefix":"corp:","mappers":{"email":"mail"},` +
				`"oidcData":{"clientId":"fleetpass","clientSecret":"secret","discoverDocumentUrl":"https://idp.test/.well-known/openid-configuration"}}`}
		},
		"GET /idps":         fixed(200, ""),
		"GET /idps/{alias}": idp(200, ""),
		"PUT /idps/{alias}": func(w *world, role core.RoleID) sample {
			s := idp(200, `{"name":"Sample","type":"saml","alias":"sample","enabled":true,"domains":["sample.test"],"groupPrefix":"","samlData":{"metadataXmlType":"url","metadataXmlUrl":"https://idp.test/metadata"}}`)(w, role)
			s.body = strings.Replace(s.body, `"groupPrefix":""`, `"groupPrefix":"`+w.idp(acme, "sample").GroupPrefix+`"`, 1)
			s.limit = maxIdPBody
			return s
		},
		"DELETE /idps/{alias}": func(w *world, _ core.RoleID) sample {
			return sample{id: string(w.idp(acme, "goes").Alias), foreign: string(w.idp(globex, "foreign").Alias), status: 204}
		},
		"GET /idps/{alias}/mappers": idp(200, ""),
		"PUT /idps/{alias}/mappers": func(w *world, role core.RoleID) sample {
			s := idp(202, `{"email":"mail","groups":"memberOf","uid":"uidNumber","gid":"gidNumber","supplementaryGroups":"gids","firstName":"givenName","lastName":"sn"}`)(w, role)
			s.empty = true // all defaults
			return s
		},
		"POST /idps/{alias}/keys":    idp(200, ""),
		"POST /idps/{alias}/refresh": idp(200, ""),
		"POST /idps/{alias}/test":    idp(201, ""),
		"GET /sso/traces":            fixed(200, ""),
		"GET /sso/traces/{id}": func(w *world, _ core.RoleID) sample {
			return sample{id: w.trace(acme), foreign: w.trace(globex), status: 200}
		},

		"GET /keys": fixed(200, ""),
		"POST /keys/{id}/revoke": func(w *world, _ core.RoleID) sample {
			return sample{id: w.key(acme, keys.RS256), foreign: w.key(globex, keys.ES256), status: 204}
		},

		"POST /tenants": func(w *world, _ core.RoleID) sample {
			return sample{status: 201, body: `{"id":"` + w.name("new") + `","name":"A new customer"}`}
		},
		"GET /tenants":                    fixed(200, ""),
		"GET /tenants/{id}":               tenant(200, ""),
		"PATCH /tenants/{id}":             tenant(200, `{"state":"suspended"}`),
		"POST /tenants/{id}/welcome-link": tenant(200, ""),
		"DELETE /tenants/{id}":            tenant(204, ""),
	}
	for _, noun := range applicationPaths {
		all["POST "+noun] = func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("new") + `","redirectUris":["https://app.example.test/cb"],"postLogoutRedirectUris":[],"public":false}`}
		}
		all["GET "+noun] = fixed(200, "")
		all["GET "+noun+"/{id}"] = app(200, "")
		all["PATCH "+noun+"/{id}"] = app(200, `{"redirectUris":["https://app.example.test/new"],"postLogoutRedirectUris":[]}`)
		all["POST "+noun+"/{id}/secret"] = app(200, "")
		all["DELETE "+noun+"/{id}"] = app(204, "")
	}
	maps.Copy(all, auditSamples())
	maps.Copy(all, ruleSamples())
	maps.Copy(all, accessKeySamples())
	maps.Copy(all, groupSamples())
	maps.Copy(all, issuerSamples())
	return all
}

// renamed gives the sample's body a new name.
func renamed(make func(*world, core.RoleID) sample) func(*world, core.RoleID) sample {
	return func(w *world, role core.RoleID) sample {
		s := make(w, role)
		s.body = strings.Replace(s.body, "NAME", w.name("renamed"), 1)
		s.strings = []string{"name"}
		return s
	}
}

func names(body string) []string {
	if body == "" {
		return nil
	}
	return []string{"name"}
}

func itoa[T ~int | ~uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

// tenantOf is where the samples of an endpoint are made.
func tenantOf(e endpoint) core.TenantID {
	if e.need.in == byOperator {
		return core.SystemTenant
	}
	return acme
}

// Every endpoint has a sample, and each works for a System administrator: the positive twin of all that follows.
func TestSamples(t *testing.T) {
	w := newWorld(t)
	all := samples()
	if rows := endpoints(); len(all) != len(rows) {
		t.Errorf("%d samples for %d endpoints", len(all), len(rows))
	}
	for _, e := range endpoints() {
		make := all[e.method+" "+e.path]
		if make == nil {
			t.Errorf("%s %s: no sample", e.method, e.path)
			continue
		}
		s := make(w, policy.L1Researcher)
		tenant := tenantOf(e)
		rec := w.call(request{method: e.method, path: "/api/v1" + s.path(e), tenant: tenant, bearer: w.adminToken(tenant), body: s.body})
		if rec.Code != s.status {
			t.Errorf("%s %s: status %d, want %d: %s", e.method, e.path, rec.Code, s.status, rec.Body)
		}
	}
}
