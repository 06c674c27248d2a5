package directory

import (
	"context"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// ReplaceTemporary lets a person who has just proved a temporary password, at that epoch, choose a password of its own.
// It fails with ErrSignIn if the person changed since, or the tenant has come to enforce single sign-on: a password that may
// not be used is not to be chosen either. The user returned has a new epoch.
func (s *Service) ReplaceTemporary(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, epoch, next string) (User, error) {
	plain, err := checkPassword("newPassword", e, next)
	if err != nil {
		return User{}, err
	}
	items, err := s.DB.Get(ctx, store.Meta(t), store.User(t, e))
	if err != nil {
		return User{}, err
	}
	tenant, err := org.Decode(items[0])
	if err != nil {
		return User{}, err
	}
	rec, err := Users.Decode(items[1])
	if err != nil {
		return User{}, err
	}
	if u := rec.Value; !tenant.Value.Settings.TakesPassword(e) || u.Epoch != epoch || !u.canSignIn() || !u.MustChange() {
		return User{}, ErrSignIn
	}
	h, err := parsePHC(rec.Value.Password.PHC)
	if err != nil {
		return User{}, err
	}
	if same, err := h.matches(ctx, plain); err != nil {
		return User{}, err
	} else if same {
		return User{}, core.BadField("newPassword", "must differ from the temporary one")
	}
	hash, err := hashPassword(ctx, s.cost(), plain)
	if err != nil {
		return User{}, err
	}
	return s.storePassword(ctx, actor, t, e, hash, false, epoch)
}
