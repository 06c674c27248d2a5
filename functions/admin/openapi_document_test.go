package admin

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/api"
)

// describe makes the OpenAPI document (version 3.1.1) out of the rows of the API, and of what other functions serve beside
// it for the API's clients.
func describe(t testing.TB) schema {
	s := newSchemas(t)
	rows := endpoints()
	for _, e := range rows { // first, so that what requests hold is closed wherever it is met
		if e.in != nil {
			s.of(reflect.TypeOf(e.in), true)
		}
	}
	paths, tagged := schema{}, map[string]bool{}
	add := func(method, path string, op schema) {
		item, _ := paths[path].(schema)
		if item == nil {
			item = schema{}
			if params := pathParameters(t, path); len(params) > 0 {
				item["parameters"] = params
			}
			paths[path] = item
		}
		item[strings.ToLower(method)] = op
		tagged[op["tags"].([]string)[0]] = true
	}
	ids := operationIDs(rows)
	for i, e := range rows {
		add(e.method, "/v1"+e.path, s.operation(e, ids[i]))
	}
	add("GET", "/v1/openapi.json", documentOperation())
	add("GET", "/v1/kubeconfig", kubeconfigOperation())
	add("POST", "/v1/token", tokenOperation())
	add("POST", "/v2/token", standardTokenOperation())

	s.of(reflect.TypeFor[api.Error](), false)
	s.made["TokenError"] = s.members(reflect.TypeFor[api.Error](), false)
	s.made["TokenError"]["properties"].(schema)["details"] = schema{"type": "object", "properties": words(map[string]string{
		"kind": "A code of OAuth (RFC 6749 §5.2), or what happened otherwise.", "field": "The input at fault.", "request": "To quote when asking for help.",
	})}
	s.made["Tokens"], s.made["TokenRequest"] = tokensJSON, tokenRequest
	s.made["StandardTokens"], s.made["StandardTokenRequest"], s.made["StandardTokenError"] = standardTokens, standardTokenRequest, standardTokenError
	var tags []schema
	for _, n := range nouns {
		if tagged[n.tag] {
			tags = append(tags, schema{"name": n.tag})
			delete(tagged, n.tag)
		}
	}
	used := schema{} // parameters are described beforehand, for rows to come
	for _, e := range rows {
		for _, q := range e.query {
			used[component(q)] = sharedParameters[component(q)]
		}
	}
	for _, name := range []string{"If-Match", "If-None-Match", idempotencyKey, reasonHeader} {
		used[name] = sharedParameters[name]
	}
	return schema{
		"openapi": "3.1.1",
		"info": schema{
			"title":       "Fleetpass",
			"version":     "1",
			"summary":     "One front door for a fleet of Kubernetes clusters: who may do what, where.",
			"description": strings.Join(introduction, "\n\n"),
			"license":     schema{"name": "Apache 2.0", "identifier": "Apache-2.0"},
		},
		// Relative to where the document is, /t/TENANT/api/v1/openapi.json: so it is right for every tenant and under every name.
		"servers":  []schema{{"url": "../../api", "description": "The tenant that this document was read from"}},
		"security": []schema{{"bearer": []string{}}, {"oauth": []string{}}},
		"tags":     tags,
		"paths":    paths,
		"components": schema{
			"schemas": s.made, "responses": failures(), "parameters": used, "headers": sharedHeaders,
			"securitySchemes": schema{
				"bearer": schema{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of the tenant: of a person, of an application, or of a person's access key."},
				"oauth": schema{
					"type": "oauth2", "description": "The tenant is an OAuth 2.0 authorization server; /.well-known/openid-configuration below the tenant says more.",
					"flows": schema{
						"authorizationCode": schema{"authorizationUrl": "../../authorize", "tokenUrl": "../../api/v2/token", "refreshUrl": "../../api/v2/token", "scopes": oauthScopes},
						"clientCredentials": schema{"tokenUrl": "../../api/v2/token", "scopes": schema{}},
					},
				},
			},
		},
	}
}

var oauthScopes = schema{"openid": "who the person is", "offline_access": "a refresh token", "email": "the e-mail", "profile": "the name", "groups": "the groups"}

var introduction = []string{
	"Every path lies below a tenant: `https://HOST/t/TENANT/api`. Callers prove themselves with a bearer access token of that tenant.",
	"**Errors.** Every failed answer holds an `Error`: the status, one sentence for people, and for programs the kind, the field at fault and the id of the request. What belongs to another tenant, and what the caller may not see, looks as if it were not there.",
	"**Requests** are read strictly: an unknown member or parameter is refused by name. **Answers** may get further members; readers pass over what they do not know.",
	"**Lists** give at most `limit` entries. Where there are more, `next` or the header `X-Next-Cursor` is the parameter `cursor` of the next page.",
	"**Changing what was read.** The `ETag` of an answer, sent as `If-Match` with a change, has the change refused (412) if something else came between.",
	"**Sending again.** A request that creates something, sent again with the same `Idempotency-Key` within an hour, creates nothing more and gets the first answer.",
	"**Why.** `X-Request-Reason` goes into the audit log beside what was done.",
}

// nouns give paths their tags, by the longest prefix; in the order in which people read them.
var nouns = []struct{ prefix, tag string }{
	{"/token", "Tokens"},
	{"/authorization/access-rules", "Access rules"}, {"/authorization/me", "Access rules"},
	{"/authorization/roles", "Roles"}, {"/authorization/permission", "Roles"}, {"/authorization/permitted", "Roles"},
	{"/clusters", "Clusters"}, {"/org-unit/departments", "Departments"}, {"/org-unit/projects", "Projects"},
	{"/users", "Users"}, {"/me", "The caller"}, {"/groups", "Groups"},
	{"/service-accounts", "Service accounts"}, {"/apps", "Applications"},
	{"/access-keys", "Access keys"}, {"/user-applications", "Access keys"}, {"/administration/access-keys", "Access keys"},
	{"/trusted-issuers", "Trusted issuers"},
	{"/tenant/settings", "Settings"}, {"/security/settings", "Settings"},
	{"/idps", "Identity providers"}, {"/sso", "Identity providers"},
	{"/keys", "Signing keys"}, {"/audit", "Audit log"}, {"/sync", "Synchronization"},
	{"/tenants", "Tenants"}, {"/kubeconfig", "Kubeconfig"}, {"/openapi.json", "This document"},
}

func tagOf(t testing.TB, path string) string {
	t.Helper()
	best, tag := 0, ""
	for _, n := range nouns {
		if strings.HasPrefix(path, n.prefix) && len(n.prefix) > best {
			best, tag = len(n.prefix), n.tag
		}
	}
	if tag == "" {
		t.Fatalf("%s has no tag: add it to nouns", path)
	}
	return tag
}

var parameter = regexp.MustCompile(`\{([a-zA-Z]+)\}`)

// parameters of paths, by name. An id may be anything: what cannot be one is as absent as what there is not.
var inPath = map[string]schema{
	"id":    {"description": "The id.", "schema": schema{"type": "string", "minLength": 1}},
	"name":  {"description": "The name.", "schema": schema{"type": "string", "minLength": 1}},
	"email": {"description": "The user's e-mail.", "schema": schema{"type": "string", "minLength": 1}},
	"alias": {"description": "The identity provider's alias.", "schema": schema{"type": "string", "minLength": 1}},
	"key":   {"description": "The setting's name.", "schema": schema{"type": "string", "minLength": 1, "examples": slices.Sorted(maps.Keys(securitySettings))}},
}

func pathParameters(t testing.TB, path string) (all []schema) {
	t.Helper()
	for _, m := range parameter.FindAllStringSubmatch(path, -1) {
		p := maps.Clone(inPath[m[1]])
		if p == nil {
			t.Fatalf("%s: {%s} is not described: add it to inPath", path, m[1])
		}
		p["name"], p["in"], p["required"] = m[1], "path", true
		all = append(all, p)
	}
	return all
}

// operationIDs are the names of the handlers, which say what is done, made different where one handler serves two nouns.
func operationIDs(rows []endpoint) []string {
	ids, seen := make([]string, len(rows)), map[string]int{}
	for i, e := range rows {
		name := runtime.FuncForPC(reflect.ValueOf(e.do).Pointer()).Name()
		name = name[strings.LastIndexByte(name, '.')+1:]
		if strings.HasPrefix(name, "func") {
			name = strings.ToLower(e.method)
			for part := range strings.FieldsFuncSeq(e.path, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') }) {
				name += strings.ToUpper(part[:1]) + part[1:]
			}
		}
		ids[i] = name
		seen[name]++
	}
	for i, e := range slices.Backward(rows) {
		if seen[ids[i]]--; seen[ids[i]] > 0 {
			first, _, _ := strings.Cut(strings.TrimPrefix(e.path, "/"), "/")
			ids[i] += "In" + strings.ToUpper(first[:1]) + first[1:]
		}
	}
	return ids
}

// words say what a call needs.
func (n need) words(path string) string {
	what := fmt.Sprintf("%s on %s", n.action, n.entity)
	switch n.in {
	case inAccount:
		return "Needs " + what + " at the account."
	case inScope:
		return "Needs " + what + " in the scope {id}."
	case anywhere:
		return "Needs " + what + " in some scope."
	case ofOneself:
		return "For every caller: it is about the caller alone."
	case ofSignedIn:
		return "For every person who signed in: it is about the caller alone, and neither an application nor an access key will do."
	case byAdministrator:
		return "Needs all that a System administrator may do, at the account."
	case byOperator:
		return "For System administrators of the operators' tenant."
	}
	if strings.Contains(path, "{") {
		return "Needs " + what + " in the object's scope."
	}
	if n.action == view {
		return "Needs " + what + " in some scope, and shows what lies in the scopes where the caller holds it."
	}
	return "Needs " + what + " in the scope that is named."
}

// operation describes a row.
func (s *schemas) operation(e endpoint, id string) schema {
	s.Helper()
	op := schema{
		"operationId": id, "summary": e.summary, "description": e.need.words(e.path),
		"tags": []string{tagOf(s, e.path)},
	}
	var params []schema
	for _, q := range e.query {
		if sharedParameters[component(q)] == nil {
			s.Fatalf("%s %s: the parameter %s is not described: add it to sharedParameters", e.method, e.path, q)
		}
		params = append(params, schema{"$ref": "#/components/parameters/" + component(q)})
	}
	header := func(names ...string) {
		for _, n := range names {
			params = append(params, schema{"$ref": "#/components/parameters/" + n})
		}
	}
	switch {
	case e.method == http.MethodGet && e.object != nil:
		header("If-None-Match")
	case e.object != nil:
		header("If-Match", reasonHeader)
	case e.creates():
		header(idempotencyKey, reasonHeader)
	case e.method != http.MethodGet:
		header(reasonHeader)
	}
	if params != nil {
		op["parameters"] = params
	}
	if e.in != nil {
		op["requestBody"] = schema{"required": !e.maybe, "content": schema{"application/json": schema{"schema": s.of(reflect.TypeOf(e.in), true)}}}
	}
	op["responses"] = s.responses(e)
	return op
}

// component is the name of a parameter as a component may be called.
func component(parameter string) string {
	if name, list := strings.CutSuffix(parameter, "[]"); list {
		return name + "List"
	}
	return parameter
}

// responses are every answer that a row may give.
func (s *schemas) responses(e endpoint) schema {
	s.Helper()
	headers := schema{"X-Request-ID": schema{"$ref": "#/components/headers/X-Request-ID"}}
	head := func(name string) { headers[name] = schema{"$ref": "#/components/headers/" + name} }
	if e.method == http.MethodGet && e.object != nil {
		head("ETag")
	}
	if slices.Contains(e.query, "limit") {
		head(api.HeaderTotal)
		head(api.HeaderNext)
	}
	if e.creates() {
		head("Idempotency-Replayed")
	}
	success := schema{"description": e.summary + ": done.", "headers": headers}
	if e.method == http.MethodGet {
		success["description"] = "What was asked for."
	}
	content := schema{}
	if e.out != nil {
		content["application/json"] = schema{"schema": s.of(reflect.TypeOf(e.out), false)}
	}
	if e.yaml {
		content["application/yaml"] = schema{"schema": schema{"type": "string"}}
	}
	for _, media := range e.files {
		content[media] = schema{}
	}
	if len(content) > 0 {
		success["content"] = content
	}
	all := schema{strconv.Itoa(e.status): success}
	if e.dry != nil {
		all["200"] = schema{"description": "With dryRun=true: what would come of it.", "content": schema{"application/json": schema{"schema": s.of(reflect.TypeOf(e.dry), false)}}}
	}
	if e.method == http.MethodGet && e.object != nil {
		all["304"] = schema{"description": "What the caller has is still so.", "headers": schema{"ETag": schema{"$ref": "#/components/headers/ETag"}}}
	}
	for _, status := range e.refusals() {
		all[strconv.Itoa(status)] = schema{"$ref": "#/components/responses/" + failureNames[status]}
	}
	return all
}

// refusals are the statuses by which a row may refuse.
func (e endpoint) refusals() []int {
	change, named := e.method != http.MethodGet, strings.Contains(e.path, "{")
	all := []int{400, 401, 413, 429, 500, 503}
	for status, may := range map[int]bool{
		403: e.need.in != ofOneself || change,
		404: named || e.in != nil || slices.Contains(e.query, "scopeId"),
		409: change,
		412: e.object != nil,
		422: change || len(e.query) > 0 || e.need.in == inScope || e.need.in == byHandler,
	} {
		if may {
			all = append(all, status)
		}
	}
	slices.Sort(all)
	return all
}

var failureNames = map[int]string{
	400: "Invalid", 401: "Unauthenticated", 403: "Denied", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict", 412: "Outdated", 413: "TooLarge",
	422: "Limit", 429: "Throttled", 500: "Internal", 503: "Unavailable",
}

// failures are the refusals, each with its meaning.
func failures() schema {
	all := schema{}
	for status, words := range map[int]string{
		400: "The request is not right. `details.field` names what is wrong, and the message the fix.",
		401: "No access token of this tenant that is good. The wording does not depend on what is wrong with it.",
		403: "The caller may not. The message says what would be needed, and what the caller holds.",
		404: "There is no such thing, or the caller may not see it.",
		409: "The name is taken, something is in the way, or something changed at the same time.",
		412: "It is not as the caller read it: `If-Match` names another state.",
		413: "The body or the query is over its bound.",
		422: "A documented bound would be passed, or it is understood and not supported. The same request never succeeds.",
		429: "Too many attempts. `Retry-After` says when to come back.",
		500: "A failure of ours. It is logged under the request's id.",
		503: "Something that is needed does not answer. `Retry-After` says when to try again.",
	} {
		headers := schema{"X-Request-ID": schema{"$ref": "#/components/headers/X-Request-ID"}}
		switch status {
		case 401:
			headers["WWW-Authenticate"] = schema{"$ref": "#/components/headers/WWW-Authenticate"}
		case 429, 503:
			headers["Retry-After"] = schema{"$ref": "#/components/headers/Retry-After"}
		}
		all[failureNames[status]] = schema{
			"description": words, "headers": headers,
			"content": schema{"application/json": schema{"schema": schema{"$ref": "#/components/schemas/Error"}}},
		}
	}
	return all
}

func queried(description string, s schema) schema {
	return schema{"in": "query", "description": description, "schema": s}
}

func headed(description string, s schema) schema {
	return schema{"in": "header", "description": description, "schema": s}
}

// sharedParameters are what operations take beside their paths and bodies, by name.
var sharedParameters = func() schema {
	word := schema{"type": "string", "minLength": 1}
	flag := schema{"type": "string", "enum": []string{"true", "false"}}
	moment := schema{"type": "string", "format": "date-time"}
	all := schema{
		"limit":     queried("How many entries the answer may hold.", schema{"type": "integer", "minimum": 1, "maximum": api.MaxLimit, "default": api.DefaultLimit}),
		"offset":    queried("How many entries to pass over. `cursor` costs less, and goes further.", schema{"type": "integer", "minimum": 0, "maximum": maxOffset, "default": 0}),
		"cursor":    queried("Where the page before ended: what its answer gave for the next. Empty, it means the beginning. A page that is asked for by cursor looks at a bounded number of entries: it may be short, or hold nothing, and still have a next one. Without the parameter, a filter looks further, and is refused where even that does not do.", schema{"type": "string"}),
		"sortBy":    queried("The member to sort by. Without it, a list is in its natural order.", word),
		"sortOrder": queried("The direction of sortBy.", schema{"type": "string", "enum": []string{"asc", "desc"}}),
		"search":    queried("Only entries that hold this text.", schema{"type": "string", "minLength": 1}),
		"filterBy": schema{"in": "query", "style": "form", "explode": true,
			"description": "Only entries of which this holds: FIELD OP VALUE, where OP is one of == != <= >= =@ (contains) !@ (does not contain) =^ (begins with) =$ (ends with). It may be given several times, and several may be joined with commas; all must hold. Times are RFC 3339. `filterBy[]` means the same.",
			"schema":      schema{"type": "array", "items": word}},
		"subjectType":    queried("Only rules of subjects of this type.", schema{"type": "string", "enum": []string{"user", "group", "service-account", "app"}}),
		"subjectIds":     schema{"in": "query", "style": "form", "explode": true, "description": "Only rules of these subjects.", "schema": schema{"type": "array", "items": schema{"type": "string", "minLength": 1, "maxLength": 256}, "maxItems": maxSubjectIDs}},
		"subjectIds[]":   schema{"in": "query", "style": "form", "explode": true, "description": "The same as subjectIds.", "schema": schema{"type": "array", "items": schema{"type": "string", "minLength": 1, "maxLength": 256}, "maxItems": maxSubjectIDs}},
		"scopeId":        queried("Only what lies in this very scope.", schema{"type": "string", "minLength": 1, "maxLength": 100}),
		"clusterId":      queried("Only what lies in this cluster.", schema{"type": "string", "minLength": 1, "maxLength": 100}),
		"lastUpdated":    queried("Only what changed at or after this time.", moment),
		"includeDeleted": queried("Whether to list what was deleted too.", flag),
		"cascade":        queried("Whether to delete what lies below, too.", flag),
		"dryRun":         queried("Whether only to say what would come of it, and to change nothing.", flag),

		"from":       queried("Only records of this time or later.", moment),
		"to":         queried("Only records before this time.", moment),
		"start":      queried("The same as from.", moment),
		"end":        queried("The same as to.", moment),
		"subject":    queried("Only what this subject did: an e-mail or a client id.", word),
		"action":     queried("Only acts of this kind.", schema{"type": "string", "enum": auditActions}),
		"entityType": queried("Only acts on this type of thing.", word),
		"entityId":   queried("Only acts on the thing with this id.", word),
		"result":     queried("Only acts that succeeded, or only those that failed.", schema{"type": "string", "enum": auditResults}),
		"requestId":  queried("Only acts of this request.", word),
		"format":     queried("The form of the file: CSV, JSON Lines or a batch of CloudEvents.", schema{"type": "string", "enum": slices.Sorted(maps.Keys(auditFormats)), "default": "csv"}),
		"after":      queried("Only links behind the one with this number.", schema{"type": "integer", "minimum": 0}),

		"If-Match":      headed("Refuse the change unless the object is as the answer with this ETag showed it.", word),
		"If-None-Match": headed("Answer 304 if the object is as the answer with this ETag showed it.", word),
		idempotencyKey:  headed("A text of the caller's, different for each thing to create: sent again with it, the request creates nothing more.", schema{"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}),
		reasonHeader:    headed("Why this is done, for the audit log.", schema{"type": "string", "minLength": 1, "maxLength": 500}),
	}
	named := schema{}
	for name, p := range all {
		p.(schema)["name"] = name
		named[component(name)] = p
	}
	return named
}()

var sharedHeaders = schema{
	"ETag":                 schema{"description": "Names the state that is shown: see If-Match.", "schema": schema{"type": "string"}},
	api.HeaderTotal:        schema{"description": "How many entries match in all, where that is known.", "schema": schema{"type": "integer", "minimum": 0}},
	api.HeaderNext:         schema{"description": "The parameter cursor of the next page, where there is one.", "schema": schema{"type": "string"}},
	"X-Request-ID":         schema{"description": "The request's id, to quote when asking for help.", "schema": schema{"type": "string"}},
	"WWW-Authenticate":     schema{"description": "A challenge to a bearer token (RFC 6750 §3).", "schema": schema{"type": "string"}},
	"Retry-After":          schema{"description": "How many seconds to wait.", "schema": schema{"type": "integer", "minimum": 1}},
	"Idempotency-Replayed": schema{"description": "\"true\": this is the answer of an earlier request with the same key.", "schema": schema{"type": "string", "enum": []string{"true"}}},
	"Cache-Control":        schema{"description": "How long the answer may be kept.", "schema": schema{"type": "string"}},
}

func refused(statuses ...int) schema {
	all := schema{}
	for _, status := range statuses {
		all[strconv.Itoa(status)] = schema{"$ref": "#/components/responses/" + failureNames[status]}
	}
	return all
}

func jsonOf(name string) schema {
	return schema{"application/json": schema{"schema": schema{"$ref": "#/components/schemas/" + name}}}
}

func documentOperation() schema {
	responses := refused(404, 500, 503)
	head := schema{"ETag": schema{"$ref": "#/components/headers/ETag"}, "Cache-Control": schema{"$ref": "#/components/headers/Cache-Control"}}
	responses["200"] = schema{"description": "An OpenAPI 3.1 document.", "headers": head, "content": schema{"application/json": schema{"schema": schema{"type": "object"}}}}
	responses["304"] = schema{"description": "The copy that the client has is still good.", "headers": head}
	return schema{"operationId": "getDocument", "summary": "Read this document", "description": "For everybody: no token is needed.", "tags": []string{"This document"},
		"security": []schema{}, "parameters": []schema{{"$ref": "#/components/parameters/If-None-Match"}}, "responses": responses}
}

func kubeconfigOperation() schema {
	responses := refused(400, 401, 404, 413, 422, 429, 500, 503)
	responses["200"] = schema{"description": "A kubeconfig without a secret.", "content": schema{"application/yaml": schema{"schema": schema{"type": "string"}}}}
	return schema{"operationId": "getKubeconfig", "summary": "Read a kubeconfig for the clusters that the caller may use", "description": "For every caller: it is about the caller alone.",
		"tags": []string{"Kubeconfig"}, "responses": responses}
}

// tokenOperation is the token endpoint in the form of the product whose API this follows.
func tokenOperation() schema {
	responses := schema{"200": schema{"description": "Tokens.", "content": jsonOf("Tokens")}}
	for _, status := range []int{400, 401, 403, 404, 413, 422, 429, 500, 503} {
		responses[strconv.Itoa(status)] = schema{"description": "A refusal.", "content": jsonOf("TokenError")}
	}
	return schema{"operationId": "createToken", "summary": "Get tokens, in JSON",
		"description": "For everybody who can prove who they are. In the names of the members, upper and lower case do not count.",
		"tags":        []string{"Tokens"}, "security": []schema{},
		"requestBody": schema{"required": true, "content": jsonOf("TokenRequest")}, "responses": responses}
}

// standardTokenOperation is OAuth's own token endpoint.
func standardTokenOperation() schema {
	responses := schema{"200": schema{"description": "Tokens (RFC 6749 §5.1).", "content": jsonOf("StandardTokens")}}
	for _, status := range []int{400, 401, 403, 404, 413, 422, 429, 500, 503} {
		responses[strconv.Itoa(status)] = schema{"description": "A refusal in OAuth's terms (RFC 6749 §5.2).", "content": jsonOf("StandardTokenError")}
	}
	return schema{"operationId": "createStandardToken", "summary": "Get tokens, as OAuth 2.0 says it", "description": "For everybody who can prove who they are.",
		"tags": []string{"Tokens"}, "security": []schema{},
		"requestBody": schema{"required": true, "content": schema{"application/x-www-form-urlencoded": schema{"schema": schema{"$ref": "#/components/schemas/StandardTokenRequest"}}}},
		"responses":   responses}
}

func words(descriptions map[string]string) schema {
	all := schema{}
	for name, d := range descriptions {
		all[name] = schema{"type": "string", "description": d}
	}
	return all
}

var tokenRequest = func() schema {
	properties := words(map[string]string{
		"clientID": "client_credentials: the application's or access key's client id", "clientSecret": "its secret",
		"appID": "app_token: the same", "appSecret": "app_token: the same", "username": "password: the e-mail of a local user", "password": "password",
		"refreshToken": "refresh_token", "code": "exchange_token: the authorization code", "redirectUri": "exchange_token: where the code was sent to",
		"externalToken": "external_token_exchange: an ID token of a connected identity provider",
		"codeVerifier":  "exchange_token: of PKCE, where the client has no secret", "scope": "what the tokens shall be good for, separated by blanks",
	})
	properties["grantType"] = schema{"type": "string", "enum": []string{"client_credentials", "app_token", "password", "refresh_token", "exchange_token", "external_token_exchange"}}
	return schema{"type": "object", "properties": properties, "required": []string{"grantType"}, "additionalProperties": false}
}()

var tokensJSON = func() schema {
	properties := words(map[string]string{"accessToken": "The bearer token.", "idToken": "Who signed in (OpenID Connect Core §2).", "refreshToken": "Gets the next tokens, once."})
	properties["expiresIn"] = schema{"type": "integer", "minimum": 1, "description": "How long the access token is good, in seconds."}
	return schema{"type": "object", "properties": properties, "required": []string{"accessToken", "expiresIn"}}
}()

var standardTokenRequest = func() schema {
	properties := words(map[string]string{
		"client_id": "", "client_secret": "", "username": "", "password": "", "refresh_token": "", "code": "", "redirect_uri": "", "code_verifier": "", "scope": "",
		"client_assertion_type": "RFC 7523 §2.2", "client_assertion": "", "subject_token": "RFC 8693 §2.1", "subject_token_type": "", "audience": "", "requested_token_type": "",
		"device_code": "RFC 8628 §3.4", "assertion": "RFC 7523 §2.1", "resource": "", "actor_token": "", "actor_token_type": "",
	})
	for _, p := range properties {
		if p := p.(schema); p["description"] == "" {
			delete(p, "description")
		}
	}
	properties["grant_type"] = schema{"type": "string", "description": "One of those that the tenant's discovery document lists."}
	return schema{"type": "object", "properties": properties, "required": []string{"grant_type"}}
}()

var standardTokens = func() schema {
	properties := words(map[string]string{"access_token": "", "refresh_token": "", "id_token": "", "scope": "", "issued_token_type": "RFC 8693 §2.2.1"})
	for _, p := range properties {
		if p := p.(schema); p["description"] == "" {
			delete(p, "description")
		}
	}
	properties["token_type"] = schema{"type": "string", "enum": []string{"Bearer", "N_A"}}
	properties["expires_in"] = schema{"type": "integer", "minimum": 1}
	return schema{"type": "object", "properties": properties, "required": []string{"access_token", "token_type"}}
}()

var standardTokenError = schema{"type": "object", "properties": schema{
	"error":             schema{"type": "string", "description": "A code of RFC 6749 §5.2."},
	"error_description": schema{"type": "string"},
	"error_uri":         schema{"type": "string"},
	"request_id":        schema{"type": "string"},
}, "required": []string{"error"}}
