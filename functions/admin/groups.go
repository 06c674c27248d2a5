package admin

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

func createGroup(c *call) (reply, error) {
	req, err := decode[api.GroupRequest](c)
	if err != nil {
		return failed(err)
	}
	g, err := c.Directory.CreateGroup(c.ctx, c.actor, c.tenant, req.Name)
	if err != nil {
		return failed(err)
	}
	return created(api.Group{Name: g.Name, Source: api.SourceLocal, CreatedAt: g.CreatedAt, CreatedBy: by(g.CreatedBy)})
}

// knownGroup is a group as it is known: given here, seen, or both.
type knownGroup struct {
	local store.Record[directory.Group]
	seen  store.Record[directory.SeenGroup]
}

func (g knownGroup) name() core.GroupName {
	return cmp.Or(g.local.Value.Name, g.seen.Value.Name)
}

func wireKnownGroup(g knownGroup) api.Group {
	w := api.Group{Name: g.name(), Source: api.SourceLocal}
	if g.local.Exists() {
		w.CreatedAt, w.CreatedBy = g.local.Value.CreatedAt, by(g.local.Value.CreatedBy)
	} else {
		w.Source = g.seen.Value.Alias
	}
	if seen := g.seen.Value; g.seen.Exists() {
		w.FirstSeen, w.LastSeen, w.SeenBy, w.SeenAt = seen.FirstSeen, seen.LastSeen, seen.FirstBy, seen.Alias
	}
	return w
}

// groupTable is of groups, local ones and those seen, in order of name.
var groupTable = table[knownGroup]{
	name: "groups", natural: "name", keyed: true,
	fields: []field[knownGroup]{
		textField("name", func(g knownGroup) string { return string(g.name()) }).search(),
		textField("source", func(g knownGroup) string { return wireKnownGroup(g).Source }),
		textField("createdBy", func(g knownGroup) string { return wireKnownGroup(g).CreatedBy }),
		textField("seenBy", func(g knownGroup) string { return string(g.seen.Value.FirstBy) }),
		timeField("creationTime", func(g knownGroup) time.Time { return g.local.Value.CreatedAt }).also("createdAt"),
		timeField("firstSeen", func(g knownGroup) time.Time { return g.seen.Value.FirstSeen }),
		timeField("lastSeen", func(g knownGroup) time.Time { return g.seen.Value.LastSeen }),
	},
}

func listGroups(c *call) (reply, error) {
	l, err := readListing(c, groupTable)
	if err != nil {
		return failed(err)
	}
	f, err := l.page(c.knownGroups())
	if err != nil {
		return failed(err)
	}
	return answer(f, wireKnownGroup)
}

// knownGroups is the source of all groups: the local ones and those seen, merged.
func (c *call) knownGroups() source[knownGroup] {
	local := ranges([]store.Range{store.Groups(c.tenant)}, func(r store.Range) iter.Seq2[entry[knownGroup], error] {
		return as(directory.Groups.List(c.ctx, c.DB, r), func(rec store.Record[directory.Group]) knownGroup { return knownGroup{local: rec} })
	})
	seen := ranges([]store.Range{store.GroupsSeen(c.tenant)}, func(r store.Range) iter.Seq2[entry[knownGroup], error] {
		return as(directory.SeenGroups.List(c.ctx, c.DB, r), func(rec store.Record[directory.SeenGroup]) knownGroup { return knownGroup{seen: rec} })
	})
	return func(from start) iter.Seq2[entry[knownGroup], error] {
		return merged(local(from), seen(from), func(a, b entry[knownGroup]) int {
			order := cmp.Compare(a.place, b.place)
			if from.back {
				order = -order
			}
			return order
		}, func(a, b entry[knownGroup]) entry[knownGroup] {
			a.value.seen = b.value.seen
			return a
		})
	}
}

