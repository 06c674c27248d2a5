package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/pb33f/jsonschema/v6"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/kubeconfig"
	"github.com/fleetpass/fleetpass/functions/token"
)

// Thousands of requests made from the document, good ones and spoilt ones, by an administrator, by people with less to say
// and by strangers: every answer is one that the document knows, to the last member, and none is a failure of ours.
func TestGeneratedRequests(t *testing.T) {
	rounds, each := 12, 820
	if raceEnabled {
		rounds, each = 4, 200
	}
	document := parsedDocument(t)
	ops := operations(t, document)
	var mu gosync.Mutex
	statuses, succeeded := map[int]int{}, map[string]bool{}
	t.Run("rounds", func(t *testing.T) {
		for round := range rounds {
			t.Run(fmt.Sprint(round), func(t *testing.T) {
				t.Parallel()
				p := newProbe(t, document, ops, uint64(round))
				for n := range each {
					if !p.whole() { // an operator took a tenant away
						statuses, succeeded := p.statuses, p.succeeded
						p = newProbe(t, document, ops, uint64(rounds+n*rounds+round))
						p.statuses, p.succeeded = statuses, succeeded
					}
					p.step()
				}
				mu.Lock()
				defer mu.Unlock()
				for s, n := range p.statuses {
					statuses[s] += n
				}
				maps.Copy(succeeded, p.succeeded)
			})
		}
	})
	all, good := 0, 0
	for s, n := range statuses {
		if all += n; s < 300 {
			good += n
		}
	}
	for _, s := range slices.Sorted(maps.Keys(statuses)) {
		t.Logf("%d: %5d", s, statuses[s])
	}
	t.Logf("%d requests, of which %d%% succeeded, at %d of %d operations", all, 100*good/max(all, 1), len(succeeded), len(ops))
	if t.Failed() {
		return
	}
	if all < rounds*each || good*100 < all*15 {
		t.Errorf("%d requests, of which %d succeeded: too few to say anything", all, good)
	}
	if !raceEnabled && len(succeeded) < len(ops)*3/4 {
		t.Errorf("only %d of %d operations ever succeeded", len(succeeded), len(ops))
	}
}

// What is known to work is as the document says, the request and the answer, of every row of the API.
func TestSamplesAreAsDocumented(t *testing.T) {
	document := parsedDocument(t)
	ops := operations(t, document)
	w := newWorld(t)
	p := &probe{world: w, ops: ops, handler: w.handler, statuses: map[int]int{}, succeeded: map[string]bool{}, g: &generator{Rand: rand.New(rand.NewPCG(1, 5)), document: document, seen: map[string][]any{}}}
	all := samples()
	for _, e := range endpoints() {
		s := all[e.method+" "+e.path](w, policy.L1Researcher)
		i := slices.IndexFunc(ops, func(op *operation) bool { return op.method == e.method && op.path == "/v1"+e.path })
		op := ops[i]
		q := &generated{op: op, method: e.method, path: "/v1" + s.path(e), header: map[string]string{}}
		q.path, _, _ = strings.Cut(q.path, "?")
		if s.body != "" {
			q.body, q.header["Content-Type"] = []byte(s.body), "application/json"
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(s.body))
			w.must(err)
			if err := op.takes.Validate(v); err != nil {
				t.Errorf("%s: a request that works is not as documented: %v", q, err)
			}
		}
		tenant := tenantOf(e)
		rec, wrong := p.send(q, w.adminToken(tenant), tenant)
		if wrong != "" || rec.Code != s.status {
			t.Errorf("%s\n%s\nanswered %d %s", wrong, q, rec.Code, rec.Body)
		}
	}
}

// probe is a world at which requests are sent, and who sends them.
type probe struct {
	*world
	g         *generator
	ops       []*operation
	handler   http.Handler
	admins    map[core.TenantID]directory.Application
	people    map[core.TenantID]directory.User
	weak      directory.Application
	statuses  map[int]int
	succeeded map[string]bool
}

