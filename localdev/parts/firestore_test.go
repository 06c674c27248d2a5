package parts_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/parts"
)

func firestoreSays(host string) (string, error) {
	res, err := http.Get("http://" + host + "/")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestFirestore(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "")
	host, stop, err := parts.Firestore(t.Context())
	if errors.Is(err, parts.ErrNoFirestore) {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if said, err := firestoreSays(host); err != nil || said != "Ok\n" {
		t.Errorf("the emulator says %q, error %v", said, err)
	}
	stop()
	stop() // a second time does nothing
	if said, err := firestoreSays(host); err == nil {
		t.Errorf("after its end the emulator says %q", said)
	}
}

func TestFirestoreFromTheEnvironment(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "firestore.example:8080")
	host, stop, err := parts.Firestore(t.Context())
	if err != nil || host != "firestore.example:8080" {
		t.Fatalf("host %q, error %v", host, err)
	}
	stop() // not ours to end
}

// Where there is nothing to run, the error says what to do, and is not the one of an emulator that does not start.
func TestNoFirestore(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if host, _, err := parts.Firestore(t.Context()); !errors.Is(err, parts.ErrNoFirestore) {
		t.Errorf("host %q, error %v", host, err)
	}
}

// An emulator that is installed and does not start is another error, which names its last words.
func TestFirestoreThatDoesNotStart(t *testing.T) {
	sdk, bin := t.TempDir(), t.TempDir()
	writeFile(t, sdk+"/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar", "no jar", 0o600)
	writeFile(t, bin+"/java", "#!/bin/sh\necho these are the last words\nexit 3\n", 0o700)
	t.Setenv("FIRESTORE_EMULATOR_HOST", "")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	t.Setenv("CLOUDSDK_ROOT_DIR", sdk)
	t.Setenv("PATH", bin)
	_, _, err := parts.Firestore(t.Context())
	if err == nil || errors.Is(err, parts.ErrNoFirestore) || !strings.Contains(err.Error(), "these are the last words") {
		t.Errorf("error %v", err)
	}
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
