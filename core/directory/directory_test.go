package directory_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/events"
)

const acme core.TenantID = "acme"

// cheap is what a hash costs where a test is about something else.
var cheap = directory.Cost{Memory: 64, Time: 1, Threads: 1}

// world is a store with the tenant acme, at a time that a test moves.
type world struct {
	*directory.Service
	org     *org.Service
	db      *storetest.Counter
	admin   core.Actor
	welcome string // acme's token

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) until(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = at
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w.db = &storetest.Counter{DB: db}
	ring := keys.NewRing(w.db, wrapper, w.clock)
	w.org = &org.Service{DB: w.db, Ring: ring, Now: w.clock}
	if _, err := w.org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	operator := core.Actor{Tenant: core.SystemTenant, Subject: core.UserSubject("op@example.com")}
	if w.welcome, err = w.org.CreateTenant(t.Context(), operator, "acme", "Acme"); err != nil {
		t.Fatal(err)
	}
	w.Service = &directory.Service{DB: w.db, Ring: ring, Now: w.clock, Cost: cheap}
	w.admin = core.Actor{Tenant: acme, Subject: core.UserSubject("ada@example.com"), UserID: "u1"}
	return w
}

const good = "a good long passphrase"

// user makes a person whose password is good.
func (w *world) user(t *testing.T, email string) directory.User {
	t.Helper()
	u, _, err := w.CreateUser(t.Context(), w.admin, acme, directory.NewUser{Email: email, Password: good})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (w *world) revision(t *testing.T) core.Revision {
	t.Helper()
	rec, err := w.org.Tenant(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value.Revision
}

// facts is every event of the tenant's directory, in words.
func (w *world) facts(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.db.List(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			if !it.Key.IsOutbox() {
				break
			}
			switch _, f, err := events.Decode(it.Body); f := f.(type) {
			case events.UserChanged:
				out = append(out, f.Change)
			case events.ApplicationChanged:
				out = append(out, "application "+f.Change)
			default:
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) audits(t *testing.T) []audit.Record {
	t.Helper()
	var out []audit.Record
	for r, err := range audit.List(t.Context(), w.db, acme, time.Time{}, time.Time{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// wantErr fails unless err is of the kind, and, if it is about a field, names it.
func wantErr(t *testing.T, err error, kind core.Kind, field string) {
	t.Helper()
	var f *core.FieldError
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want %q", err, kind)
	} else if field != "" && (!errors.As(err, &f) || f.Field != field) {
		t.Errorf("got error %v, want one about %s", err, field)
	}
}

func TestCreateUser(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, temporary, err := w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: " Grace@Example.COM ", Profile: directory.Profile{FirstName: "Grace"}})
	if err != nil {
		t.Fatal(err)
	}
	if u.Email != "grace@example.com" || u.ID == "" || !u.Local || u.Epoch == "" || u.FirstName != "Grace" || !u.MustChange() || len(temporary) < 20 {
		t.Errorf("got %+v, %q", u, temporary)
	}
	byID, err := w.UserByID(ctx, acme, u.ID)
	if err != nil || byID.Value.Email != u.Email {
		t.Errorf("by id: %+v, %v", byID.Value, err)
	}
	_, _, err = w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "GRACE@example.com"})
	wantErr(t, err, core.Exists, "")
	for _, bad := range []string{"", "grace", "system:masters", "SYSTEM:masters@example.com", "system\u200b:masters", "a b@example.com", strings.Repeat("a", 251) + "@b.c"} {
		_, _, err := w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: bad})
		wantErr(t, err, core.Invalid, "email")
	}
	root := int64(0)
	_, _, err = w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "x@example.com", Profile: directory.Profile{UID: &root}})
	wantErr(t, err, core.Invalid, "uid")
	_, _, err = w.CreateUser(ctx, w.admin, "nobody", directory.NewUser{Email: "x@example.com"})
	wantErr(t, err, core.NotFound, "")
}

