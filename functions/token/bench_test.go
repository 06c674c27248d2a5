//go:build unix

package token_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	gosync "sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions"
)

// BenchmarkToken compares what a token costs at the token endpoint (client_credentials, in production's wiring: the mux,
// the edge with its log, bolt, a wrapped key) with what it costs at a bare handler that signs as many bytes with ES256 and
// answers as long a body. It counts the processor's time, user and system, of the whole process, so what the collector
// and the kernel do for a request counts too.
//
//	http     over four TCP connections on the loopback, kept alive; the client, the same for both, does next to nothing
//	handler  ServeHTTP called by itself: without net/http, which both sides of the first share
//
// The design wants x/sign over HTTP to be at most 1.4.
func BenchmarkToken(b *testing.B) {
	functions.Tune(os.Getenv, 0) // as the composition roots do, and for both sides
	endpoint, raw := tokenEndpoint(b)
	bare := signer(b, serve(b, endpoint, raw))
	b.Run("http", func(b *testing.B) { compare(b, over(b, endpoint, raw), over(b, bare, raw)) })
	b.Run("handler", func(b *testing.B) { compare(b, direct(b, endpoint, raw), direct(b, bare, raw)) })
}

// compare runs both in turns, so that whatever else the machine does hits both, and reports the processor time of each.
func compare(b *testing.B, token, sign func(requests int)) {
	const turn = 200
	var spent [2]time.Duration
	rounds := 0
	token(turn) // warm
	sign(turn)
	round := func() {
		for side, run := range []func(int){token, sign} {
			start := processorTime(b)
			run(turn)
			spent[side] += processorTime(b) - start
		}
		rounds++
	}
	for b.Loop() {
		round()
	}
	for rounds < 200 { // a second is too short to be steady beside other work
		round()
	}
	per := func(side int) float64 { return float64(spent[side].Microseconds()) / float64(rounds*turn) }
	b.ReportMetric(per(0), "µs-cpu/token")
	b.ReportMetric(per(1), "µs-cpu/sign")
	b.ReportMetric(per(0)/per(1), "x/sign")
	b.ReportMetric(0, "ns/op") // a round of both, which says nothing
}

// processorTime is what this process has used, user and system.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tokenEndpoint is the system's handler, and the raw request of an application that is registered there.
func tokenEndpoint(b *testing.B) (http.Handler, []byte) {
	b.Helper()
	dir := b.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "store"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.Open(filepath.Join(dir, "master.key"), true)
	if err != nil {
		b.Fatal(err)
	}
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a log line costs a system call, as on the platform
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sink.Close() })
	s, err := functions.New(functions.Config{
		DB: db, Wrapper: wrapper, Queue: storequeue.New(db, time.Now), Base: "https://fleetpass.example",
		Providers: map[sso.Kind]sso.Provider{},
		Dial:      func(sync.Target) (sync.Cluster, error) { return nil, core.Unavailable },
		Log:       slog.New(slog.NewJSONHandler(sink, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	operator := core.SystemActor(core.SystemTenant)
	if _, err := s.Org.CreateTenant(b.Context(), operator, "acme", "Acme"); err != nil {
		b.Fatal(err)
	}
	app, secret, err := s.Directory.CreateApplication(b.Context(), core.SystemActor("acme"), "acme", directory.NewApplication{Name: "robot"})
	if err != nil {
		b.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {string(app.ID)}, "client_secret": {secret}}.Encode()
	return s.HTTP(), fmt.Appendf(nil, "POST /t/acme/token HTTP/1.1\r\nHost: fleetpass.example\r\nUser-Agent: robot\r\nAccept: application/json\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form)
}

// serve answers one raw request and fails unless that went well.
func serve(b *testing.B, h http.Handler, raw []byte) *httptest.ResponseRecorder {
	b.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, parse(b, raw))
	if w.Code != http.StatusOK {
		b.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

func parse(b *testing.B, raw []byte) *http.Request {
	b.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:40000"
	return r
}

// signer is the bare handler: no routing, no parsing, no store, no log. It signs a text as long as what the endpoint
// signed, with the same library and curve, and answers a body as long as the endpoint's.
func signer(b *testing.B, like *httptest.ResponseRecorder) http.Handler {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	body := like.Body.String()
	at := strings.Index(body, "eyJ")
	end := at + strings.IndexByte(body[at:], '"')
	signed, before, after := body[at:strings.LastIndexByte(body[:end], '.')], body[:at], body[end:]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signature, err := jwt.SigningMethodES256.Sign(signed, key)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out := make([]byte, 0, 1024)
		out = append(append(append(out, before...), signed...), '.')
		out = append(base64.RawURLEncoding.AppendEncode(out, signature), after...)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out) // the client went away; there is nobody to tell
	})
}

// direct calls the handler without a server.
func direct(b *testing.B, h http.Handler, raw []byte) func(int) {
	template := parse(b, raw)
	body, err := io.ReadAll(template.Body)
	if err != nil {
		b.Fatal(err)
	}
	return func(requests int) {
		for range requests {
			r, w := *template, answer{header: make(http.Header, 16)}
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(&w, &r)
			if w.bytes < 200 {
				b.Fatalf("status %d, %d bytes", w.status, w.bytes)
			}
		}
	}
}

// answer is a response that is thrown away.
type answer struct {
	header        http.Header
	status, bytes int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { a.bytes += len(p); return len(p), nil }

// over sends the request over TCP connections that are kept alive, as many as keep the server busy, and reads the
// answers. It is no net/http client: that one costs more than the signature does, and would dilute the ratio.
func over(b *testing.B, h http.Handler, raw []byte) func(int) {
	srv := httptest.NewServer(h)
	b.Cleanup(srv.Close)
	clients := make([]client, 4)
	for i := range clients {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		clients[i] = client{conn, bufio.NewReader(conn)}
	}
	return func(requests int) {
		var all gosync.WaitGroup
		for _, c := range clients {
			all.Go(func() {
				for range requests / len(clients) {
					if err := c.roundTrip(raw); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
}

type client struct {
	conn net.Conn
	r    *bufio.Reader
}

// roundTrip sends a request and reads over the answer, which must be a 200 with a body of known length.
func (c client) roundTrip(raw []byte) error {
	if _, err := c.conn.Write(raw); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %s", line)
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length < 200 {
		return fmt.Errorf("a body of %d bytes", length)
	}
	_, err := c.r.Discard(length)
	return err
}
