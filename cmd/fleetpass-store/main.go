// Command fleetpass-store moves tenants between stores: copy from one into another, export into a file, import from one, and
// abandon what a copy left half done. It is what `fleetpass store` runs. It is a program of its own since it links the SDKs of both clouds, and the command line
// that kubectl starts for every token must not carry them (docs/decisions/0017).
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 4 a store or key service cannot be reached: run it again. A run that was
// interrupted, at whatever point, is completed by running the same command again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/transfer"
)

func main() { os.Exit(run(os.Args[1:])) }

// app is one run of the program.
type app struct {
	out, err io.Writer
	output   string // "" for people, "json" for programs
	quiet    bool
	began    bool // a command was found and its usage was right
	writes   bool // what is under way leaves something that another run completes
	now      func() time.Time
	told     time.Time // when progress was told last
}

func run(args []string) int {
	ctx, stop := interrupts()
	defer stop()
	a := &app{out: os.Stdout, err: os.Stderr, now: func() time.Time { return time.Now().UTC() }}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(a.err, "fleetpass store: "+clean(err.Error()))
	if h := a.hint(err); h != "" {
		fmt.Fprintln(a.err, h)
	}
	switch {
	case !a.began:
		return 2
	case errors.Is(err, core.Unavailable), errors.Is(err, core.Throttled):
		return 4
	}
	return 1
}

// patience is how long after an interrupt another is taken for the same one: a terminal's reaches us twice where `fleetpass
// store` runs us, which passes on its own.
const patience = time.Second

// interrupts makes a context that ends with the first interrupt. The second ends the program as it stands, in case what is
// under way does not listen; for that, too, another run goes on.
func interrupts() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, stop) })
	return ctx, stop
}

// hint is what to do about an error, if something can be done.
func (a *app) hint(err error) string {
	switch {
	case errors.Is(err, keys.ErrUnwrap):
		return "Signing keys open only with the key service that wrapped them: is --from-key the source's?"
	case a.writes && (errors.Is(err, core.Unavailable) || errors.Is(err, context.Canceled)):
		return "What was written so far is not in use: run the same command again to go on."
	}
	return ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "fleetpass-store",
		Short: "Move tenants between stores",
		Long: `Moves tenants between stores: the embedded one, DynamoDB, Firestore, and files.

Stores:        bolt:PATH   dynamodb:TABLE?region=REGION   firestore:PROJECT/DATABASE
Key services:  file:PATH   awskms:ARN                     gcpkms:SIGNING_KEY,MAC_KEY,SSO_KEY

Suspend the tenant first, and resume it where it arrived: a store that is in use goes on changing.
Where the tenant arrives, Fleetpass must be served under the same https://HOST: it is in every
token and in every cluster's configuration.

AWS credentials are read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN
("aws configure export-credentials --format env" prints them), Google's from the application
default credentials.`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "" && a.output != "json" {
				return fmt.Errorf("-o %s: must be json, or left out", a.output)
			}
			return nil
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "", "`json` for programs")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "do not tell the progress")
	root.AddCommand(a.copyCommand(), a.exportCommand(), a.importCommand(), a.abandonCommand())
	return root
}

// progress tells, every other second, how far it is.
func (a *app) progress(p transfer.Progress) {
	now := time.Now()
	if a.told.IsZero() {
		a.told = now
	}
	if a.quiet || now.Sub(a.told) < 2*time.Second {
		return
	}
	a.told = now
	fmt.Fprintf(a.err, "%s: round %d, %s: %d items, %s read, %d written\n", p.Tenant, p.Round, clean(p.Partition), p.Items, amount(p.Bytes), p.Written)
}

func amount(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}

// print writes v as JSON if that was asked for, and otherwise calls people.
func (a *app) print(v any, people func(w io.Writer)) error {
	if a.output != "json" {
		people(a.out)
		return nil
	}
	data, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(data, '\n'))
	return err
}

// clean makes text from elsewhere safe for a terminal: what does not print is shown as its code.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}
