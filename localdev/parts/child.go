package parts

import (
	"os/exec"
	"runtime"
)

// TB is the part of testing.TB that is used here; naming it keeps package testing out of the programs that import this.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start starts a child that ends with us at the latest (on Linux; elsewhere somebody has to end it). done is closed when it
// has ended.
func Start(cmd *exec.Cmd) (done <-chan struct{}, err error) {
	cmd.SysProcAttr = childAttributes()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// On Linux the child dies when the *thread* that started it does, so that thread is held until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is read from ProcessState
		close(ended)
	}()
	return ended, <-started
}
