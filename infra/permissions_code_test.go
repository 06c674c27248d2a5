package infra_test

import (
	"bytes"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The look at the code that keeps the stories honest: which kinds of key could a function come to at all? From each row of
// functions.Table it follows everything that code mentions: functions and methods, whether called or handed on, package
// variables, fields that hold functions, and of an interface's methods all that implement it. That is more than what can
// happen, never less, so a kind that no story touches is either a story that is missing, or listed in unreached.

const ourModule = "github.com/fleetpass/fleetpass/"

// house is the type-checked code of core and functions, as a graph of what mentions what.
type house struct {
	fset     *token.FileSet
	packages map[string]*types.Package
	mentions map[string][]string // by name of a function, variable or field
	setters  map[string][]string // by name of a field that holds a function: the code that puts one there
	read     map[string]bool     // the fields that hold a function and are looked at anywhere
	rows     map[string]string   // by function: the node of its row in the table
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// readHouse checks our packages in order of dependence; of all others it reads what the compiler exported.
func readHouse(t *testing.T) *house {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles", "./functions")
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{fset: token.NewFileSet(), packages: map[string]*types.Package{}, mentions: map[string][]string{}, setters: map[string][]string{}, read: map[string]bool{}, rows: map[string]string{}}
	exports := map[string]string{}
	foreign := importer.ForCompiler(h.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for d := jsontext.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := json.UnmarshalDecode(d, &p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, ourModule) {
			h.check(t, p, importing(func(path string) (*types.Package, error) {
				if ours := h.packages[path]; ours != nil {
					return ours, nil
				}
				return foreign.Import(path)
			}))
		}
	}
	h.implementations()
	for field, setters := range h.setters {
		for _, from := range setters {
			if !h.read[field] { // it is called from outside, by an adapter
				h.mentions[from] = append(h.mentions[from], field)
			}
		}
	}
	return h
}

type importing func(path string) (*types.Package, error)

func (f importing) Import(path string) (*types.Package, error) { return f(path) }

func (h *house) check(t *testing.T, p listed, imports types.Importer) {
	t.Helper()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(h.fset, filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: imports}).Check(p.ImportPath, h.fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	h.packages[p.ImportPath] = pkg
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Body != nil {
					h.follow(info, name(info.Defs[d.Name]), d.Body)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for i, id := range v.Names {
							for j, value := range v.Values {
								if i == j || len(v.Values) == 1 {
									h.follow(info, name(info.Defs[id]), value)
								}
							}
							if p.ImportPath == ourModule+"functions" && id.Name == "Table" {
								h.table(t, info, v.Values[0].(*ast.CompositeLit))
							}
						}
					}
				}
			}
		}
	}
}

// follow notes what a piece of code mentions. What is put into a field that holds a function is mentioned by the field: who
// calls the field may call that.
func (h *house) follow(info *types.Info, from string, code ast.Node) {
	set := func(field string, value ast.Expr) {
		h.setters[field] = append(h.setters[field], from)
		h.follow(info, field, value)
	}
	ast.Inspect(code, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if to := name(info.Uses[n]); to != "" {
				h.mentions[from] = append(h.mentions[from], to)
				h.read[to] = true
			}
		case *ast.KeyValueExpr:
			if id, ok := n.Key.(*ast.Ident); ok && isField(name(info.Uses[id])) {
				set(name(info.Uses[id]), n.Value)
				return false
			}
		case *ast.AssignStmt:
			sel, ok := n.Lhs[0].(*ast.SelectorExpr)
			if ok && len(n.Lhs) == 1 && isField(name(info.Uses[sel.Sel])) {
				set(name(info.Uses[sel.Sel]), n.Rhs[0])
				h.follow(info, from, sel.X)
				return false
			}
		}
		return true
	})
}

func isField(name string) bool { return strings.HasPrefix(name, "field ") }

// name is a node of the graph: a function or method of ours, a variable of a package, or a field that holds a function. "" for
// all else.
func name(o types.Object) string {
	switch o := o.(type) {
	case *types.Func:
		if o.Pkg() != nil && strings.HasPrefix(o.Pkg().Path(), ourModule) {
			return o.Origin().FullName()
		}
	case *types.Var:
		if o.Pkg() == nil || !strings.HasPrefix(o.Pkg().Path(), ourModule) {
			return ""
		}
		if _, ok := o.Type().Underlying().(*types.Signature); ok && o.IsField() {
			return "field " + o.Pkg().Path() + "." + o.Name()
		}
		if !o.IsField() && o.Parent() == o.Pkg().Scope() {
			return "var " + o.Pkg().Path() + "." + o.Name()
		}
	}
	return ""
}

