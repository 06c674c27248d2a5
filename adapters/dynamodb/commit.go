package dynamodb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Commit writes one item with a conditional request, and several, or one with checks, in a transaction. Where nothing is to be
// written, it is a consistent read.
//
// A try whose answer is lost is made again where that cannot do the thing twice: a transaction bears a token, by which DynamoDB
// knows it for ten minutes, and a write over a version finds that version once. A lone put of what is to be new is not made
// again: were the first try slow, and the item deleted after the second, the first would bring it back. What such an item's
// version does not tell is core.Unavailable.
func (db *DB) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.CheckCommit(ops); err != nil {
		return err
	}
	c := commit{db: db, ops: ops, now: db.now().Unix(), version: newVersion()}
	switch {
	case !slices.ContainsFunc(ops, changes):
		return c.verify(ctx)
	case len(ops) == 1:
		return c.single(ctx, ops[0])
	}
	return c.transact(ctx)
}

// changes says whether an operation writes. A delete of what must be absent is a check.
func changes(op store.Op) bool {
	return op.Verb == store.VerbPut || op.Verb == store.VerbDelete && op.Expect != 0
}

// newVersion is random: commits need not meet anywhere to have different ones, and a retry keeps its own. DynamoDB counts a number
// by its significant digits, and these have all the same size: what an item costs is no matter of luck.
func newVersion() store.Version {
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails
		if v := binary.BigEndian.Uint64(b[:]); v >= 1e18 && v%10 != 0 {
			return store.Version(v)
		}
	}
}

// commit is one call of Commit. Its tries are all the same request.
type commit struct {
	db      *DB
	ops     []store.Op
	now     int64 // Unix seconds; what expires then or earlier is absent
	version store.Version
}

// verify holds the expectations to one snapshot.
func (c *commit) verify(ctx context.Context) error {
	keys := make([]store.Key, len(c.ops))
	for i, op := range c.ops {
		keys[i] = op.Key
	}
	found, err := c.db.fetch(ctx, keys)
	if err != nil {
		return err
	}
	for i, op := range c.ops {
		it, err := decode(op.Key, found[i], c.now)
		if err != nil {
			return err
		}
		if it.Version != op.Expect {
			return conflict(op.Key)
		}
	}
	return nil
}

// single makes one conditional write.
func (c *commit) single(ctx context.Context, op store.Op) error {
	cond, values := c.condition(op)
	t := &tries{Standard: c.db.retryer, repeatable: op.Verb == store.VerbDelete || op.Expect != 0}
	var cost *types.ConsumedCapacity
	var err error
	if op.Verb == store.VerbPut {
		var out *sdk.PutItemOutput
		out, err = c.db.client.PutItem(ctx, &sdk.PutItemInput{
			TableName:                           &c.db.table,
			Item:                                c.item(op),
			ConditionExpression:                 cond,
			ExpressionAttributeValues:           values,
			ReturnConsumedCapacity:              c.db.report,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}, t.option)
		if err == nil {
			cost = out.ConsumedCapacity
		}
	} else {
		var out *sdk.DeleteItemOutput
		out, err = c.db.client.DeleteItem(ctx, &sdk.DeleteItemInput{
			TableName:                 &c.db.table,
			Key:                       key(op.Key),
			ConditionExpression:       cond,
			ExpressionAttributeValues: values,
			ReturnConsumedCapacity:    c.db.report,
		}, t.option)
		if err == nil {
			cost = out.ConsumedCapacity
		}
	}
	if err == nil {
		c.db.wrote(map[store.Verb]string{store.VerbPut: "PutItem", store.VerbDelete: "DeleteItem"}[op.Verb], one(cost)...)
		return nil
	}
	failed, refused := errors.AsType[*types.ConditionalCheckFailedException](err)
	switch {
	case refused && c.ours(failed.Item):
		return nil
	case refused && !t.lost:
		return conflict(op.Key)
	case refused:
		return unknown(op.Key)
	case t.lost && !t.repeatable && ctx.Err() == nil:
		return c.look(ctx, op, err)
	case t.lost:
		return fmt.Errorf("%w; the commit may have happened", failure("commit", err))
	}
	return failure("commit", err)
}

