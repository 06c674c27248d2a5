package kube

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/policy"
)

// docs/kubernetes-roles.md shows the table of verbs.go as people read it. Run with -update after a change of the table.
func TestDocumentedTable(t *testing.T) {
	const path, begin, end = "../../docs/kubernetes-roles.md", "<!-- table: go test ./core/kube -run Documented -update -->\n", "<!-- end of table -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks of the table", path)
	}
	want := head + begin + documented() + end + tail
	if string(data) == want {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s does not say what verbs.go says; run with -update", path)
}

func documented() string {
	var b strings.Builder
	b.WriteString("| permission on | resources | view | edit | create | delete | where |\n|---|---|---|---|---|---|---|\n")
	for _, r := range table {
		var entities []string
		for _, e := range r.entities {
			entities = append(entities, "`"+e.String()+"`")
		}
		group := r.group
		if group == "" {
			group = "core"
		}
		where := "`-ns`"
		if r.clusters {
			where = "cluster"
		}
		fmt.Fprintf(&b, "| %s | %s: %s |", strings.Join(entities, " or "), group, strings.Join(r.resources, ", "))
		for _, a := range []policy.Action{policy.View, policy.Edit, policy.Create, policy.Delete} {
			fmt.Fprintf(&b, " %s |", strings.Join(r.verbs[a], " "))
		}
		fmt.Fprintf(&b, " %s |\n", where)
	}
	return b.String()
}
