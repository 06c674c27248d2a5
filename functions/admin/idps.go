package admin

import (
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
)

// maxIdPBody bounds the body of the two calls that may carry a metadata document, in bytes: MaxMetadataXML characters, each
// of which JSON may spell in six ("\u003c"), beside the rest.
const maxIdPBody = 6*api.MaxMetadataXML + maxBody

// lasting asks whether the caller is an administrator without an end. Who connects an identity provider, or says who may pass
// it by, can become anybody of the tenant, for as long as the connection stands.
func (c *call) lasting() error {
	return c.holdsRole(policy.SystemAdministrator, core.AccountScope(c.tenant), access.Lasting)
}

// decodeIdP reads a connection as it shall be.
func (c *call) decodeIdP() (sso.New, error) {
	req, err := decode[api.IdPRequest](c)
	if err != nil {
		return sso.New{}, err
	}
	switch kind := sso.Kind(req.Type); kind {
	case sso.SAML, sso.OIDC, sso.OpenShift:
	case "":
		return sso.New{}, core.BadField("type", "is missing; it is saml, oidc or openshift-v4")
	default:
		return sso.New{}, core.BadField("type", "must be saml, oidc or openshift-v4")
	}
	n := sso.New{
		Alias: sso.Alias(req.Alias), Name: req.Name, Kind: sso.Kind(req.Type), Enabled: req.Enabled, Domains: req.Domains,
		GroupPrefix: req.GroupPrefix, CA: req.CA, TakesOver: sso.Alias(req.TakesOver),
	}
	if req.Mappers != nil {
		n.Mappers = mappers(*req.Mappers)
	}
	for _, part := range []struct {
		name string
		kind sso.Kind
		here bool
	}{{"samlData", sso.SAML, req.SAML != nil}, {"oidcData", sso.OIDC, req.OIDC != nil}, {"ocpData", sso.OpenShift, req.OpenShift != nil}} {
		switch {
		case part.kind == n.Kind && !part.here:
			return sso.New{}, core.BadField(part.name, fmt.Sprintf("is missing; type %s needs it", n.Kind))
		case part.kind != n.Kind && part.here:
			return sso.New{}, core.BadField(part.name, fmt.Sprintf("must be left out: it is not of type %s", n.Kind))
		}
	}
	switch n.Kind {
	case sso.SAML:
		n.SAML, err = newSAML(*req.SAML)
	case sso.OIDC:
		o := req.OIDC
		n.OIDC = &sso.NewOIDC{
			DiscoveryURL: o.DiscoveryURL, ClientID: o.ClientID, ClientSecret: o.ClientSecret, Auth: sso.ClientAuth(o.AuthMethod), Scopes: o.Scopes,
			TokenExchange: o.TokenExchange,
		}
		if m := o.MandatoryClaim; m != nil {
			n.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: m.Claim, Values: m.Values}
		}
	case sso.OpenShift:
		o := req.OpenShift
		n.OpenShift = &sso.NewOpenShift{BaseURL: o.BaseURL, ClientID: o.ClientID, ClientSecret: o.ClientSecret, Scopes: o.Scopes}
	}
	return n, err
}

// newSAML takes the metadata's address or its text, whichever metadataXmlType says. The other one is refused and not passed
// over: it would look as if it counted.
func newSAML(d api.SAMLData) (*sso.NewSAML, error) {
	switch {
	case d.MetadataType != "" && d.MetadataType != "url" && d.MetadataType != "file":
		return nil, core.BadField("samlData.metadataXmlType", "must be url or file")
	case d.MetadataURL != "" && (d.MetadataXML != "" || d.MetadataType == "file"):
		return nil, core.BadField("samlData.metadataXmlUrl", "must be left out where the metadata is a file")
	case d.MetadataXML != "" && d.MetadataType == "url":
		return nil, core.BadField("samlData.metadataXmlFile", "must be left out where the metadata is read from an address")
	case d.MetadataType == "url" && d.MetadataURL == "":
		return nil, core.BadField("samlData.metadataXmlUrl", "is missing; metadataXmlType says that there is one")
	case utf8.RuneCountInString(d.MetadataXML) > api.MaxMetadataXML:
		return nil, core.BadField("samlData.metadataXmlFile", fmt.Sprintf("is over %d characters; give the metadata of this provider alone, not of a whole federation", api.MaxMetadataXML))
	}
	return &sso.NewSAML{
		MetadataURL: d.MetadataURL, MetadataXML: d.MetadataXML, FileName: d.FileName, EntityID: d.EntityID, MetadataPin: d.MetadataPin,
		IdPInitiated: d.IdPInitiated, SignRequests: d.SignRequests,
	}, nil
}

func createIdP(c *call) (reply, error) {
	if err := c.lasting(); err != nil {
		return failed(err)
	}
	n, err := c.decodeIdP()
	if err != nil {
		return failed(err)
	}
	made, err := c.SSO.Create(c.ctx, c.actor, c.tenant, n)
	if err != nil {
		return failed(idpFields.rename(err))
	}
	return created(c.wireIdP(made))
}

func listIdPs(c *call) (reply, error) {
	all, err := c.SSO.Connections(c.ctx, c.tenant)
	if err != nil {
		return failed(err)
	}
	return reply{status: http.StatusOK, json: each(all, c.wireIdP), total: len(all), list: true}, nil
}

