// Command fleetpass is Fleetpass on the command line: signing in, access rules, questions about access, and the credential
// plugin that kubectl calls. Tokens are kept in files that only their owner can read (folder.go), and are renewed under
// one lock however many kubectl run at once (session.go).
//
// Exit codes and hints are chosen here and nowhere else:
//
//	0  done; of can-i: yes
//	1  failed; of can-i: no
//	2  wrong usage; of can-i also: could not be asked
//	3  the server says that you may not
//	4  the server cannot be reached, or asks to come back later
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/fleetpass/fleetpass/core"
)

func main() { os.Exit(run(os.Args[1:])) }

// app is one run of the program.
type app struct {
	in       *os.File
	out, err io.Writer
	terminal bool // standard output is one
	colour   bool
	output   string // "" for people, "json" for programs
	began    bool   // a command was found and its usage was right
}

// exitCode is an error that has been told already, or needs no telling.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: term.IsTerminal(int(os.Stdout.Fd()))}
	a.colour = a.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(a.err, "fleetpass: "+clean(err.Error()))
	if h := hint(err); h != "" {
		fmt.Fprintln(a.err, h)
	}
	switch {
	case !a.began:
		return 2
	case errors.Is(err, core.Denied):
		return 3
	case errors.Is(err, core.Unavailable), errors.Is(err, core.Throttled):
		return 4
	}
	return 1
}

// hint is what to do about an error, if something can be done.
func hint(err error) string {
	var untrusted x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.Is(err, errNotSignedIn), errors.Is(err, errNoServer):
		return "" // they say it themselves
	case errors.As(err, &untrusted):
		return "The server's certificate is signed by an authority that this machine does not know: give its PEM file with `fleetpass login --ca FILE`."
	case errors.As(err, &hostname):
		return "The server's certificate is for another name: is the URL right?"
	case errors.Is(err, core.Unauthenticated):
		return "Sign in again with `fleetpass login`."
	case errors.Is(err, core.Unavailable):
		return "Is the URL right, and the network up? `fleetpass whoami` shows which server is used."
	}
	return ""
}

// The deadlines of a run. Nothing waits for ever: kubectl, and whoever polls through it, waits for us.
const (
	commandWithin = time.Minute
	signInWithin  = 3 * time.Minute  // a person has to find the tab and type a password
	deviceWithin  = 11 * time.Minute // a person has to find another machine; the server says how long the code is good for
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "fleetpass",
		Short: "One front door for a fleet of Kubernetes clusters",
		Long: `Fleetpass signs you in once, and every cluster that you may use obeys.

  fleetpass login --server https://HOST/t/TENANT
  fleetpass kubeconfig --merge
  kubectl get pods`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "" && a.output != "json" {
				return fmt.Errorf("-o %s: must be json, or left out", a.output)
			}
			a.began = true
			return nil
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		a.loginCommand(), a.logoutCommand(), a.whoamiCommand(), a.tokenCommand(), a.kubeconfigCommand(), a.credentialCommand(),
		a.accessRuleCommand(), a.canICommand(), a.clusterCommand(), a.syncCommand(), a.ssoCommand(), a.auditCommand(), a.storeCommand(), a.versionCommand(),
	)
	return root
}

// serverFlag adds --server, which is a tenant's URL everywhere. Kubeconfigs say --tenant-url, since "server" in a
// kubeconfig is an API server.
func serverFlag(c *cobra.Command, value *string) {
	c.Flags().StringVar(value, "server", os.Getenv("FLEETPASS_SERVER"), "the tenant's `URL`, https://HOST/t/TENANT (default: the last one signed in to; $FLEETPASS_SERVER)")
	c.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "tenant-url" {
			name = "server"
		}
		return pflag.NormalizedName(name)
	})
}

func outputFlag(a *app, c *cobra.Command) {
	c.Flags().StringVarP(&a.output, "output", "o", "", "`json` for programs")
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

// clean makes text from elsewhere safe for a terminal: what does not print, such as the escape that begins a control
// sequence, is shown as its code.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == ' ' || printable(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version()
			return a.print(map[string]string{"version": v}, func(w io.Writer) { fmt.Fprintln(w, "fleetpass", v) })
		},
	}
	outputFlag(a, c)
	return c
}

// version is the module's version, as Go's own build information has it; for a build from a clone, the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
