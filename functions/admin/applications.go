package admin

import (
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

// applicationPaths are the nouns that applications are served under: the newer one, and the one before.
var applicationPaths = []string{"/service-accounts", "/apps"}

var applicationFields = rename{"postLogoutUris": "postLogoutRedirectUris"}

func createApplication(c *call) (reply, error) {
	req, err := decode[api.ApplicationRequest](c)
	if err != nil {
		return failed(err)
	}
	jwks, err := keySet(req.JWKS)
	if err != nil {
		return failed(err)
	}
	app, secret, err := c.Directory.CreateApplication(c.ctx, c.actor, c.tenant, directory.NewApplication{
		Name: req.Name, Public: req.Public, RedirectURIs: req.RedirectURIs, PostLogoutURIs: req.PostLogoutURIs,
		JWKS: jwks, Trusts: trusts(req.Trusts),
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

// applicationTable is what lists of applications can be filtered and sorted by.
var applicationTable = table[directory.Application]{
	name: "applications", natural: "clientId", keyed: true,
	fields: []field[directory.Application]{
		textField("clientId", func(a directory.Application) string { return string(a.ID) }).search(),
		textField("name", func(a directory.Application) string { return a.Name }).search(),
		boolField("enabled", func(a directory.Application) bool { return a.Enabled }),
		textField("createdBy", func(a directory.Application) string { return by(a.CreatedBy) }).search(),
		timeField("creationTime", func(a directory.Application) time.Time { return a.CreatedAt }).also("createdAt"),
		timeField("lastLogin", func(a directory.Application) time.Time { return a.LastLogin }),
		timeField("lastUpdated", func(a directory.Application) time.Time { return a.UpdatedAt }).also("updatedAt"),
	},
}

func listApplications(c *call) (reply, error) {
	return listOf(c, applicationTable, store.Applications(c.tenant), wireApplication)
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
	means := req.RedirectURIs != nil || req.PostLogoutURIs != nil || req.JWKS != nil || req.Trusts != nil
	switch {
	case req.Enabled != nil && means:
		return failed(core.BadField("enabled", "cannot be changed together with anything else; send it alone"))
	case means:
		return c.editApplication(req)
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

// editApplication says where people may be sent back to, with what proves who they are, and what the application proves itself
// with: as much as a new secret.
func (c *call) editApplication(req api.ApplicationPatch) (reply, error) {
	app, err := c.lesserApplication(access.Lasting)
	if err != nil {
		return failed(err)
	}
	jwks, err := keySet(req.JWKS)
	if err != nil {
		return failed(err)
	}
	app, err = c.Directory.EditApplication(c.ctx, c.actor, c.tenant, app.ID, directory.Edit{
		RedirectURIs: req.RedirectURIs, PostLogoutURIs: req.PostLogoutURIs, JWKS: jwks, Trusts: trusts(req.Trusts),
	})
	if err != nil {
		return failed(applicationFields.rename(err))
	}
	return ok(wireApplication(app))
}

// rotateSecret ends the secrets of before at once unless told otherwise: this is what is called for when one has leaked. Told
// to, it lets them live on while their users change over.
func rotateSecret(c *call) (reply, error) {
	var req api.SecretRequest
	if len(c.body) > 0 {
		var err error
		if req, err = decode[api.SecretRequest](c); err != nil {
			return failed(err)
		}
	}
	grace, err := seconds("gracePeriod", req.GracePeriod, 0, directory.MaxGrace)
	if err != nil {
		return failed(err)
	}
	app, err := c.lesserApplication(access.Lasting)
	if err != nil {
		return failed(err)
	}
	secret, err := c.Directory.RotateSecret(c.ctx, c.actor, c.tenant, app.ID, grace)
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
	err = c.retire(core.ApplicationSubject(app.ID), func() error {
		_, err := c.Directory.SetEnabled(c.ctx, c.actor, c.tenant, app.ID, false)
		return err
	}, func() error {
		return c.Directory.DeleteApplication(c.ctx, c.actor, c.tenant, app.ID)
	})
	if err != nil {
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
		RedirectURIs: a.RedirectURIs, PostLogoutURIs: a.PostLogoutURIs, JWKS: wireKeys(a.Keys), Trusts: wireTrusts(a.Trusts),
		CreatedBy: by(a.CreatedBy), CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt, LastLogin: a.LastLogin,
	}
}
