package session

import (
	"bytes"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

const (
	ada core.Email = "ada@acme.example"
	bob core.Email = "bob@acme.example"
)

type rig struct {
	*Service
	counter *storetest.Counter
	faulty  *storetest.Faulty
	dir     *directory.Service
	org     *org.Service
	ns      atomic.Int64
	more    func() *Service // another instance over the same store
	outbox  []store.Key     // of the events that Service sent
}

func (r *rig) advance(d time.Duration) { r.ns.Add(int64(d)) }

// newRig has the tenants acme and other, each with ada and bob.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{}
	r.ns.Store(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, r.ns.Load()).UTC() }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	r.faulty = &storetest.Faulty{DB: db, Plan: func(c storetest.Call) storetest.Fault {
		for _, k := range c.Keys {
			if k.IsOutbox() {
				r.outbox = append(r.outbox, k)
			}
		}
		return storetest.NoFault
	}}
	r.counter = &storetest.Counter{DB: r.faulty}
	ring := keys.NewRing(r.counter, wrapper, now)
	r.Service = &Service{DB: r.counter, Ring: ring, Now: now}
	r.more = func() *Service { return &Service{DB: db, Ring: keys.NewRing(db, wrapper, now), Now: now} }
	r.org = &org.Service{DB: db, Ring: ring, Now: now}
	r.dir = &directory.Service{DB: db, Ring: ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	for _, id := range []core.TenantID{"acme", "other"} {
		if _, err := r.org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(id), "Tenant"); err != nil {
			t.Fatal(err)
		}
		for _, e := range []core.Email{ada, bob} {
			if _, _, err := r.dir.CreateUser(t.Context(), core.SystemActor(id), id, directory.NewUser{Email: string(e), Password: "correct horse battery"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

func (r *rig) tenant(t *testing.T, id core.TenantID) org.Tenant {
	t.Helper()
	rec, err := r.org.Tenant(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value
}

func (r *rig) user(t *testing.T, id core.TenantID, e core.Email) directory.User {
	t.Helper()
	rec, err := r.dir.User(t.Context(), id, e)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value
}

// open signs a person in, and returns the cookie.
func (r *rig) open(t *testing.T, id core.TenantID, e core.Email) string {
	t.Helper()
	proof := Proof{User: r.user(t, id, e), At: r.Now(), Methods: []string{"pwd"}}
	cookie, _, ops, err := r.Open(r.tenant(t, id), core.Actor{Tenant: id, Subject: core.UserSubject(e)}, proof)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DB.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	return cookie
}

// begin starts a family and returns it with its first refresh token.
func (r *rig) begin(t *testing.T, id core.TenantID, e core.Email) (Family, string) {
	t.Helper()
	u := r.user(t, id, e)
	f, op, err := r.Begin(r.tenant(t, id), Family{
		Client: "fleetpass-cli", Email: e, User: u.ID, Epoch: u.Epoch, Scope: "openid", AuthTime: r.Now(), Offline: true,
	}, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DB.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	token, err := r.Token(t.Context(), id, f)
	if err != nil {
		t.Fatal(err)
	}
	return f, token
}

func (r *rig) family(t *testing.T, id core.TenantID, f Family) bool {
	t.Helper()
	items, err := r.DB.Get(t.Context(), store.Family(id, f.ID))
	if err != nil {
		t.Fatal(err)
	}
	return items[0].Version != 0
}

func actorOf(id core.TenantID) core.Actor {
	return core.Actor{Tenant: id, Request: "request-1", Address: "192.0.2.1"}
}
