package admin

import (
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/org"
)

// setting is one of the security settings, as the API names it.
type setting struct {
	read  func(api.SecuritySettings) any
	write func(*call) (func(*org.Settings), error) // from the request's body
}

// securitySettings are the settings below /security/settings.
var securitySettings = map[string]setting{
	"autoRedirectSSO":       {func(s api.SecuritySettings) any { return s.AutoRedirectSSO }, autoRedirect},
	"browserSessionTimeout": {func(s api.SecuritySettings) any { return s.BrowserSessionTimeout }, browserTimeout},
	"logoutRedirectUri":     {func(s api.SecuritySettings) any { return s.LogoutRedirectURI }, logoutRedirect},
	"enforceSSO":            {func(s api.SecuritySettings) any { return s.EnforceSSO }, enforceSSO},
}

// securityFields are the settings' fields by the names that the API gives them.
var securityFields = rename{"autoRedirect": "idpAlias", "logoutUri": "uri", "enforceSso": "enabled", "enforceSSO": "enabled"}

func listSecurity(c *call) (reply, error) { return ok(wireSecurity(c.meta.Settings)) }

func getSecurity(c *call) (reply, error) {
	s, err := c.setting()
	if err != nil {
		return failed(err)
	}
	return ok(s.read(wireSecurity(c.meta.Settings)))
}

// putSecurity changes one setting. Who may pass by the identity provider, and how soon a browser forgets somebody, outlasts
// whoever says it.
func putSecurity(c *call) (reply, error) {
	s, err := c.setting()
	if err != nil {
		return failed(err)
	}
	if err := c.lasting(); err != nil {
		return failed(err)
	}
	change, err := s.write(c)
	if err != nil {
		return failed(err)
	}
	settings, err := c.SSO.SetSecurity(c.ctx, c.actor, c.tenant, change)
	if err != nil {
		return failed(securityFields.rename(err))
	}
	return ok(s.read(wireSecurity(settings)))
}

// setting is the setting {key}.
func (c *call) setting() (setting, error) {
	s, known := securitySettings[c.r.PathValue("key")]
	if !known {
		return s, fmt.Errorf("security setting {key}: %w", core.NotFound)
	}
	return s, nil
}

func autoRedirect(c *call) (func(*org.Settings), error) {
	req, err := decode[api.AutoRedirectSSO](c)
	switch {
	case err != nil:
		return nil, err
	case req.Enabled == nil:
		return nil, core.BadField("enabled", "is missing; it is true or false")
	case *req.Enabled && req.Alias == "":
		return nil, core.BadField("idpAlias", "is missing; give the alias of the identity provider to go to")
	case !*req.Enabled:
		req.Alias = ""
	}
	return func(s *org.Settings) { s.AutoRedirect = req.Alias }, nil
}

func browserTimeout(c *call) (func(*org.Settings), error) {
	req, err := decode[api.BrowserSessionTimeout](c)
	if err != nil {
		return nil, err
	}
	const week = 7 * 24 * 60
	if req.IdleTimeout < 1 || req.IdleTimeout > week {
		return nil, core.BadField("idleTimeout", fmt.Sprintf("must be whole minutes from 1 to %d", week))
	}
	return func(s *org.Settings) { s.IdleTimeout = time.Duration(req.IdleTimeout) * time.Minute }, nil
}

func logoutRedirect(c *call) (func(*org.Settings), error) {
	req, err := decode[api.LogoutRedirectURI](c)
	if err != nil {
		return nil, err
	}
	if req.URI == nil {
		return nil, core.BadField("uri", `is missing; give an https address, or "" for a page of Fleetpass`)
	}
	return func(s *org.Settings) { s.LogoutURI = *req.URI }, nil
}

func enforceSSO(c *call) (func(*org.Settings), error) {
	req, err := decode[api.EnforceSSO](c)
	if err != nil {
		return nil, err
	}
	if req.Enabled == nil {
		return nil, core.BadField("enabled", "is missing; it is true or false")
	}
	people := make([]core.Email, 0, len(req.BreakGlass))
	for _, e := range req.BreakGlass {
		email, err := core.ParseEmail("breakGlass", e)
		if err != nil {
			return nil, err
		}
		people = append(people, email)
	}
	return func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = *req.Enabled, people }, nil
}

func wireSecurity(s org.Settings) api.SecuritySettings {
	redirects := s.AutoRedirect != ""
	w := api.SecuritySettings{
		AutoRedirectSSO:       api.AutoRedirectSSO{Enabled: &redirects, Alias: s.AutoRedirect},
		BrowserSessionTimeout: api.BrowserSessionTimeout{IdleTimeout: int64((s.IdleTimeout + time.Minute - 1) / time.Minute)},
		LogoutRedirectURI:     api.LogoutRedirectURI{URI: &s.LogoutURI},
		EnforceSSO:            api.EnforceSSO{Enabled: &s.EnforceSSO},
	}
	for _, e := range s.BreakGlass {
		w.EnforceSSO.BreakGlass = append(w.EnforceSSO.BreakGlass, string(e))
	}
	return w
}
