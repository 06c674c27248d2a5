package admin

import (
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
)

func createGroup(c *call) (reply, error) {
	req, err := decode[api.GroupRequest](c)
	if err != nil {
		return failed(err)
	}
	g, err := c.Directory.CreateGroup(c.ctx, c.actor, c.tenant, req.Name)
	if err != nil {
		return failed(err)
	}
	return created(wireGroup(g))
}

func listGroups(c *call) (reply, error) {
	all, err := collect(c.Directory.Groups(c.ctx, c.tenant))
	if err != nil {
		return failed(err)
	}
	return listed(c, all, wireGroup)
}

// deleteGroup takes everybody out of the group. Rules that name it stay: a group of an identity provider may have the
// same name.
func deleteGroup(c *call) (reply, error) {
	g, err := c.group()
	if err != nil {
		return failed(err)
	}
	if err := c.Directory.DeleteGroup(c.ctx, c.actor, c.tenant, g); err != nil {
		return failed(err)
	}
	return noContent()
}

func addMember(c *call) (reply, error) {
	g, e, err := c.member()
	if err != nil {
		return failed(err)
	}
	if err := c.outranks(core.GroupSubject(g), access.Lasting); err != nil {
		return failed(err)
	}
	if _, err := c.Directory.AddMember(c.ctx, c.actor, c.tenant, g, e); err != nil {
		return failed(err)
	}
	return noContent()
}

func removeMember(c *call) (reply, error) {
	g, e, err := c.member()
	if err != nil {
		return failed(err)
	}
	if _, err := c.Directory.RemoveMember(c.ctx, c.actor, c.tenant, g, e); err != nil {
		return failed(err)
	}
	return noContent()
}

// group is the group {name}, which exists.
func (c *call) group() (core.GroupName, error) {
	g, err := core.ParseGroupName("{name}", c.r.PathValue("name"))
	if err != nil {
		return "", err
	}
	_, err = c.Directory.Group(c.ctx, c.tenant, g)
	if errors.Is(err, core.NotFound) {
		err = fmt.Errorf("group {name}: %w", core.NotFound)
	}
	return g, err
}

// member is the group {name} and the person {email} of a call without a body.
func (c *call) member() (core.GroupName, core.Email, error) {
	if err := c.noBody(); err != nil {
		return "", "", err
	}
	g, err := c.group()
	if err != nil {
		return "", "", err
	}
	e, err := core.ParseEmail("{email}", c.r.PathValue("email"))
	return g, e, err
}

func wireGroup(g directory.Group) api.Group {
	return api.Group{Name: g.Name, CreatedAt: g.CreatedAt, CreatedBy: by(g.CreatedBy)}
}