// What ends a person's sessions changes the epoch, what changes access raises the revision, and everything is recorded
// and told in one commit.
func TestChangesOfAUser(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u := w.user(t, "grace@example.com")
	if _, err := w.CreateGroup(ctx, w.admin, acme, "physics"); err != nil {
		t.Fatal(err)
	}
	var told []string
	told = append(told, "created")
	for _, step := range []struct {
		name         string
		do           func() error
		ends, access bool
		told         string // empty: nothing changes
	}{
		{"profile", func() error {
			_, err := w.UpdateProfile(ctx, w.admin, acme, u.Email, func(p *directory.Profile) { p.LastName = "Hopper" })
			return err
		}, false, false, "profile"},
		{"disable", func() error { _, err := w.Disable(ctx, w.admin, acme, u.Email); return err }, true, true, "disabled"},
		{"disable again", func() error { _, err := w.Disable(ctx, w.admin, acme, u.Email); return err }, false, false, ""},
		{"enable", func() error { _, err := w.Enable(ctx, w.admin, acme, u.Email); return err }, false, true, "enabled"},
		{"force logout", func() error { _, err := w.ForceLogout(ctx, w.admin, acme, u.Email); return err }, true, false, "signed-out"},
		{"set password", func() error { _, err := w.SetPassword(ctx, w.admin, acme, u.Email, good+"!"); return err }, true, false, "password"},
		{"reset password", func() error { _, err := w.ResetPassword(ctx, w.admin, acme, u.Email); return err }, true, false, "password"},
		{"put into a group", func() error { _, err := w.AddMember(ctx, w.admin, acme, "physics", u.Email); return err }, false, true, "groups"},
		{"put into it again", func() error { _, err := w.AddMember(ctx, w.admin, acme, "physics", u.Email); return err }, false, false, ""},
		{"taken out of it", func() error { _, err := w.RemoveMember(ctx, w.admin, acme, "physics", u.Email); return err }, false, true, "groups"},
	} {
		before, err := w.User(ctx, acme, u.Email)
		if err != nil {
			t.Fatal(err)
		}
		rev, n := w.revision(t), len(w.audits(t))
		w.db.Reset()
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		commits := w.db.Reset().Commits
		after, err := w.User(ctx, acme, u.Email)
		if err != nil {
			t.Fatal(err)
		}
		if ended := before.Value.Epoch != after.Value.Epoch; ended != step.ends {
			t.Errorf("%s: ends what the person holds: %t, want %t", step.name, ended, step.ends)
		}
		if raised := w.revision(t) != rev; raised != step.access {
			t.Errorf("%s: raises the revision: %t, want %t", step.name, raised, step.access)
		}
		want := 0
		if step.told != "" {
			told, want = append(told, step.told), 1
		}
		if got := len(w.audits(t)) - n; got != want || commits != want {
			t.Errorf("%s: %d records in %d commits, want %d in %d", step.name, got, commits, want, want)
		}
	}
	slices.Sort(told)
	if got := w.facts(t); !slices.Equal(got, told) {
		t.Errorf("told %v, want %v", got, told)
	}
	if err := w.DeleteUser(ctx, w.admin, acme, u.Email); err != nil {
		t.Fatal(err)
	}
	_, err := w.User(ctx, acme, u.Email)
	wantErr(t, err, core.NotFound, "")
	_, err = w.UserByID(ctx, acme, u.ID)
	wantErr(t, err, core.NotFound, "")
	wantErr(t, w.DeleteUser(ctx, w.admin, acme, u.Email), core.NotFound, "")
	if again := w.user(t, "grace@example.com"); again.ID == u.ID || again.Epoch == u.Epoch {
		t.Error("the next person of that e-mail is the same")
	}
}

