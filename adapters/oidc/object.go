package oidc

import (
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core/redact"
	"github.com/fleetpass/fleetpass/core/strict"
)

// maxDocument bounds every JSON document of a provider, in bytes: core/outbound reads no more either.
const maxDocument = 1 << 20

// object is a JSON object, split strictly. Its members are read with their types; ok is false for a member that is there and
// of another type. null is like an absent member.
type object map[string]jsontext.Value

// read splits a document that is one JSON object: every member once, at any depth, in UTF-8, nested at most so deep.
func read(document []byte) (object, error) { return strict.Object(document, maxDocument) }

func (o object) has(name string) bool {
	v, ok := o[name]
	return ok && v.Kind() != 'n'
}

func (o object) str(name string) (s string, ok bool) {
	if !o.has(name) {
		return "", true
	}
	return unquote(o[name])
}

func unquote(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// strs reads a list of strings, or, where one alone may stand for a list (RFC 7519 §4.1.3), a string.
func (o object) strs(name string, single bool) (list []string, ok bool) {
	if !o.has(name) {
		return nil, true
	}
	if s, ok := unquote(o[name]); ok && single {
		return []string{s}, true
	}
	if o[name].Kind() != '[' {
		return nil, false
	}
	var values []jsontext.Value
	if json.Unmarshal(o[name], &values) != nil {
		return nil, false
	}
	for _, v := range values {
		s, ok := unquote(v)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// time reads a NumericDate (RFC 7519 §2), which may have a fraction; it is cut off. An absent one is the zero time.
func (o object) time(name string) (t time.Time, ok bool) {
	if !o.has(name) {
		return time.Time{}, true
	}
	if o[name].Kind() != '0' {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(string(o[name]), 64)
	if err != nil || f < 1 || f >= 1<<36 { // the year 4147: sums stay far from overflow
		return time.Time{}, false
	}
	return time.Unix(int64(math.Floor(f)), 0).UTC(), true
}

// optional is time for a member of which 0 means that there is none, as some providers write it.
func (o object) optional(name string) (t time.Time, ok bool) {
	if o.has(name) && o[name].Kind() == '0' {
		if f, err := strconv.ParseFloat(string(o[name]), 64); err == nil && f == 0 {
			return time.Time{}, true
		}
	}
	return o.time(name)
}

// find is the member of a name; where there is none, and the name has dots, it is what they lead to through objects within
// one another: providers put `roles` into `realm_access`, and administrators call that realm_access.roles. A member's own
// name may have dots, too, so every way to part them is tried.
func (o object) find(name string) (jsontext.Value, bool) {
	if o.has(name) {
		return o[name], true
	}
	for i := 1; i < len(name)-1; i++ {
		if name[i] != '.' || o[name[:i]].Kind() != '{' {
			continue
		}
		inner := object{}
		if json.Unmarshal(o[name[:i]], &inner) != nil {
			continue
		}
		if v, ok := inner.find(name[i+1:]); ok {
			return v, true
		}
	}
	return nil, false
}

// texts are all strings in a value, at whatever depth.
func texts(v jsontext.Value) (all []string) {
	switch v.Kind() {
	case '"':
		if s, ok := unquote(v); ok {
			all = append(all, s)
		}
	case '[':
		var list []jsontext.Value
		_ = json.Unmarshal(v, &list) // it was decoded once already
		for _, v := range list {
			all = append(all, texts(v)...)
		}
	case '{':
		var members object
		_ = json.Unmarshal(v, &members)
		for _, v := range members {
			all = append(all, texts(v)...)
		}
	}
	return all
}

// said says whether a member is that value: true or false, or the text of it, as some providers write it.
func (o object) said(name, value string) bool {
	if s, ok := unquote(o[name]); ok {
		return s == value
	}
	return string(o[name]) == value
}

// attributes decodes all members, as sso.Assertion has them. Nulls say nothing and are left out.
func (o object) attributes() map[string]any {
	all := make(map[string]any, len(o))
	for name, v := range o {
		var value any
		if err := json.Unmarshal(v, &value); err == nil {
			if value = withoutNulls(value); value != nil {
				all[name] = value
			}
		}
	}
	return all
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case []any:
		kept := v[:0]
		for _, e := range v {
			if e = withoutNulls(e); e != nil {
				kept = append(kept, e)
			}
		}
		return kept
	case map[string]any:
		for name, e := range v {
			if e = withoutNulls(e); e == nil {
				delete(v, name)
			} else {
				v[name] = e
			}
		}
	}
	return v
}

// hidden are members that are nobody's to read: the one-time value that ties an ID token to a sign-in, and what a provider
// might repeat of the tokens.
var hidden = []string{"nonce", "access_token", "refresh_token", "id_token", "code"}

// received is what a provider said, for people to read.
func received(parts map[string]object) string {
	shown := map[string]object{}
	for name, o := range parts {
		if o == nil {
			continue
		}
		copied := make(object, len(o))
		for member, v := range o {
			copied[member] = v
		}
		for _, member := range hidden {
			if _, ok := copied[member]; ok {
				copied[member] = jsontext.Value(`"(hidden)"`)
			}
		}
		shown[name] = copied
	}
	text, err := json.Marshal(shown, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil || len(shown) == 0 {
		return ""
	}
	return string(text)
}

func limited(s string, max int) string { return redact.Cut(s, max) }

// visible is a stranger's text as it can be shown.
func visible(s string) string { return redact.Visible(s) }
