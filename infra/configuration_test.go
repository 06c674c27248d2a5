package infra_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// configuration is a Terraform module, read and evaluated without a provider: what a provider would fill in is a string that names
// it ("aws_sqs_queue.sync.arn"), so that a test sees what refers to what.
type configuration struct {
	dir       string
	variables map[string]*hclsyntax.Block
	locals    map[string]hclsyntax.Expression
	resources map[string]*hclsyntax.Block // by address: "aws_sqs_queue.sync", "data.aws_region.current"
	outputs   map[string]*hclsyntax.Block
	files     map[string]*hclsyntax.Body

	given  map[string]cty.Value
	names  map[string]bool // every attribute that is referred to anywhere: what a pretended resource has
	lists  map[string]bool // and those that an index follows: a block of a resource, as a list of one
	values map[string]cty.Value

	functions map[string]function.Function
}

// instance is one of a resource: its key ("" without for_each) and what its body says. A block is a tuple of objects.
type instance struct {
	address, key string
	body         map[string]cty.Value
}

func load(dir string) (*configuration, error) {
	m := &configuration{dir: dir, variables: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{}, resources: map[string]*hclsyntax.Block{},
		outputs: map[string]*hclsyntax.Block{}, files: map[string]*hclsyntax.Body{}, given: map[string]cty.Value{},
		names: map[string]bool{"id": true, "arn": true, "name": true}, lists: map[string]bool{}, values: map[string]cty.Value{}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s holds no Terraform", dir)
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, diags := hclsyntax.ParseConfig(src, filepath.Base(path), hcl.InitialPos)
		if diags.HasErrors() {
			return nil, diags
		}
		body := f.Body.(*hclsyntax.Body)
		m.files[filepath.Base(path)] = body
		if err := m.add(body); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	for _, body := range m.files {
		for _, t := range traversals(body) {
			for i, step := range t {
				if a, ok := step.(hcl.TraverseAttr); ok && i > 0 {
					m.names[a.Name] = true
					if i+2 < len(t) && i > 1 {
						if _, indexed := t[i+1].(hcl.TraverseIndex); indexed {
							m.lists[a.Name] = true
						}
					}
				}
			}
		}
	}
	m.lists["domain_name_configuration"] = m.names["domain_name_configuration"] // indexed in a local of its own
	return m, nil
}

func (m *configuration) add(body *hclsyntax.Body) error {
	for _, b := range body.Blocks {
		var at map[string]*hclsyntax.Block
		name := strings.Join(b.Labels, ".")
		switch b.Type {
		case "variable":
			at = m.variables
		case "output":
			at = m.outputs
		case "resource":
			at = m.resources
		case "data":
			at, name = m.resources, "data."+name
		case "locals":
			for _, a := range b.Body.Attributes {
				if m.locals[a.Name] != nil {
					return fmt.Errorf("local.%s is there twice", a.Name)
				}
				m.locals[a.Name] = a.Expr
			}
			continue
		case "terraform":
			continue
		default:
			return fmt.Errorf("a block %q, which the rules do not know", b.Type)
		}
		if at[name] != nil {
			return fmt.Errorf("%s %s is there twice", b.Type, name)
		}
		at[name] = b
	}
	return nil
}

// traversals is everything that a body refers to.
func traversals(body *hclsyntax.Body) (all []hcl.Traversal) {
	for _, a := range body.Attributes {
		all = append(all, deep(a.Expr)...)
	}
	for _, b := range body.Blocks {
		all = append(all, traversals(b.Body)...)
	}
	return all
}

// deep is every traversal in an expression, those of its own loops' variables included.
func deep(e hclsyntax.Expression) (all []hcl.Traversal) {
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		switch x := n.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			all = append(all, x.Traversal)
		case *hclsyntax.RelativeTraversalExpr:
			all = append(all, append(hcl.Traversal{hcl.TraverseRoot{Name: "relative"}, hcl.TraverseAttr{Name: "id"}}, x.Traversal...))
		}
		return nil
	})
	return all
}

// give sets variables, over their defaults.
func (m *configuration) give(vars map[string]cty.Value) *configuration {
	m.given, m.values = vars, map[string]cty.Value{}
	return m
}

// address is what a traversal refers to: "var.x", "local.x", "aws_sqs_queue.sync", "data.aws_region.current"; "" for what a
// loop or block brings along.
func (m *configuration) address(t hcl.Traversal) string {
	name := func(i int) string {
		if i < len(t) {
			if a, ok := t[i].(hcl.TraverseAttr); ok {
				return a.Name
			}
		}
		return "?"
	}
	switch root := t.RootName(); {
	case root == "var" || root == "local":
		return root + "." + name(1)
	case root == "data":
		return "data." + name(1) + "." + name(2)
	case strings.HasPrefix(root, "aws_"), strings.HasPrefix(root, "google_"):
		return root + "." + name(1)
	}
	return ""
}

