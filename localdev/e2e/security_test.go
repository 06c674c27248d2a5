package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/security.md names as a proof is in the package that it names.
func TestSecurityNamesTests(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	must(t, err)
	tests := map[string]map[string]bool{} // by package
	in := func(pkg string) map[string]bool {
		if tests[pkg] != nil {
			return tests[pkg]
		}
		tests[pkg] = map[string]bool{}
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		must(t, err)
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
			must(t, err)
			for _, d := range parsed.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					tests[pkg][fn.Name.Name] = true
				}
			}
		}
		return tests[pkg]
	}
	word := regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)`|\\b((?:Test|Fuzz)[A-Za-z0-9]+)")
	named := 0
	for line := range strings.Lines(string(data)) {
		row := strings.Split(line, "|")
		if len(row) != 4 || !strings.Contains(row[2], "Test") && !strings.Contains(row[2], "Fuzz") {
			continue
		}
		pkg := ""
		for _, m := range word.FindAllStringSubmatch(row[2], -1) {
			if m[1] != "" {
				pkg = m[1]
				continue
			}
			if named++; !in(pkg)[m[2]] {
				t.Errorf("%s: there is no %s in %s", strings.TrimSpace(row[1]), m[2], pkg)
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named", named)
	}
}
