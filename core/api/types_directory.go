package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// UserRequest creates a local user: POST /api/v1/users.
type UserRequest struct {
	Email     string `json:"email"`
	FirstName string `json:"firstName,omitzero"`
	LastName  string `json:"lastName,omitzero"`
	// ResetPassword is understood and may only be true: a password that somebody else knows is always to be changed.
	ResetPassword *bool `json:"resetPassword,omitempty"`
	// Notify is understood and may only be false: there is no mail to send.
	Notify bool `json:"notify,omitzero"`
}

// NewUser is the answer to UserRequest. The temporary password is shown this once.
type NewUser struct {
	ID           core.UserID `json:"id"`
	Username     core.Email  `json:"username"`
	TempPassword string      `json:"tempPassword"`
}

// UserPatch enables or disables a user, or changes what is known about one: PATCH /api/v1/users/{id}. What is left out
// stays. The two are different acts and take a request each.
type UserPatch struct {
	Enabled *bool `json:"enabled,omitempty"`

	FirstName *string `json:"firstName,omitzero"`
	LastName  *string `json:"lastName,omitzero"`
	// Who the person is in the workloads that they start, and on the storage that these share. Zero takes a number away, and
	// an empty list the groups.
	UID                 *int64  `json:"uid,omitempty"`
	GID                 *int64  `json:"gid,omitempty"`
	SupplementaryGroups []int64 `json:"supplementaryGroups,omitzero"`
}

// TempPassword is the answer to POST /api/v1/users/{id}/password. It is shown this once.
type TempPassword struct {
	TempPassword string `json:"tempPassword"`
}

// User is a person.
type User struct {
	ID        core.UserID      `json:"id"`
	Username  core.Email       `json:"username"` // the e-mail
	FirstName string           `json:"firstName,omitzero"`
	LastName  string           `json:"lastName,omitzero"`
	UID       *int64           `json:"uid,omitempty"`
	GID       *int64           `json:"gid,omitempty"`
	GIDs      []int64          `json:"supplementaryGroups,omitempty"`
	IsLocal   bool             `json:"isLocal"`
	Enabled   bool             `json:"enabled"`
	Groups    []core.GroupName `json:"groups"`
	CreatedBy string           `json:"createdBy"`
	CreatedAt time.Time        `json:"createdAt"`
	UpdatedAt time.Time        `json:"updatedAt"`
	LastLogin time.Time        `json:"lastLogin,omitzero"`
}

// GroupRequest creates a group: POST /api/v1/groups.
type GroupRequest struct {
	Name string `json:"name"`
}

// Group is a group whose members are given here. Groups of identity providers have no record and are not listed.
type Group struct {
	Name      core.GroupName `json:"name"`
	CreatedAt time.Time      `json:"createdAt"`
	CreatedBy string         `json:"createdBy"`
}

// ApplicationRequest creates an application: POST /api/v1/service-accounts, or /api/v1/apps.
type ApplicationRequest struct {
	Name           string   `json:"name"`
	RedirectURIs   []string `json:"redirectUris,omitempty"`           // where people who sign in at it may be sent back to
	PostLogoutURIs []string `json:"postLogoutRedirectUris,omitempty"` // and after they signed out
	Public         bool     `json:"public,omitzero"`                  // it can keep no secret and gets none
}

// ApplicationPatch enables or disables an application, or says anew where people may be sent back to: PATCH
// /api/v1/service-accounts/{id}. What is left out stays; an empty list takes all away. The two take a request each.
type ApplicationPatch struct {
	Enabled        *bool    `json:"enabled,omitempty"`
	RedirectURIs   []string `json:"redirectUris,omitzero"`
	PostLogoutURIs []string `json:"postLogoutRedirectUris,omitzero"`
}

// Application is an application, also called a service account.
type Application struct {
	ID             core.ApplicationID `json:"id"`
	Name           string             `json:"name"`
	ClientID       core.ApplicationID `json:"clientId"`
	ClientSecret   string             `json:"clientSecret,omitzero"` // only in the answer that made it
	Secret         string             `json:"secret,omitzero"`       // the same under /api/v1/apps, as older clients expect it
	Enabled        bool               `json:"enabled"`
	Public         bool               `json:"public"`
	RedirectURIs   []string           `json:"redirectUris,omitempty"`
	PostLogoutURIs []string           `json:"postLogoutRedirectUris,omitempty"`
	CreatedBy      string             `json:"createdBy"`
	CreatedAt      time.Time          `json:"createdAt"`
	UpdatedAt      time.Time          `json:"updatedAt"`
	LastLogin      time.Time          `json:"lastLogin,omitzero"`
}

// Me is the caller: GET /api/v1/me.
type Me struct {
	ID          string           `json:"id"`       // of a person, else the client id
	Username    string           `json:"username"` // the e-mail, or the application's name
	SubjectType SubjectType      `json:"subjectType"`
	TenantID    core.TenantID    `json:"tenantId"`
	FirstName   string           `json:"firstName,omitzero"`
	LastName    string           `json:"lastName,omitzero"`
	IsLocal     bool             `json:"isLocal"`
	Groups      []core.GroupName `json:"groups"`
	LastLogin   time.Time        `json:"lastLogin,omitzero"`

	UID                 *int64  `json:"uid,omitzero"` // who the person's containers run as
	GID                 *int64  `json:"gid,omitzero"`
	SupplementaryGroups []int64 `json:"supplementaryGroups,omitempty"`
}

// PasswordChange changes the caller's own password: POST /api/v1/me/password.
type PasswordChange struct {
	CurrentPassword string `json:"currentPassword"`
	NewPassword     string `json:"newPassword"`
}
