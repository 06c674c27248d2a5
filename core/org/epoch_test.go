package org

import (
	"testing"
	"time"
)

// A later epoch orders after an earlier one, whatever is random in them: a writer that sees a later one stops.
func TestEpochsOrder(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 100 {
		if a, b := newEpoch(at), newEpoch(at.Add(time.Millisecond)); a >= b {
			t.Fatalf("%s does not come before %s", a, b)
		}
	}
	if one, other := newEpoch(at), newEpoch(at); one == other {
		t.Error("two epochs of one moment are the same")
	}
}
