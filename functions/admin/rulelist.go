package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

// ruleFilters are the parameters that choose access rules, and ruleParams those of their list.
var (
	ruleFilters = []string{"subjectType", "subjectIds", "subjectIds[]", "scopeId", "clusterId", "lastUpdated", "includeDeleted", filterBy, "search"}
	ruleParams  = append([]string{"limit", "offset", "cursor", "sortBy", "sortOrder"}, ruleFilters...)
)

// maxSubjectIDs is how many subjects one list may be asked for.
const maxSubjectIDs = 100

// listedRule is a rule in a list, and what became of it.
type listedRule struct {
	core.Rule
	gone *access.Gone // nil: it is there
}

// ruleTable leaves out what would cost a read for every rule, such as the name of a scope.
func ruleTable(t core.TenantID) table[listedRule] {
	roleName := func(r listedRule) string {
		role, _ := policy.RoleByID(r.Role)
		return role.Name
	}
	return table[listedRule]{name: "access-rules", natural: "createdAt", fields: []field[listedRule]{
		numberField("id", func(r listedRule) int64 { return int64(r.ID) }),
		textField("subjectId", func(r listedRule) string { return r.Subject.ID }).search(),
		textField("subjectType", func(r listedRule) string { return string(api.SubjectTypeOf(r.Subject.Kind)) }),
		numberField("roleId", func(r listedRule) int64 { return int64(r.Role) }),
		textField("roleName", roleName).search(),
		textField("scopeId", func(r listedRule) string { return string(r.Scope) }),
		textField("scopeType", func(r listedRule) string { return string(api.ScopeTypeOf(t, r.ScopeKind)) }),
		textField("clusterId", func(r listedRule) string {
			cluster, _ := r.Scope.ClusterOf()
			return string(cluster)
		}),
		timeField("createdAt", func(r listedRule) time.Time { return r.CreatedAt }),
		textField("createdBy", func(r listedRule) string { return by(r.CreatedBy) }).search(),
		timeField("expiresAt", func(r listedRule) time.Time { return r.ExpiresAt }),
		textField("reason", func(r listedRule) string { return r.Reason }).search(),
	}}
}

// listRules answers with a page of the rules that the caller may view. It is read from the store in the order in which it is
// asked for, if that is the order of creation; any other order is made here, of a list that is short enough.
func listRules(c *call) (reply, error) {
	l, q, err := c.readRuleListing()
	if err != nil {
		return failed(err)
	}
	var rules []listedRule
	var next string
	total := -1
	if l.sort != nil {
		all, err := c.Access.Gather(c.ctx, c.actor, q)
		if errors.Is(err, core.Limit) {
			err = fmt.Errorf("sortBy: %w", err)
		}
		if err != nil {
			return failed(err)
		}
		sorted, err := l.sorted(inMemory(listedRules(all), rulePlace))
		if err != nil {
			return failed(err)
		}
		rules, next, total = sorted.values, sorted.next, sorted.total
	} else {
		q.Limit, q.Offset, q.After, q.Thorough = l.limit, l.offset, l.after, !l.steps
		page, err := c.Access.List(c.ctx, c.actor, q)
		if err != nil {
			return failed(err)
		}
		rules = listedRules(page)
		passed := l.passed + page.Passed + page.Len()
		if total = passed; page.Next != "" {
			next, total = l.cursor(page.Next, passed, l.offset-page.Passed), -1
		}
		l.passed = passed
	}
	return c.ruleList(rules, next, total, l.passed)
}

func listedRules(p access.Page) []listedRule {
	all := make([]listedRule, 0, p.Len())
	for _, r := range p.Rules {
		all = append(all, listedRule{Rule: r})
	}
	for _, g := range p.Gone {
		all = append(all, listedRule{Rule: g.Rule, gone: &g})
	}
	return all
}

func rulePlace(r listedRule) string { return fmt.Sprintf("%020d", uint64(r.ID)) }

func countRules(c *call) (reply, error) {
	_, q, err := c.readRuleListing()
	if err != nil {
		return failed(err)
	}
	n, err := c.Access.Count(c.ctx, c.actor, q)
	if err != nil {
		return failed(err)
	}
	return ok(api.Count{Count: n})
}

// readRuleListing reads the parameters of the list.
func (c *call) readRuleListing() (l listing[listedRule], q access.Query, err error) {
	if err := c.holdsSomewhere(policy.AccessRules, policy.View); err != nil {
		return l, q, err
	}
	if q.Gone, err = c.flag("includeDeleted"); err != nil {
		return l, q, err
	}
	t := ruleTable(c.tenant)
	if q.Gone {
		t.natural = "" // what was deleted comes last, whenever it was created
	}
	if l, err = readListing(c, t); err != nil {
		return l, q, err
	}
	switch {
	case l.back:
		q.Order = access.Newest
	case c.params.Has("sortBy"):
		q.Order = access.Oldest
	}
	if q.Since, err = c.instant("lastUpdated"); err != nil {
		return l, q, err
	}
	kinds := []core.SubjectKind{core.User, core.Group, core.Application}
	if c.params.Has("subjectType") {
		kind, known := api.SubjectType(c.params.Get("subjectType")).Kind()
		if !known {
			return l, q, core.BadField("subjectType", "must be user, group, service-account or app")
		}
		q.SubjectKind, kinds = kind, []core.SubjectKind{kind}
	}
	for _, name := range []string{"subjectIds", "subjectIds[]"} {
		for _, v := range c.params[name] {
			for _, id := range subjectIDs(v) {
				if id == "" || len(id) > 256 || len(q.Subjects) >= maxSubjectIDs*len(kinds) {
					return l, q, core.BadField(name, fmt.Sprintf("must be 1 to %d ids, none of them empty", maxSubjectIDs))
				}
				for _, k := range kinds {
					q.Subjects = append(q.Subjects, canonical(k, id))
				}
			}
		}
	}
	if q.Scope, err = scopeParam[core.ScopeID](c, "scopeId"); err != nil {
		return l, q, err
	}
	if q.Cluster, err = scopeParam[core.ClusterID](c, "clusterId"); err != nil {
		return l, q, err
	}
	if l.filtered() {
		q.Match = func(r core.Rule) bool { return l.matches(listedRule{Rule: r}) }
		narrow(&q, l.conditions, kinds)
	}
	return l, q, nil
}

