package admin

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
)

// counted has what the handler reads counted from now on.
func (w *world) counted() *storetest.Counter {
	db := &storetest.Counter{DB: w.DB}
	d := w.Deps
	d.DB = db
	d.Org = &org.Service{DB: db, Ring: w.Ring, Now: w.Now}
	d.Directory = &directory.Service{DB: db, Ring: w.Ring, Now: w.Now, Cost: w.Directory.Cost}
	d.Access = &access.Service{DB: db, Now: w.Now}
	d.Sync = &sync.Service{DB: db, Now: w.Now}
	w.handler = w.edge(d)
	return db
}

// seed writes items at once, past the services: what a test of large lists needs, and fast.
func (w *world) seed(ops []store.Op) {
	w.Helper()
	for some := range slices.Chunk(ops, store.MaxOps) {
		w.must(w.DB.Commit(w.Context(), some...))
	}
}

func put[T any](w *world, k store.Key, v T) store.Op {
	w.Helper()
	op, err := store.Table[T]{}.Put(k, 0, v)
	w.must(err)
	return op
}

// seedUsers makes people number from to to.
func (w *world) seedUsers(from, to int) {
	var ops []store.Op
	for i := from; i < to; i++ {
		u := directory.User{
			ID: core.UserID(core.NewID()), Email: core.Email(fmt.Sprintf("person-%06d@acme.test", i)), FirstName: "Person", LastName: strconv.Itoa(i),
			Local: i%2 == 0, CreatedAt: w.Now(), UpdatedAt: w.Now(), LastLogin: w.Now().Add(-time.Duration(i) * time.Minute), CreatedBy: core.UserSubject("admin@acme.test"),
		}
		ops = append(ops, put(w, store.User(acme, u.Email), u))
	}
	w.seed(ops)
}

// seedScopes makes scopes of a kind below a parent, number from to to.
func (w *world) seedScopes(k core.ScopeKind, parent org.Scope, from, to int) {
	var ops []store.Op
	for i := from; i < to; i++ {
		sc := org.Scope{ID: core.NewScopeID(parent.Cluster), Kind: k, Name: fmt.Sprintf("%s-%06d", k, i), Parent: parent.ID, Cluster: parent.Cluster, CreatedAt: w.Now()}
		if k == core.Cluster {
			sc.Cluster = core.NewClusterID()
			sc.ID, sc.Reach = core.ClusterScope(sc.Cluster), &org.Reach{Mode: org.Issuer}
		}
		ops = append(ops, put(w, store.Scope(acme, sc.ID), sc), put(w, store.ScopeName(acme, sc.Parent, k, sc.Name), sc.ID))
	}
	w.seed(ops)
}

func (w *world) seedTenants(from, to int) {
	var ops []store.Op
	for i := from; i < to; i++ {
		id := core.TenantID(fmt.Sprintf("tenant-%06d", i))
		ops = append(ops, put(w, store.TenantEntry(id), org.Entry{ID: id, Name: string(id), State: org.Active, CreatedAt: w.Now()}))
	}
	w.seed(ops)
}

