package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core/policy"
)

// bad is one spoiled request, with what the refusal must name.
type bad struct {
	what   string
	path   string // "" is the sample's
	body   string
	media  string
	names  string
	status int // 0: any of 400, 404, 413, 422
}

// reservedNames are spellings of names that a cluster gives a meaning of its own.
var reservedNames = []string{
	"system:masters", "SYSTEM:masters", "System:Masters", "ｓｙｓｔｅｍ:masters", "ſystem:masters", "sy\u200bstem:masters",
	"system：masters", "s\u0301ystem:masters", " system:masters", "system:serviceaccount:kube-system:default", "kube:admin",
	"openshift:x", "fleetpass-id:uid:0", "fleetpass:sync", "cluster-admins",
}

// spoil makes every kind of bad request out of a good one.
func spoil(t *testing.T, e endpoint, s sample) []bad {
	var all []bad
	path := s.path(e)
	all = append(all, bad{what: "unknown parameter", path: path + "?isAdmin=true", names: "isAdmin", body: s.body},
		bad{what: "malformed query", path: path + "?a=%zz", names: "query", body: s.body},
		bad{what: "oversized query", path: path + "?" + strings.Repeat("a", maxQuery+1), body: s.body, status: 413})
	if slices.Contains(e.query, "limit") {
		for _, v := range []string{"0", "501", "-1", "x", "1e2", "07", ""} {
			all = append(all, bad{what: "limit " + v, path: path + "?limit=" + v, names: "limit"})
		}
		all = append(all, bad{what: "offset", path: path + "?offset=-1", names: "offset"},
			bad{what: "twice", path: path + "?offset=1&offset=2", names: "offset"})
	}
	for _, p := range []string{"filterBy", "sortBy", "sortOrder", "search"} {
		if !slices.Contains(e.query, p) {
			all = append(all, bad{what: p + " where there is none", path: path + "?" + p + "=name", body: s.body, names: p})
			continue
		}
		for _, v := range []string{"", "noField", "noField==x", "%00", "%ff", strings.Repeat("x", 301)} {
			if p != "search" || !strings.HasPrefix(v, "noField") {
				all = append(all, bad{what: p, path: path + "?" + p + "=" + v, names: p})
			}
		}
	}
	for _, p := range []string{"scopeId", "clusterId", "subjectType", "subjectIds"} {
		if slices.Contains(e.query, p) {
			all = append(all, bad{what: p, path: path + "?" + p + "=", names: p},
				bad{what: p, path: path + "?" + p + "=" + strings.Repeat("x", 301), names: p})
		}
	}
	if slices.Contains(e.query, "cursor") {
		for _, v := range []string{"x", ".", "1", "1.", ".x", "-1.x", "01.x", "1e3.x", "9223372036854775808.x", "9223372036854775807.x", "1." + strings.Repeat("x", 65), "1.x&cursor=1.x"} {
			all = append(all, bad{what: "cursor " + v, path: path + "?cursor=" + v, names: "cursor"})
		}
	}
	if slices.Contains(e.query, "cascade") {
		all = append(all, bad{what: "cascade", path: path + "?cascade=yes", names: "cascade"})
	}
	if s.id != "" {
		ids := []string{"absent", strings.Repeat("x", 600), "%00", "..%2f..", "%1f", "0", "system:masters"}
		if s.foreign != "" {
			ids = append(ids, s.foreign, string(globex))
		}
		for _, id := range ids {
			other := s
			other.id = id
			all = append(all, bad{what: "id " + id, path: other.path(e), body: s.body, status: 404})
		}
	}
	if s.name != "" {
		for _, n := range []string{"absent", strings.Repeat("x", 300), "system:masters", "%00"} {
			other := s
			other.name = n
			b := bad{what: "name " + n, path: other.path(e), body: s.body, status: 404}
			if strings.HasPrefix(e.path, "/groups") {
				b.status, b.names = 0, "{name}"
			}
			all = append(all, b)
		}
	}
	if s.email != "" {
		for _, n := range []string{"none", "system:masters@acme.test", strings.Repeat("x", 300) + "@acme.test"} {
			other := s
			other.email = n
			all = append(all, bad{what: "member " + n, path: other.path(e), names: "{email}"})
		}
	}
	if s.body == "" {
		return append(all,
			bad{what: "a body where none is", body: `{"role":"admin"}`, names: "/role"},
			bad{what: "no JSON where nothing is", body: `role=admin`, names: "body"},
			bad{what: "a list where nothing is", body: `[1]`, names: "body"},
			bad{what: "oversized", body: strings.Repeat(" ", maxBody+1), status: 413})
	}
	return append(all, spoilBody(t, s)...)
}

