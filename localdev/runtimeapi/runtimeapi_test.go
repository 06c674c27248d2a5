package runtimeapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

func TestInvoke(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "empty")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", binary, "./testdata/empty")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := runtimeapi.Start(binary, "empty")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 3 {
		out, err := f.Invoke(t.Context(), []byte(`{}`))
		if err != nil || !strings.Contains(string(out), "200") {
			t.Fatalf("%s %v", out, err)
		}
	}
}

func TestAProcessThatEndsIsNamed(t *testing.T) {
	program, err := exec.LookPath("false")
	if err != nil {
		t.Fatal(err)
	}
	f, err := runtimeapi.Start(program, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("%v", err)
	}
}
