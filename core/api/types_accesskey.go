package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// AccessKeyRequest makes a personal access key for the caller: POST /api/v1/access-keys, or /api/v1/user-applications.
type AccessKeyRequest struct {
	Name      string `json:"name"`
	ExpiresIn *int64 `json:"expiresIn,omitempty"` // seconds, 60 to 31622400 (366 days); default: 90 days
}

// AccessKeyPatch lets an access key be used, or no more: PATCH /api/v1/access-keys/{id}.
type AccessKeyPatch struct {
	Enabled *bool `json:"enabled,omitempty"`
}

// AccessKey is a personal access key. Tokens that are made with its client id and secret are the owner's own. It works until
// it expires, is disabled or deleted, and its owner's account goes; a changed password or a forced logout does not end it. Of
// a person who signs in at an identity provider it works for 30 days after their last sign-in there.
type AccessKey struct {
	ID           core.ApplicationID `json:"id"`
	Name         string             `json:"name"`
	ClientID     core.ApplicationID `json:"clientId"`
	ClientSecret string             `json:"clientSecret,omitzero"` // only in the answer that made it
	Enabled      bool               `json:"enabled"`
	Owner        core.Email         `json:"owner"`
	CreatedAt    time.Time          `json:"createdAt"`
	UpdatedAt    time.Time          `json:"updatedAt"`
	ExpiresAt    time.Time          `json:"expiresAt"`
	LastUsed     time.Time          `json:"lastUsed,omitzero"` // to the hour
}
