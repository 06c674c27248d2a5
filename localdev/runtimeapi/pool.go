package runtimeapi

import (
	"context"
	"errors"
	"sync"
)

// Pool runs one function as Lambda does: an instance works on one event at a time, a busy function gets another instance,
// and an idle one stays warm for the next event.
type Pool struct {
	Program Program
	Max     int // instances at most, as with reserved concurrency; events wait for one; default 8

	mu     sync.Mutex
	slots  chan struct{}
	idle   []*Function
	all    map[*Function]bool
	closed bool
}

// errClosed answers an event that comes after Close.
var errClosed = errors.New("the function is shut down")

// Invoke hands one event to an instance and returns what it answers. What the function itself reports as failed is an
// *Error. An event that was handed over is worked on to its end, whatever becomes of ctx.
func (p *Pool) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	slots := p.room()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := p.take()
	if err != nil {
		return nil, err
	}
	out, err := f.Invoke(context.WithoutCancel(ctx), event)
	if _, reported := errors.AsType[*Error](err); err != nil && !reported {
		p.drop(f)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, f)
	return out, err
}

func (p *Pool) room() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slots == nil {
		n := p.Max
		if n <= 0 {
			n = 8
		}
		p.slots = make(chan struct{}, n)
	}
	return p.slots
}

// take returns a warm instance, or a new one.
func (p *Pool) take() (*Function, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if n := len(p.idle); n > 0 {
		f := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return f, nil
	}
	f, err := p.Program.Start()
	if err != nil {
		return nil, err
	}
	if p.all == nil {
		p.all = map[*Function]bool{}
	}
	p.all[f] = true
	return f, nil
}

// drop forgets an instance that ended or hung.
func (p *Pool) drop(f *Function) {
	p.mu.Lock()
	delete(p.all, f)
	p.mu.Unlock()
	f.Close()
}

// Instances is how many processes there are.
func (p *Pool) Instances() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// Close kills every instance.
func (p *Pool) Close() {
	p.mu.Lock()
	all := p.all
	p.all, p.idle, p.closed = nil, nil, true
	p.mu.Unlock()
	for f := range all {
		f.Close()
	}
}
