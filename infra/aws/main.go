// The composition root for AWS: one binary; Lambda's _HANDLER names the row of the table that this process serves.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fleetpass/fleetpass/adapters/awskms"
	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/adapters/openshift"
	"github.com/fleetpass/fleetpass/adapters/otlp"
	"github.com/fleetpass/fleetpass/adapters/saml"
	"github.com/fleetpass/fleetpass/adapters/sqs"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/functions"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := run(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "fleetpass:", err) // one line that names what to mend; the platform shows it
		os.Exit(1)
	}
}

func run(getenv func(string) string) error {
	name := getenv("_HANDLER")
	f, ok := functions.Lookup(name)
	if !ok {
		return core.BadField("_HANDLER", fmt.Sprintf("%q is no function of the table", name))
	}
	megabytes, _ := strconv.ParseInt(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), 10, 64) // 0 where Lambda does not say
	functions.Tune(getenv, megabytes<<20)
	telemetry, err := otlp.Start(getenv, name)
	if err != nil {
		return err
	}
	s, err := wire(getenv, telemetry.Recorder())
	if err != nil {
		return err
	}
	runtime := lambda.Runtime{Flush: telemetry.Flush}
	switch f.Trigger {
	case functions.HTTP:
		h, err := lambda.Behind(getenv("FLEETPASS_EDGE_SHA256"), s.Serve(f))
		if err != nil {
			return err
		}
		runtime.StartHTTP(h)
	case functions.Stream:
		runtime.StartStream(f.Event(s))
	case functions.Queue:
		runtime.StartQueue(f.Event(s))
	case functions.Schedule:
		runtime.StartSchedule(f.Tick(s))
	}
	return nil
}

// wire makes the system over DynamoDB, KMS and SQS, beside the variables of functions.FromEnvironment
// and otlp.Start:
//
//	AWS_REGION and AWS_…   where they are, and the role's credentials; Lambda sets them
//	FLEETPASS_TABLE        the DynamoDB table
//	FLEETPASS_KMS_KEY      the ARN of the KMS key that wraps signing keys
//	FLEETPASS_QUEUE_URL    the SQS queue before the sync function
//	FLEETPASS_EDGE_SHA256  optional: the hash of what CloudFront, if it is in front, adds to each request (lambda.Behind)
//	AWS_ENDPOINT_URL_…     DYNAMODB, KMS or SQS: what stands in for the service, on a developer's machine
func wire(getenv func(string) string, recorder *trace.Telemetry) (*functions.System, error) {
	c, err := functions.FromEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	for _, name := range []string{"FLEETPASS_TABLE", "FLEETPASS_KMS_KEY", "FLEETPASS_QUEUE_URL"} {
		if set[name] = getenv(name); set[name] == "" {
			return nil, core.BadField(name, "is not set; the Terraform module sets it")
		}
	}
	table, err := dynamodb.FromEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	cloud := aws.Config{Region: table.Region, Credentials: table.Credentials}
	if c.Wrapper, err = awskms.New(awskms.Client(cloud, getenv("AWS_ENDPOINT_URL_KMS")), set["FLEETPASS_KMS_KEY"]); err != nil {
		return nil, err
	}
	c.DB = dynamodb.New(dynamodb.NewClient(table), set["FLEETPASS_TABLE"], dynamodb.Options{})
	c.Queue = sqs.New(sqs.Client(cloud, getenv("AWS_ENDPOINT_URL_SQS")), set["FLEETPASS_QUEUE_URL"], sqs.Options{})
	c.Dial, c.Telemetry = kubernetes.Dial, recorder
	out := outbound.New(c.Outbound)
	c.Providers = map[sso.Kind]sso.Provider{sso.SAML: saml.New(out), sso.OIDC: oidc.New(out), sso.OpenShift: openshift.New(out)}
	c.Issuers = oidc.NewIssuers(out)
	return functions.New(c)
}
