package directory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

// provided is a sign-in at an identity provider, up to its commit, again and again if it has to be.
func (w *world) provided(ctx context.Context, e core.Email, groups ...core.GroupName) error {
	said := directory.Said{Connection: "c1", Alias: "corp", Email: e, Groups: slices.Clone(groups)}
	slices.Sort(said.Groups)
	return store.Retry(ctx, func() error {
		rec, err := w.User(ctx, acme, e)
		if err != nil && !errors.Is(err, core.NotFound) {
			return err
		}
		rec.Key = store.User(acme, e)
		u, ops, err := w.FromProvider(core.Actor{Tenant: acme}, rec, said)
		if err != nil {
			return err
		}
		index, err := w.FollowGroups(ctx, acme, rec.Value, u, said)
		if err != nil {
			return err
		}
		return w.DB.Commit(ctx, append(ops, index...)...)
	})
}

// indexed compares the member index with what the people's records say: lacking are memberships that it does not know, and
// stale hints those that are none any more.
func (w *world) indexed(t testing.TB) (lacking, stale []string) {
	t.Helper()
	groups := map[core.GroupName]bool{}
	var people []directory.User
	for rec, err := range w.Users(context.Background(), acme) {
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, rec.Value)
		for _, g := range rec.Value.AllGroups() {
			groups[g] = true
		}
	}
	for _, g := range []core.GroupName{"a", "b", "c", "d"} {
		groups[g] = true
	}
	for g := range groups {
		hinted := map[core.Email]bool{}
		var after core.Email
		for {
			emails, err := directory.Hinted(context.Background(), w.DB, acme, g, after, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range emails {
				hinted[e], after = true, e
			}
			if len(emails) < 7 {
				break
			}
		}
		for _, u := range people {
			if u.In(g) && !hinted[u.Email] {
				lacking = append(lacking, fmt.Sprintf("%s in %s", u.Email, g))
			}
			if u.In(g) {
				delete(hinted, u.Email)
			}
		}
		for e := range hinted {
			stale = append(stale, fmt.Sprintf("%s in %s", e, g))
		}
	}
	return lacking, stale
}

// watched is a store that looks at the index after every commit.
type watched struct {
	store.DB
	look func()
}

func (d watched) Commit(ctx context.Context, ops ...store.Op) error {
	err := d.DB.Commit(ctx, ops...)
	d.look()
	return err
}

