package admin

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
)

func getSettings(c *call) (reply, error) { return ok(wireSettings(c.meta.Settings)) }

func putSettings(c *call) (reply, error) {
	req, err := decode[api.Settings](c)
	if err != nil {
		return failed(err)
	}
	t, err := c.Org.UpdateSettings(c.ctx, c.actor, c.tenant, func(_ *string, set *org.Settings) {
		*set = org.Settings{
			IdleTimeout: settingSeconds(req.IdleTimeout), AbsoluteLifetime: settingSeconds(req.AbsoluteLifetime),
			AccessTokenLife: settingSeconds(req.AccessTokenLife), ClusterTokenLife: settingSeconds(req.ClusterTokenLife),
			PasswordGrant: req.PasswordGrant, Security: set.Security, // which has calls of its own: putSecurity
		}
	})
	if err != nil {
		return failed(err)
	}
	return ok(wireSettings(t.Settings))
}

// settingSeconds is a duration of whole seconds. What is too long to be one, and would come out as another, is none.
func settingSeconds(n int64) time.Duration {
	if n < 0 || n > int64(365*24*time.Hour/time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

func wireSettings(s org.Settings) api.Settings {
	return api.Settings{
		IdleTimeout: int64(s.IdleTimeout / time.Second), AbsoluteLifetime: int64(s.AbsoluteLifetime / time.Second),
		AccessTokenLife: int64(s.AccessTokenLife / time.Second), ClusterTokenLife: int64(s.ClusterTokenLife / time.Second),
		PasswordGrant: s.PasswordGrant,
	}
}

func listKeys(c *call) (reply, error) {
	all, err := c.Ring.List(c.ctx, c.tenant)
	if err != nil {
		return failed(err)
	}
	return ok(each(all, wireKey))
}

// revokeKey is for a key that leaked: whatever it signed is refused from now on, be it the caller's own token.
func revokeKey(c *call) (reply, error) {
	kid, err := c.id("key")
	if err != nil {
		return failed(err)
	}
	note, err := audit.Op(c.actor, c.now, audit.Record{
		Action: audit.Delete, EntityType: audit.EntityKey, EntityID: kid, Scope: core.AccountScope(c.tenant), Reason: "revoked",
	})
	if err != nil {
		return failed(err)
	}
	if err := c.Ring.Revoke(c.ctx, c.tenant, kid, note); err != nil {
		return failed(err)
	}
	return noContent()
}

func wireKey(k keys.Info) api.Key {
	return api.Key{
		ID: k.ID, Algorithm: string(k.Algorithm), Signs: k.Signs, PublishedAt: k.PublishedAt, ActiveAt: k.ActiveAt,
		SignsUntil: k.SignsUntil, RetiredAt: k.RetiredAt, RevokedAt: k.RevokedAt,
	}
}
