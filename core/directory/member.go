package directory

import (
	"context"
	"iter"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The member index says who may be in a group, whichever way they came to it, so that nothing has to read every person of the
// tenant to find a group's. An item of it is a hint: it is there in or before the commit that puts the person into the group,
// and goes in or after the one that takes them out. So who is in a group has a hint, and who has one need not be in it: the
// person's record decides, always. Only who has been in a group since before there was an index has none in it: any change of
// their groups mends that, and what must be certain does not go by the index.

// hint is what an item of the member index holds.
type hint struct {
	Email core.Email `json:"email"`
}

var hints store.Table[hint]

// maxIndexOps is how many operations of one commit may be the index's. What else a sign-in commits are some twenty.
const maxIndexOps = 70

// Hinted returns the e-mails of the people who may be in a group, in order, from behind an e-mail (empty: from the first), and
// at most so many. Whether they are, their records say.
func Hinted(ctx context.Context, db store.DB, t core.TenantID, g core.GroupName, after core.Email, most int) ([]core.Email, error) {
	r := store.Members(t, g)
	if after != "" {
		r = r.After(store.Member(t, g, after).Sort())
	}
	r.Limit = most
	var out []core.Email
	for rec, err := range hints.List(ctx, db, r) {
		if err != nil {
			return nil, err
		}
		out = append(out, rec.Value.Email)
	}
	return out, nil
}

// memberChunk is how many people are read at once.
const memberChunk = 50

// InGroup is everybody in a group, by e-mail, whether they were put into it here or an identity provider said so.
func (s *Service) InGroup(ctx context.Context, t core.TenantID, g core.GroupName) iter.Seq2[store.Record[User], error] {
	return s.MembersIn(ctx, t, g, store.Members(t, g))
}

// MembersIn is those in a group whose items of the index lie in a range of store.Members, in its order. It reads fifty of them at
// a time, as far as it is ranged over.
func (s *Service) MembersIn(ctx context.Context, t core.TenantID, g core.GroupName, r store.Range) iter.Seq2[store.Record[User], error] {
	return func(yield func(store.Record[User], error) bool) {
		part := r
		for {
			part.Limit = memberChunk
			people, last, err := s.membersIn(ctx, t, g, part)
			for _, rec := range people {
				if !yield(rec, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Record[User]{}, err)
				return
			}
			if last == "" {
				return
			}
			part = part.After(last)
		}
	}
}

// membersIn reads one chunk, and says where the next one begins; empty: there is none.
func (s *Service) membersIn(ctx context.Context, t core.TenantID, g core.GroupName, r store.Range) (in []store.Record[User], last string, err error) {
	var keys []store.Key
	for rec, err := range hints.List(ctx, s.DB, r) {
		if err != nil {
			return nil, "", err
		}
		keys, last = append(keys, store.User(t, rec.Value.Email)), rec.Key.Sort()
	}
	if len(keys) < r.Limit {
		last = ""
	}
	if len(keys) == 0 {
		return nil, "", nil
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return nil, "", err
	}
	for _, it := range items {
		rec, err := Users.Decode(it)
		if err != nil {
			return nil, "", err
		}
		if rec.Value.In(g) {
			in = append(in, rec)
		}
	}
	return in, last, nil
}

// In says whether the person is in a group, whichever way they came to it.
func (u User) In(g core.GroupName) bool {
	_, given := slices.BinarySearch(u.Groups, g)
	_, said := slices.BinarySearch(u.IDPGroups, g)
	return given || said
}

// regroup is what a change of somebody's groups asks of the member index.
type regroup struct {
	join, leave []store.Item // as the index is now
	mend        []store.Item // of groups that stay as they are, and of which the index does not know
	email       core.Email
	room        int // for operations in the change's own commit
}

// regroup reads the index for a person whose groups change, and more items. Groups that stay as they are cost no round trip; where
// others change, it is seen to that the index knows of them.
func (s *Service) regroup(ctx context.Context, t core.TenantID, e core.Email, before, after User, more ...store.Key) (regroup, []store.Item, error) {
	var keys []store.Key
	joined, left := lacking(after.AllGroups(), before.AllGroups()), lacking(before.AllGroups(), after.AllGroups())
	for _, g := range slices.Concat(joined, left) {
		keys = append(keys, store.Member(t, g, e))
	}
	changes := len(keys)
	keys = append(keys, more...)
	if changes > 0 { // of the groups that stay, as many as are read along for nothing
		stay := lacking(after.AllGroups(), joined)
		free := (store.MaxGet - len(keys)%store.MaxGet) % store.MaxGet
		for _, g := range stay[:min(len(stay), free)] {
			keys = append(keys, store.Member(t, g, e))
		}
	}
	var items []store.Item
	for part := range slices.Chunk(keys, store.MaxGet) {
		read, err := s.DB.Get(ctx, part...)
		if err != nil {
			return regroup{}, nil, err
		}
		items = append(items, read...)
	}
	n, m, l := len(joined), changes, changes+len(more)
	mend := slices.DeleteFunc(slices.Clone(items[l:]), func(it store.Item) bool { return it.Version != 0 })
	return regroup{join: items[:n:n], leave: items[n:m:m], mend: mend, email: e, room: maxIndexOps}, items[m:l:l], nil
}

// lacking is what of a sorted list is not in another.
func lacking(list, other []core.GroupName) []core.GroupName {
	var out []core.GroupName
	for _, g := range list {
		if _, found := slices.BinarySearch(other, g); !found {
			out = append(out, g)
		}
	}
	return out
}

// before puts what the commit has no room for into the index, ahead of it. Hints are written even where there are some, so that
// nobody who takes one away meanwhile passes the change unseen.
func (r *regroup) before(ctx context.Context, db store.DB) error {
	var ops ops
	for _, it := range r.join[min(len(r.join), r.room):] {
		ops.add(hints.Put(it.Key, it.Version, hint{r.email}))
	}
	if ops.err != nil {
		return ops.err
	}
	return commitAll(ctx, db, ops.list)
}

// within is the operations of the change's own commit.
func (r *regroup) within() ([]store.Op, error) {
	var ops ops
	for _, it := range r.join[:min(len(r.join), r.room)] {
		ops.add(hints.Put(it.Key, it.Version, hint{r.email}))
	}
	room := r.room - len(ops.list)
	for _, it := range r.leave[:min(len(r.leave), room)] {
		ops.list = append(ops.list, store.Delete(it.Key, it.Version))
	}
	for _, it := range r.mend[:min(len(r.mend), r.room-len(ops.list))] {
		ops.add(hints.Put(it.Key, it.Version, hint{r.email}))
	}
	return ops.list, ops.err
}

// after takes away what the commit had no room for, behind it. A hint that somebody wrote again is wanted again, and stays; and
// one that stays for any other reason says too much, and nothing false: so what goes wrong here ends nothing.
func (r *regroup) after(ctx context.Context, db store.DB) {
	room := r.room - min(len(r.join), r.room)
	var list []store.Op
	for _, it := range r.leave[min(len(r.leave), room):] {
		if it.Version != 0 {
			list = append(list, store.Delete(it.Key, it.Version))
		}
	}
	_ = commitAll(ctx, db, list)
}

// regroup commits, with what the member index is to say, and what of it has no room before and after.
func (o *ops) regroup(ctx context.Context, db store.DB, index regroup) error {
	if o.err != nil {
		return o.err
	}
	list, err := index.within()
	if err != nil {
		return err
	}
	if err := index.before(ctx, db); err != nil {
		return err
	}
	if err := db.Commit(ctx, append(o.list, list...)...); err != nil {
		return err
	}
	index.after(ctx, db)
	return nil
}

func commitAll(ctx context.Context, db store.DB, list []store.Op) error {
	for part := range slices.Chunk(list, store.MaxOps) {
		if err := db.Commit(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}
