package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// A constructor that is added to keys.go must come under FuzzKeys too.
func TestEveryConstructor(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"AuditSort": true}
	for _, c := range constructors {
		known[c.name] = true
	}
	n := 0
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
			continue
		}
		if result, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "Key" {
			n++
			if !known[fn.Name.Name] {
				t.Errorf("%s is not among the constructors of keys_test.go", fn.Name.Name)
			}
		}
	}
	if n != len(constructors)+1 {
		t.Errorf("keys.go has %d constructors, keys_test.go %d and AuditSort", n, len(constructors))
	}
}
