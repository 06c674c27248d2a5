package firestore

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Emulator is what a client needs to talk to an emulator at HOST:PORT.
//
// Google's emulator makes the writes of one commit visible one after the other: a read that comes in between, at whatever
// read time and in a read-only transaction too, sees half of a commit. Firestore itself never does. So the emulator's reads
// and commits are kept apart here, for all clients of this process; reads meet reads, and commits meet commits. Between
// processes nothing keeps them apart, and there a read may be torn, for less than a millisecond mostly.
func Emulator(host string) []option.ClientOption {
	host = strings.TrimPrefix(host, "http://")
	return []option.ClientOption{
		option.WithEndpoint("passthrough:///" + host),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithPerRPCCredentials(emulatorOwner{})),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(emulatorRooms.unary)),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(emulatorRooms.stream)),
	}
}

// emulatorOwner is whom the emulator's security rules do not apply to, as they do not to a service account.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// rooms are two, of which one at a time has people in it.
type rooms struct {
	door   sync.Mutex // held by who waits for the other room to empty, so that nobody passes them
	mu     sync.Mutex
	inside [2]int
	taken  chan struct{} // holds one token while either room has people in it
}

type room int

const (
	reading room = iota
	committing
)

var emulatorRooms = rooms{taken: make(chan struct{}, 1)}

// enter waits for the other room to empty. leave, which may be called more than once, is nil if the context ended first.
func (r *rooms) enter(ctx context.Context, which room) (leave func()) {
	r.door.Lock()
	defer r.door.Unlock()
	r.mu.Lock()
	first := r.inside[which] == 0
	if !first {
		r.inside[which]++
	}
	r.mu.Unlock()
	if first {
		select {
		case r.taken <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		r.mu.Lock()
		r.inside[which]++
		r.mu.Unlock()
	}
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.inside[which]--; r.inside[which] == 0 {
			<-r.taken
		}
	})
}

// emulatorPatience is how long a commit is waited for whose caller has left.
const emulatorPatience = 20 * time.Second

// unary lets a commit into its room until the emulator has answered, though its caller may be gone by then.
func (r *rooms) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !strings.HasSuffix(method, "/Commit") {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	leave := r.enter(ctx, committing)
	if leave == nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	done := make(chan error, 1)
	go func() {
		defer leave()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), emulatorPatience)
		defer cancel()
		done <- invoke(ctx, method, req, reply, cc, opts...)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// stream lets a read into its room until its stream, or its context, has ended.
func (r *rooms) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !strings.HasSuffix(method, "/BatchGetDocuments") && !strings.HasSuffix(method, "/RunQuery") {
		return open(ctx, desc, cc, method, opts...)
	}
	leave := r.enter(ctx, reading)
	if leave == nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	context.AfterFunc(ctx, leave)
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		leave()
		return nil, err
	}
	return leaving{s, leave}, nil
}

// leaving is a stream that leaves the room with its last message.
type leaving struct {
	grpc.ClientStream
	leave func()
}

func (l leaving) RecvMsg(m any) error {
	err := l.ClientStream.RecvMsg(m)
	if err != nil {
		l.leave()
	}
	return err
}
