package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	gosync "sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fleetpass/fleetpass/adapters/awskms"
	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/sqs"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/parts"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
	awskmsstandin "github.com/fleetpass/fleetpass/localdev/standin/awskms"
	sqsstandin "github.com/fleetpass/fleetpass/localdev/standin/sqs"
	"github.com/fleetpass/fleetpass/localdev/standin/streams"
)

// lambdaRuntime runs the built Lambda binary behind a local Lambda Runtime API, over DynamoDB Local and its streams, and
// over what stands in for SQS and KMS.
type lambdaRuntime struct {
	dir string

	name   string // of the table: its own, wherever the database is
	table  dynamodb.Config
	env    []string
	queues *sqsstandin.Server
	local  locals
	pools  map[string]*runtimeapi.Pool
}

const (
	lambdaKey = "arn:aws:kms:us-east-1:000000000000:key/local"
	syncQueue = "fleetpass-sync"
	deadQueue = "fleetpass-sync-dead"
)

func (p *lambdaRuntime) open(ctx context.Context, c *functions.Config) error {
	endpoint, stop, err := parts.DynamoDB(ctx)
	if err != nil {
		return err
	}
	p.local.atClose(stop)
	p.table = dynamodb.LocalConfig(endpoint)
	p.name = "fleetpass-" + strings.ToLower(rand.Text()[:8])
	client := dynamodb.NewClient(p.table)
	if err := dynamodb.CreateTable(ctx, client, p.name); err != nil {
		return err
	}
	p.queues = sqsstandin.New(sqsstandin.Options{Region: p.table.Region})
	// As Terraform has it: what no function could take five times lies in the dead-letter queue.
	if err := p.queues.Create(deadQueue, sqsstandin.Attributes{}); err != nil {
		return err
	}
	if err := p.queues.Create(syncQueue, sqsstandin.Attributes{Visibility: time.Minute, DeadLetter: deadQueue, MaxReceive: 5}); err != nil {
		return err
	}
	queues, err := p.local.http(p.queues)
	if err != nil {
		return err
	}
	keys, err := p.local.http(awskmsstandin.New(lambdaKey))
	if err != nil {
		return err
	}
	url := p.queues.URL(queues, syncQueue)
	cloud := aws.Config{Region: p.table.Region, Credentials: p.table.Credentials}
	if c.Wrapper, err = awskms.New(awskms.Client(cloud, keys), lambdaKey); err != nil {
		return err
	}
	c.DB = dynamodb.New(client, p.name, dynamodb.Options{})
	c.Queue = sqs.New(sqs.Client(cloud, queues), url, sqs.Options{})
	p.env = append(common(*c, p.dir),
		"AWS_REGION="+p.table.Region, "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"AWS_ENDPOINT_URL_DYNAMODB="+endpoint, "AWS_ENDPOINT_URL_SQS="+queues, "AWS_ENDPOINT_URL_KMS="+keys,
		"FLEETPASS_TABLE="+p.name, "FLEETPASS_KMS_KEY="+lambdaKey, "FLEETPASS_QUEUE_URL="+url)
	return nil
}

func (p *lambdaRuntime) serve(ctx context.Context, s *Stack, running *gosync.WaitGroup) (http.Handler, error) {
	artefact, err := unpacked(ctx, p.dir, "aws.zip")
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(artefact, "bootstrap")
	p.pools = map[string]*runtimeapi.Pool{}
	gateway := runtimeapi.Gateway{Routes: map[string]string{}, Log: s.Log, Invoke: func(ctx context.Context, function string, event []byte) ([]byte, error) {
		return p.pools[function].Invoke(ctx, event)
	}}
	for _, f := range functions.Table {
		log, err := p.local.log(p.dir, f.Name)
		if err != nil {
			return nil, err
		}
		p.pools[f.Name] = &runtimeapi.Pool{Program: runtimeapi.Program{Binary: binary, Handler: f.Name, Env: p.env, Log: log}}
		for _, pattern := range f.Paths {
			gateway.Routes[pattern] = f.Name
		}
	}
	for _, f := range functions.Table {
		pool := p.pools[f.Name]
		switch f.Trigger {
		case functions.Stream:
			running.Go(func() { p.carry(ctx, s, pool) })
		case functions.Queue:
			running.Go(func() {
				err := p.queues.Poll(ctx, sqsstandin.Mapping{Queue: syncQueue, Batch: 1, Concurrency: 8, Invoke: pool.Invoke})
				if ctx.Err() == nil {
					s.Log.Error("the queue's mapping ended", "error", err)
				}
			})
		case functions.Schedule:
			running.Go(func() {
				s.every(ctx, func() {
					event, _ := json.Marshal(map[string]any{"version": "0", "source": "aws.scheduler", "detail-type": "Scheduled Event", "time": time.Now().UTC().Format(time.RFC3339)})
					if _, err := pool.Invoke(ctx, event); err != nil && ctx.Err() == nil {
						s.Log.Error("maintenance failed; it runs again in a minute", "error", err)
					}
				})
			})
		}
	}
	return gateway.Handler(), nil
}

// carry hands the table's change stream to a function, as a Lambda event source mapping does.
func (p *lambdaRuntime) carry(ctx context.Context, s *Stack, function *runtimeapi.Pool) {
	failed := func(attempt int, err error) {
		s.Log.Warn("the change stream failed and goes on", "attempt", attempt, "error", err)
	}
	err := streams.Feed(ctx, streams.NewClient(p.table.Endpoint), p.name, streams.FeedOptions{Poll: 20 * time.Millisecond, Failed: failed}, function.Invoke)
	if ctx.Err() == nil {
		s.Log.Error("the change stream ended", "error", err)
	}
}

func (p *lambdaRuntime) close() {
	for _, pool := range p.pools {
		pool.Close()
	}
	p.local.close()
}
