package infra_test

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dist builds both archives from the source in a folder.
func dist(t *testing.T, source string) (aws, gcp []byte) {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./infra/dist", "-out", out)
	cmd.Dir = source
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	aws, err := os.ReadFile(filepath.Join(out, "aws.zip"))
	must(t, err)
	gcp, err = os.ReadFile(filepath.Join(out, "gcp.zip"))
	must(t, err)
	return aws, gcp
}

// What is deployed can be built again from its source, anywhere, to the byte; and the source that Google builds needs nothing
// from elsewhere.
func TestDist(t *testing.T) {
	if testing.Short() {
		t.Skip("builds everything twice")
	}
	copied := t.TempDir()
	copySource(t, copied)
	aws, gcp := dist(t, copied)
	moved := filepath.Join(t.TempDir(), "another", "folder")
	must(t, os.MkdirAll(filepath.Dir(moved), 0o755))
	must(t, os.Rename(copied, moved)) // the same source, though others may be writing to ours
	aws2, gcp2 := dist(t, moved)
	if !bytes.Equal(aws, aws2) {
		t.Error("aws.zip differs between two builds of one source")
	}
	if !bytes.Equal(gcp, gcp2) {
		t.Error("gcp.zip differs between two builds of one source")
	}
	t.Run("aws", func(t *testing.T) {
		r, err := zip.NewReader(bytes.NewReader(aws), int64(len(aws)))
		must(t, err)
		if len(r.File) != 1 || r.File[0].Name != "bootstrap" || r.File[0].Mode() != 0o755 {
			t.Fatalf("%d entries, first %s %v", len(r.File), r.File[0].Name, r.File[0].Mode())
		}
		f, err := r.Open("bootstrap")
		must(t, err)
		head := make([]byte, 20)
		_, err = io.ReadFull(f, head)
		must(t, err)
		if string(head[:4]) != "\x7fELF" || head[18] != 0xb7 { // EM_AARCH64
			t.Errorf("bootstrap is no program for arm64: % x", head)
		}
	})
	t.Run("gcp", func(t *testing.T) { buildGoogle(t, gcp) })
}

// generated is the main that Google's buildpack writes beside the source for functions that register themselves.
const generated = `package main

import (
	"log"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	_ "github.com/fleetpass/fleetpass"
)

func main() {
	if err := funcframework.Start(os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}
`

// buildGoogle does what the buildpack does with the archive: it looks for the framework among the vendored packages and in the
// imports of the package at the top, writes its main, and builds. No module cache and no proxy is there for it.
func buildGoogle(t *testing.T, archive []byte) {
	dir := t.TempDir()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	must(t, err)
	must(t, os.CopyFS(dir, r))
	if _, err := os.Stat(filepath.Join(dir, "vendor/github.com/GoogleCloudPlatform/functions-framework-go/funcframework")); err != nil {
		t.Error(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	must(t, err)
	if len(names) != 1 {
		t.Fatalf("the package at the top has the files %v", names)
	}
	src, err := os.ReadFile(names[0])
	must(t, err)
	if !strings.Contains(string(src), `"github.com/GoogleCloudPlatform/functions-framework-go/functions"`) {
		t.Error("the buildpack would not know that functions register themselves")
	}
	must(t, os.MkdirAll(filepath.Join(dir, "functions.local/app"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "functions.local/app/main.go"), []byte(generated), 0o644))
	binary := filepath.Join(t.TempDir(), "app")
	// Without the folder's name in it what is compiled is found again in the build cache.
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=vendor", "-trimpath", "-o", binary, "./functions.local/app")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "GOMODCACHE="+t.TempDir(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// It is our program: asked for a function that there is not, it says so in our words.
	cmd = exec.CommandContext(t.Context(), binary)
	cmd.Env = []string{"FUNCTION_TARGET=nonsense", "PORT=0"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "fleetpass: FUNCTION_TARGET: ") {
		t.Errorf("%v: %s", err, out)
	}
}

// copySource copies this repository's Go source.
func copySource(t *testing.T, to string) {
	t.Helper()
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("..", path)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"dist", "bin", "node_modules", "localdev", "cmd", "docs"}, rel) || d.Name() == "node_modules") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() || strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(rel, ".tf") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	}))
}
