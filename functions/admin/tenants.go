package admin

import (
	"cmp"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

func createTenant(c *call) (reply, error) {
	req, err := decode[api.TenantRequest](c)
	if err != nil {
		return failed(err)
	}
	welcome, err := c.Org.CreateTenant(c.ctx, c.actor, string(req.ID), cmp.Or(req.Name, string(req.ID)))
	if err != nil {
		return failed(err)
	}
	return created(api.Tenant{
		ID: req.ID, Name: cmp.Or(req.Name, string(req.ID)), State: api.TenantActive, CreatedAt: c.now,
		WelcomeLink: c.welcomeLink(req.ID, welcome),
	})
}

// welcomeLink is where a tenant's first administrator comes in: functions/login serves it.
func (c *call) welcomeLink(t core.TenantID, token string) string {
	return cmp.Or(c.BrowserBase, c.Base) + "/t/" + string(t) + "/welcome?token=" + token
}

// welcomeTenant makes another welcome link, for a tenant whose first one ran out, or that lost its last administrator.
func welcomeTenant(c *call) (reply, error) {
	e, err := c.entry()
	if err != nil {
		return failed(err)
	}
	// Whoever has the link becomes an administrator of the tenant without an end.
	if err := c.holdsRole(policy.SystemAdministrator, core.AccountScope(c.tenant), access.Lasting); err != nil {
		return failed(err)
	}
	welcome, err := c.Org.Welcome(c.ctx, c.actor, e.ID)
	if err != nil {
		return failed(err)
	}
	w := wireTenant(e)
	w.WelcomeLink = c.welcomeLink(e.ID, welcome)
	return ok(w)
}

// tenantTable is of tenants, which are in order of id.
var tenantTable = table[org.Entry]{
	name: "tenants", natural: "id", keyed: true,
	fields: []field[org.Entry]{
		textField("id", func(e org.Entry) string { return string(e.ID) }).search(),
		textField("name", func(e org.Entry) string { return e.Name }).search(),
		textField("state", func(e org.Entry) string { return string(e.State) }),
		timeField("creationTime", func(e org.Entry) time.Time { return e.CreatedAt }).also("createdAt"),
	},
}

func listTenants(c *call) (reply, error) {
	l, err := readListing(c, tenantTable)
	if err != nil {
		return failed(err)
	}
	f, err := l.page(ranges([]store.Range{store.TenantEntries()}, records(func(r store.Range) iter.Seq2[store.Record[org.Entry], error] {
		return entries.List(c.ctx, c.DB, r)
	})))
	if err != nil {
		return failed(err)
	}
	return answer(f, wireTenant)
}

func getTenant(c *call) (reply, error) {
	e, err := c.entry()
	if err != nil {
		return failed(err)
	}
	return ok(wireTenant(e))
}

func patchTenant(c *call) (reply, error) {
	req, err := decode[api.TenantPatch](c)
	if err != nil {
		return failed(err)
	}
	change := c.Org.Resume
	switch req.State {
	case api.TenantActive:
	case api.TenantSuspended:
		change = c.Org.Suspend
	default:
		return failed(core.BadField("state", "must be active or suspended; to erase a tenant, DELETE it"))
	}
	e, err := c.entry()
	if err != nil {
		return failed(err)
	}
	if err := change(c.ctx, c.actor, e.ID); err != nil {
		return failed(err)
	}
	e.State = org.State(req.State)
	return ok(wireTenant(e))
}

func deleteTenant(c *call) (reply, error) {
	e, err := c.entry()
	if err != nil {
		return failed(err)
	}
	if err := c.Org.Erase(c.ctx, c.actor, e.ID); err != nil {
		return failed(err)
	}
	return noContent()
}

var entries store.Table[org.Entry]

// entry is the tenant {id} as the registry has it.
func (c *call) entry() (org.Entry, error) {
	id, err := core.ParseTenantID("{id}", c.r.PathValue("id"))
	if err != nil {
		return org.Entry{}, fmt.Errorf("tenant {id}: %w", core.NotFound)
	}
	rec, err := entries.Get(c.ctx, c.DB, store.TenantEntry(id))
	return rec.Value, err
}

func wireTenant(e org.Entry) api.Tenant {
	return api.Tenant{ID: e.ID, Name: e.Name, State: api.TenantState(e.State), CreatedAt: e.CreatedAt}
}
