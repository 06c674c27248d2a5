package stack

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/functions"
)

// locals is what a runtime started beside its functions. The zero value works.
type locals struct{ ends []func() }

// atClose has close call f, after what is given later.
func (l *locals) atClose(f func()) { l.ends = append(l.ends, f) }

func (l *locals) close() {
	for i := len(l.ends) - 1; i >= 0; i-- {
		l.ends[i]()
	}
	l.ends = nil
}

// listen takes a free port.
func (l *locals) listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// http serves a stand-in and returns its URL.
func (l *locals) http(h http.Handler) (string, error) {
	listener, err := l.listen()
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	l.atClose(func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), nil
}

// grpc serves a stand-in and returns its HOST:PORT.
func (l *locals) grpc(s interface {
	Serve(net.Listener) error
	Close()
}) (string, error) {
	listener, err := l.listen()
	if err != nil {
		return "", err
	}
	go func() { _ = s.Serve(listener) }() // ends with Close
	l.atClose(s.Close)
	return listener.Addr().String(), nil
}

// log opens the file that keeps what a function prints.
func (l *locals) log(dir, function string) (io.Writer, error) {
	dir = filepath.Join(dir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, function+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l.atClose(func() { _ = f.Close() })
	return f, nil
}

// common is the part of a function's environment that is the same in every cloud.
func common(c functions.Config, dir string) []string {
	env := []string{"FLEETPASS_BASE=" + c.Base, "FLEETPASS_BROWSER_BASE=" + c.BrowserBase, "FLEETPASS_ISSUER_CA_FILE=" + filepath.Join(dir, "ca.crt"),
		"FLEETPASS_OUTBOUND_ALLOW=" + c.Outbound.String()}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "OTEL_") { // where to send traces and metrics
			env = append(env, e)
		}
	}
	return env
}

// unpacked builds an archive as `make dist` does, but for this machine's processor, and unpacks it into a folder of its own.
func unpacked(ctx context.Context, dir, name string) (string, error) {
	cmd := command(ctx, "go", "run", "github.com/fleetpass/fleetpass/infra/dist", "-out", dir, "-arch", runtime.GOARCH, name)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, msg)
	}
	r, err := zip.OpenReader(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	defer r.Close()
	artefact := filepath.Join(dir, strings.TrimSuffix(name, ".zip"))
	return artefact, os.CopyFS(artefact, r)
}

// command is a program that ends with ctx.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// awaitPort waits until something listens.
func awaitPort(ctx context.Context, address string, ended <-chan struct{}) error {
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errors.New("it ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
