package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/jsonschema/v6"
)

// operation is a row of the document, and all that is known of the API here: requests are made and answers judged by it.
type operation struct {
	id, method, path string
	open             bool                             // no token is needed
	params           []map[string]any                 // with their references resolved
	body             map[string]any                   // the schema; nil: there is none
	media            string                           // of the body
	takes            *jsonschema.Schema               // what body is
	optional         bool                             // the body may be left out
	answers          map[string]map[string]documented // by status and media type; "" stands for no content
}

type documented struct{ schema *jsonschema.Schema } // nil: anything

// generator makes requests from the document alone, and from what earlier answers held.
type generator struct {
	*rand.Rand
	document map[string]any
	seen     map[string][]any // by the member's name, and by "PATH MEMBER" for what came from below a path
}

// operations reads the document. Answers are judged more narrowly than clients do: a member that is not described is one
// that somebody forgot.
func operations(t testing.TB, document map[string]any) []*operation {
	t.Helper()
	narrow := narrowed(document).(map[string]any)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openapi.json", narrow); err != nil {
		t.Fatal(err)
	}
	var all []*operation
	paths := document["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			if method == "parameters" {
				continue
			}
			o := item[method].(map[string]any)
			op := &operation{id: o["operationId"].(string), method: strings.ToUpper(method), path: path, answers: map[string]map[string]documented{}}
			security, given := o["security"].([]any)
			op.open = given && len(security) == 0
			for _, list := range []any{item["parameters"], o["parameters"]} {
				params, _ := list.([]any)
				for _, p := range params {
					op.params = append(op.params, follow(document, p.(map[string]any)))
				}
			}
			if body, ok := o["requestBody"].(map[string]any); ok {
				op.optional = body["required"] != true
				for media, m := range body["content"].(map[string]any) {
					op.media, op.body = media, m.(map[string]any)["schema"].(map[string]any)
					var err error
					if op.takes, err = c.Compile("openapi.json#/paths/" + escaped(path) + "/" + method + "/requestBody/content/" + escaped(media) + "/schema"); err != nil {
						t.Fatal(err)
					}
				}
			}
			for status, r := range o["responses"].(map[string]any) {
				pointer := "#/paths/" + escaped(path) + "/" + method + "/responses/" + status
				if ref, ok := r.(map[string]any)["$ref"].(string); ok {
					pointer = ref
				}
				op.answers[status] = map[string]documented{}
				content, _ := follow(document, r.(map[string]any))["content"].(map[string]any)
				for media, m := range content {
					a := documented{}
					if m.(map[string]any)["schema"] != nil {
						schema, err := c.Compile("openapi.json" + pointer + "/content/" + escaped(media) + "/schema")
						if err != nil {
							t.Fatal(err)
						}
						a.schema = schema
					}
					op.answers[status][media] = a
				}
				if len(content) == 0 {
					op.answers[status][""] = documented{}
				}
			}
			all = append(all, op)
		}
	}
	return all
}

// escaped is a name as part of a JSON pointer in a URL fragment.
func escaped(s string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
}

func follow(document map[string]any, v map[string]any) map[string]any {
	if ref, ok := v["$ref"].(string); ok {
		return at(document, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
	}
	return v
}

// narrowed is the document with every object closed whose members are named.
func narrowed(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = narrowed(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = narrowed(v[k])
		}
		if out["type"] == "object" && out["properties"] != nil && out["additionalProperties"] == nil {
			out["additionalProperties"] = false
		}
		return out
	}
	return v
}

// generated is one request below a tenant's API.
type generated struct {
	op     *operation
	method string
	path   string // encoded
	query  []string
	header map[string]string
	body   []byte
	spoilt string // what is wrong with it; empty: nothing that the document speaks of
}

