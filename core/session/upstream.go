package session

import (
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Upstream is what a session, and every family that descends from it, has of the sign-in at an identity provider.
type Upstream struct {
	Connection string    `json:"connection,omitempty"` // the ID of the connection; empty: a local sign-in
	Alias      string    `json:"alias,omitempty"`      // its name at that time
	Kept       string    `json:"kept,omitempty"`       // names what the provider can be asked again with; empty: it cannot be
	Ends       time.Time `json:"ends,omitzero"`        // the provider's own end of the session; zero: it said none
}

// cap is the earlier of an end and the provider's.
func (u Upstream) cap(end time.Time) time.Time {
	if !u.Ends.IsZero() && u.Ends.Before(end) {
		return u.Ends
	}
	return end
}

// ErrDisconnected says that the connection by which somebody signed in is disabled, deleted, or another one under the same
// name. It is core.Unauthenticated.
var ErrDisconnected = fmt.Errorf("the identity provider is not connected any more: %w", core.Unauthenticated)

// connection is what is judged here of a connection to an identity provider. The record is core/sso's (sso.Connection), which
// imports this package, so this reads the two members that matter and leaves the rest alone.
type connection struct {
	ID      string `json:"id"`
	Enabled bool   `json:"enabled"`
}

var connections store.Table[connection]

// Keys is what must be read beside a session or a family to know whether the sign-in at the provider still counts, for
// Stands. It is nothing for a local sign-in.
func (u Upstream) Keys(t core.TenantID) []store.Key {
	if u.Connection == "" {
		return nil
	}
	keys := []store.Key{store.Connection(t, u.Alias)}
	if u.Kept != "" {
		keys = append(keys, store.Kept(t, u.Kept))
	}
	return keys
}

// Stands judges the sign-in at the provider by the items of Keys: its connection is there and enabled, which is else
// ErrDisconnected; and what the provider is asked again with, if it can be, was not taken away, which core/sso does when the
// provider does not vouch for the person any more. That is core.Unauthenticated, too. It asks nobody.
func (u Upstream) Stands(items []store.Item) error {
	if u.Connection == "" {
		return nil
	}
	rec, err := connections.Decode(items[0])
	if err != nil {
		return err
	}
	if c := rec.Value; !rec.Exists() || !c.Enabled || c.ID != u.Connection {
		return ErrDisconnected
	}
	if u.Kept != "" && items[1].Version == 0 {
		return fmt.Errorf("the identity provider does not vouch for the person any more: %w", core.Unauthenticated)
	}
	return nil
}

// Admits refuses, as core.Unauthenticated, a person who could not prove here any more who they are: a local one, where the
// tenant has come to enforce single sign-on, but for those who may use a password even so. Nothing is deleted for it: what
// was refused holds again once the tenant enforces it no more.
func Admits(t org.Tenant, person directory.User) error {
	if person.Local && !t.Settings.TakesPassword(person.Email) {
		return fmt.Errorf("single sign-on is enforced: %w", core.Unauthenticated)
	}
	return nil
}
