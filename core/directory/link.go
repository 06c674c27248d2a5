package directory

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// ProvesHere says whether the person has chosen a password, with which it can prove who it is here. A temporary one is not
// chosen, and expires.
func (u User) ProvesHere() bool { return u.canSignIn() && !u.MustChange() }

// Approve judges a change of how a person signs in, before it is committed: tenant is as it was read, and the commit expects
// it so. An error ends the change.
type Approve func(ctx context.Context, tenant store.Record[org.Tenant], before, after User) error

// Link has a person belong to a connection from now on, by its ID; with "" the person becomes local, with a temporary
// password, which is returned here and never again. Everything that the person holds ends, the groups of the former provider
// are taken, and which account there the person was is forgotten: the next sign-in says. It is core/sso's to say which
// connections there are, and whether somebody can still administer the tenant; callers ask sso.Service.Link.
func (s *Service) Link(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, connection string, approve Approve) (u User, temporary string, err error) {
	hash, reason := "", "belongs to an identity provider"
	if connection == "" {
		temporary, reason = temporaryPassword(), "is local"
		if hash, err = hashPassword(ctx, s.cost(), []byte(temporary)); err != nil {
			return User{}, "", err
		}
	}
	same := false
	u, err = s.changeUser(ctx, actor, t, e, edit{action: audit.Update, change: "connection", reason: reason, access: true, ends: true, approve: approve,
		do: func(u *User, _ []store.Item) error {
			switch {
			case connection == "" && u.Local:
				return fmt.Errorf("user %s is local: %w", e, core.Exists)
			case connection == "":
				u.Local, u.Connection, u.Subject, u.Provided = true, "", "", nil
				u.setPassword(hash, true, s.Now())
			case u.Connection == connection && u.Subject == "":
				same = true
				return errSame
			default: // what the former provider said of the person stays until the next one speaks: see follow
				u.Local, u.Connection, u.Subject, u.Password = false, connection, "", nil
			}
			u.IDPGroups = nil
			return nil
		}})
	if err != nil || same {
		temporary = ""
	}
	return u, temporary, err
}