// eval evaluates an expression where scope (each, count, iterators) is known besides.
func (m *configuration) eval(e hclsyntax.Expression, scope map[string]cty.Value) (cty.Value, error) {
	groups := map[string]map[string]cty.Value{"path": {"module": cty.StringVal(m.dir)}}
	for _, t := range e.Variables() {
		at := m.address(t)
		if at == "" {
			continue
		}
		v, err := m.value(at)
		if err != nil {
			return cty.NilVal, err
		}
		i := strings.LastIndex(at, ".")
		if groups[at[:i]] == nil {
			groups[at[:i]] = map[string]cty.Value{}
		}
		groups[at[:i]][at[i+1:]] = v
	}
	if m.functions == nil {
		m.functions = functionsOf(m)
	}
	ctx := &hcl.EvalContext{Functions: m.functions, Variables: map[string]cty.Value{}}
	data := map[string]cty.Value{}
	for group, values := range groups {
		if typ, ok := strings.CutPrefix(group, "data."); ok {
			data[typ] = cty.ObjectVal(values)
			continue
		}
		ctx.Variables[group] = cty.ObjectVal(values)
	}
	ctx.Variables["data"] = cty.ObjectVal(data)
	maps.Copy(ctx.Variables, scope)
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return v, nil
}

// value is what an address stands for.
func (m *configuration) value(at string) (v cty.Value, err error) {
	if v, ok := m.values[at]; ok {
		return v, nil
	}
	defer func() {
		if err == nil {
			m.values[at] = v
		}
	}()
	if name, ok := strings.CutPrefix(at, "var."); ok {
		b := m.variables[name]
		switch given, is := m.given[name]; {
		case b == nil:
			return cty.NilVal, fmt.Errorf("%s is not declared", at)
		case is:
			return given, nil
		case b.Body.Attributes["default"] == nil:
			return cty.StringVal(at), nil
		default:
			return m.eval(b.Body.Attributes["default"].Expr, nil)
		}
	}
	if name, ok := strings.CutPrefix(at, "local."); ok {
		e := m.locals[name]
		if e == nil {
			return cty.NilVal, fmt.Errorf("%s is not declared", at)
		}
		v, err := m.eval(e, nil)
		if err != nil {
			return v, fmt.Errorf("%s: %w", at, err)
		}
		return v, nil
	}
	b := m.resources[at]
	if b == nil {
		return cty.NilVal, fmt.Errorf("%s is not declared", at)
	}
	keys, each, err := m.keys(at, b)
	switch {
	case err != nil:
		return cty.NilVal, err
	case keys == nil:
		return m.pretend(at), nil
	case each == nil: // count
		var all []cty.Value
		for _, k := range keys {
			all = append(all, m.pretend(at+"["+k+"]"))
		}
		return cty.TupleVal(all), nil
	}
	all := map[string]cty.Value{}
	for _, k := range keys {
		all[k] = m.pretend(at + "[" + k + "]")
	}
	return cty.ObjectVal(all), nil
}

// pretend is a resource that was made: each attribute that anything asks for is a string that names it.
func (m *configuration) pretend(at string) cty.Value {
	attrs := map[string]cty.Value{}
	for name := range m.names {
		attrs[name] = cty.StringVal(at + "." + name)
	}
	for name, is := range m.lists {
		if is {
			inner := map[string]cty.Value{}
			for n := range m.names {
				inner[n] = cty.StringVal(at + "." + name + "." + n)
			}
			attrs[name] = cty.TupleVal([]cty.Value{cty.ObjectVal(inner)})
		}
	}
	return cty.ObjectVal(attrs)
}

// keys are a resource's instances: nil for a single one; each is nil where count makes them.
func (m *configuration) keys(at string, b *hclsyntax.Block) (keys []string, each map[string]cty.Value, err error) {
	if a := b.Body.Attributes["count"]; a != nil {
		v, err := m.eval(a.Expr, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: count: %w", at, err)
		}
		n, _ := v.AsBigFloat().Int64()
		keys = []string{}
		for i := range n {
			keys = append(keys, fmt.Sprint(i))
		}
		return keys, nil, nil
	}
	a := b.Body.Attributes["for_each"]
	if a == nil {
		return nil, nil, nil
	}
	v, err := m.eval(a.Expr, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: for_each: %w", at, err)
	}
	keys, each = []string{}, map[string]cty.Value{}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if v.Type().IsSetType() {
			k = e
		}
		keys = append(keys, k.AsString())
		each[k.AsString()] = e
	}
	slices.Sort(keys)
	return keys, each, nil
}

