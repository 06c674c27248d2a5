package parts

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// startWithin is how long a part may take to answer. On a machine that does nothing else they take 1.5 s.
const startWithin = 60 * time.Second

// Serve starts a part and waits until it answers at address with a status that is good. stop ends it.
func Serve(ctx context.Context, name string, cmd *exec.Cmd, address string, good func(status int) bool) (stop func(), err error) {
	var said lastBytes
	cmd.Stdout, cmd.Stderr = &said, &said
	done, err := Start(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it keeps nothing that a gentler end would save
		<-done
	})
	if err := await(ctx, address, good, done); err != nil {
		stop()
		return nil, fmt.Errorf("%s: %w: %s", name, err, said.String())
	}
	return stop, nil
}

func await(ctx context.Context, address string, good func(status int) bool, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if good(res.StatusCode) {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", context.Cause(ctx))
		}
	}
}

// FreePort returns a port of 127.0.0.1 that nothing listens on at the moment. It is below those that systems give out by
// themselves, to listeners at port 0 and to connections: one of them could have it before its program listens.
func FreePort() (string, error) {
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(10_000))
		if err != nil {
			return "", err
		}
		port := strconv.FormatInt(20_000+n.Int64(), 10)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			return port, l.Close()
		}
	}
	return "", errors.New("no free port between 20000 and 30000")
}

// lastBytes keeps the end of what a program says.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf = append(l.buf, p...); len(l.buf) > 8<<10 {
		l.buf = bytes.Clone(l.buf[len(l.buf)-4<<10:])
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
