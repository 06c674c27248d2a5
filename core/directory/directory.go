// Package directory owns who there is in a tenant, and how each proves itself: people with passwords, groups, and
// applications with secrets. What they may do is core/access's business; signing in at an identity provider is core/sso's.
// Callers ask core/access first; here every change is checked, recorded and told in one commit.
package directory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
	"github.com/fleetpass/fleetpass/events"
)

// User is a person.
type User struct {
	ID        core.UserID `json:"id"`
	Email     core.Email  `json:"email"`
	FirstName string      `json:"firstName,omitzero"`
	LastName  string      `json:"lastName,omitzero"`

	Local      bool      `json:"local,omitzero"`      // signs in with a password here
	Connection string    `json:"connection,omitzero"` // the identity provider that the person belongs to, unless local
	Subject    string    `json:"subject,omitzero"`    // the provider's stable id of the person, if it has one
	Source     string    `json:"source,omitzero"`     // what that is an id at: see Said
	Provided   []string  `json:"provided,omitzero"`   // which fields of the profile the provider said at the last sign-in
	Password   *Password `json:"password,omitzero"`
	Disabled   bool      `json:"disabled,omitzero"`

	Groups    []core.GroupName `json:"groups,omitzero"`    // given here, sorted
	IDPGroups []core.GroupName `json:"idpGroups,omitzero"` // as the identity provider said at the last sign-in, sorted

	// Epoch is random and changes when everything that the person holds must end: a changed password, a forced logout, a
	// disabling. Sessions and refresh families remember it and end when it differs.
	Epoch string `json:"epoch"`

	UID                 *int64  `json:"uid,omitzero"` // who the person's containers run as
	GID                 *int64  `json:"gid,omitzero"`
	SupplementaryGroups []int64 `json:"supplementaryGroups,omitzero"`

	CreatedAt time.Time    `json:"createdAt"`
	CreatedBy core.Subject `json:"createdBy"`
	UpdatedAt time.Time    `json:"updatedAt"`
	LastLogin time.Time    `json:"lastLogin,omitzero"`
}

// AllGroups is every group of the person, sorted, each once.
func (u User) AllGroups() []core.GroupName {
	all := slices.Concat(u.Groups, u.IDPGroups)
	slices.Sort(all)
	return slices.Compact(all)
}

// Password is how a local user proves itself.
type Password struct {
	PHC       string    `json:"phc"`                // see hash.go
	Temporary bool      `json:"temporary,omitzero"` // must be changed at the next sign-in
	ChangedAt time.Time `json:"changedAt"`
	Until     time.Time `json:"until,omitzero"` // a temporary password proves nothing from then on
}

// MustChange says whether the person has to choose a new password before anything else.
func (u User) MustChange() bool { return u.Password != nil && u.Password.Temporary }

// Group is a group that is given here. Groups of identity providers need no record: a rule may name them all the same.
type Group struct {
	Name      core.GroupName `json:"name"`
	CreatedAt time.Time      `json:"createdAt"`
	CreatedBy core.Subject   `json:"createdBy"`
}

// Application is a program that signs in by itself, or that people sign in at.
type Application struct {
	ID             core.ApplicationID `json:"id"` // the client id
	Name           string             `json:"name"`
	Public         bool               `json:"public,omitzero"` // has no secret (RFC 6749 §2.1)
	Secrets        []Secret           `json:"secrets,omitzero"`
	Enabled        bool               `json:"enabled,omitzero"`
	RedirectURIs   []string           `json:"redirectUris,omitzero"`
	PostLogoutURIs []string           `json:"postLogoutUris,omitzero"`
	Keys           []trust.PublicKey  `json:"keys,omitzero"`   // that it proves itself with, beside its secrets
	Trusts         []trust.Trust      `json:"trusts,omitzero"` // which tokens of trusted issuers stand for it
	CreatedAt      time.Time          `json:"createdAt"`
	CreatedBy      core.Subject       `json:"createdBy"`
	UpdatedAt      time.Time          `json:"updatedAt"`
	LastLogin      time.Time          `json:"lastLogin,omitzero"` // to the hour: see Seen
}

