package parts

import "syscall"

// A group of its own, so that a Ctrl-C at the terminal reaches us alone and the parts end after those that use them.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
