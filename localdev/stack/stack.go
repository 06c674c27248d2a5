// Package stack is the whole system in one process: the third composition root, as a library. It serves every row of the
// table over HTTPS (which clusters insist on in an issuer) and over plain HTTP on localhost (so that a browser shows no
// certificate warning), carries the outbox to dispatch, the queue to sync, and the minute to maintain.
package stack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	gosync "sync"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/pki"
)

// Options say how to run. The zero Options works: free ports, and a folder that Close removes.
type Options struct {
	Dir   string // keeps the store, the master key and the certificates; empty: a temporary folder
	HTTPS string // address to listen on for issuers, APIs and clusters; default 127.0.0.1:0
	HTTP  string // address to listen on for browsers; default 127.0.0.1:0

	// Tick is how often maintain runs. Default: a minute, as in the cloud.
	Tick time.Duration

	Now func() time.Time // default: time.Now, UTC
	Log *slog.Logger     // default: slog.Default()
}

// Stack is a running system.
type Stack struct {
	*functions.System
	Store  *bolt.DB
	CAFile string // the certificate authority of Base, in PEM

	// Welcome makes whoever presents it the first operator, in tenant system. Empty if the store was there before.
	Welcome string

	dir       string
	temporary bool
	servers   []*http.Server
	stop      context.CancelFunc
	running   gosync.WaitGroup
}

// New starts a system and returns when it serves. It lives until Close.
func New(o Options) (_ *Stack, err error) {
	s := &Stack{dir: o.Dir}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.dir == "" {
		s.temporary = true
		if s.dir, err = os.MkdirTemp("", "fleetpass-"); err != nil {
			return nil, err
		}
	} else if err = os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC() }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Tick == 0 {
		o.Tick = time.Minute
	}
	secure, plain, err := listen(o)
	if err != nil {
		return nil, err
	}
	ca, err := pki.Open(s.dir, "Fleetpass on this machine")
	if err != nil {
		return nil, err
	}
	s.CAFile = filepath.Join(s.dir, "ca.crt")
	leaf, err := ca.Server("localhost", "localhost", "127.0.0.1", "::1")
	if err != nil {
		return nil, err
	}
	pair, err := leaf.Pair()
	if err != nil {
		return nil, err
	}
	if s.Store, err = bolt.Open(filepath.Join(s.dir, "fleetpass.db"), bolt.Options{Now: o.Now}); err != nil {
		return nil, err
	}
	wrapper, err := localkeys.Open(filepath.Join(s.dir, "master.key"), true)
	if err != nil {
		return nil, err
	}
	queue := storequeue.New(s.Store, o.Now)
	s.System, err = functions.New(functions.Config{
		DB: s.Store, Wrapper: wrapper, Queue: queue, Dial: kubernetes.Dial,
		Base: "https://localhost:" + port(secure), BrowserBase: "http://localhost:" + port(plain), IssuerCA: string(ca.PEM),
		Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	if s.Welcome, err = s.Org.EnsureSystem(ctx); err != nil {
		return nil, err
	}
	handler := s.System.HTTP()
	s.serve(tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), handler)
	s.serve(plain, handler)
	s.background(ctx, queue, o)
	return s, nil
}

// listen takes the two ports. A busy one is named with the flag that chooses another.
func listen(o Options) (secure, plain net.Listener, err error) {
	open := func(flag, address string) (net.Listener, error) {
		if address == "" {
			address = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s (choose another with -%s): %w", address, flag, err)
		}
		return l, nil
	}
	if secure, err = open("https", o.HTTPS); err != nil {
		return nil, nil, err
	}
	if plain, err = open("http", o.HTTP); err != nil {
		_ = secure.Close()
	}
	return secure, plain, err
}

func port(l net.Listener) string {
	_, p, _ := net.SplitHostPort(l.Addr().String())
	return p
}

func (s *Stack) serve(l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	s.servers = append(s.servers, server)
	s.running.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("the server ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// background runs what the cloud's triggers would: the change stream, the queue, the schedule.
func (s *Stack) background(ctx context.Context, queue *storequeue.Queue, o Options) {
	s.running.Go(func() {
		err := s.Store.Feed(ctx, bolt.FeedOptions{Failed: func(attempt int, err error) {
			s.Log.Warn("an event failed and comes again", "attempt", attempt, "error", err)
		}}, s.System.Dispatch)
		if ctx.Err() == nil {
			s.Log.Error("the change feed ended", "error", err)
		}
	})
	s.running.Go(func() {
		err := queue.Work(ctx, func(ctx context.Context, m sync.Message) error {
			ctx, done := context.WithTimeout(ctx, time.Minute) // the cloud's function timeout
			defer done()
			return s.System.Synchronize(ctx, m)
		})
		if ctx.Err() == nil {
			s.Log.Error("the queue's worker ended", "error", err)
		}
	})
	s.running.Go(func() {
		tick := time.NewTicker(o.Tick)
		defer tick.Stop()
		for {
			if err := s.System.Maintain(ctx, o.Now()); err != nil && ctx.Err() == nil {
				s.Log.Error("maintenance failed; it runs again in a minute", "error", err)
			}
			if _, err := s.Store.Sweep(ctx, maxSweep); err != nil && ctx.Err() == nil { // the cloud's stores do this by themselves
				s.Log.Error("expired items were not removed", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// maxSweep bounds how many expired items one tick removes, so that it never holds up the store's writers for long.
const maxSweep = 10_000

// Close stops everything, waits for it, and removes a temporary folder.
func (s *Stack) Close() {
	s.stop()
	for _, server := range s.servers {
		ctx, done := context.WithTimeout(context.Background(), 2*time.Second)
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // requests that hang are cut off
		}
		done()
	}
	s.running.Wait()
	if s.Store != nil {
		if err := s.Store.Close(); err != nil {
			s.Log.Error("the store did not close", "error", err)
		}
	}
	if s.temporary && s.dir != "" {
		_ = os.RemoveAll(s.dir) // it is temporary
	}
}
