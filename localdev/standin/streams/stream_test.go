package streams_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/localdev/parts"
	"github.com/fleetpass/fleetpass/localdev/standin/streams"
)

var quick = streams.FeedOptions{Batch: 20, Poll: time.Millisecond, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond}

// function is a Lambda function behind the feed: the adapter that the deployed one has, with a handler of the test's.
type function struct {
	handle func(body string) error
	wrong  func(call int) (answer []byte, err error) // instead of working; (nil, nil) lets it work

	mu      sync.Mutex
	calls   int
	batches [][]string // sequence numbers
	failed  [][]string
}

func (f *function) invoke(ctx context.Context, event []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	var ev awsevents.DynamoDBEvent
	if err := json.Unmarshal(event, &ev); err != nil {
		return nil, err
	}
	var batch, failed []string
	for _, r := range ev.Records {
		batch = append(batch, r.Change.SequenceNumber)
	}
	f.batches = append(f.batches, batch)
	if f.wrong != nil {
		if answer, err := f.wrong(f.calls); answer != nil || err != nil {
			f.failed = append(f.failed, batch)
			return answer, err
		}
	}
	res, err := lambda.Runtime{}.Stream(func(_ context.Context, body []byte) error { return f.handle(string(body)) })(ctx, ev)
	if err != nil {
		return nil, err
	}
	for _, r := range res.BatchItemFailures {
		failed = append(failed, r.ItemIdentifier)
	}
	f.failed = append(f.failed, failed)
	return json.Marshal(res)
}

// inOrder checks that what followed a failure began with the lowest record that had failed.
func (f *function) inOrder(t *testing.T) (failures int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, failed := range f.failed[:len(f.failed)-1] {
		if len(failed) == 0 {
			continue
		}
		failures++
		at := slices.Index(f.batches[i], failed[0])
		if !slices.Equal(f.batches[i+1], f.batches[i][at:]) {
			t.Errorf("batch %d, %v, failed at %s, and the next is %v", i, f.batches[i], failed[0], f.batches[i+1])
		}
	}
	return failures
}

func version(t *testing.T, db store.DB, k store.Key) store.Version {
	t.Helper()
	items, err := db.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return items[0].Version
}

