package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/events"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/parts"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
	awskmsstandin "github.com/fleetpass/fleetpass/localdev/standin/awskms"
	sqsstandin "github.com/fleetpass/fleetpass/localdev/standin/sqs"
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

// key is a KMS key's name; the stand-in has it.
const key = "arn:aws:kms:us-east-1:000000000000:key/test"

// environment is a function's, with one endpoint for everything.
func environment(endpoint string) []string {
	return []string{"FLEETPASS_BASE=https://auth.example.com", "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"AWS_ENDPOINT_URL_DYNAMODB=" + endpoint, "AWS_ENDPOINT_URL_KMS=" + endpoint, "AWS_ENDPOINT_URL_SQS=" + endpoint,
		"FLEETPASS_TABLE=fleetpass", "FLEETPASS_KMS_KEY=" + key, "FLEETPASS_QUEUE_URL=" + endpoint + "/000000000000/sync"}
}

// cloud is DynamoDB Local with a table, and stand-ins for KMS and SQS, with tenant acme in it. It returns a function's
// environment.
func cloud(t testing.TB) []string {
	t.Helper()
	database := parts.NeedDynamoDB(t)
	queues := sqsstandin.New(sqsstandin.Options{Region: "us-east-1"})
	must(t, queues.Create("sync", sqsstandin.Attributes{}))
	keys := httptest.NewServer(awskmsstandin.New(key))
	t.Cleanup(keys.Close)
	sqs := httptest.NewServer(queues)
	t.Cleanup(sqs.Close)
	table := "fleetpass-" + strings.ToLower(rand.Text()[:8])
	must(t, dynamodb.CreateTable(t.Context(), dynamodb.NewClient(dynamodb.LocalConfig(database)), table))
	env := environment(database)
	for i, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "AWS_ENDPOINT_URL_KMS":
			env[i] = name + "=" + keys.URL
		case "AWS_ENDPOINT_URL_SQS":
			env[i] = name + "=" + sqs.URL
		case "FLEETPASS_QUEUE_URL":
			env[i] = name + "=" + queues.URL(sqs.URL, "sync")
		case "FLEETPASS_TABLE":
			env[i] = name + "=" + table
		}
	}
	s, err := wire(func(name string) string {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v
			}
		}
		return ""
	}, nil)
	must(t, err)
	_, err = s.Org.EnsureSystem(t.Context())
	must(t, err)
	_, err = s.Org.CreateTenant(t.Context(), core.SystemActor("acme"), "acme", "Acme")
	must(t, err)
	return env
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
	binary, env := build(t), cloud(t)
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
				ev = get(method, strings.NewReplacer("{tenant}", "acme", "{alias}", "corp", "{$}", "").Replace(path))
			case functions.Stream:
				ev = awsevents.DynamoDBEvent{Records: []awsevents.DynamoDBEventRecord{{EventName: "INSERT", Change: awsevents.DynamoDBStreamRecord{SequenceNumber: "1",
					Keys:     map[string]awsevents.DynamoDBAttributeValue{lambda.PartitionAttribute: awsevents.NewStringAttribute("outbox#acme")},
					NewImage: map[string]awsevents.DynamoDBAttributeValue{lambda.BodyAttribute: awsevents.NewBinaryAttribute(fact)}}}}}
			case functions.Queue:
				ev = awsevents.SQSEvent{Records: []awsevents.SQSMessage{{MessageId: "m", Body: string(message)}}}
			case functions.Schedule:
				ev = awsevents.CloudWatchEvent{Time: time.Now()}
			}
			body, err := json.Marshal(ev)
			must(t, err)
			run, err := runtimeapi.Start(binary, f.Name, env...)
			must(t, err)
			defer run.Close()
			out, err := run.Invoke(t.Context(), body)
			must(t, err)
			switch f.Trigger {
			case functions.HTTP:
				var res awsevents.APIGatewayV2HTTPResponse
				must(t, json.Unmarshal(out, &res))
				page := strings.HasPrefix(res.Headers["Content-Type"], "text/html") // of the function: there is no connection corp
				if res.StatusCode == http.StatusNotFound && !page || res.StatusCode >= 500 || res.Headers["X-Request-Id"] == "" {
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
	binary, good := build(t), environment("http://127.0.0.1:9")
	refused := func(name, handler string, env []string) {
		t.Run(name, func(t *testing.T) {
			run, err := runtimeapi.Start(binary, handler, env...)
			must(t, err)
			defer run.Close()
			_, err = run.Invoke(t.Context(), []byte("{}"))
			if err == nil || !strings.Contains(err.Error(), "fleetpass: "+name+": ") || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("%v is not one line that names %s", err, name)
			}
		})
	}
	refused("_HANDLER", "nonsense", good)
	refused("Base", "jwks", append(slices.Clone(good), "FLEETPASS_BASE=http://plain.example.com"))
	for i, e := range good {
		if name, _, _ := strings.Cut(e, "="); !strings.HasPrefix(name, "AWS_ENDPOINT_URL_") {
			refused(name, "jwks", slices.Delete(slices.Clone(good), i, i+1))
		}
	}
	run, err := runtimeapi.Start(binary, "jwks", good...) // the twin: with all of them it serves
	must(t, err)
	defer run.Close()
	body, err := json.Marshal(get("GET", "/nothing/here"))
	must(t, err)
	if out, err := run.Invoke(t.Context(), body); err != nil || !strings.Contains(string(out), `"statusCode":404`) {
		t.Errorf("%s %v", out, err)
	}
}
