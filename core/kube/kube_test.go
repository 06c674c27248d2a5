package kube

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", name, d)
	}
}

const testCA = "-----BEGIN CERTIFICATE-----\nTm90IGEgcmVhbCBvbmUu\n-----END CERTIFICATE-----\n"

func TestGoldens(t *testing.T) {
	manifest, version, err := Bootstrap(DefaultPrefixes)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bootstrap.yaml", manifest)
	if again, v, _ := Bootstrap(DefaultPrefixes); v != version || string(again) != string(manifest) {
		t.Error("the manifest is not the same each time")
	}
	if _, other, _ := Bootstrap(Prefixes{"x:", "fleetpass:"}); other == version {
		t.Error("another prefix gives the same version")
	}
	authn, err := Authentication(
		Issuer{URL: "https://fleetpass.example.com/t/acme", CA: testCA, Audience: "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f", Prefixes: DefaultPrefixes},
		Issuer{URL: "https://fleetpass.example.com/t/globex", Audience: "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e60", Prefixes: Prefixes{User: "globex:", Group: "globex-g:"}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "authentication.yaml", authn)
	conf, err := Kubeconfig([]Access{
		{ID: "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f", Name: "berlin", Server: "https://berlin.example.com:6443", CA: testCA, Namespace: "fleetpass-vision"},
		{ID: "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e60", Name: "oslo", Server: "https://oslo.example.com"},
	}, KubeconfigOptions{TenantURL: "https://fleetpass.example.com/t/acme", IssuerCA: testCA, Current: "oslo"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kubeconfig.yaml", conf)
}

// The catalogue gives nobody what would let them become somebody else, or reach beyond the namespaces of projects (K8S-029).
func TestCatalogueIsHarmless(t *testing.T) {
	names := regexp.MustCompile(`^fleetpass-[a-z0-9]+(-[a-z0-9]+)*$`)
	clusterScoped := []string{"nodes", "storageclasses", "priorityclasses", "runtimeclasses"}
	list := ClusterRoles()
	if len(list) != 2*len(policy.Roles()) {
		t.Errorf("%d ClusterRoles for %d roles", len(list), len(policy.Roles()))
	}
	for _, r := range list {
		if !names.MatchString(r.Metadata.Name) || r.Metadata.Labels[LabelManagedBy] != ManagedBy {
			t.Errorf("%s: name or label", r.Metadata.Name)
		}
		wide := !strings.HasSuffix(r.Metadata.Name, "-ns")
		for _, rule := range r.Rules {
			all := slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups)
			for _, bad := range []string{"*", "impersonate", "escalate", "bind", "approve", "sign", "nodes/proxy", "services/proxy", "pods/proxy",
				"serviceaccounts/token", "certificatesigningrequests/approval", "pods/ephemeralcontainers", "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "serviceaccounts"} {
				if slices.Contains(all, bad) {
					t.Errorf("%s grants %q: %+v", r.Metadata.Name, bad, rule)
				}
			}
			for _, res := range rule.Resources {
				if wide && !slices.Contains(clusterScoped, res) {
					t.Errorf("%s, which is bound cluster-wide, grants %v on %s", r.Metadata.Name, rule.Verbs, res)
				}
				if !wide && slices.Contains(clusterScoped, res) {
					t.Errorf("%s grants %v on %s, which lies in no namespace", r.Metadata.Name, rule.Verbs, res)
				}
				if res == "namespaces" && !slices.Equal(rule.Verbs, []string{"get"}) {
					t.Errorf("%s grants %v on namespaces", r.Metadata.Name, rule.Verbs)
				}
				if res == "secrets" {
					for _, v := range rule.Verbs {
						if v != "create" && v != "update" && v != "delete" {
							t.Errorf("%s grants %s on secrets, which answers with what is in them", r.Metadata.Name, v)
						}
					}
				}
			}
			if wide {
				for _, v := range rule.Verbs {
					if v != "get" && v != "list" && v != "watch" {
						t.Errorf("%s grants %s cluster-wide", r.Metadata.Name, v)
					}
				}
			}
		}
	}
}

// grants says what a ClusterRole lets one do.
func grants(t *testing.T, role, group, resource, verb string) bool {
	t.Helper()
	for _, r := range ClusterRoles() {
		if r.Metadata.Name != role {
			continue
		}
		for _, rule := range r.Rules {
			if slices.Contains(rule.APIGroups, group) && slices.Contains(rule.Resources, resource) && slices.Contains(rule.Verbs, verb) {
				return true
			}
		}
		return false
	}
	t.Fatalf("no ClusterRole %s", role)
	return false
}

func TestRolesMeanWhatTheMatrixSays(t *testing.T) {
	for _, tt := range []struct {
		role, group, resource, verb string
		want                        bool
	}{
		{"fleetpass-l1-researcher-ns", "batch", "jobs", "create", true},
		{"fleetpass-l1-researcher-ns", "", "pods/exec", "create", true},
		{"fleetpass-l1-researcher-ns", "", "pods/log", "get", true},
		{"fleetpass-l1-researcher-ns", "serving.knative.dev", "services", "get", true},
		{"fleetpass-l1-researcher-ns", "serving.knative.dev", "services", "create", false},
		{"fleetpass-l1-researcher-ns", "", "secrets", "create", true},
		{"fleetpass-l2-researcher-ns", "", "secrets", "create", false},
		{"fleetpass-l2-researcher-ns", "", "configmaps", "list", true},
		{"fleetpass-l2-researcher-ns", "", "configmaps", "create", false},
		{"fleetpass-viewer-ns", "", "pods", "list", true},
		{"fleetpass-viewer-ns", "", "pods/log", "get", false},
		{"fleetpass-viewer-ns", "", "pods/exec", "create", false},
		{"fleetpass-viewer-ns", "", "secrets", "get", false},
		{"fleetpass-viewer", "", "nodes", "list", true},
		{"fleetpass-l1-researcher", "", "nodes", "list", false},
		{"fleetpass-l1-researcher", "storage.k8s.io", "storageclasses", "list", true},
		{"fleetpass-ml-engineer-ns", "ray.io", "rayservices", "create", true},
		{"fleetpass-ml-engineer-ns", "", "pods/log", "get", true},
		{"fleetpass-ml-engineer-ns", "", "pods", "create", false},
		{"fleetpass-ml-engineer-ns", "", "pods/exec", "create", false},
		{"fleetpass-research-manager-ns", "batch", "jobs", "create", false},
		{"fleetpass-research-manager-ns", "kubeflow.org", "pytorchjobs", "create", true},
		{"fleetpass-cloud-operator-ns", "", "pods", "list", false},
		{"fleetpass-cloud-operator", "", "nodes", "list", true},
		{"fleetpass-system-administrator-ns", "apps", "deployments", "deletecollection", true},
	} {
		if got := grants(t, tt.role, tt.group, tt.resource, tt.verb); got != tt.want {
			t.Errorf("%s: %s %s/%s: %v, want %v", tt.role, tt.verb, tt.group, tt.resource, got, tt.want)
		}
	}
	for _, r := range ClusterRoles() {
		id, ok := RoleOf(r.Metadata.Name)
		ns, _ := NamespaceRole(id)
		wide, _ := ClusterWideRole(id)
		if !ok || r.Metadata.Name != ns && r.Metadata.Name != wide {
			t.Errorf("RoleOf(%s) = %d, %v", r.Metadata.Name, id, ok)
		}
	}
	if _, ok := RoleOf("cluster-admin"); ok {
		t.Error("cluster-admin is one of ours")
	}
}

func TestAuthenticationRefuses(t *testing.T) {
	good := Issuer{URL: "https://f.example.com/t/acme", Audience: "c1", Prefixes: DefaultPrefixes}
	if _, err := Authentication(good); err != nil {
		t.Fatal(err)
	}
	plain, query, empty := good, good, good
	plain.URL, query.URL, empty.Audience = "http://f.example.com/t/acme", good.URL+"?x", ""
	with := func(user, group string) Issuer {
		return Issuer{URL: "https://f.example.com/t/globex", Audience: "c1", Prefixes: Prefixes{user, group}}
	}
	if _, err := Authentication(good, with("globex:", "globex:")); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]Issuer{
		"plain HTTP": {plain}, "query": {query}, "no audience": {empty}, "twice": {good, good}, "none": {},
		"another tenant with the same names": {good, with("fleetpass:", "globex:")}, "with the same groups": {good, with("globex:", "fleetpass:")},
		"with names below ours": {good, with("fleetpass:app:", "globex:")}, "with all names": {good, with("", "")}, "with names above ours": {good, with("globex:", "fleet")},
	} {
		if _, err := Authentication(list...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// No name can become structure of the file (WEB-027).
func TestKubeconfigEncodesNames(t *testing.T) {
	hostile := []string{"x\n  user: {exec: {command: evil}}", "&a [*a,*a]", "!!binary aGk=", "- x", "{}", "'\"", "null", "", " ", "\x00\u202e", "a: b", "# c", "berlin", "berlin"}
	var in []Access
	for i, name := range hostile {
		in = append(in, Access{ID: core.ClusterID(fmt.Sprintf("id-%d: x\n", i)), Name: name, Server: "https://a.example.com", Namespace: core.Namespace(name)})
	}
	out, err := Kubeconfig(in, KubeconfigOptions{TenantURL: "https://f.example.com/t/acme"})
	if err != nil {
		t.Fatal(err)
	}
	var conf kubeconfig
	if err := yaml.UnmarshalStrict(out, &conf); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(conf.Contexts) != len(in) || len(conf.Users) != len(in) || len(conf.Clusters) != len(in) {
		t.Fatalf("%d contexts, %d users, %d clusters, want %d of each", len(conf.Contexts), len(conf.Users), len(conf.Clusters), len(in))
	}
	seen := map[string]bool{}
	for i, c := range conf.Contexts {
		if seen[c.Name] || c.Name == "" || c.Context.Namespace != hostile[i] {
			t.Errorf("context %d: %+v", i, c)
		}
		seen[c.Name] = true
		if u := conf.Users[i]; u.User.Exec.Command != "fleetpass" || u.User.Exec.Args[4] != string(in[i].ID) || c.Context.User != u.Name {
			t.Errorf("user %d: %+v", i, u)
		}
	}
	for _, server := range []string{"http://a.example.com", "https://user:pw@a.example.com", "", "file:///etc/passwd"} {
		if _, err := Kubeconfig([]Access{{ID: "c", Name: "c", Server: server}}, KubeconfigOptions{TenantURL: "https://f.example.com/t/acme"}); err == nil {
			t.Errorf("server %q: accepted", server)
		}
	}
}

func TestProjectLabel(t *testing.T) {
	id := core.NewScopeID(core.NewClusterID())
	if got := ProjectLabel(id); got != string(id) {
		t.Errorf("ProjectLabel(%s) = %s", id, got)
	}
	for _, bad := range []core.ScopeID{"", "a b", core.ScopeID(strings.Repeat("x", 64)), "-x", "ä"} {
		got := ProjectLabel(bad)
		if !labelValue().MatchString(got) || got == ProjectLabel(bad+"x") {
			t.Errorf("ProjectLabel(%q) = %q", bad, got)
		}
	}
}

// Whatever a prefix holds, it stays inside its literal.
func FuzzCELString(f *testing.F) {
	for _, s := range []string{"fleetpass:", "'", `\`, "a'] || true || ['", "\n", "ü", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := celString(s)
		body := got[1 : len(got)-1]
		if got[0] != '\'' || got[len(got)-1] != '\'' || strings.ContainsAny(body, "'\n\r") || strings.Count(body, `\`) != strings.Count(body, `\U`) {
			t.Errorf("celString(%q) = %s", s, got)
		}
	})
}