// No secret comes into a record, an event or an error.
func TestNoSecretsOutside(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	const canary = "Canary-5ecret-passphrase"
	u, _, err := w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "grace@example.com", Password: canary})
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := w.ResetPassword(ctx, w.admin, acme, u.Email)
	if err != nil {
		t.Fatal(err)
	}
	app, secret, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.RotateSecret(ctx, w.admin, acme, app.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Authenticate(ctx, from("203.0.113.7"), "grace@example.com", canary, false)
	text := err.Error()
	_, _, err = w.CreateUser(ctx, w.admin, acme, directory.NewUser{Email: "h@example.com", Password: canary + "\x00"})
	text += err.Error()
	n := 0
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range w.db.List(ctx, r) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			text += it.Key.String() + string(it.Body)
		}
	}
	if n < 10 || !strings.Contains(text, "grace@example.com") {
		t.Fatalf("looked at %d items only", n)
	}
	for _, s := range []string{canary, temporary, secret, second} {
		if strings.Contains(text, s) {
			t.Errorf("a secret is in the store or in an error")
		}
	}
}

func TestGroups(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a, b := w.user(t, "a@example.com"), w.user(t, "b@example.com")
	for _, bad := range []string{"a/b", "what?", "50%", "#1", "", "*", "system:masters", "ＳＹＳＴＥＭ:masters", "fleetpass-id:uid:0", "e\u0301"} {
		_, err := w.CreateGroup(ctx, w.admin, acme, bad)
		wantErr(t, err, core.Invalid, "name")
	}
	g, err := w.CreateGroup(ctx, w.admin, acme, "Physics Lab")
	if err != nil || g.Name != "Physics Lab" {
		t.Fatal(g, err)
	}
	_, err = w.CreateGroup(ctx, w.admin, acme, "Physics Lab")
	wantErr(t, err, core.Exists, "")
	_, err = w.AddMember(ctx, w.admin, acme, "absent", a.Email)
	wantErr(t, err, core.NotFound, "")
	for _, u := range []directory.User{a, b} {
		if _, err := w.AddMember(ctx, w.admin, acme, g.Name, u.Email); err != nil {
			t.Fatal(err)
		}
	}
	members, err := w.Members(ctx, acme, g.Name)
	if err != nil || len(members) != 2 {
		t.Errorf("members %v, %v", members, err)
	}
	if err := w.DeleteGroup(ctx, w.admin, acme, g.Name); err != nil {
		t.Fatal(err)
	}
	// The next group of the name begins empty.
	if _, err := w.CreateGroup(ctx, w.admin, acme, "Physics Lab"); err != nil {
		t.Fatal(err)
	}
	if members, err := w.Members(ctx, acme, g.Name); err != nil || len(members) != 0 {
		t.Errorf("members %v, %v", members, err)
	}
	wantErr(t, w.DeleteGroup(ctx, w.admin, acme, "absent"), core.NotFound, "")
}

// Somebody is put into a group while it is deleted: either the group is gone and nobody is in it, or it is still there.
func TestDeleteGroupAgainstAddMember(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u := w.user(t, "a@example.com")
	for range 10 {
		if _, err := w.CreateGroup(ctx, w.admin, acme, "g"); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() { w.AddMember(ctx, w.admin, acme, "g", u.Email) })
		both.Go(func() {
			if err := w.DeleteGroup(ctx, w.admin, acme, "g"); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if members, err := w.Members(ctx, acme, "g"); err != nil || len(members) != 0 {
			t.Fatalf("a deleted group has members: %v, %v", members, err)
		}
		if rec, err := w.User(ctx, acme, u.Email); err != nil || len(rec.Value.Groups) != 0 {
			t.Fatalf("in a deleted group: %v, %v", rec.Value.Groups, err)
		}
	}
}

func TestAllGroups(t *testing.T) {
	u := directory.User{Groups: []core.GroupName{"b", "c"}, IDPGroups: []core.GroupName{"a", "c"}}
	if got := u.AllGroups(); !slices.Equal(got, []core.GroupName{"a", "b", "c"}) {
		t.Errorf("got %v", got)
	}
}

// Of many that take the same e-mail at once, one gets it.
func TestOneUserPerEmail(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	made := 0
	var all sync.WaitGroup
	for _, spelling := range []string{"a@example.com", "A@example.com", " a@EXAMPLE.com", "a@example.com "} {
		all.Go(func() {
			_, _, err := w.CreateUser(t.Context(), w.admin, acme, directory.NewUser{Email: spelling})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, core.Exists) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made != 1 {
		t.Errorf("%d people of one e-mail", made)
	}
}
