package localkeys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/keys/keystest"
)

func masterKey(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }

func TestWrapper(t *testing.T) {
	keystest.Run(t, func(t *testing.T) keys.Wrapper {
		w, err := New(masterKey(1))
		if err != nil {
			t.Fatal(err)
		}
		return w
	})
}

func TestWrapperWithOlderKeys(t *testing.T) {
	keystest.Run(t, func(t *testing.T) keys.Wrapper {
		w, err := New(masterKey(1), masterKey(2), masterKey(3))
		if err != nil {
			t.Fatal(err)
		}
		return w
	})
}

// A master key is replaced without a moment in which something does not open.
func TestReplaceMasterKey(t *testing.T) {
	open := func(list ...[]byte) *Wrapper {
		t.Helper()
		w, err := New(list...)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	old, both, renewed := open(masterKey(1)), open(masterKey(1), masterKey(2)), open(masterKey(2))
	first, err := old.Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := both.Unwrap(t.Context(), keys.PurposeSigning, "acme", first)
	if err != nil || string(plain) != "a key" {
		t.Fatalf("with both master keys: %q, %v", plain, err)
	}
	if old.Stale(first) || !both.Stale(first) {
		t.Error("what the older master key wrapped is to be wrapped again, once there is a newer one")
	}
	if _, err := renewed.Unwrap(t.Context(), keys.PurposeSigning, "acme", first); !errors.Is(err, keys.ErrUnwrap) {
		t.Errorf("without its master key: %v, want keys.ErrUnwrap", err)
	}
	again, err := both.Wrap(t.Context(), keys.PurposeSigning, "acme", plain)
	if err != nil {
		t.Fatal(err)
	}
	if both.Stale(again) {
		t.Error("the newest master key wraps")
	}
	if plain, err := renewed.Unwrap(t.Context(), keys.PurposeSigning, "acme", again); err != nil || string(plain) != "a key" {
		t.Errorf("wrapped again: %q, %v", plain, err)
	}
	if _, err := old.Unwrap(t.Context(), keys.PurposeSigning, "acme", again); !errors.Is(err, keys.ErrUnwrap) {
		t.Errorf("with the older master key alone: %v, want keys.ErrUnwrap", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(masterKey(1), masterKey(2)); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][][]byte{
		"none":      {},
		"short":     {masterKey(1)[:31]},
		"long":      {append(masterKey(1), 1)},
		"empty one": {masterKey(1), nil},
		"twice":     {masterKey(1), masterKey(1)},
	} {
		if _, err := New(list...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := new(Wrapper).Wrap(t.Context(), keys.PurposeSigning, "acme", []byte("a key")); err == nil {
		t.Error("the zero Wrapper wraps")
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := Open(path, false); err == nil {
		t.Fatal("an absent file was opened without being asked to make it")
	}
	w, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	wrapped, err := w.Wrap(t.Context(), keys.PurposeMAC, "acme", []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := again.Unwrap(t.Context(), keys.PurposeMAC, "acme", wrapped); err != nil || string(plain) != "a key" {
		t.Errorf("after opening again: %q, %v", plain, err)
	}
	// Nothing is left of the way it was made.
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
}

func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	made := make([]*Wrapper, 16)
	var wg sync.WaitGroup
	for i := range made {
		wg.Go(func() {
			w, err := Open(path, true)
			if err != nil {
				t.Errorf("Open: %v", err)
			}
			made[i] = w
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, w := range made {
		if w.masters[0].id != made[0].masters[0].id {
			t.Fatal("two processes use two master keys")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(masterKey(1))
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string // in the error; "" = none
	}{
		{"one key", good + "\n", 0o600, ""},
		{"read only", good, 0o400, ""},
		{"two keys and a comment", "# old first\n\n" + good + "\n" + base64.StdEncoding.EncodeToString(masterKey(2)), 0o600, ""},
		{"group readable", good, 0o640, "chmod 600"},
		{"world readable", good, 0o604, "chmod 600"},
		{"group writable", good, 0o620, "chmod 600"},
		{"empty", "", 0o600, "no master key"},
		{"only a comment", "# nothing\n", 0o600, "no master key"},
		{"not base64", "SECRET-SECRET-SECRET-SECRET-SECRET-!", 0o600, "line 1"},
		{"too short", "\n" + good[:40] + "\n", 0o600, "line 2"},
		{"one broken among good", good + "\nSECRET\n", 0o600, "line 2"},
		{"too large", strings.Repeat("#\n", maxFile), 0o600, "over"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path, true)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "SECRET")):
				t.Errorf("error %v, want one with %q and nothing of the file", err, tt.want)
			}
			if after, _ := os.ReadFile(path); string(after) != tt.content {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := Open(t.TempDir(), true); err == nil {
		t.Error("a directory was opened")
	}
}
