package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// field is something of a T that lists can be filtered and sorted by.
type field[T any] struct {
	name     string
	aliases  []string // other names that it is known by
	kind     fieldKind
	value    func(T) fact
	spelling func(string) string // of a text: how the list spells what a filter names; nil: as it is
	searched bool
}

// fieldKind is what a field's values look like in a filter.
type fieldKind string

const (
	kindText   fieldKind = "text"
	kindBool   fieldKind = "true or false"
	kindNumber fieldKind = "a number"
	kindTime   fieldKind = "a time such as 2026-05-04T09:00:00Z"
)

// fact is the value of a field: of its three members, the one that the field's kind uses.
type fact struct {
	text   string
	number int64 // a bool is 0 or 1
	at     time.Time
}

func textField[T any](name string, value func(T) string) field[T] {
	return field[T]{name: name, kind: kindText, value: func(v T) fact { return fact{text: value(v)} }}
}

func boolField[T any](name string, value func(T) bool) field[T] {
	return field[T]{name: name, kind: kindBool, value: func(v T) fact { return fact{number: bit(value(v))} }}
}

func numberField[T any](name string, value func(T) int64) field[T] {
	return field[T]{name: name, kind: kindNumber, value: func(v T) fact { return fact{number: value(v)} }}
}

// timeField is a time; the zero time means that it never was, and no filter but != finds it.
func timeField[T any](name string, value func(T) time.Time) field[T] {
	return field[T]{name: name, kind: kindTime, value: func(v T) fact { return fact{at: value(v)} }}
}

// search has the parameter search look into the field, too.
func (f field[T]) search() field[T] {
	f.searched = true
	return f
}

// also has filters and sortBy know the field by other names, too: those that answers give it, or gave it once.
func (f field[T]) also(names ...string) field[T] {
	f.aliases = names
	return f
}

