package org

import (
	"fmt"
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
	return nil
}

// storedSettings is the stored form: durations in seconds. What an older version of the code did not store gets its
// default.
type storedSettings struct {
	IdleTimeout      int64 `json:"idleTimeout"`
	AbsoluteLifetime int64 `json:"absoluteLifetime"`
	AccessTokenLife  int64 `json:"accessTokenLife"`
	ClusterTokenLife int64 `json:"clusterTokenLife"`
	PasswordGrant    bool  `json:"passwordGrant,omitzero"`
}

// MarshalJSON writes the stored form.
func (s Settings) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedSettings{
		int64(s.IdleTimeout / time.Second), int64(s.AbsoluteLifetime / time.Second),
		int64(s.AccessTokenLife / time.Second), int64(s.ClusterTokenLife / time.Second), s.PasswordGrant,
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