// table notes each row by itself: what the whole table mentions, no function does.
func (h *house) table(t *testing.T, info *types.Info, table *ast.CompositeLit) {
	t.Helper()
	delete(h.mentions, "var "+ourModule+"functions.Table")
	for _, row := range table.Elts {
		node := ""
		for _, e := range row.(*ast.CompositeLit).Elts {
			kv := e.(*ast.KeyValueExpr)
			if key := kv.Key.(*ast.Ident).Name; key == "Name" {
				f, err := strconv.Unquote(kv.Value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				node = "row " + f
				h.rows[f] = node
			} else if node != "" {
				h.follow(info, node, kv.Value)
			}
		}
	}
}

// implementations finds what stands behind the methods of our interfaces.
func (h *house) implementations() {
	var concrete []types.Type
	var ports []*types.Named
	for _, p := range h.packages {
		for _, n := range p.Scope().Names() {
			tn, ok := p.Scope().Lookup(n).(*types.TypeName)
			if !ok || tn.IsAlias() {
				continue
			}
			named, ok := tn.Type().(*types.Named)
			switch {
			case !ok || named.TypeParams().Len() > 0:
			case types.IsInterface(named):
				ports = append(ports, named)
			default:
				concrete = append(concrete, types.NewPointer(named))
			}
		}
	}
	for _, port := range ports {
		face := port.Underlying().(*types.Interface)
		for _, c := range concrete {
			if face.NumMethods() == 0 || !types.Implements(c, face) {
				continue
			}
			for m := range face.Methods() {
				if o, _, _ := types.LookupFieldOrMethod(c, true, m.Pkg(), m.Name()); o != nil && name(o) != "" {
					h.mentions[name(m)] = append(h.mentions[name(m)], name(o))
				}
			}
		}
	}
}

// reached is every node that code can come to from one.
func (h *house) reached(from string) map[string]bool {
	seen, next := map[string]bool{from: true}, []string{from}
	for len(next) > 0 {
		n := next[len(next)-1]
		next = next[:len(next)-1]
		for _, to := range h.mentions[n] {
			if !seen[to] {
				seen[to] = true
				next = append(next, to)
			}
		}
	}
	return seen
}

// constructors is what each function of core/store/keys.go makes: "item KIND" for a key, "query KIND" for a range.
func constructors(t *testing.T) map[string][]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "core", "store", "keys.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	bodies, out := map[string]*ast.FuncDecl{}, map[string][]string{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			bodies[fn.Name.Name] = fn
		}
	}
	// literals are the strings at the beginning of an expression, or, of a name or call, in what it stands for.
	var literals func(in *ast.FuncDecl, e ast.Expr) []string
	literals = func(in *ast.FuncDecl, e ast.Expr) (found []string) {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			kind, _, _ := strings.Cut(s, "%")
			return []string{kind}
		case *ast.BinaryExpr:
			return literals(in, e.X)
		case *ast.Ident: // the variable of a loop over a list
			ast.Inspect(in, func(n ast.Node) bool {
				if r, ok := n.(*ast.RangeStmt); ok {
					if v, ok := r.Value.(*ast.Ident); ok && v.Name == e.Name {
						for _, x := range r.X.(*ast.CompositeLit).Elts {
							found = append(found, literals(in, x)...)
						}
					}
				}
				return true
			})
		case *ast.CallExpr:
			if fn, ok := e.Fun.(*ast.Ident); ok && bodies[fn.Name] != nil {
				ast.Inspect(bodies[fn.Name], func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok {
						found = append(found, literals(bodies[fn.Name], r.Results[0])...)
					}
					return true
				})
			} else {
				return literals(in, e.Args[0]) // fmt.Sprintf
			}
		}
		return found
	}
	for _, fn := range bodies {
		if fn.Body == nil {
			continue
		}
		var kinds []string
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "key" || id.Name == "all" || id.Name == "under") && !slices.Contains([]string{"key", "all", "under"}, fn.Name.Name) {
					kinds = append(kinds, literals(fn, n.Args[1])...)
				}
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "Key" && len(n.Elts) == 3 {
					kinds = append(kinds, literals(fn, n.Elts[1])...)
				}
			}
			return true
		})
		name := ourModule + "core/store." + fn.Name.Name
		if fn.Recv != nil {
			name = "(" + ourModule + "core/store.Key)." + fn.Name.Name
		}
		if len(kinds) == 0 || fn.Type.Results == nil {
			continue
		}
		for _, kind := range kinds {
			switch types.ExprString(fn.Type.Results.List[0].Type) {
			case "Key":
				out[name] = append(out[name], "item "+kind)
			case "Range", "[]Range":
				out[name] = append(out[name], "query "+kind)
			}
		}
	}
	return out
}

// constructible is what each function's code can come to: "item KIND" and "query KIND".
func constructible(t *testing.T) map[string][]string {
	t.Helper()
	h, makers, out := readHouse(t), constructors(t), map[string][]string{}
	if len(makers) < 45 || len(h.packages) < 25 || len(h.rows) < 9 {
		t.Fatalf("saw %d constructors of keys in %d packages, and %d functions: the look at the code is blind", len(makers), len(h.packages), len(h.rows))
	}
	for function, row := range h.rows {
		kinds := map[string]bool{}
		for n := range h.reached(row) {
			for _, k := range makers[n] {
				kinds[k] = true
			}
		}
		out[function] = slices.Sorted(maps.Keys(kinds))
	}
	return out
}
