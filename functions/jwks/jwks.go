// Package jwks is the function that verifiers call: a tenant's published keys (RFC 7517 §5) and the description of its
// issuer, at the paths of OpenID Connect Discovery §4 and of RFC 8414 §3.1. What it answers is public, small and
// cacheable, and costs no read of the store while the keys are warm. It goes on answering for a tenant that is suspended:
// tokens that are out must verify until they expire, within minutes, and new ones are not given out.
package jwks

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/web"
)

// Deps is what the function needs.
type Deps struct {
	OAuth *oauth.Server
	Ring  *keys.Ring
}

// Paths are the patterns that the function serves.
var Paths = []string{
	"GET /t/{tenant}/jwks",
	"GET /t/{tenant}/.well-known/openid-configuration",
	"GET /t/{tenant}/.well-known/oauth-authorization-server",
	"GET /.well-known/openid-configuration/t/{tenant}",
	"GET /.well-known/oauth-authorization-server/t/{tenant}",
}

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Paths[0], d.jwks)
	for _, p := range Paths[1:] {
		mux.HandleFunc(p, d.discovery)
	}
	return web.Exact(mux)
}

func (d Deps) jwks(w http.ResponseWriter, r *http.Request) {
	t, err := web.Tenant(r)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	set, err := d.Ring.JWKS(r.Context(), t)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	serve(w, r, "application/jwk-set+json", set.Body, set.ETag, set.MaxAge)
}

// discovery answers the same document at every path: a superset for each.
func (d Deps) discovery(w http.ResponseWriter, r *http.Request) {
	t, err := web.Tenant(r)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	set, err := d.Ring.JWKS(r.Context(), t) // a tenant is there if it has keys, and these are in memory
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	body, err := json.Marshal(d.OAuth.Metadata(t), json.Deterministic(true))
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	sum := sha256.Sum256(body)
	serve(w, r, "application/json", body, `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`, set.MaxAge)
}

// serve answers with something public that may be kept for a while, or says that the copy which the client has is still
// good (RFC 9110 §13.1.2).
func serve(w http.ResponseWriter, r *http.Request, media string, body []byte, etag string, keep time.Duration) {
	h := w.Header()
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(keep/time.Second)))
	h.Set("ETag", etag)
	if matches(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", media)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body) // the client went away; there is nobody to tell
}

// matches says whether an If-None-Match names the tag, by weak comparison, as is right for GET (RFC 9110 §8.8.3.2).
func matches(headers []string, etag string) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
