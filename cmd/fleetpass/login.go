package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) loginCommand() *cobra.Command {
	var server, ca string
	var noBrowser, device bool
	c := &cobra.Command{
		Use:   "login",
		Short: "Sign in with a browser",
		Long: `Signs you in with your browser, and remembers the server for the commands that follow. On a machine without one, such as
a login node that you reach by SSH, --device prints a code and an address to open anywhere else.

The tokens are kept in a folder that only you can read; fleetpass logout ends the session and removes them.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.login(c.Context(), server, ca, func(acc *account) {
				if acc.signIn = browserSignIn(acc.say, !noBrowser); device {
					acc.signIn = deviceSignIn(acc.say)
				}
			})
		},
	}
	serverFlag(c, &server)
	c.Flags().StringVar(&ca, "ca", "", "PEM `file` of the authority that signed the server's certificate, if it is a private one")
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address instead of opening a browser on this machine")
	c.Flags().BoolVar(&device, "device", false, "sign in with a browser on another machine")
	c.MarkFlagsMutuallyExclusive("no-browser", "device")
	c.AddCommand(a.loginUserCommand())
	return c
}

func (a *app) loginUserCommand() *cobra.Command {
	var server, ca, email string
	var fromStdin bool
	c := &cobra.Command{
		Use:   "user",
		Short: "Sign in as a local user, with a password and no browser",
		Long: `Signs a local user in with a password, where the tenant allows it. The password is asked for and not shown. It is never
an argument, which every user of this machine could read; scripts send it with --password-stdin.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.login(c.Context(), server, ca, func(acc *account) {
				acc.signIn = func(ctx context.Context, i *api.Issuer) (api.Tokens, error) {
					email, password, err := a.askPassword(email, fromStdin)
					if err != nil {
						return api.Tokens{}, err
					}
					return i.Password(ctx, email, password)
				}
			})
		},
	}
	serverFlag(c, &server)
	c.Flags().StringVar(&ca, "ca", "", "PEM `file` of the authority that signed the server's certificate, if it is a private one")
	c.Flags().StringVarP(&email, "email", "u", "", "the local user's `e-mail` (default: asked for)")
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	return c
}

func (a *app) login(ctx context.Context, server, ca string, how func(*account)) error {
	ctx, cancel := context.WithTimeout(ctx, commandWithin+deviceWithin) // a browser on this machine has less
	defer cancel()
	acc, err := a.open(server)
	if err != nil {
		return err
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		acc.CA = string(pem)
		if err := acc.connect(); err != nil {
			return fmt.Errorf("%s holds no PEM certificate", ca)
		}
	}
	how(acc)
	i, err := api.Discover(ctx, acc.http, acc.Server)
	if err != nil {
		return err
	}
	unlock, err := acc.dir.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := acc.load()
	if err != nil {
		return err
	}
	s := &session{}
	if err := acc.enter(ctx, i, s); err != nil {
		return err
	}
	if old.Refresh != "" { // the session that this one replaces would live on, unseen
		_ = i.Revoke(ctx, old.Refresh)
	}
	if err := acc.choose(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "Signed in to %s as %s.\n", acc.Server, clean(s.Email))
	return nil
}

// askPassword gets a local user's e-mail and password, the latter without showing it.
func (a *app) askPassword(email string, fromStdin bool) (string, string, error) {
	terminal := term.IsTerminal(int(a.in.Fd()))
	lines := bufio.NewReader(io.LimitReader(a.in, 4096))
	line := func() (string, error) {
		s, err := lines.ReadString('\n')
		if err != nil && (s == "" || !errors.Is(err, io.EOF)) {
			return "", errors.New("standard input ended before the answer")
		}
		return strings.TrimRight(s, "\r\n"), nil
	}
	if email == "" {
		if !terminal {
			return "", "", errors.New("give --email: there is nobody to ask")
		}
		fmt.Fprint(a.err, "E-mail: ")
		var err error
		if email, err = line(); err != nil {
			return "", "", err
		}
	}
	if fromStdin {
		password, err := line()
		return email, password, err
	}
	if !terminal {
		return "", "", errors.New("there is nobody to ask for the password: send it with --password-stdin")
	}
	fmt.Fprintf(a.err, "Password of %s: ", clean(email))
	password, err := term.ReadPassword(int(a.in.Fd()))
	fmt.Fprintln(a.err)
	return email, string(password), err
}

func (a *app) logoutCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use:   "logout",
		Short: "End the session and remove its tokens",
		Long: `Ends the session on the server and removes its tokens from this machine. Tokens already given to kubectl
run out within minutes. The browser's own session at your identity provider is not touched.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), commandWithin)
			defer cancel()
			acc, err := a.open(server)
			if err != nil {
				return err
			}
			unlock, err := acc.dir.lock(ctx)
			if err != nil {
				return err
			}
			defer unlock()
			s, err := acc.load()
			if err != nil {
				return err
			}
			if err := acc.dir.remove("session.json"); err != nil {
				return err
			}
			if s.Refresh == "" {
				fmt.Fprintf(a.out, "Not signed in to %s.\n", acc.Server)
				return nil
			}
			i, err := api.Discover(ctx, acc.http, acc.Server)
			if err == nil {
				err = i.Revoke(ctx, s.Refresh)
			}
			if err != nil {
				return fmt.Errorf("the tokens are removed from this machine, but the server could not be told, so the session there lives until it times out: %w", err)
			}
			fmt.Fprintf(a.out, "Signed out of %s.\n", acc.Server)
			return nil
		},
	}
	serverFlag(c, &server)
	return c
}

func (a *app) tokenCommand() *cobra.Command {
	var server, cluster string
	c := &cobra.Command{
		Use:   "token",
		Short: "Print an access token, or with --cluster one for that cluster",
		Long: `Prints a token to standard output: for the Fleetpass API, or with --cluster for the API server of one cluster. It is
a secret, and good for minutes.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), commandWithin)
			defer cancel()
			acc, err := a.open(server)
			if err != nil {
				return err
			}
			if cluster == "" {
				token, err := acc.access(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.out, token)
				return nil
			}
			id, err := clusterID(ctx, acc, cluster)
			if err != nil {
				return err
			}
			pass, err := acc.pass(ctx, id)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, pass.Token)
			return nil
		},
	}
	serverFlag(c, &server)
	c.Flags().StringVar(&cluster, "cluster", "", "`name` or id of a cluster")
	return c
}

// clusterID is the id of a cluster by its name or id; an id is taken as it is, without asking.
func clusterID(ctx context.Context, acc *account, name string) (core.ClusterID, error) {
	if id, ok := core.ScopeID(name).ClusterOf(); ok && string(id) == name && strings.Count(name, "-") == 4 {
		return id, nil
	}
	p, err := findCluster(ctx, acc.client(), name)
	return core.ClusterID(p.ID), err
}

// until says a time for people, near ones by how far they are.
func until(t, now time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "never"
	case d <= 0:
		return "since " + t.Local().Format("2006-01-02 15:04")
	case d < 24*time.Hour:
		return "in " + d.Round(time.Second).String()
	}
	return t.Local().Format("2006-01-02 15:04")
}
