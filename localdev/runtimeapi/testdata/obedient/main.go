// A Lambda function that does what its event says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, what string) (string, error) {
		switch what {
		case "sleep":
			time.Sleep(100 * time.Millisecond)
		case "fail":
			return "", errors.New("failed, as asked")
		case "exit":
			fmt.Fprintln(os.Stderr, "last words")
			os.Exit(3)
		case "hang":
			select {}
		}
		return what, nil
	})
}
