package directory

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/fleetpass/fleetpass/core"
)

// The bounds of a password, in characters (Unicode code points) after normalization.
const (
	MinPassword = 8
	MaxPassword = 255

	maxPasswordBytes = 4096 // before normalization
)

//go:embed common.txt
var commonText string

// common holds passwords from the top of every list of breached ones, folded. Those shorter than MinPassword need no
// entry.
var common = sync.OnceValue(func() map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(commonText) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			set[line] = true
		}
	}
	return set
})

// normalize brings a password to the one form that is hashed, so that it can be typed on any keyboard: compatibility
// composition (NFKC), after the example of RFC 8265 §4.2 but stricter. Nothing is trimmed or cut off. It is false for what can be no
// password: malformed UTF-8, control characters (NUL among them), or too long.
func normalize(password string) ([]byte, bool) {
	if len(password) > maxPasswordBytes || !utf8.ValidString(password) {
		return nil, false
	}
	for _, r := range password {
		if unicode.IsControl(r) {
			return nil, false
		}
	}
	return norm.NFKC.Bytes([]byte(password)), true
}

// checkPassword applies the rules to a new password (NIST SP 800-63B §3.1.1.2: length and a block list, no composition
// rules) and returns its normalized form. The error never quotes it.
func checkPassword(field string, e core.Email, password string) ([]byte, error) {
	p, ok := normalize(password)
	if !ok {
		return nil, core.BadField(field, "has control characters, malformed UTF-8, or is over 4096 bytes")
	}
	switch n := utf8.RuneCount(p); {
	case n < MinPassword:
		return nil, core.BadField(field, "must be at least 8 characters")
	case n > MaxPassword:
		return nil, core.BadField(field, "must be at most 255 characters")
	}
	folded := cases.Fold().String(string(p))
	local, _, _ := strings.Cut(string(e), "@")
	if folded == string(e) || folded == local {
		return nil, core.BadField(field, "must not be the e-mail or its first part")
	}
	if common()[folded] || strings.Count(folded, folded[:1]) == len(folded) {
		return nil, core.BadField(field, "is among the passwords that are tried first; choose another")
	}
	return p, nil
}

// temporaryPassword makes a random password of 100 bits that can be read out over the telephone.
func temporaryPassword() string {
	s := core.NewSecret()
	return s[:5] + "-" + s[5:10] + "-" + s[10:15] + "-" + s[15:20]
}
