package gcp

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// A timeout is what the module says, a minute where it says nothing, and never a guess.
func TestTimeout(t *testing.T) {
	for s, want := range map[string]time.Duration{"": time.Minute, "30": 30 * time.Second, "1": time.Second, "3600": time.Hour} {
		if got, err := timeout(s); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "-1", "+30", "30s", "3601", "65566", "0x1e", " 30", "x"} {
		if got, err := timeout(s); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "FLEETPASS_TIMEOUT") {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	env := map[string]string{"FLEETPASS_TIMEOUT": "soon"}
	if err := Register("jwks", func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "FLEETPASS_TIMEOUT") {
		t.Errorf("a function starts with a timeout that is none: %v", err)
	}
}
