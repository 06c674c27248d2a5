//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

func tryFile(t *testing.T, path string) error {
	t.Helper()
	var open closers
	_, err := openFile(t.Context(), path, time.Now, &open)
	open.close(&err)
	return err
}

// What is no regular file is refused at once: opening a pipe would wait for a writer.
func TestImportOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, os.DevNull} {
		ended := make(chan error, 1)
		go func() { ended <- tryFile(t, path) }()
		select {
		case err := <-ended:
			if !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: still waiting", path)
		}
	}
}

// A compressed file that unpacks to very much is not written to the disk: neither what is no export, nor what is one so far.
func TestImportOfABomb(t *testing.T) {
	for name, tt := range map[string]struct {
		head, line string
		want       error
	}{
		"no export": {"", strings.Repeat("\n", 1<<10), core.Invalid},
		"an export so far": {
			`{"fleetpass":"export","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":["acme"]}` + "\n",
			"", core.TooLarge,
		},
	} {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, tt.head)
		for i := range 1 << 12 {
			l := tt.line
			if l == "" {
				l = `{"partition":"user#acme","sort":"` + fmt.Sprintf("%04d", i) + `","body":"` + strings.Repeat("k", store.MaxBody) + "\"}\n"
			}
			io.WriteString(z, l)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "bomb.gz")
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := tryFile(t, path); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The second interrupt ends what does not listen to the first, but not an echo of the first.
func TestSecondInterrupt(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "FLEETPASS_TEST_WAITS=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(out, b); err != nil || string(b) != want {
			t.Fatalf("%q, %v", b, err)
		}
	}
	said("ready\n")
	interrupt := func() { _ = cmd.Process.Signal(os.Interrupt) }
	interrupt()
	interrupt()
	said("interrupted\n")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
				t.Errorf("it ended with %v", err)
			}
			return
		case <-tick.C:
			interrupt()
		}
	}
}
