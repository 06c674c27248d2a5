// Package redact makes what a stranger said fit to be shown to an administrator: without characters that act on whatever
// shows them, and not at all where it repeats a secret that the stranger was sent.
package redact

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxVisible is the longest text that Visible returns, in bytes.
const maxVisible = 1024

// Visible is a stranger's text on one line, at most 1024 bytes of it, without what a terminal or a page would act on:
// controls, and characters that turn the direction of writing or have no width. Each of them is a question mark.
func Visible(s string) string {
	return Cut(strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, s), maxVisible)
}

// Cut is at most max bytes of a text, which ends at the end of a character and says where something is missing.
func Cut(s string, max int) string {
	const more = "…"
	if len(s) <= max {
		return s
	}
	cut := max - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// Repeats says whether a text holds one of the secrets in some spelling: as it is, in another case, with the escapes of
// URLs, forms, HTML or JSON in either case and up to three times over, with other separators, in hexadecimal, or in base64, alone or
// as a part of something longer. It rather sees one too many: what is lost then is an explanation. Secrets that are empty
// are in no text.
func Repeats(text string, secrets ...string) bool {
	forms := spellings(text)
	for _, secret := range secrets {
		for _, plain := range spellings(secret) {
			for _, s := range append(encodings(plain.exact), plain.exact) {
				exact, bare := strings.ToLower(s), letters(s)
				for _, f := range forms {
					if exact != "" && strings.Contains(strings.ToLower(f.exact), exact) || len(bare) >= shortest && strings.Contains(f.bare, bare) {
						return true
					}
				}
			}
		}
	}
	return false
}

// shortest is how many letters and digits a secret must have to be looked for by them alone.
const shortest = 4

// spelling is a text, and its letters and digits alone.
type spelling struct{ exact, bare string }

// spellings are a text as it is and with its escapes resolved, again and again.
func spellings(s string) []spelling {
	var all []spelling
	for range 4 {
		all = append(all, spelling{s, letters(s)})
		next := unescape(s)
		if next == s {
			break
		}
		s = next
	}
	return all
}

// letters are the letters and digits of a text, in lower case.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// encodings are what base64 and hexadecimal make of a secret. Base64 has three forms, by how many bytes of something else
// stand before it; of each, only what no neighbour changes.
func encodings(s string) []string {
	all := []string{hex.EncodeToString([]byte(s))}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
		from, to := []int{0, 2, 3}[before], len(encoded)
		if (before+len(s))%3 != 0 {
			to--
		}
		if to-from >= shortest {
			all = append(all, encoded[from:to])
		}
	}
	return all
}

// unescape resolves the escapes of HTML, URLs and JSON, and leaves alone what is none.
func unescape(s string) string {
	s = html.UnescapeString(s)
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+2 < len(s):
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		case s[i] == '\\' && i+5 < len(s) && s[i+1] == 'u':
			if n, err := strconv.ParseUint(s[i+2:i+6], 16, 16); err == nil {
				b.WriteRune(rune(n))
				i += 5
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
