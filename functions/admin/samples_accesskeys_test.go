package admin

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
)

// accessKey makes an access key of a person's. Who has many loses the oldest: a person can have only so many.
func (w *world) accessKey(t core.TenantID, owner directory.User) (directory.AccessKey, string) {
	w.Helper()
	w.roomForKeys(t, owner)
	k, secret, err := w.Directory.CreateAccessKey(w.Context(), core.SystemActor(t), t, owner, w.name("laptop"), time.Hour)
	w.must(err)
	return k, secret
}

func (w *world) roomForKeys(t core.TenantID, owner directory.User) {
	w.Helper()
	keys, err := w.Directory.AccessKeysOf(w.Context(), t, owner.ID)
	w.must(err)
	for ; len(keys) > directory.MaxAccessKeys/2; keys = keys[1:] {
		w.must(w.Directory.DeleteAccessKey(w.Context(), core.SystemActor(t), t, keys[0].ID))
	}
}

// accessKeySamples are on keys of acme's administrator, who alone can reach them.
func accessKeySamples() map[string]func(*world, core.RoleID) sample {
	own := func(status int, body string) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample {
			k, _ := w.accessKey(acme, w.admins[acme])
			foreign, _ := w.accessKey(globex, w.admins[globex])
			return sample{id: string(k.ID), foreign: string(foreign.ID), body: body, status: status}
		}
	}
	all := map[string]func(*world, core.RoleID) sample{
		"GET " + allAccessKeys: func(*world, core.RoleID) sample { return sample{status: 200} },
		"DELETE " + allAccessKeys + "/{id}": func(w *world, _ core.RoleID) sample {
			k, _ := w.accessKey(acme, w.user(acme, w.name("u")+"@acme.test")) // somebody whom everybody outranks
			foreign, _ := w.accessKey(globex, w.admins[globex])
			return sample{id: string(k.ID), foreign: string(foreign.ID), status: 204}
		},
	}
	for _, noun := range accessKeyPaths {
		all["POST "+noun] = func(w *world, _ core.RoleID) sample {
			w.roomForKeys(acme, w.admins[acme])
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("laptop") + `","expiresIn":3600}`}
		}
		all["GET "+noun] = func(*world, core.RoleID) sample { return sample{status: 200} }
		all["GET "+noun+"/{id}"] = own(200, "")
		all["PATCH "+noun+"/{id}"] = own(200, `{"enabled":false}`)
		all["POST "+noun+"/{id}/secret"] = own(200, "")
		all["DELETE "+noun+"/{id}"] = own(204, "")
	}
	return all
}
