package functions

import "runtime/debug"

// Tune sets the garbage collector for a process that serves requests. A function lives on a few megabytes, and a collector
// that starts over each time as much again was allocated takes a sixth of what a token request costs; so it is let grow to
// five times that, which is still little. memory is what the platform grants the process in bytes, 0 if that is not known:
// near it, whatever a burst of password hashes leaves behind is collected as early as it takes. GOGC and GOMEMLIMIT, where
// they are set, have the last word.
func Tune(getenv func(string) string, memory int64) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if memory > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory / 4 * 3) // the rest is for what the collector does not see: the store's file, stacks, code
	}
}
