package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

func (r *rig) holds(t *testing.T, id core.TenantID, cookie string) bool {
	t.Helper()
	c, err := r.Check(t.Context(), id, cookie)
	if err != nil && !errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.NotFound) {
		t.Fatal(err)
	}
	return err == nil && c.Email == c.Person.Email && c.User == c.Person.ID
}

// Every way in which a session ends, each beside the same session that goes on without it (WEB-013).
func TestSessionEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *rig, cookie string) (id core.TenantID, with string){
		"tampered": func(_ *testing.T, _ *rig, c string) (core.TenantID, string) {
			last := "a"
			if strings.HasSuffix(c, "a") {
				last = "b"
			}
			return "acme", c[:51] + last
		},
		"truncated":     func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "acme", c[:51] },
		"extended":      func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "acme", c + "a" },
		"upper case":    func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "acme", strings.ToUpper(c) },
		"empty":         func(*testing.T, *rig, string) (core.TenantID, string) { return "acme", "" },
		"the hash":      func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "acme", Hash(c) },
		"other tenant":  func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "other", c },
		"absent tenant": func(_ *testing.T, _ *rig, c string) (core.TenantID, string) { return "nobody", c },
		"idle": func(_ *testing.T, r *rig, c string) (core.TenantID, string) {
			r.advance(time.Hour)
			return "acme", c
		},
		"absolute": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			for range 24 {
				if !r.holds(t, "acme", c) {
					t.Fatal("ended too early")
				}
				r.advance(30 * time.Minute)
			}
			return "acme", c
		},
		"logout": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if err := r.Close(t.Context(), actorOf("acme"), c); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"password": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if _, err := r.dir.SetPassword(t.Context(), actorOf("acme"), "acme", ada, "another horse battery"); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"forced logout": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if _, err := r.dir.ForceLogout(t.Context(), actorOf("acme"), "acme", ada); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"disabled": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if _, err := r.dir.Disable(t.Context(), actorOf("acme"), "acme", ada); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"disabled and enabled": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if _, err := r.dir.Disable(t.Context(), actorOf("acme"), "acme", ada); err != nil {
				t.Fatal(err)
			}
			if _, err := r.dir.Enable(t.Context(), actorOf("acme"), "acme", ada); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"deleted": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if err := r.dir.DeleteUser(t.Context(), actorOf("acme"), "acme", ada); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
		"suspended": func(t *testing.T, r *rig, c string) (core.TenantID, string) {
			if err := r.org.Suspend(t.Context(), actorOf("acme"), "acme"); err != nil {
				t.Fatal(err)
			}
			return "acme", c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			cookie, witness := r.open(t, "acme", ada), r.open(t, "other", ada)
			if !r.holds(t, "acme", cookie) {
				t.Fatal("does not hold to begin with")
			}
			if id, with := end(t, r, cookie); r.holds(t, id, with) {
				t.Error("still holds")
			}
			if name != "idle" && name != "absolute" && !r.holds(t, "other", witness) {
				t.Error("another tenant's session ended with it")
			}
		})
	}
}

// A session that is used does not end idle, and is written at most once a minute.
func TestSessionTouch(t *testing.T) {
	r := newRig(t)
	cookie := r.open(t, "acme", ada)
	r.counter.Reset()
	for range 100 {
		r.holds(t, "acme", cookie)
	}
	if c := r.counter.Reset(); c.Commits != 0 || c.Gets != 200 {
		t.Errorf("100 uses within a minute: %+v", c)
	}
	for range 4 {
		r.advance(59 * time.Minute)
		if !r.holds(t, "acme", cookie) {
			t.Fatal("a session in use ended")
		}
	}
	if c := r.counter.Reset(); c.Commits != 4 {
		t.Errorf("4 uses: %+v", c)
	}
}

// What is not there looks the same as a store that is not there to nobody: the one is "no", the other "do not know".
func TestSessionStoreFails(t *testing.T) {
	r := newRig(t)
	cookie := r.open(t, "acme", ada)
	r.faulty.Plan = func(call storetestCall) storetestFault { return refuseAll }
	if _, err := r.Check(t.Context(), "acme", cookie); !errors.Is(err, core.Unavailable) || errors.Is(err, core.Unauthenticated) {
		t.Errorf("check: %v", err)
	}
	if err := r.Close(t.Context(), actorOf("acme"), cookie); !errors.Is(err, core.Unavailable) {
		t.Errorf("close: %v", err)
	}
	r.faulty.Plan = nil
	if !r.holds(t, "acme", cookie) {
		t.Error("the session is gone")
	}
}