// A page costs what it shows, at any size of the tenant: the same items and round trips at a hundred objects and at ten
// thousand, for the first page and for the one that follows it by cursor.
func TestListsCostWhatTheyReturn(t *testing.T) {
	w := newWorld(t)
	clusters := []org.Scope{w.cluster(acme), w.cluster(acme), w.cluster(acme)}
	slices.SortFunc(clusters, func(a, b org.Scope) int { return cmp.Compare(a.ID, b.ID) })
	first := clusters[0]
	dep := w.departmentIn(acme, first)
	w.seedScopes(core.Project, dep, 900_000, 900_060)
	inDepartment := w.appToken(acme, w.caller(acme, policy.DepartmentAdministrator, dep.ID))
	admin, operator := w.adminToken(acme), w.adminToken(core.SystemTenant)
	lists := []struct {
		name, path string
		tenant     core.TenantID
		bearer     string
	}{
		{"users", "/users?limit=20", acme, admin},
		{"a user", "/users?filterBy=username==person-000050@acme.test", acme, admin},
		{"some users", "/users?limit=5&filterBy=username=^person-00005", acme, admin},
		{"users backwards", "/users?limit=20&sortOrder=desc", acme, admin},
		{"tenants", "/tenants?limit=20", core.SystemTenant, operator},
		{"clusters", "/clusters?limit=20", acme, admin},
		{"departments", "/org-unit/departments?limit=20", acme, admin},
		{"projects", "/org-unit/projects?limit=20", acme, admin},
		{"a cluster's departments", "/org-unit/departments?limit=20&clusterId=" + string(first.Cluster), acme, admin},
		{"a department's projects", "/org-unit/projects?limit=20&filterBy=parentId==" + string(dep.ID), acme, admin},
		{"the projects of who administers a department", "/org-unit/projects?limit=20", acme, inDepartment},
	}
	// Clusters are bounded (org.MaxClusters): their number stays.
	w.seedScopes(core.Cluster, org.Scope{ID: core.AccountScope(acme)}, 0, 100)
	grow := func(from, to int) {
		w.seedUsers(from, to)
		w.seedTenants(from, to)
		for i, c := range clusters {
			w.seedScopes(core.Department, c, from+i*1_000_000, (from+to)/2+i*1_000_000)
			w.seedScopes(core.Project, c, from+i*1_000_000, (from+to)/2+i*1_000_000)
		}
	}
	db := w.counted()
	measure := func() map[string]storetest.Counts {
		got := map[string]storetest.Counts{}
		for _, l := range lists {
			path := l.path
			for _, page := range []string{"first", "second"} {
				db.Reset()
				rec := w.call(request{method: "GET", tenant: l.tenant, bearer: l.bearer, path: "/api/v1" + path}).want(t, 200)
				n := db.Reset()
				got[l.name+", "+page] = n
				next := nextOf(rec)
				if next == "" {
					break
				}
				path = l.path + "&cursor=" + next
			}
		}
		return got
	}
	grow(0, 100)
	small := measure()
	grow(100, 10_000)
	large := measure()
	if diff := gocmp.Diff(small, large); diff != "" {
		t.Errorf("what pages cost at 10^2 and at 10^4 objects differs:\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(small)) {
		n := small[name]
		t.Logf("%s: %d round trips, %d items listed, %d got", name, n.RoundTrips(), n.ListItems, n.GetItems)
		if n.ListItems > 21+3 {
			t.Errorf("%s: %d items are listed for a page of 20", name, n.ListItems)
		}
	}
	if n := small["a user, first"]; n.ListItems > 1+3 {
		t.Errorf("one user, found by e-mail: %+v", n)
	}
	if len(small) != 2*len(lists)-1 {
		t.Errorf("%d pages were measured, of %d lists", len(small), len(lists))
	}
}

// nextOf is the cursor that an answer gives, wherever.
func nextOf(r response) string {
	if next := r.Header().Get(api.HeaderNext); next != "" {
		return next
	}
	var body struct {
		Next string `json:"next"`
	}
	_ = json.Unmarshal(r.Body.Bytes(), &body) // an array has none
	return body.Next
}

// pages follows a list to its end and gathers the names of what it shows.
func (w *world) pages(bearer string, tenant core.TenantID, path string, limit int) (names []string, pages int) {
	w.Helper()
	for cursor := ""; ; {
		q := path + map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "limit=" + strconv.Itoa(limit)
		if cursor != "" {
			q += "&cursor=" + cursor
		}
		rec := w.call(request{method: "GET", tenant: tenant, bearer: bearer, path: "/api/v1" + q}).want(w.TB, 200)
		pages++
		names = append(names, namesOf(w, rec)...)
		if cursor = nextOf(rec); cursor == "" {
			if total := rec.Header().Get(api.HeaderTotal); total != strconv.Itoa(len(names)) {
				w.Errorf("%s: the last page says %s in all, of %d that were shown", path, total, len(names))
			}
			return names, pages
		}
		if pages > 1000 {
			w.Fatalf("%s: no end of pages", path)
		}
	}
}

func namesOf(w *world, rec response) []string {
	w.Helper()
	type named struct {
		Name     string `json:"name"`
		ID       string `json:"id"`
		Username string `json:"username"`
	}
	var list []named
	if strings.HasPrefix(rec.Body.String(), "{") {
		var body struct{ Departments, Projects []named }
		w.must(json.Unmarshal(rec.Body.Bytes(), &body, json.MatchCaseInsensitiveNames(true)))
		list = append(body.Departments, body.Projects...)
	} else {
		w.must(json.Unmarshal(rec.Body.Bytes(), &list))
	}
	names := []string{}
	for _, n := range list {
		names = append(names, cmp.Or(n.Username, n.Name, n.ID))
	}
	return names
}

// manyTenants is how many tenants TestManyTenants makes.
func manyTenants() int {
	if raceEnabled || testing.Short() {
		return 600
	}
	return 10_000
}

// Ten thousand customers are made one by one, as an operator makes them, and all are listed, by cursor and by offset.
func TestManyTenants(t *testing.T) {
	w := newWorld(t)
	operator := w.adminToken(core.SystemTenant)
	want, _ := w.pages(operator, core.SystemTenant, "/tenants", 500)
	begun := time.Now()
	for i := range manyTenants() {
		name := fmt.Sprintf("customer-%05d", i)
		w.call(request{method: "POST", path: "/api/v1/tenants", tenant: core.SystemTenant, bearer: operator, body: `{"id":"` + name + `","name":"` + name + `"}`}).want(t, 201)
		want = append(want, name)
	}
	t.Logf("%d tenants in %s", manyTenants(), time.Since(begun))
	slices.Sort(want)
	got, _ := w.pages(operator, core.SystemTenant, "/tenants", 500)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("by cursor: %s", diff)
	}
	var byOffset []string
	for {
		rec := w.call(request{method: "GET", tenant: core.SystemTenant, bearer: operator, path: "/api/v1/tenants?limit=500&offset=" + strconv.Itoa(len(byOffset))}).want(t, 200)
		page := namesOf(w, rec)
		byOffset = append(byOffset, page...)
		if len(page) < 500 {
			break
		}
	}
	slices.Sort(byOffset)
	if diff := gocmp.Diff(want, byOffset); diff != "" {
		t.Errorf("by offset: %s", diff)
	}
}

