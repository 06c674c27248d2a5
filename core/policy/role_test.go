package policy

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/core"
)

var update = flag.Bool("update", false, "write roles_table.go from roles.yaml, and the reasons in testdata")

// source is roles.yaml as the generator reads it. reference_test.go reads the same file by other means.
type source struct {
	Entities []struct{ Name, Group, Label string }
	Roles    []struct {
		ID          core.RoleID
		Name        string
		Description string
		Permissions map[string]string
	}
}

// TestRoleTable holds roles_table.go to roles.yaml; with -update it writes it.
func TestRoleTable(t *testing.T) {
	data, err := os.ReadFile("roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var src source
	if err := yaml.UnmarshalStrict(data, &src); err != nil {
		t.Fatal(err)
	}
	if len(src.Entities) != 36 || len(src.Roles) != 18 || NumEntities != 36 {
		t.Fatalf("%d entities (%d constants) and %d roles, want 36 and 18", len(src.Entities), NumEntities, len(src.Roles))
	}
	for i, want := range src.Entities {
		e := Entity(i + 1)
		if e.String() != want.Name || e.Group() != want.Group || e.Label() != want.Label {
			t.Errorf("entity %d is %q, %q, %q; roles.yaml says %+v", e, e, e.Group(), e.Label(), want)
		}
	}
	want, err := generate(src)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("roles_table.go", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("roles_table.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("roles_table.go is not what roles.yaml says; run go generate in core/policy")
	}
}

func generate(src source) ([]byte, error) {
	constants := entityConstants()
	var b strings.Builder
	b.WriteString("// Code generated from roles.yaml by TestRoleTable -update. DO NOT EDIT.\n\npackage policy\n\nvar roles = [...]Role{\n")
	for _, r := range src.Roles {
		fmt.Fprintf(&b, "{ID: %d, Name: %q, Description: %q, Permissions: Permissions{\n", r.ID, r.Name, r.Description)
		for _, e := range src.Entities {
			letters, ok := r.Permissions[e.Name]
			if !ok {
				continue
			}
			delete(r.Permissions, e.Name)
			var set []string
			for _, l := range letters {
				word, ok := map[rune]string{'v': "View", 'e': "Edit", 'c': "Create", 'd': "Delete"}[l]
				if !ok {
					return nil, fmt.Errorf("%s, %s: no action %q", r.Name, e.Name, l)
				}
				set = append(set, word)
			}
			fmt.Fprintf(&b, "%s: %s,\n", constants[e.Name], strings.Join(set, " | "))
		}
		if len(r.Permissions) != 0 {
			return nil, fmt.Errorf("%s: unknown entities %v", r.Name, r.Permissions)
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	return format.Source([]byte(b.String()))
}

// entityConstants finds the name of each entity's constant in entity.go, so that the table reads well.
func entityConstants() map[string]string {
	src, err := os.ReadFile("entity.go")
	if err != nil {
		panic(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(src)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if _, value, found := strings.Cut(rest, `{"`); ok && found {
			spelt, _, _ := strings.Cut(value, `"`)
			m[spelt] = name
		}
	}
	return m
}

// TestFixedIDs keeps the ids that stored rules name roles by. A change here is a change of what people may do.
func TestFixedIDs(t *testing.T) {
	want := map[core.RoleID]string{
		1: "System administrator", 3: "Editor", 4: "Research manager", 5: "L1 researcher", 6: "ML engineer", 7: "Viewer",
		8: "L2 researcher", 9: "Environment administrator", 10: "Data source administrator",
		11: "Compute resource administrator", 12: "Template administrator", 13: "Department viewer",
		14: "Credentials administrator", 15: "Application administrator", 16: "Cloud support",
		17: "Department administrator", 18: "Cloud operator", 19: "Data volume administrator",
	}
	for _, r := range Roles() {
		if want[r.ID] != r.Name {
			t.Errorf("role %d is %q, always was %q", r.ID, r.Name, want[r.ID])
		}
		if r.Description == "" {
			t.Errorf("role %q has no description", r.Name)
		}
		if got, ok := RoleByName(strings.ToUpper(r.Name)); !ok || got.ID != r.ID {
			t.Errorf("RoleByName(%q) = %v, %v", strings.ToUpper(r.Name), got.ID, ok)
		}
		delete(want, r.ID)
	}
	if len(want) != 0 {
		t.Errorf("roles are gone: %v", want)
	}
	for _, id := range []core.RoleID{-1, 0, 2, 20, 1 << 40} {
		if _, ok := RoleByID(id); ok || *permissionsOf(id) != none {
			t.Errorf("role %d exists or permits something", id)
		}
	}
}

func TestSpelling(t *testing.T) {
	for _, e := range Entities() {
		if got, ok := ParseEntity(e.String()); !ok || got != e {
			t.Errorf("ParseEntity(%q) = %v, %v", e, got, ok)
		}
	}
	for _, a := range Actions() {
		if got, ok := ParseAction(a.String()); !ok || got != a {
			t.Errorf("ParseAction(%q) = %v, %v", a, got, ok)
		}
	}
	for _, s := range []string{"", "Project", "project ", "unknown", "access-rules", "*"} {
		if e, ok := ParseEntity(s); ok || e != 0 {
			t.Errorf("ParseEntity(%q) = %v, %v, want none", s, e, ok)
		}
	}
	for _, s := range []string{"", "View", "read", "*", "unknown", "view+edit"} {
		if a, ok := ParseAction(s); ok || a != 0 {
			t.Errorf("ParseAction(%q) = %v, %v, want none", s, a, ok)
		}
	}
}
