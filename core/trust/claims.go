package trust

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core/token"
)

// Claims are what a token says. They count only once its signature was verified.
type Claims struct {
	Issuer   string
	Subject  string
	Audience string // the only one
	ID       string // `jti`; may be empty
	IssuedAt time.Time
	Expires  time.Time

	notBefore time.Time
	members   map[string]jsontext.Value
}

// unverified is a token that was split, and not yet verified.
type unverified struct {
	Claims
	alg, kid  string
	signed    string
	signature []byte
}

// Peek is who a token says that made it and whom it is about, before anything is verified: it may decide what is read from the
// store, and nothing else.
func Peek(raw string) (issuer, subject string, err error) {
	if len(raw) > maxToken {
		return "", "", refuse("too long")
	}
	_, payload, err := token.Strict(raw)
	if err != nil {
		return "", "", err
	}
	issuer, _ = text(payload["iss"])
	subject, _ = text(payload["sub"])
	return issuer, subject, nil
}

// split takes a token apart, strictly, and reads the claims that every kind of token here must have. types are those that its
// header may name; none named is always good, since Kubernetes names none.
func split(raw string, types ...string) (t unverified, err error) {
	if len(raw) > maxToken {
		return t, refuse("too long")
	}
	header, payload, err := token.Strict(raw)
	if err != nil {
		return t, err
	}
	end := strings.LastIndexByte(raw, '.')
	t.signed, t.signature = raw[:end], octets(raw[end+1:])
	t.members = payload
	h, c := reader{members: header}, reader{members: payload}
	t.alg, t.kid = h.str("alg"), h.str("kid")
	typ := h.str("typ")
	t.Issuer, t.Subject, t.ID = c.str("iss"), c.str("sub"), c.str("jti")
	t.Audience = c.audience()
	t.Expires, t.IssuedAt, t.notBefore = c.time("exp"), c.time("iat"), c.time("nbf")
	switch {
	case h.bad != "":
		return t, refuse("header " + h.bad)
	case c.bad != "":
		return t, refuse("claim " + c.bad)
	case methods[t.alg] == nil:
		return t, refuse("algorithm")
	case len(t.kid) > maxTokenID:
		return t, refuse("header kid")
	case typ != "" && !among(typ, types):
		return t, refuse("another type")
	case t.Issuer == "" || t.Subject == "" || len(t.Subject) > maxSubject || len(t.ID) > maxTokenID:
		return t, refuse("no iss or sub, or one too long")
	case t.Audience == "":
		return t, refuse("not one audience")
	case t.Expires.IsZero():
		return t, refuse("no exp")
	}
	return t, nil
}

func among(typ string, types []string) bool {
	for _, t := range types {
		if strings.EqualFold(typ, t) { // media types have no case (RFC 7515 §4.1.9)
			return true
		}
	}
	return false
}

// times checks that now lies in the token's life. Clocks may differ by skew for its beginning; its end is its end.
func (t unverified) times(now time.Time) error {
	switch {
	case !now.Before(t.Expires):
		return refuse("expired")
	case t.IssuedAt.After(now.Add(skew)) || t.notBefore.After(now.Add(skew)):
		return refuse("not valid yet")
	}
	return nil
}

// reader reads members with their types, and remembers the first that is of another.
type reader struct {
	members map[string]jsontext.Value
	bad     string
}

func (r *reader) fail(name string) {
	if r.bad == "" {
		r.bad = name
	}
}

// str reads a string; an absent member is "".
func (r *reader) str(name string) string {
	v, ok := r.members[name]
	if !ok {
		return ""
	}
	s, ok := text(v)
	if !ok {
		r.fail(name)
	}
	return s
}

// audience reads the one audience: a string, or a list of one, as Kubernetes writes it. A token that is for several is for
// nobody here: the others could use it, too.
func (r *reader) audience() string {
	v, ok := r.members["aud"]
	if !ok {
		return ""
	}
	if v.Kind() == '[' {
		var list []jsontext.Value
		if json.Unmarshal(v, &list) != nil || len(list) != 1 {
			return ""
		}
		v = list[0]
	}
	s, ok := text(v)
	if !ok {
		r.fail("aud")
	}
	return s
}

// time reads a NumericDate (RFC 7519 §2), whose fraction is cut off; an absent member is the zero time.
func (r *reader) time(name string) time.Time {
	v, ok := r.members[name]
	if !ok {
		return time.Time{}
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if v.Kind() != '0' || err != nil || f < 1 || f >= 1<<36 { // the year 4147: sums stay far from overflow
		r.fail(name)
		return time.Time{}
	}
	return time.Unix(int64(math.Floor(f)), 0).UTC()
}

// text is the string that a value is.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
