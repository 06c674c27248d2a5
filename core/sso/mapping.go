package sso

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fleetpass/fleetpass/core"
)

// The bounds of what a provider may say about one person.
const (
	MaxGroups              = 500
	maxGroupBytes          = 20 << 10 // of all their names together: they stand in items of the store, of which each has 32 KiB
	maxSupplementaryGroups = 64
	maxPersonName          = 100       // characters
	maxLinuxID             = 1<<31 - 1 // what Kubernetes takes for a UID or GID
)

// Map reads what a provider said about a person, by the attribute names of m (DefaultMappers where it has none), and notes in
// r how each attribute came out. It is false if the person cannot be signed in by it: without exactly one e-mail, with more
// than MaxGroups groups or maxGroupBytes of names, or with a UID, GID or supplementary group that is sent and cannot be read, since a container must not
// run as somebody else because of a slip. A name that cannot be read is only noted, and so is a group that is dropped. Names
// of attributes are compared exactly. What the identity lacks was not sent; Subject is the caller's to set.
func (m Mappers) Map(c Connection, attributes map[string]any, r *Report) (Identity, bool) {
	var id Identity
	ok := true
	for _, a := range []struct {
		check CheckName
		name  string
		read  func(reader, any) bool
	}{
		{CheckEmail, cmp.Or(m.Email, DefaultMappers.Email), func(r reader, v any) bool { return r.email(v, &id.Email) }},
		{CheckGroups, cmp.Or(m.Groups, DefaultMappers.Groups), func(r reader, v any) bool { return r.groups(v, c, &id.Groups) }},
		{CheckUID, cmp.Or(m.UID, DefaultMappers.UID), func(r reader, v any) bool { return r.linuxID(v, &id.UID) }},
		{CheckGID, cmp.Or(m.GID, DefaultMappers.GID), func(r reader, v any) bool { return r.linuxID(v, &id.GID) }},
		{CheckSupplementary, cmp.Or(m.SupplementaryGroups, DefaultMappers.SupplementaryGroups), func(r reader, v any) bool { return r.linuxIDs(v, &id.SupplementaryGroups) }},
		{CheckFirstName, cmp.Or(m.FirstName, DefaultMappers.FirstName), func(r reader, v any) bool { return r.personName(v, &id.FirstName) }},
		{CheckLastName, cmp.Or(m.LastName, DefaultMappers.LastName), func(r reader, v any) bool { return r.personName(v, &id.LastName) }},
	} {
		read := reader{r, a.check, a.name}
		v := attributes[a.name]
		if nothing(v) {
			ok = read.absent(attributes) && ok
			continue
		}
		ok = a.read(read, v) && ok
	}
	if !ok {
		return Identity{}, false
	}
	return id, true
}

// reader reads one attribute.
type reader struct {
	*Report
	check CheckName
	name  string // as the provider calls it
}

// absent judges an attribute that was not sent, and looks whether it was under another name.
func (r reader) absent(attributes map[string]any) bool {
	other := r.spelling(attributes)
	fix := fmt.Sprintf("The provider sends %s: rename the mapping of %s to it.", quote(other), r.check)
	switch {
	case r.check == CheckEmail && other != "":
		r.Fail(r.check, "the provider sends no "+quote(r.name), "one e-mail", fix)
		return false
	case r.check == CheckEmail:
		r.Fail(r.check, "the provider sends no "+quote(r.name), "one e-mail",
			fmt.Sprintf("Have the identity provider send the person's e-mail as %s, or set the mapping of email to the name that it has there.", quote(r.name)))
		return false
	case other != "":
		r.Note(r.check, "the provider sends no "+quote(r.name), fix)
	default:
		r.Pass(r.check, "not sent")
	}
	return true
}

