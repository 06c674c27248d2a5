package oauth

import (
	"net/url"
	"strings"
)

// The loopback redirects of native applications (RFC 8252 §7.3): the two address literals, on any port. The name
// "localhost" is not one of them: it may resolve to anything (§8.3).
var loopbacks = []string{"http://127.0.0.1", "http://[::1]"}

// matchRedirect says whether a redirect URI is one of the registered ones: to the byte (RFC 9700 §2.1), except that the
// port of a loopback literal is free. Nothing is parsed or normalized, so there are no two readings of one URI.
func matchRedirect(registered []string, asked string) bool {
	if !sendable(asked) {
		return false
	}
	for _, r := range registered {
		if r == asked {
			return true
		}
		for _, host := range loopbacks {
			want, ok1 := loopbackPath(r, host)
			got, ok2 := loopbackPath(asked, host)
			if ok1 && ok2 && want == got {
				return true
			}
		}
	}
	return false
}

// loopbackPath returns what follows the host and port of a loopback redirect. The port, if any, is 1 to 65535, without a
// leading zero.
func loopbackPath(uri, host string) (string, bool) {
	rest, ok := strings.CutPrefix(uri, host)
	if !ok {
		return "", false
	}
	if port, found := strings.CutPrefix(rest, ":"); found {
		n, digits := 0, 0
		for digits < len(port) && port[digits] >= '0' && port[digits] <= '9' && digits < 6 {
			n = n*10 + int(port[digits]-'0')
			digits++
		}
		if digits == 0 || port[0] == '0' || n > 65535 {
			return "", false
		}
		rest = port[digits:]
	}
	return rest, strings.HasPrefix(rest, "/")
}

// sendable refuses what a browser must never be sent to, even if a record has it (directory.CheckRedirectURI lets nobody
// register it): anything with a fragment (RFC 6749 §3.1.2), with characters that no URI has, or of a scheme that runs or
// opens something in the browser itself.
func sendable(uri string) bool {
	if uri == "" || len(uri) > 2048 {
		return false
	}
	for _, c := range []byte(uri) {
		if c <= ' ' || c > '~' || strings.IndexByte("#\\\"<>^`{|}", c) >= 0 {
			return false
		}
	}
	host, ok := strings.CutPrefix(uri, "https://")
	if !ok {
		host, ok = strings.CutPrefix(uri, "http://")
	}
	return ok && host != ""
}

// withQuery adds parameters to a redirect URI, keeping the query that it has (RFC 6749 §3.1.2).
func withQuery(uri string, q url.Values) string {
	if strings.Contains(uri, "?") {
		return uri + "&" + q.Encode()
	}
	return uri + "?" + q.Encode()
}
