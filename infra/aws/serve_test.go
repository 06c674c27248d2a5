package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build builds the binary as it is deployed, but for this machine.
func build(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// environment is a function's, over a store in dir.
func environment(dir string) []string {
	return []string{"FLEETPASS_BASE=https://auth.example.com", "FLEETPASS_STORE_FILE=" + filepath.Join(dir, "store"), "FLEETPASS_MASTER_KEY_FILE=" + filepath.Join(dir, "master")}
}

// tenant makes tenant acme in the store of dir.
func tenant(t testing.TB, dir string) {
	t.Helper()
	env := map[string]string{}
	for _, e := range environment(dir) {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	s, closeStore, err := wire(func(k string) string { return env[k] })
	must(t, err)
	defer closeStore()
	_, err = s.Org.EnsureSystem(t.Context())
	must(t, err)
	_, err = s.Org.CreateTenant(t.Context(), core.SystemActor("acme"), "acme", "Acme")
	must(t, err)
}

func get(method, path string) awsevents.APIGatewayV2HTTPRequest {
	var ev awsevents.APIGatewayV2HTTPRequest
	ev.Version, ev.RawPath = "2.0", path
	ev.RequestContext.HTTP.Method, ev.RequestContext.HTTP.SourceIP = method, "192.0.2.1"
	ev.Headers = map[string]string{"host": "auth.example.com"}
	return ev
}

// Every row of the table is served by the built binary, through the Lambda Runtime API.
func TestEveryRowIsServed(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	tenant(t, dir)
	fact, err := events.Encode(events.Envelope{ID: "e", Tenant: "acme", Time: time.Now()}, events.TenantChanged{Change: "created"})
	must(t, err)
	message, err := json.Marshal(sync.Message{Tenant: "acme", Cluster: core.NewClusterID()})
	must(t, err)
	for _, f := range functions.Table {
		t.Run(f.Name, func(t *testing.T) {
			var ev any
			switch f.Trigger {
			case functions.HTTP:
				method, path, _ := strings.Cut(f.Paths[0], " ")
				ev = get(method, strings.NewReplacer("{tenant}", "acme", "{$}", "").Replace(path))
			case functions.Stream:
				ev = awsevents.DynamoDBEvent{Records: []awsevents.DynamoDBEventRecord{{EventName: "INSERT", Change: awsevents.DynamoDBStreamRecord{SequenceNumber: "1",
					NewImage: map[string]awsevents.DynamoDBAttributeValue{lambda.BodyAttribute: awsevents.NewBinaryAttribute(fact)}}}}}
			case functions.Queue:
				ev = awsevents.SQSEvent{Records: []awsevents.SQSMessage{{MessageId: "m", Body: string(message)}}}
			case functions.Schedule:
				ev = awsevents.CloudWatchEvent{Time: time.Now()}
			}
			body, err := json.Marshal(ev)
			must(t, err)
			run, err := runtimeapi.Start(binary, f.Name, environment(dir)...)
			must(t, err)
			defer run.Close()
			out, err := run.Invoke(t.Context(), body)
			must(t, err)
			switch f.Trigger {
			case functions.HTTP:
				var res awsevents.APIGatewayV2HTTPResponse
				must(t, json.Unmarshal(out, &res))
				if res.StatusCode == http.StatusNotFound || res.StatusCode >= 500 || res.Headers["X-Request-Id"] == "" {
					t.Errorf("%s", out)
				}
			default:
				if strings.Contains(string(out), "itemIdentifier\":\"") {
					t.Errorf("reported as failed: %s", out)
				}
			}
		})
	}
}

// A setting that is missing or wrong ends the process with one line that names it.
func TestSettingsAreNamed(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	good := environment(dir)
	for name, tt := range map[string]struct {
		handler string
		env     []string
	}{
		"_HANDLER":                  {"nonsense", good},
		"FLEETPASS_BASE":            {"jwks", good[1:]},
		"Base":                      {"jwks", append([]string{"FLEETPASS_BASE=http://plain.example.com"}, good[1:]...)},
		"FLEETPASS_STORE_FILE":      {"jwks", []string{good[0], good[2]}},
		"FLEETPASS_MASTER_KEY_FILE": {"jwks", good[:2]},
	} {
		t.Run(name, func(t *testing.T) {
			run, err := runtimeapi.Start(binary, tt.handler, tt.env...)
			must(t, err)
			defer run.Close()
			_, err = run.Invoke(t.Context(), []byte("{}"))
			if err == nil || !strings.Contains(err.Error(), "fleetpass: "+name+": ") {
				t.Errorf("%v does not name %s", err, name)
			}
		})
	}
}
