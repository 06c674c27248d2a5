package org

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
)

// Settings is what a tenant's administrator may choose. Defaults returns the defaults; Check holds the bounds.
type Settings struct {
	IdleTimeout      time.Duration // a session unused for that long ends. Default 60 min; 1 min to 7 days
	AbsoluteLifetime time.Duration // a session ends after that, used or not. Default 12 h; 5 min to 30 days
	AccessTokenLife  time.Duration // of tokens for Fleetpass's own API. Default 10 min; 1 to 60 min
	ClusterTokenLife time.Duration // of tokens for one cluster: the bound on taking access away. Default 5 min; 1 to 60 min
	PasswordGrant    bool          // allow the OAuth password grant to local users. Default false (RFC 9700 §2.4)

	Security // changed by sso.Service.SetSecurity alone, which sees to it that somebody can still sign in
}

// Security is what a tenant's administrator may choose about signing in at identity providers. Its fields are Settings'.
type Security struct {
	EnforceSSO   bool         // passwords are for BreakGlass alone. Default false
	BreakGlass   []core.Email // local people who may use a password even so: sorted, at most MaxBreakGlass
	AutoRedirect string       // alias of the connection that the login page goes to by itself. Default none
	LogoutURI    string       // https URL that a browser is taken to after signing out. Default: a page of ours
}

// MaxBreakGlass bounds Security.BreakGlass: who may pass by the identity provider must be few to be watched.
const MaxBreakGlass = 20

// TakesPassword says whether the person of that e-mail may prove who they are with a password here.
func (s Security) TakesPassword(e core.Email) bool {
	return !s.EnforceSSO || slices.Contains(s.BreakGlass, e)
}

// equal compares, an empty list being none.
func (s Security) equal(o Security) bool {
	return s.EnforceSSO == o.EnforceSSO && s.AutoRedirect == o.AutoRedirect && s.LogoutURI == o.LogoutURI &&
		slices.Equal(s.BreakGlass, o.BreakGlass)
}

func (s Security) check() error {
	if len(s.BreakGlass) > MaxBreakGlass {
		return core.BadField("breakGlass", fmt.Sprintf("must be at most %d people", MaxBreakGlass))
	}
	for i, e := range s.BreakGlass {
		if p, err := core.ParseEmail("breakGlass", string(e)); err != nil {
			return err
		} else if p != e {
			return core.BadField("breakGlass", fmt.Sprintf("%q must be written %q", e, p))
		}
		if i > 0 && s.BreakGlass[i-1] >= e {
			return core.BadField("breakGlass", "must be sorted, each person once")
		}
	}
	if s.LogoutURI == "" {
		return nil
	}
	const fix = "must be an https URL of at most 1000 bytes, without a user and a fragment"
	u, err := url.Parse(s.LogoutURI)
	if err != nil || len(s.LogoutURI) > 1000 || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(s.LogoutURI, "#") {
		return core.BadField("logoutUri", fix)
	}
	return nil
}

// Defaults is what a new tenant has.
func Defaults() Settings {
	return Settings{
		IdleTimeout:      60 * time.Minute,
		AbsoluteLifetime: 12 * time.Hour,
		AccessTokenLife:  10 * time.Minute,
		ClusterTokenLife: 5 * time.Minute,
	}
}

// Check refuses settings outside the bounds. Durations are whole seconds.
func (s Settings) Check() error {
	const day = 24 * time.Hour
	for _, b := range []struct {
		field    string
		d        time.Duration
		min, max time.Duration
	}{
		{"idleTimeout", s.IdleTimeout, time.Minute, 7 * day},
		{"absoluteLifetime", s.AbsoluteLifetime, 5 * time.Minute, 30 * day},
		{"accessTokenLife", s.AccessTokenLife, time.Minute, time.Hour},
		{"clusterTokenLife", s.ClusterTokenLife, time.Minute, time.Hour},
	} {
		if b.d < b.min || b.d > b.max || b.d%time.Second != 0 {
			return core.BadField(b.field, fmt.Sprintf("must be whole seconds from %d to %d", b.min/time.Second, b.max/time.Second))
		}
	}
	if s.IdleTimeout > s.AbsoluteLifetime {
		return core.BadField("idleTimeout", "must not be longer than absoluteLifetime")
	}
	return s.Security.check()
}

// storedSettings is the stored form: durations in seconds. What an older version of the code did not store gets its
// default.
type storedSettings struct {
	IdleTimeout      int64 `json:"idleTimeout"`
	AbsoluteLifetime int64 `json:"absoluteLifetime"`
	AccessTokenLife  int64 `json:"accessTokenLife"`
	ClusterTokenLife int64 `json:"clusterTokenLife"`
	PasswordGrant    bool  `json:"passwordGrant,omitzero"`

	EnforceSSO   bool         `json:"enforceSso,omitzero"`
	BreakGlass   []core.Email `json:"breakGlass,omitempty"`
	AutoRedirect string       `json:"autoRedirect,omitempty"`
	LogoutURI    string       `json:"logoutUri,omitempty"`
}

// MarshalJSON writes the stored form.
func (s Settings) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedSettings{
		int64(s.IdleTimeout / time.Second), int64(s.AbsoluteLifetime / time.Second),
		int64(s.AccessTokenLife / time.Second), int64(s.ClusterTokenLife / time.Second), s.PasswordGrant,
		s.EnforceSSO, s.BreakGlass, s.AutoRedirect, s.LogoutURI,
	})
}

// UnmarshalJSON reads the stored form.
func (s *Settings) UnmarshalJSON(data []byte) error {
	var w storedSettings
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*s = Defaults()
	s.PasswordGrant = w.PasswordGrant
	s.Security = Security{w.EnforceSSO, w.BreakGlass, w.AutoRedirect, w.LogoutURI}
	for _, f := range []struct {
		into *time.Duration
		from int64
	}{
		{&s.IdleTimeout, w.IdleTimeout},
		{&s.AbsoluteLifetime, w.AbsoluteLifetime},
		{&s.AccessTokenLife, w.AccessTokenLife},
		{&s.ClusterTokenLife, w.ClusterTokenLife},
	} {
		if f.from != 0 {
			*f.into = time.Duration(f.from) * time.Second
		}
	}
	return nil
}
