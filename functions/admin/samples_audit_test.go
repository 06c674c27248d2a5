package admin

import (
	"github.com/fleetpass/fleetpass/core"
)

func auditSamples() map[string]func(*world, core.RoleID) sample {
	get := func(*world, core.RoleID) sample { return sample{status: 200} }
	return map[string]func(*world, core.RoleID) sample{
		"GET /audit/log":          get,
		"GET /audit/chain":        get,
		"GET /audit/chain/places": get,
		"GET /audit/log/file":     get,
	}
}