func (q *generated) String() string {
	s := fmt.Sprintf("%s %s (%s)", q.method, q.path, cmp.Or(q.spoilt, "as documented"))
	if len(q.query) > 0 {
		s += "\n  ?" + strings.Join(q.query, "&")
	}
	for _, k := range slices.Sorted(maps.Keys(q.header)) {
		s += "\n  " + k + ": " + fmt.Sprintf("%.200q", q.header[k])
	}
	if q.body != nil {
		s += "\n  " + fmt.Sprintf("%.2000q", q.body)
	}
	return s
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// hostile are texts that nobody should trip over.
var hostileTexts = []string{
	"", " ", "0", "-1", "null", "true", "{}", "..", ".", "../../x", "a/b", "%2e%2e", "%00", "\x00", "\t\n", "a b", "a\u0000b", "system:masters", "ｓystem:masters",
	"'; DROP TABLE users; --", `"><script>alert(1)</script>`, "${jndi:ldap://x}", "{{7*7}}", "é", "e\u0301", "漢字", "🙂", "\u202egnp.exe", "\ufeff", "a\u200bb", "İ", "ß",
	"9223372036854775807", "9223372036854775808", "18446744073709551616", "1e309", "00000000-0000-4000-8000-000000000000",
	"00000000-0000-4000-8000-000000000000.aaaaaaaa", "*", "a,b", "a=b&c=d", "#", "?", ";", "\\", "admin@acme.test", "acme", "globex", "system", "fleetpass-cli",
}

func (g *generator) hostile() string {
	switch g.IntN(12) {
	case 0:
		return strings.Repeat(pick(g, []string{"a", "é", "🙂", "\"", "0", "/"}), 1+g.IntN(5000))
	case 1:
		b := make([]rune, 1+g.IntN(40))
		for i := range b {
			b[i] = rune(g.IntN(0x3000))
		}
		return string(b)
	}
	return pick(g, hostileTexts)
}

// anything is a value of any type.
func (g *generator) anything(depth int) any {
	switch g.IntN(9) {
	case 0:
		return nil
	case 1:
		return g.chance(50)
	case 2:
		return json.Number(pick(g, []string{"0", "-1", "1.5", "1e400", "9223372036854775808", "-9223372036854775809", "2147483648", "18446744073709551615", "0.1e-400"}))
	case 3, 4:
		list := make([]any, g.IntN(4))
		for i := range list {
			if depth > 0 {
				list[i] = g.anything(depth - 1)
			}
		}
		return list
	case 5:
		object := map[string]any{}
		for range g.IntN(3) {
			if depth > 0 {
				object[g.hostile()] = g.anything(depth - 1)
			}
		}
		return object
	}
	return g.hostile()
}

// value is one that the schema allows. Those that earlier answers held are preferred where the name tells of them.
func (g *generator) value(name string, s map[string]any) any {
	s = follow(g.document, s)
	if each, ok := s["anyOf"].([]any); ok {
		return g.value(name, pick(g, each).(map[string]any))
	}
	if v, ok := s["const"]; ok {
		return v
	}
	if values, ok := s["enum"].([]any); ok {
		return pick(g, values)
	}
	kind, _ := s["type"].(string)
	if kinds, ok := s["type"].([]any); ok {
		kind = kinds[0].(string)
	}
	switch kind {
	case "object":
		return g.object(s)
	case "array":
		list := make([]any, g.IntN(4))
		for i := range list {
			list[i] = g.value(strings.TrimSuffix(name, "s"), s["items"].(map[string]any))
		}
		return list
	case "boolean":
		return g.chance(50)
	case "integer", "number":
		if seen := g.seen[name]; len(seen) > 0 && g.chance(50) {
			return pick(g, seen)
		}
		low, _ := s["minimum"].(float64)
		high, bounded := s["maximum"].(float64)
		if !bounded {
			high = low + 3000
		}
		return int64(low) + pick(g, []int64{0, 1, g.Int64N(1 + int64(high-low)), int64(high - low)})
	case "string":
		return g.text(name, s)
	}
	return g.anything(2)
}

// aliases are the members whose values stand for others: an access rule's scope is a project's id.
var aliases = map[string][]string{
	"scopeId":      {"/v1/org-unit/projects id", "/v1/org-unit/departments id", "/v1/clusters uuid"},
	"parentId":     {"/v1/org-unit/departments id", "/v1/clusters uuid"},
	"clusterId":    {"/v1/clusters uuid"},
	"subjectId":    {"/v1/users username", "/v1/groups name", "/v1/service-accounts clientId"},
	"subjectIds":   {"/v1/users username", "/v1/groups name"},
	"email":        {"/v1/users username"},
	"alias":        {"/v1/idps alias"},
	"idpAlias":     {"/v1/idps alias"},
	"breakGlas":    {"/v1/users username"}, // without its s, as of a list
	"cursor":       {"next"},
	"clientID":     {"/v1/service-accounts clientId"},
	"clientSecret": {"clientSecret"},
	"ids":          {"id"},
}

// known is a value that an earlier answer held under the name.
func (g *generator) known(name string) (any, bool) {
	from := append([]string{name}, aliases[name]...)
	g.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	for _, n := range from {
		if seen := g.seen[n]; len(seen) > 0 {
			return pick(g, seen), true
		}
	}
	return nil, false
}

var letters = "abcdefghijklmnopqrstuvwxyz"

func (g *generator) word(least, most int) string {
	b := make([]byte, least+g.IntN(most-least+1))
	for i := range b {
		b[i] = letters[g.IntN(len(letters))]
	}
	return string(b)
}

func (g *generator) text(name string, s map[string]any) any {
	if len(aliases[name]) > 0 && name != "email" && name != "alias" && g.chance(85) || g.chance(15) {
		if v, ok := g.known(name); ok {
			return v
		}
	}
	least, most := 0, 60
	if v, ok := s["minLength"].(float64); ok {
		least = int(v)
	}
	if v, ok := s["maxLength"].(float64); ok {
		most = int(v)
	}
	switch s["format"] {
	case "date-time":
		return pick(g, []string{"2026-05-04T09:00:00Z", "2027-01-01T00:00:00Z", "2026-05-04T09:00:01.5+02:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-12-31T23:59:60Z"})
	case "email":
		return g.word(1, 12) + "@" + g.word(1, 8) + pick(g, []string{".test", ".example", ".Test"})
	case "uuid":
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", g.Uint32(), g.IntN(1<<16), g.IntN(1<<12), g.IntN(1<<12), g.Uint64()>>16)
	case "uri":
		return pick(g, []string{"https://a.example.test", "https://idp.test/metadata", "https://idp.test/.well-known/openid-configuration", "https://api.example.test:6443", "http://x.test", "urn:x:y", "https://[::1]:443/"})
	}
	if p, ok := s["pattern"].(string); ok {
		if p == "^[ -~]+$" {
			return g.word(max(least, 1), 40)
		}
		w := g.word(max(least, 2), 20)
		if matched, err := regexp.MatchString(p, w); err != nil || !matched {
			panic("a pattern that the generator does not know: " + p)
		}
		return w
	}
	switch g.IntN(10) {
	case 0:
		return strings.Repeat("x", most)
	case 1:
		return strings.Repeat("y", least)
	case 2:
		return "Ünïcode " + g.word(least, least+5)
	}
	return g.word(max(least, 1), max(least, 12))
}

// object is an object with the members that it needs, and some of the others.
func (g *generator) object(s map[string]any) map[string]any {
	made := map[string]any{}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	some := g.IntN(100)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if slices.Contains(required, any(name)) || g.chance(some) {
			made[name] = g.value(name, properties[name].(map[string]any))
		}
	}
	return made
}