// At no moment is anybody in a group that the index does not know them in, whatever changes; and what is left behind is nothing,
// but where somebody loses more groups at a sign-in than one commit takes.
func TestMemberIndex(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	r := rand.New(rand.NewPCG(1, 2))
	groups := []core.GroupName{"a", "b", "c", "d"}
	whole := w.DB
	w.DB = watched{whole, func() {
		if lacking, _ := w.indexed(t); len(lacking) != 0 {
			t.Errorf("the index lacks %v", lacking)
		}
	}}
	pick := func() core.Email { return core.Email(fmt.Sprintf("p%d@corp.example", r.IntN(4))) }
	for n := range 300 {
		g := groups[r.IntN(len(groups))]
		var err error
		switch r.IntN(8) {
		case 0, 1:
			err = w.provided(ctx, pick(), groups[:r.IntN(5)]...)
		case 2:
			err = w.provided(ctx, pick(), g)
		case 3:
			_, err = w.AddMember(ctx, w.admin, acme, g, pick())
		case 4:
			_, err = w.RemoveMember(ctx, w.admin, acme, g, pick())
		case 5:
			if _, err = w.CreateGroup(ctx, w.admin, acme, string(g)); err != nil && r.IntN(2) == 0 {
				err = w.DeleteGroup(ctx, w.admin, acme, g)
			}
		case 6:
			_, _, err = w.Link(ctx, w.admin, acme, pick(), []string{"", "c1"}[r.IntN(2)], nil)
		case 7:
			if r.IntN(3) == 0 {
				err = w.DeleteUser(ctx, w.admin, acme, pick())
			}
		}
		for _, fine := range []error{core.NotFound, core.Exists, core.Unauthenticated} { // nobody, there already, local by now
			if errors.Is(err, fine) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, stale := w.indexed(t); len(stale) != 0 {
			t.Fatalf("step %d: the index still says %v", n, stale)
		}
	}

	// As many groups as a person may come with, and none of them the next time.
	many := make([]core.GroupName, 500)
	for i := range many {
		many[i] = core.GroupName(fmt.Sprintf("many-%03d", i))
	}
	for _, said := range [][]core.GroupName{many, many[:450], many[:10], many, nil} {
		if err := w.provided(ctx, "rich@corp.example", said...); err != nil {
			t.Fatal(err)
		}
		var in int
		for _, g := range many {
			for _, err := range w.InGroup(ctx, acme, g) {
				if err != nil {
					t.Fatal(err)
				}
				in++
			}
		}
		if in != len(said) {
			t.Errorf("in %d groups, want %d", in, len(said))
		}
	}
	if err := w.provided(ctx, "rich@corp.example", many[:300]...); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteUser(ctx, w.admin, acme, "rich@corp.example"); err != nil {
		t.Fatal(err)
	}
	if emails, err := directory.Hinted(ctx, w.DB, acme, many[200], "", 5); err != nil || len(emails) != 0 {
		t.Errorf("after the person went: %v, %v", emails, err)
	}
}

// However many come with the same new group at once, each of them comes in, and one of them was the first.
func TestNewGroupOfMany(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := w.provided(t.Context(), core.Email(fmt.Sprintf("p%d@corp.example", i)), "new", "newer"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for rec, err := range w.GroupsSeen(t.Context(), acme) {
		g := rec.Value
		if err != nil || g.FirstBy == "" || g.Alias != "corp" || !g.FirstSeen.Equal(w.clock()) || !g.LastSeen.Equal(w.clock()) {
			t.Errorf("%+v, %v", g, err)
		}
	}
	if lacking, stale := w.indexed(t); len(lacking)+len(stale) != 0 {
		t.Errorf("lacking %v, stale %v", lacking, stale)
	}
	n := 0
	for _, err := range w.InGroup(t.Context(), acme, "new") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d members", n)
	}
	// The same person from two places at once.
	for i := range 10 {
		var both sync.WaitGroup
		for _, g := range []core.GroupName{"x", "y"} {
			both.Go(func() {
				if err := w.provided(t.Context(), "p0@corp.example", g, core.GroupName(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if lacking, stale := w.indexed(t); len(lacking)+len(stale) != 0 {
			t.Errorf("lacking %v, stale %v", lacking, stale)
		}
	}
}

// What the index and the groups seen cost a sign-in: nothing, where the groups are as before.
func TestRoundTripsOfGroups(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		what   string
		who    core.Email
		groups []core.GroupName
		want   int
	}{
		{"first, without groups", "a@corp.example", nil, 2},
		{"first, with new groups", "b@corp.example", []core.GroupName{"x", "y"}, 4},
		{"the same groups", "b@corp.example", []core.GroupName{"x", "y"}, 2},
		{"first, with known groups", "c@corp.example", []core.GroupName{"x", "y"}, 3},
		{"one more, known", "c@corp.example", []core.GroupName{"x", "y"}, 2},
		{"one less", "c@corp.example", []core.GroupName{"x"}, 3},
		{"none", "c@corp.example", nil, 3},
	} {
		w.db.Reset()
		if err := w.provided(t.Context(), tt.who, tt.groups...); err != nil {
			t.Fatal(err)
		}
		if n := w.db.Reset(); n.RoundTrips() != tt.want {
			t.Errorf("%s: %d round trips (%+v), want %d", tt.what, n.RoundTrips(), n, tt.want)
		}
	}
	// A group that comes again after an hour is written anew, and one within it is not.
	first := w.clock()
	w.pass(2 * time.Hour)
	if err := w.provided(t.Context(), "d@corp.example", "x"); err != nil {
		t.Fatal(err)
	}
	for rec, err := range w.GroupsSeen(t.Context(), acme) {
		if want := map[core.GroupName]time.Time{"x": w.clock(), "y": first}[rec.Value.Name]; err != nil || !rec.Value.LastSeen.Equal(want) || !rec.Value.FirstSeen.Equal(first) {
			t.Errorf("%+v, %v; last seen at %v", rec.Value, err, want)
		}
	}
	if err := w.ForgetGroup(t.Context(), w.admin, acme, "x"); err != nil {
		t.Error(err)
	}
	wantErr(t, w.ForgetGroup(t.Context(), w.admin, acme, "x"), core.NotFound, "")
}

// Who is in a group is read in chunks, as far as anybody looks, and never by way of everybody.
func TestMembersCostWhatTheyAre(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for i := range 130 {
		if err := w.provided(ctx, core.Email(fmt.Sprintf("p%03d@corp.example", i)), []core.GroupName{"few", "many"}[min(i/3, 1)]); err != nil {
			t.Fatal(err)
		}
	}
	count := func(g core.GroupName, most, trips int) {
		t.Helper()
		w.db.Reset()
		n := 0
		for _, err := range w.InGroup(ctx, acme, g) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == most {
				break
			}
		}
		if c := w.db.Reset(); n != most || c.RoundTrips() != trips {
			t.Errorf("%s: %d people in %d round trips (%+v), want %d in %d", g, n, c.RoundTrips(), c, most, trips)
		}
	}
	count("few", 3, 2)
	count("many", 1, 2)
	count("many", 50, 2)
	count("many", 127, 6)
}

// unhinted takes people out of the index as if they had come into the group before there was one.
func (w *world) unhinted(t testing.TB, g core.GroupName, people ...core.Email) {
	t.Helper()
	for _, e := range people {
		items, err := w.DB.Get(context.Background(), store.Member(acme, g, e))
		if err == nil {
			err = w.DB.Commit(context.Background(), store.Delete(items[0].Key, items[0].Version))
		}
		if err != nil || items[0].Version == 0 {
			t.Fatal(err)
		}
	}
}

// A group that is deleted leaves nobody in it whom the index does not know of: a later group of its name would give them its rights.
func TestDeleteGroupOfTheUnindexed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, g := range []string{"a", "b"} {
		if _, err := w.CreateGroup(ctx, w.admin, acme, g); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"p0", "p1", "p2"} {
			e := core.Email(name + "@example.com")
			if g == "a" {
				w.user(t, string(e))
			}
			if _, err := w.AddMember(ctx, w.admin, acme, core.GroupName(g), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.unhinted(t, "a", "p0@example.com", "p2@example.com")
	if err := w.DeleteGroup(ctx, w.admin, acme, "a"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for rec, err := range w.Users(ctx, acme) {
		if n++; err != nil || !slices.Equal(rec.Value.Groups, []core.GroupName{"b"}) {
			t.Errorf("%s is in %v, %v", rec.Value.Email, rec.Value.Groups, err)
		}
	}
	if n != 3 {
		t.Errorf("%d people", n)
	}
	if lacking, stale := w.indexed(t); len(lacking)+len(stale) != 0 {
		t.Errorf("lacking %v, stale %v", lacking, stale)
	}
}

// Where somebody's groups change, the index comes to know of those that stay, in the round trips that the change takes anyway.
func TestIndexMends(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const who = core.Email("p@corp.example")
	some := []core.GroupName{"a", "b"}
	if err := w.provided(ctx, "first@corp.example", "a", "b", "c"); err != nil {
		t.Fatal(err)
	}
	if err := w.provided(ctx, who, some...); err != nil {
		t.Fatal(err)
	}
	w.unhinted(t, "a", who)
	if err := w.provided(ctx, who, some...); err != nil { // nothing changes, and nothing is read
		t.Fatal(err)
	}
	if lacking, _ := w.indexed(t); len(lacking) != 1 {
		t.Fatalf("lacking %v", lacking)
	}
	w.db.Reset()
	if err := w.provided(ctx, who, "a", "b", "c"); err != nil {
		t.Fatal(err)
	}
	if n := w.db.Reset(); n.RoundTrips() != 3 {
		t.Errorf("%d round trips (%+v)", n.RoundTrips(), n)
	}
	if lacking, stale := w.indexed(t); len(lacking)+len(stale) != 0 {
		t.Errorf("lacking %v, stale %v", lacking, stale)
	}

	// However many there are, a commit holds no more than it can, and no group that one comes to waits for those that stay.
	many := make([]core.GroupName, 300)
	for i := range many {
		many[i] = core.GroupName(fmt.Sprintf("many-%03d", i))
	}
	if err := w.provided(ctx, who, many...); err != nil {
		t.Fatal(err)
	}
	for _, g := range many[:250] {
		w.unhinted(t, g, who)
	}
	if err := w.provided(ctx, who, many[:240]...); err != nil {
		t.Fatal(err)
	}
	if lacking, _ := w.indexed(t); len(lacking) == 240 || len(lacking) == 0 {
		t.Errorf("the index lacks %d", len(lacking))
	}
	if err := w.provided(ctx, who, "z"); err != nil {
		t.Fatal(err)
	}
	if lacking, _ := w.indexed(t); len(lacking) != 0 {
		t.Errorf("lacking %v", lacking)
	}
}
