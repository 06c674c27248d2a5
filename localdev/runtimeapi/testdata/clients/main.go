// A Lambda function that makes the SDK's clients and does nothing with them: the least that a function over DynamoDB, KMS
// and SQS can cost.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

type clients struct {
	store *dynamodb.Client
	keys  *kms.Client
	queue *sqs.Client
}

// use links what Fleetpass calls, and is never called.
func (c clients) use(ctx context.Context) (err error) {
	_, err = c.store.GetItem(ctx, nil)
	_, err = c.store.TransactGetItems(ctx, nil)
	_, err = c.store.Query(ctx, nil)
	_, err = c.store.PutItem(ctx, nil)
	_, err = c.store.DeleteItem(ctx, nil)
	_, err = c.store.TransactWriteItems(ctx, nil)
	_, err = c.keys.Encrypt(ctx, nil)
	_, err = c.keys.Decrypt(ctx, nil)
	_, err = c.queue.SendMessageBatch(ctx, nil)
	return err
}

func main() {
	cfg := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}
	c := clients{dynamodb.NewFromConfig(cfg), kms.NewFromConfig(cfg), sqs.NewFromConfig(cfg)}
	lambda.Start(func(ctx context.Context, ev map[string]any) (events.APIGatewayV2HTTPResponse, error) {
		if ev["use"] != nil {
			return events.APIGatewayV2HTTPResponse{}, c.use(ctx)
		}
		return events.APIGatewayV2HTTPResponse{StatusCode: 404}, nil
	})
}
