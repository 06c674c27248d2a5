package runtimeapi_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

// program builds one of testdata.
func program(t *testing.T, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", binary, "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// Busy functions get more instances, up to the limit, and idle ones are used again.
func TestPool(t *testing.T) {
	p := &runtimeapi.Pool{Program: runtimeapi.Program{Binary: program(t, "obedient"), Handler: "x", Timeout: 2 * time.Second}, Max: 3}
	t.Cleanup(p.Close)
	say := func(what string) (string, error) {
		out, err := p.Invoke(t.Context(), fmt.Appendf(nil, "%q", what))
		return string(out), err
	}
	for range 3 {
		if out, err := say("hello"); err != nil || out != `"hello"` {
			t.Fatalf("%s %v", out, err)
		}
	}
	if n := p.Instances(); n != 1 {
		t.Errorf("%d instances for events one after another", n)
	}
	var all sync.WaitGroup
	for range 9 {
		all.Go(func() {
			if _, err := say("sleep"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := p.Instances(); n < 2 || n > 3 {
		t.Errorf("%d instances for events side by side, with a limit of 3", n)
	}
	had := p.Instances()
	var reported *runtimeapi.Error
	if _, err := say("fail"); !errors.As(err, &reported) || !strings.Contains(reported.Message, "as asked") || p.Instances() != had {
		t.Errorf("a failure that the function reports: %v, %d instances", err, p.Instances())
	}
	for what, says := range map[string]string{"exit": "last words", "hang": "did not answer"} {
		had := p.Instances()
		if _, err := say(what); err == nil || errors.As(err, new(*runtimeapi.Error)) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
		if n := p.Instances(); n != had-1 {
			t.Errorf("%s: %d instances after %d", what, n, had)
		}
		if _, err := say("hello"); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
	}
	p.Close()
	if _, err := say("hello"); err == nil {
		t.Error("a closed pool answers")
	}
}
