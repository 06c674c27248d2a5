package access_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// bulk writes n rules in all their forms without asking anybody, a second apart and up to now, and raises the revision. Rule i
// is given to one of the groups g0, g1 and so on, in one of the scopes.
func (h *house) bulk(n int, scopes ...core.ScopeID) []core.Rule {
	h.t.Helper()
	ctx := h.t.Context()
	meta, err := store.Table[org.Tenant]{}.Get(ctx, h.db, store.Meta(acme))
	h.must(err)
	first := core.RuleID(meta.Value.Revision) + 1
	all := make([]core.Rule, n)
	var ops []store.Op
	add := func(op store.Op, err error) {
		h.must(err)
		ops = append(ops, op)
	}
	h.clock.Add(int64(n))
	for i := range all {
		r := core.Rule{ID: first + core.RuleID(i), Subject: group(fmt.Sprintf("g%d", i)), Role: policy.Roles()[i%18].ID, Scope: scopes[i%len(scopes)],
			ScopeKind: core.Project, CreatedAt: h.now().Add(-time.Duration(n-i) * time.Second), CreatedBy: user("ada")}
		all[i] = r
		add(store.Table[core.Rule]{}.Put(store.Rule(acme, r.ID), 0, r))
		add(store.Table[core.Rule]{}.Put(store.ClusterRule(acme, r.Scope, r.ID), 0, r))
		body, err := policy.EncodeGrants([]policy.Grant{policy.GrantOf(r)})
		add(store.Put(store.Grants(acme, r.Subject, store.GrantsAt(r.Scope)), 0, body), err)
		if len(ops) > store.MaxOps-3 || i == n-1 {
			h.must(h.db.Commit(ctx, ops...))
			ops = ops[:0]
		}
	}
	meta.Value.Revision += core.Revision(n)
	add(store.Table[org.Tenant]{}.Put(meta.Key, meta.Version, meta.Value))
	h.must(h.db.Commit(ctx, ops...))
	return all
}

// pages reads a list to its end, and returns how many pages that took.
func (h *house) pages(who core.Subject, q access.Query) (rules []core.Rule, gone []access.Gone, pages int) {
	h.t.Helper()
	for pages = 1; ; pages++ {
		p, err := h.access.List(h.t.Context(), actor(who), q)
		h.must(err)
		rules, gone = append(rules, p.Rules...), append(gone, p.Gone...)
		if q.Offset -= p.Passed; p.Next == "" {
			return rules, gone, pages
		}
		if p.Next == q.After || pages > 10_000 {
			h.t.Fatalf("page %d goes on where it began: %s", pages, p.Next)
		}
		q.After = p.Next
	}
}

func idsOf(rules []core.Rule) []core.RuleID {
	ids := []core.RuleID{}
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	return ids
}

