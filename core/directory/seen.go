package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// SeenGroup is a group that an identity provider told of. It needs no record to be in a rule: this one is for people, who
// choose what to name in rules from what there is.
type SeenGroup struct {
	Name       core.GroupName `json:"name"` // with the connection's prefix, as rules name it
	Connection string         `json:"connection"`
	Alias      string         `json:"alias"`
	FirstSeen  time.Time      `json:"firstSeen"`
	FirstBy    core.Email     `json:"firstBy"`  // who was the first to come with it
	LastSeen   time.Time      `json:"lastSeen"` // when somebody last came to be in it, to the hour
}

// SeenGroups is the table of the groups that identity providers told of, for reads of several items at once.
var SeenGroups store.Table[SeenGroup]

// seenAgain is how long a group that was seen is not written anew: a thousand people who come with a new group on one morning
// are not to queue for one item.
const seenAgain = time.Hour

// FollowGroups keeps the member index and the groups seen up with somebody whose groups change by what an identity provider
// said: it returns the operations for the commit that changes the person, and writes beforehand what has no room there. after
// is what FromProvider returned for before. Where the groups stay as they are it costs nothing; else a round trip, and one
// more if a group is new here. An error that is core.Conflict is another sign-in of the same person: read again and retry.
func (s *Service) FollowGroups(ctx context.Context, t core.TenantID, before, after User, said Said) ([]store.Op, error) {
	fresh := lacking(after.IDPGroups, before.IDPGroups)
	if len(fresh) == 0 && len(lacking(before.IDPGroups, after.IDPGroups)) == 0 {
		return nil, nil
	}
	var keys []store.Key
	for _, g := range fresh {
		keys = append(keys, store.GroupSeen(t, g))
	}
	index, seen, err := s.regroup(ctx, t, after.Email, before, after, keys...)
	if err != nil {
		return nil, err
	}
	if err := s.see(ctx, t, seen, fresh, said); err != nil {
		return nil, err
	}
	if err := index.before(ctx, s.DB); err != nil {
		return nil, err
	}
	return index.within()
}

// see writes down that groups were seen. Others may come with the same ones at this very moment; who is second has nothing
// left to write, so this never holds up a sign-in for more than it takes to look again.
func (s *Service) see(ctx context.Context, t core.TenantID, items []store.Item, groups []core.GroupName, said Said) error {
	for len(groups) > 0 {
		n := min(len(groups), store.MaxOps)
		first := true
		err := store.Retry(ctx, func() error {
			part := items[:n]
			if !first {
				var keys []store.Key
				for _, it := range part {
					keys = append(keys, it.Key)
				}
				var err error
				if part, err = s.DB.Get(ctx, keys...); err != nil {
					return err
				}
			}
			first = false
			return s.seeOnce(ctx, part, groups[:n], said)
		})
		if err != nil && !errors.Is(err, core.Conflict) {
			return err
		}
		items, groups = items[n:], groups[n:]
	}
	return nil
}

func (s *Service) seeOnce(ctx context.Context, items []store.Item, groups []core.GroupName, said Said) error {
	now := s.Now()
	var o ops
	for i, it := range items {
		rec, err := SeenGroups.Decode(it)
		if err != nil {
			return err
		}
		g := rec.Value
		switch {
		case !rec.Exists():
			g = SeenGroup{Name: groups[i], Connection: said.Connection, Alias: said.Alias, FirstSeen: now, FirstBy: said.Email}
		case now.Sub(g.LastSeen) < seenAgain && g.Connection == said.Connection:
			continue
		}
		g.Connection, g.Alias, g.LastSeen = said.Connection, said.Alias, now
		o.add(SeenGroups.Put(it.Key, it.Version, g))
	}
	if len(o.list) == 0 {
		return o.err
	}
	return o.commit(ctx, s.DB)
}

// GroupsSeen is every group that identity providers told of, by name.
func (s *Service) GroupsSeen(ctx context.Context, t core.TenantID) iter.Seq2[store.Record[SeenGroup], error] {
	return SeenGroups.List(ctx, s.DB, store.GroupsSeen(t))
}

// ForgetGroup forgets that a group was seen. It changes nothing about who is in it, nor the rules that name it; it is seen
// again when somebody comes to be in it. One that was not seen is core.NotFound.
func (s *Service) ForgetGroup(ctx context.Context, actor core.Actor, t core.TenantID, g core.GroupName) error {
	return store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.GroupSeen(t, g))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		if items[1].Version == 0 {
			return fmt.Errorf("group: %w", core.NotFound)
		}
		record := groupRecord(t, g, audit.Delete)
		record.Reason = "forgotten that it was seen"
		var o ops
		o.list = append(o.list, store.Delete(items[1].Key, items[1].Version))
		o.add(audit.Op(actor, s.Now(), record))
		return o.commit(ctx, s.DB)
	})
}
