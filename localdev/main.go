// Localdev runs the whole of Fleetpass on one machine: `make dev` serves it, seeded, with two real clusters, until Ctrl-C;
// `make demo` tells the main story on it and ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/e2e"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "fleetpass:", err)
		stop()
		os.Exit(1)
	}
}

// flags are what the command line chooses.
type flags struct {
	dir, https, http  string
	idpHTTPS, idpHTTP string
	runtime           string
	demo, build       bool
	alone, verbose    bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var f flags
	set := flag.NewFlagSet("localdev", flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", ".dev", "folder that keeps the data, the keys and the clusters")
	set.StringVar(&f.https, "https", "127.0.0.1:8443", "address for issuers, APIs and clusters")
	set.StringVar(&f.http, "http", "127.0.0.1:8080", "address for browsers")
	set.StringVar(&f.idpHTTPS, "idp-https", "127.0.0.1:8444", "address of the identity provider, for the system")
	set.StringVar(&f.idpHTTP, "idp-http", "127.0.0.1:8081", "address of the identity provider, for browsers")
	set.StringVar(&f.runtime, "runtime", "", "what the functions run in: lambda or gcf, as built for that cloud; default: this process")
	set.BoolVar(&f.demo, "demo", false, "tell the main story on a fresh system, check every step, and end")
	set.BoolVar(&f.build, "build", false, "only build the demo clusters' programs, for the tests")
	set.BoolVar(&f.alone, "no-clusters", false, "serve without demo clusters")
	set.BoolVar(&f.verbose, "v", false, "log every request")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelInfo
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	switch {
	case f.build:
		_, err := cluster.Build(ctx, out)
		return err
	case f.demo:
		return demo(ctx, stack.Runtime(f.runtime), out)
	}
	return dev(ctx, f, out)
}

// dev serves until ctx ends. The system is up in a moment; the clusters join when they are built.
func dev(ctx context.Context, f flags, out io.Writer) error {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	runtime := stack.Runtime(f.runtime)
	if runtime != stack.InProcess { // whose store begins empty each time, so nothing else may be left from before
		dir = filepath.Join(dir, f.runtime)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	s, err := stack.New(stack.Options{Dir: dir, HTTPS: f.https, HTTP: f.http, IDPHTTPS: f.idpHTTPS, IDPHTTP: f.idpHTTP, Runtime: runtime})
	if err != nil {
		return err
	}
	defer s.Close()
	seed, err := s.Seed(ctx)
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if _, err := e2e.BuildCLI(ctx, bin); err != nil {
		return err
	}
	tour(out, s, seed, bin)
	if !f.alone {
		f, err := fleet(ctx, s, seed, dir, out)
		defer f.close()
		if err != nil {
			if ctx.Err() == nil {
				fmt.Fprintf(out, "The clusters cannot join: %v\nEverything else goes on.\n", err)
			}
		} else {
			if err := linkKubectl(f.kubectl, bin); err != nil {
				return err
			}
			fmt.Fprintf(out, "\nBoth clusters have joined. kubectl is in %s, too.\n", bin)
		}
	}
	<-ctx.Done()
	if runtime == stack.InProcess {
		fmt.Fprintln(out, "\nStopping; what you made is kept in", f.dir)
	}
	return nil
}

// linkKubectl puts the kubectl that was built with the API servers beside the command line.
func linkKubectl(kubectl, bin string) error {
	link := filepath.Join(bin, "kubectl")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(kubectl, link)
}

func tour(out io.Writer, s *stack.Stack, seed stack.Seed, bin string) {
	fmt.Fprintf(out, `
Fleetpass is up.

  In a browser    %[1]s/t/%[2]s/
  Issuer          %[3]s

  %-18[4]s  %[5]s   administrator
  %-18[6]s  %[7]s   researcher, in group %[8]s
  %-18[9]s  %[10]s   researcher, in group %[8]s

  %-18[16]s  %[17]s   signs in at the identity provider, by SAML
  %-18[18]s  %[19]s   signs in at the identity provider, by OpenID Connect

  The operator, who makes tenants: %[14]s  %[15]s  at %[1]s/t/system/
  The identity provider, which can misbehave on demand: %[20]s/

In another terminal, as the researcher:

  export PATH=%[11]s:$PATH
  fleetpass login --server %[3]s --ca %[12]s
  fleetpass whoami
  fleetpass kubeconfig --merge            # once the clusters below have joined
  kubectl --context gpu-east auth whoami
  kubectl --context gpu-east create job train --image=train -n %[13]s     # Forbidden

In a third, as the administrator (FLEETPASS_CONFIG_DIR keeps the two apart):

  export PATH=%[11]s:$PATH FLEETPASS_CONFIG_DIR=$HOME/.fleetpass-admin
  fleetpass login --server %[3]s --ca %[12]s
  fleetpass access-rule create --user %[6]s --role "L1 researcher" --project team-a

and the Job is allowed a moment later, until you delete the rule. To see why somebody cannot sign in, have the provider misbehave:

  fleetpass sso test corp

Ctrl-C ends all of it.

`, s.BrowserBase, seed.Tenant, s.OAuth.Issuer(seed.Tenant), seed.Admin.Email, seed.Admin.Password, seed.Researcher.Email, seed.Researcher.Password,
		seed.Group, seed.Colleague.Email, seed.Colleague.Password, bin, s.CAFile, stack.Namespace("team-a"), seed.Operator.Email, seed.Operator.Password,
		seed.Federated[0].Email, seed.Federated[0].Password, seed.Federated[1].Email, seed.Federated[1].Password, s.IDP.Pages())
}

// demo tells the story on a system of its own, which leaves nothing behind.
func demo(ctx context.Context, runtime stack.Runtime, out io.Writer) error {
	start := time.Now()
	dir, err := os.MkdirTemp("", "fleetpass-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stack.New(stack.Options{Dir: dir, Runtime: runtime})
	if err != nil {
		return err
	}
	defer s.Close()
	seed, err := s.Seed(ctx)
	if err != nil {
		return err
	}
	cli, err := e2e.BuildCLI(ctx, dir)
	if err != nil {
		return err
	}
	f, err := fleet(ctx, s, seed, dir, out)
	defer f.close()
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	figures, err := e2e.Story(ctx, e2e.Fleet{System: s, Seed: seed, East: f.clusters[0], West: f.clusters[1],
		Tools: e2e.Tools{Fleetpass: cli, Kubectl: f.kubectl}, Dir: dir}, out)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nEvery step held, in %v. From typing the command to its effect on the API server: grant %d ms, revoke %d ms.\n",
		time.Since(start).Round(100*time.Millisecond), figures.Grant.Milliseconds(), figures.Revoke.Milliseconds())
	return nil
}

// running is the demo clusters, in the order of the seed.
type running struct {
	clusters []*cluster.Cluster
	kubectl  string
}

func (r *running) close() {
	var all sync.WaitGroup
	for _, c := range r.clusters {
		if c != nil {
			all.Go(c.Close)
		}
	}
	all.Wait()
}

// fleet builds what the clusters run, starts them, and has them join.
func fleet(ctx context.Context, s *stack.Stack, seed stack.Seed, dir string, out io.Writer) (*running, error) {
	r := &running{clusters: make([]*cluster.Cluster, len(seed.Clusters))}
	bin, err := cluster.Build(ctx, out)
	if err != nil {
		return r, err
	}
	r.kubectl = bin.Kubectl
	errs := make([]error, len(seed.Clusters))
	var all sync.WaitGroup
	for i, c := range seed.Clusters {
		all.Go(func() {
			start := time.Now()
			if r.clusters[i], errs[i] = join(ctx, s, seed, c, filepath.Join(dir, c.Name), &bin); errs[i] == nil {
				fmt.Fprintf(out, "%s joined: %s, %v\n", c.Name, r.clusters[i].URL(), time.Since(start).Round(100*time.Millisecond))
			}
		})
	}
	all.Wait()
	return r, errors.Join(errs...)
}

func join(ctx context.Context, s *stack.Stack, seed stack.Seed, c stack.Cluster, dir string, bin *cluster.Binaries) (*cluster.Cluster, error) {
	conf, err := s.Authentication(seed.Tenant, c.ID)
	if err != nil {
		return nil, err
	}
	api, err := cluster.Start(ctx, cluster.Options{Name: c.Name, Dir: dir, AuthenticationConfig: conf, Binaries: bin})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := s.Join(ctx, seed.Tenant, c.ID, api); err != nil {
		return api, fmt.Errorf("%s: %w", c.Name, err)
	}
	return api, nil
}
