package sso

import (
	"context"
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// ErrLockedOut refuses a change after which no administrator of the account could sign in any more. It is core.Denied.
var ErrLockedOut = fmt.Errorf("after this no administrator could sign in: first see to it that a local administrator has a password, or that one belongs to another identity provider that is enabled and was tested: %w", core.Denied)

// ErrBreakGlass refuses to take away the last administrator with a password while single sign-on is enforced. It is
// core.Denied.
var ErrBreakGlass = fmt.Errorf("while single sign-on is enforced, an administrator among the break-glass people must be local, be enabled and have chosen a password: %w", core.Denied)

// standing is what the tenant's people sign in by, before a change or after it.
type standing struct {
	settings    org.Settings
	connections []Connection
}

func (st standing) with(c Connection) standing {
	st.connections = slices.Clone(st.connections)
	for i := range st.connections {
		if st.connections[i].ID == c.ID {
			st.connections[i] = c
		}
	}
	return st
}

func (st standing) without(id string) standing {
	st.connections = slices.DeleteFunc(slices.Clone(st.connections), func(c Connection) bool { return c.ID == id })
	return st
}

// admits says whether the person can sign in.
func (st standing) admits(u directory.User) bool {
	switch {
	case u.Disabled:
		return false
	case u.Local:
		return u.Password != nil && st.settings.TakesPassword(u.Email)
	}
	return slices.ContainsFunc(st.connections, func(c Connection) bool { return c.ID == u.Connection && c.usable() })
}

// breaksGlass says whether the person is one of those who can sign in when no identity provider answers. A temporary
// password does not do: nobody has seen it work, and it expires.
func (st standing) breaksGlass(u directory.User) bool {
	return slices.Contains(st.settings.BreakGlass, u.Email) && u.ProvesHere()
}

// keeps refuses a change that would lock the last administrator out. linked is what becomes of a person by the change, if that
// is what changes. Rules, people and connections are all changed by commits that expect the tenant as it was read and write
// it, so nothing that is looked at here can change before the commit of the change, which has to do the same.
func (s *Service) keeps(ctx context.Context, meta store.Record[org.Tenant], before, after standing, linked *directory.User) error {
	people, err := s.administrators(ctx, meta)
	if err != nil {
		return err
	}
	var had, has, hadGlass, hasGlass bool
	for _, u := range people {
		had = had || before.admits(u)
		hadGlass = hadGlass || before.breaksGlass(u)
		if linked != nil && linked.ID == u.ID {
			u = *linked
		}
		has = has || after.admits(u)
		hasGlass = hasGlass || after.breaksGlass(u)
	}
	switch {
	case after.settings.EnforceSSO && hadGlass && !hasGlass:
		return ErrBreakGlass
	case had && !has:
		return ErrLockedOut
	}
	return nil
}

// administrators are the people who administer the account, as the directory has them, at the tenant's version that was read.
func (s *Service) administrators(ctx context.Context, meta store.Record[org.Tenant]) ([]directory.User, error) {
	t := meta.Value.ID
	names, err := s.Administrators(ctx, t)
	if err != nil {
		return nil, err
	}
	var people []directory.User
	for chunk := range slices.Chunk(names, store.MaxGet-1) {
		keys := []store.Key{store.Meta(t)}
		for _, e := range chunk {
			keys = append(keys, store.User(t, e))
		}
		items, err := s.DB.Get(ctx, keys...)
		if err != nil {
			return nil, err
		}
		if items[0].Version != meta.Version {
			return nil, fmt.Errorf("the tenant: %w", core.Conflict)
		}
		for _, it := range items[1:] {
			rec, err := directory.Users.Decode(it)
			if err != nil {
				return nil, err
			}
			if rec.Exists() {
				people = append(people, rec.Value)
			}
		}
	}
	return people, nil
}

// leave judges what becomes of the settings when a connection is deleted or disabled: the login page goes to it by itself no
// more, and the last one cannot go while everybody has to sign in by one.
func (st *state) leave(after *standing, c Connection) error {
	if after.settings.EnforceSSO && !slices.ContainsFunc(after.connections, func(o Connection) bool { return o.Enabled }) {
		return fmt.Errorf("%s is the last identity provider that is enabled, and single sign-on is enforced: end the enforcement first, in the security settings: %w", c.Alias, core.Denied)
	}
	if after.settings.AutoRedirect == string(c.Alias) {
		after.settings.AutoRedirect = ""
	}
	return nil
}
