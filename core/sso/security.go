package sso

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// SetSecurity changes how a tenant's people have to sign in. change is given the present settings and may be called again; what
// it changes beside org.Security is changed too, within its bounds. The break-glass people may come in any order.
//
// Single sign-on can be enforced where an enabled connection was proven, by a sign-in or a test, and where an administrator
// among the break-glass people could still come in if the identity provider were down.
func (s *Service) SetSecurity(ctx context.Context, actor core.Actor, t core.TenantID, change func(*org.Settings)) (org.Settings, error) {
	var out org.Settings
	err := store.Retry(ctx, func() error {
		st, err := s.state(ctx, t)
		if err != nil {
			return err
		}
		before := standing{st.meta.Value.Settings, st.connections}
		after := before
		after.settings.BreakGlass = slices.Clone(after.settings.BreakGlass) // not the caller's to change in place
		change(&after.settings)
		if err := sortPeople(&after.settings); err != nil {
			return err
		}
		out = after.settings
		if reflect.DeepEqual(before.settings, after.settings) {
			return nil
		}
		if err := after.settings.Check(); err != nil {
			return err
		}
		if err := s.admissible(ctx, st.meta, before, after); err != nil {
			return err
		}
		if err := s.keeps(ctx, st.meta, before, after, nil); err != nil {
			return err
		}
		w := st.change(s, actor, Connection{})
		w.settings(after.settings)
		w.add(audit.Op(actor, w.now, audit.Record{
			Tenant: t, Action: audit.Update, EntityType: audit.EntityTenant, EntityID: string(t),
			Scope: core.AccountScope(t), Reason: securityReason(before.settings, after.settings),
		}))
		w.add(store.Emit(t, w.now, actor, events.TenantChanged{Change: "settings"}))
		return w.commit(ctx, s.DB)
	})
	return out, err
}

func sortPeople(set *org.Settings) error {
	for i, e := range set.BreakGlass {
		p, err := core.ParseEmail("breakGlass", string(e))
		if err != nil {
			return err
		}
		set.BreakGlass[i] = p
	}
	slices.Sort(set.BreakGlass)
	if set.BreakGlass = slices.Compact(set.BreakGlass); len(set.BreakGlass) == 0 {
		set.BreakGlass = nil
	}
	return nil
}

// admissible judges what the settings name. What was there before is not judged again: a person who was deleted since must
// not stand in the way of the rest.
func (s *Service) admissible(ctx context.Context, meta store.Record[org.Tenant], before, after standing) error {
	t, was, set := meta.Value.ID, before.settings, after.settings
	if set.AutoRedirect != was.AutoRedirect && set.AutoRedirect != "" &&
		!slices.ContainsFunc(after.connections, func(c Connection) bool { return string(c.Alias) == set.AutoRedirect && c.Enabled }) {
		return core.BadField("autoRedirect", fmt.Sprintf("no identity provider of the alias %s is enabled", quote(set.AutoRedirect)))
	}
	for _, e := range set.BreakGlass {
		if slices.Contains(was.BreakGlass, e) {
			continue
		}
		items, err := s.DB.Get(ctx, store.User(t, e))
		if err != nil {
			return err
		}
		u, err := directory.Users.Decode(items[0])
		if err != nil {
			return err
		}
		if !u.Exists() || !u.Value.Local {
			return core.BadField("breakGlass", fmt.Sprintf("%s is no local user; create one, or link the person to no identity provider", e))
		}
	}
	if !set.EnforceSSO || was.EnforceSSO {
		return nil // keeps sees to the rest
	}
	if !slices.ContainsFunc(after.connections, Connection.usable) {
		return core.BadField("enforceSso", "no identity provider that is enabled was tested as it is configured now; test it first: "+testCommand(after.connections))
	}
	people, err := s.administrators(ctx, meta)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(people, after.breaksGlass) {
		return core.BadField("breakGlass", "must name an administrator who is local, is enabled and has chosen a password, for the day that no identity provider answers")
	}
	return nil
}

func testCommand(all []Connection) string {
	for _, c := range all {
		if c.Enabled {
			return "fleetpass sso test " + string(c.Alias)
		}
	}
	return "fleetpass sso test ALIAS"
}

func securityReason(was, is org.Settings) string {
	reason := "security settings"
	switch {
	case !was.EnforceSSO && is.EnforceSSO:
		reason += ": single sign-on is enforced"
	case was.EnforceSSO && !is.EnforceSSO:
		reason += ": single sign-on is enforced no more"
	}
	if !slices.Equal(was.BreakGlass, is.BreakGlass) {
		reason += fmt.Sprintf("; break glass: %v", is.BreakGlass)
	}
	return reason
}
