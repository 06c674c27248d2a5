package directory

import (
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
)

// Said is what an identity provider said about a person, mapped and judged by core/sso.
type Said struct {
	Connection string // the ID of the connection that it came by
	Alias      string // and how people name it
	Source     string // what Subject is an id at: it changes where another connection takes over the ID
	Subject    string // the provider's stable id of the person; empty: it has none
	Email      core.Email
	Profile    Profile
	Groups     []core.GroupName // sorted, each once
	Partial    bool             // some of it is what was said before: it is not the provider's word of now (LastLogin, ProviderWord)
}

// A RefusedError says why a person may not sign in by a connection, to the tenant's administrator. It is
// core.Unauthenticated; the person is not told more than that.
type RefusedError struct {
	Found string // how it is
	Fix   string // what an administrator can do about it
}

// Error is for the log.
func (e *RefusedError) Error() string { return "sign-in refused: " + e.Found }

// Unwrap makes errors.Is(err, core.Unauthenticated) hold.
func (e *RefusedError) Unwrap() error { return core.Unauthenticated }

// FromProvider is the person of an e-mail as they are once a provider has spoken, and the operations that make them so, for
// the commit of the sign-in: it creates who was never here, and lets groups and profile follow the provider. rec is what
// User or a Get read. Whoever is local, disabled, or another connection's is a *RefusedError, and so is somebody else at the
// provider who came by the same e-mail: nobody is ever taken over or merged silently. What the change asks of the member index
// and of the groups seen, FollowGroups adds.
func (s *Service) FromProvider(actor core.Actor, rec store.Record[User], said Said) (User, []store.Op, error) {
	now, t := s.Now(), actor.Tenant
	if err := said.Profile.check(); err != nil {
		return User{}, nil, err
	}
	u := rec.Value
	var o ops
	if !rec.Exists() {
		actor.Subject = core.UserSubject(said.Email)
		u = newUser(said.Email, actor, now)
		u.Local, u.Connection, u.Subject, u.Source, u.LastLogin = false, said.Connection, said.Subject, said.Source, now
		actor.UserID = u.ID
		u.follow(said)
		o.create(t, now, actor, u)
		return u, o.list, o.err
	}
	if err := u.belongs(said); err != nil {
		return User{}, nil, err
	}
	actor.Subject, actor.UserID = core.UserSubject(u.Email), u.ID
	before := u
	if !said.Partial {
		u.LastLogin = now
	}
	if said.Subject != "" {
		u.Subject, u.Source = said.Subject, said.Source
	}
	u.follow(said)
	change := ""
	switch {
	case !slices.Equal(before.IDPGroups, u.IDPGroups):
		change = "groups"
	case !before.sameProfile(u):
		change = "profile"
	}
	if change != "" {
		u.UpdatedAt = now
		o.tellUser(t, now, actor, u, 0, audit.Update, change, "as the identity provider says")
	}
	o.add(Users.Put(rec.Key, rec.Version, u))
	return u, o.list, o.err
}

// belongs refuses whoever is not the connection's.
func (u User) belongs(said Said) error {
	switch {
	case u.Disabled:
		return &RefusedError{"the account is disabled", "Enable the user, if they should be able to sign in."}
	case u.Local:
		return &RefusedError{"a local user has this e-mail", "Link the user to this identity provider, if they are the same person (PUT /api/v1/users/{id}/idp); nobody is taken over silently."}
	case u.Connection != said.Connection:
		return &RefusedError{"the user belongs to another identity provider", "Link the user to this one, if they are the same person (PUT /api/v1/users/{id}/idp)."}
	case u.Subject != "" && said.Subject != "" && u.Source == said.Source && u.Subject != said.Subject:
		return &RefusedError{"the e-mail was of another account of this identity provider before",
			"If it is the same person, link the user to this identity provider again (PUT /api/v1/users/{id}/idp); if the e-mail was given to somebody else, delete the user first."}
	}
	return nil
}

// follow takes over what the provider said. What it said once and says no more goes; what an administrator gave and the
// provider never spoke of stays.
func (u *User) follow(said Said) {
	u.IDPGroups = slices.Clone(said.Groups)
	p, was := said.Profile, u.Provided
	u.Provided = nil
	take := func(name string, given bool, set, clear func()) {
		switch {
		case given:
			u.Provided = append(u.Provided, name)
			set()
		case slices.Contains(was, name):
			clear()
		}
	}
	take("firstName", p.FirstName != "", func() { u.FirstName = p.FirstName }, func() { u.FirstName = "" })
	take("lastName", p.LastName != "", func() { u.LastName = p.LastName }, func() { u.LastName = "" })
	take("uid", p.UID != nil, func() { u.UID = p.UID }, func() { u.UID = nil })
	take("gid", p.GID != nil, func() { u.GID = p.GID }, func() { u.GID = nil })
	take("supplementaryGroups", len(p.SupplementaryGroups) > 0, func() { u.SupplementaryGroups = p.SupplementaryGroups }, func() { u.SupplementaryGroups = nil })
}

func (u User) sameProfile(o User) bool {
	same := func(a, b *int64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	return u.FirstName == o.FirstName && u.LastName == o.LastName && same(u.UID, o.UID) && same(u.GID, o.GID) &&
		slices.Equal(u.SupplementaryGroups, o.SupplementaryGroups)
}
