package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/transfer"
	"github.com/fleetpass/fleetpass/functions"
)

const acme core.TenantID = "acme"

const password = "correct horse battery"

// clock is a time that stands still until it is moved. It begins at the real time, for stores that have a clock of their own.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Now().Truncate(time.Second).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// site is a Fleetpass over some store.
type site struct {
	t     testing.TB
	db    store.DB
	clock *clock
	keys  keys.Wrapper
	*functions.System
}

// master is a key service of its own for each number.
func master(t testing.TB, n byte) keys.Wrapper {
	t.Helper()
	w, err := localkeys.New(bytes.Repeat([]byte{n}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newSite(t testing.TB, db store.DB, c *clock, w keys.Wrapper) *site {
	t.Helper()
	sys, err := functions.New(functions.Config{
		DB: db, Wrapper: w, Queue: storequeue.New(db, c.Now), Base: "https://fleetpass.example", Now: c.Now, Log: slog.New(slog.DiscardHandler),
		Dial:      func(sync.Target) (sync.Cluster, error) { return nil, fmt.Errorf("no cluster: %w", core.Unavailable) },
		Providers: map[sso.Kind]sso.Provider{},
	})
	if err != nil {
		t.Fatal(err)
	}
	sys.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	return &site{t, db, c, w, sys}
}

func newBolt(t testing.TB, c *clock) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// found is what a filled site holds that must survive.
type found struct {
	cookie, refresh string
	cluster         core.ClusterID
	project         core.ScopeID
	app             core.ApplicationID
	secret          string
	sealed          []byte // a secret of the tenant's: "a client secret", for the purpose "connection/c1/secret"
}

// fill uses a site as people do, for tenant acme and another beside it, and adds what use brings only in time.
func (s *site) fill() (f found) {
	t, ctx := s.t, context.Background()
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Org.EnsureSystem(ctx)
	check(err)
	for _, id := range []string{"acme", "globex", "a-much-longer-name-than-the-rest"} {
		welcome, err := s.Org.CreateTenant(ctx, core.SystemActor(core.SystemTenant), id, "Tenant "+id)
		check(err)
		_, err = s.Directory.RedeemWelcome(ctx, core.Actor{Tenant: core.TenantID(id)}, welcome, "ada@example.com", password, s.Access.FirstAdministrator)
		check(err)
	}
	actor := core.SystemActor(acme)
	group, err := s.Directory.CreateGroup(ctx, actor, acme, `räsearch "1" <ops>`)
	check(err)
	for i := range 15 {
		u, _, err := s.Directory.CreateUser(ctx, actor, acme, directory.NewUser{Email: fmt.Sprintf("person-%d@exämple.example", i), Password: password})
		check(err)
		_, err = s.Directory.AddMember(ctx, actor, acme, group.Name, u.Email)
		check(err)
	}
	app, secret, err := s.Directory.CreateApplication(ctx, actor, acme, directory.NewApplication{Name: "console"})
	check(err)
	f.app, f.secret = app.ID, secret
	check(s.Ring.EnsureSealing(ctx, acme))
	f.sealed, err = s.Ring.Seal(ctx, acme, "connection/c1/secret", []byte("a client secret"))
	check(err)
	viewer, _ := policy.RoleByName("Viewer")
	for n, name := range []string{"gpu-east", "gpu-west", "gone"} {
		c, err := s.Org.CreateCluster(ctx, actor, acme, name, org.Reach{Mode: org.Agent})
		check(err)
		d, err := s.Org.CreateDepartment(ctx, actor, acme, c.Cluster, "research")
		check(err)
		p, err := s.Org.CreateProject(ctx, actor, acme, org.NewProject{Name: "team-a", Parent: d.ID})
		check(err)
		for i, scope := range []core.ScopeID{core.AccountScope(acme), c.ID, d.ID, p.ID} {
			_, err = s.Access.Seed(ctx, acme, access.NewRule{
				Subject: core.UserSubject(core.Email(fmt.Sprintf("person-%d@exämple.example", i+5*n))), Role: viewer.ID, Scope: scope,
				ExpiresAt: s.clock.Now().Add(time.Duration(i) * 24 * time.Hour).Add(time.Hour), Reason: "seeded for " + name,
			})
			check(err)
		}
		f.cluster, f.project = c.Cluster, p.ID
		if name == "gone" { // a tombstone that is not swept yet, with rules in it
			check(s.Org.DeleteScope(ctx, actor, acme, c.ID, true))
			continue
		}
		s.put(store.Recorded(acme, c.Cluster, "rolebinding/team-a/fleetpass viewer"), []byte(`{"uid":"1"}`), time.Time{})
		s.put(store.Sync(acme, c.Cluster), []byte(`{"wanted":7,"reached":6,"counts":{}}`), time.Time{})
	}
	scopes, err := s.Org.Scopes(ctx, acme)
	check(err)
	for _, sc := range scopes {
		if sc.Kind == core.Project {
			f.cluster, f.project = sc.Cluster, sc.ID
		}
	}

	// Sealed audit records, and some that are not.
	_, _, err = audit.Seal(ctx, s.db, acme, s.clock.Now())
	check(err)
	_, err = s.Directory.UpdateProfile(ctx, actor, acme, "ada@example.com", func(p *directory.Profile) {})
	check(err)

	// Somebody is signed in, with a refresh family; somebody else mistyped.
	ada, err := s.Directory.Authenticate(ctx, core.Actor{Tenant: acme, Address: "192.0.2.7"}, "ada@example.com", password, false)
	check(err)
	if _, err := s.Directory.Authenticate(ctx, core.Actor{Tenant: acme, Address: "2001:db8::7"}, "ada@example.com", "wrong", false); err == nil {
		t.Fatal("a wrong password was taken")
	}
	tenant, err := s.Org.Tenant(ctx, acme)
	check(err)
	who := core.Actor{Tenant: acme, Subject: core.UserSubject(ada.Email), UserID: ada.ID}
	cookie, sess, ops, err := s.Sessions.Open(tenant.Value, who, session.Proof{User: ada, At: s.clock.Now(), Methods: []string{"pwd"}})
	check(err)
	family, op, err := s.Sessions.Begin(tenant.Value, session.Family{Client: "fleetpass-cli", Email: ada.Email, User: ada.ID, Epoch: ada.Epoch, AuthTime: sess.AuthTime}, 0)
	check(err)
	check(s.db.Commit(ctx, append(ops, op)...))
	f.cookie = cookie
	f.refresh, err = s.Sessions.Token(ctx, acme, family)
	check(err)

	// What nobody can type: names of every byte, the longest keys, the largest bodies, bodies that are no JSON and no text.
	hour := s.clock.Now().Add(time.Hour)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	s.put(store.ApplicationName(acme, string(every)), every, time.Time{})
	s.put(store.Attempts(acme, "a#b\x7f#\x1fc", ""), []byte("{}"), hour)
	s.put(store.Used(acme, "code", strings.Repeat("ü", 300)), nil, hour)
	s.put(store.Used(acme, "largest", strings.Repeat("k", store.MaxKey-len("acme\x1fusedlargest\x1f"))), bytes.Repeat([]byte{0}, store.MaxBody), hour)
	s.put(store.Login(acme, "text of \u2028 and \x00"), []byte("\x00\x1f\u2028\"\\<&>\ufffd"), hour.Add(time.Millisecond))
	s.put(store.Code(acme, "empty"), nil, hour)
	s.put(store.DeadLetter(acme, "sync", "cluster#1"), []byte(`{"reason":"it hangs"}`), hour.Add(14*24*time.Hour))
	s.put(store.Code(acme, "expired"), []byte("gone"), s.clock.Now().Add(time.Second))
	for i := range 150 { // more than one commit's worth
		s.put(store.Used(acme, "many", fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, 200), hour)
	}
	s.clock.advance(2 * time.Second)
	return f
}

func (s *site) put(k store.Key, body []byte, expires time.Time) {
	s.t.Helper()
	items, err := s.db.Get(context.Background(), k)
	if err == nil {
		err = s.db.Commit(context.Background(), store.Put(k, items[0].Version, body).Until(expires))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// dump is all that a store holds of a tenant, however it came there: every partition that erasing it would empty, those of
// every cluster named, its jobs, its registry entry and Meta. It is written apart from the code under test.
func dump(t testing.TB, db transfer.Source, of core.TenantID, clusters ...core.ClusterID) map[string]string {
	t.Helper()
	all := map[string]string{}
	ranges := append(store.PartitionsOf(of), store.Only(store.Meta(of)), store.Only(store.TenantEntry(of)), store.ClusterRules(of, store.InAccount))
	for _, c := range clusters {
		ranges = append(ranges, store.ClusterRules(of, store.InCluster(c)), store.RecordedIn(of, c))
	}
	add := func(it store.Item) {
		all[it.Key.String()] = fmt.Sprintf("%s until %d", it.Body, it.Expires.Unix())
	}
	for _, r := range ranges {
		for it, err := range db.List(context.Background(), r) {
			if err != nil {
				t.Fatal(err)
			}
			if !it.Key.IsOutbox() { // which stays behind: see the package's comment
				add(it)
			}
		}
	}
	for shard := range store.DueShards {
		for it, err := range db.List(context.Background(), store.DueBefore(shard, time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC))) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(it.Key.Sort(), "\x1f"+string(of)+"\x1f") {
				add(it)
			}
		}
	}
	return all
}

// clustersOf is every cluster that a store ever knew of acme.
func clustersOf(t testing.TB, db store.DB) (list []core.ClusterID) {
	t.Helper()
	for it, err := range db.List(context.Background(), store.Scopes(acme)) {
		if err != nil {
			t.Fatal(err)
		}
		if id := core.ScopeID(it.Key.Sort()); len(id) == 36 {
			list = append(list, core.ClusterID(id))
		}
	}
	if len(list) == 0 {
		t.Fatal("no clusters")
	}
	return list
}

func (s *site) copier(from transfer.Source, w transfer.Wrappers) *transfer.Copier {
	return &transfer.Copier{From: from, FromName: "the source", To: s.db, Wrappers: w, Now: s.clock.Now}
}
