package oauth

import (
	"slices"
	"strings"
)

// Scope is a set of scope values, in the order of scopeValues.
type Scope []string

// The scope values that mean something here (OpenID Connect Core §5.4, §11); `groups` asks for the claim of that name.
const (
	ScopeOpenID  = "openid"
	ScopeOffline = "offline_access"
	ScopeEmail   = "email"
	ScopeProfile = "profile"
	ScopeGroups  = "groups"
)

var scopeValues = []string{ScopeOpenID, ScopeOffline, ScopeEmail, ScopeProfile, ScopeGroups}

// parseScope reads a scope parameter (RFC 6749 §3.3). Well-formed values that mean nothing here are left out, as OpenID
// Connect Core §3.1.2.1 asks, and the answer says what was granted. Malformed ones are an error.
func parseScope(s string) (Scope, error) {
	if len(s) > 1024 {
		return nil, refuse(InvalidScope, "scope is over 1024 bytes")
	}
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return nil, refuse(InvalidScope, "scope has characters that no scope value may have (RFC 6749 §3.3)")
		}
	}
	asked := strings.Fields(s)
	var granted Scope
	for _, v := range scopeValues {
		if slices.Contains(asked, v) {
			granted = append(granted, v)
		}
	}
	return granted, nil
}

// Has says whether the value is in the scope.
func (s Scope) Has(v string) bool { return slices.Contains(s, v) }

// String is the scope as a parameter.
func (s Scope) String() string { return strings.Join(s, " ") }

// narrow is what a refresh asks for out of what was granted: all of it if it asks for nothing, never more (RFC 6749 §6).
func (s Scope) narrow(asked string) (Scope, error) {
	if asked == "" {
		return s, nil
	}
	less, err := parseScope(asked)
	if err != nil {
		return nil, err
	}
	for _, v := range less {
		if !s.Has(v) {
			return nil, refuse(InvalidScope, "scope asks for more than was granted at sign-in")
		}
	}
	return less, nil
}
