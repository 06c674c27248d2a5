package directory_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

func (w *world) key(t *testing.T, owner directory.User, name string) (directory.AccessKey, string) {
	t.Helper()
	k, secret, err := w.CreateAccessKey(t.Context(), w.admin, acme, owner, name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// stored is a key as the store has it now.
func (w *world) storedKey(t *testing.T, id core.ApplicationID) directory.AccessKey {
	t.Helper()
	rec, err := w.AccessKey(t.Context(), acme, id)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value
}

// A key's secret proves that key and no other, in its tenant alone, for as long as it is said to.
func TestAccessKeySecrets(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	eve := w.user(t, "eve@example.com")
	k, first := w.key(t, eve, "laptop")
	other, otherSecret := w.key(t, eve, "server")
	if !directory.IsAccessKey(k.ID) || len(first) < 50 || !k.Enabled || !k.ExpiresAt.Equal(w.clock().Add(directory.DefaultKeyLife)) {
		t.Errorf("got %+v", k)
	}
	check := func(secret string) error { return w.CheckKeySecret(ctx, acme, w.storedKey(t, k.ID), secret) }
	if err := check(first); err != nil {
		t.Error(err)
	}
	copied := other
	copied.Secrets = k.Secrets
	for name, err := range map[string]error{
		"none":                check(""),
		"cut short":           check(first[:len(first)-1]),
		"another's":           check(otherSecret),
		"of nobody":           w.CheckKeySecret(ctx, acme, directory.AccessKey{}, first),
		"in another tenant":   w.CheckKeySecret(ctx, core.SystemTenant, k, first),
		"in another's record": w.CheckKeySecret(ctx, acme, copied, first),
		"in an application's": w.CheckSecret(ctx, acme, directory.Application{ID: k.ID, Enabled: true, Secrets: k.Secrets}, first),
	} {
		if err == nil || err.Error() != directory.ErrClient.Error() {
			t.Errorf("secret %s: %v, want ErrClient", name, err)
		}
	}
	rotate := func(grace time.Duration) string {
		t.Helper()
		_, secret, err := w.RotateAccessKey(ctx, w.admin, acme, k.ID, grace)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	second := rotate(time.Hour)
	w.pass(time.Hour - time.Second)
	if check(first) != nil || check(second) != nil {
		t.Error("within the grace both secrets serve")
	}
	w.pass(time.Second)
	if check(first) == nil || check(second) != nil {
		t.Error("after the grace only the new secret serves")
	}
	third := rotate(0)
	if check(second) == nil || check(third) != nil {
		t.Error("without grace the old secret ends at once")
	}
	for range 4 {
		rotate(time.Hour)
	}
	if _, _, err := w.RotateAccessKey(ctx, w.admin, acme, k.ID, time.Hour); !errors.Is(err, core.Limit) {
		t.Errorf("a sixth secret that lives: %v, want a limit", err)
	}
	rotate(0)
	for _, bad := range []time.Duration{-1, directory.MaxGrace + 1} {
		if _, _, err := w.RotateAccessKey(ctx, w.admin, acme, k.ID, bad); !errors.Is(err, core.Invalid) {
			t.Errorf("a grace of %v: %v", bad, err)
		}
	}
}

// 40 at once make 20 keys, whichever; a name serves once, and what is deleted makes room.
func TestAccessKeyLimit(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	eve, mia := w.user(t, "eve@example.com"), w.user(t, "mia@example.com")
	var wg sync.WaitGroup
	errs := make([]error, 40)
	for i := range errs {
		wg.Go(func() {
			_, _, errs[i] = w.CreateAccessKey(ctx, w.admin, acme, eve, fmt.Sprintf("key-%d", i), 0)
			for errors.Is(errs[i], core.Conflict) { // too many at once: a client tries again
				_, _, errs[i] = w.CreateAccessKey(ctx, w.admin, acme, eve, fmt.Sprintf("key-%d", i), 0)
			}
		})
	}
	wg.Wait()
	made := 0
	for i, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, core.Limit) {
			t.Errorf("key %d: %v", i, err)
		}
	}
	keys, err := w.AccessKeysOf(ctx, acme, eve.ID)
	if err != nil || made != directory.MaxAccessKeys || len(keys) != made {
		t.Fatalf("%d made, %d there (%v), want %d", made, len(keys), err, directory.MaxAccessKeys)
	}
	w.key(t, mia, keys[0].Name) // names and numbers are each person's own
	if err := w.DeleteAccessKey(ctx, w.admin, acme, keys[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.CreateAccessKey(ctx, w.admin, acme, eve, keys[1].Name, 0); !errors.Is(err, core.Exists) {
		t.Errorf("a name twice: %v", err)
	}
	w.key(t, eve, keys[0].Name)
	if _, _, err := w.CreateAccessKey(ctx, w.admin, acme, eve, "more", 0); !errors.Is(err, core.Limit) {
		t.Errorf("one more: %v", err)
	}
	for _, bad := range []string{"", "X", "a b", strings.Repeat("a", 256)} {
		if _, _, err := w.CreateAccessKey(ctx, w.admin, acme, mia, bad, 0); !errors.Is(err, core.Invalid) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	for _, bad := range []time.Duration{-1, time.Second, directory.MaxKeyLife + 1} {
		if _, _, err := w.CreateAccessKey(ctx, w.admin, acme, mia, "life", bad); !errors.Is(err, core.Invalid) {
			t.Errorf("life %v: %v", bad, err)
		}
	}
}

// Keys go with their owner, in the same commit, and nobody is left one who is deleted at the same time.
func TestAccessKeysGoWithTheirOwner(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	eve, mia := w.user(t, "eve@example.com"), w.user(t, "mia@example.com")
	for i := range directory.MaxAccessKeys {
		w.key(t, eve, fmt.Sprintf("key-%d", i))
	}
	kept, _ := w.key(t, mia, "stays")
	if err := w.DeleteUser(ctx, w.admin, acme, eve.Email); err != nil {
		t.Fatal(err)
	}
	left := 0
	for rec, err := range directory.AccessKeys.List(ctx, w.DB, store.AccessKeys(acme)) {
		if left++; err != nil || rec.Value.ID != kept.ID {
			t.Errorf("left: %+v, %v", rec.Value, err)
		}
	}
	if left != 1 {
		t.Errorf("%d keys are left", left)
	}
	again := w.user(t, "eve@example.com")
	if keys, err := w.AccessKeysOf(ctx, acme, again.ID); err != nil || len(keys) != 0 {
		t.Errorf("another person of the same e-mail has %v, %v", keys, err)
	}
	if _, _, err := w.CreateAccessKey(ctx, w.admin, acme, eve, "late", 0); !errors.Is(err, core.NotFound) {
		t.Errorf("a key for who is gone: %v", err)
	}

	// Deleted while keys are being made: whatever order it comes to, no key is left.
	for range 5 {
		u := w.user(t, "race@example.com")
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 5 {
				_, _, _ = w.CreateAccessKey(ctx, w.admin, acme, u, fmt.Sprintf("key-%d", i), 0)
			}
		})
		wg.Go(func() {
			if err := store.Retry(ctx, func() error { return w.DeleteUser(ctx, w.admin, acme, u.Email) }); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		for rec, err := range directory.AccessKeys.List(ctx, w.DB, store.AccessKeys(acme)) {
			if err != nil || rec.Value.ID != kept.ID {
				t.Errorf("left: %+v, %v", rec.Value, err)
			}
		}
	}
}

// Stands is a table: what ends a key, what it rests during, and what it outlives.
func TestAccessKeyStands(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	local := directory.User{ID: "u1", Email: "eve@example.com", Local: true, Epoch: "e1", Password: &directory.Password{}}
	theirs := directory.User{ID: "u1", Email: "eve@example.com", Connection: "c1", Epoch: "e1", LastLogin: now}
	for _, row := range []struct {
		what  string
		owner directory.User
		spoil func(*directory.AccessKey, *directory.User)
		after time.Duration
		want  bool
	}{
		{"nothing", local, func(*directory.AccessKey, *directory.User) {}, 0, true},
		{"another epoch", local, func(_ *directory.AccessKey, u *directory.User) { u.Epoch = "e2" }, 0, true},
		{"disabled", local, func(k *directory.AccessKey, _ *directory.User) { k.Enabled = false }, 0, false},
		{"absent", local, func(k *directory.AccessKey, _ *directory.User) { *k = directory.AccessKey{} }, 0, false},
		{"absent, of nobody", directory.User{}, func(k *directory.AccessKey, _ *directory.User) { *k = directory.AccessKey{Enabled: true} }, 0, false},
		{"of nobody", directory.User{}, func(k *directory.AccessKey, _ *directory.User) { k.Owner = "" }, 0, false},
		{"somebody else", local, func(_ *directory.AccessKey, u *directory.User) { u.ID = "u2" }, 0, false},
		{"the owner disabled", local, func(_ *directory.AccessKey, u *directory.User) { u.Disabled = true }, 0, false},
		{"a temporary password", local, func(_ *directory.AccessKey, u *directory.User) { u.Password.Temporary = true }, 0, false},
		{"linked to a provider", local, func(_ *directory.AccessKey, u *directory.User) { u.Local, u.Connection = false, "c1" }, 0, false},
		{"a second before its end", local, func(*directory.AccessKey, *directory.User) {}, 90*24*time.Hour - time.Second, true},
		{"its end", local, func(*directory.AccessKey, *directory.User) {}, 90 * 24 * time.Hour, false},
		{"a provider's", theirs, func(*directory.AccessKey, *directory.User) {}, 0, true},
		{"a provider's, a second before its word is old", theirs, func(*directory.AccessKey, *directory.User) {}, directory.ProviderWord - time.Second, true},
		{"a provider's, its word is old", theirs, func(*directory.AccessKey, *directory.User) {}, directory.ProviderWord, false},
		{"a provider's, became local", theirs, func(_ *directory.AccessKey, u *directory.User) { u.Local, u.Connection = true, "" }, 0, false},
		{"a provider's, linked to another", theirs, func(_ *directory.AccessKey, u *directory.User) { u.Connection = "c2" }, 0, false},
	} {
		k := directory.AccessKey{
			ID: "ak-1", Owner: "u1", Email: "eve@example.com", Connection: row.owner.Connection, Enabled: true, CreatedAt: now, ExpiresAt: now.Add(90 * 24 * time.Hour),
		}
		u := row.owner
		if u.Password != nil {
			u.Password = &directory.Password{}
		}
		row.spoil(&k, &u)
		err := k.Stands(u, now.Add(row.after))
		if (err == nil) != row.want || err != nil && !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s: %v, want standing %t", row.what, err, row.want)
		}
	}
}

// Each change leaves a record that says whose key it was, and none of them a secret.
func TestAccessKeyRecords(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	eve := w.user(t, "eve@example.com")
	k, secret := w.key(t, eve, "laptop")
	for _, on := range []bool{false, false, true} { // what changes nothing is not recorded
		if _, err := w.EnableAccessKey(ctx, w.admin, acme, k.ID, on); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.RotateAccessKey(ctx, w.admin, acme, k.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.RevokeKeyTokens(ctx, w.admin, acme, k.ID, "ak-another"); err != nil {
		t.Fatal(err)
	}
	if got := w.storedKey(t, k.ID).Family(); got != string(k.ID) {
		t.Errorf("another's tokens were revoked, and the family is %s", got)
	}
	for range 2 { // the second time they have ended before
		if err := w.RevokeKeyTokens(ctx, w.admin, acme, k.ID, string(k.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.storedKey(t, k.ID).Family(); got != string(k.ID)+".1" {
		t.Errorf("family %s", got)
	}
	if id, ok := directory.AccessKeyOf(string(k.ID) + ".1"); !ok || id != k.ID {
		t.Errorf("family of %s, %t", id, ok)
	}
	if _, ok := directory.AccessKeyOf(core.NewID()); ok {
		t.Error("a sign-in is taken for an access key")
	}
	if err := w.DeleteAccessKey(ctx, w.admin, acme, k.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteAccessKey(ctx, w.admin, acme, k.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := w.RevokeKeyTokens(ctx, w.admin, acme, k.ID, string(k.ID)); err != nil {
		t.Errorf("tokens of what is gone: %v", err)
	}
	var records store.Table[audit.Record]
	found := map[string]int{}
	for rec, err := range records.List(ctx, w.db, store.AuditsNew(acme)) {
		if err != nil {
			t.Fatal(err)
		}
		if r := rec.Value; r.EntityType == audit.EntityAccessKey && r.EntityID == string(k.ID) && r.Name == "laptop of eve@example.com" {
			found[string(r.Action)+" "+r.Reason]++
		}
		if strings.Contains(fmt.Sprint(rec.Value), secret) {
			t.Error("a record has the secret")
		}
	}
	for _, want := range []string{"create created", "update disabled", "update enabled", "update secret", "sign-out its tokens were revoked", "delete deleted"} {
		if found[want] != 1 {
			t.Errorf("%d records %q, want one", found[want], want)
		}
	}
	if len(found) != 6 {
		t.Errorf("records %v", found)
	}
}
