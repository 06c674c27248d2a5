package infra_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/fleetpass/fleetpass/functions"
)

// shape is what a type of resource takes (testdata/schema.txt): its arguments, and its blocks with theirs.
type shape struct {
	args     map[string]bool // true: required
	computed map[string]bool
	blocks   map[string]*shape
	required bool // a block that must be there
}

var word = regexp.MustCompile(`[{}]|[^\s{}]+`)

// readSchema reads testdata/schema.txt: a line per type; "x" is an argument, "x!" a required one, "x=" one that the
// provider fills in, "x {...}" a block, "x! {...}" a required one.
func readSchema(t *testing.T) map[string]*shape {
	t.Helper()
	f, err := os.Open("testdata/schema.txt")
	must(t, err)
	defer f.Close()
	all := map[string]*shape{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		words := word.FindAllString(rest, -1)
		all[name] = parseShape(&words)
	}
	return all
}

func parseShape(words *[]string) *shape {
	s := &shape{args: map[string]bool{}, computed: map[string]bool{}, blocks: map[string]*shape{}}
	for len(*words) > 0 {
		w := (*words)[0]
		*words = (*words)[1:]
		switch {
		case w == "}":
			return s
		case len(*words) > 0 && (*words)[0] == "{":
			*words = (*words)[1:]
			name := strings.TrimSuffix(w, "!")
			s.blocks[name] = parseShape(words)
			s.blocks[name].required = name != w
		case strings.HasSuffix(w, "="):
			s.computed[strings.TrimSuffix(w, "=")] = true
		default:
			s.args[strings.TrimSuffix(w, "!")] = strings.HasSuffix(w, "!")
		}
	}
	return s
}

// ours are the arguments that Terraform itself gives every resource and block.
var ours = map[string]bool{"for_each": true, "count": true, "depends_on": true, "provider": true}

// checkShape says what a body has or lacks against its shape.
func checkShape(at string, s *shape, b *hclsyntax.Body) (bad []string) {
	for name := range b.Attributes {
		if _, known := s.args[name]; !known && !ours[name] {
			bad = append(bad, at+": no argument "+name+" is known")
		}
	}
	for name, required := range s.args {
		if required && b.Attributes[name] == nil {
			bad = append(bad, at+": the argument "+name+" is missing")
		}
	}
	seen := map[string]bool{}
	for _, nested := range b.Blocks {
		name, body := nested.Type, nested.Body
		if name == "dynamic" {
			name, body = nested.Labels[0], nested.Body.Blocks[0].Body
		}
		if name == "lifecycle" && !strings.Contains(at, " ") {
			continue
		}
		seen[name] = true
		if s.blocks[name] == nil {
			bad = append(bad, at+": no block "+name+" is known")
			continue
		}
		bad = append(bad, checkShape(at+" "+name, s.blocks[name], body)...)
	}
	for name, inner := range s.blocks {
		if inner.required && !seen[name] {
			bad = append(bad, at+": the block "+name+" is missing")
		}
	}
	return bad
}

// checkReferences says what is referred to and not there, and what is there and not referred to.
func (m *configuration) checkReferences(schema map[string]*shape) (bad []string) {
	used := map[string]bool{}
	for file, body := range m.files {
		for _, t := range traversals(body) {
			at := m.address(t)
			if at == "" {
				switch t.RootName() {
				case "aws", "google", "module", "self":
					bad = append(bad, fmt.Sprintf("%s refers to %s", file, t.RootName()))
				}
				continue
			}
			used[at] = true
			name, isVar := strings.CutPrefix(at, "var.")
			local, isLocal := strings.CutPrefix(at, "local.")
			switch {
			case isVar && m.variables[name] == nil, isLocal && m.locals[local] == nil, !isVar && !isLocal && m.resources[at] == nil:
				bad = append(bad, fmt.Sprintf("%s refers to %s, which is not declared", file, at))
			case !isVar && !isLocal:
				bad = append(bad, checkAttribute(file, at, attributeOf(t, strings.HasPrefix(at, "data.")), schema)...)
			}
		}
	}
	for name := range m.variables {
		if !used["var."+name] {
			bad = append(bad, "var."+name+" is declared and not used")
		}
	}
	for name := range m.locals {
		if !used["local."+name] {
			bad = append(bad, "local."+name+" is declared and not used")
		}
	}
	for at, b := range m.resources {
		typ := strings.Join(b.Labels[:1], "")
		if b.Type == "data" {
			typ = "data." + typ
		}
		if schema[typ] == nil {
			bad = append(bad, at+": the type is not in testdata/schema.txt")
			continue
		}
		bad = append(bad, checkShape(at, schema[typ], b.Body)...)
	}
	for name, b := range m.variables {
		for _, need := range []string{"description", "type"} {
			if b.Body.Attributes[need] == nil {
				bad = append(bad, "var."+name+" has no "+need)
			}
		}
	}
	for name, b := range m.outputs {
		if b.Body.Attributes["description"] == nil {
			bad = append(bad, "output."+name+" has no description")
		}
	}
	return bad
}