// request makes a request: as documented, or spoilt in one way.
func (g *generator) request(op *operation) *generated {
	q := &generated{op: op, method: op.method, header: map[string]string{}}
	q.path = g.fill(op, func(name string) string {
		below, _, _ := strings.Cut(op.path, "/{")
		from := g.seen[below+" "+name]
		for _, p := range op.params {
			if examples, ok := p["schema"].(map[string]any)["examples"].([]any); ok && p["name"] == name {
				from = examples
			}
		}
		if len(from) > 0 && !g.chance(8) {
			return fmt.Sprint(pick(g, from))
		}
		return g.hostile()
	})
	for _, p := range op.params {
		name, s := p["name"].(string), p["schema"].(map[string]any)
		switch p["in"] {
		case "query":
			if g.chance(20) {
				q.query = append(q.query, g.parameter(name, s)...)
			}
		case "header":
			if g.chance(15) {
				q.header[name] = clean(fmt.Sprint(g.value(name, s)))
			}
		}
	}
	var body any
	if op.body != nil && !(op.optional && g.chance(40)) {
		body = g.value("", op.body)
		q.header["Content-Type"] = op.media
	}
	if g.chance(45) {
		body = g.spoil(q, body)
	}
	if body != nil && q.body == nil {
		q.body = g.encode(op.media, body)
	}
	return q
}

func (g *generator) fill(op *operation, with func(name string) string) string {
	return parameter.ReplaceAllStringFunc(op.path, func(m string) string { return url.PathEscape(with(m[1 : len(m)-1])) })
}

// parameter is a query parameter as documented.
func (g *generator) parameter(name string, s map[string]any) (all []string) {
	if s["type"] == "array" {
		for range 1 + g.IntN(2) {
			all = append(all, name+"="+url.QueryEscape(fmt.Sprint(g.filter(name, s["items"].(map[string]any)))))
		}
		return all
	}
	return append(all, name+"="+url.QueryEscape(fmt.Sprint(g.filter(name, s))))
}

// filter is a value of a parameter. What fields a list can be filtered and sorted by, its answers tell: their members.
func (g *generator) filter(name string, s map[string]any) any {
	if name != "filterBy" && name != "sortBy" || len(g.seen) == 0 {
		return g.value(name, s)
	}
	var fields []string
	for k, seen := range g.seen {
		if !strings.Contains(k, " ") && len(seen) > 0 {
			fields = append(fields, k)
		}
	}
	slices.Sort(fields)
	field := pick(g, fields)
	if name == "sortBy" {
		return field
	}
	return field + pick(g, []string{"==", "!=", "<=", ">=", "=@", "!@", "=^", "=$", "=", "~"}) + fmt.Sprint(pick(g, g.seen[field]))
}

