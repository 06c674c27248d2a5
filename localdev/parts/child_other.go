//go:build !linux

package parts

import "syscall"

// Only Linux can promise that a child dies with a parent that is killed.
func childAttributes() *syscall.SysProcAttr { return nil }
