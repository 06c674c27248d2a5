package evaluate_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
)

const (
	whoMay  = "/t/acme/access/v1/search/subject"
	whereIn = "/t/acme/access/v1/search/resource"
	whatMay = "/t/acme/access/v1/search/action"
)

type page struct {
	Results []struct{ Type, ID, Name string }
	Page    struct {
		Next  string `json:"next_token"`
		Count int    `json:"count"`
	}
	Context struct{ Revision core.Revision }
}

// object is part of a request.
type object = map[string]any

func about(kind, id string) object {
	o := object{"type": kind}
	if id != "" {
		o["id"] = id
	}
	return o
}

// find asks for one page.
func (r *rig) find(path, bearer string, limit int, token string, question object) response {
	r.t.Helper()
	q := object{"page": object{"limit": limit, "token": token}}
	for k, v := range question {
		q[k] = v
	}
	body, err := json.Marshal(q)
	r.must(err)
	return r.post(path, bearer, string(body))
}

// all asks for page after page, and returns what was found, in order. Nothing may come twice, and no page may be too long.
func (r *rig) all(path, bearer string, limit int, question object) []string {
	r.t.Helper()
	out := []string{}
	for token, n := "", 0; ; n++ {
		var p page
		r.decode(r.find(path, bearer, limit, token, question), &p)
		if len(p.Results) > limit || p.Page.Count != len(p.Results) || p.Context.Revision == 0 || n > 10_000 {
			r.t.Fatalf("page %d of %s %v: %+v", n, path, question, p)
		}
		for _, found := range p.Results {
			out = append(out, found.Type+found.Name+":"+found.ID)
		}
		if token = p.Page.Next; token == "" {
			break
		}
	}
	sorted := slices.Clone(out)
	slices.Sort(sorted)
	if twice := len(slices.Compact(slices.Clone(sorted))); twice != len(out) {
		r.t.Errorf("%s %v finds something twice: %v", path, question, out)
	}
	return sorted
}

// planet is a random world on a real store: a tree, people, groups and applications, and rules that come and go.
type planet struct {
	*rig
	*rand.Rand
	scopes   []core.ScopeID // live, deleted, and of nobody
	parents  []core.ScopeID
	subjects []core.Subject
	people   []string // who can sign in, by first name
}

func pick[T any](p *planet, from []T) T { return from[p.IntN(len(from))] }

func newPlanet(t *testing.T, seed uint64) *planet {
	p := &planet{rig: newRig(t), Rand: rand.New(rand.NewPCG(seed, 1))}
	p.people = []string{"ada", "bob", "cyd"}
	ctx, us := t.Context(), core.SystemActor(acme)
	p.scopes, p.parents = []core.ScopeID{"acme"}, []core.ScopeID{p.cluster}
	there, err := p.org.Scopes(ctx, acme)
	p.must(err)
	for _, sc := range there {
		p.scopes = append(p.scopes, sc.ID)
	}
	for i := range 1 + p.IntN(2) {
		c, err := p.org.CreateCluster(ctx, us, acme, fmt.Sprintf("cluster-%d", i), org.Reach{Server: "https://c.example.com"})
		p.must(err)
		p.parents = append(p.parents, c.ID)
	}
	for i := range p.IntN(4) {
		c, _ := pick(p, p.parents).ClusterOf()
		d, err := p.org.CreateDepartment(ctx, us, acme, c, fmt.Sprintf("department-%d", i))
		p.must(err)
		p.parents = append(p.parents, d.ID)
	}
	p.scopes = append(append(p.scopes, p.parents[1:]...), "elsewhere")
	for i := range p.IntN(8) {
		sc, err := p.org.CreateProject(ctx, us, acme, org.NewProject{Name: fmt.Sprintf("project-%d", i), Parent: pick(p, p.parents)})
		p.must(err)
		p.scopes = append(p.scopes, sc.ID)
	}
	groups := []core.GroupName{"physicists", "chemists", "idp: Staff", "no one's"}
	_, err = p.dir.CreateGroup(ctx, us, acme, "chemists")
	p.must(err)
	for i := range 5 {
		name := fmt.Sprintf("local%d", i)
		u, _, err := p.dir.CreateUser(ctx, us, acme, directory.NewUser{Email: name + "@example.com", Password: "correct horse battery"})
		p.must(err)
		p.ids[name], p.people = u.ID, append(p.people, name)
		for _, g := range groups[:2] {
			if p.IntN(2) == 0 {
				_, err := p.dir.AddMember(ctx, us, acme, g, u.Email)
				p.must(err)
			}
		}
	}
	for i := range 5 {
		p.signsIn(fmt.Sprintf("provided%d", i), groups[1:3])
	}
	for _, g := range groups {
		p.subjects = append(p.subjects, core.GroupSubject(g))
	}
	for _, name := range append(slices.Clone(p.people), "provided0", "provided1", "provided2", "provided3", "provided4", "nobody") {
		p.subjects = append(p.subjects, core.UserSubject(core.Email(name+"@example.com")))
	}
	p.subjects = append(p.subjects, core.ApplicationSubject(p.robot), core.ApplicationSubject(p.auditor), core.ApplicationSubject("absent"))
	for range 10 + p.IntN(30) {
		p.grants()
	}
	return p
}

