package admin

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

func createUser(c *call) (reply, error) {
	req, err := decode[api.UserRequest](c)
	if err != nil {
		return failed(err)
	}
	if req.ResetPassword != nil && !*req.ResetPassword {
		return failed(core.BadField("resetPassword", "must be true or left out: a temporary password is always to be changed"))
	}
	if req.Notify {
		return failed(core.BadField("notify", "must be false or left out: no mail is sent; hand the temporary password over yourself"))
	}
	email, err := core.ParseEmail("email", req.Email)
	if err != nil {
		return failed(err)
	}
	// Rules may name a person before it is there; whoever makes the person gets to know its first password.
	if err := c.outranks(core.UserSubject(email), access.Lasting); err != nil {
		return failed(err)
	}
	u, temporary, err := c.Directory.CreateUser(c.ctx, c.actor, c.tenant, directory.NewUser{
		Email: req.Email, Profile: directory.Profile{FirstName: req.FirstName, LastName: req.LastName},
	})
	if err != nil {
		return failed(err)
	}
	return created(api.NewUser{ID: u.ID, Username: u.Email, TempPassword: temporary})
}

// userTable is of people, who are in order of e-mail.
var userTable = table[directory.User]{
	name: "users", natural: "username", keyed: true,
	fields: []field[directory.User]{
		textField("username", func(u directory.User) string { return string(u.Email) }).spelt(strings.ToLower).search(),
		textField("firstName", func(u directory.User) string { return u.FirstName }).search(),
		textField("lastName", func(u directory.User) string { return u.LastName }).search(),
		textField("createdBy", func(u directory.User) string { return by(u.CreatedBy) }),
		timeField("lastLogin", func(u directory.User) time.Time { return u.LastLogin }),
		timeField("creationTime", func(u directory.User) time.Time { return u.CreatedAt }).also("createdAt"),
		timeField("lastUpdated", func(u directory.User) time.Time { return u.UpdatedAt }).also("updatedAt"),
		boolField("isLocal", func(u directory.User) bool { return u.Local }),
		boolField("enabled", func(u directory.User) bool { return !u.Disabled }),
	},
}

func listUsers(c *call) (reply, error) {
	l, err := readListing(c, userTable)
	if err != nil {
		return failed(err)
	}
	f, err := l.page(ranges([]store.Range{store.Users(c.tenant)}, records(func(r store.Range) iter.Seq2[store.Record[directory.User], error] {
		return c.Directory.UsersIn(c.ctx, r)
	})))
	if err != nil {
		return failed(err)
	}
	return answer(f, wireUser)
}

func getUser(c *call) (reply, error) {
	u, err := c.person()
	if err != nil {
		return failed(err)
	}
	return ok(wireUser(u))
}

func patchUser(c *call) (reply, error) {
	req, err := decode[api.UserPatch](c)
	if err != nil {
		return failed(err)
	}
	profile := req.FirstName != nil || req.LastName != nil || req.UID != nil || req.GID != nil || req.SupplementaryGroups != nil
	switch {
	case req.Enabled != nil && profile:
		return failed(core.BadField("enabled", "cannot be changed together with anything else; send it alone"))
	case profile:
		return c.patchProfile(req)
	case req.Enabled == nil:
		return failed(core.BadField("enabled", "is missing, and so is all else that can be changed"))
	}
	u, err := c.lesser(access.Term(*req.Enabled)) // to let in again is to give
	if err != nil {
		return failed(err)
	}
	if *req.Enabled {
		u, err = c.Directory.Enable(c.ctx, c.actor, c.tenant, u.Email)
	} else {
		u, err = c.Directory.Disable(c.ctx, c.actor, c.tenant, u.Email)
	}
	if err != nil {
		return failed(err)
	}
	return ok(wireUser(u))
}

func (c *call) patchProfile(req api.UserPatch) (reply, error) {
	u, err := c.lesser(access.Lasting)
	if err != nil {
		return failed(err)
	}
	u, err = c.Directory.UpdateProfile(c.ctx, c.actor, c.tenant, u.Email, func(p *directory.Profile) {
		if req.FirstName != nil {
			p.FirstName = *req.FirstName
		}
		if req.LastName != nil {
			p.LastName = *req.LastName
		}
		p.UID, p.GID = number(p.UID, req.UID), number(p.GID, req.GID)
		if req.SupplementaryGroups != nil {
			p.SupplementaryGroups = req.SupplementaryGroups
		}
	})
	if err != nil {
		return failed(err)
	}
	return ok(wireUser(u))
}

// number is a number after a change: nil leaves it, and zero takes it away.
func number(is, to *int64) *int64 {
	switch {
	case to == nil:
		return is
	case *to == 0:
		return nil
	}
	return to
}

func deleteUser(c *call) (reply, error) {
	u, err := c.lesser(access.Now)
	if err != nil {
		return failed(err)
	}
	err = c.retire(core.UserSubject(u.Email), func() error {
		_, err := c.Directory.Disable(c.ctx, c.actor, c.tenant, u.Email)
		return err
	}, func() error {
		return c.Directory.DeleteUser(c.ctx, c.actor, c.tenant, u.Email)
	})
	if err != nil {
		return failed(err)
	}
	return noContent()
}