// people are users that tell filters apart.
func (w *world) people() {
	w.Helper()
	for i, p := range []directory.User{
		{Email: "ada@acme.test", FirstName: "Ada", LastName: "Lovelace", Local: true},
		{Email: "alan@acme.test", FirstName: "Alan", LastName: "Turing", Disabled: true},
		{Email: "barbara@acme.test", FirstName: "Barbara", LastName: "Liskov, Prof."},
		{Email: "grace@navy.test", FirstName: "Grace", LastName: "Hopper", Local: true},
	} {
		p.ID = core.UserID(core.NewID())
		p.CreatedAt = time.Date(2026, 1, i+1, 0, 0, 0, 0, time.UTC)
		p.UpdatedAt = p.CreatedAt
		p.CreatedBy = core.UserSubject("admin@acme.test")
		if i != 1 {
			p.LastLogin = time.Date(2026, 2, 9-i, 0, 0, 0, 0, time.UTC)
		}
		w.seed([]store.Op{put(w, store.User(acme, p.Email), p)})
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.people()
	admin := w.adminToken(acme)
	const ada, root, alan, barbara, grace = "ada@acme.test", "admin@acme.test", "alan@acme.test", "barbara@acme.test", "grace@navy.test"
	for _, tt := range []struct {
		query url.Values
		want  []string
	}{
		{nil, []string{ada, root, alan, barbara, grace}},
		{url.Values{"sortOrder": {"desc"}}, []string{grace, barbara, alan, root, ada}},
		{url.Values{"sortBy": {"username"}, "sortOrder": {"desc"}}, []string{grace, barbara, alan, root, ada}},
		{url.Values{"filterBy": {"username==ADA@acme.test"}}, []string{ada}},
		{url.Values{"filterBy": {"username==nobody@acme.test"}}, nil},
		{url.Values{"filterBy": {"username=^a"}}, []string{ada, root, alan}},
		{url.Values{"filterBy": {"username=^a"}, "sortOrder": {"desc"}}, []string{alan, root, ada}},
		{url.Values{"filterBy": {"username=^A,username=$test,username=@d"}}, []string{ada, root}},
		{url.Values{"filterBy": {"username=^a", "username!=ada@acme.test"}}, []string{root, alan}},
		{url.Values{"filterBy": {"username=$navy.test"}}, []string{grace}},
		{url.Values{"filterBy": {"username!@acme"}}, []string{grace}},
		{url.Values{"filterBy": {"username>=b,username<=c"}}, []string{barbara}},
		{url.Values{"filterBy": {"lastName==Liskov, Prof."}}, []string{barbara}},
		{url.Values{"filterBy": {"lastName==Liskov, Prof.,isLocal==false"}}, []string{barbara}},
		{url.Values{"filterBy": {"lastName=="}}, []string{root}},
		{url.Values{"filterBy": {"firstName=^A"}}, []string{ada, alan}},
		{url.Values{"filterBy": {"enabled==false"}}, []string{alan}},
		{url.Values{"filterBy": {"enabled!=false,isLocal==true"}}, []string{ada, root, grace}},
		{url.Values{"filterBy": {"creationTime>=2026-01-03T00:00:00Z,creationTime<=2026-01-03T00:00:00Z"}}, []string{barbara}},
		{url.Values{"filterBy": {"creationTime==2026-01-03T01:00:00+01:00"}}, []string{barbara}},
		{url.Values{"filterBy": {"lastUpdated<=2026-01-02T12:00:00Z"}}, []string{ada, alan}},
		{url.Values{"filterBy": {"lastLogin>=2000-01-01T00:00:00Z"}}, []string{ada, barbara, grace}},
		{url.Values{"filterBy": {"lastLogin<=2100-01-01T00:00:00Z"}}, []string{ada, barbara, grace}},
		{url.Values{"filterBy": {"lastLogin!=2026-02-09T00:00:00Z"}}, []string{root, alan, barbara, grace}},
		{url.Values{"filterBy": {"createdBy==admin@acme.test"}}, []string{ada, alan, barbara, grace}},
		{url.Values{"search": {"NAVY"}}, []string{grace}},
		{url.Values{"search": {"ova"}, "filterBy": {"username==ada@acme.test"}}, nil},
		{url.Values{"search": {"lovel"}}, []string{ada}},
		{url.Values{"search": {"a"}, "filterBy": {"enabled==true"}}, []string{ada, root, barbara, grace}},
		{url.Values{"sortBy": {"lastLogin"}}, []string{root, alan, grace, barbara, ada}},
		{url.Values{"sortBy": {"lastLogin"}, "sortOrder": {"desc"}}, []string{ada, barbara, grace, root, alan}},
		{url.Values{"sortBy": {"firstName"}, "sortOrder": {"desc"}, "filterBy": {"isLocal==true,firstName!="}}, []string{grace, ada}},
		{url.Values{"sortBy": {"enabled"}}, []string{alan, ada, root, barbara, grace}},
	} {
		for _, limit := range []int{1, 2, 500} {
			got, _ := w.pages(admin, acme, "/users?"+tt.query.Encode(), limit)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s by %d: %v, want %v", tt.query, limit, got, tt.want)
			}
		}
		if len(tt.want) > 1 {
			rec := w.as(admin, "GET", "/users?offset=1&"+tt.query.Encode(), "").want(t, 200)
			if got := namesOf(w, rec); !slices.Equal(got, tt.want[1:]) || rec.Header().Get(api.HeaderTotal) != strconv.Itoa(len(tt.want)) {
				t.Errorf("%s from 1: %v of %s", tt.query, got, rec.Header().Get(api.HeaderTotal))
			}
		}
	}
	for _, tt := range []struct{ query, names string }{
		{"filterBy=", "filterBy"}, {"filterBy=x", "filterBy"}, {"filterBy=password==x", "filterBy"}, {"filterBy=username", "filterBy"},
		{"filterBy=username=x", "filterBy"}, {"filterBy=username%20==%20x", "filterBy"}, {"filterBy=isLocal==yes", "isLocal"}, {"filterBy=isLocal=@true", "=@"},
		{"filterBy=creationTime==yesterday", "creationTime"}, {"filterBy=creationTime==2026-02-30T00:00:00Z", "creationTime"}, {"filterBy=creationTime=^2026-01-01T00:00:00Z", "=^"},
		{"filterBy=username=^", "username"}, {"filterBy=username==a%00", "filterBy"}, {"filterBy=username==%ff", "filterBy"},
		{"filterBy=username==" + strings.Repeat("x", 301), "filterBy"}, {"filterBy=" + strings.Repeat("username!=x,", 21) + "username!=x", "20"},
		{"filterBy=username==a&filterBy=x==y", "filterBy"}, {"sortBy=password", "sortBy"}, {"sortBy=", "sortBy"}, {"sortBy=username&sortOrder=up", "sortOrder"},
		{"sortOrder=", "sortOrder"}, {"search=", "search"}, {"search=%00", "search"}, {"search=" + strings.Repeat("x", 301), "search"}, {"search=a&search=b", "search"},
	} {
		if f := w.as(admin, "GET", "/users?"+tt.query, "").want(t, 400).failure(t); !strings.Contains(f.Message, tt.names) || f.Details.Field == "" {
			t.Errorf("%s: %+v does not name %s", tt.query, f, tt.names)
		}
	}
}

