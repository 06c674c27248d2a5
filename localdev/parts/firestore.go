// Package parts finds or starts the real services that tests and the local system run against: the databases of the clouds.
package parts

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// ErrNoFirestore says that this machine has no Firestore emulator: nothing was tried that could have worked.
var ErrNoFirestore = errors.New("no Firestore emulator: set FIRESTORE_EMULATOR_HOST, start Docker, or install google-cloud-sdk-firestore-emulator and Java")

// firestoreImage is Google's container of the command line tools with the emulators in it (1.5 GB).
const firestoreImage = "google/cloud-sdk:528.0.0-emulators"

const firestoreVariable = "FIRESTORE_EMULATOR_HOST"

// Firestore finds or starts a Firestore emulator and returns its HOST:PORT. It is that of FIRESTORE_EMULATOR_HOST if set;
// else Google's own: in a container where a Docker daemon answers, and otherwise under Java from an installed google-cloud-sdk.
// What was started keeps everything in memory and ends with stop, and on Linux with this process at the latest. The error is
// ErrNoFirestore where there is none.
func Firestore(ctx context.Context) (host string, stop func(), err error) {
	if host := os.Getenv(firestoreVariable); host != "" {
		return host, func() {}, nil
	}
	var noContainer error
	if dockerAnswers(ctx) {
		if host, stop, noContainer = startContainer(ctx, firestoreImage, "8080/tcp", "gcloud", "emulators", "firestore", "start", "--host-port=0.0.0.0:8080"); noContainer == nil {
			if noContainer = await(ctx, "http://"+host, isOK, nil); noContainer == nil {
				return host, stop, nil
			}
			stop()
		}
	}
	jar, java := firestoreJar(), ""
	if jar != "" {
		java, _ = exec.LookPath("java")
	}
	if java == "" {
		return "", nil, errors.Join(ErrNoFirestore, noContainer)
	}
	return startFirestore(ctx, java, jar)
}

// firestoreJar looks where the packages and the installer of the google-cloud-sdk put the emulator. (To ask gcloud itself
// takes a second.)
func firestoreJar() string {
	roots := []string{os.Getenv("CLOUDSDK_ROOT_DIR"), "/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "/opt/google-cloud-sdk"}
	if gcloud, err := exec.LookPath("gcloud"); err == nil {
		if real, err := filepath.EvalSymlinks(gcloud); err == nil {
			roots = append(roots, filepath.Dir(filepath.Dir(real))) // ROOT/bin/gcloud
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(home, "google-cloud-sdk"))
	}
	for _, root := range roots {
		if root == "" {
			continue
		}
		jar := filepath.Join(root, "platform", "cloud-firestore-emulator", "cloud-firestore-emulator.jar")
		if _, err := os.Stat(jar); err == nil {
			return jar
		}
	}
	return ""
}

func isOK(status int) bool { return status == http.StatusOK }

func startFirestore(ctx context.Context, java, jar string) (host string, stop func(), err error) {
	port, err := FreePort()
	if err != nil {
		return "", nil, err
	}
	host = net.JoinHostPort("127.0.0.1", port)
	cmd := exec.Command(java, "-Xmx512m", "-cp", jar, "com.google.cloud.datastore.emulator.firestore.CloudFirestore", "start", "--host=127.0.0.1", "--port="+port)
	stop, err = Serve(ctx, "the Firestore emulator", cmd, "http://"+host, isOK)
	return host, stop, err
}

var firestore struct {
	sync.Mutex
	host string
	err  error
}

// NeedFirestore returns the HOST:PORT of a Firestore emulator for a test. All tests of a process share one: keep to a project
// or to tenants of your own. Where there is no emulator the test is skipped, loudly. One that is there and does not start fails
// the test where the environment variable CI is set, and skips it elsewhere.
func NeedFirestore(t TB) (host string) {
	t.Helper()
	firestore.Lock()
	defer firestore.Unlock()
	if firestore.host == "" && firestore.err == nil {
		firestore.host, _, firestore.err = Firestore(context.Background())
	}
	switch err := firestore.err; {
	case err == nil:
		return firestore.host
	case os.Getenv("CI") != "" && !errors.Is(err, ErrNoFirestore):
		t.Fatalf("CI needs the Firestore emulator that is installed: %v", err)
	default:
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	return ""
}
