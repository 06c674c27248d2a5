// Package dynamodb is store.DB over one DynamoDB table, for the cloud and, with Amazon's DynamoDB Local, for any machine. It owns
// how an item lies in the table, which requests a call makes, and what becomes of answers that are lost. Who may read which
// partitions is IAM's, by the beginning of their names (store.Key.Leading).
//
// A Get, a page of a List and a Commit are one request each when nothing fails. There are no scans, no secondary indexes, and
// no filters that read what they drop.
package dynamodb

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fleetpass/fleetpass/core/store"
)

// The attributes of an item. Their names count to its size, and so to its price.
const (
	attrPartition = "p" // S: store.Key.Leading, the partition key
	attrSort      = "s" // S: store.Key.Sort, the sort key
	attrVersion   = "v" // N: the commit that wrote it
	attrBody      = "b" // B: the body; absent where it is empty
	attrExpiry    = "e" // N: Unix seconds, the table's TTL attribute; absent: never
)

// Options are the settings of a DB. The zero value is right for production.
type Options struct {
	Now      func() time.Time // by which expiry is decided; default time.Now
	Attempts int              // how often a request is sent at most, the first time included; default 6

	// Consumed is told the capacity units of every answered request, by its operation ("GetItem"). nil: DynamoDB is not
	// asked for them. It is called from many goroutines.
	Consumed func(operation string, read, write float64)
}

// DB is a store in a table.
type DB struct {
	client   *sdk.Client
	table    string
	now      func() time.Time
	retryer  *retry.Standard
	consumed func(operation string, read, write float64)
	report   types.ReturnConsumedCapacity
}

var _ store.DB = (*DB)(nil)

// New returns the store in a table. Nothing is asked of DynamoDB yet.
func New(client *sdk.Client, table string, o Options) *DB {
	db := &DB{client: client, table: table, now: o.Now, retryer: newRetryer(o.Attempts), consumed: o.Consumed}
	if db.now == nil {
		db.now = time.Now
	}
	if db.consumed != nil {
		db.report = types.ReturnConsumedCapacityTotal
	}
	return db
}

// read and wrote pass on what an answer says that it cost. Transactions say it for each table, which is always ours.
func (db *DB) read(operation string, cost ...types.ConsumedCapacity) {
	for _, c := range cost {
		if db.consumed != nil && c.CapacityUnits != nil {
			db.consumed(operation, *c.CapacityUnits, 0)
		}
	}
}

func (db *DB) wrote(operation string, cost ...types.ConsumedCapacity) {
	for _, c := range cost {
		if db.consumed == nil || c.CapacityUnits == nil {
			continue
		}
		// A transaction that is sent again with the same token has been written, and is only read.
		if c.ReadCapacityUnits != nil && c.WriteCapacityUnits == nil {
			db.consumed(operation, *c.ReadCapacityUnits, 0)
		} else {
			db.consumed(operation, 0, *c.CapacityUnits)
		}
	}
}

func one(c *types.ConsumedCapacity) (list []types.ConsumedCapacity) {
	if c != nil {
		list = append(list, *c)
	}
	return list
}

func key(k store.Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrPartition: text(k.Leading()), attrSort: text(k.Sort())}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func version(v store.Version) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(uint64(v), 10)}
}

var consistent = aws.Bool(true)
