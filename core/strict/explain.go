package strict

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// explain turns a decoder's error into one for the person who wrote the input: where, and what to write instead. The
// decoder's own words are dropped, for they may repeat the value.
func explain(err error) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return core.BadField(pointer(syntax.JSONPointer), syntaxFix(syntax))
	}
	if meaning, ok := errors.AsType[*json.SemanticError](err); ok {
		return core.BadField(pointer(meaning.JSONPointer), meaningFix(meaning))
	}
	return core.BadField(Body, "is not valid JSON")
}

func syntaxFix(err *jsontext.SyntacticError) string {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "appears twice; give it once"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "ends too early: the JSON is cut off"
	case strings.Contains(err.Err.Error(), "after top-level value"):
		return fmt.Sprintf("has more after its end, at byte %d; send one JSON value", err.ByteOffset)
	case strings.Contains(err.Err.Error(), "UTF-8"):
		return "must be UTF-8"
	}
	return fmt.Sprintf("is not valid JSON at byte %d", err.ByteOffset)
}

func meaningFix(err *json.SemanticError) string {
	if errors.Is(err.Err, json.ErrUnknownName) {
		return unknown(err.JSONPointer.LastToken(), names(err.GoType))
	}
	// A type of ours that checks itself says best what it wants.
	if field, ok := errors.AsType[*core.FieldError](err.Err); ok {
		return field.Fix
	}
	return "must be " + wanted(err.GoType)
}

// wanted is what a value of a Go type looks like in JSON.
func wanted(t reflect.Type) string {
	if t == nil {
		return "of another type"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "an RFC 3339 time, such as 2030-01-31T12:00:00Z"
	case t == reflect.TypeFor[time.Duration]():
		return `a duration, such as "10m"`
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "a string of the documented form"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of at most %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number, not negative, of at most %d bits", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a base64 string"
		}
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "of another type"
}

// unknown says that a name is not one of the known, and which of them was probably meant.
func unknown(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return "unknown field; write it " + k + ", upper and lower case matter"
		}
		if d := edits(name, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best == "" {
		return "unknown field; leave it out"
	}
	return "unknown field; did you mean " + best + "?"
}

// edits is the Levenshtein distance of two names, or something large for names too long to be a slip.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// names lists the JSON names of a struct's members.
func names(t reflect.Type) (list []string) {
	if t == nil {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-" || f.Anonymous && name == "":
		case name == "":
			list = append(list, f.Name)
		default:
			list = append(list, strings.Trim(name, "'"))
		}
	}
	return list
}

// pointer is where in the input, as errors show it.
func pointer(p jsontext.Pointer) string {
	if p == "" {
		return Body
	}
	return shown(string(p))
}

// shown is a name from outside, fit for a message: bounded and printable.
func shown(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
	if r := []rune(name); len(r) > 100 {
		name = string(r[:100]) + "…"
	}
	return name
}
