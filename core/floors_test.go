package core_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fleetpass/fleetpass/"

// floors is the house, from the ground up. A package imports only from floors below its own; the siblings of a floor are
// blind to each other, except where several prefixes share one entry of "together".
var floors = []struct {
	floor    int
	prefix   string
	together bool // packages under this prefix may import each other (Go refuses cycles)
}{
	{0, "core", false}, // exactly core
	{1, "events", false},
	{2, "core/", true},
	{3, "functions/", false},
	{3, "adapters/", false},
	{4, "functions", false}, // exactly functions: the table
	{5, "infra/aws", false},
	{5, "infra/gcp", true},     // with the main that the platform generates around it
	{5, "infra/stores", false}, // any store and key service by its address
	{5, "localdev/stack", false},
	{4, "localdev/idp", false},         // an identity provider to sign in at
	{5, "localdev/idp/foreign", false}, // starts other people's identity providers
	{4, "localdev/pki", false},         // certificates for the local parts
	{4, "localdev/runtimeapi", false},  // a local Lambda Runtime API
	{4, "localdev/parts", false},       // starts DynamoDB Local and the Firestore emulator
	{4, "localdev/standin/", false},    // the clouds' queues and key services, as far as we use them
	{5, "localdev/cluster", false},     // starts a real API server: knows nothing of Fleetpass
	{6, "localdev/e2e", false},
	{7, "localdev", false},
	{7, "cmd/fleetpass", true},
	{7, "cmd/fleetpass-store", false}, // `fleetpass store`: the one command that links every SDK
	{6, "infra", false},
	{0, "infra/dist", false}, // builds the archives: imports nothing of ours
}

func floorOf(pkg string) (floor int, prefix string, together bool) {
	floor = -1
	for _, f := range floors {
		exact := pkg == strings.TrimSuffix(f.prefix, "/")
		under := strings.HasPrefix(pkg, strings.TrimSuffix(f.prefix, "/")+"/")
		match := exact && !strings.HasSuffix(f.prefix, "/") || under && (strings.HasSuffix(f.prefix, "/") || f.prefix != "core" && f.prefix != "functions" && f.prefix != "infra" && f.prefix != "localdev")
		if match && len(f.prefix) > len(prefix) {
			floor, prefix, together = f.floor, f.prefix, f.together
		}
	}
	return floor, prefix, together
}

type importOf struct{ file, pkg, imported string }

func imports(t *testing.T, root string, tests bool) (all []importOf) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && rel != "." {
				return filepath.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") != tests {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			all = append(all, importOf{rel, filepath.ToSlash(filepath.Dir(rel)), p})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// checkImport says what is wrong with one import; "" if nothing.
func checkImport(i importOf) string {
	from, fromPrefix, together := floorOf(i.pkg)
	if from < 0 {
		return "package " + i.pkg + " is on no floor: add it to the house (core/floors_test.go) or move it"
	}
	if rest, ok := strings.CutPrefix(i.imported, module); ok {
		to, toPrefix, _ := floorOf(rest)
		switch {
		case to > from:
			return "imports up: floor " + strconv.Itoa(from) + " -> " + strconv.Itoa(to)
		case to == from && !(together && fromPrefix == toPrefix) && rest != i.pkg:
			return "imports a sibling: " + rest
		case strings.HasPrefix(rest, "adapters/") && from != 5:
			return "names an adapter, which only a composition root may"
		case strings.HasPrefix(rest, "core/store/storetest"), strings.HasPrefix(rest, "core/keys/keystest"), strings.HasPrefix(rest, "core/sync/queuetest"):
			return "imports a test suite outside a test"
		}
		return ""
	}
	if from <= 2 || strings.HasPrefix(i.pkg, "functions") {
		for _, sdk := range []string{"github.com/aws/", "cloud.google.com/", "github.com/GoogleCloudPlatform/", "go.etcd.io/", "k8s.io/client-go", "github.com/spf13/"} {
			if strings.HasPrefix(i.imported, sdk) {
				return "imports an SDK; only adapters do"
			}
		}
	}
	if from == 2 && i.imported == "net/http" && i.pkg != "core/web" && i.pkg != "core/api" && i.pkg != "core/outbound" && i.pkg != "core/web/page" {
		return "speaks HTTP; only core/web, core/api and core/outbound do"
	}
	if strings.HasPrefix(i.imported, "k8s.io/client-go") {
		return "imports client-go, which the deployed binaries do without"
	}
	if i.imported == "math/rand" {
		return "imports math/rand; identifiers and secrets come from crypto/rand, jitter from math/rand/v2"
	}
	return ""
}

// Imports go down only (docs/architecture.md, "the floors").
func TestFloors(t *testing.T) {
	n := 0
	for _, i := range imports(t, "..", false) {
		n++
		if bad := checkImport(i); bad != "" {
			t.Errorf("%s imports %s: %s", i.file, i.imported, bad)
		}
	}
	if n < 50 {
		t.Fatalf("saw only %d imports: the walk does not find the code", n)
	}
}

// The rule itself is tried on imports that it must refuse, beside ones that it must allow.
func TestFloorsRefuse(t *testing.T) {
	for _, tt := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"core/access", module + "core/policy", true},
		{"core/access", module + "events", true},
		{"core/access", module + "functions/admin", false},
		{"core/access", module + "adapters/bolt", false},
		{"core/access", "go.etcd.io/bbolt", false},
		{"core/policy", "net/http", false},
		{"core/web", "net/http", true},
		{"core/outbound", "net/http", true},
		{"core", module + "core/store", false},
		{"events", module + "core/store", false},
		{"adapters/bolt", module + "core/store", true},
		{"adapters/bolt", module + "adapters/localkeys", false},
		{"functions/admin", module + "functions/login", false},
		{"functions/admin", module + "adapters/bolt", false},
		{"functions", module + "functions/admin", true},
		{"functions", module + "adapters/bolt", false},
		{"infra/aws", module + "adapters/bolt", true},
		{"localdev/stack", module + "functions", true},
		{"localdev", module + "adapters/bolt", false},
		{"cmd/fleetpass", module + "core/api", true},
		{"utils", module + "core", false},
	} {
		bad := checkImport(importOf{"x.go", tt.pkg, tt.imported})
		if (bad == "") != tt.ok {
			t.Errorf("%s imports %s: %q, want ok=%v", tt.pkg, tt.imported, bad, tt.ok)
		}
	}
}
