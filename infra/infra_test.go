package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/fleetpass/fleetpass/functions"
)

var (
	clouds  = []string{"aws", "gcp"}
	modules = []string{"aws", "aws/waf", "gcp"}
)

// functions.json is functions.Table, as Terraform can read it: nobody types a function's name, trigger or paths a second time.
func TestFunctionsAreCurrent(t *testing.T) {
	type row struct {
		Trigger functions.Trigger `json:"trigger"`
		Paths   []string          `json:"paths"`
	}
	rows := map[string]row{}
	for _, f := range functions.Table {
		rows[f.Name] = row{f.Trigger, append([]string{}, f.Paths...)}
	}
	want, err := json.MarshalIndent(rows, "", "  ")
	must(t, err)
	want = append(want, '\n')
	if *update {
		must(t, os.WriteFile("functions.json", want, 0o644))
	}
	got, err := os.ReadFile("functions.json")
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("functions.json is not functions.Table; write it anew with -update (-want +got):\n%s", diff)
	}
}

// All Terraform is formatted. hclwrite's rules are Terraform's but for a few, so Terraform itself looks, too, where it is.
func TestFormatted(t *testing.T) {
	files := 0
	for _, pattern := range []string{"*/*.tf", "*/*/*.tf", "*/*/*.hcl"} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		for _, path := range paths {
			src, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(hclwrite.Format(src), src) {
				t.Errorf("%s is not formatted: terraform fmt -recursive infra", path)
			}
			files++
		}
	}
	if files < 10 {
		t.Fatalf("only %d files", files)
	}
	if tf := terraform(t); tf != nil {
		if out, err := tf(t.Context(), ".", "fmt", "-check", "-recursive", "-diff"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// command runs Terraform in a folder.
type command func(ctx context.Context, dir string, args ...string) (string, error)

// terraform is Terraform or OpenTofu, undisturbed by how this machine has set it up; nil where there is none.
func terraform(t *testing.T) command {
	t.Helper()
	path := ""
	for _, name := range []string{"terraform", "tofu"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		return nil
	}
	config := filepath.Join(t.TempDir(), "rc")
	must(t, os.WriteFile(config, nil, 0o600))
	return func(ctx context.Context, dir string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, path, append([]string{"-chdir=" + dir}, args...)...)
		cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+config, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_PLUGIN_CACHE_DIR=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// pluginFolders are where providers may lie on this machine: where the environment says, Terraform's own local mirrors, and
// where images like to put them. https://developer.hashicorp.com/terraform/cli/config/config-file#implied-local-mirror-directories
func pluginFolders() (all []string) {
	candidates := []string{os.Getenv("FLEETPASS_TEST_TERRAFORM_PLUGINS"), "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"}
	if home, err := os.UserHomeDir(); err == nil {
		candidates = append(candidates, filepath.Join(home, ".terraform.d", "plugins"), filepath.Join(home, ".local", "share", "terraform", "plugins"))
	}
	opt, _ := filepath.Glob("/opt/*/registry.terraform.io")
	for _, o := range opt {
		candidates = append(candidates, filepath.Dir(o))
	}
	for _, c := range candidates {
		if found, _ := filepath.Glob(filepath.Join(c, "registry.terraform.io", "*", "*")); c != "" && len(found) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// initialized copies infra to a folder of its own and initializes one module there: from the providers on this
// machine, else from the registry, if it answers within ten seconds. An error says that no provider can be had.
func initialized(t *testing.T, tf command, module string) (dir string, err error) {
	t.Helper()
	root := t.TempDir()
	copyInfra(t, filepath.Join(root, "infra"))
	must(t, os.MkdirAll(filepath.Join(root, "dist"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "dist", "aws.zip"), []byte("pretended"), 0o600))
	dir = filepath.Join(root, "infra", filepath.FromSlash(module))
	for _, folder := range pluginFolders() {
		if _, err := tf(t.Context(), dir, "init", "-no-color", "-input=false", "-backend=false", "-plugin-dir="+folder); err == nil {
			return dir, nil
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := tf(short, dir, "init", "-no-color", "-input=false", "-backend=false")
	if err != nil {
		return dir, fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
}

// copyInfra copies what Terraform reads.
func copyInfra(t *testing.T, to string) {
	t.Helper()
	for _, pattern := range []string{"*.json", "*/*.tf", "*/*/*.tf", "*/*/*.hcl"} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			must(t, err)
			must(t, os.MkdirAll(filepath.Join(to, filepath.Dir(path)), 0o755))
			must(t, os.WriteFile(filepath.Join(to, path), data, 0o644))
		}
	}
}

// Terraform itself finds the modules valid, and carries out their own tests (infra/aws/tests), where the providers can be
// had. Where they cannot, TestAWS and TestGoogle are what there is.
func TestTerraformValid(t *testing.T) {
	tf := terraform(t)
	if tf == nil {
		t.Skip("SKIPPED: there is no terraform or tofu on this machine")
	}
	for _, module := range modules {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			dir, err := initialized(t, tf, module)
			if err != nil {
				cannotBeHad(t, module, err)
			}
			if out, err := tf(t.Context(), dir, "validate", "-no-color"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if tests, _ := filepath.Glob(filepath.Join(dir, "tests", "*.hcl")); len(tests) == 0 {
				return
			}
			if out, err := tf(t.Context(), dir, "test", "-no-color"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// cannotBeHad skips a test for want of a provider, and fails it in CI where one lies here and cannot be used.
func cannotBeHad(t *testing.T, module string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" && module != "gcp" && len(pluginFolders()) > 0 {
		t.Fatalf("a provider lies here and cannot be used: %v", err)
	}
	t.Skipf("SKIPPED: the provider of %s cannot be had: %v", module, err)
}

// What testdata/schema.txt says of AWS is what the provider says, where it can be asked.
func TestSchemaIsTheProviders(t *testing.T) {
	tf := terraform(t)
	if tf == nil {
		t.Skip("SKIPPED: there is no terraform or tofu on this machine")
	}
	dir, err := initialized(t, tf, "aws")
	if err != nil {
		cannotBeHad(t, "aws", err)
	}
	out, err := tf(t.Context(), dir, "providers", "schema", "-json")
	must(t, err)
	var schemas struct {
		Providers map[string]struct {
			Resources map[string]struct{ Block *providerBlock } `json:"resource_schemas"`
			Data      map[string]struct{ Block *providerBlock } `json:"data_source_schemas"`
		} `json:"provider_schemas"`
	}
	must(t, json.Unmarshal([]byte(out), &schemas))
	blocks, kinds := map[string]map[string]bool{}, map[string]*providerBlock{} // by type: the blocks that are used; what it is
	for _, module := range []string{"aws", "aws/waf"} {
		m, err := load(module)
		must(t, err)
		for at, b := range m.resources {
			for _, p := range schemas.Providers {
				typ := b.Labels[0]
				s := p.Resources[typ].Block
				if b.Type == "data" {
					s, typ = p.Data[typ].Block, "data."+typ
				}
				if s == nil {
					t.Fatalf("%s: the provider knows no such type", at)
				}
				if kinds[typ] = s; blocks[typ] == nil {
					blocks[typ] = map[string]bool{}
				}
				blockPaths(b.Body, "", blocks[typ])
			}
		}
	}
	lines := map[string]string{}
	for typ, s := range kinds {
		var line strings.Builder
		line.WriteString(typ)
		s.write(&line, "", blocks[typ])
		lines[typ] = line.String()
	}
	data, err := os.ReadFile("testdata/schema.txt")
	must(t, err)
	var want []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "aws_") && !strings.HasPrefix(line, "data.aws_") {
			want = append(want, strings.TrimRight(line, "\n"))
		}
	}
	for _, typ := range slices.Sorted(maps.Keys(lines)) {
		want = append(want, lines[typ])
	}
	text := strings.Join(want, "\n") + "\n"
	if *update {
		must(t, os.WriteFile("testdata/schema.txt", []byte(text), 0o644))
		return
	}
	if diff := cmp.Diff(text, string(data)); diff != "" {
		t.Errorf("testdata/schema.txt is not the provider's; write it anew with -update (-want +got):\n%s", diff)
	}
}

// providerBlock is a block of a provider's schema, as Terraform prints it.
type providerBlock struct {
	Attributes map[string]struct{ Required, Optional, Computed bool } `json:"attributes"`
	Blocks     map[string]struct {
		Block *providerBlock `json:"block"`
		Min   int            `json:"min_items"`
	} `json:"block_types"`
}

// write spells a block as testdata/schema.txt does. Of its blocks only those that are used, or must be, are there.
func (b *providerBlock) write(out *strings.Builder, path string, used map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		switch a := b.Attributes[name]; {
		case a.Required:
			fmt.Fprintf(out, " %s!", name)
		case a.Optional:
			fmt.Fprintf(out, " %s", name)
		default:
			fmt.Fprintf(out, " %s=", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Blocks)) {
		n, at := b.Blocks[name], path+" "+name
		if n.Min == 0 && !used[at] {
			continue
		}
		mark := ""
		if n.Min > 0 {
			mark = "!"
		}
		fmt.Fprintf(out, " %s%s {", name, mark)
		n.Block.write(out, at, used)
		out.WriteString(" }")
	}
}

// An alarm says what to do only if somebody wrote it down: each has its paragraph in docs/operations.md, and no paragraph is
// about an alarm that is gone.
func TestAlarmsAreExplained(t *testing.T) {
	data, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	for _, b := range checkAlarms(t, string(data)) {
		t.Error(b)
	}
	for _, b := range checkAlarms(t, strings.Replace(string(data), "\n### `sync_late`", "\n### `sync_later`", 1)) {
		if strings.Contains(b, "sync_late") {
			return
		}
	}
	t.Error("an alarm without a paragraph is not noticed")
}

func checkAlarms(t *testing.T, doc string) (bad []string) {
	t.Helper()
	alarms := map[string]bool{}
	for _, cloud := range clouds {
		m, err := load(cloud)
		must(t, err)
		for at, b := range m.resources {
			name, is := strings.CutPrefix(at, "aws_cloudwatch_metric_alarm.")
			if !is {
				name, is = strings.CutPrefix(at, "google_monitoring_alert_policy.")
			}
			if !is && b.Range().Filename == "alarms.tf" { // what rings by itself, without a metric
				name, is = strings.CutPrefix(at, "aws_cloudwatch_event_rule.")
			}
			if !is {
				continue
			}
			alarms[name] = true
			src, err := os.ReadFile(filepath.Join(cloud, "alarms.tf"))
			must(t, err)
			if r := b.Range(); !strings.Contains(string(src[r.Start.Byte:]), "docs/operations.md, "+name) {
				bad = append(bad, at+" does not point at its paragraph")
			}
		}
	}
	var explained []string
	for _, h := range regexp.MustCompile("(?m)^### `([a-z_]+)`").FindAllStringSubmatch(doc, -1) {
		explained = append(explained, h[1])
	}
	return append(bad, difference("docs/operations.md", slices.Collect(maps.Keys(alarms)), explained)...)
}