// A filter that no index serves looks at a bounded number of people for one page of who goes by cursor, answers with what it found, be
// it nothing, and goes on from there. Who sends no cursor gets what there is.
func TestFilterIsBounded(t *testing.T) {
	w := newWorld(t)
	w.seedUsers(0, 4_500)
	admin := w.adminToken(acme)
	db := w.counted()
	const query = "/users?filterBy=lastName==4400"
	rec := w.as(admin, "GET", query+"&cursor=", "").want(t, 200)
	if n := db.Reset().ListItems; n > maxLooked+5 {
		t.Errorf("a page looked at %d items", n)
	}
	if got := namesOf(w, rec); len(got) != 0 || nextOf(rec) == "" || rec.Header().Get(api.HeaderTotal) != "" {
		t.Fatalf("the first page: %v, next %q, total %q", got, nextOf(rec), rec.Header().Get(api.HeaderTotal))
	}
	var stepped []string
	pages := 1
	for next := nextOf(rec); next != "" && pages < 9; pages++ {
		rec := w.as(admin, "GET", query+"&cursor="+next, "").want(t, 200)
		stepped, next = append(stepped, namesOf(w, rec)...), nextOf(rec)
	}
	if !slices.Equal(stepped, []string{"person-004400@acme.test"}) || pages != 3 {
		t.Errorf("in steps: %v in %d pages", stepped, pages)
	}
	for _, query := range []string{query, "/users?search=n-004400", "/users?filterBy[]=lastName==4400", "/users?filterBy[]=isLocal==true&filterBy=lastName==4400"} {
		if got, pages := w.pages(admin, acme, query, 50); !slices.Equal(got, []string{"person-004400@acme.test"}) || pages != 1 {
			t.Errorf("%s: %v in %d pages", query, got, pages)
		}
	}
	// The offset is carried along, however many pages it takes to get past it.
	var got []string
	for next, pages := "&cursor=&offset=2248", 0; next != "" && pages < 9; pages++ {
		rec := w.as(admin, "GET", "/users?limit=500&filterBy=isLocal==true,lastName!="+next, "").want(t, 200)
		got = append(got, namesOf(w, rec)...)
		if next = nextOf(rec); next != "" {
			next = "&cursor=" + next
		}
	}
	if !slices.Equal(got, []string{"person-004496@acme.test", "person-004498@acme.test"}) {
		t.Errorf("behind the offset: %v", got)
	}
}

