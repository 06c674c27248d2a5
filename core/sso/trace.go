package sso

import (
	"fmt"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Trace is what is known about one attempt to sign in at an identity provider: what was sent and received, decoded and
// redacted, and what was checked. It is kept for TraceLife, for the tenant's administrators.
type Trace struct {
	ID         string         `json:"id"`
	At         time.Time      `json:"at"`
	Connection string         `json:"connection"` // its ID
	Alias      Alias          `json:"alias"`
	Kind       Kind           `json:"kind"`
	Outcome    Outcome        `json:"outcome"`
	Test       bool           `json:"test,omitempty"`
	Sent       string         `json:"sent,omitempty"`
	Received   string         `json:"received,omitempty"`
	Checks     []Check        `json:"checks,omitempty"`
	Identity   *Identity      `json:"identity,omitempty"` // as it was mapped, if it got that far
	Request    core.RequestID `json:"request,omitempty"`  // of the last request that it is about
	Address    string         `json:"address,omitempty"`  // of the browser
}

// Outcome is how far an attempt got.
type Outcome string

// The outcomes.
const (
	Started  Outcome = "started"   // the browser went to the provider, and has not come back
	Verified Outcome = "verified"  // the provider's answer holds; the browser has not come to the end yet
	Refused  Outcome = "refused"   // a check failed
	SignedIn Outcome = "signed-in" // the person is signed in
	Tested   Outcome = "tested"    // it was a test, and would have succeeded
)

// How long traces are kept.
const (
	TraceLife   = 7 * 24 * time.Hour
	StartedLife = time.Hour // one of which nothing more was heard: anybody can begin one
)

// The bounds of what a trace quotes, in bytes.
const (
	MaxSent     = 4 << 10
	MaxReceived = 12 << 10
)

// A trace's ID says when the attempt began and is unguessable: TIME-RANDOM. So it is found by its ID alone, and the newest
// are found first.
const traceTime = "20060102T150405.000"

func newTraceID(at time.Time) string { return at.UTC().Format(traceTime) + "-" + core.NewID() }

// traceKey is where the trace of an ID is kept. An ID that is none is core.NotFound.
func traceKey(t core.TenantID, id string) (store.Key, error) {
	stamp, random, _ := strings.Cut(id, "-")
	at, err := time.Parse(traceTime, stamp)
	if err != nil || random == "" || len(id) > 64 {
		return store.Key{}, fmt.Errorf("trace: %w", core.NotFound)
	}
	return store.Trace(t, at, random), nil
}
