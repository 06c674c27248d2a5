package core

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// Names that Kubernetes, OpenShift or Fleetpass itself give a meaning to. A cluster that trusts our tokens would take a
// person of such a name for one of its own components: an e-mail of "system:masters" is a cluster administrator.
var reservedPrefixes = []string{"system:", "kube:", "openshift:", "fleetpass-id:", "fleetpass:"}

// Reserved says whether a name is, or could be read as, one that a cluster gives a meaning of its own. It compares after
// compatibility normalization, case folding, and removal of accents, white space and characters that print nothing, so
// that no Unicode spelling slips by.
func Reserved(name string) bool {
	folded := fold(name)
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(folded, p) || folded == strings.TrimSuffix(p, ":") {
			return true
		}
	}
	return folded == "cluster-admins" || folded == "dedicated-admins"
}

func fold(s string) string {
	if isASCII(s) { // a token is minted for every request, with many names in it: the tables below cost a microsecond each
		return strings.Map(foldASCII, s)
	}
	s = norm.NFKD.String(cases.Fold().String(norm.NFKC.String(s)))
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Cc, unicode.Mn, unicode.Me, unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return r
	}, s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// foldASCII is what fold comes to for a character of ASCII.
func foldASCII(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	case r <= ' ' || r == 0x7f:
		return -1
	}
	return r
}

// printable refuses what does not print, and direction overrides, which make one name look like another.
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

// spelt says whether s has least to most bytes of a-z, 0-9 and those of also, begins with a letter and ends with none of
// also. Every request passes here and every cold start would compile a regular expression, so there is none.
func spelt(s string, least, most int, also string) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z':
		case i == 0:
			return false
		case '0' <= c && c <= '9':
		case i == len(s)-1, strings.IndexByte(also, c) < 0:
			return false
		}
	}
	return true
}

// ParseTenantID checks a tenant's id: 2 to 32 of a-z, 0-9 and "-", beginning with a letter. Errors are Invalid and name
// the field.
func ParseTenantID(field, s string) (TenantID, error) {
	if !spelt(s, 2, 32, "-") {
		return "", BadField(field, `must be 2 to 32 of a-z, 0-9 and "-", beginning with a letter`)
	}
	return TenantID(s), nil
}

// ParseEmail returns the canonical form of an e-mail: surrounding white space removed, NFC, lower case. It refuses what
// is not exactly local@domain, names over 254 bytes (RFC 5321 §4.5.3.1), quoting, unprintable characters and reserved
// names, and characters that NFKC spells otherwise (full-width letters, ligatures), so that one person has one spelling.
func ParseEmail(field, s string) (Email, error) {
	s = strings.Trim(s, " \t\r\n")
	if s == "" {
		return "", BadField(field, "is empty; give an e-mail such as ada@example.com")
	}
	if len(s) > 254 {
		return "", BadField(field, "is over 254 bytes")
	}
	if Reserved(s) {
		return "", BadField(field, "is a reserved name")
	}
	s = norm.NFC.String(s)
	if !printable(s) || norm.NFKC.String(s) != s {
		return "", BadField(field, "has characters that do not print or have another spelling")
	}
	s = cases.Lower(language.Und).String(s)
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || domain == "" || strings.ContainsAny(local, "@\"\\,;:<>()[] *") || strings.ContainsAny(domain, "@\"\\,;:<>()[] *_/") ||
		strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(s, "..") {
		return "", BadField(field, "is not of the form local@domain")
	}
	return Email(s), nil
}

// ParseGroupName checks a group's name: as the identity provider sends it, white space around it removed, 1 to 256 bytes
// of printable characters in their composed form, not reserved, not "*".
func ParseGroupName(field, s string) (GroupName, error) {
	s = strings.Trim(s, " \t\r\n")
	switch {
	case s == "" || s == "*":
		return "", BadField(field, "must name a group")
	case len(s) > 256:
		return "", BadField(field, "is over 256 bytes")
	case Reserved(s):
		return "", BadField(field, "is a reserved name")
	case !printable(s) || norm.NFC.String(s) != s:
		return "", BadField(field, "has characters that do not print or are not in composed form (NFC)")
	}
	return GroupName(s), nil
}

// ParseApplicationName checks an application's name: 2 to 255 of a-z, 0-9, "-" and "_", beginning with a letter.
func ParseApplicationName(field, s string) (string, error) {
	if !spelt(s, 2, 255, "-_") {
		return "", BadField(field, `must be 2 to 255 of a-z, 0-9, "-" and "_", beginning with a letter`)
	}
	if Reserved(s) {
		return "", BadField(field, "is a reserved name")
	}
	return s, nil
}

// ParseProjectName checks the name of a project or department: a DNS label (RFC 1123) beginning with a letter.
func ParseProjectName(field, s string) (string, error) {
	if !spelt(s, 1, 63, "-") {
		return "", BadField(field, `must be 1 to 63 of a-z, 0-9 and "-", beginning with a letter`)
	}
	if Reserved(s) {
		return "", BadField(field, "is a reserved name")
	}
	return s, nil
}

// ParseNamespace checks a Kubernetes namespace that a project may have. Namespaces of the cluster itself are refused.
func ParseNamespace(field, s string) (Namespace, error) {
	if !spelt(s, 1, 63, "-") {
		return "", BadField(field, `must be a namespace: 1 to 63 of a-z, 0-9 and "-", beginning with a letter`)
	}
	if s == "default" || s == "openshift" || s == "fleetpass" || s == "fleetpass-system" ||
		strings.HasPrefix(s, "kube-") || strings.HasPrefix(s, "openshift-") {
		return "", BadField(field, "is a namespace of the cluster itself; choose another")
	}
	return Namespace(s), nil
}
