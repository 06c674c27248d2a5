package policy

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// The reference model says again what a decision is, as slowly and as plainly as can be. It shares nothing with the code
// under test: it reads roles.yaml line by line, keeps names as strings and looks at every rule for every question.
type reference struct {
	order   []string                  // the entities, as the file lists them
	letters map[int]map[string]string // role id -> entity -> letters such as "ve"
	action  map[string]string         // "view" -> "v"
}

func readReference(t testing.TB) *reference {
	t.Helper()
	data, err := os.ReadFile("roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ref := &reference{letters: map[int]map[string]string{},
		action: map[string]string{"view": "v", "edit": "e", "create": "c", "delete": "d"}}
	entity := regexp.MustCompile(`^  - \{name: ([^,]+),`)
	role := regexp.MustCompile(`^  - id: (\d+)$`)
	permission := regexp.MustCompile(`^      (\S+): ([vecd]+)$`)
	id := 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if m := entity.FindStringSubmatch(line); m != nil {
			ref.order = append(ref.order, m[1])
		}
		if m := role.FindStringSubmatch(line); m != nil {
			id, _ = strconv.Atoi(m[1])
			ref.letters[id] = map[string]string{}
		}
		if m := permission.FindStringSubmatch(line); m != nil {
			ref.letters[id][m[1]] = m[2]
		}
	}
	if len(ref.order) != 36 || len(ref.letters) != 18 {
		t.Fatalf("the reference read %d entities and %d roles, want 36 and 18", len(ref.order), len(ref.letters))
	}
	return ref
}

// permits says whether a role has a permission.
func (ref *reference) permits(role int, entity, action string) bool {
	return ref.action[action] != "" && strings.Contains(ref.letters[role][entity], ref.action[action])
}

// decide looks at every rule: the lowest id that allows, or 0.
func (ref *reference) decide(rules []core.Rule, subjects []core.Subject, path []core.ScopeID, entity, action string, now int64) core.RuleID {
	var best core.RuleID
	for _, r := range rules {
		given := slices.Contains(subjects, r.Subject)
		reaches := slices.Contains(path, r.Scope)
		expired := !r.ExpiresAt.IsZero() && r.ExpiresAt.Unix() <= now
		if given && reaches && !expired && ref.permits(int(r.Role), entity, action) && (best == 0 || r.ID < best) {
			best = r.ID
		}
	}
	return best
}
