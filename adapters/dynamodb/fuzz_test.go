package dynamodb

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fleetpass/fleetpass/core/store"
)

// answering is a connection to a DynamoDB that gives one answer to everything.
type answering struct {
	status int
	body   []byte
}

func (a answering) Do(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

var _ aws.HTTPClient = answering{}

const secret = "hunter2hunter2"

func answered(status int, body []byte) *DB {
	c := LocalConfig("http://dynamodb.test")
	c.HTTP = answering{status, body}
	return New(NewClient(c), "t", Options{Attempts: 1})
}

// What comes for an item is the item, the bare key, or an error; never half of an item, and no error quotes it.
func FuzzAnswer(f *testing.F) {
	k, other := store.Meta("acme"), store.Meta("other")
	item := func(attrs string) string { return `{"Item":{` + attrs + `}}` }
	list := func(attrs string) string { return `{"Items":[{` + attrs + `}],"Count":1}` }
	several := func(attrs string) string { return `{"Responses":[{"Item":{` + attrs + `}},{}]}` }
	for _, attrs := range []string{
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"12"},"b":{"B":"aHVudGVyMmh1bnRlcjI="}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"12"},"e":{"N":"99999999999"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"0"},"b":{"S":"hunter2hunter2"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"1e3"},"b":{"B":"hunter2hunter2"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"S":"hunter2hunter2"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"1"},"e":{"N":"hunter2hunter2"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"1"},"e":{"B":"hunter2hunter2"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"tenant"},"v":{"N":"1"},"b":{"S":"hunter2hunter2"}`,
		`"p":{"S":"meta#hunter2hunter2"},"s":{"S":"tenant"},"v":{"N":"1"}`,
		`"p":{"S":"meta#acme"},"s":{"S":"hunter2hunter2"},"v":{"N":"1"}`,
		`"b":{"B":"hunter2hunter2"}`, ``, `"v":{"hunter2hunter2":1}`, `"v":"hunter2hunter2"`,
	} {
		f.Add(200, []byte(item(attrs)))
		f.Add(200, []byte(list(attrs)))
		f.Add(200, []byte(several(attrs)))
	}
	f.Add(200, []byte(`{"Responses":[]}`))
	f.Add(200, []byte(`{"Items":[{}],"LastEvaluatedKey":{}}`))
	f.Add(400, []byte(`{"__type":"ValidationException","message":"hunter2hunter2"}`))
	f.Add(400, []byte(`{"__type":"TransactionCanceledException","message":"hunter2hunter2","CancellationReasons":[{"Code":"ConditionalCheckFailed","Message":"hunter2hunter2","Item":{"b":{"B":"hunter2hunter2"}}}]}`))
	f.Add(400, []byte(`{"__type":"ConditionalCheckFailedException","message":"hunter2hunter2","Item":{"v":{"S":"hunter2hunter2"}}}`))
	f.Add(500, []byte(`hunter2hunter2`))
	f.Add(200, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 || bytes.Contains(body, []byte("AccessDenied")) || bytes.Contains(body, []byte("ResourceNotFound")) || bytes.Contains(body, []byte("LastEvaluatedKey")) {
			return
		}
		db := answered(status, body)
		check := func(what string, err error) {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error quotes the answer: %v", what, err)
			}
		}
		whole := func(what string, it store.Item, k store.Key) {
			if it.Key != k || it.Version == 0 && (it.Body != nil || !it.Expires.IsZero()) || it.Version != 0 && it.Body == nil {
				t.Errorf("%s: half an item: %+v", what, it)
			}
		}
		ctx := context.Background()
		items, err := db.Get(ctx, k)
		check("get", err)
		if err == nil {
			whole("get", items[0], k)
		}
		items, err = db.Get(ctx, k, other)
		check("get of two", err)
		if err == nil {
			whole("get of two", items[0], k)
			whole("get of two", items[1], other)
		}
		for it, err := range db.List(ctx, store.Users("acme")) {
			if !bytes.Contains(body, []byte(`"s":{"S":"`+secret)) { // an item's key may be named
				check("list", err)
			}
			if err == nil {
				whole("list", it, store.Users("acme").Key(it.Key.Sort()))
			}
		}
		check("put", db.Commit(ctx, store.Put(k, 1, nil)))
		check("delete", db.Commit(ctx, store.Delete(k, 1)))
		check("transaction", db.Commit(ctx, store.Put(k, 1, nil), store.Check(other, 0)))
		check("check", db.Commit(ctx, store.Check(k, 1)))
	})
}
