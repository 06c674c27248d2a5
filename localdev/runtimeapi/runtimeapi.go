// Package runtimeapi is a local AWS Lambda Runtime API (version 2018-06-01): it starts a deployable binary as Lambda does
// and hands it one event at a time. It models the protocol, not Lambda's own start-up time, limits or permissions.
package runtimeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Function is a running function process.
type Function struct {
	cmd    *exec.Cmd
	server *http.Server
	events chan *invocation
	exited chan error
	log    bytes.Buffer
	// current is the invocation that the process works on; only the server's handlers touch it, one at a time.
	current chan *invocation
}

type invocation struct {
	id    string
	body  []byte
	reply chan result
}

type result struct {
	body []byte
	err  error
}

// Start starts the binary for one handler, with env added to an otherwise empty environment.
func Start(binary, handler string, env ...string) (*Function, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &Function{events: make(chan *invocation), current: make(chan *invocation, 1), exited: make(chan error, 1)}
	mux := http.NewServeMux()
	const root = "/2018-06-01/runtime/"
	mux.HandleFunc("GET "+root+"invocation/next", f.next)
	mux.HandleFunc("POST "+root+"invocation/{id}/response", f.response)
	mux.HandleFunc("POST "+root+"invocation/{id}/error", f.failure)
	mux.HandleFunc("POST "+root+"init/error", f.failure)
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = f.server.Serve(l) }() // ends with Close

	f.cmd = exec.Command(binary)
	f.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), "_HANDLER=" + handler, "PATH=" + os.Getenv("PATH"),
		"AWS_LAMBDA_FUNCTION_NAME=" + handler, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512"}, env...)
	f.cmd.Stdout, f.cmd.Stderr = &f.log, &f.log
	if err := f.cmd.Start(); err != nil {
		_ = f.server.Close()
		return nil, err
	}
	go func() { f.exited <- f.cmd.Wait() }()
	return f, nil
}

// Invoke hands the function one event and returns what it answers.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	inv := &invocation{id: strconv.FormatInt(time.Now().UnixNano(), 36), body: event, reply: make(chan result, 1)}
	select {
	case f.events <- inv:
	case err := <-f.exited:
		f.exited <- err
		return nil, fmt.Errorf("the function ended (%v): %s", err, strings.TrimSpace(f.log.String()))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-inv.reply:
		return r.body, r.err
	case err := <-f.exited:
		f.exited <- err
		return nil, fmt.Errorf("the function ended (%v) in the middle of an event", err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close kills the process.
func (f *Function) Close() {
	_ = f.cmd.Process.Kill() // it may have ended by itself
	f.exited <- <-f.exited
	_ = f.server.Close()
}

func (f *Function) next(w http.ResponseWriter, r *http.Request) {
	select {
	case inv := <-f.events:
		f.current <- inv
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:000000000000:function:fleetpass")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(inv.body)
	case <-r.Context().Done():
	}
}

func (f *Function) response(w http.ResponseWriter, r *http.Request) { f.finish(w, r, false) }
func (f *Function) failure(w http.ResponseWriter, r *http.Request)  { f.finish(w, r, true) }

func (f *Function) finish(w http.ResponseWriter, r *http.Request, failed bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	select {
	case inv := <-f.current:
		if failed {
			err = errors.New(strings.TrimSpace(string(body)))
		}
		inv.reply <- result{body, err}
	default: // an error of initialization: the process says why and ends
	}
	w.WriteHeader(http.StatusAccepted)
}
