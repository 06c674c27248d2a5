package functions_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/localdev/parts"
)

// wire counts what goes between an adapter and its database: each request as it leaves, tries that fail too, and what the
// database says that it bills.
type wire struct {
	mu sync.Mutex
	traffic
}

type traffic struct {
	operations                      map[string]int
	units                           storetest.Units // without transactions' writes
	transacted                      float64         // what is reported of those, in write units
	unbilled                        int             // lists that nothing is reported of
	documentsRead, documentsWritten int
}

// check holds what DynamoDB Local reports to what was counted. It departs from the service in two ways that matter here (see
// adapters/dynamodb, whose tests hold the sums to it where it does not): of an empty list, which is one unit, it reports
// nothing; and of a transaction's operations it adds up those prices that differ.
func (t traffic) check(tb testing.TB, row string, counted storetest.Units) {
	tb.Helper()
	rest := counted.Write - t.units.Write
	if t.units.Read+float64(t.unbilled) != counted.Read || t.transacted > rest || (t.transacted > 0) != (rest > 0) {
		tb.Errorf("%s: DynamoDB bills %+v, %g for transactions' writes and nothing for %d lists; counted on bolt were %+v", row, t.units, t.transacted, t.unbilled, counted)
	}
}

// requests is how many there were.
func (t traffic) requests() (n int) {
	for _, each := range t.operations {
		n += each
	}
	return n
}

// only fails the test if there was any other operation, such as a scan.
func (t traffic) only(tb testing.TB, row string, allowed ...string) {
	tb.Helper()
	for op := range t.operations {
		if !slices.Contains(allowed, op) {
			tb.Errorf("%s: the operation %s", row, op)
		}
	}
}

func (w *wire) note(change func(*traffic)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.operations == nil {
		w.operations = map[string]int{}
	}
	change(&w.traffic)
}

func (w *wire) request(op string) { w.note(func(t *traffic) { t.operations[op]++ }) }

// take returns what was counted since it was last asked.
func (w *wire) take() traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.traffic
	w.traffic = traffic{}
	return old
}

// Do is DynamoDB's HTTP client: the operation stands in a header.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	w.request(op)
	if op == "Query" {
		w.note(func(t *traffic) { t.unbilled++ }) // until it is
	}
	return http.DefaultClient.Do(r)
}

// dynamoDB is a table of the test's own.
func dynamoDB(t *testing.T) (store.DB, *wire) {
	t.Helper()
	w, config, table := &wire{}, dynamodb.LocalConfig(parts.NeedDynamoDB(t)), "t"+core.NewID()[:16]
	if err := dynamodb.CreateTable(t.Context(), dynamodb.NewClient(config), table); err != nil {
		t.Fatal(err)
	}
	config.HTTP = w
	return dynamodb.New(dynamodb.NewClient(config), table, dynamodb.Options{Consumed: func(op string, read, write float64) {
		w.note(func(t *traffic) {
			t.units.Read += read
			switch op {
			case "TransactWriteItems":
				t.transacted += write
			case "Query":
				if read > 0 {
					t.unbilled--
				}
			default:
				t.units.Write += write
			}
		})
	}}), w
}

// fireStore is a project of the test's own.
func fireStore(t *testing.T) (store.DB, *wire) {
	t.Helper()
	w := &wire{}
	rpc := func(method string) { w.request(method[strings.LastIndex(method, "/")+1:]) }
	options := append(firestore.Emulator(parts.NeedFirestore(t)),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			rpc(method)
			return invoke(ctx, method, req, reply, cc, opts...)
		})),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			rpc(method)
			return open(ctx, desc, cc, method, opts...)
		})))
	client, err := apiv1.NewClient(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return firestore.New(client, "test-"+strings.ToLower(core.NewID()[:12]), firestore.DefaultDatabase, firestore.Options{Used: func(u firestore.Usage) {
		w.note(func(t *traffic) { t.documentsRead += u.Reads; t.documentsWritten += u.Writes + u.Deletes })
	}}), w
}