// However a list is cut into pages, they are together what a plain look at all rules finds, each rule once: for every viewer
// and filter. Count and Gather agree.
func TestPagesAreTheList(t *testing.T) {
	h := newHouse(t)
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["quarks"]) // lies in physics
	h.seed(user("bob"), policy.ResearchManager, h.ids["loose"])
	h.seed(user("cyd"), policy.Editor, h.ids["south"])
	h.seed(group("physicists"), policy.ResearchManager, h.ids["iron"])
	for i := range 5 {
		h.ids[fmt.Sprint("empty", i)] = h.project(h.ids["physics"], fmt.Sprint("a-project-", i))
	}
	var everywhere []core.ScopeID
	for _, name := range []string{"north", "physics", "quarks", "chemistry", "acids", "loose", "south", "iron"} {
		everywhere = append(everywhere, h.ids[name])
	}
	h.bulk(180, append(everywhere, h.account)...)
	ended, err := h.access.Seed(t.Context(), acme,
		access.NewRule{Subject: group("g7"), Role: policy.Viewer, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Minute)},
		access.NewRule{Subject: group("g8"), Role: policy.Viewer, Scope: h.ids["loose"], ExpiresAt: h.now().Add(time.Minute)})
	h.must(err)
	h.pass(time.Minute)
	if len(ended) != 2 {
		t.Fatal("no rules that have ended")
	}
	seen := map[string][]core.ScopeID{
		"ada": append(everywhere, h.account),
		"bob": {h.ids["physics"], h.ids["quarks"], h.ids["loose"], h.ids["iron"]},
		"cyd": {h.ids["south"], h.ids["iron"]},
		"eve": {},
	}
	stored := list[core.Rule](t, h.db, store.Rules(acme))
	north, _ := h.ids["north"].ClusterOf()
	since := stored[len(stored)-40].CreatedAt
	odd := func(r core.Rule) bool { return r.ID%2 == 1 }
	queries := map[string]access.Query{
		"everything":            {},
		"newest":                {Order: access.Newest},
		"oldest":                {Order: access.Oldest},
		"a scope":               {Scope: h.ids["quarks"]},
		"newest of a scope":     {Scope: h.ids["quarks"], Order: access.Newest},
		"the account":           {Scope: h.account},
		"an absent scope":       {Scope: "nowhere"},
		"a cluster":             {Cluster: north},
		"newest of a cluster":   {Cluster: north, Order: access.Newest},
		"a scope elsewhere":     {Cluster: north, Scope: h.ids["iron"]},
		"subjects":              {Subjects: []core.Subject{group("g1"), group("g2"), group("g7"), group("g20"), user("bob"), group("g1")}},
		"newest of subjects":    {Subjects: []core.Subject{group("g1"), group("g2"), group("g7"), group("g20")}, Order: access.Newest},
		"subjects in a cluster": {Subjects: []core.Subject{group("g1"), group("g2"), group("g6")}, Cluster: north},
		"people":                {SubjectKind: core.User},
		"people by name":        {SubjectKind: core.User, Subjects: []core.Subject{user("bob"), group("g3")}},
		"a role":                {Role: policy.Viewer},
		"since":                 {Since: since},
		"newest since":          {Since: since, Order: access.Newest},
		"in a scope since":      {Since: since, Scope: h.ids["quarks"]},
		"in a cluster since":    {Since: since, Cluster: north},
		"of subjects since":     {Since: since, Subjects: []core.Subject{group("g1"), group("g170")}},
		"odd ones":              {Match: odd},
		"odd ones in a cluster": {Match: odd, Cluster: north},
	}
	for name, q := range queries {
		for who, scopes := range seen {
			var want []core.RuleID
			for _, r := range stored {
				c, _ := r.Scope.ClusterOf()
				if !slices.Contains(scopes, r.Scope) || !r.Live(h.now()) || r.CreatedAt.Before(q.Since) ||
					q.Scope != "" && q.Scope != r.Scope || q.Cluster != "" && q.Cluster != c || q.Role != 0 && q.Role != r.Role ||
					q.SubjectKind != "" && q.SubjectKind != r.Subject.Kind || q.Match != nil && !q.Match(r) ||
					len(q.Subjects) > 0 && !slices.Contains(q.Subjects, r.Subject) {
					continue
				}
				want = append(want, r.ID)
			}
			var whole []core.RuleID // in the order of the list
			for _, limit := range []int{access.MaxPage, 1, 3, 7} {
				q.Limit = limit
				rules, _, _ := h.pages(user(who), q)
				got := idsOf(rules)
				if limit == access.MaxPage {
					whole = slices.Clone(got)
				} else if !slices.Equal(got, whole) {
					t.Errorf("%s, for %s, by %d: %v, and in one page %v", name, who, limit, got, whole)
				}
				switch {
				case q.Order == access.Newest:
					slices.Reverse(got)
				case q.Order == access.Oldest || who == "ada" && q.Cluster == "" || q.Scope != "" || len(q.Subjects) > 0 || !q.Since.IsZero(): // by creation
				default:
					slices.Sort(got)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s, for %s, by %d: %v, want %v", name, who, limit, got, want)
				}
			}
			for _, offset := range []int{1, 5, 1000} {
				q.Limit, q.Offset = 4, offset
				rules, _, _ := h.pages(user(who), q)
				if got, rest := idsOf(rules), whole[min(offset, len(whole)):]; !slices.Equal(got, rest) {
					t.Errorf("%s, for %s, from %d: %v, want %v", name, who, offset, got, rest)
				}
			}
			q.Limit, q.Offset = 0, 0
			n, err := h.access.Count(t.Context(), actor(user(who)), q)
			h.must(err)
			all, err := h.access.Gather(t.Context(), actor(user(who)), q)
			h.must(err)
			if n != len(want) || all.Len() != n {
				t.Errorf("%s, for %s: counted %d, gathered %d, want %d", name, who, n, all.Len(), len(want))
			}
		}
	}
}