// A list of more than a filter can look at is refused to who sends no cursor, since nothing would tell them of the rest, and is not
// to who does.
func TestFilterNeverEndsAListEarly(t *testing.T) {
	for _, n := range []int{maxSifted, maxSifted + 1} {
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i
		}
		src := inMemory(numbers, func(i int) string { return fmt.Sprintf("%08d", i+1) })
		number := numberField("number", func(i int) int64 { return int64(i) })
		all := listing[int]{table: table[int]{name: "numbers", fields: []field[int]{number}}, limit: 2}
		all.conditions = []condition[int]{{field: number, op: atMost, want: fact{number: 2}}}
		first, err := all.page(src)
		if err != nil || !slices.Equal(first.values, []int{0, 1}) || first.next == "" {
			t.Errorf("of %d, a page that is full: %v, %q, %v", n, first.values, first.next, err)
		}
		all.limit = 5
		switch few, err := all.page(src); {
		case n <= maxSifted && (err != nil || len(few.values) != 3 || few.total != 3 || few.next != ""):
			t.Errorf("of %d: %v of %d, %q, %v", n, few.values, few.total, few.next, err)
		case n > maxSifted && (!errors.Is(err, core.Limit) || !strings.HasPrefix(err.Error(), filterBy) || !strings.Contains(err.Error(), "cursor")):
			t.Errorf("of %d: %v, %v; want core.Limit with the way out", n, few, err)
		}
		all.steps = true
		if few, err := all.page(src); err != nil || len(few.values) != 3 || few.next == "" || few.total != -1 {
			t.Errorf("of %d, in steps: %v of %d, %q, %v", n, few.values, few.total, few.next, err)
		}
	}
}

