package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// TemporaryLife is how long a temporary password can be used.
const TemporaryLife = 7 * 24 * time.Hour

// NewUser is a local user to create.
type NewUser struct {
	Email    string
	Profile  Profile
	Password string // empty: a temporary one is made
}

// Profile is what may be changed of a person without touching how it signs in or what it may do.
type Profile struct {
	FirstName           string
	LastName            string
	UID                 *int64 // 1 to 2147483647; never root's
	GID                 *int64
	SupplementaryGroups []int64
}

// The bounds of a profile.
const (
	maxPersonName          = 100       // characters
	maxID                  = 1<<31 - 1 // what Kubernetes takes for a UID or GID
	maxSupplementaryGroups = 64
)

func (p Profile) check() error {
	for _, f := range []struct{ field, s string }{{"firstName", p.FirstName}, {"lastName", p.LastName}} {
		if !utf8.ValidString(f.s) || utf8.RuneCountInString(f.s) > maxPersonName {
			return core.BadField(f.field, "must be at most 100 characters")
		}
		for _, r := range f.s {
			if !unicode.IsPrint(r) {
				return core.BadField(f.field, "has a character that does not print")
			}
		}
	}
	const fix = "must be from 1 to 2147483647: nothing runs as root"
	if p.UID != nil && (*p.UID < 1 || *p.UID > maxID) {
		return core.BadField("uid", fix)
	}
	if p.GID != nil && (*p.GID < 1 || *p.GID > maxID) {
		return core.BadField("gid", fix)
	}
	if len(p.SupplementaryGroups) > maxSupplementaryGroups {
		return core.BadField("supplementaryGroups", "must be at most 64")
	}
	for _, g := range p.SupplementaryGroups {
		if g < 1 || g > maxID {
			return core.BadField("supplementaryGroups", fix)
		}
	}
	return nil
}

// Profile is the person's own.
func (u User) Profile() Profile {
	return Profile{u.FirstName, u.LastName, u.UID, u.GID, u.SupplementaryGroups}
}

func (u *User) setProfile(p Profile) {
	u.FirstName, u.LastName, u.UID, u.GID, u.SupplementaryGroups = p.FirstName, p.LastName, p.UID, p.GID, p.SupplementaryGroups
}

// CreateUser makes a local user. Without a password of its own the user gets a temporary one, which is returned here and
// never again, must be changed at the first sign-in, and expires. An e-mail that is taken is core.Exists.
func (s *Service) CreateUser(ctx context.Context, actor core.Actor, t core.TenantID, n NewUser) (u User, temporary string, err error) {
	e, err := core.ParseEmail("email", n.Email)
	if err != nil {
		return User{}, "", err
	}
	if err := n.Profile.check(); err != nil {
		return User{}, "", err
	}
	var plain []byte
	if n.Password == "" {
		temporary = temporaryPassword()
		plain = []byte(temporary)
	} else if plain, err = checkPassword("password", e, n.Password); err != nil {
		return User{}, "", err
	}
	hash, err := hashPassword(ctx, s.cost(), plain)
	if err != nil {
		return User{}, "", err
	}
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.User(t, e))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		if items[1].Version != 0 {
			return fmt.Errorf("user %s: %w", e, core.Exists)
		}
		now := s.Now()
		u = newUser(e, actor, now)
		u.setProfile(n.Profile)
		u.setPassword(hash, temporary != "", now)
		var o ops
		o.create(t, now, actor, u)
		return o.commit(ctx, s.DB)
	})
	if err != nil {
		return User{}, "", err
	}
	return u, temporary, nil
}

func newUser(e core.Email, actor core.Actor, now time.Time) User {
	return User{
		ID: core.UserID(core.NewID()), Email: e, Local: true, Epoch: core.NewID(),
		CreatedAt: now, CreatedBy: actor.Subject, UpdatedAt: now,
	}
}

func (u *User) setPassword(hash string, temporary bool, now time.Time) {
	u.Password = &Password{PHC: hash, Temporary: temporary, ChangedAt: now}
	if temporary {
		u.Password.Until = now.Add(TemporaryLife)
	}
}

// create makes the operations that make a person known.
func (o *ops) create(t core.TenantID, now time.Time, actor core.Actor, u User) {
	o.add(Users.Put(store.User(t, u.Email), 0, u))
	o.add(pointers.Put(store.UserByID(t, u.ID), 0, pointer{Email: u.Email}))
	o.tellUser(t, now, actor, u, 0, audit.Create, "created", "")
}