// narrow lets the store's indexes serve the conditions that they can. All conditions are asked about afterwards anyway.
func narrow(q *access.Query, conditions []condition[listedRule], kinds []core.SubjectKind) {
	for _, cond := range conditions {
		v := cond.want.text
		if cond.op != equal || v == "" || len(v) > 100 {
			continue
		}
		switch {
		case cond.name == "subjectId" && len(q.Subjects) == 0:
			for _, k := range kinds {
				q.Subjects = append(q.Subjects, core.Subject{Kind: k, ID: v})
			}
		case cond.name == "scopeId" && q.Scope == "":
			q.Scope = core.ScopeID(v)
		case cond.name == "clusterId" && q.Cluster == "":
			q.Cluster = core.ClusterID(v)
		}
	}
}

// instant is a parameter that is a time; absent, it is zero.
func (c *call) instant(name string) (time.Time, error) {
	if !c.params.Has(name) {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, c.params.Get(name))
	if err != nil || at.Year() < 1970 {
		return time.Time{}, core.BadField(name, "must be a time such as 2026-05-04T09:00:00Z")
	}
	return at.UTC(), nil
}

// subjectIDs reads a value of subjectIds: one id, or several joined with commas. A group's name may hold a comma, so the
// whole value is looked for too.
func subjectIDs(v string) []string {
	parts := strings.Split(v, ",")
	if len(parts) == 1 {
		return parts
	}
	return append(parts, v)
}

// canonical is the form in which rules keep a subject. What cannot be a name stays as it is, and matches nothing.
func canonical(k core.SubjectKind, id string) core.Subject {
	switch k {
	case core.User:
		if e, err := core.ParseEmail("", id); err == nil {
			return core.UserSubject(e)
		}
	case core.Group:
		if g, err := core.ParseGroupName("", id); err == nil {
			return core.GroupSubject(g)
		}
	}
	return core.Subject{Kind: k, ID: id}
}

// scopeParam is a parameter that is an id; absent, it is empty.
func scopeParam[T ~string](c *call, name string) (T, error) {
	v := c.params.Get(name)
	if c.params.Has(name) && (v == "" || len(v) > 100) {
		return "", core.BadField(name, "must be an id")
	}
	return T(v), nil
}

// myRules answers with the rules that the caller holds: they are few, so they are read as a whole.
func myRules(c *call) (reply, error) {
	l, err := readListing(c, ruleTable(c.tenant))
	if err != nil {
		return failed(err)
	}
	mine, err := c.Access.Mine(c.ctx, c.actor)
	if err != nil {
		return failed(err)
	}
	part, err := l.page(inMemory(listedRules(access.Page{Rules: mine}), rulePlace))
	if err != nil {
		return failed(err)
	}
	return c.ruleList(part.values, part.next, part.total, l.passed+l.offset+len(part.values))
}

func countMyRules(c *call) (reply, error) {
	mine, err := c.Access.Mine(c.ctx, c.actor)
	if err != nil {
		return failed(err)
	}
	return ok(api.Count{Count: len(mine)})
}

// ruleList is a page of rules on the wire; total is -1 where it is not known, and then at least one more than was passed.
func (c *call) ruleList(page []listedRule, next string, total, passed int) (reply, error) {
	rules := each(page, func(r listedRule) core.Rule { return r.Rule })
	names, err := c.scopeNames(rules)
	if err != nil {
		return failed(err)
	}
	states, err := c.ruleStates(rules)
	if err != nil {
		return failed(err)
	}
	list := api.AccessRuleList{TotalRecords: total, DisplayRecords: len(page), Next: next}
	if total < 0 {
		list.TotalRecords = passed + 1
	}
	list.AccessRules = each(page, func(r listedRule) api.AccessRule {
		wire := c.wireRule(r.Rule, names)
		wire.Status = states[r.ID]
		if r.gone != nil {
			wire.DeletedAt, wire.UpdatedAt, wire.DeletedBy = &r.gone.DeletedAt, r.gone.DeletedAt, by(r.gone.DeletedBy)
			wire.Status = stateIn(api.PhaseDeleting)
		}
		return wire
	})
	return reply{status: http.StatusOK, json: list, total: total, next: next, list: true}, nil
}
