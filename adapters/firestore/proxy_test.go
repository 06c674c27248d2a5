package firestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fault is what a proxy does to an RPC.
type fault int

const (
	none         fault = iota
	dropBefore         // UNAVAILABLE, and the emulator never saw it
	dropAfter          // the emulator did it, and the answer is UNAVAILABLE
	late               // the same with DEADLINE_EXCEEDED
	aborted            // ABORTED, and the emulator never saw it
	abortedAfter       // ABORTED, and the emulator did it all the same
	exhausted          // RESOURCE_EXHAUSTED with the server's details, and the emulator never saw it
	calmed             // the emulator did it, and the answer is RESOURCE_EXHAUSTED, as grpc-go spells a reset with ENHANCE_YOUR_CALM
	calmedBefore       // the same, and the emulator never saw it
	delay              // a little
	twice              // the emulator gets it twice; the answer is the first's
	second             // the emulator gets it twice; the answer is the second's
	cut                // a stream breaks off in the middle
	cutWell            // a stream ends in the middle, as if that were all
	faults             // how many there are
)

// proxy stands between a client and the emulator, below everything that the client library does. It always waits for the
// emulator's answer, also where it keeps it to itself.
type proxy struct {
	host   string
	back   *grpc.ClientConn
	server *grpc.Server
	mu     sync.Mutex
	plan   func(method string, request []byte) fault
	did    map[fault]int
	hook   func() // is called once after the next RPC that the emulator did and whose answer is lost
}

// raw passes messages on as they are.
type raw struct{}

func (raw) Name() string                    { return "proto" }
func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil }

func newProxy(t *testing.T, host string) *proxy {
	t.Helper()
	back, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{host: l.Addr().String(), back: back, did: map[fault]int{}}
	p.server = p.newServer()
	go p.server.Serve(l)
	t.Cleanup(func() { p.server.Stop(); back.Close() })
	return p
}

func (p *proxy) newServer() *grpc.Server {
	return grpc.NewServer(grpc.UnknownServiceHandler(p.handle), grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(64<<20))
}

// set has the next RPCs follow a plan; nil: no faults.
func (p *proxy) set(plan func(method string, request []byte) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = plan
}

// once is a plan by which the first RPC of a method meets a fault.
func once(method string, f fault) func(string, []byte) fault {
	done := false
	return func(m string, _ []byte) fault {
		if done || m != method {
			return none
		}
		done = true
		return f
	}
}

// always is a plan by which every RPC of a method meets a fault.
func always(method string, f fault) func(string, []byte) fault {
	return func(m string, _ []byte) fault {
		if m == method {
			return f
		}
		return none
	}
}

// randomly is a plan by which that share of the RPCs meets one of the faults that may befall it. They are dealt like cards, so
// that none is missing where there are many: which comes when is another at each run, and is logged as a seed.
func randomly(t testing.TB, share float64) func(string, []byte) fault {
	seed := rand.Uint64()
	t.Logf("faults from seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var deck []fault
	return func(method string, request []byte) fault {
		if r.Float64() >= share {
			return none
		}
		fits := func(f fault) bool {
			// A commit that only makes new items, and that something on the way sends again after the first was applied and
			// undone by somebody, is done twice; no precondition of Firestore says otherwise.
			return method != "Commit" || f != cut && f != cutWell && f != second && (f != twice || namesUpdateTime(request))
		}
		i := slices.IndexFunc(deck, fits)
		if i < 0 {
			for _, n := range r.Perm(int(faults - dropBefore)) {
				deck = append(deck, dropBefore+fault(n))
			}
			i = slices.IndexFunc(deck, fits)
		}
		f := deck[i]
		deck = slices.Delete(deck, i, i+1)
		return f
	}
}

// namesUpdateTime says whether a commit changes a document whose update time it names.
func namesUpdateTime(request []byte) bool {
	var c pb.CommitRequest
	if proto.Unmarshal(request, &c) != nil {
		return false
	}
	for _, w := range c.Writes {
		if w.CurrentDocument.GetUpdateTime() != nil && w.UpdateMask == nil {
			return true
		}
	}
	return false
}

func (p *proxy) next(method string, request []byte) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plan == nil {
		return none
	}
	f := p.plan(method, request)
	p.did[f]++
	return f
}

func (p *proxy) handle(_ any, in grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(in)
	method := full[strings.LastIndexByte(full, '/')+1:]
	var request []byte
	if err := in.RecvMsg(&request); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(in.Context())
	ctx := metadata.NewOutgoingContext(context.WithoutCancel(in.Context()), pick(md))
	if method == "Listen" {
		ctx = metadata.NewOutgoingContext(in.Context(), pick(md))
	}
	f := p.next(method, request)
	switch f {
	case dropBefore:
		return status.Error(codes.Unavailable, "proxy: dropped")
	case aborted:
		return status.Error(codes.Aborted, "proxy: contention")
	case exhausted:
		quota, err := status.New(codes.ResourceExhausted, "proxy: quota").WithDetails(&errdetails.QuotaFailure{
			Violations: []*errdetails.QuotaFailure_Violation{{Subject: "project", Description: "writes per minute"}}})
		if err != nil {
			return err
		}
		return quota.Err()
	case calmedBefore:
		return status.Error(codes.ResourceExhausted, "proxy: stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM")
	case delay:
		time.Sleep(rand.N(3 * time.Millisecond))
	}
	if method == "Listen" {
		return p.pass(ctx, full, request, in.SendMsg, f)
	}
	var answers [][]byte
	collect := func(m any) error { answers = append(answers, *m.(*[]byte)); return nil }
	err := p.pass(ctx, full, request, collect, none)
	if f == twice || f == second {
		first, firstErr := answers, err
		answers = nil
		err = p.pass(ctx, full, request, collect, none)
		if f == twice {
			answers, err = first, firstErr
		}
	}
	switch f {
	case dropAfter, late, abortedAfter, calmed:
		p.mu.Lock()
		hook := p.hook
		p.hook = nil
		p.mu.Unlock()
		if hook != nil {
			hook()
		}
		return status.Error(map[fault]codes.Code{
			dropAfter: codes.Unavailable, late: codes.DeadlineExceeded, abortedAfter: codes.Aborted, calmed: codes.ResourceExhausted,
		}[f], "proxy: the answer is lost")
	case cut, cutWell:
		answers = answers[:len(answers)/2]
	}
	for i := range answers {
		if err := in.SendMsg(&answers[i]); err != nil {
			return err
		}
	}
	if f == cut {
		return status.Error(codes.Unavailable, "proxy: cut")
	}
	return err
}

// pass makes an RPC at the emulator.
func (p *proxy) pass(ctx context.Context, method string, request []byte, answer func(any) error, f fault) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, err := p.back.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if err := out.SendMsg(&request); err != nil {
		return err
	}
	if !strings.HasSuffix(method, "/Listen") {
		if err := out.CloseSend(); err != nil {
			return err
		}
	}
	for n := 0; ; n++ {
		var m []byte
		switch err := out.RecvMsg(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if f == cut && n == 3 {
			return status.Error(codes.Unavailable, "proxy: cut")
		}
		if err := answer(&m); err != nil {
			return err
		}
	}
}

func (p *proxy) counts() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.did)
}

// pick keeps what a client said itself.
func pick(md metadata.MD) metadata.MD {
	out := metadata.MD{}
	for k, v := range md {
		if !strings.HasPrefix(k, ":") && !strings.HasPrefix(k, "grpc-") && k != "content-type" && k != "user-agent" {
			out[k] = v
		}
	}
	return out
}