// A page costs what it shows: the same reads and items at a thousand rules and at a hundred thousand, wherever it is.
func TestPagesCostWhatTheyShow(t *testing.T) {
	large := 100_000
	if raceEnabled || testing.Short() {
		large /= 10
	}
	measured := map[string][]storetest.Counts{}
	for _, size := range []int{1000, large} {
		h := newHouse(t)
		h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
		h.seed(user("cyd"), policy.Editor, h.ids["south"])
		all := h.bulk(size, h.account, h.ids["north"], h.ids["physics"], h.ids["quarks"], h.ids["acids"], h.ids["iron"])
		south, _ := h.ids["south"].ClusterOf()
		var some []core.Subject
		for i := range 60 {
			some = append(some, all[i*(size/60)].Subject)
		}
		for name, of := range map[string]struct {
			who string
			q   access.Query
		}{
			"no filter":                  {"ada", access.Query{}},
			"newest":                     {"ada", access.Query{Order: access.Newest}},
			"a scope":                    {"ada", access.Query{Scope: h.ids["quarks"]}},
			"a cluster":                  {"ada", access.Query{Cluster: south}},
			"subjects":                   {"ada", access.Query{Subjects: some}},
			"a department administrator": {"bob", access.Query{}},
			"a scope in a department":    {"bob", access.Query{Scope: h.ids["quarks"]}},
			"a cluster's editor":         {"cyd", access.Query{}},
			"since":                      {"ada", access.Query{Since: all[size-30].CreatedAt}},
			"since, in a department":     {"bob", access.Query{Since: all[size-30].CreatedAt}},
		} {
			h.must(warm(h, of.who))
			h.db.Reset()
			p, err := h.access.List(t.Context(), actor(user(of.who)), of.q)
			h.must(err)
			measured[name] = append(measured[name], h.db.Reset())
			if n := p.Len(); n != access.DefaultPage && of.q.Since.IsZero() || n < 10 {
				t.Errorf("%s: %d rules", name, n)
			}
			if !of.q.Since.IsZero() || len(of.q.Subjects) > 0 {
				continue
			}
			deep := access.Query{Scope: of.q.Scope, Cluster: of.q.Cluster, Order: of.q.Order, Limit: access.MaxPage}
			for range max(1, min(20, size/6/access.MaxPage-2)) {
				if p, err = h.access.List(t.Context(), actor(user(of.who)), deep); err != nil || p.Next == "" {
					break
				}
				deep.After = p.Next
			}
			h.must(err)
			if size < large {
				continue
			}
			h.db.Reset()
			deep.Limit = access.DefaultPage
			p, err = h.access.List(t.Context(), actor(user(of.who)), deep)
			h.must(err)
			measured[name] = append(measured[name], h.db.Reset())
			if p.Len() != access.DefaultPage {
				t.Errorf("%s, deep in the list: %d rules", name, p.Len())
			}
		}
	}
	for name, counts := range measured {
		first := counts[0]
		t.Logf("%s: %d round trips, %d items", name, first.RoundTrips(), first.GetItems+first.ListItems)
		for _, c := range counts[1:] {
			if strings.HasPrefix(name, "since") { // looked for, in steps of a growing size
				if c.RoundTrips() > first.RoundTrips()+8 || c.ListItems > first.ListItems+80 {
					t.Errorf("%s: %+v, and with more rules %+v", name, first, c)
				}
			} else if c != first {
				t.Errorf("%s: %+v, and with more rules, or deep in the list, %+v", name, first, c)
			}
		}
		most := 120 // items: what is shown, one more, and what says who may see it
		if strings.HasPrefix(name, "since") {
			most = 800 // ten minutes more, of a rule a second
		}
		if first.ListItems+first.GetItems > most || first.RoundTrips() > 70 {
			t.Errorf("%s: %+v is too much", name, first)
		}
	}
}

// warm has the service learn what it remembers of the tree.
func warm(h *house, who string) error {
	_, err := h.access.List(h.t.Context(), actor(user(who)), access.Query{Limit: 1})
	return err
}

