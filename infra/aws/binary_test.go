package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The binary, built as `make dist` builds it, stays under 20 MB: what Lambda has to fetch and map before anything runs.
func TestBinaryIsSmall(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(binary)
	must(t, err)
	t.Logf("linux/arm64: %.2f MB", float64(info.Size())/1e6)
	if info.Size() >= 20e6 {
		t.Errorf("%d bytes, want less than 20 MB: see what came in with `go tool nm -size -sort size`", info.Size())
	}
}