// attributeOf is the attribute that a traversal asks of a resource, behind its key; "" for the resource as a whole.
func attributeOf(t hcl.Traversal, data bool) string {
	i := 2
	if data {
		i = 3
	}
	for ; i < len(t); i++ {
		if a, ok := t[i].(hcl.TraverseAttr); ok {
			return a.Name
		}
	}
	return ""
}

func checkAttribute(file, at, name string, schema map[string]*shape) []string {
	typ := at[:strings.LastIndex(at, ".")]
	s := schema[typ]
	if s == nil || name == "" {
		return nil
	}
	if _, arg := s.args[name]; arg || s.computed[name] || s.blocks[name] != nil || name == "id" {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s has no attribute %s", file, at, name)}
}

// checkWildcards says which action, resource or principal of a policy is a wildcard without being listed with its reason, and which is
// listed and not there. A policy is any argument whose value is JSON with statements.
func (m *configuration) checkWildcards(listed map[string]string, stale bool) (bad []string) {
	found := map[string]bool{}
	wild := func(what, value string) {
		if strings.Contains(value, "*") || value == "allUsers" || value == "allAuthenticatedUsers" {
			if first := !found[what]; first && listed[what] == "" {
				bad = append(bad, fmt.Sprintf("%s: the wildcard %q is not listed in infra/wildcards.json with its reason", what, value))
			}
			found[what] = true
		}
	}
	for _, at := range slices.Sorted(maps.Keys(m.resources)) {
		all, err := m.instances(at)
		if err != nil {
			return append(bad, err.Error())
		}
		for _, i := range all {
			for _, s := range i.statements() {
				for _, action := range s.Action {
					if strings.Contains(action, "*") {
						bad = append(bad, fmt.Sprintf("%s %s: the action %q is a wildcard", at, s.Sid, action))
					}
				}
				if s.Effect != "Allow" || len(s.NotAction)+len(s.NotResource) > 0 {
					bad = append(bad, fmt.Sprintf("%s %s: only plain permissions are written here", at, s.Sid))
				}
				what := at + " " + s.Sid
				if strings.HasPrefix(at, "aws_kms_key.") {
					what = at // where * is the key itself
				}
				for _, r := range s.Resource {
					wild(what, r)
				}
				for _, kind := range slices.Sorted(maps.Keys(s.Principal)) {
					for _, p := range s.Principal[kind] {
						wild(at+" "+s.Sid+" principal", p)
					}
				}
			}
			for _, name := range []string{"source_arn", "member"} {
				if v := i.at(name); !v.IsNull() {
					wild(at, text(v))
				}
			}
			if role := i.at("role"); strings.HasPrefix(at, "google_") && !role.IsNull() && primitive[text(role)] {
				bad = append(bad, fmt.Sprintf("%s: the role %s is as good as a wildcard", at, text(role)))
			}
		}
	}
	for what, reason := range listed {
		if stale && !found[what] {
			bad = append(bad, what+" is listed in infra/wildcards.json, and there is no such wildcard")
		}
		if len(strings.Fields(reason)) < 5 {
			bad = append(bad, what+": the reason in infra/wildcards.json says nothing")
		}
	}
	return bad
}

var primitive = map[string]bool{"roles/owner": true, "roles/editor": true, "roles/viewer": true, "roles/datastore.owner": true, "roles/cloudkms.admin": true}

// some is a string or a list of strings, as a policy has them.
type some []string

func (s *some) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = some{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

type statement struct {
	Sid, Effect       string
	Action, NotAction some
	Resource          some
	NotResource       some
	Principal         map[string]some
	Condition         map[string]map[string]some
}

func (i instance) statements() (all []statement) {
	for _, name := range slices.Sorted(maps.Keys(i.body)) {
		v := i.body[name]
		if v.IsNull() || v.Type() != cty.String || !strings.Contains(v.AsString(), `"Statement"`) {
			continue
		}
		var doc struct{ Statement []statement }
		if err := json.Unmarshal([]byte(v.AsString()), &doc); err != nil {
			all = append(all, statement{Sid: "unreadable: " + err.Error(), Effect: "?"})
		}
		all = append(all, doc.Statement...)
	}
	return all
}

// wildcards reads infra/wildcards.json: by cloud, what has one and why.
func wildcards(t *testing.T, cloud string) map[string]string {
	t.Helper()
	var all map[string]map[string]string
	read(t, "wildcards.json", &all)
	return all[cloud]
}

// permission is what a function's code does, by infra/permissions.json.
type permission struct {
	Get    []string `json:"get"`
	Query  []string `json:"query"`
	Put    []string `json:"put"`
	Delete []string `json:"delete"`
	Check  []string `json:"check"`
	Wrap   []string `json:"wrap"`
	Unwrap []string `json:"unwrap"`
	Send   bool     `json:"send"`
}

func allPermissions(t *testing.T) (all map[string]permission) {
	t.Helper()
	read(t, "permissions.json", &all)
	return all
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	must(t, json.Unmarshal(data, into))
}

// elsewhere are the variables that no Terraform sets, with the reason.
var elsewhere = []struct{ name, reason string }{
	{`_HANDLER|AWS_REGION|AWS_LAMBDA_[A-Z_]+|AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN`, "Lambda sets it"},
	{`FUNCTION_TARGET|PORT|K_SERVICE|K_REVISION|GOOGLE_CLOUD_PROJECT`, "Cloud Functions sets it"},
	{`AWS_ENDPOINT_URL_[A-Z]+|[A-Z_]+_EMULATOR_HOST`, "only local parts are found by it"},
	{`FLEETPASS_BROWSER_BASE|FLEETPASS_ISSUER_CA_FILE`, "only a private host has another base or certificate authority"},
	{`GOGC|GOMEMLIMIT`, "functions.Tune sets it where nobody has"},
	{`OTEL_SDK_DISABLED|OTEL_RESOURCE_ATTRIBUTES|OTEL_EXPORTER_OTLP_(?:TIMEOUT|PROTOCOL)|OTEL_TRACES_SAMPLER(?:_ARG)?`, "an operator's own, where wanted"},
}

func isElsewhere(name string) bool {
	for _, e := range elsewhere {
		if regexp.MustCompile(`^(?:` + e.name + `)$`).MatchString(name) {
			return true
		}
	}
	return false
}

var variable = regexp.MustCompile(`^(?:FLEETPASS_|OTEL_|AWS_|_HANDLER$|FUNCTION_TARGET$|FIRESTORE_|CLOUD_TASKS_)[A-Z0-9_]*$`)

// variablesRead is the environment variables that a composition root reads: those that it and the packages of ours that it
// imports name in string literals.
func variablesRead(t *testing.T, root string) map[string]bool {
	t.Helper()
	const house = "github.com/fleetpass/fleetpass/"
	all, seen := map[string]bool{}, map[string]bool{}
	var visit func(dir string, imports bool)
	visit = func(dir string, imports bool) {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		must(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			must(t, err)
			ast.Inspect(parsed, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil && variable.MatchString(s) {
						all[s] = true
					}
				}
				return true
			})
			for _, i := range parsed.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if pkg, is := strings.CutPrefix(path, house); is && imports && !seen[pkg] {
					seen[pkg] = true
					visit(pkg, false)
				}
			}
		}
	}
	visit(root, true)
	if len(all) < 5 || !seen["functions"] {
		t.Fatalf("%s reads only %v", root, slices.Sorted(maps.Keys(all)))
	}
	return all
}

