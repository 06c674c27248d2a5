package cluster

import (
	"context"
	"flag"
	"os"
	"sync"
)

// TB is the part of testing.TB that Need uses; naming it keeps package testing out of the programs that import this.
type TB interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

var built struct {
	sync.Mutex
	done bool
	bin  Binaries
	err  error
}

// Need returns the programs for a test that wants a real cluster, building them if need be (which may take longer than
// go test's own 10 minutes on a slow machine: build them before). With -short, and where they cannot be built, the test
// is skipped, loudly; but where the environment variable CI is set the latter fails, since Go alone builds them.
func Need(t TB) *Binaries {
	t.Helper()
	if short := flag.Lookup("test.short"); short != nil && short.Value.String() == "true" {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: -short, and this needs a real kube-apiserver")
	}
	built.Lock()
	defer built.Unlock()
	if !built.done {
		built.bin, built.err = Build(t.Context(), os.Stderr)
		built.done = t.Context().Err() == nil
	}
	switch {
	case built.err == nil:
		bin := built.bin
		return &bin
	case os.Getenv("CI") != "":
		t.Fatalf("CI needs a real kube-apiserver: %v", built.err)
	default:
		t.Skipf("SKIPPED, NOTHING WAS TESTED: no real kube-apiserver: %v", built.err)
	}
	return nil
}