func newProbe(t *testing.T, document map[string]any, ops []*operation, seed uint64) *probe {
	t.Helper()
	p := &probe{
		world: newWorld(t), ops: ops, statuses: map[int]int{}, succeeded: map[string]bool{}, admins: map[core.TenantID]directory.Application{}, people: map[core.TenantID]directory.User{},
		g: &generator{Rand: rand.New(rand.NewPCG(seed, 5)), document: document, seen: map[string][]any{}},
	}
	server := &oauth.Server{DB: p.DB, Ring: p.Ring, Sessions: &session.Service{DB: p.DB, Ring: p.Ring, Now: p.Now}, Directory: p.Directory, Access: p.Access, Now: p.Now, Base: base}
	handlers, edge := map[string]http.Handler{}, web.Edge{Log: slog.New(slog.DiscardHandler)}
	for _, f := range []struct {
		paths   []string
		handler http.Handler
	}{
		{Paths, Handler(p.Deps)}, {token.Paths, token.Handler(token.Deps{OAuth: server})},
		{kubeconfig.Paths, kubeconfig.Handler(kubeconfig.Deps{Access: p.Access, Org: p.Org, Ring: p.Ring, Now: p.Now, Base: base})},
	} {
		wrapped := edge.Wrap(f.handler)
		for _, path := range f.paths {
			handlers[path] = wrapped
		}
	}
	p.handler = web.Routes(handlers, edge)
	p.weak = p.caller(acme, policy.Viewer, p.project(acme).ID)
	p.group(acme)
	p.idp(acme, "sample")
	p.deadLetter(acme)
	p.trace(acme)
	// What another tenant has is known too, and must be of no use.
	for _, id := range []any{p.project(globex).ID, p.department(globex).ID, p.admins[globex].ID, p.app(globex).ID} {
		p.g.keep("id", fmt.Sprint(id))
	}
	for _, op := range ops { // the lists, so that there is something to begin with
		if op.method == "GET" && !strings.Contains(op.path, "{") {
			p.send(&generated{op: op, method: "GET", path: op.path, header: map[string]string{}}, p.bearer(tenantOfPath(op.path)), tenantOfPath(op.path))
		}
	}
	return p
}

func tenantOfPath(path string) core.TenantID {
	if strings.HasPrefix(path, "/v1/tenants") {
		return core.SystemTenant
	}
	return acme
}

// bearer is the token of an application that is an administrator, or of a person. One that a request took something away
// from is replaced.
func (p *probe) bearer(t core.TenantID) string {
	p.Helper()
	app := p.admins[t]
	if app.ID == "" {
		app = p.caller(t, policy.SystemAdministrator, core.AccountScope(t))
		p.admins[t] = app
	}
	return p.appToken(t, app)
}

func (p *probe) person(t core.TenantID) string {
	p.Helper()
	u := p.people[t]
	if u.Email == "" {
		u = p.user(t, p.name("person")+"@person.test")
		p.grant(t, core.UserSubject(u.Email), policy.SystemAdministrator, core.AccountScope(t))
		p.people[t] = u
	}
	rec, err := p.Directory.User(p.Context(), t, u.Email)
	if err != nil || rec.Value.Disabled {
		delete(p.people, t)
		return p.person(t)
	}
	return p.userToken(t, u)
}

// whole says whether the tenants are all served.
func (p *probe) whole() bool {
	for _, t := range []core.TenantID{acme, globex, core.SystemTenant} {
		if rec, err := p.Org.Tenant(p.Context(), t); err != nil || rec.Value.State != org.Active {
			return false
		}
	}
	return true
}

func (p *probe) step() {
	p.Helper()
	q := p.g.request(pick(p.g, p.ops))
	tenant := tenantOfPath(q.op.path)
	bearer := ""
	switch n := p.g.IntN(100); {
	case n < 60:
		bearer = p.bearer(tenant)
	case n < 86:
		bearer = p.person(tenant)
	case n < 94:
		bearer = p.appToken(acme, p.weak)
	case n < 97:
		bearer = p.bearer(globex)
	}
	if p.g.chance(3) {
		p.pass(time.Duration(p.g.IntN(200)) * time.Second)
	}
	rec, wrong := p.send(q, bearer, tenant)
	if rec.Code == http.StatusUnauthorized || rec.Code == http.StatusForbidden {
		p.admins, p.people = map[core.TenantID]directory.Application{}, map[core.TenantID]directory.User{}
	}
	if wrong == "" {
		return
	}
	q = p.shrink(q, bearer, tenant)
	p.Errorf("%s\n%s\nanswered %d %q\n  %.1500s", wrong, q, rec.Code, rec.Header().Get("Content-Type"), rec.Body)
}

// send sends a request and says what is wrong with the answer.
func (p *probe) send(q *generated, bearer string, tenant core.TenantID) (*httptest.ResponseRecorder, string) {
	p.Helper()
	target := base + "/t/" + string(tenant) + "/api" + q.path
	if len(q.query) > 0 {
		target += "?" + strings.Join(q.query, "&")
	}
	r, err := http.NewRequestWithContext(p.Context(), q.method, target, bytes.NewReader(q.body))
	if err != nil {
		p.Fatalf("%s\n%v", q, err)
	}
	r.RemoteAddr, r.RequestURI = "192.0.2.1:1234", r.URL.RequestURI()
	if q.body == nil {
		r.Body = http.NoBody
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, r)
	p.statuses[rec.Code]++
	wrong := p.judge(q, rec)
	if wrong == "" && rec.Code < 300 && q.method == q.op.method {
		p.succeeded[q.op.id] = true
		if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(rec.Body.Bytes())); err == nil && !strings.Contains(q.path, "openapi") {
			p.g.learn(q.op.path, v)
		}
	}
	return rec, wrong
}