func spoilBody(t *testing.T, s sample) []bad {
	all := []bad{
		{what: "no body", body: "", names: "body"},
		{what: "cut off", body: s.body[:len(s.body)-1], names: "body"},
		{what: "null", body: "null", names: "body"},
		{what: "a list", body: "[" + s.body + "]", names: "body"},
		{what: "a string", body: `"x"`, names: "body"},
		{what: "trailing data", body: s.body + s.body, names: "body"},
		{what: "malformed UTF-8", body: strings.Replace(s.body, `":`, "\xff\":", 1), names: "body"},
		{what: "oversized", body: s.body + strings.Repeat(" ", max(s.limit, maxBody)), status: 413},
		{what: "as text", body: s.body, media: "text/plain", names: "Content-Type"},
		{what: "as a form", body: "name=x", media: "application/x-www-form-urlencoded", names: "Content-Type"},
		{what: "too deep", body: `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, names: "/x"},
		{what: "an unknown member", body: `{"isAdmin":true,` + s.body[1:], names: "/isAdmin"},
		{what: "a member that only we set", body: `{"tenantId":"globex",` + s.body[1:], names: "/tenantId"},
		{what: "a time that only we set", body: `{"createdAt":"2020-01-01T00:00:00Z",` + s.body[1:], names: "/createdAt"},
	}
	if !s.empty {
		all = append(all, bad{what: "nothing", body: `{}`})
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal([]byte(s.body), &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		wrong := `{"a":1}`
		all = append(all,
			bad{what: "wrong type of " + name, body: with(t, members, name, wrong), names: "/" + name},
			bad{what: "twice " + name, body: `{"` + name + `":` + string(value) + `,` + s.body[1:], names: "/" + name},
			bad{what: "wrong case of " + name, body: `{"` + strings.ToUpper(name) + `":` + string(value) + `,` + s.body[1:], names: "/" + strings.ToUpper(name)})
		if value.Kind() == '"' {
			all = append(all, bad{what: "number for " + name, body: with(t, members, name, `17`), names: "/" + name})
			if name != "reason" && name != "firstName" && name != "lastName" {
				all = append(all, bad{what: "long " + name, body: with(t, members, name, `"`+strings.Repeat("x", 5000)+`"`), names: name},
					bad{what: "unprintable " + name, body: with(t, members, name, `"a\u0000b"`), names: name})
			} else {
				all = append(all, bad{what: "unprintable " + name, body: with(t, members, name, `"a\u0000b"`), names: name})
			}
		} else {
			all = append(all, bad{what: "text for " + name, body: with(t, members, name, `"x"`), names: "/" + name})
		}
	}
	for _, name := range s.strings {
		for _, v := range reservedNames {
			if v == "cluster-admins" && name == "requestedNamespace" {
				continue // a group's name: as a namespace it means nothing
			}
			quoted, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, bad{what: "reserved " + name + " " + v, body: with(t, members, name, string(quoted)), names: name})
		}
	}
	return all
}

// with is the body with another value of a member.
func with(t *testing.T, members map[string]jsontext.Value, name, value string) string {
	var b bytes.Buffer
	b.WriteByte('{')
	keys := make([]string, 0, len(members))
	for k := range members {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		v := string(members[k])
		if k == name {
			v = value
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", k, v)
	}
	b.WriteByte('}')
	return b.String()
}

// Bad input of every kind, to every endpoint, is refused by a 4xx that names what is at fault, and changes nothing
// (WEB-021). TestSamples is the twin: each of these requests, unspoiled, succeeds.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	all, n := samples(), 0
	for _, e := range endpoints() {
		make := all[e.method+" "+e.path]
		if make == nil {
			continue // TestSamples says so
		}
		s := make(w, policy.L1Researcher)
		tenant := tenantOf(e)
		bearer := w.adminToken(tenant)
		before := w.dump()
		for _, b := range spoil(t, e, s) {
			n++
			what := fmt.Sprintf("%s %s: %s", e.method, e.path, b.what)
			if b.path == "" {
				b.path = s.path(e)
			}
			rec := w.call(request{method: e.method, path: "/api/v1" + b.path, tenant: tenant, bearer: bearer, body: b.body, media: b.media})
			switch rec.Code {
			case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			default:
				t.Errorf("%s: status %d: %s", what, rec.Code, rec.Body)
				continue
			}
			if b.status != 0 && rec.Code != b.status {
				t.Errorf("%s: status %d, want %d: %s", what, rec.Code, b.status, rec.Body)
			}
			f := rec.failure(t)
			if f.Code != rec.Code || f.Details.Kind == "" || f.Details.Request == "" {
				t.Errorf("%s: body %s", what, rec.Body)
			}
			if !strings.Contains(f.Message, b.names) {
				t.Errorf("%s: message %q does not name %q", what, f.Message, b.names)
			}
		}
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("%s %s: something refused changed %v", e.method, e.path, diff)
		}
	}
	if n < 1000 {
		t.Errorf("only %d bad requests were made", n)
	}
}

// Reserved names are refused as namespaces too, and the namespaces of the cluster itself.
func TestReservedNamespaces(t *testing.T) {
	w := newWorld(t)
	dep := w.department(acme)
	for _, ns := range []string{"kube-system", "kube-public", "default", "openshift-config", "fleetpass-system", "system:x", "KUBE-SYSTEM", "kube-ｓystem"} {
		rec := w.as(w.adminToken(acme), "POST", "/org-unit/projects", `{"name":"p","parentId":"`+string(dep.ID)+`","requestedNamespace":"`+ns+`"}`)
		if f := rec.want(t, 400).failure(t); f.Details.Field != "requestedNamespace" {
			t.Errorf("namespace %q: %+v", ns, f)
		}
	}
	w.as(w.adminToken(acme), "POST", "/org-unit/projects", `{"name":"p","parentId":"`+string(dep.ID)+`","requestedNamespace":"research"}`).want(t, 201)
}

// Names may hold what pages and files give a meaning to; they come back as they are, as JSON, and nothing renders them
// (WEB-017).
func TestHostileNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{`<img src=x onerror=alert(1)>`, `a"b`, `{{.}}`, `x' OR 1=1`, `Ünïcode 漢字`, `a\b`, `a,b`} {
		body, _ := json.Marshal(map[string]string{"name": name})
		w.as(w.adminToken(acme), "POST", "/groups", string(body)).want(t, 201)
	}
	rec := w.as(w.adminToken(acme), "GET", "/groups", "").want(t, 200)
	if got := rec.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %s", got)
	}
	if got := rec.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("nosniff: %q", got)
	}
	w.as(w.adminToken(acme), "DELETE", "/groups/a%5Cb", "").want(t, 204)
}

// FuzzCreateRule feeds the decoder of a body through its endpoint: whatever comes, the answer is a 4xx and nothing is
// changed, or a rule.
func FuzzCreateRule(f *testing.F) {
	w := newWorld(f)
	scope := string(w.project(acme).ID)
	good := `{"subjectId":"ada@acme.test","subjectType":"user","roleId":5,"scopeId":"` + scope + `","scopeType":"project"}`
	bearer := w.adminToken(acme)
	f.Add([]byte(good))
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"roleId":5.5}`, `{"roleId":1e400}`, `{"roleId":-1}`, `{"subjectId":"\ud800"}`, `{"scopeType":"SYSTEM"}`,
		`{"expiresAt":"2026-02-30T00:00:00Z"}`, `{"expiresAt":"99999-01-01T00:00:00Z"}`, good + "x", good[:40],
		strings.Replace(good, "ada@", "ſystem:", 1), strings.Replace(good, `"roleId":5`, `"roleId":5,"roleId":1`, 1),
		strings.Replace(good, "}", `,"clusterId":"x"}`, 1), strings.Replace(good, scope, "acme", 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w.TB = t
		before := w.dump()
		rec := w.as(bearer, "POST", "/authorization/access-rules", string(body))
		switch {
		case rec.Code == http.StatusCreated:
		case rec.Code < 400 || rec.Code > 499 || rec.Code == 401 || rec.Code == 403:
			t.Fatalf("status %d: %s", rec.Code, rec.Body)
		default:
			if diff := changed(before, w.dump()); len(diff) > 0 {
				t.Fatalf("refused, and changed %v", diff)
			}
		}
	})
}

// A method is what the request line says (WEB-015), and what is read changes nothing.
func TestMethodIsTheRequestLine(t *testing.T) {
	w := newWorld(t)
	path := "/api/v1/org-unit/projects/" + string(w.project(acme).ID)
	admin := w.adminToken(acme)
	before := w.dump()
	for _, h := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		w.call(request{method: "GET", tenant: acme, path: path, bearer: admin, header: http.Header{h: {"DELETE"}}}).want(t, 200)
	}
	w.call(request{method: "POST", tenant: acme, path: path, bearer: admin, body: "{}"}).want(t, 405)
	if diff := changed(before, w.dump()); len(diff) > 0 {
		t.Errorf("changed %v", diff)
	}
	w.call(request{method: "DELETE", tenant: acme, path: path, bearer: admin}).want(t, 204)
}
