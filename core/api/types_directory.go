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

// SourceLocal is the source of groups whose members are given here.
const SourceLocal = "local"

// Group is a group that access rules can name: one whose members are given here, or one that an identity provider told of when
// somebody signed in. One name may be both. Groups that nobody has come with yet need not be here to be named in a rule.
type Group struct {
	Name      core.GroupName `json:"name"`
	Source    string         `json:"source"`             // "local", or else the alias of the identity provider
	CreatedAt time.Time      `json:"createdAt,omitzero"` // of a local one
	CreatedBy string         `json:"createdBy,omitzero"`
	FirstSeen time.Time      `json:"firstSeen,omitzero"` // when an identity provider first told of it
	LastSeen  time.Time      `json:"lastSeen,omitzero"`  // when somebody last came to be in it by one, to the hour
	SeenBy    core.Email     `json:"seenBy,omitzero"`    // who the first to come with it was
	SeenAt    string         `json:"seenAt,omitzero"`    // the alias of the identity provider that told of it last
}

// GroupDetails is a group with who is in it and what they may do through it: GET /api/v1/groups/{name}.
type GroupDetails struct {
	Group
	AccessRules []AccessRule  `json:"accessRules"`          // those that the caller may view, at most 500
	Members     []GroupMember `json:"members"`              // the first page of them
	NextMembers string        `json:"nextMembers,omitzero"` // the cursor of the next: GET /api/v1/groups/{name}/members
}

// GroupMember is a person in a group.
type GroupMember struct {
	ID       core.UserID `json:"id"`
	Username core.Email  `json:"username"`
	Enabled  bool        `json:"enabled"`
	Given    bool        `json:"given"` // was put into it here
	Told     bool        `json:"told"`  // is in it as their identity provider says
}

// ApplicationRequest creates an application: POST /api/v1/service-accounts, or /api/v1/apps.
type ApplicationRequest struct {
	Name           string   `json:"name"`
	RedirectURIs   []string `json:"redirectUris,omitempty"`           // where people who sign in at it may be sent back to
	PostLogoutURIs []string `json:"postLogoutRedirectUris,omitempty"` // and after they signed out
	Public         bool     `json:"public,omitzero"`                  // it can keep no secret and gets none

	JWKS   *JSONWebKeySet     `json:"jwks,omitempty"`   // public keys, at most 5, that it proves itself with (private_key_jwt, RFC 7523 §2.2)
	Trusts []ApplicationTrust `json:"trusts,omitempty"` // which tokens of trusted issuers stand for it, at most 10
}

// ApplicationPatch enables or disables an application, or says anew where people may be sent back to and what it proves itself
// with: PATCH /api/v1/service-accounts/{id}. What is left out stays; an empty list takes all away. The two take a request each.
type ApplicationPatch struct {
	Enabled        *bool    `json:"enabled,omitempty"`
	RedirectURIs   []string `json:"redirectUris,omitzero"`
	PostLogoutURIs []string `json:"postLogoutRedirectUris,omitzero"`

	JWKS   *JSONWebKeySet     `json:"jwks,omitempty"`
	Trusts []ApplicationTrust `json:"trusts,omitzero"`
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
	JWKS           *JSONWebKeySet     `json:"jwks,omitempty"`
	Trusts         []ApplicationTrust `json:"trusts,omitempty"`
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