// spelt has filters' values spelt as the list spells the field.
func (f field[T]) spelt(spelling func(string) string) field[T] {
	f.spelling = spelling
	return f
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// compare orders two values of a field: texts by their bytes, false before true, and what never was before every time.
func (k fieldKind) compare(a, b fact) int {
	switch k {
	case kindText:
		return cmp.Compare(a.text, b.text)
	case kindTime:
		return a.at.Compare(b.at)
	}
	return cmp.Compare(a.number, b.number)
}

// comparison is how a filter compares.
type comparison string

// The operators of the API. Those of the second line are for texts alone.
const (
	equal, unequal, atMost, atLeast         comparison = "==", "!=", "<=", ">="
	contains, lacksText, startsWith, endsIn comparison = "=@", "!@", "=^", "=$"
)

var (
	comparisons   = []comparison{equal, unequal, atMost, atLeast, contains, lacksText, startsWith, endsIn}
	ofOperators   = map[fieldKind][]comparison{kindText: comparisons, kindBool: comparisons[:2], kindNumber: comparisons[:4], kindTime: comparisons[:4]}
	operatorNames = "== != <= >= =@ !@ =^ =$"
)

// condition is one FIELD OP VALUE of filterBy.
type condition[T any] struct {
	field[T]
	op    comparison
	want  fact
	param string // that it was given by; empty: filterBy
}

func (c condition[T]) matches(v T) bool {
	is := c.value(v)
	if c.kind == kindTime && is.at.IsZero() {
		return c.op == unequal
	}
	switch c.op {
	case unequal:
		return c.kind.compare(is, c.want) != 0
	case atMost:
		return c.kind.compare(is, c.want) <= 0
	case atLeast:
		return c.kind.compare(is, c.want) >= 0
	case contains:
		return strings.Contains(is.text, c.want.text)
	case lacksText:
		return !strings.Contains(is.text, c.want.text)
	case startsWith:
		return strings.HasPrefix(is.text, c.want.text)
	case endsIn:
		return strings.HasSuffix(is.text, c.want.text)
	}
	return c.kind.compare(is, c.want) == 0
}

// The bounds of filters.
const (
	maxConditions = 20  // in one request
	maxFilterText = 300 // bytes of a value, or of what is searched for
)

const filterBy = "filterBy"

// readFilters reads the values of the parameter filterBy.
func readFilters[T any](values []string, fields []field[T]) ([]condition[T], error) {
	var all []condition[T]
	for _, value := range values {
		for _, s := range splitConditions(value) {
			if len(all) == maxConditions {
				return nil, core.BadField(filterBy, fmt.Sprintf("must be at most %d conditions", maxConditions))
			}
			c, err := readCondition(s, fields)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// splitConditions cuts a value at the commas that a field and an operator follow. Any other comma is part of a value, since
// names may hold one.
func splitConditions(s string) []string {
	var all []string
	for from, i := 0, 0; ; i++ {
		if i == len(s) {
			return append(all, s[from:])
		}
		if s[i] != ',' {
			continue
		}
		if name, rest := cutName(s[i+1:]); name != "" && operatorOf(rest) != "" {
			all = append(all, s[from:i])
			from = i + 1
		}
	}
}

// cutName cuts the ASCII letters and underscores off that a string begins with.
func cutName(s string) (name, rest string) {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] == '_') {
		i++
	}
	return s[:i], s[i:]
}

// operatorOf is the operator that a string begins with; empty: none.
func operatorOf(s string) comparison {
	if len(s) >= 2 && slices.Contains(comparisons, comparison(s[:2])) {
		return comparison(s[:2])
	}
	return ""
}

func readCondition[T any](s string, fields []field[T]) (condition[T], error) {
	name, rest := cutName(s)
	f, err := fieldOf(filterBy, name, fields)
	if err != nil {
		return condition[T]{}, err
	}
	op := operatorOf(rest)
	if op == "" {
		return condition[T]{}, core.BadField(filterBy, "must be FIELD OPERATOR VALUE without spaces between, the operator one of "+operatorNames)
	}
	if known := ofOperators[f.kind]; !slices.Contains(known, op) {
		return condition[T]{}, core.BadField(filterBy, fmt.Sprintf("cannot compare %s with %s; its operators are %v", f.name, op, known))
	}
	c := condition[T]{field: f, op: op}
	c.want, err = f.read(op, rest[2:])
	return c, err
}

// fieldOf is the field of that name, for a parameter.
func fieldOf[T any](param, name string, fields []field[T]) (field[T], error) {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		if f.name == name || slices.Contains(f.aliases, name) {
			return f, nil
		}
		names = append(names, f.name)
	}
	return field[T]{}, core.BadField(param, "must begin with a field of this list; these are: "+strings.Join(names, ", "))
}

// read reads a filter's value.
func (f field[T]) read(op comparison, s string) (fact, error) {
	wrong := core.BadField(filterBy, fmt.Sprintf("must compare %s with %s", f.name, f.kind))
	switch f.kind {
	case kindBool:
		if s != "true" && s != "false" {
			return fact{}, wrong
		}
		return fact{number: bit(s == "true")}, nil
	case kindNumber:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != s {
			return fact{}, wrong
		}
		return fact{number: n}, nil
	case kindTime:
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return fact{}, wrong
		}
		return fact{at: at.UTC()}, nil
	}
	if err := checkText(filterBy, s); err != nil {
		return fact{}, err
	}
	if s == "" && slices.Contains(comparisons[4:], op) {
		return fact{}, core.BadField(filterBy, fmt.Sprintf("has no text for %s to be compared with", f.name))
	}
	if f.spelling != nil {
		s = f.spelling(s)
	}
	return fact{text: s}, nil
}

func checkText(param, s string) error {
	if len(s) > maxFilterText || !utf8.ValidString(s) || !printable(s) {
		return core.BadField(param, fmt.Sprintf("must be at most %d bytes of text that prints", maxFilterText))
	}
	return nil
}