// A sign-in under way belongs to the browser that began it, for ten minutes.
func TestLogin(t *testing.T) {
	r := newRig(t)
	handle, cookie, err := r.StartLogin(t.Context(), actorOf("acme"), "", "client_id=x")
	if err != nil {
		t.Fatal(err)
	}
	second, same, err := r.StartLogin(t.Context(), actorOf("acme"), cookie, "client_id=y")
	if err != nil || same != cookie || second == handle {
		t.Fatalf("a second tab: %v, same browser %v", err, same == cookie)
	}
	if _, planted, err := r.StartLogin(t.Context(), actorOf("acme"), "planted", ""); err != nil || planted == "planted" {
		t.Error("a cookie that cannot be ours was kept")
	}
	find := func(tenant core.TenantID, handle, cookie string) string {
		t.Helper()
		rec, err := r.Login(t.Context(), tenant, handle, cookie)
		if err != nil && !errors.Is(err, core.NotFound) {
			t.Fatal(err)
		}
		return rec.Value.Query
	}
	if find("acme", handle, cookie) != "client_id=x" || find("acme", second, cookie) != "client_id=y" {
		t.Error("not found by its own browser")
	}
	if find("acme", handle, core.NewSecret()) != "" || find("acme", handle, "") != "" || find("other", handle, cookie) != "" ||
		find("acme", Hash(handle), cookie) != "" || find("acme", "", cookie) != "" {
		t.Error("found by somebody else")
	}
	r.advance(LoginLife)
	if find("acme", handle, cookie) != "" {
		t.Error("found after its time")
	}
}

// One place cannot fill the store with sign-ins that it begins, and while it is held up, others are not (SAML-157).
func TestLoginsOfOnePlaceAreBounded(t *testing.T) {
	r := newRig(t)
	begin := func(tenant core.TenantID, address string) error {
		_, _, err := r.StartLogin(t.Context(), core.Actor{Tenant: tenant, Address: address}, "", "")
		return err
	}
	for i := range MaxLogins {
		if err := begin("acme", fmt.Sprintf("192.0.2.%d", i%250)); err != nil {
			t.Fatalf("sign-in %d: %v", i, err)
		}
		if i == MaxLogins/2 {
			r.advance(LoginLife / 2)
		}
	}
	r.counter.Reset()
	err := begin("acme", "192.0.2.250")
	var wait *directory.ThrottledError
	if !errors.As(err, &wait) || wait.RetryAfter() > LoginLife/2 || wait.RetryAfter() <= 0 {
		t.Fatalf("one more: %v", err)
	}
	if c := r.counter.Reset(); c.Commits != 0 {
		t.Errorf("one more: %+v", c)
	}
	for _, other := range []core.Actor{{Tenant: "acme", Address: "198.51.100.1"}, {Tenant: "other", Address: "192.0.2.1"}} {
		if err := begin(other.Tenant, other.Address); err != nil {
			t.Errorf("%+v: %v", other, err)
		}
	}
	r.advance(wait.RetryAfter())
	if err := begin("acme", "192.0.2.250"); err != nil {
		t.Errorf("later: %v", err)
	}
}

// What is stored opens nothing.
func TestSecretsAreHashed(t *testing.T) {
	r := newRig(t)
	cookie := r.open(t, "acme", ada)
	handle, browser, err := r.StartLogin(t.Context(), actorOf("acme"), "", "")
	if err != nil {
		t.Fatal(err)
	}
	_, token := r.begin(t, "acme", ada)
	for _, k := range []store.Key{store.Session("acme", Hash(cookie)), store.Login("acme", Hash(handle))} {
		items, err := r.DB.Get(t.Context(), k)
		if err != nil || items[0].Version == 0 {
			t.Fatalf("%s: %v", k, err)
		}
		for _, secret := range []string{cookie, handle, browser, token} {
			if strings.Contains(string(items[0].Body)+k.String(), secret) {
				t.Errorf("%s holds a secret", k)
			}
		}
	}
}
