package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/transfer"
)

// same compares two dumps. With keys wrapped anew those are left out: they never look the same.
func same(t *testing.T, what string, want, got map[string]string, rewrapped bool) {
	t.Helper()
	if rewrapped {
		want, got = maps.Clone(want), maps.Clone(got)
		for _, m := range []map[string]string{want, got} {
			maps.DeleteFunc(m, func(k, _ string) bool { return strings.HasPrefix(k, "acme/key/") && k != "acme/key/ring" })
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: not the same (-source +target):\n%s", what, diff)
	}
}

// A copied tenant is the same to the byte, of nothing but itself, and works.
func TestCopy(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	f := from.fill()
	clusters := clustersOf(t, from.db)
	want := dump(t, from.db, acme, clusters...)
	if len(want) < 200 {
		t.Fatalf("only %d items", len(want))
	}
	t.Run("keys as they are", func(t *testing.T) {
		to := newSite(t, newBolt(t, c), c, from.keys)
		r, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "copied", want, dump(t, to.db, acme, clusters...), false)
		if r.Items+r.Due != len(want) || r.Put != len(want)-2 || r.Deleted != 0 || r.Already || r.Rounds != 2 || r.Digest == "" {
			t.Errorf("%d items; the result is %+v", len(want), r)
		}
		if _, err := to.Org.Tenant(t.Context(), "globex"); !errors.Is(err, core.NotFound) {
			t.Errorf("another tenant came along: %v", err)
		}
		to.works(from, f)

		again, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme)
		if err != nil || !again.Already || again.Put != 0 || again.Digest != r.Digest {
			t.Errorf("copied again: %+v, %v", again, err)
		}
	})
	t.Run("keys wrapped anew", func(t *testing.T) {
		to := newSite(t, newBolt(t, c), c, master(t, 2))
		w := transfer.Wrappers{From: from.keys, To: to.keys}
		if _, err := to.copier(from.db, w).Tenant(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
		got := dump(t, to.db, acme, clusters...)
		same(t, "copied", want, got, true)
		for k, v := range want {
			if strings.HasPrefix(k, "acme/key/") && k != "acme/key/ring" && (got[k] == v || got[k] == "") {
				t.Errorf("%s is as it was, or missing", k)
			}
		}
		to.works(from, f)
		if again, err := to.copier(from.db, w).Tenant(t.Context(), acme); err != nil || !again.Already {
			t.Errorf("copied again: %+v, %v", again, err)
		}
	})
	same(t, "the source", want, dump(t, from.db, acme, clusters...), false)
}

