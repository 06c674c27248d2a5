package sso

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Link has a person belong to the connection of that alias from now on: the password goes, and the next sign-in is there. With
// "" the person becomes local, with a temporary password, which is returned here and never again. It is the only way by which
// somebody who is here already comes to another connection. Everything that the person holds ends. Linking a person to their
// own connection again forgets which account there they are.
//
// A connection that does not own the e-mail's domain could never assert it: core.Invalid. The last administrator who could
// sign in cannot be linked away: ErrLockedOut, or ErrBreakGlass while single sign-on is enforced.
func (s *Service) Link(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, a Alias) (directory.User, string, error) {
	to := ""
	if a != "" {
		rec, err := s.Connection(ctx, t, a)
		if err != nil {
			return directory.User{}, "", err
		}
		to = rec.Value.ID
	}
	return s.Directory.Link(ctx, actor, t, e, to, func(ctx context.Context, meta store.Record[org.Tenant], _, after directory.User) error {
		st, err := s.state(ctx, t)
		if err != nil {
			return err
		}
		if st.meta.Version != meta.Version {
			return fmt.Errorf("the tenant: %w", core.Conflict)
		}
		if to != "" {
			switch owner, found := st.catalog.Owner(DomainOf(e)); {
			case !st.has(to):
				return fmt.Errorf("identity provider %s: %w", a, core.NotFound) // deleted meanwhile
			case !found || owner.ID != to:
				return core.BadField("idp", fmt.Sprintf("%s does not own the domain %s, so it could not sign %s in; add it to its domains first", a, DomainOf(e), e))
			}
		}
		now := standing{st.meta.Value.Settings, st.connections}
		return s.keeps(ctx, st.meta, now, now, &after)
	})
}

// has says whether a connection of that ID is there.
func (st *state) has(id string) bool {
	for _, c := range st.connections {
		if c.ID == id {
			return true
		}
	}
	return false
}
