package admin

import (
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
)

// applicationPaths are the nouns that applications are served under: the newer one, and the one before.
var applicationPaths = []string{"/service-accounts", "/apps"}

var applicationFields = rename{"postLogoutUris": "postLogoutRedirectUris"}

func createApplication(c *call) (reply, error) {
	req, err := decode[api.ApplicationRequest](c)
	if err != nil {
		return failed(err)
	}
	app, secret, err := c.Directory.CreateApplication(c.ctx, c.actor, c.tenant, directory.NewApplication{
		Name: req.Name, Public: req.Public, RedirectURIs: req.RedirectURIs, PostLogoutURIs: req.PostLogoutURIs,
	})
	if err != nil {
		return failed(applicationFields.rename(err))
	}
	return created(c.withSecret(app, secret))
}

// withSecret is an application with the secret that is shown this once. Under the older noun the secret has its older name
// as well.
func (c *call) withSecret(app directory.Application, secret string) api.Application {
	w := wireApplication(app)
	w.ClientSecret = secret
	if strings.Contains(c.r.Pattern, "/apps") {
		w.Secret = secret
	}
	return w
}

func listApplications(c *call) (reply, error) {
	all, err := collect(c.Directory.Applications(c.ctx, c.tenant))
	if err != nil {
		return failed(err)
	}
	return listed(c, all, wireApplication)
}

func getApplication(c *call) (reply, error) {
	app, err := c.application()
	if err != nil {
		return failed(err)
	}
	return ok(wireApplication(app))
}

func patchApplication(c *call) (reply, error) {
	req, err := decode[api.ApplicationPatch](c)
	if err != nil {
		return failed(err)
	}
	uris := req.RedirectURIs != nil || req.PostLogoutURIs != nil
	switch {
	case req.Enabled != nil && uris:
		return failed(core.BadField("enabled", "cannot be changed together with anything else; send it alone"))
	case uris:
		return c.patchURIs(req)
	case req.Enabled == nil:
		return failed(core.BadField("enabled", "is missing, and so is all else that can be changed"))
	}
	app, err := c.lesserApplication(access.Term(*req.Enabled)) // to let in again is to give
	if err != nil {
		return failed(err)
	}
	app, err = c.Directory.SetEnabled(c.ctx, c.actor, c.tenant, app.ID, *req.Enabled)
	if err != nil {
		return failed(err)
	}
	return ok(wireApplication(app))
}

// patchURIs says where people may be sent back to, with what proves who they are.
func (c *call) patchURIs(req api.ApplicationPatch) (reply, error) {
	app, err := c.lesserApplication(access.Lasting)
	if err != nil {
		return failed(err)
	}
	if req.RedirectURIs != nil {
		app.RedirectURIs = req.RedirectURIs
	}
	if req.PostLogoutURIs != nil {
		app.PostLogoutURIs = req.PostLogoutURIs
	}
	app, err = c.Directory.SetURIs(c.ctx, c.actor, c.tenant, app.ID, app.RedirectURIs, app.PostLogoutURIs)
	if err != nil {
		return failed(applicationFields.rename(err))
	}
	return ok(wireApplication(app))
}

// rotateSecret ends the secrets of before at once: this is what is called for when one has leaked.
func rotateSecret(c *call) (reply, error) {
	if err := c.noBody(); err != nil {
		return failed(err)
	}
	app, err := c.lesserApplication(access.Lasting)
	if err != nil {
		return failed(err)
	}
	secret, err := c.Directory.RotateSecret(c.ctx, c.actor, c.tenant, app.ID, 0)
	if err != nil {
		return failed(err)
	}
	return ok(c.withSecret(app, secret))
}

func deleteApplication(c *call) (reply, error) {
	app, err := c.lesserApplication(access.Now)
	if err != nil {
		return failed(err)
	}
	if _, err := c.Access.DeleteAllOf(c.ctx, c.actor, core.ApplicationSubject(app.ID)); err != nil {
		return failed(err)
	}
	if err := c.Directory.DeleteApplication(c.ctx, c.actor, c.tenant, app.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

// application is the application {id}.
func (c *call) application() (directory.Application, error) {
	id, err := c.id("application")
	if err != nil {
		return directory.Application{}, err
	}
	rec, err := c.Directory.Application(c.ctx, c.tenant, core.ApplicationID(id))
	return rec.Value, err
}

// lesserApplication is the application {id}, which holds nothing that the caller does not, for the term.
func (c *call) lesserApplication(term access.Term) (directory.Application, error) {
	app, err := c.application()
	if err != nil {
		return app, err
	}
	return app, c.outranks(core.ApplicationSubject(app.ID), term)
}

func wireApplication(a directory.Application) api.Application {
	return api.Application{
		ID: a.ID, Name: a.Name, ClientID: a.ID, Enabled: a.Enabled, Public: a.Public,
		RedirectURIs: a.RedirectURIs, PostLogoutURIs: a.PostLogoutURIs,
		CreatedBy: by(a.CreatedBy), CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt, LastLogin: a.LastLogin,
	}
}
