package admin

import "github.com/fleetpass/fleetpass/core"

// ruleSamples makes samples of what is done to several access rules at once.
func ruleSamples() map[string]func(*world, core.RoleID) sample {
	const rules = "/authorization/access-rules"
	return map[string]func(*world, core.RoleID) sample{
		"POST " + rules + "/batch": func(w *world, role core.RoleID) sample {
			r := w.grant(acme, core.GroupSubject(core.GroupName(w.name("g"))), role, w.project(acme).ID)
			return sample{status: 200, body: `{"ids":[` + itoa(r.ID) + `],"action":"delete"}`}
		},
		"POST " + rules + "/batch-create": func(w *world, role core.RoleID) sample {
			return sample{status: 200, body: `{"payload":{"roleId":` + itoa(role) + `,"subjects":[{"id":"` + w.name("Group") + `","type":"group"}],` +
				`"scopes":[{"id":"` + string(w.project(acme).ID) + `","type":"project"}],"expiresAt":"2027-01-01T00:00:00Z","reason":"for the audit"}}`}
		},
		"GET /authorization/me/access-rules/count": func(*world, core.RoleID) sample { return sample{status: 200} },
	}
}