// retire takes a subject away, and its rules, so that whoever has the name later does not find them waiting. They do not fit
// into one commit. A subject that holds rules is therefore disabled first: that commit is the one that answers for If-Match,
// before anything is lost, and what follows is free of it. Whatever fails from there on leaves a subject that can do nothing,
// whose name nobody else can take, and which the same call takes away when it is made again. One without rules, which loses
// nothing but itself, goes at once; what it was given meanwhile is taken behind it.
func (c *call) retire(who core.Subject, disable, remove func() error) error {
	held, err := c.Access.ForSubjects(c.ctx, c.tenant, who)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		if err := disable(); err != nil {
			return err
		}
		if _, err := c.Access.DeleteAllOf(c.ctx, c.actor, who); err != nil {
			return err
		}
	}
	if err := remove(); err != nil {
		return err
	}
	_, err = c.Access.DeleteAllOf(c.ctx, c.actor, who)
	return err
}

func resetPassword(c *call) (reply, error) {
	u, err := c.lesser(access.Lasting)
	if err == nil {
		err = c.notOneselfByKey(u)
	}
	if err != nil {
		return failed(err)
	}
	temporary, err := c.Directory.ResetPassword(c.ctx, c.actor, c.tenant, u.Email)
	if err != nil {
		return failed(err)
	}
	return ok(api.TempPassword{TempPassword: temporary})
}

func forceLogout(c *call) (reply, error) {
	u, err := c.person()
	if err != nil {
		return failed(err)
	}
	if _, err := c.Directory.ForceLogout(c.ctx, c.actor, c.tenant, u.Email); err != nil {
		return failed(err)
	}
	return noContent()
}

// person is the user {id}.
func (c *call) person() (directory.User, error) {
	id, err := c.id("user")
	if err != nil {
		return directory.User{}, err
	}
	rec, err := c.Directory.UserByID(c.ctx, c.tenant, core.UserID(id))
	if err != nil {
		return directory.User{}, err
	}
	return rec.Value, nil
}

// lesser is the user {id}, who holds nothing that the caller does not, for the term.
func (c *call) lesser(term access.Term) (directory.User, error) {
	u, err := c.person()
	if err != nil {
		return u, err
	}
	return u, c.outranksPerson(u, term)
}

// id is the path's {id}, if it could be one.
func (c *call) id(noun string) (string, error) {
	id := c.r.PathValue("id")
	if id == "" || len(id) > 64 {
		return "", fmt.Errorf("%s {id}: %w", noun, core.NotFound)
	}
	return id, nil
}

func wireUser(u directory.User) api.User {
	return api.User{
		ID: u.ID, Username: u.Email, FirstName: u.FirstName, LastName: u.LastName, IsLocal: u.Local, Enabled: !u.Disabled,
		UID: u.UID, GID: u.GID, GIDs: u.SupplementaryGroups,
		Groups: append([]core.GroupName{}, u.AllGroups()...), CreatedBy: by(u.CreatedBy),
		CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt, LastLogin: u.LastLogin,
	}
}

// getMe says who the caller is.
func getMe(c *call) (reply, error) {
	me := api.Me{SubjectType: api.SubjectTypeOf(c.actor.Subject.Kind), TenantID: c.tenant, Groups: []core.GroupName{}}
	if c.actor.Subject.Kind == core.Application {
		me.ID, me.Username, me.LastLogin = string(c.app.ID), c.app.Name, c.app.LastLogin
		return ok(me)
	}
	me.ID, me.Username, me.LastLogin = string(c.user.ID), string(c.user.Email), c.user.LastLogin
	me.FirstName, me.LastName, me.IsLocal = c.user.FirstName, c.user.LastName, c.user.Local
	me.Groups = append(me.Groups, c.user.AllGroups()...)
	me.UID, me.GID, me.SupplementaryGroups = c.user.UID, c.user.GID, c.user.SupplementaryGroups
	return ok(me)
}

// changeMyPassword asks for the present password although the caller has a token: a stolen token must not become a stolen
// account. Everything that the person holds ends with the change, this token among it.
func changeMyPassword(c *call) (reply, error) {
	req, err := decode[api.PasswordChange](c)
	if err != nil {
		return failed(err)
	}
	if err := c.bySignIn(); err != nil {
		return failed(err)
	}
	if c.actor.Subject.Kind != core.User || !c.user.Local {
		return failed(fmt.Errorf("only local users have a password here: %w", core.Unsupported))
	}
	_, err = c.Directory.ChangePassword(c.ctx, c.actor, c.tenant, c.user.Email, req.CurrentPassword, req.NewPassword, false)
	if errors.Is(err, directory.ErrSignIn) {
		err = core.BadField("currentPassword", "is wrong")
	}
	if err != nil {
		return failed(err)
	}
	return noContent()
}
