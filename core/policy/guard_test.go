package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// The plain model of the guard knows numbers only: places in a tree, people, what a role permits as read from roles.yaml, and a
// list of rules at which it looks one after the other. It shares nothing with the code under test.
type plain struct {
	roles map[int][]int  // role -> its permissions, by number
	has   map[int][]bool // likewise, by permission
	up    []int          // place -> the place above it; -1: none
	in    [][]int        // person -> groups, numbered behind the people
	rules []plainRule
	now   int
}

type plainRule struct {
	who, role, at int
	end           int // the second from which it does not hold; 0: none
	seeded        bool
	id            int
}

func (p *plain) reaches(r plainRule, who, place, when int) bool {
	if r.end != 0 && when >= r.end {
		return false
	}
	given := r.who == who
	if who < len(p.in) {
		for _, g := range p.in[who] {
			given = given || r.who == g
		}
	}
	if !given {
		return false
	}
	for at := place; at >= 0; at = p.up[at] {
		if at == r.at {
			return true
		}
	}
	return false
}

// one says whether a single rule gives a permission.
func (p *plain) one(who, permission, place, when int) bool {
	for _, r := range p.rules {
		if p.reaches(r, who, place, when) && p.has[r.role][permission] {
			return true
		}
	}
	return false
}

// all says whether every permission of a role is held, whichever rule it comes from.
func (p *plain) all(who, role, place, when int) bool {
	var held [144]bool
	for _, r := range p.rules {
		if !p.reaches(r, who, place, when) {
			continue
		}
		for _, n := range p.roles[r.role] {
			held[n] = true
		}
	}
	for _, n := range p.roles[role] {
		if !held[n] {
			return false
		}
	}
	return true
}

// answer is what the guard says: the second word is what is wrong.
type answer string

const (
	yes     answer = "yes"
	noRule  answer = "no, there is no rule for it"
	lacks   answer = "no, something of the role is not held"
	tooLong answer = "no, something of the role is not held for as long"
)

func (p *plain) give(who int, r plainRule, create int) answer {
	switch {
	case !p.one(who, create, r.at, p.now):
		return noRule
	case !p.all(who, r.role, r.at, p.now):
		return lacks
	}
	last := p.now // when the last of the rules ends, but for those without an end
	for _, o := range p.rules {
		last = max(last, o.end)
	}
	for when := p.now; when <= last && (r.end == 0 || when < r.end); when++ { // second by second
		if !p.all(who, r.role, r.at, when) {
			return tooLong
		}
	}
	return yes
}

func (p *plain) take(who int, r plainRule, del int) answer {
	switch {
	case !p.one(who, del, r.at, p.now):
		return noRule
	case !p.all(who, r.role, r.at, p.now):
		return lacks
	}
	return yes
}

