// Package admin is the function behind a tenant's admin API: access rules, the scope tree, clusters, people, groups,
// applications, identity providers and, for operators, tenants. It owns the API's paths, who may call what (the table in endpoints.go), and
// the translation between the wire (core/api) and the services that do the work. Nothing is decided here but which
// permission a call needs and in which scope.
//
// Callers prove themselves with a bearer access token of the tenant, never with a cookie, so no other site can make a
// browser call this API with its owner's rights, and there is no CSRF token.
package admin

import (
	"net/http"
	"time"

	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trust"
)

// Deps is what the function needs. All fields but BrowserBase and IssuerCA are needed.
type Deps struct {
	DB        store.DB
	Ring      *keys.Ring
	Org       *org.Service
	Directory *directory.Service
	Access    *access.Service
	SSO       *sso.Service
	Sync      *sync.Service
	Queue     sync.Queue
	Now       func() time.Time // UTC

	// Issuers reads the keys of trusted issuers. nil: only issuers whose keys are given by hand can be trusted.
	Issuers trust.Verifier

	// Base is the URL that every tenant's issuer begins with: https://HOST, without a slash at the end.
	Base string

	// BrowserBase is Base as browsers reach it, for links that people open. Empty: Base.
	BrowserBase string

	// IssuerCA is the PEM certificates that clusters verify the issuer's TLS with. Empty: the public ones.
	IssuerCA string
}

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	for _, e := range endpoints() {
		mux.HandleFunc(e.pattern(), e.serve(&d))
	}
	mux.HandleFunc(documentPattern, d.serveDocument)
	return mux
}

// Paths is every pattern that Handler serves.
var Paths = func() (all []string) {
	for _, e := range endpoints() {
		all = append(all, e.pattern())
	}
	return append(all, documentPattern)
}()
