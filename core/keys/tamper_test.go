package keys_test

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

// A store that was tampered with gives no signature and no key, rather than a wrong one.
func TestTamperedStore(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	w.tenant(w.ring(), "umbrella")
	w.clock.Advance(31 * 24 * time.Hour)
	if err := w.ring().Rotate(t.Context(), acme, w.clock.Now()); err != nil { // acme has two keys now
		t.Fatal(err)
	}
	w.clock.Advance(keys.PublishBefore)

	active := signer(t, w.ring(), acme, keys.ES256)
	other := signer(t, w.ring(), "umbrella", keys.ES256)
	kids, _ := jwks(t, w.ring(), acme)
	idle := kids[0]
	if idle == active.ID {
		idle = kids[1]
	}
	body := func(t core.TenantID, id string) (m map[string]any, it store.Item) {
		items, err := w.db.Get(w.t.Context(), store.SigningKey(t, id))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := json.Unmarshal(items[0].Body, &m); err != nil {
			w.t.Fatal(err)
		}
		return m, items[0]
	}
	good, it := body(acme, active.ID)
	theirs, _ := body("umbrella", other.ID)
	sibling, _ := body(acme, idle)
	for name, change := range map[string]func(m map[string]any){
		"another tenant's public key":    func(m map[string]any) { m["public"] = theirs["public"] },
		"another tenant's key, whole":    func(m map[string]any) { m["public"], m["wrapped"] = theirs["public"], theirs["wrapped"] },
		"another tenant's private key":   func(m map[string]any) { m["wrapped"] = theirs["wrapped"] },
		"another private key of its own": func(m map[string]any) { m["wrapped"] = sibling["wrapped"] },
		"another key of its own, whole":  func(m map[string]any) { m["public"], m["wrapped"] = sibling["public"], sibling["wrapped"] },
		"another algorithm":              func(m map[string]any) { m["algorithm"] = "RS256" },
		"no private key":                 func(m map[string]any) { delete(m, "wrapped") },
		"the MAC secret":                 func(m map[string]any) { mac, _ := body(acme, "mac"); m["wrapped"] = mac["wrapped"] },
	} {
		t.Run(name, func(t *testing.T) {
			bad := make(map[string]any)
			for k, v := range good {
				bad[k] = v
			}
			change(bad)
			put := func(m map[string]any) {
				b, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				items, err := w.db.Get(t.Context(), it.Key)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.db.Commit(t.Context(), store.Put(it.Key, items[0].Version, b)); err != nil {
					t.Fatal(err)
				}
			}
			put(bad)
			k, err := w.ring().Signer(t.Context(), acme, keys.ES256)
			if err == nil || k.Signer != nil {
				t.Errorf("signs with %s", k.ID)
			}
			put(good)
			signer(t, w.ring(), acme, keys.ES256) // the positive twin
		})
	}
}
