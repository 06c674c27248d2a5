// Package sqs is a stand-in for Amazon SQS, for the laptop and for tests. It is not SQS: it keeps standard queues in the
// memory of one process and speaks the service's AWS JSON 1.0 protocol as far as Fleetpass uses it.
//
// Modelled: SendMessage, SendMessageBatch, ReceiveMessage, DeleteMessage, DeleteMessageBatch, ChangeMessageVisibility,
// GetQueueAttributes and GetQueueUrl; delays, visibility timeouts, receive counts, dead-letter queues; the limits of a batch
// and the errors for passing them; and, as Poll, a Lambda event source mapping that reports partial failures.
//
// Not modelled: signatures and permissions (whoever reaches the port is served), FIFO queues, message attributes, retention,
// encryption, quotas, and the service's own duplicates and reordering. A request with a member that is not modelled is
// refused, so that nobody relies on it unawares.
package sqs

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Options are all optional.
type Options struct {
	Now     func() time.Time // default time.Now; who moves it calls Wake
	Region  string           // default "eu-central-1"
	Account string           // default "000000000000"
}

// Attributes are a queue's.
type Attributes struct {
	Visibility time.Duration // how long a message that was received is hidden; default 30 seconds
	Delay      time.Duration // of messages that are sent without one
	DeadLetter string        // name of the queue for what was received MaxReceive times; "": none
	MaxReceive int           // needed with DeadLetter
}

// Server is the service. It is an http.Handler.
type Server struct {
	options Options

	mu      sync.Mutex
	queues  map[string]*queue
	changed chan struct{} // closed when something may have become visible
}

type queue struct {
	name string
	Attributes
	messages []*message // in order of arrival
}

type message struct {
	id, body  string
	sent      time.Time
	first     time.Time // first received
	visibleAt time.Time
	receives  int
	receipt   string // of the latest receive; "" before
}

func (m *message) inFlight(now time.Time) bool { return m.receipt != "" && m.visibleAt.After(now) }

// New makes a service without queues.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Region == "" {
		o.Region = "eu-central-1"
	}
	if o.Account == "" {
		o.Account = "000000000000"
	}
	return &Server{options: o, queues: map[string]*queue{}, changed: make(chan struct{})}
}

// Create makes a queue, or gives the one of that name other attributes. A dead-letter queue is created before those that
// name it.
func (s *Server) Create(name string, a Attributes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Visibility == 0 {
		a.Visibility = 30 * time.Second
	}
	if a.DeadLetter != "" && (s.queues[a.DeadLetter] == nil || a.MaxReceive < 1) {
		return fmt.Errorf("sqs stand-in: queue %s: there is no queue %s, or MaxReceive is not positive", name, a.DeadLetter)
	}
	if q := s.queues[name]; q != nil {
		q.Attributes = a
	} else {
		s.queues[name] = &queue{name: name, Attributes: a}
	}
	return nil
}

// URL is the URL of a queue at a service that listens at http://HOST:PORT.
func (s *Server) URL(endpoint, name string) string {
	return endpoint + "/" + s.options.Account + "/" + name
}

// ARN is the name of a queue in policies and events.
func (s *Server) ARN(name string) string {
	return "arn:aws:sqs:" + s.options.Region + ":" + s.options.Account + ":" + name
}

// Bodies returns what a queue holds, in order of arrival, whether it can be received now or not.
func (s *Server) Bodies(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	if q := s.queues[name]; q != nil {
		for _, m := range q.messages {
			all = append(all, m.body)
		}
	}
	return all
}

// Wake has everybody who waits look at the clock again.
func (s *Server) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake()
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// sum is the MD5 that the service's clients compare with their own: a checksum, no protection.
func sum(body string) string {
	h := md5.Sum([]byte(body))
	return hex.EncodeToString(h[:])
}

// put adds a message to a queue. The caller holds the lock.
func (s *Server) put(q *queue, body string, delay time.Duration) *message {
	now := s.options.Now()
	m := &message{id: core.NewID(), body: body, sent: now, visibleAt: now.Add(delay)}
	q.messages = append(q.messages, m)
	s.wake()
	return m
}

// take receives up to n messages and hides them. What was received often enough goes to the dead letters instead. Without a
// message it returns when the next becomes visible (zero: nobody knows), and what is closed when that may have changed.
func (s *Server) take(name string, n int, hide time.Duration) (got []*message, next time.Time, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return nil, next, nil, noQueue
	}
	if hide < 0 {
		hide = q.Visibility
	}
	now := s.options.Now()
	var dead []*message
	for _, m := range q.messages {
		if m.visibleAt.After(now) {
			if next.IsZero() || m.visibleAt.Before(next) {
				next = m.visibleAt
			}
			continue
		}
		if q.DeadLetter != "" && m.receives >= q.MaxReceive {
			dead = append(dead, m)
			continue
		}
		if len(got) == n {
			break
		}
		m.receives++
		if m.first.IsZero() {
			m.first = now
		}
		m.receipt, m.visibleAt = core.NewID(), now.Add(hide)
		copied := *m
		got = append(got, &copied)
	}
	if len(dead) > 0 {
		to := s.queues[q.DeadLetter]
		q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return slices.Contains(dead, m) })
		for _, m := range dead {
			m.receipt = "" // the id and the times stay
			to.messages = append(to.messages, m)
		}
		s.wake()
	}
	return got, next, s.changed, nil
}

// remove deletes the message of a receipt. A receipt that a later receive replaced deletes nothing, which is no error; the
// service may or may not delete then.
func (s *Server) remove(name, receipt string) error {
	if receipt == "" {
		return badReceipt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return noQueue
	}
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.receipt == receipt })
	return nil
}

// hide changes when a message that is being worked on becomes visible again.
func (s *Server) hide(name, receipt string, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return noQueue
	}
	now := s.options.Now()
	for _, m := range q.messages {
		if m.receipt != receipt || receipt == "" {
			continue
		}
		if !m.inFlight(now) {
			return notInFlight
		}
		m.visibleAt = now.Add(d)
		s.wake()
		return nil
	}
	return badReceipt
}

// attributes are those of a queue, spelt as the service does.
func (s *Server) attributes(name string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return nil, noQueue
	}
	now := s.options.Now()
	visible, hidden, delayed := 0, 0, 0
	for _, m := range q.messages {
		switch {
		case !m.visibleAt.After(now):
			visible++
		case m.inFlight(now):
			hidden++
		default:
			delayed++
		}
	}
	all := map[string]string{
		"QueueArn":                              s.ARN(name),
		"ApproximateNumberOfMessages":           strconv.Itoa(visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(hidden),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(delayed),
		"VisibilityTimeout":                     seconds(q.Visibility),
		"DelaySeconds":                          seconds(q.Delay),
		"MaximumMessageSize":                    strconv.Itoa(maxBytes),
	}
	if q.DeadLetter != "" {
		all["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, s.ARN(q.DeadLetter), q.MaxReceive)
	}
	return all, nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
