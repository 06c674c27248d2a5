// Package parts finds or starts the real services that tests and the local system run against: the databases of the clouds.
package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
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
			if noContainer = awaitFirestore(ctx, host, nil); noContainer == nil {
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

// firestoreStart is how long the emulator may take to answer. It takes 1.5 s on a machine that does nothing else.
const firestoreStart = 60 * time.Second

func startFirestore(ctx context.Context, java, jar string) (host string, stop func(), err error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	host = net.JoinHostPort("127.0.0.1", port)
	var said lastBytes
	cmd := exec.Command(java, "-Xmx512m", "-cp", jar, "com.google.cloud.datastore.emulator.firestore.CloudFirestore", "start", "--host=127.0.0.1", "--port="+port)
	cmd.Stdout, cmd.Stderr = &said, &said
	done, err := Start(cmd)
	if err != nil {
		return "", nil, fmt.Errorf("starting the Firestore emulator: %w", err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it keeps nothing that a gentler end would save
		<-done
	})
	if err := awaitFirestore(ctx, host, done); err != nil {
		stop()
		return "", nil, fmt.Errorf("the Firestore emulator: %w: %s", err, said.String())
	}
	return host, stop, nil
}

// awaitFirestore returns when the emulator says Ok.
func awaitFirestore(ctx context.Context, host string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, firestoreStart)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", context.Cause(ctx))
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// lastBytes keeps the end of what a program says.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf = append(l.buf, p...); len(l.buf) > 8<<10 {
		l.buf = bytes.Clone(l.buf[len(l.buf)-4<<10:])
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
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
