package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/fleetpass/fleetpass/core"
)

// The reasons for which a transaction was cancelled, as DynamoDB spells them.
const (
	reasonNone      = "None"
	reasonCondition = "ConditionalCheckFailed"
)

// passing are the reasons that another try may not meet.
var passing = []string{"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}

// The pauses between tries grow from the first to the longest. What was throttled waits longer.
const (
	pauseFirst     = 10 * time.Millisecond
	pauseThrottled = 50 * time.Millisecond
	pauseLongest   = 2 * time.Second
)

// newRetryer is the SDK's standard one, with its budget (each retry takes from a pool that successes fill, so that a store in
// trouble is not asked ever more), knowing DynamoDB's transactions and with pauses of milliseconds: a person waits.
func newRetryer(attempts int) *retry.Standard {
	if attempts <= 0 {
		attempts = 6
	}
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.Backoff = retry.BackoffDelayerFunc(pause)
		o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			return aws.BoolTernary(mayPass(err))
		}))
	})
}

func pause(attempt int, err error) (time.Duration, error) {
	d := pauseFirst
	if isThrottle(err) {
		d = pauseThrottled
	}
	for range min(attempt, 10) {
		d = min(2*d, pauseLongest)
	}
	return d/2 + rand.N(d/2), nil
}

func isThrottle(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	_, throttle := retry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return throttle
}

// mayPass says of an error whether the same request may succeed a moment later.
func mayPass(err error) bool {
	if reasons := cancelled(err); reasons != nil {
		return !slices.ContainsFunc(reasons, func(r types.CancellationReason) bool {
			code := aws.ToString(r.Code)
			return code != "" && code != reasonNone && !slices.Contains(passing, code)
		})
	}
	return isCode(err, "TransactionConflictException") || isThrottle(err) || isLost(err)
}

// isLost says of a failed try that it may have been carried out, or may yet be: anything but a refusal by DynamoDB itself. A
// connection that was never made carried nothing.
func isLost(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		_, throttle := retry.DefaultThrottleErrorCodes[api.ErrorCode()]
		inProgress := api.ErrorCode() == "TransactionInProgressException" // an earlier try of ours
		return inProgress || !throttle && status(err) >= 500
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	return true
}

// tries is the retryer of one call, and remembers whether the outcome of any of its tries is unknown.
type tries struct {
	*retry.Standard
	repeatable bool // a try that was lost may be made again
	lost       bool
}

// IsErrorRetryable is asked about every failed try, one after the other.
func (t *tries) IsErrorRetryable(err error) bool {
	if isLost(err) {
		t.lost = true
		if !t.repeatable {
			return false
		}
	}
	return t.Standard.IsErrorRetryable(err)
}

func (t *tries) option(o *sdk.Options) { o.Retryer = t }

// reading is for requests that change nothing.
func (db *DB) reading() func(*sdk.Options) {
	return (&tries{Standard: db.retryer, repeatable: true}).option
}

// cancelled returns why a transaction was cancelled, for each of its operations; nil if err is about something else.
func cancelled(err error) []types.CancellationReason {
	if c, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		return c.CancellationReasons
	}
	return nil
}

func isCode(err error, code string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == code
}

// status is the HTTP status of the answer that an error was made of; 0 if there was none.
func status(err error) int {
	if res, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return res.HTTPStatusCode()
	}
	return 0
}

// failure makes the port's error of the SDK's. It takes over the code of DynamoDB's refusal and the request's id, by which AWS
// finds it, but no text that could quote an item: only what names a missing right or table is passed on.
func failure(what string, err error) error {
	id := ""
	if res, ok := errors.AsType[*awshttp.ResponseError](err); ok && res.ServiceRequestID() != "" {
		id = ", request " + res.ServiceRequestID()
	}
	api, refused := errors.AsType[smithy.APIError](err)
	switch {
	case refused && (mayPass(err) || status(err) >= 500):
		return fmt.Errorf("dynamodb: %s: %s%s: %w", what, api.ErrorCode(), id, core.Unavailable)
	case refused && (isCode(err, "AccessDeniedException") || isCode(err, "ResourceNotFoundException")):
		return fmt.Errorf("dynamodb: %s: %s%s: %s", what, api.ErrorCode(), id, api.ErrorMessage())
	case refused:
		return fmt.Errorf("dynamodb: %s: %s%s", what, api.ErrorCode(), id)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("dynamodb: %s: %w: %w", what, core.Unavailable, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("dynamodb: %s: %w: %w", what, core.Unavailable, context.DeadlineExceeded)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("dynamodb: %s: %w: %w", what, core.Unavailable, op)
	}
	return fmt.Errorf("dynamodb: %s: no answer, or a broken one%s: %w", what, id, core.Unavailable)
}