// instances evaluates all of a resource.
func (m *configuration) instances(at string) ([]instance, error) {
	b := m.resources[at]
	if b == nil {
		return nil, fmt.Errorf("%s is not there", at)
	}
	keys, each, err := m.keys(at, b)
	if err != nil {
		return nil, err
	}
	if keys == nil {
		keys = []string{""}
	}
	var all []instance
	for _, k := range keys {
		scope := map[string]cty.Value{}
		if each != nil {
			scope["each"] = cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(k), "value": each[k]})
		}
		body, err := m.body(b.Body, scope)
		if err != nil {
			return nil, fmt.Errorf("%s[%s]: %w", at, k, err)
		}
		all = append(all, instance{at, k, body})
	}
	return all, nil
}

func (m *configuration) body(b *hclsyntax.Body, scope map[string]cty.Value) (map[string]cty.Value, error) {
	out, blocks := map[string]cty.Value{}, map[string][]cty.Value{}
	for name, a := range b.Attributes {
		if name == "for_each" || name == "count" || name == "depends_on" {
			continue
		}
		v, err := m.eval(a.Expr, scope)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = v
	}
	add := func(name string, b *hclsyntax.Body, scope map[string]cty.Value) error {
		inner, err := m.body(b, scope)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		blocks[name] = append(blocks[name], cty.ObjectVal(inner))
		return nil
	}
	for _, nested := range b.Blocks {
		if nested.Type != "dynamic" {
			if err := add(nested.Type, nested.Body, scope); err != nil {
				return nil, err
			}
			continue
		}
		name := nested.Labels[0]
		over, err := m.eval(nested.Body.Attributes["for_each"].Expr, scope)
		if err != nil {
			return nil, fmt.Errorf("dynamic %s: %w", name, err)
		}
		for it := over.ElementIterator(); it.Next(); {
			k, e := it.Element()
			inner := maps.Clone(scope)
			inner[name] = cty.ObjectVal(map[string]cty.Value{"key": k, "value": e})
			if err := add(name, nested.Body.Blocks[0].Body, inner); err != nil {
				return nil, err
			}
		}
	}
	for name, all := range blocks {
		out[name] = cty.TupleVal(all)
	}
	return out, nil
}

// at walks into an instance's body: at("service_config", "0", "ingress_settings"). What is not there is null.
func (i instance) at(path ...string) cty.Value { return within(cty.ObjectVal(i.body), path...) }

func within(v cty.Value, path ...string) cty.Value {
	for _, p := range path {
		switch {
		case v.IsNull() || !v.IsKnown():
			return cty.NullVal(cty.DynamicPseudoType)
		case v.Type().IsObjectType() && v.Type().HasAttribute(p):
			v = v.GetAttr(p)
		case v.Type().IsMapType() && v.HasIndex(cty.StringVal(p)).True():
			v = v.Index(cty.StringVal(p))
		case v.CanIterateElements() && !v.Type().IsObjectType() && !v.Type().IsMapType():
			n := -1
			if _, err := fmt.Sscan(p, &n); err != nil || n >= v.LengthInt() {
				return cty.NullVal(cty.DynamicPseudoType)
			}
			v = v.AsValueSlice()[n]
		default:
			return cty.NullVal(cty.DynamicPseudoType)
		}
	}
	return v
}

// text is a string, or what is wrong with it.
func text(v cty.Value) string {
	switch {
	case v.IsNull():
		return "(null)"
	case v.Type() == cty.String:
		return v.AsString()
	case v.Type() == cty.Number:
		return v.AsBigFloat().Text('f', -1)
	case v.Type() == cty.Bool:
		return fmt.Sprint(v.True())
	}
	return v.GoString()
}

// texts is a list of strings, sorted; a single one is a list of one.
func texts(v cty.Value) (all []string) {
	if v.IsNull() {
		return nil
	}
	if !v.CanIterateElements() {
		return []string{text(v)}
	}
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		all = append(all, text(e))
	}
	slices.Sort(all)
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// blockPaths collects the paths of a body's blocks: " rule match config".
func blockPaths(b *hclsyntax.Body, path string, into map[string]bool) {
	for _, nested := range b.Blocks {
		name, body := nested.Type, nested.Body
		if name == "dynamic" {
			name, body = nested.Labels[0], nested.Body.Blocks[0].Body
		}
		into[path+" "+name] = true
		blockPaths(body, path+" "+name, into)
	}
}
