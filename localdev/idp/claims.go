package idp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"strings"
)

// claims is what is said of a person, by the names that Fleetpass reads by default. A value is a string, a number, or a list of
// them; or whatever Person.Claims gives.
func (who Person) claims() map[string]any {
	c := map[string]any{"email": who.Email}
	if who.FirstName != "" {
		c["firstName"] = who.FirstName
	}
	if who.LastName != "" {
		c["lastName"] = who.LastName
	}
	if who.Groups != nil {
		c["GROUPS"] = who.Groups
	}
	if who.UID != nil {
		c["UID"] = *who.UID
	}
	if who.GID != nil {
		c["GID"] = *who.GID
	}
	if who.SupplementaryGroups != nil {
		c["SUPPLEMENTARYGROUPS"] = who.SupplementaryGroups
	}
	maps.Copy(c, who.Claims)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// texts are the values of a claim as SAML has them: text, one or more.
func texts(v any) (all []string) {
	switch v := v.(type) {
	case []string:
		return v
	case []int64:
		for _, n := range v {
			all = append(all, fmt.Sprint(n))
		}
	case []any:
		for _, n := range v {
			all = append(all, fmt.Sprint(n))
		}
	default:
		all = []string{fmt.Sprint(v)}
	}
	return all
}

// subject is a stable name of a person that tells nothing about them, and is another one for each audience, which may be "". It
// is derived and not kept, so that it outlives this process.
func (who Person) subject(audience string) string {
	sum := sha256.Sum256([]byte("local-idp\x00" + canonical(who.Email) + "\x00" + audience))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// newID is an identifier of XML (xs:ID), which begins with no digit, that nobody can guess.
func newID() string { return "_" + rand.Text() }

func joined(names []string) string { return strings.Join(names, ", ") }