func (o *ops) tellUser(t core.TenantID, now time.Time, actor core.Actor, u User, rev core.Revision, a audit.Action, change, reason string) {
	o.add(audit.Op(actor, now, audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityUser, EntityID: string(u.ID), Name: string(u.Email),
		Scope: core.AccountScope(t), Reason: reason,
	}))
	o.emit(t, now, actor, events.UserChanged{Revision: uint64(rev), User: string(u.ID), Change: change})
}

// Users is every person of a tenant, by e-mail.
func (s *Service) Users(ctx context.Context, t core.TenantID) iter.Seq2[store.Record[User], error] {
	return Users.List(ctx, s.DB, store.Users(t))
}

// UsersIn is the people in part of store.Users, in its order.
func (s *Service) UsersIn(ctx context.Context, r store.Range) iter.Seq2[store.Record[User], error] {
	return Users.List(ctx, s.DB, r)
}

// errSame ends a change that would change nothing.
var errSame = errors.New("directory: nothing to change")

// edit is a change of a person: what it does, and how it is told.
type edit struct {
	action  audit.Action
	change  string // as in events.UserChanged
	reason  string // for the record; empty: the change
	access  bool   // it changes what someone may do, so it raises the tenant's revision
	ends    bool   // whatever the person holds ends: the epoch changes
	loses   bool   // the person can act no more: Service.Keeps is asked
	approve Approve
	reading []store.Key
	do      func(u *User, read []store.Item) error
}

// changeUser applies an edit, in one commit. An edit that ends in errSame commits nothing and is no error.
func (s *Service) changeUser(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, ed edit) (User, error) {
	var u User
	err := store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, append([]store.Key{store.Meta(t), store.User(t, e)}, ed.reading...)...)
		if err != nil {
			return err
		}
		meta, err := org.Decode(items[0])
		if err != nil {
			return err
		}
		rec, err := Users.Decode(items[1])
		if err != nil {
			return err
		}
		if !rec.Exists() {
			return fmt.Errorf("user: %w", core.NotFound)
		}
		u = rec.Value
		u.Groups = slices.Clone(u.Groups) // for an edit to work on: what there was before is compared with it
		if err := ed.do(&u, items[2:]); err != nil {
			return err
		}
		if ed.loses {
			if err := s.keeps(ctx, t, e); err != nil {
				return err
			}
		}
		if ed.approve != nil {
			if err := ed.approve(ctx, meta, rec.Value, u); err != nil {
				return err
			}
		}
		index, _, err := s.regroup(ctx, t, e, rec.Value, u)
		if err != nil {
			return err
		}
		now := s.Now()
		u.UpdatedAt = now
		if ed.ends {
			u.Epoch = core.NewID()
		}
		var o ops
		var rev core.Revision
		if ed.access {
			rev = o.bump(meta)
		}
		o.add(Users.Put(rec.Key, rec.Version, u))
		o.tellUser(t, now, actor, u, rev, ed.action, ed.change, cmp.Or(ed.reason, ed.change))
		return o.regroup(ctx, s.DB, index)
	})
	if errors.Is(err, errSame) {
		return u, nil
	}
	return u, err
}

// UpdateProfile changes a person's profile. change is given the present one and may be called again.
func (s *Service) UpdateProfile(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, change func(*Profile)) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{action: audit.Update, change: "profile", do: func(u *User, _ []store.Item) error {
		p := u.Profile()
		change(&p)
		u.setProfile(p)
		return p.check()
	}})
}

// Disable ends everything that a person holds and lets it in no more. Its rules stay, for the day it is enabled. The last
// administrator cannot be disabled: see Keeps.
func (s *Service) Disable(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{action: audit.Update, change: "disabled", access: true, ends: true, loses: true,
		do: func(u *User, _ []store.Item) error { return set(&u.Disabled, true) }})
}

// Enable takes a Disable back. What the person held stays ended.
func (s *Service) Enable(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{action: audit.Update, change: "enabled", access: true,
		do: func(u *User, _ []store.Item) error { return set(&u.Disabled, false) }})
}

func (s *Service) keeps(ctx context.Context, t core.TenantID, e core.Email) error {
	if s.Keeps == nil {
		return nil
	}
	return s.Keeps(ctx, t, core.UserSubject(e))
}

func set(b *bool, to bool) error {
	if *b == to {
		return errSame
	}
	*b = to
	return nil
}

// ForceLogout ends everything that a person holds.
func (s *Service) ForceLogout(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{action: audit.SignOut, change: "signed-out", ends: true,
		do: func(*User, []store.Item) error { return nil }})
}

