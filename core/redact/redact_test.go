package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core/redact"
)

func TestVisible(t *testing.T) {
	for s, want := range map[string]string{
		"plain, Ünicode 😀": "plain, Ünicode 😀", "a\x1b[31m\r\nb\tc": "a?[31m??b?c", "\u202eevil\u2066\u200b\u200f": "?evil???", "\xff\u2028": "??",
	} {
		if got := redact.Visible(s); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
	if got := redact.Visible(strings.Repeat("ü", 1000)); len(got) > 1024 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestRepeats(t *testing.T) {
	const secret = "s3cr3t:/Canary+ %ü~x"
	percent := func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, "%%%02x", c)
		}
		return b.String()
	}
	for name, s := range map[string]string{
		"plain": secret, "another case": strings.ToUpper(secret), "form": url.QueryEscape(secret), "form, lower case": strings.ToLower(url.QueryEscape(secret)),
		"path": url.PathEscape(secret), "every byte": percent(secret), "every byte, twice": percent(percent(secret)), "JSON": `s3cr3t:\u002fCanary+ %\u00FC~x`,
		"HTML": "s3cr3t&#58;&#x2F;Canary+ %&uuml;~x", "base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64url": base64.RawURLEncoding.EncodeToString([]byte(secret)), "hexadecimal": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"basic, one byte before": base64.StdEncoding.EncodeToString([]byte("c" + secret + "!")), "two": base64.StdEncoding.EncodeToString([]byte("c:" + secret)),
		"basic of a form": base64.StdEncoding.EncodeToString([]byte("client:" + secret)), "other separators": "s3cr3t Canary-%ü x", "broken into lines": "s3cr3t:/\nCanary+ \n%ü~x",
	} {
		if !redact.Repeats("you sent "+s+" to us", "", "another", secret) {
			t.Errorf("%s: not seen in %q", name, s)
		}
		if redact.Repeats("you sent "+s+" to us", "", "another") {
			t.Errorf("%s: seen though it is none", name)
		}
	}
	for _, s := range []string{"", "The client's secret is wrong: s3cr3t is not it.", "100 % of them", `\u00`, "%", "%z"} {
		if redact.Repeats(s, secret, "") {
			t.Errorf("%q repeats nothing", s)
		}
	}
	if !redact.Repeats("a +/ b", "+/") || redact.Repeats("a b", "+/") {
		t.Error("a secret without letters is looked for as it is")
	}
}

// FuzzRepeats: whatever stands around it, a secret of a usual length is seen, and nothing makes the search panic.
func FuzzRepeats(f *testing.F) {
	f.Add("you sent ", " %zz\\u12")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "Zq8+canary/secret="
		if !redact.Repeats(before+secret+after, secret) {
			t.Errorf("%q", before+secret+after)
		}
		redact.Repeats(before, after)
		if got := redact.Visible(before + after); len(got) > 1024 || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
	})
}
