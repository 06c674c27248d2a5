package api

import (
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// DeadLetter is what could not be handled and waits for a person: a cluster that was given up, or an event that could not be
// read. GET /api/v1/sync/dead-letters. A cluster's goes away by itself when the cluster is brought in line after all; all are
// gone two weeks after they last failed. POST …/{id}/replay has one tried again, DELETE …/{id} takes it away.
type DeadLetter struct {
	ID         string         `json:"id"`
	Kind       DeadLetterKind `json:"kind"`
	ClusterID  core.ClusterID `json:"clusterId,omitzero"` // of a sync
	Reason     string         `json:"reason"`             // of the last failure
	Tries      int            `json:"tries"`              // since the first
	FirstAt    time.Time      `json:"firstAt"`
	LastAt     time.Time      `json:"lastAt"`
	Request    core.RequestID `json:"request,omitzero"` // that caused it, as far as is known
	Replayable bool           `json:"replayable"`       // false: an event that was too large to keep
}

// DeadLetterKind says what could not be handled.
type DeadLetterKind string

// The kinds of dead letters.
const (
	DeadSync  DeadLetterKind = "sync"  // a cluster, brought in line with the rules
	DeadEvent DeadLetterKind = "event" // an event, turned into messages
)

// MaxReplay is how many dead letters one POST /api/v1/sync/dead-letters/replay has tried again.
const MaxReplay = 50

// DeadLetterReplay is what came of that: POST /api/v1/sync/dead-letters/replay.
type DeadLetterReplay struct {
	Replayed []string `json:"replayed"` // ids
	Left     int      `json:"left"`     // how many more there are that can be replayed: ask again
}
