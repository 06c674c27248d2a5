// Package strict reads input from outside: JSON and forms. It owns the one decision of what is well-formed: every member
// and field once, in its exact spelling, known, UTF-8, bounded in size and depth, and nothing after it. Parsers that
// disagree about such input are how one component checks a value and another uses a different one, so here it is refused
// instead of interpreted. Errors name the field and the fix and never repeat a value, which may be a secret.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// MaxDepth is how deeply objects and lists may nest in each other.
const MaxDepth = 32

// Body is the name that errors give to the input as a whole.
const Body = "body"

var options = json.JoinOptions(
	json.RejectUnknownMembers(true),
	json.MatchCaseInsensitiveNames(false),
	jsontext.AllowDuplicateNames(false),
	jsontext.AllowInvalidUTF8(false),
)

// JSON decodes data, one JSON value of at most max bytes, into v, a pointer. It refuses duplicate and unknown members,
// names that differ in case, invalid UTF-8, nesting deeper than MaxDepth, trailing data and a bare null. Too much input
// is core.TooLarge; anything else is core.Invalid, a *core.FieldError whose Field is the JSON pointer (RFC 6901) of what
// is wrong, or Body.
func JSON(data []byte, max int, v any) error {
	if err := check(data, max); err != nil {
		return err
	}
	if string(bytes.TrimSpace(data)) == "null" {
		return core.BadField(Body, "must not be null")
	}
	if err := json.Unmarshal(data, v, options); err != nil {
		return explain(err)
	}
	return nil
}

// Object splits data, one JSON object of at most max bytes, into its members, which it does not interpret. It refuses what
// JSON refuses, at every depth, but for unknown names, of which it knows nothing.
func Object(data []byte, max int) (map[string]jsontext.Value, error) {
	if err := check(data, max); err != nil {
		return nil, err
	}
	if t := bytes.TrimLeft(data, " \t\r\n"); t[0] != '{' {
		return nil, core.BadField(Body, "must be a JSON object")
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(data, &members, options); err != nil {
		return nil, explain(err)
	}
	return members, nil
}

// check refuses what must not reach a decoder: too many bytes, none, and nesting beyond MaxDepth.
func check(data []byte, max int) error {
	if len(data) > max {
		return tooLarge(max)
	}
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return core.BadField(Body, "is empty; send JSON")
	}
	if !deep(data) {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := d.ReadToken(); err != nil {
			return explain(err)
		}
		if d.StackDepth() > MaxDepth {
			return core.BadField(pointer(d.StackPointer()), fmt.Sprintf("is nested deeper than %d levels", MaxDepth))
		}
	}
}

// deep says whether brackets outside strings nest beyond MaxDepth. On input that is no JSON it may say anything: the
// decoder has the last word.
func deep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func tooLarge(max int) error {
	return fmt.Errorf("%s is over %d bytes: %w", Body, max, core.TooLarge)
}

// MaxFields is how many fields a form may have.
const MaxFields = 64

// Form decodes an application/x-www-form-urlencoded body of at most max bytes. Every field may be given once, even an
// empty one (RFC 6749 §3.1 wants that of OAuth requests); if known names are given, any other is refused. Too much input is
// core.TooLarge; anything else is core.Invalid, a *core.FieldError with the name of the field.
func Form(body string, max int, known ...string) (map[string]string, error) {
	if len(body) > max {
		return nil, tooLarge(max)
	}
	if n := strings.Count(body, "&") + 1; n > MaxFields {
		return nil, core.BadField(Body, fmt.Sprintf("has over %d fields", MaxFields))
	}
	fields := make(map[string]string)
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := unescape(rawName)
		if err != nil || name == "" {
			return nil, core.BadField(Body, "has a field whose name is empty or not percent-encoded UTF-8")
		}
		value, err := unescape(rawValue)
		if err != nil {
			return nil, core.BadField(shown(name), "must be percent-encoded UTF-8 without NUL")
		}
		if _, twice := fields[name]; twice {
			return nil, core.BadField(shown(name), "appears twice; give it once")
		}
		if len(known) > 0 && !slices.Contains(known, name) {
			return nil, core.BadField(shown(name), unknown(name, known))
		}
		fields[name] = value
	}
	return fields, nil
}

var errText = errors.New("not text")

func unescape(s string) (string, error) {
	s, err := url.QueryUnescape(s)
	if err == nil && (!utf8.ValidString(s) || strings.Contains(s, "\x00")) {
		err = errText
	}
	return s, err
}
