package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
)

// storeProgram is what `fleetpass store` runs. It is a program of its own: with the SDKs of two clouds in it, this one, which
// kubectl starts for every token, would be near three times as large and start in twice the time (docs/decisions/0017).
const storeProgram = "fleetpass-store"

func (a *app) storeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "store", Short: "Move tenants between stores (for operators)", DisableFlagParsing: true,
		Long: "Moves tenants between stores, by the program " + storeProgram + ", which is looked for beside this one and then on PATH.",
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.began = true
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			path, err := findProgram(storeProgram)
			if err != nil {
				return err
			}
			return a.runProgram(c.Context(), path, args)
		},
	}
}

// findProgram looks beside this program, links followed, and then on PATH. It takes nothing from the working folder.
func findProgram(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		beside := filepath.Join(filepath.Dir(self), name)
		if runtime.GOOS == "windows" {
			beside += ".exe"
		}
		if path, err := exec.LookPath(beside); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil || !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s is not installed: put it beside this program or on PATH (`go install github.com/fleetpass/fleetpass/cmd/%s@latest`)", name, name)
	}
	return path, nil
}

// runProgram runs a program with our standard streams, and ends as it does. An interrupt goes to both from the terminal; we
// wait for the other's own ending, which says how to go on.
func (a *app) runProgram(ctx context.Context, path string, args []string) error {
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s does not start: %w", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done(): // one that was sent to us alone is passed on
		_ = cmd.Process.Signal(os.Interrupt)
		err = <-ended
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(max(exit.ExitCode(), 1))
	}
	return err
}