// Secret is one secret of an application. Only a keyed hash of it is kept.
type Secret struct {
	MAC       []byte    `json:"mac"`
	CreatedAt time.Time `json:"createdAt"`
	Until     time.Time `json:"until,omitzero"` // it proves nothing from then on; zero: it stays
}

// MAC makes a keyed hash under a tenant's own secret. A keys.Ring does.
type MAC interface {
	MAC(ctx context.Context, tenant core.TenantID, purpose string, msg []byte) ([]byte, error)
}

// Service changes the directory and checks proofs. All fields but Cost are needed.
type Service struct {
	DB   store.DB
	Ring MAC
	Now  func() time.Time // UTC

	// Keeps refuses to lose the tenant's last administrator. It is asked before a person is disabled or deleted, after the
	// tenant was read and before the commit that expects it unchanged, so that no two such changes can pass each other. It
	// is access.Service.KeepsAdministrator: rules are core/access's, which stands above this package. Optional.
	Keeps func(ctx context.Context, t core.TenantID, without core.Subject) error

	// Cost is what a password hash costs. The zero Cost is DefaultCost; a password hashed at another one is hashed anew at
	// the next sign-in.
	Cost Cost
}

// The tables of the directory, for reads of several items at once.
var (
	Users        store.Table[User]
	Groups       store.Table[Group]
	Applications store.Table[Application]
)

// pointer is what an index item of the directory holds: whom its key stands for.
type pointer struct {
	Email core.Email         `json:"email,omitzero"`
	ID    core.ApplicationID `json:"id,omitzero"`
}

var pointers store.Table[pointer]

// ops gathers the operations of one commit and keeps the first error.
type ops struct {
	list []store.Op
	err  error
}

func (o *ops) add(op store.Op, err error) {
	if err != nil && o.err == nil {
		o.err = err
	}
	o.list = append(o.list, op)
}

// bump raises the tenant's revision in the commit.
func (o *ops) bump(meta store.Record[org.Tenant]) core.Revision {
	op, rev, err := org.Bump(meta)
	o.add(op, err)
	return rev
}

func (o *ops) emit(t core.TenantID, now time.Time, actor core.Actor, f events.Fact) {
	o.add(store.Emit(t, now, actor, f))
}

func (o *ops) commit(ctx context.Context, db store.DB) error {
	if o.err != nil {
		return o.err
	}
	return db.Commit(ctx, o.list...)
}

// User reads a person by e-mail.
func (s *Service) User(ctx context.Context, t core.TenantID, e core.Email) (store.Record[User], error) {
	return Users.Get(ctx, s.DB, store.User(t, e))
}

// UserByID reads a person by id: two round trips.
func (s *Service) UserByID(ctx context.Context, t core.TenantID, id core.UserID) (store.Record[User], error) {
	p, err := pointers.Get(ctx, s.DB, store.UserByID(t, id))
	if err != nil {
		return store.Record[User]{}, fmt.Errorf("user: %w", core.NotFound)
	}
	u, err := s.User(ctx, t, p.Value.Email)
	if err == nil && u.Value.ID != id { // deleted, and another person came to have the e-mail
		return store.Record[User]{}, fmt.Errorf("user: %w", core.NotFound)
	}
	return u, err
}

// Application reads an application by client id.
func (s *Service) Application(ctx context.Context, t core.TenantID, id core.ApplicationID) (store.Record[Application], error) {
	return Applications.Get(ctx, s.DB, store.Application(t, id))
}

// Group reads a group.
func (s *Service) Group(ctx context.Context, t core.TenantID, g core.GroupName) (store.Record[Group], error) {
	return Groups.Get(ctx, s.DB, store.Group(t, g))
}
