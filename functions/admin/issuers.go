package admin

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
)

// issuerPath is the noun that trusted issuers are served under.
const issuerPath = "/trusted-issuers"

// issuers is what keeps trusted issuers.
func (c *call) issuers() *trust.Service {
	return &trust.Service{DB: c.DB, Verifier: c.Issuers, Now: c.Now, Base: c.Base, BrowserBase: c.BrowserBase}
}

func createIssuer(c *call) (reply, error) {
	n, err := c.issuerSettings("")
	if err != nil {
		return failed(err)
	}
	iss, err := c.issuers().Create(c.ctx, c.actor, c.tenant, n)
	if err != nil {
		return failed(err)
	}
	return created(wireIssuer(iss))
}

// issuerTable is what lists of trusted issuers can be filtered and sorted by.
var issuerTable = table[trust.Issuer]{
	name: "trusted-issuers", natural: "name", keyed: true,
	fields: []field[trust.Issuer]{
		textField("name", func(i trust.Issuer) string { return i.Name }).search(),
		textField("issuer", func(i trust.Issuer) string { return i.Issuer }).search(),
		boolField("enabled", func(i trust.Issuer) bool { return i.Enabled }),
		textField("createdBy", func(i trust.Issuer) string { return by(i.CreatedBy) }),
		timeField("createdAt", func(i trust.Issuer) time.Time { return i.CreatedAt }).also("creationTime"),
		timeField("updatedAt", func(i trust.Issuer) time.Time { return i.UpdatedAt }).also("lastUpdated"),
	},
}

func listIssuers(c *call) (reply, error) {
	return listOf(c, issuerTable, store.TrustedIssuers(c.tenant), wireIssuer)
}

func getIssuer(c *call) (reply, error) {
	rec, err := c.issuer()
	if err != nil {
		return failed(err)
	}
	return ok(wireIssuer(rec.Value))
}

func putIssuer(c *call) (reply, error) {
	rec, err := c.issuer()
	if err != nil {
		return failed(err)
	}
	n, err := c.issuerSettings(rec.Value.Name)
	if err != nil {
		return failed(err)
	}
	iss, err := c.issuers().Replace(c.ctx, c.actor, c.tenant, n)
	if err != nil {
		return failed(err)
	}
	return ok(wireIssuer(iss))
}

func deleteIssuer(c *call) (reply, error) {
	rec, err := c.issuer()
	if err != nil {
		return failed(err)
	}
	if err := c.issuers().Delete(c.ctx, c.actor, c.tenant, rec.Value.Name); err != nil {
		return failed(err)
	}
	return noContent()
}

// issuer is the trusted issuer {name}. A name that none can have looks like one that none has.
func (c *call) issuer() (store.Record[trust.Issuer], error) {
	name, err := trust.ParseName("{name}", c.r.PathValue("name"))
	if err != nil {
		return store.Record[trust.Issuer]{}, errNoIssuer
	}
	rec, err := c.issuers().Issuer(c.ctx, c.tenant, name)
	if errors.Is(err, core.NotFound) {
		err = errNoIssuer
	}
	return rec, err
}

var errNoIssuer = fmt.Errorf("trusted issuer {name}: %w", core.NotFound)

func issuerObject(c *call) (object, error) { return stored(c.issuer()) }

// issuerSettings reads what the body says about an issuer: the one of that name, if it is not empty.
func (c *call) issuerSettings(name string) (n trust.Settings, err error) {
	req, err := decode[api.TrustedIssuerRequest](c)
	if err != nil {
		return n, err
	}
	if req.Name = cmp.Or(req.Name, name); name != "" && req.Name != name {
		return n, core.BadField("name", "cannot be changed; it must be that of the address, or left out")
	}
	n = trust.Settings{Name: req.Name, Issuer: req.Issuer, JWKSURI: req.JWKSURI, CA: req.CA, Enabled: req.Enabled == nil || *req.Enabled}
	n.JWKS, err = keySet(req.JWKS)
	return n, err
}

func wireIssuer(i trust.Issuer) api.TrustedIssuer {
	return api.TrustedIssuer{
		Name: i.Name, Issuer: i.Issuer, JWKSURI: i.JWKSURI, Discovered: i.Discovered, JWKS: wireKeys(i.Keys), CA: i.CA, Enabled: i.Enabled,
		CreatedBy: by(i.CreatedBy), CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
}

// keySet is a JSON Web Key Set as bytes, for core/trust to judge; nil if there is none.
func keySet(set *api.JSONWebKeySet) ([]byte, error) {
	if set == nil {
		return nil, nil
	}
	return json.Marshal(*set, json.Deterministic(true))
}

func wireKeys(keys []trust.PublicKey) *api.JSONWebKeySet {
	if len(keys) == 0 {
		return nil
	}
	set := api.JSONWebKeySet{Keys: make([]map[string]any, len(keys))}
	for i, k := range keys {
		set.Keys[i] = map[string]any{"use": "sig"}
		for name, value := range map[string]string{"kty": k.Type, "kid": k.ID, "alg": k.Algorithm, "crv": k.Curve, "x": k.X, "y": k.Y, "n": k.N, "e": k.E} {
			if value != "" {
				set.Keys[i][name] = value
			}
		}
	}
	return &set
}

// trusts are an application's as core/trust has them; nil where nothing is said of them.
func trusts(list []api.ApplicationTrust) []trust.Trust {
	if list == nil {
		return nil
	}
	out := make([]trust.Trust, 0, len(list))
	for _, t := range list {
		conditions := make([]trust.Condition, 0, len(t.Conditions))
		for _, o := range t.Conditions {
			conditions = append(conditions, trust.Condition(o))
		}
		out = append(out, trust.Trust{Issuer: t.Issuer, Audience: t.Audience, Conditions: conditions})
	}
	return out
}

func wireTrusts(list []trust.Trust) []api.ApplicationTrust {
	var out []api.ApplicationTrust
	for _, t := range list {
		conditions := make([]api.TrustCondition, 0, len(t.Conditions))
		for _, o := range t.Conditions {
			conditions = append(conditions, api.TrustCondition(o))
		}
		out = append(out, api.ApplicationTrust{Issuer: t.Issuer, Audience: t.Audience, Conditions: conditions})
	}
	return out
}
