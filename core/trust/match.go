package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
)

// Trust says which tokens of an issuer stand for an application: those for the audience of which every condition holds.
type Trust struct {
	Issuer     string      `json:"issuer"`             // the name
	IssuerID   string      `json:"issuerId"`           // and the ID: another issuer that comes to have the name is not meant
	Audience   string      `json:"audience,omitempty"` // empty: the tenant's own issuer
	Conditions []Condition `json:"conditions"`
}

// Condition wants a claim to have one of some values.
type Condition struct {
	// Claim is the name of a claim, to the letter, or, if it begins with a slash, a JSON Pointer (RFC 6901) to a member of one:
	// /kubernetes.io/serviceaccount/name. Of a claim that is a list, one element is enough.
	Claim string `json:"claim"`

	// Values are what it may be, to the letter; one that ends with * stands for all that begins so.
	Values []string `json:"values"`
}

// ParseTrusts checks an application's trusts and returns them in their stored form, without the IDs of issuers, which
// Resolve fills in. An error is core.Invalid and names the field.
func ParseTrusts(field string, trusts []Trust) ([]Trust, error) {
	if len(trusts) > MaxTrusts {
		return nil, core.BadField(field, fmt.Sprintf("must be at most %d", MaxTrusts))
	}
	out := make([]Trust, 0, len(trusts))
	for i, t := range trusts {
		at := fmt.Sprintf("%s[%d]", field, i)
		name, err := ParseName(at+".issuer", t.Issuer)
		if err != nil {
			return nil, err
		}
		if len(t.Audience) > maxValue || !printable(t.Audience) || strings.TrimSpace(t.Audience) != t.Audience {
			return nil, core.BadField(at+".audience", fmt.Sprintf("must be text that prints, of at most %d bytes, without space around it", maxValue))
		}
		if len(t.Conditions) == 0 {
			return nil, core.BadField(at+".conditions", "must be at least one: without, every token of the issuer would stand for the application")
		}
		if len(t.Conditions) > MaxConditions {
			return nil, core.BadField(at+".conditions", fmt.Sprintf("must be at most %d", MaxConditions))
		}
		for j, c := range t.Conditions {
			if err := c.check(fmt.Sprintf("%s.conditions[%d]", at, j)); err != nil {
				return nil, err
			}
		}
		out = append(out, Trust{Issuer: name, Audience: t.Audience, Conditions: t.Conditions})
	}
	if body, err := json.Marshal(out); err != nil || len(body) > maxTrusts {
		return nil, core.BadField(field, fmt.Sprintf("are over %d bytes together; use fewer values, or a * at their end", maxTrusts))
	}
	return out, nil
}

// registered are the claims that say nothing about who it is, since every token of the issuer for us has the same, or another
// one each time: a condition on them alone would let everybody in, or nobody.
var registered = []string{"iss", "aud", "exp", "nbf", "iat", "jti"}

func (c Condition) check(at string) error {
	switch {
	case c.Claim == "" || len(c.Claim) > maxValue || !printable(c.Claim):
		return core.BadField(at+".claim", fmt.Sprintf("must name a claim, in at most %d bytes", maxValue))
	case slices.Contains(registered, strings.TrimPrefix(c.Claim, "/")):
		return core.BadField(at+".claim", "must be one that says who it is, such as sub; this one is checked in any case")
	}
	if _, ok := pointer(c.Claim); !ok {
		return core.BadField(at+".claim", "is no JSON Pointer (RFC 6901): behind a ~ comes 0 or 1")
	}
	if len(c.Values) == 0 || len(c.Values) > MaxValues {
		return core.BadField(at+".values", fmt.Sprintf("must be 1 to %d", MaxValues))
	}
	for i, v := range c.Values {
		at := fmt.Sprintf("%s.values[%d]", at, i)
		fixed := strings.TrimSuffix(v, "*")
		switch {
		case v == "" || len(v) > maxValue || !printable(v):
			return core.BadField(at, fmt.Sprintf("must be text that prints, of 1 to %d bytes", maxValue))
		case fixed == "":
			return core.BadField(at, "must have something before the *: it would stand for everything")
		case strings.Contains(fixed, "*"):
			return core.BadField(at, "may have a * only at its end")
		}
	}
	return nil
}

// pointer splits the name of a claim into the names of members that lead to it.
func pointer(claim string) ([]string, bool) {
	if !strings.HasPrefix(claim, "/") {
		return []string{claim}, true
	}
	parts := strings.Split(claim[1:], "/")
	for i, p := range parts {
		for j := 0; j < len(p); j++ {
			if p[j] == '~' && (j+1 == len(p) || p[j+1] != '0' && p[j+1] != '1') {
				return nil, false
			}
		}
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts, true
}

// Admits says whether verified claims stand for the application: the audience is the one, and every condition holds. own is the
// audience where none is named.
func (t Trust) Admits(c Claims, own string) error {
	audience := t.Audience
	if audience == "" {
		audience = own
	}
	if c.Audience != audience || audience == "" {
		return refuse("another audience")
	}
	if len(t.Conditions) == 0 {
		return refuse("no condition")
	}
	for _, o := range t.Conditions {
		if !o.holds(c.members) {
			return refuse("a condition does not hold")
		}
	}
	return nil
}

func (c Condition) holds(members map[string]jsontext.Value) bool {
	path, ok := pointer(c.Claim)
	if !ok {
		return false
	}
	for _, name := range path[:len(path)-1] {
		v, ok := members[name]
		members = nil // a map that exists would be added to
		if !ok || v.Kind() != '{' || json.Unmarshal(v, &members) != nil {
			return false
		}
	}
	v, ok := members[path[len(path)-1]]
	if !ok {
		return false
	}
	if v.Kind() != '[' {
		return c.has(v)
	}
	var list []jsontext.Value
	return json.Unmarshal(v, &list) == nil && slices.ContainsFunc(list, c.has)
}

// has compares one value: a string to the letter, and true, false and numbers as they are written. Only strings can begin with
// something.
func (c Condition) has(v jsontext.Value) bool {
	s, isText := text(v)
	if !isText {
		if k := v.Kind(); k != 't' && k != 'f' && k != '0' {
			return false
		}
		s = string(v)
	}
	return slices.ContainsFunc(c.Values, func(want string) bool {
		if prefix, open := strings.CutSuffix(want, "*"); open {
			return isText && prefix != "" && strings.HasPrefix(s, prefix)
		}
		return s == want
	})
}