func (g *generator) encode(media string, body any) []byte {
	if object, ok := body.(map[string]any); ok && media == "application/x-www-form-urlencoded" {
		form := url.Values{}
		for k, v := range object {
			form.Set(k, fmt.Sprint(v))
		}
		return []byte(form.Encode())
	}
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return data
}

// clean is a text as it can stand in a header: what cannot never reaches a handler.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '.'
		}
		return r
	}, s)
}

// spoil changes one thing about a request, and returns its body.
func (g *generator) spoil(q *generated, body any) any {
	op := q.op
	switch g.IntN(12) {
	case 0:
		q.spoilt = "a hostile id"
		q.path = g.fill(op, func(string) string { return g.hostile() })
	case 1:
		q.spoilt = "another kind's id"
		q.path = g.fill(op, func(string) string {
			if v, ok := g.known(pick(g, []string{"id", "uuid", "alias", "name", "kid", "username", "clientId", "next"})); ok {
				return fmt.Sprint(v)
			}
			return "none"
		})
	case 2:
		q.spoilt = "an unknown parameter"
		q.query = append(q.query, url.QueryEscape(g.hostile())+"="+url.QueryEscape(g.hostile()))
	case 3:
		q.spoilt = "a garbled query"
		q.query = append(q.query, pick(g, []string{"%zz", "a;b", "=", "&&", "limit", "limit=1&limit=2", "offset=%ff", strings.Repeat("a", 9000), "limit=0x10", "cursor=%00"}))
	case 4:
		q.spoilt = "a parameter that holds anything"
		for _, p := range op.params {
			if p["in"] == "query" && g.chance(50) {
				q.query = append(q.query, p["name"].(string)+"="+url.QueryEscape(g.hostile()))
			}
		}
	case 5:
		q.spoilt = "headers that hold anything"
		name := pick(g, []string{"If-Match", "If-None-Match", idempotencyKey, reasonHeader, "X-Request-ID", "Accept", "Content-Encoding", "Content-Type", "Accept-Encoding", "Prefer"})
		q.header[name] = clean(g.hostile())
	case 6:
		q.spoilt = "another method"
		q.method = pick(g, []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"})
	case 7:
		q.spoilt = "a body that is none"
		q.header["Content-Type"] = cmp.Or(op.media, "application/json")
		q.body = []byte(pick(g, []string{"", " ", "null", "{", `{"a":`, "[]", "[{}]", "1", `"x"`, "{}{}", "\xff", "{\"a\":\"\xff\"}", `{"a":1,"a":2}`, strings.Repeat("[", 100),
			strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), strings.Repeat(" ", 40000), "a=b", "\x1f\x8b"}))
	case 8:
		q.spoilt = "a body that is anything"
		q.header["Content-Type"] = pick(g, []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "a/b; c"})
		q.body = g.encode("application/json", g.anything(3))
	default:
		object, ok := body.(map[string]any)
		if !ok {
			return body
		}
		names := slices.Sorted(maps.Keys(object))
		switch n := g.IntN(4); {
		case n == 0 || len(names) == 0:
			q.spoilt = "a member too many"
			object[pick(g, []string{"isAdmin", "ID", "Name", "__proto__", "", g.hostile()})] = g.anything(1)
		case n == 1:
			q.spoilt = "a member too few"
			delete(object, pick(g, names))
		case n == 2:
			q.spoilt = "a member of any type"
			object[pick(g, names)] = g.anything(2)
		default:
			q.spoilt = "a member that is any text"
			object[pick(g, names)] = g.hostile()
		}
		return object
	}
	return body
}

// learn keeps what an answer holds, for later requests.
func (g *generator) learn(path string, v any) {
	below, _, _ := strings.Cut(path, "/{")
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			g.learn(path, item)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch item := v[name].(type) {
			case string, json.Number:
				g.keep(name, item)
				g.keep(below+" "+name, item)
				if name == "uuid" || name == "kid" || name == "clientId" && below == "/v1/service-accounts" {
					g.keep(below+" id", item)
				}
				if name == "username" {
					g.keep(below+" email", item)
					g.keep("/v1/groups email", item)
				}
			default:
				g.learn(path, item)
			}
		}
	}
}

func (g *generator) keep(name string, v any) {
	seen := g.seen[name]
	if v == "" || slices.Contains(seen, v) {
		return
	}
	if len(seen) < 30 {
		g.seen[name] = append(seen, v)
		return
	}
	seen[g.IntN(len(seen))] = v
}