// works uses a tenant where it arrived: what people held before is good there, and the log is proved.
func (s *site) works(was *site, f found) {
	t := s.t.(*testing.T)
	t.Helper()
	ctx := t.Context()
	issuer := s.OAuth.Issuer(acme)
	now := s.clock.Now()
	raw, err := token.Mint(ctx, was.Ring, acme, keys.ES256, token.Access{
		Issuer: issuer, Subject: "u1", Audience: issuer, Client: "fleetpass-cli", Email: "ada@example.com", Kind: core.User, IssuedAt: now, Expires: now.Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := token.ParseAccess(ctx, s.Ring, acme, issuer, raw, now); err != nil || got.Email != "ada@example.com" {
		t.Errorf("a token of before the move: %v, %s", err, token.Reason(err))
	}
	if raw, err = token.Mint(ctx, s.Ring, acme, keys.ES256, token.Access{
		Issuer: issuer, Subject: "u1", Audience: issuer, Client: "fleetpass-cli", Email: "ada@example.com", Kind: core.User, IssuedAt: now, Expires: now.Add(time.Minute),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := token.ParseAccess(ctx, was.Ring, acme, issuer, raw, now); err != nil {
		t.Errorf("a token of after the move does not verify with the keys of before: %v", err)
	}
	if _, err := s.Sessions.Check(ctx, acme, f.cookie); err != nil {
		t.Errorf("the browser's session: %v", err)
	}
	if _, err := s.Sessions.Present(ctx, acme, f.refresh); err != nil {
		t.Errorf("the refresh token: %v", err)
	}
	app, err := s.Directory.Application(ctx, acme, f.app)
	if err != nil || s.Directory.CheckSecret(ctx, acme, app.Value, f.secret) != nil {
		t.Errorf("the application's secret: %v", err)
	}
	if got, err := s.Ring.Open(ctx, acme, "connection/c1/secret", f.sealed); err != nil || string(got) != "a client secret" {
		t.Errorf("what the tenant sealed: %v", err)
	}
	yes := 0
	for i := range 5 {
		ask := access.Ask{Subject: core.UserSubject(core.Email(fmt.Sprintf("person-%d@exämple.example", i))), Entity: policy.Project, Action: policy.View, Scope: f.project}
		before, _, err := was.Access.Decide(ctx, acme, ask)
		if err != nil {
			t.Fatal(err)
		}
		after, _, err := s.Access.Decide(ctx, acme, ask)
		if err != nil || after.Allowed != before.Allowed {
			t.Errorf("person %d: allowed %v, was %v (%v)", i, after.Allowed, before.Allowed, err)
		}
		if after.Allowed {
			yes++
		}
	}
	if yes == 0 || yes == 5 {
		t.Errorf("%d of 5 are allowed: the question tells nothing", yes)
	}
	report, err := audit.Verify(ctx, s.db, acme)
	if err != nil || report.Fault != nil || report.Sealed == 0 || report.Unsealed == 0 {
		t.Errorf("the log: %+v, %v", report, err)
	}
}

// Interrupted at any write, refused or done without an answer, the copy is completed by the next run. Until then the target
// serves no such tenant, and its maintenance takes nothing away.
func TestResume(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	clusters := clustersOf(t, from.db)
	want := dump(t, from.db, acme, clusters...)
	for _, fault := range []storetest.Fault{storetest.Refuse, storetest.LoseAnswer} {
		for n := 1; ; n++ {
			db := newBolt(t, c)
			to := newSite(t, db, c, from.keys)
			calls, hit := 0, false
			faulty := &storetest.Faulty{DB: db, Plan: func(call storetest.Call) storetest.Fault {
				if call.Method == "List" {
					return storetest.NoFault
				}
				if calls++; calls == n {
					hit = true
					return fault
				}
				return storetest.NoFault
			}}
			broken := to.copier(from.db, transfer.Wrappers{})
			broken.To = faulty
			_, err := broken.Tenant(t.Context(), acme)
			if !hit {
				if err != nil || n < 10 {
					t.Fatalf("%d calls: %v", n, err)
				}
				break
			}
			if !errors.Is(err, core.Unavailable) {
				t.Fatalf("call %d, %v: error %v", n, fault, err)
			}
			items, err := db.Get(t.Context(), store.Meta(acme), store.TenantEntry(acme))
			if err != nil {
				t.Fatal(err)
			}
			arriving, err := transfer.Arriving(t.Context(), db, acme)
			if err != nil || items[0].Version != 0 && arriving || items[0].Version == 0 && items[1].Version != 0 && !arriving {
				t.Fatalf("call %d, %v: meta %d, arriving %v, %v", n, fault, items[0].Version, arriving, err)
			}
			if arriving {
				before := dump(t, db, acme, clusters...)
				if err := to.Maintain(t.Context(), c.Now().Add(48*time.Hour)); err != nil {
					t.Fatal(err)
				}
				same(t, "maintained", before, dump(t, db, acme, clusters...), false)
				if _, err := to.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Another"); !errors.Is(err, core.Exists) {
					t.Fatalf("the id was given away: %v", err)
				}
			}
			if _, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
				t.Fatalf("call %d, %v: resumed: %v", n, fault, err)
			}
			same(t, fmt.Sprintf("call %d, %v", n, fault), want, dump(t, db, acme, clusters...), false)
		}
	}
}

// Runs that meet any faults at all come to the same in the end, and so do runs whose source changes between them.
func TestResumeAfterChanges(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	db := newBolt(t, c)
	to := newSite(t, db, c, master(t, 2))
	w := transfer.Wrappers{From: from.keys, To: to.keys}
	clusters := clustersOf(t, from.db)
	actor := core.SystemActor(acme)
	for seed := range uint64(20) {
		broken := to.copier(&storetest.Faulty{DB: from.db, Plan: storetest.RandomFaults(seed, 0.05)}, w)
		broken.To = &storetest.Faulty{DB: db, Plan: storetest.RandomFaults(seed+1000, 0.1)}
		if _, err := broken.Tenant(t.Context(), acme); err == nil {
			break
		}
		switch seed { // a user, a cluster and a session come and go
		case 2:
			if err := from.Directory.DeleteUser(t.Context(), actor, acme, "person-7@exämple.example"); err != nil {
				t.Fatal(err)
			}
		case 3:
			sc, err := from.Org.CreateCluster(t.Context(), actor, acme, "short-lived", org.Reach{Mode: org.Agent})
			if err != nil {
				t.Fatal(err)
			}
			clusters = append(clusters, sc.Cluster)
			from.put(store.Recorded(acme, sc.Cluster, "an object"), []byte("{}"), time.Time{})
		case 5:
			gone := clusters[len(clusters)-1]
			if err := from.Org.DeleteScope(t.Context(), actor, acme, core.ClusterScope(gone), true); err != nil {
				t.Fatal(err)
			}
			err := from.Org.Sweep(t.Context(), acme, core.ClusterScope(gone), func(context.Context, core.TenantID, org.Scope) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := to.copier(from.db, w).Tenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	same(t, "in the end", dump(t, from.db, acme, clusters...), dump(t, db, acme, clusters...), true)
}

// busy is a source in which somebody writes at each of some lists of a partition.
type busy struct {
	store.DB
	at    string
	times int
	write func()
}

func (b *busy) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	if strings.HasPrefix(r.Leading(), b.at) && b.times > 0 {
		b.times--
		defer b.write()
	}
	return b.DB.List(ctx, r)
}

// A source that changes while it is copied is copied as it is in the end; one that never stands still is not copied.
func TestConcurrentWriter(t *testing.T) {
	for _, at := range []string{"attempts#", "key#", "used#", "cluster#", "scope#"} {
		t.Run(at, func(t *testing.T) {
			c := newClock()
			from := newSite(t, newBolt(t, c), c, master(t, 1))
			from.fill()
			clusters := clustersOf(t, from.db)
			n := 0
			sign := func() { // somebody signs in: no revision moves
				n++
				from.put(store.Session(acme, fmt.Sprint("session", n)), []byte(`{}`), c.Now().Add(12*time.Hour))
			}
			to := newSite(t, newBolt(t, c), c, from.keys)
			if _, err := to.copier(&busy{from.db, at, 3, sign}, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
				t.Fatal(err)
			}
			if n != 3 {
				t.Fatalf("%d sign-ins", n)
			}
			same(t, "copied", dump(t, from.db, acme, clusters...), dump(t, to.db, acme, clusters...), false)

			never := newSite(t, newBolt(t, c), c, from.keys)
			_, err := never.copier(&busy{from.db, at, 1000, sign}, transfer.Wrappers{}).Tenant(t.Context(), acme)
			if !errors.Is(err, core.Conflict) {
				t.Errorf("never at rest: %v", err)
			}
			if items, err := never.db.Get(t.Context(), store.Meta(acme)); err != nil || items[0].Version != 0 {
				t.Errorf("half a tenant is served: %v", err)
			}
			if _, err := never.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
				t.Errorf("at rest: %v", err)
			}
		})
	}
}

// What must not be overwritten is not, and nothing is written before a refusal.
func TestRefusals(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	half := func(t *testing.T, to *site) { // an unfinished copy
		broken := to.copier(from.db, transfer.Wrappers{})
		commits := 0
		broken.To = &storetest.Faulty{DB: to.db, Plan: func(call storetest.Call) storetest.Fault {
			if call.Method == "Commit" {
				commits++
			}
			if commits > 2 {
				return storetest.Refuse
			}
			return storetest.NoFault
		}}
		if _, err := broken.Tenant(t.Context(), acme); !errors.Is(err, core.Unavailable) {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, to *site, k *transfer.Copier)
		want    error
		says    string
	}{
		{"a living tenant of that name", func(t *testing.T, to *site, _ *transfer.Copier) {
			if _, err := to.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Another"); err != nil {
				t.Fatal(err)
			}
		}, core.Exists, "acme"},
		{"the same tenant, grown different since", func(t *testing.T, to *site, _ *transfer.Copier) {
			if _, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
				t.Fatal(err)
			}
			to.put(store.Session(acme, "new"), []byte("{}"), time.Time{})
		}, core.Exists, "acme"},
		{"an unfinished copy of another source", func(t *testing.T, to *site, k *transfer.Copier) {
			half(t, to)
			k.FromName = "elsewhere"
		}, core.Exists, "the source"},
		{"an unfinished copy of another source, to be replaced", func(t *testing.T, to *site, k *transfer.Copier) {
			half(t, to)
			k.FromName, k.Restart = "elsewhere", true
		}, nil, ""},
		{"a tenant that was erased there, of another age", func(t *testing.T, to *site, _ *transfer.Copier) {
			to.put(store.TenantEntry(acme), []byte(`{"id":"acme","name":"","state":"erased","createdAt":"2001-01-01T00:00:00Z"}`), time.Time{})
		}, core.Exists, "erased"},
		{"no such tenant", func(_ *testing.T, to *site, k *transfer.Copier) { k.From = newBolt(t, c) }, core.NotFound, "acme"},
		{"half a tenant at the source", func(t *testing.T, _ *site, k *transfer.Copier) {
			other := newSite(t, newBolt(t, c), c, from.keys)
			half(t, other)
			k.From = other.db
		}, core.Unsupported, "finish that first"},
		{"another key service than the source's", func(t *testing.T, to *site, k *transfer.Copier) {
			k.Wrappers = transfer.Wrappers{From: master(t, 9), To: to.keys}
		}, keys.ErrUnwrap, "acme/key/"},
		{"another key service, keys as they are", func(t *testing.T, to *site, k *transfer.Copier) {
			k.Wrappers = transfer.Wrappers{From: master(t, 9)}
		}, keys.ErrUnwrap, "acme/key/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := newBolt(t, c)
			to := newSite(t, db, c, from.keys)
			k := to.copier(from.db, transfer.Wrappers{})
			tt.prepare(t, to, k)
			clusters := clustersOf(t, from.db)
			before := dump(t, db, acme, clusters...)
			_, err := k.Tenant(t.Context(), acme)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
			if err != nil {
				same(t, "refused", before, dump(t, db, acme, clusters...), false)
			}
		})
	}
}