// What no index serves is looked for among a bounded number of rules a page.
func TestPagesAreBounded(t *testing.T) {
	h := newHouse(t)
	all := h.bulk(7000, h.ids["quarks"], h.ids["acids"])
	want := all[6500]
	for name, q := range map[string]access.Query{
		"all":        {Match: func(r core.Rule) bool { return r.ID == want.ID }},
		"in a scope": {Match: func(r core.Rule) bool { return r.ID == want.ID }, Scope: want.Scope},
	} {
		h.db.Reset()
		p, err := h.access.List(t.Context(), actor(user("ada")), q)
		h.must(err)
		if c := h.db.Reset(); p.Len() != 0 || p.Next == "" || c.ListItems > 2200 {
			t.Errorf("%s: %d rules of %d items, next %q", name, p.Len(), c.ListItems, p.Next)
		}
		rules, _, n := h.pages(user("ada"), q)
		if len(rules) != 1 || rules[0] != want || n < 2 {
			t.Errorf("%s: %v on %d pages", name, rules, n)
		}
		// Who cannot go on behind a page that is short gets none such.
		q.Thorough = true
		p, err = h.access.List(t.Context(), actor(user("ada")), q)
		if h.must(err); p.Len() != 1 || p.Rules[0] != want || p.Next != "" {
			t.Errorf("%s, thorough: %v, next %q", name, p.Rules, p.Next)
		}
	}
	// A department with many projects that have no rules is looked at part by part too.
	for i := range 600 {
		h.project(h.ids["chemistry"], fmt.Sprintf("empty-%03d", i))
	}
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["chemistry"])
	last := h.seed(group("last"), policy.Viewer, h.project(h.ids["chemistry"], "zz"))
	q := access.Query{Subjects: nil, Cluster: "", Match: func(r core.Rule) bool { return r.Subject == group("last") }}
	h.db.Reset()
	_, err := h.access.List(t.Context(), actor(user("bob")), q)
	h.must(err)
	if c := h.db.Reset(); c.RoundTrips() > 320 {
		t.Errorf("one page took %d round trips", c.RoundTrips())
	}
	if rules, _, _ := h.pages(user("bob"), q); len(rules) != 1 || rules[0].ID != last.ID {
		t.Errorf("found %v, want %v", rules, last)
	}
	if _, err := h.access.Gather(t.Context(), actor(user("ada")), access.Query{}); err != nil {
		t.Errorf("to gather 7000: %v", err)
	}
	h.bulk(access.MaxGather, h.ids["iron"])
	if _, err := h.access.Gather(t.Context(), actor(user("ada")), access.Query{}); !errors.Is(err, core.Limit) {
		t.Errorf("to gather more than %d: %v, want core.Limit", access.MaxGather, err)
	}
}

// A cursor says where to go on, and no more: whatever it is made to say, nobody is shown what they may not view. // TEN-015
func TestCursorsGiveNothing(t *testing.T) {
	h := newHouse(t)
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.bulk(60, h.account, h.ids["north"], h.ids["quarks"], h.ids["physics"], h.ids["chemistry"], h.ids["acids"], h.ids["iron"])
	may := []core.ScopeID{h.ids["physics"], h.ids["quarks"]}
	p, err := h.access.List(t.Context(), actor(user("ada")), access.Query{Limit: 3})
	h.must(err)
	cursors := []string{p.Next, `{}`, `{"g":true}`, `{"s":"` + string(h.ids["chemistry"]) + `"}`, `{"s":"` + string(h.ids["physics"]) + `","k":"!"}`,
		`{"s":"` + string(h.ids["physics"]) + `","n":"` + string(h.ids["chemistry"]) + `"}`, `{"s":"` + string(h.ids["physics"]) + `","n":"!","k":"!"}`,
		`{"s":"` + string(h.ids["north"]) + `"}`, `{"k":"` + string(h.ids["acids"]) + `"}`, `{"p":3}`}
	for key := range map[string]bool{"acids": true, "chemistry": true} {
		cursors = append(cursors, `{"s":"`+string(h.ids["physics"])+`","k":"`+string(h.ids[key])+`"}`)
	}
	shown := 0
	for _, after := range cursors {
		for _, q := range []access.Query{{After: after}, {After: after, Scope: h.ids["quarks"]}, {After: after, Gone: true}, {After: after, Order: access.Newest},
			{After: after, Scope: h.ids["acids"]}, {After: after, Subjects: []core.Subject{group("g1"), group("g4")}}} {
			p, err := h.access.List(t.Context(), actor(user("bob")), q)
			if err != nil && !errors.Is(err, core.Invalid) {
				t.Errorf("%s: %v", after, err)
			}
			for _, r := range p.Rules {
				if shown++; !slices.Contains(may, r.Scope) {
					t.Errorf("%s shows bob %v", after, r)
				}
			}
		}
	}
	if shown < 50 {
		t.Errorf("only %d rules were shown at all", shown)
	}
	for _, after := range []string{"x", "{", `{"x":1}`, `{"p":-1}`, `{ }`, `[]`, `{"k":"` + strings.Repeat("k", 3000) + `"}`, "null"} {
		var field *core.FieldError
		if _, err := h.access.List(t.Context(), actor(user("ada")), access.Query{After: after}); !errors.As(err, &field) || field.Field != "cursor" {
			t.Errorf("cursor %.20s: %v, want a refusal that names it", after, err)
		}
	}
}

