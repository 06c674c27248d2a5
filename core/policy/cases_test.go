package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fleetpass/fleetpass/core"
)

// The cases in testdata/*.txtar say, in words, a tree, who is in which groups, some rules, and questions with their answers
// and reasons:
//
//	-- tree --       KIND NAME [in KIND NAME], the upper ones first; "account" is always there
//	-- groups --     PERSON: GROUP, GROUP
//	-- rules --      ID SUBJECT is ROLE in SCOPE [until TIME]
//	-- questions --  SUBJECT: ACTION ENTITY in SCOPE [at TIME] => yes|no, REASON
//
// The time is noon of the first of June 2026 unless a question says another. -update writes the answers.
type cases struct {
	parent map[core.ScopeID]core.ScopeID
	groups map[string][]core.Subject
	rules  []core.Rule
}

func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := cases{parent: map[core.ScopeID]core.ScopeID{"account": ""}, groups: map[string][]core.Subject{}}
			asked := 0
			for i, f := range ar.Files {
				var out []string
				for line := range strings.Lines(string(f.Data)) {
					line = strings.TrimRight(line, "\n")
					if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
						out = append(out, line)
						continue
					}
					switch f.Name {
					case "tree":
						c.tree(t, line)
					case "groups":
						c.member(t, line)
					case "rules":
						c.rule(t, line)
					case "questions":
						question, want, _ := strings.Cut(line, " => ")
						got := c.ask(t, question)
						if asked++; got != want && !*update {
							t.Errorf("%s\n got %s\nwant %s", question, got, want)
						}
						line = question + " => " + got
					default:
						t.Fatalf("%s: no section is called %q", file, f.Name)
					}
					out = append(out, line)
				}
				ar.Files[i].Data = []byte(strings.Join(out, "\n") + "\n")
			}
			if asked == 0 {
				t.Error("asks nothing")
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func (c *cases) scope(t *testing.T, s string) core.ScopeID {
	t.Helper()
	if _, ok := c.parent[core.ScopeID(s)]; !ok && !strings.HasPrefix(s, "foreign ") {
		t.Fatalf("no scope %q in the tree", s)
	}
	return core.ScopeID(s)
}

func (c *cases) tree(t *testing.T, line string) {
	id, up, ok := strings.Cut(line, " in ")
	if !ok {
		up = "account"
	}
	c.parent[core.ScopeID(id)] = c.scope(t, up)
}

func subject(t *testing.T, s string) core.Subject {
	kind, id, ok := strings.Cut(s, " ")
	if !ok {
		t.Fatalf("%q is not KIND NAME", s)
	}
	return core.Subject{Kind: core.SubjectKind(kind), ID: id}
}

func (c *cases) member(t *testing.T, line string) {
	who, in, _ := strings.Cut(line, ": ")
	for g := range strings.SplitSeq(in, ", ") {
		c.groups[who] = append(c.groups[who], core.GroupSubject(core.GroupName(g)))
	}
}

func (c *cases) rule(t *testing.T, line string) {
	var r core.Rule
	head, rest, _ := strings.Cut(line, " is ")
	id, who, _ := strings.Cut(head, " ")
	role, where, _ := strings.Cut(rest, " in ")
	where, until, ends := strings.Cut(where, " until ")
	fmt.Sscan(id, &r.ID)
	r.Subject, r.Scope = subject(t, who), c.scope(t, where)
	if found, ok := RoleByName(role); ok {
		r.Role = found.ID
	} else if _, err := fmt.Sscanf(role, "role %d", &r.Role); err != nil {
		t.Fatalf("no role %q", role)
	}
	if ends {
		r.ExpiresAt = when(t, until)
	}
	c.rules = append(c.rules, r)
}

func when(t *testing.T, s string) time.Time {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (c *cases) ask(t *testing.T, question string) string {
	who, rest, _ := strings.Cut(question, ": ")
	what, where, _ := strings.Cut(rest, " in ")
	where, at, timed := strings.Cut(where, " at ")
	action, entity, _ := strings.Cut(what, " ")
	now := when(t, "2026-06-01T12:00:00Z")
	if timed {
		now = when(t, at)
	}
	var up []core.ScopeID
	for s := c.scope(t, where); s != ""; s = c.parent[s] {
		up = append([]core.ScopeID{s}, up...)
	}
	req := Request{Subjects: append([]core.Subject{subject(t, who)}, c.groups[who]...), Now: now.Unix()}
	copy(req.Path[:], up)
	req.Entity, _ = ParseEntity(entity)
	req.Action, _ = ParseAction(action)
	d := Decide(BuildGrants(c.rules), &req)
	answer := "no"
	if d.Allowed {
		answer = "yes"
	}
	return answer + ", " + d.Reason(func(s core.ScopeID) string { return string(s) })
}