// A tenant that was erased and comes back is the same one.
func TestComesBack(t *testing.T) {
	c := newClock()
	home := newSite(t, newBolt(t, c), c, master(t, 1))
	home.fill()
	away := newSite(t, newBolt(t, c), c, home.keys)
	if _, err := away.copier(home.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if err := home.Org.Erase(t.Context(), core.SystemActor(core.SystemTenant), acme); err != nil {
		t.Fatal(err)
	}
	if err := home.Org.EraseData(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if _, err := home.copier(away.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	clusters := clustersOf(t, away.db)
	same(t, "back", dump(t, away.db, acme, clusters...), dump(t, home.db, acme, clusters...), false)
}

// Two copies at once do not mix: the one that began last has it, and the other stops.
func TestTakenOver(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	second := func() {
		if _, err := to.copier(from.db, transfer.Wrappers{}).Tenant(t.Context(), acme); err != nil {
			t.Error(err)
		}
	}
	for _, at := range []string{"rule#", "due#"} {
		slow := to.copier(&busy{from.db, at, 1, second}, transfer.Wrappers{})
		if _, err := slow.Tenant(t.Context(), acme); !errors.Is(err, core.Exists) || !strings.Contains(err.Error(), "took over") {
			t.Errorf("%s: error %v", at, err)
		}
		clusters := clustersOf(t, from.db)
		same(t, "the second", dump(t, from.db, acme, clusters...), dump(t, to.db, acme, clusters...), false)
		to = newSite(t, newBolt(t, c), c, from.keys)
	}
}

func TestDryRun(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	to := newSite(t, newBolt(t, c), c, from.keys)
	clusters := clustersOf(t, from.db)
	want := len(dump(t, from.db, acme, clusters...))
	k := to.copier(from.db, transfer.Wrappers{})
	k.DryRun = true
	var told []transfer.Progress
	k.Progress = func(p transfer.Progress) { told = append(told, p) }
	r, err := k.Tenant(t.Context(), acme)
	if err != nil || r.Put != want-2 || r.Items+r.Due != want {
		t.Errorf("%d items: %+v, %v", want, r, err)
	}
	if n := len(dump(t, to.db, acme, clusters...)); n != 0 {
		t.Errorf("a dry run wrote %d items", n)
	}
	if len(told) < 20 || told[len(told)-1].Written == 0 {
		t.Errorf("told %d times", len(told))
	}
}

// All carries every tenant, the erased ones' names, and the operators' own; the system works on.
func TestAll(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	f := from.fill()
	operators := core.SystemActor(core.SystemTenant)
	if _, err := from.Org.CreateTenant(t.Context(), operators, "gone", "Gone"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(from.Org.Erase(t.Context(), operators, "gone"), from.Org.EraseData(t.Context(), "gone")); err != nil {
		t.Fatal(err)
	}
	to := newSite(t, newBolt(t, c), c, master(t, 2))
	k := to.copier(from.db, transfer.Wrappers{From: from.keys, To: to.keys})
	results, err := k.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range results {
		names = append(names, string(r.Tenant))
		var clusters []core.ClusterID
		if r.Tenant == acme {
			clusters = clustersOf(t, from.db)
		}
		want, got := dump(t, from.db, r.Tenant, clusters...), dump(t, to.db, r.Tenant, clusters...)
		for k := range want {
			if strings.HasPrefix(k, string(r.Tenant)+"/key/") {
				want[k], got[k] = "", ""
			}
			if r.Erased && strings.HasPrefix(k, "system/due/") { // they fall due for nobody
				delete(want, k)
			}
		}
		same(t, string(r.Tenant), want, got, false)
	}
	if !slices.Equal(names, []string{"a-much-longer-name-than-the-rest", "acme", "globex", "gone", "system"}) {
		t.Errorf("copied %v", names)
	}
	to.works(from, f)
	if _, err := to.Org.CreateTenant(t.Context(), operators, "gone", "Gone"); !errors.Is(err, core.Exists) {
		t.Errorf("an erased tenant's id is free: %v", err)
	}
	if again, err := k.All(t.Context()); err != nil || slices.ContainsFunc(again, func(r transfer.Result) bool { return !r.Already }) {
		t.Errorf("again: %+v, %v", again, err)
	}
}
