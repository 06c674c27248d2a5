package dynamodb

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fleetpass/fleetpass/core/store"
)

// Get reads one key with a strongly consistent read, and several in a transaction, which is a snapshot.
func (db *DB) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if err := store.CheckGet(keys); err != nil {
		return nil, err
	}
	found, err := db.fetch(ctx, keys)
	if err != nil {
		return nil, err
	}
	items, now := make([]store.Item, len(keys)), db.now().Unix()
	for i, attrs := range found {
		if items[i], err = decode(keys[i], attrs, now); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// fetch returns the attributes of each key, in the keys' order; of an absent one, none.
func (db *DB) fetch(ctx context.Context, keys []store.Key) ([]map[string]types.AttributeValue, error) {
	if len(keys) == 1 {
		out, err := db.client.GetItem(ctx, &sdk.GetItemInput{
			TableName:              &db.table,
			Key:                    key(keys[0]),
			ConsistentRead:         consistent,
			ReturnConsumedCapacity: db.report,
		}, db.reading())
		if err != nil {
			return nil, failure("get", err)
		}
		db.read("GetItem", one(out.ConsumedCapacity)...)
		return []map[string]types.AttributeValue{out.Item}, nil
	}
	gets := make([]types.TransactGetItem, len(keys))
	for i, k := range keys {
		gets[i].Get = &types.Get{TableName: &db.table, Key: key(k)}
	}
	out, err := db.client.TransactGetItems(ctx, &sdk.TransactGetItemsInput{TransactItems: gets, ReturnConsumedCapacity: db.report}, db.reading())
	if err != nil {
		return nil, failure("get", err)
	}
	db.read("TransactGetItems", out.ConsumedCapacity...)
	// A short answer must not look like absent items.
	if len(out.Responses) != len(keys) {
		return nil, fmt.Errorf("dynamodb: get of %d keys: the answer has %d items", len(keys), len(out.Responses))
	}
	found := make([]map[string]types.AttributeValue, len(keys))
	for i, r := range out.Responses {
		found[i] = r.Item
	}
	return found, nil
}

// decode makes an item of its attributes. One that is absent, or expired by now, is the bare key. An error says what is wrong
// with the item and quotes nothing of it.
func decode(k store.Key, attrs map[string]types.AttributeValue, now int64) (store.Item, error) {
	bare := store.Item{Key: k}
	if len(attrs) == 0 {
		return bare, nil
	}
	bad := func(attr string) (store.Item, error) {
		return bare, fmt.Errorf("dynamodb: %s does not decode: attribute %q is not what this store writes", k, attr)
	}
	if s, ok := attrs[attrPartition].(*types.AttributeValueMemberS); !ok || s.Value != k.Leading() {
		return bad(attrPartition)
	}
	if s, ok := attrs[attrSort].(*types.AttributeValueMemberS); !ok || s.Value != k.Sort() {
		return bad(attrSort)
	}
	it := bare
	n, ok := attrs[attrVersion].(*types.AttributeValueMemberN)
	if !ok {
		return bad(attrVersion)
	}
	v, err := strconv.ParseUint(n.Value, 10, 64)
	if err != nil || v == 0 {
		return bad(attrVersion)
	}
	it.Version = store.Version(v)
	switch e := attrs[attrExpiry].(type) {
	case nil:
	case *types.AttributeValueMemberN:
		seconds, err := strconv.ParseInt(e.Value, 10, 64)
		if err != nil {
			return bad(attrExpiry)
		}
		if seconds <= now { // DynamoDB removes it some day
			return bare, nil
		}
		it.Expires = time.Unix(seconds, 0).UTC()
	default:
		return bad(attrExpiry)
	}
	switch b := attrs[attrBody].(type) {
	case nil:
		it.Body = []byte{}
	case *types.AttributeValueMemberB:
		it.Body = b.Value
	default:
		return bad(attrBody)
	}
	return it, nil
}

// topUp is how many items the later pages of a List with a limit ask for at least. They are read only where expired items lay
// in the first one, and there may be many more of those.
const topUp = 64

// List reads the range in pages, which DynamoDB ends at 1 MiB. The first page of a range with a limit is no longer than that.
func (db *DB) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if err := store.CheckRange(r); err != nil {
			yield(store.Item{}, err)
			return
		}
		q, ok := db.query(r)
		if !ok {
			return
		}
		for left := r.Limit; ; {
			out, err := db.client.Query(ctx, q, db.reading())
			if err != nil {
				yield(store.Item{}, failure("list", err))
				return
			}
			db.read("Query", one(out.ConsumedCapacity)...)
			now := db.now().Unix()
			for _, attrs := range out.Items {
				s, ok := attrs[attrSort].(*types.AttributeValueMemberS)
				if !ok {
					yield(store.Item{}, fmt.Errorf("dynamodb: list of %s: an item without a sort key", strings.ReplaceAll(r.Leading(), "#", "/")))
					return
				}
				if r.To != "" && s.Value >= r.To {
					continue // BETWEEN has both ends in it
				}
				it, err := decode(r.Key(s.Value), attrs, now)
				if err != nil {
					yield(store.Item{}, err)
					return
				}
				if it.Version == 0 {
					continue
				}
				if !yield(it, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if len(out.LastEvaluatedKey) == 0 {
				return
			}
			q.ExclusiveStartKey = out.LastEvaluatedKey
			if r.Limit > 0 {
				n := int32(max(left, topUp))
				q.Limit = &n
			}
		}
	}
}

// query is the request for the first page of a range. Where none could find anything it is not ok.
func (db *DB) query(r store.Range) (q *sdk.QueryInput, ok bool) {
	if r.To != "" && r.From >= r.To {
		return nil, false
	}
	forward, cond := !r.Descending, "p = :p"
	values := map[string]types.AttributeValue{":p": text(r.Leading())}
	q = &sdk.QueryInput{
		TableName:              &db.table,
		ConsistentRead:         consistent,
		ScanIndexForward:       &forward,
		ReturnConsumedCapacity: db.report,
	}
	from, to := r.From, r.To
	// A start key is itself not part of what is read. So it is the end of a descending range, and the beginning of an
	// ascending one that goes on behind an earlier page, which Range.After spells as the last key and a zero byte.
	if before, isAfter := strings.CutSuffix(from, "\x00"); forward && isAfter && before != "" {
		q.ExclusiveStartKey = map[string]types.AttributeValue{attrPartition: text(r.Leading()), attrSort: text(before)}
		from = ""
	}
	if !forward && to != "" {
		q.ExclusiveStartKey = map[string]types.AttributeValue{attrPartition: text(r.Leading()), attrSort: text(to)}
		to = ""
	}
	// There is room for one condition on the sort key.
	switch {
	case from != "" && to != "":
		cond += " AND s BETWEEN :from AND :to"
	case from != "":
		cond += " AND s >= :from"
	case to != "":
		cond += " AND s < :to"
	}
	if from != "" {
		values[":from"] = text(from)
	}
	if to != "" {
		values[":to"] = text(to)
	}
	q.KeyConditionExpression, q.ExpressionAttributeValues = &cond, values
	if r.Limit > 0 {
		n := int32(r.Limit)
		q.Limit = &n
	}
	return q, true
}
