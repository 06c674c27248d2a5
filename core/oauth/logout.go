package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// Logout is what to do with a logout request (OpenID Connect RP-Initiated Logout 1.0 §2).
type Logout struct {
	Confirm bool   // ask the person first: nothing proves that the request is theirs
	Return  string // where the browser goes afterwards; empty: it stays with us
}

// Logout judges a logout request for the browser's session (nil: none). Only an ID token of that very session proves that
// the client which asks is one that the person is signed in at; anything else is confirmed by the person, or any site
// could sign people out. A return address that is not registered, to the byte, for the client is ignored (§3).
func (s *Server) Logout(ctx context.Context, t core.TenantID, p Params, c *session.Current) (Logout, error) {
	out, client := Logout{Confirm: c != nil}, core.ApplicationID(p["client_id"])
	if raw := p["id_token_hint"]; raw != "" {
		id, err := s.hint(ctx, t, raw)
		switch {
		case errors.Is(err, core.Unavailable):
			return Logout{}, err
		case err != nil, client != "" && string(client) != id.Audience:
			return out, nil // a hint that does not hold makes the whole request worthless
		}
		client = core.ApplicationID(id.Audience)
		if c != nil && id.Family != "" && id.Family == c.ID && id.Subject == string(c.User) {
			out.Confirm = false
		}
	}
	uri := p["post_logout_redirect_uri"]
	if uri == "" || client == CLI || !clientIDForm(string(client)) || !sendable(uri) {
		return out, nil
	}
	items, err := s.DB.Get(ctx, store.Application(t, client), store.Meta(t))
	if err != nil {
		return Logout{}, err
	}
	if _, err := org.Decode(items[1]); err != nil {
		return Logout{}, err
	}
	known, err := s.clientOf(client, items)
	if errors.Is(err, core.NotFound) {
		return out, nil
	} else if err != nil {
		return Logout{}, err
	}
	if slices.Contains(known.PostLogoutURIs, uri) {
		out.Return = uri
		if state := p["state"]; state != "" {
			out.Return = withQuery(uri, url.Values{"state": {state}})
		}
	}
	return out, nil
}

// hint reads an ID token of ours that a client sends back as a hint. It may have expired (§2), and it proves nothing about
// who sends it.
func (s *Server) hint(ctx context.Context, t core.TenantID, raw string) (token.ID, error) {
	return token.ParseHint(ctx, s.Ring, t, s.Issuer(t), raw, s.Now())
}