// as is a list of records as entries of something else: their place is their sort key.
func as[T, E any](list iter.Seq2[store.Record[T], error], of func(store.Record[T]) E) iter.Seq2[entry[E], error] {
	return func(yield func(entry[E], error) bool) {
		for rec, err := range list {
			if !yield(entry[E]{rec.Key.Sort(), of(rec)}, err) || err != nil {
				return
			}
		}
	}
}

// merged is two lists of one order as one, and what is in both once.
func merged[T any](a, b iter.Seq2[T, error], compare func(a, b T) int, both func(a, b T) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		x, err, moreA := nextA()
		var y T
		moreB := false
		if err == nil {
			y, err, moreB = nextB()
		}
		for err == nil && (moreA || moreB) {
			order, next := -1, x
			switch {
			case !moreA:
				order = 1
			case moreB:
				order = compare(x, y)
			}
			switch {
			case order > 0:
				next = y
			case order == 0:
				next = both(x, y)
			}
			if !yield(next, nil) {
				return
			}
			if order <= 0 {
				x, err, moreA = nextA()
			}
			if order >= 0 && err == nil {
				y, err, moreB = nextB()
			}
		}
		if err != nil {
			var none T
			yield(none, err)
		}
	}
}

// known is the group {name}, given here or seen.
func (c *call) known() (knownGroup, error) {
	var k knownGroup
	g, err := core.ParseGroupName("{name}", c.r.PathValue("name"))
	if err != nil {
		return k, err
	}
	items, err := c.DB.Get(c.ctx, store.Group(c.tenant, g), store.GroupSeen(c.tenant, g))
	if err != nil {
		return k, err
	}
	if k.local, err = directory.Groups.Decode(items[0]); err != nil {
		return k, err
	}
	if k.seen, err = directory.SeenGroups.Decode(items[1]); err != nil {
		return k, err
	}
	if !k.local.Exists() && !k.seen.Exists() {
		return k, fmt.Errorf("group {name}: %w", core.NotFound)
	}
	return k, nil
}

// knownObject is the group {name} as GET shows it, with its rules and members: they too are what a caller goes by who deletes it.
func knownObject(c *call) (object, error) {
	k, err := c.known()
	if err != nil {
		return object{}, err
	}
	shown, err := c.groupDetails(k)
	if err != nil {
		return object{}, err
	}
	body, err := json.Marshal(shown, json.Deterministic(true))
	if err != nil {
		return object{}, err
	}
	sum := sha256.Sum256(body)
	o := object{key: k.seen.Key, version: k.seen.Version, tag: base64.RawURLEncoding.EncodeToString(sum[:18])}
	if k.local.Exists() {
		o.key, o.version = k.local.Key, k.local.Version
	}
	return o, nil
}

func getGroup(c *call) (reply, error) {
	k, err := c.known()
	if err != nil {
		return failed(err)
	}
	shown, err := c.groupDetails(k)
	if err != nil {
		return failed(err)
	}
	return ok(shown)
}

func (c *call) groupDetails(k knownGroup) (api.GroupDetails, error) {
	out := api.GroupDetails{Group: wireKnownGroup(k)}
	held, err := c.Access.List(c.ctx, c.actor, access.Query{Subjects: []core.Subject{core.GroupSubject(k.name())}, Limit: access.MaxPage})
	if err != nil {
		return out, err
	}
	names, err := c.scopeNames(held.Rules)
	if err != nil {
		return out, err
	}
	out.AccessRules = each(held.Rules, func(r core.Rule) api.AccessRule { return c.wireRule(r, names) })
	members := listing[directory.User]{table: memberTable(k.name()), limit: api.DefaultLimit}
	members.bound = c.question(members.name)
	f, err := members.page(c.membersOf(k.name()))
	if err != nil {
		return out, err
	}
	out.Members, out.NextMembers = each(f.values, wireMember(k.name())), f.next
	return out, nil
}

