package web

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Tenant is the tenant of the route's {tenant}. What cannot be a tenant's id is core.NotFound, the same as a tenant that
// there is not. So is an issuer that is spelt in any but its one way: /t/TENANT, to the byte, at the beginning of the path,
// or at the end of a well-known one (RFC 8414 §3.1). What else the path holds may be percent-encoded, as names are.
func Tenant(r *http.Request) (core.TenantID, error) {
	t, err := core.ParseTenantID("tenant", r.PathValue("tenant"))
	path, issuer := r.URL.EscapedPath(), "/t/"+string(t)
	exact := path == issuer || strings.HasPrefix(path, issuer+"/") ||
		strings.HasPrefix(path, "/.well-known/") && strings.HasSuffix(path, issuer)
	if err != nil || !exact {
		return "", fmt.Errorf("tenant: %w", core.NotFound)
	}
	return t, nil
}

// Actor is whoever sends a request at a tenant, before anything is known of who that is.
func Actor(r *http.Request, t core.TenantID) core.Actor {
	return trace.Actor(r.Context(), core.Actor{Tenant: t, Address: Address(r)})
}

// Exact refuses, as absent, paths that would have to be cleaned or decoded to mean something: an address of ours has one
// spelling, and http.ServeMux would redirect the others to it, which makes two issuers out of one. It is for handlers none
// of whose paths holds a name that may need to be percent-encoded.
func Exact(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); !clean(p) || strings.Contains(p, "%") {
			Fail(w, r, fmt.Errorf("path: %w", core.NotFound))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// clean says whether a path means what it spells.
func clean(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.Contains(p, "//") && !strings.Contains(p, "/./") && !strings.Contains(p, "/../") &&
		!strings.HasSuffix(p, "/.") && !strings.HasSuffix(p, "/..")
}

// maxBearer is the longest Authorization header that is looked at, in bytes; our own tokens are at most 8 KiB.
const maxBearer = 10 << 10

// BearerToken is the token of the Authorization header (RFC 6750 §2.1). None, or a malformed one, is
// core.Unauthenticated. Tokens in a form or a query are not looked for: they end up in logs.
func BearerToken(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 || len(values[0]) > maxBearer {
		return "", fmt.Errorf("no single bearer token: %w", core.Unauthenticated)
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return "", fmt.Errorf("no bearer token: %w", core.Unauthenticated)
	}
	return token, nil
}

// Body reads the request's body of at most max bytes, if it has the media type; else the error is core.Invalid naming
// Content-Type, or core.TooLarge.
func Body(w http.ResponseWriter, r *http.Request, media string, max int) ([]byte, error) {
	if given := r.Header.Get("Content-Type"); given != media { // nearly always it is, to the byte
		if got, _, err := mime.ParseMediaType(given); err != nil || got != media {
			return nil, core.BadField("Content-Type", "must be "+media)
		}
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, core.BadField("Content-Encoding", "is not accepted; send the body as it is")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(max)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("the body is over %d bytes: %w", max, core.TooLarge)
	case err != nil:
		return nil, core.BadField("body", "ended before it was complete")
	}
	return data, nil
}

// Decode reads a JSON body of at most max bytes into a T, strictly: an unknown, repeated or wrongly spelt member is
// core.Invalid and named.
func Decode[T any](w http.ResponseWriter, r *http.Request, max int) (T, error) {
	var v T
	data, err := Body(w, r, "application/json", max)
	if err != nil {
		return v, err
	}
	err = strict.JSON(data, max, &v)
	return v, err
}

// Form reads an urlencoded body of at most max bytes. A field given twice is core.Invalid and named, and so is an
// unknown one if any are named as known.
func Form(w http.ResponseWriter, r *http.Request, max int, known ...string) (map[string]string, error) {
	data, err := Body(w, r, "application/x-www-form-urlencoded", max)
	if err != nil {
		return nil, err
	}
	return strict.Form(string(data), max, known...)
}
