package gcp_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
	"github.com/fleetpass/fleetpass/functions"
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

func environment(dir, target string) []string {
	return []string{"FUNCTION_TARGET=" + target, "FLEETPASS_BASE=https://auth.example.com", "PATH=" + os.Getenv("PATH"),
		"FLEETPASS_STORE_FILE=" + filepath.Join(dir, "store"), "FLEETPASS_MASTER_KEY_FILE=" + filepath.Join(dir, "master")}
}

// start runs the framework for one function and returns its address.
func start(t *testing.T, binary, dir, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(binary)
	var log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(environment(dir, target), "PORT="+port), &log, &log
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
			t.Fatalf("%s does not listen: %s", target, log.String())
		}
	}
}

// Every row of the table is served by the functions framework.
func TestEveryRowIsServed(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	message, err := json.Marshal(sync.Message{Tenant: "acme", Cluster: core.NewClusterID()})
	must(t, err)
	fact, err := events.Encode(events.Envelope{ID: "e", Tenant: "acme", Time: time.Now()}, events.TenantChanged{Change: "created"})
	must(t, err)
	change, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "1", "source": "//firestore.googleapis.com/x", "type": "google.cloud.firestore.document.v1.created",
		"datacontenttype": "application/json", "data": json.RawMessage(fact)})
	must(t, err)
	for _, f := range functions.Table {
		t.Run(f.Name, func(t *testing.T) {
			base := start(t, binary, dir, f.Name)
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

func TestSettingsAreNamed(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	for name, env := range map[string][]string{
		"FUNCTION_TARGET":        environment(dir, "nonsense"),
		"FLEETPASS_BASE":         append(environment(dir, "jwks"), "FLEETPASS_BASE="),
		"FLEETPASS_TRUSTED_HOPS": append(environment(dir, "jwks"), "FLEETPASS_TRUSTED_HOPS=all"),
	} {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(env, "PORT=0")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fleetpass: "+name+": ") {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}
