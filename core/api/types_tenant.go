package api

import "time"

// Settings is what a tenant's administrator may choose: GET and PUT /api/v1/tenant/settings. A PUT replaces them all.
// Durations are in seconds.
type Settings struct {
	IdleTimeout      int64 `json:"idleTimeout"`      // a browser's session unused for that long ends: 60 to 604800
	AbsoluteLifetime int64 `json:"absoluteLifetime"` // a sign-in ends after that, used or not: 300 to 2592000
	AccessTokenLife  int64 `json:"accessTokenLife"`  // of tokens for Fleetpass's own API: 60 to 3600
	ClusterTokenLife int64 `json:"clusterTokenLife"` // of tokens for a cluster, which bounds taking access away: 60 to 3600
	PasswordGrant    bool  `json:"passwordGrant"`    // allow the OAuth password grant to local users; RFC 9700 §2.4 is against it
}

// Key is one of a tenant's signing keys: GET /api/v1/keys.
type Key struct {
	ID          string    `json:"kid"`
	Algorithm   string    `json:"algorithm"`
	Signs       bool      `json:"signs"`               // tokens are signed by it now
	PublishedAt time.Time `json:"publishedAt"`         // in the JWKS since
	ActiveAt    time.Time `json:"activeAt"`            // signs from then on
	SignsUntil  time.Time `json:"signsUntil,omitzero"` // absent: it has no successor yet
	RetiredAt   time.Time `json:"retiredAt,omitzero"`  // out of the JWKS from then on
	RevokedAt   time.Time `json:"revokedAt,omitzero"`  // absent: it was not revoked
}
