package directory

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Appoint makes the operations by which a person becomes System administrator of the account; they raise the tenant's
// revision, or check it. For a person who is there already it fails, naming the field email, unless the tenant has no
// administrator. It is access.Service.FirstAdministrator: rules are core/access's, which stands above this package.
type Appoint func(ctx context.Context, actor core.Actor, e core.Email, there bool) ([]store.Op, error)

// ErrWelcome answers a welcome token that is unknown, used or too old. It is core.Unauthenticated.
var ErrWelcome = fmt.Errorf("this welcome link was used, or has expired; ask the operator for another: %w", core.Unauthenticated)

// RedeemWelcome makes whoever holds a tenant's welcome token its administrator, as a local user with that e-mail and
// password, in the one commit that uses the token up. The link is for somebody new: an e-mail that belongs to an identity
// provider is refused, and so is a person who is there already, who signs in and is granted the role. Only in a tenant
// without any administrator such a person gets the password, is enabled, and everything that it held ends. The actor says
// in which tenant, in which request and from which address.
func (s *Service) RedeemWelcome(ctx context.Context, actor core.Actor, token, email, password string, appoint Appoint) (User, error) {
	t := actor.Tenant
	e, err := core.ParseEmail("email", email)
	if err != nil {
		return User{}, err
	}
	key := org.WelcomeKey(t)
	items, err := s.DB.Get(ctx, store.Meta(t), key)
	if err != nil {
		return User{}, err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return User{}, err
	}
	if ok, err := org.Welcomes(items[1], token); err != nil {
		return User{}, err
	} else if !ok { // before any hash is computed
		return User{}, ErrWelcome
	}
	hash, err := s.newHash(ctx, "password", e, password)
	if err != nil {
		return User{}, err
	}
	actor.Subject, actor.UserID = core.UserSubject(e), ""
	var u User
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, key, store.User(t, e))
		if err != nil {
			return err
		}
		if ok, err := org.Welcomes(items[0], token); err != nil {
			return err
		} else if !ok {
			return ErrWelcome
		}
		was, err := Users.Decode(items[1])
		if err != nil {
			return err
		}
		if was.Value.Connection != "" {
			return core.BadField("email", "belongs to an identity provider; give an e-mail of your own for this tenant")
		}
		appointed, err := appoint(ctx, actor, e, was.Exists())
		if err != nil {
			return err
		}
		now := s.Now()
		o := ops{list: append(appointed, store.Delete(key, items[0].Version))}
		if was.Exists() {
			u = was.Value
			u.Local, u.Disabled, u.Epoch, u.UpdatedAt = true, false, core.NewID(), now
			u.setPassword(hash, false, now)
			o.add(Users.Put(was.Key, was.Version, u))
			o.tellUser(t, now, actor, u, 0, audit.Update, "password", "welcome")
		} else {
			u = newUser(e, actor, now)
			u.setPassword(hash, false, now)
			o.create(t, now, actor, u)
		}
		return o.commit(ctx, s.DB)
	})
	if err != nil {
		return User{}, err
	}
	return u, nil
}