// FuzzCursor: whatever a cursor says, the list is of what may be viewed, or the cursor is refused by name.
func FuzzCursor(f *testing.F) {
	h := newHouse(f)
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.bulk(40, h.account, h.ids["north"], h.ids["quarks"], h.ids["physics"], h.ids["chemistry"], h.ids["acids"])
	for _, s := range []string{"", `{"k":"0"}`, `{"g":true,"k":"2"}`, `{"s":"` + string(h.ids["physics"]) + `","n":"a","k":"b"}`, `{"p":3}`, "{", `{"k":"\u001f"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, after string) {
		for _, q := range []access.Query{{After: after, Gone: true}, {After: after, Order: access.Newest, Scope: h.ids["quarks"]}} {
			p, err := h.access.List(t.Context(), actor(user("bob")), q)
			var field *core.FieldError
			if err != nil && (!errors.As(err, &field) || field.Field != "cursor") {
				t.Fatal(err)
			}
			for _, r := range p.Rules {
				if r.Scope != h.ids["physics"] && r.Scope != h.ids["quarks"] {
					t.Fatalf("bob sees %v", r)
				}
			}
		}
	})
}

// A rule shows until the second of its end, and not in it: in lists, in what a person holds, and in counts.
func TestExpiredRulesDoNotShow(t *testing.T) {
	h := newHouse(t)
	made, err := h.access.Seed(t.Context(), acme, access.NewRule{Subject: user("bob"), Role: policy.Viewer, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Hour)})
	h.must(err)
	queries := []access.Query{{}, {Scope: h.ids["quarks"]}, {Subjects: []core.Subject{user("bob")}}, {Cluster: core.ClusterID(h.ids["north"])},
		{Since: h.now().Add(-time.Minute)}, {Order: access.Newest}, {Gone: true}, {SubjectKind: core.User}}
	shows := func(want int) {
		t.Helper()
		for _, q := range queries {
			rules, gone, _ := h.pages(user("ada"), q)
			rules = slices.DeleteFunc(rules, func(r core.Rule) bool { return r.ID != made[0].ID })
			q.Scope = h.ids["quarks"]
			n, err := h.access.Count(t.Context(), actor(user("ada")), q)
			h.must(err)
			if len(rules) != want || n != want || len(gone) != 0 {
				t.Errorf("%+v: %d rules, counted %d, want %d", q, len(rules), n, want)
			}
		}
		mine, err := h.access.Mine(t.Context(), actor(user("bob")))
		h.must(err)
		if len(mine) != want {
			t.Errorf("bob's own: %v, want %d", mine, want)
		}
	}
	h.pass(time.Hour - time.Second)
	shows(1)
	h.pass(time.Second)
	shows(0)
	if done, err := h.access.DeleteEach(t.Context(), actor(user("ada")), idsOf(made), true); err != nil || !errors.Is(done[0].Err, core.NotFound) {
		t.Errorf("to delete what has ended: %v, %v", done, err)
	}
	// It was there, and it has ended: that shows, when maintenance comes.
	h.must(h.access.Expire(t.Context(), acme, made[0].ID))
	if _, gone, _ := h.pages(user("ada"), access.Query{Gone: true}); len(gone) != 1 || gone[0].Rule != made[0] {
		t.Errorf("remembered: %v", gone)
	}
}

// Every way of taking a rule away is remembered for thirty days, and shown to who may view the rules of its scope.
func TestGoneRulesAreRemembered(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("cyd"), policy.Editor, h.ids["south"])
	deleted := h.seed(group("a"), policy.Viewer, h.ids["quarks"])
	swept := h.seed(group("b"), policy.Viewer, h.ids["acids"])
	ofSubject := h.seed(user("eve"), policy.Viewer, h.ids["iron"])
	ends, err := h.access.Seed(ctx, acme, access.NewRule{Subject: group("c"), Role: policy.Viewer, Scope: h.ids["quarks"], ExpiresAt: h.now().Add(time.Minute)})
	h.must(err)
	stays := h.seed(group("a"), policy.Viewer, h.ids["physics"])
	h.pass(time.Minute)
	begin := h.now()
	h.must(h.access.Delete(ctx, actor(user("bob")), deleted.ID))
	h.pass(time.Minute)
	_, err = h.access.DeleteAllAt(ctx, core.SystemActor(acme), h.ids["acids"])
	h.must(err)
	_, err = h.access.DeleteAllOf(ctx, actor(user("ada")), user("eve"))
	h.must(err)
	h.pass(time.Minute)
	h.must(h.access.Expire(ctx, acme, ends[0].ID))

	gone := func(who string, q access.Query) (ids []core.RuleID) {
		t.Helper()
		for _, limit := range []int{50, 1} {
			ids = []core.RuleID{}
			q.Limit = limit
			_, found, _ := h.pages(user(who), q)
			for _, g := range found {
				ids = append(ids, g.Rule.ID)
			}
		}
		return ids
	}
	south, _ := h.ids["south"].ClusterOf()
	for name, tt := range map[string]struct {
		who  string
		q    access.Query
		want []core.Rule
	}{
		"not asked for":         {"ada", access.Query{}, nil},
		"all":                   {"ada", access.Query{Gone: true}, []core.Rule{deleted, swept, ofSubject, ends[0]}},
		"since":                 {"ada", access.Query{Gone: true, Since: begin.Add(time.Second)}, []core.Rule{swept, ofSubject, ends[0]}},
		"since the last":        {"ada", access.Query{Gone: true, Since: h.now()}, ends},
		"since later":           {"ada", access.Query{Gone: true, Since: h.now().Add(time.Second)}, nil},
		"of a scope":            {"ada", access.Query{Gone: true, Scope: h.ids["quarks"]}, []core.Rule{deleted, ends[0]}},
		"of a cluster":          {"ada", access.Query{Gone: true, Cluster: south}, []core.Rule{ofSubject}},
		"of a subject":          {"ada", access.Query{Gone: true, Subjects: []core.Subject{group("b")}}, []core.Rule{swept}},
		"of the department":     {"bob", access.Query{Gone: true}, []core.Rule{deleted, ends[0]}},
		"of the cluster's":      {"cyd", access.Query{Gone: true}, []core.Rule{ofSubject}},
		"for who views nothing": {"eve", access.Query{Gone: true}, nil},
	} {
		if got := gone(tt.who, tt.q); !slices.Equal(got, idsOf(tt.want)) {
			t.Errorf("%s: %v, want %v", name, got, idsOf(tt.want))
		}
	}
	rules, all, _ := h.pages(user("ada"), access.Query{Gone: true, Scope: h.ids["quarks"]})
	want := access.Gone{Rule: deleted, DeletedAt: begin, DeletedBy: user("bob"), Parent: h.ids["physics"]}
	if len(rules) != 0 || !cmp.Equal(all[0], want) {
		t.Errorf("remembered as %+v, want %+v", all, want)
	}
	// What follows the rules needs no more than this: what came and went since.
	new := h.seed(group("d"), policy.Viewer, h.ids["iron"])
	rules, all, _ = h.pages(user("ada"), access.Query{Gone: true, Since: h.now()})
	if !slices.Equal(idsOf(rules), []core.RuleID{new.ID}) || len(all) != 1 {
		t.Errorf("since now: %v and %v", rules, all)
	}
	// A project that is gone leaves its rules' memory with its department.
	h.must(h.org.DeleteScope(ctx, core.SystemActor(acme), acme, h.ids["quarks"], false))
	if got := gone("bob", access.Query{Gone: true}); len(got) != 2 {
		t.Errorf("of the department, without the project: %v", got)
	}
	h.pass(access.GoneKeep - 2*time.Minute - time.Second)
	if got := gone("ada", access.Query{Gone: true}); len(got) != 4 {
		t.Errorf("just before thirty days: %v", got)
	}
	h.pass(time.Second)
	if got := gone("ada", access.Query{Gone: true}); !slices.Equal(got, idsOf([]core.Rule{swept, ofSubject, ends[0]})) {
		t.Errorf("after thirty days: %v", got)
	}
	if _, err := h.access.Get(ctx, acme, stays.ID); err != nil {
		t.Error(err)
	}
}

// A project that moves takes what was before along to nobody: whose rules were taken away there is for who could see it then.
func TestGoneRulesDoNotMove(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.seed(user("bob"), policy.DepartmentAdministrator, h.ids["physics"])
	h.seed(user("cyd"), policy.DepartmentAdministrator, h.ids["chemistry"])
	operator := h.application("operator")
	h.seed(operator, policy.Editor, h.ids["north"])
	before := h.seed(group("a"), policy.Viewer, h.ids["quarks"])
	loose := h.seed(group("a"), policy.Viewer, h.ids["loose"])
	project := h.seed(user("eve"), policy.ResearchManager, h.ids["quarks"])
	for _, r := range []core.Rule{before, loose} {
		h.must(h.access.Delete(ctx, actor(user("ada")), r.ID))
	}
	sees := func(who core.Subject, want ...core.Rule) {
		t.Helper()
		_, found, _ := h.pages(who, access.Query{Gone: true, Limit: 50})
		got := []core.RuleID{}
		for _, g := range found {
			got = append(got, g.Rule.ID)
		}
		slices.Sort(got)
		if ids := idsOf(want); !slices.Equal(got, ids) {
			t.Errorf("%s sees %v, want %v", who, got, ids)
		}
	}
	sees(user("bob"), before)
	sees(user("cyd"))
	sees(user("eve"), before) // a rule of the project that she may view the rules of
	for _, id := range []string{"quarks", "loose"} {
		_, err := h.org.Move(ctx, core.SystemActor(acme), acme, h.ids[id], h.ids["chemistry"])
		h.must(err)
		h.seed(user("cyd"), policy.ResearchManager, h.ids[id]) // what she can give herself now
	}
	h.pass(time.Second)
	after := h.seed(group("b"), policy.Viewer, h.ids["quarks"])
	h.must(h.access.Delete(ctx, actor(user("ada")), after.ID))
	sees(user("bob"), before)
	sees(user("cyd"), after)
	sees(user("eve"), after)
	sees(operator, before, loose, after)
	sees(user("ada"), before, loose, after)
	if rules, _, _ := h.pages(user("cyd"), access.Query{Subjects: []core.Subject{user("eve")}, Limit: 50}); !slices.Equal(idsOf(rules), []core.RuleID{project.ID}) {
		t.Errorf("of what is there, cyd sees %v", rules)
	}
}

// The clocks of those who made the rules may differ by some minutes: none is missed for that.
func TestSinceMindsTheClocks(t *testing.T) {
	h := newHouse(t)
	r := rand.New(rand.NewPCG(5, 5))
	stored := h.bulk(4000, h.ids["quarks"], h.ids["iron"])
	for i := range stored { // by up to nine minutes, either way half
		rec, err := store.Table[core.Rule]{}.Get(t.Context(), h.db, store.Rule(acme, stored[i].ID))
		h.must(err)
		rec.Value.CreatedAt = rec.Value.CreatedAt.Add(time.Duration(r.IntN(540)-270) * time.Second)
		stored[i] = rec.Value
		op, err := store.Table[core.Rule]{}.Put(rec.Key, rec.Version, rec.Value)
		h.must(err)
		h.must(h.db.Commit(t.Context(), op))
	}
	for range 30 {
		since := stored[r.IntN(len(stored))].CreatedAt
		want := []core.RuleID{}
		for _, rule := range list[core.Rule](t, h.db, store.Rules(acme)) {
			if !rule.CreatedAt.Before(since) {
				want = append(want, rule.ID)
			}
		}
		rules, _, _ := h.pages(user("ada"), access.Query{Since: since, Limit: access.MaxPage})
		if got := idsOf(rules); !slices.Equal(got, want) {
			t.Errorf("since %s: %d rules, want %d", since, len(got), len(want))
		}
	}
}
