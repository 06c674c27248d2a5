package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// ErrSignIn is the one answer to a sign-in that fails: to a wrong password, and to a person who is unknown, disabled, belongs to
// an identity provider, or would have to, since the tenant enforces single sign-on. It is core.Unauthenticated.
var ErrSignIn = fmt.Errorf("the e-mail or the password is wrong: %w", core.Unauthenticated)

// ErrExpired answers the right temporary password, too late. Who knows it learns nothing new. It is core.Unauthenticated.
var ErrExpired = fmt.Errorf("the temporary password has expired; ask an administrator for another: %w", core.Unauthenticated)

// Authenticate checks a local user's password. The actor says in which tenant, in which request and from which address; who
// it is remains to be seen. The e-mail may be as a person typed it; knownDevice says that the person has signed in on this
// device before. It fails with ErrSignIn, ErrExpired, or core.Throttled. The work done and the answer given are the same
// whether the person exists or not. The failure of a person who exists is recorded in the audit log here, and so is, for
// whatever name, that delays begin; a success is the caller's to record, with the session that it opens. Whoever MustChange
// may do nothing else.
func (s *Service) Authenticate(ctx context.Context, actor core.Actor, email, password string, knownDevice bool) (User, error) {
	plain, ok := normalize(password)
	if !ok {
		return User{}, ErrSignIn // nobody has such a password
	}
	e, err := core.ParseEmail("email", email)
	if err != nil {
		e = "-" // nobody's name; counted all the same
	}
	if crowded() {
		return User{}, errCrowd // before it is counted
	}
	t, now := actor.Tenant, s.Now()
	g := newGate(t, string(e), actor.Address, knownDevice)
	items, err := g.enter(ctx, s.DB, now, store.Meta(t), store.User(t, e))
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
	h, why := dummy(s.cost()), "wrong e-mail or password"
	if !tenant.Value.Settings.TakesPassword(e) {
		why = "single sign-on is enforced: the password was not looked at"
	} else if rec.Value.canSignIn() {
		if h, err = parsePHC(rec.Value.Password.PHC); err != nil {
			return User{}, err
		}
	}
	right, err := h.matches(ctx, plain)
	if err != nil {
		return User{}, err
	}
	if !right {
		return User{}, s.refused(ctx, actor, e, rec.Exists(), why, g)
	}
	if p := rec.Value.Password; p.Temporary && !now.Before(p.Until) {
		return User{}, ErrExpired
	}
	fresh := ""
	if h.Cost != s.cost() {
		// In a crowd the old hash does until the next sign-in.
		if fresh, err = hashPassword(ctx, s.cost(), plain); err != nil && !errors.Is(err, core.Throttled) {
			return User{}, err
		}
	}
	return s.signedIn(ctx, t, rec.Value, fresh, g)
}

func (u User) canSignIn() bool { return u.Local && !u.Disabled && u.Password != nil }

// refused counts a failed sign-in against its place, records it with the reason, and answers it. Names that do not exist cost whoever makes
// them up nothing, so their failures are counted, and only where delays begin there is a record of them.
func (s *Service) refused(ctx context.Context, actor core.Actor, e core.Email, exists bool, why string, g *gate) error {
	actor.Subject, actor.UserID = core.UserSubject(e), ""
	note := func(reason string) (store.Op, error) {
		return audit.Op(actor, s.Now(), audit.Record{
			Action: audit.SignIn, EntityType: audit.EntityUser, EntityID: string(e), Result: audit.Failed, Reason: reason,
		})
	}
	err := store.Retry(ctx, func() error {
		wrong, err := note(why)
		if err != nil {
			return err
		}
		var o ops
		begins, err := g.fail(ctx, s.DB, s.Now(), &o, exists, wrong)
		if err != nil {
			return err
		}
		if begins {
			o.add(note("too many failures for this name or from " + Place(actor.Address) + "; the next attempts are delayed"))
		}
		return o.commit(ctx, s.DB)
	})
	if errors.Is(err, core.Conflict) { // so many from one place at once that this one could not be counted
		return errCrowd
	}
	if err != nil {
		return err
	}
	return ErrSignIn
}

// signedIn takes the count of the attempt back and remembers the time, unless the person changed while the password was
// being checked.
func (s *Service) signedIn(ctx context.Context, t core.TenantID, was User, rehashed string, g *gate) (User, error) {
	var u User
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, append([]store.Key{store.User(t, was.Email)}, g.keys...)...)
		if err != nil {
			return err
		}
		rec, err := Users.Decode(items[0])
		if err != nil {
			return err
		}
		u = rec.Value
		if u.ID != was.ID || u.Epoch != was.Epoch || !u.canSignIn() {
			return ErrSignIn
		}
		u.LastLogin = s.Now()
		if rehashed != "" && u.Password.PHC == was.Password.PHC {
			u.Password.PHC = rehashed
		}
		var o ops
		o.add(Users.Put(rec.Key, rec.Version, u))
		g.leave(&o, items[1:])
		return o.commit(ctx, s.DB)
	})
	if errors.Is(err, core.Conflict) {
		return User{}, fmt.Errorf("directory: sign-in of a person with many at once: %w", core.Unavailable)
	}
	if err != nil {
		return User{}, err
	}
	return u, nil
}
