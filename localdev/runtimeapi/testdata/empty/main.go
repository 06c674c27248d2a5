// An empty Lambda: what every function's cold start is compared with.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(context.Context) (map[string]any, error) { return map[string]any{"statusCode": 200}, nil })
}
