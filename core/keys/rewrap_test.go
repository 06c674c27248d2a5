package keys_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

func newWrapper(t *testing.T) keys.Wrapper {
	t.Helper()
	master := make([]byte, localkeys.KeySize)
	rand.Read(master)
	w, err := localkeys.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A tenant whose keys were rewrapped signs with the same keys under the other wrapper, and under no other.
func TestRewrap(t *testing.T) {
	w := newWorld(t)
	w.sealing(w.ring(), acme)
	sealed := seal(t, w.ring(), acme, purpose, []byte("a secret"))
	was := signer(t, w.ring(), acme, keys.ES256)
	if err := w.ring().Ensure(t.Context(), acme, keys.RS256); err != nil {
		t.Fatal(err)
	}
	from, to, third := w.ring().Wrapper, newWrapper(t), newWrapper(t)
	mac, err := w.ring().MAC(t.Context(), acme, "test", []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	published, _ := w.ring().JWKS(t.Context(), acme)
	n := 0
	for it, err := range w.db.List(t.Context(), store.SigningKeys(acme)) {
		if err != nil {
			t.Fatal(err)
		}
		again, err := keys.Rewrap(t.Context(), it.Key, it.Body, from, to)
		if err != nil {
			t.Fatal(err)
		}
		proved, err := keys.Rewrap(t.Context(), it.Key, it.Body, from, nil)
		if err != nil || !bytes.Equal(proved, it.Body) {
			t.Errorf("%s: proving that it opens: %v, changed %v", it.Key, err, !bytes.Equal(proved, it.Body))
		}
		if same, err := keys.Same(t.Context(), it.Key, it.Body, from, again, to); !same || err != nil {
			t.Errorf("%s: the same key, wrapped anew, is another: %v", it.Key, err)
		}
		wrapped := it.Key.Sort() != "ring"
		if bytes.Equal(again, it.Body) == wrapped {
			t.Errorf("%s: changed by rewrapping: %v", it.Key, !wrapped)
		}
		if wrapped {
			n++
			if _, err := keys.Rewrap(t.Context(), it.Key, it.Body, third, to); !errors.Is(err, keys.ErrUnwrap) || !strings.Contains(err.Error(), it.Key.String()) {
				t.Errorf("%s opens with another's wrapper, or the error does not name it: %v", it.Key, err)
			}
			if _, err := keys.Same(t.Context(), it.Key, it.Body, from, again, third); !errors.Is(err, keys.ErrUnwrap) || !strings.Contains(err.Error(), "second") {
				t.Errorf("%s compares with another's wrapper: %v", it.Key, err)
			}
		}
		if err := w.db.Commit(t.Context(), store.Put(it.Key, it.Version, again)); err != nil {
			t.Fatal(err)
		}
	}
	if n != 4 { // ES256, RS256, the MAC secret, the sealing key
		t.Errorf("%d wrapped keys", n)
	}
	ring := keys.NewRing(w.db, to, w.clock.Now)
	if now := signer(t, ring, acme, keys.ES256); now.ID != was.ID {
		t.Errorf("signs with %s, was %s", now.ID, was.ID)
	}
	if got, err := ring.MAC(t.Context(), acme, "test", []byte("message")); err != nil || !bytes.Equal(got, mac) {
		t.Errorf("another MAC: %v", err)
	}
	unsealed(t, ring, acme, purpose, sealed, []byte("a secret"))
	if got, err := ring.JWKS(t.Context(), acme); err != nil || !bytes.Equal(got.Body, published.Body) {
		t.Errorf("another JWKS: %v", err)
	}
}

// What a newer version of the code keeps in a record survives, and what differs beside the wrapped part is no longer the same.
func TestRewrapKeepsTheRest(t *testing.T) {
	w := newWorld(t)
	w.tenant(w.ring(), acme)
	from, to := w.ring().Wrapper, newWrapper(t)
	k := store.SigningKey(acme, "mac")
	items, err := w.db.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte(`{"newer":{"z":1,"a":[2]},`), items[0].Body[1:]...)
	again, err := keys.Rewrap(t.Context(), k, body, from, to)
	if err != nil || !bytes.Contains(again, []byte(`"newer":{`)) {
		t.Fatalf("lost what it does not know: %v", err)
	}
	if same, err := keys.Same(t.Context(), k, body, from, again, to); !same || err != nil {
		t.Errorf("not the same: %v", err)
	}
	other := bytes.Replace(again, []byte(`"z":1`), []byte(`"z":2`), 1)
	if same, err := keys.Same(t.Context(), k, body, from, other, to); same || err != nil {
		t.Errorf("another is the same: %v", err)
	}
	if _, err := keys.Rewrap(t.Context(), store.User(acme, "ada@example.com"), body, from, to); !errors.Is(err, core.Invalid) {
		t.Errorf("a user is taken for a key: %v", err)
	}
	if _, err := keys.Rewrap(t.Context(), k, []byte(`{"wrapped":"c2Vj`), from, to); err == nil || strings.Contains(err.Error(), "c2Vj") {
		t.Errorf("a body that does not decode: %v", err)
	}
	// A key of another tenant under ours, or a private key beside another's public one, is not carried on.
	w.tenant(w.ring(), "umbrella")
	theirs := signer(t, w.ring(), "umbrella", keys.ES256)
	items, err = w.db.Get(t.Context(), store.SigningKey("umbrella", theirs.ID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Rewrap(t.Context(), store.SigningKey(acme, theirs.ID), items[0].Body, from, to); !errors.Is(err, keys.ErrUnwrap) {
		t.Errorf("another tenant's key: %v", err)
	}
}