// An offset is bounded, since all before it is read, and the refusal says what to use instead.
func TestOffsetIsBounded(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.as(admin, "GET", "/users?offset="+strconv.Itoa(maxOffset), "").want(t, 200)
	f := w.as(admin, "GET", "/users?offset="+strconv.Itoa(maxOffset+1), "").failure(t)
	if f.Code < 400 || f.Code > 499 || f.Details.Kind != core.Limit || !strings.Contains(f.Message, "offset") || !strings.Contains(f.Message, "cursor") {
		t.Errorf("too far: %+v", f)
	}
}

// What is read as a whole has one order, however it was read, and no page of it loses an entry.
func TestInMemoryIsInOrder(t *testing.T) {
	src := inMemory([]string{"d", "a", "c", "e", "b"}, func(s string) string { return s })
	for back, want := range map[bool]string{false: "abcde", true: "edcba"} {
		l, got := listing[string]{table: table[string]{name: "letters"}, limit: 2, back: back}, ""
		for range 3 {
			f, err := l.page(src)
			if err != nil {
				t.Fatal(err)
			}
			got += strings.Join(f.values, "")
			if f.next == "" {
				break
			}
			at, err := readPosition(f.next, l.bound)
			if err != nil {
				t.Fatal(err)
			}
			l.after, l.passed = at.place, at.passed
		}
		if got != want {
			t.Errorf("backwards %v: %s, want %s", back, got, want)
		}
	}
}

