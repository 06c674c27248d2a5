package core_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// forbidden are names that no code of ours may use, with why. Tests may: they forge and probe.
var forbidden = map[string]string{
	"SigningMethodHS256": "there are no JWTs with shared secrets (JWT-021)", "SigningMethodHS384": "there are no JWTs with shared secrets", "SigningMethodHS512": "there are no JWTs with shared secrets",
	"SigningMethodNone": "every token is signed (JWT-001)", "UnsafeAllowNoneSignatureType": "every token is signed", "ParseUnverified": "nothing is read of a token before its signature holds",
	"InsecureSkipVerify": "every server proves who it is",
}

// randomness is who may use numbers that can be guessed: for pauses and for mischief in tests, never for a secret (OAU-063).
var randomness = []string{"core/store/table.go", "adapters/bolt/feed.go", "adapters/firestore/retry.go", "adapters/dynamodb/retry.go", "localdev/standin/streams/stream.go", "core/sync/retry.go", "adapters/otlp/send.go"}

// uses lists what a file uses that it may not.
func uses(name string, src any) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, i := range f.Imports {
		switch i.Path.Value {
		case `"math/rand"`, `"math/rand/v2"`:
			if !slices.Contains(randomness, name) && !strings.HasPrefix(name, "core/store/storetest/") {
				found = append(found, i.Path.Value+": secrets come from crypto/rand")
			}
		case `"html/template"`, `"text/template"`:
			found = append(found, i.Path.Value+": a template calls methods by name, so the linker keeps every method of every type, megabytes of them; pages are made by gomponents")
		case `"maragu.dev/gomponents"`:
			found = append(found, unescaped(name, f, i)...)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && forbidden[id.Name] != "" {
			found = append(found, id.Name+": "+forbidden[id.Name])
		}
		return true
	})
	return found, nil
}

// unescaped lists where a file that imports gomponents writes into a page what is not escaped. Only core/web/page may, and
// only what was fixed when the program was built: a constant, or an embedded file.
func unescaped(name string, f *ast.File, gomponents *ast.ImportSpec) (found []string) {
	local := "gomponents"
	if gomponents.Name != nil {
		local = gomponents.Name.Name
	}
	if local == "." {
		return []string{"gomponents is imported without a name: what is written raw must be seen"}
	}
	fixed := map[string]bool{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST && !(g.Tok == token.VAR && g.Doc != nil && strings.HasPrefix(g.Doc.List[len(g.Doc.List)-1].Text, "//go:embed ")) {
			continue
		}
		for _, s := range g.Specs {
			for _, id := range s.(*ast.ValueSpec).Names {
				fixed[id.Name] = true
			}
		}
	}
	allowed := map[*ast.SelectorExpr]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 1 && name == "core/web/page/page.go" {
			fn, _ := call.Fun.(*ast.SelectorExpr)
			arg, _ := call.Args[0].(*ast.Ident)
			if fn != nil && fn.Sel.Name == "Raw" && arg != nil && fixed[arg.Name] {
				allowed[fn] = true
			}
		}
		if sel, ok := n.(*ast.SelectorExpr); ok && !allowed[sel] {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && slices.Contains([]string{"Raw", "Rawf", "NodeFunc"}, sel.Sel.Name) {
				found = append(found, local+"."+sel.Sel.Name+": what stands in a page is escaped (WEB-017)")
			}
		}
		return true
	})
	return found
}

func TestNothingForbidden(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		found, err := uses(rel, src)
		for _, f := range found {
			t.Errorf("%s: %s", rel, f)
		}
		return err
	})
	if err != nil || files < 150 {
		t.Errorf("%d files: %v", files, err)
	}
	// The twin: it does find them.
	for _, src := range []string{
		`package x; import "math/rand/v2"`, `package x; import "text/template"`, `package x; import "html/template"`, `package x; var c = tls.Config{InsecureSkipVerify: true}`, `package x; var m = jwt.SigningMethodHS256`,
	} {
		if found, err := uses("x.go", src); err != nil || len(found) != 1 {
			t.Errorf("%s: %v %v", src, found, err)
		}
	}
	const page = `package x; import g "maragu.dev/gomponents"; `
	for _, tt := range []struct {
		name, src string
		found     int
	}{
		{"core/web/page/page.go", page + "const c = `x`; var n = g.Raw(c)", 0},
		{"core/web/page/page.go", page + "\n//go:embed x\nvar c string\nvar n = g.Raw(c)", 0},
		{"core/web/page/page.go", page + `var c string; var n = g.Raw(c)`, 1},
		{"core/web/page/page.go", page + `const c = "x"; func f(s string) any { return g.Raw(c + s) }`, 1},
		{"core/web/page/page.go", page + `var n, raw = g.Rawf("x"), g.Raw`, 2},
		{"core/web/page/page.go", page + `var n g.NodeFunc`, 1},
		{"functions/admin/pages.go", page + `const c = "x"; var n = g.Raw(c)`, 1},
		{"core/web/page/page.go", `package x; import . "maragu.dev/gomponents"`, 1},
		{"core/web/page/page.go", page + `var n = g.Text("x")`, 0},
	} {
		if found, err := uses(tt.name, tt.src); err != nil || len(found) != tt.found {
			t.Errorf("%s: %s: %v %v, want %d", tt.name, tt.src, found, err, tt.found)
		}
	}
}
