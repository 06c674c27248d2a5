// Package oidccallback is the function that browsers come back to from OpenID providers and OpenShift clusters: the redirect
// URI of a tenant's connection (RFC 6749 §4.1.2). It redeems the code, judges what comes of it, and parks that under a one-time
// handle for functions/login, which alone opens sessions.
package oidccallback

import (
	"net/http"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// Deps is what the function needs.
type Deps struct {
	SSO *sso.Service
}

// Paths are the patterns that the function serves. Each connection has a redirect URI of its own, so that no provider's answer
// can be taken for another's (RFC 9700 §4.4.2).
var Paths = []string{"GET /t/{tenant}/oidc/{alias}/callback"}

// maxQuery bounds an answer, in bytes.
const maxQuery = 16 << 10

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Paths[0], func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead { // the answer is used once, and not by who only looks
			page.Head(w)
			return
		}
		t, err := web.Tenant(r)
		if err == nil {
			err = d.callback(w, r, t)
		}
		if err != nil {
			page.Fail(w, r, err, page.Instead(t, ""))
		}
	})
	return web.Exact(mux)
}

func (d Deps) callback(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	answer, err := strict.Form(r.URL.RawQuery, maxQuery)
	if err != nil {
		return err
	}
	handle, err := d.SSO.Receive(r.Context(), web.Actor(r, t), sso.Alias(r.PathValue("alias")), []sso.Kind{sso.OIDC, sso.OpenShift}, answer["state"], answer)
	if err != nil {
		return err
	}
	page.Arrive(w, t, handle)
	return nil
}