// otherNames are names that providers use where nobody renamed anything: SAML's URIs and object identifiers, LDAP's names, and
// the claims of OpenID Connect Core §5.1.
var otherNames = map[CheckName][]string{
	CheckEmail: {
		"email", "mail", "emailaddress", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
		"urn:oid:0.9.2342.19200300.100.1.3", "urn:oid:1.2.840.113549.1.9.1",
	},
	CheckGroups: {
		"groups", "group", "memberOf", "isMemberOf", "http://schemas.xmlsoap.org/claims/Group",
		"http://schemas.microsoft.com/ws/2008/06/identity/claims/groups", "urn:oid:1.3.6.1.4.1.5923.1.5.1.1",
	},
	CheckUID:           {"uidNumber", "urn:oid:1.3.6.1.1.1.1.0"},
	CheckGID:           {"gidNumber", "urn:oid:1.3.6.1.1.1.1.1"},
	CheckSupplementary: {"supplementary_groups"},
	CheckFirstName: {
		"firstName", "first_name", "givenName", "given_name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname", "urn:oid:2.5.4.42",
	},
	CheckLastName: {
		"lastName", "last_name", "surname", "sn", "family_name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname", "urn:oid:2.5.4.4",
	},
}

// spelling is the name under which an attribute seems to have been sent; "": none.
func (r reader) spelling(attributes map[string]any) string {
	for _, known := range append([]string{r.name}, otherNames[r.check]...) {
		for _, name := range slices.Sorted(maps.Keys(attributes)) {
			if strings.EqualFold(name, known) && !nothing(attributes[name]) {
				return name
			}
		}
	}
	return ""
}

func (r reader) email(v any, into *core.Email) bool {
	const expected = "one e-mail"
	fail := func(found, fix string) bool {
		r.Fail(r.check, found, expected, fix)
		return false
	}
	values, ok := texts(v)
	if !ok {
		return fail(quote(r.name)+" is "+form(v), fmt.Sprintf("Have the identity provider send %s as one string.", quote(r.name)))
	}
	for _, s := range values {
		e, err := core.ParseEmail("email", s)
		if err != nil {
			return fail(quote(s), fmt.Sprintf("This e-mail %s: correct it at the identity provider, or set the mapping of email to the attribute that holds it.", fixOf(err)))
		}
		if *into != "" && *into != e {
			return fail(quote(string(*into))+" and "+quote(string(e)), fmt.Sprintf("Have the identity provider send one value of %s: it is the name of the person here.", quote(r.name)))
		}
		*into = e
	}
	r.Pass(r.check, string(*into))
	return true
}

// maxNamed is how many of what was dropped a note names.
const maxNamed = 5

func (r reader) groups(v any, c Connection, into *[]core.GroupName) bool {
	var dropped []string
	drop := func(found, why string) { dropped = append(dropped, found+" ("+why+")") }
	for _, v := range flat(v) {
		s, ok := v.(string)
		if !ok {
			drop(form(v), "is no string")
			continue
		}
		if s = trim(s); s == "" {
			continue
		}
		// The name as it was sent is judged too: what a cluster gives a meaning to is refused behind any prefix.
		g, err := core.ParseGroupName("groups", s)
		if err == nil && c.GroupPrefix != "" {
			g, err = core.ParseGroupName("groups", c.GroupPrefix+s)
		}
		if err != nil {
			drop(quote(s), fixOf(err))
			continue
		}
		if c.foreign(g) {
			drop(quote(s), "is another identity provider's: it begins with its prefix")
			continue
		}
		*into = append(*into, g)
	}
	slices.Sort(*into)
	*into = slices.Compact(*into)
	bytes := 0
	for _, g := range *into {
		bytes += len(g)
	}
	if n := len(*into); n > MaxGroups || bytes > maxGroupBytes {
		r.Fail(r.check, fmt.Sprintf("%d groups, %d bytes of names", n, bytes), fmt.Sprintf("at most %d groups, and %d bytes", MaxGroups, maxGroupBytes),
			fmt.Sprintf("Have the identity provider send in %s only groups that have access rules here: most can filter them by name, or by what is assigned to the application.", quote(r.name)))
		return false
	}
	if len(dropped) > 0 {
		named := strings.Join(dropped[:min(maxNamed, len(dropped))], ", ")
		if more := len(dropped) - maxNamed; more > 0 {
			named += fmt.Sprintf(" and %d more", more)
		}
		r.Note(r.check, fmt.Sprintf("%d groups; %d dropped: %s", len(*into), len(dropped), named),
			"Rename these groups at the identity provider, or have it not send them; they give no access here.")
		return true
	}
	r.Pass(r.check, listed(*into))
	return true
}

