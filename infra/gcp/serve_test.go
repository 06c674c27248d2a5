package gcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/adapters/gcpkms"
	"github.com/fleetpass/fleetpass/core"
	keyring "github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/parts"
	cloudtasksstandin "github.com/fleetpass/fleetpass/localdev/standin/cloudtasks"
	gcpkmsstandin "github.com/fleetpass/fleetpass/localdev/standin/gcpkms"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "serve")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./serve")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// environment is a function's, over what listens at three addresses.
func environment(firestore, keys, tasks, target string) []string {
	return []string{"FUNCTION_TARGET=" + target, "FLEETPASS_BASE=https://auth.example.com", "PATH=" + os.Getenv("PATH"),
		"FIRESTORE_EMULATOR_HOST=" + firestore, "FLEETPASS_KMS_EMULATOR_HOST=" + keys, "CLOUD_TASKS_EMULATOR_HOST=" + tasks,
		"FLEETPASS_PROJECT=fleetpass-test", "FLEETPASS_KMS_SIGNING_KEY=" + signing, "FLEETPASS_KMS_MAC_KEY=" + mac, "FLEETPASS_KMS_SSO_KEY=" + sso,
		"FLEETPASS_QUEUE=projects/fleetpass-test/locations/l/queues/sync", "FLEETPASS_SYNC_URL=https://sync.example.com", "FLEETPASS_TASKS_ACCOUNT=tasks@example.com"}
}

const (
	signing = "projects/fleetpass-test/locations/l/keyRings/r/cryptoKeys/signing"
	mac     = "projects/fleetpass-test/locations/l/keyRings/r/cryptoKeys/mac"
	sso     = "projects/fleetpass-test/locations/l/keyRings/r/cryptoKeys/sso"
)

// cloud is the Firestore emulator with the system tenant in it, and stand-ins for Cloud KMS and Cloud Tasks. It returns the environment of a function.
func cloud(t *testing.T) func(target string) []string {
	t.Helper()
	database := parts.NeedFirestore(t)
	serve := func(s interface {
		Serve(net.Listener) error
		Close()
	}) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() { _ = s.Serve(l) }() // ends with Close
		t.Cleanup(s.Close)
		return l.Addr().String()
	}
	keys, tasks := serve(gcpkmsstandin.New(signing, mac, sso)), serve(cloudtasksstandin.New(cloudtasksstandin.Options{}))
	t.Setenv(firestore.EmulatorVariable, database)
	db, err := firestore.Dial(t.Context(), "fleetpass-test", "", firestore.Options{})
	must(t, err)
	wrapping, err := gcpkms.Dial(t.Context(), keys)
	must(t, err)
	wrapper, err := gcpkms.New(wrapping, gcpkms.Config{Signing: signing, MAC: mac, SSO: sso})
	must(t, err)
	now := func() time.Time { return time.Now().UTC() }
	_, err = (&org.Service{DB: db, Ring: keyring.NewRing(db, wrapper, now), Now: now}).EnsureSystem(t.Context())
	must(t, err)
	must(t, db.Close())
	must(t, wrapping.Close())
	return func(target string) []string { return environment(database, keys, tasks, target) }
}

// start runs the framework for one function and returns its address.
func start(t *testing.T, binary string, env []string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(binary)
	var log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(env, "PORT="+port), &log, &log
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return "http://" + address
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("%s does not listen: %s", env[0], log.String())
		}
	}
}

// Every row of the table is served by the functions framework.
func TestEveryRowIsServed(t *testing.T) {
	binary, env := build(t), cloud(t)
	message, err := json.Marshal(sync.Message{Tenant: "acme", Cluster: core.NewClusterID()})
	must(t, err)
	fact, err := events.Encode(events.Envelope{ID: "e", Tenant: "acme", Time: time.Now()}, events.TenantChanged{Change: "created"})
	must(t, err)
	change, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "1", "source": "//firestore.googleapis.com/x", "type": "google.cloud.firestore.document.v1.created",
		"datacontenttype": "application/json", "data": json.RawMessage(fact)})
	must(t, err)
	for _, f := range functions.Table {
		t.Run(f.Name, func(t *testing.T) {
			base := start(t, binary, env(f.Name))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/", nil)
			must(t, err)
			switch f.Trigger {
			case functions.HTTP:
				method, path, _ := strings.Cut(f.Paths[0], " ")
				r, err = http.NewRequestWithContext(t.Context(), method, base+strings.NewReplacer("{tenant}", "acme", "{$}", "").Replace(path), nil)
				must(t, err)
			case functions.Stream:
				r.Body = io.NopCloser(bytes.NewReader(change))
				r.Header.Set("Content-Type", "application/cloudevents+json")
			case functions.Queue:
				r.Body = io.NopCloser(bytes.NewReader(message))
			case functions.Schedule:
				r.Header.Set("X-CloudScheduler-ScheduleTime", time.Now().Format(time.RFC3339))
			}
			res, err := http.DefaultClient.Do(r)
			must(t, err)
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if f.Trigger == functions.HTTP {
				if res.StatusCode >= 500 || res.Header.Get("X-Request-Id") == "" {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			} else if res.StatusCode/100 != 2 {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
}

// A setting that is missing or wrong ends the process with one line that names it.
func TestSettingsAreNamed(t *testing.T) {
	binary, nowhere := build(t), "127.0.0.1:9"
	good := environment(nowhere, nowhere, nowhere, "jwks")
	start(t, binary, slices.Clone(good)) // the twin: with all of them it serves
	refused := func(name string, env []string) {
		t.Helper()
		ctx, done := context.WithTimeout(t.Context(), 20*time.Second)
		defer done()
		cmd := exec.CommandContext(ctx, binary)
		cmd.Env = append(env, "PORT=0")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "fleetpass: "+name+": ") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %q is not one line that names %s", err, out, name)
		}
	}
	refused("FUNCTION_TARGET", append(slices.Clone(good), "FUNCTION_TARGET=nonsense"))
	refused("FLEETPASS_TRUSTED_HOPS", append(slices.Clone(good), "FLEETPASS_TRUSTED_HOPS=all"))
	for i, e := range good {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "FLEETPASS_") && !strings.HasSuffix(name, "_EMULATOR_HOST") {
			refused(name, slices.Delete(slices.Clone(good), i, i+1))
		}
	}
}
