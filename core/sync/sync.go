// Package sync brings one cluster to what the store says it must hold. It owns the ports Cluster and Queue, the lease and
// the record of each cluster's synchronization, and the order of reading, deciding (core/kube) and writing. A message is
// only a hint: whatever it says, the desired state is computed anew from the store.
package sync

import (
	"context"
	"log/slog"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Cluster is one cluster's API server. It is not trusted: every answer is bounded in size and time, and none of it
// reaches another cluster. Errors carry a kind: core.Unavailable and core.Throttled (retry; a write may have happened),
// core.Conflict (the object is not the one that was read), core.Exists, core.NotFound, core.Denied, core.Unauthenticated,
// core.Invalid and core.TooLarge.
type Cluster interface {
	// Current reads what the cluster holds, consistently and completely, or fails. The bindings named are in it whatever
	// labels they bear, if they are there.
	Current(ctx context.Context, named ...kube.Ref) (kube.State, error)

	// Apply carries out one change and returns the object as the cluster holds it then (after a deletion: as given).
	// A change of an existing object happens only if uid and resourceVersion are still those of the change's Object.
	// What is returned has the AuditID of the write, at most MaxAuditID printable characters, if the cluster told one.
	Apply(ctx context.Context, c kube.Change) (kube.Object, error)
}

// MaxAuditID bounds the id of a request in an API server's audit log, in bytes. Kubernetes makes UUIDs.
const MaxAuditID = 64

// Queue carries messages to functions/sync, each at least once, not before its time, in any order. A product that cannot
// wait so long delivers early, after the longest that it can wait, and functions/sync sends the message again; one that the
// receiver fails on comes again. queuetest has one subtest for each sentence of this promise.
type Queue interface {
	// Send queues the messages, all or an error; after an error some may be queued. It honours ctx, asks a product in trouble
	// a bounded number of times, and returns core.Unavailable when it is cancelled or the product does not take a message.
	Send(ctx context.Context, messages ...Message) error
}

// Message asks for one cluster to be looked at.
type Message struct {
	Tenant    core.TenantID  `json:"tenant"`
	Cluster   core.ClusterID `json:"cluster"`
	Revision  core.Revision  `json:"revision,omitempty"` // the cluster need not be looked at if it has reached that; 0: it must be
	Full      bool           `json:"full,omitempty"`     // from the timer: also reap what was emptied long ago
	NotBefore time.Time      `json:"notBefore,omitzero"` // zero: now
	Attempt   int            `json:"attempt,omitempty"`  // how many tries failed before: Service.Again counts
	Request   core.RequestID `json:"request,omitempty"`  // the request that caused it, for the log
	Trace     string         `json:"trace,omitempty"`    // W3C traceparent of the span that sent it
}

// And is the message that stands for two of one cluster and time.
func (m Message) And(o Message) Message {
	m.Full, m.Attempt = m.Full || o.Full, max(m.Attempt, o.Attempt)
	if m.Revision == 0 || o.Revision == 0 {
		m.Revision = 0
	} else {
		m.Revision = max(m.Revision, o.Revision)
	}
	if m.Request == "" && m.Trace == "" { // else what m is part of stands for both: a span has one parent
		m.Request, m.Trace = o.Request, o.Trace
	}
	return m
}

// Target is a cluster to speak to.
type Target struct {
	Tenant  core.TenantID
	Cluster core.ClusterID
	Server  string // https://HOST[:PORT][/PATH]
	CA      string // PEM; empty: the system's

	// Token returns a bearer token that is good for this cluster alone, and for at least another half minute.
	Token func(ctx context.Context) (string, error)
}

// Service brings clusters to what the store says. The first six fields are needed; the rest has defaults.
type Service struct {
	DB   store.DB
	Org  *org.Service
	Ring *keys.Ring
	Dial func(Target) (Cluster, error) // makes no request
	Now  func() time.Time              // UTC
	Base string                        // what every issuer begins with: https://HOST[:PORT]

	Log *slog.Logger // default slog.Default()

	// LeaseFor is how long a run keeps others off a cluster without renewing. Default 20 seconds.
	LeaseFor time.Duration

	// ReapAfter is how long an emptied binding stays: longer than any function may run, since a run that was frozen before
	// the binding was emptied finds it there when it is thawed, and fails. Default 20 minutes.
	ReapAfter time.Duration

	// MaxUnexplained is how many removals of one run may go without the store confirming them. Default 0: none.
	MaxUnexplained int
}

const (
	defaultLease = 20 * time.Second
	defaultReap  = 20 * time.Minute

	parallel    = 8                   // requests to one cluster, or to the store, side by side
	batch       = 45                  // changes between two notes in the store: each takes two operations of one commit
	maxRounds   = 4                   // of reading and writing in one run
	tombstoneOf = 90 * 24 * time.Hour // how long a binding that we deleted is remembered
	giveUpAfter = 5                   // unanswered requests in one run
)

func (s *Service) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
