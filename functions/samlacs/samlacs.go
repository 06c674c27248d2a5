// Package samlacs is the function that SAML identity providers deal with: the assertion consumer service, which browsers post
// responses to (SAML 2.0 Bindings §3.5), and the metadata of the service provider that a tenant's connection is. The post comes
// from another site, where our cookies do not travel, so it reads none: what holds is parked under a one-time handle, and the
// browser goes on to functions/login, which knows it by its cookie. It signs nobody in by itself.
package samlacs

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/core/web/page"
)

// Deps is what the function needs.
type Deps struct {
	SSO *sso.Service
}

// Paths are the patterns that the function serves.
var Paths = []string{
	"POST /t/{tenant}/saml/{alias}/acs",
	"GET /t/{tenant}/saml/{alias}/metadata",
}

// maxForm bounds a posted response, in bytes: 256 KiB of XML in base64, percent-encoded at worst where base64 has other than
// letters and digits.
const maxForm = 512 << 10

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Paths[0], func(w http.ResponseWriter, r *http.Request) {
		t, err := web.Tenant(r)
		if err == nil {
			err = d.consume(w, r, t)
		}
		if err != nil {
			page.Fail(w, r, err, page.Instead(t, ""))
		}
	})
	mux.HandleFunc(Paths[1], func(w http.ResponseWriter, r *http.Request) {
		if err := d.metadata(w, r); err != nil {
			web.Fail(w, r, err)
		}
	})
	return web.Exact(mux)
}

// consume is the assertion consumer service. RelayState is a reference of ours and nothing else: it leads nowhere.
func (d Deps) consume(w http.ResponseWriter, r *http.Request, t core.TenantID) error {
	form, err := web.Form(w, r, maxForm)
	if err != nil {
		return err
	}
	handle, err := d.SSO.Receive(r.Context(), web.Actor(r, t), sso.Alias(r.PathValue("alias")), []sso.Kind{sso.SAML}, form["RelayState"], form)
	if err != nil {
		return err
	}
	page.Arrive(w, t, handle)
	return nil
}

// metadata is what an identity provider reads about us (SAML 2.0 Metadata §2.4.4).
func (d Deps) metadata(w http.ResponseWriter, r *http.Request) error {
	t, err := web.Tenant(r)
	if err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			return fmt.Errorf("path: %w", core.NotFound)
		}
	}
	doc, err := d.SSO.Describe(r.Context(), t, sso.Alias(r.PathValue("alias")))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(doc) // the client went away; there is nobody to tell
	return nil
}
