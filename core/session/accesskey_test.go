package session

import (
	"errors"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

func (r *rig) key(t *testing.T, id core.TenantID, e core.Email) directory.AccessKey {
	t.Helper()
	k, _, err := r.dir.CreateAccessKey(t.Context(), core.SystemActor(id), id, r.user(t, id, e), "laptop", 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// An access key is alive for as long as it and its owner are, in one round trip, and for nobody else. Each row begins with
// its twin, in which the key is alive.
func TestAccessKeyAlive(t *testing.T) {
	us := core.SystemActor("acme")
	for _, row := range []struct {
		what  string
		alive bool
		do    func(*rig, directory.AccessKey) error
	}{
		{"a changed password", true, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.SetPassword(t.Context(), us, "acme", k.Email, "another horse battery")
			return err
		}},
		{"a forced logout", true, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.ForceLogout(t.Context(), us, "acme", k.Email)
			return err
		}},
		{"a day without use", true, func(r *rig, k directory.AccessKey) error { r.advance(24 * time.Hour); return nil }},
		{"another secret", true, func(r *rig, k directory.AccessKey) error {
			_, _, err := r.dir.RotateAccessKey(t.Context(), us, "acme", k.ID, 0)
			return err
		}},
		{"another's key disabled", true, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.EnableAccessKey(t.Context(), us, "acme", r.key(t, "acme", bob).ID, false)
			return err
		}},
		{"a second before its end", true, func(r *rig, k directory.AccessKey) error {
			r.advance(directory.DefaultKeyLife - time.Second)
			return nil
		}},
		{"its end", false, func(r *rig, k directory.AccessKey) error { r.advance(directory.DefaultKeyLife); return nil }},
		{"disabled", false, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.EnableAccessKey(t.Context(), us, "acme", k.ID, false)
			return err
		}},
		{"tokens revoked", false, func(r *rig, k directory.AccessKey) error {
			return r.dir.RevokeKeyTokens(t.Context(), us, "acme", k.ID, k.Family())
		}},
		{"deleted", false, func(r *rig, k directory.AccessKey) error {
			return r.dir.DeleteAccessKey(t.Context(), us, "acme", k.ID)
		}},
		{"a temporary password", false, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.ResetPassword(t.Context(), us, "acme", k.Email)
			return err
		}},
		{"the owner disabled", false, func(r *rig, k directory.AccessKey) error {
			_, err := r.dir.Disable(t.Context(), us, "acme", k.Email)
			return err
		}},
		{"the owner deleted, and somebody of the same e-mail", false, func(r *rig, k directory.AccessKey) error {
			if err := r.dir.DeleteUser(t.Context(), us, "acme", k.Email); err != nil {
				return err
			}
			_, _, err := r.dir.CreateUser(t.Context(), us, "acme", directory.NewUser{Email: string(k.Email), Password: "correct horse battery"})
			return err
		}},
		{"single sign-on enforced", false, func(r *rig, k directory.AccessKey) error {
			return r.set(t, "acme", func(s *org.Settings) { s.EnforceSSO = true })
		}},
		{"single sign-on enforced, the owner breaks glass", true, func(r *rig, k directory.AccessKey) error {
			return r.set(t, "acme", func(s *org.Settings) { s.EnforceSSO, s.BreakGlass = true, []core.Email{k.Email} })
		}},
	} {
		t.Run(row.what, func(t *testing.T) {
			r := newRig(t)
			k := r.key(t, "acme", ada)
			alive := func() error {
				_, err := r.Alive(t.Context(), "acme", k.Family(), k.Email)
				return err
			}
			r.counter.Reset()
			if err := alive(); err != nil {
				t.Fatalf("the twin: %v", err)
			}
			if n := r.counter.Counts().RoundTrips(); n != 1 {
				t.Errorf("%d round trips", n)
			}
			if err := row.do(r, k); err != nil {
				t.Fatal(err)
			}
			if err := alive(); (err == nil) != row.alive || err != nil && !errors.Is(err, core.Unauthenticated) {
				t.Errorf("%v, want alive %t", err, row.alive)
			}
		})
	}
	r := newRig(t)
	k := r.key(t, "acme", ada)
	for what, err := range map[string]error{
		"another's e-mail": aliveErr(r.Alive(t.Context(), "acme", k.Family(), bob)),
		"another tenant":   aliveErr(r.Alive(t.Context(), "other", k.Family(), ada)), // TEN-017: there is an ada there, too
		"a later family":   aliveErr(r.Alive(t.Context(), "acme", k.Family()+".1", ada)),
		"the bare prefix":  aliveErr(r.Alive(t.Context(), "acme", directory.AccessKeyPrefix, ada)),
	} {
		if !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func aliveErr(_ Living, err error) error { return err }

// set changes a tenant's settings in the store.
func (r *rig) set(t *testing.T, id core.TenantID, change func(*org.Settings)) error {
	items, err := r.DB.Get(t.Context(), store.Meta(id))
	if err != nil {
		return err
	}
	var tenants store.Table[org.Tenant]
	rec, err := tenants.Decode(items[0])
	if err != nil {
		return err
	}
	change(&rec.Value.Settings)
	op, err := tenants.Put(rec.Key, rec.Version, rec.Value)
	if err != nil {
		return err
	}
	return r.DB.Commit(t.Context(), op)
}