// The names of the plain model's numbers, for the code under test.
var (
	plainPlaces = [7]core.ScopeID{
		"acme",
		"00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000001.d", "00000000-0000-4000-8000-000000000001.p",
		"00000000-0000-4000-8000-000000000001.q", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000002.p",
	}
	plainUp    = []int{-1, 0, 1, 2, 1, 0, 5}
	plainPaths = [7]core.Path{
		{plainPlaces[0]}, {plainPlaces[0], plainPlaces[1]}, {plainPlaces[0], plainPlaces[1], plainPlaces[2]},
		{plainPlaces[0], plainPlaces[1], plainPlaces[2], plainPlaces[3]}, {plainPlaces[0], plainPlaces[1], plainPlaces[4]},
		{plainPlaces[0], plainPlaces[5]}, {plainPlaces[0], plainPlaces[5], plainPlaces[6]},
	}
	plainSubjects = [6]core.Subject{
		core.UserSubject("p0@x.test"), core.UserSubject("p1@x.test"), core.ApplicationSubject("p2"), core.UserSubject("p3@x.test"),
		core.GroupSubject("g"), core.GroupSubject("h"),
	}
	roleNumbers  = []int{1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
	givingRoles  = []int{1, 1, 3, 4, 15, 17, 17, 3}
	plainActions = [4]string{"view", "edit", "create", "delete"}
)

// second is where the plain model's time begins, in Unix seconds.
const second = 1_780_000_000

// guarded is a history: the plain model, and the same rules for the code under test.
type guarded struct {
	plain
	n              int
	r              *rand.Rand
	create, delete int // the permissions, by number
	rulesOf        []core.Rule
	grants         *Grants // of rulesOf; nil: to be made anew
	made, refused  int
}

func (h *guarded) index() *Grants {
	if h.grants == nil {
		h.grants = BuildGrants(h.rulesOf)
	}
	return h.grants
}

func (h *guarded) add(r plainRule) {
	r.id = 1000 + len(h.rules) + h.n%7
	for _, o := range h.rules {
		r.id = max(r.id, o.id+1)
	}
	h.rules = append(h.rules, r)
	rule := core.Rule{ID: core.RuleID(r.id), Subject: plainSubjects[r.who], Role: core.RoleID(r.role), Scope: plainPlaces[r.at]}
	if r.end != 0 {
		rule.ExpiresAt = time.Unix(second+int64(r.end), 0)
	}
	h.rulesOf, h.grants = append(h.rulesOf, rule), nil
}

func (h *guarded) drop(i int) {
	h.rules = append(h.rules[:i:i], h.rules[i+1:]...)
	h.rulesOf, h.grants = append(h.rulesOf[:i:i], h.rulesOf[i+1:]...), nil
}

// subjects is a person with the groups, for the code under test.
func (h *guarded) subjects(who int) []core.Subject {
	out := []core.Subject{plainSubjects[who]}
	for _, g := range h.in[who] {
		out = append(out, plainSubjects[g])
	}
	return out
}

// asked is the code's answer in the plain model's words.
func (h *guarded) asked(who int, r plainRule, a Action) answer {
	d := Delegation{Subjects: h.subjects(who), Path: plainPaths[r.at], Role: core.RoleID(r.role), Action: a, Now: second + int64(h.now)}
	if r.end != 0 {
		d.Until = second + int64(r.end)
	}
	refusal, ok := Delegate(h.index(), &d)
	switch {
	case ok:
		return yes
	case !refusal.Decision.Allowed:
		return noRule
	case refusal.Lack.Later:
		return tooLong
	}
	return lacks
}

func (h *guarded) end() int {
	if h.r.IntN(3) == 0 {
		return h.now + 1 + h.r.IntN(8)
	}
	return 0
}

// run makes a history: rules to begin with, then people who give and take, and time that passes. It returns what is wrong.
func (h *guarded) run() string {
	r := h.r
	h.in = [][]int{nil, nil, nil, nil}
	for who := range h.in {
		for g := 4; g < 6; g++ {
			if r.IntN(4) == 0 {
				h.in[who] = append(h.in[who], g)
			}
		}
	}
	for range 1 + r.IntN(4) {
		h.add(plainRule{who: r.IntN(6), role: pick(r, givingRoles), at: r.IntN(7), end: h.end(), seeded: true})
	}
	seeded := append([]plainRule(nil), h.rules...)
	for range 7 {
		switch r.IntN(8) {
		case 0:
			h.now += 1 + r.IntN(4)
		case 1: // maintenance sweeps one that has ended, or comes too early
			if i := r.IntN(len(h.rules) + 1); i < len(h.rules) && h.rules[i].end != 0 && h.rules[i].end <= h.now {
				h.drop(i)
			}
		case 2, 3:
			if len(h.rules) == 0 {
				continue
			}
			i, who := r.IntN(len(h.rules)), r.IntN(4)
			want, got := h.take(who, h.rules[i], h.delete), h.asked(who, h.rules[i], Delete)
			if got != want {
				return fmt.Sprintf("%d takes %+v: %s, want %s", who, h.rules[i], got, want)
			}
			if got == yes {
				h.made++
				h.drop(i)
			} else {
				h.refused++
			}
		default:
			who := r.IntN(4)
			rule := plainRule{who: r.IntN(6), role: pick(r, roleNumbers), at: r.IntN(7), end: h.end()}
			if len(h.rules) > 0 && r.IntN(4) > 0 { // what somebody is likely to be able to give
				own := pick(r, h.rules)
				if who = own.who; who >= 4 {
					who = r.IntN(4)
				}
				if r.IntN(3) > 0 {
					rule.role = own.role
				}
				if rule.at = own.at; own.end != 0 && own.end > h.now && r.IntN(3) > 0 {
					rule.end = own.end + r.IntN(2)
				}
				for below := range plainUp { // or somewhere below
					if plainUp[below] == rule.at && r.IntN(3) == 0 {
						rule.at = below
					}
				}
			}
			want, got := h.give(who, rule, h.create), h.asked(who, rule, Create)
			if got != want {
				return fmt.Sprintf("%d gives %+v: %s, want %s", who, rule, got, want)
			}
			if got == yes {
				h.made++
				h.add(rule)
			} else {
				h.refused++
			}
		}
	}
	return h.after(seeded)
}

// after compares what people hold in the end, at the last second of some rule and in the first one without it, and asks that
// nobody holds what no rule of the beginning could have given them.
func (h *guarded) after(seeded []plainRule) string {
	when := h.now
	if ends := pick(h.r, append(h.rules, plainRule{})).end; ends > h.now {
		when = ends - h.r.IntN(2)
	}
	who, place := h.r.IntN(4), h.r.IntN(7)
	held := Held(h.index(), h.subjects(who), plainPaths[place], second+int64(when))
	for n := range 144 {
		got, want := held[1+n/4]&(1<<(n%4)) != 0, h.one(who, n, place, when)
		if got != want {
			return fmt.Sprintf("at %d, %d holds %d in %d: %v, want %v", when, who, n, place, got, want)
		}
		if !got {
			continue
		}
		could := false
		for _, r := range seeded {
			within := false
			for at := place; at >= 0; at = h.up[at] {
				within = within || at == r.at
			}
			could = could || within && h.has[r.role][n] && (r.end == 0 || when < r.end)
		}
		if !could {
			return fmt.Sprintf("at %d, %d holds %d in %d, which nobody had to give", when, who, n, place)
		}
	}
	n := h.r.IntN(144)
	d := Decide(h.index(), &Request{Subjects: h.subjects(who), Path: plainPaths[place], Entity: Entity(1 + n/4), Action: 1 << (n % 4), Now: second + int64(when)})
	if want := h.one(who, n, place, when); d.Allowed != want {
		return fmt.Sprintf("at %d, may %d do %d in %d: %v, want %v", when, who, n, place, d.Allowed, want)
	}
	return ""
}

// TestDelegationHistories runs a million histories (a fiftieth under the race detector and with -short) of people who give
// rights to one another, take them away, let them end and try to give what they do not hold: the guard and the plain model
// agree on every attempt and on what is held in the end, and nobody comes by what no chain of grants could have given. TEN-001
func TestDelegationHistories(t *testing.T) {
	histories := 1_000_000
	if raceEnabled || testing.Short() {
		histories /= 50
	}
	ref := readReference(t)
	roles, has := map[int][]int{}, map[int][]bool{}
	number := map[string]int{}
	for i, entity := range ref.order {
		for j, action := range plainActions {
			number[entity+"/"+action] = 4*i + j
		}
	}
	for _, role := range roleNumbers {
		has[role] = make([]bool, 144)
		for i, entity := range ref.order {
			for j, action := range plainActions {
				if ref.permits(role, entity, action) {
					roles[role] = append(roles[role], 4*i+j)
					has[role][4*i+j] = true
				}
			}
		}
	}
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			for n := worker; n < histories && !t.Failed(); n += workers {
				h := &guarded{plain: plain{roles: roles, has: has, up: plainUp}, n: n, r: rand.New(rand.NewPCG(uint64(n), 11)),
					create: number["access_rules/create"], delete: number["access_rules/delete"]}
				if wrong := h.run(); wrong != "" {
					t.Errorf("history %d: %s, at %d with the rules %+v", n, wrong, h.now, h.rules)
				}
				made.Add(int64(h.made))
				refused.Add(int64(h.refused))
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories: %d changes made, %d refused", histories, made.Load(), refused.Load())
	if made.Load() < int64(histories) || refused.Load() < int64(histories) {
		t.Error("the histories are too plain")
	}
}

// What the guard asks, one thing at a time: each refusal stands beside the nearest grant that passes. TEN-001 TEN-007
func TestDelegate(t *testing.T) {
	bob, team := core.UserSubject("bob@x.test"), core.GroupSubject("team")
	department, project, beside := plainPaths[2], plainPaths[3], plainPaths[4]
	grant := func(id core.RuleID, who core.Subject, role core.RoleID, scope core.ScopeID, ends int64) core.Rule {
		r := core.Rule{ID: id, Subject: who, Role: role, Scope: scope}
		if ends != 0 {
			r.ExpiresAt = time.Unix(ends, 0)
		}
		return r
	}
	both := []core.Subject{bob, team}
	administers := grant(1, bob, DepartmentAdministrator, plainPlaces[2], 0)
	views := grant(2, team, Viewer, plainPlaces[0], 0)
	ending := grant(3, bob, ResearchManager, plainPlaces[3], 100)
	for name, tt := range map[string]struct {
		rules []core.Rule
		who   []core.Subject
		path  core.Path
		role  core.RoleID
		act   Action
		until int64
		now   int64
		want  string
	}{
		"in the own department":                  {[]core.Rule{administers}, both, department, L1Researcher, Create, 0, 0, "yes"},
		"below it":                               {[]core.Rule{administers}, both, project, L1Researcher, Create, 0, 0, "yes"},
		"beside it":                              {[]core.Rule{administers}, both, beside, L1Researcher, Create, 0, 0, "needs"},
		"above it":                               {[]core.Rule{administers}, both, plainPaths[1], L1Researcher, Create, 0, 0, "needs"},
		"more than is held":                      {[]core.Rule{administers}, both, project, Editor, Create, 0, 0, "lacks"},
		"to look is not to give":                 {[]core.Rule{views}, both, project, Viewer, Create, 0, 0, "needs"},
		"the right to give there, and rights":    {[]core.Rule{ending, views}, both, project, Viewer, Create, 100, 0, "yes"},
		"the right to give elsewhere":            {[]core.Rule{ending, views}, both, beside, Viewer, Create, 100, 0, "needs"},
		"to the last second":                     {[]core.Rule{ending}, both, project, ResearchManager, Create, 100, 0, "yes"},
		"a second longer":                        {[]core.Rule{ending}, both, project, ResearchManager, Create, 101, 0, "later"},
		"for ever":                               {[]core.Rule{ending}, both, project, ResearchManager, Create, 0, 0, "later"},
		"in the last second":                     {[]core.Rule{ending}, both, project, ResearchManager, Create, 100, 99, "yes"},
		"after it":                               {[]core.Rule{ending}, both, project, ResearchManager, Create, 101, 100, "needs"},
		"to take what lasts longer":              {[]core.Rule{ending}, both, project, ResearchManager, Delete, 0, 0, "yes"},
		"to take more than is held":              {[]core.Rule{administers}, both, project, SystemAdministrator, Delete, 0, 0, "lacks"},
		"without the group that the rule is for": {[]core.Rule{grant(4, team, Editor, plainPlaces[0], 0)}, both[:1], project, Viewer, Create, 0, 0, "needs"},
		"with it":                                {[]core.Rule{grant(4, team, Editor, plainPlaces[0], 0)}, both, project, Viewer, Create, 0, 0, "yes"},
		"a role that there is not":               {[]core.Rule{administers}, both, project, 2, Create, 0, 0, "lacks"},
		"a role that permits nothing, at 0":      {[]core.Rule{administers}, both, project, 0, Create, 0, 0, "lacks"},
		"to edit":                                {[]core.Rule{administers}, both, project, L1Researcher, Edit, 0, 0, "needs"},
		"to view":                                {[]core.Rule{administers}, both, project, L1Researcher, View, 0, 0, "needs"},
		"to create and delete at once":           {[]core.Rule{administers}, both, project, L1Researcher, Create | Delete, 0, 0, "needs"},
		"nobody":                                 {[]core.Rule{administers}, nil, project, L1Researcher, Create, 0, 0, "needs"},
		"nowhere":                                {[]core.Rule{administers}, both, core.Path{}, L1Researcher, Create, 0, 0, "needs"},
	} {
		refusal, ok := Delegate(BuildGrants(tt.rules), &Delegation{Subjects: tt.who, Path: tt.path, Role: tt.role, Action: tt.act, Until: tt.until, Now: tt.now})
		got := "yes"
		switch {
		case ok:
		case !refusal.Decision.Allowed:
			got = "needs"
		case refusal.Lack.Later:
			got = "later"
		default:
			got = "lacks"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s: %+v", name, got, tt.want, refusal)
		}
	}
}