// memberTable is of the people in a group, who are in order of e-mail.
func memberTable(g core.GroupName) table[directory.User] {
	return table[directory.User]{
		name: "members of " + string(g), natural: "username", keyed: true,
		fields: []field[directory.User]{
			textField("username", func(u directory.User) string { return string(u.Email) }).spelt(strings.ToLower).search(),
			boolField("enabled", func(u directory.User) bool { return !u.Disabled }),
			boolField("given", func(u directory.User) bool { return slices.Contains(u.Groups, g) }),
			boolField("told", func(u directory.User) bool { return slices.Contains(u.IDPGroups, g) }),
		},
	}
}

func wireMember(g core.GroupName) func(directory.User) api.GroupMember {
	return func(u directory.User) api.GroupMember {
		return api.GroupMember{ID: u.ID, Username: u.Email, Enabled: !u.Disabled, Given: slices.Contains(u.Groups, g), Told: slices.Contains(u.IDPGroups, g)}
	}
}

func listMembers(c *call) (reply, error) {
	k, err := c.known()
	if err != nil {
		return failed(err)
	}
	l, err := readListing(c, memberTable(k.name()))
	if err != nil {
		return failed(err)
	}
	f, err := l.page(c.membersOf(k.name()))
	if err != nil {
		return failed(err)
	}
	return answer(f, wireMember(k.name()))
}

// membersOf is the source of the people in a group. The index may name some who are not, so its range has no limit.
func (c *call) membersOf(g core.GroupName) source[directory.User] {
	return func(from start) iter.Seq2[entry[directory.User], error] {
		return func(yield func(entry[directory.User], error) bool) {
			part, some := from.in(store.Members(c.tenant, g))
			if !some {
				return
			}
			for rec, err := range c.Directory.MembersIn(c.ctx, c.tenant, g, part) {
				place := store.Member(c.tenant, g, rec.Value.Email).Sort()
				if !yield(entry[directory.User]{place, rec.Value}, err) || err != nil {
					return
				}
			}
		}
	}
}

// deleteGroup takes everybody out of the group who was put into it, and forgets that it was seen. Rules that name it stay: who
// comes with it at an identity provider holds them, and the group is seen again.
func deleteGroup(c *call) (reply, error) {
	k, err := c.known()
	if err != nil {
		return failed(err)
	}
	if k.local.Exists() {
		if err := c.Directory.DeleteGroup(c.ctx, c.actor, c.tenant, k.name()); err != nil {
			return failed(err)
		}
	}
	if k.seen.Exists() {
		err := c.Directory.ForgetGroup(c.ctx, c.actor, c.tenant, k.name())
		if err != nil && !(k.local.Exists() && errors.Is(err, core.NotFound)) {
			return failed(err)
		}
	}
	return noContent()
}

func addMember(c *call) (reply, error) {
	g, e, err := c.member()
	if err != nil {
		return failed(err)
	}
	if err := c.outranks(core.GroupSubject(g), access.Lasting); err != nil {
		return failed(err)
	}
	if _, err := c.Directory.AddMember(c.ctx, c.actor, c.tenant, g, e); err != nil {
		return failed(err)
	}
	return noContent()
}

func removeMember(c *call) (reply, error) {
	g, e, err := c.member()
	if err != nil {
		return failed(err)
	}
	if _, err := c.Directory.RemoveMember(c.ctx, c.actor, c.tenant, g, e); err != nil {
		return failed(err)
	}
	return noContent()
}

// group is the group {name}, which is a local one.
func (c *call) group() (core.GroupName, error) {
	g, err := core.ParseGroupName("{name}", c.r.PathValue("name"))
	if err != nil {
		return "", err
	}
	_, err = c.Directory.Group(c.ctx, c.tenant, g)
	if errors.Is(err, core.NotFound) {
		err = fmt.Errorf("group {name}: %w", core.NotFound)
	}
	return g, err
}

// member is the group {name} and the person {email}.
func (c *call) member() (core.GroupName, core.Email, error) {
	g, err := c.group()
	if err != nil {
		return "", "", err
	}
	e, err := core.ParseEmail("{email}", c.r.PathValue("email"))
	return g, e, err
}