// signsIn is a sign-in at an identity provider, which says some of the groups.
func (p *planet) signsIn(name string, groups []core.GroupName) {
	p.t.Helper()
	ctx := p.t.Context()
	rec, err := p.dir.User(ctx, acme, core.Email(name+"@example.com"))
	if err != nil && !errors.Is(err, core.NotFound) {
		p.must(err)
	}
	said := directory.Said{Connection: "c1", Alias: "corp", Email: core.Email(name + "@example.com")}
	for _, g := range groups {
		if p.IntN(2) == 0 {
			said.Groups = append(said.Groups, g)
		}
	}
	u, ops, err := p.dir.FromProvider(core.Actor{Tenant: acme}, rec, said)
	if errors.Is(err, core.Unauthenticated) {
		return // disabled meanwhile
	}
	p.must(err)
	index, err := p.dir.FollowGroups(ctx, acme, rec.Value, u, said)
	p.must(err)
	p.must(p.db.Commit(ctx, append(ops, index...)...))
}

// grants makes a random rule, with an end or without.
func (p *planet) grants() {
	n := access.NewRule{Subject: pick(p, p.subjects), Role: pick(p, policy.Roles()).ID, Scope: pick(p, p.scopes)}
	if p.IntN(3) == 0 {
		n.ExpiresAt = p.now().Add(time.Duration(1+p.IntN(600)) * time.Second)
	}
	_, err := p.access.Seed(p.t.Context(), acme, n)
	for _, fine := range []error{core.NotFound, core.Invalid, core.Exists} { // of a scope or an application that is not there
		if errors.Is(err, fine) {
			err = nil
		}
	}
	p.must(err)
}

// turn changes the world in some ways.
func (p *planet) turn() {
	ctx, us := p.t.Context(), core.SystemActor(acme)
	p.clock.Add(int64(p.IntN(200)))
	for range 3 + p.IntN(5) {
		person := core.Email(pick(p, p.people[1:]) + "@example.com")
		var err error
		switch p.IntN(9) {
		case 0:
			p.grants()
		case 1:
			p.signsIn(fmt.Sprintf("provided%d", p.IntN(5)), []core.GroupName{"chemists", "idp: Staff"})
		case 2:
			_, err = p.dir.Disable(ctx, us, acme, core.Email(fmt.Sprintf("provided%d@example.com", p.IntN(5))))
		case 3:
			_, err = p.dir.RemoveMember(ctx, us, acme, pick(p, []core.GroupName{"physicists", "chemists"}), person)
		case 4:
			_, err = p.dir.AddMember(ctx, us, acme, pick(p, []core.GroupName{"physicists", "chemists"}), person)
		case 5:
			_, err = p.org.Move(ctx, us, acme, pick(p, p.scopes), pick(p, p.parents))
		case 6:
			if p.IntN(3) == 0 {
				err = p.org.DeleteScope(ctx, us, acme, pick(p, p.scopes[1:]), true) // some take what is below with them
			}
		case 7:
			_, err = p.dir.SetEnabled(ctx, us, acme, p.auditor, p.IntN(2) == 0)
		case 8:
			if p.IntN(3) == 0 {
				err = p.dir.DeleteUser(ctx, us, acme, core.Email(fmt.Sprintf("provided%d@example.com", p.IntN(5))))
			}
		}
		if !errors.Is(err, core.NotFound) && !errors.Is(err, core.Invalid) {
			p.must(err)
		}
	}
}

