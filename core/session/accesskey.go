package session

import (
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// A person's access token descends from a sign-in, which is a family, or from one of the person's access keys. Roots and
// Judge are the two together, for whoever asks whether a token still counts.

// Roots is what must be read beside the tenant to know whether a person's access token of that family still counts, for
// Judge: what it descends from, the person, and for an access key the tenant's connections to identity providers. They lie
// in one item under a name that is known beforehand, so a key costs no round trip more than a sign-in.
func Roots(t core.TenantID, family string, email core.Email) []store.Key {
	if id, ok := directory.AccessKeyOf(family); ok {
		return []store.Key{store.AccessKey(t, id), store.User(t, email), store.Catalog(t)}
	}
	return []store.Key{store.Family(t, family), store.User(t, email)}
}

// Judge says by the items of Roots whether the access tokens of a family still count, as of that time; else the error is
// core.Unauthenticated. A sign-in holds as Holds says. An access key holds while it stands (directory.AccessKey.Stands), its
// tokens were not revoked, the tenant lets its owner in (Admits), and the owner's identity provider is connected.
func Judge(tenant org.Tenant, items []store.Item, family string, email core.Email, now time.Time) (Living, error) {
	if _, ok := directory.AccessKeyOf(family); !ok {
		f, person, err := Holds(items[0], items[1], email)
		return Living{Family: f, Person: person, Tenant: tenant}, err
	}
	key, err := directory.AccessKeys.Decode(items[0])
	if err != nil {
		return Living{}, err
	}
	person, err := users.Decode(items[1])
	if err != nil {
		return Living{}, err
	}
	k, u := key.Value, person.Value
	if err := k.Stands(u, now); err != nil {
		return Living{}, err
	}
	if k.Family() != family || k.Email != email {
		return Living{}, fmt.Errorf("the tokens of the access key were revoked: %w", core.Unauthenticated)
	}
	if err := Admits(tenant, u); err != nil {
		return Living{}, err
	}
	if err := connected(items[2], k.Connection); err != nil {
		return Living{}, err
	}
	return Living{
		Family: Family{ID: family, Client: k.ID, Email: k.Email, User: k.Owner, StartedAt: k.CreatedAt},
		Person: u, Tenant: tenant, Key: k,
	}, nil
}

// catalog is what is judged here of the tenant's connections. The record is core/sso's (sso.Catalog), which imports this
// package, so this reads the members that matter and leaves the rest alone. Every change of a connection writes it in the
// same commit.
type catalog struct {
	Entries []connection `json:"entries"`
}

var catalogs store.Table[catalog]

// connected refuses, as ErrDisconnected, a connection that is not there or not enabled. A local person has none.
func connected(it store.Item, id string) error {
	if id == "" {
		return nil
	}
	rec, err := catalogs.Decode(it)
	if err != nil {
		return err
	}
	for _, c := range rec.Value.Entries {
		if c.ID == id && c.Enabled {
			return nil
		}
	}
	return ErrDisconnected
}

// Until is when whatever is made from the sign-in, or from the access key, is over.
func (l Living) Until() time.Time {
	if l.Key.ID != "" {
		return l.Key.Ends(l.Person)
	}
	return l.Family.Until(l.Tenant)
}
