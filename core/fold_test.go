package core

import (
	"math/rand/v2"
	"testing"
)

// The short way of fold for ASCII and the long way agree: an accent behind the name makes it go the long way, and is
// dropped there.
func TestFoldASCII(t *testing.T) {
	names := []string{"", "system:masters", "S y\tSTEM:x", "kube:\x00a", "\x7ffleetpass", "Ada@Example.com", "cluster-admins "}
	for range 20_000 {
		b := make([]byte, rand.IntN(12))
		for i := range b {
			b[i] = byte(rand.IntN(128))
		}
		names = append(names, string(b))
	}
	for _, name := range names {
		if short, long := fold(name), fold(name+"\u0301"); short != long {
			t.Errorf("%q folds to %q, and the long way to %q", name, short, long)
		}
	}
}
