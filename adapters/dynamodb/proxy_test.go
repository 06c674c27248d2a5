package dynamodb_test

import (
	"bytes"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
)

// A fault is what the proxy does to a request.
type fault int

const (
	pass             fault = iota
	dropBefore             // the connection breaks before DynamoDB has the request
	dropAfter              // DynamoDB does it, and the connection breaks before the answer
	truncate               // the answer breaks off in its middle
	garble                 // a byte of the answer is another
	delay                  // the request is late
	twice                  // DynamoDB gets it twice, and the second answer is passed on; not lone writes, which only their sender repeats
	late                   // DynamoDB does it some time after the connection broke
	throttle               // 400 ThrottlingException
	throughput             // 400 ProvisionedThroughputExceededException
	conflict               // 400 TransactionConflict, as a transaction or a single request has it
	inProgress             // 400 TransactionInProgressException after DynamoDB has done it
	serverError            // 500 before DynamoDB has it
	serverErrorAfter       // 500 after DynamoDB has done it
	faults
)

var faultNames = [faults]string{"pass", "drop before", "drop after", "truncate", "garble", "delay", "twice", "late",
	"throttle", "throughput", "conflict", "in progress", "server error", "server error after"}

func (f fault) String() string { return faultNames[f] }

// proxy lies between the SDK and DynamoDB. It knows nothing of the adapter.
type proxy struct {
	target string
	url    string

	mu       sync.Mutex
	plan     func(operation string, n int) fault // n counts the requests; nil: all pass
	n        int
	injected [faults]int
	requests map[string]int // by operation
	last     []byte         // the body of the last one
	lates    sync.WaitGroup
}

// newProxy starts one before the endpoint of config, and returns the config of who goes through it.
func newProxy(t testing.TB, config dynamodb.Config) (*proxy, dynamodb.Config) {
	p := &proxy{target: config.Endpoint, requests: map[string]int{}}
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		p.lates.Wait()
		s.Close()
	})
	config.Endpoint, p.url = s.URL, s.URL
	return p, config
}

// set changes the plan and forgets what was counted.
func (p *proxy) set(plan func(operation string, n int) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.n, p.injected, p.requests = plan, 0, [faults]int{}, map[string]int{}
}

func (p *proxy) counts() (injected [faults]int, requests map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.injected, p.requests
}

func (p *proxy) lastRequest() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// first is a plan by which the first request of an operation meets a fault ("" means any).
func first(operation string, f fault) func(string, int) fault {
	done := false
	return func(op string, _ int) fault {
		if done || operation != "" && op != operation {
			return pass
		}
		done = true
		return f
	}
}

// some is a plan by which that share of the requests meet a fault. The faults are dealt like cards, so that none is missing where
// there are many: which comes when is another at each run, and is logged as a seed.
func some(t testing.TB, share float64) func(string, int) fault {
	seed := rand.Uint64()
	t.Logf("faults from seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0xddb))
	var deck []int
	return func(string, int) fault {
		if r.Float64() >= share {
			return pass
		}
		if len(deck) == 0 {
			deck = r.Perm(int(faults) - 1)
		}
		f := 1 + fault(deck[0])
		deck = deck[1:]
		return f
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	p.mu.Lock()
	f := pass
	if p.plan != nil {
		f = p.plan(operation, p.n)
	}
	p.n++
	p.injected[f]++
	p.requests[operation]++
	p.last = body
	lateness := time.Duration(rand.Int64N(int64(20 * time.Millisecond)))
	p.mu.Unlock()

	send := func() (*http.Response, []byte) {
		req, err := http.NewRequest(r.Method, p.target, bytes.NewReader(body)) // not r's context: a broken connection stops nothing
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Header, req.Host = r.Header.Clone(), r.Host
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		return res, answer
	}
	refuse := func(status int, kind, more string) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#`+kind+`","message":"from the proxy"`+more+`}`)
	}
	switch f {
	case dropBefore:
		panic(http.ErrAbortHandler)
	case dropAfter:
		send()
		panic(http.ErrAbortHandler)
	case late:
		p.lates.Go(func() {
			defer func() { _ = recover() }()
			time.Sleep(lateness)
			send()
		})
		panic(http.ErrAbortHandler)
	case throttle:
		refuse(400, "ThrottlingException", "")
		return
	case throughput:
		refuse(400, "ProvisionedThroughputExceededException", "")
		return
	case conflict:
		if strings.HasPrefix(operation, "Transact") {
			refuse(400, "TransactionCanceledException", `,"CancellationReasons":[{"Code":"TransactionConflict"},{"Code":"None"}]`)
		} else {
			refuse(400, "TransactionConflictException", "")
		}
		return
	case inProgress:
		if operation == "TransactWriteItems" {
			send()
			refuse(400, "TransactionInProgressException", "")
			return
		}
	case serverError:
		refuse(500, "InternalServerError", "")
		return
	case serverErrorAfter:
		send()
		refuse(500, "InternalServerError", "")
		return
	case delay:
		time.Sleep(lateness / 4)
	case twice:
		if operation != "PutItem" && operation != "DeleteItem" {
			send()
		}
	}
	res, answer := send()
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(answer)), 10)) // as the service does
	w.WriteHeader(res.StatusCode)
	switch f {
	case truncate:
		w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	case garble:
		answer[len(answer)/2] ^= 1
	}
	w.Write(answer)
}