// foreign says whether a group is another connection's: of the prefixes that its name begins with, the longest one counts.
func (c Connection) foreign(g core.GroupName) bool {
	return slices.ContainsFunc(c.Others, func(p string) bool {
		return len(p) > len(c.GroupPrefix) && strings.HasPrefix(string(g), p)
	})
}

func (r reader) linuxID(v any, into **int64) bool {
	var ids []int64
	if !r.readIDs(v, &ids, "one integer from 1 to 2147483647") {
		return false
	}
	if len(ids) != 1 {
		r.Fail(r.check, fmt.Sprintf("%d values: %s", len(ids), listed(ids)), "one integer from 1 to 2147483647",
			fmt.Sprintf("Have the identity provider send one value of %s.", quote(r.name)))
		return false
	}
	*into = &ids[0]
	r.Pass(r.check, strconv.FormatInt(ids[0], 10))
	return true
}

func (r reader) linuxIDs(v any, into *[]int64) bool {
	const expected = "integers from 1 to 2147483647, each a value of its own"
	var ids []int64
	if !r.readIDs(v, &ids, expected) {
		return false
	}
	if len(ids) > maxSupplementaryGroups {
		r.Fail(r.check, fmt.Sprintf("%d groups", len(ids)), fmt.Sprintf("at most %d", maxSupplementaryGroups),
			fmt.Sprintf("Have the identity provider send fewer values of %s.", quote(r.name)))
		return false
	}
	*into = ids
	r.Pass(r.check, listed(ids))
	return true
}

// readIDs reads integers: each once, sorted. One that cannot be read fails them all.
func (r reader) readIDs(v any, into *[]int64, expected string) bool {
	for _, v := range flat(v) {
		if nothing(v) {
			continue
		}
		id, ok := linuxID(v)
		if !ok {
			found := form(v)
			switch v := v.(type) {
			case string:
				found = quote(v)
			case float64:
				found = strconv.FormatFloat(v, 'g', -1, 64)
			}
			r.Fail(r.check, found, expected,
				fmt.Sprintf("Have the identity provider send %s as %s, or set the mapping of %s to an attribute that is: nothing runs as root, or as somebody else.", quote(r.name), expected, r.check))
			return false
		}
		*into = append(*into, id)
	}
	slices.Sort(*into)
	*into = slices.Compact(*into)
	return true
}

// linuxID is one integer, as a number or in decimal digits. Nothing else that could be meant is guessed at: not "1e3", nor
// "+5", nor "0100", which some would take for octal.
func linuxID(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		if v < 1 || v > maxLinuxID || v != float64(int64(v)) {
			return 0, false
		}
		return int64(v), true
	case string:
		s := trim(v)
		if s == "" || len(s) > 10 || s[0] == '0' {
			return 0, false
		}
		for _, c := range []byte(s) {
			if c < '0' || c > '9' {
				return 0, false
			}
		}
		n, err := strconv.ParseInt(s, 10, 64)
		return n, err == nil && n >= 1 && n <= maxLinuxID
	}
	return 0, false
}

func (r reader) personName(v any, into *string) bool {
	drop := func(found, why string) bool {
		r.Note(r.check, found, fmt.Sprintf("Have the identity provider send %s as %s; it was left out.", quote(r.name), why))
		return true
	}
	values, ok := texts(v)
	if !ok {
		return drop(form(v), "one string")
	}
	if len(values) > 1 {
		return drop(fmt.Sprintf("%d values", len(values)), "one string")
	}
	name := norm.NFC.String(values[0])
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxPersonName || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return drop(quote(name), "at most 100 characters that print")
	}
	*into = name
	r.Pass(r.check, name)
	return true
}
