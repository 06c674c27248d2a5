package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// A tenant of n rules: n/6 people and some groups, in a tree of n/30 projects; people hold rules in projects,
// departments, clusters and, rarely, at the account.
type tenant struct {
	rules []core.Rule
	asks  []Request
}

func makeTenant(n int, asks int) *tenant {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	t := &tenant{rules: make([]core.Rule, n)}
	projects, departments := n/30+1, n/300+1
	perCluster := 300
	cluster := func(i int) core.ScopeID {
		return core.ScopeID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
	}
	path := func(project int) core.Path {
		d := project % departments
		c := cluster(d / perCluster)
		return core.Path{"acme", c, c + core.ScopeID(fmt.Sprintf(".d%06d", d)), c + core.ScopeID(fmt.Sprintf(".p%06d", project))}
	}
	person := func(i int) core.Subject {
		return core.Subject{Kind: core.User, ID: fmt.Sprintf("person%d@example.com", i)}
	}
	group := func(i int) core.Subject { return core.Subject{Kind: core.Group, ID: fmt.Sprintf("group-%d", i)} }
	people, groups := n/6+1, n/60+1
	for i := range t.rules {
		p := path(r.IntN(projects))
		level := 3
		switch x := r.IntN(1000); {
		case x == 0:
			level = 0
		case x < 20:
			level = 1
		case x < 200:
			level = 2
		}
		t.rules[i] = core.Rule{ID: core.RuleID(i + 1), Role: roles[r.IntN(len(roles))].ID, Scope: p[level], Subject: person(r.IntN(people))}
		if r.IntN(3) == 0 {
			t.rules[i].Subject = group(r.IntN(groups))
		}
	}
	for range asks {
		rule := t.rules[r.IntN(n)] // half of the questions are about a place that the subject has something to do with
		req := Request{Subjects: []core.Subject{person(r.IntN(people))}, Path: path(r.IntN(projects)),
			Entity: Entity(1 + r.IntN(NumEntities)), Action: Actions()[r.IntN(4)], Now: 1000}
		if r.IntN(2) == 0 {
			req.Subjects[0] = rule.Subject
		}
		for len(req.Subjects) < 5 { // and four groups
			if g := group(r.IntN(groups)); !slices.Contains(req.Subjects, g) {
				req.Subjects = append(req.Subjects, g)
			}
		}
		t.asks = append(t.asks, req)
	}
	return t
}

// BenchmarkDecide compares a decision over decoded grants with the same look-ups of the same keys in a bare Go map: that
// is what any decision must pay. It reports the ratio of the two, which the design wants to be at most 2, and beside it
// what a decision costs that first decodes the items which one request reads.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{3e4, 3e5, 3e6} {
		b.Run(fmt.Sprintf("rules=%.0e", float64(n)), func(b *testing.B) {
			const asks = 1 << 14
			t := makeTenant(n, asks)
			g := BuildGrants(t.rules)
			items := t.encode(b)
			t.rules = nil
			runtime.GC() // three million rules are half a gigabyte
			bare := make(map[holding]run, len(g.runs))
			for k, v := range g.runs {
				bare[k] = v
			}
			var decide, look, decode time.Duration
			var allowed, found, rounds int
			for b.Loop() {
				// Turn about, in slices of the same questions, so that what else the machine does hits all alike.
				const slice = 1 << 10
				at := rounds * slice % asks
				rounds++
				part := t.asks[at : at+slice]

				start := time.Now()
				for i := range part {
					if d := Decide(g, &part[i]); d.Allowed {
						allowed++
					}
				}
				decide += time.Since(start)

				start = time.Now()
				for i := range part {
					found += lookUp(bare, &part[i])
				}
				look += time.Since(start)

				start = time.Now()
				for i := range part {
					var own Grants
					for _, s := range part[i].Subjects {
						for _, in := range part[i].Path[:2] {
							if body := items[itemKey{s, in}]; body != nil {
								if err := own.Add(s, body); err != nil {
									b.Fatal(err)
								}
							}
						}
					}
					Decide(&own, &part[i])
				}
				decode += time.Since(start)
			}
			if allowed == 0 || found == 0 {
				b.Fatalf("%d allowed, %d found: the benchmark measures nothing", allowed, found)
			}
			per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(rounds<<10) }
			b.ReportMetric(per(decide), "ns/decision")
			b.ReportMetric(per(look), "ns/lookups")
			b.ReportMetric(per(decide)/per(look), "ratio")
			b.ReportMetric(per(decode), "ns/decode+decide")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// lookUp is the baseline: the keys of a decision, looked up and nothing more.
func lookUp(m map[holding]run, req *Request) (found int) {
	for i := range req.Subjects {
		for j := range req.Path {
			if _, ok := m[holding{req.Subjects[i].ID, req.Path[j], kindOf(req.Subjects[i].Kind)}]; ok {
				found++
			}
		}
	}
	return found
}

type itemKey struct {
	s  core.Subject
	in core.ScopeID
}

// encode makes the grants items of everything that the questions ask about, and of nothing else: with millions of rules
// there would be no room.
func (t *tenant) encode(b *testing.B) map[itemKey][]byte {
	grants := map[itemKey][]Grant{}
	for _, req := range t.asks {
		for _, s := range req.Subjects {
			for _, in := range req.Path[:2] {
				grants[itemKey{s, in}] = nil
			}
		}
	}
	for _, r := range t.rules {
		in := r.Scope
		if c, ok := r.Scope.ClusterOf(); ok {
			in = core.ClusterScope(c)
		}
		if list, asked := grants[itemKey{r.Subject, in}]; asked {
			grants[itemKey{r.Subject, in}] = append(list, GrantOf(r))
		}
	}
	items := map[itemKey][]byte{}
	for k, list := range grants {
		if len(list) == 0 {
			continue
		}
		body, err := EncodeGrants(list[:min(len(list), MaxGrants)])
		if err != nil {
			b.Fatal(err)
		}
		items[k] = body
	}
	return items
}
