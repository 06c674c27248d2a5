package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) syncCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sync", Short: "See what was given up on the way to the clusters, and have it tried again",
		Long: `What changes goes to the clusters by itself. What fails is tried again for half an hour and longer, with growing pauses,
and ends as a dead letter with its reason: a cluster that was given up, or an event that could not be read. The timer tries
such a cluster again all the same, and its dead letter goes when it is in line.`,
	}
	c.AddCommand(a.deadLettersCommand(), a.replayCommand())
	return c
}

// deadLetter is a dead letter with its cluster's name.
type deadLetter struct {
	api.DeadLetter
	Cluster string `json:"cluster,omitempty"`
}

func (a *app) deadLettersCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "dead", Short: "List what was given up, and why", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				all, err := deadLetters(ctx, client)
				if err != nil {
					return err
				}
				return a.print(all, func(w io.Writer) {
					if len(all) == 0 {
						fmt.Fprintln(w, "Nothing was given up.")
						return
					}
					rows := [][]string{{"ID", "KIND", "CLUSTER", "TRIES", "FIRST", "LAST", "REASON"}}
					for _, d := range all {
						rows = append(rows, []string{d.ID, string(d.Kind), d.Cluster, strconv.Itoa(d.Tries), ago(d.FirstAt), ago(d.LastAt), d.Reason})
					}
					table(w, rows)
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func deadLetters(ctx context.Context, client *api.Client) ([]deadLetter, error) {
	all := []deadLetter{}
	for d, err := range client.DeadLetters(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, deadLetter{DeadLetter: d})
	}
	if len(all) == 0 {
		return all, nil
	}
	list, err := clusters(ctx, client)
	if err != nil {
		return nil, err
	}
	names := map[core.ClusterID]string{}
	for _, cl := range list {
		names[cl.UUID] = cl.Name
	}
	for i := range all {
		all[i].Cluster = names[all[i].ClusterID]
	}
	return all, nil
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() + " ago" }

func (a *app) replayCommand() *cobra.Command {
	var server string
	var all bool
	c := &cobra.Command{
		Use: "replay ID... | --all", Short: "Have it tried again, as if for the first time",
		Long: `Has dead letters tried again, as if for the first time, after what they failed for was mended: those named, by the id
that fleetpass sync dead shows or the cluster's name, or all that can be. What fails once more comes back.`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return core.BadField("ID or --all", "must say which, and only one of the two ways")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				if all {
					return a.replayAll(ctx, client)
				}
				return a.replay(ctx, client, args)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all that can be tried again")
	serverFlag(c, &server)
	return c
}

func (a *app) replay(ctx context.Context, client *api.Client, names []string) error {
	known, err := deadLetters(ctx, client)
	if err != nil {
		return err
	}
	var ids []string
	for _, name := range names { // all are found before any is replayed
		before := len(ids)
		for _, d := range known {
			if name == d.ID || name == d.Cluster && name != "" {
				ids = append(ids, d.ID)
			}
		}
		if len(ids) == before {
			return fmt.Errorf("there is no dead letter %q that you may see: %w", name, core.NotFound)
		}
	}
	for _, id := range ids {
		if err := client.ReplayDeadLetter(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Fprintf(a.out, "%s is tried again.\n", clean(id))
	}
	return nil
}

// replayAll asks until nothing is left. What fails again at once comes back at once, so it ends when there are not fewer.
func (a *app) replayAll(ctx context.Context, client *api.Client) error {
	n, left := 0, -1
	for {
		done, err := client.ReplayDeadLetters(ctx)
		if err != nil {
			return err
		}
		for _, id := range done.Replayed {
			fmt.Fprintf(a.out, "%s is tried again.\n", clean(id))
		}
		n += len(done.Replayed)
		if done.Left == 0 || len(done.Replayed) == 0 || left >= 0 && done.Left >= left {
			break
		}
		left = done.Left
	}
	if n == 0 {
		fmt.Fprintln(a.out, "There is nothing to try again.")
	}
	return nil
}
