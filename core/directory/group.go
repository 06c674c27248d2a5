package directory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// CreateGroup makes a group that people can be put into here. A name that is taken is core.Exists.
func (s *Service) CreateGroup(ctx context.Context, actor core.Actor, t core.TenantID, name string) (Group, error) {
	name2, err := core.ParseGroupName("name", name)
	if err != nil {
		return Group{}, err
	}
	// A local group is named in the paths of the API, and not every front door hands a path over as it came: Amazon's HTTP APIs
	// decode it. Names that an identity provider sends are in no path and may hold anything.
	if strings.ContainsAny(string(name2), "/?#%") {
		return Group{}, core.BadField("name", "must not hold / ? # or %: the name of a local group is part of addresses")
	}
	var g Group
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.Group(t, name2))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		if items[1].Version != 0 {
			return fmt.Errorf("group %s: %w", name2, core.Exists)
		}
		now := s.Now()
		g = Group{Name: name2, CreatedAt: now, CreatedBy: actor.Subject}
		var o ops
		o.add(Groups.Put(items[1].Key, 0, g))
		o.add(audit.Op(actor, now, groupRecord(t, name2, audit.Create)))
		return o.commit(ctx, s.DB)
	})
	return g, err
}

func groupRecord(t core.TenantID, g core.GroupName, a audit.Action) audit.Record {
	return audit.Record{Tenant: t, Action: a, EntityType: audit.EntityGroup, EntityID: string(g), Scope: core.AccountScope(t)}
}

// Groups is every group made here, by name.
func (s *Service) Groups(ctx context.Context, t core.TenantID) iter.Seq2[store.Record[Group], error] {
	return Groups.List(ctx, s.DB, store.Groups(t))
}

// Members is everybody whom AddMember put into a group, by e-mail. It reads every person of the tenant, since it is for what must
// be certain: who was put in before there was a member index may be in none. Lists go by the index: see MembersIn.
func (s *Service) Members(ctx context.Context, t core.TenantID, g core.GroupName) ([]User, error) {
	var in []User
	for rec, err := range s.Users(ctx, t) {
		if err != nil {
			return nil, err
		}
		if _, ok := slices.BinarySearch(rec.Value.Groups, g); ok {
			in = append(in, rec.Value)
		}
	}
	return in, nil
}

// AddMember puts a person into a group. Being in it already is no error.
func (s *Service) AddMember(ctx context.Context, actor core.Actor, t core.TenantID, g core.GroupName, e core.Email) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{
		action: audit.Update, change: "groups", reason: "put into group " + string(g), access: true,
		reading: []store.Key{store.Group(t, g)},
		do: func(u *User, read []store.Item) (err error) {
			if read[0].Version == 0 {
				return fmt.Errorf("group: %w", core.NotFound)
			}
			u.Groups, err = addTo(u.Groups, g)
			return err
		},
	})
}

// RemoveMember takes a person out of a group. Not being in it is no error.
func (s *Service) RemoveMember(ctx context.Context, actor core.Actor, t core.TenantID, g core.GroupName, e core.Email) (User, error) {
	return s.changeUser(ctx, actor, t, e, edit{
		action: audit.Update, change: "groups", reason: "taken out of group " + string(g), access: true,
		do: func(u *User, _ []store.Item) error {
			i, found := slices.BinarySearch(u.Groups, g)
			if !found {
				return errSame
			}
			u.Groups = slices.Delete(u.Groups, i, i+1)
			return nil
		},
	})
}

// DeleteGroup takes everybody out of a group, then the group away, so that a later group of the same name begins empty.
// The last commit holds only if nobody came in meanwhile: putting somebody in raises the tenant's revision. It is rare, and who
// stayed in would have the rights of the later group, so it asks everybody's record and not the member index.
func (s *Service) DeleteGroup(ctx context.Context, actor core.Actor, t core.TenantID, g core.GroupName) error {
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.Group(t, g))
		if err != nil {
			return err
		}
		meta, err := org.Decode(items[0])
		if err != nil {
			return err
		}
		if items[1].Version == 0 {
			return fmt.Errorf("group: %w", core.NotFound)
		}
		members, err := s.Members(ctx, t, g)
		if err != nil {
			return err
		}
		for _, u := range members {
			if _, err := s.RemoveMember(ctx, actor, t, g, u.Email); err != nil {
				return err
			}
		}
		if len(members) > 0 {
			return fmt.Errorf("group %s had members: %w", g, core.Conflict) // look again
		}
		var o ops
		o.bump(meta)
		o.list = append(o.list, store.Delete(items[1].Key, items[1].Version))
		o.add(audit.Op(actor, s.Now(), groupRecord(t, g, audit.Delete)))
		return o.commit(ctx, s.DB)
	})
}
