package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Aliases: []string{"clusters"}, Short: "List clusters, see whether they obey, and make them"}
	c.AddCommand(a.listClustersCommand(), a.clusterStatusCommand(), a.reconcileCommand())
	return c
}

func (a *app) listClustersCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "list", Short: "List the clusters that you may see", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				list, err := clusters(ctx, client)
				if err != nil {
					return err
				}
				return a.print(list, func(w io.Writer) {
					if len(list) == 0 {
						fmt.Fprintln(w, "No clusters.")
						return
					}
					rows := [][]string{{"NAME", "ID", "MODE", "API SERVER"}}
					for _, cl := range list {
						rows = append(rows, []string{cl.Name, string(cl.UUID), cl.Mode, cl.Server})
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

func clusters(ctx context.Context, client *api.Client) ([]api.Cluster, error) {
	list := []api.Cluster{}
	for cl, err := range client.Clusters(ctx) {
		if err != nil {
			return nil, err
		}
		list = append(list, cl)
	}
	slices.SortFunc(list, func(a, b api.Cluster) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UUID, b.UUID)) })
	return list, nil
}

// status is a cluster's state with its name.
type status struct {
	Name string `json:"name"`
	api.ClusterStatus
}

func (a *app) clusterStatusCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "status [NAME]", Short: "Show how far clusters have followed the rules", Args: cobra.MaximumNArgs(1),
		Long: `Shows, per cluster, the revision of the rules that it should hold and the one that it holds, since when it is behind, and
the last error. Exits 1 if a cluster is behind.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				list, err := clusters(ctx, client)
				if err != nil {
					return err
				}
				all := []status{}
				behind := false
				for _, cl := range list {
					if len(args) == 1 && args[0] != cl.Name && args[0] != string(cl.UUID) {
						continue
					}
					s, err := client.ClusterStatus(ctx, cl.UUID)
					if err != nil {
						return fmt.Errorf("cluster %s: %w", cl.Name, err)
					}
					behind = behind || s.Phase != api.PhaseReady
					all = append(all, status{cl.Name, s})
				}
				if len(args) == 1 && len(all) == 0 {
					return fmt.Errorf("there is no cluster %q that you may see: %w", args[0], core.NotFound)
				}
				err = a.print(all, func(w io.Writer) { a.showStatus(w, all) })
				if err == nil && behind {
					err = exitCode(1)
				}
				return err
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func (a *app) reconcileCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "reconcile NAME", Short: "Have a cluster looked at in full, now", Args: cobra.ExactArgs(1),
		Long: `Has a cluster compared in full with what it should hold, now, and put right. This happens by itself from time to time;
fleetpass cluster status shows what came of it.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				list, err := clusters(ctx, client)
				if err != nil {
					return err
				}
				for _, cl := range list {
					if args[0] == cl.Name || args[0] == string(cl.UUID) {
						return client.Reconcile(ctx, cl.UUID)
					}
				}
				return fmt.Errorf("there is no cluster %q that you may see: %w", args[0], core.NotFound)
			})
		},
	}
	serverFlag(c, &server)
	return c
}

func (a *app) showStatus(w io.Writer, all []status) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No clusters.")
	}
	for _, s := range all {
		fmt.Fprintf(w, "%s %s: revision %d of %d", a.tick(s.Phase == api.PhaseReady), clean(s.Name), s.RevisionReached, s.RevisionWanted)
		if !s.BehindSince.IsZero() {
			fmt.Fprintf(w, ", behind for %s", time.Since(s.BehindSince).Round(time.Second))
		}
		fmt.Fprintln(w)
		if s.Pending > 0 {
			fmt.Fprintf(w, "    %d objects wait for something of the cluster's own, such as a namespace\n", s.Pending)
		}
		for _, line := range s.Problems {
			fmt.Fprintln(w, "   ", clean(line))
		}
		if s.LastError != "" {
			fmt.Fprintf(w, "    last error, %s ago: %s\n", time.Since(s.LastErrorAt).Round(time.Second), clean(s.LastError))
		}
		switch {
		case !s.RetryAt.IsZero() && time.Until(s.RetryAt) > 0:
			fmt.Fprintf(w, "    it is tried again in %s\n", time.Until(s.RetryAt).Round(time.Second))
		case !s.GivenUpAt.IsZero():
			fmt.Fprintf(w, "    it was given up %s ago: fleetpass sync replay %s has it tried again\n", time.Since(s.GivenUpAt).Round(time.Second), clean(s.Name))
		}
		if s.Terminal {
			fmt.Fprintln(w, "    it is not tried again by itself: this needs mending first")
		}
		if s.Bootstrap == "outdated" || s.Bootstrap == "missing" {
			fmt.Fprintf(w, "    its bootstrap manifest is %s: have its administrator apply the present one\n", s.Bootstrap)
		}
	}
}