// Fields are known by the names that answers give them.
func TestFieldsHaveTheNamesOfAnswers(t *testing.T) {
	w := newWorld(t)
	w.people()
	w.cluster(acme)
	admin := w.adminToken(acme)
	for _, path := range []string{"/users", "/apps", "/access-keys", allAccessKeys, issuerPath, "/clusters", "/org-unit/departments", "/org-unit/projects"} {
		for _, name := range []string{"createdAt", "creationTime", "updatedAt", "lastUpdated"} {
			w.as(admin, "GET", path+"?sortBy="+name+"&filterBy="+name+">=2020-01-01T00:00:00Z", "").want(t, 200)
		}
	}
	for _, name := range []string{"createdAt", "creationTime"} {
		if got, _ := w.pages(admin, acme, "/users?filterBy="+name+"<=2026-01-02T12:00:00Z&sortOrder=desc&sortBy="+name, 50); !slices.Equal(got, []string{"alan@acme.test", "ada@acme.test"}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, name := range api.AuditColumns {
		switch name {
		case "id", "tenant", "user_id", "kubernetes_audit_ids":
		default:
			if _, err := fieldOf(filterBy, name, auditFields); err != nil {
				t.Errorf("the audit log has %s: %v", name, err)
			}
		}
	}
}

// Another order than the natural one is for lists that fit: what is longer is refused with the way out.
func TestSortIsBounded(t *testing.T) {
	w := newWorld(t)
	w.seedUsers(0, maxGathered+1)
	admin := w.adminToken(acme)
	f := w.as(admin, "GET", "/users?sortBy=lastLogin", "").failure(t)
	if f.Code < 400 || f.Code > 499 || f.Details.Kind != core.Limit || !strings.Contains(f.Message, "sortBy") || !strings.Contains(f.Message, filterBy) {
		t.Errorf("too long a list: %+v", f)
	}
	rec := w.as(admin, "GET", "/users?limit=2&sortBy=lastLogin&filterBy=isLocal==true,lastName!=", "").want(t, 200)
	if got := namesOf(w, rec); !slices.Equal(got, []string{"person-010000@acme.test", "person-009998@acme.test"}) {
		t.Errorf("what fits: %v", got)
	}
}

// A cursor says where to go on with a question, and nothing else: not to another tenant, another list or another question.
// Every other one is refused with the same words, so none of them tells anything.
func TestCursors(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		w.user(acme, fmt.Sprintf("u%d@acme.test", i))
		w.user(globex, fmt.Sprintf("u%d@globex.test", i))
		w.cluster(acme)
	}
	admin := w.adminToken(acme)
	get := func(path string) response { return w.as(admin, "GET", path, "") }
	next := nextOf(get("/users?limit=1").want(t, 200))
	get("/users?limit=1&cursor="+next).want(t, 200)
	get("/users?limit=3&cursor="+next).want(t, 200) // the size of a page is not part of the question
	raw, err := base64.RawURLEncoding.DecodeString(next)
	w.must(err)
	forge := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	foreign := nextOf(w.call(request{method: "GET", tenant: globex, bearer: w.adminToken(globex), path: "/api/v1/users?limit=1"}).want(t, 200))
	words := get("/users?cursor=x").want(t, 400).failure(t)
	for what, path := range map[string]string{
		"another tenant's":       "/users?cursor=" + foreign,
		"another list's":         "/users?cursor=" + nextOf(get("/clusters?limit=1").want(t, 200)),
		"of another filter":      "/users?filterBy=isLocal==true&cursor=" + next,
		"of another order":       "/users?sortOrder=desc&cursor=" + next,
		"of a sort":              "/users?sortBy=lastLogin&cursor=" + next,
		"of a sort, without one": "/users?cursor=" + nextOf(get("/users?limit=1&sortBy=lastLogin").want(t, 200)),
		"cut off":                "/users?cursor=" + next[:10],
		"padded":                 "/users?cursor=" + next + "=",
		"of another form":        "/users?cursor=" + forge(append([]byte{9}, raw[1:]...)),
		"not text":               "/users?cursor=" + forge(append(slices.Clone(raw), 0xff)),
		"too long":               "/users?cursor=" + forge(append(slices.Clone(raw), strings.Repeat("x", 701)...)),
		"without a place":        "/users?cursor=" + forge(raw[:11]),
		"with a huge number":     "/users?cursor=" + forge(binary.AppendUvarint(slices.Clone(raw[:9]), 1<<40)),
	} {
		f := get(path).want(t, 400).failure(t)
		f.Details.Request = words.Details.Request
		if diff := gocmp.Diff(words, f); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if f := get("/users?offset=1&cursor="+next).want(t, 400).failure(t); f.Details.Field != "offset" {
		t.Errorf("offset and cursor: %+v", f)
	}
}

// Lists of scopes show exactly what the caller may view, in order of parent and name, whatever the caller was given; what lies in
// something deleted is gone at once.
func TestScopeLists(t *testing.T) {
	w := newWorld(t)
	var all []org.Scope
	for range 3 {
		c := w.cluster(acme)
		all = append(all, c, w.projectIn(acme, c), w.projectIn(acme, c))
		for range 2 {
			d := w.departmentIn(acme, c)
			all = append(all, d, w.projectIn(acme, d), w.projectIn(acme, d))
		}
	}
	cluster, second, dep, prj := all[0], all[9], all[12], all[10]
	gone := w.departmentIn(acme, cluster)
	w.projectIn(acme, gone)
	w.must(w.Org.DeleteScope(w.Context(), core.SystemActor(acme), acme, gone.ID, true))
	account := core.AccountScope(acme)
	for name, scopes := range map[string][]core.ScopeID{
		"account":                 {account},
		"a cluster":               {cluster.ID},
		"two clusters":            {second.ID, cluster.ID},
		"a department":            {dep.ID},
		"a project":               {prj.ID},
		"things of three kinds":   {cluster.ID, dep.ID, prj.ID},
		"one thing in another":    {second.ID, dep.ID, prj.ID, all[13].ID},
		"everything, twice":       {account, cluster.ID, prj.ID},
		"departments of clusters": {dep.ID, all[3].ID, all[24].ID},
	} {
		app := w.app(acme)
		for _, id := range scopes {
			w.grant(acme, core.ApplicationSubject(app.ID), policy.L1Researcher, id)
		}
		bearer := w.appToken(acme, app)
		for _, l := range []struct {
			path string
			kind core.ScopeKind
		}{{"/clusters", core.Cluster}, {"/org-unit/departments", core.Department}, {"/org-unit/projects", core.Project}} {
			for _, cut := range []struct {
				query string
				in    func(org.Scope) bool
			}{
				{"", func(org.Scope) bool { return true }},
				{"?clusterId=" + string(second.Cluster), func(s org.Scope) bool { return s.Cluster == second.Cluster }},
				{"?filterBy=parentId==" + string(dep.ID), func(s org.Scope) bool { return s.Parent == dep.ID }},
				{"?filterBy=parentId==" + string(second.ID), func(s org.Scope) bool { return s.Parent == second.ID }},
				{"?filterBy=parentId==nowhere", func(s org.Scope) bool { return false }},
				{"?filterBy=name==" + prj.Name, func(s org.Scope) bool { return s.Name == prj.Name }},
				{"?filterBy=name==" + second.Name, func(s org.Scope) bool { return s.Name == second.Name }},
				{"?filterBy=name==" + dep.Name, func(s org.Scope) bool { return s.Name == dep.Name }},
				{"?filterBy=name=^" + second.Name[:len(second.Name)-1], func(s org.Scope) bool { return strings.HasPrefix(s.Name, second.Name[:len(second.Name)-1]) }},
				{"?filterBy=name=^" + prj.Name[:3], func(s org.Scope) bool { return strings.HasPrefix(s.Name, prj.Name[:3]) }},
				{"?filterBy=name=$" + prj.Name[4:], func(s org.Scope) bool { return strings.HasSuffix(s.Name, prj.Name[4:]) }},
			} {
				if l.kind == core.Cluster && (strings.Contains(cut.query, "clusterId") || strings.Contains(cut.query, "parentId")) {
					continue
				}
				var want []string
				sorted := slices.Clone(all)
				slices.SortFunc(sorted, func(a, b org.Scope) int { return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Name, b.Name)) })
				for _, sc := range sorted {
					path := org.PathOf(acme, sc)
					if sc.Kind == l.kind && cut.in(sc) && slices.ContainsFunc(scopes, func(id core.ScopeID) bool { return slices.Contains(path[:], id) }) {
						want = append(want, sc.Name)
					}
				}
				rec := w.call(request{method: "GET", tenant: acme, bearer: bearer, path: "/api/v1" + l.path + cut.query})
				if rec.Code == 403 { // who sees no cluster is told so
					continue
				}
				for _, limit := range []int{2, 500} {
					if got, _ := w.pages(bearer, acme, l.path+cut.query, limit); !slices.Equal(got, want) {
						t.Errorf("%s: %s%s by %d: %v, want %v", name, l.path, cut.query, limit, got, want)
					}
				}
				backwards := "?sortOrder=desc"
				if cut.query != "" {
					backwards = cut.query + "&sortOrder=desc"
				}
				slices.Reverse(want)
				if got, _ := w.pages(bearer, acme, l.path+backwards, 2); !slices.Equal(got, want) {
					t.Errorf("%s: %s%s: %v, want %v", name, l.path, backwards, got, want)
				}
			}
		}
	}
}

