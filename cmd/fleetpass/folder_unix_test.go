//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Threat WEB-025: who else can read, replace or redirect the file that tokens are kept in.
func TestFolder(t *testing.T) {
	newFolder := func(t *testing.T) folder {
		t.Setenv("FLEETPASS_CONFIG_DIR", filepath.Join(t.TempDir(), "config"))
		f, err := openFolder()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	at := func(f folder, name string) string { return filepath.Join(string(f), name) }

	t.Run("written and read by its owner alone", func(t *testing.T) {
		old := syscall.Umask(0) // the most careless of users
		defer syscall.Umask(old)
		f := newFolder(t)
		for range 2 {
			if err := f.write("session.json", []byte("canary")); err != nil {
				t.Fatal(err)
			}
		}
		data, err := f.read("session.json")
		if err != nil || string(data) != "canary" {
			t.Fatalf("%q %v", data, err)
		}
		for name, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "session.json": 0o600} {
			info, err := os.Stat(at(f, name))
			if err != nil || info.Mode() != want {
				t.Errorf("%q has mode %s, want %s (%v)", name, info.Mode(), want, err)
			}
		}
		entries, err := os.ReadDir(string(f))
		if err != nil || len(entries) != 1 {
			t.Errorf("something is left beside the file: %v %v", entries, err)
		}
	})
	t.Run("absent is absent", func(t *testing.T) {
		f := newFolder(t)
		if _, err := f.read("session.json"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if err := f.remove("session.json"); err != nil {
			t.Error(err)
		}
	})
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602} {
		t.Run("refused with mode "+mode.String(), func(t *testing.T) {
			f := newFolder(t)
			if err := f.write("session.json", []byte("canary")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(at(f, "session.json"), mode); err != nil {
				t.Fatal(err)
			}
			if _, err := f.read("session.json"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a link is not read", func(t *testing.T) {
		f := newFolder(t)
		target := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.WriteFile(target, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, at(f, "session.json")); err != nil {
			t.Fatal(err)
		}
		if _, err := f.read("session.json"); err == nil {
			t.Error("a link was followed")
		}
		if err := f.write("session.json", []byte("canary")); err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(target); string(data) != "{}" {
			t.Errorf("a token was written through a link: %q", data)
		}
		if data, err := f.read("session.json"); err != nil || string(data) != "canary" {
			t.Errorf("%q %v", data, err)
		}
	})
	t.Run("a pipe does not block", func(t *testing.T) {
		f := newFolder(t)
		if err := syscall.Mkfifo(at(f, "session.json"), 0o600); err != nil {
			t.Skip(err)
		}
		if _, err := f.read("session.json"); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a folder that others can enter is refused", func(t *testing.T) {
		f := newFolder(t)
		if err := os.Chmod(string(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := openFolder(); err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a linked folder is refused", func(t *testing.T) {
		target := t.TempDir()
		if err := os.Chmod(target, 0o700); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FLEETPASS_CONFIG_DIR", link)
		if _, err := openFolder(); err == nil {
			t.Error("a link was taken for the folder")
		}
	})
	t.Run("servers do not share a folder", func(t *testing.T) {
		seen := map[string]string{}
		for _, server := range []string{"https://a.test/t/acme", "https://a.test/t/acme2", "https://b.test/t/acme", "https://a-test/t/acme", "https://a.test/x/t/acme"} {
			s := slug(server)
			if other := seen[s]; other != "" || strings.ContainsAny(s, `/\:`) {
				t.Errorf("%s and %s are both kept in %q", server, other, s)
			}
			seen[s] = server
		}
	})
}
