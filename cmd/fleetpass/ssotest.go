package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) testSSOCommand() *cobra.Command {
	var server string
	var noBrowser bool
	var within time.Duration
	c := &cobra.Command{
		Use: "test ALIAS", Short: "Sign in at an identity provider without changing anything, and see each check", Args: cobra.ExactArgs(1),
		Long: `Opens a link that works once, waits until somebody has signed in there, and prints what was checked: what was found, what
was expected, what to do about it, and who the person would be here. Nothing is changed: nobody is made, nobody signed in.
Exits 1 if the sign-in would be refused.`,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), commandWithin+within)
			defer cancel()
			acc, err := a.open(server)
			if err != nil {
				return err
			}
			client := acc.client()
			link, err := client.TestIdP(ctx, args[0])
			if err != nil {
				return err
			}
			if u, err := url.Parse(link.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" {
				return errors.New("the server's answer has no link that a browser could open")
			}
			if !noBrowser && openBrowser(link.URL) == nil {
				acc.say("Your browser is opening. If it does not, open this address, which works once:\n\n  %s\n", link.URL)
			} else {
				acc.say("Open this address in a browser; it works once:\n\n  %s\n", link.URL)
			}
			t, err := a.await(ctx, acc, client, link, within)
			if err != nil {
				return err
			}
			err = a.print(t, func(w io.Writer) {
				a.showTrace(w, t)
				fmt.Fprintf(w, "\nfleetpass sso trace %s shows what was sent and received.\n", clean(t.ID))
			})
			if err == nil && t.Outcome != "tested" {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address instead of opening a browser")
	c.Flags().DurationVar(&within, "within", signInWithin, "how long to wait for somebody to sign in")
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

// pollEvery is the pause between two looks at a trace.
const pollEvery = 500 * time.Millisecond

// await looks at the trace of a test until it is over. A server that does not answer for once is asked again.
func (a *app) await(ctx context.Context, acc *account, client *api.Client, link api.IdPTest, within time.Duration) (api.Trace, error) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	was := ""
	for {
		t, err := client.Trace(ctx, link.Trace)
		switch {
		case errors.Is(err, core.Unavailable) || errors.Is(err, core.Throttled):
		case err != nil:
			return t, err
		case t.Outcome != "started" && t.Outcome != "verified":
			return t, nil
		case t.Outcome != was:
			if was = t.Outcome; was == "started" {
				acc.say("Waiting for somebody to sign in …")
			} else {
				acc.say("The provider has answered; waiting for the browser …")
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return t, fmt.Errorf("nobody finished the test within %s: `fleetpass sso trace %s` shows how far it got", within, link.Trace)
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

func (a *app) tracesCommand() *cobra.Command {
	var server string
	var limit int
	c := &cobra.Command{
		Use: "traces", Short: "List the sign-ins at identity providers, the newest first", Args: cobra.NoArgs,
		Long: `Lists the attempts to sign in at identity providers of the last week, the newest first: who, where, and what became of it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return core.BadField("--limit", "must be 1 to 10000")
			}
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				all := []api.TraceSummary{}
				for cursor := ""; len(all) < limit; {
					page, err := client.Traces(ctx, min(limit-len(all), api.MaxLimit), cursor)
					if err != nil {
						return err
					}
					all = append(all, page.Traces...)
					if cursor = page.Next; cursor == "" {
						break
					}
				}
				return a.print(all, func(w io.Writer) {
					if len(all) == 0 {
						fmt.Fprintln(w, "Nobody signed in at an identity provider within the last week.")
						return
					}
					rows := [][]string{{"ID", "WHEN", "PROVIDER", "WHO", "OUTCOME", "FAILED CHECK"}}
					for _, t := range all {
						rows = append(rows, []string{t.ID, ago(t.At), t.Alias, string(t.Email), outcome(t), t.Failure})
					}
					table(w, rows)
				})
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", api.DefaultLimit, "how `many` at most")
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func outcome(t api.TraceSummary) string {
	if t.Test && t.Outcome != "tested" {
		return t.Outcome + " (test)"
	}
	return t.Outcome
}

func (a *app) traceCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "trace ID", Short: "Show what was checked of one sign-in, and what was sent and received", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				t, err := client.Trace(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) {
					a.showTrace(w, t)
					for _, part := range []struct{ title, text string }{{"Sent", t.Sent}, {"Received", t.Received}} {
						if part.text != "" {
							fmt.Fprintf(w, "\n%s:\n  %s\n", part.title, strings.ReplaceAll(clean(strings.TrimRight(part.text, "\n")), "\n", "\n  "))
						}
					}
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

// mark is how a check came out: a sign on a terminal, a word elsewhere.
func (a *app) mark(result string) string {
	switch {
	case result == "passed" && a.terminal:
		return a.tick(true)
	case result == "failed" && a.terminal:
		return a.tick(false)
	case result == "passed":
		return "ok    "
	case result == "failed":
		return "FAILED"
	case a.colour:
		return "\x1b[33m!\x1b[0m"
	case a.terminal:
		return "!"
	}
	return "note  "
}

// showTrace writes the checks of a sign-in, and who the person is.
func (a *app) showTrace(w io.Writer, t api.Trace) {
	said := map[string]string{
		"tested": "it would have succeeded", "signed-in": "somebody signed in", "refused": "it was refused",
		"started": "nobody has come back from the provider", "verified": "the provider's answer holds; the browser has not come to the end",
	}[t.Outcome]
	what := "Sign-in"
	if t.Test {
		what = "Test sign-in"
	}
	fmt.Fprintf(w, "%s at %s (%s), %s: %s.\n\n", what, clean(t.Alias), t.Type, ago(t.At), orElse(said, clean(t.Outcome)))
	for _, c := range t.Checks {
		fmt.Fprintf(w, "%s %-20s %s\n", a.mark(c.Result), clean(c.Name), inline(c.Found))
		if c.Result == "failed" && c.Expected != "" {
			fmt.Fprintf(w, "       %-20s expected: %s\n", "", inline(c.Expected))
		}
		if c.Result != "passed" && c.Fix != "" {
			fmt.Fprintf(w, "       %-20s fix: %s\n", "", inline(c.Fix))
		}
	}
	id := t.Identity
	if id == nil {
		return
	}
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	var groups, more []string
	for _, g := range id.Groups {
		groups = append(groups, string(g))
	}
	for _, n := range id.SupplementaryGroups {
		more = append(more, strconv.FormatInt(n, 10))
	}
	fmt.Fprintln(w)
	table(w, [][]string{
		{"e-mail", string(id.Email)}, {"name", strings.TrimSpace(id.FirstName + " " + id.LastName)}, {"groups", strings.Join(groups, ", ")},
		{"UID", number(id.UID)}, {"GID", number(id.GID)}, {"supplementary groups", strings.Join(more, ", ")},
	})
}

// inline is a text from elsewhere in one line.
func inline(s string) string { return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(clean(s)) }
