package session

import (
	"errors"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// put writes a body at a key, whatever was there; a nil one takes it away.
func (r *rig) put(t *testing.T, k store.Key, body []byte) {
	t.Helper()
	items, err := r.DB.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	op := store.Put(k, items[0].Version, body)
	if body == nil {
		op = store.Delete(k, items[0].Version)
	}
	if err := r.DB.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
}

// A session that came from an identity provider holds as long as its connection is there and enabled, and what the provider is
// asked with was not taken away; and it costs no round trip more than a local one (SAML-131, RP-009).
func TestSessionStandsWithTheProvider(t *testing.T) {
	connection, kept := store.Connection("acme", "corp"), store.Kept("acme", "k1")
	for name, tt := range map[string]struct {
		key    store.Key
		body   string // empty: it goes
		asked  bool   // the provider can be asked again
		enough error  // nil: the session goes on
	}{
		"SAML, nothing":                  {key: connection, body: `{"id":"c1","enabled":true,"name":"new","samlAndMore":{}}`},
		"SAML, disabled":                 {key: connection, body: `{"id":"c1","enabled":false}`, enough: ErrDisconnected},
		"SAML, deleted":                  {key: connection, enough: ErrDisconnected},
		"SAML, another of the name":      {key: connection, body: `{"id":"c2","enabled":true}`, enough: ErrDisconnected},
		"SAML, what another asks with":   {key: kept},
		"OpenID, nothing":                {key: connection, asked: true, body: `{"id":"c1","enabled":true}`},
		"OpenID, disabled":               {key: connection, asked: true, body: `{"id":"c1","enabled":false}`, enough: ErrDisconnected},
		"OpenID, what it was asked with": {key: kept, asked: true, enough: core.Unauthenticated},
		"OpenID, a rotated one":          {key: kept, asked: true, body: `{"sealed":"AA=="}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.put(t, connection, []byte(`{"id":"c1","enabled":true}`))
			r.put(t, kept, []byte(`{}`))
			up := Upstream{Connection: "c1", Alias: "corp"}
			if tt.asked {
				up.Kept = "k1"
			}
			proof := Proof{User: r.user(t, "acme", ada), Upstream: up}
			cookie, _, ops, err := r.Open(r.tenant(t, "acme"), actorOf("acme"), proof)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.DB.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			local := r.open(t, "acme", ada)
			r.counter.Reset()
			c, err := r.Check(t.Context(), "acme", cookie)
			if err != nil || !c.AuthTime.IsZero() {
				t.Fatalf("to begin with: %+v, %v", c, err)
			}
			if n := r.counter.Reset(); n.RoundTrips() != 2 {
				t.Errorf("%d round trips, want 2", n.RoundTrips())
			}
			var body []byte
			if tt.body != "" {
				body = []byte(tt.body)
			}
			r.put(t, tt.key, body)
			_, err = r.Check(t.Context(), "acme", cookie)
			if !errors.Is(err, tt.enough) || err != nil && !errors.Is(err, core.Unauthenticated) {
				t.Errorf("got %v, want %v", err, tt.enough)
			}
			if !r.holds(t, "acme", local) {
				t.Error("a local session ended with it")
			}
		})
	}
}

// Where single sign-on is enforced, what local people hold does not count, but for those who may use a password; and counts
// again when it is enforced no more (SAML-159).
func TestEnforcement(t *testing.T) {
	r := newRig(t)
	enforce := func(on bool) {
		t.Helper()
		var table store.Table[org.Tenant]
		rec, err := table.Get(t.Context(), r.DB, store.Meta("acme"))
		if err != nil {
			t.Fatal(err)
		}
		rec.Value.Settings.EnforceSSO, rec.Value.Settings.BreakGlass = on, []core.Email{bob}
		op, err := table.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.DB.Commit(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	type held struct {
		cookie, token string
		family        Family
	}
	all := map[core.Email]held{}
	for _, e := range []core.Email{ada, bob} {
		h := held{cookie: r.open(t, "acme", e)}
		h.family, h.token = r.begin(t, "acme", e)
		all[e] = h
	}
	check := func(when string, e core.Email, want bool) {
		t.Helper()
		h := all[e]
		if got := r.holds(t, "acme", h.cookie); got != want {
			t.Errorf("%s, %s: the session holds: %v", when, e, got)
		}
		p, err := r.Present(t.Context(), "acme", h.token)
		if err != nil || p.Live != want {
			t.Errorf("%s, %s: the refresh token lives: %v, %v", when, e, p.Live, err)
		}
		if _, err := r.Alive(t.Context(), "acme", h.family.ID, e); (err == nil) != want || err != nil && !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s, %s: the access token: %v", when, e, err)
		}
	}
	check("before", ada, true)
	enforce(true)
	check("enforced", ada, false)
	check("enforced", bob, true)
	if _, _, err := refresh(t, r.Service, "acme", all[ada].token); !errors.Is(err, core.Unauthenticated) {
		t.Errorf("a refresh: %v", err)
	}
	enforce(false)
	check("after", ada, true)
	check("after", bob, true)
}

// A token is replayed when neither a parallel caller nor a lost answer explains it, and not before (OAU-035).
func TestReplayed(t *testing.T) {
	r := newRig(t)
	_, token := r.begin(t, "acme", ada)
	replayed := func(token string) bool {
		t.Helper()
		p, err := r.Present(t.Context(), "acme", token)
		if err != nil {
			t.Fatal(err)
		}
		return p.Replayed(r.Now())
	}
	r.advance(30 * time.Minute)
	if replayed(token) {
		t.Error("the newest")
	}
	_, next, err := refresh(t, r.Service, "acme", token)
	if err != nil {
		t.Fatal(err)
	}
	r.advance(Grace - time.Second)
	if replayed(token) || replayed(next) {
		t.Error("within the grace")
	}
	_, last, err := refresh(t, r.Service, "acme", next)
	if err != nil {
		t.Fatal(err)
	}
	if !replayed(token) || replayed(next) || replayed(last) {
		t.Error("two generations ago")
	}
	r.advance(Grace)
	if !replayed(next) || replayed(last) {
		t.Error("after the grace")
	}
	r.advance(time.Hour)
	if replayed(next) || replayed(last) {
		t.Error("of a family that is over") // there is nothing to revoke
	}
}
