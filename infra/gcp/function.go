// Package gcp is the composition root for Google Cloud: the functions framework imports it and serves the row of the table
// that FUNCTION_TARGET names.
package gcp

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/fleetpass/fleetpass/adapters/cloudfunctions"
	"github.com/fleetpass/fleetpass/adapters/cloudtasks"
	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/adapters/gcpkms"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/adapters/openshift"
	"github.com/fleetpass/fleetpass/adapters/otlp"
	"github.com/fleetpass/fleetpass/adapters/saml"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/trace"
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

// defaultTimeout is what the platform grants a call where nobody says otherwise: a minute.
// https://cloud.google.com/functions/docs/configuring/timeout
const defaultTimeout = time.Minute

// timeout reads what the platform grants a call of this function: whole seconds, up to an hour, or "" for defaultTimeout. The
// platform tells the process nothing of it, so the Terraform module says it twice. An error is core.Invalid.
func timeout(s string) (time.Duration, error) {
	if s == "" {
		return defaultTimeout, nil
	}
	seconds, err := strconv.ParseUint(s, 10, 16)
	if err != nil || seconds == 0 || seconds > 3600 {
		return 0, core.BadField("FLEETPASS_TIMEOUT", fmt.Sprintf("%q is no number of seconds from 1 to 3600", s))
	}
	return time.Duration(seconds) * time.Second, nil
}

// Register wires the system and registers one function with the framework. Two variables are its own, beside those of wire,
// and optional: FLEETPASS_TRUSTED_HOPS, how many hops before it append to X-Forwarded-For (1; see
// cloudfunctions.TrustedHops), and FLEETPASS_TIMEOUT, the seconds that the platform grants a call (60).
func Register(name string, getenv func(string) string) error {
	f, ok := functions.Lookup(name)
	if !ok {
		return core.BadField("FUNCTION_TARGET", fmt.Sprintf("%q is no function of the table", name))
	}
	hops, err := cloudfunctions.TrustedHops(getenv("FLEETPASS_TRUSTED_HOPS"))
	if err != nil {
		return err
	}
	limit, err := timeout(getenv("FLEETPASS_TIMEOUT"))
	if err != nil {
		return err
	}
	functions.Tune(getenv, 0)
	telemetry, err := otlp.Start(getenv, name)
	if err != nil {
		return err
	}
	s, err := wire(getenv, telemetry.Recorder())
	if err != nil {
		return err
	}
	runtime := cloudfunctions.Runtime{Timeout: limit, Flush: telemetry.Flush}
	switch f.Trigger {
	case functions.HTTP:
		runtime.HTTP(name, hops, s.Serve(f))
	case functions.Stream:
		runtime.Stream(name, firestore.EventBody, f.Event(s))
	case functions.Queue:
		runtime.Queue(name, f.Event(s))
	case functions.Schedule:
		runtime.Schedule(name, f.Tick(s))
	}
	return nil
}

// wire makes the system over Firestore, Cloud KMS and Cloud Tasks, beside the variables of
// functions.FromEnvironment and otlp.Start:
//
//	FLEETPASS_PROJECT            the project of the Firestore database
//	FLEETPASS_DATABASE           the database; default "(default)"
//	FLEETPASS_KMS_SIGNING_KEY    the crypto key that wraps signing keys
//	FLEETPASS_KMS_MAC_KEY        the crypto key that wraps the secrets behind keyed hashes
//	FLEETPASS_KMS_SSO_KEY        the crypto key that wraps the keys that secrets towards identity providers are sealed with
//	FLEETPASS_QUEUE              the Cloud Tasks queue before the sync function
//	FLEETPASS_SYNC_URL           the sync function
//	FLEETPASS_TASKS_ACCOUNT      the service account that the queue calls it as
//	FIRESTORE_EMULATOR_HOST, FLEETPASS_KMS_EMULATOR_HOST, CLOUD_TASKS_EMULATOR_HOST
//	                             what stands in for the service, on a developer's machine
func wire(getenv func(string) string, recorder *trace.Telemetry) (*functions.System, error) {
	c, err := functions.FromEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	for _, name := range []string{"FLEETPASS_PROJECT", "FLEETPASS_KMS_SIGNING_KEY", "FLEETPASS_KMS_MAC_KEY", "FLEETPASS_KMS_SSO_KEY", "FLEETPASS_QUEUE", "FLEETPASS_SYNC_URL", "FLEETPASS_TASKS_ACCOUNT"} {
		if set[name] = getenv(name); set[name] == "" {
			return nil, core.BadField(name, "is not set; the Terraform module sets it")
		}
	}
	ctx := context.Background() // clients live as long as the process
	wrapping, err := gcpkms.Dial(ctx, getenv("FLEETPASS_KMS_EMULATOR_HOST"))
	if err != nil {
		return nil, err
	}
	if c.Wrapper, err = gcpkms.New(wrapping, gcpkms.Config{Signing: set["FLEETPASS_KMS_SIGNING_KEY"], MAC: set["FLEETPASS_KMS_MAC_KEY"], SSO: set["FLEETPASS_KMS_SSO_KEY"]}); err != nil {
		return nil, err
	}
	tasks, err := cloudtasks.Dial(ctx, getenv("CLOUD_TASKS_EMULATOR_HOST"))
	if err != nil {
		return nil, err
	}
	if c.Queue, err = cloudtasks.New(tasks, cloudtasks.Config{Queue: set["FLEETPASS_QUEUE"], URL: set["FLEETPASS_SYNC_URL"], ServiceAccount: set["FLEETPASS_TASKS_ACCOUNT"]}); err != nil {
		return nil, err
	}
	if c.DB, err = firestore.Dial(ctx, set["FLEETPASS_PROJECT"], getenv("FLEETPASS_DATABASE"), firestore.Options{}); err != nil {
		return nil, err
	}
	c.Dial, c.Telemetry = kubernetes.Dial, recorder
	out := outbound.New(c.Outbound)
	c.Providers = map[sso.Kind]sso.Provider{sso.SAML: saml.New(out), sso.OIDC: oidc.New(out), sso.OpenShift: openshift.New(out)}
	c.Issuers = oidc.NewIssuers(out)
	return functions.New(c)
}
