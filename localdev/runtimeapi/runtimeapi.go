// Package runtimeapi is a local AWS Lambda Runtime API (version 2018-06-01): it starts a deployable binary as Lambda does
// and hands it one event at a time. Before it stands a Gateway, which turns requests into events as an HTTP API of Amazon
// API Gateway does. They model the protocols, not Lambda's own start-up time or permissions.
package runtimeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Program is a function as it is deployed.
type Program struct {
	Binary  string
	Handler string        // what _HANDLER names
	Env     []string      // KEY=VALUE, added to what Lambda itself sets
	Log     io.Writer     // gets what the process prints; nil: nobody does
	Timeout time.Duration // for one event; default one minute
}

// Function is a running instance of a program.
type Function struct {
	timeout time.Duration
	cmd     *exec.Cmd
	server  *http.Server
	events  chan *invocation
	exited  chan error
	log     *tail
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

// Error is what a function itself reported as failed. The instance goes on.
type Error struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Start starts the binary for one handler, with env added to an otherwise empty environment.
func Start(binary, handler string, env ...string) (*Function, error) {
	return Program{Binary: binary, Handler: handler, Env: env}.Start()
}

// Start starts one instance.
func (p Program) Start() (*Function, error) {
	if p.Timeout <= 0 {
		p.Timeout = time.Minute
	}
	if p.Log == nil {
		p.Log = io.Discard
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &Function{timeout: p.Timeout, events: make(chan *invocation), current: make(chan *invocation, 1), exited: make(chan error, 1), log: &tail{to: p.Log}}
	mux := http.NewServeMux()
	const root = "/2018-06-01/runtime/"
	mux.HandleFunc("GET "+root+"invocation/next", f.next)
	mux.HandleFunc("POST "+root+"invocation/{id}/response", f.response)
	mux.HandleFunc("POST "+root+"invocation/{id}/error", f.failure)
	mux.HandleFunc("POST "+root+"init/error", f.failure)
	f.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = f.server.Serve(l) }() // ends with Close

	f.cmd = exec.Command(p.Binary)
	f.cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), "_HANDLER=" + p.Handler, "PATH=" + os.Getenv("PATH"),
		"AWS_LAMBDA_FUNCTION_NAME=" + p.Handler, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512"}, p.Env...)
	f.cmd.Stdout, f.cmd.Stderr = f.log, f.log
	if err := f.cmd.Start(); err != nil {
		_ = f.server.Close()
		return nil, err
	}
	go func() { f.exited <- f.cmd.Wait() }()
	return f, nil
}

// Invoke hands the function one event and returns what it answers. What the function itself reports as failed is an
// *Error; any other error means that the instance ended or hangs, and is of no more use.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	inv := &invocation{id: strconv.FormatInt(time.Now().UnixNano(), 36), body: event, reply: make(chan result, 1)}
	select {
	case f.events <- inv:
	case err := <-f.exited:
		f.exited <- err
		return nil, fmt.Errorf("the function ended (%v): %s", err, f.log)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	late := time.NewTimer(f.timeout)
	defer late.Stop()
	select {
	case r := <-inv.reply:
		return r.body, r.err
	case err := <-f.exited:
		f.exited <- err
		return nil, fmt.Errorf("the function ended (%v) in the middle of an event: %s", err, f.log)
	case <-late.C:
		return nil, fmt.Errorf("the function did not answer within %v", f.timeout)
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
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(f.timeout).UnixMilli(), 10))
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
			reported := &Error{}
			if json.Unmarshal(body, reported) != nil {
				reported.Message = strings.TrimSpace(string(body))
			}
			err = reported
		}
		inv.reply <- result{body, err}
	default: // an error of initialization: the process says why and ends
	}
	w.WriteHeader(http.StatusAccepted)
}

// tail passes on what a process prints, and keeps the end of it to say what went wrong.
type tail struct {
	to io.Writer

	mu   sync.Mutex
	last []byte
}

// maxTail is how much of the end is kept, in bytes.
const maxTail = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if extra := len(t.last) - maxTail; extra > 0 {
		t.last = bytes.Clone(t.last[extra:])
	}
	if _, err := t.to.Write(p); err != nil {
		return 0, errors.Join(errors.New("the log cannot be written"), err)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.last))
}