// look asks whether a lone put happened whose answer was lost.
func (c *commit) look(ctx context.Context, op store.Op, lost error) error {
	found, err := c.db.fetch(ctx, []store.Key{op.Key})
	if err == nil && c.ours(found[0]) {
		return nil
	}
	return fmt.Errorf("%w; the commit may have happened", failure("commit", lost))
}

// transact makes all the writes and checks in one transaction.
func (c *commit) transact(ctx context.Context) error {
	items := make([]types.TransactWriteItem, len(c.ops))
	for i, op := range c.ops {
		cond, values := c.condition(op)
		switch {
		case op.Verb == store.VerbPut:
			items[i].Put = &types.Put{
				TableName: &c.db.table, Item: c.item(op), ConditionExpression: cond, ExpressionAttributeValues: values,
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
			}
		case changes(op):
			items[i].Delete = &types.Delete{TableName: &c.db.table, Key: key(op.Key), ConditionExpression: cond, ExpressionAttributeValues: values}
		default:
			items[i].ConditionCheck = &types.ConditionCheck{TableName: &c.db.table, Key: key(op.Key), ConditionExpression: cond, ExpressionAttributeValues: values}
		}
	}
	t := &tries{Standard: c.db.retryer, repeatable: true}
	out, err := c.db.client.TransactWriteItems(ctx, &sdk.TransactWriteItemsInput{
		TransactItems:          items,
		ClientRequestToken:     aws.String(fmt.Sprintf("%016x", uint64(c.version))),
		ReturnConsumedCapacity: c.db.report,
	}, t.option)
	if err == nil {
		c.db.wrote("TransactWriteItems", out.ConsumedCapacity...)
		return nil
	}
	reasons := cancelled(err)
	at := slices.IndexFunc(reasons, func(r types.CancellationReason) bool { return aws.ToString(r.Code) == reasonCondition })
	switch {
	case slices.ContainsFunc(reasons, func(r types.CancellationReason) bool { return c.ours(r.Item) }):
		return nil // all of it is there, since any of it is
	case at >= 0 && at < len(c.ops) && !t.lost:
		return conflict(c.ops[at].Key)
	case at >= 0 && at < len(c.ops):
		return unknown(c.ops[at].Key)
	case t.lost:
		return fmt.Errorf("%w; the commit may have happened", failure("commit", err))
	}
	return failure("commit", err)
}

// condition is what op expects. An expired item is absent, whether DynamoDB has removed it yet or not.
func (c *commit) condition(op store.Op) (*string, map[string]types.AttributeValue) {
	values := map[string]types.AttributeValue{":now": number(c.now)}
	if op.Expect == 0 {
		return aws.String("attribute_not_exists(p) OR e <= :now"), values
	}
	values[":v"] = version(op.Expect)
	return aws.String("v = :v AND (attribute_not_exists(e) OR e > :now)"), values
}

// item is what a put writes.
func (c *commit) item(op store.Op) map[string]types.AttributeValue {
	it := key(op.Key)
	it[attrVersion] = version(c.version)
	if len(op.Body) > 0 {
		it[attrBody] = &types.AttributeValueMemberB{Value: op.Body}
	}
	if at := op.Until(op.Expires).Expires; !at.IsZero() {
		it[attrExpiry] = number(max(at.Unix(), 1)) // times before 1970 have passed as well as 1970 has
	}
	return it
}

// ours says whether a stored item is what this commit put: a try before this one succeeded.
func (c *commit) ours(attrs map[string]types.AttributeValue) bool {
	n, ok := attrs[attrVersion].(*types.AttributeValueMemberN)
	return ok && n.Value == strconv.FormatUint(uint64(c.version), 10)
}

func conflict(k store.Key) error { return fmt.Errorf("store: %s: %w", k, core.Conflict) }

// unknown is the error of a commit of which a try was lost, and a later one found other versions than it expects: those may be
// the traces of the first, or somebody else's.
func unknown(k store.Key) error {
	return fmt.Errorf("dynamodb: commit: an answer was lost, and %s has changed since; the commit may have happened: %w", k, core.Unavailable)
}
