// The composition root for AWS: one binary; Lambda's _HANDLER names the row of the table that this process serves.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/functions"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := run(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "fleetpass:", err) // one line that names what to mend; the platform shows it
		os.Exit(1)
	}
}

func run(getenv func(string) string) error {
	name := getenv("_HANDLER")
	f, ok := functions.Lookup(name)
	if !ok {
		return core.BadField("_HANDLER", fmt.Sprintf("%q is no function of the table", name))
	}
	megabytes, _ := strconv.ParseInt(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), 10, 64) // 0 where Lambda does not say
	functions.Tune(getenv, megabytes<<20)
	s, closeStore, err := wire(getenv)
	if err != nil {
		return err
	}
	defer closeStore()
	switch f.Trigger {
	case functions.HTTP:
		lambda.ServeHTTP(s.Serve(f))
	case functions.Stream:
		lambda.ServeStream(f.Event(s))
	case functions.Queue:
		lambda.ServeQueue(f.Event(s))
	case functions.Schedule:
		lambda.ServeSchedule(f.Tick(s))
	}
	return nil
}

// wire makes the system over the embedded store, beside the variables of functions.FromEnvironment:
//
//	FLEETPASS_STORE_FILE       the store's file, made where there is none
//	FLEETPASS_MASTER_KEY_FILE  wraps the signing keys, made where there is none
func wire(getenv func(string) string) (s *functions.System, closeStore func() error, err error) {
	c, err := functions.FromEnvironment(getenv)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"FLEETPASS_STORE_FILE", "FLEETPASS_MASTER_KEY_FILE"} {
		if getenv(name) == "" {
			return nil, nil, core.BadField(name, "is not set; give a path that this function can write")
		}
	}
	db, err := bolt.Open(getenv("FLEETPASS_STORE_FILE"), bolt.Options{})
	if err != nil {
		return nil, nil, err
	}
	if c.Wrapper, err = localkeys.Open(getenv("FLEETPASS_MASTER_KEY_FILE"), true); err != nil {
		return nil, nil, err
	}
	c.DB = db
	c.Queue = storequeue.New(db, func() time.Time { return time.Now().UTC() })
	c.Dial = kubernetes.Dial
	s, err = functions.New(c)
	return s, db.Close, err
}