// FuzzFilterBy reads filters of any form: they are refused by name, or compare without harm.
func FuzzFilterBy(f *testing.F) {
	for _, s := range []string{"", "username==a", "username=^a,isLocal==true", "lastName==a,b", "creationTime<=2026-01-01T00:00:00Z", ",", "==", "a==b,c", "username!@\x00", "username=$\xff", "isLocal==TRUE"} {
		f.Add(s)
	}
	u := directory.User{Email: "ada@acme.test", FirstName: "Ada"}
	f.Fuzz(func(t *testing.T, s string) {
		conditions, err := readFilters([]string{s}, userTable.fields)
		if err != nil {
			if !strings.Contains(err.Error(), filterBy) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if len(conditions) == 0 {
			t.Fatalf("%q is no condition and no fault", s)
		}
		for _, c := range conditions {
			c.matches(u)
			if not := (condition[directory.User]{field: c.field, op: unequal, want: c.want}); c.op == equal && c.matches(u) == not.matches(u) {
				t.Fatalf("%q and its contrary agree", s)
			}
		}
	})
}

// FuzzCursor reads cursors of any form: what is taken has one spelling, and stays within bounds.
func FuzzCursor(f *testing.F) {
	l := listing[directory.User]{bound: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	for _, s := range []string{"", "x", l.cursor("ada@acme.test", 50, 0), l.cursor("", 7, 3), l.cursor("\xff", 1, 1), l.cursor("a", maxPassed+1, 0)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := readPosition(s, l.bound)
		if err != nil {
			return
		}
		if at.passed < 0 || at.skip < 0 || at.passed > maxPassed || at.skip > maxPassed || len(at.place) > store.MaxKey {
			t.Fatalf("%q: %+v", s, at)
		}
		if again, err := readPosition(l.cursor(at.place, at.passed, at.skip), l.bound); err != nil || again != at {
			t.Fatalf("%q: %+v is read back as %+v, %v", s, at, again, err)
		}
	})
}