// judge says what is wrong with an answer; empty: nothing.
func (p *probe) judge(q *generated, rec *httptest.ResponseRecorder) string {
	op := q.op
	if rec.Code >= 500 {
		return "a failure of ours"
	}
	if q.method != op.method { // the document tells of another operation, or of none
		op = p.serves(q.method, q.path)
	}
	if op == nil || rec.Code == http.StatusNotFound && !strings.Contains(op.path, "{") {
		if rec.Code != http.StatusMethodNotAllowed && rec.Code != http.StatusNotFound && rec.Code != http.StatusUnauthorized {
			return "an operation that is not documented is served"
		}
		return badError(rec)
	}
	media, _, err := mime.ParseMediaType(rec.Header().Get("Content-Type"))
	if rec.Body.Len() == 0 && rec.Header().Get("Content-Type") == "" { // a file may be empty, too
		media, err = "", nil
	}
	if err != nil {
		return "no media type: " + err.Error()
	}
	// A path part that is empty or made of dots names another path, or none.
	if rec.Code == http.StatusMethodNotAllowed && strings.Contains(q.path+"/", "//") {
		return badError(rec)
	}
	known, ok := op.answers[fmt.Sprint(rec.Code)]
	if !ok {
		return "a status that is not documented"
	}
	a, ok := known[media]
	if !ok {
		return fmt.Sprintf("%q is not documented for this status", media)
	}
	if a.schema != nil && media == "application/json" {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(rec.Body.Bytes()))
		if err != nil {
			return "no JSON: " + err.Error()
		}
		if err := a.schema.Validate(v); err != nil {
			return "not as documented: " + err.Error()
		}
	}
	if rec.Code >= 400 && op.id != "createStandardToken" {
		return badError(rec)
	}
	return ""
}

// serves is the operation that the document has at a path; nil: none.
func (p *probe) serves(method, path string) (found *operation) {
	parts := strings.Split(path, "/")
	for _, op := range p.ops {
		at := strings.Split(op.path, "/")
		fits := func(want, got string) bool { return want == got || strings.HasPrefix(want, "{") && got != "" }
		if op.method == method && slices.EqualFunc(at, parts, fits) && (found == nil || !strings.Contains(op.path, "{")) {
			found = op
		}
	}
	return found
}

// badError says what is wrong with the body of a refusal.
func badError(rec *httptest.ResponseRecorder) string {
	var body api.Error
	d := json.NewDecoder(bytes.NewReader(rec.Body.Bytes()))
	d.DisallowUnknownFields()
	switch err := d.Decode(&body); {
	case err != nil:
		return "no error body: " + err.Error()
	case body.Code != rec.Code || body.Message == "" || body.Details.Request == "" || string(body.Details.Request) != rec.Header().Get("X-Request-ID"):
		return "the error body does not fit the answer"
	case rec.Code == 401 && rec.Header().Get("WWW-Authenticate") == "" || rec.Code == 429 && rec.Header().Get("Retry-After") == "" || rec.Code == 405 && rec.Header().Get("Allow") == "":
		return "a header that the status needs is missing"
	}
	return ""
}

// shrink leaves out of a request what is not needed for its answer to be wrong.
func (p *probe) shrink(q *generated, bearer string, tenant core.TenantID) *generated {
	try := func(change func(*generated)) {
		c := *q
		c.query, c.header = slices.Clone(q.query), maps.Clone(q.header)
		change(&c)
		if _, wrong := p.send(&c, bearer, tenant); wrong != "" {
			q = &c
		}
	}
	for i := len(q.query) - 1; i >= 0; i-- {
		try(func(c *generated) { c.query = slices.Delete(c.query, i, i+1) })
	}
	for _, k := range slices.Sorted(maps.Keys(q.header)) {
		try(func(c *generated) { delete(c.header, k) })
	}
	var body map[string]json.RawMessage
	if json.Unmarshal(q.body, &body) == nil {
		for _, k := range slices.Sorted(maps.Keys(body)) {
			less := maps.Clone(body)
			delete(less, k)
			data, err := json.Marshal(less)
			if err != nil {
				continue
			}
			was := q
			if try(func(c *generated) { c.body = data }); q != was {
				body = less
			}
		}
	}
	return q
}