// DeleteUser takes a person away, with everything that it holds. Rules that name its e-mail are core/access's to take. The
// last administrator cannot be deleted: see Keeps.
func (s *Service) DeleteUser(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email) error {
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.User(t, e))
		if err != nil {
			return err
		}
		meta, err := org.Decode(items[0])
		if err != nil {
			return err
		}
		rec, err := Users.Decode(items[1])
		if err != nil {
			return err
		}
		if !rec.Exists() {
			return fmt.Errorf("user: %w", core.NotFound)
		}
		if err := s.keeps(ctx, t, e); err != nil {
			return err
		}
		index, byID, err := s.regroup(ctx, t, e, rec.Value, User{}, store.UserByID(t, rec.Value.ID), store.AccessKeysOf(t, rec.Value.ID))
		if err != nil {
			return err
		}
		index.room = 0 // the access keys may need it
		now := s.Now()
		var o ops
		if err := s.deleteKeysOf(ctx, &o, actor, t, byID[1]); err != nil {
			return err
		}
		rev := o.bump(meta)
		o.list = append(o.list, store.Delete(rec.Key, rec.Version), store.Delete(byID[0].Key, byID[0].Version))
		o.tellUser(t, now, actor, rec.Value, rev, audit.Delete, "deleted", "")
		return o.regroup(ctx, s.DB, index)
	})
}

// ResetPassword gives a local user a temporary password, which is returned here and never again. It ends everything that
// the person holds.
func (s *Service) ResetPassword(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email) (temporary string, err error) {
	temporary = temporaryPassword()
	hash, err := hashPassword(ctx, s.cost(), []byte(temporary))
	if err != nil {
		return "", err
	}
	if _, err := s.storePassword(ctx, actor, t, e, hash, true, ""); err != nil {
		return "", err
	}
	return temporary, nil
}

// SetPassword gives a local user a password of the caller's choice that need not be changed: for seeding and for tools.
func (s *Service) SetPassword(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, password string) (User, error) {
	hash, err := s.newHash(ctx, "password", e, password)
	if err != nil {
		return User{}, err
	}
	return s.storePassword(ctx, actor, t, e, hash, false, "")
}

// ChangePassword lets a person replace its own password, a temporary one among others. The present one is checked as
// Authenticate does, with its errors. Everything that the person holds ends; the user returned has the new epoch.
func (s *Service) ChangePassword(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, current, next string, knownDevice bool) (User, error) {
	plain, err := checkPassword("newPassword", e, next)
	if err != nil {
		return User{}, err
	}
	if now, ok := normalize(current); ok && string(now) == string(plain) {
		return User{}, core.BadField("newPassword", "must differ from the present one")
	}
	actor.Tenant = t
	was, err := s.Authenticate(ctx, actor, string(e), current, knownDevice)
	if err != nil {
		return User{}, err
	}
	hash, err := hashPassword(ctx, s.cost(), plain)
	if err != nil {
		return User{}, err
	}
	return s.storePassword(ctx, actor, t, e, hash, false, was.Epoch)
}

func (s *Service) newHash(ctx context.Context, field string, e core.Email, password string) (string, error) {
	plain, err := checkPassword(field, e, password)
	if err != nil {
		return "", err
	}
	return hashPassword(ctx, s.cost(), plain)
}

// storePassword writes the hash; if epoch is given, only if the person did not change since it was read.
func (s *Service) storePassword(ctx context.Context, actor core.Actor, t core.TenantID, e core.Email, hash string, temporary bool, epoch string) (User, error) {
	ed := edit{action: audit.Update, change: "password", ends: true}
	if temporary {
		ed.action = audit.ResetPassword
	}
	ed.do = func(u *User, _ []store.Item) error {
		if !u.Local {
			return fmt.Errorf("user %s signs in at an identity provider and has no password here: %w", e, core.Unsupported)
		}
		if epoch != "" && u.Epoch != epoch {
			return ErrSignIn
		}
		u.setPassword(hash, temporary, s.Now())
		return nil
	}
	return s.changeUser(ctx, actor, t, e, ed)
}

// maxGroups bounds a person's groups, so that the record fits an item and a decision its reads.
const maxGroups = 200

// addTo inserts a name into a sorted list.
func addTo(list []core.GroupName, g core.GroupName) ([]core.GroupName, error) {
	i, found := slices.BinarySearch(list, g)
	if found {
		return list, errSame
	}
	if len(list) == maxGroups {
		return list, fmt.Errorf("a person can be in %d groups: %w", maxGroups, core.Limit)
	}
	return slices.Insert(list, i, g), nil
}
