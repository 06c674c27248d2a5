// Package stack is the whole system on one machine: the third composition root, as a library. It serves every row of the
// table over HTTPS (which clusters insist on in an issuer) and over plain HTTP on localhost (so that a browser shows no
// certificate warning), carries the outbox to dispatch, the queue to sync, and the minute to maintain. The functions run in
// this process over the embedded store, or as the built artefacts of a cloud over that cloud's store: see Runtime.
package stack

import (
	"cmp"
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

	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/otlp"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/idp"
	"github.com/fleetpass/fleetpass/localdev/pki"
)

// Runtime is what the functions run in.
type Runtime string

// The runtimes.
const (
	InProcess Runtime = ""       // all of them in this process, over the embedded store
	Lambda    Runtime = "lambda" // the Lambda binary, a process for each function, over DynamoDB Local
	GCF       Runtime = "gcf"    // Google's archive, a process for each function, over the Firestore emulator
)

// Options say how to run. The zero Options works: free ports, and a folder that Close removes.
type Options struct {
	Dir   string // keeps the store, the master key and the certificates; empty: a temporary folder
	HTTPS string // address to listen on for issuers, APIs and clusters; default 127.0.0.1:0
	HTTP  string // address to listen on for browsers; default 127.0.0.1:0

	IDPHTTPS string // address of the identity provider for the system; default 127.0.0.1:0
	IDPHTTP  string // address of the identity provider for browsers; default 127.0.0.1:0

	// Apart has browsers meet the system and the identity provider as they do in the world: over TLS, on two sites, localhost
	// and 127.0.0.1. They must trust the certificates of CAFile then. Default: plain HTTP on localhost for both, without warnings.
	Apart bool

	Ports []uint16 // on this machine, where other identity providers are

	// Runtime is what the functions run in. The stores of the clouds keep nothing beyond Close. Default: InProcess.
	Runtime Runtime

	// Tick is how often maintain runs. Default: a minute, as in the cloud.
	Tick time.Duration

	Now func() time.Time // default: time.Now, UTC; InProcess only: other processes have the machine's clock
	Log *slog.Logger     // default: slog.Default()
}

// platform is where the functions run and what they stand on.
type platform interface {
	// open starts what the system stands on, and fills in DB, Wrapper and Queue.
	open(ctx context.Context, c *functions.Config) error

	// serve starts the functions, and what triggers them, and returns who answers requests. Its work is counted in running and
	// ends with ctx.
	serve(ctx context.Context, s *Stack, running *gosync.WaitGroup) (http.Handler, error)

	// close ends what is left after that.
	close()
}

// Stack is a running system.
type Stack struct {
	// System is wired in this process over the store that the functions stand on, to seed it and to look at it.
	*functions.System
	CAFile string // the certificate authority of Base, in PEM

	// IDP is an identity provider to sign in at, beside the system.
	IDP *idp.Provider

	// Welcome makes whoever presents it the first operator, in tenant system. Empty if the store was there before.
	Welcome string

	dir       string
	temporary bool
	seeded    bool // the store was empty, and Seed has filled it
	tick      time.Duration
	log       *slog.Logger
	platform  platform
	telemetry *otlp.Telemetry
	servers   []*http.Server
	stop      context.CancelFunc
	running   gosync.WaitGroup
}

// New starts a system and returns when it serves. It lives until Close.
func New(o Options) (_ *Stack, err error) {
	s := &Stack{dir: o.Dir, tick: o.Tick, log: o.Log}
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
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.tick == 0 {
		s.tick = time.Minute
	}
	doors, err := listen(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			doors.close() // twice where a server has them already
		}
	}()
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
	telemetry, err := otlp.Start(os.Getenv, "localdev")
	if err != nil {
		return nil, err
	}
	s.telemetry = telemetry
	c := functions.Config{
		Telemetry: telemetry.Recorder(), Dial: kubernetes.Dial, Base: "https://localhost:" + port(doors.https), BrowserBase: "http://localhost:" + port(doors.http), IssuerCA: string(ca.PEM),
		Now: o.Now, Log: s.log, Outbound: outboundPolicy(o.Ports, doors.idpHTTPS),
	}
	c.Providers, c.Issuers = providers(c.Outbound)
	if o.Apart {
		c.BrowserBase = c.Base
	}
	switch o.Runtime {
	case InProcess:
		s.platform = &inProcess{dir: s.dir}
	case Lambda:
		s.platform = &lambdaRuntime{dir: s.dir}
	case GCF:
		s.platform = &gcfRuntime{dir: s.dir}
	default:
		return nil, core.BadField("Runtime", fmt.Sprintf("%q is none of lambda and gcf", o.Runtime))
	}
	if err := s.platform.open(ctx, &c); err != nil {
		return nil, err
	}
	if s.System, err = functions.New(c); err != nil {
		return nil, err
	}
	if s.Welcome, err = s.Org.EnsureSystem(ctx); err != nil {
		return nil, err
	}
	if err := s.serveIDP(doors, pair, o.Apart); err != nil {
		return nil, err
	}
	handler, err := s.platform.serve(ctx, s, &s.running)
	if err != nil {
		return nil, err
	}
	s.serve(tls.NewListener(doors.https, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), handler)
	s.serve(doors.http, handler)
	return s, nil
}

// every calls do at once and then at each tick, until ctx ends.
func (s *Stack) every(ctx context.Context, do func()) {
	tick := time.NewTicker(s.tick)
	defer tick.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// doors are the ports that a system listens on.
type doors struct{ https, http, idpHTTPS, idpHTTP net.Listener }

func (d doors) close() {
	for _, l := range []net.Listener{d.https, d.http, d.idpHTTPS, d.idpHTTP} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// listen takes the ports. A busy one is named with the flag that chooses another.
func listen(o Options) (d doors, err error) {
	for _, l := range []struct {
		flag, address string
		into          *net.Listener
	}{{"https", o.HTTPS, &d.https}, {"http", o.HTTP, &d.http}, {"idp-https", o.IDPHTTPS, &d.idpHTTPS}, {"idp-http", o.IDPHTTP, &d.idpHTTP}} {
		if *l.into, err = net.Listen("tcp", cmp.Or(l.address, "127.0.0.1:0")); err != nil {
			d.close()
			return doors{}, fmt.Errorf("cannot listen on %s (choose another with -%s): %w", l.address, l.flag, err)
		}
	}
	return d, nil
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
	if s.platform != nil {
		s.platform.close()
	}
	flush, done := context.WithTimeout(context.Background(), otlp.FlushTime)
	defer done()
	if err := s.telemetry.Shutdown(flush); err != nil {
		s.log.Warn("the last spans and metrics were not sent", "error", err)
	}
	if s.temporary && s.dir != "" {
		_ = os.RemoveAll(s.dir) // it is temporary
	}
}