// onlyFor are the variables that only one trigger's functions need, and that no other is told.
var onlyFor = map[string]functions.Trigger{"FLEETPASS_WELCOME_SHA256": functions.Schedule}

// checkEnvironment compares what the functions are given with what their composition root reads.
func checkEnvironment(given map[string]cty.Value, reads map[string]bool) (bad []string) {
	problems := map[string][]string{}
	for _, function := range slices.Sorted(maps.Keys(given)) {
		its := maps.Clone(reads)
		f, _ := functions.Lookup(function)
		maps.DeleteFunc(its, func(name string, _ bool) bool { return onlyFor[name] != "" && onlyFor[name] != f.Trigger })
		for _, p := range compareEnvironment(given[function], its) {
			problems[p] = append(problems[p], function)
		}
	}
	for p, names := range problems {
		bad = append(bad, p+": "+strings.Join(names, ", "))
	}
	return bad
}

func compareEnvironment(given cty.Value, reads map[string]bool) (bad []string) {
	if given.IsNull() {
		return []string{"there are no environment variables"}
	}
	has := map[string]bool{}
	for it := given.ElementIterator(); it.Next(); {
		k, _ := it.Element()
		has[k.AsString()] = true
	}
	for name := range reads {
		if !has[name] && !isElsewhere(name) {
			bad = append(bad, fmt.Sprintf("the environment variable %s, which the code reads, is missing", name))
		}
	}
	for name := range has {
		if !reads[name] {
			bad = append(bad, fmt.Sprintf("the environment variable %s is read by nothing there", name))
		}
	}
	return bad
}

// difference says which strings are missing and which are too many.
func difference(what string, want, got []string) (bad []string) {
	for _, w := range want {
		if !slices.Contains(got, w) {
			bad = append(bad, what+": "+w+" is missing")
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			bad = append(bad, what+": "+g+" is too many")
		}
	}
	return bad
}
