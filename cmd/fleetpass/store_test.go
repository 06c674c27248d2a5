package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script writes a program that the shell runs.
func script(t *testing.T, folder, body string) string {
	t.Helper()
	path := filepath.Join(folder, storeProgram)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func runStore(t *testing.T, ctx context.Context, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	a := &app{in: os.Stdin, out: &out, err: &out}
	root := a.root()
	root.SetArgs(append([]string{"store"}, args...))
	err = root.ExecuteContext(ctx)
	return out.String(), err
}

// `fleetpass store` is another program: its arguments, flags and all, its output and its exit code.
func TestStoreProgram(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder)
	if _, err := runStore(t, t.Context(), "copy"); err == nil || !strings.Contains(err.Error(), "go install") {
		t.Errorf("not installed: %v", err)
	}
	t.Chdir(folder)
	script(t, folder, "exit 0")
	t.Setenv("PATH", ".")
	if out, err := runStore(t, t.Context(), "copy"); err == nil {
		t.Errorf("a program of the working folder ran: %q", out)
	}
	t.Setenv("PATH", folder)
	script(t, folder, `echo "$# $1 $2 $3"; exit 4`)
	out, err := runStore(t, t.Context(), "copy", "--to", "-o")
	var code exitCode
	if !errors.As(err, &code) || code != 4 || out != "3 copy --to -o\n" {
		t.Errorf("%q, %v", out, err)
	}
	script(t, folder, "exit 0")
	if _, err := runStore(t, t.Context(), "--help"); err != nil {
		t.Errorf("it ended well: %v", err)
	}
}

// An interrupt reaches the other program, and we wait for what it says in the end.
func TestStoreProgramIsInterrupted(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	ready := filepath.Join(folder, "ready")
	script(t, folder, `trap 'echo "run it again"; exit 1' INT; : > `+ready+`; while :; do sleep 0.05; done`)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for {
			if _, err := os.Stat(ready); err == nil {
				stop()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	out, err := runStore(t, ctx, "copy")
	var code exitCode
	if !errors.As(err, &code) || code != 1 || out != "run it again\n" {
		t.Errorf("%q, %v", out, err)
	}
}