// evaluates asks the Access Evaluations API, as somebody.
func (p *planet) evaluates(who string, questions []object) []bool {
	p.t.Helper()
	var out []bool
	for part := range slices.Chunk(questions, 50) {
		body, err := json.Marshal(object{"evaluations": part})
		p.must(err)
		var got struct{ Evaluations []answer }
		p.decode(p.post(many, p.token(who), string(body)), &got)
		for _, a := range got.Evaluations {
			out = append(out, a.Decision)
		}
	}
	return out
}

// those are the results that the evaluations say yes to.
func those(names []string, yes []bool) []string {
	out := []string{}
	for i, n := range names {
		if yes[i] {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// check compares a few searches of each kind with the evaluations of everything that could be found.
func (p *planet) check() {
	p.t.Helper()
	for range 12 {
		entity, action := pick(p, policy.Entities()), pick(p, policy.Actions())
		if p.IntN(3) == 0 {
			entity = pick(p, []policy.Entity{policy.AccessRules, policy.Workloads})
		}
		scope, limit := string(pick(p, p.scopes)), 1+p.IntN(6)
		subject := pick(p, p.subjects)
		who := "ada"
		if p.IntN(3) == 0 {
			who = pick(p, p.people)
		}
		what := fmt.Sprintf("%s about %s: %s on %s in %s", who, subject, action, entity, scope)
		question := object{"subject": about(string(subject.Kind), subject.ID), "action": object{"name": action.String()}, "resource": about(entity.String(), scope)}
		with := func(name string, v object) object {
			q := object{"subject": question["subject"], "action": question["action"], "resource": question["resource"]}
			q[name] = v
			return q
		}
		may := func(scope string) object {
			return object{"subject": about("user", who+"@example.com"), "action": object{"name": "view"}, "resource": about("access_rules", scope)}
		}
		unknown := !p.exists(core.ScopeID(scope))
		allowed := p.evaluates(who, []object{may(scope)})[0]
		self := subject == core.UserSubject(core.Email(who+"@example.com"))

		// Who may?
		var names []string
		var questions []object
		for _, s := range p.subjects {
			if s.Kind == subject.Kind {
				names, questions = append(names, string(s.Kind)+":"+s.ID), append(questions, with("subject", about(string(s.Kind), s.ID)))
			}
		}
		if asked := with("subject", about(string(subject.Kind), "")); !allowed && !unknown {
			if got := p.find(whoMay, p.token(who), limit, "", asked); got.status != 403 {
				p.t.Errorf("%s: who may: %d %s", what, got.status, got.body)
			}
		} else if diff := cmp.Diff(those(names, p.evaluates("ada", questions)), p.all(whoMay, p.token(who), limit, asked)); diff != "" {
			p.t.Errorf("%s: who may (-evaluation +search):\n%s", what, diff)
		}

		// Where?
		names, questions = nil, nil
		var seen []object
		for _, s := range p.scopes {
			names, questions = append(names, entity.String()+":"+string(s)), append(questions, with("resource", about(entity.String(), string(s))))
			seen = append(seen, may(string(s)))
		}
		yes := p.evaluates("ada", questions)
		if !self {
			for i, may := range p.evaluates(who, seen) {
				yes[i] = yes[i] && may
			}
		}
		if diff := cmp.Diff(those(names, yes), p.all(whereIn, p.token(who), limit, with("resource", about(entity.String(), "")))); diff != "" {
			p.t.Errorf("%s: where (-evaluation +search):\n%s", what, diff)
		}

		// What?
		names, questions = nil, nil
		for _, a := range policy.Actions() {
			names, questions = append(names, a.String()+":"), append(questions, with("action", object{"name": a.String()}))
		}
		asked := with("action", nil)
		delete(asked, "action")
		if !allowed && !unknown && !self {
			if got := p.find(whatMay, p.token(who), limit, "", asked); got.status != 403 {
				p.t.Errorf("%s: what: %d %s", what, got.status, got.body)
			}
		} else if diff := cmp.Diff(those(names, p.evaluates("ada", questions)), p.all(whatMay, p.token(who), limit, asked)); diff != "" {
			p.t.Errorf("%s: what (-evaluation +search):\n%s", what, diff)
		}
	}
}

func (p *planet) exists(id core.ScopeID) bool {
	if id == "acme" {
		return true
	}
	_, err := p.org.Scope(p.t.Context(), acme, id)
	return err == nil
}

// Search agrees with evaluation: what is found over all pages is exactly what evaluation says yes to, each once, in random
// worlds, through the API.
func TestSearchAgreesWithEvaluation(t *testing.T) {
	planets, turns := uint64(25), 3
	if testing.Short() {
		planets, turns = 5, 2
	}
	for seed := range planets {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPlanet(t, seed)
			for range turns {
				p.check()
				p.turn()
			}
			p.check()
			if seed > 2 {
				return
			}
			// In a tenant that is suspended nothing is found, as every evaluation says no.
			bearer := p.token("ada")
			p.must(p.org.Suspend(t.Context(), core.SystemActor(core.SystemTenant), acme))
			for path, q := range map[string]object{
				whoMay:  {"subject": about("user", ""), "action": object{"name": "view"}, "resource": about("jobs", "acme")},
				whereIn: {"subject": about("user", "ada@example.com"), "action": object{"name": "view"}, "resource": about("jobs", "")},
				whatMay: {"subject": about("user", "ada@example.com"), "resource": about("jobs", "acme")},
			} {
				if got := p.all(path, bearer, 5, q); len(got) != 0 {
					t.Errorf("%s in a suspended tenant: %v", path, got)
				}
			}
		})
	}
	t.Logf("%d worlds, %d times each", planets, turns+1)
}

// The form of the Search APIs, as AuthZEN and its certification have it.
func TestSearchForm(t *testing.T) {
	r := newRig(t)
	ada := r.token("ada")
	view := object{"name": "view"}
	got := r.all(whoMay, ada, 10, object{"subject": about("user", "is ignored"), "action": object{"name": "create"}, "resource": about("workloads", string(r.quarks)), "context": object{"time": "now"}, "later": 1})
	if diff := cmp.Diff([]string{"user:ada@example.com", "user:bob@example.com"}, got); diff != "" {
		t.Errorf("who: %s", diff)
	}
	in := object{"type": "workloads", "id": "job-17", "properties": object{"scope": r.quarks}}
	if got := r.all(whoMay, ada, 10, object{"subject": about("group", ""), "action": object{"name": "create"}, "resource": in}); !slices.Equal(got, []string{"group:physicists"}) {
		t.Errorf("which groups, of a thing in a scope: %v", got)
	}
	if got := r.all(whatMay, r.token("bob"), 1, object{"subject": about("user", string(r.ids["bob"])), "resource": in}); len(got) != 4 {
		t.Errorf("what bob may, by the sub of his token: %v", got)
	}
	if got := r.all(whereIn, r.token("bob"), 1, object{"subject": about("user", "BOB@example.com"), "action": view, "resource": about("jobs", "is ignored")}); !slices.Equal(got, []string{"jobs:" + string(r.quarks)}) {
		t.Errorf("where bob may: %v", got)
	}
	// What is not known finds nothing, and is no error.
	for what, q := range map[string]struct {
		path string
		q    object
	}{
		"kind of subject":   {whoMay, object{"subject": about("spaceship", ""), "action": view, "resource": about("jobs", "acme")}},
		"entity":            {whoMay, object{"subject": about("user", ""), "action": view, "resource": about("record", "acme")}},
		"action":            {whoMay, object{"subject": about("user", ""), "action": object{"name": "read"}, "resource": about("jobs", "acme")}},
		"scope":             {whoMay, object{"subject": about("user", ""), "action": view, "resource": about("jobs", "record-1")}},
		"another tenant":    {whoMay, object{"subject": about("user", ""), "action": view, "resource": about("jobs", "globex")}},
		"person":            {whereIn, object{"subject": about("user", "nobody@example.com"), "action": view, "resource": about("jobs", "")}},
		"kind, where":       {whereIn, object{"subject": about("spaceship", "x"), "action": view, "resource": about("jobs", "")}},
		"entity, where":     {whereIn, object{"subject": about("user", "ada@example.com"), "action": view, "resource": about("record", "")}},
		"person, what":      {whatMay, object{"subject": about("user", "nobody@example.com"), "resource": about("jobs", "acme")}},
		"kind, what":        {whatMay, object{"subject": about("spaceship", "x"), "resource": about("jobs", "acme")}},
		"entity, what":      {whatMay, object{"subject": about("user", "ada@example.com"), "resource": about("record", "acme")}},
		"scope, what":       {whatMay, object{"subject": about("user", "ada@example.com"), "resource": about("jobs", "elsewhere")}},
		"anything of cyd's": {whereIn, object{"subject": about("user", "cyd@example.com"), "action": view, "resource": about("jobs", "")}},
	} {
		res := r.find(q.path, ada, 10, "", q.q)
		var p page
		if r.decode(res, &p); len(p.Results) != 0 || !strings.Contains(res.body, `"results":[]`) || !strings.Contains(res.body, `"next_token":""`) {
			t.Errorf("an unknown %s: %s", what, res.body)
		}
	}
	who := object{"subject": about("user", ""), "action": view, "resource": about("jobs", "acme")}
	var p page
	r.decode(r.find(whoMay, ada, 100_000, "", who), &p) // a limit is the most that the caller takes
	rev := p.Context.Revision
	body := func(context string) string {
		return `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"context":` + context + `}`
	}
	if got := r.post(whoMay, ada, body(fmt.Sprintf(`{"minimum_revision":%d}`, rev)), "X-Request-ID", "a b"); got.status != 200 || got.header.Get("X-Request-ID") != "a b" {
		t.Errorf("the present revision: %d %s %q", got.status, got.body, got.header.Get("X-Request-ID"))
	}
	if got := r.post(whoMay, ada, body(fmt.Sprintf(`{"minimum_revision":%d}`, rev+1)), "X-Request-ID", "a b"); got.status != 409 || !strings.Contains(got.body, "minimum_revision") || got.header.Get("X-Request-ID") != "a b" {
		t.Errorf("the next revision: %d %s", got.status, got.body)
	}
	for name, tt := range map[string]struct{ path, body, field string }{
		"no subject":           {whoMay, `{"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"}}`, "/subject"},
		"no kind of subject":   {whoMay, `{"subject":{},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"}}`, "/subject/type"},
		"no action":            {whoMay, `{"subject":{"type":"user"},"resource":{"type":"jobs","id":"acme"}}`, "/action"},
		"no resource's id":     {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs"}}`, "/resource/id"},
		"no subject's id":      {whereIn, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs"}}`, "/subject/id"},
		"no action, where":     {whereIn, `{"subject":{"type":"user","id":"x"},"resource":{"type":"jobs"}}`, "/action"},
		"no resource":          {whatMay, `{"subject":{"type":"user","id":"x"}}`, "/resource"},
		"no resource's id, 2":  {whatMay, `{"subject":{"type":"user","id":"x"},"resource":{"type":"jobs"}}`, "/resource/id"},
		"no page at all":       {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":{"limit":0}}`, "/page/limit"},
		"less than none":       {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":{"limit":-1}}`, "/page/limit"},
		"half a page":          {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":{"limit":1.5}}`, "/page/limit"},
		"a number for a token": {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":{"token":1}}`, "/page/token"},
		"a page that is text":  {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":"1"}`, "/page"},
		"twice":                {whoMay, `{"subject":{"type":"user"},"action":{"name":"view"},"action":{"name":"edit"},"resource":{"type":"jobs","id":"acme"}}`, "/action"},
		"broken":               {whatMay, `{"subject":`, "/subject"},
	} {
		got := r.post(tt.path, ada, tt.body)
		if got.status != 400 || !strings.Contains(got.body, `"field":"`+tt.field+`"`) {
			t.Errorf("%s: %d %s, want 400 naming %s", name, got.status, got.body, tt.field)
		}
		if got := r.post(tt.path, "", tt.body); got.status != 401 {
			t.Errorf("%s, from a stranger: %d", name, got.status)
		}
	}
	r.must(r.dir.DeleteUser(t.Context(), core.SystemActor(acme), acme, "bob@example.com"))
	if got := r.all(whoMay, ada, 10, object{"subject": about("user", ""), "action": object{"name": "create"}, "resource": about("workloads", string(r.quarks))}); !slices.Equal(got, []string{"user:ada@example.com"}) {
		t.Errorf("after bob went: %v", got)
	}
}

// A page's token goes with its question and its tenant, and with nothing else; whatever is wrong with one, the answer is the
// same.
func TestPageTokens(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		_, err := r.access.Seed(t.Context(), acme, access.NewRule{Subject: core.UserSubject("cyd@example.com"), Role: policy.SystemAdministrator, Scope: []core.ScopeID{"acme", r.cluster, r.quarks}[i]})
		r.must(err)
	}
	ada := r.token("ada")
	first := func(path string, q object) string {
		t.Helper()
		var p page
		r.decode(r.find(path, ada, 1, "", q), &p)
		if p.Page.Next == "" {
			t.Fatalf("%s %v: one page is all: %+v", path, q, p)
		}
		return p.Page.Next
	}
	who := object{"subject": about("user", ""), "action": object{"name": "view"}, "resource": about("jobs", "acme")}
	where := object{"subject": about("user", "ada@example.com"), "action": object{"name": "view"}, "resource": about("jobs", "")}
	what := object{"subject": about("user", "ada@example.com"), "resource": about("jobs", "acme")}
	paths := map[string]object{whoMay: who, whereIn: where, whatMay: what}
	for path, q := range paths {
		good := first(path, q)
		if got := r.find(path, ada, 1, good, q); got.status != 200 {
			t.Errorf("%s: the twin: %d %s", path, got.status, got.body)
		}
		bad := map[string]string{"garbage": "garbage", "cut": good[:len(good)-4], "empty inside": "AQ", "long": strings.Repeat("A", 4000), "padded": good + "=", "with a space": good + " "}
		raw, err := base64.RawURLEncoding.DecodeString(good)
		r.must(err)
		for i := range raw {
			if i > 16 {
				break
			}
			flipped := slices.Clone(raw)
			flipped[i] ^= 1
			bad[fmt.Sprintf("byte %d", i)] = base64.RawURLEncoding.EncodeToString(flipped)
		}
		for _, place := range []string{"x", "0", "9.1.", "-1.1.", "0.0.", "0.1", "01.1.", "0.01.x", "0.18446744073709551616.", "0 acme", "0  x", "9 acme ", "0 acme x y", "5", " 1", "1 ", "\xff", "0.1." + strings.Repeat("x", 300)} {
			bad["place "+place] = base64.RawURLEncoding.EncodeToString(append(slices.Clone(raw[:17]), place...))
		}
		for other, q := range paths {
			if other != path {
				bad["of "+other] = first(other, q)
			}
		}
		changed := object{"subject": q["subject"], "action": q["action"], "resource": about("users", "acme")}
		bad["of another question"] = first(path, changed)
		for name, token := range bad {
			got := r.find(path, ada, 1, token, q)
			if got.status != 400 || !strings.Contains(got.body, `"field":"/page/token"`) || !strings.Contains(got.body, "must be the next_token of an answer to the same question") {
				t.Errorf("%s: %s: %d %s", path, name, got.status, got.body)
			}
		}
		if got := r.find(strings.Replace(path, "acme", "globex", 1), ada, 1, good, q); got.status != 401 {
			t.Errorf("%s at another tenant: %d", path, got.status)
		}
	}
}

// FuzzSearch: whatever cyd, who holds nothing, asks for is refused by name, or finds nothing.
func FuzzSearch(f *testing.F) {
	r := newRig(f)
	bearer := r.token("cyd")
	for _, s := range []string{
		`{"subject":{"type":"user"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"},"page":{"limit":2,"token":"AQ"}}`,
		`{"subject":{"type":"user","id":"cyd@example.com"},"action":{"name":"view"},"resource":{"type":"jobs"}}`,
		`{"subject":{"type":"application","id":"x"},"resource":{"type":"jobs","id":"a\u001fb","properties":{"scope":"x"}},"context":{"minimum_revision":9}}`,
		`{}`, `{"page":null}`, `{"page":{"limit":9999999999999999999}}`,
	} {
		for n := range 3 {
			f.Add(s, uint8(n))
		}
	}
	f.Fuzz(func(t *testing.T, body string, which uint8) {
		path := []string{whoMay, whereIn, whatMay}[which%3]
		req := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+bearer)
		got := r.serve(req)
		switch got.status {
		case 200:
			if !strings.Contains(got.body, `"results":[]`) {
				t.Fatalf("cyd, who holds nothing, finds something: %s", got.body)
			}
		case 400, 403, 409, 413:
		default:
			t.Fatalf("%d: %s", got.status, got.body)
		}
	})
}
