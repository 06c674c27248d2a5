package sso

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// nothing says whether a value says nothing: it is null, blank, or a list of such.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return trim(v) == ""
	case []any:
		return !slices.ContainsFunc(v, func(v any) bool { return !nothing(v) })
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// flat is the values of an attribute that may have several: of a list its members, of a map its values, in order of their
// keys, each of which may be a list. What a string holds is never taken apart.
func flat(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		var out []any
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if list, ok := v[k].([]any); ok {
				out = append(out, list...)
			} else {
				out = append(out, v[k])
			}
		}
		return out
	}
	return []any{v}
}

// texts is a string, or a list of strings, without blank ones and repetitions; false: it is something else.
func texts(v any) (out []string, ok bool) {
	if _, is := v.(map[string]any); is {
		return nil, false
	}
	for _, v := range flat(v) {
		s, is := v.(string)
		if !is {
			return nil, false
		}
		if s = trim(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
		if len(out) > 2 { // more than one is never right, so there is no use in all of them
			break
		}
	}
	return out, len(out) > 0
}

// trim takes the white space of XML (XML 1.0 §2.3) off both ends: documents are indented.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// form says what kind of value it is, in JSON's words.
func form(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "something else"
}

// fixOf is what is wrong with a name, without the field.
func fixOf(err error) string {
	if f, ok := errors.AsType[*core.FieldError](err); ok {
		return f.Fix
	}
	return err.Error()
}

// quote shows a foreign string, bounded, with nothing in it that does not print.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	s = strings.ToValidUTF8(s, "\ufffd")
	return "`" + strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '`' {
			return '\ufffd'
		}
		return r
	}, s) + "`"
}

// listed shows the first of a list.
func listed[T any](list []T) string {
	const most = 10
	var b strings.Builder
	for i, v := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}
