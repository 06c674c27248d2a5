// Package gcp is the composition root for Google Cloud: the functions framework imports it and serves the row of the table
// that FUNCTION_TARGET names.
package gcp

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/cloudfunctions"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/functions"
)

// The framework asks for registration at start, which makes this the one init of the house. A setting that is wrong ends
// the process with one line that names it.
func init() {
	name := os.Getenv("FUNCTION_TARGET")
	if name == "" {
		return // imported by a build or a test, not served
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := Register(name, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "fleetpass:", err)
		os.Exit(1)
	}
}

// Register wires the system and registers one function with the framework. FLEETPASS_TRUSTED_HOPS says how many hops before
// it append to X-Forwarded-For; optional, 1: see cloudfunctions.TrustedHops.
func Register(name string, getenv func(string) string) error {
	f, ok := functions.Lookup(name)
	if !ok {
		return core.BadField("FUNCTION_TARGET", fmt.Sprintf("%q is no function of the table", name))
	}
	hops, err := cloudfunctions.TrustedHops(getenv("FLEETPASS_TRUSTED_HOPS"))
	if err != nil {
		return err
	}
	functions.Tune(getenv, 0)
	s, err := wire(getenv)
	if err != nil {
		return err
	}
	switch f.Trigger {
	case functions.HTTP:
		cloudfunctions.HTTP(name, hops, s.Serve(f))
	case functions.Stream:
		cloudfunctions.Stream(name, f.Event(s))
	case functions.Queue:
		cloudfunctions.Queue(name, f.Event(s))
	case functions.Schedule:
		cloudfunctions.Schedule(name, f.Tick(s))
	}
	return nil
}

// wire makes the system over the embedded store, beside the variables of functions.FromEnvironment:
//
//	FLEETPASS_STORE_FILE       the store's file, made where there is none
//	FLEETPASS_MASTER_KEY_FILE  wraps the signing keys, made where there is none
func wire(getenv func(string) string) (*functions.System, error) {
	c, err := functions.FromEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"FLEETPASS_STORE_FILE", "FLEETPASS_MASTER_KEY_FILE"} {
		if getenv(name) == "" {
			return nil, core.BadField(name, "is not set; give a path that this function can write")
		}
	}
	db, err := bolt.Open(getenv("FLEETPASS_STORE_FILE"), bolt.Options{})
	if err != nil {
		return nil, err
	}
	if c.Wrapper, err = localkeys.Open(getenv("FLEETPASS_MASTER_KEY_FILE"), true); err != nil {
		return nil, err
	}
	c.DB = db
	c.Queue = storequeue.New(db, func() time.Time { return time.Now().UTC() })
	c.Dial = kubernetes.Dial
	return functions.New(c)
}
