package token

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// encoder writes the members of a payload, each with a comma behind it. A token is made for every request, beside one
// signature of some 20 microseconds, so this does without reflection. Empty members are left out.
type encoder struct {
	b   []byte // the payload
	raw []byte // the token, of which Mint makes a string in the end
	err error
}

func (e *encoder) member(name string) {
	e.b = append(e.b, '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

func (e *encoder) quote(s string) {
	b, err := jsontext.AppendQuote(e.b, s)
	if e.b = append(b, ','); err != nil {
		e.err = err
	}
}

func (e *encoder) str(name, s string) {
	if s != "" {
		e.member(name)
		e.quote(s)
	}
}

func (e *encoder) id(s string) {
	if s == "" {
		s = core.NewID()
	}
	e.str("jti", s)
}

func (e *encoder) int(name string, n int64) {
	e.member(name)
	e.b = append(strconv.AppendInt(e.b, n, 10), ',')
}

func (e *encoder) time(name string, t time.Time) {
	if !t.IsZero() {
		e.int(name, t.Unix())
	}
}

func (e *encoder) bool(name string, v bool) {
	e.member(name)
	e.b = append(strconv.AppendBool(e.b, v), ',')
}

func (e *encoder) strs(name string, list []string) {
	if len(list) == 0 {
		return
	}
	e.member(name)
	e.b = append(e.b, '[')
	for _, s := range list {
		e.quote(s)
	}
	e.endList()
}

func (e *encoder) ints(name string, list []int64) {
	if len(list) == 0 {
		return
	}
	e.member(name)
	e.b = append(e.b, '[')
	for _, n := range list {
		e.b = append(strconv.AppendInt(e.b, n, 10), ',')
	}
	e.endList()
}

// endList puts the bracket in place of the last comma.
func (e *encoder) endList() {
	e.b[len(e.b)-1] = ']'
	e.b = append(e.b, ',')
}

// decoder reads members of a payload that Strict split. It keeps the first error.
type decoder struct {
	members map[string]jsontext.Value
	err     error
}

func (d *decoder) fail(reason string) {
	if d.err == nil {
		d.err = reject(reason)
	}
}

// str reads a string; an absent member is "".
func (d *decoder) str(name string) string {
	v, ok := d.members[name]
	if !ok {
		return ""
	}
	return d.unquote(name, v)
}

func (d *decoder) unquote(name string, v jsontext.Value) string {
	if v.Kind() != '"' {
		d.fail(name + " is no string")
		return ""
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		d.fail(name + " is no string")
	}
	return string(s)
}

// need reads a string that must be there and not be empty.
func (d *decoder) need(name string) string {
	s := d.str(name)
	if s == "" {
		d.fail("no " + name)
	}
	return s
}

// time reads whole seconds since 1970 (a NumericDate, RFC 7519 §2, without the fraction, which we never write); an absent
// member is the zero time.
func (d *decoder) time(name string) time.Time {
	v, ok := d.members[name]
	if !ok {
		return time.Time{}
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n <= 0 || n >= 1<<36 { // the year 4147: sums stay far from overflow
		d.fail(name + " is no time")
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func (d *decoder) needTime(name string) time.Time {
	t := d.time(name)
	if t.IsZero() {
		d.fail("no " + name)
	}
	return t
}

func (d *decoder) bool(name string) bool {
	v, ok := d.members[name]
	if ok && v.Kind() != 't' && v.Kind() != 'f' {
		d.fail(name + " is neither true nor false")
	}
	return ok && v.Kind() == 't'
}

// strs reads a list of strings; an absent member is an empty list.
func (d *decoder) strs(name string) (list []string) {
	v, ok := d.members[name]
	if !ok {
		return nil
	}
	if v.Kind() != '[' {
		d.fail(name + " is no list")
		return nil
	}
	var values []jsontext.Value
	if err := json.Unmarshal(v, &values); err != nil {
		d.fail(name + " is no list")
	}
	for _, v := range values {
		list = append(list, d.unquote(name, v))
	}
	return list
}
