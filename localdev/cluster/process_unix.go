//go:build unix && !linux

package cluster

import "syscall"

// Only Linux can promise that a child dies with a parent that is killed; elsewhere Stop has to be reached.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
