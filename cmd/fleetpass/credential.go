package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fleetpass/fleetpass/core"
)

// execAPI is the only version of the plugin protocol that is spoken: the one that kubeconfigs of ours name.
const execAPI = "client.authentication.k8s.io/v1"

// execCredential is both what kubectl tells a plugin, in KUBERNETES_EXEC_INFO, and what the plugin answers.
type execCredential struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Spec       execSpec    `json:"spec"`
	Status     *execStatus `json:"status,omitempty"`
}

type execSpec struct {
	Interactive bool `json:"interactive"`
}

type execStatus struct {
	ExpirationTimestamp time.Time `json:"expirationTimestamp"`
	Token               string    `json:"token"`
}

func (a *app) credentialCommand() *cobra.Command {
	var server, cluster string
	c := &cobra.Command{
		Use:   "credential",
		Short: "Print a credential for kubectl (it calls this itself)",
		Long: `kubectl and everything built on client-go calls this, as the kubeconfig of fleetpass kubeconfig says. It prints an
ExecCredential of client.authentication.k8s.io/v1 with a token for one cluster.

However many kubectl run at once, one of them renews the session and the others wait for it. Without a session it opens a
browser if kubectl has a terminal, once; else it fails with one line.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			interactive, err := a.interactive()
			if err != nil {
				return err
			}
			id := core.ClusterID(cluster)
			if got, ok := core.ScopeID(cluster).ClusterOf(); !ok || got != id {
				return core.BadField("--cluster", "must be the id of a cluster, a UUID")
			}
			within := commandWithin
			if interactive {
				within += signInWithin // another process may be waiting for its tab
			}
			ctx, cancel := context.WithTimeout(c.Context(), within)
			defer cancel()
			acc, err := a.open(server)
			if err != nil {
				return err
			}
			if interactive {
				acc.signIn, acc.once = browserSignIn(acc.say, true), true
			}
			pass, err := acc.pass(ctx, id)
			if err != nil {
				return err
			}
			data, err := json.Marshal(execCredential{
				APIVersion: execAPI, Kind: "ExecCredential", Spec: execSpec{interactive},
				Status: &execStatus{pass.Expires.UTC().Truncate(time.Second), pass.Token},
			})
			if err != nil {
				return err
			}
			_, err = a.out.Write(append(data, '\n'))
			return err
		},
	}
	serverFlag(c, &server)
	c.Flags().StringVar(&cluster, "cluster", "", "`id` of the cluster")
	_ = c.MarkFlagRequired("cluster")
	return c
}

// interactive says whether a person can be asked: what kubectl says, or, called by hand, whether there is a terminal.
func (a *app) interactive() (bool, error) {
	info := os.Getenv("KUBERNETES_EXEC_INFO")
	if info == "" {
		return term.IsTerminal(int(a.in.Fd())), nil
	}
	var told execCredential
	if err := json.Unmarshal([]byte(info), &told); err != nil || told.Kind != "ExecCredential" {
		return false, core.BadField("KUBERNETES_EXEC_INFO", "must be an ExecCredential")
	}
	if told.APIVersion != execAPI {
		return false, fmt.Errorf("the kubeconfig asks for %q; this plugin speaks %s: get a new one with `fleetpass kubeconfig`", told.APIVersion, execAPI)
	}
	return told.Spec.Interactive, nil
}
