package functions_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/functions"
)

// The hash of the first operator's token is taken in either case, and nothing else is: least of all the token itself, which
// no error quotes, nor the hash of nothing, which everybody has the token of.
func TestWelcomeHash(t *testing.T) {
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	read := func(v string) (string, error) {
		c, err := functions.FromEnvironment(func(name string) string {
			return map[string]string{"FLEETPASS_BASE": "https://fleet.test", "FLEETPASS_WELCOME_SHA256": v}[name]
		})
		return c.WelcomeHash, err
	}
	for _, good := range []string{"", sum("a token"), strings.ToUpper(sum("a token"))} {
		if got, err := read(good); err != nil || got != strings.ToLower(good) {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{sum(""), sum("\n"), "k3JxCANARYk3JxCANARY", sum("a token") + " ", sum("a token") + "  -", sum("a token")[1:], sum("x") + "00", strings.Repeat("g", 64)} {
		got, err := read(bad)
		if !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "FLEETPASS_WELCOME_SHA256") || got != "" {
			t.Errorf("%q: %q, %v", bad, got, err)
		} else if strings.Contains(err.Error(), bad) {
			t.Errorf("the error quotes the value: %v", err)
		}
	}
}