func TestFeed(t *testing.T) {
	config, name := dynamodb.LocalConfig(parts.NeedDynamoDB(t)), "streams-"+strings.ToLower(rand.Text()[:8])
	if err := dynamodb.CreateTable(t.Context(), dynamodb.NewClient(config), name); err != nil {
		t.Fatal(err)
	}
	db := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{})
	const events = 120
	emit := func(n int) {
		// With other changes, none of which is an event: a put, a put over it, a delete, and an outbox item put over.
		tenant := core.TenantID(fmt.Sprint("t", n%3))
		k, outbox := store.User(tenant, core.Email(core.NewID())), store.Outbox(tenant, time.Now(), core.NewID())
		if err := db.Commit(t.Context(), store.Put(k, 0, []byte("no event")), store.Put(outbox, 0, []byte(fmt.Sprint("event ", n))).Until(time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		if n%5 == 0 {
			if err := db.Commit(t.Context(), store.Put(k, version(t, db, k), []byte("no event either"))); err != nil {
				t.Fatal(err)
			}
			if err := db.Commit(t.Context(), store.Delete(k, version(t, db, k)), store.Put(outbox, version(t, db, outbox), []byte("no event"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range events / 2 {
		emit(n)
	}
	run := func(f *function, enough func() bool, meanwhile func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- streams.Feed(ctx, streams.NewClient(config.Endpoint), name, quick, f.invoke) }()
		meanwhile()
		for !enough() {
			select {
			case err := <-ended:
				t.Fatalf("the feed ended: %v", err)
			case <-time.After(time.Millisecond):
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the feed ended with %v", err)
		}
	}

	var mu sync.Mutex
	seen, tries := map[string]int{}, map[string]int{}
	handle := func(body string) error {
		mu.Lock()
		defer mu.Unlock()
		if tries[body]++; len(tries)%7 == 0 && tries[body] == 1 {
			return errors.New("the first time, it fails")
		}
		seen[body]++
		return nil
	}
	count := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) >= n
		}
	}
	// It is stopped half way, and started again while more events come.
	half := &function{handle: handle}
	run(half, count(30), func() {})
	rest := &function{handle: handle, wrong: func(call int) ([]byte, error) {
		switch call {
		case 2:
			return nil, errors.New("the function cannot be reached")
		case 4:
			return []byte("<html>"), nil
		case 6:
			return []byte(`{"batchItemFailures":[{"itemIdentifier":""}]}`), nil
		case 8:
			return []byte(`{"batchItemFailures":[{"itemIdentifier":"12"}]}`), nil
		}
		return nil, nil
	}}
	run(rest, count(events), func() {
		for n := range events / 2 {
			emit(events/2 + n)
		}
	})
	for n := range events {
		if seen[fmt.Sprint("event ", n)] == 0 {
			t.Errorf("event %d never came", n)
		}
	}
	if len(seen) != events {
		t.Errorf("%d different bodies came, want %d", len(seen), events)
	}
	if a, b := half.inOrder(t), rest.inOrder(t); a == 0 || b < 4 {
		t.Errorf("only %d and %d batches failed", a, b)
	}
	if len(rest.batches[0]) == 0 || rest.batches[0][0] != half.batches[0][0] {
		t.Error("the second feed does not begin where the stream does")
	}
}

// A stream of two shards, the first split from the second, with an iterator that expires: what DynamoDB Local never shows.
func TestFeedShards(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	expired := false
	record := func(n int) string {
		return fmt.Sprintf(`{"eventID":"%d","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{"Keys":{"p":{"S":"outbox#t"},"s":{"S":"%d"}},"NewImage":{"p":{"S":"outbox#t"},"s":{"S":"%d"},"b":{"B":"eA=="}},"SequenceNumber":"%d","SizeBytes":1,"StreamViewType":"NEW_IMAGE"}}`, n, n, n, n)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var in struct{ ShardId, ShardIteratorType, SequenceNumber, ShardIterator string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		answer := ""
		switch op {
		case "ListStreams":
			answer = `{"Streams":[{"StreamArn":"arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/1","TableName":"t"}]}`
		case "DescribeStream":
			answer = `{"StreamDescription":{"Shards":[{"ShardId":"shardId-00000000000000000002","ParentShardId":"shardId-00000000000000000001"},{"ShardId":"shardId-00000000000000000001","ParentShardId":"shardId-00000000000000000000"}]}}`
		case "GetShardIterator":
			asked = append(asked, in.ShardId[27:]+" "+in.ShardIteratorType+in.SequenceNumber)
			answer = `{"ShardIterator":"` + in.ShardId[27:] + "/" + in.SequenceNumber + `"}`
		case "GetRecords":
			switch in.ShardIterator {
			case "1/":
				answer = `{"Records":[` + record(101) + "," + record(102) + `],"NextShardIterator":"old"}`
			case "old":
				expired = true
				w.WriteHeader(http.StatusBadRequest)
				answer = `{"__type":"com.amazonaws.dynamodb.v20120810#ExpiredIteratorException","message":"expired"}`
			case "1/102":
				answer = `{"Records":[` + record(103) + `]}`
			case "2/":
				answer = `{"Records":[` + record(201) + `],"NextShardIterator":"end"}`
			default:
				answer = `{"Records":[],"NextShardIterator":"end"}`
			}
		}
		io.WriteString(w, answer)
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	err := streams.Feed(ctx, streams.NewClient(s.URL), "t", quick, func(_ context.Context, event []byte) ([]byte, error) {
		var ev awsevents.DynamoDBEvent
		if err := json.Unmarshal(event, &ev); err != nil {
			return nil, err
		}
		for _, r := range ev.Records {
			if got = append(got, r.Change.SequenceNumber); r.Change.SequenceNumber == "201" {
				cancel()
			}
		}
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(got, []string{"101", "102", "103", "201"}) {
		t.Errorf("%v came, and then %v", got, err)
	}
	if want := []string{"1 TRIM_HORIZON", "1 AFTER_SEQUENCE_NUMBER102", "2 TRIM_HORIZON"}; !slices.Equal(asked, want) || !expired {
		t.Errorf("asked for iterators %q, want %q", asked, want)
	}
}