func getIdP(c *call) (reply, error) {
	p, err := c.connection()
	if err != nil {
		return failed(err)
	}
	return ok(c.wireIdP(p))
}

func putIdP(c *call) (reply, error) {
	is, err := c.connection()
	if err != nil {
		return failed(err)
	}
	if err := c.lasting(); err != nil {
		return failed(err)
	}
	n, err := c.decodeIdP()
	if err != nil {
		return failed(err)
	}
	switch {
	case n.Kind != is.Kind:
		return failed(core.BadField("type", "must be the present one: a connection of another type is another connection"))
	case n.Alias != "" && n.Alias != is.Alias:
		return failed(core.BadField("alias", "must be the present one: it stands in addresses that the provider knows"))
	case n.TakesOver != "":
		return failed(core.BadField("takesOver", "can be said only when a connection is made"))
	}
	n.Alias = is.Alias
	changed, err := c.SSO.Update(c.ctx, c.actor, c.tenant, is.Alias, n)
	if err != nil {
		return failed(idpFields.rename(err))
	}
	return ok(c.wireIdP(changed))
}

func deleteIdP(c *call) (reply, error) {
	alias, err := c.alias()
	if err != nil {
		return failed(err)
	}
	if err := c.SSO.Delete(c.ctx, c.actor, c.tenant, alias); err != nil {
		return failed(err)
	}
	return noContent()
}

func getMappers(c *call) (reply, error) {
	p, err := c.connection()
	if err != nil {
		return failed(err)
	}
	return ok(wireMappers(p.Mappers))
}

func putMappers(c *call) (reply, error) {
	alias, err := c.alias()
	if err != nil {
		return failed(err)
	}
	if err := c.lasting(); err != nil {
		return failed(err)
	}
	req, err := decode[api.Mappers](c)
	if err != nil {
		return failed(err)
	}
	if _, err := c.SSO.SetMappers(c.ctx, c.actor, c.tenant, alias, mappers(req)); err != nil {
		return failed(mapperFields.rename(err))
	}
	return accepted()
}

// rotateIdPKeys publishes another key of ours beside the present one, or ends the rollover that the same call began.
func rotateIdPKeys(c *call) (reply, error) {
	alias, err := c.alias()
	if err != nil {
		return failed(err)
	}
	p, err := c.SSO.RotateKeys(c.ctx, c.actor, c.tenant, alias)
	if err != nil {
		return failed(err)
	}
	return ok(c.wireIdP(p))
}

func refreshIdP(c *call) (reply, error) {
	alias, err := c.alias()
	if err != nil {
		return failed(err)
	}
	p, err := c.SSO.ReadAgain(c.ctx, c.actor, c.tenant, alias)
	if err != nil {
		return failed(idpFields.rename(err))
	}
	return ok(c.wireIdP(p))
}

// testIdP makes a link that an administrator opens in a browser, to sign in without anything being changed.
func testIdP(c *call) (reply, error) {
	alias, err := c.alias()
	if err != nil {
		return failed(err)
	}
	link, err := c.SSO.StartTest(c.ctx, c.actor, c.tenant, alias)
	if err != nil {
		return failed(err)
	}
	return created(api.IdPTest{URL: link.URL, Trace: link.Trace, ExpiresAt: link.Expires})
}

// alias is the path's {alias}, if it could be one.
func (c *call) alias() (sso.Alias, error) {
	a := c.r.PathValue("alias")
	if a == "" || len(a) > 64 {
		return "", fmt.Errorf("identity provider {alias}: %w", core.NotFound)
	}
	return sso.Alias(a), nil
}

// connection is the connection {alias}.
func (c *call) connection() (sso.Connection, error) {
	alias, err := c.alias()
	if err != nil {
		return sso.Connection{}, err
	}
	rec, err := c.SSO.Connection(c.ctx, c.tenant, alias)
	return rec.Value, err
}

func mappers(m api.Mappers) sso.Mappers {
	return sso.Mappers{
		Email: m.Email, Groups: m.Groups, UID: m.UID, GID: m.GID, SupplementaryGroups: m.SupplementaryGroups,
		FirstName: m.FirstName, LastName: m.LastName,
	}
}

// putUserIdP says which connection a person belongs to. Whoever answers for the connection can then sign in as them, so it
// takes what a new password would.
func putUserIdP(c *call) (reply, error) {
	req, err := decode[api.UserIdP](c)
	if err != nil {
		return failed(err)
	}
	if req.Alias == nil {
		return failed(core.BadField("alias", `is missing; give the alias of an identity provider, or "" to make the person local`))
	}
	u, err := c.lesser(access.Lasting)
	if err == nil {
		err = c.notOneselfByKey(u)
	}
	if err != nil {
		return failed(err)
	}
	u, temporary, err := c.SSO.Link(c.ctx, c.actor, c.tenant, u.Email, sso.Alias(*req.Alias))
	if errors.Is(err, core.NotFound) { // the person was found just now
		err = core.BadField("alias", "is not the alias of an identity provider of this tenant")
	}
	if err != nil {
		return failed(rename{"idp": "alias"}.rename(err))
	}
	return ok(api.LinkedUser{User: wireUser(u), TempPassword: temporary})
}
