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
var randomness = []string{"core/store/table.go", "adapters/bolt/feed.go"}

// uses lists what a file uses that it may not.
func uses(name string, src any) ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
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
		case `"text/template"`:
			found = append(found, i.Path.Value+": pages are made by html/template, which encodes")
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
		`package x; import "math/rand/v2"`, `package x; import "text/template"`, `package x; var c = tls.Config{InsecureSkipVerify: true}`, `package x; var m = jwt.SigningMethodHS256`,
	} {
		if found, err := uses("x.go", src); err != nil || len(found) != 1 {
			t.Errorf("%s: %v %v", src, found, err)
		}
	}
}
